//! An allocator that counts: what an entry costs is what the process holds more of.
//!
//! Not here: the kernel's view (`stage::resident_kib`). Invariant: bytes asked for, less bytes given back, over all
//! threads.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicI64 = AtomicI64::new(0);
/// Bytes a thread counts by itself before all threads hear of it: the counter must not be what is measured.
const LOCAL: i64 = 64 * 1024;

thread_local! {
    static UNTOLD: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    let told = UNTOLD.try_with(|untold| {
        untold.set(untold.get() + bytes);
        if untold.get().abs() >= LOCAL {
            HELD.fetch_add(untold.replace(0), Ordering::Relaxed);
        }
    });
    if told.is_err() {
        HELD.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Bytes held now, but for 64 KiB a thread.
pub fn held() -> i64 {
    HELD.load(Ordering::Relaxed)
}

// SAFETY: unsafe because a global allocator is a promise; sound because every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
