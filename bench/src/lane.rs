//! One connection's conversation: handshake, outstanding calls, and the judgement of every answer.
//!
//! It has no clock and no socket: times are handed in, bytes are handed in, and what it says goes into the outbox.
//!
//! Invariant: an answer counts as a success only if it carries the id of a call that is outstanding on this connection
//! and a result that is no error; unless verification is off (the floor echoes no id), when it counts if it is framed
//! like an answer.

use std::{cell::RefCell, collections::VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    answer::{Part, Reader},
    fleet::{Loss, Outbox},
    message::{FIRST_ID, INITIALIZE_ID, LINE_END, SESSION, Script, Wire},
};

/// Why a call did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `initialize` was answered by an error.
    Handshake,
    /// An HTTP status other than 200 (202 for a notification).
    Http(u16),
    /// A JSON-RPC error.
    JsonRpc(i64),
    /// Bytes that are no answer.
    Malformed,
    /// The HTTP answer ended without one.
    NoReply,
    /// A result with `isError`.
    Tool,
    /// An id that was not asked for.
    WrongId,
}

impl Fault {
    /// The name under which it is counted.
    pub fn name(self) -> String {
        match self {
            Self::Handshake => "handshake".into(),
            Self::Http(status) => format!("http_{status}"),
            Self::JsonRpc(code) => format!("jsonrpc_{code}"),
            Self::Malformed => "malformed".into(),
            Self::NoReply => "no_reply".into(),
            Self::Tool => "tool_error".into(),
            Self::WrongId => "wrong_id".into(),
        }
    }
}

impl Loss {
    /// The name under which it is counted.
    pub fn name(self) -> String {
        match self {
            Self::Connect(errno) => format!("connect_errno_{errno}"),
            Self::Closed => "closed_by_server".into(),
            Self::Receive(errno) => format!("receive_errno_{errno}"),
            Self::Send(errno) => format!("send_errno_{errno}"),
        }
    }
}

/// What the owner of the lane is told.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The handshake is over; calls may be made.
    Ready,
    /// The GET stream is open.
    Listening,
    /// The call that was made at `at` is over.
    Answered { at: u64, fault: Option<Fault> },
    /// A notification or request from the server.
    Notice(&'a str),
    /// The connection is of no more use.
    Broken(Fault),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Initializing,
    /// `notifications/initialized` is sent; its 202 is awaited.
    Announced,
    Ready,
    /// GET is sent.
    Asking,
    Listening,
}

struct Call {
    id: u64,
    at: u64,
}

/// The time of a call that has not been stamped yet.
const UNSTAMPED: u64 = u64::MAX;

/// See the module.
pub struct Lane {
    reader: Reader,
    talk: Talk,
}

struct Talk {
    wire: Wire,
    verify: bool,
    stage: Stage,
    session: Vec<u8>,
    next_id: u64,
    calls: VecDeque<Call>,
    status: u16,
    /// The verdict on the answer whose HTTP end is awaited.
    verdict: Option<Option<Fault>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a str>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default, rename = "isError")]
    is_error: bool,
}

thread_local! {
    static GOOD: RefCell<Good> = RefCell::default();
}

/// The last answer that was read and found good, around its id. An answer of the same bytes but for the id is as good,
/// and known for it at the price of a comparison: reading each one as JSON makes the generator a fifth slower, and a
/// server whose clients are slow pays for their delayed ACKs.
#[derive(Default)]
struct Good {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Good {
    /// `id` is the text of its id, as a part of `answer`.
    fn learn(&mut self, answer: &[u8], id: &str) {
        let start = id.as_ptr() as usize - answer.as_ptr() as usize;
        self.before.clear();
        self.before.extend_from_slice(&answer[..start]);
        self.after.clear();
        self.after.extend_from_slice(&answer[start + id.len()..]);
    }

    /// The id of an answer that is like it.
    fn id_of(&self, answer: &[u8]) -> Option<u64> {
        let digits = answer.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..])?;
        let plain = !self.after.is_empty() && digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
    }
}

impl Lane {
    /// A lane for a connection that is not open yet.
    pub fn new(wire: Wire, verify: bool) -> Self {
        Self {
            reader: Reader::new(wire),
            talk: Talk {
                wire,
                verify,
                stage: Stage::New,
                session: Vec::new(),
                next_id: FIRST_ID,
                calls: VecDeque::new(),
                status: 0,
                verdict: None,
            },
        }
    }

    /// The connection is up: says the first word. True if there is none to say and calls may be made.
    pub fn open(&mut self, script: &Script, out: &mut Vec<u8>) -> bool {
        if script.handshake {
            self.talk.stage = Stage::Initializing;
            script.initialize(out);
        } else {
            self.talk.session.clone_from(&script.session);
            self.talk.stage = Stage::Ready;
        }
        !script.handshake
    }

    /// Makes a call that counts from `at`.
    pub fn call_at(&mut self, script: &Script, at: u64, out: &mut Vec<u8>) {
        let id = self.talk.expect(at);
        script.call(id, &self.talk.session, out);
    }

    /// Makes the request at `place` of the script's; it counts from `at`.
    pub fn ask_at(&mut self, script: &Script, place: usize, at: u64, out: &mut Vec<u8>) {
        let id = self.talk.expect(at);
        script.ask(place, id, &self.talk.session, out);
    }

    /// Asks for the server's health, on a connection that says nothing else and is not verified; it counts from `at`.
    pub fn ask_health(&mut self, script: &Script, at: u64, out: &mut Vec<u8>) {
        self.talk.stage = Stage::Ready;
        self.talk.expect(at);
        script.health(out);
    }

    /// Makes a call that counts from the next `stamp`.
    pub fn call(&mut self, script: &Script, out: &mut Vec<u8>) {
        self.call_at(script, UNSTAMPED, out);
    }

    /// Calls a named tool without arguments.
    pub fn call_named(&mut self, script: &Script, tool: &str, at: u64, out: &mut Vec<u8>) {
        let id = self.talk.expect(at);
        script.call_named(tool, id, &self.talk.session, out);
    }

    /// Pings.
    pub fn ping(&mut self, script: &Script, at: u64, out: &mut Vec<u8>) {
        let id = self.talk.expect(at);
        script.ping(id, &self.talk.session, out);
    }

    /// Opens the event stream of `session` on this connection.
    pub fn listen(&mut self, script: &Script, session: &[u8], out: &mut Vec<u8>) {
        self.talk.stage = Stage::Asking;
        script.listen(session, out);
    }

    /// Calls in another lane's session from now on.
    pub fn adopt(&mut self, session: Vec<u8>) {
        self.talk.session = session;
    }

    /// The header line of this lane's session; empty without one.
    pub fn session(&self) -> &[u8] {
        &self.talk.session
    }

    /// The calls made since the last stamp count from `now`.
    pub fn stamp(&mut self, now: u64) {
        for call in self.talk.calls.iter_mut().rev().take_while(|call| call.at == UNSTAMPED) {
            call.at = now;
        }
    }

    /// How many outstanding calls were made before `at`.
    pub fn outstanding_since(&self, at: u64) -> usize {
        self.talk.calls.iter().filter(|call| call.at < at).count()
    }

    /// How many outstanding calls count from `at` or later.
    pub fn outstanding_from(&self, at: u64) -> usize {
        self.talk.calls.iter().filter(|call| call.at >= at).count()
    }

    /// How many calls are outstanding.
    pub fn outstanding(&self) -> usize {
        self.talk.calls.len()
    }

    /// Takes bytes from the connection.
    pub fn take(
        &mut self,
        script: &Script,
        link: usize,
        bytes: &[u8],
        outbox: &mut Outbox,
        seen: &mut impl FnMut(Seen<'_>),
    ) {
        let talk = &mut self.talk;
        let taken = self.reader.take(bytes, &mut |part| talk.part(part, script, link, outbox, seen));
        if taken.is_err() {
            seen(Seen::Broken(Fault::Malformed));
        }
    }
}

impl Talk {
    fn expect(&mut self, at: u64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.calls.push_back(Call { id, at });
        id
    }

    fn part(
        &mut self,
        part: Part<'_>,
        script: &Script,
        link: usize,
        outbox: &mut Outbox,
        seen: &mut impl FnMut(Seen<'_>),
    ) {
        match part {
            Part::Head { status, session, events } => {
                self.status = status;
                self.verdict = None;
                if let (Some(session), Stage::Initializing) = (session, self.stage) {
                    self.session = [SESSION, session, LINE_END].concat();
                }
                if self.stage == Stage::Asking {
                    if status == 200 && events {
                        self.stage = Stage::Listening;
                        seen(Seen::Listening);
                    } else {
                        seen(Seen::Broken(Fault::Http(status)));
                    }
                }
            }
            Part::Message(message) => self.message(message, script, link, outbox, seen),
            Part::End => self.end(script, link, outbox, seen),
        }
    }

    fn message(
        &mut self,
        bytes: &[u8],
        script: &Script,
        link: usize,
        outbox: &mut Outbox,
        seen: &mut impl FnMut(Seen<'_>),
    ) {
        if !self.verify && self.stage == Stage::Ready {
            self.judged(None, None, seen);
            return;
        }
        if self.stage == Stage::Ready
            && let Some(id) = GOOD.with_borrow(|good| good.id_of(bytes))
        {
            self.judged(Some(id), None, seen);
            return;
        }
        let Ok(message) = serde_json::from_slice::<Message<'_>>(bytes) else {
            self.judged(None, Some(Fault::Malformed), seen);
            return;
        };
        if let Some(method) = message.method {
            seen(Seen::Notice(method));
            return;
        }
        let id = message.id.and_then(|id| id.get().parse::<u64>().ok());
        let fault = match (&message.error, message.result) {
            (Some(error), _) => Some(Fault::JsonRpc(error.code)),
            (None, None) => Some(Fault::Malformed),
            (None, Some(result)) => match serde_json::from_str::<Outcome>(result.get()) {
                Ok(outcome) if !outcome.is_error => None,
                Ok(_) => Some(Fault::Tool),
                Err(_) => Some(Fault::Malformed),
            },
        };
        if self.stage == Stage::Initializing {
            match (self.wire, fault, id) {
                (_, Some(_), _) => seen(Seen::Broken(Fault::Handshake)),
                (_, None, id) if id != Some(INITIALIZE_ID) => seen(Seen::Broken(Fault::WrongId)),
                // Over TCP a notification has no answer.
                (Wire::Ndjson, ..) => {
                    script.initialized(b"", outbox.to(link));
                    self.stage = Stage::Ready;
                    seen(Seen::Ready);
                }
                _ => self.verdict = Some(None),
            }
            return;
        }
        if let (None, Some(_), Some(text)) = (fault, id, message.id) {
            GOOD.with_borrow_mut(|good| good.learn(bytes, text.get()));
        }
        self.judged(id, fault, seen);
    }

    /// A message was judged. Over HTTP the call is over only with the answer's end.
    fn judged(&mut self, id: Option<u64>, fault: Option<Fault>, seen: &mut impl FnMut(Seen<'_>)) {
        let position = match id {
            // An error may omit the id of a request that could not be read; so may an answer that is not verified.
            None if fault.is_some() || !self.verify => Some(0),
            None => None,
            Some(id) => self.calls.iter().position(|call| call.id == id),
        };
        if self.wire != Wire::Ndjson {
            self.verdict = Some(if position.is_some() { fault } else { Some(Fault::WrongId) });
            return;
        }
        match position.and_then(|position| self.calls.remove(position)) {
            Some(call) => seen(Seen::Answered { at: call.at, fault }),
            // Nothing is outstanding under this id, so nothing is over; the owner counts it and the call stays open.
            None => seen(Seen::Broken(Fault::WrongId)),
        }
    }

    fn end(&mut self, script: &Script, link: usize, outbox: &mut Outbox, seen: &mut impl FnMut(Seen<'_>)) {
        let verdict = self.verdict.take();
        match self.stage {
            Stage::Initializing if self.status == 200 && verdict == Some(None) => {
                self.stage = Stage::Announced;
                script.initialized(&self.session, outbox.to(link));
            }
            Stage::Announced if matches!(self.status, 200 | 202 | 204) => {
                self.stage = Stage::Ready;
                seen(Seen::Ready);
            }
            Stage::Ready => {
                let fault = match (self.status, verdict) {
                    (200, Some(fault)) => fault,
                    (200, None) => Some(Fault::NoReply),
                    (status, _) => Some(Fault::Http(status)),
                };
                match self.calls.pop_front() {
                    Some(call) => seen(Seen::Answered { at: call.at, fault }),
                    None => seen(Seen::Broken(Fault::WrongId)),
                }
            }
            Stage::Listening => seen(Seen::Broken(Fault::NoReply)),
            _ => seen(Seen::Broken(Fault::Http(self.status))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    /// What a verified ndjson lane with two calls outstanding (ids 100000 and 100001) makes of `line`.
    fn verdict(line: &str) -> String {
        let payload =
            Payload { payload: 175, tool: "echo".into(), arguments: r#"{"data":"$PAD"}"#.into(), path: "/".into() };
        let script = Script::new(Wire::Ndjson, false, ([127, 0, 0, 1], 1).into(), &payload).expect("fits");
        let (mut lane, mut out, mut outbox) = (Lane::new(Wire::Ndjson, true), Vec::new(), Outbox::for_tests(1));
        assert!(lane.open(&script, &mut out));
        lane.call_at(&script, 7, &mut out);
        lane.call_at(&script, 8, &mut out);
        let mut all = String::new();
        lane.take(&script, 0, format!("{line}\n").as_bytes(), &mut outbox, &mut |seen| all += &format!("{seen:?};"));
        all
    }

    #[test]
    fn what_differs_in_its_id_alone_is_as_good() {
        let mut good = Good::default();
        assert_eq!(good.id_of(b"12"), None, "nothing is known to be good yet");
        let answer = r#"{"jsonrpc":"2.0","id":100001,"result":{"x":"100001"}}"#;
        good.learn(answer.as_bytes(), &answer[22..28]);
        for (like, id) in [
            (answer.to_owned(), Some(100_001)),
            (answer.replacen("100001", "7", 1), Some(7)),
            (answer.replace("100001", "7"), None),
            (answer.replacen("100001", "", 1), None),
            (answer.replacen("100001", "-7", 1), None),
            (answer.replacen("100001", r#"7,"id":8"#, 1), None),
            (answer.replace("result", "error"), None),
            (format!("{answer} "), None),
            (answer[..25].to_owned(), None),
        ] {
            assert_eq!(good.id_of(like.as_bytes()), id, "{like}");
        }
    }

    #[test]
    fn only_a_result_under_an_outstanding_id_is_a_success() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":100001,"result":{}}"#, "Answered { at: 8, fault: None };"),
            (r#"{"id":100000,"result":{"isError":true}}"#, "Answered { at: 7, fault: Some(Tool) };"),
            (r#"{"id":100000,"error":{"code":-32602}}"#, "Answered { at: 7, fault: Some(JsonRpc(-32602)) };"),
            (r#"{"id":99,"result":{}}"#, "Broken(WrongId);"),
            (r#"{"result":{}}"#, "Broken(WrongId);"),
            (r#"{"id":100000}"#, "Answered { at: 7, fault: Some(Malformed) };"),
            (r#"{"method":"notifications/progress"}"#, "Notice(\"notifications/progress\");"),
            ("xxxx", "Answered { at: 7, fault: Some(Malformed) };"),
        ];
        for (line, expected) in cases {
            assert_eq!(verdict(line), expected, "{line}");
        }
    }
}
