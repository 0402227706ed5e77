//! Settings of servers and views that are more than a word: patterns, commands, tables of names and of values.
//!
//! Not the values themselves that a variable or a file holds (`Supplied::fetch`). Invariant: what may be a secret is in
//! no message, and is written as `***`, which is not accepted as a value.

use super::given::{Entry, Given, LIST_MAX, Refused, Setting, Value, quoted};
use super::names::{HeaderName, ToolName};
use super::secret::{self, HIDDEN, Source, Supplied};
use crate::limits::PATTERN_BYTES_MAX;
use crate::proto::mcp::NamePattern;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of a program: texts in an order, some of them perhaps more than once.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Arguments(pub(super) Vec<String>);

/// A program: an absolute path, or a name to look for on the PATH.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CommandWord(pub(super) String);

/// A folder by its absolute path.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

/// Names to other names.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Renames(pub(super) BTreeMap<String, ToolName>);

/// Names to descriptions.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Descriptions(pub(super) BTreeMap<String, String>);

/// Variables of a child.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Environment(pub(super) BTreeMap<String, Supplied>);

/// Fields of requests, sorted by name without regard to case.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Headers(pub(super) Vec<(HeaderName, Supplied)>);

/// A secret that never stands in the file itself.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct KeptElsewhere(pub(super) Supplied);

/// Longest argument, and longest path.
const WORD_BYTES_MAX: usize = 32 * 1024;
pub(super) const PATH_BYTES_MAX: usize = 4095;
/// Longest description of a tool.
const DESCRIPTION_BYTES_MAX: usize = 8 * 1024;
/// Longest text before a value.
const BEFORE_BYTES_MAX: usize = 32;
/// Most fields added to a request: it may have 64, and its own are among them.
const HEADERS_MAX: usize = 32;

impl Setting for NamePattern {
    fn allowed() -> String {
        format!("a name, or a pattern in which * stands for anything, of 1 to {PATTERN_BYTES_MAX} bytes")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        NamePattern::new(given.text(Self::allowed)?).ok_or_else(|| given.refused(Self::allowed()))
    }

    fn write(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for Arguments {
    fn allowed() -> String {
        format!("a list of up to {LIST_MAX} texts without NUL characters")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let Value::List(items) = &given.value else {
            let advice = "put each argument for itself into brackets: [\"-y\", \"name\"]";
            return Err(given.refused(Self::allowed()).without_value().advise(advice));
        };
        if items.len() > LIST_MAX {
            return Err(given.refused(Self::allowed()));
        }
        let mut arguments = Vec::with_capacity(items.len());
        for item in items {
            let text = item.text(Self::allowed).map_err(Refused::without_value)?;
            if text.contains('\0') || text.len() > WORD_BYTES_MAX {
                return Err(item.refused(Self::allowed()).without_value());
            }
            if text == HIDDEN || text.ends_with(&format!("={HIDDEN}")) {
                return Err(hidden(item, &Self::allowed()));
            }
            arguments.push(text.to_owned());
        }
        Ok(Arguments(arguments))
    }

    fn write(&self) -> String {
        let before = std::iter::once("").chain(self.0.iter().map(String::as_str));
        let shown = self.0.iter().zip(before).map(|(argument, before)| quoted(&shown_argument(argument, before)));
        format!("[{}]", shown.collect::<Vec<_>>().join(", "))
    }
}

/// An argument without what may be a secret: the value of `--token=value`, and of `--token value`.
fn shown_argument(argument: &str, before: &str) -> String {
    let names_secret = |option: &str| option.starts_with('-') && secret::sounds_secret(option);
    match argument.split_once('=') {
        Some((option, value)) if names_secret(option) || secret::looks_secret(value) => format!("{option}={HIDDEN}"),
        _ if secret::looks_secret(argument) => HIDDEN.to_owned(),
        _ if names_secret(before) && !before.contains('=') && !argument.starts_with('-') => HIDDEN.to_owned(),
        _ => argument.to_owned(),
    }
}

/// Whether a program is named as Windows does: from a drive on, or with its separators.
fn is_of_windows(text: &str) -> bool {
    let mut characters = text.chars();
    let drive = characters.next().is_some_and(|first| first.is_ascii_alphabetic()) && characters.next() == Some(':');
    drive || (!text.contains('/') && text.contains('\\'))
}

/// A refusal of a command that shows its program: what stands behind that may be a secret.
fn without_arguments(refused: Refused, command: &str) -> Refused {
    let program = command.split_once(" -").map_or(command, |(program, _)| program);
    let program = if is_of_windows(command) { program } else { program.split_whitespace().next().unwrap_or(program) };
    match program.contains('=') || secret::looks_secret(program) {
        true => refused.without_value(),
        false if program == command => refused,
        false => refused.showing(&format!("{program} ...")),
    }
}

impl Setting for CommandWord {
    fn allowed() -> String {
        "a program's name, looked for on the PATH, or its absolute path".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        let refused = || given.refused(Self::allowed());
        if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') {
            return Err(refused());
        }
        if is_of_windows(text) {
            let advice = "that is a path of Windows; name the program, or say where it is on this host, such as \
                          /usr/bin/npx, and put its arguments into args";
            return Err(without_arguments(refused(), text).advise(advice));
        }
        let is_path = text.contains('/');
        if is_path && !text.starts_with('/') {
            return Err(refused().advise("a relative path depends on where corelane is started: begin it with a slash"));
        }
        if !is_path && text.contains(char::is_whitespace) {
            let advice = "no shell splits it into words: keep the first here, and put the others into args";
            return Err(without_arguments(refused(), text).advise(advice));
        }
        Ok(CommandWord(text.to_owned()))
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for Folder {
    fn allowed() -> String {
        "the absolute path of a folder".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        if !text.starts_with('/') || text.len() > PATH_BYTES_MAX || text.contains('\0') {
            return Err(given.refused(Self::allowed()).advise("begin it with a slash"));
        }
        Ok(Folder(PathBuf::from(text)))
    }

    fn write(&self) -> String {
        quoted(&self.0.to_string_lossy())
    }
}

impl Setting for Renames {
    fn allowed() -> String {
        format!("a table of up to {LIST_MAX}, from a tool's name to its new name of {}", ToolName::RULE)
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let mut renames = BTreeMap::new();
        for entry in entries(given, &Self::allowed(), LIST_MAX)? {
            check_tool(entry, &Self::allowed())?;
            let renamed = ToolName::read(&entry.given).map_err(|refused| refused.of_entry(entry))?;
            if let Some((other, _)) = renames.iter().find(|(_, to)| **to == renamed) {
                let advice = format!("`{other}` has that name already; choose another");
                return Err(entry.given.refused("each new name once").advise(advice).of_entry(entry));
            }
            renames.insert(entry.name.clone(), renamed);
        }
        Ok(Renames(renames))
    }

    fn write(&self) -> String {
        table(self.0.iter().map(|(from, to)| (from.as_str(), to.write())))
    }
}

impl Setting for Descriptions {
    fn allowed() -> String {
        format!("a table of up to {LIST_MAX}, from a tool's name to a text of 1 to {DESCRIPTION_BYTES_MAX} bytes")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let mut descriptions = BTreeMap::new();
        for entry in entries(given, &Self::allowed(), LIST_MAX)? {
            check_tool(entry, &Self::allowed())?;
            let allowed = || format!("a text of 1 to {DESCRIPTION_BYTES_MAX} bytes");
            let text = entry.given.text(allowed).map_err(|refused| refused.of_entry(entry))?;
            if text.is_empty() || text.len() > DESCRIPTION_BYTES_MAX {
                let seen = format!("a text of {} bytes", text.len());
                return Err(Refused { seen, ..entry.given.refused(allowed()).of_entry(entry) });
            }
            descriptions.insert(entry.name.clone(), text.to_owned());
        }
        Ok(Descriptions(descriptions))
    }

    fn write(&self) -> String {
        table(self.0.iter().map(|(name, text)| (name.as_str(), quoted(text))))
    }
}

impl Setting for Environment {
    fn allowed() -> String {
        format!("a table of up to {LIST_MAX}, from a variable's name to {}", Supplied::allowed())
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let mut variables = BTreeMap::new();
        for entry in entries(given, &Self::allowed(), LIST_MAX).map_err(Refused::without_value)? {
            if !is_variable(&entry.name) {
                return Err(name_refused(entry, "a table whose names are without `=`, spaces and control characters"));
            }
            let value = Supplied::read(&entry.given).map_err(|refused| refused.of_entry(entry))?;
            variables.insert(entry.name.clone(), value);
        }
        Ok(Environment(variables))
    }

    fn write(&self) -> String {
        table(self.0.iter().map(|(name, value)| (name.as_str(), shown_value(name, value))))
    }
}

impl Setting for Headers {
    fn allowed() -> String {
        format!("a table of up to {HEADERS_MAX}, from a field's name to {}", Supplied::allowed())
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let mut fields: Vec<(HeaderName, Supplied)> = Vec::new();
        for entry in entries(given, &Self::allowed(), HEADERS_MAX).map_err(Refused::without_value)? {
            let allowed = || format!("a table whose names are each {}", HeaderName::RULE);
            let name = HeaderName::new(&entry.name).ok_or_else(|| name_refused(entry, &allowed()))?;
            if fields.iter().any(|(other, _)| other.as_str().eq_ignore_ascii_case(name.as_str())) {
                return Err(name_refused(entry, "a table with each name once, whatever its case"));
            }
            fields.push((name, Supplied::read(&entry.given).map_err(|refused| refused.of_entry(entry))?));
        }
        fields.sort_by_key(|(name, _)| name.as_str().to_ascii_lowercase());
        Ok(Headers(fields))
    }

    fn write(&self) -> String {
        table(self.0.iter().map(|(name, value)| (name.as_str(), shown_value(name.as_str(), value))))
    }
}

impl Setting for Supplied {
    fn allowed() -> String {
        "a text, { env = \"VARIABLE\" } or { file = \"/path\" }".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let allowed = Self::allowed();
        let refused = |given: &Given, advice: &str| given.refused(&*allowed).without_value().advise(advice);
        let entries = match &given.value {
            Value::Text(text) if text == HIDDEN => return Err(hidden(given, &allowed)),
            Value::Text(text) => return Ok(Supplied::written(text)),
            Value::Table(entries) => entries,
            _ => return Err(refused(given, "write it as text in double quotes")),
        };
        let (mut source, mut before) = (None, String::new());
        for Entry { name, given: value, .. } in entries {
            let text = value.text(|| allowed.clone()).map_err(Refused::without_value)?;
            match name.as_str() {
                "env" | "file" if source.is_some() => return Err(refused(given, "name one source, not two")),
                "env" if text.starts_with("CORELANE_") => {
                    let advice = "variables that begin with CORELANE_ are settings of corelane: choose another name";
                    return Err(refused(value, advice));
                }
                "env" if is_variable(text) => source = Some(Source::Env(text.to_owned())),
                "file" if !text.is_empty() && !text.contains('\0') => source = Some(Source::File(text.into())),
                "env" | "file" => return Err(refused(value, "name the variable or the file that holds the value")),
                "before" if text.len() <= BEFORE_BYTES_MAX => text.clone_into(&mut before),
                "before" => return Err(refused(value, "`before` is short, such as \"Bearer \"")),
                _ => return Err(refused(given, "its keys are env or file, and before")),
            }
        }
        let source = source.ok_or_else(|| refused(given, "say where the value is: env or file"))?;
        Ok(Supplied { source, before, ..Supplied::default() })
    }

    /// Without regard to the name it is for, so hidden if it stands in the file.
    fn write(&self) -> String {
        let before = match self.before.as_str() {
            "" => String::new(),
            before => format!(", before = {}", quoted(before)),
        };
        match &self.source {
            Source::Env(name) => format!("{{ env = {}{before} }}", quoted(name)),
            Source::File(path) => format!("{{ file = {}{before} }}", quoted(&path.to_string_lossy())),
            Source::Written => quoted(HIDDEN),
        }
    }
}

impl Setting for KeptElsewhere {
    fn allowed() -> String {
        "{ env = \"VARIABLE\" } or { file = \"/path\" }".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let supplied = Supplied::read(given).map_err(|refused| Refused { allowed: Self::allowed(), ..refused })?;
        if *supplied.source() == Source::Written {
            let advice = "whoever sees a copy of this file has it: choose another, and say here where that is";
            return Err(given.refused(Self::allowed()).without_value().advise(advice));
        }
        Ok(KeptElsewhere(supplied))
    }

    fn write(&self) -> String {
        self.0.write()
    }
}

/// A value as it is printed: in full only where it stands in the file and does not look like a secret.
fn shown_value(name: &str, value: &Supplied) -> String {
    let text = value.value().reveal();
    if *value.source() == Source::Written && !secret::sounds_secret(name) && !secret::looks_secret(text) {
        return quoted(text);
    }
    value.write()
}

/// The entries of a table of at most so many.
fn entries<'a>(given: &'a Given, allowed: &str, max: usize) -> Result<&'a [Entry], Refused> {
    match &given.value {
        Value::Table(entries) if entries.len() <= max => Ok(entries),
        Value::Table(entries) => {
            Err(Refused { seen: format!("a table of {}", entries.len()), ..given.refused(allowed) })
        }
        _ => Err(given.refused(allowed).advise("put it into braces: { name = \"value\" }")),
    }
}

/// Refuses the name of an entry.
fn name_refused(entry: &Entry, allowed: &str) -> Refused {
    let seen = format!("a table with the name {}", quoted(&entry.name));
    Refused { seen, span: entry.span.clone(), ..entry.given.refused(allowed) }
}

fn check_tool(entry: &Entry, allowed: &str) -> Result<(), Refused> {
    match NamePattern::new(&entry.name) {
        Some(name) if name.is_exact() => Ok(()),
        Some(_) => Err(name_refused(entry, allowed).advise("name one tool: a pattern would stand for several")),
        None => Err(name_refused(entry, allowed)),
    }
}

fn is_variable(name: &str) -> bool {
    (1..=256).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// Refuses what `corelane config` prints instead of a secret.
fn hidden(given: &Given, allowed: &str) -> Refused {
    let advice =
        format!("{HIDDEN} is what `corelane config` prints instead of a secret: put the secret back, or where it is");
    given.refused(allowed).advise(advice)
}

/// An inline table.
fn table<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let written: Vec<String> = entries.map(|(name, value)| format!("{} = {value}", key(name))).collect();
    if written.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", written.join(", ")) }
}

/// A key of a table, in quotes if need be.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}
