//! Accepting: a batch of single-shot direct accepts per listener, each with room for its peer's address.
//!
//! Not here: whether a connection is wanted (`server/accept` decides that).
//! Invariant: an accept is in flight only while the table has a free slot for what it brings, so clients beyond the
//! table wait in the backlog, and it leaves those that are kept for connections opened from here; what ran out, or an
//! error nobody foresaw, is tried again after a pause, never at once.

use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{opcode, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, user_data};
use crate::ids::ConnectionId;

/// How long no accept is armed after one failed in a way that would repeat.
const PAUSE: Duration = Duration::from_millis(10);

struct Listener {
    fd: RawFd,
    /// False once the kernel said that it is no listener any more.
    open: bool,
    in_flight: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pausing {
    No,
    /// From the next turn on, which knows the time.
    Due,
    Until(Duration),
}

/// The state of accepting.
pub(super) struct Accepting {
    on: bool,
    listeners: Vec<Listener>,
    /// For each accept number: whether it is in flight. Number / `per_listener` is its listener.
    armed: Vec<bool>,
    per_listener: usize,
    in_flight: usize,
    pausing: Pausing,
}

impl Accepting {
    pub(super) fn new(per_listener: usize) -> Accepting {
        Accepting {
            on: false,
            listeners: Vec::new(),
            armed: Vec::new(),
            per_listener,
            in_flight: 0,
            pausing: Pausing::No,
        }
    }

    /// How many accepts are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How long a turn may wait for the pause's sake.
    pub(super) fn patience(&self, now: Duration) -> Option<Duration> {
        match self.pausing {
            Pausing::Until(end) if self.on => Some(end.saturating_sub(now)),
            _ => None,
        }
    }

    /// The number to arm next: of the listener that has the fewest in flight, so that none goes without when the table
    /// is nearly full.
    fn next(&self) -> Option<usize> {
        let (index, _) = self
            .listeners
            .iter()
            .enumerate()
            .filter(|(_, listener)| listener.open && listener.in_flight < self.per_listener)
            .min_by_key(|(_, listener)| listener.in_flight)?;
        let first = index * self.per_listener;
        (first..first + self.per_listener).find(|&number| !self.armed[number])
    }
}

impl Driver {
    /// Accepts from these listening sockets, which must stay open until `stop_accepting`. Once per driver.
    ///
    /// # Panics
    /// If listeners were given before.
    pub fn listen(&mut self, listeners: &[RawFd]) {
        assert!(self.accepting.listeners.is_empty(), "listeners are given once");
        let accepts = listeners.len() * self.accepting.per_listener;
        self.arena.reserve_peers(accepts);
        self.accepting.listeners = listeners.iter().map(|&fd| Listener { fd, open: true, in_flight: 0 }).collect();
        self.accepting.armed = vec![false; accepts];
        self.accepting.on = true;
    }

    /// Accepts no more. Connections that the kernel has accepted already still come in as events.
    pub fn stop_accepting(&mut self) {
        self.accepting.on = false;
        let names: Vec<u64> = self.accepts_in_flight().collect();
        names.into_iter().for_each(|name| self.cancel(name));
    }

    /// The user data of each accept in flight.
    pub(super) fn accepts_in_flight(&self) -> impl Iterator<Item = u64> {
        let armed = self.accepting.armed.iter().enumerate().filter(|(_, armed)| **armed);
        armed.map(|(number, _)| user_data(Operation::Accept, accept_id(number)))
    }

    /// A completion of an accept.
    pub(super) fn accepted(&mut self, number: usize, result: i32) -> Option<Event> {
        let listener = number / self.accepting.per_listener;
        self.accepting.armed[number] = false;
        self.accepting.in_flight -= 1;
        self.accepting.listeners[listener].in_flight -= 1;
        if result >= 0 {
            let stream = self.streams.enter(result as u32);
            let peer = self.arena.peer(number);
            self.want(stream);
            return Some(Event::Accepted { stream, listener, peer });
        }
        match -result {
            libc::ENFILE | libc::EMFILE | libc::ENOBUFS | libc::ENOMEM => {
                self.stats.accepts_exhausted += 1;
                self.accepting.pausing = Pausing::Due;
            }
            // Told to stop; or a connection that was gone before it was accepted, and has left the backlog.
            libc::ECANCELED | libc::ECONNABORTED | libc::EINTR => {}
            // The listener itself is gone or was shut down: arming again would fail at once, for ever.
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP => {
                self.accepting.listeners[listener].open = false;
            }
            // Whatever it is, it may not have taken a connection from the backlog, so it may come at once again.
            _ => self.accepting.pausing = Pausing::Due,
        }
        None
    }

    pub(super) fn arm_accepts(&mut self, now: Duration) {
        match self.accepting.pausing {
            Pausing::No => {}
            Pausing::Due => self.accepting.pausing = Pausing::Until(now + PAUSE),
            Pausing::Until(end) if now < end => {}
            Pausing::Until(_) => self.accepting.pausing = Pausing::No,
        }
        let accepting = &self.accepting;
        if !accepting.on || accepting.pausing != Pausing::No || accepting.in_flight == accepting.armed.len() {
            return;
        }
        let outbound = self.streams.outbound() + self.connecting.entering();
        let kept = (self.settings.outbound as usize).saturating_sub(outbound);
        for _ in kept..self.slots_free() {
            let Some(number) = self.accepting.next() else { return };
            self.arm_accept(number);
        }
    }

    /// Slots of the table that nobody has, nor will have by what is in flight.
    pub(super) fn slots_free(&self) -> usize {
        let taken = self.streams.sockets() + self.accepting.in_flight + self.connecting.entering();
        (self.settings.descriptors as usize).saturating_sub(taken)
    }

    fn arm_accept(&mut self, number: usize) {
        let listener = &mut self.accepting.listeners[number / self.accepting.per_listener];
        listener.in_flight += 1;
        let fd = types::Fd(listener.fd);
        self.accepting.armed[number] = true;
        self.accepting.in_flight += 1;
        let (address, length) = self.arena.peer_slot(number);
        let slot = Some(types::DestinationSlot::auto_target());
        let entry = opcode::Accept::new(fd, address, length).file_index(slot).build();
        self.push(entry.user_data(user_data(Operation::Accept, accept_id(number))));
    }
}

/// Accepts are told apart by their number; they have no tenancy.
fn accept_id(number: usize) -> ConnectionId {
    ConnectionId { slot: number as u32, generation: 0 }
}
