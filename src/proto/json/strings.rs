//! JSON strings: finding their end and judging them on the way, and undoing their escapes.
//!
//! Not here: which strings are keys, and what they mean.
//! Invariant: a string that `end` accepted is UTF-8, and `unescape` of its content gives UTF-8.

use wide::{i8x16, u8x16};

use super::error::ScanError;

/// One in every byte.
const ONES: u64 = u64::MAX / 0xff;
/// The highest bit of every byte.
const HIGHS: u64 = ONES << 7;

/// A string that was judged good.
#[derive(Clone, Copy)]
pub(super) struct Scanned {
    /// Where its closing quote stands.
    pub(super) quote: usize,
    /// Whether it has escapes.
    pub(super) escaped: bool,
}

/// Marks, by their highest bits, the bytes of `word` that end or interrupt a run of plain ASCII: quotes, backslashes,
/// control characters and everything from 0x80. (Of these, only 0xa2 loses its highest bit among the quotes, and only
/// 0xdc among the backslashes: each is still marked by the other term.)
///
/// Only the lowest mark is exact, as a borrow may reach the bytes above a real one: read it with `trailing_zeros`.
#[inline(always)]
fn interruptions(word: u64) -> u64 {
    let quotes = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslashes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let controls = word.wrapping_sub(ONES * 0x20);
    (quotes | backslashes | controls) & HIGHS
}

/// Eight bytes from `at`, the first one lowest.
#[inline(always)]
pub(super) fn word_at(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*text.get(at..)?.first_chunk()?))
}

/// Sixteen bytes from `at`.
#[inline(always)]
pub(super) fn block_at(text: &[u8], at: usize) -> Option<&[u8; 16]> {
    text.get(at..)?.first_chunk()
}

/// One bit for each byte of `block` that ends or interrupts a run of plain ASCII, as [`interruptions`] says.
#[inline(always)]
fn interruptions_of(block: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*block).cast_signed();
    let is = |byte: u8| bytes.simd_eq(i8x16::splat(byte as i8));
    // As signed numbers, the control characters and everything from 0x80 are those below 0x20.
    let marks = is(b'"') | is(b'\\') | bytes.simd_lt(i8x16::splat(0x20));
    marks.to_bitmask()
}

/// Where in `block` the first byte is that [`interruptions_of`] marks; 16 or more when there is none.
#[inline(always)]
pub(super) fn first_interruption(block: &[u8; 16]) -> usize {
    interruptions_of(block).trailing_zeros() as usize
}

/// Finds the closing quote of the string whose content begins at `start`.
#[inline(always)]
pub(super) fn end(text: &[u8], start: usize) -> Result<Scanned, ScanError> {
    let mut at = start;
    at += loop {
        let Some(block) = block_at(text, at) else { break first_of_the_rest(text, at) };
        let first = first_interruption(block);
        if first < 16 {
            break first;
        }
        at += 16;
    };
    if text.get(at) == Some(&b'"') { Ok(Scanned { quote: at, escaped: false }) } else { end_of_rich(text, start, at) }
}

/// [`first_interruption`] of the last bytes of a text, of which fewer than a block are left from `at`; 0 when there is
/// none. The block that ends with the text holds them, and some that were looked at already.
#[inline(always)]
fn first_of_the_rest(text: &[u8], at: usize) -> usize {
    let Some((before, block)) = text.split_last_chunk() else { return 0 };
    match interruptions_of(block) >> (at - before.len()) {
        0 => 0,
        marks => marks.trailing_zeros() as usize,
    }
}

/// The rest of [`end`], for strings that are more than plain ASCII and for the last bytes of a text.
fn end_of_rich(text: &[u8], start: usize, from: usize) -> Result<Scanned, ScanError> {
    let mut at = from;
    let mut escaped = false;
    let mut ascii = true;
    loop {
        while let Some(word) = word_at(text, at) {
            // Bytes from 0x80 are judged together at the end of the string, so that long runs of them stay fast.
            let marks = interruptions(word) & !word;
            if marks != 0 {
                let clean = marks.trailing_zeros() / 8;
                ascii &= word & HIGHS & !(u64::MAX << (8 * clean)) == 0;
                at += clean as usize;
                break;
            }
            ascii &= word & HIGHS == 0;
            at += 8;
        }
        match text.get(at) {
            Some(b'"') => break,
            Some(b'\\') => {
                at = escape(text, at)?.1;
                escaped = true;
            }
            Some(&byte) if byte < 0x20 => return Err(ScanError::ControlCharacter { at, byte }),
            Some(&byte) => {
                ascii &= byte < 0x80;
                at += 1;
            }
            None => return Err(ScanError::unexpected(text, at, "the rest of a string")),
        }
    }
    if !ascii && let Err(error) = std::str::from_utf8(&text[start..at]) {
        return Err(ScanError::InvalidUtf8 { at: start + error.valid_up_to() });
    }
    Ok(Scanned { quote: at, escaped })
}

/// Reads the escape whose backslash stands at `at`: the character it means and the offset after it.
pub(super) fn escape(text: &[u8], at: usize) -> Result<(char, usize), ScanError> {
    let plain = match text.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(text, at),
        _ => return Err(ScanError::unexpected(text, at + 1, "one of \"\\/bfnrtu after a backslash")),
    };
    Ok((plain, at + 2))
}

fn unicode_escape(text: &[u8], at: usize) -> Result<(char, usize), ScanError> {
    let first = code_unit(text, at + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    let lone = ScanError::LoneSurrogate { at };
    if first >= 0xdc00 || text.get(at + 6) != Some(&b'\\') || text.get(at + 7) != Some(&b'u') {
        return Err(lone);
    }
    let second = code_unit(text, at + 8)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(lone);
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Ok((char::from_u32(code).ok_or(lone)?, at + 12))
}

fn code_unit(text: &[u8], at: usize) -> Result<u32, ScanError> {
    (at..at + 4).try_fold(0, |unit, at| match text.get(at).and_then(|&byte| char::from(byte).to_digit(16)) {
        Some(digit) => Ok(unit << 4 | digit),
        None => Err(ScanError::unexpected(text, at, "four hexadecimal digits after \\u")),
    })
}

/// Appends the content of a string (without its quotes) with its escapes undone; at a bad escape it stops.
pub(super) fn unescape(content: &[u8], out: &mut Vec<u8>) -> Result<(), ScanError> {
    let mut at = 0;
    while let Some(run) = memchr::memchr(b'\\', &content[at..]) {
        out.extend_from_slice(&content[at..at + run]);
        let (character, next) = escape(content, at + run)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at = next;
    }
    out.extend_from_slice(&content[at..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The obvious way to find the end: byte by byte.
    fn end_slowly(text: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            match *text.get(at)? {
                b'"' => return std::str::from_utf8(&text[..at]).is_ok().then_some(at),
                b'\\' => at = escape(text, at).ok()?.1,
                byte if byte < 0x20 => return None,
                _ => at += 1,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn words_agree_with_bytes(text in prop::collection::vec(
            prop_oneof![8 => 0x1e..=0x24u8, 8 => 0x5a..=0x5eu8, 4 => 0x7eu8..=0x82, 20 => Just(b'x'), 2 => any::<u8>()], 0..40,
        )) {
            prop_assert_eq!(end(&text, 0).ok().map(|scanned| scanned.quote), end_slowly(&text));
        }

        #[test]
        fn words_agree_with_bytes_on_text(text in "[a-z\\x22\\\\é\u{10ffff}\u{7ff}u0-9]{0,40}") {
            prop_assert_eq!(end(text.as_bytes(), 0).ok().map(|scanned| scanned.quote), end_slowly(text.as_bytes()));
        }
    }

    #[test]
    fn each_byte_in_each_position_is_seen() {
        for byte in 0..=255u8 {
            for position in 0..44 {
                let mut text = [b'x'; 52];
                (text[position], text[48]) = (byte, b'"');
                let expected = end_slowly(&text);
                let found = end(&text, 0).ok().map(|scanned| scanned.quote);
                assert_eq!(found, expected, "{byte:#x} at {position}");
            }
        }
    }

    #[test]
    fn escapes_are_undone() {
        for (content, expected) in [
            (r#"a\/b\\\""#, "a/b\\\""),
            (r"\b\f\n\r\t", "\u{8}\u{c}\n\r\t"),
            (r"\u0041\u00e9\u20AC\ud83d\uDE00", "Aé€😀"),
            (r"\u0000x", "\0x"),
            (r"\uFFFF\udbff\udfff", "\u{ffff}\u{10ffff}"),
        ] {
            let mut out = Vec::new();
            unescape(content.as_bytes(), &mut out).expect("the content is good");
            assert_eq!(std::str::from_utf8(&out), Ok(expected));
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_where_it_stands() {
        for text in [
            r#"\ud800""#,
            r#"\udc00""#,
            r#"\ud800x""#,
            r#"\ud800\n""#,
            r#"\ud800\ud800""#,
            r#"\udc00\ud800""#,
            r#"\udfff\udfff""#,
        ] {
            assert_eq!(end(text.as_bytes(), 0).err(), Some(ScanError::LoneSurrogate { at: 0 }), "{text}");
        }
    }
}
