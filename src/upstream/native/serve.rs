//! Serving a native server from a process of its own.
//!
//! Not here: anything about cores and sockets; this is the door to `boot`.
//! Invariant: none of these returns before the server has stopped.

use std::sync::Arc;

use super::builder::Server;
use crate::boot::{self, BootError};
use crate::config::{Config, ConfigError, Flag, Sources};
use crate::control::log::{self, LogError};

/// Where and how to serve. Every setting of `corelane config --default` can be had by the environment or a file.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    listen: Vec<String>,
    tcp: Vec<String>,
    cores: Option<String>,
    control: Option<String>,
    file: Option<std::path::PathBuf>,
}

impl ServeOptions {
    /// Listens there for HTTP instead of on `127.0.0.1:8808`. May be called several times.
    pub fn listen(mut self, address: impl Into<String>) -> ServeOptions {
        self.listen.push(address.into());
        self
    }

    /// Listens there for lines of JSON over TCP. May be called several times.
    pub fn tcp(mut self, address: impl Into<String>) -> ServeOptions {
        self.tcp.push(address.into());
        self
    }

    /// Runs on so many cores (`"2"`) or on these CPUs (`"0-3,8"`) instead of on all.
    pub fn cores(mut self, cores: impl Into<String>) -> ServeOptions {
        self.cores = Some(cores.into());
        self
    }

    /// Serves health and metrics there instead of on `127.0.0.1:8809`.
    pub fn control(mut self, address: impl Into<String>) -> ServeOptions {
        self.control = Some(address.into());
        self
    }

    /// Reads this configuration file.
    pub fn file(mut self, path: impl Into<std::path::PathBuf>) -> ServeOptions {
        self.file = Some(path.into());
        self
    }

    fn configured(self) -> Result<Config, ServeError> {
        let mut flags = Vec::new();
        if !self.listen.is_empty() {
            flags.push(Flag::words("listen", "serve.listen", self.listen));
        }
        if !self.tcp.is_empty() {
            flags.push(Flag::words("tcp", "serve.tcp", self.tcp));
        }
        if let Some(cores) = self.cores {
            flags.push(Flag::word("cores", "cores.list", cores));
        }
        if let Some(control) = self.control {
            flags.push(Flag::word("control", "control.listen", control));
        }
        let config = Config::load(&Sources::of_process(self.file, flags))?;
        log::init(&config.settings().log)?;
        Ok(config)
    }
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not start, or could not go on.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// An option, a variable or the file is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Logging could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl<S: 'static> Server<S> {
    /// Serves over HTTP on every core until the process is told to stop.
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn serve(self, options: ServeOptions) -> Result<(), ServeError> {
        Ok(boot::serve_native(self, options.configured()?)?)
    }

    /// Serves one client over standard input and output.
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn serve_stdio(self) -> Result<(), ServeError> {
        Ok(boot::stdio_native(self, ServeOptions::default().configured()?)?)
    }

    /// Another handle to the same definition.
    pub(crate) fn share(&self) -> Server<S> {
        Server { catalog: Arc::clone(&self.catalog) }
    }
}
