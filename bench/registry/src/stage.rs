//! The stage: cores that serve, a way to run workers on them, and facts about the machine.
//!
//! Not here: what workers do. Invariant: a worker is a local task of a core; workers are dealt out to the cores in
//! turn.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane::{OnCore, Registry, ServeOptions, Server};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::ranks::Kept;

type Job = Box<dyn FnOnce(OnCore) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

#[derive(Default)]
struct Jobs {
    waiting: Vec<Job>,
    waker: Option<Waker>,
}

/// Cores that serve until the process ends.
pub struct Stage {
    pub registry: Registry,
    jobs: Vec<Arc<Mutex<Jobs>>>,
}

impl Stage {
    /// So many cores and shards.
    pub fn open(cores: usize, shards: usize) -> Result<Stage, Failure> {
        let jobs: Vec<Arc<Mutex<Jobs>>> = (0..cores).map(|_| Arc::default()).collect();
        let on_cores = jobs.clone();
        let (hand, take) = channel();
        let hand = Mutex::new(hand);
        let file = std::env::temp_dir().join(format!("registry-bench-{}.toml", std::process::id()));
        std::fs::write(&file, format!("[cores]\nshards = {shards}\n"))?;
        let options = ServeOptions::default()
            .listen("127.0.0.1:0")
            .control("127.0.0.1:0")
            .cores(cores.to_string())
            .file(&file)
            .with_registry(move |registry| {
                let _ = hand.lock().map(|hand| hand.send(registry));
            })
            .each_core(move |core| {
                let jobs = Arc::clone(&on_cores[core.id().index()]);
                core.clone().spawn(async move {
                    loop {
                        let job = std::future::poll_fn(|context| {
                            let mut jobs = jobs.lock().expect("nobody panics with it");
                            jobs.waker = Some(context.waker().clone());
                            jobs.waiting.pop().map_or(Poll::Pending, Poll::Ready)
                        });
                        let job = job.await;
                        core.spawn(job(core.clone()));
                    }
                });
            });
        let server = Server::builder("registry-bench", "1").build()?;
        std::thread::spawn(move || {
            if let Err(error) = server.serve(options) {
                eprintln!("registry-bench: {error}");
                std::process::exit(2);
            }
        });
        let registry = take.recv()?;
        let stage = Stage { registry, jobs };
        // Every core answers: from here on all of them run.
        (0..cores).for_each(|core| stage.on(core, async |_| ()));
        std::fs::remove_file(file)?;
        Ok(stage)
    }

    pub fn cores(&self) -> usize {
        self.jobs.len()
    }

    /// Has a core do something; what comes of it can be received.
    pub fn begin<T, F>(&self, core: usize, job: impl FnOnce(OnCore) -> F + Send + 'static) -> Receiver<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (send, receive) = channel();
        let job = move |core: OnCore| -> Pin<Box<dyn Future<Output = ()>>> {
            let future = job(core);
            Box::pin(async move {
                let _ = send.send(future.await);
            })
        };
        let mut jobs = self.jobs[core].lock().expect("nobody panics with it");
        jobs.waiting.push(Box::new(job));
        if let Some(waker) = jobs.waker.take() {
            waker.wake();
        }
        receive
    }

    /// Has a core do something and waits for it.
    pub fn on<T, F>(&self, core: usize, job: impl FnOnce(OnCore) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        done(self.begin(core, job))
    }

    /// Runs workers, dealt out to the cores in turn, and waits for all. This thread sleeps until a core's last worker
    /// is done: without a CPU of its own, it would take a core's in the middle of what is measured.
    pub fn work<T, F>(&self, workers: usize, job: impl Fn(usize, OnCore) -> F + Clone + Send + 'static) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let cores = self.cores();
        let begun: Vec<_> = (0..cores)
            .map(|core| {
                let job = job.clone();
                self.begin(core, move |on| all(on, (core..workers).step_by(cores), job))
            })
            .collect();
        let mut results: Vec<(usize, T)> = begun.into_iter().flat_map(done).collect();
        results.sort_by_key(|(worker, _)| *worker);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Runs workers of one core side by side, until the last is done.
async fn all<T, F>(
    core: OnCore,
    workers: impl Iterator<Item = usize>,
    job: impl Fn(usize, OnCore) -> F,
) -> Vec<(usize, T)>
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let finished = Rc::new(RefCell::new((Vec::new(), None::<Waker>)));
    let mut count = 0;
    for worker in workers {
        count += 1;
        let (finished, work) = (Rc::clone(&finished), job(worker, core.clone()));
        core.spawn(async move {
            let result = work.await;
            let (results, waker) = &mut *finished.borrow_mut();
            results.push((worker, result));
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        });
    }
    std::future::poll_fn(|context| {
        let (results, waker) = &mut *finished.borrow_mut();
        if results.len() == count {
            return Poll::Ready(std::mem::take(results));
        }
        *waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

/// What comes of a job; one that does not end within five minutes ends the process.
fn done<T>(job: Receiver<T>) -> T {
    match job.recv_timeout(Duration::from_secs(300)) {
        Ok(done) => done,
        Err(_) => {
            eprintln!("registry-bench: a worker panicked or did not end within five minutes");
            std::process::exit(2);
        }
    }
}

/// Waits until a future is ready or its time is up.
pub async fn within<T>(core: &OnCore, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut late) = (Box::pin(future), Box::pin(core.sleep(time)));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// What was measured on, and how.
#[derive(Serialize, Deserialize, Clone)]
pub struct Ground {
    pub command: String,
    pub commit: String,
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub load_average: String,
    pub unix_time: u64,
}

impl Ground {
    pub fn now() -> Ground {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let git = |arguments: &[&str]| {
            let output = std::process::Command::new("git").args(arguments).output();
            output.map(|git| String::from_utf8_lossy(&git.stdout).trim().to_owned()).unwrap_or_default()
        };
        // Tables that were made a moment ago are not what is measured.
        let is_changed = !git(&["status", "--porcelain", "--", ":/", ":(top,exclude)bench/results"]).is_empty();
        let commit = git(&["describe", "--always"]) + if is_changed { "-dirty" } else { "" };
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Ground {
            command: format!("registry-bench {}", arguments.join(" ")),
            commit,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            unix_time: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    pub fn line(&self) -> String {
        format!(
            "`{}`, commit {}, kernel {}, {} x {}, load average {} at the start, at unix time {}",
            self.command, self.commit, self.kernel, self.cpus, self.cpu, self.load_average, self.unix_time
        )
    }
}

/// What a run leaves: where it was made, its rows as they are, and whether every target was met.
#[derive(Serialize)]
pub struct Record<R> {
    pub ground: Ground,
    pub rows: Vec<R>,
    pub met: bool,
}

/// A row of a table of figures.
#[derive(Serialize, Clone)]
pub struct Row {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    pub target: String,
    pub met: Option<bool>,
}

impl Row {
    /// A figure without a target.
    pub fn plain(what: impl Into<String>, value: f64, unit: &'static str) -> Row {
        Row { what: what.into(), value, unit, target: String::new(), met: None }
    }

    /// A figure that is to be less than something.
    pub fn below(what: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Row {
        Row { met: Some(value < target), target: format!("< {target}"), ..Row::plain(what, value, unit) }
    }

    /// A figure that is to be at least something.
    pub fn at_least(what: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Row {
        Row { met: Some(value >= target), target: format!(">= {target}"), ..Row::plain(what, value, unit) }
    }
}

/// Writes rows to `file` as JSON and beside it as a table, with the latencies of their ranks as an HDR log, and prints
/// the table. True if every target was met.
pub fn publish(
    ground: Ground,
    title: &str,
    rows: Vec<Row>,
    kept: &Kept,
    file: &std::path::Path,
) -> Result<bool, Failure> {
    let met = rows.iter().all(|row| row.met != Some(false));
    let mut page = format!("# {title}\n\n{}\n\n| what | measured | target | met |\n|---|---|---|---|\n", ground.line());
    for row in &rows {
        let value = if row.value.abs() >= 1000.0 { format!("{:.0}", row.value) } else { format!("{:.3}", row.value) };
        let met = row.met.map_or("", |met| if met { "yes" } else { "**no**" });
        page.push_str(&format!("| {} | {value} {} | {} | {met} |\n", row.what, row.unit, row.target));
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    kept.write(file, ground.unix_time)?;
    std::fs::write(file, serde_json::to_string_pretty(&Record { ground, rows, met })? + "\n")?;
    std::fs::write(file.with_extension("md"), &page)?;
    println!("{page}");
    Ok(met)
}

/// Memory of this process, in KiB.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Context switches of all threads of this process so far.
pub fn context_switches() -> u64 {
    // SAFETY: the kernel writes one rusage into `usage`, which outlives the call; all zero is a valid one.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    (usage.ru_nvcsw + usage.ru_nivcsw) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlog;
    use crate::ranks::Ranks;
    use crate::words::Dice;

    #[test]
    fn every_rank_of_a_result_is_in_the_log_beside_it() {
        let file = std::env::temp_dir().join(format!("registry-bench-{}.json", std::process::id()));
        let (mut dice, mut kept, mut rows) = (Dice::new(7), Kept::default(), Vec::new());
        for what in ["look-up", "route, of all"] {
            let mut ranks = Ranks::default();
            (0..10_000).for_each(|_| ranks.record(dice.below(1 << 24) as u64));
            kept.keep(what, &ranks);
            for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                rows.push(Row::plain(format!("{what}: {name}"), ranks.us(share), "us"));
            }
        }
        assert!(publish(Ground::now(), "A table", rows.clone(), &kept, &file).expect("written"));
        let entries = hlog::read(&file.with_extension("hlog")).expect("a log");
        let text = std::fs::read_to_string(&file).expect("a record");
        ["json", "md", "hlog"].iter().for_each(|end| std::fs::remove_file(file.with_extension(end)).expect("there"));
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(entries.iter().map(|entry| entry.tag.as_str()).collect::<Vec<_>>(), ["look-up", "route__of_all"]);
        for (number, row) in read["rows"].as_array().expect("rows").iter().enumerate() {
            let histogram = entries[number / 3].histogram().expect("it can be read");
            let found = histogram.value_at_quantile([0.5, 0.95, 0.99][number % 3]) as f64 / 1e3;
            let told = row["value"].as_f64().expect("a figure");
            assert!((found - told).abs() <= told / 1000.0, "{}: {found} in the log", row["what"]);
        }
    }

    #[test]
    fn a_result_without_ranks_has_no_log() {
        let file = std::env::temp_dir().join(format!("registry-bench-rates-{}.json", std::process::id()));
        publish(Ground::now(), "Rates", vec![Row::plain("a rate", 1.0, "/s")], &Kept::default(), &file)
            .expect("written");
        assert!(!file.with_extension("hlog").exists());
        ["json", "md"].iter().for_each(|end| std::fs::remove_file(file.with_extension(end)).expect("there"));
    }
}
