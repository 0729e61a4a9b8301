//! The directory where a daemon keeps what it must not lose: messages, state of plugins, dedupe records, keys.
//!
//! Promises: nobody but its user can read it, whatever the umask says and however it was made; one daemon at a time has
//! it. Knows the names of the files in it, and nothing of what is in them.

mod lock;

pub use lock::Lock;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// What group and others may.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
/// Of directories such as `/tmp`, where everybody may have files.
const STICKY: u32 = 0o1000;
/// Directories in it: every file in them is the daemon's.
const DIRECTORIES: [&str; 2] = ["broker", COMPILED];
/// Compiled code, which is as good as a program.
const COMPILED: &str = "compiled";
/// Files in it, and what the names of further ones have in them: stores, what is left of them after a repair, copies.
const FILES: [&str; 4] = ["lock", "header-key", "rollouts.json", ".gitignore"];
const STORE: &str = ".redb";

/// Why a daemon cannot have its directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not allow it.
    #[error("the state directory cannot be used: {}: {reason}; `--state DIR`, `state-dir` in the routes file or \
             $STATE_DIRECTORY names another one", path.display())]
    Unusable {
        /// What.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Another daemon has it.
    #[error("{}: {by} uses this directory already", path.display())]
    Taken {
        /// The lock.
        path: PathBuf,
        /// Who, as far as it is known.
        by: String,
    },
    /// Everybody has files in it.
    #[error("{} is for the files of all users, as its sticky bit says; give the daemon a directory of its own, \
             such as {}", path.display(), path.join("trunkline").display())]
    Everybodys {
        /// Which.
        path: PathBuf,
    },
}

impl Error {
    fn unusable(path: &Path, error: &io::Error) -> Self {
        Self::Unusable { path: path.to_owned(), reason: error.to_string() }
    }
}

/// The directory, for as long as this is held.
#[derive(Debug)]
pub struct StateDir {
    _lock: Lock,
}

impl StateDir {
    /// Makes it if it is missing, closes it to all other users, and takes it.
    ///
    /// # Errors
    /// [`Error`], with what to do.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        prepare(dir)?;
        Ok(Self { _lock: Lock::take(dir)? })
    }
}

/// Makes the directory if it is missing, and closes it and what the daemon has in it to all other users. Files of others
/// are left as they are. What cannot be changed is told in the log.
///
/// # Errors
/// [`Error::Unusable`], [`Error::Everybodys`].
pub fn prepare(dir: &Path) -> Result<(), Error> {
    make(dir).map_err(|error| Error::unusable(dir, &error))?;
    let facts = std::fs::metadata(dir).map_err(|error| Error::unusable(dir, &error))?;
    let mut entries = std::fs::read_dir(dir).map_err(|error| Error::unusable(dir, &error))?.flatten();
    let is_for_all = facts.permissions().mode() & STICKY != 0;
    // A file system of its own has the bit too, and nothing of anybody else in it.
    if is_for_all && entries.any(|entry| entry.file_name().to_str().is_none_or(|name| !is_ours(name))) {
        return Err(Error::Everybodys { path: dir.to_owned() });
    }
    let mut closed = Closed::default();
    // First of all: from here on nobody else can put anything in the place of a file that is looked at below.
    closed.close(dir, PRIVATE_DIR);
    closed.close_entries(dir);
    if closed.count > 0 {
        let (dir, files) = (dir.display(), closed.count);
        tracing::info!(%dir, files, "other users could read the state directory or files in it; now they cannot");
    }
    Ok(())
}

/// Whether an entry of the directory is the daemon's.
fn is_ours(name: &str) -> bool {
    is_our_file(name) || DIRECTORIES.contains(&name)
}

fn is_our_file(name: &str) -> bool {
    FILES.contains(&name) || name.contains(STORE)
}

/// Makes a directory that only this user can enter, if there is none. Directories above it are made as usual.
///
/// # Errors
/// Why it cannot be made.
pub fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(PRIVATE_DIR).create(dir) {
        // The umask may have taken something away.
        Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(PRIVATE_DIR)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading and writing that only this user can, and makes it if it is missing.
///
/// # Errors
/// Why it cannot be opened.
pub fn file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != PRIVATE_FILE {
        // Where the system has no modes, the directory's owner has to see to it.
        let _not_ours = file.set_permissions(Permissions::from_mode(PRIVATE_FILE));
    }
    Ok(file)
}

/// What was open to others.
#[derive(Debug, Default)]
struct Closed {
    count: usize,
}

impl Closed {
    /// Takes away what group and others may do with it.
    fn close(&mut self, path: &Path, most: u32) {
        let mode = || std::fs::metadata(path).map(|facts| facts.permissions().mode());
        match mode() {
            Ok(before) if before & OTHERS == 0 => {}
            Ok(before) => {
                let changed = std::fs::set_permissions(path, Permissions::from_mode(before & most));
                let after = mode().unwrap_or(before);
                if after & OTHERS == 0 {
                    self.count += 1;
                    return;
                }
                let why = changed.err().map_or_else(|| "the file system has no modes".to_owned(), |e| e.to_string());
                let mode = format!("{:o}", after & 0o777);
                tracing::warn!(path = %path.display(), mode, why, "other users of this machine may read messages, state \
                    and keys; give the daemon's user this directory with mode 700");
            }
            // It went away, or nobody can look at it.
            Err(_unseen) => {}
        }
    }

    /// What the daemon has in its directory. A link is somebody's arrangement: what it leads to is not touched.
    fn close_entries(&mut self, dir: &Path) {
        self.close_files(dir, is_our_file);
        for name in DIRECTORIES {
            let path = dir.join(name);
            let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
            // Others may have put code there. It must not look trustworthy.
            let is_suspicious = name == COMPILED && facts.permissions().mode() & OTHERS_WRITE != 0;
            if facts.is_dir() && !is_suspicious {
                self.close(&path, PRIVATE_DIR);
                self.close_files(&path, |_| true);
            }
        }
    }

    fn close_files(&mut self, dir: &Path, is_ours: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && entry.file_name().to_str().is_some_and(&is_ours) {
                self.close(&entry.path(), PRIVATE_FILE);
            }
        }
    }
}

#[cfg(test)]
mod tests;
