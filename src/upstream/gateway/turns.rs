//! Whose turn it is: calls that wait, how many may be in flight, and the sending of what waited.
//!
//! Not here: what is waited for (`server`, `bridge`), who waits for a place (`admission`), how a call is written
//! (`send`).
//! Invariant: whatever a call waited for, it is sent only while fewer are in flight than may be.

use std::collections::VecDeque;

use super::bridge::Round;
use super::callers::Caller;
use super::flight::{Kept, Relay};
use super::mirrors;
use super::server::Server;
use super::settings::ServerSettings;
use crate::proto::json::Envelope;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::{Call, Nanos};
use crate::shard::breaker::Try;

impl Server {
    /// Calls that wait: for the server to be reached, for a session, for others to end.
    pub(super) fn waiting_calls(&self) -> usize {
        let for_sessions = self.sessions.iter().map(|session| session.waiting.len()).sum::<usize>();
        self.waiting.len() + for_sessions + self.queue.len() + self.to_repeat.len()
    }

    /// Those that wait for something else than a place.
    fn waiting_elsewhere(&self) -> impl Iterator<Item = &Kept> {
        let for_sessions = self.sessions.iter().flat_map(|session| &session.waiting);
        let to_repeat = self.to_repeat.iter().map(|(_, kept)| kept);
        self.waiting.iter().chain(for_sessions).chain(to_repeat)
    }

    /// Whose calls wait: those, and those that wait for their callers' answers.
    pub(super) fn callers_waiting(&self) -> impl Iterator<Item = Caller> {
        let calls = self.waiting_elsewhere().chain(self.queue.iter()).map(|kept| kept.caller);
        calls.chain(self.rounds.iter().map(Round::caller))
    }

    /// What those calls take in memory.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.queue.bytes() + self.waiting_elsewhere_bytes()
    }

    /// What those take that wait for something else than a place.
    pub(super) fn waiting_elsewhere_bytes(&self) -> usize {
        self.waiting_elsewhere().map(Kept::bytes).chain(self.rounds.iter().map(Round::bytes)).sum()
    }

    /// Whether a call of so many bytes may wait beside those that do.
    ///
    /// # Errors
    /// What its caller is told if it may not.
    pub(super) fn has_room_to_wait(&self, bytes: usize) -> Result<(), RpcError> {
        let (waiting, name) = (self.waiting_calls(), &self.settings.name);
        let most_bytes = self.settings.waiting_bytes_max;
        let text = if waiting >= self.settings.waiting_max {
            format!("{waiting} calls wait for server {name} already, the most there may be")
        } else if waiting > 0 && self.waiting_bytes() + bytes > most_bytes {
            format!(
                "{waiting} calls wait for server {name} already, and with this one of {bytes} bytes they would take more \
                 than {most_bytes}, the most there may be"
            )
        } else {
            return Ok(());
        };
        Err(RpcError::new(Code::OVERLOADED, text))
    }

    /// The caller of a call is gone, which is not sent any more if it waits.
    pub(super) fn drop_waiting(&mut self, caller: Caller) {
        let is_its = |kept: &Kept| kept.caller == caller;
        let for_sessions = self.sessions.iter_mut().map(|session| &mut session.waiting);
        let all = for_sessions.chain([&mut self.waiting]);
        let mut dropped: Vec<Kept> = all.flat_map(|calls| take(calls, is_its)).collect();
        dropped.append(&mut self.queue.remove(is_its));
        dropped.extend(self.to_repeat.extract_if(.., |(_, kept)| is_its(kept)).map(|(_, kept)| kept));
        dropped.iter().for_each(|kept| self.was_not_tried(kept));
    }

    /// Most calls whose modern callers may have been sent away with a question. They come on top of the others, as
    /// many again as these may be; but where somebody chose how many the server may be at work on, the server is at
    /// work on them too, and half of that is left to others.
    pub(super) fn parked_max(&self) -> usize {
        let ServerSettings { calls_max, links_max, calls_max_is_for_all, .. } = *self.settings;
        let most = calls_max.min(if self.channel.is_talk() { usize::MAX } else { links_max });
        if calls_max_is_for_all { most.min(calls_max / 2) } else { most }
    }

    /// Whether as many calls are in flight as may be.
    pub(super) fn is_full(&self) -> bool {
        let beside = if self.settings.calls_max_is_for_all { 0 } else { self.flights.parked() };
        self.flights.calls() - beside >= self.settings.calls_max
    }

    /// Sends what waits for a session that is open.
    pub(super) fn send_waiting(&mut self, now: Nanos, place: usize) {
        if self.sessions[place].id.is_none() || !self.settle_level(now, place) {
            return;
        }
        let capabilities = self.sessions[place].capabilities;
        for kept in std::mem::take(&mut self.sessions[place].waiting) {
            self.send_kept(now, kept, Some(capabilities));
        }
    }

    /// Sends a call that was kept.
    pub(super) fn send_kept(&mut self, now: Nanos, kept: Kept, session: Option<Capabilities>) {
        if self.is_full() {
            // It waited for a session, an answer or a pause, and others went meanwhile.
            return self.wait_again(now, kept);
        }
        let outgoing = kept.outgoing();
        match self.compose(now, &outgoing, session) {
            Ok((serial, text)) => {
                let mut relay = Relay::new(&outgoing, kept.caller, kept.may_ask, kept.uris.as_deref(), None);
                (relay.asked, relay.tried) = (kept.asked, kept.tried);
                // What may have to be sent again is kept on: to a session that was lost, or with answers to questions.
                let keeps = session.is_some() || !kept.version.is_modern() || self.is_repeatable(&relay.tool);
                relay.kept = keeps.then(|| Box::new(kept));
                self.send_call(now, serial, text, relay, session);
            }
            Err(error) => {
                self.was_not_tried(&kept);
                self.callers.reply(kept.caller, Err(error));
            }
        }
    }
}

/// Takes those calls out that are meant.
fn take(calls: &mut VecDeque<Kept>, is_meant: impl Fn(&Kept) -> bool) -> Vec<Kept> {
    if !calls.iter().any(&is_meant) {
        return Vec::new();
    }
    let (taken, left) = std::mem::take(calls).into_iter().partition(is_meant);
    *calls = left;
    Vec::from(taken)
}

/// What is kept of a call that may have to wait, or to be sent once more.
pub(super) fn keep(call: &Call<'_>, tried: Try, caller: Caller, name: Option<&str>, uris: Option<&str>) -> Kept {
    Kept {
        caller,
        view: call.view,
        version: call.version,
        session: call.session,
        method: call.method,
        capabilities: call.capabilities,
        log_level: call.log_level,
        is_level_chosen: call.is_level_chosen,
        may_ask: call.may_ask,
        latest: call.latest(),
        text: call.text.to_vec(),
        envelope: Envelope::clone(call.envelope),
        param_lines: mirrors::param_lines(call.param_lines).into(),
        name: name.map(Into::into),
        uris: uris.map(Into::into),
        again: false,
        tried,
        rounds: 0,
        asked: 0,
        round: Vec::new(),
    }
}
