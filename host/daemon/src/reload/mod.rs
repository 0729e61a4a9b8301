//! From changed files to a generation that can run.
//!
//! Owns watching (`watch`), what a file looked like (`facts`), and preparing (`prepare`): parse, check, compile, link,
//! describe. Promises that a [`Generation`] is whole and immutable: every plugin in it can be called or says why not, and
//! what could not be prepared has changed nothing. Knows no broker and no route: the daemon swaps.

mod facts;
mod fault;
mod prepare;
mod watch;

pub use fault::{Fault, Refused};
pub use prepare::{Generation, Installed, Preparer};
pub use watch::{Inputs, Watch};
