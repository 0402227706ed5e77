//! URI templates of resources: RFC 6570 level 1, that is literals and `{name}`, matched in linear time.
//!
//! Not here: expansion (clients do that), operators such as `{+path}`, regular expressions.
//! Invariant: matching looks at every byte of a URI a bounded number of times, whatever the template, and gives one
//! reading: where there could be two, the shortest first variable.
//!
//! Two variables always have a literal between them. A variable takes the shortest run of bytes up to the next place
//! where that literal stands, never a `/`, and at least one byte. So there is no choice to undo later and no
//! backtracking: the first place is the only one tried.

use std::fmt;
use std::ops::Range;

/// Longest template in bytes.
const TEMPLATE_BYTES_MAX: usize = 2048;
/// Most variables in one template.
const VARIABLES_MAX: usize = 16;

/// Why a text is not a template this program can match.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    /// Two variables touch.
    #[error("a literal must stand between `{{{first}}}` and `{{{second}}}`, or nobody knows where one ends")]
    Adjacent {
        /// The one on the left.
        first: String,
        /// The one on the right.
        second: String,
    },
    /// A name is used twice.
    #[error("the variable `{{{0}}}` stands in the template twice")]
    Duplicate(String),
    /// An expression that is not `{name}`.
    #[error("`{{{0}}}` is not a level 1 expression: a name of letters, digits and `_` in braces")]
    Expression(String),
    /// Too long, or too many variables.
    #[error("a template has at most {TEMPLATE_BYTES_MAX} bytes and {VARIABLES_MAX} variables")]
    TooLarge,
    /// A brace without its partner.
    #[error("a brace at byte {0} has no partner")]
    Unbalanced(usize),
    /// What stands before the first variable is not the beginning of an absolute URI.
    #[error("a template begins with a literal scheme, as in `notes://{{id}}`: {0}")]
    Uri(#[from] UriError),
}

/// Why a text is not an absolute URI.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UriError {
    /// A byte that a URI cannot have.
    #[error("byte {at} ({byte:#04x}) cannot stand in a URI: percent-encode it")]
    Byte {
        /// Its place.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// `%` without two hexadecimal digits.
    #[error("the `%` at byte {0} is not followed by two hexadecimal digits")]
    Percent(usize),
    /// No `scheme:`.
    #[error("it has no scheme: write `scheme:...`, beginning with a letter")]
    Scheme,
}

/// Checks that `uri` is absolute and made of the characters of RFC 3986.
pub fn check_uri(uri: &str) -> Result<(), UriError> {
    check_scheme(uri)?;
    check_bytes(uri, 0)
}

fn check_scheme(uri: &str) -> Result<(), UriError> {
    let (scheme, _) = uri.split_once(':').ok_or(UriError::Scheme)?;
    let mut bytes = scheme.bytes();
    let letter = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if letter && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        Ok(())
    } else {
        Err(UriError::Scheme)
    }
}

/// `base` is where `text` begins in what the author wrote.
fn check_bytes(text: &str, base: usize) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let allowed = byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
        if !allowed {
            return Err(UriError::Byte { at: base + at, byte });
        }
        if byte == b'%' && !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(UriError::Percent(base + at));
        }
    }
    Ok(())
}

/// A template, ready to match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UriTemplate {
    text: String,
    /// What stands before the first variable.
    prefix: Range<usize>,
    /// Each variable's name and the literal after it; only the last literal may be empty.
    variables: Vec<(Range<usize>, Range<usize>)>,
}

/// Where the variables of a template are in one URI, in the template's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Captures {
    spans: [(u32, u32); VARIABLES_MAX],
    count: usize,
}

impl UriTemplate {
    /// Reads a template such as `notes://{folder}/{id}.txt`.
    pub fn parse(text: &str) -> Result<UriTemplate, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLarge);
        }
        let mut literals = Vec::new();
        let mut names: Vec<Range<usize>> = Vec::new();
        let mut literal_from = 0;
        let mut rest = 0;
        while let Some(found) = text[rest..].find(['{', '}']) {
            let open = rest + found;
            if text.as_bytes()[open] == b'}' {
                return Err(TemplateError::Unbalanced(open));
            }
            let close = open + text[open..].find('}').ok_or(TemplateError::Unbalanced(open))?;
            let name = open + 1..close;
            let body = &text[name.clone()];
            let plain = !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !plain {
                return Err(TemplateError::Expression(body.to_owned()));
            }
            if names.iter().any(|other| text[other.clone()] == *body) {
                return Err(TemplateError::Duplicate(body.to_owned()));
            }
            if let Some(previous) = names.last()
                && literal_from == open
            {
                return Err(TemplateError::Adjacent {
                    first: text[previous.clone()].to_owned(),
                    second: body.to_owned(),
                });
            }
            literals.push(literal_from..open);
            names.push(name);
            literal_from = close + 1;
            rest = close + 1;
        }
        literals.push(literal_from..text.len());
        if names.len() > VARIABLES_MAX {
            return Err(TemplateError::TooLarge);
        }
        check_scheme(&text[literals[0].clone()])?;
        for literal in &literals {
            check_bytes(&text[literal.clone()], literal.start)?;
        }
        let mut literals = literals.into_iter();
        let prefix = literals.next().unwrap_or_default();
        let variables = names.into_iter().zip(literals).collect();
        Ok(UriTemplate { text: text.to_owned(), prefix, variables })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its variables, from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| &self.text[name.clone()])
    }

    /// Where the variables are in `uri`, if it has the template's form.
    pub fn matches(&self, uri: &str) -> Option<Captures> {
        let mut rest = uri.strip_prefix(&self.text[self.prefix.clone()])?;
        let mut captures = Captures::default();
        for (index, (_, literal)) in self.variables.iter().enumerate() {
            let literal = &self.text[literal.clone()];
            let last = index + 1 == self.variables.len();
            // The last variable runs to the literal that ends the URI, the others to the first place of theirs.
            let length = if last {
                rest.strip_suffix(literal)?.len()
            } else {
                let first = rest.chars().next()?.len_utf8();
                rest[first..].find(literal)? + first
            };
            if length == 0 || rest.as_bytes()[..length].contains(&b'/') {
                return None;
            }
            let start = uri.len() - rest.len();
            captures.spans[index] = (u32::try_from(start).ok()?, u32::try_from(start + length).ok()?);
            captures.count = index + 1;
            rest = &rest[length + literal.len()..];
        }
        rest.is_empty().then_some(captures)
    }

    /// The value of a variable in a URI that matched, as it stands there (not percent-decoded).
    pub fn value<'u>(&self, captures: &Captures, uri: &'u str, name: &str) -> Option<&'u str> {
        let index = self.names().position(|other| other == name)?;
        let (start, end) = *captures.spans[..captures.count].get(index)?;
        uri.get(start as usize..end as usize)
    }

    /// The URI with these values, in the order of the names; the opposite of `matches`, for tests and examples.
    pub fn fill(&self, values: &[&str]) -> Option<String> {
        if values.len() != self.variables.len() {
            return None;
        }
        let mut uri = self.text[self.prefix.clone()].to_owned();
        for ((_, literal), value) in self.variables.iter().zip(values) {
            uri.push_str(value);
            uri.push_str(&self.text[literal.clone()]);
        }
        Some(uri)
    }
}

impl fmt::Display for UriTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Decodes `%41` and the like; `None` if the result is not UTF-8 or holds a NUL, at which other programs would end it,
/// or if a `%` is not followed by two digits.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(hex, 16).ok().filter(|byte| *byte != 0)?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn templates_match_what_they_describe() {
        let template = UriTemplate::parse("test://template/{id}/data").expect("valid");
        let uri = "test://template/123/data";
        let captures = template.matches(uri).expect("a match");
        assert_eq!(template.value(&captures, uri, "id"), Some("123"));
        assert_eq!(template.value(&captures, uri, "other"), None);
        for other in
            ["test://template//data", "test://template/1/2/data", "test://template/1/dat", "test://template/", ""]
        {
            assert_eq!(template.matches(other), None, "{other}");
        }

        let two = UriTemplate::parse("f://{a}-{b}.txt").expect("valid");
        let uri = "f://x-y-z.txt";
        let captures = two.matches(uri).expect("a match");
        assert_eq!(two.value(&captures, uri, "a"), Some("x"));
        assert_eq!(two.value(&captures, uri, "b"), Some("y-z"));
        assert!(UriTemplate::parse("f://fixed").expect("valid").matches("f://fixed").is_some());
        assert!(two.matches("f://-y.txt").is_none() && two.matches("f://é-y.txt").is_some());
    }

    #[test]
    fn bad_templates_are_refused_when_they_are_made() {
        let refused = |text: &str| UriTemplate::parse(text).expect_err(text);
        assert!(matches!(refused("a://{x}{y}"), TemplateError::Adjacent { .. }));
        assert!(matches!(refused("a://{x}/{x}"), TemplateError::Duplicate(_)));
        assert!(matches!(refused("a://{+x}"), TemplateError::Expression(_)));
        assert!(matches!(refused("a://{}"), TemplateError::Expression(_)));
        assert!(matches!(refused("a://{x"), TemplateError::Unbalanced(4)));
        assert!(matches!(refused("a://x}"), TemplateError::Unbalanced(5)));
        assert!(matches!(refused("{scheme}://x"), TemplateError::Uri(UriError::Scheme)));
        assert!(matches!(refused("a://b c/{x}"), TemplateError::Uri(UriError::Byte { at: 5, byte: b' ' })));
        assert!(check_uri("file:///a%20b").is_ok() && check_uri("urn:x:y").is_ok());
        assert_eq!(check_uri("file:///a%2"), Err(UriError::Percent(9)));
        assert_eq!(check_uri("no scheme"), Err(UriError::Scheme));
        assert_eq!(percent_decode("a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(percent_decode("%ff"), None);
        assert_eq!(percent_decode("%+1"), None);
        assert_eq!(percent_decode("a%00b"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(template in "\\PC{0,40}", uri in "\\PC{0,60}") {
            if let Ok(template) = UriTemplate::parse(&template) {
                let _ = template.matches(&uri);
            }
        }

        #[test]
        fn what_was_filled_in_is_found_again(
            literals in proptest::collection::vec("[a-z/.]{1,4}", 1..5),
            values in proptest::collection::vec("[0-9A-Z]{1,6}", 5),
        ) {
            let mut text = String::from("t:");
            for (index, literal) in literals.iter().enumerate() {
                text.push_str(&format!("{literal}{{v{index}}}"));
            }
            let template = UriTemplate::parse(&text).expect("valid by construction");
            let values: Vec<&str> = values.iter().take(literals.len()).map(String::as_str).collect();
            let uri = template.fill(&values).expect("as many values as names");
            let captures = template.matches(&uri).expect("it was made from the template");
            for (index, value) in values.iter().enumerate() {
                prop_assert_eq!(template.value(&captures, &uri, &format!("v{index}")), Some(*value));
            }
        }

        #[test]
        fn a_match_reads_back_as_the_uri(uri in "t:[a-c/]{0,12}", text in "t:[a-c/]{0,3}(\\{x\\}[a-c/]{1,2})?\\{y\\}[a-c/]{0,2}") {
            let template = UriTemplate::parse(&text).expect("valid by construction");
            if let Some(captures) = template.matches(&uri) {
                let values: Vec<&str> =
                    template.names().map(|name| template.value(&captures, &uri, name).expect("captured")).collect();
                prop_assert_eq!(template.fill(&values), Some(uri.clone()));
            }
        }
    }
}
