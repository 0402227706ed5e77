//! Steering in the running kernel: connections from chosen source ports arrive where the Rust twin of the program says.
//!
//! Not here: the program's arithmetic for every table (`sys::steer` runs it in an interpreter).
//! Invariant: every connection made here is accepted on exactly one listener, the predicted one.
#![cfg(feature = "host")]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use corelane::ids::CoreId;
use corelane::shard::range::BoundaryTable;
use corelane::sys::socket::{ListenError, ListenGroup, listen_group};
use corelane::sys::steer::{Multiplier, SteeringProgram, detach, shard_of};
use socket2::{Domain, Socket, Type};

const BACKLOG: u32 = 128;
const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// The group's listeners, for accepting without waiting.
fn listeners(group: &ListenGroup) -> Vec<TcpListener> {
    let clone = |fd: &std::os::fd::OwnedFd| {
        let listener = TcpListener::from(fd.try_clone().expect("dup"));
        listener.set_nonblocking(true).expect("fcntl");
        listener
    };
    group.fds.iter().map(clone).collect()
}

/// Connects from a source port of our choice; none if somebody has it.
fn connect_from(source: SocketAddr, target: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).expect("socket");
    // So that a port in TIME_WAIT from an earlier test can be chosen again.
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&source.into()).ok()?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return None,
        Err(error) => panic!("{source} -> {target}: {error}"),
    }
    // Reset at close: thousands of ports in TIME_WAIT would be left behind otherwise.
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    Some(socket.into())
}

/// Waits until one of the listeners has a connection, and says which, and from where.
fn accept(listeners: &[TcpListener]) -> (usize, SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        for (index, listener) in listeners.iter().enumerate() {
            if let Ok((_, peer)) = listener.accept() {
                return (index, peer);
            }
        }
        std::thread::yield_now();
    }
    panic!("no listener got the connection");
}

#[test]
fn connections_from_chosen_ports_land_on_the_predicted_core() {
    let seeds = [0x9e37_79b9, 0x0bad_cafe, 1];
    let splits = [(16, 1), (16, 2), (16, 3), (64, 4), (100, 7), (128, 6), (1000, 13), (1024, 64)];
    for loopback in LOOPBACKS {
        for (round, (shards, cores)) in splits.into_iter().enumerate() {
            let multiplier = Multiplier::from_entropy(seeds[round % seeds.len()]);
            let table = BoundaryTable::new(shards, cores).expect("cores <= shards");
            let group = listen_group(loopback.parse().expect("valid"), cores, BACKLOG).expect("a free port");
            group.steer(&SteeringProgram::build(&table, multiplier)).expect("attached");
            let listeners = listeners(&group);
            let (mut tried, mut reached) = (0, vec![false; cores]);
            for port in (20_000 + 300 * round as u16..).take(200) {
                let source = SocketAddr::new(group.local_addr.ip(), port);
                let Some(client) = connect_from(source, group.local_addr) else { continue };
                let predicted = table.owner_of(shard_of(group.local_addr, source, multiplier, shards));
                let (index, peer) = accept(&listeners);
                assert_eq!(peer, source);
                assert_eq!(index, predicted.index(), "S={shards} N={cores}: {source} -> {}", group.local_addr);
                assert_eq!(client.local_addr().expect("bound"), source);
                reached[index] = true;
                tried += 1;
            }
            assert!(tried >= 150, "only {tried} of 200 source ports were free");
            let silent = reached.iter().filter(|reached| !**reached).count();
            assert!(silent * 4 <= cores, "{silent} of {cores} cores got no connection at all");
        }
    }
}

#[test]
fn a_wildcard_listener_is_steered_by_the_address_the_client_chose() {
    let multiplier = Multiplier::from_entropy(77);
    let table = BoundaryTable::new(64, 5).expect("valid");
    let group = listen_group("0.0.0.0:0".parse().expect("valid"), 5, BACKLOG).expect("a free port");
    group.steer(&SteeringProgram::build(&table, multiplier)).expect("attached");
    let listeners = listeners(&group);
    for last in 1..60 {
        let target = SocketAddr::from(([127, 0, 0, last], group.local_addr.port()));
        let client = TcpStream::connect(target).expect("all of 127/8 is ours");
        let predicted =
            table.owner_of(shard_of(target, client.local_addr().expect("bound"), multiplier, table.shards()));
        assert_eq!(accept(&listeners).0, predicted.index());
    }
}

#[test]
fn an_avoided_core_gets_nothing_until_it_is_back() {
    let multiplier = Multiplier::from_entropy(5);
    let table = BoundaryTable::new(16, 2).expect("valid");
    let group = listen_group("127.0.0.1:0".parse().expect("valid"), 2, BACKLOG).expect("a free port");
    let listeners = listeners(&group);
    let landed = |program: &SteeringProgram| {
        group.steer(program).expect("attached");
        let mut counts = [0; 2];
        for _ in 0..60 {
            let _client = TcpStream::connect(group.local_addr).expect("somebody listens");
            counts[accept(&listeners).0] += 1;
        }
        counts
    };
    assert_eq!(landed(&SteeringProgram::build_avoiding(&table, multiplier, &[CoreId(0)])), [0, 60]);
    assert_eq!(landed(&SteeringProgram::build_avoiding(&table, multiplier, &[CoreId(1)])), [60, 0]);
    let both = landed(&SteeringProgram::build(&table, multiplier));
    assert!(both[0] > 0 && both[1] > 0, "{both:?}");
}

#[test]
fn without_the_program_the_kernel_still_spreads() {
    let group = listen_group("127.0.0.1:0".parse().expect("valid"), 2, BACKLOG).expect("a free port");
    let table = BoundaryTable::new(16, 2).expect("valid");
    group.steer(&SteeringProgram::build_avoiding(&table, Multiplier::from_entropy(1), &[CoreId(1)])).expect("attached");
    detach(group.fds[0].as_fd()).expect("was attached");
    let listeners = listeners(&group);
    let mut counts = [0; 2];
    for _ in 0..200 {
        let _client = TcpStream::connect(group.local_addr).expect("somebody listens");
        counts[accept(&listeners).0] += 1;
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_second_group_on_the_port_fails_with_advice() {
    for loopback in LOOPBACKS {
        let group = listen_group(loopback.parse().expect("valid"), 3, BACKLOG).expect("a free port");
        let error = listen_group(group.local_addr, 3, BACKLOG).expect_err("the first has it");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("listen elsewhere"), "{error}");
        // The attempt left nothing behind: every connection still reaches the first group.
        let listeners = listeners(&group);
        for _ in 0..20 {
            let _client = TcpStream::connect(group.local_addr).expect("somebody listens");
            accept(&listeners);
        }
    }
}
