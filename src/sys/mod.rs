//! `sys`: see ARCHITECTURE.md.
