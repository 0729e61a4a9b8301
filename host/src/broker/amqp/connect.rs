//! From a URL to an open connection.
//!
//! Promises that `amqps` never becomes plain TCP: the handshake below is rustls by name, so that a build without it
//! does not compile, where lapin's own way quietly goes without. That way also adds `ca` to the system's roots, and
//! fails where the system has none; here `ca` stands in their place.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};

use crate::broker::Error;
use crate::config::{Tls, pem};

/// A connection that does not come up in this time will not.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Set unless the URL says otherwise. Without an explicit `frame_max` lapin's buffers take 7.6 MB a connection, and
/// with its 60 s heartbeat a dead peer is seen after two minutes.
const FRAME_MAX: u32 = 131_072;
const HEARTBEAT_S: u16 = 10;
/// For the name, TCP and TLS together. lapin itself waits without end for a peer that says nothing.
const DIAL_WITHIN_MS: u64 = 5000;

/// Starts the thread that lapin closes sockets with, which otherwise comes with the first connection that ends. If the
/// system has no thread to give then, every later end of a connection panics too.
pub(super) fn start_closer() {
    let started = std::thread::Builder::new().spawn(|| drop(async_compat::Compat::new(())));
    // Without it everything works for as long as there are threads.
    let _closer = started.map(std::thread::JoinHandle::join);
}

/// Where the broker is, and what TLS needs to get there.
pub(in crate::broker) struct Endpoint {
    uri: AMQPUri,
    tls: Tls,
}

impl Endpoint {
    /// Reads the URL, with our defaults in place of what it does not say.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it is none.
    pub(in crate::broker) fn new(url: &str, tls: Tls) -> Result<Self, Error> {
        let parsed = url.parse::<AMQPUri>();
        let mut uri = parsed.map_err(|error| Error::Unusable(format!("the broker's URL: {error}")))?;
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.connection_timeout.get_or_insert(DIAL_WITHIN_MS);
        if let Some(address) = ipv6(url) {
            address.clone_into(&mut uri.authority.host);
        }
        Ok(Self { uri, tls })
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

    /// Connects, over TLS if there is a connector.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self, tls: Option<RustlsConnector>, name: &str) -> Result<Connection, String> {
        if tls.is_none() && self.uri.scheme == AMQPScheme::AMQPS {
            return Err("amqps without TLS".to_owned());
        }
        let within = Duration::from_millis(self.uri.query.connection_timeout.unwrap_or(DIAL_WITHIN_MS));
        let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let socket = Socket::default();
        let own = socket.clone();
        let connecting = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let dialling = async {
                    let addresses = runtime.to_socket_addrs((uri.authority.host.clone(), uri.authority.port));
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        own.keep(plain.get_ref().as_fd());
                    }
                    match &tls {
                        Some(connector) => stream.into_rustls(connector, &uri.authority.host).await,
                        None => Ok(stream),
                    }
                };
                let dialled = tokio::time::timeout(within, dialling).await;
                dialled.unwrap_or_else(|_elapsed| Err(silence(within))).map_err(lapin::Error::from)
            },
            properties,
        );
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
        match &connected {
            // lapin keeps what is above, and this handle in it would keep the socket open after its end.
            Ok(Ok(_)) => socket.forget(),
            Ok(Err(_)) | Err(_) => socket.shut(),
        }
        match connected {
            Ok(connected) if self.uri.scheme == AMQPScheme::AMQP => connected.map_err(|error| error.to_string()),
            Ok(connected) => connected.map_err(|error| explain(&error.to_string())),
            Err(_elapsed) => Err(silence(CONNECT_WITHIN).to_string()),
        }
    }
}

/// A second handle of a connection's socket. A peer that accepts and then says nothing would keep lapin's thread and the
/// socket for ever, because nothing ends the attempt inside: so the socket is shut from here.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn keep(&self, socket: BorrowedFd<'_>) {
        let second = socket.try_clone_to_owned().ok().map(TcpStream::from);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = second;
    }

    fn shut(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _gone = socket.shutdown(Shutdown::Both);
        }
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
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

    fn threads() -> usize {
        std::fs::read_dir("/proc/self/task").expect("/proc").count()
    }

    /// A peer that accepts and is silent costs an attempt, and nothing after it.
    #[tokio::test]
    async fn silent_peers_leave_nothing_behind() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = format!("amqp://127.0.0.1:{port}/%2f");
        let endpoint = Endpoint::new(&url, Tls::default()).expect("a URL");
        let attempt = || async {
            let connecting = endpoint.connect(None, "test");
            tokio::time::timeout(CONNECT_WITHIN * 2, connecting).await.expect("it gives up").expect_err("silence")
        };
        assert!(attempt().await.contains("no answer"));
        // Other tests run beside this one, so that only a trend counts.
        let attempts = (0..8).map(|_| attempt());
        let before = threads();
        futures_util::future::join_all(attempts).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while threads() >= before + 8 && std::time::Instant::now() < deadline {
            crate::wait::after(Duration::from_millis(20)).await;
        }
        assert!(threads() < before + 8, "{} threads, {before} before eight attempts", threads());
    }

    #[tokio::test]
    async fn amqps_is_never_plain() {
        let endpoint = Endpoint::new("amqps://localhost", Tls::default()).expect("a URL");
        assert_eq!(endpoint.connect(None, "test").await.err().as_deref(), Some("amqps without TLS"));
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
