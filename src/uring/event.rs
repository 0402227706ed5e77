//! What the driver tells its owner: events, why a stream ended, leases of filled buffers, counts.
//!
//! Not here: when any of it happens (`driver` and its parts).
//! Invariant: after `Closed` no event names the stream again; a buffer given to `send` comes back in exactly one
//! `Sent`; a `connect` is answered by exactly one `Connected`.

use std::net::SocketAddr;

use crate::ids::ConnectionId;

/// Why a stream's receiving side is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The peer closed its side.
    Eof,
    /// The kernel's error number.
    Error(i32),
}

/// A filled receive buffer. It must go back by `Driver::release` in the turn in which it came.
#[derive(Debug)]
#[must_use = "a lease that is not released is a buffer lost"]
pub struct Lease {
    pub(super) buffer: u16,
    pub(super) length: u32,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection came in; it is being read already.
    Accepted {
        /// The new stream.
        stream: ConnectionId,
        /// Index of the listener it came by.
        listener: usize,
        /// Who it is, if it came by an internet socket.
        peer: Option<SocketAddr>,
    },
    /// A bell rung by another core.
    Bell,
    /// The stream's slot and memory are free again; its id is history.
    Closed {
        /// The stream that was.
        stream: ConnectionId,
    },
    /// A connection was opened, and is being read already; or it was not, and nothing is left of the attempt.
    Connected {
        /// As given to `connect`.
        token: u64,
        /// The new stream. `Err` holds the kernel's error number; ECANCELED if the attempt was given up, ENFILE if
        /// there was no slot for it.
        outcome: Result<ConnectionId, i32>,
    },
    /// Nothing more will come in by this stream.
    Ended {
        /// The stream.
        stream: ConnectionId,
        /// Why.
        why: Ended,
    },
    /// The eventfd was written: the control thread, the offload pool, or another core where there is no `MSG_RING`.
    Foreign,
    /// A connection could not be handed over: it stays here, and is being read.
    Kept {
        /// The stream.
        stream: ConnectionId,
        /// Index of the listener it came by.
        listener: usize,
    },
    /// The peer of a connection that is not being read has shut its side, or the connection broke. Told once; whoever
    /// reads on finds what was sent before, and then the end.
    HungUp {
        /// The stream.
        stream: ConnectionId,
    },
    /// Bytes came in.
    Received {
        /// The stream.
        stream: ConnectionId,
        /// Where they are.
        lease: Lease,
    },
    /// A send ended; the buffer is its sender's again.
    Sent {
        /// The stream.
        stream: ConnectionId,
        /// The buffer that was given to `send`.
        buffer: Vec<u8>,
        /// `Err` holds the kernel's error number.
        result: Result<(), i32>,
    },
    /// Part of a send was taken by the kernel; it goes on with the rest.
    SentSome {
        /// The stream.
        stream: ConnectionId,
    },
}

impl Ended {
    /// Whether the stream's owner closed it before it was through.
    pub fn is_given_up(self) -> bool {
        self == Ended::Error(libc::ECANCELED)
    }

    /// Whether it was the peer, or the way to it, and nothing on this host.
    pub fn is_of_the_peer(self) -> bool {
        match self {
            Ended::Eof => true,
            Ended::Error(error) => matches!(
                error,
                libc::ECONNABORTED
                    | libc::ECONNRESET
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::ENOTCONN
                    | libc::EPIPE
                    | libc::ETIMEDOUT
            ),
        }
    }
}

/// What the driver counted since it was made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Of those, ones that were allowed to wait.
    pub sleeps: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions seen.
    pub completed: u64,
    /// Receives that found no buffer.
    pub buffer_shortages: u64,
    /// Completions of an earlier tenant of a slot.
    pub stale: u64,
    /// Accepts that failed because something ran out (ENFILE, EMFILE, ENOBUFS, ENOMEM).
    pub accepts_exhausted: u64,
    /// Bytes that came in after a connection was told to stop: its credit was used up, or its owner wants no more.
    pub overshoot_bytes: u64,
    /// Turns in which the completion queue had overflowed into the kernel's list.
    pub overflows: u64,
    /// Bells whose ring was not there any more.
    pub bells_lost: u64,
    /// Receives that were armed anew because nothing followed what they brought.
    pub receives_confirmed: u64,
    /// Connections that another core could not take.
    pub hand_overs_refused: u64,
}
