//! The guard with real processes: what children are given, how they end, and that nothing of them is ever left.
//!
//! Not here: its parts (`src/sys/guard/`). A guard is forked while there is one thread, which a test of the usual
//! harness never is; so this is a program of its own that runs each test in a process of its own, by the same names and
//! options. Invariant: nothing here waits for ever: a test waits for others for at most `PATIENCE`, and
//! is itself waited for for at most `TEST_TIME_MAX`.

mod endings;
mod lives;
mod rig;

use std::io::{Read, Seek};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names the one test that the process is for.
const ALONE: &str = "CORELANE_GUARD_TEST";
/// A test that takes longer hangs.
const TEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Tests at a time.
const WORKERS_MAX: usize = 4;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let tests: Vec<Test> = [endings::TESTS, lives::TESTS].concat();
    if let Some(name) = std::env::var_os(ALONE) {
        let (_, test) = tests.iter().find(|(known, _)| name == *known).expect("there is such a test");
        test();
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(rig::VICTIM).is_some() {
        rig::victim();
    }
    run(&tests, &Options::of(std::env::args().skip(1)))
}

/// Those options of the usual harness that choose tests; the others change nothing here.
#[derive(Default)]
struct Options {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
}

impl Options {
    fn of(mut arguments: impl Iterator<Item = String>) -> Options {
        let mut options = Options::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--ignored" => options.ignored = true,
                "--skip" => options.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn choose(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        // None of these is ignored.
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}

fn run(tests: &[Test], options: &Options) -> ExitCode {
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| options.choose(name)).collect();
    if options.list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let (began, failed, next) = (Instant::now(), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let work = || {
        while let Some((name, _)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (verdict, said) = alone(name);
            let measured: String = said.split_inclusive('\n').filter(|line| line.starts_with("measured: ")).collect();
            match verdict {
                Ok(()) => println!("{measured}test {name} ... ok"),
                Err(why) => {
                    println!("test {name} ... FAILED\n\n---- {name} ({why}) ----\n{said}");
                    failed.lock().expect("nobody panics").push(*name);
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("nobody panics");
    let passed = chosen.len() - failed.len();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        failed.len(),
        tests.len() - chosen.len(),
        began.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs one test in a process of its own; what it said goes through a file, which nobody has to wait for.
fn alone(name: &str) -> (Result<(), String>, String) {
    let mut said = tempfile::tempfile().expect("a file");
    let heard = || said.try_clone().expect("a descriptor");
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let mut test = command.env(ALONE, name).stdout(heard()).stderr(heard()).spawn().expect("this program starts");
    let began = Instant::now();
    let verdict = loop {
        match test.try_wait().expect("it is ours") {
            Some(status) if status.success() => break Ok(()),
            Some(status) => break Err(status.to_string()),
            None if began.elapsed() > TEST_TIME_MAX => {
                test.kill().and_then(|()| test.wait()).expect("it is ours");
                break Err(format!("it took longer than {TEST_TIME_MAX:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).expect("it can be read");
    (verdict, String::from_utf8_lossy(&text).into_owned())
}
