//! One server behind the gateway, as one core sees it: what it speaks, its sessions, what waits for it.
//!
//! Not here: what it is sent (`send`) and answers (`hear`), which calls are its (`mod`), bytes and links (`http`).
//! Invariant: a call that was taken ends in one `Mail::Reply`, unless it is cancelled; nothing is sent before it is
//! known which era the server speaks.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::breaking::{BREAKERS_MAX, tool_of};
use super::bridge::Round;
use super::callers::{Caller, Callers, Post};
use super::changes::Changes;
use super::channel::{Channel, Remote};
use super::flight::{Errand, Flight, Flights, Kept, ListKind, Relay};
use super::left::Leavings;
use super::merge::Hint;
use super::noise::Noise;
use super::owed::Owed;
use super::pages::ToldLast;
use super::pins::PinnedTools;
use super::request::{Era, Outgoing};
use super::sessions::Session;
use super::settings::{EraChoice, HttpLink, LinkSettings, ServerSettings};
use super::task_ids::NO_SUCH_TASK;
use super::turns::keep;
use super::unanswered::Unanswered;
use super::words::kind;
use crate::ids::{CoreId, OutboundAddress};
use crate::metrics::{ServerMetrics, ServerState};
use crate::proto::json::Scanner;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, HeaderParam};
use crate::server::service::{About, Call, Change, Host, Mailbox, Nanos, Watched};
use crate::shard::breaker::Breakers;
use crate::shard::queue::{Pace, Queue};
use crate::shard::retry_budget::RetryBudget;
use crate::sys::guard::GuardHandle;
use crate::upstream::dial_in::Dialled;
use crate::upstream::http::{EventStream, Outcome, Pool, PoolSettings};
use crate::upstream::stdio::Lines;
use crate::upstream::talk::{Bell, Line, ONLY};

/// Longest pause between two attempts to reach a server.
const BACK_OFF_MAX: Nanos = 30_000_000_000;
/// The first one.
const BACK_OFF: Nanos = 100_000_000;
/// The longest while somebody waits for it.
const BACK_OFF_WANTED: Nanos = 250_000_000;
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
    /// It spoke so when it was taken out: what is under way goes on in that era, and nothing else is begun.
    Retired(Era),
}

impl Verdict {
    /// The era in which it is told what there is to tell.
    pub fn era(self) -> Option<Era> {
        match self {
            Verdict::Known(era) | Verdict::Retired(era) => Some(era),
            Verdict::Asking | Verdict::Unknown => None,
        }
    }
}

/// Where a core is among the others, and what it has.
#[derive(Clone)]
pub(super) struct Place {
    pub core: CoreId,
    pub host: Rc<dyn Host>,
    pub guard: Option<GuardHandle>,
    pub bell: Bell,
    /// Which process it is of.
    pub boot: u64,
    pub mailbox: Mailbox,
    pub post: Post,
}

/// What a server tells the gateway.
pub(super) enum Report {
    /// Something changed.
    Changed(Change),
    /// It dialled in, and is there no longer.
    Gone,
    /// A list was read to its end, or could not be.
    List(ListKind, Result<Vec<Box<[u8]>>, RpcError>),
    /// A list was read to its end, and is what it was the last time, byte for byte.
    ListAgain(ListKind),
    /// It is there, or there again: it may have other prompts than before.
    Reached,
}

/// One server.
pub(super) struct Server {
    pub settings: Arc<ServerSettings>,
    /// What stands before its URIs where others are seen, too.
    pub before_uris: Rc<str>,
    /// Room for what is heard at once; empty between calls.
    pub heard: Vec<Outcome>,
    pub channel: Channel,
    pub verdict: Verdict,
    pub about: Option<About>,
    pub sessions: Vec<Session>,
    pub flights: Flights,
    pub callers: Callers,
    pub metrics: Arc<ServerMetrics>,
    pub reports: Vec<Report>,
    pub scanner: Scanner,
    /// Calls that wait until it is known what the server speaks.
    pub waiting: VecDeque<Kept>,
    /// Calls that wait because as many as may are in flight.
    pub queue: Queue<Kept>,
    /// How long its calls take.
    pub pace: Pace,
    /// It was found not to understand `server/discover`, on a channel where asking again costs it its life.
    pub is_legacy: bool,
    /// It was taken out of the configuration: what is in flight finishes, nothing new is begun.
    pub is_retired: bool,
    /// How it stands has changed, and the other cores were not told.
    pub is_news: bool,
    /// When lists of it are read again that could not be read.
    pub retry_lists_at: Option<Nanos>,
    /// Cores that want a list, and which.
    pub list_askers: Vec<(CoreId, ListKind)>,
    /// No attempt before.
    pub retry_at: Nanos,
    /// It is not asked before whether it speaks another era than it did.
    pub reconsider_at: Nanos,
    /// Until then somebody waits for it.
    pub wanted_until: Nanos,
    pub failures: u32,
    pub last_failure: String,
    /// The core that listens to the server's changes for all.
    pub listener: CoreId,
    /// Whether this is it.
    pub listens: bool,
    pub events: Option<u32>,
    /// The stream before, which is ended once the new one is there.
    pub events_before: Option<u32>,
    /// Another choice of what is to be heard of was made since the stream was opened.
    pub is_choice_new: bool,
    /// Cores that want to hear of a resource, by its URI, or of a task (`watching`); on the core that listens only.
    pub watchers: BTreeMap<(Watched, Box<str>), BTreeSet<CoreId>>,
    /// Whose the visits and tasks are of which it will speak.
    pub owed: Owed,
    /// Arguments of its tools that are repeated in headers, by the tool's name; tools without any are left out.
    pub annotations: HashMap<Box<str>, Vec<HeaderParam>>,
    /// Tools that are left out, because nobody could call them rightly.
    pub left_out: HashSet<Box<str>>,
    /// How many items of each list were left out when it was read last.
    pub flaws: HashMap<ListKind, usize>,
    /// How long each may be kept, as the server said when it was read last.
    pub hints: HashMap<ListKind, Option<Hint>>,
    /// What each was when it was read last, if it was told in one page.
    pub told_last: ToldLast,
    /// When callers were told of its changes.
    pub changes: Changes,
    /// What is known of its tools, where they are held to what was pinned.
    pub pinned: PinnedTools,
    /// Lists that are read ahead were asked for, since it told of changes or was reached.
    pub are_lists_read: bool,
    /// When the stream of changes is opened again.
    pub listen_at: Nanos,
    /// Streams to be taken up again: when, whose, and behind which event.
    pub resumable: Vec<(Nanos, u32, Box<[u8]>)>,
    /// Questions of modern servers that legacy callers are being asked.
    pub rounds: Vec<Round>,
    /// Which tools are not called for a while, because they fail.
    pub breakers: Breakers,
    pub retry_budget: RetryBudget,
    /// Tools that may be called twice for once.
    pub repeatable: HashSet<Box<str>>,
    /// Calls that failed and are sent again, and when.
    pub to_repeat: Vec<(Nanos, Kept)>,
    /// Seals where they are.
    pub seal: Rc<dyn Host>,
    pub index: u16,
    /// The next turn looks at it (`fleet`).
    pub is_touched: bool,
    /// Whether it is one session's own, in the place of the configured one at `base`.
    pub is_own: bool,
    /// The number of that session.
    pub of_session: u64,
    /// What the client of that session can do.
    pub client: Option<Capabilities>,
    pub base: u16,
    /// What was added to gauges: calls in flight, calls that wait, breakers that are open, whether it is overloaded.
    published: Cell<(u64, u64, u64, u64)>,
    pub serial: u64,
    /// The process that speaks to it.
    pub boot: u64,
    /// Outcomes whose callers are away.
    pub left: Leavings,
    /// Calls that ended before their answers came.
    pub unanswered: Unanswered,
    /// Bytes of the topics that its stream of changes was opened for last.
    pub listened_to: usize,
    /// What it said that was no answer.
    pub noise: Noise,
    /// The line on which the server says what is being heard.
    pub line: Line,
    /// The line on which it was asked last what it speaks, where there are several.
    pub asked_on: Option<Line>,
}

impl Server {
    /// A server to which nothing was said yet. `owner` speaks to it where one core does for all, and listens to it for
    /// all.
    pub fn new(
        settings: Arc<ServerSettings>,
        index: u16,
        owner: CoreId,
        place: Place,
        metrics: Arc<ServerMetrics>,
    ) -> Server {
        let before_uris = super::uris::before(&settings.name);
        let channel = match &settings.link {
            _ if settings.is_owned_by_one() && owner != place.core => {
                Channel::Elsewhere(Remote { owner, calls: Default::default() })
            }
            LinkSettings::Http(link) => Channel::Http(Box::new(Pool::new(pool(&settings, link), u32::from(index)))),
            LinkSettings::Sse(link, authority) => {
                let (target, fields) = (link.target.clone(), link.fields.0.clone());
                let pool = pool(&settings, link);
                Channel::Talk(Box::new(EventStream::new(pool, u32::from(index), authority, target, fields)))
            }
            LinkSettings::DialIn(gate) => {
                let (most, heard) = (settings.answer_bytes_max, (u32::from(index), Rc::clone(&place.bell)));
                Channel::Talk(Box::new(Dialled::new(&settings.name, Arc::clone(gate), &place.host, most, heard)))
            }
            LinkSettings::Child(child) => {
                let (guard, host) = (place.guard.clone(), Rc::clone(&place.host));
                let most = settings.answer_bytes_max;
                Channel::Talk(Box::new(Lines::new(
                    &settings.name,
                    Arc::clone(child),
                    guard,
                    host,
                    most,
                    (u32::from(index), Rc::clone(&place.bell)),
                )))
            }
        };
        let last_failure = match &settings.link {
            LinkSettings::DialIn(_) => format!("server {} has not dialled in", settings.name),
            _ => String::new(),
        };
        if channel.owner().is_none() {
            metrics.waiting_most.set(settings.waiting_max as u64);
            metrics.last_failure.set(&last_failure);
        }
        let callers = Callers {
            core: place.core,
            server: index,
            mailbox: place.mailbox,
            post: place.post,
            metrics: Arc::clone(&metrics),
        };
        Server {
            channel,
            settings,
            verdict: Verdict::Unknown,
            about: None,
            sessions: Vec::new(),
            flights: Flights::default(),
            callers,
            metrics,
            reports: Vec::new(),
            scanner: Scanner::new(),
            waiting: VecDeque::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            is_legacy: false,
            is_retired: false,
            before_uris: before_uris.into(),
            heard: Vec::new(),
            is_news: false,
            retry_lists_at: None,
            list_askers: Vec::new(),
            retry_at: 0,
            reconsider_at: 0,
            wanted_until: 0,
            failures: 0,
            last_failure,
            listener: owner,
            listens: owner == place.core,
            events: None,
            events_before: None,
            is_choice_new: false,
            watchers: BTreeMap::new(),
            owed: Owed::default(),
            annotations: HashMap::new(),
            left_out: HashSet::new(),
            flaws: HashMap::new(),
            hints: HashMap::new(),
            told_last: ToldLast::default(),
            changes: Changes::default(),
            pinned: PinnedTools::default(),
            are_lists_read: false,
            listen_at: Nanos::MAX,
            resumable: Vec::new(),
            rounds: Vec::new(),
            breakers: Breakers::new(BREAKERS_MAX),
            retry_budget: RetryBudget::new(0),
            repeatable: HashSet::new(),
            to_repeat: Vec::new(),
            seal: place.host,
            index,
            is_touched: false,
            is_own: false,
            of_session: 0,
            client: None,
            base: index,
            published: Cell::default(),
            serial: 0,
            boot: place.boot,
            left: Leavings::default(),
            unanswered: Unanswered::default(),
            listened_to: 0,
            noise: Noise::default(),
            line: ONLY,
            asked_on: None,
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
        caller: Caller,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Result<Sent, RpcError> {
        if let Channel::Elsewhere(_) = self.channel {
            return self.hand_on(call, caller, name, uris);
        }
        // Another core may not have heard of it yet.
        if self.is_retired {
            return Err(self.unreachable());
        }
        self.metrics.calls.add(1);
        if self.is_of_anothers_task(call, caller, name) {
            return Err(RpcError::new(Code::INVALID_PARAMS, NO_SUCH_TASK));
        }
        let tool = tool_of(call.method, name, call.envelope, call.text);
        let tried = self.may_try(now, &tool)?;
        if self.verdict == Verdict::Unknown && now < self.retry_at {
            self.breakers.untold(&tool, tried);
            return Err(self.unreachable());
        }
        if self.is_full() {
            let waits = self.wait_for_place(now, call, tried, caller, name, uris);
            return waits.inspect_err(|_| self.breakers.untold(&tool, tried)).map(|()| Sent::Waits);
        }
        self.found_place(now);
        if let Verdict::Known(era) = self.verdict {
            let open = match era {
                Era::Modern => Some(None),
                Era::Legacy(_) => self.open_session(call).map(Some),
            };
            if let Some(session) = open {
                // What may have to be sent again is kept: to a session that was lost, or with answers to questions.
                let keeps = session.is_some() || !call.version.is_modern() || self.is_repeatable(&tool);
                let kept = keeps.then(|| Box::new(keep(call, tried, caller, name, uris)));
                let outgoing = Outgoing::of(call, name);
                let composed = self.compose(now, &outgoing, session);
                let (serial, text) = composed.inspect_err(|_| self.breakers.untold(&tool, tried))?;
                let mut relay = Relay::new(&outgoing, caller, call.may_ask, uris, kept);
                relay.tried = tried;
                return Ok(Sent::As(self.send_call(now, serial, text, relay, session)));
            }
        }
        self.has_room_to_wait(call.text.len()).inspect_err(|_| self.breakers.untold(&tool, tried))?;
        self.enqueue(now, keep(call, tried, caller, name, uris));
        Ok(Sent::Waits)
    }

    /// It was taken out of the configuration. What it is at work on goes on to its end, questions to callers and their
    /// answers included.
    pub fn retire(&mut self, now: Nanos) {
        self.is_retired = true;
        let era = self.verdict.era();
        for session in &mut self.sessions {
            self.waiting.append(&mut session.waiting);
        }
        self.waiting.extend(self.queue.drain());
        self.waiting.extend(std::mem::take(&mut self.to_repeat).into_iter().map(|(_, kept)| kept));
        self.out_of_reach(now, format!("server {} was taken out of the configuration", self.settings.name));
        self.verdict = era.map_or(Verdict::Unknown, Verdict::Retired);
        self.is_news = false;
        self.close_if_idle(now, false);
    }

    /// Whether nobody on another core waits for it, and what it should still hear has left.
    pub fn is_drained(&self) -> bool {
        let waits = !self.waiting.is_empty() || !self.queue.is_empty() || self.flights.has_farewells();
        self.channel.owner().is_some()
            || (self.channel.is_gone() && !waits && !self.flights.has_calls_of_others(self.callers.core))
    }

    /// The session whose own it is is over, or it has another place: nothing more is heard of it but what it is at work
    /// on, and with that it ends.
    pub fn farewell(&mut self, now: Nanos) {
        for events in [self.events.take(), self.events_before.take()].into_iter().flatten() {
            self.end_events(now, events);
        }
        self.retire(now);
    }

    /// It goes, and takes back what it added to gauges.
    pub fn withdraw(&mut self) {
        self.breakers = Breakers::new(0);
        self.queue = Queue::default();
        self.publish();
    }

    /// With the last call of a retired server its sessions end, and then its way is closed. A drain ends the sessions
    /// too, and takes leave of a server that dials in: it may go to another corelane then.
    pub fn close_if_idle(&mut self, now: Nanos, is_draining: bool) {
        // The callers of those that are parked come back to this process no more.
        let others = self.flights.calls() - if is_draining { self.flights.parked() } else { 0 };
        let is_at_work = others > 0 || self.waiting_calls() > 0 || (self.is_retired && !self.rounds.is_empty());
        if !(self.is_retired || is_draining) || is_at_work {
            return;
        }
        self.end_sessions(now);
        let is_over = self.is_retired || self.dials_in();
        if is_over && self.flights.calls() == 0 && !self.flights.has_farewells() {
            self.channel.shut(now);
        }
    }

    /// Whether it was retired and has nothing left to do: nothing that is still to come of its way is anybody's.
    pub fn is_gone(&self) -> bool {
        self.is_retired && self.flights.is_empty() && self.channel.has_let_go()
    }

    /// Lets operators see how it stands.
    pub fn publish(&self) {
        let (in_flight, waiting) = (self.flights.calls() as u64, self.waiting_calls() as u64);
        let now = (in_flight, waiting, self.breakers.not_closed() as u64, u64::from(self.queue.is_overloaded()));
        let before = self.published.replace(now);
        // Those that are sessions' own share the gauges of the configured one.
        let metrics = &self.metrics;
        for (gauge, now, before) in [
            (&metrics.in_flight, now.0, before.0),
            (&metrics.waiting, now.1, before.1),
            (&metrics.breakers_open, now.2, before.2),
            (&metrics.overloaded, now.3, before.3),
        ] {
            if now != before {
                gauge.set(gauge.get() + now - before);
            }
        }
        if self.is_own {
            return;
        }
        if let Some(dialled) = self.channel.connections() {
            self.metrics.connections.set(dialled as u64);
        }
        self.metrics.set_state(match self.verdict {
            _ if self.channel.is_unreachable() => ServerState::Away,
            Verdict::Retired(_) | Verdict::Unknown => ServerState::Away,
            Verdict::Asking => ServerState::Asking,
            Verdict::Known(_) if !self.last_failure.is_empty() => ServerState::Away,
            Verdict::Known(Era::Legacy(_)) => ServerState::Legacy,
            Verdict::Known(Era::Modern) => ServerState::Modern,
        });
    }

    /// Puts a call where it will be sent from once that is possible.
    pub(super) fn enqueue(&mut self, now: Nanos, kept: Kept) {
        match self.verdict {
            Verdict::Known(Era::Legacy(_)) => self.enqueue_in_session(now, kept),
            Verdict::Known(Era::Modern) | Verdict::Retired(Era::Modern) => self.send_kept(now, kept, None),
            Verdict::Retired(Era::Legacy(_)) => self.callers.reply(kept.caller, Err(self.unreachable())),
            // It is not reached any more.
            Verdict::Asking | Verdict::Unknown if self.is_retired => {
                self.callers.reply(kept.caller, Err(self.unreachable()));
            }
            Verdict::Asking | Verdict::Unknown => {
                self.waiting.push_back(kept);
                self.reach(now);
            }
        }
    }

    /// Begins to find out what the server speaks, unless that is known or under way.
    pub fn reach(&mut self, now: Nanos) {
        if self.verdict != Verdict::Unknown || now < self.retry_at || self.is_retired {
            return;
        }
        if self.dials_in() && self.channel.owner().is_none() && self.front().is_none() {
            // There is nobody to be asked: it has to come.
            self.retry_at = Nanos::MAX;
            return;
        }
        match (&self.settings.link, &mut self.channel) {
            (_, Channel::Elsewhere(_)) => return,
            (LinkSettings::Http(HttpLink { addresses: Err(why), .. }), _)
            | (LinkSettings::Sse(HttpLink { addresses: Err(why), .. }, _), _) => {
                let why = format!("server {} cannot be reached: {why}", self.settings.name);
                return self.out_of_reach(now, why);
            }
            (_, Channel::Talk(talk)) => talk.start(now),
            (_, Channel::Http(_)) => {}
        }
        self.verdict = Verdict::Asking;
        match self.settings.era {
            // There is nothing newer on such a stream.
            _ if matches!(self.settings.link, LinkSettings::Sse(..)) => self.initialize(now, self.own_session()),
            EraChoice::Auto if self.is_legacy => self.initialize(now, self.own_session()),
            EraChoice::Auto | EraChoice::Modern => self.discover(now),
            EraChoice::Legacy => self.initialize(now, self.own_session()),
        }
    }

    /// How long it may be worth to wait for it. A child that could not be started is not there shortly.
    pub fn awaits(&self) -> Nanos {
        let has_failed = self.verdict == Verdict::Unknown && !self.last_failure.is_empty();
        let is_hopeless = self.is_retired || has_failed && matches!(self.settings.link, LinkSettings::Child(_));
        if is_hopeless { 0 } else { self.settings.connect_time }
    }

    /// Somebody waits for it: it is tried more often, unless it comes by itself or is a child, whose starts count.
    pub fn wanted(&mut self, now: Nanos) {
        match &self.channel {
            Channel::Elsewhere(remote) => self.callers.tell(remote.owner, kind::WANTED, 0, Vec::new()),
            Channel::Http(_) => {
                self.wanted_until = now + self.settings.connect_time;
                self.retry_at = self.retry_at.min(now + BACK_OFF_WANTED);
            }
            Channel::Talk(_) => {}
        }
    }

    /// The flight of a call, which has another number than it began with if it was sent again.
    pub fn flight_of(&mut self, caller: Caller, began: Option<u32>) -> Option<u32> {
        self.flights.of_call(caller, began)
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
        // The core that speaks to it says so, and counts, once for each reason: it is tried for as long as it is away.
        let is_ours = self.channel.owner().is_none();
        if is_ours && !self.is_retired && (self.failures == 0 || self.last_failure != why) {
            tracing::warn!(server = &*self.settings.name, "{why}; it is tried again");
        }
        self.note_failure(why);
        let was_there = matches!(self.verdict, Verdict::Known(_));
        self.verdict = Verdict::Unknown;
        self.is_news = true;
        // One that is taken out, or ends with its session, was not lost.
        self.metrics.lost.add(u64::from(is_ours && !self.is_retired));
        self.sessions.retain(|session| session.id.is_some());
        let pause = BACK_OFF << self.failures.min(10);
        self.failures += 1;
        self.retry_at = now + pause.min(if now < self.wanted_until { BACK_OFF_WANTED } else { BACK_OFF_MAX });
        self.breakers.all_untold();
        let error = self.unreachable();
        for kept in std::mem::take(&mut self.waiting) {
            self.callers.reply(kept.caller, Err(error.clone()));
        }
        for kind in ListKind::ALL {
            self.reports.push(Report::List(kind, Err(error.clone())));
        }
        if was_there && self.dials_in() {
            self.reports.push(Report::Gone);
        }
    }

    /// Time passed. While its core drains nothing is begun.
    pub fn tick(&mut self, now: Nanos, is_draining: bool) {
        if let Channel::Elsewhere(_) = self.channel {
            return;
        }
        self.channel.tick(now);
        while let Some(number) = self.flights.overdue(now) {
            let serial = self.flights.find(number).map(|flight| flight.serial).unwrap_or_default();
            let line = self.channel.line_of(serial);
            self.ends_unanswered(now, number);
            self.channel.drop_errand(now, number);
            let flight = self.flights.find(number);
            if let Some(Flight { errand: Errand::Call(relay), serial, session, .. }) = flight {
                // Whoever was asked was slow, not the tool.
                if relay.waits_for_its_caller() {
                    relay.blame = 0;
                }
                let (serial, session) = (*serial, *session);
                self.tell_cancelled(now, line, serial, session);
            }
            let text = format!("server {} did not answer in time", self.settings.name);
            self.lost(now, number, &RpcError::new(Code::DEADLINE, text));
        }
        self.resume_streams(now);
        self.repeat(now);
        self.left.forget(now);
        self.reports.extend(self.changes.due(now).into_iter().map(Report::Changed));
        self.look_at_levels(now);
        self.tell_roots_due(now);
        self.end_unused_sessions(now);
        match is_draining {
            true if now >= self.retry_at => self.retry_at = Nanos::MAX,
            true => {}
            false => self.reach(now),
        }
    }

    pub fn deadline(&self) -> Option<Nanos> {
        if let Channel::Elsewhere(_) = self.channel {
            return None;
        }
        let retry = (self.verdict == Verdict::Unknown && !self.is_retired).then_some(self.retry_at);
        let resume = self.resumable.iter().map(|(at, ..)| *at).min();
        let listen = (self.listen_at != Nanos::MAX).then_some(self.listen_at);
        let repeat = self.to_repeat.iter().map(|(at, _)| *at).min();
        let (change, flight) = (self.changes.deadline(), self.flights.deadline());
        let (channel, level, roots) = (self.channel.deadline(), self.levels_deadline(), self.roots_deadline());
        let (sessions, left, queue) = (self.sessions_deadline(), self.left.deadline(), self.queue.deadline());
        [queue, left, repeat, channel, flight, retry, resume, listen, change, level, roots, sessions]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The settings of the links to a server.
fn pool(settings: &ServerSettings, link: &HttpLink) -> PoolSettings {
    PoolSettings {
        // One that is not known is never dialled: `reach` says why.
        addresses: link.addresses.clone().unwrap_or_else(|_| vec![OutboundAddress::Unix(Default::default())]),
        tunnel: link.tunnel.clone(),
        tls: link.tls.clone(),
        links_max: settings.links_max,
        waiting_max: settings.waiting_max,
        answer_bytes_max: settings.answer_bytes_max,
        connect_time: settings.connect_time,
        idle_time: LINK_IDLE,
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
