//! A gateway without sockets: which servers a turn looks at, and what is left of calls that are over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Waker;

use tokio::sync::{mpsc, watch};

use super::settings::{Fields, HttpLink, LinkSettings};
use super::*;
use crate::ids::OutboundAddress;
use crate::limits::{BODY_BYTES_MAX, WAITING_CALL_BYTES_MAX};
use crate::metrics::ServerRow;
use crate::proto::http1::Target;
use crate::proto::json::{Envelope, Value, take_passed};
use crate::server::alarms::{Alarm, Alarms};
use crate::server::service::LocalFuture;
use crate::server::service::{Mail, ResultObject};
use crate::shard::breaker::Try;

const SECOND: Nanos = 1_000_000_000;
/// What a client of 2025-11-25 can do that can do nothing.
const NOTHING: Capabilities = Capabilities::from_bits(0);

/// A host that lends nothing.
struct Nothing;

impl Host for Nothing {
    fn spawn(&self, _: LocalFuture<()>) {}

    fn now(&self) -> Nanos {
        0
    }

    fn wake_at(&self, at: Nanos, waker: Waker) -> Alarm {
        Alarms::default().set(at, waker)
    }

    fn offload(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}

    fn blocking(&self, _: Box<dyn FnOnce() + Send>) {}

    fn count_panic(&self) {}

    fn count_slow_poll(&self) {}

    fn seal(&self, _: &[u8]) -> String {
        String::new()
    }

    fn open(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn task_id(&self, _: u32, _: u32) -> String {
        String::new()
    }

    fn open_task_id(&self, _: &str) -> Option<(u32, u32)> {
        None
    }
}

/// A native server that is asked nothing.
struct Native;

impl Service for Native {
    fn about(&self, _: View) -> Result<&About, RpcError> {
        Err(RpcError::new(Code::INTERNAL, "nobody asks"))
    }

    fn call(&mut self, _: &Call<'_>, _: &mut Vec<u8>) -> Served {
        Served::Failed(RpcError::new(Code::INTERNAL, "nobody asks"))
    }

    fn cancel(&mut self, _: Nanos, _: CallKey) {}

    fn answered(&mut self, _: Nanos, _: CallKey, _: u32, _: Result<&[u8], RpcError>) {}
}

pub(super) fn server(name: &str, port: u16, is_per_session: bool) -> Arc<ServerSettings> {
    let link = HttpLink {
        addresses: Ok(vec![OutboundAddress::Internet(([127, 0, 0, 1], port).into())]),
        tunnel: None,
        tls: None,
        target: Target::new("127.0.0.1", "/mcp").expect("a target"),
        fields: Fields::default(),
    };
    Arc::new(ServerSettings {
        name: name.into(),
        prefix: format!("{name}_").into(),
        link: LinkSettings::Http(link),
        era: EraChoice::Legacy,
        rules: Rules::default(),
        list_time: 5 * SECOND,
        call_time: 30 * SECOND,
        ask_time: 600 * SECOND,
        session_idle: 3600 * SECOND,
        connect_time: 5 * SECOND,
        links_max: 4,
        waiting_max: 64,
        waiting_bytes_max: WAITING_CALL_BYTES_MAX,
        queue_target: 5_000_000,
        calls_max: usize::MAX,
        calls_max_is_for_all: false,
        answer_bytes_max: 1 << 20,
        is_per_session,
        trusts_annotations: false,
    })
}

/// A gateway, and servers that answer whatever they are sent at once.
struct Rig {
    gateway: Gateway<Native>,
    now: Nanos,
    mailbox: Mailbox,
    links: u32,
    /// What each server lists.
    tools: String,
    _choices: watch::Sender<Arc<Behind>>,
}

impl Rig {
    fn new(servers: Vec<Arc<ServerSettings>>) -> Rig {
        let rows = servers.iter().map(|one| Arc::new(ServerRow::new(&one.name, "http", "", 1))).collect();
        let settings = GatewaySettings { servers, list_ttl: 60 * SECOND, ..GatewaySettings::default() };
        let (sender, choices) = watch::channel(Arc::new(Behind::new(settings, rows, &mut Vec::new())));
        let (sightings, _) = mpsc::channel(1);
        let pins = PinPort { pins: watch::channel(Arc::default()).1, sightings };
        let mailbox = Mailbox::default();
        let station = Station {
            core: CoreId(0),
            cores: 1,
            boot: 0,
            mailbox: mailbox.clone(),
            overheard: Overheard::default(),
            host: Rc::new(Nothing),
            guard: None,
            choices,
            pins,
        };
        Rig {
            gateway: Gateway::new(Native, station),
            now: 1,
            mailbox,
            links: 0,
            tools: "[]".to_owned(),
            _choices: sender,
        }
    }

    /// Turns until nothing is wished for any more.
    fn turn(&mut self) {
        let mut events = VecDeque::new();
        loop {
            self.gateway.wishes(self.now, &mut |wish| events.push_back(wish));
            let Some(wish) = events.pop_front() else { return };
            match wish {
                Wish::Connect { token, .. } => {
                    let id = ConnectionId { slot: self.links, generation: 1 };
                    self.links += 1;
                    self.gateway.link(self.now, LinkEvent::Connected { token, outcome: Ok(id) });
                }
                Wish::Send(id, buffer) => {
                    let answer = answer(&buffer, &self.tools);
                    self.gateway.link(self.now, LinkEvent::Sent { id, buffer, whole: true });
                    self.gateway.link(self.now, LinkEvent::Received { id, bytes: answer.as_bytes() });
                }
                Wish::Close(id) => self.gateway.link(self.now, LinkEvent::Closed(id)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass; what is due is done when it is.
    fn pass(&mut self, time: Nanos) {
        let end = self.now + time;
        self.turn();
        while let Some(due) = self.gateway.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.gateway.tick(self.now);
            self.turn();
        }
        self.now = end;
    }

    /// A call in a session begins.
    fn begin(&mut self, view: u16, session: u64, capabilities: Capabilities) -> (CallKey, Served) {
        let text = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}"#;
        self.begin_saying(view, session, capabilities, text)
    }

    /// The same with this message.
    fn begin_saying(&mut self, view: u16, session: u64, capabilities: Capabilities, text: &[u8]) -> (CallKey, Served) {
        self.ask(Method::ToolsCall, view, session, capabilities, text, &mut Vec::new())
    }

    /// All tools as they are told in the view of all servers.
    fn list(&mut self) -> String {
        let (mut out, text) = (Vec::new(), br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
        let (key, served) = self.ask(Method::ToolsList, 0, 1, NOTHING, text, &mut out);
        if let Served::Done = served {
            return String::from_utf8(out).expect("text");
        }
        let [outcome] = &self.outcomes(key)[..] else { panic!("one answer") };
        String::from_utf8(outcome.as_ref().expect("a result").whole()).expect("text")
    }

    /// What comes of a call, once nothing is wished for any more.
    fn outcomes(&mut self, key: CallKey) -> Vec<Result<ResultObject, RpcError>> {
        self.turn();
        let replies = std::iter::from_fn(|| self.mailbox.pop());
        let outcome = |mail| match mail {
            Mail::Reply { key: answered, outcome } if answered == key => Some(outcome),
            _ => None,
        };
        replies.filter_map(outcome).collect()
    }

    /// A request of whichever method begins.
    fn ask(
        &mut self,
        method: Method,
        view: u16,
        session: u64,
        capabilities: Capabilities,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> (CallKey, Served) {
        let mut envelope = Envelope::default();
        Scanner::new().scan(text, &mut envelope).expect("valid");
        let key = CallKey { index: 0, generation: session as u32 };
        let call = Call {
            key,
            view: View(view),
            version: Version::V2025_11_25,
            method,
            text,
            envelope: &envelope,
            param_lines: b"",
            capabilities,
            log_level: None,
            is_level_chosen: false,
            may_ask: false,
            session: Some(session),
            now: self.now,
            deadline: self.now + 30 * SECOND,
            is_deadline_chosen: false,
        };
        (key, self.gateway.call(&call, out))
    }

    /// A call in a session, answered.
    fn call(&mut self, view: u16, session: u64) {
        let (key, served) = self.begin(view, session, NOTHING);
        assert!(matches!(served, Served::Pending));
        let outcomes: Vec<bool> = self.outcomes(key).iter().map(Result::is_ok).collect();
        assert_eq!(outcomes, [true]);
    }

    /// How many servers were looked at meanwhile.
    fn visits(&mut self) -> usize {
        self.gateway.servers.take_visits()
    }
}

/// What a server answers: it opens sessions, has no stream, and its tool says nothing.
fn answer(request: &[u8], tools: &str) -> String {
    let request = std::str::from_utf8(request).expect("text");
    let json = |body: String| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nMcp-Session-Id: s\r\n\r\n\
             {body}"
        )
    };
    let (_, body) = request.split_once("\r\n\r\n").expect("a head");
    let value = Value::new(body.as_bytes());
    let id = value.get("id").map(|id| String::from_utf8_lossy(id.raw()).into_owned());
    let Some(id) = id.filter(|_| request.starts_with("POST")) else {
        let status = if request.starts_with("GET") { "405 No" } else { "202 Accepted" };
        return format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    };
    let result = match body.contains("\"initialize\"") {
        true => {
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"n","version":"1"}}"#
        }
        false => &format!(r#"{{"content":[],"tools":{tools}}}"#),
    };
    json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

#[test]
fn a_turn_looks_at_servers_that_have_something_to_do_however_many_there_are() {
    const SESSIONS: u64 = 2000;
    let mut rig = Rig::new(vec![server("own", 1, true), server("other", 2, false)]);
    rig.turn();
    // Views are numbered by the names of their servers.
    let (other, own) = (1, 2);
    for session in 0..SESSIONS {
        rig.call(own, session);
    }
    // Their links, which are idle by now, are closed.
    rig.pass(60 * SECOND);
    assert_eq!(rig.gateway.servers.own_numbers().count() as u64, SESSIONS);
    rig.visits();
    rig.turn();
    assert_eq!(rig.visits(), 0, "nothing happened");
    rig.call(other, SESSIONS);
    rig.pass(60 * SECOND);
    let of_one = rig.visits();
    assert!((1..50).contains(&of_one), "a call is no business of those that idle: {of_one}");

    // One that ends is gone, and nobody else was looked at.
    rig.gateway.session_ended(rig.now, 7);
    rig.turn();
    assert_eq!(rig.gateway.servers.own_numbers().count() as u64, SESSIONS - 1);
    assert!(rig.visits() < 50);
    rig.call(own, 7);
    rig.call(own, 8);
    assert_eq!(rig.gateway.servers.own_numbers().count() as u64, SESSIONS);
}

#[test]
fn a_views_number_is_the_same_for_whoever_missed_a_choice_or_comes_later() {
    let settings = |names: &[&str]| GatewaySettings {
        servers: names.iter().map(|name| server(name, 1, false)).collect(),
        ..GatewaySettings::default()
    };
    let mut names = Vec::new();
    let mut choice = |servers: &[&str], retired: &[u16]| {
        let mut settings = settings(servers);
        settings.retired = retired.iter().copied().collect();
        Behind::new(settings, Vec::new(), &mut names)
    };
    let _missed = choice(&["a", "b"], &[]);
    let last = choice(&["a", "b", "c"], &[1]);
    let seen = reload::views(&last);
    let of = |name: &str| last.view_names.iter().position(|known| **known == *name).expect("a number");
    assert_eq!((of(""), of("a"), of("b"), of("c"), seen.len()), (0, 1, 2, 3, 4));
    assert_eq!(
        [1, 2, 3].map(|number| (seen[number].is_there, seen[number].alone)),
        [(true, Some(0)), (false, None), (true, Some(2))]
    );
}

#[test]
fn a_call_that_was_to_show_how_its_tool_is_and_was_not_sent_leaves_that_to_the_next() {
    const ASKED: Capabilities = Capabilities::ELICITATION_FORM;
    type Step = fn(&mut Rig, CallKey);
    let nothing: Step = |_, _| {};
    // What happens before such a call begins, and what ends it then.
    let ways: [(&str, Step, Step); 5] = [
        ("its server is away", |rig, _| rig.gateway.servers[0].out_of_reach(rig.now, "it went".to_owned()), nothing),
        ("too many wait", |rig, _| (0..64).for_each(|one| drop(rig.begin(1, 100 + one, ASKED))), nothing),
        ("its caller left", nothing, |rig, key| rig.gateway.cancel(rig.now, key)),
        ("its session was not opened", nothing, |rig, _| {
            let error = RpcError::new(Code::BAD_GATEWAY, "it was refused");
            rig.gateway.servers[0].session_failed(ASKED, &error);
        }),
        ("its server went", nothing, |rig, _| rig.gateway.servers[0].out_of_reach(rig.now, "it went".to_owned())),
    ];
    let mut kept = Vec::new();
    for (what, before, ends) in ways {
        let mut rig = Rig::new(vec![server("s", 1, false)]);
        rig.turn();
        let no_call = CallKey { index: 1, generation: 0 };
        before(&mut rig, no_call);
        let (failed_at, patience) = (rig.now, 60 * SECOND);
        rig.gateway.servers[0].breakers.failed(failed_at, "t", Try::ORDINARY, 5, 0);
        rig.now += 2 * SECOND;
        rig.gateway.servers[0].retry_at = Nanos::MAX;
        let (key, _) = rig.begin(1, 7, ASKED);
        ends(&mut rig, key);
        if rig.gateway.servers[0].breakers.admit(rig.now, "t", patience).is_err() {
            kept.push(what);
        }
    }
    assert_eq!(kept, [""; 0], "the next call is not tried");
}

#[test]
fn calls_that_wait_for_a_server_are_bounded_in_bytes() {
    let mut rig = Rig::new(vec![server("s", 1, false)]);
    rig.turn();
    // Their session is being opened for as long as no turn is taken.
    let of = |(session, bytes): (u64, usize)| rig.begin_saying(1, session, Capabilities::SAMPLING, &call_of(bytes)).1;
    let served: Vec<Served> = (0..6).zip([BODY_BYTES_MAX; 5].into_iter().chain([1000])).map(of).collect();
    let Served::Failed(refusal) = &served[3] else { panic!("four of them are more than there is room for") };
    assert_eq!(refusal.code, Code::OVERLOADED);
    assert!(refusal.message.contains(&WAITING_CALL_BYTES_MAX.to_string()), "{}", refusal.message);
    let waits = |served: &Served| matches!(served, Served::Pending);
    assert_eq!(served.iter().map(waits).collect::<Vec<_>>(), [true, true, true, false, false, true]);
}

/// A call of so many bytes.
fn call_of(bytes: usize) -> Vec<u8> {
    let (before, behind) =
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":""#, r#""}}}"#);
    format!("{before}{}{behind}", "x".repeat(bytes - before.len() - behind.len())).into_bytes()
}

#[test]
fn what_was_left_for_callers_of_a_core_that_died_reaches_nobody_of_its_next_life() {
    let mut rig = Rig::new(vec![server("s", 1, false)]);
    rig.turn();
    let told = |rig: &mut Rig, index: u32, capabilities: Capabilities| {
        let word = words::CallWord {
            view: View(1),
            version: Version::V2025_11_25,
            session: Some(1),
            method: Method::ToolsCall,
            capabilities,
            log_level: None,
            is_level_chosen: false,
            may_ask: true,
            latest: Nanos::MAX,
            name: None,
            uris: None,
            text: br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}"#,
            param_lines: b"",
        };
        let number = words::number_of(CallKey { index, generation: 1 });
        let what = words::subject(words::kind::CALL, 0, number);
        rig.gateway.told(rig.now, CoreId(1), what, &word.write());
    };
    // One waits for its session; another, for the pause before it is sent again.
    told(&mut rig, 1, Capabilities::ELICITATION_FORM);
    told(&mut rig, 2, Capabilities::SAMPLING);
    let again = rig.gateway.servers[0].sessions.iter_mut().find_map(|session| {
        (session.capabilities == Capabilities::SAMPLING).then(|| session.waiting.pop_front()).flatten()
    });
    rig.gateway.servers[0].to_repeat.push((rig.now + SECOND, again.expect("it waits for its session")));
    assert_eq!(rig.gateway.servers[0].callers_waiting().count(), 2);
    rig.gateway.peer_lost(rig.now, CoreId(1));
    assert_eq!(rig.gateway.servers[0].callers_waiting().count(), 0);
    // Words to that core would be wishes of which a turn knows nothing.
    rig.pass(5 * SECOND);
}

#[test]
fn a_list_that_is_told_again_as_it_was_is_not_looked_at_again() {
    let many = |words: &str| {
        let tool =
            |number| format!(r#"{{"name":"t{number}","description":"{words}","inputSchema":{{"type":"object"}}}}"#);
        format!("[{}]", (0..1000).map(tool).collect::<Vec<_>>().join(","))
    };
    let mut rig = Rig::new(vec![server("one", 1, false)]);
    let read_again = |rig: &mut Rig, tools: &str| {
        rig.tools = tools.to_owned();
        // What was told is too old by then, and what is looked at is counted from here on.
        rig.pass(61 * SECOND);
        take_passed();
        let told = rig.list();
        (take_passed(), told)
    };
    let (first, other) = (many("as it is"), many("another"));
    rig.tools = first.clone();
    take_passed();
    rig.turn();
    let passed = take_passed();
    assert!(passed > first.len(), "it is looked at when it is first read: {passed} bytes");
    let told = rig.list();
    assert!(told.contains("t249") && told.contains("as it is"), "{} bytes", told.len());
    let (passed, again) = read_again(&mut rig, &first);
    assert!(again == told, "{} bytes, and then {}", told.len(), again.len());
    assert!(passed < first.len() / 10, "{passed} bytes looked at of {}", first.len());
    // Whatever else it was in between, it is looked at.
    for (tools, words) in [(&other, "another"), (&first, "as it is")] {
        let (passed, told) = read_again(&mut rig, tools);
        assert!(passed > tools.len() && told.contains(words), "{passed} bytes looked at");
    }
    assert!(!read_again(&mut rig, "[]").1.contains("t249"));
}

#[test]
fn another_list_of_one_server_leaves_the_names_of_others_alone() {
    let items = |names: &mut dyn Iterator<Item = String>| -> Vec<Box<[u8]>> {
        let item = |name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#).into_bytes().into();
        names.map(item).collect()
    };
    let mut rig = Rig::new(vec![server("large", 1, false), server("small", 2, false)]);
    rig.turn();
    let looked_at = |rig: &mut Rig, index: u16, names: &mut dyn Iterator<Item = String>| {
        rig.gateway.listed(rig.now, index, ListKind::Tools, Ok(Some(items(names))));
        rig.gateway.told.looked_at.set(0);
        let told = rig.gateway.told_in(View::ALL, ListKind::Tools);
        assert!(index == 1 || told.knows(0, "t9999"));
        rig.gateway.told.looked_at.get()
    };
    let few = |from: u32, to: u32| (from..to).map(|number| format!("s{number}"));
    assert!(looked_at(&mut rig, 0, &mut (0..10_000).map(|number| format!("t{number}"))) >= 10_000);
    // Three, each of which is looked at in its list, and once more for its name.
    assert_eq!(looked_at(&mut rig, 1, &mut few(0, 3)), 6);
    assert_eq!(looked_at(&mut rig, 1, &mut few(1, 4)), 3 + 1);
    assert_eq!(looked_at(&mut rig, 1, &mut few(1, 1)), 0);
    // Whoever reads the table of before has it as it was, and the next is right all the same.
    let before = rig.gateway.told_in(View::ALL, ListKind::Tools);
    looked_at(&mut rig, 1, &mut few(0, 2));
    assert!(!before.knows(1, "s0") && rig.gateway.told_in(View::ALL, ListKind::Tools).knows(1, "s0"));
}
