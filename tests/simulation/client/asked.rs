//! Questions: a tool asks its caller something, and the caller answers, or never does.
//!
//! Not here: modern clients, who are asked by the end of their call.
//! Invariant: who is asked has made the request that the question is about, and waits for its answer still.

use super::{Client, What};
use crate::net::{Net, Socket};
use crate::sim::Sim;

/// A question that is not answered yet.
pub struct Question {
    id: String,
    tag: u64,
}

impl Client {
    /// Whether it can be asked.
    pub(super) fn can_be_asked(&self) -> bool {
        !self.kind.is_modern() && self.version >= "2025-06-18"
    }

    /// A question is heard.
    pub(super) fn asked(&mut self, sim: &mut Sim, id: &str, tag: Option<u64>) {
        let me = self.me;
        let pending = self.pending.iter().find(|one| Some(one.tag) == tag && one.what == What::Ask);
        let Some(tag) = pending.map(|one| one.tag) else {
            let whose = tag.and_then(|tag| sim.ledger.client_of(tag));
            return sim.fail(format!("client {me} is asked {id} for request {tag:?} of client {whose:?}"));
        };
        // Who comes back to a stream hears what it had heard.
        if self.questions.iter().all(|question| question.id != id) {
            self.questions.push(Question { id: id.to_owned(), tag });
        }
    }

    /// A question is taken back: it was asked here, unless it was answered already.
    pub(super) fn question_taken_back(&mut self, id: &str) {
        self.questions.retain(|question| question.id != id);
    }

    /// Answers a question, where it can.
    pub(super) fn answer_question(&mut self, sim: &mut Sim, net: &mut Net, index: usize) -> bool {
        let pending = &self.pending;
        self.questions.retain(|question| pending.iter().any(|one| one.tag == question.tag));
        if self.questions.is_empty() || !self.can_post(index) || sim.chance.once_in(2) {
            return false;
        }
        let Some(socket) = self.links[index].socket else { return false };
        if !net.socket(socket).is_some_and(Socket::is_open) {
            return false;
        }
        let place = sim.chance.index(self.questions.len());
        let question = self.questions.swap_remove(place);
        // Some are never answered.
        if !sim.chance.once_in(8) {
            self.notify(net, index, socket, &super::message::answer(&question.id));
        }
        true
    }
}
