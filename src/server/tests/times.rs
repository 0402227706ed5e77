//! What is due when, on one core; and that bytes mean the same however they come.

use proptest::prelude::*;

use super::rig::{INITIALIZE, MS, PING, Rig, SECOND, call, legacy, line, status};
use crate::ids::ConnectionId;
use crate::metrics::{CloseCause, Refusal};
use crate::server::connection::Wire;
use crate::server::core::{End, Input};

/// One turn of the wheel: how late a deadline may be noticed.
const LATE: u64 = 16 * MS;

#[test]
fn a_head_a_body_and_an_idle_connection_have_their_times() {
    let request = call("1", "echo", "");
    let body = request.find("\r\n\r\n").expect("a head") + 4;
    for (sent, time, answer) in [
        (&request[..0], 75 * SECOND, ""),
        (&request[..9], 5 * SECOND, "408"),
        (&request[..body - 1], 5 * SECOND, "408"),
        (&request[..body], 5 * SECOND, "408"),
        (&request[..body + 9], 5 * SECOND, "408"),
    ] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, Wire::Http);
        if !sent.is_empty() {
            rig.send(peer, sent);
        }
        rig.pass(time - LATE);
        assert_eq!(rig.take(peer), "", "not before its time");
        // What has come of a body earns it time: its bytes at the slowest rate.
        rig.pass(2 * LATE + SECOND);
        let said = rig.take(peer);
        assert!(if answer.is_empty() { said.is_empty() } else { status(&said) == answer }, "{said}");
        assert!(rig.seen[&peer].shut);
    }
}

#[test]
fn pieces_of_a_chunked_body_share_one_time() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    rig.send(peer, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for second in 0..5 {
        assert_eq!(rig.ask(peer, "1\r\n \r\n"), "", "after {second} s");
        rig.pass(SECOND);
    }
    rig.pass(SECOND);
    assert_eq!(status(&rig.take(peer)), "408");
    assert_eq!(rig.metrics[0].refused(Refusal::BodyTimeout), 1);
}

#[test]
fn a_head_that_waited_for_its_turn_has_all_its_time() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let next = call("2", "echo", "");
    rig.send(peer, call("1", "wait", "") + &next[..20]);
    rig.pass(10 * SECOND);
    rig.reply(0);
    assert_eq!(status(&rig.take(peer)), "200");
    rig.pass(4 * SECOND);
    assert_eq!(status(&rig.ask(peer, &next[20..])), "200");
}

#[test]
fn the_last_answer_is_sent_however_late_and_then_lingers() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    rig.send(peer, call("1", "wait", "Connection: close\r\nAccept: application/json\r\n"));
    rig.pass(20 * SECOND);
    let key = rig.cores[0].service().waiting.remove(0);
    let outcome = Ok(b"{}".to_vec().into());
    // In one turn with a tick, as it happens in the loop.
    rig.cores[0].step(rig.now, Input::Mail(crate::server::service::Mail::Reply { key, outcome }));
    rig.step(0, Input::Tick);
    assert_eq!(status(&rig.take(peer)), "200");
    assert!(rig.seen[&peer].shut && !rig.seen[&peer].closed);
    rig.pass(SECOND + LATE);
    assert!(rig.seen[&peer].closed, "a peer that does not close is not waited for for ever");
    assert_eq!(rig.metrics[0].closed(CloseCause::Requested), 1);
}

#[test]
fn a_peer_that_reads_nothing_is_given_up_whatever_it_says_meanwhile() {
    for wire in [Wire::Http, Wire::Lines] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, wire);
        rig.seen.get_mut(&peer).expect("connected").stalled = true;
        rig.send(peer, if wire == Wire::Http { call("1", "echo", "") } else { line("1", "echo") });
        // A byte now and then of something that never comes whole.
        for _ in 0..8 {
            rig.send(peer, if wire == Wire::Http { "P" } else { "{" });
            rig.pass(SECOND);
        }
        assert!(rig.seen[&peer].closed, "{wire:?}");
        assert_eq!(rig.metrics[0].closed(CloseCause::WriteStall), 1, "{wire:?}");
    }
}

#[test]
fn a_peer_that_reads_nothing_is_given_up() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    rig.seen.get_mut(&peer).expect("connected").stalled = true;
    for _ in 0..400 {
        rig.send(peer, line("1", "echo"));
    }
    assert!(rig.seen[&peer].unread, "it is no longer read");
    assert!(rig.metrics[0].calls_started.get() < 300, "nor are its lines taken");
    rig.pass(5 * SECOND + LATE);
    assert!(rig.seen[&peer].closed);
    assert_eq!(rig.metrics[0].closed(CloseCause::WriteStall), 1);
}

#[test]
fn a_call_has_a_deadline_and_is_cancelled_at_it() {
    let mut rig = Rig::new(1);
    let (http, lines) = (rig.connect(0, Wire::Http), rig.connect(0, Wire::Lines));
    rig.send(http, call("1", "wait", "Accept: application/json\r\nX-Request-Timeout-Ms: 50\r\n"));
    rig.send(lines, line("1", "wait"));
    rig.pass(50 * MS + LATE);
    let answer = rig.take(http);
    assert!(status(&answer) == "504" && answer.contains("-31504") && answer.contains("Retry-After: 1"), "{answer}");
    assert_eq!(rig.cores[0].service().cancelled.len(), 1);
    rig.pass(30 * SECOND);
    assert!(rig.take(lines).contains("-31504"));
    // The outcome that comes after all falls on the floor.
    rig.reply(0);
    rig.reply(0);
    assert_eq!((rig.take(http), rig.take(lines)), (String::new(), String::new()));
    assert_eq!(rig.cores[0].population(), (2, 0, 0));
}

#[test]
fn idle_sessions_go_and_there_are_only_so_many() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let ids: Vec<_> = (0..4).map(|_| rig.open(peer)).collect();
    let answer = rig.ask(peer, legacy(None, INITIALIZE));
    assert!(status(&answer) == "503" && answer.contains("-31503"), "{answer}");
    // One is busy, one is used, two idle.
    let waiting = rig.connect(0, Wire::Http);
    rig.send(
        waiting,
        legacy(Some(&ids[0]), super::rig::WAIT).replace("Accept", "X-Request-Timeout-Ms: 299000\r\nAccept"),
    );
    for _ in 0..30 {
        rig.pass(60 * SECOND + LATE);
        let peer = rig.connect(0, Wire::Http);
        assert_eq!(status(&rig.ask(peer, legacy(Some(&ids[1]), PING))), "200");
        rig.step(0, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how: End::Reset });
    }
    rig.pass(10 * SECOND);
    let peer = rig.connect(0, Wire::Http);
    let left: Vec<_> = ids.iter().map(|id| status(&rig.ask(peer, legacy(Some(id), PING))).to_owned()).collect();
    assert_eq!(left[1..], ["200", "404", "404"], "idle ones are gone");
    assert_eq!(left[0], "200", "a call keeps its session, and so does its end");
}

#[test]
fn a_slow_reader_is_served_and_one_that_takes_nothing_is_cut() {
    let mut rig = Rig::new(1);
    let [slow, dead] = [0; 2].map(|_| rig.connect(0, Wire::Http));
    for peer in [slow, dead] {
        rig.seen.get_mut(&peer).expect("connected").stalled = true;
        rig.send(peer, call("1", "echo", ""));
    }
    let id = ConnectionId { slot: slow.1, generation: 0 };
    for second in 1..=20 {
        rig.pass(SECOND);
        rig.step(0, Input::SentSome(id));
        assert!(!rig.seen[&slow].closed, "cut after {second} s, though it reads");
        assert_eq!(rig.seen[&dead].closed, second >= 5, "after {second} s without taking a byte");
    }
    // It stops reading.
    rig.pass(5 * SECOND - LATE);
    assert!(!rig.seen[&slow].closed);
    rig.pass(2 * LATE);
    assert!(rig.seen[&slow].closed);
    assert_eq!(rig.metrics[0].closed(CloseCause::WriteStall), 2);
}

#[test]
fn a_slow_readers_answer_ends_like_any_other() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    rig.seen.get_mut(&peer).expect("connected").stalled = true;
    rig.send(peer, call("1", "echo", ""));
    let id = ConnectionId { slot: peer.1, generation: 0 };
    for _ in 0..10 {
        rig.pass(SECOND);
        rig.step(0, Input::SentSome(id));
    }
    let seen = rig.seen.get_mut(&peer).expect("connected");
    seen.stalled = false;
    let buffer = std::mem::take(&mut seen.held);
    assert_eq!(status(std::str::from_utf8(&buffer).expect("UTF-8")), "200");
    rig.step(0, Input::Sent { id, buffer, whole: true });
    assert_eq!(status(&rig.ask(peer, call("2", "echo", ""))), "200", "the connection goes on");
}

#[test]
fn what_is_beyond_the_table_is_told_so() {
    let mut rig = Rig::new(1);
    let peers: Vec<_> = (0..9).map(|_| rig.connect(0, Wire::Http)).collect();
    assert_eq!(status(&rig.take(peers[8])), "503");
    assert!(rig.seen[&peers[8]].shut);
    assert_eq!(status(&rig.ask(peers[7], call("1", "echo", ""))), "200");
}

#[test]
fn every_answer_carries_the_date_of_its_second() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    for (time, second) in [(0, "01"), (SECOND - 1, "01"), (1, "02"), (SECOND - 1, "02"), (30 * SECOND, "32")] {
        rig.pass(time);
        let bare = |method: &str| format!("{method} /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for (request, code) in [
            (call("1", "echo", ""), "200"),
            (call("1", "echo", "Origin: http://localhost\r\n"), "200"),
            (bare("OPTIONS"), "204"),
            (bare("PUT"), "405"),
            (legacy(Some("x"), PING), "404"),
        ] {
            let answer = rig.ask(peer, request);
            let dates: Vec<_> = answer.lines().filter(|line| line.starts_with("Date: ")).collect();
            assert_eq!((status(&answer), dates), (code, vec![&*format!("Date: Fri, 15 Jan 2027 08:00:{second} GMT")]));
        }
    }
}

#[test]
fn the_date_follows_the_hosts_clock_when_that_is_set() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let date = |rig: &mut Rig| {
        let answer = rig.ask(peer, call("1", "echo", ""));
        answer.split_once("Date: ").expect("dated").1[..29].to_owned()
    };
    assert_eq!(date(&mut rig), "Fri, 15 Jan 2027 08:00:01 GMT");
    // Set back by an hour and a bit, set to what it cannot be, and to half a second before the next one.
    for (unix, shown) in [
        (1_799_996_399 * SECOND + 700 * MS, "Fri, 15 Jan 2027 06:59:59 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:03 GMT"),
        (u64::MAX, "Sun, 21 Jul 2554 23:34:33 GMT"),
        (1_800_000_009 * SECOND + 500 * MS, "Fri, 15 Jan 2027 08:00:09 GMT"),
    ] {
        rig.pass(SECOND);
        rig.step(0, Input::WallClock { unix });
        assert_eq!(date(&mut rig), shown);
    }
    rig.pass(500 * MS - 1);
    assert_eq!(date(&mut rig), "Fri, 15 Jan 2027 08:00:09 GMT");
    rig.pass(1);
    assert_eq!(date(&mut rig), "Fri, 15 Jan 2027 08:00:10 GMT");
}

pub fn conversation() -> Vec<u8> {
    let chunked = call("3", "echo", "")
        .replace("Content-Length", "X-Length")
        .replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (head, body) = chunked.split_once("\r\n\r\n").expect("a head");
    let (one, two) = body.split_at(7);
    let chunks = format!("{:x}\r\n{one}\r\n{:x};x=y\r\n{two}\r\n0\r\nT: x\r\n\r\n", one.len(), two.len());
    let parts = [
        call("1", "echo", ""),
        "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        call("\"é\"", "echo", "Accept: application/json\r\n"),
        format!("{head}\r\n\r\n{chunks}"),
        call("4", "echo", "Mcp-Method: twice\r\n"),
        call("5", "echo", "Connection: close\r\n"),
        call("6", "echo", ""),
    ];
    parts.concat().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_mean_the_same_however_they_are_cut(mut cuts in prop::collection::vec(0usize..2000, 0..40)) {
        let bytes = conversation();
        let mut whole = Rig::new(1);
        let peer = whole.connect(0, Wire::Http);
        let expected = whole.ask(peer, &bytes);
        prop_assert_eq!(expected.matches("HTTP/1.1 ").count(), 6, "{}", expected);
        cuts.retain(|&cut| cut < bytes.len());
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, Wire::Http);
        let mut from = 0;
        for cut in cuts {
            if cut > from {
                rig.send(peer, &bytes[from..cut]);
            }
            from = cut;
        }
        prop_assert_eq!(rig.take(peer), expected);
    }
}

#[test]
fn an_empty_line_behind_a_body_leaves_a_connection_idle() {
    for pieces in [&["\r\n"][..], &["\r", "\n"]] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, Wire::Http);
        assert_eq!(status(&rig.ask(peer, call("1", "echo", "") + pieces[0])), "200");
        for rest in &pieces[1..] {
            assert_eq!(rig.ask(peer, rest), "");
        }
        rig.pass(60 * SECOND);
        assert_eq!(rig.take(peer), "", "no request has begun");
        assert_eq!(rig.cores[0].carried.sums(), (0, 0), "an idle connection holds no buffer");
        let next = call("2", "echo", "");
        assert_eq!(rig.ask(peer, &next[..9]), "");
        rig.pass(2 * SECOND);
        assert_eq!(status(&rig.ask(peer, &next[9..])), "200", "the next one has all its time");
        rig.send(peer, "\r\n");
        rig.pass(76 * SECOND);
        assert!(rig.take(peer).is_empty() && rig.seen[&peer].shut, "and nothing in answer when it idled too long");
        assert_eq!(rig.metrics[0].closed(CloseCause::KeepAliveTimeout), 1);
    }
    // One is tolerated, however it comes (RFC 9112, 2.2).
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    assert_eq!(rig.ask(peer, "\r\n"), "");
    assert_eq!(status(&rig.ask(peer, "\r\n")), "400");
}

#[test]
fn who_started_us_may_read_nothing_for_long_and_has_its_time_once_we_are_to_end() {
    let mut rig = Rig::new(1);
    rig.cores[0].settings.ends_when_empty = true;
    let peer = rig.connect(0, Wire::Lines);
    rig.seen.get_mut(&peer).expect("connected").stalled = true;
    rig.send(peer, line("1", "echo"));
    rig.pass(600 * SECOND);
    assert!(!rig.seen[&peer].closed, "it may be in a debugger");
    rig.step(0, Input::Drain);
    rig.pass(4 * SECOND);
    assert!(!rig.seen[&peer].closed, "it may have been woken by the same signal");
    rig.pass(2 * SECOND);
    assert!(rig.seen[&peer].closed);
}
