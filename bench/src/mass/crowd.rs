//! One thread's share of a mass run: sessions, their streams, and the orders it obeys one after another.
//!
//! It reads no clock but to tell how long calls took, and decides nothing about the run; `mass` does.
//!
//! Invariant: every deed that is begun is settled exactly once, by its answer, its failure or the loss of its
//! connection.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    dice::Dice,
    fleet::{Crew, Fleet, Loss, Outbox},
    lane::{Lane, Seen},
    message::Script,
    sys,
};

/// What each session does once in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Connect and shake hands.
    Open,
    Ping,
    Call,
    /// Open the event stream on the session's second connection.
    Listen,
}

/// What a thread is told to do.
#[derive(Clone)]
pub enum Order {
    /// Every session that is up does it once.
    Each { deed: Deed, limit: Duration },
    /// Random sessions call again and again.
    Storm { links: usize, seconds: Duration, seed: u64 },
    /// Call the tool, if one is named, and wait until every stream has heard `list_changed`.
    Announce { tool: Option<String>, limit: Duration },
    /// Take what has come and count what is up.
    Survey,
}

/// What a thread tells.
#[derive(Default)]
pub struct Tell {
    pub done: usize,
    pub errors: BTreeMap<String, u64>,
    /// When the last announcement came.
    pub last: Option<u64>,
    latency: Option<Histogram<u64>>,
}

impl Tell {
    /// Adds what another thread tells.
    pub fn add(&mut self, other: Self) {
        self.done += other.done;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.last = self.last.max(other.last);
        if let Some(latency) = other.latency {
            let mut sum = self.latency();
            sum.add(latency).expect("both have the same bounds");
            self.latency = Some(sum);
        }
    }

    /// Errors of every kind.
    pub fn failed(&self) -> usize {
        self.errors.values().sum::<u64>() as usize
    }

    /// Latencies in ns.
    pub fn latency(&self) -> Histogram<u64> {
        self.latency.clone().unwrap_or_else(empty)
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are constants that hdrhistogram takes")
}

/// Deeds begun and not settled, per thread: enough to keep the server busy, few enough to measure it and not its queue.
const BEGUN_MAX: usize = 128;
const ANNOUNCEMENT: &str = "notifications/tools/list_changed";

/// See the module.
pub struct Crowd<'a> {
    fleet: &'static mut Fleet,
    members: Members<'a>,
}

struct Members<'a> {
    script: &'a Script,
    /// Sessions, then as many streams if there are any.
    lanes: Vec<Lane>,
    sessions: usize,
    busy: Vec<bool>,
    up: Vec<bool>,
    heard: Vec<bool>,
    score: Score,
    storm_until: u64,
}

/// Counted in the phase that runs.
struct Score {
    settled: usize,
    done: usize,
    /// Of this phase, and of the whole run.
    errors: BTreeMap<String, u64>,
    all_errors: BTreeMap<String, u64>,
    latency: Histogram<u64>,
    heard: usize,
    last: Option<u64>,
    now: u64,
}

impl Score {
    fn error(&mut self, kind: String) {
        *self.all_errors.entry(kind.clone()).or_default() += 1;
        *self.errors.entry(kind).or_default() += 1;
    }
}

impl<'a> Crowd<'a> {
    /// A share of the sessions; nothing is opened yet.
    pub fn new(
        script: &'a Script,
        target: SocketAddr,
        first: usize,
        sessions: usize,
        streams: bool,
    ) -> Result<Self, String> {
        let links = sessions * (1 + usize::from(streams));
        let fleet = Fleet::new(target, links, first).map_err(|error| error.to_string())?;
        let score = Score {
            settled: 0,
            done: 0,
            errors: BTreeMap::new(),
            all_errors: BTreeMap::new(),
            latency: empty(),
            heard: 0,
            last: None,
            now: 0,
        };
        let members = Members {
            script,
            lanes: (0..links).map(|_| Lane::new(script.wire, true)).collect(),
            sessions,
            busy: vec![false; links],
            up: vec![false; links],
            heard: vec![false; links],
            score,
            storm_until: 0,
        };
        Ok(Self { fleet, members })
    }

    /// Does what it is told.
    pub fn obey(&mut self, order: Order) -> Result<Tell, String> {
        let score = &mut self.members.score;
        (score.settled, score.done) = (0, 0);
        score.errors.clear();
        score.latency.reset();
        match order {
            Order::Each { deed, limit } => self.each(deed, limit)?,
            Order::Storm { links, seconds, seed } => self.storm(links, seconds, seed)?,
            Order::Announce { tool, limit } => self.announce(tool.as_deref(), limit)?,
            Order::Survey => {
                self.turn(Duration::ZERO)?;
                self.members.score.done = self.members.up.iter().filter(|&&up| up).count();
                self.members.score.errors = self.members.score.all_errors.clone();
            }
        }
        let score = &self.members.score;
        let latency = Some(score.latency.clone()).filter(|latency| !latency.is_empty());
        Ok(Tell { done: score.done, errors: score.errors.clone(), last: score.last, latency })
    }

    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        self.fleet.turn(&mut self.members, Some(wait)).map_err(|error| format!("io_uring: {error}"))
    }

    fn each(&mut self, deed: Deed, limit: Duration) -> Result<(), String> {
        let members = &self.members;
        let offset = if deed == Deed::Listen { members.sessions } else { 0 };
        let mut queue: VecDeque<usize> =
            (0..members.sessions).filter(|&link| deed == Deed::Open || members.up[link]).collect();
        let total = queue.len();
        let mut begun = 0;
        let end = sys::now_ns() + limit.as_nanos() as u64;
        while self.members.score.settled < total && sys::now_ns() < end {
            while begun - self.members.score.settled < BEGUN_MAX
                && let Some(link) = queue.pop_front()
            {
                begun += 1;
                self.members.busy[link + offset] = true;
                let members = &mut self.members;
                match deed {
                    Deed::Open | Deed::Listen => self.fleet.open(link + offset),
                    // It may have been lost since the queue was made.
                    _ if !members.up[link] => members.settle(link),
                    Deed::Ping => members.lanes[link].ping(members.script, 0, self.fleet.outbox.to(link)),
                    Deed::Call => members.lanes[link].call_at(members.script, 0, self.fleet.outbox.to(link)),
                }
            }
            self.turn(Duration::from_millis(100))?;
        }
        let open = self.members.busy.iter_mut().map(std::mem::take).filter(|&busy| busy).count();
        (0..open).for_each(|_| self.members.score.error(format!("{deed:?}_not_answered").to_lowercase()));
        Ok(())
    }

    fn storm(&mut self, links: usize, seconds: Duration, seed: u64) -> Result<(), String> {
        let mut dice = Dice::new(seed);
        let mut up: Vec<usize> = (0..self.members.sessions).filter(|&link| self.members.up[link]).collect();
        let began = sys::now_ns();
        self.members.storm_until = began + seconds.as_nanos() as u64;
        let chosen = links.min(up.len());
        for drawn in 0..chosen {
            let other = drawn + dice.below(up.len() - drawn);
            up.swap(drawn, other);
            let link = up[drawn];
            self.members.lanes[link].call_at(self.members.script, sys::now_ns(), self.fleet.outbox.to(link));
        }
        // Each call that ends before the time is followed by another on the same session; then the last ones are
        // awaited.
        let limit = self.members.storm_until + 10_000_000_000;
        while sys::now_ns() < limit {
            let over = sys::now_ns() >= self.members.storm_until;
            if over && up[..chosen].iter().all(|&link| self.members.quiet(link)) {
                break;
            }
            self.turn(Duration::from_millis(50))?;
        }
        self.members.storm_until = 0;
        let open = up[..chosen].iter().filter(|&&link| !self.members.quiet(link)).count();
        (0..open).for_each(|_| self.members.score.error("call_not_answered".into()));
        Ok(())
    }

    fn announce(&mut self, tool: Option<&str>, limit: Duration) -> Result<(), String> {
        let Members { lanes, script, sessions, up, .. } = &mut self.members;
        if let (Some(tool), Some(link)) = (tool, (0..*sessions).find(|&link| up[link])) {
            lanes[link].call_named(script, tool, sys::now_ns(), self.fleet.outbox.to(link));
        }
        let streams = self.members.lanes.len() - self.members.sessions;
        let end = sys::now_ns() + limit.as_nanos() as u64;
        while self.members.score.heard < streams && sys::now_ns() < end {
            self.turn(Duration::from_millis(50))?;
        }
        let deaf = streams - self.members.score.heard;
        (0..deaf).for_each(|_| self.members.score.error("announcement_not_heard".into()));
        self.members.score.done = self.members.score.heard;
        Ok(())
    }
}

impl Members<'_> {
    /// A session with nothing outstanding, or none at all.
    fn quiet(&self, link: usize) -> bool {
        !self.up[link] || self.lanes[link].outstanding() == 0
    }

    fn settle(&mut self, link: usize) {
        self.score.settled += usize::from(std::mem::take(&mut self.busy[link]));
    }

    fn done(&mut self, link: usize) {
        self.up[link] = true;
        self.score.done += 1;
        self.settle(link);
    }

    fn fail(&mut self, link: usize, kind: String) {
        self.up[link] = false;
        self.score.error(kind);
        self.settle(link);
    }
}

impl Crew for Members<'_> {
    fn taken(&mut self) {
        self.score.now = sys::now_ns();
    }

    fn connected(&mut self, link: usize, outbox: &mut Outbox) {
        if let Some(session) = link.checked_sub(self.sessions) {
            let (sessions, streams) = self.lanes.split_at_mut(self.sessions);
            streams[session].listen(self.script, sessions[session].session(), outbox.to(link));
        } else if self.lanes[link].open(self.script, outbox.to(link)) {
            self.done(link);
        }
    }

    fn received(&mut self, link: usize, bytes: &[u8], outbox: &mut Outbox) {
        let (mut done, mut failed, mut again) = (0, None, false);
        let Self { lanes, script, score, heard, storm_until, sessions, .. } = self;
        lanes[link].take(script, link, bytes, outbox, &mut |seen| match seen {
            Seen::Ready | Seen::Listening => done += 1,
            Seen::Answered { at, fault: None } => {
                done += 1;
                if *storm_until > 0 {
                    score.latency.saturating_record(score.now.saturating_sub(at));
                    again = score.now < *storm_until;
                }
            }
            Seen::Answered { fault: Some(fault), .. } => failed = Some((fault, true)),
            Seen::Broken(fault) => failed = Some((fault, false)),
            Seen::Notice(method) => {
                if method == ANNOUNCEMENT && link >= *sessions && !std::mem::replace(&mut heard[link], true) {
                    score.heard += 1;
                    score.last = Some(score.now);
                }
            }
        });
        (0..done).for_each(|_| self.done(link));
        if let Some((fault, still_up)) = failed {
            self.fail(link, fault.name());
            self.up[link] = still_up;
        }
        if again {
            self.lanes[link].call_at(self.script, self.score.now, outbox.to(link));
        }
    }

    fn lost(&mut self, link: usize, why: Loss) {
        self.fail(link, why.name());
    }
}
