//! A table of small records that are found with one look at memory.
//!
//! A replica of many entries is larger than the caches, and a look-up is what its looks at memory cost. A table with
//! its tags apart from its records looks twice; here records lie in the order of their hashes, each as near to its own
//! place as those before it allow (linear probing, and what follows is moved up when one goes).
//! Not here: what the records say. Invariant: from a record's own place to where it lies no place is vacant, and a
//! third of all places is vacant at least. Whoever makes up names cannot crowd them: the hash has a secret.

use super::names::Key;

/// A record that a table can hold.
pub(super) trait Keyed: Copy {
    /// What it is found by; that of a vacant place is [`Key::MOST`], which is no name's but by a chance of 2^-96.
    fn key(&self) -> Key;

    /// Marks a vacant place.
    const VACANT: Self;
}

/// The table.
pub(super) struct Probed<T> {
    places: Vec<T>,
    len: usize,
}

impl<T> Default for Probed<T> {
    fn default() -> Probed<T> {
        Probed { places: Vec::new(), len: 0 }
    }
}

impl<T: Keyed> Probed<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter(|record| record.key() != Key::MOST)
    }

    /// Where a record lies if nothing is in its way.
    #[inline]
    fn home(&self, key: Key) -> usize {
        (((key.spread() >> 32) * self.places.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, place: usize) -> usize {
        if place + 1 == self.places.len() { 0 } else { place + 1 }
    }

    /// The place of a key: where it lies, or the vacant one where it would.
    #[inline]
    fn place(&self, key: Key) -> usize {
        let mut place = self.home(key);
        loop {
            let known = self.places[place].key();
            if known == key || known == Key::MOST {
                return place;
            }
            place = self.after(place);
        }
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<&T> {
        if self.places.is_empty() {
            return None;
        }
        let record = &self.places[self.place(key)];
        (record.key() == key && key != Key::MOST).then_some(record)
    }

    /// Takes a record in, in place of what has the same key.
    pub(super) fn insert(&mut self, record: T) {
        debug_assert!(record.key() != Key::MOST, "no name has this key");
        if (self.len + 1) * 3 > self.places.len() * 2 {
            self.grow();
        }
        let place = self.place(record.key());
        self.len += usize::from(self.places[place].key() == Key::MOST);
        self.places[place] = record;
    }

    /// Takes a record out; what had to make way for it moves up.
    pub(super) fn remove(&mut self, key: Key) {
        if self.find(key).is_none() {
            return;
        }
        let all = self.places.len();
        let mut vacant = self.place(key);
        let mut place = self.after(vacant);
        while self.places[place].key() != Key::MOST {
            let home = self.home(self.places[place].key());
            // How far it lies from its own place, and from the vacant one: it may not move past its own.
            if (place + all - home) % all >= (place + all - vacant) % all {
                self.places[vacant] = self.places[place];
                vacant = place;
            }
            place = self.after(place);
        }
        self.places[vacant] = T::VACANT;
        self.len -= 1;
    }

    /// By a half: memory counts as well.
    #[cold]
    fn grow(&mut self) {
        let places = self.places.len() + self.places.len() / 2 + 8;
        let before = std::mem::replace(&mut self.places, vec![T::VACANT; places]);
        for record in before.into_iter().filter(|record| record.key() != Key::MOST) {
            let place = self.place(record.key());
            self.places[place] = record;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Counted(Key, u32);

    impl Keyed for Counted {
        fn key(&self) -> Key {
            self.0
        }

        const VACANT: Counted = Counted(Key::MOST, 0);
    }

    /// Keys whose own places are few and lie around the end of the table, so that they are in each other's way.
    fn key(number: u8) -> Key {
        let mut bytes = [number; 12];
        bytes[8..].copy_from_slice(&[0, 0, number % 3, if number.is_multiple_of(2) { 255 } else { 0 }]);
        Key::from_bytes(bytes)
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(steps in prop::collection::vec((any::<bool>(), 0u8..40), 1..300)) {
            let (mut table, mut map) = (Probed::<Counted>::default(), BTreeMap::new());
            for (step, (insert, number)) in (0u32..).zip(steps) {
                if insert {
                    table.insert(Counted(key(number), step));
                    map.insert(key(number), step);
                } else {
                    table.remove(key(number));
                    map.remove(&key(number));
                }
                prop_assert_eq!(table.len(), map.len());
                for number in 0..40 {
                    let known = table.find(key(number)).map(|counted| counted.1);
                    prop_assert_eq!(known, map.get(&key(number)).copied());
                }
                prop_assert_eq!(table.iter().count(), map.len());
                prop_assert!(table.len() * 3 <= table.places.len() * 2);
            }
        }
    }
}
