//! `corelane-bench report`: the records of runs as one page of tables, and as one HTML page with plots.
//!
//! It reads records (`scenario::record`) and measures nothing. The HTML page needs nothing beside it: plots are SVG in
//! its text. Several records are laid over each other: before and after, or several scales.
//!
//! Invariant: everything on a page comes from the records and their histograms, so a page can be made again.

mod curves;
mod plot;

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use hdrhistogram::Histogram;

use crate::{
    Failure, hlog,
    scenario::{
        record::{self, Line, PhaseLine, Run, Second, Verdict},
        verdict::Judged,
    },
};

/// `corelane-bench report`.
#[derive(clap::Args)]
pub struct Report {
    /// Records: NAME.jsonl as `corelane-bench run` writes them, each with its NAME.hlog beside it.
    #[arg(required = true)]
    records: Vec<PathBuf>,
    /// Where the HTML page goes; beside the first record unless given.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Where the tables go as Markdown; standard output unless given.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// A record that was read.
struct Taken {
    name: String,
    run: Run,
    seconds: Vec<Second>,
    phases: Vec<PhaseLine>,
    verdict: Verdict,
    /// By `phase/group`, all seconds of the phase together.
    histograms: BTreeMap<String, Histogram<u64>>,
}

impl Report {
    /// Writes the pages; fails if a record is not whole.
    pub fn run(&self) -> Result<(), Failure> {
        let pages = Pages::of(&self.records, "")?;
        match &self.markdown {
            Some(file) => fs::write(file, &pages.markdown)?,
            None => crate::record::show(&pages.markdown),
        }
        let html = self.html.clone().unwrap_or_else(|| self.records[0].with_extension("html"));
        fs::write(&html, pages.html)?;
        eprintln!("written: {}", html.display());
        Ok(())
    }
}

/// Records as pages.
pub struct Pages {
    pub markdown: String,
    pub html: String,
}

impl Pages {
    /// Of these records, with something in front of their tables; fails if a record is not whole.
    pub fn of(records: &[PathBuf], preface: &str) -> Result<Self, Failure> {
        let mut taken = records.iter().map(|file| take(file)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> = taken.iter().map(|taken| taken.name.clone()).collect();
        for (taken, file) in taken.iter_mut().zip(records) {
            // Before and after: of one name, told apart by where they are.
            if names.iter().filter(|name| **name == taken.name).count() > 1 {
                taken.name = file.with_extension("").display().to_string();
            }
        }
        let markdown = preface.to_owned() + &tables(&taken)?;
        Ok(Self { html: page(&taken, &markdown)?, markdown })
    }
}

fn take(file: &Path) -> Result<Taken, Failure> {
    let (mut run, mut seconds, mut phases, mut verdict) = (None, Vec::new(), Vec::new(), None);
    for line in record::read(file)? {
        match line {
            Line::Run(line) => run = Some(*line),
            Line::Second(line) => seconds.push(line),
            Line::Phase(line) => phases.push(*line),
            Line::Verdict(line) => verdict = Some(line),
        }
    }
    let missing = |what: &str| format!("{}: no line of kind {what}: the run did not end", file.display());
    is_whole(file, &phases, verdict.as_ref())?;
    Ok(Taken {
        name: file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        run: run.ok_or_else(|| missing("run"))?,
        seconds,
        phases,
        verdict: verdict.ok_or_else(|| missing("verdict"))?,
        histograms: sums(&hlog::read(&file.with_extension("hlog"))?)?,
    })
}

/// What a record must say of every phase in which there was something to say: a figure that is missing is an error.
fn is_whole(file: &Path, phases: &[PhaseLine], verdict: Option<&Verdict>) -> Result<(), Failure> {
    let sees_server = phases.iter().any(|line| line.memory_rss_mib_per_node.is_some());
    for line in phases {
        let called = line.latency_us.is_some();
        let absent = [
            ("latency_p50_us", called && line.latency_p50_us.is_none()),
            ("latency_p95_us", called && line.latency_p95_us.is_none()),
            ("latency_p99_us", called && line.latency_p99_us.is_none()),
            ("latency_p999_us", called && line.latency_p999_us.is_none()),
            ("memory_rss_mib_per_node", sees_server && line.memory_rss_mib_per_node.is_none()),
            (
                "memory_heap_mib_per_conn",
                sees_server && line.connections_open > 0 && line.memory_heap_mib_per_conn.is_none(),
            ),
            ("cpu_percent", sees_server && line.cpu_percent.is_none()),
        ];
        if let Some((name, _)) = absent.iter().find(|(_, absent)| *absent) {
            return Err(format!("{}: {}/{} has no {name}", file.display(), line.phase, line.group).into());
        }
    }
    // A figure that nothing was measured of must not pass, whatever wrote the record.
    match verdict
        .into_iter()
        .flat_map(|verdict| &verdict.conditions)
        .find(|judged| judged.met && judged.found.is_none())
    {
        Some(judged) => {
            Err(format!("{}: {:?} is met without a figure", file.display(), judged.condition.figure).into())
        }
        None => Ok(()),
    }
}

/// The histograms by their tags, those of one tag added up.
fn sums(entries: &[hlog::Entry]) -> Result<BTreeMap<String, Histogram<u64>>, Failure> {
    let mut sums = BTreeMap::new();
    for entry in entries {
        // Three digits, and as wide as it must become.
        let sum =
            sums.entry(entry.tag.clone()).or_insert_with(|| Histogram::new(3).expect("three digits are possible"));
        *sum += entry.histogram()?;
    }
    Ok(sums)
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// How many times better than its bound a figure is; below 1 it is worse.
fn margin(judged: &Judged) -> String {
    let Some(found) = judged.found else { return "-".into() };
    let of = |least: Option<f64>, most: Option<f64>| match (least, most) {
        (Some(least), None) if least > 0.0 => Some(found / least),
        (None, Some(most)) if most > 0.0 && found > 0.0 => Some(most / found),
        _ => None,
    };
    of(judged.condition.at_least, judged.condition.at_most).map_or("-".into(), |times| format!("x {times:.1}"))
}

fn kinds(kinds: &BTreeMap<String, u64>) -> String {
    if kinds.is_empty() {
        return "none".into();
    }
    kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

fn tables(all: &[Taken]) -> Result<String, Failure> {
    let mut page = String::new();
    for taken in all {
        let (run, environment) = (&taken.run, &taken.run.environment);
        writeln!(page, "# {}\n\n{}.\n", taken.name, run.scenario.about)?;
        writeln!(page, "- Command: `{}`", environment.command.join(" "))?;
        writeln!(
            page,
            "- Server: {}",
            run.server.as_ref().map_or("one that ran already".into(), |it| format!("`{it}`"))
        )?;
        writeln!(
            page,
            "- {}, load average at the start {}, {} generator threads in {} processes, times x {}",
            environment.place(),
            or_dash(environment.load_average, 2),
            run.threads,
            run.processes,
            run.scale
        )?;
        if !run.scenario.settings.is_empty() {
            let settings: Vec<_> =
                run.scenario.settings.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
            writeln!(page, "- The server's settings, otherwise its defaults: {}", settings.join(", "))?;
        }
        if let Some(source) = &run.scenario.source {
            writeln!(page, "- Figures from: {source}")?;
        }
        writeln!(page, "\n**{}**\n", if taken.verdict.passed { "passed" } else { "FAILED" })?;
        writeln!(page, "| must hold | where | found | at least | at most | margin | |\n|---|---|---|---|---|---|---|")?;
        for judged in &taken.verdict.conditions {
            let condition = &judged.condition;
            let of = |name: &Option<String>| name.clone().unwrap_or_else(|| "all".into());
            writeln!(
                page,
                "| {} | {}, {} | {} | {} | {} | {} | {} |",
                serde_json::to_value(condition.figure)?.as_str().unwrap_or_default(),
                of(&condition.phase),
                of(&condition.group),
                or_dash(judged.found, 3),
                condition.at_least.map_or("-".into(), |bound| bound.to_string()),
                condition.at_most.map_or("-".into(), |bound| bound.to_string()),
                margin(judged),
                if judged.met { "met" } else { "**missed**" }
            )?;
        }
        writeln!(
            page,
            "\n| phase, group | s | due | right | calls/s | p50 us | p95 | p99 | p99.9 | max | connections | errors | refused, \
             lost | server CPU % | us/call | RSS MiB | RSS B each | generator CPU % | its lag p99 us |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for line in &taken.phases {
            writeln!(
                page,
                "| {}, {} | {:.1} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}; {} | {} | {} | {} | {} | {} | {} |",
                line.phase,
                line.group,
                line.duration_s,
                line.offered,
                line.succeeded,
                or_dash(rate(line), 0),
                or_dash(line.latency_p50_us, 0),
                or_dash(line.latency_p95_us, 0),
                or_dash(line.latency_p99_us, 0),
                or_dash(line.latency_p999_us, 0),
                or_dash(line.latency_us.as_ref().map(|latency| latency.max), 0),
                line.connections_open,
                kinds(&line.errors),
                kinds(&line.connections_refused),
                kinds(&line.connections_lost),
                or_dash(line.cpu_percent, 1),
                or_dash(line.cpu_us_per_call, 2),
                or_dash(line.memory_rss_mib_per_node, 1),
                or_dash(line.server_rss_bytes_each, 0),
                or_dash(line.generator_cpu_percent, 1),
                or_dash(line.send_lag_us.as_ref().map(|lag| lag.p99), 0),
            )?;
        }
        writeln!(
            page,
            "\nKernel: {}\n",
            run.tuning.iter().map(|(k, v)| format!("{k} = {v}")).collect::<Vec<_>>().join("; ")
        )?;
    }
    if all.len() > 1 {
        beside(&mut page, all)?;
    }
    Ok(page)
}

/// Right answers a second; nothing of a phase that took no time.
fn rate(line: &PhaseLine) -> Option<f64> {
    (line.duration_s > 0.0).then(|| line.succeeded as f64 / line.duration_s)
}

/// A figure of a group in a phase: what it is, with how many digits it is told.
type Told = (&'static str, usize, fn(&PhaseLine) -> Option<f64>);

/// What is told of several records side by side.
const BESIDE: [Told; 8] = [
    ("calls/s", 0, rate),
    ("p50 us", 0, |line| line.latency_p50_us),
    ("p95 us", 0, |line| line.latency_p95_us),
    ("p99 us", 0, |line| line.latency_p99_us),
    ("p99.9 us", 0, |line| line.latency_p999_us),
    ("server CPU us/call", 2, |line| line.cpu_us_per_call),
    ("server RSS MiB", 1, |line| line.memory_rss_mib_per_node),
    ("RSS B each", 0, |line| line.server_rss_bytes_each),
];

/// The phases and groups that all have, and what each record says of them: before and after, in the order given.
fn beside(page: &mut String, all: &[Taken]) -> std::fmt::Result {
    let [first, others @ ..] = all else { return Ok(()) };
    let of = |taken: &'_ Taken, line: &PhaseLine| {
        let is_same = |other: &&PhaseLine| other.phase == line.phase && other.group == line.group;
        taken.phases.iter().position(|other| is_same(&other))
    };
    let names: Vec<&str> = all.iter().map(|taken| taken.name.as_str()).collect();
    let mut rows = String::new();
    for line in &first.phases {
        let lines: Option<Vec<&PhaseLine>> =
            others.iter().map(|taken| of(taken, line).map(|place| &taken.phases[place])).collect();
        let Some(lines) = lines else { continue };
        for (what, digits, figure) in BESIDE {
            let figures: Vec<_> = std::iter::once(line).chain(lines.iter().copied()).map(figure).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let ratio = figures.last().copied().flatten().zip(figures[0]).filter(|(_, base)| *base > 0.0);
            let cells: Vec<_> = figures.iter().map(|found| or_dash(*found, digits)).collect();
            let ratio = or_dash(ratio.map(|(last, base)| last / base), 3);
            writeln!(rows, "| {}, {} | {what} | {} | {ratio} |", line.phase, line.group, cells.join(" | "))?;
        }
    }
    writeln!(page, "# Side by side\n")?;
    if rows.is_empty() {
        return writeln!(
            page,
            "No phase and group is in all of these records; the plots lay over each other what they have.\n"
        );
    }
    writeln!(page, "| phase, group | figure | {} | last / first |", names.join(" | "))?;
    writeln!(page, "|---|---|{}---|\n{rows}", "---|".repeat(names.len()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The tables as HTML: headings, lists, tables and paragraphs, which is all that they are made of.
fn html_of(markdown: &str) -> String {
    let mut html = String::new();
    let (mut in_table, mut in_list) = (false, false);
    for line in markdown.lines() {
        let row = line.starts_with('|');
        if in_table && !row {
            html += "</table>\n";
        }
        if in_list && !line.starts_with("- ") {
            html += "</ul>\n";
        }
        let line = escaped(line);
        if row {
            if line.chars().all(|c| matches!(c, '|' | '-')) {
                continue;
            }
            html += if in_table { "" } else { "<table>\n" };
            let cell = if in_table { "td" } else { "th" };
            let cells =
                line.trim_matches('|').split('|').map(|text| format!("<{cell}>{}</{cell}>", marked(text.trim())));
            html += &format!("<tr>{}</tr>\n", cells.collect::<String>());
        } else if let Some(item) = line.strip_prefix("- ") {
            html += if in_list { "" } else { "<ul>\n" };
            html += &format!("<li>{}</li>\n", marked(item));
        } else if let Some(title) = line.strip_prefix("# ") {
            html += &format!("<h1>{title}</h1>\n");
        } else if !line.is_empty() {
            html += &format!("<p>{}</p>\n", marked(&line));
        }
        (in_table, in_list) = (row, line.starts_with("- "));
    }
    html
}

/// `code` and **strong** words.
fn marked(text: &str) -> String {
    let mut html = String::new();
    for (place, part) in text.split("**").enumerate() {
        let part = part.split('`').enumerate().map(|(place, part)| match place % 2 {
            0 => part.to_owned(),
            _ => format!("<code>{part}</code>"),
        });
        let part: String = part.collect();
        html += &if place % 2 == 1 { format!("<b>{part}</b>") } else { part };
    }
    html
}

fn page(all: &[Taken], tables: &str) -> Result<String, Failure> {
    let title = all.iter().map(|taken| taken.name.as_str()).collect::<Vec<_>>().join(", ");
    let charts = curves::charts(all)?;
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n<style>\n\
         body {{ font-family: sans-serif; margin: 2em; max-width: 100em }}\n\
         table {{ border-collapse: collapse; font-size: 85%; margin: 1em 0; display: block; overflow-x: auto }}\n\
         td, th {{ border: 1px solid #bbb; padding: 0.2em 0.5em; text-align: right }}\n\
         td:first-child, th:first-child {{ text-align: left }}\nsvg {{ display: block; margin-top: 1em }}\n.legend {{ font-size: 85%; max-width: 900px }}\n\
         </style></head><body>\n{}\n{}\n</body></html>\n",
        escaped(&title),
        html_of(tables),
        charts.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_html_and_nothing_in_them_becomes_markup() {
        let html = html_of(
            "# a\n\nwhat **must** hold.\n\n- Command: `x <y>`\n- two\n\n| h | i |\n|---|---|\n| 1 | <b> |\n\nend\n",
        );
        let expected = "<h1>a</h1>\n<p>what <b>must</b> hold.</p>\n<ul>\n<li>Command: <code>x &lt;y&gt;</code></li>\n\
                        <li>two</li>\n</ul>\n<table>\n<tr><th>h</th><th>i</th></tr>\n<tr><td>1</td><td>&lt;b&gt;</td></tr>\n\
                        </table>\n<p>end</p>\n";
        assert_eq!(html, expected);
    }

    #[test]
    fn what_stands_in_front_stands_on_both_pages() {
        let pages = Pages::of(&[], "# first\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n").expect("no records");
        assert!(pages.markdown.starts_with("# first") && pages.html.contains("<h1>first</h1>"), "{}", pages.html);
    }

    #[test]
    fn a_record_that_lacks_a_figure_is_refused() {
        let mut line = record::tests::line("p", "g");
        let whole = |line: &PhaseLine| is_whole(Path::new("r"), std::slice::from_ref(line), None);
        assert!(whole(&line).is_ok(), "nothing was called, and no server was seen");
        line.memory_rss_mib_per_node = Some(5.0);
        let error = whole(&line).expect_err("a server was seen").to_string();
        assert!(error.contains("cpu_percent") && error.contains("p/g"), "{error}");
        line.cpu_percent = Some(1.0);
        assert!(whole(&line).is_ok());
    }

    #[test]
    fn several_records_stand_side_by_side_in_tables_and_plots() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/scenarios");
        let read = |name: &str| take(&results.join(name)).expect("a whole record");
        let both = [read("scale_150.jsonl"), read("scale_1k.jsonl")];
        let tables = tables(&both).expect("written");
        let (_, table) = tables.split_once("# Side by side").expect("there are two");
        assert!(table.contains("| phase, group | figure | scale_150 | scale_1k | last / first |"), "{table}");
        assert!(table.contains("| measured, callers | calls/s | 2475 | 16500 | 6.667 |"), "{table}");
        assert!(table.contains("| measured, callers | RSS B each |"), "memory of a connection: {table}");
        let html = page(&both, &tables).expect("drawn");
        assert!(html.contains("<h1>Side by side</h1>") && html.matches("<svg").count() == 7, "{html:.400}");
        assert!(!super::tables(&both[..1]).expect("written").contains("Side by side"));
        let none = [read("scale_150.jsonl"), read("connections_1m.jsonl")];
        assert!(super::tables(&none).expect("written").contains("No phase and group is in all"));
    }
}
