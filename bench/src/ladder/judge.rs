//! The arithmetic of comparisons: medians, capacities, and ratios with an interval.
//!
//! It reads rounds and gives numbers; it never drops a round because of its value.
//!
//! Invariant: a ratio is decided only with enough pairs and a narrow enough interval; everything else is *undecided*.

use super::{Round, Scenario};
use crate::{dice::Dice, tally::Report};

/// Fewer pairs than this decide nothing: with five, the chance that all lie on the wrong side by luck is 1 in 32.
pub const PAIRS_MIN: usize = 5;
/// An interval wider than this, as a share of the ratio, decides nothing.
pub const WIDTH_MAX: f64 = 0.2;
const DRAWS: usize = 10_000;

/// A ratio of medians with its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub pairs: usize,
}

impl Ratio {
    /// In words; the interval alone decides.
    pub fn verdict(&self) -> &'static str {
        if self.pairs < PAIRS_MIN || (self.high - self.low) / self.value > WIDTH_MAX {
            "*undecided*"
        } else if self.high < 1.0 {
            "less"
        } else if self.low > 1.0 {
            "more"
        } else {
            "no difference seen"
        }
    }
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// One figure of a report.
pub type Figure = fn(&Report) -> Option<f64>;

/// CPU time of the server per call.
pub fn cpu(report: &Report) -> Option<f64> {
    report.server?.cpu_us_per_call
}

/// Latency that one call in a hundred exceeds.
pub fn p99(report: &Report) -> Option<f64> {
    report.latency_us.map(|latency| latency.p99)
}

/// A figure of every round of a rung in a scenario, with the round's number.
pub fn figures(rounds: &[Round], scenario: &Scenario, rung: &str, figure: Figure) -> Vec<(usize, f64)> {
    rounds
        .iter()
        .filter(|round| round.scenario == *scenario && round.rung == rung)
        .filter_map(|round| Some((round.round, figure(round.report.as_ref()?)?)))
        .collect()
}

/// Calls per second that one CPU could serve, from the closed loop with one call in flight.
pub fn capacity(rounds: &[Round], rung: &str, connections: usize) -> Option<f64> {
    let scenario = Scenario { connections, depth: 1, share: None };
    let costs: Vec<f64> = figures(rounds, &scenario, rung, cpu).into_iter().map(|(_, cost)| cost).collect();
    median(&costs).map(|cost| 1e6 / cost)
}

/// The ratio of medians over the rounds that both have, with a bootstrap over those pairs.
pub fn ratio(these: &[(usize, f64)], those: &[(usize, f64)]) -> Option<Ratio> {
    let pairs: Vec<(f64, f64)> = these
        .iter()
        .filter_map(|(round, this)| Some((*this, those.iter().find(|(other, _)| other == round)?.1)))
        .collect();
    let of = |chosen: &[(f64, f64)]| {
        let (this, that): (Vec<f64>, Vec<f64>) = chosen.iter().copied().unzip();
        Some(median(&this)? / median(&that)?)
    };
    let value = of(&pairs)?;
    // A fixed seed: the same rounds give the same table.
    let mut dice = Dice::new(0x636f_7265_6c61_6e65);
    let mut draws: Vec<f64> = (0..DRAWS)
        .filter_map(|_| of(&pairs.iter().map(|_| pairs[dice.below(pairs.len())]).collect::<Vec<_>>()))
        .collect();
    draws.sort_by(f64::total_cmp);
    let at = |quantile: f64| draws[((draws.len() - 1) as f64 * quantile).round() as usize];
    Some(Ratio { value, low: at(0.025), high: at(0.975), pairs: pairs.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Vec<(usize, f64)> {
        values.iter().copied().enumerate().collect()
    }

    #[test]
    fn steady_rounds_decide_and_noisy_or_few_ones_do_not() {
        let floor = rounds(&[5.0, 5.1, 5.0, 4.9, 5.0]);
        let verdict = |these: &[f64]| ratio(&rounds(these), &floor).map(|ratio| ratio.verdict());
        assert_eq!(verdict(&[10.0, 10.1, 9.9, 10.0, 10.2]), Some("more"));
        assert_eq!(verdict(&[2.5, 2.5, 2.4, 2.5, 2.5]), Some("less"));
        assert_eq!(verdict(&[5.0, 4.9, 5.1, 5.0, 5.1]), Some("no difference seen"));
        assert_eq!(verdict(&[10.0, 30.0, 9.0, 25.0, 6.0]), Some("*undecided*"));
        assert_eq!(verdict(&[10.0, 10.0, 10.0]), Some("*undecided*"));
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn only_rounds_that_both_have_are_pairs() {
        let ratio = ratio(&[(0, 2.0), (2, 4.0)], &[(1, 9.0), (2, 2.0)]).expect("one pair");
        assert_eq!((ratio.pairs, ratio.value), (1, 2.0));
    }
}
