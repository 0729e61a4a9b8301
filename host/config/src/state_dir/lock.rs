//! The lock of a state directory: one daemon at a time uses it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::error::StateDirError;
use super::private::file;

const NAME: &str = "lock";

/// The lock. Dropping it releases it, and so does the end of the process.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory, and writes the id of this process into it.
    ///
    /// # Errors
    /// [`StateDirError::Taken`] when another process has it.
    pub fn take(dir: &Path) -> Result<Self, StateDirError> {
        let path = dir.join(NAME);
        let unusable = |error: std::io::Error| StateDirError::unusable(&path, &error);
        let mut file = file(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::Taken { path, by: holder(file) }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unusable)?;
        Ok(Self { file })
    }

    /// The process that has the lock of a directory, without taking the lock.
    #[must_use]
    pub fn holder(dir: &Path) -> Option<String> {
        let file = File::open(dir.join(NAME)).ok()?;
        match file.try_lock_shared() {
            Ok(()) | Err(TryLockError::Error(_)) => None,
            Err(TryLockError::WouldBlock) => Some(holder(file)),
        }
    }
}

fn holder(mut file: File) -> String {
    let mut holder = String::new();
    let _unread = file.read_to_string(&mut holder);
    match holder.trim() {
        "" => "another daemon".to_owned(),
        process => format!("process {process}"),
    }
}

impl Drop for DirectoryLock {
    /// Unlocks explicitly: a child process that is being started has the file open until it runs its own program.
    fn drop(&mut self) {
        let _gone = self.file.unlock();
    }
}
