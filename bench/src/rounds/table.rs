//! Makes the tables of rounds: for each load, what every rung did, and what the comparisons say.
//!
//! It measures nothing and adds nothing: every number is in the rounds or follows from them by `judge`.
//!
//! Invariant: the same rounds give the same text.

use std::fmt::Write;

use super::{Round, Scenario};
use crate::{
    judge::{self, Figure},
    tally::Report,
};

/// What was compared: the rungs, with what each is, and which of them with which.
pub struct Compared<'a> {
    pub rungs: &'a [(String, String)],
    pub comparisons: &'a [(String, String)],
    pub rounds: &'a [Round],
    /// The target of a ratio of CPU per call, if there is one.
    pub limit: fn(&str, &str, &Scenario) -> Option<f64>,
}

/// Writes a section for every scenario, in the order in which they ran.
pub fn sections(page: &mut String, compared: &Compared<'_>) -> std::fmt::Result {
    let mut scenarios: Vec<&Scenario> = Vec::new();
    for round in compared.rounds {
        if !scenarios.contains(&&round.scenario) {
            scenarios.push(&round.scenario);
        }
    }
    scenarios.into_iter().try_for_each(|scenario| section(page, compared, scenario))
}

fn section(page: &mut String, compared: &Compared<'_>, scenario: &Scenario) -> std::fmt::Result {
    writeln!(page, "\n## {}\n", scenario.title())?;
    if scenario.share.is_some() && scenario.pace.is_none() {
        writeln!(page, "What is compared runs at one rate, that of corelane's rung.\n")?;
    }
    writeln!(
        page,
        "| rung | what | CPU us/call (min - max) | capacity /s | asked /s | calls/s | p50 us | p99 us | p99.9 us | errors | generator busy |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for (rung, what) in compared.rungs {
        let runs: Vec<_> =
            compared.rounds.iter().filter(|round| round.scenario == *scenario && round.rung == *rung).collect();
        if runs.is_empty() {
            continue;
        }
        let all = |figure: Figure| judge::values(&super::figures(compared.rounds, scenario, rung, figure));
        let middle = |figure: Figure, digits: usize| {
            judge::median(&all(figure)).map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let costs = all(judge::cpu);
        let spread = costs.iter().copied().fold(None, |range: Option<(f64, f64)>, cost| {
            Some(range.map_or((cost, cost), |(low, high)| (low.min(cost), high.max(cost))))
        });
        let spread = spread.map_or(String::new(), |(low, high)| format!(" ({low:.2} - {high:.2})"));
        let capacity = judge::median(&costs).map_or("-".into(), |cost| format!("{:.0}", 1e6 / cost));
        let failed = runs.iter().filter(|run| run.report.is_none()).count();
        let errors: u64 =
            runs.iter().filter_map(|run| run.report.as_ref()).flat_map(|report| report.errors.values()).sum();
        let reports = || runs.iter().filter_map(|run| run.report.as_ref());
        let behind = reports().filter(|report| behind(report)).count();
        let mut errors = errors.to_string();
        if failed > 0 {
            write!(errors, "; {failed} rounds failed")?;
        }
        if behind > 0 {
            write!(errors, "; behind the rate in {behind} rounds")?;
        }
        if let Some(fewer) = reports().map(|report| report.connections).find(|&count| count != scenario.connections) {
            write!(errors, "; on {fewer} connections")?;
        }
        writeln!(
            page,
            "| {rung} | {what} | {}{spread} | {capacity} | {} | {} | {} | {} | {} | {errors} | {} % |",
            middle(judge::cpu, 2),
            middle(|report| report.rate_asked, 0),
            middle(|report| Some(report.calls_per_second), 0),
            middle(judge::p50, 0),
            middle(judge::p99, 0),
            middle(|report| report.latency_us.map(|latency| latency.p99_9), 0),
            middle(|report| Some(report.generator_cpu_share * 100.0), 0),
        )?;
    }
    delayed_acks(page, compared, scenario)?;
    comparisons(page, compared, scenario)
}

/// With thousands of connections a closed loop takes as long to come round as Linux delays an ACK, and what is a little
/// slower pays for many of them.
fn delayed_acks(page: &mut String, compared: &Compared<'_>, scenario: &Scenario) -> std::fmt::Result {
    let each = |report: &Report| {
        let acks = report.delayed_acks.filter(|_| report.ended_in_window > 0)?;
        Some(acks as f64 / report.ended_in_window as f64 * 100.0)
    };
    let of = |rung: &String| judge::median(&judge::values(&super::figures(compared.rounds, scenario, rung, each)));
    let found = compared.rungs.iter().filter_map(|(rung, _)| Some((rung, of(rung)?))).collect::<Vec<_>>();
    if found.iter().all(|(_, acks)| *acks < 1.0) {
        return Ok(());
    }
    let found: Vec<String> = found.iter().map(|(rung, acks)| format!("{rung} {acks:.0}")).collect();
    writeln!(page, "\nACKs that were sent alone, for each 100 calls: {}.", found.join(", "))
}

/// An open loop in which fewer than 98 in 100 of the calls asked for ended in the window: it was not at its rate.
fn behind(report: &Report) -> bool {
    report.rate_asked.is_some_and(|rate| report.calls_per_second < 0.98 * rate * offered_share(report, rate))
}

/// What a Poisson process offered, as a share of what its rate promises.
fn offered_share(report: &Report, rate: f64) -> f64 {
    report.offered.map_or(1.0, |offered| (offered as f64 / (rate * report.seconds)).min(1.0))
}

/// Writes down the rounds that gave no figure, and why: whoever reads a median is to know what is not in it. Each comes
/// as its load, its rung, its number from 0, and what failed if something did.
pub fn failures<'a>(
    page: &mut String,
    rounds: impl Iterator<Item = (String, &'a String, usize, &'a Option<String>)>,
) -> std::fmt::Result {
    let mut failed = rounds.filter_map(|(load, rung, round, why)| Some((load, rung, round, why.as_ref()?)));
    let Some(first) = failed.next() else { return Ok(()) };
    writeln!(page, "\n## Rounds that failed\n")?;
    std::iter::once(first).chain(failed).try_for_each(|(load, rung, round, why)| {
        writeln!(page, "- {rung}, {load}, round {}: {}", round + 1, why.replace('\n', " "))
    })
}

const COST: &str = "CPU per call";

fn comparisons(page: &mut String, compared: &Compared<'_>, scenario: &Scenario) -> std::fmt::Result {
    let mut figures: Vec<(&str, Figure)> = vec![(COST, judge::cpu)];
    if scenario.share.is_some() {
        figures.push(("p99", judge::p99));
    }
    let mut lines = String::new();
    for (this, that) in compared.comparisons {
        for (name, figure) in &figures {
            let of = |rung: &str| super::figures(compared.rounds, scenario, rung, *figure);
            if let Some(ratio) = judge::ratio(&of(this), &of(that)) {
                let limit = (compared.limit)(this, that, scenario).filter(|_| *name == COST);
                let (asked, verdict) = match limit {
                    Some(limit) => (format!("at most {limit:.2}"), ratio.at_most(limit).words()),
                    None => ("none".into(), ratio.against_one()),
                };
                writeln!(
                    lines,
                    "| {this} / {that} | {name} | {:.2} | {:.2} - {:.2} | {} | {asked} | {verdict} |",
                    ratio.value, ratio.low, ratio.high, ratio.rounds
                )?;
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n| comparison | of | ratio | 95 % | pairs | target | verdict |\n|---|---|---|---|---|---|---|")?;
    page.write_str(&lines)
}
