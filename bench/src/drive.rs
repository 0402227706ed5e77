//! One thread of the load: keeps its connections busy (closed loop) or on schedule (open loop).
//!
//! It opens, calls and counts; windows and reports are `load`'s. Threads share nothing but the script.
//!
//! Invariant: a call is due when the schedule says so and counts from then; when no connection is free it waits in
//! `due`, in order, and its waiting is part of its latency.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use crate::{
    dice::Dice,
    fleet::{Crew, Fleet, Loss, Outbox},
    lane::{Fault, Lane, Seen},
    message::Script,
    sys,
    tally::Tally,
};

/// What one thread is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: SocketAddr,
    /// Number of the first connection in the whole run.
    pub first: usize,
    pub count: usize,
    pub depth: usize,
    pub rate: Option<f64>,
    pub poisson: bool,
    /// Every connection uses the session that another has set up.
    pub swap_sessions: bool,
    pub verify: bool,
    pub seed: u64,
    pub warmup_ns: u64,
    pub window_ns: u64,
}

/// After an open loop's window, how long stragglers are waited for.
const GRACE_NS: u64 = 2_000_000_000;
/// The connections and what is known of them.
pub struct Driver<'a> {
    fleet: &'static mut Fleet,
    callers: Callers<'a>,
}

struct Callers<'a> {
    script: &'a Script,
    plan: Plan,
    lanes: Vec<Lane>,
    count: Count,
    /// Lanes that may call, each once per free place (open loop).
    free: VecDeque<u32>,
    /// Lanes whose last calls have no time yet (closed loop).
    fresh: Vec<u32>,
    /// Moments of calls that are due and not sent.
    due: VecDeque<u64>,
    calling: bool,
    gone: Vec<bool>,
}

/// The window and what was counted in it.
struct Count {
    tally: Tally,
    /// When what is handled now was taken from the ring.
    now: u64,
    from: u64,
    to: u64,
    open_loop: bool,
}

impl Count {
    /// A call that was made or due at `at` is over: counts it if it belongs to the window.
    fn over(&mut self, at: u64, fault: Option<Fault>) {
        let ends_inside = (self.from..self.to).contains(&self.now);
        self.tally.ended += u64::from(ends_inside);
        self.tally.succeeded += u64::from(ends_inside && fault.is_none());
        // A closed loop counts the calls that end in the window, an open loop those that were due in it.
        let inside = if self.open_loop { (self.from..self.to).contains(&at) } else { ends_inside };
        match fault {
            _ if !inside => {}
            None => self.tally.latency.saturating_record(self.now.saturating_sub(at)),
            Some(fault) => self.tally.error(fault.name()),
        }
    }
}

impl<'a> Driver<'a> {
    /// Connections of `plan`, not yet open.
    pub fn new(plan: Plan, script: &'a Script) -> Result<Self, String> {
        let fleet = Fleet::new(plan.target, plan.count, plan.first).map_err(|error| error.to_string())?;
        let lanes = (0..plan.count).map(|_| Lane::new(script.wire, plan.verify)).collect();
        let callers = Callers {
            script,
            lanes,
            count: Count { tally: Tally::new(), now: 0, from: u64::MAX, to: 0, open_loop: plan.rate.is_some() },
            free: VecDeque::new(),
            fresh: Vec::new(),
            due: VecDeque::new(),
            calling: false,
            gone: vec![false; plan.count],
            plan,
        };
        Ok(Self { fleet, callers })
    }

    /// Connects and shakes hands with all; those that fail are counted as lost.
    pub fn set_up(&mut self, limit: Duration) -> Result<(), String> {
        let end = sys::now_ns() + limit.as_nanos() as u64;
        (0..self.callers.plan.count).for_each(|link| self.fleet.open(link));
        loop {
            let tally = &self.callers.count.tally;
            if tally.ready + tally.lost >= self.callers.plan.count {
                break;
            }
            if sys::now_ns() > end {
                let (ready, count) = (tally.ready, self.callers.plan.count);
                return Err(format!(
                    "after {limit:?} only {ready} of {count} connections are ready: {:?}",
                    tally.errors
                ));
            }
            self.turn(Some(Duration::from_millis(100)))?;
        }
        if self.callers.count.tally.ready == 0 {
            return Err(format!("no connection could be used: {:?}", self.callers.count.tally.errors));
        }
        if self.callers.plan.swap_sessions {
            self.callers.swap_sessions();
        }
        if self.callers.script.handshake {
            let given = self.callers.lanes.iter().map(|lane| lane.session().len()).max();
            self.callers.count.tally.session_bytes = given.unwrap_or(0);
        }
        Ok(())
    }

    /// Warms up, measures and gives what it counted. The warm-up begins at `begin`.
    pub fn run(mut self, begin: u64) -> Result<Tally, String> {
        self.callers.count.from = begin + self.callers.plan.warmup_ns;
        self.callers.count.to = self.callers.count.from + self.callers.plan.window_ns;
        self.callers.calling = true;
        match self.callers.plan.rate {
            None => self.closed()?,
            Some(rate) => self.open(begin, rate)?,
        }
        Ok(self.callers.count.tally)
    }

    fn turn(&mut self, wait: Option<Duration>) -> Result<(), String> {
        self.fleet.turn(&mut self.callers, wait).map_err(|error| format!("io_uring: {error}"))
    }

    fn closed(&mut self) -> Result<(), String> {
        for link in 0..self.callers.plan.count {
            if !self.callers.gone[link] {
                for _ in 0..self.callers.plan.depth {
                    self.callers.call(link, &mut self.fleet.outbox);
                }
            }
        }
        while self.callers.count.now < self.callers.count.to {
            let now = sys::now_ns();
            for link in self.callers.fresh.drain(..) {
                self.callers.lanes[link as usize].stamp(now);
            }
            // The wait is bounded so that a silent server cannot keep the run from ending.
            self.turn(Some(Duration::from_millis(20)))?;
        }
        // Made before the window and not answered in all of it.
        let before = self.callers.count.from;
        let stalled = self.callers.lanes.iter().map(|lane| lane.outstanding_since(before)).sum::<usize>();
        self.callers.count.tally.errors_many("stalled".into(), stalled as u64);
        Ok(())
    }

    fn open(&mut self, begin: u64, rate: f64) -> Result<(), String> {
        let mut dice = Dice::new(self.callers.plan.seed);
        let poisson = self.callers.plan.poisson;
        let mut gap = move || if poisson { dice.gap() } else { 1.0 } * 1e9 / rate;
        let mut next = begin as f64 + gap();
        loop {
            let now = sys::now_ns();
            while next <= now as f64 && next < self.callers.count.to as f64 {
                if next >= self.callers.count.from as f64 {
                    self.callers.count.tally.offered += 1;
                }
                self.callers.due.push_back(next as u64);
                next += gap();
            }
            self.callers.serve_due(now, &mut self.fleet.outbox);
            let over = next >= self.callers.count.to as f64;
            let open = self.callers.due.len()
                + self.callers.lanes.iter().map(Lane::outstanding).sum::<usize>() * usize::from(over);
            if over && (open == 0 || now > self.callers.count.to + GRACE_NS) {
                break;
            }
            let wait = if over { 1_000_000 } else { (next as u64).saturating_sub(now) };
            self.turn(Some(Duration::from_nanos(wait)))?;
        }
        let unsent = self.callers.due.iter().filter(|&&due| due >= self.callers.count.from).count();
        self.callers.count.tally.errors_many("never_sent".into(), unsent as u64);
        let unanswered = self.callers.lanes.iter().map(|lane| lane.outstanding_since(u64::MAX)).sum::<usize>();
        self.callers.count.tally.errors_many("unanswered".into(), unanswered as u64);
        Ok(())
    }
}

impl Callers<'_> {
    /// Gives each lane the session of the one halfway round. Where a connection lands is a hash, so with two cores
    /// about half of the connections then end at a core that does not own their session.
    fn swap_sessions(&mut self) {
        let count = self.lanes.len();
        let mut sessions: Vec<Vec<u8>> = self.lanes.iter().map(|lane| lane.session().to_vec()).collect();
        sessions.rotate_left(count / 2);
        for (lane, session) in self.lanes.iter_mut().zip(sessions) {
            lane.adopt(session);
        }
    }

    /// Calls on `link`; counts from the next stamp.
    fn call(&mut self, link: usize, outbox: &mut Outbox) {
        self.lanes[link].call(self.script, outbox.to(link));
        self.fresh.push(link as u32);
    }

    /// Sends what is due on lanes that are free.
    fn serve_due(&mut self, now: u64, outbox: &mut Outbox) {
        while !self.due.is_empty()
            && let Some(link) = self.free.pop_front()
        {
            let link = link as usize;
            if self.gone[link] {
                continue;
            }
            let Some(due) = self.due.pop_front() else { break };
            self.lanes[link].call_at(self.script, due, outbox.to(link));
            if due >= self.count.from {
                self.count.tally.lag.saturating_record(now.saturating_sub(due));
            }
        }
    }

    fn lose(&mut self, link: usize, kind: String) {
        if !std::mem::replace(&mut self.gone[link], true) {
            self.count.tally.lost += 1;
        }
        self.count.tally.error(kind);
    }
}

impl Crew for Callers<'_> {
    fn taken(&mut self) {
        self.count.now = sys::now_ns();
    }

    fn connected(&mut self, link: usize, outbox: &mut Outbox) {
        if self.lanes[link].open(self.script, outbox.to(link)) {
            self.count.tally.ready += 1;
            self.free.extend((0..self.plan.depth).map(|_| link as u32));
        }
    }

    fn received(&mut self, link: usize, bytes: &[u8], outbox: &mut Outbox) {
        if (self.count.from..self.count.to).contains(&self.count.now) {
            self.count.tally.bytes_received += bytes.len() as u64;
        }
        let (mut over, mut ready, mut broken) = (0, false, None);
        let Self { lanes, count, script, .. } = self;
        lanes[link].take(script, link, bytes, outbox, &mut |seen| match seen {
            Seen::Ready => ready = true,
            Seen::Answered { at, fault } => {
                over += 1;
                count.over(at, fault);
            }
            Seen::Broken(fault) => broken = Some(fault),
            Seen::Notice(_) | Seen::Listening => {}
        });
        if ready {
            self.count.tally.ready += 1;
            self.free.extend((0..self.plan.depth).map(|_| link as u32));
        }
        if let Some(fault) = broken {
            self.lose(link, fault.name());
        } else if self.calling && self.plan.rate.is_none() {
            (0..over).for_each(|_| self.call(link, outbox));
        } else {
            self.free.extend((0..over).map(|_| link as u32));
        }
    }

    fn lost(&mut self, link: usize, why: Loss) {
        self.lose(link, why.name());
    }
}
