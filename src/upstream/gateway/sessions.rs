//! Legacy sessions with one server: one for each set of client capabilities, opened when a call needs it, ended when
//! none did for as long as a client's own session lives, and when nobody is left who could call.
//!
//! Not here: the handshake (`handshake`), what is said in a session (`send`, `hear`).
//! Invariant: a session's stream ends with it; there are no more than [`SERVER_SESSIONS_MAX`], and one that is at work
//! is not ended to make room.

use std::collections::VecDeque;

use super::changes::Paced;
use super::flight::{Errand, Flight, Kept, Relay};
use super::levels::Level;
use super::server::{Report, Server};
use super::settings::LinkSettings;
use crate::limits::SERVER_SESSIONS_MAX;
use crate::proto::http1::RequestWriter;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::{Call, Nanos};
use crate::upstream::talk::{ONLY, Passage};

/// Time for a server to hear that a session is over: nobody waits for its answer, but a drain does.
const FAREWELL: Nanos = 1_000_000_000;
/// Stands for the stream of a server that has none, and is not asked for one again. No flight has this number.
const NO_STREAM: u32 = u32::MAX;

/// A legacy session with the server: one for each set of capabilities, because that is what `initialize` settles.
pub(super) struct Session {
    pub capabilities: Capabilities,
    /// Its id; none while it is being opened, empty if the server gives none.
    pub id: Option<Box<[u8]>>,
    pub version: Version,
    /// The stream on which the server says what belongs to no request.
    pub events: Option<u32>,
    /// It has had such a stream: the server has them.
    pub has_streamed: bool,
    /// Calls that wait for it.
    pub waiting: VecDeque<Kept>,
    /// The serial that was given last when it was opened.
    pub since: u64,
    /// How much the server logs in it.
    pub level: Level,
    /// The server will say more of what it said in it.
    pub owes: bool,
    /// When it was told that roots are others.
    pub roots: Paced,
    /// When a call last needed it.
    used_at: Nanos,
}

impl Server {
    /// The capabilities of the session that the gateway's own requests go to.
    pub(super) fn own_session(&self) -> Capabilities {
        self.session_for(Capabilities::default())
    }

    /// The capabilities by which a caller's session is chosen. A child has one session for all, whatever each can do,
    /// unless it is one client's own; the tasks extension is none that `initialize` knows.
    pub(super) fn session_for(&self, capabilities: Capabilities) -> Capabilities {
        let capabilities = self.client.unwrap_or(capabilities);
        if self.channel.is_talk() && self.client.is_none() {
            return Capabilities::ELICITATION_FORM.with(Capabilities::SAMPLING);
        }
        capabilities.without(Capabilities::TASKS_EXTENSION)
    }

    /// Has a call wait for its session, which is opened if it is not yet.
    pub(super) fn enqueue_in_session(&mut self, now: Nanos, kept: Kept) {
        let capabilities = self.session_for(kept.capabilities);
        let known = self.sessions.iter().position(|session| session.capabilities == capabilities);
        let Some(place) = known.or_else(|| self.begin_session(now, capabilities)) else {
            self.was_not_tried(&kept);
            let text = format!(
                "server {} has a session for each set of client capabilities, and {SERVER_SESSIONS_MAX} of them are at \
                 work, the most that a core keeps; try again shortly",
                self.settings.name
            );
            return self.callers.reply(kept.caller, Err(RpcError::new(Code::OVERLOADED, text)));
        };
        self.sessions[place].used_at = now;
        self.sessions[place].waiting.push_back(kept);
        self.send_waiting(now, place);
    }

    /// Opens a session of these capabilities, of which there is none; its place, unless all that there may be are at
    /// work.
    fn begin_session(&mut self, now: Nanos, capabilities: Capabilities) -> Option<usize> {
        if self.sessions.len() >= SERVER_SESSIONS_MAX {
            let idle = (0..self.sessions.len()).filter(|place| self.may_end(*place));
            // What a server will speak of later is lost with its session: such sessions go last.
            let oldest = idle.min_by_key(|place| (self.sessions[*place].owes, self.sessions[*place].used_at))?;
            self.end_session(now, oldest);
        }
        let place = self.place_for(now, capabilities);
        self.initialize(now, capabilities);
        Some(place)
    }

    /// The place of a session of these capabilities, whoever opens it.
    pub(super) fn place_for(&mut self, now: Nanos, capabilities: Capabilities) -> usize {
        if let Some(place) = self.sessions.iter().position(|session| session.capabilities == capabilities) {
            return place;
        }
        self.sessions.push(Session {
            capabilities,
            id: None,
            version: Version::LATEST_LEGACY,
            events: None,
            has_streamed: false,
            waiting: VecDeque::new(),
            since: 0,
            level: Level::default(),
            owes: false,
            roots: Paced::default(),
            used_at: now,
        });
        self.sessions.len() - 1
    }

    /// The session for a call, if the call need not wait for it.
    pub(super) fn open_session(&mut self, call: &Call<'_>) -> Option<Capabilities> {
        let wanted = self.session_for(call.capabilities);
        let place = self.sessions.iter().position(|session| session.capabilities == wanted)?;
        self.sessions[place].used_at = call.now;
        let is_open = self.sessions[place].id.is_some();
        (is_open && self.level_does(place, call.log_level, call.is_level_chosen)).then_some(wanted)
    }

    /// Whether the session of the gateway's own requests is open; it is opened if there is none. That of a server which
    /// was away may have been lost.
    pub(super) fn has_own_session(&mut self, now: Nanos) -> bool {
        let own = self.own_session();
        match self.sessions.iter().find(|session| session.capabilities == own) {
            Some(session) => session.id.is_some(),
            None => {
                self.begin_session(now, own);
                false
            }
        }
    }

    /// A session could not be opened: whoever waits for it is told.
    pub(super) fn session_failed(&mut self, capabilities: Capabilities, error: &RpcError) {
        let Some(place) = self.sessions.iter().position(|session| session.capabilities == capabilities) else { return };
        for kept in self.sessions.swap_remove(place).waiting {
            self.was_not_tried(&kept);
            self.callers.reply(kept.caller, Err(error.clone()));
        }
    }

    /// The server does not know a session any more: it is opened again, and the call sent again, once. It was not
    /// executed, or the server had known the session.
    pub(super) fn session_lost(&mut self, now: Nanos, number: u32, capabilities: Capabilities) {
        let Some(flight) = self.flights.remove(number) else { return };
        let place = self.sessions.iter().position(|session| session.capabilities == capabilities);
        // What was said before it was opened was said in another, which is lost already. A stream has no serial.
        let is_that_one = place.is_some_and(|place| {
            let session = &self.sessions[place];
            session.id.is_some() && (flight.serial == 0 || flight.serial > session.since)
        });
        if is_that_one && let Some(place) = place {
            let lost = self.sessions.swap_remove(place);
            // Nothing more is said on it, whether or not the server lets go of it.
            self.drop_stream(now, lost.events);
            let place = self.place_for(now, capabilities);
            self.sessions[place].waiting = lost.waiting;
            self.initialize(now, capabilities);
        }
        match flight.errand {
            // One whose stream is taken up again was taken by the server.
            Errand::Call(Relay { kept: Some(mut kept), is_parked: false, .. })
                if !kept.again && flight.resumed == 0 =>
            {
                kept.again = true;
                self.enqueue(now, *kept);
            }
            Errand::Page(pages) if pages.cursors.is_empty() => {
                let text = format!("server {} lost its session; try again", self.settings.name);
                self.reports.push(Report::List(pages.kind, Err(RpcError::new(Code::BAD_GATEWAY, text))));
            }
            other => {
                let when = if flight.resumed == 0 { "twice" } else { "in the midst of the call" };
                let text = format!("server {} lost its session {when}", self.settings.name);
                self.errand_lost(now, other, Some(capabilities), &RpcError::new(Code::BAD_GATEWAY, text));
            }
        }
    }

    /// A server behind HTTP has no stream of what belongs to no request.
    pub(super) fn has_no_stream(&mut self, number: u32) {
        if self.events_before == Some(number) {
            self.events_before = None;
        }
        let streams = self.sessions.iter_mut().map(|session| &mut session.events).chain([&mut self.events]);
        streams.filter(|stream| **stream == Some(number)).for_each(|stream| *stream = Some(NO_STREAM));
    }

    /// A stream of what belongs to no request has ended, or was not given: it is asked for again then, unless there is
    /// another in its place.
    pub(super) fn stream_lost(&mut self, number: u32, session: Option<Capabilities>, again_at: Nanos) {
        if self.events_before == Some(number) {
            self.events_before = None;
            return;
        }
        self.forget_events(session);
        self.listen_at = again_at;
    }

    /// A stream of what belongs to no request is there no longer.
    pub(super) fn forget_events(&mut self, session: Option<Capabilities>) {
        match self.sessions.iter_mut().find(|one| Some(one.capabilities) == session) {
            Some(session) => session.events = None,
            None => self.events = None,
        }
    }

    /// A stream of what belongs to no request has begun.
    pub(super) fn has_stream(&mut self, number: u32) {
        if let Some(session) = self.sessions.iter_mut().find(|session| session.events == Some(number)) {
            session.has_streamed = true;
        }
    }

    /// Whether what was asked was a stream of a server that never had one in this session: a 404 is about the stream
    /// then, as of servers that know no GET, and not about the session.
    pub(super) fn is_first_stream(&self, number: u32) -> bool {
        self.sessions.iter().any(|session| session.events == Some(number) && !session.has_streamed)
    }

    /// Lets go of a session's stream, of which the server hears by its end.
    fn drop_stream(&mut self, now: Nanos, events: Option<u32>) {
        if let Some(number) = events
            && self.flights.remove(number).is_some()
        {
            self.channel.drop_errand(now, number);
        }
    }

    /// Whether a session can end: it is a caller's, open, and nothing is under way or waits in it.
    fn may_end(&self, place: usize) -> bool {
        let session = &self.sessions[place];
        session.id.is_some()
            && session.capabilities != self.own_session()
            && session.waiting.is_empty()
            && self.flights.is_quiet_in(session.capabilities)
    }

    /// Ends sessions that no call needed for as long as a client's session lives: what they were opened for is gone.
    pub(super) fn end_unused_sessions(&mut self, now: Nanos) {
        for place in (0..self.sessions.len()).rev() {
            if self.sessions[place].used_at + self.settings.session_idle > now {
                continue;
            }
            if self.may_end(place) {
                self.end_session(now, place);
            } else {
                self.sessions[place].used_at = now;
            }
        }
    }

    /// When somebody has to look for such sessions.
    pub(super) fn sessions_deadline(&self) -> Option<Nanos> {
        let own = self.own_session();
        let others = self.sessions.iter().filter(|session| session.capabilities != own);
        others.map(|session| session.used_at + self.settings.session_idle).min()
    }

    /// Ends all sessions with a server behind HTTP; others end with their way.
    pub(super) fn end_sessions(&mut self, now: Nanos) {
        if self.channel.is_talk() {
            return;
        }
        for place in (0..self.sessions.len()).rev() {
            if self.sessions[place].id.is_some() {
                self.end_session(now, place);
            }
        }
    }

    /// Lets go of all sessions, which the server that is there now does not know; what waited for them waits on.
    pub(super) fn leave_sessions(&mut self, now: Nanos) {
        for session in std::mem::take(&mut self.sessions) {
            self.drop_stream(now, session.events);
            self.waiting.extend(session.waiting);
        }
    }

    /// Ends the session at a place, and its stream: a server behind HTTP is told (2025-11-25, "Session Management").
    fn end_session(&mut self, now: Nanos, place: usize) {
        let text = self.delete_session(place);
        let session = self.sessions.swap_remove(place);
        self.drop_stream(now, session.events);
        if let Some(text) = text {
            let deadline = now + self.settings.list_time.min(FAREWELL);
            // It is of no session: that the server knows it no longer is no news.
            let (serial, errand, session) = (0, Errand::Farewell, None);
            let number =
                self.flights.insert(Flight { serial, errand, session, deadline, resumed: 0, session_id: None });
            self.channel.submit(now, number, Passage::Notice(ONLY), text);
        }
    }

    /// A DELETE of the session at a place, if it has an id.
    fn delete_session(&self, place: usize) -> Option<Vec<u8>> {
        let LinkSettings::Http(link) = &self.settings.link else { return None };
        let session = &self.sessions[place];
        session.id.as_ref().filter(|id| !id.is_empty())?;
        let mut text = Vec::new();
        let mut writer = RequestWriter::delete(&mut text, &link.target);
        for (field, value) in &link.fields.0 {
            writer.field(field, value);
        }
        self.session_fields(&mut writer, Some(session.capabilities));
        writer.end().ok().map(|()| text)
    }
}
