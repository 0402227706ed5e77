//! The scanner and the navigator held against serde_json, which was written by others.
//!
//! Needs the `host` feature, as that is what brings serde_json into the build.
#![cfg(feature = "host")]

use corelane::proto::json::{Envelope, Object, ScanError, Scanner, Value, ValueKind, compact, string};
use proptest::prelude::*;

fn scan(text: &[u8]) -> Result<(), ScanError> {
    Scanner::new().scan(text, &mut Envelope::default())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[\\x00-\\x7fé漢😀]{0,20}".prop_map(Into::into),
    ];
    scalar.prop_recursive(5, 48, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..20)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What the navigator reads, as serde_json would have it.
fn read(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        ValueKind::Array => value.elements().map(read).collect(),
        ValueKind::Bool => value.as_bool().expect("a judged boolean").into(),
        ValueKind::Malformed => panic!("{value:?}"),
        ValueKind::Null => serde_json::Value::Null,
        ValueKind::Number => {
            let integer = value.as_u64().map(Into::into).or(value.as_i64().map(Into::into));
            integer.unwrap_or_else(|| value.as_f64().expect("a judged number").into())
        }
        ValueKind::Object => serde_json::Value::Object(
            value
                .members()
                .map(|(key, value)| (key.unescaped().expect("a judged key").into_owned(), read(value)))
                .collect(),
        ),
        ValueKind::String => value.as_str().expect("a judged string").into(),
    }
}

/// Whether two values are the same but for the last bits of a float: serde_json rounds loosely unless asked.
fn alike(ours: &serde_json::Value, theirs: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (ours, theirs) {
        (Array(ours), Array(theirs)) => ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| alike(a, b)),
        (Object(ours), Object(theirs)) => {
            ours.len() == theirs.len() && ours.iter().all(|(key, a)| theirs.get(key).is_some_and(|b| alike(a, b)))
        }
        (Number(ours), Number(theirs)) => {
            let (a, b) = (ours.as_f64().unwrap_or_default(), theirs.as_f64().unwrap_or_default());
            ours == theirs || (a - b).abs() <= 8.0 * f64::EPSILON * a.abs() || (a - b).abs() <= f64::MIN_POSITIVE
        }
        _ => ours == theirs,
    }
}

/// Holds one text against both: the same verdict, but for the rules that only we have, and the same value.
fn agree(text: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(text);
    match (scan(text), theirs) {
        (Ok(()), Ok(theirs)) => {
            let ours = read(Value::new(text));
            assert!(alike(&ours, &theirs), "{}: {ours} or {theirs}?", text.escape_ascii());
        }
        (Ok(()), Err(theirs)) => panic!("only we accept {}: {theirs}", text.escape_ascii()),
        // Stricter than serde_json: its values keep the last of two equal keys, and it nests to 128.
        (Err(ScanError::DuplicateKey { .. } | ScanError::DepthExceeded { .. }), _) | (Err(_), Err(_)) => {}
        (Err(ours), Ok(theirs)) => panic!("only they accept {}: {ours}; {theirs}", text.escape_ascii()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_they_write_we_read(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.expect("it is JSON");
        prop_assert_eq!(scan(&text), Ok(()));
        agree(&text);
        let mut compacted = Vec::new();
        compact(&mut compacted, &text);
        prop_assert_eq!(compacted, serde_json::to_vec(&value).expect("it is JSON"));
    }

    #[test]
    fn what_we_write_they_read(name in any::<String>(), text in any::<String>(), number in any::<i64>()) {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.string("text", &text);
        object.integer("number", number);
        let mut key = Vec::new();
        string(&mut key, &name);
        object.raw("raw", &key);
        object.array("array").string(&name);
        object.end();
        let theirs: serde_json::Value = serde_json::from_slice(&out).expect("it is JSON");
        prop_assert_eq!(theirs, serde_json::json!({"text": text, "number": number, "raw": name, "array": [name]}));
    }

    #[test]
    fn a_mutated_text_is_judged_alike(
        value in json(), pretty in any::<bool>(),
        mutations in prop::collection::vec((0..4, any::<prop::sample::Index>(), prop_oneof![
            prop::sample::select(b"{}[]\",:\\/utfn0123456789eE+-. \n\r\t\0\x1f\x7f'".to_vec()), any::<u8>(),
        ]), 1..4),
    ) {
        let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.expect("it is JSON");
        for (mutation, place, byte) in mutations {
            let at = place.index(text.len() + 1);
            match mutation {
                0 => text.insert(at, byte),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = byte,
                _ => text.truncate(at),
            }
        }
        agree(&text);
    }

    #[test]
    fn a_string_of_escapes_is_judged_alike(content in "(\\\\u[dD][89abcdefABCDEF][0-9a-fA-F]{2}|\\\\u[0-9a-g]{4}|\\\\.|[a-zé😀])*", key in any::<bool>()) {
        agree(if key { format!("{{\"{content}\":0}}") } else { format!("\"{content}\"") }.as_bytes());
    }

    #[test]
    fn a_number_is_judged_alike(number in "-?[0-9]{0,3}[.]?[0-9]{0,3}([eE][+-]?[0-9]{0,4})?|-?[0-9]{300,320}([.][0-9]{1,9})?|0[.]0{0,330}[1-9][0-9]{0,20}e[0-9]{3}") {
        agree(number.as_bytes());
    }
}
