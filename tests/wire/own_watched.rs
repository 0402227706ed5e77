//! Resources of servers that each session has for itself: who subscribes in a session hears of that session's.

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern, text};
use crate::script::child;
use crate::watched::{WATCHED, change, session, subscribe, told};

/// A server of 2025-11-25 on standard input and output that keeps what it is subscribed to. `touch` has it tell of all
/// that, and `watched` says its process and what it is.
const KEEPING: &str = r#"
import json, os, sys
watched = []
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    method, params = request["method"], request.get("params", {})
    result = {}
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "keeping", "version": "1"},
                  "capabilities": {"tools": {}, "resources": {"subscribe": True}}}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("touch", "watched")]}
    elif method == "resources/list":
        result = {"resources": [{"uri": "x:y", "name": "y"}]}
    elif method == "resources/templates/list":
        result = {"resourceTemplates": []}
    elif method == "resources/subscribe":
        watched.append(params["uri"])
    elif method == "resources/unsubscribe":
        watched.remove(params["uri"])
    elif method == "tools/call" and params["name"] == "touch":
        for uri in watched:
            say({"method": "notifications/resources/updated", "params": {"uri": uri}})
        result = {"content": [{"type": "text", "text": "touched"}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": f"{os.getpid()} {json.dumps(watched)}"}]}
    say({"id": request["id"], "result": result})
"#;

fn keeping() -> Server {
    let gateway = Server::configured(&child("python3", KEEPING, "sessions = \"per_session\"\n"));
    reached(&gateway, "/mcp/c");
    gateway
}

fn call(gateway: &Server, path: &str, core: usize, id: &str, tool: &str) -> Value {
    let tool = if path == "/mcp" { format!("c_{tool}") } else { tool.to_owned() };
    let call = legacy(3, "tools/call", json!({"name": tool, "arguments": {}}));
    gateway.connect_on(core).ask(&Request::legacy(id, &call).target(path)).json()
}

/// The process that serves a session, and what it is subscribed to.
fn kept(gateway: &Server, path: &str, core: usize, id: &str) -> Option<(u32, Value)> {
    let answer = call(gateway, path, core, id, "watched");
    let (process, watched) = answer["result"]["content"][0]["text"].as_str()?.split_once(' ')?;
    Some((process.parse().ok()?, serde_json::from_str(watched).ok()?))
}

/// The URI of the next resource that a stream tells of.
fn next(stream: &mut Peer) -> String {
    let message = stream.event().expect("the stream goes on").json();
    assert_eq!(message["method"], "notifications/resources/updated", "{message}");
    message["params"]["uri"].as_str().expect("a URI").to_owned()
}

#[test]
fn a_sessions_own_child_is_subscribed_to_and_tells_that_session_only() {
    let gateway = keeping();
    let shared = below(&gateway);
    let mut sessions = [("/mcp/c", 0), ("/mcp", 1), ("/mcp/c", 0)].map(|(path, core)| {
        let (id, stream) = session(&gateway, path, core);
        (path, core, id, stream)
    });
    let seen = |path: &str, uri: &str| if path == "/mcp" { format!("c+{uri}") } else { uri.to_owned() };
    let ask = |(path, core, id): (&str, usize, &str), uri: &str, what: &str, wanted: Value| {
        // From the other core than the session's.
        let answer = subscribe(&gateway, path, 1 - core, id, &seen(path, uri), what);
        assert_eq!(answer["result"], json!({}), "{answer}");
        until("its child is told", || kept(&gateway, path, core, id).filter(|(_, watched)| *watched == wanted));
    };
    // A child begins with a subscription: nothing was called yet.
    let (path, core, id, _) = &sessions[0];
    subscribe(&gateway, path, *core, id, "x:y", "subscribe");
    until("a child was begun for it", || (below(&gateway) > shared).then_some(()));
    for (path, core, id, _) in &sessions {
        ask((path, *core, id), "x:y", "subscribe", json!(["x:y"]));
    }
    // Each tells of the same resource, and then of another as well: had a session heard of what another's told, it
    // would have heard of the first more often.
    for (path, core, id, stream) in &mut sessions {
        ask((path, *core, id), "x:z", "subscribe", json!(["x:y", "x:z"]));
        call(&gateway, path, *core, id, "touch");
        assert_eq!([next(stream), next(stream)], ["x:y", "x:z"].map(|uri| seen(path, uri)));
    }
    for (path, core, id, stream) in &mut sessions {
        ask((path, *core, id), "x:y", "unsubscribe", json!(["x:z"]));
        call(&gateway, path, *core, id, "touch");
        assert_eq!(next(stream), seen(path, "x:z"));
    }
    // Callers without a session share a child that nobody subscribed with.
    let watched = modern(1, "tools/call", json!({"name": "watched", "arguments": {}}));
    let watched = gateway.connect().ask(&Request::modern(&watched).target("/mcp/c")).json();
    assert!(text(&watched).ends_with(" []"), "{watched}");
    // A session that ends leaves no child, and no subscription to begin one for.
    let before = below(&gateway);
    let (path, core, id, _) = &sessions[1];
    let gone = Request::new("DELETE", path).with("Mcp-Session-Id", id);
    assert!(gateway.connect_on(*core).ask(&gone).status < 300);
    until("its child is gone", || (below(&gateway) < before).then_some(()));
}

#[test]
fn a_child_that_dies_is_subscribed_to_anew() {
    let gateway = keeping();
    let (id, mut stream) = session(&gateway, "/mcp/c", 1);
    assert_eq!(subscribe(&gateway, "/mcp/c", 0, &id, "x:y", "subscribe")["result"], json!({}));
    let is_told = |(_, watched): &(u32, Value)| *watched == json!(["x:y"]);
    let (process, _) = until("its child is told", || kept(&gateway, "/mcp/c", 1, &id).filter(is_told));
    std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status().expect("kill");
    let (next_process, _) = until("the next one is told", || {
        kept(&gateway, "/mcp/c", 1, &id).filter(is_told).filter(|(now, _)| *now != process)
    });
    call(&gateway, "/mcp/c", 0, &id, "touch");
    assert_eq!(next(&mut stream), "x:y");
    assert_ne!(process, next_process);
}

#[test]
fn a_sessions_own_session_with_an_http_server_is_subscribed_in_both_eras() {
    let server = Server::conformance();
    for era in ["legacy", "modern"] {
        let gateway = Server::configured(&format!(
            "[servers.h]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nera = \"{era}\"\nsessions = \"per_session\"\n",
            server.http
        ));
        reached(&gateway, "/mcp/h");
        // The one on which the gateway hears of changes for all.
        server.until_total("corelane_streams_open", 1);
        let (id, mut stream) = session(&gateway, "/mcp/h", 0);
        let (_, mut bystander) = session(&gateway, "/mcp/h", 1);
        assert_eq!(subscribe(&gateway, "/mcp/h", 1, &id, WATCHED, "subscribe")["result"], json!({}), "{era}");
        server.until_total("corelane_streams_open", 2);
        until("the change is heard of", || {
            change(&gateway, "/mcp/h");
            told(&mut stream).contains(&WATCHED.to_owned()).then_some(())
        });
        assert_eq!(told(&mut bystander), [""; 0], "{era}: who did not subscribe does not hear of it");
        assert_eq!(subscribe(&gateway, "/mcp/h", 0, &id, WATCHED, "unsubscribe")["result"], json!({}), "{era}");
        until("no change is heard of any more", || {
            change(&gateway, "/mcp/h");
            told(&mut stream).is_empty().then_some(())
        });
        assert_eq!(subscribe(&gateway, "/mcp/h", 0, &id, WATCHED, "subscribe")["result"], json!({}), "{era}");
        server.until_total("corelane_streams_open", 2);
        let gone = Request::new("DELETE", "/mcp/h").with("Mcp-Session-Id", &id);
        assert!(gateway.connect_on(0).ask(&gone).status < 300);
        server.until_total("corelane_streams_open", 1);
    }
}

/// Processes that have the gateway above them.
fn below(gateway: &Server) -> usize {
    crate::own::below(gateway.pid()).0
}
