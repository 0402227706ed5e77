//! The executor of a core: glommio's, and nothing of it beyond local tasks. The only module that names glommio.
//!
//! Not here: sockets, timers, sleeping (`uring` carries all of them), or any policy.
//! Invariant: a task that is to run is counted here, so a core that is about to sleep knows whether anything is left to
//! run; a waker may be called from any thread, and a foreign call wakes the core through its eventfd. A core's futures
//! belong to its `Tasks` and go with it: glommio would leak those that have not ended when its executor does.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

/// What wakes a core from another thread.
pub trait Knock: Send + Sync + 'static {
    /// Wakes the core.
    fn knock(&self);
}

/// A future that lives and dies on one core.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Memory for glommio's own io, which carries nothing here: its least.
const GLOMMIO_IO_BYTES: usize = 64 * 1024;
/// Entries of each of glommio's own rings: enough for its housekeeping.
const GLOMMIO_RING_ENTRIES: usize = 8;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The executor could not be made.
    #[error("the executor could not be made: {0}")]
    Executor(String),
    /// What ran panicked.
    #[error("it panicked")]
    Panicked,
}

/// Runs `main` to its end on the calling thread, with local tasks beside it. Pinning is the caller's.
///
/// A panic of `main` is caught inside, where what it leaves can still be dropped in order: a panic that unwinds through
/// glommio leaves its tasks, and what they hold, behind.
///
/// # Errors
/// If glommio's rings cannot be opened, or `main` panicked.
pub fn run<T>(name: &str, main: impl Future<Output = T>) -> Result<T, RunError> {
    let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .name(name)
        .io_memory(GLOMMIO_IO_BYTES)
        .ring_depth(GLOMMIO_RING_ENTRIES)
        .make()
        .map_err(|error| RunError::Executor(error.to_string()))?;
    executor.run(caught(main))
}

/// Runs a future; a panic of it is its outcome. What it borrows is dropped later and by its owner, when nothing unwinds
/// any more: a drop that panics while something unwinds would end the process.
///
/// # Errors
/// If it panicked.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, RunError> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(RunError::Panicked)),
    })
    .await
}

/// Drops something whose drop may panic; the panic hook has told of it then.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// The local tasks of one core, as its loop sees them.
pub struct Tasks {
    shared: Rc<Shared>,
    foreign: Receiver<TaskId>,
}

/// Spawns tasks on the core it belongs to.
#[derive(Clone)]
pub struct Spawner {
    shared: Rc<Shared>,
}

/// A task's slot, and which tenant of the slot it is: a late wake-up must not count for the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskId {
    slot: u32,
    generation: u32,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    /// The future, but while it is being polled.
    future: Option<LocalFuture>,
    /// The executor's own waker.
    waker: Option<Waker>,
    /// It is one of the tasks that are counted as runnable. Not every one that was woken is: what another thread woke
    /// is counted once this thread has heard of it.
    is_counted: bool,
}

struct Shared {
    /// Tasks that were woken and have not run since.
    runnable: Cell<usize>,
    /// Tasks that have not ended.
    alive: Cell<usize>,
    slots: RefCell<Vec<Slot>>,
    vacant: RefCell<Vec<u32>>,
    /// The core has ended: nothing is spawned any more.
    ended: Cell<bool>,
    home: ThreadId,
    sender: Sender<TaskId>,
    bell: Arc<dyn Knock>,
}

thread_local! {
    /// The tasks of the core that runs on this thread, for wakers that are called on it.
    static HERE: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
}

impl Tasks {
    /// For the calling thread; `bell` wakes its core from other threads.
    pub fn new(bell: Arc<dyn Knock>) -> Tasks {
        let (sender, foreign) = channel();
        let shared = Rc::new(Shared {
            runnable: Cell::new(0),
            alive: Cell::new(0),
            slots: RefCell::default(),
            vacant: RefCell::default(),
            ended: Cell::new(false),
            home: std::thread::current().id(),
            sender,
            bell,
        });
        HERE.set(Some(Rc::clone(&shared)));
        Tasks { shared, foreign }
    }

    /// A handle that spawns.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: Rc::clone(&self.shared) }
    }

    /// How many tasks are to run.
    pub fn runnable(&self) -> usize {
        self.shared.runnable.get()
    }

    /// How many tasks have not ended.
    pub fn alive(&self) -> usize {
        self.shared.alive.get()
    }

    /// Wakes the tasks that other threads asked for; to be called when the bell rang.
    pub fn wake_foreign(&self) {
        while let Ok(id) = self.foreign.try_recv() {
            self.shared.wake_here(id);
        }
    }

    /// Runs the tasks that are to run, once round.
    pub async fn run(&self) {
        glommio::executor().yield_task_queue_now().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.ended.set(true);
        let left: Vec<_> =
            self.shared.slots.borrow_mut().iter_mut().map(|slot| (slot.future.take(), slot.waker.take())).collect();
        for (future, waker) in left {
            drop_quietly(future);
            // With its last waker the executor lets go of the task.
            drop(waker);
        }
        // The thread may be gone far enough that its thread-locals are.
        let _ = HERE.try_with(|here| here.take());
    }
}

impl Spawner {
    /// Runs a future until it ends. A panic of it ends it, and nothing else.
    pub fn spawn(&self, future: LocalFuture) {
        let shared = &self.shared;
        if shared.ended.get() {
            return drop_quietly(future);
        }
        let slot = shared.vacant.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = shared.slots.borrow_mut();
            slots.push(Slot::default());
            (slots.len() - 1) as u32
        });
        let generation = {
            let slot = &mut shared.slots.borrow_mut()[slot as usize];
            (slot.future, slot.is_counted) = (Some(future), true);
            slot.generation
        };
        let id = TaskId { slot, generation };
        let state = Arc::new(TaskWaker {
            id,
            queued: AtomicBool::new(true),
            home: shared.home,
            sender: shared.sender.clone(),
            bell: Arc::clone(&shared.bell),
        });
        shared.runnable.set(shared.runnable.get() + 1);
        shared.alive.set(shared.alive.get() + 1);
        let waker = Waker::from(Arc::clone(&state));
        glommio::spawn_local(Task { id, state, waker, shared: Rc::clone(shared) }).detach();
    }
}

impl Shared {
    fn wake_here(&self, id: TaskId) {
        let waker = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
            let Some(slot) = slot else { return };
            let Some(waker) = slot.waker.clone() else { return };
            if !std::mem::replace(&mut slot.is_counted, true) {
                self.runnable.set(self.runnable.get() + 1);
            }
            waker
        };
        waker.wake();
    }

    /// A task runs, or has ended.
    fn discount(&self, slot: &mut Slot) {
        if std::mem::take(&mut slot.is_counted) {
            self.runnable.set(self.runnable.get() - 1);
        }
    }
}

/// What glommio knows of a task.
struct Task {
    id: TaskId,
    state: Arc<TaskWaker>,
    waker: Waker,
    shared: Rc<Shared>,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        let slot = task.id.slot as usize;
        let future = {
            let slot = &mut task.shared.slots.borrow_mut()[slot];
            if !slot.waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                slot.waker = Some(context.waker().clone());
            }
            task.shared.discount(slot);
            slot.future.take()
        };
        // Acquire: what whoever woke it had done is seen.
        task.state.queued.swap(false, Ordering::AcqRel);
        let Some(mut future) = future else { return Poll::Ready(()) };
        let mut inner = Context::from_waker(&task.waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut inner))) {
            Ok(Poll::Pending) => {
                task.shared.slots.borrow_mut()[slot].future = Some(future);
                Poll::Pending
            }
            // A panic is the task's end: the service wraps its handlers, so one that gets here has no call to answer.
            Ok(Poll::Ready(())) | Err(_) => {
                drop_quietly(future);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Nobody wakes it any more.
        self.state.queued.store(true, Ordering::Release);
        let left = {
            let slot = &mut self.shared.slots.borrow_mut()[self.id.slot as usize];
            self.shared.discount(slot);
            slot.generation = slot.generation.wrapping_add(1);
            (slot.future.take(), slot.waker.take())
        };
        self.shared.vacant.borrow_mut().push(self.id.slot);
        self.shared.alive.set(self.shared.alive.get() - 1);
        drop_quietly(left);
    }
}

struct TaskWaker {
    id: TaskId,
    /// Woken since it was polled last.
    queued: AtomicBool,
    home: ThreadId,
    sender: Sender<TaskId>,
    bell: Arc<dyn Knock>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if std::thread::current().id() == self.home {
            let _ = HERE.try_with(|here| {
                if let Some(shared) = here.borrow().as_ref() {
                    shared.wake_here(self.id);
                }
            });
        } else if self.sender.send(self.id).is_ok() {
            // The send fails only if the core is gone, and then there is nobody to wake.
            self.bell.knock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_woken_by_another_thread_runs_and_a_panicking_one_harms_nobody() {
        #[derive(Default)]
        struct Counted(AtomicBool);
        impl Knock for Counted {
            fn knock(&self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let rung = Arc::new(Counted::default());
        let bell = Arc::clone(&rung);
        run("test", async move {
            let tasks = Tasks::new(bell);
            let spawner = tasks.spawner();
            let (send, receive) = tokio::sync::oneshot::channel::<u32>();
            let seen = Rc::new(Cell::new(0));
            let saw = Rc::clone(&seen);
            spawner.spawn(Box::pin(async move { saw.set(receive.await.expect("sent")) }));
            spawner.spawn(Box::pin(async { panic!("a handler's") }));
            // Glommio polls a task when it is spawned.
            assert_eq!((tasks.runnable(), tasks.alive()), (0, 1), "one waits, one is gone");
            std::thread::spawn(move || send.send(7).expect("somebody listens")).join().expect("the thread ends");
            assert_eq!(tasks.runnable(), 0, "a foreign wake-up waits for the bell");
            assert!(rung.0.load(Ordering::SeqCst), "the bell was rung");
            tasks.wake_foreign();
            assert_eq!(tasks.runnable(), 1);
            tasks.run().await;
            assert_eq!((seen.get(), tasks.alive()), (7, 0));
        })
        .expect("glommio works here");
    }

    struct Silent;

    impl Knock for Silent {
        fn knock(&self) {}
    }

    #[test]
    fn a_task_that_ends_as_another_thread_wakes_it_hides_no_other() {
        run("test", async {
            let tasks = Tasks::new(Arc::new(Silent));
            let spawner = tasks.spawner();
            let (parked, ran) = (Rc::new(RefCell::<Option<Waker>>::default()), Rc::new(Cell::new(false)));
            let (place, runs) = (Rc::clone(&parked), Rc::clone(&ran));
            let mut is_parked = false;
            spawner.spawn(Box::pin(async move {
                poll_fn(|context| {
                    if std::mem::replace(&mut is_parked, true) {
                        return Poll::Ready(());
                    }
                    place.replace(Some(context.waker().clone()));
                    Poll::Pending
                })
                .await;
                runs.set(true);
            }));
            spawner.spawn(Box::pin(poll_fn(move |context| {
                let waker = context.waker().clone();
                std::thread::spawn(move || waker.wake()).join().expect("the thread ends");
                parked.take().expect("the other waits").wake();
                Poll::Ready(())
            })));
            assert_eq!((tasks.runnable(), tasks.alive()), (1, 1), "the one that was woken has not run");
            tasks.wake_foreign();
            assert_eq!(tasks.runnable(), 1, "who has ended does not count");
            tasks.run().await;
            assert_eq!((ran.get(), tasks.runnable(), tasks.alive()), (true, 0, 0));
        })
        .expect("glommio works here");
    }

    #[test]
    fn what_waits_when_main_panics_is_dropped_with_it() {
        struct Counted(Rc<Cell<u32>>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
                assert!(self.0.get() != 2, "a drop that panics harms nobody");
            }
        }
        let dropped = Rc::new(Cell::new(0));
        let (counted, shared) = (Rc::clone(&dropped), Cell::new(std::rc::Weak::new()));
        let ended = run("test", async {
            let tasks = Tasks::new(Arc::new(Silent));
            shared.set(Rc::downgrade(&tasks.shared));
            let spawner = tasks.spawner();
            for _ in 0..10 {
                let counted = Counted(Rc::clone(&counted));
                spawner.spawn(Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(counted);
                }));
            }
            assert_eq!(tasks.alive(), 10);
            // As for an alarm: a waker that outlives its task must not keep it.
            tasks.run().await;
            panic!("the loop's");
        });
        assert!(matches!(ended, Err::<(), _>(RunError::Panicked)));
        assert_eq!(dropped.get(), 10);
        assert_eq!(shared.take().strong_count(), 0, "nothing of the core's tasks is left");
    }
}
