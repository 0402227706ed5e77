//! What every core knows of every entry: to whom messages for it go. 24 bytes each, kept up to date by deltas.
//!
//! Not here: names and configurations, which exist once, with the shard that owns the entry; how deltas travel.
//! Invariant: for each shard, a replica is what the shard was at the version it names: deltas are applied in the order
//! in which they were made, and a snapshot replaces all of its shard.

use super::entry::Owner;
use super::names::{Key, Kind};
use super::probed::{Keyed, Probed};
use crate::ids::ShardId;

/// One entry, as all cores know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Stands for its kind and name.
    pub key: Key,
    slot: u32,
    generation: u32,
    core: u16,
    /// Server or transport.
    pub kind: Kind,
}

/// One binding, as all cores know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tie {
    /// The transport.
    pub transport: Key,
    /// Its server.
    pub server: Key,
}

const _: () = assert!(size_of::<Record>() == 24 && size_of::<Tie>() == 24);

impl Record {
    /// A record of an entry.
    pub fn new(kind: Kind, key: Key, owner: Owner) -> Record {
        Record { key, slot: owner.slot, generation: owner.generation, core: owner.core.0, kind }
    }

    /// Where its messages go.
    pub fn owner(&self) -> Owner {
        Owner { core: crate::ids::CoreId(self.core), slot: self.slot, generation: self.generation }
    }
}

impl Keyed for Record {
    #[inline]
    fn key(&self) -> Key {
        self.key
    }

    const VACANT: Record = Record { key: Key::MOST, slot: 0, generation: 0, core: 0, kind: Kind::Server };
}

impl Keyed for Tie {
    #[inline]
    fn key(&self) -> Key {
        self.transport
    }

    const VACANT: Tie = Tie { transport: Key::MOST, server: Key::MOST };
}

/// A change, as it is told to the other cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delta {
    /// A transport is bound, in place of what it was bound to before.
    Bound(Tie),
    /// An entry is gone.
    Gone(Kind, Key),
    /// An entry is new.
    New(Record),
    /// A transport is bound no more.
    Unbound(Key),
}

#[derive(Default)]
struct Table {
    records: Probed<Record>,
    ties: Probed<Tie>,
}

/// One core's knowledge of all shards.
pub struct Replica {
    tables: Box<[Table]>,
    /// Snapshots that have begun: deltas of their shards go there until they are whole.
    begun: Vec<(ShardId, Table)>,
    known: usize,
}

impl Replica {
    /// Knows nothing yet of so many shards.
    pub fn new(shards: usize) -> Replica {
        Replica { tables: (0..shards).map(|_| Table::default()).collect(), begun: Vec::new(), known: 0 }
    }

    /// How many entries it knows.
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The owner of what is registered under this key.
    #[inline]
    pub fn find(&self, key: Key) -> Option<Owner> {
        let table = &self.tables[key.shard(self.tables.len()).index()];
        table.records.find(key).map(Record::owner)
    }

    /// The server a transport is bound to.
    #[inline]
    pub fn server_of(&self, transport: Key) -> Option<Key> {
        let table = &self.tables[transport.shard(self.tables.len()).index()];
        table.ties.find(transport).map(|tie| tie.server)
    }

    /// Applies a change.
    pub fn apply(&mut self, delta: Delta) {
        let key = match delta {
            Delta::Bound(tie) => tie.transport,
            Delta::Gone(_, key) | Delta::Unbound(key) => key,
            Delta::New(record) => record.key,
        };
        let shard = key.shard(self.tables.len());
        match self.begun.iter_mut().find(|(begun, _)| *begun == shard) {
            Some((_, table)) => table.apply(delta),
            None => {
                let table = &mut self.tables[shard.index()];
                let before = table.records.len();
                table.apply(delta);
                self.known = self.known + table.records.len() - before;
            }
        }
    }

    /// A snapshot of a shard begins: until it is whole, what was known is known.
    pub fn begin(&mut self, shard: ShardId) {
        self.begun.retain(|(begun, _)| *begun != shard);
        if shard.index() < self.tables.len() {
            self.begun.push((shard, Table::default()));
        }
    }

    /// A snapshot is whole. The servers that it does not know any more are handed out.
    pub fn complete(&mut self, shard: ShardId) -> Vec<Key> {
        let Some(place) = self.begun.iter().position(|(begun, _)| *begun == shard) else { return Vec::new() };
        let (_, table) = self.begun.swap_remove(place);
        let before = std::mem::replace(&mut self.tables[shard.index()], table);
        let known = &self.tables[shard.index()];
        self.known = self.known + known.records.len() - before.records.len();
        before.servers().filter(|&server| known.records.find(server).is_none()).collect()
    }

    /// Forgets a shard: its owner died. The servers it knew there are handed out.
    pub fn forget(&mut self, shard: ShardId) -> Vec<Key> {
        self.begin(shard);
        self.complete(shard)
    }
}

impl Table {
    fn servers(&self) -> impl Iterator<Item = Key> {
        self.records.iter().filter(|record| record.kind == Kind::Server).map(|record| record.key)
    }

    fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Bound(tie) => self.ties.insert(tie),
            Delta::Gone(_, key) => self.records.remove(key),
            Delta::New(record) => self.records.insert(record),
            Delta::Unbound(transport) => self.ties.remove(transport),
        }
    }
}
