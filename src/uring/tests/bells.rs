//! Rule: a sleeping core is woken by another core's bell and by its eventfd; a bell that goes nowhere does no harm.
//!
//! Not here: when to ring (`ring`). Invariant: see `tests`.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc;

use super::*;
use crate::sys::eventfd::EventFd;
use crate::uring::Chime;
use crate::uring::operation::{Operation, user_data};

fn watched(disabled: Disabled) -> (Rig, Arc<EventFd>) {
    let mut rig = Rig::new(small(), disabled);
    let eventfd = Arc::new(EventFd::for_ring().expect("a descriptor"));
    rig.driver.watch(eventfd.as_fd().as_raw_fd());
    (rig, eventfd)
}

#[test]
fn a_write_of_another_thread_wakes_a_sleeper_every_time() {
    let (mut rig, eventfd) = watched(Disabled::default());
    let other = Arc::clone(&eventfd);
    let (woken, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        for _ in 0..200 {
            other.write().expect("room");
            wait.recv().expect("the sleeper woke");
        }
    });
    for round in 1..=200 {
        while rig.foreign < round {
            rig.turn(Some(PATIENCE));
            assert!(rig.start.elapsed() < PATIENCE, "round {round}");
        }
        woken.send(()).expect("it waits");
    }
    thread.join().expect("no panic");
    let before = rig.driver.stats().enters;
    rig.turn(Some(QUIET));
    assert_eq!((rig.foreign, rig.driver.stats().enters - before), (200, 1), "and is not woken without");
}

#[test]
fn a_write_before_the_sleep_is_not_missed() {
    let (mut rig, eventfd) = watched(Disabled::default());
    eventfd.write().expect("room");
    eventfd.write().expect("room");
    rig.turn(None);
    assert_eq!(rig.foreign, 1, "two writes are one wake-up");
}

/// No kernel is short of memory at will, so the completion is put where the kernel's would be.
#[test]
fn a_bell_that_found_no_memory_is_rung_again() {
    let mut here = Rig::new(small(), Disabled::default());
    let mut there = Rig::new(small(), Disabled::default());
    let ring = there.driver.bell_address().expect("MSG_RING works here");
    let sent = user_data(Operation::BellSent, ConnectionId { slot: ring as u32, generation: 0 });
    here.driver.reaped.push_back((sent, -libc::ENOMEM, 0));
    here.turn(Some(Duration::ZERO));
    here.turn(Some(Duration::ZERO));
    there.until("a bell", |rig| rig.bells == 1);
    assert_eq!(here.driver.stats().bells_lost, 0);
}

/// What `sys/eventfd.rs` says about rings.
#[test]
fn an_eventfd_wakes_whether_it_blocks_or_not() {
    for eventfd in [EventFd::new(), EventFd::for_ring()] {
        let eventfd = eventfd.expect("a descriptor");
        let mut rig = Rig::new(small(), Disabled::default());
        rig.driver.watch(eventfd.as_fd().as_raw_fd());
        for round in 0..3 {
            rig.turn(Some(Duration::from_millis(5)));
            assert_eq!(rig.foreign, round, "the read waits, and does not end with EAGAIN");
            eventfd.write().expect("room");
            rig.until("a wake-up", |rig| rig.foreign == round + 1);
        }
    }
}

#[test]
fn an_eventfd_that_cannot_be_read_is_an_error_and_not_a_spin() {
    let mut rig = Rig::new(small(), Disabled::default());
    rig.driver.watch(-1);
    rig.driver.turn(Duration::ZERO, Some(PATIENCE)).expect("usable");
    assert!(rig.driver.next_event().is_none());
    // Such a driver could never be woken: it does not go on as if nothing were.
    assert!(rig.driver.turn(Duration::ZERO, Some(Duration::ZERO)).is_err());
}

/// A driver, and what others ring it by.
fn chiming(disabled: Disabled) -> (Rig, Arc<Chime>) {
    let mut rig = Rig::new(small(), disabled);
    let chime = Arc::new(Chime::new().expect("a descriptor"));
    chime.hang_at(&mut rig.driver);
    (rig, chime)
}

/// Two drivers on two threads ring each other to and fro.
fn to_and_fro(disabled: Disabled) {
    const ROUNDS: usize = 300;
    let (tell, told) = mpsc::channel();
    let (tell_back, told_back) = mpsc::channel::<Arc<Chime>>();
    let other = std::thread::spawn(move || {
        let (mut rig, chime) = chiming(disabled);
        tell.send(chime).expect("he listens");
        let back = told_back.recv().expect("he tells");
        for round in 1..=ROUNDS {
            while rig.bells + rig.foreign < round {
                rig.turn(Some(PATIENCE));
                assert!(rig.start.elapsed() < PATIENCE, "round {round}");
            }
            back.ring_by(&mut rig.driver);
        }
        rig.turn(Some(Duration::ZERO));
        assert_eq!(rig.driver.stats().bells_lost, 0);
        // Stays until the last bell was heard.
        told_back.recv().expect_err("he is done");
    });
    let (mut rig, chime) = chiming(disabled);
    let there = told.recv().expect("he tells");
    tell_back.send(chime).expect("he listens");
    for round in 1..=ROUNDS {
        there.ring_by(&mut rig.driver);
        while rig.bells + rig.foreign < round {
            rig.turn(Some(PATIENCE));
            assert!(rig.start.elapsed() < PATIENCE, "round {round}");
        }
    }
    let by_ring = if disabled.msg_ring { 0 } else { ROUNDS };
    assert_eq!(
        (rig.bells, rig.foreign),
        (by_ring, ROUNDS - by_ring),
        "by the ring if there is one, else by the eventfd"
    );
    drop(tell_back);
    other.join().expect("no panic");
    assert_eq!(rig.driver.stats().bells_lost, 0);
}

#[test]
fn two_cores_ring_each_other() {
    to_and_fro(Disabled::default());
}

#[test]
fn two_cores_ring_each_other_without_msg_ring() {
    to_and_fro(Disabled { msg_ring: true, ..Disabled::default() });
}

#[test]
fn a_bell_to_a_ring_that_is_gone_does_no_harm() {
    let (mut rig, eventfd) = watched(Disabled::default());
    let file = tempfile::tempfile().expect("a file");
    // Closed numbers, numbers that are something else now, and no number at all.
    for dead in [i32::MAX - 1, -1, file.as_raw_fd(), eventfd.as_fd().as_raw_fd()] {
        rig.driver.bell(dead);
    }
    let thread = std::thread::spawn(|| Rig::new(small(), Disabled::default()).driver);
    let orphan = thread.join().expect("no panic");
    rig.driver.bell(orphan.bell_address().expect("a ring"));
    rig.until("the answers", |rig| rig.driver.stats().bells_lost >= 4);
    rig.turn(Some(Duration::from_millis(10)));
    assert_eq!((rig.bells, rig.foreign, file.metadata().expect("open").len()), (0, 0, 0));
    eventfd.write().expect("room");
    rig.until("a wake-up", |rig| rig.foreign == 1);
}
