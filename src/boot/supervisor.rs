//! Supervision: threads that die are started again, cores that stand still are noticed, all come down in order.
//!
//! Not here: what a core does, how the process is set up (`launch`), how long is too long (`shard::watchdog`).
//! Invariant: a thread that died is joined and its ring closed before its successor starts; whatever stands still, a
//! drain ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::BootError;
use super::core_thread::{Outcome, Remains, start};
use super::launch::{CoreSlot, News, Opened};
use crate::control::{ControlThread, CoreState, Health};
use crate::ids::CoreId;
use crate::ring::{Bell, Mesh, Port, PortId};
use crate::server::drive::Clock;
use crate::server::parcel::Header;
use crate::shard::Heir;
use crate::shard::restarts::{Restarts, Verdict};
use crate::shard::watchdog::{AVOIDED, Finding, Watchdog};
use crate::uring::Chime;

/// How often the launching thread looks whether cores move. A core that stands still is known to after `STALL` and at
/// most once as long as this: within 100 ms. More often would cost an idle process more: each look is a wake-up.
const WATCH_EVERY: Duration = Duration::from_millis(45);

/// The most of the time between two looks that counts against a core: if this thread was held up for longer, so was the
/// machine.
pub(super) const WATCH_STEP: Duration = Duration::from_millis(100);

/// How long past its deadline a drain may take if what is left stands still.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// The same if what is left moves and never ends, which would be a fault of corelane's own.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Rings cores from a thread that has no ring.
struct Eventfds<'a>(&'a [Arc<Chime>]);

impl Bell for Eventfds<'_> {
    fn ring(&mut self, to: PortId) {
        if let Some(chime) = self.0.get(to.index()) {
            chime.knock();
        }
    }
}

/// Restarts cores that died, and the control thread, and brings everything down in order.
pub(super) struct Supervisor<S> {
    pub slots: Vec<CoreSlot<S>>,
    pub mesh: Mesh<Header>,
    pub news: Sender<News>,
    /// The listeners, until a drain.
    pub opened: Option<Opened>,
    pub health: Health,
    pub ends_with_cores: bool,
    /// Since when, if so.
    pub draining: Option<Instant>,
    pub watchdog: Watchdog,
    pub clock: Clock,
    pub restarts: Restarts,
    /// What the times of deaths are counted from.
    pub started: Instant,
    pub failure: Option<BootError>,
    pub control: ControlThread,
    pub control_restarts: Restarts,
}

impl<S: 'static> Supervisor<S> {
    /// Waits for what happens, until the last core has ended.
    pub fn supervise(&mut self, heard: &Receiver<News>) -> Result<(), BootError> {
        while self.slots.iter().any(|slot| slot.thread.is_some()) {
            match heard.recv_timeout(WATCH_EVERY) {
                Ok(News::Drain) => self.drain(),
                Ok(News::CoreEnded(core)) => self.core_ended(core),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.watch();
            self.watch_control();
            if let Some(failure) = self.hopeless() {
                // What stands still cannot be joined: its thread is left to the end of the process.
                self.failure.get_or_insert(failure);
                break;
            }
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Looks whether cores move.
    fn watch(&mut self) {
        let now = self.clock.now();
        for place in 0..self.slots.len() {
            let core = self.slots[place].seed.core;
            let began = self.slots[place].seed.metrics.pulse.turn_began().map(Duration::from_nanos);
            for finding in self.watchdog.look(place, now, began) {
                match finding {
                    Finding::Stalls { lasts, .. } => {
                        self.health.stands_still(core, true);
                        tracing::warn!(
                            core = core.0,
                            "the core has stood still for {} ms: a handler blocks it, or the machine does not run it; its \
                             connections wait, those of the others do not",
                            lasts.as_millis()
                        );
                    }
                    Finding::Avoided { .. } => self.steer(),
                    Finding::GoesOn { lasted, .. } => {
                        self.health.stands_still(core, false);
                        if lasted >= AVOIDED {
                            self.steer();
                        }
                        tracing::warn!(core = core.0, "the core goes on, after more than {} ms", lasted.as_millis());
                    }
                    Finding::GivenUp { lasts, .. } => {
                        let failure = BootError::CoreStalled { core, lasts };
                        tracing::error!(core = core.0, "{failure}");
                        self.give_up(failure);
                    }
                }
            }
        }
    }

    /// Starts the control thread anew if it has died. Cores do not notice: none waits for it.
    fn watch_control(&mut self) {
        // A process that gives up, for this reason or another, comes down by itself.
        if self.failure.is_some() || !self.control.is_dead() {
            return;
        }
        tracing::error!("the control thread panicked; it is restarted");
        match self.control_restarts.died(self.started.elapsed()) {
            Verdict::Restart { .. } => {
                if let Err(error) = self.control.restart() {
                    self.give_up(error.into());
                }
            }
            Verdict::TooMany { deaths, .. } => self.give_up(BootError::ControlDied { deaths }),
        }
    }

    /// Has new connections come to the cores that move.
    fn steer(&self) {
        let avoided: Vec<CoreId> = self.watchdog.avoided().map(|place| self.slots[place].seed.core).collect();
        for slot in &self.slots {
            // Of what local clients open one core accepts all, and deals it out.
            slot.seed.chime().is_avoided.store(avoided.contains(&slot.seed.core), Ordering::Relaxed);
        }
        // The table is the same for all.
        let (Some(opened), Some(slot)) = (&self.opened, self.slots.first()) else { return };
        match opened.steer(&slot.seed.table, &avoided) {
            Ok(()) if avoided.is_empty() => tracing::warn!("new connections go to all cores again"),
            Ok(()) => tracing::warn!("new connections go to all cores but {avoided:?}"),
            Err(error) => tracing::warn!("new connections cannot be kept from {avoided:?}: {error}"),
        }
    }

    /// Why a drain cannot end: its time is up, and whatever core is left stands still, or has had more than enough.
    fn hopeless(&self) -> Option<BootError> {
        let since = self.draining?;
        let mut left = self.slots.iter().filter(|slot| slot.thread.is_some()).peekable();
        let time = left.peek()?.seed.settings.drain_time;
        if since.elapsed() < Duration::from_nanos(time) + DRAIN_GRACE {
            return None;
        }
        if since.elapsed() >= Duration::from_nanos(time) + DRAIN_LIMIT {
            let core = left.peek()?.seed.core;
            return Some(BootError::NotDrained { core, limit: Duration::from_nanos(time) });
        }
        let now = self.clock.now();
        let stalled = left.map(|slot| {
            let began = slot.seed.metrics.pulse.turn_began().filter(|_| self.watchdog.stalls(slot.seed.core.index()));
            began.map(|began| (slot.seed.core, now.saturating_sub(Duration::from_nanos(began))))
        });
        let stalled: Vec<_> = stalled.collect::<Option<_>>()?;
        stalled.first().map(|&(core, lasts)| BootError::CoreStalled { core, lasts })
    }

    /// Starts a core, or gives the process up.
    pub fn start(&mut self, index: usize, port: Port<Header>, heirs: Vec<Heir>) {
        let slot = &mut self.slots[index];
        match start(&slot.seed, slot.incarnation, port, heirs, self.news.clone()) {
            Ok(thread) => slot.thread = Some(thread),
            Err(error) => {
                let (core, chimes) = (slot.seed.core, slot.seed.chimes.clone());
                self.mesh.retire(core.into(), &mut Eventfds(&chimes));
                self.give_up(error.into());
            }
        }
    }

    fn core_ended(&mut self, core: CoreId) {
        let Some(thread) = self.slots[core.index()].thread.take() else { return };
        let Remains { driver, outcome, heirs } =
            thread.join().unwrap_or(Remains { driver: None, outcome: Outcome::Panicked, heirs: Vec::new() });
        let failure = match outcome {
            Outcome::Drained if self.is_draining() || self.ends_with_cores => None,
            // Nobody comes back: a pipe is not connected to a second time.
            Outcome::Panicked if self.is_draining() || self.ends_with_cores => {
                Some(BootError::CoreFailed { core, text: "its thread panicked".to_owned() })
            }
            Outcome::Drained | Outcome::Panicked => {
                tracing::error!(core = core.0, "the core's thread panicked; it is restarted");
                self.too_many_deaths()
            }
            Outcome::Failed(text) => {
                tracing::error!(core = core.0, "{text}");
                Some(BootError::CoreFailed { core, text })
            }
        };
        let chimes = self.slots[core.index()].seed.chimes.clone();
        let bells = &mut Eventfds(&chimes);
        if let Some(failure) = failure {
            self.give_up(failure);
        }
        // The others answer whoever waits for the core when they hear of its end: that does not wait for what the
        // kernel does when the ring is closed. And the ring's number is free for another descriptor only after they
        // could hear.
        if self.is_draining() || self.ends_with_cores {
            self.mesh.retire(core.into(), bells);
            return drop(driver);
        }
        let port = self.mesh.revive(core.into(), bells);
        // Closed after the join and before there is a successor: its clients see the end.
        drop(driver);
        self.health.set(core, CoreState::Starting);
        self.slots[core.index()].incarnation += 1;
        self.start(core.index(), port, heirs);
    }

    /// Counts a death; an error if it is one too many.
    fn too_many_deaths(&mut self) -> Option<BootError> {
        match self.restarts.died(self.started.elapsed()) {
            Verdict::Restart { .. } => None,
            Verdict::TooMany { deaths, .. } => Some(BootError::TooManyDeaths { deaths }),
        }
    }

    /// Ends the process in order, with the first reason there was.
    fn give_up(&mut self, failure: BootError) {
        self.failure.get_or_insert(failure);
        self.drain();
    }

    fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    fn drain(&mut self) {
        self.draining.get_or_insert(Instant::now());
        self.health.begin_drain();
        for slot in &self.slots {
            slot.seed.orders.drain.store(true, Ordering::Relaxed);
            if slot.thread.is_some() {
                self.health.set(slot.seed.core, CoreState::Draining);
            }
            slot.seed.chime().knock();
        }
        self.opened = None;
    }
}
