//! The parts that need no connection, for the simulator of routes. `tests/tidy.rs` lets no other module name this one.

pub use super::consume::{AckBatch, AckFrame, SingleFrames};
pub use super::publish::{CONFIRM_WITHIN, Confirm, ConfirmWindow, MessageIdentity, PendingPublish, PublishOutcome};
use crate::{Batch, Confirmed, Receipt};

/// Confirms a message of a batch in place of a broker.
pub fn confirm(batch: &mut Batch, index: usize, confirmed: Confirmed) {
    batch.confirm(index, confirmed);
}

/// The receipt of a batch that is confirmed completely.
///
/// # Errors
/// The batch itself, when a message of it is not confirmed.
pub fn receipt(batch: Batch) -> Result<Receipt, Batch> {
    batch.receipt()
}
