//! Calls that ended before their answers came, at servers of which only ids tell whose a message is: what such a server
//! still says of one of them looks like what it says of the one call that is in flight.
//!
//! Not here: whose a message is taken to be (`dialled`). Invariant: what a server may be saying of a call that is over
//! reaches nobody but the client whose that was; no more is remembered than [`UNANSWERED_MAX`], and what is beyond that
//! is taken to be anybody's.

use std::collections::HashMap;

use super::flight::{Errand, Flight};
use super::server::Server;
use crate::ids::CoreId;
use crate::server::service::Nanos;
use crate::upstream::talk::Line;

/// Most of them that are remembered one by one.
const UNANSWERED_MAX: usize = 1024;
/// So many times as long as a tool may take without a sign, a server may be at work on what nobody waits for: one that
/// heeds a cancellation does not answer it, so nothing else says when it is done.
const TIMES: Nanos = 4;

/// A client's legacy session, by the core on which it is and its number there.
pub(super) type Client = (CoreId, u64);

/// A call that is over, and was not answered.
struct Ended {
    line: Line,
    /// Whose it was, if that can be told.
    client: Option<Client>,
    /// Its server is done with it by then.
    until: Nanos,
}

/// All of one server's.
#[derive(Default)]
pub(super) struct Unanswered {
    /// By their ids on the wire.
    calls: HashMap<u64, Ended>,
    /// Until then there are more than are remembered.
    crowded_until: Nanos,
}

impl Unanswered {
    fn add(&mut self, now: Nanos, serial: u64, ended: Ended) {
        if self.calls.len() >= UNANSWERED_MAX {
            self.calls.retain(|_, ended| ended.until > now);
        }
        if self.calls.len() >= UNANSWERED_MAX {
            self.crowded_until = self.crowded_until.max(ended.until);
        } else {
            self.calls.insert(serial, ended);
        }
    }

    /// The answer came after all.
    pub fn answered(&mut self, serial: u64, line: Line) {
        if self.calls.get(&serial).is_some_and(|ended| ended.line == line) {
            self.calls.remove(&serial);
        }
    }

    /// The server ended, and what it was at work on with it.
    pub fn forget(&mut self) {
        *self = Unanswered::default();
    }

    /// A core died: its next life counts its sessions from the beginning.
    pub fn lost_core(&mut self, core: CoreId) {
        let of_it = |ended: &&mut Ended| ended.client.is_some_and(|(other, _)| other == core);
        self.calls.values_mut().filter(of_it).for_each(|ended| ended.client = None);
    }

    /// Whether what is said on a line cannot be meant for another client than this.
    pub fn leaves(&mut self, now: Nanos, line: Line, client: Option<Client>) -> bool {
        self.calls.retain(|_, ended| ended.until > now);
        let is_its = |ended: &Ended| ended.line != line || (client.is_some() && ended.client == client);
        now >= self.crowded_until && self.calls.values().all(is_its)
    }
}

impl Server {
    /// A call is over, and was not answered.
    pub(super) fn ends_unanswered(&mut self, now: Nanos, number: u32) {
        // What is one session's own has no other client.
        if self.is_own || !self.channel.is_talk() {
            return;
        }
        let Some(Flight { errand: Errand::Call(relay), serial, .. }) = self.flights.find(number) else { return };
        let (client, serial) = (relay.client(), *serial);
        // What was never sent nobody is at work on.
        let Some(line) = self.channel.line_of(serial) else { return };
        let until = now + TIMES * self.settings.call_time;
        self.unanswered.add(now, serial, Ended { line, client, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(line: Line, session: Option<u64>, until: Nanos) -> Ended {
        Ended { line, client: session.map(|session| (CoreId(1), session)), until }
    }

    #[test]
    fn what_may_be_said_of_a_call_that_is_over_is_nobody_elses() {
        let mut unanswered = Unanswered::default();
        let (own, other) = (Some((CoreId(1), 5)), Some((CoreId(1), 6)));
        assert!(unanswered.leaves(0, 3, other));
        unanswered.add(0, 7, ended(3, Some(5), 10));
        let leaves = |unanswered: &mut Unanswered, now| [own, other, None].map(|one| unanswered.leaves(now, 3, one));
        assert_eq!(leaves(&mut unanswered, 9), [true, false, false]);
        assert!(unanswered.leaves(9, 4, other), "it was asked on another line");
        unanswered.answered(7, 4);
        assert_eq!(leaves(&mut unanswered, 9), [true, false, false], "no answer to it came there");
        unanswered.lost_core(CoreId(1));
        assert_eq!(leaves(&mut unanswered, 9), [false; 3], "another client may have that number now");
        unanswered.answered(7, 3);
        assert_eq!(leaves(&mut unanswered, 9), [true; 3]);
        unanswered.add(0, 8, ended(3, None, 10));
        assert_eq!((leaves(&mut unanswered, 9), leaves(&mut unanswered, 10)), ([false; 3], [true; 3]));
        unanswered.add(10, 9, ended(3, Some(5), 20));
        unanswered.forget();
        assert_eq!(leaves(&mut unanswered, 10), [true; 3]);
    }

    #[test]
    fn what_is_not_remembered_any_more_is_taken_to_be_anybodys() {
        let mut unanswered = Unanswered::default();
        for serial in 0..2 * UNANSWERED_MAX as u64 {
            unanswered.add(0, serial, ended(3, Some(5), 10 + serial));
        }
        assert_eq!(unanswered.calls.len(), UNANSWERED_MAX);
        let last = 10 + 2 * UNANSWERED_MAX as u64 - 1;
        let client = Some((CoreId(1), 5));
        assert_eq!([last - 1, last].map(|now| unanswered.leaves(now, 4, client)), [false, true]);
    }
}
