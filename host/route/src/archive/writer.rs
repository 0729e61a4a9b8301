//! The one writer of an archive: gathers what comes meanwhile into a batch, writes it, and then answers all of it.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::folder::Folder;
use super::objects::Objects;
use super::{Error, Kept};
use trunkline_config::{self as config, ArchivePlace};
use trunkline_event::RouteName;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, Retry};

pub(super) const ENDING: &str = ".jsonl.gz";
/// Of a batch, before it is compressed.
const BATCH_MAX_BYTES: usize = 8 << 20;
/// How long what is being written is waited for when the route ends. Let go of, it may be there twice.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// A line, and who waits for it.
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    pub(super) done: oneshot::Sender<Kept>,
}

enum Store {
    Folder(Folder),
    Objects(Objects),
}

pub(super) struct Writer {
    route: RouteName,
    settings: config::Archive,
    batch_max: usize,
    receiver: mpsc::Receiver<Line>,
    store: Option<Store>,
    /// Cancelled when the route ends.
    draining: CancellationToken,
    /// The last write failed.
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(
        route: RouteName,
        settings: config::Archive,
        concurrency: u16,
        receiver: mpsc::Receiver<Line>,
        draining: CancellationToken,
    ) -> Self {
        let batch_max = usize::from(concurrency);
        Self { route, settings, batch_max, receiver, store: None, draining, is_failing: false }
    }

    /// Until nobody sends any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            let batch = self.gather(first).await;
            let kept = self.keep(&batch).await;
            for line in batch {
                // Who is gone gets the event again.
                let _is_gone = line.done.send(kept);
            }
        }
    }

    /// Writes until it is written, or the route ends and it has failed.
    async fn keep(&mut self, batch: &[Line]) -> Kept {
        let began = Instant::now();
        let packed = pack(batch);
        let draining = self.draining.clone();
        let mut retry = Retry::new(Loop::ArchiveWrite, self.route.as_str());
        loop {
            // One that hangs is not waited for either, and not at all when the one before has failed.
            let patience = if self.is_failing { Duration::ZERO } else { LAST_WRITE_MAX };
            let over = async {
                draining.cancelled().await;
                wait::after(patience).await;
            };
            let written = tokio::select! {
                biased;
                () = over => None,
                written = self.write(&packed) => Some(written),
            };
            let Some(written) = written else {
                self.is_failing = true;
                return Kept::LetGo;
            };
            self.is_failing = written.is_err();
            let Err(error) = written else { break };
            let error = error.to_string();
            telemetry::archive_failed(&self.route, &error);
            tokio::select! {
                () = draining.cancelled() => return Kept::LetGo,
                tried = retry.pause(&error) => if tried.is_err() { return Kept::LetGo },
            }
        }
        telemetry::archived(&self.route, batch.len(), packed.len(), began.elapsed());
        Kept::Stored
    }

    /// What has come and what comes within the time that the settings give.
    async fn gather(&mut self, first: Line) -> Vec<Line> {
        let until = Instant::now() + self.settings.wait;
        let mut bytes = first.text.len();
        let mut batch = vec![first];
        while batch.len() < self.batch_max && bytes < BATCH_MAX_BYTES {
            let next = match self.receiver.try_recv() {
                Ok(next) => Some(next),
                Err(_) => tokio::select! {
                    () = self.draining.cancelled() => None,
                    next = tokio::time::timeout_at(until, self.receiver.recv()) => next.ok().flatten(),
                },
            };
            let Some(next) = next else { break };
            bytes += next.text.len();
            batch.push(next);
        }
        batch
    }

    async fn write(&mut self, packed: &Bytes) -> Result<(), Error> {
        let store = match self.store.take() {
            Some(store) => store,
            None => open(&self.route, &self.settings)?,
        };
        let now = jiff::Timestamp::now().to_string();
        match store {
            Store::Folder(mut folder) => {
                let packed = packed.clone();
                let work = move || {
                    let result = folder.append(&packed, &now);
                    (folder, result)
                };
                let joined = tokio::task::spawn_blocking(work).await;
                let (folder, result) = joined.map_err(|error| Error::Store(error.to_string()))?;
                self.store = Some(Store::Folder(folder));
                result
            }
            Store::Objects(objects) => {
                let result = objects.append(packed.clone(), &now).await;
                self.store = Some(Store::Objects(objects));
                result
            }
        }
    }
}

fn open(route: &RouteName, settings: &config::Archive) -> Result<Store, Error> {
    Ok(match &settings.place {
        ArchivePlace::Folder(directory) => {
            Store::Folder(Folder::new(directory.join(route.as_str()), settings.file_max_bytes))
        }
        ArchivePlace::Objects(objects) => Store::Objects(Objects::open(objects, route.as_str())?),
    })
}

fn pack(batch: &[Line]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for line in batch {
        // Into memory, where writing does not fail.
        let _never_fails = encoder.write_all(&line.text);
    }
    encoder.finish().unwrap_or_default().into()
}

/// Day and name of a file that begins at a time: names sort by it, and no two daemons take the same.
pub(super) fn file_name(now: &str) -> (&str, String) {
    let (day, time) = now.split_once('T').unwrap_or((now, ""));
    let time = time.get(..8).unwrap_or(time).replace(':', "");
    (day, format!("{time}-{}{ENDING}", Uuid::now_v7().simple()))
}
