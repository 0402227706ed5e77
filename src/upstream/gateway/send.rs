//! What one server is sent: calls, errands of the gateway's own, streams taken up again, and how each is written for
//! the way in which the server is reached.
//!
//! Not here: what it answers (`hear`), when a call is sent (`server`).
//! Invariant: a flight that is begun is told to the channel once, and its id on the wire is its serial.

use super::callers::Caller;
use super::flight::{Errand, Flight, Relay};
use super::mirrors::{Mirrors, PARAM, TIME_LEFT};
use super::request::{self, Era, Outgoing};
use super::server::{CLIENT_INFO, Server, Verdict};
use super::settings::{HttpLink, LinkSettings};
use super::words::{self, kind};
use crate::proto::http1::respond::Mark;
use crate::proto::http1::{RequestError, RequestWriter, finish_post};
use crate::proto::json::{Envelope, Key, Object, compact, has_newline};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::Nanos;
use crate::upstream::talk::{Line, Passage};

/// What is said of a `requestState` that leads nowhere.
pub(super) const STALE: &str = "requestState is not valid for this call, or no longer";

impl Server {
    /// Writes a call as a request, and the id that it has there.
    ///
    /// # Errors
    /// What the caller is told if that cannot be.
    pub(super) fn compose(
        &mut self,
        now: Nanos,
        call: &Outgoing<'_>,
        session: Option<Capabilities>,
    ) -> Result<(u64, Vec<u8>), RpcError> {
        let Some(era) = self.verdict.era() else { unreachable!("nothing is sent before the era is known") };
        // A legacy server gives no state: this one is of a call that is parked no longer, or of nobody.
        if call.version.is_modern() && !era.is_modern() && call.envelope.has(Key::RequestState) {
            return Err(RpcError::new(Code::INVALID_PARAMS, STALE));
        }
        if call.version.is_modern()
            && !era.is_modern()
            && let Some(text) = request::without_task(call)
        {
            let mut envelope = Envelope::default();
            let said = self.scanner.scan(&text, &mut envelope);
            said.map_err(|error| RpcError::new(Code::INVALID_PARAMS, error.to_string()))?;
            return self.compose(now, &Outgoing { text: &text, envelope: &envelope, ..*call }, session);
        }
        let serial = self.next_serial();
        let mut text = Vec::with_capacity(512 + call.text.len());
        match &self.settings.link {
            LinkSettings::Http(link) => {
                let mut headers = if era.is_modern() { self.mirrors(call) } else { Mirrors::default() };
                headers.time_left = (call.latest != Nanos::MAX).then(|| call.latest.saturating_sub(now));
                let method = Some(call.method.as_str());
                let mark = self.begin_post(&mut text, link, Some(era), session, method, headers);
                let mark = mark.map_err(|error| unwritable(&error))?;
                request::write(&mut text, call, era, serial);
                finish_post(&mut text, mark);
            }
            LinkSettings::Child(_) | LinkSettings::DialIn(_) => {
                request::write(&mut text, call, era, serial);
                end_line(&mut text);
            }
            LinkSettings::Sse(..) => request::write(&mut text, call, era, serial),
        }
        Ok((serial, text))
    }

    /// Sends what was composed; the number of its flight.
    pub(super) fn send_call(
        &mut self,
        now: Nanos,
        serial: u64,
        text: Vec<u8>,
        mut relay: Relay,
        session: Option<Capabilities>,
    ) -> u32 {
        relay.sent_at = now;
        let deadline = now + self.settings.call_time;
        let flight = Flight { serial, errand: Errand::Call(relay), session, deadline, resumed: 0, session_id: None };
        let number = self.flights.insert(flight);
        self.channel.submit(now, number, Passage::Request(serial), text);
        number
    }

    /// Begins a POST. Without an era the server is told none (`initialize`).
    fn begin_post(
        &self,
        out: &mut Vec<u8>,
        link: &HttpLink,
        era: Option<Era>,
        session: Option<Capabilities>,
        method: Option<&str>,
        mirrors: Mirrors<'_>,
    ) -> Result<Mark, RequestError> {
        let mut writer = RequestWriter::post(out, &link.target);
        for (field, value) in &link.fields.0 {
            writer.field(field, value);
        }
        // What the operator says of it holds.
        let is_said = |(field, _): &(Box<str>, Box<[u8]>)| field.eq_ignore_ascii_case(TIME_LEFT);
        if let Some(left) = mirrors.time_left.filter(|_| !link.fields.0.iter().any(is_said)) {
            writer.field(TIME_LEFT, (left / 1_000_000).max(1).to_string().as_bytes());
        }
        match era {
            Some(Era::Modern) => {
                writer.field("MCP-Protocol-Version", Version::V2026_07_28.as_str().as_bytes());
                if let Some(method) = method {
                    writer.field("Mcp-Method", method.as_bytes());
                }
                if let Some(name) = mirrors.name {
                    writer.mirrored("Mcp-Name", "", &name);
                }
                for (suffix, value) in mirrors.params {
                    writer.mirrored(PARAM, suffix, &value);
                }
                for (suffix, value) in mirrors.passed_on {
                    writer.passed_on(PARAM, suffix, value);
                }
            }
            Some(Era::Legacy(_)) => self.session_fields(&mut writer, session),
            None => {}
        }
        writer.begin_body()
    }

    pub(super) fn session_fields(&self, writer: &mut RequestWriter<'_>, session: Option<Capabilities>) {
        let Some(session) = self.sessions.iter().find(|one| Some(one.capabilities) == session) else { return };
        if session.version >= Version::V2025_06_18 {
            writer.field("MCP-Protocol-Version", session.version.as_str().as_bytes());
        }
        if let Some(id) = session.id.as_deref().filter(|id| !id.is_empty()) {
            writer.field("Mcp-Session-Id", id);
        }
    }

    /// Sends a message of the gateway's own.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn errand(
        &mut self,
        now: Nanos,
        errand: Errand,
        era: Option<Era>,
        session: Option<Capabilities>,
        method: Option<&str>,
        passage: Passage,
        deadline: Nanos,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        let mut text = Vec::with_capacity(512);
        let written = match &self.settings.link {
            LinkSettings::Http(link) => {
                self.begin_post(&mut text, link, era, session, method, Mirrors::default()).map(|mark| {
                    body(&mut text);
                    finish_post(&mut text, mark);
                })
            }
            LinkSettings::Child(_) | LinkSettings::DialIn(_) => {
                body(&mut text);
                end_line(&mut text);
                Ok(())
            }
            LinkSettings::Sse(..) => {
                body(&mut text);
                Ok(())
            }
        };
        // By lines a notification is all there is: nothing says that it arrived.
        let is_over = self.channel.is_talk() && passage.id().is_none();
        let serial = passage.id().unwrap_or_default();
        let flight = Flight { serial, errand, session, deadline, resumed: 0, session_id: None };
        let number = self.flights.insert(flight);
        match written {
            Ok(()) => self.channel.submit(now, number, passage, text),
            Err(error) => self.lost(now, number, &unwritable(&error)),
        }
        if is_over {
            self.flights.remove(number);
        }
        number
    }

    /// Opens the stream on which the server tells of changes, if it has one and this core is the one to listen.
    pub(super) fn listen(&mut self, now: Nanos) {
        // A child tells of changes wherever it likes.
        if let (Verdict::Known(Era::Legacy(_)), false) = (self.verdict, self.channel.is_talk()) {
            return self.listen_in_sessions(now);
        }
        if !self.listens || (self.events.is_some() && !self.is_choice_new) {
            return;
        }
        let Some(offers) = self.about.as_ref().map(|about| about.offers) else { return };
        // A session has no lists of its own.
        let lists = [
            ("toolsListChanged", offers.tools_list_changed && !self.is_own),
            ("promptsListChanged", offers.prompts_list_changed && !self.is_own),
            ("resourcesListChanged", offers.resources_list_changed && !self.is_own),
        ];
        let has_lists = lists.iter().any(|(_, wanted)| *wanted);
        let (mut uris, mut tasks) = self.watched();
        if !offers.resources_subscribe {
            uris.clear();
        }
        if !offers.tasks_extension {
            tasks.clear();
        }
        let owned = |topics: &mut dyn Iterator<Item = &str>| topics.map(Box::from).collect::<Vec<Box<str>>>();
        let watched = [owned(&mut uris.into_iter()), owned(&mut tasks.into_iter())];
        let watches = watched.iter().any(|topics| !topics.is_empty());
        self.listened_to = watched.iter().flatten().map(|topic| topic.len()).sum();
        self.is_choice_new = false;
        if !has_lists
            && !watches
            && let Some(number) = self.events.take()
        {
            self.end_events(now, number);
        }
        match self.verdict {
            Verdict::Known(Era::Modern) if has_lists || watches => {
                let serial = self.next_serial();
                let body = |out: &mut Vec<u8>| {
                    write_request(out, serial, "subscriptions/listen", |params| {
                        let of_tasks = Capabilities::TASKS_EXTENSION;
                        modern_meta(params, if watched[1].is_empty() { Capabilities::default() } else { of_tasks });
                        let mut wanted = params.object("notifications");
                        for (name, _) in lists.into_iter().filter(|(_, wanted)| *wanted) {
                            wanted.boolean(name, true);
                        }
                        for (name, topics) in ["resourceSubscriptions", "taskIds"].into_iter().zip(&watched) {
                            if !topics.is_empty() {
                                let mut all = wanted.array(name);
                                topics.iter().for_each(|topic| all.string(topic));
                                all.end();
                            }
                        }
                        wanted.end();
                    });
                };
                let (era, method) = (Some(Era::Modern), Some("subscriptions/listen"));
                let passage = Passage::Request(serial);
                let number = self.errand(now, Errand::Events, era, None, method, passage, Nanos::MAX, body);
                if let Some(before) = self.events.replace(number)
                    && let Some(older) = self.events_before.replace(before)
                {
                    self.end_events(now, older);
                }
            }
            _ => {}
        }
    }

    /// Ends a stream of changes of our own accord.
    pub(super) fn end_events(&mut self, now: Nanos, number: u32) {
        let Some(flight) = self.flights.remove(number) else { return };
        let line = self.channel.line_of(flight.serial);
        self.channel.drop_errand(now, number);
        self.tell_cancelled(now, line, flight.serial, flight.session);
    }

    /// Opens the streams of legacy sessions: one core's for changes, and those of callers who can be asked, because
    /// servers ask on them as well, and would wait for an answer if they were not refused.
    fn listen_in_sessions(&mut self, now: Nanos) {
        let own = self.own_session();
        for place in 0..self.sessions.len() {
            let session = &self.sessions[place];
            let capabilities = session.capabilities;
            // A session's own server asks its one client, and has no other stream; what is logged on no call's stream
            // comes on this one. Where clients share a session, neither could be said to be one's.
            let is_asking = capabilities != if self.is_own { Capabilities::default() } else { own };
            let is_logging = self.is_own && session.level.is_told();
            let is_wanted = self.listens || is_asking || is_logging || session.owes;
            if session.id.is_none() || session.events.is_some() || !is_wanted {
                continue;
            }
            let Some(text) = self.get_events(Some(capabilities), None) else { return };
            let (serial, session) = (self.next_serial(), Some(capabilities));
            let (errand, deadline) = (Errand::Events, Nanos::MAX);
            let number =
                self.flights.insert(Flight { serial, errand, session, deadline, resumed: 0, session_id: None });
            self.sessions[place].events = Some(number);
            self.channel.submit(now, number, Passage::Request(serial), text);
        }
    }

    /// A GET of a stream of events in a session, behind the last that came of it.
    fn get_events(&self, session: Option<Capabilities>, last_event_id: Option<&[u8]>) -> Option<Vec<u8>> {
        let LinkSettings::Http(link) = &self.settings.link else { return None };
        let mut text = Vec::new();
        let mut writer = RequestWriter::get_events(&mut text, &link.target, last_event_id);
        for (field, value) in &link.fields.0 {
            writer.field(field, value);
        }
        self.session_fields(&mut writer, session);
        writer.end().ok().map(|()| text)
    }

    /// Takes up the streams again whose pause is over.
    pub(super) fn resume_streams(&mut self, now: Nanos) {
        let (due, later) = std::mem::take(&mut self.resumable).into_iter().partition(|(at, ..)| *at <= now);
        self.resumable = later;
        for (_, number, last_event_id) in due {
            let Some((session, serial)) = self.flights.find(number).map(|flight| (flight.session, flight.serial))
            else {
                continue;
            };
            match self.get_events(session, Some(&last_event_id)) {
                Some(text) => self.channel.submit(now, number, Passage::Request(serial), text),
                None => {
                    let text = format!("server {} gave an event id that no header can hold", self.settings.name);
                    self.lost(now, number, &RpcError::new(Code::BAD_GATEWAY, text));
                }
            }
        }
        if self.listen_at <= now {
            self.listen_at = Nanos::MAX;
            self.listen(now);
        }
    }

    /// The caller of a call is gone. A modern server behind HTTP hears of it by the end of its stream, all others are
    /// told (2025-11-25, "Cancellation").
    pub fn cancel(&mut self, now: Nanos, caller: Caller, number: Option<u32>) {
        if let super::channel::Channel::Elsewhere(remote) = &mut self.channel {
            let owner = remote.owner;
            if remote.calls.remove(caller.key) {
                self.callers.tell(owner, kind::CANCEL, words::number_of(caller.key), Vec::new());
            }
            return;
        }
        self.drop_waiting(caller);
        self.drop_round(caller);
        let Some(number) = number else { return };
        self.ends_unanswered(now, number);
        let Some(flight) = self.flights.remove(number) else { return };
        if let Errand::Call(relay) = &flight.errand {
            self.breakers.untold(&relay.tool, relay.tried);
        }
        let line = self.channel.line_of(flight.serial);
        self.channel.drop_errand(now, number);
        self.resumable.retain(|(_, other, _)| *other != number);
        self.tell_cancelled(now, line, flight.serial, flight.session);
        if let Errand::Call(relay) = &flight.errand {
            self.give_back_questions(now, relay, flight.session);
        }
    }

    /// Tells the server that nobody waits for an answer any more, if it would not see that by itself.
    pub(super) fn tell_cancelled(
        &mut self,
        now: Nanos,
        line: Option<Line>,
        serial: u64,
        session: Option<Capabilities>,
    ) {
        let (Some(era), Some(line)) = (self.verdict.era(), line) else { return };
        if session.is_none() && !self.channel.is_talk() {
            return;
        }
        let body = |out: &mut Vec<u8>| {
            out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":"#);
            let mut params = Object::begin(out);
            params.integer("requestId", serial);
            params.end();
            out.push(b'}');
        };
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Notice, Some(era), session, None, Passage::Notice(line), deadline, body);
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Makes a line of a message.
fn end_line(text: &mut Vec<u8>) {
    if has_newline(text) {
        let mut dense = Vec::with_capacity(text.len() + 1);
        compact(&mut dense, text);
        *text = dense;
    }
    text.push(b'\n');
}

pub(super) fn write_request(out: &mut Vec<u8>, serial: u64, method: &str, params: impl FnOnce(&mut Object<'_>)) {
    let mut message = Object::begin(out);
    message.string("jsonrpc", "2.0");
    message.integer("id", serial);
    message.string("method", method);
    let mut object = message.object("params");
    params(&mut object);
    object.end();
    message.end();
}

pub(super) fn modern_meta(params: &mut Object<'_>, capabilities: Capabilities) {
    let mut meta = params.object("_meta");
    modern_members(&mut meta, capabilities);
    meta.end();
}

/// What stands in `_meta` of every modern request.
pub(super) fn modern_members(meta: &mut Object<'_>, capabilities: Capabilities) {
    meta.string("io.modelcontextprotocol/protocolVersion", Version::V2026_07_28.as_str());
    meta.raw("io.modelcontextprotocol/clientCapabilities", &capabilities.to_json());
    meta.raw("io.modelcontextprotocol/clientInfo", CLIENT_INFO);
}

pub(super) fn unwritable(error: &RequestError) -> RpcError {
    RpcError::new(Code::INVALID_PARAMS, format!("the call cannot be written as an HTTP request: {error}"))
}
