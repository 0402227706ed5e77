//! The original's four core operations, and its encoding, each on the component that really does it here.
//!
//! The original ran them on process dictionaries and lists ("core_ops", `benchmark_100k`); the figures beside ours are
//! its claims. Each is reported by itself; the aggregate is computed as the original did: four times the operations,
//! divided by the time that all four took.
//!
//! Not here: anything with a wire (`corelane-bench`). Invariant: what is timed in a loop is timed as a whole, and what
//! it made is looked at afterwards, so that no loop can be left out.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use corelane::OnCore;
use corelane::ids::{ShardId, View};
use corelane::proto::jsonrpc;
use corelane::proto::mcp::{Capabilities, Version};
use corelane::ring::{Mesh, Port};
use corelane::server::pool::Pool;
use corelane::shard::session::{Session, SessionKey, Sessions};

use crate::Failure;
use crate::ranks::Kept;
use crate::stage::{Ground, Row, Stage, publish};
use crate::words::Dice;

/// `core-ops`: its options.
#[derive(clap::Args)]
pub struct CoreOps {
    /// Operations of each loop
    #[arg(long, default_value_t = 2_000_000)]
    operations: usize,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/registry_core_ops.json")]
    output: PathBuf,
}

/// Message M of 175 bytes: the original's `tools/call` with sorted keys.
const METHOD: &str = "tools/call";
const SESSIONS: usize = 10_000;
/// Claims of the original, per second: registry, queue, session, pool, all together, encoding.
const CLAIMS: [f64; 6] = [553e3, 971e3, 242e3, 149e3, 2.67e6, 3.7e6];
/// What issue 4 asks of a registry operation.
const REGISTRY_LEAST: f64 = 250e3;

impl CoreOps {
    /// Runs all; true if every target was met.
    pub fn run(self) -> Result<bool, Failure> {
        let ground = Ground::now();
        let count = self.operations;
        let stage = Stage::open(1, 64)?;
        let mut rows = Vec::new();
        let mut each = Vec::new();
        for workers in [1, 100] {
            let seconds = registry(&stage, workers, count / 10);
            let rate = (count / 10) as f64 / seconds;
            let what = format!("registry: register, find and unregister, {workers} workers on one core");
            let row = if workers == 100 {
                Row::at_least(&what, rate, "/s", REGISTRY_LEAST)
            } else {
                Row::plain(&what, rate, "/s")
            };
            rows.push(row);
            if workers == 100 {
                each.push(seconds * 10.0);
            }
        }
        for (what, claim, work) in [
            ("queue: message M into a ring of the mesh and out again", CLAIMS[1], queue as fn(usize) -> f64),
            ("session: one of 10,000 replaced and found in its shard", CLAIMS[2], sessions),
            ("pool: a core's buffer taken, filled with M and given back", CLAIMS[3], pool),
        ] {
            let seconds = work(count);
            rows.push(Row::at_least(what, count as f64 / seconds, "/s", claim));
            each.push(seconds);
        }
        let all = 4.0 * count as f64 / each.iter().sum::<f64>();
        rows.push(Row::at_least("all four, as the original adds them up, on one core", all, "/s", CLAIMS[4]));
        let seconds = encode(count);
        rows.push(Row::at_least("encode: message M written, 175 bytes", count as f64 / seconds, "/s", CLAIMS[5]));
        publish(
            ground,
            "The original's core operations, each on the real component",
            rows,
            &Kept::default(),
            &self.output,
        )
    }
}

/// So many operations, dealt out to the workers; each operation is a register, a look-up and an unregister.
fn registry(stage: &Stage, workers: usize, count: usize) -> f64 {
    let begun = Instant::now();
    let done: Vec<usize> = stage.work(workers, move |worker, core: OnCore| async move {
        let owner = core.registry().owner().expect("room");
        let names: Vec<String> = (0..64).map(|index| format!("op_{worker}_{index}")).collect();
        let mut done = 0;
        while done < count / workers {
            // As many at a time as one worker has names: the answer to a write comes with the next turn.
            let asked: Vec<_> = names.iter().map(|name| core.registry().register_server(&owner, name, b"{}")).collect();
            for asked in asked {
                asked.await.expect("free");
            }
            for name in &names {
                assert!(core.registry().find_server(name).is_some(), "it was registered");
            }
            let asked: Vec<_> = names.iter().map(|name| core.registry().unregister_server(name)).collect();
            for asked in asked {
                asked.await.expect("there");
            }
            done += names.len();
        }
        done
    });
    let seconds = begun.elapsed().as_secs_f64();
    // The last round of each worker may be more than was asked.
    seconds * count as f64 / done.iter().sum::<usize>() as f64
}

fn message() -> (Vec<u8>, Vec<u8>) {
    let params = format!(r#"{{"arguments":{{"data":"{}"}},"name":"benchmark_tool"}}"#, "X".repeat(63));
    let mut text = Vec::new();
    jsonrpc::request(&mut text, "123456", METHOD, params.as_bytes());
    assert!((150..=200).contains(&text.len()), "message M: {} bytes", text.len());
    (params.into_bytes(), text)
}

/// Into a ring of a mesh and out of it, on one thread: what a core that hands a message to another does, without the
/// other core's cache.
fn queue(count: usize) -> f64 {
    let (_, text) = message();
    let (_mesh, mut ports): (Mesh<u64>, Vec<Port<u64>>) = Mesh::new(2);
    let mut two = ports.iter_mut();
    let (Some(from), Some(to)) = (two.next(), two.next()) else { unreachable!("two cores have two ports") };
    let target = to.id();
    // The ring is made by the first parcel.
    from.try_send(target, &0, &text).expect("room");
    let (mut bytes, begun) = (0, Instant::now());
    for number in 1..=count {
        to.drain(16, |_, _, payload| bytes += black_box(payload).len());
        from.try_send(target, &(number as u64), black_box(&text)).expect("it was just emptied");
    }
    let seconds = begun.elapsed().as_secs_f64();
    to.drain(16, |_, _, payload| bytes += payload.len());
    assert_eq!(bytes, text.len() * (count + 1), "every message came out");
    seconds
}

fn sessions(count: usize) -> f64 {
    let mut sessions: Sessions<u64> = Sessions::new(ShardId(0));
    let session = |number| Session::new(View::ALL, Version::V2025_11_25, Capabilities::default(), number, 0);
    let mut keys: Vec<SessionKey> = (0..SESSIONS as u64).map(|number| sessions.insert(session(number))).collect();
    let (mut dice, mut found, begun) = (Dice::new(1), 0, Instant::now());
    for number in 0..count {
        let place = dice.below(SESSIONS);
        sessions.remove(keys[place]);
        keys[place] = sessions.insert(session(number as u64));
        found += usize::from(
            sessions.find(black_box(keys[place])).is_some_and(|session| session.principal == number as u64),
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!((found, sessions.len()), (count, SESSIONS), "each was found");
    seconds
}

fn pool(count: usize) -> f64 {
    let (_, text) = message();
    let (mut pool, mut bytes) = (Pool::default(), 0);
    let begun = Instant::now();
    for _ in 0..count {
        let buffer = pool.filled(&[black_box(&text)]);
        bytes += black_box(&buffer).len();
        pool.give(buffer);
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(bytes, text.len() * count);
    seconds
}

fn encode(count: usize) -> f64 {
    let ((params, text), mut out, mut bytes) = (message(), Vec::new(), 0);
    let begun = Instant::now();
    for _ in 0..count {
        out.clear();
        jsonrpc::request(&mut out, black_box("123456"), METHOD, black_box(&params));
        bytes += black_box(&out).len();
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(bytes, text.len() * count);
    seconds
}
