//! Servers that are child processes and speak over standard input and output.
//!
//! Not here: the processes themselves (`sys::guard` starts and ends them), what is said (`gateway`).
//! Invariant: what a child writes is data of a stranger's, on standard error as well.

mod lines;
pub mod stderr;

pub use lines::{ChildSettings, Lines};
