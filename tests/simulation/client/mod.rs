//! Simulated clients: they ask, take back, hang up, do not listen, and know what they must hear.
//!
//! A client of lines has one connection; one of HTTP has two to post on, to cores that chance picks, and with a legacy
//! session a third for its stream. Not here: bytes (`hearing`), JSON (`message`), what is right (`verdict`).
//! Invariant: a client does everything of its own accord and at its own time; hearing only changes what it knows.

mod asked;
mod batch;
pub mod hearing;
pub mod message;
mod resuming;
mod verdict;

use std::collections::VecDeque;

use corelane::server::core::End;
use corelane::server::service::Nanos;

use super::chance::Quirk;
use super::ledger::Fate;
use super::net::{Heard, Net, Socket};
use super::sim::{MICROSECOND, MILLISECOND, RESERVE, SECOND, Sim};
use asked::Question;
use hearing::{Hearing, Part};
use message::Request;

/// What is spoken, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    LegacyHttp,
    LegacyLines,
    ModernHttp,
    ModernLines,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::LegacyHttp, Kind::LegacyLines, Kind::ModernHttp, Kind::ModernLines];

    pub fn is_lines(self) -> bool {
        matches!(self, Kind::LegacyLines | Kind::ModernLines)
    }

    pub fn is_modern(self) -> bool {
        matches!(self, Kind::ModernHttp | Kind::ModernLines)
    }
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A tool that asks its caller something.
    Ask,
    /// A tool that answers at once.
    Echo,
    /// A tool that fails at once.
    Fail,
    /// A tool that falls over.
    Fall,
    /// A tool that never answers.
    Hang,
    Initialize,
    /// A tool that answers later.
    Nap,
    Ping,
    Subscribe,
    /// A tool that answers at once, and tells who is subscribed to its caller's resource.
    Touch,
    /// A method that there is not.
    Unknown,
}

impl What {
    /// The tool that is called.
    pub fn tool(self) -> &'static str {
        match self {
            What::Ask => "ask",
            What::Fail => "fail",
            What::Fall => "fall",
            What::Hang => "hang",
            What::Nap => "nap",
            What::Touch => "touch",
            _ => "echo",
        }
    }

    /// Whether it is answered before anything that comes behind it.
    fn is_immediate(self) -> bool {
        !matches!(self, What::Ask | What::Fall | What::Hang | What::Nap)
    }
}

/// A request that is not answered yet.
struct Pending {
    id: u64,
    tag: u64,
    what: What,
    link: usize,
    sent_at: Nanos,
    is_taken_back: bool,
    progress: u64,
    /// Most others that may have been in flight beside it.
    others: usize,
    /// The last event that was heard of its stream before that was lost: stream and number.
    heard: Option<(u64, u64)>,
}

/// What the next response on a connection of HTTP is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    Answer(u64),
    /// Answers to requests with these ids, and with those between them.
    Batch(u64, u64),
    Deleted,
    Nonsense,
    Notified,
    /// Nothing was asked: there is no room for the connection.
    Refused,
    /// What is left of the stream of an answer.
    Resumed(u64),
    Stream,
}

/// One connection.
struct Link {
    socket: Option<u32>,
    connected_at: Nanos,
    hearing: Hearing,
    awaited: VecDeque<Awaited>,
    /// The status of the response that is being heard, and whether it is a stream.
    status: Option<(u16, bool)>,
    /// There is a reason why it may be lost.
    is_excused: bool,
    /// Nothing more is written on it.
    is_ending: bool,
    /// It is not read before then.
    paused_until: Nanos,
    /// The last request that was answered at once, by its id.
    answered: u64,
    /// Lines of nonsense that are to be complained of.
    nonsense: u32,
    /// Lines: what was settled.
    is_settled: bool,
    /// The last event of the stream that is being heard.
    event: Option<(u64, u64)>,
}

impl Link {
    fn new(is_lines: bool) -> Link {
        Link {
            socket: None,
            connected_at: 0,
            hearing: Hearing::new(is_lines),
            awaited: VecDeque::new(),
            status: None,
            is_excused: false,
            is_ending: false,
            paused_until: 0,
            answered: 0,
            nonsense: 0,
            is_settled: false,
            event: None,
        }
    }
}

/// A legacy session over HTTP.
struct Session {
    id: String,
    /// It was there then.
    known_at: Nanos,
    is_subscribed: bool,
}

/// See the module.
pub struct Client {
    me: u32,
    pub kind: Kind,
    version: &'static str,
    links: Vec<Link>,
    pending: Vec<Pending>,
    next_id: u64,
    session: Option<Session>,
    /// Calls that may be in flight although nobody waits for them, until then.
    running: Vec<Nanos>,
    questions: Vec<Question>,
    parts: Vec<Part>,
    text: String,
    body: String,
}

/// The place of a session's stream among a client's connections.
const STREAM: usize = 2;

impl Client {
    /// A client that has not begun.
    pub fn new(me: u32, kind: Kind, sim: &mut Sim) -> Client {
        let count = match kind {
            Kind::LegacyHttp => 3,
            Kind::ModernHttp => 2,
            Kind::LegacyLines | Kind::ModernLines => 1,
        };
        Client {
            me,
            kind,
            version: sim.chance.one_of(&["2025-11-25", "2025-06-18", "2025-03-26"]),
            links: (0..count).map(|_| Link::new(kind.is_lines())).collect(),
            pending: Vec::new(),
            next_id: 1,
            session: None,
            running: Vec::new(),
            questions: Vec::new(),
            parts: Vec::new(),
            text: String::new(),
            body: String::new(),
        }
    }

    /// Whether it has hung up for good.
    pub fn is_done(&self) -> bool {
        self.links.iter().all(|link| link.socket.is_none()) && self.pending.is_empty()
    }

    /// What it waits for, for a complaint.
    pub fn complaint(&self) -> String {
        let pending = self.pending.iter().map(|one| format!("{:?} {} on {}", one.what, one.id, one.link));
        let links = self.links.iter().map(|link| format!("{:?} awaits {:?}", link.socket, link.awaited));
        let (pending, links) = (pending.collect::<Vec<_>>().join(", "), links.collect::<Vec<_>>().join("; "));
        format!("client {} ({:?}): {pending}; {links}", self.me, self.kind)
    }

    /// Does something, and says when it will do something again.
    pub fn act(&mut self, sim: &mut Sim, net: &mut Net) -> Nanos {
        let now = sim.now;
        // What a core found in a socket when it went on after a pause began only then.
        let (pause, time) = (sim.last_pause, 2 * sim.bounds.call_time);
        self.running.retain(|&until| until > now || (until <= pause + time && now < pause + time));
        for index in 0..self.links.len() {
            self.resume(sim, net, index);
        }
        self.resume_answers(sim, net);
        if sim.is_calm {
            self.wind_down(sim, net);
            return now + 20 * MILLISECOND;
        }
        let index = sim.chance.index(self.links.len());
        if self.links[index].socket.is_none() {
            self.connect(sim, net, index);
        } else if !self.misbehaves(sim, net, index) && !self.links[index].is_ending {
            self.speak(sim, net, index);
        }
        // Now and then it thinks for long, else hardly at all.
        now + match sim.chance.below(16) {
            0 => sim.chance.between(1, 20) * MILLISECOND,
            1..6 => sim.chance.between(50, 1000) * MICROSECOND,
            _ => sim.chance.between(1, 50) * MICROSECOND,
        }
    }

    fn resume(&mut self, sim: &Sim, net: &mut Net, index: usize) {
        let link = &mut self.links[index];
        if link.paused_until > 0
            && (sim.is_calm || link.paused_until <= sim.now)
            && let Some(socket) = link.socket
        {
            link.paused_until = 0;
            net.reads(socket, true);
        }
    }

    fn connect(&mut self, sim: &mut Sim, net: &mut Net, index: usize) {
        // A stream is for a session, and not everybody wants one.
        if index == STREAM && (self.session.is_none() || sim.chance.once_in(2)) {
            return;
        }
        let core = sim.chance.index(sim.bounds.cores);
        if !net.has_slot(core, sim.bounds.connections_max + RESERVE) {
            return;
        }
        let mut link = Link::new(self.kind.is_lines());
        link.socket = Some(net.connect(core, usize::from(self.kind.is_lines()), self.me, index));
        link.connected_at = sim.now;
        self.links[index] = link;
    }

    /// Does what a client should not, if the seed has such clients.
    fn misbehaves(&mut self, sim: &mut Sim, net: &mut Net, index: usize) -> bool {
        let link = &mut self.links[index];
        let Some(socket) = link.socket else { return false };
        if sim.show(Quirk::Resets, 100) {
            link.is_excused = true;
            net.end(socket, End::Reset);
            self.lost(sim, index, "it broke it off itself");
            return true;
        }
        if sim.show(Quirk::HalfCloses, 100) {
            // Over HTTP that is the end of what is in flight (2026-07-28, "Disconnection").
            link.is_excused |= !self.kind.is_lines();
            link.is_ending = true;
            net.end(socket, End::Finished);
            return true;
        }
        if link.paused_until == 0 && sim.show(Quirk::SlowPeers, 60) {
            link.paused_until = sim.now + sim.chance.one_of(&[MILLISECOND, 50 * MILLISECOND, SECOND, 8 * SECOND]);
            link.is_excused |= link.paused_until - sim.now > SECOND;
            net.reads(socket, false);
            return true;
        }
        false
    }

    /// Hangs up where nothing is awaited any more.
    fn wind_down(&mut self, sim: &mut Sim, net: &mut Net) {
        if self.has_to_resume() {
            return;
        }
        for index in 0..self.links.len() {
            let waits = self.pending.iter().any(|one| one.link == index && !one.is_taken_back);
            let awaited = self.links[index].awaited.iter().any(|awaited| *awaited != Awaited::Stream);
            let Some(socket) = self.links[index].socket.filter(|_| !waits && !awaited) else { continue };
            if self.kind.is_lines() && !self.links[index].is_ending {
                self.links[index].is_ending = true;
                net.end(socket, End::Finished);
            } else if !self.kind.is_lines() {
                self.links[index].is_excused = true;
                net.leave(socket);
                self.lost(sim, index, "it hung up");
            }
        }
    }

    /// How many more calls may be in flight, as far as it knows.
    fn window(&self, sim: &mut Sim) -> usize {
        let more = if sim.show(Quirk::Greed, 2) { 2 } else { 0 };
        (sim.bounds.in_flight + more).saturating_sub(self.pending.len() + self.running.len())
    }

    fn speak(&mut self, sim: &mut Sim, net: &mut Net, index: usize) {
        let Some(socket) = self.links[index].socket else { return };
        if !net.socket(socket).is_some_and(Socket::is_open) {
            return;
        }
        if !self.kind.is_modern() && !self.is_settled(index) {
            return self.begin_session(sim, net, index);
        }
        if index == STREAM {
            return self.listen(net);
        }
        if self.answer_question(sim, net, index) {
            return;
        }
        if sim.show(Quirk::Cancels, 12) && self.take_back(net, index) {
            return;
        }
        if sim.show(Quirk::Nonsense, 60) && self.can_post(index) {
            return self.say_nonsense(sim, net, index);
        }
        if index != STREAM && sim.chance.once_in(200) && self.end_session(sim, net, index) {
            return;
        }
        if self.may_batch() && sim.chance.once_in(6) {
            return self.ask_batch(sim, net, index);
        }
        let most = if self.kind.is_lines() { sim.chance.between(1, 4) } else { 1 };
        for _ in 0..most {
            if self.window(sim) == 0 || !net.has_room(socket) || !self.can_post(index) {
                return;
            }
            let what = self.choose(sim);
            self.ask(sim, net, index, what);
        }
    }

    /// Whether another request may be sent on a connection of HTTP before what was sent is answered.
    fn can_post(&self, index: usize) -> bool {
        self.kind.is_lines() || self.links[index].awaited.len() < 2
    }

    fn is_settled(&self, index: usize) -> bool {
        if self.kind.is_lines() { self.links[index].is_settled } else { self.session.is_some() }
    }

    fn begin_session(&mut self, sim: &mut Sim, net: &mut Net, index: usize) {
        let begins = self.pending.iter().any(|one| one.what == What::Initialize);
        if !begins && index != STREAM && self.can_post(index) {
            self.ask(sim, net, index, What::Initialize);
        }
    }

    fn listen(&mut self, net: &mut Net) {
        let (Some(session), link) = (&self.session, &mut self.links[STREAM]) else { return };
        if let Some(socket) = link.socket.filter(|_| link.awaited.is_empty()) {
            link.event = None;
            link.awaited.push_back(Awaited::Stream);
            net.write(socket, message::bodiless("GET", &session.id, self.version, None).as_bytes());
        }
    }

    /// Deletes its session, if nothing is on its way that would find it gone.
    fn end_session(&mut self, sim: &Sim, net: &mut Net, index: usize) -> bool {
        let settled = |link: &Link| link.awaited.is_empty() || link.status == Some((200, true));
        let is_known = self.session.as_ref().is_some_and(|session| session.known_at > sim.last_idling);
        if self.kind != Kind::LegacyHttp || !is_known || !self.pending.is_empty() || !self.links.iter().all(settled) {
            return false;
        }
        let Some(socket) = self.links[index].socket else { return false };
        let Some(session) = self.session.take() else { return false };
        self.links[index].awaited.push_back(Awaited::Deleted);
        net.write(socket, message::bodiless("DELETE", &session.id, self.version, None).as_bytes());
        true
    }

    fn choose(&self, sim: &mut Sim) -> What {
        let what = match sim.chance.below(32) {
            0 => What::Fail,
            1 => What::Fall,
            2 => What::Unknown,
            3..6 if !self.kind.is_modern() => What::Ping,
            6 if !self.kind.is_modern() => What::Subscribe,
            7..10 if !self.kind.is_modern() => What::Touch,
            10 if self.can_be_asked() => What::Ask,
            10..18 => What::Nap,
            18 if sim.chance.once_in(4) => What::Hang,
            _ => What::Echo,
        };
        // What is answered at once cannot be overtaken, so a client of one request at a time waits for nothing.
        if what == What::Hang && self.pending.iter().any(|one| one.what == What::Hang) { What::Echo } else { what }
    }

    fn ask(&mut self, sim: &mut Sim, net: &mut Net, index: usize, what: What) {
        let Some(socket) = self.links[index].socket else { return };
        self.body.clear();
        let request = self.begin(sim, index, what);
        self.text.clear();
        if self.kind.is_lines() {
            self.text.push_str(&self.body);
            self.text.push('\n');
        } else {
            let session = self.session.as_ref().filter(|_| what != What::Initialize).map(|session| session.id.as_str());
            message::post(&mut self.text, Some(&request), session, self.version, &self.body);
            self.links[index].awaited.push_back(Awaited::Answer(request.id));
        }
        net.write(socket, self.text.as_bytes());
    }

    /// Appends a request to the body, for whose answer it waits from now on.
    fn begin(&mut self, sim: &mut Sim, index: usize, what: What) -> Request {
        let id = self.next_id;
        self.next_id += 1;
        let tag = sim.ledger.open(self.me);
        let padding = match sim.chance.below(64) {
            0 if sim.show(Quirk::LargePayloads, 2) => sim.chance.between(2_000, 20_000) as usize,
            1..8 => sim.chance.between(100, 1000) as usize,
            _ => sim.chance.below(32) as usize,
        };
        let request = Request {
            client: self.me,
            id,
            tag,
            what,
            is_modern: self.kind.is_modern(),
            version: self.version,
            micros: if what == What::Fall && sim.chance.once_in(2) { 0 } else { sim.chance.between(1, 5000) },
            steps: if sim.chance.once_in(8) { 40 } else { sim.chance.between(1, 3) },
            padding,
        };
        message::write(&mut self.body, &request);
        if let Some(session) = &mut self.session {
            session.is_subscribed |= what == What::Subscribe;
        }
        let others = self.pending.len() + self.running.len();
        self.pending.iter_mut().for_each(|one| one.others = one.others.max(others));
        let (sent_at, is_taken_back, progress) = (sim.now, false, 0);
        self.pending.push(Pending {
            id,
            tag,
            what,
            link: index,
            sent_at,
            is_taken_back,
            progress,
            others,
            heard: None,
        });
        request
    }

    /// Takes back something that it asked, where that can be said on a connection.
    fn take_back(&mut self, net: &mut Net, index: usize) -> bool {
        // Over HTTP a modern call is taken back by closing its connection, which other quirks do.
        let is_modern = self.kind.is_modern();
        if (is_modern && !self.kind.is_lines()) || !self.can_post(index) {
            return false;
        }
        let Some(socket) = self.links[index].socket else { return false };
        let open = |one: &&mut Pending| !one.is_taken_back && one.what != What::Initialize;
        let Some(one) = self.pending.iter_mut().filter(open).last() else { return false };
        one.is_taken_back = true;
        let text = message::cancelled(one.id, is_modern);
        self.notify(net, index, socket, &text);
        true
    }

    fn notify(&mut self, net: &mut Net, index: usize, socket: u32, text: &str) {
        if self.kind.is_lines() {
            net.write(socket, format!("{text}\n").as_bytes());
            return;
        }
        self.text.clear();
        let Some(session) = &self.session else { return };
        message::post(&mut self.text, None, Some(&session.id), self.version, text);
        self.links[index].awaited.push_back(Awaited::Notified);
        net.write(socket, self.text.as_bytes());
    }

    fn say_nonsense(&mut self, sim: &mut Sim, net: &mut Net, index: usize) {
        let Some(socket) = self.links[index].socket else { return };
        let text = sim.chance.one_of(&["{", "[1,", "nonsense", r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#]);
        if self.kind.is_lines() {
            self.links[index].nonsense += 1;
            net.write(socket, format!("{text}\n").as_bytes());
            return;
        }
        self.text.clear();
        message::post(&mut self.text, None, None, self.version, text);
        self.links[index].awaited.push_back(Awaited::Nonsense);
        net.write(socket, self.text.as_bytes());
    }

    /// Something is heard on a connection.
    pub fn hear(&mut self, sim: &mut Sim, index: usize, heard: Heard<'_>) {
        match heard {
            Heard::Bytes(bytes) => {
                let mut parts = std::mem::take(&mut self.parts);
                if let Err(problem) = self.links[index].hearing.hear(bytes, &mut parts) {
                    sim.fail(format!("client {} hears {problem}", self.me));
                }
                for part in parts.drain(..) {
                    self.take(sim, index, part);
                }
                self.parts = parts;
            }
            Heard::End(how) => {
                let amid = self.links[index].hearing.is_amid();
                if amid && !self.may_lose(sim, index) {
                    sim.fail(format!("{}: a message is cut off by {how:?}", self.complaint()));
                }
                self.lost(sim, index, "the server hung up");
            }
        }
    }

    /// A connection is gone, and with it what was to come on it.
    fn lost(&mut self, sim: &mut Sim, index: usize, why: &str) {
        let may = self.may_lose(sim, index);
        let keeps_running = self.kind == Kind::LegacyHttp;
        let until = sim.now + 2 * sim.bounds.call_time;
        let mut place = 0;
        while place < self.pending.len() {
            if self.pending[place].link != index || self.keeps(index, place) {
                place += 1;
                continue;
            }
            let one = self.pending.swap_remove(place);
            if keeps_running {
                self.running.push(until);
            }
            let fate = if one.is_taken_back { Fate::TakenBack } else { Fate::Lost };
            // Who can say no more cannot answer what the tool asks.
            let is_mute = one.what == What::Ask && self.links[index].is_ending;
            if fate == Fate::Lost && !may && !is_mute {
                let text = format!("{why}, and {:?} {} of client {} has no answer", one.what, one.id, self.me);
                sim.fail(text);
            }
            if let Err(problem) = sim.ledger.end(self.me, one.tag, fate) {
                sim.fail(problem);
            }
        }
        self.links[index] = Link::new(self.kind.is_lines());
    }

    /// Whether there is a reason why a connection may be lost.
    fn may_lose(&self, sim: &Sim, index: usize) -> bool {
        let link = &self.links[index];
        let is_refused = sim.bounds.connections_max < 100;
        // Who is told more than it reads in time is cut off.
        let last = sim.last_pause.max(sim.last_cut);
        link.is_excused || is_refused || link.connected_at <= last
    }
}
