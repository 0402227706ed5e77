//! The router: one JSON-RPC message in, one answer, stream or silence out.
//!
//! It chooses the era (2026-07-28 "modern" or legacy) by the body, as the TypeScript SDK does, checks what the revision
//! demands, answers what belongs to the core itself and hands the rest to the service.
//! Not here: HTTP (`http`), lines (`lines`), how an answer that comes later is delivered (`deliver`).
//! Invariant: nothing acts on a header before it was found to agree with the body.

use std::cell::Cell;

use super::connection::Connection;
use super::core::Core;
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::http::{NO_JSON, NOT_ACCEPTABLE};
use super::parcel::Header;
use super::pump::{Whereabouts, request_id};
use super::service::{Call, Nanos, Served, Service};
use super::settings::Eras;
use crate::ids::{CoreId, Ticket, View};
use crate::limits::ID_BYTES_MAX;
use crate::metrics::{Refusal, Step};
use crate::proto::http1::{Accepts, Head};
use crate::proto::json::{Envelope, IdKind, Key, Root};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Notice, Version, judge_token, method_name};
use crate::shard::session::{SessionKey, Terms};

pub(super) const MILLISECOND: Nanos = 1_000_000;

/// How a message came, and so where its answer goes.
#[derive(Clone, Copy)]
pub(super) struct Lane<'a> {
    /// The HTTP request it came in.
    pub(super) head: Option<&'a Head<'a>>,
    /// What its sender takes.
    pub(super) accepts: Accepts,
    /// Where messages for it go.
    pub(super) sink: Sink,
    /// What its sender sees.
    pub(super) view: View,
    /// The legacy session it belongs to.
    pub(super) session: Option<SessionKey>,
    /// That session's terms, if it is the connection's own. It does not idle while the connection lives, and all of its
    /// calls are among the `siblings`: a call need not look at it.
    pub(super) terms: Option<&'a Cell<Terms>>,
    /// What stands for its connection as a duplex, if there is one already.
    pub(super) duplex: Option<ExchangeKey>,
    /// What is in flight on the same duplex.
    pub(super) siblings: &'a [ExchangeKey],
    /// How many members of the same batch are in flight already.
    pub(super) ahead: usize,
    /// How long the sender waits for an answer, in nanoseconds, if it said so.
    pub(super) patience: Option<u64>,
    /// It has waited until now for what it is for to be known.
    pub(super) has_waited: bool,
}

impl<'a> Lane<'a> {
    /// A message in an HTTP request.
    pub(super) fn http(connection: &Connection, head: &'a Head<'a>, accepts: Accepts) -> Lane<'a> {
        let (sink, view) = (Sink::Http(connection.id), connection.view);
        Lane { head: Some(head), has_waited: connection.has_waited, ..Lane::bare(accepts, sink, view) }
    }

    /// A message on a duplex of its own: a connection of lines, a 2024-11-05 stream.
    pub(super) fn duplex(connection: &'a Connection, sink: Sink) -> Lane<'a> {
        let accepts = Accepts { json: true, event_stream: true };
        let (session, terms, duplex) = (connection.session, connection.terms.as_ref(), connection.duplex);
        let (siblings, has_waited) = (&connection.calls[..], connection.has_waited);
        Lane { session, terms, duplex, siblings, has_waited, ..Lane::bare(accepts, sink, connection.view) }
    }

    /// A message that another core forwarded to the owner of its session.
    pub(super) fn remote(
        core: CoreId,
        ticket: Ticket,
        view: View,
        session: SessionKey,
        patience: Option<u64>,
    ) -> Lane<'static> {
        let accepts = Accepts { json: true, event_stream: true };
        let sink = Sink::Remote { core, ticket };
        Lane { session: Some(session), patience, ..Lane::bare(accepts, sink, view) }
    }

    /// A modern message that another core forwarded to where its task lives.
    pub(super) fn remote_modern(core: CoreId, ticket: Ticket, view: View) -> Lane<'static> {
        let accepts = Accepts { json: true, event_stream: true };
        let sink = Sink::Remote { core, ticket };
        Lane::bare(accepts, sink, view)
    }

    /// A message of which only this is known.
    fn bare(accepts: Accepts, sink: Sink, view: View) -> Lane<'a> {
        let (head, session, terms, duplex, patience) = (None, None, None, None, None);
        let (siblings, ahead, has_waited) = (&[][..], 0, false);
        Lane { head, accepts, sink, view, session, terms, duplex, siblings, ahead, patience, has_waited }
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Told {
    /// There is nothing to answer: a notification, or an answer to a question of ours.
    Accepted,
    /// One JSON-RPC message (or batch) was appended to `out`.
    Answered {
        /// The HTTP status that goes with it.
        status: u16,
        /// The session that the answer opens.
        session: Option<SessionKey>,
    },
    /// Nothing is known yet of what it is for: it is to be handled again once something is, or then.
    Early {
        /// When.
        until: Nanos,
    },
    /// The answer comes later, to this exchange.
    Pending(ExchangeKey),
    /// Part of a batch: what is answered so far was appended to `out` as lines; the rest comes later, one by one.
    Streaming {
        /// The calls whose answers are to come; not empty.
        pending: Vec<ExchangeKey>,
    },
    /// A subscription stream was opened; its first message was appended to `out`.
    Listening(ExchangeKey),
}

impl Told {
    pub(super) const OK: Told = Told::Answered { status: 200, session: None };
}

/// The parts of a message that decide what it is.
pub(super) enum Shape<'a> {
    Request {
        id: &'a [u8],
        method: &'a [u8],
    },
    Notice {
        method: &'a [u8],
    },
    /// An answer to a question of ours.
    Answer {
        id: &'a [u8],
    },
}

impl<S: Service> Core<S> {
    /// The body of a POST.
    pub(super) fn post_body(
        &mut self,
        mut lane: Lane<'_>,
        connection: &mut Connection,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        let mut envelope = Envelope::default();
        if let Err(error) = self.scanner.scan(text, &mut envelope) {
            return self.unreadable(&error, !connection.is_modern, out);
        }
        self.laps.lap(Step::Scan);
        self.metrics.messages_in.add(u64::from(!lane.has_waited));
        let Some(head) = lane.head else { unreachable!("a POST has a head") };
        let claims = self.claims_modern(&envelope, text);
        if let Some(asked) = head.request_timeout_ms {
            lane.patience = patience(asked);
            if lane.patience.is_none() {
                let null_id = !connection.is_modern && !claims;
                return self.refuse_message(
                    Refusal::BadRequest,
                    valid_id(&envelope, text),
                    null_id,
                    400,
                    self.bad_patience(asked),
                    out,
                );
            }
        }
        if claims {
            // Every answer but a subscription stream is JSON, or may be.
            let listens = is_method(&envelope, text, Method::SubscriptionsListen);
            if !lane.accepts.json && !listens {
                return self.takes_no_answer(NO_JSON, valid_id(&envelope, text), false, out);
            }
            return self.modern(lane, &envelope, text, out);
        }
        if connection.is_modern {
            return self.without_claim(lane, &envelope, text, out);
        }
        // Legacy from here on.
        if !(lane.accepts.json && lane.accepts.event_stream) {
            return self.takes_no_answer(NOT_ACCEPTABLE, valid_id(&envelope, text), true, out);
        }
        if let Err((cause, problem)) = self.legacy_headers_do(head) {
            let error = RpcError::new(Code::INVALID_REQUEST, problem);
            return self.refuse_message(cause, valid_id(&envelope, text), true, 400, error, out);
        }
        let opens = envelope.root() == Root::Object && is_method(&envelope, text, Method::Initialize);
        if !opens || head.session_id.is_some() {
            match self.named_session(connection, head.session_id) {
                Ok(Whereabouts::Here(key)) => lane.session = Some(key),
                Ok(Whereabouts::At(owner)) => {
                    return self.forward_post(owner, lane, head.session_id.unwrap_or_default(), &envelope, text, out);
                }
                Ok(Whereabouts::Nowhere) => unreachable!("a session that is nowhere is an error"),
                Err((status, error)) => {
                    let id = request_id(&envelope, text);
                    return self.fail(id, true, status, error, out);
                }
            }
        }
        let told = self.legacy_text(lane, &envelope, text, out);
        if let Told::Answered { session: Some(key), .. } = told {
            self.uses_session(connection, Some(key));
        }
        told
    }

    /// Whether a message says that it is a modern one, where there are such. `initialize` is what the others begin
    /// with: it takes a claim that holds to make it a modern message, which no modern revision knows.
    pub(super) fn claims_modern(&self, envelope: &Envelope, text: &[u8]) -> bool {
        envelope.root() == Root::Object
            && envelope.has(Key::MetaProtocolVersion)
            && self.settings.eras != Eras::Legacy
            && (self.settings.eras == Eras::Modern
                // As everybody writes it: this is asked of each call.
                || envelope.get(Key::Method).of(text) != b"\"initialize\""
                || is_valid_claim(envelope, text))
    }

    /// A legacy POST for a session of another core.
    fn forward_post(
        &mut self,
        owner: CoreId,
        lane: Lane<'_>,
        session: &[u8],
        envelope: &Envelope,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        let id = request_id(envelope, text).unwrap_or_default();
        let payload = self.pool.filled(&[session, text]);
        let (length, patience) = (session.len() as u16, lane.patience.unwrap_or(0));
        let sent = self.now;
        let header = |ticket| Header::Post { ticket, id: length, patience, sent };
        match self.forward(owner, lane.sink, (id, Version::LEGACY_DEFAULT), lane.patience, header, payload) {
            Ok(key) => Told::Pending(key),
            Err(error) => self.fail(request_id(envelope, text), true, 503, error, out),
        }
    }

    /// A legacy body: one message, or in 2025-03-26 and 2024-11-05 a batch.
    pub(super) fn legacy_text(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8], out: &mut Vec<u8>) -> Told {
        match envelope.root() {
            Root::Object => self.legacy(lane, envelope, text, out),
            Root::Array => self.batch(lane, text, out),
            Root::Scalar => {
                let error = RpcError::new(Code::INVALID_REQUEST, "a JSON-RPC message is an object");
                self.refuse_message(Refusal::BadRequest, None, true, 400, error, out)
            }
        }
    }

    /// What the message is, if it is JSON-RPC 2.0 at all.
    pub(super) fn shape<'a>(envelope: &Envelope, text: &'a [u8]) -> Result<Shape<'a>, RpcError> {
        let invalid = |text: &'static str| RpcError::new(Code::INVALID_REQUEST, text);
        if envelope.plain(Key::Jsonrpc, text) != Some(b"2.0") {
            return Err(invalid("the member jsonrpc has to be \"2.0\""));
        }
        let id = match envelope.id_kind() {
            IdKind::Absent => None,
            IdKind::Integer | IdKind::String => match valid_id(envelope, text) {
                None => return Err(id_too_long(envelope.get(Key::Id).of(text).len())),
                id => id,
            },
            _ => return Err(invalid("an id is a string or an integer (MCP does not allow null)")),
        };
        if !envelope.has(Key::Method) {
            let answers = envelope.has(Key::Result) != envelope.has(Key::Error);
            return match id {
                Some(id) if answers => Ok(Shape::Answer { id }),
                _ => Err(invalid("a message has a method, or an id with either a result or an error")),
            };
        }
        let Some(method) = method_name(envelope, text) else {
            return Err(invalid("the method has to be a string"));
        };
        if !matches!(envelope.params_kind(), crate::proto::json::Kind::Absent | crate::proto::json::Kind::Object) {
            return Err(invalid("params have to be an object"));
        }
        Ok(match id {
            Some(id) => Shape::Request { id, method },
            None => Shape::Notice { method },
        })
    }

    fn batch(&mut self, lane: Lane<'_>, text: &[u8], out: &mut Vec<u8>) -> Told {
        let allowed = self
            .terms_of(lane)
            .is_some_and(|terms| terms.version == Version::V2025_03_26 || terms.version == Version::V2024_11_05);
        if !allowed {
            let error = RpcError::new(
                Code::INVALID_REQUEST,
                "there are batches in 2025-03-26 and 2024-11-05 only; send one message",
            );
            return self.refuse_message(Refusal::BadRequest, None, true, 400, error, out);
        }
        let mut messages = Vec::new();
        if let Err(error) = self.scanner.scan_batch(text, &mut messages) {
            return self.unreadable(&error, true, out);
        }
        if messages.is_empty() {
            let error = RpcError::new(Code::INVALID_REQUEST, "a batch holds at least one message");
            return self.refuse_message(Refusal::BadRequest, None, true, 400, error, out);
        }
        let start = out.len();
        let mut answers: Vec<Vec<u8>> = Vec::new();
        let mut pending = Vec::new();
        let mut ids = Vec::new();
        self.batch_of = Some(lane.sink);
        for span in messages {
            let message = span.of(text);
            let mut envelope = Envelope::default();
            let mut answer = Vec::new();
            let scanned = self.scanner.scan(message, &mut envelope);
            let id = valid_id(&envelope, message).filter(|_| scanned.is_ok() && envelope.has(Key::Method));
            let told = match scanned {
                Err(error) => self.unreadable(&error, true, &mut answer),
                Ok(()) if envelope.root() != Root::Object => {
                    let error = RpcError::new(Code::INVALID_REQUEST, "a JSON-RPC message is an object");
                    self.refuse_message(Refusal::BadRequest, None, true, 400, error, &mut answer)
                }
                Ok(()) if is_method(&envelope, message, Method::Initialize) => {
                    let error = RpcError::new(
                        Code::INVALID_REQUEST,
                        "initialize cannot be part of a batch; send it by itself, and batches once it is answered",
                    );
                    self.refuse_message(
                        Refusal::BadRequest,
                        valid_id(&envelope, message),
                        true,
                        400,
                        error,
                        &mut answer,
                    )
                }
                // Whether the first is answered already or not: both answers would stand in one.
                Ok(()) if let Some(id) = id.filter(|id| ids.contains(id)) => self.duplicate(id, &mut answer),
                Ok(()) => {
                    ids.extend(id);
                    self.legacy(Lane { ahead: pending.len(), ..lane }, &envelope, message, &mut answer)
                }
            };
            match told {
                Told::Answered { .. } => answers.push(answer),
                Told::Pending(key) => pending.push(key),
                _ => {}
            }
        }
        self.batch_of = None;
        if let Sink::Remote { .. } = lane.sink {
            // The home counts what it still has to hear of. Where the connection is here, it hears of these at the end
            // of the turn.
            pending.retain(|key| self.exchanges.get(*key).is_some());
        }
        if !pending.is_empty() {
            // Each answer is an event of a stream that has no number of its own: a client that loses it cannot say
            // which answers it has, so none is kept for it.
            for key in &pending {
                if let Some(exchange) = self.exchanges.find(*key) {
                    exchange.is_kept = false;
                }
            }
            for answer in answers {
                out.extend_from_slice(&answer);
                out.push(b'\n');
            }
            return Told::Streaming { pending };
        }
        if answers.is_empty() {
            return Told::Accepted;
        }
        debug_assert_eq!(out.len(), start, "nothing is written before the batch is complete");
        out.push(b'[');
        for (index, answer) in answers.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(answer);
        }
        out.push(b']');
        Told::OK
    }

    /// One legacy message.
    fn legacy(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8], out: &mut Vec<u8>) -> Told {
        self.logged(envelope, text, out, |core, out| core.legacy_message(lane, envelope, text, out))
    }

    fn legacy_message(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8], out: &mut Vec<u8>) -> Told {
        let shape = match Self::shape(envelope, text) {
            Ok(shape) => shape,
            Err(error) => {
                return self.refuse_message(Refusal::BadRequest, valid_id(envelope, text), true, 400, error, out);
            }
        };
        if let Some(shard) = lane.session.and_then(|key| self.metrics.shard(key.shard)) {
            shard.messages.add(1);
        }
        let now = self.now;
        if lane.terms.is_none()
            && let Some(session) = lane.session.and_then(|key| self.shards.find(key))
        {
            session.used = now;
        }
        match shape {
            Shape::Answer { id } => {
                self.client_answered(lane, id, envelope, text);
                Told::Accepted
            }
            Shape::Notice { method } => {
                match Notice::parse(method) {
                    Notice::Cancelled => self.client_cancelled(lane, envelope.get(Key::RequestId).of(text)),
                    Notice::RootsListChanged => self.roots_changed(lane),
                    Notice::Progress => self.client_progressed(lane, envelope, text),
                    Notice::Initialized | Notice::Unknown => {}
                }
                Told::Accepted
            }
            Shape::Request { id, method } => self.legacy_request(lane, envelope, text, id, method, out),
        }
    }

    /// The roots of a session's client are others, and it has said that it would tell.
    fn roots_changed(&mut self, lane: Lane<'_>) {
        let (Some(session), Some(terms)) = (lane.session, self.terms_of(lane)) else { return };
        if terms.capabilities.has(Capabilities::ROOTS_LIST_CHANGED) {
            self.service.roots_changed(self.now, lane.view, session.number(), terms.capabilities);
        }
    }

    /// What was settled with the sender of a legacy message; nothing before `initialize`.
    fn terms_of(&mut self, lane: Lane<'_>) -> Option<Terms> {
        match lane.terms {
            Some(terms) => Some(terms.get()),
            None => lane.session.and_then(|key| self.shards.find(key)).map(|session| session.terms()),
        }
    }

    fn legacy_request(
        &mut self,
        lane: Lane<'_>,
        envelope: &Envelope,
        text: &[u8],
        id: &[u8],
        name: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        let method = Method::parse(name);
        if self.is_duplicate(lane, id) {
            return self.duplicate(id, out);
        }
        if method == Some(Method::Initialize) {
            return self.initialize(lane, envelope, text, id, out);
        }
        let Some(Terms { version, capabilities, log_level, is_level_chosen }) = self.terms_of(lane) else {
            if method == Some(Method::Ping) {
                // Allowed before initialize (2025-11-25, "Lifecycle").
                return self.respond(id, b"{}", out);
            }
            let error = RpcError::new(Code::INVALID_REQUEST, "the first request has to be initialize");
            return self.refuse_message(Refusal::BadRequest, Some(id), true, 400, error, out);
        };
        let offers = match self.service.about(lane.view) {
            Ok(about) => about.offers,
            Err(error) => return self.fail(Some(id), true, 200, error, out),
        };
        let Some(method) = method.filter(|method| method.known_to(version) && method.is_offered(&offers, version))
        else {
            return self.unknown_method(id, name, 200, out);
        };
        match method {
            Method::Ping => self.respond(id, b"{}", out),
            Method::LoggingSetLevel => {
                let level = envelope.plain(Key::Level, text).and_then(LogLevel::parse);
                let Some(level) = level else {
                    let error = RpcError::new(
                        Code::INVALID_PARAMS,
                        "level has to be one of the RFC 5424 names, debug to emergency",
                    );
                    return self.refuse_message(Refusal::BadRequest, Some(id), true, 200, error, out);
                };
                if let Some(session) = lane.session.and_then(|key| self.shards.find(key)) {
                    (session.log_level, session.is_level_chosen) = (level, true);
                }
                if let Some(terms) = lane.terms {
                    terms.set(Terms { log_level: level, is_level_chosen: true, ..terms.get() });
                }
                self.respond(id, b"{}", out)
            }
            Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                let uri = envelope.str(Key::Uri, text);
                self.subscribe(lane, version, method == Method::ResourcesSubscribe, id, uri.as_deref(), out)
            }
            _ => {
                let log_level = Some(log_level);
                let facts = Facts { version, capabilities, log_level, is_level_chosen, may_ask: true };
                self.call(lane, facts, method, id, envelope, text, out)
            }
        }
    }

    /// Answers with a result of the core's own.
    pub(super) fn respond(&mut self, id: &[u8], result: &[u8], out: &mut Vec<u8>) -> Told {
        write_result(out, id, result);
        self.metrics.messages_out.add(1);
        Told::OK
    }

    /// Hands a call to the service.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn call(
        &mut self,
        lane: Lane<'_>,
        facts: Facts,
        method: Method,
        id: &[u8],
        envelope: &Envelope,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        if self.is_over_limit(lane) {
            return self.over_limit(id, out);
        }
        let key = self.exchanges.next_key();
        let usual = match method {
            // It waits for the end of something that takes longer than a call by its nature.
            Method::TasksResult => self.settings.call_time_max,
            _ => self.settings.call_time,
        };
        let patience = lane.patience.unwrap_or(usual).min(self.settings.call_time_max);
        let deadline = self.now + patience;
        let call = Call {
            key: key.into(),
            view: lane.view,
            version: facts.version,
            method,
            text,
            envelope,
            param_lines: lane.head.filter(|_| facts.version.is_modern()).map_or(&[][..], Head::mcp_param_lines),
            capabilities: facts.capabilities,
            log_level: facts.log_level,
            is_level_chosen: facts.is_level_chosen,
            may_ask: facts.may_ask,
            session: lane.session.map(SessionKey::number),
            now: self.now,
            deadline,
            is_deadline_chosen: lane.patience.is_some(),
        };
        let latest = call.latest();
        self.metrics.calls_started.add(1);
        let start = out.len();
        jsonrpc::begin_result(out, id);
        self.laps.lap(Step::Route);
        let served = match judge_token(envelope, text) {
            Ok(()) => self.service.call(&call, out),
            Err(error) => Served::Failed(error),
        };
        if !matches!(served, Served::Pending) {
            self.laps.lap(Step::Handle);
            // A handler may have kept the key: what it says from now on is said to nobody.
            self.exchanges.burn(key);
        }
        match served {
            Served::Done => {
                jsonrpc::end(out);
                self.metrics.calls_finished.add(1);
                self.metrics.messages_out.add(1);
                Told::OK
            }
            Served::Failed(error) => {
                out.truncate(start);
                self.metrics.calls_failed.add(1);
                let status = if facts.version.is_modern() { error.code.http_status() } else { 200 };
                self.fail(Some(id), true, status, error, out)
            }
            Served::Pending => {
                out.truncate(start);
                self.metrics.calls_in_flight.add(1);
                if let Some(shard) = lane.session.and_then(|key| self.metrics.shard(key.shard)) {
                    shard.queue_depth.add(1);
                }
                let mut exchange = Exchange::new(Kind::Call, lane.sink, id, facts.version, self.now);
                exchange.session = lane.session;
                exchange.deadline = deadline;
                exchange.latest = latest;
                if let Some(session) = lane.session.and_then(|key| self.shards.find(key)) {
                    session.busy += 1;
                    session.calls.push(key);
                }
                let inserted = self.exchanges.insert(exchange);
                debug_assert_eq!(inserted, key, "the key that the service was told");
                self.remind(key);
                Told::Pending(key)
            }
        }
    }

    /// Whether a request with this id is in flight already where its answer would go, or in its session: ids are the
    /// client's, and it could not tell two answers to one of them apart. Modern answers over HTTP are told apart by
    /// their request.
    pub(super) fn is_duplicate(&mut self, lane: Lane<'_>, id: &[u8]) -> bool {
        // What is in flight for a session that is the connection's own is in flight on the connection.
        let session = lane.session.filter(|_| lane.terms.is_none()).and_then(|key| self.shards.find(key));
        let of_session = session.map_or(&[][..], |session| &session.calls[..]);
        let same = |key: &ExchangeKey| self.exchanges.get(*key).is_some_and(|exchange| *exchange.id == *id);
        of_session.iter().chain(lane.siblings).any(same)
    }

    /// Whether as many calls are in flight where the answer would go, or for the session, as may be: a session's calls
    /// go on when their connection is lost, so connections do not bound them. Streams have a bound of their own.
    pub(super) fn is_over_limit(&mut self, lane: Lane<'_>) -> bool {
        let most = self.settings.in_flight_per_connection;
        if lane.terms.is_none()
            && let Some(session) = lane.session.and_then(|key| self.shards.find(key))
            && session.calls.len() >= most
        {
            let is_call =
                |key: &&ExchangeKey| self.exchanges.get(**key).is_some_and(|exchange| exchange.kind == Kind::Call);
            if session.calls.iter().filter(is_call).count() >= most {
                return true;
            }
        }
        if lane.siblings.len() + lane.ahead < most {
            return false;
        }
        let is_call =
            |key: &&ExchangeKey| self.exchanges.get(**key).is_some_and(|exchange| exchange.kind != Kind::Listen);
        lane.siblings.iter().filter(is_call).count() + lane.ahead >= most
    }
}

/// What is known of a call's sender.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) version: Version,
    pub(super) capabilities: Capabilities,
    pub(super) log_level: Option<LogLevel>,
    pub(super) is_level_chosen: bool,
    pub(super) may_ask: bool,
}

/// The nanoseconds that a sender waits for its answer, by its `X-Request-Timeout-Ms`; none unless that is a whole
/// number of milliseconds above 0. However large, it is read: what is too long is cut like any other time.
fn patience(milliseconds: &[u8]) -> Option<u64> {
    if milliseconds.is_empty() || !milliseconds.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let next = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(milliseconds.iter().fold(0, next).saturating_mul(MILLISECOND)).filter(|&time| time > 0)
}

/// The id of a message whose other parts are in doubt.
pub(super) fn valid_id<'a>(envelope: &Envelope, text: &'a [u8]) -> Option<&'a [u8]> {
    let is_one = matches!(envelope.id_kind(), IdKind::Integer | IdKind::String);
    is_one.then(|| envelope.get(Key::Id).of(text)).filter(|id| id.len() <= ID_BYTES_MAX)
}

fn id_too_long(length: usize) -> RpcError {
    let text = format!("the id has {length} bytes, the most is {ID_BYTES_MAX}; number requests, or name them by UUIDs");
    RpcError::new(Code::INVALID_REQUEST, text)
}

/// Appends a response with this result.
pub(super) fn write_result(out: &mut Vec<u8>, id: &[u8], result: &[u8]) {
    jsonrpc::begin_result(out, id);
    out.extend_from_slice(result);
    jsonrpc::end(out);
}

/// Whether a message names a modern revision and what its client can do in it.
fn is_valid_claim(envelope: &Envelope, text: &[u8]) -> bool {
    let version = envelope.plain(Key::MetaProtocolVersion, text).and_then(Version::parse);
    let declared = envelope.text(Key::MetaClientCapabilities, text);
    version.is_some_and(Version::is_modern) && declared.is_some_and(|declared| Capabilities::parse(declared).is_some())
}

pub(super) fn is_method(envelope: &Envelope, text: &[u8], method: Method) -> bool {
    method_name(envelope, text) == Some(method.as_str().as_bytes())
}
