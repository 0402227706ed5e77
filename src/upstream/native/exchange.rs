//! The questions and answers of one asynchronous call.
//!
//! Not here: the bytes of `requestState` (`request_state`), the future that asks (`run`).
//! Invariant: a key is answered once; after that it is answered the same way for as long as the call lives, replays
//! included. What was never asked is never read.
//!
//! Three ways, one interface:
//!
//! ```text
//! Replay  (modern call)  wanted -> the attempt ends -> input_required + requestState -> the retry brings the answers
//! Live    (legacy call)  wanted -> Mail::Ask at once -> Service::answered -> the future goes on
//! Task    (either era)   wanted -> status input_required -> tasks/update or tasks/result -> the future goes on
//! ```

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use super::ask::{Ask, AskError, is_answer};
use super::content::JsonText;
use crate::proto::json::Object;
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::Nanos;

/// How questions travel now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Live,
    Replay,
    Task,
}

/// A question without an answer.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub key: String,
    pub method: &'static str,
    pub params: Vec<u8>,
    /// Names it in `Mail::Ask`.
    pub number: u32,
    /// Whether a `Mail::Ask` is out.
    pub sent: bool,
}

/// Set once, read from any thread: the caller no longer wants the result.
#[derive(Clone, Default, Debug)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Whether to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The state that a call's future and its driver share.
pub(super) struct Exchange {
    pub way: Cell<Way>,
    pub version: Version,
    pub capabilities: Capabilities,
    pub may_ask: bool,
    /// Binds a `requestState` to method, name and arguments.
    pub binding: u128,
    pub wanted: RefCell<Vec<Wanted>>,
    /// What the client sent, used or not, and what earlier rounds brought.
    pub answers: RefCell<Vec<(String, JsonText)>>,
    /// The keys whose answers the handler used in this attempt; only these are sealed again.
    pub used: RefCell<Vec<String>>,
    /// Values the handler had remembered (`Context::once`).
    pub remembered: RefCell<Vec<(String, Vec<u8>)>>,
    refused: RefCell<Vec<(String, AskError)>>,
    next_number: Cell<u32>,
    pub waiting: RefCell<Vec<Waker>>,
    pub cancelled: Cell<bool>,
    pub cancel_waiting: RefCell<Vec<Waker>>,
    pub stop: StopSignal,
    /// When the task that it became is forgotten.
    pub ends: Cell<Nanos>,
    /// Bytes of arguments that its handler was given; none once the task that it became has ended.
    pub arguments_bytes: Cell<usize>,
}

impl Exchange {
    pub fn new(way: Way, version: Version, capabilities: Capabilities, may_ask: bool, binding: u128) -> Exchange {
        Exchange {
            way: Cell::new(way),
            version,
            capabilities,
            may_ask,
            binding,
            wanted: RefCell::default(),
            answers: RefCell::default(),
            used: RefCell::default(),
            remembered: RefCell::default(),
            refused: RefCell::default(),
            next_number: Cell::new(0),
            waiting: RefCell::default(),
            cancelled: Cell::new(false),
            cancel_waiting: RefCell::default(),
            stop: StopSignal::default(),
            ends: Cell::new(Nanos::MAX),
            arguments_bytes: Cell::new(0),
        }
    }

    /// Whether the client could answer this at all.
    pub fn check(&self, ask: &Ask) -> Result<(), AskError> {
        if !self.capabilities.has(ask.needs) {
            return Err(AskError::NotDeclared(ask.needs));
        }
        if self.way.get() == Way::Live && !self.may_ask {
            return Err(AskError::Unreachable);
        }
        Ok(())
    }

    /// The answer under a key, if it is there and has the right form; one of a wrong form is forgotten.
    pub fn answer(&self, key: &str, method: &str) -> Option<Result<JsonText, AskError>> {
        if let Some((_, error)) = self.refused.borrow().iter().find(|(other, _)| other == key) {
            return Some(Err(error.clone()));
        }
        let mut answers = self.answers.borrow_mut();
        let index = answers.iter().position(|(other, _)| other == key)?;
        if !is_answer(method, answers[index].1.as_bytes()) {
            answers.swap_remove(index);
            return None;
        }
        let mut used = self.used.borrow_mut();
        if !used.iter().any(|other| other == key) {
            used.push(key.to_owned());
        }
        Some(Ok(answers[index].1.clone()))
    }

    /// Notes a question as unanswered; returns its number if it is new.
    pub fn want(&self, ask: &Ask, elicitation_id: impl FnOnce() -> String) -> Option<u32> {
        let mut wanted = self.wanted.borrow_mut();
        if wanted.iter().any(|other| other.key == ask.key) {
            return None;
        }
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let params = ask.params(self.version, elicitation_id);
        wanted.push(Wanted { key: ask.key.clone(), method: ask.method(), params, number, sent: false });
        Some(number)
    }

    /// How many questions there have been.
    pub fn questions(&self) -> u32 {
        self.next_number.get()
    }

    /// No longer asks for these keys: whoever asked is gone.
    pub fn unwant<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        let mut wanted = self.wanted.borrow_mut();
        keys.for_each(|key| wanted.retain(|other| other.key != key));
    }

    /// Takes the answer to a question by its key; `false` if nobody asks that, or the answer has the wrong form.
    pub fn accept(&self, key: &str, answer: &[u8]) -> bool {
        let mut wanted = self.wanted.borrow_mut();
        let Some(index) = wanted.iter().position(|other| other.key == key) else { return false };
        if !is_answer(wanted[index].method, answer) {
            return false;
        }
        let wanted = wanted.remove(index);
        self.answers.borrow_mut().push((wanted.key, JsonText::new(answer)));
        true
    }

    /// Takes the answer to `Mail::Ask`.
    pub fn answered(&self, number: u32, answer: Result<&[u8], AskError>) {
        let found = self.wanted.borrow().iter().position(|wanted| wanted.number == number);
        let Some(index) = found else { return };
        let key = self.wanted.borrow()[index].key.clone();
        let refusal = match answer {
            Ok(answer) if self.accept(&key, answer) => None,
            Ok(_) => Some(AskError::Answer { key: key.clone() }),
            Err(error) => Some(error),
        };
        if let Some(error) = refusal {
            self.wanted.borrow_mut().remove(index);
            self.refused.borrow_mut().push((key, error));
        }
        self.wake();
    }

    /// Whether a question is without an answer.
    pub fn is_waiting(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    /// Polls whoever waits for answers again.
    pub fn wake(&self) {
        std::mem::take(&mut *self.waiting.borrow_mut()).into_iter().for_each(Waker::wake);
    }

    /// Writes the questions as `{"key":{"method":...,"params":...}}`.
    pub fn write_requests(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        for wanted in self.wanted.borrow().iter() {
            let mut request = object.object(&wanted.key);
            request.string("method", wanted.method);
            request.raw("params", &wanted.params);
        }
        object.end();
    }
}

/// Keeps one waker per task of the executor.
pub(super) fn keep_waker(place: &RefCell<Vec<Waker>>, waker: &Waker) {
    let mut place = place.borrow_mut();
    if !place.iter().any(|other| other.will_wake(waker)) {
        place.push(waker.clone());
    }
}
