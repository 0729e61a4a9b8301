//! The files of a configuration, laid end to end, so that one number says a file and a place in it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The texts, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Files {
    list: Vec<File>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Where its first byte stands among all.
    pub(super) start: usize,
    pub(super) text: String,
}

impl Files {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self { list: vec![File { path: path.to_owned(), start: 0, text }] }
    }

    /// Adds one behind the others. One byte between them keeps an end from being the next one's start.
    pub(super) fn add(&mut self, path: &Path, text: String) {
        let start = self.list.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.list.push(File { path: path.to_owned(), start, text });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &File> {
        self.list.iter()
    }

    /// The number of the file that a byte is in.
    pub(super) fn number(&self, byte: usize) -> usize {
        self.list.partition_point(|file| file.start <= byte).saturating_sub(1)
    }

    /// Over names and texts.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.list {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((file.text.len() as u64).to_le_bytes());
            hash.update(&file.text);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl File {
    /// The text behind as much white space as there is before it, so that a parser gives places among all files.
    pub(super) fn padded(&self) -> String {
        let mut padded = " ".repeat(self.start);
        padded.push_str(&self.text);
        padded
    }
}
