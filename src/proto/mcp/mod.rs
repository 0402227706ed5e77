//! The words of the Model Context Protocol: its revisions, methods, capabilities and log levels; what tools say of
//! themselves, and what they are called behind a gateway.
//!
//! Not here: how a message is framed (`http1`, `sse`, `ndjson`), which rules a revision puts on a request (`server`).
//! Invariant: a word that is not in these tables does not exist for the rest of the program.

mod annotation;
mod capability;
mod method;
pub mod naming;
mod pattern;
pub mod pin;
mod progress;
mod version;

pub use annotation::{AnnotationFault, HeaderParam, HeaderParamKind, InvalidAnnotation, annotated};
pub use capability::{Capabilities, LogLevel};
pub use method::{Method, Notice, method_name};
pub use pattern::NamePattern;
pub use pin::{differing, pin, pinned, pinned_together, sha256};
pub use progress::judge_token;
pub use version::Version;
