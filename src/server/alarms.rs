//! Alarms: wakers that handlers set for a time, precise to the loop's turn.
//!
//! Not here: the core's own deadlines, which are many and coarse (`wheel`).
//! Invariant: an alarm rings once, at or after its time.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::task::Waker;

use super::service::Nanos;

struct Alarm {
    at: Nanos,
    order: u64,
    waker: Waker,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Alarm) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Alarm) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Alarm) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
struct Set {
    heap: BinaryHeap<Reverse<Alarm>>,
    order: u64,
}

/// The alarms of one core; a clone is another handle to the same.
#[derive(Clone, Default)]
pub struct Alarms(Rc<RefCell<Set>>);

impl Alarms {
    /// Wakes the waker once, at or soon after `at`.
    pub fn set(&self, at: Nanos, waker: Waker) {
        let mut set = self.0.borrow_mut();
        set.order += 1;
        let order = set.order;
        set.heap.push(Reverse(Alarm { at, order, waker }));
    }

    /// When the next one rings.
    pub fn next(&self) -> Option<Nanos> {
        self.0.borrow().heap.peek().map(|alarm| alarm.0.at)
    }

    /// Rings all that are due; how many.
    pub fn ring(&self, now: Nanos) -> usize {
        let mut rung = 0;
        loop {
            // Taken out first: a waker may set another alarm.
            let mut set = self.0.borrow_mut();
            if set.heap.peek().is_none_or(|alarm| alarm.0.at > now) {
                return rung;
            }
            let alarm = set.heap.pop();
            drop(set);
            if let Some(Reverse(alarm)) = alarm {
                alarm.waker.wake();
                rung += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_ring_in_order_and_once() {
        let alarms = Alarms::default();
        for at in [5, 1, 3] {
            alarms.set(at, Waker::noop().clone());
        }
        assert_eq!(alarms.next(), Some(1));
        assert_eq!((alarms.ring(0), alarms.ring(3), alarms.ring(3)), (0, 2, 0));
        assert_eq!(alarms.next(), Some(5));
    }
}
