//! A value as some source gave it, and what a setting says when it cannot accept it.
//!
//! Not a TOML reader (that is `file`): a value from a file is typed, one from the environment or a flag is a word that
//! each setting reads as what it needs. Invariant: a `Refused` always says what was seen and what is allowed.

use std::ops::Range;

/// A value before it is known to be valid.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) value: Value,
    /// Bytes of the configuration file it stands in, if it comes from a file.
    pub(crate) span: Option<Range<usize>>,
}

/// What a source can give.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    List(Vec<Given>),
    /// A TOML type that no setting takes: its name.
    Other(&'static str),
    Table(Vec<Entry>),
    Text(String),
    /// A word from the environment or a flag: read as whatever the setting needs.
    Word(String),
}

/// A value in a table, under its name.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Option<Range<usize>>,
    pub(crate) given: Given,
}

/// Why a setting did not accept a value.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What was seen, e.g. ``the text `"many"` ``.
    pub(crate) seen: String,
    /// What is allowed, e.g. `a whole number from 1 to 64`.
    pub(crate) allowed: String,
    /// What to change, if there is more to say than the above.
    pub(crate) advice: Option<String>,
    /// Where in the file, if closer than the whole value.
    pub(crate) span: Option<Range<usize>>,
    /// Whether the value, and the line it stands in, must not be shown.
    pub(crate) secret: bool,
    /// The entry it is about, if the value is a table.
    pub(crate) entry: Option<Box<str>>,
}

/// Something that can be read from any source and written as TOML.
pub(crate) trait Setting: Sized {
    /// What is allowed, as the end of the sentence "allowed is".
    fn allowed() -> String;
    /// Reads a value; total: whatever is returned is valid.
    fn read(given: &Given) -> Result<Self, Refused>;
    /// Writes the value as a TOML literal that `read` takes back.
    fn write(&self) -> String;
}

impl Given {
    pub(crate) fn word(text: impl Into<String>) -> Given {
        Given { value: Value::Word(text.into()), span: None }
    }

    pub(crate) fn words(words: impl IntoIterator<Item = String>) -> Given {
        Given { value: Value::List(words.into_iter().map(Given::word).collect()), span: None }
    }

    /// The value as a whole number.
    pub(crate) fn integer(&self, allowed: impl FnOnce() -> String) -> Result<i64, Refused> {
        match &self.value {
            Value::Integer(n) => Ok(*n),
            Value::Word(word) => word.replace('_', "").trim().parse().map_err(|_| self.refused(allowed())),
            Value::Text(text) if text.trim().parse::<i64>().is_ok() => {
                Err(self.refused(allowed()).advise("write the number without quotes"))
            }
            _ => Err(self.refused(allowed())),
        }
    }

    /// The value as text.
    pub(crate) fn text(&self, allowed: impl FnOnce() -> String) -> Result<&str, Refused> {
        match &self.value {
            Value::Text(text) | Value::Word(text) => Ok(text),
            _ => Err(self.refused(allowed()).advise("write it as text in double quotes")),
        }
    }

    /// A refusal of this value.
    pub(crate) fn refused(&self, allowed: impl Into<String>) -> Refused {
        Refused {
            seen: self.shown(),
            allowed: allowed.into(),
            advice: None,
            span: self.span.clone(),
            secret: false,
            entry: None,
        }
    }

    /// The value as it is named in an error.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Bool(b) => format!("`{b}`"),
            Value::Integer(n) => format!("{n}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Other(kind) => with_article(kind),
            Value::Table(_) => "a table".to_owned(),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::Word(word) => format!("`{word}`"),
        }
    }
}

impl Refused {
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Refused {
        self.advice = Some(advice.into());
        self
    }

    /// Says which entry of a table it is about.
    pub(crate) fn of_entry(mut self, entry: &Entry) -> Refused {
        self.entry = Some(entry.name.as_str().into());
        self
    }

    /// Shows this part of the value, and keeps the rest out of the message.
    pub(crate) fn showing(mut self, part: &str) -> Refused {
        self.seen = format!("`{part}`");
        self.secret = true;
        self
    }

    /// Keeps a secret out of the message.
    pub(crate) fn without_value(mut self) -> Refused {
        self.seen = "a value that is not shown, because it may be a secret".to_owned();
        self.secret = true;
        self
    }
}

/// A type of TOML as it is named in a sentence.
pub(crate) fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// A TOML basic string, on one line whatever the text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Setting for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn read(given: &Given) -> Result<bool, Refused> {
        match &given.value {
            Value::Bool(b) => Ok(*b),
            Value::Word(word) if word == "true" || word == "1" => Ok(true),
            Value::Word(word) if word == "false" || word == "0" => Ok(false),
            _ => Err(given.refused(bool::allowed())),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Lists are TOML arrays; as a word, their elements are separated by commas and the empty word is the empty list.
impl<T: Setting + PartialEq> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list of up to {LIST_MAX}, each {}", T::allowed())
    }

    fn read(given: &Given) -> Result<Vec<T>, Refused> {
        let from_word: Vec<Given>;
        let items = match &given.value {
            Value::List(items) => items,
            Value::Word(word) => {
                let words = word.split(',').map(str::trim).filter(|w| !w.is_empty());
                from_word = words.map(Given::word).collect();
                &from_word
            }
            _ => return Err(given.refused(Vec::<T>::allowed()).advise("put it into brackets: [ ... ]")),
        };
        if items.len() > LIST_MAX {
            return Err(given.refused(Vec::<T>::allowed()));
        }
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let value = T::read(item)?;
            if list.contains(&value) {
                return Err(item.refused("each element once").advise("remove the repetition"));
            }
            list.push(value);
        }
        Ok(list)
    }

    fn write(&self) -> String {
        format!("[{}]", self.iter().map(Setting::write).collect::<Vec<_>>().join(", "))
    }
}

/// Most elements in a list: listeners, names and patterns are written by hand.
pub(super) const LIST_MAX: usize = 256;

impl Setting for std::net::SocketAddr {
    fn allowed() -> String {
        "an IP address and port such as \"127.0.0.1:8808\" or \"[::1]:8808\"".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        text.parse().map_err(|_| {
            let refused = given.refused(Self::allowed());
            match text.rsplit_once(':') {
                Some(("localhost", port)) => {
                    refused.advise(format!("write \"127.0.0.1:{port}\" (names are not looked up)"))
                }
                Some(("" | "*", port)) => refused.advise(format!("for every interface write \"0.0.0.0:{port}\"")),
                None if text.parse::<std::net::IpAddr>().is_ok() => refused.advise("add a port"),
                None if text.parse::<u16>().is_ok() => refused.advise(format!("write \"127.0.0.1:{text}\"")),
                _ => refused,
            }
        })
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_quoted_reads_as_it_was(text in "(?s)([\"\\\\'a\u{0}-\u{1f}\u{7f}-\u{9f}]|.){0,20}") {
            let quoted = quoted(&text);
            prop_assert!(!quoted.contains(char::is_control), "{}", quoted);
            let read: toml_edit::Value = quoted.parse().expect("a TOML value");
            prop_assert_eq!(read.as_str(), Some(text.as_str()));
        }
    }
}
