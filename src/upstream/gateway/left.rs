//! Outcomes of calls whose callers are away with a question: their servers went on without the answer.
//!
//! Not here: calls that still wait for it (`bridge`). Invariant: an outcome is told once, to the call that comes back
//! for it; no more bytes are kept than [`LEFT_BYTES_MAX`], of which the oldest go first, and none longer than a caller
//! has to answer.

use std::collections::VecDeque;

use super::flight::{Kept, Relay};
use super::server::Server;
use crate::proto::jsonrpc::RpcError;
use crate::server::service::Nanos;

/// Most bytes of outcomes, and of the calls that they are of, of one server on one core.
const LEFT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What came of a call.
type Outcome = Result<Vec<u8>, RpcError>;

/// An outcome whose caller is away.
struct Left {
    /// The id of its call on the wire.
    serial: u64,
    kept: Box<Kept>,
    outcome: Outcome,
    until: Nanos,
}

impl Left {
    fn bytes(&self) -> usize {
        let of_error = |error: &RpcError| error.message.len() + error.data.as_ref().map_or(0, |data| data.len());
        size_of::<Left>() + self.kept.bytes() + self.outcome.as_ref().map_or_else(of_error, Vec::len)
    }
}

/// All of one server's, the oldest first.
#[derive(Default)]
pub(super) struct Leavings {
    all: VecDeque<Left>,
    /// The sum of theirs.
    bytes: usize,
}

impl Leavings {
    fn add(&mut self, left: Left) {
        self.bytes += left.bytes();
        self.all.push_back(left);
        while self.bytes > LEFT_BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.all.pop_front().map_or(0, |left| left.bytes());
    }

    /// The outcome of the call of this id, if it is the one that is meant.
    pub fn take(&mut self, serial: u64, is_it: impl Fn(&Kept) -> bool) -> Option<Outcome> {
        let place = self.all.iter().position(|left| left.serial == serial && is_it(&left.kept))?;
        let left = self.all.remove(place)?;
        self.bytes -= left.bytes();
        Some(left.outcome)
    }

    /// Those that nobody came back for in time are gone.
    pub fn forget(&mut self, now: Nanos) {
        while self.deadline().is_some_and(|until| until <= now) {
            self.drop_oldest();
        }
    }

    /// When the next one is. All have the same time.
    pub fn deadline(&self) -> Option<Nanos> {
        self.all.front().map(|left| left.until)
    }
}

impl Server {
    /// Tells a caller what came of its call, or leaves it for one that is away and is to come back.
    pub(super) fn tell_outcome(&mut self, now: Nanos, serial: u64, relay: Relay, outcome: Outcome) {
        match relay.kept.filter(|_| relay.is_parked) {
            Some(kept) => self.left.add(Left { serial, kept, outcome, until: now + self.settings.ask_time }),
            None => self.callers.reply(relay.caller, outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CoreId, View};
    use crate::proto::json::{Envelope, Scanner};
    use crate::proto::mcp::{Capabilities, Method, Version};
    use crate::server::service::CallKey;
    use crate::upstream::gateway::callers::Caller;

    fn left(serial: u64, bytes: usize, until: Nanos) -> Left {
        let text = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
        let mut envelope = Envelope::default();
        Scanner::new().scan(text, &mut envelope).expect("valid");
        let kept = Kept {
            caller: Caller { core: CoreId(0), key: CallKey { index: 1, generation: 1 } },
            view: View(1),
            version: Version::V2026_07_28,
            session: None,
            method: Method::ToolsCall,
            capabilities: Capabilities::default(),
            log_level: None,
            is_level_chosen: false,
            may_ask: true,
            latest: Nanos::MAX,
            text: text.to_vec(),
            envelope,
            param_lines: Box::default(),
            name: None,
            uris: None,
            again: false,
            tried: Default::default(),
            rounds: 0,
            asked: 0,
            round: Vec::new(),
        };
        Left { serial, kept: Box::new(kept), outcome: Ok(vec![b' '; bytes]), until }
    }

    #[test]
    fn an_outcome_is_told_once_to_its_call_in_time_and_the_oldest_make_room() {
        let mut leavings = Leavings::default();
        let bytes = |leavings: &mut Leavings, serial| {
            leavings.take(serial, |_| true).map(|outcome| outcome.expect("a result").len())
        };
        leavings.add(left(1, 7, 10));
        assert!(leavings.take(1, |_| false).is_none(), "it is another call's");
        assert_eq!([2, 1, 1].map(|serial| bytes(&mut leavings, serial)), [None, Some(7), None]);
        for serial in 3..6 {
            leavings.add(left(serial, LEFT_BYTES_MAX / 2 - 1024, 10 + serial));
        }
        assert_eq!(bytes(&mut leavings, 3), None, "it was the oldest");
        leavings.forget(13);
        assert_eq!(leavings.deadline(), Some(14));
        leavings.forget(14);
        assert_eq!([4, 5].map(|serial| bytes(&mut leavings, serial).is_some()), [false, true]);
        leavings.add(left(6, LEFT_BYTES_MAX, 20));
        assert_eq!((leavings.bytes, leavings.deadline()), (0, None), "what is too large by itself is not kept");
    }
}
