//! `[servers.NAME]` and `[views.NAME]`: from a file to settings, with what relates them to each other.
//!
//! Not the rules of single values (each setting reads its own). Invariant: a view's servers exist, no two servers that
//! are used have the same prefix, and every secret of one is there.

use super::draft::{Kind, Missing, ServerDraft, ViewDraft};
use super::file::{SourceFile, given_item};
use super::given::{Given, Value, quoted, with_article};
use super::names::{ServerName, ViewName};
use super::problem::{Place, Problem, nearest};
use super::roots::Roots;
use super::rows::{Row, SERVER_ROWS, VIEW_ROWS};
use super::secret::{Purpose, Supplied};
use super::servers::{EraChoice, ServerKind, ServerSettings, SessionUse, ViewSettings};
use super::url::UrlHost;
use super::{NonDefault, Setting};
use crate::limits::{SERVERS_MAX, TOOL_NAME_BYTES_MAX, VIEWS_MAX};
use crate::proto::address::AddressRule;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use toml_edit::{Item, TableLike};

/// What a file says of servers and views, each sorted by name.
#[derive(Default)]
pub(super) struct Sections {
    pub(super) servers: Vec<(ServerName, ServerSettings)>,
    pub(super) views: Vec<(ViewName, ViewSettings)>,
    /// One for each of them, for the start-up report.
    pub(super) origins: Vec<NonDefault>,
}

/// A section with a name, and what was read in it.
struct Named<'a> {
    file: &'a SourceFile<'a>,
    /// `servers.weather`.
    path: String,
    /// Where the name stands.
    span: Option<Range<usize>>,
    /// What was given, by the names of rows.
    values: BTreeMap<&'static str, Given>,
}

/// Keys whose values the start-up report shows.
const SHOWN: [&str; 6] = ["command", "enabled", "key", "kind", "servers", "url"];

/// Words that others use for what is a key here.
const FOREIGN: [(&str, &str); 11] = [
    ("cmd", "command"),
    ("disabled", "enabled = false"),
    ("endpoint", "url"),
    ("environment", "env"),
    ("environment_variables", "env"),
    ("limit_nofile", "open_files"),
    ("memory_bytes", "address_space_bytes"),
    ("nofile", "open_files"),
    ("transport", "kind"),
    ("type", "kind"),
    ("workdir", "cwd"),
];

impl SourceFile<'_> {
    /// The servers and views; what is wrong with them becomes a problem. Secrets are fetched from `variables` and from
    /// files.
    pub(super) fn sections(&self, variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Sections {
        let mut servers = BTreeMap::new();
        let mut known = Vec::new();
        for (name, span, table) in self.named_tables("servers", SERVERS_MAX, problems) {
            known.push(name.to_owned());
            let named = Named::new(self, format!("servers.{name}"), span);
            if let Some((name, read)) = named.server(name, table, variables, problems) {
                servers.insert(name, read);
            }
        }
        same_prefixes(&servers, problems);
        one_native(&servers, problems);
        let mut views = BTreeMap::new();
        for (name, span, table) in self.named_tables("views", VIEWS_MAX, problems) {
            let named = Named::new(self, format!("views.{name}"), span);
            if let Some((name, read)) = named.view(name, table, &known, problems) {
                views.insert(name, read);
            }
        }
        let mut sections = Sections::default();
        for (name, (named, settings)) in servers {
            sections.origins.push(named.origin(shown_server(&settings)));
            sections.servers.push((name, settings));
        }
        for (name, (named, settings)) in views {
            sections.origins.push(named.origin(format!("{{ servers = {} }}", settings.servers.write())));
            sections.views.push((name, settings));
        }
        sections
    }

    /// The tables in `[servers]` or `[views]`, with their names and where these stand.
    fn named_tables(
        &self,
        section: &'static str,
        most: usize,
        problems: &mut Vec<Problem>,
    ) -> Vec<(&str, Option<Range<usize>>, &dyn TableLike)> {
        let Some(item) = self.named(section) else { return Vec::new() };
        let Some(tables) = item.as_table_like() else {
            let what = format!("`{section}` holds a section for each name: seen is {}", with_article(item.type_name()));
            let advice = format!("write [{section}.NAME] on its own line, with a name of your choice");
            problems.push(self.problem(item.span(), what).advise(Some(advice)));
            return Vec::new();
        };
        if tables.len() > most {
            let what = format!("[{section}] holds {}, of at most {most}", tables.len());
            problems
                .push(self.problem(item.span(), what).advise(Some("divide them over several corelanes".to_owned())));
        }
        let mut found = Vec::new();
        for (name, item) in tables.iter().take(most) {
            let span = tables.key(name).and_then(|key| key.span());
            if let Some(table) = item.as_table_like() {
                found.push((name, span, table));
            } else {
                let what = format!(
                    "`{section}.{name}` is a section: seen is {}, allowed is a table",
                    with_article(item.type_name())
                );
                let name = if SERVER_ROWS.iter().any(|row| row.name == name) { "NAME" } else { name };
                let advice = format!("write [{section}.{name}] on its own line, and the keys below it");
                problems.push(self.problem(span, what).advise(Some(advice)));
            }
        }
        found
    }
}

impl<'a> Named<'a> {
    fn new(file: &'a SourceFile<'a>, path: String, span: Option<Range<usize>>) -> Named<'a> {
        Named { file, path, span, values: BTreeMap::new() }
    }

    fn server(
        mut self,
        name: &str,
        table: &dyn TableLike,
        variables: &[(OsString, OsString)],
        problems: &mut Vec<Problem>,
    ) -> Option<(ServerName, (Named<'a>, ServerSettings))> {
        let before = problems.len();
        let named = self.name(name, ServerName::new, ServerName::RULE, problems);
        let mut draft = ServerDraft::default();
        self.read(SERVER_ROWS, "", table, &mut draft, problems);
        if let Some(kind) = draft.kind {
            self.of_other_kinds(kind, problems);
        }
        // A wrong name is told already; what else is missing is to be told as well.
        let name = named.unwrap_or_else(|| ServerName::new(&fitting(name)).expect("it was made to fit"));
        let mut settings = self.or_missing(draft.finish(&name), problems)?;
        self.together(&settings, problems);
        self.fetch(&mut settings, variables, problems);
        (problems.len() == before).then_some((name, (self, settings)))
    }

    fn view(
        mut self,
        name: &str,
        table: &dyn TableLike,
        servers: &[String],
        problems: &mut Vec<Problem>,
    ) -> Option<(ViewName, (Named<'a>, ViewSettings))> {
        let before = problems.len();
        let named = self.name(name, ViewName::new, ViewName::RULE, problems);
        let mut draft = ViewDraft::default();
        self.read(VIEW_ROWS, "", table, &mut draft, problems);
        self.existing_servers(servers, problems);
        let settings = self.or_missing(draft.finish(), problems)?;
        (problems.len() == before).then_some((named?, (self, settings)))
    }

    /// The section's name, if it is one; otherwise the nearest that is.
    fn name<N>(&self, name: &str, read: fn(&str) -> Option<N>, rule: &str, problems: &mut Vec<Problem>) -> Option<N> {
        let named = read(name);
        if named.is_none() {
            let what = format!("{} cannot be the name of a section: allowed is {rule}", quoted(name));
            problems.push(self.problem("", what, &format!("call it `{}`", fitting(name))));
        }
        named
    }

    /// Reads every key of a table, and of the tables in it that are subsections.
    fn read<D>(
        &mut self,
        rows: &'static [Row<D>],
        subsection: &str,
        table: &dyn TableLike,
        draft: &mut D,
        problems: &mut Vec<Problem>,
    ) {
        for (key, item) in table.iter() {
            let span = table.key(key).and_then(|key| key.span());
            if let Some(row) = rows.iter().find(|row| row.parts() == (subsection, key)) {
                let given = given_item(item, span);
                if let Err(refused) = (row.set)(draft, &given) {
                    let place = self.file.place(refused.span.clone().or(given.span.clone()));
                    problems.push(Problem::refused(
                        &format!("{}.{}", self.path, row.name),
                        refused,
                        Place::File(place),
                    ));
                }
                self.values.insert(row.name, given);
            } else if subsection.is_empty() && rows.iter().any(|row| row.parts().0 == key) {
                match item.as_table_like() {
                    Some(inner) => self.read(rows, key, inner, draft, problems),
                    None => problems.push(self.no_table(rows, key, item, span)),
                }
            } else {
                problems.push(self.unknown(rows, subsection, key, span));
            }
        }
    }

    fn no_table<D>(&self, rows: &[Row<D>], key: &str, item: &Item, span: Option<Range<usize>>) -> Problem {
        let (path, seen) = (&self.path, with_article(item.type_name()));
        let inner: Vec<_> = rows.iter().map(Row::parts).filter(|parts| parts.0 == key).map(|parts| parts.1).collect();
        let what = format!("`{path}.{key}` cannot be {seen}: allowed is a table of {}", inner.join(", "));
        let advice = format!("write [{path}.{key}] on its own line, and {} = [...] below it", inner[0]);
        self.file.problem(item.span().or(span), what).advise(Some(advice))
    }

    fn unknown<D>(&self, rows: &[Row<D>], subsection: &str, key: &str, span: Option<Range<usize>>) -> Problem {
        let dot = if subsection.is_empty() { "" } else { "." };
        let place = format!("{}{dot}{subsection}", self.path);
        let own = || rows.iter().filter(|row| row.parts().0 == subsection).map(|row| row.parts().1);
        let mut tables: Vec<&str> = rows.iter().map(|row| row.parts().0).filter(|table| !table.is_empty()).collect();
        tables.dedup();
        if !subsection.is_empty() {
            tables.clear();
        }
        let foreign = FOREIGN.iter().find(|(word, _)| *word == key).map(|(_, ours)| *ours);
        let foreign = foreign.filter(|ours| own().any(|key| ours.starts_with(key)));
        let elsewhere = rows.iter().find(|row| row.parts().1 == key);
        let advice = match (nearest(key, own().chain(tables.iter().copied())), foreign, elsewhere) {
            (Some(near), _, _) => format!("did you mean `{near}`?"),
            (None, Some(ours), _) => format!("it is called `{ours}` here"),
            (None, None, Some(row)) => {
                let (table, dot) = (row.parts().0, if row.parts().0.is_empty() { "" } else { "." });
                format!("`{key}` belongs into [{}{dot}{table}]", self.path)
            }
            (None, None, None) => {
                let all: Vec<_> = own().chain(tables.iter().copied()).collect();
                format!("keys of [{place}] are {}", all.join(", "))
            }
        };
        self.file.problem(span, format!("unknown key `{key}` in [{place}]")).advise(Some(advice))
    }

    /// Keys that servers of this kind do not have.
    fn of_other_kinds(&self, kind: Kind, problems: &mut Vec<Problem>) {
        for row in SERVER_ROWS.iter().filter(|row| !row.kinds.contains(&kind) && self.values.contains_key(row.name)) {
            let theirs: Vec<_> = row.kinds.iter().map(|kind| quoted(kind.as_str())).collect();
            let (theirs, own) = (theirs.join(" or "), quoted(kind.as_str()));
            let what =
                format!("`{}.{}` is for servers of kind {theirs}, and this is one of kind {own}", self.path, row.name);
            let advice = match kind {
                Kind::Native => "take it out: that server is in this process, and nothing has to be reached",
                Kind::DialIn | Kind::Http | Kind::Sse | Kind::Stdio => "take it out, or change the kind",
            };
            problems.push(self.problem(row.name, what, advice));
        }
    }

    fn or_missing<T>(&self, read: Result<T, Missing>, problems: &mut Vec<Problem>) -> Option<T> {
        let told = |missing: Missing| {
            // One that is there and wrong is told already.
            if !self.values.contains_key(missing.key) {
                let what = format!("[{}] has no `{}`", self.path, missing.key);
                problems.push(self.problem(missing.key, what, &missing.advice));
            }
        };
        read.map_err(told).ok()
    }

    /// What is valid by itself but not together.
    fn together(&self, settings: &ServerSettings, problems: &mut Vec<Problem>) {
        let path = &self.path;
        if let ServerKind::Http(http) | ServerKind::Sse(http) = &settings.kind {
            let host = http.url.host();
            let refused = match host {
                UrlHost::Address(address) => http.addresses.judge(*address).is_err(),
                // Of other names only the resolver knows.
                UrlHost::Name(_) => {
                    http.addresses == AddressRule::Public && http.url.default_rule() == AddressRule::Private
                }
            };
            if refused {
                let what = format!("`{path}.addresses` is {}, but the URL names {host}", http.addresses.write());
                let fit = http.url.default_rule().write();
                problems.push(self.problem("addresses", what, &format!("write {fit}, or leave it out")));
            }
        }
        if let ServerKind::Http(http) | ServerKind::Sse(http) = &settings.kind
            && http.roots != Roots::default()
            && !http.url.is_tls()
        {
            let what = format!("`{path}.roots` is {}, but the URL is not https", http.roots.write());
            problems.push(self.problem("roots", what, "write https:// in the URL, or leave it out"));
        }
        if let ServerKind::Http(http) | ServerKind::Sse(http) = &settings.kind
            && http.proxy_authorization.is_some()
            && http.proxy.is_none()
        {
            let what = format!("`{path}.proxy_authorization` is given, but no `{path}.proxy` to show it to");
            problems.push(self.problem("proxy_authorization", what, "name the proxy, or leave it out"));
        }
        if matches!(settings.kind, ServerKind::DialIn(_)) && settings.sessions == SessionUse::PerSession {
            let what = format!("`{path}.sessions` is \"per_session\", but who dials in comes by itself");
            problems.push(self.problem("sessions", what, "leave it out: its connections are shared"));
        }
        if matches!(settings.kind, ServerKind::Sse(_)) && settings.era == EraChoice::Modern {
            let what = format!("`{path}.era` is \"modern\", but HTTP+SSE is a transport of 2024-11-05");
            problems.push(self.problem("era", what, "leave it out, or write kind = \"http\""));
        }
        let before = settings.prefix.as_str().len();
        // A prefix is at most 32 characters.
        let room = if before == 0 { TOOL_NAME_BYTES_MAX } else { TOOL_NAME_BYTES_MAX - before - 1 };
        for (from, to) in settings.tools.rename.iter().filter(|(_, to)| to.as_str().len() > room) {
            let whole = before + 1 + to.as_str().len();
            let what = format!(
                "`{path}.tools.rename` calls {} `{to}`, which is {whole} characters with the prefix, of at most \
                 {TOOL_NAME_BYTES_MAX}",
                quoted(from)
            );
            problems.push(self.problem(
                "tools.rename",
                what,
                &format!("choose one of at most {room}, or a shorter prefix"),
            ));
        }
    }

    /// Fetches what a server's secrets are; one that is not enabled may lack them.
    fn fetch(&self, settings: &mut ServerSettings, variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) {
        let enabled = settings.enabled;
        let mut fetch = |key: &'static str, name: &str, supplied: &mut Supplied, purpose: Purpose| {
            let Err(unsupplied) = supplied.fetch(purpose, variables) else { return };
            if enabled {
                let dot = if name.is_empty() { "" } else { "." };
                let what = format!("`{}.{key}{dot}{name}` has no usable value: {}", self.path, unsupplied.what);
                let place = Place::File(self.file.place(self.entry(key, name))).without_text();
                problems.push(Problem::new(place, what).advise(Some(unsupplied.advice)));
            }
        };
        match &mut settings.kind {
            ServerKind::Http(http) | ServerKind::Sse(http) => {
                for (name, supplied) in &mut http.headers {
                    fetch("headers", name.as_str(), supplied, Purpose::Field);
                }
                if let Some(supplied) = &mut http.proxy_authorization {
                    fetch("proxy_authorization", "", supplied, Purpose::Field);
                }
            }
            ServerKind::DialIn(dial_in) => {
                fetch("key", "", &mut dial_in.key, Purpose::Key);
            }
            ServerKind::Stdio(stdio) => {
                for (name, supplied) in &mut stdio.env {
                    fetch("env", name, supplied, Purpose::Variable);
                }
            }
            ServerKind::Native => {}
        }
    }

    fn existing_servers(&self, servers: &[String], problems: &mut Vec<Problem>) {
        let Some(Given { value: Value::List(items), .. }) = self.values.get("servers") else { return };
        if items.is_empty() {
            let what = format!("`{}.servers` names no server", self.path);
            problems.push(self.problem("servers", what, "name at least one, or take the view out"));
        }
        for item in items {
            let Value::Text(text) = &item.value else { continue };
            if servers.contains(text) {
                continue;
            }
            let what = format!("`{}.servers` names {}, which is no configured server", self.path, quoted(text));
            let advice = match nearest(text, servers.iter().map(String::as_str)) {
                Some(server) => format!("did you mean {}?", quoted(server)),
                None => format!("add [servers.{}], or take it out", fitting(text)),
            };
            problems.push(self.file.problem(item.span.clone(), what).advise(Some(advice)));
        }
    }

    /// Where an entry of a table stands.
    fn entry(&self, key: &str, name: &str) -> Option<Range<usize>> {
        let given = self.values.get(key)?;
        let Value::Table(entries) = &given.value else { return given.span.clone() };
        if name.is_empty() {
            return given.span.clone();
        }
        entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.span.clone())
    }

    /// A problem at a key, or at the section's name if the key is not there.
    fn problem(&self, key: &str, what: String, advice: &str) -> Problem {
        let span = self.values.get(key).and_then(|given| given.span.clone()).or(self.span.clone());
        self.file.problem(span, what).advise(Some(advice.to_owned()))
    }

    /// For the start-up report: what it is, and the names of what else was given.
    fn origin(&self, mut value: String) -> NonDefault {
        let more: Vec<&str> = self.values.keys().copied().filter(|name| !SHOWN.contains(name)).collect();
        if !more.is_empty() {
            value = format!("{value}, with {}", more.join(", "));
        }
        NonDefault { key: self.path.clone(), value, origin: self.file.place(self.span.clone()).to_string() }
    }
}

/// Two servers whose names begin alike could not be told apart.
fn same_prefixes(servers: &BTreeMap<ServerName, (Named, ServerSettings)>, problems: &mut Vec<Problem>) {
    let mut first_with = BTreeMap::<&str, &ServerName>::new();
    for (name, (named, settings)) in servers.iter().filter(|(_, (_, settings))| settings.enabled) {
        let prefix = settings.prefix.as_str();
        if let Some(first) = first_with.get(prefix).filter(|_| !prefix.is_empty()) {
            let what = prefix_is_taken(name, first, prefix);
            problems.push(named.problem("prefix", what, "give one of them another prefix"));
        }
        first_with.entry(prefix).or_insert(name);
    }
}

/// There is one server in this process, so that a second section would be one for nothing.
fn one_native(servers: &BTreeMap<ServerName, (Named, ServerSettings)>, problems: &mut Vec<Problem>) {
    let mut native = servers.iter().filter(|(_, (_, settings))| settings.is_native());
    let Some((first, _)) = native.next() else { return };
    for (name, (named, _)) in native {
        let what = format!("`servers.{name}` is of kind \"native\", and `servers.{first}` is as well");
        problems.push(named.problem("kind", what, "there is one server in this process: keep one of them"));
    }
}

pub(super) fn prefix_is_taken(name: &ServerName, first: &ServerName, prefix: &str) -> String {
    format!("`servers.{name}` has the prefix `{prefix}`, which `servers.{first}` has as well")
}

/// A server in a line, without anything that may be a secret.
fn shown_server(settings: &ServerSettings) -> String {
    let (kind, what) = match &settings.kind {
        ServerKind::Http(http) => (Kind::Http, format!(", url = {}", quoted(&http.url.to_string()))),
        ServerKind::Sse(http) => (Kind::Sse, format!(", url = {}", quoted(&http.url.to_string()))),
        ServerKind::Stdio(stdio) => (Kind::Stdio, format!(", command = {}", quoted(&stdio.command))),
        ServerKind::DialIn(dial_in) => (Kind::DialIn, format!(", key = {}", dial_in.key.write())),
        ServerKind::Native => (Kind::Native, String::new()),
    };
    let off = if settings.enabled { "" } else { ", enabled = false" };
    format!("{{ kind = {}{what}{off} }}", kind.write())
}

/// A name that could be a server's or a view's, as near as possible to this one.
pub(super) fn fitting(name: &str) -> String {
    let fit = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '-',
    };
    let mut fitting: String = name.chars().map(fit).collect();
    while fitting.contains("--") {
        fitting = fitting.replace("--", "-");
    }
    let fitting: String = fitting.trim_matches('-').chars().take(32).collect();
    match fitting.trim_end_matches('-') {
        "" => "server".to_owned(),
        fitting => fitting.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_to_fit() {
        for (name, fit) in [
            ("weather", "weather"),
            ("My Server", "my-server"),
            ("@scope/Some__Thing", "scope-some-thing"),
            ("-x-", "x"),
            ("\u{e9}", "server"),
            ("", "server"),
            ("0123456789-0123456789-012345678 9", "0123456789-0123456789-012345678"),
        ] {
            assert_eq!(fitting(name), fit);
            assert!(ServerName::new(&fitting(name)).is_some(), "{name}");
        }
    }
}
