//! Legacy sessions at work: the handshake, finding a session again, its streams, its end.
//!
//! Not here: what a session remembers (`shard::session`).
//! Invariant: nothing is allocated for a session before a valid `initialize`; an id leads to a session only if this
//! process sealed it and the session still lives.

use super::connection::Connection;
use super::core::Core;
use super::deliver::primes;
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::pump::Whereabouts;
use super::router::{Lane, Told};
use super::service::{GATEWAY, Service, Watched};
use crate::ids::{CoreId, View};
use crate::metrics::Refusal;
use crate::proto::json::{Envelope, Key, Object, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::shard::Heir;
use crate::shard::replay::EventId;
use crate::shard::seal::Purpose;
use crate::shard::session::{Session, SessionKey, SessionTicket};

/// How many sessions are ended in a row, because they were idle, before others have their turn: a few milliseconds.
pub(super) const SWEPT_AT_ONCE: usize = 4096;

/// How long a sealed session id is good for, whatever happens to the session: a week.
const TICKET_SECONDS: u64 = 7 * 24 * 3600;

/// A stream that a client came back to.
pub(super) struct Reopened {
    /// What it missed, oldest first.
    pub missed: Vec<(EventId, Vec<u8>, bool)>,
    /// The stream's number, if it begins with a priming event.
    pub prime: Option<u32>,
    /// The exchange that goes on; none if the stream is over.
    pub stream: Option<ExchangeKey>,
}

/// Whether this is an `Implementation`, as far as it has to be one: a name and a version.
fn is_implementation(object: Value<'_>) -> bool {
    ["name", "version"].iter().all(|name| object.get(name).and_then(Value::as_str).is_some())
}

impl<S: Service> Core<S> {
    pub(super) fn initialize(
        &mut self,
        lane: Lane<'_>,
        envelope: &Envelope,
        text: &[u8],
        id: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        if lane.session.is_some() {
            let error = RpcError::new(Code::INVALID_REQUEST, "this session is initialized already");
            return self.refuse_message(Refusal::BadRequest, Some(id), true, 400, error, out);
        }
        let (Some(requested), Some(capabilities), true) = (
            envelope.str(Key::ProtocolVersion, text),
            envelope.text(Key::Capabilities, text).and_then(Capabilities::parse),
            envelope.value(Key::ClientInfo, text).is_some_and(is_implementation),
        ) else {
            let problem = "initialize needs params.protocolVersion (string), capabilities (object) and clientInfo (object \
                           with a name and a version, both strings)";
            return self.refuse_message(
                Refusal::BadRequest,
                Some(id),
                true,
                200,
                RpcError::new(Code::INVALID_PARAMS, problem),
                out,
            );
        };
        if let Some(error) = self.comes_from_itself(envelope, text) {
            return self.fail(Some(id), true, 400, error, out);
        }
        // The version asked for if it is served, else the newest legacy one (2025-11-25, "Version Negotiation").
        let version = Version::parse(requested.as_bytes())
            .filter(|version| !version.is_modern())
            .unwrap_or(Version::LATEST_LEGACY);
        if self.drain.is_on() || self.shards.sessions() >= self.settings.sessions_max {
            let error = RpcError::new(Code::OVERLOADED, "no room for another session; try again shortly");
            return self.refuse_message(
                if self.drain.is_on() { Refusal::Draining } else { Refusal::SessionsFull },
                Some(id),
                true,
                503,
                error,
                out,
            );
        }
        // Whoever is behind the view has to be known first: a session made for nothing would stay.
        if let Err(error) = self.service.about(lane.view) {
            return self.not_known(lane, id, 503, error, out);
        }
        let key = self.open_session(lane.view, version, capabilities.known_to(version));
        if let Sink::Http(_) = lane.sink
            && lane.head.is_some()
        {
            self.seal_session(key);
        } else {
            self.bind_to_connection(key, lane);
        }
        let Ok(about) = self.service.about(lane.view) else { unreachable!("it was known a moment ago") };
        let mut result = Vec::new();
        let mut object = Object::begin(&mut result);
        object.string("protocolVersion", version.as_str());
        object.raw("capabilities", &about.offers.capabilities(version));
        object.raw("serverInfo", &about.server_info);
        if let Some(instructions) = &about.instructions {
            object.raw("instructions", instructions);
        }
        object.end();
        self.respond(id, &result, out);
        Told::Answered { status: 200, session: Some(key) }
    }

    /// What a handshake is told that this very process's gateway began: its own lists would be in its lists.
    pub(super) fn comes_from_itself(&mut self, envelope: &Envelope, text: &[u8]) -> Option<RpcError> {
        let process = envelope.value(Key::Meta, text)?.get(GATEWAY)?.as_str()?;
        if u64::from_str_radix(&process, 16) != Ok(self.settings.boot) {
            return None;
        }
        self.refused(Refusal::BadRequest);
        let text = "this is the endpoint of the corelane that asks, which would be a server behind itself: give the \
                    server another url";
        Some(RpcError::new(Code::INVALID_REQUEST, text))
    }

    fn open_session(&mut self, view: View, version: Version, capabilities: Capabilities) -> SessionKey {
        let key = self.shards.insert(Session::new(view, version, capabilities, 0, self.now));
        self.count_session(key);
        key
    }

    /// Counts a session that was created, or re-created from its ticket.
    fn count_session(&self, key: SessionKey) {
        self.log_session_opened(key);
        self.metrics.sessions_created.add(1);
        self.metrics.sessions_open.set(self.shards.sessions() as u64);
        if let Some(shard) = self.metrics.shard(key.shard) {
            shard.sessions.add(1);
        }
    }

    /// Gives a session the id by which any core finds it again.
    fn seal_session(&mut self, key: SessionKey) {
        let incarnation = self.shards.incarnation(key.shard);
        let expires = self.second() + TICKET_SECONDS;
        let (node, boot) = (self.settings.node, self.settings.boot);
        let Some(session) = self.shards.find(key) else { return };
        let ticket = SessionTicket {
            node,
            boot,
            incarnation,
            key,
            principal: session.principal,
            view: session.view,
            version: session.version,
            capabilities: session.capabilities,
            log_level: session.log_level,
            expires,
        };
        session.id = ticket.seal(&mut self.sealer).into();
    }

    /// Makes a session the connection's own: its messages go there, and it ends with it.
    fn bind_to_connection(&mut self, key: SessionKey, lane: Lane<'_>) {
        let Some(session) = self.shards.find(key) else { return };
        session.busy += 1;
        let version = session.version;
        // A 2024-11-05 stream has its duplex already; a connection of lines gets one now.
        let duplex = match lane.duplex {
            Some(duplex) => duplex,
            None => self.exchanges.insert(Exchange::new(Kind::Duplex, lane.sink, &[], version, self.now)),
        };
        if let Some(exchange) = self.exchanges.find(duplex) {
            exchange.session = Some(key);
            exchange.version = version;
        }
        if let Some(session) = self.shards.find(key) {
            session.stream = Some(duplex);
            session.calls.push(duplex);
        }
    }

    /// Where the session lives that an id names.
    pub(super) fn resolve_session(&mut self, connection: &Connection, id: &[u8]) -> Whereabouts {
        // The session that this connection used last needs no opening.
        if let Some(key) = connection.session
            && let Some(session) = self.shards.find(key)
            && session.view == connection.view
            && session.id.as_bytes() == id
        {
            return Whereabouts::Here(key);
        }
        let Some(ticket) = self.open_ticket(id) else { return Whereabouts::Nowhere };
        // An id is good where it was given: another view's server would be told what it is not to know.
        if ticket.view != connection.view {
            return Whereabouts::Nowhere;
        }
        let shard = ticket.key.shard;
        if !self.shards.owns(shard) {
            let known = shard.index() < self.table.shards();
            return if known { Whereabouts::At(self.table.owner_of(shard)) } else { Whereabouts::Nowhere };
        }
        self.find_session_of(id, &ticket).map_or(Whereabouts::Nowhere, Whereabouts::Here)
    }

    /// The session of this core that an id names.
    pub(super) fn find_session(&mut self, id: &[u8]) -> Option<SessionKey> {
        let ticket = self.open_ticket(id).filter(|ticket| self.shards.owns(ticket.key.shard))?;
        self.find_session_of(id, &ticket)
    }

    /// What an id says, if it was sealed by this start of this node and has not expired.
    fn open_ticket(&self, id: &[u8]) -> Option<SessionTicket> {
        let now = self.second();
        SessionTicket::open(&self.sealer, id).filter(|ticket| {
            ticket.node == self.settings.node && ticket.boot == self.settings.boot && ticket.expires > now
        })
    }

    /// The session that a ticket leads to. Re-creates it if its shard was rebuilt since, but not one that had ended.
    fn find_session_of(&mut self, id: &[u8], ticket: &SessionTicket) -> Option<SessionKey> {
        let incarnation = self.shards.incarnation(ticket.key.shard);
        if ticket.incarnation == incarnation {
            let session = self.shards.find(ticket.key)?;
            return (session.id.as_bytes() == id).then_some(ticket.key);
        }
        // Same start, earlier life of the shard: if the session lived to its end, what the id says is enough to go on;
        // replay and subscriptions are gone.
        if let Some(key) = self.shards.recreated(ticket.key.shard, id) {
            return Some(key);
        }
        if self.shards.sessions() >= self.settings.sessions_max {
            return None;
        }
        let name = std::str::from_utf8(id).ok()?;
        let bequest = self.shards.take_heir(ticket.key.shard, name)?;
        if bequest.used + self.settings.session_idle <= self.now {
            return None;
        }
        let mut session = Session::new(ticket.view, ticket.version, ticket.capabilities, ticket.principal, self.now);
        (session.log_level, session.is_level_chosen) = (bequest.log_level, bequest.is_level_chosen);
        session.id = name.into();
        session.begin_life(incarnation);
        let key = self.shards.recreate(ticket.key.shard, session);
        self.count_session(key);
        Some(key)
    }

    /// Ends a session and everything that hangs on it.
    pub(super) fn end_session(&mut self, key: SessionKey, why: &'static str) {
        self.call_off(key);
        let Some(session) = self.shards.remove(key) else { return };
        self.gone(session.all_kept());
        self.log_session_ended(key, why);
        self.metrics.sessions_open.set(self.shards.sessions() as u64);
        if let Some(shard) = self.metrics.shard(key.shard) {
            shard.sessions.sub(1);
        }
        for topic in &session.subscriptions {
            self.subscriptions.unsubscribe(topic, key);
            self.service.watched(self.now, Watched::Resource, topic, None);
        }
        for key in session.calls.iter().copied() {
            let Some(exchange) = self.forget(key) else { continue };
            if exchange.kind == Kind::Call {
                self.service.cancel(self.now, key.into());
                self.metrics.calls_failed.add(1);
            }
            self.end_sink(exchange.sink);
        }
        self.service.session_ended(self.now, key.number());
    }

    /// Answers the calls of a session that ends, on the connections that wait for them: no outcome will come.
    fn call_off(&mut self, key: SessionKey) {
        let Some(session) = self.shards.find(key) else { return };
        for call in session.calls.clone() {
            let waits = self.exchanges.find(call).is_some_and(|exchange| {
                exchange.kind == Kind::Call && matches!(exchange.sink, Sink::Http(_) | Sink::Remote { .. })
            });
            if waits {
                self.service.cancel(self.now, call.into());
                let text = "the session was ended while this call was on its way; open another with `initialize`";
                self.reply(call, Err(RpcError::new(Code::SESSION_NOT_FOUND, text)));
            }
        }
    }

    /// Ends sessions that were idle for too long, no more than may be without keeping others waiting; whether that was
    /// all of them.
    pub(super) fn sweep_sessions(&mut self) -> bool {
        let (now, idle) = (self.now, self.settings.session_idle);
        let over = self.shards.keys(|session| session.busy == 0 && session.used + idle <= now);
        for key in over.iter().take(SWEPT_AT_ONCE) {
            self.metrics.sessions_expired.add(1);
            self.end_session(*key, "it was idle for too long");
        }
        self.shards.forget_heirs(|used| used + idle <= now);
        over.len() <= SWEPT_AT_ONCE
    }

    /// What the next life of this core is told of its sessions, which are no more after this.
    pub fn bequeath(&mut self) -> Vec<Heir> {
        self.shards.bequeath(self.now, self.settings.sessions_max)
    }

    /// Learns what this core's life before left of its sessions.
    pub fn inherit(&mut self, heirs: Vec<Heir>) {
        self.shards.inherit(heirs);
    }

    /// Opens the session's GET stream: its exchange, and its number if it begins with a priming event. The newest
    /// replaces the one before: clients that lost a connection open another before we know, and 409 sends them round in
    /// circles.
    pub(super) fn open_get_stream(&mut self, sink: Sink, key: SessionKey) -> Option<(ExchangeKey, Option<u32>)> {
        let now = self.now;
        let session = self.shards.find(key)?;
        let version = session.version;
        let number = session.next_get_stream();
        let mut exchange = Exchange::new(Kind::Get, sink, &[], version, now);
        exchange.session = Some(key);
        exchange.stream = Some(number);
        let stream = self.take_over_get_stream(key, exchange);
        Some((stream, primes(version).then_some(number)))
    }

    /// Makes an exchange the session's GET stream, in place of the one before.
    fn take_over_get_stream(&mut self, key: SessionKey, exchange: Exchange) -> ExchangeKey {
        let now = self.now;
        let stream = self.exchanges.insert(exchange);
        let before = self.shards.find(key).and_then(|session| session.stream);
        if let Some(before) = before
            && let Some(exchange) = self.forget(before)
        {
            self.end_sink(exchange.sink);
        }
        if let Some(session) = self.shards.find(key) {
            session.stream = Some(stream);
            session.calls.push(stream);
            session.busy += 1;
            session.used = now;
        }
        self.metrics.streams_open.add(1);
        stream
    }

    /// A client comes back to a stream: what it missed, and the exchange that goes on, if the stream is not over. A
    /// call's stream stays a call's: once it is over, what is left of it is told and the session's GET stream is not
    /// touched (2025-11-25, "Resumability": nothing is replayed that would have gone to another stream).
    ///
    /// # Errors
    /// If the session never had such a stream, or nothing is kept of one that is over.
    pub(super) fn reopen_stream(&mut self, sink: Sink, key: SessionKey, last: EventId) -> Result<Reopened, RpcError> {
        let now = self.now;
        let unknown =
            || RpcError::new(Code::INVALID_REQUEST, "the Last-Event-ID header names no stream of this session");
        let session = self.shards.find(key).ok_or_else(unknown)?;
        let is_get = session.is_get_stream(last.stream).ok_or_else(unknown)?;
        let version = session.version;
        let missed: Vec<(EventId, Vec<u8>, bool)> =
            session.missed(last).map(|(id, message, last)| (id, message.to_vec(), last)).collect();
        let heard_all = session.was_last(last);
        // Behind a priming event again: who saw more would be sent back to the beginning by it.
        let prime = (primes(version) && missed.is_empty() && last.number == 0).then_some(last.stream);
        let live = self.shards.find(key).and_then(|session| {
            let streams = |key: &&ExchangeKey| {
                self.exchanges.get(**key).is_some_and(|exchange| exchange.stream == Some(last.stream))
            };
            session.calls.iter().find(streams).copied()
        });
        let stream = match live {
            Some(stream) => {
                let before = self
                    .exchanges
                    .find(stream)
                    .map(|exchange| (exchange.kind, std::mem::replace(&mut exchange.sink, sink)));
                match before {
                    Some((Kind::Get, Sink::Nobody)) => self.heard_again(key),
                    Some((_, before)) => {
                        if let Sink::Remote { core, ticket } = before {
                            self.remotes.remove(&(core, ticket.into(), stream.into()));
                        }
                        self.end_sink(before);
                    }
                    None => {}
                }
                Some(stream)
            }
            None if !is_get && missed.is_empty() && !heard_all => {
                let text = "this stream is over, and the events behind the Last-Event-ID are no longer kept";
                return Err(RpcError::new(Code::INVALID_REQUEST, text));
            }
            None if !is_get => None,
            // The GET stream's connection was lost: this one takes its place, under the same number.
            None => {
                let mut exchange = Exchange::new(Kind::Get, sink, &[], version, now);
                exchange.session = Some(key);
                exchange.stream = Some(last.stream);
                exchange.events = missed.last().map_or(last.number, |(id, ..)| id.number);
                Some(self.take_over_get_stream(key, exchange))
            }
        };
        Ok(Reopened { missed, prime, stream })
    }

    /// A GET stream that was put aside has its client back.
    fn heard_again(&mut self, key: SessionKey) {
        self.metrics.streams_open.add(1);
        if let Some(session) = self.shards.find(key) {
            session.busy += 1;
            session.used = self.now;
        }
    }

    /// The address that a 2024-11-05 client posts to.
    pub(super) fn stream_address(&mut self, key: ExchangeKey) -> String {
        let mut plain = Vec::with_capacity(22);
        plain.extend_from_slice(&self.id.0.to_le_bytes());
        plain.extend_from_slice(&self.settings.boot.to_le_bytes());
        plain.extend_from_slice(&self.shards.life().to_le_bytes());
        plain.extend_from_slice(&key.index.to_le_bytes());
        plain.extend_from_slice(&key.generation.to_le_bytes());
        self.sealer.seal(Purpose::Stream, &plain)
    }

    /// The session that a connection uses is another from now on, or none.
    pub(super) fn uses_session(&self, connection: &mut Connection, session: Option<SessionKey>) {
        let before = std::mem::replace(&mut connection.session, session);
        let cells = |key: Option<SessionKey>| self.metrics.shard(key?.shard);
        if before.map(|key| key.shard) != session.map(|key| key.shard) {
            cells(before).inspect(|shard| shard.connections.sub(1));
            cells(session).inspect(|shard| shard.connections.add(1));
        }
    }

    /// The core, which of its lives, and the stream that an address leads to. Another life of the core numbers its
    /// streams anew, so an address is good for the life it was made in.
    pub(super) fn open_stream_address(&self, address: &[u8]) -> Option<(CoreId, u32, ExchangeKey)> {
        let plain = self.sealer.open(Purpose::Stream, address)?;
        let plain: [u8; 22] = plain.try_into().ok()?;
        let number = |at: usize| u32::from_le_bytes([plain[at], plain[at + 1], plain[at + 2], plain[at + 3]]);
        let core = u16::from_le_bytes([plain[0], plain[1]]);
        (core < self.cores && plain[2..10] == self.settings.boot.to_le_bytes())
            .then(|| (CoreId(core), number(10), ExchangeKey { index: number(14), generation: number(18) }))
    }
}
