//! In the steady state a call costs no allocation, whatever the size of its payload. Where its own core answers it, the
//! payload is copied once, from where it was received to where it is sent from: there is no room for another copy.
//! Where it crosses to the core that owns its session, and its answer back, the parcels' payloads are used again.
//!
//! Not here: the rings that parcels travel in (`tests/ring_allocations.rs`).
//! Invariant: this file holds one test, because its allocator counts for the whole process.
#![cfg(feature = "host")]
#![allow(unsafe_code)]

mod echo;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use corelane::server::connection::Wire;

use echo::pair::Pair;
use echo::{EchoCore, converse, core, legacy_core, modern, modern_post};

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: unsafe because a global allocator is a promise; sound because `System` keeps it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_call_allocates_nothing() {
    for bytes in [64, 8_000] {
        let echo = echo::ECHO.replace(&"x".repeat(83), &"x".repeat(bytes));
        assert!(echo.len() > bytes, "the payload is in it");
        let line = format!("{}\n", modern(&echo)).into_bytes();
        let calls: [(&str, (EchoCore, Vec<u8>)); 3] = [
            ("lines", (core(Wire::Lines), line)),
            ("HTTP, modern", (core(Wire::Http), modern_post(&echo))),
            ("HTTP, legacy", legacy_core(&echo)),
        ];
        for (name, (mut core, call)) in calls {
            // Buffers grow to what a call needs.
            converse(&mut core, &call, 100);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            converse(&mut core, &call, 1_000);
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(allocations, 0, "{name}, {bytes} bytes, 1,000 calls");
        }
        let (mut pair, call) = Pair::with_session(&echo);
        pair.converse(&call, 100);
        let (before, parcels) = (ALLOCATIONS.load(Ordering::Relaxed), pair.parcels);
        pair.converse(&call, 1_000);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(pair.parcels - parcels, 2_000, "there and back");
        assert_eq!(allocations, 0, "HTTP, a session of the other core, {bytes} bytes, 1,000 calls");
    }
}
