//! The audit: everything that a core holds, looked at together, for what two places say differently.
//!
//! Each table of a core is kept right by whoever changes it; here they are held against each other: connections against
//! exchanges, exchanges against sessions, all of them against what is counted. Not here: whether a client hears what it
//! should. It looks at everything, so it is for tests and simulations, never for turns.
//! Invariant: it changes nothing; what it says holds between two turns, when nothing is left to be done.

use super::carried::LITTLE;
use super::connection::{Connection, Phase};
use super::core::Core;
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::service::Service;
use crate::ids::ConnectionId;
use crate::limits::COMING_BYTES_PER_CORE_MAX;
use crate::shard::session::SessionKey;

/// What a core holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    /// Connections in the table.
    pub connections: usize,
    /// Exchanges of all kinds.
    pub exchanges: usize,
    /// Of these, calls that the service works on.
    pub calls: usize,
    /// Of these, requests of which another core does the work.
    pub forwarded: usize,
    /// Of these, streams that somebody hears.
    pub streams: usize,
    /// Sessions that live.
    pub sessions: usize,
    /// Most calls in flight on one connection or for one session.
    pub in_flight_most: usize,
    /// Most unread bytes that one connection holds.
    pub carry_most: usize,
    /// Most unsent bytes that one connection holds.
    pub egress_most: usize,
    /// Parcels in the outbox.
    pub parcels: usize,
    /// Most bytes of parcels that wait for one core.
    pub outbox_most: usize,
}

/// An error unless a sentence holds.
fn hold(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl<S: Service> Core<S> {
    /// Looks at everything. To be asked between two turns.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn audit(&mut self) -> Result<Census, String> {
        let mut census = Census::default();
        hold(!self.has_work(), || "an audit is for the end of a turn, and something is left to do".to_owned())?;
        self.audit_exchanges(&mut census)?;
        self.audit_connections(&mut census)?;
        self.audit_sessions(&mut census)?;
        (census.parcels, census.outbox_most) = self.outbox.audit()?;
        let (weighed, counted) = self.subscriptions.weigh();
        hold(weighed == counted, || format!("subscriptions take {weighed} bytes, counted as {counted}"))?;
        let gauges = [
            ("connections_open", self.metrics.connections_open.get(), census.connections),
            ("connections_served", self.metrics.connections_served.get(), self.served()),
            ("connections of addresses", self.admission.counted_for_peers(), self.counted_for_peers()),
            ("permits", self.admission.served() as u64, self.served()),
            ("calls_in_flight", self.metrics.calls_in_flight.get(), census.calls),
            ("streams_open", self.metrics.streams_open.get(), census.streams),
            ("sessions_open", self.metrics.sessions_open.get(), census.sessions),
        ];
        for (name, counted, there) in gauges {
            hold(counted == there as u64, || format!("{name} says {counted}, and there are {there}"))?;
        }
        for (shard, own) in self.metrics.shards() {
            let uses = |connection: &&Connection| connection.session.is_some_and(|key| key.shard == shard);
            let there = self.connections.iter().flatten().map(|connection| &**connection).filter(uses).count();
            let counted = own.connections.get();
            hold(counted == there as u64, || format!("{shard} says {counted} connections, and {there} use it"))?;
        }
        Ok(census)
    }

    fn counted_for_peers(&self) -> usize {
        let counts = |peer| self.admission.counts(peer);
        let served = self.connections.iter().flatten().filter(|connection| connection.is_served);
        served.filter(|connection| connection.peer.is_some_and(counts)).count()
    }

    fn served(&self) -> usize {
        self.connections.iter().flatten().filter(|connection| connection.is_served).count()
    }

    fn audit_exchanges(&self, census: &mut Census) -> Result<(), String> {
        let mut remote = 0;
        for key in self.exchanges.keys(|_| true) {
            let Some(exchange) = self.exchanges.get(key) else {
                return Err(format!("{key:?} is listed and not there"));
            };
            census.exchanges += 1;
            census.calls += usize::from(exchange.kind == Kind::Call);
            census.forwarded += usize::from(matches!(exchange.kind, Kind::Forwarded { .. }));
            census.streams += usize::from(is_heard_stream(exchange));
            match exchange.sink {
                Sink::Http(id) | Sink::Lines(id) => {
                    let knows = self.at(id).is_some_and(|connection| knows(connection, key));
                    hold(knows, || format!("{id} is to hear of {key:?} and does not know it: {exchange:?}"))?;
                }
                Sink::Nobody => hold(exchange.session.is_some(), || format!("nobody can ever hear of {key:?}"))?,
                Sink::Remote { core, ticket } => {
                    remote += 1;
                    let known = self.remotes.contains(&(core, ticket.into(), key.into()));
                    hold(known, || format!("{core} waits for {key:?} by {ticket:?}, which is not noted"))?;
                }
            }
        }
        hold(census.exchanges == self.exchanges.len(), || "exchanges are counted wrong".to_owned())?;
        let noted = self.remotes.len();
        hold(remote == noted, || format!("{noted} exchanges are noted as other cores', and {remote} are"))
    }

    fn audit_connections(&self, census: &mut Census) -> Result<(), String> {
        let (mut waits, mut coming, mut standing) = (0, 0, 0);
        for connection in self.connections.iter().flatten() {
            let id = connection.id;
            census.connections += 1;
            census.carry_most = census.carry_most.max(connection.carry.len());
            census.egress_most = census.egress_most.max(connection.egress());
            let holds = |buffer: &Vec<u8>| buffer.is_empty() && buffer.capacity() > 0;
            let idles = connection.owes_nothing() && holds(&connection.out);
            hold(!idles, || format!("{id} holds a buffer for an answer that there is not"))?;
            hold(!holds(&connection.carry), || format!("{id} holds a buffer of what it has read"))?;
            waits += usize::from(connection.early.is_some());
            let alive = |key: &ExchangeKey| self.exchanges.get(*key).is_some();
            let calls = connection.calls.iter();
            let listens = |key: &&ExchangeKey| self.exchanges.get(**key).is_some_and(|one| one.kind == Kind::Listen);
            let in_flight = connection.calls.len() - calls.clone().filter(listens).count();
            census.in_flight_most = census.in_flight_most.max(in_flight);
            let dead = calls.clone().find(|key| !alive(key));
            hold(dead.is_none(), || format!("{id} waits for {dead:?}, which is over"))?;
            // The first of a batch's calls stands for all of them, and may end before the others.
            let exchange = connection.exchange.filter(|key| !alive(key) && connection.batch_left == 0);
            hold(exchange.is_none(), || format!("{id} is occupied by {exchange:?}, which is over"))?;
            let duplex = connection.duplex.filter(|key| !alive(key));
            hold(duplex.is_none(), || format!("{id} stands for {duplex:?}, which is over"))?;
            let is_bare = connection.exchange.is_none() && connection.calls.is_empty() && connection.duplex.is_none();
            hold(connection.phase != Phase::Closing || is_bare, || format!("{id} was given up with calls on it"))?;
            let is_reminded = connection.deadline == u64::MAX || connection.timer.is_some();
            hold(is_reminded, || format!("{id} has a deadline of which nothing will remind"))?;
            hold(!connection.dirty, || format!("{id} is to be sent something, and the turn is over"))?;
            let sends = connection.sending > 0 || !connection.has_to_send() || connection.phase == Phase::Closing;
            hold(sends, || format!("{id} has something to send, and nobody sends it"))?;
            let waits_for_none = connection.exchange.is_none() && connection.early.is_none();
            let idles = connection.sending == 0 && waits_for_none && connection.paced_until == 0;
            let stuck = idles && connection.phase == Phase::Open && !connection.reading && !connection.ended;
            hold(!stuck, || format!("{id} waits for nothing, and is not read"))?;
            let ((comes, stands), carries) = (connection.load.sums(), connection.carries());
            let is_counted = comes + stands == carries || (comes + stands == 0 && carries <= LITTLE);
            hold(is_counted, || format!("{id} carries {carries}, counted as {comes} and {stands}"))?;
            (coming, standing) = (coming + comes, standing + stands);
        }
        let counted = self.carried.sums();
        hold(counted == (coming, standing), || {
            format!("{coming} bytes come, {standing} wait, counted as {counted:?}")
        })?;
        hold(coming <= COMING_BYTES_PER_CORE_MAX, || format!("{coming} bytes are coming in"))?;
        let (open, early) = (self.open, self.early.len());
        hold(census.connections == open, || format!("{} connections, counted as {open}", census.connections))?;
        hold(waits == early, || format!("{waits} connections wait for a server, and {early} are noted"))
    }

    fn audit_sessions(&mut self, census: &mut Census) -> Result<(), String> {
        let keys = self.shards.keys(|_| true);
        census.sessions = keys.len();
        hold(keys.len() == self.shards.sessions(), || "sessions are counted wrong".to_owned())?;
        for key in keys {
            self.audit_session(key, census)?;
        }
        for key in self.exchanges.keys(|exchange| exchange.session.is_some()) {
            let session = self.exchanges.get(key).and_then(|exchange| exchange.session);
            let known = session.and_then(|session| self.shards.find(session));
            let knows = known.is_some_and(|session| session.calls.contains(&key));
            hold(knows, || format!("{key:?} is of a session that does not know it"))?;
        }
        for (shard, metrics) in self.metrics.shards() {
            let there = self.shards.keys(|_| true).iter().filter(|key| key.shard == shard).count() as u64;
            let counted = metrics.sessions.get();
            hold(counted == there, || format!("{shard} has {there} sessions, counted as {counted}"))?;
        }
        Ok(())
    }

    fn audit_session(&mut self, key: SessionKey, census: &mut Census) -> Result<(), String> {
        let Some(session) = self.shards.find(key) else { return Err(format!("{key:?} is listed and not there")) };
        let of_it = |call: &ExchangeKey| self.exchanges.get(*call).filter(|one| one.session == Some(key));
        let stray = session.calls.iter().find(|call| of_it(call).is_none());
        hold(stray.is_none(), || format!("{key:?} waits for {stray:?}, which is over or another's"))?;
        let calls = session.calls.iter().filter_map(of_it).filter(|one| one.kind == Kind::Call).count();
        let stream = session.stream.as_ref().map(of_it);
        hold(!matches!(stream, Some(None)), || format!("{key:?} has a stream that is over"))?;
        let is_heard = stream.flatten().is_some_and(|stream| stream.sink != Sink::Nobody);
        let (busy, keeping) = (session.busy as usize, calls + usize::from(is_heard));
        hold(busy == keeping, || format!("{keeping} keep {key:?} from idling, counted as {busy}"))?;
        let topic = session.subscriptions.iter().find(|topic| !self.subscriptions.is_subscribed(topic, key));
        hold(topic.is_none(), || format!("{key:?} is subscribed to {topic:?}, and nobody would tell it"))?;
        census.in_flight_most = census.in_flight_most.max(calls);
        Ok(())
    }

    fn at(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot as usize)?.as_deref().filter(|connection| connection.id == id)
    }
}

/// Whether a connection is where an exchange's messages go.
fn knows(connection: &Connection, key: ExchangeKey) -> bool {
    connection.exchange == Some(key) || connection.duplex == Some(key) || connection.calls.contains(&key)
}

/// Whether an exchange is a stream that is counted as open.
fn is_heard_stream(exchange: &Exchange) -> bool {
    match exchange.kind {
        Kind::Listen => true,
        Kind::Get => exchange.sink != Sink::Nobody,
        Kind::Duplex => matches!(exchange.sink, Sink::Http(_)),
        Kind::Call | Kind::Forwarded { .. } => false,
    }
}
