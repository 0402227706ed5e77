//! Receiving: credit, the sharing of scarce buffers, and the end of a stream.
//!
//! Not here: sending, accepting, closing (`driver`).
//! Invariant: a connection is read only while its owner wants it; it takes at most its credit of bytes, plus what had
//! completed before it was stopped (counted as overshoot), before others had their turn.

use io_uring::{opcode, squeue, types};

use super::driver::{BUFFER_GROUP, Driver, Ended, Event, Lease, Operation, receive_flags, user_data};
use super::features::limit_receive;
use super::streams::{Medium, State};
use crate::ids::ConnectionId;

impl Driver {
    /// Reads the stream, or (again) does not. Bytes that had come in before it stopped still arrive as events.
    pub fn read(&mut self, id: ConnectionId, wanted: bool) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING.and(State::ENDED))) else {
            return;
        };
        if wanted {
            self.want(id);
            return;
        }
        stream.clear(State::WANTED);
        if stream.is(State::RECEIVING) && !stream.is(State::STOPPING) {
            stream.set(State::STOPPING);
            self.cancel(user_data(Operation::Receive, id));
        }
    }

    /// Marks a stream as wanted and queues it for arming.
    pub(super) fn want(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id) else { return };
        stream.set(State::WANTED);
        if !stream.any(State::RECEIVING.and(State::QUEUED)) {
            stream.set(State::QUEUED);
            self.rearm.push_back(id);
        }
    }

    /// Arms the receives that are due: all in `rearm`, and of the starved as many as there are buffers for.
    pub(super) fn rearm_receives(&mut self) {
        let mut buffers = self.arena.buffers() - self.leases;
        for _ in 0..self.starved.len() {
            if buffers == 0 {
                break;
            }
            let Some(id) = self.starved.pop_front() else { break };
            buffers -= usize::from(self.arm_receive(id));
        }
        while let Some(id) = self.rearm.pop_front() {
            self.arm_receive(id);
        }
    }

    /// Arms the receive of a stream taken from one of the queues, if it is still wanted.
    fn arm_receive(&mut self, id: ConnectionId) -> bool {
        let Some(stream) = self.streams.find(id) else { return false };
        stream.clear(State::QUEUED);
        if !stream.is(State::WANTED) || stream.any(State::RECEIVING.and(State::CLOSING).and(State::ENDED)) {
            return false;
        }
        stream.set(State::RECEIVING);
        stream.received = 0;
        let medium = stream.medium;
        let entry = self.receive_entry(id, medium);
        self.push(entry.user_data(user_data(Operation::Receive, id)));
        true
    }

    fn receive_entry(&self, id: ConnectionId, medium: Medium) -> squeue::Entry {
        let bytes = self.settings.buffer_bytes as u32;
        match medium {
            Medium::Pipes { read, .. } => opcode::Read::new(types::Fd(read), std::ptr::null_mut(), bytes)
                .offset(u64::MAX)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Medium::Socket if self.features.recv_multishot => {
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
        if !more {
            stream.clear(State::RECEIVING.and(State::STOPPING));
        }
        if stream.is(State::CLOSING) {
            self.close_descriptor_if_quiet(id);
            return self.drop_lease(lease);
        }
        if result > 0 {
            let lease = lease.expect("bytes come in a provided buffer");
            stream.received = stream.received.saturating_add(result as u32);
            let spent = stream.received >= self.settings.receive_credit_bytes;
            let overshoot = stream.is(State::STOPPING);
            let stop = more && spent && !self.features.recv_limit && !overshoot;
            if stop {
                stream.set(State::STOPPING);
            }
            let again = !more && stream.is(State::WANTED);
            self.stats.overshoot_bytes += if overshoot { result as u64 } else { 0 };
            if stop {
                self.cancel(user_data(Operation::Receive, id));
            }
            if again {
                self.want(id);
            }
            return Some(Event::Received { stream: id, lease });
        }
        let _: Option<Event> = self.drop_lease(lease);
        let stream = self.streams.find(id)?;
        match -result {
            libc::ENOBUFS => {
                self.stats.buffer_shortages += 1;
                if !stream.is(State::QUEUED) {
                    stream.set(State::QUEUED);
                    self.starved.push_back(id);
                }
                // More buffers for the next time, as long as there may be more.
                let more = self.arena.buffers();
                // Memory that cannot be had now is no reason to stop: the starved wait for buffers to come back.
                let _ = self.arena.grow(more);
                None
            }
            // Stopped, or interrupted: armed again if it is (again) wanted.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                if stream.is(State::WANTED) && !stream.is(State::RECEIVING) {
                    self.want(id);
                }
                None
            }
            error => {
                stream.set(State::ENDED);
                stream.clear(State::WANTED);
                let why = if error == 0 { Ended::Eof } else { Ended::Error(error) };
                Some(Event::Ended { stream: id, why })
            }
        }
    }

    fn drop_lease(&mut self, lease: Option<Lease>) -> Option<Event> {
        if let Some(lease) = lease {
            self.release(lease);
        }
        None
    }
}
