//! What the log tells of a client that fails, by `-v` and `-vv`, and that it tells nothing of what the client sent.
//!
//! Not here: that log lines may be JSON (`tests/start_up.rs`).

use std::process::Command;

use serde_json::json;

use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, modern};

/// A server that logs so much, and what it says while a client is refused, calls, opens a session and deletes it.
fn watched(flags: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--cores", "1"]).args(flags);
    let mut server = Server::run(command, &[]);
    let mut peer = server.connect();
    assert_eq!(
        peer.ask(&Request::modern(&modern(1, "tools/call", echo("x"))).with("Host", "evil.example")).status,
        403
    );
    assert_eq!(peer.ask(&Request::modern(&modern(2, "tools/call", echo("x")))).status, 200);
    assert_eq!(peer.ask(&Request::modern(&modern(3, "secret/method", json!({})))).status, 404);
    let opened = peer.ask(&Request::post(&initialize(4, "2025-11-25")));
    let session = opened.field("Mcp-Session-Id").expect("a session was opened").to_owned();
    assert_eq!(peer.ask(&Request::legacy(&session, &legacy(5, "tools/list", json!({})))).status, 200);
    assert_eq!(peer.ask(&Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session)).status, 204);
    drop(peer);
    server.until_total("corelane_connections_open", 0);
    server.signal("TERM");
    assert!(server.wait().success());
    server.until_ended();
    assert_eq!(server.count_said(&session), 0, "whoever has a session's id has the session");
    assert_eq!(server.count_said("evil") + server.count_said("secret/"), 0, "what a peer sent is nobody's log");
    server
}

#[test]
fn nothing_is_told_of_a_client_unless_it_is_asked_for() {
    let server = watched(&[]);
    for word in ["bad_host", "connection was opened", "session was opened", "tools/call"] {
        assert_eq!(server.count_said(word), 0, "{word}");
    }
    assert_eq!(server.count_said("draining; a second signal"), 1, "it does tell what concerns the process");
}

#[test]
fn by_v_connections_refusals_sessions_and_drains_are_told() {
    let server = watched(&["-v"]);
    for word in ["cause=\"bad_host\"", "cause=\"unknown_method\"", "its client deleted it", "draining: nothing is left"]
    {
        assert_eq!(server.count_said(word), 1, "{word}");
    }
    assert_eq!(server.count_said("session was opened"), 1);
    assert!(server.count_said("connection was opened") >= 1 && server.count_said("cause=\"peer_closed\"") >= 1);
    assert_eq!(server.count_said("method="), 0, "messages are told by -vv");
}

#[test]
fn by_vv_a_line_is_told_for_every_message() {
    let server = watched(&["-vv"]);
    for (method, outcome) in [("tools/call", "answered"), ("initialize", "answered"), ("tools/list", "answered")] {
        assert_eq!(server.count_said(&format!("method=\"{method}\" outcome=\"{outcome}\"")), 1, "{method}");
    }
    assert_eq!(server.count_said("outcome=\"failed\" code=-32601 took_us="), 1);
}
