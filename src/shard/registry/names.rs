//! Names, and the keyed hash that turns one into a key: where it lives, and what the other cores know it by.
//!
//! Not here: where the hash's key comes from (entropy is an argument), what is kept under a key.
//! Invariant: 96 bits of a keyed hash stand for a name. Whoever does not know the process's key cannot make two names
//! share one, and by chance it takes some 2^48 names until two do; nor can anybody aim names at one shard.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::ids::ShardId;

/// What a name is a name of. Servers and transports may bear the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An MCP server.
    Server = 0,
    /// A way by which messages come and go: a client's connection, for example.
    Transport = 1,
}

impl Kind {
    /// The kind of this number, as it stands in a parcel.
    pub fn from_number(number: u8) -> Option<Kind> {
        match number {
            0 => Some(Kind::Server),
            1 => Some(Kind::Transport),
            _ => None,
        }
    }
}

/// A name's hash: 12 bytes that stand for kind and name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key([u32; 3]);

impl Key {
    /// The smallest and the largest key.
    pub const LEAST: Key = Key([0; 3]);
    /// See [`Key::LEAST`].
    pub const MOST: Key = Key([u32::MAX; 3]);

    /// The shard that a name of this key lives in.
    #[inline]
    pub fn shard(self, shards: usize) -> ShardId {
        let low = u64::from(self.0[0]) | u64::from(self.0[1]) << 32;
        ShardId((low % shards as u64) as u16)
    }

    /// Bits for a table within a shard: other ones than those that chose the shard.
    #[inline]
    pub(super) fn spread(self) -> u64 {
        u64::from(self.0[2]) << 32 | u64::from(self.0[1])
    }

    /// As it travels.
    #[inline]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (four, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// As it arrives.
    #[inline]
    pub fn from_bytes(bytes: [u8; 12]) -> Key {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Key([u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([i, j, k, l])])
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}{:08x}{:08x}", self.0[2], self.0[1], self.0[0])
    }
}

/// Makes keys of names; the same on every core of a process.
#[derive(Clone, Copy)]
pub struct Names {
    secret: (u64, u64),
}

impl Names {
    /// With a secret drawn at start.
    pub fn new(secret: [u8; 16]) -> Names {
        let [a, b, c, d, e, f, g, h, rest @ ..] = secret;
        Names { secret: (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest)) }
    }

    /// The key of a name.
    #[inline]
    pub fn key(&self, kind: Kind, name: &str) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0 ^ kind as u64, self.secret.1);
        hasher.write(name.as_bytes());
        let hash = hasher.finish128();
        Key([hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SHARDS_MAX;

    #[test]
    fn kinds_names_and_secrets_make_other_keys() {
        let names = Names::new([1; 16]);
        let key = names.key(Kind::Server, "files");
        assert_eq!(key, names.key(Kind::Server, "files"));
        assert_ne!(key, names.key(Kind::Transport, "files"));
        assert_ne!(key, names.key(Kind::Server, "Files"));
        assert_ne!(key, Names::new([2; 16]).key(Kind::Server, "files"));
        assert_eq!(Key::from_bytes(key.to_bytes()), key);
        assert_eq!(size_of::<Key>(), 12);
    }

    #[test]
    fn a_hundred_thousand_names_lie_evenly_on_64_shards() {
        let names = Names::new([3; 16]);
        let mut counts = [0u32; 64];
        for number in 0..100_000 {
            counts[names.key(Kind::Server, &format!("server_{number}")).shard(64).index()] += 1;
        }
        let (least, most) = (counts.iter().min().expect("64"), counts.iter().max().expect("64"));
        let skew = f64::from(most - least) / (100_000.0 / 64.0);
        assert!(skew < 0.30, "from {least} to {most}: {skew}");
    }

    #[test]
    fn a_shard_is_the_hash_modulo_their_number() {
        let key = Key([7, 1, 9]);
        for shards in 1..=SHARDS_MAX {
            assert_eq!(key.shard(shards).index() as u64, ((1u64 << 32) + 7) % shards as u64);
        }
    }
}
