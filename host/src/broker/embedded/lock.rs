//! One daemon a directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::broker::Error;

/// Held as long as the broker is open; the system lets go of it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let unusable = |problem: String| Error::Unusable(format!("{}: {problem}", path.display()));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| unusable(error.to_string()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unread = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let who = if holder.is_empty() { "another daemon".to_owned() } else { format!("process {holder}") };
                return Err(unusable(format!("{who} uses this directory already")));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error.to_string())),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// By name: a child that is just being spawned has the file too until it runs its own program.
    fn drop(&mut self) {
        let _gone = self.file.unlock();
    }
}
