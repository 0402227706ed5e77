//! Golden bytes for the writer, the WHATWG examples for the reader, and both against each other.
//!
//! Not here: streams over HTTP (`http1::respond`).
//! Invariant: every reading is done in one piece and byte by byte, and must come out the same.

use proptest::prelude::*;

use super::*;

const WIDE: SseLimits = SseLimits { line_bytes_max: 1 << 20, event_bytes_max: 1 << 20 };

/// What was read, in words that own their bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Event { id: String, id_given: bool, event: String, data: String },
    Id(String),
    Retry(u64),
    Refused(SseError),
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn said(item: Item<'_>) -> Said {
    match item {
        Item::Event(Event { id, id_given, event, data }) => {
            Said::Event { id: text(id), id_given, event: text(event), data: text(data) }
        }
        Item::Id(id) => Said::Id(text(id)),
        Item::Retry(ms) => Said::Retry(ms),
    }
}

fn read_in_pieces(bytes: &[u8], limits: SseLimits, pieces: impl Iterator<Item = usize>) -> Vec<Said> {
    let mut decoder = SseDecoder::new(limits);
    let (mut all, mut rest) = (Vec::new(), bytes);
    for piece in pieces {
        if rest.is_empty() {
            break;
        }
        let (mut input, after) = rest.split_at(piece.min(rest.len()));
        rest = after;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(item)) => all.push(said(item)),
                Ok(None) => break,
                Err(error) => {
                    all.push(Said::Refused(error));
                    return all;
                }
            }
        }
        assert!(input.is_empty(), "everything is used up");
    }
    all
}

fn read_with(bytes: &[u8], limits: SseLimits) -> Vec<Said> {
    let whole = read_in_pieces(bytes, limits, std::iter::once(bytes.len()));
    assert_eq!(read_in_pieces(bytes, limits, std::iter::repeat(1)), whole, "{}", bytes.escape_ascii());
    whole
}

fn read(bytes: &[u8]) -> Vec<Said> {
    read_with(bytes, WIDE)
}

fn message(data: &str) -> Said {
    Said::Event { id: String::new(), id_given: false, event: "message".into(), data: data.into() }
}

fn with_id(id: &str, id_given: bool, data: &str) -> Said {
    Said::Event { id: id.into(), id_given, event: "message".into(), data: data.into() }
}

#[test]
fn written() {
    let mut out = Vec::new();
    event(&mut out, Some(b"7"), Some("message"), &[b"{\"a\"", b":1}"]);
    event(&mut out, None, None, &[b"a\nb\r\nc\rd\n"]);
    event(&mut out, None, None, &[b"a\n", b"", b"\nb\r", b"", b"\nc\r", b"d\n"]);
    event(&mut out, None, None, &[]);
    priming(&mut out, b"s1-0");
    comment(&mut out, "");
    comment(&mut out, "still here");
    retry(&mut out, 1500);
    let expected = "event: message\nid: 7\ndata: {\"a\":1}\n\n\
        data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n\
        data: a\ndata: \ndata: b\ndata: c\ndata: d\ndata: \n\n\
        data: \n\n\
        id: s1-0\ndata:\n\n\
        : \n\n: still here\n\n\
        retry: 1500\n\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "one line without NUL")]
fn a_field_of_two_lines_is_our_bug() {
    event(&mut Vec::new(), Some(b"1\ndata: x"), None, &[]);
}

#[test]
fn whatwg_examples() {
    assert_eq!(read(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [message("YHOO\\n+2\\n10")]);
    let stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
    let expected = [with_id("1", true, "first event"), with_id("", true, "second event"), message(" third event")];
    assert_eq!(read(stream), expected);
    assert_eq!(read(b"data\n\ndata\ndata\n\ndata:"), [message(""), message("\\n")]);
    assert_eq!(read(b"data:test\n\ndata: test\n\n"), [message("test"), message("test")]);
}

#[test]
fn line_ends_and_marks() {
    for stream in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
        assert_eq!(read(stream.as_bytes()), [message("a"), message("b")], "{stream:?}");
    }
    assert_eq!(read(b"data: a\r\n\ndata: b\n\r\n"), [message("a"), message("b")]);
    assert_eq!(read(b"data: a\r\n\r\r\n"), [message("a")]);
    assert_eq!(read(b"\xef\xbb\xbfdata: a\n\n"), [message("a")]);
    assert_eq!(read(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n"), []);
    assert_eq!(read(b"\xefdata: a\n\n"), []);
    assert_eq!(read(b"\xef\xbb\ndata: a\n\n"), [message("a")]);
    assert_eq!(read(b"data: a\n\xef\xbb\xbfdata: b\n\n"), [message("a")]);
    assert_eq!(read(b"\xef\xbb\xbf\n\r\r\n\n"), []);
}

#[test]
fn a_carriage_return_dispatches_at_once() {
    let mut decoder = SseDecoder::new(WIDE);
    let mut input = &b"data: a\r\r"[..];
    assert!(matches!(decoder.next(&mut input), Ok(Some(Item::Event(_)))));
    assert!(matches!(decoder.next(&mut &b"\ndata: b"[..]), Ok(None)));
}

#[test]
fn fields() {
    assert_eq!(
        read(b"event: ping\nevent: pong\ndata: a\n\ndata: b\n\n"),
        [Said::Event { id: String::new(), id_given: false, event: "pong".into(), data: "a".into() }, message("b"),]
    );
    assert_eq!(read(b"event: endpoint\n\ndata: b\n\n"), [message("b")]);
    assert_eq!(read(b"Data: a\n data: b\ndatax: c\ndat: d\ndatum\n: e\n:f\nevents: g\n\n"), []);
    assert_eq!(read(b"data: a: b\n\n"), [message("a: b")]);
    assert_eq!(
        read(b"retry: 10\nretry: 1x\nretry:\nretry: -1\nretry:  5\nretry: 007\n\n"),
        [Said::Retry(10), Said::Retry(7)]
    );
    assert_eq!(read(b"retry: 99999999999999999999999\n"), [Said::Retry(u64::MAX)]);
    assert_eq!(read(b"id: 1\n\ndata: a\n\n"), [Said::Id("1".into()), with_id("1", false, "a")]);
    assert_eq!(read(b"id: 1\ndata:\n\n"), [with_id("1", true, "")]);
    assert_eq!(read(b"id: 1\nid: a\0b\ndata: a\n\n"), [with_id("1", true, "a")]);
    assert_eq!(read(b"id: \0\n\ndata: a\n\n"), [message("a")]);
    assert_eq!(read(b"data: cut off\n"), []);
}

#[test]
fn limits() {
    let limits = SseLimits { line_bytes_max: 12, event_bytes_max: 8 };
    assert_eq!(read_with(b"data: 123456\n\n", limits), [message("123456")]);
    let too_long = [Said::Refused(SseError::LineTooLong { max: 12 })];
    for stream in [&b"data: 1234567"[..], b"data:1234567 ", b":123456789012", b"unknownfieldx", b"unknown: 1234"] {
        assert_eq!(read_with(stream, limits), too_long, "{}", stream.escape_ascii());
    }
    assert_eq!(read_with(b"data: 123\ndata: 4567\n\n", limits), [message("123\\n4567")]);
    let too_large = [Said::Refused(SseError::EventTooLarge { max: 8 })];
    assert_eq!(read_with(b"data: 123\ndata: 45678", limits), too_large);
    assert_eq!(read_with("data\n".repeat(10).as_bytes(), limits), too_large);

    // Both limits are passed: the earlier byte decides, wherever the pieces end.
    assert_eq!(read_with(b"data: 12\ndata: 2345678", limits), too_large);
    assert_eq!(read_with(b"data: 1\ndata: 234567890", SseLimits { event_bytes_max: 9, ..limits }), too_long);

    let id = |length: usize| format!("id: {}\n\n", "a".repeat(length));
    assert_eq!(read(id(SSE_FIELD_BYTES_MAX).as_bytes()).len(), 1);
    assert_eq!(read(id(SSE_FIELD_BYTES_MAX + 1).as_bytes()), [Said::Refused(SseError::FieldTooLong)]);

    let mut decoder = SseDecoder::new(limits);
    assert!(decoder.next(&mut &[b'x'; 13][..]).is_err());
    assert!(decoder.next(&mut &b"\n"[..]).is_err());
}

#[test]
fn ids_to_resume_from() {
    let mut decoder = SseDecoder::new(WIDE);
    assert_eq!(decoder.last_event_id(), b"");
    assert!(decoder.next(&mut &b"id: 9\ndata: x\n\n"[..]).unwrap().is_some());
    assert_eq!(decoder.last_event_id(), b"9");
    // Seen, but its block is not over: resuming from it would lose the event.
    assert!(decoder.next(&mut &b"id: 10\ndata: y\n"[..]).unwrap().is_none());
    assert_eq!(decoder.last_event_id(), b"9");
}

proptest! {
    #[test]
    fn any_split_reads_the_same(
        stream in "(\u{feff})?((data|event|id|retry|dat|x)?(:)?( )?[0-9a\0]{0,4}(\r|\n|\r\n|\n\n)){0,12}",
        pieces in proptest::collection::vec(1usize..8, 1..60),
        line_bytes_max in 4usize..16,
        event_bytes_max in 0usize..10,
    ) {
        for limits in [WIDE, SseLimits { line_bytes_max, event_bytes_max }] {
            let whole = read_with(stream.as_bytes(), limits);
            prop_assert_eq!(&read_in_pieces(stream.as_bytes(), limits, pieces.iter().copied().cycle()), &whole);
        }
    }

    #[test]
    fn what_is_written_is_read(
        events in proptest::collection::vec((proptest::option::of("[a-z0-9-]{0,8}"), proptest::option::of("[a-z]{1,8}"), any::<String>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut out = Vec::new();
        let mut expected = Vec::new();
        let mut last_id = String::new();
        for (id, name, data, cut) in &events {
            let (one, other) = data.as_bytes().split_at(cut.index(data.len() + 1));
            event(&mut out, id.as_deref().map(str::as_bytes), name.as_deref(), &[one, other]);
            comment(&mut out, "between");
            last_id = id.clone().unwrap_or(last_id);
            expected.push(Said::Event {
                id: last_id.clone(),
                id_given: id.is_some(),
                event: name.clone().unwrap_or_else(|| "message".into()),
                data: text(data.replace("\r\n", "\n").replace('\r', "\n").as_bytes()),
            });
        }
        prop_assert_eq!(read(&out), expected);
    }
}
