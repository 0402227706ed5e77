//! Laps: how long the steps of a request take, measured on one frame in so many.
//!
//! Reading a clock costs as much as some of the steps do, so only every `EVERY`th frame is timed; what needs no clock
//! of its own, because turns know their time (handlers that answer later, sends, hops between cores, waiting for a
//! turn), is recorded where it happens. Not here: histograms (`metrics`), the clock (an argument). Invariant: between
//! frames nothing is being timed.

use super::service::Nanos;
use crate::metrics::{CoreMetrics, Step};

/// One frame in so many is timed, and one send.
pub const EVERY: u32 = 64;

/// Reads a clock: nanoseconds since the same start as the times that `step` is given.
pub type ReadClock = Box<dyn Fn() -> Nanos>;

/// A core's stopwatch.
pub struct Laps {
    clock: ReadClock,
    metrics: &'static CoreMetrics,
    frames_left: u32,
    sends_left: u32,
    /// End of the last lap; 0 while nothing is timed.
    since: Nanos,
}

impl Laps {
    /// A stopwatch that times the first frame and the first send, and then every so many.
    pub fn new(clock: ReadClock, metrics: &'static CoreMetrics) -> Laps {
        Laps { clock, metrics, frames_left: 1, sends_left: 1, since: 0 }
    }

    /// The time now, for what is timed because somebody wants to be told.
    pub fn read_clock(&self) -> Nanos {
        (self.clock)()
    }

    /// A frame may begin in bytes that came in the turn of time `came`.
    #[inline]
    pub fn begin(&mut self, came: Nanos) {
        self.frames_left -= 1;
        if self.frames_left == 0 {
            self.frames_left = EVERY;
            self.since = (self.clock)().max(1);
            self.metrics.step(Step::Read).record(self.since.saturating_sub(came));
        }
    }

    /// A step of the frame is over.
    #[inline]
    pub fn lap(&mut self, step: Step) {
        if self.since != 0 {
            let now = (self.clock)().max(1);
            self.metrics.step(step).record(now.saturating_sub(self.since));
            self.since = now;
        }
    }

    /// The frame's steps are over, or there was no frame.
    #[inline]
    pub fn end(&mut self) {
        self.since = 0;
    }

    /// Whether the send that begins now is to be timed.
    #[inline]
    pub fn times_send(&mut self) -> bool {
        self.sends_left -= 1;
        let times = self.sends_left == 0;
        if times {
            self.sends_left = EVERY;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::ids::CoreId;
    use crate::metrics::Registry;

    #[test]
    fn one_frame_in_so_many_is_timed_and_the_others_read_no_clock() {
        let metrics: &'static CoreMetrics = Box::leak(Box::new(Registry::new(1))).core(CoreId(0));
        let readings = Rc::new(Cell::new(0));
        let counted = Rc::clone(&readings);
        let clock = Box::new(move || {
            counted.set(counted.get() + 1);
            1_000 * counted.get()
        });
        let mut laps = Laps::new(clock, metrics);
        for _ in 0..2 * EVERY {
            laps.begin(400);
            laps.lap(Step::Frame);
            laps.lap(Step::Scan);
            laps.end();
            laps.lap(Step::Encode);
        }
        assert_eq!(readings.get(), 6, "three readings for each of two frames");
        let of = |step| metrics.step(step).snapshot();
        assert_eq!((of(Step::Read).count(), of(Step::Frame).count(), of(Step::Scan).count()), (2, 2, 2));
        assert_eq!((of(Step::Frame).mean(), of(Step::Scan).max()), (1_000, 1_000));
        assert_eq!(of(Step::Read).sum(), 600 + 3_600);
        assert_eq!(of(Step::Encode).count(), 0, "behind the end nothing is timed");
        assert_eq!((0..2 * EVERY).filter(|_| laps.times_send()).count(), 2);
    }
}
