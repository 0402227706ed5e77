//! Why a JSON text was refused.
//!
//! Not here: the JSON-RPC code it becomes (every one of these is the peer's fault, and answers -32700 unless it is only
//! too large).
//! Invariant: each refusal knows the byte it happened at.

use thiserror::Error;

use crate::limits::{BATCH_MESSAGES_MAX, BODY_BYTES_MAX, JSON_DEPTH_MAX, JSON_TOKENS_MAX};

/// A refused JSON text: what was seen, where (in bytes from the start of the text) and what is allowed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ScanError {
    /// A root array has too many elements.
    #[error("the batch has more than {BATCH_MESSAGES_MAX} messages (byte {at}); send the rest in another one")]
    BatchTooLong {
        /// Where the first element too many begins.
        at: usize,
    },
    /// The text begins with U+FEFF.
    #[error("the text begins with a byte order mark; send UTF-8 without one")]
    ByteOrderMark,
    /// A raw byte below 0x20 stands in a string.
    #[error("control character {byte:#04x} in a string at byte {at}; write it as \\u{byte:04x}")]
    ControlCharacter {
        /// Where.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// Arrays and objects are nested too deeply.
    #[error("nested deeper than {JSON_DEPTH_MAX} arrays and objects at byte {at}; flatten the value")]
    DepthExceeded {
        /// Where the container too deep begins.
        at: usize,
    },
    /// An object has the same key twice, after unescaping.
    #[error("the key at byte {at} already occurs in the same object; each key may occur once")]
    DuplicateKey {
        /// Where the repeated key begins (its quote).
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("invalid UTF-8 in a string at byte {at}; a JSON text is UTF-8")]
    InvalidUtf8 {
        /// Where the invalid sequence begins.
        at: usize,
    },
    /// A `\ud800` to `\udfff` escape has no partner.
    #[error("the escape at byte {at} is half of a surrogate pair; write both halves, high then low")]
    LoneSurrogate {
        /// Where its backslash stands.
        at: usize,
    },
    /// No finite `f64` is near this number.
    #[error(
        "the number at byte {at} is out of range; magnitudes up to 1.79e308 are accepted, send larger ones as text"
    )]
    NumberOutOfRange {
        /// Where it begins.
        at: usize,
    },
    /// A byte that the grammar does not allow.
    #[error("not JSON at byte {at}: expected {expected}")]
    Syntax {
        /// Where.
        at: usize,
        /// What the grammar allows there.
        expected: &'static str,
    },
    /// The text is larger than any message may be.
    #[error("the text has {bytes} bytes; at most {BODY_BYTES_MAX} are accepted")]
    TextTooLong {
        /// Its size.
        bytes: usize,
    },
    /// There are too many values and keys.
    #[error("more than {JSON_TOKENS_MAX} values and keys (byte {at}); split the message")]
    TooManyTokens {
        /// Where the first token too many begins.
        at: usize,
    },
    /// Something other than whitespace follows the value.
    #[error("bytes after the end of the value at byte {at}; send one JSON value per message")]
    TrailingBytes {
        /// Where they begin.
        at: usize,
    },
    /// The text ends inside the value.
    #[error("the text ends at byte {at} where {expected} was expected; was it cut off?")]
    Truncated {
        /// The size of the text.
        at: usize,
        /// What the grammar allows next.
        expected: &'static str,
    },
}

impl ScanError {
    /// The offset of the byte that was refused, from the start of the text.
    pub fn at(&self) -> usize {
        match *self {
            Self::ByteOrderMark => 0,
            Self::TextTooLong { .. } => BODY_BYTES_MAX,
            Self::BatchTooLong { at }
            | Self::ControlCharacter { at, .. }
            | Self::DepthExceeded { at }
            | Self::DuplicateKey { at }
            | Self::InvalidUtf8 { at }
            | Self::LoneSurrogate { at }
            | Self::NumberOutOfRange { at }
            | Self::Syntax { at, .. }
            | Self::TooManyTokens { at }
            | Self::TrailingBytes { at }
            | Self::Truncated { at, .. } => at,
        }
    }

    /// Whether as much as was read is JSON, and there is too much of it.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::BatchTooLong { .. } | Self::TextTooLong { .. } | Self::TooManyTokens { .. })
    }

    /// The refusal for `text[at]`: `Truncated` when there is no such byte, else `Syntax`.
    #[cold]
    pub(super) fn unexpected(text: &[u8], at: usize, expected: &'static str) -> Self {
        if at < text.len() { Self::Syntax { at, expected } } else { Self::Truncated { at: text.len(), expected } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_the_remedy() {
        let seen = ScanError::ControlCharacter { at: 7, byte: 10 };
        assert_eq!(seen.to_string(), "control character 0x0a in a string at byte 7; write it as \\u000a");
        assert_eq!(seen.at(), 7);
        assert!(ScanError::DepthExceeded { at: 3 }.to_string().contains("64"));
        assert_eq!(ScanError::unexpected(b"ab", 2, "x"), ScanError::Truncated { at: 2, expected: "x" });
        assert_eq!(ScanError::unexpected(b"ab", 1, "x"), ScanError::Syntax { at: 1, expected: "x" });
    }
}
