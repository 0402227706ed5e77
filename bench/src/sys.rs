//! The few system calls of the bench that are not io_uring: pinning, limits, sockets with a chosen source.
//!
//! It is not a general wrapper: every function here has one caller's need in mind.
//!
//! Invariant: no function keeps a pointer after it returns, and every descriptor it makes is owned by the value it
//! returns.

use std::{
    io,
    mem::{size_of, size_of_val},
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
};

/// Nanoseconds of the monotonic clock: the same one for every thread and every process of this machine.
pub fn now_ns() -> u64 {
    time_ns(libc::CLOCK_MONOTONIC)
}

fn time_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec into `time`, which outlives the call.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Pins the calling thread to one CPU, and asks for wake-ups as exact as the kernel gives them.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is plain bits, all zero is the empty set; CPU_SET checks the index against the size of the
    // set; the kernel reads the set during the call only.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory. The default slack of 50 us would be added to each
    // sleep of an open loop.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    Ok(())
}

/// Has the calling thread run before all ordinary ones of its CPU, and whatever it starts from then on, or as an
/// ordinary one again.
pub fn real_time(on: bool) -> io::Result<()> {
    let (policy, priority) = if on { (libc::SCHED_FIFO, 10) } else { (libc::SCHED_OTHER, 0) };
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads one sched_param from `parameters`, which outlives the call.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CPU time that this process has used, threads that ended included, in ns.
pub fn own_cpu_ns() -> u64 {
    time_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Raises the soft limit of open files to the hard one and returns it. A table of direct descriptors may be as large as
/// this.
pub fn raise_nofile() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit into `limit`, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads one rlimit from `limit`, which outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// A Unix stream socket, ready for an asynchronous connect.
pub fn outgoing_unix() -> io::Result<OwnedFd> {
    Ok(socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?.into())
}

/// A TCP socket with TCP_NODELAY, bound to `source` (port chosen at connect, so that 28 thousand ports serve each pair
/// of addresses instead of each source), ready for an asynchronous connect; `window` bounds its receive buffer, for
/// clients that do not read.
pub fn outgoing(target: SocketAddr, source: Option<SocketAddr>, window: Option<usize>) -> io::Result<OwnedFd> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(target),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    if let Some(window) = window {
        socket.set_recv_buffer_size(window)?;
    }
    // Closing resets: eight thousand ports in TIME_WAIT after each round would starve the next.
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    if let Some(source) = source {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is owned by `socket`, and the kernel reads four bytes from `on`, which outlives the
        // call.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        socket.bind(&source.into())?;
    }
    Ok(socket.into())
}

/// A listening socket that can be bound again at once; `shared` lets several listen on the same port.
pub fn listening(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Inherited by every accepted socket.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Makes `command` start with the raised limit of open files, pinned if a CPU is given, and die with this process.
pub fn confine(command: &mut std::process::Command, cpu: Option<usize>) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec the closure makes only async-signal-safe system calls and allocates nothing: `pin`
    // and `raise_nofile` keep their structures on the stack, and an `io::Error` made from errno holds no heap memory.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            raise_nofile()?;
            cpu.map_or(Ok(()), pin)
        });
    }
}

/// Sends SIGTERM to a child that this process started.
pub fn terminate(pid: u32) {
    // SAFETY: kill touches no memory; the caller holds the child unreaped, so the id cannot have been given to another
    // process.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Two ports of `address` that were free a moment ago; held both at once, so that they are two.
pub fn free_ports(address: std::net::IpAddr) -> io::Result<[std::net::SocketAddr; 2]> {
    let listeners = [std::net::TcpListener::bind((address, 0))?, std::net::TcpListener::bind((address, 0))?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

/// Anonymous zeroed pages that live until the process ends: memory the kernel may write to at any time.
pub fn pages_forever(bytes: usize) -> io::Result<*mut u8> {
    // SAFETY: a fresh private anonymous mapping overlaps nothing; it is never unmapped, so it is valid for 'static.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}
