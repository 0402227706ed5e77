//! Resuming: an answer that had begun as a stream of events is fetched after its connection was lost (2025-03-26 and
//! later, "Resumability").
//!
//! Not here: what the events say (`verdict`).
//! Invariant: an answer that is fetched is the one answer of its request, and it comes unless there is a reason why
//! nothing of it is kept.

use super::message::bodiless;
use super::{Awaited, Client, Kind, STREAM};
use crate::ledger::Fate;
use crate::net::{Net, Socket};
use crate::sim::{ALL_EVENTS, Sim};

/// The connection of a request whose own was lost.
const NOWHERE: usize = usize::MAX;

impl Client {
    /// Whether an answer is to be fetched of which nobody has asked again yet.
    pub(super) fn has_to_resume(&self) -> bool {
        self.pending.iter().any(|one| one.link == NOWHERE)
    }

    /// Whether the answer to a request goes on although the connection that it came by is lost: its client knows then
    /// where it was.
    pub(super) fn keeps(&mut self, index: usize, place: usize) -> bool {
        let (front, event) = (self.links[index].awaited.front(), self.links[index].event);
        let one = &mut self.pending[place];
        let is_heard = matches!(front, Some(Awaited::Answer(id) | Awaited::Resumed(id)) if *id == one.id);
        if is_heard && event.is_some() {
            one.heard = event;
        }
        let keeps =
            self.kind == Kind::LegacyHttp && one.heard.is_some() && self.session.is_some() && !one.is_taken_back;
        if keeps {
            one.link = NOWHERE;
        }
        keeps
    }

    /// Asks for the rest of an answer, on whatever connection it has.
    pub(super) fn resume_answers(&mut self, sim: &mut Sim, net: &mut Net) {
        if !self.has_to_resume() || sim.chance.once_in(2) {
            return;
        }
        let index = sim.chance.index(STREAM);
        let Some(socket) = self.links[index].socket else { return self.connect(sim, net, index) };
        if !net.socket(socket).is_some_and(Socket::is_open) || self.links[index].is_ending || !self.can_post(index) {
            return;
        }
        let (Some(session), Some(one)) = (&self.session, self.pending.iter_mut().find(|one| one.link == NOWHERE))
        else {
            return;
        };
        let Some((stream, number)) = one.heard else { return };
        one.link = index;
        self.links[index].awaited.push_back(Awaited::Resumed(one.id));
        let last = format!("{stream}-{number}");
        net.write(socket, bodiless("GET", &session.id, self.version, Some(&last)).as_bytes());
    }

    /// A response to a client that came back is over; whether it was right.
    pub(super) fn resumed(&mut self, sim: &mut Sim, id: u64, status: u16, event: Option<(u64, u64)>) -> bool {
        let Some(place) = self.pending.iter().position(|one| one.id == id) else { return true };
        let is_right = match status {
            400 => self.may_be_forgotten(sim) || self.has_taken_back(id),
            404 => self.session_may_be_gone(sim),
            503 => sim.deaths > 0,
            _ if self.session.is_none() || self.pending[place].is_taken_back => true,
            // Somebody else came for the stream: itself, by a request on another core that it had given up since.
            _ => {
                let one = &mut self.pending[place];
                (one.link, one.heard) = (NOWHERE, event.or(one.heard));
                return true;
            }
        };
        let one = self.pending.swap_remove(place);
        self.running.push(sim.now + 2 * sim.bounds.call_time);
        if let Err(problem) = sim.ledger.end(self.me, one.tag, Fate::Lost) {
            sim.fail(problem);
        }
        is_right
    }

    /// Whether a request that waits for its answer was taken back.
    pub(super) fn has_taken_back(&self, id: u64) -> bool {
        self.pending.iter().any(|one| one.id == id && one.is_taken_back)
    }

    /// Whether there is a reason why nothing of an answer is kept any more.
    pub(super) fn may_be_forgotten(&self, sim: &Sim) -> bool {
        sim.bounds.replay_events < ALL_EVENTS || sim.deaths > 0 || self.session_may_be_gone(sim)
    }

    /// The session is no more, and with it what was to be fetched.
    pub(super) fn lose_session(&mut self, sim: &mut Sim) {
        self.session = None;
        while let Some(place) = self.pending.iter().position(|one| one.link == NOWHERE) {
            let one = self.pending.swap_remove(place);
            if let Err(problem) = sim.ledger.end(self.me, one.tag, Fate::Lost) {
                sim.fail(problem);
            }
        }
    }
}
