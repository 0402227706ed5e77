//! A core: its connections, exchanges, shards and service, as one synchronous machine.
//!
//! `step` takes what happened and the time, and leaves behind effects: what to send, read, close. Not here: what a
//! request means (`http`, `lines`, `router`), sockets, clocks (`drive` and the simulator own those).
//! Invariant: between two steps every connection is in the table, and whatever it has to send is in its `out`.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::accept::Admission;
use super::carried::Carried;
use super::connection::{Connection, Phase, Wire};
use super::drain::Drain;
use super::exchange::{ExchangeKey, Exchanges, Sink};
use super::laps::{Laps, ReadClock};
use super::outbox::Outbox;
use super::parcel::{Header, Numbers};
use super::pool::Pool;
use super::registry::CoreRegistry;
use super::replayed::Replayed;
use super::service::{LinkEvent, Mail, Nanos, Service, Wish};
use super::settings::Settings;
use super::subscriptions::Subscriptions;
use super::telling::Telling;
use super::timers::{send_deadline, set_timer};
use super::wheel::Wheel;
use crate::ids::{ConnectionId, CoreId, OutboundAddress, View};
use crate::limits::STDIO_LAST_CALLS_NS;
use crate::metrics::{CloseCause, CoreMetrics, Refusal, Step};
use crate::proto::http1::{HeadTemplates, Stamp};
use crate::proto::json::Scanner;
use crate::proto::jsonrpc::Code;
use crate::shard::Shards;
use crate::shard::permits::Permits;
use crate::shard::range::BoundaryTable;
use crate::shard::seal::Sealer;

/// What happened to a core.
pub enum Input<'a> {
    /// A connection came in.
    Accepted {
        /// The new connection.
        id: ConnectionId,
        /// Index of the listener it came by.
        listener: usize,
        /// Where it came from.
        peer: Option<SocketAddr>,
    },
    /// A connection is closed and its slot free.
    Closed(ConnectionId),
    /// An attempt to open a link of the service's ended.
    Connected {
        /// Names the attempt.
        token: u64,
        /// The link, or the kernel's error number.
        outcome: Result<ConnectionId, i32>,
    },
    /// Take no more connections and bring to an end what is in flight.
    Drain,
    /// The peer sends no more.
    Ended {
        /// The connection.
        id: ConnectionId,
        /// What its end was like.
        how: End,
    },
    /// The service has mail.
    Mail(Mail),
    /// Another core sent a parcel.
    Parcel {
        /// That core.
        from: CoreId,
        /// What it is.
        header: Header,
        /// The text that goes with it.
        payload: &'a [u8],
    },
    /// Another core died; once for each death.
    PeerLost(CoreId),
    /// Nothing reaches another core, which died; as often as that is found.
    PeerUnreachable(CoreId),
    /// Bytes came in.
    Received {
        /// The connection.
        id: ConnectionId,
        /// The bytes, as they came by the wire; not needed any more afterwards.
        bytes: &'a mut [u8],
    },
    /// A send ended.
    Sent {
        /// The connection.
        id: ConnectionId,
        /// The buffer that was sent.
        buffer: Vec<u8>,
        /// All of it arrived in the kernel.
        whole: bool,
    },
    /// Part of a send was taken: its peer reads, however slowly.
    SentSome(ConnectionId),
    /// The peer of a connection that is not being read has shut its side. What it sent before may still be unread.
    HungUp(ConnectionId),
    /// Time passed.
    Tick,
    /// The host's clock, which may have been set since it was read last.
    WallClock {
        /// Nanoseconds since the Unix epoch, now.
        unix: Nanos,
    },
}

pub use super::service::End;

/// What is to be done about it.
#[derive(Debug)]
pub enum Effect {
    /// Make a link of pipes for the service.
    Adopt {
        /// What is read.
        read: OwnedFd,
        /// What is written, if anything.
        write: Option<OwnedFd>,
        /// Names it until `Input::Connected`.
        token: u64,
    },
    /// Close the connection at once.
    Close(ConnectionId),
    /// Open a link for the service.
    Connect {
        /// Where to.
        address: OutboundAddress,
        /// Names the attempt.
        token: u64,
    },
    /// All connections are gone after a drain.
    Drained,
    /// Give up the attempt of this name.
    GiveUp(u64),
    /// Read the connection, or do not.
    Read(ConnectionId, bool),
    /// Send a buffer, whole.
    Send(ConnectionId, Vec<u8>),
    /// Tell the peer that nothing more will be sent.
    Shutdown(ConnectionId),
    /// Accept no more.
    StopAccepting,
}

const SECOND: Nanos = 1_000_000_000;

/// The tick of the core's wheel.
pub(crate) const TICK: Nanos = 16_000_000;

/// What a wheel's entry is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Connection(ConnectionId),
    Drain,
    Exchange(ExchangeKey),
    Sessions,
}

/// One core's state. `S` answers its calls.
pub struct Core<S> {
    pub(super) id: CoreId,
    pub(super) settings: Settings,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    pub(super) open: usize,
    pub(super) exchanges: Exchanges,
    pub(super) shards: Shards<ExchangeKey>,
    pub(super) subscriptions: Subscriptions,
    pub(super) sealer: Sealer,
    pub(super) service: S,
    pub(super) scanner: Scanner,
    /// What heads of its connections are alike.
    pub(super) heads: HeadTemplates,
    pub(super) outbox: Outbox,
    /// How many cores there are.
    pub(super) cores: u16,
    pub(super) table: BoundaryTable,
    /// Whom the batch that is being read is from.
    pub(super) batch_of: Option<Sink>,
    /// Exchanges whose connection is at home on another core, by that core and its ticket; a batch has several.
    pub(super) remotes: BTreeSet<(CoreId, Numbers, Numbers)>,
    pub(super) metrics: &'static CoreMetrics,
    pub(super) laps: Laps,
    pub(super) now: Nanos,
    /// Seconds since the Unix epoch at nanosecond 0 of `now`.
    pub(super) epoch: u64,
    /// Nanoseconds since the Unix epoch at nanosecond 0 of `now`, by the host's clock as it is set now.
    unix_at_zero: Nanos,
    /// The `Date` of the second in which something was answered last, and when that second ends.
    stamp: Stamp,
    stamp_until: Nanos,
    pub(super) admission: Admission,
    pub(super) drain: Drain,
    /// The connection whose step this is, as far as there is one.
    pub(super) about: Option<ConnectionId>,
    /// What the last message failed with, if it did.
    pub(super) failed: Option<Code>,
    effects: Vec<Effect>,
    dirty: Vec<ConnectionId>,
    /// Connections whose exchange ended: their next frames may be taken.
    pub(super) resumable: VecDeque<ConnectionId>,
    /// Connections shared by several calls, of which one was cancelled.
    pub(super) concluded: Vec<(ConnectionId, ExchangeKey)>,
    /// What connections are still to be told of their own steps.
    pub(super) belated: VecDeque<(ConnectionId, Vec<u8>)>,
    pub(super) wheel: Wheel<Timer>,
    pub(super) replayed: Replayed,
    /// Connections whose message waits, by the view that it is for.
    pub(super) early: BTreeSet<(View, ConnectionId)>,
    /// The `Host` that was accepted last.
    pub(super) host_before: Vec<u8>,
    /// This core's member of the registry, if it has joined one.
    pub(super) registry: Option<CoreRegistry>,
    /// Buffers, empty.
    pub(super) pool: Pool,
    /// What connections carry, all together.
    pub(super) carried: Carried,
    /// What changed and is still to be told.
    pub(super) telling: Telling,
}

/// What a core is made of.
pub struct CoreParts<S> {
    /// Which core it is.
    pub id: CoreId,
    /// What the operator chose.
    pub settings: Settings,
    /// Which core owns which shard.
    pub table: BoundaryTable,
    /// Its shards.
    pub shards: Shards<ExchangeKey>,
    /// Seals what goes through clients' hands.
    pub sealer: Sealer,
    /// Its part of the connections that there may be.
    pub permits: Permits,
    /// Answers its calls.
    pub service: S,
    /// Its counters.
    pub metrics: &'static CoreMetrics,
    /// For timing the steps of a request; nothing that is decided depends on it.
    pub clock: ReadClock,
    /// Seconds since the Unix epoch at nanosecond 0.
    pub epoch: u64,
}

impl<S: Service> Core<S> {
    /// A core with no connections.
    pub fn new(parts: CoreParts<S>) -> Core<S> {
        let mut wheel = Wheel::default();
        wheel.insert(1, Timer::Sessions);
        Core {
            id: parts.id,
            admission: Admission::of(&parts.settings, parts.permits),
            settings: parts.settings,
            connections: Vec::new(),
            open: 0,
            exchanges: Exchanges::default(),
            shards: parts.shards,
            subscriptions: Subscriptions::default(),
            sealer: parts.sealer,
            service: parts.service,
            scanner: Scanner::new(),
            heads: HeadTemplates::default(),
            outbox: Outbox::default(),
            cores: parts.table.cores() as u16,
            table: parts.table,
            batch_of: None,
            remotes: BTreeSet::new(),
            metrics: parts.metrics,
            laps: Laps::new(parts.clock, parts.metrics),
            now: 0,
            epoch: parts.epoch,
            unix_at_zero: parts.epoch.saturating_mul(SECOND),
            stamp: Stamp::new(parts.epoch),
            stamp_until: SECOND,
            drain: Drain::default(),
            about: None,
            failed: None,
            effects: Vec::new(),
            dirty: Vec::new(),
            resumable: VecDeque::new(),
            concluded: Vec::new(),
            belated: VecDeque::new(),
            wheel,
            replayed: Replayed::default(),
            early: BTreeSet::new(),
            host_before: Vec::new(),
            registry: None,
            pool: Pool::default(),
            carried: Carried::default(),
            telling: Telling::default(),
        }
    }

    /// Has the core carry what this member of the registry and its peers say to each other, and keep its time.
    pub fn join(&mut self, registry: CoreRegistry) {
        self.registry = Some(registry);
    }

    /// Takes note of what happened at `now`. What is to be done about it is collected by `effects`.
    pub fn step(&mut self, now: Nanos, input: Input<'_>) {
        self.now = now;
        self.about = None;
        match input {
            Input::Accepted { id, listener, peer } => self.accepted(id, listener, peer),
            Input::Closed(id) => self.closed(id),
            Input::Connected { token, outcome } => self.service.link(now, LinkEvent::Connected { token, outcome }),
            Input::Drain => self.begin_drain(),
            Input::Ended { id, how } => self.ended(id, how),
            Input::Mail(mail) => self.mail(mail),
            Input::Parcel { from, header, payload } => self.parcel(from, header, payload),
            Input::PeerLost(peer) => self.peer_lost(peer),
            Input::PeerUnreachable(peer) => self.peer_unreachable(peer),
            Input::Received { id, bytes } => self.received(id, bytes),
            Input::Sent { id, buffer, whole } => self.sent(id, buffer, whole),
            Input::HungUp(id) => self.hung_up(id),
            Input::SentSome(id) => self.with(id, |core, connection| connection.send_moves(core.now)),
            Input::Tick => self.tick(),
            Input::WallClock { unix } => self.unix_at_zero = unix.saturating_sub(now),
        }
    }

    /// Hands out what is to be done. To be called at the end of a turn, so that all answers of the turn on one
    /// connection leave in one send.
    pub fn effects(&mut self, mut perform: impl FnMut(Effect)) {
        if !self.telling.is_over() {
            self.go_on_telling();
        }
        while let Some((id, message)) = self.belated.pop_front() {
            self.with(id, |core, connection| core.say_belated(connection, &message));
        }
        while let Some((id, key)) = self.concluded.pop() {
            self.with(id, |core, connection| core.one_concluded(connection, key));
        }
        while let Some(id) = self.resumable.pop_front() {
            self.resume(id);
        }
        if self.carried.is_over() {
            self.make_room();
        }
        while let Some(id) = self.dirty.pop() {
            let Some(connection) = lookup(&mut self.connections, id) else { continue };
            connection.dirty = false;
            if connection.sending == 0 && connection.has_to_send() && connection.phase != Phase::Closing {
                let mut buffer = std::mem::take(&mut connection.out);
                connection.unasked = 0;
                if let Some(filter) = &mut connection.filter {
                    buffer = filter.seal(buffer);
                }
                if !buffer.is_empty() {
                    connection.sending = buffer.len();
                    if self.laps.times_send() {
                        connection.sending_since = self.now;
                    }
                    // The last step could not know of this: a send that never moves is looked for from now on.
                    connection.send_moves(self.now);
                    connection.deadline = send_deadline(&self.settings, &self.drain, connection);
                    set_timer(&mut self.wheel, connection);
                    perform(Effect::Send(id, buffer));
                }
            }
        }
        for effect in self.effects.drain(..) {
            perform(effect);
        }
        let (outbox, metrics) = (&mut self.outbox, self.metrics);
        self.service.wishes(self.now, &mut |wish| match wish {
            Wish::Adopt { read, write, token } => perform(Effect::Adopt { read, write, token }),
            Wish::Close(id) => perform(Effect::Close(id)),
            Wish::Connect { address, token } => perform(Effect::Connect { address, token }),
            Wish::GiveUp(token) => perform(Effect::GiveUp(token)),
            Wish::Read(id, wanted) => perform(Effect::Read(id, wanted)),
            Wish::Send(id, buffer) => perform(Effect::Send(id, buffer)),
            Wish::Tell { to, what, text } => {
                let (kind, about, number) = (what.kind, what.about, what.number);
                outbox.post(to, Header::Service { kind, about, number }, text);
                metrics.parcels_sent.add(1);
            }
        });
        // The service may just have come to know somebody.
        self.end_waits();
        if self.is_drained() {
            self.log_drain("nothing is left");
            perform(Effect::Drained);
        }
    }

    /// When `Input::Tick` is due next.
    pub fn deadline(&self) -> Option<Nanos> {
        let registry = self.registry.as_ref().and_then(|registry| registry.machine().deadline());
        let next = self.wheel.next().map(|tick| tick * TICK);
        next.into_iter().chain(registry).chain(self.service.deadline()).min()
    }

    /// Whether a turn without new input would still do something.
    pub fn has_work(&self) -> bool {
        let registry = || self.registry.as_ref().is_some_and(|registry| registry.machine().has_mail(&self.outbox));
        !self.resumable.is_empty()
            || !self.concluded.is_empty()
            || !self.belated.is_empty()
            || !self.dirty.is_empty()
            || !self.effects.is_empty()
            || !self.telling.is_over()
            || self.carried.is_over()
            || registry()
    }

    /// Whether sleeping now is likely to cost more than looking again: other cores are talking with this one.
    pub fn lingers(&self, now: Nanos) -> bool {
        self.registry.as_ref().is_some_and(|registry| registry.machine().lingers(now))
    }

    /// Whoever answers the calls.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// Connections open, exchanges in flight, sessions alive.
    pub fn population(&self) -> (usize, usize, usize) {
        (self.open, self.exchanges.len(), self.shards.sessions())
    }

    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        lookup(&mut self.connections, id)
    }

    /// Takes a connection out of the table for a step; `put` brings it back.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let entry = self.connections.get_mut(id.slot as usize)?;
        let taken = entry.take_if(|connection| connection.id == id)?;
        self.about = Some(id);
        Some(taken)
    }

    pub(super) fn put(&mut self, mut connection: Box<Connection>) {
        if connection.ended && connection.phase == Phase::Open && connection.wire() == Wire::Lines {
            self.end_what_needs_a_peer(&mut connection);
            if connection.has_no_line_left() {
                self.release_duplex(&mut connection);
                self.finish(&mut connection, CloseCause::PeerClosed);
            }
        }
        if self.drain.is_on() {
            self.drain_connection(&mut connection);
        }
        self.settle(&mut connection);
        let slot = connection.id.slot as usize;
        self.connections[slot] = Some(connection);
    }

    /// Does something with a connection that is in the table, and settles what follows from it.
    pub(super) fn with(&mut self, id: ConnectionId, change: impl FnOnce(&mut Self, &mut Connection)) {
        if let Some(mut connection) = self.take(id) {
            change(self, &mut connection);
            self.put(connection);
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn refused(&self, cause: Refusal) {
        self.metrics.refuse(cause);
        self.log_refused(cause);
    }

    fn ended(&mut self, id: ConnectionId, how: End) {
        let Some(mut connection) = self.take(id) else {
            return self.service.link(self.now, LinkEvent::Ended { id, how });
        };
        // The end of the wire is the peer's word only if no filter knows better.
        let truncated = connection.filter.as_ref().is_some_and(|filter| !filter.peer_has_ended());
        let heard = std::mem::replace(&mut connection.ended, true);
        connection.reading = false;
        let cause = match how {
            End::Finished if truncated => Some(CloseCause::PeerReset),
            End::Finished => None,
            End::Reset => Some(CloseCause::PeerReset),
            End::Failed => Some(CloseCause::IoError),
        };
        match cause {
            Some(cause) => {
                self.abandon(&mut connection);
                self.close(&mut connection, cause);
            }
            None if heard => {}
            None => self.peer_finished(&mut connection),
        }
        self.put(connection);
    }

    /// A client has left that sent more than may wait behind its request: nobody reads on to find its end.
    fn hung_up(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.take(id) else { return };
        // On lines a shut side asks for what came before it to be answered; over HTTP nobody is there to hear it.
        if connection.wire() == Wire::Http && !connection.ended && !connection.reading {
            connection.ended = true;
            self.peer_finished(&mut connection);
        }
        self.put(connection);
    }

    /// The peer's side is shut: what it asked for is answered as far as its transport lets it hear the answer.
    pub(super) fn peer_finished(&mut self, connection: &mut Connection) {
        match connection.wire() {
            // Lines: like a pipe that was closed behind the last request; what is in flight is still answered.
            Wire::Lines if connection.phase == Phase::Open => {
                // The end of the input ends the last line as well.
                if connection.carry.last().is_some_and(|&last| last != b'\n') {
                    connection.carry.push(b'\n');
                    self.consume_carry(connection);
                }
                // Who closes standard input wants the process gone (2025-11-25, "Shutdown").
                if self.settings.ends_when_empty {
                    // Nor is it waited for any longer than others are if it reads nothing.
                    connection.sent_at = self.now;
                    self.remind_of_drain(self.now + STDIO_LAST_CALLS_NS);
                }
            }
            Wire::Http if connection.phase == Phase::Open => {
                // A closed answer stream cancels a modern call (2026-07-28, "Disconnection"), not a legacy one.
                self.abandon(connection);
                self.finish(connection, CloseCause::PeerClosed);
            }
            _ => self.finish(connection, CloseCause::PeerClosed),
        }
    }

    fn sent(&mut self, id: ConnectionId, buffer: Vec<u8>, whole: bool) {
        let Some(mut connection) = self.take(id) else {
            return self.service.link(self.now, LinkEvent::Sent { id, buffer, whole });
        };
        self.give_buffer(buffer);
        connection.sending = 0;
        connection.send_moves(self.now);
        if connection.sending_since > 0 {
            self.metrics.step(Step::Write).record(self.now.saturating_sub(connection.sending_since));
            connection.sending_since = 0;
        }
        if !whole && connection.phase != Phase::Closing {
            self.abandon(&mut connection);
            self.close(&mut connection, CloseCause::PeerReset);
        } else if connection.phase == Phase::Open && !connection.carry.is_empty() {
            self.resumable.push_back(id);
        }
        self.put(connection);
    }

    fn closed(&mut self, id: ConnectionId) {
        if let Some(mut connection) = self.take(id) {
            self.forget_early(&mut connection);
            debug_assert!(connection.phase == Phase::Closing, "only what was given up is closed");
            if let Some((_, timer)) = connection.timer {
                self.wheel.remove(timer);
            }
            self.uses_session(&mut connection, None);
            self.has_left(&connection);
            if self.open == 0 && self.settings.ends_when_empty {
                self.effect(Effect::Drained);
            }
        } else {
            self.service.link(self.now, LinkEvent::Closed(id));
        }
    }

    /// No more frames are taken; what is to be sent is sent, then the connection goes.
    pub(super) fn finish(&mut self, connection: &mut Connection, cause: CloseCause) {
        if connection.phase == Phase::Open {
            self.metrics.close(cause);
            self.log_closed(connection, cause);
            connection.phase = Phase::Finishing;
            // The time to linger begins now, however long ago the peer was heard of.
            connection.active_at = self.now;
        }
    }

    /// Gives the connection up at once; what is still to be sent is lost.
    pub(super) fn close(&mut self, connection: &mut Connection, cause: CloseCause) {
        if connection.phase == Phase::Open {
            self.metrics.close(cause);
            self.log_closed(connection, cause);
        }
        if connection.phase != Phase::Closing {
            connection.phase = Phase::Closing;
            self.effect(Effect::Close(connection.id));
        }
    }

    /// What follows from a connection's state once a step has changed it: sending, reading, lingering, its timer.
    fn settle(&mut self, connection: &mut Connection) {
        if connection.phase == Phase::Finishing
            && connection.egress() == 0
            && let Some(filter) = &mut connection.filter
        {
            filter.finish();
        }
        if connection.has_to_send() && !connection.dirty && connection.phase != Phase::Closing {
            connection.dirty = true;
            self.dirty.push(connection.id);
        }
        if matches!(connection.phase, Phase::Finishing | Phase::Lingering) && connection.egress() == 0 {
            if connection.ended {
                self.close(connection, CloseCause::PeerClosed);
            } else if connection.phase == Phase::Finishing {
                connection.phase = Phase::Lingering;
                connection.active_at = self.now;
                self.effect(Effect::Shutdown(connection.id));
            }
        }
        if connection.phase != Phase::Open {
            self.give_buffer(std::mem::take(&mut connection.carry));
            connection.framing.let_go();
        }
        // Taken for an answer, and then there was none, nor will be.
        if connection.out.is_empty() && connection.out.capacity() > 0 && connection.owes_nothing() {
            self.give_buffer(std::mem::take(&mut connection.out));
        }
        self.weigh(connection);
        let wanted = match connection.phase {
            Phase::Open => !connection.ended && !self.holds_enough(connection),
            Phase::Finishing | Phase::Lingering => !connection.ended,
            Phase::Closing => false,
        };
        if wanted != connection.reading && connection.phase != Phase::Closing && !connection.ended {
            connection.reading = wanted;
            if !wanted && connection.exchange.is_some() {
                self.refused(Refusal::PipelineFull);
            }
            self.effect(Effect::Read(connection.id, wanted));
        }
        connection.deadline = self.deadline_of(connection);
        set_timer(&mut self.wheel, connection);
    }

    /// Whether a connection holds as many unread bytes as it may while its turn has not come.
    fn holds_enough(&self, connection: &Connection) -> bool {
        if connection.carry.is_empty() {
            return false;
        }
        let most = if self.carried.has_room() { self.settings.pipeline_bytes } else { 1 };
        connection.carry.len() >= most && self.is_occupied(connection)
    }

    /// Seconds since the Unix epoch, by the host's clock as it was at the start.
    pub(super) fn second(&self) -> u64 {
        self.epoch.saturating_add(self.now / SECOND)
    }

    /// The `Date` of answers given now: made anew when its second is over.
    pub(super) fn stamp(&mut self) -> &Stamp {
        if self.now >= self.stamp_until {
            let second = self.unix_at_zero.saturating_add(self.now) / SECOND;
            self.stamp = Stamp::new(second);
            self.stamp_until = (second + 1).saturating_mul(SECOND).saturating_sub(self.unix_at_zero);
        }
        &self.stamp
    }

    /// An empty buffer, from the pool if there is one.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.pool.take()
    }

    pub(super) fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }
}

/// A connection in the table, unless its slot has another tenant by now.
fn lookup(table: &mut [Option<Box<Connection>>], id: ConnectionId) -> Option<&mut Connection> {
    table.get_mut(id.slot as usize)?.as_deref_mut().filter(|connection| connection.id == id)
}
