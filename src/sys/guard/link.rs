//! The link between two of the processes: whole messages, in order, descriptors along with them, and an end that the
//! kernel announces when the other process is gone.
//!
//! Not here: what is said (`message`). Invariant: neither end waits for the other: what cannot be sent yet is kept, and
//! what is kept is bounded by the children there may be, each of which is spoken of a few times.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Socket, Type};

use super::process::Interest;
use crate::limits::CHILD_COMMAND_BYTES_MAX;

/// Most bytes of a message: the longest command, and what stands around it.
const MESSAGE_BYTES_MAX: usize = CHILD_COMMAND_BYTES_MAX + 1024;
/// Most descriptors that come along with one message: a child's three pipes.
const DESCRIPTORS_MAX: usize = 3;
/// Room for them and their header, in words, for the header's alignment.
const CONTROL_WORDS: usize = 8;

const _: () = {
    // SAFETY: these two only calculate, from one number.
    let (space, length) = unsafe {
        let bytes = (DESCRIPTORS_MAX * size_of::<RawFd>()) as u32;
        (libc::CMSG_SPACE(bytes), libc::CMSG_LEN(bytes))
    };
    assert!(length <= space && space as usize <= CONTROL_WORDS * size_of::<u64>());
};

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

/// What there is to hear.
#[derive(Debug)]
pub enum Heard {
    /// A message, and what came along; fewer than were sent if there was no room for them here.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other end is gone, or has said that it will send no more.
    End,
}

impl Link {
    /// Both ends; each is closed when a program is executed.
    pub fn pair() -> io::Result<(Link, Link)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let end = |socket| Link { socket, unsent: VecDeque::new() };
        Ok((end(one), end(other)))
    }

    /// Sends, at once or when there is room: see [`flush`](Self::flush). To an end that is gone nothing is sent.
    pub fn send(&mut self, message: Vec<u8>, along: Vec<OwnedFd>) {
        assert!(!message.is_empty(), "an empty message would be taken for the end");
        self.unsent.push_back((message, along));
        self.flush();
    }

    /// Sends what is kept, as far as there is room.
    pub fn flush(&mut self) {
        while let Some((message, along)) = self.unsent.front() {
            match send(&self.socket, message, along) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // No room for the message, or, if the other end is slow to take them, for more descriptors on their
                // way.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    return;
                }
                // Nobody is there to hear it; which is heard as the end.
                Err(_) => return self.unsent.clear(),
            }
            self.unsent.pop_front();
        }
    }

    /// Whether something is kept, so that it is worth waiting for room.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What is to be waited for by who wants to hear.
    pub fn interest(&self) -> Interest {
        if self.has_unsent() { Interest::Both } else { Interest::Read }
    }

    /// Says that nothing more will be sent; goes on hearing.
    pub fn finish(&self) {
        // It fails only if the other end is gone, which is heard as well.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next message.
    pub fn hear(&self) -> Heard {
        loop {
            match receive(&self.socket) {
                Ok((message, _)) if message.is_empty() => return Heard::End,
                Ok((message, along)) => return Heard::Message(message, along),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(_) => return Heard::End,
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory for descriptors that come along, aligned as their header wants it.
struct Control([u64; CONTROL_WORDS]);

fn message_of(text: &mut libc::iovec, control: &mut Control, control_bytes: usize) -> libc::msghdr {
    // SAFETY: the header of a message is integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = text;
    header.msg_iovlen = 1;
    if control_bytes > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control_bytes as _;
    }
    header
}

fn send(socket: &Socket, message: &[u8], along: &[OwnedFd]) -> io::Result<()> {
    assert!(along.len() <= DESCRIPTORS_MAX, "a child's three pipes at most");
    let mut text = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    let mut control = Control([0; CONTROL_WORDS]);
    let bytes = size_of_val(along);
    // SAFETY: it only calculates, from one number.
    let space = if along.is_empty() { 0 } else { unsafe { libc::CMSG_SPACE(bytes as u32) as usize } };
    let header = message_of(&mut text, &mut control, space);
    if !along.is_empty() {
        // SAFETY: needed because the standard library passes no descriptors. The header names `control`, aligned and,
        // as asserted above, with room for one header and three descriptors; both are written within it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
            let numbers = libc::CMSG_DATA(first).cast::<RawFd>();
            for (at, fd) in along.iter().enumerate() {
                numbers.add(at).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: needed because the standard library passes no descriptors. The kernel reads the message, which `text`
    // names, and the control block, which the header names; both outlive the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &Socket) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = vec![0; MESSAGE_BYTES_MAX];
    let mut text = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
    let mut control = Control([0; CONTROL_WORDS]);
    let mut header = message_of(&mut text, &mut control, CONTROL_WORDS * size_of::<u64>());
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: needed because the standard library passes no descriptors. The kernel writes into `message`, which `text`
    // names with its length, and into the control block, which the header names with its length.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut along = Vec::new();
    // SAFETY: needed because the standard library passes no descriptors. The kernel has filled in the control block: a
    // header is followed by as many descriptors as its length says. Each is open, and nobody else knows its number yet.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(control) = next.as_ref() {
            if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
                let bytes = control.cmsg_len - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(next).cast::<RawFd>();
                for at in 0..bytes / size_of::<RawFd>() {
                    along.push(OwnedFd::from_raw_fd(numbers.add(at).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than any that is sent"));
    }
    message.truncate(received);
    Ok((message, along))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn message(link: &Link) -> (Vec<u8>, Vec<OwnedFd>) {
        match link.hear() {
            Heard::Message(message, along) => (message, along),
            other => panic!("{other:?} instead of a message"),
        }
    }

    #[test]
    fn messages_arrive_whole_and_descriptors_with_them() {
        let (mut one, other) = Link::pair().expect("descriptors");
        assert!(matches!(other.hear(), Heard::Nothing));
        let (mut reader, writer) = io::pipe().expect("descriptors");
        let (reader2, writer2) = io::pipe().expect("descriptors");
        one.send(b"first".to_vec(), Vec::new());
        one.send(b"second".to_vec(), vec![writer.into(), reader2.into(), writer2.into()]);
        one.send(vec![b'x'; MESSAGE_BYTES_MAX], Vec::new());
        assert_eq!(message(&other).0, b"first");
        let (text, along) = message(&other);
        assert_eq!((text.as_slice(), along.len()), (&b"second"[..], 3));
        std::fs::File::from(along.into_iter().next().expect("three")).write_all(b"through").expect("it is open");
        let mut through = String::new();
        reader.read_to_string(&mut through).expect("the only writer is closed");
        assert_eq!(through, "through", "the descriptor is the one that was sent, and there is no other");
        assert_eq!(message(&other).0.len(), MESSAGE_BYTES_MAX);
        drop(one);
        assert!(matches!(other.hear(), Heard::End));
    }

    #[test]
    fn what_has_no_room_is_kept_and_nobody_waits() {
        let (mut one, other) = Link::pair().expect("descriptors");
        for number in 0..2_000_u32 {
            one.send(number.to_le_bytes().to_vec(), Vec::new());
        }
        assert!(one.has_unsent());
        for number in 0..2_000_u32 {
            one.flush();
            assert_eq!(message(&other).0, number.to_le_bytes());
        }
        assert!(!one.has_unsent());
    }

    #[test]
    fn who_has_finished_still_hears() {
        let (mut one, mut other) = Link::pair().expect("descriptors");
        one.send(b"last".to_vec(), Vec::new());
        one.finish();
        assert_eq!(message(&other).0, b"last");
        assert!(matches!(other.hear(), Heard::End));
        other.send(b"answer".to_vec(), Vec::new());
        assert_eq!(message(&one).0, b"answer");
        drop(other);
        assert!(matches!(one.hear(), Heard::End));
        one.send(b"to nobody".to_vec(), Vec::new());
        assert!(!one.has_unsent());
    }
}
