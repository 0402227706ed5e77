//! Servers that are one session's own: a child, or a session of an HTTP server, which no other client shares.
//!
//! Not here: where they are kept (`fleet`). Invariant: what a session's own server remembers, and says unasked, reaches
//! that session only; it ends with the session, and when its server is taken out of the configuration.
//!
//! What there is (lists, who it is) is asked of the one that all share, and so are calls that belong to no session:
//! those of 2026-07-28.

use std::sync::Arc;

use super::Gateway;
use super::fleet::OWN_MAX;
use super::flight::{Asked, Relay};
use super::server::Server;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::{Call, Nanos, Service};

impl<S: Service> Gateway<S> {
    /// The server that a call of a session goes to: the session's own, where its server is for one session each.
    ///
    /// # Errors
    /// If there can be no further one.
    pub(super) fn server_for(&mut self, place: u16, call: &Call<'_>) -> Result<u16, RpcError> {
        let is_per_session = self.servers[usize::from(place)].settings.is_per_session;
        match call.session.filter(|_| is_per_session) {
            Some(session) => self.own_server(place, session, call.capabilities),
            None => Ok(place),
        }
    }

    /// The server that is a session's own in the place of a configured one; `client` is what the session's client can
    /// do, by which one that is not there yet is spoken to.
    ///
    /// # Errors
    /// If there can be no further one.
    pub(super) fn own_server(&mut self, place: u16, session: u64, client: Capabilities) -> Result<u16, RpcError> {
        if let Some(own) = self.servers.own_of(place, session) {
            return Ok(own);
        }
        let shared = &self.servers[usize::from(place)];
        let (settings, metrics) = (Arc::clone(&shared.settings), Arc::clone(&shared.metrics));
        let (annotations, repeatable) = (shared.annotations.clone(), shared.repeatable.clone());
        let (is_legacy, at) = (shared.is_legacy, self.place.clone());
        let name = Arc::clone(&settings);
        let make = |number| {
            let owner = at.core;
            let mut own = Server::new(settings, number, owner, at, metrics);
            (own.is_own, own.base, own.listens) = (true, place, false);
            (own.annotations, own.repeatable, own.is_legacy) = (annotations, repeatable, is_legacy);
            (own.of_session, own.client) = (session, Some(client));
            own
        };
        self.servers.keep(place, session, make).map_err(|most| too_many(&name.name, most))
    }

    /// Whether a session has a server of its own in this place, or may have one.
    ///
    /// # Errors
    /// If there can be no further one.
    pub(super) fn may_have_own(&self, place: u16, session: u64) -> Result<(), RpcError> {
        match self.servers.own_of(place, session).is_some() || self.servers.has_room() {
            true => Ok(()),
            false => Err(too_many(&self.servers[usize::from(place)].settings.name, OWN_MAX)),
        }
    }

    /// A client's session is over, and what was its own with it.
    pub(super) fn end_own(&mut self, now: Nanos, session: u64) {
        for number in self.servers.leave(session) {
            self.servers[usize::from(number)].farewell(now);
            self.settle(now, number);
        }
    }

    /// What was a session's own in the place of a server that is gone ends as well.
    pub(super) fn retire_own(&mut self, now: Nanos, place: u16) {
        for number in self.servers.own_at(place) {
            if !self.servers[usize::from(number)].is_retired {
                self.servers[usize::from(number)].farewell(now);
            }
            self.settle(now, number);
        }
    }

    /// Tools of a server were read: what is a session's own knows of them too.
    pub(super) fn tell_own_annotations(&mut self, place: u16) {
        for number in self.servers.own_at(place) {
            let shared = &self.servers[usize::from(place)];
            let (annotations, repeatable) = (shared.annotations.clone(), shared.repeatable.clone());
            let own = &mut self.servers[usize::from(number)];
            (own.annotations, own.repeatable) = (annotations, repeatable);
        }
    }

    /// Lets go of a session's own server that has ended.
    pub(super) fn forget_own(&mut self, number: u16) {
        let server = &self.servers[usize::from(number)];
        if server.is_own && server.is_gone() {
            self.servers[usize::from(number)].withdraw();
            self.servers.remove(number);
        }
    }
}

impl Server {
    /// A call is over on whose stream its caller was asked something. A session's own server may have asked it for
    /// another call, and would wait for the answer.
    pub(super) fn give_back_questions(&mut self, now: Nanos, relay: &Relay, session: Option<Capabilities>) {
        for Asked { id, .. } in relay.asks.iter().filter(|_| self.is_own).cloned().collect::<Vec<_>>() {
            let text = "the call on whose stream this was asked is over; ask again";
            self.tell_answer(now, self.line, session, &id, Err(RpcError::new(Code::OVERLOADED, text)));
        }
    }
}

fn too_many(server: &str, most: usize) -> RpcError {
    let text = format!(
        "server {server} has a session of its own for each client, and {most} of them are the most that a core keeps"
    );
    RpcError::new(Code::OVERLOADED, text)
}
