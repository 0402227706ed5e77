//! The gateway: whatever answers a call, behind one endpoint: the native server and the servers it is put before.
//!
//! A caller sees a view: all servers with their names put before their tools (`/mcp`), one of them as it is
//! (`/mcp/{server}`), or a named choice (`/mcp/@{view}`). Not here: sockets (links are wishes), sessions of callers.
//! Invariant: a call goes to one server, and only that server's words reach its caller; without servers every call is
//! the native server's, at the price of one comparison.

mod admission;
mod answer;
mod awaited;
mod breaking;
mod bridge;
mod callers;
mod changes;
mod channel;
mod cursors;
mod deadlines;
mod dialled;
mod fleet;
mod flight;
mod handshake;
mod hear;
mod hear_talk;
mod items;
mod left;
mod levels;
mod lists;
mod merge;
mod mirrors;
mod names;
mod native;
mod native_names;
mod noise;
mod owed;
mod own;
mod pages;
mod pins;
mod progress;
mod reload;
mod remote;
mod request;
mod roots;
mod rules;
mod seats;
mod send;
mod server;
mod sessions;
mod settings;
mod several;
mod task_ids;
mod task_lists;
mod told;
#[cfg(test)]
mod turn_tests;
mod turns;
mod unanswered;
mod uris;
mod watching;
mod words;
mod written;

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use awaited::Unnamed;
use bridge::Parked;
use callers::{Caller, Post};
use fleet::Fleet;
use flight::ListKind;
use merge::{Cached, Job};
use native::{NATIVE, Native};
use pins::Board;
pub use pins::{ChangedTool, PinPort, Pinning, Pins, SeenTool, ServerPins, Sha256, Sighting, ToolPin, hex};
use reload::Chosen;
pub use reload::{Behind, Choices};
pub use rules::{ListRules, Rules, ToolRules};
pub use seats::Seats;
use send::STALE;
use server::{Place, Report, Sent, Server};
pub use settings::{
    EraChoice, Fields, GatewaySettings, HttpLink, LinkSettings, NativeSettings, ServerSettings, ViewSettings,
};
use watching::Watchers;

use crate::ids::{ConnectionId, CoreId, View};
use crate::metrics::ServerMetrics;
use crate::proto::json::{Key, Scanner};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, HeaderParam, Method, Version};
use crate::server::service::{
    About, Call, CallKey, Change, Host, LinkEvent, Mailbox, Nanos, Offers, Overheard, Served, Service, Subject,
    Watched, Wish,
};
use crate::sys::guard::GuardHandle;
use crate::upstream::missing;

/// What is seen at a path.
struct Seen {
    /// The one server that is seen, if it is one.
    alone: Option<u16>,
    /// It is configured. One that is gone keeps its number, and shows nothing.
    is_there: bool,
    /// Everything of it is seen as it is: nothing has to be looked at.
    is_plain: bool,
    /// The servers that are seen.
    servers: Vec<u16>,
    /// Which of their tools are seen, and under which names.
    tools: ToolRules,
    /// Whether the native server is among them.
    native: bool,
    /// Whether it is the one server that is seen.
    is_native_alone: bool,
    about: About,
}

impl Seen {
    /// What an item is called where the view renames nothing; none if the view hides it.
    fn own<'a>(&'a self, kind: ListKind, name: &'a str) -> Option<&'a str> {
        if kind == ListKind::Tools { self.tools.own(name) } else { Some(name) }
    }
}

/// Whose link a connection is.
#[derive(Clone, Copy)]
struct Owner {
    generation: u32,
    server: u16,
    place: u16,
}

/// Where a call went.
#[derive(Clone, Copy)]
struct Whereabouts {
    generation: u32,
    server: u16,
    flight: Option<u32>,
}

/// Where on a core a gateway stands.
pub struct Station {
    /// Which core it is.
    pub core: CoreId,
    /// How many there are.
    pub cores: u16,
    /// The number of this process, as in `Settings`.
    pub boot: u64,
    /// Where mail for the core goes.
    pub mailbox: Mailbox,
    /// What is heard of the native server's mail.
    pub overheard: Overheard,
    /// What the core lends.
    pub host: Rc<dyn Host>,
    /// Starts children, where some server is one.
    pub guard: Option<GuardHandle>,
    /// What is behind the gateway, now and later.
    pub choices: Choices,
    /// What is pinned of their tools.
    pub pins: PinPort,
}

/// A native server and the servers beside it, on one core.
pub struct Gateway<S> {
    native: Native<S>,
    servers: Fleet,
    views: Vec<Seen>,
    /// Their names, which are what stands behind the endpoint's path, in the same order.
    view_names: Vec<Box<str>>,
    lists: HashMap<(u16, ListKind), Cached>,
    /// Names in views of several servers, made from the lists.
    told: told::Tables,
    /// Pages of merged lists, made from both.
    written: written::Written,
    scanner: Scanner,
    jobs: Vec<Job>,
    /// Calls that wait until it is known whose a name is.
    unnamed: Vec<Unnamed>,
    /// Subscribers on this core, by topic.
    watched: HashMap<(Watched, Box<str>), Watchers>,
    /// By slot of the connection.
    links: Vec<Option<Owner>>,
    quieted: noise::Quieted,
    /// By index of the call.
    calls: Vec<Option<Whereabouts>>,
    mailbox: Mailbox,
    host: Rc<dyn Host>,
    list_ttl: Nanos,
    core: CoreId,
    cores: u16,
    /// What servers are made with.
    place: Place,
    post: Post,
    /// Another choice of servers, to be taken up.
    chosen: Chosen,
    /// What is pinned of servers' tools.
    board: Board,
    begun: bool,
    draining: bool,
}

impl<S: Service> Gateway<S> {
    /// A gateway on one of so many cores.
    pub fn new(native: S, station: Station) -> Gateway<S> {
        let Station { core, cores, boot, mailbox, overheard, host, guard, mut choices, pins } = station;
        let post = Post::default();
        let servers = Fleet::default();
        let (bell, lent) = (servers.bell(), Rc::clone(&host));
        let place = Place { core, host: lent, guard, bell, boot, mailbox: mailbox.clone(), post: Rc::clone(&post) };
        let behind = Arc::clone(&choices.borrow_and_update());
        let mut native = Native::new(native, core, overheard, mailbox.clone());
        native.take_up(0, behind.settings.native.clone());
        let mut gateway = Gateway {
            native,
            servers,
            views: reload::views(&behind),
            view_names: behind.view_names.clone(),
            lists: HashMap::new(),
            told: Default::default(),
            written: Default::default(),
            scanner: Scanner::new(),
            jobs: Vec::new(),
            unnamed: Vec::new(),
            watched: HashMap::new(),
            links: Vec::new(),
            quieted: Vec::new(),
            calls: Vec::new(),
            mailbox,
            chosen: reload::listen(choices, &host),
            board: Board::new(pins, &host),
            host,
            list_ttl: behind.settings.list_ttl,
            core,
            cores,
            place,
            post,
            begun: false,
            draining: false,
        };
        for (index, server) in behind.settings.servers.iter().enumerate() {
            let metrics = behind.metrics(index, core);
            // What an earlier life of this core left in them is over.
            let ServerMetrics { in_flight, waiting, breakers_open, connections, overloaded, .. } = &*metrics;
            for gauge in [in_flight, waiting, breakers_open, connections, overloaded] {
                gauge.set(0);
            }
            let owner = CoreId(index as u16 % cores);
            let mut server = Server::new(Arc::clone(server), index as u16, owner, gateway.place.clone(), metrics);
            server.is_retired = behind.settings.retired.contains(&(index as u16));
            server.pinned = gateway.board.tools_of(&server.settings.name, behind.settings.pinning_of(index));
            gateway.servers.push(server);
        }
        gateway
    }

    fn is_plain(&self) -> bool {
        self.servers.is_empty() && self.native.settings().is_none()
    }

    fn seen(&self, view: View) -> Option<&Seen> {
        self.views.get(usize::from(view.0))
    }

    /// Hands a call to a server.
    fn relay(&mut self, call: &Call<'_>, server: u16, name: Option<&str>, uris: Option<&str>) -> Served {
        if let Some(place) = self.parked(call) {
            return self.resume(call, place, server, name, uris);
        }
        let caller = Caller { core: self.core, key: call.key };
        let server = match self.server_for(server, call) {
            Ok(server) => server,
            Err(error) => return Served::Failed(error),
        };
        let sent = self.servers[usize::from(server)].call(call.now, call, caller, name, uris);
        let flight = match sent {
            Ok(Sent::As(flight)) => Some(flight),
            Ok(Sent::Waits) => None,
            Err(error) => return Served::Failed(error),
        };
        self.went(call.key, server, flight);
        self.settle(call.now, server);
        Served::Pending
    }

    /// Where the call is that this one comes back to, if it was parked here.
    fn parked(&self, call: &Call<'_>) -> Option<Parked> {
        if !call.version.is_modern() || !call.envelope.has(Key::RequestState) {
            return None;
        }
        let state = call.envelope.str(Key::RequestState, call.text)?;
        Parked::read(&self.host.open(&state)?)
    }

    /// The caller of a parked call is back, and may call what it leads to.
    fn resume(
        &mut self,
        call: &Call<'_>,
        place: Parked,
        server: u16,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Served {
        let outcome = match place.core == self.core.0 && self.is_or_was(server, place.server) {
            true => self.servers[usize::from(place.server)].resume(call.now, place, call, name, uris),
            false => Err(RpcError::new(Code::INVALID_PARAMS, STALE)),
        };
        match outcome {
            Ok(()) => {
                self.went(call.key, place.server, Some(place.flight));
                self.settle(call.now, place.server);
                Served::Pending
            }
            Err(error) => Served::Failed(error),
        }
    }

    /// Whether a server is the one of that number, or has come in its place: then it is the old one that is at work on
    /// what was parked.
    fn is_or_was(&self, server: u16, number: u16) -> bool {
        let was = self.servers.iter().nth(usize::from(number)).filter(|was| was.is_retired);
        let name = &self.servers[usize::from(server)].settings.name;
        server == number || was.is_some_and(|was| was.settings.name == *name)
    }

    /// Notes where a call went.
    fn went(&mut self, key: CallKey, server: u16, flight: Option<u32>) {
        let index = key.index as usize;
        if self.calls.len() <= index {
            self.calls.resize(index + 1, None);
        }
        self.calls[index] = Some(Whereabouts { generation: key.generation, server, flight });
    }

    /// Where a call of this core went, unless it went to no server or is over.
    fn whereabouts_of(&self, key: CallKey) -> Option<Whereabouts> {
        self.calls.get(key.index as usize).copied().flatten().filter(|place| place.generation == key.generation)
    }

    /// What a server said meanwhile is taken note of.
    fn settle(&mut self, now: Nanos, index: u16) {
        // A session's own server may have gone meanwhile.
        let Some(server) = self.servers.get_mut(usize::from(index)) else { return };
        server.hear(now);
        server.admit_queued(now);
        let reports = std::mem::take(&mut server.reports);
        let is_own = server.is_own;
        if std::mem::take(&mut server.is_news) && !is_own {
            self.tell_stand(index, None);
        }
        for report in reports {
            match report {
                Report::Changed(Change::Resource(uri)) if is_own => self.tell_own(index, &uri),
                // What a session's own server says of its lists is true of its session only, which has no lists.
                Report::Changed(_) | Report::Gone | Report::Reached if is_own => {}
                Report::List(..) | Report::ListAgain(_) if is_own => {}
                Report::Gone => self.gone(index),
                Report::Reached => self.read_anew(index),
                Report::Changed(change) => self.changed(index, change),
                Report::List(kind, outcome) => {
                    self.tell_list(index, kind, &outcome);
                    if let Some(outcome) = self.compared(now, index, kind, outcome) {
                        self.listed(now, index, kind, outcome.map(Some));
                    }
                }
                Report::ListAgain(kind) => self.listed_again(now, index, kind),
            }
        }
        self.end_hold(now, index);
        self.begin_awaited(now, index);
        self.read_ahead(now, index);
        self.servers[usize::from(index)].publish();
        self.servers[usize::from(index)].close_if_idle(now, self.draining);
        self.end_jobs(now);
        self.go_on(now);
    }

    /// Whether nothing in such a call to a plain server has to be looked at.
    fn is_open(&self, server: u16, method: Method) -> bool {
        let server = &self.servers[usize::from(server)];
        server.left_out.is_empty() && !server.pinned.concerns(method)
    }

    fn owner(&self, id: ConnectionId) -> Option<Owner> {
        self.links.get(id.slot as usize).copied().flatten().filter(|owner| owner.generation == id.generation)
    }

    /// The server whose link a connection is. Of one that has gone nothing is heard any more.
    fn server_of(&mut self, id: ConnectionId) -> Option<(Owner, &mut Server)> {
        let owner = self.owner(id)?;
        Some((owner, self.servers.get_mut(usize::from(owner.server))?))
    }

    /// When a server has to be told that time has passed.
    fn due(&self, index: u16) -> Option<Nanos> {
        let server = &self.servers[usize::from(index)];
        let held = server.pinned.deadline(server.settings.list_time);
        server.deadline().into_iter().chain(held).chain(server.retry_lists_at).min()
    }
}

impl<S: Service> Service for Gateway<S> {
    fn view(&self, name: &str) -> Option<View> {
        if name.is_empty() {
            return Some(View::ALL);
        }
        let place = self.view_names.iter().skip(1).position(|known| **known == *name)? + 1;
        self.views[place].is_there.then_some(View(place as u16))
    }

    fn about(&self, view: View) -> Result<&About, RpcError> {
        if self.is_plain() {
            return self.native.service.about(view);
        }
        let seen = self.seen(view).ok_or_else(|| RpcError::new(Code::INVALID_REQUEST, "there is no such view"))?;
        if seen.is_native_alone {
            return self.native.service.about(view);
        }
        match seen.alone {
            Some(server) => {
                let server = &self.servers[usize::from(server)];
                server.about.as_ref().ok_or_else(|| server.unreachable())
            }
            None => Ok(&seen.about),
        }
    }

    fn awaits(&self, view: View) -> Nanos {
        let alone = self.seen(view).and_then(|seen| seen.alone);
        alone.map_or(0, |index| self.servers[usize::from(index)].awaits())
    }

    fn wanted(&mut self, now: Nanos, view: View) {
        let Some(index) = self.seen(view).and_then(|seen| seen.alone) else { return };
        self.servers[usize::from(index)].wanted(now);
    }

    fn header_params(&self, view: View, tool: &str) -> &[HeaderParam] {
        if self.is_plain() {
            return self.native.service.header_params(view, tool);
        }
        match self.owner_of_name(view, ListKind::Tools, tool) {
            Some((server, own)) => self.servers[usize::from(server)].header_params(&own),
            None if self.seen(view).is_some_and(|seen| seen.native) => self.native_header_params(view, tool),
            None => &[],
        }
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        if self.is_plain() {
            return self.native.call(call, out);
        }
        match self.seen(call.view) {
            Some(&Seen { alone: Some(server), is_plain: true, .. }) if self.is_open(server, call.method) => {
                self.relay(call, server, None, None)
            }
            _ => self.call_merged(call, true, out),
        }
    }

    fn elsewhere(&self, state: &str) -> Option<CoreId> {
        if self.is_plain() {
            return None;
        }
        let place = Parked::read(&self.host.open(state)?)?;
        Some(CoreId(place.core)).filter(|core| *core != self.core && core.0 < self.cores)
    }

    fn topic(&mut self, view: View, uri: &str, version: Version, session: Option<u64>) -> Result<Box<str>, RpcError> {
        match watching::is_own(uri) {
            // Whatever the native server would say: it is no URI, and means another session's.
            true => Err(missing::resource(uri, version)),
            false if self.is_plain() => self.native.service.topic(view, uri, version, session),
            false => self.topic_of(view, uri, version, session),
        }
    }

    fn session_ended(&mut self, now: Nanos, session: u64) {
        self.native.service.session_ended(now, session);
        if !self.is_plain() {
            self.end_own(now, session);
        }
    }

    fn task_topic(&mut self, view: View, id: &str) -> Option<Box<str>> {
        if self.is_plain() {
            return self.native.service.task_topic(view, id);
        }
        self.topic_of_task(view, id)
    }

    fn roots_changed(&mut self, now: Nanos, view: View, session: u64, capabilities: Capabilities) {
        self.native.service.roots_changed(now, view, session, capabilities);
        if !self.is_plain() {
            self.tell_roots_changed(now, view, session, capabilities);
        }
    }

    fn watched(&mut self, now: Nanos, what: Watched, topic: &str, more: Option<Capabilities>) {
        if !self.is_plain() {
            self.count_watcher(now, what, topic, more);
        }
    }

    fn cancel(&mut self, now: Nanos, key: CallKey) {
        self.jobs.retain(|job| job.key != key);
        self.unnamed.retain(|one| one.key() != key);
        match self.whereabouts_of(key) {
            Some(place) => {
                let caller = Caller { core: self.core, key };
                let Some(server) = self.servers.get_mut(usize::from(place.server)) else { return };
                let flight = server.flight_of(caller, place.flight);
                server.cancel(now, caller, flight);
                self.settle(now, place.server);
            }
            None => self.native.cancel(now, key),
        }
    }

    fn answered(&mut self, now: Nanos, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>) {
        match self.whereabouts_of(key) {
            Some(place) => {
                let caller = Caller { core: self.core, key };
                let Some(server) = self.servers.get_mut(usize::from(place.server)) else { return };
                server.caller_answered(now, caller, place.flight, ask, answer);
                self.settle(now, place.server);
            }
            None => self.native.answered(now, key, ask, answer),
        }
    }

    fn progressed(&mut self, now: Nanos, key: CallKey, ask: u32, params: &[u8]) {
        self.caller_progressed(now, key, ask, params);
    }

    fn link(&mut self, now: Nanos, event: LinkEvent<'_>) {
        let index = match event {
            LinkEvent::Connected { token, outcome } => {
                let index = (token >> 32) as u16;
                let Some(server) = self.servers.get_mut(usize::from(index)) else {
                    let unwanted = outcome.ok().map(Wish::Close);
                    return self.post.borrow_mut().extend(unwanted);
                };
                if let (Some(place), Ok(id)) = (server.channel.connected(now, token, outcome), outcome) {
                    let slot = id.slot as usize;
                    if self.links.len() <= slot {
                        self.links.resize(slot + 1, None);
                    }
                    self.links[slot] = Some(Owner { generation: id.generation, server: index, place });
                }
                index
            }
            LinkEvent::Received { id, bytes } => {
                let Some((owner, server)) = self.server_of(id) else { return };
                let said_before = server.noise.bucket;
                server.channel.received(now, owner.place, id, bytes);
                if server.channel.may_have_heard() {
                    self.settle(now, owner.server);
                    self.quiet(now, owner.server, id, said_before);
                }
                return;
            }
            LinkEvent::Ended { id, how } => {
                let Some((owner, server)) = self.server_of(id) else { return };
                server.channel.ended(now, owner.place, id, how);
                owner.server
            }
            LinkEvent::Sent { id, buffer, whole } => {
                let Some((owner, server)) = self.server_of(id) else { return };
                // Nothing follows from it but what is sent next, which `wishes` looks for.
                return server.channel.sent(owner.place, id, buffer, whole);
            }
            LinkEvent::Closed(id) => {
                if self.owner(id).is_some() {
                    self.links[id.slot as usize] = None;
                }
                return;
            }
        };
        self.settle(now, index);
    }

    fn wishes(&mut self, now: Nanos, wish: &mut dyn FnMut(Wish)) {
        if self.chosen.borrow().is_some() {
            self.take_up(now);
        }
        self.native.turn(now).into_iter().for_each(&mut *wish);
        if self.is_plain() {
            return;
        }
        if self.board.has_news() {
            self.take_up_pins(now);
        }
        if !self.begun {
            self.begun = true;
            self.greet();
            for index in 0..self.servers.len() as u16 {
                self.servers[usize::from(index)].reach(now);
                self.settle(now, index);
            }
        }
        while let Some(index) = self.servers.next_touched() {
            let server = &self.servers[usize::from(index)];
            if server.channel.has_news() || self.draining {
                self.settle(now, index);
            }
            self.servers[usize::from(index)].channel.wishes(wish);
            self.servers.looked_at(index, self.due(index));
            self.forget_own(index);
        }
        self.post.borrow_mut().drain(..).for_each(wish);
    }

    fn deadline(&self) -> Option<Nanos> {
        let unnamed = self.unnamed.iter().map(|one| one.until);
        let quieted = self.quieted.iter().map(|(until, _)| *until);
        let native = self.native.deadline();
        self.servers.deadline().into_iter().chain(unnamed).chain(quieted).chain(self.patience()).chain(native).min()
    }

    fn tick(&mut self, now: Nanos) {
        for index in self.servers.take_due(now) {
            // What another's tick led to may have ended it.
            let Some(server) = self.servers.get_mut(usize::from(index)) else { continue };
            server.tick(now, self.draining);
            self.retry_lists(now, index);
            self.settle(now, index);
        }
        self.native.tick(now);
        self.lose_patience(now);
        self.hear_again(now);
        self.go_on(now);
    }

    fn told(&mut self, now: Nanos, from: CoreId, what: Subject, text: &[u8]) {
        match what.about as u16 {
            NATIVE => self.native.offered(now),
            _ => self.heard(now, from, what, text),
        }
    }

    fn peer_lost(&mut self, now: Nanos, peer: CoreId) {
        self.native.service.peer_lost(now, peer);
        // What it had taken is free.
        self.native.seat(now);
        self.lost_core(now, peer);
    }

    fn drain(&mut self) {
        self.draining = true;
        self.servers.touch_all();
        self.native.service.drain();
    }

    fn is_drained(&self) -> bool {
        self.native.service.is_drained() && self.servers.all().all(Server::is_drained)
    }
}

/// What several servers offer together, whatever each of them has: an empty list is one too.
const MERGED: Offers = Offers {
    tools: true,
    tools_list_changed: true,
    prompts: true,
    prompts_list_changed: true,
    resources: true,
    resources_list_changed: true,
    resources_subscribe: true,
    completions: true,
    logging: true,
    tasks: true,
    tasks_extension: true,
};

fn invalid(text: impl Into<Cow<'static, str>>) -> Served {
    Served::Failed(RpcError::new(Code::INVALID_PARAMS, text))
}
