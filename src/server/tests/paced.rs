//! A connection that sends more messages than its rate has: it is slowed down, nothing is refused or lost, and nobody
//! else notices.

use super::rig::{Rig, SECOND, call, line};
use crate::ids::ConnectionId;
use crate::metrics::Refusal;
use crate::server::connection::Wire;
use crate::server::core::{End, Input, TICK};
use crate::shard::rate::Rate;

const WIRES: [Wire; 2] = [Wire::Lines, Wire::Http];

/// One core whose connections may send so much.
fn rig(per_second: u64, burst: u64) -> Rig {
    let mut rig = Rig::new(1);
    rig.cores[0].settings.messages = Rate::per_second(per_second, burst, 0);
    rig
}

fn message(wire: Wire, id: usize) -> String {
    match wire {
        Wire::Lines => line(&id.to_string(), "echo"),
        Wire::Http => call(&id.to_string(), "echo", ""),
    }
}

/// The ids of what was answered, in order.
fn answered(answers: &str) -> Vec<usize> {
    let ids = answers.split("\"id\":").skip(1);
    ids.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|id| id.parse().ok()).unwrap_or(0))
        .collect()
}

#[test]
fn a_burst_is_answered_at_once_and_the_rest_at_the_rate_in_order() {
    for wire in WIRES {
        let mut rig = rig(10, 4);
        let peer = rig.connect(0, wire);
        let all: String = (0..12).map(|id| message(wire, id)).collect();
        assert_eq!(answered(&rig.ask(peer, &all)), [0, 1, 2, 3], "{wire:?}");
        assert_eq!(rig.metrics[0].refused(Refusal::RateLimited), 1);
        // Who has the whole rate for himself is not kept waiting.
        let other = rig.connect(0, wire);
        assert_eq!(answered(&rig.ask(other, message(wire, 7))), [7]);
        rig.pass(SECOND / 2 + TICK);
        assert_eq!(answered(&rig.take(peer)), [4, 5, 6, 7, 8], "{wire:?}");
        rig.pass(SECOND / 2);
        assert_eq!(answered(&rig.take(peer)), [9, 10, 11], "{wire:?}");
        rig.pass(10 * SECOND);
        assert!(!rig.seen[&peer].closed && rig.take(peer).is_empty(), "and then it is idle as any other");
        assert_eq!(answered(&rig.ask(peer, message(wire, 12))), [12]);
    }
}

#[test]
fn what_waits_for_its_turn_is_not_taken_for_a_slow_sender() {
    for wire in WIRES {
        // Longer than a head, a body and an idle connection may take.
        let mut rig = rig(1, 1);
        let peer = rig.connect(0, wire);
        let all: String = (0..100).map(|id| message(wire, id)).collect();
        rig.send(peer, &all[..all.len() - 20]);
        // Ticks come late by up to one each.
        rig.pass(101 * SECOND);
        assert!(!rig.seen[&peer].closed, "{wire:?}");
        assert_eq!(answered(&rig.take(peer)).len(), 99, "{wire:?}");
        rig.send(peer, &all[all.len() - 20..]);
        rig.pass(SECOND);
        assert_eq!(answered(&rig.take(peer)), [99], "{wire:?}");
    }
}

#[test]
fn whoever_goes_on_sending_is_not_read_until_there_is_room() {
    for wire in WIRES {
        let mut rig = rig(100, 1);
        let peer = rig.connect(0, wire);
        let mut sent = 0;
        while !rig.seen[&peer].unread {
            assert!(sent < 1000, "what it sends is taken in without end");
            rig.send(peer, message(wire, sent));
            sent += 1;
        }
        let most = rig.cores[0].settings.pipeline_bytes + message(wire, sent).len();
        assert!(rig.cores[0].audit().expect("all fits").carry_most <= most);
        assert_eq!(rig.metrics[0].refused(Refusal::RateLimited), 1, "counted once, and not for each that waits");
        rig.pass(SECOND);
        assert!(!rig.seen[&peer].unread);
        assert_eq!(answered(&rig.take(peer)), (0..sent).collect::<Vec<_>>(), "{wire:?}");
    }
}

#[test]
fn who_leaves_while_waiting_leaves_nothing_behind() {
    for (wire, how) in WIRES.into_iter().flat_map(|wire| [(wire, End::Finished), (wire, End::Reset)]) {
        let mut rig = rig(10, 1);
        let peer = rig.connect(0, wire);
        rig.send(peer, (0..5).map(|id| message(wire, id)).collect::<String>());
        let id = ConnectionId { slot: peer.1, generation: 0 };
        rig.step(0, Input::Ended { id, how });
        rig.pass(2 * SECOND);
        assert_eq!(rig.cores[0].population(), (0, 0, 0), "{wire:?} {how:?}");
        // Lines that were sent before the end are answered, as without a rate.
        let expected = if (wire, how) == (Wire::Lines, End::Finished) { 5 } else { 1 };
        assert_eq!(answered(&rig.take(peer)).len(), expected, "{wire:?} {how:?}");
    }
}

#[test]
fn a_turn_that_has_come_is_not_missed_because_something_else_happens_first() {
    let mut rig = rig(10, 4);
    let peer = rig.connect(0, Wire::Lines);
    let all: String = (1..8).map(|id| message(Wire::Lines, id)).collect();
    assert_eq!(answered(&rig.ask(peer, line("0", "wait") + &all)), [1, 2, 3]);
    // Later than its turn, and before the wheel's next tick.
    rig.now += SECOND / 10 + 1;
    let id = ConnectionId { slot: peer.1, generation: 0 };
    rig.step(0, Input::Ended { id, how: End::Finished });
    rig.pass(2 * TICK);
    assert_eq!(answered(&rig.take(peer)), [4]);
    rig.pass(SECOND);
    assert_eq!(answered(&rig.take(peer)), [5, 6, 7]);
}
