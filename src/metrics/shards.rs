//! What one core counts for each shard that it owns: sessions, the connections they come by, their messages, what they
//! wait for.
//!
//! Not calls of 2026-07-28, which belong to no session and so to no shard.
//! Invariant: as for all cells the owning core alone writes; a line of memory holds shards of one core only.

use super::cells::{Counter, Gauge};
use crate::ids::ShardId;

/// Shards in one pair of cache lines.
const PER_LINE: usize = 4;

/// Everything that is counted for one shard.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Legacy sessions that live in it now.
    pub sessions: Gauge,
    /// Connections of its core that used one of its sessions last.
    pub connections: Gauge,
    /// JSON-RPC messages that came for them.
    pub messages: Counter,
    /// Their calls that wait for an outcome: the shard's queue.
    pub queue_depth: Gauge,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([ShardMetrics; PER_LINE]);

/// The metrics of one core's shards, a contiguous range.
#[derive(Debug, Default)]
pub(super) struct OwnShards {
    first: u16,
    count: u16,
    lines: Box<[Line]>,
}

impl OwnShards {
    /// Those of `count` shards from `first` on, all zero.
    pub(super) fn new(first: u16, count: u16) -> OwnShards {
        let lines = usize::from(count).div_ceil(PER_LINE);
        OwnShards { first, count, lines: std::iter::repeat_with(Line::default).take(lines).collect() }
    }

    /// Those of one shard, if it is one of these.
    #[inline]
    pub(super) fn get(&self, shard: ShardId) -> Option<&ShardMetrics> {
        let place = usize::from(shard.0.checked_sub(self.first)?);
        Some(&self.lines.get(place / PER_LINE)?.0[place % PER_LINE])
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ShardId, &ShardMetrics)> {
        let cells = self.lines.iter().flat_map(|line| &line.0).take(usize::from(self.count));
        (self.first..).map(ShardId).zip(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_its_own_cells_and_cores_share_no_line() {
        let own = OwnShards::new(5, 6);
        for (count, shard) in (5..11).enumerate() {
            own.get(ShardId(shard)).expect("owned").messages.add(count as u64 + 1);
        }
        assert!(own.get(ShardId(4)).is_none() && own.get(ShardId(13)).is_none());
        let seen: Vec<_> = own.iter().map(|(shard, cells)| (shard.0, cells.messages.get())).collect();
        assert_eq!(seen, [(5, 1), (6, 2), (7, 3), (8, 4), (9, 5), (10, 6)]);
        assert_eq!((align_of::<Line>(), size_of::<Line>()), (128, 128));
        assert_eq!(OwnShards::default().iter().count(), 0);
    }
}
