//! What a broken neighbour costs: calls of a good upstream, beside another that fails in one way or answers well.
//!
//! A few callers call the neighbour all the time, whether it fails or not, so both sides of a pair bear the same load.
//! All ways are measured at once as well, with a neighbour for each: what that does not cost, none of them does, and
//! one comparison may take as long as a narrow interval wants. Whoever is measured runs by SCHED_FIFO if that is
//! allowed: by the usual scheduler the slowest of a hundred calls is one that waited for something else on its CPU,
//! neighbours and callers included, for some milliseconds. It judges nothing.
//!
//! Invariant: neighbour and callers run on the load's CPU, and the neighbour's way is chosen before corelane starts.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Forwarding, Record, chain::Chain};
use crate::{
    Failure,
    message::{FIRST_ID, Payload, Script, Wire},
    rounds, sys,
    tally::Report,
};

/// One load on the good upstream, beside a neighbour.
#[derive(Clone, Serialize, Deserialize)]
pub struct FaultRound {
    /// How the neighbour fails.
    pub fault: Fault,
    /// Whether it does; else it answers well.
    pub fails: bool,
    pub round: usize,
    /// Whether those that are measured ran by SCHED_FIFO.
    #[serde(default)]
    pub real_time: bool,
    pub report: Option<Report>,
    pub failure: Option<String>,
}

impl FaultRound {
    /// As it is named in the log.
    pub fn named(&self) -> (String, &Option<Report>) {
        let way = if self.fails { "fails" } else { "answers well" };
        (format!("beside/{}/{way}/round {}", self.fault.title(), self.round + 1), &self.report)
    }
}

/// How a server fails: at calls, if its name does not say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    HangsUp,
    NeverAnswers,
    Trickles,
    SaysNoHttp,
    SaysNoJson,
    AnswersWithAPage,
    WantsALogin,
    IsOverloaded,
    AnswersWithoutEnd,
    ListsTenThousandTools,
    ListsInCircles,
    DiesOnInitialize,
    Flaps,
    /// A neighbour for each of the above.
    AtOnce,
}

/// What the neighbour's callers ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// A call of its tool.
    Call,
    /// The tools of all servers, of which its are a part.
    List,
}

impl Fault {
    /// Each way by itself.
    pub const EACH: [Self; 13] = [
        Self::HangsUp,
        Self::NeverAnswers,
        Self::Trickles,
        Self::SaysNoHttp,
        Self::SaysNoJson,
        Self::AnswersWithAPage,
        Self::WantsALogin,
        Self::IsOverloaded,
        Self::AnswersWithoutEnd,
        Self::ListsTenThousandTools,
        Self::ListsInCircles,
        Self::DiesOnInitialize,
        Self::Flaps,
    ];

    /// In the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::AtOnce).chain(Self::EACH)
    }

    /// The ways of its neighbours.
    fn ways(self) -> Vec<Self> {
        if self == Self::AtOnce { Self::EACH.to_vec() } else { vec![self] }
    }

    /// How often it is measured for each round, how many times as long, and callers of each neighbour.
    pub fn effort(self) -> (usize, f64, usize) {
        if self == Self::AtOnce { (6, 2.0, 1) } else { (1, 1.0, CALLERS) }
    }

    /// What the calls are beside, where it fails and where not.
    pub fn sides(self) -> (String, &'static str) {
        match self {
            Self::AtOnce => {
                (format!("{} servers that fail, each in another way", Self::EACH.len()), "as many that answer well")
            }
            _ => (format!("a server that {}", self.title()), "one that answers well"),
        }
    }

    /// As it stands in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::AtOnce => "all of them at once",
            Self::HangsUp => "hangs up",
            Self::NeverAnswers => "never answers",
            Self::Trickles => "sends a byte every 50 ms",
            Self::SaysNoHttp => "says what is no HTTP",
            Self::SaysNoJson => "says what is no JSON",
            Self::AnswersWithAPage => "answers with a page",
            Self::WantsALogin => "answers 401",
            Self::IsOverloaded => "answers 503",
            Self::AnswersWithoutEnd => "answers with 64 MiB",
            Self::ListsTenThousandTools => "has 10,000 tools",
            Self::ListsInCircles => "lists in circles",
            Self::DiesOnInitialize => "dies on initialize",
            Self::Flaps => "is there and away in turns",
        }
    }

    fn ask(self) -> Ask {
        match self {
            Self::ListsTenThousandTools | Self::ListsInCircles => Ask::List,
            _ => Ask::Call,
        }
    }

    /// The method at which it fails; none of one whose lists or connections do.
    fn at(self) -> Option<&'static str> {
        match self {
            Self::ListsTenThousandTools | Self::ListsInCircles | Self::Flaps | Self::AtOnce => None,
            Self::DiesOnInitialize => Some("initialize"),
            _ => Some("tools/call"),
        }
    }

    /// The result of its lists.
    fn list(self, fails: bool) -> String {
        let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
        match self {
            Self::ListsTenThousandTools if fails => {
                let tools: Vec<String> = (0..10_000).map(|number| tool(&format!("t{number}"))).collect();
                format!(r#"{{"tools":[{}]}}"#, tools.join(","))
            }
            Self::ListsInCircles if fails => format!(r#"{{"tools":[{}],"nextCursor":"again"}}"#, tool("echo")),
            _ => format!(r#"{{"tools":[{}]}}"#, tool("echo")),
        }
    }

    /// Fails so once, where it does; an error is as good as having said it.
    fn fail(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let head = |status: &str, media: &str, length: usize| {
            format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n")
        };
        match self {
            Self::ListsTenThousandTools | Self::ListsInCircles | Self::Flaps | Self::AtOnce => Ok(()),
            Self::HangsUp | Self::DiesOnInitialize => stream.shutdown(Shutdown::Both),
            Self::NeverAnswers => {
                // Until whoever asked gives up.
                stream.read(&mut [0]).map(drop)
            }
            Self::Trickles => {
                stream.write_all(head("200 OK", "application/json", 10_000).as_bytes())?;
                (0..10_000).try_for_each(|_| {
                    thread::sleep(Duration::from_millis(50));
                    stream.write_all(b" ")
                })
            }
            Self::SaysNoHttp => stream.write_all(b"\x16\x03\x01 what?\r\n\r\n"),
            Self::SaysNoJson => stream.write_all((head("200 OK", "application/json", 6) + "<html>").as_bytes()),
            Self::AnswersWithAPage => stream.write_all((head("200 OK", "text/html", 6) + "<html>").as_bytes()),
            Self::WantsALogin => stream.write_all(head("401 Unauthorized", "text/plain", 0).as_bytes()),
            Self::IsOverloaded => stream.write_all(head("503 Service Unavailable", "text/plain", 0).as_bytes()),
            Self::AnswersWithoutEnd => {
                // Nobody is told beforehand how much it is: that would be refused by its head.
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
                let piece = vec![b' '; 64 << 10];
                (0..(64 << 20) / piece.len()).try_for_each(|_| stream.write_all(&piece))?;
                stream.shutdown(Shutdown::Both)
            }
        }
    }
}

/// Callers of the neighbour.
const CALLERS: usize = 4;
/// Between two calls of one of them, and between two lists, each a page to write.
const PAUSE: Duration = Duration::from_millis(10);
const LIST_PAUSE: Duration = Duration::from_millis(100);
/// How long corelane keeps a list, so that it reads the neighbour's several times within a window.
const LIST_TTL_MS: u64 = 500;
/// How long one that flaps is there, and away.
const TURN: Duration = Duration::from_millis(200);
/// Connections, and calls per second, of the load that is judged.
const CONNECTIONS: usize = 64;
const RATE: f64 = 5_000.0;

impl Forwarding {
    /// Measures these ways.
    pub(super) fn faults(&self, record: &mut Record, faults: &[Fault]) -> Result<(), Failure> {
        let rounds = faults.iter().map(|fault| fault.effort().0).max().unwrap_or(1) * self.terms.rounds;
        for round in 0..rounds {
            for &fault in faults {
                for side in rounds::order(2, round) {
                    let fails = side == 1;
                    let (real_time, ran) = self.beside(fault, fails)?;
                    let (report, failure) = match ran {
                        Ok(report) => (Some(report), None),
                        Err(error) => (None, Some(error.to_string())),
                    };
                    let told = report.as_ref().map(Report::in_short).or(failure.clone()).unwrap_or_default();
                    let (failing, well) = fault.sides();
                    let beside = if fails { &failing } else { well };
                    eprintln!("beside {beside}: round {}: {told}", round + 1);
                    record.faults.push(FaultRound { fault, fails, round, real_time, report, failure });
                }
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// One load beside neighbours, and whether it ran by SCHED_FIFO.
    fn beside(&self, fault: Fault, fails: bool) -> Result<(bool, Result<Report, Failure>), Failure> {
        let ways = fault.ways();
        let mut sections = format!("[gateway]\nlist_ttl_ms = {LIST_TTL_MS}\n");
        for (number, way) in ways.iter().enumerate() {
            let neighbour = neighbour(*way, fails, self.terms.load_cpu)?;
            sections.push_str(&format!(
                "[servers.bad{number}]\nkind = \"http\"\nurl = \"http://{neighbour}/mcp\"\nera = \"legacy\"\n\
                 timeout_ms = 1000\nlist_timeout_ms = 1000\nconnect_timeout_ms = 1000\n"
            ));
        }
        // Programs and threads that are started from here on are so as well, but for those that say otherwise.
        let real_time = sys::real_time(true).is_ok();
        let ran = self.load_beside(fault, &ways, &sections);
        if real_time {
            sys::real_time(false)?;
        }
        Ok((real_time, ran))
    }

    fn load_beside(&self, fault: Fault, ways: &[Fault], sections: &str) -> Result<Report, Failure> {
        let payload = self.says("/mcp/up", "echo");
        let chain = Chain::with(self, sections, &payload)?;
        let over = Arc::new(AtomicBool::new(false));
        let (_, times, callers_of_each) = fault.effort();
        let callers = ways.iter().enumerate().flat_map(|way| std::iter::repeat_n(way, callers_of_each));
        let callers: Vec<_> = callers
            .map(|(number, way)| {
                let (target, over, cpu, ask) = (chain.front.target, Arc::clone(&over), self.terms.load_cpu, way.ask());
                let path = if ask == Ask::Call { format!("/mcp/bad{number}") } else { "/mcp".into() };
                let payload = Payload { path, ..payload.clone() };
                thread::spawn(move || ask_until(&over, target, cpu, ask, &payload))
            })
            .collect();
        let more = [
            ("connections", CONNECTIONS.to_string()),
            ("rate", RATE.to_string()),
            ("warmup", self.terms.warmup.to_string()),
            ("seconds", (self.terms.seconds * times).to_string()),
        ];
        let mut more: Vec<String> = more.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        more.push("--poisson".into());
        let ran = chain.front.loaded(Wire::HttpModern, self.terms.load_cpu, &payload, &more);
        over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().map_err(|_| "a caller of a neighbour panicked")??;
        }
        ran
    }
}

/// Asks the neighbour again and again, whatever it answers.
fn ask_until(over: &AtomicBool, target: SocketAddr, cpu: usize, ask: Ask, payload: &Payload) -> Result<(), String> {
    // Callers are no part of what is measured.
    sys::pin(cpu).and_then(|()| sys::real_time(false)).map_err(|error| error.to_string())?;
    let script = Script::new(Wire::HttpModern, false, target, payload)?;
    let mut id = FIRST_ID;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(target) else { continue };
        // Longer than corelane lets the neighbour take.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
        let mut call = Vec::new();
        match ask {
            Ask::Call => script.call(id, b"", &mut call),
            Ask::List => script.list(id, b"", &mut call),
        }
        id += 1;
        // What is answered is nobody's concern here: each caller has its own connection, and closes it.
        let _ = stream.write_all(&call).and_then(|()| stream.read(&mut [0; 4096]));
        thread::sleep(if ask == Ask::Call { PAUSE } else { LIST_PAUSE });
    }
    Ok(())
}

/// A server of 2025-11-25 that fails in this way if it is to.
fn neighbour(fault: Fault, fails: bool, cpu: usize) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let list: Arc<str> = fault.list(fails).into();
    let serve = move |stream| {
        let list = Arc::clone(&list);
        // A thread that may run where corelane does would be part of what is measured.
        thread::spawn(move || sys::pin(cpu).map(|()| serve(stream, fault, fails, &list)));
    };
    thread::spawn(move || match fault {
        Fault::Flaps if fails => sys::pin(cpu).and_then(|()| flap(listener, address, serve)),
        _ => {
            listener.incoming().map_while(Result::ok).for_each(serve);
            Ok(())
        }
    });
    Ok(address)
}

/// Listens for a turn, then ends what came and is away for one; ends itself with an error only.
fn flap(mut listener: TcpListener, address: SocketAddr, serve: impl Fn(TcpStream)) -> std::io::Result<()> {
    loop {
        listener.set_nonblocking(true)?;
        let (end, mut streams) = (Instant::now() + TURN, Vec::new());
        while Instant::now() < end {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    streams.push(stream.try_clone()?);
                    serve(stream);
                }
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        drop(listener);
        // One that has ended by itself is no longer there to be ended.
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        thread::sleep(TURN);
        listener = TcpListener::bind(address)?;
    }
}

fn answer(stream: &mut TcpStream, id: &serde_json::Value, result: &str) -> std::io::Result<()> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    let length = text.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &text).as_bytes())
}

fn serve(mut stream: TcpStream, fault: Fault, fails: bool, list: &str) -> Option<()> {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let (method, id) = (request["method"].as_str().unwrap_or_default(), &request["id"]);
        if fails && fault.at() == Some(method) {
            fault.fail(&mut stream).ok()?;
            continue;
        }
        let told = match method {
            "initialize" => answer(&mut stream, id, INITIALIZED),
            "tools/list" => answer(&mut stream, id, list),
            "tools/call" => answer(&mut stream, id, r#"{"content":[{"type":"text","text":"well"}]}"#),
            _ => stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
        };
        told.ok()?;
    }
}

const INITIALIZED: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"neighbour","version":"1"}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a neighbour that fails, or does not, says to a message on a connection of its own; nothing if it hangs up.
    fn told(address: SocketAddr, method: &str) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(address).ok()?;
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 7, "method": method}).to_string();
        stream.write_all(format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).ok()?;
        let (mut text, mut piece) = (Vec::new(), [0; 65_536]);
        loop {
            let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
            text.extend_from_slice(&piece[..count]);
            let body = text.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &text[at + 4..]);
            if let Some(Ok(message)) = body.map(serde_json::from_slice) {
                return Some(message);
            }
        }
    }

    #[test]
    fn each_fails_where_it_says_and_nowhere_else() {
        for fault in Fault::EACH {
            for fails in [false, true] {
                let address = neighbour(fault, fails, 0).expect("a port");
                let tools = |message: &serde_json::Value| message["result"]["tools"].as_array().map(Vec::len);
                let initialized = told(address, "initialize");
                assert_eq!(initialized.is_none(), fails && fault == Fault::DiesOnInitialize, "{fault:?}");
                let list = told(address, "tools/list").expect("a list");
                let many = fails && fault == Fault::ListsTenThousandTools;
                assert_eq!(tools(&list), Some(if many { 10_000 } else { 1 }), "{fault:?}");
                let again = list["result"]["nextCursor"] == "again";
                assert_eq!(again, fails && fault == Fault::ListsInCircles, "{fault:?}");
                if fault.at() != Some("tools/call") || !fails {
                    let called = told(address, "tools/call").expect("an answer");
                    assert_eq!(called["result"]["content"][0]["text"], "well", "{fault:?}");
                }
            }
        }
    }

    #[test]
    fn one_that_flaps_is_there_and_away_in_turns() {
        let address = neighbour(Fault::Flaps, true, 0).expect("a port");
        let end = Instant::now() + Duration::from_secs(20);
        for wanted in [true, false, true, false, true] {
            while told(address, "tools/list").is_some() != wanted {
                assert!(Instant::now() < end, "it stays as it is");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
