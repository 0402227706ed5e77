//! Serving a native server from a process of its own.
//!
//! Not here: anything about cores and sockets; this is the door to `boot`.
//! Invariant: none of these returns before the server has stopped.

use super::builder::Server;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The address to listen on.
    pub listen: String,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions { listen: "127.0.0.1:3000".to_owned() }
    }
}

impl ServeOptions {
    /// Listens there instead of on `127.0.0.1:3000`.
    pub fn listen(mut self, address: impl Into<String>) -> ServeOptions {
        self.listen = address.into();
        self
    }
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody wrote it yet.
    #[error("serving is not wired up yet: `boot` fills this in")]
    NotWired,
}

impl<S: 'static> Server<S> {
    /// Serves over HTTP on every core until the process is told to stop.
    pub fn serve(self, options: ServeOptions) -> Result<(), ServeError> {
        let _ = options;
        Err(ServeError::NotWired)
    }

    /// Serves one client over standard input and output.
    pub fn serve_stdio(self) -> Result<(), ServeError> {
        Err(ServeError::NotWired)
    }
}
