//! `kernel-tuning/` as an operator runs it: for real in a network namespace, and on a copy of a host's files.
//!
//! Not here: what the knobs do. Invariant: nothing outside a namespace or a folder of the test is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel-tuning").join(name)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A host's files, as far as knobs are among them.
struct Host(tempfile::TempDir);

impl Host {
    /// Two CPUs with clocks and sleep, and a card with two interrupts and one queue for both.
    fn new() -> Host {
        let host = Host(tempfile::tempdir().expect("a place for files"));
        for (file, line) in [
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/ipv4/tcp_mem", "300000\t400000\t500000"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
            ("proc/sys/fs/file-max", "9223372036854775807"),
            ("proc/sys/net/core/rps_sock_flow_entries", "0"),
            ("proc/cmdline", "quiet nohz_full=0-1"),
            ("proc/irq/40/smp_affinity_list", "0-1"),
            ("proc/irq/41/smp_affinity_list", "0-1"),
            ("sys/class/net/eth9/device/msi_irqs/40", "msi"),
            ("sys/class/net/eth9/device/msi_irqs/41", "msi"),
            ("sys/class/net/eth9/queues/rx-0/rps_cpus", "00000000,00000000"),
            ("sys/class/net/eth9/queues/rx-0/rps_flow_cnt", "0"),
            ("sys/class/net/eth9/queues/tx-0/xps_cpus", "0"),
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "130"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu2/online", "0"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
        ] {
            let path = host.0.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("room");
            fs::write(path, format!("{line}\n")).expect("room");
        }
        host
    }

    fn run(&self, name: &str, more: &[&str]) -> (i32, String) {
        let mut command = Command::new(script(name));
        command.arg("--root").arg(self.0.path()).arg("--undo").arg(self.0.path().join("undo"));
        let output = command.args(more).output().expect("bash");
        (output.status.code().expect("it ends"), text(&output))
    }

    /// Every file of it that may be written, with what it holds.
    fn all(&self) -> Vec<(PathBuf, String)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push((path.clone(), fs::read_to_string(&path).expect("text").replace('\t', " "))),
                }
            }
        }
        found.sort();
        found
    }

    fn holds(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).expect("it is there").trim().to_owned()
    }
}

const CARD: [&str; 4] = ["--nic", "eth9", "--cpus", "0-1"];

#[test]
fn what_is_wrong_is_said_changed_and_put_back() {
    let host = Host::new();
    let before = host.all();
    let (code, said) = host.run("verify", &CARD);
    assert_eq!(code, 1, "{said}");
    for wrong in ["net.core.somaxconn", "rx-0/rps_cpus", "state1/disable", "cpu0/cpufreq", "isolcpus=managed_irq"] {
        assert!(said.lines().any(|line| line.starts_with("WRONG") && line.contains(wrong)), "{wrong}: {said}");
    }
    for right in ["fs.file-max", "cpu1/cpufreq", "/proc/cmdline"] {
        assert!(said.lines().any(|line| line.starts_with("ok") && line.contains(right)), "{right}: {said}");
    }
    assert!(!said.contains("state0"), "sleep that costs nothing is allowed: {said}");

    let (code, said) = host.run("apply", &CARD);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("net.core.somaxconn: 4096 -> 65535") && said.contains("nothing was changed"), "{said}");
    assert_eq!(host.all(), before, "saying so changes nothing");

    let (code, said) = host.run("apply", &[&CARD[..], &["--yes"]].concat());
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.holds("proc/sys/net/core/somaxconn"), "65535");
    assert_eq!(host.holds("proc/sys/net/ipv4/tcp_mem"), "300000 524288 1048576", "nothing is lowered");
    assert_eq!(host.holds("proc/sys/net/ipv4/ip_local_port_range"), "10240 65535");
    assert_eq!(host.holds("proc/sys/net/core/rps_sock_flow_entries"), "32768");
    assert_eq!(
        (host.holds("proc/irq/40/smp_affinity_list"), host.holds("proc/irq/41/smp_affinity_list")),
        ("0".into(), "1".into())
    );
    assert_eq!(host.holds("sys/class/net/eth9/queues/rx-0/rps_cpus"), "3", "one queue for two cores");
    assert_eq!(host.holds("sys/class/net/eth9/queues/tx-0/xps_cpus"), "1");
    assert_eq!(host.holds("sys/devices/system/cpu/cpu0/cpuidle/state1/disable"), "1");
    assert_eq!(host.holds("proc/cmdline"), "quiet nohz_full=0-1", "never changed");
    let (code, said) = host.run("verify", &[&CARD[..], &["--wrong", "--groups", "net,host,memory,cpu,nic"]].concat());
    assert_eq!((code, said.lines().count()), (0, 1), "{said}");
    let (_, said) = host.run("apply", &[&CARD[..], &["--yes", "--groups", "net,host,memory,cpu,nic"]].concat());
    assert!(said.contains("nothing to change"), "{said}");

    let (code, said) = host.run("revert", &[]);
    assert_eq!(code, 0, "{said}");
    // Of a choice the real file shows all of them again; a copy holds the one that was written.
    let shown = |all: Vec<(PathBuf, String)>| -> Vec<_> {
        let all = all.into_iter().map(|(path, line)| (path, line.replace("[always] madvise never", "always")));
        all.collect()
    };
    assert_eq!(shown(host.all()), shown(before));
    assert_eq!(host.run("revert", &[]).0, 2, "there is nothing left to put back");
}

#[test]
fn what_the_kernel_refuses_stays_to_be_put_back() {
    let host = Host::new();
    assert_eq!(host.run("apply", &["--yes", "--groups", "net"]).0, 0);
    // Somebody takes the file away: a folder in its place cannot be written, by root neither.
    let file = host.0.path().join("proc/sys/net/core/somaxconn");
    fs::remove_file(&file).expect("ours");
    fs::create_dir(&file).expect("room");
    let (code, said) = host.run("revert", &[]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(host.holds("undo"), "/proc/sys/net/core/somaxconn|4096", "{said}");
    assert_eq!(host.holds("proc/sys/net/ipv4/ip_local_port_range"), "32768 60999", "the others are back");
}

#[test]
fn sysctls_of_a_namespace_are_set_for_real() {
    let folder = tempfile::tempdir().expect("a place for files");
    let undo = folder.path().join("undo").display().to_string();
    let script = |name| script(name).display().to_string();
    let (verify, apply, revert) = (script("verify"), script("apply"), script("revert"));
    let all = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_tw_reuse /proc/sys/net/ipv4/ip_local_port_range";
    let steps = format!(
        "set -e; {all}; echo 65536 >/proc/sys/net/core/somaxconn; '{apply}' --yes --groups net --undo '{undo}'; {all}; \
         '{verify}' --groups net --wrong; '{revert}' --undo '{undo}'; {all}"
    );
    let here = || fs::read_to_string("/proc/sys/net/core/somaxconn").expect("it is there");
    let before = here();
    // Whoever may not make a namespace may make one of users first.
    let inside = |flags: &[&str]| Command::new("unshare").args(flags).args(["--net", "bash", "-c", &steps]).output();
    let tried = [inside(&["--user", "--map-root-user"]), inside(&[])].map(|tried| tried.expect("unshare"));
    let done = tried.iter().find(|output| output.status.success());
    let said = text(done.unwrap_or_else(|| panic!("{}\n{}", text(&tried[0]), text(&tried[1]))));
    assert!(!said.contains("net.core.somaxconn:"), "65536 is more than is wanted, and is left: {said}");
    let (changed, rest) = said.split_once(" as wanted, 0 not\n").unwrap_or_else(|| panic!("not verified: {said}"));
    assert!(changed.contains("\n65536\n1\n10240\t65535\n"), "{said}");
    assert!(rest.contains("\n65536\n2\n32768\t60999\n"), "as a new namespace has them: {said}");
    assert_eq!(here(), before, "outside nothing changed");
}

#[test]
fn whoever_is_mistaken_hears_how() {
    let host = Host::new();
    for (arguments, about) in [
        (&["--cpus", "all"][..], "a list such as 0-3,8"),
        (&["--cpus", "1-0"], "1-0 ends before it begins"),
        (&["--cpus", "0-99"], "there is no CPU 99"),
        (&["--nic", "eth0"], "there is no eth0; there are: eth9"),
        (&["--groups", "net,network"], "there is no group network"),
        (&["--latency-us", "few"], "a number of microseconds"),
        (&["--root", "/nowhere"], "/nowhere has no sys"),
        (&["--groups"], "--groups wants a value"),
        (&["--force"], "usage: kernel-tuning/"),
    ] {
        for name in ["verify", "apply"] {
            let (code, said) = host.run(name, arguments);
            assert_eq!(code, 2, "{name} {arguments:?}: {said}");
            assert!(said.contains(about), "{name} {arguments:?}: {said}");
        }
    }
    // Where old values cannot be kept nothing is changed.
    let before = host.all();
    let nowhere = host.0.path().join("proc/cmdline/undo");
    let (code, said) = host.run("apply", &["--yes", "--undo", nowhere.to_str().expect("text")]);
    assert_eq!((code, said.contains("nothing was changed")), (2, true), "{said}");
    assert_eq!(host.all(), before);
}

/// Who puts back is root: a file of old values is a list of what root writes where.
#[test]
fn nothing_is_put_back_but_what_apply_changes() {
    let host = Host::new();
    let (undo, victim) = (host.0.path().join("undo"), host.0.path().join("victim"));
    fs::write(&victim, "mine\n").expect("room");
    for wrong in ["/victim|evil", "/proc/sys/../../victim|evil", "/sys/class/net/a/b/queues/rx-0/rps_cpus|evil"] {
        fs::write(&undo, format!("/proc/sys/net/core/somaxconn|7\n{wrong}\n")).expect("room");
        let (code, said) = host.run("revert", &[]);
        assert_eq!((code, said.contains("which apply never writes")), (2, true), "{wrong}: {said}");
    }
    fs::remove_file(&undo).expect("ours");
    std::os::unix::fs::symlink(&victim, &undo).expect("a link");
    assert_eq!(host.run("apply", &["--yes"]).0, 2, "no link is followed");
    assert_eq!(host.run("revert", &[]).0, 2);
    assert_eq!((host.holds("victim"), host.holds("proc/sys/net/core/somaxconn")), ("mine".into(), "4096".into()));
}

#[test]
fn every_value_has_a_group_a_rule_and_a_reason() {
    let lines = fs::read_to_string(script("sysctl.d/90-corelane.conf")).expect("it is there");
    let values = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let host = Host::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.split_once(" = ") else { continue };
        let file = host.0.path().join("proc/sys").join(name.replace('.', "/"));
        fs::create_dir_all(file.parent().expect("a folder")).expect("room");
        fs::write(file, value).expect("room");
    }
    let (code, said) = host.run("verify", &["--groups", "net,host"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().last(), Some(&*format!("{values} as wanted, 0 not")), "{said}");
}
