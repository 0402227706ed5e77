//! How often something may happen: a token bucket that keeps a single time, the generic cell rate algorithm (ITU-T
//! I.371, annex A).
//!
//! Not here: what happens (a message, a call), what becomes of one too many.
//! Invariant: in any span of time `t` there are at most `burst + t * rate` of them.

/// Nanoseconds of the caller's clock.
type Nanos = u64;

const SECOND: Nanos = 1_000_000_000;

/// A rate, and how far ahead of it one may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// What each takes; 0 if there is no limit.
    interval: Nanos,
    /// How far ahead of the clock its bucket may be for one more.
    ahead: Nanos,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Rate = Rate { interval: 0, ahead: 0 };

    /// So many a second, `burst` of them at once; 0 a second is no limit. Whoever lets in what waited only every
    /// `pause` has to let in at once what came meanwhile, so a burst is never less than that.
    pub fn per_second(count: u64, burst: u64, pause: Nanos) -> Rate {
        if count == 0 {
            return Rate::UNLIMITED;
        }
        let interval = (SECOND / count).max(1);
        Rate { interval, ahead: interval.saturating_mul(burst.saturating_sub(1)).max(pause) }
    }
}

/// What one of those whom a rate holds for has used of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bucket {
    /// When all that happened would have happened at the rate itself ("theoretical arrival time").
    until: Nanos,
}

impl Bucket {
    /// One more happened now.
    #[inline]
    pub fn spend(&mut self, now: Nanos, rate: &Rate) {
        if rate.interval > 0 {
            self.until = self.until.max(now).saturating_add(rate.interval);
        }
    }

    /// When the next may happen; not later than now if it may now.
    #[inline]
    pub fn opens_at(&self, rate: &Rate) -> Nanos {
        self.until.saturating_sub(rate.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as it can at a time.
    fn taken(bucket: &mut Bucket, now: Nanos, rate: &Rate) -> usize {
        let mut count = 0;
        while bucket.opens_at(rate) <= now {
            bucket.spend(now, rate);
            count += 1;
            assert!(count < 10_000, "there is no limit");
        }
        count
    }

    #[test]
    fn there_are_a_burst_at_once_and_then_as_many_as_the_rate_has() {
        let rate = Rate::per_second(100, 20, 0);
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, 7 * SECOND, &rate), 20);
        assert_eq!(bucket.opens_at(&rate), 7 * SECOND + SECOND / 100, "when the next may");
        assert_eq!(taken(&mut bucket, 7 * SECOND + SECOND / 10, &rate), 10);
        assert_eq!(taken(&mut bucket, 100 * SECOND, &rate), 20, "what was not used is not saved up");
        assert_eq!(taken(&mut bucket, 99 * SECOND, &rate), 0, "a clock that goes back brings nothing");
    }

    #[test]
    fn a_burst_bridges_the_pause_between_two_looks() {
        let pause = 16_000_000;
        let rate = Rate::per_second(10_000, 1, pause);
        let mut bucket = Bucket::default();
        let total: usize = (0..=1000).map(|look| taken(&mut bucket, look * pause, &rate)).sum();
        // 16 seconds at 10,000 a second, and what may be ahead.
        assert!((160_000..=160_161).contains(&total), "{total}");
    }

    #[test]
    fn no_limit_is_none() {
        for rate in [Rate::UNLIMITED, Rate::per_second(0, 5, SECOND)] {
            let mut bucket = Bucket::default();
            (0..1000).for_each(|_| bucket.spend(5, &rate));
            assert_eq!((bucket.opens_at(&rate), bucket), (0, Bucket::default()));
        }
        let fastest = Rate::per_second(u64::MAX, u64::MAX, 0);
        let mut bucket = Bucket::default();
        bucket.spend(u64::MAX, &fastest);
        assert_eq!(bucket.until, u64::MAX, "it does not begin again at 0");
    }
}
