//! What is printed at start-up: who runs where, what the kernel lacks, what was configured, and a line to try.
//!
//! Not here: judging the host (`host`). Invariant: printed before the first connection is served, and true then.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::launch::Steering;
use super::load;
use super::plan::Plan;
use crate::config::{NonDefault, ServeSettings, ServedEra, Settings};
use crate::shard::range::BoundaryTable;
use crate::uring::Features;

/// The start-up report.
pub(super) struct Report<'a> {
    pub plan: &'a Plan,
    pub table: &'a BoundaryTable,
    pub features: &'a Features,
    pub steered: &'a Steering,
    pub non_defaults: &'a [NonDefault],
    pub http: &'a [SocketAddr],
    pub tcp: &'a [SocketAddr],
    pub settings: &'a Settings,
    pub dial_in: &'a [SocketAddr],
    pub control: Option<SocketAddr>,
    pub took: Duration,
}

impl Report<'_> {
    /// The same as one event of the log, for whoever reads logs by program.
    pub(super) fn log(&self) {
        let joined = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(", ");
        let serve = &self.settings.serve;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            prepared_ms = self.took.as_millis() as u64,
            cpus = joined(&mut self.plan.cores.iter().map(|core| core.place.cpu.to_string())),
            shards = self.table.shards(),
            steering = matches!(self.steered, Steering::On),
            kernel = self.features.found().join(", "),
            without = joined(&mut self.features.missing().iter().map(ToString::to_string)),
            configured = joined(&mut self.non_defaults.iter().map(ToString::to_string)),
            http = joined(&mut self.http.iter().map(ToString::to_string)),
            endpoint = serve.endpoint.as_str(),
            tcp = joined(&mut self.tcp.iter().map(ToString::to_string)),
            unix = joined(&mut serve.unix.iter().map(|path| path.as_path().display().to_string())),
            dial_in = joined(&mut self.dial_in.iter().map(ToString::to_string)),
            control = joined(&mut self.control.iter().map(ToString::to_string)),
            "starting"
        );
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "corelane {} starting (prepared in {:.0?})", env!("CARGO_PKG_VERSION"), self.took)?;
        writeln!(f, "\n{}", self.plan)?;
        let why = load::why_so_many(&self.settings.cores, self.table.cores());
        writeln!(f, "shards: {}, one contiguous range per core; {why}", self.table.shards())?;
        match self.steered {
            Steering::On => writeln!(f, "steering: on (a connection's addresses and ports choose its core)")?,
            Steering::Off => writeln!(f, "steering: off (the kernel's own hash chooses the core)")?,
            Steering::Refused(error) => {
                writeln!(f, "steering: off, the kernel refused the program: {error}; its own hash chooses the core")?;
            }
        }
        let found = self.features.found();
        writeln!(
            f,
            "kernel: io_uring has {}",
            if found.is_empty() { "what is needed".into() } else { found.join(", ") }
        )?;
        for line in self.features.missing() {
            writeln!(f, "without {line} (the kernel lacks it, or CORELANE_DISABLE names it)")?;
        }
        if self.non_defaults.is_empty() {
            writeln!(f, "configuration: all defaults")?;
        } else {
            writeln!(f, "configuration, where it differs from the defaults:")?;
            for setting in self.non_defaults {
                writeln!(f, "  {setting}")?;
            }
        }
        writeln!(f)?;
        let endpoint = self.settings.serve.endpoint.as_str();
        for address in self.http {
            writeln!(f, "MCP over HTTP:  http://{address}{endpoint}")?;
        }
        for address in self.tcp {
            writeln!(f, "MCP over TCP:   {address} (one JSON message per line)")?;
        }
        for path in &self.settings.serve.unix {
            writeln!(f, "MCP over Unix:  {} (one JSON message per line)", path.as_path().display())?;
        }
        for address in self.dial_in {
            writeln!(f, "servers dial in: {address} (lines over TCP, or WebSocket)")?;
        }
        if let Some(control) = self.control {
            writeln!(f, "health, metrics: http://{control}/healthz /readyz /metrics")?;
        }
        if let Some(address) = self.http.first() {
            writeln!(f, "\ntry it:\n  {}", curl(reachable(*address), &self.settings.serve))?;
        }
        writeln!(f)
    }
}

/// Where a listener can be reached from this host, by a name that it answers to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A line for a shell that is answered with a result: in an era that is served, and to a host that is.
fn curl(address: SocketAddr, serve: &ServeSettings) -> String {
    let url = quoted(&format!("http://{address}{}", serve.endpoint.as_str()));
    let hosts = &serve.allowed_hosts;
    let host = match hosts.alone().check_host(address.to_string().as_bytes()) {
        Ok(()) => String::new(),
        Err(_) => hosts.rules().first().map(|rule| format!("-H 'Host: {rule}' ")).unwrap_or_default(),
    };
    let asks = match serve.era {
        ServedEra::Both | ServedEra::Modern => {
            "-H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/list' \
             -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"_meta\":{\
             \"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\
             \"io.modelcontextprotocol/clientCapabilities\":{}}}}'"
        }
        ServedEra::Legacy => {
            "-H 'Accept: application/json, text/event-stream' \
             -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\
             \"capabilities\":{},\"clientInfo\":{\"name\":\"curl\",\"version\":\"1\"}}}'"
        }
    };
    format!("curl -sg {url} {host}-H 'Content-Type: application/json' {asks}")
}

/// A word as shells read it; only one that might mean something to them is put in quotes.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/._-".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
