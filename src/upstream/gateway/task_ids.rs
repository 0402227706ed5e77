//! Tasks where several servers are seen: an id stands behind its server's name, `{name}+{id}`, as URIs do (`uris`), so
//! that whoever comes back with it is led to that server, from any core and after a reload.
//!
//! Not here: the tasks themselves, which are their server's. Invariant: what `seen` writes, `uris::own` takes off
//! again; an id is the same wherever it stands, because clients compare them.

use super::{Gateway, invalid, uris};
use crate::proto::json::{Key, Object, Value, ValueKind, string};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Served, Service};

/// Where messages say which task they belong to (mcp 2025-11-25, "Related Task Metadata").
const RELATED: &str = "io.modelcontextprotocol/related-task";

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
    let mut out = Vec::with_capacity(result.len() + 64);
    let mut object = Object::begin(&mut out);
    for (name, member) in value.members() {
        let Some(name) = name.unescaped() else { continue };
        match (&*name, member.kind()) {
            ("taskId", ValueKind::String) if method != Method::TasksResult => id(&mut object, member, before),
            ("task", ValueKind::Object) if is_created => {
                let mut task = Object::begin(object.key("task"));
                for (name, member) in member.members() {
                    match name.unescaped().as_deref() {
                        Some("taskId") if member.kind() == ValueKind::String => id(&mut task, member, before),
                        Some(name) => task.raw(name, member.raw()),
                        None => {}
                    }
                }
                task.end();
            }
            ("result", ValueKind::Object) if method == Method::TasksGet => {
                let renamed = uris::seen(member.raw(), Method::ToolsCall, before);
                object.raw("result", renamed.as_deref().unwrap_or(member.raw()));
            }
            ("_meta", ValueKind::Object) => object.raw("_meta", &meta(member, before)),
            _ => object.raw(&name, member.raw()),
        }
    }
    object.end();
    Some(out)
}

/// The parameters of a question that a server asks for a task of its.
pub fn question(params: &[u8], before: &str) -> Vec<u8> {
    if memchr::memmem::find(params, RELATED.as_bytes()).is_none() {
        return params.to_vec();
    }
    let value = Value::new(params);
    let mut out = Vec::with_capacity(params.len() + 64);
    let mut object = Object::begin(&mut out);
    for (name, member) in value.members() {
        match name.unescaped().as_deref() {
            Some("_meta") if member.kind() == ValueKind::Object => object.raw("_meta", &meta(member, before)),
            Some(name) => object.raw(name, member.raw()),
            None => {}
        }
    }
    object.end();
    out
}

fn meta(value: Value<'_>, before: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.raw().len() + 64);
    let mut object = Object::begin(&mut out);
    for (name, member) in value.members() {
        let Some(name) = name.unescaped() else { continue };
        if name != RELATED || member.kind() != ValueKind::Object {
            object.raw(&name, member.raw());
            continue;
        }
        let mut related = Object::begin(object.key(RELATED));
        for (name, member) in member.members() {
            match name.unescaped().as_deref() {
                Some("taskId") if member.kind() == ValueKind::String => id(&mut related, member, before),
                Some(name) => related.raw(name, member.raw()),
                None => {}
            }
        }
        related.end();
    }
    object.end();
    out
}

fn id(object: &mut Object<'_>, own: Value<'_>, before: &str) {
    string(object.key("taskId"), &format!("{before}{}", own.as_str().unwrap_or_default()));
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
        match seen.servers.iter().find_map(|&server| Some((server, own(server)?.to_owned()))) {
            Some((server, own)) => {
                let before = self.before_uris(call.view, server);
                self.relay(call, server, Some(&own), before.as_deref())
            }
            None if seen.native => self.native.call(call, out),
            None => invalid("there is no such task"),
        }
    }

    /// The tasks of a session, by somebody who sees several servers: callers share their sessions with servers, so
    /// whose a task is only its id tells, which nobody else knows. None is listed but of the native server, which
    /// knows.
    pub(super) fn list_tasks(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        match self.seen(call.view) {
            Some(seen) if seen.native => self.native.call(call, out),
            Some(seen) => match seen.alone {
                Some(server) => self.relay(call, server, None, None),
                None => {
                    out.extend_from_slice(br#"{"tasks":[]}"#);
                    Served::Done
                }
            },
            None => invalid("there is no such view"),
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
