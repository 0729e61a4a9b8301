//! Delayed messages: new ones are stored, and due ones are published.

use std::sync::Arc;
use std::time::Duration;

use super::transaction::TransactionPlan;
use crate::dead_letter::{DELAYED_DEAD_LETTERS, delayed_dead_letter, delayed_dead_letter_queue};
use crate::embedded::state::SessionState;
use crate::embedded::store::{DelayKind, DelayedKey, DelayedRecord};
use trunkline_event::{Message, Reason, millis};
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::Loop;

impl TransactionPlan {
    /// Stores delayed messages, each with the time of the store at which it is due.
    pub(crate) fn delay(&mut self, state: &mut SessionState, delayed: Vec<(u64, DelayedRecord)>) {
        for (due, delayed) in delayed {
            self.delays_changed = true;
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() += 1;
            }
            self.batch.delay_puts.push(((due, state.next_delayed), delayed));
            state.next_delayed = state.next_delayed.saturating_add(1);
        }
    }

    /// Publishes the messages that are due. A message without a queue that may not be dropped is delayed again, for longer
    /// each time, and goes to [`DELAYED_DEAD_LETTERS`] in the end.
    pub(crate) fn deliver_due(&mut self, state: &mut SessionState, due: Vec<(DelayedKey, DelayedRecord)>) {
        for (key, DelayedRecord { kind, message }) in due {
            self.delays_changed = true;
            self.batch.delay_removes.push(key);
            let destinations = self.routing.route(&message).unwrap_or_default();
            if !destinations.is_routable
                && let Some((kind, tries)) = kind.once_more()
                && let Some(pause) = postpone(&message, tries)
            {
                let again = (self.now_ms.saturating_add(millis(pause)), key.1);
                self.batch.delay_puts.push((again, DelayedRecord { kind, message }));
                continue;
            }
            let delayed = DelayedRecord { kind, message };
            if let Some(queue) = delayed.retries() {
                *self.retrying.entry(queue.to_owned()).or_default() -= 1;
            }
            if !destinations.is_routable && kind != DelayKind::Optional {
                self.give_up_delayed(state, &delayed.message);
            } else {
                self.put(state, &delayed.message, &destinations.queues);
            }
        }
    }

    fn give_up_delayed(&mut self, state: &mut SessionState, message: &Message) {
        let (exchange, key) = (&message.exchange, &message.routing_key);
        let error = format!("the message was due, but no queue was bound for key {key:?} of exchange {exchange:?}");
        tracing::error!(%exchange, %key, "no queue was bound for a delayed message at any of its tries; the message is in the queue {DELAYED_DEAD_LETTERS}");
        let copy = delayed_dead_letter(message, Reason::Unroutable, &error);
        let queues = state.number(&delayed_dead_letter_queue()).into_iter().collect();
        self.put(state, &Arc::new(copy), &queues);
    }

    /// Adds the planned changes to the numbers of retries in memory.
    pub(crate) fn count_retrying(&mut self, state: &mut SessionState) {
        for (queue, change) in self.retrying.drain() {
            let count = state.retrying.get(&queue).copied().unwrap_or_default().saturating_add_signed(change);
            match count {
                0 => drop(state.retrying.remove(&queue)),
                _ => drop(state.retrying.insert(queue, count)),
            }
        }
    }
}

/// Whether one of the messages may become a dead letter.
pub(crate) fn may_give_up(due: &[(DelayedKey, DelayedRecord)]) -> bool {
    due.iter().any(|(_, delayed)| {
        delayed.kind.once_more().is_some_and(|(_, tries)| Loop::DelayedMessage.pause(tries).is_none())
    })
}

/// Reports a message that is due and has no queue. Returns the time until the next try; `None` after the last try.
fn postpone(message: &Message, tries: u32) -> Option<Duration> {
    let pause = Loop::DelayedMessage.pause(tries)?;
    let (exchange, key) = (&message.exchange, &message.routing_key);
    tracing::warn!(%exchange, %key, tries, again_s = pause.as_secs(), "no queue is bound for a delayed message that is due; the broker delays the message again");
    let detail = format!("a delayed message is due, but no queue is bound for key {key:?} of exchange {exchange:?}");
    Condition::DelayRelayJammed.raise_for("", detail, pause.saturating_mul(2));
    Some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_a_queue_is_delayed_a_bounded_number_of_times() {
        let (mut kind, mut waited) = (DelayKind::Retry, Duration::ZERO);
        while let Some((next, tries)) = kind.once_more()
            && let Some(pause) = Loop::DelayedMessage.pause(tries)
        {
            (kind, waited) = (next, waited + pause);
        }
        assert_eq!(kind, DelayKind::RetryAgain(9));
        assert!(waited >= Duration::from_secs(2 * 3600), "a queue may be away for {waited:?}");
        assert_eq!(DelayKind::Optional.once_more(), None, "the message is dropped");
        assert_eq!(DelayKind::RequiredAgain(u32::MAX).once_more().map(|(_, tries)| tries), Some(u32::MAX));
    }
}
