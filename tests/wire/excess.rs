//! What a client may make a core keep or say: tokens, ids, what waits behind a call whose client has left.
//!
//! Not here: bodies, heads and pipelines that are too long (`http_status`), what is kept for those who come back
//! (`legacy_streams`).

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::process::{Server, conformance_program};
use crate::request::{Request, initialize, legacy, modern, sleep, text, told_sleep};

#[test]
fn a_long_progress_token_is_refused_before_it_is_repeated() {
    let server = Server::start();
    let before = server.resident_bytes();
    let mut peer = server.lines();
    let token = "t".repeat(900_000);
    for message in
        [modern(1, "tools/call", told_sleep(0, 1000, &token)), legacy(2, "tools/call", told_sleep(0, 1000, &token))]
    {
        if message["id"] == 2 {
            peer.write_line(&initialize(0, "2025-11-25"));
            peer.read_line();
        }
        peer.write_line(&message);
        let answer = peer.read_line();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&message["id"], &json!(-32602)));
        assert!(answer["error"]["message"].as_str().expect("a text").contains("the most is 1024"), "{answer}");
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for two messages of 900 KB");
    peer.write_line(&modern(3, "tools/call", told_sleep(1, 2, &"t".repeat(1_000))));
    let told: Vec<Value> = (0..4).map(|_| peer.read_line()).collect();
    assert_eq!(text(&told[3]), "slept 1 ms", "one that is long and not too long is repeated");
    assert_eq!(told[0]["params"]["progressToken"], "t".repeat(1_000));
}

#[test]
fn a_client_that_leaves_is_noticed_whatever_waits_behind_its_call() {
    let server = Server::start();
    let mut peer = server.connect();
    let ahead = Request::modern(&modern(1, "tools/call", sleep(60_000)));
    let behind = Request::modern(&modern(2, "tools/call", sleep(60_000))).bytes();
    peer.send(ahead.bytes());
    server.until_total("corelane_calls_in_flight", 1);
    // More than a connection may have waiting, so that nobody reads on to find its end.
    peer.send(behind.repeat(1 + 200_000 / behind.len()));
    server.until_refused("pipeline_full");
    drop(peer);
    server.until_total("corelane_calls_in_flight", 0);
    server.until_total("corelane_connections_open", 0);
}

#[test]
fn initialize_is_a_modern_message_only_by_a_claim_that_holds() {
    let server = Server::start();
    let claims = |meta: Value| {
        let mut message = initialize(1, "2025-11-25");
        message["params"]["_meta"] = meta;
        server.connect().ask(&Request::post(&message).without("MCP-Protocol-Version"))
    };
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    for meta in [json!({version: "2025-11-25"}), json!({version: "2026-07-28"}), json!({version: 7, capabilities: {}})]
    {
        let answer = claims(meta.clone());
        assert_eq!(answer.status, 200, "{meta}: {}", answer.text());
        assert!(answer.field("Mcp-Session-Id").is_some(), "{meta}");
    }
    let answer = server.connect().ask(&Request::modern(&{
        let mut message = initialize(1, "2026-07-28");
        message["params"]["_meta"] = json!({version: "2026-07-28", capabilities: {}});
        message
    }));
    assert_eq!((answer.status, answer.code()), (404, -32601), "a modern server has no such method");
}

#[test]
fn each_answer_is_counted_once() {
    let server = Server::start();
    let mut peer = server.lines();
    peer.write_line(&legacy(0, "ping", json!({})));
    peer.write_line(&initialize(1, "2025-11-25"));
    for id in 2..12 {
        peer.write_line(&legacy(id, "logging/setLevel", json!({"level": "error"})));
        peer.write_line(&legacy(100 + id, "ping", json!({})));
    }
    (0..22).for_each(|_| drop(peer.read_line()));
    server.until_total("corelane_messages_out_total", 22);
}

#[test]
fn a_view_is_chosen_by_a_request_like_any_other() {
    let server = Server::start();
    for (id, code) in [("{\"a\":1}", Some(-32600)), ("null", Some(-32600)), ("\"x\"", None)] {
        let mut peer = server.lines();
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"corelane/attach\",\"params\":{{\"view\":\"\"}}}}\n"
        );
        peer.send(line);
        let answer = peer.read_line();
        assert_eq!(answer["error"]["code"].as_i64(), code, "{id}: {answer}");
        assert_eq!(answer["id"], if code.is_some() { Value::Null } else { json!("x") });
    }
}

#[test]
fn the_socket_of_lines_has_the_permissions_that_were_set() {
    let folder = tempfile::tempdir().expect("a folder");
    for (mode, bits) in [(None, 0o600), (Some("0660"), 0o660), (Some("0666"), 0o666)] {
        let path = folder.path().join(format!("{bits:o}.sock"));
        let path = path.to_str().expect("UTF-8");
        let mut variables = vec![("SERVE_UNIX", path)];
        variables.extend(mode.map(|mode| ("SERVE_UNIX_MODE", mode)));
        let _server = Server::on(1, &variables);
        let found = std::fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
        assert_eq!(found, bits, "{mode:?}");
    }
}

#[test]
fn a_program_that_serves_its_own_tools_says_what_keeps_it_from_it() {
    let server = Server::start();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(conformance_program());
        command.args(arguments).env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
        let output = command.output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = run(&["--listen", &server.http.to_string()]);
    assert!(said.contains("in use") && !said.contains("Boot("), "{said}");
    let said = run(&["--listen", "nowhere"]);
    assert!(said.contains("nowhere") && !said.contains("Config"), "{said}");
}
