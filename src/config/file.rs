//! The configuration file: TOML text to given values, each with its place.
//!
//! Not validation of values (each setting reads its own). Invariant: a key that no row of `table` knows is a problem,
//! never skipped.

use super::given::{Entry, Given, Value, with_article};
use super::problem::{FilePlace, Place, Problem, nearest};
use super::secret::sounds_secret;
use super::table::{KEYS, Key, SECTIONS, find};
use std::ops::Range;
use std::path::Path;
use toml_edit::{Document, Item, TableLike};

/// A file: its text, its name for messages, and what TOML makes of it.
pub(super) struct SourceFile<'a> {
    path: &'a Path,
    text: &'a str,
    /// Absent if the text is not TOML.
    document: Option<Document<String>>,
    /// Stretches that are in no message.
    secrets: Vec<Range<usize>>,
}

/// Sections that hold a section for each name; they stand in the file only.
pub(super) const NAMED_SECTIONS: [&str; 2] = ["servers", "views"];

/// Keys of the fixed sections and of servers whose values may be secrets.
const SECRET_KEYS: [&str; 6] = ["ticket_key", "headers", "env", "args", "url", "key"];

impl<'a> SourceFile<'a> {
    /// Reads a text as TOML; if it is none, that is a problem.
    pub(super) fn new(path: &'a Path, text: &'a str, problems: &mut Vec<Problem>) -> SourceFile<'a> {
        let mut file = SourceFile { path, text, document: None, secrets: Vec::new() };
        match Document::parse(text.to_owned()) {
            Ok(document) => {
                secret_spans(document.as_table(), &mut file.secrets);
                file.document = Some(document);
            }
            Err(error) => {
                let what = format!("this is not valid TOML: {}", error.message().trim().replace('\n', "; "));
                let place = file.place(error.span());
                // What it means cannot be known, only how it looks.
                let place = Place::File(place).with_text_if(|line| !sounds_secret(line));
                problems.push(Problem::new(place, what));
            }
        }
        file
    }

    /// Where a stretch of the file is, without its line if that holds a secret.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> FilePlace {
        FilePlace::new(self.path, self.text, &span.unwrap_or(0..0), &self.secrets)
    }

    pub(super) fn problem(&self, span: Option<Range<usize>>, what: impl Into<String>) -> Problem {
        Problem::new(Place::File(self.place(span)), what)
    }

    /// The section that holds a section for each name, if it is there.
    pub(super) fn named(&self, section: &str) -> Option<&Item> {
        self.document.as_ref().and_then(|document| document.get(section))
    }

    /// The values of the fixed sections, and of the keys before them, by index into `KEYS`; what cannot be one becomes
    /// a problem.
    pub(super) fn values(&self, problems: &mut Vec<Problem>) -> Vec<(usize, Given)> {
        let mut values = Vec::new();
        let Some(document) = &self.document else { return values };
        for (name, item) in document.iter().filter(|(name, _)| !NAMED_SECTIONS.contains(name)) {
            let span = document.as_table().key(name).and_then(|key| key.span());
            let index = find("", name);
            if let (Some(index), false) = (index, item.is_table()) {
                values.push((index, given_item(item, span)));
            } else if let Some(index) = index {
                problems.push(self.no_section(&KEYS[index], span));
            } else if !SECTIONS.iter().any(|(section, _)| *section == name) {
                let holds_sections = item.as_table().is_some_and(|table| table.iter().any(|(_, item)| item.is_table()));
                problems.push(self.unknown_section(name, holds_sections, span));
            } else if let Some(table) = item.as_table_like() {
                self.section_values(name, table, &mut values, problems);
            } else {
                let what =
                    format!("`{name}` is a section: seen is {}, allowed is a table", with_article(item.type_name()));
                problems.push(
                    self.problem(item.span().or(span), what).advise(Some(format!("write [{name}] on its own line"))),
                );
            }
        }
        values
    }

    fn section_values(
        &self,
        section: &str,
        table: &dyn TableLike,
        values: &mut Vec<(usize, Given)>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, item) in table.iter() {
            let span = table.key(name).and_then(|key| key.span());
            let Some(index) = find(section, name) else {
                let what = format!("unknown key `{name}` in [{section}]");
                problems.push(self.problem(span, what).advise(Some(advice_for_key(section, name))));
                continue;
            };
            values.push((index, given_item(item, span)));
        }
    }

    /// A key that stands before all sections, written as one.
    fn no_section(&self, key: &Key, span: Option<Range<usize>>) -> Problem {
        let what = format!("`{}` is a key and no section: allowed is {}", key.name, (key.allowed)());
        let advice = format!("write {} = ... on a line of its own, at the top of the file", key.name);
        self.problem(span, what).advise(Some(advice))
    }

    fn unknown_section(&self, name: &str, holds_sections: bool, span: Option<Range<usize>>) -> Problem {
        let mut sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).chain(NAMED_SECTIONS).collect();
        if holds_sections {
            sections.rotate_right(NAMED_SECTIONS.len());
        }
        let advice = match KEYS.iter().find(|key| key.name == name && !key.section.is_empty()) {
            Some(key) => format!("`{name}` belongs into [{}]: move it below that line", key.section),
            None => match nearest(name, sections.iter().copied().chain(KEYS.iter().map(|key| key.name).take(1))) {
                Some(section) => format!("did you mean `{section}`?"),
                None => format!("sections are {}", sections.join(", ")),
            },
        };
        self.problem(span, format!("unknown section `{name}`")).advise(Some(advice))
    }
}

fn advice_for_key(section: &str, name: &str) -> String {
    let own = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
    if let Some(key) = nearest(name, own.clone()) {
        return format!("did you mean `{key}`?");
    }
    if find("", name).is_some() {
        return format!("`{name}` stands before all sections: move it to the top of the file");
    }
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("`{name}` belongs into [{}]", key.section);
    }
    if let Some(key) = KEYS.iter().find(|key| nearest(name, [key.name]).is_some()) {
        return format!("did you mean `{}` in [{}]?", key.name, key.section);
    }
    format!("keys of [{section}] are {}", own.collect::<Vec<_>>().join(", "))
}

/// A TOML value as a given one.
pub(super) fn given(value: &toml_edit::Value) -> Given {
    let span = value.span();
    let value = match value {
        toml_edit::Value::String(text) => Value::Text(text.value().clone()),
        toml_edit::Value::Integer(n) => Value::Integer(*n.value()),
        toml_edit::Value::Boolean(b) => Value::Bool(*b.value()),
        toml_edit::Value::Array(items) => Value::List(items.iter().map(given).collect()),
        toml_edit::Value::InlineTable(table) => Value::Table(entries(table)),
        other => Value::Other(other.type_name()),
    };
    Given { value, span }
}

/// A TOML item, whether it is a value or a table on lines of its own; `key` is where its key stands.
pub(super) fn given_item(item: &Item, key: Option<Range<usize>>) -> Given {
    match item {
        Item::Value(value) => given(value),
        Item::Table(table) => Given { value: Value::Table(entries(table)), span: table.span().or(key) },
        other => Given { value: Value::Other(other.type_name()), span: other.span().or(key) },
    }
}

fn entries(table: &dyn TableLike) -> Vec<Entry> {
    let entry = |(name, item): (&str, &Item)| {
        let span = table.key(name).and_then(|key| key.span());
        Entry { name: name.to_owned(), given: given_item(item, span.clone()), span }
    };
    table.iter().map(entry).collect()
}

/// The stretches of everything that may be a secret, at any depth.
fn secret_spans(table: &dyn TableLike, spans: &mut Vec<Range<usize>>) {
    for (name, item) in table.iter() {
        let secret = SECRET_KEYS.contains(&name) && item.as_str().is_none_or(|text| name != "url" || has_secret(text));
        match item {
            Item::Value(value) if secret => spans.extend(value.span()),
            Item::Table(table) if secret => spans.extend(table.iter().filter_map(|(_, item)| item.span())),
            _ => {
                if let Some(table) = item.as_table_like() {
                    secret_spans(table, spans);
                }
            }
        }
    }
}

/// Whether a URL has a place where a password or a key may stand.
fn has_secret(url: &str) -> bool {
    url.contains(['@', '?'])
}
