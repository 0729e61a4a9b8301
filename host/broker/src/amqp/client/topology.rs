//! A change of the topology during a session: the new one is declared first, and adopted when all of it exists.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::broker::AmqpClient;
use crate::Error;
use crate::amqp::channel::{close, is_refusal, release};
use crate::amqp::connection::Session;
use crate::amqp::topology::{self, DeclarationPlace};
use trunkline_config::{Topology, TopologyMode};
use trunkline_event::QueueName;

/// Reports a queue whose dead-letter arguments other programs choose.
pub(super) fn report_policy(queue: &QueueName, policy: &str) {
    tracing::info!(%queue, policy, "other programs declare the queue, so the daemon sets no dead-letter arguments; without the \
        command of `policy`, RabbitMQ drops a message of the queue that expires or reaches the delivery limit");
}

impl AmqpClient {
    /// Declares a topology beside the present one; see [`Broker::prepare`](crate::Broker::prepare). Refusals that the present
    /// topology had already do not count against the new one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session ends meanwhile.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        let session = self.session.borrow().clone();
        let Some(active) = session.filter(|_| **self.topology.load() != **topology) else {
            return Ok(Vec::new());
        };
        let declared = topology::declare(&active.session, topology, DeclarationPlace::Separate).await;
        let refused = declared.map_err(|error| Error::Lost(format!("the topology cannot be declared: {error}")))?;
        let known = self.status.borrow().refused.clone();
        let fresh = refused.iter().filter(|refusal| !known.contains(refusal)).cloned().collect::<Vec<_>>();
        if fresh.is_empty() {
            // Some earlier refusals may no longer hold.
            self.change_status(|status| status.refused = refused);
        }
        Ok(fresh)
    }

    /// Makes a prepared topology the present one; see [`Broker::adopt`](crate::Broker::adopt).
    pub async fn adopt(&self, topology: Arc<Topology>) {
        let before = self.topology.swap(topology.clone());
        if topology.mode == TopologyMode::Declare {
            let stays = |queue| topology.queues.contains_key(queue);
            let gone = before.bindings.iter().filter(|old| !topology.bindings.contains(old) && stays(&old.queue));
            let mut unbinds = self.unbinds.lock();
            // An unbind that still waits must not remove a binding that is configured again.
            unbinds.retain(|binding| !topology.bindings.contains(binding));
            unbinds.extend(gone.cloned());
        }
        if let Some(active) = self.session.borrow().as_ref() {
            let policies = topology::policies(&topology, &active.session.vhost);
            for (queue, policy) in
                policies.iter().filter(|(queue, _)| before.queues.get(*queue) != topology.queues.get(*queue))
            {
                report_policy(queue, policy);
            }
        }
        let queues = before.queues.keys().collect::<BTreeSet<_>>();
        for queue in queues.into_iter().filter(|queue| !topology.queues.contains_key(*queue)) {
            tracing::warn!(%queue, "a queue is no longer in routes.toml; the queue stays on the broker with its bindings and messages");
        }
        let session = self.session.borrow().clone();
        if let Some(active) = session {
            if self.relays.load(Ordering::Acquire) {
                // The topology may have the first queue of a route.
                active.begin_relay();
            }
            self.unbind(&active.session).await;
        }
    }

    /// Removes the bindings on the list. A binding stays on the list, for the next session, until its removal is answered.
    pub(crate) async fn unbind(&self, session: &Session) {
        let waiting = || self.unbinds.lock();
        let all = waiting().clone();
        if all.is_empty() {
            return;
        }
        // Without a channel, the next session removes the bindings.
        let Ok(mut channel) = session.consume.create_channel().await else { return };
        for binding in all {
            // A newer topology may have the binding again.
            if !waiting().contains(&binding) {
                continue;
            }
            let done = topology::unbind(&channel, &binding).await;
            match done {
                Ok(()) => {
                    tracing::info!(queue = %binding.queue, exchange = %binding.exchange, "the daemon removed a binding that is no longer in routes.toml; the queue no longer receives the events of the binding")
                }
                Err(error) if is_refusal(&error) => {
                    tracing::warn!(queue = %binding.queue, exchange = %binding.exchange, %error, "the broker refused to remove a binding; the queue still receives the events of the binding");
                    let Ok(further) = session.consume.create_channel().await else { return };
                    release(std::mem::replace(&mut channel, further)).await;
                }
                Err(_lost) => return,
            }
            waiting().retain(|left| *left != binding);
        }
        close(channel).await;
    }
}
