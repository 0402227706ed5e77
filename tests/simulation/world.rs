//! The world of a seed: cores, clients, the network between them, and a scheduler that picks who goes next.
//!
//! One thing happens at a time: a stage of a core's turn, something moving on a socket, a client doing something, a
//! fault. Time passes a little with each, and goes on to the next deadline when nobody has anything to do; an hour of
//! idling costs nothing. Not here: what any of them does.
//! Invariant: who goes next depends on the seed alone; when nobody has anything to do, nothing lies anywhere that
//! somebody sleeps on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use corelane::ids::CoreId;
use corelane::ring::{Bell, PortId};
use corelane::server::parcel::Header;
use corelane::server::service::Nanos;
use corelane::shard::permits::PermitPool;
use corelane::shard::range::BoundaryTable;
use corelane::upstream::native::Server;

use super::chance::Quirk;
use super::client::{Client, Kind};
use super::ledger::Fate;
use super::machine::{Machine, Mesh, Seed};
use super::net::Net;
use super::planted::Bug;
use super::ready::Ready;
use super::run::Counters;
use super::sights::Sight;
use super::sim::{MICROSECOND, MILLISECOND, SECOND, Sim};
use super::tools::Site;

/// How much sooner a core's turn comes than something on a socket: there are fewer of them.
const CORE_WEIGHT: usize = 3;
/// Between two chances for each kind of fault.
const FAULT_EVERY: u64 = 4_000;
/// Longest time for which a core is not scheduled.
const STALL_MAX: Nanos = 3 * SECOND;
/// Time in which everything that was asked must be answered once nobody asks any more.
const ANSWERED_WITHIN: Nanos = 60 * SECOND;

/// When something is to be looked at again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Alarm(usize),
    Bell(usize),
    Client(u32),
    Core(usize),
}

/// See the module.
pub struct World {
    pub sim: Sim,
    machines: Vec<Machine>,
    seeds: Vec<Seed>,
    mesh: corelane::ring::Mesh<Header>,
    net: Net,
    clients: Vec<Client>,
    /// Cores that are to run, and clients.
    awake: Ready,
    acting: Ready,
    timers: BinaryHeap<Reverse<(Nanos, u64, Timer)>>,
    order: u64,
    rung: Vec<usize>,
    clock_step: i64,
}

/// A list of bells.
struct Bells<'a>(&'a mut Vec<usize>);

impl Bell for Bells<'_> {
    fn ring(&mut self, to: PortId) {
        self.0.push(to.index());
    }
}

impl World {
    /// The world of a seed. `counters` are those of so many cores with so many shards each.
    pub fn of(seed: u64, planted: Option<Bug>, server: &Rc<Server<Site>>, counters: &Counters) -> World {
        let mut sim = Sim::of(seed, planted);
        let bounds = sim.bounds;
        let metrics = counters.of(bounds.cores, bounds.shards_per_core);
        let table = BoundaryTable::new(bounds.cores * bounds.shards_per_core, bounds.cores).expect("a shard for each");
        let (mesh, ports) = corelane::ring::Mesh::with_ring_slots(bounds.cores, bounds.ring_slots);
        // Where tables are small, all cores together may serve fewer still.
        let hard = (bounds.connections_max < 100).then(|| bounds.connections_most());
        let permits: &PermitPool = Box::leak(Box::new(PermitPool::new(bounds.cores, 1, hard)));
        let seeds: Vec<Seed> = (0..bounds.cores)
            .map(|index| Seed { server: Rc::clone(server), table: table.clone(), permits, metrics: metrics[index] })
            .collect();
        let machines: Vec<Machine> = seeds
            .iter()
            .zip(ports)
            .enumerate()
            .map(|(index, (seed, port))| Machine::new(index, 1, &mut sim, seed, port, Vec::new()))
            .collect();
        let count = sim.chance.between(3, 14) as u32;
        let clients = (0..count).map(|me| Client::new(me, sim.chance.one_of(&Kind::ALL), &mut sim)).collect();
        let mut world = World {
            sim,
            net: Net::of(bounds.cores),
            machines,
            seeds,
            mesh,
            clients,
            awake: Ready::default(),
            acting: Ready::default(),
            timers: BinaryHeap::new(),
            order: 0,
            rung: Vec::new(),
            clock_step: 0,
        };
        (0..bounds.cores as u32).for_each(|core| world.awake.set(core, true));
        (0..count).for_each(|client| world.acting.set(client, true));
        world
    }

    /// Lives until cores have seen so many events and, after that, everything has come to its end; fails if something
    /// is wrong.
    pub fn live(&mut self, steps: u64) {
        while self.sim.steps < steps && self.sim.failure.is_none() {
            self.go_on();
        }
        if self.sim.failure.is_some() {
            return;
        }
        self.sim.is_calm = true;
        self.sim.quirks.end();
        let until = self.sim.now + ANSWERED_WITHIN;
        while !self.clients.iter().all(Client::is_done) && self.sim.failure.is_none() {
            self.go_on();
            if self.sim.now > until {
                let waiting: Vec<_> = self.clients.iter().filter(|client| !client.is_done()).collect();
                self.sim.fail(waiting.first().map_or(String::new(), |client| client.complaint()));
            }
        }
        // Sessions whose clients are gone end when they have been idle for long enough: since a core that stood still
        // did what it had been told for them.
        let until = self.sim.now + STALL_MAX + self.sim.bounds.session_idle + 3 * self.sim.bounds.sweep_every;
        self.pass(until);
        if self.sim.failure.is_some() {
            return;
        }
        for machine in &mut self.machines {
            machine.hold_empty(&mut self.sim, &self.net);
        }
        let (open, sockets) = (self.sim.ledger.count(Fate::Open), self.net.len());
        self.sim.hold(open == 0, || format!("{open} requests were never answered"));
        self.sim.hold(sockets == 0, || format!("{sockets} sockets are left"));
        self.drain();
    }

    /// Every core finishes what is in flight, which is nothing, and ends.
    fn drain(&mut self) {
        for index in 0..self.machines.len() {
            self.machines[index].order_drain();
            self.wake(index);
        }
        let until = self.sim.now + self.sim.bounds.drain_time;
        self.pass(until);
        let late = self.machines.iter().position(|machine| !machine.is_drained);
        self.sim.hold(late.is_none(), || format!("core {late:?} has nothing to do, and does not end"));
    }

    /// Lets time pass, until then and until nobody has anything to do.
    fn pass(&mut self, until: Nanos) {
        while (self.sim.now < until || self.runnable() > 0) && self.sim.failure.is_none() {
            if self.timers.peek().is_none() && self.runnable() == 0 {
                self.sim.now = until;
            }
            self.go_on();
        }
    }

    fn runnable(&self) -> usize {
        CORE_WEIGHT * self.awake.len() + self.net.ready.len() + self.acting.len()
    }

    fn remind(&mut self, at: Nanos, timer: Timer) {
        self.order += 1;
        self.timers.push(Reverse((at, self.order, timer)));
    }

    /// One thing happens.
    fn go_on(&mut self) {
        self.sim.now += self.sim.chance.below(MICROSECOND);
        if self.sim.chance.once_in(FAULT_EVERY) {
            self.fault();
        }
        self.fire_timers();
        let cores = CORE_WEIGHT * self.awake.len();
        let sockets = self.net.ready.len();
        let total = cores + sockets + self.acting.len();
        if total == 0 {
            return self.skip();
        }
        let pick = self.sim.chance.index(total);
        if pick < cores {
            self.turn(self.awake.at(pick / CORE_WEIGHT) as usize);
        } else if pick < cores + sockets {
            let World { net, clients, sim, .. } = self;
            let socket = net.ready.at(pick - cores);
            net.pump(sim, socket, |sim, one, heard| clients[one.client as usize].hear(sim, one.link, heard));
        } else {
            let client = self.acting.at(pick - cores - sockets);
            self.acting.set(client, false);
            let at = self.clients[client as usize].act(&mut self.sim, &mut self.net);
            if !(self.sim.is_calm && self.clients[client as usize].is_done()) {
                self.remind(at, Timer::Client(client));
            }
        }
        while let Some(core) = self.net.stirred.pop() {
            self.wake(core);
        }
        let served: u64 = self.seeds.iter().map(|seed| seed.metrics.connections_served.get()).sum();
        let most = self.seeds[0].permits.hard().unwrap_or(u64::MAX);
        self.sim.hold(served <= most, || format!("{served} connections are served where {most} may be"));
    }

    /// Nobody has anything to do until the next deadline.
    fn skip(&mut self) {
        // One that was stopped within its turn may owe a bell.
        if self.machines.iter().all(|machine| machine.stalled.is_none()) {
            for machine in &mut self.machines {
                machine.hold_no_lost_wake_up(&mut self.sim);
            }
        }
        if let Some(Reverse((at, ..))) = self.timers.peek() {
            self.sim.now = self.sim.now.max(*at);
        }
    }

    fn fire_timers(&mut self) {
        while let Some(&Reverse((at, _, timer))) = self.timers.peek() {
            if at > self.sim.now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Alarm(core) => self.wake(core),
                Timer::Bell(core) => {
                    // A core that died meanwhile has a successor that was never rung for.
                    self.machines[core].late_bells = self.machines[core].late_bells.saturating_sub(1);
                    self.wake(core);
                }
                Timer::Client(client) => self.acting.set(client, true),
                Timer::Core(core) => {
                    let machine = &mut self.machines[core];
                    if machine.stalled.is_some_and(|until| until <= self.sim.now) {
                        machine.stalled = None;
                        let is_awake = machine.asleep.is_none();
                        self.awake.set(core as u32, is_awake);
                    }
                    if self.machines[core].asleep.is_some_and(|until| until <= self.sim.now) {
                        self.wake(core);
                    }
                }
            }
        }
    }

    /// A core's ring has a completion: it sleeps no longer.
    fn wake(&mut self, core: usize) {
        let machine = &mut self.machines[core];
        machine.asleep = None;
        let runs = machine.stalled.is_none() && !machine.is_drained;
        self.awake.set(core as u32, runs);
    }

    fn turn(&mut self, core: usize) {
        let World { sim, net, machines, rung, .. } = self;
        let machine = &mut machines[core];
        machine.go_on(sim, net, &mut Mesh { rung, clock_step: self.clock_step });
        if machine.is_drained {
            self.awake.set(core as u32, false);
        } else if let Some(until) = machine.asleep {
            self.awake.set(core as u32, false);
            if until != Nanos::MAX {
                self.remind(until, Timer::Core(core));
            }
            if self.sim.show(Quirk::FalseAlarms, 4) {
                let at = self.sim.now + self.sim.chance.below(100 * MICROSECOND);
                self.remind(at, Timer::Alarm(core));
            }
        }
        self.ring();
    }

    fn ring(&mut self) {
        while let Some(core) = self.rung.pop() {
            // The last port is the control thread's, which is not simulated.
            if core >= self.machines.len() {
                continue;
            }
            if self.machines[core].asleep.is_some() {
                self.sim.sights.see(Sight::WakedByBell);
            }
            if self.sim.show(Quirk::LateBells, 2) {
                let at = self.sim.now + self.sim.chance.below(200 * MICROSECOND);
                self.machines[core].late_bells += 1;
                self.remind(at, Timer::Bell(core));
            } else {
                self.wake(core);
            }
        }
    }

    fn fault(&mut self) {
        if self.sim.show(Quirk::CoreDeaths, 4) {
            let core = self.sim.chance.index(self.machines.len());
            self.replace(core);
        }
        if self.sim.show(Quirk::Stalls, 2) {
            let core = self.sim.chance.index(self.machines.len());
            let time = self.sim.chance.one_of(&[MILLISECOND, 30 * MILLISECOND, 400 * MILLISECOND, STALL_MAX]);
            self.machines[core].stalled = Some(self.sim.now + time);
            self.awake.set(core as u32, false);
            self.remind(self.sim.now + time, Timer::Core(core));
            if time >= SECOND {
                self.sim.last_pause = self.sim.now + time;
            }
        }
        if self.sim.show(Quirk::Leaps, 4) {
            let time = self.sim.chance.one_of(&[50 * MILLISECOND, 3 * SECOND, 40 * SECOND]);
            self.sim.now += time;
            self.sim.last_pause = self.sim.now;
            if time >= self.sim.bounds.session_idle {
                // A core that was stopped within its turn ends it by the time at which it began.
                self.sim.last_idling = self.sim.now + STALL_MAX + SECOND;
            }
        }
        if self.sim.show(Quirk::ClockSteps, 2) {
            let seconds = self.sim.chance.between(0, 7200) as i64 - 3600;
            self.clock_step += seconds * SECOND as i64;
        }
    }

    /// A core's thread dies where it stands, and another takes its place, as `boot::launch` has it.
    fn replace(&mut self, core: usize) {
        self.sim.trace.fold(99 << 32 | core as u64);
        self.sim.trace.tell(|| format!("{} core {core} dies", self.sim.now));
        self.sim.deaths += 1;
        self.sim.last_pause = self.sim.now;
        self.sim.last_death = self.sim.now;
        let port = self.mesh.revive(CoreId(core as u16).into(), &mut Bells(&mut self.rung));
        let machine = self.machines.remove(core);
        let incarnation = machine.incarnation + 1;
        let heirs = machine.die();
        self.net.lose(core);
        let machine = Machine::new(core, incarnation, &mut self.sim, &self.seeds[core], port, heirs);
        self.machines.insert(core, machine);
        self.wake(core);
        self.ring();
    }
}
