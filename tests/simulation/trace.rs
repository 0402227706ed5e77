//! The trace of a run as a digest: every event that went into a core, and every byte that came out of one.
//!
//! Not here: the events themselves; whoever wants to see them sets `CORELANE_TRACE`, and they are printed.
//! Invariant: two runs are the same, event by event and byte by byte, if and only if (but for a chance of one in 2^64)
//! their digests are.

/// What has happened, as a number.
#[derive(Clone)]
pub struct Trace {
    digest: u64,
    is_told: bool,
}

impl Trace {
    /// Nothing has happened.
    pub fn new() -> Trace {
        Trace { digest: 0xcbf2_9ce4_8422_2325, is_told: std::env::var_os("CORELANE_TRACE").is_some() }
    }

    /// A number belongs to it.
    #[inline]
    pub fn fold(&mut self, number: u64) {
        self.digest = (self.digest.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Bytes belong to it.
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let last = rest.iter().fold(rest.len() as u64, |sum, &byte| sum << 8 | u64::from(byte));
        self.fold(last);
    }

    /// Tells of an event, if somebody wants to hear.
    #[inline]
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{}", text());
        }
    }

    /// The digest so far.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}
