//! A short text that its core says and others read, without a lock.
//!
//! Not here: numbers (`cells`). Invariant: what is read was said as a whole: a reader that met the writer half-way
//! looks again (a sequence lock; Boehm, "Can seqlocks get along with programming language memory models?", 2012).

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Most bytes of one; a longer text is cut between two characters.
const PHRASE_BYTES_MAX: usize = WORDS * 8;

const WORDS: usize = 24;
/// How often a reader looks before it gives up. A writer is in between for nanoseconds.
const LOOKS: usize = 1_000;

/// See the module. 208 bytes.
#[derive(Debug, Default)]
pub struct Phrase {
    /// Even while the text is whole; grows by two with each.
    version: AtomicU64,
    length: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Phrase {
    /// Says it, in place of what was said before. Only the owning core may call this.
    pub fn set(&self, text: &str) {
        let text = &text.as_bytes()[..text.floor_char_boundary(PHRASE_BYTES_MAX)];
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.length.store(text.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.words.iter().zip(text.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// What was said last; empty if nothing was, or if it changes all the time.
    pub fn get(&self) -> String {
        for _ in 0..LOOKS {
            let before = self.version.load(Ordering::Acquire);
            let length = (self.length.load(Ordering::Relaxed) as usize).min(PHRASE_BYTES_MAX);
            let mut bytes: Vec<u8> =
                self.words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                bytes.truncate(length);
                return String::from_utf8(bytes).unwrap_or_default();
            }
            std::hint::spin_loop();
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_is_too_long_is_cut_between_characters() {
        let phrase = Phrase::default();
        assert_eq!(phrase.get(), "");
        phrase.set("server a refused the connection");
        assert_eq!(phrase.get(), "server a refused the connection");
        phrase.set("");
        assert_eq!(phrase.get(), "");
        let long = format!("a{}", "ä".repeat(PHRASE_BYTES_MAX));
        phrase.set(&long);
        assert_eq!(phrase.get(), format!("a{}", "ä".repeat(PHRASE_BYTES_MAX / 2 - 1)));
    }

    #[test]
    fn nobody_reads_half_a_phrase() {
        let phrase = Phrase::default();
        let said = ["a", "b"].map(|letter| letter.repeat(PHRASE_BYTES_MAX));
        phrase.set(&said[0]);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0; 2];
                while seen.contains(&0) {
                    let text = phrase.get();
                    match said.iter().position(|whole| *whole == text) {
                        Some(index) => seen[index] += 1,
                        // It changed whenever it was looked at.
                        None => assert_eq!(text, ""),
                    }
                }
            });
            let mut turn = 0;
            while !reader.is_finished() {
                turn += 1;
                phrase.set(&said[turn % 2]);
            }
        });
    }
}
