//! The registry of one shard: servers and transports by name, who owns them, what is bound to what, how writes fare.
//!
//! Reading order: `names` turns a name into a key and a shard; `entry` keeps what is registered; `binding` what is
//! bound; `latency` and `contention` watch the writes; `shard` joins them; `replica` is what the other cores know;
//! `statistics` what an operator is shown.
//! Not here: other cores, tickets, messages (`server::registry`). Invariant: time and entropy are arguments; a name is
//! in one shard of one core, and whoever is told of a change is told by a `Delta`.

mod binding;
mod contention;
mod entry;
mod latency;
mod names;
mod probed;
mod refusal;
mod replica;
mod shard;
mod statistics;

pub use binding::BoundServers;
pub use contention::{Admission, Contention, ContentionStatus};
pub use entry::{Entry, Owner};
pub use latency::{SAMPLES, WriteLatency};
pub use names::{Key, Kind, Names};
pub use refusal::Refusal;
pub use replica::{Delta, Record, Replica, Tie};
pub use shard::{Registration, RegistryShard};
pub use statistics::ShardStatistics;

/// Nanoseconds since the process started.
pub type Nanos = u64;
