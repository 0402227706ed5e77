//! The control thread dies: another goes on with what it had, and neither calls nor children notice. One that dies
//! again and again is given up.
//!
//! What dies is real: the program here serves by the library and logs for itself, and its log panics on the control
//! thread when that has read the configuration again. Not here: the same in one process (`src/control/tests.rs`).
//! A guard is forked while there is one thread, which a test of the usual harness never is; so this is a program of its
//! own, and starts itself as what it tests. Invariant: nothing here waits longer than `PATIENCE` for a peer.

// What the tests of the wire use to talk to a process; not all of it is used here.
#[allow(dead_code)]
#[path = "../wire/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../wire/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../wire/request.rs"]
mod request;

use std::io::{self, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

use corelane::{Context, NoArguments, ServeOptions, Tool};
use process::{PATIENCE, Server, below, until};
use request::{Request, echo, modern, sleep, text};

/// How often the control thread is to die, in what is tested.
const DEATHS: &str = "CONTROL_DEATHS";
/// What it has to say to die.
const LAST_WORDS: &[u8] = b"the configuration was read again";

fn main() -> ExitCode {
    if let Some(deaths) = std::env::var_os(DEATHS) {
        let deaths = deaths.to_str().and_then(|deaths| deaths.parse().ok()).expect("a number");
        return serve(deaths);
    }
    // By the options of the usual harness that list tests or leave them out: this is one.
    if std::env::args().skip(1).any(|argument| argument == "--list" || argument == "--ignored") {
        return ExitCode::SUCCESS;
    }
    another_goes_on_and_nobody_notices();
    one_that_dies_again_and_again_is_given_up();
    println!("control_death: ok");
    ExitCode::SUCCESS
}

/// How many deaths are left.
static DEATHS_LEFT: AtomicU32 = AtomicU32::new(0);

/// A log that ends its thread.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_control = std::thread::current().name() == Some("corelane-control");
        if is_control && bytes.windows(LAST_WORDS.len()).any(|words| words == LAST_WORDS) {
            let left = |left: u32| left.checked_sub(1);
            let dies = DEATHS_LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok();
            assert!(!dies, "the log ends its thread");
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn serve(deaths: u32) -> ExitCode {
    DEATHS_LEFT.store(deaths, Ordering::Relaxed);
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init();
    let own = Tool::new("own");
    let server = corelane::Server::builder("test", "1").tool(own, |_: NoArguments, _: &Context| "own").build();
    match server.expect("the server is well-formed").serve(ServeOptions::from_args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A process by this file whose control thread dies so often.
fn start(file: &Path, deaths: u32) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    command.args(["--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--cores", "2"]).arg("--config").arg(file);
    // What a panic prints with a trace takes longer than what is waited for.
    command.env(DEATHS, deaths.to_string()).env("RUST_BACKTRACE", "0");
    Server::run(command, &[])
}

fn another_goes_on_and_nobody_notices() {
    let folder = tempfile::tempdir().expect("a place for files");
    let (file, socket) = (folder.path().join("corelane.toml"), folder.path().join("admin"));
    let program = env!("CARGO_BIN_EXE_corelane");
    let configured = format!(
        "[control]\nsocket = \"{}\"\n[dial_in]\nlisten = [\"127.0.0.1:0\"]\n\
         [servers.c]\nkind = \"stdio\"\ncommand = \"{program}\"\nargs = [\"stdio\"]\n",
        socket.display()
    );
    std::fs::write(&file, &configured).expect("room for a file");
    let mut gateway = start(&file, 1);
    let call = |arguments| Request::modern(&modern(1, "tools/call", arguments)).target("/mcp/c");
    let mut peers: Vec<_> = (0..2).map(|core| gateway.connect_on(core)).collect();
    for peer in &mut peers {
        until("the child is reached", || (peer.ask(&call(echo("x"))).status == 200).then_some(()));
    }
    let child = below(gateway.pid());
    // In flight while it happens, on both cores.
    for peer in &mut peers {
        peer.send(call(sleep(3000)).bytes());
    }
    gateway.until_total("corelane_calls_in_flight", 2);

    std::fs::write(&file, format!("{configured}# another\n")).expect("room for a file");
    gateway.until_said("the log ends its thread");
    gateway.until_said("it is restarted");
    for peer in &mut peers {
        let answer = peer.answer();
        assert_eq!((answer.status, text(&answer.json())), (200, "slept 3000 ms"), "{}", answer.text());
        assert_eq!(text(&peer.ask(&call(echo("y"))).json()), "y");
    }
    assert_eq!(below(gateway.pid()), child, "the guard and the child are who they were");
    assert_eq!(gateway.total("corelane_calls_in_flight"), 0, "metrics are where they were");

    // All that the thread does, it does again: the administration's socket, servers that dial in, the file, signals.
    let told = Command::new(program).args(["servers", "--socket"]).arg(&socket).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&told.stdout).contains("stdio"), "{told:?}");
    let mut stream = TcpStream::connect(gateway.dial_in).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").expect("it listens");
    let mut refusal = String::new();
    io::Read::read_to_string(&mut stream, &mut refusal).expect("an answer, and the end");
    assert!(refusal.contains("\"error\""), "{refusal}");
    std::fs::write(&file, format!("{configured}prefix = \"k\"\n")).expect("room for a file");
    gateway.until_said("the file is another: the configuration was read again");
    gateway.signal("HUP");
    gateway.until_said("SIGHUP: the configuration was read again");
    gateway.signal("TERM");
    assert!(gateway.wait().success(), "one signal drains, whichever life hears it");
}

fn one_that_dies_again_and_again_is_given_up() {
    let file = tempfile::NamedTempFile::new().expect("a place for files");
    let mut gateway = start(file.path(), u32::MAX);
    for death in 1..=6 {
        std::fs::write(file.path(), format!("# {death}\n{}", "#".repeat(death))).expect("room for a file");
        gateway.until_said_in("the control thread panicked", death);
    }
    gateway.until_said("the control thread, which answers health checks and hears signals, died 6 times");
    assert_eq!(gateway.wait().code(), Some(1));
}
