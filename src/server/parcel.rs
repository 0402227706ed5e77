//! What travels between cores: the header of a parcel. The text that goes with it is its payload.
//!
//! Not here: rings and how a parcel lies in them (`ring`), what is done about one (`pump`).
//! Invariant: a header is plain numbers; it is read in place, so its size is the same for every variant.
#![allow(missing_docs, reason = "a variant's sentence explains its fields; derived forms mirror them")]

use rkyv::{Archive, Deserialize, Serialize};

use super::exchange::ExchangeKey;
use crate::ids::Ticket;
use crate::shard::replay::EventId;

/// A `Ticket` or an `ExchangeKey` on its way.
pub type Numbers = (u32, u32);

/// What a parcel is; the text that goes with it is its payload.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// Owner to home: several calls of one batch are to answer; the payload holds what is answered already, as lines.
    Batch { ticket: Numbers, pending: u16 },
    /// To everybody: something changed. `what` is a `ChangeKind`; the payload names it.
    Changed { what: u8, split: u32 },
    /// Home to owner: a DELETE. The payload is the session's id.
    Delete { ticket: Numbers },
    /// Owner to home: the stream ends without a response; with `retry`, the client is told when to come back.
    End { ticket: Numbers, prime: Option<u32>, retry: bool },
    /// Home to owner: a GET. The payload is the session's id.
    Get { ticket: Numbers, last: Option<Numbers> },
    /// Home to owner: nobody waits any more.
    Gone { ticket: Numbers },
    /// Owner to home: a message on the stream, which begins with it if it has not yet.
    Message { ticket: Numbers, event: Option<Numbers>, prime: Option<u32> },
    /// To where a task lives: a modern request about it, by somebody who sees that view.
    Modern { ticket: Numbers, view: u16 },
    /// Owner to home: the stream is open.
    Open { ticket: Numbers, prime: Option<u32> },
    /// Home to owner: a POST, sent at that time. The payload is the session's id (`id` bytes) and the body.
    Post { ticket: Numbers, id: u16, patience: u64, sent: u64 },
    /// Home to owner: nothing was said for so long that the answer has to become a stream.
    Quiet { ticket: Numbers },
    /// What two members of the registry have to say to each other; the payload is a batch of it.
    Registry,
    /// Owner to home: a message of a stream that its client takes up again, so one that it asked for.
    Replayed { ticket: Numbers, event: Numbers },
    /// Owner to home: the answer, the last that is heard of the ticket (but for batches).
    Reply { ticket: Numbers, status: u16, event: Option<Numbers> },
    /// From service to service: what it says only they know.
    Service { kind: u8, about: u32, number: u64 },
    /// To where a 2024-11-05 stream is: a message posted for it, if the receiver is still in that life.
    StreamPost { ticket: Numbers, life: u32, stream: Numbers },
}

impl Header {
    /// The ticket that waits for an answer to this, if it asks for one.
    pub fn asks(&self) -> Option<Numbers> {
        match *self {
            Header::Delete { ticket }
            | Header::Get { ticket, .. }
            | Header::Modern { ticket, .. }
            | Header::Post { ticket, .. }
            | Header::StreamPost { ticket, .. } => Some(ticket),
            _ => None,
        }
    }
}

impl From<ExchangeKey> for Numbers {
    fn from(key: ExchangeKey) -> Numbers {
        (key.index, key.generation)
    }
}

impl From<Numbers> for ExchangeKey {
    fn from((index, generation): Numbers) -> ExchangeKey {
        ExchangeKey { index, generation }
    }
}

impl From<Ticket> for Numbers {
    fn from(ticket: Ticket) -> Numbers {
        (ticket.index, ticket.generation)
    }
}

impl From<Numbers> for Ticket {
    fn from((index, generation): Numbers) -> Ticket {
        Ticket { index, generation }
    }
}

impl From<EventId> for Numbers {
    fn from(id: EventId) -> Numbers {
        (id.stream, id.number)
    }
}

impl From<Numbers> for EventId {
    fn from((stream, number): Numbers) -> EventId {
        EventId { stream, number }
    }
}
