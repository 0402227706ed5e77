//! A breaker: whether something that keeps failing is tried again, and when.
//!
//! Not here: what a failure is, and what is answered meanwhile. Invariant: while it is open nothing is tried; while it
//! is half open one try is under way at most, until that has ended or had its time, and only what comes of that one
//! counts: what was begun before, and those that had their time, tell of the past.
//!
//! The rules are those of Envoy's outlier detection and of Linkerd's failure accrual: a row of failures or a share of
//! them opens it, each further opening lasts twice as long, one probe at a time closes it.

use std::collections::HashMap;

/// Nanoseconds of the caller's clock.
type Nanos = u64;

/// So many failures in a row open it.
const ROW: u32 = 5;
/// So do this many samples within `WINDOW`, if half of them are failures.
const SAMPLES: u32 = 20;
const WINDOW: Nanos = 10_000_000_000;
/// How long it stays open the first time, and at most.
const PAUSE: Nanos = 1_000_000_000;
const PAUSE_MAX: Nanos = 60_000_000_000;
/// So many good probes in a row close it.
const GOOD: u32 = 3;

/// What was let through: whoever tells what came of it says which it was.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Try(u32);

impl Try {
    /// Everything is tried, so it is one of many.
    pub const ORDINARY: Try = Try(0);
}

/// One thing that may fail.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// How long it stays open next time.
    pause: Nanos,
    /// When the last failure was.
    failed_at: Nanos,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Everything is tried.
    Closed {
        /// Failures since the last success.
        row: u32,
        since: Nanos,
        samples: u32,
        failures: u32,
    },
    /// Nothing is tried.
    Open { until: Nanos },
    /// One at a time is tried.
    HalfOpen {
        /// The one under way, and until when it is waited for.
        probe: Option<(Try, Nanos)>,
        good: u32,
    },
}

impl Breaker {
    /// One that is closed.
    pub fn new(now: Nanos) -> Breaker {
        Breaker { state: closed(now), pause: PAUSE, failed_at: 0 }
    }

    /// Whether something is tried now, and which try it is: `number` if it is a probe, which is waited for as long as
    /// `patience`.
    ///
    /// # Errors
    /// How long it is not.
    pub fn admit(&mut self, now: Nanos, patience: Nanos, number: Try) -> Result<Try, Nanos> {
        match &mut self.state {
            State::Closed { .. } => Ok(Try::ORDINARY),
            State::Open { until } if now < *until => Err(*until - now),
            State::Open { .. } => {
                self.state = State::HalfOpen { probe: Some((number, now + patience)), good: 0 };
                Ok(number)
            }
            State::HalfOpen { probe: Some((_, until)), .. } if now < *until => Err(PAUSE.min(*until - now)),
            State::HalfOpen { probe, .. } => {
                *probe = Some((number, now + patience));
                Ok(number)
            }
        }
    }

    /// What was tried succeeded.
    pub fn succeeded(&mut self, now: Nanos, tried: Try) {
        match &mut self.state {
            State::Closed { row, since, samples, failures } => {
                *row = 0;
                if now >= *since + WINDOW {
                    (*since, *samples, *failures) = (now, 0, 0);
                }
                *samples += 1;
            }
            // It was tried before the breaker opened.
            State::Open { .. } => {}
            State::HalfOpen { probe, good } => {
                if probe.take_if(|(number, _)| *number == tried).is_none() {
                    return;
                }
                *good += 1;
                if *good >= GOOD {
                    self.state = closed(now);
                    self.pause = PAUSE;
                }
            }
        }
    }

    /// What was tried failed, which counts `weight` times. `chance` is any number: it spreads the times at which those
    /// that opened together are tried again. True if that opened it.
    pub fn failed(&mut self, now: Nanos, tried: Try, weight: u32, chance: u64) -> bool {
        self.failed_at = now;
        match &mut self.state {
            State::Closed { row, since, samples, failures } => {
                if now >= *since + WINDOW {
                    (*since, *samples, *failures) = (now, 0, 0);
                }
                *row += weight;
                *samples += weight;
                *failures += weight;
                let is_half = *samples >= SAMPLES && *failures * 2 >= *samples;
                if *row < ROW && !is_half {
                    return false;
                }
            }
            State::Open { .. } => return false,
            State::HalfOpen { probe, .. } if probe.is_none_or(|(number, _)| number != tried) => return false,
            State::HalfOpen { .. } => {}
        }
        // Up to half as long again.
        let jitter = chance % (self.pause / 2);
        self.state = State::Open { until: now + self.pause + jitter };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// What was tried ended without telling anything: its caller left.
    pub fn untold(&mut self, tried: Try) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            probe.take_if(|(number, _)| *number == tried);
        }
    }

    /// The same of whatever is under way.
    fn all_untold(&mut self) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            *probe = None;
        }
    }

    /// Whether it lets everything through.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether it remembers nothing that counts.
    fn is_idle(&self, now: Nanos) -> bool {
        match self.state {
            State::Closed { .. } => now >= self.failed_at + WINDOW,
            // What nobody asked for in all that time has no calls to be spared.
            State::Open { until } => now >= until + PAUSE_MAX,
            State::HalfOpen { probe, .. } => {
                now >= probe.map_or(0, |(_, until)| until).max(self.failed_at + 2 * PAUSE_MAX)
            }
        }
    }
}

fn closed(now: Nanos) -> State {
    State::Closed { row: 0, since: now, samples: 0, failures: 0 }
}

/// Breakers by name, of those that failed lately: what never fails costs nothing.
#[derive(Debug)]
pub struct Breakers {
    entries: HashMap<Box<str>, Breaker>,
    most: usize,
    /// The number of the last probe of any.
    last: u32,
}

impl Breakers {
    /// None yet, and never more than `most`: further names that fail are not kept from failing.
    pub fn new(most: usize) -> Breakers {
        Breakers { entries: HashMap::new(), most, last: 0 }
    }

    /// As `Breaker::admit`.
    ///
    /// # Errors
    /// How long it is not tried.
    pub fn admit(&mut self, now: Nanos, name: &str, patience: Nanos) -> Result<Try, Nanos> {
        if self.entries.is_empty() {
            return Ok(Try::ORDINARY);
        }
        let Some(breaker) = self.entries.get_mut(name) else { return Ok(Try::ORDINARY) };
        self.last = self.last.checked_add(1).unwrap_or(1);
        breaker.admit(now, patience, Try(self.last))
    }

    /// As `Breaker::succeeded`.
    pub fn succeeded(&mut self, now: Nanos, name: &str, tried: Try) {
        if self.entries.is_empty() {
            return;
        }
        let Some(breaker) = self.entries.get_mut(name) else { return };
        breaker.succeeded(now, tried);
        if breaker.is_idle(now) {
            self.entries.remove(name);
        }
    }

    /// As `Breaker::failed`.
    pub fn failed(&mut self, now: Nanos, name: &str, tried: Try, weight: u32, chance: u64) -> bool {
        if let Some(breaker) = self.entries.get_mut(name) {
            return breaker.failed(now, tried, weight, chance);
        }
        if self.entries.len() >= self.most {
            self.entries.retain(|_, breaker| !breaker.is_idle(now));
        }
        if self.entries.len() >= self.most {
            return false;
        }
        let mut breaker = Breaker::new(now);
        let opened = breaker.failed(now, tried, weight, chance);
        self.entries.insert(name.into(), breaker);
        opened
    }

    /// As `Breaker::untold`.
    pub fn untold(&mut self, name: &str, tried: Try) {
        if let Some(breaker) = self.entries.get_mut(name) {
            breaker.untold(tried);
        }
    }

    /// What is under way tells nothing any more.
    pub fn all_untold(&mut self) {
        self.entries.values_mut().for_each(Breaker::all_untold);
    }

    /// How many do not let everything through.
    pub fn not_closed(&self) -> usize {
        self.entries.values().filter(|breaker| !breaker.is_closed()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Try = Try(1);
    const ORDINARY: Try = Try::ORDINARY;

    const SECOND: Nanos = 1_000_000_000;
    const PATIENCE: Nanos = 30 * SECOND;

    #[test]
    fn a_row_of_failures_opens_it_and_three_good_probes_close_it() {
        let mut breaker = Breaker::new(0);
        for _ in 0..3 {
            assert!((0..4).all(|_| !breaker.failed(0, ORDINARY, 1, 0)));
            breaker.succeeded(0, ORDINARY);
        }
        assert!((0..4).all(|_| !breaker.failed(1, ORDINARY, 1, 0)) && breaker.failed(1, ORDINARY, 1, 0));
        assert_eq!(breaker.admit(2, PATIENCE, ONE), Err(SECOND - 1));
        assert!(!breaker.failed(2, ORDINARY, 1, 0), "what was under way tells nothing new");
        let mut now = 1 + SECOND;
        for _ in 0..3 {
            assert_eq!(breaker.admit(now, PATIENCE, ONE), Ok(ONE), "a probe");
            assert!(breaker.admit(now, PATIENCE, ONE).is_err(), "one at a time");
            breaker.succeeded(now, ONE);
            now += 1;
        }
        assert!(breaker.is_closed());
        assert!((0..4).all(|_| !breaker.failed(now, ORDINARY, 1, 0)), "it starts anew");
    }

    #[test]
    fn each_opening_lasts_twice_as_long_up_to_a_minute() {
        let mut breaker = Breaker::new(0);
        let (mut now, mut pauses) = (0, Vec::new());
        assert!(breaker.failed(now, ORDINARY, 5, 0));
        for _ in 0..8 {
            let pause = breaker.admit(now, PATIENCE, ONE).expect_err("open");
            pauses.push(pause / SECOND);
            now += pause;
            assert_eq!(breaker.admit(now, PATIENCE, ONE), Ok(ONE));
            assert!(breaker.failed(now, ONE, 1, 0));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut spread = Breaker::new(0);
        assert!(spread.failed(0, ORDINARY, 5, u64::MAX));
        let pause = spread.admit(0, PATIENCE, ONE).expect_err("open");
        assert!((SECOND..SECOND * 3 / 2).contains(&pause), "{pause}");
    }

    #[test]
    fn half_of_twenty_open_it_without_a_row() {
        let mut breaker = Breaker::new(0);
        let mut opened = false;
        for turn in 0..20 {
            assert!(!opened, "after {turn}");
            breaker.succeeded(turn, ORDINARY);
            opened = breaker.failed(turn, ORDINARY, 1, 0);
            opened = opened && turn == 9;
            if turn == 9 {
                break;
            }
        }
        assert!(opened, "ten good and ten bad");
        // The same so slowly that no window holds twenty.
        let mut slow = Breaker::new(0);
        for turn in 0..100 {
            slow.succeeded(2 * turn * SECOND, ORDINARY);
            assert!(!slow.failed(2 * turn * SECOND, ORDINARY, 1, 0));
        }
    }

    #[test]
    fn a_probe_whose_caller_leaves_or_that_takes_too_long_makes_room_for_the_next() {
        let mut breaker = Breaker::new(0);
        assert!(breaker.failed(0, ORDINARY, 5, 0));
        let now = 2 * SECOND;
        assert_eq!(breaker.admit(now, PATIENCE, ONE), Ok(ONE));
        breaker.untold(ONE);
        assert_eq!(breaker.admit(now, PATIENCE, ONE), Ok(ONE));
        assert!(breaker.admit(now + PATIENCE - 1, PATIENCE, ONE).is_err());
        assert_eq!(breaker.admit(now + PATIENCE, PATIENCE, ONE), Ok(ONE));
    }

    #[test]
    fn only_what_comes_of_the_probe_under_way_counts_while_it_is_half_open() {
        let (first, second) = (Try(1), Try(2));
        let mut breaker = Breaker::new(0);
        assert!(breaker.failed(0, ORDINARY, 5, 0));
        let now = 2 * SECOND;
        assert_eq!(breaker.admit(now, PATIENCE, first), Ok(first));
        // One that was begun before it opened, and ends now.
        (0..9).for_each(|_| breaker.succeeded(now, ORDINARY));
        breaker.untold(ORDINARY);
        assert!(!breaker.failed(now, ORDINARY, 9, 0) && !breaker.is_closed());
        assert!(breaker.admit(now, PATIENCE, second).is_err(), "the first is under way");
        // The first had its time.
        let now = now + PATIENCE;
        assert_eq!(breaker.admit(now, PATIENCE, second), Ok(second));
        breaker.untold(first);
        assert!(!breaker.failed(now, first, 1, 0));
        assert!(breaker.admit(now, PATIENCE, Try(3)).is_err(), "the second is under way");
        assert!(breaker.failed(now, second, 1, 0));
    }

    #[test]
    fn only_what_fails_is_kept_and_never_more_than_so_many() {
        let mut breakers = Breakers::new(2);
        breakers.succeeded(0, "good", ORDINARY);
        assert!(breakers.entries.is_empty());
        for name in ["a", "b", "c"] {
            assert_eq!(breakers.failed(0, name, ORDINARY, 5, 0), name != "c", "{name}");
        }
        assert_eq!((breakers.not_closed(), breakers.admit(1, "c", PATIENCE)), (2, Ok(ORDINARY)));
        assert!(breakers.admit(1, "a", PATIENCE).is_err() && breakers.admit(1, "b", PATIENCE).is_err());
        // Later both have been forgotten.
        let later = 200 * SECOND;
        assert!(breakers.failed(later, "c", ORDINARY, 5, 0));
        assert_eq!((breakers.not_closed(), breakers.admit(later, "a", PATIENCE)), (1, Ok(ORDINARY)));
        breakers.failed(later, "d", ORDINARY, 1, 0);
        breakers.succeeded(later + WINDOW, "d", ORDINARY);
        assert_eq!(breakers.entries.len(), 1, "one that recovered is forgotten");
    }
}
