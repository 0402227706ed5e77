//! `shard`: see ARCHITECTURE.md.

pub mod range;
