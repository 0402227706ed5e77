//! Who waits for a place at a server, and who is told at once that there is none.
//!
//! Not here: the rules themselves (`shard::queue`), what else calls wait for (`turns`). Invariant: a call that was let
//! in is sent or told why not, once; what is told is counted by its cause, and says when it is worth to come back.

use super::callers::Caller;
use super::flight::Kept;
use super::server::Server;
use super::turns::keep;
use crate::metrics::Unserved;
use crate::proto::json::Key;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Nanos};
use crate::shard::breaker::Try;
use crate::shard::queue::{Arrival, Class, Room, Scale, share_of};

/// How long whoever is turned away is to stay away: the interval of what waiting is measured by, but so long at least
/// and at most, and up to as much again, so that not all come back at once (reliability.md 2.11: 1 to 30 s).
const RETRY_MS: u64 = 1_000;
const RETRY_MS_MAX: u64 = 15_000;
const MILLISECOND: Nanos = 1_000_000;

/// Of which class a request is (reliability.md 2.8). What the gateway itself has to say (cancels, answers, farewells)
/// waits for nothing, and the control plane never comes here.
fn class_of(method: Method, is_answer: bool) -> Class {
    match method {
        _ if is_answer => Class::Running,
        Method::TasksCancel | Method::TasksGet | Method::TasksResult | Method::TasksUpdate => Class::Running,
        Method::CompletionComplete | Method::LoggingSetLevel | Method::Ping | Method::PromptsGet => Class::Request,
        Method::ResourcesRead | Method::TasksList | Method::ToolsCall => Class::Request,
        Method::Initialize | Method::SubscriptionsListen => Class::Opening,
        Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => Class::Opening,
        Method::PromptsList | Method::ResourcesList | Method::ResourcesTemplatesList => Class::Refresh,
        Method::ServerDiscover | Method::ToolsList => Class::Refresh,
    }
}

impl Server {
    /// What waiting for it is measured by.
    fn scale(&self) -> Scale {
        self.pace.scale(self.settings.queue_target, self.settings.calls_max)
    }

    /// A call came while there was a place for it.
    #[inline]
    pub(super) fn found_place(&mut self, now: Nanos) {
        let (pace, settings) = (&self.pace, &self.settings);
        self.queue.went_by(now, || pace.scale(settings.queue_target, settings.calls_max));
    }

    /// A call came while there was no place for it: it waits.
    ///
    /// # Errors
    /// What its caller is told if it may not.
    pub(super) fn wait_for_place(
        &mut self,
        now: Nanos,
        call: &Call<'_>,
        tried: Try,
        caller: Caller,
        name: Option<&str>,
        uris: Option<&str>,
    ) -> Result<(), RpcError> {
        let is_answer = call.envelope.has(Key::RequestState);
        let names = [name, uris].into_iter().flatten().map(str::len).sum::<usize>();
        // Calls of a session are of one share, so that the work of some is done whole.
        let whose = call.session.unwrap_or(u64::from(call.key.generation) << 32 | u64::from(call.key.index));
        let new = Arrival {
            class: class_of(call.method, is_answer),
            share: share_of(now, whose ^ u64::from(caller.core.0) << 40),
            bytes: size_of::<Kept>() + call.text.len() + call.param_lines.len() + names,
            until: call.deadline,
        };
        let (scale, room) = (self.scale(), self.room_in_queue());
        let told = self.queue.admit(now, &new, room, &scale);
        self.tell_turned(now);
        if let Err(why) = told {
            // Nothing else follows from it that would say so.
            self.publish();
            return Err(self.unserved(now, why, whose));
        }
        self.queue.put(now, &new, &scale, keep(call, tried, caller, name, uris));
        Ok(())
    }

    /// A call that was let in before has to wait once more.
    pub(super) fn wait_again(&mut self, now: Nanos, kept: Kept) {
        let class = class_of(kept.method, kept.rounds > 0 || kept.again);
        let new = Arrival { class, share: 0, bytes: kept.bytes(), until: kept.latest };
        self.queue.put(now, &new, &self.scale(), kept);
    }

    /// What is left for calls that wait for a place, beside those that wait for something else.
    fn room_in_queue(&self) -> Room {
        let (calls, bytes) = (self.waiting_calls() - self.queue.len(), self.waiting_elsewhere_bytes());
        Room {
            calls: self.settings.waiting_max.saturating_sub(calls),
            bytes: self.settings.waiting_bytes_max.saturating_sub(bytes),
        }
    }

    /// Sends calls that had to wait for others to end, and tells those that waited for too long.
    pub fn admit_queued(&mut self, now: Nanos) {
        // A call that is parked keeps its link, and so does a stream of what belongs to no request.
        self.channel.leave_room(now, self.flights.parked() + self.flights.streams());
        if !self.queue.has_work() {
            return;
        }
        let scale = self.scale();
        while !self.is_full()
            && let Some(kept) = self.queue.take(now, &scale)
        {
            self.enqueue(now, kept);
        }
        self.queue.sweep(now);
        self.tell_turned(now);
    }

    /// Tells those that were let in and are turned away.
    fn tell_turned(&mut self, now: Nanos) {
        while let Some((kept, why)) = self.queue.turned() {
            self.was_not_tried(&kept);
            let error = self.unserved(now, why, u64::from(kept.caller.key.index));
            self.callers.reply(kept.caller, Err(error));
        }
    }

    /// Counts a call that is turned away; what its caller is told.
    fn unserved(&self, now: Nanos, why: Unserved, whose: u64) -> RpcError {
        self.metrics.unserved[why.index()].add(1);
        let (name, waiting, scale) = (&self.settings.name, self.queue.len(), self.scale());
        let text = match why {
            Unserved::Displaced => format!(
                "more calls come than server {name} gets done, and the place in which this one waited was needed for \
                 one that matters more"
            ),
            Unserved::Expired => format!("the time of this call was up before server {name} had a place for it"),
            Unserved::Overdue => format!("server {name} gets so little done that this call waited in vain"),
            Unserved::Priority => format!(
                "more calls come than server {name} gets done, and those of this kind are not let in at the moment"
            ),
            Unserved::QueueBytes => {
                let (bytes, most) = (self.queue.bytes(), self.settings.waiting_bytes_max);
                format!(
                    "{waiting} calls of {bytes} bytes wait for server {name} already, and with this one they would \
                     take more than {most}, the most there may be"
                )
            }
            Unserved::QueueCalls => {
                format!("{waiting} calls wait for server {name} already, the most there may be")
            }
            Unserved::QueueDelay => {
                let ms = (scale.gap.saturating_mul(waiting as u64 + 1) / MILLISECOND).max(1);
                format!("{waiting} calls wait for server {name} already, and this one would for about {ms} ms")
            }
        };
        let label = why.label();
        if why == Unserved::Expired {
            return RpcError::new(Code::DEADLINE, text).with_data(format!(r#"{{"reason":"{label}"}}"#));
        }
        let least = if scale == Scale::NONE { RETRY_MS } else { scale.interval / MILLISECOND };
        let least = least.clamp(RETRY_MS, RETRY_MS_MAX);
        let ms = least + ((now ^ whose).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % (least + 1);
        let data = format!(r#"{{"reason":"{label}","retryAfterMs":{ms}}}"#);
        RpcError::new(Code::OVERLOADED, text + "; try again later").with_data(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_goes_before_what_is_asked_and_lists_come_last() {
        let class = |method| class_of(method, false);
        assert!(class(Method::TasksResult) < class(Method::ToolsCall));
        assert!(class(Method::ToolsCall) < class(Method::ResourcesSubscribe));
        assert!(class(Method::ResourcesSubscribe) < class(Method::ToolsList));
        assert_eq!(class_of(Method::ToolsCall, true), Class::Running, "an answer to what was asked in the midst of it");
        let best = Method::ALL.iter().map(|method| class(*method)).min();
        assert_eq!(best, Some(Class::Running), "nothing that a client may ask is of the control plane");
    }
}
