//! Calls that fail: whether the next is tried (a breaker for each tool), and whether the one that failed is sent again.
//!
//! Not here: the rules themselves (`shard::breaker`). Invariant: what failed without our asking twice is never sent
//! twice, unless its tool says that this does no harm and the operator believes it.
//!
//! What counts is whether there was an answer: one that is an error was given by somebody who is there, and whether a
//! tool likes its arguments says nothing about the next caller's.

use std::borrow::Cow;

use super::flight::{Kept, Relay};
use super::server::Server;
use crate::proto::json::{Envelope, Key, Value};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Method;
use crate::server::service::Nanos;
use crate::shard::breaker::Try;

/// Most tools of a server on one core that have a breaker at a time.
pub(super) const BREAKERS_MAX: usize = 1024;
/// Pause before a call is sent again: this and up to as much again.
const AGAIN: Nanos = 50_000_000;

/// The tool that is called, by the server's own name for it; empty for everything else, which has one breaker.
pub(super) fn tool_of<'a>(
    method: Method,
    name: Option<&'a str>,
    envelope: &'a Envelope,
    text: &'a [u8],
) -> Cow<'a, str> {
    match (method, name) {
        (Method::ToolsCall, Some(name)) => name.into(),
        (Method::ToolsCall, None) => envelope.str(Key::Name, text).unwrap_or_default(),
        _ => "".into(),
    }
}

/// Whether a tool says that calling it twice does what calling it once does (2025-11-25, "Tool Annotations").
pub(super) fn says_it_may_be_repeated(tool: Value<'_>) -> bool {
    let hints = tool.get("annotations");
    ["readOnlyHint", "idempotentHint"]
        .iter()
        .any(|hint| hints.and_then(|hints| hints.get(hint)).is_some_and(|value| value.raw() == b"true"))
}

impl Server {
    /// Whether a call of a tool is tried now, and which try it is.
    ///
    /// # Errors
    /// What its caller is told instead.
    pub(super) fn may_try(&mut self, now: Nanos, tool: &str) -> Result<Try, RpcError> {
        self.retry_budget.called();
        let wait = match self.breakers.admit(now, tool, self.settings.call_time) {
            Ok(tried) => return Ok(tried),
            Err(wait) => wait,
        };
        let (name, ms) = (&self.settings.name, wait.div_ceil(1_000_000));
        let what = if tool.is_empty() { "requests".to_owned() } else { format!("calls of {tool}") };
        let text = format!("{what} fail at server {name}: none is sent there for {ms} ms; try again then");
        Err(RpcError::new(Code::OVERLOADED, text).with_data(format!(r#"{{"retryAfterMs":{ms}}}"#)))
    }

    /// A call that was to be tried was not sent, which tells nothing of its tool.
    pub(super) fn was_not_tried(&mut self, kept: &Kept) {
        self.breakers.untold(&tool_of(kept.method, kept.name.as_deref(), &kept.envelope, &kept.text), kept.tried);
    }

    /// A call was answered.
    pub(super) fn call_answered(&mut self, now: Nanos, relay: &Relay) {
        // How long people take says nothing of the server.
        if relay.asked == 0 {
            self.pace.took(now.saturating_sub(relay.sent_at));
        }
        self.breakers.succeeded(now, &relay.tool, relay.tried);
    }

    /// A call ended without an answer.
    pub(super) fn call_failed(&mut self, now: Nanos, relay: &Relay) {
        if relay.blame == 0 {
            return self.breakers.untold(&relay.tool, relay.tried);
        }
        if self.breakers.failed(now, &relay.tool, relay.tried, u32::from(relay.blame), self.chance()) {
            let (server, tool) = (&*self.settings.name, &*relay.tool);
            tracing::warn!(server, tool, "calls fail, and are kept from it for a while");
            self.metrics.breakers_opened.add(1);
        }
    }

    /// Takes a call that failed, if it may be sent again; gives it back if not.
    pub(super) fn again(&mut self, now: Nanos, mut relay: Relay, error: &RpcError) -> Option<Relay> {
        let is_cut_off = error.code == Code::BAD_GATEWAY && relay.blame > 0 && relay.asked == 0;
        let Some(kept) = relay.kept.take_if(|kept| is_cut_off && !kept.again && kept.asked == 0) else {
            return Some(relay);
        };
        let may = self.repeatable.contains(&relay.tool) && !self.is_retired;
        let admitted = may.then(|| self.breakers.admit(now, &relay.tool, self.settings.call_time)).and_then(Result::ok);
        let tried = match admitted {
            Some(tried) if !self.retry_budget.take(now) => {
                // The next call is the one that tries whether its tool is well again.
                self.breakers.untold(&relay.tool, tried);
                None
            }
            admitted => admitted,
        };
        let Some(tried) = tried else {
            relay.kept = Some(kept);
            return Some(relay);
        };
        self.metrics.retries.add(1);
        let at = now + AGAIN + self.chance() % AGAIN;
        self.to_repeat.push((at, Kept { again: true, tried, ..*kept }));
        None
    }

    /// Sends calls again whose pause is over.
    pub(super) fn repeat(&mut self, now: Nanos) {
        while let Some(place) = self.to_repeat.iter().position(|(at, _)| *at <= now) {
            let (_, kept) = self.to_repeat.swap_remove(place);
            self.enqueue(now, kept);
        }
    }

    /// Whether a call of this tool has to be kept, so that it can be sent again.
    pub(super) fn is_repeatable(&self, tool: &str) -> bool {
        !self.repeatable.is_empty() && self.repeatable.contains(tool)
    }

    /// A number that nobody chose.
    fn chance(&self) -> u64 {
        // The serial counts messages of this core to this server; its product spreads over all bits.
        self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }
}
