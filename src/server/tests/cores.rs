//! Several cores: requests that another one owns, cores that die or are full, shards that were rebuilt, drains.

use super::rig::{KEY, MS, PING, Rig, SECOND, WAIT, call, core, delete, get, legacy, line, status};
use crate::ids::{ConnectionId, CoreId, ShardId};
use crate::limits::{OUTBOX_BYTES_MAX, RING_LEASED_BYTES_MAX};
use crate::metrics::{Metric, Refusal};
use crate::proto::mcp::LogLevel;
use crate::server::connection::Wire;
use crate::server::core::{End, Input};
use crate::server::outbox::Delivery;
use crate::server::parcel::Header;
use crate::server::service::{Change, Mail};
use crate::shard::seal::{Purpose, Sealer};

#[test]
fn a_request_goes_to_the_core_that_owns_its_session_and_its_answer_comes_back() {
    let mut rig = Rig::new(3);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    for other in 1..3 {
        let peer = rig.connect(other, Wire::Http);
        assert!(rig.ask(peer, legacy(Some(&session), PING)).ends_with(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#));
        assert_eq!(rig.ask(peer, legacy(Some(&session), WAIT)), "");
        // The connection is occupied: what comes behind waits.
        assert_eq!(rig.ask(peer, legacy(Some(&session), PING)), "");
        rig.reply(0);
        let answers = rig.take(peer);
        assert!(answers.find("late").expect("answered") < answers.find("\"id\":2").expect("answered"), "{answers}");
        let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}x\r\n\r\n");
        assert_eq!(status(&rig.ask(peer, delete)), "404");
    }
    assert_eq!(rig.cores.iter().map(|core| core.population().1).sum::<usize>(), 0, "no exchange is left");
}

#[test]
fn a_request_for_a_session_that_is_over_is_answered_by_its_id_on_every_core() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    assert_eq!(status(&rig.ask(home, delete(&session))), "204");
    for core in 0..2 {
        let peer = rig.connect(core, Wire::Http);
        let answer = rig.ask(peer, legacy(Some(&session), WAIT));
        assert!(status(&answer) == "404" && answer.contains(r#""id":3"#), "core {core}: {answer}");
        // An answer to a question of ours is no request, whatever its id.
        let answer = rig.ask(peer, legacy(Some(&session), r#"{"jsonrpc":"2.0","id":"corelane-0-0-0","result":{}}"#));
        assert!(status(&answer) == "404" && answer.contains(r#""id":null"#), "core {core}: {answer}");
    }
}

#[test]
fn who_waits_for_a_core_that_died_is_told() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peer = rig.connect(1, Wire::Http);
    rig.send(peer, legacy(Some(&session), WAIT));
    let stream = rig.connect(1, Wire::Http);
    assert_eq!(status(&rig.ask(stream, get(&session, None))), "200");
    rig.step(1, Input::PeerLost(CoreId(0)));
    assert!(rig.take(stream).contains("retry: 1000"), "its client is to come back");
    let answer = rig.take(peer);
    assert!(status(&answer) == "503" && answer.contains("-31503") && answer.contains("\"id\":3"), "{answer}");
    assert!(answer.contains("Retry-After: 1"));
    assert_eq!((rig.metrics[1].refused(Refusal::ShardLost), rig.cores[1].population().1), (2, 0));
    // The other way round: the owner drops what the dead home waited for; a legacy call goes on for replay.
    rig.step(0, Input::PeerLost(CoreId(1)));
    assert!(rig.cores[0].service().cancelled.is_empty());
    rig.reply(0);
    assert_eq!(rig.cores[0].population().1, 1, "the stream, which its client may go on with");
}

#[test]
fn who_waits_for_a_core_that_stands_still_waits_no_longer_than_a_call_may_take() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peers = [(); 3].map(|()| rig.connect(1, Wire::Http));
    rig.jammed = true;
    rig.send(peers[0], legacy(Some(&session), WAIT));
    let chosen = legacy(Some(&session), WAIT).replace("Host:", "X-Request-Timeout-Ms: 2000\r\nHost:");
    rig.send(peers[1], chosen);
    rig.send(peers[2], delete(&session));
    rig.pass(2 * SECOND);
    assert_eq!(rig.take(peers[1]), "", "its owner is the first to say that its time is up");
    rig.pass(SECOND);
    let answer = rig.take(peers[1]);
    assert!(status(&answer) == "200" && answer.contains("-31504") && answer.contains("\"id\":3"), "{answer}");
    rig.pass(296 * SECOND);
    assert_eq!((rig.take(peers[0]), rig.take(peers[2])), (String::new(), String::new()));
    rig.pass(2 * SECOND);
    let answer = rig.take(peers[0]);
    assert!(status(&answer) == "200" && answer.contains("-31504") && answer.contains("\"id\":3"), "{answer}");
    assert_eq!(status(&rig.take(peers[2])), "504", "no call");
    assert_eq!((rig.metrics[1].refused(Refusal::DeadlinePassed), rig.cores[1].population().1), (3, 0));
    // It moves again: what was asked of it is called off, and what it says comes to nobody.
    rig.jammed = false;
    rig.settle();
    assert_eq!(peers.map(|peer| rig.take(peer)), [const { String::new() }; 3]);
    assert_eq!(rig.cores[1].population().1, 0);
}

#[test]
fn an_owner_that_moves_is_waited_for_as_long_as_it_says_something() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peer = rig.connect(1, Wire::Http);
    rig.send(peer, legacy(Some(&session), WAIT));
    let key = rig.cores[0].service().waiting[0];
    // A question to the client may wait for ten minutes.
    let params = b"{}".to_vec();
    rig.step(0, Input::Mail(Mail::Ask { key, ask: 1, method: "elicitation/create", params }));
    assert!(rig.take(peer).contains("elicitation/create"));
    rig.pass(500 * SECOND);
    rig.reply(0);
    assert!(rig.take(peer).contains("late"));
    assert_eq!(rig.metrics[1].refused(Refusal::DeadlinePassed), 0);
}

#[test]
fn a_drain_tells_who_waits_for_a_core_that_stands_still() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peer = rig.connect(1, Wire::Http);
    rig.jammed = true;
    rig.send(peer, legacy(Some(&session), WAIT));
    rig.step(1, Input::Drain);
    rig.pass(10 * SECOND + 10 * MS);
    let answer = rig.take(peer);
    assert!(answer.contains("-31503") && answer.contains("\"id\":3"), "{answer}");
}

#[test]
fn what_is_said_to_a_core_that_takes_nothing_does_not_gather() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    rig.jammed = true;
    let filler = "u".repeat(OUTBOX_BYTES_MAX);
    rig.step(0, Input::Mail(Mail::Changed(Change::Resource(filler))));
    let waiting = rig.cores[0].outbox.waiting();
    let asked = [
        (Header::Get { ticket: (7, 0), last: None }, session.clone()),
        (Header::Delete { ticket: (7, 1) }, session.clone()),
        (
            Header::Post { ticket: (7, 2), id: session.len() as u16, patience: 0, sent: 0 },
            format!("{session}{}", PING.replace("\"id\":2", "\"id\":\"mine\"")),
        ),
    ];
    for (header, payload) in asked {
        rig.step(0, Input::Parcel { from: CoreId(1), header, payload: payload.as_bytes() });
    }
    assert_eq!(rig.metrics[0].refused(Refusal::OutboxFull), 3);
    assert_eq!(rig.cores[0].outbox.waiting() - waiting, 3, "a word for each");
    assert_eq!((rig.cores[0].population().1, rig.cores[0].population().2), (0, 1), "no stream, and nothing deleted");
    let mut said = Vec::new();
    rig.cores[0].flush_outbox(|_, header, payload| {
        said.extend(matches!(header, Header::Reply { status: 503, .. }).then(|| payload.to_vec()));
        Delivery::Done
    });
    let said: Vec<_> = said.into_iter().map(|said| String::from_utf8(said).expect("JSON")).collect();
    assert!(said.iter().all(|said| said.contains("-31503")) && said[2].contains("\"id\":\"mine\""), "{said:?}");
}

#[test]
fn a_rebuilt_shard_knows_what_its_sessions_want_logged() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let session = rig.open(peer);
    let set = r#"{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"error"}}"#;
    assert_eq!(status(&rig.ask(peer, legacy(Some(&session), set))), "200");
    for life in [2, 3] {
        rebuild(&mut rig, life);
        let peer = rig.connect(0, Wire::Http);
        rig.send(peer, legacy(Some(&session), WAIT));
        assert_eq!(rig.cores[0].service().heard.last().and_then(|(_, level)| *level), Some(LogLevel::Error));
    }
}

#[test]
fn a_full_outbox_refuses_requests() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    rig.jammed = true;
    let large = PING.replace("\"ping\"", &format!("\"ping\",\"params\":{{\"x\":\"{}\"}}", "y".repeat(900_000)));
    for _ in 0..OUTBOX_BYTES_MAX.div_ceil(900_000) {
        let peer = rig.connect(1, Wire::Http);
        assert_eq!(rig.ask(peer, legacy(Some(&session), &large)), "");
    }
    let peer = rig.connect(1, Wire::Http);
    let answer = rig.ask(peer, legacy(Some(&session), PING));
    assert!(status(&answer) == "503" && answer.contains("-31503"), "{answer}");
    assert_eq!(rig.metrics[1].refused(Refusal::OutboxFull), 1);
    rig.jammed = false;
    rig.settle();
    assert_eq!(status(&rig.ask(peer, legacy(Some(&session), PING))), "200");
}

#[test]
fn a_session_hears_of_changes_that_it_was_promised() {
    let mut rig = Rig::new(1);
    rig.cores[0].service().about.offers.prompts_list_changed = false;
    let peer = rig.connect(0, Wire::Http);
    let session = rig.open(peer);
    rig.ask(peer, get(&session, None));
    for (change, told) in [(Change::Prompts, false), (Change::Tools, true), (Change::Resources, true)] {
        rig.step(0, Input::Mail(Mail::Changed(change.clone())));
        assert_eq!(rig.take(peer).contains("list_changed"), told, "{change:?}");
    }
}

#[test]
fn changes_do_not_pile_up_for_a_core_that_takes_nothing_and_it_hears_of_lists_in_the_end() {
    let mut rig = Rig::new(2);
    let peer = rig.connect(1, Wire::Http);
    let session = rig.open(peer);
    let stream = get(&session, None);
    rig.ask(peer, stream);
    rig.jammed = true;
    // As many as have room, and as many again.
    let uri = "u".repeat(1 << 20);
    for _ in 0..2 * OUTBOX_BYTES_MAX / uri.len() {
        rig.step(0, Input::Mail(Mail::Changed(Change::Resource(uri.clone()))));
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
    }
    let refused = rig.metrics[0].refused(Refusal::OutboxFull);
    assert!(refused > 0 && rig.cores[0].outbox.waiting() as u64 + refused >= 2 * 8, "{refused}");
    assert!(rig.cores[0].outbox.waiting() <= 2 * (OUTBOX_BYTES_MAX / uri.len() + 1));
    let told = rig.take(peer).matches("tools/list_changed").count();
    rig.jammed = false;
    rig.settle();
    let told = told + rig.take(peer).matches("tools/list_changed").count();
    assert!(told > 0, "what it was owed is told");
    assert_eq!(rig.cores[0].outbox.waiting(), 0);
}

#[test]
fn a_rebuilt_shard_knows_its_sessions_by_their_ids_and_takes_no_stranger_for_one() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let ids = [rig.open(peer), rig.open(peer)];
    let shard = rig.metrics[0].shard(ShardId(0)).expect("its only one");
    assert_eq!((shard.sessions.get(), shard.messages.get()), (2, 0));
    rebuild(&mut rig, 2);
    assert_eq!(shard.sessions.get(), 0, "they went down with their core");
    let peer = rig.connect(0, Wire::Http);
    // A stranger takes the slot that the first one had.
    let stranger = rig.open(peer);
    for id in &ids {
        assert_eq!(status(&rig.ask(peer, legacy(Some(id), PING))), "200");
    }
    assert_eq!(rig.cores[0].population().2, 3, "three of them, none twice");
    assert_eq!((shard.sessions.get(), rig.metrics[0].sessions_open.get()), (3, 3));
    assert_eq!(shard.messages.get(), 2);
    assert_eq!(status(&rig.ask(peer, delete(&ids[0]))), "204");
    assert_eq!(status(&rig.ask(peer, legacy(Some(&stranger), PING))), "200", "it was not the stranger's");
    assert_eq!(status(&rig.ask(peer, legacy(Some(&ids[1]), PING))), "200");
}

/// The only core dies and begins its next life; of how many sessions that is told.
fn rebuild(rig: &mut Rig, life: u32) -> usize {
    let heirs = rig.cores[0].bequeath();
    let told = heirs.len();
    rig.metrics[0].begin_life();
    rig.cores[0] = core(0, 1, life, rig.metrics[0]);
    rig.cores[0].inherit(heirs);
    told
}

#[test]
fn a_session_that_ended_stays_so_when_its_shard_is_rebuilt() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let [deleted, expired, silent] = [rig.open(peer), rig.open(peer), rig.open(peer)];
    assert_eq!(status(&rig.ask(peer, delete(&deleted))), "204");
    rig.pass(1000 * SECOND);
    let peer = rig.connect(0, Wire::Http);
    let kept = rig.open(peer);
    assert_eq!(status(&rig.ask(peer, legacy(Some(&silent), PING))), "200");
    rig.pass(1000 * SECOND);
    for life in [2, 3] {
        // What nobody asked for in one life is there in the next.
        rebuild(&mut rig, life);
        let peer = rig.connect(0, Wire::Http);
        for over in [&deleted, &expired] {
            assert_eq!(status(&rig.ask(peer, legacy(Some(over), PING))), "404", "life {life}");
        }
        assert_eq!(status(&rig.ask(peer, legacy(Some(&kept), PING))), "200", "life {life}");
    }
    let peer = rig.connect(0, Wire::Http);
    assert_eq!(status(&rig.ask(peer, delete(&kept))), "204");
    // Its time went by while it was remembered only.
    rig.pass(1000 * SECOND);
    let peer = rig.connect(0, Wire::Http);
    for over in [&kept, &silent] {
        assert_eq!(status(&rig.ask(peer, legacy(Some(over), PING))), "404");
    }
    rebuild(&mut rig, 4);
    let peer = rig.connect(0, Wire::Http);
    for over in [&deleted, &expired, &silent, &kept] {
        assert_eq!(status(&rig.ask(peer, legacy(Some(over), PING))), "404");
    }
}

#[test]
fn a_get_stream_goes_on_when_its_shard_was_rebuilt_and_no_id_is_given_twice() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let session = rig.open(peer);
    let peer = rig.connect(0, Wire::Http);
    assert!(rig.ask(peer, get(&session, None)).contains("id: 2-0"));
    rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
    assert!(rig.take(peer).contains("id: 2-1"));
    rebuild(&mut rig, 2);
    let peer = rig.connect(0, Wire::Http);
    let answer = rig.ask(peer, get(&session, Some("2-1")));
    assert_eq!(status(&answer), "200", "{answer}");
    rig.step(0, Input::Mail(Mail::Changed(Change::Prompts)));
    let told = rig.take(peer);
    assert!(told.contains("id: 2-2") && told.contains("prompts/list_changed"), "{told}");
    // Another stream than any of before.
    let fresh = rig.connect(0, Wire::Http);
    let answer = rig.ask(fresh, get(&session, None));
    let id = answer.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_else(|| panic!("{answer}"));
    let number: u32 = id.split_once('-').expect("an event's id").0.parse().expect("a number");
    assert!(number > 100_000 && number.is_multiple_of(2), "{id}");
    // A stream that there never was is none now.
    let peer = rig.connect(0, Wire::Http);
    assert_eq!(status(&rig.ask(peer, get(&session, Some("900000-1")))), "400");
}

#[test]
fn no_more_is_remembered_of_sessions_than_there_may_be() {
    let mut rig = Rig::new(1);
    let most = rig.cores[0].settings.sessions_max;
    let mut lives = 2..;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let peer = rig.connect(0, Wire::Http);
        ids.push((0..most).map(|_| rig.open(peer)).collect::<Vec<_>>());
        assert_eq!(rebuild(&mut rig, lives.next().expect("endless")), most);
    }
    let peer = rig.connect(0, Wire::Http);
    assert_eq!(status(&rig.ask(peer, legacy(Some(&ids[1][0]), PING))), "404", "those that lived last go first");
    assert_eq!(status(&rig.ask(peer, legacy(Some(&ids[2][0]), PING))), "200");
}

#[test]
fn a_task_that_lives_elsewhere_is_answered_on_lines_too() {
    let mut rig = Rig::new(2);
    let id = Sealer::new(&KEY, [9; 12]).seal(Purpose::Task, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let get =
        line("8", "x").replace("tools/call", "tasks/get").replace("\"name\":\"x\"", &format!("\"taskId\":\"{id}\""));
    let peer = rig.connect(0, Wire::Lines);
    let answer = rig.ask(peer, &get);
    assert!(answer.contains("\"id\":8") && answer.ends_with("}\n"), "{answer:?}");
    assert!(rig.ask(peer, line("8", "echo")).contains("\"id\":8"), "its id is free again");
    rig.jammed = true;
    assert_eq!(rig.ask(peer, &get), "");
    assert!(rig.ask(peer, &get).contains("still in flight"));
    rig.step(0, Input::PeerLost(CoreId(1)));
    assert!(rig.take(peer).contains("-31503"));
}

#[test]
fn a_drain_waits_for_those_who_wait_for_it() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peer = rig.connect(1, Wire::Http);
    rig.send(peer, legacy(Some(&session), WAIT));
    let own = rig.connect(1, Wire::Http);
    rig.send(own, call("5", "wait", ""));
    for core in 0..2 {
        rig.step(core, Input::Drain);
    }
    assert!(rig.seen[&home].shut, "an idle connection goes at once");
    let id = ConnectionId { slot: home.1, generation: 0 };
    rig.step(0, Input::Ended { id, how: End::Finished });
    assert_eq!((rig.cores[0].population().0, rig.drained[0]), (0, false), "nobody is here, but somebody waits there");
    rig.reply(0);
    let answer = rig.take(peer);
    assert!(answer.contains("late") && answer.contains("Connection: close"), "{answer}");
    assert_eq!(rig.drained, [true, false]);
    rig.reply(1);
    assert!(rig.take(own).contains("Connection: close"));
    rig.pass(2 * SECOND);
    assert_eq!(rig.drained, [true, true]);
}

#[test]
fn a_drain_ends_when_its_time_is_up() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let (peer, lines) = (rig.connect(1, Wire::Http), rig.connect(1, Wire::Lines));
    rig.send(peer, legacy(Some(&session), WAIT));
    rig.send(lines, line("1", "wait"));
    for core in 0..2 {
        rig.step(core, Input::Drain);
    }
    rig.pass(9 * SECOND);
    assert_eq!(rig.drained, [false, false]);
    rig.pass(2 * SECOND);
    assert_eq!(rig.drained, [true, true]);
    assert!(rig.seen[&peer].closed && rig.seen[&lines].closed);
}

#[test]
fn a_drain_waits_a_moment_for_what_has_begun_to_come() {
    let mut rig = Rig::new(1);
    let (half, quick) = (rig.connect(0, Wire::Lines), rig.connect(0, Wire::Lines));
    rig.send(half, "{\"jsonrpc\":");
    let (first, second) = call_line_in_two();
    rig.send(quick, first);
    rig.step(0, Input::Drain);
    rig.pass(SECOND / 2);
    assert_eq!(rig.drained, [false]);
    assert!(rig.ask(quick, second).contains("complete"), "it is still served");
    rig.pass(2 * SECOND);
    assert_eq!(rig.drained, [true], "nobody else is waited for");
}

/// A whole line of a call, in two pieces.
fn call_line_in_two() -> (String, String) {
    let whole = line("1", "echo");
    let (first, second) = whole.split_at(20);
    (first.to_owned(), second.to_owned())
}

#[test]
fn every_member_of_a_batch_is_known_to_the_core_that_answers_it() {
    for (at, home_dies) in [(1, false), (1, true), (0, false)] {
        let mut rig = Rig::new(2);
        let home = rig.connect(0, Wire::Http);
        let session = rig.open_as(home, "2025-03-26");
        let wait = |id| WAIT.replace("\"id\":3", &format!("\"id\":{id}"));
        let peer = rig.connect(at, Wire::Http);
        rig.send(peer, legacy(Some(&session), &format!("[{},{},{}]", wait(1), wait(2), wait(3))));
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
        assert_eq!(status(&rig.ask(home, legacy(Some(&session), cancel))), "202");
        assert_eq!(rig.cores[0].service().cancelled.len(), 1, "a member is reached over any connection");
        if home_dies {
            rig.step(0, Input::PeerLost(CoreId(1)));
        } else {
            rig.step(at, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how: End::Reset });
        }
        // That its client has gone calls off no legacy call, the first of a batch or another.
        assert_eq!((rig.cores[0].service().cancelled.len(), rig.cores[0].population().1), (1, 2), "from core {at}");
        let sent = rig.metrics[0].value(Metric::ParcelsSent);
        let key = rig.cores[0].service().cancelled[0];
        rig.cores[0].service().waiting.retain(|one| *one != key);
        rig.reply(0);
        rig.reply(0);
        assert_eq!(rig.metrics[0].value(Metric::ParcelsSent), sent, "nobody waits for the others there any more");
        assert_eq!(rig.cores[0].population().1, 0);
    }
}

#[test]
fn a_member_cancelled_in_its_own_batch_keeps_no_answer_back_and_no_drain() {
    for at in [0, 1] {
        let mut rig = Rig::new(2);
        let home = rig.connect(0, Wire::Http);
        let session = rig.open_as(home, "2025-03-26");
        let wait = |id| WAIT.replace("\"id\":3", &format!("\"id\":{id}"));
        let cancel =
            |id| format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
        let peer = rig.connect(at, Wire::Http);
        rig.send(peer, legacy(Some(&session), &format!("[{},{},{}]", wait(1), wait(2), cancel(1))));
        assert_eq!(rig.cores[0].service().cancelled.len(), 1);
        let gone = rig.cores[0].service().cancelled[0];
        rig.cores[0].service().waiting.retain(|one| *one != gone);
        rig.reply(0);
        let answer = rig.take(peer);
        assert!(answer.contains("\"id\":2") && !answer.contains("\"id\":1"), "from core {at}: {answer}");
        // None is left to be answered.
        let peer = rig.connect(at, Wire::Http);
        let answer = rig.ask(peer, legacy(Some(&session), &format!("[{},{}]", wait(4), cancel(4))));
        assert!(["200", "202"].contains(&status(&answer)) && !answer.contains("\"id\""), "{answer}");
        assert_eq!((rig.cores[0].population().1, rig.cores[1].population().1), (0, 0));
        for core in 0..2 {
            rig.step(core, Input::Drain);
        }
        rig.pass(20 * SECOND);
        assert_eq!(rig.drained, [true, true], "from core {at}");
    }
}

#[test]
fn what_is_said_while_a_stream_is_lost_waits_for_its_client() {
    for (lost_on, back_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut rig = Rig::new(2);
        let home = rig.connect(0, Wire::Http);
        let session = rig.open(home);
        let peer = rig.connect(lost_on, Wire::Http);
        assert!(rig.ask(peer, get(&session, None)).contains("id: 2-0"));
        let open = |rig: &Rig| rig.metrics[0].value(Metric::StreamsOpen);
        assert_eq!(open(&rig), 1);
        let how = End::Reset;
        rig.step(lost_on, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how });
        assert_eq!(open(&rig), 0);
        rig.step(0, Input::Mail(Mail::Changed(Change::Tools)));
        let peer = rig.connect(back_on, Wire::Http);
        let answer = rig.ask(peer, get(&session, Some("2-0")));
        assert!(answer.contains("id: 2-1") && answer.contains("tools/list_changed"), "{answer}");
        rig.step(0, Input::Mail(Mail::Changed(Change::Prompts)));
        assert!(rig.take(peer).contains("id: 2-2"), "and it goes on");
        assert_eq!(open(&rig), 1);
        // Lost once more, it does not keep its session for ever.
        rig.step(back_on, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how });
        rig.pass(2000 * SECOND);
        assert_eq!((rig.cores[0].population().2, rig.cores[0].population().1, open(&rig)), (0, 0, 0));
    }
}

#[test]
fn an_answer_that_no_ring_can_carry_is_an_error() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let peer = rig.connect(1, Wire::Http);
    assert_eq!(rig.ask(peer, legacy(Some(&session), WAIT)), "");
    let key = rig.cores[0].service().waiting.remove(0);
    let outcome = Ok([b"\"", &vec![b'x'; RING_LEASED_BYTES_MAX][..], b"\""].concat().into());
    rig.step(0, Input::Mail(Mail::Reply { key, outcome }));
    let answer = rig.take(peer);
    assert!(answer.contains("\"id\":3") && answer.contains("-32603") && answer.contains("another core"), "{answer}");
}
