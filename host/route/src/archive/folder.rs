//! An archive in a folder. Each batch is appended to a file as one gzip member and synced before it is answered.
//!
//! A file is `<folder>/<route>/<day>/<time>-<uuid>.jsonl.gz`. A new file begins every hour, when a file is full, when the
//! daemon starts and after any error. Therefore only the last member of a file can be torn, and a torn member was never
//! answered.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::file_name::file_name;
use super::outcome::ArchiveError;

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    file_max_bytes: u64,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    hour: String,
    bytes: u64,
}

impl Folder {
    pub(super) fn new(root: PathBuf, file_max_bytes: u64) -> Self {
        Self { root, file_max_bytes, open: None }
    }

    /// Appends a batch. The batch is on disk when this returns. `now` is RFC 3339 in UTC.
    pub(super) fn append(&mut self, batch: &[u8], now: &str) -> Result<(), ArchiveError> {
        let result = self.try_append(batch, now);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, batch: &[u8], now: &str) -> Result<(), ArchiveError> {
        let hour = now.get(..13).unwrap_or(now);
        let is_over = |open: &OpenFile| open.hour != hour || open.bytes >= self.file_max_bytes;
        if self.open.as_ref().is_none_or(is_over) {
            self.open = Some(begin(&self.root, now, hour)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let written = open.file.write_all(batch).and_then(|()| open.file.sync_data());
        written.map_err(|error| failed(&open.path, &error))?;
        open.bytes += batch.len() as u64;
        Ok(())
    }
}

fn begin(root: &Path, now: &str, hour: &str) -> Result<OpenFile, ArchiveError> {
    let (day, name) = file_name(now);
    let directory = root.join(day);
    std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    let path = directory.join(name);
    let made = OpenOptions::new().append(true).create_new(true).open(&path);
    let file = made.map_err(|error| failed(&path, &error))?;
    // The name of a file is on disk when its directory is synced.
    for directory in [Some(directory.as_path()), directory.parent(), root.parent()].into_iter().flatten() {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed(directory, &error))?;
    }
    Ok(OpenFile { file, path, hour: hour.to_owned(), bytes: 0 })
}

fn failed(path: &Path, error: &std::io::Error) -> ArchiveError {
    ArchiveError::Write { place: path.display().to_string(), reason: error.to_string() }
}
