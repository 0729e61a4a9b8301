//! The relay of delayed publishing: keeps the delay queues declared, and publishes messages that are due.

mod delay_queues;
mod delayed_publishing;
mod due_message;
mod due_relay;
mod queue_answer;
mod silent_targets;
mod width;

pub(crate) use delayed_publishing::DelayedPublishing;
