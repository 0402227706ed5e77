//! What tools are called behind a gateway: `{server}_{tool}`, in letters and a length that every provider takes.
//!
//! The rules, in order:
//! 1. A *plain* name is `{server}_{tool}`, or `{tool}` where the server's prefix is empty. It is used if it has 1 to
//!    [`TOOL_NAME_BYTES_MAX`] bytes, all of them `A-Z a-z 0-9 _ . -`.
//! 2. Otherwise the name is *hashed*: the plain one with each other character replaced by `_`, cut to 51 bytes, then
//!    `_` and 12 characters of a hash of server and tool (60 bits of SHA-256 in base 32: `a-z 2-7`).
//! 3. Where two tools would get one name (server `a` with tool `b_c`, server `a_b` with tool `c`), all of them get
//!    their hashed names; so does a tool whose plain name is another's hashed one. See [`names`].
//! 4. Where even the hashes are the same, which a server can bring about among its own tools only, the one whose server
//!    and tool come first in order of bytes has the name, and the others have none.
//!
//! So a name depends on which tools there are, never on who came first: after a restart, on another core, and whatever
//! order the upstreams answered in, names are the same, and nobody gets another's name by being quicker.
//! Not here: finding the tool that a name belongs to (who names keeps the table: a hash is not undone).
//! Invariant: a name has 1 to [`TOOL_NAME_BYTES_MAX`] bytes of that alphabet, and no two different tools have the same.

pub mod table;

use sha2::{Digest as _, Sha256};

use crate::limits::TOOL_NAME_BYTES_MAX;

/// Characters of the hash in a hashed name, five bits each.
const HASH_CHARACTERS: usize = 12;
/// What is left of a plain name in a hashed one, before the `_` and the hash.
const STEM_BYTES_MAX: usize = TOOL_NAME_BYTES_MAX - HASH_CHARACTERS - 1;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

const _: () = assert!(STEM_BYTES_MAX == 51, "the text at the head of this file says so");

/// The name by rules 1 and 2 alone: of one tool, whatever others there are.
pub fn prefixed(server: &str, tool: &str) -> String {
    let plain = if server.is_empty() { tool.to_owned() } else { format!("{server}_{tool}") };
    if (1..=TOOL_NAME_BYTES_MAX).contains(&plain.len()) && plain.chars().all(is_plain) {
        return plain;
    }
    hashed(server, tool)
}

/// The name by rule 2.
pub fn hashed(server: &str, tool: &str) -> String {
    let server_part = server.chars().chain((!server.is_empty()).then_some('_'));
    let plain = server_part.chain(tool.chars());
    let mut name: String = plain.map(|it| if is_plain(it) { it } else { '_' }).take(STEM_BYTES_MAX).collect();
    name.push('_');
    let mut hash = Sha256::new();
    // The length in front keeps `a` + `bc` apart from `ab` + `c`.
    hash.update((server.len() as u64).to_le_bytes());
    hash.update(server);
    hash.update(tool);
    let mut bits = hash.finalize().iter().take(8).fold(0u64, |bits, &byte| (bits << 8) | u64::from(byte));
    for _ in 0..HASH_CHARACTERS {
        name.push(char::from(BASE32[(bits >> 59) as usize]));
        bits <<= 5;
    }
    name
}

/// Whether some tool of a server could have this name, by whichever rule.
pub fn fits(server: &str, name: &str) -> bool {
    let before = server.chars().chain(['_']).map(|it| if is_plain(it) { it } else { '_' });
    server.is_empty()
        || before.take(STEM_BYTES_MAX).eq(name.chars().take(STEM_BYTES_MAX.min(server.chars().count() + 1)))
}

/// Whether a name has the form of a hashed one, from which nobody can tell what the tool is called.
pub fn may_be_hashed(name: &str) -> bool {
    let hash = name.len().checked_sub(HASH_CHARACTERS + 1).and_then(|at| name.as_bytes().split_at_checked(at));
    let Some((_, [b'_', hash @ ..])) = hash else { return false };
    hash.iter().all(|byte| BASE32.contains(byte))
}

/// The names of all tools there are, by all the rules, in the order of `tools`: pairs of server and tool. A pair that
/// stands twice is one tool and gets one name; a tool without a name is left out. Where tools come and go,
/// [`table::Table`] has the same names at the price of what changes.
pub fn names(tools: &[(&str, &str)]) -> Vec<Option<String>> {
    let mut names: Vec<String> = tools.iter().map(|(server, tool)| prefixed(server, tool)).collect();
    // A name changes once at most. In the second round somebody's plain name may look like a new hashed one.
    loop {
        let mut changed = false;
        for at in shared(tools, &names).concat() {
            let hashed = hashed(tools[at].0, tools[at].1);
            changed |= names[at] != hashed;
            names[at] = hashed;
        }
        if !changed {
            break;
        }
    }
    let same_hashes = shared(tools, &names);
    let mut names: Vec<Option<String>> = names.into_iter().map(Some).collect();
    for same in same_hashes {
        let first = same.iter().map(|&at| tools[at]).min();
        same.into_iter().filter(|&at| Some(tools[at]) != first).for_each(|at| names[at] = None);
    }
    names
}

/// The groups of tools, by their index, that differ and have one name.
fn shared(tools: &[(&str, &str)], names: &[String]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tools.len()).collect();
    order.sort_unstable_by_key(|&at| &names[at]);
    let groups = order.chunk_by(|&one, &other| names[one] == names[other]);
    groups.filter(|same| same.iter().any(|&at| tools[at] != tools[same[0]])).map(<[usize]>::to_vec).collect()
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn is_good(name: &str) -> bool {
        (1..=TOOL_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain)
    }

    fn named(tools: &[(&str, &str)]) -> Vec<String> {
        names(tools).into_iter().map(|name| name.expect("no hash is another's")).collect()
    }

    #[test]
    fn plain_names() {
        assert_eq!(prefixed("git", "commit"), "git_commit");
        assert_eq!(prefixed("my-server.2", "A_b"), "my-server.2_A_b");
        assert_eq!(prefixed("", "commit"), "commit");
        let tool = "t".repeat(TOOL_NAME_BYTES_MAX - 4);
        assert_eq!(prefixed("git", &tool), format!("git_{tool}"));
    }

    /// Golden: clients remember names and operators write them into rules, so that these may never change.
    #[test]
    fn hashed_names() {
        let long = "t".repeat(TOOL_NAME_BYTES_MAX - 3);
        for (server, tool, expected) in [
            ("git", "commit now", "git_commit_now_foraqgiffviq"),
            ("git", "wetter/für", "git_wetter_f_r_vjckt4ieekcd"),
            ("git", "", "git__unnjg2yp6nue"),
            ("git", &long, "git_ttttttttttttttttttttttttttttttttttttttttttttttt_xaqag54tu2kz"),
        ] {
            assert_eq!(hashed(server, tool), expected);
            assert!(is_good(expected));
            if !tool.is_empty() {
                assert_eq!(prefixed(server, tool), expected);
            }
        }
        assert_eq!(hashed("git", &long).len(), TOOL_NAME_BYTES_MAX);
    }

    #[test]
    fn tools_that_would_share_a_name_are_all_hashed() {
        let (one, other) = (("a", "b_c"), ("a_b", "c"));
        assert_eq!(prefixed(one.0, one.1), prefixed(other.0, other.1));
        let expected = [hashed(one.0, one.1), hashed(other.0, other.1), "a_x".to_owned()];
        assert_ne!(expected[0], expected[1]);
        assert_eq!(named(&[one, other, ("a", "x")]), expected);
        // Whoever came first has no advantage, and without the other the name is plain again.
        let [one_name, other_name, x] = expected;
        assert_eq!(named(&[("a", "x"), other, one]), [x, other_name.clone(), one_name.clone()]);
        assert_eq!(named(&[one]), ["a_b_c"]);
        // Twice the same is one tool.
        assert_eq!(named(&[one, one]), ["a_b_c", "a_b_c"]);
        assert_eq!(named(&[one, other, one]), [one_name.clone(), other_name, one_name]);
    }

    #[test]
    fn whose_a_name_may_be_can_be_seen() {
        assert!(fits("", "a_b") && fits("a", "a_b") && fits("a b", "a_b_c"));
        assert!(!fits("a", "ab") && !fits("a", "a") && !fits("ab", "a_b") && !fits("a_b", "a_c"));
        let long = "s".repeat(70);
        assert!(fits(&long, &hashed(&long, "tool")) && !fits(&long, &"s".repeat(50)));
        assert!(may_be_hashed(&hashed("a", "b c")) && may_be_hashed("_aaaaaaaaaaaa"));
        for plain in ["", "a_b", "aaaaaaaaaaaaa", "a_aaaaaaaaaaa1", "a_Aaaaaaaaaaaa", "é_aaaaaaaaaaa", "_aaaaaaaaaaa"]
        {
            assert!(!may_be_hashed(plain), "{plain}");
        }
    }

    #[test]
    fn nobody_takes_a_hashed_name() {
        let taken = hashed("a", "b c");
        let forged = taken.strip_prefix("a_").unwrap();
        let forger = ("a", forged);
        assert_eq!(prefixed(forger.0, forger.1), taken);
        let expected = [taken.clone(), hashed(forger.0, forger.1)];
        assert_eq!(named(&[("a", "b c"), forger]), expected);
        // In two steps: the name that is forged becomes a hashed one only because it is shared.
        let shared = hashed("a", "b_c");
        let forger = ("a", shared.strip_prefix("a_").unwrap());
        let tools = [forger, ("a", "b_c"), ("a_b", "c")];
        assert_eq!(named(&tools), tools.map(|(server, tool)| hashed(server, tool)));
    }

    proptest! {
        #[test]
        fn names_are_good_unlike_and_independent_of_order(
            tools in proptest::collection::btree_set(("[ab_]{1,4}", "[ab_ é]{0,4}|[ab]{50,70}"), 0..40),
            seed in any::<u64>(),
        ) {
            let tools: Vec<(&str, &str)> = tools.iter().map(|(server, tool)| (&server[..], &tool[..])).collect();
            let found = named(&tools);
            for name in &found {
                prop_assert!(is_good(name), "{name}");
            }
            for (&(server, tool), name) in tools.iter().zip(&found) {
                prop_assert!(fits(server, name), "{name} of {server}");
                prop_assert!(*name == prefixed(server, tool) || may_be_hashed(name), "{name}");
            }
            let unlike: std::collections::BTreeSet<&String> = found.iter().collect();
            prop_assert_eq!(unlike.len(), tools.len());
            let by_tool: BTreeMap<_, _> = tools.iter().zip(&found).collect();
            let mut shuffled = tools.clone();
            shuffled.sort_by_key(|(server, tool)| {
                let bytes = server.bytes().chain(tool.bytes());
                bytes.fold(seed, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
            });
            for (tool, name) in shuffled.iter().zip(named(&shuffled)) {
                prop_assert_eq!(&name, by_tool[tool]);
            }
        }
    }
}
