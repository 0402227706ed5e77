//! Exchanges: requests whose answer is still to come, and streams that stay open.
//!
//! Not here: how an answer is written (`deliver`).
//! Invariant: an exchange is ended exactly once; its key's generation makes late mail for it fall on the floor.

use smallvec::SmallVec;

use super::service::{CallKey, Nanos};
use super::wheel::Handle;
use crate::ids::{ConnectionId, CoreId, Ticket};
use crate::proto::mcp::{Method, Version};
use crate::shard::session::SessionKey;

/// Names an exchange on its core. The same numbers are the `CallKey` of a call and the `Ticket` of one forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExchangeKey {
    /// Index in the core's table.
    pub index: u32,
    /// Counts the index's uses.
    pub generation: u32,
}

impl From<CallKey> for ExchangeKey {
    fn from(key: CallKey) -> ExchangeKey {
        ExchangeKey { index: key.index, generation: key.generation }
    }
}

impl From<ExchangeKey> for CallKey {
    fn from(key: ExchangeKey) -> CallKey {
        CallKey { index: key.index, generation: key.generation }
    }
}

impl From<Ticket> for ExchangeKey {
    fn from(ticket: Ticket) -> ExchangeKey {
        ExchangeKey { index: ticket.index, generation: ticket.generation }
    }
}

impl From<ExchangeKey> for Ticket {
    fn from(key: ExchangeKey) -> Ticket {
        Ticket { index: key.index, generation: key.generation }
    }
}

/// What an exchange is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A call that the service is working on.
    Call,
    /// A connection of lines, or a 2024-11-05 event stream, as the place its session's messages go to.
    Duplex,
    /// A request of which another core does the work.
    Forwarded {
        /// That core.
        to: CoreId,
    },
    /// A legacy session's GET stream.
    Get,
    /// A modern subscription stream.
    Listen,
}

/// Where an exchange's messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// The answer to the HTTP request that occupies the connection.
    Http(ConnectionId),
    /// A connection of lines.
    Lines(ConnectionId),
    /// Nobody for now; what can be replayed is kept.
    Nobody,
    /// The core where the connection is.
    Remote {
        /// That core.
        core: CoreId,
        /// Its exchange.
        ticket: Ticket,
    },
}

/// Longer ids, which nobody sends, are allocated.
const ID_BYTES_INLINE: usize = 24;
/// Rooms of ended exchanges that are kept for the next ones.
const SPARE_MAX: usize = 64;

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    /// What it is.
    pub kind: Kind,
    /// Where its messages go.
    pub sink: Sink,
    /// The request's id as it came; empty for streams without a request.
    pub id: SmallVec<[u8; ID_BYTES_INLINE]>,
    /// The revision it is spoken in.
    pub version: Version,
    /// The legacy session it belongs to.
    pub session: Option<SessionKey>,
    /// The number of its stream in the session, once it is resumable.
    pub stream: Option<u32>,
    /// Whether what it sends may be kept for a client that lost its connection.
    pub is_kept: bool,
    /// The number of its last event.
    pub events: u32,
    /// The numbers of our requests that its client has not answered.
    pub asks: Vec<u32>,
    /// The method of a call whose end is to be logged.
    pub logged: Option<Method>,
    /// When it began.
    pub since: Nanos,
    /// When its time is up; `Nanos::MAX` for never.
    pub deadline: Nanos,
    /// Its entry on the wheel, which comes by then or before.
    pub timer: Option<Handle>,
    /// How late that may become, by what its caller said; `Nanos::MAX` if it said nothing.
    pub latest: Nanos,
}

impl Exchange {
    /// An exchange that begins now.
    pub fn new(kind: Kind, sink: Sink, id: &[u8], version: Version, now: Nanos) -> Exchange {
        Exchange {
            kind,
            sink,
            id: id.into(),
            version,
            session: None,
            stream: None,
            is_kept: true,
            events: 0,
            asks: Vec::new(),
            logged: None,
            since: now,
            deadline: Nanos::MAX,
            timer: None,
            latest: Nanos::MAX,
        }
    }
}

struct Entry {
    generation: u32,
    exchange: Option<Box<Exchange>>,
}

/// All exchanges of a core.
#[derive(Default)]
pub struct Exchanges {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    /// Rooms without an exchange: what is forwarded allocates none.
    #[allow(clippy::vec_box, reason = "the boxes are what is kept")]
    spare: Vec<Box<Exchange>>,
}

impl Exchanges {
    /// The key that the next `insert` will use: a call that is answered at once never becomes an entry.
    pub fn next_key(&mut self) -> ExchangeKey {
        let index = match self.vacant.last() {
            Some(&index) => index,
            None => {
                self.entries.push(Entry { generation: 0, exchange: None });
                let index = (self.entries.len() - 1) as u32;
                self.vacant.push(index);
                index
            }
        };
        ExchangeKey { index, generation: self.entries[index as usize].generation }
    }

    /// Lets nobody use the key again that `next_key` gave, although no entry was made.
    pub fn burn(&mut self, key: ExchangeKey) {
        let entry = &mut self.entries[key.index as usize];
        debug_assert!(entry.exchange.is_none() && entry.generation == key.generation);
        entry.generation = entry.generation.wrapping_add(1);
    }

    /// Takes an exchange in.
    pub fn insert(&mut self, exchange: Exchange) -> ExchangeKey {
        let key = self.next_key();
        self.vacant.pop();
        self.entries[key.index as usize].exchange = Some(match self.spare.pop() {
            Some(mut room) => {
                *room = exchange;
                room
            }
            None => Box::new(exchange),
        });
        key
    }

    /// The exchange of this key, to be looked at.
    pub fn get(&self, key: ExchangeKey) -> Option<&Exchange> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.generation == key.generation).then_some(entry.exchange.as_deref()?)
    }

    /// The exchange of this key, if it has not ended.
    pub fn find(&mut self, key: ExchangeKey) -> Option<&mut Exchange> {
        let entry = self.entries.get_mut(key.index as usize)?;
        (entry.generation == key.generation).then_some(entry.exchange.as_deref_mut()?)
    }

    /// Ends an exchange.
    pub fn remove(&mut self, key: ExchangeKey) -> Option<Exchange> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let mut room = entry.exchange.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.vacant.push(key.index);
        let nothing = Exchange::new(Kind::Get, Sink::Nobody, &[], Version::LEGACY_DEFAULT, 0);
        let exchange = std::mem::replace(&mut *room, nothing);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(room);
        }
        Some(exchange)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all that fit: looks at every exchange, so for what happens seldom.
    pub fn keys(&self, mut fits: impl FnMut(&Exchange) -> bool) -> Vec<ExchangeKey> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| entry.exchange.as_deref().is_some_and(&mut fits))
            .map(|(index, entry)| ExchangeKey { index: index as u32, generation: entry.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Exchange {
        Exchange::new(Kind::Call, Sink::Nobody, b"1", Version::V2026_07_28, 0)
    }

    #[test]
    fn the_key_foretold_is_the_key_used_and_an_old_key_finds_nothing() {
        let mut exchanges = Exchanges::default();
        let foretold = exchanges.next_key();
        assert_eq!(exchanges.next_key(), foretold, "looking does not use it up");
        let key = exchanges.insert(call());
        assert_eq!(key, foretold);
        assert!(exchanges.remove(key).is_some());
        assert!(exchanges.find(key).is_none() && exchanges.remove(key).is_none());
        let next = exchanges.insert(call());
        assert_eq!(next.index, key.index);
        assert_ne!(next.generation, key.generation);
        assert_eq!(exchanges.len(), 1);
    }

    #[test]
    fn a_burned_key_is_not_used_again() {
        let mut exchanges = Exchanges::default();
        let burned = exchanges.next_key();
        exchanges.burn(burned);
        assert_ne!(exchanges.insert(call()), burned);
    }
}
