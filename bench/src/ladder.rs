//! `corelane-bench ladder`: the floor, corelane and rmcp under the same load, in one run, round after round.
//!
//! It judges nothing while it measures: it writes every round to JSON; `target` judges and `render` makes the table
//! from that file alone, so both can be made again by anyone who has the rounds. Speed is measured here, memory and
//! idleness in `rest`.
//!
//! Invariant: each round starts a fresh server and a fresh generator, pinned to different CPUs, and all rungs of a
//! scenario run once before any runs again, every other time in reverse order, so what drifts on the machine falls on
//! all alike.

mod render;
mod rest;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure, judge,
    message::{Payload, Script, Wire},
    observe::Environment,
    record,
    rounds::{self, Round, Scenario, Terms},
    server::{Program, Running, Sizes},
    tally::Report,
    target::Target,
};
use rest::{EmptyRound, IdleRound};

/// `corelane-bench ladder`.
#[derive(clap::Args)]
pub struct Ladder {
    #[command(flatten)]
    terms: Terms,
    /// The corelane binary; its rungs are left out without it.
    #[arg(long)]
    corelane: Option<PathBuf>,
    /// How it is started; {http}, {tcp} and {cpu} are filled in.
    #[arg(long, allow_hyphen_values = true, default_value = "serve --listen {http} --tcp {tcp} --cores {cpu}-{cpu}")]
    corelane_args: String,
    /// The rmcp-echo binary; its rungs are left out without it.
    #[arg(long)]
    rmcp: Option<PathBuf>,
    /// Connection counts of the closed-loop scenarios.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1000, 8000])]
    connections: Vec<usize>,
    /// Calls in flight per connection in the pipelined scenario; 1 leaves it out.
    #[arg(long, default_value_t = 16)]
    depth: usize,
    /// Shares of the measured capacity for the open-loop scenarios.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 0.4])]
    shares: Vec<f64>,
    /// Idle connections per server, each of which has made one call; 0 leaves their memory out.
    #[arg(long, default_value_t = 8000)]
    idle: usize,
    /// Executors of corelane servers without any connection; empty leaves them out.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4, 5, 6])]
    executors: Vec<usize>,
    /// How such a server is started; {http} and {executors} are filled in.
    #[arg(long, allow_hyphen_values = true, default_value = "serve --listen {http} --cores {executors}")]
    empty_args: String,
    /// Seconds for which the one with two executors is watched.
    #[arg(long, default_value_t = 10.0)]
    empty_seconds: f64,
    /// Run only these rungs (names as in the table).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Bytes of the floor's ndjson answer; as corelane's, once it could be asked.
    #[arg(long, default_value_t = 175)]
    ndjson_reply_bytes: usize,
    /// Bytes of the floor's HTTP answer; as corelane's, else rmcp's, once one could be asked.
    #[arg(long, default_value_t = 302)]
    http_reply_bytes: usize,
    /// Bytes of the floor's HTTP answer in a session, and of the session's header line in the request; as corelane's,
    /// once one could be asked.
    #[arg(long, default_value_t = 274)]
    legacy_reply_bytes: usize,
    #[arg(long, default_value_t = 60)]
    session_bytes: usize,
    /// Where ladder.json and ladder.md go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
    #[command(flatten)]
    payload: Payload,
}

/// One kind of server under one wire.
#[derive(Clone, Copy)]
struct Rung {
    name: &'static str,
    what: &'static str,
    program: Program,
    wire: Wire,
    /// Also run with many calls in flight per connection.
    pipelined: bool,
    /// Also run in open loops.
    paced: bool,
}

impl Rung {
    /// The rung whose capacity sets the rate of an open loop. What is compared must run at one rate: at part load the
    /// CPU per call depends on it, because a server that sleeps more often pays for more wake-ups.
    fn pace(self) -> &'static str {
        if self.wire == Wire::Ndjson { "b" } else { "c" }
    }

    /// Legacy lines open with a handshake.
    fn handshake(self) -> Option<String> {
        (self.program == Program::CorelaneTcp).then(|| "--handshake".into())
    }

    /// The floor has nobody to shake hands with: it is called in sessions that it never gave.
    fn sessions_unasked(self) -> bool {
        self.program.is_floor() && self.wire == Wire::HttpLegacy
    }

    /// Seconds in which it answers as many calls on each connection as a comparison takes, and half as many again: its
    /// calls cost several times as much as the others'.
    fn seconds_for_laps(self, scenario: &Scenario) -> f64 {
        const CALL_SECONDS_MAX: f64 = 100e-6;
        let is_slow = matches!(self.program, Program::RmcpJson | Program::RmcpStateful);
        let laps = if is_slow { judge::LAPS_MIN as f64 * 1.5 } else { 0.0 };
        laps * scenario.connections as f64 * CALL_SECONDS_MAX
    }
}

const RUNGS: [Rung; 9] = [
    rung("a-ndjson", "floor, lines", Program::FloorLines, Wire::Ndjson, true, true),
    rung("a-http", "floor, HTTP", Program::FloorHttp, Wire::HttpModern, false, true),
    rung("a-http-legacy", "floor, HTTP with a session header", Program::FloorHttp, Wire::HttpLegacy, false, false),
    rung("b", "corelane, lines over TCP", Program::CorelaneTcp, Wire::Ndjson, true, true),
    rung("c", "corelane, HTTP 2026-07-28", Program::CorelaneHttp, Wire::HttpModern, false, true),
    rung("d", "corelane, HTTP 2025-11-25, a session each", Program::CorelaneHttp, Wire::HttpLegacy, false, false),
    rung("e1", "rmcp, stateless JSON, 2026-07-28", Program::RmcpJson, Wire::HttpModern, false, false),
    rung("e1-legacy", "rmcp, stateless JSON, 2025-11-25", Program::RmcpJson, Wire::HttpLegacy, false, false),
    rung("e2", "rmcp, a session each, 2025-11-25", Program::RmcpStateful, Wire::HttpLegacy, false, false),
];

const fn rung(
    name: &'static str,
    what: &'static str,
    program: Program,
    wire: Wire,
    pipelined: bool,
    paced: bool,
) -> Rung {
    Rung { name, what, program, wire, pipelined, paced }
}

/// What is compared: the first against the second.
const COMPARISONS: [(&str, &str); 6] =
    [("b", "a-ndjson"), ("c", "a-http"), ("d", "a-http-legacy"), ("c", "e1"), ("d", "e2"), ("e1", "a-http")];

/// All that a ladder leaves behind; the table needs nothing else.
#[derive(Serialize, Deserialize)]
struct Record {
    environment: Environment,
    rounds_asked: usize,
    seconds: f64,
    server_cpu: usize,
    load_cpu: usize,
    floor_ndjson_reply_bytes: usize,
    floor_http_reply_bytes: usize,
    #[serde(default)]
    floor_legacy_reply_bytes: usize,
    #[serde(default)]
    floor_session_bytes: usize,
    rungs: Vec<(String, String)>,
    comparisons: Vec<(String, String)>,
    rounds: Vec<Round>,
    #[serde(default)]
    idle: Vec<IdleRound>,
    #[serde(default)]
    empty: Vec<EmptyRound>,
    /// Judged from all the above.
    #[serde(default)]
    targets: Vec<Target>,
}

impl Record {
    /// Calls per second that one CPU could serve, from the closed loop with one call in flight.
    fn capacity(&self, rung: &str, connections: usize) -> Option<f64> {
        let costs = rounds::figures(&self.rounds, &Scenario::closed(connections), rung, judge::cpu);
        judge::median(&judge::values(&costs)).map(|cost| 1e6 / cost)
    }

    /// Calls per second that an open loop asks of a rung; the closed loops must have come first. Without corelane's
    /// capacity its own has to do.
    fn rate(&self, rung: &Rung, scenario: &Scenario) -> Option<f64> {
        let capacity = |name: &str| self.capacity(name, scenario.connections);
        Some(scenario.share? * capacity(rung.pace()).or_else(|| capacity(rung.name))?)
    }
}

impl Ladder {
    /// Runs, writes both files, prints the table.
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
            floor_ndjson_reply_bytes: self.ndjson_reply_bytes,
            floor_http_reply_bytes: self.http_reply_bytes,
            floor_legacy_reply_bytes: self.legacy_reply_bytes,
            floor_session_bytes: self.session_bytes,
            rungs: Vec::new(),
            comparisons: COMPARISONS.map(|(this, that)| (this.into(), that.into())).into(),
            rounds: Vec::new(),
            idle: Vec::new(),
            empty: Vec::new(),
            targets: Vec::new(),
        };
        let rungs = self.healthy(&mut record)?;
        record.rungs = rungs.iter().map(|rung| (rung.name.into(), rung.what.into())).collect();
        eprintln!("the ladder takes about {:.0} minutes", (self.seconds_of(&rungs) / 60.0).ceil());
        for &connections in &self.connections {
            self.interleave(&mut record, &rungs, &Scenario::closed(connections))?;
        }
        let few = self.connections.first().copied().unwrap_or(64);
        if self.depth > 1 {
            let rungs: Vec<_> = rungs.iter().copied().filter(|rung| rung.pipelined).collect();
            self.interleave(&mut record, &rungs, &Scenario { depth: self.depth, ..Scenario::closed(few) })?;
        }
        let paced: Vec<_> = rungs.iter().copied().filter(|rung| rung.paced).collect();
        for &share in &self.shares {
            self.interleave(&mut record, &paced, &Scenario { share: Some(share), ..Scenario::closed(few) })?;
        }
        self.rest(&mut record, &rungs)?;
        self.keep(&record)?;
        render_file(&self.file())
    }

    fn file(&self) -> PathBuf {
        self.output.join("ladder.json")
    }

    /// What has been measured survives whatever comes next.
    fn keep(&self, record: &Record) -> Result<(), Failure> {
        record::keep(&self.file(), record, &record.environment, rounds::named(&record.rounds))
    }

    /// About how long a run takes.
    fn seconds_of(&self, rungs: &[Rung]) -> f64 {
        // Starting and ending a server takes about half a second, opening eight thousand connections up to one more.
        let run = |seconds: f64| self.terms.warmup + seconds + 1.0;
        let count = |chosen: fn(&Rung) -> bool| rungs.iter().filter(|rung| chosen(rung)).count();
        let scenarios = self.connections.iter().map(|&connections| Scenario::closed(connections));
        let closed: f64 =
            scenarios.flat_map(|scenario| rungs.iter().map(move |rung| run(self.window(rung, &scenario)))).sum();
        let deep = usize::from(self.depth > 1) * count(|rung| rung.pipelined);
        let open = self.shares.len() * count(|rung| rung.paced);
        self.terms.rounds as f64 * (closed + (deep + open) as f64 * run(self.terms.seconds)) + self.rest_seconds(rungs)
    }

    /// Seconds of the measured window.
    fn window(&self, rung: &Rung, scenario: &Scenario) -> f64 {
        self.terms.seconds.max(rung.seconds_for_laps(scenario))
    }

    /// The rungs whose server answers one call rightly; learns the size of the answers for the floor.
    fn healthy(&self, record: &mut Record) -> Result<Vec<Rung>, Failure> {
        let asked = |rung: &&Rung| {
            (self.only.is_empty() || self.only.iter().any(|name| name == rung.name))
                && self.binary(rung.program).is_some()
        };
        let (mut healthy, mut sizes) = (Vec::new(), Vec::new());
        let probe = Scenario::closed(1);
        for rung in RUNGS.iter().filter(asked) {
            if !rung.program.is_floor() {
                let report = self
                    .once(record, rung, &probe, (0.0, 0.2), None)
                    .map_err(|error| format!("rung {} ({}) does not work: {error}", rung.name, rung.what))?;
                if report.calls == 0 || !report.errors.is_empty() {
                    return Err(
                        format!("rung {}: {} calls, errors {:?}", rung.name, report.calls, report.errors).into()
                    );
                }
                sizes.push((rung.name, report.response_bytes.unwrap_or(0.0).round() as usize));
                if rung.name == "d" {
                    record.floor_session_bytes = report.session_bytes;
                }
            }
            healthy.push(*rung);
        }
        let size =
            |names: &[&str]| names.iter().find_map(|name| sizes.iter().find(|(of, _)| of == name)).map(|found| found.1);
        record.floor_ndjson_reply_bytes = size(&["b"]).unwrap_or(self.ndjson_reply_bytes);
        record.floor_http_reply_bytes = size(&["c", "e1"]).unwrap_or(self.http_reply_bytes);
        record.floor_legacy_reply_bytes = size(&["d"]).unwrap_or(self.legacy_reply_bytes);
        if healthy.is_empty() { Err("no rung is left to run".into()) } else { Ok(healthy) }
    }

    fn interleave(&self, record: &mut Record, rungs: &[Rung], scenario: &Scenario) -> Result<(), Failure> {
        let rates: Vec<_> = rungs.iter().map(|rung| record.rate(rung, scenario)).collect();
        for round in 0..self.terms.rounds {
            for index in rounds::order(rungs.len(), round) {
                let (rung, rate) = (&rungs[index], rates[index]);
                let ran = if scenario.share.is_some() && rate.is_none() {
                    Err("no capacity was measured".into())
                } else {
                    self.once(record, rung, scenario, (self.terms.warmup, self.window(rung, scenario)), rate)
                };
                record.rounds.push(Round::ran(scenario, rung.name, round, ran));
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// One server, one load, one report.
    fn once(
        &self,
        record: &Record,
        rung: &Rung,
        scenario: &Scenario,
        (warmup, seconds): (f64, f64),
        rate: Option<f64>,
    ) -> Result<Report, Failure> {
        let running = self.started(record, rung)?;
        let mut more = Vec::new();
        let mut say = |option: &str, value: String| more.extend([format!("--{option}"), value]);
        say("connections", scenario.connections.to_string());
        say("depth", scenario.depth.to_string());
        say("warmup", warmup.to_string());
        say("seconds", seconds.to_string());
        if let Some(rate) = rate {
            say("rate", rate.to_string());
            more.push("--poisson".into());
        }
        if rung.program.is_floor() {
            more.push("--unverified".into());
        }
        if rung.sessions_unasked() {
            more.extend(["--session-bytes".into(), record.floor_session_bytes.to_string()]);
        }
        more.extend(rung.handshake());
        running.loaded(rung.wire, self.terms.load_cpu, &self.payload, &more)
    }

    /// The server of a rung, on its CPU.
    fn started(&self, record: &Record, rung: &Rung) -> Result<Running, Failure> {
        let any = ([127, 0, 0, 1], 0).into();
        let http_reply = match rung.wire {
            Wire::HttpLegacy => record.floor_legacy_reply_bytes,
            _ => record.floor_http_reply_bytes,
        };
        let sizes = Sizes { ndjson_reply: record.floor_ndjson_reply_bytes, http_reply, http_request: 0 };
        let binary = self.binary(rung.program).ok_or("no binary was given for this rung")?;
        // The Host header names the port, so the size of a request depends on it.
        let sizing = |target| {
            let script = Script::new(rung.wire, false, target, &self.payload)?;
            let script = if rung.sessions_unasked() { script.in_session(record.floor_session_bytes)? } else { script };
            Ok::<_, String>(script.call_bytes())
        };
        sizing(any)?;
        Running::rung(rung.program, &binary, &self.corelane_args, self.terms.server_cpu, |target| {
            Ok(Sizes { http_request: sizing(target)?, ..sizes })
        })
    }

    fn binary(&self, program: Program) -> Option<PathBuf> {
        match program {
            Program::FloorLines | Program::FloorHttp => std::env::current_exe().ok(),
            Program::CorelaneTcp | Program::CorelaneHttp => self.corelane.clone(),
            Program::RmcpJson | Program::RmcpStateful => self.rmcp.clone(),
        }
    }
}

fn render_file(file: &Path) -> Result<(), Failure> {
    let mut record: Record = record::read(file)?;
    record.targets = target::all(&record);
    record::write(file, &record)?;
    record::publish(file, &render::page(&record))?;
    eprintln!("{}", crate::target::summary(&record.targets));
    Ok(())
}
