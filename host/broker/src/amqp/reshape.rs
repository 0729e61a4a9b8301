//! Another topology while the session lives: declared first, adopted when all of it is there.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use lapin::types::ShortString;

use super::queues::is_refusal;
use super::session::{Session, let_go};
use super::{Amqp, topology};
use crate::Error;
use trunkline_config::{Topology, TopologyMode};

impl Amqp {
    /// Declares a topology beside the present one; see [`Broker::prepare`](crate::Broker::prepare). What the
    /// present one was refused already is no reason to refuse the new one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session ends meanwhile.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        let session = self.session.borrow().clone();
        let Some(session) = session.filter(|_| **self.topology.load() != **topology) else {
            return Ok(Vec::new());
        };
        let declared = topology::declare(&session, topology).await;
        let refused = declared.map_err(|error| Error::Lost(format!("while declaring the topology: {error}")))?;
        let known = self.status.borrow().refused.clone();
        let fresh = refused.iter().filter(|refusal| !known.contains(refusal)).cloned().collect::<Vec<_>>();
        if fresh.is_empty() {
            // Some of what was refused may be well by now.
            self.status.send_modify(|status| status.refused = refused);
        }
        Ok(fresh)
    }

    /// Takes a topology for the present one; see [`Broker::adopt`](crate::Broker::adopt).
    pub async fn adopt(&self, topology: Arc<Topology>) {
        let before = self.topology.swap(topology.clone());
        if topology.mode == TopologyMode::Declare {
            let stays = |queue| topology.queues.contains_key(queue);
            let gone = before.bindings.iter().filter(|old| !topology.bindings.contains(old) && stays(&old.queue));
            let mut unbinds = self.unbinds.lock().unwrap_or_else(PoisonError::into_inner);
            // A binding that came back must not be taken away by an unbind that is still waiting.
            unbinds.retain(|binding| !topology.bindings.contains(binding));
            unbinds.extend(gone.cloned());
        }
        let queues = before.queues.keys().collect::<BTreeSet<_>>();
        for queue in queues.into_iter().filter(|queue| !topology.queues.contains_key(*queue)) {
            tracing::warn!(%queue, "queue is no longer configured; it stays on the broker with its bindings and messages");
        }
        let session = self.session.borrow().clone();
        if let Some(session) = session {
            self.unbind(&session).await;
        }
    }

    /// Takes away the bindings that wait for it. What fails is tried again in the next session, and so is what is left when
    /// the caller stops waiting.
    pub(super) async fn unbind(&self, session: &Session) {
        let waiting = || self.unbinds.lock().unwrap_or_else(PoisonError::into_inner);
        let all = waiting().clone();
        for binding in all {
            // It may have come back meanwhile.
            if !waiting().contains(&binding) {
                continue;
            }
            let done = match session.consume.create_channel().await {
                Ok(channel) => {
                    let done = topology::unbind(&channel, &binding).await;
                    let _closed = channel.close(200, ShortString::default()).await;
                    let_go(channel).await;
                    done
                }
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => tracing::info!(queue = %binding.queue, exchange = %binding.exchange, "binding taken away"),
                Err(error) if is_refusal(&error) => {
                    tracing::warn!(queue = %binding.queue, exchange = %binding.exchange, %error, "binding stays");
                }
                Err(_lost) => continue,
            }
            waiting().retain(|left| *left != binding);
        }
    }
}
