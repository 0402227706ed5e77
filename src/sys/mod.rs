//! The system calls outside io_uring, each behind a safe function: listeners and their steering, sockets that are to
//! connect, CPU affinity, rlimits, threads, eventfds, pipes, entropy, child processes.
//!
//! Not here: io_uring (`uring`), and any decision (`boot` decides, this module does).
//! Invariant: no caller of this module needs `unsafe`.

pub mod affinity;
pub mod cpu;
pub mod entropy;
pub mod eventfd;
pub mod guard;
pub mod limits;
pub mod memory;
pub mod outbound;
pub mod pipe;
pub mod socket;
pub mod steer;
pub mod thread;
