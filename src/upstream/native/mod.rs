//! Native servers: tools, resources and prompts written in Rust, served by the cores themselves.
//!
//! Not here: HTTP, sessions, eras; a handler sees one [`Context`] whatever the client speaks.
//! Invariant: what a handler does, a panic included, changes the outcome of its own call and nothing else.
//!
//! Where to look: [`Server`] and its builder (`builder`), what a handler is given ([`Context`]) and may return
//! ([`IntoToolResult`], [`IntoContents`], [`IntoPromptResult`]), one core's side of it ([`NativeService`]).

mod arguments;
mod ask;
mod builder;
mod catalog;
mod completion;
mod content;
mod context;
pub mod demonstration;
mod desk;
mod exchange;
mod failure;
mod label;
mod listing;
mod names;
mod outcome;
mod output;
mod prompt;
mod request_state;
mod resource;
mod run;
mod schema;
mod serve;
mod service;
mod task_methods;
mod task_text;
mod tasks;
#[cfg(test)]
mod tests;
mod tool;
mod wait;

pub use arguments::{NoArguments, RawArguments, RawJson};
pub use ask::{Answers, Ask, AskError, Elicited, Form, Root, Sampled, Sampling, Visit};
pub use builder::{BuildError, Server, ServerBuilder};
pub use completion::{Completing, IntoCompletion};
pub use content::{Content, Contents, JsonText};
pub use context::Context;
pub use desk::HandlerCounts;
pub use exchange::StopSignal;
pub use failure::Failure;
pub use label::Icon;
pub use listing::CacheHint;
pub use output::{IntoToolResult, Structured, ToolOutput, ToolResult};
pub use prompt::{IntoPromptResult, Prompt, PromptArgument, PromptArguments, PromptResult};
pub use resource::{IntoContents, Reading, Resource, ResourceTemplate};
pub use schema::SchemaError;
pub use serve::{ServeError, ServeOptions};
pub use service::NativeService;
pub use tool::{TaskSupport, Tool};
pub use wait::{Cancelled, OffloadError, Offloaded, Sleep};
