//! What holds for a file as a whole: its first line, its length, the width of its lines, its name, its size, leftovers.
//!
//! Not here: formatting (rustfmt), documentation of items (`missing_docs`).
//! Invariant: an exception to a measure is written down with the measure, and may only shrink.

use super::Violation;
use super::source::without_literals;
use super::tree::File;

/// Most lines of a source.
const LINES_MAX: usize = 700;
/// Widest line of a source, in characters.
const COLUMNS_MAX: usize = 120;
/// Largest file.
const BYTES_MAX: u64 = 256 * 1024;

/// Sources that are longer today, with their length. They may shrink; then the number here has to shrink too.
const LONG_FILES: &[(&str, usize)] = &[];

/// Sources with lines that are wider today, and how many. The same rule.
const WIDE_FILES: &[(&str, usize)] = &[
    ("scripts/lib/steps.sh", 1),
    ("tests/clients/conformance", 4),
    ("tests/clients/judge.py", 1),
    ("tests/clients/node/common.ts", 2),
    ("tests/clients/node/sdk_v1.ts", 2),
    ("tests/clients/node/sdk_v2.ts", 2),
    ("tests/clients/run", 1),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] = ["common", "data", "helper", "helpers", "info", "manager", "misc", "util", "utils"];

/// Where people's folders are, written in halves as well.
const HOMES: [&str; 2] = [concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Written in halves, so that this file does not break its own rule.
const LEFTOVERS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Holds every rule over one file; `private` are beginnings of paths that exist on this machine only.
pub fn check(file: &File, private: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |rule, place: String, found: String, instead: &str| {
        violations.push(Violation { rule, place, found, instead: instead.to_owned() });
    };
    // Raw figures of measurements are kept beside the tables that are made from them.
    let most = if file.path.starts_with("bench/results/") { 4 * BYTES_MAX } else { BYTES_MAX };
    if file.bytes > most {
        let found = format!("{} KiB", file.bytes / 1024);
        let instead = "leave it out, make it when it is needed, or name its folder in .gitignore";
        report("no file is larger than 256 KiB, or 1 MiB of results", file.path.clone(), found, instead);
    }
    let Some(text) = &file.text else { return violations };
    for (number, line) in text.lines().enumerate() {
        for path in private.iter().map(String::as_str).chain(HOMES) {
            if mentions_path(line, path) {
                let place = format!("{}:{}", file.path, number + 1);
                let instead = "write it relative to the project, or as a word such as FILE";
                report("no path of somebody's machine", place, format!("`{path}`"), instead);
                break;
            }
        }
    }
    if !is_source(file) {
        return violations;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(leftover) = LEFTOVERS.into_iter().find(|leftover| mentions_word(line, leftover)) {
            let instead = "do it, or write it where work is planned";
            report("nothing is left for later in the sources", at(file, number), format!("`{leftover}`"), instead);
        }
    }
    let lines = text.lines().count();
    let allowed = measure(LONG_FILES, file).unwrap_or(LINES_MAX);
    if lines > allowed {
        let instead = "it tells two stories: give the second one a file of its own";
        report(
            "a source has at most 700 lines",
            file.path.clone(),
            format!("{lines} lines, {allowed} allowed"),
            instead,
        );
    }
    let wide = wide_lines(file, text);
    let allowed = measure(WIDE_FILES, file).unwrap_or(0);
    if wide.len() > allowed {
        for number in wide {
            let instead = "break the line; only a text literal or a row of a table may be wider";
            report("a line has at most 120 columns", at(file, number), "a wider one".to_owned(), instead);
        }
    }
    if file.is("rs") {
        if !text.starts_with("//!") {
            let found = text.lines().next().unwrap_or("nothing").to_owned();
            let instead = "open with `//!`: what this is, what it is not, its invariant";
            report("a source opens with a story", file.path.clone(), found, instead);
        }
        let names = file.path.trim_end_matches(".rs").split('/');
        for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
            let instead = "name it after what it is about";
            report("a module's name says what is inside", file.path.clone(), format!("`{name}`"), instead);
        }
    }
    violations
}

/// Exceptions that are no longer needed, or larger than they need to be.
pub fn stale_exceptions(files: &[File]) -> Vec<Violation> {
    let of =
        |path: &str| files.iter().find(|file| file.path == path).and_then(|file| Some((file, file.text.as_ref()?)));
    let long = LONG_FILES
        .iter()
        .map(|(path, allowed)| (path, *allowed, of(path).map_or(0, |(_, text)| text.lines().count()), LINES_MAX));
    let wide = WIDE_FILES
        .iter()
        .map(|(path, allowed)| (path, *allowed, of(path).map_or(0, |(file, text)| wide_lines(file, text).len()), 0));
    let stale = long.chain(wide).filter(|(_, allowed, measured, free)| measured < allowed || measured <= free);
    let violation = |(path, allowed, measured, _): (&&str, usize, usize, usize)| Violation {
        rule: "an exception may only shrink",
        place: (*path).to_owned(),
        found: format!("{measured} where {allowed} are allowed"),
        instead: "lower the number in tests/tidy/files.rs, or take the line off the list".to_owned(),
    };
    stale.map(violation).collect()
}

fn measure(list: &[(&str, usize)], file: &File) -> Option<usize> {
    list.iter().find(|(path, _)| *path == file.path).map(|(_, measure)| *measure)
}

fn at(file: &File, number: usize) -> String {
    format!("{}:{}", file.path, number + 1)
}

/// Sources are what people write for machines; lock files and data are not.
fn is_source(file: &File) -> bool {
    let script = || file.text.as_ref().is_some_and(|text| text.starts_with("#!"));
    ["rs", "sh", "py", "ts"].iter().any(|extension| file.is(extension)) || script()
}

/// Numbers of the lines that are too wide, from 0. In Rust a literal is not broken, nor a table in a comment.
fn wide_lines(file: &File, text: &str) -> Vec<usize> {
    let bare = if file.is("rs") { without_literals(text) } else { text.to_owned() };
    let is_table = |line: &str| line.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with('|');
    let too_wide = |(_, (line, bare)): &(usize, (&str, &str))| {
        line.chars().count() > COLUMNS_MAX && line == bare && !is_table(line)
    };
    text.lines().zip(bare.lines()).enumerate().filter(too_wide).map(|(number, _)| number).collect()
}

/// Whether the line names this path, and not one that merely ends like it, such as the path of a URL.
fn mentions_path(line: &str, path: &str) -> bool {
    let is_inside =
        |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'));
    line.match_indices(path).any(|(at, _)| !is_inside(&line[..at]))
}

/// Whether the line has this word, not as a part of a longer one.
fn mentions_word(line: &str, word: &str) -> bool {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_name(line[..at].chars().next_back()) && !is_name(line[at + word.len()..].chars().next()))
}
