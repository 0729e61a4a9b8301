//! The store on a real file: order, reopening, failures of the disk, damaged records and the ids of queues.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::batch::WriteBatch;
use super::clock::StoreClock;
use super::database::{LastRun, MessageStore};
use super::fault::Fault;
use super::faulty_disk::{FaultyDisk, Operation};
use super::queues::SEQUENCE_BITS;
use super::record::{DelayKind, DelayedRecord, MessageRecord};
use super::tables::{DELAYED, MESSAGES, META};
use trunkline_event::{ExchangeName, Message, Properties, QueueName, RoutingKey};

fn message(id: &str) -> Arc<Message> {
    Arc::new(Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new("q").expect("a key"),
        properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
        body: Bytes::from_static(b"body"),
    })
}

fn record(id: &str) -> MessageRecord {
    MessageRecord { published_ms: 5, count: 0, message: message(id) }
}

fn put(queue: u32, position: u64, id: &str) -> WriteBatch {
    WriteBatch { puts: vec![((queue, position), record(id))], ..WriteBatch::default() }
}

fn ids(store: &MessageStore, queue: u32) -> Vec<(u64, String)> {
    let page = store.read(queue, 0, usize::MAX, usize::MAX).expect("read");
    assert_eq!((page.is_end, page.read_error), (true, None));
    let id = |record: MessageRecord| record.message.properties.message_id.clone().expect("an id");
    page.entries.into_iter().map(|(position, record)| (position, id(record))).collect()
}

fn expected(ids: &[(u64, &str)]) -> Vec<(u64, String)> {
    ids.iter().map(|(position, id)| (*position, (*id).to_owned())).collect()
}

fn name(name: &str) -> QueueName {
    QueueName::new(name).expect("a name")
}

#[test]
fn messages_are_read_in_the_order_of_their_positions_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let store = MessageStore::open(&file).expect("a store");
    for (queue, position, id) in [(2, 7, "f"), (1, 9, "c"), (1, 0, "a"), (2, 0, "d"), (1, 3, "b"), (2, 1, "e")] {
        store.commit(&put(queue, position, id), 5).expect("committed");
    }
    let recount = MessageRecord { count: 4, ..record("b") };
    store.commit(&WriteBatch { puts: vec![((1, 3), recount)], ..WriteBatch::default() }, 5).expect("committed");
    drop(store);
    let store = MessageStore::open(&file).expect("a store");
    assert_eq!(ids(&store, 1), expected(&[(0, "a"), (3, "b"), (9, "c")]));
    assert_eq!(ids(&store, 2), expected(&[(0, "d"), (1, "e"), (7, "f")]));
    let page = store.read(1, 1, 1, usize::MAX).expect("read");
    assert_eq!((page.entries[0].0, page.entries[0].1.count, page.entries.len(), page.is_end), (3, 4, 1, false));
    let page = store.read(1, 0, usize::MAX, 1).expect("read");
    assert_eq!((page.entries.len(), page.is_end), (1, false), "the bytes are bounded");
}

#[test]
fn all_puts_of_a_batch_come_before_all_removes() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = MessageStore::open(&dir.path().join("messages.redb")).expect("a store");
    let puts = vec![((1, 0), record("a")), ((1, 1), record("b"))];
    store.commit(&WriteBatch { puts, removes: vec![(1, 0), (1, 8)], ..WriteBatch::default() }, 5).expect("committed");
    assert_eq!(ids(&store, 1), expected(&[(1, "b")]));
    assert!(store.record_bytes() > 0);
    store.commit(&WriteBatch { removes: vec![(1, 1)], ..WriteBatch::default() }, 5).expect("committed");
    assert_eq!(store.record_bytes(), 0, "every added byte was removed");
}

/// Fails one operation during a commit, and returns the fault and the messages after reopening.
fn failing_commit(file: &Path, operation: Operation, kind: ErrorKind) -> (Fault, Vec<(u64, String)>) {
    let (disk, store) = FaultyDisk::store(file);
    store.commit(&put(1, 0, "before"), 5).expect("committed");
    disk.fail(operation, kind);
    let puts = (1..200).map(|position| ((1, position), record("lost"))).collect();
    let fault = store.commit(&WriteBatch { puts, removes: vec![(1, 0)], ..WriteBatch::default() }, 5);
    let fault = fault.expect_err("the disk failed");
    assert!(store.commit(&put(1, 500, "later"), 5).is_err(), "a failed store takes nothing more");
    drop(store);
    (fault, ids(&MessageStore::open(file).expect("a store"), 1))
}

#[test]
fn nothing_of_a_failed_commit_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (fault, found) = failing_commit(&file("full"), Operation::Write, ErrorKind::StorageFull);
    assert!(matches!(fault, Fault::NoRoom(_)), "{fault:?}");
    assert_eq!(found, expected(&[(0, "before")]));
    let (fault, found) = failing_commit(&file("quota"), Operation::Write, ErrorKind::QuotaExceeded);
    assert!(matches!(fault, Fault::NoRoom(_)), "{fault:?}");
    assert_eq!(found, expected(&[(0, "before")]));
    let (fault, found) = failing_commit(&file("broken"), Operation::Write, ErrorKind::Other);
    assert!(matches!(fault, Fault::Doubt(_)), "{fault:?}");
    assert_eq!(found, expected(&[(0, "before")]));
    // A sync that finds no room has lost earlier writes, so the file is in doubt.
    let (fault, _) = failing_commit(&file("sync"), Operation::Sync, ErrorKind::StorageFull);
    assert!(matches!(fault, Fault::Doubt(_)), "{fault:?}");
}

#[test]
fn a_damaged_record_ends_the_page_with_a_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = MessageStore::open(&dir.path().join("messages.redb")).expect("a store");
    for (position, id) in [(0, "a"), (1, "b"), (2, "c")] {
        store.commit(&put(1, position, id), 5).expect("committed");
    }
    change_record(store.database(), (1, 1));
    let page = store.read(1, 0, usize::MAX, usize::MAX).expect("read");
    assert_eq!(page.entries.len(), 1, "the messages before it are read");
    let reason = page.read_error.expect("a reason");
    assert!(reason.contains("checksum") && !page.is_end, "{reason}");
}

/// Changes the last byte of a record without its checksum.
fn change_record(database: &Database, key: (u32, u64)) {
    let write = database.begin_write().expect("a transaction");
    {
        let mut messages = write.open_table(MESSAGES).expect("a table");
        let mut bytes = messages.get(key).expect("read").expect("a record").value().to_vec();
        *bytes.last_mut().expect("a byte") ^= 1;
        messages.insert(key, bytes.as_slice()).expect("written");
    }
    write.commit().expect("committed");
}

#[test]
fn delayed_messages_are_due_in_order_and_an_unreadable_one_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let store = MessageStore::open(&file).expect("a store");
    let delayed = |kind| DelayedRecord { kind, message: message("d") };
    let delay_puts = vec![
        ((300, 1), delayed(DelayKind::Required)),
        ((100, 3), delayed(DelayKind::Retry)),
        ((100, 2), delayed(DelayKind::Optional)),
        ((200, 4), delayed(DelayKind::RetryAgain(2))),
    ];
    store.commit(&WriteBatch { delay_puts, ..WriteBatch::default() }, 5).expect("committed");
    let keys = |store: &MessageStore, now_ms| {
        store.due(now_ms).expect("read").into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!((store.first_due(), keys(&store, 99)), (Ok(Some(100)), Vec::new()));
    assert_eq!(keys(&store, 200), [(100, 2), (100, 3), (200, 4)]);
    let delays = store.stored_delays().expect("counted");
    assert_eq!((delays.next_due, delays.next_number, delays.retrying.get("q")), (Some(100), 5, Some(&2)));
    let write = store.database().begin_write().expect("a transaction");
    write.open_table(DELAYED).expect("a table").insert((100, 2), &b"\x02damaged"[..]).expect("written");
    write.commit().expect("committed");
    assert_eq!(keys(&store, 200), [(100, 3), (200, 4)], "the others are published");
    let delay_removes = vec![(100, 3), (200, 4)];
    store.commit(&WriteBatch { delay_removes, ..WriteBatch::default() }, 5).expect("committed");
    assert_eq!(store.first_due(), Ok(Some(300)), "the unreadable message does not wake the writer");
    drop(store);
    let read = MessageStore::open(&file).expect("a store");
    let read = read.database().begin_read().expect("a transaction").open_table(DELAYED).expect("a table");
    let kept: Vec<(u64, u64)> = read.iter().expect("read").map(|entry| entry.expect("an entry").0.value()).collect();
    assert_eq!(kept, [(100, 2), (300, 1)]);
}

#[test]
fn a_run_counts_as_crashed_until_it_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let begin = || MessageStore::open(&file).expect("a store").begin().expect("begun");
    assert_eq!(begin(), (LastRun::Clean, None), "a new store");
    assert_eq!(begin(), (LastRun::Crashed, None));
    let anchor = StoreClock::resume(None).anchor();
    let store = MessageStore::open(&file).expect("a store");
    store.begin().expect("begun");
    store.end(Some(anchor)).expect("ended");
    drop(store);
    assert_eq!(begin(), (LastRun::Clean, Some(anchor)));
    assert_eq!(begin(), (LastRun::Crashed, Some(anchor)), "the anchor stays");
}

#[test]
fn the_id_of_a_removed_queue_is_never_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let store = MessageStore::open(&file).expect("a store");
    let queues = store.queues(&[name("a"), name("b")]).expect("made");
    let id = queues["b"].id;
    store.commit(&put(id, 0, "m"), 5).expect("committed");
    store.remove_queues(&[name("b")]).expect("removed");
    assert_eq!((ids(&store, id), store.record_bytes()), (Vec::new(), 0));
    drop(store);
    let store = MessageStore::open(&file).expect("a store");
    let queues = store.queues(&[name("a"), name("b")]).expect("made");
    assert!(queues["b"].id > id, "{queues:?}");
    assert_eq!(queues["b"].messages, 0);
}

#[test]
fn the_next_sequence_number_follows_the_highest_of_all_priorities() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let store = MessageStore::open(&file).expect("a store");
    let id = store.queues(&[name("a")]).expect("made")["a"].id;
    let position = |inverted_priority: u64, sequence: u64| inverted_priority << SEQUENCE_BITS | sequence;
    for position in [position(0, 41), position(2, 7), position(255, 12)] {
        store.commit(&put(id, position, "m"), 5).expect("committed");
    }
    let found = store.queues(&[]).expect("read")["a"];
    assert_eq!((found.messages, found.next), (3, 42));
}

#[test]
fn a_store_of_another_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("messages.redb");
    let store = MessageStore::open(&file).expect("a store");
    let write = store.database().begin_write().expect("a transaction");
    write.open_table(META).expect("a table").insert("format", 2).expect("written");
    write.commit().expect("committed");
    drop(store);
    let Err(fault) = MessageStore::open(&file) else { panic!("the store was opened") };
    assert!(matches!(&fault, Fault::Damaged(why) if why.contains("format")), "{fault:?}");
}
