//! Verdicts: whether what a client hears is what it must hear.
//!
//! Not here: when a client speaks (`client`).
//! Invariant: an answer is right only if its request is open, asked on this connection, and its content its own; an
//! error only if there is a reason for it that the client knows.

use std::ops::RangeInclusive;

use corelane::server::service::Nanos;

use super::hearing::{Part, show};
use super::message::{Said, elements, read, tag_in};
use super::{Awaited, Client, Kind, Pending, STREAM, Session, What};
use crate::ledger::Fate;
use crate::sights::Sight;
use crate::sim::Sim;

const PARSE: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INTERNAL: i32 = -32603;
const SESSION_NOT_FOUND: i32 = -32001;
const RATE_LIMITED: i32 = -31429;
const OVERLOADED: i32 = -31503;
const DEADLINE: i32 = -31504;

impl Client {
    /// A part of what was heard.
    pub(super) fn take(&mut self, sim: &mut Sim, index: usize, part: Part) {
        match part {
            Part::Head { status, session, is_last, is_stream } => {
                let link = &mut self.links[index];
                link.is_excused |= is_last;
                link.status = Some((status, is_stream));
                if link.awaited.is_empty() && status == 503 && is_last && sim.bounds.connections_max < 100 {
                    link.awaited.push_back(Awaited::Refused);
                }
                let Some(&awaited) = link.awaited.front() else {
                    let text = format!("client {} hears a response of status {status} to nothing", self.me);
                    return sim.fail(text);
                };
                if let Awaited::Resumed(id) = awaited {
                    link.event = self.pending.iter().find(|one| one.id == id).and_then(|one| one.heard);
                }
                if let (Some(session), Awaited::Answer(id)) = (session, awaited) {
                    let asked_at = self.pending.iter().find(|one| one.id == id).map_or(0, |one| one.sent_at);
                    self.session = Some(Session { id: session, known_at: asked_at, is_subscribed: false });
                }
            }
            Part::Message { text, event } => self.message(sim, index, &text, event.as_deref()),
            Part::Primed(event) => self.event(sim, index, &event),
            Part::Over => self.over(sim, index),
        }
    }

    /// An event of a stream: behind the one before it.
    fn event(&mut self, sim: &mut Sim, index: usize, event: &str) {
        let numbers =
            event.split_once('-').and_then(|(stream, number)| Some((stream.parse().ok()?, number.parse().ok()?)));
        let Some((stream, number)) = numbers else {
            return sim.fail(format!("client {} hears an event {event}", self.me));
        };
        let link = &mut self.links[index];
        let before = link.event.replace((stream, number));
        // What is told again may have gaps: no more is kept than the bounds say.
        let is_resumed = matches!(link.awaited.front(), Some(Awaited::Resumed(_)));
        let follows = |last: u64| number == last + 1 || (is_resumed && (number > last || (number, last) == (0, 0)));
        let is_next = before.is_none_or(|(of, last)| of == stream && follows(last));
        sim.hold(is_next, || format!("client {} hears event {event} behind {before:?}", self.me));
    }

    fn message(&mut self, sim: &mut Sim, index: usize, text: &[u8], event: Option<&str>) {
        if let Some(event) = event {
            self.event(sim, index, event);
        }
        if let Some(answers) = elements(text) {
            let is_asked =
                self.kind.is_lines() || matches!(self.links[index].awaited.front(), Some(Awaited::Batch(..)));
            sim.hold(is_asked, || format!("client {} hears an array: {}", self.me, show(text)));
            sim.sights.see(Sight::ArrayOfAnswers);
            answers.into_iter().for_each(|answer| self.message(sim, index, answer, None));
            return;
        }
        match read(text) {
            Some(Said::Result { id, text }) => self.result(sim, index, id, text),
            Some(Said::Error { id: Some(id), code }) => self.error(sim, index, id, code),
            Some(Said::Error { id: None, code }) => self.complaint_heard(sim, index, code),
            Some(Said::Progress { id, progress }) => {
                let me = self.me;
                let pending = self.pending.iter_mut().find(|one| one.id == id && one.link == index);
                let Some(one) = pending.filter(|one| one.what == What::Nap) else {
                    return sim.fail(format!("client {me} hears of the progress of {id}, which it does not wait for"));
                };
                sim.hold(progress > one.progress, || format!("client {me}: {id} has come to {progress} twice"));
                one.progress = progress;
            }
            Some(Said::Asked { id, tag }) => self.asked(sim, id, tag),
            Some(Said::TakenBack { id }) => self.question_taken_back(id),
            Some(Said::Updated { uri }) => {
                let own = format!("sim://clients/{}", self.me);
                sim.sights.see(Sight::Updated);
                sim.hold(uri == own, || format!("client {} hears of {uri}", self.me));
            }
            None => sim.fail(format!("client {} hears {}", self.me, show(text))),
        }
    }

    /// Takes the request out that an answer names.
    fn answered(&mut self, sim: &mut Sim, index: usize, id: u64) -> Option<Pending> {
        let place = self.pending.iter().position(|one| one.id == id);
        let Some(one) = place.map(|place| self.pending.swap_remove(place)) else {
            let text = format!("client {} is answered {id}, for which it does not wait (any more)", self.me);
            sim.fail(text);
            return None;
        };
        let (me, link) = (self.me, one.link);
        sim.hold(link == index, || format!("client {me} is answered {id} on connection {index}, asked on {link}"));
        if !self.kind.is_lines() {
            let front = self.links[index].awaited.front().copied();
            let is_its = match front {
                Some(Awaited::Answer(awaited) | Awaited::Resumed(awaited)) => awaited == id,
                Some(Awaited::Batch(first, last)) => (first..=last).contains(&id),
                _ => false,
            };
            sim.hold(is_its, || format!("client {me} is answered {id}, and awaits {front:?}"));
        }
        if let Err(problem) = sim.ledger.end(me, one.tag, Fate::Answered) {
            sim.fail(problem);
        }
        Some(one)
    }

    fn result(&mut self, sim: &mut Sim, index: usize, id: u64, text: &[u8]) {
        let Some(one) = self.answered(sim, index, id) else { return };
        if one.is_taken_back {
            sim.sights.see(Sight::AnsweredTooLate);
        }
        if one.heard.is_some() {
            sim.sights.see(Sight::Resumed);
        }
        match one.what {
            What::Ask => sim.sights.see(Sight::QuestionAnswered),
            _ if self.session.as_ref().is_some_and(|session| session.known_at < sim.last_death) => {
                sim.sights.see(Sight::SessionSurvived);
            }
            _ => {}
        }
        if let Some(session) = &mut self.session {
            session.known_at = session.known_at.max(one.sent_at);
        }
        let me = self.me;
        let is_error = memchr::memmem::find(text, br#""isError":true"#).is_some();
        match one.what {
            What::Ask | What::Echo | What::Nap | What::Touch | What::Fail => {
                let found = tag_in(text);
                let whose = found.and_then(|tag| sim.ledger.client_of(tag));
                sim.hold(found == Some(one.tag), || {
                    let (tag, text) = (one.tag, show(text));
                    format!("client {me} is answered {id} (tag {tag}) with tag {found:?} of client {whose:?}: {text}")
                });
                sim.hold(is_error == (one.what == What::Fail), || format!("client {me}: {}", show(text)));
            }
            What::Initialize => self.links[index].is_settled = true,
            What::Ping | What::Subscribe => sim.hold(text == b"{}}", || format!("client {me}: {}", show(text))),
            What::Fall | What::Hang | What::Unknown => {
                sim.fail(format!("client {me}: {:?} {id} has a result: {}", one.what, show(text)));
            }
        }
        self.in_order(sim, index, &one);
    }

    /// What is answered at once is answered in the order in which it was asked.
    fn in_order(&mut self, sim: &mut Sim, index: usize, one: &Pending) {
        if one.what.is_immediate() {
            let last = std::mem::replace(&mut self.links[index].answered, one.id);
            sim.hold(last < one.id, || format!("client {}: {} is answered before {last}", self.me, one.id));
        }
    }

    fn error(&mut self, sim: &mut Sim, index: usize, id: u64, code: i32) {
        let Some(one) = self.answered(sim, index, id) else { return };
        let waited = sim.now - one.sent_at;
        let runs_long = !one.what.is_immediate();
        let is_right = match code {
            METHOD_NOT_FOUND => one.what == What::Unknown,
            INTERNAL => one.what == What::Fall,
            DEADLINE => runs_long && waited >= sim.bounds.call_time,
            RATE_LIMITED => one.others >= sim.bounds.in_flight,
            OVERLOADED => sim.deaths > 0 || (one.what == What::Initialize && sim.bounds.sessions_max < 100),
            SESSION_NOT_FOUND => self.session_may_be_gone(sim),
            _ => false,
        };
        sim.hold(is_right, || {
            let (me, what, others) = (self.me, one.what, one.others);
            format!("client {me}: {what:?} {id} fails with {code} after {waited} ns, {others} others beside it")
        });
        match code {
            RATE_LIMITED => sim.sights.see(Sight::RefusedAtLimit),
            DEADLINE => sim.sights.see(Sight::Deadline),
            OVERLOADED if one.what != What::Initialize => sim.sights.see(Sight::CoreLost),
            _ => {}
        }
        match code {
            SESSION_NOT_FOUND => self.lose_session(sim),
            // Of these it may be that they were not refused at once.
            OVERLOADED | DEADLINE => {}
            _ => self.in_order(sim, index, &one),
        }
    }

    /// Whether there is a reason why the session is not known any more.
    pub(super) fn session_may_be_gone(&self, sim: &Sim) -> bool {
        let known_at: Nanos = self.session.as_ref().map_or(0, |session| session.known_at);
        // Its client has not been away for that long unless everybody was.
        known_at <= sim.last_idling || sim.bounds.sessions_max < 100
    }

    /// An error that belongs to no request in particular.
    fn complaint_heard(&mut self, sim: &mut Sim, index: usize, code: i32) {
        let front = self.links[index].awaited.front().copied();
        let is_right = match (front, code) {
            (None, PARSE) if self.links[index].nonsense > 0 => {
                self.links[index].nonsense -= 1;
                true
            }
            (Some(Awaited::Nonsense), PARSE) => true,
            (Some(Awaited::Resumed(id)), INVALID_REQUEST) => self.may_be_forgotten(sim) || self.has_taken_back(id),
            (
                Some(Awaited::Batch(..) | Awaited::Deleted | Awaited::Notified | Awaited::Resumed(_) | Awaited::Stream),
                SESSION_NOT_FOUND,
            ) => {
                // It may have been asked of the session before this one, before everybody slept.
                let may = self.session_may_be_gone(sim) || self.links[index].connected_at <= sim.last_idling;
                if front != Some(Awaited::Deleted) {
                    self.lose_session(sim);
                }
                may
            }
            (_, SESSION_NOT_FOUND) => self.session_may_be_gone(sim),
            (_, OVERLOADED) => sim.deaths > 0 || sim.bounds.connections_max < 100,
            _ => self.may_lose(sim, index),
        };
        self.links[index].is_excused |= code == OVERLOADED;
        sim.hold(is_right, || format!("client {} is told of error {code} and awaits {front:?}", self.me));
    }

    /// A response is over.
    fn over(&mut self, sim: &mut Sim, index: usize) {
        let me = self.me;
        let status = self.links[index].status.take();
        let event = self.links[index].event.take();
        let Some(awaited) = self.links[index].awaited.pop_front() else {
            return sim.fail(format!("client {me} hears the end of a response to nothing"));
        };
        let Some((status, is_stream)) = status else {
            return sim.fail(format!("client {me} hears the end of a response without a head"));
        };
        let may = self.may_lose(sim, index);
        let is_right = match awaited {
            Awaited::Answer(id) => self.ended_without_answer(sim, index, id..=id) || may,
            Awaited::Batch(first, last) => {
                if is_stream {
                    sim.sights.see(Sight::BatchStream);
                }
                self.ended_without_answer(sim, index, first..=last) || may || self.session.is_none()
            }
            Awaited::Resumed(id) => self.resumed(sim, id, status, event) || may,
            Awaited::Notified => status == 202 || may || self.session.is_none(),
            Awaited::Nonsense => status == 400 || may,
            Awaited::Stream => (status == 200 && is_stream) || self.session.is_none() || may || index != STREAM,
            Awaited::Refused => status == 503,
            Awaited::Deleted => matches!(status, 204 | 404) || may,
        };
        sim.hold(is_right, || format!("client {me} hears status {status} to {awaited:?}"));
    }

    /// The response to these requests is over: those that have no answer end without. Whether all of them were taken
    /// back.
    pub(super) fn ended_without_answer(&mut self, sim: &mut Sim, index: usize, ids: RangeInclusive<u64>) -> bool {
        let mut is_right = true;
        while let Some(place) = self.pending.iter().position(|one| one.link == index && ids.contains(&one.id)) {
            let one = self.pending.swap_remove(place);
            is_right &= one.is_taken_back;
            let fate = if one.is_taken_back { Fate::TakenBack } else { Fate::Lost };
            if self.kind == Kind::LegacyHttp {
                self.running.push(sim.now + 2 * sim.bounds.call_time);
            }
            if let Err(problem) = sim.ledger.end(self.me, one.tag, fate) {
                sim.fail(problem);
            }
        }
        is_right
    }
}
