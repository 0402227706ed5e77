//! A server that dials in, whose connections come and go: each is greeted before it is sent calls, and with the last
//! one go its lists.
//!
//! Not here: the connections themselves (`upstream::dial_in`). Invariant: all connections of a name speak one era; no
//! call is sent on one before its handshake was answered.

use super::Gateway;
use super::flight::{Errand, ListKind};
use super::hear::says_modern;
use super::request::Era;
use super::server::{Report, Server, Verdict};
use super::settings::LinkSettings;
use crate::proto::json::Value;
use crate::proto::mcp::Version;
use crate::server::service::{Change, Mail, Nanos, Service};
use crate::upstream::talk::{Line, Passage};

impl Server {
    /// Whether it comes to us.
    pub(super) fn dials_in(&self) -> bool {
        matches!(self.settings.link, LinkSettings::DialIn(_))
    }

    /// The line with which it is to be found out what it speaks, where there are several.
    pub(super) fn front(&mut self) -> Option<Line> {
        self.channel.dialled()?.front()
    }

    /// The lines that take calls, where there are several.
    pub(super) fn ready_lines(&mut self) -> Option<Vec<Line>> {
        self.channel.dialled().map(|dialled| dialled.ready_lines())
    }

    /// It takes calls on this line from now on.
    pub(super) fn line_is_ready(&mut self, line: Line) {
        if let Some(dialled) = self.channel.dialled() {
            dialled.ready(line);
        }
    }

    /// It has dialled in.
    pub(super) fn arrived(&mut self, now: Nanos, line: Line) {
        match self.verdict {
            Verdict::Retired(_) => {}
            Verdict::Unknown if self.is_retired => {}
            Verdict::Unknown => {
                (self.retry_at, self.failures) = (now, 0);
                self.reach(now);
            }
            // Greeted once it is known in which era.
            Verdict::Asking => {}
            Verdict::Known(era) => self.greet(now, line, era),
        }
    }

    /// It is known what it speaks: those who came meanwhile are greeted too.
    pub(super) fn greet_all(&mut self, now: Nanos) {
        let (Some(dialled), Verdict::Known(era)) = (self.channel.dialled(), self.verdict) else { return };
        for line in dialled.new_lines() {
            self.greet(now, line, era);
        }
        for change in [Change::Prompts, Change::Resources] {
            self.reports.push(Report::Changed(change));
        }
    }

    fn greet(&mut self, now: Nanos, line: Line, era: Era) {
        match era {
            Era::Modern => self.send_discover(now, Errand::Greet(line), Some(line)),
            Era::Legacy(_) => self.send_initialize(now, Errand::Greet(line), self.own_session(), Some(line)),
        }
    }

    /// A further line was greeted, and this is its answer.
    pub(super) fn greeted(&mut self, now: Nanos, line: Line, result: Value<'_>) {
        let legacy = result.get("protocolVersion").and_then(Value::as_str);
        let legacy = legacy.and_then(|version| Version::parse(version.as_bytes())).filter(|one| !one.is_modern());
        match (self.verdict, legacy) {
            (Verdict::Known(Era::Modern), _) if says_modern(result) => self.line_is_ready(line),
            (Verdict::Known(era @ Era::Legacy(_)), Some(_)) => {
                let body = |out: &mut Vec<u8>| {
                    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
                };
                let (deadline, session) = (now + self.settings.list_time, Some(self.own_session()));
                let passage = Passage::Notice(line);
                self.errand(now, Errand::Notice, Some(era), session, None, passage, deadline, body);
                self.line_is_ready(line);
                self.watch_all_on(now, line);
                self.tell_level_on(now, line);
            }
            (Verdict::Known(_), _) => {
                self.refuse_line(now, line, "speaks another era of MCP than the server's other connections");
            }
            // The others have gone meanwhile: it is asked as the first one.
            (Verdict::Asking | Verdict::Retired(_) | Verdict::Unknown, _) => {}
        }
    }

    /// What is said on a line does not do.
    pub(super) fn refuse_line(&mut self, now: Nanos, line: Line, why: &str) {
        if let Some(dialled) = self.channel.dialled() {
            dialled.refuse(now, line, why);
        }
    }

    /// The handshake brought nothing that helps. One that dialled in may come again; any other is tried again later.
    pub(super) fn unfit(&mut self, now: Nanos, why: String) {
        if !self.dials_in() {
            return self.out_of_reach(now, why);
        }
        // If it is gone, its end is heard of next, and another line asked.
        if let Some(line) = self.asked_on {
            self.refuse_line(now, line, &format!("does not do: {why}"));
        }
    }

    /// The call that is meant by what a server says on a line without saying which: the one that is in flight there, if
    /// there is but one, and it is not said of one that is over. Of one session all calls have one caller, whom any of
    /// them reaches.
    pub(super) fn call_meant_on(&mut self, now: Nanos, line: Line) -> Option<u32> {
        if self.is_own {
            return self.flights.last_call();
        }
        let number = self.only_call_on(line)?;
        let client = self.flights.relay(number)?.client();
        self.unanswered.leaves(now, line, client).then_some(number)
    }

    fn only_call_on(&mut self, line: Line) -> Option<u32> {
        if self.flights.calls() == 1 || !self.dials_in() {
            let number = self.flights.only_call()?;
            let serial = self.flights.find(number)?.serial;
            return (self.channel.line_of(serial) == Some(line)).then_some(number);
        }
        let errands: Vec<u32> = self.channel.dialled()?.errands_on(line);
        self.flights.only(errands.into_iter())
    }

    /// The same on a stream that is of a session and of no call. Where clients share the session nobody is meant: what
    /// belongs to a call is said on that call's stream, and the one that is in flight need not be its.
    pub(super) fn call_meant_in_session(&self) -> Option<u32> {
        if self.is_own { self.flights.last_call() } else { None }
    }
}

impl<S: Service> Gateway<S> {
    /// The last connection of a server is gone: what it listed is not there any more.
    pub(super) fn gone(&mut self, index: u16) {
        for kind in ListKind::ALL {
            self.lists.remove(&(index, kind));
            self.told_anew(index, kind);
        }
        self.servers[usize::from(index)].metrics.tools.set(0);
        for change in [Change::Prompts, Change::Resources, Change::Tools] {
            self.mailbox.push(Mail::Changed(change));
        }
    }
}
