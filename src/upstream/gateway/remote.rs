//! What gateways of several cores tell each other: that a list changed; and all that concerns a server which only one
//! of them speaks to.
//!
//! Not here: how words are written (`words`). Invariant: a call that was handed to another core ends when that core
//! says so, or dies; a call that came from another core ends when that core says so, or dies.

use super::callers::Caller;
use super::channel::Channel;
use super::flight::ListKind;
use super::server::{Report, Sent, Server, Verdict};
use super::words::{self, CallWord, Stand, kind};
use super::{Gateway, bridge, mirrors, owed, uris};
use crate::ids::CoreId;
use crate::limits::WAITING_CALL_BYTES_MAX;
use crate::proto::json::{Envelope, Scanner};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::{Call, CallKey, Change, Mail, Nanos, Service, Subject, Wish};

/// The number that stands for a change of tools.
pub(super) const TOOLS: u64 = 2;
/// Notifications in the course of a call.
const NOTICES: [&str; 3] = ["notifications/progress", "notifications/message", owed::COMPLETE];

impl<S: Service> Gateway<S> {
    /// A server told of a change: lists are read anew, callers everywhere are told.
    pub(super) fn changed(&mut self, server: u16, change: Change) {
        let (number, change) = match change {
            Change::Prompts => (0, change),
            Change::Resources => (1, change),
            Change::Tools => (TOOLS, change),
            Change::Resource(uri) => {
                let before = uris::before(&self.servers[usize::from(server)].settings.name);
                return self.mailbox.push(Mail::Changed(Change::Resource(format!("{before}{uri}"))));
            }
            Change::Task { id, params } => return self.task_changed(server, id, params),
        };
        self.make_stale(server, number);
        for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            self.servers[usize::from(server)].callers.tell(core, kind::CHANGED, number, Vec::new());
        }
        self.mailbox.push(Mail::Changed(change));
    }

    pub(super) fn make_stale(&mut self, server: u16, number: u64) {
        let kinds: &[ListKind] = match number {
            0 => &[ListKind::Prompts],
            1 => &[ListKind::Resources, ListKind::Templates],
            _ => &[ListKind::Tools],
        };
        self.servers[usize::from(server)].are_lists_read = false;
        for &kind in kinds {
            if let Some(cached) = self.lists.get_mut(&(server, kind)) {
                // What changed is not told again: whoever heard of it wants the new one.
                (cached.items, cached.was_asked) = (None, false);
                // It may well be one that can be read.
                if cached.retry_at.is_some() {
                    (cached.retry_at, self.servers[usize::from(server)].retry_lists_at) = (Some(0), Some(0));
                }
            }
            self.written.forget(Some(kind));
        }
    }

    /// The gateway of another core said something.
    pub(super) fn heard(&mut self, now: Nanos, from: CoreId, what: Subject, text: &[u8]) {
        let index = what.about as u16;
        if usize::from(index) >= self.servers.len() {
            // This core has not heard of a server that the other knows already.
            if what.kind == kind::CALL {
                let error = RpcError::new(Code::BAD_GATEWAY, "the server was not reached yet; try again shortly");
                let (what, text) =
                    (words::subject(kind::REPLY, index, what.number), words::write_outcome(&Err::<Vec<u8>, _>(error)));
                self.post.borrow_mut().push(Wish::Tell { to: from, what, text });
            }
            return;
        }
        let key = words::key_of(what.number);
        match what.kind {
            kind::CHANGED => self.make_stale(index, what.number),
            kind::CALL => self.call_from(now, Caller { core: from, key }, index, text),
            kind::CANCEL => {
                let caller = Caller { core: from, key };
                let server = &mut self.servers[usize::from(index)];
                let flight = server.flight_of(caller, None);
                server.cancel(now, caller, flight);
            }
            kind::ANSWER => {
                let Some((ask, _, outcome)) = words::read_said(text) else { return };
                let Some(outcome) = words::read_outcome(outcome) else { return };
                self.servers[usize::from(index)].caller_answered(now, Caller { core: from, key }, None, ask, outcome);
            }
            kind::PROGRESS => {
                let Some((ask, _, params)) = words::read_said(text) else { return };
                self.servers[usize::from(index)].caller_progressed(now, Caller { core: from, key }, None, ask, params);
            }
            kind::FETCH => {
                let Some(kind) = words::list_of(what.number) else { return };
                self.fetch_for(now, from, index, kind);
            }
            kind::WATCH | kind::UNWATCH => {
                let Ok(topic) = std::str::from_utf8(text) else { return };
                let watched = words::watched_of(what.number);
                self.servers[usize::from(index)].watch(now, watched, topic, from, what.kind == kind::WATCH);
            }
            kind::ROOTS_CHANGED => {
                let capabilities = Capabilities::from_bits(what.number as u16);
                self.servers[usize::from(index)].roots_changed(now, capabilities);
            }
            kind::SESSION => return owed::mail(what.number, text).into_iter().for_each(|mail| self.mailbox.push(mail)),
            kind::WANTED => self.servers[usize::from(index)].wanted(now),
            kind::BEGUN => return self.tell_all_watched(now),
            kind::GREET => self.tell_stand(index, Some(from)),
            kind::STAND => {
                let Some(stand) = Stand::read(text) else { return };
                self.stands(now, index, stand);
            }
            kind::LIST => {
                let Some((kind, hint)) = words::told_list_of(what.number) else { return };
                let Some(outcome) = words::read_outcome(text) else { return };
                self.servers[usize::from(index)].hints.insert(kind, hint);
                let report = Report::List(kind, outcome.map(words::read_items));
                self.servers[usize::from(index)].reports.push(report);
            }
            kind::REPLY | kind::NOTICE | kind::ASK | kind::STREAM_ENDED => {
                return self.owner_said(index, what.kind, key, text);
            }
            _ => return,
        }
        self.settle(now, index);
    }

    /// What the owner of a server says of a call that it was handed.
    fn owner_said(&mut self, index: u16, said: u8, key: CallKey, text: &[u8]) {
        let Channel::Elsewhere(remote) = &mut self.servers[usize::from(index)].channel else { return };
        // Nobody waits for a call that was cancelled.
        if !remote.calls.contains(key) {
            return;
        }
        if said == kind::REPLY {
            let Some(outcome) = words::read_outcome(text) else { return };
            remote.calls.remove(key);
            return self.mailbox.push(Mail::Reply { key, outcome: outcome.map(|text| text.to_vec().into()) });
        }
        if said == kind::STREAM_ENDED {
            return self.mailbox.push(Mail::EndStream { key });
        }
        let Some((ask, method, params)) = words::read_said(text) else { return };
        let params = params.to_vec();
        if said == kind::ASK {
            let Some(method) = bridge::question(method) else { return };
            return self.mailbox.push(Mail::Ask { key, ask, method, params });
        }
        let Some(method) = NOTICES.into_iter().find(|known| *known == method) else { return };
        self.mailbox.push(Mail::Notice { key, method, params });
    }

    /// A caller on another core calls a server that this core speaks to.
    fn call_from(&mut self, now: Nanos, caller: Caller, index: u16, text: &[u8]) {
        let Some(word) = CallWord::read(text) else { return };
        let mut envelope = Envelope::default();
        if Scanner::new().scan(word.text, &mut envelope).is_err() {
            return;
        }
        let call = Call {
            key: caller.key,
            view: word.view,
            version: word.version,
            method: word.method,
            text: word.text,
            envelope: &envelope,
            param_lines: word.param_lines,
            capabilities: word.capabilities,
            log_level: word.log_level,
            is_level_chosen: word.is_level_chosen,
            may_ask: word.may_ask,
            session: word.session,
            now,
            deadline: word.latest,
            is_deadline_chosen: word.latest != Nanos::MAX,
        };
        let server = &mut self.servers[usize::from(index)];
        match server.call(now, &call, caller, word.name, word.uris) {
            Ok(Sent::As(_) | Sent::Waits) => {}
            Err(error) => server.callers.reply(caller, Err(error)),
        }
    }

    /// Another core wants a list of a server that this core speaks to.
    fn fetch_for(&mut self, now: Nanos, from: CoreId, index: u16, kind: ListKind) {
        let server = &mut self.servers[usize::from(index)];
        // One that waits here to be compared is the newest there is, and each core compares for itself.
        if let Some(items) = server.pinned.held().filter(|_| kind == ListKind::Tools) {
            let written = words::write_outcome(&Ok(words::write_items(items)));
            let number = words::number_of_told_list(kind, server.hints.get(&kind).copied().flatten());
            return server.callers.tell(from, words::kind::LIST, number, written);
        }
        if !server.list_askers.contains(&(from, kind)) {
            server.list_askers.push((from, kind));
        }
        self.read(now, index, kind);
    }

    /// A list was read: whoever asked for it from another core gets it as well.
    pub(super) fn tell_list(&mut self, index: u16, kind: ListKind, outcome: &Result<Vec<Box<[u8]>>, RpcError>) {
        let server = &mut self.servers[usize::from(index)];
        if server.list_askers.is_empty() {
            return;
        }
        let written =
            words::write_outcome(&outcome.as_ref().map(|items| words::write_items(items)).map_err(Clone::clone));
        let number = words::number_of_told_list(kind, server.hints.get(&kind).copied().flatten());
        // What changed while it was read is about to be read again, and they may have asked because of the change.
        let was_asked = self.lists.get(&(index, kind)).is_some_and(|cached| cached.was_asked);
        let is_last = was_asked || !kind.is_read_ahead() || outcome.is_err();
        server.list_askers.retain(|&(core, asked)| {
            if asked == kind {
                server.callers.tell(core, words::kind::LIST, number, written.clone());
            }
            asked != kind || !is_last
        });
    }

    /// Tells another core, or all, how a server stands that this core speaks to.
    pub(super) fn tell_stand(&mut self, index: u16, to: Option<CoreId>) {
        let server = &mut self.servers[usize::from(index)];
        if !server.settings.is_owned_by_one() || server.channel.owner().is_some() {
            return;
        }
        let stand = match (server.verdict, &server.about) {
            (Verdict::Known(era), Some(about)) => Stand::Known(era, about.clone()),
            _ => Stand::Away(server.last_failure.clone()),
        };
        let text = stand.write();
        for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core && to.is_none_or(|to| to == *core)) {
            server.callers.tell(core, kind::STAND, 0, text.clone());
        }
    }

    /// A server that another core speaks to stands so.
    fn stands(&mut self, now: Nanos, index: u16, stand: Stand) {
        let server = &mut self.servers[usize::from(index)];
        match stand {
            Stand::Known(era, about) => {
                server.verdict = Verdict::Known(era);
                server.about = Some(about);
                server.note_failure(String::new());
                server.reports.push(Report::Reached);
                server.reports.push(Report::Changed(Change::Tools));
            }
            // It is being reached for the first time: whoever waits goes on to.
            Stand::Away(why) if why.is_empty() && server.verdict == Verdict::Unknown => {}
            Stand::Away(why) => server.out_of_reach(now, why),
        }
    }

    /// Asks the owners of servers how these stand, and everybody what is watched.
    pub(super) fn greet(&mut self) {
        if let Some(server) = self.servers.iter().next() {
            for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
                server.callers.tell(core, kind::BEGUN, 0, Vec::new());
            }
        }
        for server in self.servers.iter() {
            if let Some(owner) = server.channel.owner() {
                server.callers.tell(owner, kind::GREET, 0, Vec::new());
            }
        }
    }

    /// Another core died: what it was handed is lost, and what it handed over is wanted by nobody.
    pub(super) fn lost_core(&mut self, now: Nanos, peer: CoreId) {
        for index in 0..self.servers.len() as u16 {
            let server = &mut self.servers[usize::from(index)];
            server.list_askers.retain(|(core, _)| *core != peer);
            server.unwatch_from(now, peer);
            if let Channel::Elsewhere(remote) = &mut server.channel {
                if remote.owner != peer {
                    continue;
                }
                let calls = remote.calls.take();
                let name = &server.settings.name;
                let error = RpcError::new(Code::INTERNAL, format!("the core that speaks to server {name} died"));
                for key in calls {
                    self.mailbox.push(Mail::Reply { key, outcome: Err(error.clone()) });
                }
                server.out_of_reach(now, error.message.to_string());
            } else {
                server.forget_callers_on(now, peer);
            }
            self.settle(now, index);
        }
    }
}

impl Server {
    /// Hands a call to the core that speaks to this server.
    ///
    /// # Errors
    /// If too much waits for that core.
    pub(super) fn hand_on(
        &mut self,
        call: &Call<'_>,
        caller: Caller,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Result<Sent, RpcError> {
        let Channel::Elsewhere(remote) = &mut self.channel else { return Err(self.unreachable()) };
        if !remote.calls.has_room(call.text.len()) {
            let text = format!(
                "calls of {WAITING_CALL_BYTES_MAX} bytes wait for server {} on this core, the most there may be; try \
                 again shortly",
                self.settings.name
            );
            return Err(RpcError::new(Code::OVERLOADED, text));
        }
        remote.calls.insert(caller.key, call.text.len());
        let word = CallWord {
            view: call.view,
            version: call.version,
            session: call.session,
            method: call.method,
            capabilities: call.capabilities,
            log_level: call.log_level,
            is_level_chosen: call.is_level_chosen,
            may_ask: call.may_ask,
            latest: call.latest(),
            name,
            uris,
            text: call.text,
            param_lines: &mirrors::param_lines(call.param_lines),
        };
        let owner = remote.owner;
        self.callers.tell(owner, kind::CALL, words::number_of(caller.key), word.write());
        Ok(Sent::Waits)
    }

    /// A core died. Its next life counts calls and sessions from the beginning, so whatever is left for one of this
    /// life would reach a stranger.
    fn forget_callers_on(&mut self, now: Nanos, core: CoreId) {
        for (number, caller) in self.flights.calls_from(core) {
            self.cancel(now, caller, Some(number));
        }
        let waiting = self.callers_waiting().filter(|caller| caller.core == core);
        for caller in waiting.collect::<Vec<Caller>>() {
            self.cancel(now, caller, None);
        }
        self.owed.forget_core(core);
        self.unanswered.lost_core(core);
    }
}
