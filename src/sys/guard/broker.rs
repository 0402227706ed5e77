//! The guard's own process: hears what is asked, forks a keeper for each child, and passes on what keepers say.
//!
//! Not here: a child's life and death (`keeper`). Invariant: it ends when the link to corelane does, and after every
//! process below it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::command::CommandSpec;
use super::execute::ChildEnds;
use super::link::{Heard, Link};
use super::message::{Answer, Failure, Request, Step};
use super::process::{self, Deaths, ForkError, Forked, Interest, Pid, Reaped, WaitStatus, Watch};
use super::{CLOSING_GRACE, KILLING_TIME, LATENESS, census, keeper};
use crate::limits::CHILDREN_MAX;
use crate::sys::limits::{self, Limit, Resource};

/// Between two looks at what keepers left that were killed.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Runs in the fork, until corelane, whose number this is, ends or says so. First says that it is there, or why not:
/// about a child 0, which there is not.
pub fn run(mut link: Link, corelane: Pid) -> i32 {
    match Settled::become_one(&link, corelane) {
        Ok(settled) => {
            link.send(Answer::Started { id: 0, pid: process::own_pid().cast_unsigned() }.encode(), Vec::new());
            Broker { link, settled, keepers: BTreeMap::new(), is_closing: false, strays: None, has_swept: false }
                .serve();
            0
        }
        Err(error) => {
            link.send(Answer::Failed { id: 0, failure: Failure::new(Step::Keeper, &error) }.encode(), Vec::new());
            1
        }
    }
}

/// What a guard has once it is one.
struct Settled {
    /// Corelane itself, in case somebody else holds its end of the link.
    corelane: OwnedFd,
    deaths: Deaths,
    /// What children get; the guard itself may open more.
    open_files: Limit,
}

impl Settled {
    /// Becomes somebody of its own.
    fn become_one(link: &Link, corelane: Pid) -> io::Result<Settled> {
        process::ignore_signals();
        process::begin_session()?;
        process::set_name("corelane-guard")?;
        process::silence_standard_streams()?;
        process::close_all_but(&[link.as_fd()])?;
        process::adopt_orphans()?;
        let deaths = Deaths::watch()?;
        let descriptor = process::descriptor_of(corelane)?;
        // It may have ended before, and its number be another's.
        if process::parent_pid() != corelane {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // Each child takes a descriptor here, and some more while it starts.
        let open_files = limits::raise(Resource::Nofile)?.before;
        Ok(Settled { corelane: descriptor, deaths, open_files })
    }
}

struct Broker {
    link: Link,
    settled: Settled,
    keepers: BTreeMap<u64, Keeper>,
    /// The link has ended.
    is_closing: bool,
    strays: Option<Strays>,
    /// Strays were looked for after the last keeper.
    has_swept: bool,
}

struct Keeper {
    pid: Pid,
    link: Link,
    /// Our ends of the child's pipes, until it has started.
    ends: Option<Vec<OwnedFd>>,
    /// What it has said last.
    said: Said,
    /// Its link has ended; so will it.
    is_silent: bool,
    /// When it is late.
    late_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Nothing,
    Started,
    Failed(Failure),
    Ended(Option<WaitStatus>),
}

/// What keepers left behind that were killed: children of ours now.
struct Strays {
    since: Instant,
    /// The children of those keepers, to be reported when nothing is left.
    lost: Vec<u64>,
}

impl Broker {
    fn serve(&mut self) {
        let mut watch = Watch::default();
        while !self.is_over() {
            watch.clear();
            let deaths = watch.add(self.settled.deaths.as_fd(), Interest::Read);
            // After its end there would be something to hear for ever.
            let interest = if self.is_closing { Interest::Write } else { self.link.interest() };
            let link = (!self.is_closing || self.link.has_unsent()).then(|| watch.add(self.link.as_fd(), interest));
            let corelane = (!self.is_closing).then(|| watch.add(self.settled.corelane.as_fd(), Interest::Read));
            let talking = self.keepers.iter().filter(|(_, keeper)| !keeper.is_silent);
            let waits = |(id, keeper): (&u64, &Keeper)| (watch.add(keeper.link.as_fd(), keeper.link.interest()), *id);
            let keepers: Vec<(usize, u64)> = talking.map(waits).collect();
            watch.wait(self.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now())));
            for (place, id) in keepers {
                if watch.is_ready(place) {
                    self.hear_keeper(id);
                }
            }
            if watch.is_ready(deaths) {
                self.settled.deaths.drain();
                self.reap();
            }
            if link.is_some_and(|place| watch.is_ready(place)) {
                self.link.flush();
                self.hear_corelane();
            }
            if corelane.is_some_and(|place| watch.is_ready(place)) {
                self.close();
            }
            self.act(Instant::now());
        }
        self.link.flush();
    }

    /// Whether all is over. The last look is for what keepers left that gave up.
    fn is_over(&mut self) -> bool {
        let is_over = self.is_closing && self.keepers.is_empty() && self.strays.is_none();
        if is_over && !self.has_swept {
            self.has_swept = true;
            self.keeper_lost(None);
        }
        is_over && self.strays.is_none()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let look_again = self.strays.as_ref().map(|_| Instant::now() + LOOK_AGAIN);
        self.keepers.values().filter_map(|keeper| keeper.late_at).chain(look_again).min()
    }

    fn hear_corelane(&mut self) {
        while !self.is_closing {
            match self.link.hear() {
                Heard::Nothing => return,
                Heard::End => self.close(),
                Heard::Message(message, _) => match Request::decode(&message) {
                    Some(Request::Spawn { id, command }) => {
                        if let Err(failure) = self.spawn(id, command) {
                            self.answer(&Answer::Failed { id, failure }, Vec::new());
                        }
                    }
                    Some(Request::Stop { id, grace }) => self.stop(id, grace),
                    // Nobody who says what cannot be read will say anything better.
                    None => self.close(),
                },
            }
        }
    }

    /// Everything is to end.
    fn close(&mut self) {
        self.is_closing = true;
        let ids: Vec<u64> = self.keepers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.stop(id, CLOSING_GRACE));
    }

    fn stop(&mut self, id: u64, grace: Duration) {
        // Unknown is who has ended by itself.
        let Some(keeper) = self.keepers.get_mut(&id) else { return };
        keeper.link.send(Request::Stop { id, grace }.encode(), Vec::new());
        let late_at = Instant::now().checked_add(grace.saturating_add(KILLING_TIME + LATENESS));
        keeper.late_at = match (keeper.late_at, late_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn spawn(&mut self, id: u64, command: CommandSpec) -> Result<(), Failure> {
        if self.keepers.len() >= CHILDREN_MAX {
            return Err(Failure { step: Step::TooMany, errno: 0 });
        }
        let no_room = |error: io::Error| Failure::new(Step::Room, &error);
        let (child_stdin, stdin) = io::pipe().map_err(no_room)?;
        let (stdout, child_stdout) = io::pipe().map_err(no_room)?;
        let (stderr, child_stderr) = io::pipe().map_err(no_room)?;
        let (link, keepers_link) = Link::pair().map_err(no_room)?;
        let pid = match process::fork() {
            Ok(Forked::Child) => {
                let (stdin, stdout) = (child_stdin.into(), child_stdout.into());
                let ends = ChildEnds { stdin, stdout, stderr: child_stderr.into() };
                let open_files = self.settled.open_files;
                process::end_with(move || keeper::run(id, command, ends, keepers_link, open_files))
            }
            Ok(Forked::Parent(pid)) => pid,
            Err(ForkError::Kernel(error) | ForkError::Proc(error)) => return Err(Failure::new(Step::Fork, &error)),
            Err(ForkError::Threads(_)) => unreachable!("the guard starts no threads"),
        };
        let ends = Some(vec![stdin.into(), stdout.into(), stderr.into()]);
        self.keepers.insert(id, Keeper { pid, link, ends, said: Said::Nothing, is_silent: false, late_at: None });
        Ok(())
    }

    /// Takes in what a keeper says, and passes on that its child has started. That it has failed or ended is passed on
    /// when the keeper has ended as well.
    fn hear_keeper(&mut self, id: u64) {
        let Some(keeper) = self.keepers.get_mut(&id) else { return };
        loop {
            let message = match keeper.link.hear() {
                Heard::Message(message, _) => message,
                Heard::Nothing => return,
                Heard::End => {
                    keeper.is_silent = true;
                    return;
                }
            };
            match Answer::decode(&message) {
                Some(Answer::Started { pid, .. }) => {
                    keeper.said = Said::Started;
                    let ends = keeper.ends.take().unwrap_or_default();
                    self.link.send(Answer::Started { id, pid }.encode(), ends);
                }
                Some(Answer::Failed { failure, .. }) => keeper.said = Said::Failed(failure),
                Some(Answer::Ended { status, .. }) => keeper.said = Said::Ended(status),
                None => {}
            }
        }
    }

    /// Takes note of who has ended.
    fn reap(&mut self) {
        while let Reaped::One(pid, _) = process::reap() {
            let Some(id) = self.keepers.iter().find_map(|(id, keeper)| (keeper.pid == pid).then_some(*id)) else {
                // A stray.
                continue;
            };
            self.hear_keeper(id);
            let Some(keeper) = self.keepers.remove(&id) else { continue };
            match keeper.said {
                Said::Failed(failure) => self.answer(&Answer::Failed { id, failure }, Vec::new()),
                Said::Ended(status) => self.answer(&Answer::Ended { id, status }, Vec::new()),
                Said::Started => self.keeper_lost(Some(id)),
                Said::Nothing => {
                    // Killed, before it could say what it was about.
                    let failure = Failure { step: Step::Keeper, errno: libc::ECHILD };
                    self.answer(&Answer::Failed { id, failure }, Vec::new());
                    self.keeper_lost(None);
                }
            }
        }
    }

    fn answer(&mut self, answer: &Answer, along: Vec<OwnedFd>) {
        self.link.send(answer.encode(), along);
    }

    fn keeper_lost(&mut self, id: Option<u64>) {
        let strays = self.strays.get_or_insert_with(|| Strays { since: Instant::now(), lost: Vec::new() });
        strays.since = Instant::now();
        strays.lost.extend(id);
    }

    /// Does what is due.
    fn act(&mut self, now: Instant) {
        for keeper in self.keepers.values_mut() {
            keeper.link.flush();
            if keeper.late_at.is_some_and(|late_at| now >= late_at) {
                keeper.late_at = None;
                process::signal_child(keeper.pid, libc::SIGKILL);
            }
        }
        let Some(strays) = &self.strays else { return };
        let is_over = now.saturating_duration_since(strays.since) > KILLING_TIME;
        if self.kill_strays() && !is_over {
            return;
        }
        let lost = self.strays.take().map(|strays| strays.lost).unwrap_or_default();
        for id in lost {
            self.answer(&Answer::Ended { id, status: None }, Vec::new());
        }
    }

    /// Kills whoever is below us and not below a keeper; true if there may be more.
    fn kill_strays(&self) -> bool {
        let Ok(all) = census::processes() else { return true };
        let is_keeper = |pid| self.keepers.values().any(|keeper| keeper.pid == pid);
        let strays = census::below(process::own_pid(), &all, is_keeper);
        for stray in &strays {
            // Who may not be killed is another user's, and given up after a while.
            let _ = stray.signal(libc::SIGKILL);
        }
        !strays.is_empty()
    }
}
