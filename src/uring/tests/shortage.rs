//! Rule: when receive buffers are short, streams wait first come first served, and nobody asks in vain again and again.
//!
//! Not here: how much one connection may take (`credit`). Invariant: see `tests`.

use std::io::Write;

use super::*;
use crate::uring::operation::{Operation, user_data};
use crate::uring::streams::State;

fn tiny(buffers: u16, buffers_max: u16) -> DriverSettings {
    DriverSettings { descriptors: 400, buffers, buffers_max, accepts: 32, ..small() }
}

/// Hundreds of connections with something waiting, and a handful of buffers.
fn many_and_few(disabled: Disabled, buffers: u16) {
    const CLIENTS: usize = 300;
    let (mut rig, _listener, address) = Rig::listening(tiny(buffers, buffers), disabled);
    let clients = rig.clients(address, CLIENTS);
    rig.linger(Duration::from_millis(20));
    let before = rig.driver.stats();
    let start = Instant::now();
    for (client, _) in &clients {
        (&*client).write_all(&pattern(3000)).expect("sent");
    }
    while rig.received.values().map(Vec::len).sum::<usize>() < CLIENTS * 3000 {
        assert!(rig.start.elapsed() < PATIENCE, "everybody is served in the end");
        // Waiting without end: only a driver that forgot somebody would sleep here.
        rig.turn(Some(Duration::from_secs(2)));
        assert_eq!(rig.driver.memory_in_use().0, usize::from(buffers), "no more than may be");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "it slept while somebody waited");
    for (_, id) in &clients {
        assert!(rig.bytes_of(*id) == pattern(3000));
    }
    let after = rig.driver.stats();
    let (enters, completed) = (after.enters - before.enters, after.completed - before.completed);
    let turns = CLIENTS as u64 / u64::from(buffers);
    assert!(enters <= 4 * turns + 20, "{enters} enters, {turns} are needed");
    assert!(completed <= 6 * CLIENTS as u64, "{completed} completions for {CLIENTS} connections");
    let before = rig.driver.stats();
    rig.turn(Some(QUIET));
    rig.turn(Some(QUIET));
    assert!(rig.driver.stats().enters - before.enters <= 2, "and then it sleeps");
}

#[test]
fn few_buffers_serve_many() {
    many_and_few(Disabled::default(), 2);
    many_and_few(Disabled::default(), 4);
}

#[test]
fn few_buffers_serve_many_without_multishot() {
    many_and_few(Disabled { recv_multishot: true, ..Disabled::default() }, 2);
}

#[test]
fn a_flood_among_the_starved_takes_its_turn() {
    // Two buffers; floods and others alternate in line. A multishot receive would take both buffers every time, and
    // whoever stands behind it would go without for as long as the flood lasts.
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let flooders = rig.clients(address, 3);
    let clients = rig.clients(address, 3);
    rig.linger(Duration::from_millis(10));
    for (_, id) in flooders.iter().chain(&clients) {
        rig.driver.read(*id, false);
    }
    rig.linger(Duration::from_millis(10));
    let writers: Vec<_> = flooders.iter().map(|(client, _)| write_behind(client, pattern(4 << 20))).collect();
    for (client, _) in &clients {
        (&*client).write_all(b"small").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(30));
    for ((_, flooder), (_, id)) in flooders.iter().zip(&clients) {
        rig.driver.read(*flooder, true);
        rig.driver.read(*id, true);
    }
    // What waited for them to leave ends first.
    rig.turn(Some(Duration::ZERO));
    let mut line = std::mem::take(&mut rig.driver.rearm);
    assert_eq!(line.len(), 6);
    rig.driver.starved.append(&mut line);
    for _ in 0..4 {
        rig.turn(Some(Duration::ZERO));
    }
    for (_, id) in &clients {
        assert_eq!(rig.bytes_of(*id), b"small", "within the first round");
    }
    rig.until("the floods", |rig| flooders.iter().all(|(_, id)| rig.bytes_of(*id).len() == 4 << 20));
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    for (_, id) in &flooders {
        assert!(rig.bytes_of(*id) == pattern(4 << 20), "nothing lost, in order");
    }
}

#[test]
fn who_finds_no_buffer_stands_at_the_end_of_the_line() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let clients = rig.clients(address, 3);
    rig.linger(Duration::from_millis(10));
    let line: Vec<ConnectionId> = clients.iter().map(|(_, id)| *id).collect();
    for id in &line {
        rig.driver.reaped.push_back((user_data(Operation::Receive, *id), -libc::ENOBUFS, 0));
    }
    assert!(rig.driver.next_event().is_none());
    assert!(rig.driver.starved == line);
}

#[test]
fn who_finds_no_buffer_and_is_not_to_be_read_any_more_is_watched_instead() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let clients = rig.clients(address, 1);
    rig.linger(Duration::from_millis(10));
    let id = clients[0].1;
    // Its receive has ended already when it is stopped.
    rig.driver.read(id, false);
    rig.driver.reaped.push_back((user_data(Operation::Receive, id), -libc::ENOBUFS, 0));
    assert!(rig.driver.next_event().is_none());
    assert!(rig.driver.starved.is_empty(), "it stands in no line");
    assert!(rig.driver.streams.find(id).is_some_and(|stream| stream.is(State::HANG_UP_POLLED)));
    drop(clients);
    rig.until("it is told that its peer has left", |rig| rig.hung_up == [id]);
}

#[test]
fn the_starved_are_served_in_the_order_in_which_they_came() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let clients = rig.clients(address, 40);
    rig.linger(Duration::from_millis(20));
    for (client, _) in &clients {
        (&*client).write_all(b"first").expect("sent");
    }
    rig.turn(Some(PATIENCE));
    let line: Vec<ConnectionId> = rig.driver.starved.iter().copied().collect();
    assert!(line.len() >= 15, "most of the 20 that the kernel looks at in one go found no buffer: {}", line.len());
    let mut served = Vec::new();
    while served.len() < line.len() {
        let before: Vec<ConnectionId> = rig.received.keys().copied().collect();
        let submitted = rig.driver.stats().submitted;
        assert!(rig.turn(Some(PATIENCE)) > 0);
        assert!(rig.driver.stats().submitted - submitted <= 2, "as many are armed as there are buffers");
        let mut fresh: Vec<ConnectionId> = rig.received.keys().copied().filter(|id| !before.contains(id)).collect();
        fresh.sort_by_key(|id| line.iter().position(|other| other == id));
        served.extend(fresh.into_iter().filter(|id| line.contains(id)));
    }
    assert!(served == line, "first come, first served");
}

#[test]
fn idle_streams_at_the_head_of_the_line_do_not_put_the_driver_to_sleep() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let clients = rig.clients(address, 20);
    rig.linger(Duration::from_millis(20));
    // All of them wait in line, as after a shortage; only the last one has something.
    for (_, id) in &clients {
        rig.driver.read(*id, false);
    }
    rig.linger(Duration::from_millis(10));
    for (_, id) in &clients {
        rig.driver.read(*id, true);
    }
    let mut line = std::mem::take(&mut rig.driver.rearm);
    rig.driver.starved.append(&mut line);
    let (last, id) = clients.last().expect("twenty");
    (&*last).write_all(b"here").expect("sent");
    let start = Instant::now();
    while rig.bytes_of(*id).is_empty() {
        rig.turn(Some(Duration::from_secs(1)));
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn buffers_grow_with_need_and_only_so_far() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 16), Disabled::default());
    let clients = rig.clients(address, 100);
    rig.linger(Duration::from_millis(20));
    assert_eq!(rig.driver.memory_in_use().0, 2, "idle connections need none");
    let mut sizes = vec![2];
    for (client, _) in &clients {
        (&*client).write_all(b"hello").expect("sent");
    }
    while rig.received.len() < 100 {
        assert!(rig.turn(Some(PATIENCE)) > 0 || rig.start.elapsed() < PATIENCE);
        sizes.push(rig.driver.memory_in_use().0);
    }
    sizes.dedup();
    assert_eq!(sizes, [2, 4, 8, 16], "twice as many per turn that needs them");
}

#[test]
fn one_buffer_is_enough() {
    many_and_few(Disabled::default(), 1);
}

#[test]
fn a_stream_that_closes_in_line_leaves_it() {
    let (mut rig, _listener, address) = Rig::listening(tiny(2, 2), Disabled::default());
    let clients = rig.clients(address, 60);
    rig.linger(Duration::from_millis(20));
    for (client, _) in &clients {
        (&*client).write_all(b"hello").expect("sent");
    }
    rig.turn(Some(PATIENCE));
    let (kept, closed) = clients.split_at(30);
    for (_, id) in closed {
        rig.driver.close(*id);
    }
    rig.until("the ends", |rig| rig.closed.len() == 30);
    // Their slots have new tenants, who are not taken for the old ones in line.
    let more = rig.clients(address, 30);
    for (client, _) in &more {
        (&*client).write_all(b"hello").expect("sent");
    }
    rig.until("all", |rig| kept.iter().chain(&more).all(|(_, id)| rig.bytes_of(*id) == b"hello"));
}
