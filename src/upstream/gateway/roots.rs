//! A client's roots that are others now: told to the legacy servers that may have asked for them.
//!
//! Not here: the question for the roots, which is part of a call (`hear`). Invariant: a server hears of it in the
//! sessions that were opened with such roots, and no more often than `changes` tells of anything.

use super::Gateway;
use super::flight::Errand;
use super::request::Era;
use super::server::{Server, Verdict};
use super::words::kind;
use crate::ids::View;
use crate::proto::mcp::Capabilities;
use crate::server::service::{Nanos, Service};
use crate::upstream::talk::{ONLY, Passage};

impl<S: Service> Gateway<S> {
    /// Tells the servers of a view: each session's own, or the session that its client shares with others like it.
    pub(super) fn tell_roots_changed(&mut self, now: Nanos, view: View, session: u64, capabilities: Capabilities) {
        let places = self.seen(view).map(|seen| seen.servers.clone()).unwrap_or_default();
        for place in places {
            let is_for_one = self.servers[usize::from(place)].settings.is_per_session;
            let number = if is_for_one { self.servers.own_of(place, session) } else { Some(place) };
            let Some(number) = number else { continue };
            let server = &mut self.servers[usize::from(number)];
            match server.channel.owner() {
                Some(owner) => {
                    let bits = u64::from(capabilities.to_bits());
                    server.callers.tell(owner, kind::ROOTS_CHANGED, bits, Vec::new());
                }
                None => server.roots_changed(now, capabilities),
            }
            self.settle(now, number);
        }
    }
}

impl Server {
    /// Roots of clients that can do this are others.
    pub(super) fn roots_changed(&mut self, now: Nanos, capabilities: Capabilities) {
        let wanted = self.session_for(capabilities);
        let Some(place) = self.sessions.iter().position(|session| session.capabilities == wanted) else { return };
        if self.sessions[place].roots.note(now) {
            self.tell_roots(now, place);
        }
    }

    /// Tells of those that were told of too shortly before.
    pub(super) fn tell_roots_due(&mut self, now: Nanos) {
        for place in 0..self.sessions.len() {
            if self.sessions[place].roots.take_due(now) {
                self.tell_roots(now, place);
            }
        }
    }

    /// When such have to be told.
    pub(super) fn roots_deadline(&self) -> Option<Nanos> {
        self.sessions.iter().filter_map(|session| session.roots.deadline()).min()
    }

    fn tell_roots(&mut self, now: Nanos, place: usize) {
        let session = &self.sessions[place];
        let (capabilities, is_open) = (session.capabilities, session.id.is_some());
        let Verdict::Known(era @ Era::Legacy(_)) = self.verdict else { return };
        if !is_open || !capabilities.has(Capabilities::ROOTS_LIST_CHANGED) {
            return;
        }
        let body = |out: &mut Vec<u8>| {
            out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
        };
        let (deadline, session) = (now + self.settings.list_time, Some(capabilities));
        for line in self.ready_lines().unwrap_or_else(|| vec![ONLY]) {
            self.errand(now, Errand::Notice, Some(era), session, None, Passage::Notice(line), deadline, body);
        }
    }
}
