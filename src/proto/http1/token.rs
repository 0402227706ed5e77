//! Tokens, the words HTTP is made of (RFC 9110 section 5.6.2).
//!
//! Not here: what any token means.
//! Invariant: the one definition, so that finder, parser and writer never disagree about a name.

/// Whether a byte may stand in a token.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    IS_TOKEN_BYTE[byte as usize]
}

/// Whether these bytes are a token: at least one, and nothing else.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether a token is `known`, which is in lower case, in any case. The length is part of the type, so the compiler
/// compares whole words instead of bytes.
///
/// Setting one bit lowers letters; of the bytes a token may hold, none but the upper-case letter becomes a letter, a
/// digit or `-` by it, and `known` holds nothing else.
#[inline(always)]
pub(super) fn same<const N: usize>(token: &[u8], known: &[u8; N]) -> bool {
    const LOWER: u64 = u64::MAX / 0xff * 0x20;
    let Ok(token) = <&[u8; N]>::try_from(token) else { return false };
    let word = |bytes: &[u8; N], at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let mut difference = 0;
    if N >= 8 {
        let mut at = 0;
        while at < N {
            // The last word reaches back over bytes that were compared already.
            let from = at.min(N - 8);
            difference |= (word(token, from) | LOWER) ^ word(known, from);
            at += 8;
        }
    } else {
        for at in 0..N {
            difference |= u64::from((token[at] | 0x20) ^ known[at]);
        }
    }
    difference == 0
}

const IS_TOKEN_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparing_is_exact_for_every_token_byte() {
        for known in *b"abcdefghijklmnopqrstuvwxyz0123456789-" {
            for byte in (0..=255).filter(|&byte| is_token_byte(byte)) {
                assert_eq!(same(&[byte], &[known]), byte.eq_ignore_ascii_case(&known), "{byte} {known}");
            }
        }
        assert!(same(b"Content-LENGTH", b"content-length"));
        assert!(!same(b"Content-Lengt", b"content-length") && !same(b"Content-Length2", b"content-length"));
    }
}
