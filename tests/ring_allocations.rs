//! In the steady state a parcel costs no allocation, and no buffer is freed by a thread that did not make it.
//!
//! Not here: whether parcels arrive (see `src/ring/tests.rs`).
//! Invariant: this file holds one test, because its allocator counts for the whole process.
#![allow(unsafe_code)]

use corelane::limits::RING_LEASES_MAX;
use corelane::ring::{Mesh, Port, PortId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator; every block carries the number of the thread that made it.
struct Marking;

#[global_allocator]
static ALLOCATOR: Marking = Marking;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FOREIGN_FREES: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

fn thread_number() -> u64 {
    THREAD
        .try_with(|number| {
            if number.get() == 0 {
                number.set(THREADS.fetch_add(1, Ordering::Relaxed));
            }
            number.get()
        })
        .unwrap_or(0)
}

/// The block to ask the system for: the mark's room first, then the caller's block.
fn marked(layout: Layout) -> Option<(Layout, usize)> {
    let (whole, offset) = Layout::new::<u64>().extend(layout).ok()?;
    Some((whole.pad_to_align(), offset))
}

// SAFETY: unsafe because a global allocator is a promise; sound because every block comes from `System`, `offset` bytes
// into one that is so much larger and at least as aligned, and goes back to it as the block it was.
unsafe impl GlobalAlloc for Marking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let Some((whole, offset)) = marked(layout) else { return std::ptr::null_mut() };
        // SAFETY: `whole` is not empty; the mark lies at its start, before the caller's block.
        unsafe {
            let block = System.alloc(whole);
            if block.is_null() {
                return block;
            }
            block.cast::<u64>().write(thread_number());
            block.add(offset)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some((whole, offset)) = marked(layout) else { return };
        // SAFETY: `pointer` came from `alloc` with this layout, so its block begins `offset` bytes earlier, with the
        // mark.
        unsafe {
            let block = pointer.sub(offset);
            if block.cast::<u64>().read() != thread_number() {
                FOREIGN_FREES.fetch_add(1, Ordering::Relaxed);
            }
            System.dealloc(block, whole);
        }
    }
}

#[derive(rkyv::Archive, rkyv::Serialize)]
enum Header {
    Call { ticket: u64, connection: u64 },
    Reply { ticket: u64 },
}

const ROUNDS: u64 = 20_000;
const WARM_UP: u64 = 1_000;
const LARGEST: usize = 20_000;

/// Sends `rounds` parcels of all sizes and reads as many, for as long as the counters are to be looked at.
fn exchange(port: &mut Port<Header>, peer: PortId, rounds: u64, bytes: &[u8]) -> u64 {
    let (mut sent, mut got, mut read) = (0, 0, 0u64);
    while sent < rounds || got < rounds {
        let length = match sent % 16 {
            0 => 2_100 + (sent as usize * 7919) % (LARGEST - 2_100),
            _ => (sent as usize * 31) % 2_000,
        };
        let header =
            if sent % 2 == 0 { Header::Call { ticket: sent, connection: 1 } } else { Header::Reply { ticket: sent } };
        if sent < rounds && port.try_send(peer, &header, &bytes[..length]).is_ok() {
            sent += 1;
        }
        got += port.drain(16, |_, header, payload| {
            let ticket = match header {
                ArchivedHeader::Call { ticket, connection } => ticket.to_native() * connection.to_native(),
                ArchivedHeader::Reply { ticket } => ticket.to_native(),
            };
            read += ticket + payload.len() as u64;
        }) as u64;
        let _ = port.bells_due();
        std::thread::yield_now();
    }
    read
}

#[test]
fn a_parcel_allocates_nothing_and_frees_nothing_of_others() {
    let (_mesh, mut ports) = Mesh::<Header>::new(1);
    let (mut there, mut here) = (ports.pop().expect("a port"), ports.pop().expect("a port"));
    let barrier = Barrier::new(2);
    let allocations = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let bytes = vec![7; LARGEST];
            for round in 0..3 {
                barrier.wait();
                exchange(&mut there, PortId(0), if round == 0 { WARM_UP } else { ROUNDS }, &bytes);
                barrier.wait();
            }
            // Ends, and frees what threads free at their end, after the counters were read.
            barrier.wait();
        });
        let bytes = vec![8; LARGEST];
        let mut allocations = [0; 3];
        let mut foreign_before = 0;
        for (round, count) in allocations.iter_mut().enumerate() {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            // The first round includes the other thread's start, which frees what its maker boxed for it.
            foreign_before = if round == 1 { FOREIGN_FREES.load(Ordering::Relaxed) } else { foreign_before };
            barrier.wait();
            exchange(&mut here, PortId(1), if round == 0 { WARM_UP } else { ROUNDS }, &bytes);
            barrier.wait();
            *count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        }
        let foreign = FOREIGN_FREES.load(Ordering::Relaxed) - foreign_before;
        barrier.wait();
        assert!(here.counts().lent >= ROUNDS / 16, "leases were part of it");
        assert_eq!(foreign, 0, "a buffer was freed on a thread that did not make it");
        other.join().expect("the other side ends");
        allocations
    });
    // How many buffers are out at once is the scheduler's doing, and each depth reached for the first time may take a
    // new buffer: never more than a ring may have out, on each side. Measured: 0 in two runs of three, 30 at most.
    let later = allocations[1] + allocations[2];
    let depth = 2 * RING_LEASES_MAX as u64;
    assert!(later <= depth, "{allocations:?} allocations for {WARM_UP}, {ROUNDS} and {ROUNDS} parcels each way");
    assert!(depth < 4 * ROUNDS / 16 / 20, "far fewer than leases");
    allocates_nothing_in_lockstep();
}

/// Without a scheduler in between the count is exact.
fn allocates_nothing_in_lockstep() {
    let (_mesh, mut ports) = Mesh::<Header>::new(1);
    let (mut there, mut here) = (ports.pop().expect("a port"), ports.pop().expect("a port"));
    let bytes = vec![7; LARGEST];
    let mut before = 0;
    for ticket in 0..WARM_UP + ROUNDS {
        if ticket == WARM_UP {
            before = ALLOCATIONS.load(Ordering::Relaxed);
        }
        let length = (ticket as usize * 7919) % LARGEST;
        here.try_send(PortId(1), &Header::Reply { ticket }, &bytes[..length]).expect("room");
        assert_eq!(there.drain(16, |_, _, payload| assert_eq!(payload.len(), length)), 1);
        let _ = (here.bells_due(), there.bells_due());
    }
    assert_eq!(
        ALLOCATIONS.load(Ordering::Relaxed) - before,
        0,
        "allocations for {ROUNDS} parcels, {} leased",
        here.counts().lent
    );
}
