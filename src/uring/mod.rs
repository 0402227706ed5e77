//! The driver: one io_uring per core that carries everything which can wake that core.
//!
//! Not here: what the bytes mean (`proto`), what a core does with them (`server`), the executor (`runtime`).
//! This is the only module that names io-uring.
//! Invariant: memory the kernel may touch belongs to the driver's arena, and a descriptor's slot is given to a next
//! connection only after every operation of the last one has reported its end.

mod accept;
mod alarm;
mod arena;
mod chime;
mod close;
mod confirm;
mod connect;
mod driver;
mod enter;
mod event;
mod features;
mod hand_over;
mod let_go;
mod lookahead;
mod operation;
mod receive;
mod send;
mod streams;
#[cfg(test)]
mod tests;
mod wake;

pub use chime::Chime;
pub use driver::{Driver, DriverSettings};
pub use event::{Ended, Event, Lease, Stats};
pub use features::{Disabled, Features, ProbeError};
pub use lookahead::prefetch;
