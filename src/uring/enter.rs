//! The one system call of a turn, and the registration that makes it cheaper.
//!
//! Not here: when to enter and what with (`driver`). The crate's own calls are not used: its registration belongs to a
//! borrowed handle and would be forgotten with it, while the kernel keeps it.
//! Invariant: a registration is taken back before the ring is dropped by the thread that made it, because it holds the
//! ring open for as long as that thread lives.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::Timespec;

// From the kernel's `io_uring.h`.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Longest wait: the kernel takes a number of seconds with its top bit set for a time in the past.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1 << 30);

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Registration {
    offset: u32,
    reserved: u32,
    value: u64,
}

/// A way into the kernel for one ring, used by one thread.
pub(super) struct Gate {
    ring: RawFd,
    /// The ring's index among the descriptors registered by this thread.
    registered: Option<u32>,
}

impl Gate {
    /// By the ring's descriptor, which the kernel looks up every time.
    pub(super) fn new(ring: RawFd) -> Gate {
        Gate { ring, registered: None }
    }

    /// Registers the descriptor for the calling thread, which has room for 16 of them.
    pub(super) fn register(&mut self) -> io::Result<()> {
        let mut registration = Registration { offset: u32::MAX, reserved: 0, value: self.ring as u64 };
        self.change(REGISTER_RING_FDS, &mut registration)?;
        self.registered = Some(registration.offset);
        Ok(())
    }

    /// Takes the registration back, on the thread that made it.
    pub(super) fn unregister(&mut self) -> io::Result<()> {
        let Some(offset) = self.registered.take() else { return Ok(()) };
        self.change(UNREGISTER_RING_FDS, &mut Registration { offset, reserved: 0, value: 0 })
    }

    fn change(&self, what: u32, registration: &mut Registration) -> io::Result<()> {
        // SAFETY: needed because the crate does not keep what it registers. The kernel reads and writes one structure
        // of its own layout, which lives on this stack until the call returns.
        let done = unsafe { libc::syscall(libc::SYS_io_uring_register, self.ring, what, &raw mut *registration, 1) };
        if done == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Submits so many operations and runs what the kernel has put off; with `sleep`, then waits for one completion, up
    /// to the inner duration.
    pub(super) fn enter(&self, submit: u32, sleep: Option<Option<Duration>>) -> io::Result<()> {
        let (descriptor, by) = match self.registered {
            Some(index) => (index as i32, ENTER_REGISTERED_RING),
            None => (self.ring, 0),
        };
        let timespec = sleep.flatten().map(|limit| Timespec::from(limit.min(WAIT_MAX)));
        let argument = WaitArgument {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: 0,
            timespec: timespec.as_ref().map_or(0, |timespec| std::ptr::from_ref(timespec) as u64),
        };
        // SAFETY: needed because this is a system call. The argument and the time it points to live on this stack until
        // the call returns; operations point to memory of which `Driver::push` says why it lives.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                descriptor,
                submit,
                u32::from(sleep.is_some()),
                ENTER_GETEVENTS | ENTER_EXT_ARG | by,
                &raw const argument,
                size_of::<WaitArgument>(),
            )
        };
        if entered < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_registered_descriptor_is_what_enters_go_by_until_it_is_taken_back() {
        let ring: io_uring::IoUring = io_uring::IoUring::builder().build(2).expect("a ring");
        let mut gate = Gate::new(ring.as_raw_fd());
        gate.enter(0, None).expect("by its descriptor");
        // A thread has room for 16: one that is kept would show.
        for _ in 0..40 {
            gate.register().expect("room");
            let by_index = Gate { ring: -1, registered: gate.registered };
            by_index.enter(0, None).expect("by its index alone");
            gate.unregister().expect("it is there");
            assert!(by_index.enter(0, None).is_err(), "and gone");
        }
        gate.unregister().expect("nothing to do");
    }

    #[test]
    fn a_wait_without_anything_to_come_ends_in_time() {
        let ring: io_uring::IoUring = io_uring::IoUring::builder().build(2).expect("a ring");
        let gate = Gate::new(ring.as_raw_fd());
        let start = std::time::Instant::now();
        let ended = gate.enter(0, Some(Some(Duration::from_millis(20)))).expect_err("nothing came");
        assert_eq!(ended.raw_os_error(), Some(libc::ETIME));
        assert!(start.elapsed() >= Duration::from_millis(19));
    }
}
