//! Becoming N cores: what the host offers, what is made of it, and whether it is enough.
//!
//! Not here: the cores' work (`server`, `runtime`).
//! Invariant: what is decided here is printed at start-up, before anything depends on it.

pub mod cli;
pub mod host;
pub mod plan;
pub mod topology;

use crate::config::Config;

/// Why the process could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A part that is still to come.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// Which part.
        what: &'static str,
    },
}

/// Serves until a signal ends it. Logging is set up already; the control thread is not.
pub fn serve(_config: Config) -> Result<(), BootError> {
    Err(BootError::NotBuilt { what: "serve" })
}

/// Serves one client on standard input and output until its end of file.
pub fn stdio(_config: Config) -> Result<(), BootError> {
    Err(BootError::NotBuilt { what: "stdio" })
}

/// Prints what this host offers and whether `serve` would start with this configuration; an error if it would not.
pub fn check(_config: Config) -> Result<(), BootError> {
    Err(BootError::NotBuilt { what: "check" })
}
