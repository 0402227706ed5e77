//! What servers say where nobody listens any more: on streams of calls that are over, and what is no message at all.
//!
//! Not here: servers that are broken otherwise (`faulty`). Invariant: whatever a server says on a stream reaches the
//! caller whose it is, or nobody, and costs no other caller anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::faulty::answer;
use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern, text};
use crate::script::child;
use crate::upstream::{Heard, listening};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// A server of 2025-11-25; calls and GET streams are the test's to serve.
fn server(
    call: impl Fn(&mut TcpStream, &Value) + Clone + Send + 'static,
    events: impl Fn(&mut TcpStream) + Clone + Send + 'static,
) -> SocketAddr {
    listening(SocketAddr::from(([127, 0, 0, 1], 0)), move |stream, heard: &Heard| {
        if heard.verb == "GET" {
            return events(stream);
        }
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let result = match heard.method() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "strays", "version": "1"}}),
            "tools/list" => json!({"tools": [tool("bad"), tool("good"), tool("typed")]}),
            "tools/call" => return call(stream, &heard.body),
            _ => return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
        };
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": heard.body["id"], "result": result}).to_string());
    })
}

fn gateway(server: SocketAddr, more: &str) -> Server {
    let gateway = Server::configured(&format!(
        "[servers.s]\nkind = \"http\"\nurl = \"http://{server}/mcp\"\nera = \"legacy\"\ntimeout_ms = 5000\n{more}"
    ));
    reached(&gateway, "/mcp/s");
    gateway
}

fn called(gateway: &Server, tool: &str) -> Value {
    let call = modern(1, "tools/call", json!({"name": tool, "arguments": {}}));
    gateway.connect_on(0).ask(&Request::modern(&call).target("/mcp/s")).json()
}

fn done(id: &Value) -> String {
    let result = json!({"content": [{"type": "text", "text": "done"}]});
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// Waits until the other end has closed.
fn until_closed(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
}

#[test]
fn a_stream_whose_call_is_over_reaches_no_later_call() {
    // Two that were let go of.
    let (closed, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&closed);
    let call = move |stream: &mut TcpStream, request: &Value| {
        if request["params"]["name"] == "good" {
            // Long enough for the other to be heard before.
            while count.load(Ordering::SeqCst) == answers.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            answers.fetch_add(1, Ordering::SeqCst);
            return answer(stream, "200 OK", &done(&request["id"]));
        }
        // No message, so the call is over; and then what would be another's.
        let secret = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "emergency", "data": "a secret of the caller of bad"}});
        drop(stream.write_all(format!("{EVENTS}data: {{\"a\":1,\"a\":2}}\n\n").as_bytes()));
        std::thread::sleep(Duration::from_millis(300));
        drop(stream.write_all(format!("data: {secret}\n\n").as_bytes()));
        until_closed(stream);
        count.fetch_add(1, Ordering::SeqCst);
    };
    let gateway = gateway(server(call, |stream| answer(stream, "405 No", "")), "");
    for _ in 0..2 {
        let failed = called(&gateway, "bad");
        assert_eq!(failed["error"]["code"], -31502, "{failed}");
        let mut peer = gateway.connect_on(0);
        let mut call = modern(2, "tools/call", json!({"name": "good", "arguments": {}}));
        call["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = "debug".into();
        let answer = peer.ask(&Request::modern(&call).target("/mcp/s"));
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        assert_eq!(text(&answer.json()), "done");
    }
}

#[test]
fn what_is_asked_on_no_calls_stream_reaches_nobody_where_clients_share_the_session() {
    let (begun, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (calls, said) = (Arc::clone(&begun), Arc::clone(&told));
    let events = move |stream: &mut TcpStream| {
        drop(stream.write_all(EVENTS.as_bytes()));
        while calls.load(Ordering::SeqCst) < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "emergency", "data": "a secret of the caller of bad"}});
        let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create",
            "params": {"message": "a secret question", "requestedSchema": {"type": "object", "properties": {}}}});
        drop(stream.write_all(format!("data: {log}\n\ndata: {question}\n\n").as_bytes()));
        said.fetch_add(1, Ordering::SeqCst);
        until_closed(stream);
    };
    let call = move |stream: &mut TcpStream, request: &Value| {
        begun.fetch_add(1, Ordering::SeqCst);
        // The first one's work goes on behind its answer, and the server asks for it in the midst of the second.
        if request["params"]["name"] == "good" {
            while told.load(Ordering::SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        answer(stream, "200 OK", &done(&request["id"]));
    };
    let gateway = gateway(server(call, events), "");
    for tool in ["bad", "good"] {
        let mut peer = gateway.connect_on(0);
        let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
        let call = legacy(1, "tools/call", json!({"name": tool, "arguments": {}}));
        let heard = peer.ask(&Request::legacy(&session, &call).target("/mcp/s"));
        assert!(!heard.text().contains("secret"), "{}", heard.text());
        assert_eq!(text(&heard.json()), "done");
    }
}

#[test]
fn streams_that_say_what_is_no_message_take_no_connection_from_calls() {
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    let events = move |stream: &mut TcpStream| {
        count.fetch_add(1, Ordering::SeqCst);
        drop(stream.write_all(format!("{EVENTS}data: no message\n\n").as_bytes()));
        until_closed(stream);
        count.fetch_sub(1, Ordering::SeqCst);
    };
    let call = |stream: &mut TcpStream, request: &Value| answer(stream, "200 OK", &done(&request["id"]));
    let gateway = gateway(server(call, events), "connections_per_core = 2");
    // It comes back to such a stream once a second.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(text(&called(&gateway, "good")), "done");
        let streams = open.load(Ordering::SeqCst);
        assert!(streams <= 2, "{streams} streams are open that nobody listens to");
    }
}

#[test]
fn events_of_other_types_are_no_messages() {
    let call = |stream: &mut TcpStream, request: &Value| {
        let text =
            format!("{EVENTS}event: ping\ndata: 2026-11-27\n\nevent: message\ndata: {}\n\n", done(&request["id"]));
        drop(stream.write_all(text.as_bytes()));
    };
    let gateway = gateway(server(call, |stream| answer(stream, "405 No", "")), "");
    assert_eq!(text(&called(&gateway, "typed")), "done");
}

#[test]
fn a_child_that_prints_what_is_no_message_without_end_is_ended_and_says_so() {
    let gateway = Server::configured(&child("python3", "while True: print('no message', flush=True)", ""));
    let said = until("the child is given up", || {
        let said = called_at(&gateway, "/mcp/c");
        said.contains("no messages").then_some(said)
    });
    assert!(said.contains("standard error"), "{said}");
}

fn called_at(gateway: &Server, path: &str) -> String {
    let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
    gateway.connect_on(0).ask(&Request::modern(&call).target(path)).text().to_owned()
}
