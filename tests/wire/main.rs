//! The real programs, spoken to over raw sockets: what the conformance suite does not look at.
//!
//! Not here: what a single module does with its input (unit tests), what SDK clients make of us (`tests/clients`).
//! Invariant: every test starts its own process on ports of the kernel's choice, and waits by polling with a deadline,
//! never by sleeping for as long as something ought to take.
#![cfg(feature = "host")]

mod absent;
mod administered;
mod asked;
mod attached;
mod changes;
mod children;
mod churn;
mod confined;
mod credentials;
mod described;
mod dialled;
mod drain;
mod eras;
mod event_stream_2024;
mod excess;
mod faithful;
mod fallbacks;
mod faulty;
mod gateway;
mod held_up;
mod housed;
mod http_status;
mod http_wire;
mod itself;
mod kept;
mod late;
mod legacy;
mod legacy_streams;
mod levels;
mod limited;
mod lines;
mod lost_sessions;
mod modern;
mod named;
mod no_lock;
mod observed;
mod one_era;
#[path = "../openapi/mod.rs"]
mod openapi;
mod overloaded;
mod own;
mod own_watched;
mod paced;
mod parked;
mod peer;
mod pinned;
mod pooled;
mod process;
mod questions;
mod registered;
mod relayed;
mod reloading;
mod request;
mod script;
mod sealed;
mod secured;
mod sharded;
mod stdio;
mod strayed;
mod tasked;
mod threads;
mod told;
mod tried;
mod tunnelled;
mod unix;
mod unread;
mod upstream;
mod watched;
mod zones;
