//! The links of one core to one HTTP server: which request goes on which link, and what waits for one.
//!
//! Not here: the bytes of one link (`link`), what is asked (`gateway`).
//! Invariant: an errand that was taken ends in exactly one `Answer`, `StreamEnded` or `Failed`, unless it is dropped; a
//! link is used again only if its last answer was whole and nothing came behind it.

use std::collections::VecDeque;

use super::link::{Link, Stand};
use super::tls::{Tls, TlsSettings};
use super::tunnel::TunnelSettings;
use crate::ids::{ConnectionId, OutboundAddress};
use crate::proto::http1::{MediaType, ResponseHead};
use crate::server::service::{End, Nanos, Wish};

/// How many links there may be, and how long things take.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Where to, at least one; the next is tried when there is no way to one.
    pub addresses: Vec<OutboundAddress>,
    /// What is asked of a proxy, if the addresses are those of one.
    pub tunnel: Option<TunnelSettings>,
    /// TLS, if it is spoken there.
    pub tls: Option<TlsSettings>,
    /// Most links.
    pub links_max: usize,
    /// Most requests that wait for a link.
    pub waiting_max: usize,
    /// Largest answer, or event of a stream.
    pub answer_bytes_max: usize,
    /// Time to open a link, hands shaken.
    pub connect_time: Nanos,
    /// How long an idle link is kept. Servers close theirs as well; below their patience nobody writes to a link that
    /// is being closed.
    pub idle_time: Nanos,
}

/// A request, head and body in one buffer.
#[derive(Debug)]
pub struct Request {
    /// Told back with the answer.
    pub errand: u32,
    /// The bytes.
    pub text: Vec<u8>,
    /// A notification, or an answer to a question of the server's: the call that it is about may keep the last link
    /// until it has come, so it goes before all calls, and where no link is left by one of its own.
    pub is_notice: bool,
}

/// A request that waits for a link.
struct Waiting {
    request: Request,
    /// A link was tried for it, and could not be opened.
    was_tried: bool,
}

/// Pause before a link is tried once more for requests of which nothing was sent: this and up to as much again.
const AGAIN: Nanos = 50_000_000;

/// What a response's head said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub media: MediaType,
    /// `Mcp-Session-Id`.
    pub session_id: Option<Box<[u8]>>,
    /// Whole seconds of `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl Reply {
    pub(super) fn of(head: &ResponseHead<'_>) -> Reply {
        let seconds = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse().ok();
        Reply {
            status: head.status,
            media: head.media(),
            session_id: head.session_id.map(Into::into),
            retry_after_s: head.retry_after.and_then(seconds),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The link ended before the answer did.
    #[error("the connection to it ended {}", if *heard { "in the midst of its answer" } else { "before it answered" })]
    Closed {
        /// Part of the answer had come.
        heard: bool,
    },
    /// As many requests wait for a link as may.
    #[error("{waiting} requests wait for a connection to it already, the most there may be")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// What came is no HTTP response.
    #[error("its answer cannot be read: {0}")]
    NotHttp(String),
    /// The proxy on the way to it opens none.
    #[error("the proxy before it fails: {0}")]
    Proxy(String),
    /// The answer is too large.
    #[error("its answer has more than {most} bytes")]
    TooLarge {
        /// Bytes allowed.
        most: usize,
    },
    /// TLS fails.
    #[error("TLS with it fails: {0}")]
    Tls(String),
    /// No link can be opened; the kernel's error number.
    #[error("it cannot be reached: {}", std::io::Error::from_raw_os_error(*.0))]
    Unreachable(i32),
}

/// What became of an errand.
#[derive(Debug)]
pub enum Outcome {
    /// A whole answer.
    Answer {
        /// Which errand.
        errand: u32,
        /// Its head.
        reply: Reply,
        /// Its body.
        text: Vec<u8>,
    },
    /// There is none.
    Failed {
        /// Which errand.
        errand: u32,
        /// Why.
        failure: Failure,
    },
    /// An event of the stream that answers it.
    Message {
        /// Which errand.
        errand: u32,
        /// It is the event by which a server of 2024-11-05 says where to post.
        is_endpoint: bool,
        /// The event's data.
        text: Vec<u8>,
    },
    /// The answer is a stream, which begins.
    Stream {
        /// Which errand.
        errand: u32,
        /// Its head.
        reply: Reply,
    },
    /// The stream is over, or was cut off where it can be taken up again.
    StreamEnded {
        /// Which errand.
        errand: u32,
        /// The id of its last event; empty if it has none.
        last_event_id: Box<[u8]>,
        /// The pause that the server wants before somebody comes back.
        retry_ms: Option<u64>,
        /// The server ended it, and its link did not fail.
        is_whole: bool,
    },
}

/// The links of one core to one server.
pub struct Pool {
    settings: PoolSettings,
    /// The index of the address that links are opened to.
    address: usize,
    links: Vec<Option<Link>>,
    generations: Vec<u16>,
    vacant: Vec<usize>,
    open: usize,
    /// Of these, those that are there for notices only: one at most.
    for_notices: usize,
    /// Links beyond `links_max` that there may be.
    room: usize,
    /// Places of idle links, the one used last at the end.
    idle: Vec<usize>,
    /// Places of links with something to send.
    dirty: Vec<usize>,
    waiting: VecDeque<Waiting>,
    /// No link is opened before, because the last could not be; `Nanos::MAX` while there is no such time.
    again_at: Nanos,
    wishes: VecDeque<Wish>,
    outcomes: Vec<Outcome>,
    /// Clear bytes of one step; empty between two.
    clear: Vec<u8>,
    /// Goes into tokens of attempts, so that whoever has many pools knows whose they are.
    tag: u32,
    /// The last link that was tried could not be opened, and there is no other.
    is_unreachable: bool,
    /// No look at idle links and attempts is due before.
    due: Nanos,
}

impl Pool {
    /// A pool without links. `tag` stands in the upper half of its tokens.
    pub fn new(mut settings: PoolSettings, tag: u32) -> Pool {
        settings.tls = settings.tls.as_ref().map(TlsSettings::of_one_core);
        Pool {
            settings,
            address: 0,
            links: Vec::new(),
            generations: Vec::new(),
            vacant: Vec::new(),
            open: 0,
            for_notices: 0,
            room: 0,
            idle: Vec::new(),
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            again_at: Nanos::MAX,
            wishes: VecDeque::new(),
            outcomes: Vec::new(),
            is_unreachable: false,
            clear: Vec::new(),
            tag,
            due: Nanos::MAX,
        }
    }

    /// Sends a request by an idle link, a new one, or the next that becomes idle.
    pub fn submit(&mut self, now: Nanos, request: Request) {
        if let Some(place) = self.idle.pop() {
            return self.give(now, place, request);
        }
        // Calls that wait keep no notice from its place, nor the other way about.
        let notices = self.waiting_notices();
        let others = if request.is_notice { notices } else { self.waiting.len() - notices };
        if others >= self.settings.waiting_max {
            let failure = Failure::Full { waiting: others };
            return self.outcomes.push(Outcome::Failed { errand: request.errand, failure });
        }
        let ahead = if request.is_notice { notices } else { self.waiting.len() };
        self.waiting.insert(ahead, Waiting { request, was_tried: false });
        self.open_for_waiting(now);
    }

    /// So many links are taken for long by errands that somebody answers for: there may be as many more. With less room
    /// than before no link is closed; none is opened until there are fewer.
    pub fn leave_room(&mut self, now: Nanos, links: usize) {
        if std::mem::replace(&mut self.room, links) < links {
            self.open_for_waiting(now);
        }
    }

    /// Notices that wait; they stand before all else.
    fn waiting_notices(&self) -> usize {
        self.waiting.iter().take_while(|waiting| waiting.request.is_notice).count()
    }

    /// Nobody waits for an errand any more: its link is closed, since its answer would come on it.
    pub fn drop_errand(&mut self, now: Nanos, errand: u32) {
        self.waiting.retain(|waiting| waiting.request.errand != errand);
        let place = self.links.iter().position(|link| link.as_ref().is_some_and(|link| link.errand == Some(errand)));
        if let Some(place) = place {
            self.close(place);
            self.open_for_waiting(now);
        }
    }

    /// Closes every link that is open.
    pub fn close_all(&mut self) {
        (0..self.links.len()).for_each(|place| self.close(place));
    }

    /// Whether no link is left, no attempt at one, and nothing to be done with any.
    pub fn is_over(&self) -> bool {
        self.open == 0 && self.waiting.is_empty() && self.wishes.is_empty() && self.outcomes.is_empty()
    }

    /// An attempt ended. True if the link is one of this pool's from now on.
    pub fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> bool {
        let (place, generation) = ((token & 0xffff) as usize, (token >> 16 & 0xffff) as u16);
        let ours = self.links.get_mut(place).and_then(Option::as_mut);
        let Some(link) = ours.filter(|link| link.generation == generation && link.id.is_none()) else {
            if let Ok(id) = outcome {
                self.wishes.push_back(Wish::Close(id));
            }
            return false;
        };
        match outcome {
            Ok(id) => {
                link.id = Some(id);
                match &self.settings.tunnel {
                    None => self.through(now, place),
                    Some(tunnel) => {
                        link.out.extend_from_slice(tunnel.request());
                        link.tunnel = Some(Box::default());
                        self.dirty.push(place);
                        self.due = self.due.min(link.since + self.settings.connect_time);
                    }
                }
                true
            }
            Err(error) => {
                self.not_opened(now, place, &Failure::Unreachable(error));
                false
            }
        }
    }

    /// What comes on the link of this place from now on is the server's: hands are shaken, or it can be used.
    fn through(&mut self, now: Nanos, place: usize) {
        let Some(link) = self.links[place].as_mut() else { return };
        match self.settings.tls.as_ref().map(Tls::new) {
            None => self.rest(now, place),
            Some(Ok(mut tls)) => {
                tls.flush(&mut link.out);
                link.tls = Some(Box::new(tls));
                self.dirty.push(place);
                self.due = self.due.min(link.since + self.settings.connect_time);
            }
            Some(Err(failure)) => self.not_opened(now, place, &failure),
        }
    }

    /// A link could not be opened. Others would fail the same way: after a pause it is tried once more for what waits,
    /// of which nothing was sent; what waited for a second try is told, and comes back when it likes.
    fn not_opened(&mut self, now: Nanos, place: usize, failure: &Failure) {
        // Others that were on their way there when it failed say nothing of the next address.
        if self.links[place].as_ref().is_some_and(|link| link.address == self.address) {
            self.address = (self.address + 1) % self.settings.addresses.len();
        }
        self.close(place);
        self.vacate(place);
        if !self.links.iter().flatten().all(Link::is_opening) {
            // Calls wait for the links that there are, which may wait for what a notice says.
            if self.waiting_notices() > 0 {
                self.pause(now);
            }
            return;
        }
        self.is_unreachable = true;
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.was_tried {
                let (errand, failure) = (waiting.request.errand, failure.clone());
                self.outcomes.push(Outcome::Failed { errand, failure });
            } else {
                waiting.was_tried = true;
                self.waiting.push_back(waiting);
            }
        }
        if !self.waiting.is_empty() {
            self.pause(now);
        }
    }

    /// Opens no link for a moment. Cores, and places of one, do not all try again at the same time.
    fn pause(&mut self, now: Nanos) {
        let spread = (u64::from(self.tag) ^ now).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        self.again_at = now + AGAIN + spread % AGAIN;
        self.due = self.due.min(self.again_at);
    }

    /// Bytes came in on the link of this place.
    pub fn received(&mut self, now: Nanos, place: usize, id: ConnectionId, bytes: &[u8]) {
        let Some(link) = Pool::tenant(&mut self.links, place, id) else { return };
        if let Some(tunnel) = &mut link.tunnel {
            return match tunnel.open(bytes) {
                Ok(None) => {}
                // Nobody has been asked anything yet.
                Ok(Some(behind)) if !behind.is_empty() => {
                    let failure = Failure::Proxy("more than its answer came before anything was asked".to_owned());
                    self.not_opened(now, place, &failure);
                }
                Ok(Some(_)) => {
                    link.tunnel = None;
                    self.through(now, place);
                }
                Err(failure) => self.not_opened(now, place, &failure),
            };
        }
        let Some(tls) = &mut link.tls else { return self.take(now, place, id, bytes) };
        let was_shaking = tls.is_shaking();
        let mut clear = std::mem::take(&mut self.clear);
        let opened = tls.open(bytes, &mut clear);
        let (is_shaking, has_ended) = (tls.is_shaking(), tls.has_ended);
        tls.flush(&mut link.out);
        if !link.out.is_empty() {
            self.dirty.push(place);
        }
        match opened {
            Err(failure) if was_shaking => self.not_opened(now, place, &failure),
            Err(failure) => self.broken(now, place, id, failure),
            Ok(()) => {
                if was_shaking && !is_shaking {
                    self.rest(now, place);
                }
                if !clear.is_empty() {
                    self.take(now, place, id, &clear);
                }
                if has_ended {
                    self.ended(now, place, id, End::Finished);
                }
            }
        }
        clear.clear();
        self.clear = clear;
    }

    /// What comes on a link cannot be opened any more.
    fn broken(&mut self, now: Nanos, place: usize, id: ConnectionId, failure: Failure) {
        let Some(link) = Pool::tenant(&mut self.links, place, id) else { return };
        if let Some(errand) = link.errand.take() {
            self.outcomes.push(link.cut_off(errand, failure));
        }
        self.close(place);
        self.open_for_waiting(now);
    }

    /// Clear bytes came in.
    fn take(&mut self, now: Nanos, place: usize, id: ConnectionId, bytes: &[u8]) {
        let most = self.settings.answer_bytes_max;
        let Some(link) = Pool::tenant(&mut self.links, place, id) else { return };
        // Nobody asked: whatever it is, the link is not to be trusted any more.
        let Some(errand) = link.errand else { return self.close(place) };
        match link.take(errand, bytes, most, &mut self.outcomes) {
            Ok(Stand::Open) => {}
            Ok(Stand::Over { keep_alive }) => {
                link.errand = None;
                if keep_alive && !link.sending && link.out.is_empty() {
                    self.rest(now, place)
                } else {
                    self.close(place)
                }
            }
            Err(failure) => {
                link.errand = None;
                self.outcomes.push(link.cut_off(errand, failure));
                self.close(place);
            }
        }
        self.open_for_waiting(now);
    }

    /// The link of this place brings nothing more.
    pub fn ended(&mut self, now: Nanos, place: usize, id: ConnectionId, how: End) {
        let Some(link) = Pool::tenant(&mut self.links, place, id) else { return };
        if link.is_opening() {
            let handshake = "it ended the connection during the handshake";
            let failure = link.not_open("it ended the connection and opened no way", handshake);
            return self.not_opened(now, place, &failure);
        }
        // Without its farewell somebody else may have ended what it said.
        let is_cut = link.tls.as_ref().is_some_and(|tls| !tls.has_ended);
        if let Some(errand) = link.errand.take() {
            let whole = match how {
                End::Finished if is_cut => Err(Failure::Closed { heard: link.heard }),
                End::Finished => link.end(errand, &mut self.outcomes),
                End::Reset | End::Failed => Err(Failure::Closed { heard: link.heard }),
            };
            if let Err(failure) = whole {
                self.outcomes.push(link.cut_off(errand, failure));
            }
        }
        self.close(place);
        self.open_for_waiting(now);
    }

    /// A send on the link of this place ended.
    pub fn sent(&mut self, place: usize, id: ConnectionId, mut buffer: Vec<u8>, whole: bool) {
        let Some(link) = Pool::tenant(&mut self.links, place, id) else { return };
        link.sending = false;
        if link.out.is_empty() {
            buffer.clear();
            link.out = buffer;
        } else if whole {
            self.dirty.push(place);
        }
        // One that could not be sent is told of by the link's end.
    }

    /// Looks after links that are idle, or being opened, for too long.
    pub fn tick(&mut self, now: Nanos) {
        if now < self.due {
            return;
        }
        let (idle, connect) = (self.settings.idle_time, self.settings.connect_time);
        if self.again_at <= now {
            self.again_at = Nanos::MAX;
            self.open_for_waiting(now);
        }
        self.due = self.again_at;
        let mut due = Nanos::MAX;
        for place in 0..self.links.len() {
            let Some(link) = &self.links[place] else { continue };
            let over = match (link.id, link.errand) {
                _ if link.is_opening() => link.since + connect,
                (_, Some(_)) => continue,
                (_, None) => link.since + idle,
            };
            if over > now {
                due = due.min(over);
            } else if link.id.is_none() {
                self.wishes.push_back(Wish::GiveUp(self.token(place, link.generation)));
                // Its end is told once the kernel let go of it; until then it is not looked at again.
                if let Some(link) = &mut self.links[place] {
                    link.since = now;
                }
            } else if link.is_opening() {
                let ms = connect / 1_000_000;
                let handshake = format!("the handshake was not over after {ms} ms");
                let failure = link.not_open(format!("it had opened no way after {ms} ms"), handshake);
                self.not_opened(now, place, &failure);
            } else {
                self.idle.retain(|other| *other != place);
                self.close(place);
            }
        }
        self.due = self.due.min(due);
    }

    /// Whether there was no way to the server when one was tried last.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Nanos> {
        (self.due != Nanos::MAX).then_some(self.due)
    }

    /// What became of errands since the last call.
    pub fn outcomes(&mut self) -> std::vec::Drain<'_, Outcome> {
        self.outcomes.drain(..)
    }

    /// Whether `outcomes` has something to say.
    pub fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Hands out what is to be done with links.
    pub fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        for place in std::mem::take(&mut self.dirty) {
            let Some(link) = self.links[place].as_mut() else { continue };
            if let (Some(id), false, false) = (link.id, link.sending, link.out.is_empty()) {
                link.sending = true;
                wish(Wish::Send(id, std::mem::take(&mut link.out)));
            }
        }
        for one in self.wishes.drain(..) {
            wish(one);
        }
    }

    /// The place of the link with this connection.
    pub fn place_of(&self, token: u64) -> usize {
        (token & 0xffff) as usize
    }

    /// The link at a place, unless that has another tenant by now.
    fn tenant(links: &mut [Option<Link>], place: usize, id: ConnectionId) -> Option<&mut Link> {
        links.get_mut(place)?.as_mut().filter(|link| link.id == Some(id))
    }

    fn token(&self, place: usize, generation: u16) -> u64 {
        u64::from(self.tag) << 32 | u64::from(generation) << 16 | place as u64
    }

    /// Opens links for what waits, as far as there may be more and none is being opened for it already.
    fn open_for_waiting(&mut self, now: Nanos) {
        if self.waiting.is_empty() || self.again_at != Nanos::MAX {
            return;
        }
        // Asked after every answer, so that it is not counted what is being opened where nothing may be.
        let most = self.settings.links_max + self.room;
        let is_for_calls = |link: &&Link| !link.is_for_notices;
        if self.open - self.for_notices < most {
            let opening = self.links.iter().flatten().filter(is_for_calls).filter(|link| link.is_opening()).count();
            for _ in opening..self.waiting.len() {
                if self.open - self.for_notices >= most {
                    break;
                }
                self.open_link(now, false);
            }
        } else if self.for_notices == 0 && self.waiting_notices() > 0 {
            self.open_link(now, true);
        }
    }

    fn open_link(&mut self, now: Nanos, is_for_notices: bool) {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.generations.push(0);
            self.links.len() - 1
        });
        let generation = self.generations[place];
        self.links[place] = Some(Link::new(generation, now, self.address, is_for_notices));
        self.open += 1;
        self.for_notices += usize::from(is_for_notices);
        let token = self.token(place, generation);
        self.wishes.push_back(Wish::Connect { address: self.settings.addresses[self.address].clone(), token });
        self.due = self.due.min(now + self.settings.connect_time);
    }

    /// A link has nothing to do: it takes what waits longest, or is idle. One that is there because of a notice takes
    /// nothing else.
    fn rest(&mut self, now: Nanos, place: usize) {
        self.is_unreachable = false;
        let is_for_notices = self.links[place].as_ref().is_some_and(|link| link.is_for_notices);
        if is_for_notices && self.waiting_notices() == 0 {
            return self.close(place);
        }
        match self.waiting.pop_front() {
            Some(waiting) => self.give(now, place, waiting.request),
            None => {
                if let Some(link) = &mut self.links[place] {
                    link.since = now;
                }
                self.idle.push(place);
                self.due = self.due.min(now + self.settings.idle_time);
            }
        }
    }

    fn give(&mut self, now: Nanos, place: usize, request: Request) {
        let Some(link) = self.links[place].as_mut() else { return };
        link.errand = Some(request.errand);
        link.since = now;
        link.say(request.text);
        self.dirty.push(place);
    }

    /// Gives a link up; whatever still comes of it is nobody's.
    fn close(&mut self, place: usize) {
        self.idle.retain(|other| *other != place);
        if let Some(id) = self.links[place].as_ref().and_then(|link| link.id) {
            self.wishes.push_back(Wish::Close(id));
            self.vacate(place);
        }
    }

    fn vacate(&mut self, place: usize) {
        if let Some(link) = self.links[place].take() {
            self.for_notices -= usize::from(link.is_for_notices);
            self.generations[place] = self.generations[place].wrapping_add(1);
            self.vacant.push(place);
            self.open -= 1;
        }
    }
}
