//! `shard`: see ARCHITECTURE.md.
