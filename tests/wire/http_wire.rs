//! HTTP/1.1 on the wire: how connections are kept, how bytes are cut, in which order answers come.

use serde_json::{Value, json};

use crate::process::{PATIENCE, Server};
use crate::request::{Request, echo, legacy, modern, sleep, text, told_sleep};

fn call(id: u64, data: &str) -> Request {
    Request::modern(&modern(id, "tools/call", echo(data)))
}

#[test]
fn browsers_are_told_what_they_may_do() {
    let server = Server::start();
    let mut peer = server.connect();
    let origin = "http://localhost:5173";
    for path in ["/mcp", "/sse", "/message"] {
        let preflight = Request::new("OPTIONS", path)
            .with("Origin", origin)
            .with("Access-Control-Request-Method", "POST")
            .with("Access-Control-Request-Headers", "content-type, mcp-protocol-version");
        let answer = peer.ask(&preflight);
        assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (204, Some(origin)), "{path}");
        assert_eq!(answer.field("Access-Control-Allow-Methods"), Some("GET, POST, DELETE, OPTIONS"));
        assert_eq!(answer.field("Vary"), Some("Origin"));
        let allowed = answer.field("Access-Control-Allow-Headers").unwrap();
        for header in ["content-type", "accept", "authorization", "last-event-id", "mcp-session-id", "mcp-method"] {
            assert!(allowed.split(", ").any(|name| name == header), "{header}");
        }
    }
    for request in [call(1, "x"), call(1, "x").with("Accept", "text/html"), Request::new("GET", "/x")] {
        let answer = peer.ask(&request.with("Origin", origin));
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(origin));
        assert_eq!(answer.field("Access-Control-Expose-Headers"), Some("mcp-session-id, www-authenticate"));
    }
    assert_eq!(peer.ask(&call(1, "x")).field("Access-Control-Allow-Origin"), None, "not a browser");
}

#[test]
fn headers_that_are_named_by_a_tool_pass_a_preflight() {
    let server = Server::start();
    let preflight = Request::new("OPTIONS", "/mcp")
        .with("Origin", "http://localhost:1")
        .with("Access-Control-Request-Method", "POST")
        .with("Access-Control-Request-Headers", "mcp-param-region");
    let answer = server.connect().ask(&preflight);
    let allowed = answer.field("Access-Control-Allow-Headers").unwrap();
    assert!(allowed.to_ascii_lowercase().split(", ").any(|name| name == "mcp-param-region"), "{allowed}");
}

#[test]
fn connections_are_kept_or_closed_as_asked() {
    let server = Server::start();
    let mut peer = server.connect();
    for id in 0..5 {
        let answer = peer.ask(&call(id, "x"));
        assert_eq!((answer.status, answer.field("Connection")), (200, None));
    }
    let answer = peer.ask(&call(9, "x").with("Connection", "close"));
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    assert!(peer.ends());
    let mut peer = server.connect();
    assert_eq!(peer.ask(&call(9, "x").with("Connection", "Keep-Alive, CLOSE")).status, 200);
    assert!(peer.ends(), "one of the list");
    // The last answer arrives however long it took.
    let late = Request::modern(&modern(1, "tools/call", sleep(1200))).with("Connection", "close");
    assert_eq!(server.connect().ask(&late).status, 200);
    let mut old = server.connect();
    assert_eq!(old.ask(&call(1, "x").http10()).status, 200);
    assert!(old.ends(), "HTTP/1.0 closes");
    let mut old = server.connect();
    for id in 0..3 {
        let answer = old.ask(&call(id, "x").http10().with("Connection", "keep-alive"));
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("keep-alive")));
    }
    assert_eq!(server.closed("requested"), 4);
}

#[test]
fn an_old_peers_stream_ends_with_its_connection() {
    let server = Server::start();
    let message = modern(1, "tools/call", crate::request::told_sleep(20, 2, "p"));
    let mut peer = server.connect();
    let head = peer.open(&Request::modern(&message).http10().with("Connection", "keep-alive"));
    assert_eq!((head.field("Transfer-Encoding"), head.field("Connection")), (None, Some("close")));
    let messages = peer.rest();
    assert_eq!((messages.len(), text(messages.last().unwrap())), (4, "slept 20 ms"));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = Server::with(&[("LIMITS_KEEP_ALIVE_MS", "1000")]);
    let mut peer = server.connect();
    assert_eq!(peer.ask(&call(1, "x")).status, 200);
    let mut silent = server.connect();
    assert!(peer.ends() && silent.ends());
    assert_eq!(server.closed("keep_alive_timeout"), 2);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut peer = server.connect();
    let mut all = Vec::new();
    for id in 0..40 {
        all.extend(match id {
            3 | 17 => Request::modern(&modern(id, "tools/call", sleep(30))).bytes(),
            9 => Request::new("GET", "/nothing").bytes(),
            20 => call(id, "chunked").chunked(5).bytes(),
            _ => call(id, &format!("number {id}")).bytes(),
        });
    }
    peer.send(&all);
    for id in 0..40u64 {
        let answer = peer.answer();
        if id == 9 {
            assert_eq!(answer.status, 404);
            continue;
        }
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(id)));
    }
    // More than the connection may hold while the first is answered: the rest stays in the kernel, nothing is lost.
    let slow = Request::modern(&modern(0, "tools/call", sleep(50))).bytes();
    let big = "y".repeat(20_000);
    let mut all = slow;
    for id in 1..30 {
        all.extend(call(id, &big).bytes());
    }
    peer.send(&all);
    for id in 0..30u64 {
        assert_eq!(peer.answer().json()["id"], id);
    }
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let server = Server::start();
    let mut peer = server.connect();
    for request in [call(1, "whole é 漢 😀"), call(2, "in chunks").chunked(7)] {
        let bytes = request.bytes();
        // At every boundary once, and then at all of them.
        for cut in 1..bytes.len() {
            peer.send_torn(&bytes, [cut]);
            let answer = peer.answer();
            assert_eq!(answer.status, 200, "cut at {cut}");
        }
        peer.send_torn(&bytes, 1..bytes.len());
        assert_eq!(peer.answer().status, 200);
    }
    // Two requests, cut anywhere, are still two.
    let two = [call(1, "a").bytes(), call(2, "b").chunked(100).bytes()].concat();
    for cut in (1..two.len()).step_by(3) {
        peer.send_torn(&two, [cut]);
        assert_eq!([peer.answer().json()["id"].clone(), peer.answer().json()["id"].clone()], [json!(1), json!(2)]);
    }
}

#[test]
fn a_bad_body_is_the_end_of_its_answer_not_of_its_connection() {
    let server = Server::start();
    let mut peer = server.connect();
    peer.send([call(1, "x").body("{").bytes(), call(2, "x").bytes()].concat());
    assert_eq!((peer.answer().status, peer.answer().status), (400, 200));
}

#[test]
fn what_could_be_read_in_two_ways_ends_the_connection() {
    let server = Server::start();
    let smuggled = call(66, "smuggled").bytes();
    let head = |fields: &str| format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes();
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let attempts = [
        [head(&format!("{length}{chunked}")), b"0\r\n\r\n".to_vec()].concat(),
        [head(&format!("{chunked}{length}")), b"0\r\n\r\n".to_vec()].concat(),
        [head(&format!("{length}Content-Length: 6\r\n")), b"hello".to_vec()].concat(),
        [head(&format!("{length}{length}")), b"hello".to_vec()].concat(),
        [head("Content-Length: 5, 5\r\n"), b"hello".to_vec()].concat(),
        [head("Content-Length: +5\r\n"), b"hello".to_vec()].concat(),
        [head("Content-Length: 0x5\r\n"), b"hello".to_vec()].concat(),
        [head("Content-Length:\r\n"), b"hello".to_vec()].concat(),
        [head("Content-Length : 5\r\n"), b"hello".to_vec()].concat(),
        [head(" Content-Length: 5\r\n"), b"hello".to_vec()].concat(),
        [head("X: y\r\n folded\r\n"), Vec::new()].concat(),
        [head("Transfer-Encoding: xchunked\r\n"), b"0\r\n\r\n".to_vec()].concat(),
        [head("Transfer-Encoding: chunked, identity\r\n"), b"0\r\n\r\n".to_vec()].concat(),
        [head(&format!("{chunked}{chunked}")), b"0\r\n\r\n".to_vec()].concat(),
        [head("Transfer-Encoding:\x0bchunked\r\n"), b"0\r\n\r\n".to_vec()].concat(),
        [head("Host: localhost\r\n"), Vec::new()].concat(),
        [head(chunked), b"5\nhello\r\n0\r\n\r\n".to_vec()].concat(),
        [head(chunked), b"5\r\nhelloX0\r\n\r\n".to_vec()].concat(),
        [head(chunked), b"-1\r\n\r\n".to_vec()].concat(),
        [head(chunked), b"0x5\r\nhello\r\n0\r\n\r\n".to_vec()].concat(),
        [head(chunked), b"fffffffffffffffff\r\n".to_vec()].concat(),
        b"POST /mcp HTTP/1.1\nHost: localhost\n\n".to_vec(),
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_vec(),
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n".to_vec(),
        b"POST http://elsewhere/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    let began = server.total("corelane_calls_started_total");
    for attempt in &attempts {
        let mut peer = server.connect();
        peer.try_send(&[&attempt[..], &smuggled].concat());
        let answer = peer.answer();
        let shown = String::from_utf8_lossy(attempt);
        assert!([400, 413, 501, 505].contains(&answer.status), "{shown:?}: {}", answer.status);
        assert_eq!(answer.field("Connection"), Some("close"), "{shown:?}");
        assert!(peer.ends(), "{shown:?}");
    }
    assert_eq!(server.total("corelane_calls_started_total"), began, "nothing behind them was ever served");
    assert_eq!(server.closed("protocol_error"), attempts.len() as u64);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_either_and_then_cut() {
    let server = Server::on(1, &[("LIMITS_EGRESS_BYTES", "65536"), ("LIMITS_WRITE_STALL_MS", "300")]);
    let mut peer = server.connect();
    let request = call(1, &"z".repeat(50_000)).bytes();
    // The kernel's buffers take some; then nothing moves until the connection is cut.
    let mut sent = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while peer.try_send(&request) {
        sent += 1;
        assert!(sent < 10_000 && std::time::Instant::now() < deadline, "it is read without end");
    }
    assert_eq!(server.closed("write_stall"), 1);
    assert!(server.total("corelane_calls_started_total") <= sent);
    assert_eq!(server.connect().ask(&call(1, "x")).status, 200);
}

#[test]
fn the_deadline_a_caller_names_is_kept() {
    let server = Server::start();
    let mut peer = server.connect();
    let message = modern(3, "tools/call", sleep(60_000));
    let answer = peer.ask(&Request::modern(&message).with("X-Request-Timeout-Ms", "50"));
    assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (504, -31504, &json!(3)));
    assert_eq!(server.refused("deadline_passed"), 1);
    server.until_total("corelane_calls_in_flight", 0);
    assert_eq!(peer.ask(&call(1, "x")).json()["id"], Value::from(1), "the connection goes on");
}

#[test]
fn a_named_deadline_is_kept_by_a_call_that_shows_progress() {
    let server = Server::start();
    let mut peer = server.connect();
    let message = modern(3, "tools/call", told_sleep(60_000, 3_000, "t"));
    peer.open(&Request::modern(&message).with("X-Request-Timeout-Ms", "200"));
    let events: Vec<_> = std::iter::from_fn(|| peer.event()).collect();
    assert!(events.len() > 1, "it told of its progress first");
    assert_eq!(events.last().expect("the outcome").json()["error"]["code"], -31504);
}

#[test]
fn a_deadline_that_is_no_time_is_not_passed_over() {
    let server = Server::start();
    let session = crate::legacy::open(&mut server.connect_on(0), "2025-11-25");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let message = legacy(7, "tools/call", echo("x"));
        for request in [call(7, "x"), Request::legacy(&session, &message)] {
            for wrong in ["abc", "0", "00", "", "-1", "+5", "1.5", "1e3", "5 ms", "0x10"] {
                let answer = peer.ask(&request.clone().with("X-Request-Timeout-Ms", wrong));
                assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32600, &json!(7)), "{wrong}");
                let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                assert!(said.contains(&format!("`{wrong}`")) && said.contains("300000"), "{said}");
            }
            for long in ["1000", "0300001", "18446744073709551616", &"9".repeat(400)] {
                assert_eq!(peer.ask(&request.clone().with("X-Request-Timeout-Ms", long)).status, 200, "{long}");
            }
        }
    }
    assert_eq!(server.refused("bad_request"), 40);
    // Longer than allowed is as long as allowed.
    let server = Server::with(&[("CALLS_TIMEOUT_MS", "40"), ("CALLS_TIMEOUT_MAX_MS", "50")]);
    let message = modern(3, "tools/call", sleep(60_000));
    let answer = server.connect().ask(&Request::modern(&message).with("X-Request-Timeout-Ms", "99999999999999999999"));
    assert_eq!((answer.status, answer.code()), (504, -31504));
}

#[test]
fn a_page_may_read_why_what_it_sent_was_no_request() {
    let limits = [("LIMITS_BODY_BYTES", "2048"), ("LIMITS_HEAD_TIMEOUT_MS", "200"), ("LIMITS_BODY_GRACE_MS", "200")];
    let server = Server::with(&limits);
    for (origin, seen) in [("http://localhost:5173", Some("http://localhost:5173")), ("http://evil.example", None)] {
        let begin = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n");
        for (status, rest) in [
            (413, "Content-Length: 4096\r\n\r\n"),
            (413, "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
            (431, &format!("X: {}\r\n", "x".repeat(200_000))),
            (400, "X : x\r\n\r\n"),
            (408, "X: x"),
            (408, "Content-Length: 100\r\n\r\nx"),
            (408, "Transfer-Encoding: chunked\r\n\r\n5\r\nx"),
        ] {
            let mut peer = server.connect();
            peer.try_send(format!("{begin}{rest}").as_bytes());
            let answer = peer.answer();
            let shown = answer.field("Access-Control-Allow-Origin");
            assert_eq!((answer.status, shown), (status, seen), "{:.40}", rest);
            assert_eq!(answer.field("Vary"), seen.map(|_| "Origin"));
        }
    }
}
