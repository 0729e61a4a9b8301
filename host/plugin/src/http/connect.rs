//! From an origin to a connection: one look-up, every address checked, and then these addresses and no other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error as HttpError;

use super::{Gate, Refusal};
use trunkline_config::{Host, Origin, is_public};
use trunkline_telemetry::HostOutcome;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Either kind of connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Settings of TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// With the roots that the system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub(crate) fn load() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (taken, _unfit) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            let problems = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let problems = if problems.is_empty() { "none were found".to_owned() } else { problems };
            return Err(format!("{problems}; install ca-certificates, or name a file in SSL_CERT_FILE"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl Gate {
    /// Connects to a target that was admitted.
    pub(super) async fn connect(&self, target: &Origin, by: Instant) -> Result<Box<dyn Stream>, Refusal> {
        let addresses = self.addresses(target, by).await?;
        let stream = dial(&addresses, by).await?;
        // Requests are written whole; waiting for more only delays them.
        let _unset = stream.set_nodelay(true);
        let Some(tls) = self.tls.as_ref().filter(|_| target.is_https) else {
            return match target.is_https {
                false => Ok(Box::new(stream)),
                true => Err(Refusal::new(HostOutcome::Failed, HttpError::ConfigurationError, "https without TLS")),
            };
        };
        let failed =
            |why: String| Refusal::new(HostOutcome::Failed, HttpError::TlsProtocolError, format!("TLS: {why}"));
        let name = match &target.host {
            Host::Name(name) | Host::Below(name) => {
                ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?
            }
            Host::Address(address) => ServerName::from(*address),
        };
        let handshake = timeout_at(by, TlsConnector::from(tls.0.clone()).connect(name, stream)).await;
        match handshake {
            Err(_elapsed) => Err(Refusal::timeout(HttpError::ConnectionTimeout)),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let text = error.to_string();
                let kind = match text.contains("certificate") {
                    true => HttpError::TlsCertificateError,
                    false => HttpError::TlsProtocolError,
                };
                Err(Refusal::new(HostOutcome::Failed, kind, format!("TLS: {text}")))
            }
        }
    }

    /// All addresses of the target, resolved once. One that is not granted refuses them all: a name that answers with a
    /// public and a private one is not to be tried until it answers as it likes.
    async fn addresses(&self, target: &Origin, by: Instant) -> Result<Vec<SocketAddr>, Refusal> {
        let addresses = match &target.host {
            Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
            Host::Name(name) | Host::Below(name) => {
                let unknown = |why: String| {
                    let error = HttpError::DnsError { rcode: None, info_code: None };
                    Refusal::new(HostOutcome::Failed, error, format!("{name}: {why}"))
                };
                match timeout_at(by, tokio::net::lookup_host((name.as_str(), target.port))).await {
                    Err(_elapsed) => return Err(Refusal::timeout(HttpError::DnsTimeout)),
                    Ok(Err(error)) => return Err(unknown(error.to_string())),
                    Ok(Ok(found)) => found.collect::<Vec<_>>(),
                }
            }
        };
        if let Some(refused) = addresses.iter().map(SocketAddr::ip).find(|address| !self.may_reach(*address)) {
            let why = format!("{refused} is not public and not among `allow.private-networks`");
            return Err(Refusal::new(HostOutcome::Refused, HttpError::DestinationIpProhibited, why));
        }
        match addresses.is_empty() {
            true => Err(Refusal::new(HostOutcome::Failed, HttpError::DestinationNotFound, "the name has no address")),
            false => Ok(addresses),
        }
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_public(address) || self.private.iter().any(|network| network.contains(address))
    }
}

/// Tries the addresses one after the other, each with its share of the time that is left.
async fn dial(addresses: &[SocketAddr], by: Instant) -> Result<TcpStream, Refusal> {
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let mut last = None;
    for (tried, address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                let is_refusal = error.kind() == std::io::ErrorKind::ConnectionRefused;
                let kind = if is_refusal { HttpError::ConnectionRefused } else { HttpError::DestinationUnavailable };
                last = Some(Refusal::new(HostOutcome::Failed, kind, format!("{address}: {error}")));
            }
            Err(_elapsed) => last = Some(Refusal::timeout(HttpError::ConnectionTimeout)),
        }
    }
    Err(last.unwrap_or_else(|| Refusal::timeout(HttpError::ConnectionTimeout)))
}
