//! Messages for a server that was not reached yet: who waits, for how long, and that nothing stays of it.

use super::rig::{INITIALIZE, PING, Rig, SECOND, WAIT_FOR_SERVER, call, legacy, line, status};
use crate::ids::ConnectionId;
use crate::server::connection::Wire;
use crate::server::core::{End, Input};

const LATE: u64 = SECOND / 10;

/// A core whose service knows nothing yet.
fn early() -> Rig {
    let mut rig = Rig::new(1);
    rig.cores[0].service().is_early = true;
    rig
}

fn reach(rig: &mut Rig) {
    rig.cores[0].service().is_early = false;
    rig.settle();
}

#[test]
fn a_message_waits_with_its_connection_and_is_answered_as_if_it_came_now() {
    let chunked = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        let head: String =
            head.lines().filter(|line| !line.starts_with("Content-Length")).collect::<Vec<_>>().join("\r\n");
        format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let opening = legacy(None, INITIALIZE);
    for (name, request) in [("whole", opening.clone()), ("chunked", chunked(&opening))] {
        let mut rig = early();
        let peers = [rig.connect(0, Wire::Http), rig.connect(0, Wire::Http), rig.connect(0, Wire::Lines)];
        let [http, modern, lines] = peers;
        // Behind each another message, which waits for its turn.
        rig.send(http, request.clone() + &call("7", "echo", ""));
        let (front, back) = request.split_at(request.len() - 9);
        rig.send(modern, front);
        rig.send(modern, back);
        rig.send(lines, format!("{INITIALIZE}\n{PING}\n"));
        // Longer than the pause in which a quiet stream begins: an answer that opens a session has its id in the head.
        rig.pass(16 * SECOND);
        for peer in peers {
            assert_eq!(rig.take(peer), "", "{name}");
        }
        let counted = rig.metrics[0].messages_in.get();
        reach(&mut rig);
        let answers = rig.take(http);
        assert!(answers.contains("Mcp-Session-Id: ") && answers.contains("\"id\":7"), "{name}: {answers}");
        assert!(rig.take(modern).contains("Mcp-Session-Id: "), "{name}");
        let said = rig.take(lines);
        assert!(said.contains("protocolVersion") && said.ends_with("\"id\":2,\"result\":{}}\n"), "{said}");
        assert_eq!(rig.metrics[0].messages_in.get(), counted + 2, "the two that came behind, and none twice");
        assert!(rig.cores[0].early.is_empty());
    }
}

#[test]
fn who_waited_long_enough_is_told_and_goes_on() {
    let mut rig = early();
    let (http, lines, hasty) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Lines), rig.connect(0, Wire::Http));
    rig.send(http, legacy(None, INITIALIZE));
    rig.send(lines, line("1", "echo"));
    rig.send(hasty, call("1", "echo", "X-Request-Timeout-Ms: 1000\r\n"));
    rig.pass(SECOND + LATE);
    assert_eq!(status(&rig.take(hasty)), "502", "no longer than it wants to wait");
    rig.pass(WAIT_FOR_SERVER - 2 * SECOND);
    assert_eq!((rig.take(http), rig.take(lines)), (String::new(), String::new()), "not before its time");
    rig.pass(SECOND + LATE);
    let (answer, said) = (rig.take(http), rig.take(lines));
    assert!(status(&answer) == "503" && answer.contains("not reached"), "{answer}");
    assert!(said.contains("not reached"), "{said}");
    assert_eq!(rig.cores[0].population(), (3, 0, 0), "no session was made for nothing");
    assert!(rig.cores[0].early.is_empty());
    reach(&mut rig);
    assert!(rig.ask(http, legacy(None, INITIALIZE)).contains("Mcp-Session-Id: "), "the connection is good for another");
    assert!(rig.ask(lines, line("2", "echo")).contains("\"id\":2"));
}

#[test]
fn what_waits_is_gone_with_its_client_and_ends_with_a_drain() {
    let mut rig = early();
    let (lost, shut, half) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Http), rig.connect(0, Wire::Lines));
    for peer in [lost, shut] {
        rig.send(peer, legacy(None, INITIALIZE));
    }
    rig.send(half, format!("{INITIALIZE}\n"));
    let id = |slot| ConnectionId { slot, generation: 0 };
    rig.step(0, Input::Ended { id: id(lost.1), how: End::Reset });
    rig.step(0, Input::Ended { id: id(shut.1), how: End::Finished });
    rig.step(0, Input::Ended { id: id(half.1), how: End::Finished });
    assert_eq!(rig.cores[0].early.len(), 1, "a pipe that was closed behind its last message is still answered");
    reach(&mut rig);
    assert!(rig.take(half).contains("protocolVersion"));
    assert_eq!(rig.cores[0].population().2, 0, "its session ends with it");

    rig.cores[0].service().is_early = true;
    let waits = rig.connect(0, Wire::Http);
    rig.send(waits, legacy(None, INITIALIZE));
    rig.step(0, Input::Drain);
    assert_eq!(status(&rig.take(waits)), "503");
    rig.pass(2 * SECOND);
    assert!(rig.drained[0] && rig.cores[0].early.is_empty());
}
