//! `corelane-bench forwarding`: what a call costs that goes on to another server, by corelane and by other proxies.
//!
//! It is a sister of the ladder: the same load, the same rounds, the same arithmetic. All proxies stand before the same
//! `upstream`, which shares the load's CPU; a proxy has its CPU to itself, and the CPU time counted is its own. What is
//! sent to two cores is in `crossing`, what sessions hold in `sessions`; `target` judges and `render` makes the page,
//! from the record alone.
//!
//! Invariant: each round starts a fresh upstream, a fresh proxy and a fresh generator, and no load begins before a call
//! has gone all the way and come back.

pub mod chain;
mod crossing;
mod faults;
mod render;
mod sessions;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    message::{Payload, Wire},
    observe::Environment,
    record,
    rounds::{self, Round, Scenario, Terms},
    tally::Report,
    target::Target,
};
use chain::{Chain, Front};
use crossing::CrossingRound;
use faults::{Fault, FaultRound};
use sessions::SessionsRound;

/// `corelane-bench forwarding`.
#[derive(clap::Args)]
pub struct Forwarding {
    #[command(flatten)]
    terms: Terms,
    /// The corelane binary; what is measured of it is left out without it.
    #[arg(long)]
    corelane: Option<PathBuf>,
    /// The rmcp-proxy binary; its rung is left out without it.
    #[arg(long)]
    rmcp: Option<PathBuf>,
    /// The Python that has FastMCP; its rung is left out if there is none.
    #[arg(long, default_value = ".tools/python/bin/python")]
    python: PathBuf,
    /// The program that it runs.
    #[arg(long, default_value = "bench/peers/fastmcp_proxy.py")]
    fastmcp: PathBuf,
    /// Connection counts of the closed loops; latency is measured with one.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512])]
    connections: Vec<usize>,
    /// Connections of the calls whose sessions live on the other core.
    #[arg(long, default_value_t = 512)]
    crossing_connections: usize,
    /// Calls per second of those while the cores are idle.
    #[arg(long, default_value_t = 1000.0)]
    idle_rate: f64,
    /// Sessions that are held, over all upstreams.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Upstreams over which they are spread.
    #[arg(long, default_value_t = 8)]
    upstreams: usize,
    /// Run only these: names of rungs as in the table, `crossing`, `sessions`, `faults`, `at-once` (all faults).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Lines of corelane's configuration for the upstream, such as `connections_per_core = 64`.
    #[arg(long, default_value = "")]
    section: String,
    /// Bytes of the floor's answer; as corelane's, once it could be asked.
    #[arg(long, default_value_t = 302)]
    reply_bytes: usize,
    /// Where forwarding.json and forwarding.md go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
    /// Encoded length of message M.
    #[arg(long, default_value_t = 175)]
    payload: usize,
}

/// One way of a call to the upstream.
#[derive(Clone, Copy)]
struct Rung {
    name: &'static str,
    what: &'static str,
    front: Front,
    path: &'static str,
    tool: &'static str,
}

const RUNGS: [Rung; 7] = [
    rung(FLOOR, "floor, HTTP: an echo of the same bytes", Front::Floor, "/mcp/up", "echo"),
    rung(DIRECT, "the upstream without a proxy, on the load's CPU", Front::Nobody, "/mcp", "echo"),
    rung(FAR, "the same on the proxy's CPU", Front::NobodyFar, "/mcp", "echo"),
    rung(ONE, "corelane, the server by itself at /mcp/up", Front::Corelane, "/mcp/up", "echo"),
    rung(ALL, "corelane, the server among others at /mcp", Front::Corelane, "/mcp", "up_echo"),
    rung(RMCP, "a minimal proxy on rmcp, JSON", Front::Rmcp, "/mcp", "echo"),
    rung(FASTMCP, "FastMCP's proxy mode, JSON", Front::Fastmcp, "/mcp", "echo"),
];
const FLOOR: &str = "a-http";
const DIRECT: &str = "direct";
const FAR: &str = "far";
const ONE: &str = "one";
const ALL: &str = "all";
const RMCP: &str = "rmcp";
const FASTMCP: &str = "fastmcp";

const fn rung(name: &'static str, what: &'static str, front: Front, path: &'static str, tool: &'static str) -> Rung {
    Rung { name, what, front, path, tool }
}

/// What is compared: the first against the second.
const COMPARISONS: [(&str, &str); 7] =
    [(ONE, FLOOR), (ALL, FLOOR), (ALL, ONE), (ONE, RMCP), (ALL, RMCP), (ONE, FASTMCP), (ALL, FASTMCP)];

/// All that a run leaves behind; the page needs nothing else.
#[derive(Serialize, Deserialize)]
struct Record {
    environment: Environment,
    rounds_asked: usize,
    seconds: f64,
    server_cpu: usize,
    load_cpu: usize,
    floor_reply_bytes: usize,
    rungs: Vec<(String, String)>,
    comparisons: Vec<(String, String)>,
    /// What was not run, and why.
    left_out: Vec<String>,
    rounds: Vec<Round>,
    crossing: Vec<CrossingRound>,
    sessions: Vec<SessionsRound>,
    #[serde(default)]
    faults: Vec<FaultRound>,
    /// Judged from all the above.
    targets: Vec<Target>,
}

impl Forwarding {
    /// Runs, writes both files, prints the page.
    pub fn run(&self) -> Result<(), Failure> {
        if let Some(file) = &self.terms.render {
            return render_file(file);
        }
        self.terms.check()?;
        fs::create_dir_all(&self.output)?;
        let mut record = Record {
            environment: Environment::now(),
            rounds_asked: self.terms.rounds,
            seconds: self.terms.seconds,
            server_cpu: self.terms.server_cpu,
            load_cpu: self.terms.load_cpu,
            floor_reply_bytes: self.reply_bytes,
            rungs: Vec::new(),
            comparisons: COMPARISONS.map(|(this, that)| (this.into(), that.into())).into(),
            left_out: Vec::new(),
            rounds: Vec::new(),
            crossing: Vec::new(),
            sessions: Vec::new(),
            faults: Vec::new(),
            targets: Vec::new(),
        };
        let rungs = self.healthy(&mut record)?;
        record.rungs = rungs.iter().map(|rung| (rung.name.into(), rung.what.into())).collect();
        eprintln!("this takes about {:.0} minutes", (self.seconds_of(&rungs) / 60.0).ceil());
        for &connections in &self.connections {
            self.interleave(&mut record, &loaded(&rungs), &Scenario::closed(connections))?;
        }
        self.interleave(&mut record, &alone(&rungs), &Scenario::closed(1))?;
        if self.corelane.is_some() && self.wants("crossing") {
            self.crossing(&mut record)?;
        }
        if self.corelane.is_some() && self.wants("sessions") {
            self.sessions(&mut record)?;
        }
        if self.corelane.is_some() && self.wants("at-once") {
            self.faults(&mut record, &[Fault::AtOnce])?;
        }
        if self.corelane.is_some() && self.wants("faults") {
            self.faults(&mut record, &Fault::EACH)?;
        }
        self.keep(&record)?;
        render_file(&self.file())
    }

    fn file(&self) -> PathBuf {
        self.output.join("forwarding.json")
    }

    /// What has been measured survives whatever comes next.
    fn keep(&self, record: &Record) -> Result<(), Failure> {
        let crossing = record.crossing.iter().map(CrossingRound::named);
        let runs = rounds::named(&record.rounds).chain(crossing).chain(record.faults.iter().map(FaultRound::named));
        record::keep(&self.file(), record, &record.environment, runs)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// About how long a run takes.
    fn seconds_of(&self, rungs: &[Rung]) -> f64 {
        // Starting and ending a chain takes about half a second, and FastMCP's three more.
        let run = |rung: &Rung, connections| {
            let (warmup, seconds) = self.times(rung, connections);
            warmup + seconds + if rung.front == Front::Fastmcp { 4.0 } else { 1.0 }
        };
        let all = |rungs: &[Rung], connections| rungs.iter().map(|rung| run(rung, connections)).sum::<f64>();
        let closed = self.connections.iter().map(|&connections| all(&loaded(rungs), connections));
        let rounds = closed.sum::<f64>() + all(&alone(rungs), 1);
        let crossing = 4.0 * (self.terms.warmup + self.terms.seconds + 1.5);
        let pairs = |fault: Fault| {
            let (times, longer, _) = fault.effort();
            2.0 * times as f64 * (self.terms.warmup + longer * self.terms.seconds + 1.5)
        };
        let faults: f64 = Fault::all().map(pairs).sum();
        self.terms.rounds as f64 * (rounds + crossing + faults) + self.terms.rest_rounds as f64 * 8.0
    }

    /// The rungs that there is a program for, each of which has answered a call; learns the size of the answers for the
    /// floor.
    fn healthy(&self, record: &mut Record) -> Result<Vec<Rung>, Failure> {
        let mut healthy = Vec::new();
        for rung in RUNGS.iter().filter(|rung| self.wants(rung.name)) {
            if let Err(why) = self.program(rung.front) {
                eprintln!("{} is left out: {why}", rung.name);
                record.left_out.push(format!("{}: {why}", rung.name));
                continue;
            }
            if rung.front != Front::Floor {
                let report = self
                    .once(record, rung, &Scenario::closed(1), (0.0, 0.2))
                    .map_err(|error| format!("rung {} ({}) does not work: {error}", rung.name, rung.what))?;
                if report.calls == 0 || !report.errors.is_empty() {
                    let (calls, errors) = (report.calls, report.errors);
                    return Err(format!("rung {}: {calls} calls, errors {errors:?}", rung.name).into());
                }
                if rung.front == Front::Corelane {
                    record.floor_reply_bytes = report.response_bytes.unwrap_or(0.0).round() as usize;
                }
            }
            healthy.push(*rung);
        }
        Ok(healthy)
    }

    /// The program that stands in front, or why there is none.
    fn program(&self, front: Front) -> Result<PathBuf, String> {
        let given = |path: &Option<PathBuf>, option: &str| path.clone().ok_or(format!("no {option} was given"));
        match front {
            Front::Floor | Front::Nobody | Front::NobodyFar => {
                std::env::current_exe().map_err(|error| error.to_string())
            }
            Front::Corelane => given(&self.corelane, "--corelane"),
            Front::Rmcp => given(&self.rmcp, "--rmcp"),
            Front::Fastmcp if self.python.exists() => Ok(self.python.clone()),
            Front::Fastmcp => Err(format!(
                "there is no {}; `scripts/test --only setup-python` makes it, or name another with --python",
                self.python.display()
            )),
        }
    }

    fn interleave(&self, record: &mut Record, rungs: &[Rung], scenario: &Scenario) -> Result<(), Failure> {
        for round in 0..self.terms.rounds {
            for index in rounds::order(rungs.len(), round) {
                let rung = &rungs[index];
                let ran = self.once(record, rung, scenario, self.times(rung, scenario.connections));
                record.rounds.push(Round::ran(scenario, rung.name, round, ran));
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// Seconds of a rung's warm-up and window. FastMCP serves about 200 calls a second: with many connections each has
    /// to have its turn, or its calls would count as stalled.
    fn times(&self, rung: &Rung, connections: usize) -> (f64, f64) {
        let turns = if rung.front == Front::Fastmcp { (connections as f64 / 128.0).max(1.0) } else { 1.0 };
        (self.terms.warmup * turns, self.terms.seconds * turns)
    }

    /// One chain, one load, one report.
    fn once(
        &self,
        record: &Record,
        rung: &Rung,
        scenario: &Scenario,
        (warmup, seconds): (f64, f64),
    ) -> Result<Report, Failure> {
        let payload = self.says(rung.path, rung.tool);
        let chain = Chain::start(self, rung.front, &payload, record.floor_reply_bytes)?;
        let mut more: Vec<String> = Vec::new();
        let mut say = |option: &str, value: String| more.extend([format!("--{option}"), value]);
        say("connections", scenario.connections.to_string());
        say("warmup", warmup.to_string());
        say("seconds", seconds.to_string());
        if rung.front == Front::Floor {
            more.push("--unverified".into());
        }
        chain.front.loaded(Wire::HttpModern, self.terms.load_cpu, &payload, &more)
    }

    /// Message M for a tool at a path.
    fn says(&self, path: &str, tool: &str) -> Payload {
        let arguments = r#"{"data":"$PAD"}"#.into();
        Payload { payload: self.payload, tool: tool.into(), arguments, path: path.into() }
    }
}

/// Those whose CPU per call is compared.
fn loaded(rungs: &[Rung]) -> Vec<Rung> {
    rungs.iter().copied().filter(|rung| !matches!(rung.front, Front::Nobody | Front::NobodyFar)).collect()
}

/// Those whose latency is compared while nothing else happens.
fn alone(rungs: &[Rung]) -> Vec<Rung> {
    rungs.iter().copied().filter(|rung| rung.front != Front::Floor).collect()
}

fn render_file(file: &Path) -> Result<(), Failure> {
    let mut record: Record = record::read(file)?;
    record.targets = target::all(&record);
    record::write(file, &record)?;
    record::publish(file, &render::page(&record))?;
    eprintln!("{}", crate::target::summary(&record.targets));
    Ok(())
}
