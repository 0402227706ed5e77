//! `upstream`: see ARCHITECTURE.md.
