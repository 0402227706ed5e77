//! The filter of the tests: records that never end where a message ends, with a greeting, a farewell and a cipher of
//! sorts.
//!
//! It has whatever TLS has that could disturb others: a greeting before which nothing may be said, bytes of its own to
//! send, records that come in parts, clear bytes that are others than the wire's, and an end that has to be announced.
//! Not here: security. Invariant: what one end seals the other opens, however the wire is cut.

use super::{ByteFilter, FilterFault};

/// What a client says first.
const HELLO: &[u8] = b"REFRAME1";
/// What the server answers; records follow both ways.
const READY: &[u8] = b"READY";
/// Length, high byte first, and the two bytes' sum.
const HEAD: usize = 3;
/// Most clear bytes in a record.
const RECORD_BYTES_MAX: usize = 400;

/// One end of a connection.
pub struct Reframing {
    /// Bytes that make no whole record yet.
    partial: Vec<u8>,
    /// Wire bytes to be sent.
    words: Vec<u8>,
    /// Clear bytes that wait for the end of the greeting.
    early: Vec<u8>,
    /// What the peer says to begin with, until it has.
    expected: Option<&'static [u8]>,
    sealed: u64,
    opened: u64,
    records: usize,
    finished: bool,
    peer_has_ended: bool,
}

impl Reframing {
    fn expecting(expected: &'static [u8], words: &[u8]) -> Reframing {
        Reframing {
            partial: Vec::new(),
            words: words.to_vec(),
            early: Vec::new(),
            expected: Some(expected),
            sealed: 0,
            opened: 0,
            records: 0,
            finished: false,
            peer_has_ended: false,
        }
    }

    /// The end that waits for the greeting.
    pub fn server() -> Reframing {
        Reframing::expecting(HELLO, b"")
    }

    /// The end that greets.
    pub fn client() -> Reframing {
        Reframing::expecting(READY, HELLO)
    }

    fn put_record(&mut self, clear: &[u8]) {
        let [high, low] = (clear.len() as u16).to_be_bytes();
        self.words.extend_from_slice(&[high, low, high.wrapping_add(low)]);
        for &byte in clear {
            self.words.push(byte ^ mask(self.sealed));
            self.sealed += 1;
        }
    }

    fn put_clear(&mut self, clear: &[u8]) {
        let mut rest = clear;
        while !rest.is_empty() {
            // Lengths between 1 and the most, in no order that a message could agree with.
            self.records += 1;
            let length = (self.records * 7919 % RECORD_BYTES_MAX + 1).min(rest.len());
            let (record, behind) = rest.split_at(length);
            self.put_record(record);
            rest = behind;
        }
    }

    fn take_greeting(&mut self, expected: &'static [u8]) -> Result<(), FilterFault> {
        let length = self.partial.len().min(expected.len());
        if self.partial[..length] != expected[..length] {
            return Err(FilterFault("the greeting is another"));
        }
        if length == expected.len() {
            self.partial.drain(..length);
            self.expected = None;
            if expected == HELLO {
                self.words.extend_from_slice(READY);
            }
            let early = std::mem::take(&mut self.early);
            self.put_clear(&early);
            if self.finished {
                self.put_record(&[]);
            }
        }
        Ok(())
    }
}

/// The cipher of sorts: the same for both directions, by position.
fn mask(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl ByteFilter for Reframing {
    fn open<'b>(&mut self, wire: &'b mut [u8], spill: &'b mut Vec<u8>) -> Result<&'b [u8], FilterFault> {
        self.partial.extend_from_slice(wire);
        if let Some(expected) = self.expected {
            self.take_greeting(expected)?;
        }
        if self.expected.is_some() {
            return Ok(spill);
        }
        let mut at = 0;
        while let Some(&[high, low, sum]) = self.partial.get(at..at + HEAD) {
            if high.wrapping_add(low) != sum {
                return Err(FilterFault("a record's head is damaged"));
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(record) = self.partial.get(at + HEAD..at + HEAD + length) else { break };
            if self.peer_has_ended {
                return Err(FilterFault("there is something behind the farewell"));
            }
            self.peer_has_ended = length == 0;
            for &byte in record {
                spill.push(byte ^ mask(self.opened));
                self.opened += 1;
            }
            at += HEAD + length;
        }
        self.partial.drain(..at);
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Ok(spill)
    }

    fn is_within_record(&self) -> bool {
        self.expected.is_some() || !self.partial.is_empty()
    }

    fn peer_has_ended(&self) -> bool {
        self.peer_has_ended
    }

    fn seal(&mut self, clear: Vec<u8>) -> Vec<u8> {
        if self.expected.is_some() {
            self.early.extend_from_slice(&clear);
        } else {
            self.put_clear(&clear);
        }
        std::mem::take(&mut self.words)
    }

    fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    fn held(&self) -> usize {
        self.words.len() + self.early.len()
    }

    fn finish(&mut self) {
        if !self.finished && self.expected.is_none() {
            self.put_record(&[]);
        }
        self.finished = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_one_end_seals_the_other_opens(
            clear in proptest::collection::vec(any::<u8>(), 0..3000),
            cuts in proptest::collection::vec(1usize..200, 1..40),
        ) {
            let (mut client, mut server) = (Reframing::client(), Reframing::server());
            let mut spill = Vec::new();
            server.open(&mut client.seal(Vec::new()), &mut spill).expect("a greeting");
            client.open(&mut server.seal(Vec::new()), &mut spill).expect("its answer");
            let mut wire = client.seal(clear.clone());
            client.finish();
            wire.extend(client.seal(Vec::new()));
            let mut opened = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(wire.len());
                let mut spill = Vec::new();
                opened.extend_from_slice(server.open(&mut wire[at..end], &mut spill).expect("records"));
                at = end;
                if at == wire.len() {
                    break;
                }
            }
            prop_assert_eq!(opened, clear);
            prop_assert!(server.peer_has_ended() && !server.is_within_record());
        }
    }
}
