//! Who is not let in, and what it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dialler::{Era, Link, Wire, dial};
use super::{Hall, KEY};
use crate::gateway::reached;
use crate::process::{PATIENCE, until};

/// What comes of these bytes until the connection ends.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // Whoever is refused may find that nobody reads on.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("UTF-8")
}

fn dialled(name: &str, key: &str) -> String {
    let params = json!({"name": name, "key": key});
    json!({"jsonrpc": "2.0", "id": 9, "method": "corelane/dial", "params": params}).to_string() + "\n"
}

fn handshake(address: SocketAddr, more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

#[test]
fn who_does_not_show_the_key_of_a_name_is_told_so_and_let_go() {
    let mut hall = Hall::new("", "timeout_ms = 300");
    let at = hall.address();
    let unknown = "no server that dials in has this name and key";
    let long = dialled("w", &"k".repeat(20_000));
    let cases: [(&str, String, i64, &str); 8] = [
        ("another key", dialled("w", "0123456789abcdef-hunter3"), -31403, unknown),
        ("no key", dialled("w", ""), -31403, unknown),
        ("another name", dialled("v", KEY), -31403, unknown),
        ("garbage", "hello\n".to_owned(), -32700, "neither a line of JSON nor"),
        ("no JSON", "{hello\n".to_owned(), -32700, "no JSON-RPC"),
        ("another method", "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}\n".to_owned(), -32600, "corelane/dial"),
        ("too long", long, -32600, "more than 16384 bytes"),
        ("half a line", dialled("w", KEY).trim_end().to_owned(), -31504, "within 300 ms"),
    ];
    for (what, bytes, code, words) in cases {
        let answer = answer_to(at, bytes.as_bytes());
        let message: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{what}: {error}: {answer}"));
        assert_eq!(message["error"]["code"], code, "{what}: {answer}");
        assert!(answer.contains(words) && !answer.contains("hunter"), "{what}: {answer}");
    }
    let began = Instant::now();
    assert!(answer_to(at, b"").contains("-31504"), "silence has an end");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let text = answer_to(at, b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(text.contains("neither a line of JSON"), "{text}");
    hall.gateway.until_said("it showed another key than \"w\" has");
    hall.gateway.until_said("it gave the name \"v\", which no server has that dials in");
    assert_eq!(hall.gateway.count_said("hunter"), 0, "keys are not logged");
    assert_eq!(hall.gateway.total("corelane_server_connections"), 0);
    let blank = answer_to(at, format!(" \r\n\n{}", dialled("w", "")).as_bytes());
    assert!(blank.contains("-31403"), "lines without anything are none: {blank}");
    let server = dial(at, Wire::Lines, Era::Legacy, "one");
    reached(&hall.gateway, "/mcp/w");
    server.kill();
}

#[test]
fn by_web_socket_it_is_the_same_and_no_web_page_gets_that_far() {
    let hall = Hall::new("", "timeout_ms = 1000");
    let at = hall.address();
    for (name, key) in [("w", "0123456789abcdef-hunter3"), ("v", KEY)] {
        let mut link = Link::connect(at, Wire::WebSocket);
        let answer = link.present(name, key).expect("an answer");
        assert_eq!(answer["error"]["code"], -31403, "{answer}");
        assert_eq!(link.read(), Err(Some(1001)));
    }
    for (what, head, status) in [
        ("a page", handshake(at, "Origin: http://evil.example\r\n"), 403),
        ("a page of this machine", handshake(at, "Origin: http://127.0.0.1:3000\r\n"), 403),
        ("no page at all", handshake(at, "Origin: null\r\n"), 403),
        ("two origins", handshake(at, &format!("Origin: http://{at}\r\nOrigin: http://{at}\r\n")), 403),
        ("another host", handshake(at, "").replace(&format!("Host: {at}"), "Host: evil.example"), 403),
        ("two hosts", handshake(at, &format!("Host: {at}\r\n")), 400),
        ("another version", handshake(at, "").replace("13", "12"), 400),
        ("no handshake", format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n"), 400),
        ("no HTTP", "GET \0\r\n\r\n".to_owned(), 400),
        ("a head without end", handshake(at, &format!("X: {}\r\n", "x".repeat(20_000))), 431),
    ] {
        let answer = answer_to(at, head.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    // Behind a handshake that is right: silence, what is no WebSocket, and a message that is too long.
    let upgraded = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(at).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(handshake(at, &format!("Origin: http://{at}\r\n")).as_bytes()).expect("it reads");
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("the head ends") + 4;
        answer.split_off(end)
    };
    assert_eq!(upgraded(b"\x81\x02{}")[..1], [0x88], "not masked");
    assert_eq!(upgraded(b"\x82\x80\0\0\0\0")[..1], [0x88], "binary");
    let long = [&b"\x81\xfe\x50\x00\0\0\0\0"[..], &[b' '; 0x5000]].concat();
    let closed = upgraded(&long);
    assert_eq!((closed[0], &closed[2..4]), (0x88, &1009_u16.to_be_bytes()[..]), "too long");
    let began = Instant::now();
    upgraded(b"");
    assert!(began.elapsed() >= Duration::from_millis(1000), "silence has an end, and not sooner");
    dial(at, Wire::WebSocket, Era::Legacy, "one").kill();
}

#[test]
fn there_are_no_more_than_there_may_be() {
    let hall = Hall::new("connections = 2", "unknown_max = 3\ntimeout_ms = 60000");
    let at = hall.address();
    let (one, other) = (dial(at, Wire::Lines, Era::Legacy, "one"), dial(at, Wire::WebSocket, Era::Legacy, "other"));
    hall.until_there(2);
    for wire in [Wire::Lines, Wire::WebSocket] {
        let refused = Link::connect(at, wire).present("w", KEY).expect("an answer");
        assert_eq!(refused["error"]["code"], -31503, "{refused}");
        let words = refused["error"]["message"].as_str().expect("words");
        assert!(words.contains("has 2 connections") && words.contains("servers.w.connections"), "{words}");
    }
    one.kill();
    hall.until_there(1);
    let again = until("its place is free", || {
        let mut link = Link::connect(at, Wire::Lines);
        link.present("w", KEY).expect("an answer")["result"].is_object().then_some(link)
    });
    // Of those that say nothing the oldest goes.
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(at).expect("somebody listens"));
    }
    silent[0].set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(silent[0].read(&mut [0; 8]).expect("its end"), 0);
    for stream in &silent[1..] {
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        assert!(stream.peek(&mut [0]).is_err(), "it is still heard");
    }
    // And whoever speaks gets in all the same.
    again.stream().shutdown(Shutdown::Both).expect("connected");
    other.kill();
    hall.until_there(0);
    let third = dial(at, Wire::Lines, Era::Legacy, "third");
    reached(&hall.gateway, "/mcp/w");
    third.kill();
}

#[test]
fn what_breaks_the_rules_later_ends_its_connection_and_no_other() {
    let mut hall = Hall::new("", "");
    let at = hall.address();
    let good = dial(at, Wire::Lines, Era::Legacy, "good");
    reached(&hall.gateway, "/mcp/w");
    for (wire, bytes) in [(Wire::WebSocket, &b"\xf1\x80\0\0\0\0"[..]), (Wire::WebSocket, b"\x82\x80\0\0\0\0")] {
        let mut link = Link::connect(at, wire);
        assert!(link.present("w", KEY).expect("an answer")["result"].is_object());
        let mut stream = link.stream().try_clone().expect("a descriptor");
        stream.write_all(bytes).expect("it reads");
        let farewell = std::iter::repeat_with(|| link.read()).find_map(Result::err).expect("its end");
        assert!(farewell.is_some_and(|code| [1002, 1003].contains(&code)), "{farewell:?}");
    }
    // One that says nothing to its greeting is let go as well, once its time is up.
    let mut link = Link::connect(at, Wire::Lines);
    assert!(link.present("w", KEY).expect("an answer")["result"].is_object());
    link.write(&json!("no message at all"));
    let mut stream = link.stream().try_clone().expect("a descriptor");
    // 17 MiB without a line end are more than any answer has.
    let chunk = vec![b'x'; 1024 * 1024];
    while stream.write_all(&chunk).is_ok() {}
    hall.gateway.until_said("wrote a line of more than");
    hall.until_there(1);
    assert_eq!(crate::request::text(&hall.ask(0, "/mcp/w", &super::call("who"))), "good");
    good.kill();
}
