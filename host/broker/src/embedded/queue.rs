//! One queue in memory: a window on the messages that are next, what is delivered, and what came back. Bodies of a
//! backlog stay on disk, and are read ahead by the writer: nothing here touches a disk.
//!
//! What can be delivered is counted by where it is: in the window, come back, or behind on disk. Only the writer adds to
//! what is behind, once it is committed, and takes from it what it has read, so that no two of the counts can contradict
//! each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::meter::Meter;
use super::store::{Found, ReadAhead, Record, SEQUENCE_BITS};
use super::tap::Reader;
use trunkline_config as config;
use trunkline_event::{Message, QueueName, millis};

/// Messages that are read ahead.
const WINDOW_MAX: usize = 256;
/// The window takes no more messages once their bodies take so much.
const WINDOW_MAX_BYTES: usize = 4 << 20;

/// The same of a queue that nobody consumes.
const UNCONSUMED_MAX: usize = 16;
const UNCONSUMED_MAX_BYTES: usize = 64 << 10;

/// A message of a queue, with its position.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) record: Record,
    pub(super) redelivered: bool,
    /// It may be what ended the last run: it is counted on disk before it is handed out.
    pub(super) suspect: bool,
}

/// Who holds a delivered message.
#[derive(Debug)]
struct Held {
    entry: Entry,
    holder: u64,
}

/// Whether there is a next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// It is in memory, and expires at this time, if it does.
    There(Option<u64>),
    /// It is to be read.
    OnDisk,
    Nothing,
}

/// What the writer is to read into the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) id: u32,
    pub(super) from: u64,
    pub(super) most: usize,
    pub(super) most_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    /// In the store, where it is never used again.
    pub(super) id: u32,
    pub(super) settings: config::Queue,
    /// Set for a queue that is a reader's own.
    pub(super) reader: Option<Reader>,
    /// There may be something to deliver.
    pub(super) arrivals: Arc<Notify>,
    /// Sequence number of the next message that is written.
    next: u64,
    /// First position that is in neither `window` nor memory otherwise.
    unread: u64,
    /// Messages from `unread` on that can be delivered and are on disk only.
    behind: u64,
    window: VecDeque<Entry>,
    window_bytes: usize,
    returned: BTreeMap<u64, Entry>,
    held: BTreeMap<u64, Held>,
    /// Given up or acknowledged, and still on disk; kept only with priorities, where reading may go back.
    going: BTreeSet<u64>,
    /// Everything below may have been delivered before.
    redelivered_below: u64,
    /// Messages at the head that the last run, which ended badly, may have handed out.
    suspects: u64,
    /// Some message may have a TTL of its own.
    pub(super) may_expire: bool,
    /// Why the next message cannot be read.
    broken: Option<String>,
    /// Nothing is given up before this time, after so many tries without a dead-letter target.
    kept: (u32, u64),
    /// Subscriptions.
    pub(super) consumers: u32,
    pub(super) meters: Meters,
}

/// What happened to messages lately.
#[derive(Debug, Default)]
pub(super) struct Meters {
    pub(super) published: Meter,
    pub(super) delivered: Meter,
    pub(super) acknowledged: Meter,
}

impl Queue {
    /// A queue of a store that was just opened; `clean` when the run before ended in order.
    pub(super) fn new(name: QueueName, settings: config::Queue, found: Found, clean: bool) -> Self {
        // The entries of a list are read by the daemon itself: none of them ends it.
        let prefetch = if settings.purpose == config::QueuePurpose::List { 0 } else { settings.prefetch };
        Self {
            may_expire: settings.ttl.is_some() || found.messages > 0,
            name,
            id: found.id,
            settings,
            reader: None,
            arrivals: Arc::default(),
            next: found.next,
            unread: 0,
            behind: found.messages,
            window: VecDeque::new(),
            window_bytes: 0,
            returned: BTreeMap::new(),
            held: BTreeMap::new(),
            going: BTreeSet::new(),
            redelivered_below: if clean { 0 } else { found.next },
            suspects: if clean { 0 } else { found.messages.min(u64::from(prefetch)) },
            broken: None,
            kept: (0, 0),
            consumers: 0,
            meters: Meters::default(),
        }
    }

    /// The same queue after the store was opened again. Nothing in it is a suspect: the daemon lives. Positions go on
    /// beyond all that this run has given.
    pub(super) fn go_on_from(&mut self, before: Self) {
        self.next = self.next.max(before.next);
        self.suspects = 0;
        let is_by_priority = before.settings.max_priority.is_some();
        self.redelivered_below = if is_by_priority { u64::MAX } else { before.unread.max(before.redelivered_below) };
        self.meters = before.meters;
    }

    /// Other settings from now on. The priorities stay those of the messages it holds.
    pub(super) fn resettle(&mut self, settings: config::Queue) {
        let max_priority = if self.is_empty() { settings.max_priority } else { self.settings.max_priority };
        self.may_expire |= settings.ttl.is_some();
        self.settings = config::Queue { max_priority, ..settings };
    }

    /// Messages that can be delivered, in memory or not.
    pub(super) fn ready(&self) -> u64 {
        self.behind.saturating_add((self.window.len() + self.returned.len()) as u64)
    }

    pub(super) fn unacknowledged(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether it has neither messages nor deliveries.
    pub(super) fn is_empty(&self) -> bool {
        self.ready() == 0 && self.held.is_empty()
    }

    /// Why it delivers nothing.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// When something may be given up again, by the clock of the store.
    pub(super) fn kept_until(&self) -> u64 {
        self.kept.1
    }

    /// What was to be given up had nowhere to go: gives how often that was so.
    pub(super) fn keep_until(&mut self, until: impl FnOnce(u32) -> u64) {
        let tries = self.kept.0.saturating_add(1);
        self.kept = (tries, until(tries));
    }

    /// Something was given up.
    pub(super) fn keep_no_more(&mut self) {
        self.kept = (0, 0);
    }

    /// Where a new message goes: behind all others of its priority.
    pub(super) fn next_position(&mut self, message: &Message) -> u64 {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        let Some(max) = self.settings.max_priority else {
            return sequence;
        };
        let priority = message.properties.priority.unwrap_or(0).min(max);
        u64::from(max - priority) << SEQUENCE_BITS | sequence
    }

    /// A message is gone from the disk.
    pub(super) fn forget(&mut self, position: u64) {
        self.going.remove(&position);
    }

    /// A message is committed. It is kept in memory only when nothing before it waits on disk.
    pub(super) fn admit(&mut self, position: u64, record: Record, now_ms: u64) {
        self.meters.published.count(now_ms);
        self.may_expire |= record.message.properties.expiration.is_some();
        let fits = self.window.len() < WINDOW_MAX && self.window_bytes < WINDOW_MAX_BYTES;
        let entry = Entry { position, record, redelivered: false, suspect: false };
        if position < self.unread {
            self.squeeze_in(entry);
        } else if fits && self.behind == 0 {
            self.unread = position.saturating_add(1);
            self.push(entry);
        } else {
            self.behind = self.behind.saturating_add(1);
        }
    }

    fn push(&mut self, entry: Entry) {
        self.window_bytes += entry.record.message.body.len();
        self.window.push_back(entry);
    }

    /// A message of a higher priority than some that were read already. What no longer fits is read again later.
    fn squeeze_in(&mut self, entry: Entry) {
        self.window_bytes += entry.record.message.body.len();
        let place = self.window.partition_point(|other| other.position < entry.position);
        self.window.insert(place, entry);
        while self.window.len() > 1 && (self.window.len() > WINDOW_MAX || self.window_bytes > WINDOW_MAX_BYTES) {
            if let Some(last) = self.window.pop_back() {
                self.window_bytes = self.window_bytes.saturating_sub(last.record.message.body.len());
                self.unread = last.position;
                self.behind = self.behind.saturating_add(1);
            }
        }
    }

    /// Where the next message is: its position, and whether it came back. None when it is on disk, or there is none.
    fn next_in_memory(&self) -> Option<(u64, bool)> {
        let returned = self.returned.first_key_value().map(|(position, _)| (*position, true));
        let windowed = self.window.front().map(|entry| (entry.position, false));
        let first = returned.into_iter().chain(windowed).min()?;
        let is_on_disk = self.behind > 0 && self.unread < first.0;
        (!is_on_disk).then_some(first)
    }

    /// Looks at the next message.
    pub(super) fn head(&self) -> Head {
        let entry = match self.next_in_memory() {
            Some((position, true)) => self.returned.get(&position),
            Some((_, false)) => self.window.front(),
            None => None,
        };
        match entry {
            Some(entry) if self.may_expire => Head::There(expiry(self.settings.ttl, &entry.record)),
            Some(_) => Head::There(None),
            None if self.ready() > 0 => Head::OnDisk,
            None => Head::Nothing,
        }
    }

    /// Takes the next message out of what is ready, if it is in memory; it is still on disk.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let (position, has_returned) = self.next_in_memory()?;
        if self.settings.max_priority.is_some() {
            self.going.insert(position);
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

    /// What is to be read now, so that the window does not run empty. Without a consumer only what is needed to see when
    /// the next messages expire.
    pub(super) fn reading(&self) -> Option<Reading> {
        let (length, bytes) = (self.window.len(), self.window_bytes);
        let (most, most_bytes) = match self.consumers {
            0 if length == 0 => (UNCONSUMED_MAX, UNCONSUMED_MAX_BYTES),
            0 => return None,
            _ if length <= WINDOW_MAX / 2 && bytes <= WINDOW_MAX_BYTES / 2 => {
                (WINDOW_MAX - length, WINDOW_MAX_BYTES - bytes)
            }
            _ => return None,
        };
        let is_wanted = self.behind > 0 && self.broken.is_none();
        is_wanted.then_some(Reading { id: self.id, from: self.unread, most, most_bytes })
    }

    /// Takes in what was read from `unread` on; nothing was committed since.
    pub(super) fn read(&mut self, found: ReadAhead) {
        for (position, record) in found.entries {
            self.unread = position.saturating_add(1);
            let is_elsewhere = self.held.contains_key(&position)
                || self.returned.contains_key(&position)
                || self.going.contains(&position);
            if !is_elsewhere {
                self.behind = self.behind.saturating_sub(1);
                let redelivered = position < self.redelivered_below || record.count > 0;
                self.push(Entry { position, record, redelivered, suspect: false });
            }
        }
        if found.is_end {
            self.behind = 0;
        }
        self.broken = found.broken;
    }

    /// Notes that a message was delivered.
    pub(super) fn hold(&mut self, entry: Entry, holder: u64, now_ms: u64) {
        self.meters.delivered.count(now_ms);
        self.held.insert(entry.position, Held { entry, holder });
    }

    /// Whether that holder holds the message.
    pub(super) fn is_held(&self, position: u64, holder: u64) -> bool {
        self.held.get(&position).is_some_and(|held| held.holder == holder)
    }

    /// An acknowledgement; false when that holder does not hold the message any more.
    pub(super) fn release(&mut self, position: u64, holder: u64, now_ms: u64) -> bool {
        let is_held = self.is_held(position, holder);
        if is_held {
            self.held.remove(&position);
            self.meters.acknowledged.count(now_ms);
        }
        is_held
    }

    /// Takes back everything that a subscription held, counted once more; in the order of the queue.
    pub(super) fn take_back(&mut self, holder: u64) -> Vec<Entry> {
        self.take_back_if(|held| held.holder == holder)
    }

    /// Takes back everything that anybody held.
    pub(super) fn take_back_all(&mut self) -> Vec<Entry> {
        self.take_back_if(|_| true)
    }

    fn take_back_if(&mut self, wanted: impl Fn(&Held) -> bool) -> Vec<Entry> {
        let taken = self.held.extract_if(.., |_, held| wanted(held));
        let counted = taken.map(|(_, Held { mut entry, .. })| {
            // A suspect was counted before it was handed out.
            entry.record.count = entry.record.count.saturating_add(u32::from(!entry.suspect));
            entry.redelivered = true;
            entry
        });
        counted.collect()
    }

    /// Puts a message back into its old place; as it was when it was never handed out.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.going.remove(&entry.position);
        self.returned.insert(entry.position, entry);
    }

    /// Whether a message went over the delivery limit.
    pub(super) fn is_over_limit(&self, entry: &Entry) -> bool {
        self.settings.delivery_limit.is_some_and(|limit| entry.record.count > limit)
    }

    /// When the first message in memory was published, by the clock of the store.
    pub(super) fn oldest(&self) -> Option<u64> {
        let returned = self.returned.first_key_value().map(|(_, entry)| entry.record.published_ms);
        returned.into_iter().chain(self.window.front().map(|entry| entry.record.published_ms)).min()
    }
}

/// The earlier of the queue's TTL and the message's own.
pub(super) fn expiry(ttl: Option<Duration>, record: &Record) -> Option<u64> {
    let own = record.message.properties.expiration.as_ref().and_then(|text| text.parse::<u64>().ok());
    let queue = ttl.map(millis);
    let shorter = own.into_iter().chain(queue).min()?;
    Some(record.published_ms.saturating_add(shorter))
}

#[cfg(test)]
mod tests;
