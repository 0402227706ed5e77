//! Lines of JSON over TCP and over standard input: both eras, exact ids, every way to cut and to break a line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Server, conformance_program};
use crate::request::{Request, echo, initialize, legacy, modern, notice, sleep, text, told_sleep};

#[test]
fn both_eras_are_spoken() {
    let server = Server::start();
    let mut peer = server.lines();
    peer.write_line(&legacy(0, "tools/call", echo("x")));
    assert_eq!(peer.read_line()["error"]["code"], -32600, "not before initialize");
    peer.write_line(&legacy(1, "ping", json!({})));
    assert_eq!(peer.read_line()["result"], json!({}));
    peer.write_line(&modern(2, "tools/call", echo("modern")));
    assert_eq!(text(&peer.read_line()), "modern");
    peer.write_line(&modern(3, "server/discover", json!({})));
    assert_eq!(peer.read_line()["result"]["supportedVersions"], json!(["2026-07-28"]));
    peer.write_line(&modern(4, "ping", json!({})));
    assert_eq!(peer.read_line()["error"]["code"], -32601);
    peer.write_line(&initialize(5, "2025-06-18"));
    assert_eq!(peer.read_line()["result"]["protocolVersion"], "2025-06-18");
    peer.write_line(&notice("notifications/initialized", json!({})));
    peer.write_line(&legacy(6, "tools/call", told_sleep(10, 1, "t")));
    let messages: Vec<_> = (0..3).map(|_| peer.read_line()).collect();
    assert_eq!(messages[1]["method"], "notifications/progress");
    assert_eq!(text(&messages[2]), "slept 10 ms");
    peer.write_line(&initialize(7, "2025-06-18"));
    assert_eq!(peer.read_line()["error"]["code"], -32600, "once");
    assert_eq!(server.total("corelane_sessions_open"), 1);
    drop(peer);
    server.until_total("corelane_sessions_open", 0);
}

#[test]
fn many_requests_in_one_write_and_ids_to_the_byte() {
    let server = Server::start();
    let mut peer = server.lines();
    let ids = [
        "0",
        "-1",
        "1",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551615",
        "123456789012345678901234567890",
        "\"\"",
        "\"0\"",
        "\"a b\"",
        "\"\\u00e9\"",
        "\"é\"",
        "\"\\\"\\\\\"",
        "\"\\n\"",
        "\"corelane-0-0-0\"",
        "1000000",
    ];
    let bodies: String = ids
        .iter()
        .map(|id| modern(1, "tools/call", echo("x")).to_string().replace("\"id\":1", &format!("\"id\":{id}")) + "\n")
        .collect();
    peer.send(&bodies);
    for id in ids {
        let line = String::from_utf8(peer.line().unwrap()).unwrap();
        assert!(line.contains(&format!("\"id\":{id},")), "{id}: {line}");
    }
    for id in ["null", "1.5", "1e3", "true", "[]", "{}"] {
        peer.send(modern(1, "tools/list", json!({})).to_string().replace("\"id\":1", &format!("\"id\":{id}")) + "\n");
        assert_eq!(peer.read_line()["error"]["code"], -32600, "{id}");
    }
}

#[test]
fn an_id_is_in_flight_once() {
    let server = Server::start();
    let mut peer = server.lines();
    peer.write_line(&modern("same", "tools/call", sleep(100)));
    peer.write_line(&modern("same", "tools/call", sleep(1)));
    let answer = peer.read_line();
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32600), &json!("same")));
    assert_eq!(text(&peer.read_line()), "slept 100 ms");
    peer.write_line(&modern("same", "tools/call", sleep(1)));
    assert_eq!(text(&peer.read_line()), "slept 1 ms", "and free again");
    assert_eq!(server.refused("duplicate_id"), 1);
    // Another client's id is another id.
    let mut other = server.lines();
    peer.write_line(&modern(1, "tools/call", sleep(50)));
    other.write_line(&modern(1, "tools/call", sleep(20)));
    assert_eq!((text(&other.read_line()), text(&peer.read_line())), ("slept 20 ms", "slept 50 ms"));
}

#[test]
fn a_line_may_be_cut_anywhere() {
    let server = Server::start();
    let mut peer = server.lines();
    let line = format!("{}\r\n", modern(1, "tools/call", echo("é 漢 😀")));
    for cut in 1..line.len() {
        peer.send_torn(line.as_bytes(), [cut]);
        assert_eq!(text(&peer.read_line()), "é 漢 😀", "cut at {cut}");
    }
    peer.send_torn(line.as_bytes(), 1..line.len());
    assert_eq!(text(&peer.read_line()), "é 漢 😀");
    // Blank lines say nothing.
    peer.send(format!("\n\r\n \n\n{line}\n \t \r\n\r\r\n  {line}\t"));
    assert_eq!([text(&peer.read_line()), text(&peer.read_line())], ["é 漢 😀"; 2]);
    peer.finish();
    assert_eq!(peer.line(), None, "the last one neither, though it has no end");
}

#[test]
fn lines_that_are_no_messages_are_answered_and_the_next_is_read() {
    let server = Server::start();
    let mut peer = server.lines();
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let broken: [&[u8]; 9] = [
        b"{",
        b"nonsense",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\0b\"}",
        b"\0",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":1,\"method\":\"ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}{}",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        deep.as_bytes(),
    ];
    for line in broken {
        peer.send([line, b"\n"].concat());
        let answer = peer.read_line();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &Value::Null), "{line:?}");
        peer.write_line(&legacy(1, "ping", json!({})));
        assert_eq!(peer.read_line()["result"], json!({}));
    }
    for line in ["1", "\"x\"", "{}", "[]"] {
        peer.send(format!("{line}\n"));
        assert_eq!(peer.read_line()["error"]["code"], -32600, "{line}");
    }
}

#[test]
fn a_line_has_a_length() {
    let server = Server::with(&[("LIMITS_LINE_BYTES", "2048")]);
    let mut peer = server.lines();
    peer.write_line(&modern(1, "tools/call", echo(&"x".repeat(1700))));
    assert_eq!(text(&peer.read_line()).len(), 1700);
    for line in [format!("{}\n", "x".repeat(3000)), "y".repeat(3000)] {
        let mut peer = server.lines();
        peer.write_line(&modern(1, "tools/call", sleep(60_000)));
        peer.try_send(line.as_bytes());
        assert_eq!(peer.read_line()["error"]["code"], -32600);
        assert!(peer.ends(), "there is no telling where the next line begins");
    }
    assert_eq!(server.refused("line_too_large"), 2);
    server.until_total("corelane_calls_in_flight", 0);
}

#[test]
fn a_half_line_is_not_waited_for_for_ever() {
    let server = Server::with(&[("LIMITS_HEAD_TIMEOUT_MS", "150")]);
    let mut peer = server.lines();
    peer.send("{\"jsonrpc\":");
    assert!(peer.read_line().get("error").is_some());
    assert!(peer.ends());
    assert_eq!(server.refused("head_timeout"), 1);
}

#[test]
fn a_half_line_is_not_waited_for_in_a_session_or_beside_a_call_either() {
    let server = Server::with(&[("LIMITS_HEAD_TIMEOUT_MS", "150")]);
    let mut in_session = server.lines();
    in_session.write_line(&initialize(1, "2025-11-25"));
    assert_eq!(in_session.read_line()["id"], 1);
    let mut beside_a_call = server.lines();
    beside_a_call.write_line(&modern(1, "tools/call", sleep(60_000)));
    for peer in [&mut in_session, &mut beside_a_call] {
        peer.send("{\"jsonrpc\":");
        assert_eq!(peer.read_line()["error"]["code"], -32600);
        assert!(peer.ends());
    }
    assert_eq!(server.refused("head_timeout"), 2);
    server.until_total("corelane_calls_in_flight", 0);
    // What is in flight alone takes its time.
    let mut peer = server.lines();
    peer.write_line(&modern(1, "tools/call", sleep(400)));
    assert_eq!(text(&peer.read_line()), "slept 400 ms");
}

#[test]
fn a_line_that_goes_on_coming_is_waited_for() {
    let server = Server::with(&[("LIMITS_HEAD_TIMEOUT_MS", "150"), ("LIMITS_BODY_BYTES_PER_S", "1024")]);
    let mut peer = server.lines();
    let line = format!("{}\n", modern(1, "tools/call", echo(&"x".repeat(4096))));
    for piece in line.as_bytes().chunks(line.len() / 8) {
        peer.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(text(&peer.read_line()).len(), 4096);
}

#[test]
fn whoever_says_that_nothing_follows_still_hears_what_is_in_flight() {
    let server = Server::start();
    let mut peer = server.lines();
    for id in 0..10 {
        peer.write_line(&modern(id, "tools/call", sleep(20 + id)));
    }
    peer.finish();
    let mut ids: Vec<_> = (0..10).map(|_| peer.read_line()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert_eq!(peer.line(), None);
    server.until_total("corelane_connections_open", 0);
}

#[test]
fn the_end_of_the_input_ends_the_last_line_too() {
    let server = Server::start();
    let request = modern("last", "tools/call", sleep(5)).to_string();
    for cut in [0, 1, request.len() / 2] {
        let mut peer = server.lines();
        peer.write_line(&modern(1, "tools/call", echo("first")));
        peer.send_torn(request.as_bytes(), [cut]);
        peer.finish();
        assert_eq!(text(&peer.read_line()), "first");
        assert_eq!(text(&peer.read_line()), "slept 5 ms");
        assert_eq!(peer.line(), None);
    }
    // Half a message is answered as what it is, and nobody waits for the rest.
    let mut peer = server.lines();
    peer.send(&request[..20]);
    peer.finish();
    assert_eq!(peer.read_line()["error"]["code"], -32700);
    assert_eq!(peer.line(), None);
    let mut child = Command::new(conformance_program())
        .arg("--stdio")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("built: cargo build --examples");
    // A stream that is asked for by the last line has nobody to end it but the end of the input.
    let listen = modern("l", "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    write!(child.stdin.take().unwrap(), "{}\n{listen}", modern(1, "server/discover", json!({}))).unwrap();
    let lines: Vec<_> = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn lines_that_had_to_wait_are_answered_after_the_peer_has_finished() {
    let server = Server::with(&[("LIMITS_EGRESS_BYTES", "16384")]);
    // More answers at once than may wait to be sent, so that some lines are still to be taken when the end is seen.
    let mut peer = server.lines();
    let lines: String = (0..60).map(|id| format!("{}\n", modern(id, "tools/call", echo(&"w".repeat(3000))))).collect();
    peer.send(lines);
    peer.finish();
    assert_eq!(std::iter::from_fn(|| peer.line()).count(), 60);
}

#[test]
fn a_call_too_many_is_refused_while_those_in_flight_can_be_cancelled() {
    let server = Server::with(&[("LIMITS_IN_FLIGHT_PER_CONNECTION", "2")]);
    let mut peer = server.lines();
    for id in 1..=3 {
        peer.write_line(&modern(id, "tools/call", sleep(60_000)));
    }
    let refused = peer.read_line();
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-31429), &json!(3)));
    assert_eq!(server.refused("in_flight_full"), 1);
    peer.write_line(&notice("notifications/cancelled", modern(0, "x", json!({"requestId": 1}))["params"].clone()));
    peer.write_line(&modern(3, "tools/call", sleep(1)));
    assert_eq!(text(&peer.read_line()), "slept 1 ms");
    // A batch of an older revision is no way round it.
    let mut peer = server.lines();
    peer.write_line(&initialize(0, "2025-03-26"));
    peer.read_line();
    peer.write_line(&(1..=3).map(|id| legacy(id, "tools/call", sleep(20))).collect());
    let mut codes: Vec<_> = (0..3).map(|_| peer.read_line()["error"]["code"].as_i64()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [None, None, Some(-31429)]);
    // Over HTTP the member that is refused is answered on the batch's stream.
    let session = crate::legacy::open(&mut server.connect_on(0), "2025-03-26");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        peer.open(&Request::legacy(&session, &(1..=3).map(|id| legacy(id, "tools/call", sleep(20))).collect()));
        let messages = peer.rest();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages.iter().any(|message| message["error"]["code"] == -31429 && message["id"] == 3));
    }
}

#[test]
fn a_cancelled_call_is_heard_of_no_more() {
    let server = Server::start();
    let mut peer = server.lines();
    for (call, cancel) in [
        (modern(1, "tools/call", sleep(60_000)), modern(1, "x", json!({"requestId": 1}))),
        (modern("1", "tools/call", sleep(60_000)), modern(1, "x", json!({"requestId": "1"}))),
    ] {
        peer.write_line(&call);
        server.until_total("corelane_calls_in_flight", 1);
        peer.write_line(&notice("notifications/cancelled", cancel["params"].clone()));
        server.until_total("corelane_calls_in_flight", 0);
        assert!(peer.is_silent_for(Duration::from_millis(20)));
    }
    // A connection that goes takes its calls with it.
    peer.write_line(&modern(1, "tools/call", sleep(60_000)));
    server.until_total("corelane_calls_in_flight", 1);
    drop(peer);
    // Half a close alone does not cancel, so the other half is what ends it: the answer cannot be delivered.
    server.until_total("corelane_connections_open", 1);
}

#[test]
fn a_subscription_on_lines_ends_when_it_is_cancelled() {
    let mut child = Command::new(conformance_program())
        .arg("--stdio")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("built: cargo build --examples");
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let listen = modern("l", "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let change = modern(2, "tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}}));
    writeln!(input, "{listen}").unwrap();
    assert_eq!(next()["method"], "notifications/subscriptions/acknowledged");
    writeln!(input, "{listen}").unwrap();
    assert_eq!(next()["error"]["code"], -32600, "the same id a second time");
    writeln!(input, "{change}").unwrap();
    let both = [next(), next()];
    assert!(both.iter().any(|message| message["method"] == "notifications/tools/list_changed"), "{both:?}");
    let mut cancel = notice("notifications/cancelled", modern(0, "x", json!({"requestId": "l"}))["params"].clone());
    cancel["params"].as_object_mut().unwrap().entry("reason").or_insert(json!("enough"));
    writeln!(input, "{cancel}").unwrap();
    writeln!(input, "{change}").unwrap();
    assert_eq!(next()["id"], 2);
    writeln!(input, "{}", modern(3, "server/discover", json!({}))).unwrap();
    assert_eq!(next()["id"], 3, "no change was told in between");
    drop(input);
    assert!(child.wait().unwrap().success(), "the end of the input is the end");
}

/// All that a web page can make a browser send to such a port begins with a request line of HTTP, whose method may be
/// one of its own, or with a handshake of TLS, which holds what a server of the page's gave the browser to hold.
#[test]
fn a_browser_runs_nothing_on_a_port_for_lines() {
    let server = Server::start();
    let call = serde_json::to_string(&modern(1, "tools/call", echo("RUN"))).expect("JSON");
    for first in ["POST / HTTP/1.1", "patch / HTTP/1.1", "1 / HTTP/1.0", "PRI * HTTP/2.0", "\u{16}\u{3}\u{1}\u{2}a"] {
        let mut peer = server.lines();
        let head = "\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Type: text/plain";
        peer.send(format!("{first}{head}\r\nContent-Length: {}\r\n\r\n{call}\n", call.len() + 1));
        let answer = peer.read_line();
        assert_eq!(answer["error"]["code"], -32600, "{first:?}: {answer}");
        assert!(peer.ends(), "and nothing behind it is looked at");
    }
    assert_eq!(server.total("corelane_calls_in_flight"), 0);
}
