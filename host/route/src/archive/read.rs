//! Reads an archive, file by file in the order of their times.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::archived_event::ArchivedEvent;
use super::file_name::ENDING;
use super::objects::Objects;
use trunkline_config::{self as config, ArchivePlace};
use trunkline_event::{RouteName, without_byte_order_mark};

/// Largest line. The events of an archive route are bounded by its `max-body`.
const LINE_MAX_BYTES: u64 = 256 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the archive {place} cannot be read: {reason}")]
pub struct ArchiveReadError {
    /// The file, folder or object.
    pub place: String,
    /// Error text of the system or the storage.
    pub reason: String,
}

enum FileList {
    Folder(VecDeque<PathBuf>),
    Objects { store: Box<Objects>, names: VecDeque<String> },
}

/// The files of an archive, oldest first.
pub struct ArchiveFiles(FileList);

/// One file of an archive.
#[derive(Debug)]
pub struct ArchiveFile {
    /// Path or key of the file.
    pub place: String,
    /// Events of the file, in order.
    pub events: Vec<ArchivedEvent>,
    /// Why the rest of the file cannot be read. A crash leaves a torn end, whose events were never acknowledged.
    pub torn: Option<String>,
}

/// Opens the archive of a route for reading.
///
/// # Errors
/// The archive does not exist or cannot be listed.
pub async fn open(route: &RouteName, settings: &config::Archive) -> Result<ArchiveFiles, ArchiveReadError> {
    match &settings.place {
        ArchivePlace::Folder(directory) => {
            let root = directory.join(route.as_str());
            let mut found = Vec::new();
            walk(&root, &mut found)
                .map_err(|error| ArchiveReadError { place: root.display().to_string(), reason: error.to_string() })?;
            found.sort();
            Ok(ArchiveFiles(FileList::Folder(found.into())))
        }
        ArchivePlace::Objects(objects) => {
            let place = format!("s3://{}/{}", objects.bucket, objects.prefix);
            let failed = |reason: String| ArchiveReadError { place: place.clone(), reason };
            let store = Objects::open(objects, route.as_str()).map_err(|error| failed(error.to_string()))?;
            let names = store.list().await.map_err(failed)?;
            Ok(ArchiveFiles(FileList::Objects { store: Box::new(store), names: names.into() }))
        }
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if path.to_string_lossy().ends_with(ENDING) {
            found.push(path);
        }
    }
    Ok(())
}

impl ArchiveFiles {
    /// The next file; none after the last file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn next(&mut self) -> Result<Option<ArchiveFile>, ArchiveReadError> {
        match &mut self.0 {
            FileList::Folder(paths) => {
                let Some(path) = paths.pop_front() else { return Ok(None) };
                let place = path.display().to_string();
                let failed =
                    |error: std::io::Error| ArchiveReadError { place: place.clone(), reason: error.to_string() };
                Ok(Some(parse(place.clone(), std::fs::File::open(&path).map_err(failed)?)))
            }
            FileList::Objects { store, names } => {
                let Some(place) = names.pop_front() else { return Ok(None) };
                match store.get(&place).await {
                    Ok(bytes) => Ok(Some(parse(place, bytes.as_slice()))),
                    Err(reason) => Err(ArchiveReadError { place, reason }),
                }
            }
        }
    }
}

fn parse(place: String, packed: impl Read) -> ArchiveFile {
    let mut lines = BufReader::new(MultiGzDecoder::new(packed));
    let mut events = Vec::new();
    loop {
        let mut line = Vec::new();
        let torn = match lines.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return ArchiveFile { place, events, torn: None },
            Ok(_) => serde_json::from_slice(without_byte_order_mark(&line))
                .map(|event| events.push(event))
                .err()
                .map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if torn.is_some() {
            return ArchiveFile { place, events, torn };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::archived_event::tests::event;
    use super::super::{KeepOutcome, RouteArchive};
    use super::*;

    fn settings(directory: &Path) -> config::Archive {
        config::Archive {
            place: ArchivePlace::Folder(directory.to_owned()),
            wait: Duration::ZERO,
            file_max_bytes: 2_000,
        }
    }

    async fn all(archive: &mut ArchiveFiles) -> (Vec<String>, usize, usize) {
        let (mut ids, mut files, mut torn) = (Vec::new(), 0, 0);
        while let Some(file) = archive.next().await.expect("readable") {
            files += 1;
            torn += usize::from(file.torn.is_some());
            ids.extend(file.events.into_iter().map(|event| event.id));
        }
        (ids, files, torn)
    }

    #[tokio::test]
    async fn archived_events_are_read_in_order_and_a_torn_end_is_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let (route, settings) = (RouteName::new("history").expect("a name"), settings(directory.path()));
        let archive = RouteArchive::start(&route, &settings, 100);
        let mut expected = Vec::new();
        for number in 0..60 {
            let id = format!("e-{number}");
            let kept = archive.keep(&event(&id, br#"{"n":1}"#), "2026-11-21T10:00:00Z").await;
            assert_eq!(kept, KeepOutcome::Stored);
            expected.push(id);
        }
        let (ids, files, torn) = all(&mut open(&route, &settings).await.expect("there")).await;
        assert_eq!(ids, expected);
        assert!(files > 2, "a file is ended when it is full: {files}");
        assert_eq!(torn, 0);

        let mut found = Vec::new();
        walk(directory.path(), &mut found).expect("readable");
        found.sort();
        let last = found.last().expect("a file");
        let bytes = std::fs::read(last).expect("readable");
        std::fs::write(last, &bytes[..bytes.len() - 20]).expect("writable");
        let (ids, _, torn) = all(&mut open(&route, &settings).await.expect("there")).await;
        assert_eq!(torn, 1);
        assert!(!ids.is_empty() && expected.starts_with(&ids), "only the end is missing: {ids:?}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_tried_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let blocked = directory.path().join("archive");
        std::fs::write(&blocked, "a file").expect("writable");
        let (route, settings) = (RouteName::new("history").expect("a name"), settings(&blocked));
        let archive = RouteArchive::start(&route, &settings, 100);
        let event = event("e-1", b"{}");
        let keeping = archive.keep(&event, "2026-11-21T10:00:00Z");
        tokio::pin!(keeping);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut keeping).await;
        assert!(early.is_err(), "nothing is answered that is not written");
        std::fs::remove_file(&blocked).expect("removable");
        assert_eq!(keeping.await, KeepOutcome::Stored);
        let (ids, ..) = all(&mut open(&route, &settings).await.expect("there")).await;
        assert_eq!(ids, ["e-1"]);
    }

    #[tokio::test]
    async fn a_route_that_ends_writes_its_batch_and_abandons_the_rest() {
        let directory = tempfile::tempdir().expect("a directory");
        let route = RouteName::new("history").expect("a name");
        // The writer would wait an hour for more events.
        let good = config::Archive { wait: Duration::from_secs(3600), ..settings(&directory.path().join("good")) };
        let blocked = directory.path().join("blocked");
        std::fs::write(&blocked, "a file").expect("writable");
        for (settings, kept) in [(good, KeepOutcome::Stored), (settings(&blocked), KeepOutcome::LetGo)] {
            let archive = RouteArchive::start(&route, &settings, 100);
            let event = event("e-1", b"{}");
            let keeping = archive.keep(&event, "2026-11-21T10:00:00Z");
            tokio::pin!(keeping);
            let early = tokio::time::timeout(Duration::from_millis(300), &mut keeping).await;
            assert!(early.is_err(), "it waits");
            archive.drain();
            let ended = tokio::time::timeout(Duration::from_secs(10), keeping).await;
            assert_eq!(ended, Ok(kept), "at once");
        }
    }
}
