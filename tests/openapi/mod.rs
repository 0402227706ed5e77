//! The document of the administration API, and whether an answer is what it says: for `wire`, and for `boot`'s tests of
//! what only an embedding program has.
//!
//! Not a validator of JSON Schema: it knows the few words that the document uses. Invariant: a word that it does not
//! know, and a member of an answer that the document does not name, fail, so nothing goes unlooked at.

use std::collections::BTreeSet;

use serde_json::Value;

/// The document.
pub struct Document(Value);

impl Document {
    pub fn read() -> Document {
        Document(serde_json::from_str(include_str!("../../src/control/openapi.json")).expect("JSON"))
    }

    /// Every answer with a body that is described, as `get /path 200`.
    pub fn answers(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (path, item) in self.0["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let responses = operation["responses"].as_object().expect("responses").iter();
                let with_body = responses.filter(|(_, response)| response.get("content").is_some());
                all.extend(with_body.map(|(status, _)| format!("{method} {path} {status}")));
            }
        }
        all
    }

    /// Looks whether an answer is one that is described, and which. Answers to what is no operation are nobody's.
    ///
    /// # Panics
    /// If it is another.
    pub fn hold(&self, method: &str, target: &str, status: u16, body: &Value) -> Option<String> {
        let method = method.to_ascii_lowercase();
        let paths = self.0["paths"].as_object().expect("paths");
        let (path, item) = paths.iter().find(|(path, item)| item.get(&method).is_some() && fits(path, target))?;
        let place = format!("{method} {path} {status}");
        let response = &item[&method]["responses"][status.to_string()];
        assert!(response.is_object(), "{place} is not described: {body}");
        match response.get("content") {
            Some(content) => self.judge(&place, &content["application/json"]["schema"], body),
            None => assert!(status >= 300 || body.is_null(), "{place} has a body that is not described: {body}"),
        }
        Some(place)
    }

    fn judge(&self, place: &str, schema: &Value, value: &Value) {
        let words = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema but {schema}"));
        for (word, said) in words {
            match &**word {
                "description" => {}
                "$ref" => {
                    let pointer = said.as_str().and_then(|said| said.strip_prefix('#')).expect("within the document");
                    let schema = self.0.pointer(pointer).unwrap_or_else(|| panic!("{place}: nothing at {pointer}"));
                    self.judge(place, schema, value);
                }
                "enum" => {
                    assert!(said.as_array().expect("a list").contains(value), "{place}: {value} is not in {said}")
                }
                "type" => {
                    let types = said.as_array().map_or_else(|| vec![said], |types| types.iter().collect());
                    let fits = types.iter().any(|one| is_a(one.as_str().expect("a word"), value));
                    assert!(fits, "{place}: {value} is no {said}");
                }
                "minimum" => assert!(value.as_f64() >= said.as_f64(), "{place}: {value} is less than {said}"),
                "required" => {
                    for name in said.as_array().expect("a list") {
                        let is_there = value.get(name.as_str().expect("a name")).is_some();
                        assert!(is_there, "{place}: {name} is missing in {value}");
                    }
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        let schema = said.get(name).unwrap_or_else(|| panic!("{place}: {name} is not described"));
                        self.judge(&format!("{place} {name}"), schema, value);
                    }
                }
                "additionalProperties" => assert_eq!(said, &Value::Bool(true), "{place}: only said where all may be"),
                "items" => {
                    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                        self.judge(&format!("{place} {index}"), said, value);
                    }
                }
                other => panic!("{place}: {other} is not known here; teach it, or say it otherwise"),
            }
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("{other} is no type"),
    }
}

fn fits(path: &str, target: &str) -> bool {
    let (mut parts, mut asked) = (path.split('/'), target.split('/'));
    loop {
        match (parts.next(), asked.next()) {
            (None, None) => return true,
            (Some(part), Some(one)) if part == one || part.starts_with('{') && !one.is_empty() => {}
            _ => return false,
        }
    }
}
