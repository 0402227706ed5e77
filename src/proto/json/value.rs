//! A navigator over JSON text that a scanner has judged: it reads members and elements where they stand.
//!
//! Not here: judging. On text that nobody scanned it never panics and always ends, but what it reads is what it likes.
//! Invariant: every value it hands out is a piece of the text it was made from, whitespace around it removed. Finding
//! a member costs the bytes before it, so a reader who needs many members walks `members` once.

use std::borrow::Cow;

use super::envelope::Span;
use super::strings;

/// One value of a judged text: its exact bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a [u8],
}

/// What a [`Value`] is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `[...]`
    Array,
    /// `true` or `false`
    Bool,
    /// Nothing that JSON knows: the text was never judged.
    Malformed,
    /// `null`
    Null,
    /// A number of any size.
    Number,
    /// `{...}`
    Object,
    /// `"..."`
    String,
}

/// The content of a string as it is written: without its quotes, with its escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawStr<'a> {
    content: &'a [u8],
}

impl<'a> Value<'a> {
    /// The value that `text` is; whitespace around it is left out.
    #[inline]
    pub fn new(text: &'a [u8]) -> Self {
        let text = skip_whitespace(text);
        let end = text.iter().rposition(|byte| !is_whitespace(*byte)).map_or(0, |last| last + 1);
        Self { text: &text[..end] }
    }

    /// Its exact bytes, quotes and brackets included.
    #[inline]
    pub fn raw(self) -> &'a [u8] {
        self.text
    }

    /// Where it stands in `text`, of which it has to be a part; `None` if it is a part of something else.
    pub fn span_in(self, text: &[u8]) -> Option<Span> {
        span_of(self.text, text)
    }

    /// What it is.
    #[inline]
    pub fn kind(self) -> ValueKind {
        match self.text.first() {
            Some(b'[') => ValueKind::Array,
            Some(b't' | b'f') => ValueKind::Bool,
            Some(b'n') => ValueKind::Null,
            Some(b'-' | b'0'..=b'9') => ValueKind::Number,
            Some(b'{') => ValueKind::Object,
            Some(b'"') => ValueKind::String,
            _ => ValueKind::Malformed,
        }
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        self.text == b"null"
    }

    /// The boolean it is.
    #[inline]
    pub fn as_bool(self) -> Option<bool> {
        match self.text {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The integer it is, when written without fraction and exponent and in range.
    pub fn as_i64(self) -> Option<i64> {
        self.number()?.parse().ok()
    }

    /// The integer it is, when written without sign, fraction and exponent and in range.
    pub fn as_u64(self) -> Option<u64> {
        self.number()?.parse().ok()
    }

    /// The nearest `f64` to the number it is.
    pub fn as_f64(self) -> Option<f64> {
        self.number()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Its digits, when it is a number. No `inf`, `nan` or leading `+`, which Rust would accept.
    fn number(self) -> Option<&'a str> {
        let looks_right = matches!(self.text.first()?, b'-' | b'0'..=b'9')
            && self.text.iter().all(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        if looks_right { std::str::from_utf8(self.text).ok() } else { None }
    }

    /// The content of the string it is, as written.
    #[inline]
    pub fn as_raw_str(self) -> Option<RawStr<'a>> {
        let content = self.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Some(RawStr { content })
    }

    /// The content of the string it is, unescaped; borrowed when it has no escapes.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        self.as_raw_str()?.unescaped()
    }

    /// The value of the member `key` of the object it is; keys are compared unescaped and by case.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.members().find(|(name, _)| name.is(key)).map(|(_, value)| value)
    }

    /// The members of the object it is, in order; none of anything else.
    #[inline]
    pub fn members(self) -> Members<'a> {
        Members { rest: inside(self.text, b'{', b'}') }
    }

    /// The elements of the array it is, in order; none of anything else.
    #[inline]
    pub fn elements(self) -> Elements<'a> {
        Elements { rest: inside(self.text, b'[', b']') }
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Value({})", self.text.escape_ascii())
    }
}

impl<'a> RawStr<'a> {
    /// The bytes between the quotes.
    #[inline]
    pub fn raw(self) -> &'a [u8] {
        self.content
    }

    /// Where it stands in `text`, its quotes included; `None` if it is a part of something else.
    pub fn span_in(self, text: &[u8]) -> Option<Span> {
        // An empty content has a place, too: the quotes around it are what is covered.
        let start = offset_of(self.content, text)?.checked_sub(1)?;
        let end = start + self.content.len() + 2;
        let quoted = text.get(start..end).is_some_and(|string| string.starts_with(b"\"") && string.ends_with(b"\""));
        if quoted { span(start, end) } else { None }
    }

    /// Whether its content, unescaped, is `expected`.
    pub fn is(self, expected: &str) -> bool {
        if memchr::memchr(b'\\', self.content).is_none() {
            return self.content == expected.as_bytes();
        }
        self.unescaped().is_some_and(|content| content == expected)
    }

    /// Its content with escapes undone, borrowed when there are none; `None` only if nobody judged the text.
    pub fn unescaped(self) -> Option<Cow<'a, str>> {
        if memchr::memchr(b'\\', self.content).is_none() {
            return std::str::from_utf8(self.content).ok().map(Cow::Borrowed);
        }
        let mut content = Vec::with_capacity(self.content.len());
        strings::unescape(self.content, &mut content).ok()?;
        String::from_utf8(content).ok().map(Cow::Owned)
    }
}

impl std::fmt::Debug for RawStr<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RawStr({})", self.content.escape_ascii())
    }
}

/// The members of an object; made by [`Value::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (RawStr<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        next_member(&mut self.rest, split_value)
    }
}

/// The elements of an array; made by [`Value::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        next_element(&mut self.rest, split_value)
    }
}

/// Where `part`, a slice of `text`, begins in it. Memory of two values never overlaps, so addresses tell.
fn offset_of(part: &[u8], text: &[u8]) -> Option<usize> {
    let offset = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    (part.len() <= text.len().checked_sub(offset)?).then_some(offset)
}

fn span_of(part: &[u8], text: &[u8]) -> Option<Span> {
    let start = offset_of(part, text)?;
    if part.is_empty() { None } else { span(start, start + part.len()) }
}

/// `None` only beyond what a scanner takes.
fn span(start: usize, end: usize) -> Option<Span> {
    Some(Span { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
}

/// A value that a text begins with, and what follows it.
pub(super) type Split<'a> = Option<(Value<'a>, &'a [u8])>;

/// The member that `rest` begins with, and its comma, taken off it; nothing is left behind the last.
#[inline(always)]
pub(super) fn next_member<'a>(
    rest: &mut &'a [u8],
    mut split: impl FnMut(&'a [u8]) -> Split<'a>,
) -> Option<(RawStr<'a>, Value<'a>)> {
    let text = std::mem::take(rest);
    let (key, text) = split(skip_whitespace(text))?;
    let (value, text) = split(skip_whitespace(skip_whitespace(text).strip_prefix(b":")?))?;
    *rest = after_comma(text);
    Some((key.as_raw_str()?, value))
}

/// The same of an element.
#[inline(always)]
pub(super) fn next_element<'a>(rest: &mut &'a [u8], mut split: impl FnMut(&'a [u8]) -> Split<'a>) -> Option<Value<'a>> {
    let text = std::mem::take(rest);
    let (value, text) = split(skip_whitespace(text))?;
    *rest = after_comma(text);
    Some(value)
}

/// What is between these brackets; nothing if there are others.
pub(super) fn inside(text: &[u8], opening: u8, closing: u8) -> &[u8] {
    text.strip_prefix(&[opening]).and_then(|text| text.strip_suffix(&[closing])).unwrap_or_default()
}

/// What follows the comma that `rest` begins with; nothing when there is none, which ends an iteration.
#[inline]
fn after_comma(rest: &[u8]) -> &[u8] {
    skip_whitespace(rest).strip_prefix(b",").unwrap_or_default()
}

#[inline]
fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[inline]
fn skip_whitespace(text: &[u8]) -> &[u8] {
    let skipped = text.iter().position(|byte| !is_whitespace(*byte)).unwrap_or(text.len());
    &text[skipped..]
}

/// The value that `text` begins with and what follows it; `None` when there is none or it does not end.
fn split_value(text: &[u8]) -> Split<'_> {
    let end = match text.first()? {
        b'"' => after_string(text, 0)?,
        b'{' | b'[' => after_container(text)?,
        _ => after_bare(text),
    };
    note_passed(end);
    split_at(text, end)
}

/// The value that is so long, and what follows it; `None` if it would be empty.
#[inline(always)]
pub(super) fn split_at(text: &[u8], end: usize) -> Split<'_> {
    let (value, rest) = text.split_at_checked(end)?;
    (!value.is_empty()).then_some((Value { text: value }, rest))
}

/// The offset after the number, the boolean or the null that `text` begins with.
#[inline(always)]
pub(super) fn after_bare(text: &[u8]) -> usize {
    text.iter().position(|byte| is_whitespace(*byte) || b",:]}\"[{".contains(byte)).unwrap_or(text.len())
}

/// Tests count what readers look at, because time on a shared machine says little.
#[inline(always)]
pub(super) fn note_passed(_bytes: usize) {
    #[cfg(test)]
    PASSED.set(PASSED.get() + _bytes);
}

#[cfg(test)]
thread_local! {
    static PASSED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many bytes readers on this thread passed over since this was asked last.
#[cfg(test)]
pub(crate) fn take_passed() -> usize {
    PASSED.take()
}

/// The offset after the string whose opening quote stands at `at`.
pub(super) fn after_string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    // Most strings are short and plain.
    if let Some(block) = strings::block_at(text, at) {
        let first = strings::first_interruption(block);
        if first < 16 && block[first] == b'"' {
            return Some(at + first + 1);
        }
    }
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The offset after the container that `text` begins with: brackets are counted, strings skipped.
fn after_container(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'"' => {
                at = after_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// Texts that no scanner accepts, for tests of what reads them all the same.
#[cfg(test)]
pub(super) const UNJUDGED: [&str; 27] = [
    "{",
    "{}}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{:}",
    "{a:1}",
    "{\"a\":1 2}",
    "[",
    "[,]",
    "[1,,2]",
    "[[[]",
    "]",
    "[}]",
    "{\"\\",
    "[\"\\\"]",
    "{\"a\":\"}",
    "[1 2 3]",
    "{\"\\ud800\":1}",
    "[\"\\uZZ\"]",
    "{\"a\":[}",
    "[{]}",
    "[1 [2] 3,[4]]",
    "[1[2],[3]]",
    "{{}:1}",
    "{[]:{}}",
    "[\"\"[],{}]",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_walked_where_they_stand() {
        let value = Value::new(br#" { "a" : [1 , {"x":"]}\""} ,"s"] , "\u0062":null,"":-0.5e1 } "#);
        let seen: Vec<(&[u8], &[u8])> = value.members().map(|(key, value)| (key.raw(), value.raw())).collect();
        let list = br#"[1 , {"x":"]}\""} ,"s"]"#;
        assert_eq!(seen, [(&b"a"[..], &list[..]), (br"\u0062", b"null"), (b"", b"-0.5e1")]);
        let elements: Vec<&[u8]> = value.get("a").unwrap().elements().map(Value::raw).collect();
        assert_eq!(elements, [&b"1"[..], br#"{"x":"]}\""}"#, br#""s""#]);
        assert!(value.get("b").unwrap().is_null());
        assert_eq!(value.get("").unwrap().as_f64(), Some(-5.0));
        assert_eq!((value.get("A"), value.get(r"\u0062"), value.elements().count()), (None, None, 0));
    }

    #[test]
    fn scalars_are_read_exactly_or_not_at_all() {
        let of = |text: &'static str| Value::new(text.as_bytes());
        assert_eq!((of("9223372036854775807").as_i64(), of("9223372036854775808").as_i64()), (Some(i64::MAX), None));
        assert_eq!((of("18446744073709551615").as_u64(), of("-1").as_u64()), (Some(u64::MAX), None));
        assert_eq!((of("1.0").as_i64(), of("1e1").as_u64(), of("1e1").as_f64()), (None, None, Some(10.0)));
        for not_a_number in ["+1", "inf", "-inf", "nan", "-nan", "1e999", "", "\"1\"", "0x1"] {
            assert_eq!(of(not_a_number).as_f64(), None, "{not_a_number}");
        }
        assert_eq!(
            (of(" true ").as_bool(), of("false").as_bool(), of("truer").as_bool()),
            (Some(true), Some(false), None)
        );
        assert!(matches!(of(r#""plain""#).as_str(), Some(Cow::Borrowed("plain"))));
        assert!(matches!(of(r#""\ud83d\ude00""#).as_str(), Some(Cow::Owned(text)) if text == "😀"));
        assert_eq!((of("7").as_str(), of("\"").as_str()), (None, None));
        let kinds = ["[]", "true", "?", "null", "-1", "{}", "\"\"", ""].map(|text| of(text).kind());
        use ValueKind::*;
        assert_eq!(kinds, [Array, Bool, Malformed, Null, Number, Object, String, Malformed]);
    }

    #[test]
    fn text_that_nobody_judged_ends_the_walk() {
        for text in UNJUDGED {
            let value = Value::new(text.as_bytes());
            assert!(value.members().count() + value.elements().count() <= 2, "{text}");
            let _ = (value.get("a"), value.as_str(), value.elements().map(Value::as_str).count());
        }
        assert_eq!(Value::new(b"\"\xff\"").as_str(), None);
        assert_eq!(Value::new(b"\"\\ud800\"").as_str(), None);
    }
}
