//! Exit codes, of the sysexits family, and the messages that go with them.

use std::fmt::Display;

/// Success.
pub(super) const OK: u8 = 0;
/// The verb failed, or a check found a difference.
pub(super) const FAILED: u8 = 1;
/// The arguments are wrong.
pub(super) const USAGE: u8 = 64;
/// The data of a file is wrong.
pub(super) const DATA: u8 = 65;
/// A file cannot be read.
pub(super) const NO_INPUT: u8 = 66;
/// The daemon cannot be reached.
pub(super) const UNAVAILABLE: u8 = 69;
/// The configuration is invalid.
pub(super) const CONFIG: u8 = 78;

/// Every exit code with its meaning, for `trunkline --help`.
pub(super) const HELP: &str = "\
Exit codes:
  0   success
  1   the command failed, or a check found a difference
  64  the arguments are wrong
  65  a file contains invalid data
  66  a file cannot be read
  69  the daemon cannot be reached
  78  the configuration is invalid";

/// Prints an error and returns [`FAILED`].
pub(super) fn failed(error: &dyn Display) -> u8 {
    eprintln!("error: {error:#}");
    FAILED
}
