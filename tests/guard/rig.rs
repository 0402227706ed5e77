//! A guard with children whose news are collected, a process to be killed, and eyes on /proc.
//!
//! Invariant: a process that a test starts is known by its marker, a number of seconds to sleep that nobody else has.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use corelane::sys::guard::{
    AttendedGuard, Child, ChildId, ChildNews, CommandSpec, Ending, Guard, GuardHandle, SpawnError, clean_environment,
};

/// How long anything may take before it counts as lost, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Grace enough for whoever hears SIGTERM.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long it may take, after a kill, until nobody is left.
pub const PROMPT: Duration = Duration::from_secs(5);
/// Says that the process is to be killed, and holds the script of its child.
pub const VICTIM: &str = "CORELANE_GUARD_VICTIM";

/// A guard, and what it is asked by.
pub struct Guarded {
    pub guard: AttendedGuard,
    pub handle: GuardHandle,
}

/// A child whose news come here.
pub struct Asked {
    pub id: ChildId,
    pub news: Receiver<ChildNews>,
}

/// A child that has started.
pub struct Running {
    pub id: ChildId,
    pub pid: u32,
    pub stdin: Option<File>,
    pub stdout: File,
    pub stderr: File,
    news: Receiver<ChildNews>,
}

pub fn guarded() -> Guarded {
    let guard = Guard::fork().expect("there is one thread").attend(None).expect("threads and descriptors");
    let handle = guard.handle();
    Guarded { guard, handle }
}

impl Guarded {
    pub fn ask(&self, command: CommandSpec) -> Asked {
        ask(&self.handle, command)
    }

    pub fn start(&self, command: CommandSpec) -> Running {
        self.ask(command).started()
    }

    pub fn failure(&self, command: CommandSpec) -> SpawnError {
        match self.ask(command).next() {
            ChildNews::Failed(error) => error,
            other => panic!("{other:?} instead of a failure"),
        }
    }

    /// Ends it; nobody is left.
    pub fn end(self) {
        let pid = self.guard.pid();
        let began = Instant::now();
        self.guard.end();
        assert!(began.elapsed() < PROMPT, "it took {:?}", began.elapsed());
        assert!(!is_there(pid), "the guard is gone, and waited for");
    }
}

pub fn ask(handle: &GuardHandle, command: CommandSpec) -> Asked {
    let (tell, news): (Sender<ChildNews>, _) = channel();
    // Whoever has lost interest does not hear.
    let id = handle.spawn(command, move |news| drop(tell.send(news)));
    Asked { id, news }
}

impl Asked {
    pub fn next(&self) -> ChildNews {
        self.news.recv_timeout(PATIENCE).expect("news in time")
    }

    pub fn started(self) -> Running {
        let Child { id, pid, stdin, stdout, stderr } = match self.next() {
            ChildNews::Started(child) => child,
            other => panic!("{other:?} instead of a child"),
        };
        assert_eq!(id, self.id);
        Running { id, pid, stdin: Some(stdin.into()), stdout: stdout.into(), stderr: stderr.into(), news: self.news }
    }
}

impl Running {
    /// Writes a line and reads what comes back of it.
    pub fn echo(&mut self, line: &str) -> String {
        let mut stdin = self.stdin.as_ref().expect("it is open");
        stdin.write_all(line.as_bytes()).expect("somebody reads");
        let mut answer = vec![0; line.len()];
        self.stdout.read_exact(&mut answer).expect("somebody answers");
        String::from_utf8(answer).expect("what was written")
    }

    /// All that it writes until it ends.
    pub fn output(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("text");
        text
    }

    pub fn ending(&self) -> Ending {
        self.ending_within(PATIENCE)
    }

    pub fn ending_within(&self, time: Duration) -> Ending {
        match self.news.recv_timeout(time).expect("news in time") {
            ChildNews::Ended(ending) => ending,
            other => panic!("{other:?} instead of an end"),
        }
    }

    pub fn has_no_news(&self) -> bool {
        self.news.try_recv().is_err()
    }
}

/// A command without a shell.
pub fn command(words: &[&str]) -> CommandSpec {
    let mut command = CommandSpec::new(words[0]);
    command.arguments = words[1..].iter().map(Into::into).collect();
    command
}

/// A command that is a shell's script. The marker is `$M` in it.
pub fn script(text: &str, marker: &str) -> CommandSpec {
    let mut command = command(&["sh", "-c", text]);
    command.environment = clean_environment([("M".into(), marker.into())]);
    command
}

/// A time to sleep that is longer than any test, and nobody else's.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("31415.{}{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes that sleep so long, by their numbers.
pub fn sleepers(marker: &str) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == marker.as_bytes())
    };
    pids().filter(is_one).collect()
}

/// Waits until so many sleep.
pub fn until_sleeping(count: usize, marker: &str) {
    until(&format!("{count} processes sleep"), || sleepers(marker).len() == count);
}

pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether there is such a process, be it a zombie.
pub fn is_there(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// A line of /proc/PID/status.
pub fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("there is such a line").trim().to_owned()
}

/// Whether there is such a process, and not only what its parent has not yet taken note of.
pub fn is_running(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

pub fn parent_of(pid: u32) -> u32 {
    status(pid, "PPid").parse().expect("a number")
}

pub fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|of| of.trim() == parent.to_string()))
    };
    pids().filter(is_child).collect()
}

pub fn descriptors_of(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is there").flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: needed because the standard library does not signal. The call takes two numbers.
    let result = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process with a guard and a child of this script, to be killed; and the number of its guard. An heir is a fork of
/// it that holds all its descriptors.
pub fn start_victim(text: &str, marker: &str, with_heir: bool) -> (std::process::Child, u32) {
    let mut victim = Command::new(std::env::current_exe().expect("this program has a path"))
        .env_remove(super::ALONE)
        .env(VICTIM, text)
        .env("M", marker)
        .env("HEIR", if with_heir { "yes" } else { "no" })
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut line = String::new();
    let stdout = victim.stdout.take().expect("it is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("it says its guard's number");
    (victim, line.trim().parse().expect("a number"))
}

/// The process itself.
pub fn victim() -> ! {
    let variable = |name| std::env::var(name).expect("it was given");
    let guarded = guarded();
    let _running = guarded.start(script(&variable(VICTIM), &variable("M")));
    if variable("HEIR") == "yes" {
        // SAFETY: needed because the standard library only forks to execute. There are other threads, so the new
        // process may only make system calls, and does: it waits, and should it be forgotten, an alarm ends it.
        unsafe {
            if libc::fork() == 0 {
                libc::alarm(60);
                loop {
                    libc::pause();
                }
            }
        }
    }
    println!("{}", guarded.guard.pid());
    loop {
        std::thread::park();
    }
}
