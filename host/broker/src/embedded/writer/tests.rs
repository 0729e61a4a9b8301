//! The writer on a real file: batching, failures of the disk, and the sessions that follow.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::commands::{BATCH_MAX, CommandBatch, PendingWrite, QueueSetChange, WriterCommand};
use super::contents::StoreContents;
use super::shared::BrokerShared;
use super::space::DiskSpace;
use super::thread::{WriterSetup, start};
use crate::embedded::damage;
use crate::embedded::plan::{WriteError, WriteRequest};
use crate::embedded::state::{QueueChange, QueueHead};
use crate::embedded::store::{FILE, FaultyDisk, LastRun, MessageStore, Operation, StoreClock};
use trunkline_config::Topology;
use trunkline_event::{ExchangeName, Message, Properties, QueueName, RoutingKey};

/// A failure is reported and the store opened again within this time.
const WITHIN: Duration = Duration::from_secs(30);

/// A writer on a store whose first session is on a disk that fails on command. Later sessions are on the file itself.
struct WriterFixture {
    dir: tempfile::TempDir,
    disk: FaultyDisk,
    shared: Arc<BrokerShared>,
    writer: Option<JoinHandle<()>>,
    setup: Option<WriterSetup>,
}

fn queue() -> QueueName {
    QueueName::new("q").expect("a name")
}

fn request(id: &str) -> WriteRequest {
    let message = Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new("q").expect("a key"),
        properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
        body: Bytes::from_static(b"body"),
    };
    WriteRequest { routed: vec![(Arc::new(message), BTreeSet::from([1]))], ..WriteRequest::default() }
}

impl WriterFixture {
    /// A writer that has not begun yet, with one queue that has the number 1.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        let (disk, store) = FaultyDisk::store(&file);
        store.begin().expect("begun");
        let contents = StoreContents::of(&store, &[queue()]).expect("read");
        let clock = StoreClock::resume(None);
        let state = contents.into_state(1, Topology::default(), LastRun::Clean, clock.now_ms());
        let (shared, commands) = BrokerShared::new(store, clock, state);
        let shared = Arc::new(shared);
        let setup = setup(&shared, commands, file, dir.path());
        Self { dir, disk, shared, writer: None, setup: Some(setup) }
    }

    fn started() -> Self {
        let mut fixture = Self::new();
        fixture.start();
        fixture
    }

    fn start(&mut self) {
        self.writer = Some(start(self.setup.take().expect("not started")).expect("started"));
    }

    /// Waits for a session.
    async fn session(&self, session: u64) {
        let mut status = self.shared.status.subscribe();
        let reached = status.wait_for(|status| status.connected && status.session == session);
        tokio::time::timeout(WITHIN, reached).await.expect("in time").expect("the writer runs");
    }

    /// Ends the writer, and returns the ids in the queue on disk.
    async fn close(mut self) -> Vec<String> {
        let (reply, closed) = oneshot::channel();
        self.shared.send(WriterCommand::Close(reply));
        tokio::time::timeout(WITHIN, closed).await.expect("in time").expect("closed");
        self.writer.take().expect("started").join().expect("no panic");
        let store = damage::open(&self.dir.path().join(FILE)).expect("an undamaged store");
        assert_eq!(store.begin().expect("begun").0, LastRun::Clean);
        ids(&store)
    }
}

fn setup(shared: &Arc<BrokerShared>, commands: Receiver<WriterCommand>, file: PathBuf, dir: &Path) -> WriterSetup {
    WriterSetup { shared: shared.clone(), commands, file, space: DiskSpace::new(dir), anchor: None }
}

fn ids(store: &MessageStore) -> Vec<String> {
    let page = store.read(1, 0, usize::MAX, usize::MAX).expect("read");
    let ids = page.entries.into_iter().map(|(_, record)| record.message.properties.message_id.clone());
    ids.map(|id| id.expect("an id")).collect()
}

#[tokio::test]
async fn requests_that_wait_share_one_transaction_in_their_order() {
    let mut fixture = WriterFixture::new();
    let shared = fixture.shared.clone();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..200 {
        let shared = shared.clone();
        writes.spawn(async move { shared.write(request(&format!("{number:03}"))).await });
    }
    // Every task of this runtime has sent its request when it is this task's turn again.
    tokio::task::yield_now().await;
    let before = fixture.disk.syncs();
    fixture.start();
    while let Some(written) = writes.join_next().await {
        written.expect("no panic").expect("written");
    }
    let syncs = fixture.disk.syncs() - before;
    assert!(syncs < 10, "{syncs} syncs for 200 requests");
    let expected: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    assert_eq!(fixture.close().await, expected);
}

#[tokio::test]
async fn a_batch_of_commands_is_bounded() {
    let mut fixture = WriterFixture::new();
    let setup = fixture.setup.take().expect("not started");
    for _ in 0..BATCH_MAX + 3 {
        let (reply, _answer) = oneshot::channel();
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        let permit = permits.acquire_owned().await.expect("a permit");
        fixture.shared.send(WriterCommand::Write(PendingWrite { request: request("m"), reply, permit }));
    }
    let sizes: Vec<usize> =
        (0..3).map(|_| CommandBatch::collect(&setup.commands, Duration::ZERO).writes.len()).collect();
    assert_eq!(sizes, [BATCH_MAX, 3, 0]);
}

#[tokio::test]
async fn after_a_write_on_a_full_disk_nothing_of_it_is_stored_and_the_next_session_takes_messages() {
    let fixture = WriterFixture::started();
    fixture.shared.write(request("before")).await.expect("written");
    fixture.disk.fail(Operation::Write, ErrorKind::StorageFull);
    let refused = fixture.shared.write(request("refused")).await;
    assert!(matches!(refused, Err(WriteError::NoRoom(_))), "{refused:?}");
    fixture.session(2).await;
    let begun = Instant::now();
    // Messages are refused until the pause after the failure is over.
    while let Err(error) = fixture.shared.write(request("after")).await {
        assert!(matches!(error, WriteError::NoRoom(_)) && begun.elapsed() < WITHIN, "{error:?}");
        trunkline_telemetry::wait::after(Duration::from_millis(20)).await;
    }
    assert_eq!(fixture.close().await, ["before", "after"]);
}

#[tokio::test]
async fn after_a_failed_write_no_request_is_confirmed_and_an_acknowledgement_stays() {
    let fixture = WriterFixture::started();
    for id in ["acknowledged", "held"] {
        fixture.shared.write(request(id)).await.expect("written");
    }
    {
        let mut state = fixture.shared.lock();
        let queue = state.queues.get_mut(&1).expect("a queue");
        for consumer in [1, 2] {
            let entry = queue.pop().expect("a message");
            queue.hold(entry, consumer, 0);
        }
        fixture.disk.fail(Operation::Write, ErrorKind::Other);
        assert!(queue.release(0, 1, 0), "the first message is acknowledged");
        state.pending.push(QueueChange::Remove { queue: 1, position: 0 });
    }
    let lost = fixture.shared.write(request("lost")).await;
    assert!(matches!(lost, Err(WriteError::Lost(_))), "{lost:?}");
    fixture.session(2).await;
    {
        let mut state = fixture.shared.lock();
        assert!(state.queue_of(1, 1).is_none(), "the session of the deliveries is over");
        assert_eq!(state.end_of(1), Some("the store was opened again".to_owned()));
        let queue = state.queue_of(2, 1).expect("a queue");
        assert_eq!((queue.ready(), queue.unacknowledged()), (1, 0), "the held message comes again");
    }
    fixture.shared.write(request("after")).await.expect("the next session takes messages");
    assert_eq!(fixture.close().await, ["held", "after"]);
}

#[tokio::test]
async fn a_clean_end_returns_held_messages_and_writes_pending_changes() {
    let fixture = WriterFixture::started();
    for id in ["held", "acknowledged"] {
        fixture.shared.write(request(id)).await.expect("written");
    }
    {
        let mut state = fixture.shared.lock();
        let queue = state.queues.get_mut(&1).expect("a queue");
        let entry = queue.pop().expect("a message");
        queue.hold(entry, 1, 0);
        let entry = queue.pop().expect("a message");
        assert_eq!(entry.position, 1);
        state.pending.push(QueueChange::Remove { queue: 1, position: 1 });
    }
    let file = fixture.dir.path().join(FILE);
    let shared = fixture.shared.clone();
    let (reply, closed) = oneshot::channel();
    shared.send(WriterCommand::Close(reply));
    tokio::time::timeout(WITHIN, closed).await.expect("in time").expect("closed");
    let store = MessageStore::open(&file).expect("a store");
    let page = store.read(1, 0, usize::MAX, usize::MAX).expect("read");
    let counts: Vec<(u64, u32)> = page.entries.iter().map(|(position, record)| (*position, record.count)).collect();
    assert_eq!(counts, [(0, 1)], "the delivery of the held message is counted");
    let late = shared.write(request("late")).await;
    assert!(matches!(late, Err(WriteError::Lost(_))), "{late:?}");
}

#[tokio::test]
async fn a_new_queue_is_in_the_store_before_it_is_routed_to() {
    let fixture = WriterFixture::started();
    let name = QueueName::new("new").expect("a name");
    fixture.shared.change_queues(QueueSetChange::Add(vec![name.clone(), queue()])).await.expect("made");
    let number = fixture.shared.lock().number(&name).expect("the queue exists");
    assert_eq!(fixture.shared.lock().queues[&number].head(), QueueHead::Empty);
    assert!(fixture.shared.store().as_ref().expect("open").queues(&[]).expect("read").contains_key("new"));
    assert_eq!(fixture.shared.lock().queues.len(), 2, "the other queue existed");
    fixture.disk.fail(Operation::Write, ErrorKind::Other);
    let refused =
        fixture.shared.change_queues(QueueSetChange::Add(vec![QueueName::new("other").expect("a name")])).await;
    assert!(refused.is_err());
    fixture.session(2).await;
    assert_eq!(fixture.shared.lock().queues.len(), 2, "the refused queue does not exist");
    assert_eq!(fixture.shared.lock().number(&name), Some(number), "numbers stay over sessions");
    fixture.close().await;
}
