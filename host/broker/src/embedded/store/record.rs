//! Records of messages and delayed messages, in the format of the disk.

use std::sync::Arc;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Publication;
use trunkline_event::Message;

/// First byte of every record.
pub(crate) const RECORD_VERSION: u8 = 1;

/// A message in a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    /// Time of the publish in milliseconds of the store's clock.
    pub(crate) published_ms: u64,
    /// Number of deliveries that were not acknowledged.
    pub(crate) count: u32,
    pub(crate) message: Arc<Message>,
}

impl MessageRecord {
    /// Appends the encoded record to a buffer.
    pub(crate) fn encode(&self, buffer: Vec<u8>) -> Vec<u8> {
        encode(self, buffer)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

/// Key of a delayed message: the time at which it is due in milliseconds of the store's clock, and its number.
pub(crate) type DelayedKey = (u64, u64);

/// A message that is published at a later time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DelayedRecord {
    pub(crate) kind: DelayKind,
    pub(crate) message: Arc<Message>,
}

/// Kind of a delayed message. The position of a variant is its number on disk. The first two variants replaced a `bool`,
/// which has the same encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DelayKind {
    /// The message has to reach a queue.
    Required,
    /// The message is dropped when no queue is bound for it.
    Optional,
    /// The message is a retry of a delivery of the queue to which it is addressed.
    Retry,
    /// The message has to reach a queue, and no queue was bound for it so many times when it was due.
    RequiredAgain(u32),
    /// The message is a retry, and its queue did not exist so many times when it was due.
    RetryAgain(u32),
}

impl DelayKind {
    pub(crate) const fn of(publication: &Publication) -> Self {
        match (publication.accept_unroutable, publication.is_retry) {
            (_, true) => Self::Retry,
            (true, false) => Self::Optional,
            (false, false) => Self::Required,
        }
    }

    /// The kind after one more time without a queue, with the number of such times. `None` for a message that may be
    /// dropped instead.
    pub(crate) const fn once_more(self) -> Option<(Self, u32)> {
        match self {
            Self::Optional => None,
            Self::Required => Some((Self::RequiredAgain(1), 1)),
            Self::Retry => Some((Self::RetryAgain(1), 1)),
            Self::RequiredAgain(tries) => Some((Self::RequiredAgain(tries.saturating_add(1)), tries.saturating_add(1))),
            Self::RetryAgain(tries) => Some((Self::RetryAgain(tries.saturating_add(1)), tries.saturating_add(1))),
        }
    }
}

impl DelayedRecord {
    /// Appends the encoded record to a buffer.
    pub(crate) fn encode(&self, buffer: Vec<u8>) -> Vec<u8> {
        encode(self, buffer)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }

    /// The queue whose delivery is retried.
    pub(crate) fn retries(&self) -> Option<&str> {
        matches!(self.kind, DelayKind::Retry | DelayKind::RetryAgain(_)).then(|| self.message.routing_key.as_str())
    }
}

fn encode<T: Serialize>(record: &T, mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.push(RECORD_VERSION);
    postcard::serialize_with_flavor(record, RecordBuffer(buffer)).expect("writing into memory cannot fail")
}

/// A buffer that takes a body with one copy.
struct RecordBuffer(Vec<u8>);

impl Flavor for RecordBuffer {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("the record has the unknown version {version}")),
        None => Err("the record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    #[test]
    fn records_of_earlier_versions_are_read() {
        #[derive(Serialize)]
        struct Earlier {
            accept_unroutable: bool,
            message: Message,
        }
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::from_static(b"body"),
        };
        for (accept_unroutable, kind) in [(false, DelayKind::Required), (true, DelayKind::Optional)] {
            let earlier = Earlier { accept_unroutable, message: message.copy() };
            let bytes = postcard::to_extend(&earlier, vec![RECORD_VERSION]).expect("written");
            let read = DelayedRecord::decode(&bytes).expect("read");
            assert_eq!((read.kind, &*read.message, read.retries()), (kind, &message, None));
            assert_eq!(read.encode(Vec::new()), bytes);
        }
        let message = Arc::new(message);
        for (kind, retries) in
            [(DelayKind::Retry, Some("q")), (DelayKind::RetryAgain(7), Some("q")), (DelayKind::RequiredAgain(7), None)]
        {
            let delayed = DelayedRecord { kind, message: message.clone() };
            let read = DelayedRecord::decode(&delayed.encode(Vec::new())).expect("read");
            assert_eq!((read.kind, read.retries()), (kind, retries));
        }
    }
}
