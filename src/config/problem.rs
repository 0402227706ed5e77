//! What is wrong with a configuration, told as advice: where, the value seen, the value allowed, what to change.
//!
//! Not a `Result` per key: all problems are collected, so that one start shows them all.
//! Invariant: a `ConfigError` holds at least one problem, and each names the place it comes from.

use super::given::Refused;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    place: Place,
    what: String,
    advice: Vec<String>,
}

/// Where a problem stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// An environment variable.
    Env(String),
    /// A stretch of the configuration file.
    File(FilePlace),
    /// A flag of the command line.
    Flag(String),
    /// Nowhere in particular.
    Whole,
}

/// A stretch of one line of a file, as it will be shown.
#[derive(Clone, Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    line: usize,
    column: usize,
    /// The line, unless it holds a secret.
    text: Option<String>,
    width: usize,
}

impl ConfigError {
    pub(super) fn from_problems(problems: Vec<Problem>) -> Result<(), ConfigError> {
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// The problems, in the order in which they were found; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether only the command line is at fault.
    pub fn is_usage(&self) -> bool {
        self.problems.iter().all(|problem| matches!(problem.place, Place::Flag(_)))
    }
}

impl Problem {
    pub(super) fn new(place: Place, what: impl Into<String>) -> Problem {
        Problem { place, what: what.into(), advice: Vec::new() }
    }

    /// A setting that did not accept its value.
    pub(super) fn refused(path: &str, refused: Refused, place: Place) -> Problem {
        let place = if refused.secret { place.without_text() } else { place };
        let entry = refused.entry.map_or_else(String::new, |name| format!(".{name}"));
        let what = format!("`{path}{entry}` cannot be {}: allowed is {}", refused.seen, refused.allowed);
        Problem::new(place, what).advise(refused.advice)
    }

    pub(super) fn advise(mut self, advice: Option<String>) -> Problem {
        self.advice.extend(advice);
        self
    }
}

impl Place {
    /// Keeps the line out of the message, because it holds a secret.
    pub(super) fn without_text(self) -> Place {
        self.with_text_if(|_| false)
    }

    /// Keeps the line out of the message unless it may be shown.
    pub(super) fn with_text_if(self, may_be_shown: impl FnOnce(&str) -> bool) -> Place {
        match self {
            Place::File(place) => {
                Place::File(FilePlace { text: place.text.filter(|line| may_be_shown(line)), ..place })
            }
            other => other,
        }
    }
}

impl FilePlace {
    /// Finds the line of `span` in `source`; a line that a secret touches is not shown. Columns count characters, from
    /// 1.
    pub(super) fn new(path: &Path, source: &str, span: &Range<usize>, secrets: &[Range<usize>]) -> FilePlace {
        let start = floor_boundary(source, span.start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let end = floor_boundary(source, span.end).clamp(start, line_end);
        let secret = secrets.iter().any(|secret| secret.start <= line_end && secret.end >= line_start);
        FilePlace {
            path: path.to_owned(),
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: (!secret).then(|| source[line_start..line_end].trim_end_matches('\r').replace('\t', " ")),
            width: source[start..end].chars().count().max(1),
        }
    }
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

fn floor_boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0)
}

/// The word most like `seen`, if one is close enough to be meant.
pub(super) fn nearest<'a>(seen: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = words.into_iter().map(|word| {
        let distance = strsim::damerau_levenshtein(seen, word);
        (distance, word)
    });
    let (distance, word) = scored.min_by_key(|(distance, _)| *distance)?;
    let longer = seen.chars().count().max(word.chars().count());
    (distance <= (longer / 3).max(1)).then_some(word)
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut margin = 1;
        match &self.place {
            Place::Env(name) => write!(f, "environment variable {name}: {}", self.what)?,
            Place::Flag(flag) => write!(f, "flag {flag}: {}", self.what)?,
            Place::Whole => write!(f, "{}", self.what)?,
            Place::File(place) => {
                let number = place.line.to_string();
                margin = number.len() + 1;
                let (path, line, column) = (place.path.display(), place.line, place.column);
                write!(f, "{}\n{:margin$}--> {path}:{line}:{column}", self.what, "")?;
                if let Some(text) = &place.text {
                    write!(f, "\n{:margin$}|\n{number} | {text}\n", "")?;
                    write!(f, "{:margin$}| {:indent$}{}", "", "", "^".repeat(place.width), indent = column - 1)?;
                }
            }
        }
        for advice in &self.advice {
            write!(f, "\n{:margin$}= {advice}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_any_span() {
        let source = "a = 1\r\nb\u{e9} = \"\u{20ac}\"\n";
        for start in 0..source.len() + 3 {
            for end in start..source.len() + 3 {
                let place = FilePlace::new(Path::new("x"), source, &(start..end), &[]);
                assert!(place.line <= 3 && place.width >= 1);
            }
        }
        let place = FilePlace::new(Path::new("x"), source, &(13..18), &[]);
        assert_eq!(
            (place.line, place.column, place.width, place.text.as_deref()),
            (2, 6, 3, Some("b\u{e9} = \"\u{20ac}\""))
        );
        let hidden = |secret: Range<usize>| FilePlace::new(Path::new("x"), source, &(13..18), &[secret]).text.is_none();
        assert!(hidden(14..15) && hidden(0..source.len()) && !hidden(0..5));
    }

    #[test]
    fn only_close_words_are_suggested() {
        let words = ["listen", "backlog", "tcp"];
        assert_eq!(nearest("lisen", words), Some("listen"));
        assert_eq!(nearest("backlgo", words), Some("backlog"));
        assert_eq!(nearest("tpc", words), Some("tcp"));
        assert_eq!(nearest("frequency", words), None);
    }
}
