//! URIs where several servers are seen: each stands behind its server's name, `{name}+{uri}`, so that two servers with
//! the same URI stay two resources.
//!
//! Not here: names of tools and prompts (`merge`). Invariant: what `seen` writes, `own` takes off again.

use crate::proto::json::{Array, Object, Value, ValueKind, string};
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
    let value = Value::new(result);
    let list = match method {
        Method::ResourcesRead => "contents",
        Method::TasksResult | Method::ToolsCall => "content",
        Method::PromptsGet => "messages",
        _ => return None,
    };
    let mut out = Vec::with_capacity(result.len() + 64);
    let mut object = Object::begin(&mut out);
    for (name, member) in value.members() {
        let Some(name) = name.unescaped() else { continue };
        if name == list && member.kind() == ValueKind::Array {
            let mut items = object.array(&name);
            for item in member.elements() {
                rewritten(&mut items, item, before);
            }
            items.end();
        } else {
            object.raw(&name, member.raw());
        }
    }
    object.end();
    Some(out)
}

fn holds_uri(text: &[u8]) -> bool {
    memchr::memmem::find(text, br#""uri""#).is_some()
}

/// An item of a list with the URIs that are its own, or of the resource or content within it, changed.
fn rewritten(items: &mut Array<'_>, item: Value<'_>, before: &str) {
    if item.kind() != ValueKind::Object || !holds_uri(item.raw()) {
        return items.raw(item.raw());
    }
    object_with(items.element(), item, before);
}

fn object_with(out: &mut Vec<u8>, value: Value<'_>, before: &str) {
    let mut object = Object::begin(out);
    for (name, member) in value.members() {
        let Some(name) = name.unescaped() else { continue };
        match (&*name, member.kind()) {
            ("uri", ValueKind::String) => {
                let uri = member.as_str().unwrap_or_default();
                string(object.key("uri"), &format!("{before}{uri}"));
            }
            ("resource" | "content", ValueKind::Object) => object_with(object.key(&name), member, before),
            _ => object.raw(&name, member.raw()),
        }
    }
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

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
                r#"{"content":[{"type":"text","text":"t"},{"type":"resource","resource":{"uri":"a:b"}}]}"#,
                Method::ToolsCall
            ),
            r#"{"content":[{"type":"text","text":"t"},{"type":"resource","resource":{"uri":"s+a:b"}}]}"#
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
