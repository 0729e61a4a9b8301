//! The queue against its definition, with consumers between any two steps of the writer: what is popped is the first of
//! all that can be delivered, nothing is out twice, and the counts are those of the disk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use trunkline_event::{ExchangeName, Properties, RoutingKey};

/// As large as a window takes, in parts.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
const HOLDERS: u64 = 3;

/// A queue, the disk below it, and what is true of its messages.
struct World {
    queue: Queue,
    disk: BTreeMap<u64, Record>,
    /// Can be delivered: on disk and applied, and with nobody.
    free: BTreeSet<u64>,
    held: BTreeMap<u64, u64>,
    /// Acknowledged and still on disk.
    going: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    published: u64,
    popped_from_disk: u64,
    rng: Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let max_priority = rng.bool().then(|| rng.u8(1..=255));
        let settings = config::Queue { max_priority, ..crate::embedded::kept_queue() };
        let name = QueueName::new("q").expect("a name");
        Self {
            queue: Queue::new(name, settings, Found { id: 1, ..Found::default() }, true),
            disk: BTreeMap::new(),
            free: BTreeSet::new(),
            held: BTreeMap::new(),
            going: BTreeSet::new(),
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

    /// One transaction: planned, on disk, applied, with consumers between the steps.
    fn transaction(&mut self) {
        let puts: Vec<(u64, Record)> = (0..self.rng.u64(..120))
            .map(|_| {
                let message = self.message();
                let position = self.queue.next_position(&message);
                (position, Record { published_ms: 0, count: 0, message: Arc::new(message) })
            })
            .collect();
        let removes = self.going.clone();
        self.consumers();
        self.disk.extend(puts.iter().cloned());
        self.disk.retain(|position, _| !removes.contains(position));
        self.consumers();
        for position in removes {
            self.queue.forget(position);
            self.going.remove(&position);
        }
        for (position, record) in puts {
            self.queue.admit(position, record, 0);
            assert!(self.free.insert(position), "position {position} is given twice");
            self.published += 1;
        }
        self.check();
    }

    /// What consumers do while the writer does something else.
    fn consumers(&mut self) {
        for _ in 0..self.rng.u32(..60) {
            let holder = self.rng.u64(..HOLDERS);
            match self.rng.u8(..10) {
                0..=4 => drop(self.pop(holder)),
                5..=8 => self.acknowledge(holder),
                _ if self.rng.u8(..8) == 0 => self.leave(holder),
                _ => {}
            }
        }
    }

    fn pop(&mut self, holder: u64) -> bool {
        let head = self.queue.head();
        let Some(entry) = self.queue.pop() else {
            assert_eq!(head == Head::OnDisk, !self.free.is_empty(), "there is nothing, or it is to be read");
            return false;
        };
        assert_eq!(Some(entry.position), self.free.pop_first(), "the first of all that can be delivered");
        assert!(self.held.insert(entry.position, holder).is_none(), "it is out twice");
        self.queue.hold(entry, holder, 0);
        true
    }

    fn acknowledge(&mut self, holder: u64) {
        let Some((&position, &held_by)) = self.held.iter().nth(self.rng.usize(..=self.held.len())) else { return };
        let released = self.queue.release(position, holder, 0);
        assert_eq!(released, held_by == holder, "only who holds it can acknowledge it");
        if released {
            self.held.remove(&position);
            self.going.insert(position);
            assert!(self.acknowledged.insert(position), "it is acknowledged twice");
        }
    }

    fn leave(&mut self, holder: u64) {
        for entry in self.queue.take_back(holder) {
            assert_eq!(self.held.remove(&entry.position), Some(holder));
            assert!(entry.redelivered && entry.record.count > 0);
            self.free.insert(entry.position);
            self.queue.put_back(entry);
        }
        assert!(self.held.values().all(|other| *other != holder));
    }

    /// The writer reads ahead, with consumers between reading and taking it in.
    fn read_ahead(&mut self) {
        self.queue.consumers = u32::from(self.rng.u8(..4) > 0);
        let Some(Reading { from, most, most_bytes, .. }) = self.queue.reading() else { return };
        let (mut found, mut bytes) = (ReadAhead { is_end: true, ..ReadAhead::default() }, 0);
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
        self.queue.read(found);
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.queue.ready(), self.free.len() as u64);
        assert_eq!(self.queue.unacknowledged(), self.held.len() as u64);
        let on_disk: BTreeSet<u64> = self.disk.keys().copied().collect();
        let known = self.free.iter().chain(self.held.keys()).chain(&self.going).copied().collect::<BTreeSet<_>>();
        assert_eq!(on_disk, known);
        let bodies = self.queue.window.iter().map(|entry| entry.record.message.body.len()).sum::<usize>();
        assert_eq!(self.queue.window_bytes, bodies);
        assert!(self.queue.window.len() <= WINDOW_MAX && bodies <= WINDOW_MAX_BYTES + 2 * ZEROS.len());
    }

    /// Everything that is left is delivered and acknowledged.
    fn drain(&mut self) {
        for holder in 0..HOLDERS {
            self.leave(holder);
        }
        while !self.free.is_empty() {
            self.read_ahead();
            while self.pop(0) {}
            for (position, holder) in std::mem::take(&mut self.held) {
                assert!(self.queue.release(position, holder, 0));
                self.going.insert(position);
                assert!(self.acknowledged.insert(position), "it is acknowledged twice");
            }
        }
    }
}

#[test]
fn every_message_is_delivered_in_its_turn_and_once() {
    let (mut published, mut from_disk) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.u32(1..60) {
            world.transaction();
            if world.rng.u8(..3) > 0 {
                world.read_ahead();
            }
            world.consumers();
        }
        world.drain();
        assert_eq!(world.acknowledged.len() as u64, world.published, "seed {seed}");
        published += world.published;
        from_disk += world.popped_from_disk;
    }
    assert!(from_disk > published / 10, "{from_disk} of {published} were read from disk");
}

#[test]
fn no_count_goes_below_nothing() {
    let name = QueueName::new("q").expect("a name");
    let found = Found { id: 1, messages: 3, next: u64::MAX, ..Found::default() };
    let mut queue = Queue::new(name, crate::embedded::kept_queue(), found, true);
    assert_eq!((queue.ready(), queue.head()), (3, Head::OnDisk));
    // Fewer are there than were counted.
    queue.read(ReadAhead { is_end: true, ..ReadAhead::default() });
    assert_eq!((queue.ready(), queue.head(), queue.pop().is_none()), (0, Head::Nothing, true));
    assert!(!queue.release(7, 1, 0));
    queue.forget(7);
    assert!(queue.take_back_all().is_empty());
    assert_eq!((queue.ready(), queue.unacknowledged()), (0, 0));
}

#[test]
fn a_damaged_record_stops_its_queue_and_says_why() {
    let name = QueueName::new("q").expect("a name");
    let found = Found { id: 1, messages: 3, next: 3, ..Found::default() };
    let mut queue = Queue::new(name, crate::embedded::kept_queue(), found, true);
    queue.read(ReadAhead { broken: Some("its checksum".to_owned()), ..ReadAhead::default() });
    assert_eq!((queue.broken(), queue.head(), queue.ready()), (Some("its checksum"), Head::OnDisk, 3));
    assert!(queue.reading().is_none(), "it is not read in a loop");
}

#[test]
fn what_was_handed_out_is_flagged_after_the_store_was_opened_again() {
    let found = |next| Found { id: 1, messages: 2, next, ..Found::default() };
    let settings = crate::embedded::kept_queue();
    let name = || QueueName::new("q").expect("a name");
    let record = || Record {
        published_ms: 0,
        count: 0,
        message: Arc::new(Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties: Properties::default(),
            body: Bytes::new(),
        }),
    };
    let mut before = Queue::new(name(), settings.clone(), Found { id: 1, ..Found::default() }, true);
    let position = before.next_position(&record().message);
    before.admit(position, record(), 0);
    let entry = before.pop().expect("it is there");
    before.hold(entry, 1, 0);
    (0..9).for_each(|_| _ = before.next_position(&record().message));
    let mut after = Queue::new(name(), settings, found(2), true);
    after.go_on_from(before);
    after.read(ReadAhead { entries: vec![(0, record()), (1, record())], is_end: true, broken: None });
    let flags: Vec<(bool, bool)> = std::iter::from_fn(|| after.pop()).map(|e| (e.redelivered, e.suspect)).collect();
    assert_eq!(flags, [(true, false), (false, false)]);
    assert_eq!(after.next_position(&record().message), 10, "no position is given twice");
}
