//! What one core counts: `CoreMetrics`, and the table that gives each metric its name, kind and help text.
//!
//! Not a registry by string: `Metric` is closed, and fields are reached by name, so a misspelt metric does not compile.
//! Invariant: one core thread writes an instance (see `cells`); everybody else only reads.

use super::causes::{CloseCause, Refusal, Step};
use super::cells::{Counter, Gauge, Peak, Pulse};
use super::histogram::Histogram;
use super::shards::{OwnShards, ShardMetrics};
use crate::ids::ShardId;

/// How a metric behaves over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A duration in nanoseconds, exported as a gauge in seconds.
    Seconds,
    /// Durations in nanoseconds added up, exported as a counter in seconds.
    SecondsTotal,
}

/// One table, three things: the fields of `CoreMetrics`, the closed enum `Metric`, and the texts of the export.
macro_rules! metrics {
    ($($variant:ident $field:ident: $cell:ident $kind:ident $name:literal, $help:literal;)+) => {
        /// Every metric without a label of its own; histograms and causes have their enums.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Metric {
            $(#[doc = $help] $variant,)+
        }

        impl Metric {
            /// Every metric, in the order of export.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)+];

            /// The exported name.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)+ }
            }

            /// The exported help text.
            pub const fn help(self) -> &'static str {
                match self { $(Metric::$variant => $help,)+ }
            }

            /// How it behaves.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind,)+ }
            }
        }

        /// Everything one core counts. Aligned so that no two cores ever write to the same pair of cache lines.
        ///
        /// Memory: 72 KiB per core for the step histograms, under 2 KiB for the rest, 32 bytes per shard.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct CoreMetrics {
            $(#[doc = $help] pub $field: $cell,)+
            steps: [Histogram; Step::COUNT],
            refusals: [Counter; Refusal::COUNT],
            closes: [Counter; CloseCause::COUNT],
            shards: OwnShards,
            /// Whether the core moves.
            pub pulse: Pulse,
        }

        impl Default for CoreMetrics {
            fn default() -> Self {
                CoreMetrics {
                    $($field: $cell::default(),)+
                    steps: std::array::from_fn(|_| Histogram::default()),
                    refusals: std::array::from_fn(|_| Counter::default()),
                    closes: std::array::from_fn(|_| Counter::default()),
                    shards: OwnShards::default(),
                    pulse: Pulse::default(),
                }
            }
        }

        impl CoreMetrics {
            /// The value of a metric now; any thread may ask.
            pub fn value(&self, metric: Metric) -> u64 {
                match metric { $(Metric::$variant => self.$field.get(),)+ }
            }
        }
    };
}

metrics! {
    ConnectionsAccepted connections_accepted: Counter Counter
        "corelane_connections_accepted_total", "Connections accepted, refused ones included.";
    ConnectionsOpen connections_open: Gauge Gauge
        "corelane_connections_open", "Connections open now.";
    ConnectionsServed connections_served: Gauge Gauge
        "corelane_connections_served", "Connections open now that are served; the others are being told why they are not.";
    ConnectionsOverSoft connections_over_soft: Counter Counter
        "corelane_connections_over_soft_total", "Connections served that came while there were more than limits.connections_soft.";
    MessagesIn messages_in: Counter Counter
        "corelane_messages_in_total", "JSON-RPC messages parsed from sockets.";
    MessagesOut messages_out: Counter Counter
        "corelane_messages_out_total", "JSON-RPC messages written to sockets.";
    BytesIn bytes_in: Counter Counter
        "corelane_bytes_in_total", "Bytes received from sockets.";
    BytesOut bytes_out: Counter Counter
        "corelane_bytes_out_total", "Bytes sent to sockets.";
    CallsStarted calls_started: Counter Counter
        "corelane_calls_started_total", "Calls admitted; started = finished + failed + in flight.";
    CallsFinished calls_finished: Counter Counter
        "corelane_calls_finished_total", "Calls answered with a result.";
    CallsFailed calls_failed: Counter Counter
        "corelane_calls_failed_total", "Calls answered with an error, cancelled, or lost with their connection.";
    CallsInFlight calls_in_flight: Gauge Gauge
        "corelane_calls_in_flight", "Calls admitted and not yet answered.";
    SessionsOpen sessions_open: Gauge Gauge
        "corelane_sessions_open", "Legacy sessions open now.";
    SessionsCreated sessions_created: Counter Counter
        "corelane_sessions_created_total", "Legacy sessions created, re-creations from a ticket included.";
    SessionsExpired sessions_expired: Counter Counter
        "corelane_sessions_expired_total", "Legacy sessions that ended by being idle.";
    SessionsDeleted sessions_deleted: Counter Counter
        "corelane_sessions_deleted_total", "Legacy sessions that their client deleted.";
    ReplayBytes replay_bytes: Gauge Gauge
        "corelane_replay_bytes", "What sessions keep for clients that come back to a stream, with what keeping it costs.";
    StreamsOpen streams_open: Gauge Gauge
        "corelane_streams_open", "Event streams open now.";
    BuffersInUse buffers_in_use: Gauge Gauge
        "corelane_buffers_in_use", "Receive buffers that the core reads from at this moment; the kernel has the others.";
    ReceiveBuffers receive_buffers: Gauge Gauge
        "corelane_receive_buffers", "Receive buffers that the core has, in whoever's hands; they grow on demand.";
    SendsInFlight sends_in_flight: Gauge Gauge
        "corelane_sends_in_flight", "Sends whose bytes the kernel reads from now: one a connection at most.";
    CompletionOverflows completion_overflows: Counter Counter
        "corelane_completion_overflows_total", "Turns whose completions did not all fit into the completion queue; none is lost.";
    StaleCompletions stale_completions: Counter Counter
        "corelane_stale_completions_total", "Completions of connections whose slot has another tenant by now, dropped.";
    AcceptsExhausted accepts_exhausted: Counter Counter
        "corelane_accepts_exhausted_total", "Accepts that failed for want of descriptors or memory and were tried again.";
    OvershootBytes overshoot_bytes: Counter Counter
        "corelane_overshoot_bytes_total", "Bytes that came after reading from their connection was stopped.";
    BellsLost bells_lost: Counter Counter
        "corelane_bells_lost_total", "Doorbells for a core whose ring was gone.";
    HandOversRefused hand_overs_refused: Counter Counter
        "corelane_hand_overs_refused_total", "Connections that another core could not take.";
    RecvEnobufs recv_enobufs: Counter Counter
        "corelane_recv_enobufs_total", "Receives that found no provided buffer and were queued again.";
    BellsRung bells_rung: Counter Counter
        "corelane_bells_rung_total", "Doorbells rung to wake another core.";
    BellsSaved bells_saved: Counter Counter
        "corelane_bells_saved_total", "Doorbells not rung because the other core was awake.";
    ParcelsSent parcels_sent: Counter Counter
        "corelane_parcels_sent_total", "Parcels published to other cores.";
    ParcelsReceived parcels_received: Counter Counter
        "corelane_parcels_received_total", "Parcels read from other cores.";
    ParcelsParked parcels_parked: Counter Counter
        "corelane_parcels_parked_total", "Parcels that waited in an outbox because their ring was full.";
    RegistryKnown registry_known: Gauge Gauge
        "corelane_registry_known", "Servers and transports that the core's replica of the registry knows.";
    RegistryVersion registry_version: Gauge Gauge
        "corelane_registry_version", "Changes that the core's shards of the registry have seen in this life.";
    RegistryAlarmed registry_alarmed: Gauge Gauge
        "corelane_registry_alarmed", "Shards of the core whose writes are slow.";
    RegistryClosed registry_closed: Gauge Gauge
        "corelane_registry_admission_closed", "1 while the core lets no registration in: too many shards are alarmed, or an operator said so.";
    RegistryUndelivered registry_undelivered: Counter Counter
        "corelane_registry_undelivered_total", "Messages whose owner was gone or had no room when they came.";
    ReplicaAge replica_age_ns: Gauge Seconds
        "corelane_replica_age_seconds", "How long the oldest change waits that some live core has not applied.";
    Turns turns: Counter Counter
        "corelane_turns_total", "Turns of the core's loop. An idle core makes few; one that stands still is told by corelane_stalls_total and /healthz.";
    Sleeps sleeps: Counter Counter
        "corelane_sleeps_total", "Turns that ended in sleeping.";
    Enters enters: Counter Counter
        "corelane_enters_total", "io_uring_enter calls.";
    HandlerPanics handler_panics: Counter Counter
        "corelane_handler_panics_total", "Handlers that panicked and failed their own call.";
    SlowPolls slow_polls: Counter Counter
        "corelane_slow_polls_total", "Polls of handlers that held up their core for more than a millisecond.";
    Stalls stalls: Counter Counter
        "corelane_stalls_total", "Turns of the loop that lasted so long that the core was seen to stand still.";
    LongestGap longest_gap_ns: Peak Seconds
        "corelane_longest_gap_seconds", "Longest time between two turns of the loop while it was awake.";
    LongGaps long_gaps: Counter Counter
        "corelane_long_gaps_total", "Times between two turns of the loop of a millisecond and more, while it was awake.";
    LongGapTime long_gap_ns: Counter SecondsTotal
        "corelane_long_gap_seconds_total", "What these took together: divided by their number, the mean of them.";
}

impl CoreMetrics {
    /// A core begins its life, perhaps after another that died with connections and calls: levels are 0 again, and the
    /// calls and connections that went down are counted. Only the thread that is now the owning core may call this.
    pub fn begin_life(&self) {
        self.closes[CloseCause::CoreLost.index()].add(self.connections_open.get());
        let lost = self.calls_started.get().saturating_sub(self.calls_finished.get() + self.calls_failed.get());
        self.calls_failed.add(lost);
        for level in [
            &self.connections_open,
            &self.connections_served,
            &self.calls_in_flight,
            &self.sessions_open,
            &self.streams_open,
            &self.buffers_in_use,
            &self.replay_bytes,
            &self.receive_buffers,
            &self.sends_in_flight,
            &self.registry_known,
            &self.registry_version,
            &self.registry_alarmed,
            &self.registry_closed,
            &self.replica_age_ns,
        ] {
            level.set(0);
        }
        for (_, shard) in self.shards.iter() {
            shard.sessions.set(0);
            shard.connections.set(0);
            shard.queue_depth.set(0);
        }
    }

    /// The metrics of a core that owns `count` shards from `first` on.
    pub fn owning(first: u16, count: u16) -> CoreMetrics {
        CoreMetrics { shards: OwnShards::new(first, count), ..CoreMetrics::default() }
    }

    /// The metrics of a shard, if the core owns it.
    #[inline]
    pub fn shard(&self, shard: ShardId) -> Option<&ShardMetrics> {
        self.shards.get(shard)
    }

    /// The metrics of all its shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardMetrics)> {
        self.shards.iter()
    }

    /// The histogram of a step.
    #[inline]
    pub fn step(&self, step: Step) -> &Histogram {
        &self.steps[step.index()]
    }

    /// Counts one refusal. Only the owning core may call this.
    #[inline]
    pub fn refuse(&self, cause: Refusal) {
        self.refusals[cause.index()].add(1);
    }

    /// How often `cause` was a reason to refuse.
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.refusals[cause.index()].get()
    }

    /// Counts one closed connection. Only the owning core may call this.
    #[inline]
    pub fn close(&self, cause: CloseCause) {
        self.closes[cause.index()].add(1);
    }

    /// How many connections were closed for `cause`.
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.closes[cause.index()].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_no_cache_line() {
        assert_eq!(align_of::<CoreMetrics>(), 128);
        assert_eq!(size_of::<CoreMetrics>() % 128, 0);
        assert!(size_of::<CoreMetrics>() < 2048, "the doc comment says so: {}", size_of::<CoreMetrics>());
    }

    #[test]
    fn every_metric_reads_its_own_cell() {
        let core = CoreMetrics::default();
        core.calls_in_flight.add(4);
        core.longest_gap_ns.observe(9);
        core.refuse(Refusal::BadHost);
        core.close(CloseCause::Drained);
        core.step(Step::Scan).record(5);
        assert_eq!(core.value(Metric::CallsInFlight), 4);
        assert_eq!(core.value(Metric::LongestGap), 9);
        assert_eq!(Metric::ALL.iter().map(|m| core.value(*m)).sum::<u64>(), 13);
        assert_eq!((core.refused(Refusal::BadHost), core.refused(Refusal::BadHead)), (1, 0));
        assert_eq!(core.closed(CloseCause::Drained), 1);
        assert_eq!(core.step(Step::Scan).snapshot().count(), 1);
    }

    #[test]
    fn a_new_life_keeps_counts_and_forgets_levels() {
        let core = CoreMetrics::default();
        core.connections_open.set(3);
        core.calls_started.add(5);
        core.calls_finished.add(2);
        core.calls_failed.add(1);
        core.begin_life();
        assert_eq!((core.connections_open.get(), core.calls_started.get(), core.calls_failed.get()), (0, 5, 3));
        assert_eq!(core.closed(CloseCause::CoreLost), 3);
    }

    #[test]
    fn names_follow_the_convention() {
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(name.starts_with("corelane_"), "{name}");
            let grows = matches!(metric.kind(), Kind::Counter | Kind::SecondsTotal);
            assert_eq!(name.ends_with("_total"), grows, "{name}");
            assert_eq!(name.ends_with("_seconds_total"), metric.kind() == Kind::SecondsTotal, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.kind() == Kind::Seconds, "{name}");
            assert_eq!(Metric::ALL.iter().filter(|m| m.name() == name).count(), 1, "{name}");
            assert!(metric.help().ends_with('.') && !metric.help().contains(['\n', '\\']), "{name}");
        }
    }
}
