//! Some cores, their clients and a clock that is set by hand.
//!
//! Invariant: what a core sends arrives at once unless its client does not read; parcels arrive when the rig moves
//! them.

use std::collections::BTreeMap;

use crate::ids::{ConnectionId, CoreId, View};
use crate::metrics::{CoreMetrics, Registry};
use crate::proto::http1::HostRules;
use crate::proto::json::Key;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{LogLevel, Method, Version};
use crate::server::connection::Wire;
use crate::server::core::{Core, CoreParts, Effect, Input};
use crate::server::filter::reframing::Reframing;
use crate::server::filter::{ByteFilter, FilterKind};
use crate::server::outbox::Delivery;
use crate::server::service::{About, Call, CallKey, Mail, Nanos, Offers, Served, Service};
use crate::server::settings::{Eras, Settings};
use crate::shard::Shards;
use crate::shard::peers::PeerLimits;
use crate::shard::permits::Permits;
use crate::shard::range::BoundaryTable;
use crate::shard::rate::Rate;
use crate::shard::replay::ReplayLimits;
use crate::shard::seal::Sealer;

pub const MS: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MS;
/// How long somebody may wait for who is behind the service.
pub const WAIT_FOR_SERVER: Nanos = 20 * SECOND;
pub const KEY: [u8; 32] = [7; 32];

/// A service whose tool `wait` answers when the test says so, and every other tool at once.
pub struct Fake {
    pub about: About,
    /// Nothing is known yet of who is behind it.
    pub is_early: bool,
    pub waiting: Vec<CallKey>,
    pub cancelled: Vec<CallKey>,
    /// What was answered at once.
    pub done: Vec<CallKey>,
    /// Under what revision and level each call came.
    pub heard: Vec<(Version, Option<LogLevel>)>,
}

impl Service for Fake {
    fn about(&self, _view: View) -> Result<&About, RpcError> {
        match self.is_early {
            true => Err(RpcError::new(Code::BAD_GATEWAY, "the server was not reached yet")),
            false => Ok(&self.about),
        }
    }

    fn awaits(&self, _view: View) -> Nanos {
        WAIT_FOR_SERVER
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        self.heard.push((call.version, call.log_level));
        if call.method == Method::ToolsCall && call.envelope.str(Key::Name, call.text).as_deref() == Some("wait") {
            self.waiting.push(call.key);
            return Served::Pending;
        }
        self.done.push(call.key);
        out.extend_from_slice(br#"{"resultType":"complete","content":[]}"#);
        Served::Done
    }

    fn cancel(&mut self, _now: Nanos, key: CallKey) {
        self.cancelled.push(key);
    }

    fn answered(&mut self, _now: Nanos, _: CallKey, _: u32, _: Result<&[u8], RpcError>) {}
}

/// What a client saw of its connection.
#[derive(Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// In how many pieces they were sent.
    pub sends: usize,
    pub shut: bool,
    pub closed: bool,
    /// The core reads it.
    pub unread: bool,
    /// It takes nothing: sends do not end.
    pub stalled: bool,
    /// The send that did not end.
    pub held: Vec<u8>,
}

/// Some cores and their clients. With filters, each client has the other end of its connection's.
pub struct Rig {
    ends: BTreeMap<(usize, u32), Reframing>,
    pub cores: Vec<Core<Fake>>,
    pub metrics: Vec<&'static CoreMetrics>,
    pub seen: BTreeMap<(usize, u32), Seen>,
    pub now: Nanos,
    pub drained: Vec<bool>,
    /// Parcels stay in their outboxes.
    pub jammed: bool,
    connections: u32,
}

pub fn settings() -> Settings {
    Settings {
        eras: Eras::Both,
        listeners: vec![Wire::Http, Wire::Lines],
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
        egress_bytes: 16_384,
        in_flight_per_connection: 4,
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
        listens_per_connection: 2,
        listens_max: 8,
        subscriptions_max: 8,
        replay: ReplayLimits { events: 16, bytes: 4096 },
        replay_core_bytes: 16 * 1024,
        retry_ms: 1000,
        discover_ttl_ms: 1000,
        drain_time: 10 * SECOND,
        first_view: Default::default(),
        ends_when_empty: false,
        node: 0,
        boot: 1,
    }
}

/// One core of so many, in the given life of its shards.
pub fn core(index: usize, cores: usize, incarnation: u32, metrics: &'static CoreMetrics) -> Core<Fake> {
    let table = BoundaryTable::new(cores, cores).expect("a shard for each");
    let id = CoreId(index as u16);
    let offers = Offers {
        tools: true,
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        tasks: true,
        tasks_extension: true,
        resources: true,
        resources_subscribe: true,
        logging: true,
        ..Offers::default()
    };
    let about = About { server_info: b"{}".to_vec(), instructions: None, offers };
    Core::new(CoreParts {
        id,
        settings: settings(),
        shards: Shards::new(table.range_of(id), incarnation),
        table,
        sealer: Sealer::new(&KEY, [index as u8 * 16 + incarnation as u8; 12]),
        permits: Permits::unlimited(),
        service: Fake {
            about,
            is_early: false,
            waiting: Vec::new(),
            cancelled: Vec::new(),
            done: Vec::new(),
            heard: Vec::new(),
        },
        metrics,
        clock: Box::new(|| 0),
        epoch: 1_800_000_000,
    })
}

impl Rig {
    /// Cores whose connections go through the reframing filter.
    pub fn filtered(cores: usize) -> Rig {
        let mut rig = Rig::new(cores);
        for core in &mut rig.cores {
            core.settings.filters = vec![FilterKind::Reframing; 2];
        }
        rig
    }

    pub fn new(cores: usize) -> Rig {
        let registry = Box::leak(Box::new(Registry::sharded(std::iter::repeat_n(1, cores))));
        let metrics: Vec<&'static CoreMetrics> =
            (0..cores).map(|index| &**registry.core(CoreId(index as u16))).collect();
        Rig {
            cores: (0..cores).map(|index| core(index, cores, 1, metrics[index])).collect(),
            ends: BTreeMap::new(),
            drained: vec![false; cores],
            metrics,
            seen: BTreeMap::new(),
            now: SECOND,
            jammed: false,
            connections: 0,
        }
    }

    /// A client connects to a core: by HTTP, or by lines.
    pub fn connect(&mut self, core: usize, wire: Wire) -> (usize, u32) {
        let id = ConnectionId { slot: self.connections, generation: 0 };
        self.connections += 1;
        self.seen.insert((core, id.slot), Seen::default());
        let listener = usize::from(wire == Wire::Lines);
        self.step(core, Input::Accepted { id, listener, peer: None });
        let at = (core, id.slot);
        if !self.cores[core].settings.filters.is_empty() {
            let mut end = Reframing::client();
            let greeting = end.seal(Vec::new());
            self.ends.insert(at, end);
            self.send_wire(at, &greeting);
        }
        at
    }

    pub fn step(&mut self, core: usize, input: Input<'_>) {
        self.cores[core].step(self.now, input);
        self.settle();
    }

    pub fn send(&mut self, at: (usize, u32), bytes: impl AsRef<[u8]>) {
        match self.ends.get_mut(&at) {
            Some(end) => {
                let wire = end.seal(bytes.as_ref().to_vec());
                self.send_wire(at, &wire);
            }
            None => self.send_wire(at, bytes.as_ref()),
        }
    }

    /// Bytes arrive at a core as they are.
    pub fn send_wire(&mut self, at: (usize, u32), bytes: &[u8]) {
        let id = ConnectionId { slot: at.1, generation: 0 };
        self.step(at.0, Input::Received { id, bytes: &mut bytes.to_vec() });
    }

    /// A client's end of its filter.
    pub fn end_of(&mut self, at: (usize, u32)) -> &mut Reframing {
        self.ends.get_mut(&at).expect("the rig has filters")
    }

    /// What has arrived at a client since it looked last.
    pub fn take(&mut self, at: (usize, u32)) -> String {
        let seen = self.seen.get_mut(&at).expect("connected");
        String::from_utf8(std::mem::take(&mut seen.bytes)).expect("UTF-8")
    }

    pub fn ask(&mut self, at: (usize, u32), bytes: impl AsRef<[u8]>) -> String {
        self.send(at, bytes);
        self.take(at)
    }

    /// Answers the oldest call that waits on a core.
    pub fn reply(&mut self, core: usize) {
        let key = self.cores[core].service().waiting.remove(0);
        let outcome = Ok(br#"{"content":["late"]}"#.to_vec().into());
        self.step(core, Input::Mail(Mail::Reply { key, outcome }));
    }

    /// Lets time pass, with everything that is due on the way.
    pub fn pass(&mut self, time: Nanos) {
        let end = self.now + time;
        while let Some(next) = self.cores.iter().filter_map(Core::deadline).filter(|&at| at <= end).min() {
            self.now = self.now.max(next);
            for core in 0..self.cores.len() {
                if self.cores[core].deadline().is_some_and(|at| at <= self.now) {
                    self.cores[core].step(self.now, Input::Tick);
                }
            }
            self.settle();
        }
        self.now = end;
    }

    /// Performs effects and moves parcels until nothing happens any more.
    pub fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for index in 0..self.cores.len() {
                let mut effects = Vec::new();
                self.cores[index].effects(|effect| effects.push(effect));
                for effect in effects {
                    quiet &= matches!(effect, Effect::Drained);
                    self.perform(index, effect);
                }
                let mut parcels = Vec::new();
                if !self.jammed {
                    self.cores[index].flush_outbox(|to, header, payload| {
                        parcels.push((to, *header, payload.to_vec()));
                        Delivery::Done
                    });
                }
                for (to, header, payload) in parcels {
                    quiet = false;
                    let from = CoreId(index as u16);
                    self.cores[to.index()].step(self.now, Input::Parcel { from, header, payload: &payload });
                }
                quiet &= !self.cores[index].has_work();
            }
            if quiet {
                return self.audit();
            }
        }
    }

    /// Whatever a test does: what a core's tables say fits together.
    fn audit(&mut self) {
        for core in &mut self.cores {
            if let Err(problem) = core.audit() {
                panic!("{problem}");
            }
        }
    }

    fn perform(&mut self, core: usize, effect: Effect) {
        match effect {
            Effect::Close(id) => {
                self.seen.entry((core, id.slot)).or_default().closed = true;
                self.cores[core].step(self.now, Input::Closed(id));
            }
            Effect::Adopt { .. } | Effect::Connect { .. } | Effect::GiveUp(_) => panic!("no service here opens links"),
            Effect::Drained => self.drained[core] = true,
            Effect::Read(id, wanted) => self.seen.entry((core, id.slot)).or_default().unread = !wanted,
            Effect::Send(id, buffer) => {
                let seen = self.seen.entry((core, id.slot)).or_default();
                seen.sends += 1;
                if !seen.stalled {
                    let mut wire = buffer.clone();
                    match self.ends.get_mut(&(core, id.slot)) {
                        Some(end) => {
                            let mut spill = Vec::new();
                            seen.bytes.extend_from_slice(end.open(&mut wire, &mut spill).expect("the core's records"));
                        }
                        None => seen.bytes.append(&mut wire),
                    }
                    self.cores[core].step(self.now, Input::Sent { id, buffer, whole: true });
                } else {
                    seen.held = buffer;
                }
            }
            Effect::Shutdown(id) => self.seen.entry((core, id.slot)).or_default().shut = true,
            Effect::StopAccepting => {}
        }
    }
}

/// A modern `tools/call` as a line.
pub fn line(id: &str, tool: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"_meta\":{{\
         \"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\
         \"io.modelcontextprotocol/clientCapabilities\":{{}}}}}}}}\n"
    )
}

/// A POST of a message.
pub fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The same over HTTP.
pub fn call(id: &str, tool: &str, fields: &str) -> String {
    let modern = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n{fields}");
    post(&modern, &line(id, tool))
}

/// A legacy message in a session, or `initialize` in none.
pub fn legacy(session: Option<&str>, body: &str) -> String {
    let named = session.map_or(String::new(), |session| format!("Mcp-Session-Id: {session}\r\n"));
    post(&format!("Accept: application/json, text/event-stream\r\n{named}"), body)
}

/// A GET of the session's stream, or of the one that an event's id names.
pub fn get(session: &str, last: Option<&str>) -> String {
    let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
    format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n{last}\r\n"
    )
}

/// The end of a session.
pub fn delete(session: &str) -> String {
    format!("DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\n\r\n")
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
pub const PING: &str = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
pub const WAIT: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"wait"}}"#;

/// The status of an answer.
pub fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("none")
}

impl Rig {
    /// Opens a session over a connection; its id.
    pub fn open(&mut self, at: (usize, u32)) -> String {
        self.open_as(at, "2025-11-25")
    }

    /// Opens a session of a certain revision.
    pub fn open_as(&mut self, at: (usize, u32), version: &str) -> String {
        let answer = self.ask(at, legacy(None, &INITIALIZE.replace("2025-11-25", version)));
        let id = answer.split_once("Mcp-Session-Id: ").and_then(|(_, rest)| rest.split_once("\r\n"));
        id.unwrap_or_else(|| panic!("no session: {answer}")).0.to_owned()
    }
}
