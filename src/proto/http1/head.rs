//! Request heads: where one ends in a growing buffer, and what it says.
//!
//! [`HeadFinder`] looks at each byte once, however the bytes arrive; [`parse`] then reads the complete head in one go.
//! Not here: bodies (`body`), what an `Accept` or `Content-Type` means (`media`), who may ask (`origin`). The target is
//! not percent-decoded and a path is not normalised: a path that is not one of ours, byte for byte, is not found.
//! Invariant: a [`Head`] that exists has one reading only: CRLF line ends, one body framing, one host, no repeated
//! singleton field. After any [`HeadError`] the connection's framing is unknown: answer, then close.

use std::mem::MaybeUninit;

use memchr::{memchr, memchr_iter};
use thiserror::Error;

use super::media::Accepts;
use super::template::HeadTemplates;
use super::token::{is_token_byte, same};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_REQUEST_LINE_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

/// Why a request head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeadError {
    /// The target is `*`.
    #[error("the request target is `*`; name a path, such as /mcp")]
    AsteriskTarget,
    /// A line ends in LF alone.
    #[error("a line of the head ends in LF alone; end every line with CRLF")]
    BareLineFeed,
    /// The method is CONNECT.
    #[error("CONNECT is not served here; this is not a proxy")]
    Connect,
    /// `Content-Length` is not one plain decimal number.
    #[error("Content-Length is not a plain decimal number; send digits only, without sign, list or leading zero")]
    ContentLength,
    /// `Content-Length` stands twice.
    #[error("Content-Length stands more than once; send it once")]
    ContentLengthRepeated,
    /// `Expect` asks for something else than `100-continue`.
    #[error("only `Expect: 100-continue` is understood; leave other expectations out")]
    Expectation,
    /// A field name is empty, holds a byte that is no token, or is followed by a space; or a line is folded.
    #[error("a header field name is not a token; no space before the colon, no folded lines")]
    FieldName,
    /// A field of which there may be one stands twice.
    #[error("{0} stands more than once; send it once")]
    FieldRepeated(&'static str),
    /// A field value holds a control byte.
    #[error("a header field value holds a control byte; remove or encode it")]
    FieldValue,
    /// The head is larger than the limit.
    #[error("the request head is larger than {HTTP_HEAD_BYTES_MAX} bytes; send fewer or shorter header fields")]
    HeadTooLarge,
    /// An HTTP/1.1 request without `Host`.
    #[error("Host is missing; HTTP/1.1 requires it")]
    HostMissing,
    /// The bytes end before the head does; only a caller that skips [`HeadFinder`] sees this.
    #[error("the request head is not complete")]
    Incomplete,
    /// More than one empty line before the request.
    #[error("more than one empty line stands before the request; send none")]
    LeadingLines,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("Content-Length and Transfer-Encoding exclude each other; send one of them")]
    LengthAndChunked,
    /// A CR that is not followed by LF, or something after the version.
    #[error("a line of the head does not end in CRLF")]
    LineEnd,
    /// The request line is not `method SP target SP version`.
    #[error("the request line is not `METHOD /path HTTP/1.1` with single spaces")]
    RequestLine,
    /// The target is no path, holds a byte that no path may hold, or names another host than `Host`.
    #[error("the request target is neither a path nor a URL of the host that Host names; send `/path`")]
    TargetForm,
    /// The target is longer than the limit.
    #[error("the request target is longer than {HTTP_TARGET_BYTES_MAX} bytes; shorten the path or query")]
    TargetTooLong,
    /// More header fields than the limit.
    #[error("more than {HTTP_HEADERS_MAX} header fields; send fewer")]
    TooManyFields,
    /// `Transfer-Encoding` is something else than one `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked`; no other coding is understood")]
    TransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    #[error("Transfer-Encoding is not defined for HTTP/1.0; send Content-Length")]
    TransferEncodingOnHttp10,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
}

impl HeadError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Connect | Self::TransferEncoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// Finds the end of a head in a buffer that grows at its end.
#[derive(Clone, Default, Debug)]
pub struct HeadFinder {
    /// Bytes already searched.
    scanned: usize,
    /// Where the line begins that `scanned` stands in.
    line_start: usize,
    /// Where the request line begins: 2 after a tolerated empty line.
    request_start: usize,
    /// The request line has ended.
    past_request_line: bool,
    /// The empty line that may stand before a request line is gone already.
    had_empty_line: bool,
}

impl HeadFinder {
    /// A finder at the beginning of a head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing of a head was searched yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0 && !self.had_empty_line
    }

    /// Lets go of the empty line before a request line, if nothing else has come: some clients end a body with one, and
    /// then have no request under way (RFC 9112, 2.2). How long it is; the finder then stands behind it.
    pub fn skip_empty_line(&mut self) -> Option<usize> {
        let is_all = self.request_start > 0 && self.scanned == self.request_start;
        is_all.then(|| std::mem::replace(self, HeadFinder { had_empty_line: true, ..HeadFinder::new() }).request_start)
    }

    /// Reads the head that `buffer` begins with, once it is whole: its length, and what it says. `buffer` is as for
    /// [`HeadFinder::find`]; a head that came in one piece is read in one pass.
    ///
    /// # Errors
    /// Any [`HeadError`]: answer with its status and close.
    pub fn read<'a>(
        &mut self,
        buffer: &'a [u8],
        templates: &mut HeadTemplates,
    ) -> Result<Option<(usize, Head<'a>)>, HeadError> {
        if self.is_fresh()
            && let Some(front) = templates.read(buffer)
        {
            return Ok(Some(front));
        }
        match self.find(buffer)? {
            Some(length) => Ok(Some((length, parse(&buffer[..length])?))),
            None => Ok(None),
        }
    }

    /// Bytes of an unfinished head that were searched so far.
    pub(super) fn scanned(&self) -> usize {
        self.scanned
    }

    /// Looks for the end of the head in `buffer`, which must begin with what the last call was given.
    ///
    /// Returns the length of the head including its empty line, or `None` if more bytes are needed. Once a length is
    /// returned the finder stands at the beginning of a next head.
    pub fn find(&mut self, buffer: &[u8]) -> Result<Option<usize>, HeadError> {
        debug_assert!(self.scanned <= buffer.len(), "the buffer shrank under the finder");
        let window = &buffer[..buffer.len().min(HTTP_HEAD_BYTES_MAX)];
        let from = self.scanned.min(window.len());
        for at in memchr_iter(b'\n', &window[from..]).map(|at| from + at) {
            self.check_request_line(window, at)?;
            if at == self.line_start || window[at - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            let empty = at == self.line_start + 1;
            self.line_start = at + 1;
            match (empty, self.past_request_line) {
                (true, true) => {
                    *self = Self::default();
                    return Ok(Some(at + 1));
                }
                (true, false) if self.request_start > 0 || self.had_empty_line => return Err(HeadError::LeadingLines),
                (true, false) => self.request_start = at + 1,
                (false, _) => self.past_request_line = true,
            }
        }
        self.check_request_line(window, window.len())?;
        self.scanned = window.len();
        if window.len() == HTTP_HEAD_BYTES_MAX { Err(HeadError::HeadTooLarge) } else { Ok(None) }
    }

    /// Refuses early what can no longer become a request line: one too long, or one that begins like TLS or garbage.
    fn check_request_line(&self, window: &[u8], end: usize) -> Result<(), HeadError> {
        if self.past_request_line {
            return Ok(());
        }
        if end - self.request_start >= HTTP_REQUEST_LINE_BYTES_MAX {
            return Err(HeadError::TargetTooLong);
        }
        match window.get(self.request_start) {
            Some(&first) if !is_token_byte(first) && !matches!(first, b'\r' | b'\n') => Err(HeadError::RequestLine),
            _ => Ok(()),
        }
    }
}

/// A request method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// DELETE
    Delete,
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// Any other token. Methods are case-sensitive: `get` is one of these.
    Other,
    /// PATCH
    Patch,
    /// POST
    Post,
    /// PUT
    Put,
}

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFraming {
    /// No body: the next byte begins the next head.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks, for [`super::body::ChunkedDecoder`].
    Chunked,
}

/// A request head, borrowed from the buffer it was read into. Values have their outer white space trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The target up to the first `?`: begins with `/`, visible ASCII, not percent-decoded.
    pub path: &'a str,
    /// The target after the first `?`.
    pub query: Option<&'a str>,
    /// 1 or 0, for HTTP/1.1 and HTTP/1.0.
    pub minor_version: u8,
    /// The peer expects the connection to stay open after this exchange.
    pub keep_alive: bool,
    /// How the body is delimited.
    pub body: BodyFraming,
    /// The peer waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Name, as sent, of the first `mcp-*` field that stands twice: answer 400 with JSON-RPC code -32020.
    pub duplicate: Option<&'a str>,
    /// `Host`; always present on HTTP/1.1, possibly empty.
    pub host: Option<&'a [u8]>,
    /// `Origin`
    pub origin: Option<&'a [u8]>,
    /// `Content-Type`
    pub content_type: Option<&'a [u8]>,
    /// The first `Accept` line; [`Head::accepts`] reads all of them.
    pub accept: Option<&'a [u8]>,
    /// `Content-Encoding`
    pub content_encoding: Option<&'a [u8]>,
    /// `Mcp-Session-Id`
    pub session_id: Option<&'a [u8]>,
    /// `MCP-Protocol-Version`
    pub protocol_version: Option<&'a [u8]>,
    /// `Mcp-Method`
    pub mcp_method: Option<&'a [u8]>,
    /// `Mcp-Name`, still encoded (see `mirror`).
    pub mcp_name: Option<&'a [u8]>,
    /// How many `Mcp-Param-*` fields there are; [`Head::mcp_params`] lists them.
    pub mcp_param_count: u8,
    /// `Last-Event-ID`
    pub last_event_id: Option<&'a [u8]>,
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// `X-Request-Timeout-Ms`
    pub request_timeout_ms: Option<&'a [u8]>,
    /// `Access-Control-Request-Method`
    pub access_control_request_method: Option<&'a [u8]>,
    /// `Access-Control-Request-Headers`
    pub access_control_request_headers: Option<&'a [u8]>,
    /// `traceparent`; absent if it stands twice, as W3C Trace Context asks.
    pub traceparent: Option<&'a [u8]>,
    /// `Accept` stands on more than one line.
    pub(super) accept_repeated: bool,
    /// The field lines, from the first name to the end of the head.
    pub(super) field_lines: &'a [u8],
}

const MCP_PARAM_PREFIX: &[u8; 10] = b"mcp-param-";

impl<'a> Head<'a> {
    /// Of a head that has no field, and does not say what it asks for.
    pub(super) const EMPTY: Self = Self {
        method: Method::Other,
        path: "/",
        query: None,
        minor_version: 1,
        keep_alive: true,
        body: BodyFraming::None,
        expect_continue: false,
        duplicate: None,
        host: None,
        origin: None,
        content_type: None,
        accept: None,
        content_encoding: None,
        session_id: None,
        protocol_version: None,
        mcp_method: None,
        mcp_name: None,
        mcp_param_count: 0,
        last_event_id: None,
        authorization: None,
        request_timeout_ms: None,
        access_control_request_method: None,
        access_control_request_headers: None,
        traceparent: None,
        accept_repeated: false,
        field_lines: &[],
    };

    /// All header fields in order, names as sent.
    pub fn fields(&self) -> Fields<'a> {
        Fields::of(self.field_lines)
    }

    /// The `Mcp-Param-*` fields in order, at most `HTTP_HEADERS_MAX`: what follows the prefix, and the value.
    pub fn mcp_params(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        mcp_params(self.mcp_param_lines())
    }

    /// The field lines in which [`mcp_params`] finds them; empty if there are none.
    pub fn mcp_param_lines(&self) -> &'a [u8] {
        if self.mcp_param_count == 0 { &[] } else { self.field_lines }
    }

    /// What the peer accepts over all its `Accept` lines, or `None` if it sent none.
    pub fn accepts(&self) -> Option<Accepts> {
        let first = self.accept?;
        if !self.accept_repeated {
            return Some(Accepts::of_line(first));
        }
        let lines = self.fields().filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
        Some(Accepts::of(lines.map(|(_, value)| value)))
    }
}

/// The `Mcp-Param-*` fields among the field lines of a head: what follows the prefix, and the value.
pub fn mcp_params(field_lines: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let params = Fields::of(field_lines).filter(|(name, _)| is_mcp_param(name));
    params.map(|(name, value)| (&name[MCP_PARAM_PREFIX.len()..], value))
}

/// Header fields of a head, names as sent, values trimmed.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(field_lines: &'a [u8]) -> Self {
        Self { rest: field_lines }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line_end = memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(line_end + 1);
        self.rest = rest;
        let colon = memchr(b':', line)?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, line[colon + 1..].trim_ascii()))
    }
}

/// Reads one complete head, as delimited by [`HeadFinder`].
///
/// One CRLF before the request line is tolerated (RFC 9112 section 2.2). `Upgrade` is ignored, as HTTP allows.
///
/// # Errors
/// Any [`HeadError`]: answer with its status and close.
pub fn parse(head: &[u8]) -> Result<Head<'_>, HeadError> {
    if head.len() > HTTP_HEAD_BYTES_MAX {
        return Err(HeadError::HeadTooLarge);
    }
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    if matches!(head.first(), Some(b'\r' | b'\n')) {
        return Err(HeadError::LeadingLines);
    }
    read(head, true).map(|(_, head)| head)
}

/// Reads the head that `buffer` begins with in one pass, if it is whole and good as nearly all are: how long it is, and
/// what it says. `None` says nothing about it but that [`HeadFinder`] and [`parse`] have to be asked.
pub fn parse_front(buffer: &[u8]) -> Option<(usize, Head<'_>)> {
    // A head that is no longer than a request line may be has none that is too long.
    let window = &buffer[..buffer.len().min(HTTP_REQUEST_LINE_BYTES_MAX)];
    if !window.first().is_some_and(|&first| is_token_byte(first)) {
        return None;
    }
    read(window, false).ok()
}

/// Reads a head at the front of `buffer`, which has to be the whole of it if `is_alone`.
#[inline]
fn read(buffer: &[u8], is_alone: bool) -> Result<(usize, Head<'_>), HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(buffer, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == buffer.len() || !is_alone => length,
        Ok(httparse::Status::Complete(_)) => return Err(HeadError::BareLineFeed),
        Ok(httparse::Status::Partial) => return Err(HeadError::Incomplete),
        Err(error) => return Err(refusal_of(error)),
    };
    let head = &buffer[..length];
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Incomplete);
    };
    if !has_crlf_only(head, request.headers) {
        return Err(HeadError::BareLineFeed);
    }
    let method = method_of(method)?;
    let (authority, path, query) = split_target(target)?;
    let mut head = Head {
        method,
        path,
        query,
        minor_version,
        keep_alive: minor_version == 1,
        field_lines: field_lines(head, request.headers),
        ..Head::EMPTY
    };
    let mut framing = Framing::default();
    for (index, line) in request.headers.iter().enumerate() {
        framing.read(&mut head, line.name, line.value, &request.headers[..index])?;
    }
    framing.settle(&mut head)?;
    if authority.is_some_and(|named| !head.host.is_some_and(|host| host.eq_ignore_ascii_case(named.as_bytes()))) {
        return Err(HeadError::TargetForm);
    }
    Ok((length, head))
}

fn refusal_of(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::Status | httparse::Error::Token => HeadError::RequestLine,
    }
}

/// `httparse` takes LF for a line end. What stands before each field name tells which one it was, without another scan.
pub(super) fn has_crlf_only(head: &[u8], lines: &[httparse::Header<'_>]) -> bool {
    let crlf = |at: usize| at >= 2 && head[at - 2..at] == *b"\r\n";
    lines.iter().all(|line| crlf(offset_in(head, line.name))) && head.ends_with(b"\r\n\r\n")
}

/// The field lines of a head, from the first name on, of which these are the parsed ones.
pub(super) fn field_lines<'a>(head: &'a [u8], lines: &[httparse::Header<'_>]) -> &'a [u8] {
    lines.first().map_or(&[][..], |first| &head[offset_in(head, first.name)..])
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &[u8], part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

fn method_of(method: &str) -> Result<Method, HeadError> {
    Ok(match method.as_bytes() {
        b"POST" => Method::Post,
        b"GET" => Method::Get,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"HEAD" => Method::Head,
        b"PUT" => Method::Put,
        b"PATCH" => Method::Patch,
        b"CONNECT" => return Err(HeadError::Connect),
        _ => Method::Other,
    })
}

/// A target's authority, path and query. Origin-form has no authority; absolute-form, which servers have to take (RFC
/// 9112, 3.2.2), has one that could disagree with `Host`, so it has to be the same.
fn split_target(target: &str) -> Result<(Option<&str>, &str, Option<&str>), HeadError> {
    let (authority, target) = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            (Some(authority), if rest.is_empty() { "/" } else { rest })
        }
        None => (None, target),
    };
    let bytes = target.as_bytes();
    if bytes.len() > HTTP_TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    if bytes == b"*" {
        return Err(HeadError::AsteriskTarget);
    }
    // That there are no control bytes and no spaces is httparse's doing.
    if bytes[0] != b'/' || !bytes.is_ascii() || memchr(b'#', bytes).is_some() {
        return Err(HeadError::TargetForm);
    }
    Ok(match memchr(b'?', bytes) {
        Some(at) => (authority, &target[..at], Some(&target[at + 1..])),
        None => (authority, target, None),
    })
}

fn is_mcp_param(name: &str) -> bool {
    name.as_bytes()
        .split_at_checked(MCP_PARAM_PREFIX.len())
        .is_some_and(|(prefix, rest)| same(prefix, MCP_PARAM_PREFIX) && !rest.is_empty())
}

/// What the fields say about the message's end and the connection's, and what they may not say together.
#[derive(Default)]
struct Framing {
    content_length: Option<u64>,
    chunked: bool,
    persistence: Persistence,
    traceparent_repeated: bool,
}

impl Framing {
    fn read<'a>(
        &mut self,
        head: &mut Head<'a>,
        name: &'a str,
        value: &'a [u8],
        earlier: &[httparse::Header<'a>],
    ) -> Result<(), HeadError> {
        let bytes = name.as_bytes();
        match name.len() {
            4 if same(bytes, b"host") => once(&mut head.host, value, "Host"),
            6 if same(bytes, b"origin") => once(&mut head.origin, value, "Origin"),
            6 if same(bytes, b"accept") => {
                head.accept_repeated = head.accept.is_some();
                head.accept.get_or_insert(value);
                Ok(())
            }
            6 if same(bytes, b"expect") => {
                head.expect_continue = true;
                if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err(HeadError::Expectation) }
            }
            10 if same(bytes, b"connection") => {
                self.persistence.read(value);
                Ok(())
            }
            11 if same(bytes, b"traceparent") => {
                self.traceparent_repeated = head.traceparent.replace(value).is_some() || self.traceparent_repeated;
                Ok(())
            }
            12 if same(bytes, b"content-type") => once(&mut head.content_type, value, "Content-Type"),
            13 if same(bytes, b"authorization") => once(&mut head.authorization, value, "Authorization"),
            13 if same(bytes, b"last-event-id") => once(&mut head.last_event_id, value, "Last-Event-ID"),
            14 if same(bytes, b"content-length") => {
                let length = content_length(value).ok_or(HeadError::ContentLength)?;
                match self.content_length.replace(length) {
                    None => Ok(()),
                    Some(_) => Err(HeadError::ContentLengthRepeated),
                }
            }
            16 if same(bytes, b"content-encoding") => once(&mut head.content_encoding, value, "Content-Encoding"),
            17 if same(bytes, b"transfer-encoding") => {
                let first = !std::mem::replace(&mut self.chunked, true);
                if first && value.eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(HeadError::TransferEncoding) }
            }
            20 if same(bytes, b"x-request-timeout-ms") => {
                once(&mut head.request_timeout_ms, value, "X-Request-Timeout-Ms")
            }
            29 if same(bytes, b"access-control-request-method") => {
                once(&mut head.access_control_request_method, value, "Access-Control-Request-Method")
            }
            30 if same(bytes, b"access-control-request-headers") => {
                once(&mut head.access_control_request_headers, value, "Access-Control-Request-Headers")
            }
            4.. if same(&bytes[..4], b"mcp-") => {
                read_mcp(head, name, value, earlier);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn settle(self, head: &mut Head<'_>) -> Result<(), HeadError> {
        let http11 = head.minor_version == 1;
        if http11 && head.host.is_none() {
            return Err(HeadError::HostMissing);
        }
        head.body = match (self.chunked, self.content_length) {
            (true, Some(_)) => return Err(HeadError::LengthAndChunked),
            (true, None) if !http11 => return Err(HeadError::TransferEncodingOnHttp10),
            (true, None) => BodyFraming::Chunked,
            (false, Some(length)) => BodyFraming::Length(length),
            (false, None) => BodyFraming::None,
        };
        head.keep_alive = self.persistence.keeps(head.minor_version);
        // RFC 9110 section 10.1.1: an expectation in an HTTP/1.0 request is ignored.
        head.expect_continue &= http11;
        if self.traceparent_repeated {
            head.traceparent = None;
        }
        Ok(())
    }
}

/// What the `Connection` lines of a head ask of the connection.
#[derive(Default)]
pub(super) struct Persistence {
    close: bool,
    keep: bool,
}

impl Persistence {
    /// Reads one line.
    pub(super) fn read(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the connection stays open after this exchange.
    pub(super) fn keeps(&self, minor_version: u8) -> bool {
        !self.close && (minor_version == 1 || self.keep)
    }
}

/// Repeated `mcp-*` fields are remembered, not refused: their answer carries a JSON-RPC body of its own.
fn read_mcp<'a>(head: &mut Head<'a>, name: &'a str, value: &'a [u8], earlier: &[httparse::Header<'a>]) {
    let bytes = name.as_bytes();
    let slot = match name.len() {
        8 if same(bytes, b"mcp-name") => &mut head.mcp_name,
        10 if same(bytes, b"mcp-method") => &mut head.mcp_method,
        14 if same(bytes, b"mcp-session-id") => &mut head.session_id,
        20 if same(bytes, b"mcp-protocol-version") => &mut head.protocol_version,
        _ => {
            head.mcp_param_count += u8::from(is_mcp_param(name));
            if earlier.iter().any(|line| line.name.eq_ignore_ascii_case(name)) {
                head.duplicate.get_or_insert(name);
            }
            return;
        }
    };
    if slot.is_some() {
        head.duplicate.get_or_insert(name);
    } else {
        *slot = Some(value);
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], field: &'static str) -> Result<(), HeadError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HeadError::FieldRepeated(field)),
    }
}

/// Digits only. A leading zero is refused too: some readers take it for octal.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || (value.len() > 1 && value[0] == b'0') {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
