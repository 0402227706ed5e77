//! The seam between a core and whatever answers its calls: the native server today, a gateway's upstreams beside it.
//!
//! Not here: HTTP, sessions, routing: by the time a call gets here, its revision, caller and limits are settled.
//! Invariant: an admitted call has exactly one outcome: `Served::Done` or `Failed` at once, or one `Mail::Reply` later,
//! unless the core cancelled it first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

use crate::proto::json::Envelope;
use crate::proto::jsonrpc::RpcError;
use crate::proto::mcp::{Capabilities, HeaderParam, LogLevel, Method, Version};

/// Nanoseconds since the process started, from the monotonic clock.
pub type Nanos = u64;

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
    /// The revision it is spoken in.
    pub version: Version,
    /// What is asked.
    pub method: Method,
    /// The whole JSON-RPC message, validated.
    pub text: &'a [u8],
    /// Where its members are.
    pub envelope: &'a Envelope,
    /// What the client says it can do.
    pub capabilities: Capabilities,
    /// Log messages below this level are not wanted; `None` wants none at all (modern, without `logLevel`).
    pub log_level: Option<LogLevel>,
    /// Whether the transport can carry requests of ours during the call (legacy streams).
    pub may_ask: bool,
    /// A number for the legacy session, the same for all its calls and of no other session of this core; `None` for
    /// modern calls.
    pub session: Option<u64>,
    /// Now.
    pub now: Nanos,
    /// When the call's time is up.
    pub deadline: Nanos,
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
    /// Runs tools as tasks (2025-11-25 core tasks and the tasks extension).
    pub tasks: bool,
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
    /// Who it is and what it offers; the same for the life of the core.
    fn about(&self) -> &About;

    /// The arguments of a tool that must also stand in headers; none for a tool it does not know.
    fn header_params(&self, tool: &str) -> &[HeaderParam] {
        let _ = tool;
        &[]
    }

    /// Serves one of the methods from completion, prompts, resources, tasks, tools.
    /// On `Served::Done` it has appended one result object to `out`, with everything the revision wants in it
    /// (modern: `resultType`, `_meta` with `serverInfo`, and `ttlMs` and `cacheScope` where due).
    /// Must not block; a handler that panics is a failed call.
    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served;

    /// Whether there is such a resource to hear about (`resources/subscribe`; the core keeps who does).
    ///
    /// # Errors
    /// What the client is told if there is none.
    fn may_subscribe(&self, uri: &str, version: Version) -> Result<(), RpcError> {
        let _ = (uri, version);
        Ok(())
    }

    /// The caller is gone or the time is up: drop the call, send nothing more for it.
    fn cancel(&mut self, key: CallKey);

    /// The client's answer to `Mail::Ask`: a result object, or the error it answered with.
    fn answered(&mut self, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>);
}

/// Something that changed and that subscribers on every core may want to hear about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// One resource's contents, by URI.
    Resource(String),
    /// A task's state: its id, and the parameters of the notification (a JSON object).
    Task {
        /// The task's id.
        id: String,
        /// The notification's parameters.
        params: Vec<u8>,
    },
    /// The list of tools.
    Tools,
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
        /// A complete result object, or the error.
        outcome: Result<Vec<u8>, RpcError>,
    },
}

/// Where a service's handlers leave their mail; the core empties it every turn.
#[derive(Clone, Default)]
pub struct Mailbox(Rc<RefCell<VecDeque<Mail>>>);

impl Mailbox {
    /// Leaves one piece of mail.
    pub fn push(&self, mail: Mail) {
        self.0.borrow_mut().push_back(mail);
    }

    /// Takes the oldest piece.
    pub fn pop(&self) -> Option<Mail> {
        self.0.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// What a core lends to the handlers of its service. All of it is used on the core's own thread; the wakers that
/// spawned futures are polled with may be called from any thread.
pub trait Host {
    /// Runs a future on this core until it ends. It must not panic (the service wraps handlers).
    fn spawn(&self, future: LocalFuture<()>);

    /// Now.
    fn now(&self) -> Nanos;

    /// Calls the waker once, at or soon after `deadline`.
    fn wake_at(&self, deadline: Nanos, waker: Waker);

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
