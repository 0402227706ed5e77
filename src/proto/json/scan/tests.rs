//! What the pass accepts, refuses and records, case by case.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::proto::json::{IdKind, Kind};

fn scan(text: impl AsRef<[u8]>) -> Result<Envelope, ScanError> {
    let mut envelope = Envelope::default();
    Scanner::new().scan(text.as_ref(), &mut envelope).map(|()| envelope)
}

#[test]
fn a_call_is_found_in_one_pass() {
    let text =
        br#" { "id" : 7 , "method":"tools/call","jsonrpc":"2.0","params":{"name":"a\/b","arguments":{"name":[1]},
        "_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","name":0},"task":null}} "#;
    let envelope = scan(text).unwrap();
    let seen = |key| envelope.text(key, text).map(|value| std::str::from_utf8(value).unwrap());
    assert_eq!(envelope.root(), Root::Object);
    assert_eq!((envelope.id_kind(), seen(Key::Id)), (IdKind::Integer, Some("7")));
    assert_eq!(envelope.plain(Key::Method, text), Some(&b"tools/call"[..]));
    assert_eq!(seen(Key::Name), Some(r#""a\/b""#));
    assert_eq!(envelope.plain(Key::Name, text), None);
    assert_eq!(envelope.str(Key::Name, text).as_deref(), Some("a/b"));
    assert_eq!(seen(Key::Arguments), Some(r#"{"name":[1]}"#));
    assert_eq!(seen(Key::Task), Some("null"));
    assert_eq!((envelope.params_kind(), envelope.meta_kind()), (Kind::Object, Kind::Object));
    assert_eq!((seen(Key::MetaProgressToken), seen(Key::ProgressToken)), (Some(r#""p""#), None));
    assert_eq!(envelope.plain(Key::MetaProtocolVersion, text), Some(&b"2026-07-28"[..]));
    assert!(seen(Key::Params).unwrap().starts_with("{\"name\"") && seen(Key::Params).unwrap().ends_with("null}"));
    assert!(!envelope.has(Key::Result) && envelope.has(Key::Task));
}

#[test]
fn members_elsewhere_are_not_taken_for_those_of_the_message() {
    let text = br#"{"result":{"id":1,"params":{"name":2,"_meta":{}},"_meta":{"traceparent":3}},"params":[{"name":4}]}"#;
    let envelope = scan(text).unwrap();
    let found: Vec<Key> = Key::ALL.into_iter().filter(|key| envelope.has(*key)).collect();
    assert_eq!(found, [Key::Params, Key::Result]);
    assert_eq!((envelope.params_kind(), envelope.meta_kind()), (Kind::Array, Kind::Absent));
    let batch = scan(r#"[{"id":1}]"#).unwrap();
    assert!(batch.root() == Root::Array && Key::ALL.into_iter().all(|key| !batch.has(key)));
    assert_eq!(scan("7").unwrap().root(), Root::Scalar);
}

#[test]
fn keys_are_found_by_meaning_and_by_case() {
    let text = br#"{"\u006dethod":"x","ID":1,"\u0070arams":{"\u005fmeta":{"io.modelcontextprotocol\/logLevel":"e"}}}"#;
    let envelope = scan(text).unwrap();
    assert_eq!(envelope.plain(Key::Method, text), Some(&b"x"[..]));
    assert_eq!(envelope.plain(Key::MetaLogLevel, text), Some(&b"e"[..]));
    assert_eq!(envelope.id_kind(), IdKind::Absent);
}

#[test]
fn ids_are_told_apart() {
    for (id, kind) in [
        ("null", IdKind::Null),
        ("-0", IdKind::Integer),
        ("123456789012345678901234567890", IdKind::Integer),
        ("1.0", IdKind::Fraction),
        ("1E2", IdKind::Fraction),
        (r#""1e2""#, IdKind::String),
        (r#""""#, IdKind::String),
        ("[]", IdKind::Other),
        ("{}", IdKind::Other),
        ("true", IdKind::Other),
    ] {
        let text = format!(r#"{{"id": {id} }}"#);
        let envelope = scan(&text).unwrap();
        assert_eq!((envelope.id_kind(), envelope.get(Key::Id).of(text.as_bytes())), (kind, id.as_bytes()));
    }
}

#[test]
fn duplicate_keys_are_refused_at_every_depth() {
    let at = |text: &str| match scan(text) {
        Err(ScanError::DuplicateKey { at }) => Some(at),
        other => panic!("{text} gives {other:?}"),
    };
    assert_eq!(at(r#"{"a":1,"a":2}"#), Some(7));
    assert_eq!(at(r#"{"a":1,"\u0061":2}"#), Some(7));
    assert_eq!(at(r#"{"\u0061":1,"a":2}"#), Some(12));
    assert_eq!(at(r#"[{},{"x":{"":0,"":1}}]"#), Some(15));
    assert_eq!(at(r#"{"same first eight":1,"same first eight":2}"#), Some(22));
    assert_eq!(at(r#"{"é":{"a":1},"b":{"a":1},"\u00e9":2}"#), Some(26));
    assert!(scan(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":1,"same first 9":1,"same first 8":2,"":3}"#).is_ok());
    // A key of NULs is not the padding of a shorter one.
    assert!(scan(r#"{"a":1,"a\u0000":2,"\u0000":3,"":4}"#).is_ok());
}

#[test]
fn duplicates_among_many_keys_are_refused_wherever_they_are() {
    for count in [3_usize, 15, 16, 17, 18, 40, 300] {
        for (first, second) in [(0, count - 1), (count / 2, count - 1), (count - 2, count - 1), (0, 1)] {
            for rename in [false, true] {
                let name = |index: usize| match index {
                    _ if index == second && rename => format!("\\u006bey number {first}"),
                    _ if index == second => format!("key number {first}"),
                    _ => format!("key number {index}"),
                };
                let members = |name: &dyn Fn(usize) -> String| {
                    (0..count).map(|index| format!(r#""{}":{{"x":1}}"#, name(index))).collect::<Vec<_>>().join(",")
                };
                let text = format!("[{{{}}}]", members(&name));
                let at = text.match_indices(&format!("{}\"", name(second))).last().unwrap().0 - 1;
                assert_eq!(scan(&text).err(), Some(ScanError::DuplicateKey { at }), "{text}");
                assert!(scan(format!("{{{}}}", members(&|index| format!("key number {index}")))).is_ok());
            }
        }
    }
}

#[test]
fn depth_and_tokens_are_bounded() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(scan(nested(JSON_DEPTH_MAX)).is_ok());
    assert_eq!(scan(nested(JSON_DEPTH_MAX + 1)).err(), Some(ScanError::DepthExceeded { at: JSON_DEPTH_MAX }));
    assert!(matches!(scan("{\"a\":".repeat(1_000_000)), Err(ScanError::DepthExceeded { at: 320 })));

    let array = |elements: usize| format!("[{}0]", "0,".repeat(elements - 1));
    assert!(scan(array(JSON_TOKENS_MAX - 1)).is_ok());
    assert_eq!(scan(array(JSON_TOKENS_MAX)).err(), Some(ScanError::TooManyTokens { at: 2 * JSON_TOKENS_MAX - 1 }));
    let object = |members: usize| {
        let members: Vec<String> = (0..members).map(|index| format!(r#""{index}":0"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(scan(object(JSON_TOKENS_MAX / 2 - 1)).is_ok());
    assert!(matches!(scan(object(JSON_TOKENS_MAX / 2)), Err(ScanError::TooManyTokens { .. })));
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(scan(large).err(), Some(ScanError::TextTooLong { bytes: BODY_BYTES_MAX + 1 }));
}

#[test]
fn numbers_are_in_range_of_an_f64() {
    let nines = "9".repeat(400);
    for good in ["0", "-0", "1e308", "1.7976931348623157e308", "-1E-9999", "0e99999999", "0.0000e+400", "2e-5"] {
        assert!(scan(good).is_ok(), "{good}");
    }
    assert!(scan("9".repeat(308)).is_ok());
    assert!(scan(format!("0.{nines}e300")).is_ok());
    assert!(scan(format!("0.{}1e500", "0".repeat(400))).is_ok());
    for bad in ["1e309", "-1e309", "1.7976931348623159e308", "1e99999999999999999999", nines.as_str()] {
        assert_eq!(scan(bad).err(), Some(ScanError::NumberOutOfRange { at: 0 }), "{bad}");
    }
}

#[test]
fn refusals_say_where() {
    for (text, at) in [
        (&b""[..], 0),
        (b"  ", 2),
        (b"{", 1),
        (b"[1", 2),
        (b"[1,]", 3),
        (b"{\"a\"}", 4),
        (b"{\"a\":}", 5),
        (b"{\"a\":1,}", 7),
        (b"nul", 3),
        (b"trux", 3),
        (b"01", 1),
        (b"-", 1),
        (b"1.", 2),
        (b"1e+", 3),
        (b"+1", 0),
        (b"1 2", 2),
        (b"'a'", 0),
        (b"\"\x00\"", 1),
        (b"\"\n\"", 1),
        (b"\"ab\xc0\x80\"", 3),
        (b"\"\\x\"", 2),
        (b"\"\\u00g0\"", 5),
        (b"\xef\xbb\xbf{}", 0),
        (b"[\"\\ud800\"]", 2),
        (b"{\"\xff\":1}", 2),
        (b"\x00", 0),
        (b"{}\x00", 2),
        (b"[1}", 2),
        (b"{\"a\":1]", 6),
        (b"{1:2}", 1),
    ] {
        let mut envelope = scan(r#"{"id":1}"#).unwrap();
        let error = Scanner::new().scan(text, &mut envelope).expect_err("the text is bad");
        assert_eq!(error.at(), at, "{} gives {error}", text.escape_ascii());
        assert_eq!(envelope, Envelope::default(), "nothing is left of a refused text");
    }
}

#[test]
fn a_batch_is_cut_into_its_messages() {
    let mut messages = vec![Span { start: 1, end: 2 }];
    let mut scanner = Scanner::new();
    let text = br#" [ {"id":1} ,[2],{"a":[{"b":0}]}, "x" ] "#;
    scanner.scan_batch(text, &mut messages).unwrap();
    let seen: Vec<&[u8]> = messages.iter().map(|span| span.of(text)).collect();
    assert_eq!(seen, [&br#"{"id":1}"#[..], b"[2]", br#"{"a":[{"b":0}]}"#, br#""x""#]);

    scanner.scan_batch(b"[]", &mut messages).unwrap();
    assert!(messages.is_empty());
    for not_a_batch in [&b"{\"id\":1}"[..], b"7", b"[1", b"[{\"a\":1,\"a\":1}]", b"[1] 2"] {
        messages.push(Span::default());
        assert!(scanner.scan_batch(not_a_batch, &mut messages).is_err() && messages.is_empty());
    }
    let batch = |elements: usize| format!("[{}[0,0]]", "{},".repeat(elements - 1));
    assert!(scanner.scan_batch(batch(BATCH_MESSAGES_MAX).as_bytes(), &mut messages).is_ok());
    assert_eq!(messages.len(), BATCH_MESSAGES_MAX);
    let too_long = scanner.scan_batch(batch(BATCH_MESSAGES_MAX + 1).as_bytes(), &mut messages);
    assert_eq!(too_long.err(), Some(ScanError::BatchTooLong { at: 3 * BATCH_MESSAGES_MAX + 1 }));
    // The bound is one on messages, not on what they hold.
    assert!(scanner.scan_batch(format!("[{}]", batch(BATCH_MESSAGES_MAX * 2)).as_bytes(), &mut messages).is_ok());
}

#[test]
fn a_scanner_is_as_good_as_new_after_any_text() {
    let mut scanner = Scanner::new();
    let mut envelope = Envelope::default();
    let keys: Vec<String> = (0..20_000).map(|index| format!(r#""\u0061{index}":0"#)).collect();
    scanner.scan(format!("{{{}}}", keys.join(",")).as_bytes(), &mut envelope).unwrap();
    assert!(scanner.keys.capacity() <= JSON_KEYS_RETAINED);
    assert!(scanner.unescaped.capacity() <= JSON_UNESCAPED_BYTES_RETAINED);
    for cut_off in [&br#"{"\u0061":{"a":[{"a":"#[..], br#"[[{"a":1,"b":"#] {
        scanner.scan(cut_off, &mut envelope).unwrap_err();
        scanner.scan(br#"{"\u0061":1,"b":{"\u0062":2}}"#, &mut envelope).unwrap();
        assert!(scanner.keys.is_empty() && scanner.unescaped.is_empty(), "the keys of closed objects are forgotten");
    }
}
