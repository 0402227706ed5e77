//! How long calls take, and what follows from it for how long others may wait: the target and the interval of CoDel.
//!
//! Not here: who waits (`super`). Invariant: with calls that are fast the target is the one that was chosen and the
//! interval twenty times that; it is longer only where calls are so slow that nobody could keep it.
//!
//! CoDel's interval is the longest round trip there is, and its target a twentieth of that but never less than the link
//! needs for one packet (RFC 8289, 3.2 and 5.5). Here a round trip is a call, and the link is what the server gets
//! done: a tool that takes five seconds is not overloaded because somebody waits for a tenth of one.

use super::Nanos;

/// So many targets are an interval.
pub const INTERVAL_TARGETS: u64 = 20;
/// A new time counts for so much in the mean: a sixteenth.
const WEIGHT: u64 = 16;
/// By so much the longest time is forgotten with each call: a sixty-fourth.
const FORGETS: u64 = 64;

/// How long calls take, as far as that is known.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pace {
    mean: Nanos,
    longest: Nanos,
}

/// What waiting is measured by at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// How long calls may wait without being too many.
    pub target: Nanos,
    /// How long they may wait for longer than that before it is overload.
    pub interval: Nanos,
    /// What passes between two calls that are sent while all places are taken.
    pub gap: Nanos,
}

impl Scale {
    /// Nothing is known, or nobody wants to know: everybody may wait.
    pub const NONE: Scale = Scale { target: Nanos::MAX / 4, interval: Nanos::MAX / 4, gap: 0 };
}

impl Pace {
    /// A call was answered after so long.
    #[inline]
    pub fn took(&mut self, time: Nanos) {
        // Not 0: that is what nobody knows.
        let time = time.max(1);
        self.mean = if self.mean == 0 { time } else { self.mean - self.mean / WEIGHT + time / WEIGHT };
        self.longest = time.max(self.longest - self.longest / FORGETS);
    }

    /// What waiting is measured by with so many places and this target; 0 is none.
    pub fn scale(&self, target: Nanos, places: usize) -> Scale {
        if self.mean == 0 || target == 0 {
            return Scale::NONE;
        }
        // Little's law: so many are under way for so long each.
        let gap = self.mean / places.max(1) as u64;
        let target = target.max(gap).max(self.longest / INTERVAL_TARGETS).min(Scale::NONE.target / INTERVAL_TARGETS);
        Scale { target, interval: target * INTERVAL_TARGETS, gap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn paced(times: &[Nanos]) -> Pace {
        let mut pace = Pace::default();
        times.iter().for_each(|time| pace.took(*time));
        pace
    }

    #[test]
    fn fast_calls_have_the_numbers_that_were_chosen() {
        let scale = paced(&[10 * MS; 100]).scale(5 * MS, 5);
        assert_eq!((scale.target, scale.interval), (5 * MS, 100 * MS));
        assert!((1_990_000..=2 * MS).contains(&scale.gap), "{scale:?}");
    }

    #[test]
    fn slow_ones_are_given_what_they_need() {
        let alone = paced(&[5000 * MS; 3]).scale(5 * MS, 1);
        assert!(alone.target >= 4900 * MS, "one that waits is sent after a call's time: {alone:?}");
        let mut pace = paced(&[10_000 * MS]);
        (0..8).for_each(|_| pace.took(2 * MS));
        let mixed = pace.scale(5 * MS, 100);
        assert!(mixed.interval > 8_000 * MS, "a long one among short ones is not forgotten at once: {mixed:?}");
        (0..1000).for_each(|_| pace.took(2 * MS));
        assert_eq!(pace.scale(5 * MS, 100).target, 5 * MS, "but it is");
    }

    #[test]
    fn of_what_nothing_is_known_nobody_is_turned_away_and_so_if_nobody_wants() {
        assert_eq!(Pace::default().scale(5 * MS, 1), Scale::NONE);
        assert_eq!(paced(&[MS]).scale(0, 1), Scale::NONE);
        let endless = paced(&[Nanos::MAX]).scale(Nanos::MAX, 0);
        assert!(endless.interval > endless.target, "and nothing overflows: {endless:?}");
    }
}
