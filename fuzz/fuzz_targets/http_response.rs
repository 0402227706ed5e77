//! Responses of an upstream: pieces read as the whole does, nothing is told twice or kept, and a head that is accepted
//! has one reading.
//!
//! The first byte seeds how the rest is cut; the rest is what one connection brings before it ends.
#![no_main]

use corelane::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use corelane::proto::http1::answer::{Eof, Piece, ResponseError, ResponseFraming, ResponseHead, ResponseReader, parse};
use corelane::proto::http1::head::HeadFinder;
use libfuzzer_sys::fuzz_target;

/// What a reader told, neighbouring pieces of a body put together.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    Head { status: u16, body: ResponseFraming, keep_alive: bool, session_id: Option<Vec<u8>> },
    Body(Vec<u8>),
    End,
    Eof(Eof),
    Refused(ResponseError),
}

fuzz_target!(|input: &[u8]| {
    let Some((&seed, bytes)) = input.split_first() else { return };
    let whole = read(bytes, &mut || bytes.len());
    let mut state = u32::from(seed);
    let mut piece = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (usize::from(seed) + 1)
    };
    assert_eq!(read(bytes, &mut piece), whole);
    check_order(&whole, bytes.len());
    // The parser alone, on bytes that no finder has seen, must hold the same promises.
    if let Ok(head) = parse(bytes) {
        assert_eq!(HeadFinder::new().find(bytes), Ok(Some(bytes.len())), "finder and parser see the same end");
        check_head(&head);
    }
});

/// Reads as a client has to: what was not consumed stays in front of what comes next.
fn read(bytes: &[u8], size: &mut dyn FnMut() -> usize) -> Vec<Told> {
    let (mut reader, mut all, mut unread, mut rest) = (ResponseReader::new(), Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(size().min(rest.len()));
        unread.extend_from_slice(piece);
        rest = after;
        loop {
            let (consumed, told) = match reader.next(&unread) {
                Ok((consumed, Piece::More)) => {
                    unread.drain(..consumed);
                    break;
                }
                Ok((consumed, Piece::Head(head))) => {
                    check_head(&head);
                    let session_id = head.session_id.map(<[u8]>::to_vec);
                    let (status, body, keep_alive) = (head.status, head.body, head.keep_alive);
                    (consumed, Told::Head { status, body, keep_alive, session_id })
                }
                Ok((consumed, Piece::Body(body))) => {
                    assert!(!body.is_empty() && body.len() <= consumed);
                    (consumed, Told::Body(body.to_vec()))
                }
                Ok((consumed, Piece::End)) => (consumed, Told::End),
                Err(error) => {
                    assert_eq!(reader.next(b"HTTP/1.1 200 OK\r\n\r\n").map(|_| ()), Err(error.clone()));
                    assert_eq!(reader.eof(), Err(error.clone()));
                    assert!(error.to_string().len() < 512, "what is shown of a peer's bytes is short");
                    all.push(Told::Refused(error));
                    return all;
                }
            };
            unread.drain(..consumed);
            match (told, all.last_mut()) {
                (Told::Body(piece), Some(Told::Body(body))) => body.extend_from_slice(&piece),
                (told, _) => all.push(told),
            }
        }
        assert!(unread.len() < HTTP_HEAD_BYTES_MAX, "only the beginning of a head is kept");
    }
    all.push(match reader.eof() {
        Ok(eof) => Told::Eof(eof),
        Err(error) => Told::Refused(error),
    });
    all
}

/// Head, body, end; a body as long as the head says, and all bodies no longer than the input.
fn check_order(all: &[Told], input: usize) {
    let (mut inside, mut bodies) = (None, 0);
    for told in all {
        match (told, inside) {
            (Told::Head { body, .. }, None) => inside = Some((*body, 0)),
            (Told::Body(piece), Some((framing, 0))) => {
                bodies += piece.len();
                assert_ne!(framing, ResponseFraming::None);
                if let ResponseFraming::Length(length) = framing {
                    assert!(piece.len() as u64 <= length);
                }
                inside = Some((framing, piece.len()));
            }
            (Told::End, Some((framing, read))) => {
                assert_ne!(framing, ResponseFraming::UntilClose);
                if let ResponseFraming::Length(length) = framing {
                    assert_eq!(read as u64, length);
                }
                inside = None;
            }
            (Told::Eof(Eof::Idle), None) | (Told::Eof(Eof::End), Some((ResponseFraming::UntilClose, _))) => {}
            (Told::Refused(_), _) => {}
            _ => panic!("{told:?} while {inside:?}"),
        }
    }
    assert!(bodies <= input);
}

fn check_head(head: &ResponseHead<'_>) {
    let fields: Vec<_> = head.fields().collect();
    assert!(fields.len() <= HTTP_HEADERS_MAX);
    let values = |known: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(known)).map(|(_, value)| *value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.is_empty() || codings.is_empty());
    assert!(lengths.iter().all(|length| *length == lengths[0]), "one length");
    let bodiless = matches!(head.status, 100..=199 | 204 | 304);
    match head.body {
        ResponseFraming::None => assert!(bodiless),
        ResponseFraming::Length(length) => assert_eq!(lengths[0], length.to_string().as_bytes()),
        ResponseFraming::Chunked => assert!(codings.len() == 1 && head.minor_version == 1),
        ResponseFraming::UntilClose => assert!(lengths.is_empty() && codings.is_empty() && !head.keep_alive),
    }
    if bodiless {
        let announced = !codings.is_empty() || lengths.iter().any(|length| *length != b"0");
        assert!(head.body == ResponseFraming::None && !(announced && head.keep_alive));
    }
    for (known, found) in [
        ("content-type", head.content_type),
        ("content-encoding", head.content_encoding),
        ("mcp-session-id", head.session_id),
        ("mcp-protocol-version", head.protocol_version),
        ("location", head.location),
    ] {
        assert_eq!(values(known), found.into_iter().collect::<Vec<_>>(), "{known}");
    }
    for (known, found) in [("www-authenticate", head.www_authenticate), ("retry-after", head.retry_after)] {
        assert_eq!(values(known).first().copied(), found, "{known}");
    }
    for (_, value) in &fields {
        assert!(value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control()));
    }
}
