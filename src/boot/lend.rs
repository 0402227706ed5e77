//! What a core lends to the handlers of its service, and the pool for what may not run on a core.
//!
//! Not here: handlers. Invariant: the pool's threads start with the first handler that asks for them.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::ids::CoreId;
use crate::limits::OFFLOAD_JOBS_MAX;
use crate::metrics::CoreMetrics;
use crate::runtime::Spawner;
use crate::server::alarms::{Alarm, Alarms};
use crate::server::drive::Clock;
use crate::server::service::{Host, LocalFuture, Nanos, Patience};
use crate::shard::seal::{Purpose, Sealer};
use crate::sys::affinity;
use crate::sys::cpu::CpuSet;

/// A small tokio runtime for futures that need tokio's reactor, and threads that may block.
pub(super) struct OffloadPool {
    threads: usize,
    blocking_threads: usize,
    cpus: CpuSet,
    runtime: OnceLock<Option<tokio::runtime::Runtime>>,
    /// Jobs that wait or run. Tokio's queues have no bound, and a call that is given up takes nothing out of them.
    jobs: Arc<AtomicUsize>,
}

/// A job's place in the pool, for as long as it waits or runs.
struct Job(Arc<AtomicUsize>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OffloadPool {
    pub fn new(threads: usize, blocking_threads: usize, cpus: CpuSet) -> OffloadPool {
        OffloadPool { threads, blocking_threads, cpus, runtime: OnceLock::new(), jobs: Arc::default() }
    }

    /// A place for one more job, if there is any.
    fn take_in(&self) -> Option<Job> {
        let job = Job(Arc::clone(&self.jobs));
        (self.jobs.fetch_add(1, Ordering::Relaxed) < OFFLOAD_JOBS_MAX).then_some(job)
    }

    /// The runtime, made on first use; `None` if the host has no threads left.
    fn runtime(&self) -> Option<&tokio::runtime::Runtime> {
        let make = || {
            let cpus = self.cpus.clone();
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(self.threads)
                .max_blocking_threads(self.blocking_threads)
                .thread_name("corelane-offload")
                .enable_all()
                .on_thread_start(move || {
                    // A core made this thread, so it inherited the core's CPU. If it cannot leave it, it still works.
                    let _ = affinity::pin_current_thread(&cpus);
                })
                .build()
                .inspect_err(|error| tracing::error!("the offload pool cannot start: {error}"))
                .ok()
        };
        self.runtime.get_or_init(make).as_ref()
    }

    /// Ends the pool's threads without waiting for what runs on them.
    pub fn end(&mut self) {
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for OffloadPool {
    fn drop(&mut self) {
        self.end();
    }
}

/// Which start of the process, and which life of the core in it: the ids of tasks begin anew with each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub boot: u64,
    pub incarnation: u32,
}

/// One core's loan.
pub(super) struct Lent {
    core: CoreId,
    life: Life,
    spawner: Spawner,
    alarms: Alarms,
    clock: Clock,
    sealer: RefCell<Sealer>,
    offload: Arc<OffloadPool>,
    metrics: &'static CoreMetrics,
    patience: Patience,
}

impl Lent {
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own that a core has")]
    pub fn new(
        core: CoreId,
        life: Life,
        spawner: Spawner,
        alarms: Alarms,
        clock: Clock,
        sealer: Sealer,
        offload: Arc<OffloadPool>,
        metrics: &'static CoreMetrics,
        patience: Patience,
    ) -> Lent {
        Lent { core, life, spawner, alarms, clock, sealer: RefCell::new(sealer), offload, metrics, patience }
    }
}

impl Host for Lent {
    fn patience(&self) -> Patience {
        self.patience
    }

    fn spawn(&self, future: LocalFuture<()>) {
        self.spawner.spawn(future);
    }

    fn now(&self) -> Nanos {
        self.clock.nanos()
    }

    fn wake_at(&self, deadline: Nanos, waker: Waker) -> Alarm {
        self.alarms.set(deadline, waker)
    }

    fn offload(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if let (Some(runtime), Some(job)) = (self.offload.runtime(), self.offload.take_in()) {
            runtime.spawn(async move {
                let _job = job;
                future.await;
            });
        }
    }

    fn blocking(&self, function: Box<dyn FnOnce() + Send>) {
        if let (Some(runtime), Some(job)) = (self.offload.runtime(), self.offload.take_in()) {
            runtime.spawn_blocking(move || {
                let _job = job;
                function();
            });
        }
    }

    fn count_panic(&self) {
        self.metrics.handler_panics.add(1);
    }

    fn count_slow_poll(&self) {
        self.metrics.slow_polls.add(1);
    }

    fn seal(&self, plain: &[u8]) -> String {
        self.sealer.borrow_mut().seal(Purpose::State, plain)
    }

    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        self.sealer.borrow().open(Purpose::State, sealed.as_bytes())
    }

    fn task_id(&self, index: u32, generation: u32) -> String {
        let plain = [&self.whose()[..], &index.to_le_bytes(), &generation.to_le_bytes()].concat();
        self.sealer.borrow_mut().seal(Purpose::Task, &plain)
    }

    fn open_task_id(&self, id: &str) -> Option<(u32, u32)> {
        let plain = self.sealer.borrow().open(Purpose::Task, id.as_bytes())?;
        let key: [u8; 8] = plain.strip_prefix(&self.whose())?.try_into().ok()?;
        let [i0, i1, i2, i3, g0, g1, g2, g3] = key;
        Some((u32::from_le_bytes([i0, i1, i2, i3]), u32::from_le_bytes([g0, g1, g2, g3])))
    }
}

impl Lent {
    /// What a task's id begins with. The core is first: any core can read it.
    fn whose(&self) -> [u8; 14] {
        let mut whose = [0; 14];
        whose[..2].copy_from_slice(&self.core.0.to_le_bytes());
        whose[2..10].copy_from_slice(&self.life.boot.to_le_bytes());
        whose[10..].copy_from_slice(&self.life.incarnation.to_le_bytes());
        whose
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Knock, Tasks};

    #[test]
    fn a_tasks_id_is_good_for_the_life_it_was_made_in() {
        struct Silent;
        impl Knock for Silent {
            fn knock(&self) {}
        }
        let tasks = Tasks::new(Arc::new(Silent));
        let pool = Arc::new(OffloadPool::new(1, 1, CpuSet::default()));
        let lent = |boot, incarnation| {
            let sealer = Sealer::new(&[1; 32], [incarnation as u8; 12]);
            let life = Life { boot, incarnation };
            let (alarms, clock, pool) = (Alarms::default(), Clock::start(), Arc::clone(&pool));
            let metrics = Box::leak(Box::default());
            Lent::new(CoreId(1), life, tasks.spawner(), alarms, clock, sealer, pool, metrics, Patience::default())
        };
        let id = lent(7, 1).task_id(2, 3);
        assert_eq!(lent(7, 1).open_task_id(&id), Some((2, 3)));
        assert_eq!(lent(7, 2).open_task_id(&id), None, "the core's next life");
        assert_eq!(lent(8, 1).open_task_id(&id), None, "the process's next start");
    }
}
