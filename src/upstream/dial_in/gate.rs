//! By which a server that dials in is let in: its name, its key, how many of it there may be, and the core that they
//! are handed to.
//!
//! Not here: sockets (`boot::dial_in`), what becomes of a connection (`links`). Invariant: a connection that is handed
//! over is counted from before it is told so until it is gone; the key itself is not kept, only its digest.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::web_socket::WebSocket;

/// What is kept of a key.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    pub fn of(key: &[u8]) -> KeyDigest {
        KeyDigest(Sha256::digest(key).into())
    }

    /// Whether both are of one key; takes as long for any two.
    pub fn is(&self, other: &KeyDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The gate of one server.
pub struct Gate {
    name: Box<str>,
    digest: KeyDigest,
    connections_max: usize,
    /// Where connections go; none while no core takes any.
    open: Mutex<Option<Opened>>,
}

/// A core's life that takes connections.
struct Opened {
    arrivals: UnboundedSender<Arrival>,
    /// Those that it has, or will have.
    count: Arc<AtomicUsize>,
}

/// How a connection is spoken on from here on.
pub enum Wire {
    /// As lines; these bytes came behind the first.
    Lines(Vec<u8>),
    /// As messages of WebSocket.
    WebSocket {
        /// Bytes to messages and back.
        socket: Box<WebSocket>,
        /// Messages that came behind the first.
        early: Vec<Vec<u8>>,
    },
}

/// A connection whose server has shown its key.
pub struct Arrival {
    /// The connection, which blocks.
    pub stream: OwnedFd,
    /// Who is at its other end.
    pub peer: SocketAddr,
    /// How it is spoken on.
    pub wire: Wire,
    /// Its place among those of its name.
    pub permit: Permit,
}

/// A place among the connections of one name, for as long as this lives.
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place that was kept for a connection which has still to be told so.
pub struct Seat {
    permit: Permit,
    arrivals: UnboundedSender<Arrival>,
}

impl Seat {
    /// Hands the connection to its core; one that is gone meanwhile closes it.
    pub fn take(self, stream: OwnedFd, peer: SocketAddr, wire: Wire) {
        let arrival = Arrival { stream, peer, wire, permit: self.permit };
        // What nobody takes is dropped, and so closed.
        let _ = self.arrivals.send(arrival);
    }
}

/// Why a server that dials in is not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// No core takes connections of this name at the moment.
    #[error("the core that speaks to server {name} is not ready; dial in again in a moment")]
    NotReady {
        /// The server.
        name: Box<str>,
    },
    /// As many as may be.
    #[error(
        "server {name} has {most} connections, the most there may be; end one of them, or raise \
         servers.{name}.connections where corelane is configured"
    )]
    Full {
        /// The server.
        name: Box<str>,
        /// How many it has.
        most: usize,
    },
    /// No such name, or another key. Who dials in is not told which, the log is.
    #[error(
        "no server that dials in has this name and key; compare `name` with the sections [servers.NAME] of kind \
         \"dial_in\" in corelane's configuration, and `key` with what that section's key leads to"
    )]
    Unknown {
        /// The name is known: the key is another.
        is_known: bool,
    },
}

impl Gate {
    /// A gate that no core has opened yet.
    pub fn new(name: &str, digest: KeyDigest, connections_max: usize) -> Gate {
        Gate { name: name.into(), digest, connections_max, open: Mutex::default() }
    }

    /// The name of the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it: connections come from what is given back. Whoever opened it before hears of no further one.
    pub fn open(&self) -> UnboundedReceiver<Arrival> {
        let (arrivals, arrived) = unbounded_channel();
        *self.lock() = Some(Opened { arrivals, count: Arc::default() });
        arrived
    }

    /// Nobody is let in any more.
    pub fn shut(&self) {
        *self.lock() = None;
    }

    /// Keeps a place for one more connection.
    ///
    /// # Errors
    /// If there is none.
    pub fn seat(&self) -> Result<Seat, NotAdmitted> {
        let open = self.lock();
        let Some(Opened { arrivals, count }) = open.as_ref().filter(|open| !open.arrivals.is_closed()) else {
            return Err(NotAdmitted::NotReady { name: self.name.clone() });
        };
        // Only this counts up, and one thread at a time is here.
        if count.load(Ordering::Relaxed) >= self.connections_max {
            return Err(NotAdmitted::Full { name: self.name.clone(), most: self.connections_max });
        }
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { permit: Permit(Arc::clone(count)), arrivals: arrivals.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whose it is, and nothing of the key.
impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The gates of all servers that dial in.
#[derive(Default, Debug)]
pub struct Gates(pub Vec<Arc<Gate>>);

impl Gates {
    /// The gate of this name, for whoever has its key.
    ///
    /// # Errors
    /// If there is none, or the key is another; both take as long.
    pub fn find(&self, name: &str, digest: &KeyDigest) -> Result<&Arc<Gate>, NotAdmitted> {
        let gate = self.0.iter().find(|gate| *gate.name == *name);
        let expected = gate.map_or(KeyDigest([0; 32]), |gate| gate.digest);
        let is_it = expected.is(digest);
        gate.filter(|_| is_it).ok_or(NotAdmitted::Unknown { is_known: gate.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn gates() -> Gates {
        Gates(vec![Arc::new(Gate::new("weather", KeyDigest::of(b"a key"), 2))])
    }

    fn arrival() -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        (TcpStream::connect(address).expect("it listens").into(), address)
    }

    #[test]
    fn only_the_key_of_the_name_opens_its_gate() {
        let gates = gates();
        assert_eq!(gates.find("weather", &KeyDigest::of(b"a key")).expect("its own").name(), "weather");
        let refused = |name: &str, key: &[u8]| gates.find(name, &KeyDigest::of(key)).expect_err("another");
        assert_eq!(refused("weather", b"another"), NotAdmitted::Unknown { is_known: true });
        assert_eq!(refused("weather", b""), NotAdmitted::Unknown { is_known: true });
        assert_eq!(refused("files", b"a key"), NotAdmitted::Unknown { is_known: false });
        assert_eq!(refused("weather", b"").to_string(), refused("files", b"").to_string(), "the same words for both");
        assert!(!format!("{gates:?}").contains("digest"));
    }

    #[test]
    fn places_are_counted_until_their_connections_are_gone() {
        let gates = gates();
        let gate = &gates.0[0];
        assert!(matches!(gate.seat(), Err(NotAdmitted::NotReady { .. })));
        let mut arrived = gate.open();
        let (first, second) = (gate.seat().expect("room"), gate.seat().expect("room"));
        assert!(matches!(gate.seat(), Err(NotAdmitted::Full { most: 2, .. })));
        drop(first);
        let (stream, peer) = arrival();
        second.take(stream, peer, Wire::Lines(b"more".to_vec()));
        let third = gate.seat().expect("the first has gone");
        assert!(matches!(gate.seat(), Err(NotAdmitted::Full { .. })));
        let taken = arrived.try_recv().expect("handed over");
        assert!(taken.peer == peer && matches!(&taken.wire, Wire::Lines(bytes) if bytes == b"more"));
        drop(taken);
        drop((gate.seat().expect("it has gone"), third));
        // Another life of the core begins with none, whatever is left of the last.
        let (left, mut again) = (gate.seat().expect("room"), gate.open());
        let (stream, peer) = arrival();
        left.take(stream, peer, Wire::Lines(Vec::new()));
        assert!(again.try_recv().is_err() && arrived.try_recv().is_ok());
        gate.shut();
        assert!(matches!(gate.seat(), Err(NotAdmitted::NotReady { .. })));
    }
}
