//! The keys of `[servers.NAME]` and `[views.NAME]`: for each what an operator needs to know about it, and an example.
//!
//! Not the fixed sections (`table`), which variables and flags set too: these stand in the file only. Invariant: every
//! field of a draft is a row; reading, printing and suggestions all read these two tables.

use super::draft::{Kind, ServerDraft, ViewDraft};
use super::given::{Given, Refused, Setting};

/// One key of a section that may be there many times.
pub(super) struct Row<D: 'static> {
    /// The key, with its subsection: `tools.include`.
    pub(super) name: &'static str,
    /// The kinds of server that have it.
    pub(super) kinds: &'static [Kind],
    pub(super) unit: &'static str,
    pub(super) what: &'static str,
    /// The default in words; empty where it is a value that stands in the settings.
    pub(super) default: &'static str,
    /// A value for the printed example.
    pub(super) example: &'static str,
    pub(super) memory: &'static str,
    pub(super) wrong: &'static str,
    pub(super) allowed: fn() -> String,
    pub(super) get: fn(&D) -> Option<String>,
    pub(super) set: fn(&mut D, &Given) -> Result<(), Refused>,
}

const ANY: &[Kind] = &Kind::ALL;
/// Those that are reached somehow.
const REACHED: &[Kind] = &[Kind::Http, Kind::Sse, Kind::Stdio, Kind::DialIn];
const HTTP: &[Kind] = &[Kind::Http, Kind::Sse];
const STDIO: &[Kind] = &[Kind::Stdio];
const DIAL_IN: &[Kind] = &[Kind::DialIn];

fn allowed_of<D, T: Setting>(_place: fn(&D) -> &Option<T>) -> String {
    T::allowed()
}

macro_rules! rows {
    ($draft:ident; $($name:literal $field:ident $kinds:ident, $unit:literal, $what:literal, default $default:literal,
       example $example:literal, memory $memory:literal, wrong $wrong:literal;)+) => {
        &[$(Row {
            name: $name,
            kinds: $kinds,
            unit: $unit,
            what: $what,
            default: $default,
            example: $example,
            memory: $memory,
            wrong: $wrong,
            allowed: || allowed_of(|draft: &$draft| &draft.$field),
            get: |draft| draft.$field.as_ref().map(Setting::write),
            set: |draft, given| {
                draft.$field = Some(Setting::read(given)?);
                Ok(())
            },
        },)+]
    };
}

impl<D> Row<D> {
    /// The subsection, or nothing, and the key's own name.
    pub(super) fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }
}

/// Every key of a server, those of the section itself before those of its subsections.
pub(super) const SERVER_ROWS: &[Row<ServerDraft>] = rows! { ServerDraft;
    "kind" kind ANY, "word",
        "How the server is reached. \"http\" is Streamable HTTP, of every revision; \"sse\" is HTTP+SSE of 2024-11-05; \"stdio\" is a child process on its standard input and output; \"dial_in\" is one that connects to dial_in.listen and is there for as long as it stays connected; \"native\" is the one in this process, the program's own or the demonstration: it has a section to be seen at its own path, under a prefix and by these rules, whatever gateway.demonstration says.",
        default "none: it has to be said",
        example "\"http\"",
        memory "none",
        wrong "the server answers 404, 405 or 406, or the child writes no JSON";
    "url" url HTTP, "URL",
        "Where the server is. Addresses of 169.254.0.0/16, fe80::/10 and of cloud metadata services are refused always.",
        default "none: it has to be said",
        example "\"https://weather.internal:3000/mcp\"",
        memory "none",
        wrong "calls to it are refused because it cannot be connected to";
    "addresses" addresses HTTP, "word",
        "Which addresses the URL's host may lead to, judged each time at the address that is dialled: keeps a name that was taken over from reaching into this network.",
        default "\"private\" if the URL itself names localhost or a private address, otherwise \"public\"",
        example "\"private\"",
        memory "none",
        wrong "a server inside is refused although its name is right: write \"private\" for it, or \"any\"";
    "proxy" proxy HTTP, "URL",
        "The egress proxy that leads to it, by CONNECT whatever the URL's scheme. The proxy looks the URL's name up, so `addresses` judges a name no longer: which hosts may be reached is the proxy's to say. Its own address may be any.",
        default "none: it is connected to directly",
        example "\"http://proxy.internal:3128\"",
        memory "none",
        wrong "calls fail with \"the proxy before it fails\" and the reason: the proxy has to allow CONNECT to this port";
    "proxy_authorization" proxy_authorization HTTP, "secret",
        "What the proxy is shown, as the value of Proxy-Authorization. With before = \"Basic \" the scheme is put before what the source holds.",
        default "none: the field is not sent",
        example "{ env = \"PROXY_LOGIN\", before = \"Basic \" }",
        memory "its size",
        wrong "calls fail with HTTP 407 of the proxy";
    "roots" roots HTTP, "word or path",
        "Which certificate authorities may vouch for it, if its URL is https: \"webpki\" is Mozilla's list, built in; \"native\" is this host's; the absolute path of a PEM file names those in it and no others.",
        default "",
        example "\"/etc/corelane/our-ca.pem\"",
        memory "their size, once for each server",
        wrong "the server cannot be reached, because its certificate is said to be of an unknown issuer";
    "headers" headers HTTP, "fields of requests",
        "Fields added to each request. What the client sent, its Authorization included, is not passed on, but for the Mcp-Param-* that repeat its arguments and what is left of its X-Request-Timeout-Ms. Keep secrets out of this file with env or file; with before = \"Bearer \" the scheme is put before them.",
        default "",
        example "{ X-Team = \"a\", Authorization = { env = \"WEATHER_TOKEN\", before = \"Bearer \" } }",
        memory "their size",
        wrong "the server answers 401 or 403";
    "connections_per_core" connections_per_core HTTP, "connections",
        "Most connections each core opens to it for calls. Beside them there may be as many for calls that wait for an answer of their callers', one for each stream on which it tells of changes, and one for answers to what it asks while calls keep all others. Idle ones are kept.",
        default "",
        example "32",
        memory "a socket and its buffers each",
        wrong "calls wait for a connection while the server is idle: too low; the server runs out of connections: too high";
    "command" command STDIO, "program",
        "The program to start. No shell reads it, and no request can change it.",
        default "none: it has to be said",
        example "\"npx\"",
        memory "what the child takes",
        wrong "`corelane check` does not find it; the log says that the child could not be started";
    "args" args STDIO, "texts",
        "Its arguments, one text each. Every user of this host can see them: put secrets into env.",
        default "",
        example "[\"-y\", \"@modelcontextprotocol/server-filesystem\", \"/srv\"]",
        memory "none",
        wrong "the child ends at once; its standard error is in the log";
    "env" env STDIO, "variables",
        "Variables added to its environment, which has few of corelane's own, PATH and HOME among them. Keep secrets out of this file with env (a variable of corelane's) or file.",
        default "",
        example "{ LOG_LEVEL = \"warn\", API_TOKEN = { env = \"FILES_TOKEN\" }, PASSWORD = { file = \"/run/secrets/files\" } }",
        memory "none",
        wrong "the child says that a variable is missing";
    "cwd" cwd STDIO, "folder",
        "Where it runs.",
        default "where corelane runs",
        example "\"/srv\"",
        memory "none",
        wrong "the child does not find its files";
    "open_files" open_files STDIO, "files",
        "Most files that each of its processes may have open. Unless it runs as root it cannot raise this again.",
        default "what corelane was started with",
        example "1024",
        memory "none",
        wrong "its standard error, in the log, says that there are too many open files: too low; `corelane check` says that the host allows fewer: too high";
    "address_space_bytes" address_space_bytes STDIO, "bytes",
        "Most memory that each of its processes may map, used or not. Node and Java map tens of gigabytes that they never use, so for those a limit of the unit (MemoryMax) is the better one. A core dump is never written, whatever this says.",
        default "what corelane was started with",
        example "4294967296",
        memory "bounds what one process of the child takes",
        wrong "its standard error, in the log, says that memory cannot be had, or it dies at once: too low; the host runs out of memory: too high";
    "key" key DIAL_IN, "secret",
        "What it shows, with this section's name, to be let in: 16 bytes or more, as `openssl rand -hex 32` makes them. Never in this file: env names a variable of corelane's, file a file.",
        default "none: it has to be said",
        example "{ env = \"LAPTOP_KEY\" }",
        memory "none",
        wrong "the log says that somebody showed another key";
    "connections" connections DIAL_IN, "connections",
        "Most connections under its name. Each call goes to the one with the fewest in flight.",
        default "",
        example "32",
        memory "two descriptors of the process each",
        wrong "the log says that one is refused because there are as many as may be";
    "enabled" enabled ANY, "switch",
        "Off, the section is checked but the server is not used, and its secrets need not be there. The native server is not seen among others then.",
        default "",
        example "true",
        memory "none",
        wrong "its tools are missing while off";
    "prefix" prefix ANY, "name",
        "What its tools and prompts begin with, and a `_`, where several servers are seen together. \"\" leaves their names as they are.",
        default "the server's name",
        example "\"weather\"",
        memory "none",
        wrong "of two tools with the same name only one is seen: give their servers prefixes";
    "era" era REACHED, "word",
        "Which revisions of MCP it is spoken to in: \"modern\" is 2026-07-28, \"legacy\" all before. \"auto\" asks it and remembers.",
        default "",
        example "\"auto\"",
        memory "none",
        wrong "the server answers the first request with an error";
    "sessions" sessions REACHED, "word",
        "Whether clients share its session (and for stdio the child): \"per_session\" keeps a server that remembers its caller from mixing them up.",
        default "",
        example "\"shared\"",
        memory "per_session: a session, or a child, for each session of a client",
        wrong "callers see each other's state, or it may not ask them things: shared; there are too many children: per_session";
    "timeout_ms" timeout_ms ANY, "milliseconds",
        "Longest time for an answer, or from one sign of progress or answer to a question to the next. What the caller asks for, or else calls.timeout_ms, ends a call before if it is nearer: for a longer time raise both.",
        default "",
        example "30000",
        memory "what a call in flight holds, that long",
        wrong "calls end with -31504 for tools that are merely slow";
    "connect_timeout_ms" connect_timeout_ms REACHED, "milliseconds",
        "Longest time to reach it: to connect, or to start the child, until it has answered the first request.",
        default "5000; 30000 for a child",
        example "5000",
        memory "none",
        wrong "a child that is fetched first (npx, uvx) is given up on: too short";
    "list_timeout_ms" list_timeout_ms REACHED, "milliseconds",
        "Longest time for its list of tools, prompts or resources, all pages together. When it is over the others' lists are answered without it.",
        default "",
        example "5000",
        memory "none",
        wrong "its tools are missing from lists now and then: too short; lists are slow while it hangs: too long";
    "concurrency" concurrency ANY, "calls",
        "Most calls in flight, over all cores; further ones wait, see queue_calls. Set, one core speaks to the server for all, and calls in which a server before 2026-07-28 asks its caller something may take half of it: with 1 such questions are refused. With sessions = \"per_session\" it holds for each session. Of the native server every core takes its part, and its tasks do not count.",
        default "256; of http what its connections take; of native any number",
        example "256",
        memory "what a call in flight holds, that often",
        wrong "calls wait while the server is idle: too low; the server is overrun: too high";
    "queue_calls" queue_calls REACHED, "calls",
        "Most calls that wait for one of those in flight to end, on the core that sends them. One more is refused with -31503, or takes the place of one that matters less: lists are given up first, then subscriptions, then calls, and never what is asked of work that runs.",
        default "64 for each that may be in flight",
        example "512",
        memory "the call itself and 1 KiB each, queue_bytes in all",
        wrong "corelane_server_calls_unserved_total counts queue_calls: too low, or the server too slow";
    "queue_bytes" queue_bytes REACHED, "bytes",
        "Most bytes of the calls that wait for it on a core, whatever they wait for.",
        default "",
        example "67108864",
        memory "itself, for each core that sends it calls",
        wrong "corelane_server_calls_unserved_total counts queue_bytes: too low";
    "queue_target_ms" queue_target_ms REACHED, "milliseconds",
        "How long calls may wait without being too many. When they wait longer for twenty times that, or would from the start, more come than the server gets done: then the newest go first, and who would wait for more than twice as long is refused with -31503 at once. Of servers that are slower than that it is longer by itself: what one call in flight takes to give up its place, or a twentieth of a long call. 0 lets everybody wait as long as they like.",
        default "",
        example "5",
        memory "none",
        wrong "calls are refused that would have been waited for (queue_delay): too low; they are answered late: too high";
    "trust_annotations" trust_annotations REACHED, "switch",
        "Whether its tools are believed when they say that they only read, or that twice is as good as once: a call of such a tool that was cut off is then sent again, once.",
        default "",
        example "false",
        memory "a call in flight of such a tool, kept",
        wrong "a tool does twice what it should have done once: its annotations are untrue";
    "pinning" pinning REACHED, "word",
        "What happens when it changes the definition of one of its tools, if that is to be other than for all servers.",
        default "gateway.pinning",
        example "\"quarantine\"",
        memory "as gateway.pinning",
        wrong "its tools are missing until they are approved, or changed ones are taken: see gateway.pinning";
    "tools.include" tools_include ANY, "patterns",
        "Which of its tools are seen, by its own names; none means all.",
        default "",
        example "[\"get_*\"]",
        memory "none",
        wrong "tools are missing, or too many are there";
    "tools.exclude" tools_exclude ANY, "patterns",
        "Which of these are not.",
        default "",
        example "[\"get_secret\"]",
        memory "none",
        wrong "a tool is seen that should not be";
    "tools.rename" tools_rename ANY, "names",
        "Other names for some of its tools; the prefix comes before them.",
        default "",
        example "{ get_forecast = \"forecast\" }",
        memory "none",
        wrong "a tool keeps its name: it is written otherwise there";
    "tools.describe" tools_describe ANY, "texts",
        "Other descriptions for some of its tools, by its own names.",
        default "",
        example "{ get_forecast = \"The weather of the next days\" }",
        memory "their size",
        wrong "models choose the wrong tool";
    "prompts.include" prompts_include ANY, "patterns",
        "Which of its prompts are seen; none means all.",
        default "",
        example "[\"*\"]",
        memory "none",
        wrong "prompts are missing, or too many are there";
    "prompts.exclude" prompts_exclude ANY, "patterns",
        "Which of these are not.",
        default "",
        example "[\"draft_*\"]",
        memory "none",
        wrong "a prompt is seen that should not be";
    "resources.include" resources_include ANY, "patterns",
        "Which of its resources and templates are seen, by their URIs; none means all.",
        default "",
        example "[\"file:///srv/public/*\"]",
        memory "none",
        wrong "resources are missing, or too many are there";
    "resources.exclude" resources_exclude ANY, "patterns",
        "Which of these are not.",
        default "",
        example "[\"*.key\"]",
        memory "none",
        wrong "a resource is seen that should not be";
};

/// Every key of a view.
pub(super) const VIEW_ROWS: &[Row<ViewDraft>] = rows! { ViewDraft;
    "servers" servers ANY, "names",
        "Which servers are seen; each has a section [servers.NAME].",
        default "none: it has to be said",
        example "[\"weather\", \"files\"]",
        memory "none",
        wrong "tools are missing";
    "tools" tools ANY, "patterns",
        "Which tools are seen, by the names they have where these servers are seen together, prefixes included; none means all.",
        default "",
        example "[\"weather_*\"]",
        memory "none",
        wrong "tools are missing, or too many are there";
    "rename" rename ANY, "names",
        "Other names for some of them.",
        default "",
        example "{ weather_forecast = \"forecast\" }",
        memory "none",
        wrong "a tool keeps its name: it is written otherwise, or its server's own rename came first";
};
