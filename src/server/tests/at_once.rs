//! What belongs together leaves in one send: a status line that waits for its first event would cost 40 ms on a
//! connection whose peer delays its acknowledgements.

use super::rig::{Rig, WAIT, call, get, legacy, status};
use crate::server::connection::Wire;
use crate::server::core::Input;
use crate::server::service::Mail;

/// How often something was sent for a request, and what.
fn sends(rig: &mut Rig, at: (usize, u32), request: &str) -> (usize, String) {
    let before = rig.seen[&at].sends;
    let answer = rig.ask(at, request);
    (rig.seen[&at].sends - before, answer)
}

#[test]
fn a_head_leaves_with_its_body_and_with_its_first_event() {
    for at in 0..2 {
        let mut rig = Rig::new(2);
        let home = rig.connect(0, Wire::Http);
        let session = rig.open(home);
        let peer = rig.connect(at, Wire::Http);
        let (count, answer) = sends(&mut rig, peer, &call("1", "echo", ""));
        assert!(count == 1 && answer.ends_with('}'), "{count}: {answer}");
        // A stream that is primed, on its session's core and elsewhere.
        let stream = rig.connect(at, Wire::Http);
        let (count, answer) = sends(&mut rig, stream, &get(&session, None));
        assert!(count == 1 && status(&answer) == "200" && answer.contains("id: "), "{count}: {answer}");
        // One that begins with an acknowledgement.
        let lines = rig.connect(at, Wire::Http);
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{meta}}}}}"#
        );
        let listen = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, \
             text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        );
        let (count, answer) = sends(&mut rig, lines, &listen);
        assert!(count == 1 && answer.contains("acknowledged"), "{count}: {answer}");
        // An answer that becomes a stream by its first notification.
        let peer = rig.connect(at, Wire::Http);
        rig.send(peer, legacy(Some(&session), WAIT));
        let key = rig.cores[0].service().waiting[0];
        let before = rig.seen[&peer].sends;
        rig.step(0, Input::Mail(Mail::Notice { key, method: "notifications/progress", params: b"{}".to_vec() }));
        let told = rig.take(peer);
        assert!(status(&told) == "200" && told.contains("notifications/progress"), "{told}");
        assert_eq!(rig.seen[&peer].sends - before, 1, "from core {at}");
    }
}
