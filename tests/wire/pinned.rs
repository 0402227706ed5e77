//! Servers that change what they say of their tools: what callers see of it under each policy, on every core, and how
//! an operator lets it in.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::faulty::{answer, scripted};
use crate::legacy::open_at;
use crate::process::{PATIENCE, Server, until};
use crate::request::{Request, legacy, modern, text};

/// A server of 2025-11-25 that lists what it is told to list, and counts what it is asked.
#[derive(Clone)]
pub struct Changeable {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tools: Vec<Value>,
    /// Listed instead, every second time.
    other: Option<Vec<Value>>,
    lists: usize,
    /// `initialize` is not answered for as long as this is set.
    waits: bool,
    /// By the tool's name.
    calls: HashMap<String, usize>,
}

pub fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object", "properties": {"x": {}}}})
}

impl Changeable {
    pub fn new(tools: &[Value]) -> Changeable {
        let state = Arc::new(Mutex::new(State { tools: tools.to_vec(), ..State::default() }));
        let shared = Arc::clone(&state);
        let address = scripted(move |stream, request| {
            let id = request["id"].as_u64().unwrap_or_default();
            let lock = || shared.lock().expect("nobody panics with it");
            until("it may answer", || (!lock().waits).then_some(()));
            let mut state = lock();
            let result = match request["method"].as_str().unwrap_or_default() {
                "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "changeable", "version": "1"}}),
                "tools/list" => {
                    state.lists += 1;
                    let other = state.other.as_ref().filter(|_| state.lists.is_multiple_of(2));
                    json!({ "tools": other.unwrap_or(&state.tools) })
                }
                "tools/call" => {
                    let name = request["params"]["name"].as_str().unwrap_or_default().to_owned();
                    *state.calls.entry(name).or_default() += 1;
                    json!({"content": [{"type": "text", "text": "called"}]})
                }
                _ => return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
            };
            drop(state);
            answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        });
        Changeable { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    pub fn lists(&self, tools: &[Value]) {
        self.state().tools = tools.to_vec();
    }

    fn calls(&self, tool: &str) -> usize {
        self.state().calls.get(tool).copied().unwrap_or(0)
    }

    pub fn section(&self) -> String {
        format!("[servers.s]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nera = \"legacy\"\n", self.address)
    }
}

/// Where a gateway keeps things.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a place for files"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A configuration with this policy; lists are read anew whenever somebody asks.
    fn config(&self, policy: &str, sections: &str) -> String {
        format!(
            "[gateway]\npinning = \"{policy}\"\npins = \"{}\"\nlist_ttl_ms = 0\n[control]\nsocket = \"{}\"\n{sections}",
            self.path("pins.json").display(),
            self.path("admin.sock").display()
        )
    }

    pub fn start(&self, policy: &str, sections: &str) -> Server {
        let file = self.path("corelane.toml");
        std::fs::write(&file, self.config(policy, sections)).expect("room for a file");
        Server::by_file(&file)
    }

    fn corelane(&self, arguments: &[&str]) -> Output {
        let socket = self.path("admin.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.arg("servers").args(arguments).args(["--socket", socket.to_str().expect("a plain path")]);
        command.output().expect("the program was built with this test")
    }

    /// The status of an attempt to approve by the API.
    fn post(&self, condition: &str, body: &str) -> u16 {
        let mut stream = UnixStream::connect(self.path("admin.sock")).expect("it listens");
        write!(
            stream,
            "POST /admin/v1/servers/s/pins HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{condition}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").parse().expect("a number")
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.corelane(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// The tools that a core lists at a path, with their descriptions, in order.
pub fn listed(gateway: &Server, core: usize, path: &str) -> Vec<(String, String)> {
    let list = gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", json!({}))).target(path)).json();
    let Some(tools) = list["result"]["tools"].as_array() else { return vec![pair("no list", &list.to_string())] };
    let string = |value: &Value| value.as_str().expect("a text").to_owned();
    tools.iter().map(|tool| (string(&tool["name"]), string(&tool["description"]))).collect()
}

pub fn pair(name: &str, description: &str) -> (String, String) {
    (name.to_owned(), description.to_owned())
}

/// Waits until both cores list this.
pub fn until_listed(gateway: &Server, path: &str, wanted: &[(String, String)]) {
    for core in 0..2 {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let last = listed(gateway, core, path);
            if last == wanted {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "core {core} lists {last:?}, not {wanted:?}");
        }
    }
}

/// What a core answers to a call of a tool: the HTTP status, the code of the error or 0, and its words.
fn call(gateway: &Server, core: usize, path: &str, tool: &str) -> (u16, i64, String) {
    let call = modern(1, "tools/call", json!({"name": tool, "arguments": {}}));
    let answer = gateway.connect_on(core).ask(&Request::modern(&call).target(path));
    let message = answer.json();
    match message["error"]["code"].as_i64() {
        Some(code) => (answer.status, code, message["error"].to_string()),
        None => (answer.status, 0, text(&message).to_owned()),
    }
}

fn works(gateway: &Server, path: &str, tool: &str) {
    for core in 0..2 {
        let (status, code, words) = call(gateway, core, path, tool);
        assert_eq!((status, code, &*words), (200, 0, "called"), "core {core}, {tool}");
    }
}

fn changed(gateway: &Server) -> Vec<u64> {
    gateway.metric("corelane_server_tools_changed{server=\"s\"}")
}

#[test]
fn a_changed_tool_is_quarantined_on_every_core_until_it_is_approved() {
    let upstream = Changeable::new(&[tool("a", "Adds"), tool("b", "Bakes")]);
    let folder = Folder::new();
    let gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "Adds"), pair("b", "Bakes")]);
    works(&gateway, "/mcp/s", "a");
    works(&gateway, "/mcp", "s_a");
    assert_eq!(folder.said(&["diff", "s"]), "server s: all 2 tools are what was approved (quarantine)\n");
    assert!(folder.said(&["approve", "s"]).contains("nothing to approve"));

    upstream.lists(&[tool("a", "Adds\u{200b}"), tool("b", "Bakes")]);
    until_listed(&gateway, "/mcp/s", &[pair("b", "Bakes")]);
    until_listed(&gateway, "/mcp", &[pair("s_b", "Bakes")]);
    let before = upstream.calls("a");
    for (path, name) in [("/mcp/s", "a"), ("/mcp", "s_a")] {
        for core in 0..2 {
            let (status, code, words) = call(&gateway, core, path, name);
            assert_eq!((status, code), (409, -31409), "{words}");
            for part in ["tool a of server s", "description changed", "corelane servers approve s a", "\"approved\":"] {
                assert!(words.contains(part), "{words}");
            }
        }
    }
    let mut peer = gateway.connect_on(1);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
    let message = legacy(7, "tools/call", json!({"name": "a", "arguments": {}}));
    let refused = peer.ask(&Request::legacy(&session, &message).target("/mcp/s"));
    assert_eq!((refused.status, refused.code()), (200, -31409));
    works(&gateway, "/mcp/s", "b");
    works(&gateway, "/mcp", "s_b");
    assert_eq!(upstream.calls("a"), before, "no call of it has reached its server");
    assert_eq!(changed(&gateway), [1, 1]);
    assert_eq!(gateway.total("corelane_server_calls_quarantined_total{server=\"s\"}"), 5);

    let shown: Value = serde_json::from_str(&folder.said(&["--json"])).expect("JSON");
    let pinning = json!({"policy": "quarantine", "pinned": 2, "changed": ["a"]});
    assert_eq!(shown["servers"][0]["pinning"], pinning);
    let diff = folder.corelane(&["diff", "s"]);
    let difference = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert_eq!(diff.status.code(), Some(3), "{difference}");
    for line in ["\na: description\n", "\n-  \"description\": \"Adds\",\n", "\n+  \"description\": \"Adds\\u200b\",\n"]
    {
        assert!(difference.contains(line), "{difference}");
    }

    // What was looked at, by the right door, and nothing else.
    let tag = difference.trim_end().rsplit(' ').next().expect("the tag comes last").to_owned();
    let refused = folder.corelane(&["approve", "s", "--tag", "0123"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("changed meanwhile"), "{refused:?}");
    let refused = folder.corelane(&["approve", "s", "b"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("changed have a"), "{refused:?}");
    let control = gateway.control.to_string();
    let mut by_tcp = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let refused = by_tcp.args(["servers", "approve", "s", "--control", &control]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Unix socket"), "{refused:?}");
    assert_eq!(folder.post("", r#"{"approve":"all"}"#), 428);
    assert_eq!(folder.post("If-Match: \"0123\"\r\n", r#"{"approve":"all"}"#), 412);
    assert_eq!(folder.post(&format!("If-Match: \"{tag}\"\r\n"), r#"{"approve":"a"}"#), 400);
    assert_eq!(folder.post(&format!("If-Match: \"{tag}\"\r\n"), r#"{"approve":["b"]}"#), 404);
    assert_eq!(changed(&gateway), [1, 1]);
    let mut streams: Vec<_> = (0..2).map(|core| gateway.connect_on(core)).collect();
    for stream in &mut streams {
        let listen = modern("l", "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        stream.open(&Request::modern(&listen));
        assert_eq!(stream.event().expect("a word").json()["method"], "notifications/subscriptions/acknowledged");
    }
    let done = folder.said(&["approve", "s", "a", "--tag", &tag]);
    assert!(done.contains("server s: a is approved as sha256:"), "{done}");
    for stream in &mut streams {
        assert_eq!(stream.event().expect("a word").json()["method"], "notifications/tools/list_changed");
    }
    until_listed(&gateway, "/mcp/s", &[pair("a", "Adds\u{200b}"), pair("b", "Bakes")]);
    works(&gateway, "/mcp/s", "a");
    works(&gateway, "/mcp", "s_a");
    assert_eq!(changed(&gateway), [0, 0]);
    assert_eq!(folder.corelane(&["diff", "s"]).status.code(), Some(0));
}

/// What is seen first is pinned before it is told, so that the first list is whole.
#[test]
fn the_first_list_has_all_that_is_pinned_by_it() {
    let upstream = Changeable::new(&[tool("a", "1"), tool("b", "1")]);
    upstream.state().waits = true;
    let folder = Folder::new();
    let gateway = folder.start("quarantine", &upstream.section());
    let list = Request::modern(&modern(1, "tools/list", json!({})));
    let mut peers: Vec<_> = (0..2).map(|core| gateway.connect_on(core)).collect();
    peers.iter_mut().for_each(|peer| peer.send(list.bytes()));
    gateway.until_total("corelane_calls_in_flight", 2);
    upstream.state().waits = false;
    for peer in &mut peers {
        let names: Vec<_> = peer.answer().json()["result"]["tools"].as_array().expect("a list").clone();
        assert_eq!(names.iter().map(|tool| &tool["name"]).collect::<Vec<_>>(), ["s_a", "s_b"]);
    }
}

/// Calls alone: nobody lists after the approval, and the tool is let in all the same.
#[test]
fn an_approval_lets_calls_in_on_every_core_though_nobody_lists() {
    let upstream = Changeable::new(&[tool("a", "1")]);
    let folder = Folder::new();
    let gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1")]);
    upstream.lists(&[tool("a", "2")]);
    // One core reads what is new, the one that may be reading still; the other hears of it.
    until("one core reads it", || listed(&gateway, 1, "/mcp/s").is_empty().then_some(()));
    until("both refuse it", || (0..2).all(|core| call(&gateway, core, "/mcp/s", "a").1 == -31409).then_some(()));
    folder.said(&["approve", "s"]);
    for core in 0..2 {
        until("it is let in", || (call(&gateway, core, "/mcp/s", "a").0 == 200).then_some(()));
    }
}

#[test]
fn a_tool_that_is_again_what_it_was_is_let_in_by_itself() {
    let upstream = Changeable::new(&[tool("a", "1"), tool("b", "1")]);
    let folder = Folder::new();
    let mut gateway = folder.start("quarantine", &upstream.section());
    let all = [pair("a", "1"), pair("b", "1")];
    until_listed(&gateway, "/mcp/s", &all);
    upstream.lists(&[tool("a", "2"), tool("b", "1")]);
    until_listed(&gateway, "/mcp/s", &all[1..]);
    upstream.lists(&[tool("a", "1"), tool("b", "1")]);
    until_listed(&gateway, "/mcp/s", &all);
    works(&gateway, "/mcp/s", "a");
    // One that goes and comes back is the same too; one that was never there is pinned, and said.
    upstream.lists(&[tool("b", "1")]);
    until_listed(&gateway, "/mcp/s", &all[1..]);
    upstream.lists(&[tool("a", "1"), tool("b", "1"), tool("c", "new")]);
    until_listed(&gateway, "/mcp/s", &[all[0].clone(), all[1].clone(), pair("c", "new")]);
    gateway.until_said("a tool that was not there before is pinned");
    assert_eq!(folder.said(&["diff", "s"]), "server s: all 3 tools are what was approved (quarantine)\n");
}

#[test]
fn a_warning_is_a_line_and_a_figure_and_callers_see_what_there_is() {
    let upstream = Changeable::new(&[tool("a", "1")]);
    let folder = Folder::new();
    let mut gateway = folder.start("warn", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1")]);
    upstream.lists(&[tool("a", "2")]);
    until_listed(&gateway, "/mcp/s", &[pair("a", "2")]);
    works(&gateway, "/mcp/s", "a");
    until("both cores count it", || (changed(&gateway) == [1, 1]).then_some(()));
    assert_eq!(folder.corelane(&["diff", "s"]).status.code(), Some(3));
    // Lists go on being read; the next line is of the next change.
    until_listed(&gateway, "/mcp/s", &[pair("a", "2")]);
    upstream.lists(&[tool("a", "3"), tool("z", "the last")]);
    until_listed(&gateway, "/mcp/s", &[pair("a", "3"), pair("z", "the last")]);
    gateway.until_said("not there before");
    assert_eq!(gateway.count_said("is not what was approved (description)"), 2);
    folder.said(&["approve", "s"]);
    until("both cores count none", || (changed(&gateway) == [0, 0]).then_some(()));
}

#[test]
fn without_pinning_nothing_is_pinned() {
    let upstream = Changeable::new(&[tool("a", "1")]);
    let folder = Folder::new();
    let gateway = folder.start("off", &upstream.section());
    for description in ["1", "2"] {
        upstream.lists(&[tool("a", description)]);
        until_listed(&gateway, "/mcp/s", &[pair("a", description)]);
        until_listed(&gateway, "/mcp", &[pair("s_a", description)]);
    }
    works(&gateway, "/mcp/s", "a");
    assert_eq!(changed(&gateway), [0, 0]);
    assert_eq!(
        folder.said(&["diff", "s"]),
        "server s: no tool is pinned, because none was seen yet or none is to be (off)\n"
    );
}

#[test]
fn what_is_pinned_and_approved_outlasts_the_process() {
    let upstream = Changeable::new(&[tool("a", "1"), tool("b", "1")]);
    let folder = Folder::new();
    let pins = folder.path("pins.json");
    let mut gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1"), pair("b", "1")]);
    // What is seen first is in the file a moment later, however the process ends.
    let holds = |text: &str| std::fs::read_to_string(&pins).is_ok_and(|file| file.contains(text));
    until("it is written", || holds("\"description\": \"1\"").then_some(()));
    gateway.signal("KILL");
    gateway.wait();
    assert_eq!(std::fs::metadata(&pins).expect("written").permissions().mode() & 0o777, 0o600);

    // It changes while nobody looks.
    upstream.lists(&[tool("a", "2"), tool("b", "1")]);
    let mut gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("b", "1")]);
    assert_eq!(call(&gateway, 0, "/mcp/s", "a").1, -31409);
    folder.said(&["approve", "s"]);
    until_listed(&gateway, "/mcp/s", &[pair("a", "2"), pair("b", "1")]);
    // An approval is in the file before it is answered, so nothing can take it away.
    gateway.signal("KILL");
    gateway.wait();

    let mut gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "2"), pair("b", "1")]);
    upstream.lists(&[tool("a", "3"), tool("b", "1")]);
    until_listed(&gateway, "/mcp/s", &[pair("b", "1")]);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    // What is known to have changed is refused from the first call on, and can be looked at, whatever the server says.
    upstream.lists(&[]);
    let gateway = folder.start("quarantine", &upstream.section());
    until("it is refused", || (call(&gateway, 0, "/mcp/s", "a").1 == -31409).then_some(()));
    let diff = folder.corelane(&["diff", "s"]);
    assert!(String::from_utf8_lossy(&diff.stdout).contains("+  \"description\": \"3\""), "{diff:?}");
}

#[test]
fn a_broken_file_of_pins_keeps_the_process_from_starting_and_stays() {
    let upstream = Changeable::new(&[tool("a", "1")]);
    let folder = Folder::new();
    let config = folder.path("corelane.toml");
    std::fs::write(&config, folder.config("quarantine", &upstream.section())).expect("room for a file");
    let pins = folder.path("pins.json");
    std::fs::write(&pins, "{\"corelane_pins\": 1, \"servers\": {").expect("room for a file");
    std::fs::set_permissions(&pins, std::fs::Permissions::from_mode(0o600)).expect("ours");
    for command in ["serve", "check"] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"));
        process.args([command, "--config"]).arg(&config).stdin(Stdio::null());
        let output = process.output().expect("the program was built with this test");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("pins.json is not a file of pins") && said.contains("restore it"), "{command}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&pins).expect("there"), "{\"corelane_pins\": 1, \"servers\": {");
}

#[test]
fn a_policy_is_taken_up_while_callers_are_served() {
    let upstream = Changeable::new(&[tool("a", "1")]);
    let folder = Folder::new();
    let mut gateway = folder.start("off", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1")]);
    let mut stays = gateway.connect_on(0);
    let session = open_at(&mut stays, "2025-11-25", "/mcp/s");
    let reload = |gateway: &Server, policy: &str, of_server: &str| {
        let text = folder.config(policy, &format!("{}{of_server}", upstream.section()));
        std::fs::write(folder.path("corelane.toml"), text).expect("room for a file");
        gateway.signal("HUP");
    };
    reload(&gateway, "quarantine", "");
    until("it is pinned", || folder.said(&["diff", "s"]).contains("all 1 tools").then_some(()));
    upstream.lists(&[tool("a", "2")]);
    until_listed(&gateway, "/mcp/s", &[]);
    // What counts for the server comes before what counts for all, and it is the same server: its sessions go on.
    reload(&gateway, "quarantine", "pinning = \"warn\"\n");
    gateway.until_said("pinning of tools is another for s");
    until_listed(&gateway, "/mcp/s", &[pair("a", "2")]);
    let call = legacy(7, "tools/call", json!({"name": "a", "arguments": {}}));
    assert_eq!(text(&stays.ask(&Request::legacy(&session, &call).target("/mcp/s")).json()), "called");
    reload(&gateway, "quarantine", "");
    until_listed(&gateway, "/mcp/s", &[]);
    let refused = stays.ask(&Request::legacy(&session, &call).target("/mcp/s"));
    assert_eq!(refused.code(), -31409);
}

/// A server that says now this, now that: what was not approved is never seen, and cores do not set each other going.
#[test]
fn a_server_that_says_two_things_is_asked_no_more_often() {
    let upstream = Changeable::new(&[tool("a", "1"), tool("b", "1")]);
    let folder = Folder::new();
    let gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1"), pair("b", "1")]);
    upstream.state().other = Some(vec![tool("a", "2"), tool("b", "1")]);
    // First now what is pinned and now something else, then now this and now that.
    for instead in ["1", "3"] {
        upstream.lists(&[tool("a", instead), tool("b", "1")]);
        let before = upstream.state().lists;
        for _ in 0..20 {
            for core in 0..2 {
                for (name, description) in listed(&gateway, core, "/mcp/s") {
                    assert_eq!(description, "1", "{name}");
                }
            }
        }
        // Each look reads the list once, and what it finds has the other core read it once.
        let asked = upstream.state().lists - before;
        assert!((20..=100).contains(&asked), "{asked} times");
        assert_eq!(call(&gateway, 0, "/mcp/s", "b").0, 200);
    }
}

/// Two tools of one name are one definition: whichever comes first, a change of either is a change.
#[test]
fn a_name_that_is_listed_twice_hides_nothing() {
    let upstream = Changeable::new(&[tool("a", "1"), tool("b", "1")]);
    let folder = Folder::new();
    let gateway = folder.start("quarantine", &upstream.section());
    until_listed(&gateway, "/mcp/s", &[pair("a", "1"), pair("b", "1")]);
    upstream.lists(&[tool("a", "1"), tool("b", "1"), tool("a", "2")]);
    until_listed(&gateway, "/mcp/s", &[pair("b", "1")]);
    let diff = folder.corelane(&["diff", "s"]);
    assert!(String::from_utf8_lossy(&diff.stdout).contains("a: how often it is listed"), "{diff:?}");
}

/// A child process, which one core speaks to for both: a loop of the shell that lists what stands in a file.
#[test]
fn a_child_is_held_to_its_pins_on_the_core_that_does_not_speak_to_it_as_well() {
    let folder = Folder::new();
    let (script, tools) = (folder.path("server.sh"), folder.path("tools.json"));
    let write = |description: &str| {
        let fresh = folder.path("fresh");
        std::fs::write(&fresh, format!("[{}]", tool("a", description))).expect("room for a file");
        std::fs::rename(fresh, &tools).expect("the same file system");
    };
    write("1");
    let text = r#"while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
*'"tools/list"'*) result="{\"tools\":$(cat "$1")}" ;;
*'"tools/call"'*) result='{"content":[{"type":"text","text":"called"}]}' ;;
*) continue ;;
esac
printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;
    std::fs::write(&script, text).expect("room for a file");
    let section = format!(
        "[servers.s]\nkind = \"stdio\"\nera = \"legacy\"\ncommand = \"/bin/sh\"\nargs = [\"{}\", \"{}\"]\n",
        script.display(),
        tools.display()
    );
    let gateway = folder.start("quarantine", &section);
    until_listed(&gateway, "/mcp/s", &[pair("a", "1")]);
    works(&gateway, "/mcp/s", "a");
    write("2");
    until_listed(&gateway, "/mcp/s", &[]);
    for core in 0..2 {
        assert_eq!(call(&gateway, core, "/mcp/s", "a").1, -31409);
    }
    folder.said(&["approve", "s"]);
    until_listed(&gateway, "/mcp/s", &[pair("a", "2")]);
    works(&gateway, "/mcp/s", "a");
}
