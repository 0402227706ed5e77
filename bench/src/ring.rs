//! One io_uring with a table of direct descriptors and a ring of provided buffers: what the floor and the load share.
//!
//! It knows no protocol and no connection. It is not corelane's driver: it has no credit, no generations and no timers,
//! because both of its users close a connection only when nothing of it is armed, or not at all.
//!
//! Invariant: the memory of the provided buffers is mapped once and never unmapped, so the kernel may write to it until
//! the process ends; a buffer is read only between the completion that named it and the call that gives it back.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};

use crate::sys;

/// Submission queue entries: one batch. More wait in `backlog`.
const SUBMISSIONS: u32 = 4096;
/// Completion queue entries: more than one turn can make, because an overflow costs an allocation each in the kernel.
const COMPLETIONS: u32 = 65_536;
/// Provided buffers; a power of two, and at most the largest the kernel takes (32,768).
const BUFFERS: u16 = 4096;
/// Bytes of each.
const BUFFER_BYTES: usize = 4096;

/// A completion, copied out of the ring.
#[derive(Clone, Copy)]
pub struct Done {
    pub tag: u64,
    pub result: i32,
    flags: u32,
}

impl Done {
    /// The provided buffer that this completion filled.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// Whether the operation stays armed.
    pub fn armed(&self) -> bool {
        cqueue::more(self.flags)
    }
}

/// The provided buffers of one ring (group 0).
pub struct Buffers {
    entries: *mut types::BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(uring: &IoUring) -> io::Result<Self> {
        let entries = sys::pages_forever(usize::from(BUFFERS) * size_of::<types::BufRingEntry>())?.cast();
        let bytes = sys::pages_forever(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: `entries` is page aligned, holds BUFFERS entries and is never unmapped.
        unsafe { uring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0)? };
        let mut buffers = Self { entries, bytes, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.stage(buffer));
        buffers.publish();
        Ok(buffers)
    }

    /// The first `length` bytes of a buffer that a completion named.
    pub fn filled(&self, buffer: u16, length: i32) -> &[u8] {
        assert!(
            buffer < BUFFERS && (0..=BUFFER_BYTES as i32).contains(&length),
            "the kernel names buffers of this ring"
        );
        // SAFETY: in bounds by the assertion; the kernel wrote these bytes before the completion and writes no more
        // until the buffer is given back, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.bytes.add(usize::from(buffer) * BUFFER_BYTES), length as usize) }
    }

    /// Puts a buffer back; the kernel sees it at the next `publish`.
    pub fn stage(&mut self, buffer: u16) {
        // SAFETY: the index is below BUFFERS; the slot at the tail is ours, since at most BUFFERS buffers exist and
        // each is in the ring at most once, so the kernel's head cannot have reached it.
        let entry = unsafe { &mut *self.entries.add(usize::from(self.tail & (BUFFERS - 1))) };
        // SAFETY: in bounds of the mapping, as above.
        entry.set_addr(unsafe { self.bytes.add(usize::from(buffer) * BUFFER_BYTES) } as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every staged buffer.
    pub fn publish(&mut self) {
        // SAFETY: `entries` is the base of the registered ring; the tail is an aligned u16 inside its first entry that
        // only this thread writes and the kernel reads. Release makes the entries visible before the tail.
        unsafe {
            let tail = types::BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// A ring, its backlog of submissions and its buffers.
pub struct Ring {
    uring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    pub buffers: Buffers,
    slots: u32,
}

impl Ring {
    /// Makes a ring for this thread with `slots` direct descriptors. Only the thread that makes it may use it.
    pub fn new(slots: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(|error| told(error, "io_uring_setup (kernel.io_uring_disabled, or a kernel before 6.1?)"))?;
        uring.submitter().register_files_sparse(slots).map_err(|error| {
            told(error, &format!("a table of {slots} direct descriptors (RLIMIT_NOFILE bounds it)"))
        })?;
        let buffers = Buffers::register(&uring)?;
        Ok(Self { uring, backlog: VecDeque::new(), buffers, slots })
    }

    /// How many direct descriptors the table holds.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Queues an operation for the next `turn`.
    ///
    /// # Safety
    ///
    /// Memory the operation points to must stay valid and untouched until its terminal completion.
    pub unsafe fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
    }

    /// Puts a file into a slot of the table; the caller may close its own descriptor afterwards.
    pub fn install(&self, slot: u32, file: &impl std::os::fd::AsRawFd) -> io::Result<()> {
        self.uring.submitter().register_files_update(slot, &[file.as_raw_fd()]).map(drop)
    }

    /// Submits what is queued, waits for at least one completion (not at all with `Some(ZERO)`, for ever with `None`)
    /// and moves all there are to `done`.
    pub fn turn(&mut self, wait: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        self.buffers.publish();
        loop {
            self.fill();
            let last = self.backlog.is_empty();
            match if last { self.enter(wait) } else { self.enter(Some(Duration::ZERO)) } {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // ETIME: the wait is over. EINTR: a signal. EBUSY and EAGAIN: the kernel wants completions taken
                    // first.
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
            done.extend(self.uring.completion().map(|entry| Done {
                tag: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            }));
            if last {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` made its caller promise that the memory of the operation stays valid.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let queued = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        match wait {
            None => submitter.submit_and_wait(1).map(drop),
            Some(Duration::ZERO) => {
                // SAFETY: no argument is passed, so the kernel reads no memory of ours beside the queues. GETEVENTS is
                // needed: deferred task work runs in no other way.
                unsafe { submitter.enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None) }.map(drop)
            }
            Some(wait) => {
                let until = types::Timespec::from(wait);
                submitter.submit_with_args(1, &types::SubmitArgs::new().timespec(&until)).map(drop)
            }
        }
    }
}

fn told(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
