//! Early: messages for a server behind the gateway of which nothing is known yet. A client that starts together with
//! corelane does not have to try again: its first message waits until the server was reached, for the time that this
//! may take.
//!
//! Not here: who is behind a view, and how long reaching it may take (`service`).
//! Invariant: a message waits once, and its connection with it; known or not, it is then handled from its first byte
//! on, as if it had come that moment. What waits is gone with its connection.

use super::connection::Connection;
use super::core::Core;
use super::exchange::Sink;
use super::router::{Lane, Told};
use super::service::{Nanos, Service};
use crate::ids::{ConnectionId, View};
use crate::proto::http1::parse;
use crate::proto::jsonrpc::RpcError;

/// A message that waits.
pub struct Early {
    /// An HTTP request, or a line without its end.
    bytes: Vec<u8>,
    /// Bytes of the request's head; none of a line.
    head: usize,
    /// When it is handled all the same.
    pub until: Nanos,
}

impl Early {
    /// What it is that waits: a request whose parts are these.
    pub(super) fn keep(&mut self, head: &[u8], body: &[u8]) {
        (self.bytes, self.head) = ([head, body].concat(), head.len());
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<S: Service> Core<S> {
    /// What becomes of a request for a view of which nothing is known: it waits, if its connection can, or fails.
    pub(super) fn not_known(
        &mut self,
        lane: Lane<'_>,
        id: &[u8],
        status: u16,
        error: RpcError,
        out: &mut Vec<u8>,
    ) -> Told {
        // Neither a stream of 2024-11-05 nor a session of another core: what is known there was known before.
        let can_wait = lane.head.is_some() || matches!(lane.sink, Sink::Lines(_));
        if can_wait && !lane.has_waited && !self.drain.is_on() && self.carried.has_room() {
            let time = self.service.awaits(lane.view).min(lane.patience.unwrap_or(Nanos::MAX));
            if time > 0 {
                self.service.wanted(self.now, lane.view);
                return Told::Early { until: self.now + time };
            }
        }
        self.fail(Some(id), true, status, error, out)
    }

    /// A connection waits with its message; of an HTTP request the bytes are still to be kept.
    pub(super) fn wait_early(&mut self, connection: &mut Connection, line: &[u8], until: Nanos) {
        self.early.insert((connection.view, connection.id));
        connection.early = Some(Box::new(Early { bytes: line.to_vec(), head: 0, until }));
    }

    /// What waits on a connection is handled now.
    pub(super) fn end_wait(&mut self, connection: &mut Connection) {
        let Some(early) = self.forget_early(connection) else { return };
        let (head, body) = early.bytes.split_at(early.head);
        connection.has_waited = true;
        match head {
            [] => self.line(connection, body),
            head => {
                if let Ok(head) = parse(head) {
                    self.request(connection, &head, body);
                }
            }
        }
        connection.has_waited = false;
        // What came behind it has its turn.
        self.resumable.push_back(connection.id);
    }

    /// Nothing waits on a connection any more.
    pub(super) fn forget_early(&mut self, connection: &mut Connection) -> Option<Box<Early>> {
        let early = connection.early.take()?;
        self.early.remove(&(connection.view, connection.id));
        Some(early)
    }

    /// What waits for views that are known by now is handled, or not worth waiting for any more.
    pub(super) fn end_waits(&mut self) {
        let mut next = self.early.first().copied();
        while let Some((view, _)) = next {
            if self.service.about(view).is_ok() || self.service.awaits(view) == 0 {
                let of_view = self.early.range(from(view)..).map_while(|&(at, id)| (at == view).then_some(id));
                for id in of_view.collect::<Vec<_>>() {
                    self.with(id, Core::end_wait);
                }
            }
            let after = view.0.checked_add(1).map(View);
            next = after.and_then(|view| self.early.range(from(view)..).next().copied());
        }
    }
}

/// What stands before all that waits for a view.
fn from(view: View) -> (View, ConnectionId) {
    (view, ConnectionId { slot: 0, generation: 0 })
}
