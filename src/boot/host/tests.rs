//! Verdicts on hosts that need not exist.
//!
//! Not here: tuning.
//! Invariant: each test changes one reading of a host that is good in every respect.

use super::*;

const UNLIMITED: Limit = Limit { soft: u64::MAX, hard: u64::MAX };

fn needs() -> HostNeeds {
    HostNeeds {
        cores: 8,
        direct_descriptors_per_ring: 16_384,
        memlock_bytes_per_core: 512 * 1024,
        backlog: 4096,
        connections: 100_000,
        memory_bytes: 700 << 20,
        outgoing_connections_max: 1000,
        listen_ports: vec![8080],
    }
}

fn good() -> HostReadings {
    HostReadings {
        kernel_release: "6.18.44-generic".into(),
        nofile: Limit { soft: 1 << 20, hard: 1 << 20 },
        memlock: UNLIMITED,
        nr_open: Some(1 << 20),
        files: Some((5_000, 105_000)),
        memory_available: Some(700 << 20),
        somaxconn: Some(4096),
        local_ports: Some(32_768..=60_999),
        io_uring_disabled: Some(0),
        io_uring_privileged: false,
        memlock_privileged: false,
        max_map_count: Some(MAP_COUNT_WANTED),
        transparent_hugepage: Some("madvise".into()),
    }
}

/// The one finding that is not ok, after the readings were changed.
fn finding(change: impl FnOnce(&mut HostReadings, &mut HostNeeds)) -> Finding {
    let (mut seen, mut needs) = (good(), needs());
    change(&mut seen, &mut needs);
    let report = HostReport::new(&seen, &needs);
    let mut others = report.findings.iter().filter(|finding| finding.severity != Severity::Ok);
    let finding = others.next().expect("the change matters").clone();
    assert_eq!(others.next(), None, "the change matters to one finding only");
    assert_eq!(report.worst(), finding.severity);
    assert!(!finding.advice.is_empty());
    finding
}

#[test]
fn a_good_host_is_ok_in_every_respect() {
    let report = HostReport::new(&good(), &needs());
    assert_eq!(report.worst(), Severity::Ok, "\n{report}");
    assert!(report.findings.iter().all(|finding| finding.advice.is_empty()));
}

#[test]
fn old_kernels_fail() {
    for release in ["5.15.0-91-generic", "6.0.19"] {
        let finding = finding(|seen, _| seen.kernel_release = release.into());
        assert_eq!((finding.name, finding.severity), ("kernel", Severity::Fail));
    }
    for release in ["6.1.0", "6.1-rc3", "7.0.0+", "10.2"] {
        assert!(KernelVersion::parse(release).expect("a version") >= KERNEL_MIN, "{release}");
    }
    assert_eq!(finding(|seen, _| seen.kernel_release = "mainline".into()).severity, Severity::Note);
}

#[test]
fn io_uring_switched_off_fails_unless_we_are_privileged() {
    let off = finding(|seen, _| seen.io_uring_disabled = Some(2));
    assert_eq!(off.severity, Severity::Fail);
    assert!(off.advice.contains("kernel.io_uring_disabled=0"));
    let off = finding(|seen, _| (seen.io_uring_disabled, seen.io_uring_privileged) = (Some(2), true));
    assert_eq!(off.severity, Severity::Fail);
    let group = finding(|seen, _| seen.io_uring_disabled = Some(1));
    assert!(group.severity == Severity::Fail && group.advice.contains("io_uring_group"));
    let member = finding(|seen, _| (seen.io_uring_disabled, seen.io_uring_privileged) = (Some(1), true));
    assert_eq!(member.severity, Severity::Note);
}

#[test]
fn open_files_are_judged_by_the_table_of_one_ring() {
    let raised = finding(|seen, _| seen.nofile = Limit { soft: 1024, hard: 20_000 });
    assert!(raised.severity == Severity::Note && raised.advice.contains("raised at start"));
    let short = finding(|seen, _| seen.nofile = Limit { soft: 1024, hard: 10_000 });
    assert_eq!(short.severity, Severity::Warn);
    assert!(short.advice.contains("8 cores will hold 80000") && short.advice.contains("set LimitNOFILE=16384"));
    let capped = finding(|seen, _| {
        seen.nofile = Limit { soft: 1024, hard: 10_000 };
        seen.nr_open = Some(10_000);
    });
    assert!(capped.advice.contains("fs.nr_open=16384 and LimitNOFILE=16384"), "{}", capped.advice);
    let huge = finding(|_, needs| needs.direct_descriptors_per_ring = DIRECT_DESCRIPTORS_MAX + 1);
    assert!(huge.severity == Severity::Warn && huge.advice.contains("plan more cores"));
}

#[test]
fn what_all_connections_need_together_is_judged() {
    let files = finding(|seen, _| seen.files = Some((5_001, 105_000)));
    assert_eq!((files.name, files.severity), ("fs.file-max", Severity::Warn));
    assert!(files.seen == "99999 left" && files.advice.contains("fs.file-max=105001"), "{files:?}");
    let memory = finding(|_, needs| needs.memory_bytes += 1);
    assert_eq!((memory.name, memory.severity), ("MemAvailable", Severity::Warn));
    assert_eq!((memory.seen.as_str(), memory.wanted.as_str()), ("700 MiB", ">= 701 MiB, 100000 idle connections"));
    assert_eq!(finding(|seen, _| seen.files = None).severity, Severity::Note);
    assert_eq!(finding(|seen, _| seen.memory_available = None).severity, Severity::Note);
}

#[test]
fn locked_memory_is_summed_over_the_cores() {
    let four_mib = 8 * 512 * 1024;
    let short = finding(|seen, _| seen.memlock = Limit { soft: 65_536, hard: four_mib - 1 });
    assert_eq!((short.severity, short.seen.as_str()), (Severity::Fail, "64 KiB soft, 4095 KiB hard"));
    assert!(short.advice.contains("LimitMEMLOCK=4194304"));
    let raised = finding(|seen, _| seen.memlock = Limit { soft: 65_536, hard: four_mib });
    assert_eq!(raised.severity, Severity::Note);
    let free = |limit| {
        finding(move |seen, _| {
            seen.memlock = Limit { soft: 65_536, hard: limit };
            seen.memlock_privileged = true;
        })
    };
    assert!(free(512 * 1024).severity == Severity::Note && free(512 * 1024).advice.contains("CAP_IPC_LOCK"));
    // What a core's executor wants to see it wants to see in any case.
    assert_eq!(free(512 * 1024 - 1).severity, Severity::Fail);
}

#[test]
fn network_settings_warn_with_the_command_to_run() {
    let backlog = finding(|seen, _| seen.somaxconn = Some(128));
    assert!(backlog.severity == Severity::Warn && backlog.advice.contains("net.core.somaxconn=4096"));
    let ports = finding(|_, needs| needs.outgoing_connections_max = 28_233);
    assert!(ports.severity == Severity::Warn && ports.advice.contains("at most 28232"), "{}", ports.advice);
    let inside = finding(|_, needs| needs.listen_ports.push(40_000));
    assert!(inside.severity == Severity::Note && inside.advice.contains("ip_local_reserved_ports=40000"));
}

#[test]
fn memory_settings() {
    assert_eq!(finding(|seen, _| seen.max_map_count = Some(1000)).severity, Severity::Warn);
    assert_eq!(finding(|seen, _| seen.transparent_hugepage = Some("always".into())).severity, Severity::Note);
}

#[test]
fn what_is_not_shown_is_noted() {
    assert_eq!(finding(|seen, _| seen.somaxconn = None).seen, "unknown");
    assert_eq!(finding(|seen, _| seen.local_ports = None).severity, Severity::Note);
    assert_eq!(finding(|seen, _| seen.max_map_count = None).severity, Severity::Note);
    assert_eq!(finding(|seen, _| seen.transparent_hugepage = None).severity, Severity::Note);
    let mut seen = good();
    seen.io_uring_disabled = None;
    assert_eq!(HostReport::new(&seen, &needs()).worst(), Severity::Ok, "older kernels cannot switch it off");
}

#[test]
fn the_files_of_a_host_are_read() {
    let root = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("under the root")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    assert!(HostReadings::read(root.path(), UNLIMITED, UNLIMITED).is_err(), "no /proc");
    write("proc/self/status", "Name:\tx\nGid:\t5\t990\t5\t5\nGroups:\t4 24 \nCapEff:\t0000000000004000\n");
    write("proc/sys/kernel/osrelease", "6.18.44-generic\n");
    let bare = HostReadings::read(root.path(), UNLIMITED, UNLIMITED).expect("enough");
    assert_eq!((bare.somaxconn, bare.transparent_hugepage.clone(), bare.io_uring_privileged), (None, None, false));
    write("proc/sys/kernel/io_uring_group", "990\n");
    write("proc/sys/kernel/io_uring_disabled", "1\n");
    write("proc/sys/fs/nr_open", "1048576\n");
    write("proc/sys/fs/file-nr", "5000\t0\t105000\n");
    write("proc/meminfo", "MemTotal:        1000000 kB\nMemAvailable:     716800 kB\n");
    write("proc/sys/net/core/somaxconn", "4096\n");
    write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    write("proc/sys/vm/max_map_count", "65530\n");
    write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    let nofile = good().nofile;
    let read = HostReadings::read(root.path(), nofile, UNLIMITED).expect("all there");
    let expected =
        HostReadings { io_uring_disabled: Some(1), io_uring_privileged: true, memlock_privileged: true, ..good() };
    assert_eq!(read, expected);
    write("proc/sys/kernel/io_uring_group", "-1\n");
    assert!(!HostReadings::read(root.path(), nofile, UNLIMITED).expect("all there").io_uring_privileged);
}

#[test]
fn this_host_can_be_judged() {
    let seen = HostReadings::of_this_host().expect("/proc is mounted");
    let report = HostReport::new(&seen, &needs());
    assert_eq!(report.findings.len(), 10);
    println!("{report}");
}

#[test]
fn the_table_puts_advice_under_its_line() {
    let mut seen = good();
    seen.somaxconn = Some(128);
    let text = HostReport::new(&seen, &needs()).to_string();
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("warn")).expect("one warning");
    assert_eq!(lines[at], "warn  net.core.somaxconn            128                             >= 4096, the backlog");
    assert!(lines[at + 1].starts_with("      backlogs are cut to 128"));
    assert_eq!(lines.len(), 1 + 10 + 1);
}
