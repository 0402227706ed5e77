//! Resource limits of the process: reading them, raising the soft one, and giving children back what we were given.
//!
//! Not here: corelane's own bounds (`crate::limits`) and whether these limits suffice (`boot::host`).
//! Invariant: a hard limit of the process is never changed; only what is about to become another program gives up some.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A limit of the kernel's that matters to corelane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of a core dump.
    Core,
    /// Bytes of locked memory; io_uring's registered buffers count.
    Memlock,
    /// Open files. A ring's table of direct descriptors may be as large as the soft limit when it is registered.
    Nofile,
}

/// A soft limit, which counts, and the hard one up to which it may be raised. `u64::MAX` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What the kernel enforces.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// A limit before and after it was raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// As it was: what children get back.
    pub before: Limit,
    /// As it is.
    pub now: Limit,
}

impl Resource {
    fn code(self) -> libc::__rlimit_resource_t {
        match self {
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::Core => libc::RLIMIT_CORE,
            Self::Memlock => libc::RLIMIT_MEMLOCK,
            Self::Nofile => libc::RLIMIT_NOFILE,
        }
    }
}

/// The limit in force.
///
/// # Errors
/// None that a Linux kernel is known to give.
pub fn read(resource: Resource) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: needed because the standard library has no rlimits. The kernel writes one `rlimit` into `limit`, ours
    // alone.
    let result = unsafe { libc::getrlimit(resource.code(), &raw mut limit) };
    if result == 0 { Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max }) } else { Err(io::Error::last_os_error()) }
}

/// Sets the soft limit, leaving the hard one.
///
/// # Errors
/// `EINVAL` when it is over the hard limit.
pub fn set_soft(resource: Resource, soft: u64) -> io::Result<Limit> {
    let wanted = Limit { soft, hard: read(resource)?.hard };
    write(resource, wanted)?;
    Ok(wanted)
}

/// Raises the soft limit to the hard one.
///
/// # Errors
/// None that a Linux kernel is known to give.
pub fn raise(resource: Resource) -> io::Result<Raised> {
    let before = read(resource)?;
    let now = set_soft(resource, before.hard)?;
    Ok(Raised { before, now })
}

/// Takes both limits down to this value, or leaves them where they are lower; they cannot be raised again. For a
/// process that is about to execute another program.
///
/// # Errors
/// None that a Linux kernel is known to give.
pub fn confine(resource: Resource, most: u64) -> io::Result<()> {
    let most = most.min(read(resource)?.hard);
    write(resource, Limit { soft: most, hard: most })
}

/// Makes the command's child start with the soft limit that was in force before [`raise`]: programs that use `select`,
/// or close every possible descriptor one by one, are hurt by a large one.
pub fn restore_in_child(command: &mut Command, resource: Resource, before: Limit) -> &mut Command {
    // SAFETY: needed because it runs between fork and exec, where only async-signal-safe calls are allowed. `write`
    // makes one system call on a copied value and neither allocates nor takes a lock, nor does building its error.
    unsafe { command.pre_exec(move || write(resource, before)) }
}

fn write(resource: Resource, wanted: Limit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: wanted.soft, rlim_max: wanted.hard };
    // SAFETY: needed because the standard library has no rlimits. The kernel reads one `rlimit`, which outlives the
    // call.
    let result = unsafe { libc::setrlimit(resource.code(), &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_and_children_get_the_old_one() {
        // The tests of this process share its limits, so only this one touches them, and only upwards from a sane
        // value.
        let found = read(Resource::Nofile).expect("readable");
        let lowered = Limit { soft: found.soft.min(512), hard: found.hard };
        let raised = raise(Resource::Nofile).expect("always allowed");
        assert_eq!(raised, Raised { before: found, now: Limit { soft: found.hard, hard: found.hard } });
        assert_eq!(read(Resource::Nofile).expect("readable"), raised.now);

        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -Sn; ulimit -Hn"]);
        let output = restore_in_child(&mut shell, Resource::Nofile, lowered).output().expect("sh");
        let printed = String::from_utf8(output.stdout).expect("digits");
        let hard = if found.hard == u64::MAX { "unlimited".into() } else { found.hard.to_string() };
        assert_eq!(printed.lines().collect::<Vec<_>>(), [lowered.soft.to_string(), hard]);
        assert_eq!(read(Resource::Nofile).expect("readable"), raised.now, "the parent keeps the raised limit");
    }

    #[test]
    fn a_soft_limit_over_the_hard_one_is_refused() {
        let limit = read(Resource::Memlock).expect("readable");
        assert!(limit.soft <= limit.hard);
        if limit.hard < u64::MAX - 1 {
            let error = set_soft(Resource::Memlock, limit.hard + 1).expect_err("over the hard limit");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
