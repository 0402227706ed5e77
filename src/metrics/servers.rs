//! What one core counts about one server behind the gateway, and how that is exported.
//!
//! Not here: which servers there are (they are fixed at start). Invariant: one core thread writes an instance; a server
//! that another core speaks to is counted there.

use std::fmt::Write;
use std::sync::Arc;

use super::causes::Unserved;
use super::cells::{Counter, Gauge};
use super::{LABEL_CAUSE, LABEL_CORE, LABEL_SERVER, Phrase, registry::head};

/// How a server stands, as one core sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerState {
    /// It cannot be reached, or that was not tried yet.
    Away = 0,
    /// It is being asked what it speaks.
    Asking = 1,
    /// It is there and speaks 2025-11-25 or an older revision.
    Legacy = 2,
    /// It is there and speaks 2026-07-28.
    Modern = 3,
}

impl ServerState {
    const ALL: [ServerState; 4] = [ServerState::Away, ServerState::Asking, ServerState::Legacy, ServerState::Modern];

    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            ServerState::Away => "away",
            ServerState::Asking => "asking",
            ServerState::Legacy => "legacy",
            ServerState::Modern => "modern",
        }
    }
}

/// One server's figures on one core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerMetrics {
    state: Gauge,
    /// Calls that it was sent and has not answered.
    pub in_flight: Gauge,
    /// Calls that wait to be sent.
    pub waiting: Gauge,
    /// Calls that were taken for it.
    pub calls: Counter,
    /// Calls that ended without its answer.
    pub failures: Counter,
    /// Times it was reached.
    pub reached: Counter,
    /// Times it could not be reached, or was lost.
    pub lost: Counter,
    /// Its tools, as far as they were listed.
    pub tools: Gauge,
    /// Tools whose calls are kept from it for a while, or tried one at a time.
    pub breakers_open: Gauge,
    /// Times that began.
    pub breakers_opened: Counter,
    /// Calls that were sent a second time.
    pub retries: Counter,
    /// Tools that are not what was pinned.
    pub tools_changed: Gauge,
    /// Calls of such tools that were refused.
    pub quarantined: Counter,
    /// Connections of one that dials in.
    pub connections: Gauge,
    /// How many calls may wait to be sent.
    pub waiting_most: Gauge,
    /// Whether more calls come than it gets done.
    pub overloaded: Gauge,
    /// Calls that found no place and were not sent, by cause.
    pub unserved: [Counter; Unserved::COUNT],
    /// Why it could not be reached, or was lost, last; empty once it is reached again.
    pub last_failure: Phrase,
}

impl ServerMetrics {
    /// How it stands.
    pub fn state(&self) -> ServerState {
        ServerState::ALL.get(self.state.get() as usize).copied().unwrap_or(ServerState::Away)
    }

    /// How many calls were not sent for this cause.
    pub fn unserved(&self, cause: Unserved) -> u64 {
        self.unserved[cause.index()].get()
    }

    /// Says how it stands. Only the owning core may call this.
    pub fn set_state(&self, state: ServerState) {
        self.state.set(state as u64);
    }
}

/// One server's figures on all cores.
#[derive(Debug)]
pub struct ServerRow {
    /// Its name.
    pub name: Box<str>,
    /// `http`, `sse`, `stdio` or `dial_in`.
    pub kind: &'static str,
    /// Its address without secrets, or its program.
    pub reached_by: Box<str>,
    cores: Box<[Arc<ServerMetrics>]>,
}

impl ServerRow {
    /// A server of which nothing is known yet.
    pub fn new(name: &str, kind: &'static str, reached_by: &str, cores: usize) -> ServerRow {
        let cores = std::iter::repeat_with(Arc::default).take(cores).collect();
        ServerRow { name: name.into(), kind, reached_by: reached_by.into(), cores }
    }

    /// The figures by core.
    pub fn cores(&self) -> &[Arc<ServerMetrics>] {
        &self.cores
    }
}

/// A family of samples: its name, kind, help text and value.
type Family = (&'static str, &'static str, &'static str, fn(&ServerMetrics) -> u64);

const UNSERVED: &str = "corelane_server_calls_unserved_total";

const FAMILIES: [Family; 15] = [
    (
        "corelane_server_state",
        "gauge",
        "How a server behind the gateway stands: 0 away, 1 being asked, 2 legacy, 3 modern.",
        |server| server.state() as u64,
    ),
    ("corelane_server_calls_in_flight", "gauge", "Calls that a server has not answered.", |server| {
        server.in_flight.get()
    }),
    ("corelane_server_calls_waiting", "gauge", "Calls that wait to be sent to a server.", |server| {
        server.waiting.get()
    }),
    ("corelane_server_calls_total", "counter", "Calls taken for a server.", |server| server.calls.get()),
    ("corelane_server_failures_total", "counter", "Calls that ended without the server's answer.", |server| {
        server.failures.get()
    }),
    ("corelane_server_reached_total", "counter", "Times a server was reached.", |server| server.reached.get()),
    ("corelane_server_lost_total", "counter", "Times a server could not be reached, or was lost.", |server| {
        server.lost.get()
    }),
    ("corelane_server_tools", "gauge", "Tools that a server lists.", |server| server.tools.get()),
    (
        "corelane_server_breakers_open",
        "gauge",
        "Tools whose calls fail, so that none or one at a time is sent to a server.",
        |server| server.breakers_open.get(),
    ),
    (
        "corelane_server_breakers_opened_total",
        "counter",
        "Times that calls of a tool were kept from a server because they failed.",
        |server| server.breakers_opened.get(),
    ),
    ("corelane_server_retries_total", "counter", "Calls that were sent to a server a second time.", |server| {
        server.retries.get()
    }),
    ("corelane_server_tools_changed", "gauge", "Tools of a server that are not what was approved.", |server| {
        server.tools_changed.get()
    }),
    ("corelane_server_connections", "gauge", "Connections of a server that dials in.", |server| {
        server.connections.get()
    }),
    (
        "corelane_server_overloaded",
        "gauge",
        "Whether more calls come than a server gets done: newest first then, and late ones turned away.",
        |server| server.overloaded.get(),
    ),
    (
        "corelane_server_calls_quarantined_total",
        "counter",
        "Calls refused because their tool is quarantined.",
        |server| server.quarantined.get(),
    ),
];

/// Appends all of it in the Prometheus text format.
pub(super) fn write_servers(out: &mut String, servers: &[Arc<ServerRow>]) -> std::fmt::Result {
    if servers.is_empty() {
        return Ok(());
    }
    for (family, kind, help, value) in FAMILIES {
        head(out, family, kind, help)?;
        for row in servers {
            for (core, server) in row.cores.iter().enumerate() {
                let (name, value) = (&row.name, value(server));
                writeln!(out, "{family}{{{LABEL_CORE}=\"{core}\",{LABEL_SERVER}=\"{name}\"}} {value}")?;
            }
        }
    }
    let help = "Calls for which a server had no place and which were not sent to it, by cause.";
    head(out, UNSERVED, "counter", help)?;
    for row in servers {
        for (core, server) in row.cores.iter().enumerate() {
            for cause in Unserved::ALL {
                let (name, label, value) = (&row.name, cause.label(), server.unserved[cause.index()].get());
                let labels = format!(r#"{LABEL_CORE}="{core}",{LABEL_SERVER}="{name}",{LABEL_CAUSE}="{label}""#);
                writeln!(out, "{UNSERVED}{{{labels}}} {value}")?;
            }
        }
    }
    Ok(())
}
