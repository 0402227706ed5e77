//! JSON Schemas: derived from types, checked when written by hand, searched for `x-mcp-header`.
//!
//! Not here: validation of values against them (serde does that for typed tools, raw tools do it themselves).
//! Invariant: a schema written by hand goes out as it was written; only line breaks between its tokens become spaces,
//! because a message is one line.

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::ask::one_line;
use crate::server::service::{HeaderParam, HeaderParamKind};

/// Why a schema cannot be an input schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// `x-mcp-header` on something that cannot be a header.
    #[error("`x-mcp-header` of `{property}`: {reason}")]
    Header {
        /// The property.
        property: String,
        /// What is wrong.
        reason: &'static str,
    },
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
    let value: Value = serde_json::from_str(text).map_err(|error| SchemaError::Json(error.to_string()))?;
    let mut found = Vec::new();
    collect(&value, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<HeaderParam>) -> Result<(), SchemaError> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header") {
            let param = header_param(header, property, path)
                .map_err(|reason| SchemaError::Header { property: path.join("."), reason })?;
            if found.iter().any(|other| other.header_suffix.eq_ignore_ascii_case(&param.header_suffix)) {
                let reason = "another property has the same header; names are compared without case";
                return Err(SchemaError::Header { property: path.join("."), reason });
            }
            found.push(param);
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

fn header_param(header: &Value, property: &Value, path: &[String]) -> Result<HeaderParam, &'static str> {
    let suffix = header.as_str().ok_or("it must be a string")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if suffix.is_empty() || !suffix.bytes().all(is_token) {
        return Err("it must be a header token (RFC 9110)");
    }
    let kind = match property.get("type").and_then(Value::as_str) {
        Some("boolean") => HeaderParamKind::Boolean,
        Some("integer") => HeaderParamKind::Integer,
        Some("string") => HeaderParamKind::String,
        _ => return Err("only strings, integers and booleans can be headers"),
    };
    Ok(HeaderParam { header_suffix: suffix.to_owned(), path: path.to_vec(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_params_are_found_in_chains_of_properties() {
        let schema = r#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}"#;
        let mut params = header_params(schema).expect("valid");
        params.sort_by(|a, b| a.header_suffix.cmp(&b.header_suffix));
        assert_eq!(params[0].path, ["deep", "n"]);
        assert_eq!((params[0].kind, params[1].kind), (HeaderParamKind::Integer, HeaderParamKind::String));
        let refused = |schema: &str| header_params(schema).expect_err(schema);
        refused(r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#);
        refused(r#"{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}"#);
        refused(
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"x"},"b":{"type":"string","x-mcp-header":"X"}}}"#,
        );
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
