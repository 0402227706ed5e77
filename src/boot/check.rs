//! `corelane check`: would `serve` start here with this configuration, how, and if not, what is to be changed.
//!
//! Not here: the verdicts on limits and sysctls (`host`), and changing anything.
//! Invariant: whatever can be tried is tried with the code that `serve` runs (a core's ring, the executor, the
//! listeners) and let go again; nothing is served, and nobody can connect for longer than one probe takes.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::advice::{MEMLOCK_BYTES_PER_CORE, advised};
use super::host::{Finding, HostNeeds, HostReadings, HostReport, Severity};
use super::plan::{CoreRequest, Plan};
use super::topology::Topology;
use super::{BootError, cut, launch, load, pins, servers};
use crate::config::{Config, NonDefault, ServerKind, ServerSettings, Settings};
use crate::limits::table_for;
use crate::runtime;
use crate::shard::range::BoundaryTable;
use crate::sys::limits::{self, Resource};
use crate::sys::socket::{ListenError, listen_group};
use crate::uring::{Disabled, Driver, Features};

/// Open files of a core, where they cannot be counted: its ring, its bell, and its executor's three rings and eventfd.
const OPEN_FILES_PER_CORE: u64 = 6;
/// Open files beside the cores': the control thread's and the offload pool's polling, signals, the control address, and
/// some for whoever asks there.
const OPEN_FILES_BESIDE: u64 = 24;

/// What is looked at that has, or has not, room for the connections that are expected.
const ROOM: [&str; 5] =
    ["MemAvailable", "RLIMIT_NOFILE", "cores.expected_connections", "fs.file-max", "uring.descriptors"];

/// Looks at the host, prints what was found and what would be done.
///
/// Of connections that are expected, `serve` starts with less room than they need, and so their want is a warning. Who
/// asks for so many in particular (`--connections`) asks whether they find room, and is answered by the exit code too.
pub(super) fn check(config: Config, is_asked_for_room: bool) -> Result<(), BootError> {
    let disabled = Disabled::from_environment().map_err(BootError::Environment)?;
    let non_defaults = config.non_defaults();
    let settings = config.into_settings();
    let readings = HostReadings::of_this_host()?;
    // As `serve` does, so that what follows is tried under the limit it would have.
    let nofile = limits::raise(Resource::Nofile)?.now.soft;
    limits::raise(Resource::Memlock)?;

    let topology = Topology::of_this_host()?;
    let plan = launch::request(&settings).and_then(|request| plan(&topology, &request));
    let eligible = format!("CPUs among {}", topology.eligible());
    let cores = plan.as_ref().map_or(1, |plan| plan.cores.len());
    let mut report = HostReport::new(&readings, &needs(&settings, cores));
    report.findings.push(match &plan {
        Ok(plan) => ok("cores.list", counted(plan.cores.len(), "core"), &eligible),
        Err(error) => fail("cores.list", "not possible here", &eligible, error),
    });
    let table = BoundaryTable::new(load::shards(&settings.cores, cores), cores);
    report.findings.push(match &table {
        Ok(table) => ok("cores.shards", table.shards().to_string(), &format!(">= {cores}, the cores")),
        Err(error) => fail("cores.shards", "not possible", &format!(">= {cores}, the cores"), error),
    });
    report.findings.push(load::room(&settings, cores));

    let features = Features::probe(disabled);
    report.findings.push(match &features {
        Ok(features) => probed(features),
        Err(error) => fail("io_uring", "not usable", "the features of Linux 6.1", error),
    });
    let driver = cut::driver(&settings, nofile, listeners(&settings));
    report.findings.push(match &driver {
        Ok(driver) => descriptors(&settings, u64::from(driver.descriptors), nofile, cores),
        Err(error) => fail("uring.descriptors", "too few", "a slot for each listener, and clients", error),
    });
    let before = open_files();
    let mut with_a_core = None;
    if let (Ok(features), Ok(driver)) = (&features, &driver) {
        let wanted = format!("{} descriptors, {} buffers", driver.descriptors, driver.buffers);
        let ring = Driver::new(*driver, *features);
        report.findings.push(match &ring {
            Ok(_) => ok("a core's ring", "opened".into(), &wanted),
            Err(error) => fail("a core's ring", "refused", &wanted, &advised(error)),
        });
        report.findings.push(match runtime::run("corelane-check", async { open_files() }) {
            Ok(counted) => {
                with_a_core = counted.filter(|_| ring.is_ok());
                ok("a core's executor", "made".into(), "one per core")
            }
            Err(error) => fail("a core's executor", "refused", "one per core", &advised(&error)),
        });
    }
    // A bell besides what was opened for the trial.
    let per_core = match (before, with_a_core) {
        (Some(before), Some(with_a_core)) => with_a_core.saturating_sub(before) + 1,
        _ => OPEN_FILES_PER_CORE,
    };
    report.findings.push(files(&settings, before.unwrap_or(3), per_core, nofile, cores));
    doors(&settings, &mut report.findings);
    report.findings.extend(pinned(&settings));
    servers::findings(&settings, std::env::var_os("PATH"), &mut report.findings);

    let mut text = report.to_string();
    let prospect = Prospect {
        settings: &settings,
        non_defaults: &non_defaults,
        plan: plan.as_ref().ok(),
        table: table.as_ref().ok(),
        features: features.as_ref().ok(),
        steering: settings.cores.steering && !disabled.steering,
    };
    write!(text, "{prospect}").expect("a string takes everything");
    let fits = report.worst() < Severity::Fail;
    let wants_room = |finding: &Finding| ROOM.contains(&finding.name) && finding.severity >= Severity::Warn;
    let has_no_room = is_asked_for_room && report.findings.iter().any(wants_room);
    let connections = settings.cores.expected_connections.get();
    let no_room = format!(
        "\ncorelane would serve here, but has no room for {connections} connections: the advice says what to change.\n"
    );
    text += match report.worst() {
        Severity::Note | Severity::Warn if has_no_room => no_room.as_str(),
        Severity::Ok => "\ncorelane would serve here.\n",
        Severity::Note | Severity::Warn => {
            "\ncorelane would serve here; the advice above says what it could do better.\n"
        }
        Severity::Fail => "\ncorelane would not serve here: change what is marked FAIL.\n",
    };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader of a pipe has seen enough; the exit code still tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    match (fits, has_no_room) {
        (false, _) => Err(BootError::NotFit),
        (true, true) => Err(BootError::NoRoom(connections)),
        (true, false) => Ok(()),
    }
}

fn plan(topology: &Topology, request: &CoreRequest) -> Result<Plan, BootError> {
    Ok(Plan::new(topology, request)?)
}

/// What the configuration asks of the host.
fn needs(settings: &Settings, cores: usize) -> HostNeeds {
    let ports = settings.serve.listen.iter().chain(&settings.serve.tcp).chain([&settings.control.listen]);
    HostNeeds {
        cores,
        direct_descriptors_per_ring: descriptors_wanted(settings, cores),
        memlock_bytes_per_core: MEMLOCK_BYTES_PER_CORE,
        backlog: settings.serve.backlog.u32(),
        connections: settings.cores.expected_connections.get(),
        memory_bytes: load::memory(&settings.cores, cores),
        outgoing_connections_max: outgoing(settings, cores),
        listen_ports: ports.map(SocketAddr::port).filter(|port| *port != 0).collect(),
    }
}

/// Most connections that all cores open to one server behind: ports are counted for each address.
fn outgoing(settings: &Settings, cores: usize) -> u64 {
    let enabled = settings.servers.iter().filter(|(_, server)| server.enabled);
    (enabled.map(|(_, server)| server.opened_per_core()).max().unwrap_or(0) * cores) as u64
}

/// Descriptors each ring needs for its part of the expected connections, for accepting and for polite refusals.
fn descriptors_wanted(settings: &Settings, cores: usize) -> u64 {
    let expected = load::per_core(&settings.cores, cores);
    settings.uring.descriptors.fixed().unwrap_or(table_for(expected, listeners(settings)) as u64)
}

/// Most listeners of one core.
fn listeners(settings: &Settings) -> usize {
    let serve = &settings.serve;
    serve.listen.len() + serve.tcp.len() + serve.unix.len()
}

/// How many files this process has open, with the one that it reads the number from.
fn open_files() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// Whether so many cores may open what each of them needs, beside what is open already.
fn files(settings: &Settings, open: u64, per_core: u64, nofile: u64, cores: usize) -> Finding {
    let serve = &settings.serve;
    // One to read and one to write, and one while it is being heard.
    let dialled = |server: &ServerSettings| match &server.kind {
        ServerKind::DialIn(dial_in) if server.enabled => 2 * dial_in.connections.get(),
        _ => 0,
    };
    let dialled = settings.servers.iter().map(|(_, server)| dialled(server)).sum::<u64>();
    let entrance = match settings.dial_in.listen.len() as u64 {
        0 => 0,
        listeners => listeners + settings.dial_in.unknown_max.get(),
    };
    let open = open + dialled + entrance;
    let each = per_core + (serve.listen.len() + serve.tcp.len()) as u64;
    let needed = open + OPEN_FILES_BESIDE + serve.unix.len() as u64 + each * cores as u64;
    let (seen, wanted) = (format!("{nofile} allowed"), format!(">= {needed}, {each} per core"));
    if nofile >= needed {
        return ok("open files", seen, &wanted);
    }
    let advice = format!(
        "{} would not start, or could not be asked how it is: `ulimit -n {needed}`, or LimitNOFILE={needed} in the \
         unit, or fewer cores",
        counted(cores, "core")
    );
    Finding { name: "open files", severity: Severity::Fail, seen, wanted, advice }
}

/// Whether the connections that are expected find room in the tables of rings.
pub(super) fn descriptors(settings: &Settings, per_ring: u64, nofile: u64, cores: usize) -> Finding {
    let seen = format!("{per_ring} per ring, {} in all", per_ring * cores as u64);
    let expected = settings.cores.expected_connections.get();
    let wanted = format!("{expected} connections, and a reserve");
    if per_ring > nofile {
        let advice = format!(
            "a ring's table cannot be larger than the hard limit of open files, {nofile}: \
             set LimitNOFILE={per_ring} in the unit, or lower uring.descriptors"
        );
        return Finding { name: "uring.descriptors", severity: Severity::Fail, seen, wanted, advice };
    }
    if per_ring < descriptors_wanted(settings, cores) {
        let advice = "fewer connections fit than cores.expected_connections says; raise LimitNOFILE, or use more cores";
        return Finding { name: "uring.descriptors", severity: Severity::Warn, seen, wanted, advice: advice.into() };
    }
    ok("uring.descriptors", seen, &wanted)
}

fn probed(features: &Features) -> Finding {
    let missing = features.missing();
    let wanted = "all features corelane uses";
    if missing.is_empty() {
        return ok("io_uring", "all there".into(), wanted);
    }
    let advice = missing.join("\n      ");
    let seen = format!("{} missing", missing.len());
    Finding { name: "io_uring", severity: Severity::Note, seen, wanted: wanted.into(), advice }
}

/// Whether what is pinned of servers' tools could be read, if there is a file for it.
fn pinned(settings: &Settings) -> Option<Finding> {
    let path = settings.gateway.pins.as_path()?.display();
    Some(match pins::look(settings) {
        Ok(Some(servers)) => ok("gateway.pins", format!("{path}: {}", counted(servers, "server")), "readable"),
        Ok(None) => ok("gateway.pins", format!("{path}: not there yet"), "readable, or not there"),
        Err(error) => fail("gateway.pins", "refused", "a file of pins, or none", &error),
    })
}

/// Every address and path that would be listened on, each tried.
fn doors(settings: &Settings, findings: &mut Vec<Finding>) {
    for &address in &settings.serve.listen {
        findings.push(port("serve.listen", address));
    }
    for &address in &settings.serve.tcp {
        findings.push(port("serve.tcp", address));
    }
    for path in &settings.serve.unix {
        findings.push(unix("serve.unix", path.as_path()));
    }
    findings.push(port("control.listen", settings.control.listen));
    for &address in &settings.dial_in.listen {
        findings.push(port("dial_in.listen", address));
    }
}

fn port(name: &'static str, address: SocketAddr) -> Finding {
    match listen_group(address, 1, 1) {
        Ok(_) => ok(name, address.to_string(), "free"),
        Err(error @ ListenError::InUse { .. }) => match holder(&inodes_of(address)) {
            Some(pid) => ours(name, address.to_string(), pid),
            None => fail(name, &address.to_string(), "free", &error),
        },
        Err(error) => fail(name, &address.to_string(), "free", &error),
    }
}

/// A path is looked at and not bound: binding would leave a file, or remove one that a dead process left.
fn unix(name: &'static str, path: &Path) -> Finding {
    let seen = path.display().to_string();
    match path.symlink_metadata() {
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if folder.is_dir() {
                ok(name, seen, "free")
            } else {
                fail(name, &seen, "free", &"its folder does not exist")
            }
        }
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            fail(name, &seen, "free", &"a file that is no socket has that name; remove it or choose another path")
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ok(name, seen, "free, or left by the dead")
            }
            Err(error) => fail(name, &seen, "free", &error),
            Ok(_) => match holder(&inodes_at(path)) {
                Some(pid) => ours(name, seen, pid),
                None => fail(name, &seen, "free", &"another program listens there; choose another path"),
            },
        },
    }
}

/// Inodes of the sockets that listen on the port of `address`, as /proc/net lists them.
fn inodes_of(address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let lines = text("/proc/net/tcp") + &text("/proc/net/tcp6");
    let port = format!(":{:04X}", address.port());
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        (fields.len() > 9 && fields[1].ends_with(&port) && fields[3] == LISTEN).then(|| fields[9].to_owned())
    };
    lines.lines().filter_map(inode).collect()
}

/// The same for the Unix socket at a path.
fn inodes_at(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        (fields.len() > 7 && Path::new(fields[7]) == path).then(|| fields[6].to_owned())
    };
    text.lines().filter_map(inode).collect()
}

/// The process that holds one of these sockets, if it runs the same program as we do and we may look at it.
fn holder(inodes: &[String]) -> Option<u32> {
    let program = |pid: &str| {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
    };
    let ours = program("self")?;
    let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &str| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| sockets.iter().any(|socket| link == Path::new(socket)))
        })
    };
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let pid = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
        (program(pid).as_ref() == Some(&ours) && holds(pid)).then(|| pid.parse().ok()).flatten()
    })
}

fn ours(name: &'static str, seen: String, pid: u32) -> Finding {
    let advice = format!("a corelane already listens there (process {pid}): it can be restarted, not started twice");
    Finding { name, severity: Severity::Note, seen, wanted: "free".into(), advice }
}

pub(super) fn ok(name: &'static str, seen: String, wanted: &str) -> Finding {
    Finding { name, severity: Severity::Ok, seen, wanted: wanted.into(), advice: String::new() }
}

pub(super) fn fail(name: &'static str, seen: &str, wanted: &str, why: &dyn fmt::Display) -> Finding {
    Finding { name, severity: Severity::Fail, seen: seen.into(), wanted: wanted.into(), advice: why.to_string() }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What would be done: who runs where, and how connections find their core.
struct Prospect<'a> {
    settings: &'a Settings,
    non_defaults: &'a [NonDefault],
    plan: Option<&'a Plan>,
    table: Option<&'a BoundaryTable>,
    features: Option<&'a Features>,
    steering: bool,
}

impl fmt::Display for Prospect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plan) = self.plan {
            writeln!(f, "\n{plan}")?;
            let pinned = if self.settings.cores.pin { "pinned" } else { "not pinned, as configured" };
            writeln!(f, "threads: {}, {pinned}; one control thread", counted(plan.cores.len(), "core"))?;
            let steering = match (plan.cores.len(), self.steering) {
                (1, _) => "none, there is one core",
                (_, true) => "by a program in the kernel, from addresses and ports",
                (_, false) => "switched off, the kernel's own hash chooses the core",
            };
            writeln!(f, "steering: {steering}")?;
        }
        if let Some(table) = self.table {
            let why = load::why_so_many(&self.settings.cores, table.cores());
            writeln!(f, "shards: {}, one contiguous range per core; {why}", table.shards())?;
        }
        if let Some(features) = self.features {
            let bell = if features.msg_ring { "MSG_RING" } else { "eventfd" };
            let receive = match (features.recv_multishot, features.recv_limit) {
                (true, true) => "multishot with a byte limit",
                (true, false) => "multishot",
                _ => "armed singly",
            };
            writeln!(f, "ring: receives {receive}, bells by {bell}")?;
        }
        write!(f, "{}", servers::Shown(self.settings))?;
        if self.non_defaults.is_empty() {
            return writeln!(f, "configuration: all defaults");
        }
        writeln!(f, "configuration, where it differs from the defaults:")?;
        self.non_defaults.iter().try_for_each(|setting| writeln!(f, "  {setting}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_cannot_be_registered_fails_and_a_small_one_warns() {
        let settings = Settings::default();
        assert_eq!(descriptors(&settings, 262_144, 1 << 20, 2).severity, Severity::Ok);
        let small = descriptors(&settings, 1024, 1024, 2);
        assert!(small.severity == Severity::Warn && small.advice.contains("LimitNOFILE"), "{small:?}");
        let refused = descriptors(&settings, 65_536, 1024, 2);
        assert!(refused.severity == Severity::Fail && refused.advice.contains("LimitNOFILE=65536"), "{refused:?}");
    }

    #[test]
    fn every_core_needs_its_open_files() {
        let settings = Settings::default();
        let needed = 5 + OPEN_FILES_BESIDE + 2 * 7;
        assert_eq!(files(&settings, 5, 6, needed, 2).severity, Severity::Ok);
        let few = files(&settings, 5, 6, needed - 1, 2);
        assert!(few.severity == Severity::Fail && few.advice.contains(&format!("LimitNOFILE={needed}")), "{few:?}");
        assert_eq!(files(&settings, 5, 6, needed, 3).severity, Severity::Fail, "a core more");
    }

    #[test]
    fn the_socket_of_a_listener_is_found_and_its_holder_is_us() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let inodes = inodes_of(listener.local_addr().expect("bound"));
        assert!(!inodes.is_empty(), "listed in /proc/net");
        assert_eq!(holder(&inodes), Some(std::process::id()));
        assert_eq!(holder(&["0".to_owned()]), None, "nobody holds what is not there");
    }

    #[test]
    fn unix_paths_are_judged_without_being_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mcp.sock");
        assert_eq!(unix("serve.unix", &path).severity, Severity::Ok);
        assert_eq!(unix("serve.unix", &folder.path().join("none/mcp.sock")).severity, Severity::Fail);
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("free");
        assert_eq!(unix("serve.unix", &path).severity, Severity::Note, "held by this very program");
        drop(listener);
        assert_eq!(unix("serve.unix", &path).severity, Severity::Ok, "left by the dead");
        assert!(path.exists(), "looked at, not removed");
        std::fs::remove_file(&path).expect("ours");
        std::fs::write(&path, "precious").expect("writable");
        assert_eq!(unix("serve.unix", &path).severity, Severity::Fail);
    }
}
