//! The outbox: parcels of one core on their way to the others.
//!
//! Not here: the rings they travel in (`ring`). Invariant: parcels to one core leave in the order in which they were
//! posted; a request is refused when its outbox is full, a reply never is, because its request was let in. Of changed
//! lists a core that has no room is told once, when it has.

use std::collections::VecDeque;

use super::parcel::Header;
use super::pool::Pool;
use crate::ids::CoreId;
use crate::limits::OUTBOX_BYTES_MAX;

struct Parcel {
    header: Header,
    payload: Vec<u8>,
}

/// Parcels to one receiver.
#[derive(Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// How many at the front have been found to have no room in the ring.
    parked: usize,
    /// Lists whose change is still to be told, one bit each.
    owed: u8,
}

impl Queue {
    /// The parcel that leaves next. Behind all others come lists whose change is owed: in the same turn, since nobody
    /// has the core look at them again.
    fn next(&mut self, waiting: &mut usize) -> Option<&Parcel> {
        if self.parcels.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            for what in (0..u8::BITS as u8).filter(|what| owed & 1 << what != 0) {
                self.bytes += size_of::<Parcel>();
                self.parcels.push_back(Parcel { header: Header::Changed { what, split: 0 }, payload: Vec::new() });
                *waiting += 1;
            }
        }
        self.parcels.front()
    }
}

/// One core's parcels under way, by receiver.
#[derive(Default)]
pub struct Outbox {
    queues: Vec<Queue>,
    waiting: usize,
}

impl Outbox {
    /// Whether another request to that core is let in.
    pub fn has_room(&self, to: CoreId) -> bool {
        self.queues.get(to.index()).is_none_or(|queue| queue.bytes < OUTBOX_BYTES_MAX)
    }

    /// Posts a parcel, whether or not there is room.
    pub fn post(&mut self, to: CoreId, header: Header, payload: Vec<u8>) {
        if self.queues.len() <= to.index() {
            self.queues.resize_with(to.index() + 1, Default::default);
        }
        let queue = &mut self.queues[to.index()];
        queue.bytes += payload.len() + size_of::<Parcel>();
        queue.parcels.push_back(Parcel { header, payload });
        self.waiting += 1;
    }

    /// Notes that a list changed, by its `what` in [`Header::Changed`], for when everything before it has left.
    pub fn owe(&mut self, to: CoreId, what: u8) {
        if let Some(queue) = self.queues.get_mut(to.index()) {
            queue.owed |= 1 << what;
        }
    }

    /// Hands parcels to `send`, each queue until it is empty or `send` says that there is no room; payloads that have
    /// left go to `pool`. How many found for the first time that they have to wait.
    pub fn flush(&mut self, pool: &mut Pool, mut send: impl FnMut(CoreId, &Header, &[u8]) -> Delivery) -> usize {
        let mut newly_parked = 0;
        if self.waiting == 0 {
            return newly_parked;
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            while let Some(parcel) = queue.next(&mut self.waiting) {
                if send(CoreId(index as u16), &parcel.header, &parcel.payload) == Delivery::Full {
                    newly_parked += queue.parcels.len() - queue.parked;
                    queue.parked = queue.parcels.len();
                    break;
                }
                queue.bytes -= parcel.payload.len() + size_of::<Parcel>();
                queue.parked = queue.parked.saturating_sub(1);
                self.waiting -= 1;
                if let Some(left) = queue.parcels.pop_front() {
                    pool.give(left.payload);
                }
            }
        }
        newly_parked
    }

    /// Forgets what is under way to a core that died.
    pub fn forget(&mut self, to: CoreId) {
        if let Some(queue) = self.queues.get_mut(to.index()) {
            self.waiting -= queue.parcels.len();
            *queue = Queue::default();
        }
    }

    /// Parcels that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Looks at every parcel: how many wait, and the most bytes that wait for one core.
    ///
    /// # Errors
    /// What was counted wrong.
    pub fn audit(&self) -> Result<(usize, usize), String> {
        let mut most = 0;
        for (index, queue) in self.queues.iter().enumerate() {
            let bytes: usize = queue.parcels.iter().map(|parcel| parcel.payload.len() + size_of::<Parcel>()).sum();
            if bytes != queue.bytes || queue.parked > queue.parcels.len() {
                return Err(format!("{bytes} bytes wait for core {index}, counted as {}", queue.bytes));
            }
            most = most.max(bytes);
        }
        let waiting = self.queues.iter().map(|queue| queue.parcels.len()).sum::<usize>();
        if waiting == self.waiting { Ok((waiting, most)) } else { Err("parcels are counted wrong".to_owned()) }
    }
}

/// What became of a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It is on its way, or there is nobody to receive it.
    Done,
    /// There is no room; try again later.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Header = Header::Gone { ticket: (1, 2) };

    #[test]
    fn parcels_leave_in_order_and_a_full_ring_keeps_them() {
        let mut outbox = Outbox::default();
        for number in 0..3u8 {
            outbox.post(CoreId(1), GONE, vec![number]);
        }
        let mut seen = Vec::new();
        let parked = outbox.flush(&mut Pool::default(), |_, _, payload| {
            if seen.len() == 2 {
                return Delivery::Full;
            }
            seen.push(payload[0]);
            Delivery::Done
        });
        assert_eq!((seen.as_slice(), outbox.waiting(), parked), (&[0, 1][..], 1, 1));
        assert_eq!(outbox.flush(&mut Pool::default(), |_, _, _| Delivery::Full), 0, "it was counted");
        outbox.post(CoreId(1), GONE, vec![3]);
        assert_eq!(outbox.flush(&mut Pool::default(), |_, _, _| Delivery::Full), 1, "another");
        let mut left = vec![2, 3].into_iter();
        outbox.flush(&mut Pool::default(), |to, _, payload| {
            assert_eq!((to, Some(payload[0])), (CoreId(1), left.next()));
            Delivery::Done
        });
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_list_that_is_owed_is_told_once_behind_all_that_waits() {
        let mut outbox = Outbox::default();
        outbox.post(CoreId(1), GONE, Vec::new());
        (0..100).for_each(|_| outbox.owe(CoreId(1), 4));
        assert_eq!((outbox.flush(&mut Pool::default(), |_, _, _| Delivery::Full), outbox.waiting()), (1, 1));
        let mut seen = Vec::new();
        // In one turn: perhaps there is no other for a long time.
        outbox.flush(&mut Pool::default(), |_, header, _| {
            seen.push(matches!(header, Header::Changed { what: 4, .. }));
            Delivery::Done
        });
        assert_eq!((seen, outbox.waiting()), (vec![false, true], 0));
    }

    #[test]
    fn requests_find_no_room_in_a_full_outbox_and_a_dead_core_frees_it() {
        let mut outbox = Outbox::default();
        outbox.post(CoreId(0), GONE, vec![0; OUTBOX_BYTES_MAX]);
        assert!(!outbox.has_room(CoreId(0)) && outbox.has_room(CoreId(1)));
        outbox.forget(CoreId(0));
        assert!(outbox.has_room(CoreId(0)) && outbox.waiting() == 0);
    }
}
