//! `corelane-bench sessions` and `idle`: very many connections, each with a session or none, held at once.
//!
//! It measures memory and survival, not speed: rates here are per second of the server's CPU. The work of each thread
//! is in `crowd`; this is the order of the phases and the report.
//!
//! Invariant: a phase begins only when every thread has finished the one before, so each figure belongs to one phase.

mod crowd;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Failure,
    hlog::{self, Entry},
    load::{Aim, SETUP, tables},
    observe::{self, Environment},
    sys,
    tally::Percentiles,
};
use crowd::{Crowd, Deed, Order, Tell};

/// `corelane-bench sessions`.
#[derive(clap::Args)]
pub struct Sessions {
    #[command(flatten)]
    aim: Aim,
    /// Sessions, each on a connection of its own.
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    /// Each session also opens its GET event stream, on a second connection.
    #[arg(long)]
    streams: bool,
    /// With --streams: the tool whose call makes the server announce `notifications/tools/list_changed` to all.
    #[arg(long, requires = "streams")]
    trigger_tool: Option<String>,
    /// Random sessions that call the tool while all are held.
    #[arg(long, default_value_t = 1000)]
    active: usize,
    /// Seconds for which they do.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds that the announcement may take to reach all streams.
    #[arg(long, default_value_t = 60.0)]
    announce_limit: f64,
    /// Where the histogram behind the percentiles goes, as an HDR log; nowhere unless given.
    #[arg(long)]
    hlog: Option<PathBuf>,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// `corelane-bench idle`.
#[derive(clap::Args)]
pub struct Idle {
    #[command(flatten)]
    aim: Aim,
    /// Connections; each makes one call and then stays silent.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds to wait before the memory is read.
    #[arg(long, default_value_t = 2.0)]
    settle: f64,
    /// Keep the connections after the report, until standard input ends.
    #[arg(long)]
    hold: bool,
}

/// The server and the kernel at one moment.
#[derive(Clone, Copy)]
struct Moment {
    at: u64,
    cpu: Option<u64>,
    rss: Option<u64>,
    slab: Option<(u64, u64)>,
}

impl Moment {
    fn now(pid: Option<u32>) -> Self {
        Self {
            at: sys::now_ns(),
            cpu: pid.and_then(observe::cpu_ns),
            rss: pid.and_then(observe::rss_bytes),
            slab: observe::slab_bytes(),
        }
    }

    /// What changed since `earlier`, and how much of it falls on each of `count`.
    fn since(&self, earlier: &Self, count: usize) -> Growth {
        let grown = |now: Option<u64>, then: Option<u64>| now.zip(then).map(|(now, then)| now as f64 - then as f64);
        let each = |bytes: Option<f64>| bytes.filter(|_| count > 0).map(|bytes| (bytes / count as f64).round());
        let cpu = grown(self.cpu, earlier.cpu).map(|ns| ns / 1e9);
        let rss = grown(self.rss, earlier.rss);
        let slab = grown(self.slab.map(|slab| slab.0), earlier.slab.map(|slab| slab.0));
        let fixed = grown(self.slab.map(|slab| slab.1), earlier.slab.map(|slab| slab.1));
        let seconds = (self.at - earlier.at) as f64 / 1e9;
        Growth {
            count,
            seconds,
            per_second: count as f64 / seconds,
            server_cpu_seconds: cpu,
            per_server_cpu_second: cpu.filter(|&cpu| cpu > 0.0).map(|cpu| count as f64 / cpu),
            server_rss_growth_bytes: rss,
            server_rss_bytes_each: each(rss),
            kernel_slab_growth_bytes: slab,
            kernel_slab_bytes_each_both_ends: each(slab),
            kernel_slab_unreclaimable_growth_bytes: fixed,
        }
    }
}

/// What changed between two moments, in all and for each of those that came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Growth {
    pub count: usize,
    pub seconds: f64,
    pub per_second: f64,
    pub server_cpu_seconds: Option<f64>,
    pub per_server_cpu_second: Option<f64>,
    pub server_rss_growth_bytes: Option<f64>,
    pub server_rss_bytes_each: Option<f64>,
    pub kernel_slab_growth_bytes: Option<f64>,
    pub kernel_slab_bytes_each_both_ends: Option<f64>,
    pub kernel_slab_unreclaimable_growth_bytes: Option<f64>,
}

/// What `idle` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdleReport {
    pub target: String,
    pub wire: String,
    pub connections_asked: usize,
    pub connections_opened: usize,
    pub calls_answered: usize,
    pub connections_up_at_the_end: usize,
    pub idle: Growth,
    pub server_rss_bytes_before: Option<u64>,
    pub server_rss_bytes_at_the_end: Option<u64>,
    pub errors: BTreeMap<String, u64>,
}

/// The threads of a mass run.
struct Troop {
    orders: Vec<mpsc::Sender<Order>>,
    tells: mpsc::Receiver<Result<Tell, String>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Troop {
    fn muster(aim: &Aim, sessions: usize, streams: bool) -> Result<Self, Failure> {
        if sessions == 0 {
            return Err("at least one connection is needed".into());
        }
        let script = Arc::new(aim.script()?);
        let table = aim.table()?;
        sys::pin(aim.cpu)?;
        let per_session = 1 + usize::from(streams);
        let (tell, tells) = mpsc::channel();
        let (mut orders, mut threads) = (Vec::new(), Vec::new());
        for range in tables(sessions, table / per_session) {
            let (order, given) = mpsc::channel::<Order>();
            let (script, tell, target, cpu) = (script.clone(), tell.clone(), aim.target, aim.cpu);
            orders.push(order);
            threads.push(thread::spawn(move || {
                let made = sys::pin(cpu).map_err(|error| error.to_string());
                let made =
                    made.and_then(|()| Crowd::new(&script, target, range.start * per_session, range.len(), streams));
                let mut crowd = match made {
                    Ok(crowd) => crowd,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                for order in given {
                    // The other end is gone only when the run has failed already.
                    let _ = tell.send(crowd.obey(order));
                }
            }));
        }
        Ok(Self { orders, tells, threads })
    }

    /// Gives the same order to all and adds up what they tell.
    fn all(&self, order: &Order) -> Result<Tell, Failure> {
        self.each(|_| order.clone())
    }

    fn each(&self, mut order: impl FnMut(usize) -> Order) -> Result<Tell, Failure> {
        for (index, sender) in self.orders.iter().enumerate() {
            // A thread that is gone has told why.
            let _ = sender.send(order(index));
        }
        let mut sum = Tell::default();
        for _ in &self.orders {
            sum.add(self.tells.recv().map_err(|_| "a thread of the run panicked")??);
        }
        Ok(sum)
    }

    fn deed(&self, deed: Deed) -> Result<Tell, Failure> {
        self.all(&Order::Each { deed, limit: SETUP * 5 })
    }

    fn dismiss(self) -> Result<(), Failure> {
        drop(self.orders);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the run panicked")?;
        }
        Ok(())
    }
}

impl Sessions {
    /// Runs and prints the report as JSON; fails unless every session was up to the end.
    pub fn run(&self) -> Result<(), Failure> {
        let (environment, pid) = (Environment::now(), self.aim.server_pid);
        let troop = Troop::muster(&self.aim, self.sessions, self.streams)?;
        let start = Moment::now(pid);
        let opened = troop.deed(Deed::Open)?;
        let open = Moment::now(pid);
        eprintln!("{} of {} sessions are set up", opened.done, self.sessions);
        let pinged = troop.deed(Deed::Ping)?;
        let mut report = json!({
            "target": self.aim.target.to_string(),
            "wire": self.aim.wire.name(),
            "sessions_asked": self.sessions,
            "set_up": open.since(&start, opened.done),
            "pinged": pinged.done,
            "environment": environment,
        });
        let mut lost = self.sessions - opened.done + opened.failed() + pinged.failed();
        if self.streams {
            let before = Moment::now(pid);
            let listening = troop.deed(Deed::Listen)?;
            report["streams"] = json!(Moment::now(pid).since(&before, listening.done));
            report["streams"]["errors"] = json!(listening.errors);
            lost += self.sessions - listening.done;
        }
        let held_at = hlog::now();
        let storm = troop.each(|index| Order::Storm {
            // The threads hold equal shares, so equal shares of the active ones are a fair draw.
            links: self.active * (index + 1) / troop.orders.len() - self.active * index / troop.orders.len(),
            seconds: Duration::from_secs_f64(self.seconds),
            seed: self.seed.wrapping_add(index as u64),
        })?;
        let latency: Histogram<u64> = storm.latency();
        if let Some(file) = &self.hlog {
            let entry = Entry::of("held", held_at, Duration::from_secs_f64(self.seconds), &latency);
            hlog::write(file, held_at, entry.as_slice())?;
        }
        report["held"] = json!({
            "active_sessions": self.active.min(self.sessions),
            "calls": storm.done,
            "calls_per_second": storm.done as f64 / self.seconds,
            "latency_us": Percentiles::of(&latency),
            "errors": storm.errors,
        });
        lost += storm.failed();
        if let Some(tool) = &self.trigger_tool {
            let began = sys::now_ns();
            let limit = Duration::from_secs_f64(self.announce_limit);
            let told = troop.each(|index| Order::Announce { tool: (index == 0).then(|| tool.clone()), limit })?;
            report["announcement"] = json!({
                "streams_reached": told.done,
                "seconds_to_the_last": told.last.map(|last| last.saturating_sub(began) as f64 / 1e9),
                "errors": told.errors,
            });
            lost += self.sessions.saturating_sub(told.done);
        }
        let again = troop.deed(Deed::Ping)?;
        let survey = troop.all(&Order::Survey)?;
        let end = Moment::now(pid);
        let connections = self.sessions * (1 + usize::from(self.streams));
        report["pinged_at_the_end"] = json!(again.done);
        report["connections_up_at_the_end"] = json!(survey.done);
        report["whole_run"] = json!(end.since(&start, self.sessions));
        report["server_rss_bytes_at_the_end"] = json!(end.rss);
        report["errors"] = json!(survey.errors);
        lost += self.sessions - again.done + (connections - survey.done);
        report["all_up"] = json!(lost == 0);
        println!("{}", serde_json::to_string_pretty(&report)?);
        troop.dismiss()?;
        if lost == 0 { Ok(()) } else { Err("not every session was up to the end: see `errors`".into()) }
    }
}

impl Idle {
    /// Runs and prints the report as JSON.
    pub fn run(&self) -> Result<(), Failure> {
        let (environment, pid) = (Environment::now(), self.aim.server_pid);
        let troop = Troop::muster(&self.aim, self.connections, false)?;
        let start = Moment::now(pid);
        let opened = troop.deed(Deed::Open)?;
        let called = troop.deed(Deed::Call)?;
        thread::sleep(Duration::from_secs_f64(self.settle));
        let survey = troop.all(&Order::Survey)?;
        let end = Moment::now(pid);
        let report = IdleReport {
            target: self.aim.target.to_string(),
            wire: self.aim.wire.name().into(),
            connections_asked: self.connections,
            connections_opened: opened.done,
            calls_answered: called.done,
            connections_up_at_the_end: survey.done,
            idle: end.since(&start, survey.done),
            server_rss_bytes_before: start.rss,
            server_rss_bytes_at_the_end: end.rss,
            errors: survey.errors,
        };
        environment.print_with(&report)?;
        if self.hold {
            io::copy(&mut io::stdin(), &mut io::sink())?;
        }
        troop.dismiss()?;
        if survey.done == self.connections && called.done == self.connections {
            Ok(())
        } else {
            Err("not every connection was up to the end: see `errors`".into())
        }
    }
}
