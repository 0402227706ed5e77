//! 2026-07-28 over HTTP: stateless requests, what was removed, notifications, cancellation, streams.

use std::time::Duration;

use serde_json::{Value, json};

use crate::legacy::open;
use crate::process::Server;
use crate::request::{MODERN, Request, echo, initialize, legacy, modern, notice, sleep, text, told_sleep};

#[test]
fn what_was_removed_is_gone() {
    let server = Server::start();
    let mut peer = server.connect();
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
    ] {
        let answer = peer.ask(&Request::modern(&modern("a", method, json!({}))));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (404, -32601, &json!("a")), "{method}");
    }
    let mut message = modern(1, "initialize", json!({}));
    for (name, value) in initialize(1, "2025-11-25")["params"].as_object().unwrap() {
        message["params"][name] = value.clone();
    }
    let answer = peer.ask(&Request::modern(&message));
    assert_eq!((answer.status, answer.code(), answer.field("Mcp-Session-Id")), (404, -32601, None));
    // A handshake under a modern header contradicts itself.
    let answer = peer.ask(&Request::post(&initialize(1, "2025-11-25")).with("MCP-Protocol-Version", MODERN));
    assert_eq!((answer.status, answer.code()), (400, -32020));
    assert_eq!(server.total("corelane_sessions_created_total"), 0);
}

#[test]
fn nothing_is_answered_to_what_is_no_request() {
    let server = Server::start();
    let mut peer = server.connect();
    let mut told = notice("notifications/cancelled", json!({"requestId": 1}));
    assert_eq!(peer.ask(&Request::modern(&told)).status, 202, "without a claim");
    told["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
    let answer = peer.ask(&Request::modern(&told));
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    for answer in [json!({"jsonrpc": "2.0", "id": 1, "result": {}}), json!({"jsonrpc": "2.0", "id": 1, "error": {}})] {
        let told = peer.ask(&Request::modern(&answer));
        assert_eq!((told.status, told.code()), (400, -32600), "{answer}");
    }
}

#[test]
fn headers_of_the_legacy_era_mean_nothing() {
    let server = Server::start();
    let request = Request::modern(&modern(1, "tools/call", echo("x")));
    let answer = server.connect().ask(&request.with("Mcp-Session-Id", "nonsense").with("Last-Event-ID", "1-1"));
    assert_eq!((answer.status, answer.field("Mcp-Session-Id")), (200, None));
}

#[test]
fn ids_come_back_as_they_were() {
    let server = Server::start();
    let mut peer = server.connect();
    for id in ["0", "-1", "9007199254740993", "18446744073709551616", "\"\"", "\"\\u00e9\\n\"", "\"1\""] {
        let body = modern(1, "tools/call", echo("x")).to_string().replace("\"id\":1", &format!("\"id\":{id}"));
        let answer = peer.ask(&Request::modern(&modern(1, "tools/call", echo("x"))).body(body));
        assert!(answer.text().contains(&format!("\"id\":{id},")), "{id}: {}", answer.text());
    }
}

#[test]
fn a_closed_stream_is_a_cancelled_call() {
    let server = Server::start();
    for message in [modern(1, "tools/call", sleep(60_000)), modern(1, "tools/call", told_sleep(60_000, 1, "t"))] {
        let mut peer = server.connect();
        peer.send(Request::modern(&message).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        drop(peer);
        server.until_total("corelane_calls_in_flight", 0);
    }
    assert_eq!(server.total("corelane_calls_failed_total"), 2);
    server.until_total("corelane_connections_open", 0);
}

#[test]
fn progress_is_told_on_the_calls_own_stream() {
    let server = Server::start();
    let mut peer = server.connect();
    for round in 0..3 {
        let head = peer.open(&Request::modern(&modern("call", "tools/call", told_sleep(40, 4, "token"))));
        assert_eq!((head.status, head.field("X-Accel-Buffering")), (200, Some("no")), "{round}");
        let mut last = -1.0;
        loop {
            let event = peer.event().expect("a result is the last event");
            assert_eq!((event.id.as_deref(), event.event.as_deref()), (None, Some("message")), "no ids in this era");
            let message = event.json();
            if message.get("result").is_some() {
                assert_eq!((text(&message), &message["id"]), ("slept 40 ms", &json!("call")));
                break;
            }
            assert_eq!(message["params"]["progressToken"], "token");
            let progress = message["params"]["progress"].as_f64().unwrap();
            assert!(progress > last, "it increases");
            last = progress;
        }
        assert_eq!(last, 4.0);
        assert!(peer.block().is_none(), "and then the stream is over, and the connection goes on");
    }
}

/// As PHP's `json_encode` writes every slash, unless it is told not to.
#[test]
fn a_method_is_found_however_its_slash_is_written() {
    let server = Server::start();
    let mut peer = server.connect();
    let escaped = |message: Value| message.to_string().replace('/', r"\/");
    let list = modern(1, "tools/list", json!({}));
    // The header says it plainly.
    let answer = peer.ask(&Request::modern(&list).saying(escaped(list)));
    assert_eq!((answer.status, answer.json()["result"]["tools"].as_array().map(Vec::len)), (200, Some(5)));
    let opening = initialize(1, "2025-11-25").to_string().replace("initialize", r"\u0069nitialize");
    let answer = peer.ask(&Request::post(&json!({})).saying(opening));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let session = answer.field("Mcp-Session-Id").expect("a session").to_owned();
    let mut say = |message: Value| peer.ask(&Request::legacy(&session, &message).saying(escaped(message)));
    assert_eq!(say(notice("notifications/initialized", json!({}))).status, 202);
    let answer = say(legacy(2, "tools/call", echo("a/b")));
    assert_eq!((answer.status, text(&answer.json())), (200, "a/b"));
    assert_eq!(say(legacy(3, "no/such", json!({}))).json()["error"]["code"], -32601);
    let mut lines = server.lines();
    lines.send(format!("{}\n", escaped(modern(4, "tools/call", echo("c/d")))));
    let line = lines.line().expect("an answer");
    assert_eq!(text(&serde_json::from_slice(&line).expect("JSON")), "c/d");
}

#[test]
fn a_token_that_could_not_be_repeated_is_refused_in_each_era() {
    let server = Server::start();
    let mut peer = server.connect();
    let session = open(&mut peer, "2025-11-25");
    for token in [json!(true), json!(null), json!({"a": 1}), json!(["token"])] {
        let mut params = echo("x");
        params["_meta"]["progressToken"] = token.clone();
        let now = peer.ask(&Request::modern(&modern(1, "tools/call", params.clone())));
        let before = peer.ask(&Request::legacy(&session, &legacy(2, "tools/call", params)));
        assert_eq!((now.status, before.status), (200, 200), "{token}");
        for (answer, id) in [(now.json(), 1), (before.json(), 2)] {
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32602), &json!(id)), "{answer}");
        }
    }
}

#[test]
fn whoever_takes_no_stream_gets_none() {
    let server = Server::start();
    let request = Request::modern(&modern(1, "tools/call", told_sleep(20, 2, "token")));
    let answer = server.connect().ask(&request.with("Accept", "application/json"));
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert_eq!(text(&answer.json()), "slept 20 ms");
}

#[test]
fn a_quiet_stream_is_kept_open_by_comments() {
    let server = Server::with(&[("STREAMS_KEEP_ALIVE_MS", "1000")]);
    let mut peer = server.connect();
    // The answer becomes a stream once it is late, so that its head is not.
    peer.open(&Request::modern(&modern(1, "tools/call", sleep(1500))));
    assert!(peer.block().unwrap().comment);
    assert_eq!(text(&peer.event().unwrap().json()), "slept 1500 ms");
    assert!(peer.block().is_none());
}

fn listen(id: Value, wanted: Value) -> Value {
    modern(id, "subscriptions/listen", json!({"notifications": wanted}))
}

fn change(which: &str) -> Request {
    Request::modern(&modern(1, "tools/call", json!({"name": format!("test_trigger_{which}_change"), "arguments": {}})))
}

#[test]
fn subscribers_hear_what_they_asked_for_and_nothing_else() {
    let server = Server::conformance();
    // Two on each core, so that a change has to travel.
    let mut streams = Vec::new();
    for core in 0..2 {
        for (wish, id) in [("toolsListChanged", json!("tools")), ("promptsListChanged", json!(17))] {
            let mut peer = server.connect_on(core);
            peer.open(&Request::modern(&listen(id.clone(), json!({ wish: true, "resourceSubscriptions": [] }))));
            let first = peer.event().unwrap().json();
            assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
            let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
            assert_eq!(first["params"], json!({"_meta": meta, "notifications": { wish: true }}));
            streams.push((peer, meta, wish));
        }
    }
    assert_eq!(server.total("corelane_streams_open"), 4);
    for (core, which) in [(0, "tool"), (1, "tool"), (1, "prompt"), (0, "prompt")] {
        assert_eq!(server.connect_on(core).ask(&change(which)).status, 200);
    }
    for (peer, meta, wish) in &mut streams {
        let method = if *wish == "toolsListChanged" {
            "notifications/tools/list_changed"
        } else {
            "notifications/prompts/list_changed"
        };
        for _ in 0..2 {
            let message = peer.event().unwrap().json();
            assert_eq!((&message["method"], &message["params"]["_meta"]), (&json!(method), &*meta));
            assert_eq!(message.get("id"), None);
        }
    }
    // What comes next on each is its own second round, so nothing else came in between.
    assert_eq!(server.connect().ask(&change("tool")).status, 200);
    assert_eq!(server.connect().ask(&change("prompt")).status, 200);
    for (peer, meta, _) in &mut streams {
        assert_eq!(peer.event().unwrap().json()["params"]["_meta"], *meta);
        assert!(peer.is_silent_for(Duration::from_millis(20)));
    }
    drop(streams);
    server.until_total("corelane_streams_open", 0);
}

#[test]
fn a_server_without_changes_offers_no_stream_for_them() {
    let server = Server::start();
    let answer = server.connect().ask(&Request::modern(&listen(json!(1), json!({"toolsListChanged": true}))));
    assert_eq!((answer.status, answer.code()), (404, -32601));
}

#[test]
fn a_filter_is_needed() {
    let server = Server::conformance();
    let mut peer = server.connect();
    let answer = peer.ask(&Request::modern(&modern(1, "subscriptions/listen", json!({}))));
    assert_eq!(answer.code(), -32602);
    for (wish, said) in [
        (json!({"toolsListChanged": "yes"}), "toolsListChanged has to be true or false"),
        (json!({"toolsListChanged": true, "promptsListChanged": 1}), "promptsListChanged has to be true or false"),
        (json!({"resourcesListChanged": []}), "resourcesListChanged has to be true or false"),
        (json!({"resourceSubscriptions": "a:b"}), "resourceSubscriptions has to be an array of strings"),
        (json!({"resourceSubscriptions": ["a:b", 1]}), "resourceSubscriptions has to be an array of strings"),
        (json!({"taskIds": {}}), "taskIds has to be an array of strings"),
    ] {
        let answer = peer.ask(&Request::modern(&listen(json!("l"), wish)));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (200, -32602, &json!("l")));
        assert!(answer.text().contains(&format!("params.notifications.{said}")), "{}", answer.text());
    }
    let liberal = json!({"toolsListChanged": true, "promptsListChanged": null, "taskIds": null, "else": 1});
    let mut reader = server.connect();
    reader.open(&Request::modern(&listen(json!(1), liberal)));
    assert_eq!(reader.event().unwrap().json()["params"]["notifications"], json!({"toolsListChanged": true}));
    drop(reader);
    server.until_total("corelane_streams_open", 0);
    let wanted = Request::modern(&listen(json!(1), json!({"toolsListChanged": true})));
    assert_eq!(peer.ask(&wanted.with("Accept", "application/json")).status, 406);
    assert_eq!(server.total("corelane_streams_open"), 0);
}

#[test]
fn a_capability_that_is_needed_is_named() {
    let server = Server::conformance();
    let mut message = modern(1, "tools/call", json!({"name": "test_missing_capability", "arguments": {}}));
    let mut peer = server.connect();
    let answer = peer.ask(&Request::modern(&message));
    assert_eq!((answer.status, answer.code()), (400, -32021));
    assert_eq!(answer.json()["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"sampling": {}});
    assert_eq!(peer.ask(&Request::modern(&message)).status, 200);
}

#[test]
fn an_argument_that_stands_in_a_header_has_to_stand_there() {
    let server = Server::conformance();
    let mut peer = server.connect();
    let message = |value: Value| modern(1, "tools/call", json!({"name": "test_custom_header", "arguments": value}));
    let with = message(json!({"value": "w e"}));
    assert_eq!(peer.ask(&Request::modern(&with).with("Mcp-Param-Value", "w e")).status, 200);
    assert_eq!(peer.ask(&Request::modern(&with).with("mcp-param-VALUE", "=?base64?dyBl?=")).status, 200);
    for request in [
        Request::modern(&with),
        Request::modern(&with).with("Mcp-Param-Value", "we"),
        Request::modern(&with).with("Mcp-Param-Value", "=?base64?!?="),
        Request::modern(&with).with("Mcp-Param-Value", "w e").also("Mcp-Param-Value", "w e"),
        Request::modern(&message(json!({}))).with("Mcp-Param-Value", "w e"),
    ] {
        let answer = peer.ask(&request);
        assert_eq!((answer.status, answer.code()), (400, -32020), "{request:?}");
    }
    assert_eq!(
        peer.ask(&Request::modern(&with).with("Mcp-Param-Value", "w e").with("Mcp-Param-Other", "1")).status,
        200
    );
}
