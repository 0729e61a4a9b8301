//! One daemon a directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::{Error, file};

const NAME: &str = "lock";

/// Held until it is dropped; the system lets go of it with the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of a directory that is there. It names this process to whoever comes next.
    ///
    /// # Errors
    /// [`Error::Taken`] when another process has it.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let unusable = |error: std::io::Error| Error::unusable(&path, &error);
        let mut file = file(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Taken { path, by: holder(file) }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unusable)?;
        Ok(Self { file })
    }

    /// Who has the lock of a directory, without taking it.
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

impl Drop for Lock {
    /// By name: a child that is just being spawned has the file too until it runs its own program.
    fn drop(&mut self) {
        let _gone = self.file.unlock();
    }
}
