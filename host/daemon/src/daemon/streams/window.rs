//! What of a stream is delivered and not acknowledged: sent to the client, or come again and not yet recognised.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::event;
use trunkline_broker::{Delivery, NothingPublished, Settlement, Tap};
use trunkline_event::{ExchangeName, Message, Properties};

/// Linux lets a socket grow to 4 MiB for what is sent and 32 MiB (since 6.16) for what is received.
const LAG_BYTES: usize = 40 << 20;
/// However large they are: the one that the client saw last, one on the way, two in the connection, one in the channel to it.
const KEPT_MIN: usize = 5;
/// What every event takes at least beside its data.
const FRAME_BYTES: usize = 160;
/// Events that may be sent and unacknowledged, however small they are: a little less than a prefetch can be.
const SENT_MAX: usize = u16::MAX as usize - 64;
/// Nothing more comes again when nothing came for so long.
pub(super) const CAME_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// The type of the message that is put into a stream's queue when it is made. It is sent to nobody, and stands for "nothing
/// seen yet": who comes back without having seen an event has lost some when it is gone.
pub(super) const BEGIN: &str = "trunkline.stream.begin";
/// The mark of that message; those of events are longer.
pub(super) const BEGIN_MARK: &str = "0";

/// A delivery with what tells it from others.
pub(super) type Marked = (Delivery, String);

struct Sent {
    delivery: Delivery,
    bytes: usize,
    at: Instant,
    mark: String,
}

/// Up to which event all is passed over when it comes again.
struct Seek {
    mark: String,
    /// The client says so; if not, we only know that it was sent.
    is_seen: bool,
}

/// What becomes of a delivery.
pub(super) enum Step {
    /// These are for the client.
    Show(Vec<Marked>),
    /// It was sent before, or may have been: it is kept here.
    Kept,
    /// What was sought does not come: all that is kept is for the client.
    GiveUp,
}

/// The unacknowledged part of a stream.
pub(super) struct Window {
    /// In order; the last ones are always kept, since that is where the client may come back.
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    seek: Option<Seek>,
    /// What came again before that.
    passed: Vec<Marked>,
    passed_bytes: usize,
    /// When something came again last.
    passed_at: Instant,
    /// When an event that was sent would be gone for an absent client too.
    expires: Duration,
    /// Takes the place of messages that were sent: only their acknowledgement is still needed.
    nothing: Arc<Message>,
}

impl Window {
    pub(super) fn new(tap: &Tap) -> Self {
        Self {
            sent: VecDeque::new(),
            sent_bytes: 0,
            seek: None,
            passed: Vec::new(),
            passed_bytes: 0,
            passed_at: Instant::now(),
            expires: tap.expires,
            nothing: Arc::new(empty(tap, Properties::default())),
        }
    }

    /// The client has seen this one and all before it.
    pub(super) fn seen(&mut self, mark: String) {
        self.seek = Some(Seek { mark, is_seen: true });
    }

    /// Deliveries that are held.
    pub(super) fn held(&self) -> usize {
        self.sent.len() + self.passed.len()
    }

    /// What an event took lately.
    pub(super) fn mean_bytes(&self) -> usize {
        (self.sent_bytes + self.passed_bytes) / self.held().max(1)
    }

    /// Until when what is sought may still come, once something came.
    pub(super) fn sought_until(&self) -> Option<Instant> {
        (!self.passed.is_empty()).then(|| self.passed_at + CAME_AGAIN_WITHIN)
    }

    pub(super) fn take(&mut self, delivery: Delivery) -> Step {
        let mark = if is_begin(&delivery.message) { BEGIN_MARK.to_owned() } else { event::mark(&delivery.message) };
        let Some(seek) = &self.seek else {
            return Step::Show(vec![(delivery, mark)]);
        };
        if mark == seek.mark {
            let is_seen = seek.is_seen;
            if is_seen && mark == BEGIN_MARK {
                // An event may have come between the binding and the mark.
                let mut all = self.give_up();
                all.push((delivery, mark));
                return Step::Show(all);
            }
            for (passed, mark) in self.give_up() {
                if is_seen {
                    passed.settle(Settlement::Nothing(NothingPublished::Streamed))
                } else {
                    self.sent(passed, mark)
                }
            }
            // Kept, because the client may come back here once more.
            self.sent(delivery, mark);
            return Step::Kept;
        }
        if delivery.redelivered || self.passed.is_empty() {
            self.passed_at = Instant::now();
        }
        self.passed_bytes += delivery.message.body.len() + FRAME_BYTES;
        self.passed.push((delivery, mark));
        let is_over = self.passed_at.elapsed() >= CAME_AGAIN_WITHIN || self.passed_bytes > 2 * LAG_BYTES;
        if is_over { Step::GiveUp } else { Step::Kept }
    }

    /// Seeks no more; gives what came again.
    pub(super) fn give_up(&mut self) -> Vec<Marked> {
        self.seek = None;
        self.passed_bytes = 0;
        std::mem::take(&mut self.passed)
    }

    /// The client's connection has it.
    pub(super) fn sent(&mut self, mut delivery: Delivery, mark: String) {
        let bytes = delivery.message.body.len() + FRAME_BYTES;
        delivery.message = self.nothing.clone();
        self.sent_bytes += bytes;
        self.sent.push_back(Sent { delivery, bytes, at: Instant::now(), mark });
    }

    /// Acknowledges what has certainly been seen, or was sent so long ago that it would be gone for an absent client too.
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

    /// The subscription is lost, and with it what is unacknowledged: it comes again, and what was sent is passed over.
    pub(super) fn lost(&mut self) {
        if let Some(last) = self.sent.pop_back() {
            self.seek = Some(Seek { mark: last.mark, is_seen: false });
        }
        self.sent.clear();
        self.sent_bytes = 0;
        self.passed.clear();
        self.passed_bytes = 0;
    }
}

/// Whether it is ours: no exchange of routes.toml is the default one, which reaches a stream's queue only by its name.
pub(super) fn is_begin(message: &Message) -> bool {
    message.exchange.is_default() && message.properties.kind.as_deref() == Some(BEGIN)
}

/// A message to the stream's queue that says nothing by its body.
pub(super) fn empty(tap: &Tap, properties: Properties) -> Message {
    let exchange = ExchangeName::default_exchange();
    Message { exchange, routing_key: tap.queue.as_key(), properties, body: bytes::Bytes::new() }
}
