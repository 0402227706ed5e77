//! The ring's one alarm: what ends a sleep in which nothing comes.
//!
//! A time-out of `io_uring_enter` itself is set and taken back by the kernel at each sleep, which costs a core that
//! sleeps between any two calls about as much as the call. So one operation stays set over many sleeps: it is set anew
//! once it has rung, and moved if something is due before. Not here: what is due (`server`).
//! Invariant: while a sleep that is to end has no time-out of its own, the alarm is set and rings no later than that.
#![allow(unsafe_code)]

use std::time::Duration;

use io_uring::{opcode, squeue};

use super::driver::Driver;
use super::enter::WAIT_MAX;
use super::operation::Operation;

/// Shorter sleeps have a time-out of their own: an operation for each would cost more.
const SHORT: Duration = Duration::from_millis(1);

/// The alarm of one ring.
#[derive(Default)]
pub(super) struct Alarm {
    /// When it rings, in the time of turns; none if it is not set.
    pub(super) rings_at: Option<Duration>,
    /// The kernel did not take it: sleeps have time-outs of their own.
    is_refused: bool,
}

impl Driver {
    /// Makes sure that a sleep ends that begins at `now` and lasts `wait` at most: what `io_uring_enter` has to be
    /// told, none if the alarm does it.
    pub(super) fn end_sleep(&mut self, now: Duration, wait: Option<Duration>) -> Option<Duration> {
        let wait = wait?;
        if wait < SHORT || self.alarm.is_refused {
            return Some(wait);
        }
        let wait = wait.min(WAIT_MAX);
        let due = now + wait;
        // The kernel reads the time when the operation is submitted.
        let entry = match self.alarm.rings_at {
            Some(rings_at) if rings_at <= due => return None,
            Some(_) => {
                let entry = opcode::TimeoutUpdate::new(Operation::Alarm.alone(), self.arena.alarm_in(wait)).build();
                // If it has rung meanwhile, that completion ends the sleep, and this one says so only once more.
                entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Operation::Cancel.alone())
            }
            None => opcode::Timeout::new(self.arena.alarm_in(wait)).build().user_data(Operation::Alarm.alone()),
        };
        self.push(entry);
        self.alarm.rings_at = Some(due);
        None
    }

    /// A completion of the alarm.
    pub(super) fn rung(&mut self, result: i32) {
        self.alarm.rings_at = None;
        self.alarm.is_refused |= !matches!(-result, libc::ETIME | libc::ECANCELED);
    }
}
