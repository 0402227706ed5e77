//! The original's scaling table beside ours: a row is measured where there is a record of it, else computed.
//!
//! It reads the records of `bench/scenarios/scale_*.toml` and judges nothing: a run that missed its criteria is in the
//! table as one that did. Invariant: a computed row says so, and follows from figures that stand above it.

use std::{fmt::Write, path::Path};

use super::{Lines, PLANNED, thousands};
use crate::{
    Failure, knee,
    scenario::record::{self, Line},
};

/// A row of the original, or of what it said of 100,000 connections.
struct Claim {
    /// Of the scenario, and so of the record.
    name: &'static str,
    connections: f64,
    messages_per_s: f64,
    p95: &'static str,
    kilobytes_each: &'static str,
}

const fn claim(
    name: &'static str,
    connections: f64,
    messages_per_s: f64,
    p95: &'static str,
    kilobytes_each: &'static str,
) -> Claim {
    Claim { name, connections, messages_per_s, p95, kilobytes_each }
}

/// 33 messages a second on each connection.
const CLAIMS: [Claim; 6] = [
    claim("scale_150", 150.0, 5e3, "15 ms", "200"),
    claim("scale_1k", 1e3, 33e3, "5 - 6 ms", "80"),
    claim("scale_5k", 5e3, 167e3, "5.1 ms", "100"),
    claim("scale_10k", 10e3, 333e3, "5.3 ms", "120"),
    claim("scale_15k", 15e3, 500e3, "10 - 15 ms", "150"),
    claim("scale_100k", 100e3, 3.3e6, "none", "none"),
];

/// What a record says of the phase that counts.
pub struct Measured {
    name: String,
    passed: bool,
    messages_per_s: f64,
    p95_us: f64,
    bytes_each: f64,
    /// CPUs that the server used.
    cpus: f64,
}

/// What a row is computed from.
pub struct Costs {
    /// CPU of a call in a session with one call in flight, on 8,000 connections.
    pub call_us: f64,
    /// Of a session on a connection of its own.
    pub session_bytes: f64,
}

/// The records that there are.
pub fn read(folder: &Path) -> Result<Vec<Measured>, Failure> {
    let files = CLAIMS.iter().map(|claim| (claim, folder.join(format!("{}.jsonl", claim.name))));
    files.filter(|(_, file)| file.exists()).map(|(claim, file)| measured(claim.name, &file)).collect()
}

fn measured(name: &str, file: &Path) -> Result<Measured, Failure> {
    let (mut found, mut passed) = (None, None);
    for line in record::read(file)? {
        match line {
            Line::Phase(line) if line.phase == "measured" => found = Some(line),
            Line::Verdict(verdict) => passed = Some(verdict.passed),
            _ => {}
        }
    }
    let lacks = |what: &str| format!("{}: the measured phase has no {what}", file.display());
    let line = found.ok_or_else(|| lacks("line"))?;
    Ok(Measured {
        name: name.into(),
        passed: passed.ok_or_else(|| lacks("verdict"))?,
        messages_per_s: line.throughput_msg_per_s.ok_or_else(|| lacks("throughput_msg_per_s"))?,
        p95_us: line.latency_p95_us.ok_or_else(|| lacks("latency_p95_us"))?,
        bytes_each: line.server_rss_bytes_each.ok_or_else(|| lacks("server_rss_bytes_each"))?,
        cpus: line.cpu_percent.ok_or_else(|| lacks("cpu_percent"))? / 100.0,
    })
}

/// Writes the table.
pub fn table(out: &mut Lines, all: &[Measured], costs: &Costs) -> std::fmt::Result {
    let text = &mut out.0;
    writeln!(text, "\n## The original's scaling table: 33 messages a second on each connection\n")?;
    writeln!(
        text,
        "| connections | messages/s: original | here | p95: original | here | KB a connection: original | here | CPUs of the \
         server | measured or computed |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for claim in &CLAIMS {
        let measured = all.iter().find(|measured| measured.name == claim.name);
        let (rate, p95_us, bytes, cpus, how) = match measured {
            Some(found) => {
                let verdict = if found.passed { "its criteria met" } else { "its criteria missed" };
                let how =
                    format!("measured (scenarios/{}), {verdict}; CPUs: time used, part of it waking up", claim.name);
                (found.messages_per_s, found.p95_us, found.bytes_each, format!("{:.2} used", found.cpus), how)
            }
            None => {
                let cores = (claim.messages_per_s / 2.0 * costs.call_us / 1e6 / PLANNED).ceil();
                // Of one core: calls are spread over all of them.
                let rate = claim.messages_per_s / 2.0 / cores;
                let how = format!(
                    "computed: {:.2} us a call at {:.0} % busy at most; p95 of a queue so busy; RSS of a session",
                    costs.call_us,
                    PLANNED * 100.0
                );
                let p95_us = knee::waiting(costs.call_us, rate);
                (claim.messages_per_s, p95_us, costs.session_bytes, format!("{cores:.0} needed"), how)
            }
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} ms | {} | {:.1} | {cpus} | {how} |",
            thousands(claim.connections),
            thousands(claim.messages_per_s),
            thousands(rate),
            claim.p95,
            p95_us / 1e3,
            claim.kilobytes_each,
            bytes / 1e3,
        )?;
    }
    writeln!(
        text,
        "\nA computed p95 is the server's alone: `service x ln 20 / (1 - busy)`. It has no network, and no generator that \
         shares the machine."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(all: &[Measured]) -> String {
        let mut out = Lines(String::new());
        table(&mut out, all, &Costs { call_us: 5.0, session_bytes: 840.0 }).expect("written");
        out.0
    }

    #[test]
    fn a_row_is_measured_where_there_is_a_record_and_computed_elsewhere() {
        let all = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("results/scenarios")).expect("records");
        let page = page(&all);
        assert!(all.iter().any(|measured| measured.name == "scale_1k"), "the record is in the repository");
        for claim in &CLAIMS {
            let start = format!("| {} |", thousands(claim.connections));
            let row = page.lines().find(|line| line.starts_with(&start)).expect("a row of each");
            let is_measured = all.iter().any(|measured| measured.name == claim.name);
            assert_eq!((row.contains("measured ("), row.contains("computed")), (is_measured, !is_measured), "{row}");
        }
    }

    #[test]
    fn a_computed_row_is_what_a_pencil_gives() {
        // 250,000 calls of 5 us are 1.25 CPUs, which is two at 80 %: each 62.5 % busy, so 5 x ln 20 / 0.375 us.
        let page = page(&[]);
        let row = page.lines().find(|line| line.starts_with("| 15,000 |")).expect("a row");
        assert!(row.contains("| 500,000 | 500,000 | 10 - 15 ms | 0.04 ms | 150 | 0.8 | 2 needed |"), "{row}");
    }

    #[test]
    fn a_run_that_missed_is_told_as_one() {
        let missed = Measured {
            name: "scale_15k".into(),
            passed: false,
            messages_per_s: 123_456.0,
            p95_us: 80_000.0,
            bytes_each: 1000.0,
            cpus: 1.0,
        };
        let page = page(&[missed]);
        assert!(page.contains("| 123,456 | 10 - 15 ms | 80.00 ms | 150 | 1.0 | 1.00 used | measured"), "{page}");
        assert!(page.contains("its criteria missed"), "{page}");
    }
}
