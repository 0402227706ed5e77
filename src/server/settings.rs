//! What an operator chose, as far as the machines of a core care, with times in nanoseconds.
//!
//! Not here: files and flags (`config`); `boot` fills this in.
//! Invariant: plain values; nothing here changes while the core lives.

use super::connection::{Framing, Wire};
use super::filter::FilterKind;
use super::service::Nanos;
use crate::proto::http1::HostRules;
use crate::shard::peers::PeerLimits;
use crate::shard::rate::Rate;
use crate::shard::replay::ReplayLimits;

/// Which eras of the protocol are served: of the other one a client hears what it would of a server that never knew it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Eras {
    /// Every revision.
    #[default]
    Both,
    /// 2024-11-05 to 2025-11-25 only.
    Legacy,
    /// 2026-07-28 only.
    Modern,
}

/// A core's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which revisions are served.
    pub eras: Eras,
    /// What is spoken on each listener, by index.
    pub listeners: Vec<Wire>,
    /// The byte filter of each listener's connections, by index; plain where there is none.
    pub filters: Vec<FilterKind>,
    /// Whom we answer to, for HTTP.
    pub hosts: HostRules,
    /// The MCP endpoint's path.
    pub endpoint: String,
    /// The path of the 2024-11-05 event stream.
    pub sse_endpoint: String,
    /// The path that goes with it.
    pub message_endpoint: String,
    /// Connections that are served.
    pub connections_max: usize,
    /// Further ones that are accepted, to be told that there is no room.
    pub connections_reserve: usize,
    /// This core's share of how fast connections may come.
    pub accepts: Rate,
    /// This core's share of what one address may have.
    pub peers: PeerLimits,
    /// Largest body.
    pub body_bytes: usize,
    /// Longest line.
    pub line_bytes: usize,
    /// Unread bytes that a connection may hold while its turn has not come.
    pub pipeline_bytes: usize,
    /// Unsent bytes after which a connection's frames wait.
    pub egress_bytes: usize,
    /// Calls in flight on one connection of lines or 2024-11-05 stream, or out of one batch.
    pub in_flight_per_connection: usize,
    /// Messages of one connection; one that is ahead of it is not read.
    pub messages: Rate,
    /// Time for a head.
    pub head_time: Nanos,
    /// Time for a body before its rate counts.
    pub body_grace: Nanos,
    /// Slowest rate of a body.
    pub body_bytes_per_second: u64,
    /// Time an HTTP connection may be idle.
    pub keep_alive: Nanos,
    /// Time a send may make no progress.
    pub write_stall: Nanos,
    /// Time a finished connection waits for its peer to close.
    pub linger: Nanos,
    /// Pause on an open stream after which a comment is sent.
    pub stream_keep_alive: Nanos,
    /// Time for a call.
    pub call_time: Nanos,
    /// Time for a call that shows progress.
    pub call_time_max: Nanos,
    /// Time for a client to answer what a call asks it.
    pub ask_time: Nanos,
    /// Idle time after which a session ends.
    pub session_idle: Nanos,
    /// How often sessions are looked through.
    pub sweep_every: Nanos,
    /// Most sessions on this core.
    pub sessions_max: usize,
    /// Most subscription streams on one connection of lines.
    pub listens_per_connection: usize,
    /// Most subscription streams on this core.
    pub listens_max: usize,
    /// Most subscribed resources per session or stream.
    pub subscriptions_max: usize,
    /// What a session keeps for replay.
    pub replay: ReplayLimits,
    /// What all sessions of a core together keep for replay, in bytes.
    pub replay_core_bytes: usize,
    /// What clients are told to wait before they come back to a stream.
    pub retry_ms: u32,
    /// How long clients may remember what `server/discover` told them.
    pub discover_ttl_ms: u32,
    /// Time for what is in flight when a drain begins.
    pub drain_time: Nanos,
    /// The name of the view that a connection of lines sees at first; empty for all.
    pub first_view: Box<str>,
    /// The core has done its work when its last connection is gone (stdio).
    pub ends_when_empty: bool,
    /// This node's number.
    pub node: u16,
    /// This start of it.
    pub boot: u64,
}

impl Settings {
    /// How long a frame may take to come in, given what came so far.
    pub fn frame_time(&self, framing: &Framing, bytes: usize) -> Nanos {
        match framing {
            Framing::Head(_) => self.head_time,
            // A line is head and body in one.
            Framing::Lines(_) => self.head_time + self.time_of(bytes),
            Framing::Body { .. } => self.body_grace + self.time_of(bytes),
            Framing::Chunked(assembly) => self.body_grace + self.time_of(assembly.body.len()),
        }
    }

    /// How long so many bytes may take.
    fn time_of(&self, bytes: usize) -> Nanos {
        bytes as u64 * 1_000_000_000 / self.body_bytes_per_second.max(1)
    }
}
