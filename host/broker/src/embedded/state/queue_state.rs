//! One queue in memory: the window of the next messages, the delivered messages, and the returned messages. The bodies of
//! a backlog stay on disk, and the writer reads them ahead. Nothing in this file accesses a disk.
//!
//! A message that can be delivered is counted in one place: in the window, as returned, or as on disk. Only the writer
//! adds to the messages on disk, after the commit, and subtracts the messages that it has read. The counts can therefore
//! not contradict each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::message::{QueueHead, QueuedMessage, ReadRequest, expiry};
use super::meter::Meter;
use super::stream::StreamState;
use crate::embedded::store::{LastRun, MessageRecord, QueuePage, SEQUENCE_BITS, StoredQueue};
use trunkline_config as config;
use trunkline_event::{Message, QueueName};

/// Most messages in the window.
const WINDOW_MAX: usize = 1024;
/// The window takes no more messages when their bodies have this size.
const WINDOW_MAX_BYTES: usize = 4 << 20;

/// Most new messages in the window of a queue without a consumer.
const UNCONSUMED_WINDOW_MAX: usize = 256;
/// Bounds of the messages that are read for a queue without a consumer.
const UNCONSUMED_MAX: usize = 16;
const UNCONSUMED_MAX_BYTES: usize = 64 << 10;

/// A delivered message, and the number of the consumer that holds it.
#[derive(Debug)]
struct HeldMessage {
    entry: QueuedMessage,
    consumer: u64,
}

/// A queue of the session.
#[derive(Debug)]
pub(crate) struct QueueState {
    pub(crate) name: QueueName,
    /// Id in the store, which is never used for another queue.
    pub(crate) id: u32,
    pub(crate) settings: config::Queue,
    /// Set for a queue of a stream.
    pub(crate) stream: Option<StreamState>,
    /// Notified when there may be something to deliver.
    pub(crate) arrivals: Arc<Notify>,
    /// Sequence number of the next message that is published.
    next: u64,
    /// First position that was not read into memory.
    unread: u64,
    /// Number of messages from `unread` on that can be delivered and are on disk only.
    on_disk: u64,
    window: VecDeque<QueuedMessage>,
    window_bytes: usize,
    returned: BTreeMap<u64, QueuedMessage>,
    held: BTreeMap<u64, HeldMessage>,
    /// Positions of given up or acknowledged messages that are still on disk. Kept only with priorities, where reading may
    /// go back.
    being_removed: BTreeSet<u64>,
    /// Messages below this position may have been delivered before.
    redelivered_below: u64,
    /// Number of messages at the head that the last run may have handed out before it crashed.
    suspects: u64,
    /// Whether some message may expire.
    pub(crate) may_expire: bool,
    /// Why the next message cannot be read.
    read_error: Option<String>,
    /// Number of times in a row that the dead-letter target was missing.
    give_up_tries: u32,
    /// Time of the store before which no message is given up.
    give_up_not_before_ms: u64,
    /// Number of subscriptions.
    pub(crate) consumers: u32,
    pub(crate) meters: QueueMeters,
}

/// Rates of a queue.
#[derive(Debug, Default)]
pub(crate) struct QueueMeters {
    pub(crate) published: Meter,
    pub(crate) delivered: Meter,
    pub(crate) acknowledged: Meter,
}

impl QueueState {
    /// A queue of a store that was just opened.
    pub(crate) fn new(name: QueueName, settings: config::Queue, stored: StoredQueue, last_run: LastRun) -> Self {
        // Only the daemon reads the entries of a waiting list, so none of them can end a run.
        let prefetch = if settings.purpose == config::QueuePurpose::List { 0 } else { settings.prefetch };
        Self {
            may_expire: settings.ttl.is_some() || stored.messages > 0,
            name,
            id: stored.id,
            settings,
            stream: None,
            arrivals: Arc::default(),
            next: stored.next,
            unread: 0,
            on_disk: stored.messages,
            window: VecDeque::new(),
            window_bytes: 0,
            returned: BTreeMap::new(),
            held: BTreeMap::new(),
            being_removed: BTreeSet::new(),
            redelivered_below: match last_run {
                LastRun::Clean => 0,
                LastRun::Crashed => stored.next,
            },
            suspects: match last_run {
                LastRun::Clean => 0,
                LastRun::Crashed => stored.messages.min(u64::from(prefetch)),
            },
            read_error: None,
            give_up_tries: 0,
            give_up_not_before_ms: 0,
            consumers: 0,
            meters: QueueMeters::default(),
        }
    }

    /// Continues the queue of the session before, after the store was opened again. No message is a suspect, because the
    /// daemon did not end. New positions are higher than all positions of this run.
    pub(crate) fn continue_from(&mut self, before: Self) {
        self.next = self.next.max(before.next);
        self.suspects = 0;
        let is_by_priority = before.settings.max_priority.is_some();
        self.redelivered_below = if is_by_priority { u64::MAX } else { before.unread.max(before.redelivered_below) };
        self.meters = before.meters;
    }

    /// Changes the settings. The largest priority stays while the queue holds messages, because it is part of their
    /// positions.
    pub(crate) fn change_settings(&mut self, settings: config::Queue) {
        let max_priority = if self.is_empty() { settings.max_priority } else { self.settings.max_priority };
        self.may_expire |= settings.ttl.is_some();
        self.settings = config::Queue { max_priority, ..settings };
    }

    /// Number of messages that can be delivered, in memory or on disk.
    pub(crate) fn ready(&self) -> u64 {
        self.on_disk.saturating_add((self.window.len() + self.returned.len()) as u64)
    }

    pub(crate) fn unacknowledged(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether the queue has neither messages nor deliveries.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready() == 0 && self.held.is_empty()
    }

    /// Why the next message cannot be read. The queue delivers nothing then.
    pub(crate) fn read_error(&self) -> Option<&str> {
        self.read_error.as_deref()
    }

    /// Time of the store before which no message is given up.
    pub(crate) fn give_up_not_before(&self) -> u64 {
        self.give_up_not_before_ms
    }

    /// Notes that the dead-letter target was missing. `until` gets the number of such times in a row, and returns the time
    /// of the next try.
    pub(crate) fn postpone_give_up(&mut self, until: impl FnOnce(u32) -> u64) {
        self.give_up_tries = self.give_up_tries.saturating_add(1);
        self.give_up_not_before_ms = until(self.give_up_tries);
    }

    /// Notes that a message was moved to the dead-letter target.
    pub(crate) fn give_up_succeeded(&mut self) {
        (self.give_up_tries, self.give_up_not_before_ms) = (0, 0);
    }

    /// Position of a new message: after all other messages of its priority.
    pub(crate) fn next_position(&mut self, message: &Message) -> u64 {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        let Some(max) = self.settings.max_priority else {
            return sequence;
        };
        let priority = message.properties.priority.unwrap_or(0).min(max);
        u64::from(max - priority) << SEQUENCE_BITS | sequence
    }

    /// Notes that a message was removed from the disk.
    pub(crate) fn removed_from_disk(&mut self, position: u64) {
        self.being_removed.remove(&position);
    }

    /// Adds a committed message. The message is kept in memory only when no message before it is on disk only.
    pub(crate) fn add_committed(&mut self, position: u64, record: MessageRecord, now_ms: u64) {
        self.meters.published.count(now_ms);
        self.may_expire |= record.message.properties.expiration.is_some();
        let most = if self.consumers > 0 { WINDOW_MAX } else { UNCONSUMED_WINDOW_MAX };
        let fits = self.window.len() < most && self.window_bytes < WINDOW_MAX_BYTES;
        let entry = QueuedMessage { position, record, redelivered: false, suspect: false };
        if position < self.unread {
            self.insert_by_priority(entry);
        } else if fits && self.on_disk == 0 {
            self.unread = position.saturating_add(1);
            self.push(entry);
        } else {
            self.on_disk = self.on_disk.saturating_add(1);
        }
    }

    fn push(&mut self, entry: QueuedMessage) {
        self.window_bytes += entry.record.message.body.len();
        self.window.push_back(entry);
    }

    /// Inserts a message of a higher priority than some messages in the window. Messages that no longer fit into the window
    /// are read again later.
    fn insert_by_priority(&mut self, entry: QueuedMessage) {
        self.window_bytes += entry.record.message.body.len();
        let place = self.window.partition_point(|other| other.position < entry.position);
        self.window.insert(place, entry);
        while self.window.len() > 1 && (self.window.len() > WINDOW_MAX || self.window_bytes > WINDOW_MAX_BYTES) {
            if let Some(last) = self.window.pop_back() {
                self.window_bytes = self.window_bytes.saturating_sub(last.record.message.body.len());
                self.unread = last.position;
                self.on_disk = self.on_disk.saturating_add(1);
            }
        }
    }

    /// Position of the next message, and whether the message was returned. `None` if the message is on disk or there is
    /// none.
    fn next_in_memory(&self) -> Option<(u64, bool)> {
        let returned = self.returned.first_key_value().map(|(position, _)| (*position, true));
        let windowed = self.window.front().map(|entry| (entry.position, false));
        let first = returned.into_iter().chain(windowed).min()?;
        let is_on_disk = self.on_disk > 0 && self.unread < first.0;
        (!is_on_disk).then_some(first)
    }

    /// State of the next message.
    pub(crate) fn head(&self) -> QueueHead {
        let entry = match self.next_in_memory() {
            Some((position, true)) => self.returned.get(&position),
            Some((_, false)) => self.window.front(),
            None => None,
        };
        match entry {
            Some(entry) if self.may_expire => QueueHead::InMemory(expiry(self.settings.ttl, &entry.record)),
            Some(_) => QueueHead::InMemory(None),
            None if self.ready() > 0 => QueueHead::OnDisk,
            None => QueueHead::Empty,
        }
    }

    /// Takes the next message, if it is in memory. The message is still on disk.
    pub(crate) fn pop(&mut self) -> Option<QueuedMessage> {
        let (position, has_returned) = self.next_in_memory()?;
        if self.settings.max_priority.is_some() {
            self.being_removed.insert(position);
        }
        if has_returned {
            return self.returned.remove(&position);
        }
        let mut entry = self.window.pop_front()?;
        self.window_bytes = self.window_bytes.saturating_sub(entry.record.message.body.len());
        if self.suspects > 0 && entry.redelivered {
            self.suspects -= 1;
            entry.suspect = true;
        }
        Some(entry)
    }

    /// The messages that have to be read now, so that the window does not run empty. Without a consumer only as many are
    /// read as are needed to see when the next messages expire.
    pub(crate) fn read_request(&self) -> Option<ReadRequest> {
        let (length, bytes) = (self.window.len(), self.window_bytes);
        let (most, most_bytes) = match self.consumers {
            0 if length == 0 => (UNCONSUMED_MAX, UNCONSUMED_MAX_BYTES),
            0 => return None,
            _ if length <= WINDOW_MAX / 2 && bytes <= WINDOW_MAX_BYTES / 2 => {
                (WINDOW_MAX - length, WINDOW_MAX_BYTES - bytes)
            }
            _ => return None,
        };
        let is_wanted = self.on_disk > 0 && self.read_error.is_none();
        is_wanted.then_some(ReadRequest { id: self.id, from: self.unread, most, most_bytes })
    }

    /// Adds messages that were read from `unread` on. No transaction may be committed between reading and this call.
    pub(crate) fn add_page(&mut self, page: QueuePage) {
        for (position, record) in page.entries {
            self.unread = position.saturating_add(1);
            let is_elsewhere = self.held.contains_key(&position)
                || self.returned.contains_key(&position)
                || self.being_removed.contains(&position);
            if !is_elsewhere {
                self.on_disk = self.on_disk.saturating_sub(1);
                let redelivered = position < self.redelivered_below || record.count > 0;
                self.push(QueuedMessage { position, record, redelivered, suspect: false });
            }
        }
        if page.is_end {
            self.on_disk = 0;
        }
        self.read_error = page.read_error;
    }

    /// Notes that a message was delivered to a consumer.
    pub(crate) fn hold(&mut self, entry: QueuedMessage, consumer: u64, now_ms: u64) {
        self.meters.delivered.count(now_ms);
        self.held.insert(entry.position, HeldMessage { entry, consumer });
    }

    /// Whether the consumer holds the message.
    pub(crate) fn is_held(&self, position: u64, consumer: u64) -> bool {
        self.held.get(&position).is_some_and(|held| held.consumer == consumer)
    }

    /// Acknowledges a message. Returns false when the consumer does not hold the message any more.
    pub(crate) fn release(&mut self, position: u64, consumer: u64, now_ms: u64) -> bool {
        let is_held = self.is_held(position, consumer);
        if is_held {
            self.held.remove(&position);
            self.meters.acknowledged.count(now_ms);
        }
        is_held
    }

    /// Takes back all messages of a consumer in the order of the queue, and counts their deliveries.
    pub(crate) fn take_back(&mut self, consumer: u64) -> Vec<QueuedMessage> {
        self.take_back_if(|held| held.consumer == consumer)
    }

    /// Takes back all messages of all consumers in the order of the queue, and counts their deliveries.
    pub(crate) fn take_back_all(&mut self) -> Vec<QueuedMessage> {
        self.take_back_if(|_| true)
    }

    fn take_back_if(&mut self, wanted: impl Fn(&HeldMessage) -> bool) -> Vec<QueuedMessage> {
        let taken = self.held.extract_if(.., |_, held| wanted(held));
        let counted = taken.map(|(_, HeldMessage { mut entry, .. })| {
            // The delivery of a suspect was counted before it was handed out.
            entry.record.count = entry.record.count.saturating_add(u32::from(!entry.suspect));
            entry.redelivered = true;
            entry
        });
        counted.collect()
    }

    /// Returns a message to its place in the queue.
    pub(crate) fn put_back(&mut self, entry: QueuedMessage) {
        self.being_removed.remove(&entry.position);
        self.returned.insert(entry.position, entry);
    }

    /// Whether a message was delivered more often than the delivery limit.
    pub(crate) fn is_over_limit(&self, entry: &QueuedMessage) -> bool {
        self.settings.delivery_limit.is_some_and(|limit| entry.record.count > limit)
    }

    /// Time of the store at which the oldest message in memory was published.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let returned = self.returned.first_key_value().map(|(_, entry)| entry.record.published_ms);
        returned.into_iter().chain(self.window.front().map(|entry| entry.record.published_ms)).min()
    }
}

#[cfg(test)]
mod tests;
