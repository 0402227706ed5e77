//! Carried: bytes of all connections of a core together that came and are used by nothing yet.
//!
//! Two kinds, each with a budget of its own. Messages that are coming in, in parts, and are not short: if they are more
//! than they may be, the one that has been coming for longest is refused, so who sends slowly makes room for who does
//! not. Messages that are whole and wait, for the answer to an earlier one or for a server to be reached: if they are
//! more than they may be, who waits for an answer is not read, and nobody else begins to wait.
//! Not here: what one connection may carry (`settings`).
//! Invariant: both sums are those of what connections are said to carry, each counted when its last step ended.

use std::collections::BTreeSet;

use super::connection::{Connection, Framing};
use super::core::Core;
use super::service::{Nanos, Service};
use crate::ids::ConnectionId;
use crate::limits::{COMING_BYTES_PER_CORE_MAX, STANDING_BYTES_PER_CORE_MAX};

/// Part of a message that is no longer than this is not counted: there are as many of them as there are connections,
/// and refusing them all would make no room.
pub(super) const LITTLE: usize = 4096;
/// How many are refused in one turn.
const REFUSED_AT_ONCE: usize = 256;

/// What a connection carries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Load {
    /// Nothing.
    #[default]
    None,
    /// Part of a message.
    Coming {
        /// So much of it.
        bytes: usize,
        /// When it began.
        since: Nanos,
    },
    /// Messages whose turn has not come.
    Standing {
        /// So much of them.
        bytes: usize,
    },
}

/// What all connections of a core carry.
#[derive(Default)]
pub struct Carried {
    coming: usize,
    standing: usize,
    /// The connections of messages that are coming in, by when those began.
    oldest: BTreeSet<(Nanos, ConnectionId)>,
}

impl Carried {
    /// A connection carries this now, and not any more what it did before.
    fn exchange(&mut self, id: ConnectionId, before: Load, now: Load) {
        let ((came, stood), (comes, stands)) = (before.sums(), now.sums());
        self.coming = self.coming - came + comes;
        self.standing = self.standing - stood + stands;
        if let Load::Coming { since, .. } = before {
            self.oldest.remove(&(since, id));
        }
        if let Load::Coming { since, .. } = now {
            self.oldest.insert((since, id));
        }
    }

    /// Whether more messages may begin to stand and wait.
    pub fn has_room(&self) -> bool {
        self.standing <= STANDING_BYTES_PER_CORE_MAX
    }

    /// What is coming in, and what stands and waits.
    pub(super) fn sums(&self) -> (usize, usize) {
        (self.coming, self.standing)
    }

    /// Whether more is coming in than there may be.
    pub fn is_over(&self) -> bool {
        self.coming > COMING_BYTES_PER_CORE_MAX
    }
}

impl Load {
    /// What is coming in, and what stands and waits.
    pub(super) fn sums(self) -> (usize, usize) {
        match self {
            Load::None => (0, 0),
            Load::Coming { bytes, .. } => (bytes, 0),
            Load::Standing { bytes } => (0, bytes),
        }
    }
}

impl Connection {
    /// How many bytes it carries.
    pub(super) fn carries(&self) -> usize {
        let assembled = match &self.framing {
            Framing::Chunked(assembly) => assembly.bytes(),
            _ => 0,
        };
        let waits = self.early.as_ref().map_or(0, |early| early.bytes());
        self.carry.len() + assembled + waits
    }
}

impl<S: Service> Core<S> {
    /// Counts what a connection carries, at the end of its step.
    #[inline]
    pub(super) fn weigh(&mut self, connection: &mut Connection) {
        // As at the end of nearly every step.
        let holds_none = connection.carry.is_empty() && connection.early.is_none();
        if holds_none && connection.load == Load::None && !matches!(connection.framing, Framing::Chunked(_)) {
            return;
        }
        self.weigh_anew(connection);
    }

    #[cold]
    fn weigh_anew(&mut self, connection: &mut Connection) {
        let load = self.load_of(connection);
        if load != connection.load {
            self.carried.exchange(connection.id, connection.load, load);
            connection.load = load;
        }
    }

    fn load_of(&self, connection: &Connection) -> Load {
        let bytes = connection.carries();
        match self.is_occupied(connection) {
            _ if bytes == 0 => Load::None,
            true => Load::Standing { bytes },
            false if bytes <= LITTLE => Load::None,
            false => Load::Coming { bytes, since: connection.frame_since },
        }
    }

    /// Refuses what is coming in beyond what there is room for, so much of it in one turn.
    pub(super) fn make_room(&mut self) {
        for _ in 0..REFUSED_AT_ONCE {
            let oldest = self.carried.oldest.first().filter(|_| self.carried.is_over());
            let Some(&(_, id)) = oldest else { return };
            self.with(id, Core::no_room_to_come);
        }
    }
}
