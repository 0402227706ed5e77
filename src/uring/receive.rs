//! Receiving: credit, the sharing of scarce buffers, and the end of a stream.
//!
//! Not here: sending, accepting, closing (`driver`).
//! Invariant: a connection is read only while its owner wants it; it takes at most its credit of bytes, plus what had
//! completed before it was stopped (counted as overshoot), before others had their turn. While buffers are short,
//! streams wait first come first served, and each is given one buffer when its turn comes.

use std::os::fd::{OwnedFd, RawFd};

use io_uring::{opcode, squeue, types};

use super::driver::{BUFFER_GROUP, Driver};
use super::event::{Ended, Event, Lease};
use super::features::limit_receive;
use super::operation::{Operation, receive_flags, user_data};
use super::streams::{Medium, State};
use crate::ids::ConnectionId;

impl Driver {
    /// Reads the stream, or (again) does not. Bytes that had come in before it stopped still arrive as events. While a
    /// connection is not being read, `Event::HungUp` tells that its peer has left.
    pub fn read(&mut self, id: ConnectionId, wanted: bool) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING.and(State::ENDED))) else {
            return;
        };
        if wanted {
            self.want(id);
            return;
        }
        stream.clear(State::WANTED);
        if !stream.is(State::RECEIVING) {
            self.await_hang_up(id);
        } else if !stream.any(State::STOPPING.and(State::HANG_UP_POLLED)) {
            stream.set(State::STOPPING);
            self.cancel(user_data(Operation::Receive, id));
        }
    }

    /// Waits for the peer of a socket that is not being read to shut its side.
    fn await_hang_up(&mut self, id: ConnectionId) {
        let is_socket = self.streams.medium(id) == Medium::Socket;
        let busy = State::WANTED.and(State::RECEIVING).and(State::CLOSING).and(State::ENDED).and(State::HUNG_UP);
        let Some(stream) = self.streams.find(id).filter(|stream| is_socket && !stream.any(busy)) else { return };
        stream.set(State::RECEIVING.and(State::HANG_UP_POLLED));
        // Errors and a reset are told whether they are asked for or not.
        let entry = opcode::PollAdd::new(types::Fixed(id.slot), libc::POLLRDHUP as u32).build();
        self.push(entry.user_data(user_data(Operation::Receive, id)));
    }

    /// Marks a stream as wanted and queues it for arming.
    pub(super) fn want(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id) else { return };
        stream.set(State::WANTED);
        // If it is left again, somebody wants to hear of it again.
        stream.clear(State::HUNG_UP);
        if stream.is(State::HANG_UP_POLLED) && !stream.is(State::STOPPING) {
            stream.set(State::STOPPING);
            self.cancel(user_data(Operation::Receive, id));
        } else if !stream.any(State::RECEIVING.and(State::QUEUED)) {
            stream.set(State::QUEUED);
            self.rearm.push_back(id);
        }
    }

    /// Makes a stream of two descriptors of the process, for example its standard input and output. It is being read
    /// already. Closing the stream leaves the descriptors open.
    pub fn adopt(&mut self, read: RawFd, write: RawFd) -> ConnectionId {
        let id = self.streams.adopt(read, write);
        self.want(id);
        id
    }

    /// Makes a stream of two pipes, for example a child's standard output and input. It is being read already. Both are
    /// closed when nothing of the stream is in flight any more, before `Event::Closed`; `shutdown` closes the one that
    /// is written. Without that one nothing can be sent.
    pub fn adopt_owned(&mut self, read: OwnedFd, write: Option<OwnedFd>) -> ConnectionId {
        let id = self.streams.adopt_owned(read, write);
        self.want(id);
        id
    }

    /// Arms the receives that are due: of the starved as many as there are buffers for, and if that is all of them,
    /// those in `rearm`. False if some were armed and others still wait: then nobody else would wake them.
    pub(super) fn rearm_receives(&mut self) -> bool {
        let mut armed = 0;
        let buffers = self.arena.buffers() - self.leases;
        while armed < buffers {
            let Some(id) = self.starved.pop_front() else { break };
            // One buffer each: a multishot receive could take all of them before the next in line has had its turn.
            armed += usize::from(self.arm_receive(id, true));
        }
        if self.starved.is_empty() {
            while let Some(id) = self.rearm.pop_front() {
                self.arm_receive(id, false);
            }
            return true;
        }
        // Who comes now waits behind those who wait.
        self.starved.append(&mut self.rearm);
        armed == 0
    }

    /// Arms the receive of a stream taken from one of the queues, if it is still wanted.
    fn arm_receive(&mut self, id: ConnectionId, singly: bool) -> bool {
        let Some(stream) = self.streams.find(id) else { return false };
        stream.clear(State::QUEUED);
        if !stream.is(State::WANTED) || stream.any(State::RECEIVING.and(State::CLOSING).and(State::ENDED)) {
            return false;
        }
        stream.set(State::RECEIVING);
        stream.clear(State::UNCONFIRMED);
        stream.received = 0;
        let singly = singly || stream.is(State::FLOODING);
        let entry = self.receive_entry(id, singly);
        self.push(entry.user_data(user_data(Operation::Receive, id)));
        true
    }

    fn receive_entry(&self, id: ConnectionId, singly: bool) -> squeue::Entry {
        let bytes = self.settings.buffer_bytes as u32;
        match self.streams.medium(id) {
            Medium::Pipes { read, .. } => opcode::Read::new(types::Fd(read), std::ptr::null_mut(), bytes)
                .offset(u64::MAX)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Medium::Socket if self.features.recv_multishot && !singly => {
                let mut entry = opcode::RecvMulti::new(types::Fixed(id.slot), BUFFER_GROUP).build();
                if self.features.recv_limit {
                    limit_receive(&mut entry, self.settings.receive_credit_bytes);
                }
                entry
            }
            Medium::Socket => opcode::Recv::new(types::Fixed(id.slot), std::ptr::null_mut(), bytes)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        }
    }

    /// A completion of a receive.
    pub(super) fn received(&mut self, id: ConnectionId, result: i32, flags: u32) -> Option<Event> {
        let (more, buffer) = receive_flags(flags);
        let lease = buffer.map(|buffer| {
            self.leases += 1;
            Lease { buffer, length: result.max(0) as u32 }
        });
        let Some(stream) = self.streams.find(id) else {
            // An earlier tenant's: only the buffer matters.
            self.stats.stale += 1;
            return self.drop_lease(lease);
        };
        let stopping = stream.is(State::STOPPING);
        if !more {
            stream.clear(State::RECEIVING.and(State::STOPPING));
        }
        let polled = stream.take(State::READ_POLLED);
        let awaited = stream.take(State::HANG_UP_POLLED);
        if stream.is(State::CLOSING) {
            self.close_descriptor_if_quiet(id);
            return self.drop_lease(lease);
        }
        if polled {
            // Something to read, or told to stop, or an error that the read will show.
            return self.receive_again(id);
        }
        if awaited {
            if result > 0 && !stream.is(State::WANTED) {
                stream.set(State::HUNG_UP);
                return Some(Event::HungUp { stream: id });
            }
            return self.receive_again(id);
        }
        if result > 0 {
            let lease = lease.expect("bytes come in a provided buffer");
            stream.received = stream.received.saturating_add(result as u32);
            if stopping && (stream.is(State::FLOODING) || !stream.is(State::WANTED)) {
                self.stats.overshoot_bytes += result as u64;
            }
            if !more && (result as usize) < self.settings.buffer_bytes {
                stream.clear(State::FLOODING);
            }
            let spent = stream.received >= self.settings.receive_credit_bytes;
            if more && spent && !self.features.recv_limit && !stopping {
                stream.set(State::STOPPING.and(State::FLOODING));
                self.cancel(user_data(Operation::Receive, id));
            }
            if more {
                self.doubt(id);
            }
            let _: Option<Event> = self.receive_again(id);
            return Some(Event::Received { stream: id, lease });
        }
        let _: Option<Event> = self.drop_lease(lease);
        let medium = self.streams.medium(id);
        let stream = self.streams.find(id)?;
        match -result {
            libc::ENOBUFS => {
                self.stats.buffer_shortages += 1;
                if !stream.is(State::WANTED) {
                    return self.receive_again(id);
                }
                if !stream.is(State::QUEUED) {
                    stream.set(State::QUEUED);
                    self.starved.push_back(id);
                }
                self.grow_buffers();
                None
            }
            libc::EAGAIN => {
                match medium {
                    // A pipe that does not block has nothing yet: wait for it, where a read would only fail again.
                    Medium::Pipes { read, .. } if stream.is(State::WANTED) => {
                        stream.set(State::RECEIVING.and(State::READ_POLLED));
                        let entry = opcode::PollAdd::new(types::Fd(read), libc::POLLIN as u32).build();
                        self.push(entry.user_data(user_data(Operation::Receive, id)));
                        None
                    }
                    _ => self.receive_again(id),
                }
            }
            // Stopped, or interrupted: armed again if it is (again) wanted.
            libc::ECANCELED | libc::EINTR => self.receive_again(id),
            error => {
                stream.set(State::ENDED);
                stream.clear(State::WANTED);
                let why = match error {
                    0 if stream.is(State::RESET) => Ended::Error(libc::ECONNRESET),
                    0 => Ended::Eof,
                    error => Ended::Error(error),
                };
                Some(Event::Ended { stream: id, why })
            }
        }
    }

    /// Queues a stream for arming whose receive has ended, if it is wanted; else its end is waited for.
    fn receive_again(&mut self, id: ConnectionId) -> Option<Event> {
        let stream = self.streams.find(id)?;
        match (stream.is(State::WANTED), stream.is(State::RECEIVING)) {
            (true, false) => self.want(id),
            (false, false) => self.await_hang_up(id),
            (_, true) => {}
        }
        None
    }

    /// Doubles the number of receive buffers, as long as there may be more; once per turn, however many found none.
    fn grow_buffers(&mut self) {
        if !self.grown {
            self.grown = true;
            let more = self.arena.buffers();
            // Memory that cannot be had now is no reason to stop: the starved wait for buffers to come back.
            let _: std::io::Result<usize> = self.arena.grow(more);
        }
    }

    fn drop_lease(&mut self, lease: Option<Lease>) -> Option<Event> {
        if let Some(lease) = lease {
            self.release(lease);
        }
        None
    }
}
