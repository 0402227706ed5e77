//! What is registered: entries in slots, found by key and by owner.
//!
//! Not here: bindings. Invariant: an entry stands in one slot, once in the index and once in its owner's list.

use hashbrown::HashTable;

use super::names::{Key, Kind};
use crate::ids::{ConnectionId, CoreId};

/// Who stands behind an entry: a connection, or whatever else a core or the control thread lets own entries. Messages
/// for the entry go there, and with it the entry goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Owner {
    /// The core that holds it; the number after the last core's means the control thread.
    pub core: CoreId,
    /// Index in that core's table of owners.
    pub slot: u32,
    /// Counts the slot's tenants.
    pub generation: u32,
}

impl Owner {
    /// The first and last that a core could hold, to look through all of them.
    pub fn all_of(core: CoreId) -> std::ops::RangeInclusive<Owner> {
        Owner { core, slot: 0, generation: 0 }..=Owner { core, slot: u32::MAX, generation: u32::MAX }
    }
}

impl Owner {
    /// Bits for a table of owners. Slots and generations are numbers that cores count up, so that nobody can aim them.
    fn spread(self) -> u64 {
        let numbers = u64::from(self.slot) | u64::from(self.core.0) << 32 | u64::from(self.generation) << 40;
        numbers.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26)
    }
}

impl From<(CoreId, ConnectionId)> for Owner {
    fn from((core, connection): (CoreId, ConnectionId)) -> Owner {
        Owner { core, slot: connection.slot, generation: connection.generation }
    }
}

/// A server or transport.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(super) key: Key,
    pub(super) owner: Owner,
    /// Name and configuration, one behind the other: one allocation.
    text: Box<[u8]>,
    name_bytes: u16,
    pub(super) kind: Kind,
    /// Its neighbours among its owner's entries, by slot: to take one out costs the same however many there are.
    before: u32,
    after: u32,
}

/// No slot: the end of a list.
const NONE: u32 = u32::MAX;

impl Entry {
    pub(super) fn new(kind: Kind, key: Key, name: &str, config: &[u8], owner: Owner) -> Entry {
        let mut text = Vec::with_capacity(name.len() + config.len());
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(config);
        let (text, name_bytes) = (text.into_boxed_slice(), name.len() as u16);
        Entry { key, owner, text, name_bytes, kind, before: NONE, after: NONE }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        // It was a `str` when the entry was made.
        std::str::from_utf8(&self.text[..usize::from(self.name_bytes)]).unwrap_or_default()
    }

    /// What was given with it.
    pub fn config(&self) -> &[u8] {
        &self.text[usize::from(self.name_bytes)..]
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its key.
    pub fn key(&self) -> Key {
        self.key
    }
}

/// All entries of a shard.
#[derive(Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    index: HashTable<u32>,
    /// Each owner that has something here, and the slot of what it registered last.
    owners: HashTable<(Owner, u32)>,
    counts: [usize; 2],
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize]
    }

    pub(super) fn get(&self, key: Key) -> Option<&Entry> {
        let slot = self.index.find(key.spread(), |&slot| self.is(slot, key))?;
        self.slots[*slot as usize].as_ref()
    }

    /// Takes an entry in; false if its key is taken.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let key = entry.key;
        if self.get(key).is_some() {
            return false;
        }
        let slot = self.vacant.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                // By a quarter: doubling would leave half of the memory unused.
                self.slots.reserve_exact(self.slots.len() / 4 + 8);
            }
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.counts[entry.kind as usize] += 1;
        self.slots[slot as usize] = Some(entry);
        self.link(slot);
        let slots = &self.slots;
        let spread = |&slot: &u32| slots[slot as usize].as_ref().map_or(0, |entry| entry.key.spread());
        self.index.insert_unique(key.spread(), slot, spread);
        true
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        let Self { slots, index, .. } = self;
        let is = |&slot: &u32| slots[slot as usize].as_ref().is_some_and(|entry| entry.key == key);
        let (slot, _) = index.find_entry(key.spread(), is).ok()?.remove();
        let entry = self.slots[slot as usize].take()?;
        self.vacant.push(slot);
        self.unlink(&entry, slot);
        self.counts[entry.kind as usize] -= 1;
        Some(entry)
    }

    /// Puts an entry at the head of its owner's list.
    fn link(&mut self, slot: u32) {
        let Some(entry) = &mut self.slots[slot as usize] else { return };
        let owner = entry.owner;
        match self.owners.find_mut(owner.spread(), |(known, _)| *known == owner) {
            None => drop(self.owners.insert_unique(owner.spread(), (owner, slot), |(owner, _)| owner.spread())),
            Some((_, head)) => {
                entry.after = std::mem::replace(head, slot);
                let after = entry.after;
                if let Some(after) = &mut self.slots[after as usize] {
                    after.before = slot;
                }
            }
        }
    }

    /// Takes an entry, which has left its slot, out of its owner's list.
    fn unlink(&mut self, entry: &Entry, slot: u32) {
        if let Some(after) = self.slots.get_mut(entry.after as usize).and_then(Option::as_mut) {
            after.before = entry.before;
        }
        if let Some(before) = self.slots.get_mut(entry.before as usize).and_then(Option::as_mut) {
            before.after = entry.after;
            return;
        }
        let owner = entry.owner;
        let known = self.owners.find_entry(owner.spread(), |known| *known == (owner, slot));
        let Ok(mut head) = known else { return };
        match entry.after {
            NONE => {
                head.remove();
            }
            after => head.get_mut().1 = after,
        }
    }

    /// The keys of what these owners have. For one it costs what it has; for more, all that have anything are asked.
    pub(super) fn of_owners(&self, owners: std::ops::RangeInclusive<Owner>) -> Vec<Key> {
        let (mut keys, first) = (Vec::new(), *owners.start());
        let mut gather = |mut slot: u32| {
            while let Some(entry) = self.slots.get(slot as usize).and_then(Option::as_ref) {
                keys.push(entry.key);
                slot = entry.after;
            }
        };
        if first == *owners.end() {
            let known = self.owners.find(first.spread(), |(known, _)| *known == first);
            known.into_iter().for_each(|&(_, head)| gather(head));
        } else {
            self.owners.iter().filter(|(owner, _)| owners.contains(owner)).for_each(|&(_, head)| gather(head));
        }
        keys
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    fn is(&self, slot: u32, key: Key) -> bool {
        self.slots[slot as usize].as_ref().is_some_and(|entry| entry.key == key)
    }
}
