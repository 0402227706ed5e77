//! Makes the page of forwarding from its record.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{Record, crossing, faults::Fault, target};
use crate::{
    judge::{self, PAIRS_MIN, STEADY_MIN},
    rounds::table::{self, Compared},
};

/// The whole page.
pub fn page(record: &Record) -> String {
    let mut page = String::from("# Forwarding\n\n");
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
    let _ = crossing(&mut page, record);
    let _ = sessions(&mut page, record);
    let _ = faults(&mut page, record);
    page
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    record.environment.describe(page, "forwarding")?;
    writeln!(
        page,
        "- Proxy (or floor) on CPU {}, upstream and load on CPU {}, {} rounds of {} s per rung, interleaved; the floor answers {} bytes",
        record.server_cpu, record.load_cpu, record.rounds_asked, record.seconds, record.floor_reply_bytes
    )?;
    writeln!(
        page,
        "- CPU per call is the proxy's own CPU time for one `tools/call` that goes on to the upstream and comes back: four messages. \
         Figures are medians over rounds. Ratios are of medians over pairs of rounds with a 95 % bootstrap interval. A target is \
         *met* or *missed* when the whole interval lies on that side of it, with at least {PAIRS_MIN} pairs ({STEADY_MIN} rounds \
         for memory, whose interval is least to most); else it is *undecided*. With one connection a CPU sleeps at every hop \
         between two: a forwarded call wakes two on its way and two on its way back, one to {} none, one to {} two.",
        super::DIRECT,
        super::FAR
    )?;
    for left_out in &record.left_out {
        writeln!(page, "- Left out: {left_out}")?;
    }
    Ok(())
}

fn crossing(page: &mut String, record: &Record) -> std::fmt::Result {
    if record.crossing.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## Calls in sessions of the other core\n")?;
    writeln!(
        page,
        "Two cores, legacy callers and a legacy upstream; the upstream on CPU {}, the load on CPU {}, both shared with corelane; a core is busy while it runs or waits for its CPU.\n",
        record.server_cpu, record.load_cpu
    )?;
    writeln!(
        page,
        "| load | CPU us/call (min - max) | crossed | calls/s | p50 us | p99 us | the less busy core | errors |\n|---|---|---|---|---|---|---|---|"
    )?;
    for kind in crossing::KINDS {
        let runs: Vec<_> = record.crossing.iter().filter(|round| round.kind == kind).collect();
        let middle = |figure: fn(&crossing::CrossingRound) -> Option<f64>, digits: usize| {
            let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
            judge::median(&values).map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let costs: Vec<f64> = runs.iter().filter_map(|run| run.cost()).collect();
        let spread =
            judge::steady(&costs).map_or(String::new(), |found| format!(" ({:.2} - {:.2})", found.low, found.high));
        let reports = || runs.iter().filter_map(|run| run.report.as_ref());
        let mut errors = reports().flat_map(|report| report.errors.values()).sum::<u64>().to_string();
        let failed = runs.len() - reports().count();
        if failed > 0 {
            write!(errors, "; {failed} rounds failed")?;
        }
        writeln!(
            page,
            "| {} | {}{spread} | {} % | {} | {} | {} | {} % | {errors} |",
            kind.title(),
            middle(crossing::CrossingRound::cost, 2),
            middle(|run| run.crossed.map(|share| share * 100.0), 1),
            middle(|run| run.report.as_ref().map(|report| report.calls_per_second), 0),
            middle(|run| judge::p50(run.report.as_ref()?), 0),
            middle(|run| judge::p99(run.report.as_ref()?), 0),
            middle(|run| run.least_busy().map(|share| share * 100.0), 0),
        )?;
    }
    Ok(())
}

fn sessions(page: &mut String, record: &Record) -> std::fmt::Result {
    if record.sessions.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## Sessions that are held\n")?;
    writeln!(page, "Two cores, legacy callers, each with a connection of its own and silent after one call.\n")?;
    writeln!(page, "| round | sessions | upstreams | RSS before, MB | RSS, MB | RSS / sessions | added by each |")?;
    writeln!(page, "|---|---|---|---|---|---|---|")?;
    for round in &record.sessions {
        if let Some(failure) = &round.failure {
            writeln!(page, "| {} | failed: {failure} | | | | | |", round.round + 1)?;
            continue;
        }
        let megabytes = |bytes: Option<u64>| bytes.map_or("-".into(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let bytes = |bytes: Option<f64>| bytes.map_or("-".into(), |bytes| format!("{bytes:.0} B"));
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            round.round + 1,
            round.sessions,
            round.upstreams,
            megabytes(round.rss_before_bytes),
            megabytes(round.rss_bytes),
            bytes(round.bytes_each()),
            bytes(round.grown_each())
        )?;
    }
    Ok(())
}

fn faults(page: &mut String, record: &Record) -> std::fmt::Result {
    if record.faults.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## Beside a server that fails\n")?;
    writeln!(
        page,
        "Calls of the good server, open loop; a few callers call the other one all the time, whether it fails or not.{}\n",
        if record.faults.iter().all(|round| round.real_time) {
            " Corelane, the good server and the load run by SCHED_FIFO, the other one and its callers by the usual scheduler: \
             what else runs on this machine is not waited for."
        } else {
            ""
        }
    )?;
    writeln!(page, "| the other | p99 us beside it | p99 us beside one that answers well | errors | rounds |")?;
    writeln!(page, "|---|---|---|---|---|")?;
    for fault in Fault::all() {
        let of = |fails: bool| record.faults.iter().filter(move |round| round.fault == fault && round.fails == fails);
        let p99 = |fails: bool| {
            let values: Vec<f64> = of(fails).filter_map(|round| judge::p99(round.report.as_ref()?)).collect();
            judge::median(&values).map_or("-".into(), |value| format!("{value:.0}"))
        };
        let reports = of(true).filter_map(|round| round.report.as_ref());
        let errors: u64 = reports.flat_map(|report| report.errors.values()).sum();
        let rounds = of(true).filter(|round| round.report.is_some()).count();
        writeln!(page, "| {} | {} | {} | {errors} | {rounds} |", fault.title(), p99(true), p99(false))?;
    }
    Ok(())
}
