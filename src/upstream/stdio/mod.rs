//! Servers that are child processes and speak over standard input and output.
//!
//! Not here: the processes themselves (`sys::guard` starts and ends them).
//! Invariant: what a child writes is data of a stranger's, on standard error as well.

pub mod stderr;
