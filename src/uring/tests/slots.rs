//! Rule: a slot, and memory, go to a next tenant only when nothing of the last one is in flight.
//!
//! Not here: what happens to a buffer being sent (`kernel_memory`). Invariant: see `tests`.

use std::io::Write;

use super::*;
use crate::uring::operation::{Operation, user_data};

fn one_slot() -> DriverSettings {
    DriverSettings { descriptors: 1, accepts: 1, ..small() }
}

#[test]
fn a_next_tenant_never_sees_the_last_ones_bytes() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    let (mut first, one) = rig.client(address);
    rig.turn(Some(Duration::ZERO));
    // The receive is armed, and bytes are on their way, when the close begins.
    first.write_all(b"secret of the first").expect("sent");
    rig.driver.close(one);
    first.write_all(b", and more of it").expect("sent");
    let mut second = connect(address);
    rig.until("the next tenant", |rig| rig.accepted.len() == 2);
    let two = rig.accepted[1].0;
    assert_eq!((two.slot, two.generation), (one.slot, one.generation + 1));
    // The first one's socket is gone or going; what it still sends goes nowhere.
    let _: std::io::Result<()> = first.write_all(b"too late");
    second.write_all(b"mine").expect("sent");
    rig.until("the second one's bytes", |rig| !rig.bytes_of(two).is_empty());
    rig.linger(QUIET);
    assert_eq!(rig.bytes_of(two), b"mine");
    assert!(rig.bytes_of(one).is_empty(), "nothing is handed out after close");
    assert_eq!(rig.order.matches('c').count(), 1);
}

#[test]
fn the_generation_grows_with_every_tenant() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    for generation in 0..5 {
        let (_client, id) = rig.client(address);
        assert_eq!((id.slot, id.generation), (0, generation));
        rig.close(id);
        assert!(rig.driver.send(id, b"late".to_vec()).is_err(), "an old id sends nothing");
        rig.driver.read(id, true);
        rig.driver.close(id);
        rig.driver.shutdown(id);
    }
    assert_eq!(rig.closed.len(), 5);
}

#[test]
fn an_old_id_does_nothing_to_the_next_tenant() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    let (_first, one) = rig.client(address);
    rig.close(one);
    let (mut second, two) = rig.client(address);
    rig.driver.close(one);
    rig.driver.shutdown(one);
    rig.driver.read(one, false);
    assert_eq!(rig.driver.send(one, b"old".to_vec()), Err(b"old".to_vec()));
    second.write_all(b"still here").expect("sent");
    rig.until("bytes", |rig| rig.bytes_of(two) == b"still here");
    assert!(rig.closed == [one]);
}

#[test]
fn a_stale_completion_only_returns_its_buffer() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    let (_first, one) = rig.client(address);
    rig.close(one);
    let (mut second, two) = rig.client(address);
    rig.turn(Some(Duration::ZERO));
    // As if the kernel said these things about the first tenant now. (By the rules it cannot; this is the second net.)
    second.write_all(b"x").expect("sent");
    rig.driver.turn(rig.start.elapsed(), Some(PATIENCE)).expect("usable");
    let real = rig.driver.reaped.pop_front().expect("the second one's byte");
    assert_eq!(real.0, user_data(Operation::Receive, two));
    rig.driver.reaped.push_back((user_data(Operation::Receive, one), real.1, real.2));
    rig.driver.reaped.push_back((user_data(Operation::Receive, one), 0, 0));
    rig.driver.reaped.push_back((user_data(Operation::Send, one), 5, 0));
    rig.driver.reaped.push_back((user_data(Operation::Shutdown, one), 0, 0));
    rig.driver.reaped.push_back((user_data(Operation::Close, one), 0, 0));
    assert!(rig.driver.next_event().is_none(), "no event of an old tenant");
    assert_eq!((rig.driver.leases, rig.driver.stats().stale), (0, 4));
    assert_eq!(rig.driver.open(), 1, "and the tenant of today is still there");
    second.write_all(b"yz").expect("sent");
    rig.until("bytes", |rig| rig.bytes_of(two) == b"yz");
}

#[test]
fn a_close_awaits_the_receive_and_the_send_in_flight() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    let (mut client, id) = rig.client(address);
    rig.turn(Some(Duration::ZERO));
    rig.driver.send(id, pattern(32 << 20)).expect("open");
    rig.linger(QUIET);
    assert!(rig.sent.is_empty(), "the peer reads nothing, so the send is stuck");
    rig.driver.close(id);
    rig.until("the end", |rig| !rig.closed.is_empty());
    assert!(rig.order.ends_with("sc"), "{}", rig.order);
    let (_, buffer, result) = rig.sent.pop().expect("the buffer came back");
    assert_eq!((buffer.len(), result), (32 << 20, Err(libc::ECANCELED)));
    assert_eq!(rig.driver.stats().stale, 0, "nothing of it came after its end");
    let got = read_to_end(&mut client);
    assert!(pattern(32 << 20).starts_with(&got), "what was sent before is a beginning of it");
    rig.linger(QUIET);
    assert_eq!(rig.driver.stats().stale, 0);
}

#[test]
fn a_stream_that_was_shut_down_closes_after_that_has_ended() {
    let (mut rig, _listener, address) = Rig::listening(one_slot(), Disabled::default());
    for _ in 0..20 {
        let (mut client, id) = rig.client(address);
        rig.driver.send(id, b"bye".to_vec()).expect("open");
        rig.driver.shutdown(id);
        rig.driver.shutdown(id);
        assert_eq!(read_to_end_while(&mut rig, &mut client), b"bye");
        rig.driver.shutdown(id);
        rig.close(id);
    }
    assert_eq!(rig.driver.stats().stale, 0);
}

fn read_to_end_while(rig: &mut Rig, client: &mut TcpStream) -> Vec<u8> {
    let mut reader = client.try_clone().expect("a descriptor");
    let thread = std::thread::spawn(move || read_to_end(&mut reader));
    rig.until("the peer's end", |_| thread.is_finished());
    thread.join().expect("no panic")
}
