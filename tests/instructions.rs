//! The price of a call and of its parts in instructions, held against `bench/instructions.txt`: the one cost that is
//! the same on a busy machine, and so the one that a test may fail for.
//!
//! Counted by callgrind over so many and twice as many rounds; the difference is free of what the start costs.
//! `scripts/test --only instructions` runs it in the profile that the numbers are for; with INSTRUCTIONS_WRITE=1 it
//! writes them instead. Not here: time (`scripts/ladder`), the kernel's part.
//! Invariant: what is counted is the code that serves, through its own machines, with no operating system below.
#![cfg(feature = "host")]

mod echo;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use corelane::ids::{CoreId, ShardId, View};
use corelane::proto::http1::{HeadFinder, parse};
use corelane::proto::json::{Envelope, Scanner};
use corelane::proto::jsonrpc;
use corelane::proto::mcp::{Capabilities, LogLevel, Version};
use corelane::proto::ndjson::LineFinder;
use corelane::ring::{Mesh, Port};
use corelane::server::connection::Wire;
use corelane::shard::rate::{Bucket, Rate};
use corelane::shard::registry::{Delta, Kind, Names, Owner, Record, Replica};
use corelane::shard::seal::Sealer;
use corelane::shard::session::{SessionKey, SessionTicket};

use echo::{ECHO, converse, core, legacy_core, modern, modern_post};

const ROUNDS: u64 = 2_000;
/// Other processors have other string instructions, and other versions of the compiler other code; what a change of
/// ours costs is larger or not worth a test.
const TOLERANCE_PERCENT: u64 = 3;
const BASELINE: &str = "bench/instructions.txt";
/// Told to the child: what to do, and how often.
const WORK: &str = "INSTRUCTIONS_OF";
const TIMES: &str = "INSTRUCTIONS_TIMES";

fn scan(times: u64) {
    let (text, mut scanner) = (modern(ECHO), Scanner::new());
    for _ in 0..times {
        let mut envelope = Envelope::default();
        scanner.scan(black_box(text.as_bytes()), &mut envelope).expect("well-formed");
        black_box(&envelope);
    }
}

fn head(times: u64) {
    let request = modern_post(ECHO);
    for _ in 0..times {
        let end = HeadFinder::new().find(black_box(&request)).expect("good").expect("whole");
        black_box(parse(&request[..end]).expect("good"));
    }
}

fn line_call(times: u64) {
    converse(&mut core(Wire::Lines), format!("{}\n", modern(ECHO)).as_bytes(), times);
}

fn modern_call(times: u64) {
    converse(&mut core(Wire::Http), &modern_post(ECHO), times);
}

fn legacy_call(times: u64) {
    let (mut core, call) = legacy_core(ECHO);
    converse(&mut core, &call, times);
}

/// A line found in what was received.
fn frame(times: u64) {
    let line = format!("{}\n", modern(ECHO));
    let mut finder = LineFinder::new();
    for _ in 0..times {
        let mut lines = finder.lines(black_box(line.as_bytes()), 1 << 20);
        assert!(black_box(lines.next()).is_some_and(|line| line.is_ok()), "a whole line");
    }
}

/// The owner of a server found by its name, among ten thousand.
fn route(times: u64) {
    let (names, mut replica) = (Names::new([7; 16]), Replica::new(64));
    let owner = Owner { core: CoreId(1), slot: 5, generation: 1 };
    let all: Vec<String> = (0..10_000).map(|number| format!("server_{number}")).collect();
    for name in &all {
        replica.apply(Delta::New(Record::new(Kind::Server, names.key(Kind::Server, name), owner)));
    }
    for number in 0..times {
        let name = black_box(&all[number as usize % all.len()]);
        assert!(black_box(replica.find(names.key(Kind::Server, name))).is_some(), "it is registered");
    }
}

/// An answer written around its result.
fn encode(times: u64) {
    let (result, mut out) = (ECHO.as_bytes(), Vec::new());
    for _ in 0..times {
        out.clear();
        jsonrpc::begin_result(&mut out, black_box(b"100000"));
        out.extend_from_slice(black_box(result));
        jsonrpc::end(&mut out);
        black_box(&out);
    }
}

/// A message into a ring of the mesh and out of it.
fn ring_transfer(times: u64) {
    let (_mesh, mut ports): (Mesh<u64>, Vec<Port<u64>>) = Mesh::new(2);
    let [from, to, ..] = &mut ports[..] else { unreachable!("two cores have two ports") };
    let target = to.id();
    for number in 0..times {
        from.try_send(target, &number, black_box(ECHO.as_bytes())).expect("it is emptied each time");
        assert_eq!(to.drain(8, |_, _, payload| assert!(!black_box(payload).is_empty())), 1);
    }
}

/// A message counted against its connection's rate.
fn bucket(times: u64) {
    let (rate, mut bucket) = (Rate::per_second(10_000, 1_000, 0), Bucket::default());
    for now in 0..times {
        let now = black_box(now * 1_000_000);
        assert!(black_box(bucket.opens_at(&rate)) <= now, "slower than the rate");
        bucket.spend(now, &rate);
    }
}

/// A session's id sealed, and opened as it comes back.
fn seal_and_open(times: u64) {
    let mut sealer = Sealer::new(&[9; 32], [3; 12]);
    let ticket = SessionTicket {
        node: 1,
        boot: 2,
        incarnation: 3,
        key: SessionKey { shard: ShardId(4), slot: 5, generation: 6 },
        principal: 0,
        view: View::ALL,
        version: Version::V2025_11_25,
        capabilities: Capabilities::default(),
        log_level: LogLevel::Info,
        expires: u64::MAX,
    };
    for _ in 0..times {
        let id = black_box(&ticket).seal(&mut sealer);
        assert_eq!(black_box(SessionTicket::open(&sealer, id.as_bytes())), Some(ticket));
    }
}

/// What is counted, by its name in the baseline; it is done so often.
type Work = (&'static str, fn(u64));

const WORKS: [Work; 11] = [
    ("frame", frame),
    ("route", route),
    ("encode", encode),
    ("ring-transfer", ring_transfer),
    ("bucket", bucket),
    ("seal-and-open", seal_and_open),
    ("json-scan", scan),
    ("http-head", head),
    ("echo-lines", line_call),
    ("echo-http-modern", modern_call),
    ("echo-http-legacy", legacy_call),
];

#[test]
#[ignore = "the work that the other test counts, in a process of its own"]
fn work() {
    let (Ok(name), Ok(times)) = (env::var(WORK), env::var(TIMES)) else { return };
    let (_, work) = WORKS.into_iter().find(|(known, _)| *known == name).expect("one of them");
    work(times.parse().expect("a number"));
}

/// All instructions of a process that does this so often.
fn count(name: &str, times: u64) -> Result<u64, String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe().expect("a path"));
    command.args(["--exact", "work", "--ignored", "--test-threads=1"]).env(WORK, name).env(TIMES, times.to_string());
    let output = command.output().map_err(|error| format!("valgrind cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| {
        format!("valgrind failed ({}):\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stdout))
    })
}

#[test]
#[ignore = "scripts/test runs it, in the profile that the baseline is for"]
fn a_call_costs_no_more_instructions_than_it_did() {
    if cfg!(debug_assertions) || !cfg!(target_arch = "x86_64") {
        panic!("the baseline is for an optimised x86_64 build: scripts/test --only instructions");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(BASELINE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let known = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let mut found = String::from("# Instructions per round; written and read by tests/instructions.rs.\n");
    let mut worse = Vec::new();
    for (name, _) in WORKS {
        let once = count(name, ROUNDS).and_then(|once| Ok((once, count(name, 2 * ROUNDS)?)));
        let (once, twice) = once.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let each = (twice - once) / ROUNDS;
        found += &format!("{name} {each}\n");
        let before = known(name);
        let difference = before.map_or("no baseline".into(), |before| {
            format!("was {before}, {:+.2} %", 100.0 * (each as f64 - before as f64) / before as f64)
        });
        println!("{name}: {each} instructions, {difference}");
        if before.is_none_or(|before| each * 100 > before * (100 + TOLERANCE_PERCENT)) {
            worse.push(format!("{name}: {each}, {difference}"));
        }
    }
    if env::var_os("INSTRUCTIONS_WRITE").is_some() {
        return fs::write(&path, found).expect("it can be written");
    }
    assert!(worse.is_empty(), "{worse:?}; if that is worth it, write {BASELINE} anew with INSTRUCTIONS_WRITE=1");
}
