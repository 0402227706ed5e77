//! What the metrics say of the steps of a request.

use serde_json::json;

use crate::legacy::open;
use crate::process::Server;
use crate::request::{Request, echo, legacy, modern, sleep};

#[test]
fn every_step_of_a_request_has_its_times() {
    let server = Server::start();
    let (mut here, mut there) = (server.connect_on(0), server.connect_on(1));
    let session = open(&mut here, "2025-11-25");
    for id in 0..300 {
        assert_eq!(here.ask(&Request::modern(&modern(id, "tools/call", echo("x")))).status, 200);
        // From the other core, over the mesh.
        assert_eq!(there.ask(&Request::legacy(&session, &legacy(id, "ping", json!({})))).status, 200);
    }
    // An answer that comes late, and a line that waits behind it for its turn.
    let mut both = Request::modern(&modern(1, "tools/call", sleep(30))).bytes();
    both.extend(Request::modern(&modern(2, "tools/call", echo("x"))).bytes());
    here.send(&both);
    assert_eq!((here.answer().status, here.answer().status), (200, 200));
    for step in ["read", "frame", "scan", "route", "handle", "encode", "write", "queue_wait", "mesh_hop"] {
        let count = server.total(&format!("corelane_step_seconds_count{{step=\"{step}\"}}"));
        assert!(count > 0, "{step} was never recorded");
    }
}
