//! Sockets that are to connect: made and set up, with the address in the form the kernel takes.
//!
//! Not here: connecting (`uring`), whom to connect to (`config`), listeners (`sys::socket`).
//! Invariant: such a socket behaves like an accepted one: it blocks, because `uring` waits for it, sends at once, and
//! keeps no more unsent bytes.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::socket::UNSENT_BYTES_MAX;
use crate::ids::OutboundAddress;

/// How long a connection says nothing before it is asked whether it is still there. A server that went without a word
/// is noticed after this and [`PROBES`] times [`PROBE_PAUSE`]: two minutes.
const SILENCE: Duration = Duration::from_secs(60);
/// How long an answer to that is awaited before it is asked again.
const PROBE_PAUSE: Duration = Duration::from_secs(10);
/// How many such questions are left unanswered.
const PROBES: u32 = 6;

/// The middle of the ports that Linux gives to those who connect, by its default (32768 to 60999).
const EPHEMERAL_MIDDLE: u16 = 46_883;

/// From the kernel's `in.h`; Linux 6.3.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// A socket for connecting to `address`, and the address as the kernel takes it.
///
/// # Errors
/// With an error number: when descriptors or memory are short, the host has no such protocol, or the path is none that
/// a socket can have.
pub fn socket_to(address: &OutboundAddress) -> io::Result<(OwnedFd, SockAddr)> {
    match address {
        OutboundAddress::Internet(address) => Ok((internet(*address)?.into(), (*address).into())),
        OutboundAddress::Unix(path) => {
            let name = unix_name(path)?;
            Ok((Socket::new(Domain::UNIX, Type::STREAM, None)?.into(), name))
        }
    }
}

fn internet(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE_PAUSE).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    if address.ip().is_loopback() {
        let _: bool = avoid_port(&socket, address.port())?;
    }
    Ok(socket)
}

/// Keeps the kernel from giving the socket this port of its own; whether it can. Before Linux 6.3 there is no such
/// option.
///
/// Who connects to a port of this host where nobody listens may be given that very port, and is connected to itself: it
/// hears what it says, and the server, when it comes back, finds its port taken. A gateway that tries again and again
/// gets there in time. So the ports below it or those above are left out, whichever are fewer. Only for the loopback,
/// where that happens and ports are not short.
fn avoid_port(socket: &Socket, port: u16) -> io::Result<bool> {
    // 16 bits for the first port and 16 for the last; 0 leaves one as it is.
    let range: u32 = if port > EPHEMERAL_MIDDLE { u32::from(port - 1) << 16 } else { u32::from(port) + 1 };
    // SAFETY: needed because neither the standard library nor `socket2` knows the option. The kernel reads the four
    // bytes of `range`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const range).cast(),
            size_of_val(&range) as libc::socklen_t,
        )
    };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(false) } else { Err(error) }
}

/// A Unix socket's name: a path, or after a leading zero byte a name that is no path.
fn unix_name(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    // The kernel would read up to the first zero byte, and so another path.
    if bytes.is_empty() || (bytes[0] != 0 && bytes.contains(&0)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    SockAddr::unix(path).map_err(|_| io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    fn to(address: &str) -> Socket {
        let address = OutboundAddress::Internet(address.parse().expect("valid"));
        Socket::from(socket_to(&address).expect("a socket").0)
    }

    #[test]
    fn a_socket_is_set_up_like_an_accepted_one_and_notices_silence() {
        for address in ["127.0.0.1:9", "[::1]:9", "192.0.2.1:9"] {
            let socket = to(address);
            assert!(!socket.nonblocking().expect("fcntl"), "uring waits for it");
            assert!(socket.tcp_nodelay().expect("getsockopt"));
            assert_eq!(socket.tcp_notsent_lowat().expect("getsockopt"), UNSENT_BYTES_MAX);
            assert!(socket.keepalive().expect("getsockopt"));
            assert_eq!(socket.tcp_keepalive_time().expect("getsockopt"), SILENCE);
            assert_eq!(socket.tcp_keepalive_interval().expect("getsockopt"), PROBE_PAUSE);
            assert_eq!(socket.tcp_keepalive_retries().expect("getsockopt"), PROBES);
        }
    }

    #[test]
    fn the_loopback_never_connects_to_itself() {
        if !avoid_port(&to("127.0.0.1:9"), 9).expect("known or not") {
            return;
        }
        // The kernel goes through the even ports one after the other, so that every one of them comes up.
        for base in [33_000_u16, 60_000] {
            let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
            let port = (base..).step_by(2).find(free).expect("a free port");
            let target = SocketAddr::from(([127, 0, 0, 1], port));
            for attempt in 0..15_000 {
                let socket = internet(target).expect("a socket");
                // Whoever else listens there is of no matter: this socket must not be its own peer.
                if socket.connect(&target.into()).is_ok() {
                    let ends = (socket.local_addr(), socket.peer_addr());
                    let (Ok(local), Ok(peer)) = ends else { continue };
                    assert_ne!(local.as_socket(), peer.as_socket(), "attempt {attempt}");
                }
            }
        }
    }

    #[test]
    fn every_port_can_be_connected_to() {
        for port in [1, 32_767, 32_768, EPHEMERAL_MIDDLE, EPHEMERAL_MIDDLE + 1, 60_999, 61_000, u16::MAX] {
            to(&format!("127.0.0.1:{port}"));
            to(&format!("[::1]:{port}"));
        }
        to("127.0.0.1:0");
    }

    #[test]
    fn a_name_is_taken_whole_or_not_at_all() {
        let name = |bytes: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned();
            socket_to(&OutboundAddress::Unix(path)).map_err(|error| error.raw_os_error())
        };
        let (socket, _) = name(b"/run/server.sock").expect("a path");
        assert!(!SockRef::from(&socket).nonblocking().expect("fcntl"));
        name(b"\0abstract").expect("a name that is no path");
        name(&[b'a'; 107]).expect("as long as may be");
        assert_eq!(name(&[b'a'; 108]).expect_err("too long"), Some(libc::ENAMETOOLONG));
        assert_eq!(name(b"/run/a\0b").expect_err("two paths in one"), Some(libc::EINVAL));
        assert_eq!(name(b"").expect_err("nothing"), Some(libc::EINVAL));
    }
}
