//! The index of a set of flamegraphs, as one HTML page: each thread with what it was sampled doing, and how to do it
//! again.
//!
//! Invariant: the same record gives the same page; what comes from outside is escaped.

use std::fmt::{self, Write};

use super::{Record, Row};

const STYLE: &str = "body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }\n\
                     table { border-collapse: collapse } td, th { border: 1px solid #bbb; padding: .2em .7em }\n\
                     td { text-align: right } td:first-child, th:first-child { text-align: left }\n\
                     code { background: #f2f2f2; padding: 0 .2em }\n";

/// The whole page.
pub fn page(record: &Record) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut page, record);
    page
}

fn write(page: &mut String, record: &Record) -> fmt::Result {
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Flamegraphs by thread</title>"
    )?;
    writeln!(page, "<style>\n{STYLE}</style>\n<h1>Flamegraphs by thread</h1>")?;
    writeln!(
        page,
        "<p>Each graph holds the samples of one thread and of no other: its CPU time, not the time it waited. Wider is \
         more samples, above is who was called; orange is the kernel, yellow a Rust path, blue what was inlined, red C. \
         What of the standard library was inlined is drawn as its caller."
    )?;
    writeln!(page, "<table>\n<tr><th>thread<th>id<th>samples<th>on a CPU<th>kernel<th>user<th>stacks</tr>")?;
    for row in &record.threads {
        thread(page, row)?;
    }
    writeln!(page, "</table>\n<h2>Parts of the hot path</h2>\n<table>\n<tr><th>part")?;
    let drawn: Vec<&Row> = record.threads.iter().filter(|row| row.samples > 0).collect();
    for row in &drawn {
        write!(page, "<th>{}", escaped(&row.name))?;
    }
    writeln!(page, "</tr>")?;
    for (part, _) in super::Shares::default().named() {
        write!(page, "<tr><td>{part}")?;
        for row in &drawn {
            write!(page, "<td>{}", percent(row.parts.get(part).copied().unwrap_or(0), row.samples))?;
        }
        writeln!(page, "</tr>")?;
    }
    writeln!(page, "</table>\n<h2>How it was made</h2>\n<ul>")?;
    let own = [record.environment.command.join(" ")];
    for command in if record.made_by.is_empty() { &own[..] } else { &record.made_by } {
        writeln!(page, "<li><code>{}</code>", escaped(command))?;
    }
    if let Some((frequency, seconds)) = record.frequency.zip(record.seconds) {
        writeln!(page, "<li>{frequency} samples a second of each thread's CPU time, for {seconds} s")?;
    }
    writeln!(page, "<li>{}", escaped(&record.environment.machine()))?;
    writeln!(page, "<li>The same as JSON: <a href=\"flame.json\">flame.json</a>\n</ul>\n</html>")
}

fn thread(page: &mut String, row: &Row) -> fmt::Result {
    let name = escaped(&row.name);
    let on_cpu = row.on_cpu.map_or("-".into(), |share| format!("{:.0} %", share * 100.0));
    if row.samples == 0 {
        return writeln!(page, "<tr><td>{name}<td>{}<td>0<td>{on_cpu}<td>-<td>-<td>-</tr>", row.id);
    }
    writeln!(
        page,
        "<tr><td><a href=\"{name}.svg\">{name}</a><td>{}<td>{}<td>{on_cpu}<td>{}<td>{}<td><a \
         href=\"{name}.folded\">{name}.folded</a></tr>",
        row.id,
        row.samples,
        percent(row.kernel_samples, row.samples),
        percent(row.samples - row.kernel_samples, row.samples)
    )
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Environment;

    #[test]
    fn every_thread_is_linked_and_a_silent_one_is_told() {
        let row = |name: &str, samples| Row {
            name: name.into(),
            id: 7,
            samples,
            kernel_samples: samples / 4,
            on_cpu: Some(0.5),
            parts: [("kernel", samples / 4), ("parse", samples - samples / 4)].into(),
        };
        let record = Record {
            environment: Environment::now(),
            made_by: vec!["load --arguments '{\"a\":\"<b>\"}'".into()],
            frequency: Some(499),
            seconds: Some(2.0),
            threads: vec![row("corelane-0", 8), row("corelane-1", 0)],
        };
        let page = page(&record);
        assert!(page.contains("<a href=\"corelane-0.svg\">corelane-0</a><td>7<td>8<td>50 %<td>25.0 %<td>75.0 %"));
        assert!(
            page.contains("<tr><td>corelane-1<td>7<td>0<td>") && !page.contains("corelane-1.svg"),
            "nothing to link"
        );
        assert!(page.contains("<tr><td>parse<td>75.0 %</tr>"), "{page}");
        assert!(page.contains("load --arguments '{&quot;a&quot;:&quot;&lt;b&gt;&quot;}'"), "escaped");
        assert!(page.contains(&escaped(&record.environment.machine())));
    }
}
