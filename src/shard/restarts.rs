//! How often what ends is started again: a core's thread, a child process.
//!
//! Not here: starting anything, and what happens when it is given up. Invariant: within any window at most so many ends
//! are answered with a restart; whatever is counted beyond that is one too many.

use std::collections::VecDeque;
use std::time::Duration;

/// How many deaths are put up with, in which time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intensity {
    /// So many are answered with a restart; the next one is too many.
    pub deaths: usize,
    /// Counting those not longer ago than this.
    pub window: Duration,
}

impl Intensity {
    /// For cores' threads, and for the control thread by itself. More, and the process gives up for its own supervisor
    /// to see.
    pub const CORE: Intensity = Intensity { deaths: 5, window: Duration::from_secs(60) };
    /// For a child process. More, and whatever it served is out of order.
    pub const CHILD: Intensity = Intensity { deaths: 3, window: Duration::from_secs(30) };
}

/// How long a restart waits: the first of a window so long, each further one twice as long as the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Duration,
    /// Never longer than this.
    pub most: Duration,
}

impl Backoff {
    /// For what is missed by everybody while it is away, and cannot hurt anybody by coming back at once.
    pub const NONE: Backoff = Backoff { first: Duration::ZERO, most: Duration::ZERO };
    /// For a child process: whatever ended it, a file that is being replaced or a port not yet free, gets some time,
    /// and one that ends as soon as it starts does not keep a CPU busy.
    pub const CHILD: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5) };

    fn before(self, restart: usize) -> Duration {
        let doubled = u32::try_from(restart).ok().and_then(|restart| 1_u32.checked_shl(restart));
        self.first.saturating_mul(doubled.unwrap_or(u32::MAX)).min(self.most)
    }
}

/// What is to be done about a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is started again, after so long.
    Restart {
        /// How long to wait.
        after: Duration,
    },
    /// It died too often to be started again.
    TooMany {
        /// So often within the window.
        deaths: usize,
        /// From then on the window has room for a restart: a good time to try whether it has recovered.
        calm_at: Duration,
    },
}

/// The deaths of one thing, or of several that are counted together.
#[derive(Debug)]
pub struct Restarts {
    intensity: Intensity,
    backoff: Backoff,
    /// When, the oldest first; none longer ago than the window at the last death.
    deaths: VecDeque<Duration>,
}

impl Restarts {
    /// Nothing has died yet.
    pub fn new(intensity: Intensity, backoff: Backoff) -> Restarts {
        Restarts { intensity, backoff, deaths: VecDeque::new() }
    }

    /// Counts a death at `now`, a time since any fixed moment, and says what to do about it.
    pub fn died(&mut self, now: Duration) -> Verdict {
        let Intensity { deaths: most, window } = self.intensity;
        self.deaths.retain(|death| now.saturating_sub(*death) < window);
        // More than what is too many says nothing new, and would not be bounded.
        while self.deaths.len() > most {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        let deaths = self.deaths.len();
        if deaths <= most {
            return Verdict::Restart { after: self.backoff.before(deaths - 1) };
        }
        // So many that, once they have left the window, one more death is within the intensity.
        let leaving = deaths - most;
        let calm_at = self.deaths.get(leaving).or(self.deaths.back()).map_or(now, |death| *death + window);
        Verdict::TooMany { deaths, calm_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn child() -> Restarts {
        Restarts::new(Intensity::CHILD, Backoff::CHILD)
    }

    #[test]
    fn three_deaths_in_thirty_seconds_are_put_up_with_and_wait_longer_each_time() {
        let mut restarts = child();
        assert_eq!(restarts.died(at(1_000)), Verdict::Restart { after: at(200) });
        assert_eq!(restarts.died(at(2_000)), Verdict::Restart { after: at(400) });
        assert_eq!(restarts.died(at(3_000)), Verdict::Restart { after: at(800) });
        // The deaths at 1 and 2 s have to be forgotten before one more is within the intensity again.
        assert_eq!(restarts.died(at(30_999)), Verdict::TooMany { deaths: 4, calm_at: at(32_000) });
    }

    #[test]
    fn what_lies_a_window_back_is_forgotten() {
        let mut restarts = child();
        for second in (0..3_000).step_by(31) {
            let verdict = restarts.died(Duration::from_secs(second));
            assert_eq!(verdict, Verdict::Restart { after: at(200) }, "at {second} s");
        }
        let mut restarts = child();
        for ms in [0, 100, 200] {
            restarts.died(at(ms));
        }
        assert_eq!(restarts.died(at(30_000)), Verdict::Restart { after: at(800) }, "the first is just forgotten");
        assert!(matches!(restarts.died(at(30_050)), Verdict::TooMany { deaths: 4, .. }));
    }

    #[test]
    fn one_that_waits_until_it_is_calm_is_restarted_again() {
        let mut restarts = child();
        let mut now = Duration::ZERO;
        for _ in 0..50 {
            let calm_at = loop {
                match restarts.died(now) {
                    Verdict::Restart { after } => now += after,
                    Verdict::TooMany { deaths, calm_at } => {
                        assert!(deaths == 4 && calm_at > now);
                        break calm_at;
                    }
                }
            };
            now = calm_at;
            assert!(matches!(restarts.died(now), Verdict::Restart { .. }));
        }
    }

    #[test]
    fn no_window_of_any_history_has_more_restarts_than_it_may() {
        let mut restarts = child();
        let (mut restarted, mut now, mut step) = (Vec::new(), 0, 1_u64);
        for _ in 0..2_000 {
            step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += (step >> 33) % 20_000;
            if let Verdict::Restart { .. } = restarts.died(at(now)) {
                restarted.push(now);
            }
        }
        assert!(restarted.len() > 500);
        assert!(restarted.windows(4).all(|four| four[3] - four[0] >= 30_000), "four restarts within a window");
    }

    #[test]
    fn deaths_without_end_take_no_more_room() {
        let mut restarts = child();
        for ms in 0..10_000 {
            restarts.died(at(ms));
        }
        assert_eq!(restarts.deaths.len(), 4);
        assert!(matches!(restarts.died(at(10_000)), Verdict::TooMany { deaths: 4, .. }));
    }

    #[test]
    fn cores_come_back_at_once() {
        let mut restarts = Restarts::new(Intensity::CORE, Backoff::NONE);
        for second in 0..5 {
            assert_eq!(restarts.died(Duration::from_secs(second)), Verdict::Restart { after: Duration::ZERO });
        }
        assert!(matches!(restarts.died(Duration::from_secs(59)), Verdict::TooMany { deaths: 6, .. }));
    }

    #[test]
    fn a_back_off_neither_overflows_nor_exceeds_its_most() {
        for (restart, wait) in [(0, 200), (4, 3_200), (5, 5_000), (31, 5_000), (32, 5_000), (usize::MAX, 5_000)] {
            assert_eq!(Backoff::CHILD.before(restart), at(wait));
        }
    }
}
