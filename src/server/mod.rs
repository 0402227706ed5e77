//! `server`: see ARCHITECTURE.md.
