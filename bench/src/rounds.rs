//! Rounds of one load after another on several servers: what a comparison of servers writes down.
//!
//! It starts nothing and judges nothing; `table` shows it.
//!
//! Invariant: whoever follows `order` runs every rung once before any runs again, every other time in reverse, so what
//! drifts on the machine falls on all alike.

pub mod table;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    judge::{Figure, Figures},
    tally::Report,
};

/// What every comparison of servers is told alike.
#[derive(Clone, Debug, clap::Args)]
pub struct Terms {
    /// Rounds: pairs for each comparison. Fewer than five leave everything undecided.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each round's window.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Seconds of warm-up before each.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Rounds of what is measured at rest (memory, idleness); fewer than three leave it undecided.
    #[arg(long, default_value_t = 3)]
    pub rest_rounds: usize,
    /// CPU of the server, proxy or gateway, to which all its threads are confined.
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// CPU of the generator, and of the server behind a proxy or gateway.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Judge the rounds in this JSON file and make the page beside it again, and run nothing.
    #[arg(long)]
    pub render: Option<PathBuf>,
}

impl Terms {
    /// Refuses what can compare nothing.
    pub fn check(&self) -> Result<(), Failure> {
        if self.rounds == 0 || self.server_cpu == self.load_cpu {
            return Err("at least one round, and two different CPUs, are needed".into());
        }
        Ok(())
    }
}

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

/// The runs of rounds as they are named in a log: scenario, rung, round from 1.
pub fn named(rounds: &[Round]) -> impl Iterator<Item = (String, &Option<Report>)> {
    rounds
        .iter()
        .map(|round| (format!("{}/{}/round {}", round.scenario.title(), round.rung, round.round + 1), &round.report))
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
