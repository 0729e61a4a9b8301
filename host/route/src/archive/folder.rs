//! An archive in a folder: a file is appended to, one gzip member a batch, each synced before it is answered.
//!
//! `<folder>/<route>/<day>/<time>-<uuid>.jsonl.gz`. A new file is begun for every hour, when one is full, when the daemon
//! starts and after any error, so that only the last member of a file can be torn; and a torn one was never answered.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Error;
use super::writer::file_name;

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    file_max_bytes: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    hour: String,
    bytes: u64,
}

impl Folder {
    pub(super) fn new(root: PathBuf, file_max_bytes: u64) -> Self {
        Self { root, file_max_bytes, open: None }
    }

    /// Appends a batch; it is on disk when this returns. `now` is RFC 3339 in UTC.
    pub(super) fn append(&mut self, batch: &[u8], now: &str) -> Result<(), Error> {
        let result = self.try_append(batch, now);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, batch: &[u8], now: &str) -> Result<(), Error> {
        let hour = now.get(..13).unwrap_or(now);
        let is_over = |open: &Open| open.hour != hour || open.bytes >= self.file_max_bytes;
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

fn begin(root: &Path, now: &str, hour: &str) -> Result<Open, Error> {
    let (day, name) = file_name(now);
    let directory = root.join(day);
    std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    let path = directory.join(name);
    let made = OpenOptions::new().append(true).create_new(true).open(&path);
    let file = made.map_err(|error| failed(&path, &error))?;
    // A name is on disk when its directory is.
    for directory in [Some(directory.as_path()), directory.parent(), root.parent()].into_iter().flatten() {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed(directory, &error))?;
    }
    Ok(Open { file, path, hour: hour.to_owned(), bytes: 0 })
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Write { place: path.display().to_string(), reason: error.to_string() }
}
