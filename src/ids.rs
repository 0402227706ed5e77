//! The names of things: cores, shards, connections, tickets of reply, servers that are connected to.
//!
//! Not here: session ids (a sealed session id is a document of its own, see `shard::seal`), addresses that are listened
//! on (`sys::socket`).
//! Invariant: an id is only made by the module that owns the thing, and compared, never computed with, elsewhere.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A pinned executor thread, counted from 0. Not the CPU number it is pinned to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u16);

/// A unit of owned state, counted from 0. A core owns a contiguous range of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// A connection on one core: its slot in the core's table and how often that slot had been used before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    /// Index in the core's connection table.
    pub slot: u32,
    /// Counts the slot's tenants, so that a late message for the last one never reaches the next.
    pub generation: u32,
}

/// The origin's claim on a reply that is still to come from another core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Index in the origin core's slab of open tickets.
    pub index: u32,
    /// Counts the index's uses.
    pub generation: u32,
}

/// Where a server is that a core connects to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OutboundAddress {
    /// A TCP address.
    Internet(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl CoreId {
    /// The id as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl ShardId {
    /// The id as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}.{}", self.slot, self.generation)
    }
}

/// Which of the servers behind the endpoint a caller sees: a number that whatever answers calls gave, the same on every
/// core and for the life of the process.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct View(pub u16);

impl View {
    /// Everything that is served, at the endpoint itself.
    pub const ALL: View = View(0);
}

impl fmt::Display for OutboundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
