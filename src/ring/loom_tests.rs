//! Every interleaving of the mesh's own protocols, as loom sees them: first use, framing, sleeping, room, leases,
//! revival.
//!
//! The code under test is the real one, down to the slots' bytes; only `rtrb` is replaced (see `stand_in`). A bell is a
//! loom `Notify`, so a lost wake-up is a deadlock, which loom reports.
//!
//! Run: `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --no-default-features --lib ring:: --release`

use super::audited::HandOver;
use super::doorbell::{Bell, Doorbell, announce};
use super::sync::{Arc, AtomicBool, AtomicU32, Ordering};
use super::*;
use loom::sync::Notify;
use loom::thread;

type Header = u64;

const CORE: PortId = PortId(0);
const CONTROL: PortId = PortId(1);

/// Wakes the one thread that may sleep in a test.
struct Chime(Arc<Notify>);

impl Bell for Chime {
    fn ring(&mut self, _: PortId) {
        self.0.notify();
    }
}

fn explore(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(test);
}

fn two_ports() -> (Mesh<Header>, Port<Header>, Port<Header>) {
    let (mesh, mut ports) = Mesh::with_ring_slots(1, 16);
    let control = ports.pop().expect("two ports");
    let core = ports.pop().expect("two ports");
    (mesh, core, control)
}

/// Drains until `wanted` parcels came, sleeping whenever the port lets it.
fn receive(port: &mut Port<Header>, wanted: usize, bell: &Notify) -> Vec<(u64, Vec<u8>)> {
    let mut got = Vec::new();
    while got.len() < wanted {
        port.drain(8, |_, header, payload| got.push((header.to_native(), payload.to_vec())));
        assert!(port.bells_due().is_empty(), "the sender does not sleep");
        if got.len() < wanted && port.try_sleep() {
            bell.wait();
            port.wake();
        }
    }
    got
}

#[test]
fn doorbell_loses_no_wake_up() {
    loom::model(|| {
        let shared = Arc::new((Doorbell::new(), AtomicBool::new(false), Notify::new()));
        let caller = Arc::clone(&shared);
        let caller = thread::spawn(move || {
            let (doorbell, published, bell) = &*caller;
            published.store(true, Ordering::Release);
            announce();
            if doorbell.answers() {
                bell.notify();
            }
        });
        let (doorbell, published, bell) = &*shared;
        doorbell.lie_down();
        if published.load(Ordering::Acquire) {
            doorbell.get_up();
        } else {
            // loom's `wait` may also end for no reason, as a driver's may; the second time it does not.
            while !published.load(Ordering::Acquire) {
                bell.wait();
            }
        }
        caller.join().expect("the caller ends");
    });
}

#[test]
fn doorbell_is_rung_once_by_two_callers() {
    explore(3, || {
        let shared = Arc::new((Doorbell::new(), AtomicU32::new(0)));
        shared.0.lie_down();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    announce();
                    if shared.0.answers() {
                        shared.1.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().expect("a caller ends"));
        assert_eq!(shared.1.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_hand_over_gives_each_box_to_exactly_one_taker() {
    explore(3, || {
        // loom's `Arc` makes it report a box that is never dropped.
        let (cell, taken) = (Arc::new(HandOver::<Arc<u32>>::empty()), Arc::new(AtomicU32::new(0)));
        let giver = {
            let (cell, taken) = (Arc::clone(&cell), Arc::clone(&taken));
            thread::spawn(move || {
                for value in [1, 10] {
                    if let Some(untaken) = cell.put(Box::new(Arc::new(value))) {
                        taken.fetch_add(**untaken, Ordering::Relaxed);
                    }
                }
            })
        };
        if let Some(value) = cell.take() {
            taken.fetch_add(**value, Ordering::Relaxed);
        }
        giver.join().expect("the giver ends");
        let rest = cell.take().map_or(0, |value| **value);
        assert_eq!(taken.load(Ordering::Relaxed) + rest, 11);
    });
}

#[test]
fn a_first_parcel_reaches_a_port_that_goes_to_sleep() {
    explore(3, || {
        let (_mesh, mut core, mut control) = two_ports();
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let sender = thread::spawn(move || {
            core.try_send(CONTROL, &7, b"seven").expect("room");
            core.ring_bells(&mut chime);
            core
        });
        assert_eq!(receive(&mut control, 1, &bell), [(7, b"seven".to_vec())]);
        drop(sender.join());
    });
}

#[test]
fn parcels_cross_the_end_of_the_ring_in_order() {
    explore(2, || {
        let (_mesh, mut core, mut control) = two_ports();
        // Fourteen of sixteen slots are used up, so that the next parcel of three pads, wraps and overwrites read
        // slots.
        for length in [2000, 1500] {
            core.try_send(CONTROL, &0, &vec![1; length]).expect("room");
        }
        assert_eq!((core.bells_due(), control.drain(8, |_, _, _| ())), (PortSet::EMPTY, 2));
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let sender = thread::spawn(move || {
            core.try_send(CONTROL, &1, &[2; 700]).expect("room");
            core.ring_bells(&mut chime);
            core.try_send(CONTROL, &2, b"end").expect("room");
            core.ring_bells(&mut chime);
            core
        });
        assert_eq!(receive(&mut control, 2, &bell), [(1, vec![2; 700]), (2, b"end".to_vec())]);
        drop(sender.join());
    });
}

#[test]
fn a_starved_sender_that_sleeps_is_woken_when_there_is_room() {
    explore(2, || {
        let (_mesh, mut core, mut control) = two_ports();
        for length in [1000, 1000, 2000] {
            core.try_send(CONTROL, &1, &vec![0; length]).expect("room");
        }
        let _ = core.bells_due();
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let reader = thread::spawn(move || {
            // One parcel at a time; what is refused needs the room of both.
            for _ in 0..2 {
                control.drain(1, |_, _, _| ());
                control.ring_bells(&mut chime);
            }
            control
        });
        while let Err(refused) = core.try_send(CONTROL, &2, &[0; 2000]) {
            assert_eq!(refused, Refused::Full);
            let _ = core.bells_due();
            if core.try_sleep() {
                bell.wait();
                core.wake();
            }
        }
        drop(reader.join());
    });
}

#[test]
fn a_lease_is_read_and_comes_home() {
    explore(2, || {
        let (_mesh, mut core, mut control) = two_ports();
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let sender = thread::spawn(move || {
            let sent = core.try_send(CONTROL, &1, &[9; 5000]).expect("room");
            assert!(sent.lent);
            core.ring_bells(&mut chime);
            core
        });
        assert_eq!(receive(&mut control, 1, &bell), [(1, vec![9; 5000])]);
        let mut core = sender.join().expect("the sender ends");
        let _ = core.bells_due();
        let buffer = core.halves().0.buffer(5000);
        assert_eq!(buffer.capacity(), 8192, "the buffer that came home, not a new one");
    });
}

#[test]
fn a_sleeper_is_told_of_a_death() {
    explore(3, || {
        let (mut mesh, core, mut control) = two_ports();
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let boot = thread::spawn(move || {
            drop(core);
            mesh.retire(CORE, &mut chime);
            mesh
        });
        let mut lost = 0;
        while lost == 0 {
            control.observe(|_, _| lost += 1);
            if lost == 0 && control.try_sleep() {
                bell.wait();
                control.wake();
            }
        }
        assert_eq!(control.try_send(CORE, &1, b""), Err(Refused::Gone));
        drop(boot.join());
    });
}

#[test]
fn a_peer_never_reads_a_dead_generation_after_it_observed_the_new_one() {
    explore(2, || {
        let (mut mesh, mut core, mut control) = two_ports();
        core.try_send(CONTROL, &1, b"old").expect("room");
        drop(core);
        let bell = Arc::new(Notify::new());
        let mut chime = Chime(Arc::clone(&bell));
        let boot = thread::spawn(move || {
            let mut core = mesh.revive(CORE, &mut chime);
            core.try_send(CONTROL, &2, b"new").expect("room");
            core.ring_bells(&mut chime);
            (mesh, core)
        });
        let (mut headers, mut lost) = (Vec::new(), 0);
        while headers.last() != Some(&2) {
            control.observe(|peer, Lost { succeeded, .. }| {
                assert!(peer == CORE && succeeded);
                lost += 1;
            });
            control.drain(8, |_, header, _| {
                let header = header.to_native();
                assert!(header == 2 || lost == 0, "a parcel of a dead port was shown after its death was observed");
                headers.push(header);
            });
            assert!(control.bells_due().is_empty(), "the new port does not sleep");
            if headers.last() != Some(&2) && control.try_sleep() {
                bell.wait();
                control.wake();
            }
        }
        assert!(headers == [2] || headers == [1, 2], "{headers:?}");
        let discarded = control.counts().discarded_unread;
        let (mesh, core) = boot.join().expect("boot ends");
        control.observe(|_, _| lost += 1);
        let discarded_by_successor = core.counts().discarded_sent;
        assert_eq!(headers.len() as u64 + discarded + discarded_by_successor, 2, "every parcel is counted once");
        assert_eq!(lost, 1);
        drop(mesh);
    });
}
