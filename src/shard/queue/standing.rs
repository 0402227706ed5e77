//! Whether a queue stands: whether calls wait because for a moment many came, or because more come than go.
//!
//! Not here: what is done then (`super`). Invariant: it stands only after calls waited longer than the target for a
//! whole interval, or longer than the interval at all; it is over in the first interval in which more than half of
//! those who came found a place free.
//!
//! The second half is what keeps it: a queue that is kept short looks empty often, also where ten times as many come as
//! go. Whoever comes finds all places taken as often as they are (Poisson arrivals see time averages).

use super::Nanos;
use super::pace::Scale;

/// How a queue stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    is_overloaded: bool,
    /// Since when nobody was sent who had waited for less than the target.
    above_since: Option<Nanos>,
    /// The interval that is counted, and who came in it: those who found a place, and those who found none.
    began: Nanos,
    served: u32,
    waited: u32,
}

impl Standing {
    /// Whether more come than go.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// The one who has waited longest has waited for so long, or nobody waits. True if it stands from now on.
    pub fn oldest(&mut self, now: Nanos, wait: Option<Nanos>, scale: &Scale) -> bool {
        match wait.filter(|wait| *wait >= scale.target) {
            None => self.above_since = None,
            Some(_) => {
                let since = *self.above_since.get_or_insert(now);
                if now - since >= scale.interval {
                    return self.stands(now);
                }
            }
        }
        false
    }

    /// Somebody would have had to wait longer than there is any patience for, or had. True if it stands from now on.
    pub fn stands(&mut self, now: Nanos) -> bool {
        let is_new = !self.is_overloaded;
        if is_new {
            *self = Standing { is_overloaded: true, above_since: self.above_since, began: now, served: 0, waited: 0 };
        }
        is_new
    }

    /// Somebody came while it stands, and found a place or none. True if it stands no longer.
    pub fn came(&mut self, now: Nanos, found_place: bool, scale: &Scale) -> bool {
        if !self.is_overloaded {
            return false;
        }
        let is_over = now.saturating_sub(self.began) >= scale.interval;
        // Who comes after a long silence counts for it.
        *if found_place { &mut self.served } else { &mut self.waited } += 1;
        if !is_over {
            return false;
        }
        if self.waited < self.served {
            *self = Standing::default();
            return true;
        }
        (self.began, self.served, self.waited) = (now, 0, 0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;
    const SCALE: Scale = Scale { target: 5 * MS, interval: 100 * MS, gap: 2 * MS };

    #[test]
    fn it_stands_after_an_interval_above_target_and_not_before() {
        let mut standing = Standing::default();
        assert!((0..100).all(|at| !standing.oldest(at * MS, Some(6 * MS), &SCALE)));
        assert!(!standing.oldest(99 * MS, Some(4 * MS), &SCALE), "one was fast: it begins again");
        assert!((100..200).all(|at| !standing.oldest(at * MS, Some(6 * MS), &SCALE)));
        assert!(standing.oldest(200 * MS, Some(6 * MS), &SCALE) && standing.is_overloaded());
        assert!(!standing.oldest(201 * MS, Some(6 * MS), &SCALE), "it does already");
    }

    #[test]
    fn it_is_over_once_most_who_come_find_a_place() {
        let mut standing = Standing::default();
        assert!(standing.stands(0) && !standing.stands(MS));
        for at in 0..1000 {
            assert!(!standing.came(at * MS, at % 10 == 0, &SCALE), "one in ten finds one");
        }
        let over = (1000..1300).find(|at| standing.came(at * MS, at % 3 != 0, &SCALE));
        assert!(over.is_some_and(|at| at < 1202) && !standing.is_overloaded(), "{over:?}");
        standing.stands(2000 * MS);
        assert!(standing.came(9000 * MS, true, &SCALE), "who comes to an empty house after a while opens it");
    }
}
