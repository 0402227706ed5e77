//! The configuration file: TOML text to given values, each with its place.
//!
//! Not validation of values (each setting reads its own). Invariant: a key that no row of `table` knows is a problem,
//! never skipped.

use super::given::{Given, Value};
use super::problem::{FilePlace, Place, Problem, nearest};
use super::table::{KEYS, SECTIONS, find};
use std::ops::Range;
use std::path::Path;
use toml_edit::{Document, Item, TableLike};

/// The text of a file, and its name for messages.
pub(super) struct SourceFile<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl SourceFile<'_> {
    pub(super) fn place(&self, span: Option<Range<usize>>) -> FilePlace {
        FilePlace::new(self.path, self.text, &span.unwrap_or(0..0))
    }

    fn problem(&self, span: Option<Range<usize>>, what: impl Into<String>) -> Problem {
        Problem::new(Place::File(self.place(span)), what)
    }

    /// The values of the file by index into `KEYS`; what cannot be one becomes a problem.
    pub(super) fn values(&self, problems: &mut Vec<Problem>) -> Vec<(usize, Given)> {
        let document = match Document::parse(self.text) {
            Ok(document) => document,
            Err(error) => {
                let what = format!("this is not valid TOML: {}", error.message().trim().replace('\n', "; "));
                problems.push(self.problem(error.span(), what));
                return Vec::new();
            }
        };
        let mut values = Vec::new();
        for (name, item) in document.iter() {
            let span = document.as_table().key(name).and_then(|key| key.span());
            if !SECTIONS.iter().any(|(section, _)| *section == name) {
                problems.push(self.unknown_section(name, span));
            } else if let Some(table) = item.as_table_like() {
                self.section_values(name, table, &mut values, problems);
            } else {
                let what = format!("`{name}` is a section: seen is a {}, allowed is a table", item.type_name());
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
            let given = match item {
                Item::Value(value) => given(value),
                other => Given { value: Value::Other(other.type_name()), span: other.span().or(span) },
            };
            values.push((index, given));
        }
    }

    fn unknown_section(&self, name: &str, span: Option<Range<usize>>) -> Problem {
        let sections = SECTIONS.iter().map(|(section, _)| *section);
        let advice = match KEYS.iter().find(|key| key.name == name) {
            Some(key) => format!("`{name}` belongs into [{}]: move it below that line", key.section),
            None => match nearest(name, sections.clone()) {
                Some(section) => format!("did you mean `{section}`?"),
                None => format!("sections are {}", sections.collect::<Vec<_>>().join(", ")),
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
        other => Value::Other(other.type_name()),
    };
    Given { value, span }
}
