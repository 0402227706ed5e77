//! How long the last writes to a shard took, from being asked for to being done.
//!
//! Not here: what follows from it (`contention`). Invariant: the mean is of the last ten writes or fewer, in
//! nanoseconds.

use super::Nanos;

/// How many writes are remembered, and how many it takes to judge by them.
pub const SAMPLES: usize = 10;

/// The last writes of one shard.
#[derive(Clone, Copy, Default, Debug)]
pub struct WriteLatency {
    samples: [Nanos; SAMPLES],
    held: u8,
    next: u8,
    /// Of the samples held, so that a write is judged without going through them.
    sum: Nanos,
    writes: u64,
    last_at: Nanos,
}

impl WriteLatency {
    /// Remembers a write that ended at `now`.
    pub fn record(&mut self, took: Nanos, now: Nanos) {
        // Ten of them have a sum.
        let took = took.min(Nanos::MAX / SAMPLES as Nanos);
        let oldest = std::mem::replace(&mut self.samples[usize::from(self.next)], took);
        self.sum += took;
        if usize::from(self.held) == SAMPLES {
            self.sum -= oldest;
        }
        self.next = (self.next + 1) % SAMPLES as u8;
        self.held = (self.held + 1).min(SAMPLES as u8);
        self.writes += 1;
        self.last_at = now;
    }

    /// Forgets the samples, not how many writes there were: they say nothing about now any more.
    pub fn forget_samples(&mut self) {
        (self.held, self.next, self.sum) = (0, 0, 0);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = WriteLatency::default();
    }

    /// Writes since the start or the last reset.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// How many writes are remembered.
    pub fn held(&self) -> usize {
        usize::from(self.held)
    }

    /// When the last one ended.
    pub fn last_at(&self) -> Nanos {
        self.last_at
    }

    /// The mean of those remembered; zero if there are none.
    pub fn mean(&self) -> Nanos {
        self.sum / Nanos::from(self.held.max(1))
    }

    /// Mean, least and most of those remembered; zeros if there are none.
    pub fn summary(&self) -> (Nanos, Nanos, Nanos) {
        // Before the ring has gone round once, the samples lie at its start.
        let held = &self.samples[..usize::from(self.held)];
        let (Some(least), Some(most)) = (held.iter().min(), held.iter().max()) else { return (0, 0, 0) };
        (self.mean(), *least, *most)
    }
}
