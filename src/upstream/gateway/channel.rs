//! The way to one server: links of HTTP, the lines of a child process, or the core that speaks to it for all.
//!
//! Not here: what is sent. Invariant: what is submitted is answered, failed or dropped, whichever way it goes.

use std::collections::HashSet;

use crate::ids::{ConnectionId, CoreId};
use crate::server::service::{CallKey, Nanos, Wish};
use crate::upstream::http::{Pool, Request};
use crate::upstream::stdio::Lines;

/// The way to a server.
pub(super) enum Channel {
    /// Another core speaks to it.
    Elsewhere(Remote),
    /// Links of HTTP.
    Http(Box<Pool>),
    /// A child process.
    Lines(Box<Lines>),
}

/// A server to which another core speaks.
pub(super) struct Remote {
    /// That core.
    pub owner: CoreId,
    /// Calls that it was handed and that have no outcome yet.
    pub calls: HashSet<CallKey>,
}

impl Channel {
    pub fn is_lines(&self) -> bool {
        matches!(self, Channel::Lines(_))
    }

    /// The core that speaks to the server, if it is another.
    pub fn owner(&self) -> Option<CoreId> {
        match self {
            Channel::Elsewhere(remote) => Some(remote.owner),
            Channel::Http(_) | Channel::Lines(_) => None,
        }
    }

    /// Sends a message; `id` if it is a request, under which it is answered.
    pub fn submit(&mut self, now: Nanos, errand: u32, id: Option<u64>, text: Vec<u8>) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.submit(now, Request { errand, text }),
            Channel::Lines(lines) => lines.submit(errand, id, &text),
        }
    }

    /// Nobody waits for an errand any more.
    pub fn drop_errand(&mut self, now: Nanos, errand: u32) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.drop_errand(now, errand),
            Channel::Lines(lines) => lines.drop_errand(errand),
        }
    }

    /// A link was opened, or not; its place if it is one of this server's.
    pub fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16> {
        match self {
            Channel::Http(pool) => pool.connected(now, token, outcome).then(|| pool.place_of(token) as u16),
            Channel::Lines(lines) => lines.connected(token, outcome).then(|| Lines::place_of(token)),
            Channel::Elsewhere(_) => None,
        }
    }

    pub fn tick(&mut self, now: Nanos) {
        if let Channel::Http(pool) = self {
            pool.tick(now);
        }
    }

    pub fn deadline(&self) -> Option<Nanos> {
        match self {
            Channel::Http(pool) => pool.deadline(),
            Channel::Elsewhere(_) | Channel::Lines(_) => None,
        }
    }

    /// Hands out what is to be done with links.
    pub fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        match self {
            Channel::Elsewhere(_) => {}
            Channel::Http(pool) => pool.wishes(wish),
            Channel::Lines(lines) => lines.wishes(wish),
        }
    }
}
