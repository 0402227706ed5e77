//! The connections of one server that dials in, as the core that speaks to it sees them: a pool of lines, each by
//! itself a way on which both sides talk.
//!
//! Not here: who is let in (`gate`), what is said, the handshake of MCP (`gateway`). Invariant: a request goes to one
//! line, and to another only if nothing of it was sent; a line that goes takes its own requests with it and no others.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::gate::{Arrival, Gate, Permit, Wire};
use super::web_socket::{Said, WebSocket};
use crate::ids::ConnectionId;
use crate::limits::DIALLED_UNSENT_BYTES_MAX;
use crate::proto::ndjson::LineFinder;
use crate::server::service::{End, Host, Nanos, Wish};
use crate::upstream::talk::{Bell, Heard, Line, Outstanding, Passage, Talk};

/// How long a WebSocket may be silent before it is asked whether it is still there, and how long it may then take.
/// Lines have no such question: the kernel asks for them (`sys::socket::watch_over`).
const SILENCE: Nanos = 20_000_000_000;
/// How long what is said at the end has to leave.
const LAST_WORDS: Nanos = 200_000_000;
/// The line of requests that wait for one.
const HELD: Line = 0;
/// Nothing is due.
const NEVER: Nanos = Nanos::MAX;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing was agreed on yet.
    New,
    /// It takes calls.
    Ready,
    /// Its last words leave.
    Leaving,
}

/// What is spoken on one.
enum Speech {
    Lines { carry: Vec<u8>, finder: LineFinder },
    WebSocket(Box<WebSocket>),
}

/// A message that waits to be sent.
struct Unsent {
    errand: u32,
    id: Option<u64>,
    /// It may go by another line.
    may_move: bool,
    text: Vec<u8>,
}

/// One connection.
struct Connection {
    line: Line,
    peer: SocketAddr,
    stage: Stage,
    /// The link, once there is one.
    link: Option<ConnectionId>,
    speech: Speech,
    queue: VecDeque<Unsent>,
    queued_bytes: usize,
    sending: bool,
    /// When something is due: a question after silence, its end if that brings nothing, the end of its leave.
    due: Nanos,
    /// It was asked whether it is still there, and has said nothing since.
    is_asked: bool,
    _permit: Permit,
}

/// All connections of one server.
pub struct Dialled {
    server: Box<str>,
    gate: Arc<Gate>,
    /// Those that were handed over and not seen yet.
    arrived: Rc<RefCell<VecDeque<Arrival>>>,
    /// Until leave was taken.
    is_open: Rc<Cell<bool>>,
    message_bytes_max: usize,
    tag: u32,
    /// By their places; a place is free again at once, and known apart by the line in it.
    connections: Vec<Option<Connection>>,
    next_line: Line,
    /// The line that a message was given to last.
    last_line: Line,
    outstanding: Outstanding,
    /// Requests that wait until a line is ready.
    held: VecDeque<Unsent>,
    held_bytes: usize,
    /// The server's era is known: some line was ready since there was none.
    is_known: bool,
    heard: VecDeque<Heard>,
    wishes: Vec<Wish>,
}

impl Dialled {
    /// Opens the gate. `tag` stands in the upper half of the tokens of its links, and is left beside when somebody has
    /// dialled in; messages of more than `message_bytes_max` end their connection.
    pub fn new(
        server: &str,
        gate: Arc<Gate>,
        host: &Rc<dyn Host>,
        message_bytes_max: usize,
        (tag, bell): (u32, Bell),
    ) -> Dialled {
        let arrived = Rc::<RefCell<VecDeque<Arrival>>>::default();
        let is_open = Rc::new(Cell::new(true));
        let (mut arrivals, seen, still_open) = (gate.open(), Rc::clone(&arrived), Rc::clone(&is_open));
        host.spawn(Box::pin(async move {
            while let Some(arrival) = arrivals.recv().await {
                // One that comes too late is dropped, and so closed.
                if still_open.get() {
                    seen.borrow_mut().push_back(arrival);
                    bell.borrow_mut().push(tag);
                }
            }
        }));
        Dialled {
            server: server.into(),
            gate,
            arrived,
            is_open,
            message_bytes_max,
            tag,
            connections: Vec::new(),
            next_line: 1,
            last_line: HELD,
            outstanding: Outstanding::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            is_known: false,
            heard: VecDeque::new(),
            wishes: Vec::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.connections.iter().flatten().filter(|one| one.stage != Stage::Leaving).count()
    }

    /// The line with which it is to be found out what the server speaks: the oldest of which nothing is known.
    pub fn front(&self) -> Option<Line> {
        self.lines(Stage::New).min()
    }

    /// Lines of which nothing is known.
    pub fn new_lines(&self) -> Vec<Line> {
        self.lines(Stage::New).collect()
    }

    /// Lines that take calls.
    pub fn ready_lines(&self) -> Vec<Line> {
        self.lines(Stage::Ready).collect()
    }

    /// The errands that wait for an answer on a line.
    pub fn errands_on(&self, line: Line) -> Vec<u32> {
        self.outstanding.errands_on(line).collect()
    }

    fn lines(&self, stage: Stage) -> impl Iterator<Item = Line> {
        self.connections.iter().flatten().filter(move |one| one.stage == stage).map(|one| one.line)
    }

    /// It takes calls from now on.
    pub fn ready(&mut self, line: Line) {
        let Some(place) = self.place_of(line) else { return };
        let Some(one) = self.connections[place].as_mut().filter(|one| one.stage == Stage::New) else { return };
        one.stage = Stage::Ready;
        self.is_known = true;
        let (server, peer, connections) = (&*self.server, one.peer, self.count());
        tracing::info!(server, %peer, connections, "a connection of the server takes calls");
        self.held_bytes = 0;
        for unsent in std::mem::take(&mut self.held) {
            self.assign_if_wanted(unsent, HELD);
        }
    }

    /// What is said on it is not what is expected of the server: it ends.
    pub fn refuse(&mut self, now: Nanos, line: Line, why: &str) {
        if let Some(place) = self.place_of(line) {
            self.down(now, place, why.to_owned());
        }
    }

    fn place_of(&self, line: Line) -> Option<usize> {
        self.connections.iter().position(|one| one.as_ref().is_some_and(|one| one.line == line))
    }

    /// Takes note of who has dialled in.
    fn look(&mut self, now: Nanos) {
        loop {
            let Some(arrival) = self.arrived.borrow_mut().pop_front() else { return };
            let Arrival { stream, peer, wire, permit } = arrival;
            let Ok(write) = stream.try_clone() else {
                tracing::warn!(server = &*self.server, %peer, "no descriptor is left for a connection of the server");
                continue;
            };
            self.begin(now, (stream, write), peer, wire, permit);
        }
    }

    fn begin(&mut self, now: Nanos, ends: (OwnedFd, OwnedFd), peer: SocketAddr, wire: Wire, permit: Permit) {
        let line = self.next_line;
        self.next_line += 1;
        let (read, write) = ends;
        let token = u64::from(self.tag) << 32 | u64::from(line);
        self.wishes.push(Wish::Adopt { read, write: Some(write), token });
        self.heard.push_back(Heard::Arrived(line));
        let (speech, due, early) = match wire {
            Wire::Lines(early) => (Speech::Lines { carry: Vec::new(), finder: LineFinder::new() }, NEVER, early),
            Wire::WebSocket { mut socket, early } => {
                socket.set_message_bytes_max(self.message_bytes_max);
                self.heard.extend(early.into_iter().map(|text| Heard::Message { line, text }));
                (Speech::WebSocket(socket), now + SILENCE, Vec::new())
            }
        };
        let connection = Connection {
            line,
            peer,
            stage: Stage::New,
            link: None,
            speech,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sending: false,
            due,
            is_asked: false,
            _permit: permit,
        };
        let place = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[place] = Some(connection);
        let (server, connections) = (&*self.server, self.count());
        tracing::info!(server, %peer, connections, "the server has dialled in");
        if !early.is_empty() {
            self.take(now, place, &early);
        }
    }

    /// Takes bytes of the connection at a place.
    fn take(&mut self, now: Nanos, place: usize, bytes: &[u8]) {
        let most = self.message_bytes_max;
        let Dialled { connections, heard, .. } = self;
        let Some(one) = connections[place].as_mut() else { return };
        let line = one.line;
        let is_heard = one.stage != Stage::Leaving;
        let wrong = match &mut one.speech {
            Speech::Lines { carry, finder } => {
                carry.extend_from_slice(bytes);
                let mut lines = finder.lines(carry, most);
                let mut wrong = None;
                for found in lines.by_ref() {
                    match found {
                        Ok(text) if is_heard => heard.push_back(Heard::Message { line, text: text.to_vec() }),
                        Ok(_) => {}
                        Err(_) => {
                            wrong = Some(format!("wrote a line of more than {most} bytes"));
                            break;
                        }
                    }
                }
                let consumed = lines.consumed();
                carry.drain(..consumed);
                wrong
            }
            Speech::WebSocket(socket) => {
                (one.due, one.is_asked) = if is_heard { (now + SILENCE, false) } else { (one.due, one.is_asked) };
                let mut farewell = None;
                let opened = socket.open(bytes, |said| match said {
                    Said::Message(text) if is_heard => heard.push_back(Heard::Message { line, text }),
                    Said::Message(_) => {}
                    Said::Farewell => farewell = Some("has closed its connection".to_owned()),
                });
                let full = (socket.unsent() > DIALLED_UNSENT_BYTES_MAX)
                    .then(|| "asks without reading what it is answered".to_owned());
                opened.err().or(full).or(farewell)
            }
        };
        if let Some(why) = wrong {
            self.down(now, place, why);
        }
    }

    /// Finds a line for a message, or keeps it until there is one: that with the fewest requests in flight, and among
    /// equals the next in turn, so that a pool whose calls come one at a time is used as a whole.
    fn assign(&mut self, unsent: Unsent) {
        let Dialled { connections, outstanding, last_line, .. } = self;
        let ready = connections.iter().flatten().filter(|one| one.stage == Stage::Ready);
        let load = |one: &Connection| (one.queued_bytes > DIALLED_UNSENT_BYTES_MAX, outstanding.count_on(one.line));
        let turn = |line: Line| (line <= *last_line, line);
        match ready.min_by_key(|one| (load(one), turn(one.line))) {
            Some(one) => {
                let line = one.line;
                *last_line = line;
                self.queue(line, unsent);
            }
            None if self.held_bytes > DIALLED_UNSENT_BYTES_MAX => {
                self.fail(&unsent, "has no connection that is ready yet, and too much waits for one", true);
            }
            None => {
                if let Some(id) = unsent.id {
                    self.outstanding.insert(id, unsent.errand, HELD);
                }
                self.held_bytes += unsent.text.len();
                self.held.push_back(unsent);
            }
        }
    }

    /// The same for one that waited elsewhere, unless nobody waits for its answer any more.
    fn assign_if_wanted(&mut self, unsent: Unsent, before: Line) {
        if unsent.id.is_some_and(|id| self.outstanding.answered(id, before).is_some()) {
            self.assign(unsent);
        }
    }

    /// Has a message wait for its line.
    fn queue(&mut self, line: Line, unsent: Unsent) {
        let Some(one) = self.connections.iter_mut().flatten().find(|one| one.line == line) else {
            return self.fail(&unsent, "has closed that connection", false);
        };
        let waiting = one.queued_bytes;
        if waiting > 0 && waiting + unsent.text.len() > DIALLED_UNSENT_BYTES_MAX {
            let why = format!("does not read: {waiting} bytes wait to be written to it already");
            return self.fail(&unsent, &why, true);
        }
        if let Some(id) = unsent.id {
            self.outstanding.insert(id, unsent.errand, line);
        }
        one.queued_bytes += unsent.text.len();
        one.queue.push_back(unsent);
    }

    fn fail(&mut self, unsent: &Unsent, why: &str, is_overload: bool) {
        if unsent.id.is_some() {
            self.heard.push_back(Heard::Failed { errand: unsent.errand, why: why.to_owned(), is_overload });
        }
    }

    /// A connection is over: what it was asked is not answered, what it was not asked yet another may be.
    fn down(&mut self, now: Nanos, place: usize, why: String) {
        let Some(mut one) = self.connections[place].take() else { return };
        let was_leaving = one.stage == Stage::Leaving;
        if let Speech::WebSocket(socket) = &mut one.speech
            && socket.unsent() > 0
            && !one.sending
            && let Some(link) = one.link
            && !was_leaving
        {
            // Why it is over is said, and given a moment to leave.
            let mut words = Vec::new();
            socket.take_out(&mut words);
            self.wishes.push(Wish::Send(link, words));
            let queue = std::mem::take(&mut one.queue);
            let line = one.line;
            (one.stage, one.sending, one.due, one.queued_bytes) = (Stage::Leaving, true, now + LAST_WORDS, 0);
            let peer = one.peer;
            self.connections[place] = Some(one);
            return self.gone(now, line, peer, queue, why);
        }
        if let Some(link) = one.link {
            self.wishes.push(Wish::Close(link));
        }
        if !was_leaving {
            self.gone(now, one.line, one.peer, one.queue, why);
        }
    }

    /// What there is to do about a connection that is over.
    fn gone(&mut self, now: Nanos, line: Line, peer: SocketAddr, queue: VecDeque<Unsent>, why: String) {
        let (server, connections) = (&*self.server, self.count());
        tracing::warn!(server, %peer, connections, "a connection of the server is gone: it {why}");
        let may_go_on = self.lines(Stage::Ready).next().is_some();
        for unsent in queue.into_iter().filter(|unsent| unsent.may_move && may_go_on) {
            self.assign_if_wanted(unsent, line);
        }
        self.outstanding.fail(line, &why, &mut self.heard);
        if may_go_on {
            return;
        }
        // Others that are being greeted go on with what is held for them.
        let others = self.front().is_some();
        if !(others && self.is_known) {
            self.is_known = false;
            self.held_bytes = 0;
            self.held.clear();
            self.outstanding.fail(HELD, &why, &mut self.heard);
            self.heard.push_back(Heard::Ended { why, retry_at: if others { now } else { NEVER } });
        }
    }

    /// Sends what waits, if nothing is on its way.
    fn flush(&mut self, place: usize) {
        let Some(one) = self.connections[place].as_mut() else { return };
        let Some(link) = one.link.filter(|_| !one.sending) else { return };
        let mut out = Vec::new();
        for unsent in one.queue.drain(..) {
            match &mut one.speech {
                Speech::Lines { .. } => out.extend_from_slice(&unsent.text),
                Speech::WebSocket(socket) => socket.say(unsent.text.strip_suffix(b"\n").unwrap_or(&unsent.text)),
            }
        }
        one.queued_bytes = 0;
        if let Speech::WebSocket(socket) = &mut one.speech {
            socket.take_out(&mut out);
        }
        if !out.is_empty() {
            one.sending = true;
            self.wishes.push(Wish::Send(link, out));
        } else if one.stage == Stage::Leaving {
            self.connections[place] = None;
            self.wishes.push(Wish::Close(link));
        }
    }
}

impl Talk for Dialled {
    fn start(&mut self, _now: Nanos) {}

    /// Takes leave of all; nobody is let in any more.
    fn shut(&mut self, now: Nanos) {
        self.gate.shut();
        self.is_open.set(false);
        self.arrived.borrow_mut().clear();
        let mut was_there = false;
        for one in self.connections.iter_mut().flatten().filter(|one| one.stage != Stage::Leaving) {
            if let Speech::WebSocket(socket) = &mut one.speech {
                socket.farewell("corelane takes no more of this server's connections");
            }
            (one.stage, one.due) = (Stage::Leaving, now + LAST_WORDS);
            self.outstanding.fail(one.line, "was let go", &mut self.heard);
            was_there = true;
        }
        if was_there {
            tracing::info!(server = &*self.server, "the server's connections are let go");
            self.is_known = false;
            self.heard.push_back(Heard::Ended { why: "was let go".to_owned(), retry_at: NEVER });
        }
    }

    fn submit(&mut self, _now: Nanos, errand: u32, passage: Passage, text: &[u8]) {
        let unsent =
            Unsent { errand, id: passage.id(), may_move: matches!(passage, Passage::Request(_)), text: text.to_vec() };
        match passage {
            Passage::Request(_) => self.assign(unsent),
            Passage::RequestOn(_, line) | Passage::Notice(line) => self.queue(line, unsent),
        }
    }

    fn outstanding(&mut self) -> &mut Outstanding {
        &mut self.outstanding
    }

    fn heard(&mut self, now: Nanos) -> Option<Heard> {
        self.look(now);
        self.heard.pop_front()
    }

    fn has_news(&self) -> bool {
        !self.arrived.borrow().is_empty() || !self.heard.is_empty()
    }

    fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16> {
        let line = token as Line;
        let place = self.place_of(line);
        match (place, outcome) {
            (Some(place), Ok(id)) => {
                self.connections[place].as_mut()?.link = Some(id);
                Some(place as u16)
            }
            (None, Ok(id)) => {
                self.wishes.push(Wish::Close(id));
                None
            }
            (Some(place), Err(error)) => {
                self.down(now, place, format!("could not be taken over (error {error})"));
                None
            }
            (None, Err(_)) => None,
        }
    }

    fn received(&mut self, now: Nanos, place: u16, id: ConnectionId, bytes: &[u8]) {
        if self.is_at(place, id) {
            self.take(now, usize::from(place), bytes);
        }
    }

    fn ended(&mut self, now: Nanos, place: u16, id: ConnectionId, how: End) {
        if self.is_at(place, id) {
            let why = match how {
                End::Finished => "has closed its connection",
                End::Reset => "has broken its connection off, or does not answer any more",
                End::Failed => "cannot be heard any more",
            };
            self.down(now, usize::from(place), why.to_owned());
        }
    }

    fn sent(&mut self, place: u16, id: ConnectionId, _buffer: Vec<u8>, _whole: bool) {
        if let Some(one) = self.at(place, id) {
            // One that could not be sent is told of by the link's end.
            one.sending = false;
        }
    }

    fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        for place in 0..self.connections.len() {
            self.flush(place);
        }
        self.wishes.drain(..).for_each(wish);
    }

    fn dialled(&mut self) -> Option<&mut Dialled> {
        Some(self)
    }

    fn is_gone(&self) -> bool {
        self.connections.iter().all(Option::is_none)
    }

    fn is_over(&self) -> bool {
        !self.is_open.get() && self.is_gone() && self.wishes.is_empty() && !self.has_news()
    }

    fn connections(&self) -> Option<usize> {
        Some(self.count())
    }

    fn tick(&mut self, now: Nanos) {
        for place in 0..self.connections.len() {
            let Some(one) = self.connections[place].as_mut().filter(|one| one.due <= now) else { continue };
            match &mut one.speech {
                Speech::WebSocket(socket) if one.stage != Stage::Leaving && !one.is_asked => {
                    socket.ping();
                    (one.is_asked, one.due) = (true, now + SILENCE);
                }
                _ => self.down(now, place, "does not answer any more".to_owned()),
            }
        }
    }

    fn deadline(&self) -> Option<Nanos> {
        self.connections.iter().flatten().map(|one| one.due).filter(|due| *due != NEVER).min()
    }
}

impl Dialled {
    fn at(&mut self, place: u16, id: ConnectionId) -> Option<&mut Connection> {
        let one = self.connections.get_mut(usize::from(place))?.as_mut();
        one.filter(|one| one.link == Some(id))
    }

    fn is_at(&mut self, place: u16, id: ConnectionId) -> bool {
        self.at(place, id).is_some()
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
