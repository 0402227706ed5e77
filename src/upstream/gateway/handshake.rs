//! The first words to a server: `server/discover`, or `initialize` for a legacy one; and whether they still hold.
//!
//! Not here: when they are said (`server`, `dialled`), what is made of the first answers (`hear`). Invariant: on a way
//! of several lines each has its own handshake; a server that is asked again is spoken to as before until it has
//! answered as one of the other era does.

use super::channel::Channel;
use super::flight::Errand;
use super::hear::says_modern;
use super::request::Era;
use super::send::{modern_members, write_request};
use super::server::{CLIENT_INFO, Server, Verdict};
use super::settings::{EraChoice, LinkSettings};
use crate::proto::json::Value;
use crate::proto::jsonrpc::Code;
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::{GATEWAY, Nanos};
use crate::upstream::talk::{Line, Passage};

/// Time for an answer to `server/discover`, which some legacy servers on lines never give.
const PROBE_TIME: Nanos = 10_000_000_000;
/// Pause before a server is asked again whether it speaks another era than it did: its callers choose what it refuses.
const RECONSIDER: Nanos = 1_000_000_000;

impl Server {
    /// Time for the handshake. A child has to be started first.
    fn handshake_time(&self) -> Nanos {
        if self.channel.is_talk() { self.settings.connect_time } else { self.settings.list_time }
    }

    /// Which process asks, for servers behind a URL: it could be that of our own endpoint.
    fn process(&self) -> Option<String> {
        let is_by_url = matches!(self.settings.link, LinkSettings::Http(_) | LinkSettings::Sse(..));
        is_by_url.then(|| format!("{:016x}", self.boot))
    }

    pub(super) fn discover(&mut self, now: Nanos) {
        let line = self.front();
        self.asked_on = line;
        self.send_discover(now, Errand::Discover, line);
    }

    pub(super) fn send_discover(&mut self, now: Nanos, errand: Errand, line: Option<Line>) {
        let (serial, process) = (self.next_serial(), self.process());
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, "server/discover", |params| {
                let mut meta = params.object("_meta");
                modern_members(&mut meta, Capabilities::default());
                if let Some(process) = &process {
                    meta.string(GATEWAY, process);
                }
                meta.end();
            });
        };
        let time = self.handshake_time().min(PROBE_TIME);
        let (era, method, deadline) = (Some(Era::Modern), Some("server/discover"), now + time);
        let passage = line.map_or(Passage::Request(serial), |line| Passage::RequestOn(serial, line));
        self.errand(now, errand, era, None, method, passage, deadline, body);
    }

    pub(super) fn initialize(&mut self, now: Nanos, capabilities: Capabilities) {
        let line = self.front();
        self.asked_on = line;
        self.send_initialize(now, Errand::Initialize(capabilities), capabilities, line);
    }

    pub(super) fn send_initialize(
        &mut self,
        now: Nanos,
        errand: Errand,
        capabilities: Capabilities,
        line: Option<Line>,
    ) {
        let (serial, process) = (self.next_serial(), self.process());
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, "initialize", |params| {
                params.string("protocolVersion", Version::LATEST_LEGACY.as_str());
                params.raw("capabilities", &capabilities.to_json());
                params.raw("clientInfo", CLIENT_INFO);
                if let Some(process) = &process {
                    let mut meta = params.object("_meta");
                    meta.string(GATEWAY, process);
                    meta.end();
                }
            });
        };
        let deadline = now + self.handshake_time();
        let passage = line.map_or(Passage::Request(serial), |line| Passage::RequestOn(serial, line));
        self.errand(now, errand, None, None, None, passage, deadline, body);
    }

    /// A call or a list was refused: if with words of the other era, the server is asked anew what it speaks.
    pub(super) fn doubt_era(&mut self, now: Nanos, status: u16, code: Option<i64>) {
        let is_code = |known: Code| code == Some(i64::from(known.0));
        let is_of_other_era = match self.verdict {
            // It wants to know the revision of each request, and knows no session.
            Verdict::Known(Era::Legacy(_)) => is_modern_code(code) || (status == 400 && is_code(Code::INVALID_PARAMS)),
            // It wants a session. What modern servers refuse with such a status they refuse with these codes.
            Verdict::Known(Era::Modern) => {
                let is_modern =
                    is_modern_code(code) || is_code(Code::INVALID_PARAMS) || is_code(Code::METHOD_NOT_FOUND);
                !is_modern && (status == 400 || (status == 404 && code.is_some()))
            }
            Verdict::Asking | Verdict::Retired(_) | Verdict::Unknown => false,
        };
        if is_of_other_era {
            self.reconsider(now);
        }
    }

    /// Asks a server anew what it speaks: it may have been replaced since. One that is no server of requests has its
    /// handshake with each new way.
    pub(super) fn reconsider(&mut self, now: Nanos) {
        let may_be_other = self.settings.era == EraChoice::Auto && matches!(self.channel, Channel::Http(_));
        if may_be_other && matches!(self.verdict, Verdict::Known(_)) && now >= self.reconsider_at {
            self.reconsider_at = Nanos::MAX;
            self.send_discover(now, Errand::Reconsider, None);
        }
    }

    /// The server said anew what it speaks: this, or as legacy servers refuse to.
    pub(super) fn reconsidered(&mut self, now: Nanos, result: Option<&[u8]>) {
        self.reconsidered_in_vain(now);
        let modern = result.filter(|result| says_modern(Value::new(result)));
        match (self.verdict, modern) {
            (Verdict::Known(Era::Legacy(_)), Some(result)) => {
                self.leave_sessions(now);
                self.discovered(now, result);
            }
            (Verdict::Known(Era::Modern), None) => {
                for events in [self.events.take(), self.events_before.take()].into_iter().flatten() {
                    self.end_events(now, events);
                }
                self.verdict = Verdict::Asking;
                self.initialize(now, self.own_session());
            }
            // It speaks what it spoke.
            _ => {}
        }
    }

    /// It did not say, or said what is known.
    pub(super) fn reconsidered_in_vain(&mut self, now: Nanos) {
        self.reconsider_at = now + RECONSIDER;
    }
}

/// Whether an error has a code that only 2026-07-28 has.
pub(super) fn is_modern_code(code: Option<i64>) -> bool {
    code.is_some_and(|code| (-32099..=-32020).contains(&code))
}
