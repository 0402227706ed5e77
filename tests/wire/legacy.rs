//! Legacy sessions over HTTP: from every connection and every core, with the rules of each revision.

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, notice, sleep, text};

/// Opens a session on a connection; its id.
pub fn open(peer: &mut Peer, version: &str) -> String {
    open_at(peer, version, "/mcp")
}

/// The same at another path than the endpoint's own.
pub fn open_at(peer: &mut Peer, version: &str, path: &str) -> String {
    let answer = peer.ask(&Request::post(&initialize(1, version)).target(path));
    assert_eq!((answer.status, &answer.json()["result"]["protocolVersion"]), (200, &json!(version)));
    let session = answer.field("Mcp-Session-Id").expect("a session was opened").to_owned();
    let ready = notice("notifications/initialized", json!({}));
    let ready = peer.ask(&Request::legacy(&session, &ready).target(path));
    assert_eq!((ready.status, ready.body.len()), (202, 0));
    session
}

fn ping(id: u64) -> Value {
    legacy(id, "ping", json!({}))
}

fn delete(session: &str) -> Request {
    Request::new("DELETE", "/mcp").with("Mcp-Session-Id", session)
}

#[test]
fn a_session_is_the_same_on_every_connection_of_every_core() {
    let server = Server::start();
    for home in 0..2 {
        let session = open(&mut server.connect_on(home), "2025-11-25");
        assert!(session.len() >= 32 && session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{session}");
        for core in [0, 1, 0] {
            let mut peer = server.connect_on(core);
            assert_eq!(
                peer.ask(&Request::legacy(&session, &ping(1))).json(),
                json!({"jsonrpc": "2.0", "id": 1, "result": {}})
            );
            let message = legacy("é", "tools/call", echo("över"));
            let answer = peer.ask(&Request::legacy(&session, &message));
            assert_eq!((text(&answer.json()), &answer.json()["id"]), ("över", &json!("é")));
            assert_eq!(answer.field("Mcp-Session-Id"), None, "told once");
            let answer = peer.ask(&Request::legacy(&session, &legacy(2, "tools/call", sleep(10))));
            assert_eq!(text(&answer.json()), "slept 10 ms");
        }
        assert_eq!(server.total("corelane_sessions_open"), 1);
        // Ended from the core that does not own it; gone on both.
        let mut stranger = server.connect_on(1 - home);
        assert_eq!(stranger.ask(&delete(&session)).status, 204);
        assert_eq!(server.total("corelane_sessions_open"), 0);
        for mut peer in [stranger, server.connect_on(home)] {
            for request in [Request::legacy(&session, &ping(1)), Request::stream(&session), delete(&session)] {
                let answer = peer.ask(&request);
                assert_eq!((answer.status, answer.code()), (404, -32001), "{request:?}");
            }
        }
    }
    assert!(server.total("corelane_parcels_sent_total") > 0, "some of it went from core to core");
}

#[test]
fn many_clients_on_many_connections_never_meet() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..40)
        .map(|number| {
            let mut peer = server.connect();
            let session = open(&mut peer, ["2025-03-26", "2025-06-18", "2025-11-25"][number % 3]);
            (number, session, peer)
        })
        .collect();
    let made = server.metric("corelane_sessions_created_total");
    assert!(made.iter().all(|&made| made >= 5), "both cores own some: {made:?}");
    // Everybody's next call goes through somebody else's connection.
    for shift in 1..4 {
        for index in 0..clients.len() {
            let (number, session) = (clients[index].0, clients[index].1.clone());
            let other = (index + shift * 7) % clients.len();
            let message = legacy(number, "tools/call", echo(&format!("I am {number}")));
            clients[other].2.send(Request::legacy(&session, &message).bytes());
        }
        for index in 0..clients.len() {
            let other = (index + shift * 7) % clients.len();
            let number = clients[index].0;
            let answer = clients[other].2.answer().json();
            assert_eq!((text(&answer), &answer["id"]), (format!("I am {number}").as_str(), &json!(number)));
        }
    }
    assert_eq!(server.total("corelane_sessions_open"), 40);
}

#[test]
fn a_session_is_opened_once_and_named_from_then_on() {
    let server = Server::start();
    for core in 0..2 {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(core);
        let again = Request::legacy(&session, &initialize(2, "2025-11-25"));
        let answer = peer.ask(&again);
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32600, &json!(2)));
        for request in [
            Request::post(&ping(1)),
            Request::post(&notice("notifications/initialized", json!({}))),
            Request::post(&json!({"jsonrpc": "2.0", "id": 1, "result": {}})),
            Request::new("GET", "/mcp").with("Accept", "text/event-stream"),
            Request::new("DELETE", "/mcp"),
        ] {
            assert_eq!(peer.ask(&request).status, 400, "{request:?}");
        }
        assert_eq!(peer.ask(&Request::stream(&session).with("Accept", "application/json")).status, 406);
        assert_eq!(peer.ask(&Request::stream(&session).without("Accept")).status, 406);
        let twice = Request::legacy(&session, &ping(1)).also("Mcp-Session-Id", &session);
        assert_eq!(peer.ask(&twice).status, 400);
    }
    assert_eq!(server.total("corelane_sessions_open"), 2);
}

#[test]
fn the_version_is_negotiated_and_its_header_checked() {
    let server = Server::start();
    let mut peer = server.connect();
    for (asked, got) in [("1999-01-01", "2025-11-25"), ("2026-07-28", "2025-11-25"), ("2024-11-05", "2024-11-05")] {
        let answer = peer.ask(&Request::post(&initialize(1, asked)));
        assert_eq!(answer.json()["result"]["protocolVersion"], got, "{asked}");
    }
    let mut broken = initialize(1, "2025-11-25");
    broken["params"].as_object_mut().unwrap().remove("capabilities");
    let answer = peer.ask(&Request::post(&broken));
    assert_eq!((answer.status, answer.code(), answer.field("Mcp-Session-Id")), (200, -32602, None));
    assert_eq!(server.total("corelane_sessions_open"), 3);
    let session = open(&mut server.connect_on(0), "2025-06-18");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        for (version, status) in [("2025-06-18", 200), ("2025-11-25", 200), ("2031-01-01", 400), ("", 400), ("x", 400)]
        {
            let answer = peer.ask(&Request::legacy(&session, &ping(1)).with("MCP-Protocol-Version", version));
            assert_eq!((answer.status, &answer.json()["id"]), (status, &json!(1)), "{version:?}");
            let answer = peer.ask(&delete("nonsense").with("MCP-Protocol-Version", version));
            assert_eq!(answer.status, if status == 200 { 404 } else { 400 }, "{version:?}");
        }
        assert_eq!(peer.ask(&Request::legacy(&session, &ping(1))).status, 200, "without the header");
        let broken = json!({"jsonrpc": "2.0", "id": {}, "method": "ping"});
        let answer = peer.ask(&Request::legacy(&session, &broken).with("MCP-Protocol-Version", "x"));
        assert_eq!((answer.status, answer.json().get("id")), (400, Some(&Value::Null)), "no id that could be told");
    }
}

#[test]
fn a_header_that_stands_twice_names_nothing() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let stranger = open(&mut server.connect_on(0), "2025-11-25");
    for core in 0..2 {
        // The head alone: a stream that is opened by mistake would have no end.
        let status = |request: Request| {
            let mut peer = server.connect_on(core);
            peer.send(request.bytes());
            peer.head().status
        };
        for request in [Request::legacy(&session, &ping(1)), Request::stream(&session), delete(&session)] {
            for (name, value) in [("Mcp-Session-Id", &*stranger), ("mcp-session-id", &session)] {
                assert_eq!(status(request.clone().also(name, value)), 400, "{request:?}");
            }
            let versions = request.clone().with("MCP-Protocol-Version", "2025-11-25");
            assert_eq!(status(versions.clone().also("MCP-Protocol-Version", "2025-11-25")), 400, "{request:?}");
            assert_eq!(status(versions.also("MCP-Protocol-Version", "2026-07-28")), 400, "{request:?}");
            assert_eq!(status(request.with("MCP-Protocol-Version", "1999-01-01")), 400);
        }
    }
    assert_eq!(server.total("corelane_sessions_open"), 2, "nothing was deleted");
}

#[test]
fn errors_of_the_legacy_era_come_with_200() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        for (message, code) in [
            (legacy(1, "no/such", json!({})), -32601),
            (legacy(1, "server/discover", json!({})), -32601),
            (legacy(1, "subscriptions/listen", json!({})), -32601),
            (legacy(1, "tools/call", json!({"name": "no such tool"})), -32602),
            (legacy(1, "resources/read", json!({"uri": "corelane://nowhere"})), -32002),
        ] {
            let answer = peer.ask(&Request::legacy(&session, &message));
            assert_eq!((answer.status, answer.code()), (200, code), "{message}");
        }
        let answer = peer.ask(&Request::legacy(&session, &legacy(1, "tools/call", json!({"name": "fail"}))));
        assert_eq!(answer.json()["result"]["isError"], true);
        let late = Request::legacy(&session, &legacy(1, "tools/call", sleep(60_000)));
        assert_eq!(peer.ask(&late.with("X-Request-Timeout-Ms", "30")).code(), -31504);
    }
}

#[test]
fn batches_belong_to_one_revision() {
    let server = Server::start();
    let batch =
        json!([ping(1), notice("notifications/x", json!({})), legacy("two", "tools/call", echo("2")), {"id": 3}]);
    let session = open(&mut server.connect_on(0), "2025-03-26");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let answer = peer.ask(&Request::legacy(&session, &batch));
        let answers = answer.json();
        let answers = answers.as_array().expect("an array for an array");
        assert_eq!((answer.status, answers.len()), (200, 3));
        assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!(1), &json!("two")));
        assert_eq!(text(&answers[1]), "2");
        assert_eq!(answers[2]["error"]["code"], -32600);
        let notices = json!([notice("notifications/x", json!({})), notice("notifications/y", json!({}))]);
        let answer = peer.ask(&Request::legacy(&session, &notices));
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        let answer = peer.ask(&Request::legacy(&session, &json!([])));
        assert_eq!((answer.status, answer.code()), (400, -32600));
        let answer = peer.ask(&Request::legacy(&session, &json!([initialize(1, "2025-03-26")])));
        assert_eq!(answer.json()[0]["error"]["code"], -32600);
        // Members that take their time: a stream that ends with the last of them.
        let slow = json!([legacy(1, "tools/call", sleep(60)), ping(2), legacy(3, "tools/call", sleep(5))]);
        peer.open(&Request::legacy(&session, &slow));
        let mut ids: Vec<_> = peer.rest().iter().map(|message| message["id"].as_u64().unwrap()).collect();
        assert_eq!(ids[0], 2, "what is ready goes first");
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(peer.ask(&Request::legacy(&session, &ping(9))).status, 200);
    }
    for version in ["2025-06-18", "2025-11-25"] {
        let session = open(&mut server.connect_on(0), version);
        for core in 0..2 {
            let answer = server.connect_on(core).ask(&Request::legacy(&session, &batch));
            assert_eq!((answer.status, answer.code()), (400, -32600), "{version}");
        }
    }
}

#[test]
fn an_id_is_in_flight_once_in_a_session() {
    let server = Server::start();
    for (called_on, again_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let stranger = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(called_on);
        peer.send(Request::legacy(&session, &legacy(7, "tools/call", sleep(60_000))).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        let mut other = server.connect_on(again_on);
        for message in [legacy(7, "tools/call", echo("x")), legacy(7, "tools/call", sleep(1)), ping(7)] {
            let answer = other.ask(&Request::legacy(&session, &message));
            assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32600, &json!(7)), "{message}");
        }
        // Another id, and the same one of another client.
        assert_eq!(other.ask(&Request::legacy(&session, &legacy("7", "tools/call", echo("x")))).status, 200);
        assert_eq!(other.ask(&Request::legacy(&stranger, &legacy(7, "tools/call", sleep(1)))).status, 200);
        let cancel = notice("notifications/cancelled", json!({"requestId": 7}));
        assert_eq!(other.ask(&Request::legacy(&session, &cancel)).status, 202);
        peer.stream_head();
        assert_eq!(peer.rest(), Vec::<Value>::new());
        let answer = other.ask(&Request::legacy(&session, &legacy(7, "tools/call", sleep(1))));
        assert_eq!(text(&answer.json()), "slept 1 ms", "and free again");
    }
    assert_eq!(server.refused("duplicate_id"), 12);
}

#[test]
fn an_id_stands_once_in_a_batch() {
    let server = Server::start();
    let quick = json!([legacy(1, "tools/call", echo("x")), ping(1), legacy("1", "tools/call", echo("y")), ping(1)]);
    let slow = json!([legacy(1, "tools/call", sleep(30)), legacy(1, "tools/call", sleep(1)), ping(1)]);
    let session = open(&mut server.connect_on(0), "2025-03-26");
    let codes = |messages: &[Value]| -> Vec<Option<i64>> {
        messages.iter().map(|message| message["error"]["code"].as_i64()).collect()
    };
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let answers = peer.ask(&Request::legacy(&session, &quick)).json();
        assert_eq!(codes(answers.as_array().expect("an array")), [None, Some(-32600), None, Some(-32600)]);
        peer.open(&Request::legacy(&session, &slow));
        let messages = peer.rest();
        assert_eq!(codes(&messages), [Some(-32600), Some(-32600), None]);
        assert!(messages.iter().all(|message| message["id"] == 1), "{messages:?}");
    }
    let mut peer = server.lines();
    peer.write_line(&initialize(0, "2025-03-26"));
    peer.read_line();
    peer.write_line(&slow);
    let messages: Vec<_> = (0..3).map(|_| peer.read_line()).collect();
    assert_eq!(codes(&messages), [Some(-32600), Some(-32600), None]);
    assert_eq!(server.refused("duplicate_id"), 10);
}

#[test]
fn one_cancelled_member_does_not_end_its_batch() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-03-26");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let slow = json!([legacy(1, "tools/call", sleep(60_000)), legacy(2, "tools/call", sleep(300))]);
        peer.open(&Request::legacy(&session, &slow));
        server.until_total("corelane_calls_in_flight", 2);
        let cancel = notice("notifications/cancelled", json!({"requestId": 1}));
        assert_eq!(server.connect_on(0).ask(&Request::legacy(&session, &cancel)).status, 202);
        let rest = peer.rest();
        assert_eq!((rest.len(), text(&rest[0])), (1, "slept 300 ms"), "from core {core}");
    }
}

#[test]
fn sessions_have_a_number() {
    let server = Server::on(1, &[("SESSIONS_PER_CORE_MAX", "2")]);
    let mut peer = server.connect();
    let session = open(&mut peer, "2025-11-25");
    open(&mut peer, "2025-11-25");
    let answer = peer.ask(&Request::post(&initialize(1, "2025-11-25")));
    assert_eq!((answer.status, answer.code(), answer.field("Retry-After")), (503, -31503, Some("1")));
    assert_eq!(server.refused("sessions_full"), 1);
    assert_eq!(peer.ask(&delete(&session)).status, 204);
    open(&mut peer, "2025-11-25");
}

#[test]
fn deleting_a_session_ends_what_hangs_on_it() {
    let server = Server::start();
    for (home, elsewhere) in [(0, 0), (0, 1)] {
        let session = open(&mut server.connect_on(home), "2025-11-25");
        let (mut stream, mut call) = (server.connect_on(elsewhere), server.connect_on(elsewhere));
        stream.open(&Request::stream(&session));
        call.send(Request::legacy(&session, &legacy(1, "tools/call", sleep(60_000))).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        assert_eq!(server.connect_on(1).ask(&delete(&session)).status, 204);
        assert_eq!(stream.rest(), Vec::<Value>::new());
        let told = call.answer();
        assert_eq!((told.code(), &told.json()["id"]), (-32001, &json!(1)), "nobody waits for what will not come");
        server.until_total("corelane_calls_in_flight", 0);
        server.until_total("corelane_streams_open", 0);
        // Their connections are as good as new.
        assert_eq!((stream.ask(&Request::stream(&session)).status, call.ask(&delete(&session)).status), (404, 404));
    }
}
