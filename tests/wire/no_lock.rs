//! No lock on the path of a message: under load, core threads make no futex call at all.
//!
//! Every lock of the standard library, of tokio and of the C library sleeps and wakes by futex(2), and takes no system
//! call while nobody else wants it; so the load is made on both cores at once and across them.
//! Not here: the offload pool, whose whole point is that it may wait.
//! Invariant: a trace that saw nothing proves nothing, so it has to show every core entering its ring.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use serde_json::json;

use crate::legacy::open;
use crate::peer::Peer;
use crate::process::Server;
use crate::request::{Request, echo, legacy, modern, sleep, text, told_sleep};

const CORES: usize = 2;
const ROUNDS: usize = 100;
/// Calls written at once on a connection of lines.
const IN_FLIGHT: usize = 16;

/// The threads that bear the name of a core: its own, and one that the executor keeps.
fn core_threads(server: &Server, core: usize) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the process lives");
    let tasks = tasks.map(|task| task.expect("a directory").path());
    let named = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == format!("corelane-{core}"))
    };
    let id = |path: std::path::PathBuf| path.file_name()?.to_str()?.parse().ok();
    tasks.filter(named).filter_map(id).collect()
}

/// strace at work on some threads.
struct Trace {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Trace {
    /// Attaches; or why that is not possible here.
    fn attach(threads: &[u32]) -> Result<Trace, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("strace");
        command.args(["-e", "trace=futex,io_uring_enter", "-o"]).arg(file.path());
        for thread in threads {
            command.args(["-p", &thread.to_string()]);
        }
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace cannot be started ({error}); scripts/test installs it"))?;
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        for _ in threads {
            match stderr.next() {
                Some(line) if line.contains("attached") => {}
                line => {
                    // Ended by itself, or about to.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("strace may not trace here: {}", line.unwrap_or_default()));
                }
            }
        }
        // What it says when it detaches must not block it.
        std::thread::spawn(move || stderr.for_each(drop));
        Ok(Trace { child, file })
    }

    /// Detaches; what it wrote, one line for each call.
    fn end(mut self) -> String {
        let told = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill(1)");
        assert!(told.success(), "strace still runs");
        // It ends with the signal's number, which says nothing.
        let _ = self.child.wait();
        fs::read_to_string(self.file.path()).expect("strace wrote it")
    }
}

/// One client of each kind, on the given core; the session's owner is the other one.
struct Clients {
    http: Peer,
    lines: Peer,
    session: String,
    /// A connection of the session that is not on its owner's core.
    far: Peer,
    stream: Peer,
}

impl Clients {
    fn new(server: &Server, core: usize) -> Clients {
        let session = open(&mut server.connect_on(CORES - 1 - core), "2025-11-25");
        let mut stream = server.connect_on(core);
        stream.open(&Request::stream(&session));
        stream.primed();
        let (http, lines, far) = (server.connect_on(core), server.lines(), server.connect_on(core));
        Clients { http, lines, session, far, stream }
    }

    fn round(&mut self, http: SocketAddr, id: usize) {
        let answer = self.http.ask(&Request::modern(&modern(id, "tools/call", echo("same core"))));
        assert_eq!(text(&answer.json()), "same core");
        let answer = self.http.ask(&Request::modern(&modern(id, "tools/call", sleep(1))));
        assert_eq!(text(&answer.json()), "slept 1 ms");
        let across = legacy(id, "tools/call", echo("other core"));
        assert_eq!(text(&self.far.ask(&Request::legacy(&self.session, &across)).json()), "other core");
        self.far.open(&Request::legacy(&self.session, &legacy(id, "tools/call", told_sleep(1, 1, "t"))));
        self.far.primed();
        assert_eq!(self.far.rest().last().map(text), Some("slept 1 ms"));
        let batch: String =
            (0..IN_FLIGHT).map(|id| modern(id, "tools/call", echo("line")).to_string() + "\n").collect();
        self.lines.send(batch);
        for id in 0..IN_FLIGHT {
            assert_eq!(self.lines.read_line()["id"], id);
        }
        // Connections come and go under load as well.
        let mut short = Peer::connect(http);
        assert_eq!(short.ask(&Request::modern(&modern(id, "tools/list", json!({})))).status, 200);
    }
}

#[test]
fn core_threads_make_no_futex_call_under_load() {
    // On a busy host a core is held up now and then, and says so; the thread that writes the log is woken by that.
    let server = Server::on(CORES, &[("LOG_LEVEL", "error")]);
    let http = server.http;
    // Two of each on each core, so that cores are busy while they are told things.
    let mut clients: Vec<_> = (0..2 * CORES).map(|client| Clients::new(&server, client % CORES)).collect();
    // What is made on first use is made now.
    for client in &mut clients {
        for id in 0..10 {
            client.round(http, id);
        }
    }
    let cores: Vec<_> = (0..CORES).map(|core| core_threads(&server, core)).collect();
    let trace = match Trace::attach(&cores.concat()) {
        Ok(trace) => trace,
        Err(reason) => panic!(
            "strace may not attach, so nothing can be shown: {reason}; run as root, or with kernel.yama.ptrace_scope at \
             0, or give the container the capability SYS_PTRACE"
        ),
    };
    let before = server.total("corelane_parcels_sent_total");
    let start = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                start.wait();
                for id in 0..ROUNDS {
                    client.round(http, id);
                }
            });
        }
    });
    let crossed = server.total("corelane_parcels_sent_total") - before;
    let calls = trace.end();
    assert!(crossed >= (ROUNDS * clients.len()) as u64, "{crossed} parcels: the load went from core to core");
    for threads in &cores {
        let said = |thread: &u32, call: &str| -> Vec<&str> {
            let of = format!("{thread} ");
            calls.lines().filter(|line| line.starts_with(&of) && line.contains(call)).collect()
        };
        let is_core = |thread: &&u32| said(thread, "io_uring_enter").len() >= ROUNDS;
        let (own, kept): (Vec<_>, Vec<_>) = threads.iter().partition(is_core);
        assert_eq!(own.len(), 1, "{threads:?} are no core, or were not traced");
        let waits = said(own[0], "futex");
        assert!(waits.is_empty(), "{} futex calls, such as {:?}", waits.len(), &waits[..waits.len().min(5)]);
        // The executor's other thread was found asleep, and nobody woke it.
        for thread in kept {
            let waits = said(thread, "futex");
            assert!(waits.len() <= 1 && !waits.concat().contains("resumed"), "{waits:?}");
        }
    }
    // The streams were open all the while.
    for client in &mut clients {
        assert!(client.stream.is_silent_for(std::time::Duration::from_millis(1)));
    }
}
