//! What RabbitMQ tells of its queues: ready messages and consumers over AMQP, exact and at once; the rest by the
//! management API, where there is one.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};

use super::Amqp;
use super::convert::name;
use super::queues::is_refusal;
use super::session::{Session, let_go};
use crate::{Error, QueueStatistics, Source, Statistics};
use trunkline_config::Topology;

/// For all queues together.
const ASK_WITHIN: Duration = Duration::from_secs(5);

impl Amqp {
    /// See [`Broker::statistics`](crate::Broker::statistics).
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn statistics(&self, topology: &Topology) -> Result<Statistics, Error> {
        let _one_at_a_time = self.asking.lock().await;
        let session = self.session_soon().await?;
        let asked = tokio::time::timeout(ASK_WITHIN, ask(&session, topology)).await;
        let lost = |reason: String| Error::Lost(reason);
        let mut found = asked
            .map_err(|_elapsed| lost(format!("no answer within {} s", ASK_WITHIN.as_secs())))?
            .map_err(|error| lost(error.to_string()))?;
        match &self.management {
            None => found.problems.push(
                "AMQP does not tell unacknowledged messages and rates; `management-url` in [broker] would".to_owned(),
            ),
            Some(management) => match management.queues().await {
                Ok(known) => {
                    found.source = Source::Management;
                    for queue in &mut found.queues {
                        if let Some(known) = known.get(queue.queue.as_str()) {
                            (queue.unacknowledged, queue.rates) = (known.unacknowledged, known.rates);
                        }
                    }
                }
                Err(problem) => found.problems.push(format!("the management API: {problem}")),
            },
        }
        Ok(found)
    }
}

/// A queue that is not there closes the channel; the next one goes on.
async fn ask(session: &Session, topology: &Topology) -> Result<Statistics, lapin::Error> {
    let mut channel = session.consume.create_channel().await?;
    let (mut queues, mut problems) = (Vec::with_capacity(topology.queues.len()), Vec::new());
    for queue in topology.queues.keys() {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(name(queue.as_str()), options, FieldTable::default()).await {
            Ok(found) => queues.push(QueueStatistics {
                queue: queue.clone(),
                ready: u64::from(found.message_count()),
                unacknowledged: None,
                retrying: None,
                consumers: u64::from(found.consumer_count()),
                oldest_age: None,
                rates: None,
            }),
            Err(error) if is_refusal(&error) => {
                problems.push(format!("queue {queue}: {error}"));
                let_go(channel).await;
                channel = session.consume.create_channel().await?;
            }
            Err(error) => return Err(error),
        }
    }
    let _closed = channel.close(200, ShortString::default()).await;
    Ok(Statistics { source: Source::Amqp, queues, problems })
}
