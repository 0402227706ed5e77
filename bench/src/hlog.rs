//! HDR interval logs: the histograms behind the percentiles of a result, in a file beside it.
//!
//! It measures nothing and knows no comparison. `registry-bench` has this file as a module of its own, so it names
//! nothing of either crate but `Failure`. Values are ns; each histogram is as HDR V2 has it, deflated, as text.
//!
//! Invariant: what is read back has the same counts in the same places, so every percentile is the one that was told.

use std::{
    fmt::Write,
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer, Serializer, V2DeflateSerializer,
        interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry},
    },
};

use crate::Failure;

/// A histogram: of what, and when. It is kept as the text that stands in the log, a hundredth of what its counts take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Without blanks and commas.
    pub tag: String,
    /// When it began, since the Unix epoch.
    pub at: Duration,
    pub length: Duration,
    max_ns: u64,
    text: String,
}

impl Entry {
    /// Of a histogram of ns; nothing if it is empty.
    pub fn of(tag: &str, at: Duration, length: Duration, histogram: &Histogram<u64>) -> Option<Self> {
        let mut bytes = Vec::new();
        // The buffer grows, so nothing can fail that is not a mistake of this program.
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a histogram can be written to memory");
        let (tag, max_ns, text) = (tag_of(tag), histogram.max(), STANDARD.encode(bytes));
        (!histogram.is_empty()).then_some(Self { tag, at, length, max_ns, text })
    }

    /// The same under the name of the run that it is of.
    pub fn under(&self, run: &str) -> Self {
        Self { tag: tag_of(&format!("{run}/{}", self.tag)), ..self.clone() }
    }

    /// The histogram.
    pub fn histogram(&self) -> Result<Histogram<u64>, Failure> {
        let told = |error: &dyn std::fmt::Display| format!("the histogram {}: {error}", self.tag);
        let bytes = STANDARD.decode(&self.text).map_err(|error| told(&error))?;
        Ok(Deserializer::new().deserialize(&mut &bytes[..]).map_err(|error| told(&error))?)
    }
}

/// A log's fields end at commas, and a tag at a blank.
fn tag_of(text: &str) -> String {
    text.replace([',', ' ', '\n', '\r'], "_")
}

/// How long ago the Unix epoch is.
pub fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Writes a log of what began at `begun`, in place of what was in the file.
pub fn write(file: &Path, begun: Duration, entries: &[Entry]) -> Result<(), Failure> {
    let mut text = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment("latencies in ns, in an open loop from the moment at which a call was due")
        .with_start_time(UNIX_EPOCH + begun)
        .with_base_time(UNIX_EPOCH + begun)
        // The log's third column is the largest value in ms.
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut text, &mut V2DeflateSerializer::new())?;
    let mut text = String::from_utf8(text)?;
    for Entry { tag, at, length, max_ns, text: histogram } in entries {
        let (at, length, max) = (at.saturating_sub(begun).as_secs_f64(), length.as_secs_f64(), *max_ns as f64 / 1e6);
        writeln!(text, "Tag={tag},{at:.3},{length:.3},{max:.3},{histogram}")?;
    }
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Reads a log's histograms, in their order.
pub fn read(file: &Path) -> Result<Vec<Entry>, Failure> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (mut begun, mut entries) = (Duration::ZERO, Vec::new());
    for entry in IntervalLogIterator::new(&text) {
        match entry.map_err(|error| format!("{}: {error:?}", file.display()))? {
            LogEntry::BaseTime(time) => begun = time,
            LogEntry::Interval(interval) => entries.push(Entry {
                tag: interval.tag().map_or_else(String::new, |tag| tag.as_str().to_owned()),
                at: begun + interval.start_timestamp(),
                length: interval.duration(),
                max_ns: (interval.max() * 1e6) as u64,
                text: interval.encoded_histogram().to_owned(),
            }),
            LogEntry::StartTime(_) => {}
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(ns: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("bounds");
        ns.for_each(|ns| histogram.saturating_record(ns));
        histogram
    }

    #[test]
    fn what_is_read_back_is_what_was_counted_when_it_was() {
        let file = std::env::temp_dir().join(format!("corelane-hlog-{}-{}.hlog", std::process::id(), module_path!()));
        let (begun, second) = (Duration::from_millis(1_795_859_983_250), Duration::from_secs(1));
        let [low, high] = [histogram((1..=5000).map(|us| us * 1000)), histogram((1..=9).map(|s| s * 9_876_543_210))];
        let entry = |tag, after, of| Entry::of(tag, begun + after, second, of).expect("it is not empty");
        let entries = [
            entry("64 connections, one call/b/1", second, &low),
            entry("64 connections, one call/b/1", second * 3, &high),
            entry("lag", second * 2, &high),
        ];
        assert_eq!(Entry::of("nothing", begun, second, &histogram(std::iter::empty())), None);
        write(&file, begun, &entries).expect("written");
        let back = read(&file).expect("read");
        std::fs::remove_file(&file).expect("it was there");
        assert_eq!(back.iter().map(|entry| &entry.text).collect::<Vec<_>>(), entries.each_ref().map(|it| &it.text));
        assert_eq!(
            back.iter().map(|entry| (entry.at, entry.length)).collect::<Vec<_>>(),
            [1, 3, 2].map(|after| { (begun + second * after, second) })
        );
        let tags: Vec<_> = back.iter().map(|entry| entry.tag.as_str()).collect();
        assert_eq!(tags, ["64_connections__one_call/b/1", "64_connections__one_call/b/1", "lag"]);
        for (entry, counted) in back.iter().zip([&low, &high, &high]) {
            assert_eq!(entry.histogram().expect("it can be read"), *counted);
        }
        assert_eq!(back[0].under("a b").tag, "a_b/64_connections__one_call/b/1");
    }

    #[test]
    fn what_is_no_histogram_is_an_error() {
        let broken = Entry { tag: "t".into(), text: "HISTnope".into(), ..Entry::default() };
        let error = broken.histogram().expect_err("it cannot be read").to_string();
        assert!(error.contains("the histogram t"), "{error}");
    }
}
