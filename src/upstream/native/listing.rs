//! The lists of tools, prompts, resources and templates, written once for every revision and copied from then on.
//!
//! Not here: the entries themselves.
//! Invariant: all pages together hold every entry once, in the order it was registered; a cursor is good for exactly
//! the list it was made from, also after a restart and on another machine, and for no other.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::output::{close_result, open_result};
use crate::proto::json::{self, string};
use crate::proto::mcp::Version;

/// How long and by whom a list or a resource's contents may be kept (2026-07-28).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheHint {
    ttl_ms: u64,
    public: bool,
}

impl CacheHint {
    /// By anybody, so long.
    pub const fn public(ttl_ms: u64) -> CacheHint {
        CacheHint { ttl_ms, public: true }
    }

    /// Only for the caller who asked, so long.
    pub const fn private(ttl_ms: u64) -> CacheHint {
        CacheHint { ttl_ms, public: false }
    }

    /// Appends `,"ttlMs":...,"cacheScope":...` where the revision has it.
    pub(super) fn write(self, out: &mut Vec<u8>, version: Version) {
        if version.is_modern() {
            out.extend_from_slice(br#","ttlMs":"#);
            json::integer(out, self.ttl_ms);
            let scope: &[u8] = if self.public { br#","cacheScope":"public""# } else { br#","cacheScope":"private""# };
            out.extend_from_slice(scope);
        }
    }
}

/// One list in all revisions.
pub(super) struct Listing {
    /// By revision, then by page: whole results.
    pages: [Vec<Vec<u8>>; Version::ALL.len()],
    /// The cursors of the second page and so on.
    cursors: Vec<String>,
}

impl Listing {
    /// Writes the pages of `member` from `count` entries, of which `write` appends one.
    pub fn build(
        member: &str,
        count: usize,
        page_size: usize,
        cache: CacheHint,
        modern_tail: &[u8],
        write: impl Fn(usize, &mut Vec<u8>, Version),
    ) -> Listing {
        let entries = Version::ALL.map(|version| {
            let entry = |index| {
                let mut entry = Vec::new();
                write(index, &mut entry, version);
                entry
            };
            (0..count).map(entry).collect::<Vec<_>>()
        });
        // `DefaultHasher::new` has fixed keys: the same list has the same cursors everywhere.
        let mut hasher = DefaultHasher::new();
        (member, &entries[Version::V2026_07_28 as usize]).hash(&mut hasher);
        let fingerprint = hasher.finish();
        let page_count = count.div_ceil(page_size).max(1);
        let cursors: Vec<String> = (1..page_count)
            .map(|page| {
                let mut hasher = DefaultHasher::new();
                (fingerprint, page).hash(&mut hasher);
                format!("{:016x}", hasher.finish())
            })
            .collect();
        let pages = Version::ALL.map(|version| {
            let entries = &entries[version as usize];
            let page = |page: usize| {
                let entries = &entries[page * page_size..count.min((page + 1) * page_size)];
                write_page(member, entries, cursors.get(page), cache, version, modern_tail)
            };
            (0..page_count).map(page).collect()
        });
        Listing { pages, cursors }
    }

    /// The page a cursor leads to; without one, the first.
    pub fn page(&self, version: Version, cursor: Option<&str>) -> Option<&[u8]> {
        let index = match cursor {
            None => 0,
            Some(cursor) => 1 + self.cursors.iter().position(|other| other == cursor)?,
        };
        self.pages[version as usize].get(index).map(Vec::as_slice)
    }
}

fn write_page(
    member: &str,
    entries: &[Vec<u8>],
    next_cursor: Option<&String>,
    cache: CacheHint,
    version: Version,
    modern_tail: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    open_result(&mut out, version);
    string(&mut out, member);
    out.extend_from_slice(b":[");
    out.extend_from_slice(&entries.join(&b","[..]));
    out.push(b']');
    if let Some(cursor) = next_cursor {
        out.extend_from_slice(br#","nextCursor":"#);
        string(&mut out, cursor);
    }
    cache.write(&mut out, version);
    close_result(&mut out, version, &[], modern_tail);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(count: usize, page_size: usize) -> Listing {
        let write = |index: usize, out: &mut Vec<u8>, _: Version| json::integer(out, index);
        Listing::build("tools", count, page_size, CacheHint::public(5), br#","_meta":{}}"#, write)
    }

    #[test]
    fn pages_tile_the_list() {
        let listing = listing(5, 2);
        let (mut cursor, mut seen) = (None, String::new());
        loop {
            let page = listing.page(Version::V2025_11_25, cursor.as_deref()).expect("a page");
            let page: serde_json::Value = serde_json::from_slice(page).expect("JSON");
            page["tools"].as_array().expect("a list").iter().for_each(|entry| seen.push_str(&entry.to_string()));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = Some(next.to_owned());
        }
        assert_eq!(seen, "01234");
        assert!(listing.page(Version::V2025_11_25, Some("nonsense")).is_none());
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let (one, same, other) = (listing(5, 2), listing(5, 2), listing(6, 2));
        assert_eq!(one.cursors, same.cursors);
        assert!(other.page(Version::V2026_07_28, Some(&one.cursors[0])).is_none());
    }

    #[test]
    fn modern_pages_say_how_long_they_are_good() {
        let page = listing(0, 2).page(Version::V2026_07_28, None).expect("a page").to_vec();
        let expected = r#"{"resultType":"complete","tools":[],"ttlMs":5,"cacheScope":"public","_meta":{}}"#;
        assert_eq!(String::from_utf8_lossy(&page), expected);
        assert_eq!(listing(0, 2).page(Version::V2024_11_05, None), Some(&br#"{"tools":[]}"#[..]));
    }
}
