//! The log of a process, kept in a file. A written line can be read at once. A pipe would deliver it when its reader
//! runs, which may be after the process's next action was seen.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};

/// A file without a name, which ends with its last open descriptor.
pub struct Log {
    file: File,
    /// The lines that were read so far.
    text: Mutex<String>,
}

impl Log {
    /// An empty log.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    #[must_use]
    pub fn new() -> Self {
        Self { file: tempfile::tempfile().expect("a temporary file"), text: Mutex::default() }
    }

    /// The file for the process to write to.
    ///
    /// # Panics
    /// When no more files can be opened.
    #[must_use]
    pub fn writer(&self) -> Stdio {
        self.file.try_clone().expect("a file to open once more").into()
    }

    /// The whole lines so far.
    ///
    /// # Panics
    /// When the file cannot be read, or is not UTF-8.
    pub fn text(&self) -> MutexGuard<'_, String> {
        let mut text = self.text.lock().expect("no panic while reading");
        let (begin, end) = (text.len() as u64, self.file.metadata().expect("a file has a length").len());
        let mut bytes = vec![0; usize::try_from(end - begin).expect("it fits into memory")];
        self.file.read_exact_at(&mut bytes, begin).expect("what was written can be read");
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.push_str(std::str::from_utf8(&bytes[..whole]).expect("a log is text"));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Log;

    #[test]
    fn a_line_is_visible_when_it_is_whole() {
        let log = Log::new();
        for (script, text) in [("echo one >&2", "one\n"), ("printf tw >&2", "one\n"), ("echo o >&2", "one\ntwo\n")] {
            let ended = Command::new("sh").args(["-c", script]).stderr(log.writer()).status();
            assert!(ended.expect("a shell runs").success());
            assert_eq!(*log.text(), text);
        }
    }
}
