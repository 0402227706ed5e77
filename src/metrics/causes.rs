//! The closed sets behind labels: steps of a request, causes of a refusal, causes of a close.
//!
//! Not the wire table: `proto` and `server` decide what is sent; `meaning` here only says it to an operator.
//! Invariant: a label value comes from one of these enums, so no peer can make a new time series.

/// Defines a closed set of label values; order in the source is the index.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal, $meaning:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
        }

        impl $name {
            /// Every value, in the order of their indices.
            pub const ALL: &[$name] = &[$($name::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = $name::ALL.len();

            /// The value as an index.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The label value under which it is exported and logged.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }

            /// What it means, and what the peer is told where there is one.
            pub const fn meaning(self) -> &'static str {
                match self { $($name::$variant => $meaning,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

closed_set! {
    /// A step in the life of a request; each has a histogram per core.
    Step {
        Read = "read", "from the completion of a receive to the bytes being handed to the framer";
        Frame = "frame", "finding one message: HTTP head and body, or one line";
        Scan = "scan", "the one pass over the JSON text";
        Route = "route", "from spans to the place that answers";
        Handle = "handle", "a native handler, or waiting for the upstream";
        Encode = "encode", "outcome to bytes";
        Write = "write", "from the send being queued to its completion";
        QueueWait = "queue_wait", "admitted, not yet started";
        MeshHop = "mesh_hop", "parcel published on one core to its being read on another";
    }
}

closed_set! {
    /// Why something was refused; counted once per refusal.
    Refusal {
        AcceptRate = "accept_rate", "HTTP 503, JSON-RPC -31503 and close: connections come faster than limits.accepts_per_s, \
            and limits.accept_burst came beyond";
        BadHead = "bad_head", "HTTP 400 and close: the request head breaks HTTP/1.1 framing rules";
        BadHeaderMirror = "bad_header_mirror", "HTTP 400, JSON-RPC -32020: an Mcp-* header and the body disagree";
        BadHost = "bad_host", "HTTP 403: the Host is not one of serve.allowed_hosts";
        BadJson = "bad_json", "HTTP 400, JSON-RPC -32700: the message is not acceptable JSON";
        BadOrigin = "bad_origin", "HTTP 403: the Origin is not one of serve.allowed_origins";
        BadRequest = "bad_request", "HTTP 400, JSON-RPC -32600: valid JSON, but no valid JSON-RPC message";
        BodyTimeout = "body_timeout", "HTTP 408 and close: the body came slower than limits.body_bytes_per_s";
        BodyTooLarge = "body_too_large", "HTTP 413 and close: the body is longer than limits.body_bytes";
        ComingFull = "coming_full", "HTTP 503 and close: messages that come in pieces take as many bytes as they may on \
            a core, and this one has been coming for longest";
        ConnectionsFull = "connections_full", "HTTP 503, JSON-RPC -31503 and close: limits.connections are open on all cores together";
        DeadlinePassed = "deadline_passed", "HTTP 504, JSON-RPC -31504: the deadline passed before the answer came";
        Draining = "draining", "HTTP 503, JSON-RPC -31503: this process takes no new work";
        DuplicateId = "duplicate_id", "JSON-RPC -32600: the id is already in flight on this connection or in this session";
        EgressFull = "egress_full", "the connection is cut: limits.egress_bytes of what was told unasked wait behind a send";
        HeadTimeout = "head_timeout", "HTTP 408 and close: no whole head within limits.head_timeout_ms";
        HeadTooLarge = "head_too_large", "HTTP 431 and close: the request head is over its limit";
        InFlightFull = "in_flight_full", "HTTP 429, JSON-RPC -31429: limits.in_flight_per_connection calls are open";
        LineTooLarge = "line_too_large", "JSON-RPC -32600 and close (on stdio the line is skipped): a line is longer than limits.line_bytes";
        MethodNotAllowed = "method_not_allowed", "HTTP 405: the endpoint does not know this HTTP method";
        NotAcceptable = "not_acceptable", "HTTP 406: Accept lacks what the answer would be";
        NotFound = "not_found", "HTTP 404: no such path";
        OutboxFull = "outbox_full", "HTTP 503, JSON-RPC -31503: the way to the owning core is full";
        PeerFull = "peer_full", "HTTP 429, JSON-RPC -31429 and close: the address it came from has limits.connections_per_peer \
            connections, or limits.connections_per_loopback if it is this host's";
        PipelineFull = "pipeline_full", "not read any further: limits.pipeline_depth receive buffers of requests wait for the answer to an earlier one";
        RateLimited = "rate_limited", "not read any further for a while: limits.messages_per_s came on one connection, \
            and limits.message_burst beyond";
        SessionsFull = "sessions_full", "HTTP 503, JSON-RPC -31503: sessions.per_core_max sessions are open";
        ShardLost = "shard_lost", "HTTP 503, JSON-RPC -31503: the owning shard or core died with the call";
        StreamsFull = "streams_full", "JSON-RPC -31429: the connection has streams.listen_per_connection streams; \
            HTTP 503, -31503: the core has one for every connection it may hold, or what its clients subscribe to takes \
            as many bytes as it may";
        TableFull = "table_full", "HTTP 503 and close: the core's connection table is in its reserve";
        UnknownMethod = "unknown_method", "JSON-RPC -32601: no such MCP method";
        UnknownSession = "unknown_session", "HTTP 404: the session id is forged, expired, deleted or of another start";
        UnsupportedMedia = "unsupported_media", "HTTP 415: Content-Type or Content-Encoding is not accepted";
        UnsupportedVersion = "unsupported_version", "HTTP 400, JSON-RPC -32022: an MCP version we do not speak";
    }
}

closed_set! {
    /// Why a connection was closed; counted and logged under the same name, once per connection.
    CloseCause {
        BodyTimeout = "body_timeout", "the body came too slowly";
        ComingFull = "coming_full", "its message came in pieces, and there was no more room for such";
        CoreLost = "core_lost", "the core that held the connection died";
        DrainDeadline = "drain_deadline", "still busy when serve.drain_deadline_ms had passed";
        Drained = "drained", "idle or finished while draining";
        EgressFull = "egress_full", "the peer did not read and its queue was full";
        HeadTimeout = "head_timeout", "no whole request head in time";
        IoError = "io_error", "the kernel reported an error other than a reset";
        KeepAliveTimeout = "keep_alive_timeout", "idle for too long";
        PeerClosed = "peer_closed", "the peer closed in an orderly way";
        PeerReset = "peer_reset", "the peer reset the connection or vanished";
        ProtocolError = "protocol_error", "the peer's bytes could not be framed; it was answered first";
        Refused = "refused", "refused at accept; it was answered first where possible";
        Requested = "requested", "the peer asked for Connection: close, or speaks HTTP/1.0";
        WriteStall = "write_stall", "no progress in sending for limits.write_stall_ms";
    }
}

closed_set! {
    /// Why a call that a server behind the gateway had no place for was not sent to it.
    Unserved {
        Displaced = "displaced", "HTTP 503, JSON-RPC -31503: it waited, and its place was needed for a call of a better class";
        Expired = "expired", "HTTP 504, JSON-RPC -31504: its time was up before there was a place";
        Overdue = "overdue", "HTTP 503, JSON-RPC -31503: it waited for longer than it looked like when it came";
        Priority = "priority", "HTTP 503, JSON-RPC -31503: more calls come than the server gets done, and those of its \
            class and share are not let in at the moment";
        QueueBytes = "queue_bytes", "HTTP 503, JSON-RPC -31503: calls that wait take as many bytes as they may";
        QueueCalls = "queue_calls", "HTTP 503, JSON-RPC -31503: as many calls wait as may";
        QueueDelay = "queue_delay", "HTTP 503, JSON-RPC -31503: it would have waited for too long";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_well_formed(labels: &[&str]) {
        for label in labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
            assert_eq!(labels.iter().filter(|l| *l == label).count(), 1, "{label} occurs once");
        }
    }

    #[test]
    fn labels_are_unique_and_refusals_alphabetical() {
        let refusals: Vec<_> = Refusal::ALL.iter().map(|r| r.label()).collect();
        let closes: Vec<_> = CloseCause::ALL.iter().map(|c| c.label()).collect();
        assert_well_formed(&refusals);
        assert_well_formed(&closes);
        let unserved: Vec<_> = Unserved::ALL.iter().map(|cause| cause.label()).collect();
        assert_well_formed(&unserved);
        assert_well_formed(&Step::ALL.iter().map(|s| s.label()).collect::<Vec<_>>());
        assert!(refusals.is_sorted() && closes.is_sorted() && unserved.is_sorted());
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), index);
        }
    }
}
