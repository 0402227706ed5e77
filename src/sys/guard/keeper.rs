//! A keeper: the process between the guard and one child, below which everything stays that the child starts.
//!
//! Not here: starting keepers (`broker`). Invariant: it ends after the last process below it, or when what is left
//! cannot be killed; until then it reaps whoever ends.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::command::CommandSpec;
use super::execute::{self, ChildEnds};
use super::link::{Heard, Link};
use super::message::{Answer, Failure, Request, Step};
use super::process::{self, Deaths, Interest, Pid, Reaped, WaitStatus, Watch};
use super::{CLOSING_GRACE, KILLING_TIME, census};
use crate::sys::limits::Limit;

/// Between two looks at who is left to be killed: at first, and at most.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// Looks without a pause, before it is heard what else there is.
const LOOKS_MAX: usize = 1000;

/// What is being done about what is below.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It runs.
    Kept,
    /// It was asked to end, and has until then.
    Asked { until: Instant },
    /// It is killed, again and again because processes may start others until they are dead.
    Killed { since: Instant, look_at: Instant, pause: Duration },
}

/// Runs in a fork of the guard: starts the child, keeps it, and says how it ended.
pub fn run(id: u64, command: CommandSpec, ends: ChildEnds, mut link: Link, open_files: Limit) -> i32 {
    let started = settle(&link, &ends)
        .map_err(|error| Failure::new(Step::Keeper, &error))
        .and_then(|deaths| Ok((execute::start(&command, ends, open_files)?, deaths)));
    // It may hold secrets, and is not needed any more.
    drop(command);
    let (child, deaths) = match started {
        Ok(started) => started,
        Err(failure) => {
            say(&mut link, &Answer::Failed { id, failure });
            return 1;
        }
    };
    say(&mut link, &Answer::Started { id, pid: child.cast_unsigned() });
    let (status, link) = Keeper { child, link: Some(link), deaths, stage: Stage::Kept, status: None }.keep();
    if let Some(mut link) = link {
        say(&mut link, &Answer::Ended { id, status });
    }
    0
}

/// Becomes somebody of its own: the name, the orphans, two descriptors and the child's.
fn settle(link: &Link, ends: &ChildEnds) -> io::Result<Deaths> {
    process::set_name("corelane-keeper")?;
    process::close_all_but(&[link.as_fd(), ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()])?;
    process::adopt_orphans()?;
    Deaths::watch()
}

/// Sends; waits for room if it must, which two messages in a keeper's life do not need.
fn say(link: &mut Link, answer: &Answer) {
    link.send(answer.encode(), Vec::new());
    let mut watch = Watch::default();
    while link.has_unsent() {
        watch.clear();
        watch.add(link.as_fd(), Interest::Write);
        watch.wait(None);
        link.flush();
    }
}

struct Keeper {
    child: Pid,
    /// None when the guard is gone.
    link: Option<Link>,
    deaths: Deaths,
    stage: Stage,
    /// How the child ended, once it has.
    status: Option<WaitStatus>,
}

impl Keeper {
    /// Until nothing is left.
    fn keep(mut self) -> (Option<WaitStatus>, Option<Link>) {
        let mut watch = Watch::default();
        loop {
            watch.clear();
            watch.add(self.deaths.as_fd(), Interest::Read);
            if let Some(link) = &self.link {
                watch.add(link.as_fd(), Interest::Read);
            }
            watch.wait(self.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now())));
            self.deaths.drain();
            if !self.reap() {
                break;
            }
            self.hear();
            if !self.act(Instant::now()) {
                break;
            }
        }
        (self.status, self.link)
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Kept => None,
            Stage::Asked { until } => Some(until),
            Stage::Killed { look_at, .. } => Some(look_at),
        }
    }

    /// Takes note of who has ended; false if nobody is left.
    fn reap(&mut self) -> bool {
        let ran = self.status.is_none();
        loop {
            match process::reap() {
                Reaped::NoneYet => break,
                Reaped::NoChildren => return false,
                Reaped::One(pid, status) if pid == self.child => self.status = Some(status),
                Reaped::One(..) => {}
            }
        }
        if ran && self.status.is_some() {
            // What it leaves behind has lost its purpose.
            self.ask_to_end(CLOSING_GRACE);
        }
        true
    }

    fn hear(&mut self) {
        while let Some(link) = &self.link {
            match link.hear() {
                Heard::Nothing => return,
                Heard::Message(message, _) => {
                    if let Some(Request::Stop { grace, .. }) = Request::decode(&message) {
                        self.ask_to_end(grace);
                    }
                }
                // Closed, so that it is not waited for any more.
                Heard::End => {
                    self.link = None;
                    self.ask_to_end(CLOSING_GRACE);
                }
            }
        }
    }

    /// Asks everything below to end, once; asked again, it may only have less time.
    fn ask_to_end(&mut self, grace: Duration) {
        // A grace that no clock can hold is one without end.
        let until = Instant::now().checked_add(grace);
        match (&mut self.stage, until) {
            (Stage::Killed { .. }, _) | (Stage::Asked { .. }, None) => {}
            (Stage::Asked { until: before }, Some(until)) => *before = until.min(*before),
            (Stage::Kept, until) => {
                let year = Duration::from_secs(365 * 24 * 3600);
                self.stage = Stage::Asked { until: until.unwrap_or_else(|| Instant::now() + year) };
                self.terminate();
            }
        }
    }

    /// SIGTERM for the child's group at once, then for whoever left it; SIGCONT, because a stopped process hears
    /// nothing else.
    fn terminate(&self) {
        let leads = self.status.is_none();
        // Looked at before anybody ends, and those below move up: whoever moves may be overlooked. And looked at once:
        // who starts later, perhaps to tidy up, is not asked, but killed in the end.
        let below = census::descendants(process::own_pid());
        if leads {
            process::signal_group(self.child, libc::SIGTERM);
            process::signal_group(self.child, libc::SIGCONT);
        }
        for process in below.iter().filter(|process| !leads || process.group != self.child) {
            // Who cannot be signalled is another user's.
            let _ = process.signal(libc::SIGTERM);
            let _ = process.signal(libc::SIGCONT);
        }
    }

    /// Does what is due; false if there is nothing more that could be done.
    fn act(&mut self, now: Instant) -> bool {
        match self.stage {
            Stage::Asked { until } if now >= until => {
                kill_all_below();
                self.stage = Stage::Killed { since: now, look_at: now + LOOK_AGAIN[0], pause: LOOK_AGAIN[0] };
            }
            Stage::Killed { since, look_at, pause } if now >= look_at => {
                if now.saturating_duration_since(since) > KILLING_TIME {
                    return false;
                }
                kill_all_below();
                let pause = (pause * 2).min(LOOK_AGAIN[1]);
                self.stage = Stage::Killed { since, look_at: now + pause, pause };
            }
            _ => {}
        }
        true
    }
}

/// Kills everything below, and looks again at once for as long as somebody turns up who was not there before: whoever
/// starts others must not gain on us.
fn kill_all_below() {
    let mut seen = HashSet::new();
    for _ in 0..LOOKS_MAX {
        let mut news = false;
        for process in census::descendants(process::own_pid()) {
            news |= seen.insert((process.pid, process.start));
            // Who may not be killed is another user's.
            let _ = process.signal(libc::SIGKILL);
        }
        if !news {
            return;
        }
    }
}
