//! A classic BPF machine for tests: what the kernel does with a program, in a page of Rust.
//!
//! Not a filter for use: it knows the instructions that `steer` writes and panics on every other.
//! Invariant: a load outside the packet ends the program with 0, as in the kernel.

use libc::sock_filter;

/// A received SYN as the program sees it: everything from the network header on.
pub(super) struct Packet<'a>(pub &'a [u8]);

impl Packet<'_> {
    /// Only loads relative to the network header find anything: the packet's own start lies past the end of a SYN.
    fn bytes<const COUNT: usize>(&self, offset: u32) -> Option<[u8; COUNT]> {
        let from = offset.checked_sub(libc::SKF_NET_OFF as u32)? as usize;
        self.0.get(from..from + COUNT)?.try_into().ok()
    }
}

/// Runs the program; `accumulator` is what A holds at its start (0 in the kernel).
pub(super) fn run(program: &[sock_filter], packet: &Packet<'_>, accumulator: u32) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (accumulator, 0_u32, [0_u32; 16], 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        // The numbers are those of <linux/bpf_common.h>, written out so that a slip in `steer` is not repeated here.
        match code {
            0x00 => a = k,
            0x20 | 0x40 => {
                let offset = if code == 0x40 { k.wrapping_add(x) } else { k };
                match packet.bytes(offset) {
                    Some(word) => a = u32::from_be_bytes(word),
                    None => return 0,
                }
            }
            0x30 => match packet.bytes::<1>(k) {
                Some([byte]) => a = u32::from(byte),
                None => return 0,
            },
            0xb1 => match packet.bytes::<1>(k) {
                Some([byte]) => x = 4 * u32::from(byte & 0xf),
                None => return 0,
            },
            0x02 => memory[k as usize] = a,
            0x61 => x = memory[k as usize],
            0x07 => x = a,
            0xac => a ^= x,
            0x24 => a = a.wrapping_mul(k),
            0x74 => a >>= k,
            0x94 => a %= k,
            0x05 => at += k as usize,
            0x15 => at += usize::from(if a == k { jt } else { jf }),
            0x35 => at += usize::from(if a >= k { jt } else { jf }),
            0x06 => return k,
            other => panic!("instruction {other:#x} is not one that steering writes"),
        }
    }
}
