//! From an origin to a connection: one look-up, a check of every address, and a connection to one of these addresses.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::Error as HttpError;

use super::request_refusal::RequestRefusal;
use super::tls::ClientTls;
use trunkline_config::{Network, Origin, OriginHost, is_public};
use trunkline_telemetry::HostOutcome;

/// Largest number of a name's addresses that are tried.
const ADDRESSES_MAX: usize = 8;

/// A connection with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections to granted origins.
pub(crate) struct Connector {
    private_networks: Vec<Network>,
    tls: Option<ClientTls>,
}

impl Connector {
    /// A connector to public addresses and to `private_networks`. Only origins with https need `tls`.
    pub(crate) fn new(private_networks: Vec<Network>, tls: Option<ClientTls>) -> Self {
        Self { private_networks, tls }
    }

    /// Connects to an origin that is granted, until `by`.
    pub(crate) async fn connect(&self, target: &Origin, by: Instant) -> Result<Box<dyn Stream>, RequestRefusal> {
        let addresses = self.addresses(target, by).await?;
        let stream = dial(&addresses, by).await?;
        // A request is written at once, so that Nagle's algorithm would only delay it.
        let _unset = stream.set_nodelay(true);
        let Some(tls) = self.tls.as_ref().filter(|_| target.is_https) else {
            return match target.is_https {
                false => Ok(Box::new(stream)),
                true => Err(RequestRefusal::new(
                    HostOutcome::Failed,
                    HttpError::ConfigurationError,
                    "the connection has no TLS settings",
                )),
            };
        };
        let failed =
            |why: String| RequestRefusal::new(HostOutcome::Failed, HttpError::TlsProtocolError, format!("TLS: {why}"));
        let name = match &target.host {
            OriginHost::Name(name) | OriginHost::Below(name) => {
                ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?
            }
            OriginHost::Address(address) => ServerName::from(*address),
        };
        let handshake = timeout_at(by, TlsConnector::from(tls.0.clone()).connect(name, stream)).await;
        match handshake {
            Err(_elapsed) => Err(RequestRefusal::timeout(HttpError::ConnectionTimeout)),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let text = error.to_string();
                let kind = match text.contains("certificate") {
                    true => HttpError::TlsCertificateError,
                    false => HttpError::TlsProtocolError,
                };
                Err(RequestRefusal::new(HostOutcome::Failed, kind, format!("TLS: {text}")))
            }
        }
    }

    /// All addresses of the target, resolved once. One address that is not allowed refuses all: otherwise a name with a
    /// public and a private address would reach the private one after some tries.
    async fn addresses(&self, target: &Origin, by: Instant) -> Result<Vec<SocketAddr>, RequestRefusal> {
        let addresses = match &target.host {
            OriginHost::Address(address) => vec![SocketAddr::new(*address, target.port)],
            OriginHost::Name(name) | OriginHost::Below(name) => {
                let unknown = |why: String| {
                    let error = HttpError::DnsError { rcode: None, info_code: None };
                    RequestRefusal::new(HostOutcome::Failed, error, format!("{name}: {why}"))
                };
                match timeout_at(by, tokio::net::lookup_host((name.as_str(), target.port))).await {
                    Err(_elapsed) => return Err(RequestRefusal::timeout(HttpError::DnsTimeout)),
                    Ok(Err(error)) => return Err(unknown(error.to_string())),
                    Ok(Ok(found)) => found.collect::<Vec<_>>(),
                }
            }
        };
        if let Some(refused) = addresses.iter().map(SocketAddr::ip).find(|address| !self.may_reach(*address)) {
            let why = format!("the address {refused} is not public and is not in `allow.private-networks`");
            return Err(RequestRefusal::new(HostOutcome::Refused, HttpError::DestinationIpProhibited, why));
        }
        match addresses.is_empty() {
            true => Err(RequestRefusal::new(
                HostOutcome::Failed,
                HttpError::DestinationNotFound,
                "the host name has no address",
            )),
            false => Ok(addresses),
        }
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_public(address) || self.private_networks.iter().any(|network| network.contains(address))
    }
}

/// Tries the addresses one after the other. Each address gets an equal share of the remaining time.
async fn dial(addresses: &[SocketAddr], by: Instant) -> Result<TcpStream, RequestRefusal> {
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
                last = Some(RequestRefusal::new(HostOutcome::Failed, kind, format!("{address}: {error}")));
            }
            Err(_elapsed) => last = Some(RequestRefusal::timeout(HttpError::ConnectionTimeout)),
        }
    }
    Err(last.unwrap_or_else(|| RequestRefusal::timeout(HttpError::ConnectionTimeout)))
}
