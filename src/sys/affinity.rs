//! CPU affinity: pinning the current thread, and reading where threads may run.
//!
//! Not here: choosing the CPUs (`boot::plan`).
//! Invariant: a thread is only ever moved by itself, so no thread's affinity changes behind its back.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use super::cpu::{CPU_MAX, Cpu, CpuSet};

const WORD_BITS: usize = u64::BITS as usize;

/// An affinity mask for every CPU a kernel can have; `libc::cpu_set_t` ends at 1024.
type Mask = [u64; (CPU_MAX as usize + 1) / WORD_BITS];

/// Why a thread could not be pinned.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot run on CPUs {cpus}: {source}; \
     they must be online, and inside the cpuset of this process's cgroup (cpuset.cpus.effective; systemd: AllowedCPUs=)"
)]
pub struct PinError {
    /// The CPUs asked for.
    pub cpus: CpuSet,
    /// What the kernel said; `EINVAL` when none of the CPUs is allowed.
    pub source: io::Error,
}

/// Pins the current thread to the CPUs given, isolated ones too. Threads it starts later inherit this.
///
/// # Errors
/// When none of the CPUs is online and allowed by the cgroup. The kernel leaves out those that are not, if others are.
pub fn pin_current_thread(cpus: &CpuSet) -> Result<(), PinError> {
    let mut mask: Mask = [0; _];
    for cpu in cpus.iter() {
        let number = usize::from(cpu.number());
        mask[number / WORD_BITS] |= 1 << (number % WORD_BITS);
    }
    // SAFETY: needed because the standard library cannot pin threads and `core_affinity` neither more than one CPU at a
    // time nor those past 1023. The kernel reads `size_of_val(&mask)` bytes, all of them ours, and writes nothing.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(PinError { cpus: cpus.clone(), source: io::Error::last_os_error() }) }
}

/// The CPUs the current thread may run on.
///
/// # Errors
/// None that a Linux kernel is known to give.
pub fn current_thread() -> io::Result<CpuSet> {
    let mut mask: Mask = [0; _];
    // SAFETY: needed because no safe wrapper reads more than 1024 CPUs. The kernel writes at most `size_of_val(&mask)`
    // bytes into `mask`, which is ours alone, and any bits are a valid mask.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_set = |cpu: &Cpu| {
        let number = usize::from(cpu.number());
        mask[number / WORD_BITS] >> (number % WORD_BITS) & 1 == 1
    };
    Ok((0..=u32::from(CPU_MAX)).filter_map(Cpu::new).filter(is_set).collect())
}

/// The CPUs this process was given by whoever started it. Call it before any thread is pinned: the mask is the
/// thread's.
///
/// Isolated CPUs (`isolcpus=`) are not among them unless the process was started on them on purpose.
pub fn inherited() -> CpuSet {
    let listed = core_affinity::get_core_ids().unwrap_or_default();
    listed.into_iter().filter_map(|core| u32::try_from(core.id).ok().and_then(Cpu::new)).collect()
}

/// A thread of this process and where it may run, as /proc shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadAffinity {
    /// The thread's name, at most 15 bytes.
    pub name: String,
    /// The CPUs it may run on.
    pub cpus: CpuSet,
}

/// Every thread of this process by its thread id: how a test sees that the plan was carried out.
///
/// # Errors
/// When /proc cannot be read. A thread that ends while we look is left out.
pub fn of_all_threads() -> io::Result<BTreeMap<u32, ThreadAffinity>> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let status = std::fs::read_to_string(entry.path().join("status"));
        if let (Some(id), Ok(status)) = (id, status)
            && let Some(affinity) = parse_status(&status)
        {
            threads.insert(id, affinity);
        }
    }
    Ok(threads)
}

fn parse_status(status: &str) -> Option<ThreadAffinity> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(ThreadAffinity { name: field("Name:")?.into(), cpus: field("Cpus_allowed_list:")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_where_it_was_put() {
        let all = current_thread().expect("readable");
        assert_eq!(all, inherited());
        let last = all.iter().next_back().expect("at least one CPU");
        let one: CpuSet = [last].into_iter().collect();
        let wanted = one.clone();
        std::thread::Builder::new()
            .name("pinned".into())
            .spawn(move || {
                pin_current_thread(&wanted).expect("it was in the mask");
                assert_eq!(current_thread().expect("readable"), wanted);
                let id = crate::sys::thread::current_id();
                let seen = of_all_threads().expect("readable");
                assert_eq!(seen[&id], ThreadAffinity { name: "pinned".into(), cpus: wanted.clone() });
                let inherited = std::thread::spawn(|| current_thread().expect("readable")).join().expect("no panic");
                assert_eq!(inherited, wanted);
            })
            .expect("a thread")
            .join()
            .expect("no panic");
        assert_eq!(current_thread().expect("readable"), all, "only the one thread was moved");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_with_advice() {
        let beyond: CpuSet = Cpu::new(u32::from(CPU_MAX)).into_iter().collect();
        let error = pin_current_thread(&beyond).expect_err("no machine is that large");
        assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL));
        assert!(error.to_string().contains("CPUs 8191") && error.to_string().contains("online"), "{error}");
        assert!(pin_current_thread(&CpuSet::default()).is_err(), "nowhere is no place");
    }
}
