//! Messages that are published later: on disk until they are due, and then routed as the bindings are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::shared::Core;
use super::store::{Fault, RECORD_VERSION, Store, unseal};
use trunkline_event::{ExchangeName, Message, QueueName, Reason, millis};
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::Loop;

/// Messages that one transaction publishes, and bytes of their bodies; the rest follows in the next.
const DUE_MAX: usize = 1024;
const DUE_MAX_BYTES: usize = 4 << 20;
/// Where a message goes that is due and never gets a queue; the same name as on RabbitMQ.
pub(super) const DEAD: &str = "trunkline.delay.dlq";
/// Of the text that goes into a header.
const ERROR_MAX_BYTES: usize = 1024;

/// When a delayed message is due, by the clock of the store, and its number.
pub(super) type Due = (u64, u64);

/// How many wait to be tried again, by the name of their queue.
pub(super) type Retrying = HashMap<String, u64>;

/// A message that is published later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Delayed {
    pub(super) later: Later,
    pub(super) message: Arc<Message>,
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
    /// It has to reach a queue, and found none so many times when it was due.
    AddressedAgain(u32),
    /// It is to be tried again in a queue that was not there so many times when it was due.
    RetryAgain(u32),
}

impl Later {
    pub(super) const fn new(accept_unroutable: bool, is_retry: bool) -> Self {
        match (accept_unroutable, is_retry) {
            (_, true) => Self::Retry,
            (true, false) => Self::Unaddressed,
            (false, false) => Self::Addressed,
        }
    }

    /// The same after one more time without a queue, with how many that are; none when it may be dropped then.
    const fn once_more(self) -> Option<(Self, u32)> {
        match self {
            Self::Unaddressed => None,
            Self::Addressed => Some((Self::AddressedAgain(1), 1)),
            Self::Retry => Some((Self::RetryAgain(1), 1)),
            Self::AddressedAgain(tries) => {
                Some((Self::AddressedAgain(tries.saturating_add(1)), tries.saturating_add(1)))
            }
            Self::RetryAgain(tries) => Some((Self::RetryAgain(tries.saturating_add(1)), tries.saturating_add(1))),
        }
    }
}

impl Delayed {
    /// Adds the record to a buffer.
    pub(super) fn encode(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.push(RECORD_VERSION);
        postcard::to_extend(self, buffer).expect("writing into memory cannot fail")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some(_) | None => Err("a delayed record of an unknown version".to_owned()),
        }
    }

    /// The queue that it is a retry of.
    fn retries(&self) -> Option<&str> {
        matches!(self.later, Later::Retry | Later::RetryAgain(_)).then(|| self.message.routing_key.as_str())
    }
}

/// What is known of the delayed messages when the store is opened.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) retrying: Retrying,
    pub(super) next_due: Option<u64>,
    /// Beyond the number of every one of them.
    pub(super) next_number: u64,
    /// Of their records.
    pub(super) bytes: u64,
}

impl Store {
    /// When the next delayed message is due, of those that can be read.
    pub(super) fn first_due(&self) -> Result<Option<u64>, Fault> {
        let first = || {
            let unreadable = self.unreadable();
            for entry in self.delayed()?.iter()? {
                let due = entry?.0.value();
                if !unreadable.contains(&due) {
                    return Ok(Some(due.0));
                }
            }
            Ok(None)
        };
        first().map_err(|error| self.fault(&error))
    }

    /// Looks at every delayed message.
    pub(super) fn waiting(&self) -> Result<Waiting, Fault> {
        let count = || {
            let mut waiting = Waiting::default();
            for entry in self.delayed()?.iter()? {
                let (key, value) = entry?;
                let (due, number) = key.value();
                waiting.next_due.get_or_insert(due);
                waiting.next_number = waiting.next_number.max(number.saturating_add(1));
                waiting.bytes += value.value().len() as u64;
                // One that cannot be read is told when it is due.
                let delayed = unseal(key.value(), value.value()).and_then(Delayed::decode);
                if let Some(queue) = delayed.as_ref().ok().and_then(Delayed::retries) {
                    *waiting.retrying.entry(queue.to_owned()).or_default() += 1;
                }
            }
            Ok(waiting)
        };
        count().map_err(|error| self.fault(&error))
    }

    /// The delayed messages that are due, as many as one transaction takes. One that cannot be read stays where it is.
    pub(super) fn due(&self, now_ms: u64) -> Result<Vec<(Due, Delayed)>, Fault> {
        self.due_within(now_ms, DUE_MAX, DUE_MAX_BYTES)
    }

    fn due_within(&self, now_ms: u64, most: usize, most_bytes: usize) -> Result<Vec<(Due, Delayed)>, Fault> {
        let read = || {
            let (mut found, mut bytes) = (Vec::new(), 0);
            for entry in self.delayed()?.range((0, 0)..=(now_ms, u64::MAX))? {
                if found.len() >= most || bytes >= most_bytes {
                    break;
                }
                let (key, value) = entry?;
                if self.unreadable().contains(&key.value()) {
                    continue;
                }
                match unseal(key.value(), value.value()).and_then(Delayed::decode) {
                    Ok(delayed) => found.push((key.value(), delayed)),
                    Err(error) => {
                        self.unreadable().insert(key.value());
                        is_damaged("a delayed message", &error);
                    }
                }
                bytes += value.value().len();
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(&error))
    }
}

/// Something of the store cannot be read, while everything around it can.
pub(super) fn is_damaged(what: &str, error: &str) {
    let detail = format!("{what}: {error}. Stop the daemon and run `trunkline repair`, which keeps what is whole");
    if !Condition::StoreFailed.is_raised(what) {
        tracing::error!(detail, "a record of the embedded store cannot be read");
    }
    Condition::StoreFailed.raise(what, detail);
}

impl Plan {
    /// Keeps messages until they are due.
    pub(super) fn delay(&mut self, core: &mut Core, delayed: Vec<(u64, Delayed)>) {
        for (due, delayed) in delayed {
            self.delays_changed = true;
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() += 1;
            }
            self.batch.delays.push(((due, core.next_delayed), delayed));
            core.next_delayed = core.next_delayed.saturating_add(1);
        }
    }

    /// Publishes what is due. What has nowhere to go, and may not be dropped, is put off for a while that grows, and goes
    /// to a queue for such messages in the end.
    pub(super) fn deliver_due(&mut self, core: &mut Core, due: Vec<(Due, Delayed)>) {
        for (place, Delayed { later, message }) in due {
            self.delays_changed = true;
            self.batch.undelays.push(place);
            let queues = self.routing.route(&message).unwrap_or_default();
            if queues.is_empty()
                && let Some((later, tries)) = later.once_more()
                && let Some(pause) = no_queue(&message, tries)
            {
                let again = (self.now_ms.saturating_add(millis(pause)), place.1);
                self.batch.delays.push((again, Delayed { later, message }));
                continue;
            }
            let delayed = Delayed { later, message };
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() -= 1;
            }
            if queues.is_empty() && later != Later::Unaddressed {
                self.give_up_delayed(core, &delayed.message);
            } else {
                self.put(core, &delayed.message, &queues);
            }
        }
    }

    fn give_up_delayed(&mut self, core: &mut Core, message: &Message) {
        let (exchange, key) = (&message.exchange, &message.routing_key);
        let error = format!("it was due and no queue was there for key {key:?} of exchange {exchange:?}");
        tracing::error!(%exchange, %key, "a delayed message never got a queue; it is in {DEAD}");
        let mut copy = message.clone();
        copy.exchange = ExchangeName::default_exchange();
        copy.routing_key = dead().as_key();
        copy.properties.expiration = None;
        copy.properties.headers.set("trunkline-reason", Reason::Unroutable.as_str());
        copy.properties.headers.set("trunkline-error", &error[..error.floor_char_boundary(ERROR_MAX_BYTES)]);
        let queues = core.number(&dead()).into_iter().collect();
        self.put(core, &Arc::new(copy), &queues);
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

/// The queue of what never got one.
pub(super) fn dead() -> QueueName {
    QueueName::new(DEAD).expect("short and not empty")
}

/// Whether one of the messages that are due may have to go to the queue for those that never get one.
pub(super) fn may_be_last(due: &[(Due, Delayed)]) -> bool {
    due.iter().any(|(_, delayed)| {
        delayed.later.once_more().is_some_and(|(_, tries)| Loop::DelayedMessage.pause(tries).is_none())
    })
}

/// A message is due and has no queue: tells it, and gives the time until it is tried again, if it is.
fn no_queue(message: &Message, tries: u32) -> Option<Duration> {
    let pause = Loop::DelayedMessage.pause(tries)?;
    let (exchange, key) = (&message.exchange, &message.routing_key);
    tracing::warn!(%exchange, %key, tries, again_s = pause.as_secs(), "a delayed message is due and has no queue");
    let detail = format!("a delayed message is due, and no queue is there for key {key:?} of exchange {exchange:?}");
    Condition::DelayRelayJammed.raise_for("", detail, pause.saturating_mul(2));
    Some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{Properties, RoutingKey};

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
            assert_eq!((read.later, &*read.message, read.retries()), (later, &message, None));
            assert_eq!(read.encode(Vec::new()), bytes);
        }
        let message = Arc::new(message);
        for (later, retries) in
            [(Later::Retry, Some("q")), (Later::RetryAgain(7), Some("q")), (Later::AddressedAgain(7), None)]
        {
            let delayed = Delayed { later, message: message.clone() };
            let read = Delayed::decode(&delayed.encode(Vec::new())).expect("read");
            assert_eq!((read.later, read.retries()), (later, retries));
        }
    }

    #[test]
    fn a_message_without_a_queue_is_put_off_for_a_while_that_ends() {
        let (mut later, mut waited) = (Later::Retry, Duration::ZERO);
        while let Some((next, tries)) = later.once_more()
            && let Some(pause) = Loop::DelayedMessage.pause(tries)
        {
            (later, waited) = (next, waited + pause);
        }
        assert_eq!(later, Later::RetryAgain(9));
        assert!(waited >= Duration::from_secs(2 * 3600), "a queue may be away for {waited:?}");
        assert_eq!(Later::Unaddressed.once_more(), None, "it is done with");
        assert_eq!(Later::AddressedAgain(u32::MAX).once_more().map(|(_, tries)| tries), Some(u32::MAX));
    }
}
