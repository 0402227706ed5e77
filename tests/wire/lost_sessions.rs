//! Servers of 2025-11-25 that lose their sessions, or the streams that belong to them.
//!
//! Not here: what is lost on the way (`tried`), servers that answer what nobody understands (`faulty`).
//! Invariant: what a server has taken it is not given again, and whatever it loses is opened again, at a bearable pace.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::faulty::answer;
use crate::gateway::reached;
use crate::process::{Server, until};
use crate::request::{Request, modern};
use crate::upstream::{Heard, listening};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// What a server heard, and whatever a test has it keep in mind.
#[derive(Default)]
struct Memory {
    heard: Vec<Heard>,
    /// The session that it gave last; each has a higher number.
    session: u64,
    /// Those that it knows.
    known: BTreeSet<u64>,
    /// How many more times it answers `initialize` with 503.
    refusals: usize,
}

#[derive(Clone, Default)]
struct Loser(Arc<Mutex<Memory>>);

impl Loser {
    fn with<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.0.lock().expect("nobody panics with it"))
    }

    /// How often it heard something.
    fn count(&self, fits: impl Fn(&Heard) -> bool) -> usize {
        self.with(|memory| memory.heard.iter().filter(|heard| fits(heard)).count())
    }

    /// A gateway before it. `odd` serves what is not to be served as usual, and says so by true.
    fn gateway(&self, odd: impl Fn(&Loser, &mut TcpStream, &Heard) -> bool + Clone + Send + 'static) -> Server {
        let loser = self.clone();
        let address = listening(SocketAddr::from(([127, 0, 0, 1], 0)), move |stream, heard| {
            loser.with(|memory| memory.heard.push(heard.clone()));
            if !odd(&loser, stream, heard) {
                loser.usual(stream, heard);
            }
        });
        let gateway = Server::configured(&format!(
            "[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"legacy\"\ntimeout_ms = 20000\n\
             [gateway]\nlist_ttl_ms = 0\n"
        ));
        reached(&gateway, "/mcp/s");
        gateway
    }

    fn usual(&self, stream: &mut TcpStream, heard: &Heard) {
        let refuse = |stream: &mut TcpStream, status: &str| {
            drop(stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()));
        };
        if heard.verb == "GET" {
            return refuse(stream, "405 No");
        }
        let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
        let result = match heard.method() {
            "initialize" => {
                let (number, is_refused) = self.with(|memory| {
                    memory.session += 1;
                    memory.refusals = memory.refusals.saturating_sub(1);
                    (memory.session, memory.refusals > 0)
                });
                if is_refused {
                    return refuse(stream, "503 No");
                }
                self.with(|memory| memory.known.insert(number));
                let about = json!({"name": "loser", "version": "1"});
                let result =
                    json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about});
                let text = json!({"jsonrpc": "2.0", "id": heard.body["id"], "result": result}).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\nContent-Length: {}\r\n\
                     \r\n",
                    number,
                    text.len()
                );
                return drop(stream.write_all((head + &text).as_bytes()));
            }
            "tools/list" => json!({"tools": [tool]}),
            "tools/call" => json!({"content": [{"type": "text", "text": "done"}]}),
            _ => return refuse(stream, "202 Accepted"),
        };
        let session = heard.field("Mcp-Session-Id").and_then(|session| session.parse().ok());
        if !session.is_some_and(|session| self.with(|memory| memory.known.contains(&session))) {
            return refuse(stream, "404 No");
        }
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": heard.body["id"], "result": result}).to_string());
    }
}

fn called(gateway: &Server) -> Value {
    let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
    gateway.connect_on(0).ask(&Request::modern(&call).target("/mcp/s")).json()
}

fn tools(gateway: &Server) -> usize {
    let list = gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
    list["result"]["tools"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_call_whose_stream_is_taken_up_again_in_vain_is_not_made_again() {
    let loser = Loser::default();
    let gateway = loser.gateway(|_, stream, heard| {
        if heard.verb == "GET" && heard.field("Last-Event-ID").is_some() {
            // As after a restart: it knows neither the stream nor the session.
            drop(stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
            return true;
        }
        if heard.method() != "tools/call" {
            return false;
        }
        drop(stream.write_all(format!("{EVENTS}id: 1\nretry: 10\ndata: \n\n").as_bytes()));
        drop(stream.shutdown(std::net::Shutdown::Both));
        true
    });
    let answer = called(&gateway);
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("lost its session in the midst of the call"), "{answer}");
    assert_eq!(loser.count(|heard| heard.method() == "tools/call"), 1, "it was executed, for all that is known");
    assert_eq!(loser.count(|heard| heard.field("Last-Event-ID").is_some()), 1);
}

#[test]
fn a_session_that_is_lost_is_opened_again_and_the_call_made_once_more_however_the_server_says_so() {
    let text = |message: &str, code: i64| {
        json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": null}).to_string()
    };
    for (status, body) in [
        ("404 Not Found", String::new()),
        ("404 Not Found", text("Session not found", -32001)),
        // As the TypeScript SDK's examples and server-everything have it.
        ("400 Bad Request", text("Bad Request: No valid session ID provided", -32000)),
        ("400 Bad Request", "unknown session".to_owned()),
    ] {
        let loser = Loser::default();
        let gateway = loser.gateway({
            let body = body.clone();
            move |loser, stream, heard| {
                let session = heard.field("Mcp-Session-Id").and_then(|session| session.parse().ok());
                let is_known = session.is_none_or(|session: u64| loser.with(|memory| memory.known.contains(&session)));
                if !is_known {
                    answer(stream, status, &body);
                }
                !is_known
            }
        });
        assert_eq!(called(&gateway)["result"]["content"][0]["text"], "done");
        let before = loser.count(|heard| heard.method() == "tools/call");
        loser.with(|memory| memory.known.clear());
        let answer = called(&gateway);
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{status} {body}: {answer}");
        let calls = loser.count(|heard| heard.method() == "tools/call") - before;
        assert_eq!(calls, 2, "{status} {body}: once in the session that is no more, and once in the next");
    }
}

#[test]
fn a_refusal_of_the_call_itself_is_no_lost_session() {
    let refusal = |heard: &Heard| {
        let error = json!({"code": -32602, "message": "the session of parliament is over"});
        json!({"jsonrpc": "2.0", "id": heard.body["id"], "error": error}).to_string()
    };
    let loser = Loser::default();
    let gateway = loser.gateway(move |_, stream, heard| {
        let is_call = heard.method() == "tools/call";
        if is_call {
            answer(stream, "400 Bad Request", &refusal(heard));
        }
        is_call
    });
    let answer = called(&gateway);
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(loser.count(|heard| heard.method() == "tools/call"), 1);
}

#[test]
fn a_redirect_is_not_followed_and_is_named() {
    let elsewhere = Arc::new(Mutex::new(0));
    let other = listening(SocketAddr::from(([127, 0, 0, 1], 0)), {
        let elsewhere = Arc::clone(&elsewhere);
        move |stream, _| {
            *elsewhere.lock().expect("nobody panics with it") += 1;
            answer(stream, "200 OK", "{}");
        }
    });
    let address = listening(SocketAddr::from(([127, 0, 0, 1], 0)), move |stream, _| {
        let head = format!("HTTP/1.1 307 Elsewhere\r\nLocation: http://{other}/mcp\r\nContent-Length: 0\r\n\r\n");
        drop(stream.write_all(head.as_bytes()));
    });
    let mut gateway = Server::configured(&format!("[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n"));
    gateway.until_said("is not followed");
    let answer = called(&gateway);
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    assert_eq!(
        *elsewhere.lock().expect("nobody panics with it"),
        0,
        "what is sent there is for the server that was named"
    );
}

#[test]
fn a_server_that_knows_no_notifications_is_not_opened_again_and_again() {
    let loser = Loser::default();
    let gateway = loser.gateway(|_, stream, heard| {
        let is_notice = heard.method() == "notifications/initialized";
        if is_notice {
            drop(stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
        }
        is_notice
    });
    for _ in 0..5 {
        assert_eq!(called(&gateway)["result"]["content"][0]["text"], "done");
    }
    until("both cores have told it", || {
        (loser.count(|heard| heard.method() == "notifications/initialized") >= 2).then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    let opened = loser.count(|heard| heard.method() == "initialize");
    assert!(opened <= 4, "{opened} sessions");
}

#[test]
fn a_session_that_could_not_be_opened_again_is_opened_later() {
    let loser = Loser::default();
    let gateway = loser.gateway(|_, _, _| false);
    until("its tools are listed", || (tools(&gateway) == 1).then_some(()));
    // It is another now, and not ready at once.
    loser.with(|memory| {
        memory.known.clear();
        memory.refusals = 3;
    });
    until("it has refused", || {
        tools(&gateway);
        (loser.with(|memory| memory.refusals) == 0).then_some(())
    });
    let seen = |loser: &Loser| loser.count(|heard| heard.method() == "tools/list");
    let before = seen(&loser);
    until("its list is read again", || (seen(&loser) > before).then_some(()));
    until("its tools are told as they are", || {
        let list = gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
        let is_old = list["result"]["_meta"].get("corelane/stale").is_some();
        (!is_old && list["result"]["tools"].as_array().is_some_and(|tools| tools.len() == 1)).then_some(())
    });
}

#[test]
fn a_stream_that_could_not_be_had_at_the_moment_is_asked_for_again() {
    let loser = Loser::default();
    // Of each session.
    let asked = |loser: &Loser, session: Option<&str>| {
        loser.count(|heard| heard.verb == "GET" && heard.field("Mcp-Session-Id") == session)
    };
    let _gateway = loser.gateway(move |loser, stream, heard| {
        if heard.verb != "GET" {
            return false;
        }
        match asked(loser, heard.field("Mcp-Session-Id")) {
            1 => drop(stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")),
            _ => drop(stream.write_all(EVENTS.as_bytes())),
        }
        true
    });
    // Whichever: one core listens for all.
    let sessions = |loser: &Loser| loser.with(|memory| memory.session);
    until("it is asked again", || {
        (1..=sessions(&loser)).any(|session| asked(&loser, Some(&session.to_string())) >= 2).then_some(())
    });
}
