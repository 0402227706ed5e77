//! Responses as a client reads them: heads and bodies of what an upstream answers, in any pieces.
//!
//! [`ResponseReader`] takes the bytes of one connection in order and hands out heads, and bodies piece by piece where
//! they stand. Not here: sockets, time-outs, decompression, answers to HEAD or CONNECT (we send neither), how large a
//! body may be (whoever keeps it counts it).
//! Invariant: each byte is looked at once; a response that is handed out has one end only, for every reader; after any
//! error the connection says nothing anymore and has to be closed.

use std::fmt;
use std::mem::MaybeUninit;

use thiserror::Error;

use super::body::{ChunkError, Chunked, ChunkedDecoder};
use super::head::{Fields, HeadError, HeadFinder, Persistence, content_length, field_lines, has_crlf_only};
use super::media::MediaType;
use super::token::same;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_INTERIM_RESPONSES_MAX, HTTP_REQUEST_LINE_BYTES_MAX};

/// Why a response is refused. Close the connection; the request may have been served.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResponseError {
    /// A line ends in LF alone.
    #[error("a line of the response's head ends in LF alone, not in CRLF")]
    BareLineFeed,
    /// The connection ended inside a body in chunks.
    #[error("the connection ended after {received} bytes of a body in chunks, before its last chunk")]
    ChunkedTruncated {
        /// Bytes of the body that came.
        received: usize,
    },
    /// The chunks are not chunked coding.
    #[error("the response's chunks are malformed: {0}")]
    Chunks(#[from] ChunkError),
    /// `Content-Length` is not one plain decimal number.
    #[error("the response has Content-Length `{0}`, which is no plain decimal number")]
    ContentLength(Seen),
    /// `Content-Length` stands twice, with different values.
    #[error("the response has Content-Length {first} and again {then}; they have to be the same")]
    ContentLengthsDiffer {
        /// The first.
        first: u64,
        /// A later one.
        then: u64,
    },
    /// A field name is empty, holds a byte that is no token, or is followed by a space; or a line is folded.
    #[error("a header field name of the response is not a token (or a line is folded)")]
    FieldName,
    /// A field of which there may be one stands twice.
    #[error("the response has {0} more than once")]
    FieldRepeated(&'static str),
    /// A field value holds a control byte.
    #[error("a header field value of the response holds a control byte")]
    FieldValue,
    /// The head is larger than the limit.
    #[error("the response's head is larger than {HTTP_HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    /// The connection ended inside a head, or after interim responses only.
    #[error("the connection ended after {received} bytes of a response's head")]
    HeadTruncated {
        /// Bytes of the head that came.
        received: usize,
    },
    /// The bytes end before the head does; only a caller of [`parse`] sees this.
    #[error("the response's head is not complete")]
    Incomplete,
    /// An interim response has a field that announces a body, which it cannot have.
    #[error("an interim response ({status}) announces a body")]
    InterimBody {
        /// 100 to 199.
        status: u16,
    },
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("the response has both Content-Length and Transfer-Encoding")]
    LengthAndChunked,
    /// The connection ended inside a body of a stated length.
    #[error("the connection ended after {received} bytes of the response's body, {missing} were to come")]
    LengthTruncated {
        /// Bytes of the body that came.
        received: u64,
        /// Bytes of the body that did not.
        missing: u64,
    },
    /// A CR that is not followed by LF.
    #[error("a line of the response's head does not end in CRLF")]
    LineEnd,
    /// What came is not HTTP/1.x.
    #[error("the response begins with `{0}`, not with `HTTP/1.`")]
    NotHttp1(Seen),
    /// The status line is not `HTTP/1.x SP status [SP reason]`.
    #[error("the response's status line is `{0}`, not `HTTP/1.1 200 OK`")]
    StatusLine(Seen),
    /// The status line is longer than the limit.
    #[error("the response's status line is longer than {HTTP_REQUEST_LINE_BYTES_MAX} bytes")]
    StatusLineTooLong,
    /// 101, which nobody asked for.
    #[error("the upstream switches protocols (101), which it was not asked to")]
    SwitchingProtocols,
    /// More header fields than the limit.
    #[error("the response has more than {HTTP_HEADERS_MAX} header fields")]
    TooManyFields,
    /// More interim responses than the limit.
    #[error("more than {HTTP_INTERIM_RESPONSES_MAX} interim responses (1xx) came before the response")]
    TooManyInterim,
    /// `Transfer-Encoding` is something else than one `chunked`.
    #[error("the response has Transfer-Encoding `{0}`, only `chunked` is understood")]
    TransferEncoding(Seen),
    /// `Transfer-Encoding` in an HTTP/1.0 response.
    #[error("the response has Transfer-Encoding, which HTTP/1.0 does not know")]
    TransferEncodingOnHttp10,
}

/// The beginning of what a peer sent, escaped so that it can stand in a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen(Box<str>);

impl Seen {
    const BYTES_MAX: usize = 48;

    fn of(bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(Self::BYTES_MAX)];
        let more = if shown.len() < bytes.len() { "..." } else { "" };
        Self(format!("{}{more}", shown.escape_ascii()).into())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.0)
    }
}

/// How the body that follows a response's head is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseFraming {
    /// No body, because of the status.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All bytes until the connection ends.
    UntilClose,
}

/// A response head, borrowed from the buffer it was read from. Values have their outer white space trimmed.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Three digits; 1xx only from [`parse`], a reader skips those.
    pub status: u16,
    /// 1 or 0, for HTTP/1.1 and HTTP/1.0.
    pub minor_version: u8,
    /// The connection can be used again after this response. False as well where readers could disagree about its end.
    pub keep_alive: bool,
    /// How the body is delimited.
    pub body: ResponseFraming,
    /// `Content-Type`; [`ResponseHead::media`] reads it.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Encoding`: nothing is decoded here, and nobody should send one who was not asked for it.
    pub content_encoding: Option<&'a [u8]>,
    /// `Mcp-Session-Id`
    pub session_id: Option<&'a [u8]>,
    /// `MCP-Protocol-Version`
    pub protocol_version: Option<&'a [u8]>,
    /// The first `WWW-Authenticate` line; [`ResponseHead::fields`] has all of them.
    pub www_authenticate: Option<&'a [u8]>,
    /// The first `Retry-After` line: seconds or a date.
    pub retry_after: Option<&'a [u8]>,
    /// `Location`
    pub location: Option<&'a [u8]>,
    field_lines: &'a [u8],
}

impl<'a> ResponseHead<'a> {
    /// All header fields in order, names as sent.
    pub fn fields(&self) -> Fields<'a> {
        Fields::of(self.field_lines)
    }

    /// What the body is; `Other` also without `Content-Type`.
    pub fn media(&self) -> MediaType {
        self.content_type.map_or(MediaType::Other, MediaType::of)
    }
}

/// Reads one complete response head, empty line included. Interim responses (1xx) are read like others, without body.
///
/// # Errors
/// Any [`ResponseError`] but those of bodies.
pub fn parse(head: &[u8]) -> Result<ResponseHead<'_>, ResponseError> {
    if head.len() > HTTP_HEAD_BYTES_MAX {
        return Err(ResponseError::HeadTooLarge);
    }
    check_beginning(head)?;
    read(head, true).map(|(_, head)| head)
}

/// Reads the response head that `buffer` begins with in one pass, if it is whole and good as nearly all are: how long
/// it is, and what it says. `None` says nothing about it but that [`HeadFinder`] and [`parse`] have to be asked.
pub(super) fn parse_front(buffer: &[u8]) -> Option<(usize, ResponseHead<'_>)> {
    let window = &buffer[..buffer.len().min(HTTP_REQUEST_LINE_BYTES_MAX)];
    read(window, false).ok()
}

/// Reads a head at the front of `buffer`, which has to be the whole of it if `is_alone`.
fn read(buffer: &[u8], is_alone: bool) -> Result<(usize, ResponseHead<'_>), ResponseError> {
    let mut lines = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, buffer, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == buffer.len() || !is_alone => length,
        Ok(httparse::Status::Complete(_)) => return Err(ResponseError::BareLineFeed),
        Ok(httparse::Status::Partial) => return Err(ResponseError::Incomplete),
        Err(error) => return Err(refusal_of(error, buffer)),
    };
    let head = &buffer[..length];
    let (Some(status), Some(minor_version)) = (response.code, response.version) else {
        return Err(ResponseError::Incomplete);
    };
    if !has_crlf_only(head, response.headers) {
        return Err(ResponseError::BareLineFeed);
    }
    let mut head = ResponseHead {
        status,
        minor_version,
        keep_alive: false,
        body: ResponseFraming::None,
        content_type: None,
        content_encoding: None,
        session_id: None,
        protocol_version: None,
        www_authenticate: None,
        retry_after: None,
        location: None,
        field_lines: field_lines(head, response.headers),
    };
    let mut framing = Framing::default();
    for line in response.headers.iter() {
        framing.read(&mut head, line.name.as_bytes(), line.value)?;
    }
    framing.settle(&mut head)?;
    Ok((length, head))
}

/// Refuses what can no longer become a response, at its first wrong byte: an empty line, TLS, another protocol.
fn check_beginning(bytes: &[u8]) -> Result<(), ResponseError> {
    match bytes.iter().zip(b"HTTP/1.").position(|(seen, expected)| seen != expected) {
        Some(at) => Err(ResponseError::NotHttp1(Seen::of(&bytes[..=at]))),
        None => Ok(()),
    }
}

fn refusal_of(error: httparse::Error, head: &[u8]) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::FieldName,
        httparse::Error::HeaderValue => ResponseError::FieldValue,
        httparse::Error::NewLine => ResponseError::LineEnd,
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            let end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
            ResponseError::StatusLine(Seen::of(head[..end].trim_ascii_end()))
        }
    }
}

/// The errors of a [`HeadFinder`], which was made for requests, as they are said of a response.
fn finder_refusal(error: HeadError) -> ResponseError {
    match error {
        HeadError::HeadTooLarge => ResponseError::HeadTooLarge,
        HeadError::TargetTooLong => ResponseError::StatusLineTooLong,
        _ => ResponseError::BareLineFeed,
    }
}

/// What the fields say about the message's end and the connection's, and what they may not say together.
#[derive(Default)]
struct Framing {
    content_length: Option<u64>,
    chunked: bool,
    persistence: Persistence,
}

impl Framing {
    fn read<'a>(&mut self, head: &mut ResponseHead<'a>, name: &'a [u8], value: &'a [u8]) -> Result<(), ResponseError> {
        match name.len() {
            8 if same(name, b"location") => once(&mut head.location, value, "Location"),
            10 if same(name, b"connection") => {
                self.persistence.read(value);
                Ok(())
            }
            11 if same(name, b"retry-after") => {
                head.retry_after.get_or_insert(value);
                Ok(())
            }
            12 if same(name, b"content-type") => once(&mut head.content_type, value, "Content-Type"),
            14 if same(name, b"content-length") => self.read_length(value),
            14 if same(name, b"mcp-session-id") => once(&mut head.session_id, value, "Mcp-Session-Id"),
            16 if same(name, b"content-encoding") => once(&mut head.content_encoding, value, "Content-Encoding"),
            16 if same(name, b"www-authenticate") => {
                head.www_authenticate.get_or_insert(value);
                Ok(())
            }
            17 if same(name, b"transfer-encoding") => {
                let first = !std::mem::replace(&mut self.chunked, true);
                match first && value.eq_ignore_ascii_case(b"chunked") {
                    true => Ok(()),
                    false => Err(ResponseError::TransferEncoding(Seen::of(value))),
                }
            }
            20 if same(name, b"mcp-protocol-version") => {
                once(&mut head.protocol_version, value, "MCP-Protocol-Version")
            }
            _ => Ok(()),
        }
    }

    /// Twice the same length is one length (RFC 9110 section 8.6), as some servers behind proxies send it.
    fn read_length(&mut self, value: &[u8]) -> Result<(), ResponseError> {
        let then = content_length(value).ok_or_else(|| ResponseError::ContentLength(Seen::of(value)))?;
        match self.content_length.replace(then) {
            Some(first) if first != then => Err(ResponseError::ContentLengthsDiffer { first, then }),
            _ => Ok(()),
        }
    }

    fn settle(self, head: &mut ResponseHead<'_>) -> Result<(), ResponseError> {
        let stated = match (self.chunked, self.content_length) {
            (true, Some(_)) => return Err(ResponseError::LengthAndChunked),
            (true, None) if head.minor_version == 0 => return Err(ResponseError::TransferEncodingOnHttp10),
            (true, None) => ResponseFraming::Chunked,
            (false, Some(length)) => ResponseFraming::Length(length),
            (false, None) => ResponseFraming::UntilClose,
        };
        head.keep_alive = self.persistence.keeps(head.minor_version);
        let announced = !matches!(stated, ResponseFraming::Length(0) | ResponseFraming::UntilClose);
        match head.status {
            100..=199 if announced => return Err(ResponseError::InterimBody { status: head.status }),
            100..=199 => {}
            // There is no body whatever the fields say, but a server that says otherwise may also send one.
            204 | 304 => head.keep_alive &= !announced,
            _ => {
                head.body = stated;
                head.keep_alive &= stated != ResponseFraming::UntilClose;
            }
        }
        Ok(())
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], field: &'static str) -> Result<(), ResponseError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ResponseError::FieldRepeated(field)),
    }
}

/// What a [`ResponseReader`] found.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Nothing until more bytes are there: keep those that were not consumed in front of them.
    More,
    /// A response begins. Its `body` tells what follows; `End` follows in any case.
    Head(ResponseHead<'a>),
    /// Some of the body, never empty.
    Body(&'a [u8]),
    /// The response is complete. Bytes behind it answer nothing unless another request was sent.
    End,
}

/// What the end of a connection means, where it means no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eof {
    /// No byte of a response was seen: a connection that lay idle, or a request that got no answer at all.
    Idle,
    /// It ends the response, as its framing wants.
    End,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Length { received: u64, missing: u64 },
    Chunked(ChunkedDecoder),
    UntilClose,
    Refused(ResponseError),
}

/// Reads the responses of one connection, one after the other.
///
/// ```
/// use corelane::proto::http1::answer::{Piece, ResponseReader};
/// let (mut reader, mut body) = (ResponseReader::new(), Vec::new());
/// let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..];
/// loop {
///     let (consumed, piece) = reader.next(bytes)?;
///     bytes = &bytes[consumed..];
///     match piece {
///         Piece::More => unreachable!("all bytes are here; read some and append them"),
///         Piece::Head(head) => assert_eq!(head.status, 200),
///         Piece::Body(piece) => body.extend_from_slice(piece),
///         Piece::End => break,
///     }
/// }
/// assert_eq!(body, b"{}");
/// # Ok::<(), corelane::proto::http1::answer::ResponseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResponseReader {
    state: State,
    finder: HeadFinder,
    /// Interim responses skipped before the one that is awaited.
    interim: usize,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseReader {
    /// A reader at the beginning of a connection.
    pub fn new() -> Self {
        Self { state: State::Head, finder: HeadFinder::new(), interim: 0 }
    }

    /// Reads `buffer` up to the next thing worth telling; the number says how many of its bytes that took.
    ///
    /// `buffer` begins with the first byte that was not consumed. Call again, with what is left, until it says `More`;
    /// an empty `buffer` is good enough for `End`. Interim responses are skipped.
    ///
    /// # Errors
    /// A [`ResponseError`]; every later call returns it again.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<(usize, Piece<'a>), ResponseError> {
        self.read(buffer).inspect_err(|error| self.state = State::Refused(error.clone()))
    }

    fn read<'a>(&mut self, buffer: &'a [u8]) -> Result<(usize, Piece<'a>), ResponseError> {
        match &mut self.state {
            State::Head => self.read_head(buffer),
            State::Length { missing: 0, .. } => Ok(self.end(0)),
            State::Length { .. } | State::UntilClose if buffer.is_empty() => Ok((0, Piece::More)),
            State::Length { received, missing } => {
                let piece = usize::try_from(*missing).map_or(buffer, |n| &buffer[..n.min(buffer.len())]);
                *received += piece.len() as u64;
                *missing -= piece.len() as u64;
                Ok((piece.len(), Piece::Body(piece)))
            }
            State::Chunked(decoder) => match decoder.next(buffer, usize::MAX)? {
                (consumed, Chunked::More) => Ok((consumed, Piece::More)),
                (consumed, Chunked::Body(piece)) => Ok((consumed, Piece::Body(piece))),
                (consumed, Chunked::End) => Ok(self.end(consumed)),
            },
            State::UntilClose => Ok((buffer.len(), Piece::Body(buffer))),
            State::Refused(error) => Err(error.clone()),
        }
    }

    fn read_head<'a>(&mut self, buffer: &'a [u8]) -> Result<(usize, Piece<'a>), ResponseError> {
        let mut consumed = 0;
        loop {
            let rest = &buffer[consumed..];
            check_beginning(rest)?;
            let front = if self.finder.is_fresh() { parse_front(rest) } else { None };
            let (length, head) = match front {
                Some(front) => front,
                None => match self.finder.find(rest).map_err(finder_refusal)? {
                    Some(length) => (length, parse(&rest[..length])?),
                    None => return Ok((consumed, Piece::More)),
                },
            };
            consumed += length;
            match head.status {
                101 => return Err(ResponseError::SwitchingProtocols),
                100..=199 if self.interim == HTTP_INTERIM_RESPONSES_MAX => return Err(ResponseError::TooManyInterim),
                100..=199 => self.interim += 1,
                _ => {
                    self.state = match head.body {
                        ResponseFraming::None => State::Length { received: 0, missing: 0 },
                        ResponseFraming::Length(missing) => State::Length { received: 0, missing },
                        ResponseFraming::Chunked => State::Chunked(ChunkedDecoder::new()),
                        ResponseFraming::UntilClose => State::UntilClose,
                    };
                    return Ok((consumed, Piece::Head(head)));
                }
            }
        }
    }

    /// The response is complete, the next one may begin.
    fn end<'a>(&mut self, consumed: usize) -> (usize, Piece<'a>) {
        *self = Self::new();
        (consumed, Piece::End)
    }

    /// The connection has ended, after all bytes went through [`ResponseReader::next`] until it said `More`.
    ///
    /// # Errors
    /// The response was cut off, or refused before.
    pub fn eof(&mut self) -> Result<Eof, ResponseError> {
        match &self.state {
            State::Head if self.finder.scanned() == 0 && self.interim == 0 => Ok(Eof::Idle),
            State::Head => Err(ResponseError::HeadTruncated { received: self.finder.scanned() }),
            State::Length { missing: 0, .. } | State::UntilClose => {
                *self = Self::new();
                Ok(Eof::End)
            }
            &State::Length { received, missing } => Err(ResponseError::LengthTruncated { received, missing }),
            State::Chunked(decoder) => Err(ResponseError::ChunkedTruncated { received: decoder.body_bytes() }),
            State::Refused(error) => Err(error.clone()),
        }
    }
}
