//! HTTP+SSE of 2024-11-05: one long stream, and a place to post to.

use std::time::Duration;

use serde_json::json;

use crate::gateway::reached;
use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, modern, notice, sleep, text, told_sleep};

/// Opens the stream; where to post.
fn open(peer: &mut Peer) -> String {
    peer.open(&Request::new("GET", "/sse").with("Accept", "text/event-stream"));
    let first = peer.event().expect("the stream begins with an event");
    assert_eq!(first.event.as_deref(), Some("endpoint"));
    let target = first.data.expect("an address");
    assert!(target.starts_with("/message?sessionId="), "{target}");
    target
}

fn post(peer: &mut Peer, target: &str, message: &serde_json::Value) {
    let answer = peer.ask(&Request::post(message).target(target));
    assert_eq!((answer.status, answer.body.len()), (202, 0));
}

#[test]
fn a_stream_sees_all_servers_whatever_its_connection_asked_for_before() {
    let behind = Server::start();
    let gateway = Server::configured(&format!("[servers.a]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n", behind.http));
    reached(&gateway, "/mcp/a");
    let mut stream = gateway.connect_on(0);
    let unprefixed = stream.ask(&Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/a"));
    assert_eq!(text(&unprefixed.json()), "x");
    let target = open(&mut stream);
    let mut poster = gateway.connect_on(1);
    post(&mut poster, &target, &initialize(2, "2024-11-05"));
    assert_eq!(stream.event().unwrap().json()["id"], 2);
    post(&mut poster, &target, &notice("notifications/initialized", json!({})));
    let mut prefixed = echo("y");
    prefixed["name"] = json!("a_echo");
    post(&mut poster, &target, &legacy(3, "tools/call", prefixed));
    assert_eq!(text(&stream.event().unwrap().json()), "y");
}

#[test]
fn answers_come_on_the_stream_wherever_the_message_was_posted() {
    let server = Server::start();
    for core in 0..2 {
        let (mut stream, mut poster) = (server.connect_on(0), server.connect_on(core));
        let target = open(&mut stream);
        post(&mut poster, &target, &legacy(1, "tools/list", json!({})));
        assert_eq!(stream.event().unwrap().json()["error"]["code"], -32600, "not before initialize");
        post(&mut poster, &target, &initialize(2, "2024-11-05"));
        assert_eq!(stream.event().unwrap().json()["result"]["protocolVersion"], "2024-11-05");
        post(&mut poster, &target, &notice("notifications/initialized", json!({})));
        // Two that take their time and one that does not: the stream goes on after each.
        post(&mut poster, &target, &legacy(3, "tools/call", sleep(60)));
        post(&mut poster, &target, &legacy(4, "tools/call", told_sleep(20, 1, "t")));
        post(&mut poster, &target, &legacy(5, "tools/call", echo("now")));
        let mut results = Vec::new();
        while results.len() < 3 {
            let message = stream.event().unwrap();
            assert_eq!(message.id, None, "nothing can be resumed here");
            let message = message.json();
            if message.get("result").is_some() {
                results.push((message["id"].as_u64().unwrap(), text(&message).to_owned()));
            } else {
                assert_eq!(message["method"], "notifications/progress");
            }
        }
        results.sort_unstable();
        assert_eq!(results.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4, 5]);
        let answer = poster.ask(&Request::post(&legacy(1, "ping", json!({}))).target(&format!("{target}x")));
        assert_eq!(answer.status, 404);
        post(&mut poster, &target, &legacy(6, "ping", json!({})));
        assert_eq!(stream.event().unwrap().json()["id"], 6);
        assert_eq!((server.total("corelane_streams_open"), server.total("corelane_sessions_open")), (1, 1));
        drop(stream);
        server.until_total("corelane_sessions_open", 0);
        server.until_total("corelane_streams_open", 0);
        let answer = poster.ask(&Request::post(&legacy(1, "ping", json!({}))).target(&target));
        assert_eq!((answer.status, answer.code()), (404, -32001), "its stream is gone");
    }
}

#[test]
fn a_cancelled_call_does_not_end_the_stream_whatever_revision_is_spoken() {
    let server = Server::start();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let (mut stream, mut poster) = (server.connect_on(0), server.connect_on(1));
        let target = open(&mut stream);
        post(&mut poster, &target, &initialize(1, version));
        assert_eq!(stream.event().unwrap().json()["result"]["protocolVersion"], version);
        post(&mut poster, &target, &legacy(2, "tools/call", sleep(60_000)));
        server.until_total("corelane_calls_in_flight", 1);
        post(&mut poster, &target, &notice("notifications/cancelled", json!({"requestId": 2})));
        server.until_total("corelane_calls_in_flight", 0);
        post(&mut poster, &target, &legacy(3, "tools/call", sleep(5)));
        let answer = stream.event().expect("the stream goes on").json();
        assert_eq!((text(&answer), &answer["id"]), ("slept 5 ms", &json!(3)), "{version}");
        assert!(stream.is_silent_for(Duration::from_millis(10)));
    }
}

#[test]
fn a_stream_can_be_switched_off() {
    let server = Server::with(&[("SERVE_SSE_ENDPOINT", "")]);
    let answer = server.connect().ask(&Request::new("GET", "/sse").with("Accept", "text/event-stream"));
    assert_eq!(answer.status, 404);
}
