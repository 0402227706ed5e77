//! The administration's Unix socket: whoever connects is the process's own user, or root.
//!
//! Not here: what is answered (`admin`). Invariant: the kernel says who the peer is (`SO_PEERCRED`), whatever the
//! file's permissions have become; a stranger's connection is closed before a byte of it is read.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

use crate::sys::socket::UnixListenSocket;

/// A listener that lets its own user in, and root.
pub(super) struct LocalListener {
    inner: UnixListener,
    own_user: u32,
}

impl LocalListener {
    /// Of a socket that is listened on already, and that lasts as long as its owner.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn new(socket: &UnixListenSocket) -> io::Result<LocalListener> {
        let inner = std::os::unix::net::UnixListener::from(socket.as_fd().try_clone_to_owned()?);
        inner.set_nonblocking(true)?;
        // The kernel gave the file to whoever bound it.
        let own_user = std::fs::metadata(socket.path())?.uid();
        Ok(LocalListener { inner: UnixListener::from_std(inner)?, own_user })
    }
}

impl Listener for LocalListener {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (UnixStream, tokio::net::unix::SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.inner).await;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == 0 || peer.uid() == self.own_user => return (stream, address),
                Ok(peer) => tracing::warn!(user = peer.uid(), "a stranger's connection to control.socket was closed"),
                Err(error) => tracing::warn!("a connection to control.socket does not say whose it is: {error}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<tokio::net::unix::SocketAddr> {
        self.inner.local_addr()
    }
}
