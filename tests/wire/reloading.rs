//! A configuration that changes while callers are served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::Peer;
use crate::process::{PATIENCE, Server, until};
use crate::request::{Request, echo, legacy, modern, sleep, text};
use crate::upstream::{Reply, Upstream};

/// A configuration file that changes.
pub struct File {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl File {
    pub fn new(text: &str) -> File {
        let file = File { folder: tempfile::tempdir().expect("a place for files"), name: "corelane.toml" };
        file.write(text);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// Puts another file in its place, as careful editors do.
    pub fn write(&self, text: &str) {
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, text).expect("room for a file");
        std::fs::rename(fresh, self.path()).expect("the same file system");
    }
}

fn section(name: &str, address: SocketAddr) -> String {
    format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n")
}

fn call(gateway: &Server, path: &str) -> (u16, Value) {
    call_on(gateway, 0, path)
}

fn call_on(gateway: &Server, core: usize, path: &str) -> (u16, Value) {
    let answer = gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/call", echo("x"))).target(path));
    (answer.status, answer.json())
}

/// Each core takes a change up for itself.
fn until_served(gateway: &Server, path: &str) {
    for core in 0..2 {
        until("the server is served", || (call_on(gateway, core, path).0 == 200).then_some(()));
    }
}

fn until_unknown(gateway: &Server, path: &str) {
    for core in 0..2 {
        until("the server is gone", || (call_on(gateway, core, path).0 == 404).then_some(()));
    }
}

/// A call that waits in its server.
fn waiting_call(gateway: &Server, path: &str, ms: u64) -> Peer {
    let mut peer = gateway.connect();
    peer.send(Request::modern(&modern(9, "tools/call", sleep(ms))).target(path).bytes());
    peer
}

fn reload(path: &Path) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["reload", "--socket", path.to_str().expect("a plain path")]);
    command.output().expect("the program was built with this test")
}

#[test]
fn servers_come_and_go_when_the_file_is_another() {
    let (one, other) = (Server::start(), Server::start());
    let file = File::new(&section("a", one.http));
    let gateway = Server::by_file(&file.path());
    until_served(&gateway, "/mcp/a");
    // Somebody who stays throughout, with a session and a call under way.
    let mut stays = gateway.connect();
    let session = open_at(&mut stays, "2025-11-25", "/mcp/a");
    let ask =
        |peer: &mut Peer| peer.ask(&Request::legacy(&session, &legacy(7, "tools/call", echo("s"))).target("/mcp/a"));
    assert_eq!(text(&ask(&mut stays).json()), "s");

    file.write(&(section("a", one.http) + &section("b", other.http)));
    until_served(&gateway, "/mcp/b");
    assert_eq!(text(&ask(&mut stays).json()), "s", "the same connection, the same session");
    let listed = gateway.connect().ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
    let names: Vec<&str> =
        listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"a_echo"), "{names:?}");

    // A call of a server that is taken out finishes.
    let mut under_way = waiting_call(&gateway, "/mcp/b", 1500);
    other.until_total("corelane_calls_in_flight", 1);
    file.write(&section("a", one.http));
    until_unknown(&gateway, "/mcp/b");
    assert_eq!(under_way.answer().status, 200);
    assert_eq!(text(&ask(&mut stays).json()), "s");
    // And then nothing connects it with the gateway any more, but for the test's own look.
    until("its links are closed", || (other.total("corelane_connections_open") == 0).then_some(()));
}

#[test]
fn a_server_that_moved_is_found_where_it_is() {
    let (one, other) = (Server::start(), Server::conformance());
    let file = File::new(&section("a", one.http));
    let gateway = Server::by_file(&file.path());
    until_served(&gateway, "/mcp/a");
    file.write(&section("a", other.http));
    until("the other server answers", || {
        let call = modern(1, "tools/call", json!({"name": "test_simple_text", "arguments": {}}));
        let answer = gateway.connect().ask(&Request::modern(&call).target("/mcp/a"));
        (answer.status == 200 && answer.json()["result"].is_object()).then_some(())
    });
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why() {
    let one = Server::start();
    let file = File::new(&section("a", one.http));
    let mut gateway = Server::by_file(&file.path());
    until_served(&gateway, "/mcp/a");
    file.write("[servers.a]\nkind = \"carrier pigeon\"\n");
    gateway.until_said("stays as it was");
    gateway.until_said("carrier pigeon");
    assert_eq!(call(&gateway, "/mcp/a").0, 200);
    // SIGHUP reads it again, and does not end the process, since there is a file.
    file.write(&format!("{}[cores]\nbatch_max = 7\n", section("b", one.http)));
    gateway.signal("HUP");
    until_served(&gateway, "/mcp/b");
    gateway.until_said("needs a restart: cores.batch_max");
    until_unknown(&gateway, "/mcp/a");
}

#[test]
fn the_administration_reads_it_again_and_answers_with_what_changed() {
    let one = Server::start();
    let socket = tempfile::tempdir().expect("a place for files");
    let socket = socket.path().join("admin.sock");
    let control = format!("[control]\nsocket = \"{}\"\n", socket.display());
    let file = File::new(&(control.clone() + &section("a", one.http)));
    let gateway = Server::by_file(&file.path());
    until_served(&gateway, "/mcp/a");
    file.write(&(control.clone() + &section("c", one.http)));
    let done = reload(&socket);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    // The file is looked at as well, and may have been faster.
    assert!(done.status.success() && (said.contains("added c") || said.contains("no server")), "{said} {done:?}");
    until_served(&gateway, "/mcp/c");
    file.write(&(control + "[servers.c]\nkind = \"http\"\n"));
    let refused = reload(&socket);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("url"), "{refused:?}");
}

#[test]
fn a_child_can_be_added_later() {
    let file = File::new("");
    let gateway = Server::by_file(&file.path());
    assert_eq!(call(&gateway, "/mcp").0, 200, "the demonstration server");
    let program = env!("CARGO_BIN_EXE_corelane");
    file.write(&format!("[servers.c]\nkind = \"stdio\"\ncommand = \"{program}\"\nargs = [\"stdio\"]\n"));
    until_served(&gateway, "/mcp/c");
    file.write("");
    until_unknown(&gateway, "/mcp/c");
}

#[test]
fn a_view_that_was_taken_out_is_not_found() {
    let one = Server::start();
    let view = |name: &str| format!("[views.{name}]\nservers = [\"a\"]\n");
    let file = File::new(&(section("a", one.http) + &view("kept") + &view("gone")));
    let gateway = Server::by_file(&file.path());
    let listed = |core: usize, path: &str| {
        let list = modern(1, "tools/list", json!({}));
        gateway.connect_on(core).ask(&Request::modern(&list).target(path)).status
    };
    assert_eq!([listed(0, "/mcp/@kept"), listed(0, "/mcp/@gone"), listed(0, "/mcp/@none")], [200, 200, 404]);
    file.write(&(section("a", one.http) + &view("kept")));
    for core in 0..2 {
        until("the view is gone", || (listed(core, "/mcp/@gone") == 404).then_some(()));
        assert_eq!(listed(core, "/mcp/@kept"), 200);
    }
    // It is there again under the same name.
    file.write(&(section("a", one.http) + &view("gone")));
    for core in 0..2 {
        until("the view is back", || (listed(core, "/mcp/@gone") == 200).then_some(()));
    }
}

/// The file with another time for the server's calls, and a further server, which both cores then serve.
fn change(gateway: &Server, file: &File, changed: &str, further: &Server) {
    file.write(&format!("{changed}timeout_ms = 29000\n{}", section("further", further.http)));
    until_served(gateway, "/mcp/further");
}

fn elicit(name: &str) -> Value {
    json!({"name": name, "arguments": {"message": "Who?"}})
}

fn accepted() -> Value {
    json!({"action": "accept", "content": {"username": "alice", "email": "a@b"}})
}

/// Whatever the server speaks, its caller is being asked when the server gets another place.
#[test]
fn a_question_that_was_asked_before_a_change_is_answered_after_it() {
    let (server, further) = (Server::conformance(), Server::start());
    for (era, more) in
        [("legacy", ""), ("legacy", "concurrency = 8\n"), ("modern", ""), ("modern", "concurrency = 8\n")]
    {
        let section = format!("{}era = \"{era}\"\n{more}", section("a", server.http));
        let file = File::new(&section);
        let gateway = Server::by_file(&file.path());
        reached(&gateway, "/mcp/a");
        let mut peers = Vec::new();
        for core in 0..2 {
            let session = open_at(&mut gateway.connect_on(core), "2025-11-25", "/mcp/a");
            let mut peer = gateway.connect_on(core);
            peer.open(
                &Request::legacy(&session, &legacy(1, "tools/call", elicit("test_elicitation"))).target("/mcp/a"),
            );
            let question = peer.event().expect("a question").json();
            assert_eq!(question["method"], "elicitation/create", "{question}");
            peers.push((core, session, peer, question["id"].clone()));
        }
        change(&gateway, &file, &section, &further);
        for (core, session, mut peer, id) in peers {
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": accepted()});
            let taken = gateway.connect_on(core).ask(&Request::legacy(&session, &answer).target("/mcp/a"));
            assert_eq!(taken.status, 202);
            let result = peer.event().expect("the outcome").json();
            assert!(text(&result).contains("alice"), "{era} {more}: {result}");
        }
        until("the old one is gone", || (gateway.total("corelane_server_calls_in_flight") == 0).then_some(()));
    }
}

#[test]
fn a_call_that_was_parked_before_a_change_is_gone_on_with_after_it() {
    let (server, further) = (Server::conformance(), Server::start());
    let section = format!("{}era = \"legacy\"\n", section("a", server.http));
    let file = File::new(&section);
    let gateway = Server::by_file(&file.path());
    reached(&gateway, "/mcp/a");
    let mut calls = Vec::new();
    for (path, tool) in [("/mcp/a", "test_elicitation"), ("/mcp", "a_test_elicitation")] {
        let call = modern(1, "tools/call", elicit(tool));
        let again = until("its tools are listed", || {
            let mut call = call.clone();
            call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
            let answer = gateway.connect_on(0).ask(&Request::modern(&call).target(path)).json();
            call["params"]["requestState"] = answer["result"]["requestState"].clone();
            call["params"]["inputResponses"] = json!({"question": accepted()});
            (answer["result"]["resultType"] == "input_required").then_some(call)
        });
        calls.push((path, again));
    }
    change(&gateway, &file, &section, &further);
    for (path, again) in calls {
        let result = gateway.connect_on(1).ask(&Request::modern(&again).target(path)).json();
        assert!(result["result"].is_object() && text(&result).contains("alice"), "{path}: {result}");
    }
}

#[test]
fn a_sessions_own_session_with_a_server_that_changed_ends_behind_its_last_call() {
    let further = Server::start();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let server = Upstream::start("legacy", json!({"tools": {}}), move |heard| {
        if heard.method() == "tools/call" {
            let held = held.lock().expect("one call at a time");
            held.recv_timeout(PATIENCE).expect("it is released");
        }
        Reply::Usual
    });
    let section = server.section("s", "sessions = \"per_session\"");
    let file = File::new(&section);
    let gateway = Server::by_file(&file.path());
    reached(&gateway, "/mcp/s");
    let session = open_at(&mut gateway.connect_on(0), "2025-11-25", "/mcp/s");
    let shared = server.opened_sessions();
    let mut peer = gateway.connect_on(0);
    let call = legacy(1, "tools/call", json!({"name": "t", "arguments": {}}));
    peer.send(Request::legacy(&session, &call).target("/mcp/s").bytes());
    let called = until("it is called", || server.heard("tools/call").pop());
    let own = called.field("Mcp-Session-Id").expect("in a session").to_owned();
    change(&gateway, &file, &section, &further);
    until("the sessions of all are ended", || {
        let ended = server.ended_sessions();
        shared.iter().filter(|one| **one != own).all(|one| ended.contains(one)).then_some(())
    });
    assert!(!server.ended_sessions().contains(&own), "a call is under way in it");
    release.send(()).expect("it is held");
    assert_eq!(peer.answer().json()["result"]["content"][0]["text"], "done");
    until("it is ended", || server.ended_sessions().contains(&own).then_some(()));
}

#[test]
fn a_file_that_is_gone_is_missed_once_and_costs_nothing() {
    let server = Server::start();
    let file = File::new(&section("a", server.http));
    let mut gateway = Server::by_file(&file.path());
    until_served(&gateway, "/mcp/a");
    for times in 1..=2 {
        std::fs::remove_file(file.path()).expect("it is there");
        gateway.until_said_in("is gone", times);
        // Looks come twice a second, and what it said stays in force.
        std::thread::sleep(std::time::Duration::from_millis(1_600));
        assert_eq!(call(&gateway, "/mcp/a").0, 200);
        let name = format!("b{times}");
        file.write(&(section("a", server.http) + &section(&name, server.http)));
        until_served(&gateway, &format!("/mcp/{name}"));
        gateway.until_said_in("added", times);
        assert_eq!(gateway.count_said("is gone"), times, "{gateway:?}");
    }
}
