//! What is said between a caller of one era and a server of the other, line by line: the server is a script that notes
//! what it hears, so both sides of each line are seen.
//!
//! What is held elsewhere: questions and calls that are parked (`gateway`, `parked`), progress (`gateway`),
//! subscriptions (`watched`), levels of logging (`levels`), tasks (`tasked`, `relayed`).

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::faulty::{answer, scripted};
use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, initialize, legacy, modern, text};
use crate::upstream::{Heard, Reply, Upstream};

const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// A modern caller's message for `/mcp/s`, on one core.
fn asked(gateway: &Server, message: &Value) -> Value {
    gateway.connect_on(0).ask(&Request::modern(message).target("/mcp/s")).json()
}

fn call(tool: &str) -> Value {
    json!({"name": tool, "arguments": {}})
}

fn everything() -> Value {
    json!({"tools": {}, "resources": {"subscribe": true}, "prompts": {}, "completions": {}, "logging": {}})
}

#[test]
fn callers_who_can_do_the_same_share_a_session_with_a_legacy_server() {
    let server = Upstream::start("legacy", everything(), |_| Reply::Usual);
    let gateway = server.gateway("");
    let can = [json!({}), json!({"elicitation": {}}), json!({"elicitation": {}, "sampling": {}}), json!({"roots": {}})];
    // The tasks extension is no capability of `initialize`.
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    for capabilities in can.iter().chain(&can).chain([&tasks]) {
        let mut message = modern(1, "tools/call", call("t"));
        message["params"]["_meta"][CAPABILITIES] = capabilities.clone();
        assert_eq!(text(&asked(&gateway, &message)), "done");
    }
    let calls = server.heard("tools/call");
    let session = |heard: &Heard| heard.field("Mcp-Session-Id").expect("it belongs to a session").to_owned();
    let sessions: Vec<String> = calls.iter().map(session).collect();
    assert_eq!((sessions[..4] == sessions[4..8], sessions[8] == sessions[0]), (true, true), "{sessions:?}");
    let mut unlike = sessions[..4].to_vec();
    unlike.sort();
    unlike.dedup();
    assert_eq!(unlike.len(), 4, "{sessions:?}");
    let opened: Vec<Value> =
        server.heard("initialize").iter().map(|one| one.params()["capabilities"].clone()).collect();
    for known in [json!({}), json!({"elicitation": {"form": {}}}), json!({"roots": {}})] {
        assert!(opened.contains(&known), "{known}: {opened:?}");
    }
}

#[test]
fn a_legacy_server_sees_nothing_of_the_newer_era() {
    let server = Upstream::start("legacy", everything(), |_| Reply::Usual);
    let gateway = server.gateway("");
    let mut message = modern("é", "tools/call", call("t"));
    message["params"]["_meta"]["traceparent"] = "00-1-2-01".into();
    message["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "c", "version": "1"});
    // In 2026-07-28 it is the server who makes tasks: this is a member like any that nobody knows, and would not be one
    // there.
    message["params"]["task"] = json!({"ttl": 1000});
    message["params"]["unknown"] = json!([1.0]);
    assert_eq!(text(&asked(&gateway, &message)), "done");
    let heard = server.heard("tools/call").pop().expect("it was called");
    let members: Vec<&String> = heard.params().as_object().expect("an object").keys().collect();
    assert_eq!(members, ["_meta", "arguments", "name", "unknown"]);
    assert_eq!(heard.params()["_meta"], json!({"traceparent": "00-1-2-01"}), "what is nobody's is passed on");
    assert_eq!((heard.field("Mcp-Method"), heard.field("Mcp-Name")), (None, None));
    assert_eq!(heard.field("MCP-Protocol-Version"), Some("2025-11-25"));
    assert_ne!(heard.body["id"], "é", "ids are the gateway's");
}

#[test]
fn results_of_a_legacy_server_get_what_a_modern_caller_wants_in_them() {
    let server = Upstream::start("legacy", everything(), |heard| match heard.method() {
        "resources/read" if heard.params()["uri"] == "x:gone" => {
            Reply::Error(json!({"code": -32002, "message": "gone", "data": {"uri": "x:gone"}}))
        }
        "prompts/get" => Reply::Error(json!({"code": -32602, "message": "no"})),
        "tools/call" => Reply::Result(json!({"content": [], "_meta": {"k": 1}, "isError": false, "unknown": [1]})),
        _ => Reply::Usual,
    });
    let gateway = server.gateway("");
    let about = json!({"name": "scripted", "version": "7"});
    for (method, params, is_kept) in [
        ("tools/call", call("t"), false),
        ("tools/list", json!({}), true),
        ("prompts/list", json!({}), true),
        ("resources/list", json!({}), true),
        ("resources/templates/list", json!({}), true),
        ("resources/read", json!({"uri": "x:y"}), true),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {}}), false),
    ] {
        let result = asked(&gateway, &modern(1, method, params))["result"].clone();
        assert_eq!(result["resultType"], "complete", "{method}: {result}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"], about, "{method}");
        let hints = if is_kept { (json!(0), json!("private")) } else { (Value::Null, Value::Null) };
        assert_eq!((result["ttlMs"].clone(), result["cacheScope"].clone()), hints, "{method}: {result}");
        if method == "tools/call" {
            assert_eq!((&result["_meta"]["k"], &result["unknown"]), (&json!(1), &json!([1])), "all else stays");
        }
    }
    let gone = asked(&gateway, &modern(1, "resources/read", json!({"uri": "x:gone"})))["error"].clone();
    assert_eq!(gone, json!({"code": -32602, "message": "gone", "data": {"uri": "x:gone"}}));
    assert_eq!(asked(&gateway, &modern(1, "prompts/get", json!({"name": "p"})))["error"]["code"], -32602);
}

#[test]
fn a_legacy_callers_handshake_is_answered_from_what_a_modern_server_says_of_itself() {
    let server = Upstream::start("modern", everything(), |_| Reply::Usual);
    let gateway = server.gateway("");
    let mut peer = gateway.connect_on(0);
    let opened = peer.ask(&Request::post(&initialize(1, "2025-06-18")).target("/mcp/s"));
    let session = opened.field("Mcp-Session-Id").expect("a session").to_owned();
    let opened = opened.json()["result"].clone();
    assert_eq!(opened["serverInfo"], json!({"name": "scripted", "version": "7"}));
    assert_eq!(opened["instructions"], "Be brief.");
    let offered: Vec<&String> = opened["capabilities"].as_object().expect("capabilities").keys().collect();
    assert_eq!(offered, ["completions", "logging", "prompts", "resources", "tools"]);
    let ping = peer.ask(&Request::legacy(&session, &legacy(2, "ping", json!({}))).target("/mcp/s"));
    assert_eq!(ping.json()["result"], json!({}));
    let heard = server.methods();
    let never = ["initialize", "notifications/initialized", "ping", "logging/setLevel"];
    assert!(!heard.iter().any(|method| never.contains(&&**method)), "{heard:?}");
}

#[test]
fn each_call_to_a_modern_server_says_what_its_legacy_caller_is() {
    let server = Upstream::start("modern", everything(), |_| Reply::Usual);
    let gateway = server.gateway("");
    let mut peer = gateway.connect_on(0);
    let sessions = [open_at(&mut peer, "2025-11-25", "/mcp/s"), open_at(&mut peer, "2025-06-18", "/mcp/s")];
    let level = legacy(2, "logging/setLevel", json!({"level": "debug"}));
    let answer = peer.ask(&Request::legacy(&sessions[0], &level).target("/mcp/s"));
    assert_eq!(answer.json()["result"], json!({}));
    for (session, level) in [(&sessions[0], "debug"), (&sessions[1], "info")] {
        let message = legacy(7, "tools/call", call("t"));
        let answer = peer.ask(&Request::legacy(session, &message).target("/mcp/s")).json();
        // `resultType` is harmless to whoever does not know it.
        assert_eq!((text(&answer), &answer["id"]), ("done", &json!(7)));
        let heard = server.heard("tools/call").pop().expect("it was called");
        let meta = &heard.params()["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta[CAPABILITIES], json!({"elicitation": {"form": {}}, "sampling": {}, "roots": {}}));
        assert_eq!(meta[LEVEL], level);
        assert_eq!((heard.field("Mcp-Method"), heard.field("Mcp-Name")), (Some("tools/call"), Some("t")));
        assert_eq!((heard.field("MCP-Protocol-Version"), heard.field("Mcp-Session-Id")), (Some("2026-07-28"), None));
    }
}

#[test]
fn what_older_revisions_cannot_say_is_not_said_to_legacy_callers() {
    let schema = json!({"type": "object"});
    let listed = json!({"tools": [
        {"name": "array", "inputSchema": schema, "outputSchema": {"type": "array"}, "x": 1},
        {"name": "object", "inputSchema": schema, "outputSchema": {"type": "object"}},
    ], "resultType": "complete", "ttlMs": 1, "cacheScope": "public", "nextCursor": "c"});
    let server = Upstream::start("modern", everything(), move |heard| match heard.method() {
        "tools/list" if heard.params().get("cursor").is_none() => Reply::Result(listed.clone()),
        "tools/call" => {
            let structured = if heard.params()["name"] == "array" { json!([1]) } else { json!({"a": 1}) };
            Reply::Result(json!({"content": [], "structuredContent": structured, "resultType": "complete"}))
        }
        "resources/read" | "prompts/get" => Reply::Error(json!({"code": -32602, "message": "no"})),
        _ => Reply::Usual,
    });
    let gateway = server.gateway("");
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
    let mut ask = |method: &str, params: Value| {
        peer.ask(&Request::legacy(&session, &legacy(7, method, params)).target("/mcp/s")).json()
    };
    let tools = ask("tools/list", json!({}))["result"].clone();
    let expected = json!([
        {"name": "array", "inputSchema": schema, "x": 1},
        {"name": "object", "inputSchema": schema, "outputSchema": {"type": "object"}},
    ]);
    assert_eq!((&tools["tools"], &tools["nextCursor"]), (&expected, &json!("c")));
    assert_eq!(ask("tools/call", call("array"))["result"].get("structuredContent"), None);
    assert_eq!(ask("tools/call", call("object"))["result"]["structuredContent"], json!({"a": 1}));
    // What is not found has another code in each era, and only that.
    assert_eq!(ask("resources/read", json!({"uri": "x:gone"}))["error"]["code"], -32002);
    assert_eq!(ask("prompts/get", json!({"name": "gone"}))["error"]["code"], -32602);
}

#[test]
fn a_visit_that_a_modern_server_asks_for_has_a_name_for_its_legacy_caller() {
    let asked = json!({"mode": "url", "url": "https://x.example/", "message": "go"});
    let ask = json!({"a": {"method": "elicitation/create", "params": asked}});
    let server = Upstream::start("modern", everything(), move |heard| match heard.method() {
        "tools/call" if heard.params().get("inputResponses").is_none() => {
            Reply::Result(json!({"resultType": "input_required", "inputRequests": ask}))
        }
        _ => Reply::Usual,
    });
    let gateway = server.gateway("");
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
    peer.open(&Request::legacy(&session, &legacy(7, "tools/call", call("t"))).target("/mcp/s"));
    let mut question = peer.event().expect("a question").json();
    let name = question["params"].as_object_mut().expect("parameters").remove("elicitationId");
    assert!(name.is_some_and(|name| name.as_str().is_some_and(|name| !name.is_empty())));
    assert_eq!(question["params"], json!({"mode": "url", "url": "https://x.example/", "message": "go"}));
    let accept = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    assert_eq!(gateway.connect_on(1).ask(&Request::legacy(&session, &accept).target("/mcp/s")).status, 202);
    assert_eq!(text(&peer.event().expect("an answer").json()), "done");
    let again = server.heard("tools/call").pop().expect("it was called again");
    assert_eq!(again.params()["inputResponses"], json!({"a": {"action": "accept"}}));
}

/// What a server heard in `Mcp-Param-*`, by their names in small letters, in their order.
fn params_heard(server: &Upstream) -> Vec<(String, String)> {
    let heard = server.heard("tools/call").pop().expect("it was called");
    let mut params = heard.fields_like("mcp-param-");
    params.sort();
    params
}

#[test]
fn headers_of_parameters_that_nothing_is_known_of_are_passed_on_to_modern_servers_only() {
    let tool = json!({"name": "t", "inputSchema": {"type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}});
    let script = move |heard: &Heard| match heard.method() {
        "tools/list" => Reply::Result(json!({"tools": [tool], "resultType": "complete"})),
        _ => Reply::Usual,
    };
    let (old, new) =
        (Upstream::start("legacy", everything(), script.clone()), Upstream::start("modern", everything(), script));
    let sections = old.section("old", "") + &new.section("new", "") + &new.section("owned", "concurrency = 4");
    let gateway = Server::configured(&sections);
    let listed = || {
        let list = gateway.connect_on(1).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
        (list["result"]["tools"].as_array()?.len() == 3).then_some(())
    };
    until("their tools are known", listed);
    for (name, server, passes_on) in [("old", &old, false), ("new", &new, true), ("owned", &new, true)] {
        for (path, tool) in [(format!("/mcp/{name}"), "t".to_owned()), ("/mcp".to_owned(), format!("{name}_t"))] {
            let message = modern(1, "tools/call", json!({"name": tool, "arguments": {"region": "é"}}));
            let request = Request::modern(&message)
                .target(&path)
                .with("mcp-param-REGION", "=?base64?w6k=?=")
                .with("Mcp-Param-Other", "=?base64?w6k=?=")
                .with("Mcp-Param-x", "1");
            let answer = gateway.connect_on(1).ask(&request);
            assert_eq!(text(&answer.json()), "done", "{path}");
            let expected = [("other", "=?base64?w6k=?="), ("region", "=?base64?w6k=?="), ("x", "1")];
            let expected = if passes_on { &expected[..] } else { &[] };
            let heard = params_heard(server);
            let heard: Vec<(&str, &str)> = heard.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(heard, expected, "{path}");
        }
    }
}

#[test]
fn many_legacy_subscribers_are_one_listener_to_a_modern_server() {
    let server = Upstream::start("modern", everything(), |_| Reply::Usual);
    let gateway = server.gateway("");
    let sessions: Vec<(usize, String)> =
        [0, 1, 0].map(|core| (core, open_at(&mut gateway.connect_on(core), "2025-11-25", "/mcp/s"))).into();
    for (core, session) in &sessions {
        for uri in ["x:y", "x:z"] {
            let message = legacy(7, "resources/subscribe", json!({"uri": uri}));
            let answer = gateway.connect_on(*core).ask(&Request::legacy(session, &message).target("/mcp/s")).json();
            assert_eq!(answer["result"], json!({}), "{answer}");
        }
    }
    until("both are listened to", || {
        let last = server.heard("subscriptions/listen").pop()?;
        (last.params()["notifications"] == json!({"resourceSubscriptions": ["x:y", "x:z"]})).then_some(())
    });
    // One stream more for each choice that was made, however many made it.
    let listened = server.heard("subscriptions/listen").len();
    assert!(listened <= 4, "{listened} streams for 6 subscriptions");
    assert!(server.heard("resources/subscribe").is_empty());
}

/// A server that becomes one of the other era, as when another program is started in its place; and how often it opened
/// a session. Its tool `bad` is refused as in the midst of a handshake, whatever it speaks.
fn changing(is_modern: Arc<AtomicBool>, sessions: Arc<AtomicUsize>) -> SocketAddr {
    scripted(move |stream, request| {
        let speaks_modern = is_modern.load(Ordering::SeqCst);
        let (id, method) = (&request["id"], request["method"].as_str().unwrap_or_default());
        let is_modern = request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28";
        let refuse = |stream: &mut TcpStream, status: &str, id: &Value, code: i32| {
            let error = json!({"code": code, "message": "no"});
            answer(stream, status, &json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
        };
        let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
        let about = json!({"name": "changing", "version": "1"});
        let mut result = match method {
            "" => return answer(stream, "405 Method Not Allowed", ""),
            _ if id.is_null() => return answer(stream, "202 Accepted", ""),
            _ if speaks_modern && !is_modern => return refuse(stream, "400 Bad Request", id, -32602),
            _ if is_modern && !speaks_modern => return refuse(stream, "404 Not Found", &Value::Null, -32001),
            "tools/call" if request["params"]["name"] == "bad" => return refuse(stream, "400 Bad Request", id, -32602),
            "initialize" => {
                sessions.fetch_add(1, Ordering::SeqCst);
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about})
            }
            "server/discover" => json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}),
            "tools/list" => json!({"tools": [tool]}),
            "tools/call" => json!({"content": [{"type": "text", "text": "done"}]}),
            _ => return refuse(stream, "200 OK", id, -32601),
        };
        if speaks_modern {
            result["resultType"] = "complete".into();
            result["_meta"]["io.modelcontextprotocol/serverInfo"] = about;
        }
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    })
}

#[test]
fn a_server_that_was_replaced_by_one_of_the_other_era_is_found_to_be_and_one_that_refuses_is_not() {
    let (is_modern, sessions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = changing(Arc::clone(&is_modern), Arc::clone(&sessions));
    for more in ["", "concurrency = 8\n"] {
        let gateway =
            Server::configured(&format!("[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n{more}"));
        reached(&gateway, "/mcp/s");
        let ask = |core: usize, tool: &str| {
            let message = modern(1, "tools/call", call(tool));
            gateway.connect_on(core).ask(&Request::modern(&message).target("/mcp/s")).json()
        };
        for speaks_modern in [false, true, false, true] {
            is_modern.store(speaks_modern, Ordering::SeqCst);
            for core in 0..2 {
                let done = until("it is served", || Some(ask(core, "t")).filter(|said| said["result"].is_object()));
                assert_eq!(text(&done), "done");
            }
            // Its callers may err, and it is asked again what it speaks; nothing changes by that.
            let opened = sessions.load(Ordering::SeqCst);
            for core in [0, 1, 0, 1] {
                assert_eq!(ask(core, "bad")["error"]["code"], -32602);
                assert_eq!(text(&ask(core, "t")), "done");
            }
            assert_eq!(sessions.load(Ordering::SeqCst), opened, "{more}");
        }
        is_modern.store(false, Ordering::SeqCst);
    }
}
