//! Launch: from a configuration to running threads, and what is left to do when they have ended.
//!
//! Not here: what a core does, what becomes of one that dies (`supervisor`). Invariant: what must outlive a core's
//! thread (listeners, counters, orders) is owned here.

use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::administered::{self, Administered};
use super::core_thread::{Remains, Seed};
use super::dial_in::Entrance;
use super::host::Severity;
use super::lend::OffloadPool;
use super::on_core::Hooks;
use super::pins::Keeper;
use super::plan::{CoreRequest, Plan};
use super::reload::{Reloader, Servers};
use super::report::Report;
use super::resolve;
use super::supervisor::{Supervisor, WATCH_STEP};
use super::topology::Topology;
use super::{BootError, check, cut, desk, gateway, load};
use crate::config::{Config, LogFormat, Settings};
use crate::control::log::LogGuard;
use crate::control::{
    self, Administration, Beside, ControlError, ControlThread, DeskCell, Health, LimitInputs, OwnHealth, PinDesk,
    ServerDesk, Stop, ZoneInputs,
};
use crate::ids::CoreId;
use crate::metrics::{CloseCause, Registry};
use crate::ring::{Mesh, Port};
use crate::server::connection::Wire;
use crate::server::drive::{Clock, Orders};
use crate::server::parcel::Header;
use crate::server::registry::Founding;
use crate::shard::permits::PermitPool;
use crate::shard::range::BoundaryTable;
use crate::shard::registry::Names;
use crate::shard::restarts::{Backoff, Intensity, Restarts};
use crate::shard::watchdog::Watchdog;
use crate::sys::guard::{AttendedGuard, Guard};
use crate::sys::limits::{self, Resource};
use crate::sys::socket::{ListenError, ListenGroup, UnixListenSocket, listen_group};
use crate::sys::steer::{Multiplier, SteeringProgram};
use crate::sys::{cpu::Cpu, entropy};
use crate::upstream::native::Server;
use crate::uring::{Chime, Disabled, Features};

/// What the launching thread waits for.
pub(super) enum News {
    CoreEnded(CoreId),
    Drain,
}

pub(super) struct CoreSlot<S> {
    pub seed: Seed<S>,
    pub thread: Option<JoinHandle<Remains>>,
    pub incarnation: u32,
}

/// Where connections come from.
pub(super) enum Doors {
    /// Listening sockets, by the configuration.
    Listeners,
    /// Standard input and output.
    Pipes {
        /// The name of what is seen; empty for all.
        view: String,
    },
}

impl Doors {
    fn are_pipes(&self) -> bool {
        matches!(self, Doors::Pipes { .. })
    }

    /// The name of what connections of lines see at first.
    fn view(&self) -> &str {
        match self {
            Doors::Listeners => "",
            Doors::Pipes { view } => view,
        }
    }
}

/// Serves until a signal, or for standard input its end, has drained everything.
pub(super) fn serve<S: 'static>(
    server: Server<S>,
    config: Config,
    hooks: Hooks,
    is_demonstration: bool,
) -> Result<(), BootError> {
    Launch::prepare(server, config, &Doors::Listeners, hooks, is_demonstration)?.run()
}

/// Serves one client on standard input and output.
pub(super) fn stdio<S: 'static>(
    server: Server<S>,
    config: Config,
    hooks: Hooks,
    view: String,
    is_demonstration: bool,
) -> Result<(), BootError> {
    if is_stand_in_of_closed("1") {
        return Err(BootError::NoOutput);
    }
    gateway::find_view(config.settings(), &view)?;
    Launch::prepare(server, config, &Doors::Pipes { view }, hooks, is_demonstration)?.run()
}

/// Whether a standard stream is what the standard library puts in the place of a closed one before `main`: /dev/null,
/// for reading and writing. What is written there vanishes without an error; whoever means /dev/null opens it to write.
fn is_stand_in_of_closed(descriptor: &str) -> bool {
    let device = |path: &str| std::fs::metadata(path).ok().map(|found| found.rdev());
    let is_null =
        device(&format!("/proc/self/fd/{descriptor}")).is_some_and(|found| Some(found) == device("/dev/null"));
    let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = shown.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    is_null && flags.is_some_and(|flags| flags & libc::O_ACCMODE == libc::O_RDWR)
}

/// A process whose doors are open and whose cores are still to start.
pub(super) struct Launch<S> {
    pub slots: Vec<CoreSlot<S>>,
    pub opened: Opened,
    pub health: Health,
    pub intensity: Intensity,
    mesh: Mesh<Header>,
    /// The cores', in order.
    ports: Vec<Port<Header>>,
    /// The registry, by the control thread's port, which is kept open for as long as the cores live.
    pub registry: desk::Registry,
    control: ControlThread,
    metrics: Arc<Registry>,
    /// What is still to be logged is written when this ends.
    log: Option<LogGuard>,
    /// What is pinned of servers' tools.
    pins: Keeper,
    /// Starts and ends child processes, if some server is one.
    guard: Option<AttendedGuard>,
    pub news: Sender<News>,
    heard: Receiver<News>,
    /// Cores that have nothing left to do end the process.
    ends_with_cores: bool,
    clock: Clock,
    /// How long a core may stand still.
    stall_limit: Option<Duration>,
}

impl<S: 'static> Launch<S> {
    /// Opens everything that cores need, and reports what was decided.
    /// `hooks` are what an embedding program adds; `is_demonstration` if the native server is the one that is built in.
    pub(super) fn prepare(
        server: Server<S>,
        config: Config,
        doors: &Doors,
        hooks: Hooks,
        is_demonstration: bool,
    ) -> Result<Launch<S>, BootError> {
        let started = Instant::now();
        let non_defaults = config.non_defaults();
        let settings = config.settings().clone();
        // Before anything starts a thread: only then can it be forked.
        let file = config.sources().file.clone().filter(|_| matches!(doors, Doors::Listeners));
        let guard = match gateway::has_children(&settings) {
            true => Some(Guard::fork()?),
            // A program that has threads already goes without, and then a child added later needs a restart.
            false => file.as_ref().and_then(|_| Guard::fork().ok()),
        };
        // Not shared with the guard, which outlives this process for a moment.
        let (pins, pin_port) = Keeper::new(&settings)?;
        let log = control::log::detach();
        let disabled = Disabled::from_environment().map_err(BootError::Environment)?;
        let features = Features::probe(disabled)?;
        let topology = Topology::of_this_host()?;
        let request = match doors {
            Doors::Listeners => request(&settings)?,
            Doors::Pipes { .. } => CoreRequest::Count(1),
        };
        let plan = Plan::new(&topology, &request)?;
        let cores = plan.cores.len();
        let table = BoundaryTable::new(load::shards(&settings.cores, cores), cores)?;
        let nofile = limits::raise(Resource::Nofile)?.now.soft;
        // The executor looks at the soft limit of locked memory before it opens its rings.
        limits::raise(Resource::Memlock)?;
        let mut opened = Opened::open(&settings, doors, cores)?;
        let steered = match doors {
            Doors::Listeners if settings.cores.steering && !disabled.steering && cores > 1 => {
                opened.begin_to_steer(&table)
            }
            _ => Steering::Off,
        };
        let registry = Arc::new(Registry::sharded(table.iter().map(|(_, range)| range.count())));
        let has_guard = guard.is_some();
        let servers = Servers::new(&settings, &registry, pins.clone(), is_demonstration, has_guard, resolve::by_system);
        let (choices, gates) = (servers.choices(), servers.gates());
        let reloader = Reloader::new(servers, config);
        let desk_cell = DeskCell::default();
        let health = Health::new(cores);
        let entrance = match doors {
            Doors::Listeners => Some(Entrance::open(&settings.dial_in, gates, health.clone())?),
            Doors::Pipes { .. } => None,
        };
        let dial_in = entrance.as_ref().map(|entrance| entrance.addresses.clone()).unwrap_or_default();
        let beside = beside(pins.clone(), reloader.clone(), &settings, Arc::clone(&desk_cell), entrance);
        let (news, heard) = channel();
        let (apart, on_signal) = (plan.control.cpus.clone(), on_signal(news.clone()));
        // Every core has as many listeners, and so as much room.
        let listeners = plan.cores.first().map_or(0, |placement| opened.of(placement.core).0.len());
        let driver = cut::driver(&settings, nofile, listeners)?;
        let per_core = cut::connections(&settings, &driver, listeners)?;
        let limits = cut::connection_limits(&settings, per_core, cores);
        let control = match doors {
            Doors::Listeners => {
                let (registry, health) = (Arc::clone(&registry), health.clone());
                let socket = settings.control.socket.as_path();
                let socket = socket.map(|path| patiently(|| UnixListenSocket::bind(path, ADMIN_MODE, ADMIN_BACKLOG)));
                let desk = Arc::clone(&desk_cell);
                let servers: Option<Arc<dyn ServerDesk>> = Some(Arc::new(reloader.clone()));
                let reload = file.map(|file| (file, Arc::new(move || reloader.reload()) as control::Reload));
                let pins: Option<Arc<dyn PinDesk>> = Some(Arc::new(pins.clone()));
                let socket = socket.transpose()?;
                let zones = ZoneInputs { settings: settings.zones, connections_max: limits.most };
                let of_address = cut::peer_limits(&settings, per_core, cores);
                let limits = LimitInputs {
                    soft: limits.soft,
                    hard: limits.most,
                    per_core: per_core as u64,
                    accepts_per_s: cut::accept_rate(&settings, cores).per_second,
                    per_peer: of_address.elsewhere,
                    per_loopback: of_address.loopback,
                };
                let administration = Administration { desk, socket, reload, pins, servers, zones, limits };
                let (settings, beside) = (settings.control.clone(), Some(beside));
                ControlThread::start(settings, registry, health, administration, beside, apart, on_signal)
            }
            Doors::Pipes { .. } => ControlThread::for_signals(health.clone(), beside, apart, on_signal),
        };
        let control = control.map_err(control_error)?;
        let key = match &settings.sessions.ticket_key {
            crate::config::TicketKey::Fixed { bytes, .. } => *bytes,
            crate::config::TicketKey::MadeAtStart => entropy::bytes()?,
        };
        let guard =
            guard.map(|guard| guard.attend(Some(plan.control.cpus.clone()))).transpose().map_err(with_advice)?;
        let offload = Arc::new(OffloadPool::new(
            settings.offload.threads.usize(),
            settings.offload.blocking_threads.usize(),
            plan.offload.cpus.clone(),
        ));
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let clock = Clock::start();
        let boot = entropy::word64()?;
        let (mesh, mut ports) = Mesh::<Header>::new(cores);
        let names = Names::new(entropy::bytes()?);
        let chimes: Vec<Arc<Chime>> =
            (0..=cores).map(|_| Ok(Arc::new(Chime::new()?))).collect::<std::io::Result<_>>().map_err(with_advice)?;
        let write_limit = hooks.write_limit.unwrap_or(settings.registry.write_limit_us.get() * 1_000);
        // Whoever serves one client by its own pipes refuses nobody.
        let hard = limits.hard.filter(|_| matches!(doors, Doors::Listeners));
        // Leaked as counters are.
        let permits: &PermitPool = Box::leak(Box::new(PermitPool::new(cores, limits.soft, hard)));
        let mut slots = Vec::with_capacity(cores);
        for placement in &plan.cores {
            let core = placement.core;
            let (listeners, wires) = opened.of(core);
            let pipes = doors.are_pipes().then(|| (std::io::stdin().as_raw_fd(), std::io::stdout().as_raw_fd()));
            let driver = cut::driver(&settings, nofile, listeners.len())?;
            if core.0 == 0 && !doors.are_pipes() {
                let room = check::descriptors(&settings, u64::from(driver.descriptors), nofile, cores);
                if room.severity != Severity::Ok {
                    tracing::warn!("{}: {}, wanted are {}: {}", room.name, room.seen, room.wanted, room.advice);
                }
            }
            // Leaked on purpose: counters are read for as long as the process lives, whatever becomes of the core.
            let metrics = Box::leak(Box::new(Arc::clone(registry.core(core))));
            let seed = Seed {
                core,
                cpu: (settings.cores.pin && matches!(doors, Doors::Listeners)).then_some(placement.place.cpu),
                range: table.range_of(core),
                settings: cut::core(&settings, &driver, wires, doors.are_pipes(), doors.view(), cores, boot)?,
                driver,
                features,
                accepts_for_all_from: if core.0 == 0 { listeners.len() - opened.unix.len() } else { usize::MAX },
                listeners,
                pipes,
                key,
                permits,
                epoch,
                clock,
                server: server.share(),
                choices: choices.clone(),
                pins: pin_port.clone(),
                guard: guard.as_ref().map(AttendedGuard::handle),
                metrics,
                health: health.clone(),
                orders: Arc::new(Orders::default()),
                chimes: chimes.clone(),
                table: table.clone(),
                batch_max: settings.cores.batch_max.usize(),
                offload: Arc::clone(&offload),
                names,
                write_limit,
                hooks: hooks.clone(),
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
                dial_in: &dial_in,
                control: control.address(),
                took: started.elapsed(),
            };
            match settings.log.format {
                LogFormat::Json => report.log(),
                // At once, so that who waits for it reads no half of a line. It serves as well if nobody reads what it
                // says.
                LogFormat::Text => drop(std::io::stderr().write_all(report.to_string().as_bytes())),
            }
        }
        let ends_with_cores = doors.are_pipes();
        let stall_limit = Some(settings.cores.stall_limit_ms.duration()).filter(|limit| !limit.is_zero());
        let intensity = Intensity::CORE;
        let founding = Founding { id: CoreId(cores as u16), life: 1, table: table.clone(), names, limit: write_limit };
        let registry_of_metrics = Arc::clone(&registry);
        let port = ports.pop().expect("a mesh has a port for the control thread");
        let registry = desk::Registry::new(port, founding, clock, chimes);
        // Nobody else sets it.
        let _ = desk_cell.set(Box::new(Administered::new(registry.clone())));
        if let Some(take) = &hooks.health {
            take(OwnHealth::new(health.clone(), Arc::clone(&registry_of_metrics)));
        }
        if let Some(take) = &hooks.registry {
            take(registry.clone());
        }
        Ok(Launch {
            slots,
            opened,
            health,
            intensity,
            mesh,
            ports,
            registry,
            control,
            metrics: registry_of_metrics,
            log,
            pins,
            guard,
            news,
            heard,
            ends_with_cores,
            clock,
            stall_limit,
        })
    }

    /// Starts the cores and serves until everything has drained.
    pub(super) fn run(mut self) -> Result<(), BootError> {
        let ports = std::mem::take(&mut self.ports);
        let mut supervisor = Supervisor {
            watchdog: Watchdog::new(self.slots.len(), self.stall_limit, WATCH_STEP),
            slots: self.slots,
            mesh: self.mesh,
            news: self.news,
            opened: Some(self.opened),
            health: self.health,
            ends_with_cores: self.ends_with_cores,
            draining: None,
            clock: self.clock,
            restarts: Restarts::new(self.intensity, Backoff::NONE),
            control: self.control,
            control_restarts: Restarts::new(self.intensity, Backoff::NONE),
            started: Instant::now(),
            failure: None,
        };
        for (index, port) in ports.into_iter().enumerate() {
            supervisor.start(index, port, Vec::new());
        }
        let metrics = Arc::clone(&self.metrics);
        let outcome = supervisor.supervise(&self.heard);
        let cut = metrics.closed(CloseCause::DrainDeadline);
        if cut > 0 {
            tracing::warn!("{cut} connections were cut off when the drain's time was up (serve.drain_deadline_ms)");
        }
        // No core is left that could want something of a child.
        if let Some(guard) = self.guard {
            guard.end();
        }
        drop(self.registry);
        // The thread's panic, if any, was printed by the panic hook; the outcome of serving matters more.
        let _ = supervisor.control.stop();
        self.pins.finish();
        drop(self.log);
        outcome
    }
}

pub(super) fn request(settings: &Settings) -> Result<CoreRequest, BootError> {
    use crate::config::CoreList;
    Ok(match &settings.cores.list {
        CoreList::All => CoreRequest::All,
        CoreList::Count(count) => CoreRequest::Count(usize::from(count.get())),
        CoreList::Cpus(cpus) => CoreRequest::List(cpus.iter().filter_map(|&cpu| Cpu::new(u32::from(cpu))).collect()),
    })
}

fn with_advice(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), super::advice::advised(&error))
}

fn control_error(error: ControlError) -> ControlError {
    match error {
        ControlError::Start(source) => ControlError::Start(with_advice(source)),
        bind => bind,
    }
}

/// What the control thread runs besides, in each of its lives.
fn beside(pins: Keeper, reloader: Reloader, settings: &Settings, desk: DeskCell, entrance: Option<Entrance>) -> Beside {
    let (every, entrance) = (settings.gateway.resolve_ms.duration(), Arc::new(entrance));
    Arc::new(move || {
        let (pins, look_ups) = (pins.clone().attend(), reloader.clone().look_up_names(every));
        let (administered, entrance) = (administered::attend(Arc::clone(&desk)), Arc::clone(&entrance));
        Box::pin(async move {
            let dialled = async {
                if let Some(entrance) = &*entrance {
                    entrance.attend().await;
                }
            };
            tokio::join!(pins, look_ups, administered, dialled);
        })
    })
}

/// What the control thread does when it is signalled.
fn on_signal(news: Sender<News>) -> impl Fn(Stop) + Send + Sync + 'static {
    move |stop: Stop| match stop {
        // Whoever would hear of it may be what hangs.
        Stop::Now => std::process::exit(130),
        Stop::Drain => {
            // Nobody hears it only when the process is ending already.
            let _ = news.send(News::Drain);
        }
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
pub(super) struct Opened {
    pub http: Vec<ListenGroup>,
    tcp: Vec<ListenGroup>,
    unix: Vec<UnixListenSocket>,
    /// What keys the hash by which connections are steered, if they are.
    multiplier: Option<Multiplier>,
}

/// The permissions of the administration's socket, and how many may wait to be let in.
const ADMIN_MODE: u32 = 0o600;
const ADMIN_BACKLOG: u32 = 16;

/// How long an address may still be held by what is left of a process that was killed, or its port be opened by
/// another: the kernel lets go of the listeners of a ring some time after the process is gone, about 10 ms.
const LETTING_GO: Duration = Duration::from_millis(250);
const LETTING_GO_TRIES: u32 = 10;

/// Opens a listener, or says that its address is in use once that has lasted for longer than a killed process explains.
pub(super) fn patiently<T>(open: impl Fn() -> Result<T, ListenError>) -> Result<T, ListenError> {
    for _ in 0..LETTING_GO_TRIES {
        match open() {
            Err(ListenError::InUse { .. } | ListenError::BeingOpened { .. }) => {
                std::thread::sleep(LETTING_GO / LETTING_GO_TRIES)
            }
            outcome => return outcome,
        }
    }
    open()
}

impl Opened {
    fn open(settings: &Settings, doors: &Doors, cores: usize) -> Result<Opened, BootError> {
        let mut opened = Opened::default();
        if doors.are_pipes() {
            return Ok(opened);
        }
        let backlog = settings.serve.backlog.u32();
        for &address in &settings.serve.listen {
            opened.http.push(patiently(|| listen_group(address, cores, backlog))?);
        }
        for &address in &settings.serve.tcp {
            opened.tcp.push(patiently(|| listen_group(address, cores, backlog))?);
        }
        let mode = settings.serve.unix_mode.bits();
        for path in &settings.serve.unix {
            opened.unix.push(patiently(|| UnixListenSocket::bind(path.as_path(), mode, backlog))?);
        }
        Ok(opened)
    }

    fn begin_to_steer(&mut self, table: &BoundaryTable) -> Steering {
        match entropy::word32() {
            Ok(bits) => self.multiplier = Some(Multiplier::from_entropy(bits)),
            Err(error) => return Steering::Refused(std::io::Error::other(error.to_string())),
        }
        match self.steer(table, &[]) {
            Ok(()) => Steering::On,
            Err(error) => {
                self.multiplier = None;
                Steering::Refused(error)
            }
        }
    }

    /// Has connections come to the cores of their shards, but to none of these; nothing where the kernel's own hash
    /// spreads them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn steer(&self, table: &BoundaryTable, avoided: &[CoreId]) -> std::io::Result<()> {
        let Some(multiplier) = self.multiplier else { return Ok(()) };
        let program = SteeringProgram::build_avoiding(table, multiplier, avoided);
        self.http.iter().chain(&self.tcp).try_for_each(|group| group.steer(&program))
    }

    /// One core's listeners, and what is spoken on each. Unix sockets come last: the first core accepts from them for
    /// all (they have no reuseport group), so the others know what is spoken there, but do not listen.
    fn of(&self, core: CoreId) -> (Vec<RawFd>, Vec<Wire>) {
        let mut listeners = Vec::new();
        let mut wires = Vec::new();
        for (groups, wire) in [(&self.http, Wire::Http), (&self.tcp, Wire::Lines)] {
            for group in groups {
                listeners.push(group.fds[core.index()].as_raw_fd());
                wires.push(wire);
            }
        }
        for socket in &self.unix {
            if core.0 == 0 {
                listeners.push(socket.as_fd().as_raw_fd());
            }
            wires.push(Wire::Lines);
        }
        if wires.is_empty() {
            wires.push(Wire::Lines);
        }
        (listeners, wires)
    }
}
