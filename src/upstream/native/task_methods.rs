//! `tasks/get`, `tasks/update`, `tasks/cancel` (both eras), `tasks/list` and `tasks/result` (2025-11-25).
//!
//! Not here: the table (`tasks`), the creation of tasks (`tools/call`).
//! Invariant: a task is seen only in the era, and for legacy the session, that made it; for everybody else it does not
//! exist.

use super::desk::Desk;
use super::task_text;
use super::tasks::{self, TaskKey};
use crate::limits::LIST_PAGE_DEFAULT;
use crate::proto::json::{Key, Object, Value, ValueKind};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Method};
use crate::server::service::{Call, Served};
use crate::upstream::missing;

/// Serves one of the methods.
pub(super) fn serve(desk: &Desk, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
    if call.version.is_modern() && !call.capabilities.has(Capabilities::TASKS_EXTENSION) {
        return Served::Failed(missing::capability(Capabilities::TASKS_EXTENSION));
    }
    if call.method == Method::TasksList {
        return list(desk, call, out);
    }
    let key = match find(desk, call) {
        Ok(key) => key,
        Err(error) => return Served::Failed(error),
    };
    match call.method {
        Method::TasksCancel => cancel(desk, call, key, out),
        Method::TasksResult => result(desk, call, key, out),
        Method::TasksUpdate => update(desk, call, key, out),
        _ => get(desk, call, key, out),
    }
}

fn find(desk: &Desk, call: &Call<'_>) -> Result<TaskKey, RpcError> {
    let unknown = || RpcError::new(Code::INVALID_PARAMS, "there is no such task");
    let Some(id) = call.envelope.str(Key::TaskId, call.text) else {
        return Err(RpcError::new(Code::INVALID_PARAMS, "`taskId` must be a string"));
    };
    let (index, generation) = desk.host.open_task_id(&id).ok_or_else(unknown)?;
    let key = TaskKey { index, generation };
    let table = desk.tasks.borrow();
    let task = table.get(key).ok_or_else(unknown)?;
    let theirs = task.version.is_modern() == call.version.is_modern() && task.session == call.session;
    if theirs { Ok(key) } else { Err(unknown()) }
}

/// Legacy: the task is the result. Modern: with what it came to.
fn get(desk: &Desk, call: &Call<'_>, key: TaskKey, out: &mut Vec<u8>) -> Served {
    let table = desk.tasks.borrow();
    let Some(task) = table.get(key) else {
        return Served::Failed(RpcError::new(Code::INVALID_PARAMS, "there is no such task"));
    };
    let mut object = Object::begin(out);
    if !call.version.is_modern() {
        task_text::write_members(&mut object, desk, task);
        object.end();
        return Served::Done;
    }
    object.string("resultType", "complete");
    task_text::write_detailed(&mut object, desk, task);
    object.end();
    out.pop();
    out.extend_from_slice(&desk.modern_tail);
    Served::Done
}

fn cancel(desk: &Desk, call: &Call<'_>, key: TaskKey, out: &mut Vec<u8>) -> Served {
    let stopped = tasks::cancel(desk, key);
    if call.version.is_modern() {
        return acknowledge(desk, out);
    }
    if !stopped {
        return Served::Failed(RpcError::new(Code::INVALID_PARAMS, "the task is over and cannot be cancelled"));
    }
    get(desk, call, key, out)
}

fn acknowledge(desk: &Desk, out: &mut Vec<u8>) -> Served {
    out.extend_from_slice(br#"{"resultType":"complete""#);
    out.extend_from_slice(&desk.modern_tail);
    Served::Done
}

fn update(desk: &Desk, call: &Call<'_>, key: TaskKey, out: &mut Vec<u8>) -> Served {
    let responses = call.envelope.value(Key::InputResponses, call.text);
    let Some(responses) = responses.filter(|responses| responses.kind() == ValueKind::Object) else {
        return Served::Failed(RpcError::new(Code::INVALID_PARAMS, "`inputResponses` must be an object"));
    };
    let exchange = desk.tasks.borrow().get(key).map(|task| std::rc::Rc::clone(&task.exchange));
    if let Some(exchange) = exchange {
        let mut accepted = false;
        for (name, answer) in responses.members() {
            // What was not asked, was answered before or has the wrong form is left out: the question stands.
            accepted |= exchange.accept(&name.unescaped().unwrap_or_default(), answer.raw());
        }
        if accepted {
            tasks::observe(desk, key);
            exchange.wake();
        }
    }
    acknowledge(desk, out)
}

fn result(desk: &Desk, call: &Call<'_>, key: TaskKey, out: &mut Vec<u8>) -> Served {
    let outcome = {
        let table = desk.tasks.borrow();
        table.get(key).filter(|task| task.status.is_final()).map(task_text::result)
    };
    match outcome {
        Some(Ok(rendered)) => {
            rendered.write(out, call.version, &desk.modern_tail);
            Served::Done
        }
        Some(Err(error)) => Served::Failed(error),
        None => {
            tasks::wait_for(desk, key, call.key);
            Served::Pending
        }
    }
}

/// A cursor is the place in the table to go on from; it says nothing about anybody else's tasks that their number
/// would not.
fn list(desk: &Desk, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
    let from = match call.envelope.value(Key::Cursor, call.text).map(Value::as_str) {
        None => Some(0),
        Some(cursor) => cursor.and_then(|cursor| cursor.parse().ok()),
    };
    let Some(from) = from else {
        return Served::Failed(RpcError::new(Code::INVALID_PARAMS, "this cursor is not one of ours"));
    };
    let table = desk.tasks.borrow();
    let mut theirs = table
        .iter_from(from)
        .filter(|(_, task)| !task.version.is_modern() && task.session == call.session)
        .take(LIST_PAGE_DEFAULT + 1);
    let mut object = Object::begin(out);
    let mut next = None;
    let mut array = object.array("tasks");
    for (count, (index, task)) in theirs.by_ref().enumerate() {
        if count == LIST_PAGE_DEFAULT {
            next = Some(index);
            break;
        }
        let mut entry = array.object();
        task_text::write_members(&mut entry, desk, task);
        entry.end();
    }
    array.end();
    if let Some(next) = next {
        object.string("nextCursor", &next.to_string());
    }
    object.end();
    Served::Done
}
