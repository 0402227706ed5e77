//! Sending: one buffer at a time per stream, whole, and the half-close that follows the last one.
//!
//! Not here: what is sent and in which order (`server`).
//! Invariant: a buffer being sent belongs to the arena until its terminal completion; it comes back exactly once, and
//! whatever of it the kernel took before that was told as progress.

use io_uring::{opcode, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, user_data};
use super::streams::{Medium, State};
use crate::ids::ConnectionId;

impl Driver {
    /// Sends the buffer, whole. It comes back with `Event::Sent`, after an `Event::SentSome` for each part if the peer
    /// takes it in parts. One send at a time per stream.
    ///
    /// # Errors
    /// The buffer, if the stream is closing or was closed.
    ///
    /// # Panics
    /// If a send is in flight on the stream already.
    pub fn send(&mut self, id: ConnectionId, buffer: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING)) else {
            return Err(buffer);
        };
        assert!(!stream.is(State::SENDING), "{id}: one send in flight at a time");
        let (place, start, length) = self.arena.begin_send(buffer);
        stream.set(State::SENDING);
        // If the peer has left, this will find it out.
        stream.clear(State::UNCONFIRMED);
        stream.send = place;
        self.push_send(id, start, length);
        Ok(())
    }

    fn push_send(&mut self, id: ConnectionId, start: *const u8, length: u32) {
        let entry = match self.streams.medium(id) {
            // Without WAITALL, which would have the kernel send the rest by itself: who waits for a slow reader's
            // megabytes is to see that they move.
            Medium::Socket => opcode::Send::new(types::Fixed(id.slot), start, length).flags(libc::MSG_NOSIGNAL).build(),
            Medium::Pipes { write: Some(write), .. } => {
                opcode::Write::new(types::Fd(write), start, length).offset(u64::MAX).build()
            }
            // Shut down: as a socket would say.
            Medium::Pipes { write: None, .. } => {
                self.reaped.push_back((user_data(Operation::Send, id), -libc::EPIPE, 0));
                return;
            }
        };
        self.push(entry.user_data(user_data(Operation::Send, id)));
    }

    /// A completion of a send.
    pub(super) fn sent(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let medium = self.streams.medium(id);
        let Some(stream) = self.streams.find(id) else {
            // Cannot be: a stream is left only after its send has ended.
            self.stats.stale += 1;
            return None;
        };
        let (place, closing) = (stream.send, stream.is(State::CLOSING));
        // A pipe that does not block had no room, or has room (again): in both cases nothing was written by this.
        let polled = stream.take(State::WRITE_POLLED);
        let written = if polled { result.min(0) } else { result };
        if written == -libc::EAGAIN
            && let Medium::Pipes { write: Some(write), .. } = medium
            && !closing
        {
            stream.set(State::WRITE_POLLED);
            let entry = opcode::PollAdd::new(types::Fd(write), libc::POLLOUT as u32).build();
            self.push(entry.user_data(user_data(Operation::Send, id)));
            return None;
        }
        if written < 0 {
            if written == -libc::ECONNRESET {
                stream.set(State::RESET);
            }
            return self.end_send(id, place, Err(-written));
        }
        match self.arena.continue_send(place, written as usize) {
            None => self.end_send(id, place, Ok(())),
            Some(_) if closing => self.end_send(id, place, Err(libc::ECANCELED)),
            // Nothing of something: trying again could go on for ever.
            Some(_) if written == 0 && !polled => self.end_send(id, place, Err(libc::EIO)),
            Some((start, length)) => {
                self.push_send(id, start, length);
                (written > 0).then_some(Event::SentSome { stream: id })
            }
        }
    }

    fn end_send(&mut self, id: ConnectionId, place: u32, result: Result<(), i32>) -> Option<Event> {
        let buffer = self.arena.end_send(place);
        if let Some(stream) = self.streams.find(id) {
            stream.clear(State::SENDING);
            if stream.take(State::SHUT_AFTER_SEND) {
                self.shutdown(id);
            }
        }
        self.close_descriptor_if_quiet(id);
        Some(Event::Sent { stream: id, buffer, result })
    }

    /// Tells the peer that nothing more will be sent, after the send in flight if there is one. For a close that must
    /// not cut off what was sent before. Of pipes that the stream owns the one that is written is closed; others are
    /// closed by whoever owns them.
    pub fn shutdown(&mut self, id: ConnectionId) {
        let medium = self.streams.medium(id);
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING.and(State::SHUTTING)))
        else {
            return;
        };
        if stream.is(State::SENDING) {
            stream.set(State::SHUT_AFTER_SEND);
            return;
        }
        if medium != Medium::Socket {
            self.streams.close_write_end(id);
            return;
        }
        stream.set(State::SHUTTING);
        let entry = opcode::Shutdown::new(types::Fixed(id.slot), libc::SHUT_WR).build();
        self.push(entry.user_data(user_data(Operation::Shutdown, id)));
    }

    /// The completion of a shutdown; what came of it shows elsewhere.
    pub(super) fn shut(&mut self, id: ConnectionId) {
        if let Some(stream) = self.streams.find(id) {
            stream.clear(State::SHUTTING);
            self.close_descriptor_if_quiet(id);
        }
    }
}
