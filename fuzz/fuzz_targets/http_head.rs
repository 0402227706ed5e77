//! Request heads: pieces find the same end as the whole, and a head that is accepted has one reading.
//!
//! The first byte seeds how the rest is cut; the rest is the connection's input.
#![no_main]

use corelane::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX};
use corelane::proto::http1::HeadTemplates;
use corelane::proto::http1::head::{BodyFraming, HeadError, HeadFinder, parse, parse_front};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&seed, bytes)) = input.split_first() else { return };
    let whole = HeadFinder::new().find(bytes);
    assert_eq!(find_in_pieces(bytes, seed), whole);
    // The parser alone, on bytes that no finder has seen, must hold the same promises.
    check(bytes);
    if let Ok(Some(length)) = whole {
        check(&bytes[..length]);
    }
    // The one pass of a connection whose head has come whole.
    if let Some((length, head)) = parse_front(bytes) {
        assert_eq!(whole, Ok(Some(length)));
        assert_eq!(head, parse(&bytes[..length]).expect("the same bytes"));
    }
    // The same on a core that has seen a head like it: that one, and it again with one byte changed.
    let mut templates = HeadTemplates::default();
    let _ = templates.read(bytes);
    let mut other = bytes.to_vec();
    if let Some(byte) = other.get_mut(usize::from(seed)) {
        *byte ^= 1 << (seed % 8);
    }
    for bytes in [bytes, &other] {
        let plainly = HeadFinder::new().find(bytes).ok().flatten();
        let plainly = plainly.and_then(|length| Some((length, parse(&bytes[..length]).ok()?)));
        assert!(templates.read(bytes).is_none_or(|found| Some(found) == plainly));
    }
});

fn find_in_pieces(bytes: &[u8], seed: u8) -> Result<Option<usize>, HeadError> {
    let (mut finder, mut end, mut state) = (HeadFinder::new(), 0, u32::from(seed));
    loop {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        end = (end + 1 + (state >> 24) as usize % (usize::from(seed) + 1)).min(bytes.len());
        match finder.find(&bytes[..end]) {
            Ok(None) if end < bytes.len() => {}
            verdict => return verdict,
        }
    }
}

fn check(bytes: &[u8]) {
    let head = match parse(bytes) {
        Ok(head) => head,
        Err(error) => return assert!(matches!(error.status(), 400..=505)),
    };
    assert!(bytes.len() <= HTTP_HEAD_BYTES_MAX);
    assert_eq!(HeadFinder::new().find(bytes), Ok(Some(bytes.len())), "finder and parser see the same end");
    for (at, &byte) in bytes.iter().enumerate() {
        assert!(byte != 0 && (byte != b'\n' || bytes[at - 1] == b'\r') && (byte != b'\r' || bytes[at + 1] == b'\n'));
    }
    assert!(head.path.starts_with('/'));
    assert!(head.path.len() + head.query.map_or(0, |query| query.len() + 1) <= HTTP_TARGET_BYTES_MAX);
    assert!(head.minor_version == 0 || head.host.is_some());
    assert!(head.minor_version == 1 || head.body != BodyFraming::Chunked);

    let fields: Vec<_> = head.fields().collect();
    assert!(fields.len() <= HTTP_HEADERS_MAX);
    let count = |known: &str| fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(known)).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert!(lengths + codings <= 1 && count("host") <= 1);
    match head.body {
        BodyFraming::None => assert_eq!(lengths + codings, 0),
        BodyFraming::Length(_) => assert_eq!(lengths, 1),
        BodyFraming::Chunked => assert_eq!(codings, 1),
    }
    assert_eq!(head.mcp_params().count(), usize::from(head.mcp_param_count));
    assert_eq!(head.accepts().is_some(), count("accept") > 0);
    let repeated = fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("mcp-") && count(name) > 1);
    assert_eq!(head.duplicate.is_some(), repeated);
}
