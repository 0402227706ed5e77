//! Tickets of reply: what a core is waiting for from others, found again when the answer comes.
//!
//! Not here: the wire form of a ticket (a parcel's header carries it as two integers), deadlines.
//! Invariant: a ticket's slot is reserved before its request is sent and stays so until the ticket is claimed, so a
//! reply always finds its place; and a ticket is claimed once, by the reply, the deadline or the peer's death,
//! whichever is first.

use super::peers::PortId;
use crate::ids::Ticket;

/// The open tickets of one core, in memory of a fixed size.
pub struct Tickets<T> {
    slots: Box<[TicketSlot<T>]>,
    /// Index of the first free slot; each knows the next.
    free: Option<u32>,
    open: usize,
    stale: u64,
}

struct TicketSlot<T> {
    /// Counts the slot's uses. Wraps after 2^32 of them, long after any reply to the first was given up.
    generation: u32,
    hold: Hold<T>,
}

enum Hold<T> {
    Free { next: Option<u32> },
    Open { towards: PortId, value: T },
}

impl<T> Tickets<T> {
    /// Room for `capacity` open tickets, all of it allocated here.
    ///
    /// *Panics* if an index does not fit in 32 bits.
    pub fn new(capacity: usize) -> Self {
        let count = u32::try_from(capacity).expect("a ticket's index is 32 bits");
        let slots = (1..=count)
            .map(|next| TicketSlot { generation: 0, hold: Hold::Free { next: (next < count).then_some(next) } })
            .collect();
        Self { slots, free: (count > 0).then_some(0), open: 0, stale: 0 }
    }

    /// Reserves a place for the reply to a request that is about to be sent to `towards`.
    ///
    /// *Errors* give the value back: every ticket is out, and the request has to wait.
    pub fn reserve(&mut self, towards: impl Into<PortId>, value: T) -> Result<Ticket, T> {
        let Some(index) = self.free else { return Err(value) };
        let slot = &mut self.slots[index as usize];
        let Hold::Free { next } = slot.hold else { unreachable!("an open ticket on the free list") };
        self.free = next;
        slot.hold = Hold::Open { towards: towards.into(), value };
        self.open += 1;
        Ok(Ticket { index, generation: slot.generation })
    }

    /// Ends a ticket and returns what it was reserved for; `None`, and counted, if it has ended before.
    pub fn claim(&mut self, ticket: Ticket) -> Option<T> {
        match self.slots.get_mut(ticket.index as usize) {
            Some(slot) if slot.generation == ticket.generation && matches!(slot.hold, Hold::Open { .. }) => {
                slot.generation = slot.generation.wrapping_add(1);
                let hold = std::mem::replace(&mut slot.hold, Hold::Free { next: self.free });
                self.free = Some(ticket.index);
                self.open -= 1;
                match hold {
                    Hold::Open { value, .. } => Some(value),
                    Hold::Free { .. } => None,
                }
            }
            _ => {
                self.stale += 1;
                None
            }
        }
    }

    /// What an open ticket was reserved for.
    pub fn peek(&self, ticket: Ticket) -> Option<&T> {
        let slot = self.slots.get(ticket.index as usize).filter(|slot| slot.generation == ticket.generation)?;
        match &slot.hold {
            Hold::Open { value, .. } => Some(value),
            Hold::Free { .. } => None,
        }
    }

    /// The open tickets towards a port. Looks at every slot: for deaths, not for turns.
    pub fn towards(&self, port: impl Into<PortId>) -> impl Iterator<Item = (Ticket, &T)> {
        let port = port.into();
        (0u32..).zip(&self.slots).filter_map(move |(index, slot)| match &slot.hold {
            Hold::Open { towards, value } if *towards == port => {
                Some((Ticket { index, generation: slot.generation }, value))
            }
            _ => None,
        })
    }

    /// Claims every ticket towards a port that died, so that each can be answered in its place.
    pub fn claim_towards(&mut self, port: impl Into<PortId>, mut each: impl FnMut(Ticket, T)) {
        let port = port.into();
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            let ticket = Ticket { index, generation: slot.generation };
            if matches!(slot.hold, Hold::Open { towards, .. } if towards == port)
                && let Some(value) = self.claim(ticket)
            {
                each(ticket, value);
            }
        }
    }

    /// Tickets open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Tickets that can still be reserved.
    pub fn free(&self) -> usize {
        self.slots.len() - self.open
    }

    /// Claims that came too late.
    pub fn stale(&self) -> u64 {
        self.stale
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const A: PortId = PortId(0);
    const B: PortId = PortId(1);

    #[test]
    fn a_ticket_is_claimed_once_and_a_late_claim_never_reaches_the_next_tenant() {
        let mut tickets = Tickets::new(1);
        let first = tickets.reserve(A, "first").expect("room");
        assert_eq!(tickets.reserve(A, "second"), Err("second"), "full: the value comes back");
        assert_eq!(tickets.claim(first), Some("first"));
        let second = tickets.reserve(B, "second").expect("room again");
        assert_eq!((first.index, tickets.claim(first)), (second.index, None));
        assert_eq!((tickets.stale(), tickets.peek(second)), (1, Some(&"second")));
        assert_eq!(
            tickets.claim(Ticket { index: 7, generation: 0 }),
            None,
            "an index out of range is stale, not fatal"
        );
    }

    #[test]
    fn every_ticket_towards_a_dead_core_is_answered_and_no_other() {
        let mut tickets = Tickets::new(8);
        for value in 0..8 {
            tickets.reserve(if value % 2 == 0 { A } else { B }, value).expect("room");
        }
        let mut answered = Vec::new();
        tickets.claim_towards(B, |_, value| answered.push(value));
        assert_eq!(answered, [1, 3, 5, 7]);
        assert_eq!(tickets.towards(A).map(|(_, value)| *value).collect::<Vec<_>>(), [0, 2, 4, 6]);
        assert_eq!((tickets.towards(B).count(), tickets.open(), tickets.free()), (0, 4, 4));
    }

    proptest! {
        #[test]
        fn tickets_behave_like_a_map_with_a_capacity(
            steps in prop::collection::vec((any::<bool>(), 0usize..24), 1..200),
        ) {
            let mut tickets = Tickets::new(6);
            let mut model = HashMap::new();
            let mut made = Vec::new();
            for (count, (reserves, pick)) in steps.into_iter().enumerate() {
                if reserves {
                    let outcome = tickets.reserve(A, count);
                    prop_assert_eq!(outcome.is_ok(), model.len() < 6);
                    if let Ok(ticket) = outcome {
                        prop_assert_eq!(model.insert(ticket, count), None, "a ticket was given out twice");
                        made.push(ticket);
                    }
                } else if let Some(ticket) = made.get(pick) {
                    prop_assert_eq!(tickets.claim(*ticket), model.remove(ticket));
                }
                prop_assert_eq!(tickets.open(), model.len());
            }
        }
    }
}
