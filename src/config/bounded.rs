//! Numbers that carry their bounds in their type: `Bounded`, `Millis`, `AutoOr`, `PowerOfTwo`.
//!
//! Not checked twice: `new` is the only way in, and whoever holds one need not look again.
//! Invariant: MIN <= value <= MAX, for `AutoOr` unless it is automatic.

use super::given::{Given, Refused, Setting};
use std::time::Duration;

/// A whole number from MIN to MAX.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

/// A duration from MIN to MAX milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis<const MIN: u64, const MAX: u64>(Bounded<MIN, MAX>);

/// A power of two from MIN to MAX.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PowerOfTwo<const MIN: u64, const MAX: u64>(Bounded<MIN, MAX>);

/// Chosen at start (written as 0), or a whole number from MIN to MAX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoOr<const MIN: u64, const MAX: u64> {
    /// Chosen at start from what the machine has.
    Auto,
    /// As configured.
    Fixed(Bounded<MIN, MAX>),
}

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The value, if it lies within the bounds.
    pub const fn new(value: u64) -> Option<Self> {
        if value >= MIN && value <= MAX { Some(Bounded(value)) } else { None }
    }

    /// A value known when this program is compiled; out of bounds it does not compile in a constant.
    pub(crate) const fn known(value: u64) -> Self {
        assert!(value >= MIN && value <= MAX, "a default lies outside its bounds");
        Bounded(value)
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The value as a size.
    pub const fn usize(self) -> usize {
        self.0 as usize
    }

    /// The value as `u32`, for types whose bound fits one.
    pub const fn u32(self) -> u32 {
        const { assert!(MAX <= u32::MAX as u64) };
        self.0 as u32
    }
}

impl<const MIN: u64, const MAX: u64> Millis<MIN, MAX> {
    /// The duration, if it lies within the bounds.
    pub const fn new(ms: u64) -> Option<Self> {
        match Bounded::new(ms) {
            Some(ms) => Some(Millis(ms)),
            None => None,
        }
    }

    pub(crate) const fn known(ms: u64) -> Self {
        Millis(Bounded::known(ms))
    }

    /// In milliseconds.
    pub const fn ms(self) -> u64 {
        self.0.get()
    }

    /// In nanoseconds, the unit of the timer wheel.
    pub const fn ns(self) -> u64 {
        self.0.get() * 1_000_000
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0.get())
    }
}

impl<const MIN: u64, const MAX: u64> PowerOfTwo<MIN, MAX> {
    /// The value, if it is a power of two within the bounds.
    pub const fn new(value: u64) -> Option<Self> {
        match Bounded::new(value) {
            Some(bounded) if value.is_power_of_two() => Some(PowerOfTwo(bounded)),
            _ => None,
        }
    }

    pub(crate) const fn known(value: u64) -> Self {
        assert!(value.is_power_of_two(), "a default is no power of two");
        PowerOfTwo(Bounded::known(value))
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The value as a size.
    pub const fn usize(self) -> usize {
        self.0.usize()
    }

    /// The value as `u32`, for types whose bound fits one.
    pub const fn u32(self) -> u32 {
        self.0.u32()
    }
}

impl<const MIN: u64, const MAX: u64> AutoOr<MIN, MAX> {
    /// The configured value, if there is one.
    pub const fn fixed(self) -> Option<u64> {
        match self {
            AutoOr::Auto => None,
            AutoOr::Fixed(value) => Some(value.get()),
        }
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Bounded<MIN, MAX> {
    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let value = given.integer(Self::allowed)?;
        u64::try_from(value).ok().and_then(Self::new).ok_or_else(|| given.refused(Self::allowed()))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Millis<MIN, MAX> {
    fn allowed() -> String {
        format!("milliseconds, a whole number from {MIN} to {MAX}")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let value = given.integer(Self::allowed)?;
        u64::try_from(value).ok().and_then(Self::new).ok_or_else(|| given.refused(Self::allowed()))
    }

    fn write(&self) -> String {
        self.ms().to_string()
    }
}

impl<const MIN: u64, const MAX: u64> Setting for PowerOfTwo<MIN, MAX> {
    fn allowed() -> String {
        format!("a power of two from {MIN} to {MAX}")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let value = given.integer(Self::allowed)?;
        let value = u64::try_from(value).map_err(|_| given.refused(Self::allowed()))?;
        Self::new(value).ok_or_else(|| {
            let nearest = value.clamp(MIN, MAX).next_power_of_two();
            given.refused(Self::allowed()).advise(format!("the next power of two is {nearest}"))
        })
    }

    fn write(&self) -> String {
        self.get().to_string()
    }
}

impl<const MIN: u64, const MAX: u64> Setting for AutoOr<MIN, MAX> {
    fn allowed() -> String {
        format!("0 (chosen at start) or a whole number from {MIN} to {MAX}")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let value = given.integer(Self::allowed)?;
        match u64::try_from(value) {
            Ok(0) => Ok(AutoOr::Auto),
            Ok(value) => Bounded::new(value).map(AutoOr::Fixed).ok_or_else(|| given.refused(Self::allowed())),
            Err(_) => Err(given.refused(Self::allowed())),
        }
    }

    fn write(&self) -> String {
        self.fixed().unwrap_or(0).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(word: &str) -> Result<T, Refused> {
        T::read(&Given::word(word))
    }

    #[test]
    fn bounds_hold_at_both_ends() {
        assert_eq!(read::<Bounded<2, 4>>("2").expect("lowest").get(), 2);
        assert_eq!(read::<Bounded<2, 4>>("4").expect("highest").get(), 4);
        for word in ["1", "5", "-3", "x", "", "3.0", "99999999999999999999"] {
            let refused = read::<Bounded<2, 4>>(word).expect_err(word);
            assert_eq!(refused.allowed, "a whole number from 2 to 4");
        }
        assert_eq!(read::<Bounded<0, 2_000>>("1_024").expect("underscores group digits").get(), 1024);
    }

    #[test]
    fn zero_is_automatic_and_powers_are_powers() {
        assert_eq!(read::<AutoOr<4, 8>>("0").expect("automatic"), AutoOr::Auto);
        assert_eq!(read::<AutoOr<4, 8>>("8").expect("fixed").fixed(), Some(8));
        assert!(read::<AutoOr<4, 8>>("3").is_err());
        assert_eq!(read::<PowerOfTwo<2, 64>>("32").expect("a power").u32(), 32);
        let refused = read::<PowerOfTwo<2, 64>>("33").expect_err("not a power");
        assert_eq!(refused.advice.as_deref(), Some("the next power of two is 64"));
        assert_eq!(read::<Millis<1, 10>>("10").expect("highest").duration(), Duration::from_millis(10));
    }
}
