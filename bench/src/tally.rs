//! What a run counted: calls, latencies, errors by kind; and the report made of it.
//!
//! It decides nothing. Each thread has a tally of its own; they are added up after the run.
//!
//! Invariant: every call of the measured window is counted once, either in the latencies or under one kind of error.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::hlog::Entry;

/// Longest latency told apart, in ns; longer ones count as this.
pub const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// See the module.
pub struct Tally {
    pub latency: Histogram<u64>,
    /// How late the generator itself was: sent minus intended (open loop).
    pub lag: Histogram<u64>,
    pub errors: BTreeMap<String, u64>,
    /// Calls due in the window (open loop).
    pub offered: u64,
    /// Calls that ended in the window, rightly or not, whenever they were due: what the server's CPU time was spent on.
    pub ended: u64,
    /// Those of them that succeeded.
    pub succeeded: u64,
    pub ready: usize,
    pub lost: usize,
    pub bytes_received: u64,
    /// The longest header line of a session that the server gave.
    pub session_bytes: usize,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let empty = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are constants that hdrhistogram takes")
        };
        Self {
            latency: empty(),
            lag: empty(),
            errors: BTreeMap::new(),
            offered: 0,
            ended: 0,
            succeeded: 0,
            ready: 0,
            lost: 0,
            bytes_received: 0,
            session_bytes: 0,
        }
    }

    /// One more error of a kind.
    pub fn error(&mut self, kind: String) {
        self.errors_many(kind, 1);
    }

    /// `count` more errors of a kind.
    pub fn errors_many(&mut self, kind: String, count: u64) {
        if count > 0 {
            *self.errors.entry(kind).or_default() += count;
        }
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: Self) {
        self.latency.add(&other.latency).expect("both have the same bounds");
        self.lag.add(&other.lag).expect("both have the same bounds");
        for (kind, count) in other.errors {
            self.errors_many(kind, count);
        }
        self.offered += other.offered;
        self.ended += other.ended;
        self.succeeded += other.succeeded;
        self.ready += other.ready;
        self.lost += other.lost;
        self.bytes_received += other.bytes_received;
        self.session_bytes = self.session_bytes.max(other.session_bytes);
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    #[serde(default)]
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of ns; nothing if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// The server's side of a run, when its process id was given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ServerCost {
    pub pid: u32,
    /// CPU time used during the window, and how long the window was on the wall.
    pub cpu_seconds: f64,
    pub window_seconds: f64,
    pub cpu_us_per_call: Option<f64>,
    /// The shares of the window in which its two busiest threads had work: they ran, or waited for a CPU.
    #[serde(default)]
    pub busiest_threads: Option<[f64; 2]>,
    pub rss_before_bytes: Option<u64>,
    pub rss_after_bytes: Option<u64>,
}

/// What `load` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub target: String,
    pub wire: String,
    pub loop_kind: String,
    pub connections: usize,
    pub connections_ready: usize,
    pub connections_lost: usize,
    pub depth: usize,
    pub verified: bool,
    pub rate_asked: Option<f64>,
    /// Of a call, the header line of its session included, which alone is `session_bytes`.
    pub request_bytes: usize,
    #[serde(default)]
    pub session_bytes: usize,
    pub response_bytes: Option<f64>,
    pub warmup_seconds: f64,
    pub seconds: f64,
    pub offered: Option<u64>,
    /// Calls that succeeded: in a closed loop those that ended in the window, in an open loop those that were due in
    /// it.
    pub calls: u64,
    /// Calls that ended in the window, errors included; CPU and bytes per call are shares of these.
    pub ended_in_window: u64,
    /// Of the calls that ended in the window and succeeded.
    pub calls_per_second: f64,
    pub latency_us: Option<Percentiles>,
    pub send_lag_us: Option<Percentiles>,
    pub errors: BTreeMap<String, u64>,
    pub server: Option<ServerCost>,
    /// CPU time of the generator in the window, as a share of one CPU: near 1 it was the slower side.
    pub generator_cpu_share: f64,
    /// ACKs that the kernel sent alone in the window, because whoever owed them had nothing to send for 40 ms: of both
    /// sides, and of whatever else this network namespace has.
    #[serde(default)]
    pub delayed_acks: Option<u64>,
    /// The histograms behind the percentiles: `latency` and, of an open loop, `lag`. They go to the log beside a
    /// record.
    #[serde(skip)]
    pub histograms: Vec<Entry>,
}

impl Report {
    /// What somebody who waits wants to see of it.
    pub fn in_short(&self) -> String {
        let cpu = self.server.and_then(|server| server.cpu_us_per_call);
        let cpu = cpu.map_or("no CPU figure".into(), |cpu| format!("{cpu:.2} us CPU per call"));
        format!("{:.0} calls/s, {cpu}, errors {:?}", self.calls_per_second, self.errors)
    }
}
