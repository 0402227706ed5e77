//! A simulated core thread: the loop of `server::drive`, cut into stages between which other cores run.
//!
//! Everything in it is the product's: `Core`, its shards and service, its port of the mesh, its alarms. Not here: the
//! driver (`net`), who goes next (`world`).
//! Invariant: the stages of a turn come in the order of `server::drive::Loop::run`; between a core and the rest of the
//! world stands nothing but the seams where bugs are planted.

use std::cell::RefCell;
use std::rc::Rc;

use corelane::ids::CoreId;
use corelane::metrics::{CloseCause, CoreMetrics};
use corelane::proto::http1::HostRules;
use corelane::ring::{Port, Refused};
use corelane::server::audit::Census;
use corelane::server::connection::Wire;
use corelane::server::core::{Core, CoreParts, Effect, Input};
use corelane::server::outbox::Delivery;
use corelane::server::parcel::{Header, Numbers};
use corelane::server::service::{Host, Mail, Mailbox, Nanos};
use corelane::server::settings::{Eras, Settings};
use corelane::shard::peers::PeerLimits;
use corelane::shard::permits::{PermitPool, Permits};
use corelane::shard::range::BoundaryTable;
use corelane::shard::rate::Rate;
use corelane::shard::replay::ReplayLimits;
use corelane::shard::seal::Sealer;
use corelane::shard::{Heir, Shards};
use corelane::upstream::native::Server;

use super::chance::Chance;
use super::executor::Executor;
use super::net::{Event, Net};
use super::planted::Bug;
use super::sights::Sight;
use super::sim::{ALL_EVENTS, Bounds, RESERVE, SECOND, Sim};
use super::tap::{Door, Tap};
use super::tools::Site;

/// Steps between two looks at everything.
const AUDIT_EVERY: u64 = 1_000;
/// How often the host's clock is read.
const WALL_CLOCK_EVERY: Nanos = SECOND;
/// Seconds since the Unix epoch at nanosecond 0.
const EPOCH: u64 = 1_800_000_000;
/// What of an answer is no payload: its head, and what stands around the data.
const AROUND_PAYLOAD: usize = 2048;

/// Where in its turn a core is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Events,
    Parcels,
    Perform,
    Rest,
}

/// See the module.
pub struct Machine {
    pub index: usize,
    core: Core<Tap>,
    port: Port<Header>,
    executor: Rc<Executor>,
    mailbox: Mailbox,
    door: Rc<RefCell<Door>>,
    stage: Stage,
    /// The time of the turn.
    now: Nanos,
    next_wall: Nanos,
    next_audit: u64,
    pub incarnation: u32,
    /// It sleeps, until a bell, an event or this time.
    pub asleep: Option<Nanos>,
    /// It is not scheduled until then.
    pub stalled: Option<Nanos>,
    is_ordered_to_drain: bool,
    is_draining: bool,
    pub is_drained: bool,
    /// The ticket of the last request that went to another core, for a planted bug.
    last_ticket: Option<Numbers>,
    effects: Vec<Effect>,
    census: Census,
    metrics: &'static CoreMetrics,
    /// Connections that were cut off because their clients did not read, in all lives of the counters.
    cuts: u64,
    /// Bells that are heard later.
    pub late_bells: u32,
}

/// What cores have to do with each other.
pub struct Mesh<'a> {
    /// Bells that were rung.
    pub rung: &'a mut Vec<usize>,
    /// How far somebody has set the host's clock.
    pub clock_step: i64,
}

fn settings(bounds: &Bounds, planted: Option<Bug>) -> Settings {
    Settings {
        eras: Eras::Both,
        listeners: vec![Wire::Http, Wire::Lines],
        filters: Vec::new(),
        hosts: HostRules::loopback(),
        endpoint: "/mcp".to_owned(),
        sse_endpoint: "/sse".to_owned(),
        message_endpoint: "/message".to_owned(),
        connections_max: bounds.connections_max,
        connections_reserve: RESERVE,
        accepts: Rate::UNLIMITED,
        peers: PeerLimits::default(),
        body_bytes: 1 << 16,
        line_bytes: 1 << 16,
        pipeline_bytes: bounds.pipeline_bytes,
        egress_bytes: bounds.egress_bytes,
        in_flight_per_connection: bounds.in_flight + usize::from(planted == Some(Bug::OffByOneBound)),
        messages: Rate::per_second(bounds.messages_per_s, bounds.message_burst, 0),
        head_time: bounds.frame_time,
        body_grace: bounds.frame_time,
        body_bytes_per_second: 1024,
        keep_alive: bounds.keep_alive,
        write_stall: bounds.write_stall,
        linger: bounds.linger,
        stream_keep_alive: bounds.stream_keep_alive,
        call_time: bounds.call_time,
        call_time_max: 4 * bounds.call_time,
        ask_time: bounds.call_time,
        session_idle: bounds.session_idle,
        sweep_every: bounds.sweep_every,
        sessions_max: bounds.sessions_max,
        listens_per_connection: 2,
        listens_max: 8,
        subscriptions_max: 8,
        replay: ReplayLimits {
            events: bounds.replay_events,
            bytes: if bounds.replay_events == ALL_EVENTS { 1 << 30 } else { 16 * 1024 },
        },
        replay_core_bytes: if bounds.replay_events == ALL_EVENTS { 1 << 40 } else { 64 * 1024 },
        retry_ms: 1000,
        discover_ttl_ms: 1000,
        drain_time: bounds.drain_time,
        first_view: Default::default(),
        ends_when_empty: false,
        node: 0,
        boot: 1,
    }
}

/// What a core's lives are made from.
pub struct Seed {
    pub server: Rc<Server<Site>>,
    pub table: BoundaryTable,
    pub permits: &'static PermitPool,
    pub metrics: &'static CoreMetrics,
}

impl Machine {
    /// A core in one of its lives.
    pub fn new(
        index: usize,
        incarnation: u32,
        sim: &mut Sim,
        seed: &Seed,
        port: Port<Header>,
        heirs: Vec<Heir>,
    ) -> Machine {
        let id = CoreId(index as u16);
        let executor = Rc::new(Executor::new(sim.now));
        let mailbox = Mailbox::default();
        let door = Rc::new(RefCell::new(Door::new(sim.planted, Chance::of(sim.chance.next()))));
        let native = seed.server.per_core(Rc::clone(&executor) as Rc<dyn Host>, mailbox.clone());
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&sim.chance.next().to_le_bytes());
        nonce[8..].copy_from_slice(&[index as u8, incarnation as u8, 0, 0]);
        seed.metrics.begin_life();
        let clock = Rc::clone(&executor);
        let mut core = Core::new(CoreParts {
            id,
            settings: settings(&sim.bounds, sim.planted),
            shards: Shards::new(seed.table.range_of(id), incarnation),
            table: seed.table.clone(),
            sealer: Sealer::new(&[7; 32], nonce),
            permits: Permits::new(seed.permits, id),
            service: Tap::new(native, Rc::clone(&door)),
            metrics: seed.metrics,
            clock: Box::new(move || clock.now()),
            epoch: EPOCH,
        });
        core.inherit(heirs);
        Machine {
            index,
            core,
            port,
            executor,
            mailbox,
            door,
            stage: Stage::Events,
            now: sim.now,
            next_wall: sim.now,
            next_audit: sim.steps + AUDIT_EVERY,
            incarnation,
            asleep: None,
            stalled: None,
            is_ordered_to_drain: false,
            is_draining: false,
            is_drained: false,
            last_ticket: None,
            effects: Vec::new(),
            census: Census::default(),
            metrics: seed.metrics,
            cuts: seed.metrics.closed(CloseCause::EgressFull),
            late_bells: 0,
        }
    }

    /// The core dies where it stands; what its next life is told of its sessions.
    pub fn die(mut self) -> Vec<Heir> {
        let heirs = self.core.bequeath();
        // In the order of the product: what hangs on the service first, then its tasks.
        drop(self.core);
        self.executor.end();
        heirs
    }

    /// Orders it to finish what is in flight and end.
    pub fn order_drain(&mut self) {
        self.is_ordered_to_drain = true;
    }

    fn step(&mut self, sim: &mut Sim, input: Input<'_>) {
        sim.steps += 1;
        self.core.step(self.now, input);
        let (exchanges, pending) = (self.core.population().1, self.door.borrow().open);
        sim.hold(exchanges >= pending, || {
            format!("core {} knows of {exchanges} exchanges, and its service works on {pending} calls", self.index)
        });
    }

    /// One stage of its turn.
    pub fn go_on(&mut self, sim: &mut Sim, net: &mut Net, mesh: &mut Mesh<'_>) {
        sim.trace.fold((self.index as u64) << 8 | self.stage as u64);
        match self.stage {
            Stage::Events => {
                self.begin(sim, mesh);
                self.take_events(sim, net);
                self.stage = Stage::Parcels;
            }
            Stage::Parcels => {
                self.take_parcels(sim);
                self.run_handlers(sim);
                self.stage = Stage::Perform;
            }
            Stage::Perform => {
                self.perform(sim, net);
                self.send_parcels(sim);
                self.stage = Stage::Rest;
            }
            Stage::Rest => {
                self.ring(sim, mesh);
                self.audit_if_due(sim);
                self.rest();
                self.stage = Stage::Events;
            }
        }
        if let Some(wrong) = self.door.borrow_mut().wrong.take() {
            sim.fail(wrong);
        }
    }

    fn begin(&mut self, sim: &mut Sim, mesh: &mut Mesh<'_>) {
        self.asleep = None;
        self.port.wake();
        self.now = sim.now;
        self.executor.set_now(sim.now);
        if self.now >= self.next_wall {
            self.next_wall = self.now + WALL_CLOCK_EVERY;
            let unix = (EPOCH * SECOND + self.now).saturating_add_signed(mesh.clock_step);
            self.step(sim, Input::WallClock { unix });
        }
        if self.is_ordered_to_drain {
            self.take_parcels(sim);
        }
        let mut lost = Vec::new();
        self.port.observe(|peer, _| lost.push(CoreId(peer.0)));
        for peer in lost {
            sim.trace.fold(u64::from(peer.0) + 77);
            self.step(sim, Input::PeerLost(peer));
        }
    }

    fn take_events(&mut self, sim: &mut Sim, net: &mut Net) {
        while let Some(event) = net.next_event(self.index) {
            let id = |socket: u32| net.socket(socket).map(|one| one.id);
            match event {
                Event::Accepted { socket, listener } => {
                    let Some(id) = id(socket) else { continue };
                    sim.trace.fold(1 << 32 | u64::from(id.slot));
                    sim.trace.tell(|| format!("{} core {}: {id} comes in", self.now, self.index));
                    self.step(sim, Input::Accepted { id, listener, peer: None });
                }
                Event::Closed { socket } => {
                    let Some(id) = id(socket) else { continue };
                    sim.trace.fold(2 << 32 | u64::from(id.slot));
                    sim.trace.tell(|| format!("{} core {}: {id} is closed", self.now, self.index));
                    self.step(sim, Input::Closed(id));
                    net.forget(socket);
                }
                Event::Ended { socket, how } => {
                    let Some(id) = id(socket) else { continue };
                    sim.trace.fold(3 << 32 | u64::from(id.slot));
                    sim.trace.tell(|| format!("{} core {}: {id} ends, {how:?}", self.now, self.index));
                    self.step(sim, Input::Ended { id, how });
                }
                Event::Received { socket, mut bytes } => {
                    let Some(id) = id(socket) else { continue };
                    sim.trace.fold(4 << 32 | u64::from(id.slot));
                    sim.trace.fold_bytes(&bytes);
                    sim.trace.tell(|| {
                        format!("{} core {}: {id} says {:?}", self.now, self.index, String::from_utf8_lossy(&bytes))
                    });
                    self.step(sim, Input::Received { id, bytes: &mut bytes });
                    net.give_back(bytes);
                }
                Event::Sent { socket, buffer, whole } => {
                    let Some(id) = id(socket) else { continue };
                    sim.trace.fold(5 << 32 | u64::from(id.slot) << 1 | u64::from(whole));
                    self.step(sim, Input::Sent { id, buffer, whole });
                }
                Event::SentSome { socket } => {
                    let Some(id) = id(socket) else { continue };
                    self.step(sim, Input::SentSome(id));
                }
            }
            let (known, open) = (net.shores[self.index].known, self.core.population().0);
            sim.hold(known == open, || format!("core {} has {open} connections, and its driver {known}", self.index));
            if sim.failure.is_some() {
                return;
            }
        }
    }

    fn take_parcels(&mut self, sim: &mut Sim) {
        let mut taken = Vec::new();
        self.port.drain(sim.bounds.batch_max, |from, header, payload| {
            let header = rkyv::deserialize::<Header, rkyv::rancor::Failure>(header).expect("plain numbers");
            taken.push((CoreId(from.0), header, payload.to_vec()));
        });
        for (from, mut header, payload) in taken {
            if let Header::Reply { ticket, .. } = &mut header
                && let Some(other) = self.last_ticket.filter(|_| sim.is_bitten(Bug::WrongTicket, 4))
            {
                *ticket = other;
            }
            sim.trace.fold(6 << 32 | u64::from(from.0));
            sim.trace.fold_bytes(&payload);
            sim.trace.tell(|| format!("{} core {}: {from} sends {header:?}", self.now, self.index));
            self.step(sim, Input::Parcel { from, header, payload: &payload });
        }
    }

    fn run_handlers(&mut self, sim: &mut Sim) {
        if self.executor.alarms.ring(self.now) + self.executor.runnable() > 0 {
            self.executor.run();
        }
        while let Some(mail) = self.mailbox.pop() {
            if let Mail::Reply { key, outcome } = &mail {
                sim.trace.fold(7 << 32 | u64::from(key.index));
                sim.trace
                    .tell(|| format!("{} core {}: {key:?} is over, well: {}", self.now, self.index, outcome.is_ok()));
                self.door.borrow_mut().end(*key);
            }
            self.step(sim, Input::Mail(mail));
        }
        if self.is_ordered_to_drain && !self.is_draining {
            self.is_draining = true;
            self.step(sim, Input::Drain);
        }
        if self.core.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.step(sim, Input::Tick);
        }
    }

    fn perform(&mut self, sim: &mut Sim, net: &mut Net) {
        let mut effects = std::mem::take(&mut self.effects);
        self.core.effects(|effect| effects.push(effect));
        for effect in effects.drain(..) {
            match effect {
                Effect::Adopt { .. } | Effect::Connect { .. } | Effect::GiveUp(_) => {
                    sim.fail("no service here opens links")
                }
                Effect::Close(id) => {
                    sim.trace.fold(8 << 32 | u64::from(id.slot));
                    sim.trace.tell(|| format!("{} core {}: closes {id}", self.now, self.index));
                    net.close(sim, self.index, id);
                }
                Effect::Drained => self.is_drained = true,
                Effect::Read(id, wanted) => net.want(self.index, id, wanted),
                Effect::Send(id, buffer) => {
                    sim.trace.fold(9 << 32 | u64::from(id.slot));
                    sim.trace.fold_bytes(&buffer);
                    sim.trace.tell(|| {
                        format!("{} core {}: {id} is told {:?}", self.now, self.index, String::from_utf8_lossy(&buffer))
                    });
                    if let Err(buffer) = net.send(sim, self.index, id, buffer) {
                        self.step(sim, Input::Sent { id, buffer, whole: false });
                    }
                }
                Effect::Shutdown(id) => net.shut(self.index, id),
                Effect::StopAccepting => {}
            }
        }
        self.effects = effects;
        let cuts = self.metrics.closed(CloseCause::EgressFull);
        if std::mem::replace(&mut self.cuts, cuts) != cuts {
            sim.last_cut = sim.now;
            sim.sights.see(Sight::CutOff);
        }
    }

    fn send_parcels(&mut self, sim: &mut Sim) {
        let (port, mut gone) = (&mut self.port, Vec::new());
        let last_ticket = &mut self.last_ticket;
        self.core.flush_outbox(|to, header, payload| match port.try_send(to, header, payload) {
            Ok(_) => {
                if let Header::Post { ticket, .. } | Header::Get { ticket, .. } | Header::Delete { ticket } = header {
                    *last_ticket = Some(*ticket);
                }
                sim.sights.see(Sight::Parcel);
                Delivery::Done
            }
            Err(Refused::Full) => {
                sim.sights.see(Sight::RingFull);
                Delivery::Full
            }
            Err(Refused::TooLarge) => {
                sim.fail(format!("a parcel of {} bytes is too large for every ring", payload.len()));
                Delivery::Done
            }
            Err(Refused::Gone) => {
                gone.push(to);
                Delivery::Done
            }
        });
        gone.dedup();
        for to in gone {
            self.step(sim, Input::PeerLost(to));
        }
    }

    fn ring(&mut self, sim: &mut Sim, mesh: &mut Mesh<'_>) {
        for peer in self.port.bells_due() {
            if !sim.is_bitten(Bug::LostWakeUp, 16) {
                mesh.rung.push(peer.index());
            }
        }
    }

    /// Whether a turn is left to do something without being waked; sleeps otherwise.
    fn rest(&mut self) {
        let is_busy = self.core.lingers(self.now)
            || self.executor.runnable() > 0
            || !self.mailbox.is_empty()
            || self.core.has_work();
        if is_busy || self.is_drained || !self.port.try_sleep() {
            return;
        }
        let next = [self.core.deadline(), self.executor.alarms.next()].into_iter().flatten().min();
        self.asleep = Some(next.unwrap_or(Nanos::MAX).max(self.now + 1));
    }

    fn audit_if_due(&mut self, sim: &mut Sim) {
        if sim.steps >= self.next_audit && !self.core.has_work() {
            self.next_audit = sim.steps + AUDIT_EVERY;
            self.audit(sim);
        }
    }

    /// Looks at everything, and holds it against the bounds.
    pub fn audit(&mut self, sim: &mut Sim) {
        let (index, bounds) = (self.index, sim.bounds);
        let census = match self.core.audit() {
            Ok(census) => census,
            Err(problem) => return sim.fail(format!("core {index}: {problem}")),
        };
        sim.hold(census.in_flight_most <= bounds.in_flight, || {
            format!("core {index}: {} calls are in flight where {} may be", census.in_flight_most, bounds.in_flight)
        });
        // A receive buffer comes whole, and those that had come when reading was stopped come too.
        let carry_max = bounds.pipeline_bytes.max(bounds.payload_max) + 20 * 1024;
        sim.hold(census.carry_most <= carry_max, || format!("core {index}: {} bytes wait unread", census.carry_most));
        // One more answer to everything that was let in.
        let answers = (bounds.in_flight + 1) * (bounds.payload_max + AROUND_PAYLOAD);
        let egress_max = 2 * bounds.egress_bytes + answers;
        sim.hold(census.egress_most <= egress_max, || {
            format!("core {index}: {} bytes wait unsent", census.egress_most)
        });
        sim.hold(census.sessions <= bounds.sessions_max, || format!("core {index}: {} sessions", census.sessions));
        let (calls, pending) = (census.calls, self.door.borrow().open);
        sim.hold(calls == pending, || format!("core {index}: {calls} calls, and its service works on {pending}"));
        self.census = census;
    }

    /// What is left when nobody wants anything any more.
    pub fn hold_empty(&mut self, sim: &mut Sim, net: &Net) {
        self.audit(sim);
        let (index, census) = (self.index, self.census);
        let is_empty = census == Census::default();
        sim.hold(is_empty, || format!("core {index} is left with {census:?}"));
        let (tasks, permits) = (self.executor.alive(), self.core.service().site().permits());
        sim.hold(tasks == 0 && permits == 0, || {
            format!("core {index} is left with {tasks} tasks and {permits} permits that nobody gave back")
        });
        let sends = net.shores[index].sends;
        sim.hold(sends == 0, || format!("core {index}: {sends} sends never came back"));
    }

    /// Nobody has anything to do: then nothing may wait for this core while it sleeps.
    pub fn hold_no_lost_wake_up(&mut self, sim: &mut Sim) {
        let index = self.index;
        let sleeps_well = self.asleep.is_none() || self.late_bells > 0 || self.port.try_sleep();
        sim.hold(sleeps_well, || format!("lost wake-up: core {index} sleeps, and something waits in its rings for it"));
    }
}
