//! Subscriptions to resources, and to tasks of 2026-07-28, of servers behind the gateway: many callers here are one
//! subscription there.
//!
//! Not here: who subscribes (the core's `subscriptions`), how a change is told (`remote`). Invariant: the core that
//! listens to a server's changes for all is subscribed there to what somebody on any core wants to hear of, and to
//! nothing else; a topic is `{server}+{uri}`, so that resources of two servers are two. A session's own server is
//! subscribed to what its session wants to hear of: such a topic names the session, and begins as no URI does.

use std::collections::BTreeSet;

use super::flight::Errand;
use super::request::Era;
use super::send::write_request;
use super::server::{Report, Server, Verdict};
use super::words::{self, kind};
use super::{Gateway, task_ids, uris};
use crate::ids::{CoreId, View};
use crate::proto::json::Value;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Method, Version};
use crate::server::service::{Change, Mail, Nanos, Service, Watched};
use crate::upstream::missing;
use crate::upstream::talk::{Line, Passage};

/// Most topics that subscribers of one core watch behind the gateway.
const WATCHED_MAX: usize = 16_384;
/// Pause before a modern server is told another choice: who subscribes to one resource often does to the next.
const GATHER: Nanos = 20_000_000;
/// The same for each byte of what is watched already, all of which is said anew: many times as long as saying and
/// hearing it takes, so that one client who comes and goes costs no more than that.
const GATHER_FOR_BYTE: Nanos = 50;
/// What a topic of one session begins with, and its number ends with. No URI has such a character, and none that a
/// client sends is taken for one.
const OWN: char = '\u{1}';

/// The subscribers of a topic on this core.
#[derive(Default)]
pub(super) struct Watchers {
    count: u32,
    /// What the client can do who subscribed last.
    client: Capabilities,
}

/// How long further wishes are waited for before a server is told of them beside so many bytes of others.
fn gather(bytes: usize) -> Nanos {
    GATHER + GATHER_FOR_BYTE * bytes as Nanos
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
                true if !self.native.admits_resource(uri) => Err(missing::resource(uri, version)),
                true => self.native.service.topic(view, uri, version, session),
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
        if self.watched.len() >= WATCHED_MAX && !self.watched.contains_key(&(Watched::Resource, topic.clone())) {
            let text = format!("{WATCHED_MAX} resources are subscribed to already, the most there may be on a core");
            return Err(RpcError::new(Code::OVERLOADED, text));
        }
        Ok(topic)
    }

    /// The topic of a task in a view, by the id that it has there; none if no server could tell of it.
    pub(super) fn topic_of_task(&mut self, view: View, id: &str) -> Option<Box<str>> {
        let seen = self.seen(view)?;
        let (alone, has_native) = (seen.alone, seen.native);
        let own = |server: u16| uris::own(id, &self.servers[usize::from(server)].settings.name);
        let found = match alone {
            Some(server) => Some((server, format!("{ALONE}{id}"))),
            None => seen.servers.iter().find_map(|&server| Some((server, format!("{AMONG_OTHERS}{}", own(server)?)))),
        };
        let Some((server, own)) = found else {
            return if has_native { self.native.service.task_topic(view, id) } else { None };
        };
        let server = &self.servers[usize::from(server)];
        let topic: Box<str> = format!("{}{own}", server.settings.name).into();
        let tells = server.about.as_ref().is_some_and(|about| about.offers.tasks_extension);
        let key = (Watched::Task, topic);
        let has_room = self.watched.len() < WATCHED_MAX || self.watched.contains_key(&key);
        (tells && has_room).then_some(key.1)
    }

    /// A server told how a task stands: it has one name where the server is seen alone, and another among others.
    pub(super) fn task_changed(&mut self, server: u16, id: String, params: Vec<u8>) {
        let server = &self.servers[usize::from(server)];
        let name = &server.settings.name;
        let of = |way: char| format!("{name}{way}{id}");
        let among = task_ids::seen(&params, Method::TasksGet, &uris::before(name));
        let among = among.map(|params| Change::Task { id: of(AMONG_OTHERS), params });
        for change in [Change::Task { id: of(ALONE), params }].into_iter().chain(among) {
            self.mailbox.push(Mail::Changed(change));
        }
    }

    /// A subscriber on this core more, or one less.
    pub(super) fn count_watcher(&mut self, now: Nanos, what: Watched, topic: &str, more: Option<Capabilities>) {
        let key = (what, Box::from(topic));
        let watchers = self.watched.entry(key.clone()).or_default();
        let is_more = more.is_some();
        watchers.count = if is_more { watchers.count + 1 } else { watchers.count.saturating_sub(1) };
        watchers.client = more.unwrap_or(watchers.client);
        let (count, client) = (watchers.count, watchers.client);
        if count == 0 {
            self.watched.remove(&key);
        }
        if count == u32::from(is_more) {
            self.tell_watched(now, what, topic, is_more, client);
        }
    }

    /// Says that a topic is watched on this core, or no longer, to the core that listens to its server.
    fn tell_watched(&mut self, now: Nanos, what: Watched, topic: &str, on: bool, client: Capabilities) {
        let (session, topic) = match what {
            Watched::Resource => parts(topic).map_or((None, topic), |(session, topic)| (Some(session), topic)),
            Watched::Task => (None, topic),
        };
        let own = |server: &Server| match what {
            Watched::Resource => uris::own(topic, &server.settings.name),
            Watched::Task => topic.strip_prefix(&*server.settings.name).filter(|own| own.starts_with(WAYS)),
        };
        // The topics of the native server have none.
        let Some(server) = self.servers.iter().find(|server| !server.is_retired && own(server).is_some()) else {
            return;
        };
        let Some(own) = own(server) else { return };
        let (index, listener) = (server.index, server.listener);
        if let Some(session) = session {
            return self.tell_own_watched(now, index, session, own, on.then_some(client));
        }
        if listener != self.core {
            let kind = if on { kind::WATCH } else { kind::UNWATCH };
            return server.callers.tell(listener, kind, words::number_of_watched(what), own.as_bytes().to_vec());
        }
        self.servers[usize::from(index)].watch(now, what, own, listener, on);
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
                server.watch(now, Watched::Resource, uri, core, by.is_some());
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
        if self.watched.contains_key(&(Watched::Resource, topic.as_str().into())) {
            self.mailbox.push(Mail::ChangedHere(Change::Resource(topic)));
        }
    }

    /// Says again what is watched on this core: servers are others, or a core that listens has begun anew.
    pub(super) fn tell_all_watched(&mut self, now: Nanos) {
        let topics = self.watched.iter().map(|((what, topic), watchers)| (*what, topic.clone(), watchers.client));
        for (what, topic, client) in topics.collect::<Vec<_>>() {
            self.tell_watched(now, what, &topic, true, client);
        }
    }
}

/// Longest URI of which is looked whose part it is, and how many that may be: a server could have as many looked up as
/// its URI has slashes.
const PART_BYTES_MAX: usize = 4096;
const WHOLES_MAX: usize = 64;

/// URIs of what a URI may be a part of, the nearest first.
fn wholes(uri: &str) -> impl Iterator<Item = &str> {
    let looked_at = if uri.len() <= PART_BYTES_MAX { uri } else { "" };
    let ends = looked_at.match_indices(['/', '?', '#']).map(|(at, _)| at).collect::<Vec<usize>>();
    // With and without the slash at its end.
    let both = ends.into_iter().rev().flat_map(move |at| [&uri[..=at], &uri[..at]]);
    both.filter(move |whole| whole.len() < uri.len()).take(WHOLES_MAX)
}

/// How a task is called where its server is seen alone, and where it is one of several: its topic has this behind the
/// server's name, and its own id behind that.
const ALONE: char = '=';
const AMONG_OTHERS: char = '+';
const WAYS: [char; 2] = [ALONE, AMONG_OTHERS];

impl Server {
    /// A core wants to hear of a resource or task, or no longer.
    pub(super) fn watch(&mut self, now: Nanos, what: Watched, topic: &str, core: CoreId, on: bool) {
        let key = (what, Box::from(topic));
        if on {
            let cores = self.watchers.entry(key).or_default();
            let is_first = cores.is_empty();
            cores.insert(core);
            if is_first {
                self.tell_watch(now, what, topic, true);
            }
        } else if let Some(cores) = self.watchers.get_mut(&key)
            && cores.remove(&core)
            && cores.is_empty()
        {
            self.watchers.remove(&key);
            self.tell_watch(now, what, topic, false);
        }
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self, what: Watched, topic: &str) -> bool {
        self.watchers.contains_key(&(what, Box::from(topic)))
    }

    /// The resources that somebody watches of which a change of this one is news: itself, and those that it is a part
    /// of (2025-11-25, "Subscriptions": a server may tell of a sub-resource of what was subscribed to). Whoever watches
    /// is told of what it asked to hear of.
    pub(super) fn watched_with(&self, uri: &str) -> Vec<String> {
        if self.watchers.is_empty() {
            return Vec::new();
        }
        let is_watched = |uri: &&str| self.is_watched(Watched::Resource, uri);
        std::iter::once(uri).chain(wholes(uri)).filter(is_watched).map(str::to_owned).collect()
    }

    /// The resources that somebody watches, and the tasks, each once.
    pub(super) fn watched(&self) -> (Vec<&str>, BTreeSet<&str>) {
        let of =
            |wanted: Watched| self.watchers.keys().filter(move |(what, _)| *what == wanted).map(|(_, topic)| &**topic);
        (of(Watched::Resource).collect(), of(Watched::Task).map(|topic| topic.trim_start_matches(WAYS)).collect())
    }

    /// A modern server told how a task stands.
    pub(super) fn task_is_news(&mut self, now: Nanos, params: Value<'_>) {
        let Some(id) = params.get("taskId").and_then(Value::as_str) else { return };
        if WAYS.into_iter().any(|way| self.is_watched(Watched::Task, &format!("{way}{id}"))) {
            let change = Change::Task { id: id.into_owned(), params: params.raw().to_vec() };
            self.reports.extend(self.changes.note(now, change).map(Report::Changed));
        }
    }

    /// A core is gone, and those who watched there with it.
    pub(super) fn unwatch_from(&mut self, now: Nanos, core: CoreId) {
        let topics: Vec<(Watched, Box<str>)> = self.watchers.keys().cloned().collect();
        for (what, topic) in topics {
            self.watch(now, what, &topic, core, false);
        }
    }

    /// Subscribes in a session that was just opened to all that is watched.
    pub(super) fn watch_all(&mut self, now: Nanos) {
        let topics: Vec<(Watched, Box<str>)> = self.watchers.keys().cloned().collect();
        for (what, topic) in topics {
            self.tell_watch(now, what, &topic, true);
        }
    }

    /// Subscribes on a further line to all that is watched.
    pub(super) fn watch_all_on(&mut self, now: Nanos, line: Line) {
        let Verdict::Known(era @ Era::Legacy(_)) = self.verdict else { return };
        let uris: Vec<Box<str>> = self.watched().0.into_iter().map(Box::from).collect();
        for uri in uris {
            self.ask_to_watch(now, era, &uri, true, Some(line));
        }
    }

    /// Tells the server. One that is not there hears of all when it is.
    fn tell_watch(&mut self, now: Nanos, what: Watched, uri: &str, on: bool) {
        match self.verdict {
            Verdict::Known(Era::Modern) => {
                // Its stream is opened anew, with the other choice.
                self.is_choice_new = true;
                self.listen_at = self.listen_at.min(now + gather(self.listened_to));
            }
            // Of its tasks it tells whose they are (`owed`).
            Verdict::Known(Era::Legacy(_)) if what == Watched::Task => {}
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
            Verdict::Asking | Verdict::Retired(_) | Verdict::Unknown => {}
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
    fn a_resource_is_a_part_of_what_its_uri_begins_with() {
        let found: Vec<&str> = wholes("x:/d/e?f").collect();
        assert_eq!(found, ["x:/d/e?", "x:/d/e", "x:/d/", "x:/d", "x:/", "x:"]);
        assert_eq!(wholes("x:/d/").collect::<Vec<&str>>(), ["x:/d", "x:/", "x:"]);
        assert_eq!((wholes("x:y").count(), wholes(&"/".repeat(PART_BYTES_MAX)).count()), (0, WHOLES_MAX));
        assert_eq!(wholes(&"/".repeat(PART_BYTES_MAX + 1)).count(), 0);
    }

    #[test]
    fn who_watches_much_is_told_anew_seldom() {
        assert_eq!(gather(0), GATHER);
        assert_eq!(gather(16 << 20) / 1_000_000, 858, "16 MB, about once a second at most");
    }

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
