//! Protocol revisions, oldest first.
//!
//! Not here: which revision a request speaks (`server/router`).
//! Invariant: `Ord` is the order of publication, so `version >= Version::V2025_06_18` reads as it should.

use std::fmt;

/// A released revision of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    /// 2024-11-05: the first; HTTP+SSE.
    V2024_11_05 = 0,
    /// 2025-03-26: Streamable HTTP, sessions, batching.
    V2025_03_26 = 1,
    /// 2025-06-18: no batching, structured output, elicitation.
    V2025_06_18 = 2,
    /// 2025-11-25: tasks in core, URL elicitation, SSE polling.
    V2025_11_25 = 3,
    /// 2026-07-28: stateless; "modern".
    V2026_07_28 = 4,
}

impl Version {
    /// Every revision, oldest first.
    pub const ALL: [Version; 5] =
        [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25, Version::V2026_07_28];
    /// The newest revision that opens with `initialize`.
    pub const LATEST_LEGACY: Version = Version::V2025_11_25;
    /// What a legacy request without a version header is taken to speak (2025-06-18, "Protocol Version Header").
    pub const LEGACY_DEFAULT: Version = Version::V2025_03_26;

    /// The revision with this name on the wire.
    pub fn parse(text: &[u8]) -> Option<Version> {
        Version::ALL.into_iter().find(|version| version.as_str().as_bytes() == text)
    }

    /// The revision stored as this number by `as u8`.
    pub fn from_u8(number: u8) -> Option<Version> {
        Version::ALL.get(usize::from(number)).copied()
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V2024_11_05 => "2024-11-05",
            Version::V2025_03_26 => "2025-03-26",
            Version::V2025_06_18 => "2025-06-18",
            Version::V2025_11_25 => "2025-11-25",
            Version::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether the revision is stateless: no `initialize`, no session, `_meta` on every request.
    pub fn is_modern(self) -> bool {
        self >= Version::V2026_07_28
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_keep_their_order() {
        for (index, version) in Version::ALL.into_iter().enumerate() {
            assert_eq!(Version::parse(version.as_str().as_bytes()), Some(version));
            assert_eq!(Version::from_u8(index as u8), Some(version));
        }
        assert!(Version::ALL.is_sorted());
        assert_eq!(Version::parse(b"2024-10-07"), None);
    }
}
