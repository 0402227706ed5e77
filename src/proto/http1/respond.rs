//! Responses, appended to one output buffer so that head and body leave in one send.
//!
//! A JSON answer is written body after head, and its Content-Length is patched into a field of fixed width in front of
//! it; a chunk of an event stream likewise has its size patched in. Nothing is copied to learn its length.
//! Not here: which status an error gets, what second it is (a [`Stamp`] is made from it), sending.
//! Invariant: every final response has a `Date`; a value can not end its field: CR, LF and other control bytes in it
//! become spaces, and a field whose name is not a token is left out.

use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::token::is_token;

/// An additional field of a response: a name that is a token, and its value.
pub type Field<'a> = (&'a str, &'a [u8]);

/// The `Date` of one second (RFC 9110, 6.6.1), written once and copied into every response of that second: it lies in
/// the head that most answers have, so that those cost one copy for all of it.
#[derive(Clone, Debug)]
pub struct Stamp {
    ok_json: [u8; OK_JSON_BYTES],
}

/// Where the answer begun by [`begin_json`] keeps its length. To be given back to [`finish_json`].
#[must_use = "an answer without finish_json has no length"]
#[derive(Debug)]
pub struct Mark {
    body_at: usize,
}

impl Mark {
    /// For a body that begins at the end of `out`, right behind a [`LENGTH_FIELD`].
    pub(super) fn at_end_of(out: &[u8]) -> Self {
        debug_assert!(out.ends_with(LENGTH_FIELD), "a mark stands behind the field that it fills");
        Self { body_at: out.len() }
    }
}

/// Where the chunk begun by [`begin_chunk`] begins. To be given back to [`finish_chunk`].
#[must_use = "a chunk without finish_chunk has no size"]
#[derive(Debug)]
pub struct ChunkMark {
    begin_at: usize,
    framing: StreamFraming,
}

/// How the events of a stream are delimited on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamFraming {
    /// HTTP/1.1: chunks, then [`last_chunk`]; the connection stays usable.
    Chunked,
    /// HTTP/1.0: bytes as they are; the stream ends when the connection is closed.
    UntilClose,
}

/// The head that most answers have, with the `Date` of the Unix epoch's first second.
const OK_JSON: &[u8; OK_JSON_BYTES] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length:          0\r\n\r\n";
const OK_JSON_BYTES: usize = 116;
/// Where the `Date` stands in it, with its name and its end, and without.
const DATE_FIELD: Range<usize> = DATE.start - b"Date: ".len()..DATE.end + b"\r\n".len();
const DATE: Range<usize> = 23..23 + b"Thu, 01 Jan 1970 00:00:00 GMT".len();
/// The last second that the form can say: its year has four digits.
const SECOND_MAX: u64 = 253_402_300_799;
/// The last field of a head whose body follows, its value not yet known.
pub(super) const LENGTH_FIELD: &[u8] = b"Content-Length:          0\r\n\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Width of the patched Content-Length. Leading spaces are optional white space (RFC 9112 section 5).
const LENGTH_DIGITS: usize = 10;
/// Width of a patched chunk size. Leading zeros are part of the grammar (RFC 9112 section 7.1).
const CHUNK_DIGITS: usize = 8;
const CHUNK_HEADER: &[u8] = b"00000000\r\n";

impl Stamp {
    /// The stamp of a second, counted from the Unix epoch. After the year 9999 it stays as it is.
    pub fn new(second: u64) -> Stamp {
        let mut ok_json = *OK_JSON;
        // A value, not a clock: the second is the caller's.
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second.min(SECOND_MAX)));
        write!(&mut ok_json[DATE], "{date}").expect("a date of IMF-fixdate has 29 bytes");
        Stamp { ok_json }
    }

    /// The field, with its end.
    fn field(&self) -> &[u8] {
        &self.ok_json[DATE_FIELD]
    }
}

/// Begins a response with a JSON body; the caller appends the body to `out` and calls [`finish_json`].
///
/// To an HTTP/1.0 peer that keeps its connection add `("Connection", b"keep-alive")`.
pub fn begin_json(out: &mut Vec<u8>, stamp: &Stamp, status: u16, keep_alive: bool, extra: &[Field<'_>]) -> Mark {
    if status == 200 && keep_alive && extra.is_empty() {
        out.extend_from_slice(&stamp.ok_json);
    } else {
        begin(out, stamp, status, keep_alive, extra);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        out.extend_from_slice(LENGTH_FIELD);
    }
    Mark::at_end_of(out)
}

/// Ends a response begun by [`begin_json`]: everything appended since is its body.
///
/// # Panics
/// If `out` is shorter than it was at the mark, or the body has 10^10 bytes or more.
pub fn finish_json(out: &mut [u8], mark: Mark) {
    let length = out.len().checked_sub(mark.body_at).expect("out has grown since begin_json");
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(length).as_bytes();
    assert!(digits.len() <= LENGTH_DIGITS, "a body of {length} bytes does not fit the length field");
    let end = mark.body_at - HEAD_END.len();
    out[end - digits.len()..end].copy_from_slice(digits);
}

/// A whole response without a body: `Content-Length: 0`, and none at all where the status forbids it.
pub fn empty(out: &mut Vec<u8>, stamp: &Stamp, status: u16, keep_alive: bool, extra: &[Field<'_>]) {
    begin(out, stamp, status, keep_alive, extra);
    let bodiless = status < 200 || status == 204 || status == 304;
    out.extend_from_slice(if bodiless { b"\r\n" } else { b"Content-Length: 0\r\n\r\n" });
}

/// Begins a response that is a stream of server-sent events; every event goes through [`chunk`] or [`begin_chunk`].
pub fn begin_event_stream(
    out: &mut Vec<u8>,
    stamp: &Stamp,
    http_minor: u8,
    keep_alive: bool,
    extra: &[Field<'_>],
) -> StreamFraming {
    let framing = if http_minor == 0 { StreamFraming::UntilClose } else { StreamFraming::Chunked };
    begin(out, stamp, 200, keep_alive && framing == StreamFraming::Chunked, extra);
    out.extend_from_slice(b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    if framing == StreamFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    framing
}

/// Writes what `write` appends as one piece of the stream.
pub fn chunk(out: &mut Vec<u8>, framing: StreamFraming, write: impl FnOnce(&mut Vec<u8>)) {
    let mark = begin_chunk(out, framing);
    write(out);
    finish_chunk(out, mark);
}

/// Begins one piece of a stream; the caller appends to `out` and calls [`finish_chunk`].
pub fn begin_chunk(out: &mut Vec<u8>, framing: StreamFraming) -> ChunkMark {
    let mark = ChunkMark { begin_at: out.len(), framing };
    if framing == StreamFraming::Chunked {
        out.extend_from_slice(CHUNK_HEADER);
    }
    mark
}

/// Ends a piece begun by [`begin_chunk`]. An empty one leaves no trace: on the wire it would end the stream.
///
/// # Panics
/// If `out` is shorter than it was at the mark, or the piece has 4 GiB or more.
pub fn finish_chunk(out: &mut Vec<u8>, mark: ChunkMark) {
    if mark.framing == StreamFraming::UntilClose {
        return;
    }
    let body_at = mark.begin_at + CHUNK_HEADER.len();
    let size = out.len().checked_sub(body_at).expect("out has grown since begin_chunk");
    if size == 0 {
        out.truncate(mark.begin_at);
        return;
    }
    let mut rest = u32::try_from(size).expect("a chunk is smaller than 4 GiB");
    for digit in out[mark.begin_at..mark.begin_at + CHUNK_DIGITS].iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    out.extend_from_slice(b"\r\n");
}

/// Ends a stream. After `UntilClose` there is nothing to write: close the connection.
pub fn last_chunk(out: &mut Vec<u8>, framing: StreamFraming) {
    if framing == StreamFraming::Chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Tells a peer that waits with its body to go on.
pub fn continue_100(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// The reason phrase of a status; empty for a status this program has no use for.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Status line, `Date`, `Connection` and the extra fields.
fn begin(out: &mut Vec<u8>, stamp: &Stamp, status: u16, keep_alive: bool, extra: &[Field<'_>]) {
    debug_assert!((100..1000).contains(&status), "a status has three digits, not {status}");
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(stamp.field());
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    for &(name, value) in extra {
        debug_assert!(is_token(name.as_bytes()), "{name:?} is not a field name");
        debug_assert!(is_field_value(value), "the value of {name} would break its field");
        push_field(out, name, value);
    }
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !is_token(name.as_bytes()) {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_at = out.len();
    out.extend_from_slice(value);
    if !is_field_value(value) {
        out[value_at..].iter_mut().filter(|byte| breaks_field(**byte)).for_each(|byte| *byte = b' ');
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn is_field_value(value: &[u8]) -> bool {
    !value.iter().copied().any(breaks_field)
}

fn breaks_field(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http1::body::ChunkedDecoder;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The second of RFC 9110's example.
    fn stamp() -> Stamp {
        Stamp::new(784_111_777)
    }

    fn json(status: u16, keep_alive: bool, extra: &[Field<'_>], body: &[u8]) -> String {
        written(|out| {
            let mark = begin_json(out, &stamp(), status, keep_alive, extra);
            out.extend_from_slice(body);
            finish_json(out, mark);
        })
    }

    #[test]
    fn json_answers() {
        assert_eq!(
            json(200, true, &[], b"{}"),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
             Content-Length:          2\r\n\r\n{}"
        );
        assert_eq!(
            json(200, true, &[("Mcp-Session-Id", b"s")], b"{\"a\":\"0123456\"}"),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nMcp-Session-Id: s\r\n\
             Content-Type: application/json\r\n\
             Content-Length:         15\r\n\r\n{\"a\":\"0123456\"}"
        );
        assert_eq!(
            json(503, false, &[("Retry-After", b"1"), ("X", b"")], b""),
            "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Connection: close\r\nRetry-After: 1\r\nX: \r\n\
             Content-Type: application/json\r\nContent-Length:          0\r\n\r\n"
        );
    }

    #[test]
    fn the_prebuilt_head_equals_the_built_one() {
        let built = written(|out| {
            begin(out, &stamp(), 200, true, &[]);
            out.extend_from_slice(b"Content-Type: application/json\r\n");
            out.extend_from_slice(LENGTH_FIELD);
        });
        assert_eq!(built.as_bytes(), stamp().ok_json);
        assert_eq!(LENGTH_FIELD.len(), b"Content-Length: ".len() + LENGTH_DIGITS + HEAD_END.len());
    }

    #[test]
    fn a_stamp_says_its_second() {
        for (second, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECOND_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (SECOND_MAX + 1, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(Stamp::new(second).field(), format!("Date: {date}\r\n").as_bytes());
        }
    }

    #[test]
    fn two_answers_in_one_buffer_keep_their_own_lengths() {
        let text = json(200, true, &[], b"first") + &json(200, true, &[], b"second one");
        let together = written(|out| {
            for body in [&b"first"[..], b"second one"] {
                let mark = begin_json(out, &stamp(), 200, true, &[]);
                out.extend_from_slice(body);
                finish_json(out, mark);
            }
        });
        assert_eq!(together, text);
    }

    #[test]
    fn empty_answers() {
        const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        for (status, keep_alive, line, rest) in [
            (202, true, "202 Accepted", "Content-Length: 0\r\n\r\n"),
            (204, false, "204 No Content", "Connection: close\r\n\r\n"),
            (299, true, "299 ", "Content-Length: 0\r\n\r\n"),
        ] {
            let answer = written(|out| empty(out, &stamp(), status, keep_alive, &[]));
            assert_eq!(answer, format!("HTTP/1.1 {line}\r\n{DATE}{rest}"));
        }
        let answer = written(|out| empty(out, &stamp(), 405, true, &[("Allow", b"GET, POST, DELETE")]));
        let rest = "Allow: GET, POST, DELETE\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer, format!("HTTP/1.1 405 Method Not Allowed\r\n{DATE}{rest}"));
        assert_eq!(written(continue_100), "HTTP/1.1 100 Continue\r\n\r\n", "not a final response");
    }

    #[test]
    fn event_streams() {
        let text = written(|out| {
            let framing = begin_event_stream(out, &stamp(), 1, true, &[("Mcp-Session-Id", b"s")]);
            chunk(out, framing, |out| out.extend_from_slice(&[b'x'; 26]));
            chunk(out, framing, |_| {});
            last_chunk(out, framing);
        });
        let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nMcp-Session-Id: s\r\n\
             Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n\
             0000001a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n";
        assert_eq!(text, expected);
        let body = text.split_once("\r\n\r\n").unwrap().1.as_bytes();
        let mut out = Vec::new();
        assert!(ChunkedDecoder::new().decode(body, &mut out, 26).unwrap().finished);
        assert_eq!(out, [b'x'; 26]);

        let text = written(|out| {
            let framing = begin_event_stream(out, &stamp(), 0, true, &[]);
            chunk(out, framing, |out| out.extend_from_slice(b"data: a\n\n"));
            last_chunk(out, framing);
        });
        let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\
             Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n\r\ndata: a\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn values_can_not_end_their_field() {
        let text = written(|out| {
            push_field(out, "X", b"a\r\nSet-Cookie: b\0\x7f\tc");
            push_field(out, "Y\r\nZ", b"d");
            push_field(out, "", b"e");
        });
        assert_eq!(text, "X: a  Set-Cookie: b  \tc\r\n");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "the value of X would break its field")]
    fn a_breaking_value_is_our_bug() {
        empty(&mut Vec::new(), &stamp(), 200, true, &[("X", b"\r\n")]);
    }

    #[test]
    fn every_error_has_a_reason() {
        for status in [400, 413, 414, 417, 431, 501, 505] {
            assert!(!reason(status).is_empty(), "{status}");
        }
    }
}
