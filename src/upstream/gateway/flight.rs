//! What is under way to one server: calls of callers and errands of the gateway's own.
//!
//! Not here: what is done about an answer (`hear`). Invariant: a number stands for one flight until that has ended; an
//! id on the wire is never used twice.

use std::collections::{BTreeSet, VecDeque};

use super::breaking::tool_of;
use super::bridge::Question;
use super::callers::Caller;
use super::deadlines::Deadlines;
use super::merge::Hint;
use super::request::Outgoing;
use super::unanswered::Client;

use crate::ids::{CoreId, View};
use crate::proto::json::{Envelope, Key};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::server::service::{Call, Change, Nanos};
use crate::shard::breaker::Try;
use crate::upstream::talk::Line;

/// A caller's call, kept: until there is a server to send it to, or to send it again.
#[derive(Clone)]
pub struct Kept {
    /// Whose call it is.
    pub caller: Caller,
    /// Where the caller sees it.
    pub view: View,
    /// The caller's revision.
    pub version: Version,
    /// The caller's legacy session, by its number on the caller's core.
    pub session: Option<u64>,
    /// What is asked.
    pub method: Method,
    /// What the caller can do.
    pub capabilities: Capabilities,
    /// What the caller wants logged.
    pub log_level: Option<LogLevel>,
    /// Whether the caller said so itself.
    pub is_level_chosen: bool,
    /// Whether the caller can be asked during the call.
    pub may_ask: bool,
    /// When it is over whatever comes of it; `Nanos::MAX` if its caller did not say.
    pub latest: Nanos,
    /// The message.
    pub text: Vec<u8>,
    /// Where its members are.
    pub envelope: Envelope,
    /// The `Mcp-Param-*` that came with it, as lines.
    pub param_lines: Box<[u8]>,
    /// The server's own name for what is called, if it is known by another.
    pub name: Option<Box<str>>,
    /// What stands before the server's URIs where its caller sees several servers.
    pub uris: Option<Box<str>>,
    /// It was sent before, to a session that was lost or on a link that was cut off.
    pub again: bool,
    /// Which try of its tool it is.
    pub tried: Try,
    /// Earlier rounds, and questions that it led to in these.
    pub rounds: u8,
    pub asked: u32,
    /// Answers and state of earlier rounds (`inputResponses`, `requestState`), as members with a comma behind each.
    pub round: Vec<u8>,
}

impl Kept {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let names = [self.name.as_deref(), self.uris.as_deref()].into_iter().flatten().map(str::len).sum::<usize>();
        size_of::<Kept>() + self.text.len() + self.param_lines.len() + self.round.len() + names
    }

    /// The call again, with the deadline that it came with.
    pub fn call(&self, now: Nanos, deadline: Nanos) -> Call<'_> {
        Call {
            key: self.caller.key,
            view: self.view,
            version: self.version,
            method: self.method,
            text: &self.text,
            envelope: &self.envelope,
            param_lines: &self.param_lines,
            capabilities: self.capabilities,
            log_level: self.log_level,
            is_level_chosen: self.is_level_chosen,
            may_ask: self.may_ask,
            session: self.session,
            now,
            deadline,
            is_deadline_chosen: self.latest != Nanos::MAX,
        }
    }

    /// As it is written for a server.
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            text: &self.text,
            envelope: &self.envelope,
            param_lines: &self.param_lines,
            version: self.version,
            session: self.session,
            capabilities: self.capabilities,
            log_level: self.log_level,
            latest: self.latest,
            method: self.method,
            name: self.name.as_deref(),
            round: &self.round,
        }
    }
}

/// A call on its way.
pub struct Relay {
    /// Whose call it is.
    pub caller: Caller,
    /// The caller's revision.
    pub version: Version,
    /// The caller's legacy session, by its number on the caller's core.
    pub session: Option<u64>,
    /// What was asked.
    pub method: Method,
    /// Which tool is called, by its server's name for it; empty for everything else.
    pub tool: Box<str>,
    /// Which try of that it is.
    pub tried: Try,
    /// When it was sent.
    pub sent_at: Nanos,
    /// How much a failure of it counts against the tool.
    pub blame: u8,
    /// Least severe level the caller wants logged, if any.
    pub log_level: Option<LogLevel>,
    /// Whether the caller can be asked.
    pub may_ask: bool,
    /// What the caller can do.
    pub capabilities: Capabilities,
    /// The caller's token of progress, as it stands in its message.
    pub token: Option<Box<[u8]>>,
    /// What stands before the server's URIs in what the caller reads.
    pub uris: Option<Box<str>>,
    /// Questions of the server's that the caller was asked.
    pub asks: Vec<Asked>,
    /// Questions so far.
    pub asked: u32,
    /// Questions of a legacy server's for a modern caller, in order.
    pub questions: VecDeque<Question>,
    /// Its caller was sent away with the first of these, and is to come back (`Flights::park`).
    pub is_parked: bool,
    /// The call itself, where it may have to be sent again.
    pub kept: Option<Box<Kept>>,
}

/// A question of the server's that a caller was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Names it in `Mail::Ask`.
    pub number: u32,
    /// The server's id.
    pub id: Box<[u8]>,
    /// The server's token of progress, if it wants to hear how far the caller is.
    pub token: Option<Box<[u8]>>,
}

impl Relay {
    /// A call that leaves now.
    pub fn new(
        call: &Outgoing<'_>,
        caller: Caller,
        may_ask: bool,
        uris: Option<&str>,
        kept: Option<Box<Kept>>,
    ) -> Relay {
        Relay {
            caller,
            version: call.version,
            session: call.session,
            method: call.method,
            tool: tool_of(call.method, call.name, call.envelope, call.text).into(),
            tried: Try::ORDINARY,
            sent_at: 0,
            blame: 1,
            log_level: call.log_level,
            may_ask,
            capabilities: call.capabilities,
            token: call.envelope.text(Key::MetaProgressToken, call.text).map(Into::into),
            uris: uris.map(Into::into),
            asks: Vec::new(),
            asked: 0,
            questions: VecDeque::new(),
            is_parked: false,
            kept,
        }
    }
}

impl Relay {
    /// Whether it goes on when its caller has answered what the server asked.
    pub fn waits_for_its_caller(&self) -> bool {
        self.is_parked || !self.asks.is_empty()
    }

    /// The client's session in which it was made, if it was made in one.
    pub fn client(&self) -> Option<Client> {
        self.session.map(|session| (self.caller.core, session))
    }

    /// Whether the caller has declared that it answers such questions.
    pub fn can_answer(&self, method: &str) -> bool {
        match method {
            "elicitation/create" => {
                let forms = self.capabilities.has(Capabilities::ELICITATION_FORM);
                forms || self.capabilities.has(Capabilities::ELICITATION_URL)
            }
            "sampling/createMessage" => self.capabilities.has(Capabilities::SAMPLING),
            "roots/list" => self.capabilities.has(Capabilities::ROOTS),
            _ => false,
        }
    }
}

/// Which list of a server's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ListKind {
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
    /// `tools/list`
    Tools,
}

impl ListKind {
    /// All of them.
    pub const ALL: [ListKind; 4] = [ListKind::Prompts, ListKind::Resources, ListKind::Templates, ListKind::Tools];

    /// The list that a method asks for.
    pub fn of(method: Method) -> Option<ListKind> {
        ListKind::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The method that asks for it.
    pub fn method(self) -> Method {
        match self {
            ListKind::Prompts => Method::PromptsList,
            ListKind::Resources => Method::ResourcesList,
            ListKind::Templates => Method::ResourcesTemplatesList,
            ListKind::Tools => Method::ToolsList,
        }
    }

    /// Whether it is read before somebody asks for it: what is in it is called by name, and whose a name is has to be
    /// known before a call.
    pub fn is_read_ahead(self) -> bool {
        matches!(self, ListKind::Prompts | ListKind::Tools)
    }

    /// The result's member that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
            ListKind::Templates => "resourceTemplates",
            ListKind::Tools => "tools",
        }
    }

    /// What callers are told when it is another.
    pub fn change(self) -> Change {
        match self {
            ListKind::Prompts => Change::Prompts,
            ListKind::Resources | ListKind::Templates => Change::Resources,
            ListKind::Tools => Change::Tools,
        }
    }

    /// The item's member by which it is called.
    pub fn key(self) -> &'static str {
        match self {
            ListKind::Prompts | ListKind::Tools => "name",
            ListKind::Resources => "uri",
            ListKind::Templates => "uriTemplate",
        }
    }
}

/// A list that is being read page by page.
pub struct Pages {
    /// Which list.
    pub kind: ListKind,
    /// The items so far, JSON texts.
    pub items: Vec<Box<[u8]>>,
    /// Bytes of these, of what was left out and of cursors.
    pub bytes: usize,
    /// Cursors that were followed: one that comes again would lead round in circles.
    pub cursors: BTreeSet<Box<[u8]>>,
    /// Items that were left out.
    pub flaws: usize,
    /// How long all of it may be kept.
    pub hint: Option<Hint>,
    /// When the whole list has to be there.
    pub deadline: Nanos,
}

/// What a flight is for.
pub enum Errand {
    /// A caller's call.
    Call(Relay),
    /// `server/discover`.
    Discover,
    /// The stream on which the server tells of changes.
    Events,
    /// The handshake on a further line of a server whose era is known.
    Greet(Line),
    /// The DELETE of a session, whose answer says nothing.
    Farewell,
    /// `initialize`, for the session of these capabilities.
    Initialize(Capabilities),
    /// `logging/setLevel`, in the flight's session.
    Level,
    /// A notification or answer of ours, whose own answer says nothing.
    Notice,
    /// Answered already; its stream has still to end.
    Over,
    /// One page of a list.
    Page(Pages),
    /// `server/discover` once more, of a server that may speak another era than it did.
    Reconsider,
}

/// One flight.
pub struct Flight {
    /// Its id on the wire.
    pub serial: u64,
    /// What it is for.
    pub errand: Errand,
    /// The legacy session it belongs to.
    pub session: Option<Capabilities>,
    /// When its time is up; `Nanos::MAX` for calls, whose time the core keeps.
    pub deadline: Nanos,
    /// How often its stream was taken up again.
    pub resumed: u8,
    /// The session id that came with its answer's head.
    pub session_id: Option<Box<[u8]>>,
}

/// Bits of a flight's number that are its place; the others count who had the place before. So what is still on its way
/// for one that is over (a stream, a pause before a stream is taken up again) never meets another.
const PLACE_BITS: u32 = 20;
const PLACE: u32 = (1 << PLACE_BITS) - 1;

/// All flights to one server.
#[derive(Default)]
pub struct Flights {
    entries: Vec<Option<Flight>>,
    /// The number of the flight at each place, or of the one that comes next.
    numbers: Vec<u32>,
    /// Places without a flight.
    vacant: Vec<u32>,
    deadlines: Deadlines,
    calls: usize,
    /// Of these, those whose callers were sent away.
    parked: usize,
    /// Streams of what belongs to no request.
    streams: usize,
}

impl Flights {
    /// Takes a flight in; its number.
    pub fn insert(&mut self, flight: Flight) -> u32 {
        let place = self.vacant.pop().unwrap_or_else(|| {
            let place = self.entries.len() as u32;
            self.entries.push(None);
            self.numbers.push(place);
            place
        });
        debug_assert!(place < PLACE, "there are fewer calls to one server than that");
        self.deadlines.insert(flight.deadline, place);
        if let Errand::Call(relay) = &flight.errand {
            self.calls += 1;
            self.parked += usize::from(relay.is_parked);
        }
        self.streams += usize::from(matches!(flight.errand, Errand::Events));
        self.entries[place as usize] = Some(flight);
        self.numbers[place as usize]
    }

    /// The place of the flight of this number, if it is not over.
    fn place_of(&self, number: u32) -> Option<usize> {
        let place = (number & PLACE) as usize;
        (self.numbers.get(place) == Some(&number) && self.entries[place].is_some()).then_some(place)
    }

    /// All flights, by their numbers.
    fn numbered(&self) -> impl Iterator<Item = (u32, &Flight)> {
        let both = self.numbers.iter().zip(&self.entries);
        both.filter_map(|(number, entry)| Some((*number, entry.as_ref()?)))
    }

    /// Callers' calls that are in flight.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Of these, calls whose callers were sent away with a question.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// Streams of what belongs to no request, each of which keeps a link for as long as it lasts. There are as many as
    /// sessions at most, or three for a moment where there are none.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Whether nothing is in flight in a session but its stream.
    pub fn is_quiet_in(&self, session: Capabilities) -> bool {
        let is_stream = |flight: &Flight| matches!(flight.errand, Errand::Events | Errand::Over);
        self.entries.iter().flatten().all(|flight| flight.session != Some(session) || is_stream(flight))
    }

    /// Whether nothing is in flight at all.
    pub fn is_empty(&self) -> bool {
        self.vacant.len() == self.entries.len()
    }

    /// Whether the server was told that a session is over, and has not taken note of it yet.
    pub fn has_farewells(&self) -> bool {
        self.entries.iter().flatten().any(|flight| matches!(flight.errand, Errand::Farewell))
    }

    /// The one call that is in flight, if there is but one.
    pub fn only_call(&self) -> Option<u32> {
        self.only(self.numbered().map(|(number, _)| number))
    }

    /// The one call among these flights, if there is but one. Those whose callers are away with a question are not
    /// counted beside another: their servers wait for the answer, and there is nobody who could be asked more.
    pub fn only(&self, flights: impl Iterator<Item = u32>) -> Option<u32> {
        let (mut here, mut away) = ([None, None], [None, None]);
        for number in flights {
            let Some(relay) = self.relay(number) else { continue };
            let [first, more] = if relay.is_parked { &mut away } else { &mut here };
            *if first.is_none() { first } else { more } = Some(number);
        }
        match (here, away) {
            ([Some(one), None], _) | ([None, _], [Some(one), None]) => Some(one),
            _ => None,
        }
    }

    /// The call that was begun last, of those whose callers can be asked if there are such.
    pub fn last_call(&self) -> Option<u32> {
        let weighed = self.numbered().filter_map(|(number, flight)| match &flight.errand {
            Errand::Call(relay) => Some((relay.may_ask, flight.serial, number)),
            _ => None,
        });
        weighed.max().map(|(.., number)| number)
    }

    /// The calls that are in flight in a session.
    pub fn relays_in(&self, session: Option<Capabilities>) -> impl Iterator<Item = &Relay> {
        let in_session = self.entries.iter().flatten().filter(move |flight| flight.session == session);
        in_session.filter_map(|flight| if let Errand::Call(relay) = &flight.errand { Some(relay) } else { None })
    }

    /// Whether some call is that of a caller on another core than this.
    pub fn has_calls_of_others(&self, core: CoreId) -> bool {
        // One that is parked has nobody who waits.
        let is_others = |flight: &Flight| match &flight.errand {
            Errand::Call(relay) => relay.caller.core != core && !relay.is_parked,
            _ => false,
        };
        self.calls > 0 && self.entries.iter().flatten().any(is_others)
    }

    /// Calls of callers on that core.
    pub fn calls_from(&self, core: CoreId) -> Vec<(u32, Caller)> {
        let caller = |(number, flight): (u32, &Flight)| match &flight.errand {
            Errand::Call(relay) if relay.caller.core == core => Some((number, relay.caller)),
            _ => None,
        };
        self.numbered().filter_map(caller).collect()
    }

    /// The flight of this number.
    pub fn find(&mut self, number: u32) -> Option<&mut Flight> {
        let place = self.place_of(number)?;
        self.entries[place].as_mut()
    }

    /// The call that the flight of this number is, if it is one.
    pub fn relay(&self, number: u32) -> Option<&Relay> {
        match &self.entries[self.place_of(number)?].as_ref()?.errand {
            Errand::Call(relay) => Some(relay),
            _ => None,
        }
    }

    /// Ends a flight.
    pub fn remove(&mut self, number: u32) -> Option<Flight> {
        let place = self.place_of(number)?;
        let flight = self.entries[place].take()?;
        self.uncount(&flight.errand);
        self.deadlines.remove(place as u32);
        self.numbers[place] = number.wrapping_add(1 << PLACE_BITS);
        self.vacant.push(place as u32);
        Some(flight)
    }

    /// What was asked is answered, but its stream goes on: it has until `deadline` to end.
    pub fn finish(&mut self, number: u32, deadline: Nanos) -> Option<Errand> {
        self.set_deadline(number, deadline);
        let flight = self.find(number)?;
        let errand = std::mem::replace(&mut flight.errand, Errand::Over);
        self.uncount(&errand);
        Some(errand)
    }

    fn uncount(&mut self, errand: &Errand) {
        if let Errand::Call(relay) = errand {
            self.calls -= 1;
            self.parked -= usize::from(relay.is_parked);
        }
        self.streams -= usize::from(matches!(errand, Errand::Events));
    }

    /// The caller of a call is sent away, and is to come back until `deadline`.
    pub fn park(&mut self, number: u32, deadline: Nanos) {
        self.set_parked(number, true, deadline);
    }

    /// The caller of a call is back; the call has until `deadline`.
    pub fn unpark(&mut self, number: u32, deadline: Nanos) {
        self.set_parked(number, false, deadline);
    }

    fn set_parked(&mut self, number: u32, is_parked: bool, deadline: Nanos) {
        let Some(Flight { errand: Errand::Call(relay), .. }) = self.find(number) else { return };
        let was_parked = std::mem::replace(&mut relay.is_parked, is_parked);
        self.parked = self.parked + usize::from(is_parked) - usize::from(was_parked);
        self.set_deadline(number, deadline);
    }

    /// Nothing more comes of a flight: if it was answered, it is gone.
    pub fn remove_answered(&mut self, number: u32) {
        if self.find(number).is_some_and(|flight| matches!(flight.errand, Errand::Over)) {
            self.remove(number);
        }
    }

    /// Gives a flight another time.
    pub fn set_deadline(&mut self, number: u32, deadline: Nanos) {
        let Some(place) = self.place_of(number) else { return };
        if let Some(flight) = &mut self.entries[place] {
            flight.deadline = deadline;
        }
        self.deadlines.remove(place as u32);
        self.deadlines.insert(deadline, place as u32);
    }

    /// The flight of a call: the one that it began with, or the one as which it was sent later.
    pub fn of_call(&self, caller: Caller, began: Option<u32>) -> Option<u32> {
        if let Some(began) = began.filter(|&began| self.relay(began).is_some_and(|relay| relay.caller == caller)) {
            return Some(began);
        }
        let is_it = |flight: &Flight| matches!(&flight.errand, Errand::Call(relay) if relay.caller == caller);
        self.numbered().find(|(_, flight)| is_it(flight)).map(|(number, _)| number)
    }

    /// A flight whose time is up.
    pub fn overdue(&self, now: Nanos) -> Option<u32> {
        let due = self.deadlines.first().filter(|(deadline, _)| *deadline <= now);
        due.map(|(_, place)| self.numbers[place as usize])
    }

    /// When the next one's time is up.
    pub fn deadline(&self) -> Option<Nanos> {
        self.deadlines.first().map(|(deadline, _)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::Scanner;
    use crate::server::service::CallKey;

    fn flight(deadline: Nanos) -> Flight {
        Flight { serial: 1, errand: Errand::Discover, session: None, deadline, resumed: 0, session_id: None }
    }

    /// A call begins; its number.
    fn begin(flights: &mut Flights, serial: u64) -> u32 {
        let mut envelope = Envelope::default();
        let text = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
        Scanner::new().scan(text, &mut envelope).expect("valid");
        let call = Outgoing {
            text,
            envelope: &envelope,
            param_lines: b"",
            version: Version::V2026_07_28,
            session: None,
            capabilities: Capabilities::default(),
            log_level: None,
            latest: Nanos::MAX,
            method: Method::ToolsCall,
            name: None,
            round: b"",
        };
        let caller = Caller { core: CoreId(0), key: CallKey { index: 1, generation: 1 } };
        let errand = Errand::Call(Relay::new(&call, caller, false, None, None));
        flights.insert(Flight { serial, errand, ..flight(10) })
    }

    #[test]
    fn flights_end_once_and_are_due_in_order() {
        let mut flights = Flights::default();
        let (late, early, never) =
            (flights.insert(flight(20)), flights.insert(flight(10)), flights.insert(flight(Nanos::MAX)));
        assert_eq!((flights.deadline(), flights.overdue(9), flights.overdue(10)), (Some(10), None, Some(early)));
        assert!(flights.remove(early).is_some() && flights.remove(early).is_none());
        assert!(matches!(flights.finish(late, 30), Some(Errand::Discover)));
        assert_eq!((flights.overdue(20), flights.overdue(30)), (None, Some(late)));
        assert!(flights.remove(never).is_some());
    }

    #[test]
    fn calls_and_those_that_are_parked_are_counted_for_as_long_as_they_last() {
        let mut flights = Flights::default();
        let [back, gone, answered, waits] = std::array::from_fn(|_| begin(&mut flights, 1));
        let other = flights.insert(flight(10));
        for number in [back, gone, answered, waits, waits, other] {
            flights.park(number, 60);
        }
        assert_eq!((flights.calls(), flights.parked(), flights.overdue(59)), (4, 4, Some(other)));
        flights.unpark(back, 20);
        flights.unpark(back, 20);
        assert_eq!((flights.calls(), flights.parked()), (4, 3));
        assert!(flights.remove(gone).is_some() && flights.finish(answered, 30).is_some());
        flights.unpark(answered, 20);
        assert_eq!((flights.calls(), flights.parked()), (2, 1));
        assert!(flights.remove(back).is_some() && flights.remove(answered).is_some());
        assert!(flights.remove(waits).is_some());
        assert_eq!((flights.calls(), flights.parked()), (0, 0));
    }

    #[test]
    fn those_who_are_away_are_not_counted_beside_another() {
        let mut flights = Flights::default();
        assert_eq!((flights.only_call(), flights.last_call()), (None, None));
        let away = begin(&mut flights, 1);
        flights.insert(flight(10));
        assert_eq!(flights.only_call(), Some(away));
        flights.park(away, 60);
        assert_eq!(flights.only_call(), Some(away), "there is no other");
        let here = begin(&mut flights, 3);
        assert_eq!(flights.only_call(), Some(here));
        flights.park(here, 60);
        assert_eq!(flights.only_call(), None, "one of two");
        flights.unpark(away, 20);
        assert_eq!(flights.only_call(), Some(away));
        flights.unpark(here, 20);
        assert_eq!((flights.only_call(), flights.last_call()), (None, Some(here)));
    }

    #[test]
    fn of_an_answered_flight_nothing_stays_once_nothing_more_can_come() {
        let mut flights = Flights::default();
        let (asked, answered) = (flights.insert(flight(10)), flights.insert(flight(20)));
        assert!(flights.finish(answered, 30).is_some());
        flights.remove_answered(answered);
        flights.remove_answered(asked);
        assert!(flights.find(answered).is_none() && flights.find(asked).is_some());
        assert_eq!((flights.overdue(30), flights.deadline()), (Some(asked), Some(10)));
        let next = flights.insert(flight(40));
        assert_eq!((next & PLACE, next == answered), (answered & PLACE, false), "its place is used again");
    }

    #[test]
    fn what_is_still_to_come_for_a_flight_that_is_over_meets_no_other() {
        let mut flights = Flights::default();
        let before = begin(&mut flights, 1);
        assert!(flights.remove(before).is_some());
        let after = begin(&mut flights, 2);
        assert!(flights.find(before).is_none() && flights.relay(before).is_none());
        assert!(flights.remove(before).is_none() && flights.finish(before, 5).is_none());
        flights.set_deadline(before, 1);
        flights.park(before, 1);
        flights.remove_answered(before);
        assert_eq!((flights.calls(), flights.parked(), flights.overdue(9)), (1, 0, None));
        assert_eq!(flights.find(after).map(|flight| flight.serial), Some(2));
        assert_eq!(flights.overdue(10), Some(after));
    }
}
