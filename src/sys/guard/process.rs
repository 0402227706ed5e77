//! A process and the kernel: forking, waiting for children, signals, descriptors.
//!
//! Not here: who forks whom, and what for. Invariant: nothing is forked from a process with more than one thread, so
//! that a fork finds every lock free and may do what any process may.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use super::super::thread;

/// A process's number.
pub type Pid = libc::pid_t;
/// How a process ended, as the kernel writes it.
pub type WaitStatus = libc::c_int;

/// Signals from 1 to this one, the real-time ones included.
const SIGNAL_MAX: libc::c_int = 64;
/// What a process does to itself: to be seen, not to be ignored.
const FAULTS: [libc::c_int; 7] =
    [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
/// A thread that was joined may be listed a moment longer.
const LINGERING: [Duration; 5] = [Duration::from_millis(1); 5];

/// On which side of a fork this is.
pub enum Forked {
    /// In the new process. It has to end with [`end_with`], and what is on its stack belongs to the other.
    Child,
    /// In the old one; the number of the new one.
    Parent(Pid),
}

/// Why there was no fork.
#[derive(Debug)]
pub enum ForkError {
    /// /proc does not say how many threads there are, or speaks of another process.
    Proc(io::Error),
    /// There are so many.
    Threads(usize),
    /// What the kernel said.
    Kernel(io::Error),
}

/// This process's number.
pub fn own_pid() -> Pid {
    std::process::id().cast_signed()
}

/// Doubles this process, if it has one thread.
pub fn fork() -> Result<Forked, ForkError> {
    let mut threads = count_threads().map_err(ForkError::Proc)?;
    for moment in LINGERING {
        if threads == 1 {
            break;
        }
        std::thread::sleep(moment);
        threads = count_threads().map_err(ForkError::Proc)?;
    }
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: needed because the standard library only forks to execute. There is one thread, this one, as was just
    // seen, and none can have begun since; so no lock is held by a thread that the new process lacks.
    match unsafe { libc::fork() } {
        -1 => Err(ForkError::Kernel(io::Error::last_os_error())),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

fn count_threads() -> io::Result<usize> {
    let own = std::fs::read_link("/proc/self")?;
    if own.as_os_str() != own_pid().to_string().as_str() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "/proc is that of other processes"));
    }
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Ends a fork with the number that the body returns. No frame of the process it was forked from is returned to, none
/// of its destructors and exit handlers runs.
pub fn end_with(body: impl FnOnce() -> i32) -> ! {
    // The panic hook has said what there is to say.
    let code = std::panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
    // SAFETY: needed because `std::process::exit` runs the exit handlers of the process this was forked from. The call
    // takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Leaves the terminal, its session and its process group: what is typed there, or sent to the group, goes elsewhere.
pub fn begin_session() -> io::Result<()> {
    // SAFETY: needed because the standard library has no sessions. The call takes no arguments.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Puts this process into a new process group of its own.
pub fn begin_group() -> io::Result<()> {
    // SAFETY: needed because the standard library knows groups only of commands. The call takes two numbers.
    check(unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// From now on, processes below this one whose parent ends become its children.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: needed because the standard library has no prctl. This operation takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64) }).map(drop)
}

/// This process is killed when `parent`, which has one thread, ends. An error if that has happened already.
pub fn die_with(parent: Pid) -> io::Result<()> {
    // SAFETY: needed because the standard library has no prctl. This operation takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) })?;
    if parent_pid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Neither this process nor what it executes can gain privileges any more, not even by a set-user-id program.
pub fn renounce_privileges() -> io::Result<()> {
    // SAFETY: needed because the standard library has no prctl. This operation takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) }).map(drop)
}

/// The number of the process that started this one, or of who inherited it.
pub fn parent_pid() -> Pid {
    std::os::unix::process::parent_id().cast_signed()
}

/// Names this process, as ps shows it.
pub fn set_name(name: &str) -> io::Result<()> {
    thread::set_name(name)
}

/// From now on only faults, SIGKILL and SIGSTOP do anything to this process.
pub fn ignore_signals() {
    for signal in (1..=SIGNAL_MAX).filter(|signal| !FAULTS.contains(signal) && *signal != libc::SIGCHLD) {
        dispose(signal, libc::SIG_IGN);
    }
    // Ignored, it would let children vanish before they can be waited for.
    dispose(libc::SIGCHLD, libc::SIG_DFL);
}

/// Every signal does what it does to a new process, and none is held back.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=SIGNAL_MAX {
        // What the kernel reads: an address that is zero for the default, flags, a mask. More than that is zero as
        // well.
        let default = [0_u64; 8];
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: needed because the C library keeps two signals for itself, and does not reset them. The kernel reads
        // less than `default`, which outlives the call, and writes nothing. It refuses SIGKILL and SIGSTOP, rightly.
        let _ = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>()) };
    }
    let none = signal_set(&[]);
    set_mask(&none)
}

/// Refused only for signals that cannot be handled anyway.
fn dispose(signal: libc::c_int, what: libc::sighandler_t) {
    // SAFETY: needed because the standard library has no signals. `signal` runs no code of ours: the disposition is one
    // of the two that are no functions.
    let _ = unsafe { libc::signal(signal, what) };
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: a set of signals is an array of integers, for which zero is a value; it is emptied properly below.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: needed because the standard library has no signals. The set is ours, and so are the numbers.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
    }
    set
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: needed because the standard library has no signals. The kernel reads one set, which outlives the call,
    // and writes nothing.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) }).map(drop)
}

/// A descriptor that becomes readable when a child has ended.
pub struct Deaths(File);

impl Deaths {
    /// Made before the first child, or its end may be missed.
    pub fn watch() -> io::Result<Deaths> {
        let set = signal_set(&[libc::SIGCHLD]);
        // All others are let through: they are ignored or faults.
        set_mask(&set)?;
        // SAFETY: needed because the standard library has no signalfd. The kernel reads one set, which outlives the
        // call.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: needed to own what the kernel returned. It is open, and nobody else knows its number yet.
        Ok(Deaths(unsafe { File::from_raw_fd(fd) }))
    }

    /// Takes note; whoever has ended is found by [`reap`].
    pub fn drain(&self) {
        let mut siginfo = [0_u8; size_of::<libc::signalfd_siginfo>()];
        while io::Read::read(&mut &self.0, &mut siginfo).is_ok_and(|bytes| bytes > 0) {}
    }
}

impl AsFd for Deaths {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What waiting for any child says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// This one has ended; its number may be given to another process from now on.
    One(Pid, WaitStatus),
    /// There are children, and none has ended.
    NoneYet,
    /// There are no children.
    NoChildren,
}

/// Takes note of one child that has ended, without waiting for one.
pub fn reap() -> Reaped {
    wait(-1, libc::WNOHANG)
}

/// Waits until this child has ended.
pub fn wait_for(child: Pid) -> Reaped {
    wait(child, 0)
}

fn wait(whom: Pid, options: libc::c_int) -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: needed because the standard library waits only for children that it started. The kernel writes one
        // integer, ours.
        match check(unsafe { libc::waitpid(whom, &raw mut status, options) }) {
            Ok(0) => return Reaped::NoneYet,
            Ok(pid) => return Reaped::One(pid, status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}

/// A descriptor of a process: it stands for this one also when its number has been given to another, and becomes
/// readable when the process has ended.
pub fn descriptor_of(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: needed because the C library of Debian 12 is the first to have this call. It takes two numbers.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: needed to own what the kernel returned. It is open, and nobody else knows its number yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Signals a process by its descriptor.
pub fn signal(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let no_siginfo = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: needed because the standard library does not signal. The kernel reads no memory: what is said about the
    // signal is null.
    check_long(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_siginfo, 0) })
        .map(drop)
}

/// Signals a child by its number, which is its own until it is reaped.
pub fn signal_child(child: Pid, signal: libc::c_int) {
    assert!(child > 1, "no number that stands for several processes");
    // SAFETY: needed because the standard library does not signal processes it did not start. Two numbers are taken.
    // One that has ended does not mind.
    let _ = unsafe { libc::kill(child, signal) };
}

/// Signals the process group of a child that leads it and is not reaped yet, so that the number is still the group's.
pub fn signal_group(leader: Pid, signal: libc::c_int) {
    assert!(leader > 1, "no number that stands for several processes");
    // SAFETY: as in `signal_child`.
    let _ = unsafe { libc::kill(-leader, signal) };
}

/// Closes every descriptor but the first three and those given, whoever believes to own them: only for a fork, which
/// owns none of what it inherited.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept {
        if from < fd {
            close_range(from, fd - 1, 0)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX, 0)
}

/// Nothing but the first three descriptors outlives the next program.
pub fn close_all_on_execution() -> io::Result<()> {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: needed because the standard library closes only what it owns. In a fork the owners of what is closed are
    // frames that are never returned to, see `end_with`.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Makes `number` another name of the descriptor, to be kept when a program is executed; whatever had this name loses
/// it.
pub fn name_descriptor(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // SAFETY: needed because the standard library does not choose numbers. Two numbers are taken; who owned the second
    // one is a frame that is never returned to, see `end_with`.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Descriptors 0 and 1 become the null device, and 2 as well if it is closed: whatever is opened later gets a higher
/// number.
pub fn silence_standard_streams() -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: needed to ask about a number that nobody owns. The call takes two numbers and changes nothing.
        let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        if number == 2 && is_open {
            continue;
        }
        let null = File::options().read(true).write(true).open("/dev/null")?;
        if null.as_raw_fd() == number {
            // It has the number already, and keeps it.
            let _ = null.into_raw_fd();
        } else {
            name_descriptor(null.as_fd(), number)?;
        }
    }
    Ok(())
}

/// Executes a program in place of this one; returns only if that fails.
pub fn execute(path: &CStr, arguments: &[*const libc::c_char], environment: &[*const libc::c_char]) -> io::Error {
    assert!(arguments.last().is_some_and(|last| last.is_null()), "the list of arguments ends with null");
    assert!(environment.last().is_some_and(|last| last.is_null()), "the environment ends with null");
    // SAFETY: needed because the standard library would have a shell execute what is no program. Path and lists end
    // with zero, the lists' strings are `CString`s of the caller's, and all outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    Read,
    Write,
    Both,
}

/// Descriptors to wait for, until one of them is ready.
#[derive(Default)]
pub struct Watch(Vec<libc::pollfd>);

impl Watch {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits for this one too; its end is always waited for. The place is where the answer is.
    pub fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest) -> usize {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
            Interest::Both => libc::POLLIN | libc::POLLOUT,
        };
        self.0.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
        self.0.len() - 1
    }

    /// Waits, no longer than this. An interruption is as good as a time-out.
    pub fn wait(&mut self, at_most: Option<Duration>) {
        // Rounded up: waiting for nothing until a deadline is near would be a busy loop.
        let ms = at_most.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // SAFETY: needed because the standard library does not poll. The kernel reads and writes the array, ours alone,
        // which is as long as is said.
        let ready = unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, ms) };
        if ready <= 0 {
            self.0.iter_mut().for_each(|fd| fd.revents = 0);
        }
    }

    /// Whether the descriptor at this place was ready.
    pub fn is_ready(&self, place: usize) -> bool {
        self.0.get(place).is_some_and(|fd| fd.revents != 0)
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
