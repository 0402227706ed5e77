//! An eventfd: a counter that wakes whoever waits for it. The bell of the threads that have no ring.
//!
//! Not here: when to ring (`ring` decides) and how to wait (tokio's `AsyncFd`, or a read in `uring`).
//! Invariant: a write is never lost; several before one drain count as one wake-up whose value is their sum.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The counter. Shared by reference: writing and draining need no exclusive access.
#[derive(Debug)]
pub struct EventFd {
    file: File,
}

impl EventFd {
    /// For a waiter that polls: [`drain`](Self::drain) never waits. Close-on-exec.
    ///
    /// # Errors
    /// When the process or the host is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Self::with_flags(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
    }

    /// For a waiter that keeps a read in its ring, or a thread of its own in [`drain`](Self::drain): the descriptor
    /// blocks. (On Linux 6.18 a ring's read of one that does not block waits just the same, a test in `uring` shows it;
    /// this way does not rest on that.) Close-on-exec.
    ///
    /// # Errors
    /// When the process or the host is out of descriptors.
    pub fn for_ring() -> io::Result<Self> {
        Self::with_flags(libc::EFD_CLOEXEC)
    }

    fn with_flags(flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: needed because the standard library has no eventfd. The call takes two integers and touches no
        // memory.
        let fd = unsafe { libc::eventfd(0, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: needed to own what the kernel returned. It is open, and nobody else knows its number yet.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: fd.into() })
    }

    /// Adds one, which wakes the waiter. A counter that is full already has a waiter to wake, so that counts as done.
    ///
    /// # Errors
    /// None that a Linux kernel is known to give.
    pub fn write(&self) -> io::Result<()> {
        match (&self.file).write(&1_u64.to_ne_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map(drop),
        }
    }

    /// Waits until there was a write, for so long at most, and takes it.
    ///
    /// # Errors
    /// None that a Linux kernel is known to give.
    pub fn wait(&self, patience: std::time::Duration) -> io::Result<()> {
        let mut descriptor = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time = libc::timespec {
            tv_sec: patience.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(patience.subsec_nanos()),
        };
        // SAFETY: needed because the standard library does not poll. One pollfd and one timespec are handed over, both
        // live until the call returns, and there is no signal mask.
        let ready = unsafe { libc::ppoll(&raw mut descriptor, 1, &raw const time, std::ptr::null()) };
        if ready > 0 {
            self.drain()?;
        }
        Ok(())
    }

    /// Takes the sum of the writes since the last drain; 0 if there was none.
    ///
    /// # Errors
    /// None that a Linux kernel is known to give.
    pub fn drain(&self) -> io::Result<u64> {
        let mut sum = [0; 8];
        match (&self.file).read(&mut sum) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result.map(|_| u64::from_ne_bytes(sum)),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(eventfd: EventFd) -> Self {
        eventfd.file.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_add_up_until_they_are_drained() {
        let bell = EventFd::new().expect("a descriptor");
        assert_eq!(bell.drain().expect("does not wait"), 0);
        bell.write().expect("room");
        bell.write().expect("room");
        assert_eq!(bell.drain().expect("ready"), 2);
        assert_eq!(bell.drain().expect("does not wait"), 0);
    }

    #[test]
    fn a_full_counter_still_counts_as_rung() {
        let bell = EventFd::new().expect("a descriptor");
        (&bell.file).write_all(&(u64::MAX - 1).to_ne_bytes()).expect("the largest value");
        bell.write().expect("the waiter is woken anyway");
        assert_eq!(bell.drain().expect("ready"), u64::MAX - 1);
    }

    #[test]
    fn a_blocking_one_waits_for_its_writer() {
        let bell = EventFd::for_ring().expect("a descriptor");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bell.drain().expect("woken"));
            std::thread::sleep(std::time::Duration::from_millis(5));
            bell.write().expect("room");
            assert_eq!(waiter.join().expect("no panic"), 1);
        });
    }
}
