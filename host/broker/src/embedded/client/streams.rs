//! Queues of streams. They are kept in the store with their bindings, so that they outlive the daemon, and removed when they
//! had no consumer for too long.

use super::broker::EmbeddedBroker;
use super::subscription::{EmbeddedSubscription, Exclusivity};
use crate::embedded::state::QueueState;
use crate::embedded::writer::QueueSetChange;
use crate::{Error, EventStreamQueues};
use trunkline_event::QueueName;

/// Most streams at a time, including the streams whose client is away.
const STREAMS_MAX: usize = 1024;

impl EmbeddedBroker {
    /// Makes the queues and bindings of a stream; see [`Broker::open_event_stream`](crate::Broker::open_event_stream).
    ///
    /// # Errors
    /// [`Error::Queue`] when there are too many streams, [`Error::Lost`] when the store failed.
    pub async fn open_event_stream(&self, stream: &EventStreamQueues) -> Result<(), Error> {
        {
            let state = self.shared.lock();
            if let Some(reason) = &state.failed {
                return Err(Error::Lost(reason.clone()));
            }
            if state.number(&stream.queue).is_some() && state.number(&stream.overflow).is_some() {
                return Ok(());
            }
            let streams = state.queues.values().filter(|queue| queue.stream.is_some()).count();
            if streams >= 2 * STREAMS_MAX {
                let reason = format!(
                    "all {STREAMS_MAX} streams are in use, including streams whose client disconnected less than ten minutes ago"
                );
                return Err(Error::Queue { queue: stream.queue.clone(), reason });
            }
        }
        let made = self.shared.change_queues(QueueSetChange::AddStream(Box::new(stream.clone()))).await;
        made.map_err(|error| Error::Lost(format!("the queues of a stream cannot be made: {error}")))
    }

    /// Number of consumers of a stream's queue, if the queue exists; see
    /// [`Broker::event_stream_consumers`](crate::Broker::event_stream_consumers).
    ///
    /// # Errors
    /// [`Error::Lost`] while the store is not open.
    pub fn event_stream_consumers(&self, stream: &EventStreamQueues) -> Result<Option<u32>, Error> {
        let state = self.shared.lock();
        if let Some(reason) = &state.failed {
            return Err(Error::Lost(reason.clone()));
        }
        let queue = state.number(&stream.queue).and_then(|number| state.queues.get(&number));
        Ok(queue.and_then(|queue| queue.stream.as_ref()).map(|stream| stream.consumers))
    }

    /// Consumes the overflow queue of a stream as its only consumer; see
    /// [`Broker::claim_event_stream`](crate::Broker::claim_event_stream).
    ///
    /// # Errors
    /// [`Error::Queue`] while another consumer has it, [`Error::Lost`] when the store failed.
    pub fn claim_event_stream(&self, stream: &EventStreamQueues) -> Result<EmbeddedSubscription, Error> {
        EmbeddedSubscription::new(self.shared.clone(), &stream.overflow, 1, Exclusivity::Exclusive)
    }

    /// Removes the queues of streams that had no consumer for too long, with their messages.
    pub async fn expire_event_streams(&self) {
        let removed: Vec<usize> = {
            let (now_ms, mut state) = (self.shared.clock.now_ms(), self.shared.lock());
            if state.failed.is_some() {
                return;
            }
            let streams = state.queues.values().filter_map(|queue| queue.stream.as_ref());
            let expired: Vec<QueueName> =
                streams.filter(|stream| stream.is_expired(now_ms)).map(|stream| stream.stream.queue.clone()).collect();
            // Nothing is routed to the queues from here on. A message that was routed before is put into them until they are
            // removed, and discarded afterwards.
            let is_expired = |queue: &mut QueueState| {
                queue.stream.take_if(|stream| expired.contains(&stream.stream.queue)).is_some()
            };
            let removed = state.queues.iter_mut().filter_map(|(number, queue)| is_expired(queue).then_some(*number));
            let removed: Vec<usize> = removed.collect();
            if removed.is_empty() {
                return;
            }
            self.shared.reroute(&state);
            removed
        };
        let queues = removed.len();
        match self.shared.change_queues(QueueSetChange::Remove(removed)).await {
            Ok(()) => tracing::info!(queues, "the daemon removed the queues of ended streams"),
            Err(error) => tracing::error!(
                error,
                "the queues of ended streams could not be removed; the queues still take space in the store"
            ),
        }
    }
}
