//! JSON on many lines, for people to read and compare.
//!
//! Not here: judging, or changing values. Invariant: what is read back is the same value, tokens as they were written;
//! and no character in it is unseen, or makes others look otherwise than they are, because what is hidden in a text is
//! what its reader has to see.

use std::fmt::Write as _;

use crate::limits::JSON_DEPTH_MAX;

/// Characters that show nothing, look like a plain space, or change how those around them are shown.
const UNSEEN: &[(char, char)] = &[
    ('\u{7f}', '\u{a0}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2000}', '\u{200f}'),
    ('\u{2028}', '\u{202f}'),
    ('\u{205f}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{e1000}', '\u{effff}'),
    ('\u{f0000}', '\u{fffff}'),
    ('\u{100000}', '\u{10ffff}'),
];

/// `text`, a judged JSON text, with a line for each member and element; what is unseen in its strings is escaped.
///
/// Of a text that nobody judged it makes what it likes, without panicking, in space proportional to the text.
pub fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            visible(&mut out, c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '\0'..=' ' => {}
            '{' | '[' => {
                out.push(c);
                while rest.next_if(|next| *next <= ' ').is_some() {}
                match rest.next_if(|next| matches!(*next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                visible(&mut out, c);
                in_string = c == '"';
            }
        }
    }
    out
}

/// A text of somebody else's for a terminal or a line: what is unseen in it is escaped, line ends as well.
pub fn visibly(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| visible(&mut out, c));
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth.min(JSON_DEPTH_MAX) {
        out.push_str("  ");
    }
}

fn visible(out: &mut String, c: char) {
    let is_unseen = c < ' ' || (c > '~' && UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&c)));
    if !is_unseen {
        return out.push(c);
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::canonical;

    #[test]
    fn members_and_elements_have_lines_of_their_own() {
        let text = r#"{"a":{},"b":[],"c":[1,{"d":"x, y: {z}"}],"e":"\"]\\","f": [ ]}"#;
        let expected = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1,\n    {\n      \"d\": \"x, y: {z}\"\n    }\n  ],\n  \
                        \"e\": \"\\\"]\\\\\",\n  \"f\": []\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(pretty(&pretty(text)), expected, "it stays");
        assert_eq!(pretty("\"a\""), "\"a\"");
    }

    #[test]
    fn nothing_is_hidden_and_nothing_is_changed() {
        let hidden = "{\"description\":\"a\u{200b}b\u{202e}c\u{e0041}d\u{9b}e\u{7f}f\u{fe0f}\u{e9}\u{4e2d}\u{1f600}\"}";
        let shown = pretty(hidden);
        let expected = "{\n  \"description\": \"a\\u200bb\\u202ec\\udb40\\udc41d\\u009be\\u007ff\\ufe0f\u{e9}\u{4e2d}\u{1f600}\"\n}";
        assert_eq!(shown, expected);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        assert!(canonical(&mut one, hidden.as_bytes()) && canonical(&mut other, shown.as_bytes()));
        assert_eq!(one, other);
        assert_eq!(visibly("a\u{1b}[2J\nb\u{2066}"), "a\\u001b[2J\\u000ab\\u2066");
    }

    #[test]
    fn what_nobody_judged_takes_no_more_than_its_share() {
        for text in ["", "}", "]]]]", "\"", "\"\\", "{,,:", "nul"] {
            assert!(pretty(text).len() <= 16 * (1 + text.len()), "{text}");
        }
        let deep = "[".repeat(10_000);
        assert!(pretty(&deep).len() <= deep.len() * (2 + 2 * JSON_DEPTH_MAX));
    }
}
