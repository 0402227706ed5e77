//! The connections of a share: in which stage each is, what it says next, and what its answers mean.
//!
//! It has no ring: `Fleet` carries its bytes. It keeps no schedule: `share` says what is due.
//!
//! Invariant: a connection takes a call only while it is up and has fewer outstanding than its depth; `open` and
//! `opening` are the numbers of those in these stages.

use std::collections::VecDeque;

use crate::{
    dice::Dice,
    fleet::{Crew, Fleet, Loss, Outbox},
    lane::{Fault, Lane, Seen},
    message::{FIRST_ID, Script, Wire},
    scenario::{
        count::Count,
        file::{Deed, Group},
    },
    sys,
};

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not begun, or over and free for another.
    Away,
    Opening,
    Up,
    /// Has said that it leaves, or was lost; not free yet.
    Leaving,
}

/// What a visit has yet to do.
#[derive(Clone, Copy)]
struct Visit {
    due: u64,
    calls_left: usize,
}

/// See the module.
pub struct Members<'a> {
    script: &'a Script,
    deed: Deed,
    depth: usize,
    calls: usize,
    piece: usize,
    reads_all: bool,
    /// The place of each request of the mix, as often as its weight; empty for message M alone.
    mix: Vec<u16>,
    dice: Dice,
    lanes: Vec<Lane>,
    stages: Vec<Stage>,
    visits: Vec<Option<Visit>>,
    /// What a trickling connection has said of its call.
    said: Vec<u32>,
    trickle: Vec<u8>,
    /// Connections below this are wanted.
    pub reach: usize,
    /// Wanted again as soon as what it was before has ended.
    wanted: Vec<bool>,
    /// Connections that may take what is due; some of them no more.
    free: VecDeque<u32>,
    due: VecDeque<u64>,
    /// For after this turn: to leave, to close at once, to open again.
    to_leave: Vec<u32>,
    to_close: Vec<u32>,
    to_open: Vec<u32>,
    count: Count,
    now: u64,
    from: u64,
    to: u64,
    closed_loop: bool,
    calling: bool,
    open: u64,
    opening: u64,
}

impl<'a> Members<'a> {
    /// Nothing is open. `first_ask` is the place of the group's first request in the script's.
    pub fn new(script: &'a Script, group: &Group, first_ask: usize, count: usize, seed: u64) -> Self {
        let mut mix = Vec::new();
        for (place, part) in group.mix.iter().enumerate() {
            mix.extend(std::iter::repeat_n((first_ask + place) as u16, part.weight as usize));
        }
        let mut trickle = Vec::new();
        script.call(FIRST_ID, &script.session, &mut trickle);
        Self {
            script,
            deed: group.deed,
            depth: group.depth,
            calls: group.calls,
            piece: group.trickle_bytes,
            reads_all: group.reads.is_none(),
            mix,
            dice: Dice::new(!seed),
            lanes: (0..count).map(|_| lane(script, group.deed)).collect(),
            stages: vec![Stage::Away; count],
            visits: vec![None; count],
            said: vec![0; count],
            trickle,
            reach: 0,
            wanted: vec![false; count],
            free: VecDeque::new(),
            due: VecDeque::new(),
            to_leave: Vec::new(),
            to_close: Vec::new(),
            to_open: Vec::new(),
            count: Count::default(),
            now: 0,
            from: 0,
            to: 0,
            closed_loop: false,
            calling: false,
            open: 0,
            opening: 0,
        }
    }

    /// A phase begins: what is due from `from` on counts, and is in time up to `to`.
    pub fn begin(&mut self, from: u64, to: u64, closed_loop: bool) {
        (self.from, self.to, self.closed_loop, self.calling) = (from, to, closed_loop, true);
    }

    /// No more calls are begun of themselves.
    pub fn stop(&mut self) {
        self.calling = false;
    }

    /// What was counted since it was last asked.
    pub fn flush(&mut self) -> Count {
        let mut count = std::mem::take(&mut self.count);
        count.open = self.open;
        count
    }

    /// Whether a connection has begun that is neither up nor lost.
    pub fn is_opening(&self) -> bool {
        self.opening > 0
    }

    /// One more is due at `at`, which was seen at `now`.
    pub fn offer(&mut self, at: u64, now: u64) {
        self.count.offered += 1;
        self.count.lag.record(now.saturating_sub(at));
        self.due.push_back(at);
    }

    /// Connection `link` is wanted from now on. Those that visit come only when a visit is due.
    pub fn enter(&mut self, link: usize, fleet: &mut Fleet) {
        match self.deed {
            Deed::Visit if self.stages[link] == Stage::Away => self.free.push_back(link as u32),
            Deed::Visit => {}
            _ => self.open(link, fleet),
        }
    }

    fn open(&mut self, link: usize, fleet: &mut Fleet) {
        if self.stages[link] != Stage::Away {
            self.wanted[link] = true;
            return;
        }
        self.lanes[link] = lane(self.script, self.deed);
        self.said[link] = 0;
        self.stage(link, Stage::Opening);
        self.count.attempted += 1;
        fleet.open(link);
    }

    fn stage(&mut self, link: usize, stage: Stage) {
        let counted = |stage| (u64::from(stage == Stage::Opening), u64::from(stage == Stage::Up));
        let (before, after) = (counted(self.stages[link]), counted(stage));
        self.opening = self.opening + after.0 - before.0;
        self.open = self.open + after.1 - before.1;
        self.stages[link] = stage;
    }

    /// Connection `link` is not wanted any more.
    pub fn retire(&mut self, link: usize, fleet: &mut Fleet) {
        self.wanted[link] = false;
        // What it has asked is waited for.
        if self.deed != Deed::Visit && self.stages[link] == Stage::Up && self.may_leave(link) {
            self.leave(link, fleet);
        }
    }

    fn may_leave(&self, link: usize) -> bool {
        !self.reads_all || self.lanes[link].outstanding() == 0
    }

    fn leave(&mut self, link: usize, fleet: &mut Fleet) {
        self.stage(link, Stage::Leaving);
        if self.reads_all && self.deed != Deed::Trickle {
            fleet.leave(link);
        } else {
            // It would not see that the other side closes, or is in the middle of what it says.
            fleet.close(link);
        }
    }

    /// Begins what is due where there is room.
    pub fn serve(&mut self, fleet: &mut Fleet) {
        while !self.due.is_empty()
            && let Some(link) = self.free.pop_front()
        {
            let link = link as usize;
            let usable = match self.deed {
                Deed::Visit => self.stages[link] == Stage::Away,
                Deed::Call | Deed::Health => {
                    self.stages[link] == Stage::Up && self.lanes[link].outstanding() < self.depth
                }
                Deed::Trickle => self.stages[link] == Stage::Up,
            };
            if !usable || link >= self.reach {
                continue;
            }
            let Some(due) = self.due.pop_front() else { break };
            match self.deed {
                Deed::Call => self.call(link, due, &mut fleet.outbox),
                Deed::Health => self.lanes[link].ask_health(self.script, due, fleet.outbox.to(link)),
                Deed::Visit => {
                    self.visits[link] = Some(Visit { due, calls_left: self.calls });
                    self.open(link, fleet);
                }
                Deed::Trickle => self.say_piece(link, &mut fleet.outbox),
            }
        }
    }

    fn call(&mut self, link: usize, at: u64, outbox: &mut Outbox) {
        let out = outbox.to(link);
        if self.mix.is_empty() {
            self.lanes[link].call_at(self.script, at, out);
        } else {
            let place = self.mix[self.dice.below(self.mix.len())];
            self.lanes[link].ask_at(self.script, usize::from(place), at, out);
        }
    }

    fn say_piece(&mut self, link: usize, outbox: &mut Outbox) {
        let said = self.said[link] as usize;
        // Never the last byte: the call is not to end.
        let to = (said + self.piece).min(self.trickle.len() - 1);
        if to > said {
            outbox.to(link).extend_from_slice(&self.trickle[said..to]);
        }
        self.said[link] = to as u32;
        self.count.succeeded += 1;
        self.count.in_time += 1;
        self.free.push_back(link as u32);
    }

    /// Whether something that was due has not ended.
    pub fn under_way(&self) -> bool {
        self.opening > 0 && self.deed != Deed::Visit
            || self.reads_all
                && match self.deed {
                    Deed::Trickle => false,
                    Deed::Visit => !self.due.is_empty() || self.visits.iter().any(Option::is_some),
                    Deed::Call | Deed::Health => {
                        (!self.due.is_empty() && self.open > 0) || self.lanes.iter().any(|lane| lane.outstanding() > 0)
                    }
                }
    }

    /// Counts what was due and has not ended.
    pub fn give_up(&mut self) {
        self.count.error("never_sent".into(), self.due.len() as u64);
        self.due.clear();
        let from = self.from;
        let unanswered = match self.deed {
            Deed::Trickle => 0,
            // What is left of an earlier phase was counted there.
            Deed::Visit => self.visits.iter().flatten().filter(|visit| visit.due >= from).count(),
            Deed::Call | Deed::Health => self.lanes.iter().map(|lane| lane.outstanding_from(from)).sum(),
        };
        self.count.error("unanswered".into(), unanswered as u64);
    }

    /// What was due at `at` has ended.
    fn ended(&mut self, at: u64, fault: Option<Fault>) {
        // What was due in an earlier phase was counted there as unanswered.
        if at < self.from {
            return;
        }
        match fault {
            None => {
                self.count.succeeded += 1;
                self.count.in_time += u64::from(self.now <= self.to);
                self.count.latency.record(self.now.saturating_sub(at));
            }
            Some(fault) => self.count.error(fault.name(), 1),
        }
    }

    /// A connection may take calls now.
    fn ready(&mut self, link: usize, outbox: &mut Outbox) {
        self.stage(link, Stage::Up);
        self.count.ready += 1;
        match self.deed {
            Deed::Visit => self.next_of_visit(link, outbox),
            _ if link >= self.reach => self.to_leave.push(link as u32),
            _ => self.free.extend((0..self.depth).map(|_| link as u32)),
        }
    }

    /// The next call of a visit; after the last, it leaves.
    fn next_of_visit(&mut self, link: usize, outbox: &mut Outbox) {
        match &mut self.visits[link] {
            Some(visit) if visit.calls_left > 0 => {
                visit.calls_left -= 1;
                let due = visit.due;
                self.call(link, due, outbox);
            }
            visit => {
                if let Some(visit) = visit.take() {
                    self.ended(visit.due, None);
                }
                self.to_leave.push(link as u32);
            }
        }
    }

    /// A call has ended.
    fn answered(&mut self, link: usize, at: u64, fault: Option<Fault>, outbox: &mut Outbox) {
        self.count.answers += 1;
        match (self.deed, fault) {
            (Deed::Visit, None) => self.next_of_visit(link, outbox),
            (Deed::Visit, fault) => {
                if let Some(visit) = self.visits[link].take() {
                    self.ended(visit.due, fault);
                }
                self.to_leave.push(link as u32);
            }
            _ => {
                self.ended(at, fault);
                if link < self.reach {
                    self.free.push_back(link as u32);
                } else if self.may_leave(link) {
                    self.to_leave.push(link as u32);
                }
            }
        }
    }

    /// After a turn of the fleet: goes, comes back, and keeps a closed loop going.
    pub fn after_turn(&mut self, fleet: &mut Fleet) {
        for link in std::mem::take(&mut self.to_close) {
            fleet.close(link as usize);
        }
        for link in std::mem::take(&mut self.to_leave) {
            if self.stages[link as usize] == Stage::Up {
                self.leave(link as usize, fleet);
            }
        }
        for link in std::mem::take(&mut self.to_open) {
            let link = link as usize;
            if std::mem::take(&mut self.wanted[link]) && link < self.reach {
                self.open(link, fleet);
            }
        }
        let now = sys::now_ns();
        // An order comes a little before its phase begins.
        if self.closed_loop && self.calling && self.deed == Deed::Call && now >= self.from {
            for _ in 0..self.free.len() {
                self.offer(now, now);
            }
            self.serve(fleet);
            // Places of connections that are gone took none.
            self.count.offered -= self.due.len() as u64;
            self.due.clear();
        }
    }

    /// A connection is of no use any more.
    fn over(&mut self, link: usize, kind: String) {
        let stage = self.stages[link];
        match stage {
            Stage::Opening => self.count.refuse(kind.clone()),
            Stage::Up => self.count.lose(kind.clone()),
            Stage::Away | Stage::Leaving => return,
        }
        self.stage(link, Stage::Leaving);
        // Whoever misbehaves is cut off, and comes again for as long as he is wanted.
        self.wanted[link] |= self.deed == Deed::Trickle || !self.reads_all;
        if let Some(visit) = self.visits[link].take() {
            self.count.error(kind, u64::from(visit.due >= self.from));
        } else if matches!(self.deed, Deed::Call | Deed::Health) {
            let open = self.lanes[link].outstanding_from(self.from);
            self.count.error(kind, open as u64);
        }
        self.lanes[link] = lane(self.script, self.deed);
    }
}

/// A connection's conversation. Health is asked over HTTP, whatever the scenario speaks, and is no JSON-RPC.
fn lane(script: &Script, deed: Deed) -> Lane {
    if deed == Deed::Health { Lane::new(Wire::HttpModern, false) } else { Lane::new(script.wire, true) }
}

impl Crew for Members<'_> {
    fn taken(&mut self) {
        self.now = sys::now_ns();
    }

    fn connected(&mut self, link: usize, outbox: &mut Outbox) {
        // A trickling connection says nothing whole, not even a handshake; health needs none.
        if matches!(self.deed, Deed::Trickle | Deed::Health) || self.lanes[link].open(self.script, outbox.to(link)) {
            self.ready(link, outbox);
        }
    }

    fn received(&mut self, link: usize, bytes: &[u8], outbox: &mut Outbox) {
        self.count.bytes_received += bytes.len() as u64;
        if self.stages[link] == Stage::Leaving {
            return;
        }
        let (mut ready, mut broken, mut answers) = (false, None, Vec::new());
        self.lanes[link].take(self.script, link, bytes, outbox, &mut |seen| match seen {
            Seen::Ready => ready = true,
            Seen::Answered { at, fault } => answers.push((at, fault)),
            Seen::Broken(fault) => broken = Some(fault),
            Seen::Notice(_) | Seen::Listening => {}
        });
        if ready {
            self.ready(link, outbox);
        }
        for (at, fault) in answers {
            self.answered(link, at, fault, outbox);
        }
        if let Some(fault) = broken {
            // Nothing that it says can be understood from here on.
            self.over(link, fault.name());
            self.to_close.push(link as u32);
        }
    }

    fn lost(&mut self, link: usize, why: Loss) {
        self.over(link, why.name());
    }

    fn free(&mut self, link: usize) {
        self.stage(link, Stage::Away);
        if link < self.reach {
            match self.deed {
                Deed::Visit => self.free.push_back(link as u32),
                _ if self.wanted[link] => self.to_open.push(link as u32),
                _ => {}
            }
        }
    }

    fn enough(&self, link: usize) -> bool {
        !self.reads_all && self.stages[link] == Stage::Up
    }
}
