//! Batches: several messages in one array, as only 2025-03-26 has them.
//!
//! Not here: the messages themselves (`message`), what each is answered (`verdict`).
//! Invariant: each request of a batch is answered by itself or was taken back, whatever becomes of the others.

use super::message::{cancelled, post};
use super::{Awaited, Client};
use crate::chance::Quirk;
use crate::net::Net;
use crate::sim::Sim;

impl Client {
    /// Whether its revision has batches.
    pub(super) fn may_batch(&self) -> bool {
        !self.kind.is_modern() && self.version == "2025-03-26"
    }

    /// Asks several things at once, and may take one of them back in the same breath.
    pub(super) fn ask_batch(&mut self, sim: &mut Sim, net: &mut Net, index: usize) {
        let Some(socket) = self.links[index].socket else { return };
        if !self.can_post(index) || !net.has_room(socket) {
            return;
        }
        let count = self.window(sim).min(sim.chance.between(1, 4) as usize);
        let first = self.next_id;
        self.body.clear();
        for place in 0..count {
            self.body.push(if place == 0 { '[' } else { ',' });
            let what = self.choose(sim);
            self.begin(sim, index, what);
        }
        if count == 0 {
            return;
        }
        let last = self.next_id - 1;
        if sim.show(Quirk::Cancels, 3) {
            let place = self.pending.len() - 1 - sim.chance.index(count);
            let one = &mut self.pending[place];
            one.is_taken_back = true;
            self.body.push(',');
            self.body.push_str(&cancelled(one.id, false));
        }
        self.body.push(']');
        self.text.clear();
        if self.kind.is_lines() {
            self.text.push_str(&self.body);
            self.text.push('\n');
        } else {
            let Some(session) = &self.session else { return };
            post(&mut self.text, None, Some(&session.id), self.version, &self.body);
            self.links[index].awaited.push_back(Awaited::Batch(first, last));
        }
        net.write(socket, self.text.as_bytes());
    }
}
