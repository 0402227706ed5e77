//! `ring`: see ARCHITECTURE.md.
