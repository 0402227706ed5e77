//! Tasks where several servers are seen: an id stands behind its server's name, `{name}+{id}`, as URIs do (`uris`), so
//! that whoever comes back with it is led to that server, from any core and after a reload.
//!
//! Not here: the tasks themselves, which are their server's. Invariant: what `seen` writes, `uris::own` takes off
//! again; an id is the same wherever it stands, because clients compare them.

use super::request::Era;
use super::server::Verdict;
use super::{Gateway, invalid, uris};
use crate::proto::json::{Key, Span, Value, ValueKind, splice, string};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Served, Service};

/// Where messages say which task they belong to (mcp 2025-11-25, "Related Task Metadata").
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// What is said of a task that there is not, or not for who asks.
pub(super) const NO_SUCH_TASK: &str = "there is no such task";

/// A result with its tasks named as the caller sees them; none if nothing in it is of tasks.
pub fn seen(result: &[u8], method: Method, before: &str) -> Option<Vec<u8>> {
    memchr::memmem::find(result, br#""taskId""#)?;
    let value = Value::new(result);
    let is_created = match method {
        Method::TasksCancel | Method::TasksGet | Method::TasksResult | Method::TasksUpdate => false,
        // What a tool answers at once may call things what it likes.
        Method::ToolsCall => {
            let is_flat = value.get("resultType").and_then(Value::as_str).as_deref() == Some("task");
            let is_within = value.get("task").is_some_and(|task| task.get("taskId").is_some());
            if !is_flat && !is_within {
                return None;
            }
            true
        }
        _ => return None,
    };
    let mut renames = Renames { text: result, before, edits: Vec::new() };
    if method != Method::TasksResult {
        renames.id_of(value);
    }
    if is_created {
        renames.id_of_member(value, "task");
    }
    if method == Method::TasksGet
        && let Some(done) = value.get("result").filter(|done| done.kind() == ValueKind::Object)
        && let Some(renamed) = uris::seen(done.raw(), Method::ToolsCall, before)
    {
        renames.put(done, renamed);
    }
    renames.related(value);
    Some(renames.done())
}

/// What is said of how a task stands (2025-11-25, "Task Status Notification"), with the task named as its caller sees
/// it; none if it names none.
pub fn status(params: &[u8], before: &str) -> Option<Vec<u8>> {
    seen(params, Method::TasksGet, before)
}

/// The parameters of a question that a server asks for a task of its.
pub fn question(params: &[u8], before: &str) -> Vec<u8> {
    let mut renames = Renames { text: params, before, edits: Vec::new() };
    renames.related(Value::new(params));
    renames.done()
}

/// Ids in a text that are to be others; all else stays as it came.
struct Renames<'a> {
    text: &'a [u8],
    before: &'a str,
    edits: Vec<(Span, Vec<u8>)>,
}

impl<'a> Renames<'a> {
    fn put(&mut self, value: Value<'a>, renamed: Vec<u8>) {
        self.edits.extend(value.span_in(self.text).map(|span| (span, renamed)));
    }

    fn id_of(&mut self, object: Value<'a>) {
        let Some(own) = object.get("taskId") else { return };
        if let Some(id) = own.as_str() {
            let mut renamed = Vec::new();
            string(&mut renamed, &format!("{}{id}", self.before));
            self.put(own, renamed);
        }
    }

    fn id_of_member(&mut self, object: Value<'a>, name: &str) {
        if let Some(member) = object.get(name) {
            self.id_of(member);
        }
    }

    fn related(&mut self, object: Value<'a>) {
        if let Some(meta) = object.get("_meta") {
            self.id_of_member(meta, RELATED);
        }
    }

    fn done(mut self) -> Vec<u8> {
        self.edits.sort_unstable_by_key(|(span, _)| span.start);
        let mut out = Vec::new();
        splice(&mut out, self.text, &self.edits);
        out
    }
}

/// Whether a call asks for a task (2025-11-25) that its server would not make of it: who cannot be told so by the
/// capabilities of a server that is seen alone is told so by those of the tool (mcp 2025-11-25, "Tool-Level
/// Negotiation").
pub(super) fn is_of_other_era(call: &Call<'_>, verdict: Verdict) -> bool {
    call.method == Method::ToolsCall
        && !call.version.is_modern()
        && call.envelope.has(Key::Task)
        && verdict == Verdict::Known(Era::Modern)
}

impl<S: Service> Gateway<S> {
    /// What is asked of a task, by somebody who sees several servers, or one.
    pub(super) fn of_task(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        let Some(id) = call.envelope.str(Key::TaskId, call.text) else { return invalid("`taskId` must be a string") };
        let Some(seen) = self.seen(call.view) else { return invalid("there is no such view") };
        if let Some(server) = seen.alone {
            return self.relay(call, server, None, None);
        }
        let own = |server: u16| uris::own(&id, &self.servers[usize::from(server)].settings.name);
        // Nobody has a task of the other era than his own.
        let is_of_its_era = |server: u16| match self.servers[usize::from(server)].verdict {
            Verdict::Known(era) => era.is_modern() == call.version.is_modern(),
            Verdict::Asking | Verdict::Retired(_) | Verdict::Unknown => true,
        };
        match seen.servers.iter().find_map(|&server| Some((server, own(server)?.to_owned()))) {
            Some((server, _)) if !is_of_its_era(server) => invalid(NO_SUCH_TASK),
            Some((server, own)) => {
                let before = self.before_uris(call.view, server);
                self.relay(call, server, Some(&own), before.as_deref())
            }
            None if seen.native => self.call_native(call, out),
            None => invalid(NO_SUCH_TASK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: &str, method: Method) -> String {
        let seen = seen(result.as_bytes(), method, "s+").unwrap_or_else(|| result.into());
        String::from_utf8(seen).expect("text")
    }

    #[test]
    fn tasks_are_renamed_wherever_they_stand() {
        for (method, result, wanted) in [
            (
                Method::ToolsCall,
                r#"{"resultType":"task","taskId":"a","status":"working","x":{"taskId":"b"}}"#,
                r#"{"resultType":"task","taskId":"s+a","status":"working","x":{"taskId":"b"}}"#,
            ),
            (
                Method::ToolsCall,
                r#"{"task":{"taskId":"a\"","ttl":null},"_meta":{"k":1}}"#,
                r#"{"task":{"taskId":"s+a\"","ttl":null},"_meta":{"k":1}}"#,
            ),
            (
                Method::TasksGet,
                r#"{"taskId":"a","status":"completed","result":{"content":[{"type":"resource","resource":{"uri":"u:v"}}]}}"#,
                r#"{"taskId":"s+a","status":"completed","result":{"content":[{"type":"resource","resource":{"uri":"s+u:v"}}]}}"#,
            ),
            (Method::TasksCancel, r#"{"taskId":"a","status":"cancelled"}"#, r#"{"taskId":"s+a","status":"cancelled"}"#),
            (
                Method::TasksResult,
                r#"{"content":[],"taskId":"mine","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a"}}}"#,
                r#"{"content":[],"taskId":"mine","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"s+a"}}}"#,
            ),
        ] {
            assert_eq!(text(result, method), wanted);
        }
        for untouched in [r#"{"content":[],"taskId":"a"}"#, r#"{"content":[],"task":{"name":"taskId"}}"#] {
            assert_eq!(seen(untouched.as_bytes(), Method::ToolsCall, "s+"), None, "{untouched}");
        }
        assert_eq!(seen(br#"{"taskId":"a"}"#, Method::PromptsGet, "s+"), None);
        let asked = br#"{"message":"?","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a"}}}"#;
        let wanted = br#"{"message":"?","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"s+a"}}}"#;
        assert_eq!(question(asked, "s+"), wanted);
    }
}
