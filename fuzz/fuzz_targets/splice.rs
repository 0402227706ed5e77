//! Rewriting of JSON: what is replaced is what a second reader replaces, all other bytes stay; and what else a gateway
//! reads of an upstream's list of tools (names, annotations, canonical form) ends well on any text.
//!
//! The first byte seeds which values are replaced; the rest is a JSON text.
#![no_main]

use corelane::limits::TOOL_NAME_BYTES_MAX;
use corelane::proto::json::{Envelope, Scanner, Span, Value, ValueKind, canonical, compact, splice};
use corelane::proto::mcp::{annotated, naming, pin};
use libfuzzer_sys::fuzz_target;

/// What is put in.
const PUT_IN: [&[u8]; 4] = [b"null", b"\"s_name\"", b"{\"put\":[1]}", b"-7"];

fuzz_target!(|input: &[u8]| {
    let Some((&seed, text)) = input.split_first() else { return };
    let judged = Scanner::new().scan(text, &mut Envelope::default()).is_ok();
    let mut one = Vec::new();
    let written = canonical(&mut one, text);
    if !judged {
        assert!(written || one.is_empty());
        let _ = (annotated(text), pin(text));
        return;
    }
    assert!(written);
    check_canonical(&one, text);
    check_tools(text);

    let mut state = u32::from(seed);
    let mut edits = Vec::new();
    choose(Value::new(text), text, &mut state, &mut edits);
    let mut out = b"before".to_vec();
    splice(&mut out, text, &edits);
    let out = out.strip_prefix(b"before").expect("it is appended to");
    assert_eq!(out, by_hand(text, &edits));
    let depth = |error| matches!(error, corelane::proto::json::ScanError::DepthExceeded { .. });
    match Scanner::new().scan(out, &mut Envelope::default()) {
        // Walked again, the values are the old ones but for those that were replaced.
        Ok(()) => check_walk(Value::new(text), Value::new(out), text, &edits),
        Err(error) => assert!(depth(error), "{error}"),
    }
});

/// Chooses values, none inside another that is chosen.
fn choose(value: Value<'_>, text: &[u8], state: &mut u32, edits: &mut Vec<(Span, &'static [u8])>) {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let span = value.span_in(text).expect("a part of the text");
    assert_eq!(span.of(text), value.raw());
    if (*state >> 28) < 5 {
        edits.push((span, PUT_IN[(*state >> 24) as usize % PUT_IN.len()]));
        return;
    }
    for (key, member) in value.members() {
        let quoted = key.span_in(text).expect("a part of the text").of(text);
        assert_eq!(Value::new(quoted).as_str(), key.unescaped());
        choose(member, text, state, edits);
    }
    value.elements().for_each(|element| choose(element, text, state, edits));
}

/// The same from the end of the text, on a copy.
fn by_hand(text: &[u8], edits: &[(Span, &[u8])]) -> Vec<u8> {
    let mut copy = text.to_vec();
    for (span, put_in) in edits.iter().rev() {
        copy.splice(span.start as usize..span.end as usize, put_in.iter().copied());
    }
    copy
}

fn check_walk(old: Value<'_>, new: Value<'_>, text: &[u8], edits: &[(Span, &[u8])]) {
    let span = old.span_in(text).expect("a part of the text");
    if let Some((_, put_in)) = edits.iter().find(|(edit, _)| *edit == span) {
        return assert_eq!(new.raw(), *put_in);
    }
    assert_eq!(old.kind(), new.kind());
    match old.kind() {
        ValueKind::Object => {
            assert_eq!(old.members().count(), new.members().count());
            for ((old_key, old), (new_key, new)) in old.members().zip(new.members()) {
                assert_eq!(old_key, new_key);
                check_walk(old, new, text, edits);
            }
        }
        ValueKind::Array => {
            assert_eq!(old.elements().count(), new.elements().count());
            old.elements().zip(new.elements()).for_each(|(old, new)| check_walk(old, new, text, edits));
        }
        _ => assert_eq!(old.raw(), new.raw()),
    }
}

/// One form for one value: of itself, of the text without white space, and as serde_json reads it.
fn check_canonical(one: &[u8], text: &[u8]) {
    assert_eq!(Scanner::new().scan(one, &mut Envelope::default()), Ok(()));
    let again = |text: &[u8]| {
        let mut out = Vec::new();
        assert!(canonical(&mut out, text));
        out
    };
    assert_eq!(again(one), one);
    let mut dense = Vec::new();
    compact(&mut dense, text);
    assert_eq!(again(&dense), one);
    assert!(!one.windows(2).any(|pair| pair[0] == b'\n' || pair[0] == b'\r'));
    // A key by which serde_json, built as it is here, reads another value than is written.
    let marked = one.windows(b"$serde_json::".len()).any(|window| window == b"$serde_json::");
    if !marked {
        let read = |text| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
        assert!(same(&read(one), &read(text)), "{}", one.escape_ascii());
    }
}

/// Equal as values of a reader whose numbers are `f64`.
fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Object(one), Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (Number(one), Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

/// What a gateway reads of the tools that a server lists.
fn check_tools(text: &[u8]) {
    let Some(tools) = Value::new(text).get("tools") else { return };
    for tool in tools.elements() {
        assert!(pin(tool.raw()).is_some());
        if let Some(schema) = tool.get("inputSchema") {
            for param in annotated(schema.raw()).iter().flatten() {
                let top = schema.get("properties").and_then(|properties| properties.get(&param.path[0]));
                assert!(top.is_some() && param.header_suffix.is_ascii());
            }
        }
        if let Some(name) = tool.get("name").and_then(Value::as_str) {
            for shown in [naming::prefixed("server", &name), naming::hashed(&name, "tool")] {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                assert!((1..=TOOL_NAME_BYTES_MAX).contains(&shown.len()) && shown.bytes().all(plain));
            }
        }
    }
}
