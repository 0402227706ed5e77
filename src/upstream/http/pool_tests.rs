//! A pool without sockets: what becomes of requests whose links cannot be opened.

use super::pool::{Failure, Outcome, Pool, PoolSettings, Request};
use crate::ids::{ConnectionId, OutboundAddress};
use crate::server::service::{End, Nanos, Wish};

const MS: Nanos = 1_000_000;

fn pool() -> Pool {
    let settings = PoolSettings {
        address: OutboundAddress::Internet(([127, 0, 0, 1], 9).into()),
        tls: None,
        links_max: 2,
        waiting_max: 8,
        answer_bytes_max: 1024,
        connect_time: 1000 * MS,
        idle_time: 1000 * MS,
    };
    Pool::new(settings, 3)
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
    pool.submit(now, Request { errand, text: b"x".to_vec() });
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
