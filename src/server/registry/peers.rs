//! What one core has to say to each of the others, and how far each has followed.
//!
//! Items gather in batches, one or more parcels to each peer and turn. A peer that does not keep up is *behind*: no
//! further deltas are sent to it, the shards that changed are noted, and once it has room again it gets a snapshot of
//! each of them in place of what it missed.
//! Not here: rings and outboxes. Invariant: items to one peer leave in the order in which they were said, so an answer
//! comes behind the deltas of the write it answers.

use super::item::{Item, Writer};
use crate::ids::{CoreId, ShardId};
use crate::limits::{PARCEL_SLOTS_MAX, REGISTRY_BATCH_BYTES_MAX, RING_SLOT_BYTES};
use crate::shard::registry::{Admission, Delta, Nanos, RegistryShard};

/// Bytes after which a batch is closed: with its header it fits the slots of one parcel, so it needs no lease.
const BATCH_BYTES: usize = PARCEL_SLOTS_MAX * RING_SLOT_BYTES - 128;
/// Batches that a peer gets in snapshots in one turn.
const SNAPSHOTS_PER_TURN: usize = 16;

/// One other core, or the control thread.
#[derive(Default)]
pub(super) struct Peer {
    /// Keeps a replica that has to follow.
    pub live: bool,
    batches: Vec<Vec<u8>>,
    bytes: usize,
    /// Deltas were said since the last version.
    told: bool,
    /// Its outbox took no more.
    jammed: bool,
    /// Shards it has missed changes of; no deltas are sent while there are any.
    behind: Vec<ShardId>,
    /// It is owed a welcome once it is not behind any more.
    greeted: bool,
    /// The version it has applied.
    pub applied: u64,
    lags_since: Option<Nanos>,
}

impl Peer {
    /// Says something.
    pub(super) fn say(&mut self, item: &Item<'_>) {
        if self.batches.last().is_none_or(|batch| batch.len() >= BATCH_BYTES) {
            self.batches.push(Vec::with_capacity(256));
        }
        let Some(batch) = self.batches.last_mut() else { return };
        let before = batch.len();
        Writer(batch).item(item);
        let after = batch.len();
        // An item that makes a batch too long for its slots goes in one of its own.
        if after > BATCH_BYTES && before > 0 {
            let own = batch.split_off(before);
            self.batches.push(own);
        }
        self.bytes += after - before;
    }

    /// Tells of a change of a shard, if the peer follows and keeps up.
    pub(super) fn tell(&mut self, shard: ShardId, delta: Delta) {
        if !self.live {
            return;
        }
        if self.is_behind() || self.jammed || self.bytes > REGISTRY_BATCH_BYTES_MAX {
            return self.miss(shard);
        }
        self.told = true;
        self.say(&Item::Delta(delta));
    }

    fn miss(&mut self, shard: ShardId) {
        if !self.behind.contains(&shard) {
            self.behind.push(shard);
        }
    }

    /// Whether it is to get snapshots first.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty() || self.greeted
    }

    /// It has begun a life and knows nothing.
    pub(super) fn greet(&mut self, shards: impl Iterator<Item = ShardId>) {
        (self.live, self.greeted) = (true, true);
        self.behind.clear();
        self.behind.extend(shards);
    }

    /// It is gone; what was to be said falls.
    pub(super) fn lose(&mut self) {
        *self = Peer::default();
    }

    /// Whether there is something to say, or owed.
    pub(super) fn has_mail(&self, has_room: impl FnOnce() -> bool) -> bool {
        !self.batches.is_empty() || (self.is_behind() && has_room())
    }

    /// It has applied everything up to a version.
    pub(super) fn followed(&mut self, applied: u64, version: u64) {
        self.applied = applied;
        if applied >= version {
            self.lags_since = None;
        }
    }

    /// How long the oldest change waits that it has not applied.
    pub(super) fn age(&self, now: Nanos) -> Option<Nanos> {
        self.lags_since.map(|since| now.saturating_sub(since))
    }

    /// Hands over what was said in this turn, with what is owed to a peer that was behind.
    pub(super) fn flush(
        &mut self,
        now: Nanos,
        version: u64,
        admission: Admission,
        shard: impl Fn(ShardId) -> Option<usize>,
        shards: &[RegistryShard],
        mut send: impl FnMut(Vec<u8>) -> bool,
    ) {
        if self.is_behind() && !self.jammed {
            let owed = self.behind.len().min(SNAPSHOTS_PER_TURN);
            for id in self.behind.drain(..owed).collect::<Vec<_>>() {
                self.say(&Item::Begin(id));
                if let Some(shard) = shard(id).and_then(|place| shards.get(place)) {
                    shard.snapshot(&mut |delta| self.say(&Item::Delta(delta)));
                }
                self.say(&Item::Whole(id));
                self.told = true;
            }
            if self.behind.is_empty() && std::mem::take(&mut self.greeted) {
                self.say(&Item::Welcome(admission));
                self.told = true;
            }
        }
        if self.told || self.is_behind() {
            self.lags_since.get_or_insert(now);
        }
        if self.told && !self.is_behind() {
            self.told = false;
            self.say(&Item::Version(version));
        }
        self.bytes = 0;
        let mut room = true;
        for batch in self.batches.drain(..) {
            room = send(batch);
        }
        self.jammed = !room;
    }

    /// Its outbox has room again, or has not.
    pub(super) fn set_jammed(&mut self, jammed: bool) {
        self.jammed = jammed;
    }

    /// Whether its outbox took no more.
    pub(super) fn is_jammed(&self) -> bool {
        self.jammed
    }
}

/// The set of cores as bits.
pub(super) fn bit(core: CoreId) -> u64 {
    if core.0 < 64 { 1 << core.0 } else { 0 }
}
