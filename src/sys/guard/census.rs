//! Which processes there are below one, by /proc, and signals to them.
//!
//! Not here: whom to signal, and when. Invariant: a signal reaches the process that was looked at or none, whatever its
//! number has become since.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::process::{self, Pid};

/// A process at the moment it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub pid: Pid,
    pub parent: Pid,
    pub group: Pid,
    /// When it started, in ticks since the host did: with the number, this names it for good.
    pub start: u64,
}

impl Process {
    fn read(pid: Pid) -> io::Result<Process> {
        // A file of /proc is made in one go, and this one is shorter than that.
        let mut line = [0; 1024];
        let bytes = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut line)?;
        Process::parse(&line[..bytes]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// `pid (name) state parent group ...`: the name may hold anything, parentheses included.
    fn parse(line: &[u8]) -> Option<Process> {
        let (open, close) = (memchr::memchr(b'(', line)?, memchr::memrchr(b')', line)?);
        let number = std::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
        let mut fields = std::str::from_utf8(line.get(close + 1..)?).ok()?.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // The 22nd field, and the group was the 5th.
        let start = fields.nth(16)?.parse().ok()?;
        Some(Process { pid: number, parent, group, start })
    }

    /// Signals it, unless it has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let descriptor = match process::descriptor_of(self.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            descriptor => descriptor?,
        };
        // The descriptor is that of whoever has the number now; if that started at the same time, it is this one.
        match Process::read(self.pid) {
            Ok(now) if now.start == self.start => process::signal(descriptor.as_fd(), signal),
            _ => Ok(()),
        }
    }
}

/// Those below one, in no order that matters. Whoever starts or loses its parent meanwhile may be missing, so this is
/// to be repeated for as long as there are children.
pub fn descendants(root: Pid) -> Vec<Process> {
    // Few hosts lack those lists; there, everybody is looked at.
    let listed = children_of(root).map(|children| down_from(children, |pid| children_of(pid).unwrap_or_default()));
    // Without /proc for a moment, there is a next time.
    listed.unwrap_or_else(|_| below(root, &processes().unwrap_or_default(), |_| false))
}

/// By what its threads' lists in /proc say: the cost is that of the family, not of the host.
fn children_of(pid: Pid) -> io::Result<Vec<Process>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let list = fs::read_to_string(thread.path().join("children"))?;
        let pids = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        children.extend(pids.filter_map(|pid| Process::read(pid).ok()));
    }
    Ok(children)
}

/// Follows lists of children down, each process once.
fn down_from(mut found: Vec<Process>, mut children_of: impl FnMut(Pid) -> Vec<Process>) -> Vec<Process> {
    let mut at = 0;
    while let Some(process) = found.get(at) {
        at += 1;
        for child in children_of(process.pid) {
            if !found.iter().any(|known| known.pid == child.pid) {
                found.push(child);
            }
        }
    }
    found
}

/// All processes. Not at one moment: who starts or moves meanwhile may be missing, so this is to be repeated.
pub fn processes() -> io::Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    Ok(numbers.filter_map(|pid| Process::read(pid).ok()).collect())
}

/// Those below one of them, parents before their children; nothing below those that are passed over, nor they.
pub fn below(root: Pid, all: &[Process], passed_over: impl Fn(Pid) -> bool) -> Vec<Process> {
    let mut children: BTreeMap<Pid, Vec<Process>> = BTreeMap::new();
    for process in all.iter().filter(|process| process.pid != process.parent && !passed_over(process.pid)) {
        children.entry(process.parent).or_default().push(*process);
    }
    // Taken out of the map when they are found, so that each is found once, however torn the picture is.
    let first = children.remove(&root).unwrap_or_default();
    down_from(first, |pid| children.remove(&pid).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: Pid, parent: Pid) -> Process {
        Process { pid, parent, group: pid, start: 0 }
    }

    fn pids(found: &[Process]) -> Vec<Pid> {
        found.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name_is() {
        let rest = "S 41 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876543 4096 1";
        let expected = Process { pid: 42, parent: 41, group: 40, start: 9_876_543 };
        for name in ["sh", "a b", "x) R 1 1", "((\n)", ""] {
            assert_eq!(Process::parse(format!("42 ({name}) {rest}\n").as_bytes()), Some(expected), "{name:?}");
        }
        assert_eq!(
            Process::parse(b"42 (\xff) S 41 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876543"),
            Some(expected)
        );
        for broken in ["", "42", "42 (sh", "42 (sh) S", "42 (sh) S 41 40", "x (sh) S 41 40 39 0", ")42("] {
            assert_eq!(Process::parse(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn this_process_is_there_with_its_parent() {
        let all = processes().expect("/proc is there");
        let own = all.iter().find(|process| process.pid == process::own_pid()).expect("we are there");
        assert_eq!(own.parent, process::parent_pid());
        assert!(below(own.parent, &all, |_| false).contains(own));
    }

    #[test]
    fn both_ways_find_the_same() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 & sleep 1000 & wait"])
            .spawn()
            .expect("sh is there");
        let pid = shell.id().cast_signed();
        while descendants(pid).len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let ordered = |mut found: Vec<Process>| {
            found.sort_by_key(|process| process.pid);
            found
        };
        let by_lists = ordered(descendants(pid));
        let by_all = ordered(below(pid, &processes().expect("/proc is there"), |_| false));
        assert_eq!(by_lists, by_all);
        by_lists.iter().for_each(|process| process.signal(libc::SIGKILL).expect("ours"));
        shell.wait().expect("ours");
    }

    #[test]
    fn whoever_is_below_is_found_once() {
        let all = [process(1, 0), process(5, 9), process(2, 1), process(3, 2), process(9, 1), process(7, 3)];
        assert_eq!(pids(&below(1, &all, |_| false)), [2, 9, 3, 5, 7]);
        assert_eq!(pids(&below(1, &all, |pid| pid == 2)), [9, 5]);
        assert_eq!(pids(&below(4, &all, |_| false)), [0; 0]);
        let torn = [process(2, 3), process(3, 2), process(4, 1), process(1, 4), process(6, 6)];
        assert_eq!(pids(&below(1, &torn, |_| false)), [4, 1]);
        assert_eq!(pids(&below(6, &torn, |_| false)), [0; 0]);
    }

    #[test]
    fn a_signal_does_not_reach_the_next_one_of_that_number() {
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep is there");
        let mut found = Process::read(sleep.id().cast_signed()).expect("it runs");
        found.start += 1;
        found.signal(libc::SIGKILL).expect("nothing to do");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(sleep.try_wait().expect("ours").is_none(), "another one was meant");
        found.start -= 1;
        found.signal(libc::SIGKILL).expect("ours");
        sleep.wait().expect("ours");
        found.signal(libc::SIGKILL).expect("gone is as good as killed");
    }
}
