//! Whether anybody is left at the other end of a descriptor that is written to.
//!
//! Not here: reading and writing (`uring`).
//! Invariant: asking neither waits nor takes anything.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether nobody can read any more what is written to the descriptor: of a pipe the last reader has gone, of a socket
/// the peer.
pub fn is_without_reader(fd: BorrowedFd<'_>) -> bool {
    let mut descriptor = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: needed because the standard library does not poll. The kernel reads and writes one pollfd, ours alone.
    let ready = unsafe { libc::poll(&raw mut descriptor, 1, 0) };
    ready == 1 && descriptor.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_reader_is_there_until_it_has_gone() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(!is_without_reader(writer.as_fd()));
        drop(reader);
        assert!(is_without_reader(writer.as_fd()));
        let (one, other) = UnixStream::pair().expect("a pair");
        assert!(!is_without_reader(one.as_fd()));
        other.shutdown(std::net::Shutdown::Write).expect("a socket");
        assert!(!is_without_reader(one.as_fd()), "it says no more, and still hears");
        drop(other);
        assert!(is_without_reader(one.as_fd()));
    }
}
