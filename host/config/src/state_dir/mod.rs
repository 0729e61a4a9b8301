//! The state directory: messages, state of plugins, dedupe records, keys.
//!
//! Only the daemon's user can read it, whatever the umask is and however it was made. One daemon at a time uses it. The
//! module knows the names of the files, but not their content.

mod directory;
mod error;
mod lock;
mod private;
#[cfg(test)]
mod tests;

pub use directory::{StateDir, prepare};
pub use error::StateDirError;
pub use lock::DirectoryLock;
pub use private::{file, make, new_file};
