//! What a server says: answers, messages on streams, and what is done about each.
//!
//! Not here: what it is asked (`server`). Invariant: nothing a server sends reaches a caller that its flight is not of;
//! what cannot be understood fails its own flight and nothing else.

use super::answer;
use super::bridge::{QUESTIONS_MAX, Question, question};
use super::callers::Caller;
use super::channel::Channel;
use super::flight::{Asked, Errand, Flight, Relay};
use super::handshake::is_modern_code;
use super::items;
use super::owed::Creditor;
use super::request::Era;
use super::server::{CLIENT_INFO, Report, STREAM_END, Server, Verdict};
use super::settings::EraChoice;
use super::words::{self, kind};
use crate::proto::http1::MediaType;
use crate::proto::json::{Envelope, Key, Scanner, Value, ValueKind};
use crate::proto::jsonrpc::{self, Code, RpcError};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::server::service::{About, Change, Nanos};
use crate::upstream::http::{Failure, Outcome, Reply};
use crate::upstream::talk::{Line, Passage};

/// Pause before somebody comes back to a stream, if the server does not say, and at most.
const RESUME_MS: u64 = 1000;
const RESUME_MS_MAX: u64 = 60_000;
/// Pause before a server is asked again for its stream that answered it with a 5xx, or with 429.
const LISTEN_AGAIN: Nanos = 5_000_000_000;
/// How often one call's stream is taken up again.
const RESUMES_MAX: u8 = 16;

impl Server {
    /// Hears what came of errands.
    pub fn hear(&mut self, now: Nanos) {
        loop {
            match &mut self.channel {
                Channel::Http(pool) if pool.has_outcomes() => self.heard.extend(pool.outcomes()),
                Channel::Talk(_) => return self.hear_talk(now),
                Channel::Elsewhere(_) | Channel::Http(_) => return,
            }
            let mut heard = std::mem::take(&mut self.heard);
            for outcome in heard.drain(..) {
                if matches!(outcome, Outcome::Answer { .. } | Outcome::Stream { .. }) {
                    self.came_back();
                }
                match outcome {
                    Outcome::Answer { errand, reply, text } => self.answered(now, errand, &reply, &text),
                    Outcome::Failed { errand, failure } => self.failed(now, errand, &failure),
                    // What nobody waits for any more is not listened to any longer.
                    Outcome::Message { errand, .. } | Outcome::Stream { errand, .. }
                        if self.flights.find(errand).is_none() =>
                    {
                        self.channel.drop_errand(now, errand);
                    }
                    Outcome::Message { errand, text, .. } => self.message(now, errand, 200, &text),
                    Outcome::Stream { errand, reply } => {
                        if let Some(flight) = self.flights.find(errand) {
                            flight.session_id = reply.session_id;
                        }
                        self.has_stream(errand);
                    }
                    Outcome::StreamEnded { errand, last_event_id, retry_ms, is_whole } => {
                        self.stream_ended(now, errand, last_event_id, retry_ms, is_whole);
                    }
                }
            }
            self.heard = heard;
        }
    }

    /// A whole HTTP response.
    fn answered(&mut self, now: Nanos, number: u32, reply: &Reply, text: &[u8]) {
        let is_first_stream = self.is_first_stream(number);
        let Some(flight) = self.flights.find(number) else { return };
        flight.session_id.clone_from(&reply.session_id);
        let (session, serial) = (flight.session, flight.serial);
        // What is said by the way tells nothing that the next request will not: a server that refuses it would have its
        // session opened again and again.
        let is_by_the_way = matches!(flight.errand, Errand::Level | Errand::Notice);
        if let Some(session) = session
            && !self.is_retired
            && !is_by_the_way
            && !is_first_stream
            && is_session_lost(&mut self.scanner, reply.status, text, serial)
        {
            return self.session_lost(now, number, session);
        }
        match flight.errand {
            Errand::Farewell | Errand::Notice | Errand::Over => drop(self.flights.remove(number)),
            // A server that has no such stream is not asked again; one that has none to give now is, later.
            Errand::Events => {
                let session = flight.session;
                self.flights.remove(number);
                match reply.status {
                    408 | 429 | 500 | 502..=599 => self.stream_lost(number, session, now + LISTEN_AGAIN),
                    _ => self.has_no_stream(number),
                }
            }
            _ if reply.media == MediaType::Json && !text.is_empty() => {
                self.message(now, number, reply.status, text);
                // It came whole: there is no stream whose end is to come.
                self.flights.remove_answered(number);
                if self.flights.find(number).is_some_and(|flight| flight.serial == serial) {
                    let (name, status) = (&self.settings.name, reply.status);
                    let text =
                        format!("server {name} answered HTTP {status} with a message that is no answer to its request");
                    self.lost(now, number, &RpcError::new(Code::BAD_GATEWAY, text));
                }
            }
            _ => {
                let name = &self.settings.name;
                let text = match reply.status {
                    401 | 403 => format!("server {name} wants other credentials (HTTP {})", reply.status),
                    status @ 300..=399 => format!(
                        "server {name} answered HTTP {status}, which sends clients elsewhere and is not followed: let its \
                         url be where that leads"
                    ),
                    status => format!("server {name} answered HTTP {status} without a JSON-RPC message"),
                };
                self.refused_by_status(now, number, reply.status, RpcError::new(Code::BAD_GATEWAY, text));
            }
        }
    }

    /// An answer that is no message: during the handshake it says which era the server is not of.
    fn refused_by_status(&mut self, now: Nanos, number: u32, status: u16, error: RpcError) {
        let Some(flight) = self.flights.find(number) else { return };
        // What it refuses is not what it fails at (429, other credentials).
        if let (Errand::Call(relay), true) = (&mut flight.errand, (400..500).contains(&status)) {
            relay.blame = 0;
        }
        let says_legacy = says_legacy(status);
        let is_call = matches!(flight.errand, Errand::Call(_));
        if matches!(flight.errand, Errand::Reconsider) && says_legacy {
            self.flights.remove(number);
            return self.reconsidered(now, None);
        }
        if matches!(flight.errand, Errand::Discover) && says_legacy && self.settings.era == EraChoice::Auto {
            self.flights.remove(number);
            return self.initialize(now, self.own_session());
        }
        self.lost(now, number, &error);
        if is_call {
            self.doubt_era(now, status, None);
        }
    }

    /// One JSON-RPC message that came for a flight.
    pub(super) fn message(&mut self, now: Nanos, number: u32, status: u16, text: &[u8]) {
        let mut envelope = Envelope::default();
        if let Err(error) = self.scanner.scan(text, &mut envelope) {
            let text = format!("server {} sent what is no JSON-RPC message: {error}", self.settings.name);
            return self.refused_by_status(now, number, status, RpcError::new(Code::BAD_GATEWAY, text));
        }
        if envelope.has(Key::Method) {
            return if envelope.has(Key::Id) {
                self.asked(now, number, &envelope, text)
            } else {
                self.notified(now, number, &envelope, text)
            };
        }
        let Some(flight) = self.flights.find(number) else { return };
        if matches!(flight.errand, Errand::Events | Errand::Farewell | Errand::Notice | Errand::Over) {
            return;
        }
        let answers = envelope.value(Key::Id, text).and_then(Value::as_u64) == Some(flight.serial);
        // Servers leave the id out, or say null, of errors for requests that they could not read.
        let anonymous = envelope.value(Key::Id, text).is_none_or(Value::is_null) && envelope.has(Key::Error);
        if !answers && !anonymous {
            return;
        }
        match (envelope.text(Key::Result, text), envelope.text(Key::Error, text)) {
            (Some(result), None) => self.result(now, number, result),
            (None, Some(error)) => self.error(now, number, status, error),
            _ => {
                let text = format!("server {} sent an answer with neither result nor error", self.settings.name);
                self.lost(now, number, &RpcError::new(Code::BAD_GATEWAY, text));
            }
        }
    }

    /// Whether it is to be found out whether a server is legacy, and was not.
    pub(super) fn may_be_legacy(&self) -> bool {
        self.settings.era == EraChoice::Auto && !self.is_legacy
    }

    fn result(&mut self, now: Nanos, number: u32, result: &[u8]) {
        let Some(flight) = self.flights.find(number) else { return };
        let (session, session_id, serial) = (flight.session, flight.session_id.take(), flight.serial);
        match self.flights.finish(number, now + STREAM_END) {
            Some(Errand::Call(relay)) => self.concluded(now, serial, relay, session, result),
            Some(Errand::Discover) => self.discovered(now, result),
            Some(Errand::Initialize(capabilities)) => self.initialized(now, capabilities, session_id, result),
            Some(Errand::Page(pages)) => self.page(now, pages, Value::new(result)),
            Some(Errand::Greet(line)) => self.greeted(now, line, Value::new(result)),
            Some(Errand::Level) => self.level_settled(now, session, true),
            Some(Errand::Reconsider) => self.reconsidered(now, Some(result)),
            _ => {}
        }
    }

    fn error(&mut self, now: Nanos, number: u32, status: u16, error: &[u8]) {
        let Some(flight) = self.flights.find(number) else { return };
        let (session, serial) = (flight.session, flight.serial);
        let code = Value::new(error).get("code").and_then(Value::as_i64);
        match flight.errand {
            Errand::Discover if !is_modern_code(code) && self.settings.era == EraChoice::Auto => {
                self.flights.finish(number, now + STREAM_END);
                return self.initialize(now, self.own_session());
            }
            // One that has too much to do, or fails, says nothing of what it speaks.
            Errand::Reconsider if !is_modern_code(code) && (status == 200 || says_legacy(status)) => {
                self.flights.finish(number, now + STREAM_END);
                return self.reconsidered(now, None);
            }
            Errand::Call(_) | Errand::Page(_) => self.doubt_era(now, status, code),
            _ => {}
        }
        match self.flights.finish(number, now + STREAM_END) {
            Some(Errand::Call(relay)) => {
                self.give_back_questions(now, &relay, session);
                if status >= 500 {
                    self.call_failed(now, &relay);
                } else {
                    self.call_answered(now, &relay);
                }
                if session.is_some() {
                    self.owe_visits(now, &relay, Value::new(error));
                }
                // Of a legacy server every code is its caller's already.
                let method = session.is_none().then_some(relay.method);
                let mut error = answer::error_for(relay.version, method, error);
                if let (Some(before), Method::ResourcesRead) = (&relay.uris, relay.method) {
                    error = answer::of_resource(error, before);
                }
                self.tell_outcome(now, serial, relay, Err(error));
            }
            // It has levels of its own, and was asked.
            Some(Errand::Level) => self.level_settled(now, session, true),
            Some(other) => {
                let said = answer::error_for(Version::LATEST_LEGACY, None, error);
                // A server without such things has a list without items.
                if let (Errand::Page(pages), Code::METHOD_NOT_FOUND) = (&other, said.code) {
                    return self.reports.push(Report::List(pages.kind, Ok(Vec::new())));
                }
                let text = format!(
                    "server {} answered HTTP {status}, error {}: {}",
                    self.settings.name, said.code.0, said.message
                );
                self.errand_lost(now, other, session, &RpcError::new(Code::BAD_GATEWAY, text));
            }
            None => {}
        }
    }

    /// A call's result is there.
    fn concluded(&mut self, now: Nanos, serial: u64, relay: Relay, session: Option<Capabilities>, result: &[u8]) {
        self.give_back_questions(now, &relay, session);
        let value = Value::new(result);
        if value.kind() != ValueKind::Object {
            let text = format!("server {} sent a result that is no object", self.settings.name);
            self.call_failed(now, &relay);
            return self.tell_outcome(now, serial, relay, Err(RpcError::new(Code::BAD_GATEWAY, text)));
        }
        self.call_answered(now, &relay);
        let is_legacy_server = session.is_some();
        if is_legacy_server {
            self.owe_task(now, &relay, value);
        }
        if !is_legacy_server && !relay.version.is_modern() {
            let kind = value.get("resultType").and_then(Value::as_str);
            if kind.as_deref() == Some("input_required") {
                return self.input_required(now, relay, value);
            }
        }
        let server_info = self.about.as_ref().map_or(&b""[..], |about| &about.server_info);
        let is_modern = relay.version.is_modern();
        // Between eras not everything can be said.
        let mut fitting = match relay.method {
            _ if is_modern != is_legacy_server => None,
            Method::ToolsList => items::tools_for_other_era(result, is_modern),
            _ if is_modern => None,
            _ => items::result_for_legacy(value),
        };
        if is_legacy_server && relay.method == Method::TasksList {
            fitting = Some(self.tasks_of(&relay, value));
        }
        if is_modern && is_legacy_server {
            fitting = Some(answer::for_modern(fitting.as_deref().unwrap_or(result), relay.method, server_info));
        }
        let mut result = fitting.unwrap_or_else(|| result.to_vec());
        if let Some(before) = &relay.uris {
            result = super::uris::seen(&result, relay.method, before).unwrap_or(result);
            result = super::task_ids::seen(&result, relay.method, before).unwrap_or(result);
        }
        self.tell_outcome(now, serial, relay, Ok(result));
    }

    pub(super) fn discovered(&mut self, now: Nanos, result: &[u8]) {
        let value = Value::new(result);
        if !says_modern(value) {
            if self.settings.era == EraChoice::Auto {
                return self.initialize(now, self.own_session());
            }
            let name = &self.settings.name;
            return self.unfit(now, format!("server {name} does not speak 2026-07-28, the era configured for it"));
        }
        let info = value.get("_meta").and_then(|meta| meta.get(answer::SERVER_INFO));
        self.introduced(value, info, true);
        self.verdict = Verdict::Known(Era::Modern);
        self.line_is_ready(self.line);
        self.reached(now);
        for kept in std::mem::take(&mut self.waiting) {
            self.send_kept(now, kept, None);
        }
    }

    fn initialized(&mut self, now: Nanos, capabilities: Capabilities, session_id: Option<Box<[u8]>>, result: &[u8]) {
        let value = Value::new(result);
        let version = value.get("protocolVersion").and_then(Value::as_str);
        let Some(version) =
            version.and_then(|version| Version::parse(version.as_bytes())).filter(|one| !one.is_modern())
        else {
            let text = format!("server {} chose a protocol version that is not served", self.settings.name);
            let error = RpcError::new(Code::BAD_GATEWAY, text);
            return self.errand_lost(now, Errand::Initialize(capabilities), None, &error);
        };
        if self.verdict == Verdict::Asking {
            self.introduced(value, value.get("serverInfo"), false);
            self.verdict = Verdict::Known(Era::Legacy(version));
            self.line_is_ready(self.line);
            self.reached(now);
        }
        let place = self.place_for(now, capabilities);
        self.sessions[place].id = Some(session_id.unwrap_or_default());
        self.sessions[place].since = self.serial;
        self.sessions[place].version = version;
        let body = |out: &mut Vec<u8>| {
            out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        };
        let (deadline, line) = (now + self.settings.list_time, self.line);
        let (era, session, passage) = (Some(Era::Legacy(version)), Some(capabilities), Passage::Notice(line));
        self.errand(now, Errand::Notice, era, session, None, passage, deadline, body);
        self.send_waiting(now, place);
        for kept in std::mem::take(&mut self.waiting) {
            self.enqueue(now, kept);
        }
        if capabilities == self.own_session() {
            self.watch_all(now);
        }
        self.listen(now);
    }

    /// Notes who the server is and what it offers.
    fn introduced(&mut self, value: Value<'_>, info: Option<Value<'_>>, modern: bool) {
        let offers = value.get("capabilities").map(|offered| answer::offers(offered, modern)).unwrap_or_default();
        self.about = Some(About {
            server_info: info.map_or_else(|| CLIENT_INFO.to_vec(), |info| info.raw().to_vec()),
            instructions: value
                .get("instructions")
                .filter(|text| text.kind() == ValueKind::String)
                .map(|text| text.raw().to_vec()),
            offers,
        });
    }

    fn reached(&mut self, now: Nanos) {
        self.is_news = true;
        self.metrics.reached.add(1);
        self.failures = 0;
        self.note_failure(String::new());
        self.reports.push(Report::Reached);
        self.reports.push(Report::Changed(Change::Tools));
        self.greet_all(now);
        if self.verdict == Verdict::Known(Era::Modern) {
            self.listen(now);
        }
    }

    /// The server asks something in the course of a call (legacy servers only).
    pub(super) fn asked(&mut self, now: Nanos, number: u32, envelope: &Envelope, text: &[u8]) {
        self.noise.heard(now);
        // On a stream of its own the server does not say for whom it asks.
        let is_of_session = matches!(self.flights.find(number), Some(Flight { errand: Errand::Events, .. }));
        let meant = if is_of_session { self.call_meant_in_session() } else { None };
        let number = meant.unwrap_or(number);
        let flight = self.flights.find(number);
        let session = flight.as_ref().and_then(|flight| flight.session);
        let before = flight.as_ref().map_or(now, |flight| flight.deadline);
        let id: Box<[u8]> = envelope.get(Key::Id).of(text).into();
        let method = envelope.str(Key::Method, text).unwrap_or_default();
        let relay = flight.and_then(|flight| match &mut flight.errand {
            Errand::Call(relay) => Some(relay),
            _ => None,
        });
        let is_anybodys = relay.is_none();
        if let (Some(relay), Some(method)) = (relay, question(&method)) {
            let params = envelope.text(Key::Params, text).unwrap_or(b"{}");
            let params = match &relay.uris {
                Some(before) => super::task_ids::question(params, before),
                None => params.to_vec(),
            };
            if relay.version.is_modern() {
                if relay.can_answer(method) {
                    return self.park(now, number, Question { id, method, params });
                }
                return self.not_declared(now, number, id, method);
            }
            if relay.may_ask && relay.can_answer(method) && relay.asked < QUESTIONS_MAX {
                let ask = relay.asked;
                relay.asked += 1;
                let token = envelope.text(Key::MetaProgressToken, text).map(Into::into);
                relay.asks.push(Asked { number: ask, id, token });
                let creditor = Creditor::of(relay);
                self.callers.ask(relay.caller, ask, method, params);
                // People need longer than tools, and have as long as the tools of this process give them.
                let deadline = before.max(now + self.settings.ask_time);
                self.flights.set_deadline(number, deadline);
                if let (Some(creditor), Some(asked)) = (creditor, envelope.value(Key::Params, text)) {
                    self.owe_visit(now, creditor, asked);
                }
                return;
            }
        }
        let outcome = match &*method {
            "ping" => Ok(&b"{}"[..]),
            _ if is_anybodys => Err(RpcError::new(
                Code::METHOD_NOT_FOUND,
                "clients share this session, and it cannot be told which of them is asked: ask on the stream of a call, \
                 or have this server configured with sessions = \"per_session\"",
            )),
            _ => Err(RpcError::new(Code::METHOD_NOT_FOUND, "the caller of this call cannot be asked that")),
        };
        self.tell_answer(now, self.line, session, &id, outcome);
    }

    /// The caller answered a question of the server's.
    pub fn caller_answered(
        &mut self,
        now: Nanos,
        caller: Caller,
        began: Option<u32>,
        ask: u32,
        answer: Result<&[u8], RpcError>,
    ) {
        if let Some(owner) = self.channel.owner() {
            let text = words::write_said(ask, "", &words::write_outcome(&answer));
            return self.callers.tell(owner, kind::ANSWER, words::number_of(caller.key), text);
        }
        if self.round_answered(now, caller, ask, &answer) {
            return;
        }
        let Some(number) = self.flight_of(caller, began) else { return };
        let Some(flight) = self.flights.find(number) else { return };
        let (session, serial) = (flight.session, flight.serial);
        let Errand::Call(relay) = &mut flight.errand else { return };
        let Some(place) = relay.asks.iter().position(|asked| asked.number == ask) else { return };
        let Asked { id, .. } = relay.asks.swap_remove(place);
        if relay.asks.is_empty() {
            self.flights.set_deadline(number, now + self.settings.call_time);
        }
        let Some(line) = self.channel.line_of(serial) else { return };
        self.tell_answer(now, line, session, &id, answer);
    }

    pub(super) fn tell_answer(
        &mut self,
        now: Nanos,
        line: Line,
        session: Option<Capabilities>,
        id: &[u8],
        answer: Result<&[u8], RpcError>,
    ) {
        let Some(era @ Era::Legacy(_)) = self.verdict.era() else { return };
        let body = |out: &mut Vec<u8>| match answer {
            Ok(result) => {
                jsonrpc::begin_result(out, id);
                out.extend_from_slice(result);
                jsonrpc::end(out);
            }
            Err(error) => jsonrpc::error(out, Some(id), true, &error),
        };
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Notice, Some(era), session, None, Passage::Notice(line), deadline, body);
    }

    /// The server tells something.
    pub(super) fn notified(&mut self, now: Nanos, number: u32, envelope: &Envelope, text: &[u8]) {
        self.noise.heard(now);
        let Some(method) = envelope.str(Key::Method, text) else { return };
        let method = &*method;
        let change = match method {
            "notifications/tools/list_changed" => Some(Change::Tools),
            "notifications/prompts/list_changed" => Some(Change::Prompts),
            "notifications/resources/list_changed" => Some(Change::Resources),
            "notifications/resources/updated" => {
                envelope.str(Key::Uri, text).map(|uri| Change::Resource(uri.into_owned()))
            }
            _ => None,
        };
        if let Some(change) = change {
            // Nobody hears of what nobody watches.
            let heard = match change {
                Change::Resource(uri) => self.watched_with(&uri).into_iter().map(Change::Resource).collect(),
                list => vec![list],
            };
            let told = heard.into_iter().filter_map(|change| self.changes.note(now, change));
            return self.reports.extend(told.map(Report::Changed));
        }
        if method == "notifications/subscriptions/acknowledged" && self.events == Some(number) {
            // The new stream says all that the one before would.
            if let Some(before) = self.events_before.take() {
                self.end_events(now, before);
            }
            return;
        }
        let params = envelope.value(Key::Params, text);
        match (method, params) {
            ("notifications/tasks", Some(params)) => return self.task_is_news(now, params),
            ("notifications/tasks/status", Some(params)) => return self.task_stands(params),
            ("notifications/elicitation/complete", Some(params)) => return self.visit_is_done(number, params),
            _ => {}
        }
        let Some(flight) = self.flights.find(number) else { return };
        // What is logged on no call's stream is of no call that could be told, unless all are one client's.
        let number = match flight.errand {
            Errand::Events if method == "notifications/message" => self.call_meant_in_session().unwrap_or(number),
            _ => number,
        };
        let Some(flight) = self.flights.find(number) else { return };
        let serial = flight.serial;
        let (Errand::Call(relay), Some(params)) = (&flight.errand, params) else { return };
        match method {
            "notifications/progress" => {
                let theirs = params.get("progressToken").and_then(Value::as_u64) == Some(serial);
                // One that is parked has nobody who would like to know, and its own time.
                if let Some(token) = relay.token.as_ref().filter(|_| theirs && !relay.is_parked) {
                    let params = answer::with_token(params, token);
                    self.callers.notice(relay.caller, "notifications/progress", params);
                    // Who shows progress is given more time, unless its caller has more to answer in; the most that a
                    // call may have is the core's to keep.
                    if relay.asks.is_empty() {
                        self.flights.set_deadline(number, now + self.settings.call_time);
                    }
                }
            }
            "notifications/message" => {
                let level = params.get("level").and_then(Value::as_str);
                let level = level.and_then(|level| LogLevel::parse(level.as_bytes())).unwrap_or(LogLevel::Emergency);
                if relay.log_level.is_some_and(|wanted| level >= wanted) {
                    let params = params.raw().to_vec();
                    self.callers.notice(relay.caller, "notifications/message", params);
                }
            }
            _ => {}
        }
    }

    /// A stream is over. One of a legacy server's that has not answered may be taken up where it ended (2025-11-25,
    /// "Resumability and Redelivery").
    fn stream_ended(
        &mut self,
        now: Nanos,
        number: u32,
        last_event_id: Box<[u8]>,
        retry_ms: Option<u64>,
        is_whole: bool,
    ) {
        let Some(flight) = self.flights.find(number) else { return };
        let pause = retry_ms.unwrap_or(RESUME_MS).clamp(1, RESUME_MS_MAX) * 1_000_000;
        match &flight.errand {
            Errand::Farewell | Errand::Notice | Errand::Over => drop(self.flights.remove(number)),
            Errand::Events => {
                let session = flight.session;
                self.flights.remove(number);
                self.stream_lost(number, session, now + pause.max(RESUME_MS * 1_000_000));
            }
            Errand::Call(relay)
                if flight.session.is_some() && !last_event_id.is_empty() && flight.resumed < RESUMES_MAX =>
            {
                let caller = relay.caller;
                flight.resumed += 1;
                // A server that says when to come back has let go of the stream on purpose ("Polling", SEP-1699). Its
                // caller's is let go of as well: how long it has to be open is the server's to choose.
                if is_whole && retry_ms.is_some() {
                    self.callers.end_stream(caller);
                }
                self.resumable.push((now + pause, number, last_event_id));
            }
            _ => {
                let text = format!("server {} ended its stream without an answer", self.settings.name);
                self.lost(now, number, &RpcError::new(Code::BAD_GATEWAY, text));
            }
        }
    }

    fn failed(&mut self, now: Nanos, number: u32, failure: &Failure) {
        let name = &self.settings.name;
        let text = format!("server {name}: {failure}");
        let code = if matches!(failure, Failure::Full { .. }) { Code::OVERLOADED } else { Code::BAD_GATEWAY };
        if let Some(Flight { errand: Errand::Call(relay), .. }) = self.flights.find(number) {
            relay.blame = match failure {
                Failure::Full { .. } => 0,
                Failure::Unreachable(_) | Failure::Tls(_) | Failure::Proxy(_) => 2,
                _ => 1,
            };
        }
        if matches!(failure, Failure::Unreachable(_) | Failure::Tls(_) | Failure::Proxy(_)) {
            self.went_away(&text);
        }
        self.lost(now, number, &RpcError::new(code, text));
    }

    /// A flight brings no answer; what may still come of it is not listened to.
    pub(super) fn lost(&mut self, now: Nanos, number: u32, error: &RpcError) {
        let Some(flight) = self.flights.remove(number) else { return };
        self.channel.drop_errand(now, number);
        if self.events_before == Some(number) {
            self.events_before = None;
            return;
        }
        self.errand_lost(now, flight.errand, flight.session, error);
    }

    pub(super) fn errand_lost(&mut self, now: Nanos, errand: Errand, session: Option<Capabilities>, error: &RpcError) {
        match errand {
            // A caller that was sent away hears nothing: it is answered when it comes back.
            Errand::Call(relay) if relay.is_parked => self.call_failed(now, &relay),
            Errand::Call(relay) => {
                self.call_failed(now, &relay);
                if let Some(relay) = self.again(now, relay, error) {
                    self.callers.reply(relay.caller, Err(error.clone()));
                }
            }
            // By lines a question that is not understood may well find no answer.
            Errand::Discover if self.channel.is_talk() && self.may_be_legacy() => {
                self.is_legacy = true;
                self.initialize(now, self.own_session());
            }
            Errand::Discover => self.unfit(now, error.message.to_string()),
            Errand::Initialize(capabilities) => {
                if self.verdict == Verdict::Asking {
                    // If that was a guess, the next one is another.
                    self.is_legacy = false;
                    self.unfit(now, error.message.to_string());
                }
                self.session_failed(capabilities, error);
                self.reconsider(now);
            }
            Errand::Events => {
                self.forget_events(session);
                self.listen_at = now + RESUME_MS * 1_000_000;
            }
            Errand::Page(pages) => self.reports.push(Report::List(pages.kind, Err(error.clone()))),
            Errand::Greet(line) => self.refuse_line(now, line, &error.message),
            Errand::Level => self.level_settled(now, session, false),
            Errand::Reconsider => self.reconsidered_in_vain(now),
            Errand::Farewell | Errand::Notice | Errand::Over => {}
        }
    }
}

/// Whether an answer to `server/discover` says that 2026-07-28 is spoken.
pub(super) fn says_modern(result: Value<'_>) -> bool {
    let speaks = result.get("supportedVersions").into_iter().flat_map(Value::elements);
    speaks.filter_map(Value::as_str).any(|version| version == Version::V2026_07_28.as_str())
}

/// Whether a refusal with this status may be that of a server which does not know the request: 401, 403 and 5xx are no
/// evidence of an era (mcp 2026-07-28, "Era detection"), nor is 429.
fn says_legacy(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 403 | 429)
}

/// Whether an answer to a request in a session says that the session is gone: 404 (2025-11-25, "Session Management"),
/// or, as some servers have it, 400 with words to that effect. Who names the request in its answer has read it, and may
/// have done what it asks: if it speaks of a session that is another, and the call is not sent again; unless it says so
/// by the code that is there for it, as corelane does.
fn is_session_lost(scanner: &mut Scanner, status: u16, text: &[u8], serial: u64) -> bool {
    let speaks_of_session = || {
        let text = text[..text.len().min(1024)].to_ascii_lowercase();
        text.windows(7).any(|window| window == b"session")
    };
    let mut names_request = || {
        let mut envelope = Envelope::default();
        let is_json = scanner.scan(text, &mut envelope).is_ok();
        let code = envelope.value(Key::Error, text).and_then(|error| error.get("code")).and_then(Value::as_i64);
        let says_so = code == Some(i64::from(Code::SESSION_NOT_FOUND.0));
        is_json && !says_so && envelope.value(Key::Id, text).and_then(Value::as_u64) == Some(serial)
    };
    match status {
        404 => !names_request(),
        400 => speaks_of_session() && !names_request(),
        _ => false,
    }
}
