//! Servers behind the gateway that come up later than their callers: whoever starts together with corelane waits for
//! them, and does not have to try again.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::faulty::{answer, scripted_at};
use crate::gateway::reached;
use crate::process::{Server, until};
use crate::request::{Request, echo, initialize, legacy, modern, text};
use crate::upstream::{Reply, Upstream};

/// An address where nobody listens yet.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn gateway(address: SocketAddr, more: &str) -> Server {
    Server::configured(&format!("[servers.late]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n{more}\n"))
}

fn opening() -> Request {
    Request::post(&initialize(1, "2025-11-25")).target("/mcp/late")
}

#[test]
fn clients_that_are_there_first_are_served_once_the_server_is() {
    // A server that one core speaks to for all is waited for on the others as well.
    for more in ["", "concurrency = 4"] {
        let address = nowhere();
        let gateway = gateway(address, &format!("connect_timeout_ms = 15000\n{more}"));
        let mut old: Vec<_> = [0, 1].map(|core| gateway.connect_on(core)).into();
        let mut new: Vec<_> = [0, 1].map(|core| gateway.connect_on(core)).into();
        let mut lines = gateway.lines();
        for peer in &mut old {
            peer.send(opening().bytes());
        }
        for peer in &mut new {
            peer.send(Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/late").bytes());
        }
        lines.write_line(&legacy(1, "corelane/attach", json!({"view": "late"})));
        assert_eq!(lines.read_line()["result"], json!({}));
        lines.write_line(&initialize(2, "2025-06-18"));
        for peer in old.iter_mut().chain(&mut new) {
            assert!(peer.is_silent_for(Duration::from_millis(100)), "it waits");
        }
        let _server = Server::at(address);
        for peer in &mut old {
            let opened = peer.answer();
            assert_eq!(
                (opened.status, &opened.json()["result"]["serverInfo"]["name"]),
                (200, &json!("corelane-demonstration"))
            );
            let session = opened.field("Mcp-Session-Id").expect("a session was opened").to_owned();
            let call = Request::legacy(&session, &legacy(7, "tools/call", echo("y"))).target("/mcp/late");
            assert_eq!(text(&peer.ask(&call).json()), "y");
        }
        for peer in &mut new {
            assert_eq!(text(&peer.answer().json()), "x");
        }
        assert_eq!(lines.read_line()["result"]["protocolVersion"], "2025-06-18");
    }
}

#[test]
fn nobody_waits_longer_than_the_server_may_take() {
    let gateway = gateway(nowhere(), "connect_timeout_ms = 400");
    let mut peer = gateway.connect();
    let began = Instant::now();
    let refused = peer.ask(&opening());
    assert_eq!((refused.status, refused.code(), refused.field("Mcp-Session-Id")), (503, -31502, None));
    assert!(refused.text().contains("server late"), "{}", refused.text());
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let hasty = Request::modern(&modern(1, "server/discover", json!({}))).target("/mcp/late");
    let answer = peer.ask(&hasty.with("X-Request-Timeout-Ms", "20"));
    assert_eq!((answer.status, answer.code()), (502, -31502), "the connection is good for another request");
    assert_eq!(gateway.total("corelane_sessions_created_total"), 0);
}

#[test]
fn a_server_that_somebody_waits_for_is_tried_more_often() {
    let address = nowhere();
    let gateway = gateway(address, "connect_timeout_ms = 2000\nera = \"legacy\"");
    // The pause behind the sixth attempt is longer than anybody waits.
    until("it was tried in vain for a while", || (gateway.total("corelane_server_lost_total") >= 12).then_some(()));
    let mut peer = gateway.connect();
    peer.send(opening().bytes());
    assert!(peer.is_silent_for(Duration::from_millis(50)));
    scripted_at(address, |stream, request| {
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "late", "version": "1"}});
        let text = json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
        answer(stream, "200 OK", &text);
    });
    assert_eq!(peer.answer().status, 200);
}

#[test]
fn who_waits_is_told_when_the_gateway_ends() {
    let mut gateway = gateway(nowhere(), "connect_timeout_ms = 600000");
    let mut peer = gateway.connect();
    peer.send(opening().bytes());
    assert!(peer.is_silent_for(Duration::from_millis(50)));
    gateway.signal("TERM");
    assert_eq!(peer.answer().status, 503);
    assert!(peer.ends());
    assert!(gateway.wait().success());
}

#[test]
fn what_is_left_of_a_callers_time_is_told_to_servers_behind_http() {
    for era in ["legacy", "modern"] {
        let server = Upstream::start(era, json!({"tools": {}}), |_| Reply::Usual);
        let section = server.section("each", "") + &server.section("one", "concurrency = 4");
        let own = server.section("own", "headers = { x-request-timeout-ms = \"7\" }");
        let gateway = Server::configured(&(section + &own));
        let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
        for name in ["each", "one", "own"] {
            let path = format!("/mcp/{name}");
            reached(&gateway, &path);
            for core in 0..2 {
                let told = |request: Request| {
                    let before = server.heard("tools/call").len();
                    assert_eq!(gateway.connect_on(core).ask(&request.target(&path)).status, 200);
                    let heard = server.heard("tools/call").split_off(before);
                    heard[0].field("X-Request-Timeout-Ms").map(|ms| ms.parse::<u64>().expect("a number"))
                };
                let given = told(Request::modern(&call).with("X-Request-Timeout-Ms", "25000"));
                let nobody_chose = told(Request::modern(&call));
                match name {
                    // What the operator says is said.
                    "own" => assert_eq!((given, nobody_chose), (Some(7), Some(7))),
                    _ => {
                        assert!(given.is_some_and(|ms| (1..=25_000).contains(&ms)), "{era} {name} {core}: {given:?}");
                        assert_eq!(nobody_chose, None, "{era} {name} {core}");
                    }
                }
            }
        }
    }
}
