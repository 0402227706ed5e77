//! Listeners: a group of TCP listeners on one address, one per core, and the single listener of a unix socket.
//!
//! Not here: accepting (`uring`), sockets that connect (`sys::outbound`), steering (`sys::steer`), and which addresses
//! to listen on (`config`).
//! Invariant: listener `i` of a group has index `i` in the kernel's SO_REUSEPORT group for as long as all of them stay
//! open. The kernel numbers a listener when it starts to *listen*, not when it is bound, so all are bound first
//! (whatever is wrong shows before the first client can connect) and then listen in core order. Closing one moves
//! another to its index.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::steer::{self, SteeringProgram};

/// Where a listener was to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why there is no listener, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No interface of this host has the address.
    #[error(
        "cannot listen on {address}: no interface of this host has that address; \
         use one that `ip address` lists, or 0.0.0.0 for all of IPv4 and [::] for all of IPv6"
    )]
    AddressNotLocal {
        /// The address asked for.
        address: ListenAddress,
    },
    /// Another process is about to listen on that port.
    #[error(
        "cannot listen on {address}: another corelane is opening that port at this moment, and holds the abstract unix \
         socket @{TURN_NAME}{port}; try again, or see who holds it with `ss -lxp` and stop it or choose another port",
        port = address.port()
    )]
    BeingOpened {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Somebody else listens there: another program, or another corelane.
    #[error(
        "cannot listen on {address}: it is in use, perhaps by another corelane; \
         {} shows by whom; stop that one, or listen elsewhere",
        whose(address)
    )]
    InUse {
        /// The address asked for.
        address: ListenAddress,
    },
    /// There is a file at the path of the unix socket, and it is no socket.
    #[error(
        "cannot listen on {address}: there is a file of that name which is not a socket, \
         so it is left alone; remove it or choose another path"
    )]
    NotASocket {
        /// The path asked for.
        address: ListenAddress,
    },
    /// The process may not use that port or directory.
    #[error("cannot listen on {address}: permission denied; {}", permission_advice(address))]
    Permission {
        /// The address asked for.
        address: ListenAddress,
    },
    /// Anything else the kernel refuses.
    #[error("cannot listen on {address}: {step} failed: {source}; `corelane check` shows the limits of this host")]
    System {
        /// The address asked for.
        address: ListenAddress,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn whose(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("`ss -ltnp sport = :{}`", address.port()),
        ListenAddress::Unix(path) => format!("`ss -lxp src {}`", path.display()),
    }
}

fn permission_advice(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(_) => "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE \
             (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE); or use a higher port"
            .into(),
        ListenAddress::Unix(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            format!("the user corelane runs as must be able to write to {}", folder.display())
        }
    }
}

impl ListenError {
    /// Sorts what the kernel said while `step` was done.
    fn during(step: &'static str, address: ListenAddress) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse { address },
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotLocal { address },
            Some(libc::EACCES | libc::EPERM) => Self::Permission { address },
            _ => Self::System { address, step, source },
        }
    }
}

/// The TCP listeners of one address, one per core, in core order.
#[derive(Debug)]
pub struct ListenGroup {
    /// The listeners; the index is the core's. Blocking, because `uring` waits for them; close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The address listened on, with the port the kernel chose if it was to choose.
    pub local_addr: SocketAddr,
}

impl ListenGroup {
    /// Steers the group's new connections by `program`, in place of any earlier one.
    ///
    /// # Errors
    /// As [`steer::attach`].
    pub fn steer(&self, program: &SteeringProgram) -> io::Result<()> {
        steer::attach(self.fds[0].as_fd(), program)
    }
}

/// Bytes the kernel takes beyond what is on its way. With the megabytes that it takes otherwise it has room again only
/// after a third of them is gone, and a slow reader looks dead for as long.
pub(super) const UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// Listens on `address` once per core. With port 0 the kernel chooses a port nobody uses.
///
/// TCP_NODELAY and TCP_NOTSENT_LOWAT are set on the listeners, since on Linux accepted sockets inherit them: no system
/// call per connection. An IPv6 listener takes IPv6 only, so that `0.0.0.0` and `[::]` can be listened on side by side
/// whatever the sysctl says. A backlog over `net.core.somaxconn` is cut by the kernel without a word (`boot::host`
/// looks at that).
///
/// # Errors
/// Every reason an address cannot be listened on, among them that somebody, another corelane too, already does or is
/// about to.
///
/// # Panics
/// When there are no cores.
pub fn listen_group(address: SocketAddr, cores: usize, backlog: u32) -> Result<ListenGroup, ListenError> {
    assert!(cores > 0, "a listen group has a listener for every core, and there is a core");
    let mut sockets = Vec::with_capacity(cores);
    let mut local_addr = address;
    // For port 0 the kernel ignores SO_REUSEPORT and gives a port that nobody has.
    if address.port() == 0 {
        let first = bound(address, Sharing::Group)?;
        local_addr = local_address(&first, address)?;
        sockets.push(first);
    }
    // Only who listens is in the way of a socket that is bound alone: nobody else may come between that and `listen`.
    let _turn = turn(local_addr)?;
    bound(local_addr, Sharing::Alone)?;
    while sockets.len() < cores {
        sockets.push(bound(local_addr, Sharing::Group)?);
    }
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    for socket in &sockets {
        socket.listen(backlog).map_err(ListenError::during("listen", ListenAddress::Tcp(local_addr)))?;
    }
    Ok(ListenGroup { fds: sockets.into_iter().map(OwnedFd::from).collect(), local_addr })
}

/// The same of clients' connections, which inherit it from their listener: one on lines, or with a stream, may be
/// silent for as long as it likes, and would otherwise stay for ever when its host vanished.
const CLIENT_SILENCE: Duration = Duration::from_secs(120);
const CLIENT_PROBE_PAUSE: Duration = Duration::from_secs(30);
const CLIENT_PROBES: u32 = 4;

/// How long a connection of a server that dialled in says nothing before the kernel asks whether it is still there, how
/// often it then asks, and how long what was sent to it may stay unacknowledged.
const SILENCE: Duration = Duration::from_secs(15);
const PROBE_PAUSE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Has the kernel notice when nobody is at the other end of a connection any more, within half a minute.
///
/// # Errors
/// With an error number, if the socket does not take it.
pub fn watch_over(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE_PAUSE).with_retries(PROBES))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// What the abstract name of a turn begins with; the port follows.
const TURN_NAME: &str = "corelane-opens-port-";

#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    /// Fails if anybody listens on the address: with SO_REUSEPORT a second corelane of the same user would silently
    /// join.
    Alone,
    Group,
}

fn bound(address: SocketAddr, sharing: Sharing) -> Result<Socket, ListenError> {
    let attempt = |step| ListenError::during(step, ListenAddress::Tcp(address));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(attempt("socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(attempt("IPV6_V6ONLY"))?;
    }
    // Without it the connections of the last run, waiting out TIME_WAIT, would forbid the port. A listener still does.
    socket.set_reuse_address(true).map_err(attempt("SO_REUSEADDR"))?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true).map_err(attempt("SO_REUSEPORT"))?;
    }
    socket.set_tcp_nodelay(true).map_err(attempt("TCP_NODELAY"))?;
    let probes =
        TcpKeepalive::new().with_time(CLIENT_SILENCE).with_interval(CLIENT_PROBE_PAUSE).with_retries(CLIENT_PROBES);
    socket.set_tcp_keepalive(&probes).map_err(attempt("SO_KEEPALIVE"))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX).map_err(attempt("TCP_NOTSENT_LOWAT"))?;
    socket.bind(&address.into()).map_err(attempt("bind"))?;
    Ok(socket)
}

/// The right to listen on a port, of one process of the network namespace at a time, whatever the address. It is an
/// abstract name of a Unix socket: it leaves no file, and the kernel gives it back when its holder is gone.
fn turn(address: SocketAddr) -> Result<Socket, ListenError> {
    let attempt = |step| ListenError::during(step, ListenAddress::Tcp(address));
    let name = SockAddr::unix(format!("\0{TURN_NAME}{}", address.port())).map_err(attempt("naming the turn"))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(attempt("socket"))?;
    socket.bind(&name).map_err(|error| match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ListenError::BeingOpened { address },
        _ => attempt("taking the turn")(error),
    })?;
    Ok(socket)
}

fn local_address(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, ListenError> {
    let address = socket.local_addr().map_err(ListenError::during("getsockname", ListenAddress::Tcp(asked)))?;
    Ok(address.as_socket().expect("a TCP socket has an IP address"))
}

/// The listener of a unix socket. Its file is removed when it is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct UnixListenSocket {
    fd: OwnedFd,
    path: PathBuf,
    file: FileIdentity,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn at(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

impl UnixListenSocket {
    /// Listens at `path`, which gets the permission bits `mode` before anybody can connect. A socket that a dead
    /// process left there is removed; a live one, or a file of another kind, is not.
    ///
    /// # Errors
    /// When somebody listens there, when the path is taken by something else, or when the kernel refuses.
    pub fn bind(path: &Path, mode: u32, backlog: u32) -> Result<Self, ListenError> {
        let attempt = |step| ListenError::during(step, ListenAddress::Unix(path.into()));
        let name = SockAddr::unix(path).map_err(attempt("naming the socket"))?;
        clear_stale(path, &name)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(attempt("socket"))?;
        socket.bind(&name).map_err(attempt("bind"))?;
        let file = FileIdentity::at(path).map_err(attempt("stat"))?;
        // From here on, leaving early removes the file again.
        let listener = Self { fd: socket.into(), path: path.into(), file };
        // The umask had its say in `bind`; nobody can connect before `listen`, so this is in time.
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(attempt("chmod"))?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        socket2::SockRef::from(&listener.fd).listen(backlog).map_err(attempt("listen"))?;
        Ok(listener)
    }

    /// The path listened on.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the socket file of a process that is gone.
fn clear_stale(path: &Path, name: &SockAddr) -> Result<(), ListenError> {
    let address = || ListenAddress::Unix(path.into());
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::during("stat", address())(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket { address: address() }),
        Ok(_) => {}
    }
    let attempt = |step| ListenError::during(step, address());
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(attempt("socket"))?;
    // A listener whose backlog is full must not make us wait: it is alive, that is all we ask.
    probe.set_nonblocking(true).map_err(attempt("O_NONBLOCK"))?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(attempt("removing the dead socket"))
        }
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Err(attempt("connect")(error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Connected, backlog full, or a socket of another type: somebody has it open.
        Ok(()) | Err(_) => Err(ListenError::InUse { address: address() }),
    }
}

impl AsFd for UnixListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for UnixListenSocket {
    fn drop(&mut self) {
        if FileIdentity::at(&self.path).is_ok_and(|found| found == self.file) {
            // Best effort: a file left behind is recognised as dead at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn loopback(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn accepted_sockets_inherit_nodelay_and_listeners_close_on_exec() {
        for address in [loopback(0), "[::1]:0".parse().expect("valid")] {
            let group = listen_group(address, 2, 16).expect("a free port");
            assert_eq!(group.fds.len(), 2);
            assert_ne!(group.local_addr.port(), 0);
            for fd in &group.fds {
                let flags = open_flags(fd);
                assert_ne!(flags & libc::O_CLOEXEC as u64, 0, "close-on-exec");
                assert!(!SockRef::from(fd).nonblocking().expect("fcntl"), "uring waits for a blocking listener");
                assert_eq!(SockRef::from(fd).local_addr().expect("bound").as_socket(), Some(group.local_addr));
            }
            let _client = TcpStream::connect(group.local_addr).expect("somebody listens");
            let accepted = accept_from(&group);
            assert!(SockRef::from(&accepted).tcp_nodelay().expect("getsockopt"));
            assert!(SockRef::from(&accepted).keepalive().expect("getsockopt"), "who vanished is noticed");
            assert_eq!(SockRef::from(&accepted).tcp_keepalive_time().expect("getsockopt"), CLIENT_SILENCE);
            assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().expect("getsockopt"), UNSENT_BYTES_MAX);
        }
    }

    /// The open flags of a descriptor, as /proc shows them.
    fn open_flags(fd: &OwnedFd) -> u64 {
        use std::os::fd::AsRawFd;
        let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("open");
        let flags = shown.lines().find_map(|line| line.strip_prefix("flags:")).expect("listed");
        u64::from_str_radix(flags.trim(), 8).expect("octal")
    }

    fn accept_from(group: &ListenGroup) -> TcpStream {
        let listeners: Vec<TcpListener> =
            group.fds.iter().map(|fd| TcpListener::from(fd.try_clone().expect("dup"))).collect();
        for listener in &listeners {
            listener.set_nonblocking(true).expect("fcntl");
        }
        loop {
            if let Some((stream, _)) = listeners.iter().find_map(|listener| listener.accept().ok()) {
                return stream;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_group_on_the_port_fails_with_advice() {
        let group = listen_group(loopback(0), 2, 16).expect("a free port");
        let error = listen_group(group.local_addr, 2, 16).expect_err("the first group has it");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&group.local_addr.to_string()) && text.contains("another corelane"), "{text}");
        let wildcard = SocketAddr::from(([0, 0, 0, 0], group.local_addr.port()));
        assert!(matches!(listen_group(wildcard, 1, 16), Err(ListenError::InUse { .. })), "the wildcard covers it");
        let again = group.local_addr;
        drop(group);
        listen_group(again, 2, 16).expect("free again");
    }

    #[test]
    fn nobody_comes_between_the_look_and_the_listening() {
        let address = listen_group(loopback(0), 2, 16).expect("a free port").local_addr;
        let held = turn(address).expect("nobody else opens it");
        let wildcard = SocketAddr::from(([0, 0, 0, 0], address.port()));
        for address in [address, wildcard] {
            let error = listen_group(address, 2, 16).expect_err("another one's turn");
            assert!(matches!(error, ListenError::BeingOpened { .. }), "{error}");
            assert!(error.to_string().contains(&format!("@corelane-opens-port-{}", address.port())), "{error}");
        }
        drop(held);
        let group = listen_group(address, 2, 16).expect("free again");
        turn(group.local_addr).expect("held until it listens, and no longer");
    }

    #[test]
    fn of_many_that_open_a_port_at_once_one_does() {
        const MANY: usize = 4;
        let address = listen_group(loopback(0), 2, 16).expect("a free port").local_addr;
        let barrier = std::sync::Barrier::new(MANY);
        std::thread::scope(|scope| {
            let open = || {
                let mut opened = [false; 200];
                for did in &mut opened {
                    barrier.wait();
                    let group = listen_group(address, 2, 16);
                    *did = group.is_ok();
                    // Whoever has it keeps it until all have tried.
                    barrier.wait();
                }
                opened
            };
            let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(open)).collect();
            let opened: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            let counts: Vec<usize> =
                (0..200).map(|round| opened.iter().filter(|opened| opened[round]).count()).collect();
            assert!(counts.iter().all(|&count| count <= 1), "{counts:?}");
            assert!(counts.contains(&1), "{counts:?}");
        });
    }

    #[test]
    fn connections_of_the_last_run_do_not_hold_the_port() {
        let group = listen_group(loopback(0), 1, 16).expect("a free port");
        let mut client = TcpStream::connect(group.local_addr).expect("somebody listens");
        // The server closes first, so the port is left in TIME_WAIT.
        drop(accept_from(&group));
        assert_eq!(client.read(&mut [0]).expect("the close"), 0);
        drop(client);
        let address = group.local_addr;
        drop(group);
        listen_group(address, 1, 16).expect("TIME_WAIT is no obstacle");
    }

    #[test]
    fn a_foreign_address_is_named() {
        let error = listen_group("192.0.2.1:7801".parse().expect("valid"), 1, 16).expect_err("not ours");
        assert!(matches!(error, ListenError::AddressNotLocal { .. }), "{error}");
        assert!(error.to_string().contains("ip address"), "{error}");
    }

    #[test]
    fn errors_of_permission_say_what_to_grant() {
        let tcp =
            ListenError::during("bind", ListenAddress::Tcp(loopback(80)))(io::Error::from_raw_os_error(libc::EACCES));
        assert!(tcp.to_string().contains("CAP_NET_BIND_SERVICE"), "{tcp}");
        let unix = ListenAddress::Unix("/run/corelane/mcp.sock".into());
        let unix = ListenError::during("bind", unix)(io::Error::from_raw_os_error(libc::EACCES));
        assert!(unix.to_string().contains("write to /run/corelane"), "{unix}");
    }

    #[test]
    fn ipv4_and_ipv6_wildcards_stand_side_by_side() {
        let ipv4 = listen_group("0.0.0.0:0".parse().expect("valid"), 1, 16).expect("a free port");
        let ipv6 = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, ipv4.local_addr.port()));
        listen_group(ipv6, 1, 16).expect("IPv6 only");
    }

    #[test]
    fn a_unix_socket_lives_as_long_as_its_listener() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mcp.sock");
        let listener = UnixListenSocket::bind(&path, 0o600, 16).expect("free");
        assert_eq!(path.symlink_metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.path(), path);
        let mut client = UnixStream::connect(&path).expect("somebody listens");
        client.write_all(b"x").expect("queued");
        let error = UnixListenSocket::bind(&path, 0o600, 16).expect_err("alive");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        drop(listener);
        assert!(!path.exists());
        let open = UnixListenSocket::bind(&path, 0o666, 16).expect("free again");
        assert_eq!(path.symlink_metadata().expect("there").permissions().mode() & 0o777, 0o666, "despite the umask");
        drop(open);
    }

    #[test]
    fn only_a_dead_socket_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mcp.sock");
        // The standard library leaves the file behind, as a killed process does.
        drop(UnixListener::bind(&path).expect("free"));
        assert!(path.exists());
        let listener = UnixListenSocket::bind(&path, 0o600, 16).expect("the dead one is replaced");

        // A successor that took the path keeps its file when the old listener goes.
        std::fs::remove_file(&path).expect("ours");
        let successor = UnixListener::bind(&path).expect("free");
        drop(listener);
        assert!(path.exists());
        drop(successor);
        std::fs::remove_file(&path).expect("ours");

        std::fs::write(&path, "precious").expect("writable");
        let error = UnixListenSocket::bind(&path, 0o600, 16).expect_err("not a socket");
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[test]
    fn a_connection_that_is_watched_over_is_asked_whether_it_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().expect("getsockopt"));
        watch_over(&stream).expect("a socket of TCP");
        assert!(socket.keepalive().expect("getsockopt"));
        assert_eq!(socket.tcp_keepalive_time().expect("getsockopt"), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().expect("getsockopt"), PROBE_PAUSE);
        assert_eq!(socket.tcp_keepalive_retries().expect("getsockopt"), PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("getsockopt"), Some(UNACKNOWLEDGED));
    }

    #[test]
    fn a_listener_with_a_full_backlog_counts_as_alive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mcp.sock");
        let _listener = UnixListenSocket::bind(&path, 0o600, 0).expect("free");
        let _waiting = UnixStream::connect(&path).expect("the first fits");
        let error = UnixListenSocket::bind(&path, 0o600, 0).expect_err("alive");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    }
}
