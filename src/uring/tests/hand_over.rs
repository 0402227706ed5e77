//! A connection that is handed over is served by exactly one core, and none of its bytes is lost.

use super::*;

/// A driver that does not listen, and where its ring is.
fn other(settings: DriverSettings) -> (Rig, i32) {
    let rig = Rig::new(settings, Disabled::default());
    let ring = rig.driver.bell_address().expect("MSG_RING works here");
    (rig, ring)
}

#[test]
fn the_other_core_serves_it_from_its_first_byte_to_its_end() {
    let (mut here, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut there, ring) = other(small());
    let mut client = connect(address);
    client.write_all(b"said before").expect("the backlog has room");
    here.until("a connection", |rig| !rig.accepted.is_empty());
    let (stream, ..) = here.accepted[0];
    here.driver.hand_over(stream, ring, 3);
    here.until("it has left", |rig| rig.closed == [stream]);
    there.until("it has come", |rig| rig.accepted.len() == 1);
    let (moved, listener, peer) = there.accepted[0];
    assert_eq!((listener, peer), (3, None));
    client.write_all(b" and after").expect("somebody reads");
    there.until("all bytes", |rig| rig.bytes_of(moved) == b"said before and after");
    assert!(here.received.is_empty() && here.driver.stats().hand_overs_refused == 0);
    assert!(there.driver.send(moved, b"heard".to_vec()).is_ok());
    there.until("an answer", |rig| rig.sent.len() == 1);
    there.close(moved);
    // Held open by nobody else: the client sees the end.
    assert_eq!(read_to_end(&mut client), b"heard");
}

#[test]
fn a_core_without_room_leaves_it_where_it_is() {
    let (mut here, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut there, ring) = other(DriverSettings { descriptors: 1, ..small() });
    for turn in 0..2 {
        let mut client = connect(address);
        client.write_all(b"hello").expect("the backlog has room");
        here.until("a connection", |rig| rig.accepted.len() == turn + 1);
        let (stream, ..) = here.accepted[turn];
        here.driver.hand_over(stream, ring, 0);
        if turn == 0 {
            here.until("it has left", |rig| rig.closed.contains(&stream));
            there.until("it has come", |rig| rig.accepted.len() == 1);
            std::mem::forget(client);
        } else {
            // The target takes a descriptor in its own time; the answer comes when it has turned.
            let start = Instant::now();
            while here.kept.is_empty() {
                assert!(start.elapsed() < PATIENCE, "it is kept");
                there.turn(Some(Duration::from_millis(1)));
                here.turn(Some(Duration::from_millis(1)));
            }
            assert_eq!(here.kept, [(stream, 0)]);
            here.until("it is read here", |rig| rig.bytes_of(stream) == b"hello");
            assert_eq!((here.driver.stats().hand_overs_refused, there.accepted.len()), (1, 1));
        }
    }
}

#[test]
fn a_ring_that_is_gone_takes_nothing() {
    let (mut here, _listener, address) = Rig::listening(small(), Disabled::default());
    let (there, ring) = other(small());
    drop(there);
    let (mut client, stream) = {
        let client = connect(address);
        here.until("a connection", |rig| !rig.accepted.is_empty());
        (client, here.accepted[0].0)
    };
    here.driver.hand_over(stream, ring, 0);
    here.until("it is kept", |rig| rig.kept == [(stream, 0)]);
    client.write_all(b"hello").expect("somebody reads");
    here.until("it is read here", |rig| rig.bytes_of(stream) == b"hello");
}

#[test]
fn a_driver_can_end_while_connections_are_on_their_way() {
    let (mut here, _listener, address) = Rig::listening(small(), Disabled::default());
    let (mut there, ring) = other(small());
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(connect(address));
        here.until("a connection", |rig| rig.accepted.len() == number + 1);
        let (stream, ..) = here.accepted[number];
        here.driver.hand_over(stream, ring, 0);
        if number % 2 == 0 {
            here.driver.close(stream);
        }
    }
    here.driver.turn(here.start.elapsed(), Some(Duration::ZERO)).expect("the ring is usable");
    drop(here);
    there.linger(QUIET);
    drop(there);
    for client in &mut clients {
        assert_eq!(read_to_end(client), b"", "whoever has it, it ends with them");
    }
}
