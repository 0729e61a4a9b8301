//! The list of the events of an ordered route that wait.
//!
//! An event that is tried again, and every event of its key that comes after it, is a copy on its way through the retry
//! queue. Which copies are on their way, and in which order they came, keeps a key in order, so a daemon that takes the
//! route over has to know it. The broker keeps it for all daemons: the queue `<queue>.waiting` has one entry for each event
//! that waits. One daemon at a time consumes that queue, and it holds every entry without an answer until the event is
//! settled. When the daemon goes, the next one gets all entries before it takes any event.
//!
//! An entry is confirmed before the delivery of which it tells is acknowledged, and it is gone before the delivery that
//! settles its event is. So a crash never leaves an event that waits without its entry. It may leave an entry without its
//! event, on a broker without transactions only; a mark that travels through the retry queue finds those.
//!
//! This file is without I/O: the simulator runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::codec::header;
use trunkline_broker::Publication;
use trunkline_event::{ExchangeName, HeaderKey, Message, Properties, QueueName, millis};

/// Entries that are written down: a consumer can hold no more than 65 535. Events beyond wait in order all the same, but the
/// next daemon would not know of them.
pub(crate) const ENTRIES_MAX: usize = 60_000;
/// A key that is longer is known by its hash: it has to fit a header.
const KEY_MAX_BYTES: usize = 200;
/// Brokers take back what is not answered for half an hour: an entry that is so old is written anew.
const FRESH_FOR: Duration = Duration::from_secs(600);

/// An event that waits: its key as [`lane`] gives it, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Waiter {
    pub(crate) key: String,
    pub(crate) id: String,
}

/// Where an event waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Among those of its key; a lower one is earlier.
    pub(crate) number: u64,
    /// For how long each of its copies is held before it comes back.
    pub(crate) round: Duration,
}

/// What a message of the list's queue says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// An event waits.
    Entry(Waiter, Place),
    /// Somebody reads the queue up to here.
    Mark(String),
    /// Nothing that a daemon with this key wrote.
    Unknown,
}

/// What an event that is settled leaves to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal<D> {
    /// It was not on the list.
    Nothing,
    /// These entries are to be acknowledged, and then its delivery.
    Now(Vec<D>),
    /// Its entry is on the way here: [`List::arrived`] gives it, and its delivery waits for that.
    Later,
}

/// The list as this daemon knows it. `D` is an entry's delivery.
#[derive(Debug)]
pub(crate) struct List<D> {
    /// By id and key.
    entries: BTreeMap<(String, String), Entry<D>>,
    /// The highest place that was given.
    last: u64,
}

#[derive(Debug)]
struct Entry<D> {
    place: Place,
    /// The broker has confirmed it, so that it comes.
    is_certain: bool,
    /// The event is settled, and this entry is still on its way.
    is_over: bool,
    /// The event came, since the list was read.
    has_come: bool,
    /// What came of it, and when; more than one when it was written twice.
    held: Vec<(D, Duration)>,
}

/// The name of an event's lane: its key, or the hash of a long one.
pub(crate) fn lane(key: String) -> String {
    if key.len() <= KEY_MAX_BYTES {
        return key;
    }
    let hash = Sha256::digest(key.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}… sha-256 {hash}", &key[..key.floor_char_boundary(KEY_MAX_BYTES / 4)])
}

/// The entry of an event.
pub(crate) fn entry(queue: &QueueName, waiter: &Waiter, place: Place, key: Option<&HeaderKey>) -> Publication {
    let mut message = empty(queue);
    message.properties.message_id = Some(waiter.id.clone());
    message.properties.headers.set(header::WAITING_KEY, waiter.key.as_str());
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    message.properties.headers.set(header::WAITING_PLACE, number(place.number));
    message.properties.headers.set(header::WAITING_ROUND, number(millis(place.round)));
    signed(message, key)
}

/// A mark, to be put behind everything that is in a queue now.
pub(crate) fn mark(queue: &QueueName, token: &str, key: Option<&HeaderKey>) -> Publication {
    let mut message = empty(queue);
    // A message without an id gets one when it is published, and the signature would be another one's.
    message.properties.message_id = Some(token.to_owned());
    message.properties.headers.set(header::WAITING_MARK, token);
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
    Publication::now(message, false)
}

/// The token of a mark; nothing when the message is none.
pub(crate) fn token(message: &Message) -> Option<&str> {
    // Every delivery is asked: most have a body, and no header is looked for.
    if message.body.is_empty() { message.properties.headers.text(header::WAITING_MARK) } else { None }
}

/// Reads a message of the list's queue.
pub(crate) fn note(message: &Message) -> Note {
    if let Some(token) = token(message) {
        return Note::Mark(token.to_owned());
    }
    let headers = &message.properties.headers;
    let number = |name| headers.int(name).and_then(|number| u64::try_from(number).ok());
    let round = Duration::from_millis(number(header::WAITING_ROUND).unwrap_or_default());
    match (headers.text(header::WAITING_KEY), number(header::WAITING_PLACE), &message.properties.message_id) {
        (Some(key), Some(number), Some(id)) => Note::Entry(waiter(id, key), Place { number, round }),
        (_, _, _) => Note::Unknown,
    }
}

impl<D> Default for List<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), last: 0 }
    }
}

impl<D> List<D> {
    /// An entry is read, before any event is taken.
    pub(crate) fn read(&mut self, waiter: Waiter, place: Place, delivery: D, now: Duration) {
        self.last = self.last.max(place.number);
        let entry = self.entries.entry((waiter.id, waiter.key)).or_insert(Entry {
            place,
            is_certain: true,
            is_over: false,
            has_come: false,
            held: Vec::new(),
        });
        entry.place = entry.place.min(place);
        entry.held.push((delivery, now));
    }

    /// Everybody on the list, each key in its order.
    pub(crate) fn waiters(&self) -> Vec<Waiter> {
        let mut all: Vec<(Place, Waiter)> =
            self.entries.iter().map(|((id, key), entry)| (entry.place, waiter(id, key))).collect();
        all.sort();
        all.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Whether anybody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an event is on the list.
    pub(crate) fn has(&self, waiter: &Waiter) -> bool {
        self.get(waiter).is_some()
    }

    /// Whether nobody else can be put on it.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// The place for an event's entry, behind all others. None when the list is full, or the event is on it.
    pub(crate) fn place(&mut self, waiter: &Waiter, round: Duration) -> Option<Place> {
        if self.has(waiter) || self.is_full() {
            return None;
        }
        self.last += 1;
        let (is_certain, is_over, has_come) = (false, false, true);
        let place = Place { number: self.last, round };
        let entry = Entry { place, is_certain, is_over, has_come, held: Vec::new() };
        self.entries.insert((waiter.id.clone(), waiter.key.clone()), entry);
        Some(place)
    }

    /// The broker has confirmed an event's entry.
    pub(crate) fn confirmed(&mut self, waiter: &Waiter) {
        if let Some(entry) = self.get_mut(waiter) {
            entry.is_certain = true;
        }
    }

    /// An entry came while events are taken. Gives what is to be acknowledged at once, because nobody waits (any more) whom
    /// it names, and whether a settled event's delivery has waited for it.
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

    /// An event is settled.
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

    /// Lends what is held of an event, for a transaction that settles it.
    pub(crate) fn lend(&mut self, waiter: &Waiter) -> Vec<D> {
        self.get_mut(waiter).map(|entry| deliveries(std::mem::take(&mut entry.held))).unwrap_or_default()
    }

    /// Takes back what was lent, as if it had just come; what of it is to be acknowledged at once is as in [`List::arrived`].
    pub(crate) fn take_back(&mut self, waiter: &Waiter, held: Vec<D>, now: Duration) -> (Vec<D>, bool) {
        let (mut done, mut was_waited_for) = (Vec::new(), false);
        for delivery in held {
            let (over, waited_for) = self.arrived(waiter, delivery, now);
            done.extend(over);
            was_waited_for |= waited_for;
        }
        (done, was_waited_for)
    }

    /// A transaction settled the event, and what was lent of it.
    pub(crate) fn forget(&mut self, waiter: &Waiter) {
        self.entries.remove(&(waiter.id.clone(), waiter.key.clone()));
    }

    /// The event came. Gives the entry that it has under another key: the route was ordered by something else before.
    pub(crate) fn came(&mut self, waiter: &Waiter) -> Option<Waiter> {
        if let Some(entry) = self.get_mut(waiter) {
            entry.has_come = true;
            return None;
        }
        let mut same_id = self.entries.range((waiter.id.clone(), String::new())..);
        let ((id, key), _) = same_id.next().filter(|((id, _), entry)| *id == waiter.id && !entry.has_come)?;
        Some(self::waiter(id, key))
    }

    /// Those that have not come since the list was read, and for how long their copies are held at most.
    pub(crate) fn missing(&self) -> (Vec<Waiter>, Duration) {
        let missing = self.entries.iter().filter(|(_, entry)| !entry.has_come);
        let longest = missing.clone().map(|(_, entry)| entry.place.round).max().unwrap_or_default();
        (missing.map(|((id, key), _)| waiter(id, key)).collect(), longest)
    }

    /// Takes out the entries that are held for long, with their places, to be written anew.
    pub(crate) fn old(&mut self, now: Duration) -> Vec<(Waiter, Place, Vec<D>)> {
        let is_old = |entry: &Entry<D>| entry.held.iter().any(|(_, since)| now.saturating_sub(*since) >= FRESH_FOR);
        let old = self.entries.iter_mut().filter(|(_, entry)| is_old(entry));
        old.map(|((id, key), entry)| (waiter(id, key), entry.place, deliveries(std::mem::take(&mut entry.held))))
            .collect()
    }

    fn get(&self, waiter: &Waiter) -> Option<&Entry<D>> {
        self.entries.get(&(waiter.id.clone(), waiter.key.clone()))
    }

    fn get_mut(&mut self, waiter: &Waiter) -> Option<&mut Entry<D>> {
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
