//! Which cores stand still: from when the turn began that each is in, for how long it may last.
//!
//! Not here: clocks, how a turn's beginning is known, what is done about a core that stands still.
//! Invariant: of each turn that lasts too long it is told once that it does, once more for each further bound that it
//! passes, and once that it is over.

use std::time::Duration;

/// Time since a fixed moment.
type Moment = Duration;

/// From when on a turn is counted by itself: a timer of a millisecond would notice it.
pub const LONG_GAP: Duration = Duration::from_millis(1);

/// From when on a turn lasts too long: ten times what a core that works may stay away from its sockets.
pub const STALL: Duration = Duration::from_millis(50);

/// From when on others get what would come to a core anew: longer than what passes by itself, which is not worth a
/// change for all that comes.
pub const AVOIDED: Duration = Duration::from_secs(1);

/// What there is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A core stands still.
    Stalls {
        /// Its number.
        core: usize,
        /// How long so far.
        lasts: Duration,
    },
    /// It stands still for so long that nothing new should come to it.
    Avoided {
        /// Its number.
        core: usize,
    },
    /// It goes on.
    GoesOn {
        /// Its number.
        core: usize,
        /// How long it stood still, as far as was seen.
        lasted: Duration,
    },
    /// It stands still for longer than can be waited for.
    GivenUp {
        /// Its number.
        core: usize,
        /// How long so far.
        lasts: Duration,
    },
}

/// The turn that a core was in when it was looked at last.
#[derive(Clone, Copy, Debug)]
struct Turn {
    began: Moment,
    lasts: Duration,
    is_stall: bool,
    is_avoided: bool,
    is_given_up: bool,
}

/// What is known of all cores.
#[derive(Debug)]
pub struct Watchdog {
    /// None if no core is ever given up.
    patience: Option<Duration>,
    /// The most time that counts between two looks.
    step: Duration,
    looked_at: Vec<Moment>,
    turns: Vec<Option<Turn>>,
}

impl Watchdog {
    /// Watches so many cores; one that stands still for as long as `patience` is given up, if there is such a time.
    /// Between two looks no more time counts than `step`: if whoever looks was held up for longer, so was the machine.
    pub fn new(cores: usize, patience: Option<Duration>, step: Duration) -> Watchdog {
        Watchdog { patience, step, looked_at: vec![Moment::ZERO; cores], turns: vec![None; cores] }
    }

    /// Looks at a core: when the turn began that it is in, none if it sleeps or is not there.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn look(&mut self, core: usize, now: Moment, began: Option<Moment>) -> impl Iterator<Item = Finding> + use<> {
        let passed = now.saturating_sub(std::mem::replace(&mut self.looked_at[core], now)).min(self.step);
        let place = &mut self.turns[core];
        let was = place.take_if(|turn| began != Some(turn.began)).filter(|turn| turn.is_stall);
        let over = was.map(|turn| Finding::GoesOn { core, lasted: turn.lasts });
        let (mut news, mut avoided, mut given_up) = (None, None, None);
        if let Some(began) = began {
            let turn = place.get_or_insert(Turn {
                began,
                lasts: Duration::ZERO,
                is_stall: false,
                is_avoided: false,
                is_given_up: false,
            });
            turn.lasts += passed.min(now.saturating_sub(began));
            let lasts = turn.lasts;
            if lasts >= STALL && !std::mem::replace(&mut turn.is_stall, true) {
                news = Some(Finding::Stalls { core, lasts });
            }
            if lasts >= AVOIDED && !std::mem::replace(&mut turn.is_avoided, true) {
                avoided = Some(Finding::Avoided { core });
            }
            let is_too_long = self.patience.is_some_and(|patience| lasts >= patience);
            if is_too_long && !std::mem::replace(&mut turn.is_given_up, true) {
                given_up = Some(Finding::GivenUp { core, lasts });
            }
        }
        over.into_iter().chain(news).chain(avoided).chain(given_up)
    }

    /// Whether a core stood still when it was looked at last.
    pub fn stalls(&self, core: usize) -> bool {
        self.turns.get(core).copied().flatten().is_some_and(|turn| turn.is_stall)
    }

    /// The cores to which nothing new should come, unless those are all.
    pub fn avoided(&self) -> impl Iterator<Item = usize> + '_ {
        (0..).zip(&self.turns).filter(|(_, turn)| turn.is_some_and(|turn| turn.is_avoided)).map(|(core, _)| core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn look(dog: &mut Watchdog, now: Duration, began: Option<Duration>) -> Vec<Finding> {
        dog.look(0, now, began).collect()
    }

    #[test]
    fn a_stall_is_told_once_when_it_is_seen_and_once_when_it_is_over() {
        let mut dog = Watchdog::new(1, Some(ms(1000)), Duration::MAX);
        assert_eq!(look(&mut dog, ms(100), Some(ms(90))), [], "a turn like others");
        assert_eq!(look(&mut dog, ms(139), Some(ms(90))), []);
        assert_eq!(look(&mut dog, ms(140), Some(ms(90))), [Finding::Stalls { core: 0, lasts: ms(50) }]);
        assert!(dog.stalls(0));
        assert_eq!(look(&mut dog, ms(190), Some(ms(90))), []);
        assert_eq!(look(&mut dog, ms(230), Some(ms(220))), [Finding::GoesOn { core: 0, lasted: ms(100) }]);
        assert!(!dog.stalls(0));
        // Asleep, and for how long does not matter.
        assert_eq!(look(&mut dog, ms(100_000), None), []);
    }

    #[test]
    fn one_stall_behind_another_is_two() {
        let mut dog = Watchdog::new(1, None, Duration::MAX);
        assert_eq!(look(&mut dog, ms(100), Some(ms(1))).len(), 1);
        let both = [Finding::GoesOn { core: 0, lasted: ms(99) }, Finding::Stalls { core: 0, lasts: ms(80) }];
        assert_eq!(look(&mut dog, ms(200), Some(ms(120))), both);
        assert_eq!(look(&mut dog, ms(210), None), [Finding::GoesOn { core: 0, lasted: ms(80) }]);
    }

    #[test]
    fn whoever_stands_still_for_too_long_is_given_up_once_and_may_come_back() {
        let mut dog = Watchdog::new(1, Some(ms(1000)), Duration::MAX);
        look(&mut dog, ms(500), Some(ms(100)));
        let both = [Finding::Avoided { core: 0 }, Finding::GivenUp { core: 0, lasts: ms(1000) }];
        assert_eq!(look(&mut dog, ms(1100), Some(ms(100))), both);
        assert_eq!(dog.avoided().collect::<Vec<_>>(), [0]);
        assert_eq!(look(&mut dog, ms(5000), Some(ms(100))), []);
        assert_eq!(look(&mut dog, ms(5100), None), [Finding::GoesOn { core: 0, lasted: ms(4900) }]);
        assert_eq!(dog.avoided().count(), 0);
        // Seen late, because whoever looks was held up as well: all at once.
        let found = look(&mut dog, ms(9000), Some(ms(6000)));
        assert_eq!(found.len(), 3, "{found:?}");
        let mut patient = Watchdog::new(1, None, Duration::MAX);
        assert_eq!(look(&mut patient, ms(1_000_000), Some(ms(1))).len(), 2, "never given up");
    }

    #[test]
    fn a_machine_that_stood_still_is_no_core_that_does() {
        let mut dog = Watchdog::new(1, Some(ms(1000)), ms(100));
        assert_eq!(look(&mut dog, ms(100), Some(ms(90))), []);
        // An hour in which nobody ran.
        assert_eq!(look(&mut dog, ms(3_600_000), Some(ms(90))), [Finding::Stalls { core: 0, lasts: ms(110) }]);
        assert_eq!(look(&mut dog, ms(3_600_030), Some(ms(3_600_010))), [Finding::GoesOn { core: 0, lasted: ms(110) }]);
    }
}
