//! A publish that has begun: its messages are with their channels, in order, before the outcome is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::confirms::PublishOutcome;
use super::publisher::{AmqpPublisher, PreparedBatch, PreparedMessage, receipt};
use crate::{Batch, Receipt, Unpublished};

/// The result of a publish.
type Published = Result<Receipt, Unpublished>;

/// A publish that has begun. Ready when every message has its outcome.
pub struct Publishing(PublishState);

enum PublishState {
    /// The only message of the batch is with its channel. This is the common case, and the future is small.
    Single(Option<SingleMessage>),
    /// Every other publish.
    General(Pin<Box<dyn Future<Output = Published> + Send>>),
}

struct SingleMessage {
    publisher: Arc<AmqpPublisher>,
    batch: Batch,
    prepared: PreparedMessage,
    outcome: oneshot::Receiver<PublishOutcome>,
}

impl Publishing {
    /// A publish that is polled like any other future.
    pub(crate) fn general(publish: impl Future<Output = Published> + Send + 'static) -> Self {
        Self(PublishState::General(Box::pin(publish)))
    }

    /// Begins to publish a prepared batch without delays.
    pub(crate) fn begin(publisher: Arc<AmqpPublisher>, prepared: PreparedBatch) -> Self {
        match prepared.into_single() {
            Ok((batch, prepared)) => match publisher.hand_over_at_once(&prepared) {
                Some(outcome) => {
                    Self(PublishState::Single(Some(SingleMessage { publisher, batch, prepared, outcome })))
                }
                // The channel has just ended, or has too many messages.
                None => Self::general(async move { publisher.send_single(batch, prepared).await }),
            },
            Err(several) => Self::general(async move { publisher.send(several).await }),
        }
    }
}

impl Future for Publishing {
    type Output = Published;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Published> {
        loop {
            let single = match &mut self.0 {
                PublishState::General(publish) => return publish.as_mut().poll(context),
                PublishState::Single(single) => single,
            };
            let Some(waiting) = single else { return Poll::Pending };
            let outcome = ready!(Pin::new(&mut waiting.outcome).poll(context));
            let Some(SingleMessage { publisher, mut batch, prepared, .. }) = single.take() else {
                return Poll::Pending;
            };
            if let Ok(PublishOutcome::Confirmed(confirmed)) = outcome {
                batch.confirm(prepared.index(), confirmed);
                return Poll::Ready(receipt(batch));
            }
            // Everything but a confirm is rare.
            let (reply, known) = oneshot::channel();
            if let Ok(outcome) = outcome {
                let _receiver_is_below = reply.send(outcome);
            }
            self.0 =
                PublishState::General(Box::pin(
                    async move { publisher.conclude(batch, vec![(prepared, known)]).await },
                ));
        }
    }
}
