//! Messages that are published later: on disk until they are due, and then routed as the bindings are.

use std::collections::HashMap;
use std::sync::Arc;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::shared::{Core, Shared};
use super::store::{RECORD_VERSION, Store, unseal};
use super::writer::Plan;
use crate::event::Message;

/// Messages that one transaction publishes; the rest follows in the next.
const DUE_MAX: usize = 1024;
/// How long a delayed message waits on that is due and has no queue.
const UNROUTABLE_PAUSE_MS: u64 = 60_000;

/// When a delayed message is due, in milliseconds since the Unix epoch, and its number.
pub(super) type Due = (u64, u64);

/// How many wait to be tried again, by the name of their queue.
pub(super) type Retrying = HashMap<String, u64>;

/// A message that is published later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Delayed {
    pub(super) later: Later,
    pub(super) message: Message,
}

/// What it is, by its number on disk. The first two were once a truth value, which is written the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Later {
    /// It has to reach a queue.
    Addressed,
    /// It is done with when no queue wants it.
    Unaddressed,
    /// It was taken from the queue that it is addressed to, and is tried again.
    Retry,
}

impl Later {
    pub(super) const fn new(accept_unroutable: bool, is_retry: bool) -> Self {
        match (accept_unroutable, is_retry) {
            (_, true) => Self::Retry,
            (true, false) => Self::Unaddressed,
            (false, false) => Self::Addressed,
        }
    }
}

impl Delayed {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![RECORD_VERSION]).expect("writing into memory cannot fail")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some(_) | None => Err("a delayed record of an unknown version".to_owned()),
        }
    }

    /// The queue that it is a retry of.
    fn retries(&self) -> Option<&str> {
        (self.later == Later::Retry).then(|| self.message.routing_key.as_str())
    }
}

impl Store {
    /// When the next delayed message is due.
    pub(super) fn first_due(&self) -> Result<Option<u64>, String> {
        let first = self.delayed().and_then(|delayed| Ok(delayed.first()?.map(|(key, _)| key.value().0)));
        first.map_err(failed)
    }

    /// What waits to be tried again.
    pub(super) fn retrying(&self) -> Result<Retrying, String> {
        let delayed = self.delayed().map_err(failed)?;
        let mut retrying = Retrying::new();
        for entry in delayed.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if let Some(queue) = Delayed::decode(unseal(key.value(), value.value())?)?.retries() {
                *retrying.entry(queue.to_owned()).or_default() += 1;
            }
        }
        Ok(retrying)
    }

    /// Up to `most` delayed messages that are due.
    pub(super) fn due(&self, now_ms: u64, most: usize) -> Result<Vec<(Due, Delayed)>, String> {
        let delayed = self.delayed().map_err(failed)?;
        let range = delayed.range((0, 0)..=(now_ms, u64::MAX)).map_err(failed)?;
        let mut found = Vec::new();
        for entry in range.take(most) {
            let (key, value) = entry.map_err(failed)?;
            found.push((key.value(), Delayed::decode(unseal(key.value(), value.value())?)?));
        }
        Ok(found)
    }
}

fn failed(error: impl Into<redb::Error>) -> String {
    format!("delayed messages: {}", error.into())
}

impl Plan {
    /// Keeps messages until they are due.
    pub(super) fn delay(&mut self, core: &mut Core, delayed: Vec<(u64, Delayed)>) {
        for (due, delayed) in delayed {
            self.delays_changed = true;
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() += 1;
            }
            self.batch.delays.push(((due, core.next_delayed), delayed.encode()));
            core.next_delayed += 1;
        }
    }

    /// Publishes what is due. What has nowhere to go, and may not be dropped, waits on.
    pub(super) fn deliver_due(&mut self, shared: &Shared, core: &mut Core, now: u64) -> Result<(), String> {
        self.delays_changed = true;
        for (due, delayed) in shared.store.due(now, DUE_MAX)? {
            self.batch.undelays.push(due);
            let queues = shared.routing.load().route(&delayed.message).unwrap_or_default();
            if queues.is_empty() && delayed.later != Later::Unaddressed {
                let (exchange, key) = (&delayed.message.exchange, &delayed.message.routing_key);
                tracing::error!(%exchange, %key, "a delayed message is due and has no queue; it is tried again");
                self.batch.delays.push(((now + UNROUTABLE_PAUSE_MS, due.1), delayed.encode()));
                continue;
            }
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() -= 1;
            }
            self.put(core, &Arc::new(delayed.message), &queues);
        }
        Ok(())
    }

    /// What is planned is on disk.
    pub(super) fn count_retrying(&mut self, core: &mut Core) {
        for (queue, change) in self.retrying.drain() {
            let count = core.retrying.get(&queue).copied().unwrap_or_default().saturating_add_signed(change);
            match count {
                0 => drop(core.retrying.remove(&queue)),
                _ => drop(core.retrying.insert(queue, count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ExchangeName, Properties, RoutingKey};

    #[test]
    fn records_of_before_are_read() {
        #[derive(Serialize)]
        struct Before {
            accept_unroutable: bool,
            message: Message,
        }
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::from_static(b"body"),
        };
        for (accept_unroutable, later) in [(false, Later::Addressed), (true, Later::Unaddressed)] {
            let before = Before { accept_unroutable, message: message.clone() };
            let bytes = postcard::to_extend(&before, vec![RECORD_VERSION]).expect("written");
            let read = Delayed::decode(&bytes).expect("read");
            assert_eq!((read.later, &read.message, read.retries()), (later, &message, None));
            assert_eq!(read.encode(), bytes);
        }
        let retry = Delayed { later: Later::new(false, true), message };
        assert_eq!(Delayed::decode(&retry.encode()).expect("read").retries(), Some("q"));
    }
}
