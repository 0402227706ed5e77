//! The deterministic simulator: real cores, shards, sessions, rings and handlers, and a world that is made up.
//!
//! Everything that decides is the product's own: `Core`, `Shards`, `Mesh` and its ports, the native server. Time, the
//! network, the scheduler and the clients are the simulator's, and come from one seed. Not here: io_uring, glommio,
//! threads (`tests/wire` has the real program).
//! Invariant: a seed is one course of events, always the same.
//!
//! | variable | means |
//! |---|---|
//! | `CORELANE_SEED=N` | this seed only |
//! | `CORELANE_SEEDS=N` | so many seeds, from `CORELANE_FIRST_SEED` or 1 on |
//! | `CORELANE_SECONDS=N` | as many seeds as fit |
//! | `CORELANE_STEPS=N` | events per seed |
//! | `CORELANE_TRACE=1` | prints every event |
#![cfg(feature = "host")]

mod chance;
mod client;
mod executor;
mod ledger;
mod machine;
mod net;
mod planted;
mod ready;
mod run;
mod sights;
mod sim;
mod tap;
mod tools;
mod trace;
mod world;
