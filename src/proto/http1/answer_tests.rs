//! What responses are read, which are refused and why, and that arrival in pieces changes nothing.
//!
//! Not here: chunk framing by itself (`body`).
//! Invariant: each response that is accepted is also read with its bytes split at every position, and in single bytes.

use proptest::prelude::*;

use super::answer::{Eof, Piece, ResponseError, ResponseFraming, ResponseReader, parse};
use super::body::ChunkError;
use super::media::MediaType;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_INTERIM_RESPONSES_MAX, HTTP_REQUEST_LINE_BYTES_MAX};

/// What a reader told, body pieces put together.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Head(u16, ResponseFraming, bool),
    Body(Vec<u8>),
    End,
    Eof(Eof),
    Refused(ResponseError),
}

/// Reads a connection that brings `bytes` in pieces of these sizes, as a client has to: unread bytes stay in front.
fn tell(bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Vec<Told> {
    let (mut reader, mut told, mut carry, mut rest) = (ResponseReader::new(), Vec::new(), Vec::new(), bytes);
    for size in sizes {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        carry.extend_from_slice(piece);
        rest = after;
        loop {
            let (consumed, piece) = match reader.next(&carry) {
                Ok(read) => read,
                Err(error) => {
                    assert_eq!(reader.next(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err(), error, "a refusal is final");
                    assert_eq!(reader.eof(), Err(error.clone()));
                    told.push(Told::Refused(error));
                    return told;
                }
            };
            assert!(consumed <= carry.len());
            match (piece, told.last_mut()) {
                (Piece::More, _) => {
                    carry.drain(..consumed);
                    break;
                }
                (Piece::Head(head), _) => told.push(Told::Head(head.status, head.body, head.keep_alive)),
                (Piece::Body(piece), Some(Told::Body(body))) => body.extend_from_slice(piece),
                (Piece::Body(piece), _) => told.push(Told::Body(piece.to_vec())),
                (Piece::End, _) => told.push(Told::End),
            }
            carry.drain(..consumed);
        }
    }
    told.push(match reader.eof() {
        Ok(eof) => Told::Eof(eof),
        Err(error) => Told::Refused(error),
    });
    told
}

/// The same however it is cut.
fn read(bytes: &[u8]) -> Vec<Told> {
    let whole = tell(bytes, std::iter::repeat(bytes.len()));
    for at in 1..bytes.len() {
        assert_eq!(tell(bytes, [at, bytes.len()].into_iter()), whole, "{} cut at {at}", bytes.escape_ascii());
    }
    assert_eq!(tell(bytes, std::iter::repeat(1)), whole, "{} in single bytes", bytes.escape_ascii());
    whole
}

fn refusal(bytes: &[u8]) -> ResponseError {
    match read(bytes).pop() {
        Some(Told::Refused(error)) => error,
        other => panic!("{} is read: {other:?}", bytes.escape_ascii()),
    }
}

fn ok(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}").into_bytes()
}

#[test]
fn every_field_that_matters_is_found() {
    let bytes =
        b"HTTP/1.1 401 Unauthorized\r\ncontent-TYPE: Text/Event-Stream; charset=utf-8\r\nMCP-session-id:s-1\r\n\
mcp-protocol-version: \t2025-11-25 \r\nWWW-Authenticate: Bearer resource_metadata=\"https://a/b\"\r\n\
www-authenticate: Basic\r\nRetry-After: 7\r\nLocation: /elsewhere\xc3\xa9\r\nContent-Encoding: gzip\r\n\
X: y\r\nContent-Length: 0\r\n\r\n";
    let head = parse(bytes).unwrap();
    assert_eq!((head.status, head.minor_version, head.keep_alive), (401, 1, true));
    assert_eq!(head.body, ResponseFraming::Length(0));
    assert_eq!((head.media(), head.content_encoding), (MediaType::EventStream, Some(&b"gzip"[..])));
    assert_eq!(head.session_id, Some(&b"s-1"[..]));
    assert_eq!(head.protocol_version, Some(&b"2025-11-25"[..]));
    assert_eq!(head.www_authenticate, Some(&b"Bearer resource_metadata=\"https://a/b\""[..]));
    assert_eq!((head.retry_after, head.location), (Some(&b"7"[..]), Some(&b"/elsewhere\xc3\xa9"[..])));
    assert_eq!(head.fields().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate")).count(), 2);
    assert_eq!(head.fields().count(), 10);

    let bare = parse(b"HTTP/1.0 500\r\n\r\n").unwrap();
    assert_eq!((bare.status, bare.media(), bare.content_type), (500, MediaType::Other, None));
    assert_eq!((bare.session_id, bare.location, bare.fields().count()), (None, None, 0));
}

#[test]
fn bodies_end_where_rfc_9112_says() {
    use ResponseFraming::*;
    let head = |status, body, keep_alive| Told::Head(status, body, keep_alive);
    let body = |text: &str| Told::Body(text.as_bytes().to_vec());
    let idle = Told::Eof(Eof::Idle);

    let json = ok("Content-Type: application/json\r\nContent-Length: 2", "{}");
    assert_eq!(read(&json), [head(200, Length(2), true), body("{}"), Told::End, idle.clone()]);
    // Leading spaces of the length are white space: what our own side writes can be read.
    assert_eq!(
        read(&ok("Content-Length:          2", "{}")),
        [head(200, Length(2), true), body("{}"), Told::End, idle.clone()]
    );
    assert_eq!(read(&ok("Content-Length: 0", "")), [head(200, Length(0), true), Told::End, idle.clone()]);
    assert_eq!(
        read(&ok("Content-Length: 2\r\ncontent-length: 2", "{}")),
        [head(200, Length(2), true), body("{}"), Told::End, idle.clone()]
    );
    let chunks = ok("Transfer-Encoding: Chunked", "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n");
    assert_eq!(read(&chunks), [head(200, Chunked, true), body("abcde"), Told::End, idle.clone()]);
    assert_eq!(
        read(&ok("Connection: close\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        [head(200, Chunked, false), Told::End, idle.clone()]
    );

    let until_close = [head(200, UntilClose, false), body("{}"), Told::Eof(Eof::End)];
    assert_eq!(read(&ok("Content-Type: application/json", "{}")), until_close);
    assert_eq!(read(b"HTTP/1.0 200 OK\r\n\r\n{}"), until_close);
    assert_eq!(read(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n{}"), until_close);
    assert_eq!(read(b"HTTP/1.1 200\r\n\r\n"), [head(200, UntilClose, false), Told::Eof(Eof::End)]);

    for (bytes, keep_alive) in [
        (&b"HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\n\r\n"[..], false),
        (b"HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\nConnection: x, Keep-Alive\r\n\r\n", true),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n", false),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", true),
    ] {
        assert_eq!(read(bytes), [head(202, Length(0), keep_alive), Told::End, idle.clone()]);
    }
}

#[test]
fn a_status_without_body_has_none_whatever_the_fields_say() {
    for (fields, keep_alive) in [
        ("", true),
        ("Content-Length: 0\r\n", true),
        ("Connection: close\r\n", false),
        // Another reader may take what follows for a body, so nothing may follow.
        ("Content-Length: 2\r\n", false),
        ("Transfer-Encoding: chunked\r\n", false),
    ] {
        for status in [204, 304] {
            let bytes = format!("HTTP/1.1 {status} \r\n{fields}\r\n");
            let expected = [Told::Head(status, ResponseFraming::None, keep_alive), Told::End, Told::Eof(Eof::Idle)];
            assert_eq!(read(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}

#[test]
fn interim_responses_are_skipped_and_counted() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let bytes = format!("{early}HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    let expected = [Told::Head(202, ResponseFraming::Length(0), true), Told::End, Told::Eof(Eof::Idle)];
    assert_eq!(read(bytes.as_bytes()), expected);
    assert_eq!(refusal(early.as_bytes()), ResponseError::HeadTruncated { received: 0 });

    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let many = |count: usize| format!("{}{last}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(count));
    let twice = many(HTTP_INTERIM_RESPONSES_MAX).repeat(2);
    assert_eq!(read(twice.as_bytes()).len(), 5, "the count begins anew with each response");
    assert_eq!(refusal(many(HTTP_INTERIM_RESPONSES_MAX + 1).as_bytes()), ResponseError::TooManyInterim);

    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(refusal(switching), ResponseError::SwitchingProtocols);
    let with_body = b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(refusal(with_body), ResponseError::InterimBody { status: 100 });
    let with_body = b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refusal(with_body), ResponseError::InterimBody { status: 103 });
}

#[test]
fn responses_follow_each_other_on_one_connection() {
    let bytes =
        [&ok("Content-Length: 3", "one")[..], &ok("Transfer-Encoding: chunked", "3\r\ntwo\r\n0\r\n\r\n")].concat();
    let heads = |told: &[Told]| told.iter().filter(|told| matches!(told, Told::Head(..))).count();
    let bodies: Vec<_> = read(&bytes).into_iter().filter(|told| matches!(told, Told::Body(_))).collect();
    assert_eq!(bodies, [Told::Body(b"one".to_vec()), Told::Body(b"two".to_vec())]);
    assert_eq!(heads(&read(&bytes)), 2);
}

#[test]
fn a_connection_that_ends_too_early_is_told_from_one_that_was_idle() {
    assert_eq!(read(b""), [Told::Eof(Eof::Idle)]);
    assert_eq!(refusal(b"HTTP/1.1 200 OK\r\nContent-"), ResponseError::HeadTruncated { received: 25 });
    assert_eq!(refusal(b"H"), ResponseError::HeadTruncated { received: 1 });
    assert_eq!(refusal(&ok("Content-Length: 5", "ab")), ResponseError::LengthTruncated { received: 2, missing: 3 });
    assert_eq!(refusal(&ok("Content-Length: 5", "")), ResponseError::LengthTruncated { received: 0, missing: 5 });
    let huge = ok("Content-Length: 18446744073709551615", "ab");
    assert_eq!(refusal(&huge), ResponseError::LengthTruncated { received: 2, missing: u64::MAX - 2 });
    for cut in ["", "3", "3\r\nab", "3\r\nabc\r\n", "3\r\nabc\r\n0\r\n", "3\r\nabc\r\n0\r\n\r"] {
        let received = if cut.len() > 8 { 3 } else { cut.len().saturating_sub(3).min(3) };
        let error = refusal(&ok("Transfer-Encoding: chunked", cut));
        assert_eq!(error, ResponseError::ChunkedTruncated { received }, "{cut:?}");
    }
    // A body of a length that is complete but was not yet asked for its end.
    let mut reader = ResponseReader::new();
    let bytes = ok("Content-Length: 2", "{}");
    let (consumed, _) = reader.next(&bytes).unwrap();
    assert_eq!(reader.next(&bytes[consumed..]).unwrap().0, 2);
    assert_eq!((reader.eof(), reader.eof()), (Ok(Eof::End), Ok(Eof::Idle)));
}

#[test]
fn framing_that_readers_could_disagree_about_is_refused() {
    let cases: &[(&str, &str)] = &[
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", "the response has both"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6", "the response has both"),
        ("Content-Length: 5\r\nContent-Length: 6", "has Content-Length 5 and again 6"),
        ("Content-Length: 5, 5", "has Content-Length `5, 5`"),
        ("Content-Length: +5", "has Content-Length `+5`"),
        ("Content-Length: -5", "has Content-Length `-5`"),
        ("Content-Length: 05", "has Content-Length `05`"),
        ("Content-Length: 0x5", "has Content-Length `0x5`"),
        ("Content-Length: 5 5", "has Content-Length `5 5`"),
        ("Content-Length:", "has Content-Length ``"),
        ("Content-Length: 18446744073709551616", "has Content-Length `18446744073709551616`"),
        ("Transfer-Encoding: gzip, chunked", "has Transfer-Encoding `gzip, chunked`"),
        ("Transfer-Encoding: identity", "has Transfer-Encoding `identity`"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "has Transfer-Encoding `chunked`"),
        ("Transfer-Encoding: xchunked", "has Transfer-Encoding `xchunked`"),
        ("Transfer-Encoding: chunked;q=1", "has Transfer-Encoding `chunked;q=1`"),
        ("Transfer-Encoding:", "has Transfer-Encoding ``"),
        ("Transfer-Encoding : chunked", "field name"),
        (" Transfer-Encoding: chunked", "field name"),
        ("X: y\r\n Transfer-Encoding: chunked", "field name"),
        ("X: y\r\n\tfolded", "field name"),
        (": y", "field name"),
        ("X", "field name"),
        ("X\u{e9}: y", "field name"),
        ("X: y\nTransfer-Encoding: chunked", "LF alone"),
        ("X: y\n\nHTTP/1.1 200 OK", "LF alone"),
        ("X: y\rTransfer-Encoding: chunked", "control byte"),
        ("X: a\0b", "control byte"),
        ("X: a\u{7f}b", "control byte"),
        ("\rX: y", "does not end in CRLF"),
        ("Content-Type: a/b\r\ncontent-type: a/b", "Content-Type more than once"),
        ("Content-Encoding: a\r\nContent-Encoding: b", "Content-Encoding more than once"),
        ("Mcp-Session-Id: a\r\nMCP-Session-ID: a", "Mcp-Session-Id more than once"),
        ("MCP-Protocol-Version: a\r\nMCP-Protocol-Version: b", "MCP-Protocol-Version more than once"),
        ("Location: a\r\nLocation: b", "Location more than once"),
    ];
    for &(fields, expected) in cases {
        let bytes = ok(fields, "");
        let message = refusal(&bytes).to_string();
        assert!(message.contains(expected), "{fields:?}: {message}");
        // The refusal does not lean on the finder: the parser alone refuses too.
        assert!(parse(&bytes).is_err(), "{fields:?}");
    }
    let http10 = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refusal(http10), ResponseError::TransferEncodingOnHttp10);
    let chunks = refusal(&ok("Transfer-Encoding: chunked", "3\nabc"));
    assert_eq!(chunks, ResponseError::Chunks(ChunkError::LineEnd));
}

#[test]
fn what_is_no_response_is_refused_at_its_first_wrong_byte() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x15\x03\x01\x00\x02\x02\x16", r"begins with `\x15`"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", r"begins with `\r`"),
        (b"HTTP/2 200\r\n\r\n", "begins with `HTTP/2`"),
        (b"http/1.1 200 OK\r\n\r\n", "begins with `h`"),
        (b"{\"jsonrpc\":\"2.0\"}", "begins with `{`"),
        (b"HTTP/1.2 200 OK\r\n\r\n", "status line is `HTTP/1.2 200 OK`"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "status line is `HTTP/1.1 20 OK`"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "status line is `HTTP/1.1  200 OK`"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "status line is `HTTP/1.1 2000 OK`"),
        (b"HTTP/1.1 200\tOK\r\n\r\n", r"status line is `HTTP/1.1 200\tOK`"),
        (b"HTTP/1.1\r\n\r\n", "status line is `HTTP/1.1`"),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", r"status line is `HTTP/1.1 200 O\x00K`"),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", r"status line is `HTTP/1.1 200 O\rK`"),
        (b"HTTP/1.1 200 OK\n\r\n", "LF alone"),
        (b"HTTP/1.1 200 OK\r\n\n", "LF alone"),
        (b"HTTP/1.1 200 OK\r\nX: y\n\r\n", "LF alone"),
    ];
    for &(bytes, expected) in cases {
        let message = refusal(bytes).to_string();
        assert!(message.contains(expected), "{}: {message}", bytes.escape_ascii());
        assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(b"HTTP/1.1 200 OK\r\n").unwrap_err(), ResponseError::Incomplete);
    assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap_err(), ResponseError::BareLineFeed);
    let long = format!("HTTP/1.1 2{} OK\r\n\r\n", "0".repeat(200));
    assert!(parse(long.as_bytes()).unwrap_err().to_string().contains("000..."), "what is shown of it is short");
}

#[test]
fn limits() {
    let reader = |bytes: &[u8]| match ResponseReader::new().next(bytes) {
        Ok((_, Piece::Head(head))) => Ok(head.fields().count()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let sized = |bytes: usize| {
        let frame = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(bytes - frame)).into_bytes()
    };
    assert_eq!(reader(&sized(HTTP_HEAD_BYTES_MAX)), Ok(1));
    assert_eq!(reader(&sized(HTTP_HEAD_BYTES_MAX + 1)), Err(ResponseError::HeadTooLarge));
    assert_eq!(parse(&sized(HTTP_HEAD_BYTES_MAX + 1)).unwrap_err(), ResponseError::HeadTooLarge);

    let fields = |count: usize| ok("X: y\r\n".repeat(count).trim_end(), "");
    assert_eq!(reader(&fields(HTTP_HEADERS_MAX)), Ok(HTTP_HEADERS_MAX));
    assert_eq!(reader(&fields(HTTP_HEADERS_MAX + 1)), Err(ResponseError::TooManyFields));

    let line = |bytes: usize| {
        let reason = "r".repeat(bytes - "HTTP/1.1 200 \r".len());
        format!("HTTP/1.1 200 {reason}\r\n\r\n").into_bytes()
    };
    assert_eq!(reader(&line(HTTP_REQUEST_LINE_BYTES_MAX - 1)), Ok(0));
    assert_eq!(reader(&line(HTTP_REQUEST_LINE_BYTES_MAX)), Err(ResponseError::StatusLineTooLong));
}

#[test]
fn a_large_body_is_handed_on_where_it_stands() {
    let body = vec![b'x'; 1 << 20];
    for (fields, before) in
        [("Content-Length: 1048576", ""), ("Transfer-Encoding: chunked", "100000\r\n"), ("X: y", "")]
    {
        let bytes = [&ok(fields, before)[..], &body].concat();
        let mut reader = ResponseReader::new();
        let (head, _) = reader.next(&bytes).unwrap();
        let (consumed, Piece::Body(piece)) = reader.next(&bytes[head..]).unwrap() else { panic!("no body") };
        assert_eq!((consumed, piece.len()), (before.len() + body.len(), body.len()));
        assert_eq!(piece.as_ptr(), bytes[head + before.len()..].as_ptr(), "nothing is copied");
    }
}

proptest! {
    #[test]
    fn any_split_reads_the_same(
        bytes in "(HTTP/1\\.[01] (100|101|103|200|204) ?(OK)?(\r\n|\n)\
            ((Content-Length: [0-3]|Transfer-Encoding: chunked|X: y|Connection: close| z)(\r\n|\n|\r)){0,2}\r\n\
            ([0-2]\r\n[ab]{0,2}\r\n){0,3}){1,3}",
        sizes in proptest::collection::vec(1usize..9, 1..40),
    ) {
        let whole = tell(bytes.as_bytes(), std::iter::repeat(bytes.len()));
        prop_assert_eq!(tell(bytes.as_bytes(), sizes.iter().copied().cycle()), whole);
    }

    #[test]
    fn what_is_framed_is_read(body in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let mut chunks = ok("Transfer-Encoding: chunked", "");
        for chunk in body.chunks(size) {
            chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
            chunks.extend(chunk);
            chunks.extend(b"\r\n");
        }
        chunks.extend(b"0\r\n\r\n");
        let length = [&ok(&format!("Content-Length: {}", body.len()), "")[..], &body].concat();
        for bytes in [chunks, length] {
            let told = tell(&bytes, std::iter::repeat(size));
            let of_body = |told: &Told| match told {
                Told::Body(body) => body.to_vec(),
                _ => Vec::new(),
            };
            let read: Vec<u8> = told.iter().flat_map(of_body).collect();
            prop_assert_eq!(&read, &body);
            prop_assert_eq!(&told[told.len() - 2..], [Told::End, Told::Eof(Eof::Idle)]);
        }
    }
}
