//! One transaction, planned under the lock on the state and without a disk access.

mod dead_letter;
mod delayed;
mod request;
mod transaction;

#[cfg(test)]
mod tests;

pub(crate) use delayed::may_give_up;
pub(crate) use request::{WriteError, WriteRequest, disk_bytes};
pub(crate) use transaction::{Moves, TransactionPlan};
