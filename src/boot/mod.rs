//! Becoming N cores: what the host offers, what is made of it, whether it is enough, and the threads themselves.
//!
//! Not here: the cores' work (`server`, `runtime`). Only this module sees the whole configuration.
//! Invariant: what is decided here is printed at start-up, before anything depends on it.

mod administered;
mod advice;
mod check;
pub mod cli;
mod core_thread;
mod cut;
mod desk;
mod dial_in;
mod gateway;
pub mod host;
mod launch;
mod lend;
mod load;
mod on_core;
pub mod operator;
mod pins;
pub mod plan;
mod registered;
mod reload;
mod report;
mod resolve;
mod servers;
mod supervisor;
pub mod topology;
mod trust;

#[cfg(test)]
mod tests {
    mod administered;
    mod core_death;
    mod filtered;
    #[path = "../../../tests/openapi/mod.rs"]
    mod openapi;
    mod registry;
    mod registry_rig;
    mod rig;
    mod watched;
}

pub use crate::control::{CoreState, HealthReport, OwnHealth};
pub use desk::{OutsideOwner, Registry};
pub use on_core::{Hooks, OnCore};
pub use pins::PinsError;

use crate::config::Config;
use crate::control::ControlError;
use crate::ids::CoreId;
use crate::shard::range::SplitError;
use crate::sys::entropy::EntropyError;
use crate::sys::socket::ListenError;
use crate::upstream::native::{BuildError, Server, demonstration};
use crate::uring::ProbeError;
use plan::PlanError;
use topology::TopologyError;

/// Why the process could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The demonstration server could not be built.
    #[error("the demonstration server could not be built: {0}")]
    Build(#[from] BuildError),
    /// The control thread could not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The control thread died too often.
    #[error(
        "the control thread, which answers health checks and hears signals, died {deaths} times within a minute; giving \
         up, so that a supervisor sees it. That is a fault of corelane: please report the panics above"
    )]
    ControlDied {
        /// How often.
        deaths: usize,
    },
    /// A core did not come back from what it did.
    #[error(
        "{core} has stood still for {} s and the process is given up, so that a supervisor starts another: something on \
         it blocks, most likely a handler that should wait with `ctx.blocking` or `ctx.offload`; cores.stall_limit_ms \
         is how long is waited", .lasts.as_secs()
    )]
    CoreStalled {
        /// The core.
        core: CoreId,
        /// How long it has stood still.
        lasts: std::time::Duration,
    },
    /// A core drained for longer than it may.
    #[error(
        "{core} has not drained although its time, {} ms, was up 5 s ago: the process ends without it, and what it still \
         had is lost; this is a fault of corelane's, please report it", .limit.as_millis()
    )]
    NotDrained {
        /// The core.
        core: CoreId,
        /// How long a drain may take.
        limit: std::time::Duration,
    },
    /// A core's thread could not do its work.
    #[error("{core} could not serve: {text}")]
    CoreFailed {
        /// The core.
        core: CoreId,
        /// Why.
        text: String,
    },
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// An environment variable is wrong.
    #[error("{0}")]
    Environment(String),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody could hear an answer.
    #[error(
        "standard output is closed, or /dev/null opened for reading as well: nobody would hear an answer; \
         start it with a pipe there, as MCP clients do, or use `corelane serve`"
    )]
    NoOutput,
    /// Servers that are child processes cannot be started.
    #[error(transparent)]
    Guard(#[from] crate::sys::guard::GuardError),
    /// The client is to see what is not there.
    #[error("--view {0}: there is no such server or view; there are {1}")]
    NoView(String, String),
    /// The host does not do.
    #[error("this host would not serve; what to change stands in the table above")]
    NotFit,
    /// The host would do, but not for as many connections as were asked for.
    #[error("this host would serve, but has no room for {0} connections; what to change stands in the table above")]
    NoRoom(u64),
    /// What is pinned of servers' tools cannot be read or kept.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The cores asked for cannot be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No usable io_uring.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The shards asked for cannot be had.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// More listeners than a core's table of descriptors can carry.
    #[error(
        "a core's table of {descriptors} descriptors does not carry {listeners} listeners and a client besides; \
         raise uring.descriptors or the limit of open files, or listen on fewer addresses"
    )]
    TableTooSmall {
        /// Slots of the table.
        descriptors: usize,
        /// Listeners of one core.
        listeners: usize,
    },
    /// Cores died too often.
    #[error("cores died {deaths} times within a minute; giving up, so that a supervisor sees it")]
    TooManyDeaths {
        /// How often.
        deaths: usize,
    },
    /// The CPUs could not be read.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Serves the demonstration server until a signal ends it. Logging is set up already.
///
/// # Errors
/// What kept it from serving, or cores that died too often.
pub fn serve(config: Config) -> Result<(), BootError> {
    launch::serve(demonstration::server()?, config, Hooks::default(), true)
}

/// Serves a native server until a signal ends it.
///
/// # Errors
/// As `serve`.
pub fn serve_native<S: 'static>(server: Server<S>, config: Config, hooks: Hooks) -> Result<(), BootError> {
    launch::serve(server, config, hooks, false)
}

/// Serves the demonstration server, or those of the configuration, to one client on standard input and output until
/// its end of file. It sees the view of this name: a server, a view with an `@` before it, or all if it is empty.
///
/// # Errors
/// As `serve`, and if there is no such view.
pub fn stdio(config: Config, view: &str) -> Result<(), BootError> {
    launch::stdio(demonstration::server()?, config, Hooks::default(), view.to_owned(), true)
}

/// Serves a native server to one client on standard input and output until its end of file.
///
/// # Errors
/// As `serve`.
pub fn stdio_native<S: 'static>(server: Server<S>, config: Config, hooks: Hooks) -> Result<(), BootError> {
    launch::stdio(server, config, hooks, String::new(), false)
}

/// Prints what this host offers and whether `serve` would start with this configuration; an error if it would not.
///
/// # Errors
/// `BootError::NotFit` or `BootError::NoRoom` after the table, or what kept the host from being looked at.
pub fn check(config: Config, is_asked_for_room: bool) -> Result<(), BootError> {
    check::check(config, is_asked_for_room)
}

/// Looks at what the environment says that is no setting: `CORELANE_DISABLE`.
///
/// # Errors
/// What is wrong in it, which no command that serves would take.
pub fn check_environment() -> Result<(), BootError> {
    crate::uring::Disabled::from_environment().map(|_| ()).map_err(BootError::Environment)
}
