//! H9: flipped bits, and files that are cut short.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::check::{open, open_or_make};
use super::repair::{RepairReport, repair_in};
use crate::embedded::store::{FILE, MessageRecord, MessageStore, WriteBatch};
use trunkline_event::{ExchangeName, Message, Properties, QueueName, RoutingKey};

const MESSAGES: u64 = 400;
/// Number of files that are damaged in one place.
const FLIPS: usize = 1000;

type StoredMessages = BTreeMap<(String, u64), Message>;

fn message(number: u64) -> Message {
    let length = usize::try_from(number * 37 % 900).expect("small");
    Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new("k").expect("a key"),
        properties: Properties { message_id: Some(format!("event-{number}")), ..Properties::default() },
        body: Bytes::from(vec![u8::try_from(number % 251).expect("small"); length]),
    }
}

fn queues() -> Vec<QueueName> {
    ["one", "two", "three"].map(|name| QueueName::new(name).expect("a name")).to_vec()
}

/// Makes a store with messages in three queues, some of which are removed again.
fn make(file: &Path) -> StoredMessages {
    let store = open_or_make(file).expect("a store");
    let found = store.queues(&queues()).expect("queues");
    let names: BTreeMap<u32, String> = found.into_iter().map(|(name, found)| (found.id, name)).collect();
    let mut content = StoredMessages::new();
    for number in 0..MESSAGES {
        let queue = u32::try_from(number % 3).expect("small") + 1;
        let record = MessageRecord { published_ms: 1, count: 0, message: Arc::new(message(number)) };
        let mut batch = WriteBatch { puts: vec![((queue, number), record)], ..WriteBatch::default() };
        content.insert((names[&queue].clone(), number), message(number));
        if number % 4 == 3 {
            let gone = number - 3;
            let queue = u32::try_from(gone % 3).expect("small") + 1;
            batch.removes.push((queue, gone));
            content.remove(&(names[&queue].clone(), gone));
        }
        store.commit(&batch, 1).expect("committed");
    }
    store.end(None).expect("ended in order");
    content
}

fn read(store: &MessageStore) -> Result<StoredMessages, String> {
    let found = store.queues(&[]).map_err(|error| error.to_string())?;
    let mut content = StoredMessages::new();
    for (name, found) in found {
        let read = store.read(found.id, 0, usize::MAX, usize::MAX).map_err(|error| error.to_string())?;
        if let Some(read_error) = read.read_error {
            return Err(read_error);
        }
        for (position, record) in read.entries {
            content.insert((name.clone(), position), record.message.copy());
        }
    }
    Ok(content)
}

#[test]
fn no_flipped_bit_goes_unnoticed_and_repair_keeps_the_readable_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE);
    let content = make(&file);
    let good = std::fs::read(&file).expect("a file");
    let mut rng = Rng::with_seed(9);
    let (mut refused, mut harmless, mut kept, mut hopeless) = (0, 0, 0, 0);
    for flip in 0..FLIPS {
        let (at, bit) = (rng.usize(..good.len()), rng.u8(..8));
        let context = format!("flip {flip}: bit {bit} of byte {at}");
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        std::fs::write(&file, &bytes).expect("written");
        match open(&file) {
            Ok(store) => {
                assert_eq!(read(&store).as_ref(), Ok(&content), "{context}");
                harmless += 1;
                continue;
            }
            Err(error) => assert!(error.to_string().contains("trunkline repair"), "{context}: {error}"),
        }
        assert!(std::fs::read(&file).expect("a file") == bytes, "{context}: the file stays as it is");
        refused += 1;
        // Every tenth file is repaired, because a repair takes long.
        if refused % 10 > 0 {
            continue;
        }
        match repair_in(dir.path()) {
            Err(_) => hopeless += 1,
            Ok(repaired) => {
                let damaged = repaired.damaged.clone().expect("it was damaged");
                assert!(std::fs::read(&damaged).expect("a file") == bytes, "{context}: it is kept");
                std::fs::remove_file(damaged).expect("removed");
                let found = read(&open(&file).expect("a whole one")).expect("readable");
                assert!(
                    found.iter().all(|(key, message)| content.get(key) == Some(message)),
                    "{context}: every message was in the store"
                );
                assert_eq!(repaired.kept, found.len() as u64, "{context}");
                let lost = content.len() - found.len();
                assert!(
                    lost == 0 || !repaired.left_out.is_empty(),
                    "{context}: {lost} messages are lost without a report"
                );
                kept += found.len() * 100 / content.len();
            }
        }
    }
    println!(
        "{refused} refused, {harmless} harmless, repaired on average {} %, hopeless {hopeless}",
        kept * 10 / refused
    );
    assert!(refused > 100, "{refused} of {FLIPS}");
    assert!(kept * 10 / refused > 50, "repair keeps most: {} %", kept * 10 / refused);
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE);
    let _content = make(&file);
    let good = std::fs::read(&file).expect("a file");
    for part in [1, 3, 7, 9] {
        std::fs::write(&file, &good[..good.len() * part / 10]).expect("written");
        assert!(open(&file).is_err(), "{part} tenths");
    }
    std::fs::write(&file, &good).expect("written");
    assert!(open(&file).is_ok());
}

#[test]
fn a_whole_store_needs_no_repair() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(repair_in(dir.path()).is_err(), "there is no store");
    let content = make(&dir.path().join(FILE));
    assert_eq!(repair_in(dir.path()).expect("checked"), RepairReport::default());
    assert_eq!(read(&open(&dir.path().join(FILE)).expect("whole")), Ok(content));
}
