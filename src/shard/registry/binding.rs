//! Which server a transport is bound to, for the transports of one shard.
//!
//! Not here: whether the server exists; it may live in another shard, and the replica knows. Invariant: a transport is
//! bound to one server or none, and found again from the server's side.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Key;

/// The bindings of a shard's transports.
#[derive(Default)]
pub(super) struct Bindings {
    servers: BTreeMap<Key, (Key, Box<str>)>,
    transports: BTreeSet<(Key, Key)>,
}

impl Bindings {
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Binds, in place of what was bound before.
    pub(super) fn bind(&mut self, transport: Key, server: Key, server_name: &str) {
        if let Some((before, _)) = self.servers.insert(transport, (server, server_name.into())) {
            self.transports.remove(&(before, transport));
        }
        self.transports.insert((server, transport));
    }

    /// Unbinds; false if nothing was bound.
    pub(super) fn unbind(&mut self, transport: Key) -> bool {
        let Some((server, _)) = self.servers.remove(&transport) else { return false };
        self.transports.remove(&(server, transport))
    }

    pub(super) fn server_of(&self, transport: Key) -> Option<(Key, &str)> {
        self.servers.get(&transport).map(|(server, name)| (*server, &**name))
    }

    /// The transports bound to a server.
    pub(super) fn transports_of(&self, server: Key) -> impl Iterator<Item = Key> {
        self.transports.range((server, Key::LEAST)..=(server, Key::MOST)).map(|&(_, transport)| transport)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Key)> {
        self.servers.iter().map(|(transport, (server, _))| (*transport, *server))
    }
}
