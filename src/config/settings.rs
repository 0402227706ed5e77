//! One plain struct of settings per consuming module, with the defaults.
//!
//! Not documented for operators here: the text of each key is in `table`. Invariant: bounds are in the types, so a
//! struct made by anybody is valid field by field; what relates two fields is checked where `Config` is made.

use super::bounded::{AutoOr, Bounded, Millis, PowerOfTwo};
use super::given::Setting as _;
use super::hosts::{AllowedHosts, AllowedOrigins};
use super::names::ServerName;
use super::servers::{ServerKind, ServerSettings};
use super::steps::Steps;
use super::words::{
    CoreList, Demonstration, HttpPath, LogFormat, LogLevel, OptionalFilePath, OptionalHttpPath, OptionalUnixPath,
    Pinning, ServedEra, SocketMode, TicketKey, UnixPath,
};
use crate::limits::{
    BODY_BYTES_DEFAULT, BODY_BYTES_MAX, CORES_MAX, REGISTRY_WRITE_LIMIT_NS_DEFAULT, SESSIONS_PER_CORE_MAX, SHARDS_MAX,
};
use std::net::{Ipv4Addr, SocketAddr};

const MIB: u64 = 1024 * 1024;
const HOUR_MS: u64 = 3_600_000;

/// `[serve]`: where clients connect. For `boot` (listeners) and `server` (paths, hosts, origins).
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct ServeSettings {
    pub listen: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub unix: Vec<UnixPath>,
    pub unix_mode: SocketMode,
    pub endpoint: HttpPath,
    pub sse_endpoint: OptionalHttpPath,
    pub message_endpoint: HttpPath,
    pub era: ServedEra,
    pub allowed_hosts: AllowedHosts,
    pub allowed_origins: AllowedOrigins,
    pub backlog: Bounded<1, 65_535>,
    pub drain_deadline_ms: Millis<0, HOUR_MS>,
}

/// `[cores]`: which CPUs work, and how work is spread over them. For `boot` and the mesh.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct CoreSettings {
    pub list: CoreList,
    pub shards: AutoOr<1, { SHARDS_MAX as u64 }>,
    pub expected_connections: Bounded<1, 100_000_000>,
    pub pin: bool,
    pub steering: bool,
    pub stall_limit_ms: Millis<0, HOUR_MS>,
    pub batch_max: Bounded<1, 256>,
}

/// `[limits]`: what one connection may take, and how many there may be. For `proto` and `server`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct LimitSettings {
    pub body_bytes: Bounded<1024, { BODY_BYTES_MAX as u64 }>,
    pub line_bytes: Bounded<1024, { BODY_BYTES_MAX as u64 }>,
    pub connections: AutoOr<1, 100_000_000>,
    pub connections_soft: AutoOr<1, 100_000_000>,
    pub connections_per_core: AutoOr<16, 1_048_576>,
    pub connections_per_peer: AutoOr<1, 100_000_000>,
    pub connections_per_loopback: Bounded<0, 100_000_000>,
    pub accepts_per_s: AutoOr<1, 10_000_000>,
    pub accept_burst: AutoOr<1, 100_000_000>,
    pub head_timeout_ms: Millis<100, HOUR_MS>,
    pub body_grace_ms: Millis<100, HOUR_MS>,
    pub body_bytes_per_s: Bounded<1, 1_073_741_824>,
    pub keep_alive_ms: Millis<1_000, { 24 * HOUR_MS }>,
    pub pipeline_depth: Bounded<1, 64>,
    pub in_flight_per_connection: Bounded<1, 4096>,
    pub messages_per_s: Bounded<0, 10_000_000>,
    pub message_burst: Bounded<1, 10_000_000>,
    pub egress_bytes: Bounded<16_384, { 16 * MIB }>,
    pub write_stall_ms: Millis<100, HOUR_MS>,
}

/// `[sessions]`: legacy sessions (MCP before 2026-07-28). For `shard`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct SessionSettings {
    pub idle_ms: Millis<1_000, { 7 * 24 * HOUR_MS }>,
    pub per_core_max: Bounded<1, { SESSIONS_PER_CORE_MAX as u64 }>,
    pub replay_events: Bounded<0, 65_536>,
    pub replay_bytes: Bounded<0, { 16 * MIB }>,
    pub replay_core_bytes: Bounded<0, { 16 * 1024 * MIB }>,
    pub retry_ms: Millis<1, 60_000>,
    pub ticket_key: TicketKey,
}

/// `[streams]`: event streams. For `server`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct StreamSettings {
    pub keep_alive_ms: Millis<1_000, HOUR_MS>,
    pub listen_per_connection: Bounded<1, 1024>,
}

/// `[calls]`: deadlines. For `server` and `shard`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct CallSettings {
    pub timeout_ms: Millis<1, { 24 * HOUR_MS }>,
    pub timeout_max_ms: Millis<1, { 24 * HOUR_MS }>,
    pub ask_timeout_ms: Millis<1_000, { 24 * HOUR_MS }>,
}

/// `[gateway]`: what all configured servers have in common. For `upstream` and `boot`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct GatewaySettings {
    pub demonstration: Demonstration,
    pub list_ttl_ms: Millis<0, HOUR_MS>,
    pub resolve_ms: Millis<1_000, { 24 * HOUR_MS }>,
    pub ports: Vec<Bounded<1, 65_535>>,
    pub pinning: Pinning,
    pub pins: OptionalFilePath,
}

/// `[dial_in]`: where servers connect that dial in. For `boot`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct DialInSettings {
    pub listen: Vec<SocketAddr>,
    pub allowed_hosts: AllowedHosts,
    pub timeout_ms: Millis<100, 60_000>,
    pub unknown_max: Bounded<1, 4096>,
}

/// `[registry]`: servers and transports that embedding programs and operators register. For `boot`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct RegistrySettings {
    pub write_limit_us: Bounded<1, 60_000_000>,
}

/// `[uring]`: sizes of each core's ring. For `uring`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct UringSettings {
    pub entries: PowerOfTwo<64, 32_768>,
    pub cq_entries: PowerOfTwo<128, 65_536>,
    pub buffers: PowerOfTwo<16, 32_768>,
    pub buffer_bytes: PowerOfTwo<1024, 65_536>,
    pub buffers_max: PowerOfTwo<16, 32_768>,
    pub descriptors: AutoOr<64, 1_048_576>,
}

/// `[control]`: health and metrics. For `control`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct ControlSettings {
    pub listen: SocketAddr,
    pub allowed_hosts: AllowedHosts,
    pub socket: OptionalUnixPath,
}

/// `[zones]`: from where on a reading is yellow, orange and red. For `control`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct ZoneSettings {
    pub calls: Steps<100_000_000>,
    pub connections_percent: Steps<100>,
    pub cpu_percent: Steps<100>,
    pub errors_per_million: Steps<1_000_000>,
    pub memory_percent: Steps<100>,
    pub wait_ms: Steps<60_000>,
    pub rise_ms: Millis<0, HOUR_MS>,
    pub fall_ms: Millis<0, HOUR_MS>,
}

/// `[offload]`: the pool for handlers that block or need tokio. For `upstream` and `boot`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct OffloadSettings {
    pub threads: Bounded<1, 64>,
    pub blocking_threads: Bounded<1, 512>,
}

/// `[log]`: how much is logged and in which form. For `control`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "each field is documented in `table`, where operators read it too")]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            listen: vec![(Ipv4Addr::LOCALHOST, 8808).into()],
            tcp: Vec::new(),
            unix: Vec::new(),
            unix_mode: SocketMode::OWNER,
            endpoint: HttpPath::known("/mcp"),
            sse_endpoint: OptionalHttpPath(Some(HttpPath::known("/sse"))),
            message_endpoint: HttpPath::known("/message"),
            era: ServedEra::Both,
            allowed_hosts: AllowedHosts::default(),
            allowed_origins: AllowedOrigins::default(),
            backlog: const { Bounded::known(4096) },
            drain_deadline_ms: const { Millis::known(10_000) },
        }
    }
}

impl Default for CoreSettings {
    fn default() -> Self {
        CoreSettings {
            list: CoreList::All,
            shards: AutoOr::Auto,
            expected_connections: const { Bounded::known(10_000) },
            pin: true,
            steering: true,
            stall_limit_ms: const { Millis::known(30_000) },
            batch_max: const { Bounded::known(50) },
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            body_bytes: const { Bounded::known(BODY_BYTES_DEFAULT as u64) },
            line_bytes: const { Bounded::known(BODY_BYTES_DEFAULT as u64) },
            connections: AutoOr::Auto,
            connections_soft: AutoOr::Auto,
            connections_per_core: AutoOr::Auto,
            connections_per_peer: AutoOr::Auto,
            connections_per_loopback: const { Bounded::known(0) },
            accepts_per_s: AutoOr::Auto,
            accept_burst: AutoOr::Auto,
            head_timeout_ms: const { Millis::known(5_000) },
            body_grace_ms: const { Millis::known(5_000) },
            body_bytes_per_s: const { Bounded::known(1024) },
            keep_alive_ms: const { Millis::known(75_000) },
            pipeline_depth: const { Bounded::known(8) },
            in_flight_per_connection: const { Bounded::known(64) },
            messages_per_s: const { Bounded::known(10_000) },
            message_burst: const { Bounded::known(1_000) },
            egress_bytes: const { Bounded::known(262_144) },
            write_stall_ms: const { Millis::known(5_000) },
        }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            idle_ms: const { Millis::known(HOUR_MS / 2) },
            per_core_max: const { Bounded::known(131_072) },
            replay_events: const { Bounded::known(256) },
            replay_bytes: const { Bounded::known(262_144) },
            replay_core_bytes: const { Bounded::known(64 * MIB) },
            retry_ms: const { Millis::known(1_000) },
            ticket_key: TicketKey::MadeAtStart,
        }
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        StreamSettings {
            keep_alive_ms: const { Millis::known(15_000) },
            listen_per_connection: const { Bounded::known(8) },
        }
    }
}

impl Default for CallSettings {
    fn default() -> Self {
        CallSettings {
            timeout_ms: const { Millis::known(30_000) },
            timeout_max_ms: const { Millis::known(300_000) },
            ask_timeout_ms: const { Millis::known(600_000) },
        }
    }
}

impl GatewaySettings {
    /// Why a server may not be reached at the port of its URL, in words; nothing if it may.
    pub fn refuses_port(&self, name: &ServerName, server: &ServerSettings) -> Option<String> {
        let (ServerKind::Http(http) | ServerKind::Sse(http)) = &server.kind else { return None };
        let port = http.url.port();
        if !server.enabled || self.ports.is_empty() || self.ports.iter().any(|one| one.get() == u64::from(port)) {
            return None;
        }
        Some(format!("servers.{name} is at port {port}, but `gateway.ports` allows {}", self.ports.write()))
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        GatewaySettings {
            demonstration: Demonstration::Auto,
            list_ttl_ms: const { Millis::known(5_000) },
            resolve_ms: const { Millis::known(30_000) },
            ports: Vec::new(),
            pinning: Pinning::Off,
            pins: OptionalFilePath::default(),
        }
    }
}

impl Default for DialInSettings {
    fn default() -> Self {
        DialInSettings {
            listen: Vec::new(),
            allowed_hosts: AllowedHosts::default(),
            timeout_ms: const { Millis::known(5_000) },
            unknown_max: const { Bounded::known(64) },
        }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        RegistrySettings { write_limit_us: const { Bounded::known(REGISTRY_WRITE_LIMIT_NS_DEFAULT / 1_000) } }
    }
}

impl Default for UringSettings {
    fn default() -> Self {
        UringSettings {
            entries: const { PowerOfTwo::known(4096) },
            cq_entries: const { PowerOfTwo::known(16_384) },
            buffers: const { PowerOfTwo::known(512) },
            buffer_bytes: const { PowerOfTwo::known(4096) },
            buffers_max: const { PowerOfTwo::known(4096) },
            descriptors: AutoOr::Auto,
        }
    }
}

impl Default for ControlSettings {
    fn default() -> Self {
        ControlSettings {
            listen: (Ipv4Addr::LOCALHOST, 8809).into(),
            allowed_hosts: AllowedHosts::default(),
            socket: OptionalUnixPath::default(),
        }
    }
}

impl Default for ZoneSettings {
    fn default() -> Self {
        ZoneSettings {
            calls: const { Steps::known([25_000, 50_000, 100_000]) },
            connections_percent: const { Steps::known([75, 90, 98]) },
            cpu_percent: const { Steps::known([60, 80, 95]) },
            errors_per_million: const { Steps::known([500, 1_000, 10_000]) },
            memory_percent: const { Steps::known([60, 75, 90]) },
            wait_ms: const { Steps::known([100, 150, 200]) },
            rise_ms: const { Millis::known(10_000) },
            fall_ms: const { Millis::known(60_000) },
        }
    }
}

impl Default for OffloadSettings {
    fn default() -> Self {
        OffloadSettings { threads: const { Bounded::known(1) }, blocking_threads: const { Bounded::known(16) } }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: LogLevel::Info, format: LogFormat::Text }
    }
}

const _: () = assert!(CORES_MAX <= SHARDS_MAX, "every core owns at least one shard");
