//! Whom an HTTP request is meant for: the first look at every one, and the answer to those who wait for leave to send a
//! body.
//!
//! Not here: what is asked (`http`), how the names are compared (`proto::http1`).
//! Invariant: Host and Origin are judged before anything else of a request is looked at, its body included.

use super::connection::{Connection, HttpAnswer};
use super::core::Core;
use super::service::Service;
use super::settings::Eras;
use crate::metrics::Refusal;
use crate::proto::http1::{self, Head, Method, OriginError};
use crate::proto::jsonrpc::Code;
use crate::proto::mcp::Version;

impl<S: Service> Core<S> {
    /// A head whose body the peer holds back until it is asked for it (RFC 9110, 10.1.1).
    pub(super) fn invite(&mut self, connection: &mut Connection, head: &Head<'_>) {
        // Refused now, the body may come or not, so that nobody could tell what follows.
        if self.is_for_us(connection, head, false) {
            connection.answer = None;
            http1::continue_100(&mut connection.out);
        }
    }

    /// Prepares the answer to a request, and refuses one that names another host or comes from a foreign page.
    pub(super) fn is_for_us(&mut self, connection: &mut Connection, head: &Head<'_>, keep_alive: bool) -> bool {
        if connection.out.capacity() == 0 {
            connection.out = self.buffer();
        }
        connection.origin = head.origin.map(Into::into);
        connection.is_modern = self.is_of_modern_era(head.protocol_version);
        let (minor, bodiless) = (head.minor_version, head.method == Method::Head);
        connection.answer = Some(HttpAnswer::Undecided { stream: true, bodiless, minor, keep_alive });
        if let Err(error) = self.check_host(head.host.unwrap_or_default()) {
            connection.origin = None;
            self.refused(Refusal::BadHost);
            self.refuse(connection, error.status(), &[], Code::INVALID_REQUEST, &error.to_string());
            return false;
        }
        if let Some(origin) = head.origin
            && let Err(error) = self.settings.hosts.check_origin(origin)
        {
            connection.origin = None;
            self.refused(Refusal::BadOrigin);
            self.refuse(connection, error.status(), &[], Code::INVALID_REQUEST, &error.to_string());
            return false;
        }
        true
    }

    /// Whether a request that names this `Host` is for us. Most name the same as the one before, which is not judged
    /// again.
    fn check_host(&mut self, host: &[u8]) -> Result<(), OriginError> {
        if self.host_before.is_empty() || self.host_before != host {
            self.settings.hosts.check_host(host)?;
            self.host_before.clear();
            self.host_before.extend_from_slice(host);
        }
        Ok(())
    }

    /// Whether a request is one of the modern era as far as the version in its head tells.
    pub(super) fn is_of_modern_era(&self, version: Option<&[u8]>) -> bool {
        match self.settings.eras {
            Eras::Both => version.and_then(Version::parse).is_some_and(Version::is_modern),
            Eras::Legacy => false,
            Eras::Modern => true,
        }
    }
}
