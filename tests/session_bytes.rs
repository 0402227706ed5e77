//! What a legacy session takes of the heap, in bytes, held against `bench/session_bytes.txt`: counted by the allocator
//! and so exact, on any machine.
//!
//! Not here: connections and the kernel's part (`scripts/sessions`). With SESSION_BYTES_WRITE=1 it writes the baseline
//! instead. Invariant: this file holds one test, because its allocator counts for the whole process.
#![cfg(feature = "host")]
#![allow(unsafe_code)]

#[allow(dead_code, reason = "nothing is called here")]
mod echo;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use corelane::server::connection::Wire;

use echo::{INITIALIZE, post, roomy_core};

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicU64 = AtomicU64::new(0);

// SAFETY: unsafe because a global allocator is a promise; sound because `System` keeps it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A power of two, so that tables that double have as much spare room before as after.
const SESSIONS: u64 = 4096;
const TOLERANCE_PERCENT: u64 = 3;
const BASELINE: &str = "bench/session_bytes.txt";

#[test]
fn a_session_takes_no_more_bytes_than_it_did() {
    let (mut machine, initialize) = (roomy_core(Wire::Http, 3 * SESSIONS as usize), post("", INITIALIZE));
    let mut open = |count: u64| {
        for _ in 0..count {
            machine.heard().clear();
            machine.say(&initialize);
            let answer = String::from_utf8_lossy(machine.heard()).into_owned();
            assert!(answer.contains("Mcp-Session-Id: "), "each opens a session: {answer}");
        }
        HELD.load(Ordering::Relaxed)
    };
    let before = open(SESSIONS);
    let each = (open(SESSIONS) - before) / SESSIONS;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(BASELINE);
    if std::env::var_os("SESSION_BYTES_WRITE").is_some() {
        let text = format!(
            "# Bytes of the heap for a legacy session; made by tests/session_bytes.rs.\nlegacy-session {each}\n"
        );
        return std::fs::write(&path, text).expect("it can be written");
    }
    let text = std::fs::read_to_string(&path).expect("there is a baseline");
    let known =
        text.lines().find_map(|line| line.strip_prefix("legacy-session ")?.parse::<u64>().ok()).expect("a number");
    let percent = 100.0 * (each as f64 - known as f64) / known as f64;
    println!("legacy-session: {each} bytes, was {known}, {percent:+.2} %");
    assert!(
        each * 100 <= known * (100 + TOLERANCE_PERCENT),
        "a session takes {each} bytes, {known} before; if that is worth it, write {BASELINE} anew with \
         SESSION_BYTES_WRITE=1"
    );
}
