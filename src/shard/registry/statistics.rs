//! What an operator is shown of one shard.
//!
//! Not here: adding shards up. Invariant: plain values, read at one moment.

use super::Nanos;
use crate::ids::ShardId;

/// One shard, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardStatistics {
    /// Which.
    pub shard: ShardId,
    /// Servers registered.
    pub servers: u32,
    /// Transports registered.
    pub transports: u32,
    /// Transports bound.
    pub bindings: u32,
    /// Writes since the start or the last reset.
    pub writes: u64,
    /// Writes refused since the start or the last reset.
    pub refused: u64,
    /// How many of the last writes the latencies are of.
    pub samples: u32,
    /// Their mean.
    pub mean_ns: Nanos,
    /// The shortest of them.
    pub least_ns: Nanos,
    /// The longest of them.
    pub most_ns: Nanos,
    /// Writes are slow.
    pub alarmed: bool,
}
