//! What all connections of a core carry together: what comes in pieces makes room for what comes after it, and who
//! waits for an answer is not read when too much waits.

use super::rig::{MS, Rig, call, line, post};
use crate::ids::ConnectionId;
use crate::limits::{COMING_BYTES_PER_CORE_MAX, STANDING_BYTES_PER_CORE_MAX};
use crate::metrics::{CloseCause, Refusal};
use crate::server::connection::Wire;

/// As much of a body as comes of it, and what would follow.
const PART: usize = 900_000;
const BODY: usize = 1_000_000;

fn rig(connections: usize) -> Rig {
    let mut rig = Rig::new(1);
    rig.cores[0].admission =
        crate::server::accept::Admission::new(connections, 1, crate::shard::permits::Permits::unlimited());
    rig
}

fn begun(fields: &str) -> Vec<u8> {
    let head = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n");
    [head.as_bytes(), &vec![b' '; PART]].concat()
}

#[test]
fn of_messages_that_come_in_pieces_the_oldest_goes_when_there_is_no_room() {
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{BODY:x}");
    for (fields, rest) in
        [(format!("Content-Length: {BODY}\r\n"), String::new()), (chunked, "\r\n0\r\n\r\n".to_owned())]
    {
        let mut rig = rig(100);
        let room = COMING_BYTES_PER_CORE_MAX / PART;
        let peers: Vec<_> = (0..room + 10)
            .map(|_| {
                let peer = rig.connect(0, Wire::Http);
                rig.now += MS;
                assert_eq!(rig.ask(peer, begun(&fields)), "");
                peer
            })
            .collect();
        let refused = rig.metrics[0].refused(Refusal::ComingFull) as usize;
        assert!((10..=11).contains(&refused), "{refused}");
        assert_eq!(rig.metrics[0].closed(CloseCause::ComingFull) as usize, refused);
        for (index, &peer) in peers.iter().enumerate() {
            let mut body = vec![b' '; BODY - PART];
            body.extend_from_slice(rest.as_bytes());
            let answer = rig.ask(peer, body);
            match index < refused {
                true => assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("-31503"), "{index}: {answer}"),
                // All of it came, and it is no JSON.
                false => assert!(answer.starts_with("HTTP/1.1 400"), "{index}: {answer}"),
            }
            assert_eq!(rig.seen[&peer].shut, index < refused);
        }
        assert_eq!(rig.cores[0].carried.sums(), (0, 0), "nothing is carried any more");
    }
}

#[test]
fn lines_and_requests_share_the_room_and_one_message_at_once_needs_none() {
    let mut rig = rig(1000);
    let first = rig.connect(0, Wire::Lines);
    assert_eq!(rig.ask(first, vec![b' '; PART]), "");
    for _ in 0..COMING_BYTES_PER_CORE_MAX / PART {
        let peer = rig.connect(0, Wire::Http);
        rig.now += MS;
        rig.send(peer, begun(&format!("Content-Length: {BODY}\r\n")));
        let whole = rig.connect(0, Wire::Http);
        assert!(rig.ask(whole, call("1", "echo", "Connection: close\r\n")).starts_with("HTTP/1.1 200"));
    }
    let answer = rig.take(first);
    assert!(answer.contains("-31503") && rig.seen[&first].shut, "{answer}");
    assert_eq!(rig.metrics[0].refused(Refusal::ComingFull), 1);
}

#[test]
fn who_waits_for_an_answer_is_not_read_while_too_much_waits() {
    let mut rig = rig(2000);
    rig.cores[0].settings.pipeline_bytes = 64 * 1024;
    let behind = line("2", "echo").repeat(300);
    let waiting: Vec<_> = (0..STANDING_BYTES_PER_CORE_MAX / behind.len() + 1)
        .map(|_| {
            let peer = rig.connect(0, Wire::Http);
            assert_eq!(rig.ask(peer, call("1", "wait", "")), "");
            rig.send(peer, &behind);
            peer
        })
        .collect();
    let last = rig.connect(0, Wire::Http);
    assert_eq!(rig.ask(last, call("1", "wait", "")), "");
    assert!(!rig.seen[&last].unread, "nothing of its waits");
    rig.send(last, call("2", "echo", ""));
    assert!(rig.seen[&last].unread && !rig.seen[&waiting[0]].unread);
    // The answer to what it waits for is the end of its waiting, whatever the others do.
    let key = rig.cores[0].service().waiting.pop().expect("the last call");
    rig.cores[0].service().waiting.insert(0, key);
    rig.reply(0);
    assert_eq!(rig.take(last).matches("HTTP/1.1 200").count(), 2);
    assert!(!rig.seen[&last].unread);
}

#[test]
fn what_is_left_of_a_long_message_holds_no_more_than_it_needs() {
    for wire in [Wire::Http, Wire::Lines] {
        let mut rig = rig(10);
        let peer = rig.connect(0, wire);
        let long = line("1", "wait").replace("\"params\"", &format!("{}\"params\"", " ".repeat(PART)));
        let head = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: wait\r\n";
        let mut message = if wire == Wire::Http { post(head, &long) } else { long }.into_bytes();
        // Behind it comes the first byte of another one.
        message.push(b'P');
        for piece in message.chunks(4096) {
            assert_eq!(rig.ask(peer, piece), "");
        }
        assert_eq!(rig.cores[0].service().waiting.len(), 1);
        let connection = rig.cores[0].find(ConnectionId { slot: peer.1, generation: 0 }).expect("open");
        assert_eq!(connection.carry, b"P");
        assert!(connection.carry.capacity() < 20_000, "{}", connection.carry.capacity());
    }
}

#[test]
fn short_ones_are_not_refused_for_the_sake_of_long_ones() {
    let mut rig = rig(1000);
    let short: Vec<_> = (0..500)
        .map(|_| {
            let peer = rig.connect(0, Wire::Lines);
            assert_eq!(rig.ask(peer, "{"), "");
            peer
        })
        .collect();
    for _ in 0..COMING_BYTES_PER_CORE_MAX / PART + 5 {
        let peer = rig.connect(0, Wire::Http);
        rig.now += MS;
        rig.send(peer, begun(&format!("Content-Length: {BODY}\r\n")));
    }
    assert!((5..=6).contains(&rig.metrics[0].refused(Refusal::ComingFull)));
    assert!(short.iter().all(|peer| !rig.seen[peer].shut));
}
