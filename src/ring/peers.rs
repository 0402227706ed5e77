//! The names of the mesh's ports, and sets of them.
//!
//! Not here: the ports (see `port`).
//! Invariant: cores come first, in their own order; the control thread's port is the last.

use crate::ids::CoreId;
use crate::limits::PORTS_MAX;
use std::fmt;

/// A port of the mesh: a core's or, after the last core's, the control thread's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u16);

impl PortId {
    /// The id as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The port that stands at `index`.
    ///
    /// *Panics* if no mesh can have that many ports.
    pub fn at(index: usize) -> Self {
        assert!(index < PORTS_MAX, "port {index}, but a mesh has at most {PORTS_MAX}");
        Self(index as u16)
    }
}

impl From<CoreId> for PortId {
    fn from(core: CoreId) -> Self {
        Self(core.0)
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// A set of ports, small enough to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortSet(u128);

impl PortSet {
    /// No port.
    pub const EMPTY: Self = Self(0);

    /// Whether there is no member.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many members there are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether `port` is a member.
    pub fn contains(self, port: PortId) -> bool {
        self.0 & (1 << port.0) != 0
    }

    /// Makes `port` a member.
    pub fn insert(&mut self, port: PortId) {
        self.0 |= 1 << port.0;
    }

    /// Makes `port` a member no more.
    pub fn remove(&mut self, port: PortId) {
        self.0 &= !(1 << port.0);
    }

    /// The set, leaving none behind.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn words(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    pub(super) fn from_words(low: u64, high: u64) -> Self {
        Self(u128::from(low) | u128::from(high) << 64)
    }
}

impl IntoIterator for PortSet {
    type Item = PortId;
    type IntoIter = Members;

    fn into_iter(self) -> Members {
        Members(self)
    }
}

/// The members of a [`PortSet`], in ascending order.
#[derive(Clone, Debug)]
pub struct Members(PortSet);

impl Iterator for Members {
    type Item = PortId;

    fn next(&mut self) -> Option<PortId> {
        if self.0.is_empty() {
            return None;
        }
        let lowest = PortId(self.0.0.trailing_zeros() as u16);
        self.0.remove(lowest);
        Some(lowest)
    }
}
