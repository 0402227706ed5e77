//! `scripts/flamegraph.sh` on a process of its own: this one, whose threads are called like cores and burn in functions
//! that say whose they are.
//!
//! Not here: what corelane does under load. Invariant: where `perf` can sample, nothing is left out; where it cannot,
//! the test says so in words and passes.

use std::{
    fs,
    hint::black_box,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Fewer samples than this, of 499 a second of CPU time, say that the thread was hardly seen.
const SAMPLES_MIN: u64 = 20;

/// What a thread does until it is told to stop.
type Work = fn(&AtomicBool);

#[inline(never)]
fn burn_in_core_zero(stop: &AtomicBool) {
    let mut turns = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turns = black_box(turns.wrapping_mul(3));
    }
}

#[inline(never)]
fn burn_in_core_one(stop: &AtomicBool) {
    let mut turns = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turns = black_box(turns.wrapping_add(7));
    }
}

fn sleep_in_core(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::park();
    }
}

fn perf_can_sample() -> bool {
    let tried =
        Command::new("perf").args("record --quiet --event cpu-clock --output /dev/null -- true".split(' ')).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    // Past the harness, which keeps to itself what a test prints that passes.
    let _ = writeln!(io::stderr(), "NOT RUN: flame: perf cannot be run here: {why}");
    false
}

fn flamegraph(out: &Path, more: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binaries = Path::new(env!("CARGO_BIN_EXE_corelane-bench")).parent().expect("it is in a folder");
    let mut command = Command::new(root.join("scripts/flamegraph.sh"));
    command.arg("--binaries").arg(binaries).arg("--out").arg(out).args(more);
    command.output().expect("bash")
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flame").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("room");
    folder
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What was drawn of a thread: the graph, and its stacks.
fn drawn(out: &Path, name: &str) -> [String; 2] {
    ["svg", "folded"].map(|end| fs::read_to_string(out.join(format!("{name}.{end}"))).expect("it was drawn"))
}

fn samples(folded: &str) -> u64 {
    folded.lines().map(|line| line.rsplit(' ').next().expect("a count").parse::<u64>().expect("a count")).sum()
}

#[test]
fn a_graph_holds_no_other_threads_samples() {
    if !perf_can_sample() {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let burners: [(&str, Work); 4] = [
        // As an executor's second thread, which has its core's name.
        ("corelane-0", sleep_in_core),
        ("corelane-0", burn_in_core_zero),
        ("corelane-1", burn_in_core_one),
        ("corelane-2", sleep_in_core),
    ];
    let burners = burners.map(|(name, burn)| {
        let stop = stop.clone();
        thread::Builder::new().name(name.into()).spawn(move || burn(&stop)).expect("a thread")
    });
    // The one that ran longest is the core, so it has to have run.
    thread::sleep(Duration::from_millis(300));
    let pid = std::process::id().to_string();
    let run = |name: &str, more: &[&str]| {
        let out = folder(name);
        let output = flamegraph(&out, &[&["--pid", &pid], more].concat());
        (output.status.code(), said(&output), out)
    };

    // Both are sampled in one go, so that it is the drawing which has to tell them apart.
    let (status, words, out) = run("two", &["--core", "0", "--core", "1", "--seconds", "1"]);
    assert_eq!(status, Some(0), "{words}");
    for (name, own, others) in [
        ("corelane-0", "burn_in_core_zero", "burn_in_core_one"),
        ("corelane-1", "burn_in_core_one", "burn_in_core_zero"),
    ] {
        for text in drawn(&out, name) {
            assert!(text.contains(own), "{name} has its own samples");
            assert!(!text.contains(others), "{name} has samples of the other thread");
        }
        let [_, folded] = drawn(&out, name);
        assert!(samples(&folded) >= SAMPLES_MIN, "{name}:\n{folded}");
        assert!(folded.lines().all(|line| line.starts_with(&format!("{name};"))), "{folded}");
    }
    let index = fs::read_to_string(out.join("index.html")).expect("there is an index");
    assert!(index.contains("href=\"corelane-0.svg\"") && index.contains("href=\"corelane-1.svg\""), "{index}");
    assert!(index.contains("scripts/flamegraph.sh --core 0 --core 1 --seconds 1 --pid PID"), "{index}");

    let (status, words, out) = run("one", &["--core", "1", "--seconds", "0.5"]);
    assert_eq!(status, Some(0), "{words}");
    assert!(drawn(&out, "corelane-1")[0].contains("burn_in_core_one"));
    assert!(!out.join("corelane-0.svg").exists());

    let (status, words, out) = run("all", &["--all", "--seconds", "0.5"]);
    assert!(status == Some(1) && words.contains("no sample of corelane-2"), "{status:?}: {words}");
    assert!(drawn(&out, "corelane-0")[0].contains("burn_in_core_zero"), "the others are drawn all the same");

    let (status, words, _) = run("none", &["--core", "7", "--seconds", "0.5"]);
    assert!(
        status == Some(2) && words.contains("there is no core 7; there are: corelane-0 corelane-1 corelane-2"),
        "{words}"
    );

    stop.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.thread().unpark();
        burner.join().expect("it ends");
    }
}

#[test]
fn a_difference_shows_what_grew() {
    let out = folder("difference");
    let [before, after] = [("before", "a;b 9\na;c 1\n"), ("after", "a;b 10\na;c 10\n")].map(|(name, text)| {
        let file = out.join(format!("{name}.folded"));
        fs::write(&file, text).expect("room");
        file.to_str().expect("a plain path").to_owned()
    });
    let output = flamegraph(&out, &["--difference", &before, &after]);
    assert!(output.status.success(), "{}", said(&output));
    // As if the first had twenty samples as well: 9 of 10 are 18, 1 of 10 is 2.
    assert_eq!(fs::read_to_string(out.join("difference.folded")).expect("it is kept"), "a;b 18 10\na;c 2 10\n");
    let svg = fs::read_to_string(out.join("difference.svg")).expect("it was drawn");
    assert!(svg.contains("c (10 samples, 50.00%; +40.00%)"), "{svg}");
    let output = flamegraph(&out, &["--difference", &before, "no-such-file"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("no-such-file"), "{}", said(&output));
}
