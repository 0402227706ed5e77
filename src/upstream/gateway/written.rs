//! Pages of merged lists as they were written, for whoever asks for the same again.
//!
//! Not here: which items there are and what they are called (`lists`, `told`), what stands around a page (`merge`).
//! Invariant: a page says what the lists say that are at hand; all of a kind are forgotten when one of those changes.
//!
//! To write a page costs about a microsecond for each item, and most callers of one server want the same.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::flight::ListKind;
use crate::ids::View;
use crate::limits::WRITTEN_PAGES_BYTES_MAX;
use crate::proto::mcp::Version;

/// Which page of which list, for callers of one revision.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub view: View,
    pub kind: ListKind,
    pub version: Version,
    /// How many items come before it.
    pub start: usize,
}

/// Where an item stands: whose it is, in the order of the list (the native server's come first), and which of those.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Position {
    pub source: usize,
    pub item: usize,
}

/// The items of a page.
#[derive(Default)]
pub(super) struct Page {
    /// As a JSON array.
    pub items: Vec<u8>,
    /// The first item of the next page, if there is one.
    pub next: Option<Position>,
}

/// The pages of one core.
#[derive(Default)]
pub(super) struct Written {
    kept: RefCell<HashMap<PageKey, Rc<Page>>>,
    bytes: Cell<usize>,
}

impl Written {
    /// A page, if it was written since its list changed.
    pub fn get(&self, key: PageKey) -> Option<Rc<Page>> {
        self.kept.borrow().get(&key).cloned()
    }

    /// Keeps a page. If there is no room for it, the others go.
    pub fn keep(&self, key: PageKey, page: Rc<Page>) {
        let bytes = page.items.len();
        if bytes > WRITTEN_PAGES_BYTES_MAX {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        if self.bytes.get() + bytes > WRITTEN_PAGES_BYTES_MAX {
            kept.clear();
            self.bytes.set(0);
        }
        let before = kept.insert(key, page).map_or(0, |before| before.items.len());
        self.bytes.set(self.bytes.get() + bytes - before);
    }

    /// Some list of this kind is another, or all are.
    pub fn forget(&self, kind: Option<ListKind>) {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|key, _| kind.is_some_and(|kind| key.kind != kind));
        self.bytes.set(kept.values().map(|page| page.items.len()).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: ListKind, start: usize) -> PageKey {
        PageKey { view: View::ALL, kind, version: Version::V2026_07_28, start }
    }

    fn page(bytes: usize) -> Rc<Page> {
        Rc::new(Page { items: vec![b' '; bytes], next: None })
    }

    #[test]
    fn pages_of_a_kind_are_forgotten_together() {
        let pages = Written::default();
        pages.keep(key(ListKind::Tools, 0), page(10));
        pages.keep(key(ListKind::Tools, 250), page(20));
        pages.keep(key(ListKind::Prompts, 0), page(5));
        pages.forget(Some(ListKind::Tools));
        assert!(pages.get(key(ListKind::Tools, 0)).is_none() && pages.get(key(ListKind::Tools, 250)).is_none());
        assert!(pages.get(key(ListKind::Prompts, 0)).is_some());
        assert_eq!(pages.bytes.get(), 5);
        pages.forget(None);
        assert!(pages.get(key(ListKind::Prompts, 0)).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pages = Written::default();
        for start in 0..10 {
            pages.keep(key(ListKind::Tools, start), page(WRITTEN_PAGES_BYTES_MAX / 3));
            pages.keep(key(ListKind::Tools, start), page(WRITTEN_PAGES_BYTES_MAX / 3));
            assert!(pages.bytes.get() <= WRITTEN_PAGES_BYTES_MAX);
            assert!(pages.get(key(ListKind::Tools, start)).is_some());
        }
        pages.keep(key(ListKind::Tools, 99), page(WRITTEN_PAGES_BYTES_MAX + 1));
        assert!(pages.get(key(ListKind::Tools, 99)).is_none() && pages.get(key(ListKind::Tools, 9)).is_some());
    }
}
