//! What a broken neighbour costs: calls of a good upstream, beside another that fails in one way or answers well.
//!
//! A few callers call the neighbour all the time, whether it fails or not, so both sides of a pair bear the same load.
//! It judges nothing.
//!
//! Invariant: neighbour and callers run on the load's CPU, and the neighbour's way is chosen before corelane starts.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
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
    pub report: Option<Report>,
    pub failure: Option<String>,
}

/// How a server fails whose handshake was well.
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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::HangsUp,
        Self::NeverAnswers,
        Self::Trickles,
        Self::SaysNoHttp,
        Self::SaysNoJson,
        Self::AnswersWithAPage,
        Self::WantsALogin,
        Self::IsOverloaded,
        Self::AnswersWithoutEnd,
    ];

    /// As it stands in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::HangsUp => "hangs up",
            Self::NeverAnswers => "never answers",
            Self::Trickles => "sends a byte every 50 ms",
            Self::SaysNoHttp => "says what is no HTTP",
            Self::SaysNoJson => "says what is no JSON",
            Self::AnswersWithAPage => "answers with a page",
            Self::WantsALogin => "answers 401",
            Self::IsOverloaded => "answers 503",
            Self::AnswersWithoutEnd => "answers with 64 MiB",
        }
    }

    /// Fails so once; an error is as good as having said it.
    fn fail(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let head = |status: &str, media: &str, length: usize| {
            format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n")
        };
        match self {
            Self::HangsUp => stream.shutdown(std::net::Shutdown::Both),
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
                let most = 64 << 20;
                stream.write_all(head("200 OK", "application/json", most).as_bytes())?;
                let piece = vec![b' '; 64 << 10];
                (0..most / piece.len()).try_for_each(|_| stream.write_all(&piece))
            }
        }
    }
}

/// Callers of the neighbour.
const CALLERS: usize = 4;
/// Between two calls of one of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Connections, and calls per second, of the load that is judged.
const CONNECTIONS: usize = 64;
const RATE: f64 = 5_000.0;

impl Forwarding {
    /// Measures all of it.
    pub(super) fn faults(&self, record: &mut Record) -> Result<(), Failure> {
        for round in 0..self.rounds {
            for fault in Fault::ALL {
                for side in rounds::order(2, round) {
                    let fails = side == 1;
                    let (report, failure) = match self.beside(fault, fails) {
                        Ok(report) => (Some(report), None),
                        Err(error) => (None, Some(error.to_string())),
                    };
                    let told = report.as_ref().map(Report::in_short).or(failure.clone()).unwrap_or_default();
                    let beside = if fails { fault.title() } else { "answers well" };
                    eprintln!("beside a server that {beside}: round {}: {told}", round + 1);
                    record.faults.push(FaultRound { fault, fails, round, report, failure });
                }
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// One load beside a neighbour.
    fn beside(&self, fault: Fault, fails: bool) -> Result<Report, Failure> {
        let neighbour = neighbour(fault, fails, self.load_cpu)?;
        let section = format!(
            "[servers.bad]\nkind = \"http\"\nurl = \"http://{neighbour}/mcp\"\nera = \"legacy\"\ntimeout_ms = 1000\n"
        );
        let payload = self.says("/mcp/up", "echo");
        let chain = Chain::with(self, &section, &payload)?;
        let over = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (target, over, cpu) = (chain.front.target, Arc::clone(&over), self.load_cpu);
                let payload = Payload { path: "/mcp/bad".into(), ..payload.clone() };
                thread::spawn(move || call_until(&over, target, cpu, &payload))
            })
            .collect();
        let more = [
            ("connections", CONNECTIONS.to_string()),
            ("rate", RATE.to_string()),
            ("warmup", self.warmup.to_string()),
            ("seconds", self.seconds.to_string()),
        ];
        let mut more: Vec<String> = more.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        more.push("--poisson".into());
        let ran = chain.front.measured("load", Wire::HttpModern, self.load_cpu, &payload, &more);
        over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().map_err(|_| "a caller of the neighbour panicked")??;
        }
        ran
    }
}

/// Calls the neighbour again and again, whatever it answers.
fn call_until(over: &AtomicBool, target: SocketAddr, cpu: usize, payload: &Payload) -> Result<(), String> {
    sys::pin(cpu).map_err(|error| error.to_string())?;
    let script = Script::new(Wire::HttpModern, false, target, payload)?;
    let mut id = FIRST_ID;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(target) else { continue };
        // Longer than corelane lets the neighbour take.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
        let mut call = Vec::new();
        script.call(id, b"", &mut call);
        id += 1;
        // What is answered is nobody's concern here: each caller has its own connection, and closes it.
        let _ = stream.write_all(&call).and_then(|()| stream.read(&mut [0; 4096]));
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A server of 2025-11-25 whose handshake is well, and whose calls fail in this way if it is to.
fn neighbour(fault: Fault, fails: bool, cpu: usize) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // A thread that may run where corelane does would be part of what is measured.
                sys::pin(cpu).map(|()| serve(stream, fault, fails))
            });
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, fault: Fault, fails: bool) -> Option<()> {
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
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => serde_json::json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "neighbour", "version": "1"}}),
            "tools/list" => serde_json::json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
            "tools/call" if fails => {
                fault.fail(&mut stream).ok()?;
                continue;
            }
            "tools/call" => serde_json::json!({"content": [{"type": "text", "text": "well"}]}),
            _ => {
                stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").ok()?;
                continue;
            }
        };
        let answer = serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
        let length = answer.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + &answer).as_bytes()).ok()?;
    }
}
