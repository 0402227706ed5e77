//! Legacy sessions (2025-11-25 and older): what `initialize` settled, and what must be remembered until the session
//! ends.
//!
//! Not here: connections and streams as such; a session only names the sink that its messages go to.
//! Invariant: a session exists only after a valid `initialize`; its sealed id leads back to it and to nothing else;
//! a slot's generation grows with every tenant, so an old id never finds a stranger.

use super::replay::{EventId, Forgotten, Keeping, Replay, ReplayLimits};
use super::seal::{Purpose, SEAL_BYTES, Sealer};
use crate::ids::{ShardId, View};
use crate::limits::{SESSIONS_PER_CORE_MAX, SHARDS_MAX};
use crate::proto::mcp::{Capabilities, LogLevel, Version};

/// A session's place: the shard that owns it, its slot there, and which tenant of the slot it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey {
    /// The owner.
    pub shard: ShardId,
    /// Index in the shard's table.
    pub slot: u32,
    /// Counts the slot's tenants.
    pub generation: u32,
}

/// Bits of a session's number for its shard and its slot; the rest are its generation.
const SHARD_BITS: u32 = SHARDS_MAX.ilog2();
const SLOT_BITS: u32 = SESSIONS_PER_CORE_MAX.ilog2();
const _: () = assert!(SHARDS_MAX.is_power_of_two() && SESSIONS_PER_CORE_MAX.is_power_of_two());
const _: () = assert!(SHARD_BITS + SLOT_BITS + u32::BITS <= u64::BITS);

impl SessionKey {
    /// The key as one number, for whoever need not know what it is made of.
    pub fn number(self) -> u64 {
        (u64::from(self.generation) << SLOT_BITS | u64::from(self.slot)) << SHARD_BITS | u64::from(self.shard.0)
    }

    /// The key of this number.
    pub fn of_number(number: u64) -> SessionKey {
        let low = |number: u64, bits: u32| number & ((1 << bits) - 1);
        SessionKey {
            shard: ShardId(low(number, SHARD_BITS) as u16),
            slot: low(number >> SHARD_BITS, SLOT_BITS) as u32,
            generation: (number >> (SHARD_BITS + SLOT_BITS)) as u32,
        }
    }
}

/// What a sealed session id says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTicket {
    /// Node that made it.
    pub node: u16,
    /// Which start of that node.
    pub boot: u64,
    /// Which life of the shard.
    pub incarnation: u32,
    /// Where the session is.
    pub key: SessionKey,
    /// Whose it is; 0 where nobody is asked to identify himself.
    pub principal: u64,
    /// What its client sees.
    pub view: View,
    /// What was negotiated.
    pub version: Version,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// What it wanted logged when the id was made.
    pub log_level: LogLevel,
    /// Seconds since the Unix epoch after which the id is void.
    pub expires: u64,
}

/// Numbers of streams that each life of a session is given, and lives whose numbers differ.
const STREAMS_PER_LIFE: u32 = 1 << 16;
const LIVES_TOLD_APART: u32 = 1 << 14;

const TICKET_BYTES: usize = 2 + 8 + 4 + 2 + 4 + 4 + 8 + 2 + 1 + 2 + 1 + 8;

impl SessionTicket {
    /// The id that goes to the client.
    pub fn seal(&self, sealer: &mut Sealer) -> String {
        let mut plain = Vec::with_capacity(TICKET_BYTES);
        plain.extend_from_slice(&self.node.to_le_bytes());
        plain.extend_from_slice(&self.boot.to_le_bytes());
        plain.extend_from_slice(&self.incarnation.to_le_bytes());
        plain.extend_from_slice(&self.key.shard.0.to_le_bytes());
        plain.extend_from_slice(&self.key.slot.to_le_bytes());
        plain.extend_from_slice(&self.key.generation.to_le_bytes());
        plain.extend_from_slice(&self.principal.to_le_bytes());
        plain.extend_from_slice(&self.view.0.to_le_bytes());
        plain.push(self.version as u8);
        plain.extend_from_slice(&self.capabilities.to_bits().to_le_bytes());
        plain.push(self.log_level as u8);
        plain.extend_from_slice(&self.expires.to_le_bytes());
        sealer.seal(Purpose::Session, &plain)
    }

    /// Reads an id that a client sent; `None` unless one of our sealers made it.
    pub fn open(sealer: &Sealer, id: &[u8]) -> Option<SessionTicket> {
        let mut room = [0; TICKET_BYTES + SEAL_BYTES];
        let mut rest = sealer.open_within(Purpose::Session, id, &mut room)?;
        let ticket = SessionTicket::read(&mut rest)?;
        rest.is_empty().then_some(ticket)
    }

    /// Takes a ticket's fields off the front of some bytes, as they are before they are sealed; `None` if there are too
    /// few, or one is none.
    pub fn read(rest: &mut &[u8]) -> Option<SessionTicket> {
        Some(SessionTicket {
            node: u16::from_le_bytes(take(rest)?),
            boot: u64::from_le_bytes(take(rest)?),
            incarnation: u32::from_le_bytes(take(rest)?),
            key: SessionKey {
                shard: ShardId(u16::from_le_bytes(take(rest)?)),
                slot: u32::from_le_bytes(take(rest)?),
                generation: u32::from_le_bytes(take(rest)?),
            },
            principal: u64::from_le_bytes(take(rest)?),
            view: View(u16::from_le_bytes(take(rest)?)),
            version: Version::from_u8(take::<1>(rest)?[0])?,
            capabilities: Capabilities::from_bits(u16::from_le_bytes(take(rest)?)),
            log_level: *LogLevel::ALL.get(usize::from(take::<1>(rest)?[0]))?,
            expires: u64::from_le_bytes(take(rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

/// What was settled with a session's client, as far as every call of it asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// What was negotiated.
    pub version: Version,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Least severe level it wants logged.
    pub log_level: LogLevel,
    /// Whether it said so itself.
    pub is_level_chosen: bool,
}

/// What is logged to clients that have not said how much they want (mcp 2025-11-25: the server's choice).
pub const LOG_LEVEL_DEFAULT: LogLevel = LogLevel::Info;

/// One legacy session. `K` names a sink for messages: an exchange on the core that owns the shard.
#[derive(Debug)]
pub struct Session<K> {
    /// What its client sees.
    pub view: View,
    /// What was negotiated.
    pub version: Version,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Least severe level it wants logged.
    pub log_level: LogLevel,
    /// Whether it said so itself.
    pub is_level_chosen: bool,
    /// Whose it is.
    pub principal: u64,
    /// The id as the client has it; empty for a session that is a connection's own (lines, stdio).
    pub id: Box<str>,
    /// When it was last used, in the owner's clock.
    pub used: u64,
    /// Calls and streams that keep it from idling.
    pub busy: u32,
    /// The open GET stream, or the connection that the session is bound to.
    pub stream: Option<K>,
    /// What is in flight for it: calls and streams.
    pub calls: Vec<K>,
    /// Resources it wants to hear about.
    pub subscriptions: Vec<Box<str>>,
    /// How many resumable streams calls have had.
    call_streams: u32,
    /// How many GET streams there were.
    get_streams: u32,
    replay: Option<Box<Replay>>,
}

impl<K> Session<K> {
    /// A session as `initialize` settled it.
    pub fn new(view: View, version: Version, capabilities: Capabilities, principal: u64, now: u64) -> Session<K> {
        Session {
            view,
            version,
            capabilities,
            log_level: LOG_LEVEL_DEFAULT,
            is_level_chosen: false,
            principal,
            id: Box::default(),
            used: now,
            busy: 0,
            stream: None,
            calls: Vec::new(),
            subscriptions: Vec::new(),
            call_streams: 0,
            get_streams: 0,
            replay: None,
        }
    }

    /// What its calls are made under.
    pub fn terms(&self) -> Terms {
        let Session { version, capabilities, log_level, is_level_chosen, .. } = *self;
        Terms { version, capabilities, log_level, is_level_chosen }
    }

    /// The number for a call's new resumable stream: odd, so that it is still known for a call's when it is over.
    pub fn next_call_stream(&mut self) -> u32 {
        self.call_streams += 1;
        self.call_streams * 2 - 1
    }

    /// The number for a new GET stream: even.
    pub fn next_get_stream(&mut self) -> u32 {
        self.get_streams += 1;
        self.get_streams * 2
    }

    /// Whether the stream of this number is a GET stream; none if there never was a stream of this number.
    pub fn is_get_stream(&self, stream: u32) -> Option<bool> {
        let is_get = stream.is_multiple_of(2);
        let made = if is_get { self.get_streams } else { self.call_streams };
        (1..=made).contains(&stream.div_ceil(2)).then_some(is_get)
    }

    /// Goes on numbering streams after the session's core died, above all that its earlier lives can have given: no
    /// event of now is taken for one of then, and a GET stream of then is gone on with under its number.
    pub fn begin_life(&mut self, incarnation: u32) {
        self.call_streams = incarnation % LIVES_TOLD_APART * STREAMS_PER_LIFE;
        self.get_streams = self.call_streams;
    }

    /// Keeps an event for replay; none if there is no room for such a one.
    pub fn keep(&mut self, id: EventId, message: &[u8], last: bool, limits: ReplayLimits) -> Option<Keeping> {
        self.replay.get_or_insert_default().keep(id, message, last, limits)
    }

    /// Forgets the event of this number, if it is the oldest that is kept; what it had cost.
    pub fn forget_event(&mut self, ordinal: u64) -> Option<usize> {
        self.replay.as_mut()?.forget(ordinal)
    }

    /// Whether the event of this number is kept.
    pub fn holds_event(&self, ordinal: u64) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.holds(ordinal))
    }

    /// All that is kept for replay.
    pub fn all_kept(&self) -> Forgotten {
        self.replay.as_ref().map_or_else(Forgotten::default, |replay| replay.all())
    }

    /// Whether an event is known to be the last of its stream.
    pub fn was_last(&self, event: EventId) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.was_last(event))
    }

    /// The events a client missed on the stream of `seen`.
    pub fn missed(&self, seen: EventId) -> impl Iterator<Item = (EventId, &[u8], bool)> {
        self.replay.iter().flat_map(move |replay| replay.after(seen))
    }
}

struct Slot<K> {
    generation: u32,
    session: Option<Box<Session<K>>>,
}

/// The sessions of one shard.
pub struct Sessions<K> {
    shard: ShardId,
    slots: Vec<Slot<K>>,
    vacant: Vec<u32>,
}

impl<K> Sessions<K> {
    /// None yet.
    pub fn new(shard: ShardId) -> Sessions<K> {
        Sessions { shard, slots: Vec::new(), vacant: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a session in.
    pub fn insert(&mut self, session: Session<K>) -> SessionKey {
        let session = Some(Box::new(session));
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot as usize].session = session;
                slot
            }
            None => {
                self.slots.push(Slot { generation: 0, session });
                (self.slots.len() - 1) as u32
            }
        };
        SessionKey { shard: self.shard, slot, generation: self.slots[slot as usize].generation }
    }

    /// The session of this key, if it still lives.
    pub fn find(&mut self, key: SessionKey) -> Option<&mut Session<K>> {
        debug_assert_eq!(key.shard, self.shard, "a key is looked up at its own shard");
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?.session.as_deref_mut()
    }

    /// Ends a session.
    pub fn remove(&mut self, key: SessionKey) -> Option<Box<Session<K>>> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let session = slot.session.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(key.slot);
        Some(session)
    }

    /// Every session with its key.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionKey, &mut Session<K>)> {
        let shard = self.shard;
        self.slots.iter_mut().enumerate().filter_map(move |(index, slot)| {
            let key = SessionKey { shard, slot: index as u32, generation: slot.generation };
            slot.session.as_deref_mut().map(|session| (key, session))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> SessionTicket {
        SessionTicket {
            node: 1,
            boot: 2,
            incarnation: 3,
            key: SessionKey { shard: ShardId(4), slot: 5, generation: 6 },
            principal: 7,
            view: View(9),
            version: Version::V2025_11_25,
            capabilities: Capabilities::ROOTS,
            log_level: LogLevel::Warning,
            expires: 8,
        }
    }

    #[test]
    fn a_number_stands_for_one_key() {
        for shard in [0, 1, SHARDS_MAX as u16 - 1] {
            for slot in [0, 7, SESSIONS_PER_CORE_MAX as u32 - 1] {
                for generation in [0, 1, u32::MAX] {
                    let key = SessionKey { shard: ShardId(shard), slot, generation };
                    assert_eq!(SessionKey::of_number(key.number()), key);
                }
            }
        }
    }

    #[test]
    fn a_streams_number_says_for_good_whose_it_is() {
        let mut session: Session<()> = Session::new(View::ALL, Version::V2025_11_25, Capabilities::default(), 0, 0);
        assert_eq!([0, 1, 2].map(|stream| session.is_get_stream(stream)), [None; 3]);
        let made = [session.next_get_stream(), session.next_call_stream(), session.next_call_stream()];
        assert_eq!(made.map(|stream| session.is_get_stream(stream)), [Some(true), Some(false), Some(false)]);
        assert_eq!([0, 4, 5, u32::MAX - 1, u32::MAX].map(|stream| session.is_get_stream(stream)), [None; 5]);
    }

    #[test]
    fn a_ticket_survives_the_clients_hands_and_a_forgery_does_not() {
        let mut sealer = Sealer::new(&[1; 32], [0; 12]);
        let id = ticket().seal(&mut sealer);
        assert_eq!(SessionTicket::open(&sealer, id.as_bytes()), Some(ticket()));
        assert_eq!(SessionTicket::open(&sealer, b"2ae4a5c6-0000-4000-8000-000000000000"), None);
        let state = sealer.seal(Purpose::State, b"not a session");
        assert_eq!(SessionTicket::open(&sealer, state.as_bytes()), None);
    }

    #[test]
    fn an_old_key_never_finds_the_next_tenant_of_its_slot() {
        let mut sessions: Sessions<()> = Sessions::new(ShardId(0));
        let first = sessions.insert(Session::new(View::ALL, Version::V2025_11_25, Capabilities::default(), 0, 0));
        assert!(sessions.remove(first).is_some());
        let second = sessions.insert(Session::new(View::ALL, Version::V2025_06_18, Capabilities::default(), 0, 0));
        assert_eq!(first.slot, second.slot, "the slot is used again");
        assert!(sessions.find(first).is_none());
        assert!(sessions.remove(first).is_none());
        assert_eq!(sessions.find(second).map(|session| session.version), Some(Version::V2025_06_18));
        assert_eq!(sessions.len(), 1);
    }
}
