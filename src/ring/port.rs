//! A port: everything of the mesh that one thread holds, its sending half ([`Outlet`]) and its receiving half
//! ([`Inlet`]).
//!
//! A turn of a thread: `observe`, `drain` (sending replies through the outlet as it goes), send, `bells_due` once, and
//! `try_sleep` when there is nothing left to do.
//!
//! Not here: overflow. A refused parcel is the caller's to keep (the outbox of `server`).
//! Invariant: whatever was published in a turn is covered by the `bells_due` at its end; a thread that sleeps has no
//! parcel waiting, and no ring that refused it has room.

use super::audited::Parcel;
use super::doorbell::{Bell, announce};
use super::lease::Spares;
use super::mesh::{Link, Shared, lives};
use super::peers::{PortId, PortSet};
use super::spsc::{Producer, Refused, Sent, ring};
use super::sync::Arc;
use std::cell::Cell;
use std::marker::PhantomData;

/// One thread's ends of the mesh. `Send`, so that it can be moved into its thread; neither `Sync` nor `Clone`.
pub struct Port<H: Parcel> {
    outlet: Outlet<H>,
    inlet: Inlet<H>,
    bells_rung: u64,
    bells_saved: u64,
    /// Not `Sync`, whatever the ends are made of.
    one_thread: PhantomData<Cell<()>>,
}

/// The sending half of a port.
pub struct Outlet<H: Parcel> {
    shared: Arc<Shared<H>>,
    me: PortId,
    generation: u32,
    /// The generation of each peer as of the last `observe`; rings are made for these.
    seen: Box<[u32]>,
    producers: Box<[Option<Producer<H>>]>,
    spares: Spares,
    /// Peers sent to since the last `bells_due`.
    written: PortSet,
    /// Peers whose rings refused for want of room.
    starved: PortSet,
    counts: SendCounts,
}

/// The receiving half of a port.
pub struct Inlet<H: Parcel> {
    shared: Arc<Shared<H>>,
    me: PortId,
    generation: u32,
    links: Box<[Option<Box<Link<H>>>]>,
    open: PortSet,
    /// Peers read from since the last `bells_due`.
    drained: PortSet,
    /// The epoch as of the last `observe`.
    epoch: u64,
    received: u64,
    discarded: u64,
}

#[derive(Clone, Copy, Default)]
struct SendCounts {
    sent: u64,
    lent: u64,
    refused_full: u64,
    refused_gone: u64,
    rings_made: u64,
    discarded: u64,
}

/// What a port has counted since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortCounts {
    /// Parcels sent.
    pub sent: u64,
    /// Of these, how many lent their payload.
    pub lent: u64,
    /// Parcels shown to the closure of `drain`.
    pub received: u64,
    /// Sends refused because the ring was full.
    pub refused_full: u64,
    /// Sends refused because nobody is at the other end.
    pub refused_gone: u64,
    /// Parcels sent that a peer died without reading.
    pub discarded_sent: u64,
    /// Parcels found unread in the rings of dead peers.
    pub discarded_unread: u64,
    /// Rings made on first use.
    pub rings_made: u64,
    /// Bells that had to be rung.
    pub bells_rung: u64,
    /// Peers that were written to, or relieved, while awake: bells that were not needed.
    pub bells_saved: u64,
}

/// What went down with a dead peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Parcels this port had sent it that it never read.
    pub sent: u64,
    /// Parcels it had sent this port that were not read yet and now never will be.
    pub unread: u64,
    /// Whether a successor is in its place.
    pub succeeded: bool,
}

impl<H: Parcel> Port<H> {
    pub(super) fn new(shared: Arc<Shared<H>>, me: PortId) -> Self {
        let epoch = shared.epoch();
        let ports = shared.port_count();
        let seen: Box<[u32]> = (0..ports).map(|index| shared.generation(PortId::at(index))).collect();
        let generation = seen[me.index()];
        let inlet = Inlet {
            shared: Arc::clone(&shared),
            me,
            generation,
            links: (0..ports).map(|_| None).collect(),
            open: PortSet::EMPTY,
            drained: PortSet::EMPTY,
            epoch,
            received: 0,
            discarded: 0,
        };
        let outlet = Outlet {
            shared,
            me,
            generation,
            seen,
            producers: (0..ports).map(|_| None).collect(),
            spares: Spares::new(),
            written: PortSet::EMPTY,
            starved: PortSet::EMPTY,
            counts: SendCounts::default(),
        };
        Self { outlet, inlet, bells_rung: 0, bells_saved: 0, one_thread: PhantomData }
    }

    /// Which port this is.
    pub fn id(&self) -> PortId {
        self.outlet.me
    }

    /// The two halves, so that a reply can be sent while a parcel is being read.
    pub fn halves(&mut self) -> (&mut Outlet<H>, &mut Inlet<H>) {
        (&mut self.outlet, &mut self.inlet)
    }

    /// See [`Outlet::try_send`].
    pub fn try_send(&mut self, to: impl Into<PortId>, header: &H, payload: &[u8]) -> Result<Sent, Refused> {
        self.outlet.try_send(to, header, payload)
    }

    /// See [`Inlet::drain`].
    pub fn drain(&mut self, budget_per_peer: usize, each: impl FnMut(PortId, &H::Archived, &[u8])) -> usize {
        self.inlet.drain(budget_per_peer, each)
    }

    /// To be called at the start of each turn: lets go of what belonged to ports that died since, and tells of each.
    /// The caller answers its tickets towards them; from here on a successor can be sent to. Costs one load if nobody
    /// died.
    pub fn observe(&mut self, mut lost: impl FnMut(PortId, Lost)) {
        let epoch = self.outlet.shared.epoch();
        if epoch == self.inlet.epoch {
            return;
        }
        self.inlet.epoch = epoch;
        let me = self.outlet.me;
        for peer in (0..self.outlet.seen.len()).map(PortId::at).filter(|&peer| peer != me) {
            let generation = self.outlet.shared.generation(peer);
            if generation != self.outlet.seen[peer.index()] {
                let sent = self.outlet.close(peer, generation);
                let unread = self.inlet.close(peer, generation);
                lost(peer, Lost { sent, unread, succeeded: lives(generation) });
            }
        }
    }

    /// To be called once at the end of each turn, after all that is to be sent was sent: the peers that sleep although
    /// something was sent to them or room was made for them. The caller owes each one ring of its bell.
    #[must_use = "a bell that is not rung leaves a core asleep"]
    pub fn bells_due(&mut self) -> PortSet {
        let (mut told, drained) = (self.outlet.written.take(), self.inlet.drained.take());
        self.outlet.gather();
        if told.is_empty() && drained.is_empty() {
            return PortSet::EMPTY;
        }
        announce();
        for peer in drained.into_iter().filter(|&peer| self.inlet.relieves(peer)) {
            told.insert(peer);
        }
        let mut due = PortSet::EMPTY;
        for peer in told {
            if self.outlet.shared.bell(peer).answers() {
                due.insert(peer);
            }
        }
        self.bells_rung += due.len() as u64;
        self.bells_saved += (told.len() - due.len()) as u64;
        due
    }

    /// [`bells_due`](Self::bells_due), rung.
    pub fn ring_bells(&mut self, bell: &mut impl Bell) {
        self.bells_due().into_iter().for_each(|peer| bell.ring(peer));
    }

    /// Declares this thread asleep, if it may be: true means that any of its peers rings from now on, so the thread may
    /// wait for a bell; false means that there is something to do first. `bells_due` comes before.
    pub fn try_sleep(&mut self) -> bool {
        debug_assert!(self.outlet.written.is_empty(), "bells are due, and who was sent something may sleep");
        debug_assert!(self.inlet.drained.is_empty(), "bells are due, and who waits for room may sleep");
        self.outlet.shared.bell(self.outlet.me).lie_down();
        let stirred =
            self.inlet.has_parcels() || self.outlet.has_room_again() || self.outlet.shared.epoch() != self.inlet.epoch;
        if stirred {
            self.wake();
        }
        !stirred
    }

    /// Declares this thread awake, whatever woke it: until the next `try_sleep` nobody needs to ring.
    pub fn wake(&mut self) {
        self.outlet.shared.bell(self.outlet.me).get_up();
    }

    /// Whether the cores have read all that was sent to them, as far as they live. Once this port is dead, nobody reads
    /// any more what it has left in a ring. The control thread's port, which is the last, is read when somebody asks.
    pub fn is_heard(&self) -> bool {
        let cores = self.outlet.producers.split_last().map_or(&[][..], |(_, cores)| cores);
        cores.iter().flatten().all(|producer| producer.unread() == 0)
    }

    /// What this port has counted.
    pub fn counts(&self) -> PortCounts {
        let SendCounts { sent, lent, refused_full, refused_gone, rings_made, discarded } = self.outlet.counts;
        PortCounts {
            sent,
            lent,
            received: self.inlet.received,
            refused_full,
            refused_gone,
            discarded_sent: discarded,
            discarded_unread: self.inlet.discarded,
            rings_made,
            bells_rung: self.bells_rung,
            bells_saved: self.bells_saved,
        }
    }
}

impl<H: Parcel> Outlet<H> {
    /// Sends a parcel, its payload copied straight into the ring or, if too large for that, into a buffer that goes on
    /// lease.
    ///
    /// *Errors* leave header and payload with the caller; nothing was sent. After [`Refused::Full`] the peer rings when
    /// it has made room. *Panics* if the peer is this port itself or no port of the mesh.
    pub fn try_send(&mut self, to: impl Into<PortId>, header: &H, payload: &[u8]) -> Result<Sent, Refused> {
        let to = to.into();
        let outcome = self.attempt(to, header, payload);
        self.count(to, outcome)
    }

    /// Sends a parcel whose payload is an owned buffer of this core; one too large for the slots goes on lease without
    /// a copy, and comes home to this port.
    ///
    /// *Errors* give the buffer back; otherwise as [`try_send`](Self::try_send).
    pub fn try_send_owned(
        &mut self,
        to: impl Into<PortId>,
        header: &H,
        payload: Vec<u8>,
    ) -> Result<Sent, (Refused, Vec<u8>)> {
        let to = to.into();
        let (told, payload) = match self.attempt_owned(to, header, payload) {
            Ok(sent) => (Ok(sent), None),
            Err((refused, payload)) => (Err(refused), Some(payload)),
        };
        self.count(to, told).map_err(|refused| (refused, payload.unwrap_or_default()))
    }

    /// An empty buffer with room for `bytes`, one that came home from a lease if there is one: to be filled and sent
    /// owned.
    pub fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        self.spares.take(bytes)
    }

    fn attempt(&mut self, to: PortId, header: &H, payload: &[u8]) -> Result<Sent, Refused> {
        self.open(to)?;
        let Some(producer) = &mut self.producers[to.index()] else { return Err(Refused::Gone) };
        producer.try_send(header, payload, &mut self.spares)
    }

    fn attempt_owned(&mut self, to: PortId, header: &H, payload: Vec<u8>) -> Result<Sent, (Refused, Vec<u8>)> {
        if let Err(refused) = self.open(to) {
            return Err((refused, payload));
        }
        match &mut self.producers[to.index()] {
            Some(producer) => producer.try_send_owned(header, payload, &mut self.spares),
            None => Err((Refused::Gone, payload)),
        }
    }

    fn count(&mut self, to: PortId, outcome: Result<Sent, Refused>) -> Result<Sent, Refused> {
        match outcome {
            Ok(Sent { lent, .. }) => {
                self.written.insert(to);
                if !self.starved.is_empty() {
                    self.starved.remove(to);
                }
                self.counts.sent += 1;
                self.counts.lent += u64::from(lent);
            }
            Err(Refused::Full) => {
                if let Some(producer) = &self.producers[to.index()] {
                    producer.ask_for_room();
                }
                self.starved.insert(to);
                self.counts.refused_full += 1;
            }
            Err(Refused::Gone) => self.counts.refused_gone += 1,
            Err(Refused::TooLarge) => {}
        }
        outcome
    }

    /// Sees to it that there is a ring to `to`.
    #[inline]
    fn open(&mut self, to: PortId) -> Result<(), Refused> {
        if self.producers[to.index()].is_some() { Ok(()) } else { self.make_ring(to) }
    }

    #[cold]
    fn make_ring(&mut self, to: PortId) -> Result<(), Refused> {
        assert!(to != self.me, "{to} sends to itself");
        let generation = self.seen[to.index()];
        // A successor is sent to once it was observed, and tickets towards its predecessor were answered; and a thread
        // that was replaced while it hung leaves its successor's rings alone.
        let successor = self.shared.generation(to) != generation;
        let replaced = self.shared.generation(self.me) != self.generation;
        if !lives(generation) || successor || replaced {
            return Err(Refused::Gone);
        }
        let (producer, consumer) = ring(self.shared.ring_slots);
        let link = Link { consumer, from_generation: self.generation, to_generation: generation };
        if let Some(mut untaken) = self.shared.leave(self.me, to, link) {
            // Left by a predecessor of this port, or for one of the peer.
            self.counts.discarded += untaken.consumer.drain(usize::MAX, |_, _| ()) as u64;
        }
        self.counts.rings_made += 1;
        self.producers[to.index()] = Some(producer);
        Ok(())
    }

    /// Lets go of the ring to a peer whose generation has changed.
    fn close(&mut self, peer: PortId, generation: u32) -> u64 {
        self.seen[peer.index()] = generation;
        self.written.remove(peer);
        self.starved.remove(peer);
        let unread = self.producers[peer.index()].take().map_or(0, |producer| producer.unread());
        self.counts.discarded += unread;
        unread
    }

    /// Takes in leases that came home.
    fn gather(&mut self) {
        if self.counts.lent == 0 {
            return;
        }
        for producer in self.producers.iter_mut().flatten().filter(|producer| producer.has_lent()) {
            producer.gather(&mut self.spares);
        }
    }

    /// Before sleeping: whether a ring that refused has room by now, or its reader might not tell. Such a ring is not
    /// asked about again unless it refuses again: the caller tries its outbox once more, or has nothing left for that
    /// peer.
    fn has_room_again(&mut self) -> bool {
        let mut stirred = false;
        for peer in self.starved {
            let Some(producer) = &mut self.producers[peer.index()] else { continue };
            if producer.has_room(&mut self.spares) || !producer.room_is_asked_for() {
                self.starved.remove(peer);
                stirred = true;
            }
        }
        stirred
    }
}

impl<H: Parcel> Inlet<H> {
    /// Shows each peer's waiting parcels, up to so many per peer, in place: who sent it, the header, the payload.
    /// Returns how many. What the closure is shown ends with its call.
    ///
    /// *Panics* if the closure does; the parcel it was shown counts as received, the others stay.
    pub fn drain(&mut self, budget_per_peer: usize, mut each: impl FnMut(PortId, &H::Archived, &[u8])) -> usize {
        if self.shared.has_fresh(self.me) {
            self.adopt();
        }
        let mut parcels = 0;
        for peer in self.open {
            let Some(link) = &mut self.links[peer.index()] else { continue };
            let received = &mut self.received;
            // Marked first: if the closure panics, room was made all the same.
            let before = self.drained;
            self.drained.insert(peer);
            let shown = link.consumer.drain(budget_per_peer, |header, payload| {
                *received += 1;
                each(peer, header, payload);
            });
            if shown == 0 {
                self.drained = before;
            }
            parcels += shown;
        }
        parcels
    }

    /// Whether anything waits to be drained, freshly read.
    pub fn has_parcels(&self) -> bool {
        let waits = |peer: PortId| self.links[peer.index()].as_ref().is_some_and(|link| !link.consumer.is_empty());
        self.shared.has_fresh(self.me) || self.open.into_iter().any(waits)
    }

    /// Takes the rings that were left for this port.
    #[cold]
    fn adopt(&mut self) {
        let ports = self.links.len();
        let fresh = self.shared.take_fresh(self.me);
        if self.shared.epoch() != self.epoch {
            // A ring may be of a successor whose predecessor's death was not observed yet: it is taken after that.
            return self.shared.put_back(self.me, fresh);
        }
        for peer in fresh.into_iter().filter(|peer| peer.index() < ports) {
            let Some(mut link) = self.shared.take(peer, self.me) else { continue };
            if link.to_generation != self.generation {
                // Left for a predecessor of this port; the sender counts what was in it.
                continue;
            }
            if link.from_generation != self.shared.generation(peer) {
                // Left by a port that has died since.
                self.discarded += link.consumer.drain(usize::MAX, |_, _| ()) as u64;
                continue;
            }
            if let Some(mut older) = self.links[peer.index()].replace(link) {
                self.discarded += older.consumer.drain(usize::MAX, |_, _| ()) as u64;
            }
            self.open.insert(peer);
        }
    }

    /// Lets go of the ring from a peer, if it is not of the generation the peer is in now.
    fn close(&mut self, peer: PortId, generation: u32) -> u64 {
        let link = &mut self.links[peer.index()];
        if link.as_ref().is_none_or(|link| link.from_generation == generation) {
            return 0;
        }
        let unread = link.take().map_or(0, |mut link| link.consumer.drain(usize::MAX, |_, _| ()) as u64);
        self.open.remove(peer);
        self.drained.remove(peer);
        self.discarded += unread;
        unread
    }

    fn relieves(&self, peer: PortId) -> bool {
        self.links[peer.index()].as_ref().is_some_and(|link| link.consumer.relieves())
    }
}
