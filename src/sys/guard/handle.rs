//! The guard as the rest of corelane sees it: forked early, attended by a thread, spoken to from any.
//!
//! Not here: the guard's process (`broker`). Invariant: whoever spawns a child is told exactly once that it has started
//! or failed, and of one that has started exactly once that it has ended, whatever becomes of the guard; no child's
//! life depends on the thread that asked for it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::broker;
use super::command::CommandSpec;
use super::link::{Heard, Link};
use super::message::{Answer, Request};
use super::process::{self, ForkError, Forked, Interest, Pid, Watch};
use super::spawn_error::{Named, SpawnError};
use super::{ENDING_TIME, LATENESS};
use crate::sys::affinity;
use crate::sys::cpu::CpuSet;
use crate::sys::eventfd::EventFd;

/// The name of the thread.
const THREAD_NAME: &str = "corelane-link";

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The kernel refused a process.
    #[error("the guard process cannot be forked: {0}; raise the limit of processes (TasksMax=, ulimit -u)")]
    Fork(#[source] io::Error),
    /// There is no /proc, by which the guard finds who is to end.
    #[error("the guard process needs /proc to find what children leave behind, and cannot read it: {0}; mount it")]
    Proc(#[source] io::Error),
    /// It ended as soon as it began.
    #[error(
        "the guard process cannot do its work: {0}; it needs pidfd_open(2), signalfd(2), close_range(2) and \
         PR_SET_CHILD_SUBREAPER, so let them pass if a seccomp filter is in force"
    )]
    Setup(#[source] io::Error),
    /// No descriptors.
    #[error("the guard process cannot be spoken to: {0}; raise `ulimit -n`, or LimitNOFILE= in the unit")]
    Socket(#[source] io::Error),
    /// There are threads already.
    #[error(
        "servers over standard input and output need a guard process, which must be forked while there is one thread, \
         and there are {threads}; call `Server::serve` before anything starts threads, such as an async runtime"
    )]
    Threads {
        /// So many.
        threads: usize,
    },
}

/// A guard that was forked. Dropped, it ends, and this waits for that.
#[derive(Debug)]
pub struct Guard {
    link: Link,
    pid: Pid,
}

impl Guard {
    /// Forks it. To be called while this process has one thread; from then on it has a child that it did not execute,
    /// in a session of its own. To whoever waits for any child it is one more.
    ///
    /// # Errors
    /// Typically [`GuardError::Threads`].
    pub fn fork() -> Result<Guard, GuardError> {
        let (link, guards_link) = Link::pair().map_err(GuardError::Socket)?;
        let corelane = process::own_pid();
        match process::fork() {
            Ok(Forked::Child) => process::end_with(move || broker::run(guards_link, corelane)),
            Ok(Forked::Parent(pid)) => {
                // Its end is the guard's alone, so that its death is heard.
                drop(guards_link);
                Guard { link, pid }.settled()
            }
            Err(ForkError::Kernel(error)) => Err(GuardError::Fork(error)),
            Err(ForkError::Proc(error)) => Err(GuardError::Proc(error)),
            Err(ForkError::Threads(threads)) => Err(GuardError::Threads { threads }),
        }
    }

    /// Waits until it has said that it is there.
    fn settled(self) -> Result<Guard, GuardError> {
        let mut watch = Watch::default();
        loop {
            watch.clear();
            watch.add(self.link.as_fd(), Interest::Read);
            watch.wait(None);
            let message = match self.link.hear() {
                Heard::Nothing => continue,
                Heard::End => Vec::new(),
                Heard::Message(message, _) => message,
            };
            return match Answer::decode(&message) {
                Some(Answer::Started { .. }) => Ok(self),
                Some(Answer::Failed { failure, .. }) => {
                    Err(GuardError::Setup(io::Error::from_raw_os_error(failure.errno)))
                }
                _ => Err(GuardError::Setup(io::ErrorKind::UnexpectedEof.into())),
            };
        }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Starts the thread that speaks to it, on these CPUs, or on those of the current thread.
    ///
    /// # Errors
    /// When there are no descriptors or no threads left; the guard has ended then.
    pub fn attend(self, cpus: Option<CpuSet>) -> io::Result<AttendedGuard> {
        let pid = self.pid();
        let asked = Arc::new(Asked { wishes: Mutex::new(Some(Wishes::default())), bell: EventFd::new()? });
        let link = Attendant { guard: self, asked: Arc::clone(&asked), told: HashMap::new(), late_at: None };
        let body = move || {
            if let Some(Err(error)) = cpus.map(|cpus| affinity::pin_current_thread(&cpus)) {
                tracing::warn!("the guard's link runs where the cores are: {error}");
            }
            link.attend();
        };
        let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(body)?;
        Ok(AttendedGuard { handle: GuardHandle { asked }, pid, thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.link.finish();
        // Whoever waits for any child may have been faster.
        process::wait_for(self.pid);
    }
}

/// A guard that can be spoken to. It belongs to who outlives all users of its handles. Dropped, it ends, with all
/// children, but this does not wait for that.
#[derive(Debug)]
pub struct AttendedGuard {
    handle: GuardHandle,
    pid: u32,
    thread: Option<JoinHandle<()>>,
}

impl AttendedGuard {
    /// Speaks to it.
    pub fn handle(&self) -> GuardHandle {
        self.handle.clone()
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it and waits until nothing is left: children that still run have [`CLOSING_GRACE`](super::CLOSING_GRACE).
    /// Each of their owners is told before this returns, which it does within half a minute, whatever hangs.
    pub fn end(mut self) {
        self.handle.asked.wish(|wishes| wishes.end = true);
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, was printed by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for AttendedGuard {
    fn drop(&mut self) {
        self.handle.asked.wish(|wishes| wishes.end = true);
    }
}

/// A child, as long as its guard lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChildId(u64);

/// A child that has started. Its pipes block, and are closed when a program is executed.
#[derive(Debug)]
pub struct Child {
    /// What the guard calls it.
    pub id: ChildId,
    /// Its process's number, which it has until [`ChildNews::Ended`].
    pub pid: u32,
    /// Where its input is written.
    pub stdin: OwnedFd,
    /// Where its output is read.
    pub stdout: OwnedFd,
    /// Where its errors are read.
    pub stderr: OwnedFd,
}

/// What is told of a child.
#[derive(Debug)]
pub enum ChildNews {
    /// It runs. Later it ends.
    Started(Child),
    /// It does not, and nothing more is told of it.
    Failed(SpawnError),
    /// It has ended, whether asked to or not, and nothing that it started is left. The last that is told of it.
    Ended(Ending),
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// By itself or by a signal.
    Exited(ExitStatus),
    /// Somebody killed its keeper or the guard, and it with them.
    Lost,
}

type Tell = Box<dyn FnMut(ChildNews) + Send>;

/// What any thread may wish for.
#[derive(Default)]
struct Wishes {
    next_id: u64,
    spawns: Vec<(u64, CommandSpec, Tell)>,
    stops: Vec<(u64, Duration)>,
    end: bool,
}

struct Asked {
    /// None when nobody listens any more.
    wishes: Mutex<Option<Wishes>>,
    /// Rung after a wish.
    bell: EventFd,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl Asked {
    /// Adds a wish; none if nobody listens.
    fn wish<T>(&self, add: impl FnOnce(&mut Wishes) -> T) -> Option<T> {
        // Nothing that is done under the lock can panic halfway.
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let added = add(wishes.as_mut()?);
        drop(wishes);
        // No kernel refuses it.
        let _ = self.bell.write();
        Some(added)
    }

    /// Takes all wishes, leaving none; `last` is the last time.
    fn take(&self, last: bool) -> Wishes {
        let mut held = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = held.take().unwrap_or_default();
        if !last {
            *held = Some(Wishes { next_id: taken.next_id, ..Wishes::default() });
        }
        taken
    }
}

/// Speaks to the guard, from any thread and without waiting.
#[derive(Clone, Debug)]
pub struct GuardHandle {
    asked: Arc<Asked>,
}

impl GuardHandle {
    /// Starts a child. What becomes of it is told to `tell`, on the guard's thread (or on this one, if the guard is
    /// gone), which it must not keep waiting; it may use the handle.
    pub fn spawn(&self, command: CommandSpec, tell: impl FnMut(ChildNews) + Send + 'static) -> ChildId {
        let mut wish = Some((command, Box::new(tell) as Tell));
        let id = self.asked.wish(|wishes| {
            wishes.next_id += 1;
            if let Some((command, tell)) = wish.take() {
                wishes.spawns.push((wishes.next_id, command, tell));
            }
            wishes.next_id
        });
        if let Some((_, mut tell)) = wish {
            tell(ChildNews::Failed(SpawnError::GuardGone));
        }
        ChildId(id.unwrap_or_default())
    }

    /// Ends a child and everything it started: SIGTERM, and after the grace SIGKILL to what is left. One that is to
    /// end by itself has its standard input closed first, by dropping [`Child::stdin`]. Of one that has ended this asks
    /// nothing; of one that was stopped before, it can only shorten the grace.
    pub fn stop(&self, child: ChildId, grace: Duration) {
        // Without a guard it has ended.
        let _ = self.asked.wish(|wishes| wishes.stops.push((child.0, grace)));
    }
}

/// Who is told of a child.
struct Told {
    tell: Tell,
    command: Named,
    has_started: bool,
}

/// The thread's side.
struct Attendant {
    guard: Guard,
    asked: Arc<Asked>,
    told: HashMap<u64, Told>,
    /// When it is late, once it is to end.
    late_at: Option<Instant>,
}

impl Attendant {
    fn attend(mut self) {
        // Whatever ends it, everybody is told.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve()));
        if self.late_at.is_none() {
            tracing::error!("the guard process has ended; its children end with it, and none can be started any more");
        }
        let Attendant { guard, asked, told, .. } = self;
        // Waits for it, so that whoever is told finds nothing left.
        drop(guard);
        for mut told in told.into_values() {
            let news = if told.has_started {
                ChildNews::Ended(Ending::Lost)
            } else {
                ChildNews::Failed(SpawnError::GuardGone)
            };
            call(&mut told.tell, news);
        }
        for (_, _, mut tell) in asked.take(true).spawns {
            call(&mut tell, ChildNews::Failed(SpawnError::GuardGone));
        }
    }

    fn serve(&mut self) {
        let mut watch = Watch::default();
        loop {
            watch.clear();
            let bell = watch.add(self.asked.bell.as_fd(), Interest::Read);
            watch.add(self.guard.link.as_fd(), self.guard.link.interest());
            watch.wait(self.late_at.map(|late_at| late_at.saturating_duration_since(Instant::now())));
            if watch.is_ready(bell) {
                // No kernel refuses it.
                let _ = self.asked.bell.drain();
                let wishes = self.asked.take(false);
                self.fulfil(wishes);
            }
            self.guard.link.flush();
            if let Some(late_at) = self.late_at {
                if Instant::now() >= late_at {
                    // Its keepers end what it does not.
                    process::signal_child(self.guard.pid, libc::SIGKILL);
                }
                if !self.guard.link.has_unsent() {
                    self.guard.link.finish();
                }
            }
            if !self.hear() {
                break;
            }
        }
    }

    fn fulfil(&mut self, wishes: Wishes) {
        for (id, command, mut tell) in wishes.spawns {
            if let Err(error) = command.check() {
                call(&mut tell, ChildNews::Failed(error));
                continue;
            }
            if self.late_at.is_some() {
                call(&mut tell, ChildNews::Failed(SpawnError::GuardGone));
                continue;
            }
            let named = Named::of(&command);
            self.told.insert(id, Told { tell, command: named, has_started: false });
            self.guard.link.send(Request::Spawn { id, command }.encode(), Vec::new());
        }
        for (id, grace) in wishes.stops {
            if self.told.contains_key(&id) && self.late_at.is_none() {
                self.guard.link.send(Request::Stop { id, grace }.encode(), Vec::new());
            }
        }
        if wishes.end {
            self.late_at.get_or_insert(Instant::now() + ENDING_TIME + LATENESS);
        }
    }

    /// Takes in what the guard says; false if it is gone.
    fn hear(&mut self) -> bool {
        loop {
            match self.guard.link.hear() {
                Heard::Nothing => return true,
                Heard::End => return false,
                Heard::Message(message, along) => match Answer::decode(&message) {
                    Some(answer) => self.pass_on(answer, along),
                    None => return false,
                },
            }
        }
    }

    fn pass_on(&mut self, answer: Answer, along: Vec<OwnedFd>) {
        match answer {
            Answer::Started { id, pid } => {
                let Some(told) = self.told.get_mut(&id) else { return };
                let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(along) else {
                    // Nobody can use it.
                    self.guard.link.send(Request::Stop { id, grace: Duration::ZERO }.encode(), Vec::new());
                    if let Some(Told { mut tell, command, .. }) = self.told.remove(&id) {
                        call(&mut tell, ChildNews::Failed(command.no_descriptors()));
                    }
                    return;
                };
                told.has_started = true;
                call(&mut told.tell, ChildNews::Started(Child { id: ChildId(id), pid, stdin, stdout, stderr }));
            }
            Answer::Failed { id, failure } => {
                let Some(Told { mut tell, command, .. }) = self.told.remove(&id) else { return };
                call(&mut tell, ChildNews::Failed(command.explained(failure)));
            }
            Answer::Ended { id, status } => {
                let Some(Told { mut tell, .. }) = self.told.remove(&id) else { return };
                let ending = status.map_or(Ending::Lost, |status| Ending::Exited(ExitStatus::from_raw(status)));
                call(&mut tell, ChildNews::Ended(ending));
            }
        }
    }
}

/// Tells; a panic there is the listener's own affair, and was printed by the panic hook.
fn call(tell: &mut Tell, news: ChildNews) {
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| tell(news)));
}
