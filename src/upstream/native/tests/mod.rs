//! Tests of native servers through `Service`, as a core would use it, for each era.
//!
//! Not here: unit tests, which stand at the foot of the files they test.
//! Invariant: what is sent in is a JSON-RPC text, what is looked at is the JSON of outcomes and mail.

mod asking;
mod calls;
mod demonstration;
mod rig;
mod tasks;
