//! Questions of a server to the caller of a call, across eras: a legacy server asks in the midst of a call, a modern
//! one ends the call with its questions and wants it sent again with the answers (mcp 2026-07-28, "Multi round-trip
//! requests").
//!
//! Not here: questions within the legacy era (`hear` passes them on), within the modern one (they are results).
//! Invariant: a question is answered at most once, by the caller of its call; a call that waits for answers is bounded
//! in number, bytes and time, and ends when its caller does; a parked call is gone on with by nothing but the same call
//! in the same view.

use std::rc::Rc;

use super::callers::Caller;
use super::flight::{Errand, Kept, Relay};
use super::request::name_key;
use super::send::STALE;
use super::server::{STREAM_END, Server};
use crate::limits::{QUESTION_BYTES_PER_CALL_MAX, ROUND_BYTES_PER_CALL_MAX, WAITING_CALL_BYTES_MAX};
use crate::proto::json::{Envelope, Key, Object, Value, ValueKind, canonical};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::{Call, Nanos};
use crate::upstream::missing;

/// Most questions of one call: servers and clients that go on and on are stopped somewhere.
pub(super) const QUESTIONS_MAX: u32 = 64;
/// Most calls of one server, on one core, that wait for their legacy callers' answers, or for their next round.
const WAITING_MAX: usize = 4096;
/// Most rounds of one call: a server that asks nothing and wants its state back could go on for ever.
const ROUNDS_MAX: u8 = 8;
/// Pause before the first round in which a server asks nothing; it doubles with each round, up to the second of these.
const ROUND_PAUSE: Nanos = 100_000_000;
const ROUND_PAUSE_MAX: Nanos = 1_000_000_000;

/// A modern server's questions, which its call's legacy caller is being asked.
pub(super) struct Round {
    caller: Caller,
    kept: Box<Kept>,
    /// Questions so far, in all rounds.
    asked: u32,
    /// The questions of this round, in order.
    answers: Vec<Asked>,
    /// What the server wants back, as it stands in its result.
    state: Option<Box<[u8]>>,
}

impl Round {
    /// Who is being asked.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let answers = self.answers.iter().map(|(_, name, answer)| name.len() + answer.as_ref().map_or(0, Vec::len));
        self.kept.bytes() + self.state.as_ref().map_or(0, |state| state.len()) + answers.sum::<usize>()
    }
}

/// A question that a legacy caller was asked: its number, the server's name for it, and the answer once it is there.
type Asked = (u32, Box<[u8]>, Option<Vec<u8>>);

/// A legacy server's question that a modern caller was sent away with.
pub(super) struct Question {
    /// The server's id for it.
    pub id: Box<[u8]>,
    pub method: &'static str,
    pub params: Vec<u8>,
}

impl Question {
    fn bytes(&self) -> usize {
        self.id.len() + self.params.len()
    }
}

/// Where a parked call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parked {
    pub core: u16,
    pub server: u16,
    pub flight: u32,
    pub serial: u64,
}

const MARK: &[u8] = b"parked";

impl Parked {
    /// As it is sealed into `requestState`.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = MARK.to_vec();
        out.extend_from_slice(&self.core.to_le_bytes());
        out.extend_from_slice(&self.server.to_le_bytes());
        out.extend_from_slice(&self.flight.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out
    }

    /// The inverse of `to_bytes`.
    pub fn read(bytes: &[u8]) -> Option<Parked> {
        let bytes: [u8; 16] = bytes.strip_prefix(MARK)?.try_into().ok()?;
        Some(Parked {
            core: u16::from_le_bytes([bytes[0], bytes[1]]),
            server: u16::from_le_bytes([bytes[2], bytes[3]]),
            flight: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            serial: u64::from_le_bytes(std::array::from_fn(|index| bytes[8 + index])),
        })
    }
}

impl Server {
    /// A modern server wants answers of a legacy caller: it is asked, and the call sent again when it has answered all.
    pub(super) fn input_required(&mut self, now: Nanos, mut relay: Relay, result: Value<'_>) {
        let fail = |server: &Server, text: &str| {
            let text = format!("server {} asks for input {text}", server.settings.name);
            server.callers.reply(relay.caller, Err(RpcError::new(Code::BAD_GATEWAY, text)));
        };
        let Some(mut kept) = relay.kept.take() else { return fail(self, "that was not expected of this call") };
        let state: Option<Box<[u8]>> = result.get("requestState").map(|state| state.raw().into());
        let waiting = self.rounds.len() + self.to_repeat.len();
        let is_crowded = || waiting > 0 && self.waiting_bytes() + kept.bytes() > WAITING_CALL_BYTES_MAX;
        if kept.rounds >= ROUNDS_MAX || waiting >= WAITING_MAX || is_crowded() {
            let is_over = kept.rounds >= ROUNDS_MAX;
            return fail(self, if is_over { "again and again" } else { "while too many calls wait for theirs" });
        }
        let asked = || result.get("inputRequests").into_iter().flat_map(Value::members);
        let can_give = |request: Value<'_>| relay.may_ask && asked_by(request).is_some_and(|one| relay.can_answer(one));
        if asked().any(|(_, request)| !can_give(request)) {
            return fail(self, "that this client cannot give");
        }
        kept.rounds += 1;
        let mut round = Round { caller: relay.caller, kept, asked: relay.asked, answers: Vec::new(), state };
        for (name, request) in asked() {
            let Some(method) = asked_by(request) else { continue };
            if round.asked >= QUESTIONS_MAX {
                return fail(self, "again and again");
            }
            let params = asked_of_legacy(request.get("params"), relay.caller, round.asked);
            round.answers.push((round.asked, quoted(name.raw()), None));
            self.callers.ask(relay.caller, round.asked, method, params);
            round.asked += 1;
        }
        if round.answers.is_empty() {
            // Only its state wants to come back: there is nobody to be asked, and nobody who would slow it down.
            if round.state.is_none() {
                return fail(self, "and neither says which (inputRequests) nor gives a state (requestState)");
            }
            let pause = ROUND_PAUSE << (round.kept.rounds - 1);
            return self.to_repeat.push((now + pause.min(ROUND_PAUSE_MAX), next_round(round)));
        }
        self.rounds.push(round);
    }

    /// A legacy caller answered a modern server's question; false if there is no such question.
    pub(super) fn round_answered(
        &mut self,
        now: Nanos,
        caller: Caller,
        ask: u32,
        answer: &Result<&[u8], RpcError>,
    ) -> bool {
        let Some(place) = self.rounds.iter().position(|round| round.caller == caller) else { return false };
        let round = &mut self.rounds[place];
        let Some((_, _, slot)) = round.answers.iter_mut().find(|(known, ..)| *known == ask) else { return true };
        let refusal = match answer {
            Ok(result) => {
                *slot = Some(result.to_vec());
                let bytes: usize = round.answers.iter().flat_map(|(.., answer)| answer).map(Vec::len).sum();
                self.has_room_for_answers(bytes).err()
            }
            Err(error) => Some(error.clone()),
        };
        if let Some(error) = refusal {
            self.rounds.swap_remove(place);
            self.callers.reply(caller, Err(error));
            return true;
        }
        if self.rounds[place].answers.iter().all(|(_, _, answer)| answer.is_some()) {
            let round = self.rounds.swap_remove(place);
            self.enqueue(now, next_round(round));
        }
        true
    }

    /// Whether answers of so many bytes to the questions in one call may be kept, beside what others have kept.
    ///
    /// # Errors
    /// What the call's caller is told if they may not.
    fn has_room_for_answers(&self, bytes: usize) -> Result<(), RpcError> {
        let text = if self.rounds.len() > 1 && self.waiting_bytes() > WAITING_CALL_BYTES_MAX {
            let name = &self.settings.name;
            format!(
                "calls and answers that wait for server {name} have as many bytes as there may be; try again shortly"
            )
        } else if bytes > ROUND_BYTES_PER_CALL_MAX {
            format!(
                "answers of {bytes} bytes to a server's questions in one call are more than the \
                 {ROUND_BYTES_PER_CALL_MAX} there may be; answer with less"
            )
        } else {
            return Ok(());
        };
        Err(RpcError::new(Code::OVERLOADED, text))
    }

    /// The caller of a call is gone, and with it the answers.
    pub(super) fn drop_round(&mut self, caller: Caller) {
        self.rounds.retain(|round| round.caller != caller);
    }

    /// A legacy server asks in the midst of a modern caller's call: the call is parked, and its caller sent away with
    /// the question.
    pub(super) fn park(&mut self, now: Nanos, number: u32, question: Question) {
        let (parked, most) = (self.flights.parked(), self.parked_max());
        let Some(flight) = self.flights.find(number) else { return };
        let (serial, session) = (flight.serial, flight.session);
        let Errand::Call(relay) = &mut flight.errand else { return };
        relay.asked += 1;
        let bytes = relay.questions.iter().map(Question::bytes).sum::<usize>() + question.bytes();
        if relay.asked > QUESTIONS_MAX || bytes > QUESTION_BYTES_PER_CALL_MAX {
            let text = format!(
                "question {} of one call, with {bytes} bytes of questions that wait for its caller: there may be \
                 {QUESTIONS_MAX}, and {QUESTION_BYTES_PER_CALL_MAX} bytes; ask less, or one after the other",
                relay.asked
            );
            let error = RpcError::new(Code::OVERLOADED, text);
            return self.tell_answer(now, self.line, session, &question.id, Err(error));
        }
        if relay.is_parked {
            return relay.questions.push_back(question);
        }
        if parked >= most {
            let name = &self.settings.name;
            let text = match self.settings.calls_max_is_for_all {
                true => format!(
                    "server {name} asks its caller something, and {parked} calls wait for their callers already: half \
                     of servers.{name}.concurrency = {}, and no more than it has connections; raise it, or try again",
                    self.settings.calls_max
                ),
                false => format!(
                    "server {name} asks its caller something, and {parked} calls wait for their callers already, the \
                     most there may be; try again later"
                ),
            };
            return self.refuse_question(now, number, &question.id, RpcError::new(Code::OVERLOADED, text));
        }
        relay.questions.push_back(question);
        self.send_away(now, number, serial);
    }

    /// A modern caller has not declared that it answers such questions: its call ends with an error that says so
    /// (2026-07-28, "Missing Required Client Capability"), and the server is told no.
    pub(super) fn not_declared(&mut self, now: Nanos, number: u32, id: Box<[u8]>, method: &str) {
        let needed = match method {
            "sampling/createMessage" => Capabilities::SAMPLING,
            "roots/list" => Capabilities::ROOTS,
            _ => Capabilities::ELICITATION_FORM,
        };
        self.refuse_question(now, number, &id, missing::capability(needed));
    }

    /// Tells the server no, and the caller of its call why; one that was sent away hears when it comes back.
    fn refuse_question(&mut self, now: Nanos, number: u32, id: &[u8], error: RpcError) {
        let Some(flight) = self.flights.find(number) else { return };
        let session = flight.session;
        let is_parked = matches!(&flight.errand, Errand::Call(relay) if relay.is_parked);
        self.tell_answer(now, self.line, session, id, Err(error.clone()));
        if is_parked {
            return;
        }
        self.ends_unanswered(now, number);
        if let Some(Errand::Call(relay)) = self.flights.finish(number, now + STREAM_END) {
            self.breakers.untold(&relay.tool, relay.tried);
            self.callers.reply(relay.caller, Err(error));
        }
    }

    /// Ends a modern caller's call with the question that is first in line.
    fn send_away(&mut self, now: Nanos, number: u32, serial: u64) {
        let seal = Rc::clone(&self.seal);
        let place = Parked { core: self.callers.core.0, server: self.index, flight: number, serial };
        let Some(flight) = self.flights.find(number) else { return };
        let Errand::Call(relay) = &mut flight.errand else { return };
        let Some(question) = relay.questions.front() else { return };
        let mut result = Vec::new();
        let mut object = Object::begin(&mut result);
        object.string("resultType", "input_required");
        let mut requests = object.object("inputRequests");
        let mut request = requests.object(QUESTION);
        request.string("method", question.method);
        request.raw("params", &question.params);
        request.end();
        requests.end();
        object.string("requestState", &seal.seal(&place.to_bytes()));
        object.end();
        let caller = relay.caller;
        self.flights.park(number, now + self.settings.ask_time);
        self.callers.reply(caller, Ok(result));
    }

    /// A modern caller comes back to a parked call, which it sees as the server's `name`, with `uris` before URIs.
    ///
    /// # Errors
    /// If there is no such call any more, or it was another.
    pub(super) fn resume(
        &mut self,
        now: Nanos,
        place: Parked,
        call: &Call<'_>,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Result<(), RpcError> {
        let refused = || RpcError::new(Code::INVALID_PARAMS, STALE);
        let is_it = |kept: &Kept| is_same(kept, call, name, uris);
        if let Some(outcome) = self.left.take(place.serial, is_it) {
            self.callers.reply(self.callers.here(call.key), outcome);
            return Ok(());
        }
        let flight =
            self.flights.find(place.flight).filter(|flight| flight.serial == place.serial).ok_or_else(refused)?;
        let session = flight.session;
        let caller = self.callers.here(call.key);
        let Errand::Call(relay) = &mut flight.errand else { return Err(refused()) };
        if !relay.is_parked || !relay.kept.as_deref().is_some_and(is_it) {
            return Err(refused());
        }
        let responses = call.envelope.value(Key::InputResponses, call.text);
        let answer = responses.and_then(|all| all.get(QUESTION)).filter(|one| one.kind() == ValueKind::Object);
        relay.caller = caller;
        relay.log_level = call.log_level;
        relay.token = call.envelope.text(Key::MetaProgressToken, call.text).map(Into::into);
        let Some(answer) = answer else {
            // Without the answer it is asked for again (mcp 2026-07-28: missing responses are no error).
            self.send_away(now, place.flight, place.serial);
            return Ok(());
        };
        let line = self.channel.line_of(place.serial).ok_or_else(refused)?;
        let Some(question) = relay.questions.pop_front() else { return Err(refused()) };
        let more = !relay.questions.is_empty();
        self.flights.unpark(place.flight, now + self.settings.call_time);
        self.tell_answer(now, line, session, &question.id, Ok(answer.raw()));
        if more {
            self.send_away(now, place.flight, place.serial);
        }
        Ok(())
    }
}

/// A modern server's question as a legacy caller wants it: a visit has a name there, by which it would be told to be
/// done (2025-11-25, "URL Mode"; 2026-07-28 has neither).
fn asked_of_legacy(params: Option<Value<'_>>, caller: Caller, number: u32) -> Vec<u8> {
    let Some(params) = params else { return b"{}".to_vec() };
    let is_visit = params.get("mode").and_then(Value::as_str).as_deref() == Some("url");
    if !is_visit || params.get("elicitationId").is_some() {
        return params.raw().to_vec();
    }
    let (core, index, generation) = (caller.core.0, caller.key.index, caller.key.generation);
    let mut out = Vec::with_capacity(params.raw().len() + 64);
    let mut object = Object::begin(&mut out);
    object.string("elicitationId", &format!("corelane-{core}-{index}-{generation}-{number}"));
    for (name, member) in params.members() {
        if let Some(name) = name.unescaped() {
            object.raw(&name, member.raw());
        }
    }
    object.end();
    out
}

/// The call as it is sent in the next round: with the answers, and the state that the server gave.
fn next_round(round: Round) -> Kept {
    let mut kept = round.kept;
    let mut members = Vec::new();
    if !round.answers.is_empty() {
        members.extend_from_slice(br#""inputResponses":{"#);
        for (index, (_, name, answer)) in round.answers.iter().enumerate() {
            if index > 0 {
                members.push(b',');
            }
            members.extend_from_slice(name);
            members.push(b':');
            members.extend_from_slice(answer.as_deref().unwrap_or(b"{}"));
        }
        members.extend_from_slice(b"},");
    }
    if let Some(state) = &round.state {
        members.extend_from_slice(br#""requestState":"#);
        members.extend_from_slice(state);
        members.push(b',');
    }
    kept.round = members;
    kept.asked = round.asked;
    *kept
}

/// Whether a call is the one that was parked: what is asked, in which view, of what, and with which arguments, in
/// whatever order these are written this time.
fn is_same(kept: &Kept, call: &Call<'_>, name: Option<&str>, uris: Option<&str>) -> bool {
    let key = name_key(call.method);
    let before = kept.name.as_deref().map(Into::into).or_else(|| kept.envelope.str(key, &kept.text));
    let now = name.map(Into::into).or_else(|| call.envelope.str(key, call.text));
    let arguments = |envelope: &Envelope, text: &[u8]| {
        let mut out = Vec::new();
        envelope.text(Key::Arguments, text).is_none_or(|raw| canonical(&mut out, raw)).then_some(out)
    };
    (kept.method, kept.view, kept.uris.as_deref()) == (call.method, call.view, uris)
        && before == now
        && arguments(&kept.envelope, &kept.text) == arguments(call.envelope, call.text)
}

/// The one question that is asked at a time has always this name.
const QUESTION: &str = "question";

/// The questions that there are.
pub(super) fn question(method: &str) -> Option<&'static str> {
    ["elicitation/create", "sampling/createMessage", "roots/list"].into_iter().find(|known| *known == method)
}

/// What a modern server asks by a request for input.
fn asked_by(request: Value<'_>) -> Option<&'static str> {
    request.get("method").and_then(Value::as_str).and_then(|method| question(&method))
}

/// A member's name with the quotes that `RawStr` leaves out.
fn quoted(raw: &[u8]) -> Box<[u8]> {
    [b"\"", raw, b"\""].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_calls_place_survives_the_clients_hands() {
        let place = Parked { core: 3, server: 500, flight: 70_000, serial: u64::MAX };
        assert_eq!(Parked::read(&place.to_bytes()), Some(place));
        assert_eq!((Parked::read(b""), Parked::read(&[0; 22]), Parked::read(b"parked")), (None, None, None));
    }
}
