//! Zones: how near its limits the process says it is, and that it says so once.
//!
//! Not here: when a zone changes (`shard/zone`). Invariant: a zone is waited for, never a time.

use serde_json::Value;

use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::Request;

fn shown(server: &Server) -> Value {
    Peer::connect(server.control).ask(&Request::new("GET", "/admin/v1/zones")).json()
}

fn until_zone(server: &Server, zone: &str) -> Value {
    until(zone, || Some(shown(server)).filter(|shown| shown["zone"] == zone))
}

#[test]
fn every_zone_is_reached_said_and_left() {
    // Eight connections at most; what else is read is left out, since this host may be as busy as it likes.
    let mut server = Server::on(
        1,
        &[
            ("LIMITS_CONNECTIONS_PER_CORE", "16"),
            ("ZONES_CONNECTIONS_PERCENT", "25,50,75"),
            ("ZONES_CPU_PERCENT", ""),
            ("ZONES_MEMORY_PERCENT", ""),
            ("ZONES_WAIT_MS", ""),
            ("ZONES_RISE_MS", "0"),
            ("ZONES_FALL_MS", "0"),
        ],
    );
    let healthz = |server: &Server| Peer::connect(server.control).ask(&Request::new("GET", "/healthz")).json();
    assert_eq!(until_zone(&server, "green")["alerts"], serde_json::json!([]));
    let mut peers = Vec::new();
    for (open, zone, percent) in [(4, "yellow", 25), (8, "orange", 50), (12, "red", 75)] {
        while peers.len() < open {
            peers.push(server.connect());
        }
        let shown = until_zone(&server, zone);
        let alert = &shown["alerts"][0];
        assert_eq!((alert["reading"].as_str(), alert["to"].as_str()), (Some("connections"), Some(zone)), "{shown}");
        assert_eq!((alert["threshold"].as_u64(), alert["value"].as_u64()), (Some(percent), Some(percent)), "{shown}");
        assert_eq!(alert["runbook"], "RUNBOOK.md#connections");
        assert_eq!(healthz(&server)["zone"], zone);
        server.until_said(&format!("connections is {zone}: {percent} percent"));
    }
    let metrics = Peer::connect(server.control).ask(&Request::new("GET", "/metrics")).text();
    assert!(metrics.contains("corelane_zone{reading=\"connections\"} 3\n"), "{metrics}");
    assert!(metrics.contains("corelane_zone_reading{reading=\"connections\"} 75\n"));
    assert!(metrics.contains("corelane_zone{reading=\"memory\"} 0\n"), "it is not looked at");
    drop(peers);
    let shown = until_zone(&server, "green");
    assert_eq!(shown["alerts"][0]["to"], "green");
    server.until_said("connections is green again");
    assert_eq!(server.count_said("connections is red"), 1, "once");
}
