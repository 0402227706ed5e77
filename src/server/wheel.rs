//! A timer wheel: cheap to set, cheap to look at, coarse.
//!
//! Not here: clocks. Time is an argument, in ticks since the wheel was made.
//! Invariant: an entry is handed out at or after its tick, within one turn of the wheel of being due, never before; one
//! that was taken back is not there any more, so that what is over holds no memory until its time would have come.

/// Names an entry until it is handed out or taken back, and nothing after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle {
    node: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node<T> {
    due: u64,
    /// Counts the entries that it held.
    generation: u32,
    /// The slot it stands in, whose list is a ring.
    slot: u16,
    before: u32,
    after: u32,
    /// None while the node is spare; `after` is then the next spare one.
    entry: Option<T>,
}

/// A wheel of `SLOTS` ticks; what lies further ahead waits in the slot it will pass through and is put on again.
#[derive(Debug)]
pub struct Wheel<T> {
    nodes: Vec<Node<T>>,
    /// The first node of each slot.
    slots: Box<[u32]>,
    /// One bit for each slot that is not empty.
    occupied: [u64; SLOTS / 64],
    spare: u32,
    /// The tick up to which everything was handed out.
    done: u64,
    length: usize,
}

const SLOTS: usize = 2048;
const NONE: u32 = u32::MAX;

impl<T> Default for Wheel<T> {
    fn default() -> Wheel<T> {
        let slots = vec![NONE; SLOTS].into_boxed_slice();
        Wheel { nodes: Vec::new(), slots, occupied: [0; SLOTS / 64], spare: NONE, done: 0, length: 0 }
    }
}

impl<T> Wheel<T> {
    /// Puts an entry on the wheel, for the given tick or the next one if that has passed.
    ///
    /// # Panics
    /// With more than four billion entries.
    pub fn insert(&mut self, tick: u64, entry: T) -> Handle {
        let due = tick.max(self.done + 1);
        let node = match self.spare {
            NONE => {
                self.nodes.push(Node { due, generation: 0, slot: 0, before: NONE, after: NONE, entry: Some(entry) });
                u32::try_from(self.nodes.len() - 1).ok().filter(|&node| node != NONE).expect("fewer entries than that")
            }
            node => {
                let own = &mut self.nodes[node as usize];
                self.spare = own.after;
                (own.due, own.entry) = (due, Some(entry));
                node
            }
        };
        self.link(node);
        self.length += 1;
        Handle { node, generation: self.nodes[node as usize].generation }
    }

    /// Takes an entry back; none if it was handed out or taken back before.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        self.nodes.get(handle.node as usize).filter(|own| own.generation == handle.generation)?;
        self.unlink(handle.node);
        Some(self.release(handle.node))
    }

    /// How many entries are on the wheel.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts a node at the end of the list of the slot that will be looked at when it is due, or, beyond the horizon, of
    /// the last one before the wheel comes round.
    fn link(&mut self, node: u32) {
        let visit = self.nodes[node as usize].due.min(self.done + SLOTS as u64 - 1);
        let slot = visit as usize % SLOTS;
        let first = self.slots[slot];
        let (before, after) = match first {
            NONE => (node, node),
            first => (self.nodes[first as usize].before, first),
        };
        let own = &mut self.nodes[node as usize];
        (own.slot, own.before, own.after) = (slot as u16, before, after);
        self.nodes[before as usize].after = node;
        self.nodes[after as usize].before = node;
        if first == NONE {
            self.slots[slot] = node;
            self.occupied[slot / 64] |= 1 << (slot % 64);
        }
    }

    fn unlink(&mut self, node: u32) {
        let Node { slot, before, after, .. } = self.nodes[node as usize];
        let slot = usize::from(slot);
        if after == node {
            self.slots[slot] = NONE;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            return;
        }
        self.nodes[before as usize].after = after;
        self.nodes[after as usize].before = before;
        if self.slots[slot] == node {
            self.slots[slot] = after;
        }
    }

    fn release(&mut self, node: u32) -> T {
        let own = &mut self.nodes[node as usize];
        own.generation = own.generation.wrapping_add(1);
        own.after = self.spare;
        self.spare = node;
        self.length -= 1;
        own.entry.take().expect("an entry that is on the wheel")
    }

    /// The tick at which the wheel wants to be looked at next.
    pub fn next(&self) -> Option<u64> {
        if self.length == 0 {
            return None;
        }
        let start = (self.done + 1) as usize % SLOTS;
        // The words from the one with `start` on, round to its low bits again.
        for step in 0..=SLOTS / 64 {
            let word_index = (start / 64 + step) % (SLOTS / 64);
            let mut word = self.occupied[word_index];
            if step == 0 {
                word &= u64::MAX << (start % 64);
            } else if step == SLOTS / 64 {
                word &= !(u64::MAX << (start % 64));
            }
            if word != 0 {
                let slot = word_index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(self.done + 1 + ahead as u64);
            }
        }
        None
    }

    /// Hands out everything due at `tick` or before, oldest slot first.
    pub fn advance(&mut self, tick: u64, mut due: impl FnMut(T)) {
        while self.done < tick {
            let Some(next) = self.next().filter(|&next| next <= tick) else {
                self.done = tick;
                return;
            };
            self.done = next;
            let slot = next as usize % SLOTS;
            // What is put on again stands in another slot.
            while self.slots[slot] != NONE {
                let node = self.slots[slot];
                self.unlink(node);
                if self.nodes[node as usize].due <= next { due(self.release(node)) } else { self.link(node) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_at_their_tick_and_not_before() {
        let mut wheel = Wheel::default();
        for tick in [1, 5, 5, 64, 2047, 2048, 5000, 100_000] {
            wheel.insert(tick, tick);
        }
        let mut now = 0;
        let mut seen = Vec::new();
        while let Some(next) = wheel.next() {
            assert!(next > now, "the wheel asks for a tick that is over: {next} at {now}");
            now = next;
            wheel.advance(now, |due| {
                assert!(due <= now, "{due} came at {now}");
                assert!(now - due < 1, "{due} came late, at {now}");
                seen.push(due);
            });
        }
        assert_eq!(seen, [1, 5, 5, 64, 2047, 2048, 5000, 100_000]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_long_jump_hands_out_everything() {
        let mut wheel = Wheel::default();
        for tick in 1..=10_000u64 {
            wheel.insert(tick * 7 % 9_001, tick);
        }
        let mut count = 0;
        wheel.advance(20_000, |_| count += 1);
        assert_eq!(count, 10_000);
        wheel.insert(3, 1);
        assert_eq!(wheel.next(), Some(20_001), "what is late comes at the next tick");
    }

    #[test]
    fn what_is_taken_back_does_not_come_and_leaves_its_room_to_the_next() {
        let mut wheel = Wheel::default();
        let handles: Vec<Handle> = (0..300u64).map(|number| wheel.insert(number % 7 + 1, number)).collect();
        for (number, handle) in handles.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
            assert_eq!(wheel.remove(*handle), Some(number as u64));
        }
        assert_eq!(wheel.len(), 100);
        let mut seen = Vec::new();
        wheel.advance(7, |number| seen.push(number));
        // By tick, and within one in the order in which they were put on.
        let mut wanted: Vec<u64> = (0..300).filter(|number| number % 3 == 0).collect();
        wanted.sort_by_key(|number| number % 7);
        assert_eq!(seen, wanted);
        assert!(wheel.is_empty() && wheel.next().is_none());
        assert!(handles.iter().all(|handle| wheel.remove(*handle).is_none()), "each is gone by now");
        for round in 0..10_000 {
            let handle = wheel.insert(round * 31 % 100_000, round);
            assert_eq!(wheel.remove(handle), Some(round));
        }
        assert_eq!(wheel.nodes.len(), 300, "no more than there ever were at a time");
    }
}
