//! Memory that this process takes, and how much it may take.
//!
//! Not here: what takes it. Invariant: nothing is guessed; what the kernel does not say is an error.

use std::io;
use std::path::Path;

/// Bytes of memory that the process has in use (its resident set).
///
/// # Errors
/// When /proc is not mounted, or does not say it.
pub fn resident() -> io::Result<u64> {
    field_in_bytes(&std::fs::read_to_string("/proc/self/status")?, "VmRSS").ok_or_else(|| unsaid("VmRSS"))
}

/// Bytes that it may have: those of the machine, or fewer if its control group, or one above, has fewer.
///
/// # Errors
/// When /proc is not mounted, or does not say it.
pub fn allowed() -> io::Result<u64> {
    allowed_below(Path::new("/"))
}

/// The same of files below `root`, laid out as `/`.
fn allowed_below(root: &Path) -> io::Result<u64> {
    let meminfo = std::fs::read_to_string(root.join("proc/meminfo"))?;
    let machine = field_in_bytes(&meminfo, "MemTotal").ok_or_else(|| unsaid("MemTotal"))?;
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/path` of version 2, `4:memory:/path` of version 1. (cgroups(7))
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
        let (folder, file) = match controllers.split(',').any(|one| one == "memory") {
            true => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("sys/fs/cgroup", "memory.max"),
        };
        let own = Path::new(path.trim_start_matches('/'));
        // Seen from inside a container its path may not be there, but what is above it is.
        let above = own.ancestors().map(|group| root.join(folder).join(group).join(file)).collect::<Vec<_>>();
        above.into_iter().filter_map(|limit| std::fs::read_to_string(limit).ok()?.trim().parse::<u64>().ok())
    });
    Ok(limits.fold(machine, u64::min))
}

/// A field of `/proc/self/status` or `/proc/meminfo`, which count in kibibytes; none if it is not there, or no such
/// number.
pub fn field_in_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn unsaid(field: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc does not say {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_some_of_what_there_is() {
        let (taken, there) = (resident().expect("it is Linux"), allowed().expect("it is Linux"));
        assert!(taken > 100_000 && taken < there, "{taken} of {there}");
    }

    #[test]
    fn the_least_of_the_limits_above_is_what_may_be_had() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder above")).expect("room");
            std::fs::write(path, text).expect("room");
        };
        write("proc/meminfo", "MemTotal:        1000 kB\nMemFree:  1 kB\n");
        assert_eq!(allowed_below(root.path()).expect("said"), 1_024_000, "without control groups");
        write("proc/self/cgroup", "0::/system.slice/corelane.service\n");
        write("sys/fs/cgroup/system.slice/corelane.service/memory.max", "max\n");
        assert_eq!(allowed_below(root.path()).expect("said"), 1_024_000);
        write("sys/fs/cgroup/system.slice/memory.max", "700000\n");
        assert_eq!(allowed_below(root.path()).expect("said"), 700_000, "of the one above");
        write("sys/fs/cgroup/system.slice/corelane.service/memory.max", "600000\n");
        assert_eq!(allowed_below(root.path()).expect("said"), 600_000);
        write("proc/self/cgroup", "5:cpu,memory:/a\n0::/nowhere\n");
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n");
        assert_eq!(allowed_below(root.path()).expect("said"), 500_000, "of version 1");
        write("proc/meminfo", "Nothing\n");
        assert!(allowed_below(root.path()).is_err());
    }
}
