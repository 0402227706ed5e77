//! The metrics of all cores together, and their export in the Prometheus text format 0.0.4.
//!
//! Not a collector: nothing is asked of a core, its cells are read. Invariant: HELP and TYPE stand once per family,
//! before its samples, and all samples of a family stand together.

use super::causes::{CloseCause, Refusal, Step};
use super::cores::{CoreMetrics, Kind, Metric};
use super::histogram::Snapshot;
use super::servers::{ServerRow, write_servers};
use super::shards::ShardMetrics;
use super::{LABEL_CAUSE, LABEL_CORE, LABEL_SHARD, LABEL_STEP};
use crate::ids::{CoreId, ShardId};
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

/// First and last exported histogram bound as powers of two of nanoseconds: 128 ns to 68.7 s.
const BOUND_FIRST: u32 = 7;
const BOUND_LAST: u32 = 36;

/// The metrics of every core, by core id.
#[derive(Debug)]
pub struct Registry {
    cores: Box<[Arc<CoreMetrics>]>,
    /// The servers behind the gateway, by name: read by whoever exports, set when they are chosen anew.
    servers: RwLock<Vec<Arc<ServerRow>>>,
}

impl Registry {
    /// Metrics for `cores` cores that own no shard, all zero.
    pub fn new(cores: usize) -> Registry {
        Registry::sharded(std::iter::repeat_n(0, cores))
    }

    /// Metrics for as many cores as there are numbers, each of which owns so many shards; all zero.
    pub fn sharded(shards: impl IntoIterator<Item = usize>) -> Registry {
        let mut first = 0;
        let own = |count: usize| {
            let core = CoreMetrics::owning(first, count as u16);
            first += count as u16;
            Arc::new(core)
        };
        Registry { cores: shards.into_iter().map(own).collect(), servers: RwLock::default() }
    }

    /// The metrics of every shard, in order, with the core that owns it.
    pub fn shards(&self) -> impl Iterator<Item = (CoreId, ShardId, &ShardMetrics)> {
        let cores = self.cores.iter().enumerate();
        cores.flat_map(|(core, metrics)| metrics.shards().map(move |(shard, own)| (CoreId(core as u16), shard, own)))
    }

    /// The servers behind the gateway, in order.
    pub fn servers(&self) -> Vec<Arc<ServerRow>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these are behind the gateway.
    pub fn set_servers(&self, servers: Vec<Arc<ServerRow>>) {
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// The metrics of one core.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn core(&self, core: CoreId) -> &Arc<CoreMetrics> {
        &self.cores[core.index()]
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// A metric over all cores: the sum, or for a peak the largest.
    pub fn total(&self, metric: Metric) -> u64 {
        let values = self.cores.iter().map(|core| core.value(metric));
        match metric.kind() {
            Kind::Counter | Kind::Gauge | Kind::SecondsTotal => values.sum(),
            Kind::Seconds => values.max().unwrap_or(0),
        }
    }

    /// Refusals for a cause over all cores.
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.cores.iter().map(|core| core.refused(cause)).sum()
    }

    /// Connections closed for a cause over all cores.
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.cores.iter().map(|core| core.closed(cause)).sum()
    }

    /// The histogram of a step over all cores.
    pub fn step(&self, step: Step) -> Snapshot {
        let mut all = Snapshot::default();
        for core in &self.cores {
            all.merge(&core.step(step).snapshot());
        }
        all
    }

    /// Appends everything in the Prometheus text format 0.0.4.
    pub fn export_prometheus(&self, out: &mut String) {
        // Writing to a String cannot fail, so the result of each `write!` is dropped here in one place.
        let _ = self.write_all(out);
    }

    fn write_all(&self, out: &mut String) -> std::fmt::Result {
        head(out, "corelane_build_info", "gauge", "Always 1; the version is in the label.")?;
        writeln!(out, "corelane_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))?;
        for metric in Metric::ALL {
            self.write_metric(out, *metric)?;
        }
        let family = "corelane_connections_closed_total";
        head(out, family, "counter", "Connections closed, by cause.")?;
        for (index, core) in self.cores.iter().enumerate() {
            for cause in CloseCause::ALL {
                let (label, value) = (cause.label(), core.closed(*cause));
                writeln!(out, "{family}{{{LABEL_CORE}=\"{index}\",{LABEL_CAUSE}=\"{label}\"}} {value}")?;
            }
        }
        let family = "corelane_refusals_total";
        head(out, family, "counter", "Requests and connections refused, by cause.")?;
        for (index, core) in self.cores.iter().enumerate() {
            for cause in Refusal::ALL {
                let (label, value) = (cause.label(), core.refused(*cause));
                writeln!(out, "{family}{{{LABEL_CORE}=\"{index}\",{LABEL_CAUSE}=\"{label}\"}} {value}")?;
            }
        }
        self.write_shards(out)?;
        write_servers(out, &self.servers())?;
        self.write_steps(out)
    }

    fn write_metric(&self, out: &mut String, metric: Metric) -> std::fmt::Result {
        let grows = matches!(metric.kind(), Kind::Counter | Kind::SecondsTotal);
        let kind = if grows { "counter" } else { "gauge" };
        head(out, metric.name(), kind, metric.help())?;
        for (index, core) in self.cores.iter().enumerate() {
            write!(out, "{}{{{LABEL_CORE}=\"{index}\"}} ", metric.name())?;
            match metric.kind() {
                Kind::Counter | Kind::Gauge => writeln!(out, "{}", core.value(metric))?,
                Kind::Seconds | Kind::SecondsTotal => writeln!(out, "{}", Seconds(core.value(metric)))?,
            }
        }
        Ok(())
    }

    fn write_shards(&self, out: &mut String) -> std::fmt::Result {
        type Value = fn(&ShardMetrics) -> u64;
        let families: [(&str, &str, &str, Value); 4] = [
            ("corelane_shard_sessions", "gauge", "Legacy sessions that live in the shard.", |own| own.sessions.get()),
            (
                "corelane_shard_connections",
                "gauge",
                "Connections of the shard's core that used one of its sessions last.",
                |own| own.connections.get(),
            ),
            (
                "corelane_shard_messages_total",
                "counter",
                "JSON-RPC messages that came for the shard's sessions.",
                |own| own.messages.get(),
            ),
            (
                "corelane_shard_queue_depth",
                "gauge",
                "Calls of the shard's sessions that wait for their outcome.",
                |own| own.queue_depth.get(),
            ),
        ];
        for (family, kind, help, value) in families {
            head(out, family, kind, help)?;
            for (core, shard, own) in self.shards() {
                let (core, shard, value) = (core.0, shard.0, value(own));
                writeln!(out, "{family}{{{LABEL_CORE}=\"{core}\",{LABEL_SHARD}=\"{shard}\"}} {value}")?;
            }
        }
        Ok(())
    }

    fn write_steps(&self, out: &mut String) -> std::fmt::Result {
        let family = "corelane_step_seconds";
        head(out, family, "histogram", "Time spent in each step of a request.")?;
        for (index, core) in self.cores.iter().enumerate() {
            for step in Step::ALL {
                let snapshot = core.step(*step).snapshot();
                let labels = format!("{LABEL_CORE}=\"{index}\",{LABEL_STEP}=\"{}\"", step.label());
                for (bound, below) in snapshot.cumulative(BOUND_FIRST, BOUND_LAST) {
                    writeln!(out, "{family}_bucket{{{labels},le=\"{}\"}} {below}", Seconds(bound))?;
                }
                writeln!(out, "{family}_bucket{{{labels},le=\"+Inf\"}} {}", snapshot.count())?;
                writeln!(out, "{family}_sum{{{labels}}} {}", Seconds(snapshot.sum()))?;
                writeln!(out, "{family}_count{{{labels}}} {}", snapshot.count())?;
            }
        }
        Ok(())
    }
}

/// Appends a counter that is no core's.
pub fn write_counter(out: &mut String, family: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = head(out, family, "counter", help).and_then(|()| writeln!(out, "{family} {value}"));
}

/// Appends a gauge that is no core's, a sample for each value of a label.
pub fn write_gauges<'l>(
    out: &mut String,
    family: &str,
    help: &str,
    label: &str,
    samples: impl Iterator<Item = (&'l str, u64)>,
) {
    // Writing to a String cannot fail.
    let _ = head(out, family, "gauge", help);
    for (value_of_label, value) in samples {
        let _ = writeln!(out, "{family}{{{label}=\"{value_of_label}\"}} {value}");
    }
}

pub(super) fn head(out: &mut String, family: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {family} {help}\n# TYPE {family} {kind}")
}

/// Nanoseconds shown as seconds, exactly: floating point would move bucket bounds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap, HashSet};

    type Samples = HashMap<(String, BTreeMap<String, String>), f64>;

    /// A strict reader of the format: panics on anything a scraper could stumble over.
    fn parse(text: &str) -> Samples {
        assert!(text.ends_with('\n'), "the last line ends with a newline");
        let (mut samples, mut types) = (Samples::new(), HashMap::new());
        let (mut helped, mut current) = (HashSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text follows the name");
                assert!(helped.insert(name.to_owned()), "HELP of {name} stands once");
                assert!(!help.is_empty());
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind follows the name");
                assert_eq!(name, current, "TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "TYPE of {name} stands once");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value follows the series");
                let (name, labels) =
                    series.strip_suffix('}').and_then(|s| s.split_once('{')).expect("labels in braces");
                let kind = &types[&current];
                let of_family = match kind.as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"].iter().any(|s| name == format!("{current}{s}")),
                    _ => name == current,
                };
                assert!(of_family, "{name} stands in the family {current}");
                let mut parsed = BTreeMap::new();
                for label in labels.split(',') {
                    let (key, quoted) = label.split_once('=').expect("label=value");
                    let value = quoted.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("quoted");
                    assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !value.contains(['"', '\\']));
                    assert!(parsed.insert(key.to_owned(), value.to_owned()).is_none(), "{key} stands once");
                }
                let value: f64 = value.parse().expect("a number");
                assert!(samples.insert((name.to_owned(), parsed), value).is_none(), "{series} stands once");
            }
        }
        samples
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_export_is_valid_and_says_what_was_counted() {
        let registry = Registry::sharded([3, 2]);
        let core = registry.core(CoreId(1));
        core.messages_in.add(3);
        let own = core.shard(ShardId(4)).expect("the last of the second core");
        own.sessions.add(2);
        own.messages.add(9);
        own.connections.add(5);
        own.queue_depth.add(1);
        core.longest_gap_ns.observe(1_500_000_000);
        core.long_gap_ns.add(1_750_000_000);
        core.refuse(Refusal::TableFull);
        core.close(CloseCause::PeerReset);
        for ns in [100, 200, 3_000, 1 << 40] {
            core.step(Step::Handle).record(ns);
        }
        let mut text = String::new();
        registry.export_prometheus(&mut text);
        let samples = parse(&text);
        let get = |name: &str, pairs: &[(&str, &str)]| samples[&(name.to_owned(), labels(pairs))];
        assert_eq!(get("corelane_messages_in_total", &[("core", "1")]), 3.0);
        assert_eq!(get("corelane_messages_in_total", &[("core", "0")]), 0.0);
        assert_eq!(get("corelane_longest_gap_seconds", &[("core", "1")]), 1.5);
        assert_eq!(get("corelane_long_gap_seconds_total", &[("core", "1")]), 1.75);
        assert_eq!(get("corelane_refusals_total", &[("core", "1"), ("cause", "table_full")]), 1.0);
        assert_eq!(get("corelane_connections_closed_total", &[("core", "1"), ("cause", "peer_reset")]), 1.0);
        let shard = [("core", "1"), ("shard", "4")];
        assert_eq!(get("corelane_shard_sessions", &shard), 2.0);
        assert_eq!(get("corelane_shard_connections", &shard), 5.0);
        assert_eq!(get("corelane_shard_messages_total", &shard), 9.0);
        assert_eq!(get("corelane_shard_queue_depth", &shard), 1.0);
        let others = [("core", "0"), ("shard", "2")];
        assert_eq!(get("corelane_shard_messages_total", &others), 0.0);
        let step = [("core", "1"), ("step", "handle")];
        assert_eq!(get("corelane_step_seconds_count", &step), 4.0);
        assert!((get("corelane_step_seconds_sum", &step) - 1099.5116).abs() < 0.001);
        let bucket = |le: &str| get("corelane_step_seconds_bucket", &[("core", "1"), ("step", "handle"), ("le", le)]);
        assert_eq!(bucket("0.000000127"), 1.0);
        assert_eq!(bucket("0.000000255"), 2.0);
        assert_eq!(bucket("68.719476735"), 3.0);
        assert_eq!(bucket("+Inf"), 4.0);
    }

    #[test]
    fn buckets_of_every_histogram_grow_and_end_at_the_count() {
        let registry = Registry::new(1);
        for ns in (0..60).map(|i| 1u64 << i) {
            registry.core(CoreId(0)).step(Step::Write).record(ns);
        }
        let mut text = String::new();
        registry.export_prometheus(&mut text);
        let mut last = 0.0;
        for line in text.lines().filter(|l| l.starts_with("corelane_step_seconds_bucket{core=\"0\",step=\"write\"")) {
            let value: f64 = line.rsplit_once(' ').expect("a value").1.parse().expect("a number");
            assert!(value >= last, "{line}");
            last = value;
        }
        assert_eq!(last, 60.0);
        assert_eq!(registry.step(Step::Write).count(), 60);
    }

    #[test]
    fn totals_add_counts_and_keep_the_largest_peak() {
        let registry = Registry::new(2);
        for core in 0..2 {
            registry.core(CoreId(core)).turns.add(10);
            registry.core(CoreId(core)).longest_gap_ns.observe(u64::from(core) + 5);
            registry.core(CoreId(core)).long_gap_ns.add(7);
        }
        assert_eq!(registry.total(Metric::Turns), 20);
        assert_eq!((registry.total(Metric::LongestGap), registry.total(Metric::LongGapTime)), (6, 14));
        assert_eq!(registry.cores(), 2);
    }

    #[test]
    fn a_reader_on_another_thread_sees_the_counts() {
        let registry = Arc::new(Registry::new(1));
        let writer = Arc::clone(registry.core(CoreId(0)));
        let writing = std::thread::spawn(move || {
            for ns in 0..10_000 {
                writer.turns.add(1);
                writer.step(Step::Read).record(ns);
            }
        });
        while !writing.is_finished() {
            let snapshot = registry.step(Step::Read);
            assert!(snapshot.quantile(1.0) <= 10_000 && snapshot.count() <= 10_000);
        }
        writing.join().expect("the writer ends");
        assert_eq!(registry.total(Metric::Turns), 10_000);
        assert_eq!(registry.step(Step::Read).count(), 10_000);
    }
}
