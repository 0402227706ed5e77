//! JSON Schemas: derived from types, checked when written by hand, searched for `x-mcp-header`.
//!
//! Not here: validation of values against them (serde does that for typed tools, raw tools do it themselves).
//! Invariant: a schema written by hand goes out as it was written; only line breaks between its tokens become spaces,
//! because a message is one line.

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::ask::one_line;
use crate::proto::json::{Envelope, Scanner};
use crate::proto::mcp::{HeaderParam, InvalidAnnotation, annotated};

/// Why a schema cannot be an input schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// `x-mcp-header` on something that cannot be a header.
    #[error(transparent)]
    Header(#[from] InvalidAnnotation),
    /// The root is not `"type":"object"`.
    #[error("the root of an input schema must say \"type\":\"object\"")]
    Root,
}

/// The schema of a type.
pub(super) fn of<T: JsonSchema>() -> String {
    value_of::<T>().to_string()
}

fn value_of<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The input schema of a type; types that allow anything (`serde_json::Value`) still want an object.
pub(super) fn input_of<T: JsonSchema>() -> Result<String, SchemaError> {
    let mut value = value_of::<T>();
    if value == Value::Bool(true) {
        value = Value::Object(Map::new());
    }
    let root = value.as_object_mut().ok_or(SchemaError::Root)?;
    let is_open = ["type", "$ref", "enum", "const"].iter().all(|key| !root.contains_key(*key));
    if is_open {
        root.insert("type".to_owned(), Value::from("object"));
    }
    check_input(&value.to_string())
}

/// Checks an input schema; returns it on one line.
pub(super) fn check_input(text: &str) -> Result<String, SchemaError> {
    let value: Value = serde_json::from_str(text).map_err(|error| SchemaError::Json(error.to_string()))?;
    if value.get("type").and_then(Value::as_str) != Some("object") {
        return Err(SchemaError::Root);
    }
    Ok(one_line(text.to_owned()))
}

/// Checks an output schema; returns it on one line and whether its root is an object (others are modern only).
pub(super) fn check_output(text: &str) -> Result<(String, bool), SchemaError> {
    let value: Value = serde_json::from_str(text).map_err(|error| SchemaError::Json(error.to_string()))?;
    let is_object = value.get("type").and_then(Value::as_str) == Some("object");
    Ok((one_line(text.to_owned()), is_object))
}

/// The properties of an input schema that are repeated in headers.
pub(super) fn header_params(text: &str) -> Result<Vec<HeaderParam>, SchemaError> {
    // As strictly as a gateway in front of us will: a schema that readers could take for two is nobody's.
    let judged = Scanner::new().scan(text.as_bytes(), &mut Envelope::default());
    judged.map_err(|error| SchemaError::Json(error.to_string()))?;
    Ok(annotated(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_params_are_read_of_judged_schemas() {
        let params = header_params(r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#);
        assert_eq!(params.expect("valid")[0].path, ["region"]);
        let refused = |schema: &str| header_params(schema).expect_err(schema).to_string();
        let message = refused(r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#);
        assert_eq!(message, "`x-mcp-header` of `a`: only strings, integers and booleans can be headers");
        // serde_json would take the last, another reader the first.
        let twice = r#"{"properties":{"a":{"type":"string","type":"number","x-mcp-header":"A"}}}"#;
        assert!(refused(twice).starts_with("it is not JSON: the key at byte 36"), "{}", refused(twice));
    }

    #[test]
    fn input_schemas_are_objects_and_kept_as_written() {
        let text = "{ \"type\" : \"object\",\n  \"x\":1 }";
        assert_eq!(check_input(text).expect("valid"), text.replace('\n', " "));
        assert_eq!(check_input(r#"{"type":"string"}"#), Err(SchemaError::Root));
        assert!(matches!(check_input("{"), Err(SchemaError::Json(_))));
        assert!(input_of::<Value>().expect("an object").contains(r#""type":"object""#));
        assert_eq!(input_of::<u32>(), Err(SchemaError::Root));
    }
}
