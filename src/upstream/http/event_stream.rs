//! The way to a server of 2024-11-05's HTTP+SSE: one event stream on which it says everything, and an address, named by
//! the stream's first event, to which everything is posted.
//!
//! Not here: what is said. Invariant: nothing is posted to another host than the one that was configured, and nothing
//! before the stream has named the address.

use std::collections::{HashMap, VecDeque};

use super::pool::{Outcome, Pool, PoolSettings, Request};
use crate::ids::ConnectionId;
use crate::proto::http1::{MediaType, RequestError, RequestWriter, Target, finish_post};
use crate::server::service::{End, Nanos, Wish};
use crate::upstream::talk::{Heard, ONLY, Outstanding, Passage, Talk};

/// The stream's errand in the pool; posts count up from 0.
const STREAM: u32 = u32::MAX;
/// Pause before the stream is opened again, and at most, doubling.
const PAUSE: Nanos = 500_000_000;
const PAUSE_MAX: Nanos = 30_000_000_000;

/// Header fields of every request.
type Fields = Vec<(Box<str>, Box<[u8]>)>;

/// A message that waits for its post to be sent: the errand, its id if it is a request, the text.
type Unsent = (u32, Option<u64>, Vec<u8>);

/// An event stream and its posts.
pub struct EventStream {
    pool: Pool,
    authority: Box<str>,
    scheme: &'static str,
    target: Target,
    fields: Fields,
    waiting_max: usize,
    /// Where to post, once the stream has said it.
    address: Option<Target>,
    is_open: bool,
    unsent: VecDeque<Unsent>,
    /// Posts under way, by number: the errand and the id they carry.
    posts: HashMap<u32, (u32, Option<u64>)>,
    next_post: u32,
    outstanding: Outstanding,
    failures: u32,
    heard: VecDeque<Heard>,
}

impl EventStream {
    /// A stream that is not open yet. `authority` is the host and port that `target` is on.
    pub fn new(pool: PoolSettings, tag: u32, authority: &str, target: Target, fields: Fields) -> EventStream {
        let (waiting_max, scheme) = (pool.waiting_max, if pool.tls.is_some() { "https" } else { "http" });
        let mut pool = Pool::new(pool, tag);
        // The stream keeps one, and what is posted goes by the others.
        pool.leave_room(0, 1);
        EventStream {
            waiting_max,
            scheme,
            pool,
            authority: authority.into(),
            target,
            fields,
            address: None,
            is_open: false,
            unsent: VecDeque::new(),
            posts: HashMap::new(),
            next_post: 0,
            outstanding: Outstanding::default(),
            failures: 0,
            heard: VecDeque::new(),
        }
    }

    fn post(&mut self, now: Nanos, (errand, id, text): Unsent) {
        let Some(address) = &self.address else { return self.unsent.push_back((errand, id, text)) };
        let mut out = Vec::with_capacity(256 + text.len());
        match written(&mut out, address, &self.fields, &text) {
            Ok(()) => {
                let number = self.next_post;
                self.next_post = (self.next_post + 1) % STREAM;
                self.posts.insert(number, (errand, id));
                self.pool.submit(now, Request { errand: number, text: out, is_notice: id.is_none() });
            }
            Err(error) => self.fail(id, format!("cannot be written to: {error}"), false),
        }
        self.hear(now);
    }

    /// A request fails that is not answered yet.
    fn fail(&mut self, id: Option<u64>, why: String, is_overload: bool) {
        if let Some(errand) = id.and_then(|id| self.outstanding.answered(id, ONLY)) {
            self.heard.push_back(Heard::Failed { errand, why, is_overload });
        }
    }

    /// Hears what came of the stream and of posts.
    fn hear(&mut self, now: Nanos) {
        while self.pool.has_outcomes() {
            let outcomes: Vec<Outcome> = self.pool.outcomes().collect();
            for outcome in outcomes {
                match outcome {
                    Outcome::Message { errand: STREAM, is_endpoint: true, text } => self.endpoint(now, &text),
                    Outcome::Message { errand: STREAM, is_endpoint: false, text } => {
                        self.heard.push_back(Heard::Message { line: ONLY, text });
                    }
                    Outcome::StreamEnded { errand: STREAM, .. } => self.down(now, "ended its event stream".to_owned()),
                    Outcome::Answer { errand: STREAM, reply, .. } => {
                        let what = if reply.media == MediaType::EventStream { "an empty stream" } else { "no stream" };
                        self.down(now, format!("answered HTTP {} with {what}", reply.status));
                    }
                    Outcome::Failed { errand: STREAM, failure } => self.down(now, format!("has no stream: {failure}")),
                    Outcome::Stream { .. } => {}
                    Outcome::Answer { errand, reply, .. } => {
                        let Some((_, id)) = self.posts.remove(&errand) else { continue };
                        if !(200..300).contains(&reply.status) {
                            self.fail(id, format!("refused a message with HTTP {}", reply.status), false);
                        }
                    }
                    Outcome::Failed { errand, failure } => {
                        let Some((_, id)) = self.posts.remove(&errand) else { continue };
                        self.fail(id, format!("did not take a message: {failure}"), false);
                    }
                    // A post that is answered by a stream says nothing that counts.
                    Outcome::Message { .. } | Outcome::StreamEnded { .. } => {}
                }
            }
        }
    }

    /// The stream said where to post.
    fn endpoint(&mut self, now: Nanos, text: &[u8]) {
        let said = String::from_utf8_lossy(text);
        match resolved(self.scheme, &self.authority, self.target.path(), said.trim()) {
            Some(address) => {
                self.address = Some(address);
                self.failures = 0;
                for unsent in std::mem::take(&mut self.unsent) {
                    self.post(now, unsent);
                }
            }
            None => {
                let shown: String = said.chars().take(200).collect();
                self.down(now, format!("wants messages posted to {shown:?}, which is not on {}", self.authority));
            }
        }
    }

    fn down(&mut self, now: Nanos, why: String) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        self.address = None;
        self.pool.drop_errand(now, STREAM);
        self.unsent.clear();
        // Of what was not sent nothing is: whoever it was for is told that it failed.
        for (post, _) in std::mem::take(&mut self.posts) {
            self.pool.drop_errand(now, post);
        }
        self.outstanding.fail(ONLY, &why, &mut self.heard);
        let pause = (PAUSE << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        self.heard.push_back(Heard::Ended { why, retry_at: now + pause });
    }
}

impl Talk for EventStream {
    fn shut(&mut self, now: Nanos) {
        self.down(now, "was closed".to_owned());
        self.pool.close_all();
    }

    fn start(&mut self, now: Nanos) {
        if self.is_open {
            return;
        }
        self.is_open = true;
        let mut text = Vec::new();
        let mut writer = RequestWriter::get_events(&mut text, &self.target, None);
        for (field, value) in &self.fields {
            writer.field(field, value);
        }
        match writer.end() {
            Ok(()) => self.pool.submit(now, Request { errand: STREAM, text, is_notice: false }),
            Err(error) => self.down(now, format!("cannot be asked for its stream: {error}")),
        }
    }

    fn submit(&mut self, now: Nanos, errand: u32, passage: Passage, text: &[u8]) {
        let id = passage.id();
        if let Some(id) = id {
            self.outstanding.insert(id, errand, ONLY);
        }
        let waiting = self.unsent.len();
        if waiting >= self.waiting_max {
            return self.fail(id, format!("has {waiting} messages to be posted already, the most there may be"), true);
        }
        self.post(now, (errand, id, text.to_vec()));
    }

    fn outstanding(&mut self) -> &mut Outstanding {
        &mut self.outstanding
    }

    fn drop_errand(&mut self, now: Nanos, errand: u32) {
        self.outstanding.drop_errand(errand);
        // A post that waits would be sent after its caller was told that it failed, and one that is not answered would
        // keep its link.
        let is_of = |other: u32, id: Option<u64>| other == errand && id.is_some();
        self.unsent.retain(|&(other, id, _)| !is_of(other, id));
        let post = self.posts.iter().find(|(_, (other, id))| is_of(*other, *id)).map(|(post, _)| *post);
        if let Some(post) = post {
            self.posts.remove(&post);
            self.pool.drop_errand(now, post);
        }
    }

    fn heard(&mut self, now: Nanos) -> Option<Heard> {
        self.hear(now);
        self.heard.pop_front()
    }

    fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16> {
        self.pool.connected(now, token, outcome).then(|| self.pool.place_of(token) as u16)
    }

    fn received(&mut self, now: Nanos, place: u16, id: ConnectionId, bytes: &[u8]) {
        self.pool.received(now, usize::from(place), id, bytes);
    }

    fn ended(&mut self, now: Nanos, place: u16, id: ConnectionId, how: End) {
        self.pool.ended(now, usize::from(place), id, how);
    }

    fn sent(&mut self, place: u16, id: ConnectionId, buffer: Vec<u8>, whole: bool) {
        self.pool.sent(usize::from(place), id, buffer, whole);
    }

    fn wishes(&mut self, wish: &mut dyn FnMut(Wish)) {
        self.pool.wishes(wish);
    }

    fn is_over(&self) -> bool {
        self.pool.is_over()
    }

    fn has_let_go(&self) -> bool {
        self.pool.is_over()
    }

    fn tick(&mut self, now: Nanos) {
        self.pool.tick(now);
    }

    fn deadline(&self) -> Option<Nanos> {
        self.pool.deadline()
    }
}

fn written(out: &mut Vec<u8>, address: &Target, fields: &Fields, text: &[u8]) -> Result<(), RequestError> {
    let mut writer = RequestWriter::post(out, address);
    for (field, value) in fields {
        writer.field(field, value);
    }
    let mark = writer.begin_body()?;
    out.extend_from_slice(text);
    finish_post(out, mark);
    Ok(())
}

/// The address that the stream at `path` means by `said`, a URI or a path (2024-11-05, "HTTP with SSE"); none if it is
/// on another host.
fn resolved(own_scheme: &str, authority: &str, path: &str, said: &str) -> Option<Target> {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let path = if said.starts_with("//") {
        return None;
    } else if said.starts_with('/') {
        said.to_owned()
    } else if let Some((scheme, rest)) = said.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let is_same = scheme.eq_ignore_ascii_case(own_scheme) && host.eq_ignore_ascii_case(authority);
        is_same.then(|| path.to_owned())?
    } else {
        let folder = path.split('?').next().unwrap_or_default();
        let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{said}")
    };
    Target::new(authority, &path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_go_to_the_streams_own_host_only() {
        let path = |said: &str| resolved("http", "h:1", "/a/sse?x=/", said).map(|target| target.path().to_owned());
        for (said, expected) in [
            ("/message?sessionId=1", Some("/message?sessionId=1")),
            ("message?s=1", Some("/a/message?s=1")),
            ("http://h:1/m", Some("/m")),
            ("HTTP://H:1/m", Some("/m")),
            ("http://h:1", Some("/")),
            ("http://h:2/m", None),
            ("https://h:1/m", None),
            ("//evil/m", None),
            ("/message?next=http://evil/x", Some("/message?next=http://evil/x")),
            ("message?next=http://evil/x", Some("/a/message?next=http://evil/x")),
            ("ftp://h:1/m", None),
            ("/with space", None),
            ("http://h:1@evil/m", None),
        ] {
            assert_eq!(path(said).as_deref(), expected, "{said}");
        }
        assert!(resolved("https", "h:1", "/sse", "https://h:1/m").is_some());
        assert!(resolved("https", "h:1", "/sse", "http://h:1/m").is_none());
    }
}
