//! Answers as they are written on a connection: JSON, events, refusals, and the last words before it ends.
//!
//! Not here: what is answered (`http`, `router`, `deliver`), the bytes of HTTP (`proto::http1`).
//! Invariant: what was answered once is not answered again; a connection that can frame nothing more ends.

use super::connection::{Connection, Fault, Framing, HttpAnswer, Wire};
use super::core::Core;
use super::exchange::Kind;
use super::service::Service;
use crate::metrics::{CloseCause, Refusal};
use crate::proto::http1::{self, Field};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::shard::replay::EventId;

const EXPOSED: Field<'static> = ("Access-Control-Expose-Headers", b"mcp-session-id, www-authenticate");
const RETRY_AFTER: Field<'static> = ("Retry-After", b"1");

impl<S: Service> Core<S> {
    /// Bytes that cannot be framed: answered as far as the wire allows, then the connection ends. `begun` is what came
    /// of the message, or of its body.
    pub(super) fn fault(&mut self, connection: &mut Connection, fault: Fault, begun: &[u8]) {
        let status = fault.status();
        self.refused(match (&fault, status) {
            (Fault::HttpOnLines, _) => Refusal::BadJson,
            (Fault::LineTooLong { .. }, _) => Refusal::LineTooLarge,
            (_, 413) => Refusal::BodyTooLarge,
            (_, 431 | 414) => Refusal::HeadTooLarge,
            _ => Refusal::BadHead,
        });
        let error = RpcError::new(Code::INVALID_REQUEST, fault.to_string());
        // Whoever started us has no other to go to, and the next line is a message again.
        if let (Fault::LineTooLong { .. }, Framing::Lines(finder), true) =
            (&fault, &mut connection.framing, self.settings.ends_when_empty)
        {
            finder.skip_line();
            return self.last_words(connection, status, &error, begun);
        }
        self.give_up_lines(connection);
        self.last_words(connection, status, &error, begun);
        self.finish(connection, CloseCause::ProtocolError);
    }

    /// The time for a head, a body or a line is up.
    pub(super) fn frame_too_slow(&mut self, connection: &mut Connection) {
        let (refusal, cause) = match connection.framing {
            Framing::Head(_) | Framing::Lines(_) => (Refusal::HeadTimeout, CloseCause::HeadTimeout),
            _ => (Refusal::BodyTimeout, CloseCause::BodyTimeout),
        };
        let text = match self.drain.is_on() {
            true => "this process is ending, and the message has not come in time; send it again",
            false => "the message took too long to arrive",
        };
        let error = RpcError::new(Code::INVALID_REQUEST, text);
        self.give_up_frame(connection, refusal, 408, &error, cause);
    }

    /// A message is coming in, and more of them are than there may be.
    pub(super) fn no_room_to_come(&mut self, connection: &mut Connection) {
        let text = "messages that come in pieces take all the room there is, and this one has been coming for longest; \
                    send it again";
        let error = RpcError::new(Code::OVERLOADED, text);
        self.give_up_frame(connection, Refusal::ComingFull, 503, &error, CloseCause::ComingFull);
    }

    /// What has begun to come in is not waited for.
    fn give_up_frame(
        &mut self,
        connection: &mut Connection,
        refusal: Refusal,
        status: u16,
        error: &RpcError,
        cause: CloseCause,
    ) {
        self.refused(refusal);
        self.give_up_lines(connection);
        let begun = std::mem::take(&mut connection.carry);
        self.last_words(connection, status, error, &begun);
        self.give_buffer(begun);
        self.finish(connection, cause);
    }

    /// On lines calls may be in flight when there is no reading on: nobody will hear of them.
    fn give_up_lines(&mut self, connection: &mut Connection) {
        if connection.wire() == Wire::Lines {
            self.abandon(connection);
        }
    }

    /// A connection that is not served.
    pub(super) fn refuse_connection(&mut self, connection: &mut Connection, error: &RpcError) {
        self.last_words(connection, error.code.http_status(), error, &[]);
        self.finish(connection, CloseCause::Refused);
    }

    fn last_words(&mut self, connection: &mut Connection, status: u16, error: &RpcError, begun: &[u8]) {
        let begun = match &connection.framing {
            Framing::Chunked(assembly) => &assembly.head,
            _ => begun,
        };
        let is_http = connection.wire() == Wire::Http;
        let version = is_http.then(|| http1::field_in(begun, "MCP-Protocol-Version:")).flatten();
        let mut body = Vec::new();
        jsonrpc::error(&mut body, None, !self.is_of_modern_era(version), error);
        match connection.wire() {
            Wire::Http => {
                let retry: &[Field<'_>] = if matches!(status, 429 | 503) { &[RETRY_AFTER] } else { &[] };
                let allowed = |origin: &&[u8]| self.settings.hosts.check_origin(origin).is_ok();
                let fields = dressed(http1::field_in(begun, "Origin:").filter(allowed), retry);
                let mark = http1::begin_json(&mut connection.out, self.stamp(), status, false, &fields);
                connection.out.extend_from_slice(&body);
                http1::finish_json(&mut connection.out, mark);
            }
            Wire::Lines => {
                connection.out.extend_from_slice(&body);
                connection.out.push(b'\n');
            }
        }
    }

    /// Answers with a JSON-RPC error that belongs to no request in particular.
    pub(super) fn refuse(
        &mut self,
        connection: &mut Connection,
        status: u16,
        extra: &[Field<'_>],
        code: Code,
        text: &str,
    ) {
        self.refuse_with(connection, status, extra, &RpcError::new(code, text.to_owned()));
    }

    pub(super) fn refuse_with(
        &mut self,
        connection: &mut Connection,
        status: u16,
        extra: &[Field<'_>],
        error: &RpcError,
    ) {
        let mut body = Vec::new();
        jsonrpc::error(&mut body, None, !connection.is_modern, error);
        self.answer_json(connection, status, extra, &[&body]);
    }

    /// Answers the request that occupies the connection with a JSON body, which is in parts.
    pub(super) fn answer_json(
        &mut self,
        connection: &mut Connection,
        status: u16,
        extra: &[Field<'_>],
        body: &[&[u8]],
    ) {
        let keep_alive = connection.keeps_alive();
        let origin = connection.origin.take();
        let mut fields = dressed(origin.as_deref(), extra);
        fields.extend(connection.kept());
        if matches!(status, 429 | 503 | 504) {
            fields.push(RETRY_AFTER);
        }
        let mark = http1::begin_json(&mut connection.out, self.stamp(), status, keep_alive, &fields);
        let head_end = connection.out.len();
        body.iter().for_each(|part| connection.out.extend_from_slice(part));
        http1::finish_json(&mut connection.out, mark);
        if let Some(HttpAnswer::Undecided { bodiless: true, .. }) = connection.answer {
            connection.out.truncate(head_end);
        }
        self.answered(connection, keep_alive);
    }

    /// Answers it without a body.
    pub(super) fn answer_empty(&mut self, connection: &mut Connection, status: u16, extra: &[Field<'_>]) {
        let keep_alive = connection.keeps_alive();
        let origin = connection.origin.take();
        let mut fields = dressed(origin.as_deref(), extra);
        fields.extend(connection.kept());
        http1::empty(&mut connection.out, self.stamp(), status, keep_alive, &fields);
        self.answered(connection, keep_alive);
    }

    /// The connection's request has its answer.
    pub(super) fn answered(&mut self, connection: &mut Connection, keep_alive: bool) {
        connection.answer = None;
        connection.exchange = None;
        if !keep_alive {
            self.finish(connection, CloseCause::Requested);
        }
    }

    /// Turns the pending answer into an event stream, if it is not one already and the peer takes one.
    pub(super) fn begin_stream(&mut self, connection: &mut Connection) {
        let Some(HttpAnswer::Undecided { stream: true, minor, keep_alive, .. }) = connection.answer else { return };
        let origin = connection.origin.take();
        let fields = dressed(origin.as_deref(), &[]);
        let framing = http1::begin_event_stream(&mut connection.out, self.stamp(), minor, keep_alive, &fields);
        connection.answer = Some(HttpAnswer::Stream { framing, keep_alive });
    }

    /// Sends one event, whose text is in parts, on the connection's stream.
    pub(super) fn stream_event(
        &mut self,
        connection: &mut Connection,
        id: Option<EventId>,
        event: &str,
        body: &[&[u8]],
    ) {
        let Some(HttpAnswer::Stream { framing, .. }) = connection.answer else { return };
        let mut text = Vec::new();
        if let Some(id) = id {
            id.write(&mut text);
        }
        let id = id.map(|_| text.as_slice());
        let mark = http1::begin_chunk(&mut connection.out, framing);
        crate::proto::sse::event(&mut connection.out, id, Some(event), body);
        http1::finish_chunk(&mut connection.out, mark);
    }

    /// Sends what keeps a quiet stream open, or makes a pending answer a stream so that its first byte is not late.
    pub(super) fn keep_alive(&mut self, connection: &mut Connection) {
        connection.active_at = self.now;
        if let (Some(HttpAnswer::Undecided { stream: true, .. }), Some(key)) = (connection.answer, connection.exchange)
        {
            match self.exchanges.get(key).map(|exchange| exchange.kind) {
                Some(Kind::Call) => self.begin_call_stream(connection, key),
                // Its owner knows whether the client can come back to it, and by which id.
                Some(Kind::Forwarded { to }) => return self.tell_quiet(to, key),
                _ => self.begin_stream(connection),
            }
        }
        if let Some(HttpAnswer::Stream { framing, .. }) = connection.answer {
            let mark = http1::begin_chunk(&mut connection.out, framing);
            crate::proto::sse::comment(&mut connection.out, "");
            http1::finish_chunk(&mut connection.out, mark);
        }
    }

    /// Ends the connection's stream; the connection itself goes on if it may.
    pub(super) fn end_stream(&mut self, connection: &mut Connection) {
        if let Some(HttpAnswer::Stream { framing, keep_alive }) = connection.answer {
            http1::last_chunk(&mut connection.out, framing);
            let keep_alive = keep_alive && framing == http1::StreamFraming::Chunked;
            self.answered(connection, keep_alive);
            self.resumable.push_back(connection.id);
        }
    }
}

impl Connection {
    /// Whether the connection may serve another request after the one that occupies it.
    pub(super) fn keeps_alive(&self) -> bool {
        match self.answer {
            Some(HttpAnswer::Undecided { keep_alive, .. } | HttpAnswer::Stream { keep_alive, .. }) => keep_alive,
            None => false,
        }
    }

    /// The field that keeps the connection of an HTTP/1.0 peer.
    fn kept(&self) -> Option<Field<'static>> {
        let kept = matches!(self.answer, Some(HttpAnswer::Undecided { minor: 0, keep_alive: true, .. }));
        kept.then_some(("Connection", b"keep-alive"))
    }
}

/// The fields of an answer: those given, and those a browser needs.
fn dressed<'a>(origin: Option<&'a [u8]>, extra: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut fields = extra.to_vec();
    if let Some(origin) = origin {
        fields.extend([("Access-Control-Allow-Origin", origin), ("Vary", &b"Origin"[..]), EXPOSED]);
    }
    fields
}
