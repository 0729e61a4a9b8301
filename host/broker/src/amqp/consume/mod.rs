//! Consumers and their acknowledgements.

mod ack_batch;
mod acknowledgements;
mod begin;
mod stream_check;
mod subscription;

pub use ack_batch::{AckBatch, AckFrame, SingleFrames};
pub use acknowledgements::AmqpAckHandle;
pub(crate) use begin::SubscriptionOptions;
pub use subscription::AmqpSubscription;
