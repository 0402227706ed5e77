//! The mesh: what all ports share, and how a dead one is replaced.
//!
//! Not here: sending and receiving (see `port`).
//!
//! # Protocol
//!
//! *First use.* The sender makes the ring, keeps its producer, leaves the consumer in the pair's [`HandOver`] cell and
//! then sets its own bit in the receiver's `fresh` words. The receiver looks at those two words at every drain, and
//! again before it sleeps; a set bit makes it take the cell. Only these two threads use a pair's cell.
//!
//! *Replacement.* A port's generation is even while it lives. [`Mesh::retire`] makes it odd, [`Mesh::revive`] the next
//! even number; then the mesh's epoch is advanced and every sleeper is woken. A port looks at the epoch once per turn
//! ([`Port::observe`]) and when it has moved lets go of its ends of rings that touch an older generation. A ring
//! carries the generations it was made for, so an end left behind by, or for, a dead port is known for what it is.
//!
//! Invariant: a parcel is only ever shown to the generation it was sent to, by the generation that sent it.

use super::audited::{HandOver, Parcel};
use super::doorbell::{Bell, Doorbell, announce};
use super::peers::{PortId, PortSet};
use super::port::Port;
use super::spsc::Consumer;
use super::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use crate::limits::{PORTS_MAX, RING_SLOTS};

/// The owner of the mesh: makes the ports, and makes them again.
pub struct Mesh<H: Parcel> {
    shared: Arc<Shared<H>>,
}

/// What all ports of a mesh see.
pub(super) struct Shared<H> {
    ports: Box<[Shore]>,
    /// One cell per ordered pair: from * ports + to.
    cells: Box<[HandOver<Link<H>>]>,
    epoch: AtomicU64,
    pub(super) ring_slots: usize,
}

/// One port as the others see it.
struct Shore {
    bell: Doorbell,
    generation: AtomicU32,
    /// Bit p: port p has left a new ring for this port to take.
    fresh: [AtomicU64; 2],
}

/// A ring's reading end, and the generations of the two ports it was made for.
pub(super) struct Link<H> {
    pub(super) consumer: Consumer<H>,
    pub(super) from_generation: u32,
    pub(super) to_generation: u32,
}

impl<H: Parcel> Mesh<H> {
    /// A mesh of `cores` cores and the control thread, and its ports: the cores' in order, then control's.
    /// Each is to be moved into its thread. No ring exists yet.
    ///
    /// *Panics* if there are more cores than a mesh can have.
    pub fn new(cores: usize) -> (Self, Vec<Port<H>>) {
        Self::with_ring_slots(cores, RING_SLOTS)
    }

    /// The same with rings of another size than `RING_SLOTS`.
    pub fn with_ring_slots(cores: usize, ring_slots: usize) -> (Self, Vec<Port<H>>) {
        let ports = cores + 1;
        assert!(ports <= PORTS_MAX, "{cores} cores, but a mesh has at most {}", PORTS_MAX - 1);
        let shared = Arc::new(Shared {
            ports: (0..ports).map(|_| Shore::new()).collect(),
            cells: (0..ports * ports).map(|_| HandOver::empty()).collect(),
            epoch: AtomicU64::new(0),
            ring_slots,
        });
        let ports = (0..ports).map(|index| Port::new(Arc::clone(&shared), PortId::at(index))).collect();
        (Self { shared }, ports)
    }

    /// The control thread's port.
    pub fn control(&self) -> PortId {
        PortId::at(self.shared.ports.len() - 1)
    }

    /// Declares a port dead, with nobody in its place. Its peers learn it from [`Port::observe`]; `bell` wakes the
    /// sleepers.
    pub fn retire(&mut self, port: PortId, bell: &mut impl Bell) {
        let shore = &self.shared.ports[port.index()];
        let generation = shore.generation.load(Ordering::Relaxed);
        if generation.is_multiple_of(2) {
            self.publish(port, generation.wrapping_add(1), bell);
        }
    }

    /// Puts a new port in the place of a dead one, whose thread has ended (or will never touch its port again: if it
    /// does, what it sends is discarded). What was in flight to and from it is discarded and counted by each peer when
    /// it observes.
    #[must_use = "the port belongs in the new thread"]
    pub fn revive(&mut self, port: PortId, bell: &mut impl Bell) -> Port<H> {
        let shore = &self.shared.ports[port.index()];
        let generation = shore.generation.load(Ordering::Relaxed);
        shore.bell.get_up();
        // The dead port may have seen the bits of rings it never took: have the new one look into every cell.
        shore.fresh.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        self.publish(port, generation.wrapping_add(2 - generation % 2), bell);
        Port::new(Arc::clone(&self.shared), port)
    }

    fn publish(&self, changed: PortId, generation: u32, bell: &mut impl Bell) {
        // Relaxed: the epoch's Release publishes it.
        self.shared.ports[changed.index()].generation.store(generation, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        announce();
        for index in (0..self.shared.ports.len()).filter(|&index| index != changed.index()) {
            if self.shared.ports[index].bell.answers() {
                bell.ring(PortId::at(index));
            }
        }
    }
}

impl Shore {
    fn new() -> Self {
        Self { bell: Doorbell::new(), generation: AtomicU32::new(0), fresh: [AtomicU64::new(0), AtomicU64::new(0)] }
    }
}

/// Whether a port of that generation lives.
pub(super) fn lives(generation: u32) -> bool {
    generation.is_multiple_of(2)
}

impl<H> Shared<H> {
    pub(super) fn port_count(&self) -> usize {
        self.ports.len()
    }

    pub(super) fn bell(&self, port: PortId) -> &Doorbell {
        &self.ports[port.index()].bell
    }

    pub(super) fn generation(&self, port: PortId) -> u32 {
        self.ports[port.index()].generation.load(Ordering::Acquire)
    }

    /// Moves whenever a port is retired or revived.
    pub(super) fn epoch(&self) -> u64 {
        // Acquire pairs with the Release in `publish`: generations are read next.
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a ring was left for `to` since it last took.
    pub(super) fn has_fresh(&self, to: PortId) -> bool {
        let [low, high] = &self.ports[to.index()].fresh;
        low.load(Ordering::Relaxed) | high.load(Ordering::Relaxed) != 0
    }

    /// Has `to` find again what it took and did not look at.
    pub(super) fn put_back(&self, to: PortId, fresh: PortSet) {
        for (word, bits) in self.ports[to.index()].fresh.iter().zip(fresh.words()) {
            // Release, as in `leave`: the cells were filled before the bits were taken.
            word.fetch_or(bits, Ordering::Release);
        }
    }

    /// The ports that left rings for `to` since it last took.
    pub(super) fn take_fresh(&self, to: PortId) -> PortSet {
        let [low, high] = &self.ports[to.index()].fresh;
        // Acquire pairs with the Release in `leave`: the cells are looked into next.
        PortSet::from_words(low.swap(0, Ordering::Acquire), high.swap(0, Ordering::Acquire))
    }
}

impl<H: Parcel> Shared<H> {
    /// Leaves the reading end of a new ring for `to`. An end that lay there untaken comes back.
    pub(super) fn leave(&self, from: PortId, to: PortId, link: Link<H>) -> Option<Box<Link<H>>> {
        let cell = &self.cells[from.index() * self.ports.len() + to.index()];
        let untaken = cell.put(Box::new(link));
        // Release, after the cell is filled: who sees the bit finds the ring.
        self.ports[to.index()].fresh[from.index() / 64].fetch_or(1 << (from.index() % 64), Ordering::Release);
        untaken
    }

    /// Takes the reading end `from` left for `to`.
    pub(super) fn take(&self, from: PortId, to: PortId) -> Option<Box<Link<H>>> {
        self.cells[from.index() * self.ports.len() + to.index()].take()
    }
}
