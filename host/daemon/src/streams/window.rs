//! The unacknowledged deliveries of a stream. They were sent to the client, or were delivered again and are compared with
//! the resume point.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::event;
use trunkline_broker::{Delivery, EventStreamQueues, NothingPublished, Settlement};
use trunkline_event::{ExchangeName, Message, Properties};

/// Bytes that the buffers between the daemon and a client can hold. Linux lets the send buffer of a socket grow to 4 MiB and
/// the receive buffer to 32 MiB (since 6.16).
const LAG_BYTES: usize = 40 << 20;
/// Events that are kept whatever their size: the last one that the client received, one on the way, two in the connection
/// and one in the channel.
const KEPT_MIN: usize = 5;
/// The least bytes of an event beside its data.
const FRAME_BYTES: usize = 160;
/// Events that may be sent and unacknowledged, whatever their size: a little less than the largest prefetch.
const SENT_MAX: usize = u16::MAX as usize - 64;
/// When no redelivery came for this time, no further redelivery is expected.
pub(super) const REDELIVERED_WITHIN: Duration = Duration::from_secs(2);

/// The type of the marker that is put into the queue of a new stream. The marker is never sent to the client. It stands for
/// "no event received": when it is gone, a client that reconnects without an event has lost events.
pub(super) const BEGIN: &str = "trunkline.stream.begin";
/// The position of that marker. Positions of events are longer.
pub(super) const BEGIN_POSITION: &str = "0";

/// A delivery with its position.
pub(super) struct Positioned {
    pub(super) delivery: Delivery,
    pub(super) position: String,
}

struct SentDelivery {
    delivery: Delivery,
    bytes: usize,
    at: Instant,
    position: String,
}

/// The resume point. Redeliveries up to this position are not sent again.
struct Seek {
    position: String,
    /// The client reported this position. Otherwise the event was sent, but perhaps not received.
    is_received: bool,
}

/// The decision about a delivery.
pub(super) enum WindowStep {
    /// These deliveries are for the client.
    Show(Vec<Positioned>),
    /// The event was or may have been sent before: the delivery is kept here.
    Kept,
    /// The resume point does not come: every kept delivery is for the client.
    GiveUp,
}

/// The unacknowledged part of a stream.
pub(super) struct StreamWindow {
    /// In order. The last ones are always kept, because the client may resume there.
    sent: VecDeque<SentDelivery>,
    sent_bytes: usize,
    seek: Option<Seek>,
    /// Redeliveries before the resume point.
    passed: Vec<Positioned>,
    passed_bytes: usize,
    /// The time of the last redelivery.
    passed_at: Instant,
    /// The age at which an event expires for a disconnected client.
    expires: Duration,
    /// Replaces messages that were sent, because only their acknowledgement is still needed.
    placeholder: Arc<Message>,
}

impl StreamWindow {
    pub(super) fn new(stream_queues: &EventStreamQueues) -> Self {
        Self {
            sent: VecDeque::new(),
            sent_bytes: 0,
            seek: None,
            passed: Vec::new(),
            passed_bytes: 0,
            passed_at: Instant::now(),
            expires: stream_queues.expires,
            placeholder: Arc::new(empty(stream_queues, Properties::default())),
        }
    }

    /// The client has received the event at this position and all before it.
    pub(super) fn received(&mut self, position: String) {
        self.seek = Some(Seek { position, is_received: true });
    }

    /// The number of held deliveries.
    pub(super) fn held(&self) -> usize {
        self.sent.len() + self.passed.len()
    }

    /// The mean size of recent events.
    pub(super) fn mean_bytes(&self) -> usize {
        (self.sent_bytes + self.passed_bytes) / self.held().max(1)
    }

    /// The time until which the resume point may still come, once a redelivery came.
    pub(super) fn seek_until(&self) -> Option<Instant> {
        (!self.passed.is_empty()).then(|| self.passed_at + REDELIVERED_WITHIN)
    }

    /// Decides about a delivery.
    pub(super) fn take(&mut self, delivery: Delivery) -> WindowStep {
        let position =
            if is_begin(&delivery.message) { BEGIN_POSITION.to_owned() } else { event::position(&delivery.message) };
        let Some(seek) = &self.seek else {
            return WindowStep::Show(vec![Positioned { delivery, position }]);
        };
        if position == seek.position {
            let is_received = seek.is_received;
            if is_received && position == BEGIN_POSITION {
                // An event may have come between the binding and the marker.
                let mut all = self.give_up();
                all.push(Positioned { delivery, position });
                return WindowStep::Show(all);
            }
            for Positioned { delivery: passed, position } in self.give_up() {
                if is_received {
                    passed.settle(Settlement::Nothing(NothingPublished::Streamed))
                } else {
                    self.sent(Positioned { delivery: passed, position })
                }
            }
            // Kept, because the client may resume here once more.
            self.sent(Positioned { delivery, position });
            return WindowStep::Kept;
        }
        if delivery.redelivered || self.passed.is_empty() {
            self.passed_at = Instant::now();
        }
        self.passed_bytes += delivery.message.body.len() + FRAME_BYTES;
        self.passed.push(Positioned { delivery, position });
        let is_over = self.passed_at.elapsed() >= REDELIVERED_WITHIN || self.passed_bytes > 2 * LAG_BYTES;
        if is_over { WindowStep::GiveUp } else { WindowStep::Kept }
    }

    /// Stops seeking the resume point. Returns the redeliveries.
    pub(super) fn give_up(&mut self) -> Vec<Positioned> {
        self.seek = None;
        self.passed_bytes = 0;
        std::mem::take(&mut self.passed)
    }

    /// The delivery was handed to the client's connection.
    pub(super) fn sent(&mut self, Positioned { mut delivery, position }: Positioned) {
        let bytes = delivery.message.body.len() + FRAME_BYTES;
        delivery.message = self.placeholder.clone();
        self.sent_bytes += bytes;
        self.sent.push_back(SentDelivery { delivery, bytes, at: Instant::now(), position });
    }

    /// Acknowledges events that the client has certainly received, and events that have expired.
    pub(super) fn release(&mut self) {
        while self.sent.len() > KEPT_MIN
            && let Some(first) = self.sent.front()
            && (self.sent_bytes - first.bytes > LAG_BYTES
                || first.at.elapsed() >= self.expires
                || self.sent.len() > SENT_MAX)
            && let Some(first) = self.sent.pop_front()
        {
            self.sent_bytes -= first.bytes;
            first.delivery.settle(Settlement::Nothing(NothingPublished::Streamed));
        }
    }

    /// The subscription is lost. The unacknowledged messages are delivered again, and those that were sent are skipped.
    pub(super) fn lost(&mut self) {
        if let Some(last) = self.sent.pop_back() {
            self.seek = Some(Seek { position: last.position, is_received: false });
        }
        self.sent.clear();
        self.sent_bytes = 0;
        self.passed.clear();
        self.passed_bytes = 0;
    }
}

/// Whether the message is the marker of a begin. Only a publish through the nameless exchange with the queue's name can
/// put a message of this type there.
pub(super) fn is_begin(message: &Message) -> bool {
    message.exchange.is_default() && message.properties.kind.as_deref() == Some(BEGIN)
}

/// A message without a body to the queue of the stream.
pub(super) fn empty(stream_queues: &EventStreamQueues, properties: Properties) -> Message {
    let exchange = ExchangeName::default_exchange();
    Message { exchange, routing_key: stream_queues.queue.as_key(), properties, body: bytes::Bytes::new() }
}
