//! One queue in memory: a window on the messages that are next, what is delivered, and what came back. Bodies of a
//! backlog stay on disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::meter::Meter;
use super::store::{Record, SEQUENCE_BITS, Store};
use super::tap::Reader;
use crate::config;
use crate::event::{Message, QueueName, millis};

/// Messages that are read ahead.
const WINDOW_MAX: usize = 256;
/// The window takes no more messages once their bodies take so much.
const WINDOW_MAX_BYTES: usize = 4 << 20;

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

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    pub(super) id: u32,
    pub(super) settings: config::Queue,
    /// Set for a queue that is a reader's own.
    pub(super) reader: Option<Reader>,
    /// When it was removed, in milliseconds since the Unix epoch: its place is free for another.
    pub(super) removed_ms: Option<u64>,
    /// There may be something to deliver.
    pub(super) arrivals: Arc<Notify>,
    /// Sequence number of the next message that is written.
    next: u64,
    /// First position that is in neither `window` nor memory otherwise.
    unread: u64,
    window: VecDeque<Entry>,
    window_bytes: usize,
    returned: BTreeMap<u64, Entry>,
    held: BTreeMap<u64, Held>,
    /// Given up or acknowledged, and still on disk; kept only with priorities, where reading may go back.
    going: BTreeSet<u64>,
    /// Messages that can be delivered, in memory or not.
    pub(super) ready: u64,
    /// Everything below was there when an unclean run began, and may have been delivered before.
    suspect_below: u64,
    /// Messages at the head that the last run, which ended badly, may have handed out.
    suspects: u64,
    /// Some message may have a TTL of its own.
    pub(super) may_expire: bool,
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
    pub(super) fn new(name: QueueName, settings: config::Queue, found: super::store::Found, clean: bool) -> Self {
        let prefetch = settings.prefetch;
        Self {
            may_expire: settings.ttl.is_some() || found.messages > 0,
            name,
            id: found.id,
            settings,
            reader: None,
            removed_ms: None,
            arrivals: Arc::default(),
            next: found.next,
            unread: 0,
            window: VecDeque::new(),
            window_bytes: 0,
            returned: BTreeMap::new(),
            held: BTreeMap::new(),
            going: BTreeSet::new(),
            ready: found.messages,
            suspect_below: if clean { 0 } else { found.next },
            suspects: if clean { 0 } else { found.messages.min(u64::from(prefetch)) },
            consumers: 0,
            meters: Meters::default(),
        }
    }

    /// Other settings from now on. The priorities stay those of the messages it holds.
    pub(super) fn resettle(&mut self, settings: config::Queue) {
        let is_empty = self.ready == 0 && self.held.is_empty();
        let max_priority = if is_empty { settings.max_priority } else { self.settings.max_priority };
        self.may_expire |= settings.ttl.is_some();
        self.settings = config::Queue { max_priority, ..settings };
    }

    /// It was removed: nothing of it is on disk any more.
    pub(super) fn clear(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
        self.returned.clear();
        self.held.clear();
        self.going.clear();
        self.ready = 0;
    }

    pub(super) fn unacknowledged(&self) -> u64 {
        self.held.len() as u64
    }

    /// Where a new message goes: behind all others of its priority.
    pub(super) fn next_position(&mut self, message: &Message) -> u64 {
        let sequence = self.next;
        self.next += 1;
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
    pub(super) fn admit(&mut self, position: u64, record: Record) {
        self.ready += 1;
        self.meters.published.count();
        self.may_expire |= record.message.properties.expiration.is_some();
        if position < self.unread {
            return self.squeeze_in(Entry { position, record, redelivered: false, suspect: false });
        }
        let fits = self.window.len() < WINDOW_MAX && self.window_bytes < WINDOW_MAX_BYTES;
        let follows = self.unread == position || self.ready == 1 + (self.window.len() + self.returned.len()) as u64;
        if fits && follows {
            self.window_bytes += record.message.body.len();
            self.window.push_back(Entry { position, record, redelivered: false, suspect: false });
            self.unread = position + 1;
        }
    }

    /// A message of a higher priority than some that were read already. What no longer fits is read again later.
    fn squeeze_in(&mut self, entry: Entry) {
        self.window_bytes += entry.record.message.body.len();
        let place = self.window.partition_point(|other| other.position < entry.position);
        self.window.insert(place, entry);
        while self.window.len() > 1 && (self.window.len() > WINDOW_MAX || self.window_bytes > WINDOW_MAX_BYTES) {
            if let Some(last) = self.window.pop_back() {
                self.window_bytes -= last.record.message.body.len();
                self.unread = last.position;
            }
        }
    }

    /// The next message, without taking it.
    pub(super) fn peek(&mut self, store: &Store) -> Result<Option<&Entry>, String> {
        self.fill(store)?;
        let returned = self.returned.first_key_value().map(|(position, _)| *position);
        let windowed = self.window.front().map(|entry| entry.position);
        Ok(match (returned, windowed) {
            (Some(position), Some(other)) if position > other => self.window.front(),
            (Some(position), _) => self.returned.get(&position),
            (None, Some(_)) => self.window.front(),
            (None, None) => None,
        })
    }

    /// Takes the next message out of what is ready; it is still on disk.
    pub(super) fn pop(&mut self, store: &Store) -> Result<Option<Entry>, String> {
        let Some(position) = self.peek(store)?.map(|entry| entry.position) else {
            return Ok(None);
        };
        self.ready -= 1;
        if self.settings.max_priority.is_some() {
            self.going.insert(position);
        }
        if let Some(entry) = self.returned.remove(&position) {
            return Ok(Some(entry));
        }
        let mut entry = self.window.pop_front();
        if let Some(entry) = entry.as_mut().filter(|entry| self.suspects > 0 && entry.redelivered) {
            self.suspects -= 1;
            entry.suspect = true;
        }
        if let Some(entry) = &entry {
            self.window_bytes -= entry.record.message.body.len();
        }
        Ok(entry)
    }

    fn fill(&mut self, store: &Store) -> Result<(), String> {
        let in_memory = (self.window.len() + self.returned.len()) as u64;
        if !self.window.is_empty() || self.ready <= in_memory {
            return Ok(());
        }
        for (position, record) in store.read(self.id, self.unread, WINDOW_MAX, WINDOW_MAX_BYTES)? {
            self.unread = position + 1;
            let is_elsewhere = self.held.contains_key(&position)
                || self.returned.contains_key(&position)
                || self.going.contains(&position);
            if is_elsewhere {
                continue;
            }
            let redelivered = position < self.suspect_below || record.count > 0;
            self.window_bytes += record.message.body.len();
            self.window.push_back(Entry { position, record, redelivered, suspect: false });
        }
        Ok(())
    }

    /// Notes that a message was delivered.
    pub(super) fn hold(&mut self, entry: Entry, holder: u64) {
        self.meters.delivered.count();
        self.held.insert(entry.position, Held { entry, holder });
    }

    /// An acknowledgement; false when nobody held the message any more.
    pub(super) fn release(&mut self, position: u64) -> bool {
        let was_held = self.held.remove(&position).is_some();
        if was_held {
            self.meters.acknowledged.count();
        }
        was_held
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
        let positions: Vec<u64> =
            self.held.iter().filter(|(_, held)| wanted(held)).map(|(position, _)| *position).collect();
        let mut entries = Vec::with_capacity(positions.len());
        for position in positions {
            if let Some(Held { mut entry, .. }) = self.held.remove(&position) {
                // A suspect was counted before it was handed out.
                entry.record.count += u32::from(!entry.suspect);
                entry.redelivered = true;
                entries.push(entry);
            }
        }
        entries
    }

    /// Puts a message back into its old place; as it was when it was never handed out.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.ready += 1;
        self.going.remove(&entry.position);
        self.returned.insert(entry.position, entry);
    }

    /// Whether a message went over the delivery limit.
    pub(super) fn is_over_limit(&self, entry: &Entry) -> bool {
        self.settings.delivery_limit.is_some_and(|limit| entry.record.count > limit)
    }

    /// When the next message expires, in milliseconds since the Unix epoch.
    pub(super) fn head_expiry(&mut self, store: &Store) -> Result<Option<u64>, String> {
        if !self.may_expire {
            return Ok(None);
        }
        let ttl = self.settings.ttl;
        Ok(self.peek(store)?.and_then(|entry| expiry(ttl, &entry.record)))
    }

    /// When the first message was published, in milliseconds since the Unix epoch.
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
