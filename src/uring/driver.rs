//! The ring itself: operations in, events out, one `io_uring_enter` per turn, and the only place a core sleeps.
//!
//! Not here: when to read or what to send (`server`); receiving in particular is in `receive`.
//! Invariant: every operation names stream and generation in its user data; closing awaits every operation's end.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::arena::Arena;
use super::features::Features;
use super::streams::{Medium, State, Streams};
use crate::ids::ConnectionId;

/// Buffer group of the receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// How long no accept is armed after the kernel said that something ran out.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(10);
/// How long the operations of a ring may take to end before it is closed.
const LET_GO_LIMIT: Duration = Duration::from_millis(100);
/// Completions taken out of the ring at once.
const REAP_MAX: usize = 512;

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
        }
    }
}

/// Why a stream's receiving side is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The peer closed its side.
    Eof,
    /// The kernel's error number.
    Error(i32),
}

/// A filled receive buffer. It must go back by `Driver::release` in the turn in which it came.
#[derive(Debug)]
#[must_use = "a lease that is not released is a buffer lost"]
pub struct Lease {
    pub(super) buffer: u16,
    pub(super) length: u32,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection came in; it is being read already.
    Accepted {
        /// The new stream.
        stream: ConnectionId,
        /// Index of the listener it came by.
        listener: usize,
        /// Who it is, if it came by an internet socket.
        peer: Option<SocketAddr>,
    },
    /// A bell rung by another core.
    Bell,
    /// The stream's slot and memory are free again; its id is history.
    Closed {
        /// The stream that was.
        stream: ConnectionId,
    },
    /// Nothing more will come in by this stream.
    Ended {
        /// The stream.
        stream: ConnectionId,
        /// Why.
        why: Ended,
    },
    /// The eventfd was written: the control thread, or the offload pool.
    Foreign,
    /// Bytes came in.
    Received {
        /// The stream.
        stream: ConnectionId,
        /// Where they are.
        lease: Lease,
    },
    /// A send ended; the buffer is its sender's again.
    Sent {
        /// The stream.
        stream: ConnectionId,
        /// The buffer that was given to `send`.
        buffer: Vec<u8>,
        /// `Err` holds the kernel's error number.
        result: Result<(), i32>,
    },
}

/// What the driver counted since it was made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Of those, ones that were allowed to wait.
    pub sleeps: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions seen.
    pub completed: u64,
    /// Receives that found no buffer.
    pub buffer_shortages: u64,
    /// Completions of an earlier tenant of a slot.
    pub stale: u64,
    /// Accepts that failed because something ran out (ENFILE, EMFILE, ENOBUFS, ENOMEM).
    pub accepts_exhausted: u64,
    /// Bytes that came in after a connection's credit was used up.
    pub overshoot_bytes: u64,
    /// Turns in which the completion queue had overflowed into the kernel's list.
    pub overflows: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Bell = 2,
    BellSent = 3,
    Cancel = 4,
    Close = 5,
    Foreign = 6,
    Receive = 7,
    Send = 8,
    Shutdown = 9,
}

impl Operation {
    fn from_bits(bits: u8) -> Option<Operation> {
        use Operation::*;
        [Accept, Bell, BellSent, Cancel, Close, Foreign, Receive, Send, Shutdown]
            .into_iter()
            .find(|operation| *operation as u8 == bits)
    }
}

/// Operation, slot and generation in one word: 8, 24 and 32 bits.
pub(super) fn user_data(operation: Operation, id: ConnectionId) -> u64 {
    debug_assert!(id.slot < 1 << 24, "slots are 24 bits wide in user data");
    (operation as u64) << 56 | u64::from(id.slot) << 32 | u64::from(id.generation)
}

fn identify(user_data: u64) -> (Option<Operation>, ConnectionId) {
    let id = ConnectionId { slot: (user_data >> 32) as u32 & 0xff_ffff, generation: user_data as u32 };
    (Operation::from_bits((user_data >> 56) as u8), id)
}

struct Listener {
    fd: RawFd,
    open: bool,
}

/// One core's ring. `Send`, so that `boot` can take it from a thread that died and close it there; otherwise it stays on
/// the thread that made it.
pub struct Driver {
    // Declared before the arena: dropped, and so closed, first.
    pub(super) ring: IoUring,
    pub(super) arena: Arena,
    pub(super) streams: Streams,
    pub(super) features: Features,
    pub(super) settings: DriverSettings,
    pub(super) stats: Stats,
    /// Streams whose receive is to be armed again, in order.
    pub(super) rearm: VecDeque<ConnectionId>,
    /// Streams that found no buffer, first come first served.
    pub(super) starved: VecDeque<ConnectionId>,
    pub(super) leases: usize,
    reaped: VecDeque<(u64, i32, u32)>,
    listeners: Vec<Listener>,
    /// For each accept number: whether it is in flight.
    accepts: Vec<bool>,
    accepts_in_flight: usize,
    accept_again_at: Duration,
    accepting: bool,
    eventfd: Option<RawFd>,
    eventfd_armed: bool,
    pipes: u32,
}

impl Driver {
    /// Opens the ring on the calling thread, which must be the one that uses it.
    ///
    /// # Errors
    /// What the kernel said; the message names the step and what to change.
    pub fn new(settings: DriverSettings, features: Features) -> io::Result<Driver> {
        let step = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
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
        if features.ring_descriptor {
            ring.submitter().register_ring_fd()?;
        }
        let mut arena = Arena::new(settings.buffers_max, settings.buffer_bytes)?;
        // SAFETY: needed to share memory with the kernel. The ring of buffers stays mapped until the arena is dropped,
        // which is after the ring that knows it (declaration order in `Driver`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(arena.ring_address(), settings.buffers_max, BUFFER_GROUP, 0)
        }
        .map_err(|error| step("registering the receive buffers", error))?;
        arena.grow(usize::from(settings.buffers))?;
        arena.publish();
        Ok(Driver {
            ring,
            arena,
            streams: Streams::new(),
            features,
            settings,
            stats: Stats::default(),
            rearm: VecDeque::new(),
            starved: VecDeque::new(),
            leases: 0,
            reaped: VecDeque::with_capacity(REAP_MAX),
            listeners: Vec::new(),
            accepts: Vec::new(),
            accepts_in_flight: 0,
            accept_again_at: Duration::ZERO,
            accepting: false,
            eventfd: None,
            eventfd_armed: false,
            pipes: 0,
        })
    }

    /// The ring's descriptor, by which other rings ring its bell.
    pub fn descriptor(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.ring)
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

    /// Accepts from these listening sockets, which must stay open until `stop_accepting`. Once per driver.
    pub fn listen(&mut self, listeners: &[RawFd]) {
        assert!(self.listeners.is_empty(), "listeners are given once");
        self.listeners = listeners.iter().map(|&fd| Listener { fd, open: true }).collect();
        let accepts = listeners.len() * self.settings.accepts;
        self.arena.reserve_peers(accepts);
        self.accepts = vec![false; accepts];
        self.accepting = true;
    }

    /// Accepts no more. Connections that the kernel has accepted already still come in as events.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
        for number in 0..self.accepts.len() {
            if self.accepts[number] {
                self.cancel(user_data(Operation::Accept, accept_id(number)));
            }
        }
    }

    /// Wakes up when this eventfd is written. Once per driver; the descriptor must outlive it.
    pub fn watch(&mut self, eventfd: RawFd) {
        self.eventfd = Some(eventfd);
    }

    /// Makes a stream of two descriptors of the process, for example its standard input and output.
    pub fn adopt(&mut self, read: RawFd, write: RawFd) -> ConnectionId {
        let slot = self.settings.descriptors + self.pipes;
        self.pipes += 1;
        let id = self.streams.enter(slot, Medium::Pipes { read, write });
        self.want(id);
        id
    }

    /// Sends the buffer, whole. It comes back with `Event::Sent`. One send at a time per stream.
    ///
    /// # Panics
    /// If a send is in flight on the stream already.
    pub fn send(&mut self, id: ConnectionId, buffer: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING)) else {
            return Err(buffer);
        };
        assert!(!stream.is(State::SENDING), "{id}: one send in flight at a time");
        let (place, start, length) = self.arena.begin_send(buffer);
        stream.set(State::SENDING);
        stream.send = place;
        let medium = stream.medium;
        self.push_send(id, medium, start, length);
        Ok(())
    }

    fn push_send(&mut self, id: ConnectionId, medium: Medium, start: *const u8, length: u32) {
        let entry = match medium {
            // WAITALL: the kernel itself sends the rest after a short send.
            Medium::Socket => opcode::Send::new(types::Fixed(id.slot), start, length)
                .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build(),
            Medium::Pipes { write, .. } => opcode::Write::new(types::Fd(write), start, length).offset(u64::MAX).build(),
        };
        self.push(entry.user_data(user_data(Operation::Send, id)));
    }

    /// Tells the peer that nothing more will be sent. For a close that must not cut off what was sent before.
    pub fn shutdown(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING.and(State::SHUTTING)))
        else {
            return;
        };
        if stream.medium == Medium::Socket {
            stream.set(State::SHUTTING);
            let entry = opcode::Shutdown::new(types::Fixed(id.slot), libc::SHUT_WR).build();
            self.push(entry.user_data(user_data(Operation::Shutdown, id)));
        }
    }

    /// Closes the stream: what is in flight is cancelled and awaited, then the descriptor goes. `Event::Closed` ends it;
    /// a send in flight still comes back before that.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.any(State::CLOSING)) else { return };
        stream.set(State::CLOSING);
        stream.clear(State::WANTED);
        let stream = *stream;
        if stream.is(State::RECEIVING) && !stream.is(State::STOPPING) {
            self.cancel(user_data(Operation::Receive, id));
        }
        if stream.is(State::SENDING) {
            self.cancel(user_data(Operation::Send, id));
        }
        self.close_descriptor_if_quiet(id);
    }

    /// Cancels whatever is in flight, on the thread that used the ring, which is about to be closed. The listeners and the
    /// eventfd are another ring's from here on.
    pub fn let_go(&mut self) {
        // Cancelling only marks what waits for a descriptor; it leaves the descriptor's queue, where it would swallow the
        // wake-up for the next connection, when its deferred work is run: 20 pieces of it per enter (6.13), so until nothing
        // more comes. A second round finds what the first set going.
        let limit = Some(types::Timespec::from(LET_GO_LIMIT));
        let late = Instant::now() + LET_GO_LIMIT;
        for _ in 0..2 {
            // What cannot be cancelled, or is not in time, ends when the ring is closed.
            let _ = self.ring.submitter().register_sync_cancel(limit, types::CancelBuilder::any());
            while self.run_deferred_work() > 0 && Instant::now() < late {}
        }
    }

    /// Runs some of the deferred work, without submitting anything; how many completions it brought, which are dropped.
    fn run_deferred_work(&mut self) -> usize {
        const GETEVENTS: u32 = 1;
        // SAFETY: needed because the safe wrappers submit, and nothing is to be begun any more. Nothing is submitted, no
        // signal mask is passed.
        let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
        self.ring.completion().count()
    }

    /// Rings the bell of another core.
    pub fn bell(&mut self, ring: RawFd) {
        let bell = user_data(Operation::Bell, ConnectionId { slot: 0, generation: 0 });
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, bell, None).build();
        let sent = user_data(Operation::BellSent, ConnectionId { slot: 0, generation: 0 });
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(sent));
    }

    /// The bytes of a lease.
    pub fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        self.arena.filled(lease.buffer, lease.length as usize)
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
    /// # Errors
    /// Only what makes the ring unusable.
    pub fn turn(&mut self, now: Duration, wait: Option<Duration>) -> io::Result<()> {
        self.rearm_receives();
        self.arm_accepts(now);
        self.arm_eventfd();
        self.arena.publish();
        let wait = match wait {
            // The back-off after an exhausted accept ends by itself.
            _ if self.accepting && now < self.accept_again_at => {
                let rest = self.accept_again_at - now;
                Some(wait.map_or(rest, |wait| wait.min(rest)))
            }
            wait => wait,
        };
        let overflowed = self.ring.submission().cq_overflow();
        self.stats.overflows += u64::from(overflowed);
        let sleep = wait != Some(Duration::ZERO) && self.reaped.is_empty() && !overflowed;
        self.enter(sleep.then_some(wait))?;
        self.reap();
        Ok(())
    }

    /// Enters the kernel once; `sleep` waits for one completion, up to the inner duration.
    fn enter(&mut self, sleep: Option<Option<Duration>>) -> io::Result<()> {
        let pending = self.ring.submission().len();
        self.stats.enters += 1;
        self.stats.submitted += pending as u64;
        let outcome = match sleep {
            None => {
                const GETEVENTS: u32 = 1;
                // SAFETY: needed because the safe wrappers do not run deferred work without waiting. The operations
                // pushed keep what they point to in the arena; no signal mask is passed.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(pending as u32, 0, GETEVENTS, None) }
            }
            Some(limit) => {
                self.stats.sleeps += 1;
                let timespec = limit.map(types::Timespec::from);
                let mut arguments = types::SubmitArgs::new();
                if let Some(timespec) = &timespec {
                    arguments = arguments.timespec(timespec);
                }
                self.ring.submitter().submit_with_args(1, &arguments)
            }
        };
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A time-out; a signal; completions waiting to be taken; memory short for a moment: the next turn goes on.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
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
                Some(Operation::Bell) => Some(Event::Bell),
                Some(Operation::Close) => self.closed(id),
                Some(Operation::Foreign) => {
                    self.eventfd_armed = false;
                    Some(Event::Foreign)
                }
                Some(Operation::Receive) => self.received(id, result, flags),
                Some(Operation::Send) => self.sent(id, result),
                Some(Operation::Shutdown) => {
                    if let Some(stream) = self.streams.find(id) {
                        stream.clear(State::SHUTTING);
                        self.close_descriptor_if_quiet(id);
                    }
                    None
                }
                // A cancel that found nothing, a bell whose ring is gone: nothing depends on them.
                Some(Operation::Cancel | Operation::BellSent) | None => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn accepted(&mut self, number: usize, result: i32) -> Option<Event> {
        self.accepts[number] = false;
        self.accepts_in_flight -= 1;
        let listener = number / self.settings.accepts;
        if result >= 0 {
            let stream = self.streams.enter(result as u32, Medium::Socket);
            let peer = self.arena.peer(number);
            self.want(stream);
            return Some(Event::Accepted { stream, listener, peer });
        }
        match -result {
            libc::ENFILE | libc::EMFILE | libc::ENOBUFS | libc::ENOMEM => {
                self.stats.accepts_exhausted += 1;
                // The next turn knows the time; until then, and for the back-off after it, nothing is armed.
                self.accept_again_at = Duration::MAX;
            }
            libc::ECANCELED => {}
            // The listener itself is gone or was shut down: arming again would fail at once, for ever.
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP => self.listeners[listener].open = false,
            // A connection that was gone before it was accepted (ECONNABORTED and its like).
            _ => {}
        }
        None
    }

    fn arm_accepts(&mut self, now: Duration) {
        if self.accept_again_at == Duration::MAX {
            self.accept_again_at = now + ACCEPT_BACK_OFF;
        }
        if !self.accepting || now < self.accept_again_at || self.accepts_in_flight == self.accepts.len() {
            return;
        }
        let mut room =
            (self.settings.descriptors as usize).saturating_sub(self.streams.open() + self.accepts_in_flight);
        for number in 0..self.accepts.len() {
            let listener = &self.listeners[number / self.settings.accepts];
            if room == 0 {
                return;
            }
            if self.accepts[number] || !listener.open {
                continue;
            }
            let fd = listener.fd;
            let (address, length) = self.arena.peer_slot(number);
            let entry = opcode::Accept::new(types::Fd(fd), address, length)
                .file_index(Some(types::DestinationSlot::auto_target()))
                .build();
            self.push(entry.user_data(user_data(Operation::Accept, accept_id(number))));
            self.accepts[number] = true;
            self.accepts_in_flight += 1;
            room -= 1;
        }
    }

    fn arm_eventfd(&mut self) {
        if let Some(fd) = self.eventfd.filter(|_| !self.eventfd_armed) {
            self.eventfd_armed = true;
            let target = (&raw mut *self.arena.foreign).cast::<u8>();
            let entry = opcode::Read::new(types::Fd(fd), target, size_of::<u64>() as u32).build();
            self.push(entry.user_data(user_data(Operation::Foreign, ConnectionId { slot: 0, generation: 0 })));
        }
    }

    fn sent(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let Some(stream) = self.streams.find(id) else {
            // Cannot be: a stream is left only after its send has ended.
            self.stats.stale += 1;
            return None;
        };
        let (place, medium, closing) = (stream.send, stream.medium, stream.is(State::CLOSING));
        if result > 0
            && let Some((start, length)) = self.arena.continue_send(place, result as usize)
        {
            if closing {
                return self.end_send(id, place, Err(libc::ECANCELED));
            }
            self.push_send(id, medium, start, length);
            return None;
        }
        self.end_send(id, place, if result < 0 { Err(-result) } else { Ok(()) })
    }

    fn end_send(&mut self, id: ConnectionId, place: u32, result: Result<(), i32>) -> Option<Event> {
        let buffer = self.arena.end_send(place);
        if let Some(stream) = self.streams.find(id) {
            stream.clear(State::SENDING);
        }
        self.close_descriptor_if_quiet(id);
        Some(Event::Sent { stream: id, buffer, result })
    }

    /// Closes the descriptor of a closing stream once nothing of it is in flight any more.
    pub(super) fn close_descriptor_if_quiet(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id).filter(|stream| stream.is(State::CLOSING)) else { return };
        let busy = State::RECEIVING.and(State::SENDING).and(State::SHUTTING).and(State::DESCRIPTOR_CLOSING);
        if stream.any(busy) {
            return;
        }
        stream.set(State::DESCRIPTOR_CLOSING);
        let entry = match stream.medium {
            Medium::Socket => opcode::Close::new(types::Fixed(id.slot)).build(),
            Medium::Pipes { .. } => opcode::Nop::new().build(),
        };
        self.push(entry.user_data(user_data(Operation::Close, id)));
    }

    fn closed(&mut self, id: ConnectionId) -> Option<Event> {
        if self.streams.find(id).is_none() {
            self.stats.stale += 1;
            return None;
        }
        self.streams.leave(id);
        Some(Event::Closed { stream: id })
    }

    pub(super) fn cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel::new(target).build();
        let id = ConnectionId { slot: 0, generation: 0 };
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data(Operation::Cancel, id)));
    }

    /// Puts an operation into the submission queue, which is submitted first if it is full.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: needed because an operation may point to memory. All those made in this module point into the
            // arena (send buffers, receive buffers, addresses, the eventfd's count), which outlives the ring.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full. Submit without waiting; completions stay in the kernel's queue, or in its overflow list. The kernel
            // refuses with EBUSY when that list is not empty: then take completions out first.
            self.enter(None).expect("a ring that was opened accepts submissions");
            self.reap();
        }
    }
}

fn accept_id(number: usize) -> ConnectionId {
    ConnectionId { slot: number as u32, generation: 0 }
}

/// Whether more completions follow for the same operation, and which receive buffer came with this one.
pub(super) fn receive_flags(flags: u32) -> (bool, Option<u16>) {
    (cqueue::more(flags), cqueue::buffer_select(flags))
}
