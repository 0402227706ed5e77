//! Rule: accepts give each peer's address, keep to the table, pause after exhaustion, and end when told to.
//!
//! Not here: what a slot's next tenant sees (`slots`). Invariant: see `tests`.
#![allow(unsafe_code)]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

#[test]
fn every_peer_has_its_own_address() {
    let four = TcpListener::bind("127.0.0.1:0").expect("a port");
    let six = TcpListener::bind("[::1]:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path).expect("a socket");
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.listen(&[four.as_raw_fd(), six.as_raw_fd(), unix.as_raw_fd()]);
    let by_four: Vec<TcpStream> = (0..9).map(|_| connect(four.local_addr().expect("bound"))).collect();
    let by_six: Vec<TcpStream> = (0..9).map(|_| connect(six.local_addr().expect("bound"))).collect();
    let by_unix: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&path).expect("listening")).collect();
    rig.until("all", |rig| rig.accepted.len() == 23);
    for (listener, clients) in [(0, by_four), (1, by_six)] {
        let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().expect("connected")).collect();
        let mut found: Vec<_> =
            rig.accepted.iter().filter(|one| one.1 == listener).map(|one| one.2.expect("TCP")).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }
    assert_eq!(rig.accepted.iter().filter(|one| one.1 == 2 && one.2.is_none()).count(), by_unix.len());
}

#[test]
fn clients_beyond_the_table_wait_and_are_served_when_a_slot_is_free() {
    let settings = DriverSettings { descriptors: 3, accepts: 8, ..small() };
    let (mut rig, _listener, address) = Rig::listening(settings, Disabled::default());
    let clients: Vec<TcpStream> = (0..12).map(|_| connect(address)).collect();
    for client in &clients {
        let mut client = client;
        client.write_all(b"hello").expect("the backlog keeps it");
    }
    for served in 0..12 {
        rig.until("the next", |rig| rig.accepted.len() > served);
        let id = rig.accepted[served].0;
        rig.until("its bytes", |rig| rig.bytes_of(id) == b"hello");
        assert!(rig.driver.open() <= 3);
        if served == 2 {
            let before = rig.driver.stats().enters;
            rig.turn(Some(QUIET));
            assert_eq!(rig.driver.stats().enters - before, 1, "a full table lets the driver sleep");
        }
        rig.close(id);
    }
    assert_eq!(rig.driver.stats().accepts_exhausted, 0, "nobody was taken from the backlog only to be turned away");
    assert!(rig.ended.is_empty());
}

#[test]
fn pipes_take_no_slot_of_the_table() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut rig = Rig::new(DriverSettings { descriptors: 1, ..small() }, Disabled::default());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rig.driver.adopt(reader.as_raw_fd(), writer.as_raw_fd());
    rig.driver.listen(&[listener.as_raw_fd()]);
    rig.client(listener.local_addr().expect("bound"));
}

#[test]
fn the_last_free_slot_is_shared_by_all_listeners() {
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let mut rig = Rig::new(DriverSettings { descriptors: 3, accepts: 8, ..small() }, Disabled::default());
    rig.driver.listen(&listeners.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
    for (index, listener) in listeners.iter().enumerate().rev() {
        let (_client, id) = rig.client(listener.local_addr().expect("bound"));
        assert_eq!(rig.accepted.last().expect("one").1, index);
        rig.close(id);
    }
}

/// Takes a direct descriptor without the driver's knowledge, so that the kernel runs out before the driver thinks so.
pub(super) fn occupy(rig: &Rig, slot: u32, fd: i32) {
    let ring = rig.driver.descriptor();
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        descriptors: u64,
    }
    let update = Update { offset: slot, reserved: 0, descriptors: (&raw const fd) as u64 };
    const REGISTER_FILES_UPDATE: u32 = 6;
    // SAFETY: needed because the driver has no such operation. The structure and the descriptor live until it returns.
    let done = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_FILES_UPDATE, &raw const update, 1) };
    assert_eq!(done, 1, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_table_that_is_full_unexpectedly_is_tried_again_after_a_pause() {
    let settings = DriverSettings { descriptors: 1, accepts: 1, ..small() };
    let (mut rig, listener, address) = Rig::listening(settings, Disabled::default());
    occupy(&rig, 0, listener.as_raw_fd());
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    let start = Instant::now();
    let before = rig.driver.stats();
    while start.elapsed() < Duration::from_millis(100) {
        rig.turn(None);
    }
    let after = rig.driver.stats();
    let exhausted = after.accepts_exhausted - before.accepts_exhausted;
    assert!((2..=11).contains(&exhausted), "one every 10 ms: {exhausted}");
    assert!(after.enters - before.enters <= 3 * exhausted + 3, "no turn in vain: {after:?}");
    assert!(rig.accepted.is_empty());
    occupy(&rig, 0, -1);
    rig.until("those still waiting", |rig| rig.accepted.len() == 1);
    drop(clients);
}

#[test]
fn an_error_nobody_foresaw_pauses_and_a_gone_connection_does_not() {
    let settings = DriverSettings { accepts: 1, ..small() };
    let (mut rig, _listener, address) = Rig::listening(settings, Disabled::default());
    for (error, pauses) in [(libc::EPERM, true), (libc::ENOMEM, true), (libc::ECONNABORTED, false)] {
        rig.turn(Some(Duration::ZERO));
        rig.client(address);
        rig.turn(Some(Duration::ZERO));
        // In place of a completion that a test cannot bring about.
        let _waiting = connect(address);
        rig.driver.turn(rig.start.elapsed(), Some(PATIENCE)).expect("usable");
        let (data, slot, flags) = rig.driver.reaped.pop_front().expect("an accept");
        assert!(slot >= 0);
        rig.driver.reaped.push_front((data, -error, flags));
        assert!(rig.driver.next_event().is_none());
        // The kernel gave that slot away; nobody uses it any more.
        let now = rig.start.elapsed();
        rig.driver.turn(now, Some(Duration::ZERO)).expect("usable");
        assert_eq!(rig.driver.accepting.in_flight() == 0, pauses, "error {error}");
        assert_eq!(rig.driver.accepting.patience(now), pauses.then_some(Duration::from_millis(10)), "error {error}");
        while rig.driver.accepting.in_flight() == 0 {
            rig.turn(Some(QUIET / 10));
        }
    }
}

#[test]
fn nobody_is_accepted_after_stop() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, id) = rig.client(address);
    rig.driver.stop_accepting();
    rig.linger(Duration::from_millis(20));
    let _late = connect(address);
    let before = rig.driver.stats();
    rig.turn(Some(QUIET));
    assert_eq!(rig.accepted.len(), 1);
    assert_eq!(rig.driver.accepting.in_flight(), 0);
    assert_eq!(rig.driver.stats().enters - before.enters, 1);
    client.write_all(b"still served").expect("sent");
    rig.until("bytes", |rig| rig.bytes_of(id) == b"still served");
}

#[test]
fn a_connection_accepted_while_stopping_is_still_told() {
    for _ in 0..20 {
        let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
        rig.turn(Some(Duration::ZERO));
        let _client = connect(address);
        rig.driver.stop_accepting();
        rig.linger(Duration::from_millis(3));
        // Either it was accepted, and then it was told, or it waits in the backlog for somebody else.
        assert_eq!(rig.driver.open(), rig.accepted.len());
        assert_eq!(rig.driver.accepting.in_flight(), 0);
    }
}

#[test]
fn a_listener_that_is_gone_does_not_make_it_spin() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = socket2::Socket::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.listen(&[gone.as_raw_fd(), other.as_raw_fd(), -1]);
    rig.turn(Some(Duration::ZERO));
    gone.shutdown(Shutdown::Both).expect("it was one");
    rig.linger(Duration::from_millis(10));
    let before = rig.driver.stats();
    let start = Instant::now();
    while start.elapsed() < QUIET {
        rig.turn(Some(QUIET));
    }
    assert!(rig.driver.stats().enters - before.enters <= 2);
    rig.client(other.local_addr().expect("bound"));
}
