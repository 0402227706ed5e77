//! Letting go: a core whose loop ended, in order or not, cancels what its ring has in flight on what its successor will
//! use, before the ring is closed.
//!
//! Not here: closing it, which whoever joined the thread does. Invariant: runs on the thread that used the ring, and
//! takes no longer the more connections there are.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use io_uring::types;

use super::Driver;
use super::operation::Operation;

/// How long the operations of a ring may take to end before it is closed.
const LET_GO_LIMIT: Duration = Duration::from_millis(100);

impl Driver {
    /// Cancels what waits for listeners and for the eventfd, on the thread that used the ring, which is about to be
    /// closed: they are another ring's from here on. The connections are this ring's alone, and end with it.
    pub fn let_go(&mut self) {
        // Each by its name: a request to cancel everything looks for the next at all that there are, so that it took
        // tens of seconds for tens of thousands of connections. (`io_poll_file_find`, Linux 6.1 to 6.18)
        let names: Vec<u64> = self.accepts_in_flight().chain([Operation::Foreign.alone()]).collect();
        // Cancelling only marks what waits for a descriptor; it leaves the descriptor's queue, where it would swallow
        // the wake-up for the next connection, when its deferred work is run: 20 pieces of it per enter (6.13), so
        // until nothing more comes. A second round finds what the first set going.
        let limit = Some(types::Timespec::from(LET_GO_LIMIT));
        let late = Instant::now() + LET_GO_LIMIT;
        for _ in 0..2 {
            for &name in &names {
                // What cannot be cancelled, or is not in time, ends when the ring is closed.
                let _ = self.ring.submitter().register_sync_cancel(limit, types::CancelBuilder::user_data(name));
            }
            while self.run_deferred_work() > 0 && Instant::now() < late {}
        }
    }

    /// Runs some of the deferred work, without submitting anything; how many completions it brought, which are dropped.
    fn run_deferred_work(&mut self) -> usize {
        const GETEVENTS: u32 = 1;
        // SAFETY: needed because the safe wrappers submit, and nothing is to be begun any more. Nothing is submitted,
        // no signal mask is passed.
        let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
        self.ring.completion().count()
    }
}
