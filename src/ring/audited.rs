//! Everything in `ring` that the compiler cannot check: parcels in slot memory, and an owning pointer in an atomic.
//!
//! Not here: leases, sleeping, who talks to whom. This file holds only what needs `unsafe`, and all of it.
//!
//! # Protocol
//!
//! ```text
//!            slot k (256 bytes)                         slot k+1 ...
//!  +--------+-----------------+----------------------------------+ - - +
//!  | Frame  | archive of H    | payload ...                      |     |
//!  | 8 B    | root at its end | raw bytes, unaligned             |     |
//!  +--------+-----------------+----------------------------------+ - - +
//! ```
//!
//! Between commits the ring belongs slot by slot to one side: from its commit until the reader's, a slot is the
//! reader's to read; otherwise it is the writer's to write. The lane (Release, Acquire) carries that across the cores.
//!
//! Invariant **P**: every committed run of slots begins with a frame that [`Writer::place`] wrote for the same `H`, is
//! `frame.slots` long, and lies whole before the end of the ring. `Writer` and `Reader` are made in pairs by [`slots`],
//! are generic in the same `H`, and nothing else can commit.
#![allow(unsafe_code)]

use super::lane::{CopyToUninit, Lane, LaneReader, LaneWriter, ReadChunk};
use super::sync::{AtomicPtr, Ordering};
use crate::limits::{PARCEL_SLOTS_MAX, RING_SLOT_BYTES};
use rkyv::api::low::{LowSerializer, LowValidator, to_bytes_in_with_alloc};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::{Positional, Writer as ArchiveWriter, allocator::SubAllocator};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::{cell::Cell, ptr, slice};

/// What may travel as a parcel's header: a type with an rkyv archive that can be written without allocating.
///
/// Implemented for every such type. An archive that a hand-written `resolve` leaves invalid is found out when it is
/// read, because every one is validated.
pub trait Parcel:
    rkyv::Archive<Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>>
    + for<'a> rkyv::Serialize<LowSerializer<SlotRoom<'a>, SubAllocator<'a>, Failure>>
    + 'static
{
}

impl<H> Parcel for H where
    H: rkyv::Archive<Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>>
        + for<'a> rkyv::Serialize<LowSerializer<SlotRoom<'a>, SubAllocator<'a>, Failure>>
        + 'static
{
}

/// One slot of ring memory. Which of its bytes are initialised only the frame of its parcel knows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Slot(MaybeUninit<[u8; RING_SLOT_BYTES]>);

const _: () = assert!(size_of::<Slot>() == RING_SLOT_BYTES);

impl Default for Slot {
    /// Writes nothing: a slot may hold anything, so making one costs nothing.
    fn default() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// The first eight bytes of a parcel.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    slots: u8,
    header_bytes: u16,
    payload_bytes: u32,
}

const FRAME_BYTES: usize = 8;
const PAD: u8 = 0;
const INLINE: u8 = 1;
const LENT: u8 = 2;
/// Scratch for serialisers that need some (a `Vec` of things that are not plain bytes); on the stack, never
/// initialised.
const SERIALISER_BYTES: usize = 256;

impl Frame {
    fn to_bytes(self) -> [u8; FRAME_BYTES] {
        let [header_low, header_high] = self.header_bytes.to_ne_bytes();
        let [a, b, c, d] = self.payload_bytes.to_ne_bytes();
        [self.kind, self.slots, header_low, header_high, a, b, c, d]
    }

    fn from_bytes([kind, slots, header_low, header_high, a, b, c, d]: [u8; FRAME_BYTES]) -> Self {
        let header_bytes = u16::from_ne_bytes([header_low, header_high]);
        Self { kind, slots, header_bytes, payload_bytes: u32::from_ne_bytes([a, b, c, d]) }
    }
}

/// A parcel's payload: bytes in the slots, or the news that it travels beside them as a lease.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Inline(&'a [u8]),
    Lent,
}

impl Payload<'_> {
    fn inline_bytes(&self) -> usize {
        match self {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Lent => 0,
        }
    }
}

/// Why a parcel was not placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unplaced {
    /// Fewer slots are free than it takes: so many, the pad to the ring's end included.
    Full { wanted: usize },
    /// It does not fit in [`PARCEL_SLOTS_MAX`] slots.
    TooLarge,
}

/// Slot memory an archive is written into; what rkyv calls a writer. Its own `Buffer` does the same, but out of line
/// and with a copy for every empty padding. *Measured* (callgrind, 64-byte payload, send and read, batches of 8): 489
/// instructions per parcel with `Buffer`, 369 with this.
pub struct SlotRoom<'a> {
    room: &'a mut [MaybeUninit<u8>],
    written: usize,
}

impl Positional for SlotRoom<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.written
    }
}

impl ArchiveWriter<Failure> for SlotRoom<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let end = self.written + bytes.len();
        let Some(room) = self.room.get_mut(self.written..end) else { return Err(Failure) };
        bytes.copy_to_uninit(room);
        self.written = end;
        Ok(())
    }
}

/// Makes a ring of `count` slots, as its two ends.
pub(super) fn slots<H: Parcel>(count: usize) -> (Writer<H>, Reader<H>) {
    assert!(count >= 2 * PARCEL_SLOTS_MAX, "the longest pad and the longest parcel must fit in {count} slots together");
    let (writer, reader) = Lane::new(count);
    (Writer { lane: writer, at: 0, count, header: PhantomData }, Reader { lane: reader, header: PhantomData })
}

/// The end of a ring that writes.
pub(super) struct Writer<H> {
    lane: LaneWriter<Slot>,
    /// Index of the slot the next parcel, or the pad before it, begins in.
    at: usize,
    count: usize,
    header: PhantomData<fn(H)>,
}

impl<H: Parcel> Writer<H> {
    /// Fewest bytes a parcel of `H` takes, payload apart; all of them unless the header has parts outside itself.
    const FRAMED_BYTES: usize = {
        // The frame is 8 bytes at the start of a 64-byte aligned slot, so what follows is aligned to 8.
        assert!(align_of::<H::Archived>() <= FRAME_BYTES, "the header wants more than 8 bytes of alignment");
        assert!(FRAME_BYTES + size_of::<H::Archived>() <= RING_SLOT_BYTES, "the header alone fills more than a slot");
        FRAME_BYTES + size_of::<H::Archived>()
    };

    /// Free slots, freshly read.
    pub(super) fn free(&self) -> usize {
        self.lane.slots()
    }

    /// Writes a parcel into the ring's own memory and publishes it. `accompany` is called once the parcel is certain to
    /// go, just before it can be seen: the moment to send along what must be there when it is read.
    ///
    /// *Errors* leave the ring as it was, and `accompany` uncalled. Returns the slots taken, the pad included.
    #[inline]
    pub(super) fn place(
        &mut self,
        header: &H,
        payload: Payload<'_>,
        mut accompany: impl FnMut(),
    ) -> Result<usize, Unplaced> {
        let slots = (Self::FRAMED_BYTES + payload.inline_bytes()).div_ceil(RING_SLOT_BYTES);
        if slots > PARCEL_SLOTS_MAX {
            return Err(Unplaced::TooLarge);
        }
        match self.attempt(slots, header, payload, &mut accompany) {
            // A header with parts outside itself may need more than the least; its second try gets the most there is.
            Err(Unplaced::TooLarge) if slots < PARCEL_SLOTS_MAX => {
                self.attempt(PARCEL_SLOTS_MAX, header, payload, &mut accompany)
            }
            first => first,
        }
    }

    #[inline]
    fn attempt(
        &mut self,
        slots: usize,
        header: &H,
        payload: Payload<'_>,
        accompany: &mut impl FnMut(),
    ) -> Result<usize, Unplaced> {
        let to_end = self.count - self.at;
        let pad = if slots > to_end { to_end } else { 0 };
        let wanted = pad + slots;
        let Ok(mut chunk) = self.lane.write_chunk(wanted) else { return Err(Unplaced::Full { wanted }) };
        // The lane splits a chunk at the ring's end, which is where the pad ends.
        let (first, second) = chunk.as_mut_slices();
        let room = bytes_of(if pad == 0 { &mut *first } else { second });
        let (frame_room, room) = room.split_at_mut(FRAME_BYTES);

        let mut scratch = [MaybeUninit::uninit(); SERIALISER_BYTES];
        let archive =
            to_bytes_in_with_alloc(header, SlotRoom { room: &mut *room, written: 0 }, SubAllocator::new(&mut scratch));
        let header_bytes = match archive {
            Ok(archive) => archive.written,
            Err(Failure) => return Err(Unplaced::TooLarge),
        };
        let (kind, payload_bytes) = match payload {
            Payload::Lent => (LENT, 0),
            Payload::Inline(bytes) => {
                let Some(room) = room.get_mut(header_bytes..header_bytes + bytes.len()) else {
                    return Err(Unplaced::TooLarge);
                };
                bytes.copy_to_uninit(room);
                (INLINE, bytes.len())
            }
        };
        let slots = (FRAME_BYTES + header_bytes + payload_bytes).div_ceil(RING_SLOT_BYTES);
        // Lossless: PARCEL_SLOTS_MAX slots are fewer than 2^8, their bytes fewer than 2^16 (asserted in `limits`).
        let frame =
            Frame { kind, slots: slots as u8, header_bytes: header_bytes as u16, payload_bytes: payload_bytes as u32 };
        frame.to_bytes().copy_to_uninit(frame_room);
        if pad > 0 {
            let frame = Frame { kind: PAD, slots: pad as u8, header_bytes: 0, payload_bytes: 0 };
            frame.to_bytes().copy_to_uninit(&mut bytes_of(first)[..FRAME_BYTES]);
        }
        accompany();
        chunk.commit(pad + slots);
        self.at += pad + slots;
        if self.at >= self.count {
            self.at -= self.count;
        }
        Ok(pad + slots)
    }
}

/// The end of a ring that reads.
pub(super) struct Reader<H> {
    lane: LaneReader<Slot>,
    header: PhantomData<fn(H)>,
}

impl<H: Parcel> Reader<H> {
    /// Whether nothing is published, freshly read.
    pub(super) fn is_empty(&self) -> bool {
        self.lane.slots() == 0
    }

    /// Shows up to `budget` parcels, in place and in order, and then gives their slots back, all in one go. Returns how
    /// many.
    ///
    /// *Panics* if `each` does; the parcel it was shown counts as read.
    pub(super) fn visit(&mut self, budget: usize, mut each: impl FnMut(&H::Archived, Payload<'_>)) -> usize {
        let ready = self.lane.slots();
        if ready == 0 {
            return 0;
        }
        let Ok(chunk) = self.lane.read_chunk(ready) else { return 0 };
        let run = Run { chunk: Some(chunk), slots_read: Cell::new(0) };
        let mut parcels = 0;
        while parcels < budget {
            let rest = run.rest();
            let Some(start) = rest.first() else { break };
            // SAFETY: unsafe because the slot's bytes may be uninitialised; sound because `rest` is committed and
            // begins where a parcel does (all runs before it were skipped whole), so by invariant P a frame was written
            // here.
            let frame = Frame::from_bytes(unsafe { start.0.as_ptr().cast::<[u8; FRAME_BYTES]>().read() });
            run.slots_read.set(run.slots_read.get() + usize::from(frame.slots));
            if frame.kind == PAD {
                continue;
            }
            let (header_bytes, payload_bytes) = (usize::from(frame.header_bytes), frame.payload_bytes as usize);
            let parcel = &rest[..usize::from(frame.slots)];
            debug_assert!(
                FRAME_BYTES + header_bytes + payload_bytes <= size_of_val(parcel),
                "a parcel outgrows its slots"
            );
            let base = parcel.as_ptr().cast::<u8>();
            // SAFETY: unsafe because which bytes of a slot are initialised is only known from its frame; sound because
            // by invariant P `place` wrote so many header bytes behind the frame and so many payload bytes behind them,
            // all within these consecutive slots, and they are the reader's until `run` gives them back, after the
            // borrow.
            let (archive, payload) = unsafe {
                let archive = base.add(FRAME_BYTES);
                (
                    slice::from_raw_parts(archive, header_bytes),
                    slice::from_raw_parts(archive.add(header_bytes), payload_bytes),
                )
            };
            parcels += 1;
            each(header_in::<H>(archive), if frame.kind == LENT { Payload::Lent } else { Payload::Inline(payload) });
        }
        parcels
    }
}

/// What is being read of a ring; dropped, also by a panic, it gives back the slots read so far.
struct Run<'r> {
    chunk: Option<ReadChunk<'r, Slot>>,
    slots_read: Cell<usize>,
}

impl Run<'_> {
    /// The unread slots up to the end of the ring or of what is published, whichever comes first.
    fn rest(&self) -> &[Slot] {
        let (first, second) = self.chunk.as_ref().map_or((&[][..], &[][..]), ReadChunk::as_slices);
        let read = self.slots_read.get();
        if read < first.len() { &first[read..] } else { &second[read - first.len()..] }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            chunk.commit(self.slots_read.get());
        }
    }
}

/// The memory of some slots, as bytes that may or may not be initialised.
fn bytes_of(slots: &mut [Slot]) -> &mut [MaybeUninit<u8>] {
    let bytes = size_of_val(slots);
    // SAFETY: unsafe because it reinterprets memory; sound because a slot is nothing but `MaybeUninit` bytes without
    // padding (its size is asserted), `MaybeUninit<u8>` has no alignment and no validity, and the borrow is handed on.
    unsafe { slice::from_raw_parts_mut(slots.as_mut_ptr().cast(), bytes) }
}

/// The header in an archive, which is validated: that costs about as much as a bounds check per field, and keeps what a
/// mistake elsewhere does to a ring from becoming undefined behaviour here.
///
/// *Panics* if the bytes are no archive of `H` at an address aligned for it: by invariant P they are.
fn header_in<H: Parcel>(archive: &[u8]) -> &H::Archived {
    match rkyv::api::low::access::<H::Archived, Failure>(archive) {
        Ok(header) => header,
        Err(Failure) => panic!("a parcel's header is not an archive of its type"),
    }
}

/// A box one thread leaves for another to take: at most one lies there, and whoever takes it owns it.
pub(super) struct HandOver<T> {
    waiting: AtomicPtr<T>,
}

impl<T: Send> HandOver<T> {
    pub(super) fn empty() -> Self {
        Self { waiting: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Leaves `box_`; what lay there untaken comes back.
    pub(super) fn put(&self, left: Box<T>) -> Option<Box<T>> {
        // Release publishes the box's contents to the taker; Acquire receives those of the box that comes back.
        owned(self.waiting.swap(Box::into_raw(left), Ordering::AcqRel))
    }

    /// Takes what lies there.
    pub(super) fn take(&self) -> Option<Box<T>> {
        // Acquire pairs with the Release in `put`: the box's contents are read next.
        owned(self.waiting.swap(ptr::null_mut(), Ordering::AcqRel))
    }
}

impl<T> Drop for HandOver<T> {
    fn drop(&mut self) {
        drop(owned(self.waiting.swap(ptr::null_mut(), Ordering::AcqRel)));
    }
}

/// The box behind a pointer that was just swapped out of a [`HandOver`].
fn owned<T>(swapped_out: *mut T) -> Option<Box<T>> {
    if swapped_out.is_null() {
        return None;
    }
    // SAFETY: unsafe because ownership is made from a bare pointer; sound because only `put` stores pointers that are
    // not null, each from `Box::into_raw`, and a swap hands each to exactly one caller. `T: Send` wherever one can be
    // put.
    Some(unsafe { Box::from_raw(swapped_out) })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    /// Aligned as a slot is.
    #[repr(align(64))]
    struct Bytes([u8; 64]);

    #[derive(rkyv::Archive, rkyv::Serialize, Clone, Copy)]
    enum Either {
        This(u64),
        That(u32),
    }

    #[test]
    fn only_an_archive_of_its_type_is_read_as_one_in_every_build() {
        let (mut room, mut scratch) = (Bytes([0; 64]), [MaybeUninit::uninit(); SERIALISER_BYTES]);
        for (number, header) in [Either::This(7), Either::That(9)].into_iter().enumerate() {
            let mut uninit = [MaybeUninit::uninit(); 64];
            let writer = SlotRoom { room: &mut uninit, written: 0 };
            let written = to_bytes_in_with_alloc::<_, _, Failure>(&header, writer, SubAllocator::new(&mut scratch));
            let length = written.unwrap_or_else(|_| panic!("it fits")).written;
            // SAFETY: so many bytes were just written.
            let bytes = unsafe { slice::from_raw_parts(uninit.as_ptr().cast::<u8>(), length) };
            room.0[..length].copy_from_slice(bytes);
            let read = header_in::<Either>(&room.0[..length]);
            let told = match read {
                ArchivedEither::This(value) => value.to_native(),
                ArchivedEither::That(value) => value.to_native().into(),
            };
            assert_eq!(told, [7, 9][number]);
            let broken =
                |room: &Bytes, length: usize| catch_unwind(|| _ = header_in::<Either>(&room.0[..length])).is_err();
            assert!(broken(&room, length - 1) && broken(&room, 0), "too short");
            // The byte that says which of the two it is.
            room.0[0] = 2;
            assert!(broken(&room, length), "neither of the two");
        }
    }
}
