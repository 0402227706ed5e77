//! Leases: payloads too large for slots, lent to the reader as the owner's own buffer and sent back home.
//!
//! Not here: unsafe code. The buffer itself moves, from the lender through the ring's *lend* lane to the reader and
//! through its *home* lane back, so ownership is the compiler's business and nothing dangles, leaks or is freed twice,
//! whichever side dies first: what still lies in a lane is dropped with the lane's last end.
//!
//! Invariant: at most `RING_LEASES_MAX` buffers of a ring are out at a time and each lane has room for so many, so
//! neither lending one that was granted nor returning one can fail.

use super::lane::{Lane, LaneReader, LaneWriter};
use crate::limits::{PORT_SPARE_BYTES_MAX, PORT_SPARES_MAX, RING_LEASED_BYTES_MAX, RING_LEASES_MAX};

/// Buffers that came home, kept by a port for its next lease. Nothing here was made or is freed by another core.
#[derive(Default)]
pub(super) struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// The lending end: what one ring has out, and the lanes it goes and comes by.
pub(super) struct Lender {
    lend: LaneWriter<Vec<u8>>,
    home: LaneReader<Vec<u8>>,
    out: usize,
    bytes_out: usize,
}

/// The reading end.
pub(super) struct Borrower {
    lent: LaneReader<Vec<u8>>,
    home: LaneWriter<Vec<u8>>,
}

/// A lent buffer while it is read; dropped, also by a panic, it goes home.
pub(super) struct Lease<'b> {
    buffer: Vec<u8>,
    home: &'b mut LaneWriter<Vec<u8>>,
}

pub(super) fn lease_lanes() -> (Lender, Borrower) {
    let (lend, lent) = Lane::new(RING_LEASES_MAX);
    let (home_writer, home) = Lane::new(RING_LEASES_MAX);
    (Lender { lend, home, out: 0, bytes_out: 0 }, Borrower { lent, home: home_writer })
}

impl Spares {
    pub(super) fn new() -> Self {
        Self { buffers: Vec::with_capacity(PORT_SPARES_MAX), bytes: 0 }
    }

    /// An empty buffer with room for `bytes`: the smallest spare that has it, or a new one.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let roomy = self.buffers.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= bytes);
        match roomy.min_by_key(|(_, buffer)| buffer.capacity()) {
            Some((index, _)) => {
                let buffer = self.buffers.swap_remove(index);
                self.bytes -= buffer.capacity();
                buffer
            }
            // Powers of two, so that payloads of about the same size can have each other's buffers. A payload larger
            // than what is kept anyway gets just what it needs.
            None if bytes <= PORT_SPARE_BYTES_MAX => Vec::with_capacity(bytes.next_power_of_two()),
            None => Vec::with_capacity(bytes),
        }
    }

    /// Keeps a buffer for reuse, or frees it if enough are kept: here, on the core that made it. Of too many the
    /// smallest goes, or the stock would fill with buffers that never fit.
    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        buffer.clear();
        if self.buffers.len() == PORT_SPARES_MAX
            && let Some(smallest) = self.buffers.iter_mut().min_by_key(|spare| spare.capacity())
            && smallest.capacity() < buffer.capacity()
            && self.bytes - smallest.capacity() + buffer.capacity() <= PORT_SPARE_BYTES_MAX
        {
            self.bytes -= smallest.capacity();
            self.bytes += buffer.capacity();
            *smallest = buffer;
        } else if self.buffers.len() < PORT_SPARES_MAX && self.bytes + buffer.capacity() <= PORT_SPARE_BYTES_MAX {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

impl Lender {
    /// How many buffers are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Takes in what has come home.
    pub(super) fn gather(&mut self, spares: &mut Spares) {
        while self.out > 0 {
            let Ok(buffer) = self.home.pop() else { return };
            self.out -= 1;
            self.bytes_out -= buffer.capacity();
            spares.keep(buffer);
        }
    }

    /// Whether a buffer of so many bytes may go out now.
    pub(super) fn grants(&self, bytes: usize) -> bool {
        self.out < RING_LEASES_MAX && self.bytes_out + bytes <= RING_LEASED_BYTES_MAX
    }

    /// Sends out a buffer that was granted.
    pub(super) fn lend(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.grants(buffer.capacity()), "a lease was sent that was not granted");
        self.out += 1;
        self.bytes_out += buffer.capacity();
        if self.lend.push(buffer).is_err() {
            unreachable!("the lend lane holds as many buffers as may be out");
        }
    }
}

impl Borrower {
    /// The next lease: the one of the parcel being read, because both travel in order and the lease first.
    pub(super) fn next(&mut self) -> Lease<'_> {
        let Ok(buffer) = self.lent.pop() else { unreachable!("a lease is lent before its parcel is published") };
        Lease { buffer, home: &mut self.home }
    }
}

impl std::ops::Deref for Lease<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let sent = self.home.push(buffer);
        debug_assert!(sent.is_ok(), "the home lane holds as many buffers as may be out");
    }
}
