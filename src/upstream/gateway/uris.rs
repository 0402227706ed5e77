//! URIs where several servers are seen: each stands behind its server's name, `{name}+{uri}`, so that two servers with
//! the same URI stay two resources.
//!
//! Not here: names of tools and prompts (`merge`). Invariant: what `seen` writes, `own` takes off again; all but the
//! URIs stays as it came, to the byte.

use crate::proto::json::{Outline, Part, Span, Value, ValueKind, splice, string};
use crate::proto::mcp::Method;

/// What stands before a server's URIs.
pub fn before(server: &str) -> Box<str> {
    format!("{server}+").into()
}

/// The server's own URI, if it is one of its.
pub fn own<'a>(uri: &'a str, server: &str) -> Option<&'a str> {
    uri.strip_prefix(server)?.strip_prefix('+')
}

/// A result with its resources named as the caller sees them: contents of a read, and resources within the content of
/// tools and prompts. None if it names none.
pub fn seen(result: &[u8], method: Method, before: &str) -> Option<Vec<u8>> {
    if !holds_uri(result) {
        return None;
    }
    let list = match method {
        Method::ResourcesRead => "contents",
        Method::TasksResult | Method::ToolsCall => "content",
        Method::PromptsGet => "messages",
        _ => return None,
    };
    // A server chooses how deep its result is.
    let outline = Outline::of(Value::new(result));
    let mut edits = Vec::new();
    for (name, member) in outline.whole().members() {
        if name.is(list) {
            member.elements().for_each(|item| rename(&mut edits, item, result, before));
        }
    }
    let mut out = Vec::new();
    splice(&mut out, result, &edits);
    Some(out)
}

fn holds_uri(text: &[u8]) -> bool {
    memchr::memmem::find(text, br#""uri""#).is_some()
}

/// Notes where in `text` the URIs of an item of a list stand that are its own, or of the resource or content within it.
fn rename(edits: &mut Vec<(Span, Vec<u8>)>, item: Part<'_, '_>, text: &[u8], before: &str) {
    for (name, member) in item.members() {
        let Some(name) = name.unescaped() else { continue };
        match (&*name, member.value.kind()) {
            ("uri", ValueKind::String) => {
                let (mut seen, own) = (Vec::new(), member.value.as_str().unwrap_or_default());
                string(&mut seen, &format!("{before}{own}"));
                edits.extend(member.value.span_in(text).map(|span| (span, seen)));
            }
            ("resource" | "content", ValueKind::Object) => rename(edits, member, text, before),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::take_passed;

    #[test]
    fn the_depth_of_a_result_costs_nothing() {
        let passed = |depth: usize| {
            let pad = "x".repeat(100_000);
            let (before, behind) = (r#"{"resource":"#.repeat(depth), "}".repeat(depth));
            let result = format!(r#"{{"content":[{before}{{"uri":"a:b","x":"{pad}"}}{behind}]}}"#);
            take_passed();
            assert!(seen(result.as_bytes(), Method::ToolsCall, "s+").is_some());
            take_passed()
        };
        let (shallow, deep) = (passed(1), passed(50));
        assert!(deep < 2 * shallow, "{deep} bytes looked at, {shallow} of one that is not deep");
    }

    #[test]
    fn resources_are_renamed_wherever_they_stand() {
        let seen = |result: &str, method| seen(result.as_bytes(), method, "s+");
        let text =
            |result: &str, method| String::from_utf8(seen(result, method).expect("it names some")).expect("text");
        assert_eq!(seen(r#"{"content":[{"type":"text","text":"a uri"}]}"#, Method::ToolsCall), None);
        assert_eq!(
            text(r#"{"contents":[{"uri":"a:b","text":"uri"}],"x":{"uri":"c"}}"#, Method::ResourcesRead),
            r#"{"contents":[{"uri":"s+a:b","text":"uri"}],"x":{"uri":"c"}}"#
        );
        assert_eq!(
            text(
                r#"{ "\u0078":1.0, "content":[ {"type":"text","text":"t"},{"type":"resource","resource":{"uri" : "a:b"}}]}"#,
                Method::ToolsCall
            ),
            r#"{ "\u0078":1.0, "content":[ {"type":"text","text":"t"},{"type":"resource","resource":{"uri" : "s+a:b"}}]}"#
        );
        assert_eq!(
            text(
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:b"}}}]}"#,
                Method::PromptsGet
            ),
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"s+a:b"}}}]}"#
        );
        assert_eq!((own("s+a:b", "s"), own("t+a:b", "s"), own("sa:b", "s")), (Some("a:b"), None, None));
    }
}
