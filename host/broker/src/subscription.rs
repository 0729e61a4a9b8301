//! A consumer of one queue, on either broker.

use futures_util::FutureExt;

use crate::{Error, Next, amqp, embedded};

/// A consumer of one queue.
pub enum Subscription {
    /// A consumer of RabbitMQ, on a channel of its own.
    Amqp(Box<amqp::AmqpSubscription>),
    /// A consumer of the embedded broker.
    Embedded(embedded::EmbeddedSubscription),
}

impl Subscription {
    /// The next delivery. The future may be dropped, for example as an arm of `select!`.
    pub async fn next(&mut self) -> Next {
        match self {
            Self::Amqp(subscription) => subscription.next().await,
            Self::Embedded(subscription) => subscription.next().await,
        }
    }

    /// The next delivery, if it is there already.
    pub fn try_next(&mut self) -> Option<Next> {
        self.next().now_or_never()
    }

    /// The end of the subscription, within 100 ms of its time. Deliveries that arrive meanwhile wait for
    /// [`Subscription::next`]. The future may be dropped.
    pub async fn ended(&mut self) -> Next {
        match self {
            Self::Amqp(subscription) => subscription.ended().await,
            Self::Embedded(subscription) => Next::Ended(subscription.ended().await),
        }
    }

    /// Whether earlier deliveries can still be settled.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Amqp(subscription) => subscription.is_open(),
            Self::Embedded(_) => true,
        }
    }

    /// Changes the largest number of unacknowledged deliveries. Earlier deliveries can still be settled.
    ///
    /// # Errors
    /// [`Error::Lost`] when the subscription is over.
    pub async fn resize(&mut self, prefetch: u16) -> Result<(), Error> {
        match self {
            Self::Amqp(subscription) => subscription.resize(prefetch).await,
            Self::Embedded(subscription) => {
                subscription.resize(prefetch);
                Ok(())
            }
        }
    }

    /// Stops new deliveries, and gives back those that [`Subscription::next`] has not returned. Earlier deliveries can still be
    /// settled. A drain calls this method before [`Subscription::close`].
    pub async fn cancel(&mut self) {
        match self {
            Self::Amqp(subscription) => subscription.cancel().await,
            Self::Embedded(subscription) => subscription.cancel().await,
        }
    }

    /// Sends every buffered acknowledgement, waits until the broker has processed them, and gives unacknowledged messages back
    /// to the queue.
    ///
    /// # Errors
    /// [`Error::Lost`] when acknowledgements may not have arrived. The broker delivers those messages again.
    pub async fn close(self) -> Result<(), Error> {
        match self {
            Self::Amqp(subscription) => subscription.close().await,
            Self::Embedded(subscription) => subscription.close().await,
        }
    }
}
