//! Subscriptions to resources of servers behind the gateway: many callers here are one subscription there.
//!
//! Not here: who subscribes (the core's `subscriptions`), how a change is told (`remote`). Invariant: the core that
//! listens to a server's changes for all is subscribed there to what somebody on any core wants to hear of, and to
//! nothing else; a topic is `{server}+{uri}`, so that resources of two servers are two. A session's own server is
//! subscribed to what its session wants to hear of: such a topic names the session, and begins as no URI does.

use super::flight::Errand;
use super::request::Era;
use super::send::write_request;
use super::server::{Server, Verdict};
use super::words::kind;
use super::{Gateway, uris};
use crate::ids::{CoreId, View};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::{Change, Mail, Nanos, Service};
use crate::upstream::missing;
use crate::upstream::talk::{Line, Passage};

/// Most topics that subscribers of one core watch behind the gateway.
const WATCHED_MAX: usize = 16_384;
/// Pause before a modern server is told another choice: who subscribes to one resource often does to the next.
const GATHER: Nanos = 20_000_000;
/// What a topic of one session begins with, and its number ends with. No URI has such a character, and none that a
/// client sends is taken for one.
const OWN: char = '\u{1}';

/// A topic with subscribers on this core.
#[derive(Default)]
pub(super) struct Watched {
    count: u32,
    /// What the client can do who subscribed last.
    client: Capabilities,
}

/// Whether this would be the topic of one session.
pub(super) fn is_own(text: &str) -> bool {
    text.starts_with(OWN)
}

fn own_topic(session: u64, topic: &str) -> String {
    format!("{OWN}{session:x}{OWN}{topic}")
}

/// The session that a topic is of, and what it would be called if it were everybody's.
fn parts(topic: &str) -> Option<(u64, &str)> {
    let (session, topic) = topic.strip_prefix(OWN)?.split_once(OWN)?;
    Some((u64::from_str_radix(session, 16).ok()?, topic))
}

impl<S: Service> Gateway<S> {
    /// The topic of a resource in a view.
    ///
    /// # Errors
    /// What whoever wants to hear of it is told.
    pub(super) fn topic_of(
        &mut self,
        view: View,
        uri: &str,
        version: Version,
        session: Option<u64>,
    ) -> Result<Box<str>, RpcError> {
        let Some((place, own)) = self.owner_of_uri(view, uri) else {
            return match self.seen(view).is_some_and(|seen| seen.native) {
                true => self.native.topic(view, uri, version, session),
                false => Err(missing::resource(uri, version)),
            };
        };
        let server = &self.servers[usize::from(place)];
        if let Some(about) = &server.about
            && !about.offers.resources_subscribe
        {
            let text = format!("server {} does not tell of changes of its resources", server.settings.name);
            return Err(RpcError::new(Code::INVALID_PARAMS, text));
        }
        let mut topic = format!("{}{own}", uris::before(&server.settings.name));
        if let Some(session) = session.filter(|_| server.settings.is_per_session) {
            self.may_have_own(place, session)?;
            topic = own_topic(session, &topic);
        }
        let topic: Box<str> = topic.into();
        if self.watched.len() >= WATCHED_MAX && !self.watched.contains_key(&topic) {
            let text = format!("{WATCHED_MAX} resources are subscribed to already, the most there may be on a core");
            return Err(RpcError::new(Code::OVERLOADED, text));
        }
        Ok(topic)
    }

    /// A subscriber on this core more, or one less.
    pub(super) fn count_watcher(&mut self, now: Nanos, topic: &str, more: Option<Capabilities>) {
        let watched = self.watched.entry(topic.into()).or_default();
        let is_more = more.is_some();
        watched.count = if is_more { watched.count + 1 } else { watched.count.saturating_sub(1) };
        watched.client = more.unwrap_or(watched.client);
        let (count, client) = (watched.count, watched.client);
        if count == 0 {
            self.watched.remove(topic);
        }
        if count == u32::from(is_more) {
            self.tell_watched(now, topic, is_more, client);
        }
    }

    /// Says that a topic is watched on this core, or no longer, to the core that listens to its server.
    fn tell_watched(&mut self, now: Nanos, topic: &str, on: bool, client: Capabilities) {
        let (session, topic) = parts(topic).map_or((None, topic), |(session, topic)| (Some(session), topic));
        let of_server = |server: &&mut Server| !server.is_retired && uris::own(topic, &server.settings.name).is_some();
        // The topics of the native server have none.
        let Some(server) = self.servers.iter_mut().find(of_server) else { return };
        let Some(uri) = uris::own(topic, &server.settings.name) else { return };
        let (index, listener) = (server.index, server.listener);
        if let Some(session) = session {
            return self.tell_own_watched(now, index, session, uri, on.then_some(client));
        }
        if listener != self.core {
            let kind = if on { kind::WATCH } else { kind::UNWATCH };
            return server.callers.tell(listener, kind, 0, uri.as_bytes().to_vec());
        }
        server.watch(now, uri, listener, on);
        self.settle(now, index);
    }

    /// Says it to the session's own server, which is begun for it if it is not there.
    fn tell_own_watched(&mut self, now: Nanos, place: u16, session: u64, uri: &str, by: Option<Capabilities>) {
        let own = match by {
            Some(client) => self.own_server(place, session, client),
            // What was is gone already.
            None => match self.servers.own_of(place, session) {
                Some(own) => Ok(own),
                None => return,
            },
        };
        match own {
            Ok(number) => {
                let core = self.core;
                let server = &mut self.servers[usize::from(number)];
                let is_first = by.is_some() && !std::mem::replace(&mut server.listens, true);
                server.watch(now, uri, core, by.is_some());
                if by.is_some() {
                    server.reach(now);
                }
                if is_first {
                    server.listen(now);
                }
                self.settle(now, number);
            }
            // Not when it is asked for (`topic_of`), but servers may be others since.
            Err(why) => tracing::warn!(uri, "a session no longer hears of a resource: {}", why.message),
        }
    }

    /// A session's own server told of a resource: whoever subscribed to it in that session is told.
    pub(super) fn tell_own(&mut self, number: u16, uri: &str) {
        let server = &self.servers[usize::from(number)];
        let topic = own_topic(server.of_session, &format!("{}{uri}", uris::before(&server.settings.name)));
        if self.watched.contains_key(&*topic) {
            self.mailbox.push(Mail::ChangedHere(Change::Resource(topic)));
        }
    }

    /// Says again what is watched on this core: servers are others, or a core that listens has begun anew.
    pub(super) fn tell_all_watched(&mut self, now: Nanos) {
        let topics = self.watched.iter().map(|(topic, watched)| (topic.clone(), watched.client));
        for (topic, client) in topics.collect::<Vec<_>>() {
            self.tell_watched(now, &topic, true, client);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_one_session_is_no_other_sessions_and_nobody_elses() {
        for session in [0, 0x1f, u64::MAX] {
            let topic = own_topic(session, "c+x:\u{1}y");
            assert_eq!(parts(&topic), Some((session, "c+x:\u{1}y")));
            assert!(is_own(&topic));
        }
        assert_ne!(own_topic(1, "c+x:y"), own_topic(0x11, "c+x:y"));
        for text in ["c+x:y", "1f\u{1}c+x:y", "", "\u{1}", "\u{1}g\u{1}c+x:y"] {
            assert_eq!(parts(text), None, "{text:?}");
        }
    }
}
