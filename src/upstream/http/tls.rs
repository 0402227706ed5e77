//! TLS of one link: bytes of the wire to clear ones and back, by rustls.
//!
//! Not here: sockets, HTTP, which certificates are trusted (whoever makes the settings). Invariant: nothing is heard of
//! a server, and nothing said to it, before its certificate was found good for its name.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::pool::Failure;

/// Sessions of a server that a core keeps, so that its next link costs a shorter handshake.
const RESUMED_MAX: usize = 32;

/// How a server is spoken to over TLS.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Says whom it is for; what is trusted is a long list.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TlsSettings").field(&self.name).finish()
    }
}

impl TlsSettings {
    /// Speaks to the server of this name by this configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> TlsSettings {
        TlsSettings { config, name }
    }

    /// The same with sessions of its own: cores share none, nor the lock around them.
    pub(super) fn of_one_core(&self) -> TlsSettings {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(RESUMED_MAX);
        TlsSettings { config: Arc::new(config), name: self.name.clone() }
    }
}

/// TLS of one link.
pub(super) struct Tls {
    session: ClientConnection,
    /// The server has said that it sends no more.
    pub has_ended: bool,
}

impl Tls {
    /// Begins a handshake; its first words are there for `flush`.
    ///
    /// # Errors
    /// If rustls has no way to begin one.
    pub fn new(settings: &TlsSettings) -> Result<Tls, Failure> {
        let mut session = ClientConnection::new(Arc::clone(&settings.config), settings.name.clone())
            .map_err(|error| Failure::Tls(error.to_string()))?;
        // What is sealed is taken out at once, so nothing gathers in it.
        session.set_buffer_limit(None);
        Ok(Tls { session, has_ended: false })
    }

    /// Whether the handshake is not over.
    pub fn is_shaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Takes bytes from the wire and appends the clear ones that are there now. There may be something to `flush`
    /// behind it, also behind an error.
    ///
    /// # Errors
    /// The server is not who it should be, or does not speak TLS rightly.
    pub fn open(&mut self, mut wire: &[u8], clear: &mut Vec<u8>) -> Result<(), Failure> {
        while !wire.is_empty() && !self.has_ended {
            let taken = self.session.read_tls(&mut wire).map_err(|error| Failure::Tls(error.to_string()))?;
            let state = self.session.process_new_packets().map_err(|error| Failure::Tls(error.to_string()))?;
            let there = state.plaintext_bytes_to_read();
            let begin = clear.len();
            clear.resize(begin + there, 0);
            self.session.reader().read_exact(&mut clear[begin..]).map_err(|error| Failure::Tls(error.to_string()))?;
            self.has_ended |= state.peer_has_closed();
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Seals clear bytes behind what is in `wire`.
    pub fn seal(&mut self, clear: &[u8], wire: &mut Vec<u8>) {
        // Neither can fail: the session takes all it is given, and a vector all it is sent.
        let _ = self.session.writer().write_all(clear);
        self.flush(wire);
    }

    /// Appends what the session has to say.
    pub fn flush(&mut self, wire: &mut Vec<u8>) {
        while self.session.wants_write() {
            if self.session.write_tls(wire).is_err() {
                break;
            }
        }
    }
}
