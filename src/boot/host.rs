//! Whether the host lets corelane do what it was configured for: limits, sysctls, kernel version.
//!
//! Not here: which io_uring features the kernel has (`uring` probes them), and changing anything.
//! Invariant: judging is pure; what was read goes in, findings come out, so every verdict can be tested.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::sys::limits::{self, Limit, Resource};
use crate::sys::memory;

/// The oldest kernel with all that corelane cannot do without (`SINGLE_ISSUER`, `DEFER_TASKRUN`, multishot,
/// `MSG_RING`).
pub const KERNEL_MIN: KernelVersion = KernelVersion { major: 6, minor: 1 };
/// Most entries the kernel allows in a ring's table of direct descriptors, whatever the limits
/// (`IORING_MAX_FIXED_FILES`).
pub const DIRECT_DESCRIPTORS_MAX: u64 = 1 << 20;
/// Memory mappings a process may have by default; arenas, rings and stacks need fewer by far, so only a lowered one
/// matters.
pub const MAP_COUNT_WANTED: u64 = 65_530;

/// Bits of a capability mask, from <linux/capability.h>.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

/// What the configuration asks of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostNeeds {
    /// Cores, as planned.
    pub cores: usize,
    /// Slots in each ring's table of direct descriptors: a core's connections and its reserve.
    pub direct_descriptors_per_ring: u64,
    /// Bytes each core locks in memory.
    pub memlock_bytes_per_core: u64,
    /// Backlog of the listeners.
    pub backlog: u32,
    /// Connections that are expected, over all cores.
    pub connections: u64,
    /// Memory that these take, idle, ours and the kernel's.
    pub memory_bytes: u64,
    /// Most connections to one upstream address at a time; each needs a local port.
    pub outgoing_connections_max: u64,
    /// TCP ports listened on.
    pub listen_ports: Vec<u16>,
}

/// A kernel's version, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KernelVersion {
    /// 6 of 6.1.
    pub major: u32,
    /// 1 of 6.1.
    pub minor: u32,
}

impl KernelVersion {
    /// The version of a release such as `6.18.44-generic`.
    pub fn parse(release: &str) -> Option<Self> {
        let digits = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        let mut parts = release.split('.');
        Some(Self { major: digits(parts.next()?)?, minor: digits(parts.next()?)? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the host says of itself. `None` where the kernel has no such setting or does not show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostReadings {
    /// `uname -r`.
    pub kernel_release: String,
    /// Open files.
    pub nofile: Limit,
    /// Locked memory in bytes.
    pub memlock: Limit,
    /// fs.nr_open: how high a hard limit on open files can be.
    pub nr_open: Option<u64>,
    /// fs.file-nr: files that all processes have open, and how many that may be.
    pub files: Option<(u64, u64)>,
    /// MemAvailable of /proc/meminfo, in bytes.
    pub memory_available: Option<u64>,
    /// net.core.somaxconn.
    pub somaxconn: Option<u64>,
    /// net.ipv4.ip_local_port_range; IPv6 uses it too.
    pub local_ports: Option<RangeInclusive<u16>>,
    /// kernel.io_uring_disabled; kernels before 6.6 have none and allow io_uring.
    pub io_uring_disabled: Option<u64>,
    /// Whether this process may use io_uring where that setting is 1: CAP_SYS_ADMIN, or the group of
    /// kernel.io_uring_group.
    pub io_uring_privileged: bool,
    /// Whether this process may lock memory without limit: CAP_IPC_LOCK.
    pub memlock_privileged: bool,
    /// vm.max_map_count.
    pub max_map_count: Option<u64>,
    /// The choice in force for transparent huge pages: always, madvise or never.
    pub transparent_hugepage: Option<String>,
}

impl HostReadings {
    /// Reads this host.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn of_this_host() -> io::Result<Self> {
        Self::read(Path::new("/"), limits::read(Resource::Nofile)?, limits::read(Resource::Memlock)?)
    }

    /// Reads the files under `root`, laid out as `/`. The limits are arguments because they come from system calls.
    ///
    /// # Errors
    /// When the kernel's release or the process's own status cannot be read.
    pub fn read(root: &Path, nofile: Limit, memlock: Limit) -> io::Result<Self> {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let number = |path: &str| text(path)?.trim().parse::<u64>().ok();
        let status = std::fs::read_to_string(root.join("proc/self/status"))?;
        let capable = |bit: u32| effective_capabilities(&status) >> bit & 1 == 1;
        let in_group =
            number("proc/sys/kernel/io_uring_group").is_some_and(|group| groups(&status).any(|id| id == group));
        Ok(Self {
            kernel_release: std::fs::read_to_string(root.join("proc/sys/kernel/osrelease"))?.trim().into(),
            nofile,
            memlock,
            nr_open: number("proc/sys/fs/nr_open"),
            files: text("proc/sys/fs/file-nr").and_then(|text| parse_file_nr(&text)),
            memory_available: text("proc/meminfo").and_then(|text| memory::field_in_bytes(&text, "MemAvailable")),
            somaxconn: number("proc/sys/net/core/somaxconn"),
            local_ports: text("proc/sys/net/ipv4/ip_local_port_range").and_then(|text| parse_port_range(&text)),
            io_uring_disabled: number("proc/sys/kernel/io_uring_disabled"),
            io_uring_privileged: capable(CAP_SYS_ADMIN) || in_group,
            memlock_privileged: capable(CAP_IPC_LOCK),
            max_map_count: number("proc/sys/vm/max_map_count"),
            transparent_hugepage: text("sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
        })
    }
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn effective_capabilities(status: &str) -> u64 {
    status_field(status, "CapEff").and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// The effective and supplementary groups of the process.
fn groups(status: &str) -> impl Iterator<Item = u64> {
    let effective = status_field(status, "Gid").and_then(|ids| ids.split_ascii_whitespace().nth(1));
    let supplementary = status_field(status, "Groups").unwrap_or("").split_ascii_whitespace();
    supplementary.chain(effective).filter_map(|id| id.parse().ok())
}

fn parse_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// What is open and what may be, of `open free most`.
fn parse_file_nr(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.nth(1)?.parse().ok()?))
}

/// The word in brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.into())
}

/// How much a finding matters, least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// As wanted.
    Ok,
    /// Worth knowing; nothing is lost.
    Note,
    /// It works, with less capacity or a longer tail.
    Warn,
    /// Corelane cannot start.
    Fail,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at, by the name an operator would search for.
    pub name: &'static str,
    /// The verdict.
    pub severity: Severity,
    /// What the host says.
    pub seen: String,
    /// What the configuration wants.
    pub wanted: String,
    /// What to change; empty if there is nothing to.
    pub advice: String,
}

/// Everything looked at, in the order printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostReport {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl HostReport {
    /// Judges the host by what is needed of it.
    pub fn new(seen: &HostReadings, needs: &HostNeeds) -> Self {
        let findings = vec![
            kernel(seen),
            io_uring(seen),
            nofile(seen, needs),
            files(seen, needs),
            memory(seen, needs),
            memlock(seen, needs),
            somaxconn(seen, needs),
            local_ports(seen, needs),
            map_count(seen),
            hugepages(seen),
        ];
        Self { findings }
    }

    /// The gravest verdict.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }
}

fn kernel(seen: &HostReadings) -> Finding {
    let (severity, advice) = match KernelVersion::parse(&seen.kernel_release) {
        Some(version) if version >= KERNEL_MIN => (Severity::Ok, String::new()),
        Some(_) => (Severity::Fail, format!("boot a kernel of version {KERNEL_MIN} or later")),
        None => (Severity::Note, "the release has an unknown form; the io_uring probe decides".into()),
    };
    Finding { name: "kernel", severity, seen: seen.kernel_release.clone(), wanted: format!(">= {KERNEL_MIN}"), advice }
}

fn io_uring(seen: &HostReadings) -> Finding {
    let (severity, advice) = match (seen.io_uring_disabled, seen.io_uring_privileged) {
        (None | Some(0), _) => (Severity::Ok, ""),
        (Some(1), true) => {
            (Severity::Note, "this process may use it; the service must run with the same group or privilege")
        }
        (Some(1), false) => (
            Severity::Fail,
            "sysctl -w kernel.io_uring_disabled=0, or put the group of the service's user into kernel.io_uring_group",
        ),
        (Some(_), _) => {
            (Severity::Fail, "sysctl -w kernel.io_uring_disabled=0; corelane has no other way to reach the network")
        }
    };
    Finding {
        name: "kernel.io_uring_disabled",
        severity,
        seen: shown(seen.io_uring_disabled),
        wanted: "0".into(),
        advice: advice.into(),
    }
}

fn nofile(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = needs.direct_descriptors_per_ring;
    let Limit { soft, hard } = seen.nofile;
    let (severity, advice) = if wanted > DIRECT_DESCRIPTORS_MAX {
        let most = needs.cores as u64 * DIRECT_DESCRIPTORS_MAX.min(hard);
        let advice = format!(
            "a ring holds at most {DIRECT_DESCRIPTORS_MAX} descriptors whatever the limit, \
             {} cores {most} together; plan more cores",
            needs.cores
        );
        (Severity::Warn, advice)
    } else if wanted > hard {
        let raise = if seen.nr_open.is_some_and(|most| wanted > most) {
            format!("sysctl -w fs.nr_open={wanted} and LimitNOFILE={wanted}")
        } else {
            format!("LimitNOFILE={wanted}")
        };
        let most = needs.cores as u64 * hard;
        let advice = format!(
            "{} cores will hold {most} connections together, no more; \
             set {raise} in the unit, or plan several cores per CPU",
            needs.cores
        );
        (Severity::Warn, advice)
    } else if wanted > soft {
        (Severity::Note, "the soft limit is raised at start; children get the old one back".into())
    } else {
        (Severity::Ok, String::new())
    };
    Finding {
        name: "RLIMIT_NOFILE",
        severity,
        seen: format!("{} soft, {} hard", bounded(soft), bounded(hard)),
        wanted: format!(">= {wanted}, per ring"),
        advice,
    }
}

/// A socket that lives in a ring's table only is a file all the same, and counts with those of all processes.
fn files(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = needs.connections;
    let (severity, advice) = match seen.files {
        None => (Severity::Note, UNKNOWN.into()),
        Some((open, most)) if most.saturating_sub(open) >= wanted => (Severity::Ok, String::new()),
        Some((open, _)) => {
            let most = open.saturating_add(wanted);
            let advice = format!("all processes together may open no more; sysctl -w fs.file-max={most}");
            (Severity::Warn, advice)
        }
    };
    let left = seen.files.map(|(open, most)| most.saturating_sub(open));
    Finding {
        name: "fs.file-max",
        severity,
        seen: left.map_or("unknown".into(), |left| format!("{} left", bounded(left))),
        wanted: format!(">= {wanted}, the connections"),
        advice,
    }
}

fn memory(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = needs.memory_bytes;
    let (severity, advice) = match seen.memory_available {
        None => (Severity::Note, UNKNOWN.into()),
        Some(available) if available >= wanted => (Severity::Ok, String::new()),
        Some(_) => {
            let advice = "so many connections would not fit even if all were idle; free some memory, \
                          or lower cores.expected_connections";
            (Severity::Warn, advice.into())
        }
    };
    Finding {
        name: "MemAvailable",
        severity,
        seen: seen.memory_available.map_or("unknown".into(), mebibytes),
        wanted: format!(">= {}, {} idle connections", mebibytes(wanted), needs.connections),
        advice,
    }
}

fn memlock(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = (needs.cores as u64).saturating_mul(needs.memlock_bytes_per_core);
    let Limit { soft, hard } = seen.memlock;
    let (severity, advice) = if soft >= wanted {
        (Severity::Ok, String::new())
    } else if seen.memlock_privileged && hard >= needs.memlock_bytes_per_core {
        (Severity::Note, "the limit does not bind a process with CAP_IPC_LOCK; the service must have it too".into())
    } else if hard >= wanted {
        (Severity::Note, "the soft limit is raised at start".into())
    } else {
        (Severity::Fail, format!("set LimitMEMLOCK={wanted} in the unit, or raise `ulimit -l`"))
    };
    Finding {
        name: "RLIMIT_MEMLOCK",
        severity,
        seen: format!("{} soft, {} hard", bytes(soft), bytes(hard)),
        wanted: format!(">= {}", bytes(wanted)),
        advice,
    }
}

fn somaxconn(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = u64::from(needs.backlog);
    let (severity, advice) = match seen.somaxconn {
        None => (Severity::Note, UNKNOWN.into()),
        Some(most) if most >= wanted => (Severity::Ok, String::new()),
        Some(most) => {
            let advice = format!("backlogs are cut to {most} without a word; sysctl -w net.core.somaxconn={wanted}");
            (Severity::Warn, advice)
        }
    };
    Finding {
        name: "net.core.somaxconn",
        severity,
        seen: shown(seen.somaxconn),
        wanted: format!(">= {wanted}, the backlog"),
        advice,
    }
}

fn local_ports(seen: &HostReadings, needs: &HostNeeds) -> Finding {
    let wanted = needs.outgoing_connections_max;
    let (severity, advice) = match &seen.local_ports {
        None => (Severity::Note, UNKNOWN.into()),
        Some(range) if (range.len() as u64) < wanted => {
            let advice = format!(
                "an upstream address gets at most {} connections at a time; \
                 sysctl -w net.ipv4.ip_local_port_range='1024 65535', \
                 or give the upstream more addresses",
                range.len()
            );
            (Severity::Warn, advice)
        }
        Some(range) => match needs.listen_ports.iter().find(|port| range.contains(port)) {
            Some(port) => {
                let advice = format!(
                    "port {port} is in the range, so an outgoing connection of any program \
                     may hold it when corelane starts; \
                     sysctl -w net.ipv4.ip_local_reserved_ports={port}"
                );
                (Severity::Note, advice)
            }
            None => (Severity::Ok, String::new()),
        },
    };
    Finding {
        name: "net.ipv4.ip_local_port_range",
        severity,
        seen: seen.local_ports.as_ref().map_or("unknown".into(), |range| format!("{} {}", range.start(), range.end())),
        wanted: format!(">= {wanted} ports"),
        advice,
    }
}

fn map_count(seen: &HostReadings) -> Finding {
    let (severity, advice) = match seen.max_map_count {
        None => (Severity::Note, UNKNOWN.into()),
        Some(most) if most >= MAP_COUNT_WANTED => (Severity::Ok, String::new()),
        Some(_) => (Severity::Warn, format!("sysctl -w vm.max_map_count={MAP_COUNT_WANTED}, the kernel's default")),
    };
    Finding {
        name: "vm.max_map_count",
        severity,
        seen: shown(seen.max_map_count),
        wanted: format!(">= {MAP_COUNT_WANTED}"),
        advice,
    }
}

fn hugepages(seen: &HostReadings) -> Finding {
    let (severity, advice) = match seen.transparent_hugepage.as_deref() {
        Some("madvise" | "never") => (Severity::Ok, ""),
        Some(_) => (
            Severity::Note,
            "memory used here and there is rounded up to 2 MiB pages; \
             echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        None => (Severity::Note, UNKNOWN),
    };
    Finding {
        name: "transparent_hugepage",
        severity,
        seen: seen.transparent_hugepage.clone().unwrap_or("unknown".into()),
        wanted: "madvise".into(),
        advice: advice.into(),
    }
}

const UNKNOWN: &str = "the kernel does not show it here; look on the host itself if this is a container";

fn shown(value: Option<u64>) -> String {
    value.map_or("unknown".into(), |value| value.to_string())
}

fn bounded(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

fn bytes(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { format!("{} KiB", limit / 1024) }
}

fn mebibytes(amount: u64) -> String {
    format!("{} MiB", amount.div_ceil(1024 * 1024))
}

/// The table that `corelane check` prints; the advice stands under the line it belongs to.
impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |cell: fn(&Finding) -> &str| self.findings.iter().map(|finding| cell(finding).len()).max().unwrap_or(0);
        let (names, seen) = (width(|finding| finding.name), width(|finding| &finding.seen));
        writeln!(f, "{:<4}  {:<names$}  {:<seen$}  wanted", "", "what", "seen")?;
        for Finding { name, severity, seen: value, wanted, advice } in &self.findings {
            writeln!(f, "{severity:<4}  {name:<names$}  {value:<seen$}  {wanted}")?;
            if !advice.is_empty() {
                writeln!(f, "      {advice}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
