//! One ring, as its two ends: a [`Producer`] that sends parcels and a [`Consumer`] that reads them in place.
//!
//! A **parcel** is a header, archived by rkyv, and a payload of plain bytes behind it. They are two arguments because
//! the payload is usually borrowed from a receive buffer and already is what the other side wants: copied once, into
//! the slots, no archive has to describe it and no `Vec` has to be built to hand it over.
//!
//! Not here: who is at the other end and whether it sleeps (see `port`), slot memory (see `audited`).
//! Invariant: sent = received + discarded + still in the ring, and parcels are read in the order they were sent.

use super::audited::{Parcel, Payload, Reader, Unplaced, Writer, slots};
use super::lease::{Borrower, Lender, Spares, lease_lanes};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use crate::limits::RING_LEASED_BYTES_MAX;

/// A parcel on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Slots it took, the pad to the ring's end included.
    pub slots: usize,
    /// Whether the payload went as a lease.
    pub lent: bool,
}

/// A parcel that was not sent; the ring is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The reader has not kept up: no slots, or too much is out on lease. A bell will come once there is room.
    #[error("the ring is full")]
    Full,
    /// There is nobody to read it: the peer is gone, or its successor has not been observed yet.
    #[error("nobody is at the other end")]
    Gone,
    /// No ring can ever carry it.
    #[error("the parcel is larger than a ring carries")]
    TooLarge,
}

/// What both ends of a ring know of each other besides the slots.
#[repr(align(128))]
struct Tally {
    /// Written by the reader, once per drain.
    received: AtomicU64,
    /// Set by the sender when refused for want of room, taken back by the reader that made some.
    starved: AtomicBool,
}

/// What a refused sender waits for.
#[derive(Clone, Copy, Default)]
struct Wanted {
    slots: usize,
    lease_bytes: Option<usize>,
}

/// The sending end.
pub(super) struct Producer<H> {
    writer: Writer<H>,
    lender: Lender,
    tally: Arc<Tally>,
    sent: u64,
    wanted: Wanted,
}

/// The reading end.
pub(super) struct Consumer<H> {
    reader: Reader<H>,
    borrower: Borrower,
    tally: Arc<Tally>,
    received: u64,
}

/// Makes a ring of so many slots.
pub(super) fn ring<H: Parcel>(slot_count: usize) -> (Producer<H>, Consumer<H>) {
    let (writer, reader) = slots(slot_count);
    let (lender, borrower) = lease_lanes();
    let tally = Arc::new(Tally { received: AtomicU64::new(0), starved: AtomicBool::new(false) });
    (
        Producer { writer, lender, tally: Arc::clone(&tally), sent: 0, wanted: Wanted::default() },
        Consumer { reader, borrower, tally, received: 0 },
    )
}

impl<H: Parcel> Producer<H> {
    /// Sends a parcel whose payload is copied: into the slots, or if it is too large for them into a lease buffer.
    pub(super) fn try_send(&mut self, header: &H, payload: &[u8], spares: &mut Spares) -> Result<Sent, Refused> {
        match self.place(header, Payload::Inline(payload), || ()) {
            Err(Unplaced::TooLarge) => {
                if payload.len() > RING_LEASED_BYTES_MAX {
                    return Err(Refused::TooLarge);
                }
                // Asked first, so that a refusal costs neither an allocation nor the copy.
                self.lease_granted(payload.len(), spares)?;
                let mut buffer = spares.take(payload.len());
                buffer.extend_from_slice(payload);
                self.try_lend(header, buffer, spares).map_err(|(refused, buffer)| {
                    spares.keep(buffer);
                    refused
                })
            }
            placed => Self::settled(placed),
        }
    }

    /// Sends a parcel whose payload is already an owned buffer of this core: one too large for the slots is lent, not
    /// copied.
    ///
    /// *Errors* give the buffer back.
    pub(super) fn try_send_owned(
        &mut self,
        header: &H,
        payload: Vec<u8>,
        spares: &mut Spares,
    ) -> Result<Sent, (Refused, Vec<u8>)> {
        match self.place(header, Payload::Inline(&payload), || ()) {
            Err(Unplaced::TooLarge) => self.try_lend(header, payload, spares),
            placed => match Self::settled(placed) {
                Ok(sent) => {
                    spares.keep(payload);
                    Ok(sent)
                }
                Err(refused) => Err((refused, payload)),
            },
        }
    }

    /// Takes in the leases that came home.
    pub(super) fn gather(&mut self, spares: &mut Spares) {
        self.lender.gather(spares);
    }

    /// Whether leases are out.
    pub(super) fn has_lent(&self) -> bool {
        self.lender.out() > 0
    }

    /// Asks the reader for a bell when it has made room. Whether it heard in time is settled before sleeping
    /// ([`room_is_asked_for`](Self::room_is_asked_for)), so that a refusal costs no fence.
    pub(super) fn ask_for_room(&self) {
        if !self.tally.starved.load(Ordering::Relaxed) {
            self.tally.starved.store(true, Ordering::Relaxed);
        }
    }

    /// Before sleeping, after a fence, having seen no room: whether the reader still owes the bell asked for. If it was
    /// just paid, maybe while this side was awake, it is asked for again, and the caller looks once more.
    pub(super) fn room_is_asked_for(&self) -> bool {
        // Release: whoever swaps this away in `relieves` sees this thread asleep, and rings.
        self.tally.starved.swap(true, Ordering::AcqRel)
    }

    /// Whether what was refused last would be taken now.
    pub(super) fn has_room(&mut self, spares: &mut Spares) -> bool {
        self.lender.gather(spares);
        self.writer.free() >= self.wanted.slots && self.wanted.lease_bytes.is_none_or(|bytes| self.lender.grants(bytes))
    }

    /// Parcels sent that the reader had not read when it died.
    pub(super) fn unread(&self) -> u64 {
        // Acquire pairs with the reader's Release; a reader that is still alive makes this an upper bound.
        self.sent - self.tally.received.load(Ordering::Acquire)
    }

    fn try_lend(&mut self, header: &H, buffer: Vec<u8>, spares: &mut Spares) -> Result<Sent, (Refused, Vec<u8>)> {
        if buffer.capacity() > RING_LEASED_BYTES_MAX {
            return Err((Refused::TooLarge, buffer));
        }
        if let Err(refused) = self.lease_granted(buffer.capacity(), spares) {
            return Err((refused, buffer));
        }
        let mut buffer = Some(buffer);
        let Self { writer, lender, .. } = self;
        let placed = writer.place(header, Payload::Lent, || {
            if let Some(buffer) = buffer.take() {
                lender.lend(buffer);
            }
        });
        match (Self::settled(self.count(placed)), buffer) {
            (Err(refused), Some(buffer)) => Err((refused, buffer)),
            (Err(refused), None) => unreachable!("a lease went out but its parcel was refused: {refused}"),
            (Ok(sent), _) => Ok(Sent { lent: true, ..sent }),
        }
    }

    fn lease_granted(&mut self, bytes: usize, spares: &mut Spares) -> Result<(), Refused> {
        self.lender.gather(spares);
        if self.lender.grants(bytes) {
            return Ok(());
        }
        self.wanted = Wanted { slots: 1, lease_bytes: Some(bytes) };
        Err(Refused::Full)
    }

    fn place(&mut self, header: &H, payload: Payload<'_>, accompany: impl FnMut()) -> Result<usize, Unplaced> {
        let placed = self.writer.place(header, payload, accompany);
        self.count(placed)
    }

    fn count(&mut self, placed: Result<usize, Unplaced>) -> Result<usize, Unplaced> {
        match placed {
            Ok(_) => self.sent += 1,
            Err(Unplaced::Full { wanted }) => self.wanted = Wanted { slots: wanted, lease_bytes: None },
            Err(Unplaced::TooLarge) => {}
        }
        placed
    }

    fn settled(placed: Result<usize, Unplaced>) -> Result<Sent, Refused> {
        match placed {
            Ok(slots) => Ok(Sent { slots, lent: false }),
            Err(Unplaced::Full { .. }) => Err(Refused::Full),
            Err(Unplaced::TooLarge) => Err(Refused::TooLarge),
        }
    }
}

impl<H: Parcel> Consumer<H> {
    /// Shows up to `budget` parcels in place, oldest first, and returns how many. What `each` is shown ends with its
    /// call.
    pub(super) fn drain(&mut self, budget: usize, mut each: impl FnMut(&H::Archived, &[u8])) -> usize {
        let Self { reader, borrower, received, .. } = self;
        let parcels = reader.visit(budget, |header, payload| {
            *received += 1;
            match payload {
                Payload::Inline(bytes) => each(header, bytes),
                Payload::Lent => each(header, &borrower.next()),
            }
        });
        if parcels > 0 {
            // Release pairs with the sender's Acquire in `unread`.
            self.tally.received.store(self.received, Ordering::Release);
        }
        parcels
    }

    /// Whether nothing waits, freshly read.
    pub(super) fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// After a drain and a fence: whether the sender waits for room and is to be told.
    pub(super) fn relieves(&self) -> bool {
        // Acquire pairs with the Release in `room_is_asked_for`: the sender's *asleep* is read next.
        self.tally.starved.load(Ordering::Relaxed) && self.tally.starved.swap(false, Ordering::AcqRel)
    }
}
