//! Cutting the configured servers and views into what the gateway is told, with their names resolved.
//!
//! Not here: reading them (`config`), reaching them (`upstream::gateway`).
//! Invariant: the address that is judged is the address that is dialled; a server whose name leads nowhere keeps nobody
//! else from starting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use super::resolve::{self, Lookup};
use super::{BootError, trust};
use crate::config::{
    Bounded, Demonstration, EraChoice, HttpServer, ListRules, Pinning, ServerKind, ServerName, ServerSettings,
    SessionUse, Settings, StdioServer, Supplied, ToolName,
};
use crate::ids::OutboundAddress;
use crate::proto::http1::Target;
use crate::proto::json::Object;
use crate::sys::guard::{ChildLimits, CommandSpec, clean_environment};
use crate::upstream::dial_in::{Gate, KeyDigest};
use crate::upstream::gateway as to;
use crate::upstream::http::TunnelSettings;
use crate::upstream::stdio::ChildSettings;

/// Calls of one core that wait for a link or for a handshake, for each link that there may be.
const WAITING_PER_LINK: usize = 64;
/// Answers may be larger than requests: results hold pictures and files.
const ANSWER_BYTES_MIN: usize = 16 * 1024 * 1024;

/// Looks for a view by the name that stands behind the endpoint's path; empty for all servers.
///
/// # Errors
/// Which there are, if it is none of them.
pub(super) fn find_view(settings: &Settings, name: &str) -> Result<(), BootError> {
    let servers = settings.servers.iter().filter(|(_, server)| server.enabled).map(|(name, _)| name.to_string());
    let views = settings.views.iter().map(|(name, _)| format!("@{name}"));
    let there: Vec<String> = servers.chain(views).collect();
    if name.is_empty() || there.iter().any(|one| one == name) {
        return Ok(());
    }
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Err(BootError::NoView(name.to_owned(), there))
}

/// Whether a server is a child process, so that there has to be a guard.
pub(super) fn has_children(settings: &Settings) -> bool {
    let is_child = |server: &ServerSettings| server.enabled && matches!(server.kind, ServerKind::Stdio(_));
    settings.servers.iter().any(|(_, server)| is_child(server))
}

/// The gateway's part, but for the servers.
pub(super) fn gateway(settings: &Settings, is_demonstration: bool, seats: &Arc<to::Seats>) -> to::GatewaySettings {
    let mut server_info = Vec::new();
    let mut object = Object::begin(&mut server_info);
    object.string("name", "corelane");
    object.string("version", env!("CARGO_PKG_VERSION"));
    object.end();
    to::GatewaySettings {
        servers: Vec::new(),
        retired: Default::default(),
        pinning: Vec::new(),
        native_is_seen: native_is_seen(settings, is_demonstration),
        native: native(settings, seats),
        views: settings
            .views
            .iter()
            .map(|(name, view)| to::ViewSettings {
                name: name.as_str().into(),
                tools: to::ToolRules {
                    names: to::ListRules { include: view.tools.clone(), exclude: Vec::new() },
                    rename: renames(&view.rename),
                    describe: Default::default(),
                },
                servers: view.servers.iter().map(|server| server.as_str().into()).collect(),
            })
            .collect(),
        list_ttl: settings.gateway.list_ttl_ms.ns(),
        server_info,
    }
}

/// What operators are shown of a server: its kind, and its address without secrets or its program.
pub(super) fn shown(server: &ServerSettings) -> (&'static str, String) {
    match &server.kind {
        ServerKind::Http(http) => ("http", http.url.without_query()),
        ServerKind::Sse(http) => ("sse", http.url.without_query()),
        ServerKind::Native => ("native", "in this process".to_owned()),
        ServerKind::DialIn(_) => ("dial_in", "dials in".to_owned()),
        // Not its arguments: they may hold a secret.
        ServerKind::Stdio(child) => ("stdio", child.command.clone()),
    }
}

/// What is said of the native server, if it has a section that is in use.
fn native(settings: &Settings, seats: &Arc<to::Seats>) -> Option<Arc<to::NativeSettings>> {
    let (name, server) = settings.native().filter(|(_, server)| server.enabled)?;
    Some(Arc::new(to::NativeSettings {
        name: name.as_str().into(),
        prefix: server.prefix.as_str().into(),
        rules: rules(server),
        call_time: server.timeout_ms.ns(),
        ask_time: settings.calls.ask_timeout_ms.ns(),
        seats: server.concurrency.map(|most| (most.usize(), Arc::clone(seats))),
        waiting_max: server.calls_max() * WAITING_PER_LINK,
    }))
}

/// Whether the native server is seen among the others; `is_demonstration` if it is the one that is built in.
fn native_is_seen(settings: &Settings, is_demonstration: bool) -> bool {
    let alone = !settings.servers.iter().any(|(_, server)| server.enabled && !server.is_native());
    match settings.gateway.demonstration {
        _ if let Some((_, server)) = settings.native() => server.enabled || alone,
        _ if !is_demonstration => true,
        Demonstration::On => true,
        // Without servers somebody has to answer all the same.
        Demonstration::Auto | Demonstration::Off => alone,
    }
}

/// What happens when a server changes a tool.
pub(super) fn pinning(settings: &Settings, server: &ServerSettings) -> to::Pinning {
    match server.pinning(&settings.gateway) {
        Pinning::Off => to::Pinning::Off,
        Pinning::Quarantine => to::Pinning::Quarantine,
        Pinning::Warn => to::Pinning::Warn,
    }
}

/// One server's part; none of the native one, which has no place among them.
pub(super) fn server(
    settings: &Settings,
    name: &ServerName,
    server: &ServerSettings,
    lookup: Lookup,
) -> Option<to::ServerSettings> {
    let (link, links_max) = match &server.kind {
        ServerKind::Native => return None,
        ServerKind::Http(http) => (to::LinkSettings::Http(link(http, lookup)), http.connections_per_core.usize()),
        ServerKind::Stdio(child) => (to::LinkSettings::Child(Arc::new(self::child(child))), 1),
        ServerKind::DialIn(dial_in) => {
            let digest = KeyDigest::of(dial_in.key.value().reveal().as_bytes());
            let gate = Gate::new(name.as_str(), digest, dial_in.connections.usize());
            (to::LinkSettings::DialIn(Arc::new(gate)), 1)
        }
        ServerKind::Sse(http) => {
            let link = to::LinkSettings::Sse(link(http, lookup), http.url.authority().as_str().into());
            (link, http.connections_per_core.usize().max(2))
        }
    };
    // A limit that somebody chose is kept exactly, over all cores; the default is a bound for what one core may do.
    let calls_max_is_for_all = server.concurrency.is_some();
    let is_for_all = calls_max_is_for_all || !matches!(server.kind, ServerKind::Http(_));
    let waiting = if is_for_all { server.calls_max().max(links_max) } else { links_max };
    Some(to::ServerSettings {
        name: name.as_str().into(),
        prefix: server.prefix.as_str().into(),
        link,
        era: match server.era {
            EraChoice::Auto => to::EraChoice::Auto,
            EraChoice::Legacy => to::EraChoice::Legacy,
            EraChoice::Modern => to::EraChoice::Modern,
        },
        rules: rules(server),
        list_time: server.list_timeout_ms.ns(),
        call_time: server.timeout_ms.ns(),
        ask_time: settings.calls.ask_timeout_ms.ns(),
        connect_time: server.connect_timeout_ms.ns(),
        session_idle: settings.sessions.idle_ms.ns(),
        links_max,
        waiting_max: server.queue_calls.map_or(waiting * WAITING_PER_LINK, Bounded::usize),
        waiting_bytes_max: server.queue_bytes.usize(),
        queue_target: server.queue_target_ms.ns(),
        calls_max: if is_for_all { server.calls_max() } else { links_max },
        calls_max_is_for_all,
        is_per_session: server.sessions == SessionUse::PerSession,
        trusts_annotations: server.trust_annotations,
        answer_bytes_max: settings.limits.body_bytes.usize().max(ANSWER_BYTES_MIN),
    })
}

fn renames(given: &BTreeMap<String, ToolName>) -> BTreeMap<String, String> {
    given.iter().map(|(own, seen)| (own.clone(), seen.as_str().to_owned())).collect()
}

fn rules(server: &ServerSettings) -> to::Rules {
    let of = |rules: &ListRules| to::ListRules { include: rules.include.clone(), exclude: rules.exclude.clone() };
    to::Rules {
        tools: to::ToolRules {
            names: of(&server.tools.names),
            rename: renames(&server.tools.rename),
            describe: server.tools.describe.clone(),
        },
        prompts: of(&server.prompts),
        resources: of(&server.resources),
    }
}

/// What a child is started with.
fn child(server: &StdioServer) -> ChildSettings {
    let mut command = CommandSpec::new(&server.command);
    command.arguments = server.args.iter().map(OsString::from).collect();
    let given = server.env.iter().map(|(name, value)| (name.into(), value.value().reveal().into()));
    command.environment = clean_environment(given);
    command.directory.clone_from(&server.cwd);
    command.limits = ChildLimits {
        open_files: server.open_files.map(Bounded::get),
        address_space_bytes: server.address_space_bytes.map(Bounded::get),
    };
    let secret = |value: &Supplied| value.value().reveal().as_bytes().into();
    ChildSettings { command, secrets: server.env.values().map(secret).collect() }
}

/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 8;

fn link(http: &HttpServer, lookup: Lookup) -> to::HttpLink {
    let url = &http.url;
    let field = |value: &str| value.as_bytes().into();
    let fields = http.headers.iter().map(|(name, value)| (name.as_str().into(), field(value.value().reveal())));
    let target = match Target::new(&url.authority(), url.target()) {
        Ok(target) => target,
        Err(error) => unreachable!("the URL was checked when it was read: {error}"),
    };
    let tls = url.is_tls().then(|| trust::towards(url.host(), &http.roots)).transpose();
    let addresses = resolve::addresses(http, lookup)
        .map(|found| found.into_iter().take(ADDRESSES_MAX).map(OutboundAddress::Internet).collect());
    let (addresses, tls) = match (addresses, tls) {
        (Ok(addresses), Ok(tls)) => (Ok(addresses), tls),
        (Err(why), _) | (_, Err(why)) => (Err(why.into()), None),
    };
    let tunnel = http.proxy.as_ref().map(|_| {
        let shown = http.proxy_authorization.as_ref().map(|supplied| supplied.value().reveal().as_bytes());
        TunnelSettings::new(&format!("{}:{}", url.host(), url.port()), shown)
    });
    to::HttpLink { addresses, tunnel, tls, target, fields: to::Fields(fields.collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_limit_of_calls_holds_if_it_is_written_whatever_it_is() {
        let limit = |kind: &str, more: &str| {
            let text = format!("[servers.a]\n{kind}\n{more}\n");
            let settings = Config::from_toml("c.toml", &text).expect("valid").into_settings();
            let (name, one) = settings.servers.first().expect("there is one");
            let server = server(&settings, name, one, resolve::by_system).expect("it has a place");
            (server.calls_max_is_for_all, server.calls_max)
        };
        let http = "kind = \"http\"\nurl = \"http://127.0.0.1:1/mcp\"";
        assert_eq!(limit(http, ""), (false, 32), "as many as a core has connections");
        assert_eq!(limit(http, "concurrency = 255"), (true, 255));
        assert_eq!(limit(http, "concurrency = 256"), (true, 256));
        let child = "kind = \"stdio\"\ncommand = \"/bin/true\"";
        assert_eq!(limit(child, ""), (false, 256));
        assert_eq!(limit(child, "concurrency = 256"), (true, 256));
    }
}
