//! A listener that holds a bounded number of connections, each for a bounded time.
//!
//! Not used by cores. Invariant: an accepted connection holds one of the places until it is dropped or loses it, to
//! time or to one that came later; from then on every read and write fails. So whoever sends or reads slowly, or not at
//! all, cannot keep a place from a probe.

use axum::serve::Listener;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// How many connections there may be, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most at once; one more takes the place of the one that was silent for longest.
    pub connections_max: usize,
    /// Longest time without a byte either way.
    pub idle: Duration,
    /// Longest life.
    pub lifetime: Duration,
}

/// The listener.
pub(super) struct BoundedListener {
    inner: TcpListener,
    bounds: Bounds,
    places: Places,
    accepted: u64,
}

/// Who has a place, by the order of coming.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u64, Place>>>);

struct Place {
    active: Instant,
    /// Dropped with the place, which is how its connection hears of it.
    _kept: oneshot::Sender<()>,
}

/// One connection, and its end.
pub(super) struct BoundedStream {
    inner: TcpStream,
    number: u64,
    places: Places,
    /// Resolves when the place is lost.
    lost: oneshot::Receiver<()>,
    idle: Duration,
    dies: Instant,
    end: Pin<Box<Sleep>>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place, if need be that of the one that was silent for longest.
    fn give(&self, number: u64, most: usize) -> oneshot::Receiver<()> {
        let mut places = self.lock();
        while places.len() >= most.max(1) {
            let Some(idlest) = places.iter().min_by_key(|(_, place)| place.active).map(|(&number, _)| number) else {
                break;
            };
            places.remove(&idlest);
        }
        let (kept, lost) = oneshot::channel();
        places.insert(number, Place { active: Instant::now(), _kept: kept });
        lost
    }
}

impl BoundedListener {
    pub(super) fn new(inner: TcpListener, bounds: Bounds) -> BoundedListener {
        BoundedListener { inner, bounds, places: Places::default(), accepted: 0 }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        // The inner `accept` backs off after errors such as too many open files, and tries again.
        let (inner, peer) = Listener::accept(&mut self.inner).await;
        self.accepted += 1;
        let (number, places) = (self.accepted, self.places.clone());
        let lost = places.give(number, self.bounds.connections_max);
        let dies = Instant::now() + self.bounds.lifetime;
        let idle = self.bounds.idle;
        let end = Box::pin(tokio::time::sleep_until(dies.min(Instant::now() + idle)));
        (BoundedStream { inner, number, places, lost, idle, dies, end }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl BoundedStream {
    /// Fails once the time is over or the place lost; otherwise the task is woken when that happens.
    fn poll_alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let over = self.end.as_mut().poll(context).is_ready() || Pin::new(&mut self.lost).poll(context).is_ready();
        if over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Bytes went one way or the other.
    fn moved(&mut self) {
        let now = Instant::now();
        self.end.as_mut().reset(self.dies.min(now + self.idle));
        if let Some(place) = self.places.lock().get_mut(&self.number) {
            place.active = now;
        }
    }
}

impl Drop for BoundedStream {
    fn drop(&mut self) {
        self.places.lock().remove(&self.number);
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(context)?;
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, into))?;
        if into.filled().len() > before {
            self.moved();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, from))?;
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, from))?;
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const FAR: Duration = Duration::from_secs(60);
    const SOON: Duration = Duration::from_millis(20);

    async fn listener(bounds: Bounds) -> (BoundedListener, SocketAddr) {
        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = inner.local_addr().expect("bound");
        (BoundedListener::new(inner, bounds), address)
    }

    async fn read(stream: &mut BoundedStream) -> io::Result<()> {
        let mut bytes = [0; 8];
        poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut bytes))).await
    }

    #[tokio::test]
    async fn a_silent_connection_ends_with_its_time() {
        for (idle, lifetime) in [(FAR, SOON), (SOON, FAR)] {
            let (mut listener, address) = listener(Bounds { connections_max: 1, idle, lifetime }).await;
            let _client = TcpStream::connect(address).await.expect("connected");
            let (mut stream, _) = listener.accept().await;
            let error = read(&mut stream).await.expect_err("nothing was sent");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_the_longest_silent() {
        let (mut listener, address) = listener(Bounds { connections_max: 2, idle: FAR, lifetime: FAR }).await;
        let first = TcpStream::connect(address).await.expect("connected");
        let (mut busy, _) = listener.accept().await;
        let _second = TcpStream::connect(address).await.expect("connected");
        let (mut silent, _) = listener.accept().await;
        first.writable().await.expect("open");
        first.try_write(b"word").expect("room");
        read(&mut busy).await.expect("a word");
        let _third = TcpStream::connect(address).await.expect("connected");
        let (third, _) = listener.accept().await;
        let told = tokio::time::timeout(FAR / 4, read(&mut silent)).await.expect("sooner than by its own time");
        assert_eq!(told.expect_err("its place is lost").kind(), io::ErrorKind::TimedOut);
        first.try_write(b"more").expect("room");
        read(&mut busy).await.expect("who spoke last keeps its place");
        drop((busy, silent, third));
        assert!(listener.places.lock().is_empty(), "places are returned");
    }
}
