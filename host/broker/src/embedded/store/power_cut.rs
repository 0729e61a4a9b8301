//! H8: power cuts. A batch whose commit returned is there after a cut at any moment, whichever of the writes since the last
//! sync reached the disk, in whatever order and however torn. The store holds the result of whole commits only.
//!
//! A disk below redb keeps every write. The test makes the images that a cut may leave, and opens and reads each of them
//! as the broker does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use redb::{Database, StorageBackend};

use super::batch::WriteBatch;
use super::database::MessageStore;
use super::fault::LastFault;
use super::record::{DelayKind, DelayedKey, DelayedRecord, MessageRecord};
use super::tables::CACHE_BYTES;
use crate::{DedupeLookup, DedupeRecord, SettledAs};
use trunkline_config::DedupeWindow;
use trunkline_event::{ExchangeName, Message, Properties, RouteName, RoutingKey};

/// Number of bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;
const COMMITS: u64 = 60;
/// Number of images for each moment.
const IMAGES: usize = 2;
const QUEUE_COUNT: u32 = 3;
const NOW_MS: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum DiskStep {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

#[derive(Debug, Default)]
struct DiskContents {
    bytes: Vec<u8>,
    steps: Vec<DiskStep>,
    /// Whether the disk reports syncs that it does not do.
    lies: bool,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
struct MemoryDisk(Arc<Mutex<DiskContents>>);

impl MemoryDisk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(DiskContents { bytes, ..DiskContents::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, DiskContents> {
        self.0.lock().expect("no panic")
    }
}

impl DiskStep {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => write(bytes, usize::try_from(*at).expect("memory"), data),
            Self::Length(length) => bytes.resize(usize::try_from(*length).expect("memory"), 0),
            Self::Sync => {}
        }
    }

    /// Applies the part of the step that a cut leaves: nothing, all of it, or some of its sectors.
    fn apply_some(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        match (self, rng.u8(..4)) {
            (_, 0) => {}
            (Self::Write(at, data), 1) => {
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    if rng.bool() {
                        write(bytes, usize::try_from(*at).expect("memory") + number * SECTOR, sector);
                    }
                }
            }
            (_, _) => self.apply(bytes),
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl StorageBackend for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("memory");
        let contents = self.lock();
        let found = contents.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut contents = self.lock();
        DiskStep::Length(len).apply(&mut contents.bytes);
        contents.steps.push(DiskStep::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut contents = self.lock();
        if !contents.lies {
            contents.steps.push(DiskStep::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let step = DiskStep::Write(offset, data.to_vec());
        let mut contents = self.lock();
        step.apply(&mut contents.bytes);
        contents.steps.push(step);
        Ok(())
    }
}

/// Contents of a store, as far as the broker can see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct VisibleContents {
    messages: BTreeMap<(u32, u64), (String, usize)>,
    delayed: BTreeMap<DelayedKey, String>,
    /// Ids with a dedupe record.
    dedupe_records: Vec<String>,
}

fn message(id: u64, length: usize) -> Message {
    Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new("k").expect("a key"),
        properties: Properties { message_id: Some(id.to_string()), ..Properties::default() },
        body: Bytes::from(vec![u8::try_from(id % 251).expect("small"); length]),
    }
}

fn dedupe_record(id: &str) -> DedupeRecord {
    let window = DedupeWindow { window: Duration::from_secs(600), max: 100_000 };
    let route = RouteName::new("r").expect("a name");
    DedupeRecord { route, id: id.to_owned(), content: 7, window, settled_as: SettledAs::Done }
}

/// Makes a batch as the writer does, and applies it to the expected contents.
fn batch(number: u64, content: &mut VisibleContents, rng: &mut Rng) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for put in 0..rng.u64(1..5) {
        let (queue, position, id) = (rng.u32(1..=QUEUE_COUNT), number * 10 + put, number * 10 + put);
        let length = if rng.u8(..10) == 0 { rng.usize(..60_000) } else { rng.usize(..2000) };
        let record = MessageRecord { published_ms: NOW_MS, count: 0, message: Arc::new(message(id, length)) };
        batch.puts.push(((queue, position), record));
        content.messages.insert((queue, position), (id.to_string(), length));
    }
    let keys: Vec<(u32, u64)> = content.messages.keys().copied().collect();
    for _ in 0..rng.usize(..4) {
        let key = keys[rng.usize(..keys.len())];
        // Settled with a dedupe record, as an event is.
        if let Some((id, _)) = content.messages.remove(&key) {
            batch.removes.push(key);
            batch.dedupe_records.push(dedupe_record(&id));
            content.dedupe_records.push(id);
        }
    }
    if rng.bool() {
        let (due, delayed) = (
            (NOW_MS + number, number),
            DelayedRecord { kind: DelayKind::Required, message: Arc::new(message(number, 50)) },
        );
        batch.delay_puts.push((due, delayed));
        content.delayed.insert(due, number.to_string());
    }
    if rng.u8(..4) == 0
        && let Some((due, _)) = content.delayed.pop_first()
    {
        batch.delay_removes.push(due);
    }
    // A message that is put and removed in one batch is removed.
    content.dedupe_records.sort();
    batch
}

fn content(store: &MessageStore, ids: u64) -> Result<VisibleContents, String> {
    let mut content = VisibleContents::default();
    let id = |message: &Message| message.properties.message_id.clone().unwrap_or_default();
    for queue in 1..=QUEUE_COUNT {
        let read = store.read(queue, 0, usize::MAX, usize::MAX).map_err(|error| error.to_string())?;
        if let Some(read_error) = read.read_error {
            return Err(read_error);
        }
        for (position, record) in read.entries {
            let id = id(&record.message);
            let expected = message(id.parse().map_err(|_| format!("an id {id:?}"))?, record.message.body.len());
            if expected != *record.message {
                return Err(format!("message {id} is not what was written"));
            }
            content.messages.insert((queue, position), (id, record.message.body.len()));
        }
    }
    let due = store.due(u64::MAX).map_err(|error| error.to_string())?;
    content.delayed = due.into_iter().map(|(due, delayed)| (due, id(&delayed.message))).collect();
    for id in (0..ids).map(|id| id.to_string()) {
        if store.look_up(&dedupe_record(&id), NOW_MS)? == DedupeLookup::Same(SettledAs::Done) {
            content.dedupe_records.push(id);
        }
    }
    content.dedupe_records.sort();
    Ok(content)
}

/// All steps, and the expected contents after each commit with the number of steps until its return.
struct WriteLog {
    steps: Vec<DiskStep>,
    returned: Vec<(usize, VisibleContents)>,
}

fn written(seed: u64, lies: bool) -> WriteLog {
    let disk = MemoryDisk::default();
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk.clone()).expect("a store");
    let store = MessageStore::on(database, LastFault::default()).expect("a store");
    let mut rng = Rng::with_seed(seed);
    let mut content = VisibleContents::default();
    // A new store is empty.
    let mut returned = vec![(disk.lock().steps.len(), content.clone())];
    disk.lock().lies = lies;
    for number in 1..=COMMITS {
        let batch = batch(number, &mut content, &mut rng);
        store.commit(&batch, NOW_MS).expect("committed");
        returned.push((disk.lock().steps.len(), content.clone()));
    }
    let steps = disk.lock().steps.clone();
    WriteLog { steps, returned }
}

/// Cuts the power after every step. Returns the number of opened images.
fn cut_everywhere(seed: u64, lies: bool) -> Result<usize, String> {
    let WriteLog { steps, returned } = written(seed, lies);
    let mut rng = Rng::with_seed(seed);
    let (mut synced, mut pending, mut opened) = (Vec::new(), Vec::new(), 0);
    for (at, step) in steps.iter().enumerate() {
        match step {
            DiskStep::Sync => pending.drain(..).for_each(|step: &DiskStep| step.apply(&mut synced)),
            DiskStep::Write(..) | DiskStep::Length(_) => pending.push(step),
        }
        if at + 1 < returned[0].0 {
            continue;
        }
        let acknowledged = returned.iter().rposition(|(steps, _)| *steps <= at + 1).unwrap_or(0);
        for _ in 0..IMAGES {
            let mut image = synced.clone();
            let mut order = pending.clone();
            rng.shuffle(&mut order);
            order.iter().for_each(|step| step.apply_some(&mut image, &mut rng));
            let context =
                |problem: String| format!("seed {seed}, cut after step {at}, {acknowledged} commits: {problem}");
            let found = reopened(image).map_err(context)?;
            opened += 1;
            // The commit that was under way may be there, but only whole.
            let allowed = returned[acknowledged..].iter().take(2);
            if !allowed.into_iter().any(|(_, content)| *content == found) {
                return Err(context(format!("the contents follow from no commit: {found:?}")));
            }
        }
    }
    Ok(opened)
}

fn reopened(image: Vec<u8>) -> Result<VisibleContents, String> {
    let open = move || {
        let opened = Database::builder().create_with_backend(MemoryDisk::of(image)).map_err(|error| error.to_string());
        let mut database = opened?;
        // A cut is not damage, so the check before the store is opened must not refuse the image.
        if !database.check_integrity().map_err(|error| error.to_string())? {
            return Err("it counts as damaged".to_owned());
        }
        let store = MessageStore::on(database, LastFault::default()).map_err(|error| error.to_string())?;
        content(&store, COMMITS * 10 + 10)
    };
    std::panic::catch_unwind(open).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[test]
fn commits_survive_a_power_cut_at_any_moment() {
    let opened: usize = (1..=2).map(|seed| cut_everywhere(seed, false).expect("nothing is lost")).sum();
    assert!(opened > 500, "{opened} images");
}

#[test]
fn a_disk_that_reports_syncs_that_it_does_not_do_is_caught() {
    cut_everywhere(1, true).expect_err("commits are lost with it");
}
