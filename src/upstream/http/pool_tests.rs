//! A pool without sockets: what becomes of requests whose links cannot be opened.

use super::EventStream;
use super::pool::{Failure, Outcome, Pool, PoolSettings, Request};
use crate::ids::{ConnectionId, OutboundAddress};
use crate::proto::http1::Target;
use crate::server::service::{End, Nanos, Wish};
use crate::upstream::talk::Talk;

const MS: Nanos = 1_000_000;

fn settings() -> PoolSettings {
    PoolSettings {
        addresses: vec![OutboundAddress::Internet(([127, 0, 0, 1], 9).into())],
        tunnel: None,
        tls: None,
        links_max: 2,
        waiting_max: 8,
        answer_bytes_max: 1024,
        connect_time: 1000 * MS,
        idle_time: 1000 * MS,
    }
}

fn pool() -> Pool {
    Pool::new(settings(), 3)
}

/// Tokens of the links that are to be opened.
fn attempts(pool: &mut Pool) -> Vec<u64> {
    let mut tokens = Vec::new();
    pool.wishes(&mut |wish| match wish {
        Wish::Connect { token, .. } => tokens.push(token),
        _ => panic!("nothing else is wished for"),
    });
    tokens
}

fn submit(pool: &mut Pool, now: Nanos, errand: u32) {
    pool.submit(now, Request { errand, text: b"x".to_vec(), is_notice: false });
}

/// A pool that was given so many calls, and whose links are at work for the first of them.
fn at_work(calls: u32) -> Pool {
    let mut pool = pool();
    (0..calls).for_each(|errand| submit(&mut pool, 0, errand));
    for (slot, token) in (1..).zip(attempts(&mut pool)) {
        assert!(pool.connected(0, token, Ok(ConnectionId { slot, generation: 1 })));
        pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Send(..))));
    }
    pool
}

#[test]
fn a_request_of_which_nothing_was_sent_is_tried_once_more_and_no_more() {
    let mut pool = pool();
    submit(&mut pool, 0, 7);
    let [first] = attempts(&mut pool)[..] else { panic!("one link") };
    assert!(!pool.connected(0, first, Err(111)));
    assert!(!pool.has_outcomes() && attempts(&mut pool).is_empty(), "after a pause");
    let due = pool.deadline().expect("the second try");
    assert!((50 * MS..=100 * MS).contains(&due), "{due}");
    // What comes in the pause waits for its end as well.
    submit(&mut pool, due - 1, 8);
    pool.tick(due - 1);
    assert!(attempts(&mut pool).is_empty());
    pool.tick(due);
    let [second, third] = attempts(&mut pool)[..] else { panic!("two links") };
    assert!(!pool.connected(due, second, Err(111)) && !pool.connected(due, third, Err(111)));
    let failed: Vec<(u32, Failure)> = pool
        .outcomes()
        .map(|outcome| match outcome {
            Outcome::Failed { errand, failure } => (errand, failure),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(failed.contains(&(7, Failure::Unreachable(111))), "{failed:?}");
}

#[test]
fn a_second_try_that_succeeds_is_all_its_caller_notices() {
    let mut pool = pool();
    submit(&mut pool, 0, 7);
    let [first] = attempts(&mut pool)[..] else { panic!("one link") };
    pool.connected(0, first, Err(111));
    let due = pool.deadline().expect("the second try");
    pool.tick(due);
    let [second] = attempts(&mut pool)[..] else { panic!("one link") };
    let id = ConnectionId { slot: 1, generation: 1 };
    assert!(pool.connected(due, second, Ok(id)));
    let mut sent = Vec::new();
    pool.wishes(&mut |wish| match wish {
        Wish::Send(to, text) => sent.push((to, text)),
        _ => panic!("nothing else is wished for"),
    });
    assert_eq!((sent, pool.has_outcomes()), (vec![(id, b"x".to_vec())], false));
}

#[test]
fn an_answer_that_says_it_will_be_too_large_is_refused_by_its_head() {
    for (length, is_refused) in [(1024, false), (1025, true), (u64::MAX, true)] {
        let mut pool = pool();
        submit(&mut pool, 0, 7);
        let [token] = attempts(&mut pool)[..] else { panic!("one link") };
        let id = ConnectionId { slot: 1, generation: 1 };
        assert!(pool.connected(0, token, Ok(id)));
        pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Send(..))));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        pool.received(0, pool.place_of(token), id, head.as_bytes());
        let failed: Vec<Outcome> = pool.outcomes().collect();
        let too_large = Failure::TooLarge { most: 1024 };
        let is_so =
            |outcome: &Outcome| matches!(outcome, Outcome::Failed { errand: 7, failure } if *failure == too_large);
        assert_eq!((failed.len(), failed.iter().all(is_so)), (usize::from(is_refused), true), "{length}: {failed:?}");
        let mut is_closed = false;
        pool.wishes(&mut |wish| is_closed |= matches!(wish, Wish::Close(closed) if closed == id));
        assert_eq!(is_closed, is_refused, "{length}");
    }
}

#[test]
fn whoever_leaves_in_the_pause_is_not_tried_for() {
    let mut pool = pool();
    submit(&mut pool, 0, 7);
    let [first] = attempts(&mut pool)[..] else { panic!("one link") };
    pool.connected(0, first, Err(111));
    pool.drop_errand(1, 7);
    let due = pool.deadline().expect("the end of the pause");
    pool.tick(due);
    assert!(attempts(&mut pool).is_empty() && !pool.has_outcomes());
}

#[test]
fn a_pool_is_over_when_no_attempt_is_left_either() {
    let mut pool = pool();
    assert!(pool.is_over());
    submit(&mut pool, 0, 7);
    assert!(!pool.is_over(), "it wishes for a link");
    let [first] = attempts(&mut pool)[..] else { panic!("one link") };
    pool.drop_errand(0, 7);
    pool.close_all();
    assert!(!pool.is_over(), "the attempt is under way");
    let id = ConnectionId { slot: 1, generation: 1 };
    assert!(pool.connected(MS, first, Ok(id)));
    pool.close_all();
    assert!(!pool.is_over(), "its link is to be closed");
    let mut closed = Vec::new();
    pool.wishes(&mut |wish| closed.push(matches!(wish, Wish::Close(closed) if closed == id)));
    assert_eq!((closed, pool.is_over()), (vec![true], true));
    // One that comes after all is closed, and until then it is not over.
    assert!(!pool.connected(2 * MS, first, Ok(ConnectionId { slot: 2, generation: 1 })));
    assert!(!pool.is_over());
}

#[test]
fn links_that_are_taken_for_long_leave_room_for_as_many_more_and_no_more() {
    let mut pool = pool();
    (0..5).for_each(|errand| submit(&mut pool, 0, errand));
    let [one, other] = attempts(&mut pool)[..] else { panic!("as many as there may be") };
    for (slot, token) in (1..).zip([one, other]) {
        assert!(pool.connected(0, token, Ok(ConnectionId { slot, generation: 1 })));
        pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Send(..))));
    }
    pool.leave_room(0, 1);
    let [third] = attempts(&mut pool)[..] else { panic!("one more") };
    // Less room closes nothing, and opens nothing.
    pool.leave_room(0, 0);
    let id = ConnectionId { slot: 3, generation: 1 };
    assert!(pool.connected(0, third, Ok(id)));
    pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Send(..))));
    pool.ended(0, 2, id, End::Reset);
    pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Close(closed) if closed == id)));
    pool.leave_room(0, 2);
    assert_eq!(attempts(&mut pool).len(), 2);
}

#[test]
fn a_notice_goes_before_calls_by_a_link_of_its_own_which_calls_do_not_get() {
    let mut pool = at_work(4);
    // Calls keep both links, two more wait, and what comes now is what the first two wait for.
    for errand in [8, 9] {
        pool.submit(0, Request { errand, text: vec![errand as u8], is_notice: true });
    }
    let [third] = attempts(&mut pool)[..] else { panic!("one link, for both notices") };
    let id = ConnectionId { slot: 3, generation: 1 };
    assert!(pool.connected(0, third, Ok(id)));
    for expected in [8, 9] {
        let mut sent = Vec::new();
        pool.wishes(&mut |wish| match wish {
            Wish::Send(to, text) if to == id => sent.push(text),
            _ => panic!("nothing else is wished for"),
        });
        assert_eq!(sent, [[expected]]);
        pool.sent(2, id, sent.remove(0), true);
        pool.received(0, 2, id, b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        assert!(
            matches!(pool.outcomes().next(), Some(Outcome::Answer { errand, .. }) if errand == u32::from(expected))
        );
    }
    let mut is_closed = false;
    pool.wishes(&mut |wish| is_closed |= matches!(wish, Wish::Close(closed) if closed == id));
    assert!(is_closed, "calls that wait have no third link");
}

#[test]
fn a_notice_whose_link_cannot_be_opened_is_tried_again() {
    let mut pool = at_work(2);
    pool.submit(0, Request { errand: 8, text: vec![8], is_notice: true });
    let [third] = attempts(&mut pool)[..] else { panic!("one link") };
    assert!(!pool.connected(1, third, Err(111)));
    assert!(attempts(&mut pool).is_empty() && !pool.has_outcomes(), "after a pause");
    let due = pool.deadline().expect("the second try");
    pool.tick(due);
    assert_eq!(attempts(&mut pool).len(), 1);
}

#[test]
fn calls_that_wait_keep_no_notice_from_its_place() {
    let mut pool = pool();
    (0..11).for_each(|errand| submit(&mut pool, 0, errand));
    let is_full = |outcome| matches!(outcome, Outcome::Failed { failure: Failure::Full { waiting: 8 }, .. });
    assert_eq!(pool.outcomes().map(is_full).collect::<Vec<bool>>(), [true; 3]);
    pool.submit(0, Request { errand: 20, text: Vec::new(), is_notice: true });
    assert!(!pool.has_outcomes());
}

#[test]
fn there_is_another_address_to_be_tried_where_one_leads_nowhere() {
    let at = |last| OutboundAddress::Internet(([127, 0, 0, last], 9).into());
    let mut pool = Pool::new(PoolSettings { addresses: vec![at(1), at(2)], ..settings() }, 3);
    let wanted = |pool: &mut Pool| {
        let mut wanted = Vec::new();
        pool.wishes(&mut |wish| match wish {
            Wish::Connect { address, token } => wanted.push((address, token)),
            _ => panic!("nothing else is wished for"),
        });
        wanted
    };
    submit(&mut pool, 0, 7);
    submit(&mut pool, 0, 9);
    // Both were on their way to the first, and say nothing of the second.
    for (address, token) in wanted(&mut pool) {
        assert_eq!(address, at(1));
        pool.connected(0, token, Err(111));
    }
    assert!(pool.is_unreachable());
    let due = pool.deadline().expect("the second try");
    pool.tick(due);
    for (slot, (address, token)) in (1..).zip(wanted(&mut pool)) {
        assert_eq!(address, at(2));
        assert!(pool.connected(due, token, Ok(ConnectionId { slot, generation: 1 })));
        assert!(!pool.is_unreachable());
        pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Send(..))));
        pool.ended(due, pool.place_of(token), ConnectionId { slot, generation: 1 }, End::Reset);
        pool.wishes(&mut |wish| assert!(matches!(wish, Wish::Close(_))));
    }
    // One that was reached stays the first choice.
    submit(&mut pool, due, 8);
    let mut tokens = Vec::new();
    pool.wishes(&mut |wish| match wish {
        Wish::Connect { address, .. } => tokens.push(address),
        Wish::Send(..) => {}
        _ => panic!("nothing else is wished for"),
    });
    assert_eq!(tokens, [at(2)]);
}

#[test]
fn an_event_stream_that_is_shut_is_done_with_its_number_once_its_attempt_has_ended() {
    let target = Target::new("127.0.0.1:9", "/sse").expect("a target");
    let mut stream = EventStream::new(settings(), 3, "127.0.0.1:9", target, Vec::new());
    assert!(stream.has_let_go());
    stream.start(0);
    let mut tokens = Vec::new();
    stream.wishes(&mut |wish| match wish {
        Wish::Connect { token, .. } => tokens.push(token),
        _ => panic!("nothing else is wished for"),
    });
    stream.shut(0);
    assert!(!stream.has_let_go(), "its attempt is under way");
    assert_eq!(stream.connected(1, tokens[0], Err(111)), None);
    assert!(stream.has_let_go());
}
