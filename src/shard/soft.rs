//! A soft limit: it stops nothing, and is said once when it is passed.
//!
//! Not here: what is counted, and whom it is said to (`control/limits`). Invariant: between two alerts there are at
//! least `PAUSE`, and a limit that was said to be passed is said to be kept again before it is said to be passed anew.

use std::time::Duration;

/// Time since some beginning.
type Moment = Duration;

/// Least time between two alerts: the original's cool-down.
const PAUSE: Duration = Duration::from_secs(60);

/// What is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alert {
    /// There are more than the limit.
    Passed,
    /// There are clearly fewer again.
    Kept,
}

/// One limit, and what was said of it.
#[derive(Clone, Debug)]
pub struct SoftLimit {
    limit: u64,
    is_passed: bool,
    passed_at: Option<Moment>,
    beyond: u64,
}

impl SoftLimit {
    /// A limit of which nothing was said yet.
    pub const fn new(limit: u64) -> SoftLimit {
        SoftLimit { limit, is_passed: false, passed_at: None, beyond: 0 }
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether it was said to be passed, and not yet to be kept again.
    pub fn is_passed(&self) -> bool {
        self.is_passed
    }

    /// A look: how many there are, and how many came so far while there were too many, which tells of what was over
    /// before anybody looked.
    pub fn look(&mut self, now: Moment, count: u64, beyond: u64) -> Option<Alert> {
        let came = beyond > std::mem::replace(&mut self.beyond, beyond);
        let may_say = self.passed_at.is_none_or(|at| now.saturating_sub(at) >= PAUSE);
        // A tenth below, so that what stays at the limit is not said again and again.
        let clearly_below = count <= self.limit - self.limit / 10 && !came;
        match self.is_passed {
            false if (count > self.limit || came) && may_say => {
                (self.is_passed, self.passed_at) = (true, Some(now));
                Some(Alert::Passed)
            }
            true if clearly_below => {
                self.is_passed = false;
                Some(Alert::Kept)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_said_once_when_it_is_passed_and_once_when_it_is_kept_again() {
        let mut soft = SoftLimit::new(150);
        assert_eq!(soft.look(at(0), 150, 0), None, "as many as it says");
        assert_eq!(soft.look(at(1), 151, 1), Some(Alert::Passed));
        assert_eq!((soft.look(at(2), 190, 40), soft.is_passed()), (None, true));
        assert_eq!(soft.look(at(3), 136, 40), None, "not a tenth below");
        assert_eq!(soft.look(at(4), 135, 41), None, "somebody came while there were too many");
        assert_eq!((soft.look(at(5), 135, 41), soft.is_passed()), (Some(Alert::Kept), false));
    }

    #[test]
    fn what_was_over_before_the_look_is_said_all_the_same() {
        let mut soft = SoftLimit::new(150);
        assert_eq!(soft.look(at(1), 3, 7), Some(Alert::Passed));
        assert_eq!(soft.look(at(2), 3, 7), Some(Alert::Kept));
        assert_eq!(soft.look(at(3), 3, 8), None, "too soon");
        assert_eq!(soft.look(at(61), 160, 9), Some(Alert::Passed));
    }

    proptest! {
        #[test]
        fn alerts_take_turns_and_keep_their_distance(
            limit in 1u64..100,
            looks in proptest::collection::vec((0u64..200, 0u64..2), 1..300),
        ) {
            let (mut soft, mut beyond) = (SoftLimit::new(limit), 0);
            let (mut last, mut passed_at) = (Alert::Kept, None);
            for (second, (count, came)) in (0u64..).zip(looks) {
                beyond += came;
                let Some(alert) = soft.look(at(second), count, beyond) else { continue };
                prop_assert_ne!(alert, last);
                last = alert;
                if alert == Alert::Passed {
                    prop_assert!(count > limit || came > 0);
                    prop_assert!(passed_at.is_none_or(|before| second - before >= 60));
                    passed_at = Some(second);
                } else {
                    prop_assert!(count < limit || limit < 10 && count == limit);
                }
            }
        }
    }
}
