//! What the headers of a request repeat of its body, so that whoever routes need not read it (2026-07-28, SEP-2243).
//!
//! Not here: checking what callers send (`server::modern`). Invariant: a header says exactly what the body says.

use std::borrow::Cow;

use super::breaking::says_it_may_be_repeated;
use super::request::Outgoing;
use super::server::Server;
use crate::proto::http1::mcp_params;
use crate::proto::json::{Key, Value, ValueKind};
use crate::proto::mcp::{HeaderParam, Method, annotated};
use crate::server::service::Nanos;

/// What headers repeat of a call: its name, and arguments by the end of their header's name.
#[derive(Default)]
pub(super) struct Mirrors<'a> {
    pub name: Option<Cow<'a, str>>,
    pub params: Vec<(&'a str, Cow<'a, str>)>,
    /// Those that nothing is known of here: they are between the caller and the server, and go on as they came
    /// (2026-07-28, "Custom Headers": intermediaries forward them).
    pub passed_on: Vec<(&'a str, &'a [u8])>,
    /// What is left of the time that its caller chose, to servers of either era.
    pub time_left: Option<Nanos>,
}

/// The `Mcp-Param-*` among some field lines, as lines.
pub(super) fn param_lines(field_lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (suffix, value) in mcp_params(field_lines) {
        for part in [PARAM.as_bytes(), suffix.as_bytes(), b":", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out
}

/// Says in milliseconds how long its sender waits for a call; our own, of which MCP knows nothing.
pub(super) const TIME_LEFT: &str = "X-Request-Timeout-Ms";
/// What the names of such headers begin with.
pub(super) const PARAM: &str = "Mcp-Param-";

impl Server {
    /// What headers repeat of a call (2026-07-28, "Standard Request Headers", "Custom Headers").
    pub(super) fn mirrors<'a>(&'a self, call: &Outgoing<'a>) -> Mirrors<'a> {
        let name = mirrored(call);
        let tool = name.as_deref().filter(|_| call.method == Method::ToolsCall);
        let params = tool.map_or(&[][..], |tool| self.header_params(tool));
        let arguments = call.envelope.value(Key::Arguments, call.text);
        let value = |param: &'a HeaderParam| {
            let value = param.path.iter().fold(arguments, |value, name| value?.get(name))?;
            match value.kind() {
                ValueKind::String => value.as_str(),
                ValueKind::Bool | ValueKind::Number => std::str::from_utf8(value.raw()).ok().map(Cow::Borrowed),
                _ => None,
            }
        };
        let is_known = |suffix: &str| params.iter().any(|param| param.header_suffix.eq_ignore_ascii_case(suffix));
        let passed_on = mcp_params(call.param_lines).filter(|(suffix, _)| !is_known(suffix)).collect();
        let params = params.iter().filter_map(|param| Some((param.header_suffix.as_str(), value(param)?))).collect();
        Mirrors { name, params, passed_on, time_left: None }
    }

    /// The arguments of one of its tools that are repeated in headers.
    pub fn header_params(&self, tool: &str) -> &[HeaderParam] {
        self.annotations.get(tool).map_or(&[], Vec::as_slice)
    }

    /// Reads which arguments of its tools are repeated in headers. A tool that says so wrongly is taken out, since
    /// nobody could call it rightly (2026-07-28, "Custom Headers": clients leave such tools out).
    pub fn note_annotations(&mut self, tools: &mut Vec<Box<[u8]>>) {
        self.annotations.clear();
        let left_out_before = std::mem::take(&mut self.left_out);
        self.repeatable.clear();
        tools.retain(|tool| {
            let tool = Value::new(tool);
            let schema = tool.get("inputSchema").map(Value::raw).unwrap_or_default();
            let Some(name) = tool.get("name").and_then(Value::as_str) else { return true };
            if self.settings.trusts_annotations && says_it_may_be_repeated(tool) {
                self.repeatable.insert((*name).into());
            }
            match annotated(schema) {
                Ok(params) if params.is_empty() => true,
                Ok(params) => {
                    self.annotations.insert((*name).into(), params);
                    true
                }
                Err(error) => {
                    let server = &*self.settings.name;
                    if !left_out_before.contains(&*name) {
                        tracing::warn!(server, tool = &*name, "a tool is left out: nobody could call it: {error}");
                    }
                    self.left_out.insert((*name).into());
                    false
                }
            }
        });
    }
}

/// What `Mcp-Name` says of a call (2026-07-28, "Standard Request Headers").
fn mirrored<'a>(call: &Outgoing<'a>) -> Option<Cow<'a, str>> {
    let key = match call.method {
        Method::ToolsCall | Method::PromptsGet => Key::Name,
        Method::ResourcesRead => Key::Uri,
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => Key::TaskId,
        _ => return None,
    };
    match call.name {
        Some(name) => Some(name.into()),
        None => call.envelope.str(key, call.text),
    }
}
