//! Buffers of one core that are used again: of answers, of what connections have not read, of parcels to other cores.
//!
//! Invariant: what is taken is empty; how many are kept, and how large, is bounded.

/// Buffers kept for the next answers, and the largest that is kept: growing by doubling, a buffer has up to twice what
/// an answer with 8 KiB of payload fills.
const BUFFERS_MAX: usize = 128;
const BUFFER_BYTES_MAX: usize = 2 * 9 * 1024;

/// Empty buffers.
#[derive(Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty buffer, with memory of an earlier one if there is such.
    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// A buffer that holds these parts.
    pub fn filled(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let mut buffer = self.take();
        parts.iter().for_each(|part| buffer.extend_from_slice(part));
        buffer
    }

    /// A buffer with the same in it. One that could not be kept and is nearly empty goes: what is left of a long
    /// message would hold the room of all of it.
    pub fn fitted(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        if buffer.capacity() <= BUFFER_BYTES_MAX || buffer.len() > buffer.capacity() / 4 {
            return buffer;
        }
        self.filled(&[&buffer])
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if self.free.len() < BUFFERS_MAX && (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}
