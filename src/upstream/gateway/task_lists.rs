//! `tasks/list` (2025-11-25) behind the gateway: a caller's own tasks, of each server of its view in turn.
//!
//! Not here: names of tasks (`task_ids`), whose each is (`owed`). Invariant: callers share sessions with a server, so
//! what it lists is everybody's; nobody is told of a task that was not made in its own session.
//!
//! A page is one server's, so that none is waited for on another's account: its cursor leads to that server's next one,
//! or, behind the last, to the next server. A server that is away is passed over.

use super::answer;
use super::cursors::{Cursor, with_cursor};
use super::flight::Relay;
use super::owed::Promise;
use super::request::Era;
use super::server::{Server, Verdict};
use super::{Gateway, invalid};
use crate::ids::View;
use crate::proto::json::{Envelope, Object, Value, ValueKind};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Served, Service};

/// Whose page it is: the native server's, or that of the server before this number.
const NATIVE: u32 = 0;

impl<S: Service> Gateway<S> {
    /// The tasks of a session.
    pub(super) fn list_tasks(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        let Some(seen) = self.seen(call.view) else { return invalid("there is no such view") };
        if let Some(server) = seen.alone {
            return self.relay(call, server, None, None);
        }
        let cursor = match self.cursor_of(call) {
            Ok(cursor) => cursor,
            Err(error) => return Served::Failed(error),
        };
        let lists = |turn: &u32| {
            let Some(server) = turn.checked_sub(1) else { return true };
            let server = &self.servers[server as usize];
            let is_legacy = matches!(server.verdict, Verdict::Known(Era::Legacy(_)));
            is_legacy && server.about.as_ref().is_some_and(|about| about.offers.tasks)
        };
        // All of them, so that one that has gone since does not take those behind it along.
        let servers = seen.servers.iter().map(|server| u32::from(*server) + 1);
        let turns: Vec<u32> = seen.native.then_some(NATIVE).into_iter().chain(servers).collect();
        let behind = |at: u32| turns.iter().skip_while(|turn| **turn != at).skip(1).find(|turn| lists(turn));
        let (turn, own) = match &cursor {
            None => (turns.iter().find(|turn| lists(turn)), ""),
            Some(Cursor { at, own, .. }) if !own.is_empty() && turns.contains(at) && lists(at) => (Some(at), &**own),
            Some(Cursor { at, .. }) => (behind(*at), ""),
        };
        let Some(&turn) = turn else {
            out.extend_from_slice(br#"{"tasks":[]}"#);
            return Served::Done;
        };
        let text = with_cursor(call, own);
        let mut envelope = Envelope::default();
        if self.scanner.scan(&text, &mut envelope).is_err() {
            return invalid("`params` cannot be read");
        }
        let call = Call { text: &text, envelope: &envelope, ..*call };
        if turn != NATIVE {
            let server = (turn - 1) as u16;
            let before = self.before_uris(call.view, server);
            return self.relay(&call, server, None, before.as_deref());
        }
        let mut result = Vec::new();
        let served = self.native.call(&call, &mut result);
        if let Served::Done = served {
            let next = |own: &str| {
                Cursor { view: call.view, method: call.method, at: NATIVE, own: own.into() }.seal(&*self.host)
            };
            out.extend_from_slice(&page(Value::new(&result), |_| true, "", next));
        }
        served
    }
}

impl Server {
    /// What a legacy server lists, as a caller is told it: only what is its own, under the names that it knows.
    pub(super) fn tasks_of(&self, relay: &Relay, result: Value<'_>) -> Vec<u8> {
        let is_its = |id: &str| {
            let creditor = self.owed.creditor_of(Promise::Task, id);
            creditor.is_some_and(|of| of.core == relay.caller.core && Some(of.session) == relay.session)
        };
        let view = relay.kept.as_ref().map_or(View::ALL, |kept| kept.view);
        let next = |own: &str| match relay.uris {
            None => own.to_owned(),
            Some(_) => {
                let at = u32::from(self.base) + 1;
                Cursor { view, method: Method::TasksList, at, own: own.into() }.seal(&*self.seal)
            }
        };
        page(result, is_its, relay.uris.as_deref().unwrap_or_default(), next)
    }
}

/// A page with those tasks that are the caller's, `before` their ids, and where to go on: `next` is told the page's own
/// cursor, which is empty behind the last.
fn page(result: Value<'_>, is_its: impl Fn(&str) -> bool, before: &str, next: impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(result.raw().len());
    let mut object = Object::begin(&mut out);
    for (name, member) in result.members() {
        let Some(name) = name.unescaped().filter(|name| name != "nextCursor") else { continue };
        if name != "tasks" || member.kind() != ValueKind::Array {
            object.raw(&name, member.raw());
            continue;
        }
        let mut tasks = object.array("tasks");
        for task in member.elements() {
            let Some(id) = task.get("taskId").and_then(Value::as_str).filter(|id| is_its(id)) else { continue };
            tasks.raw(&answer::renamed(task, "taskId", &format!("{before}{id}")));
        }
        tasks.end();
    }
    let own = result.get("nextCursor").and_then(Value::as_str).unwrap_or_default();
    let next = next(&own);
    if !next.is_empty() {
        object.string("nextCursor", &next);
    }
    object.end();
    out
}
