//! What a tool says it is, as one hash: a tool that was approved and now says something else has another one.
//!
//! Not here: who approves, where the hash is kept, what happens to a tool that changed.
//! Invariant: the hash covers what a model and a client act upon, in canonical form and under the server's own name for
//! it; icons, `_meta`, order of members and spelling do not matter to it.

use sha2::{Digest as _, Sha256};

use crate::proto::json::{Object, Value, canonical};

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

/// SHA-256 of what [`pinned`] writes; `None` only if nobody judged the text.
pub fn pin(tool: &[u8]) -> Option<[u8; 32]> {
    let mut text = Vec::new();
    pinned(&mut text, tool).then(|| Sha256::digest(&text).into())
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
    fn what_nobody_judged_has_no_pin() {
        assert_eq!(pin(br#"{"name":nul}"#), None);
        let mut out = b"before".to_vec();
        assert!(!pinned(&mut out, br#"{"name":"a","title":?}"#) && out == b"before");
    }
}
