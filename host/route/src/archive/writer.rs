//! The only writer of an archive: gathers waiting events into a batch, writes the batch, and then answers all of them.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::objects::Objects;
use super::outcome::{ArchiveError, KeepOutcome};
use trunkline_config::{self as config, ArchivePlace};
use trunkline_event::RouteName;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};
use trunkline_telemetry::{self as telemetry, RepeatLimit};

/// Largest batch, before compression.
const BATCH_MAX_BYTES: usize = 8 << 20;
/// Longest wait for a write when the route ends. A batch that is abandoned during its write may be archived twice.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// A line, with the channel that answers its sender.
pub(super) struct ArchiveLine {
    pub(super) text: Vec<u8>,
    pub(super) done: oneshot::Sender<KeepOutcome>,
}

enum ArchiveStore {
    Folder(Folder),
    Objects(Objects),
}

pub(super) struct ArchiveWriter {
    route: RouteName,
    settings: config::Archive,
    batch_max: usize,
    receiver: mpsc::Receiver<ArchiveLine>,
    store: Option<ArchiveStore>,
    /// Cancelled when the route ends.
    draining: CancellationToken,
    /// Whether the last write failed.
    is_failing: bool,
    /// Limits the log lines about failures, because the writer tries again until a write succeeds.
    lines: RepeatLimit,
}

impl ArchiveWriter {
    pub(super) fn new(
        route: RouteName,
        settings: config::Archive,
        concurrency: u16,
        receiver: mpsc::Receiver<ArchiveLine>,
        draining: CancellationToken,
    ) -> Self {
        let batch_max = usize::from(concurrency);
        let lines = RepeatLimit::default();
        Self { route, settings, batch_max, receiver, store: None, draining, is_failing: false, lines }
    }

    /// Writes until all senders are gone.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            let batch = self.gather(first).await;
            let kept = self.keep(&batch).await;
            for line in batch {
                // A sender that is gone gets the event again from the broker.
                let _is_gone = line.done.send(kept);
            }
        }
    }

    /// Writes a batch until it is written, or until the route ends after a failure.
    async fn keep(&mut self, batch: &[ArchiveLine]) -> KeepOutcome {
        let began = Instant::now();
        let packed = pack(batch);
        let draining = self.draining.clone();
        let mut retry = RetryLoop::new(Loop::ArchiveWrite, self.route.as_str());
        loop {
            // A write that hangs is abandoned as well; after a failed write it is abandoned at once.
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
                return KeepOutcome::LetGo;
            };
            self.is_failing = written.is_err();
            let Err(error) = written else { break };
            let error = error.to_string();
            telemetry::archive_failed(&self.route, &error, &mut self.lines);
            tokio::select! {
                () = draining.cancelled() => return KeepOutcome::LetGo,
                tried = retry.pause(&error) => if tried.is_err() { return KeepOutcome::LetGo },
            }
        }
        self.lines.clear();
        telemetry::archived(&self.route, batch.len(), packed.len(), began.elapsed());
        KeepOutcome::Stored
    }

    /// Gathers the lines that wait and the lines that arrive within the time of the settings.
    async fn gather(&mut self, first: ArchiveLine) -> Vec<ArchiveLine> {
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

    async fn write(&mut self, packed: &Bytes) -> Result<(), ArchiveError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => open(&self.route, &self.settings)?,
        };
        let now = jiff::Timestamp::now().to_string();
        match store {
            ArchiveStore::Folder(mut folder) => {
                let packed = packed.clone();
                let work = move || {
                    let result = folder.append(&packed, &now);
                    (folder, result)
                };
                let joined = tokio::task::spawn_blocking(work).await;
                let (folder, result) = joined.map_err(|error| ArchiveError::Store(error.to_string()))?;
                self.store = Some(ArchiveStore::Folder(folder));
                result
            }
            ArchiveStore::Objects(objects) => {
                let result = objects.append(packed.clone(), &now).await;
                self.store = Some(ArchiveStore::Objects(objects));
                result
            }
        }
    }
}

fn open(route: &RouteName, settings: &config::Archive) -> Result<ArchiveStore, ArchiveError> {
    Ok(match &settings.place {
        ArchivePlace::Folder(directory) => {
            ArchiveStore::Folder(Folder::new(directory.join(route.as_str()), settings.file_max_bytes))
        }
        ArchivePlace::Objects(objects) => ArchiveStore::Objects(Objects::open(objects, route.as_str())?),
    })
}

fn pack(batch: &[ArchiveLine]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for line in batch {
        // The target is memory, where writing does not fail.
        let _never_fails = encoder.write_all(&line.text);
    }
    encoder.finish().unwrap_or_default().into()
}
