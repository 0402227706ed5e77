//! The scanner on anything: it judges as serde_json does but for its own stricter rules, and what it records is true.
#![no_main]

use corelane::proto::json::{Envelope, Key, ScanError, Scanner, Value, ValueKind, compact, has_newline};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let mut scanner = Scanner::new();
    let mut envelope = Envelope::default();
    let judged = scanner.scan(text, &mut envelope);
    let theirs = serde_json::from_slice::<serde_json::Value>(text);

    let mut messages = Vec::new();
    let batch = scanner.scan_batch(text, &mut messages);
    let is_batch = judged.is_ok() && Value::new(text).kind() == ValueKind::Array;
    assert!(batch.is_ok() == is_batch || matches!(batch, Err(ScanError::BatchTooLong { .. })));
    for message in &messages {
        assert_eq!(scanner.scan(message.of(text), &mut Envelope::default()), Ok(()));
    }

    match judged {
        Ok(()) => {
            if !is_marked(Value::new(text)) {
                assert_eq!(read(Value::new(text)), theirs.expect("we accept what serde_json refuses"));
            }
            check_spans(&mut scanner, &envelope, text);
            check_compact(&mut scanner, text);
        }
        Err(error) => {
            assert!(error.at() <= text.len());
            assert_eq!(envelope, Envelope::default());
            let stricter = matches!(
                error,
                ScanError::DuplicateKey { .. } | ScanError::DepthExceeded { .. } | ScanError::TooManyTokens { .. }
            );
            assert!(stricter || theirs.is_err(), "serde_json accepts what we refuse: {error}");
            // Nobody judged it well, so nothing is promised but an end.
            let _ =
                (Value::new(text).members().count(), Value::new(text).elements().count(), Value::new(text).as_str());
        }
    }
});

/// Each span is a value of the text, and the one that a walk finds under that name.
fn check_spans(scanner: &mut Scanner, envelope: &Envelope, text: &[u8]) {
    for key in Key::ALL {
        let holder = match key as u8 {
            index if index <= Key::Error as u8 => Some(Value::new(text)),
            index if index <= Key::Context as u8 => Value::new(text).get("params"),
            _ => Value::new(text).get("params").and_then(|params| params.get("_meta")),
        };
        let walked = holder.and_then(|holder| holder.get(key.name()));
        assert_eq!(envelope.value(key, text), walked, "{key:?}");
        if envelope.has(key) {
            assert!(envelope.get(key).end as usize <= text.len());
            assert_eq!(scanner.scan(envelope.get(key).of(text), &mut Envelope::default()), Ok(()));
        }
    }
}

fn check_compact(scanner: &mut Scanner, text: &[u8]) {
    let mut compacted = Vec::new();
    compact(&mut compacted, text);
    assert!(!has_newline(&compacted) && compacted.len() <= text.len());
    assert_eq!(scanner.scan(&compacted, &mut Envelope::default()), Ok(()));
    assert_eq!(read(Value::new(&compacted)), read(Value::new(text)));
}

/// What the navigator reads, as serde_json would have it.
fn read(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        ValueKind::Array => value.elements().map(read).collect(),
        ValueKind::Bool => value.as_bool().expect("a judged boolean").into(),
        ValueKind::Malformed => panic!("{value:?}"),
        ValueKind::Null => serde_json::Value::Null,
        // -0 is an integer to us and a float to serde_json.
        ValueKind::Number if value.raw() == b"-0" => (-0.0).into(),
        ValueKind::Number => {
            let integer = value.as_u64().map(Into::into).or(value.as_i64().map(Into::into));
            integer.unwrap_or_else(|| value.as_f64().expect("a judged number").into())
        }
        ValueKind::Object => {
            let member = |(key, value)| (unescaped(key), read(value));
            serde_json::Value::Object(value.members().map(member).collect())
        }
        ValueKind::String => value.as_str().expect("a judged string").into(),
    }
}

/// Whether a key is the one that serde_json, with its feature `raw_value`, takes for a mark of its own; `jsonrpc` needs
/// that feature.
fn is_marked(value: Value<'_>) -> bool {
    let mark = |(key, value)| unescaped(key) == "$serde_json::private::RawValue" || is_marked(value);
    value.members().any(mark) || value.elements().any(is_marked)
}

fn unescaped(key: corelane::proto::json::RawStr<'_>) -> String {
    key.unescaped().expect("a judged key").into_owned()
}
