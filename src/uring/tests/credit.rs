//! Rule: what one connection may bring between two turns is bounded, and an owner who wants no more soon gets no more.
//!
//! Not here: buffers that are short (`shortage`). Invariant: see `tests`.

use std::io::Write;

use super::*;

const FLOOD: usize = 8 << 20;
const CREDIT: usize = 64 * 1024;
const BUFFER: usize = 4096;
/// Most bytes one connection brought between two turns where the kernel keeps no limit: 4 KiB for each of the receives
/// that the kernel makes in one go (32 per round) before the cancel is seen, with room for a few rounds.
const BURST: usize = 512 * 1024;

fn settings() -> DriverSettings {
    DriverSettings { buffers: 1024, buffers_max: 1024, receive_credit_bytes: CREDIT as u32, ..small() }
}

const LIMIT: Disabled = Disabled {
    hand_over: false,
    msg_ring: false,
    recv_limit: false,
    recv_multishot: false,
    ring_descriptor: false,
    steering: false,
};
const NO_LIMIT: Disabled = Disabled { recv_limit: true, ..LIMIT };
const SINGLY: Disabled = Disabled { recv_multishot: true, ..LIMIT };

/// Whether this kernel keeps a limit (6.18); without one the driver does as in the tests beside.
fn has_limit() -> bool {
    let there = features(LIMIT).recv_limit;
    if !there {
        println!("not tried: this kernel has no limit of a receive");
    }
    there
}

/// A flood that fills the socket's buffers between two turns: how many bytes each turn brought.
fn flood(disabled: Disabled) -> Vec<usize> {
    let (mut rig, _listener, address) = Rig::listening(settings(), disabled);
    let (client, id) = rig.client(address);
    let writer = write_behind(&client, pattern(FLOOD));
    std::thread::sleep(Duration::from_millis(50));
    let mut turns = Vec::new();
    while rig.bytes_of(id).len() < FLOOD {
        turns.push(rig.turn(Some(PATIENCE)));
        // The writer fills what was taken.
        std::thread::sleep(Duration::from_micros(200));
    }
    writer.join().expect("no panic");
    assert!(rig.bytes_of(id) == pattern(FLOOD), "nothing lost, in order");
    turns
}

fn most(turns: &[usize]) -> usize {
    turns.iter().copied().max().unwrap_or(0)
}

#[test]
fn with_a_limit_a_flood_brings_its_credit_per_turn() {
    if !has_limit() {
        return;
    }
    let most = most(&flood(LIMIT));
    // The kernel looks at the limit after each buffer, so the last one may go beyond it.
    assert!((CREDIT / 2..CREDIT + BUFFER).contains(&most), "{most}");
}

#[test]
fn without_a_limit_a_flood_is_stopped_and_then_read_one_buffer_at_a_time() {
    let turns = flood(NO_LIMIT);
    assert!(most(&turns) <= BURST, "{}", most(&turns));
    // From a burst on (and what had completed before its cancel was seen) singly, until it has dried up.
    let mut turns = turns.into_iter();
    while let Some(bytes) = turns.next() {
        if bytes >= CREDIT {
            turns.next();
            let singly = turns.by_ref().take_while(|&bytes| bytes == 0 || bytes >= BUFFER);
            assert!(most(&singly.collect::<Vec<_>>()) <= BUFFER);
        }
    }
}

#[test]
fn received_singly_a_flood_brings_one_buffer_per_turn() {
    let most = most(&flood(SINGLY));
    assert_eq!(most, BUFFER);
}

/// Stops wanting at the first bytes; returns what came after that.
fn pause(disabled: Disabled) -> usize {
    let (mut rig, _listener, address) = Rig::listening(settings(), disabled);
    let (client, id) = rig.client(address);
    let writer = write_behind(&client, pattern(FLOOD));
    std::thread::sleep(Duration::from_millis(50));
    let mut over = 0;
    for round in 0..20 {
        // Said at the first bytes of a turn: what is in the same turn, and what comes later, is too much.
        let mut at_stop = 0;
        while at_stop == 0 {
            rig.driver.turn(rig.start.elapsed(), Some(PATIENCE)).expect("usable");
            while let Some(event) = rig.driver.next_event() {
                if rig.note(event) > 0 && at_stop == 0 {
                    at_stop = rig.bytes_of(id).len();
                    rig.driver.read(id, false);
                }
            }
        }
        rig.linger(Duration::from_millis(5));
        over = over.max(rig.bytes_of(id).len() - at_stop);
        let settled = rig.bytes_of(id).len();
        let before = rig.driver.stats();
        assert_eq!(rig.turn(Some(Duration::from_millis(10))), 0, "round {round}: stopped is stopped");
        assert_eq!(rig.driver.stats().enters - before.enters, 1, "and does not wake");
        assert_eq!(rig.bytes_of(id).len(), settled);
        rig.driver.read(id, true);
    }
    rig.until("the rest", |rig| rig.bytes_of(id).len() == FLOOD);
    writer.join().expect("no panic");
    assert!(rig.bytes_of(id) == pattern(FLOOD), "nothing lost, in order");
    assert!(rig.driver.stats().overshoot_bytes as usize >= over, "{over}");
    over
}

#[test]
fn a_paused_connection_brings_at_most_the_overshoot_with_a_limit() {
    if !has_limit() {
        return;
    }
    let over = pause(LIMIT);
    assert!(over < CREDIT + BUFFER, "{over}");
}

#[test]
fn a_paused_connection_brings_at_most_the_overshoot_without_a_limit() {
    let over = pause(NO_LIMIT);
    assert!(over <= BURST, "{over}");
}

#[test]
fn a_paused_connection_brings_at_most_the_overshoot_singly() {
    let over = pause(SINGLY);
    assert!(over <= BUFFER, "{over}");
}

#[test]
fn stop_and_go_in_any_order_ends_as_the_last_word_said() {
    for disabled in [LIMIT, NO_LIMIT, SINGLY] {
        let (mut rig, _listener, address) = Rig::listening(settings(), disabled);
        let (mut client, id) = rig.client(address);
        for round in 0..200_u32 {
            // Stopped while armed, wanted again before, during or after the end of that receive.
            rig.driver.read(id, false);
            if round % 3 == 0 {
                rig.turn(Some(Duration::ZERO));
            }
            rig.driver.read(id, true);
            rig.driver.read(id, false);
            client.write_all(&round.to_be_bytes()).expect("sent");
            if round % 2 == 0 {
                rig.turn(Some(Duration::ZERO));
            }
            rig.driver.read(id, true);
            let due = 4 * (round as usize + 1);
            rig.until("the number", |rig| rig.bytes_of(id).len() == due);
        }
        let expected: Vec<u8> = (0..200_u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(rig.bytes_of(id), expected);
    }
}

#[test]
fn who_leaves_while_nothing_is_read_is_noticed_and_what_was_sent_before_is_not_lost() {
    for disabled in [LIMIT, NO_LIMIT, SINGLY] {
        let (mut rig, _listener, address) = Rig::listening(settings(), disabled);
        let (mut client, id) = rig.client(address);
        rig.driver.read(id, false);
        rig.turn(Some(Duration::ZERO));
        client.write_all(b"before").expect("sent");
        rig.linger(Duration::from_millis(5));
        assert!(rig.hung_up.is_empty() && rig.bytes_of(id).is_empty(), "it is there, and nothing is read");
        drop(client);
        rig.until("it is told", |rig| rig.hung_up == [id]);
        rig.driver.read(id, true);
        rig.until("the end", |rig| rig.ended.contains_key(&id));
        assert_eq!((rig.bytes_of(id), rig.hung_up.len()), (&b"before"[..], 1));
        // Closing ends the wait as it ends a receive.
        let (_other, other) = rig.client(address);
        rig.driver.read(other, false);
        rig.turn(Some(Duration::ZERO));
        rig.driver.close(other);
        rig.until("its slot is free", |rig| rig.closed.contains(&other));
    }
}

#[test]
fn a_flood_does_not_hold_up_the_others() {
    for disabled in [LIMIT, NO_LIMIT, SINGLY] {
        let (mut rig, _listener, address) = Rig::listening(settings(), disabled);
        let (flooder, _) = rig.client(address);
        let clients = rig.clients(address, 20);
        let writer = write_behind(&flooder, pattern(FLOOD));
        std::thread::sleep(Duration::from_millis(20));
        for (client, id) in &clients {
            (&*client).write_all(b"small").expect("sent");
            // In the turn in which it is there, not after the flood.
            let turns = (1..).take_while(|_| {
                rig.turn(Some(Duration::from_millis(5)));
                rig.bytes_of(*id).is_empty()
            });
            assert!(turns.take(10).count() <= 3, "{disabled:?}");
        }
        rig.until("the flood", |_| writer.is_finished());
        writer.join().expect("no panic");
    }
}

#[test]
fn a_stopped_connection_ends_only_when_it_is_read_again() {
    let (mut rig, _listener, address) = Rig::listening(settings(), LIMIT);
    let (mut client, id) = rig.client(address);
    rig.turn(Some(Duration::ZERO));
    rig.driver.read(id, false);
    rig.linger(Duration::from_millis(5));
    client.write_all(b"last words").expect("sent");
    drop(client);
    rig.linger(QUIET);
    assert!(rig.order == "a", "{}", rig.order);
    rig.driver.read(id, true);
    rig.until("the end", |rig| !rig.ended.is_empty());
    assert_eq!((rig.order.as_str(), rig.ended[&id]), ("are", Ended::Eof));
    rig.driver.read(id, true);
    rig.linger(Duration::from_millis(5));
    assert_eq!(rig.order, "are", "it ends once");
}
