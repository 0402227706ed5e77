//! Rule: a stream of two descriptors of the process behaves like one of a socket, whatever they are.
//!
//! Not here: writing to them (`kernel_memory`). Invariant: see `tests`.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn nothing_is_at_its_end_at_once() {
    let mut rig = Rig::new(small(), Disabled::default());
    let null = File::open("/dev/null").expect("it is always there");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let id = rig.driver.adopt(null.as_raw_fd(), writer.as_raw_fd());
    rig.until("the end", |rig| rig.ended.contains_key(&id));
    assert_eq!((rig.order.as_str(), rig.ended[&id]), ("e", Ended::Eof));
    rig.driver.send(id, b"still heard".to_vec()).expect("open");
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    rig.driver.shutdown(id);
    rig.close(id);
    drop(writer);
    assert_eq!(read_to_end(&mut reader), b"still heard");
    null.metadata().expect("closing the stream leaves the descriptors open");
}

#[test]
fn the_end_of_a_pipe_comes_after_its_last_bytes() {
    for blocks in [true, false] {
        let mut rig = Rig::new(small(), Disabled::default());
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let (_back, front) = std::io::pipe().expect("a pipe");
        if !blocks {
            nonblocking(&reader);
        }
        let id = rig.driver.adopt(reader.as_raw_fd(), front.as_raw_fd());
        let before = rig.driver.stats().enters;
        rig.linger(QUIET);
        assert!(rig.driver.stats().enters - before < 30, "an empty pipe is waited for, not asked again and again");
        rig.turn(Some(QUIET));
        assert_eq!(rig.driver.leases, 0, "and holds no buffer");
        let thread = std::thread::spawn(move || writer.write_all(&pattern(300_000)).expect("read"));
        rig.until("the end", |rig| rig.ended.contains_key(&id));
        thread.join().expect("no panic");
        assert!(rig.bytes_of(id) == pattern(300_000));
        assert!(rig.order.ends_with("re") && rig.ended[&id] == Ended::Eof);
        rig.close(id);
    }
}

#[test]
fn a_pipe_that_is_stopped_brings_nothing_and_loses_nothing() {
    for blocks in [true, false] {
        let mut rig = Rig::new(small(), Disabled::default());
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        if !blocks {
            nonblocking(&reader);
        }
        let id = rig.driver.adopt(reader.as_raw_fd(), writer.as_raw_fd());
        rig.linger(Duration::from_millis(5));
        rig.driver.read(id, false);
        rig.linger(Duration::from_millis(5));
        writer.write_all(b"kept").expect("room");
        rig.linger(QUIET);
        assert!(rig.bytes_of(id).is_empty());
        rig.driver.read(id, true);
        rig.until("bytes", |rig| rig.bytes_of(id) == b"kept");
        // Armed, or waiting for something to read: closing ends either.
        rig.linger(Duration::from_millis(5));
        rig.close(id);
        writer.write_all(b"for somebody else").expect("room");
        rig.linger(Duration::from_millis(5));
        assert_eq!(rig.bytes_of(id), b"kept");
    }
}

#[test]
fn a_regular_file_is_read_from_where_it_stands_to_its_end() {
    let mut rig = Rig::new(small(), Disabled::default());
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&pattern(50_000)).expect("room");
    file.seek(std::io::SeekFrom::Start(100)).expect("inside");
    let mut out = tempfile::tempfile().expect("a file");
    let id = rig.driver.adopt(file.as_raw_fd(), out.as_raw_fd());
    rig.until("the end", |rig| rig.ended.contains_key(&id));
    assert!(rig.bytes_of(id) == &pattern(50_000)[100..]);
    for part in [b"one ".to_vec(), b"two".to_vec()] {
        let before = rig.sent.len();
        rig.driver.send(id, part).expect("open");
        rig.until("the buffer", |rig| rig.sent.len() > before);
    }
    out.rewind().expect("a file");
    assert_eq!(read_to_end(&mut out), b"one two", "one after the other, not both at the start");
    rig.close(id);
}

/// A terminal's two ends.
#[allow(unsafe_code)]
fn terminal() -> (File, File) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut master, mut slave) = (-1, -1);
    let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: needed because the standard library makes no terminals. The call writes two integers; what is null it
    // leaves out; nobody else has the descriptors that it returns.
    unsafe {
        assert_eq!(libc::openpty(&raw mut master, &raw mut slave, name, modes, size), 0);
        (OwnedFd::from_raw_fd(master).into(), OwnedFd::from_raw_fd(slave).into())
    }
}

#[test]
fn a_terminal_is_waited_for_whether_it_blocks_or_not() {
    for blocks in [true, false] {
        let mut rig = Rig::new(small(), Disabled::default());
        let (mut master, slave) = terminal();
        if !blocks {
            nonblocking(&slave);
        }
        let id = rig.driver.adopt(slave.as_raw_fd(), slave.as_raw_fd());
        let before = rig.driver.stats().enters;
        rig.linger(QUIET);
        assert!(rig.driver.stats().enters - before < 30, "nobody asks again and again, blocks: {blocks}");
        rig.until_rung();
        let (before, start) = (rig.driver.stats(), Instant::now());
        rig.turn(Some(QUIET));
        assert_eq!(rig.driver.stats().enters - before.enters, 1);
        assert!(start.elapsed() >= QUIET && rig.driver.stats().completed - before.completed == 1, "the alarm alone");
        for round in 1..=3 {
            master.write_all(b"a line\n").expect("room");
            rig.until("the line", |rig| rig.bytes_of(id) == b"a line\n".repeat(round));
        }
        rig.driver.send(id, b"answer".to_vec()).expect("open");
        rig.until("the buffer", |rig| rig.sent.len() == 1);
        // Stopped while it waits, wanted again, closed while it waits.
        rig.linger(Duration::from_millis(5));
        rig.driver.read(id, false);
        rig.linger(Duration::from_millis(5));
        master.write_all(b"more\n").expect("room");
        rig.linger(Duration::from_millis(20));
        assert_eq!(rig.bytes_of(id).len(), 21);
        rig.driver.read(id, true);
        rig.until("the line", |rig| rig.bytes_of(id).ends_with(b"more\n"));
        rig.linger(Duration::from_millis(5));
        rig.close(id);
    }
}

#[test]
fn a_full_terminal_that_does_not_block_is_waited_for() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (mut master, slave) = terminal();
    nonblocking(&slave);
    let (idle, _keep) = std::io::pipe().expect("a pipe");
    let id = rig.driver.adopt(idle.as_raw_fd(), slave.as_raw_fd());
    let whole = vec![b'x'; 100_000];
    rig.driver.send(id, whole.clone()).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty() && rig.driver.stats().enters < 60, "{:?}", rig.driver.stats());
    let thread = std::thread::spawn(move || {
        let mut all = vec![0; 100_000];
        master.read_exact(&mut all).expect("all of it");
        (all, master)
    });
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    assert_eq!(rig.sent[0].2, Ok(()));
    let (all, _master) = thread.join().expect("no panic");
    assert!(all == whole);
    rig.driver.send(id, whole).expect("open");
    rig.linger(Duration::from_millis(20));
    rig.close(id);
    assert_eq!(rig.sent[1].2, Err(libc::ECANCELED));
}

#[test]
fn both_ends_may_be_one_socket() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (ours, mut theirs) = UnixStream::pair().expect("two");
    let id = rig.driver.adopt(ours.as_raw_fd(), ours.as_raw_fd());
    theirs.write_all(b"ping").expect("room");
    rig.until("bytes", |rig| rig.bytes_of(id) == b"ping");
    rig.driver.send(id, b"pong".to_vec()).expect("open");
    let mut answer = [0; 4];
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    theirs.read_exact(&mut answer).expect("sent");
    assert_eq!(&answer, b"pong");
    drop(theirs);
    rig.until("the end", |rig| rig.ended.contains_key(&id));
}

#[test]
fn a_reader_that_is_gone_is_an_error_of_the_send() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (idle, _keep) = std::io::pipe().expect("a pipe");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let id = rig.driver.adopt(idle.as_raw_fd(), writer.as_raw_fd());
    rig.driver.send(id, b"x".to_vec()).expect("open");
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    assert_eq!(rig.sent[0].2, Err(libc::EPIPE));
}

#[test]
fn a_slot_for_pipes_is_used_again_with_a_next_generation() {
    let mut rig = Rig::new(small(), Disabled::default());
    let null = File::open("/dev/null").expect("it is always there");
    let mut last = None;
    for generation in 0..3 {
        let id = rig.driver.adopt(null.as_raw_fd(), null.as_raw_fd());
        assert_eq!((id.slot, id.generation), (64, generation), "the first slot after the descriptors");
        assert_ne!(last, Some(id));
        rig.close(id);
        last = Some(id);
    }
    assert_eq!(rig.driver.open(), 0);
}
