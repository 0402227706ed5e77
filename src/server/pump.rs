//! The pump: a request that another core owns goes there as a parcel, and its answer comes back.
//!
//! A core where a connection is, is its *home*; the core that owns the session is the *owner*. The home keeps an
//! exchange (`Kind::Forwarded`) whose key is the ticket of reply; the owner keeps one whose sink is that ticket. The
//! work is done by the same code as for a connection of the owner's own.
//! Not here: the rings (`drive` moves parcels between outbox and ring).
//! Invariant: a ticket hears one last word: `Reply` or `End`, unless its home says `Gone` first. The owner keeps the
//! time of a call; its home waits a little longer, for an owner that stands still.

use super::connection::{Connection, HttpAnswer, Wire};
use super::core::Core;
use super::deliver::{primes, write_line};
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::http::{Posted, STREAM_BEHIND};
use super::outbox::Delivery;
use super::parcel::{Header, Numbers};
use super::router::{Lane, Told, valid_id};
use super::service::{Change, Nanos, Service, Subject};
use crate::ids::{CoreId, Ticket, View};
use crate::limits::RING_LEASED_BYTES_MAX;
use crate::metrics::{Refusal, Step};
use crate::proto::json::{Array, Envelope, Key, Value, ValueKind};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::proto::mcp::Version;
use crate::shard::replay::EventId;

/// How much longer than a call may take its home waits for the word of its owner, in nanoseconds.
const GRACE: Nanos = 500_000_000;

/// Where a session lives that an id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whereabouts {
    Here(crate::shard::session::SessionKey),
    At(CoreId),
    Nowhere,
}

impl<S: Service> Core<S> {
    /// Moves parcels towards their rings.
    pub fn flush_outbox(&mut self, send: impl FnMut(CoreId, &Header, &[u8]) -> Delivery) {
        self.post_registry();
        let parked = self.outbox.flush(&mut self.pool, send);
        self.metrics.parcels_parked.add(parked as u64);
    }

    /// Whether nothing waits to be sent to another core.
    pub fn has_said_all(&self) -> bool {
        self.outbox.waiting() == 0
    }

    /// Sends a request of a connection to the core that can answer it. The connection is occupied until then, or until
    /// its owner has had all the time there is: what the caller said (`patience`), or the most that a call may take.
    /// A stream has no such time.
    pub(super) fn forward(
        &mut self,
        to: CoreId,
        lane_sink: Sink,
        (id, version): (&[u8], Version),
        patience: Option<Nanos>,
        header: impl FnOnce(Numbers) -> Header,
        payload: Vec<u8>,
    ) -> Result<ExchangeKey, RpcError> {
        if !self.outbox.has_room(to) {
            self.refused(Refusal::OutboxFull);
            return Err(RpcError::new(
                Code::OVERLOADED,
                "the way to the core that owns this is full; try again shortly",
            ));
        }
        let mut exchange = Exchange::new(Kind::Forwarded { to }, lane_sink, id, version, self.now);
        let most = self.settings.call_time_max;
        let until = |time: Nanos| self.now.saturating_add(time.min(most)).saturating_add(GRACE);
        exchange.latest = patience.map_or(Nanos::MAX, until);
        exchange.deadline = until(patience.unwrap_or(most));
        let key = self.exchanges.insert(exchange);
        let header = header(key.into());
        if !matches!(header, Header::Get { .. }) {
            self.remind(key);
        }
        self.outbox.post(to, header, payload);
        self.metrics.parcels_sent.add(1);
        Ok(key)
    }

    /// A parcel from another core.
    pub(super) fn parcel(&mut self, from: CoreId, header: Header, payload: &[u8]) {
        self.metrics.parcels_received.add(1);
        if let Some(ticket) = header.asks()
            && !self.outbox.has_room(from)
        {
            // What is said to a core that takes nothing would gather here, whoever waits for it or not.
            self.refused(Refusal::OutboxFull);
            let id = match header {
                Header::Post { id, .. } => payload.get(usize::from(id)..).and_then(|text| self.id_in(text)),
                Header::Modern { .. } => self.id_in(payload),
                _ => None,
            };
            let text = "the way back from the core that owns this is full; try again shortly";
            return self.send_error(from, ticket.into(), 503, id, &RpcError::new(Code::OVERLOADED, text));
        }
        match header {
            Header::Post { ticket, id, patience, sent } => {
                self.metrics.step(Step::MeshHop).record(self.now.saturating_sub(sent));
                self.remote_post(from, ticket.into(), id, patience, payload);
            }
            Header::Get { ticket, last } => self.remote_get(from, ticket.into(), last.map(EventId::from), payload),
            Header::Delete { ticket } => self.remote_delete(from, ticket.into(), payload),
            Header::Modern { ticket, view } => self.remote_modern(from, ticket.into(), View(view), payload),
            Header::Service { kind, about, number } => {
                self.service.told(self.now, from, Subject { kind, about, number }, payload);
            }
            Header::Gone { ticket } => {
                let waiting: Vec<ExchangeKey> = self.waiting_for(from, ticket).collect();
                for key in waiting {
                    self.lost_its_sink(key);
                }
            }
            Header::Quiet { ticket } => self.remote_quiet(from, ticket),
            Header::StreamPost { ticket, life, stream } => match self.post_to_stream(life, stream.into(), payload) {
                Posted::Taken => self.send_reply(from, ticket.into(), 202, None, Vec::new()),
                Posted::Gone => self.send_unknown_session(from, ticket.into(), None),
                Posted::Behind => {
                    let error = RpcError::new(Code::RATE_LIMITED, STREAM_BEHIND);
                    self.send_error(from, ticket.into(), 429, None, &error);
                }
            },
            Header::Changed { what, split } => {
                if let Some(change) = change_from(what, split as usize, payload) {
                    self.tell_subscribers(&change);
                }
            }
            Header::Message { ticket, event, prime } => self.home(ticket, |core, connection, _| {
                if core.may_tell(connection, payload.len()) {
                    core.tell_here(connection, event, prime, payload);
                }
            }),
            Header::Replayed { ticket, event } => self.home(ticket, |core, connection, _| {
                core.tell_here(connection, Some(event), None, payload);
            }),
            Header::Open { ticket, prime } => self.home(ticket, |core, connection, _| core.open_for(connection, prime)),
            Header::End { ticket, prime, retry } => self.home(ticket, |core, connection, key| {
                core.open_for(connection, prime);
                if retry {
                    core.tell_retry(connection);
                }
                core.end_stream(connection);
                core.forget(key);
            }),
            Header::Batch { ticket, pending } => self.home(ticket, |core, connection, _| {
                connection.batch_left = pending;
                core.begin_batch_stream(connection, payload);
            }),
            Header::Registry => {
                if let Some(registry) = &self.registry {
                    registry.machine().parcel(registry.now(), from, payload);
                }
            }
            Header::Reply { ticket, status, event } => self.home(ticket, |core, connection, key| {
                core.home_reply(connection, key, status, event.map(EventId::from), payload);
            }),
        }
    }

    /// Another core died, which is said once for each death.
    pub(super) fn peer_lost(&mut self, peer: CoreId) {
        if let Some(registry) = &self.registry {
            registry.machine().peer_lost(self.now, peer);
        }
        self.peer_unreachable(peer);
    }

    /// Nothing reaches another core: what was asked of it is answered, what it had asked is dropped.
    pub(super) fn peer_unreachable(&mut self, peer: CoreId) {
        self.outbox.forget(peer);
        self.service.peer_lost(self.now, peer);
        if let Some(registry) = &self.registry {
            registry.machine().peer_unreachable(self.now, peer);
        }
        let error = RpcError::new(Code::OVERLOADED, "the core that owned this was lost; try again");
        for key in self.exchanges.keys(|exchange| exchange.kind == Kind::Forwarded { to: peer }) {
            self.refused(Refusal::ShardLost);
            self.end_forwarded(key, 503, &error);
        }
        // All of them: its next life counts its tickets from the beginning, and a late answer would reach a stranger.
        let orphans: Vec<Numbers> =
            self.remotes.iter().filter(|(core, ..)| *core == peer).map(|&(_, _, key)| key).collect();
        for key in orphans {
            self.lost_its_sink(key.into());
        }
    }

    /// The owner of a request has had all its time and more, and has not said a last word.
    pub(super) fn forwarded_due(&mut self, key: ExchangeKey, to: CoreId, is_modern: bool) {
        self.refused(Refusal::DeadlinePassed);
        self.tell_gone(to, key);
        let error =
            RpcError::new(Code::DEADLINE, "the core that owns this did not answer within the call's time limit");
        let is_call = self.exchanges.find(key).is_some_and(|exchange| !exchange.id.is_empty());
        // As its owner would have answered it.
        self.end_forwarded(key, if is_call && !is_modern { 200 } else { error.code.http_status() }, &error);
    }

    /// Answers a request in place of its owner.
    pub(super) fn end_forwarded(&mut self, key: ExchangeKey, status: u16, error: &RpcError) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let mut message = Vec::new();
        let id = if exchange.id.is_empty() { None } else { Some(&*exchange.id) };
        let is_call = id.is_some();
        jsonrpc::error(&mut message, id, true, error);
        self.home(key.into(), |core, connection, key| {
            // None of a batch's calls is answered any more, so one word is the last for all of them.
            let is_batch = std::mem::take(&mut connection.batch_left) > 0;
            if is_call || is_batch || !matches!(connection.answer, Some(HttpAnswer::Stream { .. })) {
                return core.home_reply(connection, key, status, None, &message);
            }
            // A stream that answers no request just ends; its client comes back.
            core.tell_retry(connection);
            core.end_stream(connection);
            core.forget(key);
            core.resumable.push_back(connection.id);
        });
    }

    /// Posts what this core's member of the registry has to say.
    fn post_registry(&mut self) {
        let Some(registry) = &self.registry else { return };
        let (outbox, metrics) = (&mut self.outbox, self.metrics);
        let mut member = registry.machine();
        member.flush(self.now, outbox, |outbox, to, batch| {
            metrics.parcels_sent.add(1);
            outbox.post(to, Header::Registry, batch);
            outbox.has_room(to)
        });
        if let Some(census) = member.census(self.now) {
            metrics.registry_known.set(census.known);
            metrics.registry_version.set(census.version);
            metrics.registry_alarmed.set(census.alarmed);
            metrics.registry_closed.set(u64::from(census.admission_closed));
            metrics.registry_undelivered.add(census.undelivered);
            metrics.replica_age_ns.set(census.age);
        }
    }

    /// The exchanges of this core that answer a ticket of another.
    pub(super) fn waiting_for(&self, home: CoreId, ticket: Numbers) -> impl Iterator<Item = ExchangeKey> {
        let all = (home, ticket, (0, 0))..=(home, ticket, (u32::MAX, u32::MAX));
        self.remotes.range(all).map(|&(_, _, key)| key.into())
    }

    /// Tells the other cores of a change.
    pub(super) fn broadcast(&mut self, change: &Change) {
        let (what, split, payload) = change_to(change);
        for core in (0..self.cores).map(CoreId).filter(|&core| core != self.id) {
            if self.outbox.has_room(core) {
                self.outbox.post(core, Header::Changed { what, split }, payload.clone());
                self.metrics.parcels_sent.add(1);
            } else {
                // A core that takes nothing: of lists it is told once it does, of one resource or task not any more.
                self.refused(Refusal::OutboxFull);
                if payload.is_empty() {
                    self.outbox.owe(core, what);
                }
            }
        }
    }

    // The home's side.

    /// Does something for a ticket of this home, if its connection still waits.
    fn home(&mut self, ticket: Numbers, then: impl FnOnce(&mut Self, &mut Connection, ExchangeKey)) {
        let key = ExchangeKey::from(ticket);
        let (now, more) = (self.now, self.settings.call_time_max.max(self.settings.ask_time));
        let Some(exchange) = self.exchanges.find(key) else { return };
        if !matches!(exchange.kind, Kind::Forwarded { .. }) {
            return;
        }
        // Its owner moves, and may have given it more time: for progress, or for a question to its client.
        exchange.deadline = exchange.deadline.max(now.saturating_add(more + GRACE).min(exchange.latest));
        let (Sink::Http(id) | Sink::Lines(id)) = exchange.sink else { return };
        self.with(id, |core, connection| then(core, connection, key));
    }

    fn open_for(&mut self, connection: &mut Connection, prime: Option<u32>) {
        self.begin_stream(connection);
        if let Some(stream) = prime {
            self.prime(connection, stream);
        }
    }

    /// A message of a stream whose session is elsewhere.
    fn tell_here(&mut self, connection: &mut Connection, event: Option<Numbers>, prime: Option<u32>, message: &[u8]) {
        self.open_for(connection, prime);
        self.stream_event(connection, event.map(EventId::from), "message", &[message]);
        connection.active_at = self.now;
    }

    fn home_reply(
        &mut self,
        connection: &mut Connection,
        key: ExchangeKey,
        status: u16,
        event: Option<EventId>,
        message: &[u8],
    ) {
        if connection.wire() == Wire::Lines {
            write_line(&mut connection.out, &[message]);
            self.forget(key);
            return self.one_concluded(connection, key);
        }
        match connection.answer {
            Some(HttpAnswer::Undecided { .. }) => {
                if message.is_empty() {
                    self.answer_empty(connection, status, &[]);
                } else {
                    self.answer_json(connection, status, &[], &[message]);
                }
            }
            Some(HttpAnswer::Stream { .. }) => {
                // One member of a batch may have nothing to say: it was cancelled.
                if !message.is_empty() {
                    self.stream_event(connection, event, "message", &[message]);
                }
                connection.batch_left = connection.batch_left.saturating_sub(1);
                if connection.batch_left > 0 {
                    return;
                }
                self.end_stream(connection);
            }
            None => {}
        }
        self.forget(key);
        self.resumable.push_back(connection.id);
    }

    /// The home no longer waits.
    pub(super) fn tell_gone(&mut self, to: CoreId, key: ExchangeKey) {
        self.outbox.post(to, Header::Gone { ticket: key.into() }, Vec::new());
        self.metrics.parcels_sent.add(1);
    }

    /// Nothing was said to the client for long.
    pub(super) fn tell_quiet(&mut self, to: CoreId, key: ExchangeKey) {
        if self.outbox.has_room(to) {
            self.outbox.post(to, Header::Quiet { ticket: key.into() }, Vec::new());
            self.metrics.parcels_sent.add(1);
        }
    }

    // The owner's side.

    /// A client waits for long already: its answer becomes a stream, to which it can come back.
    fn remote_quiet(&mut self, from: CoreId, ticket: Numbers) {
        let Some(key) = self.waiting_for(from, ticket).next() else { return };
        let prime = self.number_call_stream(key);
        self.outbox.post(from, Header::Open { ticket, prime }, Vec::new());
        self.metrics.parcels_sent.add(1);
    }

    pub(super) fn send_reply(
        &mut self,
        core: CoreId,
        ticket: Ticket,
        status: u16,
        event: Option<EventId>,
        message: Vec<u8>,
    ) {
        let message = if message.len() > RING_LEASED_BYTES_MAX { too_long(&message) } else { message };
        let header = Header::Reply { ticket: ticket.into(), status, event: event.map(Numbers::from) };
        self.outbox.post(core, header, message);
        self.metrics.parcels_sent.add(1);
    }

    fn send_error(&mut self, core: CoreId, ticket: Ticket, status: u16, id: Option<&[u8]>, error: &RpcError) {
        let mut message = Vec::new();
        jsonrpc::error(&mut message, id, true, error);
        self.send_reply(core, ticket, status, None, message);
    }

    fn send_unknown_session(&mut self, core: CoreId, ticket: Ticket, id: Option<&[u8]>) {
        self.refused(Refusal::UnknownSession);
        let error = RpcError::new(Code::SESSION_NOT_FOUND, "Session not found");
        self.send_error(core, ticket, 404, id, &error);
    }

    /// The id of the request in a text, if it is one that can be read.
    fn id_in<'t>(&mut self, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut envelope = Envelope::default();
        let scanned = self.scanner.scan(text, &mut envelope);
        request_id(&envelope, text).filter(|_| scanned.is_ok())
    }

    fn remote_post(&mut self, from: CoreId, ticket: Ticket, id: u16, patience: u64, payload: &[u8]) {
        let Some((id, text)) = payload.split_at_checked(usize::from(id)) else { return };
        let Some(session) = self.find_session(id) else {
            // As its home would answer it.
            let id = self.id_in(text);
            return self.send_unknown_session(from, ticket, id);
        };
        let view = self.shards.find(session).map_or(View::ALL, |session| session.view);
        let lane = Lane::remote(from, ticket, view, session, (patience > 0).then_some(patience));
        let mut envelope = Envelope::default();
        let mut out = self.buffer();
        let told = match self.scanner.scan(text, &mut envelope) {
            Ok(()) => self.legacy_text(lane, &envelope, text, &mut out),
            Err(error) => self.unreadable(&error, true, &mut out),
        };
        self.remote_told(from, ticket, told, out);
    }

    fn remote_modern(&mut self, from: CoreId, ticket: Ticket, view: View, text: &[u8]) {
        let mut envelope = Envelope::default();
        let mut out = self.buffer();
        // The home has checked the headers; here the message stands for itself.
        let told = match self.scanner.scan(text, &mut envelope) {
            Ok(()) => self.modern(Lane::remote_modern(from, ticket, view), &envelope, text, &mut out),
            Err(error) => self.unreadable(&error, false, &mut out),
        };
        self.remote_told(from, ticket, told, out);
    }

    fn remote_told(&mut self, from: CoreId, ticket: Ticket, told: Told, out: Vec<u8>) {
        match told {
            Told::Answered { status, .. } => self.send_reply(from, ticket, status, None, out),
            // Nothing of another core's waits to be handled again.
            Told::Accepted | Told::Early { .. } => self.send_reply(from, ticket, 202, None, Vec::new()),
            Told::Pending(key) => {
                self.remotes.insert((from, ticket.into(), key.into()));
            }
            Told::Streaming { pending } => {
                self.remotes.extend(pending.iter().map(|&key| (from, ticket.into(), key.into())));
                let pending = pending.len() as u16;
                let lines = if out.len() > RING_LEASED_BYTES_MAX { lines_too_long(&out) } else { out };
                self.outbox.post(from, Header::Batch { ticket: ticket.into(), pending }, lines);
            }
            Told::Listening(key) => {
                // Subscription streams are served where they arrive; none comes this way.
                self.forget(key);
            }
        }
    }

    fn remote_get(&mut self, from: CoreId, ticket: Ticket, last: Option<EventId>, id: &[u8]) {
        let Some(session) = self.find_session(id) else { return self.send_unknown_session(from, ticket, None) };
        let sink = Sink::Remote { core: from, ticket };
        match last {
            Some(last) => match self.reopen_stream(sink, session, last) {
                Ok(reopened) => {
                    let prime = reopened.prime;
                    self.outbox.post(from, Header::Open { ticket: ticket.into(), prime }, Vec::new());
                    for (id, message, _) in reopened.missed {
                        let header = Header::Replayed { ticket: ticket.into(), event: id.into() };
                        self.outbox.post(from, header, message);
                    }
                    match reopened.stream {
                        Some(key) => {
                            self.remotes.insert((from, ticket.into(), key.into()));
                        }
                        None => self.outbox.post(
                            from,
                            Header::End { ticket: ticket.into(), prime: None, retry: false },
                            Vec::new(),
                        ),
                    }
                }
                Err(error) => {
                    self.refused(Refusal::BadRequest);
                    self.send_error(from, ticket, 400, None, &error);
                }
            },
            None => {
                if let Some((key, prime)) = self.open_get_stream(sink, session) {
                    self.remotes.insert((from, ticket.into(), key.into()));
                    self.outbox.post(from, Header::Open { ticket: ticket.into(), prime }, Vec::new());
                }
            }
        }
    }

    fn remote_delete(&mut self, from: CoreId, ticket: Ticket, id: &[u8]) {
        match self.find_session(id) {
            Some(session) => {
                self.end_session(session, "its client deleted it");
                self.metrics.sessions_deleted.add(1);
                self.send_reply(from, ticket, 204, None, Vec::new());
            }
            None => self.send_unknown_session(from, ticket, None),
        }
    }

    /// A message of an exchange whose connection is elsewhere.
    pub(super) fn deliver_remote(&mut self, key: ExchangeKey, message: &[u8]) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let Sink::Remote { core, ticket } = exchange.sink else { return };
        let begins = exchange.stream.is_none() && primes(exchange.version);
        let event = self.event_for(key, message, false);
        let prime = event.filter(|_| begins).map(|event| event.stream);
        if !self.outbox.has_room(core) {
            // What can be replayed is kept; all else is lost on the way to a core that takes nothing.
            return self.refused(Refusal::OutboxFull);
        }
        let header = Header::Message { ticket: ticket.into(), event: event.map(Numbers::from), prime };
        let payload = self.pool.filled(&[message]);
        self.outbox.post(core, header, payload);
        self.metrics.parcels_sent.add(1);
    }

    /// Its last message.
    pub(super) fn conclude_remote(&mut self, key: ExchangeKey, message: &[&[u8]], status: u16) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let Sink::Remote { core, ticket } = exchange.sink else { return };
        let event = if exchange.stream.is_some() { self.last_event_for(key, message) } else { None };
        let payload = self.pool.filled(message);
        self.send_reply(core, ticket, status, event, payload);
    }

    /// Closes its stream before the outcome, which is kept for the client to fetch.
    pub(super) fn end_remote_stream(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let Sink::Remote { core, ticket } = exchange.sink else { return };
        exchange.sink = Sink::Nobody;
        self.remotes.remove(&(core, ticket.into(), key.into()));
        let prime = self.number_call_stream(key);
        self.outbox.post(core, Header::End { ticket: ticket.into(), prime, retry: false }, Vec::new());
    }

    /// Ends the stream of a sink on this core or another.
    pub(super) fn end_sink(&mut self, sink: Sink) {
        match sink {
            Sink::Http(id) => self.with(id, |core, connection| {
                core.begin_stream(connection);
                core.end_stream(connection);
            }),
            Sink::Remote { core, ticket } => {
                let header = Header::End { ticket: ticket.into(), prime: None, retry: self.drain.is_on() };
                self.outbox.post(core, header, Vec::new());
            }
            Sink::Lines(_) | Sink::Nobody => {}
        }
    }
}

/// The id of a request: what is no request is not answered by an id, and an answer's is one that we gave.
pub(super) fn request_id<'a>(envelope: &Envelope, text: &'a [u8]) -> Option<&'a [u8]> {
    valid_id(envelope, text).filter(|_| envelope.has(Key::Method))
}

/// What is said in place of an answer, or of the answers to a batch, that no ring can carry.
fn too_long(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = format!(
        "the answer has {} bytes and comes from another core; at most {RING_LEASED_BYTES_MAX} can: ask for less",
        message.len()
    );
    let error = RpcError::new(Code::INTERNAL, text);
    let fail =
        |out: &mut Vec<u8>, answer: Value<'_>| jsonrpc::error(out, answer.get("id").map(Value::raw), true, &error);
    let message = Value::new(message);
    if message.kind() == ValueKind::Array {
        let mut answers = Array::begin(&mut out);
        message.elements().for_each(|answer| fail(answers.element(), answer));
        answers.end();
    } else {
        fail(&mut out, message);
    }
    out
}

/// The same for answers that stand on lines.
fn lines_too_long(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        out.extend_from_slice(&too_long(line));
        out.push(b'\n');
    }
    out
}

const PROMPTS: u8 = 0;
const RESOURCES: u8 = 1;
const RESOURCE: u8 = 2;
const TASK: u8 = 3;
const TOOLS: u8 = 4;

fn change_to(change: &Change) -> (u8, u32, Vec<u8>) {
    match change {
        Change::Prompts => (PROMPTS, 0, Vec::new()),
        Change::Resources => (RESOURCES, 0, Vec::new()),
        Change::Resource(uri) => (RESOURCE, 0, uri.clone().into_bytes()),
        Change::Task { id, params } => (TASK, id.len() as u32, [id.as_bytes(), params].concat()),
        Change::Tools => (TOOLS, 0, Vec::new()),
    }
}

fn change_from(what: u8, split: usize, payload: &[u8]) -> Option<Change> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(match what {
        PROMPTS => Change::Prompts,
        RESOURCES => Change::Resources,
        RESOURCE => Change::Resource(text(payload)?),
        TASK => {
            let (id, params) = payload.split_at_checked(split)?;
            Change::Task { id: text(id)?, params: params.to_vec() }
        }
        TOOLS => Change::Tools,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_that_is_too_long_for_a_ring_is_an_error_with_its_id() {
        let ids = |text: &[u8]| -> Vec<String> {
            let all = Value::new(text);
            let answers: Vec<Value<'_>> =
                if all.kind() == ValueKind::Array { all.elements().collect() } else { vec![all] };
            answers
                .into_iter()
                .map(|answer| {
                    assert!(answer.get("error").and_then(|error| error.get("message")).is_some());
                    String::from_utf8_lossy(answer.get("id").expect("an id").raw()).into_owned()
                })
                .collect()
        };
        assert_eq!(ids(&too_long(br#"{"jsonrpc":"2.0","id":"a","result":{}}"#)), [r#""a""#]);
        let (one, other) = (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","id":2,"error":{}}"#);
        assert_eq!(ids(&too_long(format!("[{one},{other}]").as_bytes())), ["1", "2"]);
        let lines = lines_too_long(format!("{one}\n{other}\n").as_bytes());
        let lines: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
        assert_eq!((ids(lines[0]), ids(lines[1]), lines[2]), (vec!["1".to_owned()], vec!["2".to_owned()], &b""[..]));
    }

    #[test]
    fn changes_survive_the_way() {
        let task = Change::Task { id: "t".to_owned(), params: b"{}".to_vec() };
        for change in [Change::Prompts, Change::Resources, Change::Resource("a:b".to_owned()), task, Change::Tools] {
            let (what, split, payload) = change_to(&change);
            assert_eq!(change_from(what, split as usize, &payload), Some(change));
        }
        assert_eq!(change_from(9, 0, b""), None);
        assert_eq!(change_from(TASK, 5, b"ab"), None);
    }
}
