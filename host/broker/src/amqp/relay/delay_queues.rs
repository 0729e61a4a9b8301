//! The delay queues as one session knows them: declared before the first delayed message, and again when they may be missing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use lapin::Connection;

use crate::amqp::channel::{closes_only_its_channel, with_remedy};
use crate::amqp::connection::Session;
use crate::amqp::delay::{DUE, declare_all, declare_if_complete, exists, is_level, queue};
use crate::amqp::topology::Declarer;
use crate::{Error, Passing, Refusal, Unpublished};
use trunkline_config::{Topology, TopologyMode};

/// The name of the connection on which the delay queues are made.
const CONNECTION: &str = "trunkline declare";
const UNDECLARED: &str = "the delay queues cannot be declared";

/// The delay queues of the virtual host, for one session.
pub(crate) struct DelayQueues {
    session: Arc<Session>,
    /// The present topology of the client.
    topology: Arc<ArcSwap<Topology>>,
    knowledge: tokio::sync::Mutex<Knowledge>,
}

/// Knowledge of a session about the delay queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Knowledge {
    /// The session has not looked yet.
    #[default]
    Unknown,
    /// An exchange, a queue or a binding may be missing.
    Doubted,
    /// All delay queues exist.
    Ready,
}

impl DelayQueues {
    pub(crate) fn new(session: Arc<Session>, topology: Arc<ArcSwap<Topology>>) -> Self {
        Self { session, topology, knowledge: tokio::sync::Mutex::default() }
    }

    /// The present topology.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Whether the daemon may declare nothing.
    pub(crate) fn are_only_checked(&self) -> bool {
        self.topology.load().mode == TopologyMode::Check
    }

    /// Declares the delay queues unless the session knows that they exist.
    ///
    /// # Errors
    /// [`Error::Queue`] when they do not exist and the daemon may not declare anything, when the broker refused them, or when the
    /// connection was lost.
    pub(crate) async fn ensure(&self) -> Result<(), Error> {
        let mut knowledge = self.knowledge.lock().await;
        if *knowledge == Knowledge::Ready {
            return Ok(());
        }
        if !self.are_only_checked() {
            self.declare(*knowledge).await?;
        } else if !exists(&self.session, &queue(DUE)).await {
            let reason = "`topology` in [broker] is \"check\", and the delay queues do not exist; make the delay queues with the commands that `trunkline check` prints".to_owned();
            return Err(Error::Queue { queue: queue(DUE), reason });
        }
        *knowledge = Knowledge::Ready;
        Ok(())
    }

    async fn declare(&self, known: Knowledge) -> Result<(), Error> {
        let session = &self.session;
        let failed = |why: String| Error::Queue { queue: queue(DUE), reason: format!("{UNDECLARED}: {why}") };
        let mut declared = match known {
            Knowledge::Unknown => declare_on(session, &session.consume, DelayDeclaration::IfComplete).await,
            Knowledge::Doubted | Knowledge::Ready => Ok(false),
        };
        if matches!(declared, Ok(false)) {
            // A new quorum queue without a majority ends its connection, and the session has to go on.
            let connection = session.connect_apart(CONNECTION).await.map_err(failed)?;
            declared = declare_on(session, &connection, DelayDeclaration::All).await;
            connection.close().await;
        }
        let Err(error) = declared else { return Ok(()) };
        // A user without the permission to configure the queues may be allowed to use them.
        if closes_only_its_channel(&error) && exists(session, &queue(DUE)).await {
            let error = with_remedy(&error);
            tracing::warn!(error, "the delay queues cannot be declared; the daemon uses the delay queues that exist");
            return Ok(());
        }
        Err(failed(with_remedy(&error)))
    }

    /// Makes the next [`DelayQueues::ensure`] declare the queues again.
    pub(crate) async fn doubt(&self) {
        *self.knowledge.lock().await = Knowledge::Doubted;
    }

    /// Notes why messages were not published: a level that takes no message was deleted.
    pub(crate) async fn note(&self, unpublished: &Unpublished) {
        let is_of_level = |refusal: &Refusal| match refusal {
            Refusal::Passing(Passing::Unroutable { exchange, .. } | Passing::NoExchange(exchange)) => {
                is_level(exchange)
            }
            Refusal::Passing(Passing::Full | Passing::NoRoom(_)) | Refusal::Permanent(_) => false,
        };
        if unpublished.refused.iter().any(|(_, refusal)| is_of_level(refusal)) {
            self.doubt().await;
        }
    }
}

/// Which delay queues are declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DelayDeclaration {
    /// The queues that exist, unless one is missing.
    IfComplete,
    /// All queues, the missing ones too.
    All,
}

/// Declares delay queues on a connection. Returns whether all of them exist.
async fn declare_on(
    session: &Session,
    connection: &Connection,
    declaration: DelayDeclaration,
) -> Result<bool, lapin::Error> {
    let mut declarer = Declarer::new(session, connection).await?;
    let declared = match declaration {
        DelayDeclaration::IfComplete => declare_if_complete(&mut declarer, session).await,
        DelayDeclaration::All => declare_all(&mut declarer, session).await.map(|()| true),
    };
    declarer.close().await;
    declared
}
