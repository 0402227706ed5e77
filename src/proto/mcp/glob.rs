//! Which tools are shown: patterns of names with `*` (any characters, also none) and `?` (one character).
//!
//! Not here: what the names are (`naming`), or who may call what.
//! Invariant: matching looks at each character of a name once, whatever the pattern: the set of places in the pattern
//! that the name so far can stand for is one word, and a character moves all of them together.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::limits::GLOB_CHARACTERS_MAX;

/// Why a pattern is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GlobError {
    /// It is empty, so that nothing would match.
    #[error("a pattern is empty; write * for everything")]
    Empty,
    /// It has too many characters.
    #[error("a pattern has {characters} characters, at most {GLOB_CHARACTERS_MAX} are allowed; shorten it with *")]
    TooLong {
        /// How many it has, repeated `*` counted once.
        characters: usize,
    },
}

/// A pattern. `get_*`, `*.read`, `tool_?`; every other character, letters by case, stands for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glob {
    pattern: Box<str>,
    /// For each character that the pattern names: the places where it stands. Sorted.
    literals: Box<[(char, u128)]>,
    /// The places of `?`, where any character does.
    any: u128,
    /// The places of `*`, which a character need not leave and nothing is needed to pass.
    stars: u128,
    /// The place behind the last one.
    end: u128,
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        let mut places: Vec<char> = pattern.chars().collect();
        // With one `*` in a row, passing it takes one step.
        places.dedup_by(|next, before| *next == '*' && *before == '*');
        if places.len() > GLOB_CHARACTERS_MAX {
            return Err(GlobError::TooLong { characters: places.len() });
        }
        let (mut any, mut stars, mut named) = (0, 0, Vec::new());
        for (at, &place) in places.iter().enumerate() {
            match place {
                '*' => stars |= 1 << at,
                '?' => any |= 1 << at,
                literal => named.push((literal, 1 << at)),
            }
        }
        named.sort_unstable();
        let literals = named
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|same| (same[0].0, same.iter().fold(0, |places, (_, place)| places | place)))
            .collect();
        Ok(Self { pattern: pattern.into(), literals, any, stars, end: 1 << places.len() })
    }
}

impl Glob {
    /// Whether all of `name` is what the pattern says.
    pub fn matches(&self, name: &str) -> bool {
        let mut places = self.past_stars(1);
        for character in name.chars() {
            let literal = self.literals.binary_search_by_key(&character, |(literal, _)| *literal);
            let literal = literal.map_or(0, |found| self.literals[found].1);
            places = self.past_stars(((places & (literal | self.any)) << 1) | (places & self.stars));
            if places == 0 {
                return false;
            }
        }
        places & self.end != 0
    }

    /// Places that stand on a `*` stand behind it as well.
    fn past_stars(&self, places: u128) -> u128 {
        places | ((places & self.stars) << 1)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.pattern)
    }
}

/// What is chosen: what one pattern of `include` matches (everything if there are none) and no pattern of `exclude`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Patterns of what is wanted.
    pub include: Vec<Glob>,
    /// Patterns of what is not; they outweigh those above.
    pub exclude: Vec<Glob>,
}

impl Selection {
    /// Whether `name` is chosen.
    pub fn allows(&self, name: &str) -> bool {
        let wanted = self.include.is_empty() || self.include.iter().any(|glob| glob.matches(name));
        wanted && !self.exclude.iter().any(|glob| glob.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(pattern: &str) -> Glob {
        pattern.parse().expect(pattern)
    }

    #[test]
    fn patterns() {
        for (pattern, matching, other) in [
            ("*", &["", "a", "ä\n*"][..], &[][..]),
            ("**", &["", "a"], &[]),
            ("?", &["a", "ä", "?"], &["", "ab"]),
            ("get_*", &["get_", "get_weather"], &["get", "forget_x", "Get_x"]),
            ("*.read", &[".read", "a.read.read"], &["a.reads", "aread"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["ab", "acb", "abcd", "xabc"]),
            ("a?c*", &["abc", "aacx"], &["ac", "abdc"]),
            ("?*?", &["ab", "abc"], &["", "a"]),
            ("a.b", &["a.b"], &["axb"]),
            ("[a]", &["[a]"], &["a"]),
            (r"\*", &[r"\", r"\x"], &["*"]),
        ] {
            matching.iter().for_each(|name| assert!(glob(pattern).matches(name), "{pattern} {name}"));
            other.iter().for_each(|name| assert!(!glob(pattern).matches(name), "{pattern} {name}"));
            assert_eq!(glob(pattern).to_string(), pattern);
        }
        assert_eq!("".parse::<Glob>(), Err(GlobError::Empty));
    }

    #[test]
    fn the_longest_pattern() {
        let longest = "?".repeat(GLOB_CHARACTERS_MAX);
        assert!(glob(&longest).matches(&"x".repeat(GLOB_CHARACTERS_MAX)));
        assert!(!glob(&longest).matches(&"x".repeat(GLOB_CHARACTERS_MAX + 1)));
        let long = format!("{longest}x");
        assert_eq!(long.parse::<Glob>(), Err(GlobError::TooLong { characters: GLOB_CHARACTERS_MAX + 1 }));
        assert!(glob(&"*".repeat(1000)).matches("x"), "repeated stars are one");
        let stars = glob(&"*a".repeat(63));
        assert!(stars.matches(&"a".repeat(63)) && !stars.matches(&"a".repeat(62)));
        // Where backtracking would never end.
        assert!(!glob(&format!("{}b", "a*".repeat(60))).matches(&"a".repeat(1 << 20)));
    }

    #[test]
    fn what_is_excluded_is_not_chosen() {
        let globs = |patterns: &[&str]| patterns.iter().map(|pattern| glob(pattern)).collect();
        let chosen = Selection { include: globs(&["get_*", "list"]), exclude: globs(&["*secret*"]) };
        assert!(chosen.allows("get_a") && chosen.allows("list"));
        assert!(!chosen.allows("lists") && !chosen.allows("get_secret_a"));
        assert!(Selection::default().allows("anything"));
        assert!(!Selection { include: Vec::new(), exclude: globs(&["*"]) }.allows("a"));
    }

    /// The definition, which takes time without end.
    fn slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            (['*', rest @ ..], _) => (0..=name.len()).any(|taken| slowly(rest, &name[taken..])),
            (['?', rest @ ..], [_, name @ ..]) => slowly(rest, name),
            ([wanted, rest @ ..], [seen, name @ ..]) => wanted == seen && slowly(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn as_the_definition_says(pattern in "[ab?*é]{1,8}", name in "[abé]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern).matches(&name), slowly(&chars(&pattern), &chars(&name)));
        }
    }
}
