//! The byte filter: what stands between the bytes on a connection's wire and those that the machines read and write.
//!
//! A connection without one is plain and pays for a comparison. TLS is meant to be one; `reframing`, which exists in
//! tests only, shows that nothing before or behind a filter has to know of it.
//! Not here: sockets, frames, timers. Invariant: a filter does no I/O and knows no time; the machines see the same
//! clear bytes whatever the filter, and what they want to say leaves in the same order.

#[cfg(test)]
pub mod reframing;

/// Which filter the connections of a listener get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FilterKind {
    /// None: the wire carries what the machines read and write.
    #[default]
    Plain,
    /// Records with a greeting and a farewell, for tests.
    #[cfg(test)]
    Reframing,
}

impl FilterKind {
    /// A filter for a new connection, if it gets one.
    pub(super) fn make(self) -> Option<Box<dyn ByteFilter>> {
        match self {
            FilterKind::Plain => None,
            #[cfg(test)]
            FilterKind::Reframing => Some(Box::new(reframing::Reframing::server())),
        }
    }
}

/// The wire's bytes are none of this filter's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bytes on the wire cannot be opened: {0}")]
pub struct FilterFault(pub &'static str);

/// A filter of one connection. Wire bytes come in as slices that may be edited, clear bytes go out as a slice of them
/// or of a buffer lent for the purpose; what is to be sent goes in and comes out as owned buffers.
pub trait ByteFilter {
    /// Takes bytes from the wire. The clear bytes that are there now stand in `wire` or in `spill`, which comes empty;
    /// bytes of a record that is not whole yet are kept.
    ///
    /// # Errors
    /// The bytes are none of this filter's. What it wants to say about that is among what it holds; nothing more can be
    /// opened.
    fn open<'b>(&mut self, wire: &'b mut [u8], spill: &'b mut Vec<u8>) -> Result<&'b [u8], FilterFault>;

    /// Whether part of a record, or of the greeting, has come and the rest is awaited.
    fn is_within_record(&self) -> bool;

    /// Whether the peer has said that it will send no more. An end of the wire without that is a broken connection.
    fn peer_has_ended(&self) -> bool;

    /// Takes clear bytes to be sent and gives the wire bytes that may be sent now: what it has to say of its own first.
    /// Before the greeting is over it keeps what it takes. Nothing may come of nothing.
    fn seal(&mut self, clear: Vec<u8>) -> Vec<u8>;

    /// Whether `seal` would give bytes even if it were given none.
    fn has_words(&self) -> bool;

    /// Bytes it keeps that are to be sent, now or later.
    fn held(&self) -> usize;

    /// No more clear bytes will be sent: the farewell is prepared, once however often this is called.
    fn finish(&mut self);
}
