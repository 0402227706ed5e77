//! One handler's future, from its first poll to its outcome.
//!
//! Not here: what the outcome looks like (`outcome`), what was asked (`exchange`).
//! Invariant: the future is dropped before its outcome is delivered, on the core that made it, and a panic in it, in a
//! poll or in a drop, ends here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::desk::{Desk, Open, panicked};
use super::exchange::{Exchange, Way};
use super::outcome::Outcome;
use super::tasks::{self, TaskKey};
use crate::proto::jsonrpc::RpcError;
use crate::proto::mcp::Version;
use crate::server::service::{CallKey, LocalFuture, Mail, Served};

/// Who gets the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sink {
    Call(CallKey),
    Task(TaskKey),
}

pub(super) struct Run {
    desk: Rc<Desk>,
    pub exchange: Rc<Exchange>,
    future: RefCell<Option<LocalFuture<Outcome>>>,
    /// Wakes whoever polls it.
    driver: RefCell<Option<Waker>>,
    /// Which handler's counters.
    handler: usize,
    pub version: Version,
    pub sink: Cell<Sink>,
}

enum Ending {
    Outcome(Outcome),
    /// A whole `input_required` result, or why there is none.
    Questions(Result<Vec<u8>, RpcError>),
}

enum Step {
    Ended(Ending),
    Gone,
    Pending,
}

impl Run {
    pub fn new(
        desk: &Rc<Desk>,
        exchange: Rc<Exchange>,
        handler: usize,
        sink: Sink,
        future: LocalFuture<Outcome>,
    ) -> Rc<Run> {
        Rc::new(Run {
            desk: Rc::clone(desk),
            version: exchange.version,
            exchange,
            future: RefCell::new(Some(future)),
            driver: RefCell::default(),
            handler,
            sink: Cell::new(sink),
        })
    }

    /// Polls once; what is ready at once is written to `out`, the rest goes on in the background.
    ///
    /// The first poll is made with a waker that does nothing. That is sound because a future that is pending is
    /// spawned, and whoever runs spawned futures polls them at once, with a waker that works.
    ///
    /// `before` is how much had been noted before the handler was called: it may have said something already.
    pub fn start(self: &Rc<Self>, key: CallKey, before: u64, out: &mut Vec<u8>) -> Served {
        self.desk.open.borrow_mut().insert(key, Open::Run(Rc::clone(self)));
        let step = self.step(&mut Context::from_waker(Waker::noop()));
        // A sign that is in the mail must not be overtaken by its outcome; a call that became a task was answered.
        let answered = self.sink.get() != Sink::Call(key);
        match step {
            Step::Ended(ending) if !answered && self.desk.noted() == before => {
                self.desk.open.borrow_mut().remove(&key);
                self.write(ending, out)
            }
            Step::Ended(ending) => {
                self.deliver(ending);
                Served::Pending
            }
            Step::Pending => {
                self.spawn();
                Served::Pending
            }
            Step::Gone => Served::Pending,
        }
    }

    /// Goes on in the background.
    pub fn spawn(self: &Rc<Self>) {
        let run = Rc::clone(self);
        self.desk.host.spawn(Box::pin(poll_fn(move |cx| run.drive(cx))));
    }

    fn drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        match self.step(cx) {
            Step::Pending => {
                if let Sink::Task(task) = self.sink.get() {
                    tasks::observe(&self.desk, task);
                }
                Poll::Pending
            }
            Step::Gone => Poll::Ready(()),
            Step::Ended(ending) => {
                self.deliver(ending);
                Poll::Ready(())
            }
        }
    }

    fn step(&self, cx: &mut Context<'_>) -> Step {
        let polled = {
            let Ok(mut slot) = self.future.try_borrow_mut() else { return Step::Pending };
            let Some(future) = slot.as_mut() else { return Step::Gone };
            let started = self.desk.host.now();
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            self.desk.count_poll(self.handler, self.desk.host.now() - started);
            polled
        };
        let ending = match polled {
            Ok(Poll::Ready(outcome)) => Ending::Outcome(outcome),
            Ok(Poll::Pending) if self.exchange.way.get() == Way::Replay && self.exchange.is_waiting() => {
                // Written before the future is dropped: with it goes what it asked.
                Ending::Questions(self.desk.input_required(&self.exchange))
            }
            Ok(Poll::Pending) if self.exchange.cancelled.get() => {
                self.drop_future();
                return Step::Gone;
            }
            Ok(Poll::Pending) => return Step::Pending,
            Err(_) => {
                self.desk.count_panic(self.handler);
                Ending::Outcome(Err(panicked()))
            }
        };
        self.drop_future();
        Step::Ended(ending)
    }

    fn drop_future(&self) {
        self.exchange.stop.stop();
        let Ok(mut slot) = self.future.try_borrow_mut() else { return };
        let future = slot.take();
        drop(slot);
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            self.desk.count_panic(self.handler);
        }
    }

    fn write(&self, ending: Ending, out: &mut Vec<u8>) -> Served {
        let result = match ending {
            Ending::Outcome(Ok(rendered)) => {
                rendered.write(out, self.version, &self.desk.modern_tail);
                return Served::Done;
            }
            Ending::Outcome(Err(error)) => Err(error),
            Ending::Questions(result) => result,
        };
        match result {
            Ok(text) => {
                out.extend_from_slice(&text);
                Served::Done
            }
            Err(error) => Served::Failed(error),
        }
    }

    fn deliver(&self, ending: Ending) {
        match (self.sink.get(), ending) {
            (Sink::Call(key), ending) => {
                self.desk.open.borrow_mut().remove(&key);
                match ending {
                    Ending::Outcome(outcome) => self.desk.reply(key, self.version, outcome),
                    Ending::Questions(outcome) => {
                        let outcome = outcome.map(Into::into);
                        self.desk.mailbox.push(Mail::Reply { key, outcome });
                    }
                }
            }
            (Sink::Task(task), Ending::Outcome(outcome)) => tasks::ended(&self.desk, task, outcome),
            // Tasks do not replay.
            (Sink::Task(_), Ending::Questions(_)) => {}
        }
    }

    /// The caller is gone. A handler that waits for `Context::cancelled` gets one more poll to put things in order.
    pub fn cancel(&self) {
        self.exchange.cancelled.set(true);
        self.exchange.stop.stop();
        let waiting = std::mem::take(&mut *self.exchange.cancel_waiting.borrow_mut());
        if !waiting.is_empty() {
            // Whatever it says now, nobody listens.
            let _ = self.step(&mut Context::from_waker(Waker::noop()));
        }
        self.drop_future();
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }
}
