//! Lists of several servers as one: read from each, kept for a while, told in pages.
//!
//! Not here: reading a list of one server (`server`). Invariant: the order is that of the servers' names, and within a
//! server its own, whichever answered first; a server that is slow or down costs its own items and nobody else's.

use std::borrow::Cow;

use super::answer::renamed;
use super::flight::ListKind;
use super::rules::{Rules, ToolRules};
use crate::ids::View;
use crate::proto::json::{Object, Value};
use crate::proto::mcp::Version;
use crate::server::service::{CallKey, Nanos};

/// Pause before a list that could not be read is read again; it doubles with each failure, up to the second of these.
const RETRY: Nanos = 100_000_000;
const RETRY_MAX: Nanos = 30_000_000_000;
/// How long a caller of several servers' lists waits for one that is read anew. Then it is told what that server had
/// before, which is said to be old: what one calls good for no time is no reason to wait for it at each call.
pub(super) const PATIENCE: Nanos = 250_000_000;

/// One list of one server.
#[derive(Default)]
pub(super) struct Cached {
    /// The items as the server sent them; none before the first time, and when something changed since.
    pub items: Option<Vec<Box<[u8]>>>,
    /// The server's own names of what it had in it last, for those that are called by name. They are kept while it is
    /// read anew: what is called goes on to lead where it led.
    pub names: Option<Vec<Box<str>>>,
    /// When it was read.
    pub at: Nanos,
    /// It is being read.
    pub fetching: bool,
    /// It was asked for since its server told of a change, or was reached.
    pub was_asked: bool,
    /// When it was read last for the sake of a name that is not in it.
    pub looked_at: Nanos,
    /// It could not be read the last time that was tried.
    pub has_failed: bool,
    /// How often it could not be read, one time after the other, of a server that was there: nobody waits for it again
    /// before it was read.
    pub failures: u32,
    /// It was told as it was before, since reading it took too long: if it is another, whoever was told is told so.
    pub was_told_old: bool,
    /// When it is read again of our own accord.
    pub retry_at: Option<Nanos>,
    /// The server spoke 2026-07-28 when it was read.
    pub is_modern: bool,
    /// How long its server says that it may be kept.
    pub hint: Option<Hint>,
}

impl Cached {
    /// How long it can be told without asking again: as long as its server says, but no longer than this.
    pub fn fresh_for(&self, now: Nanos, most: Nanos) -> Nanos {
        let said = self.hint.map_or(most, |hint| hint.ttl_ms.saturating_mul(1_000_000));
        (self.at + said.min(most)).saturating_sub(now)
    }

    /// An attempt to read it ended, of a server that is there or is not.
    pub fn was_read(&mut self, now: Nanos, is_there: bool, is_read: bool) {
        (self.fetching, self.has_failed, self.retry_at) = (false, !is_read, None);
        if is_read || !is_there {
            self.failures = 0;
        } else {
            self.retry_at = Some(now + (RETRY << self.failures.min(10)).min(RETRY_MAX));
            self.failures += 1;
        }
    }

    /// Whether it is to be read when somebody asks for it: it is not being read, nor about to be after a failure.
    pub fn may_be_read(&self) -> bool {
        !self.fetching && self.retry_at.is_none()
    }

    /// Whether who asks for it waits until it was read, also if it is there and too old: what its server calls good for
    /// no time is good for no caller but those who waited for it. One that could not be read keeps nobody waiting.
    pub fn is_worth_waiting(&self) -> bool {
        self.failures == 0
    }

    /// Whether it is told as it was before while it is being read, because that takes too long.
    pub fn is_told_old(&self) -> bool {
        self.fetching && self.was_told_old && self.items.is_some()
    }

    /// Whether it can be told without asking again.
    pub fn is_fresh(&self, now: Nanos, most: Nanos) -> bool {
        self.items.is_some() && self.fresh_for(now, most) > 0
    }
}

/// How long a list may be kept, and whether by whoever comes by it (2026-07-28, "Caching").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hint {
    pub ttl_ms: u64,
    pub is_public: bool,
}

impl Hint {
    /// What a result says; none if it does not say how long.
    pub fn of(result: Value<'_>) -> Option<Hint> {
        let ttl_ms = result.get("ttlMs").and_then(Value::as_u64)?;
        let scope = result.get("cacheScope").and_then(Value::as_str);
        Some(Hint { ttl_ms, is_public: scope.as_deref() == Some("public") })
    }

    /// What holds of two lists, or two pages, together.
    pub fn and(self, other: Hint) -> Hint {
        Hint { ttl_ms: self.ttl_ms.min(other.ttl_ms), is_public: self.is_public && other.is_public }
    }
}

/// A caller that waits for a merged list.
pub(super) struct Job {
    pub key: CallKey,
    pub view: View,
    pub kind: ListKind,
    pub version: Version,
    pub start: usize,
    /// The native server's own items, which were at hand when it asked.
    pub native: Vec<Box<[u8]>>,
    /// How long that may be kept.
    pub native_hint: Option<Hint>,
    /// Servers whose lists are still being read.
    pub waits: Vec<u16>,
    /// Servers that it does not wait for any longer, since what they had before can be told.
    pub left: Vec<u16>,
    /// Until when it waits for such.
    pub patient_until: Nanos,
}

/// The server's own name of an item of its list.
pub(super) fn own_name(kind: ListKind, item: &[u8]) -> Option<Cow<'_, str>> {
    Value::new(item).get(kind.key()).and_then(Value::as_str)
}

/// An item of a server's list as its callers see it, by this name; `own` is what the server calls it.
pub(super) fn seen(kind: ListKind, item: &[u8], own: &str, name: &str, rules: &Rules) -> Vec<u8> {
    let mut seen = if name == own { item.to_vec() } else { renamed(Value::new(item), kind.key(), name) };
    if kind == ListKind::Tools
        && let Some(words) = rules.tools.describe.get(own)
    {
        seen = described(Value::new(&seen), words);
    }
    seen
}

/// A tool as a view has it that chooses and renames; none if it is not chosen.
pub(super) fn chosen(tool: Vec<u8>, rules: &ToolRules) -> Option<Vec<u8>> {
    if rules.is_empty() {
        return Some(tool);
    }
    let value = Value::new(&tool);
    let own = value.get("name").and_then(Value::as_str)?;
    let seen = rules.seen(&own)?;
    Some(if *seen == *own { tool.clone() } else { renamed(value, "name", seen) })
}

fn described(item: Value<'_>, words: &str) -> Vec<u8> {
    if item.get("description").is_some() {
        return renamed(item, "description", words);
    }
    let mut out = Vec::with_capacity(item.raw().len() + words.len() + 20);
    let mut object = Object::begin(&mut out);
    object.string("description", words);
    for (name, member) in item.members() {
        if let Some(name) = name.unescaped() {
            object.raw(&name, member.raw());
        }
    }
    object.end();
    out
}

/// What a merged list does not have as it is now.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Marks<'a> {
    /// Servers that are away, whose items are those they had last.
    pub stale: Vec<&'a str>,
    /// Servers that are away, of whose items nothing is known.
    pub absent: Vec<&'a str>,
}

/// What stands in each page of a merged list.
pub(super) struct Head<'a> {
    pub kind: ListKind,
    pub version: Version,
    pub hint: Hint,
    pub server_info: &'a [u8],
}

/// One page of a merged list, of items that are an array already, as a result object. `_meta` says what is not as it is
/// now, if anything is.
pub(super) fn page(head: &Head<'_>, items: &[u8], cursor: Option<String>, marks: &Marks<'_>) -> Vec<u8> {
    let Head { kind, version, hint, server_info } = *head;
    let mut out = Vec::with_capacity(items.len() + server_info.len() + 256);
    let mut result = Object::begin(&mut out);
    if version.is_modern() {
        result.string("resultType", "complete");
        result.integer("ttlMs", hint.ttl_ms);
        result.string("cacheScope", if hint.is_public { "public" } else { "private" });
    }
    result.raw(kind.member(), items);
    if let Some(cursor) = cursor {
        result.string("nextCursor", &cursor);
    }
    if version.is_modern() || *marks != Marks::default() {
        let mut meta = result.object("_meta");
        if version.is_modern() {
            meta.raw(super::answer::SERVER_INFO, server_info);
        }
        for (name, servers) in [("corelane/stale", &marks.stale), ("corelane/absent", &marks.absent)] {
            if !servers.is_empty() {
                let mut names = meta.array(name);
                servers.iter().for_each(|server| names.string(server));
                names.end();
            }
        }
        meta.end();
    }
    result.end();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_how_it_goes_on_and_what_is_not_as_it_is_now() {
        let hint = Hint { ttl_ms: 0, is_public: true };
        let head = Head { kind: ListKind::Tools, version: Version::V2025_11_25, hint, server_info: b"{}" };
        let marks = Marks { stale: vec!["a"], absent: Vec::new() };
        assert_eq!(page(&head, b"[1]", None, &Marks::default()), br#"{"tools":[1]}"#);
        let more = page(&head, b"[]", Some("c".to_owned()), &marks);
        assert_eq!(more, br#"{"tools":[],"nextCursor":"c","_meta":{"corelane/stale":["a"]}}"#);
    }

    #[test]
    fn a_list_is_kept_as_long_as_its_server_says_and_we_say() {
        let kept = |hint| Cached { items: Some(Vec::new()), at: 1_000_000, hint, ..Cached::default() };
        let says = |text: &[u8]| Hint::of(Value::new(text));
        let most = 9_000_000;
        assert_eq!(kept(None).fresh_for(2_000_000, most), 8_000_000);
        assert_eq!(kept(says(br#"{"ttlMs":4}"#)).fresh_for(2_000_000, most), 3_000_000);
        assert_eq!(kept(says(br#"{"ttlMs":18446744073709551615}"#)).fresh_for(2_000_000, most), 8_000_000);
        assert!(!kept(says(br#"{"ttlMs":0}"#)).is_fresh(1_000_000, most));
        let (public, private) = (says(br#"{"ttlMs":7,"cacheScope":"public"}"#), says(br#"{"ttlMs":9}"#));
        let both = public.zip(private).map(|(one, other)| one.and(other));
        assert_eq!(both, Some(Hint { ttl_ms: 7, is_public: false }));
        assert_eq!(says(br#"{"cacheScope":"public"}"#), None);
    }

    #[test]
    fn nobody_waits_for_a_list_that_failed_until_it_was_read_and_the_pauses_grow() {
        let mut cached = Cached::default();
        assert!(cached.may_be_read() && cached.is_worth_waiting());
        let pauses: Vec<Nanos> = (0..12)
            .map(|_| {
                cached.fetching = true;
                cached.was_read(5, true, false);
                assert!(cached.has_failed && !cached.may_be_read() && !cached.is_worth_waiting());
                cached.retry_at.expect("it is tried again") - 5
            })
            .collect();
        assert_eq!((pauses[0], pauses[1], pauses[11]), (RETRY, 2 * RETRY, RETRY_MAX));
        // One that is away is no matter of its list: what it says when it is back is waited for.
        cached.was_read(5, false, false);
        assert!(cached.has_failed && cached.may_be_read() && cached.is_worth_waiting());
        cached.was_read(5, true, false);
        cached.was_read(5, true, true);
        assert!(!cached.has_failed && cached.may_be_read() && cached.is_worth_waiting());
    }
}
