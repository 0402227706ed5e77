//! The first words to a server: `server/discover`, or `initialize` for a legacy one.
//!
//! Not here: when they are said (`server`, `dialled`), what is made of the answers (`hear`). Invariant: on a way of
//! several lines each has its own handshake.

use super::flight::Errand;
use super::request::Era;
use super::send::{modern_members, write_request};
use super::server::{CLIENT_INFO, Server};
use super::settings::LinkSettings;
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::{GATEWAY, Nanos};
use crate::upstream::talk::{Line, Passage};

/// Time for an answer to `server/discover`, which some legacy servers on lines never give.
const PROBE_TIME: Nanos = 10_000_000_000;

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
}
