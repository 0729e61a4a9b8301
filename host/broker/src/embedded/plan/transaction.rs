//! One transaction: the batch for the store, and the changes of the queues in memory after the commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::dead_letter::dead_letter;
use super::request::{RoutedMessages, WriteError, WriteRequest, indexes_of};
use crate::embedded::state::{DeliveryId, QueueChange, QueueHead, QueuedMessage, Routing, SessionState};
use crate::embedded::store::{DelayedKey, DelayedRecord, MessageRecord, WriteBatch};
use trunkline_config::Overflow;
use trunkline_event::{Message, millis};
use trunkline_telemetry::wait::Loop;

/// Most messages of a queue that one transaction gives up. The rest follows in the next transaction.
const GIVE_UP_MAX: usize = 1024;

/// Whether messages may be moved between queues, which takes more space on the disk for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Messages are moved.
    Allowed,
    /// Messages stay in their queues until the disk has space.
    Postponed,
}

/// One transaction, planned under the lock on the state. Without [`TransactionPlan::apply`] only the deliveries that it
/// settles are changed in memory.
pub(crate) struct TransactionPlan {
    pub(crate) batch: WriteBatch,
    pub(crate) now_ms: u64,
    pub(crate) routing: Arc<Routing>,
    moves: Moves,
    /// New messages: the number of the queue, and the index of the message in the puts of the batch.
    added: Vec<(usize, usize)>,
    /// Number of new messages by the number of their queue.
    counts: HashMap<usize, u64>,
    /// Messages that go back to their queue, because its dead-letter target is missing.
    retained: Vec<(usize, QueuedMessage)>,
    /// Removed messages: number of the queue and position.
    removed: Vec<(usize, u64)>,
    /// Acknowledged messages: id of the queue and position. They stay acknowledged when the transaction fails.
    pub(crate) acknowledged: Vec<(u32, u64)>,
    /// Whether delayed messages were added or removed.
    pub(crate) delays_changed: bool,
    /// Change of the number of delayed retries by the name of their queue.
    pub(crate) retrying: HashMap<String, i64>,
    /// Queues whose first message has to be read from the disk.
    pub(crate) to_read: BTreeSet<usize>,
}

impl TransactionPlan {
    pub(crate) fn new(routing: Arc<Routing>, now_ms: u64, moves: Moves) -> Self {
        Self {
            batch: WriteBatch::default(),
            now_ms,
            routing,
            moves,
            added: Vec::new(),
            counts: HashMap::new(),
            retained: Vec::new(),
            removed: Vec::new(),
            acknowledged: Vec::new(),
            delays_changed: false,
            retrying: HashMap::new(),
            to_read: BTreeSet::new(),
        }
    }

    /// Plans the pending changes, the delayed messages that are due, and the messages that expired or exceed a length.
    pub(crate) fn changes(&mut self, state: &mut SessionState, due: Vec<(DelayedKey, DelayedRecord)>) {
        for change in std::mem::take(&mut state.pending) {
            match change {
                QueueChange::Remove { queue, position } => {
                    self.remove(state, queue, position);
                    self.acknowledged.extend(state.queues.get(&queue).map(|queue| (queue.id, position)));
                }
                QueueChange::Recount { queue, entry } => {
                    if let Some(queue) = state.queues.get(&queue) {
                        self.batch.puts.push(((queue.id, entry.position), entry.record));
                    }
                }
                QueueChange::GiveUp { queue, entry, reason } => match self.moves {
                    Moves::Allowed => self.give_up(state, queue, entry, reason),
                    Moves::Postponed => state.pending.push(QueueChange::GiveUp { queue, entry, reason }),
                },
            }
        }
        self.deliver_due(state, due);
        let numbers: Vec<usize> = state.queues.keys().copied().collect();
        for number in numbers {
            self.give_up_head(state, number);
        }
    }

    /// Gives up the messages at the head of a queue that expired or exceed its length.
    fn give_up_head(&mut self, state: &mut SessionState, number: usize) {
        for _ in 0..GIVE_UP_MAX {
            let Some(queue) = state.queues.get_mut(&number).filter(|queue| queue.give_up_not_before() <= self.now_ms)
            else {
                return;
            };
            let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
            let is_over = over.is_some_and(|max| queue.ready() > u64::from(max));
            if !is_over && !queue.may_expire || self.moves == Moves::Postponed && queue.settings.dead_letter.is_some() {
                return;
            }
            let reason = match queue.head() {
                QueueHead::InMemory(Some(expiry)) if expiry <= self.now_ms => "expired",
                QueueHead::InMemory(_) if is_over => "maxlen",
                QueueHead::OnDisk => {
                    self.to_read.insert(number);
                    return;
                }
                QueueHead::InMemory(_) | QueueHead::Empty => return,
            };
            match queue.pop() {
                Some(entry) => self.give_up(state, number, entry, reason),
                None => return,
            }
        }
    }

    /// Moves a message to the dead-letter target of its queue. Without a target the message is dropped, as AMQP does for
    /// TTL and length.
    fn give_up(&mut self, state: &mut SessionState, number: usize, entry: QueuedMessage, reason: &str) {
        let Some(queue) = state.queues.get_mut(&number) else { return };
        let Some(target) = queue.settings.dead_letter.clone() else {
            tracing::debug!(queue = %queue.name, reason, "a message was dropped, because its queue has no dead-letter target");
            return self.remove(state, number, entry.position);
        };
        let queue_name = queue.name.clone();
        let message = dead_letter(&entry.record.message, &target, &queue_name, reason);
        let destinations = self.routing.route(&message).unwrap_or_default();
        if !destinations.is_routable {
            let (exchange, key) = (target.exchange, target.key);
            tracing::error!(queue = %queue.name, reason, %exchange, %key,
                "no queue is bound for the dead-letter target; the message stays in its queue");
            let detail = format!(
                "the queue must dead-letter a message ({reason}), but no queue is bound for key {key:?} of exchange {exchange:?}"
            );
            queue.postpone_give_up(|tries| {
                let pause = Loop::GiveUp.pause(tries).unwrap_or_default();
                Loop::GiveUp.rules().condition.raise_for(queue_name.as_str(), detail, pause.saturating_mul(2));
                self.now_ms.saturating_add(millis(pause))
            });
            self.retained.push((number, entry));
            return;
        }
        queue.give_up_succeeded();
        self.remove(state, number, entry.position);
        self.put(state, &Arc::new(message), &destinations.queues);
    }

    fn remove(&mut self, state: &SessionState, number: usize, position: u64) {
        if let Some(queue) = state.queues.get(&number) {
            self.batch.removes.push((queue.id, position));
            self.removed.push((number, position));
        }
    }

    /// Puts a message into queues. A queue that was removed since the message was routed gets nothing.
    pub(crate) fn put(&mut self, state: &mut SessionState, message: &Arc<Message>, queues: &BTreeSet<usize>) {
        for &number in queues {
            let Some(queue) = state.queues.get_mut(&number) else { continue };
            let position = queue.next_position(message);
            let record = MessageRecord { published_ms: self.now_ms, count: 0, message: message.clone() };
            self.added.push((number, self.batch.puts.len()));
            self.batch.puts.push(((queue.id, position), record));
            *self.counts.entry(number).or_default() += 1;
        }
    }

    /// Plans a request, which is stored whole or not at all.
    pub(crate) fn write(&mut self, state: &mut SessionState, request: WriteRequest) -> Result<(), WriteError> {
        let full = self.full_queues(state, &request.routed);
        if !full.is_empty() {
            return Err(WriteError::Full(indexes_of(&request.routed, &full)));
        }
        let is_held = |id: &DeliveryId| {
            state.queue_of(id.session, id.queue).is_some_and(|queue| queue.is_held(id.position, id.consumer))
        };
        if !request.settles.iter().all(is_held) {
            return Err(WriteError::Lost("the message of the delivery is in its queue again".to_owned()));
        }
        for id in request.settles {
            if let Some(queue) = state.queue_of(id.session, id.queue) {
                queue.release(id.position, id.consumer, self.now_ms);
            }
            self.remove(state, id.queue, id.position);
        }
        for (message, queues) in &request.routed {
            self.put(state, message, queues);
        }
        self.delay(state, request.delayed);
        self.batch.dedupe_records.extend(request.dedupe_record);
        Ok(())
    }

    /// Numbers of the queues with `reject-publish` that have no room for the messages of a request.
    fn full_queues(&self, state: &SessionState, routed: &RoutedMessages) -> BTreeSet<usize> {
        let mut wanted: HashMap<usize, u64> = HashMap::new();
        for number in routed.iter().flat_map(|(_, queues)| queues) {
            *wanted.entry(*number).or_default() += 1;
        }
        let is_full = |(number, wanted): (usize, u64)| {
            let queue = state.queues.get(&number)?;
            let max = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::RejectPublish)?;
            let planned = self.counts.get(&number).copied().unwrap_or_default();
            let length = queue.ready().saturating_add(planned).saturating_add(wanted);
            (length > u64::from(max)).then_some(number)
        };
        wanted.into_iter().filter_map(is_full).collect()
    }

    /// Changes the queues in memory after the transaction is on disk: new messages can be delivered.
    pub(crate) fn apply(mut self, state: &mut SessionState) {
        self.count_retrying(state);
        for (number, position) in self.removed {
            if let Some(queue) = state.queues.get_mut(&number) {
                queue.removed_from_disk(position);
            }
        }
        let mut touched = BTreeSet::new();
        let mut records: Vec<Option<((u32, u64), MessageRecord)>> = self.batch.puts.into_iter().map(Some).collect();
        for (number, index) in self.added {
            let put = records.get_mut(index).and_then(Option::take);
            if let (Some(((_, position), record)), Some(queue)) = (put, state.queues.get_mut(&number)) {
                queue.add_committed(position, record, self.now_ms);
                touched.insert(number);
            }
        }
        for (number, entry) in self.retained {
            if let Some(queue) = state.queues.get_mut(&number) {
                queue.put_back(entry);
            }
        }
        for number in touched {
            if let Some(queue) = state.queues.get(&number) {
                queue.arrivals.notify_waiters();
            }
        }
    }
}
