//! Which server a transport is bound to, for the transports of one shard.
//!
//! Not here: whether the server exists; it may live in another shard, and the replica knows. Invariant: a transport is
//! bound to one server or none, and found again from the server's side.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use super::names::Key;

struct Binding {
    transport: Key,
    server: Key,
    server_name: Box<str>,
}

/// The bindings of a shard's transports.
#[derive(Default)]
pub(super) struct Bindings {
    servers: HashTable<Binding>,
    transports: BTreeSet<(Key, Key)>,
}

impl Bindings {
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Binds, in place of what was bound before.
    pub(super) fn bind(&mut self, transport: Key, server: Key, server_name: &str) {
        let new = Binding { transport, server, server_name: server_name.into() };
        match self.servers.find_mut(transport.spread(), |binding| binding.transport == transport) {
            Some(known) => {
                let before = std::mem::replace(known, new);
                self.transports.remove(&(before.server, transport));
            }
            None => drop(self.servers.insert_unique(transport.spread(), new, |binding| binding.transport.spread())),
        }
        self.transports.insert((server, transport));
    }

    /// Unbinds; false if nothing was bound.
    pub(super) fn unbind(&mut self, transport: Key) -> bool {
        let known = self.servers.find_entry(transport.spread(), |binding| binding.transport == transport);
        let Ok(known) = known else { return false };
        let (binding, _) = known.remove();
        self.transports.remove(&(binding.server, transport))
    }

    pub(super) fn server_of(&self, transport: Key) -> Option<(Key, &str)> {
        let known = self.servers.find(transport.spread(), |binding| binding.transport == transport)?;
        Some((known.server, &*known.server_name))
    }

    /// The transports bound to a server.
    pub(super) fn transports_of(&self, server: Key) -> impl Iterator<Item = Key> {
        self.transports.range((server, Key::LEAST)..=(server, Key::MOST)).map(|&(_, transport)| transport)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Key)> {
        self.servers.iter().map(|binding| (binding.transport, binding.server))
    }
}

/// How many transports of some shards are bound to each server, for those that any is: whoever hears that a server is
/// gone need not look through the shards for nothing.
#[derive(Default)]
pub struct BoundServers(HashTable<(Key, u32)>);

impl BoundServers {
    /// One more is bound to it.
    pub fn add(&mut self, server: Key) {
        match self.0.find_mut(server.spread(), |(known, _)| *known == server) {
            Some((_, count)) => *count += 1,
            None => drop(self.0.insert_unique(server.spread(), (server, 1), |(server, _)| server.spread())),
        }
    }

    /// One less is.
    pub fn remove(&mut self, server: Key) {
        let Ok(mut known) = self.0.find_entry(server.spread(), |(known, _)| *known == server) else { return };
        known.get_mut().1 -= 1;
        if known.get().1 == 0 {
            known.remove();
        }
    }

    /// Whether any is.
    pub fn contains(&self, server: Key) -> bool {
        self.0.find(server.spread(), |(known, _)| *known == server).is_some()
    }

    /// How many are, to all servers together.
    #[cfg(test)]
    pub fn total(&self) -> u32 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}
