//! What a run leaves behind: JSON lines, and beside them its histograms as an HDR log.
//!
//! The lines are: the run (once), every second of every phase, every group in every phase, the verdict (once, last).
//! A reader needs no order but that the run comes first.
//!
//! Invariant: a figure that was not measured is absent or null, never a zero that would look like a measurement.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    hlog::{self, Entry},
    observe::Environment,
    scenario::{
        count::{Count, Latencies},
        file::Scenario,
        verdict::Judged,
    },
    tally::Percentiles,
};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    Run(Box<Run>),
    Second(Second),
    Phase(Box<PhaseLine>),
    Verdict(Verdict),
}

/// The run as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Of this form.
    pub schema: u32,
    pub scenario: Scenario,
    /// Times are the scenario's multiplied by this.
    pub scale: f64,
    pub targets: Vec<String>,
    /// How the server was started, if it was here.
    pub server: Option<String>,
    pub server_cpus: Option<usize>,
    /// CPUs that the generator's threads shared; none in records made before that was told, nor the next.
    #[serde(default)]
    pub generator_cpus: Option<usize>,
    /// Memory of the machine.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    pub processes: usize,
    pub threads: usize,
    pub environment: Environment,
    /// What of the kernel's settings bears on many connections.
    pub tuning: BTreeMap<String, String>,
}

/// What the server and the generator used in one second, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Second {
    pub phase: String,
    /// Since the phase began.
    pub second: u64,
    /// Since the run began.
    pub at_seconds: f64,
    pub server_cpu_percent: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    pub generator_cpu_percent: Option<f64>,
    pub groups: BTreeMap<String, Figures>,
}

/// A group in some time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    pub offered: u64,
    pub succeeded: u64,
    pub errors: BTreeMap<String, u64>,
    pub open: u64,
    pub latency_us: Option<Percentiles>,
}

impl From<&Count> for Figures {
    fn from(count: &Count) -> Self {
        Self {
            offered: count.offered,
            succeeded: count.succeeded,
            errors: count.errors.clone(),
            open: count.open,
            latency_us: count.latency.percentiles(),
        }
    }
}

/// A group in a whole phase. The names from `workload_id` to `timestamp` are those
/// of the original's reports, whose `memory_heap_mib_per_conn` is here the growth of RSS for each connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseLine {
    pub phase: String,
    pub group: String,
    pub workload_id: String,
    pub benchmark: String,
    pub transport: String,
    pub scope: String,
    pub precision: String,
    pub duration_s: f64,
    pub operations: u64,
    /// None of a phase that took no time.
    pub throughput_msg_per_s: Option<f64>,
    pub latency_p50_us: Option<f64>,
    pub latency_p95_us: Option<f64>,
    pub latency_p99_us: Option<f64>,
    pub latency_p999_us: Option<f64>,
    /// The most that was seen, once a second.
    pub memory_rss_mib_per_node: Option<f64>,
    pub memory_heap_mib_per_conn: Option<f64>,
    pub cpu_percent: Option<f64>,
    pub timestamp: u64,
    pub latency_us: Option<Percentiles>,
    pub send_lag_us: Option<Percentiles>,
    pub offered: u64,
    pub succeeded: u64,
    /// Of these, answered before the phase was over.
    pub in_time: u64,
    pub answers: u64,
    pub errors: BTreeMap<String, u64>,
    pub connections_attempted: u64,
    pub connections_ready: u64,
    pub connections_refused: BTreeMap<String, u64>,
    pub connections_lost: BTreeMap<String, u64>,
    pub connections_open: u64,
    pub bytes_received: u64,
    /// Of the server in this phase, whatever group it was for.
    pub server_cpu_seconds: Option<f64>,
    pub cpu_us_per_call: Option<f64>,
    /// How much of the server's CPU time was spent in the kernel.
    pub server_kernel_percent: Option<f64>,
    /// The longest time between two turns of a core's loop while it was awake, since the server began.
    pub longest_gap_ms: Option<f64>,
    /// The mean of those of a millisecond and more in this phase; 0 if there was none.
    pub mean_gap_ms: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    pub server_rss_bytes_each: Option<f64>,
    pub generator_cpu_percent: Option<f64>,
    pub kernel_slab_bytes: Option<u64>,
}

/// What must hold, and whether it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub passed: bool,
    pub conditions: Vec<Judged>,
}

/// Settings of the kernel that are told with a run.
const TUNING: [&str; 9] = [
    "net.core.somaxconn",
    "net.core.busy_poll",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_tw_reuse",
    "kernel.io_uring_disabled",
];

/// As they are now; one that cannot be read is left out.
pub fn tuning() -> BTreeMap<String, String> {
    let read = |name: &&str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some(((*name).to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    TUNING.iter().filter_map(read).collect()
}

/// Writes the lines.
pub fn write(file: &Path, lines: &[Line]) -> Result<(), Failure> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line)?;
        text.push('\n');
    }
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Reads them back. A line that lacks a field of its kind is an error; a figure may be null where nothing was measured
/// (`report` says where it may not).
pub fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let parse = |(place, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", file.display(), place + 1).into())
    };
    text.lines().enumerate().map(parse).collect()
}

/// A record without its seconds.
pub struct Kept {
    pub run: Run,
    pub phases: Vec<PhaseLine>,
}

impl Kept {
    /// Reads it; one of a run that did not end is an error.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let (mut run, mut phases, mut is_whole) = (None, Vec::new(), false);
        for line in read(file)? {
            match line {
                Line::Run(line) => run = Some(*line),
                Line::Phase(line) => phases.push(*line),
                Line::Verdict(_) => is_whole = true,
                Line::Second(_) => {}
            }
        }
        match run {
            Some(run) if is_whole => Ok(Self { run, phases }),
            _ => Err(format!("{}: no run, or no verdict: it did not end", file.display()).into()),
        }
    }

    /// A group in a phase.
    pub fn phase(&self, phase: &str, group: &str) -> Option<&PhaseLine> {
        self.phases.iter().find(|line| line.phase == phase && line.group == group)
    }
}

/// The latencies of a group in a stretch of a phase.
pub struct Interval<'a> {
    pub group: &'a str,
    pub phase: &'a str,
    pub latency: Latencies,
}

/// Writes the latencies as an HDR interval log, values in ns, tagged `phase/group`: when each begins, how long it is.
pub fn write_log(file: &Path, unix_time: u64, intervals: &[(Duration, Duration, Interval<'_>)]) -> Result<(), Failure> {
    let begun = Duration::from_secs(unix_time);
    let entry = |(at, length, interval): &(Duration, Duration, Interval<'_>)| {
        let Interval { group, phase, latency } = interval;
        Entry::of(&format!("{phase}/{group}"), begun + *at, *length, latency.histogram()?)
    };
    hlog::write(file, begun, &intervals.iter().filter_map(entry).collect::<Vec<_>>())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A line in which nothing was counted.
    pub fn line(phase: &str, group: &str) -> PhaseLine {
        let named = serde_json::json!({
            "phase": phase, "group": group, "workload_id": "w", "benchmark": "b", "transport": "t", "scope": "s",
            "precision": "p", "duration_s": 1.0, "operations": 0, "throughput_msg_per_s": 0.0, "timestamp": 0,
            "offered": 0, "succeeded": 0, "in_time": 0, "answers": 0, "errors": {}, "connections_attempted": 0,
            "connections_ready": 0, "connections_refused": {}, "connections_lost": {}, "connections_open": 0,
            "bytes_received": 0,
        });
        serde_json::from_value(named).expect("every field that must be there")
    }

    /// A run of a scenario that does nothing.
    pub fn run() -> Run {
        let scenario = "name = \"s\"\nabout = \"a\"\n[[group]]\nname = \"g\"\n[[phase]]\nname = \"p\"\nseconds = 1\n\
                        groups.g = { connections = 1, rate = 1 }\n";
        Run {
            schema: 1,
            scenario: Scenario::parse(scenario).expect("valid"),
            scale: 1.0,
            targets: vec![],
            server: None,
            server_cpus: None,
            generator_cpus: None,
            memory_bytes: None,
            processes: 1,
            threads: 1,
            environment: Environment::now(),
            tuning: BTreeMap::new(),
        }
    }

    #[test]
    fn lines_are_read_back_as_they_were_written_and_a_field_that_is_missing_is_named() {
        let folder = std::env::temp_dir().join(format!("corelane-record-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("r.jsonl");
        let lines =
            [Line::Phase(Box::new(line("p", "a"))), Line::Verdict(Verdict { passed: true, conditions: vec![] })];
        write(&file, &lines).expect("written");
        let back = read(&file).expect("read");
        assert_eq!(format!("{back:?}"), format!("{lines:?}"));
        let mut at_once = line("p", "a");
        at_once.throughput_msg_per_s = None;
        write(&file, &[Line::Phase(Box::new(at_once))]).expect("written");
        assert!(matches!(&read(&file).expect("read")[..], [Line::Phase(it)] if it.throughput_msg_per_s.is_none()));
        write(&file, &lines).expect("written");
        let text = fs::read_to_string(&file).expect("text").replacen("\"operations\"", "\"ops\"", 1);
        fs::write(&file, text).expect("written");
        let error = read(&file).expect_err("a field is missing").to_string();
        assert!(error.contains("operations") && error.contains(":1"), "{error}");
        assert!(Kept::read(&file).is_err());
        write(&file, &lines).expect("written");
        let error = Kept::read(&file).map(|_| ()).expect_err("there is no run").to_string();
        assert!(error.contains("no run"), "{error}");
        fs::remove_dir_all(folder).expect("removed");
    }
}
