//! `server`: see ARCHITECTURE.md.
pub mod service;
