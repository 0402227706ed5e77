//! What this kernel's io_uring can do, found by trying it, and what an operator switched off by `CORELANE_DISABLE`.
//!
//! Not here: limits of the host (`boot/host`).
//! Invariant: a feature is used only if the probe saw it work in this process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, cqueue, opcode, types};

/// Features that can be switched off, for tests of each fallback and for kernels that misbehave.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Disabled {
    /// What comes by a Unix socket stays with the core that accepts it.
    pub hand_over: bool,
    /// Cores ring each other by eventfd in place of `MSG_RING`.
    pub msg_ring: bool,
    /// No byte limit on a multishot receive.
    pub recv_limit: bool,
    /// Every receive is armed by itself.
    pub recv_multishot: bool,
    /// The ring's descriptor is looked up at every enter.
    pub ring_descriptor: bool,
    /// The kernel spreads connections by its own hash.
    pub steering: bool,
}

/// The names `CORELANE_DISABLE` knows.
const NAMES: [&str; 6] = ["hand-over", "msg-ring", "recv-limit", "recv-multishot", "ring-descriptor", "steering"];

impl Disabled {
    /// Reads a comma-separated list of names.
    ///
    /// # Errors
    /// A name that is not known, as a sentence that lists those which are.
    pub fn parse(list: &str) -> Result<Disabled, String> {
        let mut disabled = Disabled::default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "hand-over" => disabled.hand_over = true,
                "msg-ring" => disabled.msg_ring = true,
                "recv-limit" => disabled.recv_limit = true,
                "recv-multishot" => disabled.recv_multishot = true,
                "ring-descriptor" => disabled.ring_descriptor = true,
                "steering" => disabled.steering = true,
                other => {
                    return Err(format!(
                        "CORELANE_DISABLE names `{other}`, which is no feature; it may list {}",
                        NAMES.join(", ")
                    ));
                }
            }
        }
        Ok(disabled)
    }

    /// Reads the environment variable `CORELANE_DISABLE`.
    ///
    /// # Errors
    /// As `parse`.
    pub fn from_environment() -> Result<Disabled, String> {
        Disabled::parse(&std::env::var("CORELANE_DISABLE").unwrap_or_default())
    }
}

/// What the driver may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// `MSG_RING` of a descriptor, whose receiver is told the slot it came into (6.1.21; before, it is told 0).
    pub hand_over: bool,
    /// `MSG_RING` between rings (5.18).
    pub msg_ring: bool,
    /// A multishot receive that ends by itself after so many bytes (6.18). Without it a receive is armed singly once
    /// a connection has sent much in one turn.
    pub recv_limit: bool,
    /// Multishot receive (6.0).
    pub recv_multishot: bool,
    /// `IORING_REGISTER_RING_FDS` (5.18).
    pub ring_descriptor: bool,
}

/// Why no ring can be had at all.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// io_uring is switched off or forbidden.
    #[error(
        "io_uring is not permitted here ({0}); corelane has no other engine. Check `sysctl kernel.io_uring_disabled` \
         (0 allows it) and the seccomp profile of the container"
    )]
    Forbidden(io::Error),
    /// The kernel is too old for what the driver cannot do without.
    #[error("this kernel's io_uring lacks {missing} ({source}); corelane needs Linux 6.1 or newer")]
    TooOld {
        /// What was tried.
        missing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else, most often memory.
    #[error("could not try out io_uring: {0}")]
    Other(#[from] io::Error),
}

impl Features {
    /// Tries each feature on a ring of its own, on the calling thread.
    ///
    /// # Errors
    /// `ProbeError` if the driver could not run at all.
    pub fn probe(disabled: Disabled) -> Result<Features, ProbeError> {
        let plain = IoUring::new(2).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => ProbeError::Forbidden(error),
            _ => ProbeError::Other(error),
        })?;
        drop(plain);
        let mut ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(8)
            .map_err(|source| ProbeError::TooOld { missing: "SINGLE_ISSUER with DEFER_TASKRUN", source })?;
        ring.submitter()
            .register_files_sparse(1)
            .map_err(|source| ProbeError::TooOld { missing: "sparse direct descriptors", source })?;
        let recv_multishot = !disabled.recv_multishot && receive_works(&mut ring, 0)?;
        let msg_ring = !disabled.msg_ring && message_works(&mut ring)?;
        Ok(Features {
            hand_over: !disabled.hand_over && msg_ring && hand_over_works(&mut ring)?,
            msg_ring,
            recv_limit: !disabled.recv_limit && recv_multishot && receive_works(&mut ring, 4096)?,
            recv_multishot,
            ring_descriptor: !disabled.ring_descriptor && registration_works(&ring),
        })
    }

    /// The names of those that are there.
    pub fn found(&self) -> Vec<&'static str> {
        let features = [
            ("hand-over", self.hand_over),
            ("msg-ring", self.msg_ring),
            ("recv-limit", self.recv_limit),
            ("recv-multishot", self.recv_multishot),
            ("ring-descriptor", self.ring_descriptor),
        ];
        features.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }

    /// One line for each feature that is missing, with what it costs.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if !self.msg_ring {
            lines.push("msg-ring: cores wake each other by eventfd, one system call more per wake-up");
        }
        if !self.hand_over {
            lines.push("hand-over (Linux 6.1.21, with msg-ring): what comes by a Unix socket stays with one core");
        }
        if !self.recv_multishot {
            lines.push("recv-multishot: one more submission per message read, about 0.2 us");
        }
        if !self.recv_limit {
            lines.push(match self.recv_multishot {
                true => "recv-limit (Linux 6.18): a flooding connection may fill more buffers before it is stopped",
                false => "recv-limit (Linux 6.18, with recv-multishot): nothing more than that costs",
            });
        }
        if !self.ring_descriptor {
            lines.push("ring-descriptor: a descriptor look-up at every io_uring_enter");
        }
        lines
    }
}

/// Sets the total number of bytes after which a multishot receive ends by itself: `sqe->optlen`, which the crate has
/// no name for. Kernels that do not know it refuse the operation with EINVAL, which is how the probe tells.
pub(super) fn limit_receive(entry: &mut io_uring::squeue::Entry, bytes: u32) {
    const OPTLEN_OFFSET: usize = 44;
    // SAFETY: needed because `Entry` keeps its fields to itself. An entry is a 64-byte `repr(C)` copy of the kernel's
    // `struct io_uring_sqe`, in which the four bytes at 44 are `optlen` (shared with `splice_fd_in`, unused by
    // receive); they lie inside the entry, are aligned to 4, and any value of theirs is valid.
    unsafe {
        let field = std::ptr::from_mut(entry).cast::<u8>().add(OPTLEN_OFFSET).cast::<u32>();
        field.write(bytes);
    }
}

/// Registers the ring's descriptor, enters by it, and takes it back.
fn registration_works(ring: &IoUring) -> bool {
    let mut gate = super::enter::Gate::new(ring.as_raw_fd());
    gate.register().and_then(|()| gate.enter(0, None)).and_then(|()| gate.unregister()).is_ok()
}

/// Sends a message to another ring; false if the kernel refuses.
fn message_works(ring: &mut IoUring) -> io::Result<bool> {
    let other = IoUring::new(2)?;
    let entry = opcode::MsgRingData::new(types::Fd(other.as_raw_fd()), 0, 1, None).build();
    // SAFETY: needed because an operation may point to memory. This one does not, and ends before the other ring goes.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    Ok(ring.completion().next().is_some_and(|completion| completion.result() >= 0))
}

/// Hands a socket over to another ring, which is to be told that it came into its second slot; false if it is not.
fn hand_over_works(ring: &mut IoUring) -> io::Result<bool> {
    let (socket, _peer) = UnixStream::pair()?;
    let mut other = IoUring::new(2)?;
    other.submitter().register_files_sparse(2)?;
    other.submitter().register_files_update(0, &[socket.as_raw_fd()])?;
    ring.submitter().register_files_update(0, &[socket.as_raw_fd()])?;
    let to = types::Fd(other.as_raw_fd());
    let entry = opcode::MsgRingSendFd::new(to, types::Fixed(0), types::DestinationSlot::auto_target(), 1).build();
    // SAFETY: needed because an operation may point to memory. This one does not, and ends before the other ring goes.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let has_gone = ring.completion().next().is_some_and(|completion| completion.result() >= 0);
    ring.submitter().register_files_update(0, &[-1])?;
    Ok(has_gone && other.completion().next().is_some_and(|completion| completion.result() == 1))
}

/// Receives one byte by a multishot receive with the given total limit (0: none); false if the kernel refuses.
fn receive_works(ring: &mut IoUring, limit: u32) -> io::Result<bool> {
    const ENTRIES: u16 = 1;
    let (ours, theirs) = UnixStream::pair()?;
    io::Write::write_all(&mut &theirs, b"?")?;
    let mut arena = super::arena::Arena::new(ENTRIES, 64)?;
    // SAFETY: the ring of buffers stays mapped until the arena is dropped, after `unregister_buf_ring` below.
    unsafe { ring.submitter().register_buf_ring_with_flags(arena.ring_address(), ENTRIES, 7, 0) }
        .map_err(|error| io::Error::other(format!("registering a buffer ring: {error}")))?;
    arena.grow(1)?;
    arena.publish();
    let mut entry = opcode::RecvMulti::new(types::Fd(ours.as_raw_fd()), 7).build();
    if limit > 0 {
        limit_receive(&mut entry, limit);
    }
    // SAFETY: the socket, the buffers and the ring of buffers outlive the operation: the peer is closed below and the
    // terminal completion awaited before any of them goes.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let first = ring.completion().next();
    let mut works = false;
    let mut armed = false;
    if let Some(completion) = first {
        works = completion.result() == 1;
        armed = cqueue::more(completion.flags());
    }
    drop(theirs);
    while armed {
        ring.submit_and_wait(1)?;
        armed = ring.completion().all(|completion| cqueue::more(completion.flags()));
    }
    ring.submitter().unregister_buf_ring(7)?;
    Ok(works)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_features_are_read_and_unknown_ones_refused_with_the_list() {
        let disabled = Disabled::parse("recv-limit, steering").expect("both are known");
        assert!(disabled.recv_limit && disabled.steering && !disabled.msg_ring);
        let refusal = Disabled::parse("epoll").expect_err("no such feature");
        assert!(refusal.contains("`epoll`") && refusal.contains("recv-multishot"), "{refusal}");
    }

    #[test]
    fn a_disabled_feature_is_not_found() {
        let found = Features::probe(Disabled::default()).expect("io_uring works here");
        assert!(found.recv_multishot && found.msg_ring && found.hand_over);
        let disabled = Disabled { hand_over: true, ..Disabled::default() };
        let alone = Features::probe(disabled).expect("io_uring works here");
        assert_eq!((alone.missing().len(), alone), (1, Features { hand_over: false, ..found }));
        let disabled = Disabled { recv_multishot: true, msg_ring: true, ..Disabled::default() };
        let found = Features::probe(disabled).expect("io_uring works here");
        assert!(!found.recv_multishot && !found.recv_limit && !found.msg_ring && !found.hand_over);
        assert_eq!(found.missing().len(), 4);
        let named = found.found();
        assert!(!named.iter().any(|name| ["msg-ring", "recv-limit", "recv-multishot"].contains(name)), "{named:?}");
        assert_eq!(named.contains(&"ring-descriptor"), found.ring_descriptor);
    }
}
