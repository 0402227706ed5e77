//! The same service without each feature that `CORELANE_DISABLE` knows, and without all of them.
//!
//! Not here: what the driver does in each fallback with tiny rings (`uring::tests::fallbacks`).
//! Invariant: the features are those that the program itself names, so that none can be added without this.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::legacy::open;
use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, echo, legacy, modern, sleep, text, told_sleep};

/// More than the clients of a listener's backlog or of a receive's credit, and few enough to be quick.
const CROWD: usize = 200;
const LARGE: usize = 200_000;

/// Every name, from the sentence that refuses a wrong one.
fn names() -> Vec<String> {
    let refusal = corelane::uring::Disabled::parse("nonsense").expect_err("no such feature");
    let list = refusal.split("it may list ").nth(1).expect("the sentence lists them");
    list.split(", ").map(str::to_owned).collect()
}

/// The report names what is off, and nothing that is not.
fn assert_reported(server: &Server, name: &str, off: bool) {
    let steering = server.said("steering:").expect("the report tells of steering");
    let reported = match name {
        "steering" => steering.starts_with("steering: off"),
        _ => server.said(&format!("without {name}")).is_some(),
    };
    assert_eq!(reported, off, "{name}: {steering}");
}

fn served(disabled: &str) {
    let server = Server::with(&[("DISABLE", disabled)]);
    let off: Vec<_> = disabled.split(',').collect();
    for name in names() {
        // What goes with another is off with it.
        let with = match name.as_str() {
            "recv-limit" => "recv-multishot",
            "hand-over" => "msg-ring",
            name => name,
        };
        let is_off = off.contains(&&*name) || off.contains(&with);
        // A kernel may lack these two that has all others.
        if is_off || with == name {
            assert_reported(&server, &name, is_off);
        }
    }
    http(&server);
    sessions(&server);
    lines(&server);
    crowd(&server);
    server.until_total("corelane_connections_open", 0);
    assert_eq!(server.total("corelane_calls_in_flight"), 0);
}

fn http(server: &Server) {
    let large = "x".repeat(LARGE);
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        for round in 0..3 {
            let answer = peer.ask(&Request::modern(&modern(round, "tools/call", echo("http"))));
            assert_eq!((answer.status, text(&answer.json())), (200, "http"));
        }
        let answer = peer.ask(&Request::modern(&modern(3, "tools/call", echo(&large))));
        assert_eq!(text(&answer.json()), large);
        let answer = peer.ask(&Request::modern(&modern(4, "tools/call", echo("c"))).chunked(1));
        assert_eq!(text(&answer.json()), "c");
        // Pipelined: both at once, answered in order.
        let two = [5, 6].map(|id| Request::modern(&modern(id, "tools/call", sleep(5))).bytes()).concat();
        peer.send(two);
        assert_eq!([peer.answer().json()["id"].as_u64(), peer.answer().json()["id"].as_u64()], [Some(5), Some(6)]);
        // Events of a call, then the connection goes on until it is asked to end.
        let mut message = modern(7, "tools/call", told_sleep(10, 2, "t"));
        message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        peer.open(&Request::modern(&message));
        assert_eq!(peer.rest().last().map(text), Some("slept 10 ms"));
        let last = Request::modern(&modern(8, "tools/list", json!({}))).with("Connection", "close");
        assert_eq!(peer.ask(&last).status, 200);
        assert!(peer.ends());
    }
}

fn sessions(server: &Server) {
    for (home, other) in [(0, 0), (0, 1), (1, 0)] {
        let session = open(&mut server.connect_on(home), "2025-11-25");
        let mut stream = server.connect_on(other);
        stream.open(&Request::stream(&session));
        stream.primed();
        let mut peer = server.connect_on(other);
        let answer = peer.ask(&Request::legacy(&session, &legacy(1, "tools/call", echo("legacy"))));
        assert_eq!(text(&answer.json()), "legacy");
        assert_woken(&mut peer, &session);
        peer.open(&Request::legacy(&session, &legacy(2, "tools/call", told_sleep(10, 2, "t"))));
        peer.primed();
        assert_eq!(peer.rest().last().map(text), Some("slept 10 ms"));
        assert_eq!(peer.ask(&Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session)).status, 204);
        assert!(stream.event().is_none(), "the stream ends with its session");
        assert_eq!(peer.ask(&Request::legacy(&session, &legacy(3, "ping", json!({})))).status, 404);
    }
}

/// A core that is not rung out of its sleep answers all the same, once its next timer is due; that is seconds later.
fn assert_woken(peer: &mut Peer, session: &str) {
    let ping = Request::legacy(session, &legacy(9, "ping", json!({})));
    let mut took = [(); 9].map(|()| {
        let start = Instant::now();
        assert_eq!(peer.ask(&ping).status, 200);
        start.elapsed()
    });
    took.sort();
    assert!(took[4] < Duration::from_millis(300), "half of them took longer than {:?}", took[4]);
}

fn lines(server: &Server) {
    let large = "y".repeat(LARGE);
    let mut peer = server.lines();
    // Longer than a loaded machine takes for the other.
    peer.write_line(&modern(1, "tools/call", sleep(300)));
    peer.write_line(&modern(2, "tools/call", echo(&large)));
    assert!(text(&peer.read_line()) == large, "the one that is ready goes first");
    assert_eq!(text(&peer.read_line()), "slept 300 ms");
    // What was asked before the end is answered, then comes the end.
    peer.write_line(&modern(3, "tools/call", sleep(10)));
    peer.finish();
    assert_eq!(text(&peer.read_line()), "slept 10 ms");
    assert!(peer.ends());
}

/// Many at once, some of which leave without a word.
fn crowd(server: &Server) {
    let mut peers: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for (id, peer) in peers.iter_mut().enumerate() {
        peer.send(Request::modern(&modern(id, "tools/call", echo("crowd"))).bytes());
    }
    for (id, mut peer) in peers.into_iter().enumerate() {
        if id % 3 > 0 {
            assert_eq!(peer.answer().json()["id"], id);
        }
    }
}

#[test]
fn each_fallback_serves_as_the_feature_does() {
    let names = names();
    assert!(names.len() >= 5, "{names:?}");
    for name in &names {
        served(name);
    }
}

#[test]
fn all_fallbacks_together_serve_too() {
    served(&names().join(","));
}
