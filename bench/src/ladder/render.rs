//! Makes the table of a ladder from its record.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{
    Record, Scenario,
    judge::{self, Figure, PAIRS_MIN, WIDTH_MAX},
};
use crate::tally::Report;

/// The whole page.
pub fn table(record: &Record) -> String {
    let mut page = String::from("# Ladder\n\n");
    // Writing to a String cannot fail.
    let _ = head(&mut page, record);
    let mut scenarios: Vec<&Scenario> = Vec::new();
    for round in &record.rounds {
        if !scenarios.contains(&&round.scenario) {
            scenarios.push(&round.scenario);
        }
    }
    for scenario in scenarios {
        let _ = section(&mut page, record, scenario);
    }
    page
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    let machine = &record.environment;
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    writeln!(page, "Made by `corelane-bench ladder --render` from the JSON beside it.\n")?;
    writeln!(page, "- Command: `{}`", machine.command.join(" "))?;
    writeln!(
        page,
        "- Commit {}, kernel {}, {} x {}, governor {}, load average at the start {}, at unix time {}",
        or(&machine.commit),
        or(&machine.kernel),
        machine.cores,
        or(&machine.cpu_model),
        or(&machine.governor),
        machine.load_average.map_or("unknown".into(), |load| load.to_string()),
        machine.unix_time
    )?;
    writeln!(
        page,
        "- Server on CPU {}, load on CPU {}, {} rounds of {} s per rung, interleaved; the floor answers {} bytes per line and {} per HTTP request",
        record.server_cpu,
        record.load_cpu,
        record.rounds_asked,
        record.seconds,
        record.floor_ndjson_reply_bytes,
        record.floor_http_reply_bytes
    )?;
    writeln!(
        page,
        "- CPU per call is the server's own CPU time; capacity = 1 / CPU per call, since the generator may be the slower side. \
         Figures are medians over rounds. Ratios are of medians over pairs of rounds with a 95 % bootstrap interval; fewer than \
         {PAIRS_MIN} pairs, or an interval wider than {:.0} % of the ratio, are *undecided*. Latency under a closed loop only \
         says how long the queue was.",
        WIDTH_MAX * 100.0
    )
}

fn section(page: &mut String, record: &Record, scenario: &Scenario) -> std::fmt::Result {
    writeln!(page, "\n## {}\n", scenario.title())?;
    writeln!(
        page,
        "| rung | what | CPU us/call (min - max) | capacity /s | calls/s | p50 us | p99 us | p99.9 us | errors | generator busy |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|---|---|---|")?;
    for (rung, what) in &record.rungs {
        let runs: Vec<_> =
            record.rounds.iter().filter(|round| round.scenario == *scenario && round.rung == *rung).collect();
        if runs.is_empty() {
            continue;
        }
        let all = |figure: Figure| -> Vec<f64> {
            judge::figures(&record.rounds, scenario, rung, figure).into_iter().map(|(_, value)| value).collect()
        };
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
        writeln!(
            page,
            "| {rung} | {what} | {}{spread} | {capacity} | {} | {} | {} | {} | {errors} | {} % |",
            middle(judge::cpu, 2),
            middle(|report| Some(report.calls_per_second), 0),
            middle(|report| report.latency_us.map(|latency| latency.p50), 0),
            middle(judge::p99, 0),
            middle(|report| report.latency_us.map(|latency| latency.p99_9), 0),
            middle(|report| Some(report.generator_cpu_share * 100.0), 0),
        )?;
    }
    comparisons(page, record, scenario)
}

/// An open loop in which fewer than 98 in 100 of the calls asked for ended in the window: it was not at its rate.
fn behind(report: &Report) -> bool {
    report.rate_asked.is_some_and(|rate| report.calls_per_second < 0.98 * rate * offered_share(report, rate))
}

/// What a Poisson process offered, as a share of what its rate promises.
fn offered_share(report: &Report, rate: f64) -> f64 {
    report.offered.map_or(1.0, |offered| (offered as f64 / (rate * report.seconds)).min(1.0))
}

fn comparisons(page: &mut String, record: &Record, scenario: &Scenario) -> std::fmt::Result {
    let mut figures: Vec<(&str, Figure)> = vec![("CPU per call", judge::cpu)];
    if scenario.share.is_some() {
        figures.push(("p99", judge::p99));
    }
    let mut lines = String::new();
    for (this, that) in &record.comparisons {
        for (name, figure) in &figures {
            let of = |rung: &str| judge::figures(&record.rounds, scenario, rung, *figure);
            if let Some(ratio) = judge::ratio(&of(this), &of(that)) {
                writeln!(
                    lines,
                    "| {this} / {that} | {name} | {:.2} | {:.2} - {:.2} | {} | {} |",
                    ratio.value,
                    ratio.low,
                    ratio.high,
                    ratio.pairs,
                    ratio.verdict()
                )?;
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n| comparison | of | ratio | 95 % | pairs | verdict |\n|---|---|---|---|---|---|")?;
    page.write_str(&lines)
}
