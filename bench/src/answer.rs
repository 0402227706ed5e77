//! Cuts what a server sends into parts: lines, or HTTP/1.1 answers with their JSON body or server-sent events.
//!
//! It judges nothing: whether a message is the right answer is `lane`'s business. It is written for answers of known
//! servers, not for hostile ones, but it refuses what it does not understand instead of guessing.
//!
//! Invariant: any split of the same bytes gives the same parts.

use crate::message::Wire;

/// A part of what came.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The head of an HTTP answer.
    Head { status: u16, session: Option<&'a [u8]>, events: bool },
    /// One JSON message.
    Message(&'a [u8]),
    /// The HTTP answer is complete.
    End,
}

/// What cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The largest head, line, body or event that is kept.
const KEPT_MAX: usize = 8 << 20;

/// Reads one connection.
pub enum Reader {
    Lines(Kept),
    Http { kept: Kept, state: State, body: Vec<u8>, events: bool },
}

/// Bytes of something unfinished.
#[derive(Default)]
pub struct Kept(Vec<u8>);

/// Where in an HTTP answer the reader is.
#[derive(Clone, Copy, Debug)]
pub enum State {
    Head,
    /// This many body bytes to go.
    Sized(usize),
    ChunkHead,
    /// This many bytes of the chunk to go, then CRLF.
    Chunk(usize),
    ChunkEnd,
    /// After the last chunk: trailers up to an empty line.
    Trailers,
    /// No length was given: the body ends with the connection.
    UntilClosed,
}

impl Reader {
    /// A reader for one connection of `wire`.
    pub fn new(wire: Wire) -> Self {
        match wire {
            Wire::Ndjson => Self::Lines(Kept::default()),
            _ => Self::Http { kept: Kept::default(), state: State::Head, body: Vec::new(), events: false },
        }
    }

    /// Takes bytes as they came and hands every part that they complete to `seen`.
    pub fn take(&mut self, bytes: &[u8], seen: &mut impl FnMut(Part<'_>)) -> Result<(), Malformed> {
        match self {
            Self::Lines(kept) => kept.with(bytes, |all| {
                let mut used = 0;
                for end in memchr::memchr_iter(b'\n', all) {
                    let line = all[used..end].trim_ascii_end();
                    if !line.is_empty() {
                        seen(Part::Message(line));
                    }
                    used = end + 1;
                }
                Ok(used)
            }),
            Self::Http { kept, state, body, events } => kept.with(bytes, |all| {
                let mut used = 0;
                while let Some(step) = step(&all[used..], state, body, events, seen)? {
                    used += step;
                }
                Ok(used)
            }),
        }
    }
}

impl Kept {
    /// Runs `work` over the kept bytes and `fresh`; what it does not use is kept.
    fn with(&mut self, fresh: &[u8], mut work: impl FnMut(&[u8]) -> Result<usize, Malformed>) -> Result<(), Malformed> {
        if self.0.is_empty() {
            let used = work(fresh)?;
            self.0.extend_from_slice(&fresh[used..]);
        } else {
            self.0.extend_from_slice(fresh);
            let used = work(&self.0)?;
            self.0.drain(..used);
        }
        if self.0.len() > KEPT_MAX { Err(Malformed("a message over 8 MiB")) } else { Ok(()) }
    }
}

/// One step over `input`: how many bytes it used, or nothing if more are needed.
fn step(
    input: &[u8],
    state: &mut State,
    body: &mut Vec<u8>,
    events: &mut bool,
    seen: &mut impl FnMut(Part<'_>),
) -> Result<Option<usize>, Malformed> {
    let used = match *state {
        _ if input.is_empty() => return Ok(None),
        State::Head => return head(input, state, events, seen),
        State::Sized(left) if !*events => {
            // The common case: a whole JSON body in one piece is handed on without a copy.
            if input.len() < left {
                return Ok(None);
            }
            seen(Part::Message(&input[..left]));
            finish(state, body, seen);
            left
        }
        State::Sized(left) => {
            let now = left.min(input.len());
            absorb(&input[..now], body, *events, seen);
            if now == left {
                finish(state, body, seen);
            } else {
                *state = State::Sized(left - now);
            }
            now
        }
        State::ChunkHead => {
            let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
            let line = input[..end].trim_ascii();
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            *state = match size.ok_or(Malformed("a chunk size"))? {
                0 => State::Trailers,
                size => State::Chunk(size),
            };
            end + 1
        }
        State::Chunk(left) => {
            let now = left.min(input.len());
            absorb(&input[..now], body, *events, seen);
            *state = if now == left { State::ChunkEnd } else { State::Chunk(left - now) };
            now
        }
        State::ChunkEnd => {
            if input.len() < 2 {
                return Ok(None);
            }
            if &input[..2] != b"\r\n" {
                return Err(Malformed("the end of a chunk"));
            }
            *state = State::ChunkHead;
            2
        }
        State::Trailers => {
            let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
            if input[..end].trim_ascii().is_empty() {
                if !*events && !body.is_empty() {
                    seen(Part::Message(body));
                }
                finish(state, body, seen);
            }
            end + 1
        }
        State::UntilClosed => {
            absorb(input, body, *events, seen);
            input.len()
        }
    };
    Ok(Some(used))
}

fn head(
    input: &[u8],
    state: &mut State,
    events: &mut bool,
    seen: &mut impl FnMut(Part<'_>),
) -> Result<Option<usize>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("an HTTP head")),
    };
    let status = response.code.ok_or(Malformed("an HTTP status"))?;
    let (mut size, mut chunked, mut session) = (None, false, None);
    *events = false;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let digits = std::str::from_utf8(header.value).ok().and_then(|digits| digits.trim().parse().ok());
            size = Some(digits.ok_or(Malformed("a Content-Length"))?);
        } else if is("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if is("content-type") {
            *events = header.value.to_ascii_lowercase().starts_with(b"text/event-stream");
        } else if is("mcp-session-id") {
            session = Some(header.value);
        }
    }
    if (100..200).contains(&status) {
        return Ok(Some(length));
    }
    seen(Part::Head { status, session, events: *events });
    *state = match (chunked, size) {
        (true, _) => State::ChunkHead,
        (false, Some(0)) => ended(seen),
        (false, Some(size)) => State::Sized(size),
        (false, None) if matches!(status, 204 | 304) => ended(seen),
        (false, None) => State::UntilClosed,
    };
    Ok(Some(length))
}

fn ended(seen: &mut impl FnMut(Part<'_>)) -> State {
    seen(Part::End);
    State::Head
}

fn finish(state: &mut State, body: &mut Vec<u8>, seen: &mut impl FnMut(Part<'_>)) {
    body.clear();
    *state = ended(seen);
}

/// Adds body bytes; a stream of events hands on each that is complete.
fn absorb(bytes: &[u8], body: &mut Vec<u8>, events: bool, seen: &mut impl FnMut(Part<'_>)) {
    body.extend_from_slice(bytes);
    if !events {
        return;
    }
    let mut used = 0;
    while let Some(length) = event_length(&body[used..]) {
        event(&body[used..used + length], seen);
        used += length;
    }
    body.drain(..used);
}

/// The length of the first event with the empty line that ends it.
fn event_length(stream: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(end) = memchr::memchr(b'\n', &stream[start..]) {
        let line = &stream[start..start + end];
        start += end + 1;
        if line.is_empty() || line == b"\r" {
            return Some(start);
        }
    }
    None
}

fn event(event: &[u8], seen: &mut impl FnMut(Part<'_>)) {
    let mut lines = event.split(|&byte| byte == b'\n').filter_map(|line| {
        let rest = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:")?;
        Some(rest.strip_prefix(b" ").unwrap_or(rest))
    });
    let Some(first) = lines.next() else { return };
    match lines.next() {
        // A priming event has no content.
        None if first.is_empty() => {}
        None => seen(Part::Message(first)),
        Some(second) => {
            let mut whole = [first, second].join(&b'\n');
            for line in lines {
                whole.push(b'\n');
                whole.extend_from_slice(line);
            }
            seen(Part::Message(&whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of `bytes` cut in two at `at`, as text.
    fn parts(wire: Wire, bytes: &[u8], at: usize) -> Vec<String> {
        let mut reader = Reader::new(wire);
        let mut all = Vec::new();
        let mut seen = |part: Part<'_>| {
            all.push(match part {
                Part::Head { status, session, events } => {
                    format!("{status} {:?} {events}", session.map(String::from_utf8_lossy))
                }
                Part::Message(message) => String::from_utf8_lossy(message).into_owned(),
                Part::End => "end".into(),
            });
        };
        reader.take(&bytes[..at], &mut seen).expect("understood");
        reader.take(&bytes[at..], &mut seen).expect("understood");
        all
    }

    #[test]
    fn any_split_gives_the_same_parts() {
        let cases: [(Wire, &[u8], &[&str]); 5] = [
            (Wire::Ndjson, b"{\"a\":1}\r\n{\"b\":2}\n\n", &["{\"a\":1}", "{\"b\":2}"]),
            (
                Wire::HttpModern,
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
                &["200 None false", "{}", "end"],
            ),
            (
                Wire::HttpLegacy,
                b"HTTP/1.1 200 OK\r\nMcp-Session-Id: s\r\ncontent-type: text/event-stream\r\n\
                  transfer-encoding: chunked\r\n\r\n8\r\ndata:\n\ni\r\n1a;x=y\r\nd: 7\r\ndata: {\r\ndata: }\r\n\r\n\r\n\
                  0\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
                &["200 Some(\"s\") true", "{\n}", "end", "202 None false", "end"],
            ),
            (
                Wire::HttpModern,
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 10\r\n\r\ndata: {}\n\n",
                &["200 None true", "{}", "end"],
            ),
            (
                Wire::HttpModern,
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
                &["200 None false", "{}", "end"],
            ),
        ];
        for (wire, bytes, expected) in cases {
            for at in 0..=bytes.len() {
                assert_eq!(parts(wire, bytes, at), expected, "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let mut reader = Reader::new(Wire::HttpModern);
        assert!(reader.take(b"{\"jsonrpc\":\"2.0\"}\n\n", &mut |_| {}).is_err());
    }
}
