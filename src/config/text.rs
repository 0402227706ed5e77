//! The configuration as commented TOML.
//!
//! Not a template: it is printed from the table of keys, so it cannot miss one.
//! Invariant: the printed text of a configuration parses to that configuration. Secrets that stand in the file itself
//! are never printed; what is printed for them is not accepted.

use super::Settings;
use super::draft::{Kind, ServerDraft, ViewDraft};
use super::names::ServerName;
use super::rows::{Row, SERVER_ROWS, VIEW_ROWS};
use super::secret::Supplied;
use super::servers::{DialInServer, HttpServer, ServerKind, ServerSettings, StdioServer};
use super::table::{KEYS, Key, SECTIONS};
use super::url::ServerUrl;

/// Columns of a printed line.
const WIDTH: usize = 110;

const OPENING: &str = "\
# Corelane configuration.
#
# Every key may be left out; what is written here is what it then is.
# A flag wins over the environment, the environment over this file, this file over the profile and the default.
# In the environment a key is CORELANE_, its section, `_` and its name in capitals: CORELANE_LIMITS_BODY_BYTES=65536.
# Lists are separated by commas there: CORELANE_SERVE_LISTEN=127.0.0.1:9000,[::1]:9000. CORELANE_CORES is short for
# CORELANE_CORES_LIST. An unknown key or variable is an error.
";

const SERVERS: &str = "\
# Servers that calls are forwarded to: for each a section [servers.NAME], with a name of 1 to 32 characters of a-z, 0-9
# and `-`. Servers and views stand in this file only; no flag and no variable sets them. The examples below have a `#`
# before everything that would be read without it.
";

const HTTP_EXAMPLE: &str = "\
# A server behind a URL.
#[servers.weather]
";

const STDIO_EXAMPLE: &str = "\
# A child process. It has all the keys above but those for URLs, and these.
#[servers.files]
#kind = \"stdio\"
";

const DIAL_IN_EXAMPLE: &str = "\
# A server that dials in. It has all the keys that a child process has but those for processes, and these.
#[servers.laptop]
#kind = \"dial_in\"
";

const VIEWS: &str = "\
# Views: a choice of servers and tools, seen at the endpoint's path and /@NAME. Names are as those of servers.
#[views.ops]
";

/// Prints `settings` as commented TOML.
pub(super) fn print(settings: &Settings) -> String {
    let default = Settings::default();
    let mut out = OPENING.to_owned();
    for key in KEYS.iter().filter(|key| key.section.is_empty()) {
        out.push_str(&print_key(key, settings, &default));
    }
    for (section, what) in SECTIONS {
        out.push_str(&format!("\n# {what}\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            out.push_str(&print_key(key, settings, &default));
        }
    }
    let [http, stdio, dial_in] = server_defaults();
    out.push_str(&format!("\n{SERVERS}\n{HTTP_EXAMPLE}"));
    explain(&mut out, "servers.weather", SERVER_ROWS, |row| row.kinds.contains(&Kind::Http), &http);
    out.push_str(&format!("\n{STDIO_EXAMPLE}"));
    let is_only = |row: &Row<ServerDraft>, kind| row.kinds == [kind];
    explain(&mut out, "servers.files", SERVER_ROWS, |row| is_only(row, Kind::Stdio), &stdio);
    out.push_str(&format!("\n{DIAL_IN_EXAMPLE}"));
    explain(&mut out, "servers.laptop", SERVER_ROWS, |row| is_only(row, Kind::DialIn), &dial_in);
    out.push_str(&format!("\n{VIEWS}"));
    let no_view = ViewDraft { tools: Some(Vec::new()), rename: Some(Default::default()), ..ViewDraft::default() };
    explain(&mut out, "views.ops", VIEW_ROWS, |_| true, &no_view);
    for (name, server) in &settings.servers {
        state(&mut out, &format!("servers.{name}"), SERVER_ROWS, &ServerDraft::of(server));
    }
    for (name, view) in &settings.views {
        state(&mut out, &format!("views.{name}"), VIEW_ROWS, &ViewDraft::of(view));
    }
    out
}

fn print_key(key: &Key, settings: &Settings, default: &Settings) -> String {
    let mut out = "\n".to_owned();
    wrap(&mut out, "", key.what);
    wrap(&mut out, "  unit:    ", key.unit);
    wrap(&mut out, "  allowed: ", &(key.allowed)());
    wrap(&mut out, "  default: ", &(key.get)(default));
    wrap(&mut out, "  memory:  ", key.memory);
    wrap(&mut out, "  wrong:   ", key.wrong);
    out.push_str(&format!("{} = {}\n", key.name, (key.get)(settings)));
    out
}

/// The keys of a server that is only named: behind a URL, as a child, and dialling in.
fn server_defaults() -> [ServerDraft; 3] {
    let url = ServerUrl::parse("http://localhost").expect("a URL");
    let stdio = StdioServer::new("true".to_owned());
    let name = ServerName::new("server").expect("a name");
    let dial_in = DialInServer::new(Supplied::default());
    [ServerKind::Http(HttpServer::new(url)), ServerKind::Stdio(stdio), ServerKind::DialIn(dial_in)]
        .map(|kind| ServerDraft::of(&ServerSettings::new(&name, kind)))
}

/// Prints the keys of a section that is not there: each explained, with an example behind a `#`.
fn explain<D>(out: &mut String, path: &str, rows: &[Row<D>], chosen: impl Fn(&Row<D>) -> bool, default: &D) {
    let mut table = "";
    for row in rows.iter().filter(|row| chosen(row)) {
        let (subsection, name) = row.parts();
        if subsection != table {
            out.push_str(&format!("\n#[{path}.{subsection}]\n"));
            table = subsection;
        }
        out.push('\n');
        let standard = if row.default.is_empty() { (row.get)(default) } else { None };
        wrap(out, "", row.what);
        wrap(out, "  unit:    ", row.unit);
        wrap(out, "  allowed: ", &(row.allowed)());
        wrap(out, "  default: ", standard.as_deref().unwrap_or(row.default));
        wrap(out, "  memory:  ", row.memory);
        wrap(out, "  wrong:   ", row.wrong);
        out.push_str(&format!("#{name} = {}\n", row.example));
    }
}

/// Prints the keys of a section that is there.
fn state<D>(out: &mut String, path: &str, rows: &[Row<D>], draft: &D) {
    out.push_str(&format!("\n[{path}]\n"));
    let mut table = "";
    for row in rows {
        let Some(value) = (row.get)(draft) else { continue };
        let (subsection, name) = row.parts();
        if subsection != table {
            out.push_str(&format!("\n[{path}.{subsection}]\n"));
            table = subsection;
        }
        out.push_str(&format!("{name} = {value}\n"));
    }
}

/// Appends `text` as comment lines; the first begins with `label`, the others are indented as far.
fn wrap(out: &mut String, label: &str, text: &str) {
    let mut line = format!("# {label}");
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = format!("# {:width$}", "", width = label.len());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&line);
    out.push('\n');
}
