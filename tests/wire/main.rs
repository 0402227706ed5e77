//! The real programs, spoken to over raw sockets: what the conformance suite does not look at.
//!
//! Not here: what a single module does with its input (unit tests), what SDK clients make of us (`tests/clients`).
//! Invariant: every test starts its own process on ports of the kernel's choice, and waits by polling with a deadline,
//! never by sleeping for as long as something ought to take.
#![cfg(feature = "host")]

mod administered;
mod attached;
mod changes;
mod children;
mod churn;
mod dialled;
mod drain;
mod event_stream_2024;
mod faithful;
mod fallbacks;
mod faulty;
mod gateway;
mod http_status;
mod http_wire;
mod late;
mod legacy;
mod legacy_streams;
mod lines;
mod modern;
mod no_lock;
mod observed;
mod one_era;
mod own;
mod parked;
mod peer;
mod pinned;
mod process;
mod questions;
mod registered;
mod reloading;
mod request;
mod sealed;
mod secured;
mod stdio;
mod tasked;
mod threads;
mod unix;
mod unread;
mod watched;
