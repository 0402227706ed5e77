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

    /// One of so many equal shares of a rate, each of which somebody keeps without asking the others. Together they are
    /// the rate; at once they let in `burst`, and one more for each share at most, what is left of it being rounded up.
    pub fn share(count: u64, burst: u64, shares: u64) -> Rate {
        if count == 0 {
            return Rate::UNLIMITED;
        }
        let shares = shares.max(1);
        let interval = (SECOND.saturating_mul(shares) / count).max(1);
        Rate { interval, ahead: interval.saturating_mul(burst.div_ceil(shares).max(1) - 1) }
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
    use proptest::prelude::*;

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

    proptest! {
        /// However arrivals fall on the shares, and when: no more are let in, in any span, than the rate allows and a
        /// burst that is rounded up for each share; and whoever comes slowly enough is never refused.
        #[test]
        fn shares_together_keep_the_rate(
            count in 1u64..20_000,
            burst in 1u64..500,
            shares in 1usize..9,
            arrivals in proptest::collection::vec((0u64..3_000_000, 0usize..9), 1..600),
        ) {
            let rate = Rate::share(count, burst, shares as u64);
            let mut buckets = vec![Bucket::default(); shares];
            let (mut now, mut let_in): (Nanos, Vec<Nanos>) = (SECOND, Vec::new());
            for (pause, share) in arrivals {
                now += pause;
                let bucket = &mut buckets[share % shares];
                if bucket.opens_at(&rate) <= now {
                    bucket.spend(now, &rate);
                    let_in.push(now);
                }
            }
            // The interval is rounded down to nanoseconds: less than a hundredth at these rates.
            let allowed = |span: Nanos| burst + shares as u64 + span * count / SECOND + span * count / SECOND / 100;
            for (index, from) in let_in.iter().enumerate().step_by(7) {
                for (more, until) in let_in[index..].iter().enumerate() {
                    let most = allowed(until - from);
                    prop_assert!(more as u64 <= most, "{} in {} ns, {} allowed", more + 1, until - from, most);
                }
            }
            let slow = SECOND * shares as u64 / count + 1;
            let mut bucket = Bucket::default();
            for step in 1..50 {
                prop_assert!(bucket.opens_at(&rate) <= SECOND + step * slow, "one that keeps the rate is let in");
                bucket.spend(SECOND + step * slow, &rate);
            }
        }
    }

    #[test]
    fn a_share_is_its_part_of_the_rate() {
        let rate = Rate::share(100, 100, 2);
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, SECOND, &rate), 50);
        assert_eq!(taken(&mut bucket, SECOND + SECOND / 10, &rate), 5);
        assert_eq!(taken(&mut Bucket::default(), SECOND, &Rate::share(1, 1, 64)), 1, "a share is never none");
        assert_eq!(Rate::share(0, 7, 2), Rate::UNLIMITED);
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
