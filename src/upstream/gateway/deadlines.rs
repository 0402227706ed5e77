//! When flights have to have ended, the nearest first.
//!
//! Not here: what happens then. Invariant: what was put in and not taken out is found; what was taken out is not.
//!
//! Deadlines are set in a few distances only (a call's, a list's, a stream's end), and those of one distance come in
//! order: so they stand in queues, one for each, and cost nothing to sort. What was taken out stays in its queue until
//! it is at the front, or until too many such are.

use std::collections::{BTreeSet, VecDeque};

use crate::server::service::Nanos;

/// Queues; a deadline that fits behind none of them is sorted.
const QUEUES: usize = 3;
/// Entries of a queue below which nobody counts those that were taken out.
const FEW: usize = 64;

/// Deadlines of flights, by their numbers.
#[derive(Default)]
pub struct Deadlines {
    queues: [VecDeque<(Nanos, u32)>; QUEUES],
    sorted: BTreeSet<(Nanos, u32)>,
    /// The deadline of each flight that has one, by its number; `Nanos::MAX` for none.
    of: Vec<Nanos>,
    count: usize,
}

impl Deadlines {
    /// A flight has to end by then. It had no deadline before.
    pub fn insert(&mut self, deadline: Nanos, number: u32) {
        if deadline == Nanos::MAX {
            return;
        }
        let index = number as usize;
        if self.of.len() <= index {
            self.of.resize(index + 1, Nanos::MAX);
        }
        self.of[index] = deadline;
        self.count += 1;
        // The queue whose end is nearest, so that one distance keeps to one queue.
        let fits = |queue: &&mut VecDeque<(Nanos, u32)>| queue.back().is_none_or(|(last, _)| *last <= deadline);
        let best = self.queues.iter_mut().filter(fits).max_by_key(|queue| queue.back().map_or(0, |(last, _)| *last));
        match best {
            Some(queue) => {
                queue.push_back((deadline, number));
                if queue.len() > FEW + 4 * self.count {
                    let of = &self.of;
                    queue.retain(|&(deadline, number)| of[number as usize] == deadline);
                }
            }
            None => drop(self.sorted.insert((deadline, number))),
        }
    }

    /// A flight has no deadline any more.
    pub fn remove(&mut self, number: u32) {
        let Some(deadline) = self.of.get_mut(number as usize).filter(|deadline| **deadline != Nanos::MAX) else {
            return;
        };
        let deadline = std::mem::replace(deadline, Nanos::MAX);
        self.count -= 1;
        if !self.sorted.is_empty() {
            self.sorted.remove(&(deadline, number));
        }
        // Also where it was sorted: one of the same number and time may have been left in a queue before.
        for queue in &mut self.queues {
            while queue.front().is_some_and(|&(deadline, number)| self.of[number as usize] != deadline) {
                queue.pop_front();
            }
        }
    }

    /// The nearest one, and whose it is.
    pub fn first(&self) -> Option<(Nanos, u32)> {
        let fronts = self.queues.iter().filter_map(|queue| queue.front().copied());
        fronts.chain(self.sorted.first().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queues_do_not_keep_what_was_taken_out() {
        let mut deadlines = Deadlines::default();
        // One that stays at the front, and very many that come and go behind it.
        deadlines.insert(10, 0);
        for turn in 0..100_000 {
            deadlines.insert(1000 + turn, 1);
            deadlines.remove(1);
        }
        assert!(deadlines.queues.iter().map(VecDeque::len).sum::<usize>() < 1000);
        assert_eq!(deadlines.first(), Some((10, 0)));
        deadlines.remove(0);
        assert_eq!((deadlines.first(), deadlines.count), (None, 0));
        deadlines.remove(7);
        deadlines.insert(Nanos::MAX, 3);
        assert_eq!(deadlines.first(), None, "never is no deadline");
    }

    proptest! {
        #[test]
        fn they_are_found_as_in_a_sorted_set(
            steps in prop::collection::vec((0..8u32, 0..6u64, any::<bool>()), 0..200),
        ) {
            let (mut deadlines, mut sorted) = (Deadlines::default(), BTreeSet::new());
            let mut known = [None; 8];
            for (now, (number, distance, is_set)) in (0..).zip(steps) {
                if let Some(before) = known[number as usize].take() {
                    sorted.remove(&(before, number));
                    deadlines.remove(number);
                }
                if is_set {
                    let deadline = now + [3, 100, 40, 7, 7, 100][distance as usize];
                    known[number as usize] = Some(deadline);
                    sorted.insert((deadline, number));
                    deadlines.insert(deadline, number);
                }
                prop_assert_eq!(deadlines.first().map(|(deadline, _)| deadline), sorted.first().map(|(at, _)| *at));
                prop_assert!(deadlines.first().is_none_or(|found| sorted.contains(&found)));
            }
        }
    }
}
