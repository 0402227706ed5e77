//! `corelane-bench gate`: what guards every change, by counts that are the same on a busy machine: instructions of the
//! hot paths, and bytes of a session.
//!
//! It counts and judges nothing itself: `tests/instructions.rs` and `tests/session_bytes.rs` do, in builds of their
//! own, and this runs both and shows what they said as one table. Time and CPU are for `compare` and `ladder`.
//!
//! Invariant: green only if both tests passed and every figure of the baselines was told; what could not be counted is
//! neither green nor red.

use std::{fmt::Write, path::PathBuf, process::Command};

use crate::{Failure, judge::Verdict, record};

/// `corelane-bench gate`.
#[derive(clap::Args)]
pub struct Gate {
    /// The tree that is judged, with its baselines.
    #[arg(long, default_value = ".")]
    tree: PathBuf,
    /// Write the baselines anew instead: for a change that is worth what it costs.
    #[arg(long)]
    write: bool,
}

/// A test that counts.
struct Counter {
    /// How cargo is to build it, as variables of its environment.
    builds: &'static [(&'static str, &'static str)],
    /// Words of cargo.
    words: &'static [&'static str],
    baseline: &'static str,
    /// Set to write the baseline.
    writes: &'static str,
}

const COUNTERS: [Counter; 2] = [
    Counter {
        // Incremental builds cut the code up otherwise each time, which other counts come of.
        builds: &[("CARGO_INCREMENTAL", "0")],
        words: &["--profile", "quick", "--test", "instructions", "--", "--ignored", "--nocapture", "a_call_costs"],
        baseline: "bench/instructions.txt",
        writes: "INSTRUCTIONS_WRITE",
    },
    Counter {
        builds: &[],
        // Of the whole workspace, as the other tests are built: another selection would build most dependencies again.
        words: &["--workspace", "--test", "session_bytes", "--", "--nocapture"],
        baseline: "bench/session_bytes.txt",
        writes: "SESSION_BYTES_WRITE",
    },
];

/// What a test said of one figure.
#[derive(Debug, PartialEq)]
struct Told {
    name: String,
    /// `8916 instructions`
    found: String,
    /// `was 8900, +0.18 %`
    against: String,
}

impl Gate {
    /// Runs both, prints the table; `Missed` if one grew.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let (mut told, mut verdict) = (Vec::new(), Verdict::Met);
        for counter in &COUNTERS {
            let mut command = Command::new("cargo");
            command.args(["test", "--locked"]).args(counter.words).current_dir(&self.tree);
            command.envs(counter.builds.iter().copied());
            if self.write {
                command.env(counter.writes, "1");
            }
            let output = command.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
            let said = String::from_utf8_lossy(&output.stdout);
            let wanted = std::fs::read_to_string(self.tree.join(counter.baseline)).unwrap_or_default();
            let found = figures(&said);
            if found.is_empty() || (output.status.success() && !self.write && missing(&wanted, &found).is_some()) {
                let words = String::from_utf8_lossy(&output.stderr);
                return Err(format!(
                    "nothing was counted against {}: `cargo test {}` ended with {}\n{said}{words}",
                    counter.baseline,
                    counter.words.join(" "),
                    output.status
                )
                .into());
            }
            if !output.status.success() {
                verdict = Verdict::Missed;
                // Which of them, and what to do about it, is the test's to say.
                for line in said.lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
                    if line.contains("if that is worth it") {
                        eprintln!("{line}");
                    }
                }
            }
            told.extend(found);
        }
        let verdict_in_words = if verdict == Verdict::Met { "green" } else { "RED" };
        record::show(&format!("{}\n{verdict_in_words}", page(&told)?));
        Ok(verdict)
    }
}

/// The lines `NAME: FOUND, AGAINST` of a test.
fn figures(said: &str) -> Vec<Told> {
    let figure = |line: &str| {
        let (name, rest) = line.split_once(": ")?;
        let (found, against) = rest.split_once(", ")?;
        let (count, unit) = found.split_once(' ')?;
        let is_one = count.parse::<u64>().is_ok() && matches!(unit, "instructions" | "bytes");
        // What the test's harness begins a line with stands before the first of them.
        let name = name.rsplit("... ").next()?.trim();
        is_one.then(|| Told { name: name.into(), found: found.into(), against: against.into() })
    };
    said.lines().filter_map(figure).collect()
}

/// A figure of the baseline that was not told.
fn missing<'a>(baseline: &'a str, told: &[Told]) -> Option<&'a str> {
    let names = baseline.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').next());
    names.filter(|name| !name.is_empty()).find(|name| !told.iter().any(|told| told.name == *name))
}

fn page(told: &[Told]) -> Result<String, std::fmt::Error> {
    let mut page = String::from("| what | found | baseline |\n|---|---|---|\n");
    for Told { name, found, against } in told {
        writeln!(page, "| {name} | {found} | {against} |")?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "running 1 test\n\
        test a_call_costs_no_more ... frame: 330 instructions, was 330, +0.00 %\n\
        echo-lines: 9000 instructions, was 8916, +0.94 %\n\
        a-session: 235 bytes, no baseline\n\
        a warning: 3 of them, all of no account\nok\n";

    #[test]
    fn what_a_test_says_becomes_rows() {
        let told = figures(SAID);
        let names: Vec<&str> = told.iter().map(|told| told.name.as_str()).collect();
        assert_eq!(names, ["frame", "echo-lines", "a-session"]);
        assert_eq!((told[1].found.as_str(), told[1].against.as_str()), ("9000 instructions", "was 8916, +0.94 %"));
        assert!(page(&told).expect("text").contains("| a-session | 235 bytes | no baseline |"));
    }

    #[test]
    fn a_figure_that_nobody_told_is_missed() {
        let told = figures(SAID);
        assert_eq!(missing("# Instructions\nframe 330\necho-lines 8916\n", &told), None);
        assert_eq!(missing("frame 330\nroute 273\n", &told), Some("route"));
    }

    #[test]
    fn the_baselines_in_the_repository_are_ones_that_it_can_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        for counter in &COUNTERS {
            let text = std::fs::read_to_string(root.join(counter.baseline)).expect("it is committed");
            assert!(missing(&text, &[]).is_some(), "{} names a figure", counter.baseline);
            let test = std::fs::read_to_string(root.join("tests").join(format!(
                "{}.rs",
                counter.words[counter.words.iter().position(|word| *word == "--test").expect("one") + 1]
            )))
            .expect("the test is there");
            assert!(test.contains(counter.writes) && test.contains(counter.baseline));
        }
    }
}
