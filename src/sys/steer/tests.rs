//! What the steering program computes, run in the interpreter; `tests/steering.rs` runs it in the kernel.
//!
//! Not here: sockets.
//! Invariant: whatever Rust predicts, the program returns.

use super::interpreter::{Packet, run};
use super::*;
use crate::limits::SHARDS_MAX;
use std::net::{Ipv4Addr, Ipv6Addr};

const MULTIPLIER: Multiplier = Multiplier::from_entropy(0x9e37_79b9);

/// The IPv4 SYN from `peer` to `local`, with so many words of options.
fn ipv4_syn(local: SocketAddr, peer: SocketAddr, option_words: u8) -> Vec<u8> {
    let (IpAddr::V4(to), IpAddr::V4(from)) = (local.ip().to_canonical(), peer.ip().to_canonical()) else {
        panic!("both addresses are IPv4");
    };
    let mut packet = vec![0x40 | (5 + option_words), 0, 0, 60, 0x12, 0x34, 0x40, 0, 64, 6, 0xab, 0xcd];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(std::iter::repeat_n(0x94, 4 * usize::from(option_words)));
    packet.extend(tcp_header(local, peer));
    packet
}

fn ipv6_syn(local: SocketAddr, peer: SocketAddr, next_header: u8) -> Vec<u8> {
    let (IpAddr::V6(to), IpAddr::V6(from)) = (local.ip(), peer.ip()) else { panic!("both addresses are IPv6") };
    let mut packet = vec![0x60, 0x0f, 0xff, 0xff, 0, 40, next_header, 64];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(tcp_header(local, peer));
    packet
}

fn tcp_header(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut header = Vec::from(peer.port().to_be_bytes());
    header.extend(local.port().to_be_bytes());
    header.extend([0x5a; 16]);
    header
}

/// A small fixed sequence of varied numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn ipv4(&mut self) -> SocketAddr {
        let bits = self.next();
        (Ipv4Addr::from_bits((bits >> 32) as u32), bits as u16).into()
    }

    fn ipv6(&mut self) -> SocketAddr {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        (Ipv6Addr::from_bits(bits), self.next() as u16).into()
    }
}

#[test]
fn every_shard_of_every_table_reaches_its_owner() {
    for shards in 1..=SHARDS_MAX {
        for cores in 1..=CORES_MAX.min(shards) {
            let table = BoundaryTable::new(shards, cores).expect("cores <= shards");
            let program = SteeringProgram::build(&table, MULTIPLIER);
            let tree = &program.instructions()[program.instructions().len() - (2 * cores - 1)..];
            for (core, range) in table.iter() {
                for shard in range.iter() {
                    let listener = run(tree, &Packet(&[]), u32::from(shard.0));
                    assert_eq!(listener, u32::from(core.0), "S={shards} N={cores} {shard}");
                }
            }
        }
    }
}

#[test]
fn the_program_agrees_with_its_prediction_on_packets() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for shards in (1..=SHARDS_MAX).step_by(7).chain([2, 16, 128, 256, 512, 1000, 1024]) {
        for cores in [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 48, 63, 64] {
            let Ok(table) = BoundaryTable::new(shards, cores) else { continue };
            let multiplier = Multiplier::from_entropy(numbers.next() as u32);
            let program = SteeringProgram::build(&table, multiplier);
            for round in 0..8 {
                let (local, peer) = (numbers.ipv4(), numbers.ipv4());
                let expected = table.owner_of(shard_of(local, peer, multiplier, shards));
                let packet = ipv4_syn(local, peer, round % 11);
                let listener = run(program.instructions(), &Packet(&packet), 0);
                assert_eq!(listener, u32::from(expected.0), "S={shards} N={cores} {peer} -> {local}");

                let (local, peer) = (numbers.ipv6(), numbers.ipv6());
                let expected = table.owner_of(shard_of(local, peer, multiplier, shards));
                let packet = ipv6_syn(local, peer, 6);
                let listener = run(program.instructions(), &Packet(&packet), 0);
                assert_eq!(listener, u32::from(expected.0), "S={shards} N={cores} {peer} -> {local}");
            }
        }
    }
}

#[test]
fn an_ipv4_peer_of_a_dual_stack_socket_is_hashed_as_ipv4() {
    let plain: [SocketAddr; 2] =
        ["192.0.2.7:8080".parse().expect("valid"), "198.51.100.9:40000".parse().expect("valid")];
    let mapped = plain.map(|address| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V6(_) => address,
    });
    assert_eq!(shard_of(plain[0], plain[1], MULTIPLIER, 1000), shard_of(mapped[0], mapped[1], MULTIPLIER, 1000));
}

#[test]
fn what_cannot_be_hashed_is_left_to_the_kernel() {
    let table = BoundaryTable::new(16, 4).expect("valid");
    let program = SteeringProgram::build(&table, MULTIPLIER);
    let mut numbers = Numbers(7);
    let hop_by_hop = ipv6_syn(numbers.ipv6(), numbers.ipv6(), 0);
    assert_eq!(run(program.instructions(), &Packet(&hop_by_hop), 0), UNSTEERED);
    assert_eq!(run(program.instructions(), &Packet(&[0x00; 64]), 0), UNSTEERED);
    assert_eq!(run(program.instructions(), &Packet(&[0x45, 0]), 0), 0, "a load past the end gives 0, as in the kernel");
}

#[test]
fn an_avoided_core_gets_nothing_and_the_next_takes_over() {
    let table = BoundaryTable::new(16, 4).expect("valid");
    let all = SteeringProgram::build(&table, MULTIPLIER);
    let without = SteeringProgram::build_avoiding(&table, MULTIPLIER, &[CoreId(3), CoreId(0)]);
    let mut numbers = Numbers(99);
    for _ in 0..1000 {
        let packet = ipv4_syn(numbers.ipv4(), numbers.ipv4(), 0);
        let (before, after) =
            (run(all.instructions(), &Packet(&packet), 0), run(without.instructions(), &Packet(&packet), 0));
        assert_eq!(after, if before == 3 || before == 0 { 1 } else { before });
    }
    let nobody = [CoreId(0), CoreId(1), CoreId(2), CoreId(3)];
    let unchanged = SteeringProgram::build_avoiding(&table, MULTIPLIER, &nobody);
    assert_eq!(unchanged.instructions().len(), all.instructions().len());
}

#[test]
fn consecutive_ports_spread_evenly() {
    let local: SocketAddr = "127.0.0.1:7801".parse().expect("valid");
    for (seed, shards) in [(1, 16), (0x9e37_79b9, 16), (0xdead_beef, 128), (3, 100)] {
        let mut counts = vec![0_u32; shards];
        let peers = 32_768..61_000_u16;
        let fair = f64::from(peers.end - peers.start) / shards as f64;
        for port in peers {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            counts[shard_of(local, peer, Multiplier::from_entropy(seed), shards).index()] += 1;
        }
        for (shard, count) in counts.iter().enumerate() {
            let ratio = f64::from(*count) / fair;
            assert!((0.6..1.4).contains(&ratio), "seed {seed}: shard {shard} of {shards} got {ratio:.2} of its share");
        }
    }
}

#[test]
fn the_largest_program_is_small() {
    let table = BoundaryTable::new(1024, 64).expect("valid");
    let count = SteeringProgram::build(&table, MULTIPLIER).instructions().len();
    assert!(count < 256, "{count} instructions");
}

/// What the running kernel lets a program read of a SYN, and which listener an index means. The program above is
/// written on these facts, so a kernel that differs should fail here first.
mod kernel {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::os::fd::AsFd;

    /// Three listeners on one loopback port, which began to listen in the order given.
    fn three(loopback: &str, listen_order: [usize; 3]) -> [Socket; 3] {
        let mut address: SocketAddr = loopback.parse().expect("valid");
        let sockets = [(); 3].map(|()| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
            socket.bind(&address.into()).expect("free");
            address = socket.local_addr().expect("bound").as_socket().expect("IP");
            socket.set_nonblocking(true).expect("fcntl");
            socket
        });
        for index in listen_order {
            sockets[index].listen(16).expect("bound");
        }
        sockets
    }

    /// The listener that gets a connection under the program.
    fn lands_on(sockets: &[Socket; 3], instructions: Vec<sock_filter>) -> usize {
        attach(sockets[0].as_fd(), &SteeringProgram { instructions }).expect("attached");
        let address = sockets[0].local_addr().expect("bound").as_socket().expect("IP");
        let _client = std::net::TcpStream::connect(address).expect("somebody listens");
        loop {
            if let Some(index) = sockets.iter().position(|socket| socket.accept().is_ok()) {
                return index;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_syn_has_nothing_at_its_own_start_and_all_past_the_network_header() {
        for (loopback, ports_at) in [("127.0.0.1:0", 20), ("[::1]:0", 40)] {
            let sockets = three(loopback, [0, 1, 2]);
            assert_eq!(lands_on(&sockets, vec![give(2)]), 2, "an index is honoured");
            assert_eq!(lands_on(&sockets, vec![load_word(0), give(2)]), 0, "plain offset 0 is past the TCP header");
            assert_eq!(lands_on(&sockets, vec![load_word(NETWORK + ports_at), give(2)]), 2, "the ports can be read");
            let port = u32::from(sockets[0].local_addr().expect("bound").as_socket().expect("IP").port());
            let ours = vec![
                load_word(NETWORK + ports_at),
                instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xffff),
                jump_if_equal(port, 0, 1),
                give(2),
                give(1),
            ];
            assert_eq!(lands_on(&sockets, ours), 2, "the low half is our port");
        }
    }

    #[test]
    fn an_index_counts_listen_calls_not_binds() {
        let sockets = three("127.0.0.1:0", [2, 0, 1]);
        assert_eq!(lands_on(&sockets, vec![give(0)]), 2);
        assert_eq!(lands_on(&sockets, vec![give(1)]), 0);
        assert_eq!(lands_on(&sockets, vec![give(2)]), 1);
    }

    #[test]
    fn an_index_past_the_group_is_left_to_the_kernels_hash() {
        let sockets = three("127.0.0.1:0", [0, 1, 2]);
        let mut reached = [false; 3];
        for _ in 0..100 {
            reached[lands_on(&sockets, vec![give(UNSTEERED)])] = true;
        }
        assert_eq!(reached, [true; 3]);
    }
}
