//! Calls that wait for their callers behind the gateway: what they may keep from others, what they may keep at all, and
//! who may go on with them.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::faulty::{answer, scripted};
use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::{Answer, Peer};
use crate::process::{PATIENCE, Server, until};
use crate::request::{Request, legacy, modern, text};

/// What a scripted server heard and does.
#[derive(Default)]
pub struct Told {
    /// Answers to its questions, by their ids.
    answers: Mutex<HashMap<String, Value>>,
    /// It lists `ask` with other words.
    is_other: AtomicBool,
    calls: AtomicUsize,
    /// Calls in which it asked something.
    asking: AtomicUsize,
    /// Calls that it is at work on, and the most that these were.
    working: AtomicUsize,
    most: AtomicUsize,
}

impl Told {
    fn begin(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let working = self.working.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(working, Ordering::Relaxed);
    }

    fn end(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether each of these questions was answered, and not refused.
    fn answers_to(&self, questions: &[String]) -> Vec<bool> {
        let answers = self.answers.lock().expect("nobody panics with it");
        questions.iter().filter_map(|question| Some(answers.get(question)?.get("error").is_none())).collect()
    }

    fn refusals(&self) -> usize {
        let answers = self.answers.lock().expect("nobody panics with it");
        answers.values().filter(|answer| answer.get("error").is_some()).count()
    }
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "resultType": "complete"})
}

fn tools(is_other: bool) -> Value {
    let words = if is_other { "other" } else { "these" };
    let tool = |name: &str| json!({"name": name, "description": words, "inputSchema": {"type": "object"}});
    let all = ["ask", "plain", "slow"].map(tool);
    json!({"tools": all, "resultType": "complete"})
}

/// A server of 2025-11-25: `ask` asks its caller, and says how that went; `plain` and `slow` answer.
pub fn legacy_server() -> (SocketAddr, Arc<Told>) {
    let told = Arc::new(Told::default());
    let shared = Arc::clone(&told);
    let address = scripted(move |stream, request| {
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "asking", "version": "1"}}),
            "tools/list" => tools(shared.is_other.load(Ordering::Relaxed)),
            "tools/call" => {
                shared.begin();
                let name = request["params"]["name"].as_str().unwrap_or_default();
                if name == "ask" {
                    ask(stream, request, &shared);
                    return shared.end();
                }
                if name == "slow" {
                    std::thread::sleep(Duration::from_millis(200));
                }
                shared.end();
                said(name)
            }
            other => {
                if let ("", Some(id)) = (other, request["id"].as_str()) {
                    shared.answers.lock().expect("nobody panics with it").insert(id.to_owned(), request.clone());
                }
                return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"));
            }
        };
        let message = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        answer(stream, "200 OK", &message.to_string());
    });
    (address, told)
}

fn ask(stream: &mut TcpStream, request: &Value, told: &Told) {
    let (id, arguments) = (request["id"].as_u64().unwrap_or_default(), &request["params"]["arguments"]);
    let message = "?".repeat(arguments["bytes"].as_u64().unwrap_or(1) as usize);
    // Calls of two cores may have one id.
    let call = told.asking.fetch_add(1, Ordering::Relaxed);
    let names: Vec<String> =
        (0..arguments["questions"].as_u64().unwrap_or(1)).map(|number| format!("{call}.{number}")).collect();
    // Whoever gave up does not read it.
    let mut write = |text: &str| drop(stream.write_all(text.as_bytes()));
    write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    let params = json!({"message": message, "requestedSchema": {"type": "object", "properties": {}}});
    for name in &names {
        let question = json!({"jsonrpc": "2.0", "id": name, "method": "elicitation/create", "params": params});
        write(&format!("data: {question}\n\n"));
    }
    if let Some(token) = request["params"]["_meta"].get("progressToken") {
        let params = json!({"progressToken": token, "progress": 1});
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
        write(&format!("data: {progress}\n\n"));
    }
    let deadline = Instant::now() + if arguments["hurry"] == true { Duration::ZERO } else { 2 * PATIENCE };
    while told.answers_to(&names).len() < names.len() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let answers = told.answers_to(&names);
    let (good, all) = (answers.iter().filter(|is_good| **is_good).count(), answers.len());
    let outcome = said(&format!("{good} answered, {} refused", all - good));
    write(&format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": id, "result": outcome})));
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// A server of 2026-07-28 that wants its calls sent again: `stall` always, `later` twice, and the others in ways that
/// there are not.
fn modern_server(handshake: Duration) -> (SocketAddr, Arc<Told>) {
    let told = Arc::new(Told::default());
    let shared = Arc::clone(&told);
    let address = scripted(move |stream, request| {
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap_or_default() {
            "server/discover" => {
                std::thread::sleep(handshake);
                json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete",
                    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "stalling", "version": "1"}}})
            }
            "tools/list" => tools(false),
            "tools/call" => {
                shared.begin();
                let result = match (params["name"].as_str().unwrap_or_default(), params["requestState"].as_str()) {
                    ("stall", _) => json!({"resultType": "input_required", "requestState": "s"}),
                    ("later", Some("2")) => said("later"),
                    ("later", state) => {
                        let state = if state.is_some() { "2" } else { "1" };
                        json!({"resultType": "input_required", "requestState": state, "inputRequests": {}})
                    }
                    ("many", _) => {
                        let params = json!({"message": "?", "requestedSchema": {"type": "object", "properties": {}}});
                        let question = json!({"method": "elicitation/create", "params": params});
                        let all: Map<String, Value> = (0..17).map(|n| (n.to_string(), question.clone())).collect();
                        json!({"resultType": "input_required", "inputRequests": all})
                    }
                    ("nothing", _) => json!({"resultType": "input_required"}),
                    ("nobody", _) => json!({"resultType": "input_required", "inputRequests": {}}),
                    (name, _) => {
                        std::thread::sleep(Duration::from_millis(300));
                        said(name)
                    }
                };
                shared.end();
                result
            }
            _ => return drop(stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")),
        };
        let message = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        answer(stream, "200 OK", &message.to_string());
    });
    (address, told)
}

fn gateway(address: SocketAddr, era: &str, more: &str) -> Server {
    Server::configured(&format!(
        "[servers.s]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"{era}\"\n{more}\n"
    ))
}

/// A modern caller's call, who answers questions.
pub fn call_of(tool: &str, arguments: Value) -> Value {
    let mut call = modern(1, "tools/call", json!({"name": tool, "arguments": arguments}));
    call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
    call
}

pub fn asked(gateway: &Server, path: &str, call: &Value) -> Answer {
    gateway.connect_on(0).ask(&Request::modern(call).target(path))
}

/// The call, sent away with a question; its caller comes back with this.
pub fn parked(gateway: &Server, path: &str, call: &Value) -> Value {
    let answer = asked(gateway, path, call).json();
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    let mut again = call.clone();
    again["params"]["requestState"] = answer["result"]["requestState"].clone();
    again["params"]["inputResponses"] = json!({"question": {"action": "accept", "content": {}}});
    again
}

/// Three callers at once, all of whom are served.
fn slow_together(gateway: &Server) {
    let call = Request::modern(&call_of("s_slow", json!({}))).target("/mcp").bytes();
    let mut peers: Vec<Peer> = (0..3).map(|_| gateway.connect_on(0)).collect();
    peers.iter_mut().for_each(|peer| peer.send(&call));
    peers.iter_mut().for_each(|peer| assert_eq!(text(&peer.answer().json()), "slow"));
}

/// A call of another tool is answered at once.
fn others_are_served(gateway: &Server) {
    let began = Instant::now();
    assert_eq!(text(&asked(gateway, "/mcp/s", &call_of("plain", json!({}))).json()), "plain");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn calls_that_wait_for_their_callers_leave_links_for_others() {
    let (address, told) = legacy_server();
    let gateway = gateway(address, "legacy", "connections_per_core = 2\ntimeout_ms = 3000");
    reached(&gateway, "/mcp/s");
    // A server that does not wait for the answer ends its call; nothing of it stays counted.
    for _ in 0..3 {
        let again = parked(&gateway, "/mcp/s", &call_of("ask", json!({"hurry": true})));
        gateway.until_total("corelane_server_calls_in_flight{server=\"s\"}", 0);
        assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "0 answered, 0 refused");
    }
    let question = call_of("ask", json!({}));
    let waiting: Vec<Value> = (0..2).map(|_| parked(&gateway, "/mcp/s", &question)).collect();
    others_are_served(&gateway);
    let refused = asked(&gateway, "/mcp/s", &question);
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    until("the server is told no", || (told.refusals() == 1).then_some(()));
    others_are_served(&gateway);
    for again in &waiting {
        assert_eq!(text(&asked(&gateway, "/mcp/s", again).json()), "1 answered, 0 refused");
    }
    // Who is served makes room.
    let again = parked(&gateway, "/mcp/s", &question);
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "1 answered, 0 refused");
}

#[test]
fn a_limit_of_calls_holds_with_those_that_wait_and_half_of_it_is_left_to_others() {
    for (limit, wait) in [(1, 0), (2, 1)] {
        let (address, told) = legacy_server();
        let gateway = gateway(address, "legacy", &format!("concurrency = {limit}\ntimeout_ms = 8000"));
        reached(&gateway, "/mcp/s");
        let question = call_of("ask", json!({}));
        let waiting: Vec<Value> = (0..wait).map(|_| parked(&gateway, "/mcp/s", &question)).collect();
        slow_together(&gateway);
        assert_eq!(told.most.load(Ordering::Relaxed), limit);
        let refused = asked(&gateway, "/mcp/s", &question);
        assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
        assert!(refused.text().contains(&format!("servers.s.concurrency = {limit}")), "{}", refused.text());
        until("the server is told no", || (told.refusals() == 1).then_some(()));
        others_are_served(&gateway);
        for again in &waiting {
            assert_eq!(text(&asked(&gateway, "/mcp/s", again).json()), "1 answered, 0 refused");
        }
    }
}

#[test]
fn a_call_keeps_so_many_bytes_of_questions_and_no_more() {
    let (address, told) = legacy_server();
    let gateway = gateway(address, "legacy", "");
    reached(&gateway, "/mcp/s");
    // Three of five fit into a mebibyte.
    let mut again = parked(&gateway, "/mcp/s", &call_of("ask", json!({"questions": 5, "bytes": 300 * 1024})));
    until("the server is told no", || (told.refusals() == 2).then_some(()));
    for _ in 0..2 {
        again = parked(&gateway, "/mcp/s", &again);
    }
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "3 answered, 2 refused");
    // One that is too large by itself does not park its call.
    let large = call_of("ask", json!({"bytes": 1024 * 1024}));
    assert_eq!(text(&asked(&gateway, "/mcp/s", &large).json()), "0 answered, 1 refused");
}

#[test]
fn what_came_of_a_call_while_its_caller_was_away_is_told_when_it_is_back_once() {
    let (address, told) = legacy_server();
    let gateway = gateway(address, "legacy", "");
    reached(&gateway, "/mcp/s");
    let again = parked(&gateway, "/mcp/s", &call_of("ask", json!({"hurry": true})));
    gateway.until_total("corelane_server_calls_in_flight{server=\"s\"}", 0);
    let mut other = again.clone();
    other["params"]["arguments"] = json!({});
    assert_eq!(asked(&gateway, "/mcp/s", &other).code(), -32602, "it is another call's");
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "0 answered, 0 refused");
    assert_eq!(asked(&gateway, "/mcp/s", &again).code(), -32602);
    assert_eq!(told.calls(), 1);
}

#[test]
fn progress_of_a_parked_call_does_not_hurry_its_caller() {
    let (address, _told) = legacy_server();
    let gateway = gateway(address, "legacy", "timeout_ms = 500");
    reached(&gateway, "/mcp/s");
    let mut call = call_of("ask", json!({}));
    call["params"]["_meta"]["progressToken"] = "p".into();
    let again = parked(&gateway, "/mcp/s", &call);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "1 answered, 0 refused");
}

#[test]
fn a_parked_call_is_gone_on_with_by_the_same_call_only() {
    let (address, told) = legacy_server();
    let more = "[views.few]\nservers = [\"s\"]\ntools = [\"s_plain\"]\n[views.all]\nservers = [\"s\"]\n";
    let gateway = gateway(address, "legacy", more);
    reached(&gateway, "/mcp/s");
    let again = parked(&gateway, "/mcp/s", &call_of("ask", json!({"a": 1, "b": [2.0]})));
    let with = |name: &str, arguments: Value| {
        let mut call = again.clone();
        call["params"]["name"] = name.into();
        call["params"]["arguments"] = arguments;
        call
    };
    let same = json!({"b": [2.0], "a": 1});
    let others = [
        ("/mcp/s", with("plain", same.clone())),
        ("/mcp/s", with("ask", json!({"a": 1, "b": [3]}))),
        ("/mcp/s", with("ask", json!({}))),
        ("/mcp", with("s_ask", same.clone())),
        ("/mcp/@all", with("s_ask", same.clone())),
        ("/mcp/@few", with("s_ask", same.clone())),
        ("/mcp/@few", with("s_plain", same.clone())),
    ];
    for (path, call) in &others {
        let refused = asked(&gateway, path, call);
        assert_eq!(refused.code(), -32602, "{path} {call}: {}", refused.text());
    }
    assert!(told.answers.lock().expect("nobody panics with it").is_empty());
    assert_eq!(text(&asked(&gateway, "/mcp/s", &with("ask", same)).json()), "1 answered, 0 refused");
}

#[test]
fn a_parked_call_of_a_tool_that_is_quarantined_meanwhile_waits_for_its_release() {
    let (address, told) = legacy_server();
    let folder = tempfile::tempdir().expect("a place for files");
    let pins = folder.path().join("pins.json");
    let more = format!("[gateway]\npinning = \"quarantine\"\npins = \"{}\"\nlist_ttl_ms = 0\n", pins.display());
    let gateway = gateway(address, "legacy", &more);
    reached(&gateway, "/mcp/s");
    let lists_ask = || {
        let list = asked(&gateway, "/mcp/s", &modern(1, "tools/list", json!({}))).json();
        list["result"]["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "ask"))
    };
    until("its tools are pinned", || lists_ask().then_some(()));
    let again = parked(&gateway, "/mcp/s", &call_of("ask", json!({})));
    told.is_other.store(true, Ordering::Relaxed);
    until("it is quarantined", || (!lists_ask()).then_some(()));
    let refused = asked(&gateway, "/mcp/s", &again);
    assert_eq!((refused.status, refused.code()), (409, -31409), "{}", refused.text());
    told.is_other.store(false, Ordering::Relaxed);
    until("it is what it was", || lists_ask().then_some(()));
    assert_eq!(text(&asked(&gateway, "/mcp/s", &again).json()), "1 answered, 0 refused");
}

/// A legacy caller that waits for its answer.
fn legacy_call(gateway: &Server, tool: &str) -> Peer {
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
    let call = legacy(7, "tools/call", json!({"name": tool, "arguments": {}}));
    peer.send(Request::legacy(&session, &call).target("/mcp/s").bytes());
    peer
}

#[test]
fn a_server_that_asks_nobody_anything_is_heard_a_few_times_and_no_more() {
    let (address, told) = modern_server(Duration::ZERO);
    let gateway = gateway(address, "modern", "");
    reached(&gateway, "/mcp/s");
    for (tool, calls) in [("nothing", 1), ("nobody", 1), ("stall", 9)] {
        let (before, began) = (told.calls(), Instant::now());
        let answer = legacy_call(&gateway, tool).answer().json();
        assert_eq!(answer["error"]["code"], -31502, "{tool}: {answer}");
        assert_eq!(told.calls() - before, calls, "{tool}");
        // Eight pauses: 100, 200, 400 and 800 ms, and a second each.
        assert!(calls == 1 || began.elapsed() > Duration::from_millis(5500), "{:?}", began.elapsed());
    }
    assert_eq!(text(&legacy_call(&gateway, "later").answer().json()), "later");
}

#[test]
fn answers_of_one_round_are_no_more_than_a_largest_body() {
    let (address, told) = modern_server(Duration::ZERO);
    let gateway = gateway(address, "modern", "");
    reached(&gateway, "/mcp/s");
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
    let call = legacy(7, "tools/call", json!({"name": "many", "arguments": {}}));
    peer.open(&Request::legacy(&session, &call).target("/mcp/s"));
    let content = json!({"x": "y".repeat(1_000_000)});
    for _ in 0..17 {
        let question = peer.event().expect("a question").json();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let answer =
            json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": content}});
        assert_eq!(gateway.connect_on(0).ask(&Request::legacy(&session, &answer).target("/mcp/s")).status, 202);
    }
    let refused = peer.event().expect("the end").json();
    assert_eq!(refused["error"]["code"], -31503, "{refused}");
    assert_eq!(told.calls(), 1);
}

#[test]
fn whatever_a_call_waited_for_it_waits_its_turn_too() {
    let (address, told) = modern_server(Duration::from_millis(300));
    let gateway = gateway(address, "modern", "concurrency = 1");
    // For the handshake.
    slow_together(&gateway);
    // For the pause before its next round, in which another call begins.
    let before = told.calls();
    let mut peer = legacy_call(&gateway, "later");
    until("the first round is over", || (told.calls() > before).then_some(()));
    assert_eq!(text(&asked(&gateway, "/mcp/s", &call_of("slow", json!({}))).json()), "slow");
    assert_eq!(text(&peer.answer().json()), "later");
    assert_eq!(told.most.load(Ordering::Relaxed), 1);
}
