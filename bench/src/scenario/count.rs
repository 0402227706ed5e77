//! What was counted of one group in one stretch of time, and how it travels between processes.
//!
//! It decides nothing. Counts of threads, of processes and of seconds are added up; the order does not matter.
//!
//! Invariant: what travels is the histogram itself (HDR V2), not figures read off it, so a sum of many is the histogram
//! of all their samples.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer as HdrReader, Serializer as HdrWriter, V2Serializer},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tally::{LATENCY_MAX_NS, Percentiles};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Calls (visits, pieces) that were due.
    pub offered: u64,
    /// Of these, with a right answer. Pieces have none: they are sent.
    pub succeeded: u64,
    /// Of these, answered before the phase was over: what a rate is made of.
    pub in_time: u64,
    /// Calls that were due, by what became of them.
    pub errors: BTreeMap<String, u64>,
    /// Answers that came, whenever they were due.
    pub answers: u64,
    /// Connections that were begun.
    pub attempted: u64,
    /// Of these, that could be used.
    pub ready: u64,
    /// Of these, that could not, by what became of them.
    pub refused: BTreeMap<String, u64>,
    /// Connections that were ready and ended though nobody wanted that, by what they died of.
    pub lost: BTreeMap<String, u64>,
    pub bytes_received: u64,
    /// From when a call was due to its answer, in ns.
    pub latency: Latencies,
    /// How late the generator saw that a call was due, in ns.
    pub lag: Latencies,
    /// Connections that are ready at its end.
    pub open: u64,
}

fn more(kinds: &mut BTreeMap<String, u64>, kind: String, count: u64) {
    if count > 0 {
        *kinds.entry(kind).or_default() += count;
    }
}

impl Count {
    /// `count` more calls that came to this.
    pub fn error(&mut self, kind: String, count: u64) {
        more(&mut self.errors, kind, count);
    }

    /// One more connection that was refused.
    pub fn refuse(&mut self, kind: String) {
        more(&mut self.refused, kind, 1);
    }

    /// One more connection that was lost.
    pub fn lose(&mut self, kind: String) {
        more(&mut self.lost, kind, 1);
    }

    /// Adds what was counted elsewhere, or afterwards: how many are ready is what `other` says.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.succeeded += other.succeeded;
        self.in_time += other.in_time;
        self.answers += other.answers;
        self.attempted += other.attempted;
        self.ready += other.ready;
        self.bytes_received += other.bytes_received;
        self.open = other.open;
        for (ours, theirs) in
            [(&mut self.errors, &other.errors), (&mut self.refused, &other.refused), (&mut self.lost, &other.lost)]
        {
            theirs.iter().for_each(|(kind, &count)| more(ours, kind.clone(), count));
        }
        self.latency.add(&other.latency);
        self.lag.add(&other.lag);
    }

    /// All calls that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// A histogram of ns, or none as long as nothing was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies(Option<Box<Histogram<u64>>>);

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are constants that hdrhistogram takes")
}

impl Latencies {
    /// One more.
    pub fn record(&mut self, ns: u64) {
        self.0.get_or_insert_with(|| Box::new(empty())).saturating_record(ns);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        if let Some(theirs) = &other.0 {
            let ours = self.0.get_or_insert_with(|| Box::new(empty()));
            ours.add(&**theirs).expect("all have the same bounds");
        }
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |all| all.len())
    }

    /// In us.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Percentiles::of(self.0.as_deref()?)
    }

    /// In us, of any quantile.
    pub fn at(&self, quantile: f64) -> Option<f64> {
        self.0.as_ref().map(|all| all.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The histogram, if anything was recorded.
    pub fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_deref()
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if let Some(all) = &self.0 {
            V2Serializer::new().serialize(all, &mut bytes).map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let read: Histogram<u64> = HdrReader::new().deserialize(&mut &bytes[..]).map_err(D::Error::custom)?;
        // Into one of our bounds: what travels keeps only what it needed.
        let mut all = empty();
        all.add(&read).map_err(D::Error::custom)?;
        Ok(Self(Some(Box::new(all))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_sum_of_many_that_travelled_is_the_histogram_of_all_samples() {
        let (mut dice, mut all, mut sum) = (Dice::new(3), Latencies::default(), Latencies::default());
        for _ in 0..20 {
            let mut part = Latencies::default();
            for _ in 0..dice.below(5000) {
                // Over six orders of magnitude, and some beyond the bound.
                let ns = 10f64.powf(dice.below(1_200) as f64 / 100.0) as u64;
                part.record(ns);
                all.record(ns);
            }
            let travelled = serde_json::to_string(&part).expect("written");
            sum.add(&serde_json::from_str(&travelled).expect("read back"));
        }
        assert_eq!(sum, all);
        assert_eq!(sum.at(0.999), all.at(0.999));
        assert!(all.len() > 10_000);
    }

    #[test]
    fn what_travelled_is_what_was_counted() {
        let count = |open, kind: &str| {
            let mut count = Count { open, succeeded: 1, ..Count::default() };
            count.error(kind.into(), 2);
            count.refuse("http_503".into());
            count.lose("closed_by_server".into());
            count
        };
        let mut sum = count(3, "a");
        sum.add(&count(4, "b"));
        sum.add(&count(5, "a"));
        assert_eq!((sum.open, sum.succeeded, sum.failed(), sum.errors["a"]), (5, 3, 6, 4));
        let back: Count = serde_json::from_str(&serde_json::to_string(&sum).expect("written")).expect("read");
        assert_eq!(back, sum);
    }
}
