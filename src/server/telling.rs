//! Telling: what changed reaches those who want to hear of it, so many of them in one turn.
//!
//! A list that changes concerns everybody, and telling tens of thousands takes longer than a core may look away from
//! its other work.
//!
//! Not here: who wants to hear of what (`subscriptions`), how a message reaches them (`deliver`).
//! Invariant: who wanted to hear of a change when it was to be told hears of it, or is gone; changes are told in the
//! order in which they came, and one that is the same as another that nobody has heard of yet is told with it.

use std::collections::VecDeque;

use super::core::Core;
use super::exchange::ExchangeKey;
use super::service::{Change, Service};
use super::subscriptions::subscription_meta;
use crate::proto::json::{Object, Value};
use crate::proto::jsonrpc;
use crate::shard::session::SessionKey;

/// How many are told in one turn.
pub(super) const TOLD_AT_ONCE: usize = 1024;
/// How many streams are looked at in the time in which one is told.
const LOOKED_AT_FOR_ONE: usize = 64;
/// How many changes of resources wait to be told; what comes beyond is told to all at once.
const CHANGES_MAX: usize = 64;

/// Somebody who is to be told.
#[derive(Clone, Copy, Debug)]
enum Listener {
    Stream(ExchangeKey),
    Session(SessionKey),
}

/// What is still to be told on a core.
#[derive(Default)]
pub struct Telling {
    /// The change that is being told, and to whom it still is.
    under_way: Option<(Change, Vec<Listener>)>,
    /// Changes that nobody was told of yet.
    waiting: VecDeque<Change>,
}

impl Telling {
    /// Whether there is nothing to tell.
    pub fn is_over(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }
}

impl<S: Service> Core<S> {
    /// Has this core's subscribers told.
    pub(super) fn tell_subscribers(&mut self, change: &Change) {
        let waiting = &mut self.telling.waiting;
        match change {
            // What is said of a task is another thing each time, and few want to hear it.
            Change::Task { .. } => self.tell_all(change),
            _ if waiting.contains(change) => {}
            Change::Resource(_) if waiting.len() >= CHANGES_MAX => self.tell_all(change),
            _ => waiting.push_back(change.clone()),
        }
    }

    /// Tells as many as may be told in one turn.
    pub(super) fn go_on_telling(&mut self) {
        let mut room = TOLD_AT_ONCE;
        while room > 0 {
            let (change, mut left) = match self.telling.under_way.take() {
                Some(under_way) => under_way,
                None => {
                    let Some(change) = self.telling.waiting.pop_front() else { return };
                    let left = self.listeners(&change);
                    // Finding them takes time as well.
                    let looked_at = self.subscriptions.looked_at(&change) / LOOKED_AT_FOR_ONE;
                    room = room.saturating_sub(looked_at).max(1);
                    (change, left)
                }
            };
            let now = left.split_off(left.len().saturating_sub(room));
            room -= now.len().max(1);
            now.into_iter().for_each(|listener| self.tell(listener, &change));
            if !left.is_empty() {
                self.telling.under_way = Some((change, left));
            }
        }
    }

    fn tell_all(&mut self, change: &Change) {
        for listener in self.listeners(change) {
            self.tell(listener, change);
        }
    }

    /// Who is to be told of a change.
    fn listeners(&mut self, change: &Change) -> Vec<Listener> {
        let streams = self.subscriptions.listening(change).into_iter().map(Listener::Stream);
        let sessions = match change {
            Change::Resource(topic) => self.subscriptions.subscribed(topic),
            // Legacy tasks tell their own session, through the call that made them.
            Change::Task { .. } => Vec::new(),
            _ => {
                let service = &self.service;
                // Who is behind a view may not be known yet, and then nobody can have heard what it offers.
                let offers = |view| service.about(view).is_ok_and(|about| about.offers.tells(change));
                self.shards.keys(|session| session.stream.is_some() && offers(session.view))
            }
        };
        streams.chain(sessions.into_iter().map(Listener::Session)).collect()
    }

    fn tell(&mut self, listener: Listener, change: &Change) {
        let mut params = Vec::new();
        let mut object = Object::begin(&mut params);
        let key = match listener {
            Listener::Stream(key) => {
                let Some(exchange) = self.exchanges.get(key) else { return };
                if let Change::Task { params, .. } = change {
                    for (name, value) in Value::new(params).members() {
                        if let Some(name) = name.unescaped().filter(|name| name != "_meta") {
                            object.raw(&name, value.raw());
                        }
                    }
                }
                subscription_meta(&mut object, &exchange.id);
                if let Change::Resource(topic) = change {
                    let Some(uri) = self.subscriptions.uri_of_stream(key, topic) else { return };
                    object.string("uri", uri);
                }
                key
            }
            Listener::Session(session) => {
                if let Change::Resource(topic) = change {
                    let Some(uri) = self.subscriptions.uri_of_session(session, topic) else { return };
                    object.string("uri", uri);
                }
                let Some(stream) = self.shards.find(session).and_then(|session| session.stream) else { return };
                stream
            }
        };
        object.end();
        let method = match change {
            Change::Prompts => "notifications/prompts/list_changed",
            Change::Resources => "notifications/resources/list_changed",
            Change::Resource(_) => "notifications/resources/updated",
            Change::Task { .. } => "notifications/tasks",
            Change::Tools => "notifications/tools/list_changed",
        };
        let mut message = Vec::new();
        jsonrpc::notification(&mut message, method, &params);
        self.deliver(key, &message);
    }
}
