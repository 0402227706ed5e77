//! The HTTP side of the endpoint: which requests are let in, and what they ask for.
//!
//! Streamable HTTP of every revision and the deprecated HTTP+SSE of 2024-11-05 on one listener. Not here: what a
//! message means (`router`), how it is answered (`answer`), the bytes of HTTP (`proto::http1`), whom it is meant for
//! (`entrance`).
//! Invariant: a request is answered exactly once, in the order in which requests came.

use std::borrow::Cow;

use super::connection::{Assembly, Connection, HttpAnswer};
use super::core::Core;
use super::exchange::{Exchange, ExchangeKey, Kind, Sink};
use super::parcel::{Header, Numbers};
use super::pump::Whereabouts;
use super::router::{Lane, Told};
use super::service::Service;
use super::sessions::Reopened;
use super::settings::Eras;
use crate::ids::{CoreId, View};
use crate::metrics::{Refusal, Step};
use crate::proto::http1::{self, Accepts, Field, Head, Method, is_json};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Version;
use crate::shard::replay::EventId;

/// What a preflight is told (fetch standard; the headers are those that MCP clients send).
const ALLOWED_METHODS: Field<'static> = ("Access-Control-Allow-Methods", b"GET, POST, DELETE, OPTIONS");
const ALLOWED_HEADERS: &[u8] = b"content-type, accept, authorization, mcp-protocol-version, mcp-method, mcp-name, \
    mcp-session-id, last-event-id, x-request-timeout-ms, traceparent, tracestate";
const MAX_AGE: Field<'static> = ("Access-Control-Max-Age", b"7200");
/// What became of a message posted for a 2024-11-05 stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Posted {
    /// The stream took it.
    Taken,
    /// There is no such stream any more.
    Gone,
    /// The stream's client does not read what it is sent.
    Behind,
}

pub(super) const STREAM_BEHIND: &str =
    "limits.egress_bytes wait on the event stream that this answer would go to; read it, then try again";
const ALLOW_ALL: Field<'static> = ("Allow", b"GET, POST, DELETE, OPTIONS");
const ALLOW_POST: Field<'static> = ("Allow", b"POST");
/// Advice for whoever takes no answer that could be given.
pub(super) const NOT_ACCEPTABLE: &str =
    "the answer is application/json or text/event-stream; the Accept header has to list both";
/// The same, where it can only be events.
pub(super) const NO_EVENTS: &str = "the answer is a stream of events; the Accept header has to list text/event-stream";
/// The same, where it is always JSON.
pub(super) const NO_JSON: &str = "the answer is JSON; the Accept header has to list application/json";
const ALLOW_GET: Field<'static> = ("Allow", b"GET");

impl<S: Service> Core<S> {
    /// A whole HTTP request.
    pub(super) fn request(&mut self, connection: &mut Connection, head: &Head<'_>, body: &[u8]) {
        if !self.is_for_us(connection, head, head.keep_alive && !self.drain.is_on()) {
            return;
        }
        if let Some(view) = self.view_at(head.path) {
            connection.view = view;
            match head.method {
                Method::Post => self.post(connection, head, body),
                Method::Get => self.get(connection, head),
                Method::Delete => self.delete(connection, head),
                Method::Options => self.preflight(connection, head),
                _ => self.method_not_allowed(connection, ALLOW_ALL),
            }
        } else if head.path == self.settings.sse_endpoint {
            match head.method {
                Method::Get => self.open_event_stream(connection, head),
                Method::Options => self.preflight(connection, head),
                _ => self.method_not_allowed(connection, ALLOW_GET),
            }
        } else if head.path == self.settings.message_endpoint {
            match head.method {
                Method::Post => self.post_message(connection, head, body),
                Method::Options => self.preflight(connection, head),
                _ => self.method_not_allowed(connection, ALLOW_POST),
            }
        } else {
            self.refused(Refusal::NotFound);
            let text = format!("nothing is served at {}; the MCP endpoint is {}", head.path, self.settings.endpoint);
            self.refuse(connection, 404, &[], Code::INVALID_REQUEST, &text);
        }
    }

    /// What is seen at a path: the endpoint itself, or a name behind it.
    fn view_at(&self, path: &str) -> Option<View> {
        let behind = path.strip_prefix(self.settings.endpoint.as_str())?;
        if behind.is_empty() {
            return Some(View::ALL);
        }
        // An endpoint that is the root has its slash already.
        let name = if self.settings.endpoint.ends_with('/') { behind } else { behind.strip_prefix('/')? };
        self.service.view(name).filter(|_| !name.is_empty())
    }

    fn post(&mut self, connection: &mut Connection, head: &Head<'_>, body: &[u8]) {
        if !self.takes_body(connection, head) {
            return;
        }
        // No Accept at all accepts everything (RFC 9110, 12.5.1).
        let accepts = head.accepts().unwrap_or(Accepts { json: true, event_stream: true });
        if !accepts.json && !accepts.event_stream {
            return self.not_acceptable(connection, NOT_ACCEPTABLE);
        }
        if let Some(HttpAnswer::Undecided { stream, .. }) = &mut connection.answer {
            *stream = accepts.event_stream;
        }
        let mut out = std::mem::take(&mut connection.out);
        let start = out.len();
        let keep_alive = connection.keeps_alive();
        let plain = connection.origin.is_none() && head.minor_version == 1;
        // Nearly every answer is a 200 without further headers: its head is written first and the result straight
        // behind it. Any other answer is dressed again below.
        let mark = http1::begin_json(&mut out, self.stamp(), 200, keep_alive, &[]);
        let body_at = out.len();
        let lane = Lane::http(connection, head, accepts);
        let told = self.post_body(lane, connection, body, &mut out);
        match told {
            Told::Answered { status: 200, session: None } if plain => {
                http1::finish_json(&mut out, mark);
                self.laps.lap(Step::Encode);
                connection.out = out;
                self.answered(connection, keep_alive);
            }
            Told::Answered { status, session } => {
                let answer = out.split_off(body_at);
                out.truncate(start);
                connection.out = out;
                let id = session.and_then(|key| self.shards.find(key)).map(|session| session.id.clone());
                let extra: &[Field<'_>] = match &id {
                    Some(id) => &[("Mcp-Session-Id", id.as_bytes())],
                    None => &[],
                };
                self.answer_json(connection, status, extra, &[&answer]);
            }
            Told::Accepted => {
                out.truncate(start);
                connection.out = out;
                self.answer_empty(connection, 202, &[]);
            }
            Told::Early { until } => {
                out.truncate(start);
                connection.out = out;
                connection.answer = None;
                self.wait_early(connection, &[], until);
            }
            Told::Pending(key) => {
                out.truncate(start);
                connection.out = out;
                connection.exchange = Some(key);
            }
            Told::Listening(key) => {
                let first = out.split_off(body_at);
                out.truncate(start);
                connection.out = out;
                connection.exchange = Some(key);
                self.begin_stream(connection);
                self.stream_event(connection, None, "message", &[&first]);
            }
            Told::Streaming { pending } => {
                let messages = out.split_off(body_at);
                out.truncate(start);
                connection.out = out;
                connection.exchange = pending.first().copied();
                connection.batch_left = pending.len() as u16;
                connection.calls = pending;
                self.begin_batch_stream(connection, &messages);
            }
        }
    }

    /// Content-Type and Content-Encoding of a body that should be JSON.
    fn takes_body(&mut self, connection: &mut Connection, head: &Head<'_>) -> bool {
        let text = if !head.content_type.is_some_and(is_json) {
            "the Content-Type has to be application/json"
        } else if head.content_encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            "compressed bodies are not taken; send the body without Content-Encoding"
        } else {
            return true;
        };
        self.refused(Refusal::UnsupportedMedia);
        self.refuse(connection, 415, &[("Accept", b"application/json")], Code::INVALID_REQUEST, text);
        false
    }

    fn not_acceptable(&mut self, connection: &mut Connection, text: &str) {
        self.refused(Refusal::NotAcceptable);
        self.refuse(connection, 406, &[], Code::INVALID_REQUEST, text);
    }

    fn method_not_allowed(&mut self, connection: &mut Connection, allow: Field<'static>) {
        self.refused(Refusal::MethodNotAllowed);
        let text = "this HTTP method is not served here; see the Allow header";
        self.refuse(connection, 405, &[allow], Code::INVALID_REQUEST, text);
    }

    /// Whether a GET or DELETE is one of the legacy era, with headers in order; the modern era has neither.
    fn is_legacy_request(&mut self, connection: &mut Connection, head: &Head<'_>) -> bool {
        if let Err((cause, text)) = self.legacy_headers_do(head) {
            self.refused(cause);
            self.refuse(connection, 400, &[], Code::INVALID_REQUEST, &text);
            return false;
        }
        if connection.is_modern {
            self.method_not_allowed(connection, ALLOW_POST);
        }
        !connection.is_modern
    }

    fn preflight(&mut self, connection: &mut Connection, head: &Head<'_>) {
        if connection.origin.is_none() {
            return self.answer_empty(connection, 204, &[ALLOW_ALL]);
        }
        let headers = allowed_headers(head.access_control_request_headers);
        let extra = [ALLOWED_METHODS, ("Access-Control-Allow-Headers", &headers), MAX_AGE];
        self.answer_empty(connection, 204, &extra);
    }

    /// The session that a legacy GET, DELETE or POST names; refuses by itself if there is none.
    pub(super) fn named_session(
        &mut self,
        connection: &mut Connection,
        id: Option<&[u8]>,
    ) -> Result<Whereabouts, (u16, RpcError)> {
        let Some(id) = id else {
            self.refused(Refusal::UnknownSession);
            let text = "the Mcp-Session-Id header is missing; send the one that came with the answer to initialize";
            return Err((400, RpcError::new(Code::INVALID_REQUEST, text)));
        };
        match self.resolve_session(connection, id) {
            Whereabouts::Here(key) => {
                self.uses_session(connection, Some(key));
                Ok(Whereabouts::Here(key))
            }
            Whereabouts::At(owner) => Ok(Whereabouts::At(owner)),
            Whereabouts::Nowhere => {
                self.refused(Refusal::UnknownSession);
                Err((404, RpcError::new(Code::SESSION_NOT_FOUND, "Session not found")))
            }
        }
    }

    fn get(&mut self, connection: &mut Connection, head: &Head<'_>) {
        if !self.is_legacy_request(connection, head) {
            return;
        }
        if !head.accepts().is_some_and(|accepts| accepts.event_stream) {
            return self.not_acceptable(connection, NO_EVENTS);
        }
        let found = match self.named_session(connection, head.session_id) {
            Ok(found) => found,
            Err((status, error)) => return self.refuse_with(connection, status, &[], &error),
        };
        let last = match head.last_event_id.map(EventId::parse) {
            Some(None) => {
                self.refused(Refusal::BadRequest);
                let text = "the Last-Event-ID header holds no event id of this server";
                return self.refuse(connection, 400, &[], Code::INVALID_REQUEST, text);
            }
            Some(Some(id)) => Some(id),
            None => None,
        };
        let sink = Sink::Http(connection.id);
        match (found, last) {
            (Whereabouts::At(owner), last) => {
                let header = |ticket| Header::Get { ticket, last: last.map(Numbers::from) };
                let id = head.session_id.unwrap_or_default().to_vec();
                self.forward_request(connection, owner, header, id);
            }
            (Whereabouts::Here(key), Some(last)) => match self.reopen_stream(sink, key, last) {
                Ok(reopened) => self.go_on(connection, reopened),
                Err(error) => {
                    self.refused(Refusal::BadRequest);
                    self.refuse_with(connection, 400, &[], &error);
                }
            },
            (Whereabouts::Here(key), None) => {
                if let Some((stream, prime)) = self.open_get_stream(sink, key) {
                    connection.exchange = Some(stream);
                    self.begin_stream(connection);
                    if let Some(number) = prime {
                        self.prime(connection, number);
                    }
                }
            }
            (Whereabouts::Nowhere, _) => {}
        }
    }

    /// Writes what a client missed, and keeps the connection for what is still to come.
    fn go_on(&mut self, connection: &mut Connection, reopened: Reopened) {
        self.begin_stream(connection);
        if let Some(number) = reopened.prime {
            self.prime(connection, number);
        }
        for (id, message, _) in &reopened.missed {
            self.stream_event(connection, Some(*id), "message", &[message]);
        }
        match reopened.stream {
            Some(key) => connection.exchange = Some(key),
            None => self.end_stream(connection),
        }
    }

    /// Sends a request that is no call to the core that can answer it.
    fn forward_request(
        &mut self,
        connection: &mut Connection,
        owner: CoreId,
        header: impl FnOnce(Numbers) -> Header,
        payload: Vec<u8>,
    ) {
        let no_call: (&[u8], Version) = (&[], Version::LEGACY_DEFAULT);
        match self.forward(owner, Sink::Http(connection.id), no_call, None, header, payload) {
            Ok(key) => connection.exchange = Some(key),
            Err(error) => self.refuse_with(connection, 503, &[], &error),
        }
    }

    fn delete(&mut self, connection: &mut Connection, head: &Head<'_>) {
        if !self.is_legacy_request(connection, head) {
            return;
        }
        match self.named_session(connection, head.session_id) {
            Ok(Whereabouts::Here(key)) => {
                self.end_session(key, "its client deleted it");
                self.metrics.sessions_deleted.add(1);
                self.uses_session(connection, None);
                self.answer_empty(connection, 204, &[]);
            }
            Ok(Whereabouts::At(owner)) => {
                let id = head.session_id.unwrap_or_default().to_vec();
                self.forward_request(connection, owner, |ticket| Header::Delete { ticket }, id);
            }
            Ok(Whereabouts::Nowhere) => {}
            Err((status, error)) => self.refuse_with(connection, status, &[], &error),
        }
    }

    /// Whether a legacy request's own headers can be gone by.
    ///
    /// # Errors
    /// Why not: one stands twice, so that somebody in between may go by the other; or no such revision is served.
    pub(super) fn legacy_headers_do(&self, head: &Head<'_>) -> Result<(), (Refusal, Cow<'static, str>)> {
        if let Some(name) = head.duplicate {
            return Err((Refusal::BadRequest, format!("the header {name} stands twice").into()));
        }
        match head.protocol_version {
            Some(version) if !self.is_served(version) => Err((
                Refusal::UnsupportedVersion,
                "the MCP-Protocol-Version header names a revision that is not served here".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether a revision that a header names is served.
    fn is_served(&self, version: &[u8]) -> bool {
        let is_of_era = |version: Version| !version.is_modern() || self.settings.eras != Eras::Legacy;
        Version::parse(version).is_some_and(is_of_era)
    }

    /// GET of the 2024-11-05 transport: the stream, which begins with the address to post to.
    fn open_event_stream(&mut self, connection: &mut Connection, head: &Head<'_>) {
        if !head.accepts().is_none_or(|accepts| accepts.event_stream) {
            return self.not_acceptable(connection, NO_EVENTS);
        }
        // A request before it on this connection may have been for one server only; here all are seen.
        connection.view = View::ALL;
        let exchange = Exchange::new(Kind::Duplex, Sink::Http(connection.id), &[], Version::V2024_11_05, self.now);
        let key = self.exchanges.insert(exchange);
        connection.exchange = Some(key);
        connection.duplex = Some(key);
        let address = self.stream_address(key);
        self.begin_stream(connection);
        let target = format!("{}?sessionId={address}", self.settings.message_endpoint);
        self.stream_event(connection, None, "endpoint", &[target.as_bytes()]);
        self.metrics.streams_open.add(1);
    }

    /// POST of the 2024-11-05 transport: the answer goes to the stream.
    fn post_message(&mut self, connection: &mut Connection, head: &Head<'_>, body: &[u8]) {
        if !self.takes_body(connection, head) {
            return;
        }
        let address = head
            .query
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("sessionId=").map(str::as_bytes)));
        let Some((core, life, key)) = address.and_then(|address| self.open_stream_address(address)) else {
            self.refused(Refusal::UnknownSession);
            return self.refuse(connection, 404, &[], Code::SESSION_NOT_FOUND, "Session not found");
        };
        if core != self.id {
            // Only the stream's own core knows whether it is still open.
            let header = |ticket| Header::StreamPost { ticket, life, stream: key.into() };
            self.forward_request(connection, core, header, body.to_vec());
        } else {
            match self.post_to_stream(life, key, body) {
                Posted::Taken => self.answer_empty(connection, 202, &[]),
                Posted::Gone => {
                    self.refused(Refusal::UnknownSession);
                    self.refuse(connection, 404, &[], Code::SESSION_NOT_FOUND, "Session not found");
                }
                Posted::Behind => self.refuse(connection, 429, &[], Code::RATE_LIMITED, STREAM_BEHIND),
            }
        }
    }

    /// Hands a message to the 2024-11-05 stream that it was posted for. Its answer goes out there, so a stream whose
    /// client does not read takes no more messages: on lines such a client would not be read.
    pub(super) fn post_to_stream(&mut self, life: u32, key: ExchangeKey, body: &[u8]) -> Posted {
        let Some(Exchange { kind: Kind::Duplex, sink: Sink::Http(stream), .. }) = self.exchanges.get(key) else {
            return Posted::Gone;
        };
        let (stream, most) = (*stream, self.settings.egress_bytes);
        if life != self.shards.life() {
            return Posted::Gone;
        }
        match self.find(stream).map(|stream| stream.egress()) {
            None => Posted::Gone,
            Some(unsent) if unsent >= most => {
                self.refused(Refusal::EgressFull);
                Posted::Behind
            }
            Some(_) => {
                self.with(stream, |core, stream| core.duplex_message(stream, body));
                Posted::Taken
            }
        }
    }
}

/// The headers that a page may send: those that MCP clients send, and those of tools' arguments that it asks for.
fn allowed_headers(asked: Option<&[u8]>) -> Vec<u8> {
    let names = asked.unwrap_or_default().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let of_a_tool = |name: &&[u8]| name.len() > 10 && name[..10].eq_ignore_ascii_case(b"mcp-param-");
    names.filter(of_a_tool).fold(ALLOWED_HEADERS.to_vec(), |allowed, name| [&allowed, &b", "[..], name].concat())
}

impl Assembly {
    /// Bytes of it so far.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}
