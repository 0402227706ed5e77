//! The health of a server, asked for in the process that serves: idle, and while its cores are flooded from outside.
//!
//! The original's control plane: a query of a thread beside the data plane, without a socket. What the same costs over
//! one is `corelane-bench nine-nines control-plane`.
//!
//! Not here: what health is (`corelane::OwnHealth`). Invariant: the flood lasts longer than the queries that are timed
//! in it; if it did not, there is no figure.

use std::hint::black_box;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelane::{CoreState, OwnHealth, ServeOptions, demonstration};
use serde::Deserialize;

use crate::Failure;
use crate::ranks::{Kept, Ranks};
use crate::stage::{Ground, Row, publish};

/// `health`: its options.
#[derive(clap::Args)]
pub struct Health {
    /// Cores of the server
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// How often its health is asked for, idle and again in the flood
    #[arg(long, default_value_t = 1000)]
    queries: u32,
    /// Time between two queries, in milliseconds
    #[arg(long, default_value_t = 5)]
    every_ms: u64,
    /// The generator that floods
    #[arg(long, default_value = "target/release/corelane-bench")]
    generator: PathBuf,
    /// The CPU that it is pinned to
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/nine_nines/control-plane_in_process.json")]
    output: PathBuf,
}

/// What the original asks of the query, in microseconds.
const MOST_US: f64 = 100.0;
/// Messages a second that are a flood, as the original has it.
const FLOOD_LEAST: f64 = 100e3;
/// Connections of the flood for each core, and calls in flight on each of them.
const CONNECTIONS: usize = 64;
const DEPTH: usize = 16;
/// The generator connects and warms up before the queries begin, and goes on for as long after they ended.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's configuration, which it watches for as long as it serves.
fn configuration() -> PathBuf {
    std::env::temp_dir().join(format!("registry-bench-health-{}.toml", std::process::id()))
}

/// What is read of the generator's report.
#[derive(Deserialize)]
struct Flood {
    calls_per_second: f64,
    errors: std::collections::BTreeMap<String, u64>,
}

/// Queries of one kind.
#[derive(Default)]
struct Asked {
    /// From the call to its return.
    took: Ranks,
    /// From the moment at which it was due: how late the thread got a CPU is in it.
    from_due: Ranks,
    /// Those whose answer was that not all cores serve.
    unready: u64,
}

impl Health {
    /// Runs both; true if every target was met.
    pub fn run(self) -> Result<bool, Failure> {
        if self.cores == 0 || self.queries == 0 || self.every_ms == 0 {
            return Err("--cores, --queries and --every-ms: above zero".into());
        }
        let ground = Ground::now();
        let (address, health) = self.serve()?;
        let idle = self.ask(&health);
        let mut flood = self.flood(address)?;
        std::thread::sleep(MARGIN);
        let flooded = self.ask(&health);
        if let Some(status) = flood.try_wait()? {
            return Err(format!("the flood ended before the queries did: {status}").into());
        }
        let output = flood.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("the generator: {}", output.status).into());
        }
        std::fs::remove_file(configuration())?;
        let flood: Flood = serde_json::from_slice(&output.stdout)?;
        let title = format!(
            "Health asked for in process: {} times idle, and as often while {} core(s) are flooded",
            self.queries, self.cores
        );
        let mut kept = Kept::default();
        for (when, asked) in [("idle", &idle), ("in a flood", &flooded)] {
            kept.keep(when, &asked.took);
            kept.keep(&format!("{when}, from when it was due"), &asked.from_due);
        }
        publish(ground, &title, rows(&idle, &flooded, &flood), &kept, &self.output)
    }

    /// A server that serves until the process ends: where its lines go, and its health.
    fn serve(&self) -> Result<(SocketAddr, OwnHealth), Failure> {
        // Nobody else takes it in between: ports are given out in turn.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = configuration();
        // A connection of the generator stands for many clients.
        std::fs::write(&file, "[limits]\nmessages_per_s = 0\n")?;
        let (hand, take) = std::sync::mpsc::channel();
        let options = ServeOptions::default()
            .listen("127.0.0.1:0")
            .tcp(address.to_string())
            .control("127.0.0.1:0")
            .cores(self.cores.to_string())
            .file(&file)
            .with_health(move |health| drop(hand.send(health)));
        // What `corelane serve` serves, and so what every other objective floods.
        let server = demonstration::server()?;
        std::thread::spawn(move || {
            if let Err(error) = server.serve(options) {
                eprintln!("registry-bench: {error}");
                std::process::exit(2);
            }
        });
        let health = take.recv()?;
        let late = Instant::now() + PATIENCE;
        while !health.report().ready {
            if Instant::now() > late {
                return Err(format!("not ready after {} s: {:?}", PATIENCE.as_secs(), health.report()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((address, health))
    }

    fn flood(&self, address: SocketAddr) -> Result<Child, Failure> {
        let seconds = (Duration::from_millis(self.every_ms) * self.queries + 2 * MARGIN).as_secs_f64();
        let start = |program: &Path| {
            Command::new(program)
                .args(["load", "--wire", "ndjson", "--handshake", "--warmup", "1", "--target", &address.to_string()])
                .args(["--connections", &(CONNECTIONS * self.cores).to_string(), "--depth", &DEPTH.to_string()])
                .args(["--seconds", &seconds.to_string(), "--cpu", &self.generator_cpu.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        };
        start(&self.generator).map_err(|error| format!("{}: {error}", self.generator.display()).into())
    }

    /// Asks so often, at fixed moments: whoever asks without a pause is done before a flooded core has had one turn.
    fn ask(&self, health: &OwnHealth) -> Asked {
        let (every, mut asked) = (Duration::from_millis(self.every_ms), Asked::default());
        let begun = Instant::now();
        for number in 1..=self.queries {
            let due = begun + every * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let before = Instant::now();
            let report = black_box(health.report());
            let after = Instant::now();
            asked.took.record((after - before).as_nanos() as u64);
            asked.from_due.record(after.saturating_duration_since(due).as_nanos() as u64);
            asked.unready += u64::from(!report.cores.iter().all(|core| *core == CoreState::Ready));
        }
        asked
    }
}

fn rows(idle: &Asked, flooded: &Asked, flood: &Flood) -> Vec<Row> {
    let failed = flood.errors.values().sum::<u64>() as f64;
    let mut rows = Vec::new();
    for (when, asked) in [("idle", idle), ("in a flood", flooded)] {
        rows.extend([
            Row::plain(format!("health in process, {when}: p50"), asked.took.us(0.5), "us"),
            Row::below(format!("health in process, {when}: p99"), asked.took.us(0.99), "us", MOST_US),
            Row::plain(format!("health in process, {when}: longest"), asked.took.us(1.0), "us"),
            Row::plain(
                format!("health in process, {when}: p99 from when it was due, the thread's waking up included"),
                asked.from_due.us(0.99),
                "us",
            ),
            Row::plain(
                format!("health in process, {when}: answers that not every core serves"),
                asked.unready as f64,
                "",
            ),
        ]);
    }
    rows.push(Row::at_least("the flood: messages", 2.0 * flood.calls_per_second, "/s", FLOOD_LEAST));
    rows.push(Row::below("the flood: calls that failed", failed, "", 1.0));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_query_and_a_flood_that_is_none_are_missed() {
        let (mut fast, mut slow) = (Asked::default(), Asked::default());
        (0..100).for_each(|_| fast.took.record(1_000));
        (0..98).for_each(|_| slow.took.record(1_000));
        (0..2).for_each(|_| slow.took.record(200_000));
        let flood = |calls_per_second| Flood { calls_per_second, errors: std::iter::empty().collect() };
        let missed = |rows: Vec<Row>| -> Vec<String> {
            rows.into_iter().filter(|row| row.met == Some(false)).map(|row| row.what).collect()
        };
        assert!(missed(rows(&fast, &fast, &flood(50e3))).is_empty());
        assert_eq!(missed(rows(&fast, &slow, &flood(50e3))), ["health in process, in a flood: p99"]);
        assert_eq!(missed(rows(&fast, &fast, &flood(49e3))), ["the flood: messages"]);
        let flood = Flood { calls_per_second: 1e6, errors: [("wrong_id".to_owned(), 3)].into() };
        assert_eq!(missed(rows(&fast, &fast, &flood)), ["the flood: calls that failed"]);
    }
}
