//! Newline-delimited JSON: one message per line both ways, over TCP, a Unix socket or stdio, in both eras.
//!
//! The same rules serve the 2024-11-05 event stream, whose client posts what it would write on a line.
//! Not here: what a message means (`router`). Invariant: a legacy session on such a connection is the connection's own:
//! it opens with `initialize` and ends with the connection.

use std::cell::Cell;

use super::connection::Connection;
use super::core::Core;
use super::exchange::Sink;
use super::router::{Lane, Shape, Told, valid_id};
use super::service::Service;
use super::settings::Eras;
use crate::metrics::{Refusal, Step};
use crate::proto::json::{Envelope, Key, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::shard::session::SessionKey;

/// The method by which a connection of lines chooses what it sees.
const ATTACH: &str = "corelane/attach";

impl<S: Service> Core<S> {
    /// A line came in.
    pub(super) fn line(&mut self, connection: &mut Connection, text: &[u8]) {
        if connection.out.capacity() == 0 {
            connection.out = self.buffer();
        }
        let mut out = std::mem::take(&mut connection.out);
        let start = out.len();
        if !connection.has_spoken {
            connection.has_spoken = true;
            if self.attach(connection, text, &mut out) {
                connection.out = out;
                return;
            }
        }
        let lane = Lane::duplex(connection, Sink::Lines(connection.id));
        match self.duplex_body(lane, text, &mut out) {
            Told::Answered { session, .. } => {
                out.push(b'\n');
                self.laps.lap(Step::Encode);
                if let Some(key) = session {
                    self.own_session(connection, key);
                }
            }
            Told::Pending(key) => {
                out.truncate(start);
                connection.calls.push(key);
            }
            Told::Listening(key) => {
                out.push(b'\n');
                connection.calls.push(key);
            }
            Told::Streaming { pending } => connection.calls.extend(pending),
            Told::Early { until } => {
                out.truncate(start);
                self.wait_early(connection, text, until);
            }
            Told::Accepted => out.truncate(start),
        }
        connection.out = out;
    }

    /// `corelane/attach`, if that is what a connection's first message is: it chooses what is seen, as a path does for
    /// HTTP, by the name that stands behind the endpoint there. An extension of ours; MCP knows no views.
    fn attach(&mut self, connection: &mut Connection, text: &[u8], out: &mut Vec<u8>) -> bool {
        // However its slash is written.
        if memchr::memmem::find(text, b"attach").is_none() {
            return false;
        }
        let mut envelope = Envelope::default();
        let is_it = self.scanner.scan(text, &mut envelope).is_ok()
            && envelope.str(Key::Method, text).as_deref() == Some(ATTACH);
        if !is_it {
            return false;
        }
        self.metrics.messages_in.add(1);
        let params = envelope.value(Key::Params, text);
        let name = params.and_then(|params| params.get("view")).and_then(Value::as_str);
        let found = match &name {
            Some(name) => self.service.view(name).ok_or_else(|| {
                format!("there is no view {name:?}: name a server, or a view with an @ before it, or \"\" for all")
            }),
            None => Err("params.view has to be a string: the name of a server, or of a view with an @".to_owned()),
        };
        match (Self::shape(&envelope, text), found) {
            (Ok(Shape::Request { id, .. }), Ok(view)) => {
                connection.view = view;
                self.respond(id, b"{}", out);
            }
            (Ok(Shape::Request { id, .. }), Err(problem)) => {
                let error = RpcError::new(Code::INVALID_PARAMS, problem);
                self.refuse_message(Refusal::BadRequest, Some(id), true, 400, error, out);
            }
            // Nobody waits for an answer; what is not understood changes nothing.
            (Ok(_), found) => {
                connection.view = found.unwrap_or(connection.view);
                return true;
            }
            (Err(error), _) => {
                let null_id = !self.is_of_modern_era(None);
                self.refuse_message(Refusal::BadRequest, valid_id(&envelope, text), null_id, 400, error, out);
            }
        }
        out.push(b'\n');
        true
    }

    /// A message posted for a 2024-11-05 event stream; its answer goes out on the stream.
    pub(super) fn duplex_message(&mut self, stream: &mut Connection, text: &[u8]) {
        let mut out = Vec::new();
        let lane = Lane::duplex(stream, Sink::Http(stream.id));
        match self.duplex_body(lane, text, &mut out) {
            Told::Answered { session, .. } => {
                if let Some(key) = session {
                    self.own_session(stream, key);
                }
                self.stream_event(stream, None, "message", &[&out]);
            }
            // Its answer is an event among others, after which the stream goes on.
            Told::Pending(key) => {
                stream.batch_left += 1;
                stream.calls.push(key);
            }
            Told::Streaming { pending } => {
                stream.batch_left += pending.len() as u16;
                stream.calls.extend(pending);
                self.begin_batch_stream(stream, &out);
            }
            Told::Accepted | Told::Early { .. } | Told::Listening(_) => {}
        }
    }

    /// A session was opened that is the connection's own.
    fn own_session(&mut self, connection: &mut Connection, key: SessionKey) {
        let Some(session) = self.shards.find(key) else { return };
        connection.duplex = session.stream;
        connection.terms = Some(Cell::new(session.terms()));
        self.uses_session(connection, Some(key));
    }

    fn duplex_body(&mut self, lane: Lane<'_>, text: &[u8], out: &mut Vec<u8>) -> Told {
        let mut envelope = Envelope::default();
        if let Err(error) = self.scanner.scan(text, &mut envelope) {
            return self.unreadable(&error, !self.is_of_modern_era(None), out);
        }
        self.laps.lap(Step::Scan);
        self.metrics.messages_in.add(u64::from(!lane.has_waited));
        // A 2024-11-05 stream is legacy by its nature.
        if matches!(lane.sink, Sink::Lines(_)) && self.claims_modern(&envelope, text) {
            return self.modern(lane, &envelope, text, out);
        }
        match self.settings.eras {
            Eras::Modern => self.without_claim(lane, &envelope, text, out),
            Eras::Both | Eras::Legacy => self.legacy_text(lane, &envelope, text, out),
        }
    }
}
