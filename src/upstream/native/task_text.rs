//! The texts about tasks, in both eras: flat with `ttlMs` in the extension (SEP-2663), nested with `ttl` in 2025-11-25.
//!
//! Not here: the table.
//! Invariant: a modern text never holds `requestState` or `related-task`, a legacy one never holds `ttlMs`.

use super::desk::Desk;
use super::outcome::{Outcome, Rendered};
use super::tasks::{Status, Task};
use crate::proto::json::{self, Object, Value};
use crate::proto::jsonrpc::{Code, RpcError};

/// The result that creates a task, whole.
pub(super) fn created(desk: &Desk, task: &Task) -> Vec<u8> {
    let mut out = Vec::new();
    if task.version.is_modern() {
        let mut object = Object::begin(&mut out);
        object.string("resultType", "task");
        write_members(&mut object, desk, task);
        object.end();
        out.pop();
        out.extend_from_slice(&desk.modern_tail);
    } else {
        let mut object = Object::begin(&mut out);
        let mut nested = object.object("task");
        write_members(&mut nested, desk, task);
        nested.end();
        object.end();
    }
    out
}

/// `taskId`, `status` and so on.
pub(super) fn write_members(object: &mut Object<'_>, desk: &Desk, task: &Task) {
    let modern = task.version.is_modern();
    object.string("taskId", &task.id);
    object.string("status", task.status.as_str());
    if task.status == Status::Failed {
        match &task.outcome {
            Some(Err(error)) => object.string("statusMessage", &error.message),
            _ => object.string("statusMessage", "the tool failed, and its result says how"),
        }
    }
    object.string("createdAt", &iso_8601(task.created_ms));
    object.string("lastUpdatedAt", &iso_8601(task.updated_ms));
    object.integer(if modern { "ttlMs" } else { "ttl" }, task.ttl_ms);
    let interval = desk.settings.task_poll_interval.as_millis() as u64;
    object.integer(if modern { "pollIntervalMs" } else { "pollInterval" }, interval);
}

/// Modern: the task with what it came to.
pub(super) fn write_detailed(object: &mut Object<'_>, desk: &Desk, task: &Task) {
    write_members(object, desk, task);
    match (&task.outcome, task.status) {
        (Some(Ok(rendered)), _) => rendered.write(object.key("result"), task.version, &desk.modern_tail),
        (Some(Err(error)), _) => write_error(object.object("error"), error),
        (None, Status::InputRequired) => task.exchange.write_requests(object.key("inputRequests")),
        (None, _) => {}
    }
}

fn write_error(mut object: Object<'_>, error: &RpcError) {
    object.integer("code", error.code.0);
    object.string("message", &error.message);
    if let Some(data) = &error.data {
        object.raw("data", data);
    }
}

/// The parameters of `notifications/tasks`, or of the legacy `notifications/tasks/status`, which tells no outcome.
pub(super) fn notification(desk: &Desk, task: &Task) -> Vec<u8> {
    let mut params = Vec::new();
    let mut object = Object::begin(&mut params);
    if task.version.is_modern() {
        write_detailed(&mut object, desk, task);
    } else {
        write_members(&mut object, desk, task);
    }
    object.end();
    params
}

/// Legacy: the outcome of `tasks/result`, which names its task.
pub(super) fn result(task: &Task) -> Outcome {
    match &task.outcome {
        Some(Ok(rendered)) => {
            let mut meta = rendered.meta.clone();
            if !meta.is_empty() {
                meta.push(b',');
            }
            write_related(&mut meta, &task.id);
            Ok(Rendered { members: rendered.members.clone(), meta })
        }
        Some(Err(error)) => Err(error.clone()),
        None => Err(RpcError::new(Code::INVALID_PARAMS, "the task was cancelled")),
    }
}

/// The parameters of a question with the task it belongs to in their `_meta`.
pub(super) fn related_params(params: &[u8], id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(params.len() + 128);
    let mut object = Object::begin(&mut out);
    for (key, value) in Value::new(params).members() {
        object.raw(&key.unescaped().unwrap_or_default(), value.raw());
    }
    let meta = object.key("_meta");
    meta.push(b'{');
    write_related(meta, id);
    meta.push(b'}');
    object.end();
    out
}

fn write_related(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(br#""io.modelcontextprotocol/related-task":{"taskId":"#);
    json::string(out, id);
    out.push(b'}');
}

/// `2026-07-28T12:34:56.789Z`.
pub(super) fn iso_8601(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970 that are never negative.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iso_8601() {
        assert_eq!(iso_8601(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_8601(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso_8601(1_785_242_096_789), "2026-07-28T12:34:56.789Z");
        assert_eq!(iso_8601(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    }

    #[test]
    fn a_question_of_a_task_names_it() {
        let text = related_params(br#"{"message":"a"}"#, "t1");
        let meta = r#""_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"}}"#;
        assert_eq!(String::from_utf8_lossy(&text), format!(r#"{{"message":"a",{meta}}}"#));
    }
}
