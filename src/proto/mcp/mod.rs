//! The words of the Model Context Protocol: its revisions, methods, capabilities, log levels, patterns for names.
//!
//! Not here: how a message is framed (`http1`, `sse`, `ndjson`), which rules a revision puts on a request (`server`).
//! Invariant: a word that is not in these tables does not exist for the rest of the program.

mod capability;
mod method;
mod pattern;
mod version;

pub use capability::{Capabilities, LogLevel};
pub use method::{Method, Notice};
pub use pattern::NamePattern;
pub use version::Version;
