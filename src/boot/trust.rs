//! Whose certificates are good: the configuration of TLS towards one server.
//!
//! Not here: handshakes (`upstream::http`). Invariant: without a certificate authority that can be read a server is not
//! spoken to, and nothing is sent to one whose certificate does not name the host of its URL.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Roots, UrlHost};
use crate::upstream::http::TlsSettings;

/// How a host is spoken to over TLS.
///
/// # Errors
/// Why it cannot be, as the end of a sentence.
pub(super) fn towards(host: &UrlHost, roots: &Roots) -> Result<TlsSettings, String> {
    let trusted = match roots {
        Roots::Webpki => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        Roots::Native => native()?,
        Roots::File(path) => of_file(path)?,
    };
    let name = match host {
        UrlHost::Address(address) => ServerName::from(*address),
        UrlHost::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|_| format!("no certificate can name the host {name}"))?
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsSettings::new(Arc::new(config), name))
}

/// The certificate authorities of this host.
fn native() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    match found.errors.first() {
        _ if !store.is_empty() => Ok(store),
        Some(error) => Err(format!("the certificate authorities of this host cannot be read: {error}")),
        None => {
            Err("this host has no certificate authorities: install ca-certificates, or write roots = \"webpki\""
                .to_owned())
        }
    }
}

/// The certificate authorities in a PEM file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of_file(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
        store.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
    }
    if store.is_empty() { Err(format!("{shown} holds no certificate in PEM form")) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vouches_for_nobody_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let tried = || towards(&UrlHost::Name("mcp.example".into()), &Roots::File(path.clone())).map(drop);
        assert!(tried().expect_err("no file").contains("ca.pem"));
        std::fs::write(&path, "no certificate\n").expect("writable");
        assert!(tried().expect_err("none in it").contains("holds no certificate in PEM form"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("writable");
        assert!(tried().is_err(), "three bytes are no certificate");
        let good = rcgen::generate_simple_self_signed(["mcp.example".to_owned()]).expect("a certificate");
        std::fs::write(&path, good.cert.pem()).expect("writable");
        tried().expect("one that is good");
    }

    #[test]
    fn built_in_authorities_are_there_for_names_and_addresses() {
        for host in [UrlHost::Name("mcp.example".into()), UrlHost::Address([10, 0, 0, 7].into())] {
            towards(&host, &Roots::Webpki).expect("trusted");
        }
        let odd = UrlHost::Name("a_b..c".into());
        assert!(towards(&odd, &Roots::Webpki).expect_err("no host").contains("no certificate can name"));
    }
}
