//! Targets with their verdicts, and how they are shown. Which there are is each comparison's own business.
//!
//! It measures nothing; what is judged comes from `judge`.
//!
//! Invariant: a target that was not measured says so.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::judge::{Estimate, Verdict};

/// One target with its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub what: String,
    pub unit: Unit,
    /// At most this.
    pub limit: f64,
    pub found: Option<Estimate>,
    pub verdict: Verdict,
    /// What else decides, if the limit alone does not.
    pub note: Option<String>,
}

impl Target {
    /// What was found, judged by its interval alone.
    pub fn at_most(what: String, unit: Unit, limit: f64, found: Option<Estimate>) -> Self {
        let verdict = found.map_or(Verdict::NotMeasured, |found| found.at_most(limit));
        Self { what, unit, limit, found, verdict, note: None }
    }
}

/// Of what the figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Ratio,
    Microseconds,
    Bytes,
    Megabytes,
    /// Of one CPU.
    Percent,
}

impl Unit {
    /// A value of it, as it stands in the table.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ratio if value < 0.05 => format!("{value:.4}"),
            Self::Ratio => format!("{value:.2}"),
            Self::Microseconds => format!("{value:.2} us"),
            Self::Bytes => format!("{value:.0} B"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Percent => format!("{value:.3} %"),
        }
    }
}

/// How many targets got each verdict, in words.
pub fn summary(targets: &[Target]) -> String {
    let count = |verdict| targets.iter().filter(|target| target.verdict == verdict).count();
    format!(
        "{} targets: {} met, {} missed, {} undecided, {} not measured",
        targets.len(),
        count(Verdict::Met),
        count(Verdict::Missed),
        count(Verdict::Undecided),
        count(Verdict::NotMeasured)
    )
}

/// Writes the section of all targets.
pub fn section(page: &mut String, targets: &[Target]) -> std::fmt::Result {
    writeln!(page, "\n## Targets\n\n{}\n", summary(targets))?;
    writeln!(page, "| target | at most | found | interval | verdict |\n|---|---|---|---|---|")?;
    for target in targets {
        let show = |value: f64| target.unit.show(value);
        let (found, interval) = match &target.found {
            Some(found) => (show(found.value), format!("{} - {}", show(found.low), show(found.high))),
            None => ("-".into(), "-".into()),
        };
        let note = target.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        writeln!(
            page,
            "| {} | {}{note} | {found} | {interval} | {} |",
            target.what,
            show(target.limit),
            target.verdict.words()
        )?;
    }
    Ok(())
}
