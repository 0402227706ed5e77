//! Subscriptions to resources of servers behind the gateway: many callers here are one subscription there.
//!
//! Not here: who subscribes (the core's `subscriptions`), how a change is told (`remote`). Invariant: the core that
//! listens to a server's changes for all is subscribed there to what somebody on any core wants to hear of, and to
//! nothing else; a topic is `{server}+{uri}`, so that resources of two servers are two.

use super::flight::Errand;
use super::request::Era;
use super::send::write_request;
use super::server::{Server, Verdict};
use super::words::kind;
use super::{Gateway, uris};
use crate::ids::{CoreId, View};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Version;
use crate::server::service::{Nanos, Service};
use crate::upstream::missing;
use crate::upstream::talk::{Line, Passage};

/// Most topics that subscribers of one core watch behind the gateway.
const WATCHED_MAX: usize = 16_384;
/// Pause before a modern server is told another choice: who subscribes to one resource often does to the next.
const GATHER: Nanos = 20_000_000;

impl<S: Service> Gateway<S> {
    /// The topic of a resource in a view.
    ///
    /// # Errors
    /// What whoever wants to hear of it is told.
    pub(super) fn topic_of(&mut self, view: View, uri: &str, version: Version) -> Result<Box<str>, RpcError> {
        let Some((server, own)) = self.owner_of_uri(view, uri) else {
            return match self.seen(view).is_some_and(|seen| seen.native) {
                true => self.native.topic(view, uri, version),
                false => Err(missing::resource(uri, version)),
            };
        };
        let server = &self.servers[usize::from(server)];
        if let Some(about) = &server.about
            && !about.offers.resources_subscribe
        {
            let text = format!("server {} does not tell of changes of its resources", server.settings.name);
            return Err(RpcError::new(Code::INVALID_PARAMS, text));
        }
        let topic: Box<str> = format!("{}{own}", uris::before(&server.settings.name)).into();
        if self.watched.len() >= WATCHED_MAX && !self.watched.contains_key(&topic) {
            let text = format!("{WATCHED_MAX} resources are subscribed to already, the most there may be on a core");
            return Err(RpcError::new(Code::OVERLOADED, text));
        }
        Ok(topic)
    }

    /// A subscriber on this core more, or one less.
    pub(super) fn count_watcher(&mut self, now: Nanos, topic: &str, is_more: bool) {
        let count = self.watched.entry(topic.into()).or_default();
        *count = if is_more { *count + 1 } else { count.saturating_sub(1) };
        let count = *count;
        if count == 0 {
            self.watched.remove(topic);
        }
        if count == u32::from(is_more) {
            self.tell_watched(now, topic, is_more);
        }
    }

    /// Says that a topic is watched on this core, or no longer, to the core that listens to its server.
    fn tell_watched(&mut self, now: Nanos, topic: &str, on: bool) {
        let of_server = |server: &&mut Server| !server.is_retired && uris::own(topic, &server.settings.name).is_some();
        // The topics of the native server have none.
        let Some(server) = self.servers.iter_mut().find(of_server) else { return };
        let Some(own) = uris::own(topic, &server.settings.name) else { return };
        let listener = server.listener;
        if listener != self.core {
            let kind = if on { kind::WATCH } else { kind::UNWATCH };
            return server.callers.tell(listener, kind, 0, own.as_bytes().to_vec());
        }
        server.watch(now, own, listener, on);
        let index = server.index;
        self.settle(now, index);
    }

    /// Says again what is watched on this core: servers are others, or a core that listens has begun anew.
    pub(super) fn tell_all_watched(&mut self, now: Nanos) {
        let topics: Vec<Box<str>> = self.watched.keys().cloned().collect();
        for topic in topics {
            self.tell_watched(now, &topic, true);
        }
    }
}

impl Server {
    /// A core wants to hear of a resource, or no longer.
    pub(super) fn watch(&mut self, now: Nanos, uri: &str, core: CoreId, on: bool) {
        if on {
            let cores = self.watchers.entry(uri.into()).or_default();
            let is_first = cores.is_empty();
            cores.insert(core);
            if is_first {
                self.tell_watch(now, uri, true);
            }
        } else if let Some(cores) = self.watchers.get_mut(uri)
            && cores.remove(&core)
            && cores.is_empty()
        {
            self.watchers.remove(uri);
            self.tell_watch(now, uri, false);
        }
    }

    /// A core is gone, and those who watched there with it.
    pub(super) fn unwatch_from(&mut self, now: Nanos, core: CoreId) {
        let uris: Vec<Box<str>> = self.watchers.keys().cloned().collect();
        for uri in uris {
            self.watch(now, &uri, core, false);
        }
    }

    /// Subscribes in a session that was just opened to all that is watched.
    pub(super) fn watch_all(&mut self, now: Nanos) {
        let uris: Vec<Box<str>> = self.watchers.keys().cloned().collect();
        for uri in uris {
            self.tell_watch(now, &uri, true);
        }
    }

    /// Subscribes on a further line to all that is watched.
    pub(super) fn watch_all_on(&mut self, now: Nanos, line: Line) {
        let Verdict::Known(era @ Era::Legacy(_)) = self.verdict else { return };
        let uris: Vec<Box<str>> = self.watchers.keys().cloned().collect();
        for uri in uris {
            self.ask_to_watch(now, era, &uri, true, Some(line));
        }
    }

    /// Tells the server. One that is not there hears of all when it is.
    fn tell_watch(&mut self, now: Nanos, uri: &str, on: bool) {
        match self.verdict {
            Verdict::Known(Era::Modern) => {
                // Its stream is opened anew, with the other choice.
                self.is_choice_new = true;
                self.listen_at = self.listen_at.min(now + GATHER);
            }
            Verdict::Known(era @ Era::Legacy(_)) => {
                let session = self.own_session();
                if !self.sessions.iter().any(|open| open.capabilities == session && open.id.is_some()) {
                    return;
                }
                // Each process behind a name has its own subscribers.
                match self.ready_lines() {
                    None => self.ask_to_watch(now, era, uri, on, None),
                    Some(lines) => lines.into_iter().for_each(|line| self.ask_to_watch(now, era, uri, on, Some(line))),
                }
            }
            Verdict::Asking | Verdict::Unknown => {}
        }
    }

    fn ask_to_watch(&mut self, now: Nanos, era: Era, uri: &str, on: bool, line: Option<Line>) {
        let (serial, session) = (self.next_serial(), self.own_session());
        let method = if on { "resources/subscribe" } else { "resources/unsubscribe" };
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, method, |params| params.string("uri", uri));
        };
        let deadline = now + self.settings.list_time;
        let passage = line.map_or(Passage::Request(serial), |line| Passage::RequestOn(serial, line));
        self.errand(now, Errand::Notice, Some(era), Some(session), Some(method), passage, deadline, body);
    }
}
