//! The confirms of one publish channel: which messages are confirmed, returned or refused. Pure bookkeeping, without I/O.
//!
//! AMQP returns an unroutable message without its delivery tag. lapin attaches the oldest return to whichever confirm it
//! resolves next, in any order within a `multiple` acknowledgement. The return that a confirm carries therefore says nothing
//! about the confirm's own message. Three facts decide instead, once all confirms that lapin has resolved are taken in:
//! - A resolved message whose id, exchange and key were returned is unroutable.
//! - Returns come in the order of the tags, each before the confirm of its own message and of every later one. A confirm
//!   without a return therefore proves that no return was waiting, so every return of a message up to its tag was seen.
//! - Each resolved confirm takes one return. Once every tag up to some tag is resolved, every return among them was taken.
//!
//! A confirm that never comes therefore delays the answer of no later message.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;

use crate::{Confirmed, Passing, Refusal};
use trunkline_event::{ExchangeName, Message, RoutingKey};

/// The longest wait for a confirm. An alarm of the broker does not count.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// The outcome of publishing one message.
#[derive(Debug, PartialEq)]
pub enum PublishOutcome {
    /// The broker confirmed the message.
    Confirmed(Confirmed),
    /// The broker refused the message.
    Refused(Refusal),
    /// The outcome is unknown, for this reason.
    Lost(String),
    /// The message was not written. Another channel may take it.
    Unsent,
    /// The broker refused a message of the channel, perhaps this one. Each of them has to be published alone.
    PublishAlone,
}

/// The answer to one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// The broker took the message.
    Ack,
    /// The broker did not take the message.
    Nack,
}

/// The identity of a message, by which a returned message is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageIdentity {
    /// The property `message-id`; empty when the message has none.
    pub message_id: String,
    /// The exchange that the message was published to.
    pub exchange: ExchangeName,
    /// Its routing key.
    pub routing_key: RoutingKey,
}

impl MessageIdentity {
    /// The identity of a message that is published.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        Self {
            message_id: message.properties.message_id.clone().unwrap_or_default(),
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
        }
    }
}

/// A message that was written and waits for its confirm.
#[derive(Debug)]
pub struct PendingPublish {
    /// The message, which is recognised by its identity when it is returned.
    pub message: Arc<Message>,
    /// Whether the message counts as confirmed when no queue is bound for it.
    pub accept_unroutable: bool,
    /// Gets the outcome.
    pub reply: oneshot::Sender<PublishOutcome>,
}

struct Pending {
    publish: PendingPublish,
    since: Instant,
    confirm: Option<Confirm>,
}

/// The messages of a channel without an outcome, by their delivery tags.
#[derive(Default)]
pub struct ConfirmWindow {
    pending: HashMap<u64, Pending, FxBuildHasher>,
    /// The lowest tag that may be without an outcome.
    first: u64,
    /// Tags with a confirm and without an outcome.
    resolved: BTreeSet<u64>,
    returned: HashMap<MessageIdentity, usize>,
    /// Messages with a nack, and the time until it came.
    nacked: Vec<(Arc<Message>, Duration)>,
    /// The highest tag whose confirm carried no return.
    proven: u64,
    next: u64,
}

impl ConfirmWindow {
    /// Adds a message that is written now. Returns its delivery tag.
    pub fn add(&mut self, publish: PendingPublish) -> u64 {
        self.next += 1;
        self.pending.insert(self.next, Pending { publish, since: Instant::now(), confirm: None });
        self.next
    }

    /// Messages without an outcome.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every message has its outcome.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes in a confirm, with the return that lapin attached to it.
    pub fn resolve(&mut self, tag: u64, confirm: Confirm, returned: Option<MessageIdentity>) {
        if returned.is_none() {
            self.proven = self.proven.max(tag);
        }
        if let Some(pending) = self.pending.get_mut(&tag) {
            pending.confirm = Some(confirm);
            self.resolved.insert(tag);
        }
        if let Some(identity) = returned {
            *self.returned.entry(identity).or_default() += 1;
        }
    }

    /// Answers every message whose outcome is certain. Called after all confirms that have arrived were taken in.
    pub fn settle(&mut self) {
        // The common case: confirms in order.
        while self.first <= self.next && self.pending.get(&self.first).is_none_or(|first| first.confirm.is_some()) {
            self.answer(self.first);
            self.first += 1;
        }
        // Messages behind a confirm that is missing.
        for tag in std::mem::take(&mut self.resolved) {
            let is_known = |pending: &Pending| tag <= self.proven || self.is_returned(&pending.publish.message);
            if self.pending.get(&tag).is_some_and(is_known) {
                self.answer(tag);
            } else {
                self.resolved.insert(tag);
            }
        }
    }

    fn answer(&mut self, tag: u64) {
        self.resolved.remove(&tag);
        let Some(Pending { publish, confirm, since }) = self.pending.remove(&tag) else {
            return;
        };
        let PendingPublish { message, accept_unroutable, reply } = publish;
        let was_returned = self.take_return(&message);
        let outcome = match (was_returned, confirm) {
            (true, _) if accept_unroutable => PublishOutcome::Confirmed(Confirmed::Unrouted),
            (true, _) => {
                let (exchange, key) = (message.exchange.to_string(), message.routing_key.to_string());
                PublishOutcome::Refused(Passing::Unroutable { exchange, key }.into())
            }
            (false, Some(Confirm::Ack)) => PublishOutcome::Confirmed(Confirmed::Routed),
            (false, Some(Confirm::Nack) | None) => {
                self.nacked.push((message, since.elapsed()));
                PublishOutcome::Refused(Passing::Full.into())
            }
        };
        let _caller_gone = reply.send(outcome);
    }

    /// Takes the messages with a nack, each with the time until the nack came.
    pub(crate) fn take_nacked(&mut self) -> Vec<(Arc<Message>, Duration)> {
        std::mem::take(&mut self.nacked)
    }

    /// Messages without a confirm for more than half of [`CONFIRM_WITHIN`].
    pub(crate) fn late(&self) -> impl Iterator<Item = &Message> {
        let late = |pending: &&Pending| pending.confirm.is_none() && pending.since.elapsed() > CONFIRM_WITHIN / 2;
        self.pending.values().filter(late).map(|pending| &*pending.publish.message)
    }

    /// Whether a message with the same identity was returned. Returns are rare, so identities are only compared when there is one.
    fn is_returned(&self, message: &Message) -> bool {
        !self.returned.is_empty() && self.returned.contains_key(&MessageIdentity::of(message))
    }

    fn take_return(&mut self, message: &Message) -> bool {
        if self.returned.is_empty() {
            return false;
        }
        let identity = MessageIdentity::of(message);
        let Some(count) = self.returned.get_mut(&identity) else { return false };
        *count -= 1;
        if *count == 0 {
            self.returned.remove(&identity);
        }
        true
    }

    /// Whether a confirm is overdue. `unblocked` is the end of the last alarm, from which the time counts.
    pub(crate) fn is_overdue(&self, unblocked: Option<Instant>) -> bool {
        let first =
            self.pending.values().filter(|pending| pending.confirm.is_none()).map(|pending| pending.since).min();
        let since = first.map(|first| unblocked.map_or(first, |unblocked| unblocked.max(first)));
        since.is_some_and(|since| since.elapsed() > CONFIRM_WITHIN)
    }

    /// Answers a message that was not written after all.
    pub(crate) fn unsent(&mut self, tag: u64) {
        if let Some(pending) = self.pending.remove(&tag) {
            let _caller_gone = pending.publish.reply.send(PublishOutcome::Unsent);
        }
    }

    /// Answers every message without an outcome, because the channel is gone.
    pub fn fail(&mut self, outcome: impl Fn() -> PublishOutcome) {
        self.resolved.clear();
        let mut pending: Vec<(u64, Pending)> = std::mem::take(&mut self.pending).into_iter().collect();
        pending.sort_unstable_by_key(|(tag, _)| *tag);
        for (_, pending) in pending {
            let _caller_gone = pending.publish.reply.send(outcome());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;
    use trunkline_event::Properties;

    fn name_of(id: u64) -> MessageIdentity {
        MessageIdentity {
            message_id: id.to_string(),
            exchange: ExchangeName::new("e").expect("a name"),
            routing_key: RoutingKey::new("k").expect("a key"),
        }
    }

    fn pending(id: u64, reply: oneshot::Sender<PublishOutcome>) -> PendingPublish {
        let MessageIdentity { message_id, exchange, routing_key } = name_of(id);
        let properties = Properties { message_id: Some(message_id), ..Properties::default() };
        let message = Message { exchange, routing_key, properties, body: bytes::Bytes::new() };
        PendingPublish { message: Arc::new(message), accept_unroutable: false, reply }
    }

    fn is_unroutable(answer: &PublishOutcome) -> bool {
        matches!(answer, PublishOutcome::Refused(Refusal::Passing(Passing::Unroutable { .. })))
    }

    /// Returns are attached to other confirms than their own, in any order of resolution.
    #[test]
    fn the_outcome_does_not_depend_on_which_confirm_carries_a_return() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let mut window = ConfirmWindow::default();
            let count = random.u64(1..40);
            let mut answers = Vec::new();
            let mut waiting = VecDeque::new();
            for id in 1..=count {
                let (reply, answer) = oneshot::channel();
                window.add(pending(id, reply));
                let is_returned = random.u8(..10) == 0;
                if is_returned {
                    waiting.push_back(id);
                }
                answers.push((is_returned, answer));
            }
            // One `multiple` acknowledgement for all, walked in a random order, as lapin does.
            let mut order: Vec<u64> = (1..=count).collect();
            random.shuffle(&mut order);
            for tag in order {
                window.resolve(tag, Confirm::Ack, waiting.pop_front().map(name_of));
                if random.bool() {
                    window.settle();
                }
            }
            window.settle();
            for (id, (is_returned, mut answer)) in answers.into_iter().enumerate() {
                let answer = answer.try_recv().expect("everything is answered");
                assert_eq!(is_unroutable(&answer), is_returned, "{id}");
            }
        }
    }

    /// The broker behaves like RabbitMQ: returns come at once and in order; confirms come late, in parts, in any order, and some
    /// never.
    #[test]
    fn a_missing_confirm_delays_no_other_outcome() {
        let mut random = fastrand::Rng::with_seed(12);
        let mut early = 0;
        for _ in 0..2000 {
            let mut window = ConfirmWindow::default();
            let count = random.u64(2..40);
            let stuck: BTreeSet<u64> = (1..=count).filter(|_| random.u8(..8) == 0).collect();
            let returned: BTreeSet<u64> = (1..=count).filter(|id| !stuck.contains(id) && random.u8(..4) == 0).collect();
            let mut answers: BTreeMap<u64, oneshot::Receiver<PublishOutcome>> = BTreeMap::new();
            for id in 1..=count {
                let (reply, answer) = oneshot::channel();
                window.add(pending(id, reply));
                answers.insert(id, answer);
            }
            let mut waiting: VecDeque<u64> = VecDeque::new();
            let (mut handled, mut unconfirmed) = (0, Vec::new());
            while handled < count || !unconfirmed.is_empty() {
                if handled < count && random.bool() {
                    handled += 1;
                    waiting.extend(returned.contains(&handled).then_some(handled));
                    unconfirmed.extend((!stuck.contains(&handled)).then_some(handled));
                    continue;
                }
                if unconfirmed.is_empty() {
                    continue;
                }
                for _ in 0..random.usize(1..=unconfirmed.len()) {
                    let tag = unconfirmed.swap_remove(random.usize(..unconfirmed.len()));
                    window.resolve(tag, Confirm::Ack, waiting.pop_front().map(name_of));
                }
                window.settle();
            }
            for (id, answer) in &mut answers {
                match answer.try_recv() {
                    Ok(answer) => {
                        assert!(!stuck.contains(id), "{id} has no confirm");
                        assert_eq!(is_unroutable(&answer), returned.contains(id), "{id}");
                        early += u32::from(stuck.iter().any(|stuck| stuck < id));
                    }
                    Err(_open) => assert!(!stuck.is_empty(), "{id} is open although every confirm came"),
                }
            }
        }
        assert!(early > 10_000, "hardly any message was answered behind a missing confirm: {early}");
    }

    /// A message that waited for the end of an alarm gets its whole time from then on.
    #[test]
    fn an_alarm_makes_nothing_overdue() {
        let mut window = ConfirmWindow::default();
        let (reply, _answer) = oneshot::channel();
        let tag = window.add(pending(1, reply));
        let now = Instant::now();
        let long_ago = now.checked_sub(CONFIRM_WITHIN * 2).expect("a machine that is up for a minute");
        assert!(!window.is_overdue(None) && !window.is_overdue(Some(long_ago)));
        window.pending.get_mut(&tag).expect("it waits").since = long_ago;
        assert!(window.is_overdue(None) && window.is_overdue(Some(long_ago)));
        assert!(!window.is_overdue(Some(now)));
    }

    #[test]
    fn a_nack_is_a_refusal() {
        let mut window = ConfirmWindow::default();
        let (reply, mut answer) = oneshot::channel();
        let tag = window.add(PendingPublish { accept_unroutable: true, ..pending(1, reply) });
        window.resolve(tag, Confirm::Nack, None);
        window.settle();
        assert_eq!(answer.try_recv(), Ok(PublishOutcome::Refused(Passing::Full.into())));
    }
}
