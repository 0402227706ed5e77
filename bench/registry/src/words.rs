//! Names of servers and transports, made before the clock runs, and dice.
//!
//! Invariant: the same seed gives the same names in the same order.

/// A small generator; nobody's secret depends on it.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Each worker has its own.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * end as u64) >> 32) as usize
    }
}

/// `prefix` with numbers from 0.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}
