//! The way down: nothing new is taken, what is in flight ends well, and the process ends by itself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::legacy::open;
use crate::process::{PATIENCE, Server, until};
use crate::request::{Request, echo, legacy, modern, sleep, text};

/// A deadline that no test waits for: what ends earlier ended by itself.
const FAR: (&str, &str) = ("SERVE_DRAIN_DEADLINE_MS", "600000");

#[test]
fn idle_connections_go_at_once() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut server = Server::with(&[FAR]);
        let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for peer in &mut peers[..10] {
            assert_eq!(peer.ask(&Request::modern(&modern(1, "tools/call", echo("x")))).status, 200);
        }
        let mut lines = server.lines();
        lines.write_line(&legacy(1, "ping", json!({})));
        lines.read_line();
        server.until_total("corelane_connections_open", 21);
        server.signal(signal);
        assert!(peers.iter_mut().all(|peer| peer.ends()) && lines.line().is_none());
        drop((peers, lines));
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn what_is_in_flight_is_answered() {
    let mut server = Server::with(&[FAR]);
    let session = open(&mut server.connect_on(0), "2025-11-25");
    // Modern over HTTP; legacy on the session's own core and on the other; lines.
    let mut peers = Vec::new();
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        peer.send(Request::modern(&modern(1, "tools/call", sleep(700))).bytes());
        peers.push(peer);
        let mut peer = server.connect_on(core);
        peer.send(Request::legacy(&session, &legacy(core, "tools/call", sleep(700))).bytes());
        peers.push(peer);
    }
    let mut lines = server.lines();
    lines.write_line(&modern(1, "tools/call", sleep(700)));
    server.until_total("corelane_calls_in_flight", 5);
    server.signal("TERM");
    server.until_said("draining");
    // Nothing new is accepted, once the word has come to every core.
    until("the listener is closed", || match crate::peer::Peer::try_connect(server.http) {
        None => Some(()),
        Some(mut peer) => {
            peer.try_send(&Request::modern(&modern(1, "tools/call", echo("x"))).bytes());
            peer.was_refused();
            None
        }
    });
    for peer in &mut peers {
        let answer = peer.answer();
        assert_eq!((answer.status, text(&answer.json())), (200, "slept 700 ms"));
        assert_eq!(answer.field("Connection"), Some("close"), "its client is told that this was the last");
        assert!(peer.ends());
    }
    assert_eq!(text(&lines.read_line()), "slept 700 ms");
    assert_eq!(lines.line(), None);
    drop((peers, lines));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_another_core_answers_is_answered_although_it_has_nothing_else_to_do() {
    for with_progress in [false, true] {
        let mut server = Server::with(&[FAR]);
        let mut first = server.connect_on(0);
        let session = open(&mut first, "2025-11-25");
        drop(first);
        let mut peer = server.connect_on(1);
        let mut params = sleep(700);
        if with_progress {
            params["_meta"] = json!({"progressToken": 1});
        }
        peer.send(Request::legacy(&session, &legacy(1, "tools/call", params)).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        server.until_total("corelane_connections_open", 1);
        let since = Instant::now();
        server.signal("TERM");
        // The first that it says to the other core may also be the last that it says at all.
        let answer = peer.answer();
        let text = String::from_utf8(answer.body.clone()).expect("UTF-8");
        assert!(text.contains("slept 700 ms"), "{text}");
        assert!(peer.ends());
        assert_eq!(server.wait().code(), Some(0));
        // Sessions are swept every five seconds, which is what it would come with if nobody were told.
        assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    }
}

#[test]
fn streams_end_with_what_their_clients_need() {
    let mut server = Server::conformance();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let other = open(&mut server.connect_on(0), "2025-06-18");
    let mut listen = server.connect();
    let wanted = modern("s", "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    listen.open(&Request::modern(&wanted));
    listen.event().unwrap();
    let mut streams = [server.connect_on(0), server.connect_on(1)];
    for (peer, session) in streams.iter_mut().zip([&session, &other]) {
        peer.open(&Request::stream(session));
    }
    streams[0].primed();
    let mut old = server.connect();
    old.open(&Request::new("GET", "/sse").with("Accept", "text/event-stream"));
    old.event().unwrap();
    server.until_total("corelane_streams_open", 4);
    server.signal("TERM");
    let last = listen.event().unwrap().json();
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "s"});
    assert_eq!(last, json!({"jsonrpc": "2.0", "id": "s", "result": {"resultType": "complete", "_meta": meta}}));
    assert_eq!(listen.rest(), Vec::<Value>::new());
    for (core, peer) in streams.iter_mut().enumerate() {
        let last = peer.block().unwrap_or_else(|| panic!("no word before the end on core {core}"));
        assert_eq!((last.retry.as_deref(), last.data), (Some("1000"), None), "core {core}");
        assert_eq!(peer.block(), None);
    }
    assert!(old.block().unwrap().retry.is_some());
    assert_eq!(old.block(), None);
    drop((listen, streams, old));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_drain_needs_nobody_to_read_the_log() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["serve", "--listen", "127.0.0.1:0", "--cores", "2"])
        .env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built with this test");
    let mut report = BufReader::new(child.stderr.take().expect("piped")).lines();
    assert!(report.any(|line| line.expect("UTF-8").trim_start().starts_with("curl")), "it starts");
    assert_eq!(report.next().and_then(Result::ok).as_deref(), Some(""), "the report ends");
    drop(report);
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill(1)").success());
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait().expect("our child") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if ended.is_none() {
        // Fails only if it has ended by now.
        let _ = child.kill();
        let _ = child.wait();
    }
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

/// `corelane stdio`, with a call of so many milliseconds on its way.
fn over_pipes(ms: u64) -> (std::process::Child, impl Iterator<Item = String>) {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .arg("stdio")
        .env("CORELANE_SERVE_DRAIN_DEADLINE_MS", "30000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built with this test");
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // Taken in order: once the second line is answered, the first is in flight.
    let (call, ask) = (modern(1, "tools/call", sleep(ms)), modern(2, "tools/call", echo("x")));
    write!(input, "{call}\n{ask}\n").expect("it reads");
    let answer: Value = serde_json::from_str(&lines.next().expect("an answer")).expect("JSON");
    assert_eq!(answer["id"], 2);
    // Its end is not what ends the process.
    child.stdin = Some(input);
    (child, lines)
}

fn told(child: &std::process::Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill(1)").success());
}

#[test]
fn what_is_in_flight_on_pipes_is_answered() {
    for signal in ["TERM", "INT"] {
        let (mut child, mut lines) = over_pipes(700);
        told(&child, signal);
        let last = lines.next().unwrap_or_else(|| panic!("the answer is lost by SIG{signal}"));
        assert_eq!(text(&serde_json::from_str(&last).expect("JSON")), "slept 700 ms");
        let ended = until("the process ends", || child.try_wait().expect("our child"));
        assert_eq!((ended.code(), lines.next()), (Some(0), None), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_pipes_at_once() {
    let (mut child, mut lines) = over_pipes(20_000);
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    told(&child, "TERM");
    assert!(said.any(|line| line.is_ok_and(|line| line.contains("draining"))), "the first was heard");
    told(&child, "TERM");
    let ended = until("the process ends", || child.try_wait().expect("our child"));
    assert_eq!((ended.code(), lines.next()), (Some(130), None));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::with(&[FAR]);
    let mut peer = server.connect();
    peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).bytes());
    server.until_total("corelane_calls_in_flight", 1);
    server.signal("TERM");
    server.until_said("draining");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn a_drain_has_a_deadline() {
    let mut server = Server::with(&[("SERVE_DRAIN_DEADLINE_MS", "300")]);
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let mut peers = [server.connect_on(0), server.connect_on(1), server.lines()];
    peers[0].send(Request::modern(&modern(1, "tools/call", sleep(60_000))).bytes());
    peers[1].send(Request::legacy(&session, &legacy(1, "tools/call", sleep(60_000))).bytes());
    peers[2].write_line(&modern(1, "tools/call", sleep(60_000)));
    server.until_total("corelane_calls_in_flight", 3);
    server.signal("TERM");
    // Nobody is left without an answer.
    let [modern_http, legacy_http, lines] = &mut peers;
    let answer = modern_http.answer();
    assert_eq!((answer.status, answer.code()), (503, -31503), "{}", answer.text());
    assert!(answer.text().contains("the server is ending"));
    assert_eq!(legacy_http.answer().code(), -31503);
    assert_eq!(lines.read_line()["error"]["code"], -31503);
    assert_eq!(server.wait().code(), Some(0));
    assert!(peers.iter_mut().all(|peer| peer.ends()));
}

#[test]
fn a_balancer_is_told() {
    let mut server = Server::with(&[FAR]);
    let mut peer = server.connect();
    peer.send(Request::modern(&modern(1, "tools/call", sleep(2_000))).bytes());
    server.until_total("corelane_calls_in_flight", 1);
    server.signal("TERM");
    until("it is no longer ready", || {
        let mut control = crate::peer::Peer::try_connect(server.control)?;
        (control.ask(&Request::new("GET", "/readyz")).status == 503).then_some(())
    });
    assert_eq!(peer.answer().status, 200);
    drop(peer);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_killed_server_is_replaced_at_once_and_a_living_one_is_not() {
    let mut server = Server::start();
    for _ in 0..5 {
        let address = server.http;
        // Something for the kernel to end before it lets go of the listeners.
        let mut peers: Vec<_> = (0..50).map(|_| server.connect()).collect();
        assert!(peers.iter_mut().all(|peer| peer.ask(&Request::new("OPTIONS", "/mcp")).status == 204));
        server.signal("KILL");
        server.wait();
        server = Server::at(address);
        assert_eq!(server.connect().ask(&Request::new("OPTIONS", "/mcp")).status, 204);
    }
    let mut second = Command::new(env!("CARGO_BIN_EXE_corelane"));
    second.args(["serve", "--cores", "1", "--listen", &server.http.to_string()]);
    let second = second.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0").output().expect("the program runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use, perhaps by another corelane") && said.contains("ss -ltnp"), "{said}");
    assert_eq!(server.connect().ask(&Request::new("OPTIONS", "/mcp")).status, 204);
}
