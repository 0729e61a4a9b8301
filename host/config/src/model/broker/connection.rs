//! The broker and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::broker::url::BrokerUrl;
use crate::model::secret::Secret;

/// Which broker the daemon uses.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerChoice {
    /// The embedded broker, in the state directory.
    Embedded,
    /// RabbitMQ.
    Amqp(Box<AmqpBroker>),
}

/// A RabbitMQ.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpBroker {
    /// Address and credentials.
    pub url: BrokerUrl,
    /// Certificates for an `amqps://` URL.
    pub tls: Tls,
    /// The management API, if it is configured.
    pub management: Option<Management>,
    /// The secret that signs the daemon's own headers. The state directory keeps one when it is absent.
    pub header_key: Option<Secret>,
    /// The time after which the broker is asked again for the figures of queues.
    pub poll: Duration,
}

/// `broker.management-url`, without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Management {
    /// `http://HOST:PORT` and the path before `/api`, without a slash at the end.
    pub url: String,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

/// `broker.tls`: PEM files. They are read again for every session, so that renewed certificates are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates of the authorities that may have signed the broker's; the system's roots when absent. Absolute.
    pub ca: Option<PathBuf>,
    /// The daemon's own certificate, for a broker that asks for one.
    pub identity: Option<ClientCertificate>,
}

/// The daemon's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and the intermediate ones. Absolute.
    pub cert: PathBuf,
    /// The private key. Absolute.
    pub key: PathBuf,
}

impl std::fmt::Debug for BrokerChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

impl BrokerChoice {
    /// The broker without credentials, for logs: `embedded` or `amqp://host:port/vhost`.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::Amqp(amqp) => amqp.url.to_string(),
        }
    }
}
