//! The arithmetic of comparisons: medians, capacities, and estimates with an interval; and what they say of a target.
//!
//! It takes figures by round and gives numbers; it drops rounds in which calls failed, and none because of its value.
//!
//! Invariant: a target is met or missed only if the whole interval lies on one side of it and there were enough rounds;
//! everything else is *undecided*.

use serde::{Deserialize, Serialize};

use crate::{dice::Dice, tally::Report};

/// Fewer pairs than this decide nothing: with five, the chance that all lie on the wrong side by luck is 1 in 32.
pub const PAIRS_MIN: usize = 5;
/// Fewer rounds than this decide nothing about memory and idleness, which hardly vary.
pub const STEADY_MIN: usize = 3;
/// "No difference seen" is said only of an interval at most this wide, as a share of the ratio.
pub const WIDTH_MAX: f64 = 0.2;
/// A round in which more than one call in so many failed says what failing costs, and not what a call does.
const ERRORS_SHARE_MAX: u64 = 100;
/// In a closed loop fewer calls than this on each connection say little of what one costs: a server may answer all
/// connections in one burst, and a window may hold one burst more or less than the time it was measured for.
pub const LAPS_MIN: u64 = 5;
const DRAWS: usize = 10_000;
/// A fixed seed: the same rounds give the same table.
const SEED: u64 = 0x636f_7265_6c61_6e65;

/// A figure, the interval in which it lies, and from how many rounds that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub rounds: usize,
    /// With fewer rounds than this the interval decides nothing.
    pub rounds_needed: usize,
}

/// What an estimate says of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    Undecided,
    NotMeasured,
}

impl Verdict {
    /// As it stands in the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Undecided => "*undecided*",
            Self::NotMeasured => "not measured",
        }
    }

    /// The verdict on "this and that": a miss is one whatever else is not known.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missed, _) | (_, Self::Missed) => Self::Missed,
            (Self::NotMeasured, _) | (_, Self::NotMeasured) => Self::NotMeasured,
            (Self::Met, Self::Met) => Self::Met,
            _ => Self::Undecided,
        }
    }

    /// The verdict on "this or that".
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Met, _) | (_, Self::Met) => Self::Met,
            (Self::NotMeasured, known) | (known, Self::NotMeasured) => known,
            (Self::Missed, Self::Missed) => Self::Missed,
            _ => Self::Undecided,
        }
    }
}

impl Estimate {
    /// Whether it is at most `limit`: the interval alone decides, however wide it is.
    pub fn at_most(&self, limit: f64) -> Verdict {
        if self.rounds < self.rounds_needed {
            Verdict::Undecided
        } else if self.high <= limit {
            Verdict::Met
        } else if self.low > limit {
            Verdict::Missed
        } else {
            Verdict::Undecided
        }
    }

    /// A ratio against 1, in words.
    pub fn against_one(&self) -> &'static str {
        if self.rounds < self.rounds_needed {
            "*undecided*"
        } else if self.high < 1.0 {
            "less"
        } else if self.low > 1.0 {
            "more"
        } else if (self.high - self.low) / self.value <= WIDTH_MAX {
            "no difference seen"
        } else {
            "*undecided*"
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

/// CPU time of the server per call; of a server that broke down under the load there is none, nor of one that answered
/// too few calls for it to be known.
pub fn cpu(report: &Report) -> Option<f64> {
    let broke_down = report.errors.values().sum::<u64>() > report.calls / ERRORS_SHARE_MAX;
    let has_few = report.rate_asked.is_none() && report.calls < LAPS_MIN * report.connections as u64;
    if broke_down || has_few {
        return None;
    }
    report.server?.cpu_us_per_call
}

/// Latency that half of the calls exceed.
pub fn p50(report: &Report) -> Option<f64> {
    report.latency_us.map(|latency| latency.p50)
}

/// Latency that one call in a hundred exceeds.
pub fn p99(report: &Report) -> Option<f64> {
    report.latency_us.map(|latency| latency.p99)
}

/// Figures by the number of their round: what is compared is taken from the same round of both.
pub type Figures = Vec<(usize, f64)>;

/// The values alone.
pub fn values(figures: &[(usize, f64)]) -> Vec<f64> {
    figures.iter().map(|&(_, value)| value).collect()
}

type Pairs = Vec<(f64, f64)>;

fn pairs(these: &[(usize, f64)], those: &[(usize, f64)]) -> Pairs {
    let partner = |round: usize| those.iter().find(|(other, _)| *other == round).map(|&(_, that)| that);
    these.iter().filter_map(|&(round, this)| Some((this, partner(round)?))).collect()
}

fn ratio_of(pairs: &[(f64, f64)]) -> Option<f64> {
    let (this, that): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    Some(median(&this)? / median(&that)?)
}

/// As many as there are, drawn with repetition.
fn redrawn<T: Copy>(values: &[T], dice: &mut Dice) -> Vec<T> {
    values.iter().map(|_| values[dice.below(values.len())]).collect()
}

/// `value` with the middle 95 % of what `draw` gives.
fn bootstrap(value: f64, rounds: usize, mut draw: impl FnMut(&mut Dice) -> Option<f64>) -> Option<Estimate> {
    let mut dice = Dice::new(SEED);
    let mut draws: Vec<f64> = (0..DRAWS).filter_map(|_| draw(&mut dice)).filter(|draw| draw.is_finite()).collect();
    draws.sort_by(f64::total_cmp);
    let at = |quantile: f64| draws.get(((draws.len().max(1) - 1) as f64 * quantile).round() as usize).copied();
    Some(Estimate { value, low: at(0.025)?, high: at(0.975)?, rounds, rounds_needed: PAIRS_MIN })
}

/// The ratio of medians over the rounds that both have, with a bootstrap over those pairs.
pub fn ratio(these: &[(usize, f64)], those: &[(usize, f64)]) -> Option<Estimate> {
    let pairs = pairs(these, those);
    bootstrap(ratio_of(&pairs)?, pairs.len(), |dice| ratio_of(&redrawn(&pairs, dice)))
}

/// The figures of what is compared: of the one, and of the other.
pub type Both<'a> = (&'a [(usize, f64)], &'a [(usize, f64)]);

/// How many times more the first of `many` grew than the second, from `few` on. Rounds are pairs within each of the
/// two, never across them: they were not run side by side.
pub fn growth(many: Both<'_>, few: Both<'_>) -> Option<Estimate> {
    let (many, few) = (pairs(many.0, many.1), pairs(few.0, few.1));
    let of = |many: &[(f64, f64)], few: &[(f64, f64)]| Some(ratio_of(many)? / ratio_of(few)?);
    bootstrap(of(&many, &few)?, many.len().min(few.len()), |dice| of(&redrawn(&many, dice), &redrawn(&few, dice)))
}

/// The median with a bootstrap over the rounds.
pub fn middle(figures: &[(usize, f64)]) -> Option<Estimate> {
    let values = values(figures);
    bootstrap(median(&values)?, values.len(), |dice| median(&redrawn(&values, dice)))
}

/// The median between the least and the most of all rounds: for what hardly varies, so that few rounds decide.
pub fn steady(values: &[f64]) -> Option<Estimate> {
    Some(Estimate {
        value: median(values)?,
        low: values.iter().copied().fold(f64::INFINITY, f64::min),
        high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        rounds: values.len(),
        rounds_needed: STEADY_MIN,
    })
}

/// The first minus the second, in the rounds that both have.
pub fn differences(these: &[(usize, f64)], those: &[(usize, f64)]) -> Vec<f64> {
    pairs(these, those).into_iter().map(|(this, that)| this - that).collect()
}

/// Whether a figure is on the right side of the bounds that there are.
pub fn is_within(found: f64, at_least: Option<f64>, at_most: Option<f64>) -> bool {
    at_most.is_none_or(|most| found <= most) && at_least.is_none_or(|least| found >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Figures {
        values.iter().copied().enumerate().collect()
    }

    #[test]
    fn against_one_a_wide_interval_is_undecided_only_if_it_holds_one() {
        let floor = rounds(&[5.0, 5.1, 5.0, 4.9, 5.0]);
        let verdict = |these: &[f64]| ratio(&rounds(these), &floor).map(|ratio| ratio.against_one());
        assert_eq!(verdict(&[10.0, 10.1, 9.9, 10.0, 10.2]), Some("more"));
        assert_eq!(verdict(&[10.0, 30.0, 9.0, 25.0, 6.0]), Some("more"));
        assert_eq!(verdict(&[2.5, 2.5, 2.4, 2.5, 2.5]), Some("less"));
        assert_eq!(verdict(&[5.0, 4.9, 5.1, 5.0, 5.1]), Some("no difference seen"));
        assert_eq!(verdict(&[4.0, 9.0, 5.0, 3.0, 6.0]), Some("*undecided*"));
        assert_eq!(verdict(&[10.0, 10.0, 10.0]), Some("*undecided*"), "three pairs decide nothing");
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn a_target_is_judged_by_the_whole_interval_and_not_by_its_width() {
        let of = |low, high| Estimate { value: f64::midpoint(low, high), low, high, rounds: 5, rounds_needed: 5 };
        assert_eq!(of(0.12, 0.16).at_most(0.4), Verdict::Met, "wide, and far below");
        assert_eq!(of(0.12, 0.4).at_most(0.4), Verdict::Met, "at most: the bound itself is allowed");
        assert_eq!(of(1.24, 1.26).at_most(1.25), Verdict::Undecided, "narrow, and across");
        assert_eq!(of(1.26, 3.0).at_most(1.25), Verdict::Missed);
        assert_eq!(of(1.25, 1.26).at_most(1.25), Verdict::Undecided, "may still be the bound itself");
        let few = Estimate { rounds: 4, ..of(0.1, 0.2) };
        assert_eq!(few.at_most(0.4), Verdict::Undecided);
    }

    #[test]
    fn of_two_targets_both_must_be_met_and_one_miss_is_enough() {
        use Verdict::{Met, Missed, NotMeasured, Undecided};
        assert_eq!(Met.and(Met), Met);
        for other in [Met, Missed, Undecided, NotMeasured] {
            assert_eq!((Missed.and(other), other.and(Missed)), (Missed, Missed));
        }
        assert_eq!((Met.and(Undecided), Undecided.and(NotMeasured)), (Undecided, NotMeasured));
    }

    #[test]
    fn of_two_ways_to_meet_a_target_one_is_enough_and_both_must_fail() {
        use Verdict::{Met, Missed, NotMeasured, Undecided};
        assert_eq!(Missed.or(Met), Met);
        assert_eq!(Missed.or(Missed), Missed);
        assert_eq!(Missed.or(Undecided), Undecided);
        assert_eq!(NotMeasured.or(Missed), Missed);
        assert_eq!(NotMeasured.or(NotMeasured), NotMeasured);
    }

    #[test]
    fn growth_is_what_one_grew_beyond_the_other() {
        let of = |cost: f64| rounds(&[cost, cost * 1.01, cost * 0.99, cost, cost]);
        // The floor doubles, the other grows threefold: half as much again.
        let grown = growth((&of(9.0), &of(4.0)), (&of(3.0), &of(2.0))).expect("rounds on all sides");
        assert!((grown.value - 1.5).abs() < 1e-9, "{grown:?}");
        assert_eq!((grown.at_most(1.6), grown.at_most(1.4)), (Verdict::Met, Verdict::Missed));
        assert_eq!(growth((&of(9.0), &[]), (&of(3.0), &of(2.0))), None);
    }

    #[test]
    fn what_hardly_varies_lies_between_its_extremes() {
        let memory = steady(&[900.0, 1000.0, 950.0]).expect("three rounds");
        assert_eq!((memory.value, memory.low, memory.high), (950.0, 900.0, 1000.0));
        assert_eq!((memory.at_most(1000.0), memory.at_most(999.0)), (Verdict::Met, Verdict::Undecided));
        assert_eq!(steady(&[900.0, 900.0]).map(|two| two.at_most(2048.0)), Some(Verdict::Undecided));
        assert_eq!(steady(&[]), None);
    }

    #[test]
    fn only_rounds_that_both_have_are_pairs() {
        let ratio = ratio(&[(0, 2.0), (2, 4.0)], &[(1, 9.0), (2, 2.0)]).expect("one pair");
        assert_eq!((ratio.rounds, ratio.value), (1, 2.0));
        assert_eq!(differences(&[(0, 2.0), (2, 4.0)], &[(1, 9.0), (2, 1.0)]), [3.0]);
    }
}
