//! `control`: see ARCHITECTURE.md.
