//! The way to one server: links of HTTP, a way on which both talk, or the core that speaks to it for all.
//!
//! Not here: what is sent. Invariant: what is submitted is answered, failed or dropped, whichever way it goes.

use std::collections::HashMap;

use crate::ids::{ConnectionId, CoreId};
use crate::limits::WAITING_CALL_BYTES_MAX;
use crate::server::service::{CallKey, End, Nanos, Wish};
use crate::upstream::dial_in::Dialled;
use crate::upstream::http::{Pool, Request};
use crate::upstream::talk::{Line, ONLY, Passage, Talk};

/// The way to a server.
pub(super) enum Channel {
    /// Another core speaks to it.
    Elsewhere(Remote),
    /// Links of HTTP, by which each request has its own answer.
    Http(Box<Pool>),
    /// A child process, an event stream for all, or connections of a server that dials in.
    Talk(Box<dyn Talk>),
}

/// A server to which another core speaks.
pub(super) struct Remote {
    /// That core.
    pub owner: CoreId,
    /// Calls that it was handed and that have no outcome yet.
    pub calls: HandedOn,
}

/// Calls that another core was handed, by their keys, and how many bytes their messages have: as long as it takes
/// nothing they lie in this core's outbox.
#[derive(Default)]
pub(super) struct HandedOn {
    calls: HashMap<CallKey, usize>,
    bytes: usize,
}

impl HandedOn {
    /// Whether a message of so many bytes may be handed on as well.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.calls.is_empty() || self.bytes + bytes <= WAITING_CALL_BYTES_MAX
    }

    pub fn insert(&mut self, key: CallKey, bytes: usize) {
        self.bytes += bytes;
        self.bytes -= self.calls.insert(key, bytes).unwrap_or_default();
    }

    /// Whether it was one of them.
    pub fn remove(&mut self, key: CallKey) -> bool {
        let removed = self.calls.remove(&key);
        self.bytes -= removed.unwrap_or_default();
        removed.is_some()
    }

    pub fn contains(&self, key: CallKey) -> bool {
        self.calls.contains_key(&key)
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// All of them, which it has no more.
    pub fn take(&mut self) -> Vec<CallKey> {
        self.bytes = 0;
        std::mem::take(&mut self.calls).into_keys().collect()
    }
}

impl Channel {
    /// Whether only ids tell which answer is to which request.
    pub fn is_talk(&self) -> bool {
        matches!(self, Channel::Talk(_))
    }

    /// The core that speaks to the server, if it is another.
    pub fn owner(&self) -> Option<CoreId> {
        match self {
            Channel::Elsewhere(remote) => Some(remote.owner),
            Channel::Http(_) | Channel::Talk(_) => None,
        }
    }

    /// Ends it; nothing is submitted any more.
    pub fn shut(&mut self, now: Nanos) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.close_all(),
            Channel::Talk(talk) => talk.shut(now),
        }
    }

    /// Whether no link is left, nor an attempt at one.
    pub fn is_over(&self) -> bool {
        match self {
            Channel::Elsewhere(remote) => remote.calls.is_empty(),
            Channel::Http(pool) => pool.is_over(),
            Channel::Talk(talk) => talk.is_over(),
        }
    }

    /// Whether nothing of it can come to whoever has its number next: no link, and no attempt at one.
    pub fn has_let_go(&self) -> bool {
        match self {
            Channel::Talk(talk) => talk.has_let_go(),
            Channel::Elsewhere(_) | Channel::Http(_) => self.is_over(),
        }
    }

    /// Whether something was heard outside any link.
    pub fn has_news(&self) -> bool {
        matches!(self, Channel::Talk(talk) if talk.has_news())
    }

    /// Whether bytes that came may have brought something to hear.
    pub fn may_have_heard(&self) -> bool {
        match self {
            Channel::Http(pool) => pool.has_outcomes(),
            Channel::Elsewhere(_) | Channel::Talk(_) => true,
        }
    }

    /// Whether there was no way to the server when one was tried last.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Channel::Http(pool) if pool.is_unreachable())
    }

    /// Whether nothing is left that should leave before its core ends.
    pub fn is_gone(&self) -> bool {
        match self {
            Channel::Talk(talk) => talk.is_gone(),
            Channel::Elsewhere(_) | Channel::Http(_) => true,
        }
    }

    /// How many connections a server has that dials in; none for others.
    pub fn connections(&self) -> Option<usize> {
        match self {
            Channel::Talk(talk) => talk.connections(),
            Channel::Elsewhere(_) | Channel::Http(_) => None,
        }
    }

    /// The lines of a server that dials in.
    pub fn dialled(&mut self) -> Option<&mut Dialled> {
        match self {
            Channel::Talk(talk) => talk.dialled(),
            Channel::Elsewhere(_) | Channel::Http(_) => None,
        }
    }

    /// The line by which a request went that waits for its answer; none if nobody could be told anything about it.
    pub fn line_of(&mut self, id: u64) -> Option<Line> {
        match self {
            Channel::Talk(talk) => talk.outstanding().line_of(id),
            Channel::Elsewhere(_) | Channel::Http(_) => Some(ONLY),
        }
    }

    /// So many links are taken by calls that wait for their callers: there may be as many more.
    pub fn leave_room(&mut self, now: Nanos, links: usize) {
        if let Channel::Http(pool) = self {
            pool.leave_room(now, links);
        }
    }

    /// Sends a message.
    pub fn submit(&mut self, now: Nanos, errand: u32, passage: Passage, text: Vec<u8>) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => {
                pool.submit(now, Request { errand, text, is_notice: matches!(passage, Passage::Notice(_)) });
            }
            Channel::Talk(talk) => talk.submit(now, errand, passage, &text),
        }
    }

    /// Nobody waits for an errand any more.
    pub fn drop_errand(&mut self, now: Nanos, errand: u32) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.drop_errand(now, errand),
            Channel::Talk(talk) => talk.drop_errand(now, errand),
        }
    }

    /// A link was opened, or not; its place if it is one of this server's.
    pub fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16> {
        match self {
            Channel::Http(pool) => pool.connected(now, token, outcome).then(|| pool.place_of(token) as u16),
            Channel::Talk(talk) => talk.connected(now, token, outcome),
            Channel::Elsewhere(_) => None,
        }
    }

    /// Bytes came in on the link at a place.
    pub fn received(&mut self, now: Nanos, place: u16, id: ConnectionId, bytes: &[u8]) {
        match self {
            Channel::Http(pool) => pool.received(now, usize::from(place), id, bytes),
            Channel::Talk(talk) => talk.received(now, place, id, bytes),
            Channel::Elsewhere(_) => {}
        }
    }

    /// The link at a place brings nothing more.
    pub fn ended(&mut self, now: Nanos, place: u16, id: ConnectionId, how: End) {
        match self {
            Channel::Http(pool) => pool.ended(now, usize::from(place), id, how),
            Channel::Talk(talk) => talk.ended(now, place, id, how),
            Channel::Elsewhere(_) => {}
        }
    }

    /// A send on the link at a place ended.
    pub fn sent(&mut self, place: u16, id: ConnectionId, buffer: Vec<u8>, whole: bool) {
        match self {
            Channel::Http(pool) => pool.sent(usize::from(place), id, buffer, whole),
            Channel::Talk(talk) => talk.sent(place, id, buffer, whole),
            Channel::Elsewhere(_) => {}
        }
    }

    pub fn tick(&mut self, now: Nanos) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.tick(now),
            Channel::Talk(talk) => talk.tick(now),
        }
    }

    pub fn deadline(&self) -> Option<Nanos> {
        match self {
            Channel::Elsewhere(_) => None,
            Channel::Http(pool) => pool.deadline(),
            Channel::Talk(talk) => talk.deadline(),
        }
    }

    /// Hands out what is to be done with links.
    pub fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.wishes(wish),
            Channel::Talk(talk) => talk.wishes(wish),
        }
    }
}
