//! From the `mcpServers` of other programs (Claude Desktop, Claude Code, Cursor, VS Code and the like) to our TOML.
//!
//! Not a promise that a server works: what has no counterpart is a comment. Invariant: what is printed is read by our
//! own reader, and no value that may be a secret is in it, arguments and URLs excepted, which get a comment.

use super::given::quoted;
use super::names::ServerName;
use super::problem::{FilePlace, Place, Problem};
use super::secret::{looks_secret, sounds_secret};
use super::sections::fitting;
use super::shapes::key;
use super::{Config, ConfigError, Sources};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads such a file and prints what it says as TOML.
///
/// # Errors
/// If it cannot be read, is not JSON, or holds no servers.
pub fn import(path: &Path) -> Result<String, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => translate(path, &text),
        Err(error) => {
            let what = format!("the file {} cannot be read: {error}", path.display());
            let advice = "give the path of a claude_desktop_config.json, a .mcp.json or the like";
            Err(failed(Problem::new(Place::Whole, what).advise(Some(advice.to_owned()))))
        }
    }
}

/// Where such files keep their servers.
const PLACES: [&[&str]; 4] = [&["mcpServers"], &["servers"], &["mcp", "servers"], &["mcp", "mcpServers"]];

/// Words before a secret that are none themselves.
const SCHEMES: [&str; 4] = ["Bearer ", "bearer ", "Basic ", "token "];

fn translate(path: &Path, text: &str) -> Result<String, ConfigError> {
    let root: Value = serde_json::from_str(text).map_err(|error| not_json(path, text, &error))?;
    let found = PLACES.iter().find_map(|place| {
        let inner = place.iter().try_fold(&root, |value, name| value.get(name))?;
        Some((place, inner.as_object()?))
    });
    let Some((place, servers)) = found else {
        let what = format!("{} holds no servers: seen is {}", path.display(), shape(&root));
        let advice = "allowed is an object with `mcpServers` (or `servers`, as VS Code writes it), an object by name";
        return Err(failed(Problem::new(Place::Whole, what).advise(Some(advice.to_owned()))));
    };
    let mut out = format!(
        "# Made by `corelane import` from {:?}; what could not be taken over is said here.\n",
        path.display().to_string()
    );
    let others = root.as_object().into_iter().flat_map(Map::keys).filter(|name| *name != place[0]);
    let others: Vec<String> = others.map(|name| format!("{name:?}")).collect();
    if !others.is_empty() {
        out.push_str(&format!("# Not taken over: {}.\n", others.join(", ")));
    }
    let mut import = Import { names: Vec::new(), variables: BTreeMap::new() };
    for (name, entry) in servers {
        out.push('\n');
        out.push_str(&import.server(name, entry));
    }
    if servers.is_empty() {
        out.push_str("# There are no servers in it.\n");
    }
    // Each section is known to be valid; what is left is how many there are.
    import.read(&out).map(|()| out)
}

fn not_json(path: &Path, text: &str, error: &serde_json::Error) -> ConfigError {
    let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = line + error.column().saturating_sub(1);
    // The line may hold a secret.
    let place = Place::File(FilePlace::new(path, text, &(at..at), &[])).without_text();
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let advice = "JSON has no comments, no comma after the last element, and double quotes only";
    failed(Problem::new(place, format!("this is not valid JSON: {said}")).advise(Some(advice.to_owned())))
}

fn failed(problem: Problem) -> ConfigError {
    ConfigError::from_problems(vec![problem]).expect_err("there is a problem")
}

/// What was given away so far.
struct Import {
    /// Names of servers.
    names: Vec<String>,
    /// Variables that have to be exported, each with the value it has to have.
    variables: BTreeMap<String, String>,
}

/// A section while it is written.
#[derive(Default)]
struct Section {
    comments: Vec<String>,
    lines: Vec<String>,
    /// The lines of `[servers.NAME.tools]`.
    tools: Vec<String>,
}

impl Section {
    fn comment(&mut self, text: impl Into<String>) {
        self.comments.push(text.into());
    }

    fn set(&mut self, key: &str, literal: impl Into<String>) {
        self.lines.push(format!("{key} = {}", literal.into()));
    }
}

impl Import {
    /// A server as a section, or as a comment if it cannot be one.
    fn server(&mut self, theirs: &str, entry: &Value) -> String {
        let name = self.name(theirs);
        let mut section = Section::default();
        if name != theirs {
            section.comment(format!("Called {theirs:?} there; a name is {}.", ServerName::RULE));
        }
        let Some(entry) = entry.as_object() else {
            return format!("# {theirs:?} is not taken over: seen is {}, allowed is an object.\n", shape(entry));
        };
        self.keys(&name, entry, &mut section);
        let mut body = format!("[servers.{name}]\n{}\n", section.lines.join("\n"));
        if !section.tools.is_empty() {
            body.push_str(&format!("\n[servers.{name}.tools]\n{}\n", section.tools.join("\n")));
        }
        if let Err(error) = self.read(&body) {
            for problem in error.problems() {
                section.comment(format!("Not taken over: {}.", problem.sentence()));
            }
            body = body.lines().map(|line| format!("#{line}\n")).collect();
        }
        let comments: String = section.comments.iter().map(|comment| format!("# {comment}\n")).collect();
        comments + &body
    }

    /// Reads what was printed, as if everything that has to be exported were.
    fn read(&self, text: &str) -> Result<(), ConfigError> {
        let variables = self.variables.keys().map(|name| (name.into(), "x".into())).collect();
        let sources = Sources { variables, ..Sources::default() };
        Config::from_layers(Some((Path::new("what was imported"), text)), &sources).map(|_| ())
    }

    /// A name of our own for a server, used by no other.
    fn name(&mut self, theirs: &str) -> String {
        let fit = fitting(theirs);
        let numbered = |n: usize| match n {
            1 => fit.clone(),
            n => {
                let end = format!("-{n}");
                format!("{}{end}", fit[..fit.len().min(32 - end.len())].trim_end_matches('-'))
            }
        };
        let name = (1..).map(numbered).find(|name| !self.names.contains(name)).expect("numbers do not end");
        self.names.push(name.clone());
        name
    }

    fn keys(&mut self, name: &str, entry: &Map<String, Value>, section: &mut Section) {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let url = ["url", "serverUrl", "httpUrl"].into_iter().find_map(text);
        let kind = kind(entry, url, section);
        section.set("kind", quoted(&kind));
        for (key, value) in entry {
            match (key.as_str(), value) {
                ("type" | "transport", _) => {}
                ("url" | "serverUrl" | "httpUrl", Value::String(url)) => {
                    if url.contains('?') && url.split(['?', '&']).any(sounds_secret) {
                        section.comment("The URL looks as if it held a secret; whoever reads this file sees it.");
                    }
                    unexpanded(url, section);
                    section.set("url", quoted(url));
                }
                ("command" | "cwd", Value::String(text)) => {
                    unexpanded(text, section);
                    section.set(key, quoted(text));
                }
                ("args", Value::Array(items)) => self.arguments(items, section),
                ("env", Value::Object(values)) => {
                    let values = self.values(name, "env", values, section);
                    section.set("env", values);
                }
                ("headers", Value::Object(values)) => {
                    let values = self.values(name, "headers", values, section);
                    section.set("headers", values);
                }
                ("disabled", Value::Bool(disabled)) => section.set("enabled", (!disabled).to_string()),
                ("enabled", Value::Bool(enabled)) => section.set("enabled", enabled.to_string()),
                ("includeTools", Value::Array(names)) => section.tools.extend(patterns("include", names)),
                ("excludeTools" | "disabledTools", Value::Array(names)) => {
                    section.tools.extend(patterns("exclude", names));
                }
                _ => section.comment(format!("{key:?} is not taken over: it has no counterpart here.")),
            }
        }
    }

    fn arguments(&self, items: &[Value], section: &mut Section) {
        let texts: Vec<String> = items.iter().map(as_text).collect();
        let options = std::iter::once("").chain(texts.iter().map(String::as_str));
        for (text, before) in texts.iter().zip(options) {
            let option = |text: &str| text.starts_with('-') && sounds_secret(text);
            if looks_secret(text) || (option(text) && text.contains('=')) || (option(before) && !before.contains('=')) {
                section.comment("An argument looks like a secret: every user of this host can see it.");
            }
            unexpanded(text, section);
        }
        section.comments.dedup();
        let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        section.set("args", format!("[{}]", quoted.join(", ")));
    }

    /// A table of values, those that may be secrets by the variables that are to hold them.
    fn values(&mut self, server: &str, table: &str, values: &Map<String, Value>, section: &mut Section) -> String {
        let mut entries = Vec::new();
        for (name, value) in values {
            let text = as_text(value);
            let literal = if let Some((before, variable)) = expansion(&text) {
                let variable = self.variable(&variable, server, None);
                section.comment(format!(
                    "Before corelane starts, export {variable}, which {name:?} of {table} uses there."
                ));
                from_variable(&variable, before)
            } else if sounds_secret(name) || looks_secret(&text) || text.contains("${") {
                let before = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme)).unwrap_or("");
                let wanted = if table == "env" { name.clone() } else { format!("{server}_{name}") };
                let variable = self.variable(&wanted, server, Some(&text[before.len()..]));
                let part = if before.is_empty() { String::new() } else { format!("what follows {before:?} in ") };
                let filled = if text.contains("${") { ", with each `${...}` filled in" } else { "" };
                section.comment(format!(
                    "Before corelane starts, export {variable}: {part}the value of {name:?} of {table} there{filled}."
                ));
                from_variable(&variable, before)
            } else {
                quoted(&text)
            };
            entries.push(format!("{} = {literal}", key(name)));
        }
        if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
    }

    /// A variable for a value: of the wanted name, unless that has another value elsewhere or is ours.
    fn variable(&mut self, wanted: &str, server: &str, value: Option<&str>) -> String {
        let word = |text: &str| {
            let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            text.chars().map(fit).collect::<String>()
        };
        // A variable that is used there already keeps its name and whatever value it has.
        let value = value.unwrap_or(wanted).to_owned();
        let (plain, full) = (word(wanted), format!("{}_{}", word(server), word(wanted)));
        let numbered = (2..).map(|n| format!("{full}_{n}"));
        let candidates = [plain.clone(), full.clone(), format!("MCP_{plain}")].into_iter().chain(numbered);
        let free = |name: &String| {
            let ours = name.starts_with("CORELANE_") || name.starts_with(|c: char| c.is_ascii_digit());
            !ours && self.variables.get(name).is_none_or(|other| *other == value)
        };
        let name = candidates.into_iter().find(free).expect("numbers do not end");
        self.variables.insert(name.clone(), value);
        name
    }
}

/// The kind of a server, by what it says or by what it has.
fn kind(entry: &Map<String, Value>, url: Option<&str>, section: &mut Section) -> String {
    let said = ["type", "transport"].into_iter().find_map(|key| entry.get(key)).map(as_text);
    match said.as_deref() {
        Some("stdio") => "stdio".to_owned(),
        Some("sse") => "sse".to_owned(),
        Some("http" | "streamable-http" | "streamableHttp" | "streamable_http") => "http".to_owned(),
        Some(other) => other.to_owned(),
        None if entry.contains_key("command") => "stdio".to_owned(),
        None if url.is_some_and(|url| url.ends_with("/sse")) => {
            section.comment("Taken for the deprecated HTTP+SSE because of its path; write \"http\" if it is not.");
            "sse".to_owned()
        }
        None => "http".to_owned(),
    }
}

/// A value that is a variable with perhaps a few letters before it: `Bearer ${TOKEN}`, `${env:TOKEN}`,
/// `${input:token}`.
fn expansion(text: &str) -> Option<(&str, String)> {
    let (before, rest) = text.split_once("${")?;
    let inner = rest.strip_suffix('}')?;
    let name = inner.strip_prefix("env:").or(inner.strip_prefix("input:")).unwrap_or(inner);
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    (is_name && before.len() <= 32 && !before.contains('$')).then(|| (before, name.to_owned()))
}

fn from_variable(variable: &str, before: &str) -> String {
    let before = if before.is_empty() { String::new() } else { format!(", before = {}", quoted(before)) };
    format!("{{ env = {}{before} }}", quoted(variable))
}

/// Warns of what other programs fill in.
fn unexpanded(text: &str, section: &mut Section) {
    if text.contains("${") {
        section.comment(format!("Nothing is filled in for the `${{...}}` in {text:?}: write what it stands for."));
    }
}

fn patterns(key: &str, names: &[Value]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| quoted(&as_text(name))).collect();
    (!names.is_empty()).then(|| format!("{key} = [{}]", names.join(", ")))
}

/// A value as the text that a program would be given.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a switch",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object with other names",
    }
}

#[cfg(test)]
mod tests {
    use super::super::servers::{ServerKind, ServerSettings};
    use super::*;
    use proptest::prelude::*;

    fn translated(json: &str) -> String {
        translate(Path::new("there.json"), json).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The servers of the printed text, with these variables exported.
    fn servers(toml: &str, variables: &[(&str, &str)]) -> Vec<(ServerName, ServerSettings)> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let sources = Sources { variables, ..Sources::default() };
        let config = Config::from_layers(Some((Path::new("c.toml"), toml)), &sources);
        config.unwrap_or_else(|error| panic!("{error}\n{toml}")).into_settings().servers
    }

    #[test]
    fn children_become_sections_and_their_secrets_variables() {
        let toml = translated(
            r#"{"globalShortcut": "", "mcpServers": {
                "github": {"command": "npx", "args": ["-y", "server-github"], "env": {"GITHUB_TOKEN": "ghp_hunter2", "DEBUG": "1"}},
                "My Files": {"type": "stdio", "command": "/opt/files", "cwd": "/srv", "env": {"PORT": 3000}, "disabled": true}
            }}"#,
        );
        assert_eq!(
            toml,
            r#"# Made by `corelane import` from "there.json"; what could not be taken over is said here.
# Not taken over: "globalShortcut".

# Called "My Files" there; a name is 1 to 32 characters of a-z, 0-9 and `-`, the first not `-`.
[servers.my-files]
kind = "stdio"
command = "/opt/files"
cwd = "/srv"
enabled = false
env = { PORT = "3000" }

# Before corelane starts, export GITHUB_TOKEN: the value of "GITHUB_TOKEN" of env there.
[servers.github]
kind = "stdio"
args = ["-y", "server-github"]
command = "npx"
env = { DEBUG = "1", GITHUB_TOKEN = { env = "GITHUB_TOKEN" } }
"#
        );
        let servers = servers(&toml, &[("GITHUB_TOKEN", "t")]);
        let ServerKind::Stdio(github) = &servers[0].1.kind else { panic!() };
        assert_eq!(github.args, ["-y", "server-github"]);
        assert_eq!(github.env["GITHUB_TOKEN"].value().reveal(), "t");
        assert!(!servers[1].1.enabled);
    }

    #[test]
    fn urls_and_headers_are_taken_over_as_others_write_them() {
        let toml = translated(
            r#"{"servers": {
                "claude": {"type": "http", "url": "http://10.0.0.7/mcp", "headers": {"Authorization": "Bearer ${API_KEY}", "X-Team": "a"}},
                "vscode": {"type": "sse", "url": "http://10.0.0.7/sse", "headers": {"X-Key": "${input:my-key}", "X-Other": "${env:OTHER}"}},
                "plain": {"url": "http://10.0.0.7/mcp", "headers": {"Authorization": "Basic aHVudGVyMg=="}},
                "old": {"serverUrl": "http://10.0.0.7/a/sse"},
                "odd": {"httpUrl": "http://10.0.0.7/", "headers": {"X-A": "${A}/${B}"}, "includeTools": ["a", "b*"], "excludeTools": []}
            }, "inputs": []}"#,
        );
        for line in [
            "# Not taken over: \"inputs\".",
            "headers = { Authorization = { env = \"API_KEY\", before = \"Bearer \" }, X-Team = \"a\" }",
            "headers = { X-Key = { env = \"MY_KEY\" }, X-Other = { env = \"OTHER\" } }",
            "# Before corelane starts, export API_KEY, which \"Authorization\" of headers uses there.",
            "# Before corelane starts, export PLAIN_AUTHORIZATION: what follows \"Basic \" in the value of \"Authorization\" of headers there.",
            "# Before corelane starts, export ODD_X_A: the value of \"X-A\" of headers there, with each `${...}` filled in.",
            "headers = { Authorization = { env = \"PLAIN_AUTHORIZATION\", before = \"Basic \" } }",
            "# Taken for the deprecated HTTP+SSE because of its path; write \"http\" if it is not.",
            "headers = { X-A = { env = \"ODD_X_A\" } }",
            "include = [\"a\", \"b*\"]",
        ] {
            assert!(toml.lines().any(|printed| printed == line), "{line} in\n{toml}");
        }
        let exported = ["API_KEY", "MY_KEY", "OTHER", "PLAIN_AUTHORIZATION", "ODD_X_A"].map(|name| (name, "v"));
        let servers = servers(&toml, &exported);
        assert_eq!(servers.len(), 5);
        let kinds: Vec<bool> = servers.iter().map(|(_, s)| matches!(s.kind, ServerKind::Sse(_))).collect();
        assert_eq!(kinds, [false, false, true, false, true], "claude, odd, old, plain, vscode");
    }

    #[test]
    fn what_cannot_be_is_a_comment_that_says_why() {
        for (entry, said) in [
            (r#"{"type": "http", "url": "HTTPS://mcp.example/mcp"}"#, "write the scheme in lower case"),
            (r#"{"command": "./server"}"#, "a relative path depends on where corelane is started"),
            (r#"{"command": "npx -y server"}"#, "cannot be `npx ...`"),
            (r#"{"command": "npx -y server"}"#, "no shell splits it into words"),
            (r#"{"command": "C:\\Program Files\\nodejs\\npx.cmd"}"#, "Files\\\\nodejs\\\\npx.cmd\": allowed is"),
            (r#"{"command": "C:\\Program Files\\nodejs\\npx.cmd"}"#, "that is a path of Windows"),
            (r#"{"command": "dir\\server.exe --key hunter2"}"#, "cannot be `dir\\server.exe ...`"),
            (r#"{"type": "websocket", "url": "ws://h"}"#, "MCP has no such transport"),
            (r#"{"command": "c", "headers": {"X": "1"}}"#, "is for servers of kind \"http\" or \"sse\""),
            (r#"{"url": "http://h/", "headers": {"Host": "x"}}"#, "cannot be a table with the name \"Host\""),
            (r#"{}"#, "has no `url`"),
        ] {
            let toml = translated(&format!(r#"{{"mcpServers": {{"a": {entry}}}}}"#));
            assert!(toml.contains("# Not taken over: ") && toml.contains(said), "{entry}:\n{toml}");
            assert!(toml.contains("\n#[servers.a]\n") && servers(&toml, &[]).is_empty(), "{entry}:\n{toml}");
        }
        let kept =
            r#"{"command": "c", "autoApprove": ["x"], "envFile": ".env", "args": ["--api-key", "k", "${HOME}/x"]}"#;
        let toml =
            translated(&format!(r#"{{"mcp": {{"servers": {{"a": {kept}, "b": 3, "c\nd": {{"command": "c"}}}}}}}}"#));
        for line in [
            "# \"autoApprove\" is not taken over: it has no counterpart here.",
            "# \"envFile\" is not taken over: it has no counterpart here.",
            "# An argument looks like a secret: every user of this host can see it.",
            "# Nothing is filled in for the `${...}` in \"${HOME}/x\": write what it stands for.",
            "# \"b\" is not taken over: seen is a number, allowed is an object.",
            "[servers.c-d]",
        ] {
            assert!(toml.lines().any(|printed| printed == line), "{line} in\n{toml}");
        }
        assert_eq!(servers(&toml, &[]).len(), 2);
        assert!(translated(r#"{"mcpServers": {}}"#).contains("# There are no servers in it."));
    }

    #[test]
    fn names_and_variables_are_kept_apart() {
        let toml = translated(
            r#"{"mcpServers": {
                "a b": {"command": "c", "env": {"TOKEN": "one", "SHARED_KEY": "same"}},
                "a-b": {"command": "c", "env": {"TOKEN": "two", "SHARED_KEY": "same"}},
                "A_B": {"command": "c", "env": {"CORELANE_TOKEN": "three"}}
            }}"#,
        );
        let exported = ["A_B_TOKEN", "TOKEN", "SHARED_KEY", "A_B_3_TOKEN", "A_B_2_TOKEN", "A_B_CORELANE_TOKEN"];
        let servers = servers(&toml, &exported.map(|name| (name, name)));
        let names: Vec<_> = servers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a-b", "a-b-2", "a-b-3"]);
        let of = |index: usize, name: &str| {
            let ServerKind::Stdio(stdio) = &servers[index].1.kind else { panic!() };
            stdio.env[name].value().reveal().to_owned()
        };
        assert_eq!(of(0, "CORELANE_TOKEN"), "A_B_CORELANE_TOKEN", "a variable of corelane's is no place for it");
        assert_ne!(of(1, "TOKEN"), of(2, "TOKEN"), "two values are two variables");
        assert_eq!(of(1, "SHARED_KEY"), of(2, "SHARED_KEY"), "one value is one");
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let said = |json: &str| translate(Path::new("there.json"), json).expect_err(json).to_string();
        let text = said("{\n  \"mcpServers\": {\n    // mine\n  }\n}");
        assert!(text.starts_with("this is not valid JSON: ") && text.contains("--> there.json:3:5"), "{text}");
        assert!(text.contains("JSON has no comments"), "{text}");
        let text = said("{\"mcpServers\": {\"a\": {\"env\": {\"TOKEN\": \"hunter2\",}}}}");
        assert!(text.contains("there.json:1:") && !text.contains("hunter2"), "{text}");
        assert!(said("").contains("there.json:1:1"), "{}", said(""));
        assert!(said("[]").contains("there.json holds no servers: seen is a list"), "{}", said("[]"));
        assert!(said("{\"mcpServers\": 3}").contains("an object with other names"));
        let text = import(Path::new("/nonexistent/x.json")).expect_err("missing").to_string();
        assert!(text.contains("/nonexistent/x.json cannot be read"), "{text}");
    }

    /// Entries with the keys that matter, and texts that are hard to quote.
    fn entries() -> impl Strategy<Value = Value> {
        let text = || "(?s)([a-z/:.@?=$\\{\\}#'\"\\\\ -]|\\PC|.){0,12}".prop_map(Value::from);
        let values = proptest::collection::hash_map("(?s)([A-Za-z_=\" -]|.){0,8}", text(), 0..3)
            .prop_map(|values| Value::Object(values.into_iter().collect()));
        let value = prop_oneof![
            text(),
            values,
            proptest::collection::vec(text(), 0..3).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::from("c")),
            Just(Value::from("http://10.0.0.7/mcp")),
        ];
        let key = "command|args|env|url|headers|type|cwd|disabled|includeTools|excludeTools|[a-z]{1,3}";
        proptest::collection::hash_map(key, value, 0..6).prop_map(|keys| Value::Object(keys.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn whatever_is_imported_our_reader_reads(found in proptest::collection::hash_map("(?s).{0,40}", entries(), 0..4)) {
            let json = Value::Object(Map::from_iter([("mcpServers".to_owned(), Value::Object(found.into_iter().collect()))]));
            // `translate` reads what it printed and fails if it cannot.
            let toml = translated(&json.to_string());
            prop_assert!(toml.parse::<toml_edit::DocumentMut>().is_ok(), "{}", toml);
        }
    }
}
