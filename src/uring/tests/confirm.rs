//! Rule: a peer that leaves right behind its bytes is found to have left, although the kernel may not say so.
//!
//! Not here: ends that the kernel tells of (`idle`, `slots`). Invariant: see `tests`.

use socket2::{Domain, SockRef, Socket, Type};

use super::*;

/// Turns that wait for as long as they like, until the condition holds.
fn sleep_until(rig: &mut Rig, reached: impl Fn(&Rig) -> bool) {
    let start = Instant::now();
    while !reached(rig) {
        assert!(start.elapsed() < PATIENCE, "nothing wakes it");
        rig.turn(Some(PATIENCE));
    }
}

fn confirmed(rig: &Rig) -> u64 {
    rig.driver.stats().receives_confirmed
}

#[test]
fn a_receive_that_brought_bytes_and_was_followed_by_silence_is_armed_anew_once() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, stream) = rig.client(address);
    for round in 1..=3 {
        client.write_all(b"hello").expect("somebody reads");
        rig.until("its bytes", |rig| rig.bytes_of(stream).len() == 5 * round);
        sleep_until(&mut rig, |rig| confirmed(rig) == round as u64);
        rig.linger(4 * QUIET);
        assert_eq!(confirmed(&rig), round as u64, "no silence is looked into twice");
    }
    // It still hears the end, which the kernel tells of.
    drop(client);
    rig.until("its end", |rig| rig.ended.contains_key(&stream));
}

#[test]
fn who_was_sent_something_since_is_not_looked_after() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, stream) = rig.client(address);
    for round in 1..=3 {
        client.write_all(b"hello").expect("somebody reads");
        rig.until("its bytes", |rig| rig.bytes_of(stream).len() == 5 * round);
        rig.driver.send(stream, b"yes".to_vec()).expect("open");
        rig.linger(4 * QUIET);
    }
    assert_eq!((confirmed(&rig), rig.sent.len()), (0, 3));
}

#[test]
fn a_receive_that_was_stopped_meanwhile_stays_so() {
    let (mut rig, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut client, stream) = rig.client(address);
    client.write_all(b"hello").expect("somebody reads");
    rig.until("its bytes", |rig| rig.bytes_of(stream) == b"hello");
    // In the turn in which it is looked after, too.
    sleep_until(&mut rig, |rig| rig.driver.doubted.is_empty());
    rig.driver.read(stream, false);
    rig.linger(QUIET);
    client.write_all(b"more").expect("room");
    rig.linger(4 * QUIET);
    assert_eq!(rig.bytes_of(stream), b"hello");
    rig.driver.read(stream, true);
    rig.until("the rest", |rig| rig.bytes_of(stream) == b"hellomore");
}

/// Without looking, one in some thousand stays: the times are what luck brings, so only many tries say something.
#[test]
fn whoever_resets_behind_its_bytes_is_found_to_be_gone() {
    const CLIENTS: usize = 8_000;
    let settings = DriverSettings { descriptors: 512, accepts: 32, ..DriverSettings::default() };
    let mut rig = Rig::new(settings, Disabled::default());
    // A backlog that is full costs its client a second.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(4096).expect("bound");
    let address = listener.local_addr().expect("bound").as_socket().expect("of the internet");
    rig.driver.listen(&[listener.as_raw_fd()]);
    let thread = std::thread::spawn(move || {
        let mut luck = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..CLIENTS {
            // Faster than they are accepted, they would wait in line, a second each.
            std::thread::sleep(Duration::from_micros(50));
            let mut client = connect(address);
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket");
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            client.write_all(b"a line\n").expect("room");
            (0..luck >> 53).for_each(|_| std::hint::spin_loop());
        }
    });
    let turn = |rig: &mut Rig| {
        rig.turn(Some(Duration::from_millis(20)));
        for (id, _) in std::mem::take(&mut rig.ended) {
            rig.driver.close(id);
        }
    };
    while !thread.is_finished() {
        turn(&mut rig);
    }
    thread.join().expect("no panic");
    let last = Instant::now();
    while rig.driver.open() > 0 || last.elapsed() < QUIET {
        assert!(last.elapsed() < PATIENCE, "{} of {CLIENTS} are never found to be gone", rig.driver.open());
        turn(&mut rig);
    }
    // Those that were reset before they were accepted do not come.
    assert!(rig.accepted.len() > CLIENTS / 10, "{}", rig.accepted.len());
}
