//! The control thread: health, metrics, and the signals that end the process.
//!
//! Carries no message of a client, and no core ever waits for it. Invariant: it reads what cores publish in atomics, so
//! it answers truthfully also when a core has stalled; if it dies itself, another goes on with what it had.

mod admin;
mod condition;
mod health;
mod http;
mod limits;
mod listener;
mod local;
pub mod log;
mod pins;
mod rates;
mod servers;
mod signals;
mod thread;
mod transports;
mod zones;

pub use admin::{Desk, DeskCell, Reload};
pub use condition::{Condition, Unmet};
pub use health::{CoreState, Health, HealthReport, OwnHealth};
pub use pins::{Approved, Definition, Difference, NotApproved, PinDesk, Standing};
pub use servers::{NotRegistered, Registered, ServerDesk};
pub use signals::Stop;
pub use thread::{ControlThread, until_one_panics};
pub use transports::{NotChanged, Sent, TransportShown, Written, tag_of_name};

use crate::config::ZoneSettings;
use crate::sys::socket::UnixListenSocket;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// Why the control thread could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address could not be listened on.
    #[error(
        "control.listen: cannot listen on {address}: {source}; choose another address, by --control, by CORELANE_CONTROL_LISTEN or below [control] in the file, or end what uses it"
    )]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread, its runtime or its signal handlers could not be made.
    #[error("the control thread cannot start: {0}")]
    Start(#[source] io::Error),
}

/// What administration shows and reaches beyond the metrics.
#[derive(Default)]
pub struct Administration {
    /// The registry, once the cores are there.
    pub desk: DeskCell,
    /// Where changes are taken.
    pub socket: Option<UnixListenSocket>,
    /// Reads this file again, on SIGHUP and when it is another.
    pub reload: Option<(PathBuf, Reload)>,
    /// Keeps what is pinned of servers' tools.
    pub pins: Option<Arc<dyn PinDesk>>,
    /// Registers servers with the gateway.
    pub servers: Option<Arc<dyn ServerDesk>>,
    /// From where on a reading is in which zone.
    pub zones: ZoneInputs,
    /// What limits there are on connections.
    pub limits: LimitInputs,
}

/// What zones are made from.
#[derive(Clone, Copy, Default, Debug)]
pub struct ZoneInputs {
    /// Thresholds and times.
    pub settings: ZoneSettings,
    /// Connections that all cores may have open.
    pub connections_max: u64,
}

/// What limits there are on connections.
#[derive(Clone, Copy, Default, Debug)]
pub struct LimitInputs {
    /// How many may be served before somebody hears of it.
    pub soft: u64,
    /// Most that are served, on all cores together.
    pub hard: u64,
    /// Most that one core has room for.
    pub per_core: u64,
    /// How many may come in a second, on all cores together.
    pub accepts_per_s: u64,
    /// Most of one address.
    pub per_peer: u64,
    /// Most of one address of this host, if there is a limit.
    pub per_loopback: Option<u64>,
}

/// Makes what the control thread runs besides: called for each life of it, the one before having ended. What it makes
/// must not block.
pub type Beside = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[cfg(test)]
mod tests;
