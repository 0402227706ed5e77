//! A timer wheel: cheap to set, cheap to look at, coarse.
//!
//! Not here: clocks. Time is an argument, in ticks since the wheel was made.
//! Invariant: an entry is handed out at or after its tick, within one turn of the wheel of being due, never before.

/// A wheel of `SLOTS` ticks; what lies further ahead waits in the slot it will pass through and is put on again.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    /// One bit for each slot that is not empty.
    occupied: Vec<u64>,
    /// The tick up to which everything was handed out.
    done: u64,
    length: usize,
}

const SLOTS: usize = 2048;

impl<T> Default for Wheel<T> {
    fn default() -> Wheel<T> {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: vec![0; SLOTS / 64], done: 0, length: 0 }
    }
}

impl<T> Wheel<T> {
    /// Puts an entry on the wheel, for the given tick or the next one if that has passed.
    pub fn insert(&mut self, tick: u64, entry: T) {
        let due = tick.max(self.done + 1);
        // Beyond the horizon: the last slot before the wheel comes round, from where it is put on again.
        let visit = due.min(self.done + SLOTS as u64 - 1);
        let slot = visit as usize % SLOTS;
        self.slots[slot].push((due, entry));
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.length += 1;
    }

    /// How many entries are on the wheel.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.length == 0
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
            let entries = std::mem::take(&mut self.slots[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.length -= entries.len();
            for (at, entry) in entries {
                if at <= next { due(entry) } else { self.insert(at, entry) }
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
}
