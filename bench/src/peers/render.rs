//! Makes the page of peers from the record of one kind.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{CORELANE, Kind, Record, rest::RestRound, target};
use crate::{
    judge::{self, PAIRS_MIN, STEADY_MIN},
    rounds::{
        Scenario,
        table::{self, Compared},
    },
};

/// The whole page.
pub fn page(record: &Record) -> String {
    let mut page = format!("# Peers: {}\n\n", record.kind.name());
    let rungs: Vec<_> = record.chosen.iter().map(|chosen| (chosen.name.clone(), chosen.what.clone())).collect();
    let others = record.chosen.iter().filter(|chosen| chosen.name != CORELANE);
    let comparisons: Vec<_> = others.map(|other| (CORELANE.to_owned(), other.name.clone())).collect();
    // Writing to a String cannot fail.
    let _ = head(&mut page, record);
    let _ = crate::target::section(&mut page, &record.targets);
    let _ = table::sections(
        &mut page,
        &Compared { rungs: &rungs, comparisons: &comparisons, rounds: &record.rounds, limit: no_limit },
    );
    let _ = silent(&mut page, record);
    let _ = failures(&mut page, record);
    page
}

/// What is judged stands under the targets: here every peer is compared, ceilings too.
fn no_limit(_: &str, _: &str, _: &Scenario) -> Option<f64> {
    None
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    record.environment.describe(page, "peers")?;
    let behind = if record.kind == Kind::Forwarding { ", with the server behind the gateways," } else { "" };
    writeln!(
        page,
        "- Server or gateway confined to CPU {}, load{behind} on CPU {}, {} rounds of at least {} s, interleaved; the floor \
         answers {} bytes, or {} in a session",
        record.server_cpu, record.load_cpu, record.rounds_asked, record.seconds, record.floor.http, record.floor.legacy
    )?;
    writeln!(
        page,
        "- CPU per call is the server's or gateway's own CPU time for one `tools/call`; capacity = 1 / CPU per call: calls per \
         CPU second. {:.1} times as many as the best MCP peer are at most {:.2} of its CPU per call. Figures are medians over \
         rounds. Ratios are of medians over pairs of rounds with a 95 % bootstrap interval. A target is *met* or *missed* when \
         the whole interval lies on that side of it, with at least {PAIRS_MIN} pairs ({STEADY_MIN} rounds for memory, whose \
         interval is least to most); else it is *undecided*. Latency under a closed loop only says how long the queue was. \
         Ceilings do less than MCP asks, and nothing is judged against them.",
        record.kind.asked().0,
        target::limit(record)
    )?;
    for taken in &record.taken {
        if let Some(why) = &taken.why {
            writeln!(
                page,
                "- {} does not take {} connections and was measured on {}: {}",
                taken.peer,
                taken.asked,
                taken.connections,
                on_one_line(why)
            )?;
        }
    }
    for left_out in &record.left_out {
        writeln!(page, "- Left out: {}", on_one_line(left_out))?;
    }
    Ok(())
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn silent(page: &mut String, record: &Record) -> std::fmt::Result {
    if record.silent.is_empty() {
        return Ok(());
    }
    // A client that has called once did other work than setting up, so of those there is no rate.
    let (title, each, rates, rule) = match record.kind {
        Kind::ServingSessions => (
            "Sessions, each on a connection of its own",
            "session",
            " set up per second of server CPU | set up per second |",
            "---|---|",
        ),
        _ => ("Idle connections, each after one call", "idle connection", "", ""),
    };
    writeln!(page, "\n## {title}\n")?;
    writeln!(
        page,
        "| rung | what | held | RSS per {each}, bytes (min - max) |{rates} kernel slab each, both ends, bytes | rounds |\n\
         |---|---|---|---|{rule}---|---|"
    )?;
    for chosen in &record.chosen {
        let runs: Vec<&RestRound> = record.silent.iter().filter(|round| round.peer == chosen.name).collect();
        if runs.is_empty() {
            continue;
        }
        let grown: Vec<_> = runs.iter().filter_map(|run| run.growth.as_ref()).collect();
        let middle = |values: Vec<f64>| judge::median(&values).map_or("-".into(), |value| format!("{value:.0}"));
        let bytes: Vec<f64> = runs.iter().filter_map(|run| run.bytes_each()).collect();
        let spread = judge::steady(&bytes)
            .map_or("-".into(), |found| format!("{:.0} ({:.0} - {:.0})", found.value, found.low, found.high));
        let rates = match record.kind {
            Kind::ServingSessions => format!(
                " {} | {} |",
                middle(runs.iter().filter_map(|run| run.per_cpu_second()).collect()),
                middle(grown.iter().map(|growth| growth.per_second).collect())
            ),
            _ => String::new(),
        };
        let failed = runs.len() - grown.len();
        writeln!(
            page,
            "| {} | {} | {} | {spread} |{rates} {} | {}{} |",
            chosen.name,
            chosen.what,
            middle(grown.iter().map(|growth| growth.count as f64).collect()),
            middle(grown.iter().filter_map(|growth| growth.kernel_slab_bytes_each_both_ends).collect()),
            grown.len(),
            if failed > 0 { format!("; {failed} failed") } else { String::new() }
        )?;
    }
    Ok(())
}

fn failures(page: &mut String, record: &Record) -> std::fmt::Result {
    let loaded = record.rounds.iter().map(|round| (round.scenario.title(), &round.rung, round.round, &round.failure));
    let silent = record.silent.iter().map(|round| ("silent".into(), &round.peer, round.round, &round.failure));
    table::failures(page, loaded.chain(silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{
        target::tests::{blank, five, silent as held},
        trial::Taken,
    };

    /// The cells of the first row that begins with this rung, in the section of this title.
    fn row<'a>(page: &'a str, section: &str, rung: &str) -> Vec<&'a str> {
        let section = page.split("\n## ").find(|text| text.starts_with(section)).expect("such a section");
        let line = section.lines().find(|line| line.starts_with(&format!("| {rung} |"))).expect("such a row");
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn every_peer_has_its_row_and_what_kept_it_small_is_said() {
        let mut record = blank("serving-sessions");
        let scenario = Scenario::closed(1000);
        for (peer, cpu) in [("corelane", 10.0), ("quick", 100.0), ("nginx", 9.0)] {
            five(&mut record, &scenario, peer, cpu, 20.0);
        }
        let from = record.rounds.len();
        five(&mut record, &scenario, "slow", 5000.0, 20.0);
        for report in record.rounds[from..].iter_mut().filter_map(|round| round.report.as_mut()) {
            report.connections = 128;
        }
        let why = Some("it is\nslow".to_owned());
        record.taken.push(Taken { peer: "slow".into(), asked: 1000, connections: 128, calls_per_second: 200.0, why });
        record.left_out.push("fourth: not there".into());
        held(&mut record, "corelane", 2000.0);
        let paced = record.paced("slow", 1000).expect("both are known");
        five(&mut record, &paced, "corelane", 10.0, 5.0);
        record.targets = target::all(&record);
        let page = page(&record);

        let title = "1000 connections, one call in flight on each";
        let cells = row(&page, title, "corelane");
        assert_eq!(cells[1..4], ["1.0, one", "10.00 (9.99 - 10.01)", "100000"]);
        assert_eq!(cells[5..9], ["100000", "20", "20", "20"], "calls/s, p50, p99, p99.9");
        assert_eq!(row(&page, title, "slow")[9], "0; on 128 connections");
        assert_eq!(row(&page, title, "nginx")[3], "111111");
        let title = "corelane and slow: 128 connections, open loop at 160 calls/s, 80 % of slow's capacity";
        assert_eq!(row(&page, title, "corelane")[4], "160");
        let cells = row(&page, "Sessions, each on", "corelane");
        assert_eq!(cells[2..6], ["1000", "2000 (2000 - 2000)", "2000", "1000"]);
        let said = "slow does not take 1000 connections and was measured on 128: it is slow";
        assert!(page.contains(said) && page.contains("Left out: fourth: not there"), "{page}");
        assert!(page.contains("corelane-bench peers --render"), "whoever reads it can make it again");
    }
}
