//! One core's thread: from a plan to a running loop, and what is left of it when it ends.
//!
//! Not here: which cores there are and what happens when one dies (`launch`).
//! Invariant: the driver outlives the executor: whatever ends the loop, the ring is closed by whoever joins the thread,
//! after the join.

use std::net::SocketAddr;
use std::os::fd::{AsFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use super::advice::advised;
use super::lend::{Lent, Life, OffloadPool};
use super::on_core::{Hooks, OnCore};
use crate::control::{CoreState, Health};
use crate::ids::CoreId;
use crate::metrics::CoreMetrics;
use crate::ring::Port;
use crate::runtime::{self, RunError, Tasks};
use crate::server::alarms::Alarms;
use crate::server::core::{Core, CoreParts};
use crate::server::drive::{Clock, Loop, Orders};
use crate::server::parcel::Header;
use crate::server::registry::{CoreRegistry, Founding};
use crate::server::service::{Mailbox, Overheard, Patience};
use crate::server::settings::Settings;
use crate::shard::permits::{PermitPool, Permits};
use crate::shard::range::{BoundaryTable, ShardRange};
use crate::shard::registry::{Names, Nanos};
use crate::shard::seal::Sealer;
use crate::shard::{Heir, Shards};
use crate::sys::cpu::{Cpu, CpuSet};
use crate::sys::guard::GuardHandle;
use crate::sys::pipe::is_without_reader;
use crate::sys::{affinity, entropy};
use crate::upstream::gateway::{Choices, Gateway, PinPort, Station};
use crate::upstream::native::Server;
use crate::uring::{Chime, Driver, DriverSettings, Features};

/// Everything a core's thread is made from. Kept by `launch`, so that the thread can be made again.
pub(super) struct Seed<S> {
    pub core: CoreId,
    /// The CPU to be pinned to, unless pinning is off.
    pub cpu: Option<Cpu>,
    pub range: ShardRange,
    pub settings: Settings,
    pub driver: DriverSettings,
    pub features: Features,
    pub listeners: Vec<RawFd>,
    /// Of those, the ones from this index on bring connections for all cores; `usize::MAX` where there are none.
    pub accepts_for_all_from: usize,
    /// Descriptors of the process that are one connection of lines: standard input and output.
    pub pipes: Option<(RawFd, RawFd)>,
    pub key: [u8; 32],
    /// Connections that all cores together may serve.
    pub permits: &'static PermitPool,
    pub epoch: u64,
    pub clock: Clock,
    pub server: Server<S>,
    /// The servers beside it, now and later.
    pub choices: Choices,
    /// What is pinned of their tools, now and later.
    pub pins: PinPort,
    /// Starts those that are child processes.
    pub guard: Option<GuardHandle>,
    pub metrics: &'static CoreMetrics,
    pub health: Health,
    pub orders: Arc<Orders>,
    /// The bells of all cores, by number, and the control thread's.
    pub chimes: Vec<Arc<Chime>>,
    /// Which core owns which shard.
    pub table: BoundaryTable,
    /// Most parcels taken from one core in one turn.
    pub batch_max: usize,
    pub offload: Arc<OffloadPool>,
    /// Makes keys of names, the same on every core.
    pub names: Names,
    /// The mean write latency of a shard of the registry that alarms it.
    pub write_limit: Nanos,
    /// What an embedding program adds.
    pub hooks: Hooks,
}

/// How a core's thread ended.
pub(super) enum Outcome {
    /// It drained.
    Drained,
    /// It could not go on; the text says why.
    Failed(String),
    /// It panicked.
    Panicked,
}

/// What a thread leaves behind: the ring, to be closed after the join, and how it ended.
pub(super) struct Remains {
    pub driver: Option<Driver>,
    pub outcome: Outcome,
    /// What its successor is told of its sessions; nothing if not even that could be found out.
    pub heirs: Vec<Heir>,
}

/// Starts the thread; `ended` is told its number when it is over, whichever way.
pub(super) fn start<S: 'static>(
    seed: &Seed<S>,
    incarnation: u32,
    port: Port<Header>,
    heirs: Vec<Heir>,
    ended: Sender<super::launch::News>,
) -> std::io::Result<JoinHandle<Remains>> {
    struct Tell(CoreId, Sender<super::launch::News>);
    impl Drop for Tell {
        fn drop(&mut self) {
            // Nobody listens any more only when the process is ending.
            let _ = self.1.send(super::launch::News::CoreEnded(self.0));
        }
    }
    let seed = seed.share();
    std::thread::Builder::new().name(format!("corelane-{}", seed.core.0)).spawn(move || {
        let _tell = Tell(seed.core, ended);
        live(seed, incarnation, port, heirs)
    })
}

impl<S: 'static> Seed<S> {
    fn share(&self) -> Seed<S> {
        Seed {
            core: self.core,
            cpu: self.cpu,
            range: self.range,
            settings: self.settings.clone(),
            driver: self.driver,
            features: self.features,
            listeners: self.listeners.clone(),
            accepts_for_all_from: self.accepts_for_all_from,
            pipes: self.pipes,
            key: self.key,
            permits: self.permits,
            epoch: self.epoch,
            clock: self.clock,
            server: self.server.share(),
            choices: self.choices.clone(),
            pins: self.pins.clone(),
            guard: self.guard.clone(),
            metrics: self.metrics,
            health: self.health.clone(),
            orders: Arc::clone(&self.orders),
            chimes: self.chimes.clone(),
            table: self.table.clone(),
            batch_max: self.batch_max,
            offload: Arc::clone(&self.offload),
            names: self.names,
            write_limit: self.write_limit,
            hooks: self.hooks.clone(),
        }
    }

    /// This core's own bell.
    pub fn chime(&self) -> &Arc<Chime> {
        &self.chimes[self.core.index()]
    }
}

fn live<S: 'static>(seed: Seed<S>, incarnation: u32, port: Port<Header>, mut heirs: Vec<Heir>) -> Remains {
    let failed = |text: String| Remains { driver: None, outcome: Outcome::Failed(text), heirs: Vec::new() };
    if let Some(cpu) = seed.cpu
        && let Err(error) = affinity::pin_current_thread(&CpuSet::from_iter([cpu]))
    {
        return failed(error.to_string());
    }
    let mut driver = match Driver::new(seed.driver, seed.features) {
        Ok(driver) => driver,
        Err(error) => return failed(advised(&error)),
    };
    seed.chime().hang_at(&mut driver);
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| run(&seed, incarnation, port, &mut driver, &mut heirs)));
    seed.metrics.pulse.rest();
    // From here on nobody rings a ring that is about to be closed.
    seed.chime().ring.store(-1, Ordering::Release);
    let outcome = ended.unwrap_or(Outcome::Panicked);
    seed.health.set(seed.core, if matches!(outcome, Outcome::Drained) { CoreState::Draining } else { CoreState::Dead });
    // Closed, a ring lets go of the listeners some time later, and until then swallows the wake-ups of its successor's.
    driver.let_go();
    Remains { driver: Some(driver), outcome, heirs }
}

/// Takes what the core's life before left of its sessions, and leaves what is left of them if it panics.
fn run<S: 'static>(
    seed: &Seed<S>,
    incarnation: u32,
    port: Port<Header>,
    driver: &mut Driver,
    heirs: &mut Vec<Heir>,
) -> Outcome {
    let random = entropy::bytes::<{ crate::shard::seal::NONCE_BYTES }>;
    let (core_start, handler_start) = match (random(), random()) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(error), _) | (_, Err(error)) => return Outcome::Failed(format!("no entropy for seals: {error}")),
    };
    seed.metrics.begin_life();
    let mut accepted_by_hand = None;
    if let Some((read, write)) = seed.pipes {
        accepted_by_hand = Some(driver.adopt(read, write));
    }
    if !seed.listeners.is_empty() {
        driver.listen(&seed.listeners);
    }
    let name = format!("corelane-{}", seed.core.0);
    let ended = runtime::run(&name, async {
        let chime: Arc<Chime> = Arc::clone(seed.chime());
        let tasks = Tasks::new(chime);
        let mailbox = Mailbox::default();
        let alarms = Alarms::default();
        let lent = Lent::new(
            seed.core,
            Life { boot: seed.settings.boot, incarnation },
            tasks.spawner(),
            alarms.clone(),
            seed.clock,
            Sealer::new(&seed.key, handler_start),
            Arc::clone(&seed.offload),
            seed.metrics,
            Patience {
                call: seed.settings.call_time,
                call_max: seed.settings.call_time_max,
                ask: seed.settings.ask_time,
            },
        );
        let host = Rc::new(lent);
        let overheard = Overheard::default();
        let native = seed.server.per_core(host.clone(), mailbox.overheard_by(&overheard));
        let station = Station {
            core: seed.core,
            cores: seed.table.cores() as u16,
            boot: seed.settings.boot,
            mailbox: mailbox.clone(),
            overheard,
            host,
            guard: seed.guard.clone(),
            choices: seed.choices.clone(),
            pins: seed.pins.clone(),
        };
        let service = Gateway::new(native, station);
        let mut core = Core::new(CoreParts {
            id: seed.core,
            settings: seed.settings.clone(),
            table: seed.table.clone(),
            shards: Shards::new(seed.range, incarnation),
            sealer: Sealer::new(&seed.key, core_start),
            permits: Permits::new(seed.permits, seed.core),
            service,
            metrics: seed.metrics,
            clock: Box::new({
                let clock = seed.clock;
                move || clock.nanos()
            }),
            epoch: seed.epoch,
        });
        core.inherit(std::mem::take(heirs));
        let clock = seed.clock;
        let founding = Founding {
            id: seed.core,
            life: incarnation,
            table: seed.table.clone(),
            names: seed.names,
            limit: seed.write_limit,
        };
        let registry = CoreRegistry::new(founding, Rc::new(move || clock.nanos()));
        core.join(registry.clone());
        if let Some(hook) = &seed.hooks.each_core {
            let (spawner, alarms, mailbox) = (tasks.spawner(), alarms.clone(), mailbox.clone());
            hook(OnCore { id: seed.core, registry, spawner, alarms, clock, mailbox });
        }
        if let Some(id) = accepted_by_hand {
            let input = crate::server::core::Input::Accepted { id, listener: 0, peer: None::<SocketAddr> };
            core.step(seed.clock.nanos(), input);
        }
        seed.health.set(seed.core, CoreState::Ready);
        let mut turns = Loop {
            driver,
            core,
            tasks,
            mailbox,
            clock: seed.clock,
            orders: Arc::clone(&seed.orders),
            metrics: seed.metrics,
            alarms,
            port,
            chimes: seed.chimes.clone(),
            batch_max: seed.batch_max,
            accepts_for_all_from: if seed.features.hand_over { seed.accepts_for_all_from } else { usize::MAX },
            turn_of: seed.core.index(),
            pipes: accepted_by_hand,
            is_unread: || is_without_reader(std::io::stdout().as_fd()),
        };
        let ended = runtime::caught(turns.run()).await;
        if matches!(ended, Err(RunError::Panicked)) {
            *heirs = turns.core.bequeath();
        }
        ended
    });
    match ended.flatten() {
        Ok(Ok(())) => Outcome::Drained,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(RunError::Panicked) => Outcome::Panicked,
        Err(error @ RunError::Executor(_)) => Outcome::Failed(advised(&error)),
    }
}
