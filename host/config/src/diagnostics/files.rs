//! The files of a configuration, one after the other, so that one number names a file and a place in it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The texts, in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct SourceFiles {
    list: Vec<SourceFile>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    /// Position of its first byte among all files.
    pub(crate) start: usize,
    pub(crate) text: String,
}

impl SourceFiles {
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        let text = without_mark(text).to_owned();
        Self { list: vec![SourceFile { path: path.to_owned(), start: 0, text }] }
    }

    /// Adds a file. One byte between two files keeps the end of one apart from the start of the next.
    pub(crate) fn add(&mut self, path: &Path, text: &str) {
        let start = self.list.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.list.push(SourceFile { path: path.to_owned(), start, text: without_mark(text).to_owned() });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.list.iter()
    }

    /// The number of the file that a byte is in.
    pub(crate) fn number(&self, byte: usize) -> usize {
        self.list.partition_point(|file| file.start <= byte).saturating_sub(1)
    }

    /// SHA-256 of names and texts, in lower-case hexadecimal.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.list {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((file.text.len() as u64).to_le_bytes());
            hash.update(&file.text);
        }
        hex::encode(hash.finalize())
    }
}

/// The text without a byte order mark at the beginning. The parser removes the mark only in the first file, because the parser
/// reads all files as one text.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl SourceFile {
    /// The text behind white space of the length of the files before, so that a parser gives positions among all files.
    pub(crate) fn padded(&self) -> String {
        let mut padded = " ".repeat(self.start);
        padded.push_str(&self.text);
        padded
    }
}
