//! What all handlers on one core work with, whatever the type of their state.
//!
//! Not here: the handlers (`catalog`), the calls (`service`).
//! Invariant: a call that is not answered yet and waits for something is in `open` exactly once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exchange::Exchange;
use super::outcome::Outcome;
use super::request_state;
use super::run::Run;
use super::tasks::{TaskKey, TaskTable};
use crate::proto::json::Object;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Version;
use crate::server::service::{CallKey, Host, Mail, Mailbox, Nanos, nanos};

/// A poll longer than this holds up everybody else on the core and is counted.
const SLOW_POLL_NANOS: Nanos = 1_000_000;
/// From here on one is logged: a machine that shares its CPUs makes many a poll slower than that by itself.
const SLOW_LOGGED_NANOS: Nanos = 10_000_000;
/// How often a core logs one at most.
const SLOW_LOGGED_EVERY: Nanos = 1_000_000_000;

/// What handlers of one name did on this core.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct HandlerCounts {
    /// Calls begun.
    pub calls: u64,
    /// Calls that ended in a panic.
    pub panics: u64,
    /// Polls (or plain calls) that took longer than a millisecond.
    pub slow_polls: u64,
}

/// One core's part of what the builder set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub request_state_ttl: Duration,
    pub task_ttl: Duration,
    pub task_poll_interval: Duration,
    pub tasks_max: usize,
    /// Whether it sends log messages.
    pub logging: bool,
}

/// A call that waits.
pub(super) enum Open {
    /// Its future runs.
    Run(Rc<Run>),
    /// `tasks/result`: it waits for a task to end.
    TaskResult(TaskKey),
}

pub(super) struct Desk {
    pub host: Rc<dyn Host>,
    pub mailbox: Mailbox,
    pub settings: Settings,
    /// `,"_meta":{"io.modelcontextprotocol/serverInfo":...}}`
    pub modern_tail: Vec<u8>,
    pub open: RefCell<HashMap<CallKey, Open>>,
    pub tasks: RefCell<TaskTable>,
    counts: Vec<Cell<HandlerCounts>>,
    /// What they are called in the log.
    names: Vec<String>,
    /// When a slow poll was logged last.
    slow_logged: Cell<Nanos>,
    /// Counts mail that has to reach the client before the outcome of the call it belongs to.
    noted: Cell<u64>,
    /// When the last plain call ended.
    plain_call_ended: Cell<Nanos>,
    /// Milliseconds since 1970 when `Host::now` was 0.
    epoch_ms: u64,
}

impl Desk {
    pub fn new(
        host: Rc<dyn Host>,
        mailbox: Mailbox,
        settings: Settings,
        modern_tail: Vec<u8>,
        names: Vec<String>,
    ) -> Desk {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Desk {
            epoch_ms: wall_ms.saturating_sub(host.now() / 1_000_000),
            plain_call_ended: Cell::new(0),
            tasks: RefCell::new(TaskTable::new(settings.tasks_max)),
            host,
            mailbox,
            settings,
            modern_tail,
            open: RefCell::default(),
            counts: names.iter().map(|_| Cell::default()).collect(),
            names,
            slow_logged: Cell::new(0),
            noted: Cell::new(0),
        }
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        self.epoch_ms + self.host.now() / 1_000_000
    }

    /// Sends a notification or another sign that must come before the call's outcome.
    pub fn note(&self, mail: Mail) {
        self.noted.set(self.noted.get() + 1);
        self.mailbox.push(mail);
    }

    #[inline]
    pub fn noted(&self) -> u64 {
        self.noted.get()
    }

    /// Counts a call of handler `index`.
    #[inline]
    pub fn count_call(&self, index: usize) {
        self.update(index, |counts| counts.calls += 1);
    }

    pub fn count_panic(&self, index: usize) {
        self.update(index, |counts| counts.panics += 1);
        self.host.count_panic();
    }

    /// Times a plain call that has just ended, by one look at the clock: it began no earlier than its turn of the core
    /// (`turn`) and than the end of the plain call before it. What else the core did in between (framing, routing)
    /// counts with it, so a call is never found faster than it was.
    #[inline]
    pub fn count_plain_call(&self, index: usize, turn: Nanos) {
        let now = self.host.now();
        let began = turn.max(self.plain_call_ended.replace(now));
        self.count_poll(index, now.saturating_sub(began));
    }

    #[inline]
    pub fn count_poll(&self, index: usize, took: Nanos) {
        if took > SLOW_POLL_NANOS {
            self.slow_poll(index, took);
        }
    }

    /// Counts it, and says so if it was long, once a second at most: whoever holds up a core holds up all its clients.
    #[cold]
    fn slow_poll(&self, index: usize, took: Nanos) {
        self.update(index, |counts| counts.slow_polls += 1);
        self.host.count_slow_poll();
        let (now, last) = (self.host.now(), self.slow_logged.get());
        if took >= SLOW_LOGGED_NANOS && (last == 0 || now.saturating_sub(last) >= SLOW_LOGGED_EVERY) {
            self.slow_logged.set(now.max(1));
            let handler = self.names.get(index).map_or("", String::as_str);
            let took_ms = took as f64 / 1e6;
            tracing::warn!(handler, took_ms, "a handler held up its core; what takes long belongs into ctx.blocking");
        }
    }

    #[inline]
    fn update(&self, index: usize, change: impl FnOnce(&mut HandlerCounts)) {
        if let Some(cell) = self.counts.get(index) {
            let mut counts = cell.get();
            change(&mut counts);
            cell.set(counts);
        }
    }

    pub fn counts(&self, index: usize) -> HandlerCounts {
        self.counts.get(index).map(Cell::get).unwrap_or_default()
    }

    /// Answers a call by mail.
    pub fn reply(&self, key: CallKey, version: Version, outcome: Outcome) {
        let outcome = outcome.map(|rendered| rendered.whole(version, &self.modern_tail));
        self.mailbox.push(Mail::Reply { key, outcome });
    }

    /// The result of an attempt that ended with questions.
    pub fn input_required(&self, exchange: &Exchange) -> Result<Vec<u8>, RpcError> {
        let ttl = nanos(self.settings.request_state_ttl);
        let expiry = self.host.now().saturating_add(ttl);
        let Some(plain) = request_state::write(exchange, expiry) else {
            return Err(RpcError::new(
                Code::INTERNAL,
                "the answers so far are too large to be carried in requestState",
            ));
        };
        let mut out = Vec::new();
        out.push(b'{');
        out.extend_from_slice(br#""resultType":"input_required","inputRequests":"#);
        exchange.write_requests(&mut out);
        out.extend_from_slice(br#","requestState":"#);
        crate::proto::json::string(&mut out, &self.host.seal(&plain));
        out.extend_from_slice(&self.modern_tail);
        Ok(out)
    }
}

/// The error for a handler that panicked. What it said stays here: it may hold anything.
pub(super) fn panicked() -> RpcError {
    RpcError::new(Code::INTERNAL, "the handler panicked")
}

/// Writes the parameters of `notifications/message`.
pub(super) fn log_params(level: &str, logger: Option<&str>, json: &[u8]) -> Vec<u8> {
    let mut params = Vec::with_capacity(json.len() + 64);
    let mut object = Object::begin(&mut params);
    object.string("level", level);
    if let Some(logger) = logger {
        object.string("logger", logger);
    }
    object.raw("data", json);
    object.end();
    params
}
