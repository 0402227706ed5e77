//! One server that is a child process, as the core that speaks to it sees it: its life, and lines both ways.
//!
//! Not here: what the lines say, and whether to start it again (`gateway`).
//! Invariant: a request that was taken is answered by a line or failed once, unless it is dropped; a child whose owner
//! is gone is stopped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::stderr::StderrLines;
use crate::ids::ConnectionId;
use crate::limits::{CHILD_BABBLE_BYTES_MAX, CHILD_UNSENT_BYTES_MAX};
use crate::proto::ndjson::LineFinder;
use crate::server::service::{End, Host, Nanos, Wish};
use crate::shard::restarts::{Backoff, Intensity, Restarts, Verdict};
use crate::sys::guard::{ChildId, ChildNews, CommandSpec, Ending, GuardHandle};
use crate::upstream::talk::{Bell, Heard, ONLY, Outstanding, Passage, Talk};

/// The place of the link that carries messages.
const LINE: u16 = 0;
/// The place of the link on which the child's errors are read.
const ERRORS: u16 = 1;
/// How long a child may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// Most lines of standard error in one second that are logged.
const LOGGED_MAX: u32 = 50;
const SECOND: Nanos = 1_000_000_000;

/// What is started, and what must not be logged.
pub struct ChildSettings {
    /// The program.
    pub command: CommandSpec,
    /// Values that it was given and that are taken out of what it writes to standard error.
    pub secrets: Vec<Box<[u8]>>,
}

impl fmt::Debug for ChildSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChildSettings").field("command", &self.command).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Down,
    Starting,
    Up,
    /// It was told to end, and has not yet; whether the next one is wanted already.
    Ending {
        next: bool,
    },
}

type News = Rc<RefCell<VecDeque<(u32, ChildNews)>>>;

/// A child, or the lack of one.
pub struct Lines {
    server: Box<str>,
    settings: Arc<ChildSettings>,
    guard: Option<GuardHandle>,
    host: Rc<dyn Host>,
    line_bytes_max: usize,
    tag: u32,
    /// Where its tag is left when the guard said something.
    bell: Bell,
    /// What the guard said, with the life that it is about.
    news: News,
    /// Counts the children.
    life: u32,
    stage: Stage,
    child: Option<ChildId>,
    line: Option<ConnectionId>,
    errors: Option<ConnectionId>,
    /// Bytes to be written.
    out: Vec<u8>,
    sending: bool,
    carry: Vec<u8>,
    /// Bytes of lines since the last message that are none.
    babble: usize,
    finder: LineFinder,
    outstanding: Outstanding,
    restarts: Restarts,
    stderr: StderrLines,
    /// Lines of standard error in the second that began then, and how many of them were left out.
    logged: (Nanos, u32, u32),
    wishes: VecDeque<Wish>,
    heard: VecDeque<Heard>,
}

impl Lines {
    /// A child that is not started yet. `tag` stands in the upper half of the tokens of its links; lines of more than
    /// `line_bytes_max` end it. The tag is left where it says when the child has news.
    pub fn new(
        server: &str,
        settings: Arc<ChildSettings>,
        guard: Option<GuardHandle>,
        host: Rc<dyn Host>,
        line_bytes_max: usize,
        (tag, bell): (u32, Bell),
    ) -> Lines {
        Lines {
            server: server.into(),
            stderr: StderrLines::new(server, &settings.secrets),
            settings,
            guard,
            host,
            line_bytes_max,
            tag,
            bell,
            news: News::default(),
            life: 0,
            stage: Stage::Down,
            child: None,
            line: None,
            errors: None,
            out: Vec::new(),
            sending: false,
            carry: Vec::new(),
            babble: 0,
            finder: LineFinder::new(),
            outstanding: Outstanding::default(),
            restarts: Restarts::new(Intensity::CHILD, Backoff::CHILD),
            logged: (0, 0, 0),
            wishes: VecDeque::new(),
            heard: VecDeque::new(),
        }
    }

    /// Takes note of what the guard said.
    fn look(&mut self, now: Nanos) {
        loop {
            let Some((life, news)) = self.news.borrow_mut().pop_front() else { return };
            if life != self.life {
                // Of a child that was stopped; its pipes, if it only started now, are closed here.
                continue;
            }
            match news {
                ChildNews::Started(child) if self.stage == Stage::Starting => {
                    let token = u64::from(self.tag) << 32 | u64::from(self.life & (u32::MAX >> 1)) << 1;
                    let (read, write) = (child.stdout, Some(child.stdin));
                    self.wishes.push_back(Wish::Adopt { read, write, token: token | u64::from(LINE) });
                    let (read, write) = (child.stderr, None);
                    self.wishes.push_back(Wish::Adopt { read, write, token: token | u64::from(ERRORS) });
                    tracing::info!(server = &*self.server, pid = child.pid, "the server's process has started");
                }
                ChildNews::Started(_) => {}
                ChildNews::Failed(error) => {
                    self.child = None;
                    self.down(now, format!("cannot be started: {error}"));
                }
                ChildNews::Ended(_) if matches!(self.stage, Stage::Ending { .. }) => {
                    self.child = None;
                    let next = self.stage == Stage::Ending { next: true };
                    self.stage = Stage::Down;
                    if next {
                        self.start(now);
                    }
                }
                ChildNews::Ended(ending) => {
                    self.child = None;
                    let how = match ending {
                        Ending::Exited(status) => format!("has ended ({status})"),
                        Ending::Lost => "was killed with the guard process".to_owned(),
                    };
                    self.down(now, how);
                }
            }
        }
    }

    /// It is gone, or as good as gone: who waits is told.
    fn down(&mut self, now: Nanos, why: String) {
        self.stage = match (&self.guard, self.child) {
            (Some(guard), Some(child)) => {
                guard.stop(child, GRACE);
                Stage::Ending { next: false }
            }
            _ => Stage::Down,
        };
        for id in [self.line.take(), self.errors.take()].into_iter().flatten() {
            self.wishes.push_back(Wish::Close(id));
        }
        self.out.clear();
        self.carry.clear();
        self.babble = 0;
        self.finder = LineFinder::new();
        self.sending = false;
        self.outstanding.fail(ONLY, &why, &mut self.heard);
        let retry_at = match self.restarts.died(Duration::from_nanos(now)) {
            Verdict::Restart { after } => now + after.as_nanos() as Nanos,
            Verdict::TooMany { calm_at, .. } => calm_at.as_nanos() as Nanos,
        };
        tracing::warn!(server = &*self.server, "the server's process {why}");
        self.heard.push_back(Heard::Ended { why, retry_at });
    }
}

/// Whether a line begins as messages do.
fn may_be_message(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
}

impl Talk for Lines {
    fn shut(&mut self, now: Nanos) {
        if matches!(self.stage, Stage::Starting | Stage::Up) {
            self.down(now, "was stopped".to_owned());
        }
    }

    fn start(&mut self, now: Nanos) {
        match self.stage {
            Stage::Down => {}
            Stage::Ending { .. } => return self.stage = Stage::Ending { next: true },
            Stage::Starting | Stage::Up => return,
        }
        self.life += 1;
        self.stage = Stage::Starting;
        let Some(guard) = &self.guard else {
            return self.down(now, "cannot be started: there is no guard process".to_owned());
        };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (life, news, tag, bell) = (self.life, Rc::clone(&self.news), self.tag, Rc::clone(&self.bell));
        self.host.spawn(Box::pin(async move {
            while let Some(one) = told.recv().await {
                news.borrow_mut().push_back((life, one));
                bell.borrow_mut().push(tag);
            }
        }));
        // Nobody hears it when the core is gone; then `Drop` has stopped the child.
        self.child = Some(guard.spawn(self.settings.command.clone(), move |news| drop(tell.send(news))));
    }

    fn submit(&mut self, _now: Nanos, errand: u32, passage: Passage, text: &[u8]) {
        let unsent = self.out.len();
        if unsent + text.len() > CHILD_UNSENT_BYTES_MAX.max(text.len()) {
            let why = format!("does not read: {unsent} bytes wait to be written to it already");
            return self.heard.push_back(Heard::Failed { errand, why, is_overload: true });
        }
        self.out.extend_from_slice(text);
        if let Some(id) = passage.id() {
            self.outstanding.insert(id, errand, ONLY);
        }
    }

    fn outstanding(&mut self) -> &mut Outstanding {
        &mut self.outstanding
    }

    fn connected(&mut self, _now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16> {
        let id = outcome.ok()?;
        if (token >> 1) as u32 & (u32::MAX >> 1) != self.life & (u32::MAX >> 1)
            || !matches!(self.stage, Stage::Starting | Stage::Up)
        {
            self.wishes.push_back(Wish::Close(id));
            return None;
        }
        let place = (token & 1) as u16;
        if place == LINE {
            self.line = Some(id);
            self.stage = Stage::Up;
        } else {
            self.errors = Some(id);
        }
        Some(place)
    }

    fn received(&mut self, now: Nanos, place: u16, id: ConnectionId, bytes: &[u8]) {
        if place == ERRORS && self.errors == Some(id) {
            let Lines { stderr, logged, .. } = self;
            return stderr.take(bytes, |server, line| log(logged, now, server, line));
        }
        if place != LINE || self.line != Some(id) {
            return;
        }
        self.carry.extend_from_slice(bytes);
        let mut lines = self.finder.lines(&self.carry, self.line_bytes_max);
        let mut too_long = None;
        for line in lines.by_ref() {
            match line {
                Ok(line) if may_be_message(line) => {
                    self.babble = 0;
                    self.heard.push_back(Heard::Message { line: ONLY, text: line.to_vec() });
                }
                Ok(line) => self.babble += line.len() + 1,
                Err(error) => {
                    too_long = Some(error);
                    break;
                }
            }
        }
        let consumed = lines.consumed();
        self.carry.drain(..consumed);
        if too_long.is_some() {
            let most = self.line_bytes_max;
            self.down(now, format!("wrote a line of more than {most} bytes and was stopped"));
        } else if self.babble > CHILD_BABBLE_BYTES_MAX {
            self.down(
                now,
                format!(
                    "printed {} bytes in a row that are no messages and was stopped; standard output is for messages, \
                     anything else belongs on standard error",
                    self.babble
                ),
            );
        }
    }

    fn ended(&mut self, now: Nanos, place: u16, id: ConnectionId, _how: End) {
        if place == ERRORS && self.errors == Some(id) {
            let Lines { stderr, logged, .. } = self;
            stderr.end(|server, line| log(logged, now, server, line));
            self.errors = None;
            self.wishes.push_back(Wish::Close(id));
        } else if place == LINE && self.line == Some(id) {
            match (&self.guard, self.child) {
                // It has ended, or will soon: how is known then.
                (Some(guard), Some(child)) => guard.stop(child, GRACE),
                _ => self.down(now, "closed its standard output".to_owned()),
            }
        }
    }

    fn sent(&mut self, _place: u16, id: ConnectionId, mut buffer: Vec<u8>, _whole: bool) {
        if self.line != Some(id) {
            return;
        }
        self.sending = false;
        if self.out.is_empty() {
            buffer.clear();
            self.out = buffer;
        }
        // One that could not be sent is told of by the link's end.
    }

    fn heard(&mut self, now: Nanos) -> Option<Heard> {
        self.look(now);
        self.heard.pop_front()
    }

    fn has_news(&self) -> bool {
        !self.news.borrow().is_empty()
    }

    fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        if let (Some(id), false, false) = (self.line, self.sending, self.out.is_empty()) {
            self.sending = true;
            wish(Wish::Send(id, std::mem::take(&mut self.out)));
        }
        self.wishes.drain(..).for_each(wish);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let (Some(guard), Some(child)) = (&self.guard, self.child.take()) {
            guard.stop(child, GRACE);
        }
    }
}

/// Logs a line of standard error, unless the second had enough of them.
fn log(logged: &mut (Nanos, u32, u32), now: Nanos, server: &str, line: &str) {
    let (began, lines, left_out) = logged;
    if now >= *began + SECOND {
        if *left_out > 0 {
            tracing::info!(server, "{left_out} lines of its standard error were left out, of more than {LOGGED_MAX}/s");
        }
        (*began, *lines, *left_out) = (now, 0, 0);
    }
    *lines += 1;
    if *lines <= LOGGED_MAX {
        tracing::info!(server, stderr = line);
    } else {
        *left_out += 1;
    }
}
