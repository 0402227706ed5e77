//! A latency histogram with fixed log-linear buckets: one core records, any thread takes a snapshot.
//!
//! Not resizable and not exact: 32 buckets per power of two, so a bucket is at most 1/32 (3.2 %) wide. Values are
//! nanoseconds from 0 to 2^36 - 1 (68.7 s); longer ones fall into the last bucket, and `max` keeps them exact.
//! Invariant: every value has exactly one bucket and buckets tile the range in order, so the count is their sum.

use super::cells::{Counter, Peak};

/// Sub-buckets per power of two, as bits.
const PRECISION_BITS: u32 = 5;
const SUB_BUCKETS: usize = 1 << PRECISION_BITS;
/// Values of this many bits and fewer have a bucket of their own.
const VALUE_BITS: u32 = 36;
/// Buckets in a histogram: 32 linear ones, then 32 for each further power of two.
pub const BUCKETS: usize = SUB_BUCKETS * (VALUE_BITS - PRECISION_BITS + 1) as usize;
/// Largest value that has a bucket of its own, in nanoseconds.
pub const VALUE_NS_MAX: u64 = (1 << VALUE_BITS) - 1;

const _: () = assert!(BUCKETS == 1024, "a histogram is 8 KiB; change the arithmetic of memory with it");

/// The recording side: 8 KiB of single-writer cells.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter; BUCKETS]>,
    sum: Counter,
    max: Peak,
}

/// What a histogram held at one moment; mergeable with those of other cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

/// The bucket of a value.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let ns = ns.min(VALUE_NS_MAX);
    if ns < SUB_BUCKETS as u64 {
        return ns as usize;
    }
    let exponent = ns.ilog2();
    let within = (ns >> (exponent - PRECISION_BITS)) as usize & (SUB_BUCKETS - 1);
    SUB_BUCKETS * (exponent - PRECISION_BITS + 1) as usize + within
}

/// The largest value of a bucket.
fn bucket_top(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let shift = (index / SUB_BUCKETS - 1) as u32;
    let within = (index % SUB_BUCKETS + SUB_BUCKETS) as u64;
    ((within + 1) << shift) - 1
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets: Vec<Counter> = std::iter::repeat_with(Counter::default).take(BUCKETS).collect();
        let buckets = buckets.into_boxed_slice().try_into().expect("the vector was filled with BUCKETS cells");
        Histogram { buckets, sum: Counter::default(), max: Peak::default() }
    }
}

impl Histogram {
    /// Records one duration in nanoseconds. Only the owning core may call this.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.buckets[bucket_of(ns)].add(1);
        self.sum.add(ns);
        self.max.observe(ns);
    }

    /// What has been recorded so far; any thread may ask.
    ///
    /// Taken while the core records, the count is that of the buckets as read; sum and max may be a few values ahead.
    pub fn snapshot(&self) -> Snapshot {
        let buckets: Box<[u64]> = self.buckets.iter().map(Counter::get).collect();
        let count = buckets.iter().sum();
        Snapshot { buckets, count, sum: self.sum.get(), max: self.max.get() }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, max: 0 }
    }
}

impl Snapshot {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value in nanoseconds, exact; 0 when nothing was recorded.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Mean in nanoseconds; 0 when nothing was recorded.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value in nanoseconds that the share `q` (0.0 to 1.0) of all values does not exceed; 0 when empty.
    ///
    /// Never too small, and too large by at most 1/32.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                let top = if index + 1 == BUCKETS { self.max } else { bucket_top(index) };
                return top.min(self.max);
            }
        }
        0
    }

    /// Adds what another snapshot holds.
    pub fn merge(&mut self, other: &Snapshot) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What was recorded since `earlier`, an older snapshot of the same histogram; `max` stays that of all time.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let buckets = self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.saturating_sub(*then)).collect();
        Snapshot {
            buckets,
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.wrapping_sub(earlier.sum),
            max: self.max,
        }
    }

    /// Walks power-of-two bounds for export: `(largest value counted, values up to it)` for 2^first to 2^last minus 1.
    pub(super) fn cumulative(&self, first: u32, last: u32) -> impl Iterator<Item = (u64, u64)> + '_ {
        debug_assert!(first >= PRECISION_BITS && last <= VALUE_BITS, "bounds lie on bucket borders");
        let mut below = 0;
        let mut next = 0;
        (first..=last).map(move |exponent| {
            let bound = (1u64 << exponent) - 1;
            while next < BUCKETS && bucket_top(next) <= bound {
                // The last bucket also holds what lies above the range, so it is not "up to" any bound.
                below += if next + 1 == BUCKETS { 0 } else { self.buckets[next] };
                next += 1;
            }
            (bound, below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_tile_the_range_in_order() {
        let mut expected_first = 0;
        for index in 0..BUCKETS {
            assert_eq!(bucket_of(expected_first), index, "first value of bucket {index}");
            assert_eq!(bucket_of(bucket_top(index)), index, "last value of bucket {index}");
            expected_first = bucket_top(index) + 1;
        }
        assert_eq!(expected_first, VALUE_NS_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let snapshot = Histogram::default().snapshot();
        assert_eq!((snapshot.count(), snapshot.max(), snapshot.mean(), snapshot.quantile(0.99)), (0, 0, 0, 0));
        assert_eq!(snapshot, Snapshot::default());
    }

    #[test]
    fn values_above_the_range_keep_their_maximum() {
        let histogram = Histogram::default();
        histogram.record(10);
        histogram.record(VALUE_NS_MAX * 2);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.quantile(1.0), VALUE_NS_MAX * 2);
        assert_eq!(snapshot.quantile(0.5), 10);
        assert_eq!(snapshot.cumulative(5, 36).last(), Some((VALUE_NS_MAX, 1)));
    }

    #[test]
    fn since_leaves_what_is_new() {
        let histogram = Histogram::default();
        histogram.record(100);
        let earlier = histogram.snapshot();
        histogram.record(1_000);
        let new = histogram.snapshot().since(&earlier);
        assert_eq!((new.count(), new.sum()), (1, 1_000));
        assert!((1_000..=1_031).contains(&new.quantile(0.5)));
    }

    proptest! {
        #[test]
        fn quantiles_are_never_low_and_at_most_a_32nd_high(
            mut values in proptest::collection::vec(0u64..=VALUE_NS_MAX, 1..300),
            q in 0.0f64..=1.0,
        ) {
            let (left, right) = (Histogram::default(), Histogram::default());
            for (i, v) in values.iter().enumerate() {
                if i % 2 == 0 { left.record(*v) } else { right.record(*v) }
            }
            let mut merged = left.snapshot();
            merged.merge(&right.snapshot());
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let answer = merged.quantile(q);
            prop_assert!(answer >= exact && answer - exact <= exact / 32 + 1, "exact {exact}, answered {answer}");
            prop_assert_eq!(merged.count(), values.len() as u64);
            prop_assert_eq!(merged.max(), *values.last().expect("not empty"));
            for (bound, below) in merged.cumulative(5, 36) {
                let expected = values.iter().filter(|v| **v <= bound && bucket_of(**v) + 1 < BUCKETS).count() as u64;
                prop_assert_eq!(below, expected);
            }
        }
    }
}
