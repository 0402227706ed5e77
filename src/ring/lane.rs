//! The one place that names `rtrb`; under loom a stand-in with the same few methods takes its place.
//!
//! Not here: what lies in the slots.
//! Invariant: whatever implements a lane publishes with Release and takes with Acquire, in both directions; nothing in
//! `ring` relies on more.

#[cfg(not(loom))]
pub(super) use rtrb::{
    Consumer as LaneReader, CopyToUninit, Producer as LaneWriter, RingBuffer as Lane, chunks::ReadChunk,
};

#[cfg(loom)]
pub(super) use super::stand_in::{Lane, LaneReader, LaneWriter, ReadChunk};
#[cfg(loom)]
pub(super) use rtrb::CopyToUninit;
