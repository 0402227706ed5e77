//! Every bound in one place, as named arithmetic; what relates two bounds is asserted when this file compiles.
//!
//! Not here: what an operator may set (that is `config`, whose defaults come from here).
//! Invariant: nothing in the program grows past a bound that is not written down here, in a setting, or in the table
//! *Bounds* of ARCHITECTURE.md, which names the few that stand where they are used.

/// Deepest nesting of arrays and objects accepted in a JSON text.
pub const JSON_DEPTH_MAX: usize = 64;
/// Most tokens (values and keys) accepted in one JSON text.
pub const JSON_TOKENS_MAX: usize = 100_000;
/// Most keys (24 bytes each) a scanner keeps room for between two texts; a larger text pays for its own room.
pub const JSON_KEYS_RETAINED: usize = 1024;
/// Most bytes of unescaped keys a scanner keeps room for between two texts.
pub const JSON_UNESCAPED_BYTES_RETAINED: usize = 4 * 1024;
/// Largest HTTP head in bytes: request or status line, and header fields.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in one HTTP request or response.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Heads of requests that a core remembers, to read those that are alike faster.
pub const HEAD_TEMPLATES: usize = 8;
/// Largest head in bytes that it remembers.
pub const HEAD_TEMPLATE_BYTES_MAX: usize = 2 * 1024;
/// Most bytes of an `Mcp-Param-*` header's name and of the names that lead to its argument (2026-07-28, SEP-2243).
pub const HEADER_PARAM_BYTES_MAX: usize = 1024;
/// Most interim responses (1xx) an upstream may send before a response.
pub const HTTP_INTERIM_RESPONSES_MAX: usize = 8;
/// Longest request target in bytes.
pub const HTTP_TARGET_BYTES_MAX: usize = 4 * 1024;
/// Longest chunk extension in bytes, summed over one chunk header.
pub const HTTP_CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Longest request or status line in bytes: the target, and room for a method, a version and two spaces.
pub const HTTP_REQUEST_LINE_BYTES_MAX: usize = HTTP_TARGET_BYTES_MAX + 64;
/// Longest `id` or `event` field of a server-sent event in bytes; both are kept for the life of a stream.
pub const SSE_FIELD_BYTES_MAX: usize = 1024;
/// Largest message body accepted by default, in bytes.
pub const BODY_BYTES_DEFAULT: usize = 1024 * 1024;
/// Largest message body that can be configured, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest id of a request, in bytes as it is written; it is kept for as long as the request takes, and repeated in
/// what a subscription stream tells. Clients number their requests, or name them by a UUID.
pub const ID_BYTES_MAX: usize = 1024;
/// Longest `progressToken`, in bytes as it is written; it is repeated in each notification of its request's progress.
pub const PROGRESS_TOKEN_BYTES_MAX: usize = 1024;
/// Most messages in one JSON-RPC batch (2025-03-26 and 2024-11-05).
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Most tasks one core keeps, running and finished together.
pub const TASKS_PER_CORE_MAX: usize = 1024;
/// Most bytes of tasks' arguments (while they run) and results one core keeps.
pub const TASK_BYTES_PER_CORE_MAX: usize = 16 * 1024 * 1024;
/// Answers that a call may bring to what it was asked (`inputResponses`).
pub const INPUT_RESPONSES_MAX: usize = 256;
/// Jobs of all cores that were handed to the offload pool and are neither done nor given up.
pub const OFFLOAD_JOBS_MAX: usize = 16_384;
/// Largest `requestState` before it is sealed: the answers and remembered values of one call.
pub const REQUEST_STATE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a legacy server's questions that wait for one call's modern caller. A server has at most as many such
/// calls on a core as it may have connections there.
pub const QUESTION_BYTES_PER_CALL_MAX: usize = BODY_BYTES_DEFAULT;
/// Most bytes of a legacy caller's answers to one round of a modern server's questions.
pub const ROUND_BYTES_PER_CALL_MAX: usize = BODY_BYTES_MAX;
/// Most visits and tasks of a legacy server, on one core, of which it is remembered whose they are.
pub const OWED_MAX: usize = 4096;
/// Longest id of such a visit or task that is remembered.
pub const OWED_ID_BYTES_MAX: usize = 256;
/// Longest URI that a client may subscribe to, in bytes; it is kept for as long as the subscription.
pub const SUBSCRIBED_URI_BYTES_MAX: usize = 8 * 1024;
/// Most subscribed resources, and as many tasks, of one session or stream.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Most bytes of what one session or stream subscribes to.
pub const SUBSCRIBED_BYTES_MAX: usize = 256 * 1024;
/// Most bytes that a core keeps for subscriptions, with what each takes besides its URI.
pub const SUBSCRIBED_BYTES_PER_CORE_MAX: usize = 64 * 1024 * 1024;
/// Most values in one answer to `completion/complete` (the specification's bound).
pub const COMPLETION_VALUES_MAX: usize = 100;
/// Entries in one page of a list by default.
pub const LIST_PAGE_DEFAULT: usize = 250;
/// Most bytes of pages of merged lists that one core keeps as it wrote them.
pub const WRITTEN_PAGES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of the calls of one core that wait for one server, and of those that wait until lists say whose a name
/// is.
pub const WAITING_CALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of messages of one core that are coming in, in pieces. Beyond, the one that has been coming for longest
/// is refused.
pub const COMING_BYTES_PER_CORE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of messages of one core that wait for the answer to an earlier one, or for a server to be reached. Beyond, who
/// waits for an answer is not read, and nobody begins to wait for a server.
pub const STANDING_BYTES_PER_CORE_MAX: usize = 64 * 1024 * 1024;
/// Most calls of one core that wait until lists of servers say whose a name is.
pub const UNNAMED_CALLS_MAX: usize = 4096;
/// Most pages of a native server's list that are read for a merged one.
pub const NATIVE_PAGES_MAX: usize = 4_000;

/// Longest name a tool is shown by: what providers of models accept.
pub const TOOL_NAME_BYTES_MAX: usize = 64;
/// Longest pattern or name of a tool, prompt or resource in the configuration.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Most configured servers.
pub const SERVERS_MAX: usize = 1024;
/// Most servers registered by requests, beside those of the configuration.
pub const REGISTERED_SERVERS_MAX: usize = 256;
/// Most places of servers over the life of a process: each server that comes, and each that is another, takes one for
/// good, since what is under way names servers by place. What is left of one that is gone is about 3 KiB on each core.
pub const SERVER_PLACES_MAX: usize = 4 * SERVERS_MAX;
/// Of these, places that requests leave to the configuration file, and to names that lead elsewhere.
pub const SERVER_PLACES_OF_FILE: usize = SERVERS_MAX;
/// Most transports registered by requests. They have one inbox together.
pub const ADMINISTERED_TRANSPORTS_MAX: usize = 1024;
/// Largest body of a request for administration, in bytes.
pub const ADMIN_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most legacy sessions of one core with one server, each of which may have a stream: one for each set of capabilities
/// that clients have, of which there are few at a time.
pub const SERVER_SESSIONS_MAX: usize = 32;
/// Most configured views.
pub const VIEWS_MAX: usize = 256;

const _: () = assert!(SERVERS_MAX + REGISTERED_SERVERS_MAX <= SERVER_PLACES_MAX - SERVER_PLACES_OF_FILE);

/// Most tools of one server that are pinned, gone ones included; what appears beyond that is not.
pub const PINS_PER_SERVER_MAX: usize = 20_000;
/// Most bytes of definitions kept for one server: those that are pinned, and those seen in their place. Twice as much
/// as a list may have.
pub const PIN_BYTES_PER_SERVER_MAX: usize = 32 * 1024 * 1024;
/// Most servers whose pins are kept, ones that are not configured any more included.
pub const PINNED_SERVERS_MAX: usize = 2 * SERVERS_MAX;
/// Most reports of lists that differ from what is pinned, each of at most one list, that wait to be reckoned in.
pub const SIGHTINGS_MAX: usize = 64;

/// Most legacy sessions one core can be configured to hold.
pub const SESSIONS_PER_CORE_MAX: usize = 1_048_576;
/// Most shards.
pub const SHARDS_MAX: usize = 1024;
/// Most cores.
pub const CORES_MAX: usize = 64;

/// Bytes in one slot of a mesh ring.
pub const RING_SLOT_BYTES: usize = 256;
/// Slots in one mesh ring.
pub const RING_SLOTS: usize = 1024;

const _: () = assert!(HTTP_REQUEST_LINE_BYTES_MAX < HTTP_HEAD_BYTES_MAX);
const _: () = assert!(BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);
const _: () =
    assert!(2 * BODY_BYTES_MAX <= WAITING_CALL_BYTES_MAX, "one may wait whatever its size, and another behind it");
const _: () = assert!(4 * BODY_BYTES_MAX <= COMING_BYTES_PER_CORE_MAX, "one that comes alone is never refused");
// The offsets of a JSON span are `u32`, the highest of which means none.
const _: () = assert!(BODY_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(RING_SLOTS.is_power_of_two() && RING_SLOT_BYTES.is_multiple_of(64));

/// How long calls in flight may still take when standard input has ended, in nanoseconds: clients give a server that
/// they want gone about two seconds before they send it a signal.
pub const STDIO_LAST_CALLS_NS: u64 = 1_000_000_000;

/// Most ports of the mesh: one per core and one for the control thread.
pub const PORTS_MAX: usize = CORES_MAX + 1;
/// Most consecutive slots one parcel takes; a payload that does not fit travels as a lease.
pub const PARCEL_SLOTS_MAX: usize = 8;
/// Most buffers one ring may have on loan to its reader at a time.
pub const RING_LEASES_MAX: usize = 32;
/// Most bytes one ring may have on loan to its reader: one largest body on its way, the next being sent.
pub const RING_LEASED_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// Most returned lease buffers one port keeps for reuse, and the most bytes they may add up to.
pub const PORT_SPARES_MAX: usize = 32;
/// See [`PORT_SPARES_MAX`].
pub const PORT_SPARE_BYTES_MAX: usize = 1024 * 1024;
/// Open tickets of reply one core can hold.
pub const CORE_TICKETS_MAX: usize = 16 * 1024;

/// Bytes of all mesh rings of `cores` cores and the control thread, if every one had been used: a ring for each ordered
/// pair of N + 1 ports, N (N + 1) of them. Rings are made on first use, so this is the ceiling, not the bill.
pub const fn mesh_bytes(cores: usize) -> usize {
    cores * (cores + 1) * RING_SLOTS * RING_SLOT_BYTES
}

const _: () = assert!(PORTS_MAX <= 128, "a set of ports is one u128");
const _: () = assert!(PARCEL_SLOTS_MAX <= u8::MAX as usize && PARCEL_SLOTS_MAX * RING_SLOT_BYTES <= u16::MAX as usize);
const _: () = assert!(RING_SLOTS >= 2 * PARCEL_SLOTS_MAX, "the longest pad and the longest parcel fit together");
const _: () = assert!(RING_LEASED_BYTES_MAX >= BODY_BYTES_MAX && RING_LEASED_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(mesh_bytes(16) == 68 * 1024 * 1024, "16 cores: 272 rings of 256 KiB");

/// Most accepts one core keeps armed for each of its listeners.
pub const ACCEPTS_PER_LISTENER_MAX: usize = 32;
/// Most slots of a core's table that only ever hold connections which are being told that there is no room.
pub const REFUSAL_SLOTS_MAX: usize = 64;

/// How a core's table of direct descriptors is shared out. An armed accept holds a slot for whoever comes, also while
/// nobody does: if all clients come by one listener, those of the others are out of reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableShares {
    /// Accepts armed for each listener.
    pub accepts: usize,
    /// Connections that are served.
    pub connections: usize,
    /// Slots beyond those: what the listeners arm, and something to refuse with.
    pub reserve: usize,
}

/// Shares out a table; none if it is too small for so many listeners. At most an eighth of it waits in accepts, as far
/// as one for each listener allows, and at most a tenth of the rest is there to refuse with.
pub const fn share_table(descriptors: usize, listeners: usize) -> Option<TableShares> {
    let shares = if listeners == 0 { 0 } else { at_most(descriptors / (8 * listeners), ACCEPTS_PER_LISTENER_MAX) };
    let accepts = if shares == 0 { 1 } else { shares };
    let Some(left) = descriptors.checked_sub(listeners * accepts) else { return None };
    let refusals = if left < 10 { 1 } else { at_most(left / 10, REFUSAL_SLOTS_MAX) };
    if left <= refusals {
        return None;
    }
    Some(TableShares { accepts, connections: left - refusals, reserve: descriptors - (left - refusals) })
}

/// A table that serves so many connections on so many listeners, and may be a little larger than needed.
pub const fn table_for(connections: usize, listeners: usize) -> usize {
    let most = connections + listeners * ACCEPTS_PER_LISTENER_MAX + REFUSAL_SLOTS_MAX;
    // An eighth and a tenth are less than a quarter.
    at_most((connections + listeners + 1).div_ceil(3) * 4, most)
}

const fn at_most(one: usize, most: usize) -> usize {
    if one < most { one } else { most }
}

// The smallest table that can be configured serves somebody on as many listeners as anybody has.
const _: () = assert!(share_table(64, 32).is_some() && share_table(1, 0).is_none() && share_table(2, 1).is_none());

/// Bytes that may wait in one core's outbox to another before further requests that way are refused.
pub const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest name of a registered server or transport, in bytes.
pub const REGISTRY_NAME_BYTES_MAX: usize = 256;
/// Largest configuration kept with a registered server or transport, in bytes.
pub const REGISTRY_CONFIG_BYTES_MAX: usize = 64 * 1024;
/// The mean write latency of a shard of the registry, in nanoseconds, that is too long unless an operator chooses
/// another: some hundred times what a write takes while a core is saturated, and short enough that ten of them are
/// noticed within 100 ms. The original had 100 ms.
pub const REGISTRY_WRITE_LIMIT_NS_DEFAULT: u64 = 10_000_000;
/// Most servers and transports in one shard of the registry: a list of their names fits in one parcel.
pub const REGISTRY_ENTRIES_PER_SHARD_MAX: usize = 65_536;
/// Most bytes of registry items that may gather for one core in one turn; what changes beyond that is told by snapshot.
pub const REGISTRY_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most messages that wait at one owner of registered entries.
pub const INBOX_MESSAGES_MAX: usize = 16 * 1024;
/// Most bytes of messages that wait at one owner of registered entries.
pub const INBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most owners of registered entries on one core.
pub const OWNERS_PER_CORE_MAX: usize = 1_048_576;

const _: () = assert!(REGISTRY_ENTRIES_PER_SHARD_MAX * (REGISTRY_NAME_BYTES_MAX + 2) + 64 <= RING_LEASED_BYTES_MAX);

/// Most child processes at a time.
pub const CHILDREN_MAX: usize = 1024;
/// Most bytes of what a child process is started with: command, arguments, environment.
pub const CHILD_COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of one line of a child's standard error that the log shows.
pub const CHILD_LINE_BYTES_MAX: usize = 4 * 1024;
/// What a child may print between two messages that is none. Programs print what they like when they start; one that
/// prints nothing else keeps its core busy for nothing.
pub const CHILD_BABBLE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that wait for a child process to read them, a single message apart.
pub const CHILD_UNSENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of the first message of a server that dials in, with the head of its handshake if it is a WebSocket.
pub const DIAL_BYTES_MAX: usize = 16 * 1024;
/// Longest key of a server that dials in, in bytes: the rest of its first message is less than as much again.
pub const DIAL_KEY_BYTES_MAX: usize = 4 * 1024;
/// Shortest one.
pub const DIAL_KEY_BYTES_MIN: usize = 16;
/// Most bytes that wait for one connection of a server that dials in, a single message apart; and for its first one to
/// be ready.
pub const DIALLED_UNSENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(2 * DIAL_KEY_BYTES_MAX < DIAL_BYTES_MAX, "a key of characters that are escaped fits as well");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_is_wanted_does() {
        for connections in (1..300).chain([1000, 50_000]) {
            for listeners in [0, 1, 2, 5, 31] {
                let wanted = table_for(connections, listeners);
                let shares = share_table(wanted, listeners).expect("large enough");
                assert!(shares.connections >= connections, "{connections}, {listeners}: {wanted}, {shares:?}");
            }
        }
    }

    #[test]
    fn a_table_that_is_shared_out_can_always_refuse() {
        for descriptors in (0..2_000).chain([4096, 20_000, 1 << 20]) {
            for listeners in [0, 1, 2, 3, 5, 8, 31, 63, 64, 200] {
                let Some(shares) = share_table(descriptors, listeners) else {
                    assert!(descriptors < listeners + 2, "{descriptors} slots do for {listeners} listeners");
                    continue;
                };
                assert_eq!(shares.connections + shares.reserve, descriptors);
                assert!(shares.connections > 0 && shares.accepts > 0);
                // All clients come by one listener: the accepts of the others never get anybody.
                let out_of_reach = listeners.saturating_sub(1) * shares.accepts;
                assert!(
                    shares.connections + out_of_reach < descriptors,
                    "{descriptors} slots, {listeners} listeners, {shares:?}"
                );
                assert!(
                    descriptors < 1024 || listeners > 3 || shares.connections * 10 >= descriptors * 7,
                    "{shares:?}"
                );
            }
        }
    }
}
