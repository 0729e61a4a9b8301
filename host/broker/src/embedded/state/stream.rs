//! The queues of a stream while the broker is open.

use crate::EventStreamQueues;
use trunkline_config as config;
use trunkline_event::{QueueName, millis};

/// Role of a queue for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamRole {
    /// The queue holds the events of the stream.
    Events,
    /// The queue holds the last event that did not fit into the other queue.
    Overflow,
}

/// Stream to which a queue belongs, and the consumers of the queue.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) stream: EventStreamQueues,
    pub(crate) role: StreamRole,
    pub(crate) consumers: u32,
    /// Time of the store at which the last consumer left, or at which the store was opened.
    idle_since_ms: u64,
}

impl StreamState {
    pub(crate) fn new(stream: EventStreamQueues, role: StreamRole, now_ms: u64) -> Self {
        Self { stream, role, consumers: 0, idle_since_ms: now_ms }
    }

    pub(crate) fn consumer_joined(&mut self) {
        self.consumers = self.consumers.saturating_add(1);
    }

    pub(crate) fn consumer_left(&mut self, now_ms: u64) {
        self.consumers = self.consumers.saturating_sub(1);
        self.idle_since_ms = now_ms;
    }

    /// Whether the queue had no consumer for the time that the stream sets.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        let idle_ms = now_ms.saturating_sub(self.idle_since_ms);
        self.role == StreamRole::Events && self.consumers == 0 && idle_ms >= millis(self.stream.expires)
    }
}

/// Settings and state of a stored queue, if the queue belongs to one of the streams.
pub(crate) fn restored(
    name: &QueueName,
    streams: &[EventStreamQueues],
    now_ms: u64,
) -> Option<(config::Queue, StreamState)> {
    let stream = streams.iter().find(|stream| stream.queue == *name || stream.overflow == *name)?;
    let role = if stream.overflow == *name { StreamRole::Overflow } else { StreamRole::Events };
    let (_, settings, _) = stream.queues().into_iter().find(|(queue, _, _)| *queue == name)?;
    Some((settings, StreamState::new(stream.clone(), role, now_ms)))
}
