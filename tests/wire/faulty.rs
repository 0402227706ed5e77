//! Servers behind the gateway that are broken in every way we could think of: each costs its own callers a typed error
//! in time, and nobody else anything.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::held_up::Host;
use crate::peer::Peer;
use crate::process::{PATIENCE, Server, until};
use crate::request::{Request, echo, modern, text};
use crate::upstream::{Heard, listening};

/// A server of 2025-11-25 that answers the handshake and the list of tools as it should, and calls as it likes: `call`
/// gets the connection and the id of the call.
fn server(call: impl Fn(&mut TcpStream, u64) + Clone + Send + 'static) -> SocketAddr {
    scripted(move |stream, request| serve(stream, request, &call))
}

fn serve(stream: &mut TcpStream, request: &Value, call: &impl Fn(&mut TcpStream, u64)) {
    let id = request["id"].as_u64().unwrap_or_default();
    let result = match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "faulty", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}),
        "tools/call" => return call(stream, id),
        _ => return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
    };
    answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
}

/// A listener whose connections are served by `serve`, one request after the other.
pub fn scripted(serve: impl Fn(&mut TcpStream, &Value) + Clone + Send + 'static) -> SocketAddr {
    scripted_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
}

/// The same at this address.
pub fn scripted_at(address: SocketAddr, serve: impl Fn(&mut TcpStream, &Value) + Clone + Send + 'static) -> SocketAddr {
    listening(address, move |stream, heard| serve(stream, &heard.body))
}

pub fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    // Whoever gave up does not read it.
    let _ = stream.write_all((head + body).as_bytes());
}

/// What a call of the bad server may take, a list of its, and the time until it is reached.
const DEADLINE: Duration = Duration::from_secs(1);
/// What it takes to say so. A machine that does something else is given what it was seen to take from others.
const MARGIN: Duration = Duration::from_millis(500);
/// How many such cases are looked at.
const SAMPLES: usize = 3;

/// A gateway before a good server and one that is broken.
fn gateway(good: &Server, bad: SocketAddr) -> Server {
    Server::configured(&format!(
        "[servers.good]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n\
         [servers.bad]\nkind = \"http\"\nurl = \"http://{bad}/mcp\"\nera = \"legacy\"\ntimeout_ms = {ms}\n\
         list_timeout_ms = {ms}\nconnect_timeout_ms = {ms}\n",
        good.http,
        ms = DEADLINE.as_millis()
    ))
}

fn until_reached(gateway: &Server, name: &str) {
    until("the server is reached", || {
        let discover = Request::modern(&modern(1, "server/discover", json!({}))).target(&format!("/mcp/{name}"));
        (gateway.connect_on(0).ask(&discover).status == 200).then_some(())
    });
}

fn good_answers(gateway: &Server) {
    let call = Request::modern(&modern(2, "tools/call", echo("x"))).target("/mcp/good");
    assert_eq!(text(&gateway.connect_on(0).ask(&call).json()), "x");
}

/// What a caller of the bad server gets.
fn call_bad(gateway: &Server) -> (u16, Value) {
    let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
    let answer = gateway.connect_on(0).ask(&Request::modern(&call).target("/mcp/bad"));
    (answer.status, answer.json())
}

/// What some callers of it get who call at once, and that each of them gets it in their time; not before it, if it is
/// said to be over.
fn call_bad_in_time(what: &str, gateway: &Server) -> (u16, Value) {
    let call = Request::modern(&modern(1, "tools/call", json!({"name": "t", "arguments": {}}))).target("/mcp/bad");
    let mut peers: Vec<Peer> = (0..SAMPLES).map(|_| gateway.connect_on(0)).collect();
    let host = Host::watch();
    let began = Instant::now();
    let answers: Vec<(Duration, u16, Value)> = std::thread::scope(|scope| {
        let ask = |peer| {
            scope.spawn(|| {
                let answer = Peer::ask(peer, &call);
                (began.elapsed(), answer.status, answer.json())
            })
        };
        let asking: Vec<_> = peers.iter_mut().map(ask).collect();
        asking.into_iter().map(|caller| caller.join().expect("an answer")).collect()
    });
    let (_, status, message) = &answers[0];
    for (took, other, answer) in &answers {
        let code = &answer["error"]["code"];
        assert_eq!((other, code), (status, &message["error"]["code"]), "{what}: {answers:?}");
        // The wheel of timers turns by milliseconds.
        assert!(*code != -31504 || *took + Duration::from_millis(50) > DEADLINE, "{what}: too early: {answers:?}");
    }
    in_time(host, what, &answers.iter().map(|(took, ..)| *took).collect::<Vec<_>>());
    (*status, message.clone())
}

/// That each of these was in time.
fn in_time(host: Host, what: &str, took: &[Duration]) {
    assert!(took.len() >= SAMPLES);
    let most = DEADLINE + MARGIN + host.held_up();
    assert!(took.iter().all(|took| *took < most), "{what}: {took:?}, of at most {most:?}");
}

#[test]
fn whatever_a_server_does_to_a_call_its_caller_gets_a_typed_error() {
    type Fault = fn(&mut TcpStream, u64);
    let faults: [(&str, Fault, i64); 13] = [
        ("hangs up", |stream, _| drop(stream.shutdown(std::net::Shutdown::Both)), -31502),
        ("never answers", |_, _| std::thread::sleep(Duration::from_secs(30)), -31504),
        (
            "trickles",
            |stream, _| {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n");
                for _ in 0..60 {
                    std::thread::sleep(Duration::from_millis(200));
                    if stream.write_all(b" ").is_err() {
                        return;
                    }
                }
            },
            -31504,
        ),
        ("says what is no HTTP", |stream, _| drop(stream.write_all(b"\x16\x03\x01 what?\r\n\r\n")), -31502),
        ("says what is no JSON", |stream, _| answer(stream, "200 OK", "<html>"), -31502),
        ("says half a JSON", |stream, _| answer(stream, "200 OK", "{\"jsonrpc\":\"2.0\",\"id\":"), -31502),
        (
            "answers with a page",
            |stream, _| {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
            },
            -31502,
        ),
        ("wants a login", |stream, _| answer(stream, "401 Unauthorized", ""), -31502),
        ("is overloaded", |stream, _| answer(stream, "503 Service Unavailable", ""), -31502),
        (
            "answers with neither",
            |stream, id| answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id}).to_string()),
            -31502,
        ),
        (
            "answers with no object",
            |stream, id| answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": 7}).to_string()),
            -31502,
        ),
        (
            "answers with a notice",
            |stream, _| {
                answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "method": "notifications/x"}).to_string());
            },
            -31502,
        ),
        (
            "ends its stream",
            |stream, _| {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: nothing\n\n",
                );
                let _ = stream.shutdown(std::net::Shutdown::Both);
            },
            -31502,
        ),
    ];
    let good = Server::start();
    for (what, fault, code) in faults {
        let gateway = gateway(&good, server(fault));
        until_reached(&gateway, "good");
        until_reached(&gateway, "bad");
        let (status, message) = call_bad_in_time(what, &gateway);
        assert_eq!(message["error"]["code"], code, "{what}: HTTP {status} {message}");
        assert!(
            message["error"]["message"].as_str().is_some_and(|text| text.contains("server bad")),
            "{what}: {message}"
        );
        good_answers(&gateway);
        gateway.until_total("corelane_calls_in_flight", 0);
    }
}

/// An answer for another id is nobody's.
#[test]
fn an_answer_to_another_call_is_not_taken_for_this_one() {
    let good = Server::start();
    let bad = server(|stream, id| {
        let body = json!({"jsonrpc": "2.0", "id": id + 1000, "result": {"content": []}});
        answer(stream, "200 OK", &body.to_string());
    });
    let gateway = gateway(&good, bad);
    until_reached(&gateway, "bad");
    let (_, message) = call_bad_in_time("an answer to another", &gateway);
    assert_eq!(message["error"]["code"], -31502, "{message}");
    assert!(
        message["error"]["message"].as_str().is_some_and(|text| text.contains("no answer to its request")),
        "{message}"
    );
    gateway.until_total("corelane_calls_in_flight", 0);
}

#[test]
fn a_result_that_is_too_large_fails_and_one_that_is_large_does_not() {
    let good = Server::start();
    // Made beforehand: an unoptimised test takes its time to write so much.
    let sized = |bytes: usize, is_declared: bool| {
        let text = Arc::new("x".repeat(bytes));
        server(move |stream, id| {
            let before = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
            let after = r#""}]}}"#;
            let length = match is_declared {
                true => format!("Content-Length: {}", before.len() + text.len() + after.len()),
                false => "Connection: close".to_owned(),
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}\r\n\r\n");
            // Whoever gave up does not read it.
            let _ = [&*head, &before, &text, after].iter().try_for_each(|part| stream.write_all(part.as_bytes()));
            if !is_declared {
                hang_up(stream);
            }
        })
    };
    // To bear so much takes longer here than a call of a bad server may.
    let patient = |bad: SocketAddr| {
        let section = format!("[servers.bad]\nkind = \"http\"\nurl = \"http://{bad}/mcp\"\nera = \"legacy\"\n");
        let gateway = Server::configured(&section);
        until_reached(&gateway, "bad");
        gateway
    };
    for is_declared in [true, false] {
        let (status, message) = call_bad(&patient(sized(8 << 20, is_declared)));
        assert_eq!((status, text(&message).len()), (200, 8 << 20));
    }
    let refused = |message: Value| {
        assert_eq!(message["error"]["code"], -31502);
        assert!(message["error"]["message"].as_str().unwrap().contains("bytes"), "{message}");
    };
    refused(call_bad(&patient(sized(64 << 20, false))).1);
    // What is declared is refused at once.
    let gateway = gateway(&good, sized(64 << 20, true));
    until_reached(&gateway, "bad");
    refused(call_bad_in_time("too large", &gateway).1);
    good_answers(&gateway);
}

/// A server of 2025-11-25 with tools; `list` gets the connection, the id and the cursor of who asks for them.
fn listing(list: impl Fn(&mut TcpStream, u64, &Value) + Clone + Send + 'static) -> SocketAddr {
    scripted(move |stream, request| {
        let id = request["id"].as_u64().unwrap_or_default();
        match request["method"].as_str().unwrap_or_default() {
            "tools/list" => list(stream, id, &request["params"]["cursor"]),
            "initialize" => {
                let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "faulty", "version": "1"}});
                answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
            }
            _ => drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
        }
    })
}

/// Lists that lead round in circles, are very long, or never come.
#[test]
fn a_list_is_bounded_and_one_that_hangs_costs_its_own_items() {
    let good = Server::start();
    let circle = listing(|stream, id, _| {
        let result = json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "nextCursor": "again"});
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    });
    let long = listing(|stream, id, _| {
        let tools: Vec<Value> =
            (0..10_000).map(|n| json!({"name": format!("t{n}"), "inputSchema": {"type": "object"}})).collect();
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}).to_string());
    });
    let hangs = listing(|_, _, _| std::thread::sleep(Duration::from_secs(30)));
    // Always another cursor: without a pause, with large cursors; and with one, always within the time of one page.
    let endless = |pause: u64, bytes: usize| {
        listing(move |stream, id, _| {
            std::thread::sleep(Duration::from_millis(pause));
            let result = json!({"tools": [], "nextCursor": format!("{id}-{}", "c".repeat(bytes))});
            answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        })
    };
    let (endless, slow) = (endless(0, 20_000), endless(400, 1));
    // Items that strict clients would refuse the whole list for.
    let spoilt = listing(|stream, id, _| {
        let schema = json!({"type": "object"});
        let tools = json!([
            {"name": "t", "inputSchema": schema}, {"name": "u"}, {"name": "v", "inputSchema": 7}, 5,
            {"name": "w", "inputSchema": schema, "description": 5}
        ]);
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}).to_string());
    });
    for (what, bad, fewest, most) in [
        ("circle", circle, 1, 2),
        ("long", long, 10_000, 10_000),
        ("hangs", hangs, 0, 0),
        ("endless", endless, 0, 0),
        ("slow", slow, 0, 0),
        ("spoilt", spoilt, 1, 1),
    ] {
        let gateway = gateway(&good, bad);
        until_reached(&gateway, "good");
        until_reached(&gateway, "bad");
        // Each core reads it for itself; whoever asks after it could not be read waits no more.
        let first = Request::modern(&modern(1, "tools/list", json!({})));
        let timed = |core| {
            let mut peer = gateway.connect_on(core);
            let began = Instant::now();
            assert_eq!(peer.ask(&first).status, 200);
            began.elapsed()
        };
        let host = Host::watch();
        in_time(host, what, &[0, 1, 0].map(timed));
        let all_names = || {
            let (mut names, mut cursor) = (Vec::new(), None);
            loop {
                let params = cursor.map_or(json!({}), |cursor: String| json!({ "cursor": cursor }));
                let page = gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/list", params))).json();
                let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{what}: {page}"));
                names.extend(tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
                cursor = page["result"]["nextCursor"].as_str().map(str::to_owned);
                if cursor.is_none() {
                    return names;
                }
            }
        };
        let of_bad = |names: &[String]| names.iter().filter(|name| name.starts_with("bad_")).count();
        // One that was not read in its time is left out until it was.
        let names = until("what there is of it is listed", || {
            let names = all_names();
            (of_bad(&names) >= fewest).then_some(names)
        });
        assert!(names.iter().any(|name| name == "good_echo"), "{what}: {} names", names.len());
        assert!(of_bad(&names) <= most, "{what}: {}", of_bad(&names));
        assert!(gateway.resident_bytes() < 150 << 20, "{what}: {} bytes", gateway.resident_bytes());
        good_answers(&gateway);
    }
}

/// A refusal that names the request is an answer to it, whatever it speaks of; one that names none may be of a session.
#[test]
fn a_refusal_that_speaks_of_a_session_is_not_the_end_of_ours() {
    for status in ["400 Bad Request", "404 Not Found"] {
        let good = Server::start();
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let bad = server_of_tools(move |stream, id, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            let error = json!({"code": -32602, "message": "no such chat session"});
            answer(stream, status, &json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
        });
        let gateway = gateway(&good, bad);
        until_reached(&gateway, "bad");
        for _ in 0..3 {
            let (_, message) = call_bad(&gateway);
            assert_eq!(message["error"]["code"], -32602, "{message}");
            assert_eq!(message["error"]["message"], "no such chat session");
        }
        assert_eq!(made.load(Ordering::SeqCst), 3, "{status}: each was made once");
    }
}

/// The code that is there for it says so, with the request's id too: corelane answers like that.
#[test]
fn a_session_that_is_said_to_be_gone_by_its_code_is_opened_again() {
    let good = Server::start();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let bad = server_of_tools(move |stream, id, _| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let error = json!({"code": -32001, "message": "Session not found"});
            answer(stream, "404 Not Found", &json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
        }
        _ => {
            let result = json!({"content": [{"type": "text", "text": "found"}]});
            answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        }
    });
    let gateway = gateway(&good, bad);
    until_reached(&gateway, "bad");
    let (_, message) = call_bad(&gateway);
    assert_eq!((text(&message), made.load(Ordering::SeqCst)), ("found", 2));
}

#[test]
fn a_server_that_dies_at_the_handshake_is_tried_again_and_bothers_nobody() {
    let good = Server::start();
    let bad = scripted(|stream, _| drop(stream.shutdown(std::net::Shutdown::Both)));
    let gateway = gateway(&good, bad);
    until_reached(&gateway, "good");
    let (status, message) = call_bad_in_time("dies at the handshake", &gateway);
    assert_eq!((status, &message["error"]["code"]), (502, &json!(-31502)), "{message}");
    until("it was tried again", || (gateway.total("corelane_server_lost_total{server=\"bad\"}") >= 3).then_some(()));
    good_answers(&gateway);
}

/// A server that is there and away in turns, with its connections, until it is to stay.
fn flapping(stays: Arc<AtomicBool>) -> SocketAddr {
    const TURN: Duration = Duration::from_millis(150);
    let mut listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        loop {
            listener.set_nonblocking(true).expect("a socket");
            let (end, mut streams) = (Instant::now() + TURN, Vec::new());
            while stays.load(Ordering::SeqCst) || Instant::now() < end {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).expect("a socket");
                    streams.push(stream.try_clone().expect("a descriptor"));
                    std::thread::spawn(move || {
                        let mut stream = stream;
                        while let Some(request) = Heard::read(&mut stream) {
                            serve(&mut stream, &request.body, &well);
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(listener);
            streams.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
            std::thread::sleep(TURN);
            listener = until("the port is free", || TcpListener::bind(address).ok());
        }
    });
    address
}

#[test]
fn a_server_that_is_there_and_away_in_turns_is_called_or_said_to_be_away_in_time() {
    let good = Server::start();
    let stays = Arc::new(AtomicBool::new(false));
    let gateway = gateway(&good, flapping(Arc::clone(&stays)));
    until_reached(&gateway, "good");
    let call = Request::modern(&modern(1, "tools/call", json!({"name": "t", "arguments": {}}))).target("/mcp/bad");
    let (mut took, mut peer, mut is_well, mut is_away) = (Vec::new(), gateway.connect_on(0), 0, 0);
    let host = Host::watch();
    let end = Instant::now() + PATIENCE;
    // Its breaker opens meanwhile, and closes again.
    while took.len() < 60 || is_well == 0 || is_away == 0 {
        let began = Instant::now();
        let message = peer.ask(&call).json();
        took.push(began.elapsed());
        match message["error"]["code"].as_i64() {
            None => is_well += usize::from(text(&message) == "well"),
            Some(code) => {
                assert!(matches!(code, -31502 | -31503), "{message}");
                assert!(
                    message["error"]["message"].as_str().is_some_and(|text| text.contains("server bad")),
                    "{message}"
                );
                is_away += 1;
            }
        }
        assert_eq!(is_well + is_away, took.len(), "{message}");
        assert!(Instant::now() < end, "{is_well} were answered, {is_away} were not");
        std::thread::sleep(Duration::from_millis(20));
    }
    in_time(host, "in turns", &took);
    good_answers(&gateway);
    stays.store(true, Ordering::SeqCst);
    until("it is found again", || (peer.ask(&call).json()["result"].is_object()).then_some(()));
    gateway.until_total("corelane_calls_in_flight", 0);
}

/// A server of 2025-11-25 with the tools `t`, `u` and `v`, of which `u` says that it only reads; `call` gets the
/// connection, the id and the tool.
fn server_of_tools(call: impl Fn(&mut TcpStream, u64, &str) + Clone + Send + 'static) -> SocketAddr {
    scripted(move |stream, request| {
        let id = request["id"].as_u64().unwrap_or_default();
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "faulty", "version": "1"}}),
            "tools/list" => {
                let tool = |name, reads| {
                    let schema = json!({"type": "object"});
                    json!({"name": name, "inputSchema": schema, "annotations": {"readOnlyHint": reads}})
                };
                json!({"tools": [tool("t", false), tool("u", true), tool("v", false)]})
            }
            "tools/call" => return call(stream, id, request["params"]["name"].as_str().unwrap_or_default()),
            _ => return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
        };
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    })
}

fn well(stream: &mut TcpStream, id: u64) {
    let result = json!({"content": [{"type": "text", "text": "well"}]});
    answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
}

fn hang_up(stream: &mut TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Calls a tool of the bad server, always by the same core.
fn call_tool(gateway: &Server, tool: &str) -> Value {
    let call = modern(1, "tools/call", json!({"name": tool, "arguments": {}}));
    gateway.connect_on(0).ask(&Request::modern(&call).target("/mcp/bad")).json()
}

/// The tools of the bad server were read.
fn until_listed(gateway: &Server) {
    until_reached(gateway, "bad");
    until("its tools are known", || (gateway.total("corelane_server_tools") > 0).then_some(()));
}

#[test]
fn a_tool_that_keeps_failing_is_left_alone_for_a_while_and_its_neighbours_are_not() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let seen = Arc::new(AtomicUsize::new(0));
    let (broken, counted) = (Arc::clone(&is_broken), Arc::clone(&seen));
    let bad = server_of_tools(move |stream, id, tool| {
        counted.fetch_add(usize::from(tool == "t"), Ordering::SeqCst);
        if tool == "t" && broken.load(Ordering::SeqCst) { hang_up(stream) } else { well(stream, id) }
    });
    let good = Server::start();
    let gateway = gateway(&good, bad);
    until_listed(&gateway);
    for _ in 0..5 {
        assert_eq!(call_tool(&gateway, "t")["error"]["code"], -31502);
    }
    // Open for a second at least; whatever is asked before that never reaches it.
    let refused = call_tool(&gateway, "t");
    assert_eq!(refused["error"]["code"], -31503, "{refused}");
    assert!(refused["error"]["message"].as_str().expect("words").contains("calls of t fail at server bad"));
    assert!((1..=1500).contains(&refused["error"]["data"]["retryAfterMs"].as_u64().expect("a time")), "{refused}");
    assert_eq!((seen.load(Ordering::SeqCst), gateway.total("corelane_server_breakers_open")), (5, 1));
    assert_eq!(text(&call_tool(&gateway, "v")), "well");
    good_answers(&gateway);
    is_broken.store(false, Ordering::SeqCst);
    until("it is tried again", || (call_tool(&gateway, "t")["result"].is_object()).then_some(()));
    for _ in 0..3 {
        assert_eq!(text(&call_tool(&gateway, "t")), "well");
    }
    assert_eq!(gateway.total("corelane_server_breakers_open"), 0);
    assert_eq!(gateway.total("corelane_server_breakers_opened_total"), 1);
}

#[test]
fn errors_that_are_answers_leave_the_breaker_alone() {
    let bad = server_of_tools(|stream, id, tool| {
        let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": "no"}}).to_string();
        match tool {
            "t" => answer(stream, "200 OK", &error),
            "u" => answer(stream, "429 Too Many Requests", ""),
            _ => well(stream, id),
        }
    });
    let good = Server::start();
    let gateway = gateway(&good, bad);
    until_listed(&gateway);
    for _ in 0..12 {
        assert_eq!(call_tool(&gateway, "t")["error"]["code"], -32603);
        assert_eq!(call_tool(&gateway, "u")["error"]["code"], -31502);
    }
    assert_eq!(gateway.total("corelane_server_breakers_opened_total"), 0);
}

#[test]
fn a_call_that_was_cut_off_is_sent_again_only_if_its_tool_is_believed_to_bear_it() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    // Of each tool's calls every other one is cut off.
    let bad = server_of_tools(move |stream, id, _| {
        if counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { hang_up(stream) } else { well(stream, id) }
    });
    let section = |trust: bool| {
        format!(
            "[servers.bad]\nkind = \"http\"\nurl = \"http://{bad}/mcp\"\nera = \"legacy\"\n\
             trust_annotations = {trust}\n"
        )
    };
    let (trusting, careful) = (Server::configured(&section(true)), Server::configured(&section(false)));
    for gateway in [&trusting, &careful] {
        until_listed(gateway);
    }
    for round in 0..3 {
        assert_eq!(text(&call_tool(&trusting, "u")), "well", "sent again");
        assert_eq!(seen.load(Ordering::SeqCst), 4 * round + 2);
        assert_eq!(call_tool(&trusting, "t")["error"]["code"], -31502, "it may have been executed");
        assert_eq!(text(&call_tool(&trusting, "t")), "well");
    }
    assert_eq!(trusting.total("corelane_server_retries_total"), 3);
    assert_eq!(call_tool(&careful, "u")["error"]["code"], -31502, "nobody said that it is to be believed");
    assert_eq!(careful.total("corelane_server_retries_total"), 0);
}

/// A child of 2025-11-25 that logs without end once its tools were listed, and writes down how often.
const TALKING: &str = r#"
import json, sys, threading
def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()
def talk():
    log = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}
    lines = (json.dumps({"jsonrpc": "2.0", **log}) + "\n") * 500
    count = 0
    while True:
        sys.stdout.write(lines)
        sys.stdout.flush()
        count += 500
        with open(TOLD, "w") as told:
            told.write(str(count))
# Its tools are asked for more than once: it talks once all the same, so that one count is told.
talker = threading.Thread(target=talk, daemon=True)
for line in sys.stdin:
    request = json.loads(line)
    if request.get("method") == "initialize":
        say({"id": request["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                                             "serverInfo": {"name": "talking", "version": "1"}}})
    elif request.get("method") == "tools/list":
        say({"id": request["id"], "result": {"tools": []}})
        if talker.ident is None:
            talker.start()
"#;

#[test]
fn a_server_that_talks_without_end_is_read_no_faster_than_it_may_talk() {
    let told = tempfile::NamedTempFile::new().expect("a place for files");
    let program = format!("TOLD = \"{}\"\n{TALKING}", told.path().display());
    let gateway = Server::configured(&crate::script::child("python3", &program, ""));
    let count = || std::fs::read_to_string(told.path()).ok().and_then(|count| count.parse::<usize>().ok());
    let list = Request::modern(&modern(1, "tools/list", json!({}))).target("/mcp");
    gateway.connect_on(0).ask(&list);
    // What fills the pipe, and what may be said at once, is said by then.
    talks_no_faster_than_it_may(count, 5_000, || {});
}

/// Looks how long a server takes to say 30,000 times something, once it has said so much; something is done meanwhile.
fn talks_no_faster_than_it_may(count: impl Fn() -> Option<usize>, first: usize, meanwhile: impl FnOnce()) {
    // The time is taken first: this thread may be held up between the two.
    let (since, before) = until("it talks", || {
        let now = Instant::now();
        count().filter(|count| *count > first).map(|count| (now, count))
    });
    meanwhile();
    until("it talks on", || count().filter(|count| *count >= before + 30_000));
    assert!(since.elapsed() >= Duration::from_secs(1), "20,000 a second: {:?}", since.elapsed());
}

#[test]
fn a_stream_that_talks_without_end_is_read_no_faster_and_keeps_no_other_from_being_read() {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&told);
    let bad = server_of_tools(move |stream, id, tool| {
        if tool == "u" {
            return well(stream, id);
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let log = json!({"level": "info", "data": "x".repeat(1024)});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": log});
        let events = format!("data: {log}\n\n").repeat(100);
        let mut is_read = stream.write_all(head).is_ok();
        while is_read {
            is_read = stream.write_all(events.as_bytes()).is_ok();
            counted.fetch_add(100, Ordering::SeqCst);
        }
    });
    let gateway =
        Server::configured(&format!("[servers.bad]\nkind = \"http\"\nurl = \"http://{bad}/mcp\"\nera = \"legacy\"\n"));
    until_reached(&gateway, "bad");
    let mut peer = gateway.connect_on(0);
    let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
    peer.send(Request::modern(&call).target("/mcp/bad").bytes());
    // What fits between the two, and what may be said at once, is said by then.
    let is_read = || assert_eq!(text(&call_tool(&gateway, "u")), "well");
    talks_no_faster_than_it_may(|| Some(told.load(Ordering::SeqCst)), 25_000, is_read);
    assert_eq!(text(&call_tool(&gateway, "u")), "well");
}
