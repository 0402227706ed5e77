//! The mesh on real threads and real rings: order, framing, refusal, leases, batches, death.
//!
//! Interleavings are loom's business (see `loom_tests`), allocations `tests/ring_allocations.rs`'s.

use super::audited::Parcel;
use super::doorbell::Bell;
use super::lease::Spares;
use super::spsc::{Consumer, Producer, ring};
use super::*;
use crate::ids::{CoreId, Ticket};
use crate::limits::{BODY_BYTES_MAX, RING_LEASED_BYTES_MAX, RING_LEASES_MAX};
use proptest::prelude::*;
use std::collections::VecDeque;

/// As the real one in `server`: small integers, the payload apart.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Copy, PartialEq, Debug)]
enum Header {
    Call { ticket: u64, connection: u64, shard: u16 },
    Reply { ticket: u64, failed: bool },
    Notice { topic: u32 },
}

/// A header with parts outside itself.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Debug)]
struct Named {
    name: String,
    parts: Vec<String>,
}

const HERE: PortId = PortId(0);
const THERE: PortId = PortId(1);
const CONTROL: PortId = PortId(2);

struct Rung(Vec<PortId>);

impl Bell for Rung {
    fn ring(&mut self, to: PortId) {
        self.0.push(to);
    }
}

fn read<H: Parcel>(archived: &H::Archived) -> H
where
    H::Archived: rkyv::Deserialize<H, rkyv::rancor::Strategy<(), rkyv::rancor::Failure>>,
{
    rkyv::api::low::deserialize::<H, rkyv::rancor::Failure>(archived).expect("an archive reads back")
}

fn call(ticket: u64) -> Header {
    Header::Call { ticket, connection: ticket ^ 0xffff_0000, shard: (ticket % 1024) as u16 }
}

fn mesh() -> (Mesh<Header>, Port<Header>, Port<Header>, Port<Header>) {
    let (mesh, ports) = Mesh::with_ring_slots(2, 16);
    let [here, there, control] = <[Port<Header>; 3]>::try_from(ports).ok().expect("three ports");
    (mesh, here, there, control)
}

fn received(port: &mut Port<Header>) -> Vec<(PortId, Header, Vec<u8>)> {
    let mut got = Vec::new();
    port.drain(usize::MAX, |from, header, payload| got.push((from, read::<Header>(header), payload.to_vec())));
    got
}

/// Bytes that tell their length and their sender's count.
fn payload(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (seed.wrapping_mul(31).wrapping_add(index * 7) >> 3) as u8).collect()
}

#[test]
fn ports_are_send_and_the_mesh_counts_its_control_port_last() {
    fn is_send<T: Send>(_: &T) {}
    let (mesh, here, _, control) = mesh();
    is_send(&here);
    assert_eq!((here.id(), control.id(), mesh.control()), (CoreId(0).into(), CONTROL, CONTROL));
}

#[test]
fn every_variant_arrives_as_it_was_sent_with_any_payload() {
    let (_mesh, mut here, mut there, _) = mesh();
    let headers = [call(1), Header::Reply { ticket: u64::MAX, failed: true }, Header::Notice { topic: 3 }];
    for length in [0, 1, 200, 224, 225, 256, 257, 1000, 2016, 2017, 2040, 2048, 2049, 100_000] {
        for header in headers {
            let bytes = payload(length as u64, length);
            here.try_send(THERE, &header, &bytes).expect("room");
            assert_eq!(received(&mut there), [(HERE, header, bytes)], "{length} bytes");
        }
    }
    assert_eq!(here.counts().sent, there.counts().received);
}

#[test]
fn a_header_may_have_parts_outside_itself() {
    let (mut producer, mut consumer) = ring::<Named>(16);
    let mut spares = Spares::new();
    for length in [0, 10, 300, 900] {
        for count in [0, 1, 3] {
            let header = Named { name: "n".repeat(length), parts: vec!["p".repeat(60); count] };
            let sent = producer.try_send(&header, &[5; 1500], &mut spares).expect("room");
            assert_eq!(sent.lent, length == 900, "{length} {count}");
            let mut seen = None;
            consumer.drain(1, |header, payload| {
                seen = Some((header.name.as_str().len(), header.parts.len(), payload.len()))
            });
            assert_eq!(seen, Some((length, count, 1500)));
        }
    }
    let outgrown = Named { name: "n".repeat(2048), parts: Vec::new() };
    assert_eq!(producer.try_send(&outgrown, &[], &mut spares), Err(Refused::TooLarge));
}

#[test]
fn a_full_ring_refuses_and_leaves_everything_as_it_was() {
    let (_mesh, mut here, mut there, _) = mesh();
    let mut sent = 0;
    while here.try_send(THERE, &call(sent), &[0; 500]).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, here.try_send(THERE, &call(99), &[0; 500])), (5, Err(Refused::Full)));
    let buffer = vec![1; 500];
    let address = buffer.as_ptr();
    let (refused, buffer) = here.halves().0.try_send_owned(THERE, &call(99), buffer).expect_err("full");
    assert_eq!(
        (refused, buffer.as_ptr(), buffer.len()),
        (Refused::Full, address, 500),
        "the buffer comes back untouched"
    );
    assert_eq!(received(&mut there).len(), 5, "and nothing of it was sent");
    assert!(here.try_send(THERE, &call(99), &[0; 500]).is_ok());
    assert_eq!(here.counts().refused_full, 3);
}

#[test]
fn leases_come_home_and_are_used_again() {
    let (_mesh, mut here, mut there, _) = mesh();
    let first = payload(1, 10_000);
    let address = {
        let mut buffer = here.halves().0.buffer(10_000);
        buffer.extend_from_slice(&first);
        let address = buffer.as_ptr();
        let sent = here.halves().0.try_send_owned(THERE, &call(1), buffer).expect("room");
        assert_eq!(sent, Sent { slots: 1, lent: true });
        address
    };
    there.drain(1, |_, _, bytes| {
        assert_eq!((bytes.as_ptr(), bytes), (address, &first[..]), "read where it was written")
    });
    let _ = here.bells_due();
    let again = here.halves().0.buffer(9_000);
    assert_eq!(again.as_ptr(), address);
}

#[test]
fn more_leases_than_a_ring_may_have_out_are_refused_until_some_return() {
    let (_mesh, mut here, mut there, _) = mesh();
    let (mut lent, mut got) = (0, 0);
    // The slots would be the first limit, if the reader did not read all but the last each time.
    while lent < 3 * RING_LEASES_MAX as u64 {
        match here.try_send(THERE, &call(lent), &[0; 5000]) {
            Ok(sent) => lent += u64::from(sent.lent),
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                got += there.drain(7, |_, _, _| ());
            }
        }
    }
    got += there.drain(usize::MAX, |_, _, _| ());
    assert_eq!(got, 3 * RING_LEASES_MAX);
    let (_mesh, mut here, mut there, _) = mesh();
    for _ in 0..2 {
        let body = Vec::with_capacity(BODY_BYTES_MAX);
        assert!(here.halves().0.try_send_owned(THERE, &call(0), body).is_ok(), "empty, so it goes in a slot");
        let body = vec![0; BODY_BYTES_MAX];
        assert!(here.halves().0.try_send_owned(THERE, &call(0), body).is_ok());
    }
    assert_eq!(here.try_send(THERE, &call(0), &[0; 5000]), Err(Refused::Full), "so many bytes are out");
    assert_eq!(here.try_send(THERE, &call(0), &vec![0; RING_LEASED_BYTES_MAX + 1]), Err(Refused::TooLarge));
    there.drain(usize::MAX, |_, _, _| ());
    assert!(here.try_send(THERE, &call(0), &[0; 5000]).is_ok());
}

#[test]
fn a_panic_while_reading_loses_that_parcel_only_and_its_lease_goes_home() {
    let (_mesh, mut here, mut there, _) = mesh();
    for ticket in 0..3 {
        here.try_send(THERE, &call(ticket), &[ticket as u8; 5000]).expect("room");
    }
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        there.drain(usize::MAX, |_, header, _| assert_ne!(read::<Header>(header), call(1), "on purpose"));
    }));
    assert!(panicked.is_err());
    assert_eq!(received(&mut there), [(HERE, call(2), vec![2; 5000])]);
    let _ = here.bells_due();
    let addresses: Vec<_> = (0..3).map(|_| here.halves().0.buffer(5000).capacity()).collect();
    assert_eq!(addresses, [8192; 3]);
}

#[test]
fn leases_outlive_either_end_and_are_dropped_once() {
    for reader_first in [true, false] {
        let (mesh, mut here, mut there, control) = mesh();
        for _ in 0..5 {
            here.try_send(THERE, &call(0), &[0; 5000]).expect("room");
        }
        there.drain(2, |_, _, _| ());
        if reader_first {
            drop((there, here))
        } else {
            drop((here, there))
        }
        drop((mesh, control));
    }
}

#[test]
fn one_bell_per_sleep_and_none_while_awake() {
    let (_mesh, mut here, mut there, mut control) = mesh();
    here.try_send(THERE, &call(0), &[]).expect("room");
    here.try_send(CONTROL, &call(0), &[]).expect("room");
    assert_eq!(here.bells_due(), PortSet::EMPTY, "both are awake");
    assert!(!there.try_sleep(), "a parcel waits");
    there.drain(usize::MAX, |_, _, _| ());
    let _ = there.bells_due();
    assert!(there.try_sleep());
    for _ in 0..10 {
        here.try_send(THERE, &call(0), &[]).expect("room");
    }
    let mut rung = Rung(Vec::new());
    here.ring_bells(&mut rung);
    here.try_send(THERE, &call(0), &[]).expect("room");
    here.ring_bells(&mut rung);
    assert_eq!(rung.0, [THERE], "ten parcels, one bell; and none again before the next sleep");
    assert_eq!((here.counts().bells_rung, here.counts().bells_saved), (1, 3));
    control.drain(usize::MAX, |_, _, _| ());
    let _ = control.bells_due();
    assert!(control.try_sleep() && !there.try_sleep());
}

#[test]
fn a_starved_sender_is_told_when_there_is_room_and_not_before() {
    let (_mesh, mut here, mut there, _) = mesh();
    while here.try_send(THERE, &call(0), &[0; 2000]).is_ok() {}
    let _ = here.bells_due();
    assert!(here.try_sleep());
    assert_eq!(there.bells_due(), PortSet::EMPTY, "nothing was read");
    there.drain(1, |_, _, _| ());
    assert_eq!(there.bells_due().into_iter().collect::<Vec<_>>(), [HERE]);
    here.wake();
    assert!(here.try_send(THERE, &call(0), &[0; 2000]).is_ok());
    there.drain(1, |_, _, _| ());
    assert_eq!(there.bells_due(), PortSet::EMPTY, "nobody waits for room any more");
}

#[test]
fn replies_can_be_sent_while_reading() {
    let (_mesh, mut here, mut there, _) = mesh();
    for ticket in 0..3 {
        here.try_send(THERE, &call(ticket), b"ping").expect("room");
    }
    let (outlet, inlet) = there.halves();
    inlet.drain(usize::MAX, |from, header, payload| {
        let Header::Call { ticket, .. } = read::<Header>(header) else { panic!("calls were sent") };
        outlet.try_send(from, &Header::Reply { ticket, failed: false }, payload).expect("room");
    });
    let tickets: Vec<_> = received(&mut here).into_iter().map(|(_, header, _)| header).collect();
    assert_eq!(tickets, [0, 1, 2].map(|ticket| Header::Reply { ticket, failed: false }));
}

#[test]
fn the_budget_is_per_peer() {
    let (_mesh, mut here, mut there, mut control) = mesh();
    for _ in 0..6 {
        here.try_send(CONTROL, &call(0), &[]).expect("room");
    }
    there.try_send(CONTROL, &call(1), &[]).expect("room");
    let mut from = Vec::new();
    control.drain(2, |peer, _, _| from.push(peer));
    assert_eq!(from, [HERE, HERE, THERE]);
}

#[test]
fn a_revived_port_starts_afresh_and_every_parcel_is_accounted_for() {
    let (mut mesh, mut here, mut there, mut control) = mesh();
    let mut tickets = Tickets::new(8);
    for parcel in 0..4 {
        let ticket = tickets.reserve(THERE, parcel).expect("a ticket");
        here.try_send(THERE, &call(u64::from(ticket.index)), &[0; 600]).expect("room");
        there.try_send(HERE, &call(parcel), &[]).expect("room");
    }
    control.try_send(THERE, &call(0), &[7; 5000]).expect("room");
    there.try_send(CONTROL, &call(9), &[]).expect("room");
    there.drain(1, |_, _, _| ());
    here.drain(1, |_, _, _| ());
    let _ = here.bells_due();
    here.drain(3, |_, _, _| ());
    let _ = (here.bells_due(), control.bells_due());
    there.try_send(HERE, &call(5), &[]).expect("room");
    drop(there);
    assert!(!here.try_sleep(), "one more was sent before the end");
    let mut rung = Rung(Vec::new());
    let mut there = mesh.revive(THERE, &mut rung);

    let mut lost = Vec::new();
    here.observe(|peer, loss| {
        lost.push((peer, loss));
        tickets.claim_towards(peer, |_: Ticket, _| ());
    });
    assert_eq!(lost, [(THERE, Lost { sent: 3, unread: 1, succeeded: true })]);
    assert_eq!(tickets.open(), 0);
    here.observe(|_, _| panic!("told twice"));

    here.try_send(THERE, &call(21), b"new").expect("room");
    there.try_send(HERE, &call(22), b"new").expect("room");
    assert_eq!(received(&mut there), [(HERE, call(21), b"new".to_vec())]);
    assert_eq!(received(&mut here), [(THERE, call(22), b"new".to_vec())]);

    // Control never took the ring its peer died behind: its end is discarded when it looks.
    assert_eq!(control.try_send(THERE, &call(0), &[]).map(|_| ()), Ok(()), "not observed: goes into the dead ring");
    there.try_send(CONTROL, &call(23), &[]).expect("room");
    assert_eq!(received(&mut control), [], "the successor is not heard before its predecessor's death");
    assert!(!control.bells_due().contains(HERE) && !control.try_sleep(), "but nobody sleeps over it");
    control.observe(|peer, loss| assert_eq!((peer, loss.sent, loss.succeeded), (THERE, 1, true)));
    assert_eq!(received(&mut control), [(THERE, call(23), vec![])]);
    assert_eq!(control.counts().discarded_unread + there.counts().discarded_sent, 1);
    assert_eq!(here.counts().discarded_sent + here.counts().discarded_unread, 4);
}

#[test]
fn a_retired_port_is_gone_and_sleepers_are_told() {
    let (mut mesh, mut here, there, mut control) = mesh();
    here.try_send(THERE, &call(0), &[]).expect("room");
    let _ = here.bells_due();
    assert!(here.try_sleep() && control.try_sleep());
    let mut rung = Rung(Vec::new());
    mesh.retire(THERE, &mut rung);
    assert_eq!(rung.0, [HERE, CONTROL]);
    assert!(!here.try_sleep(), "not before the death was observed");
    here.observe(|peer, loss| assert_eq!((peer, loss), (THERE, Lost { sent: 1, unread: 0, succeeded: false })));
    assert_eq!(here.try_send(THERE, &call(0), &[]), Err(Refused::Gone));
    assert_eq!(control.try_send(THERE, &call(0), &[]), Err(Refused::Gone), "nor is a ring made that nobody will read");
    // The thread that hung comes back: what it sends is not read by anyone.
    let mut zombie = there;
    assert_eq!(zombie.try_send(HERE, &call(0), &[]), Err(Refused::Gone));
    let mut there = mesh.revive(THERE, &mut rung);
    here.observe(|_, loss| assert!(loss.succeeded));
    here.try_send(THERE, &call(1), &[]).expect("room");
    assert_eq!(received(&mut there).len(), 1);
    assert_eq!(received(&mut zombie).len(), 0);
}

/// Sends what is due to `peer` and reads from it, until `count` parcels went each way; checks order and bytes.
fn exchange(mut port: Port<Header>, peer: PortId, count: u64, mut seed: u64) -> PortCounts {
    let (mut sent, mut got) = (0, 0);
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let length_of = |roll: u64| match roll % 64 {
        0 => 2_100 + roll as usize / 64 % 20_000,
        1..=8 => roll as usize / 64 % 2_100,
        _ => roll as usize / 64 % 300,
    };
    let bytes = payload(3, 32_000);
    let mut length = length_of(random());
    while sent < count || got < count {
        for _ in 0..32 {
            // The first bytes of a payload depend on its count, so that a parcel cannot pass for another.
            let start = sent as usize % 1000;
            if sent == count
                || port
                    .try_send(
                        peer,
                        &Header::Call { ticket: sent, connection: length as u64, shard: 9 },
                        &bytes[start..start + length],
                    )
                    .is_err()
            {
                break;
            }
            sent += 1;
            length = length_of(random());
        }
        let drained = port.drain(1 + random() as usize % 64, |from, header, payload| {
            let Header::Call { ticket, connection, shard: 9 } = read::<Header>(header) else { panic!("{header:?}") };
            assert_eq!((from, ticket, connection), (peer, got, payload.len() as u64), "out of order, lost or doubled");
            let start = got as usize % 1000;
            assert!(payload == &bytes[start..start + payload.len()], "parcel {got} is damaged");
            got += 1;
        });
        let _ = port.bells_due();
        if drained == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(port.drain(1, |_, _, _| ()), 0, "more came than was sent");
    port.counts()
}

impl std::fmt::Debug for ArchivedHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        read::<Header>(self).fmt(f)
    }
}

fn stress(ring_slots: usize, count: u64) {
    let (_mesh, mut ports) = Mesh::with_ring_slots(1, ring_slots);
    let (there, here) = (ports.pop().expect("a port"), ports.pop().expect("a port"));
    let other = std::thread::spawn(move || exchange(there, PortId(0), count, 0x1234_5678_9abc_def1));
    let mine = exchange(here, PortId(1), count, 0xfeed_beef_dead_cafe);
    let theirs = other.join().expect("the other side is content");
    assert_eq!((mine.sent, mine.received, theirs.sent, theirs.received), (count, count, count, count));
    assert!(mine.lent > count / 200 && theirs.lent > count / 200);
}

#[test]
fn two_threads_exchange_parcels_of_all_sizes_through_tiny_rings() {
    stress(16, 100_000);
    stress(19, 100_000);
}

#[test]
fn two_threads_exchange_parcels_of_all_sizes() {
    stress(1024, 400_000);
}

#[test]
#[ignore = "minutes; run with --release -- --ignored"]
fn two_threads_exchange_millions_of_parcels() {
    stress(16, 4_000_000);
    stress(1024, 10_000_000);
}

/// One step of a ring's life.
#[derive(Clone, Debug)]
enum Step {
    Send { length: usize },
    Drain { budget: usize },
}

proptest! {
    #[test]
    fn a_ring_is_a_queue_whatever_the_order_of_things(
        ring_slots in 16usize..40,
        steps in prop::collection::vec(
            prop_oneof![
                3 => prop_oneof![0usize..600, 0usize..2300, 2000usize..6000].prop_map(|length| Step::Send { length }),
                1 => (0usize..20).prop_map(|budget| Step::Drain { budget }),
            ],
            1..120,
        ),
    ) {
        let (mut producer, mut consumer): (Producer<Header>, Consumer<Header>) = ring(ring_slots);
        let (mut spares, mut model, mut count) = (Spares::new(), VecDeque::new(), 0);
        for step in steps {
            match step {
                Step::Send { length } => {
                    let bytes = payload(count, length);
                    match producer.try_send(&call(count), &bytes, &mut spares) {
                        Ok(_) => model.push_back((call(count), bytes)),
                        Err(refused) => {
                            prop_assert_eq!(refused, Refused::Full);
                            prop_assert!(!model.is_empty(), "an empty ring refused");
                        }
                    }
                    count += 1;
                }
                Step::Drain { budget } => {
                    let expected = budget.min(model.len());
                    let shown = consumer.drain(budget, |header, bytes| {
                        let (header_sent, bytes_sent) = model.pop_front().expect("more was read than was sent");
                        assert!(read::<Header>(header) == header_sent && bytes == bytes_sent);
                    });
                    prop_assert_eq!(shown, expected);
                }
            }
            prop_assert_eq!(producer.unread(), model.len() as u64);
        }
    }

    #[test]
    fn a_port_set_is_a_set(members in prop::collection::btree_set(0u16..65, 0..20)) {
        let mut set = PortSet::EMPTY;
        members.iter().for_each(|&member| set.insert(PortId(member)));
        prop_assert_eq!(set.len(), members.len());
        prop_assert!(set.into_iter().map(|port| port.0).eq(members));
    }
}
