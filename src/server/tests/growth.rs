//! What is over holds no memory, and what a client can have kept for it has an end.

use super::rig::{INITIALIZE, MS, Rig, SECOND, WAIT, call, delete, get, legacy, line};
use crate::ids::ConnectionId;
use crate::limits::ID_BYTES_MAX;
use crate::server::connection::Wire;
use crate::server::core::{Effect, End, Input, TICK};
use crate::server::service::{Change, Mail};
use crate::server::sessions::SWEPT_AT_ONCE;
use crate::server::telling::TOLD_AT_ONCE;

impl Rig {
    fn leave(&mut self, at: (usize, u32)) {
        self.step(at.0, Input::Ended { id: ConnectionId { slot: at.1, generation: 0 }, how: End::Reset });
    }
}

#[test]
fn a_call_that_is_over_and_a_connection_that_is_gone_have_no_timer() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    rig.ask(peer, line("0", "echo"));
    // The connection's own is among them: something was sent.
    let before = rig.cores[0].wheel.len();
    for id in 0..100 {
        rig.send(peer, line(&id.to_string(), "wait"));
        assert_eq!(rig.cores[0].wheel.len() - before, 1, "the call's");
        rig.reply(0);
        assert_eq!(rig.cores[0].wheel.len(), before, "after call {id}");
    }
    for _ in 0..100 {
        let guest = rig.connect(0, Wire::Http);
        rig.ask(guest, call("1", "echo", ""));
        assert_eq!(rig.cores[0].wheel.len() - before, 1, "the connection's");
        rig.leave(guest);
        assert_eq!(rig.cores[0].wheel.len(), before);
    }
    // However often its time is moved.
    rig.send(peer, line("1", "wait"));
    let key = rig.cores[0].service().waiting[0];
    for _ in 0..100 {
        rig.step(0, Input::Mail(Mail::Notice { key, method: "notifications/progress", params: b"{}".to_vec() }));
        rig.pass(100 * MS);
        assert!(rig.cores[0].wheel.len() - before <= 1);
    }
}

#[test]
fn what_all_sessions_keep_together_has_an_end_and_the_oldest_goes_first() {
    let mut rig = Rig::new(1);
    let most = rig.cores[0].settings.replay_core_bytes as u64;
    let stream = |rig: &mut Rig| {
        let peer = rig.connect(0, Wire::Http);
        let session = rig.open(peer);
        rig.send(peer, legacy(Some(&session), WAIT));
        let key = rig.cores[0].service().waiting[0];
        let params = format!("{{\"message\":\"{}\"}}", "x".repeat(300)).into_bytes();
        for _ in 0..8 {
            rig.step(0, Input::Mail(Mail::Notice { key, method: "notifications/progress", params: params.clone() }));
        }
        rig.reply(0);
        let heard = rig.take(peer);
        rig.leave(peer);
        let first = heard.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        (session, first)
    };
    let back = |rig: &mut Rig, session: &str, last: &str| {
        let peer = rig.connect(0, Wire::Http);
        let answer = rig.ask(peer, get(session, Some(last)));
        rig.leave(peer);
        answer
    };
    rig.cores[0].settings.sessions_max = 12;
    let streams: Vec<_> = (0..12)
        .map(|_| {
            let stream = stream(&mut rig);
            assert!((1..=most).contains(&rig.metrics[0].replay_bytes.get()), "{:?}", rig.metrics[0].replay_bytes);
            stream
        })
        .collect();
    let (session, first) = streams.last().expect("some");
    assert!(back(&mut rig, session, first).contains("late"), "the last one is kept whole");
    let (session, first) = &streams[0];
    assert!(back(&mut rig, session, first).starts_with("HTTP/1.1 400"), "the first one is forgotten");
    for (session, _) in &streams {
        let peer = rig.connect(0, Wire::Http);
        assert!(rig.ask(peer, delete(session)).starts_with("HTTP/1.1 204"));
        rig.leave(peer);
    }
    assert_eq!(rig.metrics[0].replay_bytes.get(), 0, "with its session goes what is kept for it");
}

#[test]
fn an_id_has_an_end_and_what_is_longer_is_not_repeated() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    let quoted = |length: usize| format!("\"{}\"", "i".repeat(length - 2));
    let longest = quoted(ID_BYTES_MAX);
    assert!(rig.ask(peer, line(&longest, "echo")).contains(&longest));
    let answer = rig.ask(peer, line(&quoted(ID_BYTES_MAX + 1), "echo"));
    assert!(answer.contains("-32600") && answer.contains("1025 bytes, the most is 1024"), "{answer}");
    assert!(!answer.contains("iii"), "{answer}");
    let batch = format!("[{}]", line(&quoted(ID_BYTES_MAX + 1), "echo").trim());
    let http = rig.connect(0, Wire::Http);
    let session = rig.open_as(http, "2025-03-26");
    assert!(rig.ask(http, legacy(Some(&session), &batch)).contains("-32600"));
}

#[test]
fn what_is_told_within_a_turn_has_an_end() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    rig.send(peer, line("1", "wait"));
    let key = rig.cores[0].service().waiting[0];
    let params = format!("{{\"message\":\"{}\"}}", "x".repeat(8 * 1024)).into_bytes();
    let now = rig.now;
    // A handler that says much before anything of it can be sent.
    let mut told = 0;
    while !rig.cores[0].service().cancelled.contains(&key) {
        told += params.len();
        assert!(told < 6 * rig.cores[0].settings.egress_bytes, "it is told without end");
        let mail = Mail::Notice { key, method: "notifications/message", params: params.clone() };
        rig.cores[0].step(now, Input::Mail(mail));
    }
    assert!(told > 4 * rig.cores[0].settings.egress_bytes, "{told}: what is said at once is no flood yet");
    rig.settle();
    assert_eq!(rig.metrics[0].refused(crate::metrics::Refusal::EgressFull), 1);
}

#[test]
fn who_takes_no_stream_is_told_nothing_and_answered_however_much_there_was_to_tell() {
    for accepts in ["application/json", "application/json, text/event-stream"] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, Wire::Http);
        rig.send(peer, call("1", "wait", &format!("Accept: {accepts}\r\n")));
        let key = rig.cores[0].service().waiting[0];
        let (now, egress) = (rig.now, rig.cores[0].settings.egress_bytes);
        let params = format!("{{\"message\":\"{}\"}}", "x".repeat(8 * 1024)).into_bytes();
        for _ in 0..6 * egress / params.len() {
            let mail = Mail::Notice { key, method: "notifications/message", params: params.clone() };
            rig.cores[0].step(now, Input::Mail(mail));
        }
        rig.settle();
        let takes_streams = accepts.contains("event-stream");
        assert_eq!(rig.metrics[0].refused(crate::metrics::Refusal::EgressFull) > 0, takes_streams, "{accepts}");
        if !takes_streams {
            rig.reply(0);
            let answer = rig.take(peer);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("late"), "{answer}");
        }
    }
}

#[test]
fn what_is_said_for_a_call_that_was_answered_at_once_reaches_no_later_one() {
    let mut rig = Rig::new(1);
    let (first, second) = (rig.connect(0, Wire::Lines), rig.connect(0, Wire::Lines));
    assert!(rig.ask(first, line("1", "echo")).contains("complete"));
    let key = rig.cores[0].service().done[0];
    rig.send(second, line("2", "wait"));
    let params = b"{\"message\":\"of the first\"}".to_vec();
    rig.step(0, Input::Mail(Mail::Notice { key, method: "notifications/message", params }));
    assert_eq!((rig.take(first), rig.take(second)), (String::new(), String::new()));
    rig.reply(0);
    assert!(rig.take(second).contains("late"));
}

#[test]
fn sessions_that_were_idle_for_too_long_are_not_all_ended_in_one_step() {
    let mut rig = Rig::new(1);
    let count = SWEPT_AT_ONCE + 10;
    rig.cores[0].settings.sessions_max = count;
    let peer = rig.connect(0, Wire::Http);
    for _ in 0..count {
        rig.open(peer);
    }
    assert_eq!(rig.cores[0].population().2, count);
    let idle = rig.cores[0].settings.session_idle;
    let mut before = count;
    // No further than to the step in which the first of them end.
    rig.pass(idle - SECOND);
    while rig.cores[0].population().2 == before {
        rig.pass(TICK);
    }
    before = rig.cores[0].population().2;
    assert_eq!(before, 10, "as many as may end in one step");
    rig.pass(2 * TICK);
    assert_eq!(rig.cores[0].population().2, 0, "and the rest soon");
}

#[test]
fn what_changed_is_not_told_to_all_in_one_turn_and_told_once() {
    let mut rig = Rig::new(1);
    let count = TOLD_AT_ONCE + 10;
    rig.cores[0].settings.sessions_max = count;
    rig.cores[0].admission =
        crate::server::accept::Admission::new(count, 1, crate::shard::permits::Permits::unlimited());
    let peers: Vec<_> = (0..count)
        .map(|_| {
            let peer = rig.connect(0, Wire::Lines);
            rig.send(peer, format!("{INITIALIZE}\n"));
            rig.take(peer);
            peer
        })
        .collect();
    let turn = |rig: &mut Rig| {
        let mut sends = 0;
        rig.cores[0].effects(|effect| sends += usize::from(matches!(effect, Effect::Send(..))));
        sends
    };
    let now = rig.now;
    let changes = [Change::Tools, Change::Prompts, Change::Tools, Change::Prompts];
    changes.into_iter().for_each(|change| rig.cores[0].step(now, Input::Mail(Mail::ChangedHere(change))));
    assert_eq!(turn(&mut rig), TOLD_AT_ONCE);
    // Some heard of the first already, so what comes now is another change.
    rig.cores[0].step(now, Input::Mail(Mail::ChangedHere(Change::Tools)));
    // The sends of that turn were taken off the rig, so what is told from now on waits behind them.
    let mut turns = 1;
    while rig.cores[0].has_work() {
        turn(&mut rig);
        turns += 1;
    }
    assert_eq!(turns, (3 * count).div_ceil(TOLD_AT_ONCE), "tools, prompts, and tools again");
    let unsent = peers.iter().map(|&(_, slot)| {
        let connection = rig.cores[0].find(ConnectionId { slot, generation: 0 }).expect("open");
        connection.egress()
    });
    let told =
        |method: &str| format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{method}\",\"params\":{{}}}}\n").len();
    let all = 2 * told("tools/list_changed") + told("prompts/list_changed");
    assert!(unsent.into_iter().all(|bytes| bytes == all), "each of them heard each");
}
