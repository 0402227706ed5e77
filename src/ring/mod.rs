//! `ring`: how cores talk. A mesh of single-producer single-consumer rings, one per ordered pair of ports, and
//! doorbells.
//!
//! Reading order: [`peers`](self) names the ports; `spsc` is one ring, `lease` its large payloads, `audited` its slot
//! memory and the module's only unsafe code; `doorbell` wakes sleepers; `mesh` hands rings over and replaces dead
//! ports; `port` is what a thread holds; `ticket` keeps its claims on replies.
//!
//! Not here: protocols, io_uring, runtimes, outboxes. The parcel is the caller's type, the sound of a bell too.
//! Invariant: no lock and no shared counter on the path of a parcel; nothing is freed on a core that did not make it
//! while both cores live.

mod audited;
mod doorbell;
mod lane;
mod lease;
mod mesh;
mod peers;
mod port;
mod spsc;
mod sync;
mod ticket;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(loom)]
mod stand_in;
#[cfg(all(test, not(loom)))]
mod tests;

pub use audited::{Parcel, SlotRoom};
pub use doorbell::Bell;
pub use mesh::Mesh;
pub use peers::{PortId, PortSet};
pub use port::{Inlet, Lost, Outlet, Port, PortCounts};
pub use spsc::{Refused, Sent};
pub use ticket::Tickets;
