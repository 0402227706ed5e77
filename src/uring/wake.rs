//! What wakes a core besides its streams: bells of other cores, and an eventfd written by threads without a ring.
//!
//! Not here: when a core has to be woken (`ring` decides).
//! Invariant: a bell or a write that came while the core was awake is still reported by a later turn, before it sleeps.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, SLOTS_MAX, user_data};
use crate::ids::ConnectionId;

impl Driver {
    /// Wakes up when this eventfd is written. Once per driver; the descriptor must outlive it.
    pub fn watch(&mut self, eventfd: RawFd) {
        self.eventfd = Some(eventfd);
    }

    /// The ring that others give to their `bell` to ring this core; `None` if there is no `MSG_RING`.
    pub fn bell_address(&self) -> Option<RawFd> {
        self.features.msg_ring.then(|| self.descriptor())
    }

    /// Rings the bell of another core, by its ring; leaves with this driver's next turn. Comes in there as
    /// `Event::Bell`. Harmless when the ring is gone, whatever has its number now.
    pub fn bell(&mut self, ring: RawFd) {
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, Operation::Bell.alone(), None).build();
        // No descriptor has a number with more bits, unless somebody raised fs.nr_open to what no ring can hold.
        let target = ConnectionId { slot: ring as u32 % SLOTS_MAX, generation: 0 };
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data(Operation::BellSent, target)));
    }

    /// A bell that did not ring.
    pub(super) fn bell_failed(&mut self, ring: u32, result: i32) {
        match -result {
            // Whoever was to be woken sleeps, and nobody else rings for what is in its mesh already.
            libc::ENOMEM | libc::EOVERFLOW | libc::EAGAIN => self.bell(ring as RawFd),
            // Its ring is gone: who rings does not depend on it.
            _ => self.stats.bells_lost += 1,
        }
    }

    pub(super) fn arm_eventfd(&mut self) {
        if let Some(fd) = self.eventfd.filter(|_| !self.eventfd_armed) {
            self.eventfd_armed = true;
            let target = (&raw mut *self.arena.foreign).cast::<u8>();
            let entry = opcode::Read::new(types::Fd(fd), target, size_of::<u64>() as u32).build();
            self.push(entry.user_data(Operation::Foreign.alone()));
        }
    }

    /// A completion of the eventfd's read.
    pub(super) fn foreign(&mut self, result: i32) -> Option<Event> {
        self.eventfd_armed = false;
        match -result {
            -8 => return Some(Event::Foreign),
            libc::EINTR | libc::ECANCELED => {}
            error => {
                // Not to be woken any more is not to be lived with: the next turn says so.
                self.eventfd = None;
                self.broken = Some(io::Error::from_raw_os_error(error));
            }
        }
        None
    }
}
