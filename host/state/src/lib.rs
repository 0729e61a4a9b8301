//! The state that plugins keep between events: keys and values in a store of their own, apart by plugin and tenant.
//!
//! One writer thread makes all changes, and writes the changes that arrived meanwhile in one transaction. A change is
//! answered when it is applied. An applied change need not survive a crash of the daemon. [`KeySpace::flush`] returns when
//! every change that the caller wrote *or read* is on disk, so no result leaves a call that a crash could take back. One
//! sync serves all callers that wait. After a failed write the store is opened again from the disk, and calls that depend
//! on a lost change get an error. This crate knows nothing of WebAssembly.

#![deny(unsafe_code)]

mod change;
mod error;
mod key_space;
mod shared;
mod store;
mod table;
mod totals;
mod writer;

#[cfg(test)]
mod tests;

pub use change::{BATCH_MAX, ChangeResult, KEY_MAX_BYTES, KeyPage, StateChange, VALUE_MAX_BYTES};
pub use error::Error;
pub use key_space::KeySpace;
pub use store::{StateStore, is_kept_in};
