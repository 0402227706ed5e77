//! Timers: when something is due on a connection, and what happens then.
//!
//! Not here: how timers are kept (`wheel`), clocks. Invariant: a connection and an exchange have at most one entry on
//! the wheel, and none once they are over; an entry that comes early finds the deadline moved and is made anew.

use super::connection::{Connection, Phase, Wire};
use super::core::{Core, TICK, Timer};
use super::drain::Drain;
use super::exchange::ExchangeKey;
use super::service::{Nanos, Service};
use super::settings::Settings;
use super::wheel::Wheel;
use crate::ids::ConnectionId;
use crate::metrics::CloseCause;

impl<S: Service> Core<S> {
    /// When something has to happen on a connection if nothing else does before.
    pub(super) fn deadline_of(&self, connection: &Connection) -> Nanos {
        let settings = &self.settings;
        if connection.sending > 0 {
            return send_deadline(settings, &self.drain, connection);
        }
        match connection.phase {
            Phase::Closing => Nanos::MAX,
            Phase::Finishing | Phase::Lingering => connection.active_at + settings.linger,
            Phase::Open => match connection.wire() {
                _ if let Some(early) = &connection.early => early.until,
                _ if connection.paced_until > 0 => connection.paced_until,
                Wire::Http if connection.exchange.is_some() || connection.duplex.is_some() => {
                    connection.active_at + settings.stream_keep_alive
                }
                Wire::Http if connection.is_between_frames() => connection.active_at + settings.keep_alive,
                // What is in flight takes its own time; a line that has begun to come takes a line's.
                Wire::Lines if connection.is_between_frames() || self.is_occupied(connection) => Nanos::MAX,
                // Whoever is at the other end of standard input is the one who started us.
                Wire::Lines if settings.ends_when_empty => self.drain.frame_deadline(Nanos::MAX),
                _ => {
                    let time = settings.frame_time(&connection.framing, connection.carry.len());
                    self.drain.frame_deadline(connection.frame_since + time)
                }
            },
        }
    }

    pub(super) fn tick(&mut self) {
        if self.service.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.service.tick(self.now);
        }
        if let Some(registry) = &self.registry {
            registry.machine().tick(self.now);
        }
        let tick = self.now / TICK;
        let mut due = Vec::new();
        self.wheel.advance(tick, |timer| due.push(timer));
        for timer in due {
            match timer {
                Timer::Connection(id) => self.connection_due(id, tick),
                Timer::Drain => self.drain_due(),
                Timer::Exchange(key) => self.exchange_due(key),
                Timer::Sessions => {
                    let is_all = self.sweep_sessions();
                    let next = if is_all { self.settings.sweep_every.div_ceil(TICK) } else { 1 };
                    self.wheel.insert(tick + next, Timer::Sessions);
                }
            }
        }
    }

    /// Sees to it that the core is reminded of its drain then.
    pub(super) fn remind_of_drain(&mut self, at: Nanos) {
        self.wheel.insert(at.div_ceil(TICK), Timer::Drain);
    }

    /// Puts an exchange's deadline on the wheel, in place of an earlier one.
    pub(super) fn remind(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.find(key) else { return };
        if let Some(before) = exchange.timer.take() {
            self.wheel.remove(before);
        }
        exchange.timer = Some(self.wheel.insert(exchange.deadline.div_ceil(TICK), Timer::Exchange(key)));
    }

    fn connection_due(&mut self, id: ConnectionId, tick: u64) {
        let Some(mut connection) = self.take(id) else { return };
        // What else came of this tick may have put another in its place.
        if connection.timer.is_some_and(|(due, _)| due <= tick) {
            connection.timer = None;
            if connection.deadline <= self.now {
                self.time_up(&mut connection);
            }
        }
        self.put(connection);
    }

    fn time_up(&mut self, connection: &mut Connection) {
        if connection.sending > 0 {
            self.abandon(connection);
            self.close(connection, CloseCause::WriteStall);
            return;
        }
        match connection.phase {
            Phase::Closing => {}
            Phase::Finishing | Phase::Lingering => self.close(connection, CloseCause::PeerClosed),
            Phase::Open if connection.early.is_some() => self.end_wait(connection),
            Phase::Open if connection.paced_until > 0 => {
                connection.paced_until = 0;
                self.resumable.push_back(connection.id);
            }
            Phase::Open
                if connection.wire() == Wire::Http
                    && (connection.exchange.is_some() || connection.duplex.is_some()) =>
            {
                self.keep_alive(connection);
            }
            Phase::Open if connection.is_between_frames() => {
                self.finish(connection, CloseCause::KeepAliveTimeout);
            }
            Phase::Open => self.frame_too_slow(connection),
        }
    }
}

/// When a send that made no progress until then is given up. What the peer sends meanwhile is none.
pub(super) fn send_deadline(settings: &Settings, drain: &Drain, connection: &Connection) -> Nanos {
    // Who started us may stop for a while, in a debugger say, and finds us as it left us.
    let is_awaited = settings.ends_when_empty && !connection.ended && !drain.is_on();
    if is_awaited { Nanos::MAX } else { connection.sent_at + settings.write_stall }
}

/// Sees to it that the wheel comes by at the connection's deadline, or before.
pub(super) fn set_timer(wheel: &mut Wheel<Timer>, connection: &mut Connection) {
    if connection.deadline != Nanos::MAX {
        let tick = connection.deadline.div_ceil(TICK);
        match connection.timer {
            Some((before, _)) if before <= tick => return,
            Some((_, later)) => drop(wheel.remove(later)),
            None => {}
        }
        connection.timer = Some((tick, wheel.insert(tick, Timer::Connection(connection.id))));
    }
}
