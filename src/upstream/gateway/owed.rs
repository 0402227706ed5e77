//! What a legacy server will speak of after the call in which it named it: a visit to a page (URL elicitation) that is
//! done, a task that stands otherwise. Callers share sessions with it, so it is remembered whose each is.
//!
//! Not here: messages that belong to a call (`hear`), tasks of 2026-07-28, which callers ask to hear of (`watching`).
//! Invariant: what a server says of a visit or a task reaches the session that was told of it first, and no other; no
//! more is remembered than `limits` says, of which the oldest goes first.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::callers::Caller;
use super::flight::Relay;
use super::request::name_key;
use super::server::Server;
use super::task_ids;
use super::words::{self, kind};
use crate::ids::CoreId;
use crate::limits::{OWED_ID_BYTES_MAX, OWED_MAX};
use crate::proto::json::{Key, Value};
use crate::proto::mcp::{Capabilities, Method, Version};
use crate::server::service::{Call, Mail, Nanos};

/// What a server tells a session, of what it owes it.
pub(super) const COMPLETE: &str = "notifications/elicitation/complete";
const STATUS: &str = "notifications/tasks/status";

/// What is spoken of later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Promise {
    /// A visit, by its `elicitationId`.
    Visit,
    /// A task of 2025-11-25, by the server's id for it.
    Task,
}

/// The client's session that is to hear of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Creditor {
    pub core: CoreId,
    pub session: u64,
    /// What its client can do, by which its session with the server is chosen.
    pub capabilities: Capabilities,
    /// What stands before the server's ids in what it reads.
    pub uris: Option<Box<str>>,
}

/// All that one server owes.
#[derive(Default)]
pub(super) struct Owed {
    creditors: HashMap<(Promise, Box<str>), Creditor>,
    /// The oldest first; those that were kept are left in it until their turn comes.
    order: VecDeque<(Promise, Box<str>)>,
}

impl Owed {
    /// Somebody was told of something. Who was told first is who hears of it.
    fn promise(&mut self, what: Promise, id: &str, creditor: Creditor) {
        let key = (what, Box::from(id));
        if id.len() > OWED_ID_BYTES_MAX || self.creditors.contains_key(&key) {
            return;
        }
        while self.order.len() >= OWED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.creditors.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.creditors.insert(key, creditor);
    }

    /// A core died, and its sessions with it: their numbers will be others' (`lost_core`).
    pub fn forget_core(&mut self, core: CoreId) {
        self.creditors.retain(|_, creditor| creditor.core != core);
        self.order.retain(|key| self.creditors.contains_key(key));
    }

    /// Who is to hear of it.
    pub fn creditor_of(&self, what: Promise, id: &str) -> Option<&Creditor> {
        self.creditors.get(&(what, Box::from(id)))
    }
}

impl Creditor {
    /// Whoever made a call, if that is somebody who can be told something later.
    pub fn of(relay: &Relay) -> Option<Creditor> {
        let session = relay.session.filter(|_| relay.version == Version::V2025_11_25)?;
        let (core, capabilities) = (relay.caller.core, relay.capabilities);
        Some(Creditor { core, session, capabilities, uris: relay.uris.clone() })
    }
}

impl Server {
    fn owe(&mut self, now: Nanos, creditor: Creditor, what: Promise, id: &str) {
        let own = self.session_for(creditor.capabilities);
        self.owed.promise(what, id, creditor);
        let Some(session) = self.sessions.iter_mut().find(|session| session.capabilities == own) else { return };
        if !std::mem::replace(&mut session.owes, true) {
            // What it says later comes on no call's stream.
            self.listen(now);
        }
    }

    /// Whether a call is about a task that was made in another client's session, by the server's id for it: clients
    /// share sessions with the server, which cannot tell them apart. Where it is not remembered whose one is (it is
    /// older than this process, or than `limits` keeps), the server judges.
    pub(super) fn is_of_anothers_task(&self, call: &Call<'_>, caller: Caller, own: Option<&str>) -> bool {
        if name_key(call.method) != Key::TaskId {
            return false;
        }
        let Some(id) = own.map(Cow::from).or_else(|| call.envelope.str(Key::TaskId, call.text)) else { return false };
        let creditor = self.owed.creditor_of(Promise::Task, &id);
        creditor.is_some_and(|creditor| (creditor.core, Some(creditor.session)) != (caller.core, call.session))
    }

    /// A call's result made a task.
    pub(super) fn owe_task(&mut self, now: Nanos, relay: &Relay, result: Value<'_>) {
        let Some(creditor) = Creditor::of(relay).filter(|_| relay.method == Method::ToolsCall) else { return };
        if let Some(id) = result.get("task").and_then(|task| task.get("taskId")).and_then(Value::as_str) {
            self.owe(now, creditor, Promise::Task, &id);
        }
    }

    /// A call ended in an error that asks for visits (2025-11-25, "URL Elicitation Required").
    pub(super) fn owe_visits(&mut self, now: Nanos, relay: &Relay, error: Value<'_>) {
        let Some(creditor) = Creditor::of(relay) else { return };
        let asked = error.get("data").and_then(|data| data.get("elicitations"));
        for asked in asked.into_iter().flat_map(Value::elements) {
            self.owe_visit(now, creditor.clone(), asked);
        }
    }

    /// A question may ask for a visit.
    pub(super) fn owe_visit(&mut self, now: Nanos, creditor: Creditor, params: Value<'_>) {
        if let Some(id) = params.get("elicitationId").and_then(Value::as_str) {
            self.owe(now, creditor, Promise::Visit, &id);
        }
    }

    /// The server says that a visit is done; `number` is the call on whose stream it says so, if it is one's.
    pub(super) fn visit_is_done(&mut self, number: u32, params: Value<'_>) {
        let Some(id) = params.get("elicitationId").and_then(Value::as_str) else { return };
        let creditor = self.owed.creditor_of(Promise::Visit, &id).cloned();
        if let Some(relay) = self.flights.relay(number)
            && relay.version == Version::V2025_11_25
            && creditor.as_ref().is_none_or(|creditor| Some(creditor.session) == relay.session)
        {
            return self.callers.notice(relay.caller, COMPLETE, params.raw().to_vec());
        }
        if let Some(creditor) = creditor {
            self.callers.tell_session(&creditor, COMPLETE, params.raw().to_vec());
        }
    }

    /// The server says how a task stands.
    pub(super) fn task_stands(&self, params: Value<'_>) {
        let Some(id) = params.get("taskId").and_then(Value::as_str) else { return };
        let Some(creditor) = self.owed.creditor_of(Promise::Task, &id) else { return };
        let renamed = creditor.uris.as_ref().and_then(|before| task_ids::status(params.raw(), before));
        self.callers.tell_session(creditor, STATUS, renamed.unwrap_or_else(|| params.raw().to_vec()));
    }
}

impl super::callers::Callers {
    /// Tells a client's session something that belongs to no call of it.
    fn tell_session(&self, creditor: &Creditor, method: &'static str, params: Vec<u8>) {
        let Creditor { core, session, .. } = *creditor;
        if core == self.core {
            return self.mailbox.push(Mail::Session { session, method, params });
        }
        self.tell(core, kind::SESSION, session, words::write_said(0, method, &params));
    }
}

/// What a word from another core says to a session here.
pub(super) fn mail(session: u64, text: &[u8]) -> Option<Mail> {
    let (_, said, params) = words::read_said(text)?;
    let method = [COMPLETE, STATUS].into_iter().find(|known| *known == said)?;
    Some(Mail::Session { session, method, params: params.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_first_hears_of_it_and_the_oldest_is_forgotten() {
        let mut owed = Owed::default();
        let creditor =
            |session| Creditor { core: CoreId(0), session, capabilities: Capabilities::default(), uris: None };
        let session = |owed: &Owed, what, id: &str| owed.creditor_of(what, id).map(|creditor| creditor.session);
        owed.promise(Promise::Task, "a", creditor(1));
        owed.promise(Promise::Task, "a", creditor(2));
        owed.promise(Promise::Visit, "a", creditor(3));
        owed.promise(Promise::Visit, &"x".repeat(OWED_ID_BYTES_MAX + 1), creditor(3));
        assert_eq!((session(&owed, Promise::Task, "a"), session(&owed, Promise::Visit, "a")), (Some(1), Some(3)));
        for number in 0..OWED_MAX as u64 {
            owed.promise(Promise::Task, &number.to_string(), creditor(number));
        }
        assert_eq!((session(&owed, Promise::Task, "a"), session(&owed, Promise::Task, "7")), (None, Some(7)));
        assert_eq!((owed.creditors.len(), owed.order.len()), (OWED_MAX, OWED_MAX));
        let elsewhere = Creditor { core: CoreId(1), ..creditor(9) };
        owed.promise(Promise::Task, "of another core", elsewhere);
        owed.forget_core(CoreId(0));
        assert_eq!(
            (session(&owed, Promise::Task, "7"), session(&owed, Promise::Task, "of another core")),
            (None, Some(9))
        );
        assert_eq!((owed.creditors.len(), owed.order.len()), (1, 1));
    }
}
