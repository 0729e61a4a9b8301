//! The queue against a model, with consumers between any two steps of the writer. A popped message is the first of all
//! messages that can be delivered, no message is delivered twice at a time, and the counts are those of the disk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use super::super::settings::unconfigured_queue;
use super::*;
use trunkline_event::{ExchangeName, Properties, RoutingKey};

/// Bodies of messages, up to a quarter of the window.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
const CONSUMERS: u64 = 3;

/// A queue, the disk below it, and the expected state of its messages.
struct QueueModel {
    queue: QueueState,
    disk: BTreeMap<u64, MessageRecord>,
    /// Positions of the messages that can be delivered.
    free: BTreeSet<u64>,
    held: BTreeMap<u64, u64>,
    /// Positions of acknowledged messages that are still on disk.
    being_removed: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    published: u64,
    popped_from_disk: u64,
    rng: Rng,
}

impl QueueModel {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let max_priority = rng.bool().then(|| rng.u8(1..=255));
        let settings = config::Queue { max_priority, ..unconfigured_queue() };
        let name = QueueName::new("q").expect("a name");
        Self {
            queue: QueueState::new(name, settings, StoredQueue { id: 1, ..StoredQueue::default() }, LastRun::Clean),
            disk: BTreeMap::new(),
            free: BTreeSet::new(),
            held: BTreeMap::new(),
            being_removed: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            published: 0,
            popped_from_disk: 0,
            rng,
        }
    }

    fn message(&mut self) -> Message {
        let length = if self.rng.u8(..20) == 0 { self.rng.usize(..ZEROS.len()) } else { self.rng.usize(..100) };
        let priority = self.rng.bool().then(|| self.rng.u8(..));
        Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties: Properties { priority, ..Properties::default() },
            body: Bytes::from_static(&ZEROS[..length]),
        }
    }

    /// One transaction, planned, written and applied, with consumers between the steps.
    fn transaction(&mut self) {
        let puts: Vec<(u64, MessageRecord)> = (0..self.rng.u64(..120))
            .map(|_| {
                let message = self.message();
                let position = self.queue.next_position(&message);
                (position, MessageRecord { published_ms: 0, count: 0, message: Arc::new(message) })
            })
            .collect();
        let removes = self.being_removed.clone();
        self.consumers();
        self.disk.extend(puts.iter().cloned());
        self.disk.retain(|position, _| !removes.contains(position));
        self.consumers();
        for position in removes {
            self.queue.removed_from_disk(position);
            self.being_removed.remove(&position);
        }
        for (position, record) in puts {
            self.queue.add_committed(position, record, 0);
            assert!(self.free.insert(position), "position {position} is given twice");
            self.published += 1;
        }
        self.check();
    }

    /// Random actions of consumers between two steps of the writer.
    fn consumers(&mut self) {
        for _ in 0..self.rng.u32(..60) {
            let consumer = self.rng.u64(..CONSUMERS);
            match self.rng.u8(..10) {
                0..=4 => drop(self.pop(consumer)),
                5..=8 => self.acknowledge(consumer),
                _ if self.rng.u8(..8) == 0 => self.leave(consumer),
                _ => {}
            }
        }
    }

    fn pop(&mut self, consumer: u64) -> bool {
        let head = self.queue.head();
        let Some(entry) = self.queue.pop() else {
            assert_eq!(
                head == QueueHead::OnDisk,
                !self.free.is_empty(),
                "the queue is empty, or the message has to be read"
            );
            return false;
        };
        assert_eq!(Some(entry.position), self.free.pop_first(), "the first of all that can be delivered");
        assert!(self.held.insert(entry.position, consumer).is_none(), "the message is delivered twice at a time");
        self.queue.hold(entry, consumer, 0);
        true
    }

    fn acknowledge(&mut self, consumer: u64) {
        let Some((&position, &held_by)) = self.held.iter().nth(self.rng.usize(..=self.held.len())) else { return };
        let released = self.queue.release(position, consumer, 0);
        assert_eq!(released, held_by == consumer, "only the consumer that holds the message can acknowledge it");
        if released {
            self.held.remove(&position);
            self.being_removed.insert(position);
            assert!(self.acknowledged.insert(position), "it is acknowledged twice");
        }
    }

    fn leave(&mut self, consumer: u64) {
        for entry in self.queue.take_back(consumer) {
            assert_eq!(self.held.remove(&entry.position), Some(consumer));
            assert!(entry.redelivered && entry.record.count > 0);
            self.free.insert(entry.position);
            self.queue.put_back(entry);
        }
        assert!(self.held.values().all(|other| *other != consumer));
    }

    /// The writer reads ahead, with consumers between reading and adding.
    fn read_ahead(&mut self) {
        self.queue.consumers = u32::from(self.rng.u8(..4) > 0);
        let Some(ReadRequest { from, most, most_bytes, .. }) = self.queue.read_request() else { return };
        let (mut found, mut bytes) = (QueuePage { is_end: true, ..QueuePage::default() }, 0);
        for (position, record) in self.disk.range(from..) {
            if found.entries.len() >= most || bytes >= most_bytes {
                found.is_end = false;
                break;
            }
            bytes += record.message.body.len() + 50;
            found.entries.push((*position, record.clone()));
        }
        self.popped_from_disk += found.entries.len() as u64;
        self.consumers();
        self.queue.add_page(found);
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.queue.ready(), self.free.len() as u64);
        assert_eq!(self.queue.unacknowledged(), self.held.len() as u64);
        let on_disk: BTreeSet<u64> = self.disk.keys().copied().collect();
        let known =
            self.free.iter().chain(self.held.keys()).chain(&self.being_removed).copied().collect::<BTreeSet<_>>();
        assert_eq!(on_disk, known);
        let bodies = self.queue.window.iter().map(|entry| entry.record.message.body.len()).sum::<usize>();
        assert_eq!(self.queue.window_bytes, bodies);
        assert!(self.queue.window.len() <= WINDOW_MAX && bodies <= WINDOW_MAX_BYTES + 2 * ZEROS.len());
    }

    /// Delivers and acknowledges all messages that are left.
    fn drain(&mut self) {
        for consumer in 0..CONSUMERS {
            self.leave(consumer);
        }
        while !self.free.is_empty() {
            self.read_ahead();
            while self.pop(0) {}
            for (position, consumer) in std::mem::take(&mut self.held) {
                assert!(self.queue.release(position, consumer, 0));
                self.being_removed.insert(position);
                assert!(self.acknowledged.insert(position), "it is acknowledged twice");
            }
        }
    }
}

#[test]
fn every_message_is_delivered_once_and_in_order() {
    let (mut published, mut from_disk) = (0, 0);
    for seed in 0..300 {
        let mut model = QueueModel::new(seed);
        for _ in 0..model.rng.u32(1..60) {
            model.transaction();
            if model.rng.u8(..3) > 0 {
                model.read_ahead();
            }
            model.consumers();
        }
        model.drain();
        assert_eq!(model.acknowledged.len() as u64, model.published, "seed {seed}");
        published += model.published;
        from_disk += model.popped_from_disk;
    }
    assert!(from_disk > published / 10, "{from_disk} of {published} were read from disk");
}

#[test]
fn no_count_goes_below_zero() {
    let name = QueueName::new("q").expect("a name");
    let found = StoredQueue { id: 1, messages: 3, next: u64::MAX, ..StoredQueue::default() };
    let mut queue = QueueState::new(name, unconfigured_queue(), found, LastRun::Clean);
    assert_eq!((queue.ready(), queue.head()), (3, QueueHead::OnDisk));
    // The disk has fewer messages than were counted.
    queue.add_page(QueuePage { is_end: true, ..QueuePage::default() });
    assert_eq!((queue.ready(), queue.head(), queue.pop().is_none()), (0, QueueHead::Empty, true));
    assert!(!queue.release(7, 1, 0));
    queue.removed_from_disk(7);
    assert!(queue.take_back_all().is_empty());
    assert_eq!((queue.ready(), queue.unacknowledged()), (0, 0));
}

#[test]
fn a_damaged_record_stops_its_queue_with_a_reason() {
    let name = QueueName::new("q").expect("a name");
    let found = StoredQueue { id: 1, messages: 3, next: 3, ..StoredQueue::default() };
    let mut queue = QueueState::new(name, unconfigured_queue(), found, LastRun::Clean);
    queue.add_page(QueuePage { read_error: Some("its checksum".to_owned()), ..QueuePage::default() });
    assert_eq!((queue.read_error(), queue.head(), queue.ready()), (Some("its checksum"), QueueHead::OnDisk, 3));
    assert!(queue.read_request().is_none(), "the record is not read again and again");
}

#[test]
fn delivered_messages_are_redelivered_after_the_store_was_opened_again() {
    let found = |next| StoredQueue { id: 1, messages: 2, next, ..StoredQueue::default() };
    let settings = unconfigured_queue();
    let name = || QueueName::new("q").expect("a name");
    let record = || MessageRecord {
        published_ms: 0,
        count: 0,
        message: Arc::new(Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties: Properties::default(),
            body: Bytes::new(),
        }),
    };
    let mut before =
        QueueState::new(name(), settings.clone(), StoredQueue { id: 1, ..StoredQueue::default() }, LastRun::Clean);
    let position = before.next_position(&record().message);
    before.add_committed(position, record(), 0);
    let entry = before.pop().expect("it is there");
    before.hold(entry, 1, 0);
    (0..9).for_each(|_| _ = before.next_position(&record().message));
    let mut after = QueueState::new(name(), settings, found(2), LastRun::Clean);
    after.continue_from(before);
    after.add_page(QueuePage { entries: vec![(0, record()), (1, record())], is_end: true, read_error: None });
    let flags: Vec<(bool, bool)> = std::iter::from_fn(|| after.pop()).map(|e| (e.redelivered, e.suspect)).collect();
    assert_eq!(flags, [(true, false), (false, false)]);
    assert_eq!(after.next_position(&record().message), 10, "no position is given twice");
}

fn plain_queue(delivery_limit: Option<u32>) -> QueueState {
    let settings = config::Queue { delivery_limit, ..unconfigured_queue() };
    let stored = StoredQueue { id: 1, ..StoredQueue::default() };
    QueueState::new(QueueName::new("q").expect("a name"), settings, stored, LastRun::Clean)
}

fn add_messages(queue: &mut QueueState, count: u64) {
    for _ in 0..count {
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties: Properties::default(),
            body: Bytes::new(),
        };
        let position = queue.next_position(&message);
        queue.add_committed(position, MessageRecord { published_ms: 0, count: 0, message: Arc::new(message) }, 0);
    }
}

#[test]
fn a_returned_message_is_the_next_one_and_counts_its_deliveries() {
    let mut queue = plain_queue(Some(2));
    add_messages(&mut queue, 2);
    for delivery in 0..4 {
        let entry = queue.pop().expect("a message");
        assert_eq!((entry.position, entry.record.count, entry.redelivered), (0, delivery, delivery > 0));
        assert_eq!(queue.is_over_limit(&entry), delivery > 2, "delivery {delivery}");
        queue.hold(entry, 7, 0);
        let returned = queue.take_back(7);
        assert_eq!(returned.len(), 1);
        returned.into_iter().for_each(|entry| queue.put_back(entry));
    }
    assert_eq!((queue.ready(), queue.unacknowledged()), (2, 0));
}

/// The delivery of a suspect is counted before the message is handed out, so a return does not count it again.
#[test]
fn messages_of_a_crashed_run_are_suspects_up_to_the_prefetch() {
    let settings = config::Queue { prefetch: 2, ..unconfigured_queue() };
    let stored = StoredQueue { id: 1, messages: 3, next: 3, ..StoredQueue::default() };
    let mut source = plain_queue(None);
    add_messages(&mut source, 3);
    let entries = std::iter::from_fn(|| source.pop()).map(|entry| (entry.position, entry.record)).collect();
    let mut queue = QueueState::new(QueueName::new("q").expect("a name"), settings, stored, LastRun::Crashed);
    queue.add_page(QueuePage { entries, is_end: true, read_error: None });
    let popped: Vec<QueuedMessage> = std::iter::from_fn(|| queue.pop()).collect();
    let flags: Vec<(bool, bool)> = popped.iter().map(|entry| (entry.redelivered, entry.suspect)).collect();
    assert_eq!(flags, [(true, true), (true, true), (true, false)]);
    popped.into_iter().for_each(|entry| queue.hold(entry, 1, 0));
    let counts: Vec<u32> = queue.take_back(1).iter().map(|entry| entry.record.count).collect();
    assert_eq!(counts, [0, 0, 1]);
}

#[test]
fn priorities_come_first_and_keep_their_order() {
    let settings = config::Queue { max_priority: Some(5), ..unconfigured_queue() };
    let stored = StoredQueue { id: 1, ..StoredQueue::default() };
    let mut queue = QueueState::new(QueueName::new("q").expect("a name"), settings, stored, LastRun::Clean);
    for (number, priority) in [None, Some(3), Some(9), Some(3), Some(5), Some(0)].into_iter().enumerate() {
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties: Properties { priority, message_id: Some(number.to_string()), ..Properties::default() },
            body: Bytes::new(),
        };
        let position = queue.next_position(&message);
        queue.add_committed(position, MessageRecord { published_ms: 0, count: 0, message: Arc::new(message) }, 0);
    }
    let ids = std::iter::from_fn(|| queue.pop()).map(|entry| entry.record.message.properties.message_id.clone());
    assert_eq!(ids.flatten().collect::<Vec<_>>(), ["2", "4", "1", "3", "0", "5"]);
}
