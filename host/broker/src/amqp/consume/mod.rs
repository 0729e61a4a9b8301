//! Consumers and their acknowledgements.

mod ack_batch;
mod acknowledgements;
mod stream_check;
mod subscription;

pub use ack_batch::{AckBatch, AckFrame};
pub use acknowledgements::AmqpAckHandle;
pub use subscription::AmqpSubscription;
pub(crate) use subscription::SubscriptionOptions;
