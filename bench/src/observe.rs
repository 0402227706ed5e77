//! What /proc tells about the server and the machine, before and after.
//!
//! It measures nothing by itself and keeps nothing open. CPU time comes from the scheduler's own nanosecond count, so a
//! busy machine disturbs the time things take but not the CPU that they cost.
//!
//! Invariant: a file that is missing or does not parse gives `None`, never a zero that would look like a measurement.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Failure, server::SETTING};

/// How long a server may take to show its metrics.
const METRICS_LIMIT: Duration = Duration::from_secs(5);

/// How the names of corelane's core threads begin; a number follows.
const CORE_THREAD: &str = "corelane-";

/// What a thread did with its time, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub ran: u64,
    /// It had work, and waited for a CPU that another used.
    pub waited: u64,
}

/// The time of each thread of a process: the first two fields of its schedstat. A thread that ended is not in it.
pub fn threads(pid: u32) -> Option<BTreeMap<u32, Spent>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let time = |task: fs::DirEntry| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        // A thread may end between the listing and the reading; it then counts no more than one that ended before.
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut fields = text.split(' ').map_while(|field| field.parse().ok());
        Some((thread, Spent { ran: fields.next()?, waited: fields.next()? }))
    };
    let times: BTreeMap<u32, Spent> = tasks.flatten().filter_map(time).collect();
    // A process always has a thread that has run.
    times.values().any(|spent| spent.ran > 0).then_some(times)
}

/// CPU time of all threads of a process, in ns.
pub fn cpu_ns(pid: u32) -> Option<u64> {
    threads(pid).map(|times| times.values().map(|spent| spent.ran).sum())
}

/// Resident memory of a process in bytes (VmRSS).
pub fn rss_bytes(pid: u32) -> Option<u64> {
    kib_field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The kernel's slab memory in bytes: all of it, and the part that cannot be reclaimed.
pub fn slab_bytes() -> Option<(u64, u64)> {
    Some((kib_field("/proc/meminfo", "Slab:")?, kib_field("/proc/meminfo", "SUnreclaim:")?))
}

/// How many ACKs of this network namespace were sent because a timer ended that waits for something to go with them:
/// Linux waits 40 ms and longer. Such an ACK costs both sides, whichever of them was late.
pub fn delayed_acks() -> Option<u64> {
    tcp_count(None, "DelayedACKs")
}

/// A count that the kernel keeps of TCP, of a process's network namespace or of this one's, since that began.
pub fn tcp_count(pid: Option<u32>, name: &str) -> Option<u64> {
    let of = pid.map_or("self".into(), |pid| pid.to_string());
    tcp_count_in(&fs::read_to_string(format!("/proc/{of}/net/netstat")).ok()?, name)
}

/// Each group is two lines: the names, then the values.
fn tcp_count_in(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|column| column == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// What a CPU has done since the machine began, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuTime {
    pub total: u64,
    pub idle: u64,
    /// In interrupts, the soft ones included.
    pub interrupts: u64,
}

/// All CPUs, in their order.
pub fn cpu_times() -> Option<Vec<CpuTime>> {
    let times = cpu_times_in(&fs::read_to_string("/proc/stat").ok()?);
    (!times.is_empty()).then_some(times)
}

/// `cpuN user nice system idle iowait irq softirq steal guest guest_nice`; a guest's time is also a user's.
fn cpu_times_in(stat: &str) -> Vec<CpuTime> {
    let of = |line: &str| {
        let (name, ticks) = line.split_once(' ')?;
        name.strip_prefix("cpu")?.parse::<usize>().ok()?;
        let ticks: Vec<u64> = ticks.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [_, _, _, idle, waits, hard, soft, ..] = ticks[..] else { return None };
        Some(CpuTime { total: ticks.iter().take(8).sum(), idle: idle + waits, interrupts: hard + soft })
    };
    stat.lines().filter_map(of).collect()
}

/// Bytes of memory of this machine: all, and what is left for whoever asks.
pub fn memory() -> Option<(u64, u64)> {
    Some((kib_field("/proc/meminfo", "MemTotal:")?, kib_field("/proc/meminfo", "MemAvailable:")?))
}

/// How many files a process has open, and its soft limit.
pub fn open_files(pid: u32) -> Option<(u64, u64)> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some((open, line.split_whitespace().next()?.parse().ok()?))
}

/// How many threads of a process are cores, by their names: each has a ring of its own.
pub fn core_threads(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let is_core = |task: &fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim().strip_prefix(CORE_THREAD).is_some_and(|number| number.parse::<u32>().is_ok())
    };
    tasks.flatten().filter(is_core).count() as u64
}

/// What a server shows at its control address as Prometheus text, at one moment.
pub struct Metrics(String);

impl Metrics {
    /// Asks for it.
    pub fn of(control: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect_timeout(&control, METRICS_LIMIT).ok()?;
        stream.set_read_timeout(Some(METRICS_LIMIT)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(Self(text))
    }

    /// The largest value of a metric, of all cores.
    pub fn max(&self, name: &str) -> Option<f64> {
        self.values(name).reduce(f64::max)
    }

    /// The values of all cores together.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.values(name).reduce(|one, other| one + other)
    }

    /// `name{labels} value` and `name value`; other metrics may begin with the same name.
    fn values(&self, name: &str) -> impl Iterator<Item = f64> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        })
    }
}

/// The CPU time of a process as the kernel's tick sees it: what ran when it fell. Coarse, but it tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticks {
    user: u64,
    kernel: u64,
}

impl Ticks {
    /// Of the ticks since then, in percent, how many found it in the kernel; nothing of fewer than a hundred.
    pub fn kernel_percent_since(self, then: Self) -> Option<f64> {
        let (user, kernel) = (self.user.saturating_sub(then.user), self.kernel.saturating_sub(then.kernel));
        (user + kernel >= 100).then(|| 100.0 * kernel as f64 / (user + kernel) as f64)
    }
}

/// Of all threads of a process, those that ended included.
pub fn ticks(pid: u32) -> Option<Ticks> {
    ticks_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, the second field, may hold anything; fields 14 and 15 are the time in user space and in the kernel.
fn ticks_in(stat: &str) -> Option<Ticks> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map_while(|field| field.parse().ok());
    Some(Ticks { user: fields.next()?, kernel: fields.next()? })
}

fn kib_field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The machine and the moment, so that a figure can be judged later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    pub command: Vec<String>,
    pub commit: Option<String>,
    pub kernel: Option<String>,
    pub cpu_model: Option<String>,
    pub cores: usize,
    pub governor: Option<String>,
    /// Load average over one minute when the run began: what else the machine was doing.
    pub load_average: Option<f64>,
    pub unix_time: u64,
    /// What of corelane's settings is not the default; none in records made before that was so.
    #[serde(default)]
    pub setting: Option<String>,
}

impl Environment {
    /// Begins a page that is made from a record: by which command, on which machine, of what.
    pub fn describe(&self, page: &mut String, comparison: &str) -> fmt::Result {
        writeln!(page, "Made by `corelane-bench {comparison} --render` from the JSON beside it.\n")?;
        writeln!(page, "- Command: `{}`", self.command.join(" "))?;
        writeln!(page, "- {}", self.machine())?;
        match &self.setting {
            None => Ok(()),
            Some(setting) => writeln!(
                page,
                "- corelane runs with `{setting}`, and otherwise with its defaults: a connection of the generator stands for \
                 many clients, and one client's may send 10,000 messages a second unless that is set"
            ),
        }
    }

    /// The commit, the machine and the moment, in one line.
    pub fn machine(&self) -> String {
        format!(
            "{}, load average at the start {}, at unix time {}",
            self.place(),
            self.load_average.map_or("unknown".into(), |load| load.to_string()),
            self.unix_time
        )
    }

    /// The commit and the machine, which several measurements may share.
    pub fn place(&self) -> String {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        format!(
            "Commit {}, kernel {}, {} x {}, governor {}",
            or(&self.commit),
            or(&self.kernel),
            self.cores,
            or(&self.cpu_model),
            or(&self.governor)
        )
    }

    /// The machine's CPUs, by which records of different machines are told apart.
    pub fn cpus(&self) -> String {
        format!("{} x {}", self.cores, self.cpu_model.as_deref().unwrap_or("unknown"))
    }

    /// Prints a report as JSON, with this beside it. A comparison says it once for all the reports that it reads.
    pub fn print_with(&self, report: &impl Serialize) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Printed<'a, T> {
            #[serde(flatten)]
            report: &'a T,
            environment: &'a Environment,
        }
        println!("{}", serde_json::to_string_pretty(&Printed { report, environment: self })?);
        Ok(())
    }

    /// As it is now.
    pub fn now() -> Self {
        let trimmed = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_string());
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            command: command(),
            commit: commit(),
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            cpu_model: model.map(|(_, name)| name.trim().to_string()),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            governor: trimmed("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_average: trimmed("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            unix_time: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            setting: Some(format!("{}={}", SETTING.0, SETTING.1)),
        }
    }
}

/// The command line, with paths below the working directory written from there, and others by their last part alone:
/// where somebody keeps the project and what it was built to is no part of a result.
fn command() -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let relative = |word: String| {
        let path = Path::new(&word);
        let kept = path.strip_prefix(&here).ok().or(path.file_name().filter(|_| path.is_absolute()).map(Path::new));
        kept.map_or(word.clone(), |path| path.display().to_string())
    };
    std::env::args().map(relative).collect()
}

/// The commit that is checked out where this runs, with `-dirty` if the tree differs; results apart, which every run
/// leaves behind. Whoever measures programs that were built before runs it in a clone of the commit that they are of.
fn commit() -> Option<String> {
    let git = |words: &[&str]| {
        let done = Command::new("git").args(words).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_string())
    };
    let commit = git(&["describe", "--always", "--abbrev=12", "--exclude=*"])?;
    let changed = git(&["status", "--porcelain", "--", ":/", ":(top,exclude)bench/results"])?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name_and_is_of_all_cores() {
        let text = "# HELP gap_seconds x\ngap_seconds{core=\"0\"} 0.25\ngap_seconds{core=\"1\"} 1.5e-1\ngap_seconds_sum 9\nplain 3\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!((metrics.max("gap_seconds"), metrics.sum("gap_seconds")), (Some(0.25), Some(0.4)));
        assert_eq!((metrics.max("plain"), metrics.sum("gap")), (Some(3.0), None));
    }

    #[test]
    fn the_kernels_share_is_of_the_ticks_of_both() {
        let stat = "42 (a) b) S 1 2 3 4 -1 6 7 8 9 10 150 50 0 0 20 0 3 0";
        let then = ticks_in(stat).expect("both are there");
        assert_eq!(then, Ticks { user: 150, kernel: 50 });
        let now = Ticks { user: 180, kernel: 140 };
        assert_eq!(now.kernel_percent_since(then), Some(75.0));
        assert_eq!(Ticks { user: 200, kernel: 99 }.kernel_percent_since(then), None, "too few to say");
        assert_eq!(ticks_in("42 (a) S 1 2"), None);
    }

    #[test]
    fn counts_of_tcp_are_found_by_their_name() {
        let netstat =
            "TcpExt: SyncookiesSent DelayedACKs DelayedACKLocked\nTcpExt: 3 71 9\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(tcp_count_in(netstat, "DelayedACKs"), Some(71));
        assert_eq!(tcp_count_in("TcpExt: SyncookiesSent\nTcpExt: 3\n", "DelayedACKs"), None);
        assert_eq!(tcp_count_in("", "DelayedACKs"), None);
    }

    #[test]
    fn the_times_of_each_cpu_are_read_and_not_their_sum() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 100 100\ncpu1 0 0 0 1 0 0 1 0 0 0\nintr 5 6\ncpufreq 1\n";
        let time = |total, idle, interrupts| CpuTime { total, idle, interrupts };
        assert_eq!(cpu_times_in(stat), [time(72, 45, 13), time(2, 1, 1)]);
    }
}
