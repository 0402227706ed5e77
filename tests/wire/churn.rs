//! Clients come and go in every way there is, thousands of them, and nothing of them stays.
//!
//! Not here: what each of them is told (the other files). Invariant: every guest leaves in the middle of something, or
//! after all is said; a round is the same guests again.

use serde_json::json;

use crate::legacy::open;
use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, modern, sleep};

const ROUNDS: usize = 12;
const GUESTS_OF_EACH_KIND: usize = 25;
/// Less than a hundredth of a guest's memory may stay for each of them: heaps settle, and pages count whole.
const GROWTH_BYTES_MAX: u64 = 1024 * 1024;

/// One guest of each kind.
fn guests(server: &Server) {
    let body = "x".repeat(30_000);
    // Over HTTP, in the modern era: with a call answered, with one in flight.
    server.connect().ask(&Request::modern(&modern(1, "tools/call", echo(&body))));
    server.connect().send(Request::modern(&modern(1, "tools/call", sleep(60_000))).bytes());
    // In the middle of a head, of a body, of a chunk, and after what cannot be read.
    let call = Request::modern(&modern(1, "tools/call", echo(&body)));
    let (whole, head) = (call.bytes(), call.head());
    server.connect().send(&head[..head.len() / 2]);
    server.connect().send(&whole[..whole.len() / 2]);
    let chunked = call.chunked(1000).bytes();
    server.connect().send(&chunked[..chunked.len() / 2]);
    server.connect().send(b"\x16\x03\x01 this is no HTTP \r\n\r\n");
    // In a session: with its stream open and a call in flight that goes on, then deleted from another connection.
    let session = open(&mut server.connect(), "2025-11-25");
    server.connect().open(&Request::stream(&session));
    server.connect().send(Request::legacy(&session, &legacy(2, "tools/call", sleep(20))).bytes());
    let delete = Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session);
    assert_eq!(server.connect().ask(&delete).status, 204);
    // The stream of 2024-11-05, and lines with a call in flight, which is answered all the same, and half of the next.
    server.connect().open(&Request::new("GET", "/sse").with("Accept", "text/event-stream"));
    let mut lines = server.lines();
    lines.write_line(&initialize(1, "2025-11-25"));
    lines.read_line();
    lines.write_line(&legacy(2, "tools/call", sleep(20)));
    lines.send(b"{\"jsonrpc\":\"2.0\",\"id\":");
}

/// Guests who want to hear of changes.
fn listeners(server: &Server) {
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["test://watched-resource"]});
    server.connect().open(&Request::modern(&modern(1, "subscriptions/listen", json!({"notifications": wanted}))));
    let session = open(&mut server.connect(), "2025-11-25");
    server.connect().open(&Request::stream(&session));
    let subscribe = legacy(2, "resources/subscribe", json!({"uri": "test://watched-resource"}));
    assert_eq!(server.connect().ask(&Request::legacy(&session, &subscribe)).status, 200);
    let delete = Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session);
    assert_eq!(server.connect().ask(&delete).status, 204);
}

fn round(server: &Server, guests: fn(&Server)) {
    for _ in 0..GUESTS_OF_EACH_KIND {
        guests(server);
    }
    for gauge in
        ["connections_open", "sessions_open", "calls_in_flight", "streams_open", "buffers_in_use", "sends_in_flight"]
    {
        server.until_total(&format!("corelane_{gauge}"), 0);
    }
}

#[test]
fn of_those_who_left_nothing_stays() {
    come_and_go(&Server::start(), guests);
}

#[test]
fn of_those_who_listened_nothing_stays() {
    come_and_go(&Server::conformance(), listeners);
}

fn come_and_go(server: &Server, guests: fn(&Server)) {
    // Tables and pools grow to what a round needs, and buffers are touched for the first time: over a megabyte in some
    // twenty rounds, and then next to nothing in as many as one likes.
    for _ in 0..2 * ROUNDS {
        round(server, guests);
    }
    let before = server.resident_bytes();
    for _ in 0..ROUNDS {
        round(server, guests);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more after {ROUNDS} rounds");
    let (started, ended) = ("corelane_calls_started_total", ["finished", "failed"]);
    let ended = ended.map(|how| server.total(&format!("corelane_calls_{how}_total")));
    assert_eq!(server.total(started), ended[0] + ended[1], "every call had one end");
}
