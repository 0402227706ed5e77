//! `x-mcp-header`: which arguments of a tool its callers repeat in `Mcp-Param-*` headers (2026-07-28, SEP-2243).
//!
//! Not here: comparing a header with the argument (`http1::mirror`), or any other keyword of a schema.
//! Invariant: a schema gives its annotations only if all of them are as the specification wants; of one that is not,
//! the tool must not be listed. What is searched are schemas: in `default`, `enum` and other values nothing is found.

use thiserror::Error;

use crate::limits::{HEADER_PARAM_BYTES_MAX, HTTP_HEADERS_MAX, JSON_DEPTH_MAX};
use crate::proto::http1::is_token;
use crate::proto::json::{Outline, Part, Value, ValueKind};

/// An argument of a tool that its callers repeat in an `Mcp-Param-*` header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderParam {
    /// What follows `Mcp-Param-` in the header's name.
    pub header_suffix: String,
    /// The chain of property names that leads to the argument, from the root of `arguments`.
    pub path: Vec<String>,
    /// How header and argument are compared.
    pub kind: HeaderParamKind,
}

/// The type of an argument that is repeated in a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderParamKind {
    /// `true` or `false`.
    Boolean,
    /// Compared as numbers.
    Integer,
    /// Compared byte for byte, once decoded.
    String,
}

/// Why a tool with this input schema cannot be listed: the annotation, and what it should be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`x-mcp-header` of `{property}`: {fault}")]
pub struct InvalidAnnotation {
    /// Where it stands: names of properties and keywords joined by dots, cut to 120 characters.
    pub property: String,
    /// What is wrong.
    pub fault: AnnotationFault,
}

/// What is wrong with an `x-mcp-header`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AnnotationFault {
    /// It is no string.
    #[error("it must be a string")]
    NotAString,
    /// It is empty or holds a byte that is no token.
    #[error("it must be a header token (RFC 9110)")]
    NotAToken,
    /// The property is of another type, of several, or of none.
    #[error("only strings, integers and booleans can be headers")]
    NotScalar,
    /// Another property has it.
    #[error("another property has the same header; names are compared without case")]
    Repeated,
    /// Its name and the names of the properties that lead to it are long.
    #[error(
        "its name and those of the properties that lead to it have more than {HEADER_PARAM_BYTES_MAX} bytes together"
    )]
    TooLong,
    /// More than one request can have header fields.
    #[error("more than {HTTP_HEADERS_MAX} arguments would be headers, more than a request can have")]
    TooMany,
    /// It is not on a property that `properties` alone lead to.
    #[error("only a property that `properties` alone lead to can be a header")]
    Unreachable,
}

/// The annotations of `input_schema`, a judged JSON text, in their order.
///
/// # Errors
/// The first that is not as it should be.
pub fn annotated(input_schema: &[u8]) -> Result<Vec<HeaderParam>, InvalidAnnotation> {
    // What most schemas are; escapes in the key would be read alike below.
    let may_have_one = memchr::memmem::find(input_schema, b"x-mcp-header").is_some()
        || memchr::memmem::find(input_schema, b"\\u").is_some();
    let mut search = Search { path: Vec::new(), found: Vec::new() };
    if may_have_one {
        search.schema(Outline::of(Value::new(input_schema)).whole(), true)?;
    }
    Ok(search.found)
}

/// Keywords whose value is a schema, or an array of some.
const OF_SCHEMAS: [&str; 17] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "extends",
];
/// Keywords whose value is an object of schemas.
const OF_NAMED_SCHEMAS: [&str; 5] = ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties"];

/// What the value of a keyword is, as far as schemas are in it.
enum Inside {
    NamedSchemas,
    Properties,
    Schemas,
}

struct Search {
    /// Names of properties, and of keywords where they leave the chain of `properties`.
    path: Vec<String>,
    found: Vec<HeaderParam>,
}

impl Search {
    /// One schema; `reachable` if `properties` alone lead to it.
    fn schema(&mut self, schema: Part<'_, '_>, reachable: bool) -> Result<(), InvalidAnnotation> {
        // Judged texts are not deeper; of others this bounds the stack.
        if schema.value.kind() != ValueKind::Object || self.path.len() > JSON_DEPTH_MAX {
            return Ok(());
        }
        let (mut header, mut kind, mut inside) = (None, None, Vec::new());
        for (key, value) in schema.members() {
            let Some(key) = key.unescaped() else { continue };
            match &*key {
                "x-mcp-header" => header = Some(value.value),
                "type" => kind = value.value.as_str(),
                "properties" => inside.push((key, Inside::Properties, value)),
                other if OF_NAMED_SCHEMAS.contains(&other) => inside.push((key, Inside::NamedSchemas, value)),
                other if OF_SCHEMAS.contains(&other) => inside.push((key, Inside::Schemas, value)),
                _ => {}
            }
        }
        if let Some(header) = header {
            self.annotation(header, kind.as_deref(), reachable)?;
        }
        for (key, what, value) in inside {
            match what {
                Inside::Properties => self.named(value, reachable)?,
                Inside::NamedSchemas => self.within(&key, |search| search.named(value, false))?,
                Inside::Schemas => self.within(&key, |search| {
                    search.schema(value, false)?;
                    value.elements().try_for_each(|element| search.schema(element, false))
                })?,
            }
        }
        Ok(())
    }

    fn named(&mut self, schemas: Part<'_, '_>, reachable: bool) -> Result<(), InvalidAnnotation> {
        for (name, schema) in schemas.members() {
            let Some(name) = name.unescaped() else { continue };
            self.within(&name, |search| search.schema(schema, reachable))?;
        }
        Ok(())
    }

    fn within(
        &mut self,
        name: &str,
        search: impl FnOnce(&mut Self) -> Result<(), InvalidAnnotation>,
    ) -> Result<(), InvalidAnnotation> {
        self.path.push(name.to_owned());
        let outcome = search(self);
        self.path.pop();
        outcome
    }

    fn annotation(&mut self, header: Value<'_>, kind: Option<&str>, reachable: bool) -> Result<(), InvalidAnnotation> {
        if !reachable || self.path.is_empty() {
            return Err(self.invalid(AnnotationFault::Unreachable));
        }
        let Some(header_suffix) = header.as_str() else { return Err(self.invalid(AnnotationFault::NotAString)) };
        if !is_token(header_suffix.as_bytes()) {
            return Err(self.invalid(AnnotationFault::NotAToken));
        }
        // A tool that is listed is remembered with all of these, of which one name may be a part of many.
        if header_suffix.len() + self.path.iter().map(String::len).sum::<usize>() > HEADER_PARAM_BYTES_MAX {
            return Err(self.invalid(AnnotationFault::TooLong));
        }
        let kind = match kind {
            Some("boolean") => HeaderParamKind::Boolean,
            Some("integer") => HeaderParamKind::Integer,
            Some("string") => HeaderParamKind::String,
            _ => return Err(self.invalid(AnnotationFault::NotScalar)),
        };
        if self.found.iter().any(|other| other.header_suffix.eq_ignore_ascii_case(&header_suffix)) {
            return Err(self.invalid(AnnotationFault::Repeated));
        }
        if self.found.len() == HTTP_HEADERS_MAX {
            return Err(self.invalid(AnnotationFault::TooMany));
        }
        self.found.push(HeaderParam { header_suffix: header_suffix.into_owned(), path: self.path.clone(), kind });
        Ok(())
    }

    /// The place is shown in messages and logs, and a peer chose its words: it is kept short.
    fn invalid(&self, fault: AnnotationFault) -> InvalidAnnotation {
        const CHARACTERS_MAX: usize = 120;
        let mut property: String = self.path.join(".").chars().take(CHARACTERS_MAX + 1).collect();
        if property.chars().count() > CHARACTERS_MAX {
            property.truncate(property.char_indices().nth(CHARACTERS_MAX).map_or(0, |(at, _)| at));
            property.push_str("...");
        }
        InvalidAnnotation { property, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::{Envelope, Scanner, take_passed};

    fn read(schema: &str) -> Result<Vec<HeaderParam>, InvalidAnnotation> {
        Scanner::new().scan(schema.as_bytes(), &mut Envelope::default()).expect(schema);
        annotated(schema.as_bytes())
    }

    #[test]
    fn annotations_are_found_in_chains_of_properties() {
        let params = read(
            r#"{"type":"object","properties":{
                "region":{"x-mcp-header":"Region","type":"string"},
                "deep":{"type":"object","properties":{"a\"b":{"type":"integer","x-mcp-h\u0065ader":"N!#$%&'*+-.^_`|~"}}},
                "flag":{"type":"boolean","x-mcp-header":"f","default":{"x-mcp-header":"no schema"}}}}"#,
        );
        let param = |header_suffix: &str, path: &[&str], kind| HeaderParam {
            header_suffix: header_suffix.to_owned(),
            path: path.iter().map(|name| (*name).to_owned()).collect(),
            kind,
        };
        let expected = [
            param("Region", &["region"], HeaderParamKind::String),
            param("N!#$%&'*+-.^_`|~", &["deep", "a\"b"], HeaderParamKind::Integer),
            param("f", &["flag"], HeaderParamKind::Boolean),
        ];
        assert_eq!(params.unwrap(), expected);
    }

    #[test]
    fn what_only_looks_like_an_annotation_is_none() {
        for schema in [
            "true",
            "{}",
            r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#,
            r#"{"properties":{"properties":{"type":"object"}},"required":["x-mcp-header"]}"#,
            r#"{"enum":[{"x-mcp-header":"A"}],"const":{"x-mcp-header":"A"},"examples":[{"x-mcp-header":"A"}]}"#,
            r#"{"description":"x-mcp-header","x-other":{"x-mcp-header":7}}"#,
        ] {
            assert_eq!(read(schema), Ok(Vec::new()), "{schema}");
        }
    }

    #[test]
    fn whatever_is_wrong_with_one_invalidates_the_tool() {
        use AnnotationFault::*;
        let property = |property: &str| format!(r#"{{"properties":{{"a":{property}}}}}"#);
        let annotation = r#"{"type":"string","x-mcp-header":"A"}"#;
        let mut cases = vec![
            (property(r#"{"type":"number","x-mcp-header":"A"}"#), "a", NotScalar),
            (property(&format!(r#"{{"type":"string","x-mcp-header":"{}"}}"#, "h".repeat(1024))), "a", TooLong),
            (property(r#"{"type":"array","x-mcp-header":"A"}"#), "a", NotScalar),
            (property(r#"{"type":["string"],"x-mcp-header":"A"}"#), "a", NotScalar),
            (property(r#"{"x-mcp-header":"A"}"#), "a", NotScalar),
            (property(r#"{"type":"string","x-mcp-header":""}"#), "a", NotAToken),
            (property(r#"{"type":"string","x-mcp-header":"A B"}"#), "a", NotAToken),
            (property(r#"{"type":"string","x-mcp-header":"A\r\nX: y"}"#), "a", NotAToken),
            (property(r#"{"type":"string","x-mcp-header":"Ä"}"#), "a", NotAToken),
            (property(r#"{"type":"string","x-mcp-header":"A:"}"#), "a", NotAToken),
            (property(r#"{"type":"string","x-mcp-header":null}"#), "a", NotAString),
            (property(r#"{"type":"string","x-mcp-header":["A"]}"#), "a", NotAString),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"x"},
                    "b":{"properties":{"c":{"type":"string","x-mcp-header":"X"}}}}}"#
                    .to_owned(),
                "b.c",
                Repeated,
            ),
            (annotation.to_owned(), "", Unreachable),
            (property(&format!(r#"{{"items":{annotation}}}"#)), "a.items", Unreachable),
            (property(&format!(r#"{{"items":{{"properties":{{"b":{annotation}}}}}}}"#)), "a.items.b", Unreachable),
        ];
        cases.extend(OF_SCHEMAS.map(|key| (format!(r#"{{"{key}":{annotation}}}"#), key, Unreachable)));
        cases.extend(OF_SCHEMAS.map(|key| (format!(r#"{{"{key}":[true,{annotation}]}}"#), key, Unreachable)));
        for (schema, property, fault) in cases {
            let expected = InvalidAnnotation { property: property.to_owned(), fault };
            assert_eq!(read(&schema), Err(expected), "{schema}");
        }
        for key in OF_NAMED_SCHEMAS {
            let schema = format!(r#"{{"{key}":{{"default":{annotation}}}}}"#);
            let expected = InvalidAnnotation { property: format!("{key}.default"), fault: Unreachable };
            assert_eq!(read(&schema), Err(expected), "{schema}");
        }
    }

    #[test]
    fn the_depth_of_a_schema_costs_nothing() {
        let passed = |depth: usize| {
            let pad = format!(r#"{{"description":"x-mcp-header {}"}}"#, "x".repeat(100_000));
            let (before, behind) = (r#"{"properties":{"p":"#.repeat(depth), "}}".repeat(depth));
            let schema = format!("{before}{pad}{behind}");
            take_passed();
            assert_eq!(annotated(schema.as_bytes()), Ok(Vec::new()));
            take_passed()
        };
        let (shallow, deep) = (passed(2), passed(30));
        assert!(deep < 2 * shallow, "{deep} bytes looked at, {shallow} of one that is not deep");
    }

    #[test]
    fn a_peer_chooses_neither_the_length_of_a_message_nor_the_depth_of_the_stack() {
        let long = format!(r#"{{"properties":{{"{}":{{"x-mcp-header":"A"}}}}}}"#, "ä".repeat(5000));
        assert_eq!(read(&long).unwrap_err().property.chars().count(), 123);
        let message = read(r#"{"not":{"x-mcp-header":"A"}}"#).unwrap_err().to_string();
        assert_eq!(message, "`x-mcp-header` of `not`: only a property that `properties` alone lead to can be a header");
        let many = |count: usize| {
            let properties = (0..count).map(|at| format!(r#""p{at}":{{"type":"string","x-mcp-header":"P{at}"}}"#));
            read(&format!(r#"{{"properties":{{{}}}}}"#, properties.collect::<Vec<_>>().join(",")))
        };
        assert_eq!(many(HTTP_HEADERS_MAX).map(|params| params.len()), Ok(HTTP_HEADERS_MAX));
        assert_eq!(many(HTTP_HEADERS_MAX + 1).map_err(|invalid| invalid.fault), Err(AnnotationFault::TooMany));
        // Nobody judged this.
        let deep = format!("{}{}", r#"{"x-mcp-header":1,"not":"#.repeat(50_000), "}".repeat(50_000));
        assert!(annotated(deep.as_bytes()).is_err());
        let deep = format!("{}\"x-mcp-header\"{}", r#"{"not":"#.repeat(5_000), "}".repeat(5_000));
        assert_eq!(annotated(deep.as_bytes()), Ok(Vec::new()));
    }
}
