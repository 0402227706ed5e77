//! Rule: a connect has one outcome, and what is connected is a stream like any other; what is not leaves nothing.
//!
//! Not here: what is set on the socket (`sys::outbound`). Invariant: see `tests`.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;
use crate::ids::OutboundAddress;
use crate::sys::limits::{Resource, raise, read, set_soft};
use crate::uring::operation::{Operation, user_data};

fn one_slot() -> DriverSettings {
    DriverSettings { descriptors: 1, accepts: 1, ..small() }
}

/// A server that accepts when it is asked to.
fn server(at: &str) -> (TcpListener, OutboundAddress) {
    let listener = TcpListener::bind(at).expect("a port");
    let address = OutboundAddress::Internet(listener.local_addr().expect("bound"));
    (listener, address)
}

/// A server on this host whose port nobody listens on.
fn nobody() -> OutboundAddress {
    server("127.0.0.1:0").1
}

/// Servers that never answer: their backlogs are full. What keeps them so.
fn deaf() -> (OutboundAddress, (Socket, TcpStream)) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("bound");
    let address = listener.local_addr().expect("bound").as_socket().expect("TCP");
    (OutboundAddress::Internet(address), (listener, connect(address)))
}

/// The same by a Unix socket.
fn deaf_unix() -> (OutboundAddress, (tempfile::TempDir, Socket, Socket)) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let name = SockAddr::unix(&path).expect("short");
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let (listener, client) = (socket(), socket());
    listener.bind(&name).expect("free");
    listener.listen(0).expect("bound");
    client.connect(&name).expect("the first fits");
    (OutboundAddress::Unix(path), (folder, listener, client))
}

impl Rig {
    /// The outcome of a connect.
    fn outcome(&mut self, token: u64) -> Result<ConnectionId, i32> {
        self.until("an outcome", |rig| rig.connected.contains_key(&token));
        self.connected[&token]
    }

    /// A stream to the server, and the server's end of it.
    fn reach(&mut self, listener: &TcpListener, address: &OutboundAddress, token: u64) -> (ConnectionId, TcpStream) {
        self.driver.connect(address, token);
        let id = self.outcome(token).expect("it listens");
        let (theirs, _) = listener.accept().expect("it is connected");
        theirs.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        (id, theirs)
    }

    fn nothing_is_left(&self) {
        assert_eq!(
            (self.driver.open(), self.driver.connecting.in_flight(), self.driver.connecting.entering()),
            (0, 0, 0)
        );
        assert_eq!((self.driver.stats().stale, self.driver.streams.outbound()), (0, 0));
    }
}

/// Bytes both ways, more than either side holds, to the end of both.
fn exchange(rig: &mut Rig, id: ConnectionId, mut theirs: impl Read + Write + Send + 'static) {
    theirs.write_all(b"hello").expect("room");
    rig.until("the first words", |rig| rig.bytes_of(id) == b"hello");
    let thread = std::thread::spawn(move || {
        let mut all = vec![0; 4 << 20];
        theirs.read_exact(&mut all).expect("all of it");
        theirs.write_all(&all).expect("read");
        (read_to_end(&mut theirs), all)
    });
    rig.driver.send(id, pattern(4 << 20)).expect("open");
    rig.until("the echo", |rig| rig.bytes_of(id).len() == (4 << 20) + 5);
    assert!(rig.bytes_of(id)[5..] == pattern(4 << 20), "every byte, in order");
    assert_eq!(rig.sent.pop().expect("it came back").2, Ok(()));
    rig.driver.shutdown(id);
    rig.until("their end", |rig| thread.is_finished() && rig.ended.contains_key(&id));
    let (rest, all) = thread.join().expect("no panic");
    assert!(rest.is_empty() && all == pattern(4 << 20));
    assert_eq!(rig.ended[&id], Ended::Eof);
    rig.close(id);
}

#[test]
fn bytes_go_both_ways_whatever_is_switched_off() {
    let none = Disabled::default();
    let all = Disabled { msg_ring: true, recv_limit: true, recv_multishot: true, ring_descriptor: true, ..none };
    for disabled in [none, Disabled { recv_limit: true, ..none }, Disabled { recv_multishot: true, ..none }, all] {
        let mut rig = Rig::new(one_slot(), disabled);
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (listener, address) = server(at);
            let (id, theirs) = rig.reach(&listener, &address, 7);
            assert_eq!((id.slot, rig.order.as_str()), (0, "o"), "it is told before anything of it");
            exchange(&mut rig, id, theirs);
            rig.order.clear();
            rig.connected.clear();
        }
        rig.nothing_is_left();
    }
}

#[test]
fn a_unix_socket_is_reached_by_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.connect(&OutboundAddress::Unix(path.clone()), 1);
    let id = rig.outcome(1).expect("it listens");
    let (theirs, _) = listener.accept().expect("it is connected");
    exchange(&mut rig, id, theirs);
    drop(listener);
    let missing = folder.path().join("missing");
    let long = PathBuf::from("x".repeat(200));
    for (token, path, error) in
        [(2, path, libc::ECONNREFUSED), (3, missing, libc::ENOENT), (4, long, libc::ENAMETOOLONG)]
    {
        rig.driver.connect(&OutboundAddress::Unix(path), token);
        assert_eq!(rig.outcome(token), Err(error));
    }
    rig.nothing_is_left();
}

#[test]
fn who_does_not_listen_refuses() {
    let mut rig = Rig::new(one_slot(), Disabled::default());
    for token in 0..20 {
        rig.driver.connect(&nobody(), token);
        assert_eq!(rig.outcome(token), Err(libc::ECONNREFUSED));
        rig.nothing_is_left();
    }
    // The kernel knows at once that there is no way there.
    rig.driver.connect(&OutboundAddress::Internet("255.255.255.255:9".parse().expect("valid")), 20);
    assert!(matches!(rig.outcome(20), Err(libc::ENETUNREACH | libc::EACCES)), "{:?}", rig.connected[&20]);
    assert!(rig.closed.is_empty(), "nobody hears of the end of what nobody heard of");
    assert_eq!(rig.order, "o".repeat(21));
}

#[test]
fn an_outcome_comes_without_waiting_for_anything_else() {
    let mut rig = Rig::new(one_slot(), Disabled::default());
    rig.driver.connect(&OutboundAddress::Unix(PathBuf::new()), 0);
    let start = Instant::now();
    rig.turn(None);
    assert_eq!(rig.connected[&0], Err(libc::EINVAL));
    rig.driver.connect(&nobody(), 1);
    while !rig.connected.contains_key(&1) {
        rig.turn(None);
    }
    assert!(start.elapsed() < PATIENCE);
}

/// Gives up a connect after so many turns, again and again in the same slot.
fn given_up(rig: &mut Rig, address: &OutboundAddress, round: u64) {
    rig.driver.connect(address, round);
    for _ in 0..round % 4 {
        rig.turn(Some(Duration::from_millis(round / 4)));
    }
    assert!(rig.connected.is_empty(), "it never answers");
    rig.driver.cancel_connect(round);
    rig.driver.cancel_connect(round);
    assert!(rig.connected.is_empty(), "an outcome comes as an event");
    assert_eq!(rig.outcome(round), Err(libc::ECANCELED));
    rig.driver.cancel_connect(round);
    rig.nothing_is_left();
    rig.turn(Some(Duration::ZERO));
    rig.connected.clear();
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let (address, _keep) = deaf();
    let (unix, _keep_unix) = deaf_unix();
    let mut rig = Rig::new(one_slot(), Disabled::default());
    let (listener, good) = server("127.0.0.1:0");
    for round in 0..24 {
        given_up(&mut rig, &address, round);
        given_up(&mut rig, &unix, round);
        // The slot is free at once, and nothing of the attempt shows in it.
        let (id, theirs) = rig.reach(&listener, &good, 100);
        drop(theirs);
        rig.until("the end", |rig| rig.ended.contains_key(&id));
        assert_eq!(rig.ended[&id], Ended::Eof);
        rig.close(id);
        rig.connected.clear();
    }
    assert_eq!(rig.driver.stats().stale, 0);
}

#[test]
fn one_that_waits_keeps_nobody_awake() {
    let (address, _keep) = deaf();
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.connect(&address, 1);
    rig.linger(Duration::from_millis(10));
    let before = rig.driver.stats().enters;
    rig.turn(Some(QUIET));
    assert_eq!(rig.driver.stats().enters - before, 1);
    assert!(rig.connected.is_empty());
}

#[test]
fn a_connection_that_came_about_while_it_was_given_up_is_none() {
    let (listener, address) = server("127.0.0.1:0");
    let mut rig = Rig::new(one_slot(), Disabled::default());
    for token in 0..10 {
        rig.driver.connect(&address, token);
        // Until the kernel has connected it and nobody has looked.
        while rig.driver.streams.outbound() == 0 {
            rig.turn(Some(Duration::from_millis(5)));
        }
        rig.driver.turn(rig.start.elapsed(), Some(PATIENCE)).expect("usable");
        rig.driver.cancel_connect(token);
        assert_eq!(rig.outcome(token), Err(libc::ECANCELED));
        rig.nothing_is_left();
        let (mut theirs, _) = listener.accept().expect("it was connected");
        assert!(read_to_end(&mut theirs).is_empty(), "and is closed");
    }
}

#[test]
fn a_token_that_is_not_in_flight_is_given_up_in_vain() {
    let (listener, address) = server("127.0.0.1:0");
    let mut rig = Rig::new(one_slot(), Disabled::default());
    rig.driver.cancel_connect(1);
    let (id, theirs) = rig.reach(&listener, &address, 1);
    rig.driver.cancel_connect(1);
    rig.driver.cancel_connect(2);
    exchange(&mut rig, id, theirs);
}

#[test]
#[should_panic(expected = "one connect in flight at a time")]
fn a_token_used_twice_at_a_time_is_a_mistake_of_the_owner() {
    let mut rig = Rig::new(small(), Disabled::default());
    let (address, _keep) = deaf();
    rig.driver.connect(&address, 1);
    rig.driver.connect(&address, 1);
}

#[test]
fn the_next_server_never_sees_what_was_said_to_the_last() {
    let (one, one_address) = server("127.0.0.1:0");
    let (two, two_address) = server("127.0.0.1:0");
    let mut rig = Rig::new(one_slot(), Disabled::default());
    for round in 0..20 {
        let (first, mut theirs) = rig.reach(&one, &one_address, 1);
        rig.driver.send(first, b"for the first only".repeat(100_000)).expect("open");
        rig.turn(Some(Duration::ZERO));
        theirs.write_all(b"from the first only").expect("room");
        rig.driver.close(first);
        let _: std::io::Result<()> = theirs.write_all(b", and more of it");
        // Its slot is taken until everything of it has ended: there is no other.
        rig.driver.connect(&two_address, 2);
        assert_eq!(rig.outcome(2), Err(libc::ENFILE));
        rig.until("the end", |rig| rig.closed.contains(&first));
        rig.connected.clear();
        let (second, mut theirs) = rig.reach(&two, &two_address, 2);
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1), "round {round}");
        theirs.write_all(b"mine").expect("room");
        rig.until("bytes", |rig| !rig.bytes_of(second).is_empty());
        rig.driver.send(second, b"yours".to_vec()).expect("open");
        rig.until("the buffers", |rig| rig.sent.len() == 2 * (round + 1));
        assert_eq!(rig.bytes_of(second), b"mine");
        rig.close(second);
        assert_eq!(read_to_end(&mut theirs), b"yours");
        assert!(rig.bytes_of(first).is_empty(), "nothing is handed out after close");
        rig.connected.clear();
    }
    rig.nothing_is_left();
}

#[test]
fn a_full_table_is_an_outcome() {
    let (listener, address) = server("127.0.0.1:0");
    let mut rig = Rig::new(DriverSettings { descriptors: 2, ..small() }, Disabled::default());
    // In flight, connected, and one too many, in one turn.
    let (silent, _keep) = deaf();
    rig.driver.connect(&silent, 0);
    rig.driver.connect(&address, 1);
    rig.driver.connect(&address, 2);
    assert_eq!(rig.outcome(2), Err(libc::ENFILE));
    let id = rig.outcome(1).expect("there was room");
    rig.driver.connect(&address, 3);
    assert_eq!(rig.outcome(3), Err(libc::ENFILE));
    rig.close(id);
    rig.driver.connect(&address, 4);
    assert!(rig.outcome(4).is_ok(), "there is room again");
    drop(listener);
}

#[test]
fn a_table_that_is_full_unexpectedly_is_an_outcome_too() {
    let (listener, address) = server("127.0.0.1:0");
    let mut rig = Rig::new(one_slot(), Disabled::default());
    accepting::occupy(&rig, 0, listener.as_raw_fd());
    for token in 0..3 {
        rig.driver.connect(&address, token);
        assert_eq!(rig.driver.connecting.entering(), 1, "the driver believes that there is room");
        assert_eq!(rig.outcome(token), Err(libc::ENFILE));
        rig.nothing_is_left();
    }
    accepting::occupy(&rig, 0, -1);
    rig.reach(&listener, &address, 3);
}

#[test]
fn accepts_and_connects_together_keep_to_the_table() {
    let settings = DriverSettings { descriptors: 5, accepts: 8, ..small() };
    let (mut rig, _listener, here) = Rig::listening(settings, Disabled::default());
    let (silent, _keep) = deaf();
    // Before anything is armed, so that there is room for all.
    for token in 0..3 {
        rig.driver.connect(&silent, token);
    }
    rig.linger(Duration::from_millis(10));
    assert_eq!((rig.driver.accepting.in_flight(), rig.driver.slots_free()), (2, 0), "accepts have the rest");
    rig.driver.connect(&silent, 3);
    assert_eq!(rig.outcome(3), Err(libc::ENFILE), "which nobody takes from them");
    let clients = rig.clients(here, 2);
    let _waiting: Vec<TcpStream> = (0..3).map(|_| connect(here)).collect();
    rig.linger(Duration::from_millis(20));
    assert_eq!((rig.accepted.len(), rig.driver.stats().accepts_exhausted), (2, 0), "nobody was turned away");
    rig.driver.cancel_connect(1);
    rig.until("one of those who wait", |rig| rig.accepted.len() == 3);
    rig.close(clients[0].1);
    rig.until("one more", |rig| rig.accepted.len() == 4);
    assert_eq!((rig.driver.stats().accepts_exhausted, rig.driver.open()), (0, 5));
}

#[test]
fn slots_that_are_kept_for_connects_are_no_accepts() {
    let settings = DriverSettings { descriptors: 6, accepts: 8, outbound: 2, ..small() };
    let (mut rig, _listener, here) = Rig::listening(settings, Disabled::default());
    let (listener, address) = server("127.0.0.1:0");
    let clients: Vec<TcpStream> = (0..12).map(|_| connect(here)).collect();
    rig.linger(Duration::from_millis(20));
    assert_eq!((rig.accepted.len(), rig.driver.slots_free()), (4, 2), "a crowd of clients does not get them");
    for round in 0..3 {
        let token = 10 * round;
        let (one, theirs_one) = rig.reach(&listener, &address, token);
        let (two, theirs_two) = rig.reach(&listener, &address, token + 1);
        rig.driver.connect(&address, token + 2);
        assert_eq!(rig.outcome(token + 2), Err(libc::ENFILE));
        assert_eq!(rig.accepted.len(), 4);
        drop((theirs_one, theirs_two));
        rig.close(one);
        rig.close(two);
        rig.linger(Duration::from_millis(5));
        assert_eq!((rig.accepted.len(), rig.driver.slots_free()), (4, 2), "nor those that are free again");
    }
    assert_eq!(rig.driver.stats().accepts_exhausted, 0);
    drop(clients);
}

#[test]
fn more_than_are_kept_may_be_opened_while_there_is_room() {
    let settings = DriverSettings { descriptors: 6, accepts: 1, outbound: 1, ..small() };
    let (mut rig, _listener, here) = Rig::listening(settings, Disabled::default());
    rig.turn(Some(Duration::ZERO));
    let (listener, address) = server("127.0.0.1:0");
    let mut streams = Vec::new();
    for token in 0..5 {
        streams.push(rig.reach(&listener, &address, token));
    }
    rig.client(here);
    for (id, _) in streams {
        rig.close(id);
    }
    assert_eq!(rig.driver.streams.outbound(), 0);
}

#[test]
fn hundreds_are_connected_by_a_tiny_queue() {
    const COUNT: u64 = 300;
    alone("uring::tests::connecting::hundreds_are_connected_by_a_tiny_queue", || {
        raise(Resource::Nofile).expect("allowed");
        let settings = DriverSettings { entries: 4, cq_entries: 8, descriptors: 400, ..small() };
        let mut rig = Rig::new(settings, Disabled::default());
        let (listener, address) = server("127.0.0.1:0");
        // The standard library's backlog is 128, beyond which connects wait for seconds.
        socket2::SockRef::from(&listener).listen(COUNT as i32).expect("it listens already");
        let server = std::thread::spawn(move || {
            let streams: Vec<TcpStream> = (0..COUNT).map(|_| listener.accept().expect("they come").0).collect();
            for mut stream in &streams {
                stream.write_all(b"welcome").expect("room");
            }
            streams
        });
        for token in 0..COUNT {
            rig.driver.connect(&address, token);
        }
        rig.until("all", |rig| rig.received.len() == COUNT as usize);
        let mut streams = server.join().expect("no panic");
        drop(address);
        let opened = open_descriptors();
        let ids: Vec<ConnectionId> = rig.connected.values().map(|outcome| outcome.expect("it listens")).collect();
        assert_eq!((ids.len(), rig.driver.open()), (COUNT as usize, COUNT as usize));
        assert!(ids.iter().all(|id| rig.bytes_of(*id) == b"welcome"));
        for id in &ids {
            rig.driver.close(*id);
        }
        rig.until("all ends", |rig| rig.closed.len() == COUNT as usize);
        assert_eq!(open_descriptors(), opened, "none of them was one of the process");
        for stream in &mut streams {
            assert!(read_to_end(stream).is_empty());
        }
        rig.nothing_is_left();
    });
}

#[test]
fn the_process_has_no_descriptor_of_a_connection() {
    alone("uring::tests::connecting::the_process_has_no_descriptor_of_a_connection", || {
        let mut rig = Rig::new(one_slot(), Disabled::default());
        let (listener, address) = server("127.0.0.1:0");
        let (silent, _keep) = deaf();
        let before = open_descriptors();
        for token in 0..100 {
            let address = if token % 2 == 0 { nobody() } else { OutboundAddress::Unix("/none".into()) };
            rig.driver.connect(&address, token);
            assert!(rig.outcome(token).is_err());
            assert_eq!(open_descriptors(), before);
        }
        rig.driver.connect(&silent, 100);
        rig.linger(Duration::from_millis(5));
        assert_eq!((open_descriptors(), rig.driver.open()), (before, 1), "not while it is being connected");
        rig.driver.cancel_connect(100);
        rig.until("its end", |rig| rig.connected.contains_key(&100));
        let (id, theirs) = rig.reach(&listener, &address, 101);
        assert_eq!(open_descriptors(), before + 1, "theirs, but not ours");
        drop(theirs);
        rig.close(id);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_process_out_of_descriptors_is_an_outcome() {
    alone("uring::tests::connecting::a_process_out_of_descriptors_is_an_outcome", || {
        let mut rig = Rig::new(one_slot(), Disabled::default());
        let (listener, address) = server("127.0.0.1:0");
        let lowest_free = tempfile::tempfile().expect("a file").as_raw_fd();
        let before = read(Resource::Nofile).expect("readable");
        set_soft(Resource::Nofile, lowest_free as u64).expect("lower");
        for token in 0..3 {
            rig.driver.connect(&address, token);
            assert_eq!(rig.outcome(token), Err(libc::EMFILE));
            rig.nothing_is_left();
        }
        // One is enough, however many connections there are.
        set_soft(Resource::Nofile, lowest_free as u64 + 1).expect("higher");
        rig.driver.connect(&address, 3);
        assert!(rig.outcome(3).is_ok());
        set_soft(Resource::Nofile, before.soft).expect("as it was");
        drop(listener);
    });
}

/// A driver whose connects are at all stages, and what keeps them there.
fn at_all_stages(address: &OutboundAddress, silent: &OutboundAddress, unix: &OutboundAddress) -> Rig {
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.connect(silent, 0);
    rig.driver.connect(unix, 1);
    rig.driver.connect(address, 2);
    rig.driver.connect(silent, 3);
    rig.turn(Some(Duration::ZERO));
    rig.driver.cancel_connect(3);
    rig.turn(Some(Duration::ZERO));
    rig.turn(Some(Duration::ZERO));
    rig.driver.connect(silent, 4);
    rig.driver.connect(address, 5);
    rig.driver.turn(rig.start.elapsed(), Some(Duration::ZERO)).expect("usable");
    rig.driver.connect(address, 6);
    rig.driver.connect(&OutboundAddress::Unix(PathBuf::new()), 7);
    rig
}

#[test]
fn a_driver_dropped_with_connects_in_flight_leaves_nothing() {
    alone("uring::tests::connecting::a_driver_dropped_with_connects_in_flight_leaves_nothing", || {
        let (listener, address) = server("127.0.0.1:0");
        let (silent, _keep) = deaf();
        let (unix, _keep_unix) = deaf_unix();
        let before = open_descriptors();
        for round in 0..30 {
            let (address, silent, unix) = (address.clone(), silent.clone(), unix.clone());
            let start = Instant::now();
            if round % 3 < 2 {
                drop(at_all_stages(&address, &silent, &unix));
            } else {
                let left = std::thread::spawn(move || at_all_stages(&address, &silent, &unix));
                drop(left.join().expect("no panic"));
            }
            assert!(start.elapsed() < Duration::from_millis(900), "it was no long goodbye");
            assert_eq!(open_descriptors(), before, "round {round}");
            // Memory that was given back is used by somebody else now; the kernel must not write to it.
            let canary: Vec<Vec<u8>> = (0..64).map(|_| vec![0xa5; 256]).collect();
            let (mut theirs, _) = listener.accept().expect("one had come");
            assert!(read_to_end(&mut theirs).is_empty(), "what was connected is closed");
            assert!(canary.iter().flatten().all(|&byte| byte == 0xa5));
        }
    });
}

#[test]
fn a_driver_says_goodbye_to_its_connects() {
    let (listener, address) = server("127.0.0.1:0");
    let (silent, _keep) = deaf();
    let (unix, _keep_unix) = deaf_unix();
    let mut rig = at_all_stages(&address, &silent, &unix);
    assert!(rig.driver.say_goodbye(), "everything ended in time");
    rig.nothing_is_left();
    drop(listener);
}

#[test]
fn a_stale_connect_is_nobodys() {
    let (listener, address) = server("127.0.0.1:0");
    let mut rig = Rig::new(one_slot(), Disabled::default());
    let (one, _theirs) = rig.reach(&listener, &address, 1);
    rig.close(one);
    let (two, theirs) = rig.reach(&listener, &address, 2);
    // By the rules it cannot come; this is the second net.
    rig.driver.reaped.push_back((user_data(Operation::Connect, one), -libc::ECONNREFUSED, 0));
    assert!(rig.driver.next_event().is_none());
    assert_eq!(rig.driver.stats().stale, 1);
    exchange(&mut rig, two, theirs);
}
