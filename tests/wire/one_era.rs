//! Servers that serve one era only: what clients of the other hear, and that a gateway finds out by itself.

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::{open, open_at};
use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, modern, notice, text};

#[test]
fn a_legacy_server_never_knew_the_modern_era() {
    let server = Server::with(&[("SERVE_ERA", "legacy")]);
    let mut peer = server.connect();
    // A probe gets no error of the modern specification, which would say that this is a modern server.
    for message in [modern(1, "server/discover", json!({})), modern(2, "tools/call", echo("x"))] {
        let answer = peer.ask(&Request::modern(&message));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32600, &message["id"]));
        // Nor without headers: there is no session yet.
        let answer = peer.ask(&Request::post(&message));
        assert_eq!((answer.status, answer.code()), (400, -32600));
    }
    let batch = json!([modern(1, "server/discover", json!({}))]);
    assert_eq!(peer.ask(&Request::post(&batch).with("MCP-Protocol-Version", "2026-07-28")).status, 400);
    // `initialize` means what it always did, whatever else stands in it.
    let mut opening = modern(3, "initialize", initialize(3, "2026-07-28")["params"].clone());
    opening["params"]["protocolVersion"] = json!("2026-07-28");
    let opened = peer.ask(&Request::post(&opening));
    assert_eq!(opened.json()["result"]["protocolVersion"], "2025-11-25");
    let session = open(&mut peer, "2025-11-25");
    let answer = peer.ask(&Request::legacy(&session, &modern(4, "tools/call", echo("y")))).json();
    assert_eq!((text(&answer), &answer["result"]["resultType"]), ("y", &Value::Null), "its _meta is nobody's business");
    let modern_stream = Request::stream(&session).with("MCP-Protocol-Version", "2026-07-28");
    assert_eq!(peer.ask(&modern_stream).status, 400, "no such revision is served");
    assert_eq!(peer.ask(&Request::legacy(&session, &legacy(5, "server/discover", json!({})))).code(), -32601);

    let mut lines = server.lines();
    lines.write_line(&modern(1, "server/discover", json!({})));
    assert_eq!(lines.read_line()["error"]["code"], -32600);
    lines.write_line(&initialize(2, "2025-11-25"));
    assert_eq!(lines.read_line()["result"]["protocolVersion"], "2025-11-25");
    lines.write_line(&modern(3, "tools/call", echo("z")));
    let answer = lines.read_line();
    assert_eq!((text(&answer), &answer["result"]["resultType"]), ("z", &Value::Null));
}

#[test]
fn a_modern_server_refuses_what_is_older() {
    let server = Server::with(&[("SERVE_ERA", "modern")]);
    let mut peer = server.connect();
    let unsupported = |answer: &Value, requested: &str| {
        assert_eq!(answer["error"]["code"], -32022, "{answer}");
        assert_eq!(answer["error"]["data"], json!({"supported": ["2026-07-28"], "requested": requested}), "{answer}");
    };
    for version in ["2024-11-05", "2025-11-25", "2026-07-28"] {
        let answer = peer.ask(&Request::post(&initialize(1, version)));
        assert_eq!((answer.status, &answer.json()["id"], answer.field("Mcp-Session-Id")), (400, &json!(1), None));
        unsupported(&answer.json(), version);
    }
    let answer =
        peer.ask(&Request::post(&legacy(2, "tools/list", json!({}))).with("MCP-Protocol-Version", "2025-06-18"));
    assert_eq!(answer.status, 400);
    unsupported(&answer.json(), "2025-06-18");
    let answer = peer.ask(&Request::post(&legacy(3, "tools/list", json!({}))));
    assert_eq!((answer.status, answer.code()), (400, -32602), "what is missing is named: {}", answer.text());
    let answer = peer.ask(&Request::post(&json!([legacy(4, "ping", json!({}))])));
    assert_eq!((answer.status, answer.code(), answer.json().get("id")), (400, -32600, None));
    assert_eq!(peer.ask(&Request::post(&notice("notifications/initialized", json!({})))).status, 202);
    for request in [Request::stream("x"), Request::new("DELETE", "/mcp").with("Mcp-Session-Id", "x")] {
        let answer = peer.ask(&request);
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("POST")));
    }
    let stream = Request::new("GET", "/sse").with("Accept", "text/event-stream");
    assert_eq!(peer.ask(&stream).status, 404, "HTTP+SSE is a way of the other era");
    assert_eq!(text(&peer.ask(&Request::modern(&modern(5, "tools/call", echo("x")))).json()), "x");
    assert_eq!(server.total("corelane_sessions_created_total"), 0);

    let mut lines = server.lines();
    lines.write_line(&initialize(1, "2025-06-18"));
    unsupported(&lines.read_line(), "2025-06-18");
    lines.write_line(&legacy(2, "tools/list", json!({})));
    assert_eq!(lines.read_line()["error"]["code"], -32602);
    lines.write_line(&modern(3, "tools/call", echo("y")));
    assert_eq!(text(&lines.read_line()), "y");
}

#[test]
fn a_gateway_finds_out_by_itself_and_serves_both_eras() {
    let (old, new) = (Server::with(&[("SERVE_ERA", "legacy")]), Server::with(&[("SERVE_ERA", "modern")]));
    let program = env!("CARGO_BIN_EXE_corelane");
    let http =
        |name, server: &Server| format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n", server.http);
    let child = |name, era| {
        let started = format!("kind = \"stdio\"\ncommand = \"{program}\"\nargs = [\"stdio\"]");
        format!("[servers.{name}]\n{started}\nenv = {{ CORELANE_SERVE_ERA = \"{era}\" }}\n")
    };
    let sections =
        http("old", &old) + &http("new", &new) + &child("old-child", "legacy") + &child("new-child", "modern");
    let gateway = Server::configured(&sections);
    for name in ["old", "new", "old-child", "new-child"] {
        let path = format!("/mcp/{name}");
        reached(&gateway, &path);
        for core in 0..2 {
            let call = Request::modern(&modern("a", "tools/call", echo("m"))).target(&path);
            assert_eq!(text(&gateway.connect_on(core).ask(&call).json()), "m", "{name}");
            let mut peer = gateway.connect_on(core);
            let session = open_at(&mut peer, "2025-11-25", &path);
            let call = Request::legacy(&session, &legacy(7, "tools/call", echo("l"))).target(&path);
            assert_eq!(text(&peer.ask(&call).json()), "l", "{name}");
        }
    }
    assert!(old.total("corelane_sessions_open") > 0 && new.total("corelane_sessions_created_total") == 0);
}
