//! The cells a core writes and anyone reads: `Counter`, `Gauge`, `Peak`, `Pulse`.
//!
//! Not a synchronised counter: an update is a relaxed load and a relaxed store, two plain instructions without a lock
//! prefix. Invariant: each cell has one writing thread; a second writer would lose counts, never break memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// The largest value ever observed.
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

/// When the turn began that a core is in; nothing while it sleeps.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// A turn begins, at a time of the process's clock. Only the owning core may call this.
    #[inline]
    pub fn beat(&self, now: u64) {
        self.0.store(now.max(1), Relaxed);
    }

    /// The core goes to sleep, or is no more. Only the owning core may call this.
    #[inline]
    pub fn rest(&self) {
        self.0.store(0, Relaxed);
    }

    /// When the turn began that the core is in; any thread may ask.
    #[inline]
    pub fn turn_began(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|began| *began > 0)
    }
}

impl Counter {
    /// Counts `n` more. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far; any thread may ask.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauge {
    /// Raises the level by `n`. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Lowers the level by `n`. Only the owning core may call this.
    ///
    /// # Panics
    /// In debug builds, if the level would fall below zero: something was returned that was never taken.
    #[inline]
    pub fn sub(&self, n: u64) {
        let level = self.0.load(Relaxed);
        debug_assert!(level >= n, "a gauge at {level} was lowered by {n}: something was returned twice");
        self.0.store(level.saturating_sub(n), Relaxed);
    }

    /// Sets the level. Only the owning core may call this.
    #[inline]
    pub fn set(&self, level: u64) {
        self.0.store(level, Relaxed);
    }

    /// The level now; any thread may ask.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Peak {
    /// Keeps `value` if it is the largest yet. Only the owning core may call this.
    #[inline]
    pub fn observe(&self, value: u64) {
        if value > self.0.load(Relaxed) {
            self.0.store(value, Relaxed);
        }
    }

    /// The largest value so far; any thread may ask.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_count_level_and_keep_the_peak() {
        let (counter, gauge, peak) = (Counter::default(), Gauge::default(), Peak::default());
        counter.add(2);
        counter.add(3);
        gauge.add(5);
        gauge.sub(4);
        peak.observe(7);
        peak.observe(6);
        assert_eq!((counter.get(), gauge.get(), peak.get()), (5, 1, 7));
        gauge.set(9);
        assert_eq!(gauge.get(), 9);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "returned twice")]
    fn a_gauge_does_not_fall_below_zero() {
        Gauge::default().sub(1);
    }
}
