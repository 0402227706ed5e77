//! What a tool says it is, as one hash: a tool that was approved and now says something else has another one.
//!
//! Not here: who approves, where the hash is kept, what happens to a tool that changed.
//! Invariant: the hash covers what a model and a client act upon, in canonical form and under the server's own name for
//! it; icons, `_meta`, order of members and spelling do not matter to it.

use sha2::{Digest as _, Sha256};

use crate::proto::json::{Array, Object, Value, ValueKind, canonical};

/// The members that count, in the order of the canonical form.
const PINNED: [&str; 6] = ["annotations", "description", "inputSchema", "name", "outputSchema", "title"];

/// Appends the canonical form (RFC 8785) of what `tool`, one judged item of a `tools/list`, says it is: those of
/// `annotations`, `description`, `inputSchema`, `name`, `outputSchema`, `title` that are there. A member that is `null`
/// is there.
///
/// False, with nothing appended, only if nobody judged the text.
#[must_use = "a text that nobody judged has no canonical form"]
pub fn pinned(out: &mut Vec<u8>, tool: &[u8]) -> bool {
    let begin = out.len();
    let tool = Value::new(tool);
    let mut object = Object::begin(out);
    let written = PINNED.iter().all(|name| match tool.get(name) {
        Some(value) => canonical(object.key(name), value.raw()),
        None => true,
    });
    object.end();
    if !written {
        out.truncate(begin);
    }
    written
}

/// Appends what a server says a tool is that its list has under one name as often as `tools` are: the form of the one,
/// or, where the list has different ones, an array of all, each once and in their own order, so that neither the order
/// of the list nor repetition makes a difference.
///
/// False, with nothing appended, if there is none, or nobody judged one.
#[must_use = "a text that nobody judged has no canonical form"]
pub fn pinned_together(out: &mut Vec<u8>, tools: &[&[u8]]) -> bool {
    if let [tool] = tools {
        return pinned(out, tool);
    }
    let mut texts = Vec::with_capacity(tools.len());
    for tool in tools {
        let mut text = Vec::new();
        if !pinned(&mut text, tool) {
            return false;
        }
        texts.push(text);
    }
    texts.sort_unstable();
    texts.dedup();
    match &texts[..] {
        [] => return false,
        [text] => out.extend_from_slice(text),
        texts => {
            let mut array = Array::begin(out);
            texts.iter().for_each(|text| array.raw(text));
            array.end();
        }
    }
    true
}

/// Which members differ between two texts of [`pinned`] or [`pinned_together`]; none if one of them is an array.
pub fn differing(one: &[u8], other: &[u8]) -> Vec<&'static str> {
    let (one, other) = (Value::new(one), Value::new(other));
    if one.kind() != ValueKind::Object || other.kind() != ValueKind::Object {
        return Vec::new();
    }
    let raw = |value: Value<'_>, name| value.get(name).map(|value| value.raw().to_vec());
    PINNED.into_iter().filter(|name| raw(one, name) != raw(other, name)).collect()
}

/// SHA-256 of a text of [`pinned`] or [`pinned_together`].
pub fn sha256(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// SHA-256 of what [`pinned`] writes; `None` only if nobody judged the text.
pub fn pin(tool: &[u8]) -> Option<[u8; 32]> {
    let mut text = Vec::new();
    pinned(&mut text, tool).then(|| sha256(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: &str = r#"{"name":"get","title":"T","description":"d","inputSchema":{"type":"object","properties":{"b":{},"a":{"maximum":1.0}}},
        "outputSchema":{},"annotations":{"readOnlyHint":true},"icons":[{"src":"x"}],"_meta":{"v":1}}"#;

    fn hex(tool: &str) -> String {
        pin(tool.as_bytes()).expect("judged").iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_tool_as_text_and_hash() {
        let mut text = Vec::new();
        assert!(pinned(&mut text, TOOL.as_bytes()));
        let expected = r#"{"annotations":{"readOnlyHint":true},"description":"d","inputSchema":{"properties":{"a":{"maximum":1},"b":{}},"type":"object"},"name":"get","outputSchema":{},"title":"T"}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        // What `sha256sum` says of that text.
        assert_eq!(hex(TOOL), "589863b383862a66ff47a4efefe893db2dbb9ba7e9362dae5ed6fdc98be6e691");
        assert_eq!(hex("{}"), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    #[test]
    fn only_what_the_tool_says_matters() {
        let same = [
            TOOL.replace("\"v\":1", "\"v\":2"),
            TOOL.replace("\"src\":\"x\"", "\"src\":\"y\""),
            TOOL.replace("\"d\"", r#""\u0064""#),
            TOOL.replace("1.0", "10e-1"),
            TOOL.replace(r#""b":{},"a":{"maximum":1.0}"#, r#" "a":{"maximum":1.0}, "b":{}"#),
            TOOL.replace("\"icons\"", "\"unknown\""),
        ];
        for tool in same {
            assert_eq!(hex(&tool), hex(TOOL), "{tool}");
        }
        let other = [
            TOOL.replace("\"d\"", "\"d \""),
            TOOL.replace("\"d\"", "\"d\u{200b}\""),
            TOOL.replace("\"get\"", "\"Get\""),
            TOOL.replace("true", "false"),
            TOOL.replace("1.0", "1.5"),
            TOOL.replace("\"outputSchema\":{},", ""),
            TOOL.replace("\"outputSchema\":{},", "\"outputSchema\":null,"),
            TOOL.replace("\"T\"", "\"\""),
            // Canonical text of another reader's value: see `canonical`.
            TOOL.replace("\"readOnlyHint\":true", r#""$serde_json::private::RawValue":"{\"readOnlyHint\":true}""#),
        ];
        for tool in other {
            assert_ne!(hex(&tool), hex(TOOL), "{tool}");
        }
    }

    #[test]
    fn a_name_that_is_listed_twice_is_one_definition() {
        let together = |tools: &[&str]| {
            let tools: Vec<&[u8]> = tools.iter().map(|tool| tool.as_bytes()).collect();
            let mut text = Vec::new();
            pinned_together(&mut text, &tools).then(|| String::from_utf8(text).unwrap())
        };
        let (one, other) = (r#"{"name":"a","title":"1"}"#, r#"{"name":"a","title":"2"}"#);
        assert_eq!(together(&[one]).as_deref(), Some(one));
        assert_eq!(together(&[one, " {\"title\":\"1\", \"name\":\"a\"}"]).as_deref(), Some(one));
        assert_eq!(together(&[other, one, other]), Some(format!("[{one},{other}]")));
        assert_eq!(together(&[one, other]), together(&[other, one]));
        assert_eq!((together(&[]), together(&[one, "{\"name\":?}"])), (None, None));
    }

    #[test]
    fn what_differs_is_named() {
        let differing = |one: &str, other: &str| super::differing(one.as_bytes(), other.as_bytes());
        assert_eq!(
            differing(r#"{"description":"a","name":"n"}"#, r#"{"name":"n","title":""}"#),
            ["description", "title"]
        );
        assert_eq!(differing(r#"{"name":"n"}"#, r#"{"name":"n"}"#), [""; 0]);
        assert_eq!(differing(r#"{"title":null}"#, "{}"), ["title"]);
        assert_eq!(differing("[{},{}]", "{}"), [""; 0]);
    }

    #[test]
    fn what_nobody_judged_has_no_pin() {
        assert_eq!(pin(br#"{"name":nul}"#), None);
        let mut out = b"before".to_vec();
        assert!(!pinned(&mut out, br#"{"name":"a","title":?}"#) && out == b"before");
    }
}
