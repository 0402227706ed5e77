//! What a gateway is told about the servers behind it: plain values, the same on every core.
//!
//! Not here: files (`config`), name resolution (`boot` fills the addresses in).
//! Invariant: names are unique; nothing here changes while a core lives.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pins::Pinning;
use super::rules::{Rules, ToolRules};
use super::seats::Seats;
use crate::ids::OutboundAddress;
use crate::proto::http1::Target;
use crate::server::service::Nanos;
use crate::upstream::dial_in::Gate;
use crate::upstream::http::{TlsSettings, TunnelSettings};
use crate::upstream::stdio::ChildSettings;

/// All servers, and what callers may see of them.
#[derive(Clone, Debug, Default)]
pub struct GatewaySettings {
    /// The servers. One that changed has two places: where it was, which is retired, and a new one.
    pub servers: Vec<Arc<ServerSettings>>,
    /// Places of servers that are gone, or have another.
    pub retired: BTreeSet<u16>,
    /// What happens when one changes a tool, by place.
    pub pinning: Vec<Pinning>,
    /// Whether the native server is seen among the others.
    pub native_is_seen: bool,
    /// What an operator says of it, if its section is there: then it is seen.
    pub native: Option<Arc<NativeSettings>>,
    /// Named choices among them.
    pub views: Vec<ViewSettings>,
    /// How long a merged list is kept.
    pub list_ttl: Nanos,
    /// The `Implementation` object by which the gateway introduces itself, a JSON text.
    pub server_info: Vec<u8>,
}

impl GatewaySettings {
    /// What happens when the server at a place changes a tool.
    pub fn pinning_of(&self, place: usize) -> Pinning {
        self.pinning.get(place).copied().unwrap_or_default()
    }
}

/// Which revisions a server is spoken to in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EraChoice {
    /// What it turns out to speak: 2026-07-28 is tried first.
    Auto,
    /// `initialize` and sessions.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// One server behind the gateway.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Its name: `/mcp/{name}`.
    pub name: Box<str>,
    /// What stands before its tools where several servers are seen; empty for nothing.
    pub prefix: Box<str>,
    /// How it is reached.
    pub link: LinkSettings,
    /// Which revisions it is spoken to in.
    pub era: EraChoice,
    /// What callers see of it.
    pub rules: Rules,
    /// Time for its handshake, and for a page of a list.
    pub list_time: Nanos,
    /// Time for a call, or for the next sign of its progress.
    pub call_time: Nanos,
    /// Time for a caller to answer what the server asks in the midst of its call.
    pub ask_time: Nanos,
    /// How long a legacy session is kept in which nobody calls.
    pub session_idle: Nanos,
    /// Time to open a link.
    pub connect_time: Nanos,
    /// Most links of one core.
    pub links_max: usize,
    /// Most calls of one core that wait for a place or for the handshake.
    pub waiting_max: usize,
    /// Most bytes of these.
    pub waiting_bytes_max: usize,
    /// How long calls may wait for a place without being too many; 0 if that does not matter.
    pub queue_target: Nanos,
    /// Most calls in flight.
    pub calls_max: usize,
    /// Whether that is to hold over all cores together: then one core speaks to it for all.
    pub calls_max_is_for_all: bool,
    /// Largest answer.
    pub answer_bytes_max: usize,
    /// Whether each legacy session of a client has one of its own.
    pub is_per_session: bool,
    /// Whether its tools are believed when they say that they may be called twice for once.
    pub trusts_annotations: bool,
}

impl ServerSettings {
    /// Whether one core speaks to it for all.
    pub fn is_owned_by_one(&self) -> bool {
        self.calls_max_is_for_all || !matches!(self.link, LinkSettings::Http(_))
    }
}

/// What an operator says of the native server.
#[derive(Clone, Debug)]
pub struct NativeSettings {
    /// Its name: `/mcp/{name}`.
    pub name: Box<str>,
    /// What stands before its tools and prompts where several servers are seen; empty for nothing.
    pub prefix: Box<str>,
    /// What callers see of it.
    pub rules: Rules,
    /// Time for a call, or for the next sign of its progress.
    pub call_time: Nanos,
    /// Time for a caller to answer what is asked in the midst of its call.
    pub ask_time: Nanos,
    /// Most calls in flight over all cores, and the seats that they take; none if there may be any number.
    pub seats: Option<(usize, Arc<Seats>)>,
    /// Most calls of one core that wait for a seat.
    pub waiting_max: usize,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum LinkSettings {
    /// It is a child process.
    Child(Arc<ChildSettings>),
    /// It dials in, and is let in by this.
    DialIn(Arc<Gate>),
    /// By Streamable HTTP.
    Http(HttpLink),
    /// By the HTTP+SSE of 2024-11-05; the host and port that the target is on stand beside it.
    Sse(HttpLink, Box<str>),
}

/// A server behind a URL.
#[derive(Clone, Debug)]
pub struct HttpLink {
    /// Where to, the first choice first and at least one, or why that is not known.
    pub addresses: Result<Vec<OutboundAddress>, Box<str>>,
    /// What is asked of the proxy, if the addresses are those of one.
    pub tunnel: Option<TunnelSettings>,
    /// TLS, if it is spoken there.
    pub tls: Option<TlsSettings>,
    /// Host and path.
    pub target: Target,
    /// Fields of every request, among them secrets.
    pub fields: Fields,
}

/// Header fields; their values are not shown.
#[derive(Clone, Default)]
pub struct Fields(pub Vec<(Box<str>, Box<[u8]>)>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A named choice among the servers.
#[derive(Clone, Debug)]
pub struct ViewSettings {
    /// `/mcp/@{name}`.
    pub name: Box<str>,
    /// Names of the servers in it.
    pub servers: Vec<Box<str>>,
    /// Which of their tools, by the names they have among each other, and under which.
    pub tools: ToolRules,
}
