//! `corelane-bench acceptance PHASE`: what the original's final report promises, beside what was measured here.
//!
//! It measures nothing: `bench/acceptance.toml` and `bench/levels.toml` (`promise`) say in which record each figure
//! lies and which command makes it. What is held by a test and not by a figure is named with its command, and judged by
//! nobody here.
//!
//! Invariant: an item whose record is not there, or was made by a run that was shortened, is neither met nor missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::PathBuf,
};

use crate::{
    Failure,
    judge::Verdict,
    promise::{self, Area, Places, Promise, shown},
};

/// `corelane-bench acceptance`.
#[derive(clap::Args)]
pub struct Acceptance {
    /// phase1, phase2 or phase3.
    phase: String,
    /// What is promised, and where our figures are; repeatable.
    #[arg(long, default_values = ["bench/acceptance.toml", "bench/levels.toml"])]
    items: Vec<PathBuf>,
    /// Where the records are.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Print the commands that make the records of this phase, each once, and nothing else.
    #[arg(long)]
    commands: bool,
}

/// A promise, and how it stands.
struct Standing<'a> {
    promise: &'a Promise,
    found: Option<f64>,
    /// None of what a test holds.
    verdict: Option<Verdict>,
}

impl Standing<'_> {
    fn words(&self) -> &'static str {
        self.verdict.map_or("held by its test", Verdict::words)
    }
}

impl Acceptance {
    /// Prints the checklist, the scorecard and the table; the worst verdict of all items that have figures.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let mut items = Vec::new();
        for file in &self.items {
            items.extend(promise::read(file)?.into_iter().filter(|item| item.phases.contains(&self.phase)));
        }
        if items.is_empty() {
            return Err(format!("{:?} is no phase: phase1, phase2 and phase3 are", self.phase).into());
        }
        if self.commands {
            let commands: BTreeSet<&String> = items.iter().filter_map(|item| item.command.as_ref()).collect();
            commands.iter().for_each(|command| crate::record::show(command));
            return Ok(Verdict::Met);
        }
        let standings = items.iter().map(|item| self.standing(item)).collect::<Result<Vec<_>, _>>()?;
        crate::record::show(&page(&self.phase, &standings)?);
        Ok(standings.iter().filter_map(|standing| standing.verdict).fold(Verdict::Met, Verdict::and))
    }

    fn standing<'a>(&self, promise: &'a Promise) -> Result<Standing<'a>, Failure> {
        if promise.test.is_some() {
            return Ok(Standing { promise, found: None, verdict: None });
        }
        let places = Places { results: self.results.clone(), nine_nines: None };
        let found = promise.found(&places)?.filter(|found| found.scale >= 1.0).map(|found| found.value);
        Ok(Standing { promise, found, verdict: Some(promise.verdict(found)) })
    }
}

fn page(phase: &str, standings: &[Standing<'_>]) -> Result<String, Failure> {
    let mut page = format!("# Acceptance, {phase}\n\n## Checklist\n\n");
    for standing in standings {
        let mark = if standing.verdict == Some(Verdict::Met) { "x" } else { " " };
        let how = match (&standing.promise.test, standing.verdict) {
            (Some(test), _) => format!(": `{test}` tells"),
            (None, Some(Verdict::Met)) => String::new(),
            (None, _) => format!(": {}", standing.words()),
        };
        writeln!(page, "- [{mark}] {}{how}", standing.promise.what)?;
    }
    let mut areas = BTreeMap::<Area, BTreeMap<&str, usize>>::new();
    for standing in standings {
        *areas.entry(standing.promise.area).or_default().entry(standing.words()).or_default() += 1;
    }
    let columns = [Verdict::Met.words(), Verdict::Missed.words(), Verdict::NotMeasured.words(), "held by its test"];
    writeln!(page, "\n## Scorecard\n\n| | met | missed | not measured | held by its test |\n|---|---|---|---|---|")?;
    let of = |counts: &BTreeMap<&str, usize>| columns.map(|it| counts.get(it).copied().unwrap_or(0).to_string());
    for (area, counts) in &areas {
        writeln!(page, "| {} | {} |", area.words(), of(counts).join(" | "))?;
    }
    let mut all = BTreeMap::new();
    standings.iter().for_each(|standing| *all.entry(standing.words()).or_insert(0) += 1);
    writeln!(page, "| all | {} |", of(&all).join(" | "))?;
    writeln!(
        page,
        "\n## Master table\n\n| what | the original | ours | bound | margin | verdict | command | raw |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for standing in standings {
        let promise = standing.promise;
        let ours = match (&promise.test, standing.found) {
            (Some(_), _) => "a test".into(),
            (None, found) => found.map_or("-".into(), |found| format!("{} {}", shown(found), promise.unit)),
        };
        let margin = standing.found.and_then(|found| promise.margin(found));
        writeln!(
            page,
            "| {} | {} | {ours} | {} | {} | {} | `{}` | {} |",
            promise.what,
            promise.original,
            promise.bound(),
            margin.map_or("-".into(), |margin| format!("x {margin:.1}")),
            standing.words(),
            promise.command.as_ref().or(promise.test.as_ref()).map_or("-", String::as_str),
            promise.file.as_ref().map_or("-".into(), |file| format!("bench/results/{file}"))
        )?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promise::tests::{bounded, committed};

    #[test]
    fn a_page_counts_what_it_lists() {
        let (met, mut held) = (bounded("us", None, Some(100.0)), bounded("", None, None));
        held.test = Some("cargo test it".into());
        let standing = |promise, found: Option<f64>, verdict| Standing { promise, found, verdict };
        let standings = [
            standing(&met, Some(50.0), Some(met.verdict(Some(50.0)))),
            standing(&met, Some(150.0), Some(met.verdict(Some(150.0)))),
            standing(&met, None, Some(met.verdict(None))),
            standing(&held, None, None),
        ];
        let page = page("phase9", &standings).expect("written");
        assert!(page.contains("| all | 1 | 1 | 1 | 1 |") && page.contains("| CPU | 1 | 1 | 1 | 1 |"), "{page}");
        assert!(page.contains("- [x] w\n- [ ] w: **missed**\n- [ ] w: not measured\n- [ ] w: `cargo test it` tells"));
        assert!(page.contains("| w | o | 50 us | <= 100 us | x 2.0 | met | `-` |"), "{page}");
    }

    #[test]
    fn every_phase_has_items_and_none_has_another_name() {
        let items = committed();
        for phase in ["phase1", "phase2", "phase3"] {
            assert!(items.iter().any(|item| item.phases.iter().any(|of| of == phase)), "{phase}");
        }
        let known = |phase: &String| ["phase1", "phase2", "phase3"].contains(&phase.as_str());
        for item in &items {
            assert!(!item.phases.is_empty() && item.phases.iter().all(known), "{}", item.what);
        }
    }
}
