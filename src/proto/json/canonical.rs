//! Canonical JSON (RFC 8785): one text for each value, so that a hash of it is a hash of the value.
//!
//! Not here: hashing, or judging: the text is one that a scanner accepted. That is why this is not a crate on top of
//! serde_json: what is hashed has to be read by the reader that judged it (serde_json, with a feature that a dependency
//! may turn on, takes an object of one certain key for something else).
//! Invariant: two judged texts give the same bytes exactly if a reader with `f64` numbers cannot tell their values
//! apart. So `9007199254740993` is `9007199254740992`, as the standard has it.

use std::borrow::Cow;

use super::outline::{Outline, Part};
use super::value::{Value, ValueKind};
use super::write;
use crate::limits::JSON_DEPTH_MAX;

/// Appends the canonical form of `text`, a judged JSON text.
///
/// False, with nothing appended, only if nobody judged the text; what becomes of such a text is not promised.
#[must_use = "a text that nobody judged has no canonical form"]
pub fn canonical(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let begin = out.len();
    let written = value(out, Outline::of(Value::new(text)).whole(), 0).is_some();
    if !written {
        out.truncate(begin);
    }
    written
}

fn value(out: &mut Vec<u8>, part: Part<'_, '_>, depth: usize) -> Option<()> {
    // Judged texts are not deeper; of others this bounds the stack.
    if depth > JSON_DEPTH_MAX {
        return None;
    }
    let read = part.value;
    match read.kind() {
        ValueKind::Array => {
            let mut array = write::Array::begin(out);
            for element in part.elements() {
                value(array.element(), element, depth + 1)?;
            }
        }
        ValueKind::Bool => write::raw(out, if read.as_bool()? { b"true" } else { b"false" }),
        ValueKind::Malformed => return None,
        ValueKind::Null => write::raw(out, if read.is_null() { b"null" } else { return None }),
        ValueKind::Number => write::raw(out, ryu_js::Buffer::new().format_finite(read.as_f64()?).as_bytes()),
        ValueKind::Object => {
            let mut object = write::Object::begin(out);
            for (key, member) in members(part)? {
                value(object.key(&key), member, depth + 1)?;
            }
        }
        // The escapes that a writer of ours makes are those of the standard: no others, in lower case.
        ValueKind::String => write::string(out, &read.as_str()?),
    }
    Some(())
}

/// The members of an object in the order of their keys' UTF-16 code units, which is not that of code points.
fn members<'a, 'o>(object: Part<'a, 'o>) -> Option<Vec<(Cow<'a, str>, Part<'a, 'o>)>> {
    let mut members =
        object.members().map(|(key, value)| Some((key.unescaped()?, value))).collect::<Option<Vec<_>>>()?;
    members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    Some(members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::json::{Envelope, Scanner, take_passed};

    fn canonical_of(text: &str) -> String {
        Scanner::new().scan(text.as_bytes(), &mut Envelope::default()).expect("judged");
        let mut out = b">".to_vec();
        assert!(canonical(&mut out, text.as_bytes()), "{text}");
        String::from_utf8(out.split_off(1)).unwrap()
    }

    /// RFC 8785 section 3.2.2: the sample of everything.
    #[test]
    fn the_standards_sample() {
        let sample = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        assert_eq!(canonical_of(sample), expected);
    }

    /// Section 3.2.3: order is that of UTF-16 code units, where the emoji's surrogates come before U+FB33.
    #[test]
    fn the_standards_order_of_keys() {
        let sample = r#"{
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#;
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
            \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\
            \"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(canonical_of(sample), expected);
    }

    /// Appendix B: numbers by their bits and how they are written.
    #[test]
    fn the_standards_numbers() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let number = f64::from_bits(bits);
            // Written with all its digits and read again, so that reading is tested as well.
            for written in [format!("{number:e}"), format!("{number:.1100}")] {
                assert_eq!(canonical_of(&written), expected, "{bits:#x}");
            }
        }
        assert_eq!(canonical_of("9007199254740993"), "9007199254740992");
    }

    #[test]
    fn what_looks_the_same_is_the_same_and_nothing_else_is() {
        let one = canonical_of(" {\"a\\u0062\" : [ 1.0, \"\\u00e9\" ] , \"A\":{}}");
        assert_eq!(one, "{\"A\":{},\"ab\":[1,\"é\"]}");
        // A key by which serde_json would read another value.
        let marked = r#"{"$serde_json::private::RawValue":"{}"}"#;
        assert_eq!(canonical_of(marked), marked);
        // Nothing is normalised: e with an accent is not é.
        assert_ne!(canonical_of("\"e\u{301}\""), canonical_of("\"é\""));
    }

    #[test]
    fn the_depth_of_a_text_costs_nothing() {
        let passed = |depth: usize| {
            let (before, pad, behind) = (r#"{"a":["#.repeat(depth), "x".repeat(100_000), "]}".repeat(depth));
            let text = format!("{before}\"{pad}\"{behind}");
            take_passed();
            assert!(canonical(&mut Vec::new(), text.as_bytes()));
            take_passed()
        };
        let (shallow, deep) = (passed(2), passed(30));
        assert!(deep < 2 * shallow, "{deep} bytes looked at, {shallow} of one that is not deep");
    }

    #[test]
    fn what_nobody_judged_ends_without_a_trace() {
        for text in ["", "nul", "tru", "?", "[1,nul]", "{\"a\":inf}", "[\"\\ud800\"]", &"[".repeat(100_000)] {
            let mut out = b"before".to_vec();
            let written = canonical(&mut out, text.as_bytes());
            assert!(!written || text.starts_with("[["), "{text:.20}");
            assert!(out.starts_with(b"before") && (written || out.len() == 6));
        }
        let deep = format!("{}{}", "[".repeat(JSON_DEPTH_MAX + 2), "]".repeat(JSON_DEPTH_MAX + 2));
        assert!(!canonical(&mut Vec::new(), deep.as_bytes()));
        let deepest = format!("{}{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert_eq!(canonical_of(&deepest), deepest);
    }

    /// A JSON text, written clumsily.
    fn texts() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|it| it.to_string()),
            any::<i64>().prop_map(|it| it.to_string()),
            any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(|it| format!("{it:e}")),
            any::<String>().prop_map(|it| quoted(&it)),
        ];
        scalar.prop_recursive(4, 40, 6, |inner| {
            let object = prop::collection::hash_map(any::<String>(), inner.clone(), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{} : {value}", quoted(key))).collect();
                format!("{{{}}}", members.join(","))
            });
            let array = prop::collection::vec(inner, 0..6).prop_map(|it| format!("[ {} ]", it.join(" ,")));
            prop_oneof![array, object]
        })
    }

    /// Every second character as an escape.
    fn quoted(text: &str) -> String {
        let mut out = "\"".to_owned();
        for (at, character) in text.chars().enumerate() {
            if at % 2 == 0 || matches!(character, '"' | '\\') || character < ' ' {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
            } else {
                out.push(character);
            }
        }
        out + "\""
    }

    proptest! {
        #[test]
        fn another_reader_agrees(text in texts()) {
            prop_assert_eq!(canonical_of(&text), serde_json_canonicalizer::pipe(&text).expect("JSON"));
        }

        #[test]
        fn what_is_shown_to_people_is_the_same_value(text in texts()) {
            prop_assert_eq!(canonical_of(&crate::proto::json::pretty(&text)), canonical_of(&text));
        }

        #[test]
        fn canonical_text_stays(text in texts()) {
            let once = canonical_of(&text);
            prop_assert_eq!(canonical_of(&once), once);
        }
    }
}
