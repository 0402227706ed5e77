//! Rounds of one load after another on several servers: what a comparison of servers writes down.
//!
//! It starts nothing and judges nothing; `table` shows it.
//!
//! Invariant: whoever follows `order` runs every rung once before any runs again, every other time in reverse, so what
//! drifts on the machine falls on all alike.

pub mod table;

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    judge::{Figure, Figures},
    tally::Report,
};

/// One load under which rungs are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    pub connections: usize,
    pub depth: usize,
    /// Open loop at this share of a capacity measured before: corelane's on the same wire, unless `pace` says whose.
    /// Closed loop without.
    pub share: Option<f64>,
    /// The one rate at which two servers are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// A rate that is the same for two servers: a share of what the slower one can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Calls per second; a whole number, which JSON gives back as it was.
    pub rate: f64,
    /// Whose capacity it is a share of.
    pub of: String,
    /// Whom corelane is compared with.
    pub against: String,
}

impl Scenario {
    /// A closed loop with one call in flight on each connection.
    pub fn closed(connections: usize) -> Self {
        Self { connections, depth: 1, share: None, pace: None }
    }

    /// As it stands above its figures.
    pub fn title(&self) -> String {
        let connections = match self.connections {
            1 => "1 connection".into(),
            connections => format!("{connections} connections"),
        };
        match (self.share, &self.pace) {
            (None, _) if self.depth == 1 => format!("{connections}, one call in flight on each"),
            (None, _) => format!("{connections}, {} calls in flight on each", self.depth),
            (Some(share), None) => {
                format!("{connections}, open loop at {:.0} % of corelane's capacity", share * 100.0)
            }
            (Some(share), Some(Pace { rate, of, against })) => {
                let share = share * 100.0;
                format!(
                    "corelane and {against}: {connections}, open loop at {rate} calls/s, {share:.0} % of {of}'s capacity"
                )
            }
        }
    }
}

/// One run of one rung.
#[derive(Clone, Serialize, Deserialize)]
pub struct Round {
    pub scenario: Scenario,
    pub rung: String,
    pub round: usize,
    pub report: Option<Report>,
    pub failure: Option<String>,
}

impl Round {
    /// What became of a run; tells whoever waits.
    pub fn ran(scenario: &Scenario, rung: &str, round: usize, ran: Result<Report, Failure>) -> Self {
        let (report, failure) = match ran {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let told = report.as_ref().map(Report::in_short).or(failure.clone()).unwrap_or_default();
        eprintln!("{}: {rung} round {}: {told}", scenario.title(), round + 1);
        Self { scenario: scenario.clone(), rung: rung.into(), round, report, failure }
    }
}

/// In which order `count` rungs run in a round.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// A figure of every round of a rung in a scenario.
pub fn figures(rounds: &[Round], scenario: &Scenario, rung: &str, figure: Figure) -> Figures {
    rounds
        .iter()
        .filter(|round| round.scenario == *scenario && round.rung == rung)
        .filter_map(|round| Some((round.round, figure(round.report.as_ref()?)?)))
        .collect()
}
