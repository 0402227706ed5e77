//! Steering: the classic BPF program by which the kernel gives a new connection to the listener of its core.
//!
//! Not here: making the listeners (`sys::socket`) or deciding whether to steer at all (`boot`; without the program the
//! kernel spreads by a hash of its own, and nothing but the prediction is lost).
//! Invariant: for a connection between two addresses the program's result is the index of
//! `table.owner_of(shard_of(local, peer, ..))`, bit for bit, for every table and multiplier.
//!
//! # What the program may read
//! In a SO_REUSEPORT group of TCP listeners the kernel moves the packet's start past the TCP header before it runs the
//! program. A SYN has no payload, so a plain absolute load, of offset 0 or any other, runs off the end: the program is
//! ended with the result 0 and every connection would go to core 0. Loads relative to the network header
//! (`SKF_NET_OFF`) reach the addresses and, past the IP header, the ports. The tests of this module hold the running
//! kernel to both.
//!
//! # The hash
//! The words of the packet (peer's address, our address, both ports) are folded one after the other: exclusive-or,
//! multiply by an odd number drawn at start, fold the upper half down. With the addresses fixed this maps the ports one
//! to one, and who does not know the multiplier cannot aim at a core.
//!
//! A packet that is neither plain IPv4 nor IPv6 with TCP as its next header (extension headers) yields [`UNSTEERED`],
//! an index past any group, on which the kernel falls back to its own keyed hash.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::sock_filter;

use crate::ids::{CoreId, ShardId};
use crate::limits::CORES_MAX;
use crate::shard::range::BoundaryTable;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

/// The result for a packet the program does not hash: past every listener, so the kernel's own hash decides.
pub const UNSTEERED: u32 = u32::MAX;

/// Most instructions the kernel accepts in one program (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

// One compare less than leaves, and both fit the eight bits of a conditional jump.
const _: () = assert!(2 * CORES_MAX - 1 < 256);

/// The odd number that keys the hash: drawn once per start, fixed in tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multiplier(u32);

impl Multiplier {
    /// A multiplier from 32 random bits. The lowest is set, since only odd numbers lose nothing in a product.
    pub const fn from_entropy(bits: u32) -> Self {
        Self(bits | 1)
    }
}

/// A program ready to be attached to a group of listeners.
#[derive(Clone, Debug)]
pub struct SteeringProgram {
    instructions: Vec<sock_filter>,
}

impl SteeringProgram {
    /// The program that sends every connection to the core that owns its shard; listener `i` belongs to core `i`.
    pub fn build(table: &BoundaryTable, multiplier: Multiplier) -> Self {
        Self::build_avoiding(table, multiplier, &[])
    }

    /// The same, but connections of the cores in `avoided` go to the next core that is not among them. For a core that
    /// no longer comes back from its work: its shards keep their owner, it only gets no new connections.
    ///
    /// If every core is avoided, none is.
    pub fn build_avoiding(table: &BoundaryTable, multiplier: Multiplier, avoided: &[CoreId]) -> Self {
        let cores = table.cores();
        let listener_of = |core: CoreId| {
            (0..cores)
                .map(|step| CoreId(((core.index() + step) % cores) as u16))
                .find(|candidate| !avoided.contains(candidate))
                .unwrap_or(core)
        };
        let leaves: Vec<Leaf> = table
            .iter()
            .map(|(core, range)| Leaf { first: u32::from(range.first().0), listener: u32::from(listener_of(core).0) })
            .collect();

        let ipv4 = hash_ipv4(multiplier);
        let ipv6 = hash_ipv6(multiplier);
        let mut program = vec![
            load_byte(NETWORK),
            shift_right(4),
            jump_if_equal(4, 2, 0),
            jump_if_equal(6, 1 + ipv4.len() as u8 + 1, 0),
            give(UNSTEERED),
        ];
        program.extend(ipv4);
        program.push(jump(ipv6.len() as u32));
        program.extend(ipv6);
        program.extend(choose(table.shards(), &leaves));
        assert!(program.len() <= INSTRUCTIONS_MAX, "a table of {CORES_MAX} cores fits many times over");
        Self { instructions: program }
    }

    /// The instructions, in order.
    pub fn instructions(&self) -> &[sock_filter] {
        &self.instructions
    }
}

/// The shard of the connection between `local` and `peer`: what the program computes, said in Rust.
///
/// IPv4 addresses written as IPv6 (`::ffff:a.b.c.d`) count as IPv4, because that is what their packets are.
pub fn shard_of(local: SocketAddr, peer: SocketAddr, multiplier: Multiplier, shards: usize) -> ShardId {
    let Multiplier(odd) = multiplier;
    let ports = u32::from(peer.port()) << 16 | u32::from(local.port());
    let fold = |hash: u32, word: u32| {
        let product = (hash ^ word).wrapping_mul(odd);
        product ^ product >> FOLD_BITS
    };
    let mut hash = odd;
    for address in [peer.ip(), local.ip()] {
        match address.to_canonical() {
            IpAddr::V4(address) => hash = fold(hash, address.to_bits()),
            IpAddr::V6(address) => {
                for chunk in 0..4 {
                    hash = fold(hash, (address.to_bits() >> (96 - 32 * chunk)) as u32);
                }
            }
        }
    }
    hash = fold(hash, ports);
    hash ^= hash >> FINISH_BITS[0];
    hash = hash.wrapping_mul(FINISH_FACTOR);
    hash ^= hash >> FINISH_BITS[1];
    ShardId((hash % shards as u32) as u16)
}

/// Attaches the program to the SO_REUSEPORT group `listener` belongs to, in place of any other. Needs no privilege.
///
/// # Errors
/// What the kernel says: `EINVAL` for a socket without SO_REUSEPORT, `ENOMEM` past `net.core.optmem_max`.
pub fn attach(listener: BorrowedFd<'_>, program: &SteeringProgram) -> io::Result<()> {
    let filter =
        libc::sock_fprog { len: program.instructions.len() as u16, filter: program.instructions.as_ptr().cast_mut() };
    // SAFETY: needed because no safe wrapper offers this option. `filter` and the `len` instructions it points to
    // outlive the call, the kernel copies both and writes neither, and the size given is that of the struct passed.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the program away again; the kernel's own hash decides from then on.
///
/// # Errors
/// `ENOENT` when none is attached.
pub fn detach(listener: BorrowedFd<'_>) -> io::Result<()> {
    let ignored: libc::c_int = 0;
    // SAFETY: needed because no safe wrapper offers this option. The kernel reads at most the one int given, which
    // outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const ignored).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How far the product's upper bits are folded down after each word.
const FOLD_BITS: u32 = 15;
/// The two folds and the product after the last word, so that the low bits, which choose the shard, depend on every
/// word.
const FINISH_BITS: [u32; 2] = [16, 13];
const FINISH_FACTOR: u32 = 0x85eb_ca6b;

/// The packet's network header, as the offset of a load.
const NETWORK: u32 = libc::SKF_NET_OFF as u32;
/// The one word of scratch memory: the hash, while the index register holds the length of the IPv4 header.
const HASH: u32 = 0;

/// Hashes an IPv4 packet into the accumulator. Options are honoured: the ports follow the header, however long it is.
fn hash_ipv4(multiplier: Multiplier) -> Vec<sock_filter> {
    let mut code = start_hash(multiplier);
    for offset in [12, 16] {
        code.extend([move_to_index(), load_word(NETWORK + offset)]);
        code.extend(fold_in_index(multiplier));
    }
    code.extend([store(HASH), load_header_length(NETWORK), load_word_past_index(NETWORK), load_index(HASH)]);
    code.extend(fold_in_index(multiplier));
    code
}

/// Hashes an IPv6 packet into the accumulator, or ends the program when TCP does not follow the fixed header.
fn hash_ipv6(multiplier: Multiplier) -> Vec<sock_filter> {
    const NEXT_HEADER: u32 = 6;
    const FIXED_HEADER_BYTES: u32 = 40;
    let mut code =
        vec![load_byte(NETWORK + NEXT_HEADER), jump_if_equal(libc::IPPROTO_TCP as u32, 1, 0), give(UNSTEERED)];
    code.extend(start_hash(multiplier));
    for offset in (8..FIXED_HEADER_BYTES).step_by(4).chain([FIXED_HEADER_BYTES]) {
        code.extend([move_to_index(), load_word(NETWORK + offset)]);
        code.extend(fold_in_index(multiplier));
    }
    code
}

fn start_hash(Multiplier(odd): Multiplier) -> Vec<sock_filter> {
    vec![load_constant(odd)]
}

/// Folds the word in the accumulator into the hash in the index register; the new hash is in the accumulator.
fn fold_in_index(Multiplier(odd): Multiplier) -> Vec<sock_filter> {
    let mut code = vec![xor_index(), multiply(odd)];
    code.extend(xor_shifted(FOLD_BITS));
    code
}

fn xor_shifted(bits: u32) -> [sock_filter; 3] {
    [move_to_index(), shift_right(bits), xor_index()]
}

/// From the hash in the accumulator to a shard, and from the shard to its listener: the end of every program.
fn choose(shards: usize, leaves: &[Leaf]) -> Vec<sock_filter> {
    let mut code = Vec::new();
    code.extend(xor_shifted(FINISH_BITS[0]));
    code.push(multiply(FINISH_FACTOR));
    code.extend(xor_shifted(FINISH_BITS[1]));
    code.push(remainder(shards as u32));
    code.extend(compare_tree(leaves));
    code
}

/// One range of the boundary table: its first shard and the listener that takes it.
#[derive(Clone, Copy)]
struct Leaf {
    first: u32,
    listener: u32,
}

/// A binary search, written out, for the last leaf whose first shard is not past the accumulator.
fn compare_tree(leaves: &[Leaf]) -> Vec<sock_filter> {
    if let [leaf] = leaves {
        return vec![give(leaf.listener)];
    }
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let below = compare_tree(low);
    let mut code = vec![jump_if_at_least(high[0].first, below.len() as u8, 0)];
    code.extend(below);
    code.extend(compare_tree(high));
    code
}

// The instructions, by what they do. A is the accumulator, X the index register.

const fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// A = byte at the offset.
const fn load_byte(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset)
}

/// A = big-endian word at the offset.
const fn load_word(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// A = big-endian word at the offset plus X.
const fn load_word_past_index(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, offset)
}

/// X = four times the low nibble of the byte at the offset: the length of an IPv4 header. A is kept.
const fn load_header_length(offset: u32) -> sock_filter {
    instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, offset)
}

/// A = constant.
const fn load_constant(value: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_IMM, value)
}

/// Scratch word = A.
const fn store(word: u32) -> sock_filter {
    instruction(libc::BPF_ST, word)
}

/// X = scratch word.
const fn load_index(word: u32) -> sock_filter {
    instruction(libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM, word)
}

/// X = A.
const fn move_to_index() -> sock_filter {
    instruction(libc::BPF_MISC | libc::BPF_TAX, 0)
}

/// A = A xor X.
const fn xor_index() -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0)
}

/// A = A * constant, modulo 2^32.
const fn multiply(factor: u32) -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, factor)
}

/// A = A >> constant.
const fn shift_right(bits: u32) -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, bits)
}

/// A = A modulo constant, which is not 0.
const fn remainder(divisor: u32) -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, divisor)
}

/// Skips instructions.
const fn jump(skipped: u32) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, skipped)
}

/// Skips `yes` instructions if A is the constant, otherwise `no`.
const fn jump_if_equal(value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: yes, jf: no, k: value }
}

/// Skips `yes` instructions if A is at least the constant, otherwise `no`.
const fn jump_if_at_least(value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, jt: yes, jf: no, k: value }
}

/// Ends the program with a constant result.
const fn give(result: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, result)
}
