//! Confirming: a receive that brought bytes, and after which nothing was sent, is armed anew once it has been silent.
//!
//! A multishot receive can miss the end of its stream. If bytes and a reset (before Linux 6.19 or so: or an end) come
//! before the kernel gets to its deferred work, it reads the bytes, takes the second wake-up for one of the same, and
//! waits for a third that never comes: `io_poll_check_events` of Linux 6.0 to 6.18, liburing #1549. Seen here once in
//! some thousand connections that were reset behind their bytes. Who is sent anything then is found to be gone by that;
//! the others would stay for ever. A receive that is armed looks at the socket first, so arming it is enough.
//! Not here: receives that are armed singly, which look each time.
//! Invariant: a stream is in the list at most once; only silence after bytes costs anything, and that once.

use std::time::Duration;

use super::driver::Driver;
use super::operation::{Operation, user_data};
use super::streams::State;
use crate::ids::ConnectionId;

/// How long a stream is silent before its receive is armed anew.
const SILENCE: Duration = Duration::from_millis(100);
/// How much sooner it may be, so that one turn sees to many.
const SLACK: Duration = Duration::from_millis(25);

impl Driver {
    /// Bytes came by a receive that goes on.
    pub(super) fn doubt(&mut self, id: ConnectionId) {
        let Some(stream) = self.streams.find(id) else { return };
        stream.set(State::UNCONFIRMED);
        if !stream.is(State::DOUBTED) {
            stream.set(State::DOUBTED);
            self.doubted.push_back((self.now + SILENCE, id));
        }
    }

    /// Has receives of streams that were silent for so long end, to be armed again.
    pub(super) fn confirm(&mut self) {
        while let Some(&(due, id)) = self.doubted.front()
            && due <= self.now + SLACK
        {
            self.doubted.pop_front();
            let Some(stream) = self.streams.find(id) else { continue };
            stream.clear(State::DOUBTED);
            let elsewhere = State::STOPPING.and(State::HANG_UP_POLLED).and(State::CLOSING).and(State::ENDED);
            if stream.take(State::UNCONFIRMED) && stream.is(State::RECEIVING) && !stream.any(elsewhere) {
                stream.set(State::STOPPING);
                self.stats.receives_confirmed += 1;
                self.cancel(user_data(Operation::Receive, id));
            }
        }
    }

    /// How long a turn may wait for the sake of those.
    pub(super) fn doubt_patience(&self) -> Option<Duration> {
        self.doubted.front().map(|(due, _)| due.saturating_sub(self.now))
    }
}
