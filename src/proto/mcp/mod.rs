//! The words of the Model Context Protocol: its revisions, methods, capabilities and log levels; and how a gateway
//! reads what its upstreams list and names it for its clients.
//!
//! Not here: how a message is framed (`http1`, `sse`, `ndjson`), which rules a revision puts on a request (`server`).
//! Invariant: a word that is not in these tables does not exist for the rest of the program.

mod annotation;
mod capability;
pub mod glob;
pub mod list;
mod method;
pub mod naming;
mod pattern;
pub mod pin;
mod version;

pub use annotation::{AnnotationFault, HeaderParam, HeaderParamKind, InvalidAnnotation, annotated};
pub use capability::{Capabilities, LogLevel};
pub use glob::{Glob, GlobError, Selection};
pub use list::{Item, ListError, Listed, Page};
pub use method::{Method, Notice};
pub use pattern::NamePattern;
pub use pin::{pin, pinned};
pub use version::Version;
