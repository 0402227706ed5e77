//! The control thread: health, metrics, and the signals that end the process.
//!
//! Carries no message of a client, and no core ever waits for it. Invariant: it reads what cores publish in atomics, so
//! it answers truthfully also when a core has stalled.

mod admin;
mod condition;
mod health;
mod http;
mod listener;
mod local;
pub mod log;
mod pins;
mod rates;
mod servers;
mod transports;
mod zones;

pub use admin::{Desk, DeskCell, Reload};
pub use condition::{Condition, Unmet};
pub use health::{CoreState, Health};
pub use pins::{Approved, Definition, Difference, NotApproved, PinDesk, Standing};
pub use servers::{NotRegistered, Registered, ServerDesk};
pub use transports::{NotChanged, Sent, TransportShown, Written, tag_of_name};

use crate::config::{ControlSettings, ZoneSettings};
use crate::metrics::Registry;
use crate::sys::affinity;
use crate::sys::cpu::CpuSet;
use crate::sys::socket::UnixListenSocket;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The name of the thread; the kernel shows the first 15 bytes of it.
const THREAD_NAME: &str = "corelane-control";
/// How often the configuration file is looked at.
const FILE_LOOK: Duration = Duration::from_millis(500);
/// How long answers in flight may take once the thread is to end.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// Supervisors and scrapers need a handful of connections, and connect again.
const BOUNDS: listener::Bounds =
    listener::Bounds { connections_max: 64, idle: Duration::from_secs(5), lifetime: Duration::from_secs(60) };

/// What an operator's signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// First SIGINT, SIGTERM or SIGHUP (the terminal is gone): finish what is in flight, take nothing new, then end.
    Drain,
    /// Any further one: end at once. The callback is expected to exit the process itself, because whoever would hear
    /// of it elsewhere may be what hangs.
    Now,
}

/// Why the control thread could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address could not be listened on.
    #[error(
        "control.listen: cannot listen on {address}: {source}; choose another address, by --control, by CORELANE_CONTROL_LISTEN or below [control] in the file, or end what uses it"
    )]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread, its runtime or its signal handlers could not be made.
    #[error("the control thread cannot start: {0}")]
    Start(#[source] io::Error),
}

/// What administration shows and reaches beyond the metrics.
#[derive(Default)]
pub struct Administration {
    /// The registry, once the cores are there.
    pub desk: DeskCell,
    /// Where changes are taken.
    pub socket: Option<UnixListenSocket>,
    /// Reads this file again, on SIGHUP and when it is another.
    pub reload: Option<(PathBuf, Reload)>,
    /// Keeps what is pinned of servers' tools.
    pub pins: Option<Arc<dyn PinDesk>>,
    /// Registers servers with the gateway.
    pub servers: Option<Arc<dyn ServerDesk>>,
    /// What the control thread runs besides.
    pub beside: Option<Beside>,
    /// From where on a reading is in which zone.
    pub zones: ZoneInputs,
}

/// What zones are made from.
#[derive(Clone, Copy, Default, Debug)]
pub struct ZoneInputs {
    /// Thresholds and times.
    pub settings: ZoneSettings,
    /// Connections that all cores may have open.
    pub connections_max: u64,
}

/// Something that the control thread runs besides, for as long as it lives. It must not block.
pub type Beside = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The running control thread. Dropping it ends the thread without waiting.
#[derive(Debug)]
pub struct ControlHandle {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlHandle {
    /// The address it listens on, with the port the kernel chose if 0 was configured.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the thread has ended by itself, which is a bug of ours.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the thread and waits for it, a quarter of a second at most for answers in flight.
    ///
    /// # Errors
    /// What the thread panicked with, if it did.
    pub fn stop(self) -> thread::Result<()> {
        // An error means that the thread has ended already, which `join` tells better.
        let _ = self.stop.send(());
        self.thread.join()
    }
}

/// The running thread of a process that hears signals and has no control address. Dropping it ends the thread without
/// waiting.
#[derive(Debug)]
pub struct SignalHandle {
    _stop: oneshot::Sender<()>,
}

/// Starts a control thread that only hears signals, for a process that serves one client and has no address. When this
/// returns, signals are handled; `cpus`, `health` and `on_signal` are as for `spawn`.
pub fn spawn_for_signals(
    health: Health,
    beside: Beside,
    cpus: CpuSet,
    on_signal: impl FnMut(Stop) + Send + 'static,
) -> Result<SignalHandle, ControlError> {
    let runtime = runtime().map_err(ControlError::Start)?;
    let signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(ControlError::Start)?
    };
    let (stop, stopped) = oneshot::channel();
    let body = move || {
        run_beside_the_cores(&cpus);
        runtime.block_on(async {
            tokio::spawn(beside);
            tokio::select! {
                () = signals.watch(&health, None, on_signal) => {}
                _ = stopped => {}
            }
        });
    };
    thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(body).map_err(ControlError::Start)?;
    Ok(SignalHandle { _stop: stop })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    // What listens for signals panics if its files cannot be opened, so there has to be room for them.
    let room = (UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?);
    drop(room);
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run_beside_the_cores(cpus: &CpuSet) {
    if let Err(error) = affinity::pin_current_thread(cpus) {
        tracing::warn!("the control thread runs where the cores are: {error}");
    }
}

/// Starts the control thread. When this returns, its address accepts and signals are handled.
///
/// It runs on `cpus`; where the kernel refuses that it says so in the log and runs where it is.
///
/// On the first signal `health` begins to drain, so `/readyz` fails at once, and then `on_signal` is called; it is
/// called on the control thread and must not block.
pub fn spawn(
    settings: ControlSettings,
    registry: Arc<Registry>,
    health: Health,
    administration: Administration,
    cpus: CpuSet,
    on_signal: impl FnMut(Stop) + Send + 'static,
) -> Result<ControlHandle, ControlError> {
    let bind_error = |source| ControlError::Bind { address: settings.listen, source };
    let listener = std::net::TcpListener::bind(settings.listen).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let runtime = runtime().map_err(ControlError::Start)?;
    let (listener, signals) = {
        let _inside = runtime.enter();
        (tokio::net::TcpListener::from_std(listener).map_err(bind_error)?, Signals::new().map_err(ControlError::Start)?)
    };
    let hosts = settings.allowed_hosts.alone();
    let Administration { desk, socket, reload, pins, servers, beside, zones } = administration;
    let again = reload.as_ref().map(|(_, reload)| Arc::clone(reload));
    let rates = rates::Rates::default();
    let zones = zones::Watched::new(&zones, Instant::now());
    let health_shown = health.clone();
    let shown = http::Shown { registry, rates, zones, health: health_shown, hosts, desk, reload: again, pins, servers };
    let shown = Arc::new(shown);
    let routes = http::routes(Arc::clone(&shown));
    let local = {
        let _inside = runtime.enter();
        socket.map(local::LocalListener::new).transpose().map_err(ControlError::Start)?
    };
    let (stop, stopped) = oneshot::channel();
    let body = move || {
        run_beside_the_cores(&cpus);
        let listener = listener::BoundedListener::new(listener, BOUNDS);
        let (end, ended) = oneshot::channel::<()>();
        runtime.block_on(async {
            beside.map(tokio::spawn);
            tokio::spawn(rates::watch(Arc::clone(&shown)));
            tokio::spawn(zones::watch(Arc::clone(&shown)));
            let ended = async { drop(ended.await) };
            let server = tokio::spawn(async { axum::serve(listener, routes).with_graceful_shutdown(ended).await });
            // Ends with the runtime: who administers waits for nothing that is in flight.
            let _local = local.map(|local| {
                let routes = http::local_routes(shown);
                tokio::spawn(async { axum::serve(local, routes).await })
            });
            let again = reload.as_ref().map(|(_, reload)| Arc::clone(reload));
            tokio::select! {
                () = signals.watch(&health, again, on_signal) => {}
                () = watch_file(reload) => {}
                _ = stopped => {}
            }
            drop(end);
            let _ = tokio::time::timeout(STOP_GRACE, server).await;
        });
        // A thread that looks up a name may take as long as name servers do: nobody waits for that any more.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(body).map_err(ControlError::Start)?;
    Ok(ControlHandle { address, stop, thread })
}

/// Reads the configuration again, and says what came of it.
async fn read_again(why: &str, reload: &Reload) {
    let reload = Arc::clone(reload);
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(changed)) => tracing::info!("{why}: the configuration was read again: {changed}"),
        Ok(Err(wrong)) => tracing::error!("{why}: the configuration stays as it was: {wrong}"),
        // Its panic was printed by the panic hook.
        Err(_) => tracing::error!("{why}: the configuration stays as it was"),
    }
}

/// Reads the file again whenever it is another; never ends.
async fn watch_file(reload: Option<(PathBuf, Reload)>) {
    let Some((path, reload)) = reload else { return std::future::pending().await };
    let mark = || {
        let found = std::fs::metadata(&path).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    let mut known = mark();
    let mut seen = known;
    loop {
        tokio::time::sleep(FILE_LOOK).await;
        let now = mark();
        // Read once it has stayed the same for a look: an editor may be in the midst of writing it.
        if now.is_some() && now == seen && now != known {
            known = now;
            read_again("the file is another", &reload).await;
        }
        seen = now;
    }
}

/// The signals that end the process.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Turns signals into calls, for as long as it is polled.
    async fn watch(mut self, health: &Health, reload: Option<Reload>, mut on_signal: impl FnMut(Stop)) {
        let mut stop = Stop::Drain;
        loop {
            let name = tokio::select! {
                _ = self.hangup.recv() => match &reload {
                    Some(reload) => {
                        // Beside this loop: a signal that ends the process is heard while names are looked up.
                        let reload = Arc::clone(reload);
                        tokio::spawn(async move { read_again("SIGHUP", &reload).await });
                        continue;
                    }
                    None => "SIGHUP",
                },
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            };
            match stop {
                Stop::Drain => tracing::info!(signal = name, "draining; a second signal ends at once"),
                Stop::Now => tracing::warn!(signal = name, "ending at once"),
            }
            health.begin_drain();
            on_signal(stop);
            stop = Stop::Now;
        }
    }
}

#[cfg(test)]
mod tests;
