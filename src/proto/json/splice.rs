//! Rewriting JSON where it stands: some values of a judged text are replaced, every other byte goes out as it came.
//!
//! Not here: finding the values (`scan`, `value`), or judging what is put in.
//! Invariant: bytes outside the edits are copied unread and in order, so what a peer wrote about anything we do not
//! change, unknown members and spelling of numbers included, stays as it was.

use super::envelope::Span;

/// Appends `text` to `out`, each span replaced by the bytes beside it. Nothing in place of a value makes no JSON, so
/// what is put in is never empty, and neither is what it replaces; [`first_byte`] is how something is inserted.
///
/// # Panics
/// If a span is absent or not within `text`, if they are not in the order of the text, or if two overlap.
pub fn splice(out: &mut Vec<u8>, text: &[u8], edits: &[(Span, impl AsRef<[u8]>)]) {
    let put_in: usize = edits.iter().map(|(_, replacement)| replacement.as_ref().len()).sum();
    out.reserve(text.len() + put_in);
    let mut at = 0;
    for (span, replacement) in edits {
        let replacement = replacement.as_ref();
        let (start, end) = (span.start as usize, span.end as usize);
        assert!(!span.is_absent(), "an absent span ({start}..{end}) is no place to edit");
        assert!(start >= at, "edits are in order and do not overlap: {start} comes after {at}");
        assert!(end <= text.len(), "an edit up to {end} is not within a text of {} bytes", text.len());
        debug_assert!(!replacement.is_empty(), "no JSON value is empty: an absent span was put in");
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(replacement);
        at = end;
    }
    out.extend_from_slice(&text[at..]);
}

/// The bracket that opens the object or array at `container`. To put something first in it, replace the bracket by
/// itself and what is to follow; the comma in between depends on [`is_empty`].
pub fn first_byte(container: Span) -> Span {
    Span { start: container.start, end: container.end.min(container.start.saturating_add(1)) }
}

/// Whether the object or array that `container` covers in `text` has nothing in it.
pub fn is_empty(text: &[u8], container: Span) -> bool {
    let inside = container.of(text).get(1..).unwrap_or_default();
    matches!(inside.trim_ascii_start(), [] | [b'}' | b']', ..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::json::{Envelope, Key, Scanner, Value};

    const TEXT: &[u8] = br#"{ "id" : 7, "params":{"name":"a_b","arguments":{"x":1.0e0, "x\u0021":[]}} }"#;

    fn of(needle: &str) -> Span {
        let start = TEXT.windows(needle.len()).position(|window| window == needle.as_bytes()).expect("is there") as u32;
        Span { start, end: start + needle.len() as u32 }
    }

    fn spliced(edits: &[(Span, &[u8])]) -> String {
        let mut out = b">".to_vec();
        splice(&mut out, TEXT, edits);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_replaced_and_all_else_stays() {
        assert_eq!(spliced(&[]).as_bytes(), [b">", TEXT].concat());
        assert_eq!(
            spliced(&[(of("7"), b"\"n\""), (of("\"a_b\""), b"\"b\"")]),
            r#">{ "id" : "n", "params":{"name":"b","arguments":{"x":1.0e0, "x\u0021":[]}} }"#
        );
        let whole = Span { start: 0, end: TEXT.len() as u32 };
        assert_eq!(spliced(&[(whole, b"1")]), ">1");
        // Edits may touch each other.
        let (left, right) = (Span { start: 0, end: 40 }, Span { start: 40, end: TEXT.len() as u32 });
        assert_eq!(spliced(&[(left, b"[1"), (right, b"]")]), ">[1]");
    }

    #[test]
    fn something_is_put_first() {
        let params = Value::new(TEXT).get("params").unwrap();
        let span = params.span_in(TEXT).unwrap();
        assert_eq!(spliced(&[(first_byte(span), b"{\"_meta\":{},")]).matches("{\"_meta\":{},\"name\"").count(), 1);
        assert!(!is_empty(TEXT, span) && is_empty(TEXT, of("[]")));
        assert!(is_empty(b"{ \n}", Span { start: 0, end: 4 }) && !is_empty(b"[ 0]", Span { start: 0, end: 4 }));
        assert_eq!(first_byte(Span::default()), Span::default());
    }

    #[test]
    fn spans_of_parts_are_those_of_the_scanner() {
        let mut envelope = Envelope::default();
        Scanner::new().scan(TEXT, &mut envelope).unwrap();
        let params = Value::new(TEXT).get("params").unwrap();
        assert_eq!(params.span_in(TEXT), Some(envelope.get(Key::Params)));
        assert_eq!(params.get("name").unwrap().span_in(TEXT), Some(envelope.get(Key::Name)));
        let name = params.get("name").unwrap().as_raw_str().unwrap();
        assert_eq!(name.span_in(TEXT), Some(envelope.get(Key::Name)), "with its quotes");
        let (key, _) = params.members().next().unwrap();
        assert_eq!(key.span_in(TEXT).map(|span| span.of(TEXT)), Some(&b"\"name\""[..]));
        // A part is found in any part around it, and nowhere else.
        assert_eq!(params.get("name").unwrap().span_in(params.raw()), Some(Span { start: 8, end: 13 }));
        let before = &TEXT[..10];
        assert_eq!((params.span_in(before), name.span_in(before)), (None, None), "it begins behind that text");
        let across = &TEXT[..TEXT.len() - 3];
        assert_eq!(params.span_in(across), None, "it ends behind that text");
        let copy = TEXT.to_vec();
        assert_eq!((params.span_in(&copy), name.span_in(&copy)), (None, None));
        assert_eq!((params.span_in(name.raw()), Value::new(b"").span_in(TEXT)), (None, None));
        let quoted = br#""""#;
        let empty = Value::new(quoted).as_raw_str().unwrap();
        assert_eq!(empty.span_in(quoted), Some(Span { start: 0, end: 2 }));
        assert_eq!(empty.span_in(&quoted[1..]), None, "a quote is missing");
    }

    #[test]
    #[should_panic(expected = "no place to edit")]
    fn an_absent_span_is_our_bug() {
        spliced(&[(Span::default(), b"1")]);
    }

    #[test]
    #[should_panic(expected = "in order and do not overlap")]
    fn overlap_is_our_bug() {
        spliced(&[(Span { start: 1, end: 4 }, b"1"), (Span { start: 3, end: 5 }, b"1")]);
    }

    #[test]
    #[should_panic(expected = "not within a text")]
    fn a_span_of_another_text_is_our_bug() {
        spliced(&[(Span { start: 1, end: 4000 }, b"1")]);
    }

    proptest! {
        #[test]
        fn bytes_outside_the_edits_are_unchanged(
            text in proptest::collection::vec(any::<u8>(), 1..80),
            cuts in proptest::collection::btree_set(0usize..80, 0..16),
            replacements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5), 8),
        ) {
            let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            let edits: Vec<(Span, &[u8])> = cuts
                .chunks_exact(2)
                .zip(&replacements)
                .map(|(cut, put_in)| (Span { start: cut[0] as u32, end: cut[1] as u32 }, &put_in[..]))
                .collect();
            let mut out = Vec::new();
            splice(&mut out, &text, &edits);
            // Read back from the end, where nothing that splice computed helps.
            let mut kept = text.len();
            for (span, replacement) in edits.iter().rev() {
                let tail = out.split_off(out.len() - (kept - span.end as usize));
                prop_assert_eq!(&tail[..], &text[span.end as usize..kept]);
                prop_assert_eq!(&out.split_off(out.len() - replacement.len())[..], *replacement);
                kept = span.start as usize;
            }
            prop_assert_eq!(&out[..], &text[..kept]);
        }
    }
}
