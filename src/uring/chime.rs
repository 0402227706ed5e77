//! A chime: what other threads need to wake a core.
//!
//! Not here: when to ring (`ring`'s doorbell), the ring itself.
//! Invariant: `ring` names a descriptor only while that ring is open; otherwise the eventfd, which outlives every ring
//! of the core, wakes its next one.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::Driver;
use crate::sys::eventfd::EventFd;

/// How a core is woken by the others: by its ring while it has one, else by its eventfd.
#[derive(Debug)]
pub struct Chime {
    /// The ring's descriptor, -1 while the core has none or where `MSG_RING` is not to be used.
    pub ring: AtomicI32,
    /// Read by the core's ring.
    pub eventfd: EventFd,
    /// The core stands still, and is to be given no connections until it moves.
    pub is_avoided: AtomicBool,
}

impl Chime {
    /// A chime of a core that has no ring yet.
    ///
    /// # Errors
    /// When the process or the host is out of descriptors.
    pub fn new() -> std::io::Result<Chime> {
        Ok(Chime { ring: AtomicI32::new(-1), eventfd: EventFd::for_ring()?, is_avoided: AtomicBool::new(false) })
    }

    /// Makes this the chime of the core whose driver that is: the driver hears it from now on. It must outlive it.
    pub fn hang_at(&self, driver: &mut Driver) {
        driver.watch(self.eventfd.as_fd().as_raw_fd());
        if let Some(ring) = driver.bell_address() {
            self.ring.store(ring, Ordering::Release);
        }
    }

    /// Wakes the core from a thread without a ring.
    pub fn knock(&self) {
        // It fails only if the descriptor is gone, and with it the process.
        let _ = self.eventfd.write();
    }

    /// Wakes the core from another core, whose driver that is.
    pub fn ring_by(&self, driver: &mut Driver) {
        match self.ring.load(Ordering::Acquire) {
            -1 => self.knock(),
            ring => driver.bell(ring),
        }
    }
}
