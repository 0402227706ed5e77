//! The table of keys: for each its place in `Settings`, its unit, and what an operator needs to know about it.
//!
//! Not a second set of defaults: those are the `Default` impls in `settings`, and are printed from there.
//! Invariant: every key that exists is a row, and every row has all its texts; file, environment, flags, the printed
//! default file and the start-up report all read this one table.

use super::Settings;
use super::given::{Given, Refused, Setting};

/// One key.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) what: &'static str,
    pub(super) memory: &'static str,
    pub(super) wrong: &'static str,
    pub(super) allowed: fn() -> String,
    pub(super) get: fn(&Settings) -> String,
    pub(super) set: fn(&mut Settings, &Given) -> Result<(), Refused>,
}

/// The sections in the order of printing, each with a sentence. Before them come the keys of none.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("serve", "Where clients connect."),
    ("cores", "Which CPUs work, and how work is spread over them."),
    (
        "limits",
        "What one connection may take, and how many there may be. Overload answers 429 (the caller's limit) or 503 (ours).",
    ),
    ("sessions", "Sessions of MCP versions before 2026-07-28. Later versions have none."),
    ("streams", "Event streams: SSE over HTTP, notifications over lines."),
    ("calls", "Deadlines. A caller may ask for its own with X-Request-Timeout-Ms."),
    ("gateway", "What all configured servers have in common."),
    ("dial_in", "Where servers connect that dial in (kind = \"dial_in\"), over TCP or WebSocket."),
    ("registry", "The registry of servers and transports, which embedding programs and operators use."),
    ("uring", "Sizes of each core's io_uring. Change them only with a measurement."),
    ("control", "Health and metrics, on a thread of their own."),
    ("zones", "From where on a reading is yellow, orange and red; what to do then stands in RUNBOOK.md."),
    ("offload", "The thread pool for handlers that block or need tokio. Routing alone does not use it."),
    ("log", "Logging, to standard error."),
];

fn allowed_of<T: Setting>(_place: fn(&Settings) -> &T) -> String {
    T::allowed()
}

/// The one key that stands before all sections.
const PROFILE: Key = Key {
    section: "",
    name: "profile",
    unit: "word",
    what: "Whose figures are taken for keys that nothing else sets: \"none\" is this program's defaults; \"phase1\", \"15k\" and \"100k\" are the settings of the system that corelane reimplements, at 200, 15,000 and 100,000 connections, to compare with it. The start-up report says which keys came from a profile.",
    memory: "none",
    wrong: "limits are not those expected, and the start-up report says `from the profile`",
    allowed: || allowed_of(|settings| &settings.profile),
    get: |settings| settings.profile.write(),
    set: |settings, given| {
        settings.profile = Setting::read(given)?;
        Ok(())
    },
};

macro_rules! keys {
    ($($section:ident.$name:ident, $unit:literal, $what:literal, memory $memory:literal, wrong $wrong:literal;)+) => {
        /// Every key, section by section.
        pub(super) const KEYS: &[Key] = &[PROFILE, $(Key {
            section: stringify!($section),
            name: stringify!($name),
            unit: $unit,
            what: $what,
            memory: $memory,
            wrong: $wrong,
            allowed: || allowed_of(|settings| &settings.$section.$name),
            get: |settings| settings.$section.$name.write(),
            set: |settings, given| {
                settings.$section.$name = Setting::read(given)?;
                Ok(())
            },
        },)+];
    };
}

impl Key {
    /// `section.name`, as it is written in messages.
    pub(super) fn path(&self) -> String {
        match self.section {
            "" => self.name.to_owned(),
            section => format!("{section}.{}", self.name),
        }
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("CORELANE_{}", self.path().replace('.', "_")).to_ascii_uppercase()
    }
}

/// The index of a key in `KEYS`.
pub(super) fn find(section: &str, name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.section == section && key.name == name)
}

keys! {
    serve.listen, "addresses",
        "Addresses for MCP over HTTP: Streamable HTTP, and the deprecated HTTP+SSE if it is on. Each core listens on all of them.",
        memory "one socket per core and address",
        wrong "clients get `connection refused`, or start-up says that the address is in use";
    serve.tcp, "addresses",
        "Addresses for MCP as lines of JSON (ndjson) over plain TCP. No Host or Origin check is possible there: a line of HTTP or TLS, with which all begins that a web page can send, ends the connection; keep them inside.",
        memory "one socket per core and address",
        wrong "clients get `connection refused`";
    serve.unix, "file paths",
        "Unix sockets for MCP as lines of JSON. One core accepts and hands connections to the others.",
        memory "one socket per path",
        wrong "clients get `no such file` or `permission denied`: serve.unix_mode and the directory's permissions decide who may connect";
    serve.unix_mode, "octal permissions",
        "Permissions of the sockets of serve.unix. Whoever may write to one may connect, as any user of the servers behind.",
        memory "none",
        wrong "clients of other users get `permission denied`: too narrow; anybody on the host can call: too wide";
    serve.endpoint, "HTTP path",
        "The path of Streamable HTTP: POST, GET and DELETE.",
        memory "none",
        wrong "refusals by cause not_found grow";
    serve.sse_endpoint, "HTTP path",
        "The path where clients of the deprecated HTTP+SSE transport (2024-11-05) open their stream with GET; \"\" switches that transport off.",
        memory "none",
        wrong "old clients fall back to it and get 404 or 405";
    serve.message_endpoint, "HTTP path",
        "The path to which clients of the deprecated transport POST their messages; told to them in the stream's first event.",
        memory "none",
        wrong "old clients open their stream and then get 404";
    serve.era, "word",
        "Which revisions clients are served in: \"legacy\" is 2024-11-05 to 2025-11-25, with `initialize` and sessions; \"modern\" is 2026-07-28 only, without HTTP+SSE; \"both\" is each as it comes. Of an era that is not served clients hear what they would of a server that never knew it, so those that know both take the other.",
        memory "none",
        wrong "refusals by cause unsupported_version or bad_request grow: clients know only the era that is not served";
    serve.allowed_hosts, "host names, with or without a port",
        "Accepted Host values: the guard against DNS rebinding. Empty means loopback names and the addresses listened on, of which a wildcard (0.0.0.0, [::]) names none. \"*\" accepts every host and is only for listeners behind a proxy that checks.",
        memory "none",
        wrong "refusals by cause bad_host grow; clients get 403";
    serve.allowed_origins, "origins, such as https://app.example",
        "Accepted Origin values, sent by browsers. Empty means the origins of loopback. Requests without an Origin are not a browser's and pass.",
        memory "none",
        wrong "refusals by cause bad_origin grow; a web client gets 403";
    serve.backlog, "connections per listener",
        "Connections the kernel completes before a core accepts them. The kernel caps it at net.core.somaxconn.",
        memory "about 300 B of kernel memory for each waiting connection",
        wrong "`nstat -az TcpExtListenOverflows` grows while many clients connect at once";
    serve.drain_deadline_ms, "milliseconds",
        "How long a drain (SIGTERM) waits for calls in flight before their connections are closed. Keep it below the supervisor's own patience (TimeoutStopSec).",
        memory "none",
        wrong "closes by cause drain_deadline at each restart: too short; deployments take too long: too long";

    cores.list, "CPUs",
        "Which CPUs get a core: \"all\", a number of them, or a list such as \"0-3,8\". Leave out CPUs that serve network interrupts.",
        memory "at most 8 MiB fixed per core, the receive buffers it needed at its busiest (uring.buffers_max), and the connections it holds",
        wrong "one CPU at 100 % while others idle, or cores that share a CPU with interrupts have a longer tail";
    cores.shards, "shards",
        "Units of owned state; 0 means one for each 782 expected connections as a power of two, at least 16. Never fewer than cores.",
        memory "about 4 KiB per shard",
        wrong "load differs between cores by more than a tenth: too few";
    cores.expected_connections, "connections",
        "Connections this host is expected to hold at its peak, over all cores. Chooses the number of shards unless cores.shards says it, and what start-up and `corelane check` warn of; it is not a limit.",
        memory "none; about 1 KiB per idle connection once open",
        wrong "corelane_connections_open at its peak is more than twice or less than a tenth of it";
    cores.pin, "switch",
        "Whether each core's thread is pinned to its CPU. Off only where a container forbids it or CPUs are shared by design.",
        memory "none",
        wrong "`perf stat -e migrations` is not 0 while on; tail latency grows while off";
    cores.steering, "switch",
        "Whether a BPF program places connections on cores by address and port. Off leaves it to the kernel's own hash.",
        memory "under 4 KiB of kernel memory per listener",
        wrong "start-up reports that the program could not be attached: needs no privilege, but seccomp may forbid it";
    cores.stall_limit_ms, "milliseconds",
        "How long a core may not come back from one step, as it does when a handler blocks it, before the process drains what still moves and ends with 1, so that its supervisor starts another. 0 waits for ever.",
        memory "none",
        wrong "the process ends although its handlers would have come back: too short; clients of a core that hangs wait for long: too long";
    cores.batch_max, "parcels",
        "Most parcels read from one other core in a row before sockets are served again.",
        memory "none",
        wrong "the step mesh_hop is slow under load: too low; the steps read and write are: too high";

    limits.body_bytes, "bytes",
        "Largest HTTP body of one message; longer ones get 413, by their head where that says so.",
        memory "up to this much per connection while a long message is being received, and 64 MiB for all of a core; beyond that the one that has been coming for longest gets 503",
        wrong "refusals by cause body_too_large grow from clients you trust";
    limits.line_bytes, "bytes",
        "Largest message on a line transport (tcp, unix, stdio); a longer one ends the connection, on stdio it is refused and skipped.",
        memory "up to this much per connection while a long line is being received, and as limits.body_bytes for all of a core",
        wrong "refusals by cause line_too_large grow from clients you trust";
    limits.connections, "connections",
        "Most connections served at a time, on all cores together; one more is told why (503, -31503) and closed. 0 means what the tables of all cores have room for. Never exceeded: cores take leases of it, and give back what they do not need. So one of them may refuse while up to a thirty-second of it is idle with the others; below 128 for each core it is exact.",
        memory "about 1 KiB per idle connection once open",
        wrong "refusals by cause connections_full while the machine has memory and CPU to spare";
    limits.connections_soft, "connections",
        "From how many on there is an alert (a warning in the log, `corelane limits`), and nobody is refused. 0 means three quarters of the most there may be. Cores count what they have on lease, so it may come early by as much as limits.connections may refuse early.",
        memory "none",
        wrong "the alert comes while nothing is wrong: too low; connections are refused before anybody heard of it: too high";
    limits.connections_per_core, "connections",
        "Most connections one core holds; 0 means what its descriptor table has, less what accepting and polite refusals take.",
        memory "about 1 KiB per idle connection once open",
        wrong "refusals by cause table_full while the machine has memory and CPU to spare";
    limits.connections_per_peer, "connections",
        "Most connections of one peer: of an IPv4 address, or of an IPv6 network of 64 bits; one more is told why (429, -31429) and closed. 0 means half of the most there may be. Each core counts for itself an equal share, rounded up: an address never has more than that of all cores, and, since connections spread over them by chance, may be refused one before it has all. A proxy in front is one address: write what all clients behind it may have.",
        memory "about 50 B for each address that has connections",
        wrong "refusals by cause peer_full grow from a proxy or a network that shares one address";
    limits.connections_per_loopback, "connections",
        "The same for each address of this host (127.0.0.0/8, ::1); 0 means as many as come.",
        memory "as limits.connections_per_peer",
        wrong "refusals by cause peer_full grow from a proxy on this host";
    limits.accepts_per_s, "connections per second",
        "How fast new connections are taken on average, on all cores together; one that comes faster is told why (503, -31503) and closed. 0 means 10,000 for each core, about a fifth of what one can take. Each core keeps an equal share of it by itself, so one to which more than its share of clients come refuses although others have some left.",
        memory "none",
        wrong "refusals by cause accept_rate grow while CPU is to spare; floods of connections slow everybody down: too high";
    limits.accept_burst, "connections",
        "How many of them may come at once, each core having an equal share, rounded up. 0 means as many as come in a second, at least cores.expected_connections, since all may come back at once after a restart.",
        memory "none",
        wrong "refusals by cause accept_rate when all clients come back after a restart";
    limits.head_timeout_ms, "milliseconds",
        "Time for a whole HTTP request head from its first byte; a connection that says nothing has limits.keep_alive_ms. A line has as long, and what limits.body_bytes_per_s gives its bytes.",
        memory "up to 16 KiB per connection that long",
        wrong "refusals by cause head_timeout from honest but slow links";
    limits.body_grace_ms, "milliseconds",
        "Time a body may take before its speed counts.",
        memory "none",
        wrong "refusals by cause body_timeout at the start of uploads";
    limits.body_bytes_per_s, "bytes per second",
        "Slowest average speed of a body once the grace is over.",
        memory "none",
        wrong "refusals by cause body_timeout from honest but slow links";
    limits.keep_alive_ms, "milliseconds",
        "How long an idle HTTP connection without a stream stays open. Keep it above the idle timeout of a proxy in front.",
        memory "about 1 KiB per connection that long",
        wrong "a proxy logs sporadic 502: too short; closes by cause keep_alive_timeout dominate: clients reconnect too much";
    limits.pipeline_depth, "receive buffers",
        "How many receive buffers (uring.buffer_bytes) of further requests one HTTP connection may send before the first is answered; then it is not read until that is.",
        memory "so many receive buffers per connection that pipelines, and 64 MiB for all of a core; beyond that who waits for an answer is not read",
        wrong "refusals by cause pipeline_full grow for a client that pipelines by design";
    limits.in_flight_per_connection, "calls",
        "Calls one line connection (tcp, unix, stdio) or one legacy session may have unanswered; one more is answered -31429.",
        memory "about 200 B per call in flight",
        wrong "refusals by cause in_flight_full for a client that multiplexes many agents";
    limits.messages_per_s, "messages per second",
        "Messages one connection may send on average (an HTTP request or a line, a batch among them, is one); what comes faster waits and then is not read, so that its sender is slowed down and nobody else. 0 means as many as come.",
        memory "none",
        wrong "refusals by cause rate_limited grow for a client that multiplexes many agents";
    limits.message_burst, "messages",
        "How many of them may come at once.",
        memory "none",
        wrong "refusals by cause rate_limited grow for clients that send little on average";
    limits.egress_bytes, "bytes",
        "Bytes waiting to be sent on one connection beyond which nothing more is read for it. What is told unasked beyond that, behind a send that makes no progress, ends it.",
        memory "this much, and the answers to what was read before, per connection whose peer reads slowly",
        wrong "closes by cause egress_full from clients that do read: too low for what they are told between two reads";
    limits.write_stall_ms, "milliseconds",
        "How long a send may make no progress before the connection is cut. Who started `corelane stdio` may take longer, as long as it keeps its side open and no more than limits.egress_bytes is told it unasked.",
        memory "limits.egress_bytes per stalled connection that long",
        wrong "closes by cause write_stall from clients on lossy links";

    sessions.idle_ms, "milliseconds",
        "How long a session lives without a request or an open stream. Over HTTP its id is good for a week in any case.",
        memory "about 256 B per session that long, its replay buffer, and what it subscribes to (256 KiB of URIs at most, 64 MiB for all of a core)",
        wrong "refusals by cause unknown_session from clients that come back: too short; sessions_open only grows: too long";
    sessions.per_core_max, "sessions",
        "Most sessions one core holds. The default lets a single core hold a session for each of 100,000 connections, rounded up to a power of two.",
        memory "about 256 B per open session (32 MiB when all are open), taken as they open",
        wrong "refusals by cause sessions_full while the machine has memory to spare";
    sessions.replay_events, "events per session",
        "Events kept for a client that resumes its stream with Last-Event-ID; 0 switches resumption off.",
        memory "what the events hold, bounded by sessions.replay_bytes",
        wrong "clients that resume miss events";
    sessions.replay_bytes, "bytes per session",
        "Bytes of events kept for resumption; the oldest go first.",
        memory "up to this much per session that streams events; none for one that does not",
        wrong "clients that resume miss events although sessions.replay_events is not reached";
    sessions.replay_core_bytes, "bytes per core",
        "What the sessions of one core together keep for resumption, with 96 B for each event; the oldest go first, whosever they are.",
        memory "up to this much per core",
        wrong "corelane_replay_bytes stays near it and clients that resume miss events";
    sessions.retry_ms, "milliseconds",
        "The wait a client is told (SSE `retry`) before it reconnects a stream.",
        memory "none",
        wrong "a wave of reconnects after a drain overloads the listeners: too short";
    sessions.ticket_key, "64 hex digits, or where they are",
        "The key that seals session ids, task ids and requestState. \"\" makes one at start. All of them are good for one run of the program, whatever the key. \"file:PATH\" or \"env:NAME\" keep the key out of this file.",
        memory "none",
        wrong "none: clients whose session is unknown open another";

    streams.keep_alive_ms, "milliseconds",
        "How often an idle stream gets a comment line, so that proxies keep it open and dead peers are noticed.",
        memory "none",
        wrong "streams end after a fixed time without events: longer than a proxy's idle timeout";
    streams.listen_per_connection, "streams",
        "Most subscriptions/listen streams open on one line connection. An HTTP connection carries one by nature.",
        memory "about 500 B per stream, and what it subscribes to (256 KiB of URIs and as much of task ids at most, 64 MiB for all of a core)",
        wrong "refusals by cause streams_full for a client that multiplexes many agents";

    calls.timeout_ms, "milliseconds",
        "Deadline of a call whose caller names none; after it the answer is -31504, with HTTP 504 unless it is in a session. A call that shows progress has as long again, up to calls.timeout_max_ms in all.",
        memory "what a call in flight holds, that long",
        wrong "refusals by cause deadline_passed for tools that are merely slow";
    calls.timeout_max_ms, "milliseconds",
        "The longest deadline a caller may ask for; a longer wish is shortened to it. Progress does not extend it.",
        memory "what a call in flight holds, that long",
        wrong "long-running tools end with -31504 exactly here";
    calls.ask_timeout_ms, "milliseconds",
        "How long a tool may wait for a person: elicitation and sampling asked of the client.",
        memory "about 500 B per open question",
        wrong "people find that their answer came too late";

    gateway.demonstration, "word",
        "Whether the built-in demonstration server is one of the servers: \"auto\" and \"off\" mean if no other is configured.",
        memory "none",
        wrong "callers see tools such as echo and add besides those of your servers, or instead of them";
    gateway.list_ttl_ms, "milliseconds",
        "How long the lists of servers (tools, prompts, resources) are kept before they are asked for again; a server that announces a change is asked at once.",
        memory "the lists themselves, per core",
        wrong "a new tool is seen late: too long; servers are asked for lists too often: too short";
    gateway.resolve_ms, "milliseconds",
        "How often the host names of servers are looked up again. A server is left for another address only when its name no longer leads to the one that is used; calls in flight finish there. Another value wants a restart.",
        memory "none",
        wrong "calls to a server that has moved fail for this long: too long; name servers complain: too short";
    gateway.ports, "ports",
        "Ports at which servers with a URL may be; with an empty list any will do. Keeps a URL, above all one that was registered by request, from naming what is no MCP server.",
        memory "none",
        wrong "a server is refused, or the start, with the port that is missing";
    gateway.pinning, "word",
        "What happens when a server changes the definition of a tool seen before: \"off\" nothing, \"warn\" it is logged and counted, \"quarantine\" the tool is kept from callers until it is approved (`corelane servers diff` and `approve`). servers.NAME.pinning is for one server.",
        memory "the definitions, once; on each core up to 112 B per tool and its name",
        wrong "a server that is updated has its tools missing until they are approved: quarantine; corelane_server_tools_changed is not 0";
    gateway.pins, "file path",
        "Where the definitions of tools are kept that were seen first or approved, as JSON for people to read; \"\" keeps them as long as the process lasts. One corelane writes it (mode 0600); another path needs a restart.",
        memory "none beyond gateway.pinning",
        wrong "the log says that it cannot be written; tools that were approved are quarantined after a restart";

    dial_in.listen, "addresses",
        "Addresses on which servers dial in. One port takes both: lines of JSON over TCP, and WebSocket. The first message shows a name and its key; nothing is encrypted, so keep it on loopback or behind a tunnel.",
        memory "one socket per address",
        wrong "a server that dials in gets `connection refused`, or start-up says that the address is in use";
    dial_in.allowed_hosts, "host names, with or without a port",
        "Accepted Host values of a WebSocket's handshake. Empty means loopback names and the addresses listened on. One with an Origin comes in only if that is the very host and port it names, so no web page does.",
        memory "none",
        wrong "a server that dials in by WebSocket gets 403";
    dial_in.timeout_ms, "milliseconds",
        "Time a connection has to show its name and key, its handshake included.",
        memory "up to 32 KiB per connection that long",
        wrong "the log says that connections said nothing in time, from honest but slow links";
    dial_in.unknown_max, "connections",
        "Most connections that have not shown their key; one more takes the place of the oldest.",
        memory "up to 32 KiB each",
        wrong "the log says that connections lost their place while many servers dial in at once";

    registry.write_limit_us, "microseconds",
        "The mean of the last ten writes to a shard of the registry above which it is alarmed. While more than half of the shards are, new registrations are refused (`corelane shards --admission` overrides that). The original's is 100000.",
        memory "none",
        wrong "registrations are refused while nothing is slow: too short; they all wait and nobody is told: too long";

    uring.entries, "submission entries, a power of two",
        "Submissions gathered in one turn before the kernel is entered early.",
        memory "64 B each per core (256 KiB by default)",
        wrong "corelane_enters_total grows faster than corelane_turns_total under load";
    uring.cq_entries, "completion entries, a power of two",
        "Completions the kernel can hold for a core. At least uring.entries.",
        memory "16 B each per core (256 KiB by default)",
        wrong "corelane_completion_overflows_total is not 0";
    uring.buffers, "buffers, a power of two",
        "Receive buffers each core provides to the kernel at start.",
        memory "uring.buffer_bytes each per core (2 MiB by default)",
        wrong "corelane_recv_enobufs_total grows right after start and then stops";
    uring.buffer_bytes, "bytes, a power of two",
        "Size of a receive buffer; longer messages take several. Idle connections hold none.",
        memory "times uring.buffers per core",
        wrong "most messages are longer (many receives per message), or far shorter (memory wasted)";
    uring.buffers_max, "buffers, a power of two",
        "How far the buffers of a core may grow on demand.",
        memory "uring.buffer_bytes each per core (16 MiB by default)",
        wrong "corelane_recv_enobufs_total grows steadily under load";
    uring.descriptors, "descriptors",
        "Size of each core's table of direct descriptors; 0 means the soft limit of open files (RLIMIT_NOFILE), which start-up raises as far as it may, but 262144 at most.",
        memory "about 16 B each per core",
        wrong "start-up reports that the table is smaller than expected: raise the limit (LimitNOFILE in the unit)";

    control.listen, "address",
        "Address of /healthz, /readyz, /metrics and /admin/v1. There is no login: keep it on loopback or a management network.",
        memory "under 1 MiB for the thread",
        wrong "the supervisor or scraper gets `connection refused`";
    control.allowed_hosts, "host names, with or without a port",
        "Accepted Host values on the control address. Empty means loopback names and the address listened on.",
        memory "none",
        wrong "the supervisor or scraper gets 403";
    control.socket, "file path",
        "A Unix socket, mode 0600, on which the administration API takes changes too, from its own user and root; \"\" is none.",
        memory "none",
        wrong "`corelane shards --reset` says that changes are taken on the Unix socket only";

    zones.calls, "calls",
        "Calls in flight on all cores.",
        memory "none",
        wrong "alarms come while callers are served in time: too low; callers wait and none comes: too high";
    zones.connections_percent, "percent",
        "Connections open, of what all cores may hold (limits.connections_per_core).",
        memory "none",
        wrong "refusals by cause table_full come before an alarm: too high";
    zones.cpu_percent, "percent",
        "CPU time of the busiest core's thread, over ten seconds.",
        memory "none",
        wrong "alarms come on a host that is meant to be that busy: too low";
    zones.errors_per_million, "per million",
        "Calls that failed, were cancelled or lost with their connection, and requests turned away for want of room, of all that ended within ten seconds. Fewer than 20 of them count for nothing.",
        memory "none",
        wrong "alarms come whenever a client gives up calls: too low";
    zones.memory_percent, "percent",
        "Resident memory, of what the process may have: that of its control group, or of the machine.",
        memory "none",
        wrong "the kernel ends the process before an alarm: too high";
    zones.wait_ms, "milliseconds",
        "What 95 of 100 messages wait at most before their work is begun, over ten seconds. How long handlers and servers take is not part of it.",
        memory "none",
        wrong "callers see latency and no alarm comes: too high";
    zones.rise_ms, "milliseconds",
        "How long a reading has to be beyond a threshold before its zone is worse. It is looked at once a second.",
        memory "none",
        wrong "alarms come for what passes by itself: too short";
    zones.fall_ms, "milliseconds",
        "How long it has to be below by a tenth before its zone is better.",
        memory "none",
        wrong "alarms come and go all the time: too short";

    offload.threads, "threads",
        "Threads for handlers that need tokio.",
        memory "up to 2 MiB of stack each, touched as needed",
        wrong "the step handle is slow while the cores idle";
    offload.blocking_threads, "threads",
        "Most threads for handlers that block; started when needed.",
        memory "up to 2 MiB of stack each, touched as needed",
        wrong "the step handle is slow for tools that block, while the machine has CPU to spare";

    log.level, "level",
        "How much is logged. The variable CORELANE_LOG takes a finer filter such as `corelane::control=debug` and wins.",
        memory "none",
        wrong "the log does not say what happened, or hides it among too much else";
    log.format, "form",
        "Lines for people (text) or one JSON object per line (json).",
        memory "none",
        wrong "the log collector cannot parse the lines";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_complete_unique_and_takes_back_its_default() {
        let default = Settings::default();
        for (index, key) in KEYS.iter().enumerate() {
            let path = key.path();
            assert_eq!(find(key.section, key.name), Some(index), "{path} stands once");
            let has_section = SECTIONS.iter().any(|(section, _)| *section == key.section);
            assert!(has_section || key.section.is_empty(), "{path} has a section, or stands before all");
            for text in [key.unit, key.what, key.memory, key.wrong] {
                assert!(!text.is_empty() && !text.contains('\n'), "{path}");
            }
            let mut settings = Settings::default();
            let literal = (key.get)(&default);
            let value: toml_edit::Value = literal.parse().expect("a TOML value");
            (key.set)(&mut settings, &super::super::file::given(&value)).expect("its own default");
            assert_eq!(settings, default, "{path}");
        }
    }

    #[test]
    fn sections_stand_together_and_in_order() {
        let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
        sections.dedup();
        assert_eq!(sections.remove(0), "");
        assert!(sections.iter().eq(SECTIONS.iter().map(|(section, _)| section)));
    }
}
