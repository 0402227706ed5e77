//! `corelane-bench ladder`: the floor, corelane and rmcp under the same load, in one run, round after round.
//!
//! It judges nothing while it measures: it writes every round to JSON, and `render` makes the table from that file
//! alone, so a table can be made again by anyone who has the rounds.
//!
//! Invariant: each round starts a fresh server and a fresh generator, pinned to different CPUs, and all rungs of a
//! scenario run once before any runs again, every other time in reverse order, so what drifts on the machine falls on
//! all alike.

mod judge;
mod render;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    message::{Payload, Script, Wire},
    observe::Environment,
    tally::Report,
};
use server::{Program, Running};

/// `corelane-bench ladder`.
#[derive(clap::Args)]
pub struct Ladder {
    /// The corelane binary; its rungs are left out without it.
    #[arg(long)]
    corelane: Option<PathBuf>,
    /// How it is started; {http}, {tcp} and {cpu} are filled in.
    #[arg(long, allow_hyphen_values = true, default_value = "serve --listen {http} --tcp {tcp} --cores {cpu}-{cpu}")]
    corelane_args: String,
    /// The rmcp-echo binary; its rungs are left out without it.
    #[arg(long)]
    rmcp: Option<PathBuf>,
    /// Rounds: pairs for each comparison. Fewer than five leave everything undecided.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round's window.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of warm-up before each.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Connection counts of the closed-loop scenarios.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1000, 8000])]
    connections: Vec<usize>,
    /// Calls in flight per connection in the pipelined scenario; 1 leaves it out.
    #[arg(long, default_value_t = 16)]
    depth: usize,
    /// Shares of the measured capacity for the open-loop scenarios.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 0.4])]
    shares: Vec<f64>,
    /// Run only these rungs (names as in the table).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the generator.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Bytes of the floor's ndjson answer; as corelane's, once it could be asked.
    #[arg(long, default_value_t = 175)]
    ndjson_reply_bytes: usize,
    /// Bytes of the floor's HTTP answer; as corelane's, else rmcp's, once one could be asked.
    #[arg(long, default_value_t = 302)]
    http_reply_bytes: usize,
    /// Where ladder.json and ladder.md go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
    /// Make the table of this JSON file again, beside it, and run nothing.
    #[arg(long)]
    render: Option<PathBuf>,
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

const RUNGS: [Rung; 8] = [
    rung("a-ndjson", "floor, lines", Program::FloorLines, Wire::Ndjson, true, true),
    rung("a-http", "floor, HTTP", Program::FloorHttp, Wire::HttpModern, false, true),
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
    [("b", "a-ndjson"), ("c", "a-http"), ("d", "a-http"), ("c", "e1"), ("d", "e2"), ("e1", "a-http")];

/// One load under which rungs are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scenario {
    connections: usize,
    depth: usize,
    /// Open loop at this share of the capacity measured before; closed loop without.
    share: Option<f64>,
}

impl Scenario {
    fn title(&self) -> String {
        let connections = self.connections;
        match (self.share, self.depth) {
            (None, 1) => format!("{connections} connections, one call in flight on each"),
            (None, depth) => format!("{connections} connections, {depth} calls in flight on each"),
            (Some(share), _) => {
                format!("{connections} connections, open loop at {:.0} % of capacity", share * 100.0)
            }
        }
    }
}

/// One run of one rung.
#[derive(Clone, Serialize, Deserialize)]
struct Round {
    scenario: Scenario,
    rung: String,
    round: usize,
    report: Option<Report>,
    failure: Option<String>,
}

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
    rungs: Vec<(String, String)>,
    comparisons: Vec<(String, String)>,
    rounds: Vec<Round>,
}

impl Ladder {
    /// Runs, writes both files, prints the table.
    pub fn run(&self) -> Result<(), Failure> {
        if let Some(file) = &self.render {
            return render_file(file);
        }
        if self.rounds == 0 || self.server_cpu == self.load_cpu {
            return Err("at least one round, and two different CPUs, are needed".into());
        }
        fs::create_dir_all(&self.output)?;
        let mut record = Record {
            environment: Environment::now(),
            rounds_asked: self.rounds,
            seconds: self.seconds,
            server_cpu: self.server_cpu,
            load_cpu: self.load_cpu,
            floor_ndjson_reply_bytes: self.ndjson_reply_bytes,
            floor_http_reply_bytes: self.http_reply_bytes,
            rungs: Vec::new(),
            comparisons: COMPARISONS.map(|(this, that)| (this.into(), that.into())).into(),
            rounds: Vec::new(),
        };
        let rungs = self.healthy(&mut record)?;
        record.rungs = rungs.iter().map(|rung| (rung.name.into(), rung.what.into())).collect();
        for &connections in &self.connections {
            self.interleave(&mut record, &rungs, &Scenario { connections, depth: 1, share: None })?;
        }
        let few = self.connections.first().copied().unwrap_or(64);
        if self.depth > 1 {
            let rungs: Vec<_> = rungs.iter().copied().filter(|rung| rung.pipelined).collect();
            self.interleave(&mut record, &rungs, &Scenario { connections: few, depth: self.depth, share: None })?;
        }
        let rungs: Vec<_> = rungs.iter().copied().filter(|rung| rung.paced).collect();
        for &share in &self.shares {
            self.interleave(&mut record, &rungs, &Scenario { connections: few, depth: 1, share: Some(share) })?;
        }
        let file = self.output.join("ladder.json");
        write(&file, &record)?;
        render_file(&file)
    }

    /// The rungs whose server answers one call rightly; learns the size of the answers for the floor.
    fn healthy(&self, record: &mut Record) -> Result<Vec<Rung>, Failure> {
        let asked = |rung: &&Rung| {
            (self.only.is_empty() || self.only.iter().any(|name| name == rung.name))
                && self.binary(rung.program).is_some()
        };
        let (mut healthy, mut sizes) = (Vec::new(), Vec::new());
        let probe = Scenario { connections: 1, depth: 1, share: None };
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
            }
            healthy.push(*rung);
        }
        let size =
            |names: &[&str]| names.iter().find_map(|name| sizes.iter().find(|(of, _)| of == name)).map(|found| found.1);
        record.floor_ndjson_reply_bytes = size(&["b"]).unwrap_or(self.ndjson_reply_bytes);
        record.floor_http_reply_bytes = size(&["c", "e1"]).unwrap_or(self.http_reply_bytes);
        if healthy.is_empty() { Err("no rung is left to run".into()) } else { Ok(healthy) }
    }

    fn interleave(&self, record: &mut Record, rungs: &[Rung], scenario: &Scenario) -> Result<(), Failure> {
        // An open loop needs the capacity, so a closed one of the same rung must have come first.
        let rates: Vec<_> = rungs
            .iter()
            .map(|rung| Some(scenario.share? * judge::capacity(&record.rounds, rung.name, scenario.connections)?))
            .collect();
        for round in 0..self.rounds {
            let mut order: Vec<usize> = (0..rungs.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let (rung, rate) = (&rungs[index], rates[index]);
                let ran = if scenario.share.is_some() && rate.is_none() {
                    Err("no capacity was measured".into())
                } else {
                    self.once(record, rung, scenario, (self.warmup, self.seconds), rate)
                };
                let (report, failure) = match ran {
                    Ok(report) => (Some(report), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                eprintln!("{}: {} round {}: {}", scenario.title(), rung.name, round + 1, told(&report, &failure));
                record.rounds.push(Round {
                    scenario: scenario.clone(),
                    rung: rung.name.into(),
                    round,
                    report,
                    failure,
                });
            }
            // What has been measured survives whatever comes next.
            write(&self.output.join("ladder.json"), record)?;
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
        let any = ([127, 0, 0, 1], 0).into();
        let sizes = server::Sizes {
            ndjson_reply: record.floor_ndjson_reply_bytes,
            http_reply: record.floor_http_reply_bytes,
            http_request: 0,
        };
        let binary = self.binary(rung.program).ok_or("no binary was given for this rung")?;
        // The Host header names the port, so the size of a request depends on it.
        let sizing = |target| Script::new(rung.wire, false, target, &self.payload).map(|script| script.call_bytes());
        sizing(any)?;
        let running = Running::start(rung.program, &binary, &self.corelane_args, self.server_cpu, |target| {
            Ok(server::Sizes { http_request: sizing(target)?, ..sizes })
        })?;
        let mut load = Command::new(std::env::current_exe()?);
        load.arg("load").args(["--target", &running.target.to_string(), "--wire", rung.wire.name()]);
        load.args(["--connections", &scenario.connections.to_string(), "--depth", &scenario.depth.to_string()]);
        load.args(["--warmup", &warmup.to_string(), "--seconds", &seconds.to_string()]);
        load.args(["--cpu", &self.load_cpu.to_string(), "--server-pid", &running.pid().to_string()]);
        load.args(["--payload", &self.payload.payload.to_string(), "--tool", &self.payload.tool]);
        load.args(["--arguments", &self.payload.arguments, "--path", &self.payload.path]);
        if let Some(rate) = rate {
            load.args(["--poisson", "--rate", &rate.to_string()]);
        }
        if rung.program.is_floor() {
            load.arg("--unverified");
        }
        if rung.program == Program::CorelaneTcp {
            // Legacy lines open with a handshake; the floor has nobody to shake hands with.
            load.arg("--handshake");
        }
        let done = load.stdin(Stdio::null()).output()?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).trim().to_string();
            return Err(format!("{why} {}", running.last_words()).into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    fn binary(&self, program: Program) -> Option<PathBuf> {
        match program {
            Program::FloorLines | Program::FloorHttp => std::env::current_exe().ok(),
            Program::CorelaneTcp | Program::CorelaneHttp => self.corelane.clone(),
            Program::RmcpJson | Program::RmcpStateful => self.rmcp.clone(),
        }
    }
}

fn told(report: &Option<Report>, failure: &Option<String>) -> String {
    match (report, failure) {
        (Some(report), _) => {
            let cpu = report.server.and_then(|server| server.cpu_us_per_call);
            let cpu = cpu.map_or("no CPU figure".into(), |cpu| format!("{cpu:.2} us CPU per call"));
            format!("{:.0} calls/s, {cpu}, errors {:?}", report.calls_per_second, report.errors)
        }
        (_, failure) => failure.clone().unwrap_or_default(),
    }
}

fn write(file: &Path, record: &Record) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(record)?;
    text.push('\n');
    Ok(fs::write(file, text)?)
}

fn render_file(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let record: Record = serde_json::from_str(&text)?;
    let table = render::table(&record);
    fs::write(file.with_extension("md"), &table)?;
    println!("{table}");
    Ok(())
}
