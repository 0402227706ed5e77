//! Corelane: a thread-per-core MCP server engine and router for Linux, on io_uring.
#![warn(missing_docs)]

pub mod ids;
pub mod limits;
pub mod proto;
pub mod ring;
pub mod shard;

pub mod metrics;
pub mod server;

#[cfg(feature = "host")]
pub mod boot;
#[cfg(feature = "host")]
pub mod config;
#[cfg(feature = "host")]
pub mod control;
#[cfg(feature = "host")]
pub mod runtime;
#[cfg(feature = "host")]
pub mod sys;
#[cfg(feature = "host")]
pub mod upstream;
#[cfg(feature = "host")]
pub mod uring;

#[cfg(feature = "host")]
pub use proto::jsonrpc::{Code, RpcError};
#[cfg(feature = "host")]
pub use proto::mcp::{Capabilities, LogLevel, Version};
#[cfg(feature = "host")]
pub use upstream::native::*;
