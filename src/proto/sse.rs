//! Server-sent events: written for our peers, read from upstreams, by the rules of the WHATWG EventSource section.
//!
//! Not here: HTTP around the stream, reconnecting, what an event's JSON says.
//! Invariant: how the bytes were cut on their way does not show in the items read; no line and no event is kept past
//! its limit, and the limit is checked before the bytes are copied.

use memchr::{memchr, memchr2};
use thiserror::Error;

use crate::limits::SSE_FIELD_BYTES_MAX;

/// Appends one event, whose data is in parts. It may hold line breaks: each of its lines becomes a `data` line.
///
/// A reader gets the data back with its line breaks (LF, CR, CRLF) as LF.
pub fn event(out: &mut Vec<u8>, id: Option<&[u8]>, event: Option<&str>, data: &[&[u8]]) {
    if let Some(name) = event {
        field(out, b"event: ", name.as_bytes());
    }
    if let Some(id) = id {
        field(out, b"id: ", id);
    }
    out.extend_from_slice(b"data: ");
    let mut follows_cr = false;
    for part in data {
        let mut rest = *part;
        while let Some(at) = memchr2(b'\r', b'\n', rest) {
            out.extend_from_slice(&rest[..at]);
            // The second half of a CRLF ends no line.
            if !(follows_cr && at == 0 && rest[at] == b'\n') {
                out.extend_from_slice(b"\ndata: ");
            }
            follows_cr = rest[at] == b'\r';
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        follows_cr &= rest.is_empty();
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends the event that tells a client where to resume before anything happened: an id and empty data.
///
/// Only for MCP 2025-11-25 clients; older ones take the empty data for a broken message.
pub fn priming(out: &mut Vec<u8>, id: &[u8]) {
    field(out, b"id: ", id);
    out.extend_from_slice(b"data:\n\n");
}

/// Appends a comment, which readers skip: the keep-alive of a silent stream.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    field(out, b": ", text.as_bytes());
    out.push(b'\n');
}

/// Appends how long a client should wait before it reconnects.
pub fn retry(out: &mut Vec<u8>, ms: u64) {
    field(out, b"retry: ", itoa::Buffer::new().format(ms).as_bytes());
    out.push(b'\n');
}

/// One line. A line break in the value would begin a line of somebody else's choosing, so it is left out.
fn field(out: &mut Vec<u8>, prefix: &[u8], value: &[u8]) {
    let breaks_line = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    debug_assert!(!value.iter().any(breaks_line), "a field of an event is one line without NUL");
    out.extend_from_slice(prefix);
    out.extend(value.iter().copied().filter(|byte| !breaks_line(byte)));
    out.push(b'\n');
}

/// Why a stream is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SseError {
    /// The data of one event is larger than the limit.
    #[error("the data of one event is larger than {max} bytes; send smaller messages or raise the limit")]
    EventTooLarge {
        /// The limit.
        max: usize,
    },
    /// An `id` or `event` field is longer than the limit.
    #[error("an event's id or type is longer than {SSE_FIELD_BYTES_MAX} bytes; shorten it")]
    FieldTooLong,
    /// A line is longer than the limit.
    #[error("a line of the event stream is longer than {max} bytes; break the data into lines or raise the limit")]
    LineTooLong {
        /// The limit.
        max: usize,
    },
}

/// How much of a stream a [`SseDecoder`] will hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SseLimits {
    /// Longest line, without its end; comments and unknown fields count too.
    pub line_bytes_max: usize,
    /// Most data in one event, its lines joined by LF.
    pub event_bytes_max: usize,
}

/// What a stream says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// An event to dispatch.
    Event(Event<'a>),
    /// A block without data changed the last event id (to this) and dispatched nothing.
    Id(&'a [u8]),
    /// The time to wait before reconnecting, in milliseconds; saturating.
    Retry(u64),
}

/// One dispatched event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The last event id of the stream, which persists from event to event; empty if there is none.
    pub id: &'a [u8],
    /// This event's block itself had an `id` field.
    pub id_given: bool,
    /// The event type; `message` if none was given.
    pub event: &'a [u8],
    /// The data lines, joined by LF. Not checked to be UTF-8.
    pub data: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Data,
    Event,
    Id,
    Retry,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In a byte order mark, with so many of its bytes seen. Only at the very beginning.
    Mark(usize),
    /// In a field name; `name` holds what there is of it.
    Name,
    /// Behind the colon: one space is not part of the value.
    Colon(Option<Known>),
    /// In the value of a known field, or in what is skipped.
    Value(Option<Known>),
}

/// What a finished line calls for.
enum Due {
    Nothing,
    Event,
    Id,
    Retry(u64),
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// No known field name is longer.
const NAME_BYTES_MAX: usize = 5;

/// Reads one event stream from its beginning.
#[derive(Clone, Debug)]
pub struct SseDecoder {
    limits: SseLimits,
    state: State,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    line_bytes: usize,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
    /// The value of an `id`, `event` or `retry` line in progress.
    value: Vec<u8>,
    /// The data of the event in progress, each line followed by LF.
    data: Vec<u8>,
    event: Vec<u8>,
    /// The last event id, and what becomes it when the block ends; that one counts if `id_given`.
    id: Vec<u8>,
    id_pending: Vec<u8>,
    id_given: bool,
    /// The last call returned what `data` and `event` hold.
    dispatched: bool,
    refused: Option<SseError>,
}

impl SseDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new(limits: SseLimits) -> Self {
        Self {
            limits,
            state: State::Mark(0),
            after_cr: false,
            line_bytes: 0,
            name: [0; NAME_BYTES_MAX],
            name_bytes: 0,
            value: Vec::new(),
            data: Vec::new(),
            event: Vec::new(),
            id: Vec::new(),
            id_pending: Vec::new(),
            id_given: false,
            dispatched: false,
            refused: None,
        }
    }

    /// The id to resume from: the last one that was complete.
    pub fn last_event_id(&self) -> &[u8] {
        &self.id
    }

    /// Reads from `input` up to the next item and moves `input` behind what was read; `None` once it is used up.
    ///
    /// An event that the end of the stream cuts off is not dispatched (WHATWG), so there is nothing to flush.
    ///
    /// # Errors
    /// A [`SseError`]; every later call returns it again.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item<'_>>, SseError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if std::mem::take(&mut self.dispatched) {
            self.begin_block();
        }
        match self.read(input) {
            Ok(Due::Nothing) => Ok(None),
            Ok(Due::Retry(ms)) => Ok(Some(Item::Retry(ms))),
            Ok(Due::Id) => {
                self.dispatched = true;
                Ok(Some(Item::Id(&self.id)))
            }
            Ok(Due::Event) => {
                self.dispatched = true;
                Ok(Some(Item::Event(Event {
                    id: &self.id,
                    id_given: self.id_given,
                    event: if self.event.is_empty() { b"message" } else { &self.event },
                    data: self.data.strip_suffix(b"\n").unwrap_or(&self.data),
                })))
            }
            Err(error) => {
                self.refused = Some(error);
                Err(error)
            }
        }
    }

    fn begin_block(&mut self) {
        self.data.clear();
        self.event.clear();
        self.id_given = false;
    }

    fn read(&mut self, input: &mut &[u8]) -> Result<Due, SseError> {
        while !input.is_empty() {
            if std::mem::take(&mut self.after_cr) && input[0] == b'\n' {
                *input = &input[1..];
                continue;
            }
            let line_end = memchr2(b'\r', b'\n', input);
            let (piece, rest) = input.split_at(line_end.unwrap_or(input.len()));
            *input = rest;
            self.read_line_piece(piece)?;
            if line_end.is_some() {
                self.after_cr = rest[0] == b'\r';
                *input = &rest[1..];
                match self.end_line()? {
                    Due::Nothing => {}
                    due => return Ok(due),
                }
            }
        }
        Ok(Due::Nothing)
    }

    /// Some more of a line, without its end.
    fn read_line_piece(&mut self, mut piece: &[u8]) -> Result<(), SseError> {
        while let Some(&byte) = piece.first() {
            match self.state {
                State::Mark(seen) if byte == BYTE_ORDER_MARK[seen] => {
                    piece = &piece[1..];
                    let complete = seen + 1 == BYTE_ORDER_MARK.len();
                    self.state = if complete { State::Name } else { State::Mark(seen + 1) };
                }
                State::Mark(0) => self.state = State::Name,
                // Half a mark begins no field that we know: the line is skipped.
                State::Mark(_) => self.state = State::Value(None),
                State::Name => piece = self.read_name(piece)?,
                State::Colon(known) => {
                    if byte == b' ' {
                        self.count_line(1)?;
                        piece = &piece[1..];
                    }
                    self.state = State::Value(known);
                }
                State::Value(known) => {
                    return self.keep_value(known, piece);
                }
            }
        }
        Ok(())
    }

    fn read_name<'p>(&mut self, piece: &'p [u8]) -> Result<&'p [u8], SseError> {
        let end = memchr(b':', piece).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        self.count_line(name.len())?;
        let room = &mut self.name[self.name_bytes..];
        if name.len() > room.len() {
            self.state = State::Value(None);
            return Ok(rest);
        }
        room[..name.len()].copy_from_slice(name);
        self.name_bytes += name.len();
        let [_, value @ ..] = rest else { return Ok(rest) };
        self.count_line(1)?;
        self.state = match self.known_name() {
            Some(known) => State::Colon(Some(known)),
            None => State::Value(None),
        };
        Ok(value)
    }

    fn known_name(&self) -> Option<Known> {
        match &self.name[..self.name_bytes] {
            b"data" => Some(Known::Data),
            b"event" => Some(Known::Event),
            b"id" => Some(Known::Id),
            b"retry" => Some(Known::Retry),
            _ => None,
        }
    }

    fn count_line(&mut self, bytes: usize) -> Result<(), SseError> {
        let max = self.limits.line_bytes_max;
        if bytes > max - self.line_bytes {
            return Err(SseError::LineTooLong { max });
        }
        self.line_bytes += bytes;
        Ok(())
    }

    /// Of two limits the one that the earlier byte passes is reported: later bytes may not be here yet.
    fn keep_value(&mut self, known: Option<Known>, piece: &[u8]) -> Result<(), SseError> {
        let line_room = self.limits.line_bytes_max - self.line_bytes;
        let max = self.limits.event_bytes_max;
        let (value, room, full) = match known {
            None => return self.count_line(piece.len()),
            Some(Known::Data) => {
                let room = max.saturating_sub(self.data.len());
                (&mut self.data, room, SseError::EventTooLarge { max })
            }
            Some(Known::Event | Known::Id | Known::Retry) => {
                let room = SSE_FIELD_BYTES_MAX - self.value.len();
                (&mut self.value, room, SseError::FieldTooLong)
            }
        };
        if room < line_room && piece.len() > room {
            return Err(full);
        }
        if piece.len() > line_room {
            return Err(SseError::LineTooLong { max: self.limits.line_bytes_max });
        }
        value.extend_from_slice(piece);
        self.line_bytes += piece.len();
        Ok(())
    }

    fn end_line(&mut self) -> Result<Due, SseError> {
        let state = std::mem::replace(&mut self.state, State::Name);
        let empty = std::mem::take(&mut self.line_bytes) == 0 && !matches!(state, State::Mark(1..));
        let known = match state {
            State::Mark(_) => None,
            // A line without a colon is a field with an empty value.
            State::Name => self.known_name(),
            State::Colon(known) | State::Value(known) => known,
        };
        self.name_bytes = 0;
        let due = match known {
            _ if empty => self.end_block(),
            None => Due::Nothing,
            Some(Known::Data) => {
                let max = self.limits.event_bytes_max;
                // The LF that joins it to a next line; the last one is taken off and not counted.
                if self.data.len() > max {
                    return Err(SseError::EventTooLarge { max });
                }
                self.data.push(b'\n');
                Due::Nothing
            }
            Some(Known::Event) => {
                std::mem::swap(&mut self.event, &mut self.value);
                Due::Nothing
            }
            Some(Known::Id) => {
                if memchr(0, &self.value).is_none() {
                    std::mem::swap(&mut self.id_pending, &mut self.value);
                    self.id_given = true;
                }
                Due::Nothing
            }
            Some(Known::Retry) => read_retry(&self.value).map_or(Due::Nothing, Due::Retry),
        };
        self.value.clear();
        Ok(due)
    }

    fn end_block(&mut self) -> Due {
        if self.id_given {
            std::mem::swap(&mut self.id, &mut self.id_pending);
        }
        match (self.data.is_empty(), self.id_given) {
            (false, _) => Due::Event,
            (true, true) => Due::Id,
            (true, false) => {
                self.begin_block();
                Due::Nothing
            }
        }
    }
}

fn read_retry(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u64, |ms, digit| ms.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
