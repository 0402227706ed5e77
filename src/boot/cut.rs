//! Cutting the configuration into what each module is told.
//!
//! Not here: reading it (`config`). Invariant: the only place that turns configured values into a module's settings.

use super::BootError;
use crate::config::{ServedEra, Settings};
use crate::limits::{SUBSCRIPTIONS_MAX, TableShares, share_table};
use crate::server::connection::Wire;
use crate::server::core::TICK;
use crate::server::settings::{Eras, Settings as CoreSettings};
use crate::shard::peers::PeerLimits;
use crate::shard::rate::Rate;
use crate::shard::replay::ReplayLimits;
use crate::uring::DriverSettings;

/// Most direct descriptors that are used without being asked for: the table takes 8 bytes each of kernel memory.
const DESCRIPTORS_AUTO_MAX: u64 = 262_144;
/// Connections that a core takes in a second unless another number is asked for: about a fifth of what it can.
const ACCEPTS_PER_CORE_AND_S: u64 = 10_000;
/// Time a finished connection waits for its peer to close.
const LINGER_NANOS: u64 = 1_000_000_000;
/// How often sessions are looked through for idle ones.
const SWEEP_NANOS: u64 = 5_000_000_000;
/// How long clients may remember `server/discover`.
const DISCOVER_TTL_MS: u32 = 3_600_000;

/// The driver's part, for so many listeners; `nofile` is the soft limit of open files.
///
/// # Errors
/// If the table of descriptors is too small for the listeners.
pub(super) fn driver(settings: &Settings, nofile: u64, listeners: usize) -> Result<DriverSettings, BootError> {
    let uring = &settings.uring;
    let descriptors = uring.descriptors.fixed().unwrap_or(nofile.min(DESCRIPTORS_AUTO_MAX));
    let outbound = outbound(settings, descriptors as usize);
    let shares = shares(descriptors as usize - outbound, listeners)?;
    Ok(DriverSettings {
        entries: uring.entries.u32(),
        cq_entries: uring.cq_entries.u32(),
        descriptors: descriptors as u32,
        buffers: uring.buffers.get() as u16,
        buffers_max: uring.buffers_max.get() as u16,
        buffer_bytes: uring.buffer_bytes.usize(),
        accepts: shares.accepts,
        outbound: outbound as u32,
        ..DriverSettings::default()
    })
}

/// Descriptors that a crowd of clients must leave to the links of servers behind the gateway: all that these may have,
/// but never more than half the table.
fn outbound(settings: &Settings, descriptors: usize) -> usize {
    let enabled = settings.servers.iter().filter(|(_, server)| server.enabled);
    enabled.map(|(_, server)| server.opened_per_core()).sum::<usize>().min(descriptors / 2)
}

fn shares(descriptors: usize, listeners: usize) -> Result<TableShares, BootError> {
    share_table(descriptors, listeners).ok_or(BootError::TableTooSmall { descriptors, listeners })
}

/// Connections that a core may have open, with so many listeners.
///
/// # Errors
/// As `driver`.
pub(super) fn connections(settings: &Settings, driver: &DriverSettings, listeners: usize) -> Result<usize, BootError> {
    let most = shares((driver.descriptors - driver.outbound) as usize, listeners)?.connections;
    Ok(settings.limits.connections_per_core.fixed().map_or(most, |fixed| (fixed as usize).min(most)))
}

/// How many connections all cores together may serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ConnectionLimits {
    /// From how many on somebody is to hear of it.
    pub soft: u64,
    /// As configured; without it, what tables have room for is the limit.
    pub hard: Option<u64>,
    /// What comes first of both.
    pub most: u64,
}

/// Those limits, where each of so many cores has room for `per_core`.
pub(super) fn connection_limits(settings: &Settings, per_core: usize, cores: usize) -> ConnectionLimits {
    let (room, hard) = ((per_core * cores) as u64, settings.limits.connections.fixed());
    let most = hard.map_or(room, |hard| hard.min(room));
    let soft = settings.limits.connections_soft.fixed().unwrap_or(most - most / 4);
    ConnectionLimits { soft, hard, most }
}

/// How many connections one address may have, on all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AddressLimits {
    pub elsewhere: u64,
    pub loopback: Option<u64>,
}

impl AddressLimits {
    fn share(self, cores: usize) -> PeerLimits {
        let share = |most: u64| most.div_ceil(cores.max(1) as u64).min(u64::from(u32::MAX)) as u32;
        PeerLimits { elsewhere: Some(share(self.elsewhere)), loopback: self.loopback.map(share) }
    }
}

/// Those limits, where each of so many cores has room for `per_core`.
pub(super) fn peer_limits(settings: &Settings, per_core: usize, cores: usize) -> AddressLimits {
    let half = connection_limits(settings, per_core, cores).most.div_ceil(2);
    let elsewhere = settings.limits.connections_per_peer.fixed().unwrap_or(half);
    let loopback = settings.limits.connections_per_loopback.get();
    AddressLimits { elsewhere, loopback: (loopback > 0).then_some(loopback) }
}

/// How fast connections may come, on all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AcceptRate {
    pub per_second: u64,
    pub burst: u64,
}

impl AcceptRate {
    fn share(self, cores: usize) -> Rate {
        Rate::share(self.per_second, self.burst, cores as u64)
    }
}

/// That rate on so many cores.
pub(super) fn accept_rate(settings: &Settings, cores: usize) -> AcceptRate {
    let limits = &settings.limits;
    let per_second = limits.accepts_per_s.fixed().unwrap_or(ACCEPTS_PER_CORE_AND_S * cores as u64);
    let all_at_once = per_second.max(settings.cores.expected_connections.get());
    AcceptRate { per_second, burst: limits.accept_burst.fixed().unwrap_or(all_at_once) }
}

/// A core's part.
pub(super) fn core(
    settings: &Settings,
    driver: &DriverSettings,
    listeners: Vec<Wire>,
    ends_when_empty: bool,
    view: &str,
    cores: usize,
    boot: u64,
) -> Result<CoreSettings, BootError> {
    let limits = &settings.limits;
    let descriptors = (driver.descriptors - driver.outbound) as usize;
    // Standard input is a listener in name only.
    let armed = if ends_when_empty { 0 } else { listeners.len() };
    let connections_max = connections(settings, driver, armed)?;
    // HTTP+SSE is a way of the legacy era.
    let sse = Some(&settings.serve.sse_endpoint).filter(|_| settings.serve.era != ServedEra::Modern);
    Ok(CoreSettings {
        eras: match settings.serve.era {
            ServedEra::Both => Eras::Both,
            ServedEra::Legacy => Eras::Legacy,
            ServedEra::Modern => Eras::Modern,
        },
        listeners,
        filters: Vec::new(),
        hosts: settings.serve.allowed_hosts.with(&settings.serve.allowed_origins),
        endpoint: settings.serve.endpoint.as_str().to_owned(),
        sse_endpoint: sse.and_then(|path| path.as_str()).unwrap_or_default().to_owned(),
        message_endpoint: settings.serve.message_endpoint.as_str().to_owned(),
        connections_max,
        connections_reserve: descriptors - connections_max,
        accepts: if ends_when_empty { Rate::UNLIMITED } else { accept_rate(settings, cores).share(cores) },
        peers: peer_limits(settings, connections_max, cores).share(cores),
        body_bytes: limits.body_bytes.usize(),
        line_bytes: limits.line_bytes.usize(),
        pipeline_bytes: limits.pipeline_depth.usize() * driver.buffer_bytes,
        egress_bytes: limits.egress_bytes.usize(),
        in_flight_per_connection: limits.in_flight_per_connection.usize(),
        messages: Rate::per_second(limits.messages_per_s.get(), limits.message_burst.get(), TICK),
        head_time: limits.head_timeout_ms.ns(),
        body_grace: limits.body_grace_ms.ns(),
        body_bytes_per_second: limits.body_bytes_per_s.get(),
        keep_alive: limits.keep_alive_ms.ns(),
        write_stall: limits.write_stall_ms.ns(),
        // Of pipes no half is shut, so that their peer could answer it: there is nothing to wait for.
        linger: if ends_when_empty { 0 } else { LINGER_NANOS },
        stream_keep_alive: settings.streams.keep_alive_ms.ns(),
        call_time: settings.calls.timeout_ms.ns(),
        call_time_max: settings.calls.timeout_max_ms.ns(),
        ask_time: settings.calls.ask_timeout_ms.ns(),
        session_idle: settings.sessions.idle_ms.ns(),
        sweep_every: SWEEP_NANOS,
        sessions_max: settings.sessions.per_core_max.usize(),
        listens_per_connection: settings.streams.listen_per_connection.usize(),
        listens_max: connections_max,
        subscriptions_max: SUBSCRIPTIONS_MAX,
        replay: ReplayLimits {
            events: settings.sessions.replay_events.usize(),
            bytes: settings.sessions.replay_bytes.usize(),
        },
        replay_core_bytes: settings.sessions.replay_core_bytes.usize(),
        retry_ms: settings.sessions.retry_ms.ms() as u32,
        discover_ttl_ms: DISCOVER_TTL_MS,
        drain_time: settings.serve.drain_deadline_ms.ns(),
        first_view: view.into(),
        ends_when_empty,
        node: 0,
        boot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AutoOr, Bounded};

    #[test]
    fn all_that_are_expected_may_come_back_at_once() {
        let mut settings = Settings::default();
        settings.cores.expected_connections = Bounded::new(70_000).expect("within bounds");
        assert_eq!(accept_rate(&settings, 4), AcceptRate { per_second: 40_000, burst: 70_000 });
        assert_eq!(accept_rate(&settings, 8), AcceptRate { per_second: 80_000, burst: 80_000 });
        settings.limits.accepts_per_s = AutoOr::Fixed(Bounded::new(100).expect("within bounds"));
        settings.limits.accept_burst = AutoOr::Fixed(Bounded::new(7).expect("within bounds"));
        assert_eq!(accept_rate(&settings, 4), AcceptRate { per_second: 100, burst: 7 });
        assert_eq!(accept_rate(&settings, 4).share(4), Rate::share(100, 7, 4));
    }

    #[test]
    fn an_address_may_have_half_and_this_host_all() {
        let mut settings = Settings::default();
        let limits = |settings: &Settings| peer_limits(settings, 1000, 3);
        assert_eq!(limits(&settings), AddressLimits { elsewhere: 1500, loopback: None });
        settings.limits.connections_per_peer = AutoOr::Fixed(Bounded::new(10).expect("within bounds"));
        settings.limits.connections_per_loopback = Bounded::new(1).expect("within bounds");
        assert_eq!(limits(&settings), AddressLimits { elsewhere: 10, loopback: Some(1) });
        assert_eq!(limits(&settings).share(3), PeerLimits { elsewhere: Some(4), loopback: Some(1) });
    }

    #[test]
    fn the_soft_limit_is_three_quarters_of_what_there_may_be() {
        let mut settings = Settings::default();
        let limits = |settings: &Settings| connection_limits(settings, 1000, 4);
        assert_eq!(limits(&settings), ConnectionLimits { soft: 3000, hard: None, most: 4000 });
        settings.limits.connections = AutoOr::Fixed(Bounded::new(200).expect("within bounds"));
        assert_eq!(limits(&settings), ConnectionLimits { soft: 150, hard: Some(200), most: 200 });
        settings.limits.connections = AutoOr::Fixed(Bounded::new(8000).expect("within bounds"));
        assert_eq!(limits(&settings), ConnectionLimits { soft: 3000, hard: Some(8000), most: 4000 });
        settings.limits.connections_soft = AutoOr::Fixed(Bounded::new(5).expect("within bounds"));
        assert_eq!(limits(&settings).soft, 5);
    }
}
