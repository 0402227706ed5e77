//! A core for tests: one thread, a clock that is set by hand, an executor, and JSON-RPC texts in and out.
//!
//! Not here: anything of the real core. What is tested is the service's side of `server::service`.
//! Invariant: time moves only when nothing else can.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::proto::json::{Envelope, Scanner};
use crate::proto::jsonrpc::RpcError;
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::server::alarms::{Alarm, Alarms};
use crate::server::service::{
    Call, CallKey, Change, Host, LocalFuture, Mail, Mailbox, Nanos, Patience, Served, Service,
};
use crate::upstream::native::{NativeService, Server};

pub const MODERN: Version = Version::V2026_07_28;
pub const LEGACY: Version = Version::V2025_11_25;

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future and the sign that it was woken; nothing once it is over.
type Spawned = (Arc<Flag>, Option<LocalFuture<()>>);

#[derive(Default)]
pub struct Bench {
    now: Cell<Nanos>,
    futures: RefCell<Vec<Spawned>>,
    pub alarms: Alarms,
    /// Work on other threads that may still wake somebody.
    pool_full: Cell<bool>,
    /// Handlers that panicked.
    pub panics: Cell<u64>,
    pub slow_polls: Cell<u64>,
    /// How far the clock jumps with every look at it.
    pub tick: Cell<Nanos>,
}

impl Host for Bench {
    /// Polls at once, as a real host may, so that a borrow held across `spawn` is found.
    fn spawn(&self, mut future: LocalFuture<()>) {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.futures.borrow_mut().push((flag, Some(future)));
        }
    }

    fn patience(&self) -> Patience {
        let second = 1_000_000_000;
        Patience { call: 30 * second, call_max: 300 * second, ask: 600 * second }
    }

    fn now(&self) -> Nanos {
        self.now.set(self.now.get() + self.tick.get());
        self.now.get()
    }

    fn wake_at(&self, deadline: Nanos, waker: Waker) -> Alarm {
        self.alarms.set(deadline, waker)
    }

    fn offload(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if !self.pool_full.get() {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(future);
            });
        }
    }

    fn blocking(&self, function: Box<dyn FnOnce() + Send>) {
        if !self.pool_full.get() {
            std::thread::spawn(function);
        }
    }

    fn count_panic(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    fn count_slow_poll(&self) {
        self.slow_polls.set(self.slow_polls.get() + 1);
    }

    /// Not encrypted, but whoever changes a byte is found out.
    fn seal(&self, plain: &[u8]) -> String {
        let sum = plain.iter().fold(7_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let hex: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{sum:08x}{hex}")
    }

    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let bytes = sealed.as_bytes().get(8..)?.chunks(2);
        let plain = bytes.map(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let plain = plain.collect::<Option<Vec<u8>>>()?;
        (self.seal(&plain) == sealed).then_some(plain)
    }

    fn task_id(&self, index: u32, generation: u32) -> String {
        format!("task-{index}-{generation}")
    }

    fn open_task_id(&self, id: &str) -> Option<(u32, u32)> {
        let (index, generation) = id.strip_prefix("task-")?.split_once('-')?;
        Some((index.parse().ok()?, generation.parse().ok()?))
    }
}

impl Bench {
    /// Polls what was woken until nothing is.
    fn settle(&self) {
        loop {
            let woken = {
                let mut futures = self.futures.borrow_mut();
                let woken =
                    |(flag, future): &(Arc<Flag>, Option<_>)| future.is_some() && flag.0.swap(false, Ordering::SeqCst);
                let index = futures.iter().position(woken);
                index.and_then(|index| Some((index, Arc::clone(&futures[index].0), futures[index].1.take()?)))
            };
            let Some((index, flag, mut future)) = woken else { return };
            let waker = Waker::from(flag);
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.futures.borrow_mut()[index].1 = Some(future);
            }
        }
    }

    fn fire_next_timer(&self, until: Nanos) -> bool {
        let Some(next) = self.alarms.next().filter(|next| *next <= until) else { return false };
        self.now.set(self.now.get().max(next));
        self.alarms.ring(next) > 0
    }

    /// How many futures are not over.
    pub fn running(&self) -> usize {
        self.futures.borrow().iter().filter(|(_, future)| future.is_some()).count()
    }
}

/// A result, or code, message and data of an error.
pub type Answer = Result<Value, (i32, String, Value)>;

/// One core with a server on it.
pub struct Rig<S: 'static> {
    pub host: Rc<Bench>,
    pub service: NativeService<S>,
    mailbox: Mailbox,
    scanner: Scanner,
    next: u32,
    pub capabilities: Capabilities,
    pub log_level: Option<LogLevel>,
    pub session: u64,
    /// Everything that was sent beside outcomes, in order: `method params`.
    pub sent: Vec<String>,
    /// `Mail::Ask` without an answer yet.
    pub asked: Vec<(CallKey, u32, &'static str, Value)>,
    pub changes: Vec<Change>,
    replies: Vec<(CallKey, Answer)>,
}

impl<S: 'static> Rig<S> {
    pub fn new(server: &Server<S>) -> Rig<S> {
        let (host, mailbox) = (Rc::new(Bench::default()), Mailbox::default());
        let service = server.per_core(Rc::clone(&host) as Rc<dyn Host>, mailbox.clone());
        Rig {
            host,
            service,
            mailbox,
            scanner: Scanner::new(),
            next: 0,
            capabilities: everything(),
            log_level: None,
            session: 1,
            sent: Vec::new(),
            asked: Vec::new(),
            changes: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Hands a request over; what it is answered at once with, or its key.
    pub fn begin(&mut self, version: Version, method: &str, params: Value) -> Result<Answer, CallKey> {
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut envelope = Envelope::default();
        self.scanner.scan(text.as_bytes(), &mut envelope).expect("well-formed");
        let key = CallKey { index: self.next, generation: 0 };
        self.next += 1;
        let now = self.host.now();
        let call = Call {
            view: crate::ids::View::ALL,
            key,
            version,
            method: Method::parse(method.as_bytes()).expect("a method"),
            text: text.as_bytes(),
            param_lines: b"",
            envelope: &envelope,
            capabilities: self.capabilities,
            log_level: self.log_level,
            is_level_chosen: self.log_level.is_some(),
            may_ask: !version.is_modern(),
            session: (!version.is_modern()).then_some(self.session),
            now,
            deadline: now + 60_000_000_000,
            is_deadline_chosen: false,
        };
        let mut out = b"before".to_vec();
        match self.service.call(&call, &mut out) {
            Served::Done => {
                let text = out.strip_prefix(b"before").expect("what was there stays");
                assert!(!text.contains(&b'\n'));
                Ok(Ok(serde_json::from_slice(text).expect("a JSON result")))
            }
            Served::Failed(error) => {
                assert_eq!(out, b"before", "nothing is appended on failure");
                Ok(Err(plain(error)))
            }
            Served::Pending => {
                assert_eq!(out, b"before", "nothing is appended while pending");
                Err(key)
            }
        }
    }

    /// Lets everything run that can run without time passing, and opens the mail.
    pub fn settle(&mut self) {
        self.host.settle();
        while let Some(mail) = self.mailbox.pop() {
            let json = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
            match mail {
                Mail::Ask { key, ask, method, params } => {
                    self.sent.push(method.to_owned());
                    self.asked.push((key, ask, method, json(&params)));
                }
                Mail::Changed(change) | Mail::ChangedHere(change) => self.changes.push(change),
                Mail::EndStream { .. } => self.sent.push("end of stream".to_owned()),
                Mail::Notice { method, params, .. } => self.sent.push(format!("{method} {}", json(&params))),
                Mail::Session { session, method, params } => {
                    self.sent.push(format!("session {session}: {method} {}", json(&params)));
                }
                Mail::Reply { key, outcome } => {
                    self.sent.push("reply".to_owned());
                    self.replies.push((key, outcome.map(|result| json(&result.whole())).map_err(plain)));
                }
            }
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.host.now.get() + time.as_nanos() as Nanos;
        self.settle();
        while self.host.fire_next_timer(until) {
            self.settle();
        }
        self.host.now.set(until);
        self.settle();
    }

    /// The outcome of a call that was pending, if it is there.
    pub fn reply(&mut self, key: CallKey) -> Option<Answer> {
        self.settle();
        let index = self.replies.iter().position(|(other, _)| *other == key)?;
        Some(self.replies.swap_remove(index).1)
    }

    /// A request and its outcome, however long it takes, by the clock of the rig or the real one.
    pub fn ask(&mut self, version: Version, method: &str, params: Value) -> Answer {
        let key = match self.begin(version, method, params) {
            Ok(answer) => {
                self.settle();
                return answer;
            }
            Err(key) => key,
        };
        let started = Instant::now();
        loop {
            if let Some(answer) = self.reply(key) {
                return answer;
            }
            if !self.host.fire_next_timer(Nanos::MAX) {
                assert!(self.asked.is_empty(), "it waits for an answer: {:?}", self.asked);
                assert!(started.elapsed() < Duration::from_secs(10), "nothing happens any more");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Calls a tool.
    pub fn tool(&mut self, version: Version, name: &str, arguments: Value) -> Answer {
        self.ask(version, "tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// The text of the first content of a tool's result.
    pub fn text(&mut self, version: Version, name: &str, arguments: Value) -> String {
        text_of(&self.tool(version, name, arguments).expect("a result"))
    }

    /// Answers the oldest `Mail::Ask`.
    pub fn answer(&mut self, result: Value) {
        let (key, ask, ..) = self.asked.remove(0);
        self.service.answered(0, key, ask, Ok(result.to_string().as_bytes()));
        self.settle();
    }
}

pub fn text_of(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}")).to_owned()
}

fn plain(error: RpcError) -> (i32, String, Value) {
    let data = error.data.map(|data| serde_json::from_slice(&data).expect("JSON")).unwrap_or_default();
    (error.code.0, error.message.into_owned(), data)
}

pub fn everything() -> Capabilities {
    let all = [
        Capabilities::ELICITATION_FORM,
        Capabilities::ELICITATION_URL,
        Capabilities::SAMPLING,
        Capabilities::ROOTS,
        Capabilities::TASKS_EXTENSION,
    ];
    all.into_iter().fold(Capabilities::default(), Capabilities::with)
}
