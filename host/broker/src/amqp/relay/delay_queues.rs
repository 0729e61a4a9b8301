//! The delay queues as one session knows them: declared before the first delayed message, and again when they may be missing.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::amqp::channel::{closes_only_its_channel, with_remedy};
use crate::amqp::connection::Session;
use crate::amqp::delay::{DUE, declare_all, declare_if_complete, exists, is_level, queue};
use crate::amqp::topology::Declarer;
use crate::{Error, Passing, Refusal, Unpublished};
use trunkline_config::{Topology, TopologyMode};

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
        let declared = declare(session, known).await;
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

/// Declares the delay queues. Missing ones are made on a separate connection, because a new quorum queue without a majority ends
/// its connection, and the session has to go on.
///
/// # Errors
/// The refusal, or the loss of a connection.
async fn declare(session: &Session, known: Knowledge) -> Result<(), lapin::Error> {
    if known == Knowledge::Unknown {
        let mut declarer = Declarer::new(session, &session.consume).await?;
        let is_complete = declare_if_complete(&mut declarer, session).await;
        declarer.close().await;
        if is_complete? {
            return Ok(());
        }
    }
    let mut declarer = Declarer::separate(session).await?;
    let declared = declare_all(&mut declarer, session).await;
    declarer.close().await;
    declared
}
