//! Shards: pure state machines that own what is keyed into them.
//!
//! Not here: sockets, clocks, threads, randomness, other cores' shards.
//! Invariant: everything here is synchronous and owned by one core; time and entropy are arguments.

pub mod breaker;
pub mod peers;
pub mod permits;
pub mod queue;
pub mod range;
pub mod rate;
pub mod registry;
pub mod replay;
pub mod restarts;
pub mod retry_budget;
pub mod seal;
pub mod session;
pub mod soft;
pub mod watchdog;
pub mod zone;

use std::collections::BTreeMap;

use crate::ids::ShardId;
use crate::proto::mcp::LogLevel;
use range::ShardRange;
use session::{Session, SessionKey, Sessions};

/// A session that outlives its shard: what its core's next life is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heir {
    shard: ShardId,
    id: Box<str>,
    bequest: Bequest,
}

/// What is known of such a session beside what its id says: what changed since that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bequest {
    /// When it was last used.
    pub used: u64,
    /// Least severe level that its client wants logged.
    pub log_level: LogLevel,
    /// Whether it said so itself.
    pub is_level_chosen: bool,
}

struct Shard<K> {
    /// Which life of the shard this is.
    incarnation: u32,
    sessions: Sessions<K>,
    /// Sessions that were re-created from ids of an earlier incarnation, by those ids.
    recreated: BTreeMap<Box<[u8]>, SessionKey>,
    /// Sessions of an earlier incarnation that may be re-created, by their ids: no other may, however good its id is.
    heirs: BTreeMap<Box<str>, Bequest>,
}

/// The shards of one core: a contiguous range. `K` names a sink for messages on that core.
pub struct Shards<K> {
    /// Which life of their core this is.
    life: u32,
    first: u16,
    shards: Vec<Shard<K>>,
    /// The shard that takes the next session.
    next: usize,
    sessions: usize,
}

impl<K> Shards<K> {
    /// The shards of a range, all empty, in the given incarnation.
    ///
    /// # Panics
    /// If the range is empty: every core owns a shard.
    pub fn new(range: ShardRange, incarnation: u32) -> Shards<K> {
        let shards: Vec<_> = range
            .iter()
            .map(|shard| Shard {
                incarnation,
                sessions: Sessions::new(shard),
                recreated: BTreeMap::new(),
                heirs: BTreeMap::new(),
            })
            .collect();
        assert!(!shards.is_empty(), "every core owns at least one shard");
        let first = range.iter().next().map_or(0, |shard| shard.0);
        Shards { life: incarnation, first, shards, next: 0, sessions: 0 }
    }

    /// Which life of their core this is.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Whether the shard is one of these.
    pub fn owns(&self, shard: ShardId) -> bool {
        self.shard(shard).is_some()
    }

    /// Which life of the shard this is; 0 for a shard that is not ours.
    pub fn incarnation(&self, shard: ShardId) -> u32 {
        self.shard(shard).map_or(0, |shard| shard.incarnation)
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Takes a session in, at one shard after the other.
    pub fn insert(&mut self, session: Session<K>) -> SessionKey {
        self.next = (self.next + 1) % self.shards.len();
        self.sessions += 1;
        self.shards[self.next].sessions.insert(session)
    }

    /// The session of this key, if it lives here.
    pub fn find(&mut self, key: SessionKey) -> Option<&mut Session<K>> {
        self.shard_mut(key.shard)?.sessions.find(key)
    }

    /// Ends a session.
    pub fn remove(&mut self, key: SessionKey) -> Option<Box<Session<K>>> {
        let shard = self.shard_mut(key.shard)?;
        let session = shard.sessions.remove(key)?;
        if !shard.recreated.is_empty() {
            shard.recreated.remove(session.id.as_bytes());
        }
        self.sessions -= 1;
        Some(session)
    }

    /// The session that was re-created from this id.
    pub fn recreated(&self, shard: ShardId, id: &[u8]) -> Option<SessionKey> {
        self.shard(shard)?.recreated.get(id).copied()
    }

    /// Takes in a session that is re-created from its id (which it holds).
    ///
    /// # Panics
    /// If the shard is not one of these.
    pub fn recreate(&mut self, shard: ShardId, session: Session<K>) -> SessionKey {
        self.sessions += 1;
        let shard = self.shard_mut(shard).expect("a session is re-created where its shard is owned");
        let id = session.id.as_bytes().into();
        let key = shard.sessions.insert(session);
        shard.recreated.insert(id, key);
        key
    }

    /// Takes out what the shards' next incarnation is to be told: of the sessions that live, and then of those that it
    /// was told of itself and that were not asked for since; no more than `most`.
    pub fn bequeath(&mut self, now: u64, most: usize) -> Vec<Heir> {
        let mut heirs = Vec::new();
        for shard in &mut self.shards {
            let has_id = shard.sessions.iter_mut().filter(|(_, session)| !session.id.is_empty());
            heirs.extend(has_id.map(|(key, session)| {
                let used = if session.busy > 0 { now } else { session.used };
                let Session { log_level, is_level_chosen, .. } = *session;
                let bequest = Bequest { used, log_level, is_level_chosen };
                Heir { shard: key.shard, id: std::mem::take(&mut session.id), bequest }
            }));
        }
        for (shard, place) in self.shards.iter_mut().zip(self.first..) {
            let heirs_of_heirs = std::mem::take(&mut shard.heirs).into_iter();
            heirs.extend(heirs_of_heirs.map(|(id, bequest)| Heir { shard: ShardId(place), id, bequest }));
        }
        heirs.truncate(most);
        heirs
    }

    /// Learns which sessions of an earlier incarnation may be re-created.
    pub fn inherit(&mut self, heirs: Vec<Heir>) {
        for Heir { shard, id, bequest } in heirs {
            if let Some(shard) = self.shard_mut(shard) {
                shard.heirs.insert(id, bequest);
            }
        }
    }

    /// Takes the right to be re-created from an id.
    pub fn take_heir(&mut self, shard: ShardId, id: &str) -> Option<Bequest> {
        self.shard_mut(shard)?.heirs.remove(id)
    }

    /// Forgets those that were last used so long ago.
    pub fn forget_heirs(&mut self, is_over: impl Fn(u64) -> bool) {
        for shard in self.shards.iter_mut().filter(|shard| !shard.heirs.is_empty()) {
            shard.heirs.retain(|_, bequest| !is_over(bequest.used));
        }
    }

    /// The keys of all sessions that fit.
    pub fn keys(&mut self, mut fits: impl FnMut(&Session<K>) -> bool) -> Vec<SessionKey> {
        let sessions = self.shards.iter_mut().flat_map(|shard| shard.sessions.iter_mut());
        sessions.filter(|(_, session)| fits(session)).map(|(key, _)| key).collect()
    }

    fn shard(&self, shard: ShardId) -> Option<&Shard<K>> {
        self.shards.get(usize::from(shard.0.checked_sub(self.first)?))
    }

    fn shard_mut(&mut self, shard: ShardId) -> Option<&mut Shard<K>> {
        self.shards.get_mut(usize::from(shard.0.checked_sub(self.first)?))
    }
}
