//! The one pass: judges a whole JSON text by RFC 8259 and records where the members of a message are.
//!
//! Not here: meaning. A text that passes is JSON; whether it is JSON-RPC or MCP is decided by those who read the spans.
//! Invariant: what passes is read alike by every conforming parser. Stricter than RFC 8259 in this: duplicate keys
//! (compared unescaped), lone surrogates, numbers beyond the finite `f64`, a byte order mark, depth over
//! [`JSON_DEPTH_MAX`], more than [`JSON_TOKENS_MAX`] values and keys, more than [`BODY_BYTES_MAX`] bytes.
//!
//! Cost: linear in the text, but for objects with more than [`KEYS_COMPARED`] keys, whose keys are sorted. The stack
//! is an array, nothing recurses, and after an error the envelope is empty.

use crate::limits::{
    BATCH_MESSAGES_MAX, BODY_BYTES_MAX, JSON_DEPTH_MAX, JSON_KEYS_RETAINED, JSON_TOKENS_MAX,
    JSON_UNESCAPED_BYTES_RETAINED,
};

use super::envelope::{Envelope, Key, Root, Span, tag, tag_of};
use super::error::ScanError;
use super::strings;

/// Up to this many keys of one object are compared with each other as they come; more are sorted when it ends.
const KEYS_COMPARED: usize = 16;
/// The offset into [`Scanner::unescaped`] of a key that was written without escapes.
const AS_WRITTEN: u32 = u32::MAX;

/// Scans texts one after the other, reusing what little memory it needs: one per core is enough.
#[derive(Debug)]
pub struct Scanner {
    /// The keys of all objects that are open.
    keys: Vec<SeenKey>,
    /// Those of them that were written with escapes, without them.
    unescaped: Vec<u8>,
    /// The containers that are open.
    open: [Container; JSON_DEPTH_MAX],
}

/// A key of an open object.
#[derive(Clone, Copy, Debug)]
struct SeenKey {
    tag: u64,
    /// Where its opening quote stands in the text.
    at: u32,
    /// How long it is without escapes.
    length: u32,
    /// Where it is in [`Scanner::unescaped`], or [`AS_WRITTEN`].
    unescaped_at: u32,
}

/// An open array or object.
#[derive(Clone, Copy, Debug)]
struct Container {
    start: u32,
    /// How many keys were seen before its own.
    keys_before: u32,
    unescaped_before: u32,
    place: Place,
    /// What is recorded when it ends.
    slot: Slot,
}

impl Container {
    const NONE: Self =
        Self { start: 0, keys_before: 0, unescaped_before: 0, place: Place::Outside, slot: Slot::Nothing };
}

/// What kind of container this is, as far as members are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Array,
    Batch,
    Message,
    Meta,
    Object,
    Outside,
    Params,
}

impl Place {
    #[inline(always)]
    fn has_keys(self) -> bool {
        matches!(self, Self::Message | Self::Meta | Self::Object | Self::Params)
    }
}

/// What is recorded about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Element,
    Member(Key),
    Nothing,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner that has allocated nothing yet.
    pub const fn new() -> Self {
        Self { keys: Vec::new(), unescaped: Vec::new(), open: [Container::NONE; JSON_DEPTH_MAX] }
    }

    /// Judges `text`, one whole JSON text, and records its members when it is an object.
    ///
    /// # Errors
    /// The first thing wrong; `envelope` is empty then. In an object of many keys a duplicate is noticed at its end.
    pub fn scan(&mut self, text: &[u8], envelope: &mut Envelope) -> Result<(), ScanError> {
        self.pass::<false>(text, envelope, &mut Vec::new())
    }

    /// Judges `text`, one whole JSON array, and replaces `messages` by the spans of its elements.
    ///
    /// An element passes [`Scanner::scan`] by itself, too; none at all is for the caller to refuse.
    ///
    /// # Errors
    /// As [`Scanner::scan`], and when `text` is no array or has more than [`BATCH_MESSAGES_MAX`] elements; `messages`
    /// is empty then.
    pub fn scan_batch(&mut self, text: &[u8], messages: &mut Vec<Span>) -> Result<(), ScanError> {
        messages.clear();
        let judged = self.pass::<true>(text, &mut Envelope::default(), messages);
        if judged.is_err() {
            messages.clear();
        }
        judged
    }

    fn pass<const BATCH: bool>(
        &mut self,
        text: &[u8],
        envelope: &mut Envelope,
        messages: &mut Vec<Span>,
    ) -> Result<(), ScanError> {
        *envelope = Envelope::default();
        if text.len() > BODY_BYTES_MAX {
            return Err(ScanError::TextTooLong { bytes: text.len() });
        }
        self.keys.clear();
        self.unescaped.clear();
        let judged = self.walk::<BATCH>(text, envelope, messages);
        if judged.is_err() {
            *envelope = Envelope::default();
        }
        if self.keys.capacity() > JSON_KEYS_RETAINED || self.unescaped.capacity() > JSON_UNESCAPED_BYTES_RETAINED {
            self.shrink();
        }
        judged
    }

    /// Control: values in document order. `'value` reads one, or the beginning of one, with its key; `'ended` runs once
    /// for each that is complete, so several times where containers end together.
    #[inline(always)]
    fn walk<const BATCH: bool>(
        &mut self,
        text: &[u8],
        envelope: &mut Envelope,
        messages: &mut Vec<Span>,
    ) -> Result<(), ScanError> {
        let mut at = after_whitespace(text, 0);
        let mut depth = 0;
        let mut tokens = 0;
        // Of the innermost container.
        let mut place = Place::Outside;
        let mut keys_before = 0;

        'value: loop {
            let mut slot = Slot::Nothing;
            if place.has_keys() {
                tokens += 1;
                (at, slot) = self.key(text, at, place, keys_before)?;
            } else if BATCH && place == Place::Batch {
                slot = Slot::Element;
            }
            tokens += 1;
            if tokens > JSON_TOKENS_MAX {
                return Err(ScanError::TooManyTokens { at });
            }
            let mut start = at;
            let mut is_plain = false;
            match text.get(at) {
                Some(b'"') => {
                    let scanned = strings::end(text, at + 1)?;
                    is_plain = !scanned.escaped;
                    at = scanned.quote + 1;
                }
                Some(&opening @ (b'{' | b'[')) => {
                    if depth == JSON_DEPTH_MAX {
                        return Err(ScanError::DepthExceeded { at });
                    }
                    if depth == 0 {
                        envelope.root = if opening == b'{' { Root::Object } else { Root::Array };
                    }
                    at = after_whitespace(text, at + 1);
                    if text.get(at) == Some(&(opening + 2)) {
                        at += 1;
                    } else {
                        let unescaped_before = self.unescaped.len() as u32;
                        place = place_of::<BATCH>(opening, depth, slot);
                        keys_before = self.keys.len();
                        self.open[depth] = Container {
                            start: start as u32,
                            keys_before: keys_before as u32,
                            unescaped_before,
                            place,
                            slot,
                        };
                        depth += 1;
                        continue 'value;
                    }
                }
                Some(b'-' | b'0'..=b'9') => at = number(text, at)?,
                Some(b't') => at = literal(text, at, b"true", "`true`")?,
                Some(b'f') => at = literal(text, at, b"false", "`false`")?,
                Some(b'n') => at = literal(text, at, b"null", "`null`")?,
                Some(0xef) if at == 0 && text.starts_with(b"\xef\xbb\xbf") => return Err(ScanError::ByteOrderMark),
                _ => return Err(ScanError::unexpected(text, at, "a value")),
            }

            'ended: loop {
                match slot {
                    Slot::Nothing => {}
                    Slot::Member(key) => {
                        envelope.record(key, Span { start: start as u32, end: at as u32 }, text, is_plain);
                    }
                    Slot::Element if messages.len() == BATCH_MESSAGES_MAX => {
                        return Err(ScanError::BatchTooLong { at: start });
                    }
                    Slot::Element => messages.push(Span { start: start as u32, end: at as u32 }),
                }
                at = after_whitespace(text, at);
                if depth == 0 {
                    break 'value;
                }
                match text.get(at) {
                    Some(b',') => {
                        at = after_whitespace(text, at + 1);
                        continue 'value;
                    }
                    Some(b'}') if place.has_keys() => self.end_object(text, keys_before)?,
                    Some(b']') if !place.has_keys() => {}
                    _ if place.has_keys() => return Err(ScanError::unexpected(text, at, "`,` or `}`")),
                    _ => return Err(ScanError::unexpected(text, at, "`,` or `]`")),
                }
                at += 1;
                depth -= 1;
                let ended = self.open[depth];
                (start, slot, is_plain) = (ended.start as usize, ended.slot, false);
                self.unescaped.truncate(ended.unescaped_before as usize);
                let around = if depth == 0 { Container::NONE } else { self.open[depth - 1] };
                (place, keys_before) = (around.place, around.keys_before as usize);
                continue 'ended;
            }
        }

        if at < text.len() {
            return Err(ScanError::TrailingBytes { at });
        }
        if BATCH && envelope.root != Root::Array {
            return Err(ScanError::Syntax { at: after_whitespace(text, 0), expected: "a batch: an array of messages" });
        }
        Ok(())
    }

    /// Reads a key of an object and its colon: where the value begins, and what is to be recorded about it.
    #[inline(always)]
    fn key(&mut self, text: &[u8], at: usize, object: Place, before: usize) -> Result<(usize, Slot), ScanError> {
        if text.get(at) != Some(&b'"') {
            return Err(ScanError::unexpected(text, at, "a key in double quotes"));
        }
        let start = at + 1;
        let scanned = strings::end(text, start)?;
        let colon = after_whitespace(text, scanned.quote + 1);
        if text.get(colon) != Some(&b':') {
            return Err(ScanError::unexpected(text, colon, "`:` after a key"));
        }
        let value = after_whitespace(text, colon + 1);

        let seen = if scanned.escaped {
            self.unescape(text, at, scanned.quote)?
        } else {
            let length = scanned.quote - start;
            SeenKey { tag: tag_at(text, start, length), at: at as u32, length: length as u32, unescaped_at: AS_WRITTEN }
        };
        let siblings = self.keys.get(before..).unwrap_or_default();
        if siblings.len() < KEYS_COMPARED
            && siblings.iter().any(|other| other.tag == seen.tag)
            && self.has_twin(text, before, seen)
        {
            return Err(ScanError::DuplicateKey { at });
        }
        self.keys.push(seen);

        let known = match object {
            Place::Message => Key::message,
            Place::Params => Key::params,
            Place::Meta => Key::meta,
            Place::Array | Place::Batch | Place::Object | Place::Outside => return Ok((value, Slot::Nothing)),
        };
        Ok((value, known(seen.tag, bytes(text, &self.unescaped, seen)).map_or(Slot::Nothing, Slot::Member)))
    }

    /// Whether one of the keys from `before` on is this one, unescaped.
    #[cold]
    fn has_twin(&self, text: &[u8], before: usize, seen: SeenKey) -> bool {
        let spelled = |key| bytes(text, &self.unescaped, key);
        self.keys[before..].iter().any(|other| other.tag == seen.tag && spelled(*other) == spelled(seen))
    }

    /// Forgets the keys of an object that ends, after comparing those that were too many to compare as they came.
    #[inline(always)]
    fn end_object(&mut self, text: &[u8], before: usize) -> Result<(), ScanError> {
        if self.keys.len() - before > KEYS_COMPARED {
            self.refuse_twins(text, before)?;
        }
        self.keys.truncate(before);
        Ok(())
    }

    #[cold]
    fn refuse_twins(&mut self, text: &[u8], before: usize) -> Result<(), ScanError> {
        let Self { keys, unescaped, .. } = self;
        let spelled = |key: &SeenKey| (key.tag, bytes(text, unescaped, *key));
        let keys = &mut keys[before..];
        keys.sort_unstable_by(|a, b| a.tag.cmp(&b.tag).then_with(|| spelled(a).cmp(&spelled(b))));
        match keys.windows(2).find(|pair| pair[0].tag == pair[1].tag && spelled(&pair[0]) == spelled(&pair[1])) {
            Some(twins) => Err(ScanError::DuplicateKey { at: twins[0].at.max(twins[1].at) as usize }),
            None => Ok(()),
        }
    }

    /// Keeps a key that was written with escapes, without them.
    #[cold]
    fn unescape(&mut self, text: &[u8], at: usize, quote: usize) -> Result<SeenKey, ScanError> {
        let start = self.unescaped.len();
        strings::unescape(&text[at + 1..quote], &mut self.unescaped)?;
        let key = &self.unescaped[start..];
        Ok(SeenKey { tag: tag_of(key), at: at as u32, length: key.len() as u32, unescaped_at: start as u32 })
    }

    /// Gives back what a large text made it allocate, so that many scanners stay small.
    #[cold]
    fn shrink(&mut self) {
        self.keys.clear();
        self.unescaped.clear();
        self.keys.shrink_to(JSON_KEYS_RETAINED);
        self.unescaped.shrink_to(JSON_UNESCAPED_BYTES_RETAINED);
    }
}

/// A key without escapes.
#[inline(always)]
fn bytes<'a>(text: &'a [u8], unescaped: &'a [u8], key: SeenKey) -> &'a [u8] {
    let (from, start) = match key.unescaped_at {
        AS_WRITTEN => (text, key.at as usize + 1),
        start => (unescaped, start as usize),
    };
    &from[start..start + key.length as usize]
}

/// [`tag_of`] of the `length` bytes of `text` from `start`, with one load wherever possible.
#[inline(always)]
fn tag_at(text: &[u8], start: usize, length: usize) -> u64 {
    match strings::word_at(text, start) {
        Some(word) if length >= 8 => tag(word, length),
        Some(word) => tag(word & !(u64::MAX << (8 * length)), length),
        None => tag_of(&text[start..start + length]),
    }
}

/// What a container is that opens at `depth` as the value of `slot`.
#[inline(always)]
fn place_of<const BATCH: bool>(opening: u8, depth: usize, slot: Slot) -> Place {
    match (opening, slot) {
        (b'[', _) if BATCH && depth == 0 => Place::Batch,
        (b'[', _) => Place::Array,
        _ if depth == 0 => Place::Message,
        (_, Slot::Member(Key::Params)) => Place::Params,
        (_, Slot::Member(Key::Meta)) => Place::Meta,
        _ => Place::Object,
    }
}

#[inline(always)]
fn after_whitespace(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(&byte) if byte > b' ' => at,
        _ => after_some_whitespace(text, at),
    }
}

fn after_some_whitespace(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn literal(text: &[u8], at: usize, word: &[u8], expected: &'static str) -> Result<usize, ScanError> {
    let end = at + word.len();
    if text.get(at..end) == Some(word) { Ok(end) } else { Err(misspelled(text, at, word, expected)) }
}

#[cold]
fn misspelled(text: &[u8], at: usize, word: &[u8], expected: &'static str) -> ScanError {
    let alike = text[at..].iter().zip(word).take_while(|(seen, wanted)| seen == wanted).count();
    ScanError::unexpected(text, at + alike, expected)
}

/// Where the number that begins at `start` ends.
#[inline]
fn number(text: &[u8], start: usize) -> Result<usize, ScanError> {
    let whole = start + usize::from(text[start] == b'-');
    let mut at = match text.get(whole) {
        Some(b'0') => whole + 1,
        Some(b'1'..=b'9') => after_digits(text, whole + 1),
        _ => return Err(ScanError::unexpected(text, whole, "a digit")),
    };
    // Below 10^200 times 10^99 nothing is out of range; beyond, the exact conversion decides.
    let mut doubtful = at - whole > 200;
    if text.get(at) == Some(&b'.') {
        at = after_some_digits(text, at + 1, "a digit after the decimal point")?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = at + 1 + sign;
        at = after_some_digits(text, exponent, "a digit of the exponent")?;
        doubtful |= at - exponent > 2;
    }
    if doubtful && !is_finite(&text[start..at]) {
        return Err(ScanError::NumberOutOfRange { at: start });
    }
    Ok(at)
}

#[inline(always)]
fn after_digits(text: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = text.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn after_some_digits(text: &[u8], start: usize, expected: &'static str) -> Result<usize, ScanError> {
    let end = after_digits(text, start);
    if end > start { Ok(end) } else { Err(ScanError::unexpected(text, start, expected)) }
}

#[cold]
fn is_finite(number: &[u8]) -> bool {
    std::str::from_utf8(number).is_ok_and(|number| number.parse::<f64>().is_ok_and(f64::is_finite))
}

#[cfg(test)]
mod tests;
