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
