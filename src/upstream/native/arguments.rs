//! The arguments of a tool: as they came, or as a Rust value.
//!
//! Not here: the schema that describes them (`schema`).
//! Invariant: the text was scanned before it got here (UTF-8, bounded depth, no duplicate keys), and it is an object.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::proto::json::Value;

/// Arguments as they came: nothing is parsed until somebody looks, and then only what is looked at.
///
/// ```
/// use corelane::{Context, Failure, RawJson, Server, Tool, ToolOutput};
///
/// let schema = r#"{"type":"object","properties":{"data":{"type":"string"}},"required":["data"]}"#;
/// let echo = |arguments: RawJson<'_>, _: &Context, output: &mut ToolOutput<'_>| {
///     let data = arguments.get("data").ok_or_else(|| Failure::new("`data` is missing"))?;
///     output.text_raw(data); // copied, not parsed
///     Ok(())
/// };
/// let server = Server::builder("echo", "1.0").raw_tool(Tool::new("echo"), schema, echo).build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
#[derive(Clone, Copy)]
pub struct RawJson<'a>(Value<'a>);

impl<'a> RawJson<'a> {
    pub(super) fn new(text: &'a [u8]) -> RawJson<'a> {
        RawJson(Value::new(text))
    }

    /// The text, an object.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0.raw()
    }

    /// An argument by its name.
    #[inline]
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.0.get(name)
    }

    /// A string argument, unescaped (borrowed if there was nothing to unescape).
    pub fn str(self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name)?.as_str()
    }

    /// All of them as a Rust value.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Failure> {
        parse(self.as_bytes())
    }
}

/// Arguments as they came, for a handler that outlives them: a copy.
#[derive(Clone)]
pub struct RawArguments(Box<[u8]>);

impl RawArguments {
    pub(super) fn new(json: RawJson<'_>) -> RawArguments {
        RawArguments(json.as_bytes().into())
    }

    /// To be looked at.
    pub fn json(&self) -> RawJson<'_> {
        RawJson::new(&self.0)
    }
}

/// For tools without arguments; whatever is sent is ignored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
pub struct NoArguments {}

/// The one place where arguments become Rust values.
///
/// `serde_json`, not `simd-json` on a copy with reused buffers: which is faster depends on the text and the machine
/// (0.5 to 1.3 times in bench/results/choices.md and second_host/choices.md, `scripts/choices --only parsers`), and
/// this one needs no copy and no buffers per core.
pub(super) fn parse<T: DeserializeOwned>(arguments: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(arguments).map_err(|error| {
        let mut text = error.to_string();
        // Its position counts from the arguments' first byte, which the model never saw as such.
        if let Some(at) = text.rfind(" at line ") {
            text.truncate(at);
        }
        Failure::arguments(format!("Invalid arguments: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Search {
        query: String,
        limit: u32,
        exact: bool,
        tags: Vec<String>,
    }

    #[test]
    fn what_is_wrong_with_arguments_is_said() {
        let failure = parse::<Search>(br#"{"query":"a","limit":-1,"exact":true,"tags":[]}"#).expect_err("negative");
        assert_eq!(failure.to_string(), "Invalid arguments: invalid value: integer `-1`, expected u32");
        let failure = parse::<Search>(br#"{"query":"a"}"#).expect_err("incomplete");
        assert_eq!(failure.to_string(), "Invalid arguments: missing field `limit`");
    }
}
