//! `corelane-bench load`: calls a tool over many connections, in a closed or an open loop, and reports what it cost.
//!
//! It does not start the server (`ladder` does). One thread per table of direct descriptors, all pinned to one CPU.
//!
//! Invariant: in an open loop a call's latency runs from the moment at which it was due, whether or not a connection
//! was free then, so a stalled server cannot hide the calls that it delayed.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    Failure, drive,
    hlog::{self, Entry},
    message::{Payload, Script, Wire},
    observe::{self, Environment, Spent},
    sys,
    tally::{Percentiles, Report, ServerCost, Tally},
};

/// Where to, how many, and on which CPU: shared by every subcommand that is a client.
#[derive(Clone, Debug, clap::Args)]
pub struct Aim {
    /// Address of the server.
    #[arg(long)]
    pub target: SocketAddr,
    /// How messages travel.
    #[arg(long, value_enum)]
    pub wire: Wire,
    /// Allow this one address although it is not loopback (a network namespace of this machine).
    #[arg(long)]
    pub allow_namespace: Option<std::net::IpAddr>,
    /// Open each ndjson connection with `initialize` (http-legacy always does).
    #[arg(long)]
    pub handshake: bool,
    /// Say the header of a session in so many bytes instead of opening one (http-legacy: the floor gives none).
    #[arg(long)]
    pub session_bytes: Option<usize>,
    /// CPU to pin the generator to.
    #[arg(long, default_value_t = 1)]
    pub cpu: usize,
    /// Connections per ring at most; as many as the limit of open files allows unless given.
    #[arg(long)]
    pub table: Option<usize>,
    /// Process whose CPU time and memory are reported.
    #[arg(long)]
    pub server_pid: Option<u32>,
    #[command(flatten)]
    pub payload: Payload,
}

impl Aim {
    /// How many connections one ring may hold.
    pub fn table(&self) -> Result<usize, Failure> {
        let limit = usize::try_from(sys::raise_nofile()?)?;
        Ok(self.table.unwrap_or(limit).clamp(1, limit))
    }

    /// Refuses targets that belong to somebody else, and makes the script.
    pub fn script(&self) -> Result<Script, Failure> {
        let ip = self.target.ip();
        if !ip.is_loopback() && self.allow_namespace != Some(ip) {
            return Err(format!(
                "{ip} is not loopback: this generator can bring a server down; \
                 name the address with --allow-namespace {ip} if it is yours"
            )
            .into());
        }
        let script = Script::new(self.wire, self.handshake, self.target, &self.payload)?;
        match self.session_bytes {
            None => Ok(script),
            Some(bytes) if self.wire == Wire::HttpLegacy => Ok(script.in_session(bytes)?),
            Some(_) => Err("--session-bytes: only the http-legacy wire has sessions".into()),
        }
    }
}

/// `corelane-bench load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    #[command(flatten)]
    pub aim: Aim,
    /// Connections, all opened before the warm-up.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Calls in flight per connection (more than one: ndjson only).
    #[arg(long, default_value_t = 1)]
    pub depth: usize,
    /// Open loop: calls due per second. Closed loop without it.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Open loop: exponential gaps instead of equal ones.
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// Call in the sessions that other connections have set up (http-legacy): what crosses the server's cores.
    #[arg(long)]
    pub swap_sessions: bool,
    /// Seconds before the measured window.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds of the measured window.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Do not check ids and results (for the floor, which echoes none).
    #[arg(long)]
    pub unverified: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the histograms behind the percentiles go, as an HDR log; nowhere unless given.
    #[arg(long)]
    pub hlog: Option<PathBuf>,
    /// Print the bytes of one call and of message M, and do nothing else.
    #[arg(long)]
    pub print_sizes: bool,
}

/// How long connecting and shaking hands may take.
pub const SETUP: Duration = Duration::from_secs(120);

/// Cuts `total` connections into tables.
pub fn tables(total: usize, table: usize) -> Vec<std::ops::Range<usize>> {
    let count = total.div_ceil(table.max(1)).max(1);
    (0..count).map(|index| total * index / count..total * (index + 1) / count).collect()
}

impl Load {
    /// Runs and prints the report as JSON.
    pub fn run(&self) -> Result<(), Failure> {
        if self.print_sizes {
            let script = self.aim.script()?;
            println!(
                "{}",
                serde_json::json!({"request_bytes": script.call_bytes(), "payload_bytes": self.aim.payload.payload})
            );
            return Ok(());
        }
        let environment = Environment::now();
        let report = self.measure()?;
        if let Some(file) = &self.hlog {
            hlog::write(file, Duration::from_secs(environment.unix_time), &report.histograms)?;
        }
        environment.print_with(&report)
    }

    /// Runs and gives the report.
    pub fn measure(&self) -> Result<Report, Failure> {
        let script = Arc::new(self.aim.script()?);
        if self.depth == 0 || (self.depth > 1 && self.aim.wire != Wire::Ndjson) {
            return Err(format!("--depth {}: at least 1, and more than 1 on the ndjson wire only", self.depth).into());
        }
        if self.swap_sessions && self.aim.wire != Wire::HttpLegacy {
            return Err(
                "--swap-sessions: only the http-legacy wire has sessions that another connection may use".into()
            );
        }
        if self.connections == 0 || self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return Err("--connections and --rate must be above zero".into());
        }
        let table = self.aim.table()?;
        sys::pin(self.aim.cpu)?;
        let cuts = tables(self.connections, table);
        let threads = cuts.len();
        let ready = Arc::new(Barrier::new(threads + 1));
        let begin_ns = Arc::new(AtomicU64::new(0));
        let workers: Vec<_> = cuts
            .into_iter()
            .map(|range| {
                let plan = drive::Plan {
                    target: self.aim.target,
                    first: range.start,
                    count: range.len(),
                    depth: self.depth,
                    rate: self.rate.map(|rate| rate * range.len() as f64 / self.connections as f64),
                    poisson: self.poisson,
                    swap_sessions: self.swap_sessions,
                    verify: !self.unverified,
                    seed: self.seed.wrapping_add(range.start as u64),
                    warmup_ns: (self.warmup * 1e9) as u64,
                    window_ns: (self.seconds * 1e9) as u64,
                };
                let (script, ready, begin_ns, cpu) = (script.clone(), ready.clone(), begin_ns.clone(), self.aim.cpu);
                thread::spawn(move || -> Result<Tally, String> {
                    let set_up = sys::pin(cpu)
                        .map_err(|error| error.to_string())
                        .and_then(|()| drive::Driver::new(plan, &script));
                    let set_up = set_up.and_then(|mut driver| driver.set_up(SETUP).map(|()| driver));
                    // Also after a failure, or the others would wait for ever.
                    ready.wait();
                    ready.wait();
                    set_up?.run(begin_ns.load(Ordering::Relaxed))
                })
            })
            .collect();

        ready.wait();
        let rss_before_bytes = self.aim.server_pid.and_then(observe::rss_bytes);
        let (begin, begun) = (sys::now_ns(), hlog::now() + Duration::from_secs_f64(self.warmup));
        begin_ns.store(begin, Ordering::Relaxed);
        ready.wait();
        let window = self.window(begin);
        let mut tally = Tally::new();
        for worker in workers {
            tally.add(worker.join().map_err(|_| "a generator thread panicked")??);
        }
        let rss_after_bytes = self.aim.server_pid.and_then(observe::rss_bytes);
        let calls = tally.latency.len();
        let ended = tally.ended;
        let ended_per_second = ended as f64 / self.seconds;
        let server = window.server.zip(self.aim.server_pid).map(|(threads, pid)| {
            let cpu_ns = threads.iter().map(|spent| spent.ran).sum::<u64>() as f64;
            let share = |spent: &Spent| (spent.ran + spent.waited) as f64 / 1e9 / window.seconds;
            let busiest = |place: usize| threads.get(place).map(share);
            ServerCost {
                pid,
                cpu_seconds: cpu_ns / 1e9,
                window_seconds: window.seconds,
                // Both as rates, because the two windows begin some microseconds apart.
                cpu_us_per_call: (ended > 0).then(|| cpu_ns / 1e3 / window.seconds / ended_per_second),
                busiest_threads: busiest(0).zip(busiest(1)).map(|(first, second)| [first, second]),
                rss_before_bytes,
                rss_after_bytes,
            }
        });
        let length = Duration::from_secs_f64(self.seconds);
        let kept = [("latency", &tally.latency), ("lag", &tally.lag)];
        let histograms = kept.into_iter().filter_map(|(tag, of)| Entry::of(tag, begun, length, of)).collect();
        Ok(Report {
            target: self.aim.target.to_string(),
            wire: self.aim.wire.name().into(),
            loop_kind: match (self.rate, self.poisson) {
                (None, _) => "closed".into(),
                (_, false) => "open, constant".into(),
                (_, true) => "open, poisson".into(),
            },
            connections: self.connections,
            connections_ready: tally.ready,
            connections_lost: tally.lost,
            depth: self.depth,
            verified: !self.unverified,
            rate_asked: self.rate,
            request_bytes: script.call_bytes() + tally.session_bytes,
            session_bytes: tally.session_bytes,
            response_bytes: (ended > 0).then(|| tally.bytes_received as f64 / ended as f64),
            warmup_seconds: self.warmup,
            seconds: self.seconds,
            offered: self.rate.map(|_| tally.offered),
            calls,
            ended_in_window: ended,
            calls_per_second: tally.succeeded as f64 / self.seconds,
            latency_us: Percentiles::of(&tally.latency),
            send_lag_us: Percentiles::of(&tally.lag),
            errors: tally.errors,
            server,
            generator_cpu_share: window.generator as f64 / 1e9 / window.seconds,
            delayed_acks: window.delayed_acks,
            histograms,
        })
    }

    /// Sleeps through the warm-up and the window; takes the CPU times at both ends of the window.
    fn window(&self, begin: u64) -> Window {
        let until = |ns: u64| thread::sleep(Duration::from_nanos(ns.saturating_sub(sys::now_ns())));
        let times = || {
            let server = self.aim.server_pid.and_then(observe::threads);
            (sys::now_ns(), server, sys::own_cpu_ns(), observe::delayed_acks())
        };
        let first = begin + (self.warmup * 1e9) as u64;
        until(first);
        let before = times();
        until(first + (self.seconds * 1e9) as u64);
        let after = times();
        Window {
            seconds: (after.0 - before.0) as f64 / 1e9,
            server: after.1.zip(before.1).map(|(after, before)| {
                let grown = |(thread, after): (u32, Spent)| {
                    let before = before.get(&thread).copied().unwrap_or(Spent { ran: 0, waited: 0 });
                    let (ran, waited) =
                        (after.ran.saturating_sub(before.ran), after.waited.saturating_sub(before.waited));
                    Spent { ran, waited }
                };
                let mut threads: Vec<Spent> = after.into_iter().map(grown).collect();
                threads.sort_unstable_by_key(|spent| std::cmp::Reverse(spent.ran));
                threads
            }),
            generator: after.2.saturating_sub(before.2),
            delayed_acks: after.3.zip(before.3).map(|(after, before)| after.saturating_sub(before)),
        }
    }
}

struct Window {
    seconds: f64,
    /// What each of the server's threads did, the one that ran longest first.
    server: Option<Vec<Spent>>,
    generator: u64,
    delayed_acks: Option<u64>,
}
