//! The paths that a source names, in `use` declarations and in the middle of code, each spelled out from the crate's
//! root.
//!
//! Not here: names brought in by other names. `use std::sync as s; s::Mutex` would be missed; review sees that.
//! Invariant: a path is found once, on the line of its last name.

use super::source::{Source, Token};

/// A path such as `crate::proto::json` or `std::time::Instant`.
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
}

impl Named {
    /// Whether it begins with these names.
    pub fn begins_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(ours, theirs)| ours == theirs)
    }

    /// The path as it is written.
    pub fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// Every path of a source; `super` and `self` at its front are resolved, and the crate's own name means `crate`.
pub fn of(source: &Source) -> Vec<Named> {
    let tokens = source.tokens();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at].text) {
            at = branch(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    for named in &mut found {
        resolve(source, &mut named.segments);
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one branch of a use tree that begins with a name, or a plain path; returns where it ends.
fn branch(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    let mut segments = prefix.to_vec();
    segments.push(tokens[start].text.clone());
    let mut at = start;
    loop {
        let sign = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        if sign(1) != "::" {
            break;
        }
        if is_name(sign(2)) {
            segments.push(sign(2).to_owned());
            at += 2;
        } else if sign(2) == "{" {
            return branches(tokens, at + 3, &segments, found);
        } else {
            // A glob, or the arguments of a generic.
            at += 1;
            break;
        }
    }
    found.push(Named { segments, line: tokens[at].line });
    at + 1
}

/// The branches between braces, the opening one already read.
fn branches(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    let mut at = start;
    while at < tokens.len() && tokens[at].text != "}" {
        match tokens[at].text.as_str() {
            "as" => at += 2,
            text if is_name(text) => at = branch(tokens, at, prefix, found),
            _ => at += 1,
        }
    }
    at + 1
}

fn resolve(source: &Source, segments: &mut Vec<String>) {
    if segments[0] == "corelane" && segments.len() > 1 {
        segments[0] = "crate".to_owned();
    }
    if !matches!(segments[0].as_str(), "super" | "self") || segments.len() < 2 {
        return;
    }
    let Some(inside) = source.path.strip_prefix("src/") else { return };
    let mut home: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    if matches!(home.last(), Some(&"mod" | &"lib" | &"main")) {
        home.pop();
    }
    let mut rest = segments.as_slice();
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "super" => drop(home.pop()),
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    let resolved = ["crate"].into_iter().chain(home).map(str::to_owned).chain(rest.iter().cloned()).collect();
    *segments = resolved;
}
