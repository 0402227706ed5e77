//! What a gateway is told about the servers behind it: plain values, the same on every core.
//!
//! Not here: files (`config`), name resolution (`boot` fills the addresses in).
//! Invariant: names are unique; nothing here changes while a core lives.

use std::sync::Arc;

use crate::proto::http1::Target;
use crate::server::service::{LinkAddress, Nanos};

/// All servers, and what callers may see of them.
#[derive(Clone, Debug, Default)]
pub struct GatewaySettings {
    /// The servers, by name.
    pub servers: Vec<Arc<ServerSettings>>,
    /// Named choices among them.
    pub views: Vec<ViewSettings>,
    /// How long a merged list is kept.
    pub list_ttl: Nanos,
    /// The `Implementation` object by which the gateway introduces itself, a JSON text.
    pub server_info: Vec<u8>,
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
    /// Time for its handshake, and for a page of a list.
    pub list_time: Nanos,
    /// Time to open a link.
    pub connect_time: Nanos,
    /// Most links of one core.
    pub links_max: usize,
    /// Most calls of one core that wait for a link or for the handshake.
    pub waiting_max: usize,
    /// Largest answer.
    pub answer_bytes_max: usize,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum LinkSettings {
    /// By Streamable HTTP.
    Http {
        /// Where to.
        address: LinkAddress,
        /// Host and path.
        target: Target,
        /// Fields of every request, among them secrets.
        fields: Fields,
    },
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
}
