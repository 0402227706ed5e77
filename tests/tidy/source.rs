//! A Rust source as the rules see it: its code without comments, texts and tests, line by line, and as tokens.
//!
//! Not here: a parser. Rules need names and paths, and those survive this much understanding.
//! Invariant: what is taken out becomes spaces, so every byte that is left stands on the line where it was written.

/// A file of Rust.
pub struct Source {
    /// Its path from the root of the project, with `/`.
    pub path: String,
    /// Its code, with blanks for comments, literals, and items under `cfg(test)`.
    pub code: String,
    /// Modules under `cfg(test)` that live in files of their own.
    pub test_modules: Vec<String>,
}

/// A name or a sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Source {
    /// Reads a text as the file at `path`.
    pub fn new(path: &str, text: &str) -> Source {
        let mut code = blanked(text, true);
        let test_modules = blank_tests(&mut code);
        Source { path: path.to_owned(), code, test_modules }
    }

    /// The folder or file directly under src/ to which it belongs, such as `server`; `None` outside src/.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split_once('/').map_or(inside.trim_end_matches(".rs"), |(folder, _)| folder))
    }

    /// Names and signs, in order; `::` is one sign.
    pub fn tokens(&self) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (index, line) in self.code.lines().enumerate() {
            let mut rest = line;
            while let Some(first) = rest.chars().next() {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                let length = if is_name(first) {
                    rest.find(|c| !is_name(c)).unwrap_or(rest.len())
                } else if rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                if !first.is_whitespace() {
                    tokens.push(Token { text: rest[..length].to_owned(), line: index + 1 });
                }
                rest = &rest[length..];
            }
        }
        tokens
    }
}

/// The text with blanks for the contents of literals; comments stay.
pub fn without_literals(text: &str) -> String {
    blanked(text, false)
}

fn blanked(text: &str, comments_too: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let begins_name = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        if rest.starts_with(b"//") || rest.starts_with(b"/*") {
            let end = at + if rest[1] == b'/' { line_length(rest) } else { block_comment_length(rest) };
            if comments_too {
                blank(at, end);
            }
            at = end;
            continue;
        }
        let end = if rest[0] == b'"' {
            at + string_length(rest)
        } else if let (true, Some(length)) = (begins_name, raw_string_length(rest)) {
            at + length
        } else if let (b'\'', Some(length)) = (rest[0], character_length(rest)) {
            at + length
        } else {
            at += 1;
            continue;
        };
        blank(at, end.min(bytes.len()));
        at = end;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`, `br##"..."##`, ...
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if !rest[..prefix].ends_with(b"r") || rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = prefix + hashes + 1;
    let found = rest[body..].windows(closing.len()).position(|window| window == closing);
    Some(found.map_or(rest.len(), |found| body + found + closing.len()))
}

/// A character literal; `None` for the quote of a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|byte| *byte == b'\'').map(|found| found + 4);
    }
    let character = std::str::from_utf8(&rest[1..rest.len().min(5)]);
    let valid = match &character {
        Ok(text) => *text,
        Err(error) => std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap_or(""),
    };
    let length = valid.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// Blanks every item under `cfg(test)`; returns the names of those that are modules in files of their own.
fn blank_tests(code: &mut String) -> Vec<String> {
    let mut names = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(") {
        let start = from + found;
        let Some(length) = code[start..].find(']') else { break };
        let condition = &code[start + 6..start + length];
        from = start + length + 1;
        if !wants_test(condition) {
            continue;
        }
        let rest = &code[from..];
        let end = match (rest.find(';'), rest.find('{')) {
            (Some(semicolon), brace) if brace.is_none_or(|brace| semicolon < brace) => {
                if let Some(name) = rest[..semicolon].trim().rsplit_once("mod ").map(|(_, name)| name.trim()) {
                    names.push(name.to_owned());
                }
                semicolon + 1
            }
            (_, Some(brace)) => brace + braces_length(&rest[brace..]),
            (_, None) => rest.len(),
        };
        let blanked: String = code[start..from + end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        let after = code.split_off(from + end);
        code.truncate(start);
        *code += &blanked;
        from = code.len();
        *code += &after;
    }
    names
}

/// Whether a condition such as `all(test, not(loom))` holds only in tests.
fn wants_test(condition: &str) -> bool {
    let words = condition.replace("not(test)", "");
    words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test") && !words.starts_with("any(")
}

fn braces_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    rest.len()
}
