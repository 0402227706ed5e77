//! The files that a comparison leaves behind: its rounds as JSON, and beside it the tables, made from that file alone,
//! and an HDR log of the histograms behind its percentiles.
//!
//! What is in a record, and how it is shown, is each comparison's own business.
//!
//! Invariant: a table is only ever written from a record that was read back from its file.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::{Failure, hlog, observe::Environment, tally::Report};

/// Writes a record, in place of what was in the file.
pub fn write(file: &Path, record: &impl Serialize) -> Result<(), Failure> {
    // One space a level: a long run has more blanks than figures otherwise.
    let mut text = Vec::new();
    record.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")))?;
    text.push(b'\n');
    Ok(fs::write(file, text)?)
}

/// Writes a record, and beside it the histograms of its runs: of each its name, and its report if it has one.
pub fn keep<'a>(
    file: &Path,
    record: &impl Serialize,
    environment: &Environment,
    runs: impl Iterator<Item = (String, &'a Option<Report>)>,
) -> Result<(), Failure> {
    write(file, record)?;
    let of = |(name, report): (String, &'a Option<Report>)| {
        report.iter().flat_map(|report| &report.histograms).map(|entry| entry.under(&name)).collect::<Vec<_>>()
    };
    let begun = Duration::from_secs(environment.unix_time);
    hlog::write(&file.with_extension("hlog"), begun, &runs.flat_map(of).collect::<Vec<_>>())
}

/// Reads a record back.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Puts the page beside its record, and prints it.
pub fn publish(file: &Path, page: &str) -> Result<(), Failure> {
    fs::write(file.with_extension("md"), page)?;
    show(page);
    Ok(())
}

/// Prints a page; a reader who closed the pipe has seen enough.
pub fn show(page: &str) {
    let _ = writeln!(io::stdout(), "{page}");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        dice::Dice,
        hlog::Entry,
        rounds::{self, Round, Scenario},
        tally::{Percentiles, Tally},
    };

    /// A report of an open loop with latencies over four orders of magnitude.
    fn report(seed: u64) -> Report {
        let (mut tally, mut dice) = (Tally::new(), Dice::new(seed));
        for _ in 0..5000 {
            tally.latency.saturating_record(10f64.powf(4.0 + dice.below(4000) as f64 / 1000.0) as u64);
            tally.lag.saturating_record(dice.below(90_000) as u64 + 1);
        }
        let (at, length) = (Duration::from_secs(1_000_000), Duration::from_secs(2));
        let mut report: Report = serde_json::from_value(serde_json::json!({
            "target": "", "wire": "", "loop_kind": "", "connections": 64, "connections_ready": 64,
            "connections_lost": 0, "depth": 1, "verified": true, "rate_asked": 5.0, "request_bytes": 1,
            "response_bytes": null, "warmup_seconds": 0.0, "seconds": 2.0, "offered": null, "calls": 5000,
            "ended_in_window": 5000, "calls_per_second": 2500.0, "latency_us": null, "send_lag_us": null,
            "errors": {}, "server": null, "generator_cpu_share": 0.5,
        }))
        .expect("a report");
        (report.latency_us, report.send_lag_us) = (Percentiles::of(&tally.latency), Percentiles::of(&tally.lag));
        let kept = [("latency", &tally.latency), ("lag", &tally.lag)];
        report.histograms = kept.into_iter().filter_map(|(tag, of)| Entry::of(tag, at, length, of)).collect();
        report
    }

    #[test]
    fn every_percentile_of_a_record_is_in_the_log_beside_it() {
        let file = std::env::temp_dir().join(format!("corelane-record-{}.json", std::process::id()));
        let log = file.with_extension("hlog");
        let scenario = Scenario { share: Some(0.4), ..Scenario::closed(64) };
        let round = |round, rung: &str, report| Round {
            scenario: scenario.clone(),
            rung: rung.into(),
            round,
            report,
            failure: None,
        };
        let all = [round(0, "b", Some(report(1))), round(0, "c", Some(report(2))), round(1, "b", Some(report(3)))];
        let all = [&all[..], &[round(1, "c", None)]].concat();
        let environment = Environment { unix_time: 999_999, ..Environment::now() };
        keep(&file, &serde_json::json!({ "rounds": all }), &environment, rounds::named(&all)).expect("written");
        let (text, entries) = (fs::read_to_string(&file).expect("written"), hlog::read(&log).expect("written"));
        let _ = (fs::remove_file(&file), fs::remove_file(&log));
        assert!(!text.contains("HIST"), "a record holds figures, and the log what they are of");
        assert_eq!(entries.len(), 6, "two of each round that has a report");
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let mut compared = 0;
        for (number, round) in read["rounds"].as_array().expect("rounds").iter().enumerate().take(3) {
            for (tag, field) in [("latency", "latency_us"), ("lag", "send_lag_us")] {
                let rung = round["rung"].as_str().expect("a rung");
                let end = format!("/{rung}/round_{}/{tag}", number / 2 + 1);
                let entry = entries.iter().find(|entry| entry.tag.ends_with(&end)).expect("it is in the log");
                let histogram = entry.histogram().expect("it can be read");
                for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999)] {
                    let told = round["report"][field][name].as_f64().expect("a figure");
                    let found = histogram.value_at_quantile(quantile) as f64 / 1e3;
                    assert!((found - told).abs() <= told / 1000.0, "{end} {name}: {found} and {told}");
                    compared += 1;
                }
                assert_eq!(entry.at, Duration::from_secs(1_000_000), "when it began");
            }
        }
        assert_eq!(compared, 30);
    }
}
