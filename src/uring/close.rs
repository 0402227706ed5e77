//! Closing: cancel, await every end, close the descriptor, and only then let the slot go.
//!
//! Not here: half-closing (`send`), and when to close (`server`).
//! Invariant: a slot's generation grows, and the kernel may hand its descriptor out again, only when nothing of the
//! last tenant is in flight.

use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, user_data};
use super::streams::{Medium, State};
use crate::ids::ConnectionId;

impl Driver {
    /// Closes the stream: what is in flight is cancelled and awaited, then the descriptor goes. `Event::Closed` ends
    /// it; a send in flight still comes back before that. Bytes that had come in but were not handed out are lost.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING)) else { return };
        stream.set(State::CLOSING);
        stream.clear(State::WANTED);
        let stream = *stream;
        if stream.is(State::RECEIVING) && !stream.is(State::STOPPING) {
            self.cancel(user_data(Operation::Receive, id));
        }
        if stream.is(State::SENDING) {
            self.cancel(user_data(Operation::Send, id));
        }
        if stream.is(State::CONNECTING) {
            self.give_up(id);
        }
        self.close_descriptor_if_quiet(id);
    }

    /// Closes the descriptor of a closing stream once nothing of it is in flight any more.
    ///
    /// There is no shutdown before it: nobody else has the descriptor, so closing it ends the connection, and the
    /// kernel gives a shutdown to a worker thread.
    pub(super) fn close_descriptor_if_quiet(&mut self, id: ConnectionId) {
        let medium = self.streams.medium(id);
        let Some(stream) = self.streams.find(id).filter(|stream| stream.is(State::CLOSING)) else { return };
        let busy = State::RECEIVING
            .and(State::SENDING)
            .and(State::SHUTTING)
            .and(State::DESCRIPTOR_CLOSING)
            .and(State::HANDING)
            .and(State::CONNECTING);
        if stream.any(busy) {
            return;
        }
        stream.set(State::DESCRIPTOR_CLOSING);
        let entry = match medium {
            Medium::Socket => opcode::Close::new(types::Fixed(id.slot)).build(),
            Medium::Pipes { .. } => opcode::Nop::new().build(),
        };
        self.push(entry.user_data(user_data(Operation::Close, id)));
    }

    /// The completion of a close.
    pub(super) fn closed(&mut self, id: ConnectionId) -> Option<Event> {
        let Some(stream) = self.streams.find(id) else {
            self.stats.stale += 1;
            return None;
        };
        let attempt = stream.is(State::UNTOLD).then_some(stream.send);
        self.streams.leave(id);
        match attempt {
            None => Some(Event::Closed { stream: id }),
            Some(attempt) => Some(self.not_connected(attempt)),
        }
    }

    /// Cancels the operation with this user data. Its own end is reported only if it found nothing.
    pub(super) fn cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel::new(target).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Operation::Cancel.alone()));
    }
}
