//! How many messages a second came for each shard's sessions lately.
//!
//! Not a metric: scrapers make rates of `corelane_shard_messages_total` themselves. Invariant: at most `LOOKS` counts
//! are kept of each shard, and no core is asked for one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::http::Shown;
use crate::metrics::Registry;

/// Time between two looks at the counts.
const EVERY: Duration = Duration::from_secs(1);
/// Looks that are kept: what is called lately is up to ten seconds.
const LOOKS: usize = 10;

/// The counts of the last looks, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<VecDeque<(Instant, Vec<u64>)>>);

impl Rates {
    /// Keeps what the counts are now.
    fn look(&self, now: Instant, counts: Vec<u64>) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= LOOKS {
            looks.pop_front();
        }
        looks.push_back((now, counts));
    }

    /// Messages per second since the oldest look, shard by shard, to a tenth; 0 before there was one.
    pub(super) fn until(&self, now: Instant, counts: &[u64]) -> Vec<f64> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = looks.front().filter(|(then, _)| now > *then);
        let rate = |(shard, count): (usize, &u64)| {
            let Some((then, before)) = oldest else { return 0.0 };
            let more = count.saturating_sub(before.get(shard).copied().unwrap_or(0));
            (more as f64 / now.duration_since(*then).as_secs_f64() * 10.0).round() / 10.0
        };
        counts.iter().enumerate().map(rate).collect()
    }
}

/// How many messages came for each shard's sessions so far, in order.
pub(super) fn counts(registry: &Registry) -> Vec<u64> {
    registry.shards().map(|(_, _, own)| own.messages.get()).collect()
}

/// Looks at the counts for as long as it is polled.
pub(super) async fn watch(shown: Arc<Shown>) {
    loop {
        shown.rates.look(Instant::now(), counts(&shown.registry));
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_oldest_look() {
        let (rates, start) = (Rates::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rates.until(at(0), &[7, 0]), [0.0, 0.0], "nothing is known yet");
        rates.look(at(0), vec![7, 0]);
        assert_eq!(rates.until(at(0), &[8, 0]), [0.0, 0.0], "no time has passed");
        assert_eq!(rates.until(at(4), &[9, 400]), [0.5, 100.0]);
        for second in 1..20 {
            rates.look(at(second), vec![7, second * 10]);
        }
        // The oldest of ten is that of second 10.
        assert_eq!(rates.until(at(20), &[7, 1100]), [0.0, 100.0]);
        assert_eq!(rates.0.lock().expect("ours").len(), LOOKS);
    }
}
