//! Tests of servers and views as a whole: every complaint with its text, printing, secrets.
//!
//! Not single values (each type tests its own). What is said and printed stands in `golden/`;
//! `CORELANE_TEST_GOLDEN=write` writes it anew, to be read before it is committed.

use super::secret::HIDDEN;
use super::shapes::Arguments;
use super::url::ProxyUrl;
use super::*;
use crate::proto::mcp::NamePattern;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Variables that the examples and the complaints name.
const VARIABLES: [(&str, &str); 7] = [
    ("SET", "s3cret"),
    ("EMPTY", ""),
    ("LINES", "a\nb"),
    ("WEATHER_TOKEN", "t0ken"),
    ("FILES_TOKEN", "f1les"),
    ("LAPTOP_KEY", KEY),
    ("PROXY_LOGIN", "bG9naW4="),
];
const KEY: &str = "hunter2-hunter2-hunter2";

fn load(text: &str) -> Result<Config, ConfigError> {
    let variables = VARIABLES.map(|(name, value)| (name.into(), value.into())).to_vec();
    Config::from_layers(Some((Path::new("corelane.toml"), text)), &Sources { variables, ..Sources::default() })
}

fn printed_and_read(config: &Config) -> Config {
    let text = config.to_commented_toml();
    load(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Compares with a file in `golden/`, or writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden").join(name);
    if std::env::var("CORELANE_TEST_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, text).expect("writable");
    }
    let kept = std::fs::read_to_string(&path).expect("a file in golden/");
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(kept, now, "{name}, line {}; CORELANE_TEST_GOLDEN=write takes the new text", number + 1);
    }
    assert_eq!(kept.lines().count(), text.lines().count(), "lines of {name}");
}

#[test]
fn the_printed_default_is_as_it_was() {
    golden("default.toml", &Config::default().to_commented_toml());
}

#[test]
fn every_complaint_says_what_it_said() {
    const CASE: &str = "=== of\n";
    const SAID: &str = "--- is said\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden/complaints.txt");
    let kept = std::fs::read_to_string(path).expect("a file in golden/");
    let mut now = String::new();
    for case in kept.split(CASE).skip(1) {
        let (text, _) = case.split_once(SAID).expect("a text and what is said of it");
        let said = load(text).expect_err(text).to_string();
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
        now.push_str(&format!("{CASE}{text}{SAID}{said}\n"));
    }
    assert!(now.matches(CASE).count() > 100, "the cases were found");
    golden("complaints.txt", &now);
}

#[test]
fn every_row_is_complete_and_unique() {
    fn check<D: Default>(rows: &[rows::Row<D>]) {
        for (index, row) in rows.iter().enumerate() {
            assert!(rows[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            for text in [row.unit, row.what, row.example, row.memory, row.wrong] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", row.name);
            }
            let mut draft = D::default();
            let literal: toml_edit::Value = row.example.parse().expect("a TOML value");
            (row.set)(&mut draft, &file::given(&literal)).expect(row.name);
            assert!((row.get)(&draft).is_some(), "{} is kept", row.name);
        }
        let tables: Vec<_> = rows.iter().map(|row| row.parts().0).collect();
        let mut together = tables.clone();
        together.dedup();
        let mut sorted = together.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == together.len() && tables[0].is_empty(), "subsections stand together, and last");
    }
    check(rows::SERVER_ROWS);
    check(rows::VIEW_ROWS);
}

/// What is behind a `#` alone is read without it; the examples are complete and valid.
#[test]
fn the_printed_examples_are_valid_when_uncommented() {
    let text = Config::default().to_commented_toml();
    let setting = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let uncommented: Vec<_> =
        text.lines().map(|line| line.strip_prefix('#').filter(|rest| setting(rest)).unwrap_or(line)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("files");
    std::fs::write(&password, "p4ss\n").expect("writable");
    // Whoever has servers dial in says where.
    let (before, after) = uncommented
        .join("\n")
        .split_once("\n[dial_in]\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a section");
    let text =
        format!("{before}\n[dial_in]\n{}", after.replacen("\nlisten = []\n", "\nlisten = [\"127.0.0.1:8810\"]\n", 1));
    let text = text.replace("/run/secrets/files", &password.display().to_string());
    let config = load(&text).unwrap_or_else(|error| panic!("{error}"));
    let Settings { servers, views, .. } = config.settings();
    assert_eq!(servers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["files", "laptop", "weather"]);
    let [(_, files), (_, laptop), (_, weather)] = servers.as_slice() else { panic!("{servers:?}") };
    let (ServerKind::Stdio(files), ServerKind::Http(weather)) = (&files.kind, &weather.kind) else {
        panic!("{servers:?}")
    };
    assert_eq!(files.env["PASSWORD"].value().reveal(), "p4ss");
    assert_eq!(weather.headers[0].1.value().reveal(), "Bearer t0ken");
    assert!(matches!(&laptop.kind, ServerKind::DialIn(laptop) if laptop.key.value().reveal() == KEY));
    assert_eq!(views[0].0.as_str(), "ops");
    for row in rows::SERVER_ROWS {
        let name = row.parts().1;
        assert!(uncommented.iter().any(|line| line.starts_with(&format!("{name} = "))), "{} has an example", row.name);
    }
}

#[test]
fn little_has_to_be_said_of_a_server() {
    let text = "[servers.b]\nkind = \"stdio\"\ncommand = \"c\"\n[servers.a]\nkind = \"sse\"\nurl = \"http://h/sse\"\n\
                [servers.c]\nkind = \"http\"\nurl = \"http://h\"\nheaders.X-A = { env = \"NOT_SET\" }\nenabled = false\n\
                [views.v]\nservers = [\"c\", \"a\"]\n";
    let config = load(text).expect("valid");
    let settings = config.settings();
    let names: Vec<_> = settings.servers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"], "sorted by name");
    let [(a, sse), (_, stdio), (_, off)] = settings.servers.as_slice() else { panic!() };
    assert_eq!(sse.prefix, Prefix::of(a));
    assert_eq!(*sse, ServerSettings::new(a, sse.kind.clone()), "all else is the default");
    assert!(matches!(&stdio.kind, ServerKind::Stdio(stdio) if stdio.command == "c" && stdio.cwd.is_none()));
    assert!(matches!(&off.kind, ServerKind::Http(http) if http.headers[0].1.value().reveal().is_empty()));
    assert_eq!(config.warnings(), ["views.v names the server c, which is not enabled"]);
    let shown: Vec<String> = config.non_defaults().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "servers.a = { kind = \"sse\", url = \"http://h/sse\" } (from corelane.toml:4)",
            "servers.b = { kind = \"stdio\", command = \"c\" } (from corelane.toml:1)",
            "servers.c = { kind = \"http\", url = \"http://h/\", enabled = false }, with headers (from corelane.toml:7)",
            "views.v = { servers = [\"c\", \"a\"] } (from corelane.toml:12)",
        ]
    );
    let bare = "[servers.a]\nkind = \"stdio\"\ncommand = \"c\"\nprefix = \"\"\n\
                [servers.b]\nkind = \"stdio\"\ncommand = \"c\"\nprefix = \"\"\n";
    let warnings = load(bare).expect("valid").warnings();
    assert_eq!(warnings, ["servers a, b have no prefix: of two tools with the same name only one will be seen"]);
    let same = "[servers.a]\nkind = \"stdio\"\ncommand = \"c\"\n\
                [servers.b]\nkind = \"stdio\"\ncommand = \"c\"\nprefix = \"a\"\nenabled = false\n";
    load(same).expect("one that is not enabled is in nobody's way");
}

#[test]
fn secrets_are_neither_printed_nor_shown() {
    let text = "[servers.a]\nkind = \"http\"\nurl = \"http://h/?key=hunter2\"\n\
                headers = { Authorization = \"hunter2\", X-Team = \"blue\", X-A = { env = \"SET\" } }\n\
                [servers.b]\nkind = \"stdio\"\ncommand = \"c\"\nenv = { DB = \"pg://u:hunter2@h/db\", API_KEY = \"hunter2\" }\n\
                args = [\"--token\", \"hunter2\", \"--api-key=hunter2\", \"--url=pg://u:hunter2@h\", \"sk-hunter2\"]\n";
    let config = load(text).expect("valid");
    let printed = config.to_commented_toml();
    let shown = format!("{printed}{config:?}{:?}{:?}", config.non_defaults(), config.warnings());
    assert!(!shown.contains("s3cret"), "a value from a variable is shown");
    for line in [
        "url = \"http://h/?***\"",
        "headers = { Authorization = \"***\", X-A = { env = \"SET\" }, X-Team = \"blue\" }",
        "env = { API_KEY = \"***\", DB = \"***\" }",
        "args = [\"--token\", \"***\", \"--api-key=***\", \"--url=***\", \"***\"]",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    assert!(!printed.contains("hunter2"), "{printed}");
    let said = load(&printed).expect_err("what is printed for a secret is none").to_string();
    assert!(said.contains("put the secret back"), "{said}");
}

#[test]
fn neither_variables_nor_flags_set_servers() {
    let variables = vec![("CORELANE_SERVERS_A_URL".into(), "http://h".into())];
    let said = Config::load(&Sources { variables, ..Sources::default() }).expect_err("no such setting").to_string();
    assert!(said.contains("servers and views stand in the configuration file only"), "{said}");
}

#[test]
fn too_many_servers_are_refused() {
    let server = |n: usize| format!("[servers.s{n}]\nkind = \"stdio\"\ncommand = \"c\"\n");
    let text: String = (0..crate::limits::SERVERS_MAX).map(server).collect();
    assert_eq!(load(&text).expect("as many as may be").settings().servers.len(), crate::limits::SERVERS_MAX);
    let said = load(&(text + &server(9999))).expect_err("one too many").to_string();
    assert!(said.starts_with("[servers] holds 1025, of at most 1024"), "{said}");
}

fn patterns() -> impl Strategy<Value = Vec<NamePattern>> {
    proptest::collection::btree_set("[a-z*\"\\\\ ]{1,8}", 0..4)
        .prop_map(|texts| texts.iter().map(|text| NamePattern::new(text).expect("a pattern")).collect())
}

fn rules() -> impl Strategy<Value = ListRules> {
    (patterns(), patterns()).prop_map(|(include, exclude)| ListRules { include, exclude })
}

fn renames() -> impl Strategy<Value = BTreeMap<String, ToolName>> {
    let name = |text: String| ToolName::new(&text).expect("a name");
    // A value stands once.
    proptest::collection::btree_map("[a-z]{1,4}", "[a-zA-Z0-9_.-]{1,20}".prop_map(name), 0..4).prop_map(|renames| {
        let mut seen = std::collections::BTreeSet::new();
        renames.into_iter().filter(|(_, to)| seen.insert(to.clone())).collect()
    })
}

/// Values that are fetched or may be printed.
fn supplied() -> impl Strategy<Value = Supplied> {
    prop_oneof!["[a-d0-9\"\\\\'#=]{0,12}".prop_map(Supplied::written), Just(fetched())]
}

fn fetched() -> Supplied {
    let value = Secret::new("Bearer s3cret".to_owned());
    Supplied { source: Source::Env("SET".to_owned()), before: "Bearer ".to_owned(), value }
}

fn kinds() -> impl Strategy<Value = ServerKind> {
    let url =
        "https?://(h|[a-z]{1,5}\\.example|10\\.0\\.0\\.7|\\[::1\\])(:[1-9][0-9]{0,3})?(/[a-z%]{0,5})?(\\?[a-d]=[a-d])?";
    let roots = prop_oneof![Just(Roots::Webpki), Just(Roots::Native), Just(Roots::File("/a b.pem".into()))];
    let headers = proptest::collection::btree_map("X-[a-d]{1,4}", supplied(), 0..4);
    let proxy = proptest::option::of(("http://(p|10\\.0\\.0\\.9)(:[1-9][0-9]{0,3})?", any::<bool>()));
    let http = (url, any::<bool>(), headers, 1..=1024u64, any::<bool>(), roots, proxy).prop_map(
        |(url, any, headers, connections, sse, roots, proxy)| {
            let mut http = HttpServer::new(ServerUrl::parse(&url).expect("a URL"));
            if let Some((proxy, is_shown)) = proxy {
                http.proxy = Some(ProxyUrl::read(&Given::word(proxy)).expect("a proxy"));
                http.proxy_authorization = is_shown.then(fetched);
            }
            if http.url.is_tls() {
                http.roots = roots;
            }
            if any {
                http.addresses = crate::proto::address::AddressRule::Any;
            }
            let named = |(name, value): (String, Supplied)| (HeaderName::new(&name).expect("a name"), value);
            http.headers = headers.into_iter().map(named).collect();
            http.connections_per_core = Bounded::new(connections).expect("within bounds");
            if sse { ServerKind::Sse(http) } else { ServerKind::Http(http) }
        },
    );
    let env = proptest::collection::btree_map("[A-D_]{1,6}", supplied(), 0..4);
    // What may be a secret is not printed as it is, and so does not read as the same.
    let args = proptest::collection::vec("[a-z-]{0,6}(=[a-z \"]{0,4})?", 0..5)
        .prop_filter("no secret", |args| !Arguments(args.clone()).write().contains(HIDDEN));
    let cwd = proptest::option::of("/[a-z /]{0,8}");
    let limits = (proptest::option::of(16..=1_048_576u64), proptest::option::of(16 << 20..=64u64 << 40));
    let stdio = ("/?[a-z]{1,6}", args, env, cwd, limits).prop_map(|(command, args, env, cwd, (files, bytes))| {
        let mut stdio = StdioServer { args, env, cwd: cwd.map(Into::into), ..StdioServer::new(command) };
        stdio.open_files = files.and_then(Bounded::new);
        stdio.address_space_bytes = bytes.and_then(Bounded::new);
        ServerKind::Stdio(stdio)
    });
    let key = Supplied {
        source: Source::Env("LAPTOP_KEY".to_owned()),
        before: String::new(),
        value: Secret::new(KEY.to_owned()),
    };
    let dial_in = (1..=1024u64).prop_map(move |connections| {
        let connections = Bounded::new(connections).expect("within bounds");
        ServerKind::DialIn(DialInServer { connections, ..DialInServer::new(key.clone()) })
    });
    prop_oneof![http, stdio, dial_in, Just(ServerKind::Native)]
}

fn servers() -> impl Strategy<Value = Vec<(ServerName, ServerSettings)>> {
    let words = (any::<bool>(), any::<bool>(), any::<bool>(), 1..=600_000u64, 1..=65_536u64);
    let tools = (rules(), renames(), proptest::collection::btree_map("[a-z]{1,4}", "(?s).{1,20}", 0..3));
    let server = (kinds(), words, tools, rules(), rules());
    proptest::collection::btree_map("[a-z0-9][a-z0-9-]{0,20}", server, 0..4).prop_map(|servers| {
        let read = |(name, server): (String, _)| {
            let (kind, (enabled, legacy, shared, ms, calls), (names, rename, describe), prompts, resources) = server;
            let name = ServerName::new(&name).expect("a name");
            let mut settings = ServerSettings::new(&name, kind);
            settings.enabled = enabled;
            settings.timeout_ms = Millis::new(ms).expect("within bounds");
            settings.concurrency = Bounded::new(calls).filter(|_| calls % 2 == 0);
            settings.tools = ToolRules { names, rename, describe };
            (settings.prompts, settings.resources) = (prompts, resources);
            if settings.is_native() {
                return (name, settings);
            }
            settings.era = if legacy { EraChoice::Legacy } else { EraChoice::Auto };
            let shared = shared || matches!(settings.kind, ServerKind::DialIn(_));
            settings.sessions = if shared { SessionUse::Shared } else { SessionUse::PerSession };
            settings.connect_timeout_ms = Millis::new(ms).expect("within bounds");
            settings.list_timeout_ms = Millis::new(ms).expect("within bounds");
            settings.queue_calls = Bounded::new(calls).filter(|_| calls % 3 == 0);
            settings.queue_target_ms = Millis::new(ms % 1000).expect("within bounds");
            (name, settings)
        };
        let mut servers: Vec<_> = servers.into_iter().map(read).collect();
        // There is one such server.
        let mut natives = 0;
        servers.retain(|(_, server)| {
            natives += usize::from(server.is_native());
            !server.is_native() || natives == 1
        });
        servers
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(servers in servers(), tools in patterns(), rename in renames()) {
        let mut config = Config::default();
        let names: Vec<_> = servers.iter().map(|(name, _)| name.clone()).collect();
        config.settings.servers = servers;
        config.settings.dial_in.listen = vec![([127, 0, 0, 1], 8810).into()];
        config.derive();
        if !names.is_empty() {
            let view = ViewSettings { servers: names, tools, rename };
            config.settings.views = vec![(ViewName::new("v").expect("a name"), view)];
        }
        prop_assert_eq!(printed_and_read(&config), config);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[(servers|views)(\\.[a-c]){0,2}\\]\n|[a-z_]{1,6} = [\"\\[\\]{}a-z0-9, =*]{0,12}\n|kind = \"(http|stdio|dial_in)\"\n){0,8}") {
        let _ = load(&text);
    }
}
