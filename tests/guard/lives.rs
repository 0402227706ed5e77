//! What children are given, what they can do, and what keeps them from being started.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use corelane::sys::guard::{ChildNews, Ending, Guard, GuardError, SpawnError};
use corelane::sys::limits::{self, Resource};

use super::Test;
use super::rig::*;

pub const TESTS: &[Test] = &[
    ("lives::cat_echoes_and_ends_with_its_input", cat_echoes_and_ends_with_its_input),
    ("lives::nothing_of_ours_reaches_a_child", nothing_of_ours_reaches_a_child),
    ("lives::limits_and_directory_are_those_of_the_command", limits_and_directory_are_those_of_the_command),
    ("lives::no_shell_has_a_say", no_shell_has_a_say),
    ("lives::what_cannot_be_started_says_why", what_cannot_be_started_says_why),
    ("lives::children_outlive_the_thread_that_asked", children_outlive_the_thread_that_asked),
    ("lives::two_hundred_children_leave_nothing_behind", two_hundred_children_leave_nothing_behind),
    ("lives::a_guard_short_of_descriptors_says_so_and_recovers", a_guard_short_of_descriptors_says_so_and_recovers),
    ("lives::there_is_no_guard_beside_threads", there_is_no_guard_beside_threads),
];

/// It ended by itself, with this code.
fn exited(code: i32) -> Ending {
    Ending::Exited(ExitStatus::from_raw(code << 8))
}

fn cat_echoes_and_ends_with_its_input() {
    let guarded = guarded();
    let mut cat = guarded.start(command(&["cat"]));
    assert_eq!(cat.echo("hello\n"), "hello\n");
    let mut complaint = guarded.start(command(&["sh", "-c", "echo a complaint >&2; exit 3"]));
    let mut text = String::new();
    complaint.stderr.read_to_string(&mut text).expect("text");
    assert_eq!((text.as_str(), complaint.ending()), ("a complaint\n", exited(3)));

    let keeper = parent_of(cat.pid);
    assert_eq!(status(keeper, "Name"), "corelane-keeper");
    assert_eq!(
        (status(guarded.guard.pid(), "Name").as_str(), parent_of(keeper)),
        ("corelane-guard", guarded.guard.pid())
    );
    assert_eq!(parent_of(guarded.guard.pid()), std::process::id());
    assert!(cat.has_no_news());

    drop(cat.stdin.take());
    assert_eq!(cat.ending(), exited(0));
    assert!(!is_there(cat.pid) && !is_there(keeper), "reaped, both of them");
    guarded.end();
}

fn nothing_of_ours_reaches_a_child() {
    // What a program may have done before its guard is forked.
    let leaked = File::open("/dev/null").expect("a descriptor");
    // SAFETY: needed because the standard library closes every descriptor on exec. Numbers are taken.
    unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
    // SAFETY: needed because the standard library has no signals. No function of ours is called by any.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
    let guarded = guarded();
    let beside = guarded.start(command(&["cat"]));

    let mut env = command(&["env"]);
    let path = std::env::var("PATH").expect("PATH is set");
    env.environment = vec![
        ("PATH".into(), path.clone().into()),
        ("KEY".into(), "given first".into()),
        ("EMPTY".into(), "".into()),
        ("KEY".into(), "two words".into()),
    ];
    let printed = guarded.start(env).output();
    assert_eq!(printed.lines().collect::<Vec<_>>(), [&format!("PATH={path}"), "EMPTY=", "KEY=two words"]);
    let inherited = guarded.start(command(&["env"])).output();
    assert!(inherited.contains(&format!("PATH={path}")) && !inherited.contains(super::ALONE), "{inherited}");

    let listed = guarded.start(command(&["ls", "/proc/self/fd"])).output();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is the folder that ls reads");

    let text = guarded.start(command(&["cat", "/proc/self/status"])).output();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
    };
    for signals in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        assert_eq!(field(signals).trim_matches('0'), "", "{signals}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let mut sudo = command(&["cat", "/proc/self/status"]);
    sudo.may_gain_privileges = true;
    assert!(guarded.start(sudo).output().contains("NoNewPrivs:\t0"));

    // Its own group, no terminal.
    let stat = guarded.start(command(&["cat", "/proc/self/stat"])).output();
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    assert_eq!((fields[2], fields[4]), (stat.split(' ').next().expect("a number"), "0"), "group and terminal: {stat}");
    drop(beside);
    guarded.end();
}

fn limits_and_directory_are_those_of_the_command() {
    let soft = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it is there");
        let line = text.lines().find(|line| line.starts_with("Max open files")).expect("there is such a limit");
        line["Max open files".len()..].split_whitespace().next().expect("a number").to_owned()
    };
    limits::set_soft(Resource::Nofile, 500).expect("less than any host allows");
    let guarded = guarded();
    // As serving does, and the guard as well; what children get is what there was before.
    limits::raise(Resource::Nofile).expect("always allowed");
    assert_ne!(soft(std::process::id()), "500");
    assert_ne!(soft(guarded.guard.pid()), "500");
    let report = "ulimit -Sn; ulimit -Hc; ulimit -Hv; pwd; umask";
    let mut plain = guarded.start(command(&["sh", "-c", report]));
    let mut confined = command(&["sh", "-c", report.replace("-Sn", "-Hn").as_str()]);
    confined.limits.open_files = Some(33);
    confined.limits.address_space_bytes = Some(512 * 1024 * 1024);
    confined.directory = Some("/usr/bin".into());
    let mut confined = guarded.start(confined);
    let (plain, confined) = (plain.output(), confined.output());
    let (plain, confined): (Vec<_>, Vec<_>) = (plain.lines().collect(), confined.lines().collect());
    assert_eq!(plain[..2], ["500", "0"], "what we were given, and no core dump");
    assert_eq!(plain[3], std::env::current_dir().expect("it is there").display().to_string());
    assert_eq!(confined[..2], ["33", "0"]);
    let directory = fs::canonicalize("/usr/bin").expect("every host has it").display().to_string();
    assert_eq!((confined[2], confined[3]), ("524288", directory.as_str()));
    assert_eq!(plain[4], confined[4], "the umask is ours");
    guarded.end();
}

fn script_file(name: &str, text: &str, mode: u32) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("corelane-{}-{name}", std::process::id()));
    File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
    path
}

fn no_shell_has_a_say() {
    let guarded = guarded();
    let mut echo = guarded.start(command(&["echo", "$HOME", "$(id)", "a;b", "*", "'q'"]));
    assert_eq!(echo.output(), "$HOME $(id) a;b * 'q'\n");
    // exec(3) of the C library would ask a shell.
    let path = script_file("no-first-line", "echo a shell reads this\n", 0o755);
    let error = guarded.failure(command(&[path.to_str().expect("text")]));
    assert!(matches!(error, SpawnError::NotAProgram { .. }), "{error}");
    fs::remove_file(path).expect("ours");
    guarded.end();
}

fn what_cannot_be_started_says_why() {
    let guarded = guarded();
    let mut missing = command(&["no-such-command"]);
    missing.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let error = guarded.failure(missing);
    let text = error.to_string();
    assert!(text.contains("command `no-such-command` not found on PATH=/usr/bin:/bin"), "{text}");
    assert!(matches!(guarded.failure(command(&["/no/such/file"])), SpawnError::NoSuchFile { .. }));

    let forbidden = script_file("forbidden", "#!/bin/sh\n", 0o644);
    let error = guarded.failure(command(&[forbidden.to_str().expect("text")]));
    assert!(matches!(error, SpawnError::NotAllowed { .. }), "{error}");
    fs::remove_file(forbidden).expect("ours");
    let orphaned = script_file("orphaned", "#!/no/such/interpreter\n", 0o755);
    let error = guarded.failure(command(&[orphaned.to_str().expect("text")]));
    assert!(matches!(error, SpawnError::Interpreter { .. }), "{error}");
    fs::remove_file(orphaned).expect("ours");

    let mut nowhere = command(&["cat"]);
    nowhere.directory = Some("/no/such/directory".into());
    let error = guarded.failure(nowhere);
    assert!(matches!(&error, SpawnError::Directory { directory, .. } if directory == Path::new("/no/such/directory")));
    let error = guarded.failure(command(&["echo", "x".repeat(70_000).as_str()]));
    assert!(matches!(error, SpawnError::TooLarge { .. }), "{error}");
    assert!(matches!(guarded.failure(command(&["a\0b"])), SpawnError::Invalid { .. }));

    // The longest that may be arrives whole.
    let long = "y".repeat(60_000);
    let mut echo = guarded.start(command(&["echo", &long]));
    assert_eq!((echo.output().trim_end(), echo.ending()), (long.as_str(), exited(0)));
    assert_eq!(children_of(guarded.guard.pid()), [0; 0], "no keeper stays of what was not started");
    guarded.end();
}

fn children_outlive_the_thread_that_asked() {
    let guarded = guarded();
    // As a control thread would that panics and is started again: the children are none of its own.
    let handle = guarded.handle.clone();
    let asking = std::thread::spawn(move || {
        let running = ask(&handle, command(&["cat"])).started();
        std::panic::panic_any(running);
    });
    let mut cat = *asking.join().expect_err("it panicked").downcast::<Running>().expect("its child");
    std::thread::sleep(Duration::from_millis(200));
    assert!(cat.has_no_news());
    assert_eq!(cat.echo("still here\n"), "still here\n");
    let handle = guarded.handle.clone();
    let id = cat.id;
    std::thread::spawn(move || handle.stop(id, GRACE)).join().expect("no panic");
    assert_eq!(cat.ending(), Ending::Exited(ExitStatus::from_raw(libc::SIGTERM)));

    // One who panics at its news harms nobody else.
    let _ = guarded.handle.spawn(command(&["true"]), |_| panic!("at its news"));
    assert_eq!(guarded.start(command(&["cat"])).echo("and now?\n"), "and now?\n");
    guarded.end();
}

fn two_hundred_children_leave_nothing_behind() {
    const CHILDREN: usize = 200;
    let guarded = guarded();
    let us = std::process::id();
    let count = |pid: u32| descriptors_of(pid).len();
    let guard = guarded.guard.pid();
    assert_eq!(guarded.start(command(&["true"])).ending(), exited(0));
    // Its socket and what it waits for, beside the first three.
    until("the guard has closed what it sent", || count(guard) == 6);
    let before = (count(us), count(guard));
    for round in 0..3 {
        let began = Instant::now();
        let asked: Vec<Asked> = (0..CHILDREN).map(|_| guarded.ask(command(&["cat"]))).collect();
        let mut running: Vec<Running> = asked.into_iter().map(Asked::started).collect();
        println!("measured: {CHILDREN} children started in {:?}", began.elapsed());
        assert_eq!(count(us), before.0 + 3 * CHILDREN);
        // It closes what it sent after it is received.
        until("the guard has one link to each keeper", || count(guard) == before.1 + CHILDREN);
        for (number, cat) in running.iter_mut().enumerate() {
            let line = format!("{round} {number}\n");
            assert_eq!(cat.echo(&line), line);
        }
        let began = Instant::now();
        for (number, cat) in running.iter_mut().enumerate() {
            match number % 3 {
                0 => guarded.handle.stop(cat.id, GRACE),
                1 => drop(cat.stdin.take()),
                _ => kill(cat.pid, libc::SIGKILL),
            }
        }
        for (number, cat) in running.iter().enumerate() {
            let expected = [ExitStatus::from_raw(libc::SIGTERM), ExitStatus::default(), ExitStatus::from_raw(9)];
            assert_eq!(cat.ending(), Ending::Exited(expected[number % 3]));
            assert!(!is_there(cat.pid));
        }
        println!("measured: {CHILDREN} children ended in {:?}", began.elapsed());
        drop(running);
        assert_eq!(count(us), before.0, "descriptors");
        until("the guard holds what it held before", || count(guard) == before.1);
        assert_eq!(children_of(guard), [0; 0], "keepers and zombies");
        assert_eq!(children_of(us), [guard]);
    }
    let cat = guarded.start(command(&["cat"]));
    let (guards, keepers) = (status(guard, "RssAnon"), status(parent_of(cat.pid), "RssAnon"));
    println!("measured: anonymous memory: the guard {guards}, a keeper {keepers}");
    guarded.end();
    assert_eq!(children_of(us), [0; 0]);
}

fn a_guard_short_of_descriptors_says_so_and_recovers() {
    let few = libc::rlimit { rlim_cur: 24, rlim_max: 24 };
    // SAFETY: needed because the library only raises soft limits. One limit is read, which outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
    let guarded = guarded();
    let mut running = Vec::new();
    let error = loop {
        match guarded.ask(command(&["cat"])).next() {
            ChildNews::Failed(error) => break error,
            // Its pipes are closed, so it ends by itself; the keeper of a sleeper does not.
            ChildNews::Started(child) => running.push(child),
            other => panic!("{other:?}"),
        }
        assert!(running.len() < 24);
    };
    assert!(
        matches!(error, SpawnError::NoRoom { .. } | SpawnError::NoDescriptors { .. } | SpawnError::Step { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("ulimit"), "{error}");
    drop(running);
    until("there is room again", || {
        let next = guarded.ask(command(&["true"])).next();
        matches!(next, ChildNews::Started(_))
    });
    guarded.end();
}

fn there_is_no_guard_beside_threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    let error = Guard::fork().expect_err("there are two threads");
    assert!(matches!(error, GuardError::Threads { threads: 2 }), "{error}");
    assert!(error.to_string().contains("before anything starts threads"), "{error}");
    drop(stop);
    assert!(thread.join().expect("no panic").is_err());
    // Joined, the thread may be listed a moment longer.
    guarded().end();
    // A guard that nobody attends to ends as well.
    let guard = Guard::fork().expect("there is one thread again");
    let pid = guard.pid();
    drop(guard);
    assert!(!is_there(pid));
}
