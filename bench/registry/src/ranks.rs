//! Latencies as ranks: half of all, 95 of a hundred, and so on.
//!
//! Invariant: nanoseconds; a rank is a value that was measured, to three digits.

use hdrhistogram::Histogram;

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
