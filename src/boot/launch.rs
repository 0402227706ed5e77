//! Launch: from a configuration to running threads, their supervision, and the way down.
//!
//! Not here: what a core does. Invariant: what must outlive a core's thread (listeners, counters, orders) is owned
//! here; a thread that died is joined and its ring closed before its successor starts.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::core_thread::{Outcome, Remains, Seed, start};
use super::lend::OffloadPool;
use super::plan::{CoreRequest, Plan};
use super::report::Report;
use super::topology::Topology;
use super::{BootError, cut};
use crate::config::{Config, Settings};
use crate::control::{self, ControlHandle, CoreState, Health, Stop};
use crate::ids::CoreId;
use crate::metrics::Registry;
use crate::ring::{Bell, Mesh, Port, PortId};
use crate::server::connection::Wire;
use crate::server::drive::{Clock, Orders};
use crate::server::parcel::Header;
use crate::shard::range::BoundaryTable;
use crate::sys::limits::{self, Resource};
use crate::sys::socket::{ListenGroup, UNIX_MODE_DEFAULT, UnixListenSocket, listen_group};
use crate::sys::steer::{Multiplier, SteeringProgram};
use crate::sys::{cpu::Cpu, entropy};
use crate::upstream::native::Server;
use crate::uring::{Chime, Disabled, Features};

/// Core deaths that are put up with in `RESTART_WINDOW` before the process gives up for its own supervisor to see.
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// What the launching thread waits for.
pub(super) enum News {
    CoreEnded(CoreId),
    Drain,
}

struct CoreSlot<S> {
    seed: Seed<S>,
    thread: Option<JoinHandle<Remains>>,
    incarnation: u32,
}

/// Rings cores from a thread that has no ring.
struct Eventfds<'a>(&'a [Arc<Chime>]);

impl Bell for Eventfds<'_> {
    fn ring(&mut self, to: PortId) {
        if let Some(chime) = self.0.get(to.index()) {
            chime.knock();
        }
    }
}

/// Where connections come from.
enum Doors {
    /// Listening sockets, by the configuration.
    Listeners,
    /// Standard input and output.
    Pipes,
}

/// Serves until a signal, or for standard input its end, has drained everything.
pub(super) fn serve<S: 'static>(server: Server<S>, config: Config) -> Result<(), BootError> {
    run(server, config, &Doors::Listeners)
}

/// Serves one client on standard input and output.
pub(super) fn stdio<S: 'static>(server: Server<S>, config: Config) -> Result<(), BootError> {
    run(server, config, &Doors::Pipes)
}

fn run<S: 'static>(server: Server<S>, config: Config, doors: &Doors) -> Result<(), BootError> {
    let started = Instant::now();
    let non_defaults = config.non_defaults();
    let settings = config.into_settings();
    let disabled = Disabled::from_environment().map_err(BootError::Environment)?;
    let features = Features::probe(disabled)?;
    let topology = Topology::of_this_host()?;
    let request = match doors {
        Doors::Listeners => request(&settings)?,
        Doors::Pipes => CoreRequest::Count(1),
    };
    let plan = Plan::new(&topology, &request)?;
    let cores = plan.cores.len();
    let table = BoundaryTable::new(settings.cores.shards_for(cores), cores)?;
    let nofile = limits::raise(Resource::Nofile)?.now.soft;
    // The executor looks at the soft limit of locked memory before it opens its rings.
    limits::raise(Resource::Memlock)?;
    let opened = Opened::open(&settings, doors, cores)?;
    let steered = match doors {
        Doors::Listeners if settings.cores.steering && !disabled.steering && cores > 1 => opened.steer(&table),
        _ => Steering::Off,
    };
    let registry = Arc::new(Registry::new(cores));
    let health = Health::new(cores);
    let (news, heard) = channel();
    let control = match doors {
        Doors::Listeners => Some(start_control(&settings, &registry, &health, news.clone())?),
        Doors::Pipes => None,
    };
    let key = match &settings.sessions.ticket_key {
        crate::config::TicketKey::Fixed { bytes, .. } => *bytes,
        crate::config::TicketKey::MadeAtStart => entropy::bytes()?,
    };
    let offload = Arc::new(OffloadPool::new(
        settings.offload.threads.usize(),
        settings.offload.blocking_threads.usize(),
        plan.offload.cpus.clone(),
    ));
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let clock = Clock::start();
    let boot = entropy::word64()?;
    let (mut mesh, ports) = Mesh::<Header>::new(cores);
    let chimes: Vec<Arc<Chime>> = (0..cores).map(|_| Ok(Arc::new(Chime::new()?))).collect::<std::io::Result<_>>()?;
    let mut slots = Vec::with_capacity(cores);
    for placement in &plan.cores {
        let core = placement.core;
        let (listeners, wires) = opened.of(core);
        let pipes =
            matches!(doors, Doors::Pipes).then(|| (std::io::stdin().as_raw_fd(), std::io::stdout().as_raw_fd()));
        let driver = cut::driver(&settings, nofile);
        // Leaked on purpose: counters are read for as long as the process lives, whatever becomes of the core.
        let metrics = Box::leak(Box::new(Arc::clone(registry.core(core))));
        let seed = Seed {
            core,
            cpu: (settings.cores.pin && matches!(doors, Doors::Listeners)).then_some(placement.place.cpu),
            range: table.range_of(core),
            settings: cut::core(&settings, &driver, wires, matches!(doors, Doors::Pipes), boot)?,
            driver,
            features,
            listeners,
            pipes,
            key,
            epoch,
            clock,
            server: server.share(),
            metrics,
            health: health.clone(),
            orders: Arc::new(Orders::default()),
            chimes: chimes.clone(),
            table: table.clone(),
            batch_max: settings.cores.batch_max.usize(),
            offload: Arc::clone(&offload),
        };
        slots.push(CoreSlot { seed, thread: None, incarnation: 1 });
    }
    if matches!(doors, Doors::Listeners) {
        let report = Report {
            plan: &plan,
            table: &table,
            features: &features,
            steered: &steered,
            non_defaults: &non_defaults,
            http: &opened.http.iter().map(|group| group.local_addr).collect::<Vec<_>>(),
            tcp: &opened.tcp.iter().map(|group| group.local_addr).collect::<Vec<_>>(),
            settings: &settings,
            control: control.as_ref().map(ControlHandle::address),
            took: started.elapsed(),
        };
        eprint!("{report}");
    }
    let mut ports = ports.into_iter();
    for (slot, port) in slots.iter_mut().zip(ports.by_ref()) {
        slot.thread = Some(start(&slot.seed, slot.incarnation, port, news.clone())?);
    }
    // The control thread's end of the mesh, kept open for as long as the cores live.
    let _control_port: Option<Port<Header>> = ports.next();
    let ends_with_cores = matches!(doors, Doors::Pipes);
    let outcome = supervise(&mut slots, &mut mesh, &heard, news, opened, &health, ends_with_cores);
    if let Some(control) = control {
        // The thread's panic, if any, was printed by the panic hook; the outcome of serving matters more.
        let _ = control.stop();
    }
    outcome
}

pub(super) fn request(settings: &Settings) -> Result<CoreRequest, BootError> {
    use crate::config::CoreList;
    Ok(match &settings.cores.list {
        CoreList::All => CoreRequest::All,
        CoreList::Count(count) => CoreRequest::Count(usize::from(count.get())),
        CoreList::Cpus(cpus) => CoreRequest::List(cpus.iter().filter_map(|&cpu| Cpu::new(u32::from(cpu))).collect()),
    })
}

fn start_control(
    settings: &Settings,
    registry: &Arc<Registry>,
    health: &Health,
    news: Sender<News>,
) -> Result<ControlHandle, BootError> {
    let on_signal = move |stop: Stop| match stop {
        // Whoever would hear of it may be what hangs.
        Stop::Now => std::process::exit(130),
        Stop::Drain => {
            // Nobody hears it only when the process is ending already.
            let _ = news.send(News::Drain);
        }
    };
    Ok(control::spawn(settings.control.clone(), Arc::clone(registry), health.clone(), on_signal)?)
}

/// Waits for what happens, restarts cores that died, and brings everything down in order.
fn supervise<S: 'static>(
    slots: &mut [CoreSlot<S>],
    mesh: &mut Mesh<Header>,
    heard: &Receiver<News>,
    news: Sender<News>,
    opened: Opened,
    health: &Health,
    ends_with_cores: bool,
) -> Result<(), BootError> {
    let mut opened = Some(opened);
    let mut draining = false;
    let mut deaths: Vec<Instant> = Vec::new();
    let mut failure = None;
    while slots.iter().any(|slot| slot.thread.is_some()) {
        let Ok(happened) = heard.recv() else { break };
        match happened {
            News::Drain => {
                draining = true;
                drain(slots, health);
                opened = None;
            }
            News::CoreEnded(core) => {
                let slot = &mut slots[core.index()];
                let Some(thread) = slot.thread.take() else { continue };
                let remains = thread.join();
                // The ring is closed here, after the join and before a successor is made: its clients see the end.
                let outcome = match remains {
                    Ok(remains) => {
                        drop(remains.driver);
                        remains.outcome
                    }
                    Err(_) => Outcome::Panicked,
                };
                match outcome {
                    Outcome::Drained if draining || ends_with_cores => continue,
                    Outcome::Drained => {}
                    Outcome::Failed(text) => {
                        tracing::error!(core = core.0, "{text}");
                        failure = Some(BootError::CoreFailed { core, text });
                    }
                    Outcome::Panicked => tracing::error!(core = core.0, "the core's thread panicked; it is restarted"),
                }
                deaths.retain(|death| death.elapsed() < RESTART_WINDOW);
                deaths.push(Instant::now());
                if draining || failure.is_some() || deaths.len() > RESTARTS_MAX {
                    failure.get_or_insert(BootError::TooManyDeaths { deaths: deaths.len() });
                    draining = true;
                    drain(slots, health);
                    opened = None;
                    continue;
                }
                slot.incarnation += 1;
                health.set(core, CoreState::Starting);
                // The others hear of the death before the successor is there.
                let port = mesh.revive(core.into(), &mut Eventfds(&slot.seed.chimes));
                slot.thread = Some(start(&slot.seed, slot.incarnation, port, news.clone())?);
            }
        }
    }
    drop(opened);
    failure.map_or(Ok(()), Err)
}

fn drain<S: 'static>(slots: &[CoreSlot<S>], health: &Health) {
    health.begin_drain();
    for slot in slots {
        slot.seed.orders.drain.store(true, Ordering::Relaxed);
        if slot.thread.is_some() {
            health.set(slot.seed.core, CoreState::Draining);
        }
        slot.seed.chime().knock();
    }
}

/// Whether connections are steered to cores by the program.
pub(super) enum Steering {
    On,
    Off,
    Refused(std::io::Error),
}

/// The sockets that are listened on.
#[derive(Default)]
struct Opened {
    http: Vec<ListenGroup>,
    tcp: Vec<ListenGroup>,
    unix: Vec<UnixListenSocket>,
}

impl Opened {
    fn open(settings: &Settings, doors: &Doors, cores: usize) -> Result<Opened, BootError> {
        let mut opened = Opened::default();
        if matches!(doors, Doors::Pipes) {
            return Ok(opened);
        }
        let backlog = settings.serve.backlog.u32();
        for &address in &settings.serve.listen {
            opened.http.push(listen_group(address, cores, backlog)?);
        }
        for &address in &settings.serve.tcp {
            opened.tcp.push(listen_group(address, cores, backlog)?);
        }
        for path in &settings.serve.unix {
            opened.unix.push(UnixListenSocket::bind(path.as_path(), UNIX_MODE_DEFAULT, backlog)?);
        }
        Ok(opened)
    }

    fn steer(&self, table: &BoundaryTable) -> Steering {
        let multiplier = match entropy::word32() {
            Ok(bits) => Multiplier::from_entropy(bits),
            Err(error) => return Steering::Refused(std::io::Error::other(error.to_string())),
        };
        let program = SteeringProgram::build(table, multiplier);
        for group in self.http.iter().chain(&self.tcp) {
            if let Err(error) = group.steer(&program) {
                return Steering::Refused(error);
            }
        }
        Steering::On
    }

    /// One core's listeners, and what is spoken on each.
    fn of(&self, core: CoreId) -> (Vec<RawFd>, Vec<Wire>) {
        let mut listeners = Vec::new();
        let mut wires = Vec::new();
        for (groups, wire) in [(&self.http, Wire::Http), (&self.tcp, Wire::Lines)] {
            for group in groups {
                listeners.push(group.fds[core.index()].as_raw_fd());
                wires.push(wire);
            }
        }
        if core.0 == 0 {
            for socket in &self.unix {
                listeners.push(socket.as_fd().as_raw_fd());
                wires.push(Wire::Lines);
            }
        }
        if wires.is_empty() {
            wires.push(Wire::Lines);
        }
        (listeners, wires)
    }
}
