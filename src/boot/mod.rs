//! `boot`: see ARCHITECTURE.md.
