//! How much a legacy server logs. Callers share sessions with it, and a session has one level (`logging/setLevel`): the
//! most that any caller asks for.
//!
//! Not here: which of the messages a caller hears, which is never more than it asked for (`hear`).
//! Invariant: a call that asks for more than its session was told is sent once the server was told, or cannot be; a
//! session of whose callers none ever chose a level is left as its server likes it.

use super::flight::{Errand, Relay};
use super::request::Era;
use super::send::write_request;
use super::server::{Server, Verdict};
use crate::proto::mcp::{Capabilities, LogLevel};
use crate::server::service::Nanos;
use crate::shard::session::LOG_LEVEL_DEFAULT;
use crate::upstream::talk::{Line, Passage};

/// How often is looked whether somebody still asks for as much.
const LOOK: Nanos = 10_000_000_000;

/// What the server of a session was told to log.
pub(super) struct Level {
    /// The level; none if it was told nothing.
    told: Option<LogLevel>,
    /// Whether it is known that it heard so.
    is_sure: bool,
    /// It was told on so many lines, and has not answered there.
    asking: usize,
    /// The most that was asked for since somebody looked last.
    wanted: Option<LogLevel>,
    /// When somebody looks again.
    look_at: Nanos,
}

impl Default for Level {
    fn default() -> Level {
        Level { told: None, is_sure: true, asking: 0, wanted: None, look_at: Nanos::MAX }
    }
}

impl Level {
    /// Whether the server was told one.
    pub fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// What has to be logged for a call that wants this, by its caller's choice or because that is usual.
    fn due(&self, wanted: Option<LogLevel>, is_chosen: bool) -> Option<LogLevel> {
        wanted.filter(|_| is_chosen || self.is_told())
    }

    /// Whether a call need not wait that wants this logged.
    pub fn does(&mut self, wanted: Option<LogLevel>, is_chosen: bool) -> bool {
        let Some(wanted) = self.due(wanted, is_chosen) else { return true };
        self.wanted = Some(self.wanted.map_or(wanted, |most| most.min(wanted)));
        self.told.is_some_and(|told| told <= wanted) && self.asking == 0
    }
}

impl Server {
    fn can_log(&self) -> bool {
        self.about.as_ref().is_some_and(|about| about.offers.logging)
    }

    /// Whether a call need not wait in its session for the server to log what it wants.
    pub(super) fn level_does(&mut self, place: usize, wanted: Option<LogLevel>, is_chosen: bool) -> bool {
        !self.can_log() || self.sessions[place].level.does(wanted, is_chosen)
    }

    /// Whether all that waits for a session may go. If some of it wants more logged, the server is told so first.
    pub(super) fn settle_level(&mut self, now: Nanos, place: usize) -> bool {
        if !self.can_log() {
            return true;
        }
        let session = &self.sessions[place];
        let level = &session.level;
        let wanted = session.waiting.iter().filter_map(|kept| level.due(kept.log_level, kept.is_level_chosen)).min();
        let Some(wanted) = wanted else { return true };
        if level.told.is_none_or(|told| wanted < told) && level.asking == 0 {
            // Those that are under way have not chosen, and are not to hear less than was usual.
            let under_way = self.levels_under_way(session.capabilities).unwrap_or(wanted);
            self.tell_level(now, place, wanted.min(under_way));
        }
        self.sessions[place].level.asking == 0
    }

    /// The most that calls want logged which are in flight in a session.
    fn levels_under_way(&self, capabilities: Capabilities) -> Option<LogLevel> {
        self.flights.relays_in(Some(capabilities)).filter_map(|relay: &Relay| relay.log_level).min()
    }

    fn tell_level(&mut self, now: Nanos, place: usize, told: LogLevel) {
        let lines = self.ready_lines().map_or_else(|| vec![None], |lines| lines.into_iter().map(Some).collect());
        let level = &mut self.sessions[place].level;
        (level.told, level.wanted, level.is_sure) = (Some(told), None, true);
        (level.asking, level.look_at) = (lines.len(), now + LOOK);
        let session = self.sessions[place].capabilities;
        lines.into_iter().for_each(|line| self.send_level(now, session, told, line));
        // Much is logged on no call's stream, which is of use where all calls are one client's.
        self.listen(now);
    }

    /// Tells a further line of a session what the others were told.
    pub(super) fn tell_level_on(&mut self, now: Nanos, line: Line) {
        let own = self.own_session();
        let Some(session) = self.sessions.iter_mut().find(|session| session.capabilities == own) else { return };
        let Some(told) = session.level.told else { return };
        session.level.asking += 1;
        self.send_level(now, own, told, Some(line));
    }

    fn send_level(&mut self, now: Nanos, session: Capabilities, told: LogLevel, line: Option<Line>) {
        let Verdict::Known(era @ Era::Legacy(_)) = self.verdict else { return };
        let serial = self.next_serial();
        let method = "logging/setLevel";
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, method, |params| params.string("level", told.as_str()));
        };
        let passage = line.map_or(Passage::Request(serial), |line| Passage::RequestOn(serial, line));
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Level, Some(era), Some(session), Some(method), passage, deadline, body);
    }

    /// The server has answered what it was told, or will not: calls have waited long enough.
    pub(super) fn level_settled(&mut self, now: Nanos, session: Option<Capabilities>, is_sure: bool) {
        let Some(place) = self.sessions.iter().position(|one| Some(one.capabilities) == session) else { return };
        let level = &mut self.sessions[place].level;
        level.is_sure &= is_sure;
        level.asking = level.asking.saturating_sub(1);
        if level.asking == 0 {
            self.send_waiting(now, place);
        }
    }

    /// Lets sessions log less of which nobody wants as much any more.
    pub(super) fn look_at_levels(&mut self, now: Nanos) {
        let is_there = matches!(self.verdict, Verdict::Known(Era::Legacy(_)));
        for place in 0..self.sessions.len() {
            if !is_there {
                // It was taken out: nothing is said to it any more.
                self.sessions[place].level.look_at = Nanos::MAX;
                continue;
            }
            let session = &self.sessions[place];
            let Some(told) = session.level.told.filter(|_| session.level.look_at <= now) else { continue };
            let under_way = self.levels_under_way(session.capabilities);
            let wanted = [session.level.wanted, under_way].into_iter().flatten().min();
            // To those who choose nothing this much is told, so that none of them has to wait.
            let wanted = wanted.unwrap_or(told.max(LOG_LEVEL_DEFAULT));
            let level = &mut self.sessions[place].level;
            level.wanted = None;
            level.look_at = if told >= LOG_LEVEL_DEFAULT && level.is_sure { Nanos::MAX } else { now + LOOK };
            if level.asking == 0 && (wanted > told || !level.is_sure) {
                self.tell_level(now, place, wanted.max(told));
            }
        }
    }

    /// When somebody has to look at a level again.
    pub(super) fn levels_deadline(&self) -> Option<Nanos> {
        self.sessions.iter().map(|session| session.level.look_at).filter(|at| *at != Nanos::MAX).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_more_than_was_told_waits_and_nobody_else() {
        let mut level = Level::default();
        for (wanted, is_chosen, does) in
            [(None, false, true), (Some(LogLevel::Info), false, true), (Some(LogLevel::Error), true, false)]
        {
            assert_eq!(level.does(wanted, is_chosen), does, "{wanted:?}");
        }
        level.told = Some(LogLevel::Info);
        assert!(level.does(Some(LogLevel::Info), false) && level.does(Some(LogLevel::Error), true));
        assert!(!level.does(Some(LogLevel::Debug), true) && level.does(None, false));
        assert_eq!(level.wanted, Some(LogLevel::Debug));
        // Until the server has heard of it, who asks for it waits.
        level.asking = 1;
        assert!(!level.does(Some(LogLevel::Info), true) && level.does(None, false));
    }
}
