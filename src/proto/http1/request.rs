//! Requests to an upstream, appended to one output buffer so that head and body leave in one send.
//!
//! A POST is written body after head, as answers are (`respond`): its Content-Length is patched into a field of fixed
//! width in front of it. Not here: which fields a revision wants, credentials, connecting, reading (`answer`).
//! Invariant: the head of a written request has one reading: a value that could end its field, a name that is no token,
//! and a field that says where the message or the connection ends are refused, and of a refused request nothing stays.

use thiserror::Error;

use super::mirror;
use super::respond::{LENGTH_FIELD, Mark, finish_json, is_field_value};
use super::token::is_token;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX};

/// Why a request cannot be written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// A field name is not a token.
    #[error("`{}` is not a header field name; use letters, digits and -", .name.escape_debug())]
    FieldName {
        /// The name.
        name: String,
    },
    /// A field that the writer writes itself, or that would change how the connection is used.
    #[error("the header field {name} is not for callers to set; leave it out")]
    FieldReserved {
        /// The name.
        name: String,
    },
    /// A value has a control byte other than tab.
    #[error("the value of the header field {name} has the control byte {byte:#04x}; remove or encode it")]
    FieldValue {
        /// The field.
        name: String,
        /// The byte.
        byte: u8,
    },
    /// The head is larger than we would take ourselves.
    #[error("the request's head has {bytes} bytes, at most {HTTP_HEAD_BYTES_MAX} are sent; send less in header fields")]
    HeadTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The host is empty or holds something that no host and port hold.
    #[error("`{}` is not a host with an optional port, such as tools.example:8080", .host.escape_debug())]
    Host {
        /// What was given.
        host: String,
    },
    /// The path is not absolute, too long, or holds something that no path holds.
    #[error(
        "`{}` is not a path of visible ASCII that begins with / and has at most {HTTP_TARGET_BYTES_MAX} bytes",
        .path.escape_debug()
    )]
    Path {
        /// What was given.
        path: String,
    },
    /// More fields than we would take ourselves.
    #[error("the request has more than {HTTP_HEADERS_MAX} header fields; send fewer")]
    TooManyFields,
}

/// Where requests go: a path on a host, checked once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// What follows the method: ` path HTTP/1.1`, the `Host` line, and its CRLF.
    line_tail: Box<str>,
    path_bytes: usize,
}

impl Target {
    /// `host` is a host with an optional port, as it stands in a URL; `path` may have a query.
    ///
    /// # Errors
    /// [`RequestError::Host`] and [`RequestError::Path`].
    pub fn new(host: &str, path: &str) -> Result<Self, RequestError> {
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
        if host.is_empty() || host.len() > HTTP_TARGET_BYTES_MAX || !host.bytes().all(is_host_byte) {
            return Err(RequestError::Host { host: host.to_owned() });
        }
        let is_path_byte = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.starts_with('/') || path.len() > HTTP_TARGET_BYTES_MAX || !path.bytes().all(is_path_byte) {
            return Err(RequestError::Path { path: path.to_owned() });
        }
        Ok(Self { line_tail: format!(" {path} HTTP/1.1\r\nHost: {host}\r\n").into(), path_bytes: path.len() })
    }

    /// The path, with its query.
    pub fn path(&self) -> &str {
        &self.line_tail[1..1 + self.path_bytes]
    }
}

/// Fields that the writer writes itself, and those by which a connection would become another one. In lower case.
const RESERVED: [&str; 13] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Writes one request. A request is only there once it was ended; one that is dropped before, or refused, leaves `out`
/// as it was.
///
/// ```
/// use corelane::proto::http1::request::{RequestWriter, Target, finish_post};
/// let target = Target::new("tools.example", "/mcp")?;
/// let mut out = Vec::new();
/// let mut request = RequestWriter::post(&mut out, &target);
/// request.field("MCP-Protocol-Version", b"2026-07-28").mirrored("Mcp-Name", "", "wetter für morgen");
/// let mark = request.begin_body()?;
/// out.extend_from_slice(br#"{"jsonrpc":"2.0"}"#);
/// finish_post(&mut out, mark);
/// assert!(out.ends_with(b"Content-Length:         17\r\n\r\n{\"jsonrpc\":\"2.0\"}"));
/// # Ok::<(), corelane::proto::http1::request::RequestError>(())
/// ```
#[must_use = "a request that is not ended is not written"]
#[derive(Debug)]
pub struct RequestWriter<'o> {
    out: &'o mut Vec<u8>,
    begin_at: usize,
    fields: usize,
    has_body: bool,
    /// The first thing wrong.
    refused: Option<RequestError>,
    ended: bool,
}

impl<'o> RequestWriter<'o> {
    /// Begins a POST that takes an answer as JSON or as an event stream; end it with [`RequestWriter::begin_body`].
    pub fn post(out: &'o mut Vec<u8>, target: &Target) -> Self {
        let fixed = b"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
        Self::begin(out, b"POST", target, fixed, 3)
    }

    /// Begins a GET of an event stream, from `last_event_id` on if there is one; end it with [`RequestWriter::end`].
    pub fn get_events(out: &'o mut Vec<u8>, target: &Target, last_event_id: Option<&[u8]>) -> Self {
        let mut request = Self::begin(out, b"GET", target, b"Accept: text/event-stream\r\n", 1);
        if let Some(id) = last_event_id {
            request.line("Last-Event-ID", "", |out| out.extend_from_slice(id));
        }
        request
    }

    /// Begins a DELETE; end it with [`RequestWriter::end`].
    pub fn delete(out: &'o mut Vec<u8>, target: &Target) -> Self {
        Self::begin(out, b"DELETE", target, b"", 0)
    }

    fn begin(out: &'o mut Vec<u8>, method: &[u8], target: &Target, fixed: &[u8], fixed_fields: usize) -> Self {
        let begin_at = out.len();
        out.extend_from_slice(method);
        out.extend_from_slice(target.line_tail.as_bytes());
        out.extend_from_slice(fixed);
        let has_body = method == b"POST";
        Self { out, begin_at, fields: 1 + fixed_fields, has_body, refused: None, ended: false }
    }

    /// Adds a field. What is wrong with it is told when the request is ended.
    pub fn field(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.checked_line(name, "", |out| out.extend_from_slice(value))
    }

    /// Adds a field whose value mirrors `text` of the body: as it stands, or `=?base64?...?=` where that is not safe.
    /// Its name is given in two parts: `("Mcp-Param-", "Region")`, `("Mcp-Name", "")`.
    pub fn mirrored(&mut self, name: &str, suffix: &str, text: &str) -> &mut Self {
        self.checked_line(name, suffix, |out| mirror::encode(text, out))
    }

    /// Adds a field as it came, its name in two parts.
    pub fn passed_on(&mut self, name: &str, suffix: &str, value: &[u8]) -> &mut Self {
        self.checked_line(name, suffix, |out| out.extend_from_slice(value))
    }

    fn checked_line(&mut self, name: &str, suffix: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let is_reserved = |known: &&str| match known.split_at_checked(name.len()) {
            Some((front, back)) => front.eq_ignore_ascii_case(name) && back.eq_ignore_ascii_case(suffix),
            None => false,
        };
        if RESERVED.iter().any(is_reserved) {
            self.refuse(RequestError::FieldReserved { name: format!("{name}{suffix}") });
        } else if !is_token(name.as_bytes()) || !(suffix.is_empty() || is_token(suffix.as_bytes())) {
            self.refuse(RequestError::FieldName { name: format!("{name}{suffix}") });
        } else {
            self.line(name, suffix, write);
        }
        self
    }

    fn line(&mut self, name: &str, suffix: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.fields += 1;
        if self.refused.is_some() {
            return;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.extend_from_slice(b": ");
        let value_at = self.out.len();
        write(self.out);
        let value = &self.out[value_at..];
        if !is_field_value(value) {
            let byte = value.iter().copied().find(|&byte| !is_field_value(&[byte])).unwrap_or_default();
            self.refuse(RequestError::FieldValue { name: format!("{name}{suffix}"), byte });
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn refuse(&mut self, error: RequestError) {
        self.refused.get_or_insert(error);
    }

    /// Ends the head of a POST. The caller appends the body and calls [`finish_post`] with the mark.
    ///
    /// # Errors
    /// The first thing that was wrong with it.
    ///
    /// # Panics
    /// If the request is not a POST.
    pub fn begin_body(mut self) -> Result<Mark, RequestError> {
        assert!(self.has_body, "only a POST has a body");
        self.out.extend_from_slice(LENGTH_FIELD);
        self.settle()?;
        Ok(Mark::at_end_of(self.out))
    }

    /// Ends a GET or DELETE.
    ///
    /// # Errors
    /// The first thing that was wrong with it.
    ///
    /// # Panics
    /// If the request is a POST.
    pub fn end(mut self) -> Result<(), RequestError> {
        assert!(!self.has_body, "a POST has a body, however short");
        self.out.extend_from_slice(b"\r\n");
        self.settle()
    }

    fn settle(&mut self) -> Result<(), RequestError> {
        let bytes = self.out.len() - self.begin_at;
        if bytes > HTTP_HEAD_BYTES_MAX {
            self.refuse(RequestError::HeadTooLarge { bytes });
        }
        if self.fields > HTTP_HEADERS_MAX {
            self.refuse(RequestError::TooManyFields);
        }
        match self.refused.take() {
            Some(error) => Err(error),
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }
}

impl Drop for RequestWriter<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.out.truncate(self.begin_at);
        }
    }
}

/// Ends a POST: everything appended since [`RequestWriter::begin_body`] is its body.
///
/// # Panics
/// If `out` is shorter than it was at the mark, or the body has 10^10 bytes or more.
pub fn finish_post(out: &mut [u8], mark: Mark) {
    finish_json(out, mark);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::http1::head::{BodyFraming, Head, HeadFinder, Method, parse};
    use crate::proto::http1::mirror::{BodyValue, agrees};

    fn target() -> Target {
        Target::new("tools.example:8080", "/mcp?tenant=a").unwrap()
    }

    fn post(
        write: impl for<'w, 'o> FnOnce(&'w mut RequestWriter<'o>) -> &'w mut RequestWriter<'o>,
        body: &[u8],
    ) -> Result<Vec<u8>, RequestError> {
        let mut out = b"before".to_vec();
        let mut request = RequestWriter::post(&mut out, &target());
        write(&mut request);
        match request.begin_body() {
            Ok(mark) => {
                out.extend_from_slice(body);
                finish_post(&mut out, mark);
                assert!(out.starts_with(b"before"));
                Ok(out.split_off(6))
            }
            Err(error) => {
                assert_eq!(out, b"before", "nothing stays of what was refused");
                Err(error)
            }
        }
    }

    /// What our own server side reads of it.
    fn head_of(bytes: &[u8]) -> (Head<'_>, usize) {
        let length = HeadFinder::new().find(bytes).unwrap().expect("the head is complete");
        (parse(&bytes[..length]).unwrap(), length)
    }

    #[test]
    fn requests_as_bytes() {
        let written = post(
            |request| {
                request
                    .field("MCP-Protocol-Version", b"2026-07-28")
                    .field("Mcp-Method", b"tools/call")
                    .mirrored("Mcp-Name", "", "get_weather")
                    .mirrored("Mcp-Param-", "Stadt", "Köln")
            },
            b"{\"jsonrpc\":\"2.0\"}",
        );
        let expected = "POST /mcp?tenant=a HTTP/1.1\r\nHost: tools.example:8080\r\n\
            Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
            MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: get_weather\r\n\
            Mcp-Param-Stadt: =?base64?S8O2bG4=?=\r\nContent-Length:         17\r\n\r\n{\"jsonrpc\":\"2.0\"}";
        assert_eq!(String::from_utf8(written.unwrap()).unwrap(), expected);

        let mut out = Vec::new();
        RequestWriter::get_events(&mut out, &target(), None).end().unwrap();
        let mut request = RequestWriter::get_events(&mut out, &target(), Some("7-\u{fc}".as_bytes()));
        request.field("Mcp-Session-Id", b"s-1");
        request.end().unwrap();
        let mut request = RequestWriter::delete(&mut out, &target());
        request.field("Mcp-Session-Id", b"s-1");
        request.end().unwrap();
        let expected = "GET /mcp?tenant=a HTTP/1.1\r\nHost: tools.example:8080\r\nAccept: text/event-stream\r\n\r\n\
            GET /mcp?tenant=a HTTP/1.1\r\nHost: tools.example:8080\r\nAccept: text/event-stream\r\n\
            Last-Event-ID: 7-\u{fc}\r\nMcp-Session-Id: s-1\r\n\r\n\
            DELETE /mcp?tenant=a HTTP/1.1\r\nHost: tools.example:8080\r\nMcp-Session-Id: s-1\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn our_own_server_reads_it() {
        let bytes = post(|request| request.field("Mcp-Session-Id", b"s"), b"{}").unwrap();
        let (head, length) = head_of(&bytes);
        assert_eq!((head.method, head.path, head.query), (Method::Post, "/mcp", Some("tenant=a")));
        assert_eq!((head.body, head.keep_alive, bytes.len() - length), (BodyFraming::Length(2), true, 2));
        assert_eq!((head.host, head.session_id), (Some(&b"tools.example:8080"[..]), Some(&b"s"[..])));
        let accepts = head.accepts().unwrap();
        assert!(accepts.json && accepts.event_stream);
    }

    #[test]
    fn values_and_names_that_would_break_the_head_are_refused() {
        for (value, byte) in
            [(&b"a\r\nX: y"[..], b'\r'), (b"a\nb", b'\n'), (b"\0", 0), (b"\x7f", 0x7f), (b"\x1b[0m", 0x1b)]
        {
            let expected = RequestError::FieldValue { name: "Mcp-Method".to_owned(), byte };
            assert_eq!(post(|request| request.field("Mcp-Method", value), b"{}"), Err(expected));
            let mut out = Vec::new();
            let stream = RequestWriter::get_events(&mut out, &target(), Some(value)).end();
            assert_eq!(stream, Err(RequestError::FieldValue { name: "Last-Event-ID".to_owned(), byte }));
            assert!(out.is_empty());
        }
        assert!(post(|request| request.field("X", b"\t \xff"), b"{}").is_ok());
        for name in ["", "X:", "X Y", "X\r\nY", "\u{e9}"] {
            let expected = RequestError::FieldName { name: name.to_owned() };
            assert_eq!(post(|request| request.field(name, b""), b""), Err(expected));
        }
        let expected = RequestError::FieldName { name: "Mcp-Param-a b".to_owned() };
        assert_eq!(post(|request| request.mirrored("Mcp-Param-", "a b", ""), b""), Err(expected));
        for name in RESERVED {
            let name = name.to_ascii_uppercase();
            let expected = RequestError::FieldReserved { name: name.clone() };
            assert_eq!(post(|request| request.field(&name, b"x"), b""), Err(expected));
        }
        let expected = RequestError::FieldReserved { name: "Content-Length".to_owned() };
        assert_eq!(post(|request| request.mirrored("Content-", "Length", "1"), b""), Err(expected));
        // The first thing wrong is told, and nothing behind it is written.
        let refused = post(|request| request.field("", b"").field("X", b"\n").field("Y", b"z"), b"");
        assert_eq!(refused, Err(RequestError::FieldName { name: String::new() }));
    }

    #[test]
    fn hosts_and_paths_are_checked_once() {
        for host in ["a", "a.example:80", "[::1]:8080", "127.0.0.1"] {
            assert_eq!(Target::new(host, "/").unwrap().path(), "/");
        }
        for host in ["", "a b", "a/b", "a\r\nX: y", "u@a", "\u{e9}", "a?b", "a#b"] {
            assert_eq!(Target::new(host, "/"), Err(RequestError::Host { host: host.to_owned() }));
        }
        let longest = format!("/{}", "p".repeat(HTTP_TARGET_BYTES_MAX - 1));
        assert_eq!(Target::new("a", &longest).unwrap().path(), longest);
        for path in ["", "mcp", "*", "/a b", "/a#b", "/\u{e9}", "/\r\n", "http://a/", &format!("{longest}p")] {
            assert_eq!(Target::new("a", path), Err(RequestError::Path { path: path.to_owned() }));
        }
    }

    #[test]
    fn limits() {
        let longest = |more: usize| {
            let used = post(|request| request.field("X", b""), b"").unwrap().len();
            post(|request| request.field("X", &vec![b'x'; HTTP_HEAD_BYTES_MAX - used + more]), b"")
        };
        let bytes = longest(0).unwrap();
        assert_eq!((bytes.len(), head_of(&bytes).1), (HTTP_HEAD_BYTES_MAX, HTTP_HEAD_BYTES_MAX));
        assert_eq!(longest(1), Err(RequestError::HeadTooLarge { bytes: HTTP_HEAD_BYTES_MAX + 1 }));

        let many = |fields: usize| {
            post(|request| (0..fields).fold(request, |request, _| request.field("X", b"y")), b"").map(|bytes| {
                assert_eq!(head_of(&bytes).0.fields().count(), fields + 4);
            })
        };
        assert_eq!(many(HTTP_HEADERS_MAX - 4), Ok(()));
        assert_eq!(many(HTTP_HEADERS_MAX - 3), Err(RequestError::TooManyFields));
    }

    #[test]
    fn a_request_that_is_not_ended_leaves_nothing() {
        let mut out = b"before".to_vec();
        drop(RequestWriter::post(&mut out, &target()));
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn what_is_mirrored_agrees(name in any::<String>(), region in any::<String>(), body in ".{0,40}") {
            let bytes = post(
                |request| request.mirrored("Mcp-Name", "", &name).mirrored("Mcp-Param-", "R", &region),
                body.as_bytes(),
            ).unwrap();
            let (head, length) = head_of(&bytes);
            prop_assert_eq!(&bytes[length..], body.as_bytes());
            prop_assert_eq!(agrees(head.mcp_name.unwrap_or_default(), BodyValue::Text(&name)), Ok(()));
            let params: Vec<_> = head.mcp_params().collect();
            prop_assert_eq!(params.len(), 1);
            prop_assert_eq!((params[0].0, agrees(params[0].1, BodyValue::Text(&region))), ("R", Ok(())));
        }
    }
}
