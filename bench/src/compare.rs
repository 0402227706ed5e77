//! `corelane-bench compare A B`: two builds of corelane under the same loads, in interleaved rounds.
//!
//! It judges CPU per call, which does not depend on what else the machine does; rates and latencies are shown. More
//! servers than two, and targets of their own, have `ladder`.
//!
//! Invariant: B is called slower only if the whole interval of the ratio lies beyond the bound, and not slower only if
//! the whole of it lies within; all else is undecided, and no pass.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    forwarding::chain,
    judge::{self, Figure, Verdict},
    message::{Payload, Wire},
    observe::Environment,
    record,
    rounds::{self, Round, Scenario},
    server::{Ports, Running, Start},
};

/// `corelane-bench compare`.
#[derive(clap::Args)]
pub struct Compare {
    /// The one before: a corelane.
    #[arg(required_unless_present = "render")]
    before: Option<PathBuf>,
    /// The one after.
    #[arg(required_unless_present = "render")]
    after: Option<PathBuf>,
    /// Rounds of each; fewer than five decide nothing.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds measured in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Connections of each load.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Only these loads, by their names in the table.
    #[arg(long, value_delimiter = ';', value_parser = LOADS.map(|load| load.name))]
    only: Vec<String>,
    /// By how much CPU per call may grow, in percent.
    #[arg(long, default_value_t = 10.0)]
    bound: f64,
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the generator.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where the rounds go as JSON, with the table beside it; nowhere unless given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Judge the rounds in this JSON file and make the table beside it again, and run nothing.
    #[arg(long, conflicts_with_all = ["before", "after"])]
    render: Option<PathBuf>,
    #[command(flatten)]
    payload: Payload,
}

/// What is written down.
#[derive(Serialize, Deserialize)]
struct Compared {
    environment: Environment,
    before: String,
    after: String,
    bound_percent: f64,
    rounds: Vec<Round>,
}

/// What the two are put under.
struct Load {
    name: &'static str,
    wire: Wire,
    /// Calls in flight on each connection.
    depth: usize,
    /// The tool is that of a server behind corelane, which is called among others.
    is_forwarded: bool,
}

const LOADS: [Load; 5] = [
    Load { name: "lines", wire: Wire::Ndjson, depth: 1, is_forwarded: false },
    Load { name: "lines, 16 in flight", wire: Wire::Ndjson, depth: 16, is_forwarded: false },
    Load { name: "HTTP 2026-07-28", wire: Wire::HttpModern, depth: 1, is_forwarded: false },
    Load { name: "HTTP 2025-11-25", wire: Wire::HttpLegacy, depth: 1, is_forwarded: false },
    Load { name: "HTTP 2026-07-28, forwarded", wire: Wire::HttpModern, depth: 1, is_forwarded: true },
];
const SIDES: [&str; 2] = ["A", "B"];
/// Words of the server; the same for both.
const SERVE: &str = "serve --listen {http} --tcp {tcp} --cores {cpu}-{cpu}";

impl Compare {
    /// Runs, prints the table; `Met` if B is nowhere slower than allowed.
    pub fn run(&self) -> Result<Verdict, Failure> {
        if let Some(file) = &self.render {
            let (page, verdict) = record::read::<Compared>(file)?.page()?;
            record::publish(file, &page)?;
            return Ok(verdict);
        }
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return Err("two builds are compared: name the one before and the one after".into());
        };
        let sides = [before.as_path(), after.as_path()];
        let mut compared = Compared {
            environment: Environment::now(),
            before: before.display().to_string(),
            after: after.display().to_string(),
            bound_percent: self.bound,
            rounds: Vec::new(),
        };
        for round in 0..self.rounds {
            for load in self.loads() {
                let scenario = Scenario { depth: load.depth, ..Scenario::closed(self.connections) };
                for side in rounds::order(SIDES.len(), round) {
                    let ran = self.round(sides[side], load);
                    compared.rounds.push(Round::ran(&scenario, &rung(SIDES[side], load.name), round, ran));
                }
            }
        }
        let (page, verdict) = compared.page()?;
        match &self.out {
            Some(file) => {
                record::keep(file, &compared, &compared.environment, rounds::named(&compared.rounds))?;
                record::publish(file, &page)?;
            }
            None => record::show(&page),
        }
        Ok(verdict)
    }

    /// Those that are wanted.
    fn loads(&self) -> impl Iterator<Item = &'static Load> + '_ {
        LOADS.iter().filter(|load| self.only.is_empty() || self.only.iter().any(|name| name == load.name))
    }

    fn round(&self, binary: &Path, load: &Load) -> Result<crate::tally::Report, Failure> {
        let (wire, depth) = (load.wire, load.depth);
        let upstreams: Vec<Running> =
            load.is_forwarded.then(|| chain::upstream(self.load_cpu)).transpose()?.into_iter().collect();
        let config = load.is_forwarded.then(|| chain::Config::write(&upstreams, "")).transpose()?;
        let environment: Vec<_> = config.iter().map(chain::Config::variable).collect();
        let ports = Ports::free()?;
        let server = Running::start(Start {
            binary,
            words: ports.fill(SERVE).replace("{cpu}", &self.server_cpu.to_string()),
            environment: &environment,
            cpu: Some(self.server_cpu),
            target: if wire.is_lines() { ports.tcp } else { ports.http },
        })?;
        let mut payload = self.payload.clone();
        if load.is_forwarded {
            payload.tool = format!("{}_{}", chain::name(0), payload.tool);
            server.reached(wire, self.load_cpu, &payload, 1)?;
        }
        let mut more = vec![
            format!("--connections={}", self.connections),
            format!("--depth={depth}"),
            format!("--seconds={}", self.seconds),
            "--warmup=0.3".into(),
        ];
        if wire.is_lines() {
            more.push("--handshake".into());
        }
        server.loaded(wire, self.load_cpu, &payload, &more)
    }
}

fn rung(side: &str, load: &str) -> String {
    format!("{side}: {load}")
}

impl Compared {
    fn page(&self) -> Result<(String, Verdict), Failure> {
        let mut page = String::from("# Two builds compared\n\n");
        self.environment.describe(&mut page, "compare")?;
        writeln!(
            page,
            "- A is `{}`, B is `{}`; at most {} % more CPU per call\n",
            self.before, self.after, self.bound_percent
        )?;
        writeln!(
            page,
            "| load | A: CPU us/call | B | B / A | 95 % | pairs | A: calls/s | B | A: p99 us | B | A: RSS KiB | B | verdict |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        let mut worst = Verdict::Met;
        for Load { name: load, depth, .. } in LOADS {
            // Those that were not wanted are in no round.
            if !self.rounds.iter().any(|round| SIDES.iter().any(|side| round.rung == rung(side, load))) {
                continue;
            }
            let scenario =
                self.rounds.iter().find(|round| round.rung == rung("A", load) && round.scenario.depth == depth);
            let Some(scenario) = scenario.map(|round| &round.scenario) else {
                worst = Verdict::Undecided;
                continue;
            };
            let of = |side: &str, figure: Figure| rounds::figures(&self.rounds, scenario, &rung(side, load), figure);
            let shown = |side: &str, figure: Figure, digits: usize| {
                judge::median(&judge::values(&of(side, figure))).map_or("-".into(), |value| format!("{value:.digits$}"))
            };
            let ratio = judge::ratio(&of("B", judge::cpu), &of("A", judge::cpu));
            let verdict = ratio.map_or(Verdict::Undecided, |ratio| ratio.at_most(1.0 + self.bound_percent / 100.0));
            worst = worst.and(verdict);
            let (value, interval, pairs) = ratio.map_or(("-".into(), "-".into(), 0), |ratio| {
                (format!("{:.3}", ratio.value), format!("{:.3} - {:.3}", ratio.low, ratio.high), ratio.rounds)
            });
            let rate: Figure = |report| Some(report.calls_per_second);
            let rss: Figure = |report| Some(report.server?.rss_after_bytes? as f64 / 1024.0);
            writeln!(
                page,
                "| {load} | {} | {} | {value} | {interval} | {pairs} | {} | {} | {} | {} | {} | {} | {} |",
                shown("A", judge::cpu, 2),
                shown("B", judge::cpu, 2),
                shown("A", rate, 0),
                shown("B", rate, 0),
                shown("A", judge::p99, 0),
                shown("B", judge::p99, 0),
                shown("A", rss, 0),
                shown("B", rss, 0),
                match verdict {
                    Verdict::Met => "no regression",
                    Verdict::Missed => "**regression**",
                    _ => "*undecided*",
                }
            )?;
        }
        Ok((page, worst))
    }
}
