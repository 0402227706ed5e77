//! `corelane servers diff|approve`: how tools differ from what was approved, as a reader of diffs expects it, and what
//! was approved.
//!
//! Not here: asking (`operator`). Invariant: what is shown is what the hashes are of, token by token, and nothing in it
//! is unseen: a server's words are made visible before they reach a terminal.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::proto::json::{pretty, visibly};

/// Lines around what differs.
const CONTEXT: usize = 3;
/// Longest time to find a short difference; then a longer one does.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the tools of a server differ, and whether any does.
pub(super) fn difference(answer: &Value) -> (String, bool) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (server, policy) = (text(&answer["server"]), text(&answer["policy"]));
    let changed = answer["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pinned = &answer["pinned"];
    let mut out = match changed.len() {
        0 if *pinned == 0 => {
            format!("server {server}: no tool is pinned, because none was seen yet or none is to be ({policy})\n")
        }
        0 => format!("server {server}: all {pinned} tools are what was approved ({policy})\n"),
        some => format!("server {server}: {some} of {pinned} tools are not what was approved ({policy})\n"),
    };
    for tool in changed {
        let name = visibly(&text(&tool["tool"]));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{name}: {}", text(&tool["differing"]));
        let _ = writeln!(out, "--- approved  sha256:{}", text(&tool["pinned"]["sha256"]));
        let _ = writeln!(out, "+++ seen      sha256:{}", text(&tool["seen"]["sha256"]));
        match (tool["pinned"]["definition"].as_str(), tool["seen"]["definition"].as_str()) {
            (Some(pinned), Some(seen)) => lines(&mut out, &pretty(pinned), &pretty(seen)),
            _ => out.push_str("what is there now was too large to be kept\n"),
        }
    }
    if !changed.is_empty() {
        let _ = writeln!(
            out,
            "\nto approve what is shown here, and nothing that comes after: corelane servers approve {server} --tag {}",
            text(&answer["tag"])
        );
    }
    (out, !changed.is_empty())
}

fn lines(out: &mut String, pinned: &str, seen: &str) {
    let deadline = Instant::now() + PATIENCE;
    let diff = TextDiff::configure().deadline(deadline).diff_lines(pinned, seen);
    for group in diff.grouped_ops(CONTEXT) {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            let (old, new) =
                (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
            let _ = writeln!(out, "@@ -{},{} +{},{} @@", old.start + 1, old.len(), new.start + 1, new.len());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let _ = writeln!(out, "{sign}{}", change.value().trim_end_matches('\n'));
        }
    }
}

/// What was approved.
pub(super) fn approved(server: &str, answer: &Value) -> String {
    let tools = answer["approved"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tools.is_empty() {
        return format!("server {server}: no tool has changed, so there is nothing to approve\n");
    }
    tools.iter().fold(String::new(), |mut out, tool| {
        let text = |member: &str| tool[member].as_str().unwrap_or_default();
        let _ = writeln!(out, "server {server}: {} is approved as sha256:{}", visibly(text("tool")), text("sha256"));
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_is_shown_and_nothing_in_it_is_hidden() {
        let definition = |description: &str| {
            let text = format!(
                r#"{{"description":"{description}","inputSchema":{{"properties":{{"a":{{}},"b":{{}}}}}},"name":"t"}}"#
            );
            json!({ "sha256": description.len().to_string(), "definition": text })
        };
        let answer = json!({
            "server": "s", "policy": "quarantine", "pinned": 2, "tag": "0123",
            "changed": [{
                "tool": "t\u{1b}[2J", "differing": "description",
                "pinned": definition("Adds"), "seen": definition("Adds\u{200b}"),
            }],
        });
        let expected = "\
server s: 1 of 2 tools are not what was approved (quarantine)

t\\u001b[2J: description
--- approved  sha256:4
+++ seen      sha256:7
@@ -1,5 +1,5 @@
 {
-  \"description\": \"Adds\",
+  \"description\": \"Adds\\u200b\",
   \"inputSchema\": {
     \"properties\": {
       \"a\": {},

to approve what is shown here, and nothing that comes after: corelane servers approve s --tag 0123
";
        assert_eq!(difference(&answer), (expected.to_owned(), true));
        let none = json!({ "server": "s", "policy": "warn", "pinned": 2, "tag": "0123", "changed": [] });
        assert_eq!(difference(&none), ("server s: all 2 tools are what was approved (warn)\n".to_owned(), false));
    }

    #[test]
    fn what_was_approved_is_named() {
        let answer = json!({ "approved": [{ "tool": "a", "sha256": "12" }], "tag": "" });
        assert_eq!(approved("s", &answer), "server s: a is approved as sha256:12\n");
        assert!(approved("s", &json!({ "approved": [] })).contains("nothing to approve"));
    }
}
