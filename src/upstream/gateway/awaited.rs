//! Calls that wait until it is known whose a name is: the list that says so is being read.
//!
//! Not here: what a name leads to (`names`), how lists are read (`lists`).
//! Invariant: a call waits once, for lists that may hold its name only, no longer than one of these may take; then it
//! goes where the lists that are at hand lead, or fails. It is never sent by a name that was guessed.

use super::Gateway;
use super::callers::Caller;
use super::flight::{Kept, ListKind};
use super::native::NATIVE;
use super::server::{Server, Verdict};
use super::turns::keep;
use crate::ids::View;
use crate::limits::{UNNAMED_CALLS_MAX, WAITING_CALL_BYTES_MAX};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::naming;
use crate::server::service::{Call, CallKey, Mail, Nanos, Served, Service};
use crate::shard::breaker::Try;

/// Pause before a list is read again because somebody calls what is not in it.
const LOOK_AGAIN: Nanos = 1_000_000_000;

/// A call of something of which it is not known yet whose it is.
pub(super) struct Unnamed {
    kept: Box<Kept>,
    kind: ListKind,
    name: Box<str>,
    /// Servers whose lists may have it, and are being read.
    waits: Vec<u16>,
    /// When it waits no longer.
    pub until: Nanos,
    deadline: Nanos,
}

impl Unnamed {
    /// Which call it is.
    pub fn key(&self) -> CallKey {
        self.kept.caller.key
    }
}

impl<S: Service> Gateway<S> {
    /// Whether a call waits from now on, because it is not known yet whose this name is.
    pub(super) fn waits_for_names(&mut self, call: &Call<'_>, kind: ListKind, name: &str) -> bool {
        let waits = self.unread_for(call.now, call.view, kind, name);
        let bytes = || self.unnamed.iter().map(|one| one.kept.bytes()).sum::<usize>() + call.text.len();
        let has_no_room = || self.unnamed.len() >= UNNAMED_CALLS_MAX || bytes() > WAITING_CALL_BYTES_MAX;
        if waits.is_empty() || has_no_room() {
            return false;
        }
        let mut until = call.now;
        for &server in &waits {
            until = until.max(call.now + self.servers[usize::from(server)].settings.list_time);
            if matches!(self.servers[usize::from(server)].verdict, Verdict::Known(_)) {
                self.read(call.now, server, kind);
            }
        }
        let until = until.min(call.deadline);
        let kept = Box::new(keep(call, Try::ORDINARY, Caller { core: self.core, key: call.key }, None, None));
        let (name, deadline) = (name.into(), call.deadline);
        self.unnamed.push(Unnamed { kept, kind, name, waits: waits.clone(), until, deadline });
        for server in waits {
            self.settle(call.now, server);
        }
        true
    }

    /// The servers that may have something of this name and whose lists are worth waiting for.
    fn unread_for(&mut self, now: Nanos, view: View, kind: ListKind, name: &str) -> Vec<u16> {
        let several = self.seen(view).filter(|seen| seen.alone.is_none());
        let Some(own) = several.and_then(|seen| seen.own(kind, name)) else { return Vec::new() };
        let told = self.told_in(view, kind);
        let owner = told.server_of(own);
        let (is_known, is_prefixed) = (owner.is_some(), self.is_prefixed(owner));
        let Self { views, servers, lists, .. } = self;
        let Some(seen) = views.get(usize::from(view.0)) else { return Vec::new() };
        let Some(name) = seen.own(kind, name) else { return Vec::new() };
        let has_native = seen.native;
        // By the other names the server's own can be told, listed or not.
        let is_by_list = |server: &Server| server.settings.prefix.is_empty() || naming::may_be_hashed(name);
        let mut unread = Vec::new();
        // Of nearly every call it is known whose it is: nothing is copied to find that out.
        for &index in &seen.servers {
            let server = &servers[usize::from(index)];
            if !may_have(server, name, is_prefixed) {
                continue;
            }
            let cached = lists.entry((index, kind)).or_default();
            if !server.is_coming() || !server.offers(kind) {
                continue;
            }
            let is_there = matches!(server.verdict, Verdict::Known(_));
            // Of one that is still to come there was nothing to be read.
            let is_new = cached.names.is_none() && !(is_there && cached.has_failed);
            let is_looked_for = !is_known && is_by_list(server) && is_there;
            let is_old = !has_native && now >= cached.at.max(cached.looked_at) + LOOK_AGAIN;
            if is_looked_for && is_old && !cached.fetching {
                cached.looked_at = now;
                unread.push(index);
            } else if is_new || (is_looked_for && cached.fetching) {
                unread.push(index);
            }
        }
        unread
    }

    /// The servers in a view of several that may have something of this name.
    fn candidates(&self, view: View, kind: ListKind, name: &str) -> Option<Vec<u16>> {
        let seen = self.seen(view).filter(|seen| seen.alone.is_none())?;
        let name = seen.own(kind, name)?;
        let is_prefixed = self.is_prefixed(self.told_in(view, kind).server_of(name));
        let fits = |server: &u16| may_have(&self.servers[usize::from(*server)], name, is_prefixed);
        Some(seen.servers.iter().copied().filter(fits).collect())
    }

    /// Whether a name with this owner, if it has one, is known to begin with its server's: it is not taken for
    /// another's that has none, for which all would wait.
    fn is_prefixed(&self, owner: Option<u16>) -> bool {
        let prefix = |owner: u16| match owner {
            NATIVE => self.native.settings().map_or("", |settings| &settings.prefix),
            owner => &self.servers[usize::from(owner)].settings.prefix,
        };
        owner.is_some_and(|owner| !prefix(owner).is_empty())
    }

    /// What somebody is told who calls what nobody is known to have.
    pub(super) fn unknown(&self, view: View, kind: ListKind, name: &str) -> RpcError {
        let what = if kind == ListKind::Tools { "tool" } else { "prompt" };
        let servers = self.candidates(view, kind, name).unwrap_or_default();
        let is_unread = |server: &&u16| {
            let has_names = self.lists.get(&(**server, kind)).is_some_and(|cached| cached.names.is_some());
            !has_names && self.servers[usize::from(**server)].offers(kind)
        };
        match servers.iter().find(is_unread) {
            None => RpcError::new(Code::INVALID_PARAMS, format!("Unknown {what}: {name}")),
            Some(&server) => {
                let server = &self.servers[usize::from(server)].settings.name;
                let text = format!(
                    "{what} {name} is not known, and may be one of server {server}, whose {what}s could not be read; \
                     try again shortly"
                );
                RpcError::new(Code::BAD_GATEWAY, text)
            }
        }
    }

    /// A list was read, or could not be. What it says may be whose a name is, for which others are waited for as well.
    pub(super) fn waits_no_longer(&mut self, index: u16, kind: ListKind) {
        let has_prefix = |server: u16| !self.servers[usize::from(server)].settings.prefix.is_empty();
        let mut unnamed = std::mem::take(&mut self.unnamed);
        for one in unnamed.iter_mut().filter(|one| one.kind == kind) {
            let Some(place) = one.waits.iter().position(|server| *server == index) else { continue };
            one.waits.swap_remove(place);
            let own = self.seen(one.kept.view).and_then(|seen| seen.own(kind, &one.name));
            let is_prefixed = |own| self.is_prefixed(self.told_in(one.kept.view, kind).server_of(own));
            if has_prefix(index) && !one.waits.iter().copied().all(has_prefix) && own.is_some_and(is_prefixed) {
                one.waits.retain(|server| has_prefix(*server));
            }
        }
        self.unnamed = unnamed;
    }

    /// Goes on with the calls that have waited.
    pub(super) fn go_on(&mut self, now: Nanos) {
        if self.unnamed.is_empty() {
            return;
        }
        let is_over = |one: &Unnamed| one.waits.is_empty() || one.until <= now;
        let (over, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unnamed).into_iter().partition(is_over);
        self.unnamed = waiting;
        for Unnamed { kept, deadline, .. } in over {
            let call = kept.call(now, deadline);
            let mut out = Vec::new();
            let outcome = match self.call_merged(&call, false, &mut out) {
                Served::Done => Ok(out.into()),
                Served::Failed(error) => Err(error),
                Served::Pending => continue,
            };
            self.mailbox.push(Mail::Reply { key: call.key, outcome });
        }
    }

    /// A server is there, or there again: what it had before may have changed meanwhile.
    pub(super) fn read_anew(&mut self, index: u16) {
        self.servers[usize::from(index)].are_lists_read = false;
        for kind in ListKind::ALL {
            if let Some(cached) = self.lists.get_mut(&(index, kind)) {
                cached.was_asked = false;
            }
        }
    }
}

impl Server {
    /// Whether it is there, or is being reached for the first time.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.verdict, Verdict::Known(_)) || (self.last_failure.is_empty() && !self.is_retired)
    }

    /// There is no way any more to a server that was there. What it speaks is still known, so it is not asked anew: its
    /// calls find out by themselves when it is back.
    pub(super) fn went_away(&mut self, why: &str) {
        if matches!(self.verdict, Verdict::Known(_)) && self.last_failure != why {
            tracing::warn!(server = &*self.settings.name, "{why}");
            self.metrics.lost.add(u64::from(self.last_failure.is_empty()));
            self.note_failure(why.to_owned());
        }
    }

    /// It has answered.
    pub(super) fn came_back(&mut self) {
        if matches!(self.verdict, Verdict::Known(_)) && !self.last_failure.is_empty() {
            tracing::info!(server = &*self.settings.name, "it is reached again");
            self.note_failure(String::new());
        }
    }

    /// Notes why it cannot be reached; nothing, if it can. The core that speaks to it shows that.
    pub(super) fn note_failure(&mut self, why: String) {
        if self.channel.owner().is_none() {
            self.metrics.last_failure.set(&why);
        }
        self.last_failure = why;
    }

    /// Whether it may have such a list, as far as it has said.
    pub(super) fn offers(&self, kind: ListKind) -> bool {
        self.about.as_ref().is_none_or(|about| match kind {
            ListKind::Prompts => about.offers.prompts,
            ListKind::Resources | ListKind::Templates => about.offers.resources,
            ListKind::Tools => about.offers.tools,
        })
    }
}

/// Whether a server may have something that is called so where several are seen; `is_prefixed` says that the name is
/// known to begin with a server's.
fn may_have(server: &Server, name: &str, is_prefixed: bool) -> bool {
    let prefix = &*server.settings.prefix;
    naming::fits(prefix, name) && !(is_prefixed && prefix.is_empty())
}
