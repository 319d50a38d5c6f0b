//! Certificates from files, with rustls on ring: for the broker's connection, and for every other
//! that this appliance opens.
//!
//! Everything is read and checked before the first connection, so that a wrong path is a
//! configuration error with the path in it and not a handshake that fails for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, Error as RustlsError, RootCertStore, ServerConfig};

use crate::broker::{Identity, Tls};
use crate::clock::Wall;

/// What is wrong with the TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, not readable, or not PEM.
    #[error("{what} {path}: {why}")]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// In the reader's words.
        why: String,
    },
    /// The file is PEM, but holds none of these.
    #[error("{path} holds no {what}")]
    Empty {
        /// What is missing.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate {cert} with key {key}: {why}")]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// In rustls' words.
        why: RustlsError,
    },
    /// No CA file is set and the system has no roots.
    #[error("the system has no root certificates; name the CA in a file")]
    NoRoots,
    /// A certificate convinces nobody who believes those that were given.
    #[error("{0}")]
    Unconvincing(String),
    /// Cannot happen with the ring that is compiled in.
    #[error("TLS versions: {0}")]
    Versions(RustlsError),
}

/// The client side of TLS as these settings want it.
pub fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    believing(roots(tls.ca_file.as_deref())?, tls)
}

/// The same for an HTTP client. Where its address is in the clear nobody has to be believed, and a
/// small board may have no certificates at all; TLS that such an address leads to convinces nobody then.
pub fn http_client_config(scheme: &str, tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    match roots(tls.ca_file.as_deref()) {
        Err(TlsError::NoRoots) if scheme == "http" => believing(RootCertStore::empty(), tls),
        roots => believing(roots?, tls),
    }
}

fn believing(roots: RootCertStore, tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    // The provider is named here rather than installed for the process: whoever embeds this
    // crate keeps the choice for other connections.
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(Identity {
            cert_file,
            key_file,
        }) => builder
            .with_client_auth_cert(
                certificates("client certificate", cert_file)?,
                key(key_file)?,
            )
            .map_err(|why| TlsError::Identity {
                cert: cert_file.clone(),
                key: key_file.clone(),
                why,
            })?,
    };
    Ok(Arc::new(config))
}

/// The server's side of TLS, with this certificate.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let Identity {
        cert_file,
        key_file,
    } = identity;
    let chain = certificates("certificate", cert_file)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_single_cert(chain, key(key_file)?)
        .map_err(|why| TlsError::Identity {
            cert: cert_file.clone(),
            key: key_file.clone(),
            why,
        })?;
    Ok(Arc::new(config))
}

/// Whether a certificate belongs to its key; nobody's signature is looked at.
pub fn is_pair(identity: &Identity) -> Result<(), TlsError> {
    let Identity {
        cert_file,
        key_file,
    } = identity;
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(
            certificates("client certificate", cert_file)?,
            key(key_file)?,
        )
        .map(drop)
        .map_err(|why| TlsError::Identity {
            cert: cert_file.clone(),
            key: key_file.clone(),
            why,
        })
}

/// Whether somebody who believes these authorities takes this chain for a client's, own certificate
/// first, at this moment. All in DER.
pub fn is_believed(authorities: &[Vec<u8>], chain: &[Vec<u8>], at: Wall) -> Result<(), TlsError> {
    let unconvincing = |why: &dyn std::fmt::Display| TlsError::Unconvincing(why.to_string());
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots
            .add(CertificateDer::from(der.as_slice()))
            .map_err(|why| unconvincing(&why))?;
    }
    let chain: Vec<_> = chain
        .iter()
        .map(|it| CertificateDer::from(it.as_slice()))
        .collect();
    let (own, others) = chain
        .split_first()
        .ok_or_else(|| unconvincing(&"there is no certificate"))?;
    let provider = Arc::new(default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| unconvincing(&why))?
        .verify_client_cert(
            own,
            others,
            UnixTime::since_unix_epoch(Duration::from_millis(at.0)),
        )
        .map(drop)
        .map_err(|why| unconvincing(&why))
}

/// The certificates in a file of PEM, each in DER.
pub fn chain_der(path: &Path) -> Result<Vec<Vec<u8>>, TlsError> {
    let chain = certificates("certificate", path)?;
    Ok(chain.iter().map(|it| it.to_vec()).collect())
}

/// The bytes of a private key in PEM.
pub fn key_der(path: &Path) -> Result<Vec<u8>, TlsError> {
    Ok(key(path)?.secret_der().to_vec())
}

/// Whether at the bottom of an error lies a peer whose certificate does not convince.
pub fn is_distrust(error: &(dyn std::error::Error + 'static)) -> bool {
    // What an I/O error wraps is not its source.
    let wrapped = error.downcast_ref::<std::io::Error>();
    if let Some(inner) = wrapped.and_then(std::io::Error::get_ref) {
        return is_distrust(inner);
    }
    match error.downcast_ref() {
        Some(RustlsError::InvalidCertificate(_)) => true,
        Some(_) | None => error.source().is_some_and(is_distrust),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates("CA certificate", path)? {
            roots
                .add(certificate)
                .map_err(|why| file("CA certificate", path, &why))?;
        }
    } else {
        // Single roots that cannot be read are the system's business, as long as some can.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    Ok(roots)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| file(what, path, &why))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            what,
            path: path.into(),
        });
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|why| file("private key", path, &why))
}

fn file(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        what,
        path: path.into(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ca_file_is_named() {
        let tls = Tls {
            ca_file: Some("/nowhere/ca.pem".into()),
            identity: None,
        };
        let error = client_config(&tls).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn distrust_is_found_however_deep_it_lies() {
        use tokio_rustls::rustls::CertificateError;
        let expired = RustlsError::InvalidCertificate(CertificateError::Expired);
        let inner = std::io::Error::new(std::io::ErrorKind::InvalidData, expired);
        assert!(is_distrust(&std::io::Error::other(inner)));
        let other = std::io::Error::other(RustlsError::HandshakeNotComplete);
        assert!(!is_distrust(&other));
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let tls = Tls {
            ca_file: Some("Cargo.toml".into()),
            identity: None,
        };
        let error = client_config(&tls).unwrap_err();
        assert_eq!(error.to_string(), "Cargo.toml holds no CA certificate");
    }
}
