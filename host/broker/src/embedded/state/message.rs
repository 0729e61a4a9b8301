//! Messages of a queue in memory.

use std::time::Duration;

use crate::embedded::store::MessageRecord;
use trunkline_event::millis;

/// A message of a queue with its position.
#[derive(Debug, Clone)]
pub(crate) struct QueuedMessage {
    pub(crate) position: u64,
    pub(crate) record: MessageRecord,
    pub(crate) redelivered: bool,
    /// The message may have ended the last run. Its delivery is counted on disk before it is handed out.
    pub(crate) suspect: bool,
}

/// State of the next message of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueHead {
    /// The message is in memory. It expires at this time of the store, if it expires.
    InMemory(Option<u64>),
    /// The message has to be read from the disk.
    OnDisk,
    /// There is no message that can be delivered.
    Empty,
}

/// Messages that the writer has to read into the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    pub(crate) id: u32,
    pub(crate) from: u64,
    pub(crate) most: usize,
    pub(crate) most_bytes: usize,
}

/// Time of the store at which a message expires: by the TTL of the queue or of the message, whichever is earlier.
pub(crate) fn expiry(ttl: Option<Duration>, record: &MessageRecord) -> Option<u64> {
    let own = record.message.properties.expiration.as_ref().and_then(|text| text.parse::<u64>().ok());
    let queue = ttl.map(millis);
    let shorter = own.into_iter().chain(queue).min()?;
    Some(record.published_ms.saturating_add(shorter))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

    #[test]
    fn the_earlier_ttl_of_queue_and_message_counts() {
        let queue_ttl = |ms| Some(Duration::from_millis(ms));
        for (queue, own, expected) in [
            (None, None, None),
            (queue_ttl(50), None, Some(1_050)),
            (None, Some("20"), Some(1_020)),
            (queue_ttl(50), Some("20"), Some(1_020)),
            (queue_ttl(50), Some("70"), Some(1_050)),
            (queue_ttl(50), Some("soon"), Some(1_050)),
            (None, Some("0"), Some(1_000)),
            (None, Some("18446744073709551615"), Some(u64::MAX)),
        ] {
            let properties = Properties { expiration: own.map(str::to_owned), ..Properties::default() };
            let message = Message {
                exchange: ExchangeName::default_exchange(),
                routing_key: RoutingKey::new("q").expect("a key"),
                properties,
                body: bytes::Bytes::new(),
            };
            let record = MessageRecord { published_ms: 1_000, count: 0, message: Arc::new(message) };
            assert_eq!(expiry(queue, &record), expected, "queue {queue:?}, message {own:?}");
        }
    }
}
