//! What a simulated core lends to its handlers: tasks that run when the core runs them, alarms, seals.
//!
//! Not here: threads, tokio. Nothing that is simulated is offloaded.
//! Invariant: a task is polled when it is spawned and when it was woken, and by nobody but its core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use corelane::server::alarms::{Alarm, Alarms};
use corelane::server::service::{Host, LocalFuture, Nanos};

type Woken = Arc<Mutex<VecDeque<Arc<Flag>>>>;

struct Flag {
    index: usize,
    is_queued: AtomicBool,
    woken: Woken,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            let flag = Arc::clone(&self);
            self.woken.lock().expect("nobody panics with it").push_back(flag);
        }
    }
}

struct Task {
    flag: Arc<Flag>,
    future: Option<LocalFuture<()>>,
}

/// See the module.
pub struct Executor {
    now: Cell<Nanos>,
    pub alarms: Alarms,
    tasks: RefCell<Vec<Option<Task>>>,
    vacant: RefCell<Vec<usize>>,
    woken: Woken,
    /// Handlers that panicked.
    pub panics: Cell<u64>,
}

impl Executor {
    /// Without tasks.
    pub fn new(now: Nanos) -> Executor {
        Executor {
            now: Cell::new(now),
            alarms: Alarms::default(),
            tasks: RefCell::default(),
            vacant: RefCell::default(),
            woken: Woken::default(),
            panics: Cell::new(0),
        }
    }

    /// The core's turn has this time.
    pub fn set_now(&self, now: Nanos) {
        self.now.set(now);
    }

    /// How many tasks are to run.
    pub fn runnable(&self) -> usize {
        self.woken.lock().expect("nobody panics with it").len()
    }

    /// How many have not ended.
    pub fn alive(&self) -> usize {
        self.tasks.borrow().iter().flatten().count()
    }

    /// Runs the tasks that are to run, once round.
    pub fn run(&self) {
        for _ in 0..self.runnable() {
            let Some(flag) = self.woken.lock().expect("nobody panics with it").pop_front() else { return };
            self.poll(&flag);
        }
    }

    fn poll(&self, flag: &Arc<Flag>) {
        let index = flag.index;
        let mut future = {
            let mut tasks = self.tasks.borrow_mut();
            // A waker may outlive its task, whose place has another then.
            let Some(task) = tasks[index].as_mut().filter(|task| Arc::ptr_eq(&task.flag, flag)) else { return };
            let Some(future) = task.future.take() else { return };
            future
        };
        flag.is_queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(flag));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            if let Some(task) = &mut self.tasks.borrow_mut()[index] {
                task.future = Some(future);
            }
        } else {
            self.tasks.borrow_mut()[index] = None;
            self.vacant.borrow_mut().push(index);
        }
    }

    /// Drops what is left, as a core does that ends.
    pub fn end(&self) {
        let left = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(left);
        self.woken.lock().expect("nobody panics with it").clear();
    }
}

impl Host for Executor {
    fn spawn(&self, future: LocalFuture<()>) {
        let index = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            let mut tasks = self.tasks.borrow_mut();
            tasks.push(None);
            tasks.len() - 1
        });
        let flag = Arc::new(Flag { index, is_queued: AtomicBool::new(true), woken: Arc::clone(&self.woken) });
        self.tasks.borrow_mut()[index] = Some(Task { flag: Arc::clone(&flag), future: Some(future) });
        // As glommio does, so that a borrow that is held across it is found.
        self.poll(&flag);
    }

    fn now(&self) -> Nanos {
        self.now.get()
    }

    fn wake_at(&self, deadline: Nanos, waker: Waker) -> Alarm {
        self.alarms.set(deadline, waker)
    }

    fn offload(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}

    fn blocking(&self, _: Box<dyn FnOnce() + Send>) {}

    fn count_panic(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    fn count_slow_poll(&self) {}

    fn seal(&self, _: &[u8]) -> String {
        String::new()
    }

    fn open(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn task_id(&self, _: u32, _: u32) -> String {
        String::new()
    }

    fn open_task_id(&self, _: &str) -> Option<(u32, u32)> {
        None
    }
}
