//! Finding a handler by its name.
//!
//! Not here: which names are allowed.
//! Invariant: the table is filled when the server is built and never again, by its author's names only, so a fast
//! unkeyed hash is safe: what a caller looks up cannot make it slower.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Name to index.
pub(super) type Names = HashMap<Box<str>, usize, BuildHasherDefault<NameHasher>>;

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

    /// `str` ends its bytes with one of these.
    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }

    #[inline]
    fn finish(&self) -> u64 {
        (self.0 ^ self.0 >> 32).wrapping_mul(ODD)
    }
}
