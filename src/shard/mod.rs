//! Shards: pure state machines that own what is keyed into them.
//!
//! Not here: sockets, clocks, threads, randomness, other shards.
//! Invariant: everything here is synchronous and owned by one core; time and entropy are arguments.

pub mod replay;
pub mod seal;
pub mod session;
