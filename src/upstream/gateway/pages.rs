//! A server's lists, read page by page.
//!
//! Not here: who waits for one (`lists`). Invariant: a list has an end, in time, in items, in pages and in bytes,
//! whatever its server answers; an item that would spoil the list for its readers is not in it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use super::flight::{Errand, ListKind, Pages};
use super::items;
use super::merge::Hint;
use super::pins::Pinning;
use super::request::Era;
use super::send::{modern_meta, write_request};
use super::server::{Report, Server, Verdict};
use super::words::{self, kind};
use crate::proto::json::{Value, ValueKind};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::Nanos;
use crate::upstream::talk::Passage;

/// What lists of one page were, as digests: one that is told again as it was is not looked at again, which for ten
/// thousand items would take milliseconds, each time that it is read anew, for which all other calls wait. Digests are
/// keyed at random, so that no server can have two lists of one digest.
#[derive(Default)]
pub(super) struct ToldLast {
    keyed: RandomState,
    digests: HashMap<ListKind, u64>,
}

impl ToldLast {
    fn digest(&self, is_modern: bool, result: &[u8]) -> u64 {
        self.keyed.hash_one((is_modern, result))
    }

    /// Whatever it is, it is looked at when it is read next.
    pub fn forget(&mut self, kind: ListKind) {
        self.digests.remove(&kind);
    }
}

const LIST_ITEMS_MAX: usize = 20_000;
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;
const LIST_PAGES_MAX: usize = 4_000;

impl Server {
    /// Reads a list, page by page. Its end is a `Report::List`.
    pub fn fetch(&mut self, now: Nanos, kind: ListKind) {
        if let Some(owner) = self.channel.owner() {
            return self.callers.tell(owner, kind::FETCH, words::number_of_list(kind), Vec::new());
        }
        let deadline = now + self.settings.list_time;
        let (items, cursors) = (Vec::new(), Default::default());
        let pages = Pages { kind, items, bytes: 0, cursors, flaws: 0, hint: None, deadline };
        self.fetch_page(now, pages, None);
    }

    pub(super) fn fetch_page(&mut self, now: Nanos, pages: Pages, cursor: Option<&[u8]>) {
        let Verdict::Known(era) = self.verdict else {
            return self.reports.push(Report::List(pages.kind, Err(self.unreachable())));
        };
        if !era.is_modern() && !self.has_own_session(now) {
            let text = format!("server {} is opening its session again; try again", self.settings.name);
            return self.reports.push(Report::List(pages.kind, Err(RpcError::new(Code::BAD_GATEWAY, text))));
        }
        let session = (!era.is_modern()).then(|| self.own_session());
        let serial = self.next_serial();
        let method = pages.kind.method().as_str();
        let body = |out: &mut Vec<u8>| {
            write_request(out, serial, method, |params| {
                if era.is_modern() {
                    modern_meta(params, Capabilities::default());
                }
                if let Some(cursor) = cursor {
                    params.raw("cursor", cursor);
                }
            });
        };
        // That of the whole list: many pages that come quickly have no more time than one that comes slowly.
        let deadline = pages.deadline;
        self.errand(
            now,
            Errand::Page(pages),
            Some(era),
            session,
            Some(method),
            Passage::Request(serial),
            deadline,
            body,
        );
    }

    /// One page of a list.
    pub(super) fn page(&mut self, now: Nanos, mut pages: Pages, result: Value<'_>) {
        let is_modern = self.verdict == Verdict::Known(Era::Modern);
        // Pins are of what is there, and change while the list stays.
        let may_be_known = pages.cursors.is_empty() && self.pinned.policy == Pinning::Off;
        let digest = may_be_known.then(|| self.told_last.digest(is_modern, result.raw()));
        if digest.is_some() && self.told_last.digests.get(&pages.kind) == digest.as_ref() {
            return self.reports.push(Report::ListAgain(pages.kind));
        }
        self.told_last.forget(pages.kind);
        let items = result.get(pages.kind.member()).into_iter().flat_map(Value::elements);
        for item in items {
            pages.bytes += item.raw().len();
            match items::flaw(pages.kind, item) {
                None => pages.items.push(item.raw().into()),
                Some(flaw) => {
                    pages.flaws += 1;
                    self.found_flaw(&pages, item, flaw);
                }
            }
        }
        let kind = pages.kind;
        let hint = Hint::of(result);
        pages.hint = match pages.cursors.is_empty() {
            true => hint,
            false => pages.hint.zip(hint).map(|(before, this)| before.and(this)),
        };
        let cursor = result.get("nextCursor").filter(|cursor| cursor.kind() == ValueKind::String);
        pages.bytes += cursor.map_or(0, |cursor| cursor.raw().len());
        let count = pages.items.len() + pages.flaws;
        if count > LIST_ITEMS_MAX || pages.bytes > LIST_BYTES_MAX || pages.cursors.len() >= LIST_PAGES_MAX {
            let text = format!(
                "server {} has a list of more than {LIST_ITEMS_MAX} items, {LIST_BYTES_MAX} bytes or {LIST_PAGES_MAX} \
                 pages",
                self.settings.name
            );
            return self.reports.push(Report::List(kind, Err(RpcError::new(Code::BAD_GATEWAY, text))));
        }
        match cursor {
            // A cursor that comes again leads round in circles: what was read is all there is.
            Some(cursor) if pages.cursors.insert(cursor.raw().into()) => {
                self.fetch_page(now, pages, Some(cursor.raw()));
            }
            _ => {
                self.flaws.insert(kind, pages.flaws);
                self.hints.insert(kind, pages.hint);
                if let Some(digest) = digest.filter(|_| cursor.is_none()) {
                    self.told_last.digests.insert(kind, digest);
                }
                self.reports.push(Report::List(kind, Ok(pages.items)));
            }
        }
    }

    /// An item is left out of a list, as the log says: the first one, and not again each time that the list is read.
    fn found_flaw(&self, pages: &Pages, item: Value<'_>, flaw: &str) {
        if pages.flaws > 1 || self.flaws.get(&pages.kind).is_some_and(|before| *before > 0) {
            return;
        }
        let (server, list) = (&*self.settings.name, pages.kind.method().as_str());
        let name = item.get(pages.kind.key()).and_then(Value::as_str).unwrap_or_default();
        let name: String = name.chars().take(64).collect();
        tracing::warn!(server, list, item = name, "an item of a list is left out, and others may be: {flaw}");
    }
}
