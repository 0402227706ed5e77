//! A core's machines: what it does with connections, messages, sessions and time.
//!
//! Not here: sockets, clocks, threads (`drive` is the only part that touches them).
//! Invariant: all but `drive` is synchronous and pure: the same inputs at the same times give the same effects.

pub mod accept;
pub mod alarms;
mod answer;
pub mod audit;
pub mod carried;
pub mod connection;
pub mod core;
mod deliver;
pub mod drain;
#[cfg(feature = "host")]
pub mod drive;
pub mod early;
mod entrance;
pub mod exchange;
pub mod filter;
mod http;
mod intake;
pub mod laps;
mod lines;
mod log;
mod modern;
pub mod outbox;
pub mod parcel;
pub mod pool;
mod pump;
mod refusals;
pub mod registry;
mod replayed;
mod router;
pub mod service;
mod sessions;
pub mod settings;
pub mod subscriptions;
mod telling;
mod timers;
pub mod wheel;

#[cfg(test)]
mod tests;
