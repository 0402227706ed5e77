//! The seam between a core and whatever answers its calls: the native server today, a gateway's upstreams beside it.
//!
//! Not here: HTTP, sessions, routing: by the time a call gets here, its revision, caller and limits are settled.
//! Invariant: an admitted call has exactly one outcome: `Served::Done` or `Failed` at once, or one `Mail::Reply` later,
//! unless the core cancelled it first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

pub use super::alarms::Alarm;
use crate::ids::{ConnectionId, CoreId, OutboundAddress, View};
use crate::proto::json::Envelope;
use crate::proto::jsonrpc::RpcError;
use crate::proto::mcp::{Capabilities, HeaderParam, LogLevel, Method, Version};

/// Nanoseconds since the process started, from the monotonic clock.
pub type Nanos = u64;

/// A length of time; one that is longer than any clock runs is as long as that.
pub fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A future that lives and dies on one core.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// A call in flight on the core that executes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallKey {
    /// Index in the core's table of calls in flight.
    pub index: u32,
    /// Counts the index's uses.
    pub generation: u32,
}

/// A request whose revision, method and caller are settled.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Names the call until its outcome.
    pub key: CallKey,
    /// What its caller sees.
    pub view: View,
    /// The revision it is spoken in.
    pub version: Version,
    /// What is asked.
    pub method: Method,
    /// The whole JSON-RPC message, validated.
    pub text: &'a [u8],
    /// Where its members are.
    pub envelope: &'a Envelope,
    /// Field lines of the HTTP request that it came in, for whoever passes on `Mcp-Param-*` of which nothing is known
    /// here; empty if there are none.
    pub param_lines: &'a [u8],
    /// What the client says it can do.
    pub capabilities: Capabilities,
    /// Log messages below this level are not wanted; `None` wants none at all (modern, without `logLevel`).
    pub log_level: Option<LogLevel>,
    /// Whether the client said so itself; if not, it is what is usual.
    pub is_level_chosen: bool,
    /// Whether the transport can carry requests of ours during the call (legacy streams).
    pub may_ask: bool,
    /// A number for the legacy session, the same for all its calls and of no other session of this core; `None` for
    /// modern calls.
    pub session: Option<u64>,
    /// Now.
    pub now: Nanos,
    /// When the call's time is up.
    pub deadline: Nanos,
    /// Whether the caller chose that itself: then nothing moves it.
    pub is_deadline_chosen: bool,
}

impl Call<'_> {
    /// When the call is over whatever comes of it; `Nanos::MAX` if its caller did not say.
    pub fn latest(&self) -> Nanos {
        if self.is_deadline_chosen { self.deadline } else { Nanos::MAX }
    }
}

/// What became of a call that was handed over.
#[derive(Debug)]
pub enum Served {
    /// The result object was appended to `out`, complete for the call's revision.
    Done,
    /// Nothing was appended.
    Failed(RpcError),
    /// A `Mail::Reply` will follow.
    Pending,
}

/// The member of `_meta` by which the handshake of a gateway says which process it is of, so that one which has come to
/// its own endpoint is told so.
pub const GATEWAY: &str = "corelane/gateway";

/// What a service can do, from which `initialize` and `server/discover` are answered.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Offers {
    /// Has tools.
    pub tools: bool,
    /// Tools may change while it runs.
    pub tools_list_changed: bool,
    /// Has prompts.
    pub prompts: bool,
    /// Prompts may change while it runs.
    pub prompts_list_changed: bool,
    /// Has resources or templates.
    pub resources: bool,
    /// Resources may change while it runs.
    pub resources_list_changed: bool,
    /// Tells who subscribed when a resource changes.
    pub resources_subscribe: bool,
    /// Completes arguments.
    pub completions: bool,
    /// Sends log messages.
    pub logging: bool,
    /// Runs tools as tasks that their callers ask for (2025-11-25).
    pub tasks: bool,
    /// Makes tasks of calls by itself (the tasks extension of 2026-07-28).
    pub tasks_extension: bool,
}

impl Offers {
    /// Whether it was promised that clients are told of such a change of a list.
    pub fn tells(&self, change: &Change) -> bool {
        match change {
            Change::Prompts => self.prompts_list_changed,
            Change::Resources => self.resources_list_changed,
            Change::Tools => self.tools_list_changed,
            Change::Resource(_) => self.resources_subscribe,
            Change::Task { .. } => self.tasks_extension,
        }
    }
}

/// Who a service says it is.
#[derive(Clone, Debug)]
pub struct About {
    /// The `Implementation` object (`name`, `version`, ...), a JSON text.
    pub server_info: Vec<u8>,
    /// Advice for the model, as a JSON string (with quotes), if any.
    pub instructions: Option<Vec<u8>>,
    /// What it can do.
    pub offers: Offers,
}

/// Whatever answers calls on one core.
pub trait Service {
    /// The view of this name, which is what stands behind the endpoint's path (`/mcp/{name}`); empty for the endpoint
    /// itself.
    fn view(&self, name: &str) -> Option<View> {
        name.is_empty().then_some(View::ALL)
    }

    /// Who is seen in a view and what is offered there.
    ///
    /// # Errors
    /// What the client is told if that is not known yet: the server behind the view was not reached so far.
    fn about(&self, view: View) -> Result<&About, RpcError>;

    /// How long it may be worth to wait for a view of which nothing is known yet (`about` fails); 0 for not at all.
    fn awaits(&self, view: View) -> Nanos {
        let _ = view;
        0
    }

    /// Somebody begins to wait for a view.
    fn wanted(&mut self, now: Nanos, view: View) {
        let _ = (now, view);
    }

    /// The arguments of a tool that must also stand in headers; none for a tool it does not know.
    fn header_params(&self, view: View, tool: &str) -> &[HeaderParam] {
        let _ = (view, tool);
        &[]
    }

    /// The names of its own tools (`tools/list`) or prompts (`prompts/list`), which stay what they are; none of what it
    /// has by way of others.
    fn names(&self, list: Method) -> Vec<Box<str>> {
        let _ = list;
        Vec::new()
    }

    /// Serves one of the methods from completion, prompts, resources, tasks, tools.
    /// On `Served::Done` it has appended one result object to `out`, with everything the revision wants in it
    /// (modern: `resultType`, `_meta` with `serverInfo`, and `ttlMs` and `cacheScope` where due).
    /// Must not block; a handler that panics is a failed call.
    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served;

    /// The other core on which a call goes on that left this `requestState` with its client; none if it is served
    /// wherever it arrives.
    fn elsewhere(&self, state: &str) -> Option<CoreId> {
        let _ = state;
        None
    }

    /// The topic under which `Change::Resource` tells of a resource that is subscribed to (`resources/subscribe`; the
    /// core keeps who does): the same for whoever sees the same resource, by whatever URI. In a legacy session
    /// (`Call::session`) it may be a resource of that session only, and then no other's.
    ///
    /// # Errors
    /// What the client is told if there is no such resource to hear about.
    fn topic(&mut self, view: View, uri: &str, version: Version, session: Option<u64>) -> Result<Box<str>, RpcError> {
        let _ = (view, version, session);
        Ok(uri.into())
    }

    /// The topic under which `Change::Task` tells of a task of 2026-07-28, by the id that it has in a view; none if
    /// there can be no such task.
    fn task_topic(&mut self, view: View, id: &str) -> Option<Box<str>> {
        let _ = view;
        Some(id.into())
    }

    /// The client of a legacy session (`Call::session`) says that its roots are others now.
    fn roots_changed(&mut self, now: Nanos, view: View, session: u64, capabilities: Capabilities) {
        let _ = (now, view, session, capabilities);
    }

    /// A legacy session is over (`Call::session`).
    fn session_ended(&mut self, now: Nanos, session: u64) {
        let _ = (now, session);
    }

    /// The core keeps a subscriber of a topic more, who can do this, or one less; said once for each.
    fn watched(&mut self, now: Nanos, what: Watched, topic: &str, more: Option<Capabilities>) {
        let _ = (now, what, topic, more);
    }

    /// The caller is gone or the time is up: drop the call, send nothing more for it.
    fn cancel(&mut self, now: Nanos, key: CallKey);

    /// The client's answer to `Mail::Ask`: a result object, or the error it answered with.
    fn answered(&mut self, now: Nanos, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>);

    /// The client says how far it is with what `Mail::Ask` asked: the parameters of `notifications/progress`, in which
    /// the token is one of the core's.
    fn progressed(&mut self, now: Nanos, key: CallKey, ask: u32, params: &[u8]) {
        let _ = (now, key, ask, params);
    }

    /// Something happened to a link, a connection that the service asked for by a `Wish`. Told of every connection that
    /// is not a client's, so also of links that are history.
    fn link(&mut self, now: Nanos, event: LinkEvent<'_>) {
        let _ = (now, event);
    }

    /// Hands out what the service wants done; asked at the end of every turn.
    fn wishes(&mut self, now: Nanos, wish: &mut dyn FnMut(Wish)) {
        let _ = (now, wish);
    }

    /// When `tick` is due; none if nothing waits for time to pass.
    fn deadline(&self) -> Option<Nanos> {
        None
    }

    /// Time passed.
    fn tick(&mut self, now: Nanos) {
        let _ = now;
    }

    /// The service of another core sent something (`Wish::Tell`).
    fn told(&mut self, now: Nanos, from: CoreId, what: Subject, text: &[u8]) {
        let _ = (now, from, what, text);
    }

    /// Another core died, and with it what its service knew.
    fn peer_lost(&mut self, now: Nanos, peer: CoreId) {
        let _ = (now, peer);
    }

    /// The core drains: nothing new is to be begun.
    fn drain(&mut self) {}

    /// Whether a core that drains may end as far as this is concerned: nobody else waits for what it would say.
    fn is_drained(&self) -> bool {
        true
    }
}

/// What a connection's end was like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer said that it will send no more.
    Finished,
    /// The peer broke it off, or cannot be reached any more.
    Reset,
    /// Something else failed, on this host.
    Failed,
}

/// What happened to a connection of the service's own.
#[derive(Debug)]
pub enum LinkEvent<'a> {
    /// It is closed, and its id history.
    Closed(ConnectionId),
    /// The attempt of this token ended: a link that is being read, or the kernel's error number.
    Connected {
        /// The token of the wish.
        token: u64,
        /// The link.
        outcome: Result<ConnectionId, i32>,
    },
    /// The peer sends no more.
    Ended {
        /// The link.
        id: ConnectionId,
        /// What its end was like.
        how: End,
    },
    /// Bytes came in.
    Received {
        /// The link.
        id: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A send ended; the buffer comes back.
    Sent {
        /// The link.
        id: ConnectionId,
        /// What was sent.
        buffer: Vec<u8>,
        /// All of it arrived in the kernel.
        whole: bool,
    },
}

/// What a service wants done with links, and told to its like on other cores.
#[derive(Debug)]
pub enum Wish {
    /// Make a link of pipes; `LinkEvent::Connected` follows. They are closed with it.
    Adopt {
        /// What is read.
        read: OwnedFd,
        /// What is written; nothing can be sent without.
        write: Option<OwnedFd>,
        /// Told back.
        token: u64,
    },
    /// Close a link; `LinkEvent::Closed` follows.
    Close(ConnectionId),
    /// Open a link; `LinkEvent::Connected` follows.
    Connect {
        /// Where to.
        address: OutboundAddress,
        /// Told back.
        token: u64,
    },
    /// Give up the attempt of this token; its `LinkEvent::Connected` follows all the same.
    GiveUp(u64),
    /// Read a link, or do not.
    Read(ConnectionId, bool),
    /// Send a buffer, whole. One send at a time.
    Send(ConnectionId, Vec<u8>),
    /// Tell the service of another core something.
    Tell {
        /// That core.
        to: CoreId,
        /// What about.
        what: Subject,
        /// The text that goes with it.
        text: Vec<u8>,
    },
}

/// What the services of two cores speak about: numbers to which only they give a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// What kind of thing it is.
    pub kind: u8,
    /// Whom it concerns.
    pub about: u32,
    /// A number that goes with it.
    pub number: u64,
}

/// What somebody may watch, beside lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Watched {
    /// A resource.
    Resource,
    /// A task of 2026-07-28.
    Task,
}

/// Something that changed and that subscribers on every core may want to hear about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// One resource's contents, by topic.
    Resource(String),
    /// A task's state: its topic, and the parameters of the notification (a JSON object).
    Task {
        /// The task's topic.
        id: String,
        /// The notification's parameters.
        params: Vec<u8>,
    },
    /// The list of tools.
    Tools,
}

/// A whole result object, in the parts it was made of: they are put together where it is sent from, which copies each
/// of them once.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ResultObject {
    /// Its beginning.
    pub opening: &'static [u8],
    /// What the handler said.
    pub members: Vec<u8>,
    /// The rest, with the brace that closes it.
    pub closing: Vec<u8>,
}

impl ResultObject {
    /// The parts in their order.
    pub fn parts(&self) -> [&[u8]; 3] {
        [self.opening, &self.members, &self.closing]
    }

    /// All of it, copied.
    pub fn whole(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

/// Of a text that is whole already.
impl From<Vec<u8>> for ResultObject {
    fn from(whole: Vec<u8>) -> ResultObject {
        ResultObject { opening: b"", members: whole, closing: Vec::new() }
    }
}

/// What a service sends its core outside a return value.
#[derive(Debug)]
pub enum Mail {
    /// Ask the client of a call something (legacy: a JSON-RPC request on the call's stream).
    Ask {
        /// The call.
        key: CallKey,
        /// Told back in `Service::answered`.
        ask: u32,
        /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
        method: &'static str,
        /// Its parameters, a JSON object.
        params: Vec<u8>,
    },
    /// Tell every subscriber.
    Changed(Change),
    /// Tell the subscribers of this core: nobody else can have any.
    ChangedHere(Change),
    /// End the call's HTTP stream early; the outcome is kept for the client to fetch (2025-11-25, "polling").
    EndStream {
        /// The call.
        key: CallKey,
    },
    /// Tell the client of a call something, before its outcome.
    Notice {
        /// The call.
        key: CallKey,
        /// For example `notifications/progress`.
        method: &'static str,
        /// Its parameters, a JSON object.
        params: Vec<u8>,
    },
    /// Tell a legacy session something on its stream, if it has one.
    Session {
        /// Its number, as it stood in the call.
        session: u64,
        /// For example `notifications/tasks/status`.
        method: &'static str,
        /// Its parameters, a JSON object.
        params: Vec<u8>,
    },
    /// The outcome of a call that was pending.
    Reply {
        /// The call.
        key: CallKey,
        /// The whole result, or the error.
        outcome: Result<ResultObject, RpcError>,
    },
}

/// Where a service's handlers leave their mail; the core empties it every turn.
#[derive(Clone, Default)]
pub struct Mailbox {
    mail: Rc<RefCell<VecDeque<Mail>>>,
    overheard: Option<Overheard>,
}

impl Mailbox {
    /// The same mailbox for somebody of whose mail is to be heard.
    pub fn overheard_by(&self, overheard: &Overheard) -> Mailbox {
        Mailbox { mail: Rc::clone(&self.mail), overheard: Some(overheard.clone()) }
    }

    /// Leaves one piece of mail.
    pub fn push(&self, mail: Mail) {
        if let Some(overheard) = &self.overheard {
            overheard.note(&mail);
        }
        self.mail.borrow_mut().push_back(mail);
    }

    /// Takes the oldest piece.
    pub fn pop(&self) -> Option<Mail> {
        self.mail.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.mail.borrow().is_empty()
    }
}

/// What mail says of the call that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// It shows that it is at work.
    Alive(CallKey),
    /// Its client is asked something.
    Asked(CallKey),
    /// It is over.
    Ended(CallKey),
}

/// What somebody's mail says of calls, for whoever stands between it and the core; from when that begins to listen.
#[derive(Clone, Default, Debug)]
pub struct Overheard(Rc<RefCell<Option<Vec<Sign>>>>);

impl Overheard {
    /// Listens from now on.
    pub fn begin(&self) {
        self.0.borrow_mut().get_or_insert_default();
    }

    /// What was heard since this was asked last, in its order.
    pub fn take(&self) -> Vec<Sign> {
        self.0.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&self, mail: &Mail) {
        let mut heard = self.0.borrow_mut();
        let Some(heard) = heard.as_mut() else { return };
        heard.extend(match mail {
            Mail::Ask { key, .. } => Some(Sign::Asked(*key)),
            Mail::Notice { key, .. } => Some(Sign::Alive(*key)),
            Mail::Reply { key, .. } => Some(Sign::Ended(*key)),
            Mail::Changed(_) | Mail::ChangedHere(_) | Mail::EndStream { .. } | Mail::Session { .. } => None,
        });
    }
}

/// How long calls may take that show signs of life.
#[derive(Clone, Copy, Default, Debug)]
pub struct Patience {
    /// From such a sign on.
    pub call: Nanos,
    /// From the call's beginning on, all signs together.
    pub call_max: Nanos,
    /// While its client is asked something.
    pub ask: Nanos,
}

/// What a core lends to the handlers of its service. All of it is used on the core's own thread; the wakers that
/// spawned futures are polled with may be called from any thread.
pub trait Host {
    /// How long calls may take that show signs of life; nothing makes them longer unless a host says so.
    fn patience(&self) -> Patience {
        Patience::default()
    }

    /// Runs a future on this core until it ends. It must not panic (the service wraps handlers).
    fn spawn(&self, future: LocalFuture<()>);

    /// Now.
    fn now(&self) -> Nanos;

    /// Calls the waker once, at or soon after `deadline`, unless what is returned is dropped before.
    fn wake_at(&self, deadline: Nanos, waker: Waker) -> Alarm;

    /// Runs a future on the offload pool, where tokio's reactor and timers are.
    fn offload(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Runs a function on a thread that may block. Dropped without running if the pool is full.
    fn blocking(&self, function: Box<dyn FnOnce() + Send>);

    /// Counts a handler that panicked.
    fn count_panic(&self);

    /// Counts a poll of a handler that held up its core.
    fn count_slow_poll(&self);

    /// Seals a state that goes through the client's hands and comes back (`requestState`): encrypted and
    /// authenticated, readable by every core of this process.
    fn seal(&self, plain: &[u8]) -> String;

    /// Opens what `seal` made; `None` for anything else.
    fn open(&self, sealed: &str) -> Option<Vec<u8>>;

    /// A task id that leads back to this core: unguessable, forgery-proof.
    fn task_id(&self, index: u32, generation: u32) -> String;

    /// Opens a task id made by this core.
    fn open_task_id(&self, id: &str) -> Option<(u32, u32)>;
}
