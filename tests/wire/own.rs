//! Servers that keep a session of its own, or a child, for each client's session.

use std::path::Path;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::reloading::File;
use crate::request::{Request, echo, legacy, modern, text};
use crate::script::{child, one_tool};

/// The one tool of a server says which process it is, and how often it was called.
const COUNTING: &str = r#"
import os
count = 0
def said():
    global count
    count += 1
    return f"{os.getpid()} {count}"
"#;

fn counting(more: &str) -> String {
    child("python3", &one_tool("count", COUNTING), &format!("sessions = \"per_session\"\n{more}"))
}

/// Process and count, as a session is told on a core.
fn count(gateway: &Server, core: usize, session: &str) -> (u32, u32) {
    let call = legacy(7, "tools/call", json!({"name": "count", "arguments": {}}));
    let answer = gateway.connect_on(core).ask(&Request::legacy(session, &call).target("/mcp/c"));
    parsed(&answer.json())
}

fn parsed(answer: &Value) -> (u32, u32) {
    let (process, count) = text(answer).split_once(' ').expect("two numbers");
    (process.parse().expect("a number"), count.parse().expect("a number"))
}

fn open(gateway: &Server, core: usize, path: &str) -> String {
    open_at(&mut gateway.connect_on(core), "2025-11-25", path)
}

fn delete(gateway: &Server, core: usize, session: &str, path: &str) {
    let gone = Request::new("DELETE", path).with("Mcp-Session-Id", session);
    assert!(gateway.connect_on(core).ask(&gone).status < 300);
}

fn runs(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn each_session_has_a_child_of_its_own_that_ends_with_it() {
    let file = tempfile::NamedTempFile::new().expect("a place for files");
    std::fs::write(file.path(), counting("")).expect("room for a file");
    let gateway = Server::by_file(file.path());
    reached(&gateway, "/mcp/c");
    let sessions: Vec<(usize, String)> = [0, 1, 0].map(|core| (core, open(&gateway, core, "/mcp/c"))).into();
    let mut processes = Vec::new();
    for (core, session) in &sessions {
        let (process, first) = count(&gateway, *core, session);
        // Its calls from other connections and cores reach the same one.
        assert_eq!((first, count(&gateway, 1 - *core, session)), (1, (process, 2)));
        processes.push(process);
    }
    let call = modern(1, "tools/call", json!({"name": "count", "arguments": {}}));
    let shared = parsed(&gateway.connect_on(1).ask(&Request::modern(&call).target("/mcp/c")).json()).0;
    assert_eq!(parsed(&gateway.connect_on(0).ask(&Request::modern(&call).target("/mcp/c")).json()), (shared, 2));
    let mut all = [&processes[..], &[shared]].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "nobody shares with a session: {processes:?} {shared}");
    assert_eq!(gateway.total("corelane_server_calls_in_flight"), 0);

    let (core, session) = &sessions[0];
    delete(&gateway, *core, session, "/mcp/c");
    until("the session's child is gone", || (!runs(processes[0])).then_some(()));
    for ((core, session), process) in sessions.iter().zip(&processes).skip(1) {
        assert_eq!(count(&gateway, *core, session), (*process, 3));
    }
    // One that ends by itself is begun anew, without what it remembered.
    std::process::Command::new("kill").arg(processes[1].to_string()).status().expect("kill");
    until("another one serves the session", || {
        let (core, session) = &sessions[1];
        let call = legacy(7, "tools/call", json!({"name": "count", "arguments": {}}));
        let answer = gateway.connect_on(*core).ask(&Request::legacy(session, &call).target("/mcp/c")).json();
        (answer["result"].is_object() && parsed(&answer).0 != processes[1]).then_some(())
    });
    // A server that is taken out leaves nothing behind.
    std::fs::write(file.path(), "").expect("room for a file");
    until("all of them are gone", || (!runs(processes[2]) && !runs(shared)).then_some(()));
}

#[test]
fn each_session_has_a_session_of_its_own_with_an_http_server_that_is_ended_there() {
    own_sessions("http", "/mcp");
}

#[test]
fn each_session_has_a_stream_of_its_own_with_a_server_of_2024_that_is_ended_there() {
    own_sessions("sse", "/sse");
}

fn own_sessions(kind: &str, path: &str) {
    let server = Server::start();
    let gateway = Server::configured(&format!(
        "[servers.h]\nkind = \"{kind}\"\nurl = \"http://{}{path}\"\nera = \"legacy\"\nsessions = \"per_session\"\n",
        server.http
    ));
    reached(&gateway, "/mcp/h");
    let shared = server.total("corelane_sessions_open");
    let sessions: Vec<(usize, String)> = [0, 1, 0, 1].map(|core| (core, open(&gateway, core, "/mcp/h"))).into();
    for (core, session) in &sessions {
        for data in ["a", "b"] {
            let call = legacy(7, "tools/call", echo(data));
            let answer = gateway.connect_on(*core).ask(&Request::legacy(session, &call).target("/mcp/h"));
            assert_eq!(text(&answer.json()), data);
        }
    }
    assert_eq!(server.total("corelane_sessions_open"), shared + 4);
    for (ended, (core, session)) in (1..).zip(&sessions) {
        delete(&gateway, *core, session, "/mcp/h");
        server.until_total("corelane_sessions_open", shared + 4 - ended);
    }
    // A call after that begins nothing anew.
    let call = legacy(7, "tools/call", echo("late"));
    assert_eq!(gateway.connect_on(0).ask(&Request::legacy(&sessions[0].1, &call).target("/mcp/h")).status, 404);
    assert_eq!(gateway.total("corelane_server_calls_waiting"), 0);
}

/// A server on standard input and output that is as small as a program can be: the shell.
const SMALL: &str = r#"while read -r l; do i=${l#*\"id\":}; i=${i%%,*}; case $l in
*'"initialize"'*) r='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}';;
*'"tools/list"'*) r='{"tools":[{"name":"who","inputSchema":{"type":"object"}}]}';;
*'"tools/call"'*) r="{\"content\":[{\"type\":\"text\",\"text\":\"$$ 1\"}]}";;
*) continue;; esac; printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$i" "$r"; done"#;

/// Processes below this one, and how many of them are zombies.
pub fn below(pid: u32) -> (usize, usize) {
    let mut parents: Vec<(u32, u32, bool)> = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut words = rest.split_whitespace();
        let (state, parent) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        parents.push((process, parent.unwrap_or_default(), state == Some("Z")));
    }
    let (mut found, mut zombies, mut at) = (vec![pid], 0, 0);
    while let Some(&parent) = found.get(at) {
        for (process, _, is_zombie) in parents.iter().filter(|(_, of, _)| *of == parent) {
            found.push(*process);
            zombies += usize::from(*is_zombie);
        }
        at += 1;
    }
    (found.len() - 1, zombies)
}

fn files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn a_thousand_children_come_and_go_and_leave_nothing() {
    let more = "sessions = \"per_session\"\ntools.include = [\"*\"]\n";
    let gateway = Server::configured(&child("sh", SMALL, more));
    reached(&gateway, "/mcp/c");
    let (before, files_before) = (below(gateway.pid()), files(gateway.pid()));
    let call = legacy(7, "tools/call", json!({"name": "who", "arguments": {}}));
    // From several sides at once, as they would come.
    let opened: Vec<(usize, String, u32)> = std::thread::scope(|scope| {
        let opening = |side: usize| {
            let (mut peer, call) = (gateway.connect_on(side % 2), &call);
            move || {
                (0..125)
                    .map(|_| {
                        let session = open_at(&mut peer, "2025-11-25", "/mcp/c");
                        let answer = peer.ask(&Request::legacy(&session, call).target("/mcp/c")).json();
                        (side % 2, session, parsed(&answer).0)
                    })
                    .collect::<Vec<_>>()
            }
        };
        let sides: Vec<_> = (0..8).map(opening).collect();
        let sides: Vec<_> = sides.into_iter().map(|side| scope.spawn(side)).collect();
        sides.into_iter().flat_map(|side| side.join().expect("a side")).collect()
    });
    let mut processes: Vec<u32> = opened.iter().map(|(_, _, process)| *process).collect();
    processes.sort_unstable();
    processes.dedup();
    assert_eq!(processes.len(), 1000, "each has its own");
    let (most, zombies) = below(gateway.pid());
    // A keeper and a child for each.
    assert_eq!((most, zombies), (before.0 + 2000, 0));
    let mut peers = [gateway.connect_on(0), gateway.connect_on(1)];
    for (core, session, process) in &opened {
        let answer = peers[*core].ask(&Request::legacy(session, &call).target("/mcp/c")).json();
        assert_eq!(parsed(&answer).0, *process, "it is still the same");
        let gone = Request::new("DELETE", "/mcp/c").with("Mcp-Session-Id", session);
        assert!(peers[*core].ask(&gone).status < 300);
    }
    until("all are gone", || (below(gateway.pid()) == before).then_some(()));
    drop(peers);
    until("no file is left open", || (files(gateway.pid()) <= files_before).then_some(()));
}

#[test]
fn a_reload_ends_what_was_a_sessions_own_and_nothing_of_others() {
    let file = File::new(&counting(""));
    let gateway = Server::by_file(&file.path());
    reached(&gateway, "/mcp/c");
    for core in 0..2 {
        let first = open(&gateway, core, "/mcp/c");
        let (before, _) = count(&gateway, core, &first);
        file.write(&counting(&format!("timeout_ms = {}\n", 20_000 + core)));
        until("the child of before is gone", || (!runs(before)).then_some(()));
        // Another session's child takes the place that the first one's had.
        let other = open(&gateway, core, "/mcp/c");
        let (others, _) = until("the changed server is there", || {
            let call = legacy(7, "tools/call", json!({"name": "count", "arguments": {}}));
            let answer = gateway.connect_on(core).ask(&Request::legacy(&other, &call).target("/mcp/c")).json();
            answer["result"].is_object().then(|| parsed(&answer))
        });
        delete(&gateway, core, &first, "/mcp/c");
        let (process, calls) = count(&gateway, core, &other);
        assert_eq!(process, others, "it is another's");
        assert!(calls >= 2);
        delete(&gateway, core, &other, "/mcp/c");
        until("it ends with its session", || (!runs(others)).then_some(()));
    }
}
