//! `proto`: see ARCHITECTURE.md.

pub mod http1;
