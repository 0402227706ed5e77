//! Connecting: a socket is made, gets a place in the table of direct descriptors, and is connected there.
//!
//! Not here: whom to connect to and how long that may take (`server`), what is set on the socket (`sys::outbound`).
//! Invariant: a connect has one outcome. Success is a stream like an accepted one; anything else is told when nothing
//! of the attempt is left, neither slot nor descriptor nor operation. A connect takes no slot that an accept in flight
//! counts on.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, user_data};
use super::streams::State;
use crate::ids::{ConnectionId, OutboundAddress};
use crate::sys::outbound::socket_to;

/// `IORING_FILE_INDEX_ALLOC`: a free slot, whichever the kernel takes.
const ANY_SLOT: i32 = -1;

/// A connect whose outcome has not been told.
struct Attempt {
    token: u64,
    /// The process's own descriptor, until the ring has a direct one.
    socket: Option<OwnedFd>,
    /// Its place in the table, once it has one.
    stream: Option<ConnectionId>,
    /// Why it will not be a connection.
    failure: Option<i32>,
}

/// All connects whose outcomes have not been told.
#[derive(Default)]
pub(super) struct Connecting {
    attempts: Vec<Option<Attempt>>,
    free: Vec<u32>,
    by_token: HashMap<u64, u32>,
    /// How many are about to take a slot of the table.
    entering: usize,
}

impl Connecting {
    /// How many there are.
    pub(super) fn in_flight(&self) -> usize {
        self.by_token.len()
    }

    /// How many are about to take a slot of the table.
    pub(super) fn entering(&self) -> usize {
        self.entering
    }

    /// The tokens of all.
    pub(super) fn tokens(&self) -> Vec<u64> {
        self.by_token.keys().copied().collect()
    }

    fn begin(&mut self, token: u64) -> u32 {
        assert!(!self.by_token.contains_key(&token), "token {token}: one connect in flight at a time");
        let index = self.free.pop().unwrap_or(self.attempts.len() as u32);
        self.by_token.insert(token, index);
        let attempt = Some(Attempt { token, socket: None, stream: None, failure: None });
        match self.attempts.get_mut(index as usize) {
            Some(place) => *place = attempt,
            None => self.attempts.push(attempt),
        }
        index
    }

    fn attempt(&mut self, index: u32) -> &mut Attempt {
        self.attempts[index as usize].as_mut().expect("an attempt is there until its outcome is told")
    }

    fn end(&mut self, index: u32) -> Attempt {
        let attempt = self.attempts[index as usize].take().expect("an attempt is there until its outcome is told");
        self.by_token.remove(&attempt.token);
        self.free.push(index);
        attempt
    }
}

impl Driver {
    /// Opens a connection; `Event::Connected` tells how that ended. The token names it until then and is of the
    /// caller's choice.
    ///
    /// # Panics
    /// If a connect with this token is in flight already.
    pub fn connect(&mut self, address: &OutboundAddress, token: u64) {
        let index = self.connecting.begin(token);
        let made = if self.slots_free() == 0 {
            Err(libc::ENFILE)
        } else {
            socket_to(address).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
        };
        let (socket, server) = match made {
            Ok(made) => made,
            Err(error) => {
                // Told as if the kernel had said it, so that outcomes come by events only.
                self.reaped.push_back((user_data(Operation::Install, attempt_id(index)), -error, 0));
                return;
            }
        };
        let descriptor = self.arena.begin_connect(index, socket.as_raw_fd(), server);
        self.connecting.attempt(index).socket = Some(socket);
        self.connecting.entering += 1;
        let entry = opcode::FilesUpdate::new(descriptor, 1).offset(ANY_SLOT).build();
        self.push(entry.user_data(user_data(Operation::Install, attempt_id(index))));
    }

    /// Gives up a connect that takes too long. Its outcome is ECANCELED, and comes when nothing is left of it, unless
    /// it was told before.
    pub fn cancel_connect(&mut self, token: u64) {
        let Some(&index) = self.connecting.by_token.get(&token) else { return };
        let attempt = self.connecting.attempt(index);
        attempt.failure = Some(libc::ECANCELED);
        if let Some(id) = attempt.stream {
            self.close(id);
        }
    }

    /// The completion of an installation: the socket has a slot of the table, or there is none for it.
    pub(super) fn installed(&mut self, index: u32, result: i32) -> Option<Event> {
        let attempt = self.connecting.attempt(index);
        let given_up = attempt.failure.is_some();
        // From here on the direct descriptor is the only one.
        let entering = attempt.socket.take().is_some();
        self.connecting.entering -= usize::from(entering);
        if result < 0 {
            self.connecting.attempt(index).failure.get_or_insert(-result);
            return Some(self.not_connected(index));
        }
        let (slot, server, length) = self.arena.installed(index);
        let id = self.streams.enter_outbound(slot, index);
        self.connecting.attempt(index).stream = Some(id);
        if given_up {
            self.close(id);
            return None;
        }
        if let Some(stream) = self.streams.find(id) {
            stream.set(State::CONNECTING);
        }
        let entry = opcode::Connect::new(types::Fixed(slot), server, length).build();
        self.push(entry.user_data(user_data(Operation::Connect, id)));
        None
    }

    /// The completion of a connect.
    pub(super) fn connected(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let Some(stream) = self.streams.find(id) else {
            // Cannot be: a stream is left only after its connect has ended.
            self.stats.stale += 1;
            return None;
        };
        stream.clear(State::CONNECTING);
        let (index, closing) = (stream.send, stream.is(State::CLOSING));
        if result == 0 && !closing {
            stream.clear(State::UNTOLD);
            self.arena.end_connect(index);
            let token = self.connecting.end(index).token;
            self.want(id);
            return Some(Event::Connected { token, outcome: Ok(id) });
        }
        if closing {
            self.close_descriptor_if_quiet(id);
        } else {
            self.connecting.attempt(index).failure = Some(-result);
            self.close(id);
        }
        None
    }

    /// Cancels the connect in flight.
    pub(super) fn give_up(&mut self, id: ConnectionId) {
        let entry = opcode::AsyncCancel::new(user_data(Operation::Connect, id)).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data(Operation::GiveUp, id)));
    }

    /// A cancel did not end a connect by itself.
    ///
    /// A Unix socket whose server has a full backlog is asked again and again before it waits in a worker thread: a
    /// cancel in between finds nothing, and the connect would wait for as long as the server does.
    pub(super) fn gave_up(&mut self, id: ConnectionId, result: i32) {
        let connecting = self.streams.find(id).is_some_and(|stream| stream.is(State::CONNECTING));
        // Otherwise it has ended, or its worker was told to stop.
        if connecting && result == -libc::ENOENT {
            self.give_up(id);
        }
    }

    /// The end of an attempt of which nothing is left.
    pub(super) fn not_connected(&mut self, index: u32) -> Event {
        self.arena.end_connect(index);
        let Attempt { token, failure, .. } = self.connecting.end(index);
        Event::Connected { token, outcome: Err(failure.unwrap_or(libc::ECANCELED)) }
    }
}

/// Attempts are told apart by their number; an installation has no tenancy.
fn attempt_id(index: u32) -> ConnectionId {
    ConnectionId { slot: index, generation: 0 }
}
