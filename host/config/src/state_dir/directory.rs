//! The state directory in use, and the permissions of its files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::StateDirError;
use super::lock::DirectoryLock;
use super::private::{PRIVATE_DIR, PRIVATE_FILE, make};

/// Permissions of group and others.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
/// The sticky bit of directories such as `/tmp`, where every user may have files.
const STICKY: u32 = 0o1000;
/// Directories whose files all belong to the daemon.
const DIRECTORIES: [&str; 2] = ["broker", COMPILED];
/// Compiled code, which runs like a program.
pub(super) const COMPILED: &str = "compiled";
/// Names of the daemon's files. Stores, copies of them and leftovers of a repair have the part `STORE` in their names.
const FILES: [&str; 4] = ["lock", "header-key", "rollouts.json", ".gitignore"];
const STORE: &str = ".redb";

/// The state directory in use. Dropping it releases the directory.
#[derive(Debug)]
pub struct StateDir {
    _lock: DirectoryLock,
}

impl StateDir {
    /// Makes the directory if it is missing, removes the permissions of other users, and locks it.
    ///
    /// # Errors
    /// The reason, and what to do.
    pub fn take(dir: &Path) -> Result<Self, StateDirError> {
        prepare(dir)?;
        Ok(Self { _lock: DirectoryLock::take(dir)? })
    }
}

/// Makes the directory if it is missing, and removes the permissions of other users from it and from the daemon's files.
/// Other files are left as they are. The log names files that cannot be changed.
///
/// # Errors
/// [`StateDirError::Unusable`], [`StateDirError::Shared`].
pub fn prepare(dir: &Path) -> Result<(), StateDirError> {
    make(dir).map_err(|error| StateDirError::unusable(dir, &error))?;
    let facts = std::fs::metadata(dir).map_err(|error| StateDirError::unusable(dir, &error))?;
    let mut entries = std::fs::read_dir(dir).map_err(|error| StateDirError::unusable(dir, &error))?.flatten();
    let is_for_all = facts.permissions().mode() & STICKY != 0;
    // A mounted file system may have the sticky bit, and contains no files of other users.
    if is_for_all && entries.any(|entry| entry.file_name().to_str().is_none_or(|name| !is_ours(name))) {
        return Err(StateDirError::Shared { path: dir.to_owned() });
    }
    let mut restricted = RestrictedFiles::default();
    // The directory comes first: then no other user can replace a file that is checked below.
    restricted.restrict(dir, PRIVATE_DIR);
    restricted.restrict_entries(dir);
    if restricted.count > 0 {
        let (dir, files) = (dir.display(), restricted.count);
        tracing::info!(%dir, files, "other users could read the state directory or its files; the daemon removed the \
            permissions of other users");
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

/// Number of files that other users could read.
#[derive(Debug, Default)]
struct RestrictedFiles {
    count: usize,
}

impl RestrictedFiles {
    /// Removes the permissions of group and others.
    fn restrict(&mut self, path: &Path, most: u32) {
        let mode = || std::fs::metadata(path).map(|facts| facts.permissions().mode());
        match mode() {
            Ok(before) if before & OTHERS == 0 => {}
            Ok(before) => {
                let changed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(before & most));
                let after = mode().unwrap_or(before);
                if after & OTHERS == 0 {
                    self.count += 1;
                    return;
                }
                let why = changed
                    .err()
                    .map_or_else(|| "the file system does not support permissions".to_owned(), |e| e.to_string());
                let mode = format!("{:o}", after & 0o777);
                tracing::warn!(path = %path.display(), mode, why, "other users of this machine may read messages, state \
                    and keys; make the daemon's user the owner of this directory, and set its mode to 700");
            }
            // The file was removed meanwhile, or cannot be read.
            Err(_unseen) => {}
        }
    }

    /// Restricts the daemon's files. The targets of links are not touched.
    fn restrict_entries(&mut self, dir: &Path) {
        self.restrict_files(dir, is_our_file);
        for name in DIRECTORIES {
            let path = dir.join(name);
            let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
            // Other users may have put code there. Private permissions would make that code look trustworthy.
            let is_suspicious = name == COMPILED && facts.permissions().mode() & OTHERS_WRITE != 0;
            if facts.is_dir() && !is_suspicious {
                self.restrict(&path, PRIVATE_DIR);
                self.restrict_files(&path, |_| true);
            }
        }
    }

    fn restrict_files(&mut self, dir: &Path, is_ours: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && entry.file_name().to_str().is_some_and(&is_ours) {
                self.restrict(&entry.path(), PRIVATE_FILE);
            }
        }
    }
}
