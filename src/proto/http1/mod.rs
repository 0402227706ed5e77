//! HTTP/1.1 as bytes, for both ends: requests in and responses out, responses in and requests out, and the checks MCP
//! asks of a request.
//!
//! Not here: sockets, time-outs, routing, and what a JSON body says; nothing in this module waits or remembers a peer.
//! Invariant: where two readers could disagree about where a message ends, the message is refused.

pub mod answer;
#[cfg(test)]
mod answer_tests;
pub mod body;
pub mod head;
#[cfg(test)]
mod head_tests;
pub mod media;
pub mod mirror;
pub mod origin;
pub mod request;
pub mod respond;
#[cfg(test)]
mod smuggling;
pub mod template;
mod token;

pub use answer::{Eof, Piece, ResponseError, ResponseFraming, ResponseHead, ResponseReader};
pub use body::{ChunkError, ChunkedDecoder};
pub use head::{BodyFraming, Head, HeadError, HeadFinder, Method, mcp_params, parse};
pub use media::{Accepts, MediaType, is_json};
pub use origin::{HostRule, HostRules, OriginError, OriginRule, field_in};
pub use request::{RequestError, RequestWriter, Target, finish_post};
pub use respond::{
    Field, Stamp, StreamFraming, begin_chunk, begin_event_stream, begin_json, chunk, continue_100, empty, finish_chunk,
    finish_json, last_chunk,
};
pub use template::HeadTemplates;
pub use token::is_token;
