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
use super::operation::Operation;

/// Where a core's bell hangs: what its driver says by `bell_address`, and others give to their `bell`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BellAddress {
    /// Its ring. Comes in as `Event::Bell`. Harmless when the ring is gone, whatever has its number now.
    Ring(RawFd),
    /// The eventfd it watches, where there is no `MSG_RING`. Comes in as `Event::Foreign`. It must stay open as long as
    /// anybody may ring: eight bytes are written to whatever has this number.
    Eventfd(RawFd),
}

impl Driver {
    /// Wakes up when this eventfd is written. Once per driver; the descriptor must outlive it.
    pub fn watch(&mut self, eventfd: RawFd) {
        self.eventfd = Some(eventfd);
    }

    /// Where others ring this core; `None` if there is no `MSG_RING` and no eventfd is watched.
    pub fn bell_address(&self) -> Option<BellAddress> {
        if self.features.msg_ring {
            return Some(BellAddress::Ring(self.descriptor()));
        }
        self.eventfd.map(BellAddress::Eventfd)
    }

    /// Rings the bell of another core. By its ring, it leaves with this driver's next turn; by its eventfd, at once.
    pub fn bell(&mut self, at: BellAddress) {
        match at {
            BellAddress::Ring(ring) => {
                let entry = opcode::MsgRingData::new(types::Fd(ring), 0, Operation::Bell.alone(), None).build();
                self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Operation::BellSent.alone()));
            }
            BellAddress::Eventfd(eventfd) => {
                let one = 1_u64.to_ne_bytes();
                // Not through the ring: there it takes a second entry, or a worker thread (measured).
                // SAFETY: needed because the descriptor is not owned here. The eight bytes live until the call returns.
                let written = unsafe { libc::write(eventfd, one.as_ptr().cast(), one.len()) };
                self.stats.bells_lost += u64::from(written < 0);
            }
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
