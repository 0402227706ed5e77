//! The corpus of heads and bodies by which requests are smuggled: each must be refused, for its own reason.
//!
//! Not here: what a correct head looks like (`head_tests`). Sources: RFC 9112 sections 2.2, 5, 6, 11.2; the public
//! write-ups of CL.TE, TE.CL, TE.TE and bare-LF desynchronisation.
//! Invariant: every entry ends the connection; none yields a `Head` or a finished body.

use super::head::{BodyFraming, Head, HeadError, HeadFinder, parse};
use super::template::{HeadTemplates, LEARN_EVERY};

/// Finder and parser together, as a connection uses them; all at once and, as it has to come to the same, byte by byte,
/// on a core that has seen no head and on one that has seen good ones which are like these.
fn read(bytes: &[u8]) -> Result<BodyFraming, HeadError> {
    let body = |found: Option<(usize, Head<'_>)>| found.map(|(_, head)| head.body).ok_or(HeadError::Incomplete);
    let mut none = HeadTemplates::default();
    let whole = HeadFinder::new().read(bytes, &mut none).and_then(body);
    let mut finder = HeadFinder::new();
    let mut piece = |end: usize| finder.read(&bytes[..end], &mut none).transpose();
    let slowly = (1..=bytes.len()).find_map(&mut piece).transpose().and_then(body);
    assert_eq!(slowly, whole, "{}", bytes.escape_ascii());
    let mut seen = HeadTemplates::default();
    for fields in ["Content-Length: 6", "Content-Length: 6\r\nX: a", "X: a\r\nContent-Length: 6", "Mcp-Name: a"] {
        (0..=LEARN_EVERY).for_each(|_| assert!(seen.read(&post(fields)).is_some(), "a good head"));
    }
    assert_eq!(HeadFinder::new().read(bytes, &mut seen).and_then(body), whole, "{}", bytes.escape_ascii());
    whole
}

fn post(fields: &str) -> Vec<u8> {
    format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes()
}

#[test]
fn framing_fields() {
    let cases: &[(&str, HeadError)] = &[
        // CL.TE and TE.CL
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", HeadError::LengthAndChunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6", HeadError::LengthAndChunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", HeadError::LengthAndChunked),
        // TE.TE: obfuscations of the coding
        ("Transfer-Encoding: xchunked", HeadError::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HeadError::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow", HeadError::TransferEncoding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", HeadError::TransferEncoding),
        ("Transfer-Encoding: identity", HeadError::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", HeadError::TransferEncoding),
        ("Transfer-Encoding: chunked, identity", HeadError::TransferEncoding),
        ("Transfer-Encoding: chunked,", HeadError::TransferEncoding),
        ("Transfer-Encoding: ,chunked", HeadError::TransferEncoding),
        ("Transfer-Encoding: chunked;q=1", HeadError::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"", HeadError::TransferEncoding),
        ("Transfer-Encoding:", HeadError::TransferEncoding),
        ("Transfer-Encoding: chun\u{212a}ed", HeadError::TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked", HeadError::FieldValue),
        ("Transfer-Encoding: chunked\0", HeadError::FieldValue),
        ("Transfer-Encoding : chunked", HeadError::FieldName),
        ("Transfer-Encoding\t: chunked", HeadError::FieldName),
        (" Transfer-Encoding: chunked", HeadError::FieldName),
        ("X: y\r\n Transfer-Encoding: chunked", HeadError::FieldName),
        ("X: y\r\n\tTransfer-Encoding: chunked", HeadError::FieldName),
        ("Transfer-Encoding:\r\n chunked", HeadError::FieldName),
        ("Transfer-Encoding\r\n : chunked", HeadError::FieldName),
        ("Transfer\0-Encoding: chunked", HeadError::FieldName),
        // bare CR and bare LF
        ("X: y\nTransfer-Encoding: chunked", HeadError::BareLineFeed),
        ("X: y\rTransfer-Encoding: chunked", HeadError::FieldValue),
        ("X: y\r\rTransfer-Encoding: chunked", HeadError::FieldValue),
        ("X: y\n\nGET /admin HTTP/1.1", HeadError::BareLineFeed),
        ("X:\n y", HeadError::BareLineFeed),
        ("X:\ry", HeadError::FieldValue),
        ("\rX: y", HeadError::LineEnd),
        // Content-Length
        ("Content-Length: 5\r\nContent-Length: 5", HeadError::ContentLengthRepeated),
        ("Content-Length: 5\r\ncontent-length: 6", HeadError::ContentLengthRepeated),
        ("Content-Length: 5, 5", HeadError::ContentLength),
        ("Content-Length: 5,", HeadError::ContentLength),
        ("Content-Length: +5", HeadError::ContentLength),
        ("Content-Length: -5", HeadError::ContentLength),
        ("Content-Length: 0x5", HeadError::ContentLength),
        ("Content-Length: 05", HeadError::ContentLength),
        ("Content-Length: 00", HeadError::ContentLength),
        ("Content-Length: 5 5", HeadError::ContentLength),
        ("Content-Length: 5.0", HeadError::ContentLength),
        ("Content-Length: 1e1", HeadError::ContentLength),
        ("Content-Length: 5_0", HeadError::ContentLength),
        ("Content-Length: \"5\"", HeadError::ContentLength),
        ("Content-Length:", HeadError::ContentLength),
        ("Content-Length: \u{661}", HeadError::ContentLength),
        ("Content-Length: 18446744073709551616", HeadError::ContentLength),
        ("Content-Length: 99999999999999999999999999", HeadError::ContentLength),
        ("Content-Length : 5", HeadError::FieldName),
        // hosts and names
        ("Host: b", HeadError::FieldRepeated("Host")),
        ("hOST: a", HeadError::FieldRepeated("Host")),
        (": y", HeadError::FieldName),
        ("X", HeadError::FieldName),
        ("X y: z", HeadError::FieldName),
        ("X\u{e9}: y", HeadError::FieldName),
        ("X: a\u{7f}b", HeadError::FieldValue),
        ("X: a\u{1}b", HeadError::FieldValue),
    ];
    for &(fields, expected) in cases {
        assert_eq!(read(&post(fields)), Err(expected), "{fields:?}");
        // The refusal does not lean on the finder: the parser alone refuses too.
        assert!(parse(&post(fields)).is_err(), "{fields:?}");
    }
    assert_eq!(read(&post("Transfer-Encoding: CHUNKED")), Ok(BodyFraming::Chunked));
    assert_eq!(read(&post("Content-Length: 18446744073709551615")), Ok(BodyFraming::Length(u64::MAX)));
    assert_eq!(read(&post("Content-Length: 0")), Ok(BodyFraming::Length(0)));
    assert_eq!(read(&post("Content-Length:\t 12 \t")), Ok(BodyFraming::Length(12)));
}

#[test]
fn request_lines() {
    let cases: &[(&[u8], HeadError)] = &[
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TransferEncodingOnHttp10),
        (b"POST / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::FieldRepeated("Host")),
        (b"GET / HTTP/1.1\r\n\r\n", HeadError::HostMissing),
        (b"GET http://a:1/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET mcp HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::TargetForm),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::AsteriskTarget),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::AsteriskTarget),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Connect),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Connect),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Version),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", HeadError::LineEnd),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLineFeed),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", HeadError::LineEnd),
        (b"GET /\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::Version),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", HeadError::Version),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", HeadError::LineEnd),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", HeadError::Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Version),
        (b"\x16\x03\x01\x02\x00\x01", HeadError::RequestLine),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::LeadingLines),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareLineFeed),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::LeadingLines),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n", HeadError::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::BareLineFeed),
    ];
    for &(bytes, expected) in cases {
        assert_eq!(read(bytes), Err(expected), "{}", bytes.escape_ascii());
        assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}
