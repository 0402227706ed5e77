//! The native server behind the gateway, by what an operator says of it in a section of its own.
//!
//! Not here: its handlers (`upstream::native`), what it is called and shown as (`native_names`). Invariant: without a
//! section every call reaches it as it came. With one, a call that is to wait for a seat is handed over when it has
//! one, and lets go of it whatever ends it: its outcome, its caller or its time.
//!
//! Seats are taken by calls of tools, prompts, resources and completions: a task is no call, and what is asked of one
//! may be what ends it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::callers::Caller;
use super::deadlines::Deadlines;
use super::flight::{Kept, ListKind};
use super::rules::Rules;
use super::seats::{Seat, Seats};
use super::settings::NativeSettings;
use super::turns::keep;
use super::words::{self, kind};
use crate::ids::CoreId;
use crate::limits::WAITING_CALL_BYTES_MAX;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Method;
use crate::server::service::{Call, CallKey, Mail, Mailbox, Nanos, Overheard, Served, Service, Sign, Wish};
use crate::shard::breaker::Try;

/// The number by which it stands among servers; none of theirs is so high.
pub(super) const NATIVE: u16 = u16::MAX;

/// A call in flight.
struct Flight {
    generation: u32,
    deadline: Nanos,
    seat: Option<Seat>,
}

/// A call that waits for a seat.
struct Waiting {
    kept: Box<Kept>,
    /// When it waits no longer.
    until: Nanos,
    /// What it came with.
    deadline: Nanos,
}

/// The native server of one core.
pub(super) struct Native<S> {
    pub service: S,
    core: CoreId,
    settings: Option<Arc<NativeSettings>>,
    /// What its calls were heard to do.
    overheard: Overheard,
    mailbox: Mailbox,
    /// By index of the call.
    flights: Vec<Option<Flight>>,
    deadlines: Deadlines,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// A seat became free, which others may wait for.
    has_freed: bool,
    /// The names of its tools and of its prompts, which stay what they are.
    names: [Vec<Box<str>>; 2],
}

impl<S: Service> Native<S> {
    /// This server, of which is heard what it says to the core.
    pub fn new(service: S, core: CoreId, overheard: Overheard, mailbox: Mailbox) -> Native<S> {
        let names = [Method::ToolsList, Method::PromptsList].map(|list| service.names(list));
        Native {
            service,
            core,
            settings: None,
            overheard,
            mailbox,
            flights: Vec::new(),
            deadlines: Deadlines::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            has_freed: false,
            names,
        }
    }

    /// What an operator says of it from now on.
    pub fn take_up(&mut self, now: Nanos, settings: Option<Arc<NativeSettings>>) {
        if let Some((_, seats)) = self.seats() {
            seats.set_waiting(self.core, false);
        }
        self.settings = settings;
        if self.settings.is_some() {
            // From then on: calls in flight are heard to the end, whatever is said of it by then.
            self.overheard.begin();
        }
        self.seat(now);
    }

    /// What an operator says of it.
    pub fn settings(&self) -> Option<&NativeSettings> {
        self.settings.as_deref()
    }

    /// What is seen of it, if an operator says.
    pub fn rules(&self) -> Option<&Rules> {
        self.settings().map(|settings| &settings.rules)
    }

    /// How many seats there are, and which.
    fn seats(&self) -> Option<(usize, &Arc<Seats>)> {
        self.settings()?.seats.as_ref().map(|(most, seats)| (*most, seats))
    }

    /// Its own names of what is called by name.
    pub fn names(&self, kind: ListKind) -> &[Box<str>] {
        match kind {
            ListKind::Tools => &self.names[0],
            ListKind::Prompts => &self.names[1],
            ListKind::Resources | ListKind::Templates => &[],
        }
    }

    /// Whether a resource is seen.
    pub fn admits_resource(&self, uri: &str) -> bool {
        self.rules().is_none_or(|rules| rules.resources.admits(uri))
    }

    /// Hands a call over, in which everything has the names that its server gave it, or lets it wait for a seat.
    pub fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        if self.settings.is_none() || !is_work(call.method) {
            return self.service.call(call, out);
        }
        let Some((most, seats)) = self.seats() else { return self.hand_over(call, None, out) };
        // Whoever waits already, here or elsewhere, comes first.
        match (!seats.is_awaited()).then(|| seats.take(most)).flatten() {
            Some(seat) => self.hand_over(call, Some(seat), out),
            None => self.wait(call),
        }
    }

    fn hand_over(&mut self, call: &Call<'_>, seat: Option<Seat>, out: &mut Vec<u8>) -> Served {
        let served = self.service.call(call, out);
        if !matches!(served, Served::Pending) {
            self.has_freed |= seat.is_some();
            return served;
        }
        let (index, generation) = (call.key.index, call.key.generation);
        if self.flights.len() <= index as usize {
            self.flights.resize_with(index as usize + 1, || None);
        }
        let deadline = self.settings().map_or(Nanos::MAX, |settings| call.now.saturating_add(settings.call_time));
        self.deadlines.remove(index);
        self.deadlines.insert(deadline, index);
        self.flights[index as usize] = Some(Flight { generation, deadline, seat });
        served
    }

    fn wait(&mut self, call: &Call<'_>) -> Served {
        let Some(settings) = self.settings.clone() else { return Served::Pending };
        let bytes = self.waiting_bytes + call.text.len();
        if self.waiting.len() >= settings.waiting_max || bytes > WAITING_CALL_BYTES_MAX {
            let waiting = self.waiting.len();
            let text = format!("{waiting} calls wait for server {} already; try again shortly", settings.name);
            return Served::Failed(RpcError::new(Code::OVERLOADED, text));
        }
        let kept = Box::new(keep(call, Try::ORDINARY, Caller { core: self.core, key: call.key }, None, None));
        let until = call.now.saturating_add(settings.call_time);
        self.waiting_bytes = bytes;
        self.waiting.push_back(Waiting { kept, until, deadline: call.deadline });
        if let Some((_, seats)) = self.seats() {
            seats.set_waiting(self.core, true);
        }
        // One may have become free before anybody could know that this one waits.
        self.seat(call.now);
        Served::Pending
    }

    /// Those that wait take what seats there are.
    pub fn seat(&mut self, now: Nanos) {
        while !self.waiting.is_empty() {
            let seat = match self.seats() {
                None => None,
                Some((most, seats)) => match seats.take(most) {
                    None => break,
                    seat => seat,
                },
            };
            let Some(one) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= one.kept.text.len();
            let mut out = Vec::new();
            let call = one.kept.call(now, one.deadline);
            let outcome = match self.hand_over(&call, seat, &mut out) {
                Served::Done => Ok(out.into()),
                Served::Failed(error) => Err(error),
                Served::Pending => continue,
            };
            self.mailbox.push(Mail::Reply { key: call.key, outcome });
        }
        if let Some((_, seats)) = self.seats() {
            seats.set_waiting(self.core, !self.waiting.is_empty());
        }
    }

    /// Another core says that a seat is free.
    pub fn offered(&mut self, now: Nanos) {
        self.seat(now);
        // What is left is for the next.
        self.has_freed = true;
    }

    /// Takes note of what its calls were heard to do. If a seat became free, those that wait have it, whoever is next:
    /// who is told so, if they are on another core.
    pub fn turn(&mut self, now: Nanos) -> Option<Wish> {
        for sign in self.overheard.take() {
            match sign {
                Sign::Alive(key) => self.extend(key, self.settings().map(|settings| settings.call_time), now),
                Sign::Asked(key) => self.extend(key, self.settings().map(|settings| settings.ask_time), now),
                Sign::Ended(key) => self.ended(key),
            }
        }
        while std::mem::take(&mut self.has_freed) {
            let (most, seats) = self.seats()?;
            if !seats.has_free(most) {
                return None;
            }
            let to = seats.next_waiting(self.core)?;
            if to != self.core {
                return Some(Wish::Tell { to, what: words::subject(kind::SEAT, NATIVE, 0), text: Vec::new() });
            }
            self.seat(now);
        }
        None
    }

    fn flight(&mut self, key: CallKey) -> Option<&mut Flight> {
        let flight = self.flights.get_mut(key.index as usize)?.as_mut();
        flight.filter(|flight| flight.generation == key.generation)
    }

    fn set_deadline(&mut self, key: CallKey, of: impl Fn(Nanos) -> Nanos) {
        let Some(flight) = self.flight(key) else { return };
        let deadline = of(flight.deadline);
        flight.deadline = deadline;
        self.deadlines.remove(key.index);
        self.deadlines.insert(deadline, key.index);
    }

    /// A call has so much time from now on, or as long as it had.
    fn extend(&mut self, key: CallKey, time: Option<Nanos>, now: Nanos) {
        self.set_deadline(key, |before| before.max(now.saturating_add(time.unwrap_or(Nanos::MAX))));
    }

    /// A call is over.
    fn ended(&mut self, key: CallKey) {
        if self.flight(key).is_some() {
            self.deadlines.remove(key.index);
            let flight = self.flights[key.index as usize].take();
            self.has_freed |= flight.is_some_and(|flight| flight.seat.is_some());
        }
    }

    /// What the caller of a call was asked is answered.
    pub fn answered(&mut self, now: Nanos, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>) {
        let time = self.settings().map_or(Nanos::MAX, |settings| settings.call_time);
        self.set_deadline(key, |before| before.min(now.saturating_add(time)));
        self.service.answered(now, key, ask, answer);
    }

    /// When a call's time is up.
    pub fn deadline(&self) -> Option<Nanos> {
        let first = self.deadlines.first().map(|(deadline, _)| deadline);
        first.into_iter().chain(self.waiting.front().map(|one| one.until)).min()
    }

    /// Time passed.
    pub fn tick(&mut self, now: Nanos) {
        while let Some((_, index)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.remove(index);
            let Some(flight) = &self.flights[index as usize] else { continue };
            let key = CallKey { index, generation: flight.generation };
            self.service.cancel(now, key);
            self.ended(key);
            self.is_late(key);
        }
        while self.waiting.front().is_some_and(|one| one.until <= now) {
            let Some(one) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= one.kept.text.len();
            self.is_late(one.kept.caller.key);
        }
        self.seat(now);
    }

    fn is_late(&self, key: CallKey) {
        let name = self.settings().map_or("", |settings| &settings.name);
        let outcome = Err(RpcError::new(Code::DEADLINE, format!("server {name} did not answer in time")));
        self.mailbox.push(Mail::Reply { key, outcome });
    }

    /// Nobody waits for a call any more.
    pub fn cancel(&mut self, now: Nanos, key: CallKey) {
        if let Some(at) = self.waiting.iter().position(|one| one.kept.caller.key == key) {
            let one = self.waiting.remove(at);
            self.waiting_bytes -= one.map_or(0, |one| one.kept.text.len());
            return self.seat(now);
        }
        self.service.cancel(now, key);
        self.ended(key);
    }
}

impl<S> Drop for Native<S> {
    fn drop(&mut self) {
        // Whoever would hear of a seat is no more.
        if let Some((_, seats)) = self.settings.as_ref().and_then(|settings| settings.seats.as_ref()) {
            seats.set_waiting(self.core, false);
        }
    }
}

/// Whether a call of this method is work, of which there may be too much at once.
fn is_work(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead | Method::CompletionComplete)
}
