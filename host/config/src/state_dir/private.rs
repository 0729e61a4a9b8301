//! Directories and files that only the daemon's user can read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(super) const PRIVATE_DIR: u32 = 0o700;
pub(super) const PRIVATE_FILE: u32 = 0o600;

/// Makes a directory with mode 700, if it is missing. Directories above it are made as usual.
///
/// # Errors
/// The error of the system.
pub fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(PRIVATE_DIR).create(dir) {
        // The umask may have removed permissions.
        Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(PRIVATE_DIR)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a file with mode 600 for reading and writing, and makes it if it is missing.
///
/// # Errors
/// The error of the system.
pub fn file(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)
}

/// Makes a file with mode 600 for writing.
///
/// # Errors
/// The error of the system; [`ErrorKind::AlreadyExists`] when there is a file.
pub fn new_file(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().write(true).create_new(true), path)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(PRIVATE_FILE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != PRIVATE_FILE {
        // Some file systems have no modes. There the mode of the directory has to protect the file.
        let _not_ours = file.set_permissions(Permissions::from_mode(PRIVATE_FILE));
    }
    Ok(file)
}
