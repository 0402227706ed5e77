//! A listener that holds a bounded number of connections, each for a bounded time.
//!
//! Not used by cores. Invariant: an accepted connection holds one of the places until it is dropped, and after its
//! lifetime every read and write fails, so whoever sends or reads slowly cannot keep a place.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// The listener; further connections wait in the kernel's backlog.
pub(super) struct BoundedListener {
    inner: TcpListener,
    places: Arc<Semaphore>,
    lifetime: Duration,
}

/// One connection, its place, and its end.
pub(super) struct BoundedStream {
    inner: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl BoundedListener {
    pub(super) fn new(inner: TcpListener, connections_max: usize, lifetime: Duration) -> BoundedListener {
        BoundedListener { inner, places: Arc::new(Semaphore::new(connections_max)), lifetime }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        // The inner `accept` backs off after errors such as too many open files, and tries again.
        let (inner, peer) = Listener::accept(&mut self.inner).await;
        (BoundedStream { inner, end: Box::pin(tokio::time::sleep(self.lifetime)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl BoundedStream {
    /// Fails once the lifetime is over; otherwise the task is woken when it is.
    fn poll_alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.inner).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.inner).poll_write_vectored(context, from)
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
    use tokio::io::ReadBuf;

    async fn listener(connections_max: usize, lifetime: Duration) -> BoundedListener {
        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        BoundedListener::new(inner, connections_max, lifetime)
    }

    #[tokio::test]
    async fn a_silent_connection_ends_with_its_lifetime() {
        let mut listener = listener(1, Duration::from_millis(20)).await;
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).await.expect("connected");
        let (mut stream, _) = listener.accept().await;
        let mut bytes = [0; 8];
        let read = poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut bytes))).await;
        assert_eq!(read.expect_err("nothing was sent").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn places_are_taken_and_returned() {
        let mut listener = listener(1, Duration::from_secs(60)).await;
        let address = listener.local_addr().expect("bound");
        let _clients = [TcpStream::connect(address).await, TcpStream::connect(address).await];
        let (first, _) = listener.accept().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "no place is free");
        drop(first);
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.expect("a place is free again");
    }
}
