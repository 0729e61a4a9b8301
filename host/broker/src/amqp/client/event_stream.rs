//! The queue of a stream on RabbitMQ, which removes the queue by itself when it is unused.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::broker::AmqpClient;
use crate::amqp::channel::{close, is_refusal, queue_error, short_string};
use crate::amqp::consume::{AmqpSubscription, SubscriptionOptions};
use crate::amqp::topology;
use crate::{Error, EventStreamQueues};
use trunkline_config::TopologyMode;

impl AmqpClient {
    /// Declares the queues and bindings of a stream; see [`Broker::open_event_stream`](crate::Broker::open_event_stream).
    ///
    /// # Errors
    /// As the method of [`Broker`](crate::Broker).
    pub async fn open_event_stream(&self, stream: &EventStreamQueues) -> Result<(), Error> {
        if self.topology.load().mode == TopologyMode::Check {
            let reason =
                "`topology` in [broker] is \"check\", but the daemon must declare a queue for a stream; write `topology = \"declare\"`"
                    .to_owned();
            return Err(Error::Queue { queue: stream.queue.clone(), reason });
        }
        let session = self.session_soon().await?.session.clone();
        let channel = session.consume.create_channel().await.map_err(|error| Error::Lost(error.to_string()))?;
        let declared = declare(&channel, stream).await;
        close(channel).await;
        declared.map_err(|error| queue_error(&stream.queue, &error))
    }

    /// Consumes the overflow queue as the only consumer; see [`Broker::claim_event_stream`](crate::Broker::claim_event_stream).
    ///
    /// # Errors
    /// As the method of [`Broker`](crate::Broker).
    pub async fn claim_event_stream(&self, stream: &EventStreamQueues, tag: &str) -> Result<AmqpSubscription, Error> {
        let session = self.session_soon().await?.session.clone();
        let options = SubscriptionOptions { tag, exclusive: true, ..SubscriptionOptions::new(1) };
        AmqpSubscription::new(&session, &self.topology.load_full(), &stream.overflow, options).await
    }

    /// The number of consumers of a stream's queue; see [`Broker::event_stream_consumers`](crate::Broker::event_stream_consumers).
    ///
    /// # Errors
    /// As the method of [`Broker`](crate::Broker).
    pub async fn event_stream_consumers(&self, stream: &EventStreamQueues) -> Result<Option<u32>, Error> {
        let session = self.session_soon().await?.session.clone();
        let channel = session.consume.create_channel().await.map_err(|error| Error::Lost(error.to_string()))?;
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(short_string(stream.queue.as_str()), options, FieldTable::default()).await;
        close(channel).await;
        match found {
            Ok(queue) => Ok(Some(queue.consumer_count())),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(Error::Lost(error.to_string())),
        }
    }
}

/// Declares the queues first and the bindings last, so that an event that does not fit finds the overflow queue.
async fn declare(channel: &Channel, stream: &EventStreamQueues) -> Result<(), lapin::Error> {
    for (queue, settings, expires) in stream.queues() {
        topology::declare_expiring_queue(channel, queue, &settings, expires.max(Duration::from_millis(1))).await?;
    }
    for binding in stream.bindings() {
        topology::bind(channel, &binding).await?;
    }
    Ok(())
}
