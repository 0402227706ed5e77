//! Seats of the native server: how many of its calls may be in flight over all cores, each of which has a part of it.
//!
//! Not here: the calls (`native`). Invariant: no more seats are taken than the limit that whoever takes one names; a
//! seat is free when who took it lets go of it, also by dying; one of who waits and who lets go sees the other.
//!
//! For that last one a core says that it waits before it looks for a seat once more, and looks for who waits after it
//! has let go of one, all of it sequentially consistent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::ids::CoreId;

/// The seats of one process.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    /// Whether calls wait on a core.
    waits: Box<[AtomicBool]>,
}

/// One that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, SeqCst);
    }
}

impl Seats {
    /// Seats for so many cores.
    pub fn new(cores: usize) -> Seats {
        Seats { taken: AtomicUsize::new(0), waits: (0..cores).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Takes a seat, if fewer than so many are taken.
    pub(super) fn take(self: &Arc<Seats>, most: usize) -> Option<Seat> {
        let more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, more).is_ok().then(|| Seat(Arc::clone(self)))
    }

    /// A core says whether calls wait there.
    pub(super) fn set_waiting(&self, core: CoreId, waits: bool) {
        self.waits[core.index()].store(waits, SeqCst);
    }

    /// Whether calls wait on any core.
    pub(super) fn is_awaited(&self) -> bool {
        self.waits.iter().any(|waits| waits.load(SeqCst))
    }

    /// Whether a seat is free.
    pub(super) fn has_free(&self, most: usize) -> bool {
        self.taken.load(SeqCst) < most
    }

    /// The next core behind this one on which calls wait, this one last.
    pub(super) fn next_waiting(&self, core: CoreId) -> Option<CoreId> {
        let mut behind = (1..=self.waits.len()).map(|step| (core.index() + step) % self.waits.len());
        behind.find(|&at| self.waits[at].load(SeqCst)).map(|at| CoreId(at as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are_and_dropping_one_frees_it() {
        let seats = Arc::new(Seats::new(2));
        let (one, other) = (seats.take(2), seats.take(2));
        assert!(one.is_some() && other.is_some() && seats.take(2).is_none() && !seats.has_free(2));
        assert!(seats.take(3).is_some(), "a higher limit, which is another section's, finds room");
        drop(one);
        assert!(seats.has_free(2) && !seats.has_free(1));
        assert!(seats.take(2).is_some());
    }

    #[test]
    fn who_waits_is_found_in_turn_and_oneself_last() {
        let seats = Seats::new(3);
        assert_eq!((seats.next_waiting(CoreId(1)), seats.is_awaited()), (None, false));
        seats.set_waiting(CoreId(1), true);
        assert_eq!(seats.next_waiting(CoreId(1)), Some(CoreId(1)));
        seats.set_waiting(CoreId(0), true);
        let next = [0, 1, 2].map(|at| seats.next_waiting(CoreId(at)));
        assert_eq!(next, [Some(CoreId(1)), Some(CoreId(0)), Some(CoreId(0))]);
        seats.set_waiting(CoreId(0), false);
        assert!(seats.is_awaited());
        assert_eq!(seats.next_waiting(CoreId(2)), Some(CoreId(1)));
    }

    #[test]
    fn cores_never_take_more_than_there_are() {
        let (seats, most_seen) = (Arc::new(Seats::new(4)), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let seat = seats.take(2);
                        most_seen.fetch_max(seats.taken.load(SeqCst), SeqCst);
                        drop(seat);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most_seen.into_inner()));
        assert_eq!(seats.taken.load(SeqCst), 0);
    }
}
