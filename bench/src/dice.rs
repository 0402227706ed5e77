//! A small seeded generator of random numbers (SplitMix64): the same seed gives the same run.
//!
//! It is not for secrets.
//!
//! Invariant: the whole state is one number, so a seed printed in a report is enough to repeat what was drawn.

/// See the module.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in 0..bound; `bound` must not be zero.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.roll()) * bound as u128) >> 64) as usize
    }

    /// Exponential with mean 1: the gaps of a Poisson process.
    pub fn gap(&mut self) -> f64 {
        // 53 bits, never zero, so the logarithm is finite.
        let uniform = ((self.roll() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_mean_one_and_below_stays_below() {
        let mut dice = Dice::new(1);
        let mean = (0..100_000).map(|_| dice.gap()).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((0..1000).all(|_| dice.below(3) < 3));
    }
}
