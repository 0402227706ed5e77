//! What an item of a server's list has to be: strict clients refuse a whole list for one item that is not, and with it
//! the items of every other server.
//!
//! Not here: which items are seen (`rules`), under which name (`merge`). Invariant: an item without a flaw has what the
//! schemas of every revision demand, and nothing that they forbid.

use super::flight::ListKind;
use crate::proto::json::{Array, Object, Value, ValueKind, splice};

/// Largest item of a list: whoever reads it, models among them, reads all of it, and what is made of it is made in one
/// go, for which all other calls wait.
const ITEM_BYTES_MAX: usize = 1024 * 1024;
const _: () = assert!(ITEM_BYTES_MAX == 1 << 20, "`TOO_LARGE` says how many that is");
const TOO_LARGE: &str = "it has more than 1 MiB";

/// The members that have to be as the schemas demand.
const LOOKED_AT: [&str; 11] = [
    "_meta",
    "annotations",
    "arguments",
    "description",
    "inputSchema",
    "mimeType",
    "name",
    "outputSchema",
    "title",
    "uri",
    "uriTemplate",
];

/// What is wrong with an item, in a few words; none if nothing is.
pub(super) fn flaw(kind: ListKind, item: Value<'_>) -> Option<&'static str> {
    if item.kind() != ValueKind::Object {
        return Some("it is no object");
    }
    if item.raw().len() > ITEM_BYTES_MAX {
        return Some(TOO_LARGE);
    }
    let members = looked_at(item);
    let get = |name: &str| members.iter().flatten().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let is = |name: &str, kind: ValueKind| get(name).is_some_and(|value| value.kind() == kind);
    let is_if_there = |name: &str, kind: ValueKind| get(name).is_none_or(|value| value.kind() == kind);
    let (text, object) = (ValueKind::String, ValueKind::Object);
    let has_names = match kind {
        ListKind::Prompts | ListKind::Tools => is("name", text),
        ListKind::Resources => is("uri", text) && is("name", text),
        ListKind::Templates => is("uriTemplate", text) && is("name", text),
    };
    if !has_names {
        return Some("`name`, `uri` or `uriTemplate` is missing or no text");
    }
    if !["title", "description", "mimeType"].into_iter().all(|name| is_if_there(name, text)) {
        return Some("`title`, `description` or `mimeType` is no text");
    }
    if !["annotations", "_meta"].into_iter().all(|name| is_if_there(name, object)) {
        return Some("`annotations` or `_meta` is no object");
    }
    match kind {
        ListKind::Tools => {
            let schema = get("inputSchema").filter(|schema| schema.kind() == object);
            let is_of_objects = schema.is_some_and(says_object);
            match is_of_objects && is_if_there("outputSchema", object) {
                true => None,
                false => Some("`inputSchema` is no schema of type `object`, or `outputSchema` no object"),
            }
        }
        ListKind::Prompts => {
            let arguments = get("arguments").into_iter().flat_map(Value::elements);
            let is_named = |argument: Value<'_>| argument.get("name").is_some_and(|name| name.kind() == text);
            match is_if_there("arguments", ValueKind::Array) && arguments.into_iter().all(is_named) {
                true => None,
                false => Some("`arguments` is no array of objects with a `name`"),
            }
        }
        ListKind::Resources | ListKind::Templates => None,
    }
}

/// Those of an item's members that are looked at: the item is read once, not once for each of them.
fn looked_at(item: Value<'_>) -> [Option<(&'static str, Value<'_>)>; LOOKED_AT.len()] {
    let mut found = [None; LOOKED_AT.len()];
    for (name, value) in item.members() {
        if let Some(place) = LOOKED_AT.iter().position(|known| name.is(known)) {
            found[place] = Some((LOOKED_AT[place], value));
        }
    }
    found
}

/// Whether a schema says that what it describes is an object.
fn says_object(schema: Value<'_>) -> bool {
    schema.get("type").and_then(Value::as_str).as_deref() == Some("object")
}

/// A tool for a caller of a revision in which what a tool puts out is an object (until 2025-11-25): a schema of
/// something else is left out.
pub(super) fn for_legacy(tool: Vec<u8>) -> Vec<u8> {
    let schema = Value::new(&tool).get("outputSchema");
    match schema.is_none_or(says_object) {
        true => tool,
        false => without(Value::new(&tool), "outputSchema"),
    }
}

/// A tool for a caller of the other era than its server: tasks are other ones in each (SEP-2663), so none is offered;
/// and one that runs as a task only cannot be called by who cannot ask for one. That is none.
pub(super) fn for_other_era(tool: Vec<u8>) -> Option<Vec<u8>> {
    let value = Value::new(&tool);
    let Some(execution) = value.get("execution") else { return Some(tool) };
    let support = execution.get("taskSupport").and_then(Value::as_str);
    (support.as_deref() != Some("required")).then(|| without(value, "execution"))
}

/// A server's own list of tools for a caller of the other era; none if nothing in it is to be another.
pub(super) fn tools_for_other_era(result: &[u8], is_modern: bool) -> Option<Vec<u8>> {
    let list = Value::new(result).get("tools").filter(|list| list.kind() == ValueKind::Array)?;
    let mut tools = Vec::with_capacity(list.raw().len());
    let mut array = Array::begin(&mut tools);
    for tool in list.elements() {
        let Some(seen) = for_other_era(tool.raw().to_vec()) else { continue };
        array.raw(&if is_modern { seen } else { for_legacy(seen) });
    }
    array.end();
    let mut out = Vec::with_capacity(result.len());
    splice(&mut out, result, &[(list.span_in(result)?, &tools)]);
    Some(out)
}

/// A tool's result for such a caller: `structuredContent` that is no object is left out.
pub(super) fn result_for_legacy(result: Value<'_>) -> Option<Vec<u8>> {
    let structured = result.get("structuredContent")?;
    (structured.kind() != ValueKind::Object).then(|| without(result, "structuredContent"))
}

/// The text of an object without one member.
pub(super) fn without(object: Value<'_>, member: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.raw().len());
    let mut rest = Object::begin(&mut out);
    for (name, value) in object.members() {
        if let Some(name) = name.unescaped().filter(|name| name != member) {
            rest.raw(&name, value.raw());
        }
    }
    rest.end();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::take_passed;

    #[test]
    fn flaws_are_found_in_every_kind_of_item() {
        let tool = r#"{"name":"a","inputSchema":{"type":"object"}"#;
        for (kind, item, is_good) in [
            (ListKind::Tools, format!("{tool}}}"), true),
            (
                ListKind::Tools,
                format!(r#"{tool},"title":"A","annotations":{{}},"outputSchema":{{"type":"array"}}}}"#),
                true,
            ),
            (ListKind::Tools, r#"{"name":"a"}"#.into(), false),
            (ListKind::Tools, r#"{"name":7,"inputSchema":{"type":"object"}}"#.into(), false),
            (ListKind::Tools, r#"{"name":"a","inputSchema":7}"#.into(), false),
            (ListKind::Tools, r#"{"name":"a","inputSchema":{"type":"array"}}"#.into(), false),
            (ListKind::Tools, format!(r#"{tool},"description":5}}"#), false),
            (ListKind::Tools, format!(r#"{tool},"description":null}}"#), false),
            (ListKind::Tools, format!(r#"{tool},"annotations":[]}}"#), false),
            (ListKind::Tools, format!(r#"{tool},"outputSchema":true}}"#), false),
            (ListKind::Tools, r#""a""#.into(), false),
            (ListKind::Prompts, r#"{"name":"a","arguments":[{"name":"b","required":true}]}"#.into(), true),
            (ListKind::Prompts, r#"{"name":"a","arguments":[{"required":true}]}"#.into(), false),
            (ListKind::Prompts, r#"{"name":"a","arguments":{}}"#.into(), false),
            (ListKind::Resources, r#"{"uri":"a:b","name":"a","mimeType":"text/plain"}"#.into(), true),
            (ListKind::Resources, r#"{"uri":"a:b"}"#.into(), false),
            (ListKind::Resources, r#"{"uri":"a:b","name":"a","mimeType":1}"#.into(), false),
            (ListKind::Templates, r#"{"uriTemplate":"a:{b}","name":"a"}"#.into(), true),
            (ListKind::Templates, r#"{"uri":"a:b","name":"a"}"#.into(), false),
        ] {
            assert_eq!(flaw(kind, Value::new(item.as_bytes())).is_none(), is_good, "{item}");
        }
    }

    #[test]
    fn an_item_is_read_once_and_is_not_too_large() {
        let tool =
            |pad: usize| format!(r#"{{"name":"a","inputSchema":{{"type":"object"}},"x":"{}"}}"#, "x".repeat(pad));
        let item = tool(100_000);
        take_passed();
        assert_eq!(flaw(ListKind::Tools, Value::new(item.as_bytes())), None);
        let passed = take_passed();
        assert!(passed < 2 * item.len(), "{passed} bytes looked at of {}", item.len());
        let most = tool(ITEM_BYTES_MAX - tool(0).len());
        assert_eq!(flaw(ListKind::Tools, Value::new(most.as_bytes())), None);
        let more = most.replace("xx", "xxx");
        assert_eq!(flaw(ListKind::Tools, Value::new(more.as_bytes())), Some(TOO_LARGE));
    }

    #[test]
    fn what_older_revisions_cannot_say_is_left_out() {
        let tool = |schema: &str| format!(r#"{{"name":"a","outputSchema":{schema},"title":"A"}}"#).into_bytes();
        assert_eq!(for_legacy(tool(r#"{"type":"array"}"#)), br#"{"name":"a","title":"A"}"#);
        assert_eq!(for_legacy(tool(r#"{"type":"object"}"#)), tool(r#"{"type":"object"}"#));
        let tasked = |support: &str| format!(r#"{{"name":"a","execution":{{"taskSupport":"{support}"}},"x":1}}"#);
        assert_eq!(for_other_era(tasked("optional").into()).as_deref(), Some(&br#"{"name":"a","x":1}"#[..]));
        assert_eq!(for_other_era(tasked("required").into()), None, "nobody there could call it");
        let list = format!(r#"{{ "tools":[{},{{"name":"b"}}], "nextCursor":"c"}}"#, tasked("required"));
        let seen = tools_for_other_era(list.as_bytes(), true);
        assert_eq!(seen.as_deref(), Some(&br#"{ "tools":[{"name":"b"}], "nextCursor":"c"}"#[..]));
        assert_eq!(tools_for_other_era(b"{}", true), None);
        let result = |text: &str| result_for_legacy(Value::new(text.as_bytes()));
        assert_eq!(result(r#"{"content":[],"structuredContent":[1]}"#).as_deref(), Some(&br#"{"content":[]}"#[..]));
        assert_eq!(result(r#"{"content":[],"structuredContent":{}}"#), None);
        assert_eq!(result(r#"{"content":[]}"#), None);
    }
}
