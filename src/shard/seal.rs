//! Sealing: what goes through a client's hands and comes back is encrypted and authenticated (AES-256-GCM, 96-bit
//! nonce: a random prefix per sealer and a counter), so that nobody can read, forge or guess it.
//!
//! Not here: where keys and entropy come from, what is sealed.
//! Invariant: a nonce is used once per key. A sealer counts from a random 96-bit start, so that two sealers with one
//! key (other cores, or this core after a restart with a configured key) do not meet.

use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits::REQUEST_STATE_BYTES_MAX;

/// What a sealed text is for. It is authenticated, so one kind cannot be passed off as another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// A legacy session's id.
    Session = b's',
    /// A `requestState` of a modern multi-round request.
    State = b'r',
    /// A task's id.
    Task = b't',
    /// The address of a 2024-11-05 event stream.
    Stream = b'e',
}

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of the proof that a text is whole.
const TAG_BYTES: usize = 16;
/// What sealing adds to a text before it is encoded.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Longest sealed text that is looked at: nothing that is sealed is longer than a `requestState`, and four characters
/// carry three bytes.
const SEALED_CHARACTERS_MAX: usize = (REQUEST_STATE_BYTES_MAX + SEAL_BYTES).div_ceil(3) * 4;

/// Seals and opens texts with one key.
pub struct Sealer {
    cipher: Aes256Gcm,
    prefix: [u8; 4],
    counter: u64,
}

impl Sealer {
    /// A sealer that counts its nonces from `start`, which must be random wherever a key is used by more than one
    /// sealer.
    pub fn new(key: &[u8; 32], start: [u8; NONCE_BYTES]) -> Sealer {
        let [a, b, c, d, counter @ ..] = start;
        let counter = u64::from_be_bytes(counter);
        Sealer { cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)), prefix: [a, b, c, d], counter }
    }

    /// Seals `plain`: visible ASCII (base64url), 28 bytes longer before encoding.
    ///
    /// # Panics
    /// If `plain` is longer than AES-GCM allows (64 GiB).
    pub fn seal(&mut self, purpose: Purpose, plain: &[u8]) -> String {
        self.counter = self.counter.wrapping_add(1);
        let mut nonce = [0; NONCE_BYTES];
        nonce[..4].copy_from_slice(&self.prefix);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        let payload = Payload { msg: plain, aad: &[purpose as u8] };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).expect("the text is far below AES-GCM's limit");
        let mut whole = Vec::with_capacity(NONCE_BYTES + sealed.len());
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        URL_SAFE_NO_PAD.encode(whole)
    }

    /// Opens what a sealer with the same key made for the same purpose; `None` for everything else.
    pub fn open(&self, purpose: Purpose, sealed: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() > SEALED_CHARACTERS_MAX {
            return None;
        }
        let mut room = vec![0; base64::decoded_len_estimate(sealed.len())];
        self.open_within(purpose, sealed, &mut room).map(<[u8]>::to_vec)
    }

    /// As [`open`](Self::open), without an allocation: `None` also if `room` is smaller than what is sealed and
    /// [`SEAL_BYTES`]. What is in it afterwards, if `None` is said, means nothing.
    pub fn open_within<'a>(&self, purpose: Purpose, sealed: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = URL_SAFE_NO_PAD.decode_slice(sealed, room).ok()?;
        let (nonce, rest) = room.get_mut(..length)?.split_first_chunk_mut::<NONCE_BYTES>()?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
        let aad = &[purpose as u8];
        self.cipher.decrypt_inout_detached(&Nonce::from(*nonce), aad, (&mut *text).into(), &(*tag).into()).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_state_opens_and_nothing_larger_is_looked_at() {
        let mut ours = Sealer::new(&[7; 32], [0; 12]);
        let plain = vec![b'x'; REQUEST_STATE_BYTES_MAX];
        let sealed = ours.seal(Purpose::State, &plain);
        assert_eq!(ours.open(Purpose::State, sealed.as_bytes()), Some(plain));
        let larger = ours.seal(Purpose::State, &vec![b'x'; REQUEST_STATE_BYTES_MAX + 4]);
        assert_eq!(ours.open(Purpose::State, larger.as_bytes()), None);
    }

    #[test]
    fn a_sealed_text_opens_only_whole_and_for_its_purpose() {
        let mut ours = Sealer::new(&[7; 32], [0; 12]);
        let sealed = ours.seal(Purpose::Session, b"shard 3");
        assert!(sealed.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "a header value: {sealed}");
        assert_eq!(ours.open(Purpose::Session, sealed.as_bytes()).as_deref(), Some(&b"shard 3"[..]));
        assert_eq!(ours.open(Purpose::Task, sealed.as_bytes()), None);
        assert_eq!(Sealer::new(&[8; 32], [0; 12]).open(Purpose::Session, sealed.as_bytes()), None);
        for index in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.open(Purpose::Session, &forged), None, "byte {index}");
            assert_eq!(ours.open(Purpose::Session, &sealed.as_bytes()[..index]), None, "cut at {index}");
        }
        let mut room = [0; 7 + SEAL_BYTES];
        assert_eq!(ours.open_within(Purpose::Session, sealed.as_bytes(), &mut room), Some(&b"shard 3"[..]));
        assert_eq!(ours.open_within(Purpose::Session, sealed.as_bytes(), &mut room[1..]), None, "no room");
        assert_ne!(ours.seal(Purpose::Session, b"shard 3"), sealed, "each nonce is used once");
    }
}
