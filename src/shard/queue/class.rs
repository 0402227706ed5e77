//! Which calls go before which where there is not room for all, and the shares of a class that are shed one by one.
//!
//! Not here: which method is of which class for a server behind the gateway (`upstream/gateway/turns`).
//! Invariant: of two calls the one of the better class is never turned away while the other may wait.

/// What a call is to whoever is overloaded, the best first (reliability.md 2.8: P0 to P4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// P0: health, drain, administration. It has a thread and a listener of its own, and is never shed.
    Control = 0,
    /// P1: cancellations, answers, and what is asked of work that runs: shedding it wastes what was done.
    Running = 1,
    /// P2: requests of who is known.
    Request = 2,
    /// P3: new sessions and subscriptions.
    Opening = 3,
    /// P4: lists that are read again.
    Refresh = 4,
}

/// Into so many shares the callers of a class are cut, so that some of a class can be shed and the same are served.
pub const SHARES: u8 = 16;
/// How long a caller is of the same share. Another has the bad luck then.
const SHARE_TIME: u64 = 3_600_000_000_000;

impl Class {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The class as an index, the best first.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a call of it may be turned away because of how long others wait.
    pub const fn is_sheddable(self) -> bool {
        self as u8 >= Class::Request as u8
    }
}

/// The share that a caller is of at a time, of `SHARES`.
pub fn share_of(now: u64, caller: u64) -> u8 {
    let mixed = (caller ^ (now / SHARE_TIME) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 60) as u8 % SHARES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_fall_on_all_shares_evenly_and_on_others_in_the_next_hour() {
        let mut counts = [0; SHARES as usize];
        (0..16_000).for_each(|caller| counts[usize::from(share_of(5, caller))] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        let moved = (0..1000).filter(|&caller| share_of(5, caller) != share_of(5 + SHARE_TIME, caller)).count();
        assert!(moved > 800, "{moved} of 1000 are of another share an hour later");
        assert_eq!(share_of(5, 7), share_of(SHARE_TIME - 1, 7));
    }
}
