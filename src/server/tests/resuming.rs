//! Coming back to streams: those of calls that are over, and the session's GET stream beside them.

use super::rig::{Rig, WAIT, get, legacy, status};
use crate::ids::ConnectionId;
use crate::server::connection::Wire;
use crate::server::core::{End, Input};
use crate::server::service::{Change, Mail};
use crate::shard::replay::ReplayLimits;

impl Rig {
    /// The oldest waiting call says something.
    fn tell(&mut self, core: usize) {
        let key = self.cores[core].service().waiting[0];
        let params = b"{}".to_vec();
        self.step(core, Input::Mail(Mail::Notice { key, method: "notifications/progress", params }));
    }

    /// A call that says something and ends; the ids of its events, the priming event's first.
    fn streamed_call(&mut self, peer: (usize, u32), session: &str) -> Vec<String> {
        self.send(peer, legacy(Some(session), WAIT));
        self.tell(0);
        self.reply(0);
        let seen = self.take(peer);
        let ids = seen.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ids.len(), 3, "{seen}");
        ids
    }
}

#[test]
fn who_comes_back_to_a_call_that_is_over_never_touches_the_get_stream() {
    for home in 0..2 {
        let mut rig = Rig::new(2);
        let first = rig.connect(0, Wire::Http);
        let session = rig.open(first);
        let peer = rig.connect(home, Wire::Http);
        let ids = rig.streamed_call(peer, &session);
        let stream = rig.connect(home, Wire::Http);
        assert_eq!(status(&rig.ask(stream, get(&session, None))), "200");
        for (seen, result) in [(&ids[0], true), (&ids[1], true), (&ids[2], false)] {
            let answer = rig.ask(peer, get(&session, Some(seen)));
            assert_eq!(status(&answer), "200", "{answer}");
            assert_eq!(answer.contains("late"), result, "{answer}");
            assert!(answer.ends_with("0\r\n\r\n"), "it ends: {answer}");
            assert_eq!(rig.take(stream), "", "the GET stream heard nothing");
        }
        // The call's events are pushed out by those of others.
        while rig.ask(peer, get(&session, Some(&ids[0]))).starts_with("HTTP/1.1 200") {
            rig.streamed_call(peer, &session);
        }
        for seen in &ids {
            let answer = rig.ask(peer, get(&session, Some(seen)));
            assert_eq!(status(&answer), "400", "{answer}");
            assert!(answer.contains("no longer kept"), "{answer}");
        }
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
        assert!(rig.take(stream).contains("list_changed"), "the GET stream goes on");
    }
}

#[test]
fn a_get_stream_that_was_lost_is_taken_up_again_where_its_client_was() {
    for home in 0..2 {
        let mut rig = Rig::new(2);
        let first = rig.connect(0, Wire::Http);
        let session = rig.open(first);
        let before = rig.connect(home, Wire::Http);
        let opened = rig.ask(before, get(&session, None));
        let primed = opened.lines().find_map(|line| line.strip_prefix("id: ")).expect("primed").to_owned();
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
        let heard = rig.take(before);
        let last = heard.lines().find_map(|line| line.strip_prefix("id: ")).expect("an event").to_owned();
        // Another GET stream takes its place, so that the first is over; its client comes back all the same.
        let other = rig.connect(home, Wire::Http);
        rig.send(other, get(&session, None));
        let back = rig.connect(home, Wire::Http);
        let answer = rig.ask(back, get(&session, Some(&last)));
        assert_eq!(status(&answer), "200");
        assert!(!answer.contains("id: "), "nothing sends it back to before what it has seen: {answer}");
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
        assert!(rig.take(back).contains("list_changed"));
        // A number that nobody was told does no harm.
        let stream = primed.split_once('-').expect("stream and number").0;
        let newer = rig.connect(home, Wire::Http);
        rig.send(newer, get(&session, None));
        let liar = rig.connect(home, Wire::Http);
        rig.send(liar, get(&session, Some(&format!("{stream}-4294967295"))));
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
        assert!(rig.take(liar).contains("list_changed"));
    }
}

#[test]
fn what_a_batch_is_answered_is_under_no_number_that_would_lose_half_of_it() {
    for home in 0..2 {
        let mut rig = Rig::new(2);
        let first = rig.connect(0, Wire::Http);
        let session = rig.open_as(first, "2025-03-26");
        let wait = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"wait"}}}}"#);
        let peer = rig.connect(home, Wire::Http);
        rig.send(peer, legacy(Some(&session), &format!("[{},{}]", wait(1), wait(2))));
        rig.tell(0);
        rig.reply(0);
        rig.reply(0);
        let seen = rig.take(peer);
        assert!(seen.contains("\"id\":1") && seen.contains("\"id\":2"), "{seen}");
        assert!(!seen.contains("\nid:"), "{seen}");
        assert!(seen.ends_with("0\r\n\r\n"), "{seen}");
    }
}

#[test]
fn what_a_client_missed_is_not_too_much_for_it_wherever_it_comes_back() {
    for back_on in 0..2 {
        let mut rig = Rig::new(2);
        rig.cores[0].settings.replay = ReplayLimits { events: 100, bytes: 1 << 20 };
        rig.cores[0].settings.replay_core_bytes = 1 << 20;
        let first = rig.connect(0, Wire::Http);
        let session = rig.open(first);
        let peer = rig.connect(0, Wire::Http);
        rig.send(peer, legacy(Some(&session), WAIT));
        rig.tell(0);
        let seen = rig.take(peer);
        let id = seen.lines().find_map(|line| line.strip_prefix("id: ")).expect("an event").to_owned();
        let lost = ConnectionId { slot: peer.1, generation: 0 };
        rig.step(0, Input::Ended { id: lost, how: End::Reset });
        // More than may be told unasked before any of it is sent.
        let key = rig.cores[0].service().waiting[0];
        let params = format!("{{\"message\":\"{}\"}}", "x".repeat(8 * 1024)).into_bytes();
        let count = 8 * rig.cores[1].settings.egress_bytes / params.len();
        for _ in 0..count {
            let mail = Mail::Notice { key, method: "notifications/message", params: params.clone() };
            rig.step(0, Input::Mail(mail));
        }
        rig.reply(0);
        let peer = rig.connect(back_on, Wire::Http);
        let answer = rig.ask(peer, get(&session, Some(&id)));
        assert_eq!(answer.matches("notifications/message").count(), count, "on core {back_on}");
        assert!(answer.contains("late"), "on core {back_on}");
    }
}
