//! Whatever answers calls: native servers today, a gateway's upstreams beside them.
//!
//! Not here: how calls get to a core.
//! Invariant: everything here answers through `server::service::Service`.

pub mod dial_in;
pub mod gateway;
pub mod http;
mod missing;
pub mod native;
pub mod stdio;
mod talk;
