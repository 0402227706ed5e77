//! A server or a view while it is read: every key by itself, there or not.
//!
//! Not what others see (`servers`). Invariant: `of` and `finish` are each other's inverse, so what is printed from a
//! draft reads as the settings it was made of.

use super::bounded::{Bounded, Millis};
use super::given::{Given, Refused, Setting, quoted};
use super::names::{Prefix, ServerName, ToolName};
use super::problem::nearest;
use super::roots::Roots;
use super::servers::{
    AddressSpace, DAY_MS, DialInServer, EraChoice, HttpServer, ListRules, MINUTE_MS, OpenFiles, ServerKind,
    ServerSettings, SessionUse, StdioServer, ToolRules, ViewSettings,
};
use super::shapes::{Arguments, CommandWord, Descriptions, Environment, Folder, Headers, KeptElsewhere, Renames};
use super::url::{ProxyUrl, ServerUrl};
use super::words::Pinning;
use crate::proto::address::AddressRule;
use crate::proto::mcp::NamePattern;
use std::collections::BTreeMap;

/// The kind of a server, by its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    DialIn,
    Http,
    Native,
    Sse,
    Stdio,
}

/// The keys of `[servers.NAME]`.
#[derive(Clone, Default)]
pub(super) struct ServerDraft {
    pub(super) kind: Option<Kind>,
    pub(super) url: Option<ServerUrl>,
    pub(super) addresses: Option<AddressRule>,
    pub(super) proxy: Option<ProxyUrl>,
    pub(super) proxy_authorization: Option<KeptElsewhere>,
    pub(super) roots: Option<Roots>,
    pub(super) headers: Option<Headers>,
    pub(super) connections_per_core: Option<Bounded<1, 1024>>,
    pub(super) command: Option<CommandWord>,
    pub(super) args: Option<Arguments>,
    pub(super) env: Option<Environment>,
    pub(super) cwd: Option<Folder>,
    pub(super) open_files: Option<OpenFiles>,
    pub(super) address_space_bytes: Option<AddressSpace>,
    pub(super) key: Option<KeptElsewhere>,
    pub(super) connections: Option<Bounded<1, 1024>>,
    pub(super) enabled: Option<bool>,
    pub(super) prefix: Option<Prefix>,
    pub(super) era: Option<EraChoice>,
    pub(super) sessions: Option<SessionUse>,
    pub(super) timeout_ms: Option<Millis<1, DAY_MS>>,
    pub(super) connect_timeout_ms: Option<Millis<1, { 10 * MINUTE_MS }>>,
    pub(super) list_timeout_ms: Option<Millis<1, { 10 * MINUTE_MS }>>,
    pub(super) concurrency: Option<Bounded<1, 65_536>>,
    pub(super) queue_calls: Option<Bounded<1, 1_048_576>>,
    pub(super) queue_bytes: Option<Bounded<{ 64 << 10 }, { 4 << 30 }>>,
    pub(super) queue_target_ms: Option<Millis<0, MINUTE_MS>>,
    pub(super) trust_annotations: Option<bool>,
    pub(super) pinning: Option<Pinning>,
    pub(super) tools_include: Option<Vec<NamePattern>>,
    pub(super) tools_exclude: Option<Vec<NamePattern>>,
    pub(super) tools_rename: Option<Renames>,
    pub(super) tools_describe: Option<Descriptions>,
    pub(super) prompts_include: Option<Vec<NamePattern>>,
    pub(super) prompts_exclude: Option<Vec<NamePattern>>,
    pub(super) resources_include: Option<Vec<NamePattern>>,
    pub(super) resources_exclude: Option<Vec<NamePattern>>,
}

/// The keys of `[views.NAME]`.
#[derive(Clone, Default)]
pub(super) struct ViewDraft {
    pub(super) servers: Option<Vec<ServerName>>,
    pub(super) tools: Option<Vec<NamePattern>>,
    pub(super) rename: Option<Renames>,
}

/// A key that has no default, and what to write for it.
pub(super) struct Missing {
    pub(super) key: &'static str,
    pub(super) advice: String,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [Kind::Http, Kind::Sse, Kind::Stdio, Kind::DialIn, Kind::Native];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::DialIn => "dial_in",
            Kind::Http => "http",
            Kind::Native => "native",
            Kind::Sse => "sse",
            Kind::Stdio => "stdio",
        }
    }
}

impl Setting for Kind {
    fn allowed() -> String {
        "one of \"http\" (Streamable HTTP) \"sse\" (the deprecated HTTP+SSE) \"stdio\" (a child process) \"dial_in\" (it connects to us) \"native\" (the one in this process)"
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            return Ok(kind);
        }
        let refused = given.refused(Self::allowed());
        let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
        Err(match letters.to_ascii_lowercase().as_str() {
            "dialin" => refused.advise("it is called \"dial_in\" here"),
            "streamablehttp" | "streamable" | "https" => refused.advise("Streamable HTTP is called \"http\""),
            "websocket" | "ws" => refused.advise(
                "MCP has no such transport; ask the server for Streamable HTTP, or have it dial in by WebSocket: \"dial_in\"",
            ),
            _ => match nearest(text, Kind::ALL.map(Kind::as_str)) {
                Some(word) => refused.advise(format!("did you mean \"{word}\"?")),
                None => refused,
            },
        })
    }

    fn write(&self) -> String {
        quoted(self.as_str())
    }
}

impl ServerDraft {
    /// The keys of a server; those of other kinds are not there.
    pub(super) fn of(server: &ServerSettings) -> ServerDraft {
        let mut draft = ServerDraft {
            enabled: Some(server.enabled),
            prefix: Some(server.prefix.clone()),
            era: Some(server.era),
            sessions: Some(server.sessions),
            timeout_ms: Some(server.timeout_ms),
            connect_timeout_ms: Some(server.connect_timeout_ms),
            list_timeout_ms: Some(server.list_timeout_ms),
            concurrency: server.concurrency,
            queue_calls: server.queue_calls,
            queue_bytes: Some(server.queue_bytes),
            queue_target_ms: Some(server.queue_target_ms),
            trust_annotations: Some(server.trust_annotations),
            pinning: server.pinning,
            tools_include: Some(server.tools.names.include.clone()),
            tools_exclude: Some(server.tools.names.exclude.clone()),
            tools_rename: Some(Renames(server.tools.rename.clone())),
            tools_describe: Some(Descriptions(server.tools.describe.clone())),
            prompts_include: Some(server.prompts.include.clone()),
            prompts_exclude: Some(server.prompts.exclude.clone()),
            resources_include: Some(server.resources.include.clone()),
            resources_exclude: Some(server.resources.exclude.clone()),
            ..ServerDraft::default()
        };
        match &server.kind {
            ServerKind::Http(http) => draft.take_http(Kind::Http, http),
            ServerKind::Sse(http) => draft.take_http(Kind::Sse, http),
            ServerKind::Stdio(stdio) => {
                draft.kind = Some(Kind::Stdio);
                draft.command = Some(CommandWord(stdio.command.clone()));
                draft.args = Some(Arguments(stdio.args.clone()));
                draft.env = Some(Environment(stdio.env.clone()));
                draft.cwd = stdio.cwd.clone().map(Folder);
                draft.open_files = stdio.open_files;
                draft.address_space_bytes = stdio.address_space_bytes;
            }
            ServerKind::DialIn(dial_in) => {
                draft.kind = Some(Kind::DialIn);
                draft.key = Some(KeptElsewhere(dial_in.key.clone()));
                draft.connections = Some(dial_in.connections);
            }
            ServerKind::Native => draft.take_native(),
        }
        draft
    }

    /// Of what there is for each kind, that which concerns this one.
    fn take_native(&mut self) {
        self.kind = Some(Kind::Native);
        (self.era, self.sessions, self.trust_annotations, self.pinning) = (None, None, None, None);
        (self.connect_timeout_ms, self.list_timeout_ms) = (None, None);
        (self.queue_calls, self.queue_bytes, self.queue_target_ms) = (None, None, None);
    }

    fn take_http(&mut self, kind: Kind, http: &HttpServer) {
        self.kind = Some(kind);
        self.url = Some(http.url.clone());
        self.addresses = Some(http.addresses);
        self.proxy = http.proxy.clone();
        self.proxy_authorization = http.proxy_authorization.clone().map(KeptElsewhere);
        self.roots = Some(http.roots.clone());
        self.headers = Some(Headers(http.headers.clone()));
        self.connections_per_core = Some(http.connections_per_core);
    }

    /// The settings, with the defaults for what is not there.
    pub(super) fn finish(self, name: &ServerName) -> Result<ServerSettings, Missing> {
        let kind = match self.kind {
            Some(Kind::Http) => ServerKind::Http(self.http()?),
            Some(Kind::Sse) => ServerKind::Sse(self.http()?),
            Some(Kind::Stdio) => ServerKind::Stdio(self.stdio()?),
            Some(Kind::DialIn) => ServerKind::DialIn(self.dial_in()?),
            Some(Kind::Native) => ServerKind::Native,
            None => return Err(self.without_kind()),
        };
        let default = ServerSettings::new(name, kind);
        let rules = |include: Option<_>, exclude: Option<_>| ListRules {
            include: include.unwrap_or_default(),
            exclude: exclude.unwrap_or_default(),
        };
        Ok(ServerSettings {
            enabled: self.enabled.unwrap_or(default.enabled),
            kind: default.kind,
            prefix: self.prefix.unwrap_or(default.prefix),
            era: self.era.unwrap_or(default.era),
            sessions: self.sessions.unwrap_or(default.sessions),
            timeout_ms: self.timeout_ms.unwrap_or(default.timeout_ms),
            connect_timeout_ms: self.connect_timeout_ms.unwrap_or(default.connect_timeout_ms),
            list_timeout_ms: self.list_timeout_ms.unwrap_or(default.list_timeout_ms),
            concurrency: self.concurrency,
            queue_calls: self.queue_calls,
            queue_bytes: self.queue_bytes.unwrap_or(default.queue_bytes),
            queue_target_ms: self.queue_target_ms.unwrap_or(default.queue_target_ms),
            trust_annotations: self.trust_annotations.unwrap_or(default.trust_annotations),
            pinning: self.pinning,
            tools: ToolRules {
                names: rules(self.tools_include, self.tools_exclude),
                rename: self.tools_rename.map_or_else(BTreeMap::new, |renames| renames.0),
                describe: self.tools_describe.map_or_else(BTreeMap::new, |descriptions| descriptions.0),
            },
            prompts: rules(self.prompts_include, self.prompts_exclude),
            resources: rules(self.resources_include, self.resources_exclude),
        })
    }

    fn http(&self) -> Result<HttpServer, Missing> {
        let missing = || Missing { key: "url", advice: "add url = \"https://host/path\"".to_owned() };
        let default = HttpServer::new(self.url.clone().ok_or_else(missing)?);
        Ok(HttpServer {
            addresses: self.addresses.unwrap_or(default.addresses),
            proxy: self.proxy.clone(),
            proxy_authorization: self.proxy_authorization.clone().map(|kept| kept.0),
            roots: self.roots.clone().unwrap_or(default.roots),
            headers: self.headers.clone().unwrap_or_default().0,
            connections_per_core: self.connections_per_core.unwrap_or(default.connections_per_core),
            url: default.url,
        })
    }

    fn stdio(&self) -> Result<StdioServer, Missing> {
        let missing = || Missing { key: "command", advice: "add command = \"program\"".to_owned() };
        Ok(StdioServer {
            open_files: self.open_files,
            address_space_bytes: self.address_space_bytes,
            command: self.command.clone().ok_or_else(missing)?.0,
            args: self.args.clone().unwrap_or_default().0,
            env: self.env.clone().unwrap_or_default().0,
            cwd: self.cwd.clone().map(|folder| folder.0),
        })
    }

    fn dial_in(&self) -> Result<DialInServer, Missing> {
        let missing =
            || Missing { key: "key", advice: "add key = { env = \"VARIABLE\" } or { file = \"/path\" }".to_owned() };
        let default = DialInServer::new(self.key.clone().ok_or_else(missing)?.0);
        Ok(DialInServer { connections: self.connections.unwrap_or(default.connections), ..default })
    }

    fn without_kind(&self) -> Missing {
        let advice = match &self.url {
            _ if self.command.is_some() => "add kind = \"stdio\"".to_owned(),
            Some(url) if url.target().ends_with("/sse") => "add kind = \"sse\", or \"http\"".to_owned(),
            Some(_) => "add kind = \"http\", or \"sse\" if it speaks the deprecated HTTP+SSE only".to_owned(),
            None => format!("add kind = {}", Kind::ALL.map(|kind| quoted(kind.as_str())).join(" or ")),
        };
        Missing { key: "kind", advice }
    }
}

impl ViewDraft {
    /// The keys of a view.
    pub(super) fn of(view: &ViewSettings) -> ViewDraft {
        ViewDraft {
            servers: Some(view.servers.clone()),
            tools: Some(view.tools.clone()),
            rename: Some(Renames(view.rename.clone())),
        }
    }

    /// The settings, with the defaults for what is not there.
    pub(super) fn finish(self) -> Result<ViewSettings, Missing> {
        let missing = || Missing { key: "servers", advice: "add servers = [\"name\"]".to_owned() };
        Ok(ViewSettings {
            servers: self.servers.ok_or_else(missing)?,
            tools: self.tools.unwrap_or_default(),
            rename: self.rename.map_or_else(BTreeMap::<String, ToolName>::new, |renames| renames.0),
        })
    }
}
