//! Real cores with a registry, and a way to have something done on each from the test's thread.
//!
//! Invariant: what is done on a core is done by a local task of that core's thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::rig::{Life, Running, server};
use crate::boot::Registry;
use crate::boot::launch::{Doors, Launch};
use crate::boot::on_core::{Hooks, OnCore};
use crate::config::Config;
use crate::limits::REGISTRY_WRITE_LIMIT_NS_DEFAULT;
use crate::server::registry::Ownership;
use crate::shard::registry::Nanos;
use crate::shard::restarts::Intensity;

type Job = Box<dyn FnOnce(OnCore) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    waker: Option<Waker>,
}

/// Cores that serve, and their registry.
pub struct Cores {
    pub running: Running,
    pub registry: Registry,
    jobs: Vec<Arc<Mutex<Jobs>>>,
}

thread_local! {
    static KEPT: RefCell<BTreeMap<String, Ownership>> = const { RefCell::new(BTreeMap::new()) };
}

/// Keeps an owner alive on the core it was made on, by a name of the test's.
pub fn keep(name: &str, owner: Ownership) {
    KEPT.with_borrow_mut(|kept| kept.insert(name.to_owned(), owner));
}

/// Uses an owner that was kept.
pub fn with_kept<T>(name: &str, then: impl FnOnce(&Ownership) -> T) -> T {
    KEPT.with_borrow(|kept| then(kept.get(name).expect("kept")))
}

/// Lets an owner go.
pub fn let_go(name: &str) {
    let gone = KEPT.with_borrow_mut(|kept| kept.remove(name));
    assert!(gone.is_some(), "{name} was kept");
}

impl Cores {
    pub fn start(cores: usize, shards: usize) -> Cores {
        Cores::start_with(cores, shards, REGISTRY_WRITE_LIMIT_NS_DEFAULT)
    }

    pub fn start_with(cores: usize, shards: usize, write_limit: Nanos) -> Cores {
        Cores::administered(cores, shards, write_limit, "")
    }

    /// With further lines of `[control]`.
    pub fn administered(cores: usize, shards: usize, write_limit: Nanos, control: &str) -> Cores {
        let jobs: Vec<Arc<Mutex<Jobs>>> = (0..cores).map(|_| Arc::default()).collect();
        let on_cores = jobs.clone();
        let each_core = move |core: OnCore| {
            let jobs = Arc::clone(&on_cores[core.id().index()]);
            let spawner = core.clone();
            core.spawn(async move {
                loop {
                    let job = std::future::poll_fn(|context| {
                        let mut jobs = jobs.lock().expect("nobody panics with it");
                        jobs.waker = Some(context.waker().clone());
                        jobs.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
                    });
                    let job = job.await;
                    spawner.spawn(job(spawner.clone()));
                }
            });
        };
        let hooks = Hooks { each_core: Some(Arc::new(each_core)), write_limit: Some(write_limit), ..Hooks::default() };
        let text = format!(
            "[serve]\nlisten = [\"127.0.0.1:0\"]\ndrain_deadline_ms = 2000\n\
             [cores]\nlist = {cores}\nshards = {shards}\npin = false\n[control]\nlisten = \"127.0.0.1:0\"\n{control}\n"
        );
        let config = Config::from_toml("test", &text).unwrap_or_else(|error| panic!("{error}"));
        let launch: Launch<Life> =
            Launch::prepare(server(), config, &Doors::Listeners, hooks, false).expect("this host serves");
        let registry = launch.registry.clone();
        Cores { running: Running::launch(launch, Intensity::CORE), registry, jobs }
    }

    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    /// Has a core do something; what comes of it can be received.
    pub fn begin<T, F>(&self, core: usize, job: impl FnOnce(OnCore) -> F + Send + 'static) -> Receiver<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (send, receive) = channel();
        let job = move |core: OnCore| -> Pin<Box<dyn Future<Output = ()>>> {
            let future = job(core);
            Box::pin(async move {
                // Nobody receives it if the test has failed already.
                let _ = send.send(future.await);
            })
        };
        let mut jobs = self.jobs[core].lock().expect("nobody panics with it");
        jobs.waiting.push_back(Box::new(job));
        if let Some(waker) = jobs.waker.take() {
            waker.wake();
        }
        receive
    }

    /// Has a core do something and waits until it is done.
    pub fn on<T, F>(&self, core: usize, job: impl FnOnce(OnCore) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        received(&self.begin(core, job))
    }

    /// How many entries each core's replica knows.
    pub fn known(&self) -> Vec<usize> {
        (0..self.count()).map(|core| self.on(core, async |core| core.registry().known())).collect()
    }

    pub fn end(self) {
        drop(self.registry);
        self.running.end().expect("it drains");
    }
}

/// What comes of a job, within a deadline that no operation may miss.
pub fn received<T>(job: &Receiver<T>) -> T {
    job.recv_timeout(Duration::from_secs(30)).expect("done in time, and the core lives")
}
