//! Makes the table of a ladder from its record.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{Record, rest::WATCHED, target};
use crate::{
    judge::{self, PAIRS_MIN, STEADY_MIN, WIDTH_MAX},
    rounds::table::{self, Compared},
};

/// The whole page.
pub fn page(record: &Record) -> String {
    let mut page = String::from("# Ladder\n\n");
    // Writing to a String cannot fail.
    let _ = head(&mut page, record);
    let _ = crate::target::section(&mut page, &record.targets);
    let compared = Compared {
        rungs: &record.rungs,
        comparisons: &record.comparisons,
        rounds: &record.rounds,
        limit: target::of_cost,
    };
    let _ = table::sections(&mut page, &compared);
    let _ = idle(&mut page, record);
    let _ = empty(&mut page, record);
    let _ = failures(&mut page, record);
    page
}

fn failures(page: &mut String, record: &Record) -> std::fmt::Result {
    let loaded = record.rounds.iter().map(|round| (round.scenario.title(), &round.rung, round.round, &round.failure));
    let idle = record.idle.iter().map(|round| ("idle".into(), &round.rung, round.round, &round.failure));
    table::failures(page, loaded.chain(idle))
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    record.environment.describe(page, "ladder")?;
    writeln!(
        page,
        "- Server on CPU {}, load on CPU {}, {} rounds of {} s per rung, interleaved; the floor answers {} bytes per line and {} per HTTP request{}",
        record.server_cpu,
        record.load_cpu,
        record.rounds_asked,
        record.seconds,
        record.floor_ndjson_reply_bytes,
        record.floor_http_reply_bytes,
        match record.floor_legacy_reply_bytes {
            0 => String::new(),
            bytes => format!(", {bytes} per HTTP request in a session"),
        }
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
