//! The curves of a page of records: what is drawn, over what.
//!
//! It draws nothing itself (`plot`), and adds nothing: every point is in a record or its histograms.
//!
//! Invariant: every record is in every chart that its figures allow, under its own name if there are several.

use hdrhistogram::Histogram;

use super::{
    Taken, escaped,
    plot::{Curve, Frame, chart},
};
use crate::{
    Failure,
    scenario::record::{Figures, Second},
};

/// A point of a curve, of a group in a second.
type Point<'a> = &'a dyn Fn(&Second, &Figures) -> Option<(f64, f64)>;

/// Memory of the server before the first connection, in bytes: of any phase all of it, less what each one added.
fn at_rest(taken: &Taken) -> Option<f64> {
    taken.phases.iter().find_map(|line| {
        let of_phase = taken.phases.iter().filter(|other| other.phase == line.phase);
        let open: u64 = of_phase.map(|other| other.connections_open).sum();
        Some(line.server_rss_bytes? as f64 - line.server_rss_bytes_each? * open as f64)
    })
}

/// Percentiles that a curve goes through, as 1 / (1 - quantile).
fn percentile_curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let most = (histogram.len() as f64).max(1.0);
    let mut points = Vec::new();
    let mut rarity: f64 = 1.0;
    while rarity <= most {
        let quantile = 1.0 - 1.0 / rarity;
        points.push((rarity, (histogram.value_at_quantile(quantile) as f64 / 1e3).max(0.1)));
        rarity *= 1.3;
    }
    points
}

/// How a rarity is written: 100 is the 99th percentile.
fn percentile(rarity: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / rarity.max(1.0));
    let digits = (rarity.log10().ceil() as usize).saturating_sub(2).min(6);
    format!("{percent:.digits$} %")
}

/// Every chart of a page, in order; records are laid over each other.
pub fn charts(all: &[Taken]) -> Result<Vec<String>, Failure> {
    let label = |taken: &Taken, name: &str| {
        escaped(&if all.len() > 1 { format!("{}: {name}", taken.name) } else { name.to_owned() })
    };
    let line = |name: String, points: Vec<(f64, f64)>| Curve { name, points, dots: false };
    let mut curves: [Vec<Curve>; 7] = Default::default();
    for taken in all {
        for (tag, histogram) in &taken.histograms {
            curves[0].push(line(label(taken, tag), percentile_curve(histogram)));
        }
        for group in &taken.run.scenario.groups {
            let of = |figure: Point<'_>| -> Vec<(f64, f64)> {
                let each = |second: &Second| figure(second, second.groups.get(&group.name)?);
                taken.seconds.iter().filter_map(each).collect()
            };
            for (name, which) in [("p50", 0), ("p99", 1), ("max", 2)] {
                let points = of(&|second, figures| {
                    let latency = figures.latency_us.as_ref()?;
                    Some((second.at_seconds, [latency.p50, latency.p99, latency.max][which].max(0.1)))
                });
                curves[1].push(line(label(taken, &format!("{} {name}", group.name)), points));
            }
            curves[2].push(line(
                label(taken, &format!("{} right", group.name)),
                of(&|second, figures| Some((second.at_seconds, figures.succeeded as f64))),
            ));
            let dots = |name: String, points: Vec<(f64, f64)>| Curve { name, points, dots: true };
            curves[3].push(dots(
                label(taken, &group.name),
                of(&|_, figures| (figures.offered > 0).then_some((figures.open as f64, figures.succeeded as f64))),
            ));
            curves[4].push(dots(
                label(taken, &group.name),
                of(&|_, figures| (figures.offered > 0).then_some((figures.offered as f64, figures.succeeded as f64))),
            ));
        }
        let open = |second: &Second| second.groups.values().map(|figures| figures.open).sum::<u64>() as f64;
        let points = |of: &dyn Fn(u64, f64) -> f64| -> Vec<(f64, f64)> {
            let point = |second: &Second| {
                let (open, rss) = (open(second), second.server_rss_bytes?);
                (open > 0.0).then(|| (open, of(rss, open)))
            };
            taken.seconds.iter().filter_map(point).collect()
        };
        let server = |points| Curve { name: label(taken, "server"), points, dots: true };
        curves[5].push(server(points(&|rss, _| rss as f64 / 1_048_576.0)));
        if let Some(rest) = at_rest(taken) {
            curves[6].push(server(points(&|rss, open| (rss as f64 - rest).max(0.0) / open)));
        }
    }
    let frames = [
        ("Latency by percentile", "percentile", "us", true, true),
        ("Latency over time", "s", "us", false, true),
        ("Right answers over time", "s", "calls/s", false, false),
        ("Right answers against connections", "connections up", "calls/s", false, false),
        ("Goodput against offered load", "calls due in a second", "right answers in that second", false, false),
        ("Memory against connections", "connections up", "server RSS, MiB", false, false),
        ("Memory per connection", "connections up", "growth of server RSS, bytes each", true, false),
    ];
    let draw = |(curves, (title, x, y, x_log, y_log)): (&Vec<Curve>, (&str, &str, &str, bool, bool))| {
        let x_shown = (x == "percentile").then_some(percentile as fn(f64) -> String);
        chart(&Frame { title, x, y, x_log, y_log, x_shown }, curves)
    };
    curves.iter().zip(frames).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{report::take, tally::LATENCY_MAX_NS};

    fn record(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("results/scenarios/{name}.jsonl"))
    }

    #[test]
    fn every_chart_is_there_and_has_both_records() {
        let all = ["scale_150", "scale_1k"].map(|name| take(&record(name)).expect("a whole record"));
        let charts = charts(&all).expect("drawn");
        let titles = [
            "Latency by percentile",
            "Latency over time",
            "Right answers over time",
            "Right answers against connections",
            "Goodput against offered load",
            "Memory against connections",
            "Memory per connection",
        ];
        assert_eq!(charts.len(), titles.len());
        for (chart, title) in charts.iter().zip(titles) {
            assert!(chart.starts_with("<svg") && chart.contains(title), "{title}: {chart:.200}");
            for name in ["scale_150: ", "scale_1k: "] {
                assert!(chart.contains(name), "{title} has nothing of {name}");
            }
        }
        let alone = super::charts(&all[..1]).expect("drawn");
        assert!(alone.iter().all(|chart| chart.starts_with("<svg") && !chart.contains("scale_150: ")));
    }

    #[test]
    fn memory_per_connection_is_what_connections_added() {
        let taken = take(&record("connections_100k")).expect("a whole record");
        let hold = taken.phases.iter().find(|line| line.phase == "hold").expect("it was held");
        let rest = at_rest(&taken).expect("the server was seen");
        let last = taken.seconds.last().and_then(|second| second.server_rss_bytes).expect("seen");
        let each = (last as f64 - rest) / hold.connections_open as f64;
        let told = hold.server_rss_bytes_each.expect("told");
        assert!(rest > 1e6 && (each - told).abs() < 0.02 * told, "{rest} at rest, {each} each, {told} told");
    }

    #[test]
    fn a_percentile_curve_ends_where_the_samples_do() {
        let mut histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("bounds");
        (1..=1000u64).for_each(|us| histogram.record(us * 1000).expect("in bounds"));
        let curve = percentile_curve(&histogram);
        assert!(curve.last().is_some_and(|&(rarity, us)| rarity <= 1000.0 && us > 990.0), "{:?}", curve.last());
        assert!(curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert_eq!(
            [percentile(1.0), percentile(2.0), percentile(100.0), percentile(1000.0)].join(" "),
            "0 % 50 % 99 % 99.9 %"
        );
    }
}
