//! The futures a handler may await on a core: sleeping, the offload pool, the end of the caller's interest, answers.
//!
//! Not here: tokio's own futures. They find no reactor on a core; hand them to `Context::offload`.
//! Invariant: dropping one of these takes its effect back: a sleep is forgotten, work on the pool is told to stop.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::ask::{Answers, Ask, AskError};
use super::desk::Desk;
use super::exchange::{Exchange, Way, keep_waker};
use crate::server::service::{Alarm, CallKey, Host, Mail, Nanos};

/// Why work handed to the offload pool has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OffloadError {
    /// The pool is full, and the work was not done; or it is shutting down, and nobody knows.
    #[error("the offload pool has no room for this work")]
    NoRoom,
    /// It panicked.
    #[error("the work on the offload pool panicked")]
    Panicked,
}

/// Until some time has passed; made by `Context::sleep`.
#[must_use = "a future does nothing until it is awaited"]
pub struct Sleep {
    host: Rc<dyn Host>,
    until: Nanos,
    alarm: Option<Alarm>,
}

impl Sleep {
    pub(super) fn new(host: Rc<dyn Host>, until: Nanos) -> Sleep {
        Sleep { host, until, alarm: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.host.now() >= self.until {
            return Poll::Ready(());
        }
        match &self.alarm {
            Some(alarm) => alarm.keep(cx),
            // The first poll of a handler comes with a waker that does nothing; there is no use in an alarm for it.
            None if cx.waker().will_wake(Waker::noop()) => {}
            None => self.alarm = Some(self.host.wake_at(self.until, cx.waker().clone())),
        }
        Poll::Pending
    }
}

/// Until the caller no longer wants the result; made by `Context::cancelled`.
#[must_use = "a future does nothing until it is awaited"]
pub struct Cancelled {
    pub(super) exchange: Option<Rc<Exchange>>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &self.exchange else { return Poll::Pending };
        if exchange.cancelled.get() {
            return Poll::Ready(());
        }
        keep_waker(&exchange.cancel_waiting, cx.waker());
        Poll::Pending
    }
}

/// Until work handed to other threads is done; made by `Context::offload` and `Context::blocking`.
#[must_use = "work whose result nobody awaits is dropped"]
pub struct Offloaded<T> {
    receiver: oneshot::Receiver<Result<T, OffloadError>>,
}

impl<T> Future for Offloaded<T> {
    type Output = Result<T, OffloadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(cx).map(|received| received.unwrap_or(Err(OffloadError::NoRoom)))
    }
}

/// Runs a future on the pool; when the returned one is dropped, the other is dropped too, at its next await.
pub(super) fn offload<T: Send + 'static>(
    host: &dyn Host,
    future: impl Future<Output = T> + Send + 'static,
) -> Offloaded<T> {
    let (mut sender, receiver) = oneshot::channel();
    let mut future = Box::pin(future);
    host.offload(Box::pin(async move {
        let work = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(OffloadError::Panicked)),
        });
        tokio::select! {
            biased;
            () = sender.closed() => {}
            result = work => drop(sender.send(result)),
        }
    }));
    Offloaded { receiver }
}

/// Runs a function on a thread that may block.
pub(super) fn blocking<T: Send + 'static>(
    host: &dyn Host,
    function: impl FnOnce() -> T + Send + 'static,
) -> Offloaded<T> {
    let (sender, receiver) = oneshot::channel();
    host.blocking(Box::new(move || {
        if !sender.is_closed() {
            let result = catch_unwind(AssertUnwindSafe(function)).map_err(|_| OffloadError::Panicked);
            drop(sender.send(result));
        }
    }));
    Offloaded { receiver }
}

/// Until all questions are answered.
pub(super) struct Asking<'c> {
    desk: &'c Rc<Desk>,
    exchange: &'c Exchange,
    key: CallKey,
    asks: Vec<Ask>,
    checked: bool,
}

impl<'c> Asking<'c> {
    pub fn new(desk: &'c Rc<Desk>, exchange: &'c Exchange, key: CallKey, asks: Vec<Ask>) -> Asking<'c> {
        Asking { desk, exchange, key, asks, checked: false }
    }

    fn answers(&self) -> Option<Result<Answers, AskError>> {
        let mut answers = Vec::with_capacity(self.asks.len());
        let mut missing = false;
        for ask in &self.asks {
            match self.exchange.answer(&ask.key, ask.method()) {
                Some(Ok(answer)) => answers.push((ask.key.clone(), answer)),
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    missing = true;
                    self.want(ask);
                }
            }
        }
        (!missing).then_some(Ok(Answers(answers)))
    }

    fn want(&self, ask: &Ask) {
        let elicitation_id = || self.desk.host.seal(ask.key.as_bytes());
        let Some(number) = self.exchange.want(ask, elicitation_id) else { return };
        if self.exchange.way.get() != Way::Live {
            return;
        }
        let mut wanted = self.exchange.wanted.borrow_mut();
        if let Some(wanted) = wanted.iter_mut().find(|wanted| wanted.number == number) {
            wanted.sent = true;
            let params = wanted.params.clone();
            self.desk.note(Mail::Ask { key: self.key, ask: number, method: wanted.method, params });
        }
    }
}

impl Future for Asking<'_> {
    type Output = Result<Answers, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.checked {
            for ask in &self.asks {
                self.exchange.check(ask)?;
            }
            self.checked = true;
        }
        match self.answers() {
            Some(answers) => Poll::Ready(answers),
            None => {
                keep_waker(&self.exchange.waiting, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.exchange.unwant(self.asks.iter().map(|ask| ask.key.as_str()));
    }
}
