//! Rule: memory the kernel may touch lives in the arena; a buffer being sent comes back with its terminal completion.
//!
//! Not here: dropping the driver while the kernel is at work (`leaving`). Invariant: see `tests`.

use std::io::{PipeReader, PipeWriter};

use super::*;

#[test]
fn a_buffer_comes_back_only_when_the_kernel_is_done_with_it() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, id) = rig.client(address);
    let buffer = pattern(16 << 20);
    let (start, whole) = (buffer.as_ptr(), buffer.clone());
    rig.driver.send(id, buffer).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty() && rig.driver.memory_in_use().1 == 1, "the arena has it while the peer is slow");
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 16 << 20];
        client.read_exact(&mut all).expect("all of it");
        all
    });
    rig.until("the buffer", |rig| !rig.sent.is_empty());
    assert!(reader.join().expect("no panic") == whole, "every byte, in order");
    let (_, buffer, result) = rig.sent.pop().expect("it is there");
    assert_eq!((buffer.as_ptr(), result), (start, Ok(())), "the same memory, not a copy");
    assert_eq!(rig.driver.memory_in_use().1, 0);
}

/// Who cuts readers that take nothing must see those that take a little.
#[test]
fn a_send_that_moves_is_seen_to_move() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, id) = rig.client(address);
    let whole = pattern(32 << 20);
    rig.driver.send(id, whole.clone()).expect("open");
    rig.linger(QUIET);
    let moves = |rig: &Rig| rig.order.matches('p').count();
    let stuck = moves(&rig);
    rig.linger(QUIET);
    assert_eq!(moves(&rig), stuck, "nobody reads: nothing moves, and nobody says so");
    // Half of it is more than sockets hold, and the send is not over.
    let mut half = vec![0; 16 << 20];
    let reader = std::thread::spawn(move || {
        client.read_exact(&mut half).expect("half of it");
        (client, half)
    });
    rig.until("progress", |rig| moves(rig) > stuck);
    rig.until("half of it", |_| reader.is_finished());
    let (mut client, half) = reader.join().expect("no panic");
    assert!(rig.sent.is_empty() && half == whole[..16 << 20], "it is not over");
    let reader = std::thread::spawn(move || {
        let mut rest = vec![0; 16 << 20];
        client.read_exact(&mut rest).expect("the rest");
        rest
    });
    rig.until("the buffer", |rig| !rig.sent.is_empty());
    assert!(reader.join().expect("no panic") == whole[16 << 20..], "every byte, in order");
}

#[test]
fn a_slow_readers_buffer_comes_back_when_its_stream_is_closed() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    for _ in 0..10 {
        let (_client, id) = rig.client(address);
        rig.driver.send(id, pattern(8 << 20)).expect("open");
        rig.linger(Duration::from_millis(5));
        rig.driver.close(id);
        assert_eq!(rig.driver.memory_in_use().1, 1, "close gives nothing back by itself");
        assert_eq!(rig.driver.send(id, vec![1]), Err(vec![1]), "a closing stream sends no more");
        rig.until("the end", |rig| rig.closed.contains(&id));
        assert_eq!(rig.driver.memory_in_use().1, 0);
    }
    assert_eq!(rig.sent.len(), 10);
}

#[test]
fn a_peer_that_resets_gives_the_buffer_back_with_an_error() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (client, id) = rig.client(address);
    rig.driver.send(id, pattern(16 << 20)).expect("open");
    rig.linger(Duration::from_millis(10));
    // What it has not read makes its close a reset.
    drop(client);
    rig.until("the buffer", |rig| !rig.sent.is_empty() && !rig.ended.is_empty());
    assert!(matches!(rig.sent[0].2, Err(libc::ECONNRESET | libc::EPIPE)), "{:?}", rig.sent[0].2);
    assert!(matches!(rig.ended[&id], Ended::Error(libc::ECONNRESET | libc::EPIPE)));
    rig.close(id);
}

#[test]
fn nothing_is_a_send_too() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (_client, id) = rig.client(address);
    rig.driver.send(id, Vec::new()).expect("open");
    rig.until("the buffer", |rig| !rig.sent.is_empty());
    assert_eq!(rig.sent[0].2, Ok(()));
}

#[test]
#[should_panic(expected = "one send in flight at a time")]
fn a_second_send_at_a_time_is_a_mistake_of_the_owner() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (_client, id) = rig.client(address);
    rig.driver.send(id, vec![1]).expect("open");
    let _: Result<(), Vec<u8>> = rig.driver.send(id, vec![2]);
}

#[test]
fn a_shutdown_waits_for_the_send_in_flight() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, id) = rig.client(address);
    rig.driver.send(id, pattern(16 << 20)).expect("open");
    rig.driver.shutdown(id);
    let reader = std::thread::spawn(move || read_to_end(&mut client));
    rig.until("the buffer", |rig| !rig.sent.is_empty());
    assert_eq!(rig.sent[0].2, Ok(()));
    rig.until("the peer's end", |_| reader.is_finished());
    assert_eq!(reader.join().expect("no panic").len(), 16 << 20);
}

/// A pipe takes what it has room for, as a socket does.
fn through_a_pipe(blocks: bool) {
    let mut rig = Rig::new(small(), Disabled::default());
    let (idle, _keep): (PipeReader, PipeWriter) = std::io::pipe().expect("a pipe");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    if !blocks {
        nonblocking(&writer);
    }
    let id = rig.driver.adopt(idle.as_raw_fd(), writer.as_raw_fd());
    let whole = pattern(1 << 20);
    rig.driver.send(id, whole.clone()).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty(), "nobody reads: 64 KiB of it fit");
    assert!(rig.driver.stats().enters < 60, "and nobody asks again and again: {:?}", rig.driver.stats());
    let thread = std::thread::spawn(move || {
        let mut all = vec![0; 1 << 20];
        reader.read_exact(&mut all).expect("all of it");
        all
    });
    rig.until("the buffer", |rig| !rig.sent.is_empty());
    assert_eq!(rig.sent[0].2, Ok(()));
    assert!(thread.join().expect("no panic") == whole, "every byte, in order");
    // And one that is stuck is given up by a close.
    rig.driver.send(id, whole).expect("open");
    rig.linger(Duration::from_millis(10));
    rig.close(id);
    assert!(rig.sent[1].2.is_err());
}

#[test]
fn a_short_write_is_continued() {
    through_a_pipe(true);
}

#[test]
fn a_short_write_to_a_pipe_that_does_not_block_is_continued() {
    through_a_pipe(false);
}
