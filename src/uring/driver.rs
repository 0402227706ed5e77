//! The ring itself: operations in, events out, at most one `io_uring_enter` per turn, and the only place a core sleeps.
//!
//! Not here: what each kind of operation means: `accept`, `connect`, `receive`, `send`, `close`, `wake`.
//! Invariant: memory the kernel may touch outlives the ring; a turn sleeps only if no completion is at hand and no
//! stream waits for something that only another turn would give it.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use io_uring::{IoUring, squeue};

use super::accept::Accepting;
use super::alarm::Alarm;
use super::arena::Arena;
use super::connect::Connecting;
use super::enter::Gate;
use super::event::{Event, Lease, Stats};
use super::features::Features;
use super::operation::{Operation, SLOTS_MAX, identify};
use super::streams::Streams;
use crate::ids::ConnectionId;

/// Buffer group of the receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// How long a driver that is dropped on its own thread waits for its operations to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Sizes of a core's ring.
#[derive(Clone, Copy, Debug)]
pub struct DriverSettings {
    /// Entries of the submission queue.
    pub entries: u32,
    /// Entries of the completion queue; more completions are kept by the kernel until there is room.
    pub cq_entries: u32,
    /// Direct descriptors, and so the most sockets of this core. At most the soft RLIMIT_NOFILE.
    pub descriptors: u32,
    /// Receive buffers at first.
    pub buffers: u16,
    /// Receive buffers at most; a power of two.
    pub buffers_max: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: usize,
    /// Bytes after which a multishot receive has to be armed again: the credit of one connection.
    pub receive_credit_bytes: u32,
    /// Accepts in flight per listener.
    pub accepts: usize,
    /// Direct descriptors that accepts leave to connections opened from here. More may be opened, while there are slots
    /// that no accept in flight counts on.
    pub outbound: u32,
}

impl Default for DriverSettings {
    fn default() -> DriverSettings {
        DriverSettings {
            entries: 512,
            cq_entries: 4096,
            descriptors: 1024,
            buffers: 128,
            buffers_max: 2048,
            buffer_bytes: 4096,
            receive_credit_bytes: 64 * 1024,
            accepts: 32,
            outbound: 0,
        }
    }
}

/// One core's ring. `Send`, so that `boot` can take it from a thread that died and close it there; otherwise it stays
/// on the thread that made it.
pub struct Driver {
    // Declared before the arena: dropped, and so closed, first.
    pub(super) ring: IoUring,
    gate: Gate,
    pub(super) arena: Arena,
    pub(super) streams: Streams,
    pub(super) features: Features,
    pub(super) settings: DriverSettings,
    pub(super) stats: Stats,
    /// Streams whose receive is to be armed again, in order.
    pub(super) rearm: VecDeque<ConnectionId>,
    /// Streams whose receive brought bytes, with when to look after them; oldest first.
    pub(super) doubted: VecDeque<(Duration, ConnectionId)>,
    /// When the turn began.
    pub(super) now: Duration,
    /// Streams that found no buffer, first come first served.
    pub(super) starved: VecDeque<ConnectionId>,
    pub(super) leases: usize,
    /// Connections on their way to another core, with the index of their listener.
    pub(super) handing: Vec<(ConnectionId, usize)>,
    /// Whether receive buffers were added since the turn began.
    pub(super) grown: bool,
    pub(super) accepting: Accepting,
    pub(super) connecting: Connecting,
    pub(super) alarm: Alarm,
    pub(super) eventfd: Option<RawFd>,
    pub(super) eventfd_armed: bool,
    /// What made the ring unusable, for the next turn to say.
    pub(super) broken: Option<io::Error>,
    /// Completions: user data, result, flags.
    pub(super) reaped: VecDeque<(u64, i32, u32)>,
    owner: ThreadId,
}

/// Whether the next turn goes on as if nothing were: a time-out; a signal; completions that wait to be taken; memory
/// short for a moment.
pub(super) fn passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

impl Driver {
    /// Opens the ring on the calling thread, which must be the one that uses it.
    ///
    /// # Errors
    /// What the kernel said; the message names the step and what to change.
    ///
    /// # Panics
    /// If there are to be no receive buffers, or `buffers_max` is no power of two.
    pub fn new(settings: DriverSettings, features: Features) -> io::Result<Driver> {
        let step = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        assert!(settings.buffers > 0, "without a receive buffer nothing is received");
        if settings.descriptors >= SLOTS_MAX {
            return Err(io::Error::other(format!(
                "{} direct descriptors; a ring has at most 2^24",
                settings.descriptors
            )));
        }
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // What the kernel has put off shows in the ring, so a turn that has nothing to hand over need not ask.
            .setup_taskrun_flag()
            // One operation that cannot even start is one completion, and no end of the others.
            .setup_submit_all()
            .setup_cqsize(settings.cq_entries)
            .build(settings.entries)
            .map_err(|error| step("opening an io_uring (locked memory and kernel.io_uring_disabled matter)", error))?;
        ring.submitter().register_files_sparse(settings.descriptors).map_err(|error| {
            let what = format!(
                "registering {} direct descriptors (the soft limit of open files bounds them; raise it or use more cores)",
                settings.descriptors
            );
            step(&what, error)
        })?;
        let mut arena = Arena::new(settings.buffers_max, settings.buffer_bytes)?;
        // SAFETY: needed to share memory with the kernel. The ring of buffers stays mapped until the arena is dropped,
        // which is after the ring that knows it (declaration order in `Driver`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(arena.ring_address(), settings.buffers_max, BUFFER_GROUP, 0)
        }
        .map_err(|error| step("registering the receive buffers", error))?;
        arena.grow(usize::from(settings.buffers))?;
        arena.publish();
        let mut gate = Gate::new(ring.as_raw_fd());
        if features.ring_descriptor {
            // Only `drop` takes it back, so nothing that may fail comes after it.
            gate.register().map_err(|error| step("registering the ring's descriptor", error))?;
        }
        Ok(Driver {
            ring,
            gate,
            arena,
            streams: Streams::new(settings.descriptors),
            features,
            settings,
            stats: Stats::default(),
            rearm: VecDeque::new(),
            doubted: VecDeque::new(),
            now: Duration::ZERO,
            starved: VecDeque::new(),
            leases: 0,
            handing: Vec::new(),
            grown: false,
            accepting: Accepting::new(settings.accepts),
            connecting: Connecting::default(),
            alarm: Alarm::default(),
            eventfd: None,
            eventfd_armed: false,
            broken: None,
            reaped: VecDeque::new(),
            owner: std::thread::current().id(),
        })
    }

    /// The ring's descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Streams that are open or closing.
    pub fn open(&self) -> usize {
        self.streams.open()
    }

    /// Receive buffers that exist, and sends that hold a buffer.
    pub fn memory_in_use(&self) -> (usize, usize) {
        (self.arena.buffers(), self.arena.sends_in_flight())
    }

    /// The bytes of a lease.
    pub fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        self.arena.filled(lease.buffer, lease.length as usize)
    }

    /// Leases handed out in events and not given back yet.
    pub fn leases(&self) -> usize {
        self.leases
    }

    /// Gives a lease back to the kernel.
    pub fn release(&mut self, lease: Lease) {
        self.leases -= 1;
        self.arena.give_back(lease.buffer);
    }

    /// One turn: submits what was asked for and collects completions, for `next_event` to hand out. Waits for the first
    /// of them up to `wait`; `Some(ZERO)` does not wait, `None` waits without end. `now` is the time since some start,
    /// the same for all calls.
    ///
    /// A wait may end early and with nothing: the ring's alarm was set for an earlier one.
    ///
    /// # Errors
    /// Only what makes the ring unusable; there is nothing left then but to drop the driver.
    pub fn turn(&mut self, now: Duration, wait: Option<Duration>) -> io::Result<()> {
        self.grown = false;
        self.now = now;
        self.arena.publish();
        self.confirm();
        let served = self.rearm_receives();
        self.arm_accepts(now);
        self.arm_eventfd();
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let wait = [wait, self.accepting.patience(now), self.doubt_patience()].into_iter().flatten().min();
        let overflowed = self.ring.submission().cq_overflow();
        self.stats.overflows += u64::from(overflowed);
        let sleep = wait != Some(Duration::ZERO) && self.reaped.is_empty() && !overflowed && served;
        let submission = self.ring.submission();
        let idle = submission.is_empty() && !submission.taskrun() && !overflowed;
        drop(submission);
        if sleep {
            let limit = self.end_sleep(now, wait);
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            // Making room for the alarm's operation may have brought completions.
            self.enter(self.reaped.is_empty().then_some(limit))?;
        } else if !idle {
            self.enter(None)?;
        }
        self.reap();
        Ok(())
    }

    /// Enters the kernel once; `sleep` waits for one completion, up to the inner duration.
    fn enter(&mut self, sleep: Option<Option<Duration>>) -> io::Result<()> {
        let pending = self.ring.submission().len();
        self.stats.enters += 1;
        self.stats.sleeps += u64::from(sleep.is_some());
        let outcome = self.gate.enter(pending as u32, sleep);
        let left = self.ring.submission().len();
        self.stats.submitted += pending.saturating_sub(left) as u64;
        match outcome {
            Err(error) if !passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn reap(&mut self) {
        let mut completion = self.ring.completion();
        completion.sync();
        let before = self.reaped.len();
        self.reaped.extend(completion.map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        self.stats.completed += (self.reaped.len() - before) as u64;
    }

    /// The next event of the turn, or nothing more.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let (data, result, flags) = self.reaped.pop_front()?;
            let (operation, id) = identify(data);
            let event = match operation {
                Some(Operation::Accept) => self.accepted(id.slot as usize, result),
                Some(Operation::Alarm) => {
                    self.rung(result);
                    None
                }
                Some(Operation::Arrive) => Some(self.arrived(id.slot as usize, result)),
                Some(Operation::Bell) => Some(Event::Bell),
                Some(Operation::Close) => self.closed(id),
                Some(Operation::Connect) => self.connected(id, result),
                Some(Operation::Foreign) => self.foreign(result),
                Some(Operation::GiveUp) => {
                    self.gave_up(id, result);
                    None
                }
                Some(Operation::HandOver) => self.handed_over(id, result),
                Some(Operation::Install) => self.installed(id.slot, result),
                Some(Operation::Receive) => self.received(id, result, flags),
                Some(Operation::Send) => self.sent(id, result),
                Some(Operation::Shutdown) => {
                    self.shut(id);
                    None
                }
                Some(Operation::BellSent) => {
                    self.bell_failed(id.slot, result);
                    None
                }
                // A cancel that found nothing: what it was for has ended by itself.
                Some(Operation::Cancel) | None => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Puts an operation into the submission queue, which is submitted first if it is full.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: needed because an operation may point to memory. All those made in this module point into the
            // arena (send buffers, receive buffers, addresses, descriptors to be installed, the eventfd's count), which
            // outlives the ring.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full. Submit without waiting; completions stay in the kernel's queue, or in its overflow list. The kernel
            // may refuse with EBUSY when that list is not empty: then completions taken out make room.
            self.arena.publish();
            if let Err(error) = self.enter(None) {
                // The operation is lost with the ring.
                self.broken = Some(error);
                return;
            }
            self.reap();
        }
    }
}

impl Driver {
    /// Ends everything that is in flight; false if that could not be seen to the end.
    pub(super) fn say_goodbye(&mut self) -> bool {
        let start = Instant::now();
        self.stop_accepting();
        if self.eventfd.take().is_some() && self.eventfd_armed {
            self.cancel(Operation::Foreign.alone());
        }
        for token in self.connecting.tokens() {
            self.cancel_connect(token);
        }
        for id in self.streams.all() {
            self.close(id);
        }
        while self.streams.open() > 0
            || self.accepting.in_flight() > 0
            || self.connecting.in_flight() > 0
            || self.eventfd_armed
        {
            if start.elapsed() > FAREWELL || self.turn(start.elapsed(), Some(FAREWELL / 100)).is_err() {
                return false;
            }
            while let Some(event) = self.next_event() {
                match event {
                    Event::Accepted { stream, .. } => self.close(stream),
                    Event::Received { lease, .. } => self.release(lease),
                    _ => {}
                }
            }
        }
        true
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::current().id() != self.owner {
            // The thread it belonged to has ended, and the kernel with it every operation of it (see `boot`).
            return;
        }
        // Closing a ring cancels in the background. Here everything has ended before any memory goes.
        if !self.say_goodbye() {
            self.arena.leak();
        }
        // A registration that could not be taken back ends with the thread.
        let _: io::Result<()> = self.gate.unregister();
    }
}
