//! Every HTTP status that is not 200, and what goes with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::legacy::open;
use crate::process::Server;
use crate::request::{MODERN, Request, echo, initialize, legacy, modern, notice};

fn call() -> Value {
    modern(7, "tools/call", echo("x"))
}

#[test]
fn methods_that_are_not_served() {
    let server = Server::start();
    let mut peer = server.connect();
    for method in ["GET", "DELETE"] {
        let request = Request::new(method, "/mcp").with("Accept", "text/event-stream");
        let answer = peer.ask(&request.with("MCP-Protocol-Version", MODERN));
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("POST")), "{method}");
    }
    for method in ["PUT", "PATCH", "TRACE", "post", "QUERY"] {
        let answer = peer.ask(&Request::new(method, "/mcp"));
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, POST, DELETE, OPTIONS")), "{method}");
    }
    for (method, path, allow) in
        [("POST", "/sse", "GET"), ("DELETE", "/sse", "GET"), ("GET", "/message", "POST"), ("PUT", "/message", "POST")]
    {
        let answer = peer.ask(&Request::new(method, path));
        assert_eq!((answer.status, answer.field("Allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(server.refused("method_not_allowed"), 11);
}

#[test]
fn head_is_answered_without_a_body() {
    let server = Server::start();
    let mut peer = server.connect();
    for path in ["/mcp", "/sse", "/message", "/nothing"] {
        peer.send(Request::new("HEAD", path).bytes());
        let head = peer.head();
        assert_eq!(head.status, if path == "/nothing" { 404 } else { 405 }, "{path}");
        // Whatever Content-Length says, the next byte begins the next answer (RFC 9112, 6.3).
        assert_eq!(peer.ask(&Request::modern(&call())).status, 200, "{path}");
    }
}

#[test]
fn media_types_that_do_not_fit() {
    let server = Server::start();
    let mut peer = server.connect();
    let request = Request::modern(&call());
    for accept in
        ["text/html", "application/xml, image/*", "application/json;q=0, text/event-stream;q=0", "text/event-stream"]
    {
        assert_eq!(peer.ask(&request.clone().with("Accept", accept)).status, 406, "{accept}");
    }
    for accept in ["*/*", "application/*", "application/json", "application/json;q=0.1"] {
        assert_eq!(peer.ask(&request.clone().with("Accept", accept)).status, 200, "{accept}");
    }
    assert_eq!(peer.ask(&request.clone().without("Accept")).status, 200, "no Accept accepts everything");
    for kind in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", "", "application/json, text/x"]
    {
        let answer = peer.ask(&request.clone().with("Content-Type", kind));
        assert_eq!((answer.status, answer.field("Accept")), (415, Some("application/json")), "{kind}");
    }
    assert_eq!(peer.ask(&request.clone().without("Content-Type")).status, 415);
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=\"utf-8\""] {
        assert_eq!(peer.ask(&request.clone().with("Content-Type", kind)).status, 200, "{kind}");
    }
    for coding in ["gzip", "br", "deflate, gzip"] {
        assert_eq!(peer.ask(&request.clone().with("Content-Encoding", coding)).status, 415, "{coding}");
    }
    assert_eq!(peer.ask(&request.with("Content-Encoding", "identity")).status, 200);
    // Legacy clients have to take both kinds of answer.
    for accept in ["application/json", "text/event-stream"] {
        assert_eq!(peer.ask(&Request::post(&initialize(1, "2025-06-18")).with("Accept", accept)).status, 406);
    }
    let listen = modern(1, "subscriptions/listen", json!({"notifications": {}}));
    assert_eq!(server.total("corelane_sessions_open"), 0, "nothing was kept of what was refused");
    assert!([404, 406].contains(&peer.ask(&Request::modern(&listen).with("Accept", "application/json")).status));
}

#[test]
fn bodies_that_are_too_large() {
    let server = Server::with(&[("LIMITS_BODY_BYTES", "2048")]);
    let fits = modern(1, "tools/call", echo(&"x".repeat(1500)));
    assert_eq!(server.connect().ask(&Request::modern(&fits)).status, 200);
    assert_eq!(server.connect().ask(&Request::modern(&fits).chunked(100)).status, 200);
    // Refused by what the head announces, before the body is there.
    let mut peer = server.connect();
    peer.send(Request::modern(&call()).with("Content-Length", "2049").head());
    let answer = peer.answer();
    assert_eq!((answer.status, answer.field("Connection")), (413, Some("close")));
    assert!(peer.ends());
    // A chunked one says nothing in advance.
    let large = modern(1, "tools/call", echo(&"x".repeat(5000)));
    let mut peer = server.connect();
    peer.try_send(&Request::modern(&large).chunked(700).bytes());
    assert_eq!(peer.answer().status, 413);
    assert!(peer.ends());
    // One chunk that announces more than is ever read.
    let mut peer = server.connect();
    peer.send([Request::modern(&large).chunked(1).head(), b"fffffff\r\n".to_vec()].concat());
    assert_eq!(peer.answer().status, 413);
    assert_eq!(server.refused("body_too_large"), 3);
}

#[test]
fn messages_of_too_many_values_are_too_large_and_no_worse() {
    let server = Server::start();
    let mut message = call();
    message["params"]["arguments"]["list"] = vec![0; 100_000].into();
    let mut peer = server.connect();
    let answer = peer.ask(&Request::modern(&message));
    assert_eq!((answer.status, answer.code()), (413, -32600), "{}", answer.text());
    assert!(answer.text().contains("more than 100000 values"), "{}", answer.text());
    assert_eq!(server.refused("body_too_large"), 1);
    let mut lines = server.lines();
    lines.write_line(&message);
    assert_eq!(lines.read_line()["error"]["code"], -32600);
    for answer in [peer.ask(&Request::modern(&call())).json(), {
        lines.write_line(&call());
        lines.read_line()
    }] {
        assert!(answer["result"].is_object(), "the connection goes on: {answer}");
    }
}

#[test]
fn messages_that_are_none() {
    let server = Server::start();
    let mut peer = server.connect();
    let request = Request::modern(&call());
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let unreadable: [&[u8]; 8] = [
        b"",
        b"{",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\xff\"}",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"a\":\"\0\"}}",
        deep.as_bytes(),
    ];
    for body in unreadable {
        let answer = peer.ask(&request.clone().body(body));
        let shown = String::from_utf8_lossy(body).into_owned();
        assert_eq!((answer.status, answer.code()), (400, -32700), "{shown}");
        assert_eq!(answer.json().get("id"), None, "{shown}");
        let older = request.clone().with("MCP-Protocol-Version", "2025-11-25").body(body);
        assert_eq!(peer.ask(&older).json().get("id"), Some(&Value::Null), "{shown}");
    }
    assert_eq!(server.refused("bad_json"), 16);
    let answer = peer.ask(&request.clone().json(&json!([call()])));
    assert_eq!((answer.status, answer.code()), (400, -32600), "a batch");
    assert_eq!(answer.json().get("id"), None, "modern errors leave out an id that is not known");
    let mut wrong = vec![json!(1), json!("x"), json!(null), json!({})];
    for (member, value) in [
        ("jsonrpc", json!("1.0")),
        ("jsonrpc", json!(2)),
        ("method", json!(1)),
        ("method", json!(null)),
        ("params", json!([1])),
        ("id", json!(null)),
        ("id", json!(1.5)),
        ("id", json!({})),
        ("id", json!(true)),
    ] {
        let mut message = call();
        message[member] = value;
        wrong.push(message);
    }
    for message in wrong {
        let answer = peer.ask(&Request::modern(&call()).json(&message));
        assert_eq!(answer.status, 400, "{message}");
        let code = answer.code();
        assert!(code == -32600 || code == -32602 && !message.is_object(), "{message}: {}", answer.text());
    }
}

#[test]
fn modern_requests_say_everything_about_themselves() {
    let server = Server::start();
    let mut peer = server.connect();
    let meta = "io.modelcontextprotocol/";
    for missing in ["protocolVersion", "clientCapabilities"] {
        let mut message = call();
        message["params"]["_meta"].as_object_mut().unwrap().remove(&format!("{meta}{missing}"));
        let answer = peer.ask(&Request::modern(&message));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32602, &json!(7)), "{missing}");
        assert!(answer.text().contains(missing), "{}", answer.text());
    }
    let mut bare = call();
    bare["params"].as_object_mut().unwrap().remove("_meta");
    let answer = peer.ask(&Request::modern(&bare));
    assert_eq!((answer.status, answer.code()), (400, -32602));
    for (name, value) in [("clientCapabilities", json!([])), ("protocolVersion", json!(1)), ("logLevel", json!("loud"))]
    {
        let mut message = call();
        message["params"]["_meta"][format!("{meta}{name}")] = value;
        let answer = peer.ask(&Request::modern(&message));
        assert_eq!((answer.status, answer.code()), (400, -32602), "{name}: {}", answer.text());
    }
    let mut ahead = call();
    ahead["params"]["_meta"][format!("{meta}protocolVersion")] = json!("2031-01-01");
    let answer = peer.ask(&Request::modern(&ahead).with("MCP-Protocol-Version", "2031-01-01"));
    assert_eq!((answer.status, answer.code()), (400, -32022));
    assert_eq!(answer.json()["error"]["data"], json!({"supported": [MODERN], "requested": "2031-01-01"}));
    // 400 comes before 404: whoever is not understood is not told what there is.
    let mut unknown = modern(1, "no/such", json!({}));
    let answer = peer.ask(&Request::modern(&unknown));
    assert_eq!((answer.status, answer.code()), (404, -32601));
    unknown["params"]["_meta"][format!("{meta}protocolVersion")] = json!("2031-01-01");
    assert_eq!(peer.ask(&Request::modern(&unknown).with("MCP-Protocol-Version", "2031-01-01")).code(), -32022);
}

#[test]
fn headers_that_disagree_with_the_body() {
    let server = Server::start();
    let mut peer = server.connect();
    let request = Request::modern(&call());
    let wrong = [
        request.clone().with("Mcp-Method", "tools/list"),
        request.clone().with("Mcp-Method", "Tools/Call"),
        request.clone().without("Mcp-Method"),
        request.clone().with("Mcp-Name", "sleep"),
        request.clone().with("Mcp-Name", "Echo"),
        request.clone().without("Mcp-Name"),
        request.clone().with("Mcp-Name", "=?base64?c2xlZXA=?="),
        request.clone().with("Mcp-Name", "=?base64?not base64?="),
        request.clone().with("Mcp-Name", "=?base64?ZWNobw?="),
        request.clone().without("MCP-Protocol-Version"),
        request.clone().with("MCP-Protocol-Version", "2025-11-25"),
        request.clone().with("MCP-Protocol-Version", "2031-01-01"),
        request.clone().also("Mcp-Method", "tools/call"),
        request.clone().also("mcp-name", "echo"),
        request.clone().also("MCP-PROTOCOL-VERSION", MODERN),
    ];
    for request in &wrong {
        let answer = peer.ask(request);
        assert_eq!((answer.status, answer.code()), (400, -32020), "{request:?} {}", answer.text());
        assert_eq!(answer.json()["id"], 7);
    }
    assert_eq!(server.refused("bad_header_mirror"), wrong.len() as u64);
    for request in [
        request.clone().with("Mcp-Name", "=?base64?ZWNobw==?="),
        request.clone().with("mcp-name", "  echo\t"),
        request.without("Mcp-Method").with("MCP-METHOD", "tools/call"),
    ] {
        assert_eq!(peer.ask(&request).status, 200, "{request:?}");
    }
    // A name that has to be encoded: not ASCII.
    let unknown = modern(1, "tools/call", json!({"name": "écho", "arguments": {}}));
    let encoded = Request::modern(&unknown).with("Mcp-Name", "=?base64?w6ljaG8=?=");
    assert_eq!(peer.ask(&encoded).code(), -32602, "agreed, and then unknown");
    let read = modern(1, "resources/read", json!({"uri": "corelane://about"}));
    assert_eq!(peer.ask(&Request::modern(&read).with("Mcp-Name", "corelane://other")).code(), -32020);
    assert_eq!(peer.ask(&Request::modern(&read)).status, 200);
}

#[test]
fn hosts_and_origins_that_are_not_ours_on_every_path() {
    let server = Server::start();
    let (mut peer, mut count) = (server.connect(), 0);
    let port = server.http.port();
    for (method, path) in [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("OPTIONS", "/mcp"),
        ("GET", "/sse"),
        ("OPTIONS", "/sse"),
        ("POST", "/message"),
        ("GET", "/nothing"),
    ] {
        let request = Request::new(method, path).with("Content-Length", "0");
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
            let answer = peer.ask(&request.clone().with("Host", host));
            assert_eq!(answer.status, 403, "{method} {path} {host}");
            count += 1;
        }
        for origin in ["http://evil.example", "null", "https://localhost.evil.example", "http://127.0.0.1.evil.example"]
        {
            let answer = peer.ask(&request.clone().with("Origin", origin));
            assert_eq!(answer.status, 403, "{method} {path} {origin}");
            assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
        }
    }
    assert_eq!((server.refused("bad_host"), server.refused("bad_origin")), (count, count));
    let request = Request::modern(&call());
    for host in ["localhost", "127.0.0.1", &format!("localhost:{port}"), &format!("127.0.0.1:{port}")] {
        assert_eq!(peer.ask(&request.clone().with("Host", host)).status, 200, "{host}");
    }
    for origin in ["http://localhost:5173", "http://127.0.0.1", "https://localhost"] {
        assert_eq!(peer.ask(&request.clone().with("Origin", origin)).status, 200, "{origin}");
    }
    let mut peer = server.connect();
    assert_eq!(peer.ask(&request.without("Host")).status, 400);
    assert!(peer.ends());
}

#[test]
fn what_is_not_there() {
    let server = Server::start();
    let mut peer = server.connect();
    for path in ["/", "/mcp/", "/MCP", "/mcp/x", "/.well-known/oauth-protected-resource", "/sse/"] {
        let answer = peer.ask(&Request::modern(&call()).target(path));
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(peer.ask(&Request::modern(&call()).target("/mcp?x=1")).status, 200, "a query is not part of the path");
    for session in ["", "x", "2ae4a5c6-0000-4000-8000-000000000000", &"A".repeat(200)] {
        for request in [
            Request::legacy(session, &legacy(1, "ping", json!({}))),
            Request::legacy(session, &notice("notifications/initialized", json!({}))),
            Request::stream(session),
            Request::stream(session).with("Last-Event-ID", "1-1"),
            Request::new("DELETE", "/mcp").with("Mcp-Session-Id", session),
        ] {
            let answer = peer.ask(&request);
            assert_eq!((answer.status, answer.code()), (404, -32001), "{request:?} {}", answer.text());
        }
    }
    let message = Request::post(&legacy(1, "ping", json!({})));
    for target in ["/message", "/message?sessionId=", "/message?sessionId=x", "/message?session=x"] {
        assert_eq!(peer.ask(&message.clone().target(target)).status, 404, "{target}");
    }
}

#[test]
fn heads_that_are_too_large() {
    let server = Server::start();
    let long = "a".repeat(20_000);
    let refused = |request: Request, status: u16| {
        let mut peer = server.connect();
        peer.try_send(&request.bytes());
        let answer = peer.answer();
        assert_eq!((answer.status, answer.field("Connection")), (status, Some("close")));
        assert!(peer.ends());
    };
    refused(Request::modern(&call()).with("X-Long", &long), 431);
    refused(Request::modern(&call()).target(&format!("/mcp?{}", "a".repeat(5_000))), 414);
    let many = (0..70).fold(Request::modern(&call()), |request, n| request.also(&format!("X-{n}"), "1"));
    refused(many, 431);
    assert_eq!(server.refused("head_too_large"), 3);
    // Nor does one without an end collect more than that.
    let mut peer = server.connect();
    peer.try_send(format!("POST /mcp HTTP/1.1\r\nX: {}", "a".repeat(100_000)).as_bytes());
    assert_eq!(peer.answer().status, 431);
}

#[test]
fn expectations_and_versions_that_are_not_met() {
    let server = Server::start();
    let request = Request::modern(&call());
    let mut peer = server.connect();
    assert_eq!(peer.ask(&request.clone().with("Expect", "200-maybe")).status, 417);
    assert!(peer.ends());
    for line in ["POST /mcp HTTP/2.0\r\n", "POST /mcp HTTP/1.2\r\n", "PRI * HTTP/2.0\r\n", "GET /mcp HTTP/0.9\r\n"] {
        let mut peer = server.connect();
        peer.send(format!("{line}Host: localhost\r\n\r\n"));
        assert_eq!(peer.answer().status, 505, "{line}");
        assert!(peer.ends());
    }
    let mut peer = server.connect();
    peer.send(request.clone().with("Expect", "100-continue").head());
    assert_eq!(peer.head().status, 100);
    peer.send(call().to_string());
    assert_eq!(peer.answer().status, 200);
    // A client that does not wait is not told to go on.
    assert_eq!(peer.ask(&request.clone().with("Expect", "100-continue")).status, 200);
    peer.send(request.clone().with("Expect", "100-continue").chunked(9).head());
    assert_eq!(peer.head().status, 100);
    let chunked = request.chunked(9).bytes();
    let body = chunked.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    peer.send(&chunked[body..]);
    assert_eq!(peer.answer().status, 200);
    // Nobody is asked for the body of a request that is refused anyway.
    for (name, value, status) in [("Host", "evil.example", 403), ("Origin", "https://evil.example", 403)] {
        let refused = Request::modern(&call()).with(name, value).with("Expect", "100-continue");
        for head in [refused.clone().head(), refused.chunked(9).head()] {
            let mut peer = server.connect();
            peer.send(head);
            assert_eq!(peer.answer().status, status, "{name}");
            assert!(peer.ends(), "{name}: what follows could be the body");
        }
    }
}

#[test]
fn what_comes_too_slowly() {
    let server = Server::with(&[
        ("LIMITS_HEAD_TIMEOUT_MS", "150"),
        ("LIMITS_BODY_GRACE_MS", "150"),
        ("LIMITS_BODY_BYTES_PER_S", "1000000"),
    ]);
    let request = Request::modern(&call()).bytes();
    let body = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let too_slow = |first: &[u8]| {
        let mut peer = server.connect();
        peer.send(first);
        let answer = peer.answer();
        assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
        assert!(peer.ends());
    };
    too_slow(&request[..20]);
    too_slow(&request[..body - 1]);
    assert_eq!((server.refused("head_timeout"), server.refused("body_timeout")), (2, 0));
    too_slow(&request[..body]);
    too_slow(&request[..body + 9]);
    too_slow(&[&Request::modern(&call()).chunked(9).head()[..], b"9\r\n{\"jsonr"].concat());
    assert_eq!((server.refused("head_timeout"), server.refused("body_timeout")), (2, 3));
}

#[test]
fn a_chunked_body_cannot_be_dripped_for_ever() {
    let server = Server::with(&[("LIMITS_BODY_GRACE_MS", "1000"), ("LIMITS_BODY_BYTES_PER_S", "1000000")]);
    let mut peer = server.connect();
    peer.send(Request::modern(&call()).chunked(9).head());
    // A byte now and then, each well within the grace: it is the whole that counts.
    let begun = Instant::now();
    while peer.is_silent_for(Duration::from_millis(20)) {
        assert!(begun.elapsed() < Duration::from_secs(5), "still waiting for the body");
        peer.send(b"1\r\n \r\n");
    }
    assert_eq!(peer.answer().status, 408);
    assert_eq!(server.refused("body_timeout"), 1);
}

#[test]
fn one_connection_too_many() {
    // 64 descriptors on two listeners: 51 connections, 4 accepts armed for each listener, whoever comes by it, and 5
    // that are only told that there is no room. All come by one of the two.
    let server = Server::on(1, &[("URING_DESCRIPTORS", "64")]);
    let request = Request::modern(&call());
    let mut peers: Vec<_> = (0..51).map(|_| server.connect()).collect();
    for peer in &mut peers {
        assert_eq!(peer.ask(&request).status, 200);
    }
    let mut extra = server.connect();
    let answer = extra.answer();
    assert_eq!((answer.status, answer.field("Retry-After"), answer.code()), (503, Some("1"), -31503));
    assert!(extra.ends());
    assert_eq!((server.refused("table_full"), server.closed("refused")), (1, 1));
    drop((extra, peers.pop()));
    server.until_total("corelane_connections_open", 50);
    assert_eq!(server.connect().ask(&request).status, 200);
    // Whoever was there all along never noticed.
    assert!(peers.iter_mut().all(|peer| peer.ask(&request).status == 200));
}

/// Whoever looks at the counters sees each of them.
#[test]
fn every_refusal_is_counted() {
    let server = Server::start();
    let mut peer = server.connect();
    let session = open(&mut peer, "2025-03-26");
    let refusals = || server.total("corelane_refusals_total");
    let bare = |method: &str, params: Value| Request::post(&legacy(1, method, params));
    let inside = |message: Value| Request::legacy(&session, &message);
    let meta = |name: &str, value: Value| {
        let mut message = modern(1, "tools/list", json!({}));
        message["params"]["_meta"][name] = value;
        Request::modern(&message)
    };
    let stream = |last: &str| {
        let get = Request::new("GET", "/mcp").with("Host", "localhost").with("Accept", "text/event-stream");
        get.with("Mcp-Session-Id", &session).with("Last-Event-ID", last)
    };
    let cases = [
        ("initialize without params", bare("initialize", json!({}))),
        ("a version that is a number", bare("initialize", json!({"protocolVersion": 5}))),
        ("an answer, modern", Request::modern(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}))),
        ("capabilities of another kind", meta("io.modelcontextprotocol/clientCapabilities", json!(5))),
        ("a claim that is a number", meta("io.modelcontextprotocol/protocolVersion", json!(5))),
        ("no such level", meta("io.modelcontextprotocol/logLevel", json!("loud"))),
        ("an empty batch", inside(json!([]))),
        ("a batch of no message", inside(json!([5]))),
        ("initialize in a batch", inside(json!([initialize(7, "2025-03-26")]))),
        ("no such level, legacy", inside(legacy(2, "logging/setLevel", json!({"level": "loud"})))),
        ("no event id", stream("zzz")),
        ("no such stream", stream("20-0")),
    ];
    for (what, request) in cases {
        let before = refusals();
        let answer = peer.ask(&request);
        assert!(answer.status == 400 || answer.text().contains("\"error\""), "{what}: {}", answer.text());
        assert_eq!(refusals(), before + 1, "{what}: {}", answer.text());
    }
    let before = refusals();
    let mut lines = server.lines();
    lines.send(format!("{}\n", legacy(1, "tools/list", json!({}))));
    assert!(lines.line().is_some_and(|line| String::from_utf8_lossy(&line).contains("initialize")));
    assert_eq!(refusals(), before + 1, "lines that do not begin with initialize");
}
