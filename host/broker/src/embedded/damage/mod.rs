//! Stores that a disk may have damaged: checked before they are opened, read without a change, and repaired.

mod check;
mod inspect;
mod overlay;
mod repair;
mod salvage;

#[cfg(test)]
mod tests;

pub(crate) use check::{open, open_or_make};
pub use inspect::messages_in;
pub use repair::{RepairReport, repair};
