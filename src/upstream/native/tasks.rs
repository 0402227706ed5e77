//! The tasks of one core: tool calls whose outcome is fetched later.
//!
//! Not here: the protocol's methods and texts about them (`task_methods`, `task_text`).
//! Invariant: at most `tasks_max` tasks and `TASK_BYTES_PER_CORE_MAX` bytes of arguments and outcomes; a task stays for
//! its whole time to live and not longer; a status that is final never changes.

use std::rc::{Rc, Weak};

use super::desk::{Desk, Open};
use super::exchange::{Exchange, Way};
use super::outcome::Outcome;
use super::run::{Run, Sink};
use super::task_text;
use super::wait::Sleep;
use crate::limits::TASK_BYTES_PER_CORE_MAX;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Version;
use crate::server::service::{CallKey, Change, Mail, Nanos};

/// The longest time between two looks at what has expired.
const SWEEP_NANOS: Nanos = 1_000_000_000;

/// A task on this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TaskKey {
    pub index: u32,
    pub generation: u32,
}

/// The words of the protocol for a task's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Cancelled,
    Completed,
    Failed,
    InputRequired,
    Working,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Cancelled => "cancelled",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::InputRequired => "input_required",
            Status::Working => "working",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, Status::InputRequired | Status::Working)
    }
}

pub(super) struct Task {
    pub id: String,
    pub version: Version,
    pub session: Option<u64>,
    pub status: Status,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub ttl_ms: u64,
    pub exchange: Rc<Exchange>,
    /// While it is not final.
    run: Option<Rc<Run>>,
    /// Once completed or failed.
    pub outcome: Option<Outcome>,
    /// Calls of `tasks/result` that wait for the end.
    pub waiters: Vec<CallKey>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    task: Option<Task>,
}

pub(super) struct TaskTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    tasks_max: usize,
    bytes: usize,
    sweeping: bool,
}

impl TaskTable {
    pub fn new(tasks_max: usize) -> TaskTable {
        TaskTable { slots: Vec::new(), free: Vec::new(), tasks_max, bytes: 0, sweeping: false }
    }

    pub fn get(&self, key: TaskKey) -> Option<&Task> {
        let slot = self.slots.get(key.index as usize)?;
        slot.task.as_ref().filter(|_| slot.generation == key.generation)
    }

    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.task.as_mut().filter(|_| slot.generation == key.generation)
    }

    /// From an index on, in order.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &Task)> {
        let slots = self.slots.iter().enumerate().skip(from as usize);
        slots.filter_map(|(index, slot)| Some((index as u32, slot.task.as_ref()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn reserve(&mut self) -> Option<TaskKey> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.tasks_max => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        Some(TaskKey { index, generation: self.slots[index as usize].generation })
    }

    fn remove(&mut self, index: usize) -> Option<Task> {
        let slot = &mut self.slots[index];
        let task = slot.task.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index as u32);
        self.bytes -= outcome_bytes(&task.outcome) + task.exchange.arguments_bytes.take();
        Some(task)
    }

    fn take_expired(&mut self, now: Nanos) -> Vec<Task> {
        let is_old = |slot: &Slot| slot.task.as_ref().is_some_and(|task| task.exchange.ends.get() <= now);
        let old: Vec<usize> = (0..self.slots.len()).filter(|&index| is_old(&self.slots[index])).collect();
        old.into_iter().filter_map(|index| self.remove(index)).collect()
    }

    /// Removes everything, for the end of the core.
    pub fn take_all(&mut self) -> Vec<Task> {
        (0..self.slots.len()).filter_map(|index| self.remove(index)).collect()
    }

    fn next_expiry(&self) -> Option<Nanos> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref()).map(|task| task.exchange.ends.get()).min()
    }
}

fn outcome_bytes(outcome: &Option<Outcome>) -> usize {
    match outcome {
        Some(Ok(rendered)) => rendered.size(),
        Some(Err(error)) => error.message.len() + error.data.as_ref().map_or(0, Vec::len),
        None => 0,
    }
}

/// Makes `run` a task; returns the result that tells the client so.
pub(super) fn create(desk: &Rc<Desk>, run: &Rc<Run>, session: Option<u64>, ttl_ms: u64) -> Result<Vec<u8>, RpcError> {
    let now = desk.host.now();
    sweep(desk, now);
    let mut table = desk.tasks.borrow_mut();
    let Some(key) = table.reserve() else {
        return Err(RpcError::new(Code::OVERLOADED, "this core keeps as many tasks as it may; try again later"));
    };
    let held = run.exchange.arguments_bytes.get();
    if table.bytes + held > TASK_BYTES_PER_CORE_MAX {
        table.free.push(key.index);
        let text = "what the tasks of this core keep has as many bytes as it may; try again later";
        return Err(RpcError::new(Code::OVERLOADED, text));
    }
    table.bytes += held;
    let wall_ms = desk.wall_ms();
    let task = Task {
        id: desk.host.task_id(key.index, key.generation),
        version: run.version,
        session,
        status: Status::Working,
        created_ms: wall_ms,
        updated_ms: wall_ms,
        ttl_ms,
        exchange: Rc::clone(&run.exchange),
        run: Some(Rc::clone(run)),
        outcome: None,
        waiters: Vec::new(),
    };
    let text = task_text::created(desk, &task);
    table.slots[key.index as usize].task = Some(task);
    run.sink.set(Sink::Task(key));
    run.exchange.way.set(Way::Task);
    run.exchange.ends.set(now.saturating_add(ttl_ms.saturating_mul(1_000_000)));
    let sweeping = std::mem::replace(&mut table.sweeping, true);
    // A host may poll what it is given before it returns.
    drop(table);
    if !sweeping {
        desk.host.spawn(Box::pin(sweep_forever(Rc::downgrade(desk))));
    }
    Ok(text)
}

/// Forgets tasks whose time is up; those that still run are dropped.
fn sweep(desk: &Desk, now: Nanos) {
    let expired = desk.tasks.borrow_mut().take_expired(now);
    expired.into_iter().for_each(|task| end_quietly(desk, task));
}

pub(super) fn end_quietly(desk: &Desk, task: Task) {
    if let Some(run) = task.run {
        run.cancel();
    }
    let gone = || RpcError::new(Code::INVALID_PARAMS, "the task expired");
    for waiter in task.waiters {
        desk.open.borrow_mut().remove(&waiter);
        desk.reply(waiter, task.version, Err(gone()));
    }
}

/// Runs while there are tasks.
async fn sweep_forever(desk: Weak<Desk>) {
    loop {
        let sleep = {
            let Some(desk) = desk.upgrade() else { return };
            sweep(&desk, desk.host.now());
            let mut table = desk.tasks.borrow_mut();
            let Some(next) = table.next_expiry() else {
                table.sweeping = false;
                return;
            };
            // Not longer than a second: a task made meanwhile may have less time than all others.
            Sleep::new(Rc::clone(&desk.host), next.min(desk.host.now() + SWEEP_NANOS))
        };
        sleep.await;
    }
}

/// Looks whether a task that runs now waits for answers or no longer does.
pub(super) fn observe(desk: &Desk, key: TaskKey) {
    let mut table = desk.tasks.borrow_mut();
    let Some(task) = table.get_mut(key).filter(|task| !task.status.is_final()) else { return };
    let status = if task.exchange.is_waiting() { Status::InputRequired } else { Status::Working };
    ask_waiters(desk, task);
    if status != task.status {
        set_status(desk, task, status);
    }
}

fn set_status(desk: &Desk, task: &mut Task, status: Status) {
    task.status = status;
    task.updated_ms = desk.wall_ms();
    let params = task_text::notification(desk, task);
    // Whoever listens, in the modern era; the session that it belongs to, in 2025-11-25.
    if task.version.is_modern() {
        desk.mailbox.push(Mail::Changed(Change::Task { id: task.id.clone(), params }));
    } else if let Some(session) = task.session {
        desk.mailbox.push(Mail::Session { session, method: "notifications/tasks/status", params });
    }
}

/// Legacy: questions of a task go to whoever waits for its result.
fn ask_waiters(desk: &Desk, task: &Task) {
    let Some(&waiter) = task.waiters.first() else { return };
    for wanted in task.exchange.wanted.borrow_mut().iter_mut().filter(|wanted| !wanted.sent) {
        wanted.sent = true;
        let params = task_text::related_params(&wanted.params, &task.id);
        desk.mailbox.push(Mail::Ask { key: waiter, ask: wanted.number, method: wanted.method, params });
    }
}

/// The handler of a task is done.
pub(super) fn ended(desk: &Desk, key: TaskKey, outcome: Outcome) {
    let mut table = desk.tasks.borrow_mut();
    let bytes = table.bytes;
    let Some(task) = table.get_mut(key).filter(|task| !task.status.is_final()) else { return };
    let held = task.exchange.arguments_bytes.take();
    let mut outcome = Some(outcome);
    if bytes - held + outcome_bytes(&outcome) > TASK_BYTES_PER_CORE_MAX {
        outcome = Some(Err(RpcError::new(Code::OVERLOADED, "the task's result is larger than what may be kept")));
    }
    let added = outcome_bytes(&outcome);
    let status = match &outcome {
        // In the extension it is the result that says so (SEP-2663), in 2025-11-25 the status as well.
        Some(Ok(rendered)) if task.version.is_modern() || !rendered.is_error() => Status::Completed,
        _ => Status::Failed,
    };
    task.outcome = outcome;
    finish(desk, task, status);
    table.bytes = bytes - held + added;
}

fn finish(desk: &Desk, task: &mut Task, status: Status) {
    task.run = None;
    set_status(desk, task, status);
    for waiter in std::mem::take(&mut task.waiters) {
        desk.open.borrow_mut().remove(&waiter);
        desk.reply(waiter, task.version, task_text::result(task));
    }
}

/// Stops a task; `false` if it was over already.
pub(super) fn cancel(desk: &Desk, key: TaskKey) -> bool {
    let run = match desk.tasks.borrow_mut().get_mut(key) {
        Some(task) if !task.status.is_final() => task.run.take(),
        _ => return false,
    };
    // Outside of the borrow: this drops what the handler holds.
    if let Some(run) = run {
        run.cancel();
    }
    let mut table = desk.tasks.borrow_mut();
    if let Some(task) = table.get_mut(key) {
        let held = task.exchange.arguments_bytes.take();
        finish(desk, task, Status::Cancelled);
        table.bytes -= held;
    }
    true
}

/// Has a call of `tasks/result` wait for the end.
pub(super) fn wait_for(desk: &Desk, key: TaskKey, waiter: CallKey) {
    let mut table = desk.tasks.borrow_mut();
    let Some(task) = table.get_mut(key) else { return };
    desk.open.borrow_mut().insert(waiter, Open::TaskResult(key));
    task.waiters.push(waiter);
    ask_waiters(desk, task);
}

/// A call of `tasks/result` is gone; what it was asked will be asked of the next.
pub(super) fn stop_waiting(desk: &Desk, key: TaskKey, waiter: CallKey) {
    let mut table = desk.tasks.borrow_mut();
    let Some(task) = table.get_mut(key) else { return };
    // The first is who is asked.
    let was_asked = task.waiters.first() == Some(&waiter);
    task.waiters.retain(|other| *other != waiter);
    if was_asked {
        task.exchange.wanted.borrow_mut().iter_mut().for_each(|wanted| wanted.sent = false);
        ask_waiters(desk, task);
    }
}
