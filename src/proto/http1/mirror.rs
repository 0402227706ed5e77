//! Agreement of mirrored headers with the body: `Mcp-Name`, `Mcp-Method`, `Mcp-Param-*` (MCP 2026-07-28, SEP-2243).
//!
//! A header that says something else than the body is how a cheap call is shown to the limiter and another one made.
//! Not here: which header mirrors which argument (that needs the tool's schema), or finding values in the body.
//! Invariant: a header agrees only if it decodes without doubt; whatever is malformed disagrees.

use thiserror::Error;

/// Why a mirrored header is refused: answer 400 with JSON-RPC code -32020.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MirrorError {
    /// The header and the body say different things.
    #[error("the header and the body disagree; send the same value in both")]
    Disagrees,
    /// The header is neither visible ASCII nor valid `=?base64?...?=` of UTF-8.
    #[error("the header is neither visible ASCII nor =?base64?...?= of UTF-8")]
    Encoding,
    /// The body has a number and the header does not.
    #[error("the header is not a number and the body has one there")]
    NotANumber,
}

/// The value in the body that a header mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyValue<'a> {
    /// A string, its JSON escapes resolved.
    Text(&'a str),
    /// A number, as its JSON text.
    Number(&'a [u8]),
    /// A boolean.
    Bool(bool),
}

const SENTINEL_BEGIN: &[u8] = b"=?base64?";
const SENTINEL_END: &[u8] = b"?=";

/// Whether a header field's value says the same as the body's.
///
/// Numbers are compared by value (`42`, `42.0` and `4.2e1` agree) exactly, never through floating point.
pub fn agrees(header: &[u8], body: BodyValue<'_>) -> Result<(), MirrorError> {
    let mut decoded = Vec::new();
    let header = match sentinel_payload(header) {
        Some(payload) => {
            decode_base64(payload, &mut decoded).ok_or(MirrorError::Encoding)?;
            if std::str::from_utf8(&decoded).is_err() {
                return Err(MirrorError::Encoding);
            }
            &decoded[..]
        }
        None if header.iter().all(|&byte| is_plain(byte)) => header,
        None => return Err(MirrorError::Encoding),
    };
    let same = match body {
        BodyValue::Text(text) => header == text.as_bytes(),
        BodyValue::Bool(value) => header == if value { &b"true"[..] } else { b"false" },
        BodyValue::Number(number) => {
            let header = Decimal::read(header).ok_or(MirrorError::NotANumber)?;
            Decimal::read(number).is_some_and(|number| number == header)
        }
    };
    if same { Ok(()) } else { Err(MirrorError::Disagrees) }
}

/// Appends to `out` what a header field's value stands for, and returns how it reads.
pub fn decode<'o>(header: &[u8], out: &'o mut Vec<u8>) -> Result<&'o str, MirrorError> {
    let begin = out.len();
    match sentinel_payload(header) {
        Some(payload) => decode_base64(payload, out).ok_or(MirrorError::Encoding)?,
        None if header.iter().all(|&byte| is_plain(byte)) => out.extend_from_slice(header),
        None => return Err(MirrorError::Encoding),
    }
    std::str::from_utf8(&out[begin..]).map_err(|_| MirrorError::Encoding)
}

/// Appends to `out` the header field's value that stands for `text`: as it is where that is safe, else encoded.
pub fn encode(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let padded =
        bytes.first().is_some_and(u8::is_ascii_whitespace) || bytes.last().is_some_and(u8::is_ascii_whitespace);
    if !padded && bytes.iter().all(|&byte| is_plain(byte)) && sentinel_payload(bytes).is_none() {
        out.extend_from_slice(bytes);
        return;
    }
    out.extend_from_slice(SENTINEL_BEGIN);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = BASE64[((bits >> (18 - 6 * at)) & 63) as usize];
            out.push(if at <= group.len() { digit } else { b'=' });
        }
    }
    out.extend_from_slice(SENTINEL_END);
}

/// Visible ASCII, space and tab.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

fn sentinel_payload(header: &[u8]) -> Option<&[u8]> {
    header.strip_prefix(SENTINEL_BEGIN)?.strip_suffix(SENTINEL_END)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard alphabet, padded, no white space, unused bits zero: one text has one encoding only.
fn decode_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let groups = text.chunks_exact(4);
    if !groups.remainder().is_empty() {
        return None;
    }
    let last = groups.len().checked_sub(1);
    for (index, group) in groups.enumerate() {
        let padding = match group {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 1,
            _ => 0,
        };
        if padding > 0 && Some(index) != last {
            return None;
        }
        let digits = group[..4 - padding].iter().try_fold(0u32, |bits, &byte| Some((bits << 6) | digit_of(byte)?))?;
        let bits = digits << (6 * padding);
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (kept, unused) = bytes.split_at(3 - padding);
        if unused.iter().any(|&byte| byte != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(())
}

fn digit_of(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

/// A JSON number by value: `0.d1d2d3... x 10^exponent`, digits without zeros at either end; zero has none.
#[derive(Debug)]
struct Decimal<'a> {
    negative: bool,
    exponent: i64,
    /// The digits, possibly with a point among them.
    digits: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// `None` if the text is not a JSON number, or its exponent has more than nine digits.
    fn read(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&unsigned[..at], read_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
            Some(at) if at + 1 < mantissa.len() => (&mantissa[..at], &mantissa[at + 1..]),
            Some(_) => return None,
            None => (mantissa, &[][..]),
        };
        let leading_zero = whole.len() > 1 && whole[0] == b'0';
        if whole.is_empty() || leading_zero || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let is_significant = |byte: &u8| matches!(byte, b'1'..=b'9');
        let Some(first) = mantissa.iter().position(is_significant) else {
            return Some(Self { negative: false, exponent: 0, digits: &[] });
        };
        let last = mantissa.iter().rposition(is_significant)?;
        // Power of ten of the first significant digit; the point itself is not a place.
        let (first_at, point_at) = (first as i64, whole.len() as i64);
        let power = if first_at < point_at { point_at - first_at } else { point_at - first_at + 1 };
        Some(Self { negative, exponent: exponent + power, digits: &mantissa[first..=last] })
    }

    fn significant(&self) -> impl Iterator<Item = &u8> {
        self.digits.iter().filter(|&&byte| byte != b'.')
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative && self.exponent == other.exponent && self.significant().eq(other.significant())
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YES: Result<(), MirrorError> = Ok(());
    const NO: Result<(), MirrorError> = Err(MirrorError::Disagrees);
    const BAD: Result<(), MirrorError> = Err(MirrorError::Encoding);

    #[test]
    fn texts() {
        let cases: &[(&str, &str, Result<(), MirrorError>)] = &[
            ("get_weather", "get_weather", YES),
            ("get_weather", "Get_Weather", NO),
            ("get_weather", "delete_all", NO),
            ("", "", YES),
            ("=?base64?SGVsbG8=?=", "Hello", YES),
            ("=?base64?SGVsbG8=?=", "=?base64?SGVsbG8=?=", NO),
            ("=?base64?w6k=?=", "é", YES),
            ("=?base64?ZcyB?=", "é", NO),
            ("=?base64?IHBhZCA=?=", " pad ", YES),
            ("=?base64??=", "", YES),
            ("=?base64?=", "=?base64?=", YES),
            ("=?BASE64?SGVsbG8=?=", "Hello", NO),
            ("=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?=", YES),
            ("=?base64?SGVsbG8?=", "Hello", BAD),
            ("=?base64?SGVsbG9=?=", "Hello", BAD),
            ("=?base64?SGVs bG8=?=", "Hello", BAD),
            ("=?base64?SGVsbG8==?=", "Hello", BAD),
            ("=?base64?SGVsbG8====?=", "Hello", BAD),
            ("=?base64?SGV=bG8=?=", "Hello", BAD),
            ("=?base64?====?=", "", BAD),
            ("=?base64?A===?=", "", BAD),
            ("=?base64?_-_-?=", "", BAD),
            ("=?base64?/w==?=", "\u{ff}", BAD),
            ("é", "é", BAD),
        ];
        for &(header, body, expected) in cases {
            assert_eq!(agrees(header.as_bytes(), BodyValue::Text(body)), expected, "{header} {body}");
            let mut out = b"kept".to_vec();
            let decoded = decode(header.as_bytes(), &mut out).map(|text| text == body);
            let expected = match expected {
                Err(MirrorError::Disagrees) => Ok(false),
                other => other.map(|()| true),
            };
            assert_eq!(decoded, expected, "{header} {body}");
        }
    }

    #[test]
    fn numbers() {
        let same = [
            ("42", "42"),
            ("42", "42.0"),
            ("42.00", "4.2e1"),
            ("420e-1", "0.42E+2"),
            ("-7", "-7.0"),
            ("0", "-0"),
            ("0.0e5", "0"),
            ("100", "1e2"),
            ("0.001", "1e-3"),
            ("10.01", "1001e-2"),
            ("9007199254740993", "9007199254740993"),
            ("=?base64?NDI=?=", "42"),
        ];
        for (header, body) in same {
            assert_eq!(agrees(header.as_bytes(), BodyValue::Number(body.as_bytes())), YES, "{header} {body}");
        }
        let different = [
            ("42", "43"),
            ("42", "-42"),
            ("42", "4.2"),
            ("42", "420"),
            ("101", "11"),
            ("0.1", "0.01"),
            ("1", "0"),
            ("9007199254740993", "9007199254740992"),
        ];
        for (header, body) in different {
            assert_eq!(agrees(header.as_bytes(), BodyValue::Number(body.as_bytes())), NO, "{header} {body}");
        }
        for header in
            ["", "x", "+42", "042", "42.", ".5", "4 2", "1e", "1e+", "1e9999999999", "0x2a", "--1", "-", "1.2.3", "NaN"]
        {
            let verdict = agrees(header.as_bytes(), BodyValue::Number(b"42"));
            assert_eq!(verdict, Err(MirrorError::NotANumber), "{header}");
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(agrees(b"true", BodyValue::Bool(true)), YES);
        assert_eq!(agrees(b"false", BodyValue::Bool(false)), YES);
        assert_eq!(agrees(b"True", BodyValue::Bool(true)), NO);
        assert_eq!(agrees(b"1", BodyValue::Bool(true)), NO);
        assert_eq!(agrees(b"false", BodyValue::Bool(true)), NO);
    }

    #[test]
    fn encoding_only_where_needed() {
        let encoded = |text: &str| {
            let mut out = Vec::new();
            encode(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encoded("file:///a b"), "file:///a b");
        assert_eq!(encoded(" a"), "=?base64?IGE=?=");
        assert_eq!(encoded("a\n"), "=?base64?YQo=?=");
        assert_eq!(encoded("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
        assert_eq!(encoded("=?base64?"), "=?base64?");
        assert_eq!(encoded(""), "");
    }

    proptest! {
        #[test]
        fn what_is_encoded_agrees(text in any::<String>(), other in any::<String>()) {
            let mut header = Vec::new();
            encode(&text, &mut header);
            prop_assert!(header.iter().all(|&byte| is_plain(byte)));
            prop_assert_eq!(header.trim_ascii(), &header[..]);
            prop_assert_eq!(agrees(&header, BodyValue::Text(&text)), YES);
            prop_assert_eq!(agrees(&header, BodyValue::Text(&other)).is_ok(), text == other);
        }

        #[test]
        fn integers_compare_as_integers(a in -200i64..200, b in -200i64..200, shift in 0usize..3) {
            let header = format!("{a}.{}", "0".repeat(shift + 1));
            let body = format!("{b}{}e-{shift}", "0".repeat(if b == 0 { 0 } else { shift }));
            let verdict = agrees(header.as_bytes(), BodyValue::Number(body.as_bytes()));
            prop_assert_eq!(verdict.is_ok(), a == b, "{} {}", header, body);
        }
    }
}
