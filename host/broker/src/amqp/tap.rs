//! A reader's own queue on RabbitMQ, which expires there by itself.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::consume::{Settings, Subscription};
use super::convert::name;
use super::queues::is_refusal;
use super::session::let_go;
use super::{Amqp, topology};
use crate::{Error, Tap};
use trunkline_config::TopologyMode;

impl Amqp {
    /// Makes a reader's queues and bindings; see [`Broker::open_tap`](crate::Broker::open_tap).
    ///
    /// # Errors
    /// As there.
    pub async fn open_tap(&self, tap: &Tap) -> Result<(), Error> {
        if self.topology.load().mode == TopologyMode::Check {
            let reason = "broker.topology is \"check\", and this needs a queue of its own".to_owned();
            return Err(Error::Queue { queue: tap.queue.clone(), reason });
        }
        let session = self.session_soon().await?;
        let channel = session.consume.create_channel().await.map_err(|error| Error::Lost(error.to_string()))?;
        let declared = declare(&channel, tap).await;
        close(channel).await;
        declared.map_err(|error| failed(tap, &error))
    }

    /// Consumes what did not fit, alone; see [`Broker::hold_tap`](crate::Broker::hold_tap).
    ///
    /// # Errors
    /// As there.
    pub async fn hold_tap(&self, tap: &Tap, tag: &str) -> Result<Subscription, Error> {
        let session = self.session_soon().await?;
        let settings = Settings { tag, exclusive: true, ..Settings::new(1) };
        Subscription::new(&session, &self.topology.load_full(), &tap.overflow, settings).await
    }

    /// The consumers of a reader's queue; see [`Broker::tap_consumers`](crate::Broker::tap_consumers).
    ///
    /// # Errors
    /// As there.
    pub async fn tap_consumers(&self, tap: &Tap) -> Result<Option<u32>, Error> {
        let session = self.session_soon().await?;
        let channel = session.consume.create_channel().await.map_err(|error| Error::Lost(error.to_string()))?;
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(name(tap.queue.as_str()), options, FieldTable::default()).await;
        close(channel).await;
        match found {
            Ok(queue) => Ok(Some(queue.consumer_count())),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(Error::Lost(error.to_string())),
        }
    }
}

/// The queues first and the bindings last: what is bound has a place for what does not fit.
async fn declare(channel: &Channel, tap: &Tap) -> Result<(), lapin::Error> {
    for (queue, settings, expires) in tap.queues() {
        topology::declare_expiring(channel, queue, &settings, expires.max(Duration::from_millis(1))).await?;
    }
    for binding in tap.bindings() {
        topology::bind(channel, &binding).await?;
    }
    Ok(())
}

async fn close(channel: Channel) {
    let _closed = channel.close(200, lapin::types::ShortString::default()).await;
    let_go(channel).await;
}

fn failed(tap: &Tap, error: &lapin::Error) -> Error {
    if is_refusal(error) {
        return Error::Queue { queue: tap.queue.clone(), reason: error.to_string() };
    }
    Error::Lost(error.to_string())
}
