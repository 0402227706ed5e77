//! What legacy servers behind the gateway ask legacy callers: people take longer than tools, and nobody is blamed.
//!
//! Not here: callers of 2026-07-28, who are sent away with a question (`parked`), tools of this process (`questions`).

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::parked::{asked, call_of, legacy_server, parked};
use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, initialize, legacy, notice, text};
use crate::script;
use crate::upstream::{Reply, Upstream};

/// A call of this tool on a stream of its own, whose caller can be asked.
fn begun(gateway: &Server, core: usize, path: &str, tool: &str) -> (Peer, String) {
    let session = open_at(&mut gateway.connect_on(core), "2025-11-25", path);
    (begun_in(gateway, core, path, &session, 7, tool), session)
}

/// The same in a session.
fn begun_in(gateway: &Server, core: usize, path: &str, session: &str, id: u64, tool: &str) -> Peer {
    let mut call = legacy(id, "tools/call", json!({"name": tool, "arguments": {}}));
    call["params"]["_meta"]["progressToken"] = "p".into();
    let mut peer = gateway.connect_on(core);
    peer.send(Request::legacy(session, &call).target(path).bytes());
    peer
}

/// The next message on a call's stream that is no progress.
fn next(peer: &mut Peer) -> Value {
    loop {
        let message = peer.event().expect("the call is not over").json();
        if message["method"] != "notifications/progress" {
            return message;
        }
    }
}

/// The first message on a call's stream, which the server asks.
fn question(peer: &mut Peer) -> Value {
    peer.stream_head();
    let question = next(peer);
    assert_eq!(question["method"], "elicitation/create", "{question}");
    question
}

fn accept(gateway: &Server, path: &str, session: &str, question: &Value) {
    let result = json!({"action": "accept", "content": {"name": "Ada"}});
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
    assert_eq!(gateway.connect_on(0).ask(&Request::legacy(session, &answer).target(path)).status, 202);
}

/// On each core somebody takes longer for an answer than the server behind this path has for a call; what its tool
/// `ask` says then.
pub fn told_late(gateway: &Server, path: &str, longer: Duration) -> Vec<String> {
    let outcome = |core: usize| {
        let (mut peer, session) = begun(gateway, core, path, "ask");
        let question = question(&mut peer);
        std::thread::sleep(longer);
        accept(gateway, path, &session, &question);
        text(&next(&mut peer)).to_owned()
    };
    [0, 1].map(outcome).into()
}

#[test]
fn people_may_take_longer_than_tools() {
    let (address, _told) = legacy_server();
    let gateway = Server::configured(&format!(
        "[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"legacy\"\ntimeout_ms = 1000\n{}",
        script::asking("timeout_ms = 1000\n")
    ));
    for (path, good) in [("/mcp/s", "1 answered, 0 refused"), ("/mcp/c", "answered")] {
        reached(&gateway, path);
        assert_eq!(told_late(&gateway, path, Duration::from_millis(2500)), [good, good], "{path}");
    }
    // Once it has its answer a tool has as long as any other.
    let (mut peer, session) = begun(&gateway, 1, "/mcp/c", "ask_and_hang");
    let question = question(&mut peer);
    accept(&gateway, "/mcp/c", &session, &question);
    let late = next(&mut peer);
    assert_eq!(late["error"]["code"], -31504, "{late}");
}

#[test]
fn an_answer_reaches_a_server_whose_only_connection_is_its_calls() {
    let (address, _told) = legacy_server();
    let gateway = Server::configured(&format!(
        "[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"legacy\"\n\
         connections_per_core = 1\ntimeout_ms = 5000\n"
    ));
    reached(&gateway, "/mcp/s");
    let calls = [0, 0].map(|core| begun(&gateway, core, "/mcp/s", "ask"));
    // The second waits for the connection, which is free once the first has its answer.
    for (mut peer, session) in calls {
        let question = question(&mut peer);
        accept(&gateway, "/mcp/s", &session, &question);
        assert_eq!(text(&next(&mut peer)), "1 answered, 0 refused");
    }
}

#[test]
fn a_tool_is_not_kept_from_others_because_people_are_slow() {
    let (address, _told) = legacy_server();
    let gateway = Server::configured(&format!(
        "[calls]\nask_timeout_ms = 1000\n\
         [servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"legacy\"\ntimeout_ms = 500\n{}",
        script::asking("timeout_ms = 500\n")
    ));
    // One more than a breaker stands, on one core. A child asks while one call is in flight, and no other client while
    // it may be at work on what was given up.
    for (path, together) in [("/mcp/s", 6), ("/mcp/c", 1)] {
        reached(&gateway, path);
        let session = open_at(&mut gateway.connect_on(0), "2025-11-25", path);
        let begun = |id: u64| begun_in(&gateway, 0, path, &session, id, "ask");
        for turn in 0..6 / together {
            let mut peers: Vec<Peer> = (0..together).map(|id| begun(10 * turn + id)).collect();
            for peer in &mut peers {
                let question = question(peer);
                let (taken_back, over) = (next(peer), next(peer));
                assert_eq!(taken_back["params"]["requestId"], question["id"], "{path}: {taken_back}");
                assert_eq!(over["error"]["code"], -31504, "{path}: {over}");
            }
        }
        let mut peer = begun(100);
        let question = question(&mut peer);
        accept(&gateway, path, &session, &question);
        assert!(text(&next(&mut peer)).contains("answered"));
    }
    // Nor because those of 2026-07-28 do not come back.
    (0..6).for_each(|_| drop(parked(&gateway, "/mcp/s", &call_of("ask", json!({})))));
    gateway.until_total("corelane_server_calls_in_flight{server=\"s\"}", 0);
    let again = parked(&gateway, "/mcp/s", &call_of("ask", json!({})));
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "1 answered, 0 refused");
}

#[test]
fn a_child_of_one_session_may_ask_whatever_else_is_under_way_in_it() {
    let gateway = Server::configured(&script::asking("sessions = \"per_session\"\n"));
    reached(&gateway, "/mcp/c");
    for core in 0..2 {
        let session = open_at(&mut gateway.connect_on(core), "2025-11-25", "/mcp/c");
        let in_flight = gateway.total("corelane_server_calls_in_flight");
        let _hangs = begun_in(&gateway, core, "/mcp/c", &session, 1, "hang");
        gateway.until_total("corelane_server_calls_in_flight", in_flight + 1);
        let mut peer = begun_in(&gateway, core, "/mcp/c", &session, 2, "ask");
        let question = question(&mut peer);
        accept(&gateway, "/mcp/c", &session, &question);
        assert_eq!(text(&next(&mut peer)), "answered");
    }
}

#[test]
fn what_a_child_asked_on_the_stream_of_another_call_is_refused_when_that_is_over() {
    let gateway = Server::configured(&script::asking("sessions = \"per_session\"\n"));
    reached(&gateway, "/mcp/c");
    let session = open_at(&mut gateway.connect_on(0), "2025-11-25", "/mcp/c");
    let mut asks = begun_in(&gateway, 0, "/mcp/c", &session, 1, "ask_later");
    gateway.until_total("corelane_server_calls_in_flight", 1);
    let mut carries = begun_in(&gateway, 1, "/mcp/c", &session, 2, "hang");
    question(&mut carries);
    let cancelled = notice("notifications/cancelled", json!({"requestId": 2}));
    let told = gateway.connect_on(0).ask(&Request::legacy(&session, &cancelled).target("/mcp/c"));
    assert_eq!(told.status, 202);
    assert_eq!(text(&asks.answer().json()), "refused");
}

#[test]
fn what_a_child_asks_for_a_call_that_is_over_reaches_no_other_client() {
    let gateway = Server::configured(&script::asking("timeout_ms = 500\n"));
    reached(&gateway, "/mcp/c");
    let in_flight = "corelane_server_calls_in_flight{server=\"c\"}";
    let session = open_at(&mut gateway.connect_on(0), "2025-11-25", "/mcp/c");
    let _cancelled = begun_in(&gateway, 0, "/mcp/c", &session, 7, "ask_later");
    gateway.until_total(in_flight, 1);
    let cancelled = notice("notifications/cancelled", json!({"requestId": 7}));
    assert_eq!(gateway.connect_on(0).ask(&Request::legacy(&session, &cancelled).target("/mcp/c")).status, 202);
    gateway.until_total(in_flight, 0);
    // The child asks now, for the call that was cancelled, and answers that when it is told no.
    let (mut other, others) = begun(&gateway, 1, "/mcp/c", "hang");
    assert_eq!(other.head().field("Content-Type"), Some("application/json"), "it hears nothing but the outcome");
    // Now it may be at work on what the second client gave up: until it has had its time, only that one is asked.
    let refused = begun_in(&gateway, 0, "/mcp/c", &session, 8, "ask").answer();
    assert_eq!(text(&refused.json()), "refused");
    for (core, session, pause) in [(1, &others, 0), (0, &session, 2100)] {
        std::thread::sleep(Duration::from_millis(pause));
        let mut peer = begun_in(&gateway, core, "/mcp/c", session, 9, "ask");
        let question = question(&mut peer);
        accept(&gateway, "/mcp/c", session, &question);
        assert_eq!(text(&next(&mut peer)), "answered");
    }
}

#[test]
fn a_caller_who_walked_away_from_a_question_mutes_no_others() {
    let gateway = Server::configured(&script::asking(""));
    reached(&gateway, "/mcp/c");
    let again = parked(&gateway, "/mcp/c", &call_of("ask", json!({})));
    for core in 0..2 {
        let (mut peer, session) = begun(&gateway, core, "/mcp/c", "ask");
        let question = question(&mut peer);
        accept(&gateway, "/mcp/c", &session, &question);
        assert_eq!(text(&next(&mut peer)), "answered");
    }
    assert_eq!(text(&asked(&gateway, "/mcp/c", &again).json()), "answered");
}

#[test]
fn a_legacy_client_is_asked_nothing_that_it_has_not_said_it_can_answer() {
    let wanted = |method: &str, params: Value| json!({"method": method, "params": params});
    let elicits = wanted("elicitation/create", json!({"message": "?", "requestedSchema": {"type": "object"}}));
    let samples = wanted("sampling/createMessage", json!({"messages": [], "maxTokens": 5}));
    let server = Upstream::start("modern", json!({"tools": {}}), move |heard| match heard.method() {
        "tools/call" => Reply::Result(json!({"resultType": "input_required", "requestState": "s",
            "inputRequests": {"a": elicits, "b": samples}})),
        _ => Reply::Usual,
    });
    let gateway = server.gateway("");
    let mut peer = gateway.connect_on(0);
    let mut first = initialize(1, "2025-11-25");
    first["params"]["capabilities"] = json!({"elicitation": {}});
    let answer = peer.ask(&Request::post(&first).target("/mcp/s"));
    let session = answer.field("Mcp-Session-Id").expect("a session was opened").to_owned();
    let call = legacy(2, "tools/call", json!({"name": "t", "arguments": {}}));
    peer.send(Request::legacy(&session, &call).target("/mcp/s").bytes());
    let head = peer.head();
    assert_eq!(head.field("Content-Type"), Some("application/json"), "nothing is asked, not even what could be");
}
