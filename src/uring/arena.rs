//! The memory that the kernel may read or write: receive buffers, buffers being sent, addresses of peers and servers.
//!
//! Not here: when any of it is used (`driver`).
//! Invariant: nothing of the arena is freed or moved while the ring that knows it is open. The driver declares its
//! ring before its arena, so it is closed first; a buffer being sent leaves the arena only with its terminal
//! completion.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types;
use socket2::SockAddr;

/// Pages from the kernel, zeroed, given back on drop.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: needed because of the pointer. The pages belong to this value alone and to no thread.
unsafe impl Send for Pages {}

impl Pages {
    fn map(bytes: usize) -> io::Result<Pages> {
        // SAFETY: needed to get memory aligned to pages that costs nothing until touched. An anonymous private mapping
        // at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Pages { start, bytes })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: needed to give the pages back. They were mapped by `map` with this size, and nobody else has them.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A buffer on its way to the kernel's send.
struct Sending {
    buffer: Vec<u8>,
    sent: usize,
}

/// Where an accept writes the peer's address.
#[repr(C)]
pub(super) struct PeerAddress {
    pub(super) storage: libc::sockaddr_storage,
    pub(super) length: libc::socklen_t,
}

/// What the kernel reads and writes while a connection is opened.
struct Outbound {
    /// The process's descriptor; the slot of the direct one once that is installed.
    descriptor: i32,
    server: SockAddr,
}

/// As much of the bytes as one operation can send; the kernel counts in 31 bits.
fn at_once(bytes: &[u8]) -> (*const u8, u32) {
    (bytes.as_ptr(), bytes.len().min(1 << 30) as u32)
}

/// All memory of one core that the kernel may touch.
pub(super) struct Arena {
    /// The ring through which receive buffers are provided; `entries` is a power of two.
    ring: Pages,
    entries: u16,
    tail: u16,
    published: u16,
    /// Receive buffers, in chunks because the number grows; a buffer's id is its index over all chunks.
    chunks: Vec<Pages>,
    starts: Vec<NonNull<u8>>,
    buffer_bytes: usize,
    sends: Vec<Option<Sending>>,
    sends_free: Vec<u32>,
    peers: Box<[PeerAddress]>,
    /// By the number of the attempt. Each in memory of its own, which stays where it is when more are added.
    outbound: Vec<Option<Box<Outbound>>>,
    /// Where the read of the eventfd puts its count.
    pub(super) foreign: Box<u64>,
    /// The time of the alarm that is being set.
    alarm: Box<types::Timespec>,
    #[cfg(test)]
    pub(super) on_drop: Option<Box<dyn FnOnce() + Send>>,
}

#[cfg(test)]
impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(look) = self.on_drop.take() {
            look();
        }
    }
}

// SAFETY: needed because of `starts`, whose pointers lead into `chunks`, which moves along with them.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena whose buffer ring has room for `entries` (a power of two) buffers of `buffer_bytes` each; none exist
    /// yet.
    pub(super) fn new(entries: u16, buffer_bytes: usize) -> io::Result<Arena> {
        assert!(entries.is_power_of_two(), "the kernel wants a power of two, not {entries}");
        Ok(Arena {
            ring: Pages::map(usize::from(entries) * size_of::<types::BufRingEntry>())?,
            entries,
            tail: 0,
            published: 0,
            chunks: Vec::new(),
            starts: Vec::new(),
            buffer_bytes,
            sends: Vec::new(),
            sends_free: Vec::new(),
            peers: Box::new([]),
            outbound: Vec::new(),
            foreign: Box::new(0),
            alarm: Box::default(),
            #[cfg(test)]
            on_drop: None,
        })
    }

    /// This time, where the kernel reads it when the alarm's operation is submitted.
    pub(super) fn alarm_in(&mut self, time: Duration) -> *const types::Timespec {
        *self.alarm = time.into();
        &raw const *self.alarm
    }

    /// The buffer ring's address, for registration.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.start.as_ptr() as u64
    }

    /// How many receive buffers exist.
    pub(super) fn buffers(&self) -> usize {
        self.starts.len()
    }

    /// How many may exist.
    pub(super) fn buffers_max(&self) -> usize {
        usize::from(self.entries)
    }

    /// Makes up to `more` further receive buffers and provides them; returns how many there was room for.
    pub(super) fn grow(&mut self, more: usize) -> io::Result<usize> {
        let more = more.min(self.buffers_max() - self.buffers());
        if more == 0 {
            return Ok(0);
        }
        let chunk = Pages::map(more * self.buffer_bytes)?;
        for index in 0..more {
            let id = self.starts.len() as u16;
            // SAFETY: needed to find the buffer in its chunk, which is `more * buffer_bytes` long.
            self.starts.push(unsafe { chunk.start.add(index * self.buffer_bytes) });
            self.give_back(id);
        }
        self.chunks.push(chunk);
        Ok(more)
    }

    /// Provides a buffer to the kernel (again). Seen by the kernel after `publish`.
    ///
    /// The caller no longer holds a slice of it: from `publish` on the kernel may write to it.
    pub(super) fn give_back(&mut self, id: u16) {
        let start = self.starts[usize::from(id)];
        let mask = self.entries - 1;
        // SAFETY: needed because the kernel shares this memory. The masked index lies in the mapping; entries between
        // the kernel's head and our tail are not written because no more buffers exist than the ring has entries.
        let entry = unsafe {
            let base = self.ring.start.as_ptr().cast::<types::BufRingEntry>();
            &mut *base.add(usize::from(self.tail & mask))
        };
        entry.set_addr(start.as_ptr() as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given back.
    pub(super) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: needed because the tail shares a word with the ring's first entry (kernel ABI). The pointer is inside
        // the mapping and aligned to 2; the kernel reads it by an acquire load, so an atomic store pairs with it.
        unsafe {
            let tail = types::BufRingEntry::tail(self.ring.start.as_ptr().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// The first `length` bytes of a buffer that the kernel filled and handed to us.
    pub(super) fn filled(&mut self, id: u16, length: usize) -> &mut [u8] {
        let length = length.min(self.buffer_bytes);
        let start = self.starts[usize::from(id)];
        // SAFETY: needed to read what the kernel wrote. The buffer is `buffer_bytes` long, was zeroed when mapped, and
        // is ours between its completion and `give_back`; `&mut self` keeps it from being given back while the slice
        // lives.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length) }
    }

    /// Takes a buffer that is to be sent; returns its place, and what the kernel needs.
    pub(super) fn begin_send(&mut self, buffer: Vec<u8>) -> (u32, *const u8, u32) {
        let (start, length) = at_once(&buffer);
        let sending = Some(Sending { buffer, sent: 0 });
        let place = match self.sends_free.pop() {
            Some(place) => {
                self.sends[place as usize] = sending;
                place
            }
            None => {
                self.sends.push(sending);
                (self.sends.len() - 1) as u32
            }
        };
        (place, start, length)
    }

    /// Notes that `bytes` more of a buffer were sent; what is left to send, if anything.
    pub(super) fn continue_send(&mut self, place: u32, bytes: usize) -> Option<(*const u8, u32)> {
        let sending = self.sends[place as usize].as_mut().expect("a send in flight has its buffer in the arena");
        sending.sent += bytes;
        let rest = sending.buffer.get(sending.sent..).filter(|rest| !rest.is_empty())?;
        Some(at_once(rest))
    }

    /// Gives the buffer of a send back, after its terminal completion.
    pub(super) fn end_send(&mut self, place: u32) -> Vec<u8> {
        self.sends_free.push(place);
        self.sends[place as usize].take().expect("a send in flight has its buffer in the arena").buffer
    }

    /// How many buffers are with the kernel for sending.
    pub(super) fn sends_in_flight(&self) -> usize {
        self.sends.len() - self.sends_free.len()
    }

    /// Gives up memory that the kernel may still touch: better lost than handed to somebody else.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.chunks));
        std::mem::forget(std::mem::take(&mut self.sends));
        std::mem::forget(std::mem::take(&mut self.peers));
        std::mem::forget(std::mem::take(&mut self.outbound));
        std::mem::forget(std::mem::take(&mut self.foreign));
    }

    /// Takes what attempt number `index` to connect needs; returns where its descriptor stands, for the kernel to put
    /// the slot of the direct one there.
    pub(super) fn begin_connect(&mut self, index: u32, descriptor: RawFd, server: SockAddr) -> *const i32 {
        let index = index as usize;
        if index >= self.outbound.len() {
            self.outbound.resize_with(index + 1, || None);
        }
        let outbound = self.outbound[index].insert(Box::new(Outbound { descriptor, server }));
        &raw mut outbound.descriptor
    }

    /// The slot that the kernel gave to attempt number `index`, and where its server's address stands.
    pub(super) fn installed(&self, index: u32) -> (u32, *const libc::sockaddr, libc::socklen_t) {
        let outbound =
            self.outbound[index as usize].as_ref().expect("an attempt in flight has its address in the arena");
        (outbound.descriptor as u32, outbound.server.as_ptr().cast(), outbound.server.len())
    }

    /// Forgets attempt number `index`, of which nothing is in flight any more.
    pub(super) fn end_connect(&mut self, index: u32) {
        if let Some(outbound) = self.outbound.get_mut(index as usize) {
            *outbound = None;
        }
    }

    /// Makes room for so many accepts at once. Only before the first of them.
    pub(super) fn reserve_peers(&mut self, count: usize) {
        assert!(self.peers.is_empty(), "accepts are in flight; their addresses cannot move");
        self.peers = (0..count)
            .map(|_| {
                // SAFETY: needed because the type has no other constructor. All-zero bytes are a valid sockaddr_storage
                // (family AF_UNSPEC).
                let storage = unsafe { std::mem::zeroed() };
                PeerAddress { storage, length: 0 }
            })
            .collect();
    }

    /// Prepares the address of accept number `index`.
    pub(super) fn peer_slot(&mut self, index: usize) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let peer = &mut self.peers[index];
        peer.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        ((&raw mut peer.storage).cast(), &raw mut peer.length)
    }

    /// The address that accept number `index` wrote; `None` for Unix sockets.
    pub(super) fn peer(&self, index: usize) -> Option<SocketAddr> {
        let peer = &self.peers[index];
        // SAFETY: needed to read the address by its family. The kernel wrote `length` bytes of a sockaddr of the family
        // that stands in it; the storage is large enough and aligned for both.
        unsafe {
            match i32::from(peer.storage.ss_family) {
                libc::AF_INET => {
                    let address = &*(&raw const peer.storage).cast::<libc::sockaddr_in>();
                    let ip = std::net::Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                    Some(SocketAddr::from((ip, u16::from_be(address.sin_port))))
                }
                libc::AF_INET6 => {
                    let address = &*(&raw const peer.storage).cast::<libc::sockaddr_in6>();
                    let ip = std::net::Ipv6Addr::from(address.sin6_addr.s6_addr);
                    Some(SocketAddr::from((ip, u16::from_be(address.sin6_port))))
                }
                _ => None,
            }
        }
    }
}
