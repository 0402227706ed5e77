//! Session ids: only what this start of this process sealed opens a session, and only the one it was sealed for.

use serde_json::json;

use crate::legacy::open;
use crate::process::Server;
use crate::request::{Request, legacy};

fn status(server: &Server, core: usize, session: &str) -> u16 {
    server.connect_on(core).ask(&Request::legacy(session, &legacy(1, "ping", json!({})))).status
}

#[test]
fn a_changed_id_is_nobodys() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let mut ask = |id: &str| peer.ask(&Request::legacy(id, &legacy(1, "ping", json!({})))).status;
        for at in 0..session.len() {
            for other in [b'A', b'B', b'-', b'9'] {
                let mut forged = session.clone().into_bytes();
                forged[at] = if forged[at] == other { b'z' } else { other };
                assert_eq!(ask(std::str::from_utf8(&forged).unwrap()), 404, "changed at {at} on core {core}");
            }
        }
        for length in 0..session.len() {
            assert_eq!(ask(&session[..length]), 404, "cut to {length}");
        }
        for forged in [format!("{session}A"), format!("{session}="), format!("{session}, {session}")] {
            assert_eq!(ask(&forged), 404);
        }
        assert_eq!(ask(&session), 200);
    }
    assert_eq!(server.total("corelane_sessions_open"), 1);
}

#[test]
fn an_id_dies_with_the_process_even_if_the_key_does_not() {
    let key = ("SESSIONS_TICKET_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    let first = Server::with(&[key]);
    let old = open(&mut first.connect_on(0), "2025-11-25");
    assert_eq!(status(&first, 1, &old), 200);
    drop(first);
    let second = Server::with(&[key]);
    // Strangers in every slot that the old id could mean.
    let strangers: Vec<_> = (0..40).map(|round| open(&mut second.connect_on(round % 2), "2025-11-25")).collect();
    for core in 0..2 {
        assert_eq!(status(&second, core, &old), 404);
        assert!(strangers.iter().all(|id| *id != old) && status(&second, core, &strangers[0]) == 200);
    }
    let other = Server::start();
    let foreign = open(&mut other.connect_on(0), "2025-11-25");
    assert_eq!((status(&second, 0, &foreign), status(&second, 1, &foreign)), (404, 404));
}

#[test]
fn a_deleted_sessions_slot_is_not_reached_by_its_old_id() {
    let server = Server::on(1, &[("CORES_SHARDS", "1")]);
    let mut peer = server.connect();
    let old = open(&mut peer, "2025-11-25");
    assert_eq!(peer.ask(&Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &old)).status, 204);
    let new = open(&mut peer, "2025-11-25");
    assert_eq!((status(&server, 0, &old), status(&server, 0, &new)), (404, 200));
}

#[test]
fn an_address_of_one_kind_is_not_one_of_another() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let mut stream = server.connect_on(0);
    stream.open(&Request::new("GET", "/sse").with("Accept", "text/event-stream"));
    let target = stream.event().unwrap().data.unwrap();
    let address = target.split_once('=').unwrap().1;
    assert_eq!(status(&server, 0, address), 404, "a stream's address is no session id");
    let message = Request::post(&legacy(1, "ping", json!({})));
    assert_eq!(server.connect().ask(&message.target(&format!("/message?sessionId={session}"))).status, 404);
}
