//! What one connection may take, and what whoever wants more is told.

use super::rig::{INITIALIZE, Rig, SECOND, WAIT, call, legacy, line};
use crate::ids::ConnectionId;
use crate::metrics::{CloseCause, Metric, Refusal};
use crate::server::connection::Wire;
use crate::server::core::{End, Input};
use crate::server::outbox::Delivery;
use crate::server::service::Mail;
use crate::server::settings::Eras;

fn cancel(id: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}\n")
}

#[test]
fn a_call_too_many_is_refused_and_a_cancel_is_read_all_the_same() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    for id in 1..=4 {
        assert_eq!(rig.ask(peer, line(&id.to_string(), "wait")), "");
    }
    let answer = rig.ask(peer, line("5", "wait"));
    assert!(answer.contains("\"id\":5") && answer.contains("-31429"), "{answer}");
    let answer = rig.ask(peer, line("6", "echo"));
    assert!(answer.contains("\"id\":6") && answer.contains("-31429"), "also one that would be answered at once");
    assert_eq!(rig.metrics[0].refused(Refusal::InFlightFull), 2);
    assert_eq!(rig.ask(peer, cancel("3")), "");
    assert_eq!((rig.cores[0].service().cancelled.len(), rig.cores[0].population().1), (1, 3));
    assert_eq!(rig.ask(peer, line("5", "wait")), "", "there is room again");
    for _ in 0..5 {
        rig.reply(0);
    }
    assert_eq!(rig.take(peer).matches("late").count(), 4);
    assert_eq!(rig.cores[0].population().1, 0);
}

#[test]
fn a_batch_counts_by_its_members_wherever_its_session_lives() {
    let mut rig = Rig::new(2);
    let peer = rig.connect(0, Wire::Http);
    let session = rig.open_as(peer, "2025-03-26");
    let wait = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"wait"}}}}"#);
    let batch = format!("[{}]", (10..16).map(wait).collect::<Vec<_>>().join(","));
    for core in 0..2 {
        let peer = rig.connect(core, Wire::Http);
        let answer = rig.ask(peer, legacy(Some(&session), &batch));
        assert_eq!(answer.matches("-31429").count(), 2, "{answer}");
        assert!(answer.contains("\"id\":14") && answer.contains("\"id\":15"), "{answer}");
        for _ in 0..4 {
            rig.reply(0);
        }
        assert_eq!(rig.take(peer).matches("late").count(), 4);
    }
    assert_eq!(rig.metrics[0].refused(Refusal::InFlightFull), 4);
}

#[test]
fn a_sessions_calls_are_bounded_although_their_connections_are_gone() {
    for home in 0..2 {
        let mut rig = Rig::new(2);
        let first = rig.connect(0, Wire::Http);
        let session = rig.open(first);
        let ask = |rig: &mut Rig, id: u32| {
            let peer = rig.connect(home, Wire::Http);
            let answer = rig.ask(peer, legacy(Some(&session), &WAIT.replace("\"id\":3", &format!("\"id\":{id}"))));
            let id = ConnectionId { slot: peer.1, generation: 0 };
            rig.step(home, Input::Ended { id, how: End::Reset });
            answer
        };
        for id in 0..4 {
            assert_eq!(ask(&mut rig, id), "");
        }
        assert_eq!(rig.metrics[0].calls_in_flight.get(), 4, "they go on");
        for id in 4..7 {
            let answer = ask(&mut rig, id);
            assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("-31429"), "{answer}");
            assert!(answer.contains(&format!("\"id\":{id}")), "{answer}");
        }
        assert_eq!(rig.metrics[0].refused(Refusal::InFlightFull), 3);
        let stranger = rig.open(first);
        assert_eq!(rig.ask(first, legacy(Some(&stranger), WAIT)), "", "another session has its own");
        rig.reply(0);
        assert_eq!(ask(&mut rig, 4), "", "there is room again");
    }
}

#[test]
fn an_id_in_flight_on_a_2024_stream_is_refused_as_it_is_on_lines() {
    let mut rig = Rig::new(1);
    let stream = rig.connect(0, Wire::Http);
    let opened = rig.ask(stream, "GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    let target = opened.lines().find_map(|line| line.strip_prefix("data: ")).expect("an address").to_owned();
    let poster = rig.connect(0, Wire::Http);
    let post = |rig: &mut Rig, body: &str| {
        let request = legacy(None, body).replace("POST /mcp", &format!("POST {target}"));
        assert!(rig.ask(poster, request).starts_with("HTTP/1.1 202"));
        rig.take(stream)
    };
    assert!(post(&mut rig, &INITIALIZE.replace("2025-11-25", "2024-11-05")).contains("serverInfo"));
    assert_eq!(post(&mut rig, WAIT), "");
    let answer = post(&mut rig, WAIT);
    assert!(answer.contains("-32600") && answer.contains("\"id\":3"), "{answer}");
    assert_eq!(rig.metrics[0].refused(Refusal::DuplicateId), 1);
    assert_eq!(post(&mut rig, &WAIT.replace("\"id\":3", "\"id\":4")), "", "another id is free");
    rig.reply(0);
    assert_eq!(rig.take(stream).matches("late").count(), 1);
    assert_eq!(post(&mut rig, WAIT), "", "and so is one that was answered");
}

#[test]
fn a_modern_error_carries_the_requests_id_or_none() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let whole = call("9", "echo", "");
    let broken = whole.replace("{\"jsonrpc\"", "[\"jsonrpc\"");
    let media = whole.replace("application/json", "text/plain");
    let html = call("9", "echo", "Accept: text/html\r\n");
    for (request, status) in [(&broken, "400"), (&media, "415"), (&html, "406")] {
        let answer = rig.ask(peer, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && !answer.contains("\"id\""), "{answer}");
        let old = rig.ask(peer, request.replace("2026-07-28", "2025-11-25"));
        assert!(old.contains("\"id\":null"), "{old}");
    }
    let long = whole.replace("Content-Length: ", "Content-Length: 9999");
    let chunked = "Transfer-Encoding: chunked\r\n\r\nx";
    let at = whole.find("Content-Length").expect("a length");
    let torn = format!("{}{chunked}", &whole[..at]);
    for (request, status) in [(&long, "413"), (&torn, "400")] {
        for (request, has_id) in [(request.clone(), false), (request.replace("2026-07-28", "2025-11-25"), true)] {
            let peer = rig.connect(0, Wire::Http);
            let answer = rig.ask(peer, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert_eq!(answer.contains("\"id\":null"), has_id, "{answer}");
        }
    }
    for (accept, method, status) in [
        ("text/event-stream", "tools/call", "406"),
        ("application/json;q=0, text/event-stream", "tools/call", "406"),
        ("application/json", "tools/call", "200"),
        ("application/json", "subscriptions/listen", "406"),
    ] {
        let listen = "\"notifications\":{\"taskIds\":[\"t\"]}";
        let mut request = call("9", "echo", &format!("Accept: {accept}\r\n")).replace("tools/call", method);
        if method != "tools/call" {
            let length = request.split_once("\r\n\r\n").expect("a body").1.len();
            request = request.replace("\"name\":\"echo\"", listen);
            let now = length + listen.len() - "\"name\":\"echo\"".len();
            let before = length - (method.len() - "tools/call".len());
            request = request.replace(&format!("Content-Length: {before}"), &format!("Content-Length: {now}"));
        }
        let answer = rig.ask(peer, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{accept}, {method}: {answer}");
        assert!(answer.contains("\"id\":9"), "{accept}, {method}: {answer}");
    }
}

#[test]
fn whoever_only_collects_refusals_is_not_read_any_more() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Lines);
    for id in 1..=4 {
        rig.send(peer, line(&id.to_string(), "wait"));
    }
    rig.seen.get_mut(&peer).expect("connected").stalled = true;
    let mut sent = 0;
    while !rig.seen[&peer].unread {
        sent += 1;
        assert!(sent < 1000, "its refusals grow without end");
        rig.send(peer, line(&(100 + sent).to_string(), "wait"));
    }
    assert!(rig.metrics[0].refused(Refusal::InFlightFull) < sent);
    rig.pass(6 * SECOND);
    assert!(rig.seen[&peer].closed, "and then it is cut");
}

#[test]
fn a_pipeline_that_is_full_is_not_read_and_counted_once() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    rig.send(peer, call("1", "wait", ""));
    let mut sent = 0;
    while !rig.seen[&peer].unread {
        sent += 1;
        rig.send(peer, call("2", "echo", ""));
    }
    rig.send(peer, call("2", "echo", ""));
    assert_eq!(rig.metrics[0].refused(Refusal::PipelineFull), 1);
    rig.reply(0);
    assert!(!rig.seen[&peer].unread);
    assert_eq!(rig.take(peer).matches("HTTP/1.1 200").count(), sent + 2, "nothing of it is lost");
    assert_eq!(rig.metrics[0].refused(Refusal::PipelineFull), 1);
}

#[test]
fn a_connection_of_lines_has_so_many_subscription_streams_and_they_are_no_calls() {
    let mut rig = Rig::new(1);
    let listen = |id: &str| {
        let wanted = "\"notifications\":{\"taskIds\":[\"t\"]}";
        line(id, "x").replace("tools/call", "subscriptions/listen").replace("\"name\":\"x\"", wanted)
    };
    let peer = rig.connect(0, Wire::Lines);
    for id in ["1", "2"] {
        assert!(rig.ask(peer, listen(id)).contains("acknowledged"));
    }
    let answer = rig.ask(peer, listen("3"));
    assert!(answer.contains("\"id\":3") && answer.contains("-31429"), "{answer}");
    assert_eq!(rig.metrics[0].refused(Refusal::StreamsFull), 1);
    for id in 4..8 {
        assert_eq!(rig.ask(peer, line(&id.to_string(), "wait")), "", "streams take no call's place");
    }
    assert!(rig.ask(peer, line("8", "wait")).contains("-31429"));
    rig.send(peer, cancel("2").replace("{\"requestId\"", "{\"_meta\":{},\"requestId\""));
    assert!(rig.ask(peer, listen("3")).contains("acknowledged"), "one was ended");
    let other = rig.connect(0, Wire::Lines);
    assert!(rig.ask(other, listen("3")).contains("acknowledged"), "another connection has its own");
}

#[test]
fn whoever_does_not_take_what_a_call_says_is_cut() {
    for (wire, request) in [(Wire::Lines, line("1", "wait")), (Wire::Http, call("1", "wait", ""))] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, wire);
        rig.send(peer, request);
        let key = rig.cores[0].service().waiting[0];
        let say = |rig: &mut Rig| {
            let params = format!("{{\"x\":\"{}\"}}", "y".repeat(1000)).into_bytes();
            rig.step(0, Input::Mail(Mail::Notice { key, method: "notifications/message", params }));
        };
        for _ in 0..100 {
            say(&mut rig);
        }
        assert!(!rig.seen[&peer].closed, "whoever reads is told any amount");
        rig.seen.get_mut(&peer).expect("connected").stalled = true;
        let mut said = 0;
        while !rig.seen[&peer].closed {
            said += 1;
            assert!(said < 100, "what it is told grows without end");
            say(&mut rig);
        }
        let metrics = rig.metrics[0];
        assert_eq!((metrics.refused(Refusal::EgressFull), metrics.closed(CloseCause::EgressFull)), (1, 1));
        assert_eq!((rig.cores[0].service().cancelled.len(), rig.cores[0].population()), (1, (0, 0, 0)));
    }
}

#[test]
fn an_end_is_counted_by_what_it_was_like() {
    let mut rig = Rig::new(1);
    for (how, cause) in [
        (End::Finished, CloseCause::PeerClosed),
        (End::Reset, CloseCause::PeerReset),
        (End::Failed, CloseCause::IoError),
    ] {
        let (_, slot) = rig.connect(0, Wire::Http);
        rig.step(0, Input::Ended { id: ConnectionId { slot, generation: 0 }, how });
        assert_eq!(rig.metrics[0].closed(cause), 1, "{how:?}");
    }
}

#[test]
fn parcels_that_had_to_wait_are_counted() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    rig.jammed = true;
    for _ in 0..3 {
        let peer = rig.connect(1, Wire::Http);
        rig.send(peer, legacy(Some(&session), super::rig::PING));
        rig.cores[1].flush_outbox(|_, _, _| Delivery::Full);
    }
    assert_eq!(rig.metrics[1].value(Metric::ParcelsParked), 3);
}

#[test]
fn a_stream_that_nobody_reads_takes_no_more_messages() {
    let mut rig = Rig::new(2);
    let stream = rig.connect(0, Wire::Http);
    let opened = rig.ask(stream, "GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    let target =
        opened.split_once("data: ").and_then(|(_, rest)| rest.split_once('\n')).expect("an address").0.to_owned();
    let post = |rig: &mut Rig, core, body: &str| {
        let peer = rig.connect(core, Wire::Http);
        let request = legacy(None, body).replace("POST /mcp", &format!("POST {}", target.trim()));
        let answer = rig.ask(peer, request);
        rig.step(core, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how: End::Reset });
        answer
    };
    assert!(post(&mut rig, 0, &INITIALIZE.replace("2025-11-25", "2024-11-05")).starts_with("HTTP/1.1 202"));
    rig.seen.get_mut(&stream).expect("connected").stalled = true;
    // An answer says its request's id.
    let large = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(1_000));
    let answers: Vec<String> = (0..60).map(|turn| post(&mut rig, turn % 2, &large)).collect();
    let taken = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 202")).count();
    let behind: Vec<_> = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).collect();
    assert!((10..=40).contains(&taken) && taken + behind.len() == 60, "{taken} were taken: {answers:?}");
    assert!(behind[0].contains("-31429") && behind[0].matches("Retry-After").count() == 1, "{}", behind[0]);
    assert_eq!(rig.metrics[0].refused(Refusal::EgressFull), behind.len() as u64);
}

#[test]
fn what_comes_after_the_last_answer_buys_no_time() {
    for (wire, last) in [(Wire::Http, "BAD\r\n\r\n".to_owned()), (Wire::Lines, "x".repeat(2 << 20))] {
        let mut rig = Rig::new(1);
        let peer = rig.connect(0, wire);
        rig.send(peer, last);
        assert!(
            rig.seen[&peer].shut && !rig.seen[&peer].closed,
            "{wire:?}: it is read on, so that the answer is not lost"
        );
        for _ in 0..4 {
            rig.send(peer, "x");
            rig.pass(SECOND / 2);
        }
        assert!(rig.seen[&peer].closed, "{wire:?}");
    }
}

#[test]
fn where_only_the_modern_era_is_served_a_line_needs_no_claim_to_cancel() {
    for (eras, null_id) in [(Eras::Modern, false), (Eras::Both, true)] {
        let mut rig = Rig::new(1);
        rig.cores[0].settings.eras = eras;
        let peer = rig.connect(0, Wire::Lines);
        assert_eq!(rig.ask(peer, line("1", "wait")), "");
        assert_eq!(rig.ask(peer, cancel("1")), "");
        assert_eq!((rig.cores[0].service().cancelled.len(), rig.cores[0].population().1), (1, 0), "{eras:?}");
        for garbage in ["{\"jsonrpc\"\n", "{\"jsonrpc\":\"1.0\",\"method\":\"corelane/attach\"}\n"] {
            let other = rig.connect(0, Wire::Lines);
            let answer = rig.ask(other, garbage);
            assert!(answer.contains("\"error\"") && answer.contains("\"id\":null") == null_id, "{answer}");
        }
    }
}

#[test]
fn a_line_that_is_too_long_ends_any_connection_but_that_of_who_started_us() {
    for ends_when_empty in [false, true] {
        let mut rig = Rig::new(1);
        rig.cores[0].settings.ends_when_empty = ends_when_empty;
        rig.cores[0].settings.line_bytes = 1000;
        let peer = rig.connect(0, Wire::Lines);
        assert_eq!(rig.ask(peer, line("1", "wait")), "");
        let answer = rig.ask(peer, "x".repeat(1500));
        assert!(answer.contains("limits.line_bytes") && answer.contains("\"id\":null"), "{answer}");
        assert_eq!(rig.ask(peer, "x".repeat(1500)), "", "it is the same line");
        let answer = rig.ask(peer, format!("x\n{}", line("2", "echo")));
        assert_eq!(answer.contains("\"id\":2"), ends_when_empty, "{answer}");
        assert_eq!(rig.seen[&peer].shut, !ends_when_empty);
        assert_eq!(rig.cores[0].population().1, usize::from(ends_when_empty), "what is in flight goes on");
        assert_eq!(rig.metrics[0].refused(Refusal::LineTooLarge), 1);
    }
}
