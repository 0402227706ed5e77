//! Tools: their description and their handlers.
//!
//! Not here: the call itself (`service`).
//! Invariant: a tool's handler is called with arguments that are an object.

use std::future::Future;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::arguments::{self, RawArguments, RawJson};
use super::context::Context;
use super::failure::{Asked, Failure};
use super::label::{Label, labelled};
use super::outcome::{Outcome, Rendered};
use super::output::{IntoToolResult, ToolOutput, error_result};
use crate::proto::json::Object;
use crate::proto::mcp::{HeaderParam, Version};
use crate::server::service::LocalFuture;

/// What a tool is called and how it presents itself.
///
/// ```
/// use corelane::{Icon, TaskSupport, Tool};
///
/// let tool = Tool::new("rename")
///     .title("Rename a file")
///     .description("Renames a file in the working folder")
///     .icon(Icon::new("https://example.com/rename.png").size("48x48"))
///     .destructive(false)
///     .idempotent(true)
///     .task_support(TaskSupport::Optional);
/// # let _ = tool;
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Tool {
    pub(super) name: String,
    pub(super) label: Label,
    pub(super) task_support: TaskSupport,
    pub(super) becomes_task: bool,
    pub(super) output_schema: Option<String>,
    hints: [Option<bool>; 4],
}

/// Whether a tool may run as a task.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum TaskSupport {
    /// It answers calls.
    #[default]
    Forbidden,
    /// It runs as a task where the client can follow one, as an ordinary call elsewhere.
    Optional,
    /// It runs as a task or not at all.
    Required,
}

const HINTS: [&str; 4] = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

labelled!(Tool);

impl Tool {
    /// A tool with this name: 1 to 64 letters, digits, `_`, `.`, `-`, `/`.
    pub fn new(name: impl Into<String>) -> Tool {
        Tool {
            name: name.into(),
            label: Label::default(),
            task_support: TaskSupport::default(),
            becomes_task: false,
            output_schema: None,
            hints: [None; 4],
        }
    }

    /// Hint: it changes nothing.
    pub fn read_only(mut self, is: bool) -> Tool {
        self.hints[0] = Some(is);
        self
    }

    /// Hint: it may destroy something.
    pub fn destructive(mut self, is: bool) -> Tool {
        self.hints[1] = Some(is);
        self
    }

    /// Hint: doing it twice is doing it once.
    pub fn idempotent(mut self, is: bool) -> Tool {
        self.hints[2] = Some(is);
        self
    }

    /// Hint: it works on the world outside.
    pub fn open_world(mut self, is: bool) -> Tool {
        self.hints[3] = Some(is);
        self
    }

    /// Whether it may run as a task; only asynchronous tools can. See also [`becomes_task`](Tool::becomes_task).
    pub fn task_support(mut self, support: TaskSupport) -> Tool {
        self.task_support = support;
        self
    }

    /// It begins as an ordinary call, which can ask the client in the ordinary way, and becomes a task when its handler
    /// says so with [`Context::become_task`].
    pub fn becomes_task(mut self) -> Tool {
        self.becomes_task = true;
        self
    }

    /// The JSON Schema of `structuredContent`, for results whose type does not say it.
    pub fn output_schema(mut self, schema: impl Into<String>) -> Tool {
        self.output_schema = Some(schema.into());
        self
    }

    /// Appends the entry of `tools/list`.
    pub(super) fn write(&self, out: &mut Vec<u8>, input: &str, output: Option<&(String, bool)>, version: Version) {
        let mut object = Object::begin(out);
        object.string("name", &self.name);
        self.label.write_head(&mut object, version);
        object.raw("inputSchema", input.as_bytes());
        if let Some((schema, is_object)) = output
            && (version.is_modern() || (*is_object && version >= Version::V2025_06_18))
        {
            object.raw("outputSchema", schema.as_bytes());
        }
        if version >= Version::V2025_03_26 && self.hints.iter().any(Option::is_some) {
            let mut annotations = object.object("annotations");
            for (name, hint) in HINTS.iter().zip(self.hints) {
                if let Some(hint) = hint {
                    annotations.boolean(name, hint);
                }
            }
        }
        // In the extension the server alone decides; the member is of 2025-11-25 only.
        if version == Version::V2025_11_25 && self.task_support != TaskSupport::Forbidden {
            let support = if self.task_support == TaskSupport::Required { "required" } else { "optional" };
            object.object("execution").string("taskSupport", support);
        }
        self.label.write_tail(&mut object, version);
        object.end();
    }
}

pub(super) type PlainTool<S> =
    Box<dyn Fn(RawJson<'_>, &Context<S>, &mut ToolOutput<'_>) -> Result<(), Failure> + Send + Sync>;
pub(super) type AsyncTool<S> =
    Box<dyn Fn(RawJson<'_>, Context<S>) -> Result<LocalFuture<Outcome>, Failure> + Send + Sync>;

pub(super) enum ToolHandler<S> {
    Async(AsyncTool<S>),
    Plain(PlainTool<S>),
}

/// A tool, ready to be called.
pub(super) struct ToolEntry<S> {
    pub tool: Tool,
    pub input_schema: String,
    pub output_schema: Option<(String, bool)>,
    pub header_params: Vec<HeaderParam>,
    pub handler: ToolHandler<S>,
}

pub(super) fn plain<S, A, R, F>(handler: F) -> ToolHandler<S>
where
    A: DeserializeOwned + JsonSchema,
    R: IntoToolResult,
    F: Fn(A, &Context<S>) -> R + Send + Sync + 'static,
{
    ToolHandler::Plain(Box::new(move |raw, ctx, output| handler(arguments::parse(raw.as_bytes())?, ctx).write(output)))
}

pub(super) fn asynchronous<S, A, R, F, Fut>(handler: F) -> ToolHandler<S>
where
    A: DeserializeOwned + JsonSchema,
    R: IntoToolResult,
    F: Fn(A, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + 'static,
    S: 'static,
{
    ToolHandler::Async(Box::new(move |raw, ctx| {
        let version = ctx.version();
        let future = handler(arguments::parse(raw.as_bytes())?, ctx);
        Ok(Box::pin(async move { render(future.await, version) }))
    }))
}

pub(super) fn asynchronous_raw<S, R, F, Fut>(handler: F) -> ToolHandler<S>
where
    R: IntoToolResult,
    F: Fn(RawArguments, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + 'static,
    S: 'static,
{
    ToolHandler::Async(Box::new(move |raw, ctx| {
        let version = ctx.version();
        let future = handler(RawArguments::new(raw), ctx);
        Ok(Box::pin(async move { render(future.await, version) }))
    }))
}

/// What a tool returned, as an outcome.
fn render(result: impl IntoToolResult, version: Version) -> Outcome {
    let mut members = Vec::new();
    let mut output = ToolOutput::begin(&mut members, version);
    match result.write(&mut output) {
        Ok(()) => {
            let meta = output.finish();
            Ok(Rendered { members, meta })
        }
        Err(failure) => settle(failure, version),
    }
}

/// What is told about a tool that failed.
pub(super) fn settle(failure: Failure, version: Version) -> Outcome {
    failure.settle(Asked::Tool, version).map(|text| error_result(&text, version))
}

/// Whether a name fits every client: providers cap names at 64.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte))
}
