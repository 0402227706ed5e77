//! Rule: pipes that a stream owns are closed with it, never before the last operation on them has ended.
//!
//! Not here: pipes that are only lent (`pipes`). Invariant: see `tests`.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::sys::limits::{Resource, raise};

/// A child that runs until its standard input ends, and its stream.
fn child(rig: &mut Rig, program: &str, arguments: &[&str]) -> (Child, ConnectionId) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("every system has it");
    let (out, into) = (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
    let id = rig.driver.adopt_owned(out.into(), Some(into.into()));
    (child, id)
}

/// A stream that owns its ends of two pipes; the other ends.
fn pair(rig: &mut Rig) -> (ConnectionId, PipeWriter, PipeReader) {
    let (read, theirs_to_write) = std::io::pipe().expect("a pipe");
    let (theirs_to_read, write) = std::io::pipe().expect("a pipe");
    (rig.driver.adopt_owned(read.into(), Some(write.into())), theirs_to_write, theirs_to_read)
}

/// Reads to the end, which has to come.
fn read_out(pipe: &mut PipeReader) -> Vec<u8> {
    nonblocking(pipe);
    let (mut all, mut part, start) = (Vec::new(), vec![0; 1 << 16], Instant::now());
    loop {
        assert!(start.elapsed() < PATIENCE, "somebody still has the other end");
        match pipe.read(&mut part) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&part[..bytes]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("no end: {error}"),
        }
    }
}

#[test]
fn a_child_answers_until_its_input_ends() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (mut cat, id) = child(&mut rig, "cat", &[]);
    for round in 1..=3 {
        rig.driver.send(id, b"a line\n".to_vec()).expect("open");
        rig.until("the echo", |rig| rig.bytes_of(id) == b"a line\n".repeat(round));
    }
    rig.driver.shutdown(id);
    rig.until("its end", |rig| rig.ended.contains_key(&id));
    assert_eq!(rig.ended[&id], Ended::Eof);
    assert!(cat.wait().expect("it is ours").success());
    rig.close(id);
    assert_eq!(rig.driver.open(), 0);
}

#[test]
fn a_shutdown_lets_the_send_in_flight_through_and_no_other() {
    let mut rig = Rig::new(small(), Disabled::default());
    // More than pipes hold, so that the send is in flight while it is shut down.
    let (mut cat, id) = child(&mut rig, "cat", &[]);
    rig.driver.read(id, false);
    rig.driver.send(id, pattern(1 << 20)).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty(), "it is in flight");
    rig.driver.shutdown(id);
    rig.linger(QUIET);
    rig.driver.read(id, true);
    rig.until("the end", |rig| rig.ended.contains_key(&id));
    assert!(rig.bytes_of(id) == pattern(1 << 20), "every byte, and then the end");
    assert_eq!(rig.sent[0].2, Ok(()));
    assert!(cat.wait().expect("it is ours").success());
    // The number of the closed descriptor is somebody else's now: nothing may be written to it.
    let others: Vec<File> = (0..32).map(|_| tempfile::tempfile().expect("a file")).collect();
    rig.driver.send(id, b"too late".to_vec()).expect("open");
    rig.until("the buffer", |rig| rig.sent.len() == 2);
    assert_eq!((rig.sent[1].1.as_slice(), rig.sent[1].2), (b"too late".as_slice(), Err(libc::EPIPE)));
    assert!(others.iter().all(|file| file.metadata().expect("open").len() == 0));
    rig.driver.shutdown(id);
    rig.close(id);
}

#[test]
fn a_close_ends_both_pipes_after_what_was_in_flight() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (id, mut to, mut from) = pair(&mut rig);
    rig.linger(Duration::from_millis(5));
    // A read that waits and a write that is stuck.
    rig.driver.send(id, pattern(1 << 20)).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty());
    rig.driver.close(id);
    assert!(to.write_all(b"x").is_ok(), "the read was not seen to end yet, so its descriptor is open");
    rig.until("the end", |rig| rig.closed == [id]);
    assert!(rig.order.ends_with("sc") && rig.sent[0].2.is_err(), "{}", rig.order);
    assert_eq!(to.write_all(b"x").expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
    assert!(pattern(1 << 20).starts_with(&read_out(&mut from)));
    assert!(rig.bytes_of(id).is_empty(), "nothing is handed out after close");
}

/// What is in flight may not have been submitted: until then its descriptor is no more than a number.
#[test]
fn a_number_is_not_given_away_while_an_operation_names_it() {
    alone("uring::tests::owned_pipes::a_number_is_not_given_away_while_an_operation_names_it", || {
        let mut rig = Rig::new(small(), Disabled::default());
        for round in 0..10 {
            let (id, _to, mut from) = pair(&mut rig);
            rig.driver.send(id, b"for the child only".to_vec()).expect("open");
            if round % 2 == 0 {
                rig.driver.close(id);
            } else {
                rig.driver.shutdown(id);
            }
            // Numbers that are free go to these. The first one's ends would get those of the stream, in the same order.
            let others: Vec<_> = (0..4).map(|_| std::io::pipe().expect("a pipe")).collect();
            rig.until("the buffer", |rig| rig.sent.len() == round + 1);
            rig.close(id);
            for (mut reader, writer) in others {
                drop(writer);
                assert!(read_out(&mut reader).is_empty(), "round {round}: it went to somebody else");
            }
            assert!(b"for the child only".starts_with(&read_out(&mut from)));
        }
    });
}

#[test]
fn a_child_that_ends_by_itself_is_an_end_and_an_error() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (mut gone, id) = child(&mut rig, "true", &[]);
    rig.until("its end", |rig| rig.ended.contains_key(&id));
    assert!(gone.wait().expect("it is ours").success());
    rig.driver.send(id, b"hello?".to_vec()).expect("open");
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    assert_eq!(rig.sent[0].2, Err(libc::EPIPE));
    rig.close(id);
}

#[test]
fn descriptors_that_were_lent_are_not_closed_by_a_shutdown() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (idle, _keep) = std::io::pipe().expect("a pipe");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let id = rig.driver.adopt(idle.as_raw_fd(), writer.as_raw_fd());
    rig.driver.shutdown(id);
    rig.driver.send(id, b"still heard".to_vec()).expect("open");
    rig.until("the buffer", |rig| rig.sent.len() == 1);
    assert_eq!(rig.sent[0].2, Ok(()));
    rig.close(id);
    drop(writer);
    assert_eq!(read_to_end(&mut reader), b"still heard");
}

#[test]
fn a_thousand_pairs_are_opened_and_closed_and_nothing_is_left() {
    alone("uring::tests::owned_pipes::a_thousand_pairs_are_opened_and_closed_and_nothing_is_left", || {
        const PAIRS: usize = 1000;
        raise(Resource::Nofile).expect("allowed");
        let mut rig = Rig::new(small(), Disabled::default());
        let before = open_descriptors();
        for round in 0..2 {
            let mut pairs: Vec<_> = (0..PAIRS).map(|_| pair(&mut rig)).collect();
            assert_eq!(rig.driver.open(), PAIRS);
            assert_eq!(open_descriptors(), before + 4 * PAIRS);
            for (id, to, _) in &mut pairs {
                to.write_all(b"ping").expect("room");
                rig.driver.send(*id, b"pong".to_vec()).expect("open");
            }
            rig.until("all of them", |rig| {
                rig.sent.len() == PAIRS && pairs.iter().all(|(id, ..)| rig.bytes_of(*id) == b"ping")
            });
            let mut answer = [0; 4];
            for (id, _, from) in &mut pairs {
                from.read_exact(&mut answer).expect("sent");
                assert!(&answer == b"pong" && id.slot < 64 + PAIRS as u32 && id.generation == round);
                rig.driver.close(*id);
            }
            rig.until("all ends", |rig| rig.closed.len() == PAIRS);
            drop(pairs);
            assert_eq!((open_descriptors(), rig.driver.open()), (before, 0), "round {round}");
            rig.closed.clear();
            rig.sent.clear();
        }
    });
}

#[test]
fn a_driver_that_is_dropped_closes_them() {
    alone("uring::tests::owned_pipes::a_driver_that_is_dropped_closes_them", || {
        let before = open_descriptors();
        for round in 0..20 {
            let busy = || {
                let mut rig = Rig::new(small(), Disabled::default());
                let pairs: Vec<_> = (0..10).map(|_| pair(&mut rig)).collect();
                rig.driver.send(pairs[0].0, pattern(1 << 20)).expect("open");
                rig.driver.shutdown(pairs[1].0);
                rig.driver.close(pairs[2].0);
                rig.turn(Some(Duration::ZERO));
                rig.driver.send(pairs[3].0, pattern(100)).expect("open");
                (rig, pairs)
            };
            // Half of the time it is left by its thread.
            let (rig, mut pairs) =
                if round % 2 == 0 { busy() } else { std::thread::spawn(busy).join().expect("no panic") };
            drop(rig);
            for (_, to, from) in &mut pairs {
                read_out(from);
                // Whoever joins the thread closes the ring, and the kernel lets go of its files behind that.
                let start = Instant::now();
                while let Ok(()) = to.write_all(b"x") {
                    assert!(round % 2 == 1 && start.elapsed() < PATIENCE, "round {round}: somebody still reads");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            drop(pairs);
            assert_eq!(open_descriptors(), before, "round {round}");
        }
    });
}

/// Owned descriptors that are one file: each end is closed by itself.
#[test]
fn both_ends_may_be_of_one_file() {
    let mut rig = Rig::new(small(), Disabled::default());
    let null: OwnedFd = File::open("/dev/null").expect("it is always there").into();
    let again = null.try_clone().expect("a descriptor");
    let id = rig.driver.adopt_owned(null, Some(again));
    rig.until("the end", |rig| rig.ended.contains_key(&id));
    rig.driver.shutdown(id);
    rig.close(id);
}
