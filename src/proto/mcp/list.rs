//! Results of list methods, as a gateway reads them: where the items are, what they are called, what page comes next.
//!
//! Not here: which items are shown to whom and under what names (`naming` and `glob` help with that).
//! Invariant: every span is of the result's text, so that what is not rewritten goes on as it came. An item that is not
//! what the revision wants is still an item, with spans absent; whoever shows it decides.

use thiserror::Error;

use crate::proto::json::{Elements, Span, Value, ValueKind};

/// What a list lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Listed {
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
    /// `tools/list`
    Tools,
}

impl Listed {
    /// The member of the result that has the items.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Tools => "tools",
        }
    }
}

/// Why a result is no list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ListError {
    /// `nextCursor` is neither a string nor null.
    #[error("`nextCursor` of the list is no string")]
    Cursor,
    /// The member that has the items is missing or no array.
    #[error("the result has no array `{}`", .0.member())]
    Items(Listed),
    /// The result is no object.
    #[error("the result of a list method is no object")]
    Result,
}

/// One page of a list. Spans are those of the text it was read from, quotes and brackets included, or absent.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// The array of items.
    pub items: Span,
    /// A string. `null` counts as absent: some servers end their lists that way.
    pub next_cursor: Span,
    /// `ttlMs`: how long the page may be kept; a number, as it stands.
    pub ttl_ms: Span,
    /// `cacheScope`, a string.
    pub cache_scope: Span,
    text: &'a [u8],
    elements: Elements<'a>,
}

impl<'a> Page<'a> {
    /// Reads `result`, the judged text of a list's result.
    ///
    /// # Errors
    /// It is no list of that kind.
    pub fn read(listed: Listed, result: &'a [u8]) -> Result<Self, ListError> {
        let value = Value::new(result);
        if value.kind() != ValueKind::Object {
            return Err(ListError::Result);
        }
        let mut items = None;
        let (mut next_cursor, mut ttl_ms, mut cache_scope) = (Span::default(), Span::default(), Span::default());
        for (key, value) in value.members() {
            if key.is(listed.member()) && value.kind() == ValueKind::Array {
                items = Some(value);
            } else if key.is("nextCursor") && !value.is_null() {
                next_cursor = of_kind(value, ValueKind::String, result).ok_or(ListError::Cursor)?;
            } else if key.is("ttlMs") {
                ttl_ms = of_kind(value, ValueKind::Number, result).unwrap_or_default();
            } else if key.is("cacheScope") {
                cache_scope = of_kind(value, ValueKind::String, result).unwrap_or_default();
            }
        }
        let array = items.ok_or(ListError::Items(listed))?;
        let items = array.span_in(result).ok_or(ListError::Items(listed))?;
        Ok(Self { items, next_cursor, ttl_ms, cache_scope, text: result, elements: array.elements() })
    }

    /// The items, in their order.
    pub fn items(&self) -> impl Iterator<Item = Item> + use<'a> {
        let text = self.text;
        self.elements.clone().map(move |element| Item::read(element, text))
    }
}

/// One item of a list. Spans are those of the result's text, quotes and brackets included; absent also where a member
/// is of a wrong type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Item {
    /// All of it.
    pub whole: Span,
    /// `name`, a string.
    pub name: Span,
    /// `title`, a string.
    pub title: Span,
    /// `description`, a string.
    pub description: Span,
    /// `uri` of a resource, a string.
    pub uri: Span,
    /// `uriTemplate` of a template, a string.
    pub uri_template: Span,
    /// `inputSchema` of a tool, an object.
    pub input_schema: Span,
    /// `outputSchema` of a tool, an object.
    pub output_schema: Span,
}

impl Item {
    fn read(element: Value<'_>, text: &[u8]) -> Self {
        let mut item = Self { whole: element.span_in(text).unwrap_or_default(), ..Self::default() };
        for (key, value) in element.members() {
            let (slot, kind) = match key.as_plain() {
                Some("name") => (&mut item.name, ValueKind::String),
                Some("title") => (&mut item.title, ValueKind::String),
                Some("description") => (&mut item.description, ValueKind::String),
                Some("uri") => (&mut item.uri, ValueKind::String),
                Some("uriTemplate") => (&mut item.uri_template, ValueKind::String),
                Some("inputSchema") => (&mut item.input_schema, ValueKind::Object),
                Some("outputSchema") => (&mut item.output_schema, ValueKind::Object),
                _ => continue,
            };
            *slot = of_kind(value, kind, text).unwrap_or_default();
        }
        item
    }
}

fn of_kind(value: Value<'_>, kind: ValueKind, text: &[u8]) -> Option<Span> {
    if value.kind() == kind { value.span_in(text) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::splice;

    fn texts<'a>(result: &'a [u8], spans: &[Span]) -> Vec<&'a str> {
        spans.iter().map(|span| std::str::from_utf8(span.of(result)).unwrap()).collect()
    }

    #[test]
    fn tools_are_found_where_they_stand() {
        let result =
            br#" {"resultType":"complete", "tools": [ {"name":"a\u0062","title":"T","inputSchema":{"type":"object"},
            "description":"x","outputSchema":{},"annotations":{"name":"no"}} ,{"inputSchema":[],"name":7}, 5 ],
            "nextCursor" : "c\n1", "ttlMs":250,"cacheScope":"public","_meta":{"tools":[1]}}"#;
        let page = Page::read(Listed::Tools, result).unwrap();
        assert_eq!(
            texts(result, &[page.next_cursor, page.ttl_ms, page.cache_scope]),
            [r#""c\n1""#, "250", "\"public\""]
        );
        assert!(page.items.of(result).starts_with(b"[ {") && page.items.of(result).ends_with(b"5 ]"));
        let items: Vec<Item> = page.items().collect();
        assert_eq!(items.len(), 3);
        let first = items[0];
        assert_eq!(
            texts(result, &[first.name, first.title, first.description, first.input_schema, first.output_schema]),
            [r#""a\u0062""#, "\"T\"", "\"x\"", r#"{"type":"object"}"#, "{}"]
        );
        assert!(first.uri.is_absent() && first.uri_template.is_absent());
        assert_eq!(Value::new(first.whole.of(result)).get("name").and_then(Value::as_str).as_deref(), Some("ab"));
        assert_eq!(items[1], Item { whole: items[1].whole, ..Item::default() }, "wrong types are absent");
        assert_eq!(items[2].whole.of(result), b"5");
    }

    #[test]
    fn each_kind_has_its_member() {
        for (listed, item) in [
            (Listed::Prompts, r#"{"name":"p"}"#),
            (Listed::Resources, r#"{"uri":"file:///a","name":"r"}"#),
            (Listed::Templates, r#"{"uriTemplate":"file:///{x}","name":"t"}"#),
            (Listed::Tools, r#"{"name":"t"}"#),
        ] {
            let result = format!(r#"{{"{}":[{item}]}}"#, listed.member());
            let result = result.as_bytes();
            let items: Vec<Item> = Page::read(listed, result).unwrap().items().collect();
            assert_eq!((items.len(), items[0].whole.of(result)), (1, item.as_bytes()));
            assert_eq!(items[0].uri.is_absent(), listed != Listed::Resources);
            assert_eq!(items[0].uri_template.is_absent(), listed != Listed::Templates);
            for other in [Listed::Prompts, Listed::Resources, Listed::Templates, Listed::Tools] {
                let verdict = Page::read(other, result).map(|page| page.items().count());
                assert_eq!(verdict, if other == listed { Ok(1) } else { Err(ListError::Items(other)) });
            }
        }
    }

    #[test]
    fn what_is_no_list_says_why() {
        let read = |result: &str| Page::read(Listed::Tools, result.as_bytes()).map(|page| page.next_cursor);
        assert_eq!(read(r#"{"tools":[],"nextCursor":null}"#), Ok(Span::default()));
        assert_eq!(read(r#"{"tools":[],"nextCursor":7}"#), Err(ListError::Cursor));
        assert_eq!(read(r#"{"tools":{}}"#), Err(ListError::Items(Listed::Tools)));
        assert_eq!(read("[]"), Err(ListError::Result));
        assert_eq!(ListError::Items(Listed::Templates).to_string(), "the result has no array `resourceTemplates`");
        // Unjudged text ends as well.
        for text in ["", "{\"tools\":[", "{\"tools\":[}", "{\"tools\":[{\"name\":\"]}"] {
            let _ = Page::read(Listed::Tools, text.as_bytes()).map(|page| page.items().count());
        }
    }

    #[test]
    fn names_are_rewritten_and_nothing_else() {
        let result = br#"{"tools":[{"x-kept":1.0e0,"name":"a"},{"name":"b" }], "nextCursor":"1"}"#;
        let page = Page::read(Listed::Tools, result).unwrap();
        let mut edits: Vec<(Span, &[u8])> = page.items().map(|item| (item.name, &b"\"s_x\""[..])).collect();
        edits.push((page.next_cursor, b"\"2\""));
        let mut out = Vec::new();
        splice(&mut out, result, &edits);
        assert_eq!(out, br#"{"tools":[{"x-kept":1.0e0,"name":"s_x"},{"name":"s_x" }], "nextCursor":"2"}"#);
    }
}
