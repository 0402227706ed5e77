//! Makes the tables of the choices from their record.
//!
//! It measures nothing and adds nothing: every number is in the JSON or follows from it by `judge`.
//!
//! Invariant: the same record gives the same text.

use std::fmt::Write;

use super::{Asked, Record, Round};
use crate::judge::{self, Estimate, Figures, PAIRS_MIN, WIDTH_MAX};

type Figure = fn(&Round) -> Option<f64>;

/// Whether a figure is also given as a ratio.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Always,
    /// A closed loop's latency only says how long the queue was.
    InOpenLoops,
    Never,
}

/// What is shown of a run, and with how many digits.
const SHOWN: [(&str, usize, Compared, Figure); 5] = [
    ("CPU us/call", 2, Compared::Always, cpu),
    ("p50 us", 0, Compared::InOpenLoops, p50),
    ("p99 us", 0, Compared::InOpenLoops, p99),
    ("RSS after, MB", 1, Compared::Never, rss),
    ("RSS each, bytes", 0, Compared::Always, each),
];

fn cpu(round: &Round) -> Option<f64> {
    judge::cpu(round.load.as_ref()?)
}

fn p50(round: &Round) -> Option<f64> {
    judge::p50(round.load.as_ref()?)
}

fn p99(round: &Round) -> Option<f64> {
    judge::p99(round.load.as_ref()?)
}

fn rss(round: &Round) -> Option<f64> {
    let loaded = round.load.as_ref().and_then(|load| load.server?.rss_after_bytes);
    let idle = round.idle.as_ref().and_then(|idle| idle.server_rss_bytes_at_the_end);
    loaded.or(idle).map(|bytes| bytes as f64 / 1e6)
}

fn each(round: &Round) -> Option<f64> {
    round.idle.as_ref()?.idle.server_rss_bytes_each
}

impl Record {
    /// A figure of every round of a variant in a situation.
    pub(super) fn figures(
        &self,
        choice: &str,
        situation: &str,
        variant: &str,
        figure: impl Fn(&Round) -> Option<f64>,
    ) -> Figures {
        let chosen =
            |round: &&Round| round.choice == choice && round.situation == situation && round.variant == variant;
        self.rounds.iter().filter(chosen).filter_map(|round| Some((round.round, figure(round)?))).collect()
    }
}

/// The whole page.
pub fn table(record: &Record) -> String {
    let mut page = String::from("# Measured choices\n\n");
    // Writing to a String cannot fail.
    let _ = head(&mut page, record);
    for asked in &record.choices {
        let _ = choice(&mut page, record, asked);
    }
    if !record.parsers.is_empty() {
        let _ = parsers(&mut page, record);
    }
    page
}

fn head(page: &mut String, record: &Record) -> std::fmt::Result {
    record.environment.describe(page, "choices")?;
    writeln!(
        page,
        "- {} rounds of {} s for each variant, interleaved. Figures are medians over rounds; ratios are of medians over pairs \
         of rounds, against the first variant, with a 95 % bootstrap interval. Less or more needs the whole interval on that \
         side of 1 and at least {PAIRS_MIN} pairs; *no difference seen* an interval that holds 1 and is at most {:.0} % wide; \
         everything else is *undecided*.",
        record.rounds_asked,
        record.seconds,
        WIDTH_MAX * 100.0
    )
}

/// A ratio with its interval and what it says.
fn ratio(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".into(), |ratio| {
        format!("{:.2} ({:.2} - {:.2}) {}", ratio.value, ratio.low, ratio.high, ratio.against_one())
    })
}

fn choice(page: &mut String, record: &Record, asked: &Asked) -> std::fmt::Result {
    writeln!(page, "\n## {}\n\n{}", asked.name, asked.question)?;
    for situation in &asked.situations {
        let of = |variant: &str, figure: Figure| record.figures(&asked.name, situation, variant, figure);
        let measured = |figure: Figure| asked.variants.iter().any(|variant| !of(variant, figure).is_empty());
        let shown: Vec<_> = SHOWN.into_iter().filter(|&(.., figure)| measured(figure)).collect();
        let open = record
            .rounds
            .iter()
            .filter(|round| round.choice == asked.name && round.situation == *situation)
            .filter_map(|round| round.load.as_ref()?.rate_asked)
            .next();
        let compared: Vec<_> = shown
            .iter()
            .copied()
            .filter(|&(_, _, compared, _)| match compared {
                Compared::Always => true,
                Compared::InOpenLoops => open.is_some(),
                Compared::Never => false,
            })
            .collect();
        let rate = open.map_or(String::new(), |rate| format!(" ({rate:.0} calls/s)"));
        writeln!(page, "\n### {situation}{rate}\n")?;
        let names: Vec<String> = shown
            .iter()
            .map(|(name, ..)| (*name).to_string())
            .chain(compared.iter().map(|(name, ..)| format!("{name}, ratio")))
            .collect();
        writeln!(page, "| variant | {} | errors |", names.join(" | "))?;
        writeln!(page, "|---|{}---|", "---|".repeat(names.len()))?;
        for variant in &asked.variants {
            let mut cells: Vec<String> = shown
                .iter()
                .map(|&(_, digits, _, figure)| {
                    let middle = judge::median(&judge::values(&of(variant, figure)));
                    middle.map_or("-".into(), |value| format!("{value:.digits$}"))
                })
                .collect();
            cells.extend(compared.iter().map(|&(.., figure)| match &asked.variants[0] {
                base if base == variant => "1".into(),
                base => ratio(judge::ratio(&of(variant, figure), &of(base, figure))),
            }));
            writeln!(page, "| {variant} | {} | {} |", cells.join(" | "), errors(record, asked, situation, variant))?;
        }
    }
    Ok(())
}

fn errors(record: &Record, asked: &Asked, situation: &str, variant: &str) -> String {
    let count = |round: &Round| {
        let failed = f64::from(u8::from(round.failure.is_some()));
        let errors = round.load.as_ref().map_or(0, |load| load.errors.values().sum::<u64>());
        Some(failed + errors as f64)
    };
    let total: f64 = judge::values(&record.figures(&asked.name, situation, variant, count)).iter().sum();
    format!("{total:.0}")
}

fn parsers(page: &mut String, record: &Record) -> std::fmt::Result {
    writeln!(page, "\n## parsers\n")?;
    writeln!(
        page,
        "Arguments of a tool call into a Rust type: `serde_json` on the bytes as they are, `simd-json` on a copy with \
         buffers that are kept (it edits its input, and the message is still needed).\n"
    )?;
    writeln!(
        page,
        "| arguments | bytes | serde_json ns | simd-json ns | simd-json / serde_json |\n|---|---|---|---|---|"
    )?;
    for decoded in &record.parsers {
        let figures = |values: &[f64]| -> Figures { values.iter().copied().enumerate().collect() };
        let middle = |values: &[f64]| judge::median(values).map_or("-".into(), |value| format!("{value:.0}"));
        writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            decoded.what,
            decoded.bytes,
            middle(&decoded.serde_json_ns),
            middle(&decoded.simd_json_ns),
            ratio(judge::ratio(&figures(&decoded.simd_json_ns), &figures(&decoded.serde_json_ns)))
        )?;
    }
    Ok(())
}
