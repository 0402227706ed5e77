//! Rule: a driver that is dropped leaves nothing: no descriptor, no open connection, no memory in the kernel's hands.
//!
//! Not here: closing single streams (`slots`). Invariant: see `tests`.

use std::io::Write;
use std::os::fd::AsFd;

use super::*;
use crate::sys::eventfd::EventFd;

/// A driver with everything in flight: accepts, receives, a stuck send, a shutdown, an eventfd, a pipe.
struct Busy {
    driver: Driver,
    clients: Vec<TcpStream>,
    _keep: (TcpListener, EventFd, std::io::PipeReader, std::io::PipeWriter),
}

fn busy(disabled: Disabled) -> Busy {
    let (mut rig, listener, address) = Rig::listening(small(), disabled);
    let eventfd = EventFd::for_ring().expect("a descriptor");
    rig.driver.watch(eventfd.as_fd().as_raw_fd());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rig.driver.adopt(reader.as_raw_fd(), writer.as_raw_fd());
    let clients = rig.clients(address, 6);
    rig.driver.send(clients[0].1, pattern(8 << 20)).expect("open");
    rig.driver.shutdown(clients[1].1);
    rig.driver.close(clients[2].1);
    rig.turn(Some(Duration::ZERO));
    (&clients[3].0).write_all(b"on its way").expect("sent");
    rig.driver.send(clients[4].1, pattern(100)).expect("open");
    Busy {
        driver: rig.driver,
        clients: clients.into_iter().map(|(client, _)| client).collect(),
        _keep: (listener, eventfd, reader, writer),
    }
}

#[test]
fn peers_see_the_end_when_the_driver_is_dropped() {
    for disabled in [Disabled::default(), Disabled { ring_descriptor: true, ..Disabled::default() }] {
        let mut busy = busy(disabled);
        let start = Instant::now();
        drop(busy.driver);
        for client in &mut busy.clients {
            read_to_end(client);
        }
        assert!(start.elapsed() < Duration::from_millis(900), "it was no long goodbye");
    }
}

#[test]
fn a_driver_dropped_at_work_does_no_harm_however_often() {
    for _ in 0..60 {
        let busy = busy(Disabled::default());
        drop(busy.driver);
        // Memory that was given back is used by somebody else now; the kernel must not write to it.
        let canary: Vec<Vec<u8>> = (0..8).map(|_| vec![0xa5; 64 * 1024]).collect();
        for mut client in &busy.clients {
            let _: std::io::Result<()> = client.write_all(&[1; 5000]);
        }
        assert!(canary.iter().flatten().all(|&byte| byte == 0xa5));
    }
}

#[test]
fn a_driver_left_by_its_thread_is_closed_by_whoever_joins_it() {
    for _ in 0..20 {
        let thread = std::thread::spawn(|| busy(Disabled::default()));
        let mut busy = thread.join().expect("no panic");
        drop(busy.driver);
        for client in &mut busy.clients {
            read_to_end(client);
        }
    }
}

#[test]
fn the_ring_is_closed_before_its_memory_goes() {
    // Left by its thread, so that the order of the fields is all there is.
    let thread = std::thread::spawn(|| busy(Disabled::default()));
    let mut busy = thread.join().expect("no panic");
    let mut client = busy.clients.remove(5);
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let by_arena = std::sync::Arc::clone(&seen);
    busy.driver.arena.on_drop = Some(Box::new(move || {
        // The peer sees the end only when the ring is closed.
        read_to_end(&mut client);
        by_arena.store(true, std::sync::atomic::Ordering::Relaxed);
    }));
    drop(busy.driver);
    assert!(seen.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn letting_go_ends_what_the_next_ring_needs_and_looks_at_no_connection() {
    let (mut rig, listener, address) = Rig::listening(small(), Disabled::default());
    let eventfd = EventFd::for_ring().expect("a descriptor");
    rig.driver.watch(eventfd.as_fd().as_raw_fd());
    let clients = rig.clients(address, 6);
    rig.turn(Some(Duration::ZERO));
    assert!(rig.driver.accepting.in_flight() > 0 && rig.driver.eventfd_armed);
    rig.driver.let_go();
    // Whoever comes now is the next ring's, and so is whoever writes to the eventfd.
    let mut next = Rig::new(small(), Disabled::default());
    next.driver.listen(&[listener.as_raw_fd()]);
    next.driver.watch(eventfd.as_fd().as_raw_fd());
    let (mut client, stream) = next.client(address);
    client.write_all(b"hello").expect("somebody reads");
    next.until("its bytes", |rig| rig.bytes_of(stream) == b"hello");
    eventfd.write().expect("room");
    next.until("a wake-up", |rig| rig.foreign == 1);
    // A receive that was armed still is: the old ring was not searched for all that there is.
    for (client, stream) in &clients {
        (&*client).write_all(b"still").expect("somebody reads");
        let start = Instant::now();
        while rig.bytes_of(*stream) != b"still" {
            assert!(start.elapsed() < PATIENCE, "its receive was cancelled");
            // Without a wait: it would be by the ring's alarm, which may be gone as well.
            rig.turn(Some(Duration::ZERO));
        }
    }
    // As `boot` closes it: on another thread, which waits for nothing.
    std::thread::spawn(move || drop(rig.driver)).join().expect("no panic");
}

/// Open descriptors of the process that other tests do not have: rings.
fn rings() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("it is Linux");
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains("io_uring"))
        .count()
}

#[test]
fn nothing_is_left_open_by_fifty_drivers() {
    alone("uring::tests::leaving::nothing_is_left_open_by_fifty_drivers", || {
        let before = open_descriptors();
        for round in 0..50 {
            let mut busy = busy(Disabled::default());
            drop(busy.driver);
            assert_eq!(rings(), 0, "round {round}");
            for client in &mut busy.clients {
                read_to_end(client);
            }
            drop((busy.clients, busy._keep));
            assert_eq!(open_descriptors(), before, "round {round}");
        }
    });
}
