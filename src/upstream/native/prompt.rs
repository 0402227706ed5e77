//! Prompts: their description, their handlers, and the completion of arguments.
//!
//! Not here: the call itself (`service`).
//! Invariant: a handler is called only when every argument that is required is there.

use std::future::Future;

use super::content::Content;
use super::context::Context;
use super::failure::{Asked, Failure};
use super::label::{Label, labelled};
use super::outcome::{Outcome, Rendered};
use crate::proto::json::{Object, Value};
use crate::proto::mcp::Version;
use crate::server::service::LocalFuture;

/// A prompt.
///
/// ```
/// use corelane::{Context, Prompt, PromptArgument, PromptArguments, Server};
///
/// let server = Server::builder("reviewer", "1.0")
///     .prompt(
///         Prompt::new("review")
///             .description("Reviews a file")
///             .argument(PromptArgument::new("language").required())
///             .argument(PromptArgument::new("tone").description("friendly by default")),
///         |arguments: &PromptArguments, _: &Context| {
///             let tone = arguments.get("tone").unwrap_or("friendly");
///             format!("Review this {} file in a {tone} tone.", &arguments["language"])
///         },
///     )
///     .complete_prompt("review", "language", |completing, _| {
///         let known = ["c", "rust", "zig"];
///         known.into_iter().filter(|name| name.starts_with(completing.value())).map(String::from).collect()
///     })
///     .build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Prompt {
    pub(super) name: String,
    pub(super) arguments: Vec<PromptArgument>,
    pub(super) label: Label,
}

/// An argument of a prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromptArgument {
    pub(super) name: String,
    title: Option<String>,
    description: Option<String>,
    required: bool,
}

labelled!(Prompt);

impl Prompt {
    /// A prompt with this name.
    pub fn new(name: impl Into<String>) -> Prompt {
        Prompt { name: name.into(), arguments: Vec::new(), label: Label::default() }
    }

    /// Adds an argument; a name alone is one that may be left out.
    pub fn argument(mut self, argument: impl Into<PromptArgument>) -> Prompt {
        self.arguments.push(argument.into());
        self
    }

    pub(super) fn missing(&self, arguments: &PromptArguments) -> Option<&str> {
        let mut required = self.arguments.iter().filter(|argument| argument.required);
        required.find(|argument| arguments.get(&argument.name).is_none()).map(|argument| argument.name.as_str())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: Version) {
        let mut object = Object::begin(out);
        object.string("name", &self.name);
        self.label.write_head(&mut object, version);
        if !self.arguments.is_empty() {
            let mut array = object.array("arguments");
            for argument in &self.arguments {
                let mut entry = array.object();
                entry.string("name", &argument.name);
                if let Some(title) = argument.title.as_ref().filter(|_| version >= Version::V2025_06_18) {
                    entry.string("title", title);
                }
                if let Some(description) = &argument.description {
                    entry.string("description", description);
                }
                entry.boolean("required", argument.required);
            }
        }
        self.label.write_tail(&mut object, version);
        object.end();
    }
}

impl PromptArgument {
    /// An argument that may be left out.
    pub fn new(name: impl Into<String>) -> PromptArgument {
        PromptArgument { name: name.into(), title: None, description: None, required: false }
    }

    /// What people read.
    pub fn title(mut self, title: impl Into<String>) -> PromptArgument {
        self.title = Some(title.into());
        self
    }

    /// What it is for.
    pub fn description(mut self, description: impl Into<String>) -> PromptArgument {
        self.description = Some(description.into());
        self
    }

    /// It must be given.
    pub fn required(mut self) -> PromptArgument {
        self.required = true;
        self
    }
}

impl From<&str> for PromptArgument {
    fn from(name: &str) -> PromptArgument {
        PromptArgument::new(name)
    }
}

/// The arguments a prompt was asked for with.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PromptArguments(Vec<(String, String)>);

impl PromptArguments {
    /// `None` if a value is not a string.
    pub(super) fn read(object: Option<Value<'_>>) -> Option<PromptArguments> {
        let Some(object) = object else { return Some(PromptArguments::default()) };
        let entry = |(key, value): (crate::proto::json::RawStr<'_>, Value<'_>)| {
            Some((key.unescaped()?.into_owned(), value.as_str()?.into_owned()))
        };
        object.members().map(entry).collect::<Option<Vec<_>>>().map(PromptArguments)
    }

    /// An argument by its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// For required arguments, which are always there.
impl std::ops::Index<&str> for PromptArguments {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

/// What a prompt gives: messages, and perhaps a description.
///
/// ```
/// use corelane::{Content, PromptResult};
///
/// let result = PromptResult::new()
///     .user(Content::image(b"\x89PNG...", "image/png"))
///     .user("What is on this image?")
///     .assistant("A dog.");
/// # let _ = result;
/// ```
#[derive(Clone, Default, PartialEq, Debug)]
pub struct PromptResult {
    description: Option<String>,
    messages: Vec<(&'static str, Content)>,
}

impl PromptResult {
    /// No message yet.
    pub fn new() -> PromptResult {
        PromptResult::default()
    }

    /// What it is about.
    pub fn description(mut self, description: impl Into<String>) -> PromptResult {
        self.description = Some(description.into());
        self
    }

    /// Adds what the user says.
    pub fn user(mut self, content: impl Into<Content>) -> PromptResult {
        self.messages.push(("user", content.into()));
        self
    }

    /// Adds what the assistant says.
    pub fn assistant(mut self, content: impl Into<Content>) -> PromptResult {
        self.messages.push(("assistant", content.into()));
        self
    }
}

/// What a prompt's handler may return: text (one message of the user), a [`PromptResult`], or a `Result` of these.
pub trait IntoPromptResult {
    /// The result.
    fn into_prompt_result(self) -> Result<PromptResult, Failure>;
}

impl IntoPromptResult for PromptResult {
    fn into_prompt_result(self) -> Result<PromptResult, Failure> {
        Ok(self)
    }
}

impl IntoPromptResult for &str {
    fn into_prompt_result(self) -> Result<PromptResult, Failure> {
        Ok(PromptResult::new().user(self))
    }
}

impl IntoPromptResult for String {
    fn into_prompt_result(self) -> Result<PromptResult, Failure> {
        Ok(PromptResult::new().user(self))
    }
}

impl<T: IntoPromptResult, E: Into<Failure>> IntoPromptResult for Result<T, E> {
    fn into_prompt_result(self) -> Result<PromptResult, Failure> {
        self.map_err(Into::into)?.into_prompt_result()
    }
}

type AsyncPrompt<S> = Box<dyn Fn(PromptArguments, Context<S>) -> LocalFuture<Outcome> + Send + Sync>;
type PlainPrompt<S> = Box<dyn Fn(&PromptArguments, &Context<S>) -> Outcome + Send + Sync>;

pub(super) enum PromptHandler<S> {
    Async(AsyncPrompt<S>),
    Plain(PlainPrompt<S>),
}

pub(super) fn plain<S, R, F>(handler: F) -> PromptHandler<S>
where
    R: IntoPromptResult,
    F: Fn(&PromptArguments, &Context<S>) -> R + Send + Sync + 'static,
{
    PromptHandler::Plain(Box::new(move |arguments, ctx| render(handler(arguments, ctx), ctx.version())))
}

pub(super) fn asynchronous<S, R, F, Fut>(handler: F) -> PromptHandler<S>
where
    R: IntoPromptResult,
    F: Fn(PromptArguments, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + 'static,
{
    PromptHandler::Async(Box::new(move |arguments, ctx| {
        let version = ctx.version();
        let future = handler(arguments, ctx);
        Box::pin(async move { render(future.await, version) })
    }))
}

pub(super) struct PromptEntry<S> {
    pub prompt: Prompt,
    pub handler: PromptHandler<S>,
}

fn render(result: impl IntoPromptResult, version: Version) -> Outcome {
    let result = match result.into_prompt_result() {
        Ok(result) => result,
        Err(failure) => return failure.settle(Asked::Prompt, version).map(|_| Rendered::default()),
    };
    let mut members = Vec::new();
    if let Some(description) = &result.description {
        members.extend_from_slice(br#""description":"#);
        crate::proto::json::string(&mut members, description);
        members.push(b',');
    }
    members.extend_from_slice(br#""messages":["#);
    for (index, (role, content)) in result.messages.iter().enumerate() {
        if index > 0 {
            members.push(b',');
        }
        let mut message = Object::begin(&mut members);
        message.string("role", role);
        content.write(message.key("content"), version);
        message.end();
    }
    members.push(b']');
    Ok(Rendered { members, meta: Vec::new() })
}
