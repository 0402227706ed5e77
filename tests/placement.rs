//! Where handlers really run: a tool that asks the kernel from the core's thread, from `offload` and from `blocking`.
//!
//! Not here: choosing the CPUs (`boot::plan`), the threads by name (`tests/wire/threads.rs`).
//! Invariant: the plan is the one that the server printed, and what is compared with it comes from /proc.
#![cfg(feature = "host")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelane::{Context, NoArguments, ServeOptions, Server, Tool};
use serde_json::{Value, json};

/// Told to the child: on how many cores it serves.
const CORES: &str = "PLACEMENT_TEST_CORES";
const PATIENCE: Duration = Duration::from_secs(20);

/// The CPUs of the thread that asks, and its id.
fn whereabouts() -> (String, String) {
    let status = fs::read_to_string("/proc/thread-self/status").expect("/proc is there");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
    (field("Cpus_allowed_list:"), field("Pid:"))
}

async fn ask(_: NoArguments, ctx: Context) -> Result<String, corelane::Failure> {
    let core = whereabouts();
    let offload = ctx.offload(async { whereabouts() }).await?;
    let blocking = ctx.blocking(whereabouts).await?;
    // A future of the pool that waits comes back to one of the pool's threads.
    let later = ctx.offload(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        tokio::task::spawn_blocking(whereabouts).await.expect("it does not panic")
    });
    let later = later.await?;
    Ok(json!({"core": core, "offload": offload, "blocking": blocking, "later": later}).to_string())
}

#[test]
#[ignore = "the server of the other tests, which start it as a process of its own"]
fn serve() {
    let Ok(cores) = std::env::var(CORES) else { return };
    let server = Server::builder("placement", "1").async_tool(Tool::new("ask"), ask).build().expect("valid");
    let options = ServeOptions::default().listen("127.0.0.1:0").tcp("127.0.0.1:0").control("127.0.0.1:0").cores(cores);
    server.serve(options).expect("it serves until it is told to stop");
}

/// What the child said of its plan, and what its tool found.
struct Found {
    /// The CPUs of its cores.
    cores: Vec<String>,
    control: String,
    offload: String,
    /// Of `core`, `offload`, `blocking`, `later`: the CPUs and the thread.
    asked: Value,
    /// Every other thread's name and CPUs.
    threads: Vec<(String, String)>,
}

fn find(cores: usize) -> Found {
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    command.args(["--exact", "serve", "--ignored", "--nocapture"]).env(CORES, cores.to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("itself");
    let found = look(&mut child);
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill(1)");
    assert!(told.success() && child.wait().expect("our child").success(), "it drains and ends well");
    found
}

fn look(child: &mut Child) -> Found {
    let mut report = Vec::new();
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let address = loop {
        let line = stderr.next().unwrap_or_else(|| panic!("no address: {report:?}"));
        if let Some(rest) = line.strip_prefix("MCP over TCP:") {
            break rest.split_whitespace().next().expect("an address").to_owned();
        }
        report.push(line);
    };
    // Whatever else it says is read, so that it never waits for us.
    std::thread::spawn(move || stderr.for_each(drop));
    let said = |begin: &str| {
        let line = report.iter().find_map(|line| line.strip_prefix(begin)).unwrap_or_else(|| panic!("{report:?}"));
        line.trim().strip_prefix("CPUs ").and_then(|rest| rest.split(' ').next()).expect("CPUs").to_owned()
    };
    let table = report.iter().skip_while(|line| !line.starts_with("core ")).skip(1);
    let row = |line: &String| {
        let mut words = line.split_whitespace().map(str::parse::<usize>);
        words.next()?.ok()?;
        Some(words.next()?.ok()?.to_string())
    };
    let cores = table.map_while(row).collect();
    let stream = TcpStream::connect(&address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
    (&stream).write_all(format!("{call}\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).expect("it answers");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let asked: Value = serde_json::from_str(text).expect("what the tool wrote");
    let (control, offload) = (said("control"), said("offload"));
    // A core may answer before the control thread has run for the first time.
    let deadline = Instant::now() + PATIENCE;
    let mut threads = threads_of(child.id());
    while !threads.contains(&("corelane-contro".to_owned(), control.clone())) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
        threads = threads_of(child.id());
    }
    Found { cores, control, offload, asked, threads }
}

fn threads_of(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let read = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        Some((field("Name:")?, field("Cpus_allowed_list:")?))
    };
    tasks.filter_map(read).collect()
}

/// Each thread stands where the report says; none but the cores' own is on a single core's CPU by inheritance.
fn check(found: &Found) {
    let cpus = |who: &str| found.asked[who][0].as_str().expect("CPUs").to_owned();
    let thread = |who: &str| found.asked[who][1].as_str().expect("a thread").to_owned();
    assert!(found.cores.contains(&cpus("core")), "{} is none of {:?}", cpus("core"), found.cores);
    for who in ["offload", "blocking", "later"] {
        assert_eq!(cpus(who), found.offload, "{who}");
        assert_ne!(thread(who), thread("core"), "{who}");
    }
    let named = |prefix: &str| found.threads.iter().filter(|(name, _)| name.starts_with(prefix)).collect::<Vec<_>>();
    let (control, pool) = (named("corelane-contr"), named("corelane-offlo"));
    assert!(!control.is_empty() && control.iter().all(|(_, cpus)| *cpus == found.control), "{:?}", found.threads);
    assert!(pool.len() >= 2 && pool.iter().all(|(_, cpus)| *cpus == found.offload), "{:?}", found.threads);
}

#[test]
fn the_pool_leaves_a_cores_cpu_alone() {
    let found = find(1);
    check(&found);
    let cpus = std::thread::available_parallelism().expect("known").get();
    if cpus > 1 {
        assert_ne!(found.offload, found.cores[0], "there is a CPU to spare");
        assert!(!found.offload.split([',', '-']).any(|cpu| cpu == found.cores[0]), "{}", found.offload);
    }
}

#[test]
fn with_no_cpu_to_spare_the_pool_shares_all_of_them() {
    let cpus = std::thread::available_parallelism().expect("known").get();
    let found = find(cpus.min(64));
    check(&found);
    assert_eq!(found.cores.len(), cpus.min(64));
}
