//! Publishing: channels of exchanges, confirms, and the messages that are kept apart.

mod channel;
mod channel_address;
mod confirms;
mod direct_reply;
mod history;
mod publisher;
mod publishing;
mod unconfirmed;

pub use confirms::{CONFIRM_WITHIN, Confirm, ConfirmWindow, MessageIdentity, PendingPublish, PublishOutcome};
pub(crate) use publisher::{AmqpPublisher, PreparedBatch};
pub use publishing::Publishing;
