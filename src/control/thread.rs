//! The lives of the control thread: it is started, and again whenever it has died.
//!
//! Not here: what it answers (`http`, `admin`), who looks whether it lives (`boot::supervisor`). Invariant: what must
//! outlast a life is owned by `ControlThread`: listeners, so that whoever connects meanwhile waits and is not refused;
//! what is shown; which signal was heard. A life begins after the thread of the one before was joined.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use super::http::{self, Shown};
use super::listener::{BoundedListener, Bounds};
use super::local::LocalListener;
use super::signals::{Signals, Stop, WatchedFile};
use super::{Administration, Beside, ControlError, Health, limits, rates, zones};
use crate::config::ControlSettings;
use crate::metrics::Registry;
use crate::sys::affinity;
use crate::sys::cpu::CpuSet;
use crate::sys::socket::UnixListenSocket;

/// The name of the thread; the kernel shows the first 15 bytes of it.
const THREAD_NAME: &str = "corelane-control";
/// How long answers in flight may take once the thread is to end.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// Supervisors and scrapers need a handful of connections, and connect again.
pub(super) const BOUNDS: Bounds =
    Bounds { connections_max: 64, idle: Duration::from_secs(5), lifetime: Duration::from_secs(60) };

/// The control thread, and what it is started from. Dropping it ends the thread without waiting.
pub struct ControlThread {
    origin: Arc<Origin>,
    life: Option<Life>,
}

/// One life.
struct Life {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What every life has in common.
struct Origin {
    /// None in a process that serves one client and has no address.
    public: Option<Public>,
    file: Option<WatchedFile>,
    beside: Option<Beside>,
    health: Health,
    cpus: CpuSet,
    on_signal: Box<dyn Fn(Stop) + Send + Sync>,
    is_heard: Arc<AtomicBool>,
}

/// What is listened on, and what is answered there.
struct Public {
    listener: TcpListener,
    address: SocketAddr,
    socket: Option<UnixListenSocket>,
    shown: Arc<Shown>,
}

/// The listeners of one life.
struct Doors {
    tcp: tokio::net::TcpListener,
    local: Option<LocalListener>,
    shown: Arc<Shown>,
}

impl std::fmt::Debug for ControlThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlThread").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl ControlThread {
    /// Starts the thread. When this returns, its address accepts and signals are handled.
    ///
    /// It runs on `cpus`; where the kernel refuses that it says so in the log and runs where it is. `beside` runs on it
    /// as well.
    ///
    /// On the first signal `health` begins to drain, so `/readyz` fails at once, and then `on_signal` is called; it is
    /// called on the control thread and must not block.
    ///
    /// # Errors
    /// If the address cannot be listened on, or the thread cannot be made.
    pub fn start(
        settings: ControlSettings,
        registry: Arc<Registry>,
        health: Health,
        administration: Administration,
        beside: Option<Beside>,
        cpus: CpuSet,
        on_signal: impl Fn(Stop) + Send + Sync + 'static,
    ) -> Result<ControlThread, ControlError> {
        let bind_error = |source| ControlError::Bind { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).map_err(bind_error)?;
        listener.set_nonblocking(true).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let Administration { desk, socket, reload, pins, servers, zones, limits } = administration;
        let now = Instant::now();
        let shown = Arc::new(Shown {
            registry,
            rates: rates::Rates::default(),
            zones: zones::Watched::new(&zones, now),
            limits: limits::Limits::new(&limits, now),
            health: health.clone(),
            hosts: settings.allowed_hosts.alone(),
            desk,
            reload: reload.as_ref().map(|(_, reload)| Arc::clone(reload)),
            pins,
            servers,
        });
        let public = Some(Public { listener, address, socket, shown });
        let file = reload.map(|(path, reload)| WatchedFile::new(path, reload));
        let (on_signal, is_heard) = (Box::new(on_signal), Arc::default());
        ControlThread::begin(Origin { public, file, beside, health, cpus, on_signal, is_heard })
    }

    /// Starts one that only hears signals and runs what is beside, for a process that serves one client and has no
    /// address. The rest is as for `start`.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn for_signals(
        health: Health,
        beside: Beside,
        cpus: CpuSet,
        on_signal: impl Fn(Stop) + Send + Sync + 'static,
    ) -> Result<ControlThread, ControlError> {
        let (on_signal, is_heard) = (Box::new(on_signal), Arc::default());
        let beside = Some(beside);
        ControlThread::begin(Origin { public: None, file: None, beside, health, cpus, on_signal, is_heard })
    }

    fn begin(origin: Origin) -> Result<ControlThread, ControlError> {
        let origin = Arc::new(origin);
        let life = origin.start().map_err(ControlError::Start)?;
        Ok(ControlThread { origin, life: Some(life) })
    }

    /// The address it listens on, if it has one, with the port the kernel chose if 0 was configured.
    pub fn address(&self) -> Option<SocketAddr> {
        self.origin.public.as_ref().map(|public| public.address)
    }

    /// Whether the thread has ended by itself, which is a bug of ours.
    pub fn is_dead(&self) -> bool {
        self.life.as_ref().is_none_or(|life| life.thread.is_finished())
    }

    /// Starts the thread anew, after its death.
    ///
    /// # Errors
    /// If the thread cannot be made; then it stays dead.
    pub fn restart(&mut self) -> Result<(), ControlError> {
        if let Some(dead) = self.life.take() {
            // Its panic was printed by the panic hook.
            let _ = dead.thread.join();
        }
        self.life = Some(self.origin.start().map_err(ControlError::Start)?);
        Ok(())
    }

    /// Ends the thread and waits for it, a quarter of a second at most for answers in flight.
    ///
    /// # Errors
    /// What the thread panicked with, if it did.
    pub fn stop(self) -> thread::Result<()> {
        let Some(life) = self.life else { return Ok(()) };
        // An error means that the thread has ended already, which `join` tells better.
        let _ = life.stop.send(());
        life.thread.join()
    }
}

impl Origin {
    fn start(self: &Arc<Origin>) -> io::Result<Life> {
        let runtime = runtime()?;
        let (signals, doors) = {
            let _inside = runtime.enter();
            (Signals::new(Arc::clone(&self.is_heard))?, self.public.as_ref().map(Public::open).transpose()?)
        };
        let (stop, stopped) = oneshot::channel();
        let origin = Arc::clone(self);
        let body = move || {
            if let Err(error) = affinity::pin_current_thread(&origin.cpus) {
                tracing::warn!("the control thread runs where the cores are: {error}");
            }
            let live = AssertUnwindSafe(|| runtime.block_on(origin.live(signals, doors, stopped)));
            let ended = catch_unwind(live);
            // A thread that looks up a name may take as long as name servers do: nobody waits for that any more.
            runtime.shutdown_background();
            if let Err(panic) = ended {
                resume_unwind(panic);
            }
        };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(body)?;
        Ok(Life { stop, thread })
    }

    /// Does all that the thread does, until it is to stop; panics with whatever part of it panics.
    async fn live(&self, signals: Signals, doors: Option<Doors>, stopped: oneshot::Receiver<()>) {
        let mut parts = JoinSet::new();
        if let Some(beside) = &self.beside {
            parts.spawn(beside());
        }
        let (end, ended) = oneshot::channel::<()>();
        let mut server = tokio::spawn(serve(doors, ended, &mut parts));
        let reload = self.file.as_ref().map(|file| Arc::clone(&file.reload));
        let file = async {
            match &self.file {
                Some(file) => file.watch().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.watch(&self.health, reload, &self.on_signal) => {}
            () = file => {}
            () = until_one_panics(&mut parts) => {}
            ended = &mut server => carry_on(ended),
            _ = stopped => {}
        }
        drop(end);
        let _ = tokio::time::timeout(STOP_GRACE, server).await;
    }
}

/// Answers whoever connects, until `ended`; what else the thread does for that becomes one of its parts. Without doors
/// nothing comes, and it never ends.
fn serve(
    doors: Option<Doors>,
    ended: oneshot::Receiver<()>,
    parts: &mut JoinSet<()>,
) -> impl Future<Output = ()> + use<> {
    let listener = doors.map(|Doors { tcp, local, shown }| {
        parts.spawn(rates::watch(Arc::clone(&shown)));
        parts.spawn(zones::watch(Arc::clone(&shown)));
        // Ends with the runtime: who administers waits for nothing that is in flight.
        if let Some(local) = local {
            let routes = http::local_routes(Arc::clone(&shown));
            // It has no end.
            parts.spawn(async { drop(axum::serve(local, routes).await) });
        }
        (BoundedListener::new(tcp, BOUNDS), http::routes(shown))
    });
    async move {
        let ended = async { drop(ended.await) };
        match listener {
            Some((tcp, routes)) => drop(axum::serve(tcp, routes).with_graceful_shutdown(ended).await),
            None => ended.await,
        }
    }
}

impl Public {
    fn open(&self) -> io::Result<Doors> {
        let tcp = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let local = self.socket.as_ref().map(LocalListener::new).transpose()?;
        Ok(Doors { tcp, local, shown: Arc::clone(&self.shown) })
    }
}

/// Waits for ever, unless one of the tasks panics: then with its panic. For what a part of a thread must not lose.
pub async fn until_one_panics(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        carry_on(ended);
    }
    std::future::pending().await
}

/// Panics as the task did, if it did; the panic hook has printed it.
fn carry_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

fn runtime() -> io::Result<Runtime> {
    // What listens for signals panics if its files cannot be opened, so there has to be room for them.
    let room = (UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?);
    drop(room);
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
