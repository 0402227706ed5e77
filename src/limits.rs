//! Every bound in one place, as named arithmetic; what relates two bounds is asserted when this file compiles.
//!
//! Not here: what an operator may set (that is `config`, whose defaults come from here).
//! Invariant: nothing in the program grows past a bound that is not written down here.

/// Deepest nesting of arrays and objects accepted in a JSON text.
pub const JSON_DEPTH_MAX: usize = 64;
/// Most tokens (values and keys) accepted in one JSON text.
pub const JSON_TOKENS_MAX: usize = 100_000;
/// Most keys (24 bytes each) a scanner keeps room for between two texts; a larger text pays for its own room.
pub const JSON_KEYS_RETAINED: usize = 1024;
/// Most bytes of unescaped keys a scanner keeps room for between two texts.
pub const JSON_UNESCAPED_BYTES_RETAINED: usize = 4 * 1024;
/// Largest HTTP request head in bytes: request line and header fields.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in one HTTP request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Longest request target in bytes.
pub const HTTP_TARGET_BYTES_MAX: usize = 4 * 1024;
/// Longest chunk extension in bytes, summed over one chunk header.
pub const HTTP_CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Largest message body accepted by default, in bytes.
pub const BODY_BYTES_DEFAULT: usize = 1024 * 1024;
/// Largest message body that can be configured, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most messages in one JSON-RPC batch (2025-03-26 only).
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Most tasks one core keeps, running and finished together.
pub const TASKS_PER_CORE_MAX: usize = 1024;
/// Most bytes of tasks' results and questions one core keeps.
pub const TASK_BYTES_PER_CORE_MAX: usize = 16 * 1024 * 1024;
/// Largest `requestState` before it is sealed: the answers and remembered values of one call.
pub const REQUEST_STATE_BYTES_MAX: usize = 64 * 1024;
/// Most values in one answer to `completion/complete` (the specification's bound).
pub const COMPLETION_VALUES_MAX: usize = 100;
/// Entries in one page of a list by default.
pub const LIST_PAGE_DEFAULT: usize = 250;

/// Most shards.
pub const SHARDS_MAX: usize = 1024;
/// Most cores.
pub const CORES_MAX: usize = 64;

/// Bytes in one slot of a mesh ring.
pub const RING_SLOT_BYTES: usize = 256;
/// Slots in one mesh ring.
pub const RING_SLOTS: usize = 1024;

const _: () = assert!(BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);
// The offsets of a JSON span are `u32`, the highest of which means none.
const _: () = assert!(BODY_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(RING_SLOTS.is_power_of_two() && RING_SLOT_BYTES.is_multiple_of(64));
