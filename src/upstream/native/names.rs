//! Finding a handler by its name.
//!
//! Not here: which names are allowed.
//! Invariant: the table is filled when the server is built and never again, by its author's names only, so a fast
//! unkeyed hash is safe: what a caller looks up cannot make it slower.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::proto::json::RawStr;

/// Name to index. Keyed by bytes, so that a name in a message needs no second look at its UTF-8.
pub(super) type Names = HashMap<Box<[u8]>, usize, BuildHasherDefault<NameHasher>>;

/// The index of the name that a JSON string says.
#[inline]
pub(super) fn find(names: &Names, name: RawStr<'_>) -> Option<usize> {
    let raw = name.raw();
    if !raw.contains(&b'\\') {
        return names.get(raw).copied();
    }
    names.get(name.unescaped()?.as_bytes()).copied()
}

/// Multiplies eight bytes at a time.
#[derive(Default)]
pub(super) struct NameHasher(u64);

const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

impl NameHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(ODD);
    }
}

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        let tail = rest.iter().fold(rest.len() as u64, |tail, &byte| tail << 8 | u64::from(byte));
        self.add(tail);
    }

    /// Slices begin with one of these.
    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.add(length as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        (self.0 ^ self.0 >> 32).wrapping_mul(ODD)
    }
}
