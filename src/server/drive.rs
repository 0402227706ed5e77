//! The loop of a core thread: turns of the driver, steps of the machines, tasks of the executor. The only async part.
//!
//! Not here: what anything means. One turn: submit and collect (waiting only if nothing is left to do), hand every
//! event to the core, run the tasks that are to run, hand over their mail, perform the effects.
//! Invariant: a core sleeps only in `io_uring_enter`, only with no runnable task, no mail, no effect left, and with its
//! next deadline as the time-out, so everything that can wake it either completes in the ring or rings its bell.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection::Connection;
use super::core::{Core, Effect, End, Input};
use super::outbox::Delivery;
use super::parcel::Header;
use super::service::{Mailbox, Nanos, Service};
use crate::ids::{ConnectionId, CoreId};
use crate::metrics::CoreMetrics;
use crate::ring::{Port, PortCounts, PortId, Refused};
use crate::runtime::Tasks;
use crate::shard::watchdog::{LONG_GAP, STALL};
use crate::uring::{Chime, Driver, Ended, Event, Stats, prefetch};

/// How many events before its turn a connection's state is asked for: about as many as take as long as memory does.
const LOOK_AHEAD: usize = 1;

/// How often the host's clock is read, for the `Date` of answers, while there is something to do.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How long a core that has ended waits for others to have read what it said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a core thread is told from outside, besides its eventfd.
#[derive(Debug, Default)]
pub struct Orders {
    /// Finish what is in flight and end.
    pub drain: AtomicBool,
    /// Panic in the loop, once.
    #[cfg(test)]
    pub panic: AtomicBool,
}

impl crate::runtime::Knock for Chime {
    fn knock(&self) {
        Chime::knock(self);
    }
}

/// Rings the other cores' bells.
struct Bells<'a> {
    driver: &'a mut Driver,
    chimes: &'a [Arc<Chime>],
}

impl crate::ring::Bell for Bells<'_> {
    fn ring(&mut self, to: PortId) {
        if let Some(chime) = self.chimes.get(to.index()) {
            chime.ring_by(self.driver);
        }
    }
}

/// A clock that all of a process's cores read alike.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at 0 now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same in nanoseconds.
    pub fn nanos(&self) -> Nanos {
        self.now().as_nanos() as Nanos
    }
}

/// What a stream's end says of its peer.
fn end(why: Ended) -> End {
    match why {
        Ended::Eof => End::Finished,
        Ended::Error(_) if why.is_of_the_peer() => End::Reset,
        Ended::Error(_) => End::Failed,
    }
}

/// Why the loop ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// What the one connection of a process was answered could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The ring is unusable.
    #[error("its ring failed: {0}")]
    Ring(#[from] io::Error),
}

/// What of the driver's and the port's counts is in the core's counters already. They begin at 0 with every life of a
/// core; its counters go on.
#[derive(Default)]
struct Published {
    driver: Stats,
    port: PortCounts,
}

/// A send to standard output that failed, unless its reader has left: then nobody misses anything.
fn output_error(code: i32) -> Option<io::Error> {
    let why = Ended::Error(code);
    if why.is_given_up() {
        return Some(io::Error::new(io::ErrorKind::TimedOut, "its reader takes nothing"));
    }
    (!why.is_of_the_peer()).then(|| io::Error::from_raw_os_error(code))
}

/// What the loop runs on.
pub struct Loop<'a, S> {
    /// The ring.
    pub driver: &'a mut Driver,
    /// The machines.
    pub core: Core<S>,
    /// The executor's tasks.
    pub tasks: Tasks,
    /// Where handlers leave their mail.
    pub mailbox: Mailbox,
    /// The time.
    pub clock: Clock,
    /// Orders from outside.
    pub orders: Arc<Orders>,
    /// This core's counters.
    pub metrics: &'static CoreMetrics,
    /// Timers of handlers.
    pub alarms: super::alarms::Alarms,
    /// This core's ends of the mesh.
    pub port: Port<Header>,
    /// The bells of all cores, by number, and the control thread's.
    pub chimes: Vec<Arc<Chime>>,
    /// Most parcels taken from one core in one turn.
    pub batch_max: usize,
    /// Connections of listeners from this index on are dealt out to all cores; `usize::MAX` for none.
    pub accepts_for_all_from: usize,
    /// The core that got the last of them.
    pub turn_of: usize,
    /// The connection that is standard input and output, where there is one.
    pub pipes: Option<ConnectionId>,
    /// Whether nobody reads standard output any more.
    pub is_unread: fn() -> bool,
}

impl<S: Service> Loop<'_, S> {
    /// Runs until everything has drained.
    ///
    /// # Errors
    /// What made the ring unusable, or standard output if its reader has not left it.
    pub async fn run(&mut self) -> Result<(), LoopError> {
        let mut draining = false;
        let mut drained = false;
        let mut unwritten = None;
        let mut read_wall_clock = Duration::ZERO;
        let mut published = Published::default();
        let mut awake_since = self.clock.now();
        while !drained {
            let now = self.clock.now();
            let gap = now.saturating_sub(awake_since);
            self.metrics.longest_gap_ns.observe(gap.as_nanos() as u64);
            self.metrics.stalls.add(u64::from(gap >= STALL));
            if gap >= LONG_GAP {
                self.metrics.long_gaps.add(1);
                self.metrics.long_gap_ns.add(gap.as_nanos() as u64);
            }
            let mut wait = self.patience(now);
            if wait != Some(Duration::ZERO) {
                match self.port.try_sleep() {
                    true => self.metrics.pulse.rest(),
                    false => wait = Some(Duration::ZERO),
                }
            }
            self.driver.turn(now, wait)?;
            self.port.wake();
            let now = self.clock.now();
            awake_since = now;
            let nanos = now.as_nanos() as Nanos;
            self.metrics.pulse.beat(nanos);
            #[cfg(test)]
            assert!(!self.orders.panic.swap(false, Ordering::Relaxed), "a panic was ordered");
            if now >= read_wall_clock {
                read_wall_clock = now + WALL_CLOCK_EVERY;
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.core.step(nanos, Input::WallClock { unix: unix.as_nanos() as Nanos });
            }
            self.observe_deaths(nanos);
            let failed = self.take_events(nanos);
            // Nobody waits any more for what a drain cuts off.
            unwritten = unwritten.or(failed.filter(|_| !draining));
            self.take_parcels(nanos);
            if self.alarms.ring(nanos) + self.tasks.runnable() > 0 {
                self.tasks.run().await;
            }
            while let Some(mail) = self.mailbox.pop() {
                self.core.step(nanos, Input::Mail(mail));
            }
            if !draining && self.orders.drain.load(Ordering::Relaxed) {
                draining = true;
                self.core.step(nanos, Input::Drain);
            }
            if self.core.deadline().is_some_and(|deadline| deadline <= nanos) {
                self.core.step(nanos, Input::Tick);
            }
            drained = self.perform();
            self.send_parcels(nanos);
            self.publish(&mut published);
        }
        self.be_heard()?;
        unwritten.map_or(Ok(()), |error| Err(LoopError::Output(error)))
    }

    /// The last turns: bells leave with a turn, and a ring that nobody has looked into is lost with whoever filled it.
    /// So what was said last to other cores, which may be the answer to a call, is waited for until they have read it.
    fn be_heard(&mut self) -> io::Result<()> {
        // Nobody is to take this for a core that stands still.
        self.metrics.pulse.rest();
        let until = self.clock.now() + LAST_WORDS;
        loop {
            let now = self.clock.now();
            self.driver.turn(now, Some(Duration::from_millis(2)))?;
            while self.driver.next_event().is_some() {}
            let nanos = self.clock.nanos();
            // Others may be at their last words as well.
            self.take_parcels(nanos);
            self.port.observe(|_, _| ());
            self.send_parcels(nanos);
            if now >= until || self.core.has_said_all() && self.port.is_heard() {
                // What was read just now may have been waited for.
                return self.driver.turn(self.clock.now(), Some(Duration::ZERO));
            }
        }
    }

    /// How long the turn may wait: not at all if anything is left to do, else until the next deadline.
    fn patience(&self, now: Duration) -> Option<Duration> {
        let lingers = self.core.lingers(now.as_nanos() as Nanos);
        if lingers || self.tasks.runnable() > 0 || !self.mailbox.is_empty() || self.core.has_work() {
            return Some(Duration::ZERO);
        }
        let next = match (self.core.deadline(), self.alarms.next()) {
            (Some(one), Some(other)) => one.min(other),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        Some(Duration::from_nanos(next).saturating_sub(now).max(Duration::from_nanos(1)))
    }

    /// Hands every event to the core; what kept standard output from being written, if that happened.
    fn take_events(&mut self, now: Nanos) -> Option<io::Error> {
        let mut unwritten = None;
        while let Some(event) = self.driver.next_event() {
            if let Some(connection) = self.driver.coming(LOOK_AHEAD).and_then(|id| self.core.in_place_of(id)) {
                prefetch(connection);
            }
            match event {
                Event::Accepted { stream, listener, peer } => match self.elsewhere(listener) {
                    Some(ring) => self.driver.hand_over(stream, ring, listener),
                    None => self.core.step(now, Input::Accepted { id: stream, listener, peer }),
                },
                Event::Kept { stream, listener } => {
                    self.core.step(now, Input::Accepted { id: stream, listener, peer: None });
                }
                Event::Bell => {}
                Event::Connected { token, outcome } => self.core.step(now, Input::Connected { token, outcome }),
                Event::Closed { stream } => self.core.step(now, Input::Closed(stream)),
                Event::Ended { stream, why } => {
                    // Who has left altogether is not waited for.
                    let is_alone = self.pipes == Some(stream) && (self.is_unread)();
                    let how = if is_alone { End::Reset } else { end(why) };
                    self.core.step(now, Input::Ended { id: stream, how });
                }
                Event::Foreign => self.tasks.wake_foreign(),
                Event::HungUp { stream } => self.core.step(now, Input::HungUp(stream)),
                Event::Received { stream, lease } => {
                    // Seen from outside only while a step takes long, which is when it is asked for.
                    self.metrics.buffers_in_use.set(self.driver.leases() as u64);
                    let bytes = self.driver.bytes(&lease);
                    self.metrics.bytes_in.add(bytes.len() as u64);
                    self.core.step(now, Input::Received { id: stream, bytes });
                    self.driver.release(lease);
                }
                Event::Sent { stream, buffer, result } => {
                    self.metrics.bytes_out.add(buffer.len() as u64);
                    if self.pipes == Some(stream) {
                        unwritten = unwritten.or(result.err().and_then(output_error));
                    }
                    self.core.step(now, Input::Sent { id: stream, buffer, whole: result.is_ok() });
                }
                Event::SentSome { stream } => self.core.step(now, Input::SentSome(stream)),
            }
        }
        unwritten
    }

    /// The ring of the core whose turn it is to take a connection of a listener that this core accepts from for all;
    /// none if that is this core itself, or a core that cannot be reached.
    fn elsewhere(&mut self, listener: usize) -> Option<RawFd> {
        if listener < self.accepts_for_all_from {
            return None;
        }
        // The last chime is the control thread's.
        let cores = self.chimes.len() - 1;
        let moves = |turn: &usize| !self.chimes[*turn].is_avoided.load(Ordering::Relaxed);
        let next = (1..=cores).map(|further| (self.turn_of + further) % cores).find(moves);
        self.turn_of = next.unwrap_or(self.core.id.index());
        let ring = self.chimes[self.turn_of].ring.load(Ordering::Acquire);
        (ring >= 0 && self.turn_of != self.core.id.index()).then_some(ring)
    }

    /// Hears of cores that died, before anything else of the turn is sent to their successors.
    fn observe_deaths(&mut self, now: Nanos) {
        // In a drain there are no successors, and what a core said before it ended is to be heard: it ended because it
        // had answered.
        if self.orders.drain.load(Ordering::Relaxed) {
            self.take_parcels(now);
        }
        let core = &mut self.core;
        self.port.observe(|peer, _| core.step(now, Input::PeerLost(CoreId(peer.0))));
    }

    /// Takes what other cores sent, so many parcels from each.
    fn take_parcels(&mut self, now: Nanos) {
        let core = &mut self.core;
        self.port.drain(self.batch_max, |from, header, payload| {
            // Cannot fail: a header is plain numbers.
            if let Ok(header) = rkyv::deserialize::<Header, rkyv::rancor::Failure>(header) {
                core.step(now, Input::Parcel { from: CoreId(from.0), header, payload });
            }
        });
    }

    /// Moves the outbox into the rings and rings the bells of who sleeps.
    fn send_parcels(&mut self, now: Nanos) {
        let port = &mut self.port;
        let mut gone = Vec::new();
        self.core.flush_outbox(|to, header, payload| match port.try_send(to, header, payload) {
            Ok(_) => Delivery::Done,
            Err(Refused::Full) => Delivery::Full,
            // What comes in by a socket has lower limits than a ring, an answer that is too long was replaced
            // (`pump`), and of a notification that no ring can carry nobody hears.
            Err(Refused::TooLarge) => Delivery::Done,
            // Nobody is there any more, and perhaps nobody will be: who waits for an answer is told now.
            Err(Refused::Gone) => {
                gone.push(to);
                Delivery::Done
            }
        });
        gone.dedup();
        for to in gone {
            self.core.step(now, Input::PeerUnreachable(to));
        }
        self.port.ring_bells(&mut Bells { driver: &mut *self.driver, chimes: &self.chimes });
    }

    /// Performs what the machines want done; true once everything has drained.
    fn perform(&mut self) -> bool {
        let mut drained = false;
        let (mut undone, mut adopted) = (Vec::new(), Vec::new());
        loop {
            let driver = &mut *self.driver;
            self.core.effects(|effect| match effect {
                Effect::Adopt { read, write, token } => adopted.push((token, driver.adopt_owned(read, write))),
                Effect::Close(id) => driver.close(id),
                Effect::Connect { address, token } => driver.connect(&address, token),
                Effect::Drained => drained = true,
                Effect::GiveUp(token) => driver.cancel_connect(token),
                Effect::Read(id, wanted) => driver.read(id, wanted),
                Effect::Send(id, buffer) => {
                    if let Err(buffer) = driver.send(id, buffer) {
                        undone.push((id, buffer));
                    }
                }
                Effect::Shutdown(id) => driver.shutdown(id),
                Effect::StopAccepting => driver.stop_accepting(),
            });
            let is_done = adopted.is_empty();
            for (id, buffer) in undone.drain(..) {
                // The stream is closing already; its end is on the way as an event.
                let now = self.clock.nanos();
                self.core.step(now, Input::Sent { id, buffer, whole: false });
            }
            for (token, id) in adopted.drain(..) {
                let now = self.clock.nanos();
                self.core.step(now, Input::Connected { token, outcome: Ok(id) });
            }
            // Whoever got a link may have something to send on it, and nothing else would wake the core for that.
            if is_done {
                return drained;
            }
        }
    }

    /// Lets the control thread see what the driver and the port counted.
    fn publish(&self, published: &mut Published) {
        let (driver, port) = (self.driver.stats(), self.port.counts());
        let (before, port_before) = (&published.driver, &published.port);
        self.metrics.turns.add(1);
        self.metrics.buffers_in_use.set(self.driver.leases() as u64);
        self.metrics.enters.add(driver.enters - before.enters);
        self.metrics.sleeps.add(driver.sleeps - before.sleeps);
        self.metrics.recv_enobufs.add(driver.buffer_shortages - before.buffer_shortages);
        let (buffers, sends) = self.driver.memory_in_use();
        self.metrics.receive_buffers.set(buffers as u64);
        self.metrics.sends_in_flight.set(sends as u64);
        self.metrics.completion_overflows.add(driver.overflows - before.overflows);
        self.metrics.stale_completions.add(driver.stale - before.stale);
        self.metrics.accepts_exhausted.add(driver.accepts_exhausted - before.accepts_exhausted);
        self.metrics.overshoot_bytes.add(driver.overshoot_bytes - before.overshoot_bytes);
        self.metrics.bells_lost.add(driver.bells_lost - before.bells_lost);
        self.metrics.hand_overs_refused.add(driver.hand_overs_refused - before.hand_overs_refused);
        self.metrics.bells_rung.add(port.bells_rung - port_before.bells_rung);
        self.metrics.bells_saved.add(port.bells_saved - port_before.bells_saved);
        *published = Published { driver, port };
    }
}

impl<S: Service> Core<S> {
    /// Whatever connection has this one's place. Nothing of it is read, so as not to wait for its memory.
    fn in_place_of(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot as usize)?.as_deref()
    }
}
