//! What a server says has changed, told in moderation: who told of a thousand changes would have every stream of every
//! caller told a thousand times.
//!
//! Not here: who is told (`remote`). Invariant: after the last change of a thing its readers are told of one, at most
//! [`APART`] later, and of a task as it stood last; of one thing they are told no more often than that. What is kept
//! for later is no more than somebody watches, and [`KEPT_BYTES_MAX`].

use std::collections::BTreeMap;

use crate::server::service::{Change, Nanos, Watched};

/// Least time between two times that callers are told of one thing.
const APART: Nanos = 50_000_000;
/// Most bytes of what is said of tasks that are kept for later; what is more is told at once.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Topics below which nobody looks for those that are forgotten.
const FEW: usize = 64;

/// A thing that is told of now and then.
#[derive(Clone, Copy, Default)]
pub(super) struct Paced {
    /// It is not told of before this.
    next: Nanos,
    /// There is something to tell.
    is_due: bool,
}

impl Paced {
    /// Whether it is told of at once. If not, it is due later.
    pub fn note(&mut self, now: Nanos) -> bool {
        if now < self.next {
            self.is_due = true;
            return false;
        }
        self.next = now + APART;
        true
    }

    /// Whether it is to be told of now.
    pub fn take_due(&mut self, now: Nanos) -> bool {
        let is_now = self.is_due && self.next <= now;
        if is_now {
            *self = Paced { next: now + APART, is_due: false };
        }
        is_now
    }

    /// When it has to be told of.
    pub fn deadline(&self) -> Option<Nanos> {
        self.is_due.then_some(self.next)
    }
}

/// When callers were told of each list, and of what else they watch.
#[derive(Default)]
pub(super) struct Changes {
    lists: [Paced; 3],
    /// With what is said of it, if that is more than that it changed.
    topics: BTreeMap<(Watched, Box<str>), (Paced, Vec<u8>)>,
    /// The sum of these.
    kept_bytes: usize,
    /// No topic is due before this.
    due: Option<Nanos>,
    /// So many topics are looked through for those that can be forgotten.
    many: usize,
}

const LISTS: [Change; 3] = [Change::Tools, Change::Prompts, Change::Resources];

impl Changes {
    /// A change, if it is told at once. If not, it is kept until [`Changes::due`].
    pub fn note(&mut self, now: Nanos, change: Change) -> Option<Change> {
        if let Some(place) = LISTS.iter().position(|list| *list == change) {
            return self.lists[place].note(now).then_some(change);
        }
        let (key, params): (_, &[u8]) = match &change {
            Change::Resource(uri) => ((Watched::Resource, uri.as_str().into()), b""),
            Change::Task { id, params } => ((Watched::Task, id.as_str().into()), params),
            Change::Prompts | Change::Resources | Change::Tools => return Some(change),
        };
        if self.topics.len() >= self.many.max(FEW) {
            self.topics.retain(|_, (paced, _)| paced.is_due || paced.next > now);
            self.many = 2 * self.topics.len();
        }
        let (paced, kept) = self.topics.entry(key).or_default();
        let bytes = self.kept_bytes - kept.len() + params.len();
        if bytes > KEPT_BYTES_MAX || paced.note(now) {
            // What was kept is older than this.
            self.kept_bytes -= std::mem::take(kept).len();
            paced.is_due = false;
            return Some(change);
        }
        (self.kept_bytes, *kept) = (bytes, params.to_vec());
        self.due = Some(self.due.map_or(paced.next, |due| due.min(paced.next)));
        None
    }

    /// What is to be told now.
    pub fn due(&mut self, now: Nanos) -> Vec<Change> {
        let mut told: Vec<Change> = Vec::new();
        told.extend(self.lists.iter_mut().zip(LISTS).filter_map(|(paced, list)| paced.take_due(now).then_some(list)));
        if self.due.is_none_or(|due| due > now) {
            return told;
        }
        for ((what, topic), (paced, kept)) in &mut self.topics {
            if paced.take_due(now) {
                let params = std::mem::take(kept);
                self.kept_bytes -= params.len();
                told.push(match what {
                    Watched::Resource => Change::Resource(topic.to_string()),
                    Watched::Task => Change::Task { id: topic.to_string(), params },
                });
            }
        }
        self.due = self.topics.values().filter_map(|(paced, _)| paced.deadline()).min();
        told
    }

    /// When something has to be told.
    pub fn deadline(&self) -> Option<Nanos> {
        self.lists.iter().filter_map(Paced::deadline).chain(self.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(params: &str) -> Change {
        Change::Task { id: "t".into(), params: params.into() }
    }

    #[test]
    fn a_flood_of_changes_is_told_now_and_then_and_its_last_one_too() {
        for change in [Change::Tools, Change::Resource("a:b".into()), task("{}")] {
            let mut changes = Changes::default();
            let mut told = Vec::new();
            for now in (0..1_000_000_000).step_by(1_000_000) {
                told.extend(changes.due(now).into_iter().map(|change| (now, change)));
                told.extend(changes.note(now, change.clone()).map(|change| (now, change)));
            }
            assert_eq!(told.len(), 20);
            assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= APART));
            assert!(told.iter().all(|(_, one)| *one == change));
            // Another thing waits for nothing, and the last change is told.
            assert!(changes.note(999_000_000, Change::Prompts).is_some());
            assert!(changes.note(999_000_000, Change::Resource("another".into())).is_some());
            let deadline = changes.deadline().expect("the last was not told yet");
            assert!(deadline < 999_000_000 + APART);
            assert!(changes.due(deadline - 1).is_empty());
            assert_eq!(changes.due(deadline), [change]);
            assert_eq!((changes.deadline(), changes.due(Nanos::MAX / 2)), (None, Vec::new()));
        }
    }

    #[test]
    fn of_a_task_is_told_how_it_stood_last() {
        let mut changes = Changes::default();
        assert_eq!(changes.note(0, task("1")), Some(task("1")));
        assert_eq!((changes.note(1, task("2")), changes.note(2, task("3"))), (None, None));
        assert_eq!((changes.due(APART), changes.kept_bytes), (vec![task("3")], 0));
        // What would be too much to keep is told.
        let large = task(&"4".repeat(KEPT_BYTES_MAX + 1));
        assert_eq!(changes.note(APART + 1, task("5")), None);
        assert!(changes.note(APART + 2, large.clone()) == Some(large));
        assert_eq!((changes.due(APART * 3), changes.kept_bytes, changes.deadline()), (vec![], 0, None));
    }

    #[test]
    fn what_is_told_of_no_more_is_forgotten() {
        let mut changes = Changes::default();
        for number in 0..10_000u64 {
            assert!(changes.note(number * APART, Change::Resource(number.to_string())).is_some());
        }
        assert!(changes.topics.len() <= 2 * FEW, "{}", changes.topics.len());
    }
}
