//! The atomics of `ring`: the standard library's, or loom's when a test explores every interleaving.
//!
//! Not here: the slot rings themselves (see `lane`).
//! Invariant: no file of `ring` names `std::sync` or `loom::sync` but this one and `lane`'s stand-in.

#[cfg(loom)]
pub(super) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
