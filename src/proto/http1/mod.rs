//! HTTP/1.1 as bytes: request heads and chunked bodies in, responses out, and the checks MCP asks of a request.
//!
//! Not here: sockets, time-outs, routing, and what a JSON body says; nothing in this module waits or remembers a peer.
//! Invariant: where two readers could disagree about where a message ends, the message is refused.

pub mod body;
pub mod head;
#[cfg(test)]
mod head_tests;
pub mod media;
pub mod mirror;
pub mod origin;
pub mod respond;
#[cfg(test)]
mod smuggling;
mod token;

pub use body::{ChunkError, ChunkedDecoder};
pub use head::{BodyFraming, Head, HeadError, HeadFinder, Method, parse};
pub use media::{Accepts, is_json};
pub use origin::{HostRule, HostRules, OriginRule};
pub use respond::{
    Field, StreamFraming, begin_chunk, begin_event_stream, begin_json, chunk, continue_100, empty, finish_chunk,
    finish_json, last_chunk,
};
pub use token::is_token;
