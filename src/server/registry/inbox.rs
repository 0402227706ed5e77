//! Owners of this core, and the messages that wait for each.
//!
//! Not here: what an owner registered (the shards know). Invariant: an inbox is bounded in messages and bytes, and who
//! sends to a full one is told.

use std::collections::VecDeque;
use std::task::Waker;

use crate::ids::{CoreId, ShardId};
use crate::limits::{INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, OWNERS_PER_CORE_MAX};
use crate::shard::registry::{Key, Kind, Owner, Refusal};

/// A message for something registered.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is for: a server or a transport.
    pub kind: Kind,
    /// Which one: the key of its name.
    pub to: Key,
    from_bytes: u16,
    text: Box<[u8]>,
}

impl Message {
    pub(super) fn new(kind: Kind, to: Key, from: &str, body: &[u8]) -> Message {
        let text = [from.as_bytes(), body].concat();
        Message { kind, to, from_bytes: from.len() as u16, text: text.into() }
    }

    /// The same message for something else.
    pub(super) fn copy_for(&self, to: Key) -> Message {
        Message { to, text: self.text.clone(), ..*self }
    }

    /// From whom: a transport's name if it is for a server, a server's if it is for a transport.
    pub fn from(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.from_bytes)]).unwrap_or_default()
    }

    /// What it says.
    pub fn body(&self) -> &[u8] {
        &self.text[usize::from(self.from_bytes)..]
    }
}

/// Shards, as bits: of number modulo 64. Whoever looks through them finds those of one owner, and few others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Shards(pub u64);

impl Shards {
    pub(super) const ALL: Shards = Shards(u64::MAX);

    pub(super) fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << (shard.0 % 64);
    }

    pub(super) fn may_hold(self, shard: ShardId) -> bool {
        self.0 >> (shard.0 % 64) & 1 == 1
    }
}

struct Inbox {
    generation: u32,
    alive: bool,
    /// Cores that this owner has asked to register something.
    asked: u64,
    /// And the shards it was about.
    shards: Shards,
    messages: VecDeque<Message>,
    bytes: usize,
    waker: Option<Waker>,
}

/// All owners of a core.
pub(super) struct Inboxes {
    core: CoreId,
    slots: Vec<Inbox>,
    vacant: Vec<u32>,
}

impl Inboxes {
    pub(super) fn new(core: CoreId) -> Inboxes {
        Inboxes { core, slots: Vec::new(), vacant: Vec::new() }
    }

    /// A new owner; none if there are too many.
    pub(super) fn open(&mut self) -> Option<Owner> {
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None if self.slots.len() >= OWNERS_PER_CORE_MAX => return None,
            None => {
                let (messages, waker) = (VecDeque::new(), None);
                self.slots.push(Inbox {
                    generation: 0,
                    alive: false,
                    asked: 0,
                    shards: Shards(0),
                    messages,
                    bytes: 0,
                    waker,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let inbox = &mut self.slots[slot as usize];
        inbox.alive = true;
        Some(Owner { core: self.core, slot, generation: inbox.generation })
    }

    /// Ends an owner. The cores it had asked to register something, and in which shards, if it was there.
    pub(super) fn close(&mut self, owner: Owner) -> Option<(u64, Shards)> {
        let inbox = self.find(owner)?;
        inbox.alive = false;
        inbox.generation = inbox.generation.wrapping_add(1);
        inbox.messages = VecDeque::new();
        (inbox.bytes, inbox.waker) = (0, None);
        let asked = (std::mem::take(&mut inbox.asked), std::mem::take(&mut inbox.shards));
        self.vacant.push(owner.slot);
        Some(asked)
    }

    /// Whether an owner is there.
    pub(super) fn holds(&self, owner: Owner) -> bool {
        let inbox = self.slots.get(owner.slot as usize);
        inbox.is_some_and(|inbox| inbox.alive && inbox.generation == owner.generation && owner.core == self.core)
    }

    /// The owner asks a core to register something.
    pub(super) fn asks(&mut self, owner: Owner, core: CoreId, shard: ShardId) {
        if let Some(inbox) = self.find(owner) {
            inbox.asked |= 1 << core.0;
            inbox.shards.insert(shard);
        }
    }

    /// Lays a message into an inbox.
    pub(super) fn deliver(&mut self, owner: Owner, message: Message) -> Result<(), Refusal> {
        let inbox = self.find(owner).ok_or(Refusal::OwnerGone)?;
        let bytes = message.text.len();
        if inbox.messages.len() >= INBOX_MESSAGES_MAX || inbox.bytes + bytes > INBOX_BYTES_MAX {
            return Err(Refusal::InboxFull);
        }
        inbox.bytes += bytes;
        inbox.messages.push_back(message);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// The oldest message of an owner; with a waker, whoever waits for the next is woken by it.
    pub(super) fn take(&mut self, owner: Owner, waker: Option<&Waker>) -> Option<Message> {
        let inbox = self.find(owner)?;
        let Some(message) = inbox.messages.pop_front() else {
            inbox.waker = waker.cloned();
            return None;
        };
        inbox.bytes -= message.text.len();
        Some(message)
    }

    fn find(&mut self, owner: Owner) -> Option<&mut Inbox> {
        let inbox = self.slots.get_mut(owner.slot as usize)?;
        (inbox.alive && inbox.generation == owner.generation && owner.core == self.core).then_some(inbox)
    }
}
