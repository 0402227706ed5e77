//! Makes the table of a ladder from its record.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{Record, Scenario, rest::WATCHED, target};
use crate::{
    judge::{self, Figure, PAIRS_MIN, STEADY_MIN, WIDTH_MAX},
    tally::Report,
};

/// The whole page.
pub fn table(record: &Record) -> String {
    let mut page = String::from("# Ladder\n\n");
    // Writing to a String cannot fail.
    let _ = head(&mut page, record);
    let _ = targets(&mut page, record);
    let mut scenarios: Vec<&Scenario> = Vec::new();
    for round in &record.rounds {
        if !scenarios.contains(&&round.scenario) {
            scenarios.push(&round.scenario);
        }
    }
    for scenario in scenarios {
        let _ = section(&mut page, record, scenario);
    }
    let _ = idle(&mut page, record);
    let _ = empty(&mut page, record);
    page
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    record.environment.describe(page, "ladder")?;
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
         Figures are medians over rounds. Ratios are of medians over pairs of rounds with a 95 % bootstrap interval. A target is \
         *met* or *missed* when the whole interval lies on that side of it, however wide it is, with at least {PAIRS_MIN} pairs \
         ({STEADY_MIN} rounds for memory and idleness, whose interval is least to most); else it is *undecided*. A comparison \
         without a target says whether the interval lies below or above 1; *no difference seen* needs one that holds 1 and is at \
         most {:.0} % wide. Latency under a closed loop only says how long the queue was.",
        WIDTH_MAX * 100.0
    )
}

fn targets(page: &mut String, record: &Record) -> std::fmt::Result {
    writeln!(page, "\n## Targets\n\n{}\n", target::summary(&record.targets))?;
    writeln!(page, "| target | at most | found | interval | verdict |\n|---|---|---|---|---|")?;
    for target in &record.targets {
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

fn section(page: &mut String, record: &Record, scenario: &Scenario) -> std::fmt::Result {
    writeln!(page, "\n## {}\n", scenario.title())?;
    if scenario.share.is_some() {
        writeln!(page, "What is compared runs at one rate, that of corelane's rung.\n")?;
    }
    writeln!(
        page,
        "| rung | what | CPU us/call (min - max) | capacity /s | asked /s | calls/s | p50 us | p99 us | p99.9 us | errors | generator busy |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for (rung, what) in &record.rungs {
        let runs: Vec<_> =
            record.rounds.iter().filter(|round| round.scenario == *scenario && round.rung == *rung).collect();
        if runs.is_empty() {
            continue;
        }
        let all = |figure: Figure| judge::values(&record.figures(scenario, rung, figure));
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

const COST: &str = "CPU per call";

fn comparisons(page: &mut String, record: &Record, scenario: &Scenario) -> std::fmt::Result {
    let mut figures: Vec<(&str, Figure)> = vec![(COST, judge::cpu)];
    if scenario.share.is_some() {
        figures.push(("p99", judge::p99));
    }
    let mut lines = String::new();
    for (this, that) in &record.comparisons {
        for (name, figure) in &figures {
            let of = |rung: &str| record.figures(scenario, rung, *figure);
            if let Some(ratio) = judge::ratio(&of(this), &of(that)) {
                let limit = target::of_cost(this, that, scenario).filter(|_| *name == COST);
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

fn idle(page: &mut String, record: &Record) -> std::fmt::Result {
    if record.idle.is_empty() {
        return Ok(());
    }
    let most =
        record.idle.iter().filter_map(|round| round.report.as_ref()).map(|report| report.connections_asked).max();
    writeln!(page, "\n## {} idle connections, each after one call\n", most.unwrap_or(0))?;
    writeln!(
        page,
        "| rung | what | RSS each, bytes (min - max) | RSS before, MB | RSS at the end, MB | kernel slab each, both ends, bytes | rounds |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|")?;
    for (rung, what) in &record.rungs {
        let runs: Vec<_> = record.idle.iter().filter(|round| round.rung == *rung).collect();
        if runs.is_empty() {
            continue;
        }
        let reports: Vec<_> = runs.iter().filter_map(|run| run.report.as_ref()).collect();
        let middle = |values: Vec<f64>, digits: usize| {
            judge::median(&values).map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let each: Vec<f64> = runs.iter().filter_map(|run| run.bytes_each()).collect();
        let spread = judge::steady(&each)
            .map_or("-".into(), |found| format!("{:.0} ({:.0} - {:.0})", found.value, found.low, found.high));
        let failed = runs.len() - reports.len();
        writeln!(
            page,
            "| {rung} | {what} | {spread} | {} | {} | {} | {}{} |",
            middle(reports.iter().filter_map(|report| Some(report.server_rss_bytes_before? as f64 / 1e6)).collect(), 1),
            middle(
                reports.iter().filter_map(|report| Some(report.server_rss_bytes_at_the_end? as f64 / 1e6)).collect(),
                1
            ),
            middle(reports.iter().filter_map(|report| report.idle.kernel_slab_bytes_each_both_ends).collect(), 0),
            reports.len(),
            if failed > 0 { format!("; {failed} failed") } else { String::new() }
        )?;
    }
    Ok(())
}

fn empty(page: &mut String, record: &Record) -> std::fmt::Result {
    let mut counts: Vec<usize> = record.empty.iter().map(|round| round.executors).collect();
    counts.sort_unstable();
    counts.dedup();
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## corelane without any connection\n")?;
    writeln!(page, "On all CPUs; more executors than CPUs share them.\n")?;
    writeln!(
        page,
        "| executors | watched for, s | CPU, % of one (min - max) | RSS, MB (min - max) |\n|---|---|---|---|"
    )?;
    for executors in counts {
        let of = |figure: fn(&super::EmptyRound) -> f64| -> Vec<f64> {
            record.empty.iter().filter(|round| round.executors == executors).map(figure).collect()
        };
        let shown = |values: Vec<f64>, digits: usize| {
            judge::steady(&values).map_or("-".into(), |found| {
                format!("{:.digits$} ({:.digits$} - {:.digits$})", found.value, found.low, found.high)
            })
        };
        let seconds = judge::median(&of(|round| round.seconds)).unwrap_or(0.0);
        // In a shorter watch most threads are not woken once.
        let cpu = if executors == WATCHED { of(|round| round.cpu_share * 100.0) } else { Vec::new() };
        let rss = of(|round| round.rss_bytes / 1e6);
        writeln!(page, "| {executors} | {seconds:.1} | {} | {} |", shown(cpu, 4), shown(rss, 1))?;
    }
    Ok(())
}
