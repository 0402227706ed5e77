//! `uring`: see ARCHITECTURE.md.
