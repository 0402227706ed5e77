//! What a server says by a way on which only ids tell whose a message is.
//!
//! Not here: what the messages mean (`hear`). Invariant: what cannot be said to belong to one call reaches no caller.

use super::channel::Channel;
use super::flight::{Errand, Flight};
use super::server::{Server, Verdict};
use crate::proto::json::{Envelope, Key, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::server::service::Nanos;
use crate::upstream::talk::{Heard, Line};

/// The number of no flight.
const NONE: u32 = u32::MAX;

impl Server {
    /// Hears what the server said and what became of it.
    pub(super) fn hear_talk(&mut self, now: Nanos) {
        let mut was_probe = false;
        loop {
            let Channel::Talk(talk) = &mut self.channel else { return };
            let Some(heard) = talk.heard(now) else { return };
            match heard {
                Heard::Arrived(line) => self.arrived(now, line),
                Heard::Message { line, text } => self.spoken(now, line, &text),
                Heard::Failed { errand, why, is_overload } => {
                    // A server that ends at a question of another era than its own is asked in its own next time.
                    let is_probe = self.flights.find(errand).is_some_and(|it| matches!(it.errand, Errand::Discover));
                    if is_probe && self.may_be_legacy() {
                        (self.is_legacy, was_probe) = (true, true);
                        self.flights.remove(errand);
                        continue;
                    }
                    if let (Some(Flight { errand: Errand::Call(relay), .. }), true) =
                        (self.flights.find(errand), is_overload)
                    {
                        relay.blame = 0;
                    }
                    let code = if is_overload { Code::OVERLOADED } else { Code::BAD_GATEWAY };
                    self.lost(now, errand, &RpcError::new(code, format!("server {} {why}", self.settings.name)));
                }
                Heard::Ended { why, retry_at } => {
                    self.events = None;
                    self.unanswered.forget();
                    for session in std::mem::take(&mut self.sessions) {
                        self.waiting.extend(session.waiting);
                    }
                    // It is asked again at once, in its own era or where another line is left to ask it on.
                    if std::mem::take(&mut was_probe) || self.front().is_some() {
                        self.verdict = Verdict::Unknown;
                        self.retry_at = now;
                        self.reach(now);
                        if self.verdict == Verdict::Asking {
                            continue;
                        }
                    }
                    self.out_of_reach(now, format!("server {} {why}", self.settings.name));
                    self.retry_at = retry_at;
                }
            }
        }
    }

    fn spoken(&mut self, now: Nanos, line: Line, text: &[u8]) {
        self.line = line;
        let mut envelope = Envelope::default();
        if let Err(error) = self.scanner.scan(text, &mut envelope) {
            // Programs print what they like; that is no reason to end them.
            tracing::debug!(server = &*self.settings.name, "what it said is no message: {error}");
            return;
        }
        let Channel::Talk(talk) = &mut self.channel else { return };
        if envelope.has(Key::Method) {
            if envelope.has(Key::Id) {
                let number = self.call_meant_on(now, line).unwrap_or(NONE);
                return self.asked(now, number, &envelope, text);
            }
            let params = envelope.value(Key::Params, text);
            let token = params.and_then(|params| params.get("progressToken")).and_then(Value::as_u64);
            let number = match token {
                Some(token) => talk.outstanding().errand_of(token, line),
                None => self.call_meant_on(now, line),
            };
            return self.notified(now, number.unwrap_or(NONE), &envelope, text);
        }
        let id = envelope.value(Key::Id, text).and_then(Value::as_u64);
        self.unanswered.answered(id.unwrap_or_default(), line);
        let Some(number) = id.and_then(|id| talk.outstanding().answered(id, line)) else { return };
        self.message(now, number, 200, text);
        // There is no stream whose end is to come.
        self.flights.remove_answered(number);
    }
}
