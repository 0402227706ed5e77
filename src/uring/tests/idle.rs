//! Rule: an idle connection holds no receive buffer and wakes nobody; time-outs are kept.
//!
//! Not here: buffers when they are short (`shortage`). Invariant: see `tests`.
#![allow(unsafe_code)]

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::uring::streams::Stream;

#[test]
fn a_streams_entry_is_sixteen_bytes() {
    assert_eq!(size_of::<Stream>(), 16);
}

#[test]
fn idle_connections_hold_no_buffer() {
    let settings = DriverSettings { descriptors: 600, buffers: 2, buffers_max: 2, accepts: 32, ..small() };
    let (mut rig, _listener, address) = Rig::listening(settings, Disabled::default());
    let clients = rig.clients(address, 300);
    rig.linger(Duration::from_millis(30));
    assert_eq!((rig.driver.leases, rig.driver.memory_in_use()), (0, (2, 0)));
    // Two buffers serve three hundred, because the idle ones have none.
    for (client, id) in clients.iter().step_by(50) {
        (&*client).write_all(b"hello").expect("sent");
        rig.until("bytes", |rig| rig.bytes_of(*id) == b"hello");
    }
    assert_eq!(rig.driver.leases, 0);
}

#[test]
fn an_idle_driver_sleeps_in_one_enter_until_something_comes() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (client, id) = rig.client(address);
    let (_other, _) = rig.client(address);
    rig.linger(Duration::from_millis(20));
    let before = rig.driver.stats();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        (&client).write_all(b"wake").expect("sent");
        client
    });
    let start = Instant::now();
    assert_eq!(rig.turn(None), 4);
    assert!(start.elapsed() >= Duration::from_millis(140), "{:?}", start.elapsed());
    let after = rig.driver.stats();
    assert_eq!((after.enters - before.enters, after.sleeps - before.sleeps), (1, 1));
    assert_eq!(rig.bytes_of(id), b"wake");
    drop(thread.join());
}

#[test]
fn waits_end_when_they_should() {
    let (mut rig, _listener, _) = Rig::listening(small(), Disabled::default());
    rig.turn(Some(Duration::ZERO));
    rig.turn(Some(Duration::ZERO));
    assert_eq!(rig.driver.stats().sleeps, 0, "no wait is no wait");
    let start = Instant::now();
    rig.turn(Some(Duration::from_millis(40)));
    assert!((35..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    rig.turn(Some(Duration::from_nanos(1)));
    assert_eq!(rig.driver.stats().sleeps, 2);
}

#[test]
fn one_alarm_ends_all_sleeps_each_in_time() {
    // Singly armed receives need no looking after (`confirm`), which is a time of its own.
    let singly = Disabled { recv_multishot: true, ..Disabled::default() };
    let (mut rig, _listener, address) = Rig::listening(small(), singly);
    let (client, id) = rig.client(address);
    rig.until_rung();
    let minute = Some(Duration::from_secs(60));
    let come_and_go = |rig: &mut Rig| {
        (&client).write_all(b"x").expect("sent");
        while rig.bytes_of(id).is_empty() {
            rig.turn(minute);
        }
        rig.received.clear();
        rig.driver.alarm.rings_at
    };
    let first = come_and_go(&mut rig);
    let others: Vec<_> = (0..10).map(|_| come_and_go(&mut rig)).collect();
    assert!(first.is_some() && others.iter().all(|other| *other == first), "set once: {first:?}, {others:?}");

    // Something is due before it rings.
    let start = Instant::now();
    rig.turn(Some(Duration::from_millis(40)));
    assert!((35..3000).contains(&start.elapsed().as_millis()), "moved: {:?}", start.elapsed());
    rig.until_rung();
    // It rings before anything is due: once, for nothing.
    let start = Instant::now();
    let thread = {
        let client = client.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            (&client).write_all(b"y").expect("sent");
            std::thread::sleep(Duration::from_millis(300));
            (&client).write_all(b"z").expect("sent");
        })
    };
    rig.turn(Some(Duration::from_millis(100)));
    rig.turn(minute);
    assert!(start.elapsed() < Duration::from_millis(280), "{:?}", start.elapsed());
    while !rig.bytes_of(id).ends_with(b"z") {
        rig.turn(minute);
    }
    assert!(start.elapsed() >= Duration::from_millis(295), "{:?}", start.elapsed());
    thread.join().expect("no panic");
}

#[test]
fn sleeps_end_where_the_kernel_takes_no_alarm() {
    let (mut rig, _listener, _) = Rig::listening(small(), Disabled::default());
    rig.driver.rung(-libc::EINVAL);
    for _ in 0..2 {
        let start = Instant::now();
        rig.turn(Some(Duration::from_millis(20)));
        assert!((18..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}

#[test]
fn the_longest_wait_is_long_and_a_signal_ends_it_without_harm() {
    static DONE: AtomicBool = AtomicBool::new(false);
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: needed because the standard library has no signals. The handler does nothing; the mask is empty.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
    }
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    rig.turn(Some(Duration::ZERO));
    // SAFETY: needed to name this thread to the other, which is joined before this one goes on.
    let sleeper = unsafe { libc::pthread_self() };
    let thread = std::thread::spawn(move || {
        while !DONE.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(60));
            // SAFETY: the thread exists: it waits for this one.
            unsafe { libc::pthread_kill(sleeper, libc::SIGUSR2) };
        }
    });
    let start = Instant::now();
    rig.turn(Some(Duration::MAX));
    assert!(start.elapsed() >= Duration::from_millis(30), "a time of the far future is not one of the past");
    assert!(rig.order.is_empty());
    DONE.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
    let (mut client, id) = rig.client(address);
    client.write_all(b"fine").expect("sent");
    rig.until("bytes", |rig| rig.bytes_of(id) == b"fine");
}
