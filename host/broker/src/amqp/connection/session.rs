//! A session: one connection for consuming and one for publishing.
//!
//! There are two connections because an alarm stops everything on a connection that publishes, acknowledgements included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::amqp_connection::AmqpConnection;
use super::endpoint::{ConnectError, Endpoint};
use crate::amqp::features::BrokerFeatures;
use crate::amqp::gate::LossHeader;
use crate::amqp::queue::{DeclaredQueues, ToleratedQueues, UnansweredQueues};
use crate::{BrokerServer, BrokerStatus};
use trunkline_event::{HeaderKey, limits};
use trunkline_telemetry::wait::Loop;

/// The longest wait for the tasks of a session that ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Both connections, and everything that ends with them.
pub(crate) struct Session {
    endpoint: Arc<Endpoint>,
    /// Counts sessions from 1.
    pub(crate) number: u64,
    pub(crate) consume: AmqpConnection,
    pub(crate) publish: AmqpConnection,
    /// Cancelled when the session is over.
    pub(crate) over: CancellationToken,
    pub(crate) status: watch::Receiver<BrokerStatus>,
    /// Signs the daemon's own headers.
    pub(crate) key: HeaderKey,
    /// Says what is missing from messages that the gate rewrote.
    pub(crate) loss_header: LossHeader,
    pub(crate) tolerated: Arc<ToleratedQueues>,
    pub(crate) unanswered: Arc<UnansweredQueues>,
    /// Queues that need no declaration before their first consumer.
    pub(crate) declared: DeclaredQueues,
    /// The name of the virtual host.
    pub(crate) vhost: String,
    /// The end of the last alarm. Nothing could be confirmed before it.
    pub(crate) unblocked: Mutex<Option<Instant>>,
    /// The last refused login of a further connection. The lock is held during each attempt.
    refused_login: tokio::sync::Mutex<Option<RefusedLogin>>,
    tasks: Mutex<JoinSet<()>>,
}

/// A login that the broker refused during a session, for example because the password has changed.
struct RefusedLogin {
    at: Instant,
    why: String,
}

/// Facts that outlive a session and that every session gets.
pub(crate) struct SessionContext {
    pub(crate) status: watch::Receiver<BrokerStatus>,
    pub(crate) key: HeaderKey,
    pub(crate) tolerated: Arc<ToleratedQueues>,
    pub(crate) unanswered: Arc<UnansweredQueues>,
}

impl Session {
    /// Opens both connections, one after the other, so that a refused login is tried once.
    ///
    /// # Errors
    /// Why a connection cannot be opened.
    pub(crate) async fn connect(
        to: &Arc<Endpoint>,
        number: u64,
        context: SessionContext,
    ) -> Result<Self, ConnectError> {
        let tls = to.connector().await.map_err(ConnectError::Failed)?;
        let consume = to.connect(tls.clone(), "trunkline consume").await?;
        let publish = match to.connect(tls, "trunkline publish").await {
            Ok(publish) => publish,
            Err(error) => {
                consume.close().await;
                return Err(error);
            }
        };
        limits::agreed_frame_max(publish.configuration().frame_max());
        let SessionContext { status, key, tolerated, unanswered } = context;
        Ok(Self {
            endpoint: to.clone(),
            number,
            consume,
            publish,
            over: CancellationToken::new(),
            status,
            key,
            loss_header: to.loss_header(),
            tolerated,
            unanswered,
            declared: DeclaredQueues::default(),
            vhost: to.vhost().to_owned(),
            unblocked: Mutex::default(),
            refused_login: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Opens one more connection, for a request whose failure may end its connection. The session goes on then. The caller
    /// closes the connection. The daemon does not log in again for some seconds after a refused login, because a broker may lock
    /// the account.
    ///
    /// # Errors
    /// Why the connection cannot be opened.
    pub(crate) async fn connect_apart(&self, name: &str) -> Result<AmqpConnection, String> {
        let mut refused_login = self.refused_login.lock().await;
        if let Some(refused) = refused_login.as_ref()
            && refused.at.elapsed() < Loop::BrokerLogin.rules().first
        {
            return Err(refused.why.clone());
        }
        let tls = self.endpoint.connector().await?;
        self.endpoint.connect(tls, name).await.map_err(|error| match error {
            ConnectError::LoginRefused(why) => {
                *refused_login = Some(RefusedLogin { at: Instant::now(), why: why.clone() });
                why
            }
            ConnectError::Failed(why) => why,
        })
    }

    /// Starts a task that ends with the session.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Product and version of the broker.
    pub(crate) fn server(&self) -> Option<&BrokerServer> {
        self.consume.server()
    }

    /// The behaviour of the broker that differs by version.
    pub(crate) fn features(&self) -> BrokerFeatures {
        BrokerFeatures::of(self.server())
    }

    /// Whether both connections are up.
    pub(crate) fn is_connected(&self) -> bool {
        self.consume.status().connected() && self.publish.status().connected()
    }

    /// Ends both connections and every task of the session.
    pub(crate) async fn close(&self) {
        self.over.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tokio::join!(self.publish.close(), self.consume.close());
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _hung = tokio::time::timeout(CLOSE_WITHIN, ended).await;
    }
}
