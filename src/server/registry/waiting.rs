//! What this core has asked of others and not yet heard: tickets, and answers that come in parts.
//!
//! Not here: what is asked (`member`). Invariant: a ticket has one answer, by the core that was asked, its death, or
//! the time; and a late answer never reaches the next tenant of a ticket's place.

use std::task::Waker;

use super::item::{Reader, Reply};
use crate::ids::Ticket;
use crate::limits::CORE_TICKETS_MAX;
use crate::shard::registry::{Admission, ContentionStatus, Nanos, Owner, Refusal, ShardStatistics};

/// An answer, whole.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Told to so many, refused by so many.
    Delivered {
        /// Owners that have the message.
        told: usize,
        /// Owners that are gone or whose inbox is full.
        refused: usize,
    },
    /// It is done.
    Done {
        /// Every live core knows of it; if not, those that do not will as soon as they can.
        applied: bool,
    },
    /// What is registered.
    Entry {
        /// Whose it is.
        owner: Owner,
        /// What was given with it.
        config: Vec<u8>,
    },
    /// The name of a server.
    Name(String),
    /// Names, in no order.
    Names(Vec<String>),
    /// Shards, in no order.
    Statistics(Vec<ShardStatistics>),
    /// Admission and alarms.
    Status(ContentionStatus),
}

struct Wait {
    /// Cores that were asked, as bits, and have not answered.
    cores: u64,
    /// Parts that were announced and did not come yet; parts that came before they were announced count against it.
    forwarded: i32,
    so_far: Option<Answer>,
    refused: Option<Refusal>,
    /// Something is to be unregistered.
    ends: bool,
    /// Nobody waits for the answer; the ticket is kept until it comes, because something ends by it.
    unheard: bool,
    deadline: Nanos,
    waker: Option<Waker>,
}

enum Hold {
    Free { next: Option<u32> },
    Open(Wait),
    Answered(Result<Answer, Refusal>),
}

struct Slot {
    generation: u32,
    hold: Hold,
}

/// The open tickets of one core.
#[derive(Default)]
pub(super) struct Waiting {
    slots: Vec<Slot>,
    free: Option<u32>,
    open: usize,
    /// Open ones by which something is to be unregistered.
    ends: usize,
}

impl Waiting {
    /// A ticket for an answer by these cores. None if all tickets are out.
    pub(super) fn reserve(&mut self, cores: u64, deadline: Nanos) -> Option<Ticket> {
        let wait = Wait {
            cores,
            forwarded: 0,
            so_far: None,
            refused: None,
            ends: false,
            unheard: false,
            deadline,
            waker: None,
        };
        let index = match self.free {
            Some(index) => index,
            None if self.slots.len() >= CORE_TICKETS_MAX => return None,
            None => {
                self.slots.push(Slot { generation: 0, hold: Hold::Free { next: None } });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        if let Hold::Free { next } = slot.hold {
            self.free = next;
        }
        slot.hold = Hold::Open(wait);
        self.open += 1;
        Some(Ticket { index, generation: slot.generation })
    }

    /// By this ticket something is to be unregistered.
    pub(super) fn marks_end(&mut self, ticket: Ticket) {
        if let Some(wait) = self.wait(ticket) {
            wait.ends = true;
            self.ends += 1;
        }
    }

    /// Whether anything is to be unregistered that no answer was heard of.
    pub(super) fn any_end_asked(&self) -> bool {
        self.ends > 0
    }

    /// Tickets without an answer.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Takes in an answer, or a part of one, of the core with that bit.
    /// `part` says that it was not asked by us, but by one that was.
    pub(super) fn answer(&mut self, ticket: Ticket, from: u64, part: bool, reply: &Reply<'_>) {
        let Some(wait) = self.wait(ticket) else { return };
        if part {
            wait.forwarded -= 1;
        }
        let mut whole = true;
        match reply {
            Reply::Delivered { told, refused, forwarded } => {
                wait.forwarded += i32::from(*forwarded);
                match &mut wait.so_far {
                    Some(Answer::Delivered { told: before, refused: failed }) => {
                        *before += *told as usize;
                        *failed += *refused as usize;
                    }
                    so_far => {
                        *so_far = Some(Answer::Delivered { told: *told as usize, refused: *refused as usize });
                    }
                }
            }
            Reply::Done { applied } => match &mut wait.so_far {
                Some(Answer::Done { applied: before }) => *before &= applied,
                so_far => *so_far = Some(Answer::Done { applied: *applied }),
            },
            Reply::Entry { owner, config } => {
                wait.so_far = Some(Answer::Entry { owner: *owner, config: config.to_vec() });
            }
            Reply::Name(name) => wait.so_far = Some(Answer::Name((*name).to_owned())),
            Reply::Names { more, names } => {
                whole = !more;
                let names = Reader(names).names().map(str::to_owned);
                match &mut wait.so_far {
                    Some(Answer::Names(before)) => before.extend(names),
                    so_far => *so_far = Some(Answer::Names(names.collect())),
                }
            }
            Reply::Refused(refusal) => wait.refused = Some(refusal.clone()),
            Reply::Statistics(shards) => {
                let shards = Reader(shards).statistics();
                match &mut wait.so_far {
                    Some(Answer::Statistics(before)) => before.extend(shards),
                    so_far => *so_far = Some(Answer::Statistics(shards.collect())),
                }
            }
            Reply::Status { closed, admission, alarmed, shards } => {
                wait.so_far = Some(Answer::Status(status(*closed, *admission, *alarmed, *shards)));
            }
        }
        if whole && !part {
            wait.cores &= !from;
        }
        self.settle(ticket);
    }

    /// The answer, if it is whole: the ticket ends with it. Else whoever waits is woken by this.
    pub(super) fn take(&mut self, ticket: Ticket, waker: Option<&Waker>) -> Option<Result<Answer, Refusal>> {
        let slot = self.slots.get_mut(ticket.index as usize).filter(|slot| slot.generation == ticket.generation)?;
        match &mut slot.hold {
            Hold::Answered(answer) => {
                let answer = std::mem::replace(answer, Err(Refusal::NoAnswer));
                self.end(ticket);
                Some(answer)
            }
            Hold::Open(wait) => {
                if let Some(waker) = waker
                    && wait.waker.as_ref().is_none_or(|known| !known.will_wake(waker))
                {
                    wait.waker = Some(waker.clone());
                }
                None
            }
            Hold::Free { .. } => None,
        }
    }

    /// Nobody waits any more.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let Some(slot) = self.slots.get_mut(ticket.index as usize) else { return };
        if slot.generation != ticket.generation {
            return;
        }
        match &mut slot.hold {
            Hold::Free { .. } => {}
            Hold::Open(wait) if wait.ends => (wait.unheard, wait.waker) = (true, None),
            Hold::Open(_) | Hold::Answered(_) => self.end(ticket),
        }
    }

    /// A core died: what was asked of it will not be answered.
    pub(super) fn lose(&mut self, core: u64) {
        self.refuse(|wait| (wait.cores & core != 0).then_some(Refusal::ShardLost));
    }

    /// Time passed: who waits for too long is told.
    pub(super) fn expire(&mut self, now: Nanos) {
        self.refuse(|wait| (wait.deadline <= now).then_some(Refusal::NoAnswer));
    }

    fn refuse(&mut self, why: impl Fn(&Wait) -> Option<Refusal>) {
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            let Hold::Open(wait) = &mut slot.hold else { continue };
            if let Some(refusal) = why(wait) {
                (wait.refused, wait.cores, wait.forwarded) = (Some(refusal), 0, 0);
                let ticket = Ticket { index, generation: slot.generation };
                self.settle(ticket);
            }
        }
    }

    fn wait(&mut self, ticket: Ticket) -> Option<&mut Wait> {
        let slot = self.slots.get_mut(ticket.index as usize).filter(|slot| slot.generation == ticket.generation)?;
        match &mut slot.hold {
            Hold::Open(wait) => Some(wait),
            Hold::Answered(_) | Hold::Free { .. } => None,
        }
    }

    /// Makes an answer of the parts once all are there.
    fn settle(&mut self, ticket: Ticket) {
        let Some(wait) = self.wait(ticket) else { return };
        if wait.cores != 0 || wait.forwarded != 0 {
            return;
        }
        if wait.unheard {
            return self.end(ticket);
        }
        let answer = match wait.refused.take() {
            Some(refusal) => Err(refusal),
            None => wait.so_far.take().ok_or(Refusal::NoAnswer),
        };
        let (waker, ends) = (wait.waker.take(), wait.ends);
        self.ends -= usize::from(ends);
        self.slots[ticket.index as usize].hold = Hold::Answered(answer);
        self.open -= 1;
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn end(&mut self, ticket: Ticket) {
        let slot = &mut self.slots[ticket.index as usize];
        if let Hold::Open(wait) = &slot.hold {
            self.open -= 1;
            self.ends -= usize::from(wait.ends);
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.hold = Hold::Free { next: self.free };
        self.free = Some(ticket.index);
    }
}

/// A status from its parts.
pub(super) fn status(closed: bool, admission: Admission, alarmed: u16, shards: u16) -> ContentionStatus {
    ContentionStatus { admission_closed: closed, admission, alarmed, shards }
}
