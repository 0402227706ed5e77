//! Per-core counters, gauges and step histograms, and their export as Prometheus text.
//!
//! A leaf that everybody may write to and that asks nobody: no clock, no lock, no allocation after start, `std` only.
//! Invariant: a cell is written by one core thread with plain loads and stores; readers see values, never locks.

mod causes;
mod cells;
mod cores;
mod histogram;
mod phrase;
mod registry;
mod servers;
mod shards;

pub use causes::{CloseCause, Refusal, Step, Unserved};
pub use cells::{Counter, Gauge, Peak, Pulse};
pub use cores::{CoreMetrics, Kind, Metric};
pub use histogram::{BUCKETS, Histogram, Snapshot, VALUE_NS_MAX};
pub use phrase::Phrase;
pub use registry::{Registry, write_counter, write_gauges};
pub use servers::{ServerMetrics, ServerRow, ServerState};
pub use shards::ShardMetrics;

/// Label that carries the core a value belongs to.
pub const LABEL_CORE: &str = "core";
/// Label that carries the cause of a refusal or a close.
pub const LABEL_CAUSE: &str = "cause";
/// Label that carries the name of a server behind the gateway.
pub const LABEL_SERVER: &str = "server";
/// Label that carries the shard.
pub const LABEL_SHARD: &str = "shard";
/// Label that carries the step of a request.
pub const LABEL_STEP: &str = "step";
