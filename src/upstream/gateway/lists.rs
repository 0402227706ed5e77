//! Lists that callers ask for: put together from what each server of their view has, as soon as that is known.
//!
//! Not here: how a list is written (`merge`), read of one server (`send`, `hear`).
//! Invariant: a server that is slow or down is waited for no longer than its own time, and costs its own items only.

use std::rc::Rc;

use super::cursors::{Cursor, with_cursor};
use super::flight::ListKind;
use super::items;
use super::merge::{self, Hint, Job, PATIENCE};
use super::request::Era;
use super::server::Verdict;
use super::told::Told;
use super::written::{Page, PageKey, Position};
use super::{Gateway, Seen, invalid, uris};
use crate::limits::{LIST_PAGE_DEFAULT, NATIVE_PAGES_MAX};
use crate::proto::json::{Array, Envelope, Key, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::server::service::{Call, Mail, Nanos, Served, Service};

impl<S: Service> Gateway<S> {
    /// A merged list: told at once if every server's is at hand, else when it is.
    pub(super) fn list(&mut self, call: &Call<'_>, kind: ListKind, out: &mut Vec<u8>) -> Served {
        let cursor = match self.cursor_of(call) {
            Ok(cursor) => cursor,
            Err(error) => return Served::Failed(error),
        };
        let start = cursor.map_or(0, |cursor| cursor.at as usize);
        let Some(seen) = self.seen(call.view) else { return invalid("there is no such view") };
        let (servers, seen_alone) = (seen.servers.clone(), seen.alone);
        let (mut waits, mut asked, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for server in servers {
            let cached = self.lists.entry((server, kind)).or_default();
            if cached.is_fresh(call.now, self.list_ttl) {
                continue;
            }
            let known = matches!(self.servers[usize::from(server)].verdict, Verdict::Known(_));
            if !known {
                // A server that is down is not waited for; one that is being reached, or about to be, tells when it is.
                let one = &self.servers[usize::from(server)];
                let is_awaited = one.verdict == Verdict::Asking || one.is_coming();
                if is_awaited && cached.items.is_none() {
                    waits.push(server);
                }
                continue;
            }
            // A server that could not give its list when it was asked last keeps nobody waiting: what was told before
            // is told again, and said to be old, or it is left out until it was read.
            if cached.is_worth_waiting() {
                let is_left = seen_alone.is_none() && cached.is_told_old();
                if is_left { &mut left } else { &mut waits }.push(server);
            }
            if cached.may_be_read() {
                self.read(call.now, server, kind);
                asked.push(server);
            }
        }
        let (native, native_hint) = self.native_items(call, kind);
        let (key, view, version) = (call.key, call.view, call.version);
        // Whoever asks one server only has nobody else's list to be told.
        let patient_until = if seen_alone.is_some() { Nanos::MAX } else { call.now + PATIENCE };
        let job = Job { key, view, kind, version, start, native, native_hint, waits, left, patient_until };
        if job.waits.is_empty() {
            out.extend_from_slice(&self.render(&job, call.now));
            asked.into_iter().for_each(|server| self.settle(call.now, server));
            return Served::Done;
        }
        self.jobs.push(job);
        asked.into_iter().for_each(|server| self.settle(call.now, server));
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

    /// A list of one server was read, and is what it was.
    pub(super) fn listed_again(&mut self, now: Nanos, index: u16, kind: ListKind) {
        let Some(items) = self.lists.get_mut(&(index, kind)).and_then(|cached| cached.items.take()) else {
            // What it was is not known here any more.
            let server = &mut self.servers[usize::from(index)];
            server.told_last.forget(kind);
            return server.fetch(now, kind);
        };
        let outcome = Ok(items);
        self.tell_list(index, kind, &outcome);
        self.lists.entry((index, kind)).or_default().items = outcome.ok();
        self.listed(now, index, kind, Ok(None));
    }

    /// A list of one server was read, or could not be: whoever waits for it waits no longer. None if it is what it was.
    pub(super) fn listed(
        &mut self,
        at: Nanos,
        index: u16,
        kind: ListKind,
        outcome: Result<Option<Vec<Box<[u8]>>>, RpcError>,
    ) {
        let is_there = matches!(self.servers[usize::from(index)].verdict, Verdict::Known(_));
        let cached = self.lists.entry((index, kind)).or_default();
        let was_told_old = std::mem::take(&mut cached.was_told_old);
        // Whoever asked meanwhile was told without it.
        let mut is_news = cached.failures > 0 && outcome.is_ok();
        cached.was_read(at, is_there, outcome.is_ok());
        self.note_retries(index);
        let cached = self.lists.entry((index, kind)).or_default();
        if let Ok(items) = outcome {
            let server = &self.servers[usize::from(index)];
            let is_modern = server.verdict == Verdict::Known(Era::Modern);
            (cached.at, cached.hint) = (at, server.hints.get(&kind).copied().flatten());
            // What was made of the same holds, and takes far longer to make than to compare.
            let is_another = |items: &Vec<_>| cached.is_modern != is_modern || cached.items.as_ref() != Some(items);
            if let Some(items) = items.filter(is_another) {
                is_news |= was_told_old;
                self.take_list(index, kind, is_modern, items);
            }
        }
        if is_news {
            self.mailbox.push(Mail::Changed(kind.change()));
        }
        for job in self.jobs.iter_mut().filter(|job| job.kind == kind) {
            job.waits.retain(|&server| server != index);
            // One that still waits for another is told what there is by then.
            job.left.retain(|&server| server != index);
        }
        self.waits_no_longer(index, kind);
    }

    /// Tells those who wait for nothing any more.
    pub(super) fn end_jobs(&mut self, now: Nanos) {
        for job in self.jobs.extract_if(.., |job| job.waits.is_empty()).collect::<Vec<_>>() {
            let outcome = Ok(self.render(&job, now).into());
            self.mailbox.push(Mail::Reply { key: job.key, outcome });
        }
    }

    /// When somebody has waited long enough for a list of which there is an older one.
    pub(super) fn patience(&self) -> Option<Nanos> {
        let is_old = |job: &Job| job.waits.iter().any(|&server| self.has_list(server, job.kind));
        let waiting = self.jobs.iter().filter(|job| job.patient_until != Nanos::MAX);
        waiting.filter(|job| is_old(job)).map(|job| job.patient_until).min()
    }

    /// Whoever has waited long enough is told what there is.
    pub(super) fn lose_patience(&mut self, now: Nanos) {
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in jobs.iter_mut().filter(|job| job.patient_until <= now) {
            let left: Vec<u16> = job.waits.extract_if(.., |server| self.has_list(*server, job.kind)).collect();
            for server in &left {
                self.lists.entry((*server, job.kind)).or_default().was_told_old = true;
            }
            job.left.extend(left);
        }
        self.jobs = jobs;
        self.end_jobs(now);
    }

    /// Whether it is known what a server had in its list.
    fn has_list(&self, server: u16, kind: ListKind) -> bool {
        self.lists.get(&(server, kind)).is_some_and(|cached| cached.items.is_some())
    }

    /// Notes when lists of a server are read again that could not be read.
    fn note_retries(&mut self, index: u16) {
        let of = |kind| self.lists.get(&(index, kind)).and_then(|cached| cached.retry_at);
        self.servers[usize::from(index)].retry_lists_at = ListKind::ALL.into_iter().filter_map(of).min();
    }

    /// Reads the lists again whose pause after a failure is over, whether or not somebody asks for them.
    pub(super) fn retry_lists(&mut self, now: Nanos, index: u16) {
        let server = &mut self.servers[usize::from(index)];
        if server.retry_lists_at.is_none_or(|at| at > now) {
            return;
        }
        if self.draining {
            server.retry_lists_at = None;
            return;
        }
        for kind in ListKind::ALL {
            let Some(cached) = self.lists.get_mut(&(index, kind)) else { continue };
            if cached.retry_at.take_if(|at| *at <= now).is_some() {
                self.read(now, index, kind);
            }
        }
        self.note_retries(index);
    }

    /// A list of a server is another.
    fn take_list(&mut self, index: u16, kind: ListKind, is_modern: bool, mut items: Vec<Box<[u8]>>) {
        if kind == ListKind::Tools {
            let server = &mut self.servers[usize::from(index)];
            server.note_annotations(&mut items);
            server.metrics.tools.set(items.len() as u64);
            self.tell_own_annotations(index);
        }
        // One that is kept back has its name all the same, so that those of others stay what they are.
        let whole = self.servers[usize::from(index)].pinned.whole().filter(|_| kind == ListKind::Tools);
        let all = whole.unwrap_or(&items).iter().filter(|_| kind.is_read_ahead());
        let names = all.filter_map(|item| merge::own_name(kind, item).map(|own| (*own).into())).collect();
        let cached = self.lists.entry((index, kind)).or_default();
        (cached.items, cached.names, cached.is_modern) = (Some(items), Some(names), is_modern);
        self.told_anew(index, kind);
    }

    /// The native server's own items, of all its pages, if it is seen: it has them at hand.
    fn native_items(&mut self, call: &Call<'_>, kind: ListKind) -> (Vec<Box<[u8]>>, Option<Hint>) {
        let (mut items, mut hint, mut cursor) = (Vec::new(), None, None);
        if !self.seen(call.view).is_some_and(|seen| seen.native) {
            return (items, hint);
        }
        for _ in 0..NATIVE_PAGES_MAX {
            // The caller's cursor is one of ours, which says nothing to it.
            let text = with_cursor(call, cursor.as_deref().unwrap_or_default());
            let mut envelope = Envelope::default();
            if self.scanner.scan(&text, &mut envelope).is_err() {
                break;
            }
            let mut result = Vec::new();
            let Served::Done = self.native.call(&Call { text: &text, envelope: &envelope, ..*call }, &mut result)
            else {
                break;
            };
            let result = Value::new(&result);
            let page = result.get(kind.member()).into_iter().flat_map(Value::elements);
            items.extend(page.map(|item| Box::from(item.raw())));
            hint = hint.or(Hint::of(result));
            cursor = result.get("nextCursor").and_then(Value::as_str).map(std::borrow::Cow::into_owned);
            if cursor.is_none() {
                break;
            }
        }
        (items, hint)
    }

    pub(super) fn render(&self, job: &Job, now: Nanos) -> Vec<u8> {
        let Some(seen) = self.seen(job.view) else { return b"{}".to_vec() };
        let kind = job.kind;
        let page = self.written_page(job, seen);
        let mut marks = merge::Marks::default();
        for &server in &seen.servers {
            let is_left = job.left.contains(&server);
            let (cached, server) = (self.lists.get(&(server, kind)), &self.servers[usize::from(server)]);
            let has_failed = is_left || cached.is_some_and(|cached| cached.has_failed);
            if matches!(server.verdict, Verdict::Known(_)) && !has_failed {
                continue;
            }
            match cached.is_some_and(|cached| cached.items.is_some()) {
                true => marks.stale.push(&server.settings.name),
                false => marks.absent.push(&server.settings.name),
            }
        }
        let hint = self.hint_of(job, &seen.servers, now);
        let cursor = page.next.map(|_| {
            let at = (job.start + LIST_PAGE_DEFAULT).try_into().unwrap_or(u32::MAX);
            Cursor { view: job.view, method: kind.method(), at, own: "".into() }.seal(&*self.host)
        });
        let about = if seen.is_native_alone { self.native.service.about(job.view).ok() } else { None };
        let server_info = &about.unwrap_or(&seen.about).server_info;
        let head = merge::Head { kind, version: job.version, hint, server_info };
        merge::page(&head, &page.items, cursor, &marks)
    }

    /// A page as it was written last, or written now.
    fn written_page(&self, job: &Job, seen: &Seen) -> Rc<Page> {
        let key = PageKey { view: job.view, kind: job.kind, version: job.version, start: job.start };
        if let Some(page) = self.written.get(key) {
            return page;
        }
        let before = job.start.checked_sub(LIST_PAGE_DEFAULT).map(|start| PageKey { start, ..key });
        let page = match before.and_then(|before| self.written.get(before)).map(|before| before.next) {
            Some(Some(next)) => self.page_from(job, seen, next, 0),
            Some(None) => Page { items: b"[]".to_vec(), next: None },
            None => self.page_from(job, seen, Position::default(), job.start),
        };
        let page = Rc::new(page);
        self.written.keep(key, Rc::clone(&page));
        page
    }

    /// Writes the page that begins so many items behind a position.
    fn page_from(&self, job: &Job, seen: &Seen, from: Position, mut skip: usize) -> Page {
        let kind = job.kind;
        let among_others = seen.alone.is_none();
        let told =
            (among_others && matches!(kind, ListKind::Prompts | ListKind::Tools)).then(|| self.told_in(job.view, kind));
        let mut page = Page::default();
        let (mut count, mut array) = (0, Array::begin(&mut page.items));
        'sources: for source in from.source..=seen.servers.len() {
            let first = if source == from.source { from.item } else { 0 };
            let server = source.checked_sub(1).map(|index| seen.servers[index]);
            let cached = server.map(|server| self.lists.get(&(server, kind)));
            let items = match cached {
                None => job.native.as_slice(),
                Some(cached) => cached.and_then(|cached| cached.items.as_deref()).unwrap_or_default(),
            };
            let is_of_other_era = cached.flatten().is_some_and(|cached| cached.is_modern != job.version.is_modern());
            for (index, item) in items.iter().enumerate().skip(first) {
                let written = match server {
                    None => self.shown_native(job, seen, told.as_deref(), item),
                    Some(server) => self.shown(job, seen, told.as_deref(), server, is_of_other_era, item),
                };
                let Some(written) = written else { continue };
                if skip > 0 {
                    skip -= 1;
                } else if count == LIST_PAGE_DEFAULT {
                    page.next = Some(Position { source, item: index });
                    break 'sources;
                } else {
                    array.raw(&written);
                    count += 1;
                }
            }
        }
        array.end();
        page
    }

    /// An item of a server as it is seen in a view; none if it is not.
    fn shown(
        &self,
        job: &Job,
        seen: &Seen,
        told: Option<&Told>,
        server: u16,
        is_of_other_era: bool,
        item: &[u8],
    ) -> Option<Vec<u8>> {
        let kind = job.kind;
        let settings = &self.servers[usize::from(server)].settings;
        let own = merge::own_name(kind, item)?;
        let name = match told {
            Some(told) => told.name_of(server, &own)?.to_owned(),
            None if seen.alone.is_none() => {
                format!("{}{}", uris::before(&settings.name), settings.rules.seen(kind, &own)?)
            }
            None => settings.rules.seen(kind, &own)?.to_owned(),
        };
        let mut item = merge::seen(kind, item, &own, &name, &settings.rules);
        if kind != ListKind::Tools {
            return Some(item);
        }
        if is_of_other_era {
            item = items::for_other_era(item)?;
        }
        if !job.version.is_modern() {
            item = items::for_legacy(item);
        }
        merge::chosen(item, &seen.tools)
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
            if self.jobs.iter().any(|job| job.kind == kind && job.waits.contains(&index)) {
                self.read(now, index, kind);
            }
        }
    }

    /// Tools and prompts of a server are read before somebody asks for them, and again when they changed: which of a
    /// tool's arguments stand in headers has to be known before a modern caller's first call, and whose a name is
    /// before any.
    pub(super) fn read_ahead(&mut self, now: Nanos, index: u16) {
        let server = &self.servers[usize::from(index)];
        if server.are_lists_read || server.is_own || !matches!(server.verdict, Verdict::Known(_)) {
            return;
        }
        let mut are_read = true;
        for kind in [ListKind::Prompts, ListKind::Tools] {
            if !self.servers[usize::from(index)].offers(kind) {
                self.waits_no_longer(index, kind);
                continue;
            }
            if !self.lists.entry((index, kind)).or_default().was_asked {
                self.read(now, index, kind);
                // What changed while it is read is read again behind that.
                are_read &= self.lists.get(&(index, kind)).is_some_and(|cached| cached.was_asked);
            }
        }
        self.servers[usize::from(index)].are_lists_read = are_read;
    }

    /// Reads a list of a server, if it is not being read.
    pub(super) fn read(&mut self, now: Nanos, index: u16, kind: ListKind) {
        let cached = self.lists.entry((index, kind)).or_default();
        if !cached.fetching {
            (cached.fetching, cached.was_asked) = (true, true);
            self.servers[usize::from(index)].fetch(now, kind);
        }
    }
}
