//! Delivery: what the service sends outside a call's return value, brought to whoever waits for it.
//!
//! Not here: the service, the bytes of a stream (`answer`).
//! Invariant: a message goes to exactly one sink; an exchange's outcome is the last thing its sink hears of it.

use std::borrow::Cow;

use super::connection::{Connection, HttpAnswer, Wire};
use super::core::Core;
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::router::Lane;
use super::service::{CallKey, Mail, ResultObject, Service};
use crate::metrics::{CloseCause, Refusal, Step};
use crate::proto::json::{Envelope, Key, Object, Value, compact, has_newline, splice, string};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::proto::mcp::Version;
use crate::shard::replay::EventId;
use crate::shard::session::SessionKey;

/// How many times `limits.egress_bytes` a connection may be told unasked before the first byte of it is sent: a handler
/// that says all that it has to say at once is no flood yet.
const UNASKED_AT_ONCE: usize = 4;

impl<S: Service> Core<S> {
    pub(super) fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Ask { key, ask, method, params } => self.ask(key.into(), ask, method, &params),
            Mail::Changed(change) => self.changed(&change),
            Mail::ChangedHere(change) => self.tell_subscribers(&change),
            Mail::EndStream { key } => self.end_stream_early(key.into()),
            Mail::Notice { key, method, params } => {
                let key = ExchangeKey::from(key);
                let (now, more, most) = (self.now, self.settings.call_time, self.settings.call_time_max);
                let Some(exchange) = self.exchanges.find(key) else { return };
                // Who shows progress is given more time, up to the most a call may have.
                let later = (now + more).min(exchange.since + most).min(exchange.latest);
                exchange.deadline = exchange.deadline.max(later);
                let mut message = Vec::new();
                jsonrpc::notification(&mut message, method, &params);
                self.deliver(key, &message);
            }
            Mail::Reply { key, outcome } => self.reply(key.into(), outcome),
            Mail::Session { session, method, params } => {
                let session = self.shards.find(SessionKey::of_number(session));
                if let Some(stream) = session.and_then(|session| session.stream) {
                    let mut message = Vec::new();
                    jsonrpc::notification(&mut message, method, &params);
                    self.deliver(stream, &message);
                }
            }
        }
    }

    /// A call's outcome. Its result is copied once, to where it is sent from.
    pub(super) fn reply(&mut self, key: ExchangeKey, outcome: Result<ResultObject, RpcError>) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let (logged, since) = (exchange.logged.take(), exchange.since);
        self.metrics.step(Step::Handle).record(self.now.saturating_sub(since));
        let mut head = Vec::with_capacity(jsonrpc::RESULT_HEAD_BYTES + exchange.id.len());
        let mut message: [&[u8]; 5] = [b""; 5];
        let status = match &outcome {
            Ok(result) => {
                jsonrpc::begin_result(&mut head, &exchange.id);
                let [opening, members, closing] = result.parts();
                message = [&head, opening, members, closing, jsonrpc::END];
                self.metrics.calls_finished.add(1);
                200
            }
            Err(error) => {
                jsonrpc::error(&mut head, Some(&exchange.id), true, error);
                message[0] = &head;
                self.metrics.calls_failed.add(1);
                if exchange.version.is_modern() { error.code.http_status() } else { 200 }
            }
        };
        self.take_back_asks(key);
        let code = outcome.as_ref().err().map(|error| error.code);
        self.log_ended(logged, since, if code.is_some() { "failed" } else { "answered" }, code);
        self.conclude(key, &message, status);
    }

    /// Whether a connection may be told so much that nobody asked for. One that may not is given up: as much waits
    /// behind a send on its way as may wait on one connection, or was told before anything of it could be sent. Answers
    /// are bounded by what was asked; this bounds what is told unasked. What can be replayed is kept.
    pub(super) fn may_tell(&mut self, connection: &mut Connection, bytes: usize) -> bool {
        // A client that takes no stream hears of nothing but its answer.
        if let Some(HttpAnswer::Undecided { stream: false, .. }) = connection.answer {
            return false;
        }
        let most = self.settings.egress_bytes;
        let is_behind = connection.sending > 0 && connection.out.len() >= most;
        if is_behind || connection.unasked >= UNASKED_AT_ONCE * most {
            self.refused(Refusal::EgressFull);
            self.abandon(connection);
            self.close(connection, CloseCause::EgressFull);
            return false;
        }
        connection.unasked += bytes;
        true
    }

    /// Sends a message that is not the last of its exchange.
    pub(super) fn deliver(&mut self, key: ExchangeKey, message: &[u8]) {
        self.metrics.messages_out.add(1);
        let Some(exchange) = self.exchanges.find(key) else { return };
        match exchange.sink {
            Sink::Http(id) => {
                let resumable = self.event_for(key, message, false);
                self.with(id, |core, connection| {
                    if !core.may_tell(connection, message.len()) {
                        return;
                    }
                    if connection.answer.is_some_and(|answer| matches!(answer, HttpAnswer::Undecided { .. })) {
                        core.begin_call_stream(connection, key);
                    }
                    core.stream_event(connection, resumable, "message", &[message]);
                    connection.active_at = core.now;
                });
            }
            Sink::Lines(id) => {
                self.with(id, |core, connection| {
                    if core.may_tell(connection, message.len()) {
                        write_line(&mut connection.out, &[message]);
                    }
                });
            }
            Sink::Nobody => {
                self.event_for(key, message, false);
            }
            Sink::Remote { .. } => self.deliver_remote(key, message),
        }
    }

    /// Sends the last message of an exchange, which is in parts, and ends it.
    pub(super) fn conclude(&mut self, key: ExchangeKey, message: &[&[u8]], status: u16) {
        self.metrics.messages_out.add(1);
        let Some(exchange) = self.exchanges.find(key) else { return };
        match exchange.sink {
            Sink::Http(id) => {
                let resumable = if exchange.stream.is_some() { self.last_event_for(key, message) } else { None };
                // Before its connection: if that ends with it, nothing ends it a second time.
                self.forget(key);
                self.with(id, |core, connection| match connection.answer {
                    Some(HttpAnswer::Undecided { .. }) => {
                        core.answer_json(connection, status, &[], message);
                        core.resumable.push_back(id);
                    }
                    Some(HttpAnswer::Stream { .. }) => {
                        core.stream_event(connection, resumable, "message", message);
                        core.one_concluded(connection, key);
                    }
                    None => {}
                });
            }
            Sink::Lines(id) => {
                self.forget(key);
                self.with(id, |core, connection| {
                    write_line(&mut connection.out, message);
                    core.one_concluded(connection, key);
                });
            }
            Sink::Nobody => {
                self.last_event_for(key, message);
                self.forget(key);
            }
            Sink::Remote { .. } => {
                self.conclude_remote(key, message, status);
                self.forget(key);
            }
        }
    }

    /// Ends an exchange without a word, and what hangs on it.
    pub(super) fn forget(&mut self, key: ExchangeKey) -> Option<Exchange> {
        let exchange = self.exchanges.remove(key)?;
        if let Some(timer) = exchange.timer {
            self.wheel.remove(timer);
        }
        self.log_ended(exchange.logged, exchange.since, "no longer wanted", None);
        let now = self.now;
        if let Sink::Remote { core, ticket } = exchange.sink {
            self.remotes.remove(&(core, ticket.into(), key.into()));
        }
        if let Some(session) = exchange.session.and_then(|key| self.shards.find(key)) {
            session.used = now;
            session.calls.retain(|&call| call != key);
            match exchange.kind {
                Kind::Call => session.busy = session.busy.saturating_sub(1),
                _ if session.stream == Some(key) => {
                    session.stream = None;
                    // A stream that was put aside is no longer counted.
                    session.busy = session.busy.saturating_sub(u32::from(exchange.sink != Sink::Nobody));
                }
                _ => {}
            }
        }
        match exchange.kind {
            Kind::Call => {
                self.metrics.calls_in_flight.sub(1);
                if let Some(shard) = exchange.session.and_then(|key| self.metrics.shard(key.shard)) {
                    shard.queue_depth.sub(1);
                }
            }
            Kind::Listen => {
                for (what, topic) in self.subscriptions.remove(key) {
                    self.service.watched(self.now, what, &topic, None);
                }
                self.metrics.streams_open.sub(1);
            }
            Kind::Get => self.metrics.streams_open.sub(u64::from(exchange.sink != Sink::Nobody)),
            Kind::Duplex if matches!(exchange.sink, Sink::Http(_)) => self.metrics.streams_open.sub(1),
            Kind::Duplex | Kind::Forwarded { .. } => {}
        }
        Some(exchange)
    }

    /// The event id under which a message goes out, kept for replay if its exchange is resumable.
    pub(super) fn event_for(&mut self, key: ExchangeKey, message: &[u8], last: bool) -> Option<EventId> {
        let limits = self.settings.replay;
        let exchange = self.exchanges.find(key).filter(|exchange| exchange.is_kept)?;
        let owner = exchange.session?;
        let session = self.shards.find(owner)?;
        // A session without an id is its connection's own: nobody can come back to it.
        if exchange.version < Version::V2025_03_26 || exchange.kind == Kind::Duplex || session.id.is_empty() {
            return None;
        }
        let stream = *exchange.stream.get_or_insert_with(|| session.next_call_stream());
        // A client that comes back says itself where it was: one that invents a number confuses only itself.
        exchange.events = exchange.events.saturating_add(1);
        let id = EventId { stream, number: exchange.events };
        if let Some(kept) = session.keep(id, message, last, limits) {
            self.kept(owner, kept);
        }
        Some(id)
    }

    /// The same for the last message, in its parts.
    pub(super) fn last_event_for(&mut self, key: ExchangeKey, message: &[&[u8]]) -> Option<EventId> {
        let is_kept = self.exchanges.find(key).is_some_and(|exchange| exchange.is_kept);
        if is_kept { self.event_for(key, &message.concat(), true) } else { None }
    }

    /// Turns a call's pending answer into a stream; from 2025-11-25 on it begins with an event that only carries an id,
    /// so that a client that loses the connection knows where to come back to ("Polling", SEP-1699).
    pub(super) fn begin_call_stream(&mut self, connection: &mut Connection, key: ExchangeKey) {
        self.begin_stream(connection);
        let Some(exchange) = self.exchanges.find(key) else { return };
        if !primes(exchange.version) {
            return;
        }
        let Some(session) = exchange.session.and_then(|key| self.shards.find(key)) else { return };
        let stream = *exchange.stream.get_or_insert_with(|| session.next_call_stream());
        self.prime(connection, stream);
    }

    /// Numbers the stream that a call's answer becomes on another core, if it begins with such an event.
    pub(super) fn number_call_stream(&mut self, key: ExchangeKey) -> Option<u32> {
        let exchange = self.exchanges.find(key)?;
        if exchange.stream.is_some() || !primes(exchange.version) {
            return None;
        }
        let session = exchange.session.and_then(|key| self.shards.find(key))?;
        Some(*exchange.stream.insert(session.next_call_stream()))
    }

    /// Writes the priming event of a stream.
    pub(super) fn prime(&mut self, connection: &mut Connection, stream: u32) {
        let Some(HttpAnswer::Stream { framing, .. }) = connection.answer else { return };
        let mut id = Vec::new();
        EventId { stream, number: 0 }.write(&mut id);
        crate::proto::http1::chunk(&mut connection.out, framing, |out| {
            crate::proto::sse::retry(out, u64::from(self.settings.retry_ms));
            crate::proto::sse::priming(out, &id);
        });
    }

    /// The service wants a call's stream closed before its outcome: the client comes back for it.
    fn end_stream_early(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        if exchange.session.is_none() || !primes(exchange.version) {
            return;
        }
        let sink = exchange.sink;
        match sink {
            // A 2024-11-05 stream is its client's only one.
            Sink::Http(id) if self.find(id).is_some_and(|connection| connection.duplex.is_some()) => {}
            Sink::Http(id) => {
                self.with(id, |core, connection| {
                    core.begin_call_stream_if_undecided(connection, key);
                    core.end_stream(connection);
                });
                if let Some(exchange) = self.exchanges.find(key) {
                    exchange.sink = Sink::Nobody;
                }
            }
            Sink::Remote { .. } => self.end_remote_stream(key),
            Sink::Lines(_) | Sink::Nobody => {}
        }
    }

    fn begin_call_stream_if_undecided(&mut self, connection: &mut Connection, key: ExchangeKey) {
        if let Some(HttpAnswer::Undecided { .. }) = connection.answer {
            self.begin_call_stream(connection, key);
        }
    }

    /// A question of a call to its client.
    fn ask(&mut self, key: ExchangeKey, ask: u32, method: &'static str, params: &[u8]) {
        let (now, patience) = (self.now, self.settings.ask_time);
        let Some(exchange) = self.exchanges.find(key) else { return };
        exchange.asks.push(ask);
        exchange.deadline = exchange.deadline.max((now + patience).min(exchange.latest));
        let (mut message, id) = (Vec::new(), ask_id(key, ask));
        jsonrpc::request(&mut message, &id, method, &with_own_token(params, &id));
        self.deliver(key, &message);
        self.remind(key);
    }

    /// The client's answer to a question. The id must be one of ours, for a call of the same session or connection.
    pub(super) fn client_answered(&mut self, lane: Lane<'_>, id: &[u8], envelope: &Envelope, text: &[u8]) {
        let Some((key, ask)) = self.open_ask(lane, Value::new(id)) else { return };
        let Some(exchange) = self.exchanges.find(key) else { return };
        exchange.asks.retain(|&open| open != ask);
        if exchange.asks.is_empty() {
            exchange.deadline = exchange.deadline.min(self.now + self.settings.call_time);
            self.remind(key);
        }
        let answer = match envelope.text(Key::Result, text) {
            Some(result) => Ok(result),
            None => Err(client_error(envelope.text(Key::Error, text).unwrap_or_default())),
        };
        self.service.answered(self.now, CallKey::from(key), ask, answer);
    }

    /// The client says how far it is with a question. The token is the question's id.
    pub(super) fn client_progressed(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8]) {
        let Some(params) = envelope.value(Key::Params, text) else { return };
        let asked = params.get("progressToken").and_then(|token| self.open_ask(lane, token));
        if let Some((key, ask)) = asked {
            self.service.progressed(self.now, CallKey::from(key), ask, params.raw());
        }
    }

    /// The question that an id of ours names, if it is not answered yet and was put to who speaks here.
    fn open_ask(&mut self, lane: Lane<'_>, id: Value<'_>) -> Option<(ExchangeKey, u32)> {
        let (key, ask) = id.as_str().and_then(|id| parse_ask_id(&id))?;
        let exchange = self.exchanges.find(key)?;
        let theirs = match (exchange.session, lane.session) {
            (Some(asked), Some(answering)) => asked == answering,
            _ => exchange.sink == lane.sink,
        };
        (theirs && exchange.asks.contains(&ask)).then_some((key, ask))
    }

    /// Takes back what a call asks its client that is not answered, where it was asked: the call is over.
    fn take_back_asks(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let sink = exchange.sink;
        for ask in std::mem::take(&mut exchange.asks) {
            let mut params = Vec::new();
            let mut object = Object::begin(&mut params);
            object.string("requestId", &ask_id(key, ask));
            object.string("reason", "the call that asked this is over");
            object.end();
            let mut message = Vec::new();
            jsonrpc::notification(&mut message, "notifications/cancelled", &params);
            match sink {
                // The connection whose step this is hears it at the end of the turn.
                Sink::Http(id) | Sink::Lines(id) if self.find(id).is_none() => self.belated.push_back((id, message)),
                _ => self.deliver(key, &message),
            }
        }
    }

    /// Says what could not be said in the step of the connection that it is for.
    pub(super) fn say_belated(&mut self, connection: &mut Connection, message: &[u8]) {
        match connection.wire() {
            Wire::Lines => write_line(&mut connection.out, &[message]),
            Wire::Http => self.stream_event(connection, None, "message", &[message]),
        }
    }

    /// The client cancels one of its requests.
    pub(super) fn client_cancelled(&mut self, lane: Lane<'_>, id: &[u8]) {
        if id.is_empty() {
            return;
        }
        let of_session = lane.session.and_then(|key| self.shards.find(key)).map(|session| session.calls.clone());
        let candidates = of_session.iter().flatten().chain(lane.siblings);
        let wanted = |key: &&ExchangeKey| {
            self.exchanges
                .get(**key)
                .is_some_and(|exchange| *exchange.id == *id && matches!(exchange.kind, Kind::Call | Kind::Listen))
        };
        let keys: Vec<ExchangeKey> = candidates.filter(wanted).copied().collect();
        for key in keys {
            self.cancel(key);
        }
    }

    /// Drops an exchange on its client's wish: nothing more is sent for it.
    fn cancel(&mut self, key: ExchangeKey) {
        self.take_back_asks(key);
        let Some(exchange) = self.forget(key) else { return };
        if exchange.kind == Kind::Call {
            self.service.cancel(self.now, key.into());
            self.metrics.calls_failed.add(1);
        }
        match exchange.sink {
            // Its connection may be the one whose step this is, so it hears of it at the end of the turn.
            Sink::Lines(id) => self.concluded.push((id, key)),
            // Neither a batch nor a 2024-11-05 stream ends with one call, whatever revision is spoken on it.
            Sink::Http(id) if self.find(id).is_none_or(|one| one.duplex.is_some() || one.batch_left > 0) => {
                self.concluded.push((id, key));
            }
            // Its home has not been told how many answers to await, and will not be told of this one.
            sink @ Sink::Remote { .. } if self.batch_of == Some(sink) => {}
            Sink::Remote { core, ticket } if self.waiting_for(core, ticket.into()).next().is_some() => {
                self.send_reply(core, ticket, 202, None, Vec::new());
            }
            // The stream ends without a response (2025-11-25, "Cancellation"); a pending answer becomes an empty
            // stream.
            sink => self.end_sink(sink),
        }
    }

    /// The peer of a connection of lines has shut its side: subscription streams end, and so do calls that wait for an
    /// answer of the client's. Other calls are still answered.
    pub(super) fn end_what_needs_a_peer(&mut self, connection: &mut Connection) {
        if connection.calls.is_empty() {
            return;
        }
        let over = |exchange: &Exchange| exchange.kind == Kind::Listen || !exchange.asks.is_empty();
        let (lost, kept): (Vec<ExchangeKey>, Vec<ExchangeKey>) = std::mem::take(&mut connection.calls)
            .into_iter()
            .partition(|&key| self.exchanges.get(key).is_none_or(over));
        connection.calls = kept;
        for key in lost {
            self.lost_its_sink(key);
        }
    }

    /// The connection is going: what was to be answered on it is cancelled where its revision says so, or goes on for
    /// replay.
    pub(super) fn abandon(&mut self, connection: &mut Connection) {
        self.forget_early(connection);
        // One that stands for a batch is among its calls.
        let one = connection.exchange.take().filter(|_| connection.duplex.is_none());
        let others = std::mem::take(&mut connection.calls);
        for key in one.into_iter().filter(|key| !others.contains(key)).chain(others.iter().copied()) {
            self.lost_its_sink(key);
        }
        connection.answer = None;
        self.release_duplex(connection);
    }

    pub(super) fn lost_its_sink(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let is_http = matches!(exchange.sink, Sink::Http(_) | Sink::Remote { .. });
        let goes_on = match exchange.kind {
            Kind::Call => exchange.session.is_some() && !exchange.version.is_modern() && is_http,
            // What its client misses is kept until it comes back.
            Kind::Get => is_http && self.keeps_events(exchange),
            _ => false,
        };
        if goes_on {
            self.put_aside(key);
        } else if let Some(exchange) = self.forget(key) {
            match exchange.kind {
                Kind::Call => {
                    self.service.cancel(self.now, key.into());
                    self.metrics.calls_failed.add(1);
                }
                Kind::Forwarded { to } => self.tell_gone(to, key),
                _ => {}
            }
        }
    }

    /// Nobody hears an exchange for now; its client may come back to it.
    fn put_aside(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let sink = std::mem::replace(&mut exchange.sink, Sink::Nobody);
        let (is_stream, session) = (exchange.kind == Kind::Get, exchange.session);
        if let Sink::Remote { core, ticket } = sink {
            self.remotes.remove(&(core, ticket.into(), key.into()));
        }
        if is_stream {
            self.metrics.streams_open.sub(1);
            if let Some(session) = session.and_then(|key| self.shards.find(key)) {
                // A stream that nobody hears does not keep its session from idling.
                session.busy = session.busy.saturating_sub(1);
                session.used = self.now;
            }
        }
    }

    /// Whether what an exchange says is kept for a client that comes back.
    fn keeps_events(&self, exchange: &Exchange) -> bool {
        let limits = self.settings.replay;
        exchange.version >= Version::V2025_03_26 && exchange.stream.is_some() && limits.events > 0 && limits.bytes > 0
    }

    /// Ends what stands for the connection as a duplex, and the session that was the connection's own.
    pub(super) fn release_duplex(&mut self, connection: &mut Connection) {
        if let Some(key) = connection.duplex.take() {
            connection.terms = None;
            let own = self.forget(key).and_then(|exchange| exchange.session);
            if let Some(session) = own {
                self.end_session(session, "its connection went");
            }
        }
    }

    /// An exchange's deadline was put on the wheel for now.
    pub(super) fn exchange_due(&mut self, key: ExchangeKey) {
        let now = self.now;
        let Some(exchange) = self.exchanges.find(key) else { return };
        if exchange.deadline > now {
            return self.remind(key);
        }
        if let Kind::Forwarded { to } = exchange.kind {
            let is_modern = exchange.version.is_modern();
            return self.forwarded_due(key, to, is_modern);
        }
        self.refused(Refusal::DeadlinePassed);
        self.service.cancel(self.now, key.into());
        let error = RpcError::new(Code::DEADLINE, "the call took longer than its time limit and was cancelled");
        self.reply(key, Err(error));
    }

    /// Several calls of one batch are pending: their answers become a stream.
    pub(super) fn begin_batch_stream(&mut self, connection: &mut Connection, messages: &[u8]) {
        self.begin_stream(connection);
        for message in messages.split(|&byte| byte == b'\n').filter(|message| !message.is_empty()) {
            self.stream_event(connection, None, "message", &[message]);
        }
    }

    /// One of the calls that share a connection is over.
    pub(super) fn one_concluded(&mut self, connection: &mut Connection, key: ExchangeKey) {
        connection.calls.retain(|&call| call != key);
        if connection.wire() == Wire::Lines {
            self.resumable.push_back(connection.id);
            return;
        }
        connection.batch_left = connection.batch_left.saturating_sub(1);
        // A 2024-11-05 stream outlives the calls that are answered on it.
        if connection.batch_left == 0 && connection.duplex.is_none() {
            self.end_stream(connection);
        }
    }
}

/// Whether streams of this revision begin with a priming event; older clients cannot read an event without data.
pub(super) fn primes(version: Version) -> bool {
    version == Version::V2025_11_25
}

/// Appends a message, which is in parts, and the end of its line.
pub(super) fn write_line(out: &mut Vec<u8>, message: &[&[u8]]) {
    if message.iter().any(|part| has_newline(part)) {
        compact(out, &message.concat());
    } else {
        message.iter().for_each(|part| out.extend_from_slice(part));
    }
    out.push(b'\n');
}

/// The parameters of a question in which the token of progress, if there is one, is the question's id: two servers
/// behind a gateway may have given the same.
fn with_own_token<'a>(params: &'a [u8], id: &str) -> Cow<'a, [u8]> {
    let token = Value::new(params).get("_meta").and_then(|meta| meta.get("progressToken"));
    let Some(place) = token.and_then(|token| token.span_in(params)) else { return Cow::Borrowed(params) };
    let (mut out, mut quoted) = (Vec::new(), Vec::new());
    string(&mut quoted, id);
    splice(&mut out, params, &[(place, quoted)]);
    Cow::Owned(out)
}

fn ask_id(key: ExchangeKey, ask: u32) -> String {
    format!("corelane-{}-{}-{ask}", key.index, key.generation)
}

fn parse_ask_id(id: &str) -> Option<(ExchangeKey, u32)> {
    let mut numbers = id.strip_prefix("corelane-")?.split('-').map(|number| number.parse::<u32>().ok());
    let key = ExchangeKey { index: numbers.next()??, generation: numbers.next()?? };
    let ask = numbers.next()??;
    // Exactly what was sent: numbers can be written in many ways.
    (numbers.next().is_none() && ask_id(key, ask) == id).then_some((key, ask))
}

/// A client's error object, as an error of ours.
fn client_error(text: &[u8]) -> RpcError {
    let value = Value::new(text);
    let code = value.get("code").and_then(|code| code.as_i64()).and_then(|code| i32::try_from(code).ok());
    let message = value.get("message").and_then(|message| message.as_str());
    let message =
        message.map_or_else(|| "the client answered with an error".to_owned(), |message| message.into_owned());
    RpcError::new(code.map_or(Code::INTERNAL, Code), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_questions_round_trip_and_strange_ones_are_not_ours() {
        let key = ExchangeKey { index: 3, generation: 9 };
        assert_eq!(parse_ask_id(&ask_id(key, 2)), Some((key, 2)));
        for strange in [
            "",
            "corelane-01-2-3",
            "corelane-1-2-+3",
            "corelane-1-2",
            "corelane-1-2-3-4",
            "corelane--1-2-3",
            "1",
            "corelane-1-2-x",
        ] {
            assert_eq!(parse_ask_id(strange), None, "{strange}");
        }
    }
}
