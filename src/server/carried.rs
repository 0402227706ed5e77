//! Carried: bytes of all connections of a core together that came and are used by nothing yet.
//!
//! Two kinds, each with a budget of its own. Messages that are coming in, in parts: if they are more than they may be,
//! the one that has been coming for longest is refused, so who sends slowly makes room for who does not. Messages that
//! are whole and wait, for the answer to an earlier one or for a server to be reached: if they are more than they may
//! be, who waits for an answer is not read, and nobody else begins to wait.
//! Not here: what one connection may carry (`settings`).
//! Invariant: both sums are those of what connections are said to carry, each counted when its last step ended.

use std::collections::BTreeSet;

use super::connection::{Connection, Framing};
use super::core::Core;
use super::service::{Nanos, Service};
use crate::ids::ConnectionId;
use crate::limits::{COMING_BYTES_PER_CORE_MAX, STANDING_BYTES_PER_CORE_MAX};

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
    #[cold]
    fn exchange(&mut self, id: ConnectionId, before: Load, now: Load) {
        match before {
            Load::None => {}
            Load::Coming { bytes, since } => {
                self.coming -= bytes;
                self.oldest.remove(&(since, id));
            }
            Load::Standing { bytes } => self.standing -= bytes,
        }
        match now {
            Load::None => {}
            Load::Coming { bytes, since } => {
                self.coming += bytes;
                self.oldest.insert((since, id));
            }
            Load::Standing { bytes } => self.standing += bytes,
        }
    }

    /// Whether so many bytes more may stand and wait.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.standing + bytes <= STANDING_BYTES_PER_CORE_MAX
    }

    /// What is coming in, and what stands and waits.
    pub(super) fn sums(&self) -> (usize, usize) {
        (self.coming, self.standing)
    }

    /// Whose message has been coming in for longest, if there is more of them than there may be.
    fn excess(&self) -> Option<ConnectionId> {
        let is_over = self.coming > COMING_BYTES_PER_CORE_MAX;
        self.oldest.first().filter(|_| is_over).map(|&(_, id)| id)
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

impl<S: Service> Core<S> {
    /// Counts what a connection carries, at the end of its step.
    pub(super) fn weigh(&mut self, connection: &mut Connection) {
        let load = self.load_of(connection);
        if load != connection.load {
            self.carried.exchange(connection.id, connection.load, load);
            connection.load = load;
        }
    }

    /// How many bytes a connection carries.
    pub(super) fn carried_by(&self, connection: &Connection) -> usize {
        let assembled = match &connection.framing {
            Framing::Chunked(assembly) => assembly.bytes(),
            _ => 0,
        };
        let waits = connection.early.as_ref().map_or(0, |early| early.bytes());
        connection.carry.len() + assembled + waits
    }

    fn load_of(&self, connection: &Connection) -> Load {
        match self.carried_by(connection) {
            0 => Load::None,
            bytes if self.is_occupied(connection) => Load::Standing { bytes },
            bytes => Load::Coming { bytes, since: connection.frame_since },
        }
    }

    /// Refuses what is coming in beyond what there is room for.
    pub(super) fn make_room(&mut self) {
        while let Some(id) = self.carried.excess() {
            self.with(id, Core::no_room_to_come);
        }
    }
}
