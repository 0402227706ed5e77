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

/// What is written to an eventfd to ring it. Never freed, so the kernel may read it at any time.
static ONE: u64 = 1;

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
    /// Wakes up when this eventfd is written. Once per driver; the descriptor must outlive it, and be one that blocks
    /// (`EventFd::for_ring`): a read of one that does not ends at once with `EAGAIN`, whether in a ring or not.
    ///
    /// # Panics
    /// If the descriptor does not block.
    pub fn watch(&mut self, eventfd: RawFd) {
        // SAFETY: needed because the standard library does not read a descriptor's flags. The call takes integers only.
        let flags = unsafe { libc::fcntl(eventfd, libc::F_GETFL) };
        assert!(flags >= 0 && flags & libc::O_NONBLOCK == 0, "the eventfd of a ring must block (EventFd::for_ring)");
        self.eventfd = Some(eventfd);
    }

    /// Where others ring this core; `None` if there is no `MSG_RING` and no eventfd is watched.
    pub fn bell_address(&self) -> Option<BellAddress> {
        if self.features.msg_ring {
            return Some(BellAddress::Ring(self.descriptor()));
        }
        self.eventfd.map(BellAddress::Eventfd)
    }

    /// Rings the bell of another core. It leaves with this driver's next turn.
    pub fn bell(&mut self, at: BellAddress) {
        let entry = match at {
            BellAddress::Ring(ring) => {
                opcode::MsgRingData::new(types::Fd(ring), 0, Operation::Bell.alone(), None).build()
            }
            BellAddress::Eventfd(eventfd) => {
                opcode::Write::new(types::Fd(eventfd), (&raw const ONE).cast(), size_of::<u64>() as u32).build()
            }
        };
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Operation::BellSent.alone()));
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
