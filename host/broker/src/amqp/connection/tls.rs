//! TLS of a connection to the broker.
//!
//! Promise: `amqps` never becomes plain TCP. The handshake names rustls, so a build without rustls does not compile. lapin's
//! own way silently goes without TLS in such a build. lapin's way also adds `ca` to the system's root certificates, and fails
//! on a system without any; here `ca` replaces them.

use std::path::Path;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};

use trunkline_config::{Tls, pem};

/// Reads the PEM files and makes a connector.
///
/// # Errors
/// The file and the problem, without any content of the file.
pub(crate) fn connector(tls: &Tls) -> Result<RustlsConnector, String> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("TLS: the file {} cannot be read: {error}", path.display()))
    };
    let wrong = |path: &Path, problem: String| format!("TLS: the file {} {problem}", path.display());
    let config = match &tls.ca {
        Some(path) => {
            let roots = pem::certificates(&read(path)?).map_err(|problem| wrong(path, problem))?;
            RustlsConnectorConfig::default().with_parsable_certificates(roots)
        }
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            format!("TLS: the system's root certificates cannot be used: {error}; set `ca` in [broker.tls]")
        })?,
    };
    let Some(identity) = &tls.identity else {
        return config.connector_with_no_client_auth().map_err(|error| format!("TLS: {error}"));
    };
    let chain = pem::certificates(&read(&identity.cert)?).map_err(|problem| wrong(&identity.cert, problem))?;
    let key = pem::private_key(&read(&identity.key)?).map_err(|problem| wrong(&identity.key, problem))?;
    config.connector_with_single_cert(chain, key).map_err(|error| {
        format!(
            "TLS: the certificate {} and the key {} cannot be used together: {error}",
            identity.cert.display(),
            identity.key.display()
        )
    })
}

/// Words of rustls' errors, and the explanation of each. The errors are compared as text, because this crate does not name
/// the types of rustls.
const MEANINGS: [(&str, &str); 11] = [
    ("UnknownIssuer", "the broker's certificate is from a CA that the daemon does not trust: set `ca` in [broker.tls]"),
    (
        "not valid for name",
        "the broker's certificate does not name the host of the broker's URL: write a host that the certificate names",
    ),
    // The alert of the broker contains the word of rustls below.
    ("CertificateExpired", "the client certificate has expired: renew the files of `cert` and `key` in [broker.tls]"),
    ("certificate expired", "the broker's certificate has expired: renew the certificate of the broker"),
    ("Expired", "the broker's certificate has expired: renew the certificate of the broker"),
    (
        "InvalidContentType",
        "the peer does not speak TLS: check the port of the broker's URL, which is usually 5671 for TLS",
    ),
    ("CertificateRequired", "the broker requires a client certificate: set `cert` and `key` in [broker.tls]"),
    (
        "UnknownCA",
        "the broker does not trust the CA of the client certificate: use a certificate of a CA that the broker trusts",
    ),
    (
        "HandshakeFailure",
        "the broker refuses the handshake: the broker may require a client certificate or another version of TLS",
    ),
    // With TLS 1.3 the broker checks the client certificate after the client has finished the handshake. Its reason may be
    // lost with the socket.
    (
        "reset by peer",
        "the broker closed the connection during the handshake: the broker may require another client certificate",
    ),
    (
        "Broken pipe",
        "the broker closed the connection during the handshake: the broker may require another client certificate",
    ),
];

/// Adds an explanation to an error of the handshake.
pub(crate) fn explain(error: &str) -> String {
    match MEANINGS.iter().find(|(word, _)| error.contains(word)) {
        Some((_, meaning)) => format!("TLS: {meaning} ({error})"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors are those of rustls 0.23.
    #[test]
    fn the_expired_certificate_is_the_right_one() {
        for (error, whose) in [
            ("received fatal alert: CertificateExpired", "client"),
            ("invalid peer certificate: Expired", "broker's"),
            ("invalid peer certificate: certificate expired: verification time 2 (UNIX), but", "broker's"),
        ] {
            let explained = explain(error);
            assert!(explained.starts_with(&format!("TLS: the {whose} certificate has expired")), "{explained}");
        }
    }
}
