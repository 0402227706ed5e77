//! The outbox: parcels that wait for room in the ring to another core.
//!
//! Not here: the rings. Invariant: what is in it leaves in order; it is bounded by `limits`, and whoever feeds a full
//! one is no longer read.

/// One core's parcels under way to the others.
#[derive(Default)]
pub struct Outbox {}
