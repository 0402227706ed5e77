//! Credentials that clients send although none are asked for: nothing is made of them, and nothing of them is kept.
//!
//! Not here: what servers behind are shown (`secured`). Invariant: until callers are authenticated, whoever knows a
//! session's id is its client, and no header changes that.

use serde_json::json;

use crate::process::Server;
use crate::request::{Request, echo, initialize, legacy, modern, text};

const SECRET: &str = "s3cr3t-of-a-client";

#[test]
fn a_credential_changes_nothing_and_is_written_nowhere() {
    let mut server = Server::on(2, &[("LOG_LEVEL", "trace")]);
    let secret = format!("Bearer {SECRET}");
    let mut peer = server.connect();
    let call = Request::modern(&modern(1, "tools/call", echo("x")));
    for credential in [&*secret, "Basic %%%", "", "Bearer a, Bearer b"] {
        let answer = peer.ask(&call.clone().with("Authorization", credential));
        assert_eq!((answer.status, text(&answer.json())), (200, "x"), "{credential}");
        assert_eq!(answer.field("www-authenticate"), None);
    }
    // A session is nobody's but whose id it is: on either core, with another credential or none.
    let opened = peer.ask(&Request::post(&initialize(1, "2025-11-25")).with("Authorization", &secret));
    let session = opened.field("mcp-session-id").expect("a session").to_owned();
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        let ping = Request::legacy(&session, &legacy(2, "ping", json!({})));
        for request in [ping.clone(), ping.clone().with("Authorization", "Bearer another")] {
            assert_eq!(peer.ask(&request).status, 200);
        }
        // What is refused is refused for what it is.
        let unknown = Request::legacy("stranger", &legacy(3, "ping", json!({}))).with("Authorization", &secret);
        let answer = peer.ask(&unknown);
        assert_eq!((answer.status, answer.field("www-authenticate")), (404, None));
        assert!(!answer.text().contains(SECRET));
    }
    let metrics = crate::peer::Peer::connect(server.control).ask(&Request::new("GET", "/metrics")).text();
    assert!(metrics.contains("corelane_build_info") && !metrics.contains(SECRET));
    server.signal("TERM");
    server.until_ended();
    assert!(server.count_said("draining") > 0, "its log was read");
    assert_eq!(server.count_said(SECRET), 0, "its log says nothing of it");
}
