//! `corelane-bench model`: what the figures that were measured say of hosts that were not.
//!
//! It measures nothing: it reads the records of the ladder, of forwarding, of many sessions and of the registry, and
//! those of the original's scaling table as far as there are any (`scaling`), and writes `bench/MODEL.md`. Every line
//! says whether it was measured or computed, and from what.
//!
//! Invariant: a line is computed from lines above it and from constants that stand in it, so a reader can do the same
//! with a pencil.

mod scaling;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use crate::{
    Failure,
    judge::{self, Figure},
    rounds::{self, Round, Scenario},
};

/// `corelane-bench model`.
#[derive(clap::Args)]
pub struct Model {
    /// Where the records are.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Where the page goes; standard output if `-`.
    #[arg(long, default_value = "bench/MODEL.md")]
    out: PathBuf,
}

/// Messages a second that the original claims.
const CLAIM: f64 = 2.67e6;
/// Cores of the host that the design speaks of.
const CORES: f64 = 16.0;
/// Share of a core that is planned with: beyond, latency grows faster than load (the same 80 % as the original's SLO).
const PLANNED: f64 = 0.8;
/// Bytes of Ethernet (with preamble, check sum and gap), IPv4 and TCP (with timestamps) around a segment.
const SEGMENT: f64 = 38.0 + 20.0 + 32.0;
/// Of a host with 100 Gbit/s, one direction.
const NIC_BYTES: f64 = 100e9 / 8.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What is read from the ladder's record.
#[derive(serde::Deserialize)]
struct Ladder {
    environment: crate::observe::Environment,
    rounds: Vec<Round>,
}

/// What is read from the record of many sessions.
#[derive(serde::Deserialize)]
struct Sessions {
    sessions_asked: usize,
    set_up: crate::mass::Growth,
}

/// What is read from the record of forwarding.
#[derive(serde::Deserialize)]
struct Forwarding {
    rounds: Vec<Round>,
    targets: Vec<crate::target::Target>,
    crossing: Vec<Crossing>,
}

/// What is read of a record of the registry.
#[derive(serde::Deserialize)]
struct Registry {
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    what: String,
    value: f64,
}

impl Registry {
    /// The figure of the row that begins so.
    fn figure(&self, what: &str) -> Result<f64, Failure> {
        let found = self.rows.iter().find(|row| row.what.starts_with(what));
        Ok(found.ok_or_else(|| format!("no row of the registry begins with {what:?}"))?.value)
    }
}

/// All that the page is made from.
struct Records {
    ladder: Ladder,
    sessions: Sessions,
    forwarding: Forwarding,
    facts: Registry,
    core_ops: Registry,
    scale: Vec<scaling::Measured>,
}

impl Records {
    fn read(results: &Path) -> Result<Self, Failure> {
        Ok(Self {
            ladder: crate::record::read(&results.join("ladder.json"))?,
            sessions: crate::record::read(&results.join("sessions.json"))?,
            forwarding: crate::record::read(&results.join("forwarding.json"))?,
            facts: crate::record::read(&results.join("registry_facts.json"))?,
            core_ops: crate::record::read(&results.join("registry_core_ops.json"))?,
            scale: scaling::read(&results.join("scenarios"))?,
        })
    }
}

/// A round of calls that cross cores, or do not.
#[derive(serde::Deserialize)]
struct Crossing {
    kind: CrossingKind,
    report: Option<crate::tally::Report>,
}

#[derive(serde::Deserialize)]
struct CrossingKind {
    busy: bool,
    swapped: bool,
}

impl Crossing {
    /// CPU of a call that stays at its core, both cores busy.
    fn local(&self) -> Option<f64> {
        self.report.as_ref().filter(|_| self.kind.busy && !self.kind.swapped).and_then(judge::cpu)
    }
}

/// The lines of the page.
struct Lines(String);

impl Lines {
    fn line(&mut self, what: &str, value: String, how: &str) -> std::fmt::Result {
        writeln!(self.0, "| {what} | {value} | {how} |")
    }

    fn table(&mut self, title: &str) -> std::fmt::Result {
        writeln!(self.0, "\n## {title}\n\n| what | figure | measured or computed |\n|---|---|---|")
    }
}

fn middle(rounds: &[Round], scenario: &Scenario, rung: &str, figure: Figure) -> Result<f64, Failure> {
    let found = judge::median(&judge::values(&rounds::figures(rounds, scenario, rung, figure)));
    found.ok_or_else(|| format!("{rung} with {}: no round of it in the record", scenario.title()).into())
}

impl Model {
    /// Reads the records and writes the page.
    pub fn run(&self) -> Result<(), Failure> {
        let page = page(&Records::read(&self.results)?)?;
        if self.out.as_os_str() == "-" {
            println!("{page}");
        } else {
            std::fs::write(&self.out, page)?;
            eprintln!("written: {}", self.out.display());
        }
        Ok(())
    }
}

fn page(records: &Records) -> Result<String, Failure> {
    let Records { ladder, sessions, forwarding, .. } = records;
    let cost = |connections, depth, rung| {
        middle(&ladder.rounds, &Scenario { depth, ..Scenario::closed(connections) }, rung, judge::cpu)
    };
    let (few, many) = (64, 8000);
    let lines_deep = cost(few, 16, "b")?;
    let modern = [cost(few, 1, "c")?, cost(many, 1, "c")?];
    let legacy = [cost(few, 1, "d")?, cost(many, 1, "d")?];
    let lines = [cost(few, 1, "b")?, cost(many, 1, "b")?];
    let bytes = |of: Figure| middle(&ladder.rounds, &Scenario::closed(few), "c", of);
    let request = bytes(|report| Some(report.request_bytes as f64))?;
    let answer = bytes(|report| report.response_bytes)?;
    let forwarded = middle(&forwarding.rounds, &Scenario::closed(few), "all", judge::cpu)?;
    let crossing = forwarding.targets.iter().find(|target| target.what.starts_with("a call that crosses"));
    let crossing =
        crossing.and_then(|target| target.found).ok_or("forwarding.json has no ratio of calls that cross")?.value;
    // What a crossing adds, in us: the ratio is of calls that are forwarded as well.
    let local: Vec<f64> = forwarding.crossing.iter().filter_map(Crossing::local).collect();
    let hop = (crossing - 1.0) * judge::median(&local).ok_or("forwarding.json has no calls that stay at their core")?;
    let rss = sessions.set_up.server_rss_bytes_each.ok_or("sessions.json has no RSS")?;
    let slab = sessions.set_up.kernel_slab_bytes_each_both_ends.ok_or("sessions.json has no slab")? / 2.0;
    let storm = sessions.set_up.server_cpu_seconds.ok_or("sessions.json has no CPU time")?;

    let environment = &ladder.environment;
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let mut out = Lines(String::from("# Capacity model\n\n"));
    writeln!(
        out.0,
        "Made by `corelane-bench model` from `bench/results/{{ladder,sessions,forwarding,registry_facts,registry_core_ops}}.json` and \
         `scenarios/scale_*.jsonl`, which say where they come from; the ladder ran on {} x {}, kernel {}, commit {}. *Measured* figures are medians of that machine; *computed* \
         ones follow from them as written, and were seen by nobody.",
        environment.cores,
        or(&environment.cpu_model),
        or(&environment.kernel),
        or(&environment.commit)
    )?;

    out.table("What a call costs")?;
    let us = |value: f64| format!("{value:.2} us of one CPU");
    out.line("lines over TCP, 16 in flight on each of 64 connections", us(lines_deep), "measured (ladder, b)")?;
    for (name, costs, rung) in [
        ("lines over TCP", lines, "b"),
        ("HTTP, 2026-07-28", modern, "c"),
        ("HTTP, 2025-11-25, a session each", legacy, "d"),
    ] {
        out.line(
            &format!("{name}, one in flight, {few} connections"),
            us(costs[0]),
            &format!("measured (ladder, {rung})"),
        )?;
        out.line(
            &format!("{name}, one in flight, {many} connections"),
            us(costs[1]),
            &format!("measured (ladder, {rung})"),
        )?;
    }
    out.line("forwarded to a server behind `/mcp`, HTTP on both sides", us(forwarded), "measured (forwarding, all)")?;
    out.line(
        "a call whose session lives on another core",
        format!("x {crossing:.2}"),
        "measured (forwarding, crossing)",
    )?;
    out.line(
        "what crossing adds to it",
        us(hop),
        "computed: that ratio of a local call of the same rounds, which was forwarded as well",
    )?;

    rings(&mut out, records, hop)?;

    out.table("One core")?;
    let capacity = |cost: f64| 1e6 / cost;
    let rate = |calls: f64| format!("{} calls/s, {} messages/s", thousands(calls), thousands(2.0 * calls));
    out.line("lines, 16 in flight", rate(capacity(lines_deep)), "computed: 1 / CPU per call; a call is two messages")?;
    out.line(&format!("HTTP 2026-07-28, {many} connections"), rate(capacity(modern[1])), "computed: 1 / CPU per call")?;
    out.line(&format!("HTTP 2025-11-25, {many} connections"), rate(capacity(legacy[1])), "computed: 1 / CPU per call")?;
    out.line(
        "forwarded",
        rate(capacity(forwarded)),
        "computed: 1 / CPU per call; each is four messages, of which two are the caller's",
    )?;

    out.table(&format!("{} messages a second", thousands(CLAIM)))?;
    let cores = |cost: f64| {
        format!(
            "{:.2} cores ({:.0} at {:.0} % busy)",
            CLAIM / 2.0 * cost / 1e6,
            (CLAIM / 2.0 * cost / 1e6 / PLANNED).ceil(),
            PLANNED * 100.0
        )
    };
    out.line("16 in flight on each connection, lines", cores(lines_deep), "computed: calls x CPU per call")?;
    out.line("one in flight, lines", cores(lines[1]), "computed, of the cost at 8000 connections")?;
    out.line("one in flight, HTTP 2026-07-28", cores(modern[1]), "computed")?;
    out.line("one in flight, HTTP 2025-11-25", cores(legacy[1]), "computed")?;

    out.table(&format!("A host with {CORES:.0} cores, nothing pipelined"))?;
    let host = |cost: f64| CORES * PLANNED * capacity(cost);
    out.line(
        "HTTP 2026-07-28",
        rate(host(modern[1])),
        &format!(
            "computed: {CORES:.0} x {PLANNED} x one core; clients of this revision have no session, so no call crosses"
        ),
    )?;
    out.line(
        "HTTP 2025-11-25, sessions where their connections are",
        rate(host(legacy[1])),
        "computed; a client that keeps its connection keeps its core",
    )?;
    let crossed = legacy[1] + hop * (CORES - 1.0) / CORES;
    out.line(
        "HTTP 2025-11-25, each call from a new connection",
        rate(host(crossed)),
        &format!(
            "computed: {:.0} of {CORES:.0} calls cross, at {hop:.2} us each, without what connecting costs",
            CORES - 1.0
        ),
    )?;
    out.line("forwarded", rate(host(forwarded)), "computed")?;

    out.table("What bounds it besides the CPU")?;
    let in_bytes = request + SEGMENT;
    let out_bytes = answer + SEGMENT;
    out.line(
        "bytes of a call on the wire, in and out",
        format!("{in_bytes:.0} and {out_bytes:.0}"),
        &format!(
            "measured: {request:.0} and {answer:.0} of HTTP; computed: {SEGMENT:.0} of Ethernet, IP and TCP around each"
        ),
    )?;
    let wide = in_bytes.max(out_bytes);
    out.line("calls a second that 100 Gbit/s carry", thousands(NIC_BYTES / wide), "computed: the wider direction")?;
    out.line(
        "share of it that the host above uses",
        format!("{:.0} %", 100.0 * host(modern[1]) * wide / NIC_BYTES),
        "computed: the CPU bounds first if below 100 %",
    )?;
    out.line(
        "segments a second each way, of one core",
        thousands(capacity(modern[1])),
        "computed: one in and one out for a call, without batching; a network card's queue takes more",
    )?;

    out.table("Memory")?;
    out.line(
        "a session on a connection of its own, in the process",
        format!("{rss:.0} B"),
        &format!("measured at {} (sessions)", thousands(sessions.sessions_asked as f64)),
    )?;
    out.line(
        "its socket in the kernel, one end",
        format!("{slab:.0} B"),
        "measured: half of both ends' slab; buffers that hold bytes come on top",
    )?;
    for count in [100_000.0, 1_000_000.0] {
        out.line(
            &format!("{} connections, nearly idle", thousands(count)),
            format!(
                "{:.1} GiB: {:.2} in the process, {:.2} in the kernel",
                count * (rss + slab) / GIB,
                count * rss / GIB,
                count * slab / GIB
            ),
            "computed: per connection x connections",
        )?;
    }
    let held = 4096.0 + 16384.0;
    out.line(
        "1,000,000 connections of which 10 % have bytes waiting both ways",
        format!("{:.1} GiB", (1e6 * (rss + slab) + 1e5 * held) / GIB),
        &format!("computed: and {held:.0} B of socket buffers for each of those"),
    )?;
    out.line(
        "CPU time in which 100,000 sessions are set up",
        format!(
            "{:.1} s of one CPU; {:.2} s on {CORES:.0}",
            storm * 1e5 / sessions.sessions_asked as f64,
            storm * 1e5 / sessions.sessions_asked as f64 / CORES
        ),
        "measured; computed: divided by the cores",
    )?;

    scaling::table(&mut out, &records.scale, &scaling::Costs { call_us: legacy[1], session_bytes: rss })?;

    out.table("Ten such hosts")?;
    out.line(
        "HTTP 2026-07-28",
        rate(10.0 * host(modern[1])),
        "computed: ten times one; hosts share nothing, and whatever stands before them keeps a client at its host",
    )?;
    out.line(
        "connections at 64 GiB each, half of it for them",
        thousands(10.0 * 32.0 * GIB / (rss + slab)),
        "computed",
    )?;
    writeln!(
        out.0,
        "\nNot in the model: tools that take time themselves, TLS (done before corelane today), and a network card's interrupts, \
         which loopback does not have. A core's cost per call falls as it gets busier, because it sleeps and is woken less \
         often; the costs above are those of a busy one."
    )?;
    Ok(out.0)
}

/// What it costs that something crosses from one core to another.
fn rings(out: &mut Lines, records: &Records, hop: f64) -> Result<(), Failure> {
    let ring_ns = 1e9 / records.core_ops.figure("queue: message M into a ring")?;
    let waited = |what: &str| records.facts.figure(what);
    let (busy, asleep) =
        (waited("cross-core register p50, both cores busy")?, waited("cross-core register p50, cores asleep")?);
    out.table("A ring between two cores")?;
    out.line(
        "message M (175 bytes) into a ring and out again, on one thread",
        format!("{ring_ns:.0} ns of CPU"),
        "measured (registry_core_ops, queue): without the other core's cache",
    )?;
    out.line(
        "a request to another core and its answer, both cores busy",
        format!("{busy:.2} us, p50"),
        "measured (registry_facts, cross-core register)",
    )?;
    out.line("the same, cores asleep in between", format!("{asleep:.2} us, p50"), "measured (registry_facts)")?;
    out.line(
        "share of a forwarded call's crossing that is in the rings",
        format!("{:.0} %", 100.0 * 2.0 * ring_ns / 1e3 / hop),
        "computed: two parcels of what crossing adds, above; the rest is what both cores do with them",
    )?;
    out.line(
        "parcels a second that one core's rings carry",
        thousands(1e9 / ring_ns),
        "computed: 1 / CPU of one; a call that crosses takes two",
    )?;
    Ok(())
}

/// 1234567 as 1,234,567.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.round());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_what_its_records_give() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let records = Records::read(&root.join("results")).expect("records");
        let page = page(&records).expect("whole records");
        let written = std::fs::read_to_string(root.join("MODEL.md")).expect("there is a page");
        assert!(page == written, "bench/MODEL.md is not what `corelane-bench model` makes of bench/results now");
        assert!(
            page.lines()
                .filter(|line| line.starts_with("| "))
                .all(|line| { line.contains("measured") || line.contains("computed") })
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.0, 999.0, 1000.4, 2.67e6].map(thousands), ["0", "999", "1,000", "2,670,000"]);
    }
}
