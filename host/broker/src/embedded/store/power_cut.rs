//! H8: power cuts. What a commit has returned is there after a cut at any moment, whichever of the writes since the last
//! sync reached the disk, in whatever order and however torn; and what is there is what one commit left, never a part.
//!
//! A disk that remembers every write stands below redb. From what it remembers come the images that a cut may leave,
//! and each of them is opened and read as the broker would.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use redb::StorageBackend;

use super::super::delayed::{Delayed, Later};
use super::*;
use crate::Ended;
use trunkline_config::DedupeWindow;
use trunkline_event::{ExchangeName, Message, Properties, RouteName, RoutingKey};

/// What a disk writes at once, or not.
const SECTOR: usize = 512;
const COMMITS: u64 = 60;
/// Images for each moment.
const IMAGES: usize = 2;
const QUEUE_COUNT: u32 = 3;
const NOW_MS: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// Says that it synced, and did not.
    lies: bool,
}

/// A disk in memory. Clones are the same one.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter { bytes, ..Platter::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("no panic")
    }
}

impl Step {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => write(bytes, usize::try_from(*at).expect("memory"), data),
            Self::Length(length) => bytes.resize(usize::try_from(*length).expect("memory"), 0),
            Self::Sync => {}
        }
    }

    /// What a cut leaves of it: nothing, all of it, or some of its sectors.
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

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("memory");
        let platter = self.lock();
        let found = platter.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.lock();
        Step::Length(len).apply(&mut platter.bytes);
        platter.steps.push(Step::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.lock();
        if !platter.lies {
            platter.steps.push(Step::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let step = Step::Write(offset, data.to_vec());
        let mut platter = self.lock();
        step.apply(&mut platter.bytes);
        platter.steps.push(step);
        Ok(())
    }
}

/// What a store holds, as far as the broker can see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    messages: BTreeMap<(u32, u64), (String, usize)>,
    delayed: BTreeMap<Due, String>,
    /// Ids that are marked as settled.
    marks: Vec<String>,
}

fn message(id: u64, length: usize) -> Message {
    Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new("k").expect("a key"),
        properties: Properties { message_id: Some(id.to_string()), ..Properties::default() },
        body: Bytes::from(vec![u8::try_from(id % 251).expect("small"); length]),
    }
}

fn mark(id: &str) -> Mark {
    let window = DedupeWindow { window: Duration::from_secs(600), max: 100_000 };
    let route = RouteName::new("r").expect("a name");
    Mark { route, id: id.to_owned(), content: 7, window, ended: Ended::Done }
}

/// A batch as the writer makes them, and what is there after it.
fn batch(number: u64, content: &mut Content, rng: &mut Rng) -> Batch {
    let mut batch = Batch::default();
    for put in 0..rng.u64(1..5) {
        let (queue, position, id) = (rng.u32(1..=QUEUE_COUNT), number * 10 + put, number * 10 + put);
        let length = if rng.u8(..10) == 0 { rng.usize(..60_000) } else { rng.usize(..2000) };
        let record = Record { published_ms: NOW_MS, count: 0, message: Arc::new(message(id, length)) };
        batch.puts.push(((queue, position), record));
        content.messages.insert((queue, position), (id.to_string(), length));
    }
    let keys: Vec<(u32, u64)> = content.messages.keys().copied().collect();
    for _ in 0..rng.usize(..4) {
        let key = keys[rng.usize(..keys.len())];
        // Settled with a mark, as an event is.
        if let Some((id, _)) = content.messages.remove(&key) {
            batch.removes.push(key);
            batch.marks.push(mark(&id));
            content.marks.push(id);
        }
    }
    if rng.bool() {
        let (due, delayed) =
            ((NOW_MS + number, number), Delayed { later: Later::Addressed, message: Arc::new(message(number, 50)) });
        batch.delays.push((due, delayed));
        content.delayed.insert(due, number.to_string());
    }
    if rng.u8(..4) == 0
        && let Some((due, _)) = content.delayed.pop_first()
    {
        batch.undelays.push(due);
    }
    // A message that was put and removed at once is removed: the puts of a batch come first.
    content.marks.sort();
    batch
}

fn content(store: &Store, ids: u64) -> Result<Content, String> {
    let mut content = Content::default();
    let id = |message: &Message| message.properties.message_id.clone().unwrap_or_default();
    for queue in 1..=QUEUE_COUNT {
        let read = store.read(queue, 0, usize::MAX, usize::MAX).map_err(|error| error.to_string())?;
        if let Some(broken) = read.broken {
            return Err(broken);
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
        if store.known(&mark(&id), NOW_MS)? == Known::Same(Ended::Done) {
            content.marks.push(id);
        }
    }
    content.marks.sort();
    Ok(content)
}

/// What was written, and after how many steps each commit had returned what.
struct Written {
    steps: Vec<Step>,
    returned: Vec<(usize, Content)>,
}

fn written(seed: u64, lies: bool) -> Written {
    let disk = Disk::default();
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk.clone()).expect("a store");
    let store = Store::on(database, Trouble::default()).expect("a store");
    let mut rng = Rng::with_seed(seed);
    let mut content = Content::default();
    // A store that was just made is empty, and it was made in order.
    let mut returned = vec![(disk.lock().steps.len(), content.clone())];
    disk.lock().lies = lies;
    for number in 1..=COMMITS {
        let batch = batch(number, &mut content, &mut rng);
        store.commit(&batch, NOW_MS).expect("committed");
        returned.push((disk.lock().steps.len(), content.clone()));
    }
    let steps = disk.lock().steps.clone();
    Written { steps, returned }
}

/// Cuts the power after every step. Gives the number of images that were opened.
fn cut_everywhere(seed: u64, lies: bool) -> Result<usize, String> {
    let Written { steps, returned } = written(seed, lies);
    let mut rng = Rng::with_seed(seed);
    let (mut synced, mut pending, mut opened) = (Vec::new(), Vec::new(), 0);
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Sync => pending.drain(..).for_each(|step: &Step| step.apply(&mut synced)),
            Step::Write(..) | Step::Length(_) => pending.push(step),
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
            let told = |problem: String| format!("seed {seed}, cut after step {at}, {acknowledged} commits: {problem}");
            let found = reopened(image).map_err(told)?;
            opened += 1;
            // The commit that was under way may be there, whole.
            let allowed = returned[acknowledged..].iter().take(2);
            if !allowed.into_iter().any(|(_, content)| *content == found) {
                return Err(told(format!("there is what no commit left: {found:?}")));
            }
        }
    }
    Ok(opened)
}

fn reopened(image: Vec<u8>) -> Result<Content, String> {
    let open = move || {
        let opened = Database::builder().create_with_backend(Disk::of(image)).map_err(|error| error.to_string());
        let mut database = opened?;
        // What a cut leaves is no damage: a store that is looked at before it is opened must not be refused for it.
        if !database.check_integrity().map_err(|error| error.to_string())? {
            return Err("it counts as damaged".to_owned());
        }
        let store = Store::on(database, Trouble::default()).map_err(|error| error.to_string())?;
        content(&store, COMMITS * 10 + 10)
    };
    std::panic::catch_unwind(open).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[test]
fn what_was_committed_outlives_a_power_cut_at_any_moment() {
    let opened: usize = (1..=2).map(|seed| cut_everywhere(seed, false).expect("nothing is lost")).sum();
    assert!(opened > 500, "{opened} images");
}

#[test]
fn a_disk_that_only_says_that_it_synced_is_caught() {
    cut_everywhere(1, true).expect_err("commits are lost with it");
}
