//! Patterns for names of tools, prompts and resources: exact, or with `*` for any run of characters.
//!
//! Not regular expressions, and `?` is an ordinary character, as in a URI. Invariant: matching takes no memory, and at
//! most `PATTERN_BYTES_MAX` steps for each byte of the name.

use crate::limits::PATTERN_BYTES_MAX;

/// A pattern of 1 to `PATTERN_BYTES_MAX` bytes without control characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern, if it is one.
    pub fn new(text: &str) -> Option<NamePattern> {
        let fits = (1..=PATTERN_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| NamePattern(text.to_owned()))
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for one name only.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether a name fits it, from beginning to end.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // After the last star: where the pattern goes on, and where in the name its run ends for now. Only the last
        // star has to give way, since an earlier one has already taken the shortest run that does.
        let mut star = None;
        while seen < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, seen));
                }
                Some(byte) if *byte == name[seen] => (at, seen) = (at + 1, seen + 1),
                _ => {
                    let Some((after, end)) = star else { return false };
                    star = Some((after, end + 1));
                    (at, seen) = (after, end + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::new(text).expect("a pattern")
    }

    #[test]
    fn stars_stand_for_any_run() {
        for (text, name, fits) in [
            ("get_*", "get_forecast", true),
            ("get_*", "get_", true),
            ("get_*", "forget_me", false),
            ("*", "", true),
            ("*_*_*", "a_b_c", true),
            ("*_*_*", "a_b", false),
            ("a*b", "acccb", true),
            ("a*b", "acccbc", false),
            ("*ab", "aab", true),
            ("a**b", "ab", true),
            ("a?c", "abc", false),
            ("file:///x?y=*", "file:///x?y=1", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("exactly", "exact", false),
        ] {
            assert_eq!(pattern(text).matches(name), fits, "{text} {name}");
        }
        assert!(pattern("exact").is_exact() && !pattern("ex*").is_exact());
        assert!(NamePattern::new("").is_none() && NamePattern::new("a\n").is_none());
        assert!(NamePattern::new(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_none());
    }

    /// What matching means, without regard to how long it takes.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|taken| by_definition(rest, &name[taken..])),
            [byte, rest @ ..] => name.first() == Some(byte) && by_definition(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_its_definition_says(text in "[ab*]{1,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(pattern(&text).matches(&name), by_definition(text.as_bytes(), name.as_bytes()));
        }
    }
}
