//! When things are due whose rate changes: calls of a ramp, connections that come and go.
//!
//! It reads no clock: times are ns since the phase began, and go in and out as numbers.
//!
//! Invariant: the moments of one pace never go back, and in a phase of constant gaps there are as many of them as the
//! integral of the rate says, to the nearest one below.

use crate::dice::Dice;

/// A figure that goes from one value to another in equal steps over a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    pub from: f64,
    pub to: f64,
    pub ns: f64,
}

impl Slope {
    /// When its integral over time (in units of value times seconds) reaches `area`, in ns; never if it does not.
    fn reaches(self, area: f64) -> Option<f64> {
        // from*t + (to-from)/(2*T)*t^2 = area, with t in seconds.
        let seconds = self.ns / 1e9;
        let (start, bend) = (self.from, (self.to - self.from) / (2.0 * seconds));
        if (start + self.to) / 2.0 * seconds < area {
            return None;
        }
        // The form that loses no digits when the bend is small.
        let root = (start * start + 4.0 * bend * area).max(0.0).sqrt();
        let at = if start + root > 0.0 { 2.0 * area / (start + root) } else { seconds };
        Some((at * 1e9).min(self.ns))
    }
}

/// The moments at which something is due whose rate per second is a slope.
pub struct Pace {
    rate: Slope,
    done: f64,
    /// Gaps are exponential: a Poisson process.
    dice: Option<Dice>,
    next: Option<f64>,
}

impl Pace {
    /// With equal gaps, or random ones.
    pub fn new(rate: Slope, dice: Option<Dice>) -> Self {
        let mut pace = Self { rate, done: 0.0, dice, next: None };
        pace.step();
        pace
    }

    fn step(&mut self) {
        self.done += self.dice.as_mut().map_or(1.0, Dice::gap);
        self.next = self.rate.reaches(self.done);
    }

    /// When the next is due, in ns since the phase began; none if no more is in this phase.
    pub fn next(&self) -> Option<u64> {
        self.next.map(|at| at as u64)
    }

    /// Takes one that is due at `now` or before.
    pub fn due(&mut self, now: u64) -> Option<u64> {
        let next = self.next().filter(|&next| next <= now)?;
        self.step();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rate: Slope, dice: Option<Dice>) -> Vec<u64> {
        let mut pace = Pace::new(rate, dice);
        std::iter::from_fn(|| pace.due(u64::MAX)).collect()
    }

    #[test]
    fn a_constant_rate_has_equal_gaps() {
        let moments = all(Slope { from: 100.0, to: 100.0, ns: 2e9 }, None);
        assert_eq!(moments.len(), 200);
        assert!(moments.windows(2).all(|two| (two[1] - two[0]).abs_diff(10_000_000) <= 1), "10 ms each");
        assert_eq!(moments[0], 10_000_000);
    }

    #[test]
    fn a_ramp_has_as_many_as_its_integral_and_they_come_closer() {
        for (from, to) in [(0.0, 1000.0), (1000.0, 0.0), (10.0, 990.0)] {
            let moments = all(Slope { from, to, ns: 10e9 }, None);
            assert!((4999..=5000).contains(&moments.len()), "{from} to {to}: {}", moments.len());
            assert!(moments.is_sorted());
            let early = moments.iter().filter(|&&at| at < 5_000_000_000).count() as f64;
            // The first half has a quarter of the whole if it rises from zero.
            let expected = (from * 5.0 + (to - from) * 1.25).floor();
            assert!((early - expected).abs() <= 1.0, "{from} to {to}: {early} of {expected}");
        }
    }

    #[test]
    fn random_gaps_have_the_same_mean_and_the_same_seed_gives_the_same() {
        let rate = Slope { from: 10_000.0, to: 10_000.0, ns: 10e9 };
        let (one, two) = (all(rate, Some(Dice::new(7))), all(rate, Some(Dice::new(7))));
        assert_eq!(one, two);
        assert!((one.len() as f64 - 1e5).abs() < 1500.0, "{}", one.len());
        let gaps: Vec<f64> = one.windows(2).map(|two| (two[1] - two[0]) as f64 / 1e5).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02 && (spread - 1.0).abs() < 0.05, "exponential: {mean} {spread}");
    }

    #[test]
    fn nothing_is_due_of_no_rate() {
        assert_eq!(all(Slope { from: 0.0, to: 0.0, ns: 1e9 }, None), Vec::<u64>::new());
    }
}
