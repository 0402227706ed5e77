//! One shard of the registry: everything whose name hashes to it.
//!
//! Not here: other shards and cores. Invariant: each change hands out its deltas in the order they are to be applied,
//! and a replica that applied all of them knows what the shard knows.

use super::Nanos;
use super::binding::Bindings;
use super::contention::{self, judge};
use super::entry::{Entries, Entry, Owner};
use super::latency::WriteLatency;
use super::names::{Key, Kind};
use super::refusal::Refusal;
use super::replica::{Delta, Record, Tie};
use super::statistics::ShardStatistics;
use crate::ids::ShardId;
use crate::limits::REGISTRY_ENTRIES_PER_SHARD_MAX;

/// What is to be registered.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// Server or transport.
    pub kind: Kind,
    /// The key of its name.
    pub key: Key,
    /// Its name.
    pub name: &'a str,
    /// What is kept with it.
    pub config: &'a [u8],
    /// Whose it is.
    pub owner: Owner,
}

/// One shard's servers, transports, bindings and statistics.
pub struct RegistryShard {
    id: ShardId,
    entries: Entries,
    bindings: Bindings,
    latency: WriteLatency,
    refused: u64,
    alarmed: bool,
}

impl RegistryShard {
    /// How often `tick` wants to be called while a shard is alarmed.
    pub const TICK: Nanos = contention::TICK;

    /// An empty shard.
    pub fn new(id: ShardId) -> RegistryShard {
        RegistryShard {
            id,
            entries: Entries::default(),
            bindings: Bindings::default(),
            latency: WriteLatency::default(),
            refused: 0,
            alarmed: false,
        }
    }

    /// Takes an entry in.
    ///
    /// # Errors
    /// The name is taken, or the shard is full.
    pub fn register(&mut self, new: Registration<'_>, tell: &mut impl FnMut(Delta)) -> Result<(), Refusal> {
        if self.entries.len() >= REGISTRY_ENTRIES_PER_SHARD_MAX {
            return Err(Refusal::ShardFull);
        }
        if !self.entries.insert(Entry::new(new.kind, new.key, new.name, new.config, new.owner)) {
            return Err(Refusal::AlreadyRegistered(new.kind));
        }
        tell(Delta::New(Record::new(new.kind, new.key, new.owner)));
        Ok(())
    }

    /// Takes an entry out, with the binding of a transport. The bindings to a server lie with its transports: each
    /// shard drops its own when it hears that the server is gone ([`drop_server`](Self::drop_server)).
    ///
    /// # Errors
    /// There is none.
    pub fn unregister(&mut self, kind: Kind, key: Key, tell: &mut impl FnMut(Delta)) -> Result<(), Refusal> {
        self.entries.remove(key).ok_or(Refusal::Unknown(kind))?;
        if self.bindings.unbind(key) {
            tell(Delta::Unbound(key));
        }
        tell(Delta::Gone(kind, key));
        Ok(())
    }

    /// What is registered under a key.
    pub fn find(&self, key: Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Binds a transport of this shard to a server that exists, wherever it lives.
    ///
    /// # Errors
    /// There is no such transport.
    pub fn bind(
        &mut self,
        transport: Key,
        server: Key,
        server_name: &str,
        tell: &mut impl FnMut(Delta),
    ) -> Result<(), Refusal> {
        if self.entries.get(transport).is_none() {
            return Err(Refusal::Unknown(Kind::Transport));
        }
        self.bindings.bind(transport, server, server_name);
        tell(Delta::Bound(Tie { transport, server }));
        Ok(())
    }

    /// Unbinds a transport of this shard.
    ///
    /// # Errors
    /// There is no such transport, or it is not bound.
    pub fn unbind(&mut self, transport: Key, tell: &mut impl FnMut(Delta)) -> Result<(), Refusal> {
        if self.entries.get(transport).is_none() {
            return Err(Refusal::Unknown(Kind::Transport));
        }
        if !self.bindings.unbind(transport) {
            return Err(Refusal::NotBound);
        }
        tell(Delta::Unbound(transport));
        Ok(())
    }

    /// The server that a transport of this shard is bound to.
    pub fn server_of(&self, transport: Key) -> Option<(Key, &str)> {
        self.bindings.server_of(transport)
    }

    /// The transports of this shard that are bound to a server, with their owners.
    pub fn bound_to(&self, server: Key) -> impl Iterator<Item = (Key, Owner)> {
        let entry = |transport| self.entries.get(transport).map(|entry| (transport, entry.owner));
        self.bindings.transports_of(server).filter_map(entry)
    }

    /// A server is gone: what was bound to it is so no more.
    pub fn drop_server(&mut self, server: Key, tell: &mut impl FnMut(Delta)) {
        let bound: Vec<Key> = self.bindings.transports_of(server).collect();
        for transport in bound {
            self.bindings.unbind(transport);
            tell(Delta::Unbound(transport));
        }
    }

    /// Owners are gone, and with them what they registered here. Hands out the servers among it.
    pub fn drop_owners(&mut self, owners: std::ops::RangeInclusive<Owner>, tell: &mut impl FnMut(Delta)) -> Vec<Key> {
        let mut servers = Vec::new();
        for key in self.entries.of_owners(owners) {
            let Some(kind) = self.entries.get(key).map(Entry::kind) else { continue };
            if kind == Kind::Server {
                servers.push(key);
            }
            // It was there a line ago.
            let _ = self.unregister(kind, key, tell);
        }
        servers
    }

    /// A write was done, or refused, at `now`, and had been asked for at `since`. True if the alarm changed.
    pub fn note_write(&mut self, since: Nanos, now: Nanos, limit: Nanos, done: bool) -> bool {
        if done {
            self.latency.record(now.saturating_sub(since), now);
        } else {
            self.refused += 1;
        }
        self.tick(now, limit)
    }

    /// Time passed. True if the alarm changed.
    pub fn tick(&mut self, now: Nanos, limit: Nanos) -> bool {
        let before = std::mem::replace(&mut self.alarmed, judge(&mut self.latency, limit, now));
        before != self.alarmed
    }

    /// Whether writes are slow.
    pub fn is_alarmed(&self) -> bool {
        self.alarmed
    }

    /// What an operator is shown.
    pub fn statistics(&self) -> ShardStatistics {
        let (mean_ns, least_ns, most_ns) = self.latency.summary();
        ShardStatistics {
            shard: self.id,
            servers: self.entries.count(Kind::Server) as u32,
            transports: self.entries.count(Kind::Transport) as u32,
            bindings: self.bindings.len() as u32,
            writes: self.latency.writes(),
            refused: self.refused,
            samples: self.latency.held() as u32,
            mean_ns,
            least_ns,
            most_ns,
            alarmed: self.alarmed,
        }
    }

    /// Counts and latencies begin anew. True if that cleared an alarm.
    pub fn reset_stats(&mut self) -> bool {
        self.latency.reset();
        self.refused = 0;
        std::mem::take(&mut self.alarmed)
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Everything, as deltas that make an empty replica of this shard equal to it.
    pub fn snapshot(&self, tell: &mut impl FnMut(Delta)) {
        for entry in self.entries.iter() {
            tell(Delta::New(Record::new(entry.kind, entry.key, entry.owner)));
        }
        for (transport, server) in self.bindings.iter() {
            tell(Delta::Bound(Tie { transport, server }));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
