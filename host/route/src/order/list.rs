//! The waiting list of an ordered route.
//!
//! A retried event, and every later event of its key, waits as a copy in the broker. A daemon that takes the route over
//! has to know which copies wait and in which order. The broker keeps this for all daemons: the queue `<queue>.waiting` has
//! one entry for each event that waits. One daemon at a time consumes that queue and holds every entry without an answer
//! until the event is settled. When that daemon ends, the next daemon gets all entries before it takes any event.
//!
//! An entry is confirmed before the delivery of its event is acknowledged, and the entry is removed before the delivery that
//! settles the event is acknowledged. Therefore a crash never leaves a waiting event without its entry. On a broker without
//! transactions a crash may leave an entry without its event; a marker that waits as long as the copies finds such an
//! entry.
//!
//! This file is without I/O: the simulator runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::codec::header;
use trunkline_broker::Publication;
use trunkline_event::{ExchangeName, HeaderKey, Message, Properties, QueueName, millis};

/// Entries of the list: a consumer can hold no more than 65 535 deliveries. Further events wait in order as well, but the
/// next daemon does not know them.
pub(crate) const ENTRIES_MAX: usize = 60_000;
/// Longest key in an entry. The hash stands for a longer key, because the key is a header.
const KEY_MAX_BYTES: usize = 200;
/// Age at which an entry is published again. Brokers take back a delivery without an answer after half an hour.
const FRESH_FOR: Duration = Duration::from_secs(600);

/// An event that waits: its key as [`ordering_key`] gives it, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Waiter {
    pub(crate) key: String,
    pub(crate) id: String,
}

/// Place of an event on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPlace {
    /// Place among the events of the key; a lower place is earlier.
    pub(crate) number: u64,
    /// Time for which each copy of the event is held before it comes back.
    pub(crate) round: Duration,
}

/// A message of the list's queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListMessage {
    /// An event waits.
    Entry(Waiter, ListPlace),
    /// A daemon reads the queue up to this marker.
    Marker(String),
    /// No daemon with this header key wrote the message.
    Unknown,
}

/// Work that remains for the entries of a settled event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal<D> {
    /// The event was not on the list.
    Nothing,
    /// These entries are acknowledged, and then the event's delivery.
    Now(Vec<D>),
    /// The entry is on its way: [`List::arrived`] gives it, and the event's delivery waits for that.
    Later,
}

/// The list as this daemon knows it. `D` is the delivery of an entry.
#[derive(Debug)]
pub(crate) struct List<D> {
    /// Entries by id and key.
    entries: BTreeMap<(String, String), ListEntry<D>>,
    /// Highest place so far.
    last: u64,
}

#[derive(Debug)]
struct ListEntry<D> {
    place: ListPlace,
    /// Whether the broker has confirmed the entry, so that the entry arrives.
    is_certain: bool,
    /// Whether the event is settled while the entry is still on its way.
    is_over: bool,
    /// Whether the event came since the list was read.
    has_come: bool,
    /// Deliveries of the entry with their times; several when the entry was published twice.
    held: Vec<(D, Duration)>,
}

/// The ordering key as entries carry it: the key, or the hash of a long key.
pub(crate) fn ordering_key(key: String) -> String {
    if key.len() <= KEY_MAX_BYTES {
        return key;
    }
    let hash = hex::encode(Sha256::digest(key.as_bytes()));
    format!("{}… sha-256 {hash}", &key[..key.floor_char_boundary(KEY_MAX_BYTES / 4)])
}

/// Makes the entry of an event.
pub(crate) fn entry(queue: &QueueName, waiter: &Waiter, place: ListPlace, key: Option<&HeaderKey>) -> Publication {
    let mut message = empty(queue);
    message.properties.message_id = Some(waiter.id.clone());
    message.properties.headers.set(header::WAITING_KEY, waiter.key.as_str());
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    message.properties.headers.set(header::WAITING_PLACE, number(place.number));
    message.properties.headers.set(header::WAITING_ROUND, number(millis(place.round)));
    signed(message, key)
}

/// Makes a marker, which goes behind every message that is in a queue now.
pub(crate) fn marker(queue: &QueueName, token: &str, key: Option<&HeaderKey>) -> Publication {
    let mut message = empty(queue);
    // A message without an id gets an id when it is published, which would make the signature invalid.
    message.properties.message_id = Some(token.to_owned());
    message.properties.headers.set(header::WAITING_MARKER, token);
    signed(message, key)
}

fn empty(queue: &QueueName) -> Message {
    Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: queue.as_key(),
        properties: Properties::default(),
        body: bytes::Bytes::new(),
    }
}

fn signed(mut message: Message, key: Option<&HeaderKey>) -> Publication {
    if let Some(key) = key {
        key.sign(&mut message);
    }
    Publication::now(message)
}

/// The token of a marker; none when the message is not a marker.
pub(crate) fn token(message: &Message) -> Option<&str> {
    // This runs for every delivery. Most have a body, so that no header is looked up.
    if message.body.is_empty() { message.properties.headers.text(header::WAITING_MARKER) } else { None }
}

/// Reads a message of the list's queue.
pub(crate) fn read(message: &Message) -> ListMessage {
    if let Some(token) = token(message) {
        return ListMessage::Marker(token.to_owned());
    }
    let headers = &message.properties.headers;
    let number = |name| headers.int(name).and_then(|number| u64::try_from(number).ok());
    let round = Duration::from_millis(number(header::WAITING_ROUND).unwrap_or_default());
    match (headers.text(header::WAITING_KEY), number(header::WAITING_PLACE), &message.properties.message_id) {
        (Some(key), Some(number), Some(id)) => ListMessage::Entry(waiter(id, key), ListPlace { number, round }),
        (_, _, _) => ListMessage::Unknown,
    }
}

impl<D> Default for List<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), last: 0 }
    }
}

impl<D> List<D> {
    /// Takes an entry, before any event is taken.
    pub(crate) fn read(&mut self, waiter: Waiter, place: ListPlace, delivery: D, now: Duration) {
        self.last = self.last.max(place.number);
        let entry = self.entries.entry((waiter.id, waiter.key)).or_insert(ListEntry {
            place,
            is_certain: true,
            is_over: false,
            has_come: false,
            held: Vec::new(),
        });
        entry.place = entry.place.min(place);
        entry.held.push((delivery, now));
    }

    /// All events on the list, each key in its order.
    pub(crate) fn waiters(&self) -> Vec<Waiter> {
        let mut all: Vec<(ListPlace, Waiter)> =
            self.entries.iter().map(|((id, key), entry)| (entry.place, waiter(id, key))).collect();
        all.sort();
        all.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Whether the list is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an event is on the list.
    pub(crate) fn has(&self, waiter: &Waiter) -> bool {
        self.get(waiter).is_some()
    }

    /// Whether the list takes no more events.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// Puts an event on the list, behind all others, and gives its place. None when the list is full or has the event.
    pub(crate) fn place(&mut self, waiter: &Waiter, round: Duration) -> Option<ListPlace> {
        if self.has(waiter) || self.is_full() {
            return None;
        }
        self.last += 1;
        let (is_certain, is_over, has_come) = (false, false, true);
        let place = ListPlace { number: self.last, round };
        let entry = ListEntry { place, is_certain, is_over, has_come, held: Vec::new() };
        self.entries.insert((waiter.id.clone(), waiter.key.clone()), entry);
        Some(place)
    }

    /// Notes that the broker has confirmed an entry.
    pub(crate) fn confirmed(&mut self, waiter: &Waiter) {
        if let Some(entry) = self.get_mut(waiter) {
            entry.is_certain = true;
        }
    }

    /// Takes an entry that arrives while events are taken. Gives the entries to acknowledge at once, because their event does
    /// not wait, and whether the delivery of a settled event has waited for them.
    pub(crate) fn arrived(&mut self, waiter: &Waiter, delivery: D, now: Duration) -> (Vec<D>, bool) {
        match self.get_mut(waiter) {
            Some(entry) if !entry.is_over => {
                entry.held.push((delivery, now));
                (Vec::new(), false)
            }
            Some(_) => {
                self.entries.remove(&(waiter.id.clone(), waiter.key.clone()));
                (vec![delivery], true)
            }
            None => (vec![delivery], false),
        }
    }

    /// Takes a settled event off the list.
    pub(crate) fn remove(&mut self, waiter: &Waiter) -> Removal<D> {
        let Some(entry) = self.get_mut(waiter) else { return Removal::Nothing };
        if entry.held.is_empty() && entry.is_certain {
            entry.is_over = true;
            return Removal::Later;
        }
        match self.entries.remove(&(waiter.id.clone(), waiter.key.clone())) {
            Some(entry) if !entry.held.is_empty() => Removal::Now(deliveries(entry.held)),
            Some(_) | None => Removal::Nothing,
        }
    }

    /// Lends the deliveries of an entry to the transaction that settles the event.
    pub(crate) fn lend(&mut self, waiter: &Waiter) -> Vec<D> {
        self.get_mut(waiter).map(|entry| deliveries(std::mem::take(&mut entry.held))).unwrap_or_default()
    }

    /// Takes lent deliveries back, as if they had just arrived. The result is that of [`List::arrived`].
    pub(crate) fn take_back(&mut self, waiter: &Waiter, held: Vec<D>, now: Duration) -> (Vec<D>, bool) {
        let (mut done, mut was_waited_for) = (Vec::new(), false);
        for delivery in held {
            let (over, waited_for) = self.arrived(waiter, delivery, now);
            done.extend(over);
            was_waited_for |= waited_for;
        }
        (done, was_waited_for)
    }

    /// Notes that a transaction settled an event and its lent deliveries.
    pub(crate) fn forget(&mut self, waiter: &Waiter) {
        self.entries.remove(&(waiter.id.clone(), waiter.key.clone()));
    }

    /// Notes that an event came. Gives the event's entry under another key, from before `order-by` was changed.
    pub(crate) fn came(&mut self, waiter: &Waiter) -> Option<Waiter> {
        if let Some(entry) = self.get_mut(waiter) {
            entry.has_come = true;
            return None;
        }
        let mut same_id = self.entries.range((waiter.id.clone(), String::new())..);
        let ((id, key), _) = same_id.next().filter(|((id, _), entry)| *id == waiter.id && !entry.has_come)?;
        Some(self::waiter(id, key))
    }

    /// Events that have not come since the list was read, with the longest time for which their copies are held.
    pub(crate) fn missing(&self) -> (Vec<Waiter>, Duration) {
        let missing = self.entries.iter().filter(|(_, entry)| !entry.has_come);
        let longest = missing.clone().map(|(_, entry)| entry.place.round).max().unwrap_or_default();
        (missing.map(|((id, key), _)| waiter(id, key)).collect(), longest)
    }

    /// Takes the deliveries of old entries out, with their places. The caller publishes these entries again.
    pub(crate) fn old(&mut self, now: Duration) -> Vec<(Waiter, ListPlace, Vec<D>)> {
        let is_old = |entry: &ListEntry<D>| entry.held.iter().any(|(_, since)| now.saturating_sub(*since) >= FRESH_FOR);
        let old = self.entries.iter_mut().filter(|(_, entry)| is_old(entry));
        old.map(|((id, key), entry)| (waiter(id, key), entry.place, deliveries(std::mem::take(&mut entry.held))))
            .collect()
    }

    fn get(&self, waiter: &Waiter) -> Option<&ListEntry<D>> {
        self.entries.get(&(waiter.id.clone(), waiter.key.clone()))
    }

    fn get_mut(&mut self, waiter: &Waiter) -> Option<&mut ListEntry<D>> {
        self.entries.get_mut(&(waiter.id.clone(), waiter.key.clone()))
    }
}

fn waiter(id: &str, key: &str) -> Waiter {
    Waiter { key: key.to_owned(), id: id.to_owned() }
}

fn deliveries<D>(held: Vec<(D, Duration)>) -> Vec<D> {
    held.into_iter().map(|(delivery, _)| delivery).collect()
}

#[cfg(test)]
mod tests;
