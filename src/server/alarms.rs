//! Alarms: wakers that handlers set for a time, precise to the loop's turn.
//!
//! Not here: the core's own deadlines, which are many and coarse (`wheel`).
//! Invariant: an alarm rings once, at or after its time, and is kept for no longer than somebody waits for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::service::Nanos;

#[derive(Default)]
struct Set {
    /// By time, and for the same time in the order in which they were set.
    wakers: BTreeMap<(Nanos, u64), Waker>,
    order: u64,
}

/// The alarms of one core; a clone is another handle to the same.
#[derive(Clone, Default)]
pub struct Alarms(Rc<RefCell<Set>>);

/// An alarm that is set; dropping it takes it back.
#[must_use = "an alarm that is dropped does not ring"]
pub struct Alarm {
    set: Rc<RefCell<Set>>,
    key: (Nanos, u64),
}

impl Alarm {
    /// Has it wake whoever polls now, and not whom it was set for.
    pub fn keep(&self, context: &Context<'_>) {
        let mut set = self.set.borrow_mut();
        let waker = set.wakers.get_mut(&self.key).filter(|waker| !waker.will_wake(context.waker()));
        let before = waker.map(|waker| std::mem::replace(waker, context.waker().clone()));
        drop(set);
        // What a waker's end brings about may set or take back alarms.
        drop(before);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = self.set.borrow_mut().wakers.remove(&self.key);
        drop(waker);
    }
}

impl Alarms {
    /// Wakes the waker once, at or soon after `at`, unless what is returned is dropped before.
    pub fn set(&self, at: Nanos, waker: Waker) -> Alarm {
        let mut set = self.0.borrow_mut();
        set.order += 1;
        let key = (at, set.order);
        set.wakers.insert(key, waker);
        Alarm { set: Rc::clone(&self.0), key }
    }

    /// When the next one rings.
    pub fn next(&self) -> Option<Nanos> {
        self.0.borrow().wakers.first_key_value().map(|(&(at, _), _)| at)
    }

    /// How many are set.
    pub fn count(&self) -> usize {
        self.0.borrow().wakers.len()
    }

    /// Rings all that are due; how many.
    pub fn ring(&self, now: Nanos) -> usize {
        let mut rung = 0;
        while self.next().is_some_and(|at| at <= now) {
            // Taken out first: a waker may set another alarm.
            let first = self.0.borrow_mut().wakers.pop_first();
            if let Some((_, waker)) = first {
                waker.wake();
                rung += 1;
            }
        }
        rung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_ring_in_order_and_once() {
        let alarms = Alarms::default();
        let kept: Vec<Alarm> = [5, 1, 3].map(|at| alarms.set(at, Waker::noop().clone())).into();
        assert_eq!(alarms.next(), Some(1));
        assert_eq!((alarms.ring(0), alarms.ring(3), alarms.ring(3)), (0, 2, 0));
        assert_eq!(alarms.next(), Some(5));
        drop(kept);
    }

    #[test]
    fn an_alarm_that_nobody_waits_for_is_forgotten() {
        let alarms = Alarms::default();
        let kept = alarms.set(9, Waker::noop().clone());
        for at in 0..10_000 {
            drop(alarms.set(at, Waker::noop().clone()));
        }
        assert_eq!((alarms.count(), alarms.next()), (1, Some(9)));
        assert_eq!(alarms.ring(9), 1);
        drop(kept);
        assert_eq!(alarms.count(), 0);
    }
}
