//! What a core tells the log, for whoever looks into why a client fails: at `debug` connections, refusals, sessions and
//! the steps of a drain, at `trace` a line for every message.
//!
//! Not here: what is told at `info` and above (`boot`, `control`), and counted (`metrics`).
//! Invariant: nothing that a peer sent is told, only what it was taken for: names of closed sets, numbers, addresses.
//! Where a level is off its lines cost one look at the level.

use std::net::SocketAddr;

use tracing::Level;

use super::connection::{Connection, Wire};
use super::core::Core;
use super::router::{Shape, Told};
use super::service::{Nanos, Service};
use crate::metrics::{CloseCause, Refusal};
use crate::proto::json::Envelope;
use crate::proto::jsonrpc::Code;
use crate::proto::mcp::Method;
use crate::shard::session::SessionKey;

const MICROSECOND: Nanos = 1_000;

impl<S: Service> Core<S> {
    pub(super) fn log_opened(&self, connection: &Connection, peer: Option<SocketAddr>) {
        let wire = if connection.wire() == Wire::Http { "http" } else { "lines" };
        let peer = peer.map(tracing::field::display);
        tracing::debug!(core = %self.id, connection = %connection.id, peer, wire, "a connection was opened");
    }

    pub(super) fn log_closed(&self, connection: &Connection, cause: CloseCause) {
        tracing::debug!(
            core = %self.id, connection = %connection.id, cause = cause.label(), "a connection ends: {}", cause.meaning()
        );
    }

    /// `about` is the connection whose step it is, which may have asked for what was refused.
    pub(super) fn log_refused(&self, cause: Refusal) {
        let connection = self.about.map(tracing::field::display);
        tracing::debug!(core = %self.id, connection, cause = cause.label(), "refused: {}", cause.meaning());
    }

    pub(super) fn log_session_opened(&self, key: SessionKey) {
        let connection = self.about.map(tracing::field::display);
        tracing::debug!(core = %self.id, connection, session = key.number(), "a session was opened");
    }

    pub(super) fn log_session_ended(&self, key: SessionKey, why: &'static str) {
        tracing::debug!(core = %self.id, session = key.number(), "a session was ended: {why}");
    }

    pub(super) fn log_drain(&self, step: &'static str) {
        let (connections, exchanges, sessions) = self.population();
        tracing::debug!(core = %self.id, connections, exchanges, sessions, "draining: {step}");
    }

    /// Has a message handled, and tells what it was and what became of it; of a call that takes longer, `log_ended`
    /// does.
    #[inline]
    pub(super) fn logged(
        &mut self,
        envelope: &Envelope,
        text: &[u8],
        out: &mut Vec<u8>,
        handle: impl FnOnce(&mut Self, &mut Vec<u8>) -> Told,
    ) -> Told {
        if !tracing::enabled!(Level::TRACE) {
            return handle(self, out);
        }
        let since = self.laps.read_clock();
        self.failed = None;
        let told = handle(self, out);
        let method = match Self::shape(envelope, text) {
            Ok(Shape::Request { method, .. }) => Method::parse(method),
            Ok(Shape::Notice { .. } | Shape::Answer { .. }) | Err(_) => None,
        };
        let outcome = match &told {
            Told::Accepted => "accepted",
            Told::Answered { .. } if self.failed.is_some() => "failed",
            Told::Answered { .. } => "answered",
            Told::Listening(_) => "a stream was opened",
            Told::Pending(key) => {
                if let Some(exchange) = self.exchanges.find(*key) {
                    exchange.logged = method;
                }
                return told;
            }
            Told::Early { .. } | Told::Streaming { .. } => return told,
        };
        let method = method.map_or("none of a request that is known", Method::as_str);
        self.log_message(method, outcome, self.failed, self.laps.read_clock().saturating_sub(since));
        told
    }

    /// A call has ended that `logged` had seen begin: by its outcome, or for want of whom to tell.
    #[inline]
    pub(super) fn log_ended(&self, logged: Option<Method>, since: Nanos, outcome: &'static str, code: Option<Code>) {
        if let Some(method) = logged {
            self.log_message(method.as_str(), outcome, code, self.now.saturating_sub(since));
        }
    }

    fn log_message(&self, method: &'static str, outcome: &'static str, code: Option<Code>, took: Nanos) {
        let connection = self.about.map(tracing::field::display);
        let code = code.map(|code| code.0);
        tracing::trace!(core = %self.id, connection, method, outcome, code, took_us = took / MICROSECOND, "a message");
    }
}
