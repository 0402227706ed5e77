//! A core without an operating system: one connection, and what was sent on it.
//!
//! `tests/echo` calls through the same one.
//! Not here: what is right. Invariant: nothing is left undone when `say` returns, but what waits for somebody else.

use std::sync::LazyLock;

use corelane::ids::{ConnectionId, CoreId};
use corelane::metrics::{CoreMetrics, Registry};
use corelane::proto::http1::HostRules;
use corelane::server::connection::Wire;
use corelane::server::core::{Core, CoreParts, Effect, Input};
use corelane::server::service::{Mail, Service};
use corelane::server::settings::{Eras, Settings};
use corelane::shard::Shards;
use corelane::shard::peers::PeerLimits;
use corelane::shard::permits::Permits;
use corelane::shard::range::BoundaryTable;
use corelane::shard::rate::Rate;
use corelane::shard::replay::ReplayLimits;
use corelane::shard::seal::Sealer;

/// The time, always.
pub const SECOND: u64 = 1_000_000_000;
/// The one connection.
pub const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };
/// Counters live as long as the process; each run would make new ones otherwise.
static COUNTERS: LazyLock<Registry> = LazyLock::new(|| Registry::sharded([1]));

/// One core with one connection.
pub struct Machine<S> {
    core: Core<S>,
    effects: Vec<Effect>,
    sent: Vec<u8>,
    /// What comes in, as if in a receive buffer.
    bytes: Vec<u8>,
}

impl<S: Service> Machine<S> {
    /// Its connection speaks this.
    pub fn new(wire: Wire, service: S) -> Machine<S> {
        Self::of(core(CoreId(0), 1, settings(wire), service, COUNTERS.core(CoreId(0))))
    }

    /// The same, with room for so many sessions.
    pub fn with_sessions(wire: Wire, service: S, sessions_max: usize) -> Machine<S> {
        let settings = Settings { sessions_max, ..settings(wire) };
        Self::of(core(CoreId(0), 1, settings, service, COUNTERS.core(CoreId(0))))
    }

    fn of(core: Core<S>) -> Machine<S> {
        let mut machine = Machine { core, effects: Vec::new(), sent: Vec::new(), bytes: Vec::new() };
        machine.step(Input::Accepted { id: ID, listener: 0, peer: None });
        machine
    }

    /// Whoever answers the calls.
    pub fn service(&mut self) -> &mut S {
        self.core.service()
    }

    /// Bytes come in.
    pub fn say(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let mut received = std::mem::take(&mut self.bytes);
        self.step(Input::Received { id: ID, bytes: &mut received });
        self.bytes = received;
    }

    /// The service has mail.
    pub fn mail(&mut self, mail: Mail) {
        self.step(Input::Mail(mail));
    }

    /// What was sent since somebody looked last.
    pub fn heard(&mut self) -> &mut Vec<u8> {
        &mut self.sent
    }

    fn step(&mut self, input: Input<'_>) {
        self.core.step(SECOND, input);
        while self.core.has_work() {
            self.core.effects(|effect| self.effects.push(effect));
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Send(id, buffer) => {
                        self.sent.extend_from_slice(&buffer);
                        self.core.step(SECOND, Input::Sent { id, buffer, whole: true });
                    }
                    Effect::Close(_) | Effect::Shutdown(_) => panic!("a good frame ended the connection"),
                    Effect::Adopt { .. } | Effect::Connect { .. } | Effect::GiveUp(_) => {
                        panic!("no service here opens links")
                    }
                    Effect::Drained | Effect::Read(..) | Effect::StopAccepting => {}
                }
            }
        }
    }
}

/// One of so many cores, with a shard each.
pub fn core<S: Service>(
    id: CoreId,
    cores: usize,
    settings: Settings,
    service: S,
    metrics: &'static CoreMetrics,
) -> Core<S> {
    let table = BoundaryTable::new(cores, cores).expect("a shard for each core");
    Core::new(CoreParts {
        id,
        settings,
        shards: Shards::new(table.range_of(id), 1),
        table,
        sealer: Sealer::new(&[7; 32], [0; 12]),
        permits: Permits::unlimited(),
        service,
        metrics,
        clock: Box::new(|| SECOND),
        epoch: 1_800_000_000,
    })
}

/// What a core here is set to: small bounds, so that they are reached.
pub fn settings(wire: Wire) -> Settings {
    Settings {
        eras: Eras::Both,
        listeners: vec![wire],
        filters: Vec::new(),
        hosts: HostRules::loopback(),
        endpoint: "/mcp".to_owned(),
        sse_endpoint: "/sse".to_owned(),
        message_endpoint: "/message".to_owned(),
        connections_max: 8,
        connections_reserve: 2,
        accepts: Rate::UNLIMITED,
        peers: PeerLimits::default(),
        body_bytes: 1 << 20,
        line_bytes: 1 << 20,
        pipeline_bytes: 4096,
        egress_bytes: 1 << 20,
        in_flight_per_connection: 64,
        messages: Rate::UNLIMITED,
        head_time: 5 * SECOND,
        body_grace: 5 * SECOND,
        body_bytes_per_second: 1024,
        keep_alive: 75 * SECOND,
        write_stall: 5 * SECOND,
        linger: SECOND,
        stream_keep_alive: 15 * SECOND,
        call_time: 30 * SECOND,
        call_time_max: 300 * SECOND,
        ask_time: 600 * SECOND,
        session_idle: 1800 * SECOND,
        sweep_every: 5 * SECOND,
        sessions_max: 4,
        listens_per_connection: 8,
        listens_max: 8,
        subscriptions_max: 8,
        replay: ReplayLimits { events: 16, bytes: 4096 },
        replay_core_bytes: 1 << 20,
        retry_ms: 1000,
        discover_ttl_ms: 1000,
        drain_time: 10 * SECOND,
        first_view: Default::default(),
        ends_when_empty: false,
        node: 0,
        boot: 1,
    }
}
