//! The beginning of a consumer: the queue is declared, unless the session declared it a moment ago, and a channel consumes it.

use futures_util::future::join;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::stream_check::refuse_known_stream;
use crate::Error;
use crate::amqp::channel::{closes_only_its_channel, queue_error, release, short_string};
use crate::amqp::connection::Session;
use crate::amqp::topology;
use trunkline_config::Topology;
use trunkline_event::QueueName;

/// How a queue is consumed.
pub(crate) struct SubscriptionOptions<'a> {
    /// The largest number of unacknowledged deliveries.
    pub(crate) prefetch: u16,
    /// The tag of the consumer.
    pub(crate) tag: &'a str,
    /// Whether no other consumer may use the queue meanwhile.
    pub(crate) exclusive: bool,
    /// Whether the daemon's own headers keep their signature, so that the reader can verify them.
    pub(crate) keeps_signatures: bool,
}

impl SubscriptionOptions<'_> {
    /// With a tag that the broker chooses.
    pub(crate) const fn new(prefetch: u16) -> Self {
        Self { prefetch, tag: "", exclusive: false, keeps_signatures: false }
    }
}

/// Begins to consume a queue of the topology.
///
/// # Errors
/// [`Error::Queue`] when the broker refuses the queue, [`Error::Lost`] when the connection is lost.
pub(super) async fn begin(
    session: &Session,
    topology: &Topology,
    queue: &QueueName,
    options: &SubscriptionOptions<'_>,
) -> Result<(Channel, Consumer), Error> {
    let failed = |error: lapin::Error| queue_error(queue, &error);
    if session.declared.take(queue, topology) && !session.tolerated.was_stream(queue) {
        match consume(session, queue, options).await {
            // The queue may be gone by now.
            Err(error) if closes_only_its_channel(&error) => {}
            consuming => return consuming.map_err(failed),
        }
    }
    topology::declare_queue(session, topology, queue).await?;
    refuse_known_stream(session, queue).await?;
    consume(session, queue, options).await.map_err(failed)
}

async fn consume(
    session: &Session,
    queue: &QueueName,
    options: &SubscriptionOptions<'_>,
) -> Result<(Channel, Consumer), lapin::Error> {
    let channel = session.consume.create_channel().await?;
    let (queue, tag) = (short_string(queue.as_str()), short_string(options.tag));
    let how = BasicConsumeOptions { exclusive: options.exclusive, ..BasicConsumeOptions::default() };
    // The broker handles the requests of a channel in their order, so the prefetch holds for the consumer.
    let prefetch = channel.basic_qos(options.prefetch, BasicQosOptions::default());
    let consuming = channel.basic_consume(queue, tag, how, FieldTable::default());
    let (prefetch, consuming) = join(prefetch, consuming).await;
    match prefetch.and(consuming) {
        Ok(consumer) => Ok((channel, consumer)),
        Err(error) => {
            release(channel).await;
            Err(error)
        }
    }
}
