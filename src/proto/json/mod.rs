//! JSON texts as bytes: one strict pass that finds what routing needs, a navigator, a writer, and what
//! rewrites a text where it stands, gives it its one canonical form, or shows it to people.
//!
//! Not here: values that own memory, serde, or any meaning beyond where a member of a JSON-RPC message begins and ends.
//! Invariant: the bytes that were judged are the bytes that are forwarded, so every result is a [`Span`] of the text
//! that was scanned, and two parsers can never disagree about it: what is ambiguous (duplicate keys, lone surrogates,
//! numbers no `f64` can hold, a byte order mark) is refused by [`Scanner`].

mod canonical;
mod envelope;
mod error;
mod outline;
mod pretty;
mod scan;
mod splice;
mod strings;
mod value;
mod write;

pub use canonical::canonical;
pub use envelope::{Envelope, IdKind, Key, Kind, Root, Span};
pub use error::ScanError;
pub use outline::{Outline, Part};
pub use pretty::{pretty, visibly};
pub use scan::Scanner;
pub use splice::{first_byte, is_empty, splice};
#[cfg(test)]
pub(crate) use value::take_passed;
pub use value::{Elements, Members, RawStr, Value, ValueKind};
pub use write::{Array, Object, compact, has_newline, integer, raw, string};

#[cfg(test)]
mod tests;
