//! Changes of a server's lists, told in moderation: who told of a thousand changes would have every stream of every
//! caller told a thousand times.
//!
//! Not here: who is told (`remote`). Invariant: after the last change of a list its readers are told of one, at most
//! [`APART`] later; of one list they are told no more often than that.

use crate::server::service::{Change, Nanos};

/// Least time between two times that callers are told of one list.
const APART: Nanos = 50_000_000;

/// When callers were told of each list.
#[derive(Default)]
pub(super) struct Changes([Told; 3]);

#[derive(Clone, Copy, Default)]
struct Told {
    /// They are not told before this.
    next: Nanos,
    /// There is something to tell.
    is_due: bool,
}

const LISTS: [Change; 3] = [Change::Tools, Change::Prompts, Change::Resources];

impl Changes {
    /// Whether a change is told at once. If not, it is kept until [`Changes::due`].
    pub fn note(&mut self, now: Nanos, change: &Change) -> bool {
        let Some(place) = LISTS.iter().position(|list| list == change) else { return true };
        let told = &mut self.0[place];
        if now < told.next {
            told.is_due = true;
            return false;
        }
        told.next = now + APART;
        true
    }

    /// What is to be told now.
    pub fn due(&mut self, now: Nanos) -> impl Iterator<Item = Change> {
        self.0.iter_mut().zip(LISTS).filter_map(move |(told, list)| {
            let is_now = told.is_due && told.next <= now;
            if is_now {
                *told = Told { next: now + APART, is_due: false };
            }
            is_now.then_some(list)
        })
    }

    /// When something has to be told.
    pub fn deadline(&self) -> Option<Nanos> {
        self.0.iter().filter(|told| told.is_due).map(|told| told.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_changes_is_told_now_and_then_and_its_last_one_too() {
        let mut changes = Changes::default();
        let mut told = Vec::new();
        for now in (0..1_000_000_000).step_by(1_000_000) {
            told.extend(changes.due(now).map(|change| (now, change)));
            if changes.note(now, &Change::Tools) {
                told.push((now, Change::Tools));
            }
            assert!(changes.note(now, &Change::Resource("a:b".into())), "one resource is no list");
        }
        assert_eq!(told.len(), 20);
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= APART));
        // Another list waits for nothing, and the last change is told.
        assert!(changes.note(999_000_000, &Change::Prompts));
        let deadline = changes.deadline().expect("the last was not told yet");
        assert!(deadline < 999_000_000 + APART);
        assert_eq!(changes.due(deadline - 1).count(), 0);
        assert_eq!(changes.due(deadline).collect::<Vec<_>>(), [Change::Tools]);
        assert_eq!((changes.deadline(), changes.due(Nanos::MAX / 2).count()), (None, 0));
    }
}
