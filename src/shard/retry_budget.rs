//! How many retries there may be: a tenth of what is called, and a few a second.
//!
//! Not here: what may be retried. Invariant: retries never make more than a tenth of the load beyond their few a
//! second, so a server that fails under load is not kept down by them (Google SRE, "Addressing Cascading Failures").

/// Nanoseconds of the caller's clock.
type Nanos = u64;

/// What one retry takes.
const RETRY: u64 = 1000;
/// What one call brings.
const PER_CALL: u64 = RETRY / 10;
/// What a second brings.
const PER_SECOND: u64 = 3 * RETRY;
/// The most there is.
const MOST: u64 = 10 * RETRY;

/// What is left for retries.
#[derive(Debug)]
pub struct RetryBudget {
    left: u64,
    at: Nanos,
}

impl RetryBudget {
    /// A full one.
    pub fn new(now: Nanos) -> RetryBudget {
        RetryBudget { left: MOST, at: now }
    }

    /// Something was called.
    pub fn called(&mut self) {
        self.left = (self.left + PER_CALL).min(MOST);
    }

    /// Whether there may be a retry now, which is then counted.
    pub fn take(&mut self, now: Nanos) -> bool {
        let passed = now.saturating_sub(self.at).min(10_000_000_000);
        self.left = (self.left + passed * PER_SECOND / 1_000_000_000).min(MOST);
        self.at = now;
        let is_enough = self.left >= RETRY;
        if is_enough {
            self.left -= RETRY;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_calls_and_three_a_second() {
        let mut budget = RetryBudget::new(0);
        let taken = |budget: &mut RetryBudget, now| (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, 0), 10, "what there is at first");
        (0..55).for_each(|_| budget.called());
        assert_eq!(taken(&mut budget, 0), 5);
        assert_eq!(taken(&mut budget, 2_000_000_000), 6);
        assert_eq!(taken(&mut budget, u64::MAX), 10, "never more");
        assert_eq!(taken(&mut budget, 0), 0, "a clock that goes back brings nothing");
    }
}
