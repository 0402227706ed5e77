//! Links to servers that speak MCP over HTTP.
//!
//! Not here: what is asked and answered (`gateway`), sockets (links are asked for by `Wish`).
//! Invariant: one request at a time on a link; nothing of an answer is heard by anybody but its errand.

mod event_stream;
mod link;
mod pool;
#[cfg(test)]
mod pool_tests;
mod tls;
mod tunnel;

pub use event_stream::EventStream;
pub use pool::{Failure, Outcome, Pool, PoolSettings, Reply, Request};
pub use tls::TlsSettings;
pub use tunnel::TunnelSettings;
