//! Media types: is a body JSON, and what does the peer accept in return.
//!
//! Not here: choosing the answer's form (that is the router's), any type MCP does not use.
//! Invariant: only what is written correctly counts; a malformed media type is no media type.

use super::token::is_token;

/// The media types that MCP knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaType {
    /// `text/event-stream`
    EventStream,
    /// `application/json`
    Json,
    /// Anything else, malformed, or in a charset that is not UTF-8.
    Other,
}

impl MediaType {
    /// Reads a `Content-Type` value. Parameters are allowed; `charset` must be `utf-8` if it is there.
    pub fn of(content_type: &[u8]) -> Self {
        // What nearly everybody sends.
        if content_type == b"application/json" {
            return Self::Json;
        }
        let mut parts = split_outside_quotes(content_type, b';');
        let essence = parts.next().unwrap_or_default().trim_ascii();
        let known = if essence.eq_ignore_ascii_case(b"application/json") {
            Self::Json
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Self::EventStream
        } else {
            return Self::Other;
        };
        let fits = |part: &[u8]| match parameter(part) {
            Some((name, value)) if name.eq_ignore_ascii_case(b"charset") => value.eq_ignore_ascii_case(b"utf-8"),
            Some(_) => true,
            // RFC 9110 section 5.6.6 lets a list of parameters hold empty ones: `application/json;`.
            None => part.trim_ascii().is_empty(),
        };
        if parts.all(fits) { known } else { Self::Other }
    }
}

/// Whether a `Content-Type` value names JSON in UTF-8.
pub fn is_json(content_type: &[u8]) -> bool {
    MediaType::of(content_type) == MediaType::Json
}

/// Which of the two forms of an answer the peer accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepts {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub event_stream: bool,
}

/// How closely a range names a type; the closest one decides, whatever its place.
const NAMES_ANYTHING: u8 = 1;
const NAMES_KIND: u8 = 2;
const NAMES_TYPE: u8 = 3;

impl Accepts {
    /// Reads one `Accept` line, the usual case.
    pub fn of_line(line: &[u8]) -> Self {
        // What the SDKs send.
        if line == b"application/json, text/event-stream" || line == b"text/event-stream, application/json" {
            return Self { json: true, event_stream: true };
        }
        Self::of([line])
    }

    /// Reads all `Accept` lines of a request. Malformed ranges are skipped; `q=0` excludes what the range names.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut json, mut event_stream) = (Verdict::default(), Verdict::default());
        for range in lines.into_iter().flat_map(|line| split_outside_quotes(line, b',')) {
            let mut parts = split_outside_quotes(range, b';');
            let essence = parts.next().unwrap_or_default().trim_ascii();
            let Some(wanted) = weight(parts) else { continue };
            let is = |known: &str| essence.eq_ignore_ascii_case(known.as_bytes());
            if is("application/json") {
                json.hear(NAMES_TYPE, wanted);
            } else if is("text/event-stream") {
                event_stream.hear(NAMES_TYPE, wanted);
            } else if is("application/*") {
                json.hear(NAMES_KIND, wanted);
            } else if is("text/*") {
                event_stream.hear(NAMES_KIND, wanted);
            } else if is("*/*") {
                json.hear(NAMES_ANYTHING, wanted);
                event_stream.hear(NAMES_ANYTHING, wanted);
            }
        }
        Self { json: json.wanted, event_stream: event_stream.wanted }
    }
}

/// What the closest range so far said of one type.
#[derive(Default)]
struct Verdict {
    closeness: u8,
    wanted: bool,
}

impl Verdict {
    fn hear(&mut self, closeness: u8, wanted: bool) {
        // Of two equally close ranges a refusal counts: answering with what was excluded is the worse mistake.
        if closeness > self.closeness || (closeness == self.closeness && !wanted) {
            *self = Self { closeness, wanted };
        }
    }
}

/// Whether the parameters of a range leave it wanted (`q` above zero); `None` if they are malformed.
fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<bool> {
    let mut wanted = true;
    for part in parameters.filter(|part| !part.trim_ascii().is_empty()) {
        let (name, value) = parameter(part)?;
        if name.eq_ignore_ascii_case(b"q") {
            wanted = quality_is_positive(value)?;
        }
    }
    Some(wanted)
}

/// `0` or `1` with up to three decimals, as RFC 9110 section 12.4.2 writes them.
fn quality_is_positive(value: &[u8]) -> Option<bool> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let positive = |allowed: fn(&u8) -> bool| decimals.iter().all(allowed);
    match whole {
        b'0' if positive(u8::is_ascii_digit) => Some(decimals.iter().any(|&digit| digit != b'0')),
        b'1' if positive(|&digit| digit == b'0') => Some(true),
        _ => None,
    }
}

/// `name=token` or `name="quoted"`; a quoted value is returned without its quotes and not unescaped.
fn parameter(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let part = part.trim_ascii();
    let equals = part.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&part[..equals], &part[equals + 1..]);
    let value = match value {
        [b'"', inner @ .., b'"'] if !ends_in_escape(inner) => inner,
        token if is_token(token) => token,
        _ => return None,
    };
    is_token(name).then_some((name, value))
}

/// The closing quote is itself escaped.
fn ends_in_escape(inner: &[u8]) -> bool {
    inner.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Splits at `separator`, except inside a quoted string.
fn split_outside_quotes(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |&byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            _ if was_escaped => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        let cases: &[(&str, MediaType)] = &[
            ("application/json", MediaType::Json),
            ("Application/JSON", MediaType::Json),
            ("application/json; charset=utf-8", MediaType::Json),
            ("application/json;charset=\"UTF-8\"", MediaType::Json),
            ("application/json ; charset=utf-8 ; profile=\"a;b\"", MediaType::Json),
            ("application/json;", MediaType::Json),
            ("application/json; charset=latin1", MediaType::Other),
            ("application/json; charset=utf-8; charset=utf-7", MediaType::Other),
            ("application/json; charset", MediaType::Other),
            ("application/json; charset=\"utf-8", MediaType::Other),
            ("application/json; charset=\"utf-8\\\"", MediaType::Other),
            ("application/json, text/plain", MediaType::Other),
            ("application/json text/plain", MediaType::Other),
            ("application/jsonp", MediaType::Other),
            ("text/plain", MediaType::Other),
            ("text/plain; application/json", MediaType::Other),
            ("text/event-stream", MediaType::EventStream),
            ("text/event-stream;charset=utf-8", MediaType::EventStream),
            ("", MediaType::Other),
            (";", MediaType::Other),
        ];
        for &(value, expected) in cases {
            assert_eq!(MediaType::of(value.as_bytes()), expected, "{value}");
            assert_eq!(is_json(value.as_bytes()), expected == MediaType::Json, "{value}");
        }
    }

    #[test]
    fn accept_lines() {
        let cases: &[(&[&str], bool, bool)] = &[
            (&["application/json, text/event-stream"], true, true),
            (&["text/event-stream, application/json"], true, true),
            (&["application/json", "text/event-stream"], true, true),
            (&["APPLICATION/JSON"], true, false),
            (&["text/event-stream"], false, true),
            (&["*/*"], true, true),
            (&["application/*"], true, false),
            (&["text/*;q=0.1"], false, true),
            (&["text/html"], false, false),
            (&[""], false, false),
            (&[",, ,"], false, false),
            (&["*/*, application/json;q=0"], false, true),
            (&["application/json;q=0, */*"], false, true),
            (&["text/*;q=0, */*;q=0.5"], true, false),
            (&["application/json;q=0.000"], false, false),
            (&["application/json;q=0.001"], true, false),
            (&["application/json;Q=0"], false, false),
            (&["application/json; q=1.0, text/event-stream; q=1."], true, true),
            (&["application/json;q=1.1, text/event-stream;q=x"], false, false),
            (&["application/json;q=0.0001"], false, false),
            (&["application/json;profile=\"a,b;q=0\", text/event-stream"], true, true),
            (&["application/json;charset=utf-8;q=0.5"], true, false),
            (&["application/json", "application/json;q=0"], false, false),
            (&["application/json;q=0", "application/json"], false, false),
            (&["text/plain;x=\"application/json,"], false, false),
        ];
        for &(lines, json, event_stream) in cases {
            let accepts = Accepts::of(lines.iter().map(|line| line.as_bytes()));
            assert_eq!(accepts, Accepts { json, event_stream }, "{lines:?}");
            if let [line] = lines {
                assert_eq!(Accepts::of_line(line.as_bytes()), accepts, "{line}");
            }
        }
    }
}
