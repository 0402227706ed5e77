//! `[servers.NAME]` and `[views.NAME]`: one plain struct each, with the defaults.
//!
//! Not documented for operators here: the text of each key is in `nested`. Invariant: bounds are in the types; what
//! relates two servers, or a view and its servers, is checked where the file is read.

use super::bounded::{Bounded, Millis};
use super::given::{Given, Refused, Setting, quoted};
use super::names::{HeaderName, Prefix, ServerName, ToolName};
use super::roots::Roots;
use super::secret::Supplied;
use super::settings::GatewaySettings;
use super::url::{ProxyUrl, ServerUrl, UrlHost};
use super::words::{Pinning, word_set};
use crate::limits::WAITING_CALL_BYTES_MAX;
use crate::proto::address::AddressRule;
use crate::proto::mcp::NamePattern;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// `[servers.NAME]`: one MCP server that calls are forwarded to, or the one in this process.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerSettings {
    /// Off, it is checked but not used.
    pub enabled: bool,
    /// Of which kind, and how it is reached.
    pub kind: ServerKind,
    /// What its names begin with where several servers are seen together; by default the server's name.
    pub prefix: Prefix,
    /// Which revisions of the protocol it is spoken to in.
    pub era: EraChoice,
    /// Whether clients share a session of it.
    pub sessions: SessionUse,
    /// Deadline of one call.
    pub timeout_ms: Millis<1, DAY_MS>,
    /// Deadline for reaching it: connecting, or starting the child, until it has answered the first request.
    pub connect_timeout_ms: Millis<1, { 10 * MINUTE_MS }>,
    /// Deadline for a page of one of its lists.
    pub list_timeout_ms: Millis<1, { 10 * MINUTE_MS }>,
    /// Most calls in flight, over all cores, if somebody chose: to keep it exactly, one core speaks to the server for
    /// all.
    pub concurrency: Option<Bounded<1, 65_536>>,
    /// Most calls that wait for one of these to end, on the core that sends them, if somebody chose.
    pub queue_calls: Option<Bounded<1, 1_048_576>>,
    /// Most bytes of those that wait.
    pub queue_bytes: Bounded<{ 64 << 10 }, { 4 << 30 }>,
    /// How long calls may wait without being too many.
    pub queue_target_ms: Millis<0, MINUTE_MS>,
    /// Whether its tools are believed when they say that they may be called twice.
    pub trust_annotations: bool,
    /// What happens when it changes a tool, if that is to be other than `gateway.pinning`.
    pub pinning: Option<Pinning>,
    /// Which of its tools are seen, and how.
    pub tools: ToolRules,
    /// Which of its prompts are seen.
    pub prompts: ListRules,
    /// Which of its resources and templates are seen, by URI.
    pub resources: ListRules,
}

/// The kind of a server.
#[derive(Clone, PartialEq, Debug)]
pub enum ServerKind {
    /// Streamable HTTP.
    Http(HttpServer),
    /// HTTP+SSE of 2024-11-05, deprecated.
    Sse(HttpServer),
    /// A child process, on its standard input and output.
    Stdio(StdioServer),
    /// It connects to us, over TCP or WebSocket.
    DialIn(DialInServer),
    /// The one in this process, of which there is one.
    Native,
}

/// A server behind a URL.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpServer {
    /// Its URL.
    pub url: ServerUrl,
    /// Which addresses the URL's host may lead to. By default public ones, or private ones if the host is itself
    /// `localhost` or a private address.
    pub addresses: AddressRule,
    /// The proxy that leads to it, which looks its name up.
    pub proxy: Option<ProxyUrl>,
    /// What the proxy is shown: a value of `Proxy-Authorization`.
    pub proxy_authorization: Option<Supplied>,
    /// Who may vouch for it, if the URL is https.
    pub roots: Roots,
    /// Fields added to every request, by name without regard to case.
    pub headers: Vec<(HeaderName, Supplied)>,
    /// Most connections of one core, idle ones included.
    pub connections_per_core: Bounded<1, 1024>,
}

/// A server that is a child process.
#[derive(Clone, PartialEq, Debug)]
pub struct StdioServer {
    /// The program: an absolute path, or a name that is looked for on the PATH. No shell reads it.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside the few variables every child gets.
    pub env: BTreeMap<String, Supplied>,
    /// Where it runs: an absolute path, or where corelane runs.
    pub cwd: Option<PathBuf>,
    /// Most files that it may have open; none leaves what corelane was started with.
    pub open_files: Option<OpenFiles>,
    /// Most bytes of memory that it may map; none leaves what corelane was started with.
    pub address_space_bytes: Option<AddressSpace>,
}

/// Open files of a child: with fewer than 16 few programs start, and the kernel has more than a million for nobody.
pub type OpenFiles = Bounded<16, 1_048_576>;

/// Bytes of address space of a child: with less than 16 MiB few programs start; 64 TiB is half of what there is.
pub type AddressSpace = Bounded<{ 16 << 20 }, { 64 << 40 }>;

/// A server that dials in.
#[derive(Clone, PartialEq, Debug)]
pub struct DialInServer {
    /// What it shows to be let in.
    pub key: Supplied,
    /// Most connections under its name.
    pub connections: Bounded<1, 1024>,
}

/// Which revisions of the protocol a server is spoken to in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EraChoice {
    /// It is asked, and remembered.
    Auto,
    /// 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// Whether the clients of a legacy server share a session of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionUse {
    /// One for each session of a client's.
    PerSession,
    /// One for all.
    Shared,
}

/// Which names are seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListRules {
    /// Those that fit one of these; all if there are none.
    pub include: Vec<NamePattern>,
    /// Of them, not those that fit one of these.
    pub exclude: Vec<NamePattern>,
}

/// Which tools are seen, and how. All names here are the server's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ToolRules {
    /// Which are seen.
    pub names: ListRules,
    /// Other names for some; a prefix comes before the new name.
    pub rename: BTreeMap<String, ToolName>,
    /// Other descriptions for some.
    pub describe: BTreeMap<String, String>,
}

/// `[views.NAME]`: a choice of servers and tools with an endpoint of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewSettings {
    /// Which servers; each is configured.
    pub servers: Vec<ServerName>,
    /// Which tools, by the names they have when all these servers are seen together; all if there are none.
    pub tools: Vec<NamePattern>,
    /// Other names for some of them.
    pub rename: BTreeMap<String, ToolName>,
}

word_set!(EraChoice { Auto = "auto", Modern = "modern", Legacy = "legacy" });
word_set!(SessionUse { Shared = "shared", PerSession = "per_session" });

impl ServerSettings {
    /// A server of this kind with the defaults for all else.
    pub fn new(name: &ServerName, kind: ServerKind) -> ServerSettings {
        // A child may have to be fetched and compiled before it answers.
        let connect_timeout_ms = match &kind {
            ServerKind::Http(_) | ServerKind::Sse(_) => const { Millis::known(5_000) },
            ServerKind::DialIn(_) | ServerKind::Native => const { Millis::known(5_000) },
            ServerKind::Stdio(_) => const { Millis::known(30_000) },
        };
        ServerSettings {
            enabled: true,
            kind,
            prefix: Prefix::of(name),
            era: EraChoice::Auto,
            sessions: SessionUse::Shared,
            timeout_ms: const { Millis::known(30_000) },
            connect_timeout_ms,
            list_timeout_ms: const { Millis::known(5_000) },
            concurrency: None,
            queue_calls: None,
            queue_bytes: const { Bounded::known(WAITING_CALL_BYTES_MAX as u64) },
            queue_target_ms: const { Millis::known(5) },
            trust_annotations: false,
            pinning: None,
            tools: ToolRules::default(),
            prompts: ListRules::default(),
            resources: ListRules::default(),
        }
    }
}

impl ServerSettings {
    /// Whether it is the one in this process.
    pub fn is_native(&self) -> bool {
        self.kind == ServerKind::Native
    }

    /// Most connections that a core opens to it, each a descriptor of the ring's table.
    pub fn opened_per_core(&self) -> usize {
        match &self.kind {
            ServerKind::Http(http) | ServerKind::Sse(http) => http.connections_per_core.usize(),
            // What they use are descriptors of the process.
            ServerKind::Stdio(_) | ServerKind::DialIn(_) | ServerKind::Native => 0,
        }
    }

    /// Most calls in flight where one core speaks to it for all, whether or not somebody chose.
    pub fn calls_max(&self) -> usize {
        const DEFAULT: usize = 256;
        self.concurrency.map_or(DEFAULT, Bounded::usize)
    }

    /// What happens when it changes a tool.
    pub fn pinning(&self, gateway: &GatewaySettings) -> Pinning {
        self.pinning.unwrap_or(gateway.pinning)
    }
}

impl StdioServer {
    /// This program, with the defaults for all else.
    pub fn new(command: String) -> StdioServer {
        let (args, env) = (Vec::new(), BTreeMap::new());
        StdioServer { command, args, env, cwd: None, open_files: None, address_space_bytes: None }
    }
}

impl DialInServer {
    /// One with this key, with the defaults for all else.
    pub fn new(key: Supplied) -> DialInServer {
        DialInServer { key, connections: const { Bounded::known(32) } }
    }
}

impl HttpServer {
    /// The server at this URL, with the defaults for all else.
    pub fn new(url: ServerUrl) -> HttpServer {
        HttpServer {
            addresses: url.default_rule(),
            url,
            proxy: None,
            proxy_authorization: None,
            roots: Roots::default(),
            headers: Vec::new(),
            connections_per_core: const { Bounded::known(32) },
        }
    }

    /// Which host is connected to, at which port, and what its addresses have to be: the server's, or its proxy's. A
    /// proxy is nobody's but this file's, so that it may be anywhere.
    pub fn dialled(&self) -> (&UrlHost, u16, AddressRule) {
        match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port(), AddressRule::Any),
            None => (self.url.host(), self.url.port(), self.addresses),
        }
    }
}
