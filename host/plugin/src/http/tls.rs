//! TLS settings for the requests of plugins.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// TLS settings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientTls(pub(crate) Arc<ClientConfig>);

impl ClientTls {
    /// Trusts the roots of the system, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    ///
    /// # Errors
    /// When no root is found.
    pub(crate) fn load() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _ignored) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let problems = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let problems = if problems.is_empty() { "the system has no certificates".to_owned() } else { problems };
            return Err(format!("{problems}; install ca-certificates, or set SSL_CERT_FILE to a file of certificates"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}
