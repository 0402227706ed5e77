//! Who wants to hear about what, on one core.
//!
//! Modern clients open a stream for it (`subscriptions/listen`), legacy sessions subscribe to resources and hear of
//! changed lists on their stream. Not here: how they are told (`telling`), how a message reaches them (`deliver`).
//! Invariant: an entry exists only while its exchange or its session does.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use super::exchange::{Exchange, ExchangeKey, Kind};
use super::http::NO_EVENTS;
use super::router::{Lane, Told, write_result};
use super::service::{Change, Service, Watched};
use crate::limits::{SUBSCRIBED_BYTES_MAX, SUBSCRIBED_BYTES_PER_CORE_MAX, SUBSCRIBED_URI_BYTES_MAX};
use crate::metrics::Refusal;
use crate::proto::json::{Array, Envelope, Key, Object, Value, ValueKind};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::shard::session::SessionKey;

/// What a subscription stream asked for and got.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    /// URIs by topic.
    uris: BTreeMap<Box<str>, Box<str>>,
    /// Ids by topic.
    tasks: BTreeMap<Box<str>, Box<str>>,
}

/// Something that streams hear of by its name.
type Topic = (Watched, Box<str>);

/// A core's subscriptions.
#[derive(Default)]
pub struct Subscriptions {
    listens: BTreeMap<(u32, u32), Filter>,
    /// Streams by topic.
    listens_by_topic: BTreeMap<Topic, BTreeSet<(u32, u32)>>,
    /// Sessions by topic, and the URI by which each knows it.
    by_topic: BTreeMap<Box<str>, BTreeMap<SessionKey, Box<str>>>,
    /// Bytes that all of it takes.
    bytes: usize,
}

/// Bytes that one subscription takes: its topic, which sessions keep once more, its URI, and places for both.
fn weight(topic: &str, uri: &str) -> usize {
    2 * topic.len() + uri.len() + 160
}

impl Filter {
    fn weight(&self) -> usize {
        self.uris.iter().chain(&self.tasks).map(|(topic, name)| weight(topic, name)).sum()
    }

    /// What it wants to hear of beside lists.
    fn topics(&self) -> impl Iterator<Item = Topic> {
        let tasks = self.tasks.keys().map(|topic| (Watched::Task, topic.clone()));
        self.uris.keys().map(|topic| (Watched::Resource, topic.clone())).chain(tasks)
    }
}

impl Subscriptions {
    /// A stream is over; the topics that it wanted to hear of.
    pub(super) fn remove(&mut self, key: ExchangeKey) -> Vec<Topic> {
        let key = (key.index, key.generation);
        let Some(filter) = self.listens.remove(&key) else { return Vec::new() };
        self.bytes -= filter.weight();
        let topics: Vec<Topic> = filter.topics().collect();
        for topic in &topics {
            if let Some(streams) = self.listens_by_topic.get_mut(topic) {
                streams.remove(&key);
                if streams.is_empty() {
                    self.listens_by_topic.remove(topic);
                }
            }
        }
        topics
    }

    /// A stream begins.
    fn insert(&mut self, key: ExchangeKey, filter: Filter) {
        let key = (key.index, key.generation);
        self.bytes += filter.weight();
        for topic in filter.topics() {
            self.listens_by_topic.entry(topic).or_default().insert(key);
        }
        self.listens.insert(key, filter);
    }

    pub(super) fn unsubscribe(&mut self, topic: &str, session: SessionKey) {
        if let Some(sessions) = self.by_topic.get_mut(topic) {
            if let Some(uri) = sessions.remove(&session) {
                self.bytes -= weight(topic, &uri);
            }
            if sessions.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }

    /// Whether a session is told of a topic's changes.
    pub(super) fn is_subscribed(&self, topic: &str, session: SessionKey) -> bool {
        self.by_topic.get(topic).is_some_and(|sessions| sessions.contains_key(&session))
    }

    /// Whether there is room for so many bytes more.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= SUBSCRIBED_BYTES_PER_CORE_MAX
    }

    /// Bytes that it takes, counted anew.
    pub(super) fn weigh(&self) -> (usize, usize) {
        let sessions = self.by_topic.iter().flat_map(|(topic, sessions)| {
            let topic: &str = topic;
            sessions.values().map(move |uri| weight(topic, uri))
        });
        (self.listens.values().map(Filter::weight).sum::<usize>() + sessions.sum::<usize>(), self.bytes)
    }

    /// The streams that want to hear of a change.
    pub(super) fn listening(&self, change: &Change) -> Vec<ExchangeKey> {
        let key = |&(index, generation): &(u32, u32)| ExchangeKey { index, generation };
        let of_topic = |what, topic: &str| {
            let streams = self.listens_by_topic.get(&(what, topic.into()));
            streams.into_iter().flatten().map(key).collect()
        };
        let of_list = |wants: fn(&Filter) -> bool| {
            let found = self.listens.iter().filter(|(_, filter)| wants(filter));
            found.map(|(stream, _)| key(stream)).collect()
        };
        match change {
            Change::Prompts => of_list(|filter| filter.prompts),
            Change::Resources => of_list(|filter| filter.resources),
            Change::Resource(topic) => of_topic(Watched::Resource, topic),
            Change::Task { id, .. } => of_topic(Watched::Task, id),
            Change::Tools => of_list(|filter| filter.tools),
        }
    }

    /// How many streams are looked at to find those that want to hear of a change, beside these.
    pub(super) fn looked_at(&self, change: &Change) -> usize {
        match change {
            Change::Resource(_) | Change::Task { .. } => 0,
            Change::Prompts | Change::Resources | Change::Tools => self.listens.len(),
        }
    }

    /// The sessions that subscribe to a topic.
    pub(super) fn subscribed(&self, topic: &str) -> Vec<SessionKey> {
        self.by_topic.get(topic).into_iter().flat_map(|sessions| sessions.keys().copied()).collect()
    }

    /// The URI by which a stream knows a topic.
    pub(super) fn uri_of_stream(&self, key: ExchangeKey, topic: &str) -> Option<&str> {
        self.listens.get(&(key.index, key.generation))?.uris.get(topic).map(|uri| &**uri)
    }

    /// The URI by which a session knows a topic.
    pub(super) fn uri_of_session(&self, key: SessionKey, topic: &str) -> Option<&str> {
        self.by_topic.get(topic)?.get(&key).map(|uri| &**uri)
    }
}

impl<S: Service> Core<S> {
    /// `subscriptions/listen`.
    pub(super) fn listen(
        &mut self,
        lane: Lane<'_>,
        capabilities: Capabilities,
        id: &[u8],
        envelope: &Envelope,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        let Some(wanted) = envelope.value(Key::Notifications, text).filter(|wanted| wanted.kind() == ValueKind::Object)
        else {
            let error = RpcError::new(
                Code::INVALID_PARAMS,
                "params.notifications has to be an object that says what is wanted",
            );
            return self.refuse_message(Refusal::BadRequest, Some(id), false, 200, error, out);
        };
        if let Err(problem) = check_wish(wanted) {
            return self.refuse_message(
                Refusal::BadRequest,
                Some(id),
                false,
                200,
                RpcError::new(Code::INVALID_PARAMS, problem),
                out,
            );
        }
        if !lane.accepts.event_stream {
            return self.takes_no_answer(NO_EVENTS, Some(id), false, out);
        }
        let is_listen =
            |key: &&ExchangeKey| self.exchanges.get(**key).is_some_and(|exchange| exchange.kind == Kind::Listen);
        let most = self.settings.listens_per_connection;
        if lane.siblings.iter().filter(is_listen).count() >= most {
            let text = format!("{most} subscription streams are open on this connection, the most there may be");
            return self.refuse_message(
                Refusal::StreamsFull,
                Some(id),
                false,
                429,
                RpcError::new(Code::RATE_LIMITED, text),
                out,
            );
        }
        if self.subscriptions.listens.len() >= self.settings.listens_max || self.drain.is_on() {
            let error = RpcError::new(Code::OVERLOADED, "no room for another subscription stream; try again shortly");
            return self.refuse_message(
                if self.drain.is_on() { Refusal::Draining } else { Refusal::StreamsFull },
                Some(id),
                false,
                503,
                error,
                out,
            );
        }
        let offers = match self.service.about(lane.view) {
            Ok(about) => about.offers,
            Err(error) => return self.fail(Some(id), false, 503, error, out),
        };
        let asked = |name: &str| wanted.get(name).and_then(|value| value.as_bool()).unwrap_or(false);
        let most = self.settings.subscriptions_max;
        let listed = |name: &str, offered: bool| -> BTreeSet<Box<str>> {
            let values = wanted.get(name).filter(|_| offered).into_iter().flat_map(Value::elements);
            values.filter_map(|value| value.as_str()).take(most).map(|text| text.into()).collect()
        };
        // Only what is acknowledged is honoured, and what is not there cannot be.
        let uris = listed("resourceSubscriptions", offers.resources_subscribe);
        let topic = |uri: Box<str>| Some((self.service.topic(lane.view, &uri, Version::V2026_07_28, None).ok()?, uri));
        let uris: BTreeMap<Box<str>, Box<str>> = uris.into_iter().filter_map(topic).collect();
        let tasks = listed("taskIds", offers.tasks_extension && capabilities.has(Capabilities::TASKS_EXTENSION));
        let topic = |id: Box<str>| Some((self.service.task_topic(lane.view, &id)?, id));
        let filter = Filter {
            tools: asked("toolsListChanged") && offers.tools_list_changed,
            prompts: asked("promptsListChanged") && offers.prompts_list_changed,
            resources: asked("resourcesListChanged") && offers.resources_list_changed,
            uris,
            tasks: tasks.into_iter().filter_map(topic).collect(),
        };
        if !self.subscriptions.has_room(filter.weight()) {
            let error = RpcError::new(Code::OVERLOADED, FULL);
            return self.refuse_message(Refusal::StreamsFull, Some(id), false, 503, error, out);
        }
        let more = Some(capabilities);
        filter.uris.keys().for_each(|topic| self.service.watched(self.now, Watched::Resource, topic, more));
        filter.tasks.keys().for_each(|topic| self.service.watched(self.now, Watched::Task, topic, more));
        let mut params = Vec::new();
        let mut object = Object::begin(&mut params);
        subscription_meta(&mut object, id);
        object.raw("notifications", &filter.honoured());
        object.end();
        jsonrpc::notification(out, "notifications/subscriptions/acknowledged", &params);
        self.metrics.messages_out.add(1);
        self.metrics.streams_open.add(1);
        let exchange = Exchange::new(Kind::Listen, lane.sink, id, Version::V2026_07_28, self.now);
        let key = self.exchanges.insert(exchange);
        self.subscriptions.insert(key, filter);
        Told::Listening(key)
    }

    /// `resources/subscribe` and `resources/unsubscribe`.
    pub(super) fn subscribe(
        &mut self,
        lane: Lane<'_>,
        version: Version,
        on: bool,
        id: &[u8],
        uri: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Told {
        let Some(uri) = uri else {
            let error = RpcError::new(Code::INVALID_PARAMS, "params.uri has to be a string");
            return self.refuse_message(Refusal::BadRequest, Some(id), true, 200, error, out);
        };
        if on && uri.len() > SUBSCRIBED_URI_BYTES_MAX {
            let error = RpcError::new(Code::INVALID_PARAMS, too_long("params.uri", uri.len()));
            return self.refuse_message(Refusal::BadRequest, Some(id), true, 200, error, out);
        }
        let topic = match self.service.topic(lane.view, uri, version, lane.session.map(SessionKey::number)) {
            Ok(topic) => topic,
            // What was there may be gone by now, and with it the subscription.
            Err(_) if !on => uri.into(),
            Err(error) => return self.fail(Some(id), true, 200, error, out),
        };
        let most = self.settings.subscriptions_max;
        if let Some(key) = lane.session
            && let Some(session) = self.shards.find(key)
        {
            let place = session.subscriptions.iter().position(|known| *known == topic);
            match place {
                None if on && session.subscriptions.len() >= most => {
                    let text = format!("a session may subscribe to {most} resources; unsubscribe from some first");
                    return self.refuse_message(
                        Refusal::BadRequest,
                        Some(id),
                        true,
                        200,
                        RpcError::new(Code::INVALID_PARAMS, text),
                        out,
                    );
                }
                None if on
                    && session.subscriptions.iter().map(|known| known.len()).sum::<usize>() + topic.len()
                        > SUBSCRIBED_BYTES_MAX =>
                {
                    let text = format!(
                        "what a session subscribes to may have {SUBSCRIBED_BYTES_MAX} bytes; unsubscribe from some first"
                    );
                    let error = RpcError::new(Code::INVALID_PARAMS, text);
                    return self.refuse_message(Refusal::BadRequest, Some(id), true, 200, error, out);
                }
                None if on && !self.subscriptions.has_room(weight(&topic, uri)) => {
                    let error = RpcError::new(Code::OVERLOADED, FULL);
                    return self.refuse_message(Refusal::StreamsFull, Some(id), true, 503, error, out);
                }
                None if on => {
                    self.subscriptions.bytes += weight(&topic, uri);
                    session.subscriptions.push(topic.clone());
                    let more = Some(session.capabilities);
                    self.service.watched(self.now, Watched::Resource, &topic, more);
                    self.subscriptions.by_topic.entry(topic).or_default().insert(key, uri.into());
                }
                Some(place) if !on => {
                    session.subscriptions.swap_remove(place);
                    self.subscriptions.unsubscribe(&topic, key);
                    self.service.watched(self.now, Watched::Resource, &topic, None);
                }
                _ => {}
            }
        }
        self.respond(id, b"{}", out)
    }

    /// Something changed on this core: everybody is told, here and on the other cores.
    pub(super) fn changed(&mut self, change: &Change) {
        self.broadcast(change);
        self.tell_subscribers(change);
    }

    /// Ends a subscription stream of our own accord, with its result (2026-07-28, "Subscriptions").
    pub(super) fn end_listen(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        let mut result = Vec::new();
        let mut object = Object::begin(&mut result);
        object.string("resultType", "complete");
        subscription_meta(&mut object, &exchange.id);
        object.end();
        let mut message = Vec::new();
        write_result(&mut message, &exchange.id, &result);
        self.conclude(key, &[&message], 200);
    }
}

/// Whether what is known of a wish has its type; null is as good as nothing, and other members may be anything.
///
/// # Errors
/// Which member has not, and what it has to be.
fn check_wish(wanted: Value<'_>) -> Result<(), String> {
    let is_list = |value: Value<'_>| {
        value.kind() == ValueKind::Array && value.elements().all(|element| element.kind() == ValueKind::String)
    };
    let is_wrong = |name: &str, fits: &dyn Fn(Value<'_>) -> bool| {
        wanted.get(name).is_some_and(|value| !value.is_null() && !fits(value))
    };
    for name in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        if is_wrong(name, &|value| value.as_bool().is_some()) {
            return Err(format!("params.notifications.{name} has to be true or false"));
        }
    }
    for name in ["resourceSubscriptions", "taskIds"] {
        if is_wrong(name, &is_list) {
            return Err(format!("params.notifications.{name} has to be an array of strings"));
        }
        let bytes: usize = wanted.get(name).into_iter().flat_map(Value::elements).map(|one| one.raw().len()).sum();
        if bytes > SUBSCRIBED_BYTES_MAX {
            return Err(format!(
                "params.notifications.{name} has {bytes} bytes, and the most that one stream may subscribe to has \
                 {SUBSCRIBED_BYTES_MAX}"
            ));
        }
        let longest = wanted.get(name).into_iter().flat_map(Value::elements).map(|one| one.raw().len()).max();
        if let Some(bytes) = longest.filter(|bytes| *bytes > SUBSCRIBED_URI_BYTES_MAX) {
            return Err(too_long(&format!("one of params.notifications.{name}"), bytes));
        }
    }
    Ok(())
}

/// Why there is no room for one more subscription of anybody.
const FULL: &str = "what this core's clients subscribe to takes as many bytes as it may; try again shortly";

fn too_long(what: &str, bytes: usize) -> String {
    format!("{what} has {bytes} bytes, and the most that can be subscribed to has {SUBSCRIBED_URI_BYTES_MAX}")
}

pub(super) fn subscription_meta(object: &mut Object<'_>, id: &[u8]) {
    let mut meta = object.object("_meta");
    meta.raw("io.modelcontextprotocol/subscriptionId", id);
    meta.end();
}

impl Filter {
    /// The part of the wish that is granted.
    fn honoured(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        for (name, granted) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if granted {
                object.boolean(name, true);
            }
        }
        let uris: Vec<&str> = self.uris.values().map(|uri| &**uri).collect();
        let tasks: Vec<&str> = self.tasks.values().map(|task| &**task).collect();
        for (name, granted) in [("resourceSubscriptions", uris), ("taskIds", tasks)] {
            if !granted.is_empty() {
                let mut array: Array<'_> = object.array(name);
                for text in granted {
                    array.string(text);
                }
                array.end();
            }
        }
        object.end();
        out
    }
}
