//! What a server says of its own accord: changed resources, tasks that ended, visits that are done.
//!
//! Not here: changed lists (`modern`, `legacy_streams`).
//! Invariant: what is not to be heard is proved by what comes next, never by waiting.

use serde_json::{Value, json};

use crate::legacy::open;
use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, initialize, legacy, modern, notice};

const WATCHED: &str = "test://watched-resource";

fn tool(id: u64, name: &str) -> Value {
    legacy(id, "tools/call", json!({"name": name, "arguments": {}}))
}

/// Has a core say that the watched resource changed, and then that the tools did.
fn change(server: &Server, core: usize) {
    let mut peer = server.connect_on(core);
    for name in ["test_trigger_resource_update", "test_trigger_tool_change"] {
        let call = modern(1, "tools/call", json!({"name": name, "arguments": {}}));
        assert_eq!(peer.ask(&Request::modern(&call)).status, 200);
    }
}

/// The methods of what comes on a stream, up to the news that the tools changed.
fn heard(stream: &mut Peer) -> Vec<Value> {
    let mut heard = Vec::new();
    loop {
        let message = stream.event().expect("the stream goes on").json();
        if message["method"] == "notifications/tools/list_changed" {
            return heard;
        }
        heard.push(message);
    }
}

#[test]
fn a_session_hears_of_resources_for_as_long_as_it_is_subscribed() {
    let server = Server::conformance();
    let subscription = |id, what| legacy(id, &format!("resources/{what}"), json!({"uri": WATCHED}));
    for version in ["2024-11-05", "2025-03-26", "2025-11-25"] {
        for (subscribed_on, stream_on, changed_on) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)] {
            let session = open(&mut server.connect_on(0), version);
            let bystander = open(&mut server.connect_on(0), version);
            let mut stream = server.connect_on(stream_on);
            stream.open(&Request::stream(&session));
            let mut other = server.connect_on(stream_on);
            other.open(&Request::stream(&bystander));
            let mut peer = server.connect_on(subscribed_on);
            let place = format!("{version}: {subscribed_on}, {stream_on}, {changed_on}");
            change(&server, changed_on);
            assert_eq!(heard(&mut stream), Vec::<Value>::new(), "{place}: not subscribed yet");
            assert_eq!(peer.ask(&Request::legacy(&session, &subscription(1, "subscribe"))).json()["result"], json!({}));
            // Twice is once.
            assert_eq!(peer.ask(&Request::legacy(&session, &subscription(2, "subscribe"))).json()["result"], json!({}));
            change(&server, changed_on);
            let updated = notice("notifications/resources/updated", json!({"uri": WATCHED}));
            assert_eq!(heard(&mut stream), [updated], "{place}");
            peer.ask(&Request::legacy(&session, &subscription(3, "unsubscribe")));
            change(&server, changed_on);
            assert_eq!(heard(&mut stream), Vec::<Value>::new(), "{place}: no longer subscribed");
            for _ in 0..3 {
                assert_eq!(heard(&mut other), Vec::<Value>::new(), "{place}: it never asked");
            }
        }
    }
}

#[test]
fn a_modern_stream_hears_of_the_resources_it_names() {
    let server = Server::conformance();
    for (stream_on, changed_on) in [(0, 0), (0, 1)] {
        let mut stream = server.connect_on(stream_on);
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [WATCHED, "test://nobody", WATCHED]});
        let listen = modern("l", "subscriptions/listen", json!({"notifications": wanted}));
        stream.open(&Request::modern(&listen));
        let acknowledged = stream.event().unwrap().json();
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["notifications"]["resourceSubscriptions"], json!([WATCHED]), "what is there");
        change(&server, changed_on);
        let [message] = &heard(&mut stream)[..] else { panic!("one message") };
        assert_eq!(
            (&message["method"], &message["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!(WATCHED))
        );
        assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    }
}

#[test]
fn a_task_tells_its_session_how_it_stands() {
    let server = Server::conformance();
    for stream_on in 0..2 {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let stranger = open(&mut server.connect_on(0), "2025-11-25");
        let mut stream = server.connect_on(stream_on);
        stream.open(&Request::stream(&session));
        let mut other = server.connect_on(stream_on);
        other.open(&Request::stream(&stranger));
        let params = json!({"name": "slow_compute", "arguments": {"seconds": 0.01}, "task": {"ttl": 60_000}});
        let created = server.connect_on(0).ask(&Request::legacy(&session, &legacy(1, "tools/call", params))).json();
        let told = stream.event().unwrap().json();
        assert_eq!(told["method"], "notifications/tasks/status");
        assert_eq!(told["params"]["taskId"], created["result"]["task"]["taskId"]);
        assert_eq!((&told["params"]["status"], &told["params"]["ttl"]), (&json!("completed"), &json!(60_000)));
        change(&server, 0);
        assert_eq!(heard(&mut other), Vec::<Value>::new(), "nobody else's");
    }
}

#[test]
fn what_is_not_there_cannot_be_subscribed_to() {
    let server = Server::conformance();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let unknown = legacy(1, "resources/subscribe", json!({"uri": "test://nobody"}));
        let answer = peer.ask(&Request::legacy(&session, &unknown));
        assert_eq!((answer.status, answer.code()), (200, -32002));
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        // A resource that a template gives is there; ending what was not begun is no error.
        let templated = legacy(2, "resources/subscribe", json!({"uri": "test://template/7/data"}));
        assert_eq!(peer.ask(&Request::legacy(&session, &templated)).json()["result"], json!({}));
        let unknown = legacy(3, "resources/unsubscribe", json!({"uri": "test://nobody"}));
        assert_eq!(peer.ask(&Request::legacy(&session, &unknown)).json()["result"], json!({}));
    }
}

#[test]
fn a_visit_is_asked_for_by_an_error_and_told_to_be_done() {
    let server = Server::conformance();
    let capabilities = json!({"elicitation": {"form": {}, "url": {}}});
    for (version, knows) in [("2025-11-25", true), ("2025-06-18", false)] {
        let mut hello = initialize(1, version);
        hello["params"]["capabilities"] = capabilities.clone();
        let answer = server.connect_on(0).ask(&Request::post(&hello));
        let session = answer.field("Mcp-Session-Id").expect("a session").to_owned();
        for core in 0..2 {
            let mut peer = server.connect_on(core);
            let answer = peer.ask(&Request::legacy(&session, &tool(2, "test_visit_needed")));
            assert_eq!(answer.status, 200);
            if knows {
                assert_eq!(answer.code(), -32042);
                assert_eq!(answer.json()["error"]["data"]["elicitations"][0]["elicitationId"], "visit-1");
                peer.open(&Request::legacy(&session, &tool(3, "test_visit_complete")));
                let messages = peer.rest();
                let complete = notice("notifications/elicitation/complete", json!({"elicitationId": "visit-1"}));
                assert_eq!((&messages[0], messages[1]["id"].as_u64()), (&complete, Some(3)));
            } else {
                assert_eq!(answer.json()["result"]["isError"], true);
                let answer = peer.ask(&Request::legacy(&session, &tool(3, "test_visit_complete")));
                assert_eq!(answer.json()["id"], 3);
            }
        }
    }
}

#[test]
fn answers_say_how_long_they_may_be_kept() {
    let server = Server::conformance();
    let mut peer = server.connect();
    for (method, params, ttl) in [
        ("server/discover", json!({}), 3_600_000),
        ("tools/list", json!({}), 60_000),
        ("prompts/list", json!({}), 60_000),
        ("resources/list", json!({}), 60_000),
        ("resources/templates/list", json!({}), 60_000),
        ("resources/read", json!({"uri": WATCHED}), 60_000),
    ] {
        let result = peer.ask(&Request::modern(&modern(1, method, params))).json()["result"].clone();
        let hints = (&result["ttlMs"], &result["cacheScope"], &result["resultType"]);
        assert_eq!(hints, (&json!(ttl), &json!("public"), &json!("complete")), "{method}");
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string(), "{method}");
        // Older revisions have none of it.
        if method != "server/discover" {
            let session = open(&mut peer, "2025-11-25");
            let params = if method == "resources/read" { json!({"uri": WATCHED}) } else { json!({}) };
            let result = peer.ask(&Request::legacy(&session, &legacy(1, method, params))).json()["result"].clone();
            assert!(result.get("ttlMs").is_none() && result.get("resultType").is_none(), "{method}: {result}");
        }
    }
}
