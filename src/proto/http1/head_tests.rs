//! What heads look like that are accepted, where the limits lie, and that arrival in pieces changes nothing.
//!
//! Not here: heads that must be refused because readers disagree about them (`smuggling`).
//! Invariant: each limit is tested at its value and one above it.

use proptest::prelude::*;

use super::head::{BodyFraming, HeadError, HeadFinder, Method, parse, parse_front};
use super::media::Accepts;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_REQUEST_LINE_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

pub(super) const TYPICAL: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: localhost:8080\r\n\
Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: get_weather\r\n\
User-Agent: corelane-bench/0.1 (linux; x86_64) typical-agent-string-of-usual-length\r\n\
Authorization: Bearer 0123456789abcdef0123456789\r\nContent-Length: 226\r\n\r\n";

fn request(fields: &str) -> Vec<u8> {
    format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn typical() {
    assert_eq!(HeadFinder::new().find(TYPICAL), Ok(Some(TYPICAL.len())));
    let head = parse(TYPICAL).unwrap();
    assert_eq!((head.method, head.path, head.query), (Method::Post, "/mcp", None));
    assert_eq!((head.minor_version, head.keep_alive, head.expect_continue), (1, true, false));
    assert_eq!(head.body, BodyFraming::Length(226));
    assert_eq!(head.host, Some(&b"localhost:8080"[..]));
    assert_eq!(head.content_type, Some(&b"application/json"[..]));
    assert_eq!(head.accepts(), Some(Accepts { json: true, event_stream: true }));
    assert_eq!(head.protocol_version, Some(&b"2026-07-28"[..]));
    assert_eq!(head.mcp_method, Some(&b"tools/call"[..]));
    assert_eq!(head.mcp_name, Some(&b"get_weather"[..]));
    assert_eq!(head.authorization, Some(&b"Bearer 0123456789abcdef0123456789"[..]));
    assert_eq!((head.duplicate, head.mcp_param_count, head.session_id), (None, 0, None));
    assert_eq!(head.fields().count(), 9);
    assert_eq!(head.mcp_params().count(), 0);
}

#[test]
fn every_recognised_field() {
    let bytes = request(
        "oRIGIN: o\r\nACCEPT: a\r\nContent-Encoding: e\r\nmcp-session-id:s\r\nLAST-EVENT-ID: \t l \t\r\n\
         x-request-timeout-MS: 5\r\nAccess-Control-Request-Method: m\r\nAccess-Control-Request-Headers: h, i\r\n\
         TraceParent: t\r\nMcp-Param-Region: us\r\nX-Mcp-Name: no\r\nmcp-param-b:\r\nMcp-Param-: none\r\n\
         Upgrade: websocket\r\nConnection: upgrade\r\nExpect: 100-Continue\r\n",
    );
    let head = parse(&bytes).unwrap();
    let found = [head.origin, head.accept, head.content_encoding, head.session_id, head.last_event_id];
    assert_eq!(found.map(Option::unwrap), [&b"o"[..], b"a", b"e", b"s", b"l"]);
    let found = [
        head.request_timeout_ms,
        head.access_control_request_method,
        head.access_control_request_headers,
        head.traceparent,
    ];
    assert_eq!(found.map(Option::unwrap), [&b"5"[..], b"m", b"h, i", b"t"]);
    assert_eq!(head.mcp_params().collect::<Vec<_>>(), [("Region", &b"us"[..]), ("b", b"")]);
    assert_eq!((head.mcp_param_count, head.mcp_name, head.duplicate), (2, None, None));
    assert!(head.expect_continue && head.keep_alive);
}

#[test]
fn repeated_fields() {
    for name in ["Mcp-Name", "MCP-METHOD", "mcp-session-id", "mcp-protocol-version", "Mcp-Param-X", "Mcp-Unknown"] {
        let bytes = request(&format!("{}: a\r\nX: y\r\n{name}: a\r\n", name.to_ascii_lowercase()));
        assert_eq!(parse(&bytes).unwrap().duplicate, Some(name));
    }
    for name in ["Origin", "Content-Type", "Authorization", "Last-Event-ID", "Content-Encoding", "X-Request-Timeout-Ms"]
    {
        let bytes = request(&format!("{}: a\r\n{name}: a\r\n", name.to_ascii_lowercase()));
        assert_eq!(parse(&bytes).unwrap_err(), HeadError::FieldRepeated(name));
    }
    let bytes = request("Accept: text/html\r\nAccept: text/event-stream\r\naccept: application/*\r\n");
    assert_eq!(parse(&bytes).unwrap().accepts(), Some(Accepts { json: true, event_stream: true }));
    assert_eq!(parse(&request("traceparent: a\r\ntraceparent: b\r\n")).unwrap().traceparent, None);
    assert_eq!(parse(&request("traceparent: a\r\ntraceparent: b\r\ntraceparent: c\r\n")).unwrap().traceparent, None);
}

#[test]
fn three_accept_lines_are_all_read() {
    let bytes = request("Accept: application/json\r\nAccept: text/html\r\nAccept: text/event-stream\r\n");
    assert_eq!(parse(&bytes).unwrap().accepts(), Some(Accepts { json: true, event_stream: true }));
}

#[test]
fn connection_options() {
    let cases: &[(&str, &str, bool)] = &[
        ("1.1", "", true),
        ("1.0", "", false),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE ,y\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: close-not\r\n", true),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: upgrade,keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for &(version, fields, expected) in cases {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(parse(bytes.as_bytes()).unwrap().keep_alive, expected, "{version} {fields}");
    }
}

#[test]
fn methods_targets_expectations() {
    let method = |line: &str| parse(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap().method;
    let all =
        ["DELETE", "GET", "HEAD", "OPTIONS", "get", "PATCH", "POST", "PUT"].map(|name| method(&format!("{name} /")));
    use Method::*;
    assert_eq!(all, [Delete, Get, Head, Options, Other, Patch, Post, Put]);
    // Found by fuzzing: a method is any token, and finder and parser must agree on it.
    let odd = b"0!|~ / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(parse(odd).unwrap().method, Other);
    assert_eq!(HeadFinder::new().find(odd), Ok(Some(odd.len())));
    let head = parse(b"GET /a%2f/..//b?c=?d HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((head.path, head.query, head.host), ("/a%2f/..//b", Some("c=?d"), None));
    assert_eq!((head.minor_version, head.fields().count()), (0, 0));
    for (target, path, query) in
        [("http://A:1/b?c", "/b", Some("c")), ("https://a:1/", "/", None), ("http://a:1", "/", None)]
    {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a:1\r\n\r\n");
        let head = parse(bytes.as_bytes()).unwrap();
        assert_eq!((head.path, head.query, head.host), (path, query, Some(&b"a:1"[..])), "{target}");
    }
    assert_eq!(parse(b"\r\nGET /? HTTP/1.1\r\nHost:\r\n\r\n").unwrap().query, Some(""));
    assert_eq!(parse(&request("Expect: 200-ok\r\n")).unwrap_err().status(), 417);
    assert_eq!(parse(&request("Expect: 100-continue\r\nExpect: x\r\n")).unwrap_err().status(), 417);
    assert!(!parse(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap().expect_continue);
    assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap_err(), HeadError::Incomplete);
}

#[test]
fn limits() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1)).into_bytes();
    assert!(parse(&target(HTTP_TARGET_BYTES_MAX)).is_ok());
    assert_eq!(HeadFinder::new().find(&target(HTTP_TARGET_BYTES_MAX)), Ok(Some(target(HTTP_TARGET_BYTES_MAX).len())));
    assert_eq!(parse(&target(HTTP_TARGET_BYTES_MAX + 1)).unwrap_err().status(), 414);
    assert_eq!(HeadFinder::new().find(&target(HTTP_REQUEST_LINE_BYTES_MAX)), Err(HeadError::TargetTooLong));
    let endless = vec![b'A'; HTTP_REQUEST_LINE_BYTES_MAX];
    assert_eq!(HeadFinder::new().find(&endless[1..]), Ok(None));
    assert_eq!(HeadFinder::new().find(&endless), Err(HeadError::TargetTooLong));

    let padded = |length: usize| {
        let empty = request("X: \r\n").len();
        request(&format!("X: {}\r\n", "a".repeat(length - empty)))
    };
    assert_eq!(HeadFinder::new().find(&padded(HTTP_HEAD_BYTES_MAX)), Ok(Some(HTTP_HEAD_BYTES_MAX)));
    assert!(parse(&padded(HTTP_HEAD_BYTES_MAX)).is_ok());
    assert_eq!(HeadFinder::new().find(&padded(HTTP_HEAD_BYTES_MAX + 1)), Err(HeadError::HeadTooLarge));
    assert_eq!(parse(&padded(HTTP_HEAD_BYTES_MAX + 1)).unwrap_err().status(), 431);

    let fields = |count: usize| request(&"X: y\r\n".repeat(count - 1));
    assert!(parse(&fields(HTTP_HEADERS_MAX)).is_ok());
    assert_eq!(parse(&fields(HTTP_HEADERS_MAX + 1)).unwrap_err(), HeadError::TooManyFields);
    assert_eq!(HeadError::TooManyFields.status(), 431);
}

/// The answer to a stream that arrives in pieces of the given sizes, and then byte by byte.
fn find_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Option<usize>, HeadError> {
    let mut finder = HeadFinder::new();
    let mut end = 0;
    for piece in pieces.iter().copied().chain(std::iter::repeat(1)) {
        end = (end + piece).min(bytes.len());
        match finder.find(&bytes[..end]) {
            Ok(None) if end < bytes.len() => {}
            verdict => return verdict,
        }
    }
    unreachable!("the pieces never end")
}

#[test]
fn a_found_head_leaves_the_finder_ready_for_the_next() {
    let mut finder = HeadFinder::new();
    let two = [TYPICAL, TYPICAL].concat();
    assert_eq!(finder.find(&two[..10]), Ok(None));
    assert_eq!(finder.find(&two), Ok(Some(TYPICAL.len())));
    assert_eq!(finder.find(&two[TYPICAL.len()..]), Ok(Some(TYPICAL.len())));
}

proptest! {
    #[test]
    fn any_split_finds_the_same_end(
        bytes in prop_oneof![
            proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(b':')], 0..60),
            "(\r\n)?[A-Z]{1,4} /[a-z]{0,9} HTTP/1.1\r\n(([a-z]{1,5}: ?[a-z]{0,9}(\r\n|\n|\r)){0,5}\r\n){1,2}".prop_map(String::into_bytes),
        ],
        pieces in proptest::collection::vec(0usize..20, 0..20),
    ) {
        let whole = HeadFinder::new().find(&bytes);
        prop_assert_eq!(find_in_pieces(&bytes, &pieces), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_accepted_heads_keep_the_invariants(
        bytes in "(POST|GET) /[a-z?]{0,5} HTTP/1.[01](\r\n|\n)((Host|Content-Length|Transfer-Encoding|mcp-param-a|x)( )?:[ 0-9a-z]{0,4}(chunked)?(\r\n|\r|\n)){0,4}\r\n",
    ) {
        let bytes = bytes.as_bytes();
        if let Ok(head) = parse(bytes) {
            prop_assert!(!bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r'));
            prop_assert!(head.minor_version == 0 || head.host.is_some());
            prop_assert_eq!(head.mcp_params().count(), usize::from(head.mcp_param_count));
            prop_assert_eq!(HeadFinder::new().find(bytes), Ok(Some(bytes.len())));
        }
    }

    /// The one pass over what a connection begins with is the two passes, for every head that they take.
    #[test]
    fn one_pass_reads_what_two_read(
        head in "(\r\n)?[A-Z]{1,4} /[a-z?]{0,5} HTTP/1.[01](\r\n|\n)((Host|Content-Length|Transfer-Encoding|mcp-param-a|x)( )?:[ 0-9a-z]{0,4}(chunked)?(\r\n|\r\n|\r\n|\r|\n)){0,4}\r\n",
        behind in proptest::collection::vec(any::<u8>(), 0..40),
        cut in 0usize..200,
    ) {
        let mut bytes = head.into_bytes();
        bytes.extend(behind);
        bytes.truncate(cut.max(10));
        let front = parse_front(&bytes).map(|(length, head)| (length, format!("{head:?}")));
        let both = HeadFinder::new().find(&bytes).ok().flatten();
        let both = both.and_then(|length| Some((length, format!("{:?}", parse(&bytes[..length]).ok()?))));
        if bytes[0] == b'\r' {
            // Left to the two.
            prop_assert_eq!(front, None);
        } else {
            prop_assert_eq!(front, both);
        }
    }
}

#[test]
fn one_pass_reads_no_request_line_that_is_too_long() {
    for (path, is_read) in [(HTTP_TARGET_BYTES_MAX - 100, true), (HTTP_TARGET_BYTES_MAX + 100, false)] {
        let bytes = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(path));
        assert_eq!(parse_front(bytes.as_bytes()).is_some(), is_read);
    }
}
