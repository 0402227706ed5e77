//! Looking ahead: whose the next events are, so that what belongs to them is on its way to the cache in the meantime.
//!
//! With thousands of connections, most of what a call costs above the kernel's share is waiting for memory: the state
//! of the connection was last touched thousands of calls ago. Completions come in batches, so the next few are known.
//! Not here: events (`driver`).
//! Invariant: a hint; nothing that is decided depends on it.
#![allow(unsafe_code)]

use super::driver::Driver;
use super::operation::{Operation, identify};
use crate::ids::ConnectionId;

/// How many bytes a cache loads at once.
const LINE_BYTES: usize = 64;

impl Driver {
    /// The stream of the completion that comes so many after the next, if it is one of receiving or sending.
    pub fn coming(&self, after: usize) -> Option<ConnectionId> {
        let (data, ..) = self.reaped.get(after)?;
        match identify(*data) {
            (Some(Operation::Receive | Operation::Send), id) => Some(id),
            _ => None,
        }
    }
}

/// Asks the processor to bring a value into its cache. Does nothing where the language has no such instruction.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(LINE_BYTES) {
            // SAFETY: needed because the instruction takes an address. It never faults and changes nothing but caches,
            // whatever the address; these lie within the value.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE_BYTES)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE_BYTES);
}
