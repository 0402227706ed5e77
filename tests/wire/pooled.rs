//! The connections to a server behind HTTP: what keeps one for long takes none from calls, and goes when nobody needs
//! it any more.

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::reloading::File;
use crate::request::{Request, initialize, legacy, modern, notice, text};
use crate::upstream::{Reply, Upstream};

/// Most sessions of one core with one server.
const SESSIONS_MAX: usize = 32;

fn tools() -> Value {
    json!({"tools": {"listChanged": true}})
}

/// A gateway on one core before a server, behind `/mcp/s`.
fn gateway(upstream: &Upstream, more: &str, variables: &[(&str, &str)]) -> Server {
    let mut file = tempfile::NamedTempFile::new().expect("a place for files");
    file.write_all(upstream.section("s", more).as_bytes()).expect("room for a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--cores", "1"]);
    command.arg("--config").arg(file.path());
    let gateway = Server::run(command, variables);
    until("the server behind the gateway is reached", || {
        let discover = Request::modern(&modern(1, "server/discover", json!({}))).target("/mcp/s");
        (gateway.connect().ask(&discover).status == 200).then_some(())
    });
    gateway
}

/// Opens a session of a client that can do this.
fn open(peer: &mut Peer, capabilities: &Value) -> String {
    let mut first = initialize(1, "2025-11-25");
    first["params"]["capabilities"] = capabilities.clone();
    let answer = peer.ask(&Request::post(&first).target("/mcp/s"));
    let session = answer.field("Mcp-Session-Id").expect("a session was opened").to_owned();
    let ready = notice("notifications/initialized", json!({}));
    assert_eq!(peer.ask(&Request::legacy(&session, &ready).target("/mcp/s")).status, 202);
    session
}

fn call() -> Value {
    json!({"name": "t", "arguments": {}})
}

fn call_in(peer: &mut Peer, session: &str) -> Value {
    peer.ask(&Request::legacy(session, &legacy(7, "tools/call", call())).target("/mcp/s")).json()
}

fn close(peer: &mut Peer, session: &str) {
    let gone = Request::new("DELETE", "/mcp/s").with("Mcp-Session-Id", session);
    assert!(peer.ask(&gone).status < 300);
}

/// Sets of capabilities that are all different.
fn kinds_of_clients() -> Vec<Value> {
    let mut kinds = Vec::new();
    for elicitation in [json!(null), json!({"form": {}}), json!({"url": {}}), json!({"form": {}, "url": {}})] {
        for sampling in [json!(null), json!({}), json!({"tools": {}}), json!({"context": {}})] {
            for roots in [json!(null), json!({}), json!({"listChanged": true})] {
                let mut kind = json!({"elicitation": elicitation, "sampling": sampling, "roots": roots});
                kind.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
                kinds.push(kind);
            }
        }
    }
    kinds
}

#[test]
fn one_connection_is_enough_for_calls_beside_streams() {
    for era in ["legacy", "modern"] {
        let upstream = Upstream::start(era, tools(), |_| Reply::Usual);
        let gateway = gateway(&upstream, "connections_per_core = 1\ntimeout_ms = 5000", &[]);
        // The stream is there first, and stays.
        upstream.until_streams(1);
        let mut peer = gateway.connect();
        for capabilities in [json!({}), json!({"elicitation": {}}), json!({"roots": {}})] {
            let session = open(&mut peer, &capabilities);
            assert_eq!(text(&call_in(&mut peer, &session)), "done", "{era} {capabilities}");
            let answer = peer.ask(&Request::modern(&modern(1, "tools/call", call())).target("/mcp/s"));
            assert_eq!(text(&answer.json()), "done", "{era}");
        }
        upstream.until_streams(if era == "legacy" { 3 } else { 1 });
        assert_eq!(text(&call_in(&mut peer, &open(&mut gateway.connect(), &json!({})))), "done", "{era}");
    }
}

#[test]
fn clients_of_every_kind_come_and_go_and_hold_no_more_than_there_may_be() {
    let upstream = Upstream::start("legacy", tools(), |_| Reply::Usual);
    let gateway = gateway(&upstream, "timeout_ms = 5000", &[]);
    let mut peer = gateway.connect();
    let stays = open(&mut peer, &json!({}));
    assert_eq!(text(&call_in(&mut peer, &stays)), "done");
    let kinds = kinds_of_clients();
    for kind in &kinds {
        let session = open(&mut peer, kind);
        assert_eq!(text(&call_in(&mut peer, &session)), "done", "{kind}");
        close(&mut peer, &session);
    }
    assert_eq!(text(&call_in(&mut peer, &stays)), "done", "nobody else pays for it");
    let opened = upstream.heard("initialize").len();
    assert!(opened > SESSIONS_MAX, "they are of different kinds: {opened}");
    until("the sessions that made room are told over", || {
        (upstream.ended_sessions().len() >= opened - SESSIONS_MAX).then_some(())
    });
    upstream.until_no_more_streams(SESSIONS_MAX);
}

#[test]
fn a_session_that_no_call_needs_any_more_ends_with_its_stream() {
    let upstream = Upstream::start("legacy", tools(), |_| Reply::Usual);
    let gateway = gateway(&upstream, "", &[("SESSIONS_IDLE_MS", "1000")]);
    let mut peer = gateway.connect();
    let session = open(&mut peer, &json!({"elicitation": {}}));
    assert_eq!(text(&call_in(&mut peer, &session)), "done");
    let used = upstream.heard("tools/call")[0].field("Mcp-Session-Id").expect("a session").to_owned();
    until("the server is told", || upstream.ended_sessions().contains(&used).then_some(()));
    // That of the gateway's own requests stays.
    upstream.until_no_more_streams(1);
    assert_eq!(upstream.ended_sessions(), std::slice::from_ref(&used));
    let session = open(&mut peer, &json!({"elicitation": {}}));
    assert_eq!(text(&call_in(&mut peer, &session)), "done");
    let calls = upstream.heard("tools/call");
    assert_ne!(calls.last().expect("the second").field("Mcp-Session-Id"), Some(&*used));
}

#[test]
fn the_stream_of_a_session_that_its_server_forgot_ends_with_it() {
    let known = Arc::new(Mutex::new(Vec::<String>::new()));
    // Each session is good for one call.
    let upstream = Upstream::start("legacy", tools(), move |heard| {
        let Some(session) = heard.field("Mcp-Session-Id").filter(|_| heard.method() == "tools/call") else {
            return Reply::Usual;
        };
        let mut known = known.lock().expect("nobody panics with it");
        match known.iter().any(|one| one == session) {
            true => Reply::Status(404),
            false => {
                known.push(session.to_owned());
                Reply::Usual
            }
        }
    });
    let gateway = gateway(&upstream, "connections_per_core = 4\ntimeout_ms = 5000", &[]);
    let mut peer = gateway.connect();
    let session = open(&mut peer, &json!({"elicitation": {}}));
    for turn in 0..12 {
        assert_eq!(text(&call_in(&mut peer, &session)), "done", "call {turn}");
        // The server may well keep such streams; the gateway has one for each session that it knows.
        upstream.until_streams(2);
    }
    assert!(upstream.heard("initialize").len() >= 12, "it was lost each time");
    upstream.until_no_more_streams(2);
}

#[test]
fn a_call_is_never_taken_for_the_stream_that_its_server_refused() {
    let (is_lost, may_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (lost, go) = (Arc::clone(&is_lost), Arc::clone(&may_go));
    let upstream = Upstream::start("legacy", tools(), move |heard| {
        let which = &heard.params()["arguments"]["which"];
        if heard.verb == "GET" {
            return Reply::Status(405);
        }
        if which == "waits" {
            until("the session is lost", || go.load(Ordering::Relaxed).then_some(()));
        }
        if which == "lost" && !lost.swap(true, Ordering::Relaxed) {
            return Reply::Status(404);
        }
        Reply::Usual
    });
    let gateway = gateway(&upstream, "", &[]);
    let called = |which: &str| json!({"name": "t", "arguments": {"which": which}});
    let send = |which: &str| {
        let mut peer = gateway.connect();
        peer.send(Request::modern(&modern(1, "tools/call", called(which))).target("/mcp/s").bytes());
        peer
    };
    // More than there were requests before: some flight has the number that the stream had.
    let mut waiting: Vec<Peer> = (0..12).map(|_| send("waits")).collect();
    until("all are there", || (upstream.heard("tools/call").len() == 12).then_some(()));
    assert_eq!(text(&send("lost").answer().json()), "done", "in another session");
    assert!(is_lost.load(Ordering::Relaxed));
    may_go.store(true, Ordering::Relaxed);
    for peer in &mut waiting {
        assert_eq!(text(&peer.answer().json()), "done");
    }
}

#[test]
fn a_server_that_knows_no_get_is_asked_for_its_stream_once() {
    for status in [404, 405] {
        let upstream = Upstream::start("legacy", tools(), move |heard| match heard.verb.as_str() {
            "GET" => Reply::Status(status),
            _ => Reply::Usual,
        });
        let gateway = gateway(&upstream, "", &[]);
        let mut peer = gateway.connect();
        let session = open(&mut peer, &json!({}));
        for _ in 0..20 {
            assert_eq!(text(&call_in(&mut peer, &session)), "done");
        }
        let asked = upstream.heard("").iter().filter(|one| one.verb == "GET").count();
        assert_eq!((upstream.heard("initialize").len(), asked), (1, 1), "{status}");
    }
}

#[test]
fn a_server_that_is_taken_out_is_told_that_its_sessions_are_over_once_its_calls_are() {
    let may_go = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&may_go);
    let upstream = Upstream::start("legacy", tools(), move |heard| {
        if heard.params()["arguments"]["which"] == "waits" {
            until("it is taken out", || go.load(Ordering::Relaxed).then_some(()));
        }
        Reply::Usual
    });
    let other = Upstream::start("legacy", tools(), |_| Reply::Usual);
    let file = File::new(&(upstream.section("s", "") + &other.section("o", "")));
    let gateway = Server::by_file(&file.path());
    for path in ["/mcp/s", "/mcp/o"] {
        reached(&gateway, path);
    }
    let mut peer = gateway.connect();
    let session = open(&mut peer, &json!({"elicitation": {}}));
    let waits = legacy(1, "tools/call", json!({"name": "t", "arguments": {"which": "waits"}}));
    peer.send(Request::legacy(&session, &waits).target("/mcp/s").bytes());
    until("it is under way", || (upstream.heard("tools/call").len() == 1).then_some(()));
    let under_way = upstream.heard("tools/call")[0].field("Mcp-Session-Id").expect("a session").to_owned();
    file.write(&other.section("o", ""));
    for core in 0..2 {
        until("the server is gone", || {
            let call = Request::modern(&modern(1, "tools/call", call())).target("/mcp/s");
            (gateway.connect_on(core).ask(&call).status == 404).then_some(())
        });
    }
    assert!(!upstream.ended_sessions().contains(&under_way), "a call is under way in it");
    may_go.store(true, Ordering::Relaxed);
    assert_eq!(text(&peer.answer().json()), "done");
    until("all its sessions are over", || (upstream.ended_sessions() == upstream.opened_sessions()).then_some(()));
    upstream.until_no_more_streams(0);
    assert_eq!(other.ended_sessions(), [""; 0]);
}

#[test]
fn a_drain_tells_servers_that_their_sessions_are_over() {
    let upstream = Upstream::start("legacy", tools(), |_| Reply::Usual);
    let hangs = Upstream::start("legacy", tools(), |heard| {
        if heard.verb == "DELETE" {
            loop {
                std::thread::park();
            }
        }
        Reply::Usual
    });
    let sections =
        [upstream.section("s", ""), upstream.section("own", "sessions = \"per_session\""), hangs.section("hangs", "")];
    let mut gateway = Server::configured(&sections.concat());
    for path in ["/mcp/s", "/mcp/own", "/mcp/hangs"] {
        reached(&gateway, path);
    }
    for capabilities in [json!({}), json!({"elicitation": {}})] {
        let mut peer = gateway.connect();
        let session = open(&mut peer, &capabilities);
        assert_eq!(text(&call_in(&mut peer, &session)), "done");
        let own = crate::legacy::open_at(&mut peer, "2025-11-25", "/mcp/own");
        let call = Request::legacy(&own, &legacy(7, "tools/call", call())).target("/mcp/own");
        assert_eq!(text(&peer.ask(&call).json()), "done");
    }
    gateway.signal("TERM");
    assert!(gateway.wait().success(), "one that does not listen holds nobody up");
    until("all are told", || (upstream.ended_sessions() == upstream.opened_sessions()).then_some(()));
    assert!(upstream.opened_sessions().len() >= 7, "of two cores, two servers, two kinds of clients and two clients");
    until("so is that one", || (hangs.ended_sessions() == hangs.opened_sessions()).then_some(()));
}
