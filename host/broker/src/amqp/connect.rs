//! From a URL to an open connection.
//!
//! Promises that `amqps` never becomes plain TCP: the handshake below is rustls by name, so that a build without it
//! does not compile, where lapin's own way quietly goes without. That way also adds `ca` to the system's roots, and
//! fails where the system has none; here `ca` stands in their place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind};

use super::dial::Resolver;
use super::gate::{Kit, Line, Marker, Socket, Stream, Transport};
use super::link::{Guard, Link};
use crate::Error;
use trunkline_config::{Tls, pem};

/// Set unless the URL says otherwise. Without an explicit `frame_max` lapin's buffers take 7.6 MB a connection, and
/// with its 60 s heartbeat a dead peer is seen after two minutes.
const FRAME_MAX: u32 = 131_072;
const HEARTBEAT_S: u16 = 10;
/// For the name, TCP and TLS together, and then once more for the login. lapin itself waits without end for a peer that says
/// nothing.
const DIAL_WITHIN_MS: u64 = 5000;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unconnected {
    /// The broker refuses the user, or the user the virtual host. Another try is another failed login.
    Refused(String),
    /// Anything else.
    Failed(String),
}

/// Where the broker is, and what TLS needs to get there.
pub(crate) struct Endpoint {
    uri: AMQPUri,
    tls: Tls,
    resolver: Arc<Resolver>,
    marker: Marker,
}

impl Endpoint {
    /// Reads the URL, with our defaults in place of what it does not say.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it is none.
    pub(crate) fn new(url: &str, tls: Tls) -> Result<Self, Error> {
        let parsed = url.parse::<AMQPUri>();
        let mut uri = parsed.map_err(|error| Error::Unusable(format!("the broker's URL: {error}")))?;
        // Without a bound lapin's buffers take none of RabbitMQ's larger frames.
        uri.query.frame_max = uri.query.frame_max.filter(|bytes| *bytes > 0).or(Some(FRAME_MAX));
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.connection_timeout.get_or_insert(DIAL_WITHIN_MS);
        if let Some(address) = ipv6(url) {
            address.clone_into(&mut uri.authority.host);
        }
        let resolver = Arc::new(Resolver::new(uri.authority.host.clone(), uri.authority.port));
        Ok(Self { uri, tls, resolver, marker: Marker::random() })
    }

    /// What marks messages that were written anew.
    pub(super) fn marker(&self) -> Marker {
        self.marker.clone()
    }

    /// The virtual host, as it is called.
    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Reads the PEM files; none for an `amqp` URL.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) async fn connector(&self) -> Result<Option<RustlsConnector>, String> {
        if self.uri.scheme == AMQPScheme::AMQP {
            return Ok(None);
        }
        let tls = self.tls.clone();
        let reading = tokio::task::spawn_blocking(move || connector(&tls));
        reading.await.unwrap_or_else(|error| Err(error.to_string())).map(Some)
    }

    /// Connects, over TLS if there is a connector. Dropped while it waits, it leaves nothing behind.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self, tls: Option<RustlsConnector>, name: &str) -> Result<Link, Unconnected> {
        if tls.is_none() && self.uri.scheme == AMQPScheme::AMQPS {
            return Err(Unconnected::Failed("amqps without TLS".to_owned()));
        }
        let within = Duration::from_millis(self.uri.query.connection_timeout.unwrap_or(DIAL_WITHIN_MS));
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let guard = Guard(Line::default());
        let (resolver, line, marker) = (self.resolver.clone(), guard.0.clone(), self.marker.clone());
        let connecting = Connection::connector(
            self.uri.clone(),
            async_rs::Runtime::new(Kit::current(self.marker.clone())),
            async move |uri, _runtime| {
                let dialling = async {
                    let socket = Socket(resolver.clone().dial(within).await?);
                    let transport: Box<dyn Transport> = match &tls {
                        Some(connector) => Box::new(connector.connect_async(&uri.authority.host, socket).await?),
                        None => Box::new(socket),
                    };
                    Ok(AsyncTcpStream::Plain(Stream::new(transport, line.clone(), marker.clone())))
                };
                let dialled = tokio::time::timeout(within, dialling).await;
                dialled.unwrap_or_else(|_elapsed| Err(silence(within))).map_err(lapin::Error::from)
            },
            properties,
        );
        match tokio::time::timeout(within * 2, connecting).await {
            Ok(Ok(connection)) => Ok(Link::new(connection, guard)),
            Ok(Err(error)) => Err(self.unconnected(&error)),
            Err(_elapsed) => Err(Unconnected::Failed(silence(within * 2).to_string())),
        }
    }

    fn unconnected(&self, error: &lapin::Error) -> Unconnected {
        if let Some(words) = login_refused(error) {
            let (user, vhost) = (&self.uri.authority.userinfo.username, &self.uri.vhost);
            return Unconnected::Refused(format!(
                "the broker refuses the user `{user}` on the virtual host `{vhost}`: {words}; correct user, password and \
                 virtual host in the broker's URL, or the user's permissions"
            ));
        }
        let text = error.to_string();
        Unconnected::Failed(match self.uri.scheme {
            AMQPScheme::AMQP => text,
            AMQPScheme::AMQPS => explain(&text),
        })
    }
}

/// The broker's words when it refuses a login (403) or a virtual host (530).
fn login_refused(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    let is_refused = matches!(
        refusal.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
    );
    is_refused.then(|| refusal.get_message().as_str().to_owned())
}

fn silence(waited: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", waited.as_secs_f32()))
}

/// The address in the brackets of a URL, which lapin takes for no host at all: it would go to localhost.
fn ipv6(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(address, _)| address)
}

fn connector(tls: &Tls) -> Result<RustlsConnector, String> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("TLS: {} cannot be read: {error}", path.display()))
    };
    let wrong = |path: &std::path::Path, problem: String| format!("TLS: {} {problem}", path.display());
    let config = match &tls.ca {
        Some(path) => {
            let roots = pem::certificates(&read(path)?).map_err(|problem| wrong(path, problem))?;
            RustlsConnectorConfig::default().with_parsable_certificates(roots.into_iter().map(Into::into).collect())
        }
        None => RustlsConnectorConfig::new_with_native_certs()
            .map_err(|error| format!("TLS: the system's root certificates: {error}; name a `ca` in `broker.tls`"))?,
    };
    let Some(identity) = &tls.identity else {
        return config.connector_with_no_client_auth().map_err(|error| format!("TLS: {error}"));
    };
    let chain = pem::certificates(&read(&identity.cert)?).map_err(|problem| wrong(&identity.cert, problem))?;
    let key = pem::private_key(&read(&identity.key)?).map_err(|problem| wrong(&identity.key, problem))?;
    let key =
        key.try_into().map_err(|problem: &str| wrong(&identity.key, format!("holds no usable key: {problem}")))?;
    let chain = chain.into_iter().map(Into::into).collect();
    config
        .connector_with_single_cert(chain, key)
        .map_err(|error| format!("TLS: {} and {}: {error}", identity.cert.display(), identity.key.display()))
}

/// What is said in one word, and what to do about it. By the words, because the types of rustls are not ours to name.
const MEANINGS: [(&str, &str); 10] = [
    ("UnknownIssuer", "the broker's certificate is from a CA that is not trusted here: see `ca` in `broker.tls`"),
    ("not valid for name", "the broker's certificate is for another host than the URL's"),
    ("Expired", "the broker's certificate is out of date"),
    ("InvalidContentType", "what answers does not speak TLS: is it the port of plain AMQP? TLS usually has 5671"),
    ("CertificateRequired", "the broker wants a client certificate: see `cert` and `key` in `broker.tls`"),
    ("UnknownCA", "the broker does not trust the CA of our client certificate"),
    ("CertificateExpired", "our client certificate is out of date"),
    ("HandshakeFailure", "the broker refuses the handshake: does it want a client certificate, or other protocols?"),
    // With TLS 1.3 the broker looks at our certificate when we are through, and its reason may be lost with the socket.
    ("reset by peer", "the broker hung up during the handshake: does it want a client certificate, or another one?"),
    ("Broken pipe", "the broker hung up during the handshake: does it want a client certificate, or another one?"),
];

fn explain(error: &str) -> String {
    match MEANINGS.iter().find(|(word, _)| error.contains(word)) {
        Some((_, meaning)) => format!("TLS: {meaning} ({error})"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn uri(url: &str) -> AMQPUri {
        Endpoint::new(url, Tls::default()).expect(url).uri
    }

    #[test]
    fn defaults_give_way_to_the_url() {
        let query = uri("amqp://guest:guest@localhost:5672/%2f").query;
        assert_eq!((query.frame_max, query.heartbeat, query.connection_timeout), (Some(131_072), Some(10), Some(5000)));
        let query = uri("amqp://localhost/%2f?heartbeat=3").query;
        assert_eq!((query.frame_max, query.heartbeat), (Some(131_072), Some(3)));
        assert!(Endpoint::new("http://localhost", Tls::default()).is_err());
    }

    #[test]
    fn hosts_are_those_of_the_url() {
        for (url, host, port) in [
            ("amqps://localhost", "localhost", 5671),
            ("amqp://127.0.0.1/", "127.0.0.1", 5672),
            ("amqps://u:p@[fd00::1]:5673/v", "fd00::1", 5673),
            ("amqp://[::1]", "::1", 5672),
        ] {
            let authority = uri(url).authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port), "{url}");
        }
    }

    async fn refusal(endpoint: &Endpoint) -> Unconnected {
        match endpoint.connect(None, "test").await {
            Ok(_) => panic!("connected"),
            Err(error) => error,
        }
    }

    /// Threads of lapin in this process.
    fn threads() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("lapin-io-loop")).count()
    }

    /// The beginning of `connection.start`, with a peer's properties and mechanisms.
    fn start() -> Vec<u8> {
        let payload = [&[0, 10, 0, 10, 0, 9][..], &[0; 4], &[0, 0, 0, 5], b"PLAIN", &[0, 0, 0, 5], b"en_US"].concat();
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[1, 0, 0][..], &size, &payload, &[0xCE]].concat()
    }

    /// A peer that accepts and is silent, at once or after its first words, costs an attempt, and nothing after it: no thread,
    /// and no socket.
    #[tokio::test]
    async fn silent_peers_leave_nothing_behind() {
        const ATTEMPTS: usize = 25;
        for (is_dropped, words) in [(false, Vec::new()), (false, start()), (true, Vec::new()), (true, start())] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let url = format!("amqp://127.0.0.1:{port}/%2f?connection_timeout=150");
            let endpoint = Endpoint::new(&url, Tls::default()).expect("a URL");
            let mut sockets = Vec::new();
            for _ in 0..ATTEMPTS {
                let answering = async {
                    let (mut socket, _) = listener.accept().await.expect("an attempt");
                    socket.write_all(&words).await.expect("written");
                    sockets.push(socket);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    error = refusal(&endpoint) => {
                        assert!(matches!(&error, Unconnected::Failed(why) if why.contains("no answer")), "{error:?}");
                    }
                    () = answering => {}
                    () = trunkline_telemetry::wait::after(Duration::from_millis(10)), if is_dropped => {}
                }
            }
            // On a busy machine an attempt may be over before it came.
            assert!(is_dropped || sockets.len() > ATTEMPTS / 2, "{} attempts came", sockets.len());
            for mut socket in sockets {
                let mut rest = Vec::new();
                let ended = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut rest)).await;
                // What was not read makes it a reset.
                let _ended = ended.expect("the socket is closed");
            }
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            while threads() > 0 && std::time::Instant::now() < deadline {
                trunkline_telemetry::wait::after(Duration::from_millis(5)).await;
            }
            assert_eq!(threads(), 0, "dropped: {is_dropped}, after {} bytes", words.len());
        }
    }

    /// What answers on the port is told by its first bytes.
    #[tokio::test]
    async fn other_protocols_are_named() {
        for (answer, told) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "it is an HTTP server"),
            (&[0x15, 3, 3, 0, 2, 2, 10], "it speaks TLS"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "it says `SSH-2.0-OpenSSH_9.2"),
            (b"AMQP\x00\x01\x00\x00", "AMQP"),
            (&[8, 0, 0, 0, 0, 0, 0, 0], "it says `"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("amqp://127.0.0.1:{}/%2f", listener.local_addr().expect("an address").port());
            let endpoint = Endpoint::new(&url, Tls::default()).expect("a URL");
            let answering = async {
                let (mut socket, _) = listener.accept().await.expect("an attempt");
                socket.write_all(answer).await.expect("written");
                let _rest = socket.read_to_end(&mut Vec::new()).await;
            };
            let (error, ()) = tokio::join!(refusal(&endpoint), answering);
            let Unconnected::Failed(why) = error else { panic!("{error:?}") };
            assert!(why.contains(told), "{why}");
        }
    }

    #[tokio::test]
    async fn amqps_is_never_plain() {
        let endpoint = Endpoint::new("amqps://localhost", Tls::default()).expect("a URL");
        assert_eq!(refusal(&endpoint).await, Unconnected::Failed("amqps without TLS".to_owned()));
        let plain = Endpoint::new("amqp://localhost", Tls::default()).expect("a URL");
        assert!(plain.connector().await.expect("nothing to read").is_none());
    }

    #[tokio::test]
    async fn files_that_went_bad_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca.pem");
        let tls = Tls { ca: Some(ca.clone()), identity: None };
        let endpoint = Endpoint::new("amqps://localhost", tls).expect("a URL");
        let error = endpoint.connector().await.expect_err("no file");
        assert!(error.contains("ca.pem cannot be read"), "{error}");
        std::fs::write(ca, "hunter2").expect("a file");
        let error = endpoint.connector().await.expect_err("no certificate");
        assert!(error.contains("ca.pem holds no certificate") && !error.contains("hunter2"), "{error}");
    }
}
