//! `proto`: see ARCHITECTURE.md.

pub mod http1;
pub mod ndjson;
pub mod sse;
