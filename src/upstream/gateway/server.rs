//! One server behind the gateway, as one core sees it: what it speaks, its sessions, what is sent to it.
//!
//! Not here: what it answers (`hear`), which calls are its (`mod`), bytes and links (`http`).
//! Invariant: a call that was taken ends in one `Mail::Reply`, unless it is cancelled; nothing is sent before it is
//! known which era the server speaks.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::bridge::Round;
use super::flight::{Errand, Flight, Flights, Kept, ListKind, Pages, Relay};
use super::mirrors::Mirrors;
use super::request::{self, Era, Outgoing};
use super::settings::{EraChoice, LinkSettings, ServerSettings};
use crate::ids::OutboundAddress;
use crate::proto::http1::respond::Mark;
use crate::proto::http1::{RequestError, RequestWriter, finish_post};
use crate::proto::json::{Envelope, Key, Object, Scanner};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, HeaderParam, Version};
use crate::server::service::{About, Call, CallKey, Change, Host, Mail, Mailbox, Nanos};
use crate::upstream::http::{Pool, PoolSettings, Request};

/// Longest pause between two attempts to reach a server.
const BACK_OFF_MAX: Nanos = 30_000_000_000;
/// The first one.
const BACK_OFF: Nanos = 100_000_000;
/// How long an idle link is kept: shorter than what common servers have (5 s), so that nobody writes to a link that is
/// being closed.
const LINK_IDLE: Nanos = 4_000_000_000;
/// Time for a stream to end that has answered.
pub(super) const STREAM_END: Nanos = 2_000_000_000;

/// What is known of a server's era.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing, or not any more.
    Unknown,
    /// It is being asked.
    Asking,
    /// It speaks so.
    Known(Era),
}

/// A legacy session with the server: one for each set of capabilities, because that is what `initialize` settles.
pub(super) struct Session {
    pub capabilities: Capabilities,
    /// Its id; none while it is being opened, empty if the server gives none.
    pub id: Option<Box<[u8]>>,
    pub version: Version,
    /// Calls that wait for it.
    pub waiting: VecDeque<Kept>,
}

/// Where a core is among the others, and by whom it seals.
#[derive(Clone)]
pub(super) struct Place {
    pub core: u16,
    pub cores: u16,
    pub seal: Option<Rc<dyn Host>>,
}

/// What a server tells the gateway.
pub(super) enum Report {
    /// Something changed.
    Changed(Change),
    /// A list was read to its end, or could not be.
    List(ListKind, Result<Vec<Box<[u8]>>, RpcError>),
}

/// One server.
pub(super) struct Server {
    pub settings: Arc<ServerSettings>,
    pub pool: Pool,
    pub verdict: Verdict,
    pub about: Option<About>,
    pub sessions: Vec<Session>,
    pub flights: Flights,
    pub mailbox: Mailbox,
    pub reports: Vec<Report>,
    pub scanner: Scanner,
    /// Calls that wait until it is known what the server speaks.
    pub waiting: VecDeque<Kept>,
    /// No attempt before.
    pub retry_at: Nanos,
    pub failures: u32,
    pub last_failure: String,
    /// Whether this core listens to the server's changes for all.
    pub listens: bool,
    pub events: Option<u32>,
    /// Arguments of its tools that are repeated in headers, by the tool's name; tools without any are left out.
    pub annotations: HashMap<Box<str>, Vec<HeaderParam>>,
    /// They were asked for since the last change of its tools.
    pub annotations_known: bool,
    /// When the stream of changes is opened again.
    pub listen_at: Nanos,
    /// Streams to be taken up again: when, whose, and behind which event.
    pub resumable: Vec<(Nanos, u32, Box<[u8]>)>,
    /// Questions of modern servers that legacy callers are being asked.
    pub rounds: Vec<Round>,
    /// Questions that the call had led to before, which is just being sent again.
    pub asked_before: u32,
    /// Calls whose modern callers were sent away with a question.
    pub parked: usize,
    /// Seals where they are.
    pub seal: Option<Rc<dyn Host>>,
    pub index: u16,
    pub core: u16,
    serial: u64,
}

impl Server {
    pub fn new(settings: Arc<ServerSettings>, index: u16, mailbox: Mailbox, place: Place) -> Server {
        let LinkSettings::Http { address, .. } = &settings.link;
        // One that is not known is never dialled: `reach` says why.
        let address = address.clone().unwrap_or_else(|_| OutboundAddress::Unix(Default::default()));
        let pool = PoolSettings {
            address,
            links_max: settings.links_max,
            waiting_max: settings.waiting_max,
            answer_bytes_max: settings.answer_bytes_max,
            connect_time: settings.connect_time,
            idle_time: LINK_IDLE,
        };
        Server {
            pool: Pool::new(pool, u32::from(index)),
            settings,
            verdict: Verdict::Unknown,
            about: None,
            sessions: Vec::new(),
            flights: Flights::default(),
            mailbox,
            reports: Vec::new(),
            scanner: Scanner::new(),
            waiting: VecDeque::new(),
            retry_at: 0,
            failures: 0,
            last_failure: String::new(),
            listens: index % place.cores == place.core,
            events: None,
            annotations: HashMap::new(),
            annotations_known: false,
            listen_at: Nanos::MAX,
            resumable: Vec::new(),
            rounds: Vec::new(),
            asked_before: 0,
            parked: 0,
            seal: place.seal,
            index,
            core: place.core,
            serial: 0,
        }
    }

    /// Takes a call. `name` and `uris` say how the caller's names differ from the server's.
    ///
    /// # Errors
    /// If it is refused at once.
    pub fn call(
        &mut self,
        now: Nanos,
        call: &Call<'_>,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Result<Sent, RpcError> {
        if let Verdict::Known(era) = self.verdict {
            let open = match era {
                Era::Modern => Some(None),
                Era::Legacy(_) => self.open_session(call.capabilities).map(Some),
            };
            if let Some(session) = open {
                // What may have to be sent again is kept: to a session that was lost, or with answers to questions.
                let keeps = session.is_some() || !call.version.is_modern();
                let kept = keeps.then(|| Box::new(keep(call, name, uris)));
                let outgoing = Outgoing {
                    text: call.text,
                    envelope: call.envelope,
                    version: call.version,
                    capabilities: call.capabilities,
                    log_level: call.log_level,
                    method: call.method,
                    name,
                    round: b"",
                };
                let relay = Relay {
                    key: call.key,
                    version: call.version,
                    method: call.method,
                    log_level: call.log_level,
                    may_ask: call.may_ask,
                    token: call.envelope.text(Key::MetaProgressToken, call.text).map(Into::into),
                    uris: uris.map(Into::into),
                    asks: Vec::new(),
                    asked: 0,
                    questions: VecDeque::new(),
                    parked: None,
                    kept,
                };
                return self
                    .send_call(now, &outgoing, relay, session)
                    .map(Sent::As)
                    .map_err(|error| unwritable(&error));
            }
        } else if now < self.retry_at && self.verdict == Verdict::Unknown {
            return Err(self.unreachable());
        }
        let waiting = self.waiting.len() + self.sessions.iter().map(|session| session.waiting.len()).sum::<usize>();
        if waiting >= self.settings.waiting_max {
            let text = format!("{waiting} calls wait for server {} already, the most there may be", self.settings.name);
            return Err(RpcError::new(Code::OVERLOADED, text));
        }
        self.enqueue(now, keep(call, name, uris));
        Ok(Sent::Waits)
    }

    /// Puts a call where it will be sent from once that is possible.
    pub(super) fn enqueue(&mut self, now: Nanos, kept: Kept) {
        match self.verdict {
            Verdict::Known(Era::Legacy(_)) => {
                let capabilities = session_capabilities(kept.capabilities);
                let place = self.session_place(now, capabilities);
                self.sessions[place].waiting.push_back(kept);
                self.send_waiting(now, place);
            }
            Verdict::Known(Era::Modern) => self.send_kept(now, kept, None),
            Verdict::Asking | Verdict::Unknown => {
                self.waiting.push_back(kept);
                self.reach(now);
            }
        }
    }

    /// Begins to find out what the server speaks, unless that is known or under way.
    pub fn reach(&mut self, now: Nanos) {
        if self.verdict != Verdict::Unknown || now < self.retry_at {
            return;
        }
        let LinkSettings::Http { address, .. } = &self.settings.link;
        if let Err(why) = address {
            let why = format!("server {} cannot be reached: {why}", self.settings.name);
            return self.out_of_reach(now, why);
        }
        self.verdict = Verdict::Asking;
        match self.settings.era {
            EraChoice::Auto | EraChoice::Modern => self.discover(now),
            EraChoice::Legacy => self.initialize(now, Capabilities::default()),
        }
    }

    fn discover(&mut self, now: Nanos) {
        let serial = self.next_serial();
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, "server/discover", |params| modern_meta(params, Capabilities::default()));
        };
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Discover, Some(Era::Modern), None, Some("server/discover"), serial, deadline, body);
    }

    pub(super) fn initialize(&mut self, now: Nanos, capabilities: Capabilities) {
        let serial = self.next_serial();
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, "initialize", |params| {
                params.string("protocolVersion", Version::LATEST_LEGACY.as_str());
                params.raw("capabilities", &capabilities.to_json());
                params.raw("clientInfo", CLIENT_INFO);
            });
        };
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Initialize(capabilities), None, None, None, serial, deadline, body);
    }

    /// The session of these capabilities, opened if it is not yet.
    pub(super) fn session_place(&mut self, now: Nanos, capabilities: Capabilities) -> usize {
        if let Some(place) = self.sessions.iter().position(|session| session.capabilities == capabilities) {
            return place;
        }
        let version = Version::LATEST_LEGACY;
        self.sessions.push(Session { capabilities, id: None, version, waiting: VecDeque::new() });
        self.initialize(now, capabilities);
        self.sessions.len() - 1
    }

    /// The session for a caller with these capabilities, if it is open.
    fn open_session(&self, capabilities: Capabilities) -> Option<Capabilities> {
        let wanted = session_capabilities(capabilities);
        let session = self.sessions.iter().find(|session| session.capabilities == wanted)?;
        session.id.is_some().then_some(wanted)
    }

    /// Sends what waits for a session that is open.
    pub(super) fn send_waiting(&mut self, now: Nanos, place: usize) {
        if self.sessions[place].id.is_none() {
            return;
        }
        let capabilities = self.sessions[place].capabilities;
        for kept in std::mem::take(&mut self.sessions[place].waiting) {
            self.send_kept(now, kept, Some(capabilities));
        }
    }

    /// Sends a call that was kept.
    pub(super) fn send_kept(&mut self, now: Nanos, kept: Kept, session: Option<Capabilities>) {
        let relay = Relay {
            key: kept.key,
            version: kept.version,
            method: kept.method,
            log_level: kept.log_level,
            may_ask: kept.may_ask,
            token: kept.envelope.text(Key::MetaProgressToken, &kept.text).map(Into::into),
            uris: kept.uris.clone(),
            asks: Vec::new(),
            asked: self.asked_before,
            questions: VecDeque::new(),
            parked: None,
            kept: (session.is_some() || !kept.version.is_modern()).then(|| Box::new(kept.clone())),
        };
        let outgoing = Outgoing {
            text: &kept.text,
            envelope: &kept.envelope,
            version: kept.version,
            capabilities: kept.capabilities,
            log_level: kept.log_level,
            method: kept.method,
            name: kept.name.as_deref(),
            round: &kept.round,
        };
        if let Err(error) = self.send_call(now, &outgoing, relay, session) {
            self.mailbox.push(Mail::Reply { key: kept.key, outcome: Err(unwritable(&error)) });
        }
    }

    fn send_call(
        &mut self,
        now: Nanos,
        call: &Outgoing<'_>,
        relay: Relay,
        session: Option<Capabilities>,
    ) -> Result<u32, RequestError> {
        let Verdict::Known(era) = self.verdict else { unreachable!("nothing is sent before the era is known") };
        let serial = self.next_serial();
        let mut text = Vec::with_capacity(512 + call.text.len());
        let headers = if era.is_modern() { self.mirrors(call) } else { Mirrors::default() };
        let mark = self.begin_post(&mut text, Some(era), session, Some(call.method.as_str()), headers)?;
        request::write(&mut text, call, era, serial);
        finish_post(&mut text, mark);
        let deadline = now + self.settings.call_time;
        let flight = Flight { serial, errand: Errand::Call(relay), session, deadline, resumed: 0, session_id: None };
        let errand = self.flights.insert(flight);
        self.pool.submit(now, Request { errand, text });
        Ok(errand)
    }

    /// Begins a POST. Without an era the server is told none (`initialize`).
    fn begin_post(
        &self,
        out: &mut Vec<u8>,
        era: Option<Era>,
        session: Option<Capabilities>,
        method: Option<&str>,
        mirrors: Mirrors<'_>,
    ) -> Result<Mark, RequestError> {
        let LinkSettings::Http { target, fields, .. } = &self.settings.link;
        let mut writer = RequestWriter::post(out, target);
        for (field, value) in &fields.0 {
            writer.field(field, value);
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
                    writer.mirrored("Mcp-Param-", suffix, &value);
                }
            }
            Some(Era::Legacy(_)) => self.session_fields(&mut writer, session),
            None => {}
        }
        writer.begin_body()
    }

    fn session_fields(&self, writer: &mut RequestWriter<'_>, session: Option<Capabilities>) {
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
        serial: u64,
        deadline: Nanos,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        let mut text = Vec::with_capacity(512);
        let begun = self.begin_post(&mut text, era, session, method, Mirrors::default());
        let number = self.flights.insert(Flight { serial, errand, session, deadline, resumed: 0, session_id: None });
        match begun {
            Ok(mark) => {
                body(&mut text);
                finish_post(&mut text, mark);
                self.pool.submit(now, Request { errand: number, text });
            }
            Err(error) => self.lost(now, number, &unwritable(&error)),
        }
        number
    }

    /// Reads a list, page by page. Its end is a `Report::List`.
    pub fn fetch(&mut self, now: Nanos, kind: ListKind) {
        let pages = Pages { kind, items: Vec::new(), bytes: 0, cursors: Default::default() };
        self.fetch_page(now, pages, None);
    }

    pub(super) fn fetch_page(&mut self, now: Nanos, pages: Pages, cursor: Option<&[u8]>) {
        let Verdict::Known(era) = self.verdict else {
            return self.reports.push(Report::List(pages.kind, Err(self.unreachable())));
        };
        let session = (!era.is_modern()).then(Capabilities::default);
        let serial = self.next_serial();
        let method = pages.kind.method().as_str();
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, method, |params| {
                if era.is_modern() {
                    modern_meta(params, Capabilities::default());
                }
                if let Some(cursor) = cursor {
                    params.raw("cursor", cursor);
                }
            });
        };
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Page(pages), Some(era), session, Some(method), serial, deadline, body);
    }

    /// Opens the stream on which the server tells of changes, if it has one and this core is the one to listen.
    pub(super) fn listen(&mut self, now: Nanos) {
        if !self.listens || self.events.is_some() {
            return;
        }
        let Some(offers) = self.about.as_ref().map(|about| about.offers) else { return };
        let changes = offers.tools_list_changed || offers.prompts_list_changed || offers.resources_list_changed;
        match self.verdict {
            Verdict::Known(Era::Modern) if changes => {
                let serial = self.next_serial();
                let body = |out: &mut Vec<u8>| {
                    write_request(out, serial, "subscriptions/listen", |params| {
                        modern_meta(params, Capabilities::default());
                        let mut wanted = params.object("notifications");
                        for (name, offered) in [
                            ("toolsListChanged", offers.tools_list_changed),
                            ("promptsListChanged", offers.prompts_list_changed),
                            ("resourcesListChanged", offers.resources_list_changed),
                        ] {
                            if offered {
                                wanted.boolean(name, true);
                            }
                        }
                        wanted.end();
                    });
                };
                let method = Some("subscriptions/listen");
                let era = Some(Era::Modern);
                self.events = Some(self.errand(now, Errand::Events, era, None, method, serial, Nanos::MAX, body));
            }
            Verdict::Known(Era::Legacy(_)) => {
                let session = Some(Capabilities::default());
                let Some(text) = self.get_events(session, None) else { return };
                let (serial, deadline) = (self.next_serial(), Nanos::MAX);
                let flight = Flight { serial, errand: Errand::Events, session, deadline, resumed: 0, session_id: None };
                let errand = self.flights.insert(flight);
                self.events = Some(errand);
                self.pool.submit(now, Request { errand, text });
            }
            _ => {}
        }
    }

    /// A GET of a stream of events in a session, behind the last that came of it.
    fn get_events(&self, session: Option<Capabilities>, last_event_id: Option<&[u8]>) -> Option<Vec<u8>> {
        let LinkSettings::Http { target, fields, .. } = &self.settings.link;
        let mut text = Vec::new();
        let mut writer = RequestWriter::get_events(&mut text, target, last_event_id);
        for (field, value) in &fields.0 {
            writer.field(field, value);
        }
        self.session_fields(&mut writer, session);
        writer.end().ok().map(|()| text)
    }

    /// Takes up the streams again whose pause is over.
    fn resume_streams(&mut self, now: Nanos) {
        let (due, later) = std::mem::take(&mut self.resumable).into_iter().partition(|(at, ..)| *at <= now);
        self.resumable = later;
        for (_, errand, last_event_id) in due {
            let Some(session) = self.flights.find(errand).map(|flight| flight.session) else { continue };
            match self.get_events(session, Some(&last_event_id)) {
                Some(text) => self.pool.submit(now, Request { errand, text }),
                None => {
                    let text = format!("server {} gave an event id that no header can hold", self.settings.name);
                    self.lost(now, errand, &RpcError::new(Code::BAD_GATEWAY, text));
                }
            }
        }
        if self.listen_at <= now {
            self.listen_at = Nanos::MAX;
            self.listen(now);
        }
    }

    /// The caller of a call is gone. A modern server hears of it by the end of its stream, a legacy one is told
    /// (2025-11-25, "Cancellation").
    pub fn cancel(&mut self, now: Nanos, key: CallKey, number: Option<u32>) {
        self.waiting.retain(|kept| kept.key != key);
        self.drop_round(key);
        for session in &mut self.sessions {
            session.waiting.retain(|kept| kept.key != key);
        }
        let Some(number) = number else { return };
        let Some(flight) = self.flights.remove(number) else { return };
        self.pool.drop_errand(now, number);
        self.resumable.retain(|(_, other, _)| *other != number);
        if let (Some(session), Verdict::Known(era)) = (flight.session, self.verdict) {
            let told = flight.serial;
            let body = |out: &mut Vec<u8>| {
                out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":"#);
                let mut params = Object::begin(out);
                params.integer("requestId", told);
                params.end();
                out.push(b'}');
            };
            let deadline = now + self.settings.list_time;
            self.errand(now, Errand::Notice, Some(era), Some(session), None, 0, deadline, body);
        }
    }

    /// The flight of a call, which has another number than it began with if it was sent again.
    pub fn flight_of(&mut self, key: CallKey, began: Option<u32>) -> Option<u32> {
        self.flights.of_call(key, began)
    }

    /// What a caller is told while the server cannot be reached.
    pub(super) fn unreachable(&self) -> RpcError {
        let text = match self.last_failure.as_str() {
            "" => format!("server {} was not reached yet; try again shortly", self.settings.name),
            said => format!("{said}; try again shortly"),
        };
        RpcError::new(Code::BAD_GATEWAY, text)
    }

    /// The server could not be reached: whoever waits is told, and the next attempt waits its time.
    pub(super) fn out_of_reach(&mut self, now: Nanos, why: String) {
        self.last_failure = why;
        self.verdict = Verdict::Unknown;
        self.sessions.retain(|session| session.id.is_some());
        let pause = BACK_OFF << self.failures.min(10);
        self.failures += 1;
        self.retry_at = now + pause.min(BACK_OFF_MAX);
        let error = self.unreachable();
        for kept in std::mem::take(&mut self.waiting) {
            self.mailbox.push(Mail::Reply { key: kept.key, outcome: Err(error.clone()) });
        }
        for kind in ListKind::ALL {
            self.reports.push(Report::List(kind, Err(error.clone())));
        }
    }

    pub fn tick(&mut self, now: Nanos) {
        self.pool.tick(now);
        while let Some(number) = self.flights.overdue(now) {
            self.pool.drop_errand(now, number);
            let text = format!("server {} did not answer in time", self.settings.name);
            self.lost(now, number, &RpcError::new(Code::DEADLINE, text));
        }
        self.resume_streams(now);
        self.reach(now);
    }

    pub fn deadline(&self) -> Option<Nanos> {
        let retry = (self.verdict == Verdict::Unknown).then_some(self.retry_at);
        let resume = self.resumable.iter().map(|(at, ..)| *at).min();
        let listen = (self.listen_at != Nanos::MAX).then_some(self.listen_at);
        [self.pool.deadline(), self.flights.deadline(), retry, resume, listen].into_iter().flatten().min()
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// How a call left.
pub(super) enum Sent {
    /// As the flight of this number.
    As(u32),
    /// It waits.
    Waits,
}

pub(super) const CLIENT_INFO: &[u8] =
    concat!(r#"{"name":"corelane","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#).as_bytes();

/// The capabilities by which a session is chosen: the tasks extension is none that `initialize` knows.
pub(super) fn session_capabilities(capabilities: Capabilities) -> Capabilities {
    Capabilities::from_bits(capabilities.to_bits() & !Capabilities::TASKS_EXTENSION.to_bits())
}

fn keep(call: &Call<'_>, name: Option<&str>, uris: Option<&str>) -> Kept {
    Kept {
        key: call.key,
        version: call.version,
        method: call.method,
        capabilities: call.capabilities,
        log_level: call.log_level,
        may_ask: call.may_ask,
        text: call.text.to_vec(),
        envelope: Envelope::clone(call.envelope),
        name: name.map(Into::into),
        uris: uris.map(Into::into),
        again: false,
        round: Vec::new(),
    }
}

fn write_request(out: &mut Vec<u8>, serial: u64, method: &str, params: impl FnOnce(&mut Object<'_>)) {
    let mut message = Object::begin(out);
    message.string("jsonrpc", "2.0");
    message.integer("id", serial);
    message.string("method", method);
    let mut object = message.object("params");
    params(&mut object);
    object.end();
    message.end();
}

fn modern_meta(params: &mut Object<'_>, capabilities: Capabilities) {
    let mut meta = params.object("_meta");
    meta.string("io.modelcontextprotocol/protocolVersion", Version::V2026_07_28.as_str());
    meta.raw("io.modelcontextprotocol/clientCapabilities", &capabilities.to_json());
    meta.raw("io.modelcontextprotocol/clientInfo", CLIENT_INFO);
    meta.end();
}

fn unwritable(error: &RequestError) -> RpcError {
    RpcError::new(Code::INVALID_PARAMS, format!("the call cannot be written as an HTTP request: {error}"))
}
