//! The machines behind a byte filter: the same answers as without, and an end that has to be announced.
//!
//! Not here: the filter itself (`filter/reframing`), sockets (`boot/tests/filtered`).

use proptest::prelude::*;

use super::rig::{INITIALIZE, PING, Rig, SECOND, WAIT, call, get, legacy, line, status};
use super::times::conversation;
use crate::ids::ConnectionId;
use crate::metrics::CloseCause;
use crate::server::connection::Wire;
use crate::server::core::{End, Input};
use crate::server::filter::ByteFilter;

/// What several clients see of a core while they do most of what clients do.
fn transcript(mut rig: Rig) -> Vec<String> {
    let mut seen = Vec::new();
    let (one, two) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Http));
    seen.push(rig.ask(one, call("1", "echo", "")));
    seen.push(rig.ask(one, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    // An answer that comes late, to a client that has sent the next request already.
    rig.send(one, call("2", "wait", "") + &call("3", "echo", ""));
    rig.reply(0);
    seen.push(rig.take(one));
    // A session, its GET stream, a call that is answered on a stream, its end.
    let session = rig.open(two);
    let (three, four) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Http));
    seen.push(rig.ask(three, get(&session, None)));
    rig.pass(16 * SECOND);
    seen.push(rig.take(three));
    rig.send(four, legacy(Some(&session), WAIT));
    rig.pass(SECOND);
    rig.reply(0);
    seen.push(rig.take(four));
    seen.push(rig.ask(four, legacy(Some(&session), PING).replace("POST /mcp", "DELETE /mcp")));
    seen.push(rig.take(three));
    // Lines, both eras on two connections, several in flight.
    let (five, six) = (rig.connect(0, Wire::Lines), rig.connect(0, Wire::Lines));
    rig.send(five, line("1", "wait") + &line("2", "echo") + &line("3", "wait"));
    rig.reply(0);
    rig.reply(0);
    seen.push(rig.take(five));
    seen.push(rig.ask(six, format!("{INITIALIZE}\n{PING}\nnot json\n")));
    // What cannot be framed, and what comes too slowly.
    let (seven, eight) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Http));
    seen.push(rig.ask(seven, "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"));
    rig.send(eight, "POST /mcp HTTP/1.1\r\nHo");
    rig.pass(7 * SECOND);
    seen.push(rig.take(eight));
    rig.step(0, Input::Drain);
    rig.pass(20 * SECOND);
    for peer in [one, two, three, four, five, six, seven, eight] {
        seen.push(format!("{} {:?}", rig.take(peer), rig.seen[&peer].closed));
    }
    assert!(rig.drained[0]);
    seen
}

#[test]
fn a_filter_changes_nothing_that_is_said() {
    let plain = transcript(Rig::new(1));
    assert!(plain.iter().take(12).all(|seen| !seen.is_empty()), "each step of the script is answered: {plain:?}");
    assert_eq!(transcript(Rig::filtered(1)), plain);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_mean_the_same_however_they_are_cut(mut cuts in prop::collection::vec(0usize..2600, 0..40)) {
        let mut whole = Rig::new(1);
        let peer = whole.connect(0, Wire::Http);
        let expected = whole.ask(peer, conversation());
        let mut rig = Rig::filtered(1);
        let peer = rig.connect(0, Wire::Http);
        let wire = rig.end_of(peer).seal(conversation());
        cuts.retain(|&cut| cut < wire.len());
        cuts.push(wire.len());
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts {
            if cut > from {
                rig.send_wire(peer, &wire[from..cut]);
            }
            from = cut;
        }
        prop_assert_eq!(rig.take(peer), expected);
    }
}

#[test]
fn our_end_is_announced_before_the_wire_is_shut() {
    let mut rig = Rig::filtered(1);
    let peer = rig.connect(0, Wire::Http);
    rig.ask(peer, call("1", "echo", "Connection: close\r\n"));
    assert!(rig.end_of(peer).peer_has_ended(), "the farewell came");
    assert!(rig.seen[&peer].shut);
}

#[test]
fn the_peers_farewell_ends_the_connection() {
    let mut rig = Rig::filtered(1);
    let peer = rig.connect(0, Wire::Http);
    rig.ask(peer, call("1", "echo", ""));
    rig.end_of(peer).finish();
    rig.send(peer, b"");
    assert!(rig.end_of(peer).peer_has_ended() && rig.seen[&peer].closed);
    assert_eq!(rig.metrics[0].closed(CloseCause::PeerClosed), 1);
}

#[test]
fn an_end_without_a_farewell_is_a_broken_connection() {
    let mut rig = Rig::filtered(1);
    let lines = rig.connect(0, Wire::Lines);
    rig.send(lines, line("1", "wait"));
    rig.step(0, Input::Ended { id: ConnectionId { slot: lines.1, generation: 0 }, how: End::Finished });
    assert!(rig.seen[&lines].closed, "nothing is owed to a stream that was cut");
    assert_eq!(rig.metrics[0].closed(CloseCause::PeerReset), 1);
    assert_eq!(rig.cores[0].service().cancelled.len(), 1);
}

#[test]
fn bytes_of_another_protocol_are_a_fault() {
    let mut rig = Rig::filtered(1);
    let peer = rig.connect(0, Wire::Http);
    rig.send_wire(peer, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(rig.metrics[0].closed(CloseCause::ProtocolError), 1);
    rig.pass(2 * SECOND);
    assert!(rig.seen[&peer].closed);
}

#[test]
fn a_greeting_that_does_not_come_to_its_end_has_the_time_of_a_head() {
    for wire in [Wire::Http, Wire::Lines] {
        let mut rig = Rig::new(1);
        rig.cores[0].settings.filters = vec![crate::server::filter::FilterKind::Reframing; 2];
        let id = ConnectionId { slot: 900, generation: 0 };
        rig.step(0, Input::Accepted { id, listener: usize::from(wire == Wire::Lines), peer: None });
        // A byte now and then buys no time.
        for byte in b"REFR" {
            rig.send_wire((0, 900), &[*byte]);
            rig.pass(2 * SECOND);
        }
        assert!(rig.seen[&(0, 900)].closed, "{wire:?}");
        assert_eq!(rig.metrics[0].closed(CloseCause::HeadTimeout), 1, "{wire:?}");
    }
}

#[test]
fn who_is_refused_hears_it_once_the_greeting_is_over() {
    let mut rig = Rig::filtered(1);
    let peers: Vec<_> = (0..9).map(|_| rig.connect(0, Wire::Http)).collect();
    assert_eq!(status(&rig.take(peers[8])), "503");
    assert!(rig.end_of(peers[8]).peer_has_ended());
}
