//! What an operation's user data says: which kind it is, whose, and of which tenancy of the slot.
//!
//! Not here: making operations (`driver`, `receive`, `send`, `accept`, `connect`, `close`, `wake`).
//! Invariant: no two operations in flight have the same user data, so a cancel meets exactly what it names.

use io_uring::cqueue;

use crate::ids::ConnectionId;

/// Slots that user data has room for.
pub(super) const SLOTS_MAX: u32 = 1 << 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    /// Ends a sleep.
    Alarm = 15,
    /// A connection that another core hands over; its slot is the listener's index.
    Arrive = 10,
    Bell = 2,
    /// A bell that could not be rung; its slot is the descriptor of the ring it was for.
    BellSent = 3,
    Cancel = 4,
    Close = 5,
    Connect = 12,
    Foreign = 6,
    /// A cancel of a connect, which is told when it found nothing.
    GiveUp = 14,
    HandOver = 11,
    /// A descriptor of the process that is to become a direct one; its slot is the number of the attempt to connect.
    Install = 13,
    Receive = 7,
    Send = 8,
    Shutdown = 9,
}

impl Operation {
    fn from_bits(bits: u8) -> Option<Operation> {
        use Operation::*;
        [
            Accept, Alarm, Arrive, Bell, BellSent, Cancel, Close, Connect, Foreign, GiveUp, HandOver, Install, Receive,
            Send, Shutdown,
        ]
        .into_iter()
        .find(|operation| *operation as u8 == bits)
    }

    /// User data of an operation that belongs to no stream.
    pub(super) fn alone(self) -> u64 {
        user_data(self, ConnectionId { slot: 0, generation: 0 })
    }
}

/// Operation, slot and generation in one word: 8, 24 and 32 bits.
pub(super) fn user_data(operation: Operation, id: ConnectionId) -> u64 {
    debug_assert!(id.slot < SLOTS_MAX, "slots are 24 bits wide in user data");
    (operation as u64) << 56 | u64::from(id.slot) << 32 | u64::from(id.generation)
}

/// The inverse of `user_data`.
pub(super) fn identify(user_data: u64) -> (Option<Operation>, ConnectionId) {
    let id = ConnectionId { slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1), generation: user_data as u32 };
    (Operation::from_bits((user_data >> 56) as u8), id)
}

/// Whether more completions follow for the same operation, and which receive buffer came with this one.
pub(super) fn receive_flags(flags: u32) -> (bool, Option<u16>) {
    (cqueue::more(flags), cqueue::buffer_select(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_tells_operation_slot_and_generation_apart() {
        for slot in [0, 1, SLOTS_MAX - 1] {
            for generation in [0, 1, u32::MAX] {
                let id = ConnectionId { slot, generation };
                assert_eq!(identify(user_data(Operation::Send, id)), (Some(Operation::Send), id));
                assert_eq!(identify(user_data(Operation::Accept, id)), (Some(Operation::Accept), id));
            }
        }
        assert_eq!(identify(0).0, None);
    }
}
