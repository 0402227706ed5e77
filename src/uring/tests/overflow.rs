//! Rule: full queues lose nothing and keep each stream's order; a kernel that is busy is asked again.
//!
//! Not here: receive buffers that run out (`shortage`). Invariant: see `tests`.

use std::io::Write;

use super::*;

fn flood_of_completions(settings: DriverSettings, overflows: bool) {
    const CLIENTS: usize = 80;
    let (mut rig, _listener, address) = Rig::listening(settings, Disabled::default());
    let clients = rig.clients(address, CLIENTS);
    for round in 0..6 {
        for (client, _) in &clients {
            (&*client).write_all(&pattern(20_000)[round..]).expect("sent");
        }
        for (_, id) in &clients {
            rig.driver.send(*id, pattern(5000)).expect("open");
        }
        // Everything completes while nobody looks.
        std::thread::sleep(Duration::from_millis(10));
        rig.until("everything", |rig| {
            rig.sent.len() == CLIENTS && clients.iter().all(|(_, id)| rig.bytes_of(*id).len() == 20_000 - round)
        });
        for (client, id) in &clients {
            assert!(rig.bytes_of(*id) == &pattern(20_000)[round..], "in order");
            let mut answer = vec![0; 5000];
            (&*client).read_exact(&mut answer).expect("sent");
            assert!(answer == pattern(5000));
        }
        assert!(rig.sent.drain(..).all(|(_, buffer, result)| buffer.len() == 5000 && result.is_ok()));
        rig.received.clear();
    }
    assert_eq!(rig.driver.stats().overflows > 0, overflows, "{:?}", rig.driver.stats());
    for (_, id) in &clients {
        rig.driver.close(*id);
    }
    rig.until("all ends", |rig| rig.closed.len() == CLIENTS);
    assert_eq!((rig.driver.stats().stale, rig.driver.leases, rig.driver.open()), (0, 0, 0));
}

#[test]
fn a_tiny_completion_queue_loses_nothing() {
    let settings =
        DriverSettings { entries: 4, cq_entries: 4, descriptors: 100, buffers: 64, buffers_max: 64, ..small() };
    flood_of_completions(settings, true);
}

#[test]
fn a_tiny_submission_queue_loses_nothing() {
    let settings = DriverSettings { entries: 1, cq_entries: 2048, descriptors: 100, ..small() };
    flood_of_completions(settings, false);
}

#[test]
fn queues_of_one_lose_nothing() {
    let settings =
        DriverSettings { entries: 1, cq_entries: 1, descriptors: 100, buffers: 2, buffers_max: 2, ..small() };
    flood_of_completions(settings, true);
}

#[test]
fn events_handed_out_between_submissions_keep_their_order() {
    // The queue is full at nearly every push, so completions are taken out while events are being handed out.
    let settings = DriverSettings { entries: 1, cq_entries: 8, descriptors: 40, ..small() };
    let (mut rig, _listener, address) = Rig::listening(settings, Disabled { recv_limit: true, ..Disabled::default() });
    let clients = rig.clients(address, 30);
    let writers: Vec<_> = clients.iter().map(|(client, _)| write_behind(client, pattern(200_000))).collect();
    let start = Instant::now();
    while !clients.iter().all(|(_, id)| rig.bytes_of(*id).len() == 200_000) {
        assert!(start.elapsed() < PATIENCE, "everything arrives");
        rig.driver.turn(rig.start.elapsed(), Some(Duration::from_millis(20))).expect("usable");
        while let Some(event) = rig.driver.next_event() {
            let stream = match &event {
                Event::Received { stream, .. } => Some(*stream),
                _ => None,
            };
            rig.note(event);
            if let Some(stream) = stream {
                rig.driver.read(stream, false);
                rig.driver.read(stream, true);
            }
        }
    }
    assert!(clients.iter().all(|(_, id)| rig.bytes_of(*id) == pattern(200_000)));
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
}

#[test]
fn what_was_given_back_is_there_for_receives_that_are_submitted_early() {
    // One buffer, and a submission queue that is full while receives are being armed.
    let settings = DriverSettings { entries: 1, buffers: 1, buffers_max: 1, ..small() };
    let (mut rig, _listener, address) =
        Rig::listening(settings, Disabled { recv_multishot: true, ..Disabled::default() });
    let (mut client, id) = rig.client(address);
    rig.linger(Duration::from_millis(5));
    let before = rig.driver.stats().buffer_shortages;
    for _ in 0..20 {
        client.write_all(b"x").expect("sent");
        assert_eq!(rig.turn(Some(PATIENCE)), 1);
        // Fills the queue's one place, so that arming enters the kernel.
        rig.driver.cancel(u64::MAX);
    }
    assert_eq!(rig.bytes_of(id).len(), 20);
    assert_eq!(rig.driver.stats().buffer_shortages, before, "the buffer that was given back was seen");
}

#[test]
fn a_busy_kernel_is_asked_again_and_a_broken_ring_is_an_error() {
    use crate::uring::driver::passing;
    for error in [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN] {
        assert!(passing(&std::io::Error::from_raw_os_error(error)), "{error}");
    }
    for error in [libc::EBADF, libc::EBADR, libc::ENXIO, libc::EEXIST, libc::EINVAL, libc::EFAULT] {
        assert!(!passing(&std::io::Error::from_raw_os_error(error)), "{error}");
    }
    // A single-issuer ring entered by another thread cannot be used, and says so rather than panic or spin.
    let mut driver =
        Driver::new(DriverSettings { entries: 1, ..small() }, features(Disabled::default())).expect("a ring");
    let driver = std::thread::spawn(move || {
        for _ in 0..5 {
            driver.cancel(u64::MAX);
        }
        assert!(driver.turn(Duration::ZERO, Some(Duration::ZERO)).is_err());
        driver
    });
    drop(driver.join().expect("no panic"));
}
