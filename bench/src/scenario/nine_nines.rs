//! `corelane-bench nine-nines OBJECTIVE`: one of the service levels of the original, measured.
//!
//! Each has a scenario of its own; the control plane is asked over its socket by the scenario, and in the process that
//! serves by `registry-bench`, which links corelane as a program that embeds it does. What all of them come to is
//! `corelane-bench levels`.
//!
//! Invariant: an objective is met only if every part of it was measured and is met.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Scenario, Staging, table};
use crate::Failure;

/// `corelane-bench nine-nines`.
#[derive(clap::Args)]
pub struct NineNines {
    /// The objective that is measured.
    #[arg(value_enum)]
    objective: Objective,
    /// The program that asks in process, for control-plane; beside this one unless given.
    #[arg(long)]
    registry_bench: Option<PathBuf>,
    #[command(flatten)]
    with: Staging,
}

/// The service levels of the original, one measurement each.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Objective {
    /// Under 100,000 messages a second.
    Latency,
    /// Of a health query, over the socket and in process, while the data plane is flooded.
    ControlPlane,
    /// What 50,000 sessions take, nearly idle.
    Memory,
    /// 50,000 of them, called.
    Connections,
    /// In place of pauses of a collector.
    Stalls,
    /// For 30 s.
    Throughput,
    /// Beside clients that misbehave.
    Availability,
}

/// Queries in process, idle and again in the flood; fewer if times are shortened, but never so few that a 99th
/// percentile is their largest.
const QUERIES: f64 = 1000.0;
const QUERIES_LEAST: f64 = 200.0;

impl Objective {
    fn scenario(self) -> &'static str {
        match self {
            Self::Latency => include_str!("../../scenarios/nine_nines/latency.toml"),
            Self::ControlPlane => include_str!("../../scenarios/nine_nines/control_plane.toml"),
            Self::Memory => include_str!("../../scenarios/memory_50k.toml"),
            Self::Connections => include_str!("../../scenarios/nine_nines/connections.toml"),
            Self::Stalls => include_str!("../../scenarios/nine_nines/stalls.toml"),
            Self::Throughput => include_str!("../../scenarios/nine_nines/throughput.toml"),
            Self::Availability => include_str!("../../scenarios/nine_nines/availability.toml"),
        }
    }
}

impl NineNines {
    /// Runs, writes the record, prints the verdict. True if all that must hold did.
    pub fn run(&self) -> Result<bool, Failure> {
        let scenario = Scenario::parse(self.objective.scenario())?;
        if self.objective != Objective::ControlPlane {
            return self.with.play(scenario);
        }
        let name = self.with.name.clone().unwrap_or_else(|| scenario.name.clone());
        let by_socket = self.with.play(scenario)?;
        // In a server that runs already nobody can ask from inside.
        if !self.with.target.is_empty() {
            return Ok(by_socket);
        }
        let inside = self.in_process(&self.with.out.join(format!("{name}_in_process.json")))?;
        Ok(by_socket && inside)
    }

    /// Asks in the process of a server that is flooded; its table goes to standard output.
    fn in_process(&self, output: &Path) -> Result<bool, Failure> {
        let own = std::env::current_exe()?;
        let program = self.registry_bench.clone().unwrap_or_else(|| own.with_file_name("registry-bench"));
        if !program.is_file() {
            return Err(format!(
                "{} is not there, which asks in process: cargo build --release -p registry-bench, or --registry-bench",
                program.display()
            )
            .into());
        }
        let queries = (QUERIES * self.with.scale).max(QUERIES_LEAST);
        table::run(
            Command::new(&program)
                .args(["health", "--queries", &format!("{queries:.0}")])
                .args(["--generator-cpu", &self.with.cpus[0].to_string()])
                .arg("--generator")
                .arg(from_here(&own))
                .arg("--output")
                .arg(output),
        )
    }
}

/// Written from the working directory, if it is below: the command stands in the record, and where somebody keeps the
/// project is no part of it.
fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_objective_has_a_scenario_that_is_whole_and_may_fail() {
        for objective in Objective::value_variants() {
            let scenario = Scenario::parse(objective.scenario()).expect("valid");
            assert!(!scenario.conditions.is_empty(), "{}", scenario.name);
        }
    }
}
