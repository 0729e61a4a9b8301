//! Looks for the retry queues of earlier builds. The daemon deletes no queue, so an operator gets the commands.
//!
//! The management API lists all queues. Without the management API, the daemon asks for single names. RabbitMQ writes a line into
//! its log for each queue that does not exist. The daemon therefore asks for a few names first, and for all names only if one
//! of the few exists.

use super::broker::AmqpClient;
use crate::amqp::queue::shell_word;
use crate::amqp::topology::{Declarer, QueueAnswer, look};
use crate::{Error, FormerRetryQueue, FormerRetryQueues};
use trunkline_event::QueueName;

/// Names that the daemon asks for first.
const FIRST_NAMES_MAX: usize = 16;

impl AmqpClient {
    /// The retry queues of earlier builds that exist; see
    /// [`Broker::former_retry_queues`](crate::Broker::former_retry_queues).
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn former_retry_queues(&self, of: &[FormerRetryQueues]) -> Result<Vec<FormerRetryQueue>, Error> {
        let listed = match &self.management {
            Some(management) => management.queues().await.ok(),
            None => None,
        };
        let Some(listed) = listed else {
            let first: Vec<QueueName> = of.iter().filter_map(|of| of.names().next()).take(FIRST_NAMES_MAX).collect();
            if self.existing_retry_queues(&first).await?.is_empty() {
                return Ok(Vec::new());
            }
            let all: Vec<QueueName> = of.iter().flat_map(FormerRetryQueues::names).collect();
            return self.existing_retry_queues(&all).await;
        };
        let is_former = |name: &&String| of.iter().any(|of| of.has_name(name));
        let mut names: Vec<QueueName> =
            listed.keys().filter(is_former).filter_map(|name| QueueName::new(name.as_str()).ok()).collect();
        names.sort();
        self.existing_retry_queues(&names).await
    }

    /// Those of the named retry queues that exist.
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn existing_retry_queues(&self, names: &[QueueName]) -> Result<Vec<FormerRetryQueue>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let lost = |error: lapin::Error| Error::Lost(error.to_string());
        let session = self.session_soon().await?.session.clone();
        let mut declarer = Declarer::new(&session, &session.consume).await.map_err(lost)?;
        let answers = look(&mut declarer, names).await.map_err(lost)?;
        declarer.close().await;
        let former = |(queue, answer): (&QueueName, QueueAnswer)| {
            let (vhost, name) = (shell_word(&session.vhost), shell_word(queue.as_str()));
            let command = format!("rabbitmqctl --vhost {vhost} delete_queue {name}");
            let ready = u64::from(answer.ok()?.message_count());
            Some(FormerRetryQueue { queue: queue.clone(), ready, command })
        };
        Ok(names.iter().zip(answers).filter_map(former).collect())
    }
}
