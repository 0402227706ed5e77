//! Becoming N cores: what the host offers, what is made of it, and whether it is enough.
//!
//! Not here: the cores' work (`server`, `runtime`).
//! Invariant: what is decided here is printed at start-up, before anything depends on it.

pub mod host;
pub mod plan;
pub mod topology;
