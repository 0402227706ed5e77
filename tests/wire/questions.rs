//! What a tool asks its caller in the middle of a call: answered from anywhere in the session, by nobody else.

use std::process::Command;

use serde_json::{Value, json};

use crate::legacy::open;
use crate::process::{Server, conformance_program};
use crate::request::{Request, initialize, legacy, notice, text};

fn ask() -> Value {
    legacy(1, "tools/call", json!({"name": "test_elicitation", "arguments": {"message": "Who?"}}))
}

fn accept(id: &Value, name: &str) -> Value {
    let content = json!({"username": name, "email": "a@b"});
    json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": content}})
}

#[test]
fn an_answer_counts_from_any_connection_of_the_session_and_from_no_stranger() {
    let server = Server::conformance();
    for (home, called_on, answered_on) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 1)] {
        let session = open(&mut server.connect_on(home), "2025-11-25");
        let stranger = open(&mut server.connect_on(home), "2025-11-25");
        let mut peer = server.connect_on(called_on);
        peer.open(&Request::legacy(&session, &ask()));
        let question = peer.event().unwrap().json();
        assert_eq!(question["method"], "elicitation/create");
        let id = &question["id"];
        let mut other = server.connect_on(answered_on);
        for (session, answer) in [
            (&stranger, accept(id, "mallory")),
            (&session, accept(&json!("corelane-0-0-0"), "mallory")),
            (&session, accept(&json!(1), "mallory")),
            (&session, accept(&json!(format!("{}0", id.as_str().unwrap())), "mallory")),
        ] {
            if answer["id"] != *id || session == &stranger {
                assert_eq!(other.ask(&Request::legacy(session, &answer)).status, 202);
                let left = server.total("corelane_calls_in_flight");
                assert_eq!(left, 1, "no answer to {question}: {answer}, {home} {called_on} {answered_on}");
            }
        }
        assert_eq!(other.ask(&Request::legacy(&session, &accept(id, "alice"))).status, 202);
        let result = peer.event().unwrap().json();
        assert!(text(&result).contains("alice") && !text(&result).contains("mallory"), "{result}");
        assert!(peer.event().is_none());
        // Once more is once too many.
        assert_eq!(other.ask(&Request::legacy(&session, &accept(id, "bob"))).status, 202);
    }
}

#[test]
fn a_question_outlives_the_connection_it_was_asked_on() {
    let server = Server::conformance();
    for core in 0..2 {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(core);
        peer.open(&Request::legacy(&session, &ask()));
        let primed = peer.primed();
        drop(peer);
        let mut peer = server.connect_on(1 - core);
        peer.open(&Request::stream(&session).with("Last-Event-ID", &primed));
        let question = peer.event().unwrap().json();
        let answer = Request::legacy(&session, &accept(&question["id"], "carol"));
        assert_eq!(server.connect_on(core).ask(&answer).status, 202);
        assert!(text(&peer.event().unwrap().json()).contains("carol"));
    }
}

#[test]
fn a_stream_may_be_ended_before_its_outcome() {
    let server = Server::conformance();
    for core in 0..2 {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(core);
        let call = legacy(1, "tools/call", json!({"name": "test_reconnection", "arguments": {}}));
        peer.open(&Request::legacy(&session, &call));
        let primed = peer.primed();
        assert_eq!(peer.event(), None);
        peer.open(&Request::stream(&session).with("Last-Event-ID", &primed));
        assert_eq!(text(&peer.event().unwrap().json()), "Reconnection test completed");
        assert_eq!(peer.event(), None);
    }
}

#[test]
fn a_question_of_a_call_that_is_cancelled_is_taken_back_on_the_stream_it_was_asked_on() {
    let server = Server::conformance();
    for (home, called_on, cancelled_on) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)] {
        let session = open(&mut server.connect_on(home), "2025-11-25");
        let mut peer = server.connect_on(called_on);
        peer.open(&Request::legacy(&session, &ask()));
        let question = peer.event().unwrap().json();
        assert_eq!(question["method"], "elicitation/create");
        let cancel = notice("notifications/cancelled", json!({"requestId": 1}));
        assert_eq!(server.connect_on(cancelled_on).ask(&Request::legacy(&session, &cancel)).status, 202);
        assert_taken_back(&peer.event().expect("it is taken back").json(), &question);
        assert_eq!(peer.event(), None, "and nothing else: the call is cancelled");
    }
}

#[test]
fn a_question_of_a_call_that_ends_is_taken_back_and_one_that_is_answered_is_not() {
    let server = Server::conformance();
    let session = open(&mut server.connect(), "2025-11-25");
    let mut peer = server.connect();
    peer.open(&Request::legacy(&session, &ask()));
    let question = peer.event().unwrap().json();
    let answer = Request::legacy(&session, &accept(&question["id"], "dave"));
    assert_eq!(server.connect().ask(&answer).status, 202);
    assert!(text(&peer.event().unwrap().json()).contains("dave"));
    assert_eq!(peer.event(), None);
    // The session is ended while its call asks.
    peer.open(&Request::legacy(&session, &ask()));
    let question = peer.event().unwrap().json();
    let delete = Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session);
    assert_eq!(server.connect().ask(&delete).status, 204);
    assert_taken_back(&peer.event().expect("it is taken back").json(), &question);
    assert_eq!(peer.event().expect("an outcome").json()["id"], 1);
}

#[test]
fn a_question_on_lines_is_taken_back_on_them() {
    let mut command = Command::new(conformance_program());
    command.args(["--listen", "127.0.0.1:0", "--cores", "1"]);
    let server = Server::run(command, &[("SERVE_TCP", "127.0.0.1:0")]);
    let mut peer = server.lines();
    let mut opening = initialize(0, "2025-11-25");
    opening["params"]["capabilities"] = json!({"elicitation": {}});
    peer.write_line(&opening);
    assert_eq!(peer.read_line()["id"], 0);
    peer.write_line(&ask());
    let question = peer.read_line();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    peer.write_line(&notice("notifications/cancelled", json!({"requestId": 1})));
    assert_taken_back(&peer.read_line(), &question);
    peer.write_line(&legacy(2, "ping", json!({})));
    assert_eq!(peer.read_line()["id"], 2);
}

fn assert_taken_back(said: &Value, question: &Value) {
    assert_eq!((&said["method"], &said["id"]), (&json!("notifications/cancelled"), &Value::Null), "{said}");
    assert_eq!(said["params"]["requestId"], question["id"], "{said}");
}
