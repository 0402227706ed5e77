//! `corelane-bench acceptance PHASE`: what the original's final report promises, beside what was measured here.
//!
//! It measures nothing: `bench/acceptance.toml` says in which record each figure lies and which command makes it. What
//! is held by a test and not by a figure is named with its command, and judged by nobody here.
//!
//! Invariant: an item whose record is not there is neither met nor missed.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    judge::Verdict,
    scenario::record::{self, Line},
};

/// `corelane-bench acceptance`.
#[derive(clap::Args)]
pub struct Acceptance {
    /// phase1, phase2 or phase3.
    phase: String,
    /// What is promised, and where our figures are.
    #[arg(long, default_value = "bench/acceptance.toml")]
    items: PathBuf,
    /// Where the records are.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Print the commands that make the records of this phase, each once, and nothing else.
    #[arg(long)]
    commands: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    #[serde(rename = "item")]
    items: Vec<Item>,
}

/// A promise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    phases: Vec<String>,
    what: String,
    original: String,
    command: Option<String>,
    test: Option<String>,
    file: Option<String>,
    /// Of a scenario's record.
    phase: Option<String>,
    group: Option<String>,
    field: Option<String>,
    /// Of a table of the registry.
    row: Option<String>,
    #[serde(default = "one")]
    times: f64,
    #[serde(default)]
    unit: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

const fn one() -> f64 {
    1.0
}

#[derive(Deserialize, Serialize)]
struct Row {
    what: String,
    value: f64,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

impl Item {
    /// Our figure; none if its record, or it in its record, is not there.
    fn found(&self, results: &Path) -> Result<Option<f64>, Failure> {
        let Some(file) = self.file.as_ref().map(|file| results.join(file)) else { return Ok(None) };
        if !file.exists() {
            return Ok(None);
        }
        let figure = match &self.row {
            Some(row) => {
                let rows: Rows = crate::record::read(&file)?;
                rows.rows.into_iter().find(|found| found.what == *row).map(|found| found.value)
            }
            None => {
                let wanted = |line: &Line| match line {
                    Line::Phase(line) => {
                        Some(&line.phase) == self.phase.as_ref() && Some(&line.group) == self.group.as_ref()
                    }
                    _ => false,
                };
                let lines = record::read(&file)?;
                // What must hold was not tried for as long as it is meant to.
                if lines.iter().any(|line| matches!(line, Line::Run(run) if run.scale < 1.0)) {
                    return Ok(None);
                }
                let line = lines.into_iter().find(wanted).map(serde_json::to_value).transpose()?;
                line.and_then(|line| number(line.get(self.field.as_ref()?)?))
            }
        };
        Ok(figure.map(|figure| figure * self.times))
    }

    fn verdict(&self, found: Option<f64>) -> Verdict {
        let Some(found) = found else { return Verdict::NotMeasured };
        let held = self.at_most.is_none_or(|most| found <= most) && self.at_least.is_none_or(|least| found >= least);
        if held { Verdict::Met } else { Verdict::Missed }
    }
}

/// A number, or the sum of counts by kind.
fn number(value: &serde_json::Value) -> Option<f64> {
    match value {
        serde_json::Value::Object(kinds) => Some(kinds.values().filter_map(serde_json::Value::as_f64).sum()),
        other => other.as_f64(),
    }
}

impl Acceptance {
    /// Prints the table; the worst verdict of all items that have figures.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let text =
            std::fs::read_to_string(&self.items).map_err(|error| format!("{}: {error}", self.items.display()))?;
        let items: Items = toml::from_str(&text)?;
        let items: Vec<Item> = items.items.into_iter().filter(|item| item.phases.contains(&self.phase)).collect();
        if items.is_empty() {
            return Err(format!("{:?} is no phase: phase1, phase2 and phase3 are", self.phase).into());
        }
        if self.commands {
            let commands: BTreeMap<&String, ()> =
                items.iter().filter_map(|item| Some((item.command.as_ref()?, ()))).collect();
            commands.keys().for_each(|command| println!("{command}"));
            return Ok(Verdict::Met);
        }
        let (page, verdict) = self.page(&items)?;
        println!("{page}");
        Ok(verdict)
    }

    fn page(&self, items: &[Item]) -> Result<(String, Verdict), Failure> {
        let mut page = format!("# Acceptance, {}\n\n", self.phase);
        let (mut counts, mut lines) = (BTreeMap::<&str, usize>::new(), String::new());
        let mut worst = Verdict::Met;
        for item in items {
            let (ours, verdict, from) = match &item.test {
                Some(test) => ("a test".into(), "held by its test", format!("`{test}`")),
                None => {
                    let found = item.found(&self.results)?;
                    let verdict = item.verdict(found);
                    worst = worst.and(verdict);
                    let ours = found.map_or("-".into(), |found| format!("{} {}", figure(found), item.unit));
                    (ours, verdict.words(), format!("`{}`", item.command.as_deref().unwrap_or("-")))
                }
            };
            *counts.entry(verdict).or_default() += 1;
            let raw = item.file.as_ref().map_or("-".into(), |file| format!("bench/results/{file}"));
            writeln!(lines, "| {} | {} | {ours} | {verdict} | {from} | {raw} |", item.what, item.original)?;
        }
        let score: Vec<String> = counts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        writeln!(page, "Scorecard: {}.\n", score.join(", "))?;
        writeln!(page, "| what | the original | ours | verdict | command | raw |\n|---|---|---|---|---|---|")?;
        page += &lines;
        Ok((page, worst))
    }
}

/// With as many digits as say something.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 10.0 => format!("{value:.3}"),
        middle if middle < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("acceptance.toml")).expect("a file");
        toml::from_str::<Items>(&text).expect("valid").items
    }

    #[test]
    fn every_item_has_a_figure_with_a_bound_or_a_test() {
        for item in items() {
            let has_figure =
                item.command.is_some() && item.file.is_some() && (item.row.is_some() || item.field.is_some());
            let has_bound = item.at_most.is_some() != item.at_least.is_some();
            assert_eq!(item.test.is_none(), has_figure && has_bound, "{}", item.what);
        }
    }

    #[test]
    fn what_is_named_in_a_scenario_is_there() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for item in items() {
            let Some(file) = item.file.as_ref().and_then(|file| file.strip_prefix("scenarios/")) else { continue };
            let text = std::fs::read_to_string(scenarios.join(file).with_extension("toml")).expect(file);
            let scenario = crate::scenario::Scenario::parse(&text).expect(file);
            assert!(scenario.phases.iter().any(|phase| Some(&phase.name) == item.phase.as_ref()), "{}", item.what);
            assert!(scenario.groups.iter().any(|group| Some(&group.name) == item.group.as_ref()), "{}", item.what);
            let line = serde_json::to_value(record::tests::line("p", "g")).expect("written");
            assert!(line.get(item.field.as_deref().unwrap_or_default()).is_some(), "{}", item.what);
        }
    }

    #[test]
    fn an_item_without_its_record_is_not_measured() {
        let items = items();
        let item = items.iter().find(|item| item.file.is_some()).expect("one");
        let found = item.found(Path::new("/nowhere")).expect("no error");
        assert_eq!((found, item.verdict(found)), (None, Verdict::NotMeasured));
        assert_eq!(number(&serde_json::json!({"a": 2, "b": 3})), Some(5.0));
    }
}
