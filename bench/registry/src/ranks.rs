//! Latencies as ranks: half of all, 95 of a hundred, and so on; and what is kept of them beside a result.
//!
//! Invariant: nanoseconds; a rank is a value that was measured, to three digits.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::hlog::{self, Entry};

/// Latencies of one kind of operation.
#[derive(Clone)]
pub struct Ranks(Histogram<u64>);

impl Default for Ranks {
    fn default() -> Ranks {
        Ranks(Histogram::new(3).expect("three digits are possible"))
    }
}

impl Ranks {
    /// Takes in one latency.
    pub fn record(&mut self, ns: u64) {
        // It grows as it has to, so nothing is out of its range.
        let _ = self.0.record(ns.max(1));
    }

    /// Takes in all of another.
    pub fn add(&mut self, other: &Ranks) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that so large a share stays within, in microseconds.
    pub fn us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// Their mean, in microseconds.
    pub fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// How many lie above one bound and within another.
    pub fn between(&self, above_us: f64, within_us: f64) -> u64 {
        let (low, high) = ((above_us * 1e3) as u64 + 1, (within_us * 1e3) as u64);
        self.0.count_between(low, high)
    }
}

/// The latencies behind the ranks of a result, which go to an HDR log beside it.
#[derive(Default)]
pub struct Kept(Vec<Entry>);

impl Kept {
    /// Keeps latencies under a name, once whatever they are of is over.
    pub fn keep(&mut self, what: &str, ranks: &Ranks) {
        // How long it took is not told: what is timed one by one has no window.
        self.0.extend(Entry::of(what, hlog::now(), Duration::ZERO, &ranks.0));
    }

    /// Adds what another process has written, under the name of its run; what cannot be read back is not kept.
    pub fn add(&mut self, run: &str, file: &Path) -> Result<(), Failure> {
        for entry in hlog::read(file)? {
            entry.histogram()?;
            self.0.push(entry.under(run));
        }
        Ok(())
    }

    /// Writes all to NAME.hlog, where the result is NAME.json or NAME.csv; `begun` in seconds since the Unix epoch.
    /// Nothing is written where no rank was told.
    pub fn write(&self, result: &Path, begun: u64) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        hlog::write(&result.with_extension("hlog"), Duration::from_secs(begun), &self.0)
    }
}
