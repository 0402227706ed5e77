//! Handing a connection over: its descriptor moves to the ring of another core, by `MSG_RING`.
//!
//! For listeners that cannot be shared by a reuseport group, where one core accepts for all (Unix sockets). Not here:
//! who gets which connection (`server/drive`). Invariant: a connection that is being handed over is neither read nor
//! written here, so no byte of it is lost; it ends up with exactly one core: the other, or this one if the other cannot
//! take it.

use std::os::fd::RawFd;

use io_uring::{opcode, types};

use super::driver::Driver;
use super::event::Event;
use super::operation::{Operation, user_data};
use super::streams::State;
use crate::ids::ConnectionId;

impl Driver {
    /// Sends a connection that has just come in to the core with this ring, which hears of it by an `Event::Accepted`
    /// with this listener's index. `Event::Closed` says that it is gone from here, `Event::Kept` that it could not go
    /// (its table is full, its ring is gone).
    ///
    /// Only in the turn in which the connection came in: later it is being read.
    pub fn hand_over(&mut self, id: ConnectionId, ring: RawFd, listener: usize) {
        let Some(stream) = self.streams.find(id) else { return };
        debug_assert!(!stream.any(State::CLOSING.and(State::RECEIVING).and(State::SENDING)), "it has just come in");
        stream.clear(State::WANTED);
        stream.set(State::HANDING);
        self.handing.push((id, listener));
        let arrival = user_data(Operation::Arrive, ConnectionId { slot: listener as u32, generation: 0 });
        let slot = types::DestinationSlot::auto_target();
        let entry = opcode::MsgRingSendFd::new(types::Fd(ring), types::Fixed(id.slot), slot, arrival).build();
        self.push(entry.user_data(user_data(Operation::HandOver, id)));
    }

    /// The completion of a hand-over, here.
    pub(super) fn handed_over(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let place = self.handing.iter().position(|(handed, _)| *handed == id)?;
        let (_, listener) = self.handing.swap_remove(place);
        let stream = self.streams.find(id)?;
        stream.clear(State::HANDING);
        if stream.is(State::CLOSING) {
            self.close_descriptor_if_quiet(id);
            return None;
        }
        // EOVERFLOW, the kernel being out of memory, leaves the other ring with a descriptor that it was not told of.
        // It is served from here then; what the other holds does no more than take a slot until its ring is closed.
        if result >= 0 {
            self.close(id);
            return None;
        }
        self.stats.hand_overs_refused += 1;
        self.want(id);
        Some(Event::Kept { stream: id, listener })
    }

    /// A connection that another core handed over: it came into this slot.
    pub(super) fn arrived(&mut self, listener: usize, slot: i32) -> Event {
        let stream = self.streams.enter(slot as u32);
        self.want(stream);
        Event::Accepted { stream, listener, peer: None }
    }
}
