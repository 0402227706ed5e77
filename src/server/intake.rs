//! Intake: bytes that came in, through the connection's filter to its framing, and the frames to whoever reads them.
//!
//! Not here: what a frame means (`http`, `lines`), how bytes become frames (`connection`).
//! Invariant: bytes are used in the order in which they came, one frame after the other; what is not used yet is in the
//! connection's `carry`.

use super::connection::{Connection, Fault, Frame, Phase};
use super::core::Core;
use super::service::{LinkEvent, Nanos, Service};
use crate::ids::ConnectionId;
use crate::metrics::{CloseCause, Refusal, Step};
use crate::proto::http1::parse;

impl<S: Service> Core<S> {
    pub(super) fn received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let Some(mut connection) = self.take(id) else {
            return self.service.link(self.now, LinkEvent::Received { id, bytes });
        };
        // What comes after the last answer is thrown away, and buys no time.
        if connection.phase == Phase::Open {
            connection.active_at = self.now;
        }
        if connection.filter.is_some() {
            self.open_wire(&mut connection, bytes);
        } else {
            self.take_bytes(&mut connection, bytes);
        }
        self.put(connection);
    }

    /// Bytes that a filter has to open first.
    fn open_wire(&mut self, connection: &mut Connection, wire: &mut [u8]) {
        if connection.is_between_frames() {
            connection.frame_since = self.now;
        }
        let mut spill = self.buffer();
        let Some(filter) = &mut connection.filter else { return };
        let was_over = filter.peer_has_ended();
        match filter.open(wire, &mut spill) {
            Ok(clear) => {
                let is_over = filter.peer_has_ended();
                if !clear.is_empty() {
                    self.take_bytes(connection, clear);
                }
                if is_over && !was_over {
                    connection.ended = true;
                    self.peer_finished(connection);
                }
            }
            Err(_) => {
                self.abandon(connection);
                self.finish(connection, CloseCause::ProtocolError);
            }
        }
        self.give_buffer(spill);
    }

    /// Clear bytes came in.
    fn take_bytes(&mut self, connection: &mut Connection, bytes: &[u8]) {
        match connection.phase {
            Phase::Open => {
                if connection.carry.is_empty() {
                    // Pieces of a chunked body are used up as they come, but its time goes on.
                    if connection.framing.is_between_frames(0) {
                        connection.frame_since = self.now;
                    }
                    let used = self.consume(connection, bytes);
                    if connection.phase == Phase::Open && used < bytes.len() {
                        connection.carry = self.buffer();
                        connection.carry.extend_from_slice(&bytes[used..]);
                    }
                } else {
                    connection.carry.extend_from_slice(bytes);
                    self.consume_carry(connection);
                }
            }
            Phase::Finishing | Phase::Lingering | Phase::Closing => {}
        }
    }

    pub(super) fn consume_carry(&mut self, connection: &mut Connection) {
        let mut carry = std::mem::take(&mut connection.carry);
        let used = self.consume(connection, &carry);
        if connection.phase != Phase::Open || used == carry.len() {
            self.give_buffer(carry);
        } else {
            carry.drain(..used);
            connection.carry = self.pool.fitted(carry);
        }
    }

    /// Takes frames from the front of `buffer` until it or the connection's turn is used up.
    fn consume(&mut self, connection: &mut Connection, buffer: &[u8]) -> usize {
        let mut used = 0;
        while used < buffer.len() && connection.phase == Phase::Open && !self.is_occupied(connection) {
            let opens_at = connection.bucket.opens_at(&self.settings.messages);
            if opens_at > self.now {
                self.pace(connection, opens_at);
                break;
            }
            connection.paced_until = 0;
            self.laps.begin(connection.active_at);
            let (body_max, line_max) = (self.settings.body_bytes, self.settings.line_bytes);
            let (taken, frame) = connection.framing.next(&buffer[used..], &mut self.heads, body_max, line_max);
            used += taken;
            self.laps.lap(Step::Frame);
            match frame {
                Frame::Assembled(assembly) => match parse(&assembly.head) {
                    Ok(head) => {
                        connection.bucket.spend(self.now, &self.settings.messages);
                        self.request(connection, &head, &assembly.body);
                        keep_early(connection, &assembly.head, &assembly.body);
                    }
                    Err(error) => self.fault(connection, Fault::Head(error), &assembly.head),
                },
                Frame::Continue(head) => self.invite(connection, &head),
                Frame::Fault(fault) => self.fault(connection, fault, &buffer[used - taken..]),
                Frame::Line(line) => {
                    connection.bucket.spend(self.now, &self.settings.messages);
                    self.line(connection, line);
                }
                Frame::More if taken == 0 => {
                    self.laps.end();
                    break;
                }
                Frame::More => {}
                Frame::Request(head, body) => {
                    connection.bucket.spend(self.now, &self.settings.messages);
                    self.request(connection, &head, body);
                    keep_early(connection, &buffer[used - taken..used - body.len()], body);
                }
            }
            self.laps.end();
        }
        if used > 0 && connection.framing.is_between_frames(0) {
            connection.frame_since = self.now;
        }
        used
    }

    /// Whether a connection's next frame has to wait.
    pub(super) fn is_occupied(&self, connection: &Connection) -> bool {
        let is_busy = connection.exchange.is_some() || connection.early.is_some();
        is_busy || connection.egress() >= self.settings.egress_bytes || connection.paced_until > self.now
    }

    /// What comes next on a connection waits, and once there is enough of it nothing more is read: whoever sends too
    /// much is slowed down by their own transport, and costs no refusals.
    #[cold]
    fn pace(&mut self, connection: &mut Connection, opens_at: Nanos) {
        connection.paced_until = opens_at;
        self.refused(Refusal::RateLimited);
    }

    /// Goes on with a connection whose exchange has ended or whose sends have left.
    pub(super) fn resume(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.take(id) else { return };
        if connection.phase == Phase::Open && !connection.carry.is_empty() {
            // What waited for its turn has all the time that a frame has.
            if connection.framing.is_between_frames(0) {
                self.metrics.step(Step::QueueWait).record(self.now.saturating_sub(connection.frame_since));
                connection.frame_since = self.now;
            }
            self.consume_carry(&mut connection);
        }
        self.put(connection);
    }
}

/// Keeps a request that has to wait, which is in the buffer that it came in.
fn keep_early(connection: &mut Connection, head: &[u8], body: &[u8]) {
    if let Some(early) = &mut connection.early {
        early.keep(head, body);
    }
}
