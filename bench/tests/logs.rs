//! What the tools leave beside the percentiles that they print, from runs of the tools themselves: against the floor,
//! and shorter than decides anything.
//!
//! Not here: what is in a comparison's record (`src/record.rs`). Invariant: no figure is judged but by the log that has
//! its histogram.

#[path = "../src/hlog.rs"]
mod hlog;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BENCH: &str = env!("CARGO_BIN_EXE_corelane-bench");

/// The floor, which ends with it.
struct Floor(Child, SocketAddr);

impl Floor {
    fn start() -> Floor {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let words = ["floor", "--shape", "ndjson", "--cpu", "0", "--reply-bytes", "175", "--listen"];
        let child = Command::new(BENCH).args(words).arg(address.to_string()).stdout(Stdio::null()).spawn();
        let floor = Floor(child.expect("it starts"), address);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "the floor does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        floor
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("corelane-logs-{name}-{}.hlog", std::process::id()))
}

/// Runs the tool on the floor with a log; what it printed, and what is in the log.
fn run(tool: &str, more: &[&str]) -> (Value, Vec<hlog::Entry>) {
    let (floor, file) = (Floor::start(), log_file(tool));
    let target = floor.1.to_string();
    let common = ["--target", &target, "--wire", "ndjson", "--cpu", "0", "--hlog"];
    let output = Command::new(BENCH).arg(tool).args(common).arg(&file).args(more).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = hlog::read(&file).expect("a log");
    std::fs::remove_file(&file).expect("it is there");
    (serde_json::from_slice(&output.stdout).expect("JSON"), entries)
}

/// Every percentile of `told` is that of the log's histogram under this tag, to three digits.
fn assert_same(told: &Value, entries: &[hlog::Entry], tag: &str) {
    let entry = entries.iter().find(|entry| entry.tag == tag).unwrap_or_else(|| panic!("{tag} is not in {entries:?}"));
    let histogram = entry.histogram().expect("it can be read");
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999)] {
        let (told, found) = (told[name].as_f64(), histogram.value_at_quantile(quantile) as f64 / 1e3);
        let told = told.unwrap_or_else(|| panic!("{tag} has no {name}"));
        assert!((found - told).abs() <= told / 1000.0, "{tag} {name}: {told} told, {found} in the log");
    }
}

#[test]
fn load_keeps_the_histograms_of_its_percentiles() {
    let more = ["--connections", "4", "--rate", "500", "--seconds", "0.3", "--warmup", "0.1", "--unverified"];
    let (told, entries) = run("load", &more);
    assert_eq!(entries.len(), 2, "of latencies, and of how late the generator was");
    assert_same(&told["latency_us"], &entries, "latency");
    assert_same(&told["send_lag_us"], &entries, "lag");
    let calls = entries[0].histogram().expect("it can be read").len();
    assert_eq!(Some(calls), told["calls"].as_u64());
    let ago = hlog::now().checked_sub(entries[0].at).expect("it is over");
    assert!(ago < Duration::from_secs(60) && entries[0].length == Duration::from_millis(300), "{ago:?} ago");
}
