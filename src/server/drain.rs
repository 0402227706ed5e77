//! Draining: nothing new is taken, what is in flight ends well, then every connection goes.
//!
//! Not here: signals (`control`), other cores. Invariant: a drain ends, at the latest when its time is up.

use super::connection::{Connection, HttpAnswer, Phase, Wire};
use super::core::{Core, Effect};
use super::exchange::{Kind, Sink};
use super::service::{Nanos, Service};
use crate::metrics::{CloseCause, Refusal};
use crate::proto::http1;
use crate::proto::jsonrpc::{Code, RpcError};

/// How long what is said at the end of a drain's time has to leave.
const LAST_WORDS: Nanos = 200_000_000;

/// How long a request that has begun to come has in a drain to be whole: whoever sends it has had some time already,
/// and finds somebody else.
const LAST_FRAMES: Nanos = 1_000_000_000;

/// Whether a core drains.
#[derive(Clone, Copy, Default, Debug)]
pub struct Drain {
    on: bool,
    /// Until when requests that have begun to come are waited for.
    frames_until: Nanos,
    /// Its time is up, and those who waited were told.
    is_over: bool,
}

impl Drain {
    /// Whether it does.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// When a request has to be whole that would be given up then, if there were no drain.
    pub(super) fn frame_deadline(&self, usual: Nanos) -> Nanos {
        if self.on { usual.min(self.frames_until) } else { usual }
    }
}

impl<S: Service> Core<S> {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.on {
            return;
        }
        self.drain.on = true;
        self.drain.frames_until = self.now + LAST_FRAMES;
        self.log_drain("nothing new is taken");
        self.service.drain();
        self.effect(Effect::StopAccepting);
        // Subscription streams end with their result; legacy streams are told when to come back, to another process.
        for key in self.exchanges.keys(|exchange| exchange.kind == Kind::Listen) {
            self.end_listen(key);
        }
        for key in self.exchanges.keys(|exchange| exchange.kind == Kind::Get) {
            let Some(exchange) = self.forget(key) else { continue };
            match exchange.sink {
                Sink::Http(id) => self.with(id, |core, connection| {
                    core.tell_retry(connection);
                    core.end_stream(connection);
                }),
                sink => self.end_sink(sink),
            }
        }
        let ids: Vec<_> = self.connections.iter().flatten().map(|connection| connection.id).collect();
        for id in ids {
            // Each is looked at as it is put back.
            self.with(id, |core, connection| {
                // Until now nobody minded how long it reads nothing, if it started us.
                if core.settings.ends_when_empty {
                    connection.sent_at = core.now;
                }
                if let Some(HttpAnswer::Undecided { keep_alive, .. }) = &mut connection.answer {
                    *keep_alive = false;
                }
            });
        }
        self.remind_of_drain(self.now + self.settings.drain_time);
    }

    /// Whether a drain has come to its end: no connection is left, and no other core waits for an answer of this one,
    /// nor of its service.
    pub(super) fn is_drained(&self) -> bool {
        let is_empty = self.drain.on && self.open == 0 && self.remotes.is_empty();
        is_empty && (self.drain.is_over || self.service.is_drained())
    }

    /// Lets a connection go if nothing is in flight on it. Asked after every step that concerns it.
    pub(super) fn drain_connection(&mut self, connection: &mut Connection) {
        if connection.phase != Phase::Open || connection.exchange.is_some_and(|_| connection.duplex.is_none()) {
            return;
        }
        self.end_wait(connection);
        match connection.wire() {
            Wire::Http if connection.duplex.is_some() && connection.batch_left == 0 => {
                self.tell_retry(connection);
                self.release_duplex(connection);
                self.end_stream(connection);
                self.finish(connection, CloseCause::Drained);
            }
            Wire::Http if connection.duplex.is_none() && connection.is_between_frames() => {
                self.finish(connection, CloseCause::Drained);
            }
            Wire::Lines if connection.calls.is_empty() && connection.carry.is_empty() => {
                self.release_duplex(connection);
                self.finish(connection, CloseCause::Drained);
            }
            _ => {}
        }
    }

    pub(super) fn tell_retry(&mut self, connection: &mut Connection) {
        if let Some(HttpAnswer::Stream { framing, .. }) = connection.answer {
            let retry = u64::from(self.settings.retry_ms);
            http1::chunk(&mut connection.out, framing, |out| crate::proto::sse::retry(out, retry));
        }
    }

    /// The drain's time is up, or that of standard input's last calls: who waits is told, and has a moment to hear it;
    /// then all is cut off.
    pub(super) fn drain_due(&mut self) {
        // Standard input ended a while ago: nothing was told to drain, and now is the time for it.
        self.begin_drain();
        if !std::mem::replace(&mut self.drain.is_over, true) {
            self.log_drain("its time is up, calls are told so");
            let text = "the server is ending, and waits for this call no longer; try again shortly";
            for key in self.exchanges.keys(|exchange| exchange.kind == Kind::Call) {
                self.refused(Refusal::Draining);
                self.service.cancel(self.now, key.into());
                self.reply(key, Err(RpcError::new(Code::OVERLOADED, text)));
            }
            // Their owners say so as well, unless they stand still.
            for key in self.exchanges.keys(|exchange| matches!(exchange.kind, Kind::Forwarded { .. })) {
                let kind = self.exchanges.find(key).map(|exchange| exchange.kind);
                let Some(Kind::Forwarded { to }) = kind else { continue };
                self.refused(Refusal::Draining);
                self.tell_gone(to, key);
                self.end_forwarded(key, 503, &RpcError::new(Code::OVERLOADED, text));
            }
            return self.remind_of_drain(self.now + LAST_WORDS);
        }
        self.log_drain("what is left is cut off");
        let ids: Vec<_> = self.connections.iter().flatten().map(|connection| connection.id).collect();
        for id in ids {
            self.with(id, |core, connection| {
                core.abandon(connection);
                core.close(connection, CloseCause::DrainDeadline);
            });
        }
        let others: Vec<_> = self.remotes.iter().map(|&(_, _, key)| key).collect();
        for key in others {
            self.lost_its_sink(key.into());
        }
        // Nobody waits for an exchange that is over. There should be no such note, and if there is it keeps no drain
        // from its end.
        self.remotes.clear();
    }
}
