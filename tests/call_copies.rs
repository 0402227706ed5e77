//! A call that its own core answers copies its payload once: from where it was received to where it is sent from. What
//! an asynchronous handler says is copied once too, from where it was encoded to where it is sent from.
//!
//! Counted are the bytes that `memcpy` and `memmove` move: this program has its own. What is copied byte by byte they
//! do not see; `tests/instructions.rs` would.
//! Not here: allocations (`tests/call_allocations.rs`).
//! Invariant: this file holds one test, because it counts for the whole process.
#![cfg(all(feature = "host", target_arch = "x86_64"))]
#![allow(unsafe_code)]

mod echo;

use std::arch::asm;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use corelane::server::connection::Wire;
use corelane::server::service::{LocalFuture, Mailbox};
use corelane::{Server, Tool};

use echo::{Machine, converse, legacy_core, modern, modern_post};

static MOVED: AtomicU64 = AtomicU64::new(0);

/// As C's.
///
/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    MOVED.fetch_add(bytes as u64, Ordering::Relaxed);
    // SAFETY: unsafe because it reads and writes by raw pointers; sound because the caller promises that both are good
    // for so many bytes, and the direction flag is clear by the calling convention.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

/// As C's.
///
/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if bytes == 0 || (to as usize).wrapping_sub(from as usize) >= bytes {
        // SAFETY: going up, no byte is written before it was read.
        return unsafe { memcpy(to, from, bytes) };
    }
    MOVED.fetch_add(bytes as u64, Ordering::Relaxed);
    // SAFETY: as above, and going down no byte is written before it was read; the flag is put back.
    unsafe {
        let (last_to, last_from) = (to.add(bytes - 1), from.add(bytes - 1));
        asm!("std", "rep movsb", "cld", inout("rcx") bytes => _, inout("rdi") last_to => _,
             inout("rsi") last_from => _, options(nostack));
    }
    to
}

const PAYLOAD: u64 = 50_000;
/// The machine takes what is said as a receive buffer would, and keeps what was sent.
const BY_THE_MACHINE: f64 = 2.0;
const TIMES: u64 = 100;

/// How often each call moves its payload, but for the machine around the core.
fn copies(calls: impl FnOnce()) -> f64 {
    let before = MOVED.load(Ordering::Relaxed);
    calls();
    let moved = MOVED.load(Ordering::Relaxed) - before;
    moved as f64 / (PAYLOAD * TIMES) as f64 - BY_THE_MACHINE
}

#[test]
fn a_call_copies_its_payload_once() {
    let payload = "x".repeat(PAYLOAD as usize);
    let echo = echo::ECHO.replace(&"x".repeat(83), &payload);
    let line = format!("{}\n", modern(&echo)).into_bytes();
    for (name, (mut core, call)) in [
        ("lines", (echo::core(Wire::Lines), line.clone())),
        ("HTTP, modern", (echo::core(Wire::Http), modern_post(&echo))),
        ("HTTP, legacy", legacy_core(&echo)),
    ] {
        // Buffers grow to what a call needs.
        converse(&mut core, &call, 10);
        let copies = copies(|| converse(&mut core, &call, TIMES));
        assert_eq!(copies.round(), 1.0, "{name}: {copies}");
    }
    for (wire, call) in [(Wire::Lines, line), (Wire::Http, modern_post(&echo))] {
        let mut late = Late::new(wire, &payload);
        late.converse(&call, 10);
        let copies = copies(|| late.converse(&call, TIMES));
        // Once by the encoder, once by the core.
        assert_eq!(copies.round(), 2.0, "answered later, {wire:?}: {copies}");
    }
}

/// A core whose echo says what it has to say when it is asked a second time.
struct Late {
    machine: Machine<corelane::upstream::native::NativeService<()>>,
    futures: Rc<RefCell<Vec<LocalFuture<()>>>>,
    mailbox: Mailbox,
}

impl Late {
    fn new(wire: Wire, payload: &str) -> Late {
        let payload: &'static str = payload.to_owned().leak();
        let server = Server::builder("late", "1")
            .async_tool(Tool::new("echo"), move |_: corelane::NoArguments, _| async move {
                let mut has_waited = false;
                std::future::poll_fn(|_| match std::mem::replace(&mut has_waited, true) {
                    true => Poll::Ready(payload),
                    false => Poll::Pending,
                })
                .await
            })
            .build()
            .expect("a good server");
        let (futures, mailbox) = (Rc::default(), Mailbox::default());
        let host = Rc::new(echo::Nothing { spawned: Rc::clone(&futures) });
        Late { machine: Machine::new(wire, server.per_core(host, mailbox.clone())), futures, mailbox }
    }

    fn converse(&mut self, call: &[u8], times: u64) {
        for _ in 0..times {
            self.machine.heard().clear();
            self.machine.say(call);
            assert!(self.machine.heard().is_empty(), "it is answered later");
            let mut futures = self.futures.take();
            let future = futures.first_mut().expect("the handler waits");
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            while let Some(mail) = self.mailbox.pop() {
                self.machine.mail(mail);
            }
            assert!(self.machine.heard().len() as u64 > PAYLOAD);
        }
    }
}
