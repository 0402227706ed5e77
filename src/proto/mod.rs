//! Bytes to values and back: JSON, JSON-RPC, MCP, HTTP/1.1, server-sent events, newline-delimited JSON.
//!
//! Not here: sockets, clocks, threads, randomness, or what a message means to us.
//! Invariant: nothing in this module performs I/O, and no input makes it panic, loop or grow past `limits`.

pub mod address;
pub mod http1;
pub mod json;
pub mod jsonrpc;
pub mod mcp;
pub mod ndjson;
pub mod sse;
pub mod uri_template;
