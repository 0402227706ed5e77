//! Lists that callers ask for: put together from what each server of their view has, as soon as that is known.
//!
//! Not here: how a list is written (`merge`), read of one server (`send`, `hear`).
//! Invariant: a server that is slow or down is waited for no longer than its own time, and costs its own items only.

use super::cursors::Cursor;
use super::flight::ListKind;
use super::items;
use super::merge::{self, Hint, Job};
use super::request::Era;
use super::server::Verdict;
use super::{Gateway, invalid, uris};
use crate::proto::json::{Key, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::server::service::{Call, Nanos, Served, Service};

impl<S: Service> Gateway<S> {
    /// A merged list: told at once if every server's is at hand, else when it is.
    pub(super) fn list(&mut self, call: &Call<'_>, kind: ListKind, out: &mut Vec<u8>) -> Served {
        let cursor = match self.cursor_of(call) {
            Ok(cursor) => cursor,
            Err(error) => return Served::Failed(error),
        };
        let start = cursor.map_or(0, |cursor| cursor.at as usize);
        let Some(seen) = self.seen(call.view) else { return invalid("there is no such view") };
        let servers = seen.servers.clone();
        let mut waits = Vec::new();
        for server in servers {
            let cached = self.lists.entry((server, kind)).or_default();
            if cached.is_fresh(call.now, self.list_ttl) {
                continue;
            }
            let known = matches!(self.servers[usize::from(server)].verdict, Verdict::Known(_));
            if !known {
                // A server that is down is not waited for; one that is being reached tells when it is.
                let asking = self.servers[usize::from(server)].verdict == Verdict::Asking;
                if asking && cached.items.is_none() {
                    waits.push(server);
                }
                continue;
            }
            if !cached.fetching {
                cached.fetching = true;
                self.servers[usize::from(server)].fetch(call.now, kind);
            }
            // What was told before is told again while it is read anew.
            if self.lists.get(&(server, kind)).is_none_or(|cached| cached.items.is_none()) {
                waits.push(server);
            }
        }
        let (native, native_hint) = self.native_items(call, kind);
        let (key, view, version) = (call.key, call.view, call.version);
        let job = Job { key, view, kind, version, start, native, native_hint, waits };
        if job.waits.is_empty() {
            out.extend_from_slice(&self.render(&job, call.now));
            self.settle_all(call.now);
            return Served::Done;
        }
        self.jobs.push(job);
        self.settle_all(call.now);
        Served::Pending
    }

    /// The cursor that a call of a list comes with, opened; none if it asks for the first page.
    ///
    /// # Errors
    /// If it is not one of ours for this list in this view.
    pub(super) fn cursor_of(&self, call: &Call<'_>) -> Result<Option<Cursor>, RpcError> {
        if !call.envelope.has(Key::Cursor) {
            return Ok(None);
        }
        let sealed = call.envelope.str(Key::Cursor, call.text);
        let cursor = sealed
            .and_then(|sealed| self.host.open(&sealed))
            .and_then(|plain| Cursor::read(&plain, call.view, call.method));
        let stranger = || RpcError::new(Code::INVALID_PARAMS, "this cursor is not one of ours, or no longer");
        cursor.map(Some).ok_or_else(stranger)
    }

    /// A list of one server was read, or could not be: whoever waits for it waits no longer.
    pub(super) fn listed(&mut self, at: Nanos, index: u16, kind: ListKind, outcome: Result<Vec<Box<[u8]>>, RpcError>) {
        let cached = self.lists.entry((index, kind)).or_default();
        (cached.fetching, cached.has_failed) = (false, outcome.is_err());
        if let Ok(mut items) = outcome {
            if kind == ListKind::Tools {
                let server = &mut self.servers[usize::from(index)];
                server.note_annotations(&mut items);
                server.metrics.tools.set(items.len() as u64);
                self.tell_own_annotations(index);
            }
            let server = &self.servers[usize::from(index)];
            let is_modern = server.verdict == Verdict::Known(Era::Modern);
            let hint = server.hints.get(&kind).copied().flatten();
            let cached = self.lists.entry((index, kind)).or_default();
            (cached.items, cached.is_modern, cached.hint) = (Some(items), is_modern, hint);
            cached.at = at;
            self.forget_told(kind);
        }
        for job in self.jobs.iter_mut().filter(|job| job.kind == kind) {
            job.waits.retain(|&server| server != index);
        }
    }

    /// The native server's own items, if it is seen: it has them at hand.
    fn native_items(&mut self, call: &Call<'_>, kind: ListKind) -> (Vec<Box<[u8]>>, Option<Hint>) {
        if !self.seen(call.view).is_some_and(|seen| seen.native) {
            return (Vec::new(), None);
        }
        let mut result = Vec::new();
        match self.native.call(call, &mut result) {
            Served::Done => {
                let result = Value::new(&result);
                let items = result.get(kind.member()).into_iter().flat_map(Value::elements);
                (items.map(|item| item.raw().into()).collect(), Hint::of(result))
            }
            _ => (Vec::new(), None),
        }
    }

    pub(super) fn render(&self, job: &Job, now: Nanos) -> Vec<u8> {
        let Some(seen) = self.seen(job.view) else { return b"{}".to_vec() };
        let kind = job.kind;
        let among_others = seen.alone.is_none();
        let told =
            (among_others && matches!(kind, ListKind::Prompts | ListKind::Tools)).then(|| self.told_in(job.view, kind));
        let items = seen.servers.iter().flat_map(|&server| {
            let settings = &self.servers[usize::from(server)].settings;
            let cached = self.lists.get(&(server, kind));
            let is_of_other_era = cached.is_some_and(|cached| cached.is_modern != job.version.is_modern());
            let cached = cached.and_then(|cached| cached.items.as_deref());
            let tools = (kind == ListKind::Tools).then_some(&seen.tools);
            let told = told.clone();
            cached.unwrap_or_default().iter().filter_map(move |item| {
                let own = merge::own_name(kind, item)?;
                let name = match &told {
                    Some(told) => told.name_of(server, &own)?.to_owned(),
                    None if among_others => {
                        format!("{}{}", uris::before(&settings.name), settings.seen(kind, &own)?)
                    }
                    None => settings.seen(kind, &own)?.to_owned(),
                };
                let mut item = merge::seen(kind, item, &own, &name, settings);
                if kind == ListKind::Tools && is_of_other_era {
                    item = items::for_other_era(item)?;
                }
                if kind == ListKind::Tools && !job.version.is_modern() {
                    item = items::for_legacy(item);
                }
                match tools {
                    Some(tools) => merge::chosen(item, tools),
                    None => Some(item),
                }
            })
        });
        let mut marks = merge::Marks::default();
        for &server in &seen.servers {
            let (cached, server) = (self.lists.get(&(server, kind)), &self.servers[usize::from(server)]);
            let has_failed = cached.is_some_and(|cached| cached.has_failed);
            if matches!(server.verdict, Verdict::Known(_)) && !has_failed {
                continue;
            }
            match cached.is_some_and(|cached| cached.items.is_some()) {
                true => marks.stale.push(&server.settings.name),
                false => marks.absent.push(&server.settings.name),
            }
        }
        let native = job.native.iter().map(|item| item.to_vec());
        let hint = self.hint_of(job, &seen.servers, now);
        let cursor = |next: usize| {
            let at = next.try_into().unwrap_or(u32::MAX);
            Cursor { view: job.view, method: kind.method(), at, own: "".into() }.seal(&*self.host)
        };
        let head = merge::Head { kind, version: job.version, hint, server_info: &seen.about.server_info };
        merge::page(&head, native.chain(items), job.start, &marks, cursor)
    }

    /// How long the list of all these servers may be kept: no longer than each of theirs, of which none is kept longer
    /// than we keep any, and by others only if that holds of each.
    fn hint_of(&self, job: &Job, servers: &[u16], now: Nanos) -> Hint {
        let most = Hint { ttl_ms: self.list_ttl / 1_000_000, is_public: true };
        let of_server = |server: &u16| {
            let cached = self.lists.get(&(*server, job.kind)).filter(|cached| cached.items.is_some())?;
            let ttl_ms = cached.fresh_for(now, self.list_ttl) / 1_000_000;
            // What a legacy server says may depend on the session that it says it in.
            Some(Hint { ttl_ms, is_public: cached.hint.is_some_and(|hint| hint.is_public) })
        };
        servers.iter().filter_map(of_server).chain(job.native_hint).fold(most, Hint::and)
    }

    /// A server that has just been reached is asked for the lists that somebody waits for.
    pub(super) fn begin_awaited(&mut self, now: Nanos, index: u16) {
        if self.jobs.is_empty() || !matches!(self.servers[usize::from(index)].verdict, Verdict::Known(_)) {
            return;
        }
        for kind in ListKind::ALL {
            let awaited = self.jobs.iter().any(|job| job.kind == kind && job.waits.contains(&index));
            let cached = self.lists.entry((index, kind)).or_default();
            if awaited && !cached.fetching {
                cached.fetching = true;
                self.servers[usize::from(index)].fetch(now, kind);
            }
        }
    }

    /// The tools of a server are read before somebody asks for them: which of their arguments stand in headers has to
    /// be known before a modern caller's first call.
    pub(super) fn read_annotations(&mut self, now: Nanos, index: u16) {
        let server = &mut self.servers[usize::from(index)];
        let offers_tools = server.about.as_ref().is_some_and(|about| about.offers.tools);
        if !offers_tools || !matches!(server.verdict, Verdict::Known(_)) || server.annotations_known {
            return;
        }
        let cached = self.lists.entry((index, ListKind::Tools)).or_default();
        if !cached.fetching {
            server.annotations_known = true;
            cached.fetching = true;
            server.fetch(now, ListKind::Tools);
        }
    }
}
