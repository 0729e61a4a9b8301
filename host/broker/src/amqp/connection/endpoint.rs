//! The broker's endpoint: from a URL to an open connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind};

use super::amqp_connection::{AmqpConnection, HangUpOnDrop};
use super::certificate::expiry;
use super::resolver::Resolver;
use super::tls::{self, explain};
use crate::amqp::gate::{GateRuntime, GatedTransport, LossHeader, Socket, Transport, TransportControl};
use trunkline_config::{BrokerUrl, Tls};
use trunkline_telemetry as telemetry;

/// The default of `frame_max` in the URL. Without a value lapin's buffers take 7.6 MB a connection.
const FRAME_MAX: u32 = 131_072;
/// The smallest `frame_max`. From version 4.1 on RabbitMQ ends a connection that asks for less, without an answer. Each earlier
/// version takes this size too, or offers its own smaller one.
const FRAME_MAX_LEAST: u32 = 8192;
/// The default of `heartbeat` in the URL. With lapin's default of 60 s a dead peer is noticed after two minutes.
const HEARTBEAT_S: u16 = 10;
/// The default of `connection_timeout` in the URL: the longest time for name, TCP and TLS together, and once more for the
/// login. lapin itself waits for a silent peer without end.
const DIAL_WITHIN_MS: u64 = 5000;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The broker refuses the user, or does not let the user into the virtual host. Another try is another failed login.
    LoginRefused(String),
    /// Anything else.
    Failed(String),
}

/// The address of the broker, its credentials and its TLS settings.
pub(crate) struct Endpoint {
    uri: AMQPUri,
    tls: Tls,
    resolver: Arc<Resolver>,
    loss_header: LossHeader,
}

impl Endpoint {
    /// The endpoint of a URL, with the defaults above in place of absent parameters.
    pub(crate) fn new(url: &BrokerUrl, tls: Tls) -> Self {
        let uri = AMQPUri {
            scheme: if url.is_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: url.user().to_owned(),
                    password: url.password().expose().to_owned(),
                },
                host: url.host.clone(),
                port: url.port,
            },
            vhost: url.vhost.clone(),
            query: AMQPQueryString {
                // Without a bound lapin's buffers take none of RabbitMQ's larger frames, so 0 becomes the default as well.
                frame_max: Some(match url.query.frame_max {
                    None | Some(0) => FRAME_MAX,
                    Some(bytes) => bytes.max(FRAME_MAX_LEAST),
                }),
                channel_max: url.query.channel_max,
                heartbeat: url.query.heartbeat.or(Some(HEARTBEAT_S)),
                connection_timeout: url.query.connection_timeout_ms.or(Some(DIAL_WITHIN_MS)),
                auth_mechanism: url.query.auth_mechanism.as_deref().and_then(|mechanism| mechanism.parse().ok()),
            },
        };
        let resolver = Arc::new(Resolver::new(uri.authority.host.clone(), uri.authority.port));
        Self { uri, tls, resolver, loss_header: LossHeader::random() }
    }

    /// The loss header of messages that the gate rewrites.
    pub(crate) fn loss_header(&self) -> LossHeader {
        self.loss_header.clone()
    }

    /// The name of the virtual host, decoded.
    pub(crate) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Makes a TLS connector from the PEM files; none for an `amqp` URL.
    ///
    /// # Errors
    /// The file and the problem.
    pub(crate) async fn connector(&self) -> Result<Option<RustlsConnector>, String> {
        if self.uri.scheme == AMQPScheme::AMQP {
            return Ok(None);
        }
        let tls = self.tls.clone();
        let reading = tokio::task::spawn_blocking(move || tls::connector(&tls));
        reading.await.unwrap_or_else(|error| Err(error.to_string())).map(Some)
    }

    /// Connects, over TLS if there is a connector. A future that is dropped leaves neither a thread nor a socket behind.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(crate) async fn connect(
        &self,
        tls: Option<RustlsConnector>,
        name: &str,
    ) -> Result<AmqpConnection, ConnectError> {
        if tls.is_none() && self.uri.scheme == AMQPScheme::AMQPS {
            return Err(ConnectError::Failed("the URL begins with amqps://, but TLS is not set up".to_owned()));
        }
        let within = Duration::from_millis(self.uri.query.connection_timeout.unwrap_or(DIAL_WITHIN_MS));
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let control = HangUpOnDrop(TransportControl::default());
        let (resolver, transport_control, loss_header) =
            (self.resolver.clone(), control.0.clone(), self.loss_header.clone());
        let connecting = Connection::connector(
            self.uri.clone(),
            async_rs::Runtime::new(GateRuntime::current(self.loss_header.clone())),
            async move |uri, _runtime| {
                let dialling = async {
                    let socket = Socket(resolver.clone().dial(within).await?);
                    let transport: Box<dyn Transport> = match &tls {
                        Some(connector) => {
                            let stream = connector.connect_async(&uri.authority.host, socket).await?;
                            let chain = stream.get_ref().1.peer_certificates();
                            let own = chain.and_then(|chain| chain.first());
                            if let Some(expires) = own.and_then(|own| expiry(own)) {
                                telemetry::broker_certificate(expires);
                            }
                            Box::new(stream)
                        }
                        None => Box::new(socket),
                    };
                    Ok(AsyncTcpStream::Plain(GatedTransport::new(
                        transport,
                        transport_control.clone(),
                        loss_header.clone(),
                    )))
                };
                let dialled = tokio::time::timeout(within, dialling).await;
                dialled.unwrap_or_else(|_elapsed| Err(silence(within))).map_err(lapin::Error::from)
            },
            properties,
        );
        match tokio::time::timeout(within * 2, connecting).await {
            Ok(Ok(connection)) => Ok(AmqpConnection::new(connection, control)),
            Ok(Err(error)) => Err(self.connect_error(&error)),
            Err(_elapsed) => Err(ConnectError::Failed(silence(within * 2).to_string())),
        }
    }

    fn connect_error(&self, error: &lapin::Error) -> ConnectError {
        if let Some(words) = login_refused(error) {
            let (user, vhost) = (&self.uri.authority.userinfo.username, &self.uri.vhost);
            return ConnectError::LoginRefused(format!(
                "the broker refuses the user `{user}` on the virtual host `{vhost}`: {words}; correct the user, the \
                 password and the virtual host in the broker's URL, or give the user the permission"
            ));
        }
        let text = error.to_string();
        ConnectError::Failed(match self.uri.scheme {
            AMQPScheme::AMQP => advise(&text),
            AMQPScheme::AMQPS => explain(&text),
        })
    }
}

/// The broker's text when it refuses a login (403) or a virtual host (530).
fn login_refused(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    let is_refused = matches!(
        refusal.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
    );
    is_refused.then(|| refusal.get_message().as_str().to_owned())
}

/// Adds an instruction to an error of a connection without TLS.
fn advise(error: &str) -> String {
    let advice = if error.contains("Connection refused") {
        "; start the broker, or correct the host and the port in the broker's URL"
    } else if error.contains("connection aborted") {
        "; the peer may not speak AMQP without TLS: check the port of the broker's URL, which is usually 5672"
    } else {
        ""
    };
    format!("{error}{advice}")
}

fn silence(waited: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the broker did not answer within {} s", waited.as_secs_f32()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn endpoint_of(url: &str, tls: Tls) -> Endpoint {
        Endpoint::new(&BrokerUrl::parse(url).expect(url), tls)
    }

    fn uri(url: &str) -> AMQPUri {
        endpoint_of(url, Tls::default()).uri
    }

    #[test]
    fn defaults_give_way_to_the_url() {
        let query = uri("amqp://guest:guest@localhost:5672/%2f").query;
        assert_eq!((query.frame_max, query.heartbeat, query.connection_timeout), (Some(131_072), Some(10), Some(5000)));
        let query = uri("amqp://localhost/%2f?heartbeat=3").query;
        assert_eq!((query.frame_max, query.heartbeat), (Some(131_072), Some(3)));
        for (given, used) in [(0, 131_072), (1, 8192), (4096, 8192), (8192, 8192), (65_536, 65_536)] {
            let query = uri(&format!("amqp://localhost/%2f?frame_max={given}")).query;
            assert_eq!(query.frame_max, Some(used), "{given}");
        }
    }

    #[test]
    fn an_error_without_tls_has_an_instruction() {
        for (error, instruction) in [
            ("IO error: 127.0.0.1:1: Connection refused (os error 111)", "; start the broker, or correct the host"),
            ("IO error: connection aborted", "usually 5672"),
        ] {
            let advised = advise(error);
            assert!(advised.starts_with(error) && advised.contains(instruction), "{advised}");
        }
        assert_eq!(advise("IO error: other"), "IO error: other");
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

    async fn refusal(endpoint: &Endpoint) -> ConnectError {
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

    /// A peer that accepts and then sends nothing, at once or after its first bytes, costs one attempt and leaves no thread and
    /// no socket behind.
    #[tokio::test]
    async fn silent_peers_leave_nothing_behind() {
        const ATTEMPTS: usize = 25;
        for (is_dropped, words) in [(false, Vec::new()), (false, start()), (true, Vec::new()), (true, start())] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let url = format!("amqp://127.0.0.1:{port}/%2f?connection_timeout=150");
            let endpoint = endpoint_of(&url, Tls::default());
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
                        assert!(matches!(&error, ConnectError::Failed(why) if why.contains("did not answer")), "{error:?}");
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
                // Bytes that the peer did not read turn the close into a reset.
                let _ended = ended.expect("the socket is closed");
            }
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            while threads() > 0 && std::time::Instant::now() < deadline {
                trunkline_telemetry::wait::after(Duration::from_millis(5)).await;
            }
            assert_eq!(threads(), 0, "dropped: {is_dropped}, after {} bytes", words.len());
        }
    }

    /// A peer that speaks another protocol is recognised by its first bytes.
    #[tokio::test]
    async fn other_protocols_are_named() {
        for (answer, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "the peer is an HTTP server"),
            (&[0x15, 3, 3, 0, 2, 2, 10], "the peer speaks TLS"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer sent `SSH-2.0-OpenSSH_9.2"),
            (b"AMQP\x00\x01\x00\x00", "AMQP"),
            (&[8, 0, 0, 0, 0, 0, 0, 0], "the peer sent `"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("amqp://127.0.0.1:{}/%2f", listener.local_addr().expect("an address").port());
            let endpoint = endpoint_of(&url, Tls::default());
            let answering = async {
                let (mut socket, _) = listener.accept().await.expect("an attempt");
                socket.write_all(answer).await.expect("written");
                let _rest = socket.read_to_end(&mut Vec::new()).await;
            };
            let (error, ()) = tokio::join!(refusal(&endpoint), answering);
            let ConnectError::Failed(why) = error else { panic!("{error:?}") };
            assert!(why.contains(expected), "{why}");
        }
    }

    #[tokio::test]
    async fn amqps_is_never_plain() {
        let endpoint = endpoint_of("amqps://localhost", Tls::default());
        let text = "the URL begins with amqps://, but TLS is not set up";
        assert_eq!(refusal(&endpoint).await, ConnectError::Failed(text.to_owned()));
        let plain = endpoint_of("amqp://localhost", Tls::default());
        assert!(plain.connector().await.expect("nothing to read").is_none());
    }

    #[tokio::test]
    async fn files_that_went_bad_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca.pem");
        let tls = Tls { ca: Some(ca.clone()), identity: None };
        let endpoint = endpoint_of("amqps://localhost", tls);
        let error = endpoint.connector().await.expect_err("no file");
        assert!(error.contains("ca.pem cannot be read"), "{error}");
        std::fs::write(ca, "hunter2").expect("a file");
        let error = endpoint.connector().await.expect_err("no certificate");
        assert!(error.contains("ca.pem contains no certificate") && !error.contains("hunter2"), "{error}");
    }
}
