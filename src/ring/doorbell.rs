//! The doorbell: how a core that sleeps is told that something lies in one of its rings.
//!
//! Not here: what makes the sound. A [`Bell`] is implemented by the driver (`MSG_RING`) and, for the control thread, by
//! whoever owns its eventfd.
//!
//! # Protocol
//!
//! | sleeper ([`Doorbell::lie_down`]) | caller ([`Doorbell::answers`]) |
//! |---|---|
//! | 1. `asleep = true` | 1. publish in the ring |
//! | 2. `fence(SeqCst)` | 2. `fence(SeqCst)`, once for all peers of a turn |
//! | 3. look once more at everything that may have been published; if there is something, get up | 3. if `asleep`:
//! swap it to `false`; who swapped it rings, once |
//!
//! Invariant: of the two fences one comes first in the single order of all of them. If the sleeper's does, the caller's
//! step 3 sees `asleep`; if the caller's does, the sleeper's step 3 sees what was published. So nobody sleeps on a full
//! ring.

use super::peers::PortId;
use super::sync::{AtomicBool, Ordering, fence};

/// What can wake the thread behind a port. Kept by the thread that rings: a `MSG_RING` bell needs its own driver.
pub trait Bell {
    /// Wakes the thread behind `to`, which was seen asleep. Called once per sleep.
    fn ring(&mut self, to: PortId);
}

/// One port's sleep flag, alone on its cache lines: everybody reads it, only sleeping and waking write it.
#[repr(align(128))]
pub(super) struct Doorbell {
    asleep: AtomicBool,
}

impl Doorbell {
    pub(super) fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// Steps 1 and 2 of the sleeper. The caller looks at its rings next, and gets up if one is not empty.
    pub(super) fn lie_down(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper needs no bell any more.
    pub(super) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Step 3 of the caller, whose fence ([`announce`]) must lie between publishing and this: true if the caller is to
    /// ring.
    pub(super) fn answers(&self) -> bool {
        // The load spares everybody the exclusive cache line of a swap while the other core is awake.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

/// Step 2 of the caller.
pub(super) fn announce() {
    fence(Ordering::SeqCst);
}
